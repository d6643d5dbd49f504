"""One instant, as far as a scope allows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol, Self, overload

from varve.bindings import UnknownAnywhere, UnknownTyped
from varve.errors import InvalidInput
from varve.reader import GlobalReader, StreamReader
from varve.replay import Fixed
from varve.scoped.reading import ScopedReader, ScopedReplay
from varve.scoped.state import ScopedSource
from varve.state.view import StateView
from varve.typing_support import E
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    from varve.bindings import Bindings
    from varve.engine.core import Engine
    from varve.engine.snapshot import Snapshot as EngineSnapshot
    from varve.scoped.scope import Scope
    from varve.stream import Stream


class WholeSnapshot(Protocol):
    """A store's snapshot."""

    _engine: Engine
    _bindings: Bindings
    _snapshot: EngineSnapshot

    @property
    def state(self) -> StateView:
        """State at this instant."""
        ...

    @property
    def next_global_sequence(self) -> int:
        """Number of events at this instant."""
        ...

    def close(self) -> None:
        """Let the instant go."""
        ...


class ScopedSnapshot:
    """One consistent instant of a store, for what a scoped handle may read. Made by ``ScopedVarve.snapshot``; thread-safe.

    As a ``varve.Snapshot``, which it is not: that one sees everything.
    """

    __slots__ = ("_scope", "_whole")

    def __init__(self, whole: WholeSnapshot, scope: Scope) -> None:
        self._whole = whole
        self._scope = scope

    @overload
    def reader(self, stream: Stream[E], *, unknown: Literal["error"] = "error") -> StreamReader[E]: ...
    @overload
    def reader(self, stream: Stream[E], *, unknown: Literal["event"]) -> StreamReader[E | UnknownEvent]: ...
    def reader(self, stream: Stream[E], *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        """A reader of a stream name at this instant. Raises ``PermissionRefused`` where nothing of the name may be read."""
        engine, types = self._whole._engine, getattr(stream, "_types", None)  # noqa: SLF001 - the same library
        if types is None or getattr(stream, "_engine", None) is not engine:
            raise InvalidInput("a snapshot reads streams of its own store, made by db.stream(name, types)")
        return ScopedReader(self._fixed(), stream.name, types.by_name, unknown, self._scope)

    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        """A reader of what may be read of the log at this instant."""
        return ScopedReplay(self._fixed(), self._whole._bindings, unknown, self._scope)  # noqa: SLF001

    @property
    def state(self) -> StateView:
        """What may be read of state at this instant. Raises as ``Snapshot.state``."""
        state = self._whole.state
        return StateView(ScopedSource(state._source, self._scope), state._path)  # noqa: SLF001

    @property
    def next_global_sequence(self) -> int:
        """Number of events of the whole log at this instant."""
        return self._whole.next_global_sequence

    def close(self) -> None:
        """Let the instant go; the end of a ``with`` block does it."""
        self._whole.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ScopedSnapshot of {self._whole._engine.path}, {self._scope.label!r}>"  # noqa: SLF001

    def _fixed(self) -> Fixed:
        fixed = Fixed(self._whole._engine, self._whole._snapshot)  # noqa: SLF001
        fixed.begin()  # raises where it is closed
        return fixed
