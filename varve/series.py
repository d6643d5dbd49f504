"""Archives and the store that they were taken from, read in a row: one log again.

A series only reads. Each of its calls asks the stores that hold what is wanted: a global sequence lies in exactly one of them,
and where a stream goes on follows from its length at the end of each.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import uuid
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, Literal, Self, TypeVar, overload

from varve.bindings import UnknownAnywhere, UnknownTyped
from varve.errors import InvalidInput
from varve.layout.keys import StreamId
from varve.reader import GlobalReader, StreamReader, stream_names, type_names
from varve.replay import bounds
from varve.typing_support import E
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    from typing_extensions import TypeForm

    from varve.record import Recorded
    from varve.store import Varve
    from varve.stream import Stream

T = TypeVar("T")

Part = tuple[int, int, int]
"""Number of a store, and the range that it holds, in global sequences or in those of one stream."""


class Series:
    """Stores that follow each other, as one log that can be read. Made by ``varve.open`` of a list; ``with`` closes them.

    Attributes: ``stores``, the open stores themselves, oldest first.
    """

    def __init__(self, stores: Sequence[Varve]) -> None:
        """Of open stores, which it closes where they do not follow each other. Raises ``InvalidInput``."""
        self.stores = tuple(stores)
        try:
            self._firsts = _checked(self.stores)
        except BaseException:
            self._release()
            raise

    @property
    def uuid(self) -> uuid.UUID:
        """The identity that all of them share."""
        return self.stores[0].uuid

    @property
    def first_global_sequence(self) -> int:
        """The first global sequence that the first of them holds."""
        return self._firsts[0]

    @property
    def next_global_sequence(self) -> int:
        """The next global sequence of the last of them."""
        return self.stores[-1].next_global_sequence

    def stream(self, name: str, types: TypeForm[E]) -> SeriesStream[E]:
        """The streams of a name and what they hold, as ``Varve.stream``; they can be read."""
        return SeriesStream(self, name, [store.stream(name, types) for store in self.stores])

    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> SeriesReplay:
        """A reader of the whole log, as ``Varve.global_reader``."""
        return SeriesReplay(self, [store.global_reader(unknown=unknown) for store in self.stores])

    def sequence_at(self, when: dt.datetime) -> int:
        """The first global sequence recorded at or after an instant, as ``Varve.sequence_at``."""
        found = 0
        for store in self.stores:
            found = store.sequence_at(when)
            if found < store.next_global_sequence:
                break
        return found

    def at(self, global_sequence: int) -> int:
        """Which of the stores holds a global sequence, or comes nearest to it."""
        return max(0, bisect_right(self._firsts, global_sequence) - 1)

    def parts(self, start: int, stop: int | None, *, reverse: bool) -> list[Part]:
        """The stores that hold global sequences of a range, in the order of the walk, and the part of it that each holds."""
        end = self.next_global_sequence
        stop = end if stop is None else min(stop, end)
        return _cut([*self._firsts, end], start, stop, reverse=reverse)

    def close(self) -> None:
        """Close all of them. Raises ``ViewsStillAlive`` where memory of one of them is in your hands; that one stays open."""
        for store in self.stores:
            store.close()

    def _release(self) -> None:
        with contextlib.ExitStack() as ends:
            for store in self.stores:
                ends.push(store)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._release()

    def __repr__(self) -> str:
        return f"<Series of {', '.join(store.path for store in self.stores)}>"


class SeriesStream(Generic[E]):
    """The streams of one name in a series. Made by ``Series.stream``."""

    def __init__(self, series: Series, name: str, streams: Sequence[Stream[E]]) -> None:
        self._series = series
        self._streams = streams
        self.name = name

    @overload
    def reader(self, *, unknown: Literal["error"] = "error") -> SeriesReader[E]: ...
    @overload
    def reader(self, *, unknown: Literal["event"]) -> SeriesReader[E | UnknownEvent]: ...
    def reader(self, *, unknown: UnknownTyped = "error") -> SeriesReader[Any]:
        """Typed reads, as ``Stream.reader``."""
        readers: list[StreamReader[Any]] = [stream.reader(unknown=unknown) for stream in self._streams]
        return SeriesReader(self._series, self.name, readers)

    def __repr__(self) -> str:
        return f"<SeriesStream {self.name!r} of {self._series!r}>"


class SeriesReader(Generic[E]):
    """Typed reads of the streams of one name, through a series. Made by ``SeriesStream.reader()``; see ``StreamReader``."""

    def __init__(self, series: Series, name: str, readers: Sequence[StreamReader[E]]) -> None:
        self._series = series
        self._readers = readers
        self.name = name

    def get(self, stream_id: StreamId, stream_sequence: int) -> E | None:
        """The event at a position of a stream; None where the stream is shorter, or hides it."""
        reader = self._holding(stream_id, stream_sequence)
        return None if reader is None else reader.get(stream_id, stream_sequence)

    def get_bytes(self, stream_id: StreamId, stream_sequence: int) -> memoryview | None:
        """Its FlatBuffer, read-only, in the map; None where the stream is shorter, or hides it."""
        reader = self._holding(stream_id, stream_sequence)
        return None if reader is None else reader.get_bytes(stream_id, stream_sequence)

    def get_recorded(self, stream_id: StreamId, stream_sequence: int) -> Recorded[E] | None:
        """The event with everything that was recorded beside it; None where the stream is shorter, or hides it."""
        reader = self._holding(stream_id, stream_sequence)
        return None if reader is None else reader.get_recorded(stream_id, stream_sequence)

    def length(self, stream_id: StreamId) -> int:
        """Number of events in a stream."""
        return self._readers[-1].length(stream_id)

    def first_visible(self, stream_id: StreamId) -> int:
        """The first stream sequence that is given of a stream, as the last of the stores has it: its rules hold for all."""
        return self._readers[-1].first_visible(stream_id)

    def stream_ids(self) -> Iterator[StreamId]:
        """The ids of this stream name."""
        return self._readers[-1].stream_ids()

    def iter_stream(
        self, stream_id: StreamId, start: int = 0, stop: int | None = None, *, reverse: bool = False
    ) -> Iterator[Recorded[E]]:
        """Events of one stream, ``start`` and ``stop`` being stream sequences, as of this call; none that is hidden
        (``first_visible``)."""
        start, stop = bounds(start, stop)
        start = max(start, self.first_visible(stream_id))
        ends = [reader.length(stream_id) for reader in self._readers]
        stop = ends[-1] if stop is None else min(stop, ends[-1])
        parts = _cut([0, *ends], start, stop, reverse=reverse)
        return _chained(
            parts, lambda at, low, high: self._readers[at].iter_stream(stream_id, low, high, reverse=reverse)
        )

    def iter_all(self, start: int = 0, stop: int | None = None, *, reverse: bool = False) -> Iterator[Recorded[E]]:
        """Events of every stream of this name in global order, ``start`` and ``stop`` being global sequences, as of this
        call."""
        start, stop = bounds(start, stop)
        parts = self._series.parts(start, stop, reverse=reverse)
        return _chained(parts, lambda at, low, high: self._readers[at].iter_all(low, high, reverse=reverse))

    def _holding(self, stream_id: StreamId, stream_sequence: int) -> StreamReader[E] | None:
        """The reader of the store that holds an event, or the last one; None where it is hidden."""
        if isinstance(stream_sequence, int) and stream_sequence < self.first_visible(stream_id):
            return None
        for reader in self._readers[:-1]:
            if isinstance(stream_sequence, int) and stream_sequence < reader.length(stream_id):
                return reader
        return self._readers[-1]

    def __repr__(self) -> str:
        return f"<SeriesReader {self.name!r} of {self._series!r}>"


class SeriesReplay:
    """Replays of a whole series in the order of commits. Made by ``Series.global_reader()``; see ``GlobalReader``."""

    def __init__(self, series: Series, readers: Sequence[GlobalReader]) -> None:
        self._series = series
        self._readers = readers

    def get(self, global_sequence: int) -> Recorded[Any] | None:
        """The event at a global sequence; None past the end."""
        return self._holding(global_sequence).get(global_sequence)

    def get_bytes(self, global_sequence: int) -> memoryview | None:
        """The FlatBuffer of an event, read-only, in the map; None past the end."""
        return self._holding(global_sequence).get_bytes(global_sequence)

    def iter_from(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        reverse: bool = False,
        streams: Iterable[str] | None = None,
        types: Iterable[type | str] | None = None,
    ) -> Iterator[Recorded[Any]]:
        """Recorded events from a global sequence on, as of this call. Arguments as ``GlobalReader.iter_from``."""
        start, stop = bounds(start, stop)
        names = None if streams is None else stream_names(streams)
        wanted = None if types is None else type_names(types)
        return _chained(
            self._series.parts(start, stop, reverse=reverse),
            lambda at, low, high: self._readers[at].iter_from(low, high, reverse=reverse, streams=names, types=wanted),
        )

    def iter_bytes(self, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """The events' FlatBuffers from a global sequence on, read-only, without a copy."""
        start, stop = bounds(start, stop)
        parts = self._series.parts(start, stop, reverse=False)
        return _chained(parts, lambda at, low, high: self._readers[at].iter_bytes(low, high))

    def _holding(self, global_sequence: int) -> GlobalReader:
        start, _ = bounds(global_sequence, None)
        return self._readers[self._series.at(start)]

    def __repr__(self) -> str:
        return f"<SeriesReplay of {self._series!r}>"


