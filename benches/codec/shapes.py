"""What the codec's cases encode and read: a flat event, a nested one with vectors, one with twenty optional fields."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any

import varve
from benches.events import SEED, OrderPlaced, orders


class Channel(IntEnum):
    """Where an order came from."""

    WEB = 0
    SHOP = 1
    PHONE = 2


@varve.struct
class Place:
    """A point on the map."""

    latitude: float
    longitude: float


@varve.event
class Item:
    """One line of an order."""

    sku: str
    quantity: varve.u32
    price: varve.u64


@varve.event
class Card:
    """Paid by card."""

    number: str
    expires: varve.u32


@varve.event
class Transfer:
    """Paid through a bank."""

    iban: str


@varve.event
class OrderConfirmed:
    """The nested event: tables in a vector, a vector of numbers, a string, a struct, an enum and a union."""

    order_id: varve.u64
    customer: str
    channel: Channel
    place: Place
    items: list[Item]
    discounts: list[varve.u32]
    payment: Card | Transfer


@varve.event
class Measured:
    """Twenty optional fields: fourteen numbers and six strings."""

    sensor: varve.u64 | None = None
    site: str | None = None
    unit: str | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    error: varve.f32 | None = None
    samples: varve.u32 | None = None
    dropped: varve.u32 | None = None
    operator: str | None = None
    battery: varve.u8 | None = None
    signal: varve.i8 | None = None
    channel: varve.u16 | None = None
    offset: varve.i32 | None = None
    calibrated: bool | None = None
    manual: bool | None = None
    taken_at: int | None = None
    firmware: str | None = None
    batch: str | None = None
    note: str | None = None


_NAMES = (
    "Ada",
    "Grace Hopper",
    "Jos\u00e9",
    "Katherine Johnson",
    "Linus",
    "M\u00fcller & S\u00f6hne",
    "Bo",
    "Anna-Lena Schmidt",
)
_UNITS = ("K", "kPa", "m/s", "lux", "percent")


def _confirmed(generator: random.Random, number: int) -> OrderConfirmed:
    def item() -> Item:
        sku = f"sku-{generator.randrange(10 ** generator.randrange(1, 9))}"
        return Item(sku, generator.randrange(1, 9), generator.randrange(250_000))

    items = [item() for _ in range(generator.randrange(1, 6))]
    discounts = [generator.randrange(10_000) for _ in range(generator.randrange(13))]
    payment: Card | Transfer = Card(f"{generator.randrange(10**16):016d}", generator.randrange(200_000, 210_000))
    if generator.random() < 0.5:
        payment = Transfer(f"DE{generator.randrange(10**20):020d}")
    place = Place(generator.uniform(-90, 90), generator.uniform(-180, 180))
    return OrderConfirmed(
        number, generator.choice(_NAMES), generator.choice(list(Channel)), place, items, discounts, payment
    )


def _measured(generator: random.Random, number: int) -> Measured:
    real = generator.random
    everything: dict[str, Any] = {
        "sensor": number,
        "site": generator.choice(_NAMES),
        "unit": generator.choice(_UNITS),
        "value": real(),
        "low": -real(),
        "high": 100 * real(),
        "error": real(),
        "samples": generator.randrange(1, 100_000),
        "dropped": generator.randrange(100),
        "operator": generator.choice(_NAMES),
        "battery": generator.randrange(101),
        "signal": generator.randrange(-120, 0),
        "channel": generator.randrange(2**16),
        "offset": generator.randrange(-(2**31), 2**31),
        "calibrated": real() < 0.5,
        "manual": real() < 0.5,
        "taken_at": generator.randrange(2**62),
        "firmware": f"{generator.randrange(20)}.{generator.randrange(20)}.{generator.randrange(200)}",
        "batch": f"batch {generator.randrange(10 ** generator.randrange(1, 9))}",
        "note": "x" * generator.randrange(40),
    }
    # Any of a million masks: none of them is met often enough for a cache to know it.
    return Measured(**{name: value for name, value in everything.items() if real() < 0.5})


@lru_cache(maxsize=2)
def confirmed(count: int) -> list[OrderConfirmed]:
    """The nested events."""
    generator = random.Random(SEED)
    return [_confirmed(generator, number) for number in range(count)]


@lru_cache(maxsize=2)
def measured(count: int) -> list[Measured]:
    """The events with optional fields."""
    generator = random.Random(SEED)
    return [_measured(generator, number) for number in range(count)]


# -- every value of an event, of ours or of somebody else's with the same attributes ---------------------------------


def flat_values(event: Any) -> tuple[Any, ...]:
    """Of an OrderPlaced."""
    return event.order_id, event.product, event.quantity, event.amount


def nested_values(event: Any) -> tuple[Any, ...]:
    """Of an OrderConfirmed."""
    place, payment, discounts = event.place, event.payment, event.discounts
    return (
        event.order_id,
        event.customer,
        event.channel,
        place.latitude,
        place.longitude,
        [(item.sku, item.quantity, item.price) for item in event.items],
        discounts.tolist() if type(discounts) is memoryview else list(discounts),
        (payment.iban,) if type(payment).__name__ == "Transfer" else (payment.number, payment.expires),
    )


def optional_values(e: Any) -> tuple[Any, ...]:
    """Of a Measured."""
    return (
        e.sensor, e.site, e.unit, e.value, e.low, e.high, e.error, e.samples, e.dropped, e.operator,
        e.battery, e.signal, e.channel, e.offset, e.calibrated, e.manual, e.taken_at, e.firmware, e.batch, e.note,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shape:
    """One of the three events: its class, the events, and the values of one of them."""

    name: str
    what: str
    cls: Any
    events: Callable[[int], list[Any]]
    values: Callable[[Any], tuple[Any, ...]]


FLAT = Shape("flat", "four fields, one of them a string", OrderPlaced, orders, flat_values)
NESTED = Shape("nested", "tables in a vector, numbers, struct, enum, union", OrderConfirmed, confirmed, nested_values)
OPTIONALS = Shape("optionals", "twenty optional fields, half of them present", Measured, measured, optional_values)


def checksum(values: Iterable[tuple[Any, ...]]) -> tuple[int, int]:
    """Number and crc of tuples of values; an enum's member counts as its number, as other decoders give it."""
    count = crc = 0
    for each in values:
        count += 1
        plain = [int(value) if isinstance(value, IntEnum) else value for value in each]
        crc = zlib.crc32(repr(plain).encode(), crc)
    return count, crc
