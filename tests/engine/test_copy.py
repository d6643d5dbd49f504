"""Hot copies: one instant, whole, whoever writes meanwhile, and an end at once where it is no longer wanted."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import lmdb
import pytest
from engine_helpers import Note, lmdb_error, run_script

import varve
from varve.engine import copy as engine_copy
from varve.engine.core import Engine
from varve.engine.instant import contents


@pytest.fixture
def db(tmp_path: Path) -> varve.Varve:
    """A store with some pages."""
    opened = varve.open(tmp_path / "store", durability="relaxed")
    opened.stream("notes", Note).append_batch(1, [Note(n, "text" * 20) for n in range(20_000)])
    return opened


def copied(engine: Engine, folder: Path) -> None:
    folder.mkdir()
    with (folder / "data.mdb").open("wb") as file:
        engine.copy_out(file.write)


def copiers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "varve-copy"]


def test_a_copy_holds_the_same_pairs(db: varve.Varve, tmp_path: Path) -> None:
    copied(db._engine, tmp_path / "copy")
    db.close()
    assert contents(str(tmp_path / "copy")) == contents(str(tmp_path / "store"))
    with varve.open(tmp_path / "copy") as copy:
        copy.stream("notes", Note).append(1, Note(1, "more"))
        assert copy.next_global_sequence == 20_001
    assert copiers() == []


def test_a_copy_is_of_one_instant(db: varve.Varve, tmp_path: Path) -> None:
    """What is committed once the first bytes are there is not in it."""
    notes = db.stream("notes", Note)
    pieces: list[bytes] = []

    def slow(piece: bytes) -> None:
        if not pieces:
            notes.append_batch(2, [Note(n, "later") for n in range(1_000)])
        pieces.append(piece)

    db._engine.copy_out(slow)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "data.mdb").write_bytes(b"".join(pieces))
    with varve.open(tmp_path / "copy", readonly=True) as copy:
        assert copy.next_global_sequence == 20_000
    assert db.next_global_sequence == 21_000
    db.close()


def test_one_who_stops_is_not_waited_for(db: varve.Varve) -> None:
    """An error while the bytes are stored, or Ctrl-C, ends the copy; nothing of it is left."""
    for error in (OSError, KeyboardInterrupt):

        def fails(piece: bytes, error: type[BaseException] = error) -> None:
            raise error

        with pytest.raises(error):
            db._engine.copy_out(fails)
        assert copiers() == []
        assert not db._engine.environment.active
    db.close()


def test_the_store_may_be_closed_meanwhile(db: varve.Varve, tmp_path: Path) -> None:
    """The copy keeps the map until it is done."""
    pieces: list[bytes] = []

    def closing(piece: bytes) -> None:
        if not pieces:
            db.close()
        pieces.append(piece)

    db._engine.copy_out(closing)
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "data.mdb").write_bytes(b"".join(pieces))
    with varve.open(tmp_path / "copy", readonly=True) as copy:
        assert copy.next_global_sequence == 20_000
    with pytest.raises(varve.StoreClosed):
        db._engine.copy_out(pieces.append)
    with varve.open(tmp_path / "store") as again:
        assert again.next_global_sequence == 20_000


class Failing:
    """An environment whose copy fails."""

    def __init__(self, error: lmdb.Error) -> None:
        self._error = error

    def copyfd(self, fd: int, *, compact: bool) -> None:
        assert compact
        raise self._error


@pytest.mark.parametrize(
    ("error", "expected"),
    [(lmdb.CorruptedError("mismatched root"), varve.CorruptedStore), (lmdb_error(lmdb.Error, 5), varve.StoreFailed)],
)
def test_what_lmdb_says_is_told(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch, error: lmdb.Error, expected: type[varve.VarveError]
) -> None:
    """Pages that contradict each other, or that the disk does not give."""
    environment = db._engine.environment
    real = environment.env
    monkeypatch.setattr(environment, "begin", real.begin)
    monkeypatch.setattr(environment, "env", Failing(error))
    with pytest.raises(expected):
        db._engine.copy_out(lambda piece: None)
    assert not environment.active
    monkeypatch.undo()
    db.close()


def test_a_thread_that_cannot_be_started_is_an_error(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end of the interpreter, or at a limit: nothing is left behind."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(engine_copy.threading.Thread, "start", refuse)
    with pytest.raises(RuntimeError):
        db._engine.copy_out(lambda piece: None)
    monkeypatch.undo()
    assert not db._engine.environment.active
    db.close()


class Slow:
    """An environment whose copy takes until it is let go."""

    def __init__(self) -> None:
        self.let_go = threading.Event()

    def copyfd(self, fd: int, *, compact: bool) -> None:
        assert compact
        os.write(fd, b"first bytes")
        self.let_go.wait(30)  # a test that fails must not hang


def test_a_second_interrupt_leaves_the_map_to_the_copy(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C, and once more while the copy is waited for: it may still be at work, so closing must not unmap under it."""
    environment = db._engine.environment
    slow = Slow()
    monkeypatch.setattr(environment, "begin", environment.env.begin)
    monkeypatch.setattr(environment, "env", slow)
    waited_for: list[threading.Thread] = []

    def interrupted(thread: threading.Thread) -> None:
        waited_for.append(thread)
        raise KeyboardInterrupt

    def write(piece: bytes) -> None:
        monkeypatch.setattr(threading.Thread, "join", interrupted)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        db._engine.copy_out(write)
    monkeypatch.undo()
    assert environment.active
    slow.let_go.set()
    waited_for[0].join()
    assert not environment.active
    db.close()


MAKES_A_CONSUMER = """
import sys, varve
with varve.open(sys.argv[1]) as db:
    db.consumer("billing").close()
"""


# -- side tables ---------------------------------------------------------------------------------------------------


def test_an_instant_has_every_side_table_that_was_made_by_then(
    db: varve.Varve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody makes the table between the look for it and the instant: the instant is taken again."""
    engine = db._engine
    real = engine._open_side
    looked: list[str] = []

    def late(table: str) -> None:
        looked.append(table)
        if table == "consumers" and looked.count(table) == 1:
            run_script(MAKES_A_CONSUMER, tmp_path / "store")
        else:
            real(table)

    with engine.complete_snapshot() as snapshot:
        assert snapshot.side_items("consumers") == []
    monkeypatch.setattr(engine, "_open_side", late)
    with engine.complete_snapshot() as snapshot:
        assert b"\x01billing" in dict(snapshot.side_items("consumers"))
    assert looked.count("consumers") == 2
    db.close()
