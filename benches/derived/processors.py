"""Processors: events a second through handlers that do nothing, change state, or append, each commit durable."""

from __future__ import annotations

import contextlib
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import varve
from benches.events import OrderPlaced, orders
from benches.goals import GOALS, Goal
from benches.lines import Line, rate_line
from benches.workspace import BATCH_EVENTS, Workspace

EVENTS_MAX = 100_000
CUSTOMERS = 1_000


@varve.event(name="bench.OrderBilled")
class OrderBilled:
    """What a handler appends."""

    order_id: varve.u64


def _nothing(_recorded: varve.Recorded[OrderPlaced], _tx: varve.Transaction) -> None:
    """What a processor costs by itself."""


def _total(_recorded: varve.Recorded[OrderPlaced], tx: varve.Transaction) -> None:
    tx.state.add("placed", 1)


def _per_customer(recorded: varve.Recorded[OrderPlaced], tx: varve.Transaction) -> None:
    order = recorded.event
    tx.state.add(("customer", order.order_id % CUSTOMERS), order.amount)


async def _awaited(_recorded: varve.Recorded[OrderPlaced], _tx: varve.Transaction) -> None:
    """A handler that might wait."""


@contextlib.contextmanager
def _filled(work: Workspace, count: int) -> Iterator[varve.Varve]:
    with work.fresh() as path:
        with varve.open(path, durability="bulk") as db:
            stream, events = db.stream("orders", OrderPlaced), orders(count)
            for start in range(0, count, BATCH_EVENTS):
                stream.append_batch(0, events[start : start + BATCH_EVENTS])
        with varve.open(path) as db:
            yield db


def catch_up(work: Workspace) -> Iterator[Line]:
    """A whole log through a new processor, a mapping with one sync handler, nothing failing."""
    count = min(work.size.events, EVENTS_MAX)
    numbers = itertools.count()

    with _filled(work, count) as db:
        bills = db.stream("bills", OrderBilled)

        def bill(recorded: varve.Recorded[OrderPlaced], tx: varve.Transaction) -> None:
            tx.append(bills, 0, OrderBilled(recorded.event.order_id))

        def seconds(handler: Callable[..., Any]) -> float:
            processor = db.processor(f"bench-{next(numbers)}", {OrderPlaced: handler})
            began_s = time.perf_counter()
            handled = processor.catch_up_blocking()
            took_s = time.perf_counter() - began_s
            assert handled == count
            return took_s

        ways: tuple[tuple[str, Callable[..., Any], Goal], ...] = (
            ("does nothing", _nothing, Goal()),
            ("adds to one number of state", _total, GOALS["processor-rate"]),
            (f"adds to one of {CUSTOMERS:,} numbers of state", _per_customer, Goal()),
            ("appends an event", bill, Goal()),
            ("is async, and does nothing", _awaited, Goal()),
        )
        for way, handler, goal in ways:
            rounds = tuple(seconds(handler) for _ in range(work.size.rounds))
            what = f"a processor whose handler {way}, {count:,} events"
            yield rate_line("derived/processors", what, "full", goal, rounds, events=count, unit="events/s")


CASES = {"derived/processors": catch_up}
"""Processors that catch up."""
