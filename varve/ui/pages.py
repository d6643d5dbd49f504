"""Events in bounded pages: of the log, and of one stream.

A page ends where it is full, where its events get large, where time is up, and at damage: the events before a damaged block are
shown, the error beside them, and the cursor leads past it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from varve import limits
from varve.errors import CorruptedBlock, IntegrityError, InvalidInput, VarveError
from varve.layout.keys import StreamId
from varve.ops import stream_extent, stream_info
from varve.record import Recorded
from varve.store import Varve
from varve.ui.shown import Row, error_of, row_of, stream_of

__all__ = ["Page", "log_page", "place_of", "stream_page"]

Range = tuple[int, int]
"""From one coordinate to before another."""
Read = Callable[[int, int], Iterator[Recorded[Any]]]
"""Events between two coordinates, global or stream sequences, in the order of the page."""


@dataclass(slots=True)
class Page:
    """Some events and where the next ones begin."""

    events: list[Row] = field(default_factory=list)
    next: int | None = None
    """Where to go on, in the same order; None at the end."""
    paused: bool = False
    """Whether it ended because time was up."""
    problem: VarveError | None = None
    """What stands in the way behind these events."""
    looked: bool = False
    """Whether anything was read yet."""
    at: int | None = None
    """Behind the last of the events."""
    bytes: int = 0
    """Of the events."""

    def is_full(self, rows: int) -> bool:
        """Whether there is no room for more."""
        return len(self.events) >= rows or self.bytes > limits.UI_PAGE_BYTES

    def at_or(self, start: int) -> int:
        """Behind the last of the events, or ``start``."""
        return start if self.at is None else self.at

    def answer(self, **more: Any) -> Row:
        """As the API says it."""
        return {
            "events": self.events,
            "next": None if self.next is None else str(self.next),
            "paused": self.paused,
            "problem": None if self.problem is None else error_of(self.problem),
        } | more


def place_of(db: Varve, where: int | dt.datetime | None) -> int | None:
    """A global sequence."""
    return where if where is None or isinstance(where, int) else db.sequence_at(where)


def log_page(
    db: Varve, start: int | None, *, newest_first: bool, stream: str | None, type_: str | None, rows: int
) -> Page:
    """A page of the log: from ``start`` on, or, the newest first, up to before it."""
    first, end = db.first_global_sequence, db.next_global_sequence
    streams, types = (None if stream is None else [stream]), (None if type_ is None else [type_])

    def read(low: int, high: int) -> Iterator[Recorded[Any]]:
        return db.global_reader().iter_from(low, high, reverse=newest_first, streams=streams, types=types)

    # A stream name is looked up in an index; a type is looked for.
    window = limits.UI_SCAN_EVENTS if types else end + 1
    walk = _Walk(read, lambda error: _damage(db, error), "sequence", newest_first, rows, window)
    if newest_first:
        return walk.page(end if start is None else min(start, end), first)
    return walk.page(first if start is None else start, end)


def stream_page(db: Varve, name: str, stream_id: StreamId, start: int | None, *, newest_first: bool, rows: int) -> Row:
    """A page of one stream, by its own sequences. Raises ``InvalidInput`` where there is no such stream."""
    found = stream_info(db, name, stream_id)
    if found is None:
        raise InvalidInput(f"there is no stream {name}/{stream_id}")

    def read(low: int, high: int) -> Iterator[Recorded[Any]]:
        return db.global_reader().iter_stream(name, stream_id, low, high, reverse=newest_first)

    def damage(error: CorruptedBlock) -> Range:
        low, high = _damage(db, error)
        return stream_extent(db, name, stream_id, low)[1], stream_extent(db, name, stream_id, high)[1]

    first, _ = stream_extent(db, name, stream_id)
    walk = _Walk(read, damage, "stream_sequence", newest_first, rows, found.length + 1)
    if newest_first:
        page = walk.page(found.length if start is None else min(start, found.length), first)
    else:
        page = walk.page(first if start is None else start, found.length)
    return page.answer(stream=stream_of(found), first=str(first))


def _damage(db: Varve, error: CorruptedBlock) -> Range:
    """The global sequences of a damaged block: it names its first; where the next block begins is found by bisection."""
    first, end = error.first_sequence, db.next_global_sequence
    step = 1
    while first + step < end and _is_in(db, error, first + step):
        step *= 2
    inside, outside = first + step // 2, min(first + step, end)
    while outside - inside > 1:
        middle = (inside + outside) // 2
        if _is_in(db, error, middle):
            inside = middle
        else:
            outside = middle
    return first, outside


def _is_in(db: Varve, error: CorruptedBlock, sequence: int) -> bool:
    try:
        db.global_reader().get_bytes(sequence)
    except CorruptedBlock as other:
        return other.first_sequence == error.first_sequence
    except IntegrityError:
        return False
    return False


@dataclass(frozen=True, slots=True)
class _Walk:
    """How a page is filled. ``key``: which coordinate of a row it goes along; ``window``: how much of it is looked at between two
    looks at the clock."""

    read: Read
    damage: Callable[[CorruptedBlock], Range]
    key: str
    newest_first: bool
    rows: int
    window: int

    def page(self, at: int, end: int) -> Page:
        """From ``at`` on to ``end``, which lies below it where the newest come first."""
        page = Page()
        until_s = monotonic() + limits.UI_SCAN_S
        try:
            while self._left(at, end) and not page.is_full(self.rows):
                if page.looked and monotonic() >= until_s:
                    page.paused = True
                    break
                at = self._read(page, at, end)
        except CorruptedBlock as error:
            low, high = self.damage(error)
            # What is read ahead may meet damage early: what stands before it is shown all the same.
            edge = high if self.newest_first else low
            at = page.at_or(at)
            while self._left(at, edge) and not page.is_full(self.rows):
                at = self._read(page, at, edge)
            if not self._left(at, edge):
                page.problem = error
                at = low if self.newest_first else high
        page.next = at if self._left(at, end) else None
        return page

    def _read(self, page: Page, at: int, end: int) -> int:
        """A window of events; where the next one begins."""
        low, high = (max(at - self.window, end), at) if self.newest_first else (at, min(at + self.window, end))
        page.looked = True
        for recorded in self.read(low, high):
            row = row_of(recorded)
            page.events.append(row)
            page.bytes += row["bytes"]
            page.at = int(row[self.key]) + (not self.newest_first)
            if page.is_full(self.rows):
                return page.at
        return low if self.newest_first else high

    def _left(self, at: int, end: int) -> bool:
        return at > end if self.newest_first else at < end
