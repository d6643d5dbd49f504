"""What is written and read: orders with four fields, the same ones in every run."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterable
from functools import lru_cache

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
