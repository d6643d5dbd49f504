"""Arrow tables, and what gives itself as one, written as events."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from collections.abc import Iterator
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import varve
from varve.errors import MissingExtra
from varve.types import f32, i8, u8, u16, u32, u64

UTC = dt.UTC
DAY = dt.datetime(2024, 2, 29, 12, 30, 15, 123_456, tzinfo=UTC)


class Side(IntEnum):
    BUY = 1
    SELL = 2


@varve.event
class Trade:
    """A flat class."""

    number: u64
    flag: bool
    price: float
    rate: f32
    side: Side
    at: dt.datetime
    ident: UUID
    maybe: u16 | None = None
    maybe_at: dt.datetime | None = None
    maybe_id: UUID | None = None
    maybe_flag: bool | None = None
    maybe_price: float | None = None


@varve.event
class Leg:
    sku: str
    count: u8


@varve.event
class Order:
    """A class of rows."""

    number: u32
    product: str
    price: Decimal
    sizes: list[u16]
    first: Leg
    legs: list[Leg]
    note: str | None = None
    blob: bytes | None = None
    small: i8 | None = None


TRADES = [
    Trade(n, n % 2 == 0, n / 3, n / 2, Side(1 + n % 2), DAY + dt.timedelta(microseconds=n), UUID(int=n + 1), *rest)
    for n, rest in enumerate(
        [
            (None,) * 5,
            (7, DAY, UUID(int=9), True, 0.5),
            (None, DAY, None, False, None),
            (1, None, UUID(int=1), None, 1.0),
        ]
    )
]

TRADE_SCHEMA = pa.schema(
    [
        ("number", pa.uint32()),
        ("flag", pa.bool_()),
        ("price", pa.float64()),
        ("rate", pa.float32()),
        ("side", pa.int8()),
        ("at", pa.timestamp("us", "UTC")),
        ("ident", pa.binary(16)),
        ("maybe", pa.int64()),
        ("maybe_at", pa.timestamp("ns", "Europe/Berlin")),
        ("maybe_id", pa.binary(16)),
        ("maybe_flag", pa.bool_()),
        ("maybe_price", pa.float32()),
    ]
)


def trade_table() -> pa.Table:
    def spelled(value: Any) -> Any:
        return value.bytes if isinstance(value, UUID) else int(value) if isinstance(value, Side) else value

    return pa.table(
        {name: [spelled(getattr(t, name)) for t in TRADES] for name in TRADE_SCHEMA.names}, schema=TRADE_SCHEMA
    )


@pytest.fixture
def db(tmp_path: Path) -> Iterator[varve.Varve]:
    with varve.open(tmp_path / "store", durability="relaxed") as store:
        yield store


@pytest.fixture
def trades(db: varve.Varve) -> varve.Stream[Trade]:
    return db.stream("trades", Trade)


FORMS: dict[str, Any] = {
    "a table": trade_table,
    "a record batch": lambda: trade_table().to_batches()[0],
    "a reader": lambda: trade_table().to_reader(),
    "a slice": lambda: pa.concat_tables([trade_table()] * 3).slice(4, 4),
    "in chunks": lambda: pa.concat_tables([trade_table().slice(0, 1), trade_table().slice(1, 3)]),
    "a mapping of Arrow columns": lambda: dict(
        zip(TRADE_SCHEMA.names, [c.combine_chunks() for c in trade_table().columns], strict=True)
    ),
    "a mapping of chunked ones": lambda: dict(zip(TRADE_SCHEMA.names, trade_table().columns, strict=True)),
    "numbers in a dictionary": lambda: trade_table().set_column(3, "rate", trade_table()["rate"].dictionary_encode()),
    "an extension type": lambda: trade_table().set_column(
        6, "ident", pa.ExtensionArray.from_storage(pa.uuid(), trade_table()["ident"].combine_chunks())
    ),
    "half floats": lambda: trade_table().set_column(
        11, "maybe_price", pa.array([None, np.float16(0.5), None, np.float16(1)], pa.float16())
    ),
    "a polars frame without ids": lambda: pl.from_arrow(trade_table().drop_columns(["ident", "maybe_id"])),
}


@pytest.mark.parametrize("form", FORMS)
def test_flat_events(trades: varve.Stream[Trade], form: str) -> None:
    table = FORMS[form]()
    expected = TRADES
    if "without ids" in form:
        table = {name: table[name] for name in table.columns}
        table["ident"] = [t.ident for t in TRADES]
        table["maybe_id"] = [t.maybe_id for t in TRADES]
    assert len(trades.append_columns("x", table)) == 4
    assert [r.event for r in trades.reader().iter_stream("x")] == expected


@varve.event
class Tick:
    number: u64
    price: float
    maybe: u16 | None


TICKS = [Tick(1, 0.5, None), Tick(2, 1.5, 7), Tick(2**64 - 1, float("nan"), None)]
TICK_COLUMNS: dict[str, Any] = {
    "number": [1, 2, 2**64 - 1],
    "price": [0.5, 1.5, float("nan")],
    "maybe": [None, 7, None],
}


@pytest.mark.parametrize(
    "frame",
    [
        pl.DataFrame(TICK_COLUMNS, schema={"number": pl.UInt64, "price": pl.Float64, "maybe": pl.Int64}),
        pd.DataFrame(
            {
                "number": np.array(TICK_COLUMNS["number"], "u8"),
                "price": pa.array(TICK_COLUMNS["price"]).to_numpy(),
                "maybe": pd.array(TICK_COLUMNS["maybe"], "Int64"),
            }
        ),
    ],
    ids=["polars", "pandas"],
)
def test_data_frames_and_their_columns(db: varve.Varve, frame: Any) -> None:
    """As a whole, and column by column."""
    stream = db.stream("ticks", Tick)
    if not isinstance(frame, pd.DataFrame):
        stream.append_columns(1, frame)
    else:  # NaN means no value to pandas, and that is what it hands over
        for given in (frame, {name: frame[name] for name in frame.columns}):
            with pytest.raises(
                varve.EventEncodingError, match=r"Tick.price must be a float \(f64\), not None .* row 2"
            ):
                stream.append_columns(1, given)
        columns = {name: frame[name] for name in frame.columns}
        stream.append_columns(1, {**columns, "price": frame["price"].to_numpy()})
    assert [r.event for r in stream.reader().iter_stream(1)] == TICKS
    stream.append_columns(frame["number"], {**TICK_COLUMNS, "number": frame["number"]})
    assert [r.stream_id for r in stream.reader().iter_all(3)] == [1, 2, 2**64 - 1]


def test_rows(db: varve.Varve) -> None:
    legs = [Leg("a", 1), Leg("b", 2)]
    events = [
        Order(1, "ä", Decimal("1.50"), [1, 2], legs[0], legs, "n", b"x", -1),
        Order(2, "", Decimal(7), [], legs[1], []),
    ]
    leg = pa.struct([("sku", pa.string()), ("count", pa.int64())])
    spelled = [{"sku": one.sku, "count": one.count} for one in legs]
    table = pa.table(
        {
            "number": pa.array([1, 2], pa.int16()),
            "product": pa.array(["ä", ""]).dictionary_encode(),
            "price": pa.array([Decimal("1.50"), Decimal(7)], pa.decimal128(10, 2)),
            "sizes": pa.array([[1, 2], []], pa.list_(pa.uint8())),
            "first": pa.array(spelled, leg),
            "legs": pa.array([spelled, []], pa.list_(leg)),
            "note": pa.array(["n", None], pa.large_string()),
            "blob": pa.array([b"x", None]),
            "small": pa.array([-1, None], pa.int64()),
        }
    )
    stream = db.stream("orders", Order)
    stream.append_columns(pa.array(["a", "b"]), table)
    assert [r.event for r in stream.reader().iter_all()] == events
    assert [r.stream_id for r in stream.reader().iter_all()] == ["a", "b"]


def test_arrow_ids(trades: varve.Stream[Trade]) -> None:
    """Of one array or of many, of a table's own column."""
    trades.append_columns(pa.chunked_array([[7, 7], [8, 9]]), trade_table())
    assert [r.stream_id for r in trades.reader().iter_all()] == [7, 7, 8, 9]
    with pytest.raises(varve.InvalidStreamId, match="NoneType") as caught:
        trades.append_columns(pa.array([7, 7, None, 9]), trade_table())
    assert caught.value.__notes__ == ["it was row 2 of stream_ids; nothing was written"]
    with pytest.raises(varve.InvalidStreamId, match="float"):
        trades.append_columns(pa.array([7.0] * 4), trade_table())


