"""Columns that do not fit: a typed error that names field, row and value, and nothing written."""

from __future__ import annotations

import datetime as dt
import sys
from collections.abc import Iterator
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest

import varve
from varve.errors import MissingExtra
from varve.testing import ManualClock
from varve.types import f32, i8, i16, i64, u8, u32, u64


class Side(IntEnum):
    BUY = 1
    SELL = 2


@varve.event
class Quote:
    tiny: u8 = 1
    short: i16 = 1
    size: u32 = 1
    large: u64 = 1
    signed: i64 = 1
    flag: bool = True
    single: f32 = 1.0
    double: float = 1.0
    side: Side = Side.BUY
    at: dt.datetime = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
    ident: UUID = UUID(int=1)
    maybe: i8 | None = None


@varve.event
class Note:
    number: u32
    text: str
    blob: bytes = b""
    maybe: str | None = None


@pytest.fixture
def db(tmp_path: Path) -> Iterator[varve.Varve]:
    with varve.open(tmp_path / "store", durability="relaxed", clock=ManualClock()) as store:
        yield store
        assert store.next_global_sequence == 0, "something was written"


@pytest.fixture
def quotes(db: varve.Varve) -> varve.Stream[Quote]:
    return db.stream("quotes", Quote)


@pytest.fixture
def notes(db: varve.Varve) -> varve.Stream[Note]:
    return db.stream("notes", Note)


NAIVE = dt.datetime(2024, 1, 1)
FAR = dt.datetime(2300, 1, 1, tzinfo=dt.UTC)

