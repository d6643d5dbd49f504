"""The schema model: what an event class looks like as FlatBuffers, independent of Python classes.

A ``Schema`` is a root table and every table, struct and enum reachable from it, by name. Its canonical JSON text is what a
store remembers of an event type: equal schemas give equal bytes, and a class can be rebuilt from them.
"""

from __future__ import annotations

import json
import keyword
import math
import re
from dataclasses import dataclass, field
from typing import Any, Final

from varve import limits
from varve.errors import MalformedEvent, SchemaError

__all__ = ["INT_RANGES", "NO_DEFAULT", "SCALARS", "FieldDef", "Kind", "Scalar", "Schema", "TypeDef", "check_field_name"]

FORMAT: Final = 1
"""Version of the canonical text; part of it."""


@dataclass(frozen=True, slots=True)
class Scalar:
    """A fixed-size number: its ``struct`` code, bytes (also its alignment) and FlatBuffers name."""

    code: str
    size: int
    fbs: str


SCALARS: Final[dict[str, Scalar]] = {
    "bool": Scalar("?", 1, "bool"),
    "u8": Scalar("B", 1, "ubyte"),
    "u16": Scalar("H", 2, "ushort"),
    "u32": Scalar("I", 4, "uint"),
    "u64": Scalar("Q", 8, "ulong"),
    "i8": Scalar("b", 1, "byte"),
    "i16": Scalar("h", 2, "short"),
    "i32": Scalar("i", 4, "int"),
    "i64": Scalar("q", 8, "long"),
    "f32": Scalar("f", 4, "float"),
    "f64": Scalar("d", 8, "double"),
}

INT_RANGES: Final[dict[str, tuple[int, int]]] = {
    f"{sign}{bits}": (0, 2**bits - 1) if sign == "u" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    for sign in "ui"
    for bits in (8, 16, 32, 64)
}

PLAIN_TAGS: Final = frozenset(SCALARS) | {"str", "bytes", "decimal", "uuid", "datetime"}
NAMED_TAGS: Final = frozenset({"enum", "struct", "table"})
ALIGNMENTS: Final = (1, 2, 4, 8)
"""What ``force_align`` may ask for: events begin at multiples of 8."""

NUMBER_TAGS: Final = frozenset(SCALARS) | {"datetime", "enum"}
INLINE_TAGS: Final = NUMBER_TAGS | {"uuid", "struct", "array"}
"""Kinds that are stored in the table itself; every other is an offset to somewhere behind it."""


class _NoDefault:
    def __repr__(self) -> str:
        return "NO_DEFAULT"


NO_DEFAULT: Final = _NoDefault()
"""A field without a default that the schema knows: it must be present."""


@dataclass(frozen=True, slots=True)
class Kind:
    """The type of a field. ``tag`` is a scalar's name, ``str``, ``bytes`` (with the ``name`` of a table where they hold a whole
    buffer of it), ``decimal``, ``uuid``, ``datetime``, ``enum``, ``struct``, ``table`` (with ``name``), ``union`` (with the
    member tables' ``names``), ``vector`` (with ``item``) or, in structs, ``array`` (with ``item`` and ``length``)."""

    tag: str
    name: str = ""
    names: tuple[str, ...] = ()
    item: Kind | None = None
    length: int = 0

    @property
    def inline(self) -> bool:
        """Stored in the table itself, not behind an offset."""
        return self.tag in INLINE_TAGS

    @property
    def paired(self) -> bool:
        """Takes two field ids: a union's member number stands in the one before its value, a vector of unions has its vector
        of numbers there."""
        return self.tag == "union" or (self.item is not None and self.item.tag == "union")

    @property
    def nested(self) -> str:
        """The table of which a ``bytes`` field holds a whole buffer (``nested_flatbuffer``); empty for any other field."""
        return self.name if self.tag == "bytes" else ""

    def to_json(self) -> Any:
        """This kind in the canonical text."""
        if self.tag == "vector":
            assert self.item is not None
            return {"vector": self.item.to_json()}
        if self.tag == "array":
            assert self.item is not None
            return {"array": self.item.to_json(), "length": self.length}
        if self.tag == "union":
            return {"union": list(self.names)}
        return {self.tag: self.name} if self.tag in NAMED_TAGS or self.nested else self.tag

    def __str__(self) -> str:
        if self.tag == "vector":
            return f"list[{self.item}]"
        if self.tag == "array":
            return f"[{self.item}:{self.length}]"
        if self.tag == "union":
            return " | ".join(self.names)
        return f"bytes of {self.name}" if self.nested else self.name or self.tag

    def references(self) -> tuple[str, ...]:
        """Names of the types this kind needs."""
        if self.item is not None:
            return self.item.references()
        return (self.name,) if self.name else self.names


