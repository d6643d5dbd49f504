"""Moving the horizon: the commit that lets go of archived blocks.

One write transaction takes the blocks below the new horizon out of the log, and the index entries that lead nowhere else, and
puts what they leave behind (``layout.base``) in their place: before it everything is there, after it nothing of what was
archived. Its numbers never change, so handles of other processes need no word of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import lmdb

from varve import limits
from varve.engine.request import CommitRequest
from varve.errors import Conflict
from varve.layout import consumers, keys
from varve.layout.base import TABLE, Base
from varve.layout.records import encode_horizon

if TYPE_CHECKING:
    from varve.engine.commit import Session
    from varve.engine.side import Table
    from varve.engine.writer import Writer

Span = tuple[bytes, bytes]
"""Keys from one up to, but not including, another."""


class _MakesTable:
    """Has the table made, before the transaction begins that fills it."""

    @property
    def table(self) -> str:
        return TABLE

    def __call__(self, table: Table) -> None:
        """It is filled as a whole."""


def move_horizon(
    writer: Writer, base: Base, before: Base | None, check: Callable[[list[tuple[bytes, bytes]]], None]
) -> None:
    """Let go of everything below ``base.horizon``; ``before`` is the base that it replaces. ``check`` is given the table of
    consumers as this commit finds it, and raises to refuse.

    Raises ``Conflict`` where somebody else moved the horizon meanwhile, and what a commit raises.
    """
    writer.check_entry()
    writer.environment.side(consumers.TABLE)  # before the transaction that shall read it
    with writer.together([CommitRequest([], effects=(_MakesTable(),))]) as session:
        expected = 0 if before is None else before.horizon
        if session.record.first_sequence != expected:
            raise Conflict(
                f"{session.environment.path}: another process archived meanwhile, up to {session.record.first_sequence}; "
                "look again"
            )
        check(_pairs(session, consumers.TABLE))
        session.begin_writing()
        try:
            _put_base(session, base)
            _delete(session, session.environment.log, iter([(b"", keys.log_key(base.horizon))]))
            _delete(session, session.environment.index, _left_over(base, before))
            record = session.record._replace(first_sequence=base.horizon)
            session.open.put(keys.STORE_RECORD_KEY, record.encode(), db=session.environment.meta)
            session.open.put(keys.HORIZON_KEY, encode_horizon(base.last_time_ns), db=session.environment.meta)
        except lmdb.Error as exc:
            raise session.failed(exc, limits.PAGE_BYTES) from exc
        session.end(limits.PAGE_BYTES)


def _pairs(session: Session, table: str) -> list[tuple[bytes, bytes]]:
    """What a side table holds."""
    database = session.environment.opened_side(table)
    if database is None:
        return []
    try:
        with session.open.cursor(database) as cursor:
            return [(bytes(key), bytes(value)) for key, value in cursor]
    except lmdb.Error as exc:
        raise session.environment.read_error(exc) from exc


def _put_base(session: Session, base: Base) -> None:
    table = session.environment.opened_side(TABLE)
    assert table is not None  # made before the transaction began
    session.open.drop(table, delete=False)
    with session.open.cursor(table) as cursor:
        cursor.putmulti(base.pairs(), append=True)


def _left_over(base: Base, before: Base | None) -> Iterator[Span]:
    """The index entries that lead below the horizon only: all but the last of each stream and each name."""
    was = [] if before is None else before.streams
    for number, (_, _, position, _) in enumerate(base.streams):
        first = was[number][2] if number < len(was) else 0
        if first < position:
            yield keys.stream_entry_key(number, first), keys.stream_entry_key(number, position)
    for number, runs in enumerate(base.name_runs):
        yield keys.name_entry_key(number, 0), keys.name_entry_key(number, runs[0][0])


def _delete(session: Session, database: lmdb._Database | None, spans: Iterator[Span]) -> None:
    with session.open.cursor(database) as cursor:
        for first, stop in spans:
            there = cursor.set_range(first)
            while there and bytes(cursor.key()) < stop:
                cursor.delete()
                there = bool(cursor.key())