# Field, column, row of the first value that does not fit, the value, a part of the message.
BAD: list[tuple[str, Any, int, Any, str]] = [
    ("tiny", np.array([1, 300, 2, 400]), 1, 300, r"must be in 0 \.\. 255 \(u8\)"),
    ("tiny", np.array([1, 2, -1], "i1"), 2, -1, r"must be in 0 \.\. 255"),
    ("tiny", [1, 300], 1, 300, r"must be in 0 \.\. 255"),
    ("tiny", [1, 2**70], 1, 2**70, r"must be in 0 \.\. 255"),
    ("tiny", np.array([1, 2**64 - 1], "u8"), 1, 2**64 - 1, r"must be in 0 \.\. 255"),
    ("tiny", np.array(["1", "2"], np.dtypes.StringDType()), 0, "1", "array of StringDType"),
    ("short", np.array([300, 2**64 - 1], "u8"), 1, 2**64 - 1, "must be in -32768"),
    ("short", np.array([40_000, -40_000], "i4"), 0, 40_000, "must be in -32768"),
    ("short", np.array([4, -40_000, 40_000], ">i4"), 1, -40_000, "must be in -32768"),
    ("large", np.array([4, -1]), 1, -1, r"must be in 0 \.\."),
    ("large", [4, 2**64], 1, 2**64, r"must be in 0 \.\."),
    ("signed", np.array([4, 2**63], "u8"), 1, 2**63, "must be in -9223372036854775808"),
    ("signed", [4, 2**63], 1, 2**63, "must be in -9223372036854775808"),
    ("size", np.array([1.0, 2.0]), 0, 1.0, "must be an int .* array of float64"),
    ("size", [1, 2.0], 1, 2.0, "must be an int"),
    ("size", [1, True], 1, True, "must be an int"),
    ("size", np.array([True]), 0, True, "array of bool"),
    ("size", ["1"], 0, "1", "must be an int"),
    ("size", np.array(["1"]), 0, "1", "array of <U1"),
    ("size", [1, None], 1, None, "must be an int"),
    ("size", [1, Decimal(1)], 1, Decimal(1), "must be an int"),
    ("size", np.ma.MaskedArray([1, 2, 3], [False, True, False]), 1, None, "must be an int"),
    ("size", np.array([1, np.timedelta64(1, "s")], object), 1, np.timedelta64(1, "s"), "must be an int"),
    ("flag", np.array([0, 1]), 0, 0, "must be a bool"),
    ("flag", [True, 1], 1, 1, "must be a bool"),
    ("flag", [True, None], 1, None, "must be a bool"),
    ("double", np.array([True]), 0, True, "must be a float"),
    ("double", np.array([1, 2**53 + 1]), 1, 2**53 + 1, "holds exactly"),
    ("double", np.array([1, 2**64 - 1], "u8"), 1, 2**64 - 1, "holds exactly"),
    ("double", np.array([-(2**63), -(2**62) - 1]), 1, -(2**62) - 1, "holds exactly"),
    ("double", [1.0, 2**53 + 1], 1, 2**53 + 1, "holds exactly"),
    ("double", [1.0, "2"], 1, "2", "must be a float"),
    ("double", [Fraction(1, 2)], 0, Fraction(1, 2), "must be a float"),
    ("double", np.array([1 + 2j]), 0, 1 + 2j, "must be a float"),
    ("single", np.array([1.0, 1e39]), 1, 1e39, "must fit 32 bits"),
    ("single", [1.0, -1e39], 1, -1e39, "must fit 32 bits"),
    ("single", [1.0, 10**39], 1, 10**39, "must fit 32 bits|holds exactly"),
    ("side", np.array([1, 2**40]), 1, 2**40, r"must be in -"),
    ("side", [Side.BUY, "BUY"], 1, "BUY", "must be a Side"),
    ("side", np.array([1.0]), 0, 1.0, "must be a Side"),
    ("at", [FAR, NAIVE], 0, FAR, "between the years 1677 and 2262"),
    ("at", [NAIVE], 0, NAIVE, "aware"),
    ("at", [dt.date(2024, 1, 1)], 0, dt.date(2024, 1, 1), "must be a datetime"),
    ("at", np.array([1, 2]), 0, 1, "must be a datetime"),
    ("at", np.array(["2024-01-01", "2300-01-01"], "M8[s]"), 1, np.datetime64("2300-01-01", "s"), "1677 and 2262"),
    ("at", np.array(["2024-01-01", "1600-01-01"], "M8[us]"), 1, np.datetime64("1600-01-01", "us"), "1677 and 2262"),
    ("at", np.array([2**62], "i8").view("M8[W]"), 0, np.datetime64(2**62, "W"), "1677 and 2262"),
    ("at", np.array([-(2**63) + 1], "i8").view("M8[ns]"), 0, np.datetime64(-(2**63) + 1, "ns"), "1677 and 2262"),
    ("at", np.array(["2024-01-01", "NaT"], "M8[ns]"), 1, None, "must be a datetime"),
    ("at", np.array([1], "m8[s]"), 0, np.timedelta64(1, "s"), "must be a datetime"),
    ("ident", [UUID(int=1), "x"], 1, "x", "must be a UUID"),
    ("ident", np.array([b"short"]), 0, b"short", "must be a UUID.*S5"),
    ("ident", np.array([1]), 0, 1, "must be a UUID"),
    ("maybe", [None, 200], 1, 200, r"must be in -128 \.\. 127"),
    ("maybe", np.ma.MaskedArray([900, 1, 200], [True, False, False]), 2, 200, r"must be in -128 \.\. 127"),
    ("maybe", np.array([1.0, np.nan]), 0, 1.0, "must be an int"),
]


@pytest.mark.parametrize(
    ("field", "column", "row", "value", "match"), BAD, ids=[f"{one[0]}-{n}" for n, one in enumerate(BAD)]
)
def test_values_that_do_not_fit(
    quotes: varve.Stream[Quote], field: str, column: Any, row: int, value: Any, match: str
) -> None:
    """Whatever form the column has; the rows before, and other columns, are fine."""
    with pytest.raises(varve.EventEncodingError, match=match) as caught:
        quotes.append_columns(1, {"large": np.arange(len(column)), field: column})
    error = caught.value
    assert (error.type_name, error.field, error.row) == ("Quote", field, row)
    assert error.value == value
    assert type(error.value) is type(value)
    assert f"Quote.{field} must" in error.message
    assert f"in row {row}; nothing was written" in error.message


@pytest.mark.parametrize(
    ("field", "column", "row", "value", "match"), BAD, ids=[f"{one[0]}-{n}" for n, one in enumerate(BAD)]
)
def test_they_do_not_fit_in_a_class_of_rows_either(
    db: varve.Varve, field: str, column: Any, row: int, value: Any, match: str
) -> None:
    """The same errors where events are made one by one."""
    annotations = {**Quote.__annotations__, "text": str}
    defaults = {f: getattr(Quote(), f) for f in Quote.__annotations__}
    # Annotations are strings here, and name what this module knows.
    rows = varve.event(
        type("Quote", (), {"__annotations__": annotations, "text": "", "__module__": __name__, **defaults})
    )
    with pytest.raises(varve.EventEncodingError, match=match) as caught:
        db.stream("rows", rows).append_columns(1, {"large": np.arange(len(column)), field: column})
    assert (caught.value.field, caught.value.row, caught.value.value) == (field, row, value)


