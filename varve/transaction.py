"""Transactions: one atomic commit over any number of streams."""

from __future__ import annotations

import types
import warnings
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, overload

from varve.appends import Metadata, StreamTypes, append_batch, append_many, append_one, commit_request, encode_metadata
from varve.bindings import Bindings
from varve.engine.request import AppendRequest, CommitRequest, Committed
from varve.errors import InvalidInput, TransactionClosed
from varve.expected import ANY, ExpectedVersion
from varve.layout.keys import IdempotencyKey, StreamId, encode_idempotency_key, encode_stream_id
from varve.layout.ordered import StateKey, encode_key
from varve.reader import GlobalReader, StreamReader
from varve.record import Position, Span, position_of
from varve.replay import Fixed
from varve.state.checks import EnsureAll, Require, RequireVersion
from varve.state.draft import TransactionState, check_callable
from varve.state.readers import NotedReader, noted_global_reader
from varve.state.reads import company
from varve.state.view import StateView
from varve.state.work import NO_WORK, Work, WorkMark
from varve.tailing.commits import commit_async
from varve.typing_support import E
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    from varve.bindings import UnknownAnywhere, UnknownTyped
    from varve.engine.commit import Session
    from varve.engine.core import Engine
    from varve.engine.snapshot import Snapshot
    from varve.stream import Stream
    from varve.tailing.consumer import Consumer, Ride


