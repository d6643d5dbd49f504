"""The values of one column in one group of events: found in the bytes, where they are there, and filled in where not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from varve.codec.check import nanoseconds
from varve.codec.schema import Kind, Schema
from varve.codec.values import owned_value
from varve.columns.fields import Field, number_of, plain_type
from varve.columns.tables import DTYPES, ListedTable, Places

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from varve.columns.chunks import Group

    Array = npt.NDArray[Any]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]


@dataclass
class Found:
    """Where the values are: ``places`` of those that are in the bytes, whose rows are ``rows`` (None: all); ``fills`` has for
    the others their rows and what they read as, None for no value."""

    places: Places
    rows: Ints | None
    fills: list[tuple[Ints, Any]]


def find(group: Group, field: Field) -> Found:
    """The slots of a field in the events of a group. Raises ``MalformedEvent`` where one is missing that must be there."""
    import numpy as np

    data, table = group.chunk.data, group.tables
    rows: Ints | None = None
    fills: list[tuple[Ints, Any]] = []
    places = group.starts
    for step, hop in enumerate(field.hops):
        if hop.in_struct:
            places = places.moved(hop.offset)
            continue
        if step:
            table = ListedTable(data, data.targets(places))
        places, there = table.field(hop.entry)
        if there is True:
            continue
        if there is False:
            there = np.zeros(places.count, np.bool_)
        gone = np.flatnonzero(~there)
        if len(gone):
            value = field.rest_of(hop.if_absent(), step)
            fills.append((gone if rows is None else rows[gone], value))
            left = np.flatnonzero(there)
            rows = left if rows is None else rows[left]
            places = places.chosen(left)
    return Found(places, rows, fills)


# -- numpy -----------------------------------------------------------------------------------------

TEXTS: Final[dict[str, Callable[[bytes], Any]]] = {
    "str": bytes.decode,
    "bytes": bytes,
    "decimal": lambda raw: Decimal(raw.decode()),
}
"""What is a string of bytes, as Python has it."""


def dtype_of(kind: Kind, schema: Schema) -> Any:
    """The numpy type of a column's array."""
    if kind.tag == "datetime":
        return "<M8[ns]"
    number = number_of(kind, schema)
    if number is not None:
        return DTYPES[number]
    return "V16" if kind.tag == "uuid" else object


def as_stored(kind: Kind, value: Any) -> Any:
    """A value of Python as an element of the column's array."""
    import numpy as np

    if kind.tag == "datetime":
        return np.datetime64(nanoseconds(value), "ns")
    if kind.tag == "uuid":
        return np.void(value.bytes)
    if kind.tag == "enum":
        return int(value)
    tag = item_number(kind)
    return owned_value(value) if tag is None else np.array(value, DTYPES[tag])


def item_number(kind: Kind) -> str | None:
    """The scalar that a vector is of; None for anything else."""
    return kind.item.tag if kind.tag == "vector" and kind.item is not None and kind.item.tag in DTYPES else None


def array(group: Group, field: Field) -> tuple[Array, Bools | None]:
    """A field of the events of a group, and where it has no value (None: nowhere)."""
    import numpy as np

    kind, count = field.kind, group.count
    dtype = dtype_of(kind, field.schema)
    if not group.is_plain:
        made = ((row, value_of(event, field)) for row, event in enumerate(group.events))
        return filled(kind, dtype, [(np.array([row]), value) for row, value in made], count)
    found = find(group, field)
    if found.rows is None:
        return read(group, field, found), None
    values, nulls = filled(kind, dtype, found.fills, count)
    values[found.rows] = read(group, field, found)
    return values, nulls


def filled(kind: Kind, dtype: Any, fills: list[tuple[Ints, Any]], count: int) -> tuple[Array, Bools | None]:
    """An array with some values in their rows, and where these are none."""
    import numpy as np

    values = np.zeros(count, dtype) if dtype is not object else np.full(count, None, object)
    nulls: Bools | None = None
    for rows, value in fills:
        if value is None:
            nulls = np.zeros(count, np.bool_) if nulls is None else nulls
            nulls[rows] = True
        elif dtype is object:
            for row in rows.tolist():  # one by one: an array or a tuple is one value here
                values[row] = as_stored(kind, value)
        else:
            values[rows] = as_stored(kind, value)
    return values, nulls


def value_of(event: Any, field: Field) -> Any:
    """A field of an event as Python has it; None of one that the reader does not know."""
    known = getattr(type(event), "__varve__", None)
    by_value = getattr(known, "by_value", None)  # of flatc's classes, which name fields in their own way
    return field.rest_of(event if by_value is None else by_value(event), -1)


def read(group: Group, field: Field, found: Found) -> Array:
    """The values that are in the bytes."""
    import numpy as np

    data, kind, places = group.chunk.data, field.kind, found.places
    number = number_of(kind, field.schema)
    if number is not None:
        values = data.numbers(number, places)
        return values.view("<M8[ns]") if kind.tag == "datetime" else values
    if kind.tag == "uuid":
        return data.fixed(16, places)
    out = np.empty(places.count, object)
    if kind.tag in TEXTS:
        starts, lengths = data.vectors(places)
        make, raw = TEXTS[kind.tag], data.raw.tobytes()
        out[:] = [make(raw[a:b]) for a, b in zip(starts.tolist(), (starts + lengths).tolist(), strict=True)]
        return out
    tag = item_number(kind)
    if tag is not None:
        starts, lengths = data.vectors(places)
        each = zip(starts.tolist(), lengths.tolist(), strict=True)
        for index, (start, length) in enumerate(each):  # a slice of objects would be tried as a table of numbers
            out[index] = data.slice(tag, start, length)
        return out
    view, whole = plain_type(group.known_type).view, memoryview(data.raw.tobytes())
    starts = group.starts.array()
    for index, start in enumerate((starts if found.rows is None else starts[found.rows]).tolist()):
        out[index] = owned_value(field.rest_of(view(whole, start), -1))
    return out
