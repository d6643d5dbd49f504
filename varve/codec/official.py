"""Event types whose classes flatc generated: packed by the official Builder, read by the official accessors.

Beside the generated class stands a *twin*, a class made from the schema (``flatc.py``). What Varve itself must know of an
event's values goes through it: whether they fit, whether the generated code wrote what it was given, digests, equality, JSON.
Appending costs several times the official Builder, which costs many times a class of Varve's own: see docs/schemas.md.
"""

from __future__ import annotations

import dataclasses
import struct
import threading
from collections.abc import Mapping
from typing import Any, Final

from varve import limits
from varve.codec.check import coerce_event, encoding_error
from varve.codec.declare import Declaration
from varve.codec.digest import digest_text
from varve.codec.dynamic import event_type_from_schema
from varve.codec.event_type import EventType, event_type
from varve.codec.flatc import Generated, GeneratedField, accessor_of, read_generated, strange
from varve.codec.json import absent_object
from varve.codec.plan import StructPlan, plan_struct
from varve.codec.schema import FieldDef, Kind, Schema
from varve.codec.values import shown
from varve.errors import EventEncodingError, MalformedEvent, SchemaError

__all__ = ["OfficialType", "declare_flatc", "official_type"]

UOFFSET: Final = struct.Struct("<I").unpack_from
BUILDER_BYTES: Final = 256
"""What a Builder begins with; it doubles."""

NO_GENERATED: Final = frozenset({"datetime", "decimal", "uuid"})
"""Python types of a .fbs file's ``varve`` attribute, of which generated code knows nothing."""

_types: dict[type, OfficialType] = {}
_lock = threading.RLock()


def official_type(cls: Any) -> OfficialType | None:
    """The event type of a generated class (accessor, object class or view); None for any other class. The schema is read from
    the generated code unless ``declare_flatc`` gave it. Raises SchemaError."""
    if not isinstance(cls, type):
        return None
    known = cls.__dict__.get("__varve__")
    if isinstance(known, OfficialType):
        return known
    accessor = accessor_of(cls)
    if accessor is None:
        return None
    with _lock:
        if accessor not in _types:
            generated = read_generated(accessor)
            _types[accessor] = OfficialType(generated, twin_of(accessor, generated))
        return _types[accessor]


def twin_of(cls: type, generated: dict[str, Generated]) -> EventType:
    """The twin, of what generated code tells."""
    types = {name: one.definition() for name, one in generated.items()}
    try:
        return event_type_from_schema(Schema(next(iter(types)), types).to_bytes())
    except (MalformedEvent, SchemaError) as error:
        raise strange(cls, error.message) from error


def declare_flatc(accessor: type, loaded: Mapping[str, Any]) -> None:
    """Take a generated class's schema from the classes of its .fbs file. Raises SchemaError where the two differ."""
    generated = read_generated(accessor)
    root = next(iter(generated))
    named = [name for name in loaded if name == root] or [
        name for name in loaded if name.rpartition(".")[2] == accessor.__name__
    ]
    if len(named) != 1:
        found = " and ".join(named) if named else ", ".join(loaded)
        raise SchemaError(f"which type of the schema is {root}? It declares {found or 'nothing'}")
    twin = event_type(loaded[named[0]])
    with _lock:
        _types[accessor] = OfficialType(_Matched(twin.schema, generated).all(named[0], root), twin)


