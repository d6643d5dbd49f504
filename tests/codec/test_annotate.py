"""Every byte of an event has a name: once, whoever wrote it, and what is called padding is looked at by nobody."""

from __future__ import annotations

import random
import struct
from typing import Annotated, Any

import flatbuffers
import pytest
from codec_models import Cash, Envelope, Everything, Ledger, OrderPlaced, Tree, envelope, events_of, everything, ledger
from fuzz import SAMPLES, mutation, shapes
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varve.codec import event, event_type
from varve.codec import struct as struct_class
from varve.codec.annotate import ITEMS_SHOWN, STRUCTS_SINGLY_MAX, BytePart, annotate
from varve.errors import MalformedEvent
from varve.types import Length, f32, u8, u32, u64


def parts_of(cls: Any, data: bytes) -> list[BytePart]:
    """The parts, which must be the buffer: each byte once."""
    parts = annotate(event_type(cls), data)
    at = 0
    for part in parts:
        assert part.offset == at
        assert part.size > 0
        at += part.size
    assert at == len(data)
    return parts


def named(parts: list[BytePart], name: str, *what: str) -> list[str]:
    """The values of the parts of a field, of these kinds."""
    return [part.value for part in parts if part.name == name and part.what in what]


def without_padding(parts: list[BytePart], data: bytes) -> bytes:
    """The same bytes with rubbish for whatever is called padding or unknown."""
    out = bytearray(data)
    for part in parts:
        if part.what in {"padding", "unknown"}:
            out[part.offset : part.offset + part.size] = b"\xa5" * part.size
    return bytes(out)


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(st.one_of(*map(events_of, (Everything, Ledger, Tree, OrderPlaced, Cash))))
def test_every_byte_is_named_once_and_padding_says_nothing(one: Any) -> None:
    """Whatever the event: the parts are the buffer, and an event with other padding is the same event."""
    compiled = event_type(type(one))
    data = compiled.pack(one)
    other = without_padding(parts_of(type(one), data), data)
    compiled.verify(other)
    assert compiled.view(other) == one


@settings(deadline=None, max_examples=30)
@given(events_of(Envelope))
def test_buffers_inside_of_buffers_are_named_too(one: Any) -> None:
    """Nested buffers are bytes of the event: all of them have a name. (Their padding is part of the value.)"""
    parts_of(Envelope, event_type(Envelope).pack(one))


@pytest.mark.parametrize("number", range(2))
def test_random_schemas(number: int) -> None:
    """Classes that nobody thought of, as we write them and as the official Builder does; the seed is in the test's name."""
    for compiled, data in shapes(number, random.Random(number), 10):
        other = without_padding(parts_of(compiled.cls, data), data)
        if not isinstance(compiled.view(data), Envelope):  # the padding of a nested buffer is part of a value
            compiled.verify(other)
            assert compiled.digest(compiled.view(other)) == compiled.digest(compiled.view(data))


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda one: type(one).__name__)
def test_strange_writers(sample: Any) -> None:
    """What the verifier lets pass is annotated, overlapping parts and all; what it does not is ``MalformedEvent``."""
    compiled = event_type(type(sample))
    data = compiled.pack(sample)
    chance = random.Random(4711)
    passed = 0
    for _ in range(150):
        mutated = mutation(data, chance)
        try:
            compiled.verify(mutated)
        except MalformedEvent:
            with pytest.raises(MalformedEvent):
                annotate(compiled, mutated)
        else:
            parts_of(type(sample), mutated)
            passed += 1
    assert passed


def test_what_the_parts_say() -> None:
    """Paths, values in words, enums by name, where offsets lead."""
    data = event_type(Everything).pack(everything(refund=None, maybe_text="x" * 300))
    parts = parts_of(Everything, data)
    assert parts[0].what == "root offset"
    assert parts[0].value.startswith("Everything at ")
    assert named(parts, "flag", "value") == ["true"]
    assert named(parts, "text", "length", "text") == ["6", '"h\u00e9llo"']
    assert named(parts, "blob", "bytes") == ["00ff"]
    assert named(parts, "box.low.y", "value") == ["-2.25"]
    assert named(parts, "box.color", "value") == ["FAR (-7)"]
    assert named(parts, "access", "value") == ["3"]
    assert named(parts, "lines[1].sku", "text") == ['"bcde"']
    assert named(parts, "blobs[1]", "bytes") == ["313233"]
    assert named(parts, "payment", "union type") == ["Card"]
    assert named(parts, "payment.number", "text") == ['"4711"']
    assert named(parts, "refund", "vtable entry") == ["absent"]
    assert named(parts, "at", "value") == ["2020-01-02T03:04:05.000006+00:00"]
    assert named(parts, "key", "value") == ["00000000-0000-0000-0000-000000000009"]
    assert named(parts, "price", "text") == ['"1.50"']
    assert named(parts, "numbers", "items") == [f"1, 2, {2**63}"]
    assert named(parts, "colors", "items") == ["RED (1)"]
    assert named(parts, "points[1].x", "value") == ["0.0"]
    assert named(parts, "maybe_text", "text") == [f'"{"x" * 200}..."']
    [where] = named(parts, "text", "offset")
    [length] = [part for part in parts if part.name == "text" and part.what == "length"]
    assert where == f"to {length.offset}"


def test_vectors_of_unions_and_nested_buffers() -> None:
    """The members' numbers have names; a nested buffer begins with its own root offset."""
    parts = parts_of(Ledger, event_type(Ledger).pack(ledger()))
    assert named(parts, "entries (types)", "items") == ["Card, Cash, Line, Cash, Card"]
    assert named(parts, "entries[2].sku", "text") == ['"a"']
    parts = parts_of(Envelope, event_type(Envelope).pack(envelope()))
    assert [value.split()[0] for value in named(parts, "order", "root offset")] == ["OrderPlaced"]
    assert named(parts, "order.product", "text") == ['"Laptop"']
    assert named(parts, "inner.order.product", "text") == ['"Laptop"']


