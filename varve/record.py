"""What appends return and reads yield: positions, spans and recorded events."""

from __future__ import annotations

import datetime as dt
import json
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, cast, overload

from typing_extensions import TypeVar, override

from varve.codec import owned
from varve.deferred import Deferred
from varve.engine.catalog import StreamIdentity
from varve.layout.block import Block, EventPlaces, Unread
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    from varve.engine.request import Segment
    from varve.layout.keys import StreamId

E_co = TypeVar("E_co", covariant=True, default=Any)

_EPOCH: Final = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


def to_datetime(time_ns: int) -> dt.datetime:
    """Nanoseconds since 1970 as an aware UTC datetime, cut to microseconds; exact, unlike ``fromtimestamp``."""
    return _EPOCH + dt.timedelta(microseconds=time_ns // 1_000)


def to_time_ns(when: dt.datetime) -> int:
    """An aware datetime as nanoseconds since 1970. Raises ``ValueError`` for a naive one."""
    if when.tzinfo is None or when.utcoffset() is None:
        raise ValueError("a naive datetime names no instant: give it a time zone, e.g. datetime.now(timezone.utc)")
    return (when - _EPOCH) // dt.timedelta(microseconds=1) * 1_000


class _Pair(NamedTuple):
    stream_sequence: int
    global_sequence: int


class Position(_Pair):
    """Where an event stands: a tuple of ``stream_sequence`` and ``global_sequence``, both counted from 0.

    ``replayed`` is true where an idempotency key had been used before, so that nothing was written now.
    """

    __slots__ = ()

    @property
    def replayed(self) -> bool:
        """Whether this came from an earlier commit under the same idempotency key."""
        return False


class _ReplayedPosition(Position):
    __slots__ = ()

    @property
    @override
    def replayed(self) -> bool:
        return True

    def __repr__(self) -> str:
        return (
            f"Position(stream_sequence={self.stream_sequence}, global_sequence={self.global_sequence}, replayed=True)"
        )


class Span(Sequence[Position]):
    """Positions of a batch, in the order of its events: a lazy sequence that holds runs, not positions.

    ``replayed`` as in ``Position``.
    """

    __slots__ = ("_ends", "_segments", "replayed")

    def __init__(self, segments: Sequence[Segment], *, replayed: bool = False) -> None:
        self._segments = segments
        self._ends = list(accumulate(count for _, _, count in segments))
        self.replayed = replayed

    def __len__(self) -> int:
        return self._ends[-1] if self._ends else 0

    @overload
    def __getitem__(self, index: int) -> Position: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Position]: ...
    def __getitem__(self, index: int | slice) -> Position | Sequence[Position]:
        if isinstance(index, slice):
            return [self[at] for at in range(*index.indices(len(self)))]
        at = index + len(self) if index < 0 else index
        if not 0 <= at < len(self):
            raise IndexError(f"position {index} of a span of {len(self)}")
        segment = bisect_right(self._ends, at)
        stream_sequence, global_sequence, count = self._segments[segment]
        inside = at - (self._ends[segment] - count)
        kind = _ReplayedPosition if self.replayed else Position
        return kind(stream_sequence + inside, global_sequence + inside)

    def __iter__(self) -> Iterator[Position]:
        kind = _ReplayedPosition if self.replayed else Position
        for stream_sequence, global_sequence, count in self._segments:
            for inside in range(count):
                yield kind(stream_sequence + inside, global_sequence + inside)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Span):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    def __hash__(self) -> int:
        return hash((len(self), self[0] if self else None))

    def __repr__(self) -> str:
        replayed = ", replayed" if self.replayed else ""
        if not self:
            return "Span(empty)"
        first, last = self[0], self[-1]
        return f"Span({len(self)} events, {tuple(first)} .. {tuple(last)}{replayed})"


def position_of(segments: Sequence[Segment], *, replayed: bool) -> Position:
    """The position of a single event."""
    stream_sequence, global_sequence, _ = segments[0]
    return (_ReplayedPosition if replayed else Position)(stream_sequence, global_sequence)


