"""Moving the horizon where something fails, and what is read beyond it: nothing is lost, nothing is made up."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import lmdb
import pytest
from engine_helpers import Note, faulty, lmdb_error, raw_lmdb

import varve
from varve import limits
from varve.layout import keys
from varve.layout.block import Block
from varve.layout.frame import MalformedBlock

EVENTS = 400


@pytest.fixture
def db(varve_store: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> varve.Varve:
    """Two streams that take turns, in small blocks: several index entries of each; a consumer at the end."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 1_000)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 600)
    monkeypatch.setattr("varve.archive.examine", lambda path: None)
    notes = varve_store.stream("notes", Note)
    notes.append_many([(n % 2, Note(n, "x" * 20)) for n in range(EVENTS)])
    varve_store.consumer("reader", start=EVENTS).close()
    return varve_store


def numbers(db: varve.Varve) -> list[int]:
    return [one.event.number for one in db.global_reader().iter_from(db.first_global_sequence)]


def failing(error: Exception) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


@pytest.mark.parametrize(("place", "error", "raised"), [
    ("on_put", lmdb_error(lmdb.MapFullError, -30792), varve.StoreFull),
    ("on_put", lmdb_error(lmdb.DiskError, errno.ENOSPC), varve.DiskFull),
    ("on_commit", lmdb_error(lmdb.DiskError, errno.ENOSPC), varve.DiskFull),
], ids=["map full", "no space", "no space at the end"])  # fmt: skip
def test_a_horizon_that_cannot_be_written_stays_where_it_was(
    db: varve.Varve, tmp_path: Path, place: str, error: Exception, raised: type[varve.VarveError]
) -> None:
    """The same call goes on when there is room again."""
    proxy = faulty(db)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proxy, place, failing(error))
        db._engine._writer.state = None
        with pytest.raises(raised):
            db.archive(EVENTS // 2, tmp_path / "archive")
    assert db.first_global_sequence == 0
    assert numbers(db) == list(range(EVENTS))
    assert db.stream("notes", Note).append(1, Note(EVENTS, "more")).global_sequence == EVENTS
    db.archive(EVENTS // 2, tmp_path / "archive")
    first = db.first_global_sequence
    assert 0 < first <= EVENTS // 2
    assert numbers(db) == list(range(first, EVENTS + 1))


def test_a_horizon_that_cannot_read_at_any_step_stays_where_it_was(db: varve.Varve, tmp_path: Path) -> None:
    """Consumers that cannot be read may not have read yet what would be archived. Once every step of the write transaction has
    failed, it goes through."""
    proxy = faulty(db)
    failed = 0

    def begun() -> None:
        left = failed

        def step() -> None:
            nonlocal left
            left -= 1
            if left == -1:
                raise lmdb_error(lmdb.CorruptedError, -30796)

        proxy.on_read = step

    proxy.on_begin = begun
    while db.first_global_sequence == 0:
        try:
            db.archive(EVENTS // 2, tmp_path / "archive")
        except varve.CorruptedStore:
            failed += 1
        finally:
            proxy.on_read = None
    assert failed >= 3
    assert numbers(db) == list(range(db.first_global_sequence, EVENTS))


def test_a_block_that_is_wrong_is_not_archived(
    db: varve.Varve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although its checksum is right."""

    def check(_block: Block) -> None:
        raise MalformedBlock("two of its columns disagree")

    with monkeypatch.context() as patch:
        patch.setattr(Block, "check", check)
        with pytest.raises(varve.CorruptedBlock, match="two of its columns disagree") as caught:
            db.archive(EVENTS // 2, tmp_path / "archive")
    assert caught.value.first_sequence == 0
    assert db.first_global_sequence == 0
    assert numbers(db) == list(range(EVENTS))


def test_lengths_at_every_earlier_instant_beyond_the_horizon(db: varve.Varve, tmp_path: Path) -> None:
    """Where the index of the stream's beginning has gone."""
    notes = db.stream("notes", Note)
    db.archive(EVENTS * 3 // 4, tmp_path / "archive")
    for at in range(db.first_global_sequence, EVENTS + 1):
        with db.snapshot(at) as snapshot:
            assert [snapshot.reader(notes).length(n) for n in (0, 1)] == [(at + 1) // 2, at // 2]
    with db._engine.snapshot() as instant, pytest.raises(varve.Archived, match="stream sequence 0"):
        list(instant.stream_pieces(0, 0, 5))


def test_a_lost_index_entry_is_no_archive(tmp_path: Path) -> None:
    """Of a stream whose later entries are there: told as damage, not as an end."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        db.stream("notes", Note).append_many([(n % 2, Note(n, "")) for n in range(EVENTS)])
    with raw_lmdb(tmp_path / "store") as (transaction, databases):
        assert transaction.delete(keys.stream_entry_key(0, 0), db=databases["index"])
    with varve.open(tmp_path / "store") as db:
        reader = db.stream("notes", Note).reader()
        assert reader.length(0) == EVENTS // 2
        with pytest.raises(varve.CorruptedStore, match="stream sequence 0"):
            list(reader.iter_stream(0))
        with db._engine.snapshot() as snapshot, pytest.raises(varve.CorruptedStore, match="stream sequence 5"):
            list(snapshot.stream_pieces(0, 5, 9))


def test_places_that_are_remembered_are_read_with_care(db: varve.Varve) -> None:
    """An error of LMDB is told as ours."""
    proxy = faulty(db)
    proxy.on_read = lambda: None
    with db._engine.snapshot() as snapshot, snapshot._lock:
        snapshot._find_places(3)
        assert db._engine.checked.holding(3) is not None
        proxy.on_read = failing(lmdb_error(lmdb.CorruptedError, -30796))
        with pytest.raises(varve.CorruptedStore):
            snapshot._find_places(3)
