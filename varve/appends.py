"""From what a user appends to what the engine commits: ids, events, metadata and keys checked, events encoded.

Everything that can be refused without looking at the store is refused here, before anything is written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any, Final, cast

from varve import limits
from varve.codec import EventType
from varve.engine.request import AppendRequest, CommitRequest, Part, transaction_too_large
from varve.errors import (
    EventTooLarge,
    EventTypeError,
    InvalidInput,
    InvalidMetadata,
    InvalidStreamId,
    TooManyItems,
    VarveError,
)
from varve.expected import ANY, Expected, ExpectedVersion
from varve.layout.keys import IdempotencyKey, StreamId, encode_idempotency_key, encode_stream_id
from varve.layout.packed import Events, Joined, Joiner

Metadata = Mapping[str, Any]

_JSON_DEPTH_MAX = 64

JOINED_EVENTS_MIN: Final = 16
"""Events of one type from which on a batch is joined while it is encoded; fewer are cheaper as they come."""
JOINED_EVENT_BYTES_MAX: Final = 4_096
"""Bytes of an event on the average up to which they are joined."""
JOINED_AT_ONCE: Final = 1_024
"""Events that are encoded before they are joined: few enough to stay in the processor's cache."""


class StreamTypes:
    """The event types of one stream, by class."""

    __slots__ = ("_by_class", "by_name", "stream")

    def __init__(self, stream: str, types: list[EventType]) -> None:
        self.stream = stream
        self.by_name = {event_type.name: event_type for event_type in types}
        self._by_class: dict[type, EventType] = {cls: event_type for event_type in types for cls in event_type.accepts}

    def of(self, event: object) -> EventType:
        """The type of an event (an instance or a view). Raises ``EventTypeError``."""
        cls = type(event)
        found = self._by_class.get(cls)
        if found is None:
            for known in self.by_name.values():
                # Views are subclasses too; a subclass of the user's would lose what it adds.
                if isinstance(event, known.cls) and hasattr(cls, "_b"):
                    found = self._by_class[cls] = known
                    break
            else:
                raise EventTypeError(
                    f"stream {self.stream!r} takes {' | '.join(self.by_name)}, not {_spelled(event)}",
                    stream=self.stream,
                    got=cls,
                )
        return found

    def encode(self, event: object) -> tuple[EventType, bytes]:
        """An event's type and FlatBuffer. Raises ``EventTypeError``, ``EventEncodingError``, ``EventTooLarge``."""
        event_type = self._by_class.get(type(event)) or self.of(event)
        buffer = event_type.pack(event)
        if len(buffer) > limits.EVENT_BYTES_MAX:
            raise too_large(event_type.name, len(buffer))
        return event_type, buffer

    def encode_all(self, events: Iterable[object]) -> tuple[list[tuple[EventType, Events]], int]:
        """Events as runs of one type each, and their bytes in all.

        Raises as ``encode`` does, and ``TooManyItems``; a note on the error tells which event of the batch it was.
        """
        batch = events if isinstance(events, list | tuple) else list(_iterable(events, "append_batch takes events"))
        if not batch:
            return [], 0
        runs: list[tuple[EventType, Events]]
        try:
            first = self.of(batch[0])
            if len(batch) >= JOINED_EVENTS_MIN:
                joined = pack_joined(first, batch)
                if joined is not None:
                    return [(first, joined)], len(joined.data)
            if len(set(map(type, batch))) == 1:
                runs = [(first, first.pack_all(batch))]
            else:
                runs = []
                current: EventType | None = None
                bufs: list[bytes] = []
                for event in batch:
                    event_type = self._by_class.get(type(event)) or self.of(event)
                    if event_type is not current:
                        current = event_type
                        bufs = []
                        runs.append((event_type, bufs))
                    bufs.append(event_type.pack(event))
            total = 0
            for event_type, run in runs:
                run_bytes = sum(map(len, run))
                total += run_bytes
                check_sizes(event_type, run, run_bytes)
        except TooManyItems:  # none of them alone
            raise
        except (EventTypeError, ValueError) as exc:
            _tell_which(exc, batch, self)
            raise
        return runs, total


def pack_joined(event_type: EventType, events: Sequence[object]) -> Joined | None:
    """Events of one class, encoded and joined a stretch at a time; None where they are of several, or so large that a copy
    costs more than many small objects. Raises as ``StreamTypes.encode`` does, and ``TooManyItems``."""
    joiner = Joiner()
    only = {type(events[0])}
    start, stop = 0, JOINED_EVENTS_MIN
    while start < len(events):
        stretch = events[start:stop]
        if set(map(type, stretch)) != only:
            return None
        join(joiner, event_type, event_type.pack_all(stretch))
        if joiner.size > JOINED_EVENT_BYTES_MAX * stop:
            return None
        start, stop = stop, stop + JOINED_AT_ONCE
    return joiner.joined()


