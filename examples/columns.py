"""A stream as columns: numpy arrays, and the same events queried by polars, pandas and duckdb without a line of conversion.

    pip install 'varve-store[arrow]' polars pandas duckdb
    python examples/columns.py [FOLDER]

Each of the three takes the reader itself: it speaks the Arrow PyCapsule protocol. Those that are not installed are left out.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import varve

PRODUCTS = ("Keyboard", "Laptop", "Mouse", "Screen")


@varve.event
class OrderPlaced:
    """What a customer, whose number is the stream's id, ordered."""

    order_id: varve.u64
    product: str
    quantity: varve.u32
    amount: varve.u64
    coupon: str | None = None


def orders(count: int) -> Iterator[OrderPlaced]:
    """What was sold, the same each time."""
    for number in range(count):
        coupon = "SPRING" if number % 10 == 0 else None
        yield OrderPlaced(number, PRODUCTS[number * 7 % 4], 1 + number % 3, 100 + number * 37 % 900, coupon)


def fill(stream: varve.Stream[OrderPlaced], count: int) -> None:
    """A hundred customers' orders."""
    stream.append_many([(order.order_id % 100, order) for order in orders(count)])


def with_numpy(reader: varve.StreamReader[OrderPlaced]) -> int:
    """Arrays by name: revenue of everything, and who spent most."""
    import numpy as np

    columns = reader.columns(["quantity", "amount", "$stream_id"])
    revenue = columns["quantity"] * columns["amount"]
    spent = np.bincount(columns["$stream_id"].astype(np.int64), weights=revenue)
    print(f"numpy:  revenue {revenue.sum():,}; customer {spent.argmax()} spent most, {spent.max():,.0f}")
    return int(revenue.sum())


def with_polars(reader: Any) -> int:
    """A data frame of the whole stream."""
    import polars as pl

    frame = pl.DataFrame(reader)
    best = (
        frame.group_by("product")
        .agg((pl.col("quantity") * pl.col("amount")).sum().alias("revenue"))
        .sort("revenue", descending=True)
    )
    print(f"polars: {best['product'][0]} sold best, {best['revenue'][0]:,}")
    return int(best["revenue"].sum())


def with_pandas(reader: Any) -> int:
    """The same in pandas; the time of each event beside it, in batches."""
    import pandas as pd  # pyright: ignore[reportMissingTypeStubs] - it ships no types

    frame: Any = pd.DataFrame.from_arrow(reader.to_arrow(["$time", "coupon", "quantity", "amount"]))
    frame["revenue"] = frame["quantity"] * frame["amount"]
    with_coupon = frame[frame["coupon"].notna()]
    print(f"pandas: {len(with_coupon):,} orders with a coupon, {with_coupon['revenue'].sum():,}")
    return int(frame["revenue"].sum())


def with_duckdb(reader: Any) -> int:
    """SQL over the log: duckdb finds the reader by its name and streams the batches."""
    import duckdb

    assert reader is not None  # named in the query below
    asked: Any = duckdb.sql("SELECT product, sum(quantity * amount) FROM reader GROUP BY product ORDER BY 2 DESC")
    rows = asked.fetchall()
    print(f"duckdb: {', '.join(f'{product} {revenue:,}' for product, revenue in rows)}")
    return sum(int(revenue) for _, revenue in rows)


def main(folder: Path, count: int = 20_000) -> None:
    """Write, then ask the same of everyone."""
    with varve.open(folder) as db:
        stream = db.stream("orders", OrderPlaced)
        fill(stream, count)
        reader = stream.reader()
        expected = with_numpy(reader)
        for package, ask in (("polars", with_polars), ("pandas", with_pandas), ("duckdb", with_duckdb)):
            if importlib.util.find_spec(package) is None:
                print(f"{package}: not installed")
            elif ask(reader) != expected:
                raise SystemExit(f"{package} found another revenue")


if __name__ == "__main__":
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with tempfile.TemporaryDirectory() as temporary:
            main(Path(temporary) / "store")
