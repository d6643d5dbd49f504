"""The walk of columns: ranges of global sequences in, chunks out.

Whole blocks are taken many at a time (``varve.columns.frames``); where a range begins or ends inside of a block, or is short, and
where a block is anything unusual, block by block as the iterators do.
"""

from __future__ import annotations

import time
from bisect import bisect_left, bisect_right
from collections.abc import Generator, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from varve import limits
from varve.columns.chunks import Bound, Chunk, Commits, Known, Runs, Walk
from varve.columns.frames import Frames
from varve.columns.tables import Bytes, Places, listed, strided
from varve.engine.checked import corrupted
from varve.engine.core import StoreClosing
from varve.errors import StoreClosed
from varve.replay import Source

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from varve.engine.snapshot import Snapshot
    from varve.layout.block import Block

    Ints = npt.NDArray[np.int64]

FIRST_BYTES: Final = 1 << 16
"""What a draft's memory begins with; it doubles, up to what the reader allows."""

FRAMES_EVENTS_MIN: Final = 1_024
"""A range of fewer events is read block by block."""


class Draft:
    """A chunk being filled, and filled again."""

    def __init__(self, bound: Bound) -> None:
        import numpy as np

        self.bound = bound
        self.memory = bytearray(min(FIRST_BYTES, bound.size_bytes))
        self._target = memoryview(self.memory)
        self.ends = np.empty(min(bound.rows, 1_024), np.uint32)
        self._ends = self.ends.data
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

    def chunk(self, known: Known, *, commits: bool) -> Chunk:
        """What is there."""
        import numpy as np

        count = self.count
        ends = self.ends[:count].astype(np.int64)
        ends += np.repeat(np.array(self.moves, np.int64), self.slice_counts)
        runs = Runs(
            np.array(self.run_types, np.int64),
            np.array(self.run_streams, np.int64),
            np.array(self.run_firsts, np.int64),
            np.array(self.run_counts, np.int64),
        )
        of = (self.commit_firsts, self.commit_times, self.commit_counts)
        made = Commits(*(np.array(column, np.int64) for column in of)) if commits else None
        data = Bytes(np.frombuffer(self.memory, np.uint8))
        return Chunk(count, data, places_before(ends), lambda: ends, self.sequences, lambda: runs, made, known)

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


def places_before(ends: Ints) -> Places:
    """Where events that lie back to back begin: each where the one before it ends."""
    import numpy as np

    count, step = len(ends), int(ends[0])
    if step * count == ends[-1] and (ends[1:] - ends[:-1] == step).all():
        return strided(0, (count,), (step,))
    starts = np.zeros(count, np.int64)
    starts[1:] = ends[:-1]
    return listed(starts)


