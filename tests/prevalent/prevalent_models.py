"""A bank as a prevalent system: commands that may be refused, that fail, and that carry time and chance."""

from __future__ import annotations

import dataclasses
import random
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

import varve

__all__ = ["Bank", "Deposit", "Draw", "Explode", "Refused", "Transfer", "balances", "bank", "open_db"]


class Refused(Exception):
    """What a check raises."""


class Bank:
    """State with an object of the user's own."""

    def __init__(self) -> None:
        self.accounts: dict[str, int] = {}
        self.closed: set[str] = set()
        self.drawn: list[int] = []

    def to_snapshot(self) -> Any:
        return self.accounts, self.closed, self.drawn

    @classmethod
    def from_snapshot(cls, value: Any) -> Self:
        bank = cls()
        bank.accounts, bank.closed, bank.drawn = value
        return bank


@varve.event
class Deposit:
    account: str
    amount: varve.u64

    def apply(self, bank: Bank) -> int:
        bank.accounts[self.account] = balance = bank.accounts.get(self.account, 0) + self.amount
        return balance


@varve.event
class Transfer:
    source: str
    target: str
    amount: varve.u64

    def check(self, bank: Bank) -> None:
        if bank.accounts.get(self.source, 0) < self.amount:
            raise Refused(f"{self.source} has too little")

    def apply(self, bank: Bank) -> tuple[int, int]:
        bank.accounts[self.source] -= self.amount
        bank.accounts[self.target] = bank.accounts.get(self.target, 0) + self.amount
        return bank.accounts[self.source], bank.accounts[self.target]


@varve.event
class Explode:
    """Changes the state, and then fails."""

    account: str

    def apply(self, bank: Bank) -> None:
        bank.accounts.clear()
        bank.closed.add(self.account)
        raise RuntimeError(f"boom: {self.account}")


@varve.event
class Draw:
    """Time and chance are the command's."""

    seed: varve.u64
    at: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))

    def apply(self, bank: Bank) -> int:
        number = random.Random(self.seed + self.at.microsecond).randrange(1_000_000)
        bank.drawn.append(number)
        return number


def open_db(path: str | Path) -> varve.Varve:
    """A store without fsync's price."""
    return varve.open(path, durability="relaxed")


def bank(store: varve.Varve | str | Path, **options: Any) -> varve.PrevalentSystem[Bank]:
    """The system."""
    return varve.PrevalentSystem(store, "bank", initial=Bank, commands=[Deposit, Transfer, Explode, Draw], **options)


def balances(system: varve.PrevalentSystem[Bank]) -> dict[str, int]:
    """Who has what."""
    return system.query(lambda state: dict(state.accounts))
