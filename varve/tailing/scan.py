"""Reading the log in bounded steps, over memory of its own: what tails, ``follow`` and consumers stand on.

A step takes one short snapshot (or none, see ``Hub.newest``), copies the blocks that it needs to the heap, and says where
it stopped. The next step begins there, whatever happened meanwhile, so nothing is skipped and nothing repeated where
history turns into the present. A step is bounded in events, bytes, blocks and runs, also where nothing matches.
"""

from __future__ import annotations

import datetime as dt
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final, Generic

from varve import limits
from varve.bindings import UnknownAnywhere
from varve.errors import VarveError
from varve.gaps import GAP_VIEW, Gap
from varve.layout.keys import decode_stream_id
from varve.reader import check_unknown, stream_names, type_names
from varve.record import Recorded, recorded_class, to_time_ns
from varve.replay import Range, ViewClass, first_at, of_names, of_stream, whole_log
from varve.tailing.hub import Hub, hub_of
from varve.tailing.start import TailStart
from varve.typing_support import E

if TYPE_CHECKING:
    from varve.bindings import Bindings
    from varve.engine.catalog import StreamIdentity
    from varve.engine.core import Engine
    from varve.engine.snapshot import Snapshot
    from varve.layout.block import Block

_NO_VIEW: Final = object()


class CopiedBlock:
    """A block on the heap, its columns as lists."""

    __slots__ = ("block", "end", "first", "firsts", "payload", "run_starts", "starts", "streams", "types")

    def __init__(self, block: Block) -> None:
        self.block = block
        self.first = block.first
        self.end = block.end
        self.payload = block.payload()
        self.starts: list[int] = [0, *block.ends().tolist()]
        self.streams, self.types, self.firsts, counts = block.run_lists()
        self.run_starts = list(accumulate(counts, initial=block.first))


_Piece = tuple[CopiedBlock, Any, "StreamIdentity", int, int, int]
"""Block, class of views, stream, shift to stream sequences, first and last + 1 global sequence."""


class Batch(Generic[E]):
    """What a step found: events that are made while one iterates."""

    __slots__ = ("_pieces", "count")

    def __init__(self) -> None:
        self._pieces: list[_Piece] = []
        self.count = 0

    def add(self, piece: _Piece) -> None:
        """Some more events."""
        self._pieces.append(piece)
        self.count += piece[5] - piece[4]

    def add_gap(self, piece: _Piece) -> None:
        """Dropped events, which are given as one."""
        self._pieces.append(piece)
        self.count += 1

    def above(self, floor: Callable[[StreamIdentity], int | None]) -> Batch[E]:
        """Those events that stand at or behind the floor of their stream; none of a stream that has none."""
        kept: Batch[E] = Batch()
        for copied, view, identity, shift, low, high in self._pieces:
            lowest = floor(identity)
            if lowest is not None and lowest < high:
                add = kept.add_gap if view is GAP_VIEW else kept.add
                add((copied, view, identity, shift, max(low, lowest), high))
        return kept

    def behind(self, position: int) -> Batch[E]:
        """Those events that stand at a global sequence or behind it."""
        return self.above(lambda _: position)

    def before(self, stop: int) -> Batch[E]:
        """Those events that stand before a global sequence."""
        kept: Batch[E] = Batch()
        for copied, view, identity, shift, low, high in self._pieces:
            if low < stop:
                add = kept.add_gap if view is GAP_VIEW else kept.add
                add((copied, view, identity, shift, low, min(high, stop)))
        return kept

    @property
    def first(self) -> int:
        """Global sequence of the first event. There has to be one."""
        return self._pieces[0][4]

    @property
    def end(self) -> int:
        """Global sequence behind the last event. There has to be one."""
        return self._pieces[-1][5]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Recorded[E]]:
        new = object.__new__
        for copied, view, identity, shift, low, high in self._pieces:
            if view is GAP_VIEW:
                gap: Recorded[Any] = new(Recorded)
                gap._event = Gap(high - low)
                gap._sequence = low
                gap._shift = shift
                gap._stream = identity
                gap._block = copied.block
                yield gap
                continue
            payload, block, holder = copied.payload, copied.block, recorded_class(view)
            first = copied.first
            for sequence, offset in zip(range(low, high), copied.starts[low - first : high - first], strict=True):
                event = new(view)
                event._b = payload
                event._o = offset
                recorded: Recorded[E] = new(holder)
                recorded._event = event
                recorded._sequence = sequence
                recorded._shift = shift
                recorded._stream = identity
                recorded._block = block
                yield recorded