@varve.event
class Named:
    name: str | None = None
    spot: Leg | None = None
    at: list[dt.datetime] | None = None


def test_objects_that_arrow_cannot_turn_into_its_own(db: varve.Varve) -> None:
    """Categories of polars, and series of objects of Python."""
    stream = db.stream("named", Named)
    stream.append_columns(1, {"name": pl.Series(["a", "b", None], dtype=pl.Categorical)})
    stream.append_columns(1, {"spot": pd.Series([Leg("x", 1), None])})
    events = [r.event for r in stream.reader().iter_all()]
    assert events == [Named("a"), Named("b"), Named(), Named(spot=Leg("x", 1)), Named()]


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("at", pa.array([[2**62]], pa.list_(pa.timestamp("s", "UTC")))),
        ("name", pa.array([2**60], pa.date64())),
        ("name", pa.array([b"\xff"]).view(pa.string())),
    ],
)
def test_values_that_arrow_cannot_give(db: varve.Varve, name: str, column: Any) -> None:
    """Whatever Python says to them."""
    with pytest.raises(varve.InvalidInput, match=f"the column '{name}' cannot be read"):
        db.stream("named", Named).append_columns(1, {name: column})
    with pytest.raises(varve.InvalidInput, match="stream_ids cannot be read"):
        db.stream("named", Named).append_columns(pa.array([b"\xff"]).view(pa.string()), {"name": ["a"]})
    with pytest.raises(varve.InvalidInput, match="the table cannot be read"):
        db.stream("named", Named).append_columns(1, pd.DataFrame({"name": [1, "x"]}))


