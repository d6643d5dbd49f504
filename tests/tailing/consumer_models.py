"""Events for consumers, stores for their tests, and processes that consume."""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

from tailing_models import process, take, told

import varve

__all__ = ["Billed", "Placed", "consuming", "fill", "open_db", "settle", "take", "there", "told"]


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


async def settle(turns: int = 20) -> None:
    """Let other tasks run until they wait."""
    for _ in range(turns):
        await asyncio.sleep(0)


def consuming(body: str, *arguments: object) -> AbstractContextManager[subprocess.Popen[str]]:
    """Python code in a process of its own, with this module's names; killed at the end."""
    return process("import asyncio\nfrom consumer_models import *\nimport varve\n" + body, *arguments)
