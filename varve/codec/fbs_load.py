"""Syntax trees of .fbs files to event classes.

``resolve`` looks names up and turns declarations into the schema model (``TypeDef``), complaining with file, line and column;
``classes_from_model`` makes the classes by the same machinery that makes them from a stored schema. In between stands the
*model text*: canonical JSON of every type, from which pickles of such events rebuild their classes.
"""

from __future__ import annotations

import dataclasses
import json
import keyword
import math
import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final

from varve import limits
from varve.codec.check import datetime_of
from varve.codec.declare import ENUM_MARK, EnumMark, enum_mark
from varve.codec.dynamic import CLASSES_MAX, Maker
from varve.codec.fbs_lexer import At, fbs_error
from varve.codec.fbs_parser import Attributes, Enum, FbsFile, Field, Record, TypeName, Value
from varve.codec.json import absent_object
from varve.codec.plan import plan_struct
from varve.codec.schema import (
    ALIGNMENTS,
    INT_RANGES,
    NO_DEFAULT,
    SCALARS,
    FieldDef,
    Kind,
    TypeDef,
    check_field_name,
    check_type_name,
    type_def_from_json,
)
from varve.errors import MalformedEvent, SchemaError

__all__ = ["MODEL_START", "Model", "classes_from_model", "resolve"]

MODEL_START: Final = b'{"fbs":1,'
"""How a model text begins; no schema of a single event type does."""

BUILT_IN: Final[dict[str, str]] = {
    **{scalar.fbs: tag for tag, scalar in SCALARS.items()},
    **{f"{'u' if tag[0] == 'u' else ''}int{tag[1:]}": tag for tag in INT_RANGES},
    "float32": "f32",
    "float64": "f64",
    "string": "str",
}
"""The types that .fbs knows without a declaration."""

ATTRIBUTES: Final = frozenset(
    [
        "bit_flags",
        "cpp_ptr_type",
        "cpp_ptr_type_get",
        "cpp_str_flex_ctor",
        "cpp_str_type",
        "cpp_type",
        "csharp_partial",
        "deprecated",
        "flexbuffer",
        "force_align",
        "hash",
        "id",
        "idempotent",
        "key",
        "native_custom_alloc",
        "native_default",
        "native_inline",
        "native_type",
        "native_type_pack_name",
        "nested_flatbuffer",
        "offset64",
        "original_order",
        "private",
        "required",
        "shared",
        "streaming",
        "vector64",
    ]
)
"""Those that .fbs knows without a declaration. The ones that say nothing about bytes or values are taken and not looked at."""

UNSUPPORTED: Final = {
    "vector64": "vectors beyond 4 GiB are not supported",
    "offset64": "offsets of 64 bits are not supported",
}

HINTS: Final = {
    "datetime": "a long (nanoseconds since 1970 UTC)",
    "decimal": "a string",
    "uuid": "a struct of 16 bytes",
    "bytes": "[T] where T is a table whose one field is a [ubyte]",
    "list": "a [ubyte]",
}
"""What ``(varve: "...")`` may say, and of what: the Python type of a field."""


@dataclass(frozen=True)
class Model:
    """Everything that a .fbs file and its includes declare."""

    types: dict[str, TypeDef]
    docs: dict[str, str]
    places: dict[str, At]
    root: str | None

    def text(self) -> bytes:
        """The model text: equal models give equal bytes."""
        types = {name: definition.to_json() for name, definition in self.types.items()}
        model = {"fbs": 1, "docs": self.docs, "types": types}
        return json.dumps(model, separators=(",", ":"), allow_nan=False).encode()


# -- classes ---------------------------------------------------------------------------------------------------------

_models: OrderedDict[bytes, dict[str, Any]] = OrderedDict()
_lock = threading.RLock()


def classes_from_model(text: bytes, places: dict[str, At] | None = None) -> dict[str, Any]:
    """Every class of a model by its full name. The same text gives the same classes."""
    with _lock:
        found = _models.get(text)
        if found is None:
            model = json.loads(text)
            types = {name: type_def_from_json(name, body) for name, body in model["types"].items()}
            found = _models[text] = FbsMaker(types, text, model["docs"], places or {}).all()
            while len(_models) > CLASSES_MAX:
                _models.popitem(last=False)
        _models.move_to_end(text)
        return found


