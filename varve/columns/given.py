"""Columns as users give them, turned into arrays of what the fields store: checked for kind, range and nulls.

What is accepted follows the rules for single values (``varve.codec.check``), with what only arrays have beside them:
``datetime64`` counts as UTC, and integers stand for the members of an enum. Lists of Python objects are held to those
rules value by value.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from uuid import UUID

from varve.codec.check import coerce_value, nanoseconds, shown
from varve.codec.declare import Declaration
from varve.codec.schema import INT_RANGES, SCALARS, FieldDef, Kind
from varve.columns.extras import need_pyarrow
from varve.errors import EventEncodingError, InvalidInput, MissingExtra, VarveError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

ARRAY_TAGS: Final = frozenset(SCALARS) | {"enum", "datetime", "uuid"}
"""Kinds of fields whose columns become arrays."""

_LOW_NS, _HIGH_NS = INT_RANGES["i64"]
_LOW_US, _HIGH_US = -(-_LOW_NS // 1_000), _HIGH_NS // 1_000
_UNITS_US: Final = {
    "W": 604_800_000_000,
    "D": 86_400_000_000,
    "h": 3_600_000_000,
    "m": 60_000_000,
    "s": 1_000_000,
    "ms": 1_000,
    "us": 1,
}
"""Units of ``datetime64`` in microseconds; finer ones are cut."""
_UNITS_PER_US: Final = {"ns": 10**3, "ps": 10**6, "fs": 10**9, "as": 10**12}
_YEARS = "must be between the years 1677 and 2262 (64 bits of nanoseconds)"
_MISSING_NAMES = frozenset({"NAType", "NaTType"})


class Column(NamedTuple):
    """The values of a field that the table itself holds, as numbers of its type (or numbers that convert to it without a
    loss; a uuid as 16 bytes); ``absent`` marks rows without a value (None: all have one), whose numbers are 0."""

    values: Array
    absent: Array | None


def length_of(name: str, given: Any) -> int:
    """Rows of a column. Raises ``InvalidInput`` for what is none."""
    if isinstance(given, (str, bytes, bytearray, dict, set, frozenset)) or not hasattr(given, "__len__"):
        raise InvalidInput(f"the column {name!r} is an array or a list with a value for each event, not {shown(given)}")
    dimensions = getattr(given, "ndim", 1)
    if not dimensions:
        raise InvalidInput(f"the column {name!r} is a single value; give an array with a value for each event")
    return len(given)


def refused(where: Field, reason: str, value: object, row: int) -> EventEncodingError:
    """The error for a value of a column."""
    type_name, field = where.declaration.name, where.name
    return EventEncodingError(
        f"{type_name}.{field} {reason}, not {shown(value)} ({type(value).__name__}), in row {row}; nothing was written",
        type_name=type_name,
        field=field,
        value=value,
        row=row,
    )


def in_row(error: EventEncodingError, row: int) -> EventEncodingError:
    """The error for a value by itself, told of its row."""
    return EventEncodingError(
        f"{error.message}, in row {row}; nothing was written",
        type_name=error.type_name,
        field=error.field,
        value=error.value,
        row=row,
    )


class Field(NamedTuple):
    """A field of an event class, where a column for it is looked at."""

    definition: FieldDef
    declaration: Declaration

    @property
    def name(self) -> str:
        """Its name."""
        return self.definition.name

    @property
    def kind(self) -> Kind:
        """Its kind."""
        return self.definition.kind

    @property
    def tag(self) -> str:
        """The scalar that stores it; ``uuid`` for one."""
        tag = self.kind.tag
        if tag == "enum":
            return self.declaration.base_of(self.kind.name)
        return "i64" if tag == "datetime" else tag

    @property
    def dtype(self) -> str:
        """Numpy's name for what stores it."""
        return "V16" if self.tag == "uuid" else f"<{SCALARS[self.tag].code}"

    @property
    def noun(self) -> str:
        """What a value of it must be."""
        kind = self.kind
        return {
            "bool": "a bool",
            "uuid": "a UUID",
            "datetime": "a datetime",
            "enum": f"a {kind.name}",
            "f32": "a float (f32)",
            "f64": "a float (f64)",
        }.get(kind.tag, f"an int ({kind.tag})")


