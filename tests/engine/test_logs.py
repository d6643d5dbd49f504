"""What the logger ``varve`` is told: levels, no content of events, and never in the way of a commit."""

from __future__ import annotations

import asyncio
import errno
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from engine_helpers import Note, faulty, lmdb_error

import varve
from varve import limits


@pytest.fixture(autouse=True)
def _all_levels(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    with caplog.at_level(logging.DEBUG, logger="varve"):
        yield


def said(caplog: pytest.LogCaptureFixture, part: str) -> list[logging.LogRecord]:
    """The records whose message has this in it."""
    return [record for record in caplog.records if part in record.getMessage()]


def test_a_store_is_created_opened_and_closed(varve_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At debug, with its path, and by whichever way it is closed."""
    varve.open(varve_path, durability="relaxed").close()
    assert [record.getMessage().removeprefix(f"{varve_path}: ") for record in caplog.records] == [
        "created",
        "opened (durability relaxed)",
        "closed",
    ]
    assert {(record.name, record.levelno) for record in caplog.records} == {("varve", logging.DEBUG)}
    caplog.clear()
    with varve.open(varve_path, readonly=True):
        pass
    assert [record.getMessage().removeprefix(f"{varve_path}: ") for record in caplog.records] == [
        "opened (readonly)",
        "closed, as far as views let it",
    ]


def test_nothing_of_an_event_is_logged(varve_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Not its fields, not its metadata, not its key."""
    with varve.open(varve_path) as db:
        notes = db.stream("notes", Note)
        notes.append(1, Note(1, "SECRET"), metadata={"who": "SECRET"}, idempotency_key="SECRET")
        with pytest.raises(varve.IdempotencyConflict):
            notes.append(1, Note(2, "SECRET"), idempotency_key="SECRET")
        asyncio.run(notes.append_async("SECRET", Note(1, "SECRET")))
        db.sync()
    assert caplog.records
    assert "SECRET" not in caplog.text


def test_forcing_to_disk_is_said(varve_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """With how long it took."""
    with varve.open(varve_path, durability="bulk") as db:
        db.sync()
    assert [record.levelno for record in said(caplog, "forced to disk in ")] == [logging.DEBUG]


def test_the_helper_thread_says_when_it_begins_and_ends(varve_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At debug, on its own thread."""
    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        asyncio.run(notes.append_async(1, Note(1, "a")))
        thread = db._engine._group._thread
    assert thread is not None
    thread.join()
    begun, ended = said(caplog, "the thread that commits")
    assert "begun" in begun.getMessage()
    assert "ended" in ended.getMessage()
    assert {begun.threadName, ended.threadName} == {thread.name}


def test_a_slow_commit_is_a_warning_once_in_a_while(
    varve_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first is told at once; those that follow are counted and told together when it is time."""
    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        notes.append(1, Note(0, ""))
        assert not said(caplog, "slow or busy")
        monkeypatch.setattr(limits, "SLOW_COMMIT_S", 0.0)
        for number in range(4):
            notes.append_batch(1, [Note(number, "")] * 3)
        [record] = said(caplog, "slow or busy")
        assert record.levelno == logging.WARNING
        assert "3 events (1 commits)" in record.getMessage()
        assert "1 took longer" in record.getMessage()
        monkeypatch.setattr(limits, "SLOW_COMMIT_LOG_INTERVAL_S", 0.0)
        db.write(lambda tx: tx.append(notes, 1, Note(9, "")))
        assert "4 took longer" in said(caplog, "slow or busy")[1].getMessage()
        asyncio.run(notes.append_async(1, Note(9, "")))
        assert len(said(caplog, "slow or busy")) == 3


@pytest.mark.parametrize(
    ("place", "error", "told"),
    [
        ("on_commit", lmdb_error(lmdb.Error, errno.EIO), "the disk failed during a commit"),
        ("on_begin", lmdb_error(lmdb.PanicError, -30795), "the last step of a commit failed"),
    ],
)
def test_a_handle_that_refuses_everything_from_now_on_says_why(
    varve_path: Path, caplog: pytest.LogCaptureFixture, place: str, error: lmdb.Error, told: str
) -> None:
    """At error, as it is raised."""
    with varve.open(varve_path) as db:
        notes = db.stream("notes", Note)
        notes.append(1, Note(1, "a"))
        setattr(faulty(db), place, raising(error))
        with pytest.raises(varve.VarveError):
            notes.append(1, Note(2, "b"))
    [record] = said(caplog, told)
    assert record.levelno == logging.ERROR


def raising(error: BaseException) -> Callable[[], None]:
    """A fault that strikes once."""
    left = [error]

    def fault() -> None:
        if left:
            raise left.pop()

    return fault


def test_readers_that_died_are_an_information(varve_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever looks for them frees their slots and says so; where there are none, nothing is said."""
    with varve.open(varve_path) as db:
        db.stream("notes", Note).append(1, Note(1, "a"))
        script = "import os, sys, varve; db = varve.open(sys.argv[1], readonly=True); s = db.snapshot(); os._exit(0)"
        subprocess.run([sys.executable, "-c", script, str(varve_path)], check=True)
        assert not said(caplog, "that died")
        db._engine.environment.reap()
        db._engine.environment.reap()
        [record] = said(caplog, "freed 1 reader slots of processes that died")
    assert record.levelno == logging.INFO


class Broken(logging.Handler):
    """A handler that does not catch its own errors."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RuntimeError("the log is full")


def test_a_handler_that_fails_hurts_no_commit(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Logging is a courtesy."""
    logger, broken = logging.getLogger("varve"), Broken()
    logger.addHandler(broken)
    try:
        monkeypatch.setattr(limits, "SLOW_COMMIT_S", 0.0)
        with varve.open(varve_path, durability="relaxed") as db:
            notes = db.stream("notes", Note)
            notes.append(1, Note(1, "a"))
            asyncio.run(notes.append_async(1, Note(2, "b")))
            db.sync()
            assert notes.reader().length(1) == 2
    finally:
        logger.removeHandler(broken)


def test_who_configures_nothing_sees_nothing(varve_path: Path) -> None:
    """A library does not write to stderr by itself; ``import varve`` does not load logging."""
    script = (
        "import sys, varve\nassert 'logging' not in sys.modules\nfrom varve import limits\nlimits.SLOW_COMMIT_S = 0.0\n"
        "@varve.event\nclass Note:\n    number: varve.u64\n"
        "with varve.open(sys.argv[1]) as db: db.stream('notes', Note).append(1, Note(1))\n"
        "import logging\nprint(logging.getLogger('varve').handlers)"
    )
    finished = subprocess.run(
        [sys.executable, "-c", script, str(varve_path)], capture_output=True, text=True, check=True
    )
    assert finished.stderr == ""
    assert finished.stdout == "[<NullHandler (NOTSET)>]\n"


def test_the_helper_thread_that_fails_says_so(
    varve_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which nothing known makes it do; the next commit starts another."""
    with varve.open(varve_path, durability="relaxed") as db:
        group: Any = db._engine._group

        def fails() -> None:
            raise MemoryError

        monkeypatch.setattr(group, "_serve_tickets", fails)
        with pytest.raises(MemoryError):
            group._serve()
        [record] = said(caplog, "has failed")
        assert record.levelno == logging.ERROR
        monkeypatch.undo()
        asyncio.run(db.stream("notes", Note).append_async(1, Note(1, "a")))