class Recorded(Generic[E_co]):
    """An event as the log holds it. Read-only; equal by position and event.

    The event is a lazy view: its fields are read from the block's bytes when they are asked for. Those bytes stay valid
    for as long as the Recorded, its event or any slice of them lives; where they lie in the memory map that keeps a
    snapshot alive (``varve.owned`` gives a copy that keeps nothing).
    """

    __slots__ = ("_block", "_event", "_sequence", "_shift", "_stream")

    # Set by the readers, one statement each: this is the hottest constructor of the library.
    _block: Block | tuple[EventPlaces | Unread, memoryview]
    """Where it was read alone, what its block is made of when something else of it is asked for than the event."""
    _event: E_co
    _sequence: int
    _shift: int
    _stream: StreamIdentity

    if TYPE_CHECKING:

        @property
        def event(self) -> E_co:
            """The event, an instance of its declared class."""
            ...

        @property
        def global_sequence(self) -> int:
            """Position in the whole log, from 0."""
            ...

    else:
        event = property(attrgetter("_event"), doc="The event, an instance of its declared class.")
        global_sequence = property(attrgetter("_sequence"), doc="Position in the whole log, from 0.")

    @property
    def type(self) -> type[E_co]:
        """The declared class of what ``event`` gives: of an upcast event the new one; ``UnknownEvent`` itself."""
        cls: Any = type(self.event)
        return cast("type[E_co]", cls if cls is UnknownEvent else cls.__varve__.cls)

    @property
    def stream(self) -> str:
        """The stream's name."""
        return self._stream.name

    @property
    def stream_id(self) -> StreamId:
        """The stream's id."""
        return self._stream.stream_id

    @property
    def stream_sequence(self) -> int:
        """Position in its stream, from 0."""
        return self._sequence + self._shift

    def _own_block(self) -> Block:
        block = self._block
        if type(block) is tuple:
            places, data = block
            block = self._block = places.block(data)
        return cast("Block", block)

    def _commit(self) -> tuple[int, int]:
        block = self._own_block()
        return block.commit_of(self._sequence - block.first)

    @property
    def commit_sequence(self) -> int:
        """Global sequence of the first event of the same commit."""
        return self._commit()[0]

    @property
    def time_ns(self) -> int:
        """When it was recorded: nanoseconds since 1970 UTC, never going backwards along the log."""
        return self._commit()[1]

    @property
    def recorded_at(self) -> dt.datetime:
        """When it was recorded, as an aware UTC datetime (``time_ns`` cut to microseconds)."""
        return to_datetime(self.time_ns)

    @property
    def metadata(self) -> Mapping[str, Any] | None:
        """The metadata of its append, decoded anew at each access; None where there is none."""
        block = self._own_block()
        raw = block.metadata_of(self._sequence - block.first)
        return None if raw is None else json.loads(raw)

    @property
    def raw(self) -> memoryview:
        """The event's FlatBuffer: read-only, without a copy, 8-aligned; zero padding up to a multiple of 8 may follow
        it."""
        block = self._own_block()
        start, end = block.span(self._sequence - block.first)
        return block.data[start:end]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Recorded):
            return NotImplemented
        return (
            self._sequence == other._sequence
            and self.stream_sequence == other.stream_sequence
            and self._stream == other._stream
            and self.time_ns == other.time_ns
            and bool(self.event == other.event)
        )

    def __hash__(self) -> int:
        return hash((self._sequence, self._stream))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled and copied with the bytes of its block and a plain event: the copy holds nothing of the map."""
        return _recorded, (
            bytes(self._own_block().data),
            owned(self.event),
            self._sequence,
            self._shift,
            tuple(self._stream),
        )

    def __repr__(self) -> str:
        return (
            f"<Recorded #{self._sequence} {self.stream}/{self.stream_id} [{self.stream_sequence}] "
            f"{self.recorded_at.isoformat()} {owned(self.event)!r}>"
        )


class DeferredRecorded(Recorded[E_co]):
    """A Recorded whose event is made when it is first asked for: upcast from an old type, or an ``UnknownEvent``."""

    __slots__ = ()

    if not TYPE_CHECKING:

        @property
        def event(self) -> Any:
            """The event, an instance of its declared class; made once, at the first access."""
            event = self._event
            if isinstance(event, Deferred):
                event = self._event = event.finish(self.raw, self._sequence)
            return event

    @property
    @override
    def type(self) -> Any:
        """The declared class of what ``event`` gives."""
        event: Any = self._event
        return event.gives() if isinstance(event, Deferred) else super().type


def recorded_class(view_class: Any) -> Any:
    """What holds an event that a reader resolved to this class of views: ``Recorded`` itself, almost always."""
    return DeferredRecorded if view_class is not None and issubclass(view_class, Deferred) else Recorded


def _recorded(frame: bytes, event: Any, sequence: int, shift: int, stream: tuple[str, StreamId]) -> Recorded[Any]:
    """A recorded event from what ``Recorded.__reduce__`` gave."""
    recorded: Recorded[Any] = object.__new__(Recorded)
    recorded._event = event  # noqa: SLF001 - its other constructor
    recorded._sequence = sequence  # noqa: SLF001
    recorded._shift = shift  # noqa: SLF001
    recorded._stream = StreamIdentity(*stream)  # noqa: SLF001
    recorded._block = Block(memoryview(frame))  # noqa: SLF001
    return recorded
