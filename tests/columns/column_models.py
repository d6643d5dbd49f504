"""Random event classes, events of them, and what columns and iterators say of the same events, in one form."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from typing import Any
from uuid import UUID

import numpy as np
from hypothesis import strategies as st

import varve


class Color(IntEnum):
    RED = 1
    BLUE = 2
    FAR = -7


@varve.struct
class Point:
    x: varve.f32
    at: datetime
    color: Color


@varve.event(name="columns.Sale")
class Sale:
    number: varve.u64
    amount: varve.u32
    paid: bool = True


@varve.event
class City:
    name: str
    zip: varve.u32
    founded: datetime | None = None


@varve.event
class Address:
    street: str
    spot: Point
    city: City
    old: City | None = None


@varve.event
class Card:
    number: str


@varve.event
class Cash:
    pass


times = st.datetimes(datetime(1700, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))
cities = st.builds(City, st.text(max_size=9), st.integers(0, 2**32 - 1), st.none() | times)
points = st.builds(Point, st.floats(width=32), times, st.sampled_from(list(Color)))
addresses = st.builds(Address, st.text(max_size=5), points, cities, st.none() | cities)

KINDS: dict[str, tuple[Any, st.SearchStrategy[Any], Any]] = {
    "bool": (bool, st.booleans(), True),
    "u8": (varve.u8, st.integers(0, 2**8 - 1), 7),
    "u16": (varve.u16, st.integers(0, 2**16 - 1), 7),
    "u32": (varve.u32, st.integers(0, 2**32 - 1), 7),
    "u64": (varve.u64, st.integers(0, 2**64 - 1), 7),
    "i8": (varve.i8, st.integers(-(2**7), 2**7 - 1), -7),
    "i16": (varve.i16, st.integers(-(2**15), 2**15 - 1), -7),
    "int": (int, st.integers(-(2**63), 2**63 - 1), -7),
    "f32": (varve.f32, st.floats(width=32), 0.5),
    "float": (float, st.floats(), 0.1),
    "enum": (Color, st.sampled_from(list(Color)), Color.FAR),
    "datetime": (datetime, times, datetime(2001, 2, 3, 4, 5, 6, 7, tzinfo=UTC)),
    "uuid": (UUID, st.uuids(), UUID(int=5)),
    "str": (str, st.text(max_size=12), "none"),
    "bytes": (bytes, st.binary(max_size=12), b"\0x"),
    "decimal": (Decimal, st.decimals(allow_nan=False, allow_infinity=False), Decimal("1.50")),
    "numbers": (tuple[varve.i16, ...], st.lists(st.integers(-9, 9), max_size=4).map(tuple), ()),
    "bools": (tuple[bool, ...], st.lists(st.booleans(), max_size=4).map(tuple), ()),
    "texts": (tuple[str, ...], st.lists(st.text(max_size=4), max_size=3).map(tuple), ()),
    "blobs": (tuple[bytes, ...], st.lists(st.binary(max_size=4), max_size=3).map(tuple), ()),
    "times": (tuple[datetime, ...], st.lists(times, max_size=3).map(tuple), ()),
    "colors": (tuple[Color, ...], st.lists(st.sampled_from(list(Color)), max_size=3).map(tuple), ()),
    "keys": (tuple[UUID, ...], st.lists(st.uuids(), max_size=3).map(tuple), ()),
    "prices": (tuple[Decimal, ...], st.lists(st.just(Decimal("0.10")), max_size=3).map(tuple), ()),
    "points": (tuple[Point, ...], st.lists(points, max_size=3).map(tuple), ()),
    "cities": (tuple[City, ...], st.lists(cities, max_size=3).map(tuple), ()),
    "struct": (Point, points, Point(0.5, datetime(1999, 1, 1, tzinfo=UTC), Color.RED)),
    "table": (City, cities, City("x", 1)),
    "address": (Address, addresses, None),
    "union": (Card | Cash, st.builds(Card, st.text(max_size=3)) | st.just(Cash()), None),
}
"""Annotation, values and default of fields of every kind."""

VECTORS = ("numbers", "bools", "texts", "blobs", "times", "colors", "keys", "prices", "points", "cities")

counter = itertools.count()


@dataclasses.dataclass
class Made:
    """A random event class: its earlier and its later version, with values for their fields."""

    name: str
    old: Any
    new: Any
    old_events: st.SearchStrategy[Any]
    new_events: st.SearchStrategy[Any]
    paths: list[str]


def annotated(kind: str, mode: str) -> tuple[Any, Any]:
    """Annotation and default of a field; ``mode`` is required, optional or default."""
    hint, _, default = KINDS[kind]
    if mode == "optional":
        return hint | None, None
    return hint, dataclasses.MISSING if mode == "required" or default is None else default


def values(kind: str, mode: str) -> st.SearchStrategy[Any]:
    """Values of a field."""
    return st.none() | KINDS[kind][1] if mode == "optional" else KINDS[kind][1]


def make(name: str, fields: list[tuple[str, str, str]]) -> Any:
    """An event class of fields (name, kind, mode), in an order that dataclasses allow."""
    namespace: dict[str, Any] = {"__annotations__": {}, "__module__": __name__}
    late = False
    for field_name, kind, mode in fields:
        hint, default = annotated(kind, mode)
        namespace["__annotations__"][field_name] = hint
        late = late or default is not dataclasses.MISSING
        if default is not dataclasses.MISSING:
            namespace[field_name] = dataclasses.field(default=default)
        elif late:
            namespace[field_name] = dataclasses.field(kw_only=True)
    return varve.event(name=name)(type(f"C{next(counter)}", (), namespace))


PATHS = {
    "struct": ("at", "color", "x"),
    "table": ("name", "zip", "founded"),
    "address": ("street", "spot.x", "spot", "city.zip", "city", "old.zip", "old.name", "old.founded"),
}


@st.composite
def made(draw: st.DrawFn, name: str, kinds: dict[str, str]) -> Made:
    """A class whose fields are among ``kinds`` (by field name), and a later version with more of them."""
    names = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=7, unique=True))
    fields = []
    for index, field_name in enumerate(names):
        kind = kinds[field_name]
        modes = ["optional"] if index and KINDS[kind][2] is None else ["optional", "default"]
        fields.append((field_name, kind, draw(st.sampled_from(["required", *modes] if not index else modes))))
    split = draw(st.integers(1, len(fields)))
    # What the first version has may be required: nobody's events lack it.
    fields[:split] = [
        (field_name, kind, draw(st.sampled_from(["required", mode]))) for field_name, kind, mode in fields[:split]
    ]

    def events(of: list[tuple[str, str, str]], cls: Any) -> st.SearchStrategy[Any]:
        return st.builds(cls, **{field_name: values(kind, mode) for field_name, kind, mode in of})

    old, new = make(name, fields[:split]), make(name, fields)
    paths = [*names, *(f"{n}.{path}" for n in names for path in PATHS.get(kinds[n], ()))]
    return Made(name, old, new, events(fields[:split], old), events(fields, new), paths)


@st.composite
def families(draw: st.DrawFn) -> list[Made]:
    """One to three classes that agree on the kinds of the fields that they share."""
    kinds = {f"f{i}": draw(st.sampled_from(sorted(KINDS))) for i in range(8)}
    return [draw(made(f"T{i}", kinds)) for i in range(draw(st.integers(1, 3)))]


def nanoseconds(value: datetime) -> int:
    delta = value - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * 10**9 + delta.microseconds * 1_000


def seen(value: Any) -> Any:
    """A value of an iterator's event in one form: what tells values apart, and nothing else."""
    if isinstance(value, memoryview):
        value = tuple(value)
    if isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, datetime):
        return "ns", nanoseconds(value)
    if isinstance(value, UUID):
        return "uuid", value.bytes
    if isinstance(value, tuple):
        return tuple(map(seen, value))
    if hasattr(type(value), "__varve__"):
        return tuple((name, seen(getattr(value, name))) for name in fields_of(value))
    return value