class _Matched:
    """Generated classes under the names of a schema, each field compared."""

    def __init__(self, schema: Schema, generated: dict[str, Generated]) -> None:
        self.schema = schema
        self.generated = generated
        self.out: dict[str, Generated] = {}

    def all(self, name: str, found: str) -> dict[str, Generated]:
        """From the root on."""
        self.match(name, found)
        return self.out

    def match(self, name: str, found: str) -> None:
        """A type of the schema and the generated one that a field refers to."""
        one = self.generated[found]
        if name in self.out:
            if self.out[name].cls is not one.cls:
                raise self.differs(one, f"it and {self.out[name].cls.__qualname__} would both be {name}")
            return
        definition = self.schema.types[name]
        self.out[name] = one
        fields = {f.slot: f for f in one.fields} if one.what == "table" else dict(enumerate(one.fields))
        matched = []
        slot = -1
        for f in definition.fields:
            slot += 2 if f.kind.tag == "union" else 1
            there = fields.pop(slot, None)
            if there is None and f.deprecated:
                continue
            if there is None:
                raise self.differs(one, f"it lacks the field {f.name}")
            self.field(one, f, there)
            matched.append(dataclasses.replace(there, field=f))
        if fields:
            raise self.differs(one, f"the schema lacks {', '.join(f.attr for f in fields.values())}")
        if one.what == "struct":
            plan, natural = (
                self.plan_of(name),
                plan_struct(dataclasses.replace(definition, align=0), self.plan_of, self.base_of),
            )
            if (plan.align, list(plan.offsets)) != (max(natural.align, one.align), [f.slot for f in one.fields]):
                raise self.differs(one, "its fields stand elsewhere, or it is aligned otherwise")
        self.out[name] = dataclasses.replace(one, name=name, fields=tuple(matched))

    def field(self, one: Generated, f: FieldDef, there: GeneratedField) -> None:
        known = there.field
        if f.name.replace("_", "").lower() != there.attr.replace("_", "").lower():
            raise self.differs(one, f"{there.attr} stands where the schema has {f.name}")
        if not self.same_kind(f.kind, known.kind, one):
            raise self.differs(one, f"{f.name} is {known.kind} and not {f.kind}")
        if one.what == "struct" or not known.kind.inline or known.kind.tag == "struct":
            return
        # Numbers: what an absent one reads as stands in the generated code too.
        there_absent = None if known.optional else known.default
        absent = None if f.optional else self.number(f)
        if absent != there_absent:
            raise self.differs(one, f"{f.name} is {there_absent} when absent, and {absent} in the schema")

    def plan_of(self, name: str) -> StructPlan:
        return plan_struct(self.schema.types[name], self.plan_of, self.base_of)

    def base_of(self, name: str) -> str:
        return self.schema.types[name].base

    def number(self, f: FieldDef) -> Any:
        if f.kind.tag == "enum":
            members = dict(self.schema.types[f.kind.name].members)
            return members.get(f.default, f.default)
        return f.default

    def same_kind(self, kind: Kind, known: Kind, one: Generated) -> bool:
        """Whether the schema's kind is stored as the generated code has it; what it refers to is compared as well."""
        if kind.tag in NO_GENERATED or (kind.item is not None and kind.item.tag in {*NO_GENERATED, "bytes"}):
            raise self.differs(one, f'generated code knows no (varve: "...") types such as {kind}')
        if kind.tag == "enum":
            return known.tag == self.base_of(kind.name)
        if kind.tag == "vector" and known.tag == "bytes":
            assert kind.item is not None
            return self.same_kind(kind.item, Kind("u8"), one)
        if kind.tag != known.tag or kind.length != known.length or len(kind.names) != len(known.names):
            return False
        if kind.nested:  # which generated code does not tell
            return True
        if kind.item is not None and known.item is not None:
            return self.same_kind(kind.item, known.item, one)
        for name, found in zip(kind.references(), known.references(), strict=True):
            self.match(name, found)
        return True

    @staticmethod
    def differs(one: Generated, why: str) -> SchemaError:
        return SchemaError(
            f"{one.cls.__module__}.{one.cls.__qualname__} was not generated from this schema: {why}. Run flatc again"
        )


