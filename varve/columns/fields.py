"""What a column's name means: a field of the events, a dotted path into nested ones, or something recorded beside them.

No numpy here: names against schemas, before anything is read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from varve.codec import EventType
from varve.codec.json import absent_object
from varve.codec.plan import plan_struct
from varve.codec.runtime import absent
from varve.codec.schema import SCALARS, FieldDef, Kind, Schema, TypeDef
from varve.errors import ColumnConflict, InvalidInput

BESIDE: Final = ("$commit_sequence", "$global_sequence", "$stream", "$stream_id", "$stream_sequence", "$time", "$type")
"""Columns of what is recorded beside an event. No field can have such a name: fields are identifiers."""

NO_ROOT: Final = -1


@dataclass(frozen=True)
class Hop:
    """One step of a path: a field of a table (``entry``: of its vtable) or of a struct (``offset``)."""

    definition: FieldDef
    entry: int
    offset: int
    where: str
    declaration: Any

    @property
    def in_struct(self) -> bool:
        """A struct's fields are always there."""
        return self.entry == NO_ROOT

    def if_absent(self) -> Any:
        """What the field reads as where it is absent; None for optional ones. Raises ``MalformedEvent``."""
        f = self.definition
        if f.required:
            raise absent(self.where)
        return None if f.optional else absent_object(f.kind, f.default, self.declaration)


@dataclass(frozen=True)
class Field:
    """A path from an event to a value."""

    names: tuple[str, ...]
    hops: tuple[Hop, ...]
    schema: Schema

    @property
    def kind(self) -> Kind:
        """The type of the value."""
        return self.hops[-1].definition.kind

    @property
    def optional(self) -> bool:
        """Whether there may be no value."""
        return any(hop.definition.optional for hop in self.hops)

    def rest_of(self, value: Any, step: int) -> Any:
        """The value at the path's end, from that at one of its steps."""
        for name in self.names[step + 1 :]:
            if value is None:
                return None
            value = getattr(value, name)
        return value


def plain_type(event_type: EventType) -> EventType:
    """The event type itself, or the twin of a class that flatc generated: its values are those of the schema."""
    return getattr(event_type, "twin", event_type)


def find_field(event_type: EventType, name: str) -> Field | None:
    """The field that a (dotted) name leads to; None where the type has no such field."""
    schema = event_type.schema
    declaration = plain_type(event_type).declaration
    owner = schema.table
    names = tuple(name.split("."))
    hops: list[Hop] = []
    for step, part in enumerate(names):
        found = hop_to(schema, owner, part, declaration)
        if found is None:
            return None
        hops.append(found)
        kind = found.definition.kind
        if step == len(names) - 1:
            return Field(names, tuple(hops), schema)
        if kind.tag not in {"table", "struct"}:
            return None
        owner = schema.types[kind.name]
        declaration = declaration.declaration_of(kind.name)
    return None


def hop_to(schema: Schema, owner: TypeDef, name: str, declaration: Any) -> Hop | None:
    """The step from a table or struct to one of its fields."""
    index = next((i for i, f in enumerate(owner.fields) if f.name == name), None)
    if index is None:
        return None
    f = owner.fields[index]
    where = f"{owner.name}.{name}"
    if owner.what == "struct":
        return Hop(f, NO_ROOT, struct_plan(schema, owner.name).offsets[index], where, declaration)
    # A union's number, or a vector of them, has an entry of its own in front.
    entry = 4 + 2 * (sum(2 if other.kind.paired else 1 for other in owner.fields[:index]) + f.kind.paired)
    return Hop(f, entry, 0, where, declaration)


def struct_plan(schema: Schema, name: str) -> Any:
    """The layout of a struct."""
    return plan_struct(
        schema.types[name], lambda inner: struct_plan(schema, inner), lambda enum: schema.types[enum].base
    )


def number_of(kind: Kind, schema: Schema) -> str | None:
    """The scalar that a kind is stored as; None for what is no number."""
    if kind.tag == "enum":
        return schema.types[kind.name].base
    if kind.tag == "datetime":
        return "i64"
    return kind.tag if kind.tag in SCALARS else None


def check_names(columns: Iterable[str]) -> list[str]:
    """The names of columns, each once. Raises ``InvalidInput``."""
    if isinstance(columns, str) or not isinstance(columns, Iterable):
        raise InvalidInput(f"columns are a list of names such as ['amount', '$time'], not {columns!r}")
    names = list(columns)
    for name in names:
        if not isinstance(name, str):
            raise InvalidInput(f"a column's name is a str, not {name!r}")
        if name.startswith("$") and name not in BESIDE:
            raise InvalidInput(f"there is no column {name!r}; beside an event are {', '.join(BESIDE)}")
    if not names:
        raise InvalidInput("name at least one column")
    return list(dict.fromkeys(names))


class Shape:
    """What one column is across event types: all that have the field must agree on its type.

    Attributes: ``name``, ``field`` (of the first type that has it; None so far), ``nullable`` (some events have no value).
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.field: Field | None = None
        self.nullable = False
        self._first = ""
        self._known: dict[EventType, Field | None] = {}

    def of(self, event_type: EventType) -> Field | None:
        """The column's field in an event type; None where it lacks it. Raises ``ColumnConflict``."""
        if event_type in self._known:
            return self._known[event_type]
        found = find_field(event_type, self.name)
        if found is None:
            self.nullable = True
        elif self.field is None:
            self.field, self._first = found, event_type.name
        elif not same_kind(self.field, found):
            raise ColumnConflict(
                f"column {self.name!r} is {self.field.kind} in {self._first!r} and {found.kind} in {event_type.name!r}: read "
                "them one by one, from streams or readers that declare one of the types each",
                column=self.name,
                type_names=(self._first, event_type.name),
            )
        if found is not None and found.optional:
            self.nullable = True
        self._known[event_type] = found
        return found


def same_kind(one: Field, other: Field) -> bool:
    """Whether two fields hold values of one type, as far down as it goes; an enum's members do not matter, its number does."""
    number = number_of(one.kind, one.schema)
    if number is not None:
        return one.kind == other.kind and number == number_of(other.kind, other.schema)
    return one.kind == other.kind and _parts(one.kind, one.schema) == _parts(other.kind, other.schema)


def _parts(kind: Kind, schema: Schema) -> dict[str, TypeDef]:
    """Every type that a kind needs."""
    found: dict[str, TypeDef] = {}
    waiting = list(kind.references()) if not kind.nested else []
    while waiting:
        name = waiting.pop()
        if name not in found:
            found[name] = schema.types[name]
            waiting += [inner for f in found[name].fields if not f.kind.nested for inner in f.kind.references()]
    return found


def unknown_column(name: str, types: Iterable[EventType]) -> InvalidInput:
    """The error for a name that no event type has."""
    known = list(dict.fromkeys(f.name for event_type in types for f in event_type.schema.table.fields))
    return InvalidInput(f"no event type here has a field {name!r}; there are {', '.join(known) or 'none'}")
