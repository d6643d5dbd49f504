"""Events of a walk, gathered many at a time: their bytes back to back, and what is recorded beside them as arrays.

A chunk owns its memory (a copy of the events' bytes, at the speed of memory): nothing of the map is held by it, and numpy's
cost per call is paid once per chunk, not per block, however short the blocks and runs of a log are.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from varve import limits
from varve.codec import EventType, event_type
from varve.columns.tables import Bytes, Places, Table, event_tables, listed
from varve.deferred import Deferred
from varve.engine.core import StoreClosing
from varve.errors import StoreClosed
from varve.replay import Owner, Ranges, Source, ViewClass, walk_blocks
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from varve.engine.catalog import StreamIdentity
    from varve.engine.snapshot import Snapshot
    from varve.layout.block import Block

    Array = npt.NDArray[Any]
    Ints = npt.NDArray[np.int64]

FIRST_BYTES: Final = 1 << 16
"""What a chunk's memory begins with; it doubles, up to what the reader allows."""


class Bound(NamedTuple):
    """How much a chunk may hold; one event always fits."""

    rows: int
    size_bytes: int


class Walk(NamedTuple):
    """What to read: as ``varve.replay.walk_events`` takes it."""

    ranges: Ranges
    start: int
    end: Callable[[Snapshot], int]
    stop: int | None
    views: ViewClass
    owner: Callable[[], Owner]


def type_of(view: Any) -> EventType:
    """The event type whose views, or instances, are of a class."""
    found = view.__varve__
    return found if isinstance(found, EventType) else event_type(found.cls)


@dataclass
class Group:
    """The events of a chunk that come as one class. ``rows``: their indexes in the chunk, None where they are all of it."""

    chunk: Chunk
    view: Any
    stored_name: str
    rows: Ints | None
    starts: Places

    @property
    def count(self) -> int:
        """Number of events."""
        return self.starts.count

    @property
    def is_plain(self) -> bool:
        """The events are simply views of their bytes."""
        return not issubclass(self.view, Deferred)

    @property
    def event_type(self) -> EventType | None:
        """What the events come as; None for those that the reader does not know."""
        cls = self.view.gives() if issubclass(self.view, Deferred) else self.view
        return None if cls is UnknownEvent else type_of(cls)

    @property
    def known_type(self) -> EventType:
        """The event type of events that are plain views."""
        return type_of(self.view)

    @property
    def type_name(self) -> str:
        """The name of what the events come as."""
        known = self.event_type
        return self.stored_name if known is None else known.name

    @cached_property
    def tables(self) -> Table:
        """The root tables of the events."""
        return event_tables(self.chunk.data, self.starts)

    @cached_property
    def events(self) -> list[Any]:
        """The events themselves, each over bytes of its own: as an iterator would give them, made once."""
        chunk, view = self.chunk, self.view
        rows = range(self.count) if self.rows is None else self.rows.tolist()
        ends = chunk.ends.tolist()
        made = []
        for row, start in zip(rows, self.starts.array().tolist(), strict=True):
            raw = chunk.data.raw[start : ends[row]].tobytes()
            event = object.__new__(view)
            event._b = raw
            event._o = 0
            made.append(event.finish(raw, chunk.sequence(row)) if isinstance(event, Deferred) else event)
        return made


class Chunk:
    """Consecutive events of a walk. Valid until the next chunk is asked for: the memory is used again.

    Attributes: ``count``, ``data``, ``groups``; ``sequences`` (first, behind the last) of the stretches of the log that it is
    made of; ``runs`` and ``commits`` as lists by column.
    """

    def __init__(self, draft: Draft) -> None:
        import numpy as np

        self.count = draft.count
        self.data = Bytes(np.frombuffer(draft.memory, np.uint8))
        self.ends = draft.ends[: self.count].astype(np.int64)
        self.ends += np.repeat(np.array(draft.moves, np.int64), draft.slice_counts)
        self.sequences = draft.sequences
        self.run_counts = draft.run_counts
        self.run_firsts = draft.run_firsts
        self.run_streams = draft.run_streams
        self.commit_counts = draft.commit_counts
        self.commit_firsts = draft.commit_firsts
        self.commit_times = draft.commit_times
        self.identities = draft.identities
        self.groups = self._groups(draft)

    def _groups(self, draft: Draft) -> list[Group]:
        import numpy as np

        starts = self._starts()
        present = set(draft.run_types)
        by_view: dict[tuple[Any, str], list[int]] = {}
        for number in present:
            by_view.setdefault(draft.views[number], []).append(number)
        if len(by_view) == 1:
            [(view, name)] = by_view
            return [Group(self, view, name, None, starts)]
        types = np.repeat(np.array(draft.run_types, np.uint16), self.run_counts)
        groups = []
        for (view, name), numbers in by_view.items():
            rows = np.flatnonzero(types == numbers[0] if len(numbers) == 1 else np.isin(types, numbers))
            groups.append(Group(self, view, name, rows, starts.chosen(rows)))
        return groups

    def _starts(self) -> Places:
        """Where the events begin: each where the one before it ends."""
        import numpy as np

        count, ends = self.count, self.ends
        step = int(ends[0])
        if step * count == ends[-1] and (ends[1:] - ends[:-1] == step).all():
            return Places(count, 0, step)
        starts = np.zeros(count, np.int64)
        starts[1:] = ends[:-1]
        return listed(starts)

    def sequence(self, row: int) -> int:
        """The global sequence of an event."""
        for first, end in self.sequences:
            if row < end - first:
                return first + row
            row -= end - first
        raise IndexError(row)

    def global_sequences(self) -> Ints:
        """Of every event."""
        import numpy as np

        return np.concatenate([np.arange(first, end, dtype=np.int64) for first, end in self.sequences])

    def stream_sequences(self) -> Ints:
        """Of every event."""
        import numpy as np

        counts = np.array(self.run_counts, np.int64)
        before = np.cumsum(counts) - counts
        shifts = np.array(self.run_firsts, np.int64) - before
        return np.repeat(shifts, counts) + np.arange(self.count, dtype=np.int64)

    def per_run(self, values: Array) -> Array:
        """What is the same throughout a run, for every event."""
        import numpy as np

        return np.repeat(values, self.run_counts)

    def streams(self) -> list[StreamIdentity]:
        """The stream of each run."""
        known = self.identities
        return [known[number] for number in self.run_streams]

    def commits(self, values: list[int]) -> Ints:
        """``commit_times`` or ``commit_firsts``, for every event."""
        import numpy as np

        return np.repeat(np.array(values, np.int64), self.commit_counts)


