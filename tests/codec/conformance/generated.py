"""Random event classes, of every mapped type and every option that .fbs has a word for."""

from __future__ import annotations

import dataclasses
from enum import IntEnum, IntFlag
from typing import Annotated, Any

from hypothesis import strategies as st

from varve import types
from varve.codec import declare
from varve.codec.schema import INT_RANGES, SCALARS

NUMBERS = [getattr(types, tag) for tag in SCALARS if tag != "bool"] + [bool]
PLAIN = [str, bytes, declare.UUID, declare.datetime, declare.Decimal]


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
                st.sampled_from([*NUMBERS, declare.UUID, declare.datetime, *enums, *structs])
            )
    cls = type(f"S{index}", (), {"__annotations__": annotations})
    return declare.declare(cls, "struct", None, {}, draw(st.sampled_from([0, 0, 0, 4, 8])))


def make_table(draw: st.DrawFn, index: int, enums: list[Any], structs: list[Any], tables: list[Any]) -> Any:
    annotations: dict[str, Any] = {}
    body: dict[str, Any] = {}
    for number in range(draw(st.integers(0, 6))):
        name = f"f{number}"
        hint = draw(st.sampled_from([*NUMBERS, *PLAIN, *enums, *structs, *tables]))
        shape = draw(
            st.sampled_from(["one", "one", "optional", "vector", "vector or none", "union", "default", "deprecated"])
        )
        metadata: dict[str, Any] = {}
        if shape.startswith("vector"):
            hint = tuple[hint, ...]  # type: ignore[valid-type]
            metadata = draw(st.sampled_from([{}, {}, {"force_align": 8}])) if hint.__args__[0] in NUMBERS else {}
        if shape == "union" and len(tables) > 1:
            hint = tables[0] | tables[1]
            shape = draw(st.sampled_from(["one", "optional"]))
        if shape in {"optional", "vector or none", "deprecated"}:
            annotations[name] = hint | None if not isinstance(hint, str) else hint
            body[name] = dataclasses.field(
                kw_only=True, metadata=metadata | ({"deprecated": True} if shape == "deprecated" else {})
            )
        elif shape == "default" and hint in NUMBERS:
            annotations[name] = hint
            body[name] = dataclasses.field(kw_only=True, default={bool: True}.get(hint, 5))
        else:
            annotations[name] = hint
            body[name] = dataclasses.field(kw_only=True, metadata=metadata)
    return declare.declare(type(f"T{index}", (), {"__annotations__": annotations} | body), "table", None, {})
