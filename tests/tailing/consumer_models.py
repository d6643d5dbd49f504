"""Events for consumers, stores for their tests, and processes that consume."""

from __future__ import annotations

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncIterable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import varve

T = TypeVar("T")


@varve.event
class Placed:
    number: varve.u64


@varve.event
class Billed:
    order: varve.u64


def open_db(path: str | Path) -> varve.Varve:
    """A store without fsync's price."""
    return varve.open(path, durability="relaxed")


def fill(db: varve.Varve, count: int, ids: int = 7) -> list[int]:
    """Append so many orders to so many streams, in commits of their own; their sequences."""
    orders = db.stream("orders", Placed)
    first = db.next_global_sequence
    return [orders.append((first + n) % ids, Placed(first + n)).global_sequence for n in range(count)]


def there(consumer: varve.Consumer[Any]) -> list[int]:
    """Sequences of everything that is there for it now."""
    return [recorded.global_sequence for recorded in consumer.follow(0)]


async def take(events: AsyncIterable[T], count: int) -> list[T]:
    """The first so many; the iterator stays usable."""
    taken: list[T] = []
    if count:
        async for event in events:
            taken.append(event)
            if len(taken) == count:
                break
    return taken


async def settle(turns: int = 20) -> None:
    """Let other tasks run until they wait."""
    for _ in range(turns):
        await asyncio.sleep(0)


@contextlib.contextmanager
def consuming(body: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Python code in a process of its own, with this module's names; killed at the end."""
    prelude = (
        f"import asyncio, os, sys; sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "from consumer_models import *\n"
        "import varve\n"
    )
    with subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", prelude + body, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def told(running: subprocess.Popen[str]) -> str:
    """The next line that a process prints."""
    assert running.stdout is not None
    return running.stdout.readline().strip()