class Selection:
    """What is read: every stream, the streams of some names (``names``), or one stream (``stream``: name and id key).

    ``view_class`` as in ``replay``; None from it passes events over. ``generation`` changes when its answers do. ``everything``:
    whether it wants every stream, so that nobody has to ask.
    """

    def __init__(
        self,
        view_class: ViewClass,
        *,
        generation: Callable[[], int] = lambda: 0,
        names: Iterable[str] | None = None,
        stream: tuple[str, bytes] | None = None,
    ) -> None:
        self.view_class = view_class
        self.generation = generation
        self.names = None if names is None else frozenset(names)
        self.stream = stream
        self.identity = None if stream is None else (stream[0], decode_stream_id(stream[1]))
        self.everything = names is None and stream is None
        self._ordered = [] if self.names is None else sorted(self.names)

    def wants(self, identity: StreamIdentity) -> bool:
        """Whether a stream is among them."""
        if self.identity is not None:
            return identity == self.identity
        return self.names is None or identity.name in self.names

    def ranges(self, snapshot: Snapshot, at: int, stream_at: int, end: int) -> Iterable[Range]:
        """Where events of it may be, from a global sequence (and from the stream sequence of one stream) on."""
        if self.stream is not None:
            number = snapshot.stream_number(*self.stream)
            if number is None:
                return ()
            return of_stream(number)(snapshot, stream_at, snapshot.stream_length(number), False)
        if self.names is None:
            return whole_log(snapshot, at, end, False)
        return self.named(snapshot, self._ordered, at, end)

    @staticmethod
    def named(snapshot: Snapshot, names: Iterable[str], at: int, end: int) -> Iterable[Range]:
        """Where events of the streams of some names are."""
        catalog = snapshot.catalog
        numbers = [number for name in names if (number := catalog.name_number(snapshot, name)) is not None]
        return of_names(numbers)(snapshot, at, end, False) if numbers else ()


def selection(
    bindings: Bindings,
    streams: Iterable[str] | None = None,
    types: Iterable[type | str] | None = None,
    unknown: UnknownAnywhere = "decode",
) -> Selection:
    """What ``streams=`` and ``types=`` choose, in the classes that the handle has bound. Raises ``InvalidInput`` and kin."""
    names = None if streams is None else stream_names(streams)
    wanted = None if types is None else type_names(types)
    views = partial(bindings.view_class, unknown=check_unknown(unknown, UnknownAnywhere), wanted=wanted)
    return Selection(views, generation=lambda: bindings.generation, names=names)


