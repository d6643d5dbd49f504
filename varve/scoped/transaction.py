"""Transactions of a scoped handle. What they may do is what their handle may, whoever made the streams that they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from varve.appends import Metadata
from varve.bindings import Bindings, UnknownAnywhere, UnknownTyped
from varve.layout.keys import IdempotencyKey, StreamId
from varve.layout.ordered import encode_key
from varve.reader import GlobalReader, StreamReader
from varve.replay import Fixed
from varve.scoped.reading import ScopedNotedReader, ScopedReader, ScopedReplay
from varve.scoped.state import ScopedSource, ScopedTransactionState
from varve.state.view import StateView
from varve.transaction import Transaction, WriteTransaction

if TYPE_CHECKING:
    from varve.engine.commit import Session
    from varve.engine.core import Engine
    from varve.engine.request import AppendRequest
    from varve.scoped.scope import Scope
    from varve.state.work import Work
    from varve.stream import Stream
    from varve.tailing.consumer import Consumer


class _Checked(Transaction):
    """What both kinds have in common."""

    __slots__ = ()

    _scope: Scope

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, scoped {self._scope.label!r}>"

    @override
    def store_position(self, consumer: Consumer[Any]) -> None:
        name = getattr(consumer, "name", None)
        if isinstance(name, str):  # else it is no consumer
            self._scope.check_consumer(name)
        super().store_position(consumer)

    @override
    def length(self, stream: Stream[Any], stream_id: StreamId) -> int:
        self._types_of(stream)
        self._scope.check_read(stream.name, stream_id)
        return super().length(stream, stream_id)

    @override
    def require_version(self, stream: Stream[Any], stream_id: StreamId, version: int) -> None:
        self._types_of(stream)
        self._scope.check_read(stream.name, stream_id)
        super().require_version(stream, stream_id, version)

    @override
    def ensure(self, key: Any, predicate: Callable[[Any], bool] | None = None, /) -> None:
        if predicate is not None:
            self._scope.check_key(encode_key(key))
            super().ensure(key, predicate)
        elif not callable(key):
            super().ensure(key)
        else:
            scope, whole = self._scope, key

            def within(view: StateView) -> bool:
                return bool(whole(StateView(ScopedSource(view._source, scope), view._path)))  # noqa: SLF001 - the same library

            within.__name__ = getattr(key, "__name__", "a function")
            super().ensure(within)

    @override
    def _require(self, name: str, key: Any, test: Callable[[Any, bool], bool], bound: Any = None) -> None:
        self._scope.check_key(encode_key(key))
        super()._require(name, key, test, bound)

    @override
    def _begin_work(self) -> Work:
        work = super()._begin_work()
        state = work.state
        work.state = ScopedTransactionState(state._source, state._path, state._check_open, self._scope)  # noqa: SLF001
        return work

    @override
    def _add(self, append: AppendRequest, *, single: bool = False) -> None:
        self._scope.check_appended(append)
        super()._add(append, single=single)


class ScopedTransaction(_Checked):
    """A transaction that can read and write what its handle may."""

    __slots__ = ("_scope",)

    def __init__(
        self,
        engine: Engine,
        key: IdempotencyKey | None,
        metadata: Metadata | None,
        bindings: Bindings | None,
        scope: Scope,
    ) -> None:
        super().__init__(engine, key, metadata, bindings)
        self._scope = scope

    @override
    def reader(self, stream: Stream[Any], *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        types = self._types_of(stream)
        instant = self._working().instant
        reads = instant.noted()
        assert instant.snapshot is not None
        fixed = Fixed(self._engine, instant.snapshot)
        return ScopedNotedReader(fixed, stream.name, types.by_name, unknown, reads, self._scope)

    @override
    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        instant = self._working().instant
        instant.noted().note_log()
        assert instant.snapshot is not None
        fixed = Fixed(self._engine, instant.snapshot)
        return ScopedReplay(fixed, self._bindings or Bindings(), unknown, self._scope)


class ScopedWriteTransaction(_Checked, WriteTransaction):
    """The same under the write lock."""

    __slots__ = ("_scope",)

    def __init__(
        self,
        engine: Engine,
        bindings: Bindings,
        session: Session,
        key: IdempotencyKey | None,
        metadata: Metadata | None,
        scope: Scope,
    ) -> None:
        WriteTransaction.__init__(self, engine, bindings, session, key, metadata)
        self._scope = scope

    @override
    def reader(self, stream: Stream[Any], *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        super().reader(stream)  # whether it can be now
        types = self._types_of(stream).by_name
        return ScopedReader(Fixed(self._engine, self._snapshot), stream.name, types, unknown, self._scope)

    @override
    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        super().global_reader()  # as in reader
        fixed = Fixed(self._engine, self._snapshot)
        return ScopedReplay(fixed, self._bindings or Bindings(), unknown, self._scope)