def fields_of(event: Any) -> list[str]:
    return [f.name for f in dataclasses.fields(event)]


def elements(column: Any) -> list[Any]:
    """A column's values in the same form."""
    masked = np.ma.getmaskarray(column)
    return [None if gone else element(value) for value, gone in zip(np.ma.getdata(column), masked, strict=True)]


def element(value: Any) -> Any:
    if isinstance(value, np.datetime64):
        return "ns", int(value.astype("i8"))
    if isinstance(value, np.void):
        return "uuid", value.tobytes()
    if isinstance(value, np.ndarray):
        return tuple(element(one) for one in value)
    if isinstance(value, np.generic):
        return seen(value.item())
    return seen(value)


def reached(event: Any, path: str) -> Any:
    """What a dotted path leads to; None where an event has no such field, or no value on the way."""
    for name in path.split("."):
        event = getattr(event, name, None)
        if event is None:
            return None
    return event


BESIDE: dict[str, Callable[[Any], Any]] = {
    "$global_sequence": lambda one: one.global_sequence,
    "$stream_sequence": lambda one: one.stream_sequence,
    "$commit_sequence": lambda one: one.commit_sequence,
    "$stream": lambda one: one.stream,
    "$stream_id": lambda one: one.stream_id if isinstance(one.stream_id, str) else seen(one.stream_id),
    "$time": lambda one: ("ns", one.time_ns),
    "$type": lambda one: one.event.type_name if one.type is varve.UnknownEvent else one.type.__varve__.name,
}


