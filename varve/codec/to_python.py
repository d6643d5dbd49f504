"""Event classes as the source of a module: what a reader of code, and a type checker, sees of a .fbs file."""

from __future__ import annotations

import builtins
import dataclasses
import keyword
import math
import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from enum import IntEnum, IntFlag
from typing import Any, Final
from uuid import UUID

from varve.codec.declare import Declaration, declaration, enum_def, enum_mark
from varve.codec.fbs import enum_doc
from varve.codec.fbs_load import keyword_only
from varve.codec.json import absent_object
from varve.codec.schema import INT_RANGES, NO_DEFAULT, FieldDef, Kind
from varve.errors import SchemaError

__all__ = ["module_source"]

IMPORTS: Final = {
    "Annotated": "typing",
    "Decimal": "decimal",
    "IntEnum": "enum",
    "IntFlag": "enum",
    "KW_ONLY": "dataclasses",
    "Length": "varve.schema",
    "Nested": "varve.schema",
    "UUID": "uuid",
    "datetime": "datetime",
    "field": "dataclasses",
    "stored_as": "varve.schema",
}

PLAIN_HINTS: Final = {"bool": "bool", "f64": "float", "str": "str", "bytes": "bytes"}
IMPORTED_HINTS: Final = {"datetime": "datetime", "uuid": "UUID", "decimal": "Decimal"}


def module_source(classes: list[Any], title: str) -> str:
    """A module that declares these classes and all that they need."""
    return _Writer(classes).text(title)


