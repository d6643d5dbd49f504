"""Marks on classes and fields: fixed arrays, widths of enums, keys, alignment."""

from __future__ import annotations

import math
from dataclasses import field
from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Any
from uuid import UUID

import pytest

from varve.codec import event, event_type, event_type_from_schema, from_json, incompatibilities, struct, to_json
from varve.codec.declare import declare, stored_as
from varve.errors import EventEncodingError, MalformedEvent, SchemaError
from varve.types import Length, f32, u8, u16


@stored_as(u8, name="geo.Side")
class Side(IntEnum):
    LEFT = 0
    RIGHT = 5


@struct
class Pair:
    a: u8
    b: f32


@struct(force_align=8)
class Arrays:
    numbers: Annotated[tuple[u16, ...], Length(3)]
    floats: Annotated[tuple[float, ...], Length(2)]
    flags: Annotated[list[bool], Length(2)]
    sides: Annotated[tuple[Side, ...], Length(2)]
    pairs: Annotated[tuple[Pair, ...], Length(2)]
    times: Annotated[tuple[datetime, ...], Length(1)]
    keys: Annotated[tuple[UUID, ...], Length(2)]


@event
class Holder:
    one: Arrays
    many: list[Arrays]
    sku: u16 = field(default=0, metadata={"key": True})
    data: bytes = field(default=b"", metadata={"force_align": 8})


def arrays(**changes: Any) -> Arrays:
    usual: dict[str, Any] = {
        "numbers": [1, 2, 3],
        "floats": (math.nan, -0.5),
        "flags": [True, False],
        "sides": (Side.RIGHT, Side.LEFT),
        "pairs": (Pair(1, 0.1), Pair(2, 3)),
        "times": (datetime(2020, 1, 1, tzinfo=UTC),),
        "keys": (UUID(int=1), UUID(int=2)),
    }
    return Arrays(**(usual | changes))


def test_arrays_of_every_inline_type_read_back() -> None:
    """Equal, also by hash, JSON, digest, and through a class made from the schema."""
    compiled = event_type(Holder)
    one = Holder(arrays(), (arrays(), arrays(floats=(1.0, 2.0))), 11, b"12345")
    data = compiled.pack(one)
    compiled.verify(data)
    view = compiled.view(data)
    assert view == one
    assert hash(view) == hash(one)
    assert from_json(Holder, to_json(view)) == one
    assert compiled.digest(view) == compiled.digest(one)
    assert b"('sides', (5, 0))" in compiled.digest(one)
    made = event_type_from_schema(compiled.schema_bytes)
    assert made.schema_bytes == compiled.schema_bytes
    assert made.pack(made.view(data)) == data


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"numbers": (1, 2)}, r"one\.numbers must hold exactly 3 items"),
        ({"numbers": (1, 2, 2**16)}, r"one\.numbers\[2\] must be in 0 \.\. 65535"),
        ({"flags": (1, 2)}, r"one\.flags\[0\] must be a bool"),
        ({"sides": (Side.LEFT, "x")}, r"one\.sides\[1\] must be a geo.Side"),
        ({"pairs": None}, r"one\.pairs must be a list or tuple"),
    ],
)
def test_values_that_do_not_fit_an_array_are_named(changes: dict[str, Any], reason: str) -> None:
    """Too few, too many, of another type."""
    with pytest.raises(EventEncodingError, match=reason):
        event_type(Holder).pack(Holder(arrays(**changes), ()))


def test_integers_are_taken_as_floats_on_the_slow_path() -> None:
    """As for any other float field."""
    compiled = event_type(Holder)
    assert compiled.view(compiled.pack(Holder(arrays(floats=[1, 2]), ()))).one.floats == (1.0, 2.0)


def test_the_schema_text_of_marks() -> None:
    """Part of the store's format: it never changes for the same class."""

    @struct(force_align=4)
    class S:
        x: Annotated[tuple[u8, ...], Length(2)]

    @event
    class E:
        k: Side = field(metadata={"key": True})
        s: S
        d: list[u8] = field(metadata={"force_align": 8})

    assert event_type(E).schema_bytes == (
        b'{"format":1,"root":"E","types":{"E":{"table":[{"key":true,"name":"k","type":{"enum":"geo.Side"}},'
        b'{"name":"s","type":{"struct":"S"}},{"force_align":8,"name":"d","type":{"vector":"u8"}}]},'
        b'"S":{"force_align":4,"struct":[{"name":"x","type":{"array":"u8","length":2}}]},'
        b'"geo.Side":{"enum":"u8","members":[["LEFT",0],["RIGHT",5]]}}}'
    )