class Scan(Generic[E]):
    """A position in the log that moves on in steps.

    Attributes: ``position``, the next global sequence to look at: everything before was found or passed over;
    ``caught_up``, whether the last step came to the end of the log as far as it is known; ``looked``, whether it looked at
    the log itself for that, and not only at a copy of a block that is there already; ``found``, what it found. Not
    thread-safe.
    """

    def __init__(self, engine: Engine, selection: Selection, start: TailStart) -> None:
        self.engine = engine
        self.hub: Hub = hub_of(engine)
        self.position = 0
        self.caught_up = False
        self.looked = False
        self._selection = selection
        self._stream_at = 0
        self._from_ns: int | None = None
        self._views: dict[int, Any] = {}
        self._generation = selection.generation()
        self._current: CopiedBlock | None = None
        self._runs_left = 0
        self._events_left = 0
        self.found: Batch[E] = Batch()
        self._begin(start)
        # Where the last step began.
        self._before: tuple[int, int, int | None, bool] = self.position, self._stream_at, self._from_ns, self.caught_up

    def _begin(self, start: TailStart) -> None:
        if isinstance(start, int):
            if self._selection.stream is not None:
                self._stream_at = start
            else:
                self.position = start
            return
        with self.engine.snapshot() as snapshot:
            if isinstance(start, dt.datetime):
                self._from_ns = to_time_ns(start)
                self._seek_time(snapshot)
            else:
                self.position = snapshot.next_sequence
                self._find_stream_position()

    def _seek_time(self, snapshot: Snapshot) -> None:
        """Move to the first event of the time that was asked for; it may be yet to come."""
        assert self._from_ns is not None
        self.position = max(self.position, first_at(snapshot, self._from_ns))
        if self.position < snapshot.next_sequence:
            self._from_ns = None
        self._find_stream_position()

    def _find_stream_position(self) -> None:
        """The stream sequence that belongs to the position, where one stream is read."""
        stream = self._selection.stream
        if stream is not None:
            with self.engine.snapshot(self.position) as snapshot:
                number = snapshot.stream_number(*stream)
                self._stream_at = 0 if number is None else snapshot.stream_length(number)

    # -- stepping ----------------------------------------------------------------------------------

    def step(self, events_max: int = limits.TAIL_EVENTS_MAX) -> Batch[E]:
        """Up to so many events from the position on, which moves behind them. May be empty before the end is reached.

        Raises ``StoreClosed`` and its kin, ``CorruptedBlock``, ``UnexpectedEventType``, ``SchemaConflict``: after
        whatever could be read before them.
        """
        engine = self.engine
        if engine.environment.refusal is not None:
            engine.check_usable()
        if self._generation != self._selection.generation():
            self._generation = self._selection.generation()
            self._views = {}
        batch = self.found = Batch()
        self._before = self.position, self._stream_at, self._from_ns, self.caught_up
        self._events_left = events_max
        self._runs_left = limits.TAIL_RUNS_MAX
        self.looked = False
        try:
            newest = self.hub.newest
            if self.caught_up and (newest is None or newest.end <= self.position):
                newest = self._last_block()
                self.looked = True
            if newest is not None and newest.first <= self.position < newest.end and self._from_ns is None:
                # A copy that is there already: what it holds is committed, and the log never changes.
                self._take(newest, self.position, newest.end)
                self.caught_up = self.position == newest.end
            else:
                self.looked = True
                with engine.snapshot() as snapshot:
                    self._read(snapshot)
        except VarveError:
            if not batch.count:
                raise
            self.caught_up = False  # the next step meets it again
        except BaseException:  # an interrupt, no memory: whoever goes on all the same shall miss nothing
            self.undo()
            raise
        return batch

    def undo(self) -> None:
        """Stand where the last step began: what it found was given to nobody."""
        self.found = Batch()
        self.position, self._stream_at, self._from_ns, self.caught_up = self._before

    def _last_block(self) -> CopiedBlock | None:
        """The end of the log, which is all that most commits bring to a tail that is up to date."""
        block = self.engine.block_after(self.position)
        if block is None:
            return None
        self.hub.watermark.rise(block.end)
        return self._copied(block, block.end)

    def _copied(self, block: Block, end: int) -> CopiedBlock:
        """A copy; everybody's where it is the newest. Nobody keeps a large one for the others."""
        copied = CopiedBlock(block)
        if copied.end == end and len(copied.payload) <= limits.BLOCK_BYTES_MAX:
            self.hub.newest = copied
        return copied

    def _read(self, snapshot: Snapshot) -> None:
        end = snapshot.next_sequence
        self.hub.watermark.rise(end)
        if self._from_ns is not None:
            self._seek_time(snapshot)
        if self.position > end:  # a start in the future
            self.caught_up = True
            return
        bytes_left, blocks_left = limits.TAIL_BYTES_MAX, limits.TAIL_BLOCKS_MAX
        self.caught_up = False
        copied = self._current
        for _, first, count in self._selection.ranges(snapshot, self.position, self._stream_at, end):
            low, high = first, first + count
            while low < high:
                if copied is None or not copied.first <= low < copied.end:
                    if not (bytes_left > 0 and blocks_left):
                        self._current = None
                        return
                    copied = self._copy(snapshot, low, end)
                    bytes_left -= len(copied.payload)
                    blocks_left -= 1
                until = min(high, copied.end)
                self.position = low
                self._take(copied, low, until)
                low = self.position
                if low < until:
                    self._current = copied
                    return
        self._current = None
        self.position = end
        self.caught_up = True

    def _copy(self, snapshot: Snapshot, sequence: int, end: int) -> CopiedBlock:
        newest = self.hub.newest
        if newest is not None and newest.first <= sequence < newest.end:
            return newest
        return self._copied(snapshot.copied_block(sequence), end)

    def _take(self, copied: CopiedBlock, low: int, high: int) -> None:
        """Add what is wanted of ``low .. high``, up to the limits; ``position`` moves behind what was looked at."""
        selection, views, batch = self._selection, self._views, self.found
        streams, types, firsts, run_starts = copied.streams, copied.types, copied.firsts, copied.run_starts
        identities = self.engine.catalog.streams
        everything = selection.everything
        for index in range(bisect_right(run_starts, low) - 1, bisect_right(run_starts, high - 1)):
            if not (self._events_left and self._runs_left):
                return
            self._runs_left -= 1
            begin = run_starts[index]
            shift = firsts[index] - begin
            begin = max(begin, low)
            until = min(run_starts[index + 1], high)
            identity = identities.get(streams[index]) or self._stream(streams[index])
            if selection.identity is not None and begin + shift < self._stream_at:
                begin = min(self._stream_at - shift, until)
            if everything or (begin < until and selection.wants(identity)):
                type_number = types[index]
                view = views.get(type_number, _NO_VIEW)
                if view is _NO_VIEW:
                    view = self._view(type_number, begin)
                if view is GAP_VIEW:
                    batch.add_gap((copied, view, identity, shift, begin, until))
                    self._events_left -= 1
                elif view is not None:
                    until = min(until, begin + self._events_left)
                    batch.add((copied, view, identity, shift, begin, until))
                    self._events_left -= until - begin
                if selection.identity is not None:
                    self._stream_at = until + shift
            self.position = until

    def _stream(self, number: int) -> StreamIdentity:
        with self.engine.snapshot() as snapshot:
            return snapshot.catalog.stream(snapshot, number)

    def _view(self, type_number: int, sequence: int) -> Any:
        with self.engine.snapshot() as snapshot:
            view = self._views[type_number] = self._selection.view_class(snapshot, type_number, sequence)
            return view
