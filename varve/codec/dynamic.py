"""Event classes from a stored schema, for events whose class this process does not have."""

from __future__ import annotations

import dataclasses
import threading
from collections import OrderedDict
from enum import IntEnum, IntFlag
from typing import Annotated, Any, Final, Optional

from varve import types as field_types
from varve.codec.declare import ENUM_MARK, PLAIN, Declaration, EnumMark, declare
from varve.codec.event_type import EventType, event_type
from varve.codec.json import absent_object
from varve.codec.schema import INT_RANGES, NO_DEFAULT, FieldDef, Kind, Schema, TypeDef
from varve.codec.values import rebuild
from varve.errors import EventEncodingError, MalformedEvent, SchemaError

__all__ = ["Maker", "classes_from_schema", "event_type_from_schema"]

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
    try:
        return event_type(classes_from_schema(text)[root])
    except (SchemaError, RecursionError) as error:  # too wide, too deep, or a struct of nothing
        raise MalformedEvent(f"not a valid event schema: {error}", offset=None) from error


def classes_from_schema(schema_bytes: bytes) -> dict[str, Any]:
    """Every class of a schema by name. The same schema gives the same classes."""
    with _lock:
        found = _classes.get(schema_bytes)
        if found is not None:
            _classes.move_to_end(schema_bytes)
            return found
        schema = Schema.from_bytes(schema_bytes)
        made = Maker(schema.types, schema_bytes).all()
        declared: Declaration = made[schema.root].__varve__
        try:
            canonical = declared.schema().to_bytes()
        except (SchemaError, RecursionError) as error:  # structs are looked at as a whole, when all are there
            raise MalformedEvent(f"not a valid event schema: {error}", offset=None) from error
        if canonical != schema_bytes:
            raise MalformedEvent("not a valid event schema: not in canonical form", offset=None)
        _classes[schema_bytes] = made
        while len(_classes) > CLASSES_MAX:
            _classes.popitem(last=False)
        return made


def rebuild_event(schema_bytes: bytes, name: str, fields: tuple[Any, ...]) -> Any:
    """Unpickle an event or struct of a class that exists in no module."""
    return rebuild(_classes_of(schema_bytes)[name], fields)


def rebuild_member(schema_bytes: bytes, name: str, value: int) -> Any:
    """Unpickle an enum's member."""
    return _classes_of(schema_bytes)[name](value)


def _classes_of(text: bytes) -> dict[str, Any]:
    """The classes of a stored schema, or of what was loaded from .fbs files."""
    from varve.codec.fbs_load import MODEL_START, classes_from_model

    return classes_from_model(text) if text.startswith(MODEL_START) else classes_from_schema(text)