Mark = tuple[int, int, "WorkMark"]
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

    __slots__ = (
        "_appends",
        "_belongs_to",
        "_bindings",
        "_engine",
        "_key",
        "_metadata",
        "_open",
        "_positions",
        "_replayed",
        "_rides",
        "_single",
        "_work",
    )

    def __init__(
        self, engine: Engine, key: IdempotencyKey | None, metadata: Metadata | None, bindings: Bindings | None = None
    ) -> None:
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
        self._bindings = bindings
        self._belongs_to = ""
        self._work: Work | None = None
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

    # -- state and reading -------------------------------------------------------------------------

    @property
    def state(self) -> TransactionState:
        """State beside the log, as this transaction sees and changes it: in the same commit as its events."""
        return self._working().state

    @overload
    def reader(self, stream: Stream[E], *, unknown: Literal["error"] = "error") -> StreamReader[E]: ...
    @overload
    def reader(self, stream: Stream[E], *, unknown: Literal["event"]) -> StreamReader[E | UnknownEvent]: ...
    def reader(self, stream: Stream[E], *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        """A reader of this transaction's instant (that of its first read), usable inside the block only.

        What it gives is looked at again when the transaction commits: where a stream that was read to its end has grown
        meanwhile, ``TransactionConflict`` is raised and nothing is written. The transaction's own appends it does not show.
        """
        types = self._types_of(stream)
        instant = self._working().instant
        reads = instant.noted()
        assert instant.snapshot is not None
        return NotedReader(Fixed(self._engine, instant.snapshot), stream.name, types.by_name, unknown, reads)

    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        """A reader of the whole log at this transaction's instant, usable inside the block only; any event that somebody else
        appends before the commit is a conflict then."""
        instant = self._working().instant
        reads = instant.noted()
        assert instant.snapshot is not None
        bindings = self._bindings or Bindings()
        return noted_global_reader(Fixed(self._engine, instant.snapshot), bindings, unknown, reads)

    def length(self, stream: Stream[Any], stream_id: StreamId) -> int:
        """Number of events in a stream at this transaction's instant, its own appends counted; looked at again when it
        commits."""
        return self.reader(stream).length(stream_id) + self._pending_length(stream, encode_stream_id(stream_id))

    def _pending_length(self, stream: Stream[Any], id_key: bytes) -> int:
        return sum(
            len(bufs)
            for append in self._appends
            if append.stream == stream.name
            for key, _, bufs in append.parts
            if key == id_key
        )

    # -- checks ------------------------------------------------------------------------------------

    def require(self, key: StateKey, predicate: Callable[[Any], bool]) -> None:
        """Commit only if ``predicate(value)`` is true of the value that a key of state has then, before this transaction's
        changes; false, or no such key, is ``CheckFailed``, and nothing is written.

        Nothing is read now, so nothing can conflict. Predicates run inside the write transaction, perhaps on another thread.
        """
        check_callable("require", predicate)
        self._require("require", key, lambda value, exists: exists and bool(predicate(value)))

    def require_exists(self, key: StateKey) -> None:
        """Commit only if a key of state is there then, as ``require``."""
        self._require("require_exists", key, lambda _, exists: exists)

    def require_absent(self, key: StateKey) -> None:
        """Commit only if a key of state is not there then, as ``require``."""
        self._require("require_absent", key, lambda _, exists: not exists)

    def require_min(self, key: StateKey, bound: Any) -> None:
        """Commit only if the value of a key is ``bound`` or more then, as ``require``."""
        self._require("require_min", key, lambda value, exists: exists and bool(value >= bound), bound)

    def require_max(self, key: StateKey, bound: Any) -> None:
        """Commit only if the value of a key is ``bound`` or less then, as ``require``."""
        self._require("require_max", key, lambda value, exists: exists and bool(value <= bound), bound)

    def require_version(self, stream: Stream[Any], stream_id: StreamId, version: int) -> None:
        """Commit only if a stream has exactly so many events then, before this transaction's own: of a stream to which nothing is
        appended, too. Raises ``CheckFailed`` at the end of the block."""
        self._types_of(stream)
        if type(version) is not int or version < 0:
            raise InvalidInput(f"a version is a number of events from 0 on, not {version!r}")
        id_key = encode_stream_id(stream_id)
        self._working().required.append(RequireVersion(stream.name, stream_id, id_key, version))

    @overload
    def ensure(self, key: Callable[[StateView], bool], /) -> None: ...
    @overload
    def ensure(self, key: StateKey, predicate: Callable[[Any], bool], /) -> None: ...
    def ensure(self, key: Any, predicate: Callable[[Any], bool] | None = None, /) -> None:
        """Commit only if something holds after all changes of this transaction: ``ensure(key, predicate)`` of one value (which
        must be there), ``ensure(predicate)`` of state as a whole (the predicate is given a ``varve.StateView``). As
        ``require``."""
        working = self._working()
        if predicate is None:
            check_callable("ensure", key)
            working.ensured.append(EnsureAll(self._engine, key))
        else:
            check_callable("ensure", predicate)
            working.ensured.append(
                Require(
                    self._engine, "ensure", encode_key(key), lambda value, exists: exists and bool(predicate(value))
                )
            )

    def _require(self, name: str, key: StateKey, test: Callable[[Any, bool], bool], bound: Any = None) -> None:
        self._working().required.append(Require(self._engine, name, encode_key(key), test, bound))

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
            self._end()
        elif self._open:
            self.commit()

    def __del__(self) -> None:
        if not getattr(self, "_open", False):
            return
        work = self._work
        if work is not None:
            work.instant.end()
        if self._appends or self._rides or (work is not None and work.counts):
            state = "" if work is None else " and state"
            warnings.warn(
                f"a transaction with {len(self._appends)} appends{state} was dropped without commit(): nothing of it is written; "
                "use it as `with db.transaction() as tx:`",
                ResourceWarning,
                stacklevel=2,
            )

    def commit(self) -> None:
        """Commit now; the end of a ``with`` block does it."""
        self._check_own()
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
        self._check_own()
        request = self._request()
        committed = await commit_async(self._engine, request) if request is not None else Committed(0)
        if committed.replayed and self._rides:
            await commit_async(self._engine, self._rides_alone())
        self._settle(committed)

    def rollback(self) -> None:
        """Forget everything; the ``with`` block then ends without a commit."""
        self._check_open()
        self._end()

    # -- inside ------------------------------------------------------------------------------------

    def _mark(self) -> Mark:
        """What it holds now, for ``_return_to``. Ends with the transaction; marks are used from the newest to the oldest."""
        self._check_open()
        return len(self._appends), len(self._rides), NO_WORK if self._work is None else self._work.mark()

    def _return_to(self, mark: Mark) -> None:
        """Forget what was added since: the transaction goes on as if it had never been."""
        self._check_open()
        appends, rides, work = mark
        del self._appends[appends:], self._single[appends:], self._rides[rides:]
        if self._work is not None:
            self._work.return_to(work)

    def _check_open(self) -> None:
        if not self._open:
            raise TransactionClosed("this transaction has ended; begin a new one with db.transaction()")

    def _check_own(self) -> None:
        """Raises ``TransactionClosed`` where the commit is made by whoever has called the user's function."""
        self._check_open()
        if self._belongs_to:
            raise TransactionClosed(
                f"{self._belongs_to} commits when fn returns: return instead (without `with tx`), or raise to roll back"
            )

    def _request(self) -> CommitRequest | None:
        """Everything in it as one request, None where there is nothing; the transaction has ended then."""
        self._check_open()
        self._end()
        work = self._work
        filled = list(filter(_counts, self._appends))
        if self._key is not None and work is not None and work.changes and not any(one.parts for one in filled):
            raise InvalidInput(
                "an idempotency key is kept with events, and this transaction changes state alone: append an event that says "
                "what happened, or begin with tx.require_absent(key) of a key that it puts. Nothing was written"
            )
        if not filled:
            if work is not None and work.counts:
                return work.ride(self._rides_alone())
            return self._rides_alone() if self._rides else None
        request = commit_request(filled, self._key)
        request.effects = self._rides
        return request if work is None else work.ride(request)

    def _end(self) -> None:
        self._open = False
        if self._work is not None:
            self._work.instant.end()

    def _working(self) -> Work:
        """Its part beside the appends, made at first use."""
        self._check_open()
        work = self._work
        if work is None:
            work = self._work = self._begin_work()
        return work

    def _begin_work(self) -> Work:
        return Work(self._engine)

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
    ``fn`` and commits it when that returns: ``commit`` is not for ``fn``.

    Its readers see everything that was committed before, and nobody commits meanwhile; its own appends they do not see.
    ``length`` counts them.
    """

    __slots__ = ("_session", "_snapshot", "_spoiled")

    def __init__(
        self,
        engine: Engine,
        bindings: Bindings,
        session: Session,
        key: IdempotencyKey | None,
        metadata: Metadata | None,
    ) -> None:
        super().__init__(engine, key, metadata, bindings)
        self._belongs_to = "db.write(fn)"
        self._session = session
        self._spoiled = False
        self._snapshot: Snapshot = engine.snapshot()

    @overload
    def reader(self, stream: Stream[E], *, unknown: Literal["error"] = "error") -> StreamReader[E]: ...
    @overload
    def reader(self, stream: Stream[E], *, unknown: Literal["event"]) -> StreamReader[E | UnknownEvent]: ...
    def reader(self, stream: Stream[E], *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        """A reader of the very latest instant, usable inside ``fn`` only; ``unknown`` as in ``Stream.reader``."""
        types = self._types_of(stream)
        self._check_company()
        return StreamReader(Fixed(self._engine, self._snapshot), stream.name, types.by_name, unknown)

    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        """A reader of the whole log at the very latest instant, usable inside ``fn`` only; ``unknown`` as in
        ``db.global_reader``."""
        self._check_open()
        self._check_company()
        assert self._bindings is not None
        return GlobalReader(Fixed(self._engine, self._snapshot), self._bindings, unknown)

    def _begin_work(self) -> Work:
        return Work(self._engine, self._session)

    def _check_company(self) -> None:
        """In a group commit, where others have appended what no snapshot shows yet, streams cannot be read: the function of
        ``db.optimistic`` runs again in a commit of its own then."""
        if self._session.has_company:
            self._spoiled = True
            raise company()

    def length(self, stream: Stream[Any], stream_id: StreamId) -> int:
        """Number of events in a stream, the appends of this transaction counted."""
        self._types_of(stream)
        id_key = encode_stream_id(stream_id)
        return self._session.length_now(stream.name, id_key) + self._pending_length(stream, id_key)

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

    def _handed_in(self) -> CommitRequest | None:
        """What ``fn`` did, as a request that is applied in a group commit; None where that is nothing.

        Raises ``TransactionConflict`` where it wanted to read what cannot be read there.
        """
        self._snapshot.close()
        if self._spoiled:
            raise company()
        return self._request() if self._open else None

    def _abandon(self) -> None:
        """``fn`` raised: end without a trace."""
        self._end()
        self._snapshot.close()


def check_result(result: object, why: str) -> None:
    """Raises ``InvalidInput`` where a function of a transaction gave a generator or something to be awaited: nothing of it has
    run. ``why`` it cannot be awaited."""
    if isinstance(result, types.GeneratorType):
        raise InvalidInput("fn is a generator: nothing of it has run. Append in it, and return")
    if hasattr(result, "__await__"):
        close = getattr(result, "close", None)
        if close is not None:
            close()
        raise InvalidInput(f"fn is async: {why}")