@dataclass(frozen=True, slots=True)
class FieldDef:
    """One field; ``default`` is the JSON form of what an absent field reads as (None for optional fields). ``key`` marks the
    field by which other languages look up items of sorted vectors; ``align`` is the least alignment of a vector's items."""

    name: str
    kind: Kind
    optional: bool = False
    default: Any = NO_DEFAULT
    deprecated: bool = False
    key: bool = False
    align: int = 0

    @property
    def defaultless(self) -> bool:
        """The class says nothing about what events without this field read as."""
        return not self.optional and self.default is NO_DEFAULT

    @property
    def required(self) -> bool:
        """Absence of the field is an error. Numbers are 0 when absent: other writers leave out what equals the default of
        the .fbs text."""
        return self.defaultless and self.kind.tag not in NUMBER_TAGS

    def to_json(self) -> dict[str, Any]:
        """This part of the canonical text."""
        out: dict[str, Any] = {"name": self.name, "type": self.kind.to_json()}
        if self.optional:
            out["optional"] = True
        if self.default is not NO_DEFAULT:
            out["default"] = self.default
        if self.deprecated:
            out["deprecated"] = True
        if self.key:
            out["key"] = True
        if self.align:
            out["force_align"] = self.align
        return out


@dataclass(frozen=True, slots=True)
class TypeDef:
    """A named table, struct or enum."""

    what: str
    name: str
    fields: tuple[FieldDef, ...] = ()
    members: tuple[tuple[str, int], ...] = ()
    base: str = ""
    flags: bool = False
    align: int = 0
    """Of a struct: the alignment asked for beyond that of its fields."""

    def to_json(self) -> dict[str, Any]:
        """This part of the canonical text."""
        if self.what == "enum":
            out: dict[str, Any] = {"enum": self.base, "members": [list(member) for member in self.members]}
            if self.flags:
                out["flags"] = True
            return out
        fields: dict[str, Any] = {self.what: [f.to_json() for f in self.fields]}
        return fields | {"force_align": self.align} if self.align else fields


