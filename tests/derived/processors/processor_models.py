"""Events, handlers that fail on purpose, and processes that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import varve

__all__ = ["Billed", "Biller", "Placed", "Shipped", "billed", "fill", "process", "until"]


@varve.event(name="processors.Placed")
class Placed:
    number: varve.u64


@varve.event(name="processors.Shipped")
class Shipped:
    number: varve.u64


@varve.event(name="processors.Billed")
class Billed:
    number: varve.u64


class Biller:
    """A handler that bills each order, and fails for some after it has billed them: nothing of that may stay."""

    def __init__(self, db: varve.Varve, *bad: int) -> None:
        self.bills = db.stream("bills", Billed)
        self.bad = set(bad)
        self.seen: list[int] = []

    def __call__(self, recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        number = recorded.event.number
        self.seen.append(number)
        tx.append(self.bills, recorded.stream_id, Billed(number))
        if number in self.bad:
            raise ValueError(f"order {number} cannot be billed")


def fill(db: varve.Varve, count: int, ids: int = 5) -> None:
    """So many orders, number n in stream n % ids."""
    orders = db.stream("orders", Placed | Shipped)
    first = sum(1 for _ in orders.reader().iter_all())
    orders.append_many([(n % ids, Placed(n)) for n in range(first, first + count)])


def billed(db: varve.Varve, stream_id: int | None = None) -> list[int]:
    """The orders that were billed, in order, of all streams or of one."""
    reader = db.stream("bills", Billed).reader()
    found = reader.iter_all() if stream_id is None else reader.iter_stream(stream_id)
    return [recorded.event.number for recorded in found]


async def until(is_so: Callable[[], object]) -> None:
    """Let other tasks run until something is so."""
    async with asyncio.timeout(30):
        while not is_so():  # noqa: ASYNC110 - what is waited for has no event
            await asyncio.sleep(0)


@contextlib.contextmanager
def process(body: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Python code in a process of its own, with this module's names; killed at the end."""
    here = str(Path(__file__).parent)
    code = f"import sys\nsys.path.insert(0, {here!r})\nfrom processor_models import *\nimport varve\n{body}"
    running = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        yield running
    finally:
        running.kill()
        running.communicate()
