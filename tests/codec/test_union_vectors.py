"""Vectors of unions: a list of several event classes is two vectors, the members' numbers and the tables."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import struct
from typing import Any

import flatbuffers
import pytest
from codec_models import Card, Cash, Ledger, Line, Note, ledger

from varve.codec import event, event_type, event_type_from_schema, from_json, incompatibilities, owned, to_dict, to_json
from varve.codec.declare import declare
from varve.errors import EventEncodingError, MalformedEvent, SchemaError
from varve.types import u8, u64


@event
class Small:
    n: u8 = 0


@event
class Wide:
    n: u64 = 0


@event
class Box:
    items: list[Small | Wide]


@event
class Spare:
    items: list[Small | Wide] | None = None


@event
class Empty:
    items: tuple[Small | Wide, ...] = ()


def foreign(numbers: list[int] | None, values: list[int] | None, filler: int = 0) -> bytes:
    """A Box as the official Builder writes it: ``values`` are indices of [Small(3), Wide(7)]. The numbers stand last, behind
    ``filler`` bytes that nobody points to."""
    builder = flatbuffers.Builder(0)
    found: list[Any] = [None, None]
    if numbers is not None:
        found[0] = builder.CreateByteVector(bytes(numbers))
    builder.CreateByteVector(bytes(filler))
    tables = []
    for prepend, value in ((builder.PrependUint8Slot, 3), (builder.PrependUint64Slot, 7)):
        builder.StartObject(1)
        prepend(0, value, 0)
        tables.append(builder.EndObject())
    if values is not None:
        builder.StartVector(4, len(values), 4)
        for index in reversed(values):
            builder.PrependUOffsetTRelative(tables[index])
        found[1] = builder.EndVector()
    # A field that a newer schema added makes the vtable another than our packer's: such events are read by the general way.
    builder.StartObject(3)
    builder.PrependUint8Slot(2, 9, 0)
    for slot, there in enumerate(found):
        if there is not None:
            builder.PrependUOffsetTRelativeSlot(slot, there, 0)
    builder.Finish(builder.EndObject())
    data = bytes(builder.Output())
    return data + bytes(-len(data) % 8)


def refused(cls: Any, data: bytes, reason: str) -> None:
    with pytest.raises(MalformedEvent, match=reason):
        event_type(cls).verify(data)


def test_the_bytes_are_two_vectors() -> None:
    """The whole of an event: numbers padded to four bytes, then offsets, then the tables, 8-byte fields aligned."""
    data = event_type(Box).pack(Box((Small(1), Wide(2))))
    table = struct.unpack_from("<I", data)[0]
    vtable = table - struct.unpack_from("<i", data, table)[0]
    size, _, numbers, values = struct.unpack_from("<HHHH", data, vtable)
    assert size == 8
    at = table + numbers + struct.unpack_from("<I", data, table + numbers)[0]
    assert data[at : at + 8] == b"\x02\0\0\0\x01\x02\0\0"
    at = table + values + struct.unpack_from("<I", data, table + values)[0]
    assert data[at : at + 4] == b"\x02\0\0\0"
    event_type(Box).verify(data)


def test_absent_vectors_leave_zeros() -> None:
    """Root offset, vtable with two absent entries, table with its two empty places: the same event, the same bytes."""
    want = "0c000000 0800 0c00 0000 0000 08000000 00000000 00000000"
    assert event_type(Spare).pack(Spare(None)).hex() == want.replace(" ", "")


@pytest.mark.parametrize("length", [0, 1, 2, 3, 4, 5, 300])
def test_vectors_of_every_length_read_back(length: int) -> None:
    """Padding after the numbers, whatever their count; equal, hashed alike, pickled, copied, as JSON and digested."""
    compiled = event_type(Ledger)
    pool = ledger().entries
    one = ledger(entries=tuple(pool[n % 3] for n in range(length)), trees=(Note("x"),) * (length % 5))
    data = compiled.pack(one)
    compiled.verify(data)
    view = compiled.view(data)
    assert (view, hash(view)) == (one, hash(one))
    assert pickle.loads(pickle.dumps(view)) == copy.deepcopy(view) == one
    assert type(owned(view)) is Ledger
    assert all(type(item) in {Card, Cash, Line} for item in owned(view).entries)
    assert dataclasses.replace(view, name="other").entries == one.entries
    assert from_json(Ledger, to_json(view)) == one
    assert compiled.digest(view) == compiled.digest(one)
    assert compiled.pack(view) == data
    assert repr(view) == repr(one)


def test_items_keep_their_class() -> None:
    """Equal fields of another member are another value, also in digests and in JSON."""
    small, wide = Box((Small(1),)), Box((Wide(1),))
    compiled = event_type(Box)
    assert small != wide
    assert compiled.digest(small) != compiled.digest(wide)
    assert to_dict(small) == {"items": [{"$type": "Small", "n": 1}]}
    assert [type(item).__name__ for item in compiled.view(compiled.pack(wide)).items] == ["Wide"]


def test_views_of_items_go_into_another_event_on_the_fast_path() -> None:
    """What was read is packed as it is: ``body`` takes it, which refuses what needs the slow path's care."""
    compiled = event_type(Box)
    one = Box((Small(1), Wide(2), Small(3)))
    assert compiled.body(Box(compiled.view(compiled.pack(one)).items), 1) == compiled.body(one, 1)