@struct_class
class Matrix:
    rows: Annotated[tuple[f32, ...], Length(3)]
    flag: bool


@event
class Grid:
    one: Matrix
    many: list[Matrix]
    bytes_: list[u8]


def test_long_vectors_are_one_part() -> None:
    """Structs are shown field by field up to a number, numbers are spelled out up to another."""
    matrix = Matrix((1.0, 2.0, 3.0), True)
    few = Grid(matrix, (matrix,) * STRUCTS_SINGLY_MAX, tuple(range(ITEMS_SHOWN)))
    parts = parts_of(Grid, event_type(Grid).pack(few))
    assert named(parts, "one.rows[2]", "value") == ["3.0"]
    assert named(parts, f"many[{STRUCTS_SINGLY_MAX - 1}].flag", "value") == ["true"]
    assert named(parts, "bytes_", "items") == [", ".join(map(str, range(ITEMS_SHOWN)))]
    many = Grid(matrix, (matrix,) * (STRUCTS_SINGLY_MAX + 1), tuple(range(ITEMS_SHOWN + 1)))
    parts = parts_of(Grid, event_type(Grid).pack(many))
    assert named(parts, "many", "items") == [f"{STRUCTS_SINGLY_MAX + 1} items"]
    assert named(parts, "bytes_", "items")[0].endswith(f"15, ... ({ITEMS_SHOWN + 1} items)")


@event(name="Grown")
class Old:
    number: u32
    text: str


@event(name="Grown")
class New:
    number: u32
    text: str
    more: u64 | None = None
    label: str | None = None
    last: str | None = None


def test_fields_that_the_schema_does_not_know() -> None:
    """A newer writer's fields are shown as unknown, wherever they lie; absent ones as absent. Old readers look at none of it."""
    data = event_type(New).pack(New(7, "seven", 2**64 - 1, "label"))
    parts = parts_of(Old, data)
    words = [part.value for part in parts if part.what == "vtable entry" and not part.name]
    assert [word.startswith("a field that the schema does not know, at +") for word in words] == [True, True, False]
    assert words[2] == "absent"
    assert "padding" not in {part.what for part in parts}
    assert "unknown" in {part.what for part in parts}
    compiled = event_type(Old)
    assert compiled.view(without_padding(parts, data)) == Old(7, "seven")
    assert "unknown" not in {part.what for part in parts_of(Old, event_type(New).pack(New(7, "seven")))}


@event
class Pair:
    a: str
    b: str


@event
class Pairs:
    items: list[Pair]


def test_parts_that_are_shared_are_named_once() -> None:
    """The official Builder shares vtables, and strings where it is asked to."""
    builder = flatbuffers.Builder(0)
    text = builder.CreateString("shared")
    tables = []
    for _ in range(2):
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
        builder.PrependUOffsetTRelativeSlot(1, text, 0)
        tables.append(builder.EndObject())
    builder.StartVector(4, 3, 4)
    for table in (*tables, tables[0]):
        builder.PrependUOffsetTRelative(table)
    items = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUOffsetTRelativeSlot(0, items, 0)
    builder.Finish(builder.EndObject())
    parts = parts_of(Pairs, bytes(builder.Output()))
    assert [part.value for part in parts if part.what == "text"] == ['"shared"']
    assert [part.value for part in parts if part.what == "vtable size"] == ["6", "8"]
    assert len([part for part in parts if part.what == "offset"]) == 1 + 3 + 4


def test_parts_that_overlap() -> None:
    """No writer does that, and the verifier lets it pass: what was begun first is named, and then the other's end."""
    inner = struct.pack("<I", 8) + b"ABCDEFGH\0"
    outer = struct.pack("<I", 8) + inner[:8] + b"\0\0\0\0"  # "\x08\0\0\0ABCD", and inside of it a text of 8 bytes
    table = struct.pack("<HHHHi", 8, 12, 4, 8, 8)
    strings_at = 4 + len(table) + 8
    head = struct.pack("<I", 12) + table
    a_at, b_at = len(head), len(head) + 4
    body = struct.pack("<II", strings_at - a_at, strings_at + 4 - b_at) + outer + b"\0\0\0\0"
    data = head + body
    compiled = event_type(Pair)
    compiled.verify(data)
    assert compiled.view(data).a == "\x08\0\0\0ABCD"
    assert compiled.view(data).b == "ABCD\0\0\0\0"
    parts = parts_of(Pair, data)
    assert [part.what for part in parts if part.value.endswith("(its end)")] == ["text"]
    assert [part.name for part in parts if part.value.endswith("(its end)")] == ["b"]


@event
class Paid:
    number: u8
    how: OrderPlaced | Cash | None = None


def test_a_union_whose_type_says_none() -> None:
    """Other writers may store the number 0 for a union that is absent."""
    builder = flatbuffers.Builder(0)
    builder.ForceDefaults(True)
    builder.StartObject(3)
    builder.PrependUint8Slot(0, 5, 0)
    builder.PrependUint8Slot(1, 0, 0)
    builder.Finish(builder.EndObject())
    data = bytes(builder.Output())
    assert event_type(Paid).view(data) == Paid(5)
    assert named(parts_of(Paid, data), "how", "union type") == ["none"]


def test_what_is_no_event_is_refused() -> None:
    """As by the verifier: there is nothing to say of such bytes."""
    with pytest.raises(MalformedEvent):
        annotate(event_type(OrderPlaced), b"\0" * 24)