NOTES: list[tuple[dict[str, Any], str, int, str]] = [
    ({"text": ["a", 5]}, "text", 1, "must be a str"),
    ({"text": ["a", None]}, "text", 1, "must be a str"),
    ({"text": np.array(["a", float("nan")], object)}, "text", 1, "must be a str"),
    ({"text": np.array([1, 2])}, "text", 0, "must be a str"),
    ({"text": ["a", "\ud800"]}, "text", 1, "surrogates"),
    ({"text": ["a", "b"], "blob": [b"", "x"]}, "blob", 1, "must be bytes"),
    ({"text": ["a", "b"], "maybe": [None, 1]}, "maybe", 1, "must be a str"),
    ({"text": ["a"] * 5_000 + [b"x"]}, "text", 5_000, "must be a str"),
]


@pytest.mark.parametrize(("columns", "field", "row", "match"), NOTES, ids=range(len(NOTES)))
def test_values_of_rows_that_do_not_fit(
    notes: varve.Stream[Note], columns: dict[str, Any], field: str, row: int, match: str
) -> None:
    with pytest.raises(varve.EventEncodingError, match=match) as caught:
        notes.append_columns(1, {"number": range(len(columns["text"])), **columns})
    assert (caught.value.type_name, caught.value.field, caught.value.row) == ("Note", field, row)
    assert f"in row {row}; nothing was written" in caught.value.message


GOOD = {"number": [1, 2], "text": ["a", "b"]}

SHAPES: list[tuple[Any, str]] = [
    (None, "takes a mapping"),
    ([[1, 2], ["a", "b"]], "takes a mapping"),
    ("number", "takes a mapping"),
    (5, "takes a mapping"),
    ({}, "no column for Note.number, Note.text, which has no default"),
    ({"number": [1, 2]}, "no column for Note.text"),
    ({**GOOD, "colour": [1, 2], "size": 1}, "no field for the columns 'colour', 'size'; it has number, text"),
    ({**GOOD, 5: [1, 2]}, "no field for the columns 5"),
    ({"number": [1], "text": ["a", "b"]}, "column 'number' has 1, column 'text' has 2"),
    ({**GOOD, "blob": []}, "column 'blob' has 0"),
    ({**GOOD, "number": np.array([[1, 2], [3, 4]])}, "'number' has 2 dimensions"),
    ({**GOOD, "number": np.array(5)}, "'number' is a single value"),
    ({**GOOD, "number": 5}, "'number' is an array or a list"),
    ({**GOOD, "text": "ab"}, "'text' is an array or a list"),
    ({**GOOD, "number": b"ab"}, "'number' is an array or a list"),
    ({**GOOD, "number": {1, 2}}, "'number' is an array or a list"),
    ({**GOOD, "number": {1: 1, 2: 2}}, "'number' is an array or a list"),
    ({**GOOD, "number": (n for n in (1, 2))}, "'number' is an array or a list"),
    ({**GOOD, "number": None}, "'number' is an array or a list"),
    ({**GOOD, "number": type("Sized", (), {"__len__": lambda _: 2})()}, "'number' is an array or a list"),
]


@pytest.mark.parametrize(("columns", "match"), SHAPES, ids=range(len(SHAPES)))
def test_columns_of_no_shape(notes: varve.Stream[Note], columns: Any, match: str) -> None:
    with pytest.raises(varve.InvalidInput, match=match):
        notes.append_columns(1, columns)


@pytest.mark.skipif(np.finfo("g").max <= np.finfo("d").max, reason="long doubles are doubles here")
def test_floats_beyond_64_bits(quotes: varve.Stream[Quote]) -> None:
    """They would become infinite."""
    with pytest.raises(varve.EventEncodingError, match=r"must fit 64 bits \(f64\)") as caught:
        quotes.append_columns(1, {"double": np.array(["0", "1e309"], "g")})
    assert caught.value.row == 1


