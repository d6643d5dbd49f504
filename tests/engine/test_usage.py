"""What ``db.stats()`` says of space and readers is what the files hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import lmdb
import pytest
from engine_helpers import Blob, Note, blob

import varve
from varve import limits
from varve.engine import files
from varve.engine.pages import tree_pages


def test_pages_add_up(varve_path: Path) -> None:
    """Log, index, metadata, consumers' positions and what is free are all of the used part, and what LMDB counts itself."""
    with varve.open(varve_path, durability="relaxed") as db:
        stream = db.stream("notes", Note)
        for number in range(300):
            stream.append(number, Note(number, "x"))
        db.consumer("one").close()
        stats = db.stats()
        engine: Any = db._engine
        with engine.snapshot() as snapshot:
            counted = {
                name: snapshot.transaction.stat(getattr(engine.environment, name)) for name in ("log", "index", "meta")
            }
            side = snapshot.transaction.stat(engine.environment.side("consumers"))
    pages = {
        name: stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
        for name, stat in {**counted, "side": side}.items()
    }
    assert {name: getattr(stats, f"{name}_bytes") // limits.PAGE_BYTES for name in pages} == pages
    assert stats.blocks == counted["log"]["entries"] > 1
    assert (
        stats.log_bytes + stats.index_bytes + stats.meta_bytes + stats.side_bytes + stats.free_bytes
        == stats.used_bytes - 2 * limits.PAGE_BYTES
    )
    assert stats.side_bytes == limits.PAGE_BYTES
    assert 0 < stats.used_bytes <= stats.file_bytes
    assert stats.map_use == stats.used_bytes / stats.map_bytes
    assert stats.file_bytes == (varve_path / "data.mdb").stat().st_size


def test_positions_that_another_process_stored_are_seen(varve_path: Path) -> None:
    """A read-only handle and one that was open before they were stored say the same, without opening anything."""
    with varve.open(varve_path) as db:
        assert db.stats().side_bytes == 0
        assert db._engine.environment.opened_side(files.SIDE_TABLES[0]) is None
        db.consumer("one").close()
        assert db.stats().side_bytes == limits.PAGE_BYTES
    with varve.open(varve_path, readonly=True) as db:
        assert db.stats().side_bytes == limits.PAGE_BYTES
        assert db._engine.environment.opened_side(files.SIDE_TABLES[0]) is None


def test_what_is_no_record_has_no_pages() -> None:
    """Whatever stands there instead, the figure is 0 and not an error."""
    assert tree_pages(b"") == tree_pages(b"x" * 47) == 0


def test_the_oldest_reader_lags(varve_path: Path) -> None:
    """By as many write transactions as came after it; it is gone with its snapshot, and our own look is no reader."""
    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        notes.append(1, Note(0, ""))
        assert (db.stats().readers, db.stats().reader_lag) == (0, 0)
        with db.snapshot():
            for number in range(5):
                notes.append(1, Note(number, ""))
            stats = db.stats()
            assert (stats.readers, stats.reader_lag, len(stats.snapshots)) == (1, 5, 1)
        stats = db.stats()
        assert (stats.readers, stats.reader_lag, stats.snapshots) == (0, 0, ())
        assert stats.readers_max == limits.READERS_MAX


def test_freed_pages_are_free(varve_path: Path) -> None:
    """Pages of blocks that were rewritten can be used again."""
    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        with db.snapshot():
            for number in range(30):
                notes.append(1, Note(number, "x" * 100))
        assert db.stats().free_bytes >= 20 * limits.PAGE_BYTES


def test_stats_of_a_damaged_page_are_a_typed_error(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of any read."""
    from varve.engine import core

    def damaged(*_: object) -> None:
        raise lmdb.CorruptedError("page 7")

    with varve.open(varve_path) as db:
        monkeypatch.setattr(core, "usage", damaged)
        with pytest.raises(varve.CorruptedStore, match="page 7"):
            db.stats()


def test_a_closed_handle_has_no_stats(varve_path: Path) -> None:
    """It says that it is closed."""
    db = varve.open(varve_path)
    db.close()
    with pytest.raises(varve.StoreClosed):
        db.stats()


def test_what_waits_is_counted(varve_path: Path) -> None:
    """Tickets that nobody has taken yet, and appends of an event loop that wait for room."""
    import asyncio

    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        engine: Any = db._engine
        waiting: list[int] = []

        async def main() -> None:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(limits, "PENDING_COMMITS_MAX", 2)
                engine._group._ring_at = 100  # the helper hears of nothing
                tasks = [asyncio.ensure_future(notes.append_async(1, Note(number, ""))) for number in range(5)]
                await asyncio.sleep(0)
                waiting.extend((engine.queued, db.stats().writes.waiting))
                engine._group._ring_at = 1
                engine._group.drain()
                await asyncio.gather(*tasks)

        asyncio.run(main())
        assert waiting == [2, 5]
        assert db.stats().writes.waiting == 0


def test_inboxes_that_come_and_go_are_counted_again(varve_path: Path) -> None:
    """Another thread's loop may end while they are walked through."""
    from varve.engine.core import Engine

    class Shrinks(dict):  # type: ignore[type-arg]
        tries = 0

        def values(self) -> Any:
            self.tries += 1
            if self.tries == 1:
                raise RuntimeError("dictionary changed size during iteration")
            return super().values()

    with varve.open(varve_path) as db:
        engine: Engine = db._engine
        engine.inboxes = Shrinks()  # type: ignore[assignment]
        assert db.stats().writes.waiting == 0
        assert engine.inboxes.tries == 2  # type: ignore[attr-defined]


def test_big_events_have_pages_of_their_own(varve_path: Path) -> None:
    """They count for the log."""
    with varve.open(varve_path, durability="relaxed") as db:
        before = db.stats().log_bytes
        db.stream("blobs", Blob).append(1, blob(1, 1_000_000))
        assert db.stats().log_bytes - before >= 1_000_000
