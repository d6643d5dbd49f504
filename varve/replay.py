"""The walk over blocks that every iterator is: ranges of global sequences in, recorded events out.

An iterator is a generator that the engine tracks. It fixes its bounds when it is made, not at the first ``next``; it
renews its transaction at a block boundary once that is older than ``ITERATOR_SNAPSHOT_AGE_S_MAX``, so that a slow
consumer does not make the file grow; it ends, with ``StoreClosed`` at the next step, when the store closes.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from heapq import merge
from itertools import accumulate, chain, repeat
from operator import itemgetter
from typing import TYPE_CHECKING, Any, Protocol, cast

from varve import limits
from varve.engine.core import StoreClosing
from varve.errors import InvalidInput, StoreClosed, VarveError
from varve.gaps import GAP_VIEW, Gap
from varve.record import Recorded, recorded_class

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.engine.located import KnownStream
    from varve.engine.snapshot import Scattered, Snapshot
    from varve.layout.block import Block


Owner = int | frozenset[str] | None
"""Whose events a walk gives: a stream number, stream names, or everybody's."""


Range = tuple[int, int, int]
"""Where it is in the iterator's own coordinate (a stream sequence where it walks one stream, the global sequence elsewhere), from
where a renewed iterator goes on; first global sequence; number of events."""

_count = itemgetter(2)

FEW_EVENTS = 4
"""So many events of a block are looked up one by one, for less than reading where all of its events are."""

Pieces = Callable[["Snapshot", int, int, bool], Iterable[Sequence[Range]]]
"""``pieces(snapshot, start, stop, reverse)``: what to walk, in the order of the walk, a piece at a time."""


class Ranges:
    """What to walk: ``pieces``, or called the same one by one."""

    def __init__(self, pieces: Pieces) -> None:
        self.pieces = pieces

    def __call__(self, snapshot: Snapshot, start: int, stop: int, reverse: bool) -> Iterable[Range]:
        """The ranges one by one."""
        return chain.from_iterable(self.pieces(snapshot, start, stop, reverse))


ViewClass = Callable[["Snapshot", int, int], Any]
"""``view_class(snapshot, type number, global sequence)`` -> the class of views (or a ``Deferred``), or None to pass the run
over."""


class Source(Protocol):
    """Where a reader takes its snapshots from: the newest instant at each call, or one fixed instant."""

    engine: Engine
    fixed: Snapshot | None

    def begin(self) -> Snapshot:
        """A snapshot for one call."""
        ...

    def end(self, snapshot: Snapshot) -> None:
        """Done with it."""
        ...

    @property
    def known_event(self) -> Callable[[KnownStream, int], tuple[int, bytes] | None]:
        """``Snapshot.known_event`` in the instant that ``begin`` would give."""
        ...


class Live:
    """Each call sees the newest instant and holds nothing afterwards."""

    fixed: Snapshot | None = None

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.known_event = engine.known_event

    def begin(self) -> Snapshot:
        """A new snapshot."""
        return self.engine.snapshot()

    def end(self, snapshot: Snapshot) -> None:
        """Close it."""
        snapshot.close()


class Fixed:
    """Every call sees the same instant."""

    def __init__(self, engine: Engine, snapshot: Snapshot) -> None:
        self.engine = engine
        self.fixed: Snapshot | None = snapshot
        self.known_event = snapshot.known_event
        self._snapshot = snapshot

    def begin(self) -> Snapshot:
        """The snapshot. Raises ``SnapshotClosed`` and ``StoreClosed`` when it can no longer be read."""
        self._snapshot.transaction  # noqa: B018 - raises where it is closed
        return self._snapshot

    def end(self, snapshot: Snapshot) -> None:
        """It belongs to the user."""


def bounds(start: int, stop: int | None) -> tuple[int, int | None]:
    """Checked bounds of a half-open range. Raises ``InvalidInput`` (a ValueError)."""
    for name, value in (("start", start), ("stop", stop)):
        if value is None and name == "stop":
            continue
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidInput(f"{name} is a sequence (an int), not {value!r}")
        if value < 0:
            raise InvalidInput(
                f"{name} is {value}; sequences start at 0, and negative ones do not count from the end here"
            )
    return start, stop


def _all(_: Snapshot, start: int, stop: int, _reverse: bool) -> Iterable[Sequence[Range]]:
    return (((start, start, stop - start),),) if start < stop else ()


whole_log = Ranges(_all)
"""Everything."""


def of_stream(number: int, first: int = 0) -> Ranges:
    """One stream, from its event ``first`` on."""
    return Ranges(
        lambda snapshot, start, stop, reverse: snapshot.stream_pieces(number, max(start, first), stop, reverse=reverse)
    )


