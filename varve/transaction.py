"""Transactions: one atomic commit over any number of streams."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from varve.appends import Metadata, StreamTypes, append_batch, append_many, append_one, commit_request, encode_metadata
from varve.engine.request import AppendRequest, CommitRequest, Committed
from varve.errors import InvalidInput, TransactionClosed
from varve.expected import ANY, ExpectedVersion
from varve.layout.keys import IdempotencyKey, StreamId, encode_idempotency_key, encode_stream_id
from varve.reader import GlobalReader, StreamReader
from varve.record import Position, Span, position_of
from varve.replay import Fixed
from varve.tailing.commits import commit_async
from varve.typing_support import E
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    from varve.bindings import Bindings, UnknownAnywhere, UnknownTyped
    from varve.engine.commit import Session
    from varve.engine.core import Engine
    from varve.engine.snapshot import Snapshot
    from varve.stream import Stream
    from varve.tailing.consumer import Consumer, Ride


Mark = tuple[int, int]
"""A place in a transaction, to which it can return."""


class Transaction:
    """Appends that become one commit when the ``with`` block ends, or nothing when it raises. Made by
    ``db.transaction()``.

    Without ``with``, call ``commit()``: appends of a transaction that is dropped are not written (a ``ResourceWarning`` says so).

    The block holds no lock: it may read, wait and compute. Sequences are given and expectations checked at its end,
    where
    ``WrongExpectedVersion`` and the other errors of ``Stream.append`` are raised; then nothing of it is written.
    ``async with`` is the same without blocking the event loop.
    """

    __slots__ = ("_appends", "_engine", "_key", "_metadata", "_open", "_positions", "_replayed", "_rides", "_single")

    def __init__(self, engine: Engine, key: IdempotencyKey | None, metadata: Metadata | None) -> None:
        if key is not None:
            encode_idempotency_key(key)
        self._engine = engine
        self._key = key
        if metadata is not None:
            encode_metadata(metadata)
        self._metadata = metadata
        self._appends: list[AppendRequest] = []
        self._single: list[bool] = []
        self._rides: list[Ride[Any]] = []
        self._open = True
        self._positions: list[Position | Span] | None = None
        self._replayed = False

    def __repr__(self) -> str:
        return f"<Transaction of {self._engine.path} ({'open' if self._open else 'closed'})>"

    def append(
        self,
        stream: Stream[E],
        stream_id: StreamId,
        event: E,
        *,
        expected: ExpectedVersion = ANY,
        metadata: Metadata | None = None,
    ) -> None:
        """Append one event at the end of the block; its ``Position`` is in ``positions`` then."""
        self._add(append_one(self._types_of(stream), stream_id, event, expected, self._merged(metadata)), single=True)

    def append_batch(
        self,
        stream: Stream[E],
        stream_id: StreamId,
        events: Iterable[E],
        *,
        expected: ExpectedVersion = ANY,
        metadata: Metadata | None = None,
    ) -> None:
        """Append events to one stream; their ``Span`` is in ``positions`` after the block."""
        self._add(append_batch(self._types_of(stream), stream_id, events, expected, self._merged(metadata)))

    def append_many(
        self, stream: Stream[E], items: Iterable[tuple[StreamId, E]], *, metadata: Metadata | None = None
    ) -> None:
        """Append ``(stream id, event)`` pairs; their ``Span`` is in ``positions`` after the block."""
        self._add(append_many(self._types_of(stream), items, self._merged(metadata)))

    def append_columns(
        self,
        stream: Stream[E],
        stream_ids: Any,
        columns: Any,
        *,
        type: type[E] | None = None,  # noqa: A002 - what it is
        expected: ExpectedVersion = ANY,
        metadata: Metadata | None = None,
    ) -> None:
        """Append events given as columns, as ``Stream.append_columns``; their ``Span`` is in ``positions`` after the block."""
        from varve.columns.append import append_columns

        types = self._types_of(stream)
        self._add(append_columns(types, stream_ids, columns, type, expected, self._merged(metadata)))

    def store_position(self, consumer: Consumer[Any]) -> None:
        """Store a consumer's present position with this commit, or not at all: what is appended here and what was consumed
        for it become durable together.

        ``ConsumerFenced`` is raised at the end of the block where somebody took the consumer over; then nothing is written.
        """
        self._check_open()
        ride = getattr(consumer, "ride", None)
        if ride is None:
            raise InvalidInput(f"store_position takes a consumer, made by db.consumer(name), not {consumer!r:.80}")
        self._rides.append(ride(self._engine))

    @property
    def positions(self) -> list[Position | Span]:
        """After the commit: a ``Position`` or ``Span`` per call, in call order. Raises ``TransactionClosed`` before."""
        if self._positions is None:
            raise TransactionClosed(
                "a transaction has positions once it is committed, which is at the end of its with block"
            )
        return self._positions

    @property
    def replayed(self) -> bool:
        """Whether the idempotency key had been used before, so that nothing was written now."""
        return self._replayed

    def __enter__(self) -> Self:
        self._check_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is not None:
            self._open = False
        elif self._open:
            self.commit()

    def __del__(self) -> None:
        if getattr(self, "_open", False) and (self._appends or self._rides):
            warnings.warn(
                f"a transaction with {len(self._appends)} appends was dropped without commit(): nothing of it is written; "
                "use it as `with db.transaction() as tx:`",
                ResourceWarning,
                stacklevel=2,
            )

    def commit(self) -> None:
        """Commit now; the end of a ``with`` block does it."""
        request = self._request()
        committed = self._engine.commit(request) if request is not None else Committed(0)
        if committed.replayed and self._rides:
            self._engine.commit(self._rides_alone())
        self._settle(committed)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if kind is None and self._open:
            await self.commit_async()
        else:
            self.__exit__(kind, error, traceback)

    async def commit_async(self) -> None:
        """Commit now without blocking the event loop; the end of an ``async with`` block does it.

        It shares a commit's fsync with whatever else is awaited. Where it is cancelled, it happens wholly or not at all.
        """
        request = self._request()
        committed = await commit_async(self._engine, request) if request is not None else Committed(0)
        if committed.replayed and self._rides:
            await commit_async(self._engine, self._rides_alone())
        self._settle(committed)

    def rollback(self) -> None:
        """Forget everything; the ``with`` block then ends without a commit."""
        self._check_open()
        self._open = False

    # -- inside ------------------------------------------------------------------------------------

    def _mark(self) -> Mark:
        """What it holds now, for ``_return_to``. Ends with the transaction; marks are used from the newest to the oldest."""
        self._check_open()
        return len(self._appends), len(self._rides)

    def _return_to(self, mark: Mark) -> None:
        """Forget what was added since: the transaction goes on as if it had never been."""
        self._check_open()
        appends, rides = mark
        del self._appends[appends:], self._single[appends:], self._rides[rides:]

    def _check_open(self) -> None:
        if not self._open:
            raise TransactionClosed("this transaction has ended; begin a new one with db.transaction()")

    def _request(self) -> CommitRequest | None:
        """Everything in it as one request, None where there is nothing; the transaction has ended then."""
        self._check_open()
        self._open = False
        filled = list(filter(_counts, self._appends))
        if not filled:
            return self._rides_alone() if self._rides else None
        request = commit_request(filled, self._key)
        request.effects = self._rides
        return request

    def _rides_alone(self) -> CommitRequest:
        """The positions of consumers, where the events were written before (a replay) or there are none."""
        return CommitRequest([], effects=self._rides)

    def _types_of(self, stream: Stream[Any]) -> StreamTypes:
        self._check_open()
        engine = getattr(stream, "_engine", None)
        if engine is not self._engine:
            raise InvalidInput("a transaction takes streams of its own store, made by db.stream(name, types)")
        return stream._types  # noqa: SLF001 - the same library

    def _merged(self, metadata: Metadata | None) -> Metadata | None:
        """The append's metadata over the transaction's."""
        if self._metadata is None or metadata is None:
            return metadata if self._metadata is None else self._metadata
        encode_metadata(metadata)
        return {**self._metadata, **metadata}

    def _add(self, append: AppendRequest, *, single: bool = False) -> None:
        self._appends.append(append)
        self._single.append(single)

    def _settle(self, committed: Committed) -> None:
        segments = iter(committed.segments)
        for ride in self._rides:
            ride.arrived()
        self._replayed = replayed = committed.replayed
        self._positions = []
        for append, single in zip(self._appends, self._single, strict=True):
            where = next(segments) if _counts(append) else []
            self._positions.append(position_of(where, replayed=replayed) if single else Span(where, replayed=replayed))


def _counts(append: AppendRequest) -> bool:
    """Whether an append call has anything to write or to check."""
    return bool(append.parts) or append.expected is not ANY


class WriteTransaction(Transaction):
    """A transaction that holds the write lock while its function runs. Made by ``db.write(fn)``, which gives it to
    ``fn``.

    Its readers see everything that was committed before, and nobody commits meanwhile; its own appends they do not see.
    ``length`` counts them.
    """

    __slots__ = ("_bindings", "_session", "_snapshot")

    def __init__(
        self,
        engine: Engine,
        bindings: Bindings,
        session: Session,
        key: IdempotencyKey | None,
        metadata: Metadata | None,
    ) -> None:
        super().__init__(engine, key, metadata)
        self._bindings = bindings
        self._session = session
        self._snapshot: Snapshot = engine.snapshot()

    @overload
    def reader(self, stream: Stream[E], *, unknown: Literal["error"] = "error") -> StreamReader[E]: ...
    @overload
    def reader(self, stream: Stream[E], *, unknown: Literal["event"]) -> StreamReader[E | UnknownEvent]: ...
    def reader(self, stream: Stream[E], *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        """A reader of the very latest instant, usable inside ``fn`` only; ``unknown`` as in ``Stream.reader``."""
        types = self._types_of(stream)
        return StreamReader(Fixed(self._engine, self._snapshot), stream.name, types.by_name, unknown)

    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        """A reader of the whole log at the very latest instant, usable inside ``fn`` only; ``unknown`` as in
        ``db.global_reader``."""
        self._check_open()
        return GlobalReader(Fixed(self._engine, self._snapshot), self._bindings, unknown)

    def length(self, stream: Stream[Any], stream_id: StreamId) -> int:
        """Number of events in a stream, the appends of this transaction counted."""
        self._types_of(stream)
        id_key = encode_stream_id(stream_id)
        pending = sum(
            len(bufs)
            for append in self._appends
            if append.stream == stream.name
            for key, _, bufs in append.parts
            if key == id_key
        )
        return self._session.length(stream.name, id_key) + pending

    def commit(self) -> None:
        """Not for ``fn``: the commit is made when it returns."""
        raise TransactionClosed("db.write(fn) commits when fn returns; return instead, or raise to roll back")

    async def commit_async(self) -> None:
        """Not for ``fn``, as ``commit``."""
        self.commit()

    def _finish(self) -> None:
        """Write what ``fn`` appended."""
        self._snapshot.close()
        if not self._open:
            return
        request = self._request()
        if request is None:
            self._settle(Committed(0))
            return
        committed = self._session.apply(request)
        if committed.replayed and self._rides:
            self._session.apply(self._rides_alone())
        self._session.commit()
        self._settle(self._session.located(committed, request))

    def _abandon(self) -> None:
        """``fn`` raised: end without a trace."""
        self._open = False
        self._snapshot.close()
