"""Streams: typed appends to the streams of one name."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Generic, Literal, overload

from varve.appends import Metadata, StreamTypes, append_batch, append_many, append_one, commit_request
from varve.bindings import UnknownTyped
from varve.engine.request import AppendRequest, Segment
from varve.errors import InvalidInput
from varve.expected import ANY, ExpectedVersion
from varve.layout.keys import IdempotencyKey, StreamId, encode_idempotency_key, encode_stream_id
from varve.layout.retention import RetentionRecord
from varve.reader import StreamReader
from varve.record import Position, Span, position_of
from varve.replay import Live
from varve.retention import Retention, as_given, check_limits, rules_of
from varve.tailing.commits import commit_async
from varve.tailing.follow import Follow
from varve.tailing.scan import Selection
from varve.tailing.start import TailStart, check_start
from varve.tailing.tail import Tail
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

    def append_columns(
        self,
        stream_ids: Any,
        columns: Any,
        *,
        type: type[E] | None = None,  # noqa: A002 - what it is
        expected: ExpectedVersion = ANY,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
    ) -> Span:
        """Append events given as columns in one commit: the same events, and the same bytes, as ``append_batch`` or
        ``append_many`` would write, without an object for each where the class is flat.

        ``stream_ids``: one id for all events, or an array or list with one for each. ``columns``: a mapping of field names to
        arrays (of numpy, of Arrow, lists), or an Arrow table, a record batch or a data frame. Fields with a default need no
        column. ``type``: which class of a stream of several. ``expected`` goes with one stream id. The arrays are read
        before the call returns and not kept. Needs the extra ``columns``, for tables and frames ``arrow``.

        Errors as ``append``; an ``EventEncodingError`` names field, value and ``row``.
        """
        from varve.columns.append import append_columns

        append = append_columns(self._types, stream_ids, columns, type, expected, metadata)
        return self._span(append, idempotency_key)

    async def append_async(
        self,
        stream_id: StreamId,
        event: E,
        *,
        expected: ExpectedVersion = ANY,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
    ) -> Position:
        """``append`` without blocking the event loop: appends that are awaited at the same time share a commit's fsync.

        The event is encoded when the call begins. Each append keeps its own outcome and is a commit of its own in the log.
        A cancelled one happens wholly or not at all: not, if its commit had not begun. It also waits where too much is
        under way already (``PENDING_COMMITS_MAX``, ``PENDING_BYTES_MAX``). Arguments and errors as ``append``.
        """
        append = append_one(self._types, stream_id, event, expected, metadata)
        segments, replayed = await self._commit_async(append, idempotency_key)
        return position_of(segments, replayed=replayed)

    async def append_batch_async(
        self,
        stream_id: StreamId,
        events: Iterable[E],
        *,
        expected: ExpectedVersion = ANY,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
    ) -> Span:
        """``append_batch`` as ``append_async`` does it."""
        append = append_batch(self._types, stream_id, events, expected, metadata)
        return await self._span_async(append, idempotency_key)

    async def append_many_async(
        self,
        items: Iterable[tuple[StreamId, E]],
        *,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
    ) -> Span:
        """``append_many`` as ``append_async`` does it."""
        return await self._span_async(append_many(self._types, items, metadata), idempotency_key)

    async def append_columns_async(
        self,
        stream_ids: Any,
        columns: Any,
        *,
        type: type[E] | None = None,  # noqa: A002 - what it is
        expected: ExpectedVersion = ANY,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
    ) -> Span:
        """``append_columns`` as ``append_async`` does it: the columns are encoded when the call begins."""
        from varve.columns.append import append_columns

        append = append_columns(self._types, stream_ids, columns, type, expected, metadata)
        return await self._span_async(append, idempotency_key)

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

    @overload
    def tail(
        self, start: TailStart = 0, *, stream_id: StreamId | None = None, unknown: Literal["error"] = "error"
    ) -> Tail[E]: ...
    @overload
    def tail(
        self, start: TailStart = 0, *, stream_id: StreamId | None = None, unknown: Literal["event"]
    ) -> Tail[E | UnknownEvent]: ...
    def tail(
        self, start: TailStart = 0, *, stream_id: StreamId | None = None, unknown: UnknownTyped = "error"
    ) -> Tail[Any]:
        """The events of these streams from a start on, and then what any process appends to them.

        As ``db.tail``, in global order; with ``stream_id`` those of one stream, and an int ``start`` is a stream sequence
        then. Events that the stream does not declare are treated as ``unknown`` says, as in ``reader``.
        """
        return Tail(self._engine, self._selection(stream_id, unknown), check_start(start))

    @overload
    def follow(
        self,
        start: TailStart = 0,
        *,
        stream_id: StreamId | None = None,
        unknown: Literal["error"] = "error",
        timeout_s: float | None = None,
    ) -> Follow[E]: ...
    @overload
    def follow(
        self,
        start: TailStart = 0,
        *,
        stream_id: StreamId | None = None,
        unknown: Literal["event"],
        timeout_s: float | None = None,
    ) -> Follow[E | UnknownEvent]: ...
    def follow(
        self,
        start: TailStart = 0,
        *,
        stream_id: StreamId | None = None,
        unknown: UnknownTyped = "error",
        timeout_s: float | None = None,
    ) -> Follow[Any]:
        """A tail for threads, as ``db.follow``. ``start``, ``stream_id`` and ``unknown`` as in ``tail``."""
        return Follow(self._engine, self._selection(stream_id, unknown), check_start(start), timeout_s)

    # -- what readers pass over --------------------------------------------------------------------

    def truncate_before(self, stream_id: StreamId, stream_sequence: int) -> None:
        """Hide the events of a stream below a stream sequence from its readers (``get``, ``iter_stream``, its columns).

        Hidden, not removed: the stream keeps its length and its positions, replays, ``iter_all`` and tails give them all the
        same, and a lower ``stream_sequence`` shows them again, until ``varve.ops.compact`` drops them. Other processes see it
        within ``RETENTION_LOOK_S`` seconds. Raises ``InvalidInput``, also beyond the stream's length, and a commit's errors.
        """
        length = self.reader().length(stream_id)
        if type(stream_sequence) is not int or not 0 <= stream_sequence <= length:
            raise InvalidInput(
                f"a stream of {length} events is truncated before a stream sequence from 0 to {length}, not {stream_sequence!r}"
            )
        self._change(stream_id, lambda rule: rule._replace(truncate_before=stream_sequence))

    def retain(
        self,
        stream_id: StreamId | None = None,
        *,
        max_count: int | None = None,
        max_age: dt.timedelta | float | None = None,
    ) -> None:
        """Hide all but the newest ``max_count`` events of a stream, and those that were recorded longer ago than ``max_age`` (a
        timedelta, or seconds), from its readers; None: no such limit. As ``truncate_before``, which goes on holding beside it.

        Without a ``stream_id`` it holds for every stream of this name that has no rule of its own.
        """
        count, age_ns = check_limits(max_count, max_age)
        self._change(stream_id, lambda rule: rule._replace(max_count=count, max_age_ns=age_ns))

    def retention(self, stream_id: StreamId | None = None) -> Retention:
        """The rule that ``retain`` and ``truncate_before`` have set for a stream, or for all of this name."""
        return as_given(rules_of(self._engine).read(self.name, stream_id))

    def _change(self, stream_id: StreamId | None, change: Callable[[RetentionRecord], RetentionRecord]) -> None:
        id_key = None if stream_id is None else encode_stream_id(stream_id)
        self._engine.check_writable()
        rules_of(self._engine).change(self.name, id_key, change)

    def _selection(self, stream_id: StreamId | None, unknown: UnknownTyped) -> Selection:
        self._engine.check_usable()
        view_class = StreamReader(Live(self._engine), self.name, self._types.by_name, unknown)._view  # noqa: SLF001 - the same library
        if stream_id is None:
            return Selection(view_class, names=[self.name])
        return Selection(view_class, stream=(self.name, encode_stream_id(stream_id)))

    def _span(self, append: AppendRequest, key: IdempotencyKey | None) -> Span:
        if self._is_empty(append, key):
            return Span(())
        segments, replayed = self._commit(append, key)
        return Span(segments, replayed=replayed)

    async def _span_async(self, append: AppendRequest, key: IdempotencyKey | None) -> Span:
        if self._is_empty(append, key):
            return Span(())
        segments, replayed = await self._commit_async(append, key)
        return Span(segments, replayed=replayed)

    def _is_empty(self, append: AppendRequest, key: IdempotencyKey | None) -> bool:
        """Whether there is nothing to write and nothing to check in the store; what can be checked without it is."""
        if append.parts or append.expected is not ANY:
            return False
        self._engine.check_usable()
        if key is not None:
            encode_idempotency_key(key)
        return True

    def _commit(self, append: AppendRequest, key: IdempotencyKey | None) -> tuple[list[Segment], bool]:
        committed = self._engine.commit(commit_request([append], key))
        return committed.segments[0], committed.replayed

    async def _commit_async(self, append: AppendRequest, key: IdempotencyKey | None) -> tuple[list[Segment], bool]:
        committed = await commit_async(self._engine, commit_request([append], key))
        return committed.segments[0], committed.replayed
