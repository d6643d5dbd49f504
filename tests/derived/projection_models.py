"""Events, projections of them, and processes that run these."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import varve


@varve.event
class Placed:
    number: varve.u64
    amount: varve.u64


@varve.event
class Paid:
    number: varve.u64


@varve.event
class Noted:
    text: str


SCHEMA = """
CREATE TABLE orders (customer INTEGER PRIMARY KEY, placed INTEGER NOT NULL, amount INTEGER NOT NULL, paid INTEGER DEFAULT 0);
CREATE TABLE log (number INTEGER, what TEXT);  -- no key: what comes twice stands there twice
CREATE INDEX by_amount ON orders (amount);
"""


class Orders(varve.Projection):
    """Both kinds of methods, over three statements."""

    schema = SCHEMA

    @varve.on(
        Placed,
        sql="INSERT INTO orders (customer, placed, amount) VALUES (:customer, 1, :amount) "
        "ON CONFLICT (customer) DO UPDATE SET placed = placed + 1, amount = amount + excluded.amount",
    )
    def placed(self, recorded: varve.Recorded[Placed]) -> dict[str, Any]:
        return {"customer": recorded.stream_id, "amount": recorded.event.amount}

    @varve.on(Paid)
    def paid(self, sql: sqlite3.Connection, recorded: varve.Recorded[Paid]) -> None:
        sql.execute("UPDATE orders SET paid = paid + 1 WHERE customer = ?", (recorded.stream_id,))

    @varve.on(Noted, sql="INSERT INTO log VALUES (?, ?)")
    def noted(self, recorded: varve.Recorded[Noted]) -> tuple[int, str]:
        return recorded.global_sequence, recorded.event.text


class Log(varve.Projection):
    """A row per order, without a key: an event that is applied twice, or not at all, shows."""

    schema = "CREATE TABLE log (number INTEGER, amount INTEGER)"

    @varve.on(Placed, sql="INSERT INTO log VALUES (?, ?)")
    def placed(self, recorded: varve.Recorded[Placed]) -> tuple[int, int]:
        return recorded.event.number, recorded.event.amount


def open_db(path: str | Path, **options: Any) -> varve.Varve:
    """A store without fsync's price."""
    return varve.open(path, durability="relaxed", **options)


def fill(db: varve.Varve, count: int, ids: int = 7, *, batch: int = 50) -> None:
    """So many orders."""
    orders = db.stream("orders", Placed)
    first = db.next_global_sequence
    for start in range(first, first + count, batch):
        numbers = range(start, min(start + batch, first + count))
        orders.append_many([(number % ids, Placed(number, number * 10)) for number in numbers])


def logged(projection: varve.ProjectionHandle) -> list[int]:
    """What ``Log`` holds."""
    return [row.number for row in projection.query("SELECT number FROM log ORDER BY rowid")]


def files_of(projection: varve.ProjectionHandle, ending: str = ".sqlite") -> list[str]:
    """Names of a projection's generations."""
    return sorted(path.name for path in projection.folder.iterdir() if path.name.endswith(ending))


@contextlib.contextmanager
def process(body: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Python code in a process of its own, with this module's names; killed at the end."""
    prelude = f"import sys, os; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom projection_models import *\n"
    with subprocess.Popen(
        [sys.executable, "-c", prelude + body, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def told(running: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert running.stdout is not None
    return running.stdout.readline().strip()


def tell(running: subprocess.Popen[str], line: str = "") -> None:
    """Give a process a line to read."""
    assert running.stdin is not None
    running.stdin.write(line + "\n")
    running.stdin.flush()
