"""Event classes of the tests of the store, and what the tests ask about a store again and again."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from uuid import UUID

import pytest

import varve


class Shelf(IntEnum):
    FRONT = 1
    BACK = 2


@varve.event
class OrderPlaced:
    order_id: varve.u64
    product: str
    quantity: varve.u32
    amount: varve.u64


@varve.event
class OrderShipped:
    order_id: varve.u64
    carrier: str


@varve.event
class Blob:
    data: bytes


@varve.event
class Wide:
    """One field of most kinds, for events as values."""

    flag: bool
    small: varve.i8
    ratio: varve.f32
    measure: float
    text: str
    data: bytes
    when: datetime
    ident: UUID
    price: Decimal
    shelf: Shelf
    tags: tuple[str, ...]
    numbers: tuple[varve.i32, ...]
    nested: OrderShipped
    note: str | None = None


def placed(number: int, product: str = "Laptop") -> OrderPlaced:
    """An order whose every field tells its number."""
    return OrderPlaced(number, product, number % 7 + 1, number * 100)


def shipped(number: int, carrier: str = "DHL") -> OrderShipped:
    return OrderShipped(number, carrier)


def everything(db: varve.Varve) -> list[tuple[object, ...]]:
    """The whole log as plain values: what a test compares before and after."""
    return [
        (r.global_sequence, r.stream, r.stream_id, r.stream_sequence, varve.owned(r.event), r.metadata)
        for r in db.global_reader().iter_from(0)
    ]


@contextlib.contextmanager
def refused(db: varve.Varve, error: type[BaseException], match: str | None = None) -> Iterator[pytest.ExceptionInfo]:
    """Inside, ``error`` is raised; nothing was written by it, and the store can be used afterwards."""
    before, streams = db.next_global_sequence, db.stats().streams
    log = everything(db)
    with pytest.raises(error, match=match) as info:
        yield info
    assert isinstance(info.value, varve.VarveError)
    assert db.next_global_sequence == before
    assert db.stats().streams == streams
    assert everything(db) == log
    after = db.stream("usable", OrderPlaced)
    position = after.append("afterwards", placed(1))
    assert position.global_sequence == before
    assert after.reader().get("afterwards", position.stream_sequence) == placed(1)
