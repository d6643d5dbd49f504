"""Streams of a scoped handle."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, NoReturn

from typing_extensions import override

from varve.bindings import UnknownTyped
from varve.engine.request import AppendRequest, Segment
from varve.layout.keys import IdempotencyKey, StreamId
from varve.reader import StreamReader
from varve.replay import Live
from varve.retention import Retention
from varve.scoped.patterns import Extent, stream_text
from varve.scoped.reading import ScopedReader, ScopedSelection
from varve.stream import Stream
from varve.tailing.scan import Selection
from varve.typing_support import E

if TYPE_CHECKING:
    from varve.scoped.scope import Scope


class ScopedStream(Stream[E]):
    """The streams of a name, as far as a scope allows. Made by ``ScopedVarve.stream``."""

    __slots__ = ("_scope",)

    def __init__(self, whole: Stream[E], scope: Scope) -> None:
        super().__init__(whole._engine, whole.name, whole._types)  # noqa: SLF001 - the same library
        self._scope = scope

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, scoped {self._scope.label!r}>"

    @override
    def reader(self, *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        self._engine.check_usable()
        return ScopedReader(Live(self._engine), self.name, self._types.by_name, unknown, self._scope)

    @override
    def truncate_before(self, stream_id: StreamId, stream_sequence: int) -> NoReturn:
        raise self._changes("truncate_before", stream_id)

    @override
    def retain(
        self,
        stream_id: StreamId | None = None,
        *,
        max_count: int | None = None,
        max_age: dt.timedelta | float | None = None,
    ) -> NoReturn:
        raise self._changes("retain", stream_id)

    @override
    def retention(self, stream_id: StreamId | None = None) -> Retention:
        if stream_id is not None:
            self._scope.check_read(self.name, stream_id)
        elif self._scope.read.extent(self.name) is not Extent.ALL:
            raise self._scope.refusal("read", self.name, self._scope.read.refusing(self.name, None))
        return super().retention(stream_id)

    def _changes(self, action: str, stream_id: StreamId | None) -> Exception:
        return self._scope.refusal(
            action,
            stream_text(self.name, stream_id),
            why="what readers pass over is for the whole store's handle to say",
        )

    @override
    def _selection(self, stream_id: StreamId | None, unknown: UnknownTyped) -> Selection:
        if stream_id is None:
            self._scope.check_read_name(self.name)
        else:
            self._scope.check_read(self.name, stream_id)
        return ScopedSelection(super()._selection(stream_id, unknown), self._scope.read)

    @override
    def _is_empty(self, append: AppendRequest, key: IdempotencyKey | None) -> bool:
        empty = super()._is_empty(append, key)
        if empty:  # else it is looked at where it is committed
            self._scope.check_appended(append)
        return empty

    @override
    def _commit(self, append: AppendRequest, key: IdempotencyKey | None) -> tuple[list[Segment], bool]:
        self._scope.check_appended(append)
        return super()._commit(append, key)

    @override
    async def _commit_async(self, append: AppendRequest, key: IdempotencyKey | None) -> tuple[list[Segment], bool]:
        self._scope.check_appended(append)
        return await super()._commit_async(append, key)
