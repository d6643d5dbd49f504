"""The .fbs text of an event class: what other languages generate their code from."""

from __future__ import annotations

import dataclasses
import math
import re
from enum import IntEnum, IntFlag
from typing import Any, Final

from varve.codec.check import nanoseconds
from varve.codec.declare import Declaration, enum_mark
from varve.codec.event_type import event_type
from varve.codec.json import absent_object
from varve.codec.schema import NO_DEFAULT, SCALARS, FieldDef, Kind, Schema, TypeDef

__all__ = ["enum_doc", "to_fbs"]

UUID_TEXT = "struct {} {{\n  bytes:[ubyte:16];\n}}\n"

BYTES_TEXT = "table {} {{\n  data:[ubyte];\n}}\n"
"""An item of a list[bytes]: FlatBuffers has no vectors of vectors."""

CLASHES: Final = {"union": ("_type", "Type"), "vector": ("_length", "Length"), "str": ("_byte_vector", "ByteVector")}
"""Suffixes of functions that flatc generates for a field: another field of that name would be refused."""


def to_fbs(cls: Any, *, python_types: bool = False) -> str:
    """FlatBuffers schema text of an event class with everything it needs, acceptable to flatc.

    datetime is ``long`` (nanoseconds since 1970 UTC), Decimal ``string``, an IntFlag its number where its members are not single
    bits. Dots in type names make namespaces; other characters that .fbs does not know become underscores. ``python_types=True``
    marks what has another Python type than its .fbs type, ``at:long (varve: "datetime")``, for ``load``.
    """
    compiled = event_type(cls)
    return _Writer(compiled.schema, compiled.declaration, python_types).text()


def identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


def enum_doc(cls: Any) -> str:
    """An enum's own docstring; Python gives one to those that have none."""
    doc = cls.__dict__.get("__doc__") or ""
    return "" if doc in {IntEnum.__doc__, IntFlag.__doc__, "An enumeration."} else doc


def single_bits(definition: TypeDef) -> list[tuple[str, int]]:
    """The members of an IntFlag that ``bit_flags`` can say, by their bit; none where it cannot be one."""
    if not definition.flags or not definition.base.startswith("u"):
        return []
    bits: dict[int, str] = {}
    for label, value in definition.members:
        if value > 0 and value & (value - 1) == 0:
            bits.setdefault(value.bit_length() - 1, label)
    return [(label, bit) for bit, label in sorted(bits.items())]


