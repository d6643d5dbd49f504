"""Pausing, resuming and stopping what runs in an event loop, from any thread; and waiting there for any of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import asyncio


class Control:
    """What others want of a running processor. ``paused`` and ``stopping`` may be read by any thread."""

    def __init__(self) -> None:
        self.paused = False
        self.stopping = False
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rung: asyncio.Event | None = None

    @property
    def is_wanted(self) -> bool:
        """Whether it shall do anything but go on."""
        return self.paused or self.stopping

    def attach(self) -> None:
        """The running event loop is where it runs."""
        import asyncio

        with self._lock:
            self._loop, self._rung = asyncio.get_running_loop(), asyncio.Event()

    def detach(self) -> None:
        """It does not run any more."""
        with self._lock:
            self._loop = self._rung = None

    def set(self, *, paused: bool | None = None, stopping: bool | None = None) -> None:
        """Say what is wanted, and wake whoever waits."""
        if paused is not None:
            self.paused = paused
        if stopping is not None:
            self.stopping = stopping
        self.ring()

    def ring(self) -> None:
        """Wake whoever waits, so that it looks around."""
        with self._lock:
            if self._loop is not None and self._rung is not None:
                with contextlib.suppress(RuntimeError):  # the loop was closed under it
                    self._loop.call_soon_threadsafe(self._rung.set)

    async def wait(self, *tasks: asyncio.Future[Any]) -> None:
        """Until one of the tasks is done, or somebody rings."""
        import asyncio

        assert self._rung is not None
        ring = asyncio.ensure_future(self._rung.wait())
        try:
            await asyncio.wait({ring, *tasks}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._rung.clear()
            await ended(ring)

    async def pause(self, sleep: Callable[[float], Awaitable[object]], seconds: float) -> None:
        """Sleep for so long, but no longer than until it shall stop."""
        import asyncio

        timer = asyncio.ensure_future(sleep(seconds))
        try:
            while not timer.done() and not self.stopping:
                await self.wait(timer)
            if timer.done():
                timer.result()
        finally:
            await ended(timer)


async def ended(task: asyncio.Future[Any] | None) -> None:
    """Cancel a task, and let it end; its outcome is nobody's concern any more."""
    if task is None:
        return
    import asyncio

    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
