"""Reads that LMDB refuses, and a store whose parts disagree: told by kind, at whatever step it happens; nothing is made up."""

from __future__ import annotations

import errno
import gc
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lmdb
import pytest
from engine_helpers import FaultyEnvironment, Note, lmdb_error

import varve
from varve.engine import environment as environment_module
from varve.testing import assert_sound


class Steps:
    """Fails one step of many, by its number."""

    def __init__(self, error: lmdb.Error, at: int) -> None:
        self.error = error
        self.left = at

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


@pytest.fixture
def path(varve_path: Path) -> Path:
    """Three streams of two names, a key, a consumer's position."""
    with varve.open(varve_path, durability="relaxed") as db:
        notes, other = db.stream("notes", Note), db.stream("other", Note)
        notes.append_batch(1, [Note(n, "x" * 100) for n in range(200)], idempotency_key="k")
        other.append(1, Note(1, "y"))
        notes.append(2, Note(2, "z"))
        db.consumer("reader", start=5).close()
    return varve_path


def snapshot_reads(db: varve.Varve) -> None:
    with db.snapshot() as snapshot:
        reader = snapshot.reader(db.stream("notes", Note))
        assert reader.get(1, 3) is not None
        assert reader.get(1, 150) is not None
        assert reader.length(2) == 1


READS: dict[str, Callable[[varve.Varve], Any]] = {
    "one event": lambda db: db.stream("notes", Note).reader().get(1, 3),
    "bytes": lambda db: db.stream("notes", Note).reader().get_bytes(1, 3),
    "length": lambda db: db.stream("notes", Note).reader().length(1),
    "a stream": lambda db: list(db.stream("notes", Note).reader().iter_stream(1)),
    "backwards": lambda db: list(db.stream("notes", Note).reader().iter_stream(1, reverse=True)),
    "a name": lambda db: list(db.stream("notes", Note).reader().iter_all()),
    "ids": lambda db: list(db.stream("notes", Note).reader().stream_ids()),
    "by global sequence": lambda db: db.global_reader().get(100),
    "everything": lambda db: list(db.global_reader().iter_from()),
    "by streams": lambda db: list(db.global_reader().iter_from(streams=["other"])),
    "raw": lambda db: list(db.global_reader().iter_bytes(0)),
    "next sequence": lambda db: db.next_global_sequence,
    "by time": lambda db: db.sequence_at(datetime.now(UTC)),
    "a snapshot": snapshot_reads,
    "an append": lambda db: db.stream("notes", Note).append(1, Note(9, "new"), expected=varve.STREAM_EXISTS),
    "a stream's first append": lambda db: db.stream("notes", Note).append("new", Note(9, "new")),
    "a batch": lambda db: db.stream("notes", Note).append_many([(1, Note(9, "a")), (2, Note(9, "b"))]),
    "a retry": lambda db: db.stream("notes", Note).append_batch(
        1, [Note(n, "x" * 100) for n in range(200)], idempotency_key="k"
    ),
    "consumers": lambda db: list(db.consumers()),
    "taking a consumer": lambda db: db.consumer("reader").close(),
    "opening": lambda db: None,
}


@pytest.mark.parametrize(("kind", "wanted"), [
    (lmdb_error(lmdb.CorruptedError, -30796), varve.CorruptedStore),
    (lmdb_error(lmdb.Error, errno.EIO), varve.StoreFailed),
], ids=["corrupted", "EIO"])  # fmt: skip
@pytest.mark.parametrize("what", READS)
def test_a_read_that_fails_at_any_step_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str, kind: lmdb.Error, wanted: type[varve.VarveError]
) -> None:
    """Opening a store, and a retry by its key, once let errors of LMDB through as they were.

    Every single step of the call fails once. The error is ours, of the right kind; the next try on the same handle goes
    through, and what it gives is what it gives where nothing fails."""
    proxies: list[FaultyEnvironment] = []
    real_open = lmdb.open

    def opened(*args: Any, **kwargs: Any) -> Any:
        proxies.append(FaultyEnvironment(real_open(*args, **kwargs)))
        proxies[-1].on_read = on_read if what == "opening" else None
        return proxies[-1]

    monkeypatch.setattr(environment_module.lmdb, "open", opened)
    operation, at, refused = READS[what], 0, 0
    while True:
        at += 1
        on_read = Steps(kind, at)
        try:
            db = varve.open(path, durability="relaxed")
        except varve.VarveError as exc:
            assert what == "opening"
            assert isinstance(exc, wanted | varve.StoreUnavailable), repr(exc)
            refused += 1
            continue
        with db:
            proxies[-1].on_read = on_read
            try:
                operation(db)
            except varve.VarveError as exc:
                assert isinstance(exc, wanted), repr(exc)
                refused += 1
            proxies[-1].on_read = None
            if kind.code != errno.EIO or on_read.left > 0:
                operation(db)
            else:  # a disk that fails inside a commit ends the handle
                with suppress(varve.StoreFailed):
                    operation(db)
        if on_read.left > 0:
            break
    assert refused > 0
    monkeypatch.undo()
    gc.collect()
    assert_sound(path)
