"""Three generations of an event type, each of which evolution would refuse as a change of the one before."""

from __future__ import annotations

import itertools
from typing import Any

import varve


@varve.event(name="upcasts.Order")
class OrderV1:
    order_id: varve.u64
    product: str


@varve.event(name="upcasts.Order.v2")
class OrderV2:
    order_id: varve.u64
    products: tuple[str, ...]


@varve.event(name="upcasts.Order.v3")
class Order:
    order_id: str
    products: tuple[str, ...]
    paid: bool


@varve.event(name="upcasts.Other")
class Other:
    number: varve.u32


RUNS: list[str] = []
"""Which upcasts ran."""


@varve.upcast(OrderV1, OrderV2)
def one_product_to_several(old: OrderV1) -> OrderV2:
    RUNS.append("v1")
    if old.product == "bad":
        raise ValueError("no such product")
    return OrderV2(old.order_id, (old.product,))


@varve.upcast(OrderV2, Order)
def number_to_text(old: OrderV2) -> Order:
    RUNS.append("v2")
    return Order(f"#{old.order_id}", tuple(old.products), paid=True)


_numbers = itertools.count()


def fresh(*annotations: dict[str, Any]) -> list[Any]:
    """Event classes of names that no other test has."""
    number = next(_numbers)
    return [
        varve.event(name=f"upcasts.Fresh{number}.v{version}")(
            type(f"Fresh{version}", (), {"__annotations__": fields, "__module__": __name__})
        )
        for version, fields in enumerate(annotations, 1)
    ]
