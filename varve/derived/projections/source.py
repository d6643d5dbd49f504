"""Where a projection reads: a store's log, and behind its beginning the archives that it was given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from varve.bindings import Bindings
from varve.derived.history import History as Log
from varve.errors import Archived, InvalidInput
from varve.tailing.scan import Scan, Selection, selection

if TYPE_CHECKING:
    import uuid

    from varve.derived.projections.declare import Declared
    from varve.engine.core import Engine


class History(Protocol):
    """What ``history`` takes: an archive, or several in a row, as ``varve.open`` gives them."""

    @property
    def uuid(self) -> uuid.UUID:
        """The store's identity."""
        ...

    @property
    def first_global_sequence(self) -> int:
        """Where it begins."""
        ...

    @property
    def next_global_sequence(self) -> int:
        """Where it ends."""
        ...


class Source:
    """The log of a store, with archives of its beginning or without."""

    def __init__(self, engine: Engine, declared: Declared, history: History | None = None) -> None:
        self.engine = engine
        self.history = Log(engine)
        self._declared = declared
        self._selections: dict[Engine, Selection] = {}
        self._older = _stores(engine, history)

    @property
    def end(self) -> int:
        """The next global sequence of the store."""
        with self.engine.snapshot() as snapshot:
            return snapshot.next_sequence

    def scan(self, position: int) -> tuple[Scan[Any], int | None]:
        """A scan from a position on, and where what it reads ends, unless that is the store. Raises ``Archived``."""
        engine, stop = self._holding(position)
        return Scan(engine, self._selection(engine), position), stop

    def _holding(self, position: int) -> tuple[Engine, int | None]:
        with self.engine.snapshot() as snapshot:
            first = snapshot.first_sequence
        if position >= first:
            return self.engine, None
        for engine, low, high in self._older:
            if low <= position < high:
                return engine, high
        raise Archived(
            f"{self.engine.path}: the projection {self._declared.name} needs the events from global sequence "
            f"{position} on, and this "
            f"store begins at {first}: the others were archived. Open the archives, and pass them as history=",
            path=self.engine.path,
            first_sequence=first,
        )

    def _selection(self, engine: Engine) -> Selection:
        """What the projection wants of a log, in its own classes, whatever the handle's streams declare."""
        found = self._selections.get(engine)
        if found is None:
            bindings = Bindings()
            bindings.bind(self._declared.types)
            types = tuple(self._declared.types)
            found = self._selections[engine] = selection(bindings, self._declared.streams, types, "error")
        return found


def _stores(engine: Engine, history: History | None) -> list[tuple[Engine, int, int]]:
    """Engine, first and next sequence of each archive. Raises ``InvalidInput``."""
    if history is None:
        return []
    stores: Any = getattr(history, "stores", (history,))
    found = []
    for store in stores:
        if getattr(store, "_engine", None) is None:
            raise InvalidInput(f"history is an archive or several, opened with varve.open, not {history!r:.80}")
        if store.uuid.bytes != engine.created.uuid:
            raise InvalidInput(f"{store.path} is no archive of {engine.path}: it is the store {store.uuid}")
        found.append((store._engine, store.first_global_sequence, store.next_global_sequence))  # noqa: SLF001
    return found
