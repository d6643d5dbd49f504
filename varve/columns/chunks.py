"""Chunks: many events of a walk in one piece of memory, and what is recorded beside them as arrays.

A chunk is a copy, or lies in the map until the next one is asked for: then it is released, whoever still holds it. numpy's cost
per call is paid once per chunk, not per block, however short the blocks and runs of a log are.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from varve import limits
from varve.codec import EventType, event_type
from varve.columns.tables import Bytes, Head, ListedTable, Places, Table, find_head
from varve.deferred import Deferred
from varve.replay import Owner, Ranges, ViewClass
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from varve.engine.catalog import StreamIdentity
    from varve.engine.snapshot import Snapshot

    Array = npt.NDArray[Any]
    Ints = npt.NDArray[np.int64]


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


def comes_as(view: Any) -> EventType | None:
    """What events come as that a reader resolved to this class of views; None for an ``UnknownEvent``."""
    cls = view.gives() if issubclass(view, Deferred) else view
    return None if cls is UnknownEvent else type_of(cls)


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
        return comes_as(self.view)

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
        chunk, starts = self.chunk, self.starts
        head = chunk.head if self.rows is None else None
        if head is None:
            head = find_head(chunk.data, starts)
            if head is None:
                return ListedTable(chunk.data, chunk.data.targets(starts))
            if self.rows is None and chunk.learn is not None:
                chunk.learn(head)
        return head.tables(starts)

    @cached_property
    def events(self) -> list[Any]:
        """The events themselves, each over bytes of its own: as an iterator would give them, made once."""
        chunk, view = self.chunk, self.view
        rows = range(self.count) if self.rows is None else self.rows.tolist()
        ends = chunk.find_ends().tolist()
        made = []
        for row, start in zip(rows, self.starts.array().tolist(), strict=True):
            raw = chunk.data.raw[start : ends[row]].tobytes()
            event = object.__new__(view)
            event._b = raw
            event._o = 0
            made.append(event.finish(raw, chunk.sequence(row)) if isinstance(event, Deferred) else event)
        return made


@dataclass
class Chunk:
    """Consecutive events of a walk. Valid until the next chunk is asked for: the memory is used again."""

    count: int
    data: Bytes
    starts: Places
    """Where the events begin."""
    find_ends: Callable[[], Ints]
    """Where they end, for the few who ask."""
    sequences: list[tuple[int, int]]
    """First global sequence, and the one behind the last, of the stretches of the log that it is made of."""
    find_runs: Callable[[], Runs]
    commits: Commits | None
    """None where nobody asked for them."""
    known: Known
    type: int | None = None
    """The type number of all events, where that is known without the runs."""
    head: Head | None = None
    """What all events begin with, where that is known."""
    learn: Callable[[Head], None] | None = None
    """To be told what all events begin with."""

    @cached_property
    def runs(self) -> Runs:
        """The runs that the events are of."""
        return self.find_runs()

    @cached_property
    def groups(self) -> list[Group]:
        """The events by what they come as."""
        import numpy as np

        if self.type is not None:
            return [Group(self, *self.known.views[self.type], None, self.starts)]
        types = self.runs.types
        numbers = [int(types[0])] if (types == types[0]).all() else np.unique(types).tolist()
        by_view: dict[tuple[Any, str], list[int]] = {}
        for number in numbers:
            by_view.setdefault(self.known.views[number], []).append(number)
        if len(by_view) == 1:
            [(view, name)] = by_view
            return [Group(self, view, name, None, self.starts)]
        each = self.per_run(types)
        groups = []
        for (view, name), of in by_view.items():
            rows = np.flatnonzero(each == of[0] if len(of) == 1 else np.isin(each, of))
            groups.append(Group(self, view, name, rows, self.starts.chosen(rows)))
        return groups

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

        counts = self.runs.counts
        shifts = self.runs.firsts - (np.cumsum(counts) - counts)
        return np.repeat(shifts, counts) + np.arange(self.count, dtype=np.int64)

    def per_run(self, values: Array) -> Array:
        """What is the same throughout a run, for every event."""
        import numpy as np

        return np.repeat(values, self.runs.counts)

    def streams(self) -> list[StreamIdentity]:
        """The stream of each run."""
        return list(map(self.known.identities.__getitem__, self.runs.streams.tolist()))

    def commit_sequences(self) -> Ints:
        """First global sequence of the commit of every event."""
        import numpy as np

        assert self.commits is not None
        return np.repeat(self.commits.firsts, self.commits.counts)

    def times(self) -> Ints:
        """When every event was recorded, in nanoseconds."""
        import numpy as np

        assert self.commits is not None
        return np.repeat(self.commits.times, self.commits.counts)


class Runs(NamedTuple):
    """The runs of a chunk by column: event types, streams, first stream sequences, numbers of events."""

    types: Array
    streams: Array
    firsts: Ints
    counts: Ints


class Commits(NamedTuple):
    """The commits that a chunk's events belong to, by column: first global sequences, times, numbers of events here."""

    firsts: Ints
    times: Ints
    counts: Ints


class Known:
    """What types and streams a walk has met, each held against what the reader wants and the index said.

    ``rows_max``: no more events than this are in the whole walk."""

    def __init__(self, views: ViewClass) -> None:
        self._views = views
        self.views: dict[int, tuple[Any, str]] = {}
        self.identities: dict[int, StreamIdentity] = {}
        self.number: int | None = None
        self.names: frozenset[str] | None = None
        self.rows_max = 0

    def begin(self, owner: Owner, rows_max: int) -> None:
        """Once it is known whose events the walk gives, and how many at most."""
        self.rows_max = rows_max
        self.number = owner if isinstance(owner, int) else None
        self.names = owner if isinstance(owner, frozenset) else None

    def view(self, snapshot: Snapshot, number: int, sequence: int) -> Any:
        """The class of views of a type; None where it is not wanted."""
        if number not in self.views:
            view = self._views(snapshot, number, sequence)
            self.views[number] = view, snapshot.catalog.type(snapshot, number).name
        return self.views[number][0]

    def is_owned(self, snapshot: Snapshot, stream: int) -> bool:
        """Whether a stream is of the names that the walk is of."""
        if stream in self.identities:
            return True
        identity = snapshot.catalog.stream(snapshot, stream)
        if self.names is not None and identity.name not in self.names:
            return False
        self.identities[stream] = identity
        return True

    def trim(self) -> None:
        """Between chunks: memory is bounded, whatever the number of streams."""
        if len(self.identities) > limits.CACHED_STREAMS_MAX:
            self.identities.clear()