class FbsMaker(Maker):
    """Classes as .fbs means them: None and defaults may be left out, a name's namespace is no part of the class's name."""

    def __init__(self, types: dict[str, TypeDef], text: bytes, docs: dict[str, str], places: dict[str, At]) -> None:
        super().__init__(types, text)
        self.docs = docs
        self.places = places

    def all(self) -> dict[str, Any]:
        """Every type as a class. Raises SchemaError with line and column where the model comes from files."""
        try:
            return super().all()
        except MalformedEvent as error:
            told = error.__cause__
            if isinstance(told, SchemaError) and told.__dict__.get("line") is not None:
                raise told from told.__cause__
            raise

    def make(self, name: str) -> None:
        """One type; what the model cannot have is an error at its declaration."""
        try:
            super().make(name)
        except (SchemaError, MalformedEvent, ValueError) as error:  # ValueError: Python's own word on enums
            if name in self.places and error.__dict__.get("line") is None:
                raise fbs_error(self.places[name], str(error)) from error
            raise

    def python_name(self, name: str) -> str:
        return name.rpartition(".")[2]

    def doc(self, name: str) -> str | None:
        return self.docs.get(name)

    def enum(self, name: str, definition: TypeDef) -> Any:
        made = super().enum(name, definition)
        if doc := self.docs.get(name):
            made.__doc__ = doc
        mark = enum_mark(made)
        docs = tuple(
            (label, self.docs[f"{name}:{label}"]) for label, _ in definition.members if f"{name}:{label}" in self.docs
        )
        setattr(made, ENUM_MARK, EnumMark(mark.base, mark.name, docs))
        return made

    def field(self, f: FieldDef, definition: TypeDef) -> Any:
        metadata = self.metadata(f)
        if doc := self.docs.get(f"{definition.name}:{f.name}"):
            metadata["doc"] = doc
        if definition.what == "struct":
            return dataclasses.field(metadata=metadata)
        kw_only = keyword_only(definition.fields)
        if f.optional:
            return dataclasses.field(default=None, kw_only=kw_only, metadata=metadata)
        if f.default is NO_DEFAULT:
            return dataclasses.field(kw_only=kw_only, metadata=metadata)
        if f.default == []:
            return dataclasses.field(default_factory=tuple, kw_only=kw_only, metadata=metadata)
        value = absent_object(f.kind, f.default, self.holder())
        return dataclasses.field(default=value, kw_only=kw_only, metadata=metadata)


def keyword_only(fields: tuple[FieldDef, ...]) -> bool:
    """Whether a field without a default comes after one with a default: positions would then not follow the order of
    declaration, so all are given by name."""
    optional = [f.optional or f.default is not NO_DEFAULT for f in fields]
    return optional != sorted(optional)


# -- names and types -------------------------------------------------------------------------------------------------


def resolve(files: list[FbsFile]) -> Model:
    """The model of parsed files; the last one is the one that was asked for. Raises SchemaError with line and column."""
    return _Resolver(files).model()


def python_safe(name: str) -> str:
    """A name of .fbs that Python keeps for itself gets an underscore."""
    return name + "_" if keyword.iskeyword(name) or name in {"_b", "_o", "mro"} else name