def test_an_absent_vector_is_its_default() -> None:
    """None where that is allowed, the empty vector by default, else malformed; both in the fast and the general way."""
    for cls, absent in ((Spare, None), (Empty, ())):
        compiled = event_type(cls)
        nothing = foreign(None, None)
        compiled.verify(nothing)
        assert compiled.view(nothing).items == absent
        assert compiled.view(compiled.pack(cls())).items == absent
        assert compiled.view(foreign([1, 2], [0, 1])).items == (Small(3), Wide(7))
    refused(Box, foreign(None, None), r"Box\.items is absent")
    with pytest.raises(MalformedEvent, match=r"Box\.items is absent"):
        _ = event_type(Box).view(foreign(None, None)).items


def test_the_vectors_may_stand_anywhere() -> None:
    """At any distance from the table: an offset whose first byte is 0 is an offset like any other."""
    for filler in range(0, 260, 4):
        data = foreign([2, 1], [1, 0], filler)
        for cls in (Box, Spare, Empty):
            event_type(cls).verify(data)
            assert event_type(cls).view(data).items == (Wide(7), Small(3))


@pytest.mark.parametrize(
    ("numbers", "values", "reason"),
    [
        ([1], None, "types without its values"),
        (None, [0], "types without its values"),
        ([1, 2], [0], "more types of unions than values, or fewer"),
        ([1], [0, 1], "more types of unions than values, or fewer"),
        ([], [0], "more types of unions than values, or fewer"),
        ([1, 0], [0, 1], r"unknown member of the union \(0\)"),
        ([1, 3], [0, 1], r"unknown member of the union \(3\)"),
        ([255], [0], r"unknown member of the union \(255\)"),
    ],
)
def test_vectors_that_do_not_fit_each_other_are_refused(
    numbers: list[int] | None, values: list[int] | None, reason: str
) -> None:
    """By the verifier, required or not; and a view of such bytes says so instead of giving something."""
    data = foreign(numbers, values)
    for cls in (Box, Spare, Empty):
        refused(cls, data, reason)
    with pytest.raises(MalformedEvent, match=r"Box\.items"):
        _ = event_type(Box).view(data).items


@event
class Maybe:
    one: Small | Wide | None = None
    items: list[Small | Wide] | None = None


@pytest.mark.parametrize("gone", [0, 1, 2, 3])
def test_half_a_union_is_none_at_all(gone: int) -> None:
    """Without its number or its value a union reads as absent, unverified too, never as what happens to stand there."""
    compiled = event_type(Maybe)
    one = Maybe(Small(1), (Wide(2),))
    data = bytearray(compiled.pack(one))
    table = struct.unpack_from("<I", data)[0]
    vtable = table - struct.unpack_from("<i", data, table)[0]
    struct.pack_into("<H", data, vtable + 4 + 2 * gone, 0)
    refused(Maybe, bytes(data), r"Maybe\.(one|items) has a")
    want = dataclasses.replace(one, **{"one" if gone < 2 else "items": None})
    assert compiled.view(bytes(data)) == want


