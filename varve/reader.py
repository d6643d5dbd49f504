"""Readers: typed reads of one stream name, and replays of the whole log.

A reader is cheap and holds nothing between calls: no transaction, no slot, no memory of the map.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from time import monotonic
from typing import TYPE_CHECKING, Any, Generic, cast, get_args

from varve import limits
from varve.bindings import UnknownAnywhere, UnknownTyped, steps_to, unreadable, unreadable_error
from varve.codec import EventType, event_type
from varve.deferred import Deferred, unknown_view, upcast_view
from varve.errors import InvalidInput, UnexpectedEventType
from varve.gaps import GAP, GAP_VIEW, STAND_IN
from varve.layout import keys
from varve.layout.keys import StreamId, encode_stream_id
from varve.layout.records import decode_stream_number
from varve.layout.runs import decode_runs
from varve.record import Recorded
from varve.replay import (
    Owner,
    Range,
    Ranges,
    bounds,
    of_names,
    of_stream,
    recorded_at,
    tracked,
    walk_bytes,
    walk_events,
    whole_log,
)
from varve.retention import Rules, rules_of
from varve.typing_support import E
from varve.upcasts import REGISTRY

if TYPE_CHECKING:
    import pyarrow as pa

    from varve.bindings import Bindings
    from varve.columns.chunks import Walk
    from varve.columns.read import Array
    from varve.engine.snapshot import Snapshot
    from varve.replay import Source, ViewClass


_HASHED_IDS = frozenset((int, str, uuid.UUID))
"""Ids of exactly these classes can be looked up in a dict: ``True`` and ``1.0`` equal an id, too."""


class StreamReader(Generic[E]):
    """Typed reads of the streams of one name. Made by ``Stream.reader()`` and ``Snapshot.reader()``.

    Events of a type that ``varve.upcast`` leads to a declared one come as that one; those of a declared type as they are.
    An event of any other type raises ``UnexpectedEventType``, or comes as an ``UnknownEvent`` where the reader was made with
    ``unknown="event"``.
    """

    __slots__ = ("_known", "_known_event", "_plain", "_rules", "_source", "_types", "_unknown", "_views", "name")

    def __init__(self, source: Source, name: str, types: dict[str, EventType], unknown: UnknownTyped = "error") -> None:
        self._source = source
        self.name = name
        self._types = types
        self._unknown = check_unknown(unknown, UnknownTyped)
        self._views: dict[int, Any] = {}
        self._plain: dict[
            int, Any
        ] = {}  # those of them that are classes of views: empty in a reader that has read nothing yet
        self._known = source.engine.known_streams.of(name)
        self._known_event = source.known_event
        self._rules = rules_of(source.engine)

    def __repr__(self) -> str:
        return f"<StreamReader {self.name!r} of {' | '.join(self._types)}>"

    def get(self, stream_id: StreamId, stream_sequence: int) -> E | None:
        """The event at a position of a stream; None where the stream is shorter, or hides it (``first_visible``).

        The event is a lazy view over a copy of its bytes (in the map, which keeps a snapshot alive, where it is larger
        than 4 KiB); one that was upcast is what the function gave. Raises ``InvalidStreamId``, ``InvalidInput``,
        ``UnexpectedEventType``, ``SchemaConflict``, ``CorruptedBlock``, ``UpcastError`` and what an upcast raises.
        """
        if type(stream_sequence) is int and type(stream_id) in _HASHED_IDS:
            known = self._known.get(stream_id)
            if known is not None and self._plain and monotonic() < self._rules.none_until_s:
                found = self._known_event(known, stream_sequence)
                if found is not None:
                    view = self._plain.get(found[0])
                    if view is not None:
                        event = object.__new__(view)
                        event._b = found[1]
                        event._o = 0
                        given: E = event
                        return given
        return self._get(stream_id, stream_sequence)

    def _get(self, stream_id: StreamId, stream_sequence: int) -> E | None:
        """``get`` by the index; what it finds is remembered."""
        snapshot = self._begin()
        try:
            number, sequence = self._locate(snapshot, stream_id, stream_sequence, remember=True) or (0, -1)
            if sequence < 0:
                return None
            type_number, buffer = snapshot.event(sequence, number, stream_sequence)
            view = self._views.get(type_number) or self._view(snapshot, type_number, sequence)
            if view is None:
                return None
            event = object.__new__(view)
            event._b = buffer
            event._o = 0
            if isinstance(event, Deferred):
                event = event.finish(buffer, sequence)
            return cast("E", event)
        finally:
            self._source.end(snapshot)

    def get_bytes(self, stream_id: StreamId, stream_sequence: int) -> memoryview | None:
        """The FlatBuffer of the event at a position, read-only, in the map; None where the stream is shorter, or hides it.

        It stays valid and unchanged for as long as it or any slice of it lives, and keeps its snapshot alive for so
        long.
        """
        snapshot = self._begin()
        try:
            found = self._locate(snapshot, stream_id, stream_sequence)
            if found is None:
                return None
            raw = snapshot.event_bytes(found[1], found[0], stream_sequence)
            if raw == STAND_IN:  # or an event that looks like one
                type_number, _ = snapshot.event(found[1], found[0], stream_sequence)
                if snapshot.catalog.type(snapshot, type_number).name == GAP.name:
                    return None
            return raw
        finally:
            self._source.end(snapshot)

    def get_recorded(self, stream_id: StreamId, stream_sequence: int) -> Recorded[E] | None:
        """The event at a position with everything that was recorded beside it; None where the stream is shorter."""
        snapshot = self._begin()
        try:
            found = self._locate(snapshot, stream_id, stream_sequence)
            if found is None:
                return None
            return recorded_at(snapshot, found[1], self._view, (found[0], stream_sequence))
        finally:
            self._source.end(snapshot)

    def length(self, stream_id: StreamId) -> int:
        """Number of events in a stream, which is its next stream sequence; 0 if it was never written."""
        id_key = encode_stream_id(stream_id)
        snapshot = self._source.begin()
        try:
            number = snapshot.stream_number(self.name, id_key)
            return 0 if number is None else snapshot.stream_length(number)
        finally:
            self._source.end(snapshot)

    def first_visible(self, stream_id: StreamId) -> int:
        """The first stream sequence that is given of a stream: 0, unless ``Stream.retain`` or ``truncate_before`` hide its oldest
        events; the stream's length where they hide all of them."""
        id_key = encode_stream_id(stream_id)
        snapshot = self._begin()
        try:
            number = snapshot.stream_number(self.name, id_key)
            return 0 if number is None else self._rules.first_visible(snapshot, self.name, id_key, number)
        finally:
            self._source.end(snapshot)

    def iter_stream(
        self, stream_id: StreamId, start: int = 0, stop: int | None = None, *, reverse: bool = False
    ) -> Iterator[Recorded[E]]:
        """Events of one stream, ``start`` and ``stop`` being stream sequences, as of this call; none that is hidden
        (``first_visible``)."""
        id_key = encode_stream_id(stream_id)
        start, stop = bounds(start, stop)
        self._rules.look()  # as in _begin
        return self._walk(lambda snapshot: self._stream_ranges(snapshot, id_key), start, stop, reverse=reverse)

    def iter_all(self, start: int = 0, stop: int | None = None, *, reverse: bool = False) -> Iterator[Recorded[E]]:
        """Events of every stream of this name in global order, ``start`` and ``stop`` being global sequences, as of
        this call."""
        start, stop = bounds(start, stop)
        return self._walk(self._all_ranges, start, stop, reverse=reverse)

    def columns(
        self, columns: Iterable[str], stream_id: StreamId | None = None, start: int = 0, stop: int | None = None
    ) -> dict[str, Array]:
        """Fields of many events as numpy arrays, by name, as of this call (extra ``columns``).

        Without ``stream_id`` the events of every stream of this name in global order, ``start`` and ``stop`` being global
        sequences, as ``iter_all`` gives them; with one the events of that stream, ``start`` and ``stop`` being its sequences, as
        ``iter_stream`` does. All arrays are of one length, and own their memory: they hold no snapshot.

        A column is a field's name; a dotted path into nested events and structs (``"address.city"``); or one of
        ``$global_sequence``, ``$stream_sequence``, ``$commit_sequence`` (int64), ``$time`` (datetime64[ns], UTC), ``$stream_id``
        (uint64 where all are ints, else objects), ``$stream`` and ``$type`` (names).

        Numbers, bools and enums come as numbers of their declared width, datetimes as datetime64[ns], UUIDs as V16 (their bytes);
        where the declared types allow for no value (``T | None``, or a type of the stream lacks the field) as a masked array.
        Everything else comes in arrays of objects, with None for no value: str, bytes, Decimal, vectors of numbers as arrays,
        other vectors as tuples, nested events, structs and members of unions as plain instances. Numbers, bools, enums,
        datetimes and UUIDs are read without a Python loop over events, unless these are upcast.

        Raises ``MissingExtra``, ``InvalidInput`` (no such column), ``ColumnConflict`` (a field is not of one type in all of the
        stream's event types), and what iterators raise.
        """
        from varve.columns.read import read_columns

        walk = self._column_walk(stream_id, start, stop)
        return read_columns(self._source, walk, columns, self._types.values(), unknown=self._unknown == "event")

    def to_arrow(
        self,
        columns: Iterable[str] | None = None,
        stream_id: StreamId | None = None,
        start: int = 0,
        stop: int | None = None,
        batch_size: int = 65_536,
    ) -> pa.RecordBatchReader:
        """Events as a stream of Arrow record batches (a ``pyarrow.RecordBatchReader``), as of this call (extra ``arrow``).

        ``columns`` are named as those of ``columns()``, and ``stream_id``, ``start`` and ``stop`` mean the same; without
        ``columns`` every field of the declared event types, and ``$type`` where there are several. A batch has at most
        ``batch_size`` events, fewer where these are large; memory stays bounded by it. Between batches a snapshot may be held,
        renewed as an iterator's is; it ends with the last batch, when the reader is dropped, or with the store.

        Types: numbers and enums as numbers of their declared width; str and Decimal as string; bytes as binary; datetime as
        timestamp[ns, UTC]; UUID, and ids that are one, as fixed_size_binary[16]; nested events and structs as struct; vectors as
        list. ``$stream_id`` is uint64 or string as the ids of the stream's name are.

        Raises ``MissingExtra``, ``InvalidInput`` (no such column), ``ColumnConflict`` (a field is not of one type in all event
        types, or holds a union or an event that can hold itself); the batches raise what iterators raise.
        """
        from varve.columns.arrow import read_arrow

        walk = self._column_walk(stream_id, start, stop)
        return read_arrow(
            self._source,
            walk,
            columns,
            self._types.values(),
            lambda snapshot: _id_kinds(snapshot, self.name, stream_id),
            batch_size,
            unknown=self._unknown == "event",
        )

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The Arrow PyCapsule protocol, by which polars, pandas and duckdb read this reader itself: ``to_arrow()`` as a C stream.
        A requested schema chooses columns by name, and their types as far as they can be cast."""
        from varve.columns.arrow import requested_names

        if requested_schema is None:
            return self.to_arrow().__arrow_c_stream__()
        names, schema = requested_names(requested_schema)
        return self.to_arrow(names).cast(schema).__arrow_c_stream__()

    def stream_ids(self) -> Iterator[StreamId]:
        """The ids of this stream name as of this call: ints, then strs, then UUIDs, each in order.

        Memory is bounded, and no snapshot is held between steps (unless the reader is a snapshot's).
        """
        snapshot = self._source.begin()
        try:
            number = snapshot.catalog.name_number(snapshot, self.name)
            streams = snapshot.record.next_stream  # streams that come later have numbers from here on
        finally:
            self._source.end(snapshot)
        return iter(()) if number is None else self._stream_ids(keys.stream_lookup_key(number, b""), streams)

    def _stream_ids(self, prefix: bytes, streams: int) -> Iterator[StreamId]:
        after: bytes | None = None
        while True:
            snapshot = self._source.begin()
            try:
                chunk = snapshot.meta_chunk(prefix, after)
                found = [
                    keys.decode_stream_id(key[len(prefix) :])
                    for key, value in chunk
                    if (stream := decode_stream_number(value)) < streams
                    and (snapshot.limit is None or snapshot.stream_length(stream))
                ]
            finally:
                self._source.end(snapshot)
            if not chunk:
                return
            after = chunk[-1][0]
            yield from found

    # -- inside ------------------------------------------------------------------------------------

    def _column_walk(self, stream_id: StreamId | None, start: int, stop: int | None) -> Walk:
        start, stop = bounds(start, stop)
        if stream_id is None:
            return _column_walk(self._all_ranges, start, stop, self._view)
        id_key = encode_stream_id(stream_id)
        self._rules.look()  # as in _begin
        return _column_walk(lambda snapshot: self._stream_ranges(snapshot, id_key), start, stop, self._view)

    def _all_ranges(self, snapshot: Snapshot) -> Found:
        """Where the events of every stream of this name are."""
        return name_ranges(snapshot, [self.name])

    def _stream_ranges(self, snapshot: Snapshot, id_key: bytes) -> Found:
        return _stream_ranges(snapshot, self._rules, self.name, id_key)

    def _locate(
        self, snapshot: Snapshot, stream_id: StreamId, stream_sequence: int, *, remember: bool = False
    ) -> tuple[int, int] | None:
        """Stream number and global sequence of an event, by the index."""
        if type(stream_sequence) is not int or stream_sequence < 0:
            raise InvalidInput(f"a stream sequence is an int from 0 on, not {stream_sequence!r}")
        id_key = encode_stream_id(stream_id)
        number = snapshot.stream_number(self.name, id_key)
        if number is None or stream_sequence > limits.EVENTS_MAX:
            return None
        if self._rules.look():
            remember = False  # what is found without asking the index is found without asking for rules
            if stream_sequence < self._rules.first_visible(snapshot, self.name, id_key, number):
                return None
        found = snapshot.find_event(number, stream_sequence)
        if found is None:
            return None
        sequence, position, value = found
        if remember and type(stream_id) in _HASHED_IDS:
            self._source.engine.known_streams.add(self.name, stream_id, number, position, decode_runs(value))
        return number, sequence

    def _view(self, snapshot: Snapshot, type_number: int, sequence: int) -> Any:
        """What stands for the views of a type number; None for events that compaction dropped. Raises ``UnexpectedEventType``,
        ``SchemaConflict``."""
        view = self._views.get(type_number)
        if view is None:
            view = self._resolve(snapshot, type_number, sequence)
            if view is None:
                return None
            self._views[type_number] = view
            if not issubclass(view, Deferred):
                self._plain[type_number] = view
        return view

    def _resolve(self, snapshot: Snapshot, type_number: int, sequence: int) -> Any:
        stored = snapshot.catalog.type(snapshot, type_number)
        name = stored.name
        if name == GAP.name:
            return None
        steps = steps_to(self._types, name, REGISTRY.path(name))
        if steps is not None and steps and self._types[steps[-1].new_name].cls is not steps[-1].new_class:
            steps = None  # another class of that name
        if steps is None:
            if self._unknown == "event":
                return unknown_view(name)
            raise UnexpectedEventType(
                f"stream {self.name!r} holds a {name!r} at global sequence {sequence}, which this stream does not declare "
                f"({' | '.join(self._types)}) and no upcast leads to what it declares: add it to db.stream(...), or read with "
                "db.global_reader()",
                stream=self.name,
                type_name=name,
                global_sequence=sequence,
            )
        known = steps[0].old_type if steps else self._types[name]
        reasons = unreadable(known, stored.schema)
        if reasons:
            if self._unknown == "event":
                return unknown_view(name)
            raise unreadable_error(name, sequence, reasons)
        return upcast_view(known, steps) if steps else known.view_class

    def _begin(self) -> Snapshot:
        """A snapshot in which rules can be read: LMDB's transactions know the tables that were open when they began."""
        self._rules.look()
        return self._source.begin()

    def _walk(
        self, find: Callable[[Snapshot], Found], start: int, stop: int | None, *, reverse: bool
    ) -> Iterator[Recorded[E]]:
        return _walk(self._source, find, start, stop, self._view, reverse=reverse)


class GlobalReader:
    """Replays of the whole log, in the order of commits. Made by ``db.global_reader()`` and
    ``Snapshot.global_reader()``.

    Events of an old type of ``varve.upcast`` come as the newest that its upcasts lead to. Others whose class this process
    has bound to a stream come as that class; the rest as a class made from the schema in the log, with the same attributes,
    or as the reader was asked (``db.global_reader(unknown=...)``).
    """

    __slots__ = ("_bindings", "_source", "_unknown", "_view")

    def __init__(self, source: Source, bindings: Bindings, unknown: UnknownAnywhere = "decode") -> None:
        self._source = source
        self._bindings = bindings
        self._unknown = check_unknown(unknown, UnknownAnywhere)
        self._view = partial(bindings.view_class, unknown=self._unknown)

    def __repr__(self) -> str:
        return f"<GlobalReader, unknown={self._unknown!r}>"

    def get(self, global_sequence: int) -> Recorded[Any] | None:
        """The event at a global sequence; None past the end. It holds no snapshot (see ``StreamReader.get``)."""
        start, _ = bounds(global_sequence, None)
        snapshot = self._source.begin()
        try:
            return recorded_at(snapshot, start, self._view)
        finally:
            self._source.end(snapshot)

    def get_bytes(self, global_sequence: int) -> memoryview | None:
        """The FlatBuffer of an event, read-only, in the map; None past the end. Lives as ``StreamReader.get_bytes``
        says."""
        start, _ = bounds(global_sequence, None)
        snapshot = self._source.begin()
        try:
            return snapshot.event_bytes(start) if start < snapshot.next_sequence else None
        finally:
            self._source.end(snapshot)

    def iter_from(
        self,
        start: int = 0,
        stop: int | None = None,
        *,
        reverse: bool = False,
        streams: Iterable[str] | None = None,
        types: Iterable[type | str] | None = None,
    ) -> Iterator[Recorded[Any]]:
        """Recorded events from a global sequence on, as of this call.

        ``streams`` (names) and ``types`` (event classes or type names) keep only those; blocks without a wanted stream
        are not read. Events that ``varve.upcast`` leads to one of ``types`` are kept too, as the first of them on their way;
        those of an old type that is itself among ``types`` come as they were written.
        """
        start, stop = bounds(start, stop)
        views = self._view if types is None else partial(self._view, wanted=type_names(types))
        return _walk(self._source, self._find(streams), start, stop, views, reverse=reverse)

    def iter_stream(
        self,
        stream: str,
        stream_id: StreamId,
        start: int = 0,
        stop: int | None = None,
        *,
        reverse: bool = False,
        types: Iterable[type | str] | None = None,
    ) -> Iterator[Recorded[Any]]:
        """Events of one stream by its name and id, as of this call: ``StreamReader.iter_stream`` where the classes need not be
        known, hidden events left out as there. ``start`` and ``stop`` are stream sequences, ``types`` as in ``iter_from``."""
        name, id_key = keys.check_name(stream), encode_stream_id(stream_id)
        start, stop = bounds(start, stop)
        views = self._view if types is None else partial(self._view, wanted=type_names(types))
        rules = rules_of(self._source.engine)
        rules.look()  # as in StreamReader._begin
        find = partial(_stream_ranges, rules=rules, name=name, id_key=id_key)
        return _walk(self._source, find, start, stop, views, reverse=reverse)

    def columns(
        self,
        columns: Iterable[str],
        start: int = 0,
        stop: int | None = None,
        *,
        streams: Iterable[str] | None = None,
        types: Iterable[type | str] | None = None,
    ) -> dict[str, Array]:
        """Fields of the events that ``iter_from`` gives, as ``StreamReader.columns`` gives them. Whether an array is masked
        follows from the types that were met; a name that no event type of the store has raises ``InvalidInput``."""
        from varve.columns.read import read_columns

        start, stop = bounds(start, stop)
        views = self._view if types is None else partial(self._view, wanted=type_names(types))
        wanted = _without_gaps(views)
        walk = _column_walk(self._find(streams), start, stop, wanted)
        return read_columns(self._source, walk, columns, None, others=self._all_types)

    def _find(self, streams: Iterable[str] | None) -> Callable[[Snapshot], Found]:
        """Where the events of every stream, or of those of some names, are."""
        if streams is None:
            return lambda _: (whole_log, _log_end, None)
        names = stream_names(streams)
        return lambda snapshot: name_ranges(snapshot, names)

    def _all_types(self) -> list[EventType]:
        """What events of this store can come as."""
        from varve.columns.chunks import comes_as

        snapshot = self._source.begin()
        try:
            views = [self._bindings.view_class(snapshot, number) for number in range(snapshot.record.next_type)]
        finally:
            self._source.end(snapshot)
        return [known for view in views if view is not GAP_VIEW and (known := comes_as(view)) is not None]

    def iter_bytes(self, start: int = 0, stop: int | None = None) -> Iterator[memoryview]:
        """The events' FlatBuffers from a global sequence on, read-only, without a copy: the fastest way over
        everything.

        Each stays valid for as long as it or any slice of it lives; zero padding up to a multiple of 8 may follow the
        buffer.
        """
        start, stop = bounds(start, stop)
        ranges, end, owner = _found_once(self._find(None))
        return tracked(self._source.engine, walk_bytes(self._source, ranges, start, end, stop, owner))


def _without_gaps(views: ViewClass) -> ViewClass:
    """What columns pass over, too."""

    def found(snapshot: Snapshot, type_number: int, sequence: int) -> Any:
        view = views(snapshot, type_number, sequence)
        return None if view is GAP_VIEW else view

    return found


def check_unknown(unknown: Any, allowed: Any) -> Any:
    """An ``unknown=`` argument. Raises ``InvalidInput``."""
    if not isinstance(unknown, str) or unknown not in get_args(allowed):
        raise InvalidInput(f"unknown= is one of {', '.join(map(repr, get_args(allowed)))}, not {unknown!r}")
    return unknown


def stream_names(streams: Iterable[str]) -> list[str]:
    """A ``streams=`` argument, checked. Raises ``InvalidInput``, ``InvalidName``."""
    if isinstance(streams, str) or not isinstance(streams, Iterable):
        raise InvalidInput(f"streams= takes an iterable of stream names such as ['orders'], not {streams!r}")
    return list(dict.fromkeys(map(keys.check_name, streams)))


def type_names(types: Iterable[type | str]) -> frozenset[str]:
    """A ``types=`` argument, checked. Raises ``InvalidInput``, ``SchemaError``."""
    if isinstance(types, str | type) or not isinstance(types, Iterable):
        raise InvalidInput(f"types= takes an iterable of event classes or type names, not {types!r}")
    return frozenset(wanted if isinstance(wanted, str) else event_type(wanted).name for wanted in types)


def _walk(
    source: Source, find: Callable[[Snapshot], Found], start: int, stop: int | None, views: ViewClass, *, reverse: bool
) -> Iterator[Recorded[Any]]:
    """A tracked walk."""
    ranges, end, owner = _found_once(find)
    return tracked(source.engine, walk_events(source, ranges, start, end, stop, views, owner, reverse=reverse))


def _column_walk(find: Callable[[Snapshot], Found], start: int, stop: int | None, views: ViewClass) -> Walk:
    """The same walk for columns."""
    from varve.columns.chunks import Walk

    ranges, end, owner = _found_once(find)
    return Walk(ranges, start, end, stop, views, owner)


def _found_once(find: Callable[[Snapshot], Found]) -> tuple[Ranges, Callable[[Snapshot], int], Callable[[], Owner]]:
    """What to walk is found once, in the snapshot that fixes the bounds."""
    found: list[Found] = []

    def end(snapshot: Snapshot) -> int:
        found.append(find(snapshot))
        return found[0][1](snapshot)

    def pieces(snapshot: Snapshot, low: int, high: int, backwards: bool) -> Iterable[Sequence[Range]]:
        return found[0][0].pieces(snapshot, low, high, backwards)

    def owner() -> Owner:
        return found[0][2]

    return Ranges(pieces), end, owner


_nothing = Ranges(lambda _snapshot, _start, _stop, _reverse: ())


def _log_end(snapshot: Snapshot) -> int:
    return snapshot.next_sequence


def _stream_ranges(snapshot: Snapshot, rules: Rules, name: str, id_key: bytes) -> Found:
    number = snapshot.stream_number(name, id_key)
    if number is None:
        return _nothing, lambda _: 0, None
    first = rules.first_visible(snapshot, name, id_key, number)
    return of_stream(number, first), lambda at: at.stream_length(number), number


def name_ranges(snapshot: Snapshot, names: list[str]) -> Found:
    """Where the events of every stream of some names are."""
    numbers = [number for name in names if (number := snapshot.catalog.name_number(snapshot, name)) is not None]
    return (of_names(numbers) if numbers else _nothing), _log_end, frozenset(names)


def _id_kinds(snapshot: Snapshot, name: str, stream_id: StreamId | None) -> list[str]:
    """The kinds of ids among the streams of a name, or that of one stream."""
    if stream_id is not None:
        return [keys.id_kind(encode_stream_id(stream_id))]
    number = snapshot.catalog.name_number(snapshot, name)
    if number is None:
        return []
    return [
        kind for kind, tag in keys.ID_KINDS.items() if snapshot.meta_chunk(keys.stream_lookup_key(number, tag), None)
    ]


Found = tuple[Ranges, Callable[["Snapshot"], int], Owner]
"""What to walk, where it ends, and whose events it gives."""