def of_names(numbers: list[int]) -> Ranges:
    """Every stream of some names, in global order."""

    def pieces(snapshot: Snapshot, start: int, stop: int, reverse: bool) -> Iterable[Sequence[Range]]:
        runs = [snapshot.name_runs(number, start, stop, reverse=reverse) for number in numbers]
        merged = runs[0] if len(runs) == 1 else merge(*runs, reverse=reverse)
        return few_together((first, first, count) for first, count in merged)

    return Ranges(pieces)


def few_together(ranges: Iterable[Range]) -> Iterator[Sequence[Range]]:
    """Short ranges that follow each other together. Where they end in an error, those before it come first."""
    short: list[Range] = []
    most = FEW_EVENTS  # whoever wants the first event only does not wait for more
    try:
        for found in ranges:
            if found[2] <= FEW_EVENTS:
                short.append(found)
                if len(short) < most:
                    continue
            if short:
                yield short
                short = []
                most = limits.SCATTERED_RANGES_MAX
            if found[2] > FEW_EVENTS:
                yield (found,)
    except VarveError:
        if short:
            yield short
        raise
    if short:
        yield short


def tracked(engine: Engine, walk: Generator[Any, None, None]) -> Generator[Any, None, None]:
    """Start a walk, which fixes its bounds now, and end it with the store."""
    next(walk)
    engine.track(walk)
    return walk


Slice = tuple["Snapshot", "Block | None", int, int, int, "list[Scattered] | None"]
"""Part of a walk: snapshot, block, first and last + 1 global sequence, what to add to these for the iterator's own coordinate; or
events that lie here and there (then the three numbers mean nothing)."""


def _in_turn(pieces: Iterable[Sequence[Range]]) -> Iterator[tuple[Range, Sequence[Range] | None]]:
    """The ranges one by one; pieces of nothing but short ones together (the first of them, and all)."""
    is_first = True
    for piece in pieces:
        if max(map(_count, piece)) > FEW_EVENTS:
            yield from zip(piece, repeat(None))
        elif is_first and len(piece) > FEW_EVENTS:  # whoever wants the first event only does not wait for more
            yield piece[0], piece[:FEW_EVENTS]
            yield piece[FEW_EVENTS], piece[FEW_EVENTS:]
        else:
            yield piece[0], piece
        is_first = False


def walk_blocks(
    source: Source,
    ranges: Ranges,
    start: int,
    end: Callable[[Snapshot], int],
    stop: int | None,
    owner: Callable[[], Owner],
    *,
    reverse: bool,
) -> Generator[Slice | None, None, None]:
    """The block slices of a walk. The first item is None: started."""
    snapshot = source.begin()
    try:
        last = end(snapshot)
        upper = last if stop is None else min(stop, last)
        limit = snapshot.next_sequence
        if snapshot.first_sequence:
            _check_retained(snapshot, ranges, start, upper)
        yield None
        begun_s = time.monotonic()
        block: Block | None = None
        some: list[Scattered] | None = None
        has_read = False
        finished = False
        while not finished:
            finished = True
            for (at, first, count), short in _in_turn(ranges.pieces(snapshot, start, upper, reverse)):
                # Only after a block of this snapshot: a renewal that comes late must not renew again at once, for ever.
                if short is not None:
                    if has_read and source.fixed is None and _is_old(begun_s):
                        start, upper = (start, at + count) if reverse else (at, upper)
                        finished = False
                        break
                    has_read = True
                    for some in _scattered(snapshot, short, owner(), reverse=reverse):
                        yield snapshot, None, 0, 0, 0, some
                    some = None
                    continue
                low, high = first, first + count
                while low < high:
                    sequence = high - 1 if reverse else low
                    if block is None or not block.first <= sequence < block.first + block.count:
                        if has_read and source.fixed is None and _is_old(begun_s):
                            start, upper = (start, at + high - first) if reverse else (at + low - first, upper)
                            finished = False
                            break
                        has_read = True
                        block = snapshot.block(sequence)
                    if reverse:
                        begin = max(low, block.first)
                        yield snapshot, block, begin, high, at - first, None
                        high = begin
                    else:
                        until = min(high, block.first + block.count)
                        yield snapshot, block, low, until, at - first, None
                        low = until
                if not finished:
                    break
            if not finished:
                block = None
                has_read = False
                source.end(snapshot)
                snapshot = source.engine.snapshot(limit)
                begun_s = time.monotonic()
    finally:
        block = some = None  # an error that is kept keeps this frame, and must not keep the map
        source.end(snapshot)


def _check_retained(snapshot: Snapshot, ranges: Ranges, start: int, stop: int) -> None:
    """Whether everything that shall be walked is above the horizon: said at once, and not by an iterator that is half done.
    Raises ``Archived``."""
    for _, first, _ in ranges(snapshot, start, stop, False):
        snapshot.check_retained(first)
        return