def test_the_smallest_event_is_shorter_than_our_head() -> None:
    """Other writers leave out the entries of absent fields: what is left is shorter than what our packer begins an event with."""

    @event
    class Counts:
        a: u64 = 1
        b: u64 = 2
        c: u64 = 3

    builder = flatbuffers.Builder(0)
    builder.StartObject(0)
    builder.Finish(builder.EndObject())
    data = bytes(builder.Output())
    data += bytes(-len(data) % 8)
    for cls in (Maybe, Counts):
        event_type(cls).verify(data)
        assert event_type(cls).view(data) == cls()


def test_a_union_of_the_number_none_is_absent() -> None:
    """A writer that stores NONE and some value: refused by the verifier, absent to a view."""
    builder = flatbuffers.Builder(0)
    builder.StartObject(0)
    small = builder.EndObject()
    builder.StartObject(3)
    builder.PrependUint8(0)
    builder.Slot(0)
    builder.PrependUOffsetTRelativeSlot(1, small, 0)
    builder.Finish(builder.EndObject())
    data = bytes(builder.Output())
    refused(Maybe, data, r"Maybe\.one has a union's tag without its value, or the reverse")
    assert event_type(Maybe).view(data + bytes(-len(data) % 8)).one is None


def test_both_vectors_stay_inside_the_buffer() -> None:
    """Counts, offsets and items of either vector that point elsewhere."""
    data = event_type(Box).pack(Box((Small(1), Wide(2))))
    table = struct.unpack_from("<I", data)[0]
    vtable = table - struct.unpack_from("<i", data, table)[0]
    slots = [table + at for at in struct.unpack_from("<HH", data, vtable + 4)]
    numbers, values = (at + struct.unpack_from("<I", data, at)[0] for at in slots)
    for at in (*slots, numbers, values, values + 4, values + 8):
        for wrong in (2**32 - 1, 2**31, len(data), 0):
            broken = bytearray(data)
            struct.pack_into("<I", broken, at, wrong)
            refused(Box, bytes(broken), r"Box\.items|reaches outside|impossible size|not aligned")
    # Equal counts, too many for either.
    broken = bytearray(data)
    struct.pack_into("<I", broken, numbers, 2**20)
    struct.pack_into("<I", broken, values, 2**20)
    refused(Box, bytes(broken), r"Box\.items reaches outside the buffer")


def test_a_member_is_verified_as_what_its_number_says() -> None:
    """The same table that is fine as a Small may be no Wide: its 8 bytes would stand outside of it."""
    refused(Box, foreign([2, 2], [0, 1]), r"Wide\.n lies outside its table")


def test_the_same_values_with_other_numbers_are_verified_anew() -> None:
    """Two fields share the vector of tables, each with numbers of its own: the first being right says nothing of the other."""

    @event
    class Two:
        a: list[Small | Wide]
        b: list[Small | Wide]

    builder = flatbuffers.Builder(0)
    builder.StartObject(1)
    builder.PrependUint8Slot(0, 3, 0)
    table = builder.EndObject()
    builder.StartVector(4, 1, 4)
    builder.PrependUOffsetTRelative(table)
    values = builder.EndVector()
    kinds = [builder.CreateByteVector(bytes([number])) for number in (1, 2)]
    for second, fine in ((kinds[0], True), (kinds[1], False)):
        builder_copy = copy.deepcopy(builder)
        builder_copy.StartObject(4)
        for slot, there in enumerate((kinds[0], values, second, values)):
            builder_copy.PrependUOffsetTRelativeSlot(slot, there, 0)
        builder_copy.Finish(builder_copy.EndObject())
        data = bytes(builder_copy.Output())
        if fine:
            event_type(Two).verify(data)
            assert event_type(Two).view(data).b == (Small(3),)
        else:
            refused(Two, data, r"Wide\.n lies outside")


@event
class Knot:
    left: list[Knot | Small]
    right: list[Knot | Small] = dataclasses.field(default_factory=list)


