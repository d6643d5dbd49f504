"""A small store with believable events, to look around in."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any, Final, NamedTuple

from varve import types
from varve.codec import event
from varve.engine.files import folder
from varve.errors import Conflict
from varve.store import Varve
from varve.stream import Stream

ORDERS: Final = 240
_WEEK_NS: Final = 7 * 24 * 3600 * 10**9
_HOUR_NS: Final = 3600 * 10**9
_PRODUCTS: Final = (
    ("Espresso cup", 1_250),
    ("Moka pot", 3_490),
    ("Hand grinder", 8_900),
    ("Filter papers", 420),
    ("Kettle", 5_990),
    ("Beans, 1 kg", 2_390),
)
_CITIES: Final = ("Aarhus", "Basel", "Gdańsk", "Kraków", "Lyon", "Malmö", "Porto", "Zürich")
_CARRIERS: Final = ("DHL", "DPD", "Post")
_REASONS: Final = ("changed my mind", "ordered twice", "too slow")


class Method(IntEnum):
    """How an order is paid."""

    CARD = 0
    INVOICE = 1
    TRANSFER = 2


@event(name="shop.Line")
class Line:
    """One position of an order."""

    product: str
    quantity: types.u32
    cents: types.u64


@event(name="shop.OrderPlaced")
class OrderPlaced:
    """Somebody ordered."""

    order_id: types.u64
    customer: str
    city: str
    lines: tuple[Line, ...]


@event(name="shop.OrderShipped")
class OrderShipped:
    """It is on its way."""

    order_id: types.u64
    carrier: str


@event(name="shop.OrderCancelled")
class OrderCancelled:
    """It will not be sent."""

    order_id: types.u64
    reason: str | None = None


@event(name="shop.PaymentReceived")
class PaymentReceived:
    """Money came in."""

    order_id: types.u64
    method: Method
    cents: types.u64


class _Happening(NamedTuple):
    """What happens, in order of time."""

    time_ns: int
    order_id: int
    stream: str
    stream_id: int | str
    event: Any


def make_demo(path: str | os.PathLike[str], *, now_ns: int | None = None) -> int:
    """Make a store with a week of orders and payments of a small shop; how many events it has.

    Every run makes the same events, the last of them now (``now_ns``: nanoseconds since 1970, for tests). Raises ``Conflict``
    where the folder is there and not empty, and what ``varve.open`` raises.
    """
    place = Path(folder(path))
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise Conflict(f"{place} is there already and not empty; name a new folder")
    happenings = sorted(_happenings(random.Random(7)))  # noqa: S311 - not for secrets
    behind_ns = (time.time_ns() if now_ns is None else now_ns) - happenings[-1].time_ns
    was_there = place.exists()
    try:
        _fill(place, happenings, behind_ns)
    except BaseException:  # an interrupt, a full disk: half a demo is none
        _remove(place, itself=not was_there)
        raise
    return len(happenings)


def _remove(place: Path, *, itself: bool) -> None:
    """Take back what was begun; the store is closed by now."""
    for found in place.glob("*"):
        if found.is_dir():
            shutil.rmtree(found, ignore_errors=True)
        else:
            found.unlink(missing_ok=True)
    if itself and place.exists():
        place.rmdir()


def _fill(place: Path, happenings: list[_Happening], behind_ns: int) -> None:
    clock = _Clock()
    with Varve(place, durability="bulk", clock=clock) as db:
        streams: dict[str, Stream[Any]] = {
            "orders": db.stream("orders", OrderPlaced | OrderShipped | OrderCancelled),
            "payments": db.stream("payments", PaymentReceived),
        }
        for one in happenings:
            clock.now_ns = one.time_ns + behind_ns
            stream = streams[one.stream]
            stream.append(one.stream_id, one.event, metadata={"correlation": f"order-{one.order_id}"})


class _Clock:
    """Shows what it is set to."""

    now_ns = 0

    def __call__(self) -> int:
        return self.now_ns


def _happenings(chance: random.Random) -> Iterator[_Happening]:
    for number in range(1, ORDERS + 1):
        # More in the evening than at night: a day of orders leans towards its end.
        day, hour = chance.randrange(7), chance.triangular(0, 24, 20)
        at = int((day * 24 + hour) * _HOUR_NS)
        customer = f"customer-{chance.randrange(60):03}"
        chosen = [(chance.choice(_PRODUCTS), chance.randint(1, 4)) for _ in range(chance.choice((1, 1, 1, 2, 3)))]
        lines = tuple(Line(product, quantity, price * quantity) for (product, price), quantity in chosen)
        yield _Happening(at, number, "orders", number, OrderPlaced(number, customer, chance.choice(_CITIES), lines))
        if chance.random() < 0.08:
            reason = chance.choice((*_REASONS, None))
            cancelled_at = at + int(chance.uniform(0.1, 6) * _HOUR_NS)
            yield _Happening(cancelled_at, number, "orders", number, OrderCancelled(number, reason))
            continue
        cents = sum(line.cents for line in lines)
        paid_at = at + int(chance.expovariate(1 / 2) * _HOUR_NS)
        payment = PaymentReceived(number, chance.choice(tuple(Method)), cents)
        yield _Happening(paid_at, number, "payments", customer, payment)
        shipped_at = paid_at + int(chance.uniform(2, 30) * _HOUR_NS)
        yield _Happening(shipped_at, number, "orders", number, OrderShipped(number, chance.choice(_CARRIERS)))