class _Writer:
    def __init__(self, schema: Schema, declared: Declaration, python_types: bool) -> None:
        self.schema = schema
        reachable = list(declared.reachable())
        self.declarations = {n: d for n, d in reachable if isinstance(d, Declaration)}
        self.enums = {n: e for n, e in reachable if not isinstance(e, Declaration)}
        self.python_types = python_types
        self.fields = {f.name for t in schema.types.values() for f in t.fields}
        self.namespaces = self.namespaces_work()
        self.names: dict[str, tuple[str, str]] = {}
        for name in schema.types:
            space, _, short = name.rpartition(".") if self.namespaces else ("", "", identifier(name))
            self.names[name] = (space, self.free(space, short))
        self.space = self.names[schema.root][0]
        self.unions: dict[tuple[str, ...], str] = {}
        self.uuid = self.blob = self.hinted = False
        self.uuid_name, self.blob_name = self.free(self.space, "UUID"), self.free(self.space, "Bytes")

    def free(self, space: str, name: str) -> str:
        """A name that is no other type's, and no field's, which flatc would refuse."""
        while name in self.fields or (space, name) in self.names.values():
            name += "_"
        return name

    def namespaces_work(self) -> bool:
        """Whether all names are dotted identifiers, and none would be found in a namespace that was not meant."""
        names = set(self.schema.types)
        if not all(re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name, re.ASCII) for name in names):
            return False
        spaces = {name.rpartition(".")[0] for name in names}
        inner = {".".join(space.split(".")[: i + 1]) for space in spaces if space for i in range(len(space.split(".")))}
        return not any(f"{space}.{name}" in names for space in inner for name in names)

    # -- the text ----------------------------------------------------------------------------------------------------

    def text(self) -> str:
        types = sorted(self.schema.types.values(), key=lambda t: t.name)
        enums = [(t.name, self.enum(t)) for t in types if t.what == "enum" and (not t.flags or single_bits(t))]
        structs = [(t.name, self.record(t)) for t in self.structs_in_order()]
        tables = [(t.name, self.record(t)) for t in types if t.what == "table"]
        root = self.schema.root
        unions = [
            (root, f"union {name} {{ {', '.join(self.spelled(n, self.space) for n in names)} }}\n")
            for names, name in self.unions.items()
        ]
        head = [(root, UUID_TEXT.format(self.uuid_name))] * self.uuid + [
            (root, BYTES_TEXT.format(self.blob_name))
        ] * self.blob
        tail = [(root, f"root_type {self.names[root][1]};\n")]
        out, space = ['attribute "varve";\n'] if self.hinted else [], ""
        for name, block in [*head, *enums, *structs, *unions, *tables, *tail]:
            if self.names[name][0] != space:
                space = self.names[name][0]
                out.append(f"namespace {space};\n" if space else "namespace;\n")
            out.append(block)
        return "\n".join(out)

    def spelled(self, name: str, space: str) -> str:
        """A type's name as it is written in a namespace."""
        its, short = self.names[name]
        return short if its in {space, ""} else f"{its}.{short}"

    def helper(self, short: str, space: str) -> str:
        """The same for the types that only the text has; they stand beside the root."""
        return short if self.space in {space, ""} else f"{self.space}.{short}"

    def structs_in_order(self) -> list[TypeDef]:
        """Structs after those they hold."""
        out: dict[str, TypeDef] = {}

        def add(definition: TypeDef) -> None:
            if definition.name in out:
                return
            for f in definition.fields:
                for name in f.kind.references():
                    if self.schema.types[name].what == "struct":
                        add(self.schema.types[name])
            out[definition.name] = definition

        for definition in self.schema.types.values():
            if definition.what == "struct":
                add(definition)
        return list(out.values())

    @staticmethod
    def doc(text: str, indent: str = "") -> str:
        return "".join(f"{indent}/// {line}".rstrip() + "\n" for line in text.splitlines())

    def enum(self, definition: TypeDef) -> str:
        cls = self.enums[definition.name]
        docs = dict(enum_mark(cls).docs)
        members, mark = single_bits(definition), " (bit_flags)"
        if not definition.flags:
            values: dict[int, str] = {}
            for label, value in definition.members:
                values.setdefault(value, label)
            members, mark = [(label, value) for value, label in sorted(values.items())], ""
        lines = [f"{self.doc(docs.get(label, ''), '  ')}  {label} = {value}" for label, value in members]
        head = f"enum {self.names[definition.name][1]} : {SCALARS[definition.base].fbs}{mark}"
        return self.doc(enum_doc(cls)) + f"{head} {{\n" + ",\n".join(lines) + "\n}\n"

    def record(self, definition: TypeDef) -> str:
        declared = self.declarations[definition.name]
        docs = {f.name: str(f.metadata.get("doc", "")) for f in dataclasses.fields(declared.cls)}
        clashing = self.clashing(definition)
        lines = []
        for f in definition.fields:
            name = f.name
            while name in clashing:
                name += "_"
            clashing.add(name)
            lines.append(f"{self.doc(docs[f.name], '  ')}  {self.field(definition, f, name)};\n")
        align = max(definition.align, self.natural(definition)) if definition.align else 0
        mark = f" (force_align: {align})" if align else ""
        return (
            f"{self.doc(declared.doc)}{definition.what} {self.names[definition.name][1]}{mark} {{\n{''.join(lines)}}}\n"
        )

    def natural(self, definition: TypeDef) -> int:
        """The alignment of a struct, which flatc does not let one ask to be less."""
        from varve.codec.event_type import compile_struct

        return compile_struct(self.declarations[definition.name]).plan.align

    @staticmethod
    def clashing(definition: TypeDef) -> set[str]:
        """Names that flatc would refuse beside the other fields of a table."""
        out: set[str] = set()
        for f in definition.fields:
            tag = {"bytes": "vector", "decimal": "str"}.get(f.kind.tag, f.kind.tag)
            out.update(f.name + suffix for suffix in CLASHES.get(tag, ()))
            if f.kind.paired:
                out.update(f.name + suffix for suffix in CLASHES["union"])
        return out

    def field(self, owner: TypeDef, f: FieldDef, name: str) -> str:
        space = self.names[owner.name][0]
        out = f"{name}:{self.type_text(f.kind, space)}"
        if f.kind.tag == "enum" and owner.what == "struct" and not self.has_zero(f.kind.name):
            # flatc insists that 0 is a member of an enum where it cannot be told another default.
            out = f"{name}:{SCALARS[self.schema.types[f.kind.name].base].fbs}"
        if owner.what != "struct":
            out += self.default(owner, f)
        marks = ["deprecated"] if f.deprecated else []
        if (
            owner.what == "table"
            and f.required
            and (not f.kind.inline or f.kind.tag in {"struct", "uuid"})
            and not f.deprecated
        ):
            marks.append("required")
        marks += ["key"] if f.key else []
        marks += [f"force_align: {self.vector_align(f)}"] if f.align else []
        marks += [f'nested_flatbuffer: "{self.spelled(f.kind.nested, space)}"'] if f.kind.nested else []
        marks += self.hint(f.kind)
        return f"{out} ({', '.join(marks)})" if marks else out

    def vector_align(self, f: FieldDef) -> int:
        """What is asked for, or, as flatc insists, more: the natural alignment of the items."""
        item = f.kind.item
        size = SCALARS[item.tag].size if item is not None and item.tag in SCALARS else 1
        return max(f.align, size)

    def hint(self, kind: Kind) -> list[str]:
        """The Python type, where it is not what ``load`` makes of the .fbs type."""
        tag = kind.item.tag if kind.item is not None and kind.item.tag != "u8" else kind.tag
        if kind.tag == "vector" and kind.item is not None and kind.item.tag == "u8":
            tag = "list"
        elif tag == "bytes" and kind.tag == "bytes":
            return []
        if not self.python_types or tag not in {"datetime", "decimal", "uuid", "bytes", "list"}:
            return []
        self.hinted = True
        return [f'varve: "{tag}"']

    def has_zero(self, name: str) -> bool:
        definition = self.schema.types[name]
        return definition.flags or any(value == 0 for _, value in definition.members)

    def type_text(self, kind: Kind, space: str) -> str:
        match kind.tag:
            case "str" | "decimal":
                return "string"
            case "bytes":
                return "[ubyte]"
            case "datetime":
                return "long"
            case "uuid":
                self.uuid = True
                return self.helper(self.uuid_name, space)
            case "vector":
                assert kind.item is not None
                if kind.item.tag == "bytes":
                    self.blob = True
                    return f"[{self.helper(self.blob_name, space)}]"
                return f"[{self.type_text(kind.item, space)}]"
            case "array":
                assert kind.item is not None
                return f"[{self.type_text(kind.item, space)}:{kind.length}]"
            case "enum" if self.schema.types[kind.name].flags and not single_bits(self.schema.types[kind.name]):
                return SCALARS[self.schema.types[kind.name].base].fbs
            case "union":
                if kind.names not in self.unions:
                    taken = len(self.unions)
                    name = "Union" + (str(taken + 1) if taken else "")
                    while name != self.free(self.space, name) or name in self.unions.values():
                        name += "_"
                    self.unions[kind.names] = name
                return self.helper(self.unions[kind.names], space)
        return self.spelled(kind.name, space) if kind.name else SCALARS[kind.tag].fbs

    def default(self, owner: TypeDef, f: FieldDef) -> str:
        """Only numbers have defaults in .fbs that every language knows."""
        tag = f.kind.tag
        if tag not in SCALARS and tag not in {"enum", "datetime"}:
            return ""
        if f.optional:
            return " = null"
        if f.default is NO_DEFAULT and tag != "enum":
            return ""
        value = absent_object(f.kind, f.default, self.declarations[owner.name])
        if tag == "datetime":
            return f" = {nanoseconds(value)}"
        if tag == "bool":
            return f" = {str(value).lower()}"
        if tag in {"f32", "f64"}:
            return f" = {value!r}" if math.isfinite(value) else " = nan" if math.isnan(value) else f" = {value!r}"
        return f" = {int(value)}"