def test_vectors_nested_too_deeply_are_refused() -> None:
    """Each level is a table: 64 pass when written and when read, 65 do not."""
    knot = Knot(())
    for _ in range(63):
        knot = Knot((knot,))
    compiled = event_type(Knot)
    compiled.verify(compiled.pack(knot))
    with pytest.raises(EventEncodingError, match="nested deeper than 64"):
        compiled.pack(Knot((knot,)))
    refused(Knot, shared(65, 1), "deeper than 64")
    compiled.verify(shared(64, 1))


def test_a_shared_vector_may_be_too_deep_on_another_path() -> None:
    """One vector of 40 levels, held by the root, which is fine, and below 30 more, which is not: being checked at one depth says
    nothing of another."""

    def found(levels: int) -> bytes:
        builder = flatbuffers.Builder(0)

        def vector(knot: int | None) -> tuple[int, int]:
            builder.StartVector(4, knot is not None, 4)
            if knot is not None:
                builder.PrependUOffsetTRelative(knot)
            values = builder.EndVector()
            return builder.CreateByteVector(b"\x01" if knot is not None else b""), values

        def knot(left: tuple[int, int], right: tuple[int, int] | None = None) -> int:
            builder.StartObject(4)
            for slot, there in enumerate((*left, *(right or ()))):
                builder.PrependUOffsetTRelativeSlot(slot, there, 0)
            return int(builder.EndObject())

        shared = vector(None)
        for _ in range(40):
            shared = vector(knot(shared))
        other = shared
        for _ in range(levels):
            other = vector(knot(other))
        builder.Finish(knot(shared, other))
        return bytes(builder.Output())

    event_type(Knot).verify(found(23))
    refused(Knot, found(24), "deeper than 64")


def shared(levels: int, fan: int) -> bytes:
    """Knots in a row, each holding the next ``fan`` times."""
    pad = -fan & 3
    size = 12 + 4 + fan + pad + 4 + 4 * fan
    out = bytearray(struct.pack("<IHHHH4x", 16, 8, 12, 4, 8))
    for level in range(levels):
        at, count = 16 + level * size, 0 if level == levels - 1 else fan
        values = 12 + 4 + fan + pad
        out += struct.pack("<iII", at - 4, 8, values - 8)
        out += struct.pack("<I", count) + b"\x01" * fan + bytes(pad) + struct.pack("<I", count)
        out += b"".join(struct.pack("<I", size - values - 4 - 4 * i) for i in range(fan))
    return bytes(out)


def test_items_shared_beyond_measure_are_refused() -> None:
    """8^40 tables in a few kilobytes are refused, and quickly."""
    refused(Knot, shared(40, 8), "expand beyond measure")


@pytest.mark.parametrize(
    ("items", "path"),
    [
        ((Small(1), Cash()), r"Box\.items\[1\] must be one of Small \| Wide"),
        ((Small(1), None), r"Box\.items\[1\] must be one of"),
        ((Small(1), Wide(-1)), r"Box\.items\[1\]\.n must be in 0"),
        (Small(1), r"Box\.items must be a list or tuple"),
        ({Small(1)}, r"Box\.items must be a list or tuple"),
        ({Small(1): 1}, r"Box\.items must be a list or tuple"),
        (None, r"Box\.items must be a list or tuple"),
    ],
)
def test_a_bad_item_is_named(items: Any, path: str) -> None:
    """By its place in the list; before anything is written."""
    for cls in (Box, Empty):
        with pytest.raises(EventEncodingError, match=path.replace("Box", cls.__name__)):
            event_type(cls).pack(cls(items))


@pytest.mark.parametrize(
    ("data", "path"),
    [
        ({"items": [{"n": 1}]}, r"Box\.items\[0\] must be an object whose '\$type' is one of Small, Wide"),
        ({"items": [{"$type": "Cash"}]}, r"Box\.items\[0\] must be an object whose"),
        ({"items": [None]}, r"Box\.items\[0\] must be an object whose"),
        ({"items": {"$type": "Small"}}, r"Box\.items must be a list"),
        ({"items": [{"$type": "Wide", "n": -1}]}, r"Box\.items\[0\]\.n must be in"),
        ({"items": [{"$type": "Wide", "m": 1}]}, r"Box\.items\[0\]\.m is no field"),
    ],
)
def test_json_that_does_not_fit_is_named(data: Any, path: str) -> None:
    """With the path of what is wrong."""
    with pytest.raises(EventEncodingError, match=path):
        from_json(Box, data)