def test_units_that_are_no_fixed_time(quotes: varve.Stream[Quote]) -> None:
    """Months, years, multiples of units, and no unit at all."""
    for dtype in ("M8[M]", "M8[Y]", "M8[25s]", "M8"):
        with pytest.raises(varve.InvalidInput, match="use datetime64 in a unit"):
            quotes.append_columns(1, {"at": np.array([5], "i8").view(dtype)})


IDS: list[tuple[Any, type[Exception], str]] = [
    (True, varve.InvalidStreamId, "bool"),
    (-1, varve.InvalidStreamId, "outside"),
    (1.0, varve.InvalidStreamId, "float"),
    (None, varve.InvalidStreamId, "NoneType"),
    (b"id", varve.InvalidStreamId, "bytes"),
    (bytearray(b"id"), varve.InvalidStreamId, "bytearray"),
    ({}, varve.InvalidStreamId, "dict"),
    (frozenset({1}), varve.InvalidStreamId, "frozenset"),
    ("", varve.InvalidStreamId, "empty"),
    (np.int64(1), varve.InvalidStreamId, "int64"),
    (np.array(1), varve.InvalidStreamId, "ndarray"),
    ([1, -1], varve.InvalidStreamId, "outside"),
    ([1, 2**64], varve.InvalidStreamId, "outside"),
    ([1, True], varve.InvalidStreamId, "bool"),
    ([1, 1.0], varve.InvalidStreamId, "float"),
    ([1, None], varve.InvalidStreamId, "NoneType"),
    ([1, []], varve.InvalidStreamId, "list is no stream id"),
    (np.array([1, -1]), varve.InvalidStreamId, "outside"),
    (np.array([1.0, 2.0]), varve.InvalidStreamId, "float"),
    (np.array([True, False]), varve.InvalidStreamId, "bool"),
    (np.array(["a", ""]), varve.InvalidStreamId, "empty"),
    (np.array([1, 2], "M8[ns]"), varve.InvalidStreamId, "datetime64"),
    (np.array([1, 2], "m8[ns]"), varve.InvalidStreamId, "timedelta64"),
    (np.ma.MaskedArray([1, 2], [False, True]), varve.InvalidStreamId, "missing"),
    (np.array([[1, 2], [3, 4]]), varve.InvalidInput, "2 dimensions"),
    ([1], varve.InvalidInput, "stream_ids has 1"),
    ([], varve.InvalidInput, "stream_ids has 0"),
    (np.arange(3), varve.InvalidInput, "stream_ids has 3"),
]


@pytest.mark.parametrize(("ids", "error", "match"), IDS, ids=range(len(IDS)))
def test_bad_stream_ids(notes: varve.Stream[Note], ids: Any, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match):
        notes.append_columns(ids, GOOD)


def test_the_row_of_a_bad_id_is_told(notes: varve.Stream[Note]) -> None:
    for ids in ([1, -1], np.array([1, -1]), ["a", ""], np.ma.MaskedArray([1, 2], [False, True]), [1, {}]):
        with pytest.raises(varve.InvalidStreamId) as caught:
            notes.append_columns(ids, GOOD)
        assert caught.value.__notes__ == ["it was row 1 of stream_ids; nothing was written"]


def test_what_goes_with_an_append_is_checked(notes: varve.Stream[Note]) -> None:
    with pytest.raises(varve.WrongExpectedVersion):
        notes.append_columns(1, GOOD, expected=5)
    with pytest.raises(varve.WrongExpectedVersion):
        notes.append_columns(1, {"number": [], "text": []}, expected=varve.STREAM_EXISTS)
    with pytest.raises(varve.InvalidInput, match="one stream id for all"):
        notes.append_columns([1, 1], GOOD, expected=0)
    with pytest.raises(varve.InvalidInput, match="expected="):
        notes.append_columns(1, GOOD, expected=-1)
    with pytest.raises(varve.InvalidMetadata):
        notes.append_columns(1, GOOD, metadata={1: 2})  # type: ignore[dict-item]
    with pytest.raises(varve.InvalidIdempotencyKey):
        notes.append_columns(1, GOOD, idempotency_key="")