class Draft:
    """A chunk being filled, and filled again."""

    def __init__(self, bound: Bound) -> None:
        import numpy as np

        self.bound = bound
        self.memory = bytearray(min(FIRST_BYTES, bound.size_bytes))
        self._target = memoryview(self.memory)
        self.ends = np.empty(min(bound.rows, 1_024), np.uint32)
        self._ends = self.ends.data
        self.views: dict[int, tuple[Any, str]] = {}
        self.identities: dict[int, StreamIdentity] = {}
        self.clear()

    def clear(self) -> None:
        """Begin anew."""
        self.count = 0
        self.used = 0
        self.moves: list[int] = []
        self.slice_counts: list[int] = []
        self.sequences: list[tuple[int, int]] = []
        self.run_counts: list[int] = []
        self.run_firsts: list[int] = []
        self.run_streams: list[int] = []
        self.run_types: list[int] = []
        self.commit_counts: list[int] = []
        self.commit_firsts: list[int] = []
        self.commit_times: list[int] = []

    @property
    def is_full(self) -> bool:
        """Nothing more fits."""
        return self.count >= self.bound.rows or self.used >= self.bound.size_bytes

    def room(self, ends: memoryview, low: int, high: int) -> int:
        """How many of a block's events ``low .. high`` still fit; one at least, where it is empty."""
        start = ends[low - 1] if low else 0
        left = self.bound.size_bytes - self.used
        until = min(high, low + self.bound.rows - self.count)
        if ends[until - 1] - start > left:
            until = bisect_right(ends, start + left, low, until)
        return max(until - low, 0 if self.count else 1)

    def add(self, payload: memoryview, ends: memoryview, low: int, high: int, first: int) -> None:
        """The bytes of a block's events ``low .. high``; ``first`` is the first sequence of the block."""
        start = ends[low - 1] if low else 0
        size = ends[high - 1] - start
        used, count = self.used, self.count
        self._reserve(used + size, count + high - low)
        self._target[used : used + size] = payload[start : start + size]
        self._ends[count : count + high - low] = ends[low:high]
        self.moves.append(used - start)
        self.slice_counts.append(high - low)
        self.used = used + size
        self.count = count + high - low
        if self.sequences and self.sequences[-1][1] == first + low:
            self.sequences[-1] = (self.sequences[-1][0], first + high)
        else:
            self.sequences.append((first + low, first + high))

    def _reserve(self, size: int, rows: int) -> None:
        import numpy as np

        if size > len(self.memory):
            grown = bytearray(max(2 * len(self.memory), -(-size // 8) * 8))
            grown[: self.used] = self._target[: self.used]
            self.memory, self._target = grown, memoryview(grown)
        if rows > len(self.ends):
            longer = np.empty(max(2 * len(self.ends), rows), np.uint32)
            longer[: self.count] = self.ends[: self.count]
            self.ends, self._ends = longer, longer.data


class _Parsed:
    """A block's columns, as a walk needs them."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.payload = block.payload()
        self.ends = block.ends()
        self.streams, self.types, self.firsts, counts = block.run_lists()
        self.bounds = list(accumulate(counts, initial=0))
        self._commits: tuple[list[int], list[int], list[int]] | None = None

    def release(self) -> None:
        """Let go of the map, whatever frames of a kept error still refer to this."""
        del self.block, self.payload, self.ends

    def commits(self) -> tuple[list[int], list[int], list[int]]:
        """Where its commits end, their first sequences and times."""
        if self._commits is None:
            block = self.block
            ends = list(accumulate(block.column("commit_counts")))
            self._commits = ends, block.commit_firsts(), block.commit_times().tolist()
        return self._commits


class _Reading:
    """Slices of blocks into chunks."""

    def __init__(self, walk: Walk, bound: Bound, *, commits: bool) -> None:
        self.walk = walk
        self.draft = Draft(bound)
        self.commits = commits
        self.number: int | None = None
        self.names: frozenset[str] | None = None

    def begin(self) -> None:
        """Once the walk knows whose events it gives."""
        owner = self.walk.owner()
        self.number = owner if isinstance(owner, int) else None
        self.names = owner if isinstance(owner, frozenset) else None

    def slices(self, snapshot: Snapshot, parsed: _Parsed, low: int, high: int, drift: int) -> Iterator[Chunk]:
        """Take a block's events ``low .. high`` (indexes); gives chunks as they fill."""
        draft = self.draft
        for begin, until in self.wanted(snapshot, parsed, low, high, drift):
            at = begin
            while at < until:
                fitting = draft.room(parsed.ends, at, until)
                if fitting:
                    self.take(parsed, at, at + fitting)
                    at += fitting
                if at < until or draft.is_full:
                    yield from self.flush()

    def flush(self) -> Iterator[Chunk]:
        """What is there, if anything is."""
        if self.draft.count:
            yield Chunk(self.draft)
            self.draft.clear()
            if len(self.draft.identities) > limits.CACHED_STREAMS_MAX:
                self.draft.identities.clear()

    def wanted(self, snapshot: Snapshot, parsed: _Parsed, low: int, high: int, drift: int) -> Iterator[tuple[int, int]]:
        """The stretches of ``low .. high`` that the reader wants, each held against the runs of its block."""
        bounds, first = parsed.bounds, parsed.block.first
        views, identities, names = self.draft.views, self.draft.identities, self.names
        a, b = bisect_right(bounds, low) - 1, bisect_left(bounds, high)
        begin = low
        for index in range(a, b):
            at = max(bounds[index], low)
            stream, number = parsed.streams[index], parsed.types[index]
            if self.number is not None and (
                stream != self.number or parsed.firsts[index] - first - bounds[index] != drift
            ):
                raise snapshot.index_wrong(first + at)
            if number not in views:
                view = self.walk.views(snapshot, number, first + at)
                views[number] = view, snapshot.catalog.type(snapshot, number).name
            if views[number][0] is None:
                if begin < at:
                    yield begin, at
                begin = min(bounds[index + 1], high)
                continue
            if stream not in identities:
                identity = snapshot.catalog.stream(snapshot, stream)
                if names is not None and identity.name not in names:
                    raise snapshot.index_wrong(first + at)
                identities[stream] = identity
        if begin < high:
            yield begin, high

    def take(self, parsed: _Parsed, low: int, high: int) -> None:
        """Add a block's events ``low .. high``."""
        draft, bounds = self.draft, parsed.bounds
        draft.add(parsed.payload, parsed.ends, low, high, parsed.block.first)
        a, b = bisect_right(bounds, low) - 1, bisect_left(bounds, high)
        for index in range(a, b):
            at = max(bounds[index], low)
            draft.run_counts.append(min(bounds[index + 1], high) - at)
            draft.run_firsts.append(parsed.firsts[index] + at - bounds[index])
        draft.run_streams += parsed.streams[a:b]
        draft.run_types += parsed.types[a:b]
        if self.commits:
            ends, firsts, times = parsed.commits()
            a, b = bisect_right(ends, low), bisect_left(ends, high) + 1
            at = low
            for end in ends[a:b]:
                draft.commit_counts.append(min(end, high) - at)
                at = end
            draft.commit_firsts += firsts[a:b]
            draft.commit_times += times[a:b]


def walk_chunks(source: Source, walk: Walk, bound: Bound, *, commits: bool) -> Generator[Any, None, None]:
    """The chunks of a walk, at most ``bound`` each; ``commits``: with what ``Chunk.commits`` needs. The first item is None:
    started."""
    slices = walk_blocks(source, walk.ranges, walk.start, walk.end, walk.stop, reverse=False)
    reading = _Reading(walk, bound, commits=commits)
    parsed: _Parsed | None = None
    snapshot = block = item = None
    try:
        yield next(slices)
        reading.begin()
        for item in slices:
            assert item is not None
            snapshot, block, low, high, drift = item
            if parsed is None or parsed.block is not block:
                parsed = _Parsed(block)
            yield from reading.slices(snapshot, parsed, low - block.first, high - block.first, drift)
        yield from reading.flush()
    except StoreClosing:
        slices.close()
        if parsed is not None:
            parsed.release()
        path = source.engine.path
        # This frame lives on until the user asks again: let go of what holds the map.
        del slices, snapshot, block, item, parsed
        yield None
        raise StoreClosed(f"{path} was told to close, which ended this iterator") from None
    except BaseException:
        slices.close()
        if parsed is not None:
            parsed.release()
        # Whoever keeps the error keeps this frame: it must not keep the map.
        del slices, snapshot, block, item, parsed
        raise
