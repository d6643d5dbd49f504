"""Event classes from a stored schema, for events whose class this process does not have."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from enum import IntEnum, IntFlag
from typing import Any, Final, Optional, Union

from varve import types as field_types
from varve.codec.declare import PLAIN, Declaration, declare
from varve.codec.event_type import EventType, event_type
from varve.codec.json import absent_object
from varve.codec.schema import INT_RANGES, NO_DEFAULT, FieldDef, Kind, Schema, TypeDef
from varve.codec.values import rebuild
from varve.errors import EventEncodingError, MalformedEvent, SchemaError

__all__ = ["classes_from_schema", "event_type_from_schema"]

CLASSES_MAX: Final = 1_024
"""Classes kept by schema, so that the same schema gives the same class; the least recently used go first."""

_classes: OrderedDict[bytes, dict[str, Any]] = OrderedDict()
_lock = threading.RLock()

HINTS: Final = {tag: hint for hint, tag in PLAIN.items()} | {
    tag: getattr(field_types, tag) for tag in (*INT_RANGES, "f32", "f64")
}


def event_type_from_schema(schema_bytes: bytes | memoryview) -> EventType:
    """An EventType whose class is made on the fly: same fields, nested classes, enums. Equal schemas give the same class.

    Raises MalformedEvent when the bytes are no schema.
    """
    text = bytes(schema_bytes)
    root = Schema.from_bytes(text).root
    return event_type(classes_from_schema(text)[root])


def classes_from_schema(schema_bytes: bytes) -> dict[str, Any]:
    """Every class of a schema by name. The same schema gives the same classes."""
    with _lock:
        found = _classes.get(schema_bytes)
        if found is not None:
            _classes.move_to_end(schema_bytes)
            return found
        schema = Schema.from_bytes(schema_bytes)
        made = _Maker(schema, schema_bytes).all()
        declared: Declaration = made[schema.root].__varve__
        if declared.schema().to_bytes() != schema_bytes:
            raise MalformedEvent("not a valid event schema: not in canonical form", offset=None)
        _classes[schema_bytes] = made
        while len(_classes) > CLASSES_MAX:
            _classes.popitem(last=False)
        return made


def rebuild_event(schema_bytes: bytes, name: str, fields: tuple[Any, ...]) -> Any:
    """Unpickle an event or struct of a class that exists in no module."""
    return rebuild(classes_from_schema(schema_bytes)[name], fields)


def rebuild_member(schema_bytes: bytes, name: str, value: int) -> Any:
    """Unpickle an enum's member; a value beyond the known ones stays an int."""
    try:
        return classes_from_schema(schema_bytes)[name](value)
    except ValueError:
        return value


class _Maker:
    def __init__(self, schema: Schema, schema_bytes: bytes) -> None:
        self.schema = schema
        self.schema_bytes = schema_bytes
        self.made: dict[str, Any] = {}

    def all(self) -> dict[str, Any]:
        """Every type as a class. Tables may refer to each other in circles: their annotations name them, and one scope
        resolves the names when all are there."""
        scope: dict[str, Any] = {}
        try:
            for name, definition in self.schema.types.items():
                self.make(name, definition, scope, ())
            for definition in self.schema.types.values():
                if definition.what == "table":
                    _ = self.made[definition.name].__varve__.fields
        except (SchemaError, EventEncodingError, TypeError, ValueError, RecursionError) as error:
            raise MalformedEvent(f"not a valid event schema: {error}", offset=None) from error
        for made in self.made.values():
            if hasattr(made, "__varve__"):
                made.__varve__.dynamic = self.schema_bytes
        return self.made

    def make(self, name: str, definition: TypeDef, scope: dict[str, Any], path: tuple[str, ...]) -> Any:
        if name in self.made:
            return self.made[name]
        if name in path:
            raise SchemaError(f"struct {name} holds itself")
        if definition.what == "enum":
            base: Any = IntFlag if definition.flags else IntEnum
            made: Any = base(name, list(definition.members))
            schema_bytes = self.schema_bytes
            made.__reduce_ex__ = lambda member, protocol: (rebuild_member, (schema_bytes, name, int(member)))
        else:
            if definition.what == "struct":
                for f in definition.fields:
                    for needed in f.kind.references():
                        self.make(needed, self.schema.types[needed], scope, (*path, name))
            made = self.record(name, definition, scope)
        self.made[name] = scope[self.label(name)] = made
        return made

    def label(self, name: str) -> str:
        """An identifier by which annotations name a type."""
        return "t_" + name.encode().hex()

    def record(self, name: str, definition: TypeDef, scope: dict[str, Any]) -> Any:
        namespace: dict[str, Any] = {"__annotations__": {}, "__module__": __name__, "__qualname__": name}
        seen_default = False
        for f in definition.fields:
            namespace["__annotations__"][f.name] = self.annotation(f, scope)
            default = self.default(f, definition)
            seen_default = seen_default or default is not None
            if default is not None:
                namespace[f.name] = default
            elif seen_default:
                namespace[f.name] = dataclasses.field(kw_only=True)
        # The scope is shared and grows: names of types that are still to be made resolve later.
        return declare(type(name, (), namespace), definition.what, name, scope)

    def default(self, f: FieldDef, definition: TypeDef) -> Any:
        metadata = {"deprecated": True} if f.deprecated else None
        if f.default is NO_DEFAULT:
            return dataclasses.field(metadata=metadata, kw_only=True) if metadata else None
        if f.kind.tag == "vector" and f.default == []:
            return dataclasses.field(default_factory=tuple, metadata=metadata)
        holder = _Holder(self, definition)
        value = absent_object(f.kind, f.default, holder)  # type: ignore[arg-type]
        return dataclasses.field(default=value, metadata=metadata)

    def annotation(self, f: FieldDef, scope: dict[str, Any]) -> Any:
        hint = self.hint(f.kind)
        return Optional[hint] if f.optional else hint  # noqa: UP045  (the hint may be a forward reference)

    def hint(self, kind: Kind) -> Any:
        if kind.tag == "vector":
            assert kind.item is not None
            return tuple[self.hint(kind.item), ...]  # type: ignore[misc]
        if kind.tag == "union":
            return Union[tuple(self.label(name) for name in kind.names)]  # noqa: UP007
        return self.label(kind.name) if kind.name else HINTS[kind.tag]


class _Holder:
    """Stands in for the Declaration of a class that is being made, to turn defaults into values."""

    def __init__(self, maker: _Maker, definition: TypeDef) -> None:
        self.maker = maker
        self.definition = definition

    def declaration_of(self, name: str) -> Any:
        return self.enum_of(name).__varve__

    def enum_of(self, name: str) -> Any:
        return self.maker.make(name, self.maker.schema.types[name], {}, (self.definition.name,))