@dataclass(frozen=True)
class Schema:
    """A root table and everything that it needs."""

    root: str
    types: dict[str, TypeDef] = field(hash=False)
    notes: dict[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """What others work out of a schema once and look up again."""

    @property
    def table(self) -> TypeDef:
        """The root."""
        return self.types[self.root]

    def to_bytes(self) -> bytes:
        """The canonical text: ASCII JSON, keys sorted, no blanks."""
        types = {name: self.types[name].to_json() for name in self.types}
        model = {"format": FORMAT, "root": self.root, "types": types}
        return json.dumps(model, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()

    @classmethod
    def from_bytes(cls, text: bytes | memoryview) -> Schema:
        """Parse canonical text of any origin; raises MalformedEvent when it is none."""
        return _Parser().schema(bytes(text))


def check_field_name(name: str, owner: str) -> None:
    """Field names end up in generated code and in .fbs text: ASCII identifiers that are no keywords."""
    if not (name.isascii() and name.isidentifier()) or keyword.iskeyword(name):
        raise SchemaError(f"{owner}.{name}: a field name must be an ASCII identifier and no Python keyword")
    if name in {"_b", "_o"} or name.startswith("__"):
        raise SchemaError(f"{owner}.{name}: this name is reserved; choose another")


TYPE_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/\-]*", re.ASCII)


def check_type_name(name: str) -> None:
    """Type names end up in schema text and in .fbs: a narrow alphabet."""
    if not isinstance(name, str) or not TYPE_NAME.fullmatch(name) or len(name) > limits.TYPE_NAME_BYTES_MAX:
        raise SchemaError(
            f"{name!r} cannot be an event type's name: ASCII letters, digits and _ . : / - , starting with a letter, at most "
            f"{limits.TYPE_NAME_BYTES_MAX} characters; use @varve.event(name=...)"
        )


def type_def_from_json(name: str, body: Any) -> TypeDef:
    """One type of canonical text, without a look at the types that it refers to."""
    return _Parser().type_def(name, body)


class _Parser:
    """Reads schema text that may come from anywhere; complains with MalformedEvent."""

    def fail(self, reason: str) -> MalformedEvent:
        return MalformedEvent(f"not a valid event schema: {reason}", offset=None)

    def schema(self, text: bytes) -> Schema:
        if len(text) > limits.SCHEMA_BYTES_MAX:
            raise self.fail(f"longer than {limits.SCHEMA_BYTES_MAX} bytes")
        try:
            model = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise self.fail("not JSON") from error
        if not isinstance(model, dict) or model.get("format") != FORMAT or not isinstance(model.get("types"), dict):
            raise self.fail("unknown format")
        types = {name: self.type_def(name, body) for name, body in model["types"].items()}
        root = model.get("root")
        if not isinstance(root, str) or root not in types or types[root].what != "table":
            raise self.fail("its root is no table")
        schema = Schema(root, types)
        for definition in types.values():
            for f in definition.fields:
                self.check_references(f.kind, definition, types)
        return schema

    def check_references(self, kind: Kind, owner: TypeDef, types: dict[str, TypeDef]) -> None:
        want = {"union": "table", "bytes": "table"}.get(kind.tag, kind.tag)
        if kind.tag == "array" and owner.what != "struct":
            raise self.fail(f"{owner.name} holds an array of fixed length and is no struct")
        if kind.item is not None:
            self.check_references(kind.item, owner, types)
            return
        for name in kind.references():
            if name not in types or types[name].what != want:
                raise self.fail(f"{owner.name} needs a {want} {name!r}")
        if owner.what == "struct" and not kind.inline:
            raise self.fail(f"struct {owner.name} holds a {kind}")

    def type_def(self, name: Any, body: Any) -> TypeDef:
        try:
            check_type_name(name)
        except SchemaError as error:
            raise self.fail(str(error)) from error
        if not isinstance(body, dict):
            raise self.fail(f"type {name!r}")
        if "enum" in body:
            return self.enum(name, body)
        what = "table" if "table" in body else "struct"
        fields = body.get(what)
        if not isinstance(fields, list) or len(fields) > limits.FIELDS_MAX:
            raise self.fail(f"type {name!r} has no list of fields, or too many")
        defs = tuple(self.field(name, entry) for entry in fields)
        if len({f.name for f in defs}) != len(defs):
            raise self.fail(f"type {name!r} names a field twice")
        return TypeDef(what, name, fields=defs, align=self.align(body, name))

    def align(self, body: dict[str, Any], where: str) -> int:
        align = body.get("force_align", 0)
        if type(align) is not int or align not in {0, *ALIGNMENTS}:
            raise self.fail(f"force_align of {where}")
        return align

    def enum(self, name: str, body: dict[str, Any]) -> TypeDef:
        base, members = body["enum"], body.get("members")
        if not isinstance(base, str) or base not in INT_RANGES or not isinstance(members, list) or not members:
            raise self.fail(f"enum {name!r}")
        low, high = INT_RANGES[base]
        seen: dict[str, int] = {}
        for member in members:
            match member:
                case [str(label), int(value)] if label.isidentifier() and label.isascii() and low <= value <= high:
                    seen[label] = int(value)
                case _:
                    raise self.fail(f"enum {name!r} has a bad member")
        if len(seen) != len(members):
            raise self.fail(f"enum {name!r} names a member twice")
        return TypeDef("enum", name, members=tuple(seen.items()), base=base, flags=body.get("flags") is True)

    def field(self, owner: str, body: Any) -> FieldDef:
        if not isinstance(body, dict) or not isinstance(body.get("name"), str):
            raise self.fail(f"a field of {owner!r}")
        name = body["name"]
        try:
            check_field_name(name, owner)
        except SchemaError as error:
            raise self.fail(str(error)) from error
        default = body.get("default", NO_DEFAULT)
        if isinstance(default, float) and not math.isfinite(default):
            raise self.fail(f"default of {owner}.{name}")
        return FieldDef(
            name,
            self.kind(body.get("type"), f"{owner}.{name}"),
            optional=body.get("optional") is True,
            default=default,
            deprecated=body.get("deprecated") is True,
            key=body.get("key") is True,
            align=self.align(body, f"{owner}.{name}"),
        )

    def kind(self, body: Any, where: str, inside_vector: bool = False) -> Kind:
        match body:
            case str(tag) if tag in PLAIN_TAGS:
                return Kind(tag)
            case {"vector": item} if len(body) == 1 and not inside_vector:
                return Kind("vector", item=self.kind(item, where, True))
            case {"array": item, "length": int(length)} if len(body) == 2 and not inside_vector and 0 < length < 2**16:
                inside = self.kind(item, where, True)
                if inside.inline:
                    return Kind("array", item=inside, length=length)
            case {"union": [*names]} if len(body) == 1 and 0 < len(names) < 256:
                if all(isinstance(name, str) for name in names) and len(set(names)) == len(names):
                    return Kind("union", names=tuple(names))
            case {"enum": str(name)} | {"struct": str(name)} | {"table": str(name)} if len(body) == 1 and name:
                return Kind(next(iter(body)), name=name)
            case {"bytes": str(name)} if len(body) == 1 and name and not inside_vector:
                return Kind("bytes", name=name)
        raise self.fail(f"type of {where}")
