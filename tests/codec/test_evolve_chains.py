"""Random histories of an event class: every version reads every other's events, and no dangerous step gets through."""

from __future__ import annotations

import copy
import dataclasses
from enum import IntEnum
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from varve import types
from varve.codec import event_type, event_type_from_schema, incompatibilities, misfits
from varve.codec.declare import declare
from varve.errors import MalformedEvent

# What a field may hold, and the values of it: of a number first what it reads as when absent.
NUMBERS: dict[str, tuple[Any, list[Any]]] = {
    "u8": (types.u8, [0, 7, 255]),
    "i64": (int, [0, -(2**63), -1, 5]),
    "bool": (bool, [False, True]),
    "f32": (types.f32, [0.0, 1.5, -2.0]),
}
TEXTS: dict[str, tuple[Any, list[Any]]] = {
    "str": (str, ["", "abc", "\N{SNOWMAN}" * 9]),
    "bytes": (bytes, [b"", b"\x00\x01"]),
    "numbers": (tuple[types.u16, ...], [(), (1, 2, 3)]),
}
SIMPLE = NUMBERS | TEXTS


# Each example compiles a dozen classes: making a failing one smaller would take minutes.
WITHOUT_SHRINKING = settings(
    deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate], suppress_health_check=list(HealthCheck)
)


@dataclasses.dataclass
class Field:
    """A field of a model. ``mode`` is required, optional or default."""

    name: str
    holds: str
    mode: str = "required"
    default: Any = None
    deprecated: bool = False


@dataclasses.dataclass
class Model:
    """One version: the fields of the event E and of the nested N, the members of the enum G and of the union of M0, M1 ..."""

    tables: dict[str, list[Field]]
    members: list[int]
    union: int
    struct: int = 2

    def build(self) -> Any:
        """The class of this version."""
        held = {name: hint for name, (hint, _) in SIMPLE.items()}
        held["G"] = IntEnum("G", [(f"V{value}", value) for value in self.members])
        pair = {"__annotations__": {f"p{at}": types.u8 for at in range(self.struct)}}
        held["S"] = declare(type("S", (), pair), "struct", None, {})
        made = [
            declare(type(f"M{at}", (), {"__annotations__": {"m": types.u8}}), "table", None, {})
            for at in range(self.union)
        ]
        held["U"] = made[0]
        for member in made[1:]:
            held["U"] |= member
        held["N"] = inner = table("N", self.tables["N"], held)
        held["L"] = tuple[inner, ...]
        return table("E", self.tables["E"], held)


def table(name: str, fields: list[Field], held: dict[str, Any]) -> Any:
    body: dict[str, Any] = {"__annotations__": {}}
    for f in fields:
        body["__annotations__"][f.name] = held[f.holds] | None if f.mode == "optional" else held[f.holds]
        metadata = {"deprecated": True} if f.deprecated else {}
        default = {} if f.mode == "required" else {"default": None if f.mode == "optional" else f.default}
        body[f.name] = dataclasses.field(kw_only=True, metadata=metadata, **default)
    return declare(type(name, (), body), "table", None, {})


def first_model(draw: st.DrawFn) -> Model:
    tables = {name: [Field("first", draw(st.sampled_from(sorted(SIMPLE))))] for name in ("E", "N")}
    tables["E"] += [Field(f"the_{holds}", holds) for holds in "GUSNL"]
    model = Model(tables, [0, 3], 2)
    for _ in range(draw(st.integers(0, 3))):
        fields = tables[draw(st.sampled_from(["E", "N"]))]
        fields.append(Field(f"a{len(fields)}", draw(st.sampled_from(sorted(SIMPLE)))))
    return model


def grow(draw: st.DrawFn, model: Model) -> Model:
    """A version after this one: one allowed change, or several."""
    after = copy.deepcopy(model)
    for _ in range(draw(st.integers(1, 3))):
        fields = after.tables[draw(st.sampled_from(["E", "N"]))]
        match draw(st.sampled_from(["optional", "default", "deprecate", "enum", "union"])):
            case "optional":
                fields.append(Field(f"a{len(fields)}", draw(st.sampled_from([*sorted(SIMPLE), "G", "S"])), "optional"))
            case "default":
                holds = draw(st.sampled_from(sorted(SIMPLE)))
                fields.append(Field(f"a{len(fields)}", holds, "default", draw(st.sampled_from(SIMPLE[holds][1]))))
            case "deprecate":
                chosen = draw(st.sampled_from([f for f in fields if f.holds in SIMPLE]))
                if chosen.mode == "required":
                    chosen.mode, chosen.default = ("default", SIMPLE[chosen.holds][1][0])
                chosen.deprecated = True
            case "enum":
                at = draw(st.integers(0, len(after.members)))
                after.members.insert(at, max(after.members) + draw(st.integers(1, 5)))
            case "union":
                after.union += 1
    return after


@st.composite
def histories(draw: st.DrawFn) -> list[Model]:
    """Versions of one class, each an allowed change of the one before."""
    versions = [first_model(draw)]
    for _ in range(draw(st.integers(1, 4))):
        versions.append(grow(draw, versions[-1]))
    return versions