class _Resolver:
    def __init__(self, files: list[FbsFile]) -> None:
        self.files = files
        self.known = ATTRIBUTES.union(*(f.attributes for f in files))
        self.declared: dict[str, Record | Enum] = {}
        self.types: dict[str, TypeDef] = {}
        self.unions: dict[str, tuple[str, ...]] = {}
        self.docs: dict[str, str] = {}

    def model(self) -> Model:
        for f in self.files:
            for declaration in f.declarations:
                self.declare(declaration)
        for name, declaration in self.declared.items():
            if isinstance(declaration, Enum) and declaration.what == "enum":
                self.types[name] = self.enum(name, declaration)
            elif isinstance(declaration, Enum):
                self.unions[name] = self.union(declaration)
        for name, declaration in self.declared.items():
            if isinstance(declaration, Record):
                self.types[name] = self.record(name, declaration)
        self.structs()
        # In order of declaration, whatever the order in which they were looked at.
        types = {name: self.types[name] for name in self.declared if name in self.types}
        return Model(types, self.docs, {name: d.at for name, d in self.declared.items()}, self.root())

    def declare(self, declaration: Record | Enum) -> None:
        name = full_name(declaration.namespace, declaration.name)
        before = self.declared.setdefault(name, declaration)
        if before is not declaration:
            raise fbs_error(declaration.at, f"{name} is declared in {before.at.path}:{before.at.line} already")
        if name in BUILT_IN:
            raise fbs_error(declaration.at, f"{name} is the name of a built-in type")
        try:
            check_type_name(name)
        except SchemaError as error:
            raise fbs_error(declaration.at, error.message) from error
        self.check_attributes(declaration.attributes)
        self.remember(name, declaration.doc)

    def remember(self, name: str, doc: str) -> None:
        if doc:
            self.docs[name] = doc

    def check_attributes(self, attributes: Attributes) -> None:
        for name, (_, at) in attributes.items():
            if name not in self.known:
                raise fbs_error(at, f'unknown attribute {name!r}; declare it: attribute "{name}";')
            if name in UNSUPPORTED:
                raise fbs_error(at, UNSUPPORTED[name])

    def root(self) -> str | None:
        main = self.files[-1]
        if main.root_type is None:
            return None
        name = self.find(main.root_type, main.root_namespace)
        found = self.declared.get(name)
        if not isinstance(found, Record) or found.what != "table":
            raise fbs_error(main.root_type.at, f"root_type must be a table, and {main.root_type.name} is none")
        return name

    def find(self, wanted: TypeName, namespace: str) -> str:
        """The full name: looked for in the namespace, then in each that it stands in."""
        parts = namespace.split(".") if namespace else []
        for depth in range(len(parts), -1, -1):
            name = ".".join([*parts[:depth], wanted.name])
            if name in self.declared:
                return name
        raise fbs_error(wanted.at, f"{wanted.name} is declared nowhere")

    def kind(self, wanted: TypeName, namespace: str) -> Kind:
        """The kind of a type as written, without what the field's attributes say."""
        item = self.one(wanted, namespace)
        if wanted.length:
            if not item.inline:
                raise fbs_error(wanted.at, f"an array of fixed length holds numbers or structs, not {wanted.name}")
            return Kind("array", item=item, length=wanted.length)
        if not wanted.vector:
            return item
        return Kind("bytes") if item.tag == "u8" else Kind("vector", item=item)

    def one(self, wanted: TypeName, namespace: str) -> Kind:
        if wanted.name in BUILT_IN:
            return Kind(BUILT_IN[wanted.name])
        name = self.find(wanted, namespace)
        found = self.declared[name]
        if isinstance(found, Record):
            return Kind(found.what, name=name)
        return Kind("enum", name=name) if found.what == "enum" else Kind("union", names=self.unions[name])

    # -- enums and unions --------------------------------------------------------------------------------------------

    def enum(self, name: str, declaration: Enum) -> TypeDef:
        assert declaration.base is not None
        base = BUILT_IN.get(declaration.base.name, "")
        if base not in INT_RANGES or declaration.base.vector or declaration.base.length:
            raise fbs_error(declaration.base.at, f"an enum is stored as byte .. ulong, not as {declaration.base.name}")
        flags = "bit_flags" in declaration.attributes
        low, high = INT_RANGES[base]
        members: dict[str, int] = {}
        labels: dict[int, str] = {}
        following = 0
        for member in declaration.members:
            self.check_attributes(member.attributes)
            label = self.label(member.name, member.at)
            value = following if member.value is None else self.whole(member.value)
            following = value + 1
            if flags:
                value = 1 << value if 0 <= value < 64 else -1
            if label in members:
                raise fbs_error(member.at, f"{declaration.name} has two values named {label}")
            if not low <= value <= high or (flags and value < 0):
                raise fbs_error(member.at, f"{declaration.name}.{member.name} does not fit {declaration.base.name}")
            if value in labels:
                raise fbs_error(member.at, f"{declaration.name}.{member.name} and {labels[value]} are both {value}")
            members[label], labels[value] = value, label
            self.remember(f"{name}:{label}", member.doc)
        if not members:
            raise fbs_error(declaration.at, f"{declaration.name} has no values")
        return TypeDef("enum", name, members=tuple(members.items()), base=base, flags=flags)

    def label(self, name: str, at: At) -> str:
        """The Python name of an enum's value."""
        safe = python_safe(name)
        if name.startswith("__") or (safe.startswith("_") and safe.endswith("_")):
            raise fbs_error(at, f"{name} cannot be the name of an enum's value in Python; choose another")
        return safe

    def union(self, declaration: Enum) -> tuple[str, ...]:
        if declaration.base is not None and declaration.base.name not in {"ubyte", "uint8"}:
            raise fbs_error(declaration.base.at, "a union is stored as ubyte")
        names: list[str] = []
        for number, member in enumerate(declaration.members, 1):
            self.check_attributes(member.attributes)
            assert member.type is not None
            found = self.union_member(member.type, declaration)
            if found in names:
                raise fbs_error(
                    member.at, f"{found} twice in one union is not supported: an event would not say which it is"
                )
            if member.value is not None and self.whole(member.value) != number:
                raise fbs_error(member.value.at, "members of a union numbered other than 1, 2, 3 ... are not supported")
            names.append(found)
        if not 0 < len(names) < 256:
            raise fbs_error(declaration.at, "a union has 1 .. 255 members")
        return tuple(names)

    def union_member(self, wanted: TypeName, declaration: Enum) -> str:
        found = None
        if wanted.name not in BUILT_IN and not wanted.vector and not wanted.length:
            found = self.declared[self.find(wanted, declaration.namespace)]
        if not isinstance(found, Record) or found.what != "table":
            raise fbs_error(wanted.at, f"members of a union are tables; {wanted.name} is not supported")
        return full_name(found.namespace, found.name)

    # -- tables and structs ------------------------------------------------------------------------------------------

    def record(self, name: str, declaration: Record) -> TypeDef:
        align = self.alignment(declaration.attributes)
        if align and declaration.what == "table":
            raise fbs_error(declaration.attributes["force_align"][1], "force_align is for structs and vectors")
        make = self.struct_field if declaration.what == "struct" else self.table_field
        fields = [make(declaration, f) for f in declaration.fields]
        seen: dict[str, Field] = {}
        for f, found in zip(declaration.fields, fields, strict=True):
            self.check_attributes(f.attributes)
            if seen.setdefault(found.name, f) is not f:
                raise fbs_error(f.at, f"{declaration.name} has two fields named {found.name}")
            if found.key and any(other.key for other in fields if other is not found):
                raise fbs_error(f.at, f"{declaration.name} has two keys")
            self.remember(f"{name}:{found.name}", f.doc)
        if not fields and declaration.what == "struct":
            raise fbs_error(declaration.at, f"struct {declaration.name} has no fields")
        if len(fields) > limits.FIELDS_MAX:
            raise fbs_error(declaration.at, f"{declaration.name} has more than {limits.FIELDS_MAX} fields")
        return TypeDef(declaration.what, name, fields=self.in_order_of_id(declaration, fields), align=align)

    def in_order_of_id(self, declaration: Record, fields: list[FieldDef]) -> tuple[FieldDef, ...]:
        """``(id: n)`` on every field or on none; a union takes two numbers and is given the higher."""
        ids = [self.number(f.attributes, "id") for f in declaration.fields]
        if all(number is None for number in ids):
            return tuple(fields)
        if declaration.what == "struct":
            raise fbs_error(declaration.at, "fields of a struct stand in order of declaration: no ids")
        for f, number in zip(declaration.fields, ids, strict=True):
            if number is None:
                raise fbs_error(f.at, "all fields of a table have an id, or none has")
        order = sorted(range(len(fields)), key=lambda index: ids[index] or 0)
        following = 0
        for index in order:
            following += fields[index].kind.paired
            if ids[index] != following:
                hint = " (a union takes two ids and is given the higher)" if fields[index].kind.paired else ""
                raise fbs_error(
                    declaration.fields[index].at, f"ids count from 0 without gaps: {following} should stand here{hint}"
                )
            following += 1
        return tuple(fields[index] for index in order)

    def field_name(self, owner: Record, f: Field) -> str:
        name = python_safe(f.name)
        try:
            check_field_name(name, owner.name)
        except SchemaError as error:
            raise fbs_error(f.at, error.message) from error
        return name

    def struct_field(self, owner: Record, f: Field) -> FieldDef:
        kind = self.hinted(owner, f, self.kind(f.type, owner.namespace))
        if not kind.inline:
            raise fbs_error(f.type.at, f"a struct holds numbers, arrays and structs, not {f.type.name}")
        if f.default is not None:
            raise fbs_error(f.default.at, "fields of a struct have no defaults: they are always there")
        for refused in ("required", "deprecated", "force_align"):
            if refused in f.attributes:
                raise fbs_error(
                    f.attributes[refused][1], f"{refused} is for tables; fields of a struct are always there"
                )
        if "nested_flatbuffer" in f.attributes:
            raise fbs_error(f.attributes["nested_flatbuffer"][1], "nested_flatbuffer is for a [ubyte] of a table")
        return FieldDef(self.field_name(owner, f), kind, key="key" in f.attributes)

    def table_field(self, owner: Record, f: Field) -> FieldDef:
        kind = self.nested(owner, f, self.hinted(owner, f, self.kind(f.type, owner.namespace)))
        if kind.tag == "array":
            raise fbs_error(f.type.at, "an array of fixed length stands in a struct only; use a vector")
        deprecated, required, key = (name in f.attributes for name in ("deprecated", "required", "key"))
        number = kind.tag in {*SCALARS, "enum", "datetime"}
        if required and number:
            raise fbs_error(
                f.attributes["required"][1], "numbers are never required: an absent one reads as its default"
            )
        if key and not number and kind.tag != "str":
            raise fbs_error(f.attributes["key"][1], f"a key is a number or a string, not {f.type.name}")
        align = self.alignment(f.attributes)
        if align and kind.tag != "bytes" and (kind.tag != "vector" or kind.item is None or not kind.item.inline):
            raise fbs_error(f.attributes["force_align"][1], "force_align is for structs and vectors of numbers")
        optional, default = self.default(f, kind, number)
        if not number and default is NO_DEFAULT:
            # Nobody can write a deprecated field any more, required or not.
            optional = deprecated or not (required or key)
        if key and kind.tag == "str" and default is not NO_DEFAULT:
            raise fbs_error(f.attributes["key"][1], "a key that is a string has no default: it is always there")
        if optional and key:
            raise fbs_error(f.attributes["key"][1], "a key is always there: no null")
        return FieldDef(self.field_name(owner, f), kind, optional, default, deprecated, key, align)

    def hinted(self, owner: Record, f: Field, kind: Kind) -> Kind:
        """The kind with what ``(varve: "...")`` says of its Python type."""
        if "varve" not in f.attributes:
            return kind
        value, at = f.attributes["varve"]
        hint = value.text if value is not None else ""
        if hint not in HINTS:
            raise fbs_error(at, f"varve: one of {', '.join(HINTS)}")
        item = kind.item if kind.item is not None and hint not in {"bytes", "list"} else kind
        wrapped = {"datetime": "i64", "decimal": "str", "list": "bytes"}.get(hint)
        if hint == "list" and kind.tag == "bytes":
            return Kind("vector", item=Kind("u8"))
        if item.tag == wrapped or (hint == "uuid" and self.holds_16_bytes(item)):
            made = Kind(hint)
            return made if item is kind else dataclasses.replace(kind, item=made)
        if hint == "bytes" and kind.item is not None and self.is_blob(kind.item, owner.namespace):
            return Kind("vector", item=Kind("bytes"))
        raise fbs_error(at, f"varve: {hint!r} is for {HINTS[hint]}")

    def nested(self, owner: Record, f: Field, kind: Kind) -> Kind:
        """The kind with the table of which ``(nested_flatbuffer: "...")`` says that the bytes hold a buffer."""
        if "nested_flatbuffer" not in f.attributes:
            return kind
        value, at = f.attributes["nested_flatbuffer"]
        if value is None or value.what != "string":
            raise fbs_error(at, 'nested_flatbuffer names a table: nested_flatbuffer: "Order"')
        if kind.tag != "bytes":
            raise fbs_error(at, "nested_flatbuffer is for a [ubyte] of a table")
        held = self.one(TypeName(value.text, value.at), owner.namespace)
        if held.tag != "table":
            raise fbs_error(value.at, f"a nested buffer holds a table, and {value.text} is none")
        if f.default is not None:
            raise fbs_error(f.default.at, "a nested buffer has no default: no bytes are none")
        return Kind("bytes", name=held.name)

    def holds_16_bytes(self, kind: Kind) -> bool:
        found = self.declared.get(kind.name) if kind.tag == "struct" else None
        if not isinstance(found, Record) or len(found.fields) != 1 or "force_align" in found.attributes:
            return False
        held = found.fields[0].type
        return BUILT_IN.get(held.name) == "u8" and held.length == 16

    def is_blob(self, kind: Kind, _namespace: str) -> bool:
        found = self.declared.get(kind.name) if kind.tag == "table" else None
        if not isinstance(found, Record) or len(found.fields) != 1:
            return False
        held = found.fields[0].type
        return BUILT_IN.get(held.name) == "u8" and held.vector

    def structs(self) -> None:
        """No struct may hold itself, and none may be too large."""
        plans: dict[str, Any] = {}

        def look(name: str, path: tuple[str, ...]) -> None:
            at = self.declared[name].at
            if name in path:
                raise fbs_error(at, f"struct {name} holds itself")
            if len(path) > limits.NESTING_DEPTH_MAX:
                raise fbs_error(at, f"structs nest deeper than {limits.NESTING_DEPTH_MAX}")
            if name in plans:
                return
            for f in self.types[name].fields:
                for needed in f.kind.references():
                    if self.types[needed].what == "struct":
                        look(needed, (*path, name))
            try:
                plans[name] = plan_struct(self.types[name], plans.__getitem__, self.base_of)
            except SchemaError as error:
                raise fbs_error(at, error.message) from error
            if 0 < self.types[name].align < plans[name].align:
                raise fbs_error(
                    at, f"struct {name} holds what is aligned to {plans[name].align} bytes; force_align: no less"
                )

        for name, definition in self.types.items():
            if definition.what == "struct":
                look(name, ())

    def base_of(self, name: str) -> str:
        return self.types[name].base

    # -- constants ---------------------------------------------------------------------------------------------------

    def number(self, attributes: Attributes, name: str) -> int | None:
        """The whole number that an attribute carries; None without the attribute."""
        if name not in attributes:
            return None
        value, at = attributes[name]
        if value is None:
            raise fbs_error(at, f"{name} needs a number: {name}: 4")
        return self.whole(value)

    def alignment(self, attributes: Attributes) -> int:
        found = self.number(attributes, "force_align")
        if found is None:
            return 0
        if found not in ALIGNMENTS:
            raise fbs_error(
                attributes["force_align"][1], "force_align is 1, 2, 4 or 8: events begin at multiples of 8 bytes"
            )
        return found

    def whole(self, value: Value) -> int:
        text = value.text.strip() if value.what == "string" else value.text
        sign = -1 if value.negative else 1
        if value.what == "string" and text[:1] in {"-", "+"}:
            sign, text = -1 if text[0] == "-" else 1, text[1:]
        hexadecimal = text[:2] in {"0x", "0X"}
        digits = text[2:] if hexadecimal else text
        if value.what not in {"number", "string"} or not (digits.isascii() and digits.isalnum()) or len(digits) > 24:
            raise fbs_error(value.at, f"expected a whole number, not {value.text[:40]!r}")
        try:
            return sign * int(digits, 16 if hexadecimal else 10)
        except ValueError:
            raise fbs_error(value.at, f"expected a whole number, not {value.text[:40]!r}") from None

    def default(self, f: Field, kind: Kind, number: bool) -> tuple[bool, Any]:
        """Whether the field is optional by its default, and the default in JSON form."""
        value = f.default
        if value is None:
            return False, self.zero(f, kind) if number else NO_DEFAULT
        if value.what == "word" and value.text == "null":
            if not number:
                raise fbs_error(
                    value.at, "only numbers have null as a default; others are optional unless they are required"
                )
            return True, NO_DEFAULT
        if kind.tag == "vector" and value.what == "list":
            return False, []
        if kind.tag == "str" and value.what == "string":
            return False, value.text
        if kind.tag == "bytes" and value.what == "list":
            return False, ""
        if not number:
            raise fbs_error(value.at, f"{f.type.name} has no such default")
        if kind.tag == "enum":
            return False, self.enum_default(f, kind, value)
        if kind.tag == "bool":
            return False, self.truth(value)
        if kind.tag in {"f32", "f64"}:
            return False, self.real(kind, value)
        return False, self.ranged(f, kind, value)

    def zero(self, f: Field, kind: Kind) -> Any:
        if kind.tag == "enum":
            definition = self.types[kind.name]
            if definition.flags:
                return 0
            label = next((label for label, number in definition.members if number == 0), None)
            if label is None:
                raise fbs_error(
                    f.at, f"{kind.name} has no value 0, which {f.name} would be by default; give it a default"
                )
            return label
        return {"bool": False, "f32": 0.0, "f64": 0.0, "datetime": datetime_of(0).isoformat()}.get(kind.tag, 0)

    def truth(self, value: Value) -> bool:
        if value.what == "word" and value.text in {"true", "false"} and not value.negative:
            return value.text == "true"
        return self.whole(value) != 0

    def real(self, kind: Kind, value: Value) -> Any:
        sign = "-" if value.negative else ""
        if value.what == "word":
            found = {"inf": "Infinity", "infinity": "Infinity", "nan": "NaN"}.get(value.text, "")
            if not found:
                raise fbs_error(value.at, f"expected a number, not {value.text!r}")
            return found if found == "NaN" else sign + found
        if value.what != "number" or value.text[:2] in {"0x", "0X"}:
            raise fbs_error(value.at, f"expected a decimal number, not {value.text[:40]!r}")
        number = float(sign + value.text)
        if not math.isfinite(number) or (kind.tag == "f32" and abs(number) >= F32_END):
            raise fbs_error(value.at, f"{value.text[:40]} does not fit {SCALARS[kind.tag].fbs}")
        return number

    def ranged(self, f: Field, kind: Kind, value: Value) -> Any:
        number = self.constant(value) if value.what == "word" and "." in value.text else self.whole(value)
        low, high = INT_RANGES["i64" if kind.tag == "datetime" else kind.tag]
        if not low <= number <= high:
            raise fbs_error(value.at, f"{number} does not fit {f.type.name}")
        return datetime_of(number).isoformat() if kind.tag == "datetime" else number

    def constant(self, value: Value) -> int:
        """``Color.Red`` as the default of a plain number."""
        owner, _, label = value.text.rpartition(".")
        for name, definition in self.types.items():
            if definition.what == "enum" and (name == owner or name.endswith("." + owner)):
                found = dict(definition.members).get(python_safe(label))
                if found is not None:
                    return -found if value.negative else found
        raise fbs_error(value.at, f"{value.text} is no value of an enum")

    def enum_default(self, f: Field, kind: Kind, value: Value) -> Any:
        definition = self.types[kind.name]
        members = dict(definition.members)
        words = value.text.split() if value.what in {"word", "string"} else []
        if words and not words[0][0].isdigit():
            total = 0
            for word in words:
                owner, _, label = word.rpartition(".")
                if python_safe(label) not in members or not ("." + kind.name).endswith("." + owner if owner else ""):
                    raise fbs_error(value.at, f"{word} is no value of {kind.name}")
                total |= members[python_safe(label)]
            if len(words) > 1 and not definition.flags:
                raise fbs_error(value.at, f"{kind.name} is no bit_flags: one value only")
            number = total
        else:
            number = self.whole(value)
        if definition.flags:
            low, high = INT_RANGES[definition.base]
            if not low <= number <= high:
                raise fbs_error(value.at, f"{number} does not fit {kind.name}")
            return number
        found = next((name for name, member in definition.members if member == number), None)
        if found is None:
            raise fbs_error(
                value.at, f"{number} is no value of {kind.name}; {f.name} needs one of its values as default"
            )
        return found


F32_END: Final = 2.0**128 - 2.0**103
"""Numbers from here on round to infinity in 32 bits."""


def full_name(namespace: str, name: str) -> str:
    return f"{namespace}.{name}" if namespace else name
