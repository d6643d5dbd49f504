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


def put(group: Group, field: Field, out: Array) -> Bools | None:
    """A field of the events of a group, into an array of as many; gives where it has no value (None: nowhere)."""
    import numpy as np

    if not group.is_plain:
        made = ((row, value_of(event, field)) for row, event in enumerate(group.events))
        return fill(field.kind, [(np.array([row]), value) for row, value in made], out)
    found = find(group, field)
    if found.rows is None:
        read(group, field, found, out)
        return None
    nulls = fill(field.kind, found.fills, out)
    values = np.empty(len(found.rows), out.dtype)
    read(group, field, found, values)
    out[found.rows] = values
    return nulls


def nothing(dtype: Any) -> Any:
    """What stands in an array where there is no value."""
    import numpy as np

    return None if dtype.hasobject else np.zeros((), dtype)


def fill(kind: Kind, fills: list[tuple[Ints, Any]], out: Array) -> Bools | None:
    """Some values into their rows, nothing into the others; gives where there is no value."""
    import numpy as np

    nulls: Bools | None = None
    out[:] = nothing(out.dtype)
    for rows, value in fills:
        if value is None:
            nulls = np.zeros(len(out), np.bool_) if nulls is None else nulls
            nulls[rows] = True
        elif out.dtype.hasobject:
            for row in rows.tolist():  # one by one: an array or a tuple is one value here
                out[row] = as_stored(kind, value)
        else:
            out[rows] = as_stored(kind, value)
    return nulls


def value_of(event: Any, field: Field) -> Any:
    """A field of an event as Python has it; None of one that the reader does not know."""
    known = getattr(type(event), "__varve__", None)
    by_value = getattr(known, "by_value", None)  # of flatc's classes, which name fields in their own way
    return field.rest_of(event if by_value is None else by_value(event), -1)


def read(group: Group, field: Field, found: Found, out: Array) -> None:
    """The values that are in the bytes, into an array of as many."""
    data, kind, places = group.chunk.data, field.kind, found.places
    number = number_of(kind, field.schema)
    if number is not None:
        data.put(number, places, out.view("<i8") if kind.tag == "datetime" else out)
        return
    if kind.tag == "uuid":
        out[:] = data.fixed(16, places)
        return
    if kind.tag in TEXTS:
        starts, lengths = data.vectors(places)
        make, raw = TEXTS[kind.tag], data.copied
        out[:] = [make(bytes(raw[a:b])) for a, b in zip(starts.tolist(), (starts + lengths).tolist(), strict=True)]
        return
    tag = item_number(kind)
    if tag is not None:
        starts, lengths = data.vectors(places)
        each = zip(starts.tolist(), lengths.tolist(), strict=True)
        for index, (start, length) in enumerate(each):  # a slice of objects would be tried as a table of numbers
            out[index] = data.slice(tag, start, length)
        return
    view, whole = plain_type(group.known_type).view, data.copied
    starts = group.starts.array()
    for index, start in enumerate((starts if found.rows is None else starts[found.rows]).tolist()):
        out[index] = owned_value(field.rest_of(view(whole, start), -1))