def make_event(draw: st.DrawFn, model: Model, cls: Any) -> Any:
    """A random event of a version."""
    hints = {f.name: f for f in event_type(cls).declaration.fields}

    def value(f: Field, owner: Any) -> Any:
        declared = owner.__varve__
        if f.mode != "required" and draw(st.booleans()):
            return None if f.mode == "optional" else f.default
        match f.holds:
            case "G":
                return draw(st.sampled_from(list(declared.enum_of("G"))))
            case "S":
                return declared.declaration_of("S").cls(*range(1, model.struct + 1))
            case "U":
                name = draw(st.sampled_from(hints["the_U"].kind.names))
                return declared.declaration_of(name).cls(draw(st.integers(0, 255)))
            case "N":
                return one("N", declared.declaration_of("N").cls)
            case "L":
                return tuple(one("N", declared.declaration_of("N").cls) for _ in range(draw(st.integers(0, 2))))
        return draw(st.sampled_from(SIMPLE[f.holds][1]))

    def one(name: str, made: Any) -> Any:
        return made(**{f.name: value(f, made) for f in model.tables[name]})

    return one("E", cls)


UNREADABLE = object()


def seen(value: Any) -> Any:
    """A value as plain data, to compare across classes."""
    declared = getattr(type(value), "__varve__", None)
    if declared is not None:
        out = {"": declared.name}
        for f in declared.fields:
            try:
                out[f.name] = seen(getattr(value, f.name))
            except MalformedEvent:
                out[f.name] = UNREADABLE
        return out
    if isinstance(value, (tuple, memoryview)):
        return [seen(item) for item in value]
    return int(value) if isinstance(value, IntEnum) else value


def check_reads(wrote: Any, read: Any, writer: Model, reader: Model, where: str = "E") -> None:
    """What one version reads of another's event: what both know is equal, what only the reader knows is absent."""
    if isinstance(wrote, list):
        assert len(wrote) == len(read)
        for one, other in zip(wrote, read, strict=True):
            check_reads(one, other, writer, reader, where)
        return
    if not isinstance(wrote, dict):
        assert wrote == read
        return
    assert wrote[""] == read[""]
    known = {f.name: f for f in reader.tables.get(wrote[""], [])}
    for name, value in read.items():
        if value is UNREADABLE:  # a union member that came later
            assert name == "the_U"
            assert int(wrote[name][""][1:]) >= reader.union
        elif name in wrote:
            check_reads(wrote[name], value, writer, reader, name)
        else:
            expected = None if known[name].mode == "optional" else known[name].default
            assert value == (list(expected) if isinstance(expected, tuple) else expected)


@settings(WITHOUT_SHRINKING, max_examples=20)
@given(data=st.data())
def test_every_version_reads_every_other(data: st.DataObject) -> None:
    """Forwards and backwards over a whole history, through the classes and through the stored schemas."""
    versions = data.draw(histories())
    compiled = [event_type(version.build()) for version in versions]
    for at, one in enumerate(compiled):
        assert misfits([older.schema_bytes for older in compiled[:at]], one.schema_bytes) == []
    draw = data.draw
    for writer, wrote in zip(versions, compiled, strict=True):
        event = make_event(draw, writer, wrote.cls)
        packed = wrote.pack(event)
        for reader, reads in zip(versions, compiled, strict=True):
            for one in (reads, event_type_from_schema(reads.schema_bytes)):
                one.verify(packed) if writer.union <= reader.union else None
                check_reads(seen(event), seen(one.view(packed)), writer, reader)


DANGERS = (
    "remove", "rename", "swap", "insert", "retype", "default", "require", "required", "struct", "renumber", "less enum",
    "less union", "undeprecate",
)  # fmt: skip


def endanger(draw: st.DrawFn, model: Model, danger: str) -> Model | None:
    """A version that must not follow this one; None where the danger has no place."""
    after = copy.deepcopy(model)
    name = draw(st.sampled_from(["E", "N"]))
    fields = after.tables[name]
    at = draw(st.integers(0, len(fields) - 1))
    f = fields[at]
    match danger:
        case "remove":
            del fields[at]
        case "rename":
            fields[at] = dataclasses.replace(f, name="renamed")
        case "swap" if len(fields) > 1:
            fields.insert((at + 1) % len(fields), fields.pop(at))
        case "insert":
            fields.insert(at, Field("inserted", "u8", "optional"))
        case "retype" if f.holds in SIMPLE and f.mode != "default":
            f.holds = next(other for other in SIMPLE if other != f.holds)
        case "default" if f.mode == "default":
            f.default = next(value for value in SIMPLE[f.holds][1] if value != f.default)
        # A number whose default is what absent numbers read as is the same without it.
        case "require" if f.mode != "required" and not f.deprecated and not (f.holds in NUMBERS and f.default == 0):
            f.mode = "required"
        case "required":
            fields.append(Field("new", "u8"))
        case "struct":
            after.struct += 1
        case "renumber":
            after.members[-1] += 100
        case "less enum" if len(after.members) > 1:
            del after.members[-1]
        case "less union" if after.union > 2:
            after.union -= 1
        case "undeprecate" if f.deprecated:
            f.deprecated = False
        case _:
            return None
    return after


@pytest.mark.parametrize("danger", DANGERS)
@settings(WITHOUT_SHRINKING, max_examples=8)
@given(data=st.data())
def test_no_dangerous_step_gets_through(danger: str, data: st.DataObject) -> None:
    """One dangerous change of the newest version is refused, also where allowed ones come with it."""
    versions = data.draw(histories())
    endangered = endanger(data.draw, versions[-1], danger)
    if endangered is None:
        return
    if data.draw(st.booleans()) and danger not in {"less union", "less enum"}:
        endangered.tables["E"].append(Field("besides", "str", "optional"))
    stored = [event_type(version.build()).schema_bytes for version in versions]
    text = event_type(endangered.build()).schema_bytes
    assert misfits(stored, text)
    assert incompatibilities(stored[-1], text)