class _Writer:
    def __init__(self, classes: list[Any]) -> None:
        self.found: dict[str, Any] = {}
        self.imports: dict[str, str] = {}
        self.builtins: dict[str, str] = {}
        for cls in classes:
            self.add(cls)
        # A name that is also a field's would mean the field inside of the class.
        self.fields = {f.name for t in self.found.values() if isinstance(t, Declaration) for f in t.fields}
        self.names = self.choose_names()

    def add(self, cls: Any) -> None:
        declared = declaration(cls)
        if declared is not None:
            for name, target in declared.reachable():
                if self.found.setdefault(name, target) is not target:
                    raise SchemaError(f"two different types are named {name!r}; one module cannot declare both")
        elif isinstance(cls, type) and issubclass(cls, (IntEnum, IntFlag)):
            self.found.setdefault(enum_mark(cls).name or cls.__name__, cls)
        else:
            raise SchemaError(f"{cls!r} is neither an event class nor a struct or enum")

    def choose_names(self) -> dict[str, str]:
        """An identifier for every type: without its namespace where that is clear enough."""
        last = [name.rpartition(".")[2] for name in self.found]
        taken = {*self.fields, *IMPORTS, *vars(builtins), "varve", "annotations"}
        out: dict[str, str] = {}
        for name, short in zip(self.found, last, strict=True):
            wanted = re.sub(r"\W", "_", short if last.count(short) == 1 else name)
            while wanted in taken or keyword.iskeyword(wanted) or keyword.issoftkeyword(wanted):
                wanted += "_"
            taken.add(wanted)
            out[name] = wanted
        return out

    # -- names -------------------------------------------------------------------------------------------------------

    def use(self, name: str) -> str:
        """A name from another module, imported when something needs it."""
        if name not in self.imports:
            alias = name
            while alias in self.fields:
                alias += "_"
            self.imports[name] = alias
        return self.imports[name]

    def varve(self, name: str) -> str:
        return f"{self.use('varve')}.{name}"

    def built_in(self, name: str) -> str:
        if name not in self.fields:
            return name
        alias = name + "_"
        while alias in self.fields:
            alias += "_"
        self.builtins[name] = alias
        return alias

    # -- the module --------------------------------------------------------------------------------------------------

    def text(self, title: str) -> str:
        blocks = [self.block(name) for name in self.in_order()]
        head = [f'"""{title}, written by varve.schema.to_python."""', "", "from __future__ import annotations", ""]
        return "\n".join([*head, *self.import_lines(), "", *blocks])

    def import_lines(self) -> list[str]:
        by_module: dict[str, list[str]] = {}
        for name, alias in self.imports.items():
            if name != "varve":
                by_module.setdefault(IMPORTS[name], []).append(name if alias == name else f"{name} as {alias}")
        for name, alias in self.builtins.items():
            by_module.setdefault("builtins", []).append(f"{name} as {alias}")
        lines = [f"from {module} import {', '.join(sorted(names))}" for module, names in sorted(by_module.items())]
        ours = [line for line in lines if line.startswith("from varve")]
        lines = [line for line in lines if line not in ours]
        if "varve" in self.imports:
            alias = self.imports["varve"]
            ours.insert(0, "import varve" if alias == "varve" else f"import varve as {alias}")
        return [*lines, "", *ours] if lines and ours else [*lines, *ours]

    def in_order(self) -> list[str]:
        """Enums, structs after those they hold, events after the classes of their defaults."""
        done: dict[str, None] = {}

        def add(name: str) -> None:
            if name in done:
                return
            target = self.found[name]
            if isinstance(target, Declaration):
                for other in needed_by(target):
                    add(other)
            done[name] = None

        rank = {"enum": 0, "struct": 1, "table": 2}
        for name in sorted(self.found, key=lambda n: rank[getattr(self.found[n], "what", "enum")]):
            add(name)
        return list(done)

    def block(self, name: str) -> str:
        target = self.found[name]
        lines = self.record(name, target) if isinstance(target, Declaration) else self.enum(name, target)
        return "\n".join(["", *lines, ""])

    def doc_lines(self, text: str, indent: str = "    ") -> list[str]:
        """A docstring."""
        if not text:
            return []
        # A quote is escaped where it would end the docstring: before two more, and at the end.
        safe = re.sub(r'"(?=""|\Z)', r"\"", text.replace("\\", "\\\\"))
        safe = "".join(c if c == "\n" or c.isprintable() else f"\\u{ord(c):04x}" for c in safe)
        first, *rest = safe.split("\n")
        if not rest:
            return [f'{indent}"""{first}"""']
        return [
            f'{indent}"""{first}',
            *(indent + line.strip() if line.strip() else "" for line in rest),
            f'{indent}"""',
        ]

    def enum(self, name: str, cls: Any) -> list[str]:
        mark = enum_mark(cls)
        definition = enum_def(name, cls)
        marks = []
        if mark.base and mark.base != usual_base(definition):
            marks.append(self.varve(definition.base))
        if name != self.names[name]:
            marks.append(f"name={quoted(name)}")
        head = [f"@{self.use('stored_as')}({', '.join(marks)})"] if marks else []
        base = self.use("IntFlag" if definition.flags else "IntEnum")
        docs = dict(mark.docs)
        doc = enum_doc(cls)
        lines = [*head, f"class {self.names[name]}({base}):", *self.doc_lines(doc)]
        lines += [""] * bool(doc)
        for label, value in definition.members:
            lines += [f"    {label} = {value}", *self.doc_lines(docs.get(label, ""))]
        return lines

    def record(self, name: str, target: Declaration) -> list[str]:
        marks = [f"name={quoted(name)}"] if name != self.names[name] else []
        marks += [f"force_align={target.align}"] if target.align else []
        what = self.varve("event" if target.what == "table" else "struct")
        lines = [f"@{what}({', '.join(marks)})" if marks else f"@{what}", f"class {self.names[name]}:"]
        doc = self.doc_lines(target.doc)
        lines += [*doc, ""] if doc and target.fields else doc
        kw_only = target.what == "table" and keyword_only(target.fields)
        if kw_only:
            lines.append(f"    {self.free('_')}: {self.use('KW_ONLY')}")
        docs = {f.name: f.metadata.get("doc", "") for f in dataclasses.fields(target.cls)}
        for f in target.fields:
            lines += [self.field_line(f, target), *self.doc_lines(docs[f.name])]
        return lines if target.fields or doc else [*lines, "    pass"]

    def free(self, name: str) -> str:
        while name in self.fields:
            name += "_"
        return name

    def field_line(self, f: FieldDef, owner: Declaration) -> str:
        hint = self.hint(f.kind) + (" | None" if f.optional else "")
        metadata = {"deprecated": f.deprecated, "key": f.key, "force_align": f.align}
        metadata = {name: value for name, value in metadata.items() if value}
        default = ""
        if f.optional:
            default = "None"
        elif f.default is not NO_DEFAULT:
            default = self.literal(f.kind, absent_object(f.kind, f.default, owner), owner)
        if metadata:
            marks = ", ".join(f"{quoted(name)}: {value!r}" for name, value in metadata.items())
            default = f"{self.use('field')}({f'default={default}, ' if default else ''}metadata={{{marks}}})"
        return f"    {f.name}: {hint}" + (f" = {default}" if default else "")

    def hint(self, kind: Kind) -> str:
        match kind.tag:
            case "vector":
                assert kind.item is not None
                return f"{self.built_in('tuple')}[{self.hint(kind.item)}, ...]"
            case "array":
                assert kind.item is not None
                base = f"{self.built_in('tuple')}[{self.hint(kind.item)}, ...]"
                return f"{self.use('Annotated')}[{base}, {self.use('Length')}({kind.length})]"
            case "union":
                return " | ".join(self.names[name] for name in kind.names)
        if kind.nested:
            held = self.names[kind.nested]
            return f"{self.use('Annotated')}[{self.built_in('bytes')}, {self.use('Nested')}({held})]"
        if kind.name:
            return self.names[kind.name]
        if kind.tag in PLAIN_HINTS:
            return self.built_in(PLAIN_HINTS[kind.tag])
        return self.use(IMPORTED_HINTS[kind.tag]) if kind.tag in IMPORTED_HINTS else self.varve(kind.tag)

    def literal(self, kind: Kind, value: Any, owner: Declaration) -> str:
        """An expression for a default."""
        match kind.tag:
            case "vector" | "array":
                assert kind.item is not None
                items = [self.literal(kind.item, item, owner) for item in value]
                return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
            case "enum":
                label = getattr(value, "name", None)
                known = label in owner.enum_of(kind.name).__members__
                return f"{self.names[kind.name]}.{label}" if known else f"{self.names[kind.name]}({int(value)})"
            case "table" | "struct":
                return self.instance(value, owner.declaration_of(kind.name))
            case "union":
                return self.instance(value, type(value).__varve__)
        return self.scalar(value)

    def instance(self, value: Any, declared: Declaration) -> str:
        parts = []
        for f in declared.fields:
            held = getattr(value, f.name)
            parts.append(f"{f.name}={'None' if held is None else self.literal(f.kind, held, declared)}")
        return f"{self.names[declared.name]}({', '.join(parts)})"

    def scalar(self, value: Any) -> str:
        if isinstance(value, float) and not math.isfinite(value):
            return f"{self.built_in('float')}({quoted(str(value))})"
        if isinstance(value, datetime):
            return f"{self.use('datetime')}.fromisoformat({quoted(value.isoformat())})"
        if isinstance(value, UUID):
            return f"{self.use('UUID')}({quoted(str(value))})"
        if isinstance(value, Decimal):
            return f"{self.use('Decimal')}({quoted(str(value))})"
        return quoted(value) if isinstance(value, (str, bytes)) else repr(value)