class _Parsed:
    """A block's columns, as a walk needs them."""

    def __init__(self, block: Block) -> None:
        self.block = block
        self.first: int = block.first
        self.end = block.end
        self.payload = block.payload()
        self.ends = block.ends()
        self.streams, self.types, self.firsts, counts = block.run_lists()
        self.bounds = list(accumulate(counts, initial=0))
        self._commits: tuple[list[int], list[int], list[int]] | None = None

    @property
    def is_sound(self) -> bool:
        """Its events are in order, and lie in it."""
        import numpy as np

        ends = np.frombuffer(self.ends, np.uint32)
        return 0 < int(ends[-1]) <= len(self.payload) and bool((ends[1:] > ends[:-1]).all())

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

    def __init__(self, source: Source, walk: Walk, bound: Bound, *, commits: bool, in_map: bool) -> None:
        self.source = source
        self.walk = walk
        self.bound = bound
        self.draft = Draft(bound)
        self.known = Known(walk.views)
        self.commits = commits
        self.parsed: _Parsed | None = None
        self.frames = Frames(bound, self.known, commits=commits, in_map=in_map)

    def stretch(self, snapshot: Snapshot, sequence: int, until: int, drift: int) -> Generator[Chunk, None, int]:
        """Chunks of the events from ``sequence`` on, up to ``until`` or to the end of a block; gives the sequence behind them.
        What is left of less than a chunk stays in the draft."""
        parsed = self.parsed
        if parsed is None or not parsed.first <= sequence < parsed.end:
            if until - sequence >= FRAMES_EVENTS_MIN:
                found = self.frames.take(snapshot, sequence, until, drift)
                if found is not None:
                    try:
                        yield from self.flush()
                        yield from found.chunks(self.known, commits=self.commits)
                    finally:
                        found.data.release()
                    self.known.trim()
                    return found.end
            parsed = self.parsed = _Parsed(snapshot.block(sequence))
            if not parsed.is_sound:
                raise corrupted(snapshot.path, parsed.first, "an event lies outside")
        until = min(until, parsed.end)
        yield from self.slices(snapshot, parsed, sequence - parsed.first, until - parsed.first, drift)
        return until

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
            yield self.draft.chunk(self.known, commits=self.commits)
            self.draft.clear()
            self.known.trim()

    def is_inside(self, sequence: int) -> bool:
        """Whether a sequence is of the block that was read last."""
        return self.parsed is not None and self.parsed.first <= sequence < self.parsed.end

    def forget(self) -> None:
        """Let go of the map, and of the snapshot's block."""
        if self.parsed is not None:
            self.parsed.release()
            self.parsed = None

    def wanted(self, snapshot: Snapshot, parsed: _Parsed, low: int, high: int, drift: int) -> Iterator[tuple[int, int]]:
        """The stretches of ``low .. high`` that the reader wants, each held against the runs of its block."""
        bounds, first, known = parsed.bounds, parsed.first, self.known
        begin = low
        for index in range(bisect_right(bounds, low) - 1, bisect_left(bounds, high)):
            at = max(bounds[index], low)
            stream = parsed.streams[index]
            if known.number is not None and (
                stream != known.number or parsed.firsts[index] - first - bounds[index] != drift
            ):
                raise snapshot.index_wrong(first + at)
            if known.view(snapshot, parsed.types[index], first + at) is None:
                if begin < at:
                    yield begin, at
                begin = min(bounds[index + 1], high)
            elif not known.is_owned(snapshot, stream):
                raise snapshot.index_wrong(first + at)
        if begin < high:
            yield begin, high

    def take(self, parsed: _Parsed, low: int, high: int) -> None:
        """Add a block's events ``low .. high``."""
        draft, bounds = self.draft, parsed.bounds
        draft.add(parsed.payload, parsed.ends, low, high, parsed.first)
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


def walk_chunks(
    source: Source, walk: Walk, bound: Bound, *, commits: bool, in_map: bool = False
) -> Generator[Any, None, None]:
    """The chunks of a walk, at most ``bound`` each; ``commits``: with their ``Commits``; ``in_map``: they may lie in the map, for
    whoever asks for the next one soon. The first item is None: started.

    As ``varve.replay.walk_blocks`` walks, but that many blocks can be one step.
    """
    reading = _Reading(source, walk, bound, commits=commits, in_map=in_map)
    snapshot = source.begin()
    try:
        last = walk.end(snapshot)
        start, upper = walk.start, last if walk.stop is None else min(walk.stop, last)
        limit = snapshot.next_sequence
        yield None
        reading.known.begin(walk.owner(), max(upper - start, 0))
        finished = False
        while not finished:
            finished, begun_s, stepped = True, time.monotonic(), False
            for at, first, count in walk.ranges(snapshot, start, upper, False):
                low, high = first, first + count
                while low < high:
                    # Only after a step in this snapshot: a renewal that comes late must not renew again at once, for ever.
                    old = stepped and time.monotonic() - begun_s > limits.ITERATOR_SNAPSHOT_AGE_S_MAX
                    if old and source.fixed is None and not reading.is_inside(low):
                        start, finished = at + low - first, False
                        break
                    low = yield from reading.stretch(snapshot, low, high, at - first)
                    stepped = True
                if not finished:
                    break
            if not finished:
                reading.forget()
                source.end(snapshot)
                snapshot = source.engine.snapshot(limit)
        yield from reading.flush()
    except StoreClosing:
        reading.forget()
        source.end(snapshot)
        yield None
        raise StoreClosed(f"{source.engine.path} was told to close, which ended this iterator") from None
    finally:
        reading.forget()  # whoever keeps an error keeps this frame: it must not keep the map
        source.end(snapshot)
