"""What single features of the schema language mean to the official tools, and to Varve."""

from __future__ import annotations

import random
from dataclasses import field
from enum import IntEnum, IntFlag
from typing import Annotated, Any

import flatbuffers
import pytest
from layout import Layout
from official import Flatc, as_json, official, same_record

from varve.codec import event, event_type, struct
from varve.codec.declare import stored_as
from varve.codec.fbs import to_fbs
from varve.errors import EventEncodingError, MalformedEvent
from varve.schema import from_bytes, to_bytes
from varve.types import Length, Nested, f32, i16, u8, u16, u32, u64


class Side(IntEnum):
    LEFT = 0
    RIGHT = 5


@stored_as(u8)
class Level(IntEnum):
    LOW = 1
    HIGH = 255


@stored_as(u16)
class Rights(IntFlag):
    NONE = 0
    READ = 1
    WRITE = 2
    BOTH = 3
    LAST = 32768


@struct
class Vec:
    x: f32
    y: f32
    z: f32


@struct(force_align=8)
class Corner:
    at: Annotated[tuple[Vec, ...], Length(2)]
    sides: Annotated[tuple[Side, ...], Length(3)]
    level: i16


@event(name="geo.shape.Shape")
class Shape:
    corner: Corner
    corners: list[Corner]
    level: Level
    levels: list[Level]
    rights: Rights
    data: bytes = field(metadata={"force_align": 8})
    more: list[u16] | None = field(default=None, metadata={"force_align": 8})


def corner(level: int = 3) -> Corner:
    return Corner((Vec(1.5, 2, 3), Vec(4, 5, 6)), (Side.RIGHT, Side.LEFT, Side.RIGHT), level)


def shape(**changes: Any) -> Shape:
    usual: dict[str, Any] = {
        "corner": corner(),
        "corners": (corner(1), corner(2)),
        "level": Level.HIGH,
        "levels": (Level.LOW, Level.HIGH),
        "rights": Rights.BOTH,
        "data": b"12345",
    }
    return Shape(**(usual | changes))


def printed(cls: Any, one: Any, flatc: Flatc) -> Any:
    compiled = event_type(cls)
    data = compiled.pack(one)
    Layout(cls, data).root()
    [found] = flatc.to_json(to_fbs(cls), [data])
    assert same_record(compiled.declaration, found, as_json(compiled.declaration, one))
    return found


def test_fixed_arrays_narrow_enums_flags_and_alignment(flatc: Flatc) -> None:
    """Structs with arrays of structs and enums, enums of one byte, bit_flags, aligned vectors, names in a namespace."""
    found = printed(Shape, shape(more=(1, 2, 3)), flatc)
    assert found["rights"] == "READ WRITE"
    assert found["corner"]["sides"] == ["RIGHT", "LEFT", "RIGHT"]
    compiled = event_type(Shape)
    for data in flatc.to_binary(to_fbs(Shape), [as_json(compiled.declaration, shape())]):
        compiled.verify(data)
        assert compiled.view(data + bytes(-len(data) % 8)) == shape()


@pytest.mark.parametrize("length", range(10))
def test_a_vector_is_aligned_as_asked_whatever_stands_before_it(length: int, flatc: Flatc) -> None:
    """force_align holds from the buffer's start, also in nested tables."""

    @event
    class Frame:
        label: str
        data: bytes = field(metadata={"force_align": 8})

    @event
    class Film:
        title: str
        frames: list[Frame]

    printed(Film, Film("t" * length, tuple(Frame("l" * n, b"d" * n) for n in range(length))), flatc)


def test_an_unknown_number_of_an_enum_stays_a_number(flatc: Flatc) -> None:
    """The compiler prints what it has no name for as a number, Varve reads it as a plain int."""
    assert printed(Shape, shape(level=7), flatc)["level"] == 7
    with pytest.raises(EventEncodingError, match=r"0 \.\. 255"):
        event_type(Shape).pack(shape(level=256))


def test_a_required_field_is_required_by_both(flatc: Flatc) -> None:
    """The compiler does not encode without it, and Varve refuses bytes without it."""

    @event
    class Named:
        name: str
        age: u32 = 0

    text = to_fbs(Named)
    with pytest.raises(AssertionError, match="required field is missing: name"):
        flatc.to_binary(text, [{"age": 3}])
    [data] = flatc.to_binary(text.replace(" (required)", ""), [{"age": 3}])
    with pytest.raises(MalformedEvent, match=r"Named\.name is absent"):
        event_type(Named).verify(data)


@event
class Item:
    sku: str = field(metadata={"key": True})
    count: u32 = 0


@event
class Basket:
    items: list[Item]


def test_a_key_lets_other_languages_search(flatc: Flatc) -> None:
    """The compiler sorts what it reads from JSON by the key; Varve keeps the order that it was given, and reads either."""
    text = to_fbs(Basket)
    assert "sku:string (required, key);" in text
    values = [{"sku": sku} for sku in ("b", "c", "a")]
    [data] = flatc.to_binary(text, [{"items": values}])
    assert event_type(Basket).view(data).items == (Item("a"), Item("b"), Item("c"))
    basket = Basket((Item("b", 1), Item("a", 2)))
    assert [item["sku"] for item in printed(Basket, basket, flatc)["items"]] == ["b", "a"]


def test_a_deprecated_field_keeps_its_place(flatc: Flatc) -> None:
    """What comes after it is read by flatc where it always stood."""

    @event
    class Moved:
        old: u64 = field(default=0, metadata={"deprecated": True})
        new: u32 = 0

    assert printed(Moved, Moved(0, 7), flatc)["new"] == 7