def join(joiner: Joiner, event_type: EventType, bufs: list[bytes]) -> None:
    """Join encoded events of a type. Raises ``EventTooLarge``, ``TooManyItems``."""
    before = joiner.size
    was_added = joiner.add(bufs)
    size = joiner.size - before if was_added else sum(map(len, bufs))
    check_sizes(event_type, bufs, size)
    if not was_added or before + size > limits.TRANSACTION_BYTES_MAX:
        raise transaction_too_large(before + size)


def check_sizes(event_type: EventType, events: Events, size: int) -> None:
    """Whether each of some events, of ``size`` bytes together, is small enough. Raises ``EventTooLarge``."""
    if size > limits.EVENT_BYTES_MAX and (largest := max(map(len, events))) > limits.EVENT_BYTES_MAX:
        raise too_large(event_type.name, largest)


def _tell_which(exc: BaseException, batch: list[object] | tuple[object, ...], types: StreamTypes) -> None:
    """Add the index of the offending event to an error of a batch."""
    for index, event in enumerate(batch):
        try:
            types.encode(event)
        except Exception:  # noqa: BLE001 - the same failure again, to find where
            exc.add_note(f"it was event {index} of a batch of {len(batch)}; nothing of the batch was written")
            return


def _iterable(given: Iterable[Any], what: str) -> Iterable[Any]:
    """An iterable argument, or the typed error; errors that it raises while it runs stay its own."""
    try:
        return iter(given)
    except TypeError:
        name = given.__name__ if isinstance(given, type) else type(given).__name__
        raise InvalidInput(f"{what} in an iterable such as a list, not {name}") from None


def too_large(name: str, size: int) -> EventTooLarge:
    """The error for an event of so many bytes."""
    return EventTooLarge(
        f"an event of type {name!r} takes {size} bytes; the limit is EVENT_BYTES_MAX = {limits.EVENT_BYTES_MAX}. "
        "Keep large objects elsewhere and their address in the event",
        type_name=name,
        size_bytes=size,
        limit_bytes=limits.EVENT_BYTES_MAX,
    )


def _spelled(event: object) -> str:
    """What was given instead of an event, and what to do about it."""
    if isinstance(event, type):
        return f"the class {event.__name__} itself: append an instance"
    name = type(event).__name__
    declared = getattr(event, "__varve__", None)
    if declared is not None and declared.cls is not type(event):
        return f"{name}, a subclass of an event class without a declaration of its own: decorate it with @varve.event"
    if declared is not None:
        return f"{name}: declare it too, db.stream(name, ... | {name})"
    if isinstance(event, list | tuple):
        return f"a {name}: append_batch takes several events"
    if "InitFromObj" in type(event).__dict__:  # flatc's object API
        return f"{name}: declare its accessor, db.stream(name, ... | {name.removesuffix('T')})"
    return f"{name}, which is no event class: an event's class is decorated with @varve.event"


# -- requests --------------------------------------------------------------------------------------


def append_one(
    types: StreamTypes,
    stream_id: StreamId,
    event: object,
    expected: ExpectedVersion = ANY,
    metadata: Metadata | None = None,
) -> AppendRequest:
    """One event to one stream."""
    event_type, buffer = types.encode(event)
    id_key = encode_stream_id(stream_id)
    return AppendRequest(
        types.stream,
        stream_id,
        [(id_key, event_type, [buffer])],
        None if metadata is None else encode_metadata(metadata),
        expected if expected is ANY else check_expected(expected),
        id_key,
        len(buffer),
    )


def append_batch(
    types: StreamTypes,
    stream_id: StreamId,
    events: Iterable[object],
    expected: ExpectedVersion = ANY,
    metadata: Metadata | None = None,
) -> AppendRequest:
    """Events to one stream; no parts for an empty batch."""
    id_key = encode_stream_id(stream_id)
    runs, payload_bytes = types.encode_all(events)
    parts: list[Part] = [(id_key, event_type, bufs) for event_type, bufs in runs]
    return AppendRequest(
        types.stream,
        stream_id,
        parts,
        None if metadata is None else encode_metadata(metadata),
        expected if expected is ANY else check_expected(expected),
        id_key,
        payload_bytes,
    )


