"""When commands become durable, and what a crash may take."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from typing import Literal

from varve import limits
from varve.errors import InvalidInput

Flush = Literal["commit", "manual"] | float | dt.timedelta
"""``"commit"``: a command is durable when ``execute`` returns; nothing that was acknowledged is ever lost. A number of
seconds (or a timedelta): commands are written together, at the latest so long after the first of them; a crash may take the
commands of that time. ``"manual"``: they are written by ``flush()``, ``snapshot()`` and ``close()``, and where very many
wait; a crash may take all since."""


class Flushing:
    """A flush policy at work: says when what waits is due, and calls somebody then. Used under the system's lock."""

    def __init__(self, flush: Flush, clock: Callable[[], int]) -> None:
        self.is_immediate = flush == "commit"
        self._interval_ns = None if isinstance(flush, str) else _nanoseconds(flush)
        if isinstance(flush, str) and flush not in {"commit", "manual"}:
            raise _refused(flush)
        self._clock = clock
        self._due_ns: int | None = None
        self._timer: threading.Timer | None = None
        self._timers = 0

    def waiting(self, when_due: Callable[[int], None]) -> None:
        """Something waits since now, or since before: ``when_due`` is called with the number of the timer."""
        if self._interval_ns is not None and self._due_ns is None:
            self._due_ns = self._clock() + self._interval_ns
            self.call_later(when_due)

    def done(self) -> None:
        """Nothing waits."""
        self._due_ns = None
        self._timers += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def is_due(self) -> bool:
        """Whether what waits has waited long enough."""
        return self._due_ns is not None and self._clock() >= self._due_ns

    def is_current(self, timer: int) -> bool:
        """Whether a timer that comes has not been overtaken by a flush."""
        return timer == self._timers

    def call_later(self, when_due: Callable[[int], None]) -> None:
        """Call when it should be due, with the number of this timer. (The clock that was given may go slower than the
        machine's.)"""
        assert self._due_ns is not None
        assert self._interval_ns is not None
        self._timers += 1
        left_s = min(max(self._due_ns - self._clock(), 1_000_000), self._interval_ns) / 1e9
        self._timer = threading.Timer(left_s, when_due, (self._timers,))
        self._timer.name = "varve-prevalent-flush"
        self._timer.daemon = True
        self._timer.start()


def _nanoseconds(flush: float | dt.timedelta) -> int:
    seconds = flush.total_seconds() if isinstance(flush, dt.timedelta) else flush
    if (
        isinstance(seconds, bool)
        or not isinstance(seconds, int | float)
        or not 0 < seconds <= limits.PREVALENT_FLUSH_S_MAX
    ):
        raise _refused(flush)
    return max(1, round(seconds * 1e9))


def _refused(flush: object) -> InvalidInput:
    return InvalidInput(
        'flush= is "commit", "manual", or seconds (or a timedelta) above 0 and up to PREVALENT_FLUSH_S_MAX = '
        f"{limits.PREVALENT_FLUSH_S_MAX:g}, not {flush!r:.80}"
    )
