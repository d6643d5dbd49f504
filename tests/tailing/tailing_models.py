"""Events, a loop that runs by hand, and writers in other processes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterable, Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import varve

T = TypeVar("T")


@varve.event
class Placed:
    number: varve.u64
    product: str = ""


@varve.event
class Shipped:
    number: varve.u64


@varve.event
class Paid:
    number: varve.u64


class ManualLoop:
    """As much of an event loop as tasks and futures need; callbacks run when a test says so."""

    def __init__(self) -> None:
        self.ready: deque[tuple[Any, Callable[..., object], tuple[Any, ...]]] = deque()
        self.calls = 0
        self.closed = False

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self.closed

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)  # type: ignore[arg-type]

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Any = None) -> None:
        self.ready.append((context, callback, args))

    def call_soon_threadsafe(self, callback: Callable[..., object], *args: Any) -> None:
        if self.closed:
            raise RuntimeError("Event loop is closed")
        self.calls += 1
        self.ready.append((None, callback, args))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise AssertionError(context)

    def task(self, coroutine: Any) -> asyncio.Task[Any]:
        return asyncio.Task(coroutine, loop=self)  # type: ignore[arg-type]

    def run_one(self) -> None:
        """The oldest callback."""
        context, callback, args = self.ready.popleft()
        asyncio._set_running_loop(self)  # type: ignore[arg-type]
        try:
            if context is None:
                callback(*args)
            else:
                context.run(callback, *args)
        finally:
            asyncio._set_running_loop(None)

    def run_all(self) -> None:
        """Until nothing is left to do."""
        while self.ready:
            self.run_one()


async def take(events: AsyncIterable[T], count: int) -> list[T]:
    """The first so many; the iterator stays usable."""
    taken: list[T] = []
    async for event in events:
        taken.append(event)
        if len(taken) == count:
            break
    return taken


@contextlib.contextmanager
def process(body: str, *arguments: object) -> Iterator[subprocess.Popen[str]]:
    """Python code in a process of its own, with this module's names; killed at the end."""
    prelude = (
        f"import sys, time, os; sys.path.insert(0, {str(Path(__file__).parent)!r})\nfrom tailing_models import *\n"
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


def tell(running: subprocess.Popen[str], line: str = "") -> None:
    """Give a process a line to read."""
    assert running.stdin is not None
    running.stdin.write(line + "\n")
    running.stdin.flush()


def is_watching(path: str | Path) -> bool:
    """Whether this process has a socket for hints in a store."""
    return any(Path(path).glob(f"watch/{os.getpid()}-*"))


def say(word: object) -> None:
    """In a process: a line for ``told``."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


def run_writer() -> None:
    """In a process: append one event per line read, numbered by the log, and say so. The path is the first argument."""
    with varve.open(sys.argv[1], durability="relaxed") as db:
        orders = db.stream("orders", Placed | Shipped)
        for _ in sys.stdin:
            say(orders.append(1, Placed(db.next_global_sequence)).global_sequence)
