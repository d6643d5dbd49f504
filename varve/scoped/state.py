"""State of a scoped handle: what is under its prefixes. One key outside of them is refused, a range is cut to them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import chain
from typing import TYPE_CHECKING

from typing_extensions import override

from varve.layout.state import TABLE
from varve.state.draft import TransactionState
from varve.state.live import State
from varve.state.view import AtInstant, Source

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.engine.side import Pair
    from varve.scoped.scope import Scope
    from varve.state.changes import Change


class ScopedSource:
    """A source of which only what may be read is seen."""

    __slots__ = ("_scope", "_whole")

    def __init__(self, whole: Source, scope: Scope) -> None:
        self._whole = whole
        self._scope = scope

    def value(self, key: bytes) -> bytes | None:
        """As ``Source``."""
        self._scope.check_key(key)
        return self._whole.value(key)

    def pairs(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        """As ``Source``."""
        cuts = self._scope.cut(low, high)
        found = [self._whole.pairs(*cut, reverse=reverse) for cut in (reversed(cuts) if reverse else cuts)]
        return found[0] if len(found) == 1 else chain.from_iterable(found)


class ScopedState(State):
    """``db.state`` of a scoped handle."""

    __slots__ = ("_scope",)

    def __init__(self, engine: Engine, scope: Scope) -> None:
        super().__init__(engine)
        self._scope = scope

    @override
    def _value(self, key: bytes) -> bytes | None:
        self._scope.check_key(key)
        return super()._value(key)

    @override
    def _pairs(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        cuts = self._scope.cut(low, high)
        if len(cuts) == 1:
            return super()._pairs(*cuts[0], reverse=reverse)
        pairs = self._of_one_instant(low, high, reverse=reverse)
        next(pairs)  # it has begun: it lets the snapshot go, however it ends
        return pairs

    def _of_one_instant(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        snapshot = self._engine.side_snapshot(TABLE)
        try:
            snapshot.hold()
            yield b"", b""
            yield from ScopedSource(AtInstant(snapshot), self._scope).pairs(low, high, reverse=reverse)
        finally:
            snapshot.close()

    @override
    def _commit(self, change: Change) -> None:
        self._scope.check_changed(change.key)
        super()._commit(change)


class ScopedTransactionState(TransactionState):
    """``tx.state`` of a scoped handle."""

    __slots__ = ("_scope",)

    def __init__(self, base: Source, path: str, check_open: Callable[[], None], scope: Scope) -> None:
        super().__init__(ScopedSource(base, scope), path, check_open)
        self._scope = scope

    @override
    def _change(self, change: Change) -> None:
        self._scope.check_changed(change.key)
        super()._change(change)
