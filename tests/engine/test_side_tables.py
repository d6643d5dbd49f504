"""Side tables inside write transactions and snapshots: ranges under changes, reads that fail, tables made in the middle."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from engine_helpers import Note, faulty, lmdb_error
from hypothesis import given
from hypothesis import strategies as st

import varve
from varve import limits
from varve.engine.side import merged

EIO = lmdb_error(lmdb.Error, errno.EIO)


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    """A store with some state."""
    with varve.open(varve_path, durability="relaxed") as store:
        with store.transaction() as tx:
            for number in range(limits.STATE_CHUNK_KEYS * 2 + 1):
                tx.state.put(number, number)
        yield store


PAIRS = st.dictionaries(st.binary(min_size=1, max_size=2), st.binary(max_size=1), max_size=8)
CHANGES = st.dictionaries(st.binary(min_size=1, max_size=2), st.none() | st.binary(max_size=1), max_size=8)


@given(PAIRS, CHANGES, st.booleans())
def test_changes_over_what_is_stored(
    stored: dict[bytes, bytes], changed: dict[bytes, bytes | None], reverse: bool
) -> None:
    """As a dict would have it, in both directions."""
    pairs = iter(sorted(stored.items(), reverse=reverse))
    wanted = {key: value for key, value in (stored | changed).items() if value is not None}
    assert list(merged(pairs, changed, reverse=reverse)) == sorted(wanted.items(), reverse=reverse)


@pytest.mark.parametrize("reverse", [False, True])
def test_long_ranges_inside_a_write(db: varve.Varve, reverse: bool) -> None:
    """Over more than one step, changes of the transaction in between."""
    count = limits.STATE_CHUNK_KEYS * 2 + 1

    def fn(tx: varve.WriteTransaction) -> list[Any]:
        tx.state.delete(7)
        tx.state.put(count, count)
        return [key for key, _ in tx.state.range(reverse=reverse)]

    wanted = [number for number in range(count + 1) if number != 7]
    assert db.write(fn) == (wanted[::-1] if reverse else wanted)


READS: list[Callable[[varve.Varve], object]] = [
    lambda db: db.state.get(1),
    lambda db: list(db.state.range()),
    lambda db: db.write(lambda tx: tx.state.get(1)),
    lambda db: db.write(lambda tx: list(tx.state.range())),
]


@pytest.mark.parametrize("read", READS)
def test_reads_that_fail_say_so(db: varve.Varve, read: Callable[[varve.Varve], object]) -> None:
    """Typed, and the handle goes on once the disk does."""
    proxy = faulty(db)
    state = db.state
    left = [3]  # what comes before the state

    def refuse() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise EIO

    proxy.on_read = refuse
    for start in range(8):
        left[0] = start
        try:
            read(db)
        except varve.VarveError as exc:
            assert exc.__cause__ is EIO  # noqa: PT017 - what comes first depends on the way
    proxy.on_read = None
    assert state.get(1) == 1


def test_a_check_whose_read_fails(db: varve.Varve) -> None:
    """Of a stream's length: refused with a typed error."""
    notes = db.stream("notes", Note)
    notes.append(1, Note(1, "a"))
    notes.append(2, Note(1, "a"))
    failed = []
    for start in range(30):
        with db.transaction() as other:
            other.append(notes, 2, Note(1, "b"))  # what is remembered of stream 1 is forgotten below
        db._engine._writer.state = None
        tx = db.transaction()
        tx.length(notes, 1)
        tx.state.put("a", start)
        db.state.put("elsewhere", start)
        db._engine._writer.state = None
        proxy = faulty(db)
        left = [start]

        def refuse(left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] < 0:
                raise EIO

        proxy.on_read = refuse
        try:
            tx.commit()
        except varve.VarveError as exc:
            failed.append(exc)
        finally:
            db._engine.environment.env = proxy._env
    assert failed
    assert all(exc.__cause__ is EIO for exc in failed)
    assert db.state.get("a") >= 0


def test_a_name_without_events_in_company(db: varve.Varve) -> None:
    """Others of a group append elsewhere: nothing has changed."""
    notes, nothing = db.stream("notes", Note), db.stream("nothing", Note)
    notes.append(1, Note(1, "a"))

    async def together() -> list[Any]:
        transactions = [db.transaction(), db.transaction()]
        for tx, stream in zip(transactions, (nothing, db.stream("written", Note)), strict=True):
            assert list(tx.reader(stream).iter_all()) == []
            tx.state.put(stream.name, 1)
        return await asyncio.gather(
            notes.append_async(1, Note(2, "b")), *(tx.commit_async() for tx in transactions), return_exceptions=True
        )

    assert asyncio.run(together())[1:] == [None, None]
    assert db.state.get("nothing") == db.state.get("written") == 1


def test_what_a_table_took_in_a_failed_write_is_forgotten(varve_path: Path) -> None:
    """The first state of a store, in ``db.write``, whose commit fails: no table, and the next one makes it."""
    with varve.open(varve_path, durability="relaxed") as db:
        proxy = faulty(db)

        def refuse() -> None:
            raise EIO

        proxy.on_put = refuse
        with pytest.raises(varve.VarveError):
            db.write(lambda tx: tx.state.put("a", 1))
    with varve.open(varve_path, durability="relaxed") as db:
        assert not db.state.exists("a")
        db.write(lambda tx: tx.state.put("a", 1))
        assert db.state.get("a") == 1