def named(name: str, annotation: Any) -> Any:
    return declare(type(name, (), {"__annotations__": {"items": annotation}}), "table", None, dict(globals()))


def test_members_may_be_added_at_the_end_only() -> None:
    """As of a union outside of vectors; older code that meets a new member gets MalformedEvent."""
    old = event_type(Box).schema_bytes

    def became(annotation: Any) -> list[str]:
        return incompatibilities(old, event_type(named("Box", annotation)).schema_bytes)

    assert became(list[Small | Wide | Cash]) == []
    assert became(list[Wide | Small]) == ["Box.items was list[Small | Wide] and is list[Wide | Small] now"]
    assert became(list[Small]) == ["Box.items was list[Small | Wide] and is list[Small] now"]
    assert became(list[Small | Cash]) == ["Box.items was list[Small | Wide] and is list[Small | Cash] now"]
    assert len(became(Small | Wide)) == 1
    assert len(became(list[Small | Wide] | None)) == 1
    newer = event_type(named("Box", list[Small | Wide | Cash]))
    data = newer.pack(newer.cls((Small(1), Cash())))
    with pytest.raises(MalformedEvent, match=r"Box\.items holds member 3 of the union"):
        _ = event_type(Box).view(data).items


def test_the_order_of_members_is_the_stored_one() -> None:
    """Python's typing takes unions of the same members for one, whatever their order: classes made from schemas once read one
    field's members as the other's."""

    @event
    class Orders:
        ab: Small | Wide | None
        ba: Wide | Small | None
        abs: list[Small | Wide] | None
        bas: list[Wide | Small] | None

    one = Orders(Small(1), Small(2), (Small(3),), (Small(4), Wide(5)))
    compiled = event_type(Orders)
    made = event_type_from_schema(compiled.schema_bytes)
    assert made.schema_bytes == compiled.schema_bytes
    view = made.view(compiled.pack(one))
    assert [type(item).__name__ for item in (view.ab, view.ba, *view.abs, *view.bas)] == [*["Small"] * 4, "Wide"]


def test_an_event_class_is_no_base_class() -> None:
    """An instance of the derived class would be taken for the base, and be written without its own fields."""
    with pytest.raises(SchemaError, match="base class Cash is an event class"):

        @event
        class Coins(Cash):  # type: ignore[misc]
            n: u8


def test_a_union_has_at_most_255_members() -> None:
    """One byte says which; the 256th is refused when the class is defined."""
    classes = [declare(type(f"M{n}", (), {"__annotations__": {"n": int}}), "table", None, {}) for n in range(256)]

    def union_of(count: int) -> Any:
        found = classes[0]
        for cls in classes[1:count]:
            found = found | cls
        return named("Many", list[found])

    cls = union_of(255)
    compiled = event_type(cls)
    one = cls(tuple(member(n) for n, member in enumerate(classes[:255])))
    data = compiled.pack(one)
    compiled.verify(data)
    assert compiled.view(data) == one
    with pytest.raises(SchemaError, match="at most 255 members, not 256"):
        union_of(256)


def test_a_vector_of_unions_stands_in_a_stored_schema() -> None:
    """Its text names the members in order; an array of unions, or a union of structs, is no schema."""
    text = event_type(Box).schema_bytes
    assert b'{"vector":{"union":["Small","Wide"]}}' in text
    for broken in (
        text.replace(b'{"vector":{"union":["Small","Wide"]}}', b'{"array":{"union":["Small","Wide"]},"length":2}'),
        text.replace(b'"union":["Small","Wide"]', b'"union":["Small","Small"]'),
        text.replace(b'"union":["Small","Wide"]', b'"union":["Small","None"]'),
        text.replace(b'"union":["Small","Wide"]', b'"union":[]'),
    ):
        assert broken != text
        with pytest.raises(MalformedEvent, match="not a valid event schema"):
            event_type_from_schema(broken)