def column_of(where: Field, given: Any) -> Column:
    """A column for a field of one of ``ARRAY_TAGS``. Raises ``EventEncodingError``, ``InvalidInput``."""
    import numpy as np

    values, absent = _opened(where, given)
    if isinstance(values, list):
        return _from_objects(where, values)
    if values.ndim != 1:
        raise InvalidInput(f"the column {where.name!r} has {values.ndim} dimensions; a field of this kind takes one")
    if values.dtype.kind == "O":
        return _from_objects(where, _with_none(values.tolist(), absent))
    if values.dtype.kind == "M":
        nat = np.isnat(values)
        if nat.any():
            absent = nat if absent is None else absent | nat
    if absent is not None and not absent.any():
        absent = None
    if absent is not None:
        if not where.definition.optional:
            raise refused(where, f"must be {where.noun}", None, int(absent.argmax()))
        values = values.copy()
        values[absent] = np.zeros((), values.dtype)
    if not len(values):
        return Column(np.empty(0, where.dtype), None)
    return Column(_CONVERT.get(where.kind.tag, _integers)(where, values), absent)


def objects_of(where: Field, given: Any) -> list[Any]:
    """A column as Python objects, None where there is no value."""
    values, absent = _opened(where, given)
    if not isinstance(values, list):
        values = values.tolist() if values.ndim == 1 else list(values)
    if absent is not None and absent.ndim > 1:
        absent = _whole_rows(where, absent)
    return _with_none(values, absent)


def _whole_rows(where: Field, masked: Array) -> Array:
    """Which rows of a masked matrix are missing. Raises ``EventEncodingError`` where a part of one is."""
    import numpy as np

    flat = masked.reshape(len(masked), -1)
    whole: Array = np.asarray(flat.all(axis=1))
    part = flat.any(axis=1) & ~whole
    if part.any():
        raise refused(where, "must have all of its items or none", None, int(part.argmax()))
    return whole


def _with_none(values: list[Any], absent: Array | None) -> list[Any]:
    """None in place of values that are missing, or of matrix rows that are."""
    if absent is not None:
        for row in absent.nonzero()[0].tolist():
            values[row] = None
    return [None if type(value).__name__ in _MISSING_NAMES else value for value in values]


# -- what it is --------------------------------------------------------------------------------------------------------


def _opened(where: Field, given: Any) -> tuple[Array | list[Any], Array | None]:
    """A column as an array and a mask of what is missing, or as a list of objects."""
    import numpy as np

    if isinstance(given, np.ma.MaskedArray):
        mask = np.ma.getmaskarray(given)
        return np.asarray(given.data), mask if mask.any() else None
    if isinstance(given, np.ndarray):
        return np.asarray(given), None
    if isinstance(given, (list, tuple, range)):
        return list(given), None
    try:
        with readable(f"the column {where.name!r}"):
            arrow = as_arrow(given)
            if arrow is not None:
                return _from_arrow(where, arrow)
    except InvalidInput:
        if getattr(getattr(given, "dtype", None), "kind", "") != "O":
            raise
        # objects of Python that Arrow has no type for, in a series of pandas
    if hasattr(given, "__array__") or isinstance(given, (array, memoryview)):
        return np.asarray(given), None
    if isinstance(given, Sequence):
        return list(given), None
    raise InvalidInput(
        f"the column {where.name!r} is an array or a list with a value for each event, not {shown(given)}"
    )


@contextmanager
def readable(what: str) -> Iterator[None]:
    """Arrow's errors, and those of what it makes Python objects of, as ``InvalidInput``."""
    try:
        yield
    except VarveError:
        raise
    except (ValueError, TypeError, OverflowError, NotImplementedError) as exc:  # Arrow's own are these as well
        raise InvalidInput(f"{what} cannot be read: {exc}") from exc