def test_more_rows_than_a_commit_holds_take_no_memory(notes: varve.Stream[Note], quotes: varve.Stream[Quote]) -> None:
    """Whoever repeats a value without a copy can name more rows than there is memory."""
    rows = 10**15
    for columns in ({"tiny": np.broadcast_to(np.uint8(1), rows)}, {"tiny": range(rows)}):
        with pytest.raises(varve.TooManyItems, match="TRANSACTION_BYTES_MAX"):
            quotes.append_columns(1, columns)
    with pytest.raises(varve.TooManyItems, match="TRANSACTION_BYTES_MAX"):
        notes.append_columns(range(rows), {"number": range(rows), "text": np.broadcast_to("a", rows)})


@varve.event
class Sizes:
    numbers: list[i64] | None = None


def test_a_row_of_a_matrix_is_missing_as_a_whole(db: varve.Varve) -> None:
    """A mask over a part of it is no list of numbers."""
    values = np.ma.MaskedArray([[1, 2], [3, 4]], [[True, True], [False, True]])
    with pytest.raises(varve.EventEncodingError, match="all of its items or none") as caught:
        db.stream("sizes", Sizes).append_columns(1, {"numbers": values})
    assert (caught.value.field, caught.value.row) == ("numbers", 1)


@pytest.mark.parametrize("dtype", ["M8[ns]", "m8[ns]"])
def test_times_are_no_numbers(db: varve.Varve, dtype: str) -> None:
    """Numpy gives those of nanoseconds as ints."""
    stream = db.stream("sizes", Sizes)
    with pytest.raises(varve.EventEncodingError, match="must be an int"):
        stream.append_columns(1, {"numbers": np.array([[1, 2]], dtype)})
    with pytest.raises(varve.EventEncodingError, match="must be an int"):
        stream.append(1, Sizes(np.array([1, 2], dtype)))  # type: ignore[arg-type]


def test_too_large_events_and_commits(notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("varve.limits.EVENT_BYTES_MAX", 100)
    with pytest.raises(varve.EventTooLarge) as caught:
        notes.append_columns(1, {"number": [1, 2], "text": ["a", "b" * 100]})
    assert caught.value.size_bytes > 100
    assert caught.value.__notes__ == ["it was made of row 1"]
    monkeypatch.setattr("varve.limits.TRANSACTION_BYTES_MAX", 60)
    with pytest.raises(varve.TooManyItems):
        notes.append_columns(1, GOOD)


def test_a_transaction_with_a_bad_column_writes_nothing(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    with pytest.raises(varve.EventEncodingError), db.transaction() as tx:
        tx.append_columns(notes, 1, GOOD)
        tx.append_columns(notes, 1, {"number": [1, -2], "text": ["a", "b"]})


def test_a_class_of_flatc_is_refused(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = db.stream("notes", Note)
    monkeypatch.setattr("dataclasses.is_dataclass", lambda _: False)
    with pytest.raises(varve.InvalidInput, match="generated by flatc"):
        stream.append_columns(1, GOOD)


def test_without_numpy(notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(MissingExtra, match="varve-store\\[columns\\]"):
        notes.append_columns(1, GOOD)


def test_keys_are_bound_to_their_content(tmp_path: Path) -> None:
    """As those of ``append_batch``, with which it shares them."""
    events = [Note(1, "a"), Note(2, "b")]
    with varve.open(tmp_path / "s", durability="relaxed") as store:
        stream = store.stream("notes", Note)
        first = stream.append_batch(1, events, idempotency_key="k")
        again = stream.append_columns(1, GOOD, idempotency_key="k")
        assert again.replayed
        assert list(again) == list(first)
        for other in ({**GOOD, "number": [1, 3]}, {"number": [1], "text": ["a"]}):
            with pytest.raises(varve.IdempotencyConflict):
                stream.append_columns(1, other, idempotency_key="k")
        with pytest.raises(varve.IdempotencyConflict):
            stream.append_columns([1, 2], GOOD, idempotency_key="k")
        assert store.next_global_sequence == 2


def test_errors_of_rows_pickle() -> None:
    import pickle

    error = varve.EventEncodingError("x", type_name="T", field="f", value=1, row=3)
    assert pickle.loads(pickle.dumps(error)).row == 3
    assert varve.EventEncodingError("x", type_name="T", field="f", value=1).row is None
