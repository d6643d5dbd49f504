"""SQL projections: events caught up into SQLite, against SQLite fed with rows that are there already; rebuilds."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import varve
from benches.events import OrderPlaced, orders
from benches.goals import GOALS, Goal
from benches.lines import Line, rate_line, speed_line
from benches.pairs import Side, compare
from benches.replay.logs import reading
from benches.workspace import Workspace

CUSTOMERS = 10_000
_SCHEMA = "CREATE TABLE customers (customer INTEGER PRIMARY KEY, placed INTEGER NOT NULL, amount INTEGER NOT NULL)"
_UPSERT = (
    "INSERT INTO customers VALUES (?, 1, ?) "
    "ON CONFLICT (customer) DO UPDATE SET placed = placed + 1, amount = amount + excluded.amount"
)


class Customers(varve.Projection):
    """An upsert per event, by the quick form."""

    schema = _SCHEMA

    @varve.on(OrderPlaced, sql=_UPSERT)
    def placed(self, recorded: varve.Recorded[OrderPlaced]) -> tuple[int, int]:
        """Two fields are read."""
        order = recorded.event
        return order.order_id % CUSTOMERS, order.amount


class Called(varve.Projection):
    """The same by a method that executes."""

    schema = _SCHEMA

    @varve.on(OrderPlaced)
    def placed(self, sql: sqlite3.Connection, recorded: varve.Recorded[OrderPlaced]) -> None:
        """The same fields."""
        order = recorded.event
        sql.execute(_UPSERT, (order.order_id % CUSTOMERS, order.amount))


def _sums(rows: list[Any]) -> tuple[int, ...]:
    return next(map(tuple, rows)) if rows else ()


_SUMS = "SELECT count(*), sum(placed), sum(amount) FROM customers"


def _fed(path: Path, rows: list[tuple[int, int]]) -> tuple[int, ...]:
    """SQLite alone, as a projection uses it: transactions of as many rows."""
    connection = sqlite3.connect(path, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")
        connection.execute(_SCHEMA)
        step = varve.limits.PROJECTION_BATCH_EVENTS_MAX
        for start in range(0, len(rows), step):
            connection.execute("BEGIN IMMEDIATE")
            connection.executemany(_UPSERT, rows[start : start + step])
            connection.execute("COMMIT")
        return _sums(connection.execute(_SUMS).fetchall())


def catch_up(work: Workspace) -> Iterator[Line]:
    """The whole log into a new projection; the same into a new generation of it."""
    count = work.size.events
    rows = [(order.order_id % CUSTOMERS, order.amount) for order in orders(count)]
    rounds = work.size.rounds

    with reading(work.batched()) as (db, _):

        @contextlib.contextmanager
        def folder() -> Iterator[Path]:
            with work.fresh() as path:
                path.mkdir()
                yield path

        def caught_up(path: Path, kind: type[varve.Projection]) -> tuple[int, ...]:
            with db.projection(kind, folder=path / "tables") as projection:
                projection.catch_up()
                return _sums(projection.query(_SUMS))

        fed = Side("executemany", lambda path: _fed(path / "fed.sqlite", rows), lambda _, sums: sums, folder)
        ways = (
            ("rows of parameters (sql=...)", Customers, GOALS["projection-rate"]),
            ("a method that executes", Called, Goal()),
        )
        for way, kind, goal in ways:
            ours = Side(way, lambda path, kind=kind: caught_up(path, kind), lambda _, sums: sums, folder)
            pair = compare(ours, fed, rounds=rounds)
            what = f"catch-up by {way}, an upsert per event into {CUSTOMERS:,} rows, {count:,} events"
            yield rate_line("derived/projections", what, "none", goal, pair.a_s, events=count, unit="events/s")
            what = f"the same against SQLite fed with {count:,} rows that are there already"
            yield speed_line("derived/projections", what, "none", Goal(), pair, events=count)
        with folder() as path, db.projection(Customers, folder=path / "tables") as projection:
            projection.catch_up()
            seconds = []
            for _ in range(rounds):
                began_s = time.perf_counter()
                projection.rebuild()
                seconds.append(time.perf_counter() - began_s)
            what = f"rebuild into a new generation, synchronised and switched to, {count:,} events"
            yield rate_line("derived/projections", what, "full", Goal(), tuple(seconds), events=count, unit="events/s")


CASES = {"derived/projections": catch_up}
"""Projections of the log into SQLite."""