class OfficialType(EventType):
    """The descriptor of a generated class. ``declaration`` and ``plan`` are those of its twin; events are packed by the object
    class's own ``Pack``."""

    __slots__ = ("generated", "object_cls", "twin")

    def __init__(self, generated: dict[str, Generated], twin: EventType) -> None:
        root = generated[twin.name]
        self.generated = generated
        self.twin = twin
        self.cls = root.cls
        self.object_cls: Any = root.object_cls
        self.declaration = twin.declaration
        self.name = twin.name
        self.schema = twin.schema
        self.schema_bytes = twin.schema_bytes
        self.fingerprint = twin.fingerprint
        self.plan = twin.plan
        self.body, self.nested = twin.body, twin.nested
        self.pack = self.pack_one
        self.pack_all = lambda events: [self.pack_one(event) for event in events]
        self.view_class = make_view_class(self)
        self.source = (
            f"# {self.name}: {self.cls.__module__}.{self.cls.__qualname__}, generated by flatc, packs and reads its events\n"
            "# itself. Below is its twin, by which Varve checks and compares them.\n\n" + twin.source
        )

    @property
    def accepts(self) -> tuple[type, ...]:
        """Instances of the object class, and accessors."""
        return (self.object_cls, self.cls)

    def by_value(self, event: Any) -> Any:
        """An event (an object, a view or another accessor) as an instance of the twin, checked. Raises EventEncodingError."""
        if isinstance(event, self.object_cls):
            return coerce_event(self.declaration, _Translator(self).event(event))
        if is_view(event):
            return self.twin.view(event._b, event._o)  # noqa: SLF001 - its own kind of view
        return self.twin.view(self.adopted(event))

    def pack_one(self, event: Any) -> bytes:
        """``pack``."""
        if isinstance(event, self.object_cls):
            return self.pack_object(event)
        return self.twin.pack(self.by_value(event))

    def pack_object(self, event: Any) -> bytes:
        """The bytes of the object's own ``Pack``, verified, and read back for comparison: generated code packs wrong values
        without a word where the object does not hold what its class says."""
        from flatbuffers import Builder

        fit = self.by_value(event)
        try:
            builder = Builder(BUILDER_BYTES)
            builder.Finish(event.Pack(builder))
            data = bytes(builder.Output())
        except MemoryError:
            raise
        except Exception as error:
            why = f"could not be packed by its own Pack ({type(error).__name__}: {error})"
            raise encoding_error(self.name, "", why, event) from error
        data += bytes(-len(data) % 8)
        try:
            self.verify(data)
        except MalformedEvent as error:
            raise encoding_error(self.name, "", f"was packed to an invalid buffer ({error.message})", event) from error
        written = self.twin.view(data)
        if written != fit:
            name = next(
                (
                    f.name
                    for f in self.declaration.fields
                    if repr(getattr(written, f.name)) != repr(getattr(fit, f.name))
                ),
                "",
            )
            raise encoding_error(self.name, name, "was packed to something else by the generated code", event)
        return data

    def adopted(self, event: Any) -> bytes:
        """The buffer of an accessor that was not read from a store, verified."""
        table: Any = getattr(event, "_tab", None)
        try:
            data = bytes(table.Bytes)
            whole = UOFFSET(data, 0)[0] == table.Pos
        except (AttributeError, TypeError, struct.error):
            raise encoding_error(self.name, "", f"has no buffer; append a {self.object_cls.__name__}", event) from None
        if not whole:
            advice = f"is part of a buffer; append {self.object_cls.__name__}.InitFromObj(event)"
            raise encoding_error(self.name, "", advice, event)
        try:
            self.verify(data)
        except MalformedEvent as error:
            raise encoding_error(self.name, "", f"has an invalid buffer ({error.message})", event) from error
        return data

    def digest(self, event: Any) -> bytes:
        """As ``EventType.digest``."""
        return digest_text(self.declaration, coerce_event(self.declaration, self.by_value(event)))

    def digest_packed(self, buffer: bytes) -> bytes:
        """As ``EventType.digest_packed``."""
        return self.twin.digest_packed(buffer)

    def owned(self, event: Any) -> Any:
        """A view over bytes of its own."""
        return self.view(self.twin.pack(self.by_value(event)))


# -- objects ---------------------------------------------------------------------------------------------------------


class _Translator:
    """Objects of generated classes to instances of the twin's classes, value by value, nothing guessed."""

    def __init__(self, official: OfficialType) -> None:
        self.name = official.name
        self.generated = official.generated
        self.declaration = official.declaration

    def event(self, event: Any) -> Any:
        return self.record(self.name, self.declaration, event, "", 1)

    def bad(self, path: str, reason: str, value: object) -> EventEncodingError:
        return encoding_error(self.name, path, reason, value)

    def record(self, name: str, declared: Declaration, value: Any, path: str, depth: int) -> Any:
        one = self.generated[name]
        if not isinstance(value, one.object_cls):
            raise self.bad(path, f"must be a {one.object_cls.__name__}", value)
        if depth > limits.NESTING_DEPTH_MAX:
            raise self.bad(path, f"is nested deeper than {limits.NESTING_DEPTH_MAX}", value)
        dot = f"{path}." if path else ""
        by_name = {f.field.name: f for f in one.fields}
        known = {f.attr for f in one.fields} | {f.tag_attr for f in one.fields}
        for attr in getattr(value, "__dict__", ()):
            if attr not in known:
                raise self.bad(f"{dot}{attr}", f"is no field of {one.object_cls.__name__}", getattr(value, attr))
        out: Any = object.__new__(declared.cls)
        for f in declared.fields:
            there = by_name.get(f.name)
            found = self.absent(f, declared) if there is None else self.field(f, there, declared, value, dot, depth)
            object.__setattr__(out, f.name, found)
        return out

    def field(self, f: FieldDef, there: GeneratedField, declared: Declaration, owner: Any, dot: str, depth: int) -> Any:
        path = dot + f.name
        try:
            value = getattr(owner, there.attr)
            tag = getattr(owner, there.tag_attr) if there.tag_attr else 0
        except AttributeError:
            raise self.bad(path, "is not set; every field needs a value", None) from None
        if f.kind.tag == "union":
            return self.union(f, tag, value, declared, path, depth)
        if value is None and (f.optional or (not f.required and not f.kind.inline)):
            return self.absent(f, declared)
        return self.value(f.kind, value, declared, path, depth)

    @staticmethod
    def absent(f: FieldDef, declared: Declaration) -> Any:
        return None if f.optional else absent_object(f.kind, f.default, declared)

    def union(self, f: FieldDef, tag: Any, value: Any, declared: Declaration, path: str, depth: int) -> Any:
        if tag == 0 and value is None and f.optional:
            return None
        if not isinstance(tag, int) or isinstance(tag, bool) or not 0 < tag <= len(f.kind.names):
            raise self.bad(path, f"needs its type, a number from 1 to {len(f.kind.names)}", tag)
        name = f.kind.names[tag - 1]
        return self.record(name, declared.declaration_of(name), value, path, depth + 1)

    def value(self, kind: Kind, value: Any, declared: Declaration, path: str, depth: int) -> Any:
        """One value in the form that the twin's own check takes."""
        match kind.tag:
            case "str" if isinstance(value, (bytes, bytearray)):  # what accessors give
                try:
                    return bytes(value).decode()
                except UnicodeDecodeError:
                    raise self.bad(path, "must be UTF-8", value) from None
            case "bytes":
                return self.numbers(value, path)
            case "table" | "struct":
                return self.record(kind.name, declared.declaration_of(kind.name), value, path, depth + 1)
            case "vector" | "array" if kind.item is not None and isinstance(value, (list, tuple)):
                item = kind.item
                return tuple(self.value(item, one, declared, f"{path}[{i}]", depth) for i, one in enumerate(value))
        return value

    def numbers(self, value: Any, path: str) -> bytes:
        """A [ubyte]: an object holds it as a list, as bytes or as a numpy array."""
        if isinstance(value, (bytes, bytearray, memoryview)):
            return bytes(value)
        items = value.tolist() if callable(getattr(value, "tolist", None)) else value
        if isinstance(items, (list, tuple)) and all(type(one) is int and 0 <= one < 256 for one in items):
            return bytes(items)
        raise self.bad(path, "must be bytes, or a list of numbers from 0 to 255", value)


