"""A clock that tests set."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio


class ManualClock:
    """Nanoseconds since 1970 that move when told to; pass it as ``varve.open(..., clock=...)``.

    Whoever awaits ``sleep`` wakes when the clock has been moved so far: pass it as ``db.processor(..., sleep=clock.sleep)``.
    """

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = start_ns
        self._lock = threading.Lock()
        self._sleepers: list[tuple[int, asyncio.AbstractEventLoop, asyncio.Future[None]]] = []

    def __call__(self) -> int:
        """The time."""
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Move by so many seconds, backwards too (a store's times never follow it there). Any thread may."""
        with self._lock:
            self.now_ns += round(seconds * 1_000_000_000)
            due = [sleeper for sleeper in self._sleepers if sleeper[0] <= self.now_ns]
            self._sleepers = [sleeper for sleeper in self._sleepers if sleeper[0] > self.now_ns]
        for _, loop, woken in due:
            with contextlib.suppress(RuntimeError):  # its loop has been closed
                loop.call_soon_threadsafe(_wake, woken)

    async def sleep(self, seconds: float) -> None:
        """Wait until the clock has been moved by so many seconds; for 0 not at all."""
        import asyncio

        loop = asyncio.get_running_loop()
        woken = loop.create_future()
        with self._lock:
            sleeper = (self.now_ns + round(seconds * 1_000_000_000), loop, woken)
            if sleeper[0] > self.now_ns:
                self._sleepers.append(sleeper)
            else:
                woken.set_result(None)
        try:
            await woken
        finally:
            with self._lock:
                self._sleepers = [other for other in self._sleepers if other is not sleeper]

    @property
    def sleeping(self) -> tuple[float, ...]:
        """Seconds that are left of each sleep that somebody awaits, the shortest first."""
        with self._lock:
            return tuple(sorted((until_ns - self.now_ns) / 1e9 for until_ns, _, _ in self._sleepers))


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
