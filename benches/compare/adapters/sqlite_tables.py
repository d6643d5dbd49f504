"""Raw sqlite3: WAL, synchronous=FULL."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benches.compare.peers import Store
from benches.events import OrderPlaced
from varve.codec import event_type


class _Table(Store):
    create: str
    insert: str

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._connection = sqlite3.connect(path / "events.db", isolation_level=None)
        for statement in ("PRAGMA journal_mode=WAL", "PRAGMA synchronous=FULL", self.create):
            self._connection.execute(statement)
        (self._count,) = self._connection.execute("SELECT count(*) FROM events").fetchone()

    def append(self, prepared: Sequence[Any]) -> None:
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        self._connection.executemany(self.insert, self.rows(prepared))
        execute("COMMIT")
        self._count += len(prepared)

    def rows(self, prepared: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        raise NotImplementedError

    def durable(self) -> bool:
        pragmas = [self._connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")]
        return pragmas == ["wal", 2]

    def close(self) -> None:
        self._connection.close()


class Columns(_Table):
    """A column for each field: what one gives up is the schema's own evolution, what one gains is SQL."""

    create = (
        "CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, stream INTEGER, order_id INTEGER, product TEXT,"
        " quantity INTEGER, amount INTEGER)"
    )
    insert = "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?)"

    @classmethod
    def prepare(cls, events: Sequence[OrderPlaced]) -> Sequence[Any]:
        return events

    def rows(self, prepared: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        return (
            (sequence, 0, event.order_id, event.product, event.quantity, event.amount)
            for sequence, event in enumerate(prepared, self._count)
        )

    def amounts(self) -> tuple[int, int]:
        count = total = 0
        # Every column, as a replay gives whole events; one of them is used.
        for row in self._connection.execute("SELECT * FROM events ORDER BY sequence"):
            count += 1
            total += row[5]
        return count, total


class Blobs(_Table):
    """FlatBuffers, and an index that keeps a stream's sequences unique."""

    create = (
        "CREATE TABLE IF NOT EXISTS events (sequence INTEGER PRIMARY KEY, stream INTEGER, stream_sequence INTEGER,"
        " event BLOB, UNIQUE (stream, stream_sequence))"
    )
    insert = "INSERT INTO events VALUES (?, ?, ?, ?)"

    @classmethod
    def prepare(cls, events: Sequence[OrderPlaced]) -> Sequence[Any]:
        return list(map(event_type(OrderPlaced).pack, events))

    def rows(self, prepared: Sequence[Any]) -> Iterator[tuple[Any, ...]]:
        return ((sequence, 0, sequence, event) for sequence, event in enumerate(prepared, self._count))

    def amounts(self) -> tuple[int, int]:
        view, count, total = event_type(OrderPlaced).view, 0, 0
        for _, _, _, event in self._connection.execute("SELECT * FROM events ORDER BY sequence"):
            count += 1
            total += view(event).amount
        return count, total