def _scattered(
    snapshot: Snapshot, ranges: Sequence[Range], owner: Owner, *, reverse: bool
) -> Iterator[list[Scattered]]:
    """The events of short ranges; what stands before a block that is wrong comes first."""
    number = owner if isinstance(owner, int) else None
    while ranges:
        some = snapshot.scattered(ranges, number, reverse=reverse)
        given = len(some)
        yield some
        del some  # an error that is kept keeps this frame, and must not keep the map
        if given == sum(map(_count, ranges)):
            return
        singly = [
            (at + inside, first + inside, 1)
            for at, first, count in ranges
            for inside in (range(count)[::-1] if reverse else range(count))
        ]
        ranges = singly[given:]


def _is_old(begun_s: float) -> bool:
    return time.monotonic() - begun_s > limits.ITERATOR_SNAPSHOT_AGE_S_MAX


def walk_events(
    source: Source,
    ranges: Ranges,
    start: int,
    end: Callable[[Snapshot], int],
    stop: int | None,
    view_class: ViewClass,
    owner: Callable[[], Owner] = lambda: None,
    *,
    reverse: bool,
) -> Generator[Any, None, None]:
    """Recorded events of a walk. The first item is None: started. ``owner`` says, once it has, whose events the ranges are said
    to be: the blocks, which have checksums, must agree."""
    slices = walk_blocks(source, ranges, start, end, stop, owner, reverse=reverse)
    new = object.__new__
    known: Block | None = None
    payload = memoryview(b"")
    starts: list[int] = []
    run_starts = [0]
    streams: list[int] = []
    types: list[int] = []
    firsts: list[int] = []
    views: dict[int, tuple[Any, Any]] = {}
    snapshot = block = item = scattered = placed = event = recorded = None
    try:
        yield next(slices)
        of = owner()
        names = None if of is None or isinstance(of, int) else of
        number = of if isinstance(of, int) else None
        for item in slices:
            assert item is not None
            snapshot, block, low, high, drift, scattered = item
            if scattered is not None:
                identities = snapshot.catalog.streams
                last_type = last_stream = -1
                view = holder = identity = cast("Any", None)
                for placed, sequence, shift, stream, type_number, offset in scattered:
                    if type_number != last_type:
                        found = views.get(type_number)
                        if found is None:
                            found = views[type_number] = _kind(view_class(snapshot, type_number, sequence))
                        view, holder = found
                        if view is None:
                            view = holder
                            holder = Recorded
                        last_type = type_number
                    if view is None:
                        continue
                    if stream != last_stream:
                        identity = identities.get(stream) or snapshot.catalog.stream(snapshot, stream)
                        if names is not None and identity.name not in names:
                            raise snapshot.index_wrong(sequence)  # noqa: TRY301 - the handler lets go of the map
                        last_stream = stream
                    event = new(view)
                    event._b = placed[1]
                    event._o = offset
                    recorded = holder()
                    recorded._event = event
                    recorded._sequence = sequence
                    recorded._shift = shift
                    recorded._stream = identity
                    recorded._block = placed
                    yield recorded
                continue
            assert block is not None
            first = block.first
            if block is not known:
                known = block
                payload = block.payload()
                starts = [0, *block.ends().tolist()]
                streams, types, firsts, counts = block.run_lists()
                run_starts = list(accumulate(counts, initial=first))
            chosen = range(bisect_right(run_starts, low) - 1, bisect_right(run_starts, high - 1))
            identities = snapshot.catalog.streams
            for index in reversed(chosen) if reverse else chosen:
                begin, until = run_starts[index], run_starts[index + 1]
                shift = firsts[index] - begin
                type_number = types[index]
                if number is not None and (streams[index] != number or shift != drift):
                    raise snapshot.index_wrong(max(begin, low))  # noqa: TRY301 - the handler lets go of the map
                if begin < low:  # noqa: PLR1730 - max() and min() would cost as much as the rest of a short run
                    begin = low
                if until > high:  # noqa: PLR1730
                    until = high
                found = views.get(type_number)
                if found is None:
                    found = views[type_number] = _kind(view_class(snapshot, type_number, begin))
                view, holder = found
                if view is None and holder is None:
                    continue
                identity = identities.get(streams[index]) or snapshot.catalog.stream(snapshot, streams[index])
                if names is not None and identity.name not in names:
                    raise snapshot.index_wrong(begin)  # noqa: TRY301
                if view is None:
                    recorded = object.__new__(Recorded)
                    recorded._event = Gap(until - begin)
                    recorded._sequence = begin
                    recorded._shift = shift
                    recorded._stream = identity
                    recorded._block = block
                    yield recorded
                    continue
                if until - begin == 1:  # interleaved streams: ranges and slices would cost more than the event
                    event = new(view)
                    event._b = payload
                    event._o = starts[begin - first]
                    recorded = holder()
                    recorded._event = event
                    recorded._sequence = begin
                    recorded._shift = shift
                    recorded._stream = identity
                    recorded._block = block
                    yield recorded
                    continue
                sequences = range(begin, until)
                offsets = starts[begin - first : until - first]
                if reverse:
                    sequences = sequences[::-1]
                    offsets.reverse()
                for sequence, offset in zip(sequences, offsets, strict=True):
                    event = new(view)
                    event._b = payload
                    event._o = offset
                    recorded = holder()
                    recorded._event = event
                    recorded._sequence = sequence
                    recorded._shift = shift
                    recorded._stream = identity
                    recorded._block = block
                    yield recorded
    except StoreClosing:
        slices.close()
        path = source.engine.path
        # This frame lives on until the user asks again: let go of what holds the map.
        del slices, snapshot, block, known, payload, item, scattered, placed, event, recorded
        yield None
        raise StoreClosed(f"{path} was told to close, which ended this iterator") from None
    except BaseException:
        slices.close()
        # Whoever keeps the error keeps this frame: it must not keep the map.
        del slices, snapshot, block, known, payload, item, scattered, placed, event, recorded
        raise


