"""The official tools as functions: flatc, the classes it generates, and the Builder of the Python runtime."""

from __future__ import annotations

import importlib
import itertools
import json
import math
import os
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import flatbuffers
import pytest
from codec_models import FLAGS

from varve.codec import event_type
from varve.codec.check import nanoseconds
from varve.codec.declare import Declaration
from varve.codec.event_type import compile_struct
from varve.codec.fbs import single_bits
from varve.codec.plan import inline_shape
from varve.codec.schema import FieldDef, Kind

INFINITE = re.compile(r'("(?:[^"\\]|\\.)*")|(-?)\b(inf|nan)\b')


VECTOR_OF_UNIONS = re.compile(r":\[(\w+\.)*Union\d*_*\]")

HOW = "flatc is not installed: apt-get install flatbuffers-compiler (or https://github.com/google/flatbuffers/releases)"


def find_flatc(folder: Path) -> Flatc:
    """The official compiler: missing on a developer's machine a test skips, in CI it fails."""
    found = shutil.which("flatc")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(HOW)
        pytest.skip(HOW)
    return Flatc(found, folder)


packages = itertools.count()
"""Numbers of generated packages: one row for all compilers of a process, which has one table of modules."""


class Flatc:
    """The official compiler. Each call works in a fresh folder, on many files at once: its start is what costs time."""

    def __init__(self, command: str, folder: Path) -> None:
        self.command = command
        self.folder = folder
        self.count = itertools.count()

    def fresh(self, text: str) -> Path:
        folder = self.folder / f"n{next(self.count)}"
        folder.mkdir()
        (folder / "schema.fbs").write_text(text, encoding="utf-8")
        return folder

    def run(self, folder: Path, *arguments: str) -> None:
        done = subprocess.run([self.command, *arguments], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (
            f"flatc {' '.join(arguments)[:200]}: {done.stdout}{done.stderr}\n{(folder / 'schema.fbs').read_text()}"
        )

    def compiled(self, folder: Path, text: str) -> str:
        """What to give flatc as the schema. Many of its generators refuse vectors of unions in .fbs text, also that of JSON; of
        a binary schema they take them."""
        if not VECTOR_OF_UNIONS.search(text):
            return "schema.fbs"
        self.run(folder, "--binary", "--schema", "schema.fbs")
        return "schema.bfbs"

    def refuses(self, text: str) -> str:
        """What flatc says against a schema; empty when it accepts it."""
        folder = self.fresh(text)
        command = [self.command, "--cpp", "schema.fbs"]
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
        return done.stdout + done.stderr if done.returncode else ""

    def to_json(self, text: str, buffers: list[bytes]) -> list[Any]:
        """Each buffer as flatc prints it, defaults too."""
        folder = self.fresh(text)
        names = [f"b{i}" for i in range(len(buffers))]
        for name, data in zip(names, buffers, strict=True):
            (folder / f"{name}.bin").write_bytes(data)
        self.run(
            folder,
            "--json",
            "--strict-json",
            "--defaults-json",
            "--raw-binary",
            self.compiled(folder, text),
            "--",
            *(f"{n}.bin" for n in names),
        )
        return [parsed((folder / f"{name}.json").read_text(encoding="utf-8")) for name in names]

    def to_binary(self, text: str, values: list[Any], *flags: str) -> list[bytes]:
        """What flatc encodes from JSON."""
        folder = self.fresh(text)
        names = [f"j{i}" for i in range(len(values))]
        for name, value in zip(names, values, strict=True):
            (folder / f"{name}.json").write_text(dumped(value), encoding="utf-8")
        self.run(folder, "--binary", *flags, "schema.fbs", *(f"{name}.json" for name in names))
        return [(folder / f"{name}.bin").read_bytes() for name in names]

    def to_python(self, text: str, *flags: str, package: str = "") -> str:
        """Classes that flatc generates, importable; gives their package: the text must have no namespace."""
        package = package or f"generated{next(packages)}"
        folder = self.fresh(f"namespace {package};\n{text}")
        # Without a folder to write to, or with ".", some versions put an __init__.py into the root folder.
        self.run(folder, "--python", "-o", "out", *flags, self.compiled(folder, text))
        shutil.copy(folder / "schema.fbs", folder / "out")
        sys.path.insert(0, str(folder / "out"))
        importlib.invalidate_caches()
        return package


def parsed(text: str) -> Any:
    """The JSON of flatc, which has inf and nan."""
    special = {"inf": "Infinity", "nan": "NaN"}
    return json.loads(INFINITE.sub(lambda m: m[1] or ("-" if m[2] and m[3] == "inf" else "") + special[m[3]], text))


def dumped(value: Any) -> str:
    text = json.dumps(value)
    return re.sub(
        r'("(?:[^"\\]|\\.)*")|\b(Infinity|NaN)\b', lambda m: m[1] or {"Infinity": "inf", "NaN": "nan"}[m[2]], text
    )


# -- values as flatc has them ----------------------------------------------------------------------------------------


def as_json(declared: Declaration, event: Any, deprecated: bool = True) -> dict[str, Any]:
    """The fields that flatc prints, with enums as numbers; without the deprecated ones what its accessors give."""
    out: dict[str, Any] = {}
    for f in declared.fields:
        value = getattr(event, f.name)
        if value is None or (f.deprecated and not deprecated):
            continue
        if f.kind.tag == "union":
            out[f"{f.name}_type"] = type(value).__varve__.name
        elif f.kind.paired:
            out[f"{f.name}_type"] = [type(item).__varve__.name for item in value]
        out[f.name] = json_value(f.kind, value, declared, deprecated)
    return out


def json_value(kind: Kind, value: Any, declared: Declaration, deprecated: bool) -> Any:
    match kind.tag:
        case "bytes":
            return list(value)
        case "decimal":
            return str(value)
        case "datetime":
            return nanoseconds(value)
        case "uuid":
            return {"bytes": list(value.bytes)}
        case "enum":
            return int(value)
        case "vector" | "array":
            assert kind.item is not None
            if kind.item.tag == "bytes":
                return [{"data": list(one)} for one in value]
            return [json_value(kind.item, one, declared, deprecated) for one in value]
        case "table" | "struct":
            return as_json(declared.declaration_of(kind.name), value, deprecated)
        case "union":
            return as_json(type(value).__varve__, value, deprecated)
    return value


def same(kind: Kind, printed: Any, want: Any, declared: Declaration) -> bool:
    """Whether what flatc printed is the value: it rounds floats, and spells enums."""
    match kind.tag:
        case "f32" | "f64":
            if math.isnan(want) or math.isinf(want):
                return str(float(printed)) == str(want)
            return math.isclose(printed, want, rel_tol=1e-6, abs_tol=1e-6)
        case "enum":
            return enum_number(kind.name, printed, declared) == want
        case "vector" | "array":
            assert kind.item is not None
            if kind.item.tag == "bytes":
                return [item.get("data", []) for item in printed] == [item["data"] for item in want]
            pairs = zip(printed, want, strict=True)
            return len(printed) == len(want) and all(same(kind.item, p, w, declared) for p, w in pairs)
        case "table" | "struct":
            return same_record(declared.declaration_of(kind.name), printed, want)
    return bool(printed == want)


def same_record(declared: Declaration, printed: Any, want: Any) -> bool:
    # Asked for defaults, flatc prints null and NONE for what is absent.
    printed = {name: value for name, value in printed.items() if value not in (None, "NONE") or name in want}
    assert set(printed) == set(want), (declared, printed, want)
    for f in declared.fields:
        if f.name not in want:
            continue
        if f.kind.tag == "union":
            member = declared.declaration_of(want[f"{f.name}_type"])
            assert printed[f"{f.name}_type"] == member.name
            assert same_record(member, printed[f.name], want[f.name])
            continue
        if f.kind.paired:
            names = want[f"{f.name}_type"]
            assert printed[f"{f.name}_type"] == names
            for name, item, expected in zip(names, printed[f.name], want[f.name], strict=True):
                assert same_record(declared.declaration_of(name), item, expected)
            continue
        assert same(f.kind, printed[f.name], want[f.name], declared), (declared, f, printed[f.name], want[f.name])
    return True


def enum_number(name: str, printed: Any, declared: Declaration) -> int:
    if not isinstance(printed, str):
        return int(printed)
    cls = declared.enum_of(name)
    bits = {label: 1 << bit for label, bit in single_bits(event_definition(name, declared))}
    return sum(bits[word] if bits else int(cls[word]) for word in printed.split())


def event_definition(name: str, declared: Declaration) -> Any:
    from varve.codec.declare import enum_def

    return enum_def(name, declared.enum_of(name))


# -- the official accessors ------------------------------------------------------------------------------------------


def camel(name: str) -> str:
    out = name[0].upper()
    i = 1
    while i < len(name):
        if name[i] == "_" and i + 1 < len(name):
            i += 1
            out += name[i].upper()
        else:
            out += name[i]
        i += 1
    return out


class Accessors:
    """Reads buffers field by field through the classes that flatc generated."""

    def __init__(self, package: str, of_binary: bool) -> None:
        self.package = package
        self.of_binary = of_binary

    def cls(self, name: str) -> Any:
        short = name.rpartition(".")[2]
        return getattr(importlib.import_module(f"{self.package}.{short}"), short)

    def event(self, declared: Declaration, data: bytes) -> dict[str, Any]:
        return self.record(declared, self.cls(declared.name).GetRootAs(data, 0))

    def record(self, declared: Declaration, found: Any) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for f in declared.fields:
            if f.deprecated:
                # A binary schema does not say so: of one, flatc generates all.
                assert self.of_binary or not hasattr(found, camel(f.name))
                continue
            value = self.field(declared, f, found)
            if value is not None:
                out[f.name] = value
            if f.kind.tag == "union" and value is not None:
                out[f"{f.name}_type"] = f.kind.names[getattr(found, camel(f.name) + "Type")() - 1]
            elif f.kind.paired and value is not None:
                out[f"{f.name}_type"] = [name for name, _ in value]
                out[f.name] = [item for _, item in value]
        return out

    def field(self, declared: Declaration, f: FieldDef, found: Any) -> Any:
        name, kind = camel(f.name), f.kind
        if kind.tag == "array":
            assert kind.item is not None
            if kind.item.tag == "struct":
                return [self.inline(kind.item, getattr(found, name)(i), declared) for i in range(kind.length)]
            return [self.inline(kind.item, item, declared) for item in getattr(found, name)()]
        if kind.paired and kind.tag == "vector":
            return self.unions(declared, kind, found, name)
        if kind.tag in {"vector", "bytes"}:
            if getattr(found, name + "IsNone")():
                return None
            item = kind.item or Kind("u8")
            get = getattr(found, name)
            return [self.inline(item, get(i), declared) for i in range(getattr(found, name + "Length")())]
        if kind.tag == "union":
            number = getattr(found, name + "Type")()
            if not number:
                return None
            table = getattr(found, name)()
            member = self.cls(kind.names[number - 1])()
            member.Init(table.Bytes, table.Pos)
            return self.record(declared.declaration_of(kind.names[number - 1]), member)
        if declared.what == "struct" and kind.tag in {"struct", "uuid"}:
            held = self.cls(kind.name or "UUID")()
            return self.inline(kind, getattr(found, name)(held), declared)
        value = getattr(found, name)()
        return None if value is None else self.inline(kind, value, declared)

    def unions(self, declared: Declaration, kind: Kind, found: Any, name: str) -> list[tuple[str, Any]] | None:
        """The items of a vector of unions with their members' names. What flatc generates to get an item calls the runtime with
        one argument too few: the runtime's own Table finds it instead."""
        assert kind.item is not None
        if getattr(found, name + "IsNone")():
            assert getattr(found, name + "TypeIsNone")()
            return None
        count = getattr(found, name + "Length")()
        assert getattr(found, name + "TypeLength")() == count
        ids = itertools.accumulate(2 if f.kind.paired else 1 for f in declared.fields)
        at = next(2 + 2 * n for n, f in zip(ids, declared.fields, strict=True) if camel(f.name) == name)
        table = found._tab
        start = table.Vector(table.Offset(at))
        out = []
        for i in range(count):
            member = kind.item.names[getattr(found, name + "Type")(i) - 1]
            item = self.cls(member)()
            item.Init(table.Bytes, table.Indirect(start + 4 * i))
            out.append((member, self.record(declared.declaration_of(member), item)))
        return out

    def inline(self, kind: Kind, value: Any, declared: Declaration) -> Any:
        match kind.tag:
            case "str" | "decimal":
                return value.decode()
            case "bytes":
                return {"data": [value.Data(i) for i in range(value.DataLength())]}
            case "uuid":
                return {"bytes": list(value.Bytes())}
            case "table" | "struct":
                return self.record(declared.declaration_of(kind.name), value)
        return value


# -- the official Builder --------------------------------------------------------------------------------------------


class Building:
    """Encodes an event with the official Builder: fields in any order, defaults left out, and fields that a newer schema
    added at the end. Tables with the same vtable share it, as the Builder does."""

    def __init__(self, chance: random.Random, newer: int) -> None:
        self.chance = chance
        self.newer = newer
        self.builder = flatbuffers.Builder(0)

    def event(self, declared: Declaration, event: Any) -> bytes:
        self.builder.Finish(self.table(declared, event))
        return bytes(self.builder.Output())

    def shape(self, kind: Kind, declared: Declaration) -> tuple[int, int, str]:
        return inline_shape(kind, lambda name: compile_struct(declared.declaration_of(name)).plan, declared.base_of)

    def table(self, declared: Declaration, event: Any) -> int:
        slots: list[tuple[int, Kind, Any, Any]] = []
        number = 0
        for f in declared.fields:
            value = getattr(event, f.name)
            number += f.kind.paired
            if value is not None:
                if f.kind.tag == "union":
                    slots.append((number - 1, Kind("u8"), f.kind.names.index(type(value).__varve__.name) + 1, None))
                elif f.kind.paired:
                    item = f.kind.item
                    assert item is not None
                    members = [item.names.index(type(one).__varve__.name) + 1 for one in value]
                    types = Kind("vector", item=Kind("u8"))
                    slots.append((number - 1, types, self.behind(types, members, declared), None))
                kind = f.kind
                slots.append(
                    (
                        number,
                        kind,
                        value if kind.inline else self.behind(kind, value, declared),
                        self.left_out(f, declared),
                    )
                )
            number += 1
        slots += [(number + extra, Kind("u64"), 2**63 + extra, None) for extra in range(self.newer)]
        self.chance.shuffle(slots)
        self.builder.StartObject(number + self.newer)
        for index, kind, value, default in slots:
            self.slot(index, kind, value, default, declared)
        return int(self.builder.EndObject())

    def left_out(self, f: FieldDef, declared: Declaration) -> Any:
        """The value of a number that need not be written."""
        if f.optional or not f.kind.inline or f.kind.tag in {"struct", "uuid"}:
            return None
        from varve.codec.json import absent_object

        return absent_object(f.kind, f.default, declared)

    def slot(self, index: int, kind: Kind, value: Any, default: Any, declared: Declaration) -> None:
        builder = self.builder
        if default is not None and value == default and self.chance.random() < 0.7:
            return
        if not kind.inline:
            builder.PrependUOffsetTRelative(value)
        else:
            self.put(kind, value, declared)
        builder.Slot(index)

    def put(self, kind: Kind, value: Any, declared: Declaration) -> None:
        if kind.tag in {"struct", "uuid"}:
            size, align, _ = self.shape(kind, declared)
            raw = value.bytes if kind.tag == "uuid" else compile_struct(declared.declaration_of(kind.name)).pack(value)
            self.builder.Prep(align, size)
            self.builder.head -= size
            self.builder.Bytes[self.builder.head : self.builder.head + size] = raw
            return
        tag = {"enum": declared.base_of(kind.name) if kind.tag == "enum" else "", "datetime": "i64"}.get(
            kind.tag, kind.tag
        )
        number = (
            nanoseconds(value) if kind.tag == "datetime" else value if tag in {"bool", "f32", "f64"} else int(value)
        )
        self.builder.Prepend(FLAGS[tag], number)

    def behind(self, kind: Kind, value: Any, declared: Declaration) -> int:
        match kind.tag:
            case "str" | "decimal":
                return int(self.builder.CreateString(str(value)))
            case "bytes":
                return int(self.builder.CreateByteVector(value))
            case "table":
                return self.table(declared.declaration_of(kind.name), value)
            case "union":
                return self.table(type(value).__varve__, value)
        item = kind.item
        assert item is not None
        if item.tag == "bytes":
            offsets = [self.blob(one) for one in value]
        else:
            offsets = [one if item.inline else self.behind(item, one, declared) for one in value]
        size, align, _ = self.shape(item, declared)
        self.builder.StartVector(size, len(offsets), align)
        for one in reversed(offsets):
            if item.inline:
                self.put(item, one, declared)
            else:
                self.builder.PrependUOffsetTRelative(one)
        return int(self.builder.EndVector())

    def blob(self, value: bytes) -> int:
        data = self.builder.CreateByteVector(value)
        self.builder.StartObject(1)
        self.builder.PrependUOffsetTRelativeSlot(0, data, 0)
        return int(self.builder.EndObject())


def official(cls: Any, event: Any, chance: random.Random, newer: int = 0) -> bytes:
    """The event as the official Builder writes it."""
    return Building(chance, newer).event(event_type(cls).declaration, event)