def as_arrow(given: Any) -> Any:
    """An Arrow array, where it is one or can be had as one; None for anything else."""
    if not hasattr(given, "__arrow_c_stream__"):  # numpy would make floats of pandas' integers with missing ones
        inner = given if hasattr(given, "__arrow_array__") else getattr(given, "array", None)  # of an index
        given = inner if hasattr(inner, "__arrow_array__") else given
    speaks = hasattr(given, "__arrow_c_stream__") or hasattr(given, "__arrow_array__")
    if "pyarrow" not in sys.modules and not speaks:
        return None
    try:
        pa = need_pyarrow("an Arrow column")
    except MissingExtra:
        return None  # numpy may know what it is
    if hasattr(given, "__arrow_array__"):
        given = pa.array(given)
    if isinstance(given, pa.Array):
        return given
    if not isinstance(given, pa.ChunkedArray):
        if not hasattr(given, "__arrow_c_stream__"):
            return None
        given = pa.chunked_array(given)
    return pa.concat_arrays(given.chunks) if given.num_chunks else pa.array([], given.type)


def _from_arrow(where: Field, given: Any) -> tuple[Array | list[Any], Array | None]:
    """An Arrow array's values and what is missing."""
    import numpy as np

    pa = need_pyarrow("an Arrow column")

    if isinstance(given, pa.ExtensionArray):
        given = given.storage
    if isinstance(given, pa.DictionaryArray):
        try:
            given = given.dictionary_decode()
        except pa.ArrowNotImplementedError:  # of string views, as in a categorical of polars
            return given.to_pylist(), None
    kinds, kind = pa.types, given.type
    absent = given.is_null().to_numpy(zero_copy_only=False) if given.null_count else None
    if where.kind.tag == "uuid" and kinds.is_fixed_size_binary(kind) and kind.byte_width == 16:
        raw = np.frombuffer(given.buffers()[1] or b"", "V16")
        return raw[given.offset : given.offset + len(given)], absent
    if kinds.is_timestamp(kind):
        if kind.tz is None:
            raise InvalidInput(
                f"the column {where.name!r} has timestamps without a time zone, which name no instant: cast it to "
                f"timestamp({kind.unit!r}, 'UTC') if that is what they are in"
            )
        numbers = given.cast(pa.int64()).fill_null(0).to_numpy(zero_copy_only=False)
        return numbers.view(f"M8[{kind.unit}]"), absent
    if kinds.is_integer(kind) or kinds.is_floating(kind):
        # 16-bit floats know no fill_null everywhere; what stands in absent rows is cleared later
        filled = given if absent is None else pa.array(given).fill_null(pa.scalar(0, kind))
        return filled.to_numpy(zero_copy_only=False), absent
    if kinds.is_boolean(kind):
        return given.fill_null(False).to_numpy(zero_copy_only=False), absent
    return given.to_pylist(), None


# -- Python objects --------------------------------------------------------------------------------------------------


def _from_objects(where: Field, values: list[Any]) -> Column:
    """Values held to the rules for single ones, each by itself where they are not all of the one usual type."""
    import numpy as np

    types = set(map(type, values))
    tag = where.kind.tag
    if types == {int} and tag in INT_RANGES:
        try:
            numbers = array("Q" if tag == "u64" else "q", values)
        except OverflowError:
            pass  # found below
        else:
            return Column(_integers(where, np.frombuffer(numbers, numbers.typecode)), None)
    elif types == {float} and tag in {"f32", "f64"}:
        return Column(_floats(where, np.array(values, "<d")), None)
    elif types == {bool} and tag == "bool":
        return Column(np.array(values, "?"), None)
    return _one_by_one(where, values)


def _one_by_one(where: Field, values: list[Any]) -> Column:
    import numpy as np

    kind, name, declaration, optional = where.kind, where.name, where.declaration, where.definition.optional
    spell = _SPELLED.get(kind.tag, _itself)
    nothing: Any = bytes(16) if kind.tag == "uuid" else 0
    stored: list[Any] = []
    absent = np.zeros(len(values), "?")
    for row, value in enumerate(values):
        if optional and (value is None or type(value).__name__ in _MISSING_NAMES):
            absent[row] = True
            stored.append(nothing)
            continue
        try:
            stored.append(spell(coerce_value(kind, value, name, declaration)))
        except EventEncodingError as exc:
            raise in_row(exc, row) from None
    mask = absent if absent.any() else None
    if kind.tag == "uuid":
        return Column(np.frombuffer(b"".join(stored), "V16"), mask)
    return Column(np.array(stored, where.dtype), mask)


def _itself(value: Any) -> Any:
    return value


def _uuid_bytes(value: UUID) -> bytes:
    return value.bytes


_SPELLED: Final[dict[str, Callable[[Any], Any]]] = {"datetime": nanoseconds, "uuid": _uuid_bytes, "enum": int}


