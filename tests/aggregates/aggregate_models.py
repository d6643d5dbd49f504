"""An account: events, a frozen state, commands as functions of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any, Self

import varve


@varve.event(name="aggregates.Opened")
class Opened:
    owner: str


@varve.event(name="aggregates.Deposited")
class Deposited:
    amount: varve.u32


@varve.event(name="aggregates.Withdrawn")
class Withdrawn:
    amount: varve.u32


AccountEvent = Opened | Deposited | Withdrawn


class Refused(Exception):
    """What decide raises."""


@dataclasses.dataclass(frozen=True)
class Account:
    owner: str = ""
    balance: int = 0
    history: tuple[str, ...] = ()

    def to_snapshot(self) -> dict[str, Any]:
        return {"owner": self.owner, "balance": self.balance, "history": list(self.history)}

    @classmethod
    def from_snapshot(cls, value: dict[str, Any]) -> Self:
        return cls(value["owner"], value["balance"], tuple(value["history"]))


@dataclasses.dataclass(frozen=True)
class Withdraw:
    amount: int


@dataclasses.dataclass(frozen=True)
class Deposit:
    amount: int


Command = Deposit | Withdraw | Callable[[Account], Any]


def evolve(state: Account, event: AccountEvent) -> Account:
    """The state after an event: order matters, so that one left out or taken twice shows."""
    history = (*state.history, type(event).__name__[:3])
    match event:
        case Opened(owner):
            return Account(owner, state.balance, history)
        case Deposited(amount):
            return Account(state.owner, state.balance * 2 + amount, history)
        case Withdrawn(amount):
            return Account(state.owner, state.balance - amount, history)


def decide(state: Account, command: Command) -> Iterable[AccountEvent] | AccountEvent | None:
    """Events for a command."""
    match command:
        case Deposit(amount):
            return [Deposited(amount)] if amount else None
        case Withdraw(amount):
            if amount > state.balance:
                raise Refused(f"only {state.balance} there")
            return Withdrawn(amount)
        case _:
            return command(state)  # type: ignore[no-any-return]


decider: varve.Decider[Account, Command, AccountEvent] = varve.Decider(Account, evolve, decide)