def test_names_that_flatc_would_refuse_are_changed_in_the_text(flatc: Flatc) -> None:
    """Fields that clash with generated functions, types named as fields or as Varve's own helpers."""

    @event
    class Line:
        n: u8

    @event
    class Union:
        n: u8

    @event
    class Bytes:
        Line: Line
        lines: list[Line]
        lines_length: u8
        name: str
        name_byte_vector: u8
        one: Union | Line
        one_type: u8
        oneType: u8
        UUID: list[bytes]

    assert flatc.refuses(to_fbs(Bytes)) == ""
    found = Bytes(Line(1), (Line(2),), 3, "n", 4, Union(5), 6, 7, (b"8",))
    [shown] = flatc.to_json(to_fbs(Bytes), [event_type(Bytes).pack(found)])
    assert shown["Line"] == {"n": 1}
    assert (shown["lines_length_"], shown["one_type_"], shown["oneType_"]) == (3, 6, 7)


def test_words_of_the_language_are_fine_as_names(flatc: Flatc) -> None:
    """A field may be called table."""

    @event
    class enum:
        table: u8
        string: u8
        struct: u8
        namespace: u8
        true: u8
        null: u8
        union: u8
        required: u8

    printed(enum, enum(1, 2, 3, 4, 5, 6, 7, 8), flatc)


def test_a_namespace_never_changes_what_a_name_means(flatc: Flatc) -> None:
    """Where an outer name would be found in an inner namespace first, the text does without namespaces."""

    @event(name="Part")
    class Outer:
        n: u8

    @event(name="shop.Part")
    class Inner:
        t: str

    @event(name="shop.Whole")
    class Whole:
        a: Outer
        b: Inner

    assert "namespace" not in to_fbs(Whole)
    found = flatc.to_json(to_fbs(Whole), [event_type(Whole).pack(Whole(Outer(1), Inner("x")))])
    assert found == [{"a": {"n": 1}, "b": {"t": "x"}}]


def test_types_of_several_namespaces(flatc: Flatc) -> None:
    """Each is declared in its own, and found from every other."""

    @struct(name="base.units.Money")
    class Money:
        cents: u64

    @event(name="base.Party")
    class Party:
        name: str
        limit: Money

    @event(name="shop.orders.Order")
    class Order:
        buyer: Party
        seller: Party | Item
        amounts: list[Money]
        keys: list[bytes]

    text = to_fbs(Order)
    assert "namespace base.units;" in text
    assert "limit:base.units.Money (required);" in text
    data = event_type(Order).pack(Order(Party("a", Money(1)), Item("b"), (Money(2),), (b"k",)))
    [found] = flatc.to_json(text, [data])
    assert (found["buyer"]["limit"], found["seller_type"]) == ({"cents": 1}, "Item")


def test_tables_that_share_a_vtable_read_well() -> None:
    """The Builder writes one vtable for a thousand equal tables; the buffer is smaller for it."""
    basket = Basket(tuple(Item(f"sku{n:04}", n + 1) for n in range(1000)))
    data = official(Basket, basket, random.Random(0))
    compiled = event_type(Basket)
    compiled.verify(data)
    assert compiled.view(data) == basket
    assert len(data) < len(compiled.pack(basket)) * 0.8


def test_a_buffer_with_a_file_identifier_reads() -> None:
    """Its root offset steps over the four bytes."""
    builder = flatbuffers.Builder(0)
    sku = builder.CreateString("a")
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(0, sku, 0)
    builder.Finish(builder.EndObject(), b"ITEM")
    data = bytes(builder.Output())
    event_type(Item).verify(data)
    assert event_type(Item).view(data + bytes(-len(data) % 8)) == Item("a")


def test_comments_reach_the_text(flatc: Flatc) -> None:
    """Docstrings and the doc of a field's metadata, line by line."""

    @event
    class Told:
        """One line.

        And */ another.
        """

        n: u8 = field(default=0, metadata={"doc": "How many.\nOf what."})

    text = to_fbs(Told)
    assert (
        "/// One line.\n///\n/// And */ another.\ntable Told {\n  /// How many.\n  /// Of what.\n  n:ubyte = 0;\n"
        in text
    )
    assert flatc.refuses(text) == ""


@event(name="mail.paper.Label")
class Label:
    text: str
    at: Vec
    sizes: list[u16]


@event(name="mail.Parcel")
class Parcel:
    number: u8
    label: Annotated[bytes, Nested(Label)]
    again: Annotated[bytes, Nested(Parcel)] | None = None


def test_flatc_looks_into_nested_buffers(flatc: Flatc) -> None:
    """It prints what is in them, and what it nests itself Varve takes and reads."""
    label = Label("to whom", Vec(1.0, 2.0, 3.0), [1, 2, 3])
    inner = Parcel(1, to_bytes(label))
    data = to_bytes(Parcel(2, to_bytes(label), to_bytes(inner)))
    text = to_fbs(Parcel)
    printed = as_json(event_type(Label).declaration, label)
    want = {"number": 2, "label": printed, "again": {"number": 1, "label": printed}}
    [found] = flatc.to_json(text, [data])
    assert found == want
    [theirs] = flatc.to_binary(text, [want])
    view = from_bytes(Parcel, theirs)
    assert from_bytes(Label, view.label) == label
    assert from_bytes(Label, from_bytes(Parcel, view.again or b"").label) == label