@varve.event
class Reading:
    value: float | None = None
    count: u64 | None = None


@pytest.mark.parametrize("form", [list, pd.Index])
def test_integers_of_pandas_with_missing_ones(db: varve.Varve, form: Any) -> None:
    """Numpy would make floats of them: 2**53 + 1 would be rounded, and what is missing NaN."""
    stream = db.stream("readings", Reading)
    numbers = pd.array([2**53 + 1, None], dtype="UInt64")
    given = numbers if form is list else form(numbers)
    stream.append_columns(given[:1], {"count": given[:1]})
    stream.append_columns(1, {"count": given})
    stream.append_columns(1, {"value": pd.array([1.5, None], dtype="Float64")})
    assert [r.event.count for r in stream.reader().iter_all()] == [2**53 + 1, 2**53 + 1, None, None, None]
    assert [r.event.value for r in stream.reader().iter_all(3)] == [1.5, None]
    assert next(stream.reader().iter_all()).stream_id == 2**53 + 1
    with pytest.raises(varve.EventEncodingError, match="holds exactly"):
        stream.append_columns(1, {"value": given})


def with_column(name: str, column: Any) -> pa.Table:
    return trade_table().set_column(TRADE_SCHEMA.get_field_index(name), name, column)


BAD: list[tuple[str, Any, int | None, str]] = [
    ("number", pa.array([1, None, 3, 4]), 1, "must be an int .u64., not None"),
    ("number", pa.array([None] * 4), 0, "must be an int .u64., not None"),
    ("number", pa.array([1, 2, -3, 4]), 2, "must be in 0"),
    ("number", pa.array([1.0, 2.0, 3.0, 4.0]), 0, "array of float64"),
    ("number", pa.array(["1"] * 4), 0, "must be an int"),
    ("number", pa.array([Decimal(1)] * 4), 0, "must be an int"),
    ("flag", pa.array([1, 2, 3, 4]), 0, "must be a bool"),
    ("flag", pa.array([True, True, True, None]), 3, "must be a bool"),
    ("price", pa.array([1, 2, 3, 2**60 + 1]), 3, "holds exactly"),
    ("price", pa.array([1.0, None, 2.0, 3.0]), 1, "must be a float"),
    ("rate", pa.array([1.0, 1e300, 2.0, 3.0]), 1, "must fit 32 bits"),
    ("side", pa.array(["BUY"] * 4), 0, "must be a Side"),
    ("at", pa.array([DAY, None, DAY, DAY]), 1, "must be a datetime"),
    ("at", pa.array([1, 2, 3, 4]), 0, "must be a datetime"),
    ("at", pa.array([dt.date(2024, 1, 1)] * 4), 0, "must be a datetime"),
    ("at", pa.array([0, 2**40, 0, 0], pa.timestamp("s", "UTC")), 1, "1677 and 2262"),
    ("at", pa.array([DAY.replace(tzinfo=None)] * 4), None, "time zone"),
    ("ident", pa.array([b"x"] * 4), 0, "must be a UUID"),
    ("ident", pa.array([b"x" * 8] * 4, pa.binary(8)), 0, "must be a UUID"),
    ("ident", pa.array([b"x" * 16, None, b"x" * 16, b"y" * 16], pa.binary(16)), 1, "must be a UUID"),
    ("maybe", pa.array([1, None, 70_000, None]), 2, "must be in 0"),
]


