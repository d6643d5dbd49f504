"""Which class an event of the log comes as, where no typed stream says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from varve.codec import EventType, event_type_from_schema, incompatibilities

if TYPE_CHECKING:
    from varve.engine.snapshot import Snapshot


class Bindings:
    """Event types that streams of this handle declare, by name; others are made from the schema in the log."""

    def __init__(self) -> None:
        self._bound: dict[str, EventType] = {}
        self._views: dict[int, Any] = {}
        self.generation = 0
        """Rises when classes change: who remembers what ``view_class`` said asks again then."""

    def bind(self, types: dict[str, EventType]) -> None:
        """From now on events of these names come as these classes."""
        self._bound.update(types)
        self._views = {}
        self.generation += 1

    def view_class(self, snapshot: Snapshot, type_number: int, _sequence: int = 0) -> Any:
        """The class of views of a type number."""
        views = self._views  # bind() replaces it: what was found before must not outlive that
        view = views.get(type_number)
        if view is None:
            declared = snapshot.catalog.type(snapshot, type_number)
            bound = self._bound.get(declared.name)
            if bound is None or unreadable(bound, declared.schema):
                bound = event_type_from_schema(declared.schema)
            view = views[type_number] = bound.view_class
        return view


def unreadable(bound: EventType, stored_schema: bytes) -> list[str]:
    """Why events of a stored schema cannot come as a class; empty where they can, the class being newer or older than they.

    ``db.stream`` and appends refuse such a class. A reader can hold one all the same: somebody else declared the type since.
    """
    if stored_schema == bound.schema_bytes:
        return []
    reasons = incompatibilities(stored_schema, bound.schema_bytes)
    return list(reasons) if reasons and incompatibilities(bound.schema_bytes, stored_schema) else []
