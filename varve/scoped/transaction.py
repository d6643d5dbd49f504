"""Transactions of a scoped handle. What they may do is what their handle may, whoever made the streams that they are given."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from varve.appends import Metadata
from varve.bindings import UnknownAnywhere, UnknownTyped
from varve.layout.keys import IdempotencyKey, StreamId
from varve.reader import GlobalReader, StreamReader
from varve.replay import Fixed
from varve.scoped.reading import ScopedReader, ScopedReplay
from varve.transaction import Transaction, WriteTransaction

if TYPE_CHECKING:
    from varve.bindings import Bindings
    from varve.engine.commit import Session
    from varve.engine.core import Engine
    from varve.engine.request import AppendRequest
    from varve.scoped.scope import Scope
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
    def _add(self, append: AppendRequest, *, single: bool = False) -> None:
        self._scope.check_appended(append)
        super()._add(append, single=single)


class ScopedTransaction(_Checked):
    """A transaction that can append what its handle may."""

    __slots__ = ("_scope",)

    def __init__(self, engine: Engine, key: IdempotencyKey | None, metadata: Metadata | None, scope: Scope) -> None:
        super().__init__(engine, key, metadata)
        self._scope = scope


class ScopedWriteTransaction(_Checked, WriteTransaction):
    """The same under the write lock, with readers that see what the handle may read."""

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
        super().__init__(engine, bindings, session, key, metadata)
        self._scope = scope

    @override
    def reader(self, stream: Stream[Any], *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        types = self._types_of(stream)
        return ScopedReader(Fixed(self._engine, self._snapshot), stream.name, types.by_name, unknown, self._scope)

    @override
    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        self._check_open()
        return ScopedReplay(Fixed(self._engine, self._snapshot), self._bindings, unknown, self._scope)

    @override
    def length(self, stream: Stream[Any], stream_id: StreamId) -> int:
        self._types_of(stream)
        self._scope.check_read(stream.name, stream_id)
        return super().length(stream, stream_id)


def writer(scope: Scope) -> Callable[..., ScopedWriteTransaction]:
    """How a scope's transactions under the write lock are made."""

    def make(
        engine: Engine, bindings: Bindings, session: Session, key: IdempotencyKey | None, metadata: Metadata | None
    ) -> ScopedWriteTransaction:
        return ScopedWriteTransaction(engine, bindings, session, key, metadata, scope)

    return make