@pytest.mark.parametrize(("name", "column", "row", "match"), BAD, ids=[f"{one[0]}-{n}" for n, one in enumerate(BAD)])
def test_columns_that_do_not_fit(
    db: varve.Varve, trades: varve.Stream[Trade], name: str, column: Any, row: int | None, match: str
) -> None:
    error = varve.EventEncodingError if row is not None else varve.InvalidInput
    with pytest.raises(error, match=match) as caught:
        trades.append_columns(1, with_column(name, column))
    if row is not None:
        assert (caught.value.field, caught.value.row) == (name, row)  # type: ignore[attr-defined]
    assert db.next_global_sequence == 0


def test_tables_that_do_not_fit(db: varve.Varve, trades: varve.Stream[Trade]) -> None:
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([1])], names=["number", "number"])
    with pytest.raises(varve.InvalidInput, match="two columns of one name"):
        trades.append_columns(1, twice)
    with pytest.raises(varve.InvalidInput, match="no field for the columns 'colour'"):
        trades.append_columns(1, trade_table().append_column("colour", pa.array([1] * 4)))
    with pytest.raises(varve.InvalidInput, match=r"no column for Trade\.number"):
        trades.append_columns(1, trade_table().drop_columns(["number"]))
    assert not trades.append_columns(1, trade_table().slice(0, 0))
    assert not trades.append_columns(1, TRADE_SCHEMA.empty_table())
    assert not trades.append_columns([], TRADE_SCHEMA.empty_table())
    assert db.next_global_sequence == 0


def test_without_pyarrow(trades: varve.Stream[Trade], monkeypatch: pytest.MonkeyPatch) -> None:
    """A table cannot be read; a column of a frame can, as far as numpy knows it."""
    frame = pl.DataFrame({"number": [1, 2]})
    rest = {name: [getattr(t, name) for t in TRADES[:2]] for name in TRADE_SCHEMA.names}
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match="varve-store\\[arrow\\]"):
        trades.append_columns(1, frame)
    assert len(trades.append_columns(1, {**rest, "number": frame["number"]})) == 2


def test_numpy_and_pyarrow_are_loaded_when_they_are_needed(tmp_path: Path) -> None:
    """A list column needs numpy; nothing but Arrow needs pyarrow."""
    program = f"""
import sys, varve
@varve.event
class Tick:
    number: varve.u32
with varve.open({str(tmp_path / "s")!r}, durability="relaxed") as db:
    stream = db.stream("t", Tick)
    stream.append(1, Tick(1))
    assert "numpy" not in sys.modules and "varve.columns" not in sys.modules
    stream.append_columns(1, {{"number": [1, 2, 3]}})
    assert "pyarrow" not in sys.modules
    print(stream.reader().length(1))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("4\n", "")