def quoted(value: str | bytes) -> str:
    """A literal in double quotes where that needs no further escapes."""
    text = repr(value)
    start = text.index(text[-1])
    return text if text[-1] == '"' or '"' in text else f'{text[:start]}"{text[start + 1 : -1]}"'


def needed_by(declared: Declaration) -> Iterator[str]:
    """What stands before a class in a module: the structs that a struct holds, and the classes of the instances that are
    defaults of fields, however deep; their own annotations may name what comes later."""
    for f in declared.fields:
        if declared.what == "struct":
            yield from f.kind.references()
        elif f.default is not NO_DEFAULT:
            yield from classes_in(absent_object(f.kind, f.default, declared))


def classes_in(value: Any) -> Iterator[str]:
    """Names of the classes of an instance and of all that it holds."""
    if isinstance(value, tuple):
        for item in value:
            yield from classes_in(item)
    held = declaration(type(value))
    if held is not None:
        yield held.name
        for f in held.fields:
            yield from classes_in(getattr(value, f.name))


def usual_base(definition: Any) -> str:
    """How an enum with these values is stored without ``stored_as``."""
    bases = ("u32", "i32", "u64", "i64") if definition.flags else ("i32", "u32", "i64", "u64")
    values = [value for _, value in definition.members]
    return next(base for base in bases if INT_RANGES[base][0] <= min(values) and max(values) <= INT_RANGES[base][1])