# -- views -----------------------------------------------------------------------------------------------------------


def is_view(event: Any) -> bool:
    """Whether an event is a view made here, of any version of its class."""
    return isinstance(getattr(type(event), "__varve__", None), OfficialType)


def make_view_class(official: OfficialType) -> type:
    """A subclass of the accessor whose instances are made as those of every view class are (``_b``, ``_o``) and find their
    table at the first access. Equal, hashable, picklable and printed by value."""
    from flatbuffers.table import Table

    cls: Any = official.cls
    as_twin = official.twin.view

    def __getattr__(self: Any, name: str) -> Any:
        # Reached for ``_tab`` only before it is set: accessors know nothing of a view's own beginning.
        if name != "_tab":
            raise AttributeError(f"{cls.__name__!r} object has no attribute {name!r}")
        buffer, offset = self._b, self._o
        self._tab = table = Table(buffer, offset + UOFFSET(buffer, offset)[0])
        return table

    def frozen(_self: Any, _buf: Any, _pos: int) -> None:
        raise dataclasses.FrozenInstanceError("events are frozen; make another accessor for another buffer")

    def __eq__(self: Any, other: Any) -> bool:
        if not isinstance(other, view):
            return NotImplemented
        return bool(as_twin(self._b, self._o) == as_twin(other._b, other._o))  # type: ignore[attr-defined]

    def __hash__(self: Any) -> int:
        return hash(as_twin(self._b, self._o))

    def __repr__(self: Any) -> str:
        event = as_twin(self._b, self._o)
        inside = ", ".join(f"{f.name}={shown(getattr(event, f.name))}" for f in official.declaration.fields)
        return f"{cls.__qualname__}({inside})"

    def __reduce__(self: Any) -> tuple[Any, ...]:
        return rebuild_view, (cls, official.twin.pack(as_twin(self._b, self._o)))

    namespace = {
        "__module__": cls.__module__,
        "__qualname__": cls.__qualname__,
        "__doc__": cls.__doc__,
        "__slots__": ("_b", "_o"),
        "__varve__": official,
        "__getattr__": __getattr__,
        "Init": frozen,
        "__eq__": __eq__,
        "__hash__": __hash__,
        "__repr__": __repr__,
        "__reduce__": __reduce__,
    }
    view = type(cls.__name__, (cls,), namespace)
    return view


def rebuild_view(cls: type, data: bytes) -> Any:
    """Unpickle a view: one over bytes of its own."""
    found = official_type(cls)
    if found is None:
        raise SchemaError(f"{cls!r} is no class generated by flatc any more")
    return found.view(data)
