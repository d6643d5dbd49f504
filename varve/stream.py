"""Streams: typed appends to the streams of one name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, overload

from varve.appends import Metadata, StreamTypes, append_batch, append_many, append_one, commit_request
from varve.bindings import UnknownTyped
from varve.engine.request import AppendRequest, Segment
from varve.expected import ANY, ExpectedVersion
from varve.layout.keys import IdempotencyKey, StreamId, encode_idempotency_key
from varve.reader import StreamReader
from varve.record import Position, Span, position_of
from varve.replay import Live
from varve.typing_support import E
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    from varve.engine.core import Engine


class Stream(Generic[E]):
    """All streams of one name: the place to append events of its types and to make readers. Made by ``db.stream(name,
    types)``.

    Every append is one commit, durable when it returns (see ``varve.open(durability=...)``). A refused one leaves
    nothing behind. Thread-safe.
    """

    __slots__ = ("_engine", "_types", "name")

    def __init__(self, engine: Engine, name: str, types: StreamTypes) -> None:
        self._engine = engine
        self._types = types
        self.name = name

    def __repr__(self) -> str:
        return f"<Stream {self.name!r} of {' | '.join(self._types.by_name)} in {self._engine.path}>"

    def append(
        self,
        stream_id: StreamId,
        event: E,
        *,
        expected: ExpectedVersion = ANY,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
    ) -> Position:
        """Append one event.

        ``expected``: what the stream must hold (``ANY``, ``NO_STREAM``, ``STREAM_EXISTS`` or a number of events).
        ``idempotency_key``: a retry with the same key and content returns the first one's position (``replayed`` is
        true) and writes nothing. ``metadata``: a JSON-able mapping.

        Raises ``WrongExpectedVersion``, ``IdempotencyConflict``, ``SchemaConflict``, ``EventEncodingError``,
        ``EventTypeError``,
        ``InvalidInput`` and its kin, ``NoSpace``, ``StoreFailed``, ``CommitOutcomeUnknown``, ``HandleUnusable``.
        """
        append = append_one(self._types, stream_id, event, expected, metadata)
        segments, replayed = self._commit(append, idempotency_key)
        return position_of(segments, replayed=replayed)

    def append_batch(
        self,
        stream_id: StreamId,
        events: Iterable[E],
        *,
        expected: ExpectedVersion = ANY,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
    ) -> Span:
        """Append events to one stream in one commit; an empty batch commits nothing (what it expects is checked all the
        same). Arguments and errors as
        ``append``."""
        append = append_batch(self._types, stream_id, events, expected, metadata)
        return self._span(append, idempotency_key)

    def append_many(
        self,
        items: Iterable[tuple[StreamId, E]],
        *,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
    ) -> Span:
        """Append ``(stream id, event)`` pairs in their order in one commit. Arguments and errors as ``append``."""
        return self._span(append_many(self._types, items, metadata), idempotency_key)

    @overload
    def reader(self, *, unknown: Literal["error"] = "error") -> StreamReader[E]: ...
    @overload
    def reader(self, *, unknown: Literal["event"]) -> StreamReader[E | UnknownEvent]: ...
    def reader(self, *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        """A reader of these streams; each of its calls sees the newest instant.

        ``unknown``: what an event outside the declared types (that no upcast leads to them, or that their classes cannot
        read) comes to: ``"error"`` raises ``UnexpectedEventType`` (or ``SchemaConflict``) where it stands, ``"event"`` gives
        an ``UnknownEvent``. None is ever passed over.
        """
        self._engine.check_usable()
        return StreamReader(Live(self._engine), self.name, self._types.by_name, unknown)

    def _span(self, append: AppendRequest, key: IdempotencyKey | None) -> Span:
        if not append.parts and append.expected is ANY:
            self._engine.check_usable()
            if key is not None:
                encode_idempotency_key(key)
            return Span(())
        segments, replayed = self._commit(append, key)
        return Span(segments, replayed=replayed)

    def _commit(self, append: AppendRequest, key: IdempotencyKey | None) -> tuple[list[Segment], bool]:
        committed = self._engine.commit(commit_request([append], key))
        return committed.segments[0], committed.replayed
