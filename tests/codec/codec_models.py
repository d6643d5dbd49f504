"""Event classes of every mapped type, and hypothesis strategies for their values."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum, IntFlag
from typing import Annotated, Any
from uuid import UUID

from flatbuffers import number_types
from hypothesis import strategies as st

from varve.codec import event, event_type, struct
from varve.codec.declare import declaration
from varve.codec.schema import INT_RANGES, Kind
from varve.types import Nested, f32, i8, i16, i32, i64, u8, u16, u32, u64

FLAGS = {
    "bool": number_types.BoolFlags,
    "u8": number_types.Uint8Flags,
    "u16": number_types.Uint16Flags,
    "u32": number_types.Uint32Flags,
    "u64": number_types.Uint64Flags,
    "i8": number_types.Int8Flags,
    "i16": number_types.Int16Flags,
    "i32": number_types.Int32Flags,
    "i64": number_types.Int64Flags,
    "f32": number_types.Float32Flags,
    "f64": number_types.Float64Flags,
}
"""What the official runtime reads and the official Builder writes numbers with."""


@event
class OrderPlaced:
    order_id: u64
    product: str
    quantity: u32
    amount: u64


class Color(IntEnum):
    RED = 1
    BLUE = 2
    FAR = -7


class Access(IntFlag):
    READ = 1
    WRITE = 2


@struct
class Point:
    x: f32
    y: float


@struct
class Box:
    flag: bool
    low: Point
    color: Color
    owner: UUID
    high: Point


@event
class Line:
    sku: str
    quantity: u32
    price: u64


@event
class Note:
    text: str


@event
class Card:
    number: str
    expires: datetime


@event
class Cash:
    pass


@event
class Tree:
    value: i8
    children: list[Tree] = dataclasses.field(default_factory=list)
    link: Tree | None = None


@event
class Numbers:
    a: u8
    b: u16
    c: u32
    d: u64
    e: i8
    f: i16
    g: i32
    h: i64
    i: int
    j: float
    k: f32
    m: bool


@event
class Everything:
    flag: bool
    blob: bytes
    text: str
    box: Box
    lines: list[Line]
    notes: tuple[Note, ...]
    tree: Tree
    payment: Card | Cash
    refund: Card | Cash | None
    key: UUID
    at: datetime
    price: Decimal
    color: Color
    access: Access
    ratio: f32
    exact: float
    texts: list[str]
    blobs: list[bytes]
    numbers: list[u64]
    small: list[i16]
    bytes_: list[u8]
    flags: list[bool]
    ratios: list[f32]
    colors: list[Color]
    points: list[Point]
    keys: list[UUID]
    times: list[datetime]
    prices: list[Decimal]
    maybe_int: i32 | None = None
    maybe_bool: bool | None = None
    maybe_text: str | None = None
    maybe_box: Box | None = None
    maybe_color: Color | None = None
    maybe_time: datetime | None = None
    maybe_key: UUID | None = None
    maybe_numbers: list[float] | None = None
    maybe_line: Line | None = None
    maybe_lines: list[Line] | None = None
    count: u8 = 7
    label: str = "none"


@event
class Ledger:
    """Vectors of unions: of members with and without 8-byte fields, alone and beside everything that moves them."""

    name: str
    entries: list[Card | Cash | Line]
    trees: tuple[Note | Tree, ...]
    last: Card | Line
    nested: list[Ledger | Note] | None = None
    spare: list[Cash | Note] = dataclasses.field(default_factory=list)
    flag: bool = False


@event
class Envelope:
    """Bytes that hold whole buffers of events, of its own class too."""

    number: u8
    order: Annotated[bytes, Nested(OrderPlaced)]
    tree: Annotated[bytes, Nested(Tree)] | None = None
    inner: Annotated[bytes, Nested(Envelope)] | None = None


times = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
decimals = st.decimals(allow_nan=False, allow_infinity=False)


def values_of(kind: Kind, declared: Any, depth: int = 3) -> st.SearchStrategy[Any]:
    """Values that fit a kind."""
    tag = kind.tag
    if kind.nested:
        return events_of(declared.declaration_of(kind.nested).cls, depth - 1).map(packed)
    if tag in INT_RANGES:
        return st.integers(*INT_RANGES[tag])
    simple = {
        "bool": st.booleans(),
        "f64": st.floats(),
        "f32": st.floats(width=32),
        "str": st.text(max_size=40),
        "bytes": st.binary(max_size=40),
        "datetime": times,
        "uuid": st.uuids(),
        "decimal": decimals,
    }
    if tag in simple:
        return simple[tag]
    if tag == "enum":
        cls = declared.enum_of(kind.name)
        return st.sampled_from([*cls, cls(3)] if issubclass(cls, IntFlag) else list(cls))
    if tag == "vector":
        assert kind.item is not None
        return st.lists(values_of(kind.item, declared, depth), max_size=4).map(tuple) if depth > 1 else st.just(())
    if tag == "array":
        assert kind.item is not None
        return st.lists(values_of(kind.item, declared, depth), min_size=kind.length, max_size=kind.length).map(tuple)
    if tag == "union":
        return st.one_of(*(events_of(declared.declaration_of(name).cls, depth - 1) for name in kind.names))
    return events_of(declared.declaration_of(kind.name).cls, depth - 1)


def events_of(cls: Any, depth: int = 3) -> st.SearchStrategy[Any]:
    """Events of a class."""
    declared = declaration(cls)
    assert declared is not None

    def build() -> st.SearchStrategy[Any]:
        fields: dict[str, Any] = {}
        for f in declared.fields:
            if f.optional and depth <= 0:
                fields[f.name] = st.none()
                continue
            value = values_of(f.kind, declared, depth)
            fields[f.name] = st.none() | value if f.optional else value
        return st.builds(cls, **fields)

    return st.deferred(build)


def everything(**changes: Any) -> Everything:
    """One event with something in every required field."""
    point = Point(1.5, -2.25)
    defaults: dict[str, Any] = {
        "flag": True,
        "blob": b"\x00\xff",
        "text": "h\u00e9llo",
        "box": Box(True, point, Color.FAR, UUID(int=3), point),
        "lines": (Line("a", 1, 2), Line("bcde", 3, 4)),
        "notes": (Note("n"),),
        "tree": Tree(-3, (Tree(1), Tree(2, (), Tree(4)))),
        "payment": Card("4711", datetime(2030, 1, 1, tzinfo=UTC)),
        "refund": None,
        "key": UUID(int=9),
        "at": datetime(2020, 1, 2, 3, 4, 5, 6, tzinfo=UTC),
        "price": Decimal("1.50"),
        "color": Color.BLUE,
        "access": Access.READ | Access.WRITE,
        "ratio": 0.1,
        "exact": 2.5,
        "texts": ("a", "", "bb"),
        "blobs": (b"", b"123"),
        "numbers": (1, 2, 2**63),
        "small": (-1, 300, 5),
        "bytes_": (1, 2, 255),
        "flags": (True, False),
        "ratios": (0.5, 0.1),
        "colors": (Color.RED,),
        "points": (point, Point(0.0, 1.0)),
        "keys": (UUID(int=1),),
        "times": (datetime(1999, 12, 31, tzinfo=UTC),),
        "prices": (Decimal(1), Decimal("-0.10")),
    }
    return Everything(**(defaults | changes))


def ledger(**changes: Any) -> Ledger:
    """One with items of every member."""
    card = Card("4711", datetime(2030, 1, 1, tzinfo=UTC))
    defaults: dict[str, Any] = {
        "name": "main",
        "entries": (card, Cash(), Line("a", 1, 2**63), Cash(), card),
        "trees": (Note("n"), Tree(1, (Tree(2),), Tree(3))),
        "last": Line("z", 0, 1),
        "nested": (Ledger("in", (Cash(),), (), card), Note("deep")),
        "spare": (Note(""),),
    }
    return Ledger(**(defaults | changes))


def packed(one: Any) -> bytes:
    """An event's FlatBuffer."""
    return event_type(type(one)).pack(one)


def envelope(**changes: Any) -> Envelope:
    """One in another, with an order and a tree."""
    order, tree = packed(OrderPlaced(12345, "Laptop", 1, 99900)), packed(Tree(1, (Tree(2),), Tree(3, (Tree(4),))))
    defaults: dict[str, Any] = {"number": 1, "order": order, "tree": tree, "inner": packed(Envelope(2, order, tree))}
    return Envelope(**(defaults | changes))


def plain(value: Any) -> Any:
    """Vectors of a view as tuples."""
    return tuple(value) if isinstance(value, memoryview) else value
