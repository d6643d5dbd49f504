"""Random event classes, of every mapped type and every option that .fbs has a word for."""

from __future__ import annotations

import dataclasses
import functools
import operator
from datetime import UTC, datetime
from enum import IntEnum, IntFlag
from typing import Annotated, Any

from hypothesis import strategies as st

from varve import types
from varve.codec import declare
from varve.codec.declare import declaration
from varve.codec.schema import INT_RANGES, NO_DEFAULT, SCALARS

NUMBERS = [getattr(types, tag) for tag in SCALARS if tag != "bool"] + [bool]
PLAIN = [str, bytes, declare.UUID, declare.datetime, declare.Decimal]
KEYS = [str, declare.datetime, bool, *NUMBERS]
SHAPES = [
    "one",
    "optional",
    "vector",
    "vector or none",
    "union",
    "unions",
    "unions or none",
    "default",
    "deprecated",
    "own",
    "key",
]


@st.composite
def event_classes(draw: st.DrawFn) -> Any:
    """A class T<n> with enums, structs and tables of its own; names are of one letter and a number."""
    enums = [make_enum(draw, index) for index in range(draw(st.integers(0, 2)))]
    structs: list[Any] = []
    for index in range(draw(st.integers(0, 2))):
        structs.append(make_struct(draw, index, enums, structs))
    tables: list[Any] = []
    for index in range(draw(st.integers(1, 4))):
        tables.append(make_table(draw, index, enums, structs, tables))
    return tables[-1]


def make_enum(draw: st.DrawFn, index: int) -> Any:
    base = draw(st.sampled_from(sorted(INT_RANGES)))
    low, high = INT_RANGES[base]
    if base.startswith("u") and draw(st.booleans()):
        bits = draw(st.lists(st.integers(0, high.bit_length() - 1), min_size=1, max_size=4, unique=True))
        made: Any = IntFlag(f"E{index}", [(f"M{bit}", 1 << bit) for bit in bits])
    else:
        values = draw(st.lists(st.integers(max(low, -100), min(high, 200)), min_size=1, max_size=4, unique=True))
        made = IntEnum(f"E{index}", [(f"M{number}", value) for number, value in enumerate(values)])
    return declare.stored_as(getattr(types, base))(made)


def make_struct(draw: st.DrawFn, index: int, enums: list[Any], structs: list[Any]) -> Any:
    annotations: dict[str, Any] = {}
    # flatc's Python classes cannot read arrays of enums or structs: arrays hold numbers here, tests of their own the others.
    for number in range(draw(st.integers(1, 4))):
        if draw(st.integers(0, 3)) == 0:
            item = draw(st.sampled_from(NUMBERS))
            annotations[f"g{number}"] = Annotated[tuple[item, ...], types.Length(draw(st.integers(1, 5)))]  # type: ignore[misc]
        else:
            annotations[f"g{number}"] = draw(
                st.sampled_from([*structs, *NUMBERS, declare.UUID, declare.datetime, *enums, *structs])
            )
    cls = type(f"S{index}", (), {"__annotations__": annotations})
    return declare.declare(cls, "struct", None, {}, draw(st.sampled_from([0, 0, 0, 4, 8])))


def make_table(draw: st.DrawFn, index: int, enums: list[Any], structs: list[Any], tables: list[Any]) -> Any:
    annotations: dict[str, Any] = {}
    body: dict[str, Any] = {}
    shapes = draw(st.lists(st.sampled_from(SHAPES), max_size=8))
    for number, shape in enumerate(shapes):
        hint, options = make_field(draw, shape, index, [enums, structs, tables])
        if options.get("metadata", {}).get("key") and "key" in shapes[:number]:
            options = {}
        annotations[f"f{number}"] = hint
        body[f"f{number}"] = dataclasses.field(kw_only=True, **options)
    return declare.declare(type(f"T{index}", (), {"__annotations__": annotations} | body), "table", None, {})


def make_field(draw: st.DrawFn, shape: str, index: int, made: list[list[Any]]) -> tuple[Any, dict[str, Any]]:
    """A field's annotation, and what dataclasses.field says of it."""
    enums, structs, tables = made
    hint = draw(st.sampled_from([*NUMBERS, *PLAIN, *enums, *structs, *tables]))
    if shape.startswith("union") and len(tables) > 1:
        members = draw(st.lists(st.sampled_from(tables), min_size=2, max_size=4, unique=True))
        hint = functools.reduce(operator.or_, members)
        if shape == "union":
            return hint | None if draw(st.booleans()) else hint, {}
        hint = tuple[hint, ...]  # type: ignore[valid-type]
        if shape == "unions or none":
            return hint | None, {"metadata": draw(st.sampled_from([{}, {"deprecated": True}]))}
        return hint, draw(st.sampled_from([{}, {"default_factory": tuple}]))
    if shape.startswith("vector"):
        hint = draw(st.sampled_from([*structs, hint]))
        metadata = draw(st.sampled_from([{}, {}, {"force_align": 8}])) if hint in NUMBERS else {}
        vector: Any = tuple[hint, ...]  # type: ignore[valid-type]
        return (vector | None if shape != "vector" else vector), {"metadata": metadata}
    if shape == "own":
        return draw(st.sampled_from([f"T{index} | None", f"tuple[T{index}, ...]"])), {}
    if shape == "key":
        return draw(st.sampled_from([*KEYS, *enums])), {"metadata": {"key": True}}
    if shape == "default":
        return default_of(draw, draw(st.sampled_from([bool, str, bytes, declare.datetime, *NUMBERS, *enums])))
    if shape in {"optional", "deprecated"}:
        return hint | None, {"metadata": {"deprecated": True} if shape == "deprecated" else {}}
    return hint, {}


def default_of(draw: st.DrawFn, hint: Any) -> tuple[Any, dict[str, Any]]:
    """Numbers have a default in .fbs, the others one that only Python knows."""
    known: dict[Any, Any] = {
        bool: True,
        str: "none",
        bytes: b"\0",
        declare.datetime: datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC),
    }
    if hint in NUMBERS or hint in known:
        return hint, {"default": known.get(hint, 5)}
    return hint, {"default": draw(st.sampled_from(list(hint)))}


def features(cls: Any) -> set[str]:
    """What a class and those it needs consist of, in words: to see that the strategy reaches all of it."""
    out: set[str] = set()
    found = declaration(cls)
    assert found is not None
    for _, target in found.reachable():
        if not isinstance(target, declare.Declaration):
            out |= {"flags" if issubclass(target, IntFlag) else "enum", declare.enum_def("E", target).base}
            continue
        out.add(f"{target.what} aligned to {target.align}" if target.align else target.what)
        for f in target.fields:
            tag = f.kind.item.tag if f.kind.item is not None else f.kind.tag
            out.add(tag)
            inner = "number" if tag in SCALARS and tag != "bool" else tag
            place = f.kind.tag + " of " if f.kind.item is not None else ""
            out.add(f"{target.what}: {place}{inner}")
            out |= {f"optional {place}{inner}"} if f.optional else set()
            out |= {f"default {place}{inner}"} if f.default is not NO_DEFAULT else set()
            out |= {f"required {place}{inner}"} if f.required else set()
            out |= {"deprecated"} if f.deprecated else set()
            out |= {f"key {inner}"} if f.key else set()
            out |= {"aligned vector"} if f.align else set()
            out |= {"holds itself"} if target.name in f.kind.references() else set()
    return out
