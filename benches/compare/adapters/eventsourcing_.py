"""eventsourcing on SQLite: its recorder, which is handed bytes, and its Application, which makes them of aggregates' events."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import UUID

from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import Notification, StoredEvent
from eventsourcing.sqlite import SQLiteApplicationRecorder, SQLiteDatastore

from benches.compare.peers import Store
from benches.events import OrderPlaced
from varve.codec import event_type

_PAGE_EVENTS = 1_000
_STREAM = UUID(int=1)


def _pages(recorder: Any) -> Iterator[Sequence[Notification]]:
    """Everything, a page at a time, as its followers read."""
    start: int | None = None
    while page := recorder.select_notifications(start, _PAGE_EVENTS, inclusive_of_start=False):
        yield page
        start = page[-1].id


def _durable(datastore: Any) -> bool:
    with datastore.transaction(commit=False) as cursor:
        found = []
        for name in ("journal_mode", "synchronous"):
            cursor.execute(f"PRAGMA {name}")
            found.append(cursor.fetchone()[0])
    return found == ["wal", 2]


class Recorder(Store):
    """The layer that stores: stored events made before, states that are FlatBuffers encoded before."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._datastore = SQLiteDatastore(str(path / "events.db"))
        self._recorder = SQLiteApplicationRecorder(self._datastore)
        self._recorder.create_table()

    @classmethod
    def prepare(cls, events: Sequence[OrderPlaced]) -> Sequence[Any]:
        pack = event_type(OrderPlaced).pack
        return [
            StoredEvent(_STREAM, version, "orders:OrderPlaced", pack(event)) for version, event in enumerate(events, 1)
        ]

    def append(self, prepared: Sequence[Any]) -> None:
        self._recorder.insert_events(prepared)

    def amounts(self) -> tuple[int, int]:
        view, count, total = event_type(OrderPlaced).view, 0, 0
        for page in _pages(self._recorder):
            for notification in page:
                count += 1
                total += view(notification.state).amount
        return count, total

    def durable(self) -> bool:
        return _durable(self._datastore)

    def close(self) -> None:
        self._datastore.close()


class Orders(Aggregate):
    """Orders in one sequence, as the library's own examples write an aggregate."""

    def __init__(self) -> None:
        self.amount = 0

    @event("Placed")
    def place(self, order_id: int, product: str, quantity: int, amount: int) -> None:  # noqa: ARG002 - the event's fields
        self.amount = amount


class ApplicationStore(Store):
    """The layer that its users see: commands make events, ``save`` stores them as JSON, a mapper gives them back."""

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        environment = {"PERSISTENCE_MODULE": "eventsourcing.sqlite", "SQLITE_DBNAME": str(path / "events.db")}
        self._application: Any = Application(env=environment)
        self._orders = Orders()
        self._application.save(self._orders)  # it begins with an event of its own

    @classmethod
    def prepare(cls, events: Sequence[OrderPlaced]) -> Sequence[Any]:
        return events

    def append(self, prepared: Sequence[Any]) -> None:
        place = self._orders.place
        for one in prepared:
            place(one.order_id, one.product, one.quantity, one.amount)
        self._application.save(self._orders)

    def amounts(self) -> tuple[int, int]:
        to_event, count, total = self._application.mapper.to_domain_event, 0, 0
        for page in _pages(self._application.recorder):
            for notification in page:
                found = to_event(notification)
                if isinstance(found, Orders.Placed):  # type: ignore[attr-defined]
                    count += 1
                    total += found.amount
        return count, total

    def durable(self) -> bool:
        return _durable(self._application.factory.datastore)

    def close(self) -> None:
        self._application.close()
