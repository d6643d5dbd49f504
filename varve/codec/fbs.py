"""The .fbs text of an event class: what other languages generate their code from."""

from __future__ import annotations

import math
import re
from typing import Any

from varve.codec.check import nanoseconds
from varve.codec.declare import Declaration
from varve.codec.event_type import event_type
from varve.codec.json import absent_object
from varve.codec.schema import NO_DEFAULT, SCALARS, FieldDef, Kind, Schema, TypeDef

__all__ = ["to_fbs"]

UUID_TEXT = "struct UUID {\n  bytes:[ubyte:16];\n}\n"

BYTES_TEXT = "table Bytes {\n  data:[ubyte];\n}\n"
"""An item of a list[bytes]: FlatBuffers has no vectors of vectors."""


def to_fbs(cls: Any) -> str:
    """FlatBuffers schema text of an event class with everything it needs, acceptable to flatc.

    datetime is ``long`` (nanoseconds since 1970 UTC), Decimal ``string``, an IntFlag its number. Characters of type
    names that .fbs does not know become underscores.
    """
    compiled = event_type(cls)
    return _Writer(compiled.schema, compiled.declaration).text()


def identifier(name: str) -> str:
    return re.sub(r"\W", "_", name)


class _Writer:
    def __init__(self, schema: Schema, declared: Declaration) -> None:
        self.schema = schema
        self.declarations = {n: d for n, d in declared.reachable() if isinstance(d, Declaration)}
        self.unions: dict[tuple[str, ...], str] = {}
        self.uuid = self.blob = False

    def text(self) -> str:
        order = {"enum": 0, "struct": 1, "table": 2}
        types = sorted(self.schema.types.values(), key=lambda t: (order[t.what], t.name))
        types = [t for t in types if not t.flags]
        blocks = [self.block(t) for t in types if t.what != "struct"]
        structs = [self.block(t) for t in self.structs_in_order()]
        unions = [
            f"union {name} {{ {', '.join(identifier(n) for n in names)} }}\n" for names, name in self.unions.items()
        ]
        head = [UUID_TEXT] * self.uuid + [BYTES_TEXT] * self.blob
        enums = [b for b, t in zip(blocks, (t for t in types if t.what != "struct"), strict=True) if t.what == "enum"]
        tables = [b for b in blocks if b not in enums]
        return "\n".join([*head, *enums, *structs, *unions, *tables, f"root_type {identifier(self.schema.root)};\n"])

    def structs_in_order(self) -> list[TypeDef]:
        """Structs after those they hold."""
        out: dict[str, TypeDef] = {}

        def add(definition: TypeDef) -> None:
            for f in definition.fields:
                if f.kind.tag == "struct":
                    add(self.schema.types[f.kind.name])
            out[definition.name] = definition

        for definition in self.schema.types.values():
            if definition.what == "struct":
                add(definition)
        return list(out.values())

    def block(self, definition: TypeDef) -> str:
        name = identifier(definition.name)
        if definition.what == "enum":
            values: dict[int, str] = {}
            for label, value in definition.members:
                values.setdefault(value, label)
            lines = [f"  {label} = {value}" for value, label in sorted(values.items())]
            return f"enum {name} : {SCALARS[definition.base].fbs} {{\n" + ",\n".join(lines) + "\n}\n"
        lines = [f"  {self.field(definition, f)};\n" for f in definition.fields]
        return f"{definition.what} {name} {{\n{''.join(lines)}}}\n"

    def field(self, owner: TypeDef, f: FieldDef) -> str:
        out = f"{f.name}:{self.type_text(f.kind)}"
        if f.kind.tag == "enum" and (owner.what == "struct" or f.optional) and not self.has_zero(f.kind.name):
            # flatc insists that 0 is a member of an enum where it cannot be told another default.
            out = f"{f.name}:{SCALARS[self.schema.types[f.kind.name].base].fbs}"
        if owner.what == "struct":
            return out
        out += self.default(owner, f)
        marks = ["deprecated"] if f.deprecated else []
        if f.required and not (f.kind.inline and f.kind.tag not in {"struct", "uuid"}) and not f.deprecated:
            marks.append("required")
        return f"{out} ({', '.join(marks)})" if marks else out

    def has_zero(self, name: str) -> bool:
        return any(value == 0 for _, value in self.schema.types[name].members)

    def type_text(self, kind: Kind) -> str:
        match kind.tag:
            case "str" | "decimal":
                return "string"
            case "bytes":
                return "[ubyte]"
            case "datetime":
                return "long"
            case "uuid":
                self.uuid = True
                return "UUID"
            case "vector":
                assert kind.item is not None
                if kind.item.tag == "bytes":
                    self.blob = True
                    return "[Bytes]"
                return f"[{self.type_text(kind.item)}]"
            case "enum" if self.schema.types[kind.name].flags:
                return SCALARS[self.schema.types[kind.name].base].fbs
            case "union":
                taken = len(self.unions)
                return self.unions.setdefault(kind.names, "Union" + (str(taken + 1) if taken else ""))
        return identifier(kind.name) if kind.name else SCALARS[kind.tag].fbs

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
