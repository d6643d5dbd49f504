"""Which class an event of the log comes as, where no typed stream says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from varve.codec import EventType, event_type_from_schema, incompatibilities
from varve.deferred import unknown_view, upcast_view
from varve.errors import MalformedEvent, SchemaConflict, SchemaError, UnexpectedEventType
from varve.gaps import GAP, GAP_VIEW
from varve.upcasts import REGISTRY, Step

if TYPE_CHECKING:
    from collections.abc import Collection

    from varve.engine.snapshot import Snapshot
    from varve.layout.records import TypeRecord

UnknownTyped = Literal["error", "event"]
"""What a typed reader makes of an event outside its declared types: ``UnexpectedEventType``, or an ``UnknownEvent``."""

UnknownAnywhere = Literal["decode", "event", "error"]
"""What a replay makes of an event whose class no stream has bound: an event of a class made from the schema in the log, an
``UnknownEvent``, or ``UnexpectedEventType``."""


class Bindings:
    """Event types that streams of this handle declare, by name; others are made from the schema in the log."""

    def __init__(self) -> None:
        self._bound: dict[str, EventType] = {}
        self._views: dict[_Asked, Any] = {}
        self._registered = -1
        self._binds = 0

    def bind(self, types: dict[str, EventType]) -> None:
        """From now on events of these names come as these classes."""
        self._bound.update(types)
        self._views = {}
        self._binds += 1

    @property
    def generation(self) -> int:
        """Rises when classes or upcasts change: who remembers what ``view_class`` said asks again then."""
        return self._binds + REGISTRY.generation

    def view_class(
        self,
        snapshot: Snapshot,
        type_number: int,
        sequence: int = 0,
        *,
        unknown: UnknownAnywhere = "decode",
        wanted: Collection[str] | None = None,
    ) -> Any:
        """What stands for the views of a type number; None where its events lead to none of the ``wanted`` types.

        Raises, where ``unknown`` is ``"error"``, ``UnexpectedEventType`` and ``SchemaConflict``.
        """
        if self._registered != REGISTRY.generation:  # an upcast was registered since
            self._registered, self._views = REGISTRY.generation, {}
        views = self._views  # bind() replaces it: what was found before must not outlive that
        stored = snapshot.catalog.type(snapshot, type_number)
        steps = REGISTRY.path(stored.name)
        if wanted is not None:
            found = steps_to(wanted, stored.name, steps)
            if found is None:
                return None
            steps = found
        asked = _Asked(type_number, len(steps), unknown)
        view = views.get(asked)
        if view is None:
            view = views[asked] = self._resolve(snapshot, stored, steps, unknown, sequence)
        return view

    def _resolve(
        self, snapshot: Snapshot, stored: TypeRecord, steps: tuple[Step, ...], unknown: UnknownAnywhere, sequence: int
    ) -> Any:
        if stored.name == GAP.name:
            return GAP_VIEW
        known = steps[0].old_type if steps else self._bound.get(stored.name) or REGISTRY.known(stored.name)
        reasons = [] if known is None else unreadable(known, stored.schema)
        if known is not None and not reasons:
            return upcast_view(known, steps) if steps else known.view_class
        if unknown == "error":
            if reasons:
                raise unreadable_error(stored.name, sequence, reasons)
            stream = stream_of(snapshot, sequence)
            raise UnexpectedEventType(
                f"stream {stream!r} holds a {stored.name!r} at global sequence {sequence}, which no stream of this handle "
                "declares: bind its class with db.stream(...), or replay with unknown='decode'",
                stream=stream,
                type_name=stored.name,
                global_sequence=sequence,
            )
        if unknown == "decode":
            try:
                return event_type_from_schema(stored.schema).view_class
            except (MalformedEvent, SchemaError):
                pass  # in words of a newer Varve
        return unknown_view(stored.name)


class _Asked(NamedTuple):
    """What the class of views of a stored type depends on."""

    type_number: int
    steps: int
    unknown: UnknownAnywhere


def steps_to(wanted: Collection[str], name: str, steps: tuple[Step, ...]) -> tuple[Step, ...] | None:
    """The upcasts from a type to the first wanted one on its way, none where it is wanted itself; None: it leads to none."""
    for count, passed in enumerate((name, *(step.new_name for step in steps))):
        if passed in wanted:
            return steps[:count]
    return None


def unreadable(bound: EventType, stored_schema: bytes) -> list[str]:
    """Why events of a stored schema cannot come as a class; empty where they can, the class being newer or older than they.

    ``db.stream`` and appends refuse such a class. A reader can hold one all the same: somebody else declared the type since.
    """
    if stored_schema == bound.schema_bytes:
        return []
    try:
        reasons = incompatibilities(stored_schema, bound.schema_bytes)
        return list(reasons) if reasons and incompatibilities(bound.schema_bytes, stored_schema) else []
    except MalformedEvent as error:
        return [f"the stored schema is beyond this Varve ({error}): upgrade"]


def unreadable_error(name: str, sequence: int, reasons: list[str]) -> SchemaConflict:
    """A reader met an event that its class cannot read."""
    return SchemaConflict(
        f"the {name!r} at global sequence {sequence} was written with a schema that this class cannot read: "
        f"{'; '.join(reasons)}. Read with db.global_reader(), or give one of the classes another name",
        type_name=name,
        reasons=tuple(reasons),
    )


def stream_of(snapshot: Snapshot, sequence: int) -> str:
    """The name of the stream that holds a global sequence."""
    block = snapshot.block(sequence)
    run, _ = block.run_of(sequence - block.first)
    return snapshot.catalog.stream(snapshot, run.stream).name
