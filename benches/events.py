"""What is written and read: the same events in every run.

Most cases use orders with four fields (a FlatBuffer of about 60 bytes). ``KINDS`` has events of 24, 240 and 1,000 bytes and the
flights' union: the classes of ``examples/flights_data.py`` with made-up values, so that nothing is downloaded.
"""

from __future__ import annotations

import importlib.util
import random
import sys
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import varve
from varve.codec import event_type

SEED = 336_776

_PRODUCTS = (
    "Laptop", "Mouse", "Mechanical keyboard", "Monitor 27in", "Desk", "Chair", "USB-C cable, 2 m", "Webcam", "Headset", "Dock",
    "Notebook A5", "Pen", "Lamp", "Power strip with six sockets", "Adapter", "Tablet",
)  # fmt: skip


@varve.event
class OrderPlaced:
    """VarveDB's own example event."""

    order_id: varve.u64
    product: str
    quantity: varve.u32
    amount: varve.u64


@lru_cache(maxsize=2)
def orders(count: int) -> list[OrderPlaced]:
    """The first ``count`` orders."""
    generator = random.Random(SEED)
    products = generator.choices(_PRODUCTS, k=count)
    amounts = generator.choices(range(99, 250_000), k=count)
    return [
        OrderPlaced(number, product, 1 + amount % 9, amount)
        for number, (product, amount) in enumerate(zip(products, amounts, strict=True))
    ]


@lru_cache(maxsize=2)
def encoded(count: int) -> list[bytes]:
    """The same orders as FlatBuffers, for the side that is given its payloads ready."""
    return list(map(event_type(OrderPlaced).pack, orders(count)))


def checksum(buffers: Iterable[bytes | memoryview]) -> tuple[int, int]:
    """Number and crc of FlatBuffers in their order."""
    count = crc = 0
    for buffer in buffers:
        count += 1
        crc = zlib.crc32(buffer, crc)
    return count, crc


def amount_total(buffers: Iterable[bytes | memoryview]) -> tuple[int, int]:
    """Number of orders and total of their amounts, decoded from FlatBuffers."""
    view = event_type(OrderPlaced).view
    count = total = 0
    for buffer in buffers:
        count += 1
        total += view(buffer).amount
    return count, total


# -- events of other sizes ---------------------------------------------------------------------------------------------


@varve.event
class Counted:
    """24 bytes: one number."""

    value: varve.u64


@varve.event
class Noted:
    """240 or 1,000 bytes, by the length of its note."""

    order_id: varve.u64
    product: str
    amount: varve.u64
    note: str


@dataclass(frozen=True, slots=True)
class Kind:
    """Events of one size: their classes, the first so many of them, and a name that says the size."""

    name: str
    types: Any
    events: Callable[[int], list[Any]]

    def encoded(self, events: list[Any]) -> list[bytes]:
        """The FlatBuffers of some of them."""
        return [event_type(type(event)).pack(event) for event in events]


def _counted(count: int) -> list[Any]:
    return [Counted(number * 2_654_435_761 % 2**64) for number in range(count)]


_NOTED_OVERHEAD_BYTES = 68  # of a Noted whose product has four letters, beside its note


def _noted(note_bytes: int, count: int) -> list[Any]:
    generator = random.Random(SEED)
    letters = "abcdefghijklmnopqrstuvwxyz "
    notes = ["".join(generator.choices(letters, k=note_bytes)) for _ in range(64)]
    return [
        Noted(number, ("Lamp", "Desk", "Dock")[number % 3], number * 7, notes[number % 64]) for number in range(count)
    ]


@cache
def _flights_data() -> ModuleType:
    """The example's module, by its path: examples are scripts, not a package."""
    path = Path(__file__).parents[1] / "examples" / "flights_data.py"
    spec = importlib.util.spec_from_file_location("benches_flights_data", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # event classes look their annotations up there
    spec.loader.exec_module(module)
    return module


def flights(count: int) -> list[Any]:
    """Flights with made-up values: as many cancelled as there really were (2.5 %), a few that never arrived."""
    data, generator = _flights_data(), random.Random(SEED)
    begin = datetime(2013, 1, 1, 10, tzinfo=UTC)
    made: list[Any] = []
    for number in range(count):
        hour = begin + timedelta(hours=number // 38)
        scheduled = 100 * hour.hour + generator.randrange(60)
        common = {
            "year": 2013, "month": hour.month, "day": hour.day, "sched_dep_time": scheduled,
            "sched_arr_time": (scheduled + 300) % 2400, "carrier": generator.choice(("UA", "AA", "B6", "DL", "EV")),
            "flight": generator.randrange(1, 8_500), "origin": generator.choice(("EWR", "JFK", "LGA")),
            "dest": generator.choice(("IAH", "MIA", "BQN", "ATL", "ORD")), "distance": generator.randrange(80, 4_984),
            "hour": hour.hour, "minute": scheduled % 100, "time_hour": hour,
        }  # fmt: skip
        if generator.random() < 0.025:
            made.append(data.FlightCancelled(**common))
            continue
        delay, arrived = generator.randrange(-20, 180), generator.random() > 0.004
        made.append(
            data.FlightFlown(
                **common,
                dep_time=scheduled,
                dep_delay=delay,
                arr_time=scheduled if arrived else None,
                arr_delay=delay if arrived else None,
                air_time=generator.randrange(20, 695) if arrived else None,
            )
        )
    return made


def _flight_types() -> Any:
    return _flights_data().Flight


@cache
def kinds() -> dict[str, Kind]:
    """The kinds by their names."""
    return {
        "24 bytes": Kind("24 bytes", Counted, _counted),
        "240 bytes": Kind("240 bytes", Noted, lambda count: _noted(240 - _NOTED_OVERHEAD_BYTES, count)),
        "1,000 bytes": Kind("1,000 bytes", Noted, lambda count: _noted(1_000 - _NOTED_OVERHEAD_BYTES, count)),
        "flights": Kind("flights", _flight_types(), flights),
    }