# -- arrays ------------------------------------------------------------------------------------------------------------


def _integers(where: Field, values: Array) -> Array:
    """Integers in the field's range, of whatever width. Also what the numbers of enums are."""
    import numpy as np

    tag = where.tag
    if values.dtype.kind not in "iu":
        raise _wrong(where, values)
    if np.can_cast(values.dtype, where.dtype):
        return values
    low, high = INT_RANGES[tag]
    bad = None
    if int(values.min()) < low:
        bad = values < low
    if int(values.max()) > high:
        bad = values > high if bad is None else bad | (values > high)
    if bad is not None:
        row = int(bad.argmax())
        raise refused(where, f"must be in {low} .. {high} ({tag})", values[row].item(), row)
    return values


def _floats(where: Field, values: Array) -> Array:
    """Floats of any width, and integers that one of 64 bits holds exactly."""
    import numpy as np

    if values.dtype.kind in "iu":
        inexact = _inexact(values)
        if inexact.any():
            row = int(inexact.argmax())
            reason = f"must be an int that a float holds exactly ({where.tag})"
            raise refused(where, reason, values[row].item(), row)
        values = values.astype("<d")
    elif values.dtype.kind != "f":
        raise _wrong(where, values)
    if np.can_cast(values.dtype, where.dtype):
        return values
    with np.errstate(over="ignore"):
        narrow = values.astype(where.dtype)
    wide = np.isinf(narrow) & ~np.isinf(values)
    if wide.any():
        row = int(wide.argmax())
        raise refused(where, f"must fit {where.tag[1:]} bits ({where.tag})", values[row].item(), row)
    return narrow


def _inexact(values: Array) -> Array:
    """Which integers have more than 53 bits between the first and the last that is set."""
    import numpy as np

    if values.dtype.itemsize < 8:
        return np.zeros(len(values), "?")
    size = values.astype("=u8")
    if values.dtype.kind == "i":
        size = np.where(values < 0, ~size + np.uint64(1), size)
    lowest = size & (~size + np.uint64(1))
    inexact: Array = size // np.maximum(lowest, np.uint64(1)) >= np.uint64(2**53)
    return inexact


def _bools(where: Field, values: Array) -> Array:
    if values.dtype.kind != "b":
        raise _wrong(where, values)
    return values


def _datetimes(where: Field, values: Array) -> Array:
    """Nanoseconds, cut to microseconds as every datetime is."""
    import numpy as np

    if values.dtype.kind != "M":
        raise _wrong(where, values)
    unit, steps = np.datetime_data(values.dtype)
    numbers = values.astype(f"=M8[{unit}]").view("=i8")
    if steps == 1 and unit in _UNITS_US:
        factor = _UNITS_US[unit]
        bad = (numbers < -(-_LOW_US // factor)) | (numbers > _HIGH_US // factor)
        us = numbers  # multiplied below, where nothing overflows
    elif steps == 1 and unit in _UNITS_PER_US:
        factor = 1
        us = numbers // _UNITS_PER_US[unit]
        bad = (us < _LOW_US) | (us > _HIGH_US)
    else:
        raise InvalidInput(
            f"the column {where.name!r} is {values.dtype}: use datetime64 in a unit from a week down, as in datetime64[us]"
        )
    if bad.any():
        row = int(bad.argmax())
        raise refused(where, _YEARS, values[row], row)
    nanos: Array = us * np.int64(factor * 1_000)
    return nanos


def _uuids(where: Field, values: Array) -> Array:
    import numpy as np

    if values.dtype.kind not in "SV" or values.dtype.itemsize != 16:
        raise _wrong(where, values)
    return np.ascontiguousarray(values).view("V16")


def _wrong(where: Field, values: Array) -> EventEncodingError:
    """The error for an array of another kind than the field's."""
    value = values[0]
    if values.dtype.kind not in "mM" and hasattr(value, "item"):
        value = value.item()
    return refused(where, f"must be {where.noun}; this column is an array of {values.dtype}", value, 0)


_CONVERT: Final[dict[str, Callable[[Field, Array], Array]]] = {
    "bool": _bools,
    "f32": _floats,
    "f64": _floats,
    "datetime": _datetimes,
    "uuid": _uuids,
}