class Maker:
    """Classes for all types of a schema; ``text`` is what their pickles hold to make them again."""

    def __init__(self, schema_types: dict[str, TypeDef], text: bytes) -> None:
        self.types = schema_types
        self.text = text
        self.made: dict[str, Any] = {}
        self.making: set[str] = set()
        self.scope: dict[str, Any] = {}

    def all(self) -> dict[str, Any]:
        """Every type as a class. Tables may refer to each other in circles: their annotations name them, and one scope
        resolves the names when all are there."""
        try:
            for name in self.types:
                self.make(name)
            for definition in self.types.values():
                if definition.what == "table":
                    _ = self.made[definition.name].__varve__.fields
        except (SchemaError, EventEncodingError, TypeError, ValueError, RecursionError) as error:
            raise MalformedEvent(f"not a valid event schema: {error}", offset=None) from error
        for made in self.made.values():
            if hasattr(made, "__varve__"):
                made.__varve__.dynamic = self.text
        return self.made

    def make(self, name: str) -> None:
        """One type, after the structs it holds and after whatever its defaults need."""
        if name in self.made or name in self.making:
            return
        self.making.add(name)
        definition = self.types[name]
        if definition.what == "enum":
            made = self.enum(name, definition)
        else:
            for f in definition.fields:
                if definition.what == "struct" or f.default is not NO_DEFAULT:
                    self.make_needed(f.kind)
            made = self.record(name, definition)
        self.made[name] = self.scope[self.label(name)] = made
        self.scope[self.label(name, "n_")] = Annotated[bytes, field_types.Nested(made)]

    def make_needed(self, kind: Kind) -> None:
        """What a kind needs, however deep."""
        for name in kind.references():
            self.make(name)
            for f in self.types[name].fields:
                if not set(f.kind.references()) <= self.making:
                    self.make_needed(f.kind)

    def enum(self, name: str, definition: TypeDef) -> Any:
        """The class of an enum."""
        base: Any = IntFlag if definition.flags else IntEnum
        made: Any = base(self.python_name(name), list(definition.members))
        text = self.text
        made.__reduce_ex__ = lambda member, _: (rebuild_member, (text, name, int(member)))
        setattr(made, ENUM_MARK, EnumMark(definition.base, name))
        return made

    def python_name(self, name: str) -> str:
        """What the class of a type is called."""
        return name

    def doc(self, _name: str) -> str | None:
        """The docstring of a class."""
        return None

    def label(self, name: str, start: str = "t_") -> str:
        """An identifier by which annotations name a type, or (``n_``) bytes that hold a buffer of it."""
        return start + name.encode().hex()

    def record(self, name: str, definition: TypeDef) -> Any:
        """The class of a table or struct."""
        python_name = self.python_name(name)
        namespace: dict[str, Any] = {"__annotations__": {}, "__module__": __name__, "__qualname__": python_name}
        if doc := self.doc(name):
            namespace["__doc__"] = doc
        for f in definition.fields:
            if f.kind.paired:
                annotation: Any = self.union_hint(f.kind) + (" | None" if f.optional else "")
            else:
                hint = self.hint(f.kind)
                # The hint may be a forward reference, which ``|`` does not take.
                annotation = Optional[hint] if f.optional else hint  # noqa: UP045
            namespace["__annotations__"][f.name] = annotation
            namespace[f.name] = self.field(f, definition)
        # The scope is shared and grows: names of types that are still to be made resolve later.
        return declare(type(python_name, (), namespace), definition.what, name, self.scope, definition.align)

    def field(self, f: FieldDef, definition: TypeDef) -> Any:
        """Positional until a default has come; required fields after it are keyword-only."""
        metadata = self.metadata(f)
        if f.default is NO_DEFAULT:
            before = definition.fields[: definition.fields.index(f)]
            late = any(other.default is not NO_DEFAULT for other in before)
            return dataclasses.field(metadata=metadata, kw_only=late)
        if f.default == []:
            return dataclasses.field(default_factory=tuple, metadata=metadata)
        value = absent_object(f.kind, f.default, self.holder())
        return dataclasses.field(default=value, metadata=metadata)

    def holder(self) -> Any:
        """What finds the classes that defaults need, as a Declaration does."""
        return _Holder(self.made)

    @staticmethod
    def metadata(f: FieldDef) -> dict[str, Any]:
        """What the field's metadata says beside its type."""
        marks = {"deprecated": f.deprecated, "key": f.key, "force_align": f.align}
        return {name: value for name, value in marks.items() if value}

    def union_hint(self, kind: Kind) -> str:
        """The annotation of a union, or of a vector of unions, as text: ``typing`` keeps what it made of a union and gives it
        again for one of the same members in another order, but the order is what the members' numbers are."""
        if kind.item is not None:
            return f"tuple[{self.union_hint(kind.item)}, ...]"
        return " | ".join(self.label(name) for name in kind.names)

    def hint(self, kind: Kind) -> Any:
        """The annotation of a field, without its None."""
        if kind.tag == "vector":
            assert kind.item is not None
            return tuple[self.hint(kind.item), ...]  # type: ignore[misc]
        if kind.tag == "array":
            assert kind.item is not None
            items: Any = tuple[self.hint(kind.item), ...]  # type: ignore[misc]
            return Annotated[items, field_types.Length(kind.length)]
        if kind.nested:
            return self.label(kind.nested, "n_")
        return self.label(kind.name) if kind.name else HINTS[kind.tag]


class _Holder:
    """Stands in for the Declaration of a class that is being made, to turn its defaults into values."""

    def __init__(self, made: dict[str, Any]) -> None:
        self.made = made

    def declaration_of(self, name: str) -> Any:
        return self.enum_of(name).__varve__

    def enum_of(self, name: str) -> Any:
        if name not in self.made:
            raise SchemaError(f"a default needs {name}, which needs the default")
        return self.made[name]