def _kind(view: Any) -> tuple[Any, Any]:
    """What to make of the events of a type: the class of views and of what holds them. Of dropped events, which come together,
    None and their class of views; twice None to pass them over."""
    if view is GAP_VIEW:
        return None, view
    return view, None if view is None else recorded_class(view)


def walk_bytes(
    source: Source,
    ranges: Ranges,
    start: int,
    end: Callable[[Snapshot], int],
    stop: int | None,
    owner: Callable[[], Owner],
) -> Generator[Any, None, None]:
    """Event buffers of a walk that is not of one stream. The first item is None: started."""
    slices = walk_blocks(source, ranges, start, end, stop, owner, reverse=False)
    block = payload = item = scattered = None
    try:
        yield next(slices)
        for item in slices:
            assert item is not None
            _, block, low, high, _, scattered = item
            if scattered is not None:
                yield from [_bytes(*event) for event in scattered]
                continue
            assert block is not None
            payload = block.payload()
            cuts = [0, *block.ends()]
            cut = cuts[low - block.first : high - block.first + 1]
            yield from map(payload.__getitem__, map(slice, cut, cut[1:]))
    except StoreClosing:
        slices.close()
        path = source.engine.path
        del slices, block, payload, item, scattered
        yield None
        raise StoreClosed(f"{path} was told to close, which ended this iterator") from None


def _bytes(placed: tuple[Any, memoryview], sequence: int, *_rest: int) -> memoryview:
    places, data = placed  # EventPlaces: of a walk that is not of one stream
    *_, start, end = places.locate(data, sequence - places.first)
    return data[start:end]


def recorded_at(
    snapshot: Snapshot, sequence: int, view_class: ViewClass, of: tuple[int, int] | None = None
) -> Recorded[Any] | None:
    """One recorded event over a heap copy of its block, so that keeping it holds no snapshot. ``of``: stream number and stream
    sequence that the index says it has."""
    if sequence >= snapshot.next_sequence:
        return None
    block = snapshot.block(sequence, copy=True)
    index = sequence - block.first
    run, run_at = block.run_of(index)
    if of is not None and of != (run.stream, run.first_stream_sequence + index - run_at):
        raise snapshot.index_wrong(sequence)
    view = view_class(snapshot, run.type, sequence)
    if view is None:
        return None
    event = object.__new__(view)
    event._b = block.data
    event._o = snapshot.span(block, sequence)[0]
    recorded: Recorded[Any] = object.__new__(recorded_class(view))
    recorded._event = event
    recorded._sequence = sequence
    recorded._shift = run.first_stream_sequence - block.first - run_at
    recorded._stream = snapshot.catalog.stream(snapshot, run.stream)
    recorded._block = block
    return recorded


def first_at(snapshot: Snapshot, time_ns: int) -> int:
    """The first global sequence whose commit was recorded at or after a time: bisection, since times never go
    backwards. Raises ``Archived`` where it may be below the horizon."""
    low, high = snapshot.first_sequence, snapshot.next_sequence
    if low and time_ns <= snapshot.archived_until_ns:
        raise snapshot.archived("what was recorded then")
    while low < high:
        block = snapshot.block((low + high) // 2)
        if block.last_time_ns < time_ns:
            low = block.end
        elif block.commit_of(0)[1] >= time_ns:
            high = block.first
        else:
            sequences = zip(block.commit_firsts(), block.commit_times(), strict=True)
            return next(int(max(first, block.first)) for first, recorded_ns in sequences if recorded_ns >= time_ns)
    return min(low, snapshot.next_sequence)
