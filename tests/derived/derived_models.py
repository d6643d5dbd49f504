"""What the tests of derived state share: event classes, an enum, a class that says how it is taken apart."""

from __future__ import annotations

import enum
from typing import Any, Self

import varve


@varve.event(name="derived.Bought")
class Bought:
    product: str
    quantity: varve.u32
    tags: list[str] = ()  # type: ignore[assignment]


@varve.event(name="derived.Paid")
class Paid:
    amount: varve.i64


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


class Rights(enum.IntFlag):
    READ = 1
    WRITE = 2


class Basket:
    """An object of the user's."""

    def __init__(self, items: list[Any]) -> None:
        self.items = items

    def to_snapshot(self) -> dict[str, Any]:
        return {"items": self.items}

    @classmethod
    def from_snapshot(cls, value: dict[str, Any]) -> Self:
        return cls(value["items"])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Basket) and self.items == other.items

    __hash__ = None  # type: ignore[assignment]