def make(what: str, align: int = 0, **annotations: Any) -> Any:
    body = {"__annotations__": {name: hint for name, (hint, _) in annotations.items()}}
    body |= {name: value for name, (_, value) in annotations.items() if value is not None}
    return declare(type("E", (), body), what, None, {}, align)


ARRAY = Annotated[tuple[u8, ...], Length(2)]


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: make("table", a=(ARRAY, None)), "only a struct holds arrays"),
        (lambda: make("struct", a=(Annotated[tuple[u8, ...], Length(0)], None)), r"1 \.\. 65535 items, not 0"),
        (lambda: make("struct", a=(Annotated[u8, Length(2)], None)), r"how long a tuple\[T, ...\]"),
        (lambda: make("struct", a=(Annotated[tuple[ARRAY, ...], Length(2)], None)), r"how long a tuple\[T, ...\]"),
        (lambda: make("struct", a=(Annotated[tuple[str, ...], Length(2)], None)), "a struct holds numbers"),
        (lambda: make("struct", 16, a=(u8, None)), "force_align is 1, 2, 4 or 8"),
        (lambda: make("table", a=(bytes, field(metadata={"key": True}))), "a key is a number or a str"),
        (
            lambda: make("table", a=(str, field(default="", metadata={"key": True}))),
            "a key that is a str has no default",
        ),
        (lambda: make("table", a=(u8 | None, field(metadata={"key": True}))), "a key is a number or a str"),
        (lambda: make("table", **{n: (u8, field(metadata={"key": True})) for n in "ab"}), "one key at most"),
        (lambda: make("table", a=(u8, field(metadata={"force_align": 8}))), "force_align is 1, 2, 4 or 8, for bytes"),
        (
            lambda: make("table", a=(bytes, field(metadata={"force_align": 3}))),
            "force_align is 1, 2, 4 or 8, for bytes",
        ),
        (lambda: stored_as(float), "an enum is stored as"),
        (lambda: stored_as(u8)(int), "takes an IntEnum or IntFlag"),  # type: ignore[type-var]
        (lambda: stored_as(u8)(IntEnum("Big", {"A": 256})), "the values of an enum must fit u8"),
        (lambda: stored_as(u8, name="no good"), "cannot be an event type's name"),
    ],
)
def test_marks_that_cannot_be_are_refused(build: Any, reason: str) -> None:
    """At class definition, saying what may be."""
    with pytest.raises(SchemaError, match=reason):
        build()


def test_a_schema_with_impossible_marks_is_malformed() -> None:
    """Whoever wrote it."""
    good = event_type(Holder).schema_bytes
    for old, new in (
        (b'"force_align":8', b'"force_align":16'),
        (b'"length":3', b'"length":0'),
        (b'"struct":[', b'"table":['),
    ):
        with pytest.raises(MalformedEvent):
            event_type_from_schema(good.replace(old, new))


def test_the_alignment_of_a_struct_never_changes() -> None:
    """It moves what comes after it."""

    def holder(align: int) -> bytes:
        inner = declare(type("S", (), {"__annotations__": {"a": u8}}), "struct", None, {}, align)
        return event_type(declare(type("E", (), {"__annotations__": {"s": inner}}), "table", None, {})).schema_bytes

    [reason] = incompatibilities(holder(0), holder(8))
    assert reason == "struct S can never change: its force_align was 0 and is 8 now"


def test_verification_sees_the_whole_array() -> None:
    """A struct cut short in its array is outside of its table."""
    compiled = event_type(Holder)
    data = bytearray(compiled.pack(Holder(arrays(), ())))
    vtable = int.from_bytes(data[:4], "little")
    vtable -= int.from_bytes(data[vtable : vtable + 4], "little")
    data[vtable + 2 : vtable + 4] = (48).to_bytes(2, "little")
    with pytest.raises(MalformedEvent, match="lies outside its table"):
        compiled.verify(bytes(data))


def test_a_wide_fan_of_nested_classes_compiles() -> None:
    """Two ways at each of forty levels used to be walked one by one, a million million of them."""
    below: list[Any] = []
    for level in range(40):
        pair = []
        for name in ("A", "B"):
            annotations = {f"f{n}": cls | None for n, cls in enumerate(below)}
            pair.append(declare(type(f"{name}{level}", (), {"__annotations__": annotations}), "table", None, {}))
        below = pair
    assert event_type(below[0]).pack(below[0](None, None))