def _checked(stores: Sequence[Varve]) -> list[int]:
    """Where each store begins. Raises ``InvalidInput`` unless they are one log, in order."""
    firsts = [store.first_global_sequence for store in stores]
    for (before, after), first in zip(pairwise(stores), firsts[1:], strict=True):
        if before.uuid != after.uuid:
            raise InvalidInput(f"{after.path} and {before.path} are different stores ({after.uuid}, {before.uuid})")
        end = before.next_global_sequence
        if end != first:
            raise InvalidInput(
                f"{after.path} begins at global sequence {first}, {before.path} before it ends at {end}: name every archive, "
                "oldest first, and the store last"
            )
    return firsts


def _cut(ends: Sequence[int], start: int, stop: int, *, reverse: bool) -> list[Part]:
    """A range, cut where the stores end. What lies before the first one is left to that: it knows what to say."""
    parts = []
    for index, (first, until) in enumerate(pairwise(ends)):
        low, high = max(start, first) if index else start, min(stop, until)
        if low < high:
            parts.append((index, low, high))
    return parts[::-1] if reverse else parts


def _chained(parts: Sequence[Part], walk: Callable[[int, int, int], Iterator[T]]) -> Iterator[T]:
    """One walk after the other, each begun when its turn comes: none of them holds an instant that it does not read. The oldest
    store's is begun at once, so that what was archived before it is told at the call."""
    oldest = {part: walk(*part) for part in parts if not part[0]}

    def chained() -> Iterator[T]:
        for part in parts:
            yield from oldest.pop(part) if part in oldest else walk(*part)

    return chained()