def append_many(
    types: StreamTypes, items: Iterable[tuple[StreamId, object]], metadata: Metadata | None = None
) -> AppendRequest:
    """Events to streams of one name, interleaved."""
    known: dict[tuple[type, StreamId], bytes] = {}
    parts: list[Part] = []
    last_key, last_type = b"", None
    payload_bytes = 0
    bufs: list[bytes] = []
    by_class = types._by_class  # noqa: SLF001 - this file's own class
    for index, item in enumerate(_iterable(items, "append_many takes (stream id, event) pairs")):
        try:
            stream_id, event = item
        except (TypeError, ValueError):
            raise InvalidInput(f"append_many takes (stream id, event) pairs; item {index} is {item!r:.80}") from None
        try:
            id_key = known.get((type(stream_id), stream_id))
            if id_key is None:
                id_key = known[type(stream_id), stream_id] = encode_stream_id(stream_id)
            event_type = by_class.get(type(event)) or types.of(event)
            buffer = event_type.pack(event)
            payload_bytes += len(buffer)
            if len(buffer) > limits.EVENT_BYTES_MAX:
                raise too_large(event_type.name, len(buffer))
        except (TypeError, ValueError) as exc:
            refusal: Exception = exc
            if not isinstance(exc, VarveError):  # an unhashable id: say so
                try:
                    encode_stream_id(stream_id)
                except InvalidStreamId as told:
                    refusal = told
            refusal.add_note(f"it was item {index} of append_many; nothing of it was written")
            raise refusal from None
        if event_type is last_type and id_key == last_key:
            bufs.append(buffer)
        else:
            bufs = [buffer]
            parts.append((id_key, event_type, bufs))
            last_key, last_type = id_key, event_type
    return AppendRequest(
        types.stream, None, parts, None if metadata is None else encode_metadata(metadata), payload_bytes=payload_bytes
    )


def commit_request(appends: list[AppendRequest], key: IdempotencyKey | None) -> CommitRequest:
    """Append calls as one commit; the content digest where an idempotency key needs it."""
    if key is None:
        return CommitRequest(appends)
    return CommitRequest(appends, encode_idempotency_key(key), key, content_digest(appends))


def content_digest(appends: list[AppendRequest]) -> bytes:
    """Streams, types, metadata and events by value: BLAKE2b-128 over each event's, framed by lengths.

    By value: an event digests alike whether it is an instance or a view and after fields were appended to its class.
    """
    digest = blake2b(digest_size=16)
    for append in appends:
        metadata = b"" if append.metadata is None else json.dumps(json.loads(append.metadata), sort_keys=True).encode()
        stream = append.stream.encode()
        for id_key, declaration, bufs in append.parts:
            event_type = cast(
                "EventType", declaration
            )  # the very one that packed them: a name may have several versions
            for buffer in bufs:
                event = event_type.digest_packed(buffer)
                for piece in (stream, id_key, declaration.name.encode(), metadata, event):
                    digest.update(len(piece).to_bytes(8, "little"))
                    digest.update(piece)
    return digest.digest()


def check_expected(expected: ExpectedVersion) -> ExpectedVersion:
    """An ``expected=`` argument. Raises ``InvalidInput``."""
    if isinstance(expected, Expected):
        return expected
    if isinstance(expected, bool) or not isinstance(expected, int) or expected < 0:
        raise InvalidInput(
            f"expected= is a number of events from 0 on, varve.ANY, varve.NO_STREAM or varve.STREAM_EXISTS, not {expected!r}"
        )
    return expected


def encode_metadata(metadata: Metadata) -> bytes:
    """Metadata as JSON. Raises ``InvalidMetadata``."""
    if not isinstance(metadata, Mapping):
        raise InvalidMetadata(f"metadata is a mapping with str keys, not {type(metadata).__name__}")
    _check_json(metadata, "metadata", 0)
    try:
        raw = json.dumps(_plain(metadata), ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except (ValueError, TypeError) as exc:
        raise InvalidMetadata(f"metadata cannot be written as JSON: {exc}") from None
    if len(raw) > limits.METADATA_BYTES_MAX:
        raise InvalidMetadata(
            f"metadata of {len(raw)} bytes; the limit is METADATA_BYTES_MAX = {limits.METADATA_BYTES_MAX}. "
            "It is for correlation ids and the like: put content into the event"
        )
    return raw


def _check_json(value: object, path: str, depth: int) -> None:
    """Refuse what JSON would change silently (keys that are no str, tuples stay: they read back as lists)."""
    if depth > _JSON_DEPTH_MAX:
        raise InvalidMetadata(f"{path} is nested deeper than {_JSON_DEPTH_MAX}")
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if not isinstance(key, str):
                raise InvalidMetadata(f"{path} has the key {key!r}; JSON's keys are str")
            _check_json(inner, f"{path}[{key!r}]", depth + 1)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            _check_json(inner, f"{path}[{index}]", depth + 1)
    elif value is not None and not isinstance(value, str | int | float | bool):
        raise InvalidMetadata(
            f"{path} is a {type(value).__name__}, which JSON cannot hold: use a str, e.g. .isoformat()"
        )


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in value.items()}
    return [_plain(inner) for inner in value] if isinstance(value, list | tuple) else value
