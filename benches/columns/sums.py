"""Columns: one field of every event as an array, against a Python loop over the events and against numpy alone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import varve
from benches.events import OrderPlaced, orders
from benches.goals import GOALS, Goal
from benches.lines import Line, rate_line, speed_line
from benches.pairs import Side, compare
from benches.workspace import BATCH_EVENTS, Workspace

COMMIT_EVENTS = 100 * BATCH_EVENTS


@varve.event
class Payment:
    """An event of 40 bytes, all of them numbers."""

    order_id: varve.u64
    quantity: varve.u32
    amount: varve.u64


def payments(work: Workspace) -> Path:
    """A stream of events of one length."""

    def build(path: Path) -> None:
        with varve.open(path, durability="bulk") as db:
            stream = db.stream("payments", Payment)
            for start in range(0, work.size.events, COMMIT_EVENTS):
                chosen = orders(work.size.events)[start : start + COMMIT_EVENTS]
                stream.append_batch(0, [Payment(one.order_id, one.quantity, one.amount) for one in chosen])

    return work.built("payments", build)


def column_sum(reader: Any) -> int:
    """The sum of a column."""
    return int(reader.columns(["amount"])["amount"].sum())


def loop_sum(reader: Any) -> int:
    """The same by a loop over the events."""
    return sum(recorded.event.amount for recorded in reader.iter_all())


def _kept(state: Any) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    return lambda: contextlib.nullcontext(state)


def _sums(
    work: Workspace, case: str, what: str, path: Path, name: str, cls: Any, goal: Goal, *, first_scan: bool = False
) -> Iterator[Line]:
    """A column's sum against both rivals; ``first_scan``: over blocks that this handle has not checked yet."""
    count, rounds = work.size.events, work.size.rounds

    @contextlib.contextmanager
    def fresh() -> Iterator[Any]:
        with varve.open(path, readonly=True) as db:
            yield db.stream(name, cls).reader()

    with contextlib.ExitStack() as kept:
        reader = kept.enter_context(fresh()) if not first_scan else None
        setup = fresh if first_scan else _kept(reader)
        loop = Side("iter_all", loop_sum, lambda _, total: total, setup)
        ours = Side("columns", column_sum, lambda _, total: total, setup)
        pair = compare(ours, loop, rounds=rounds)
        yield speed_line(case, f"{what}, against a Python loop over iter_all", "none", Goal(), pair, events=count)
        yield rate_line(case, what, "none", goal, pair.a_s, events=count)
        if reader is not None:
            array = reader.columns(["amount"])["amount"]
            bare = Side("numpy", lambda values: int(values.sum()), lambda _, total: total, _kept(array))
            pair = compare(ours, bare, rounds=rounds)
            yield speed_line(case, f"{what}, against numpy's sum of an array", "none", Goal(), pair, events=count)


def fixed(work: Workspace) -> Iterator[Line]:
    """Events of one length, in blocks that were checked before."""
    yield from _sums(
        work,
        "columns/sum-checked",
        "a column of events of 40 bytes",
        payments(work),
        "payments",
        Payment,
        GOALS["sum-checked"],
    )


def first_scan(work: Workspace) -> Iterator[Line]:
    """The same with every block's checksum."""
    yield from _sums(
        work,
        "columns/sum-first",
        "a column of events of 40 bytes, checksums included",
        payments(work),
        "payments",
        Payment,
        GOALS["sum-first"],
        first_scan=True,
    )


def texts(work: Workspace) -> Iterator[Line]:
    """Events with a string, each of its own length."""
    yield from _sums(
        work,
        "columns/sum-strings",
        "a column of events with a string",
        work.batched(),
        "orders",
        OrderPlaced,
        GOALS["sum-strings"],
    )


CASES = {"columns/sum-checked": fixed, "columns/sum-first": first_scan, "columns/sum-strings": texts}
"""Name on the command line -> what measures it."""