def by_iterator(recorded: Iterable[Any], columns: list[str]) -> dict[str, list[Any]]:
    """The columns, from an iterator."""
    rows = list(recorded)
    return {
        name: [BESIDE[name](one) if name in BESIDE else seen(reached(one.event, name)) for one in rows]
        for name in columns
    }


def by_columns(columns: dict[str, Any]) -> dict[str, list[Any]]:
    """The columns, from what ``columns()`` gave."""
    return {name: elements(column) for name, column in columns.items()}


def sliced(length: int) -> Iterator[tuple[int, int | None]]:
    """Bounds to read."""
    yield 0, None
    yield length // 3, 2 * length // 3
    yield length, length + 5
    yield 1, 2


def arrowed(value: Any) -> Any:
    """A value of an iterator's event as Arrow gives it."""
    match seen(value):
        case ("ns", number):
            return "ns", number
        case ("uuid", raw):
            return raw
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (tuple, memoryview)):
        return tuple(map(arrowed, value))
    if hasattr(type(value), "__varve__"):
        return tuple((name, arrowed(getattr(value, name))) for name in fields_of(value))
    return seen(value)


def from_arrow(value: Any) -> Any:
    """A value of a batch in the same form."""
    if hasattr(value, "nanosecond"):
        return "ns", value.value
    if isinstance(value, datetime):
        return "ns", nanoseconds(value)
    if isinstance(value, list):
        return tuple(map(from_arrow, value))
    if isinstance(value, dict):
        return tuple((name, from_arrow(one)) for name, one in value.items())
    return seen(value)


def by_batches(batches: Iterable[Any], names: list[str]) -> dict[str, list[Any]]:
    """The columns, from record batches, each held against Arrow's own rules."""
    out: dict[str, list[Any]] = {name: [] for name in names}
    for batch in batches:
        batch.validate(full=True)
        for name in names:
            out[name] += [from_arrow(value) for value in batch.column(name).to_pylist()]
    return out


def as_arrow(recorded: Iterable[Any], columns: list[str]) -> dict[str, list[Any]]:
    """The columns, from an iterator, as Arrow gives them."""
    rows = list(recorded)
    return {
        name: [BESIDE[name](one) if name in BESIDE else arrowed(reached(one.event, name)) for one in rows]
        for name in columns
    }
