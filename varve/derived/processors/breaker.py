"""The circuit breaker: what keeps from calling what fails every time.

Closed, it lets calls pass and counts failures in a row. Opened by too many, it lets none pass for a while. Then, half-open, it
lets a few try: where they succeed it closes, and where one fails it opens again.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Literal, Self

from varve.derived.processors.backoff import check_seconds
from varve.errors import BreakerOpen, InvalidInput

BreakerState = Literal["closed", "open", "half-open"]


class CircuitBreaker:
    """Stops calls to what fails ``failures`` times in a row, for ``recovery_s`` seconds; then ``trials`` calls have to succeed
    before all are let through again. Thread-safe; several processors may share one.

    ``with breaker: ...`` guards anything else: it raises ``BreakerOpen`` while it is open, and counts how the block ends.
    ``clock`` gives nanoseconds that never go back.
    """

    def __init__(
        self,
        failures: int = 5,
        recovery_s: float = 30.0,
        *,
        trials: int = 1,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        for name, count in (("failures", failures), ("trials", trials)):
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise InvalidInput(f"{name} is a number of calls from 1 on, not {count!r}")
        if not callable(clock):
            raise InvalidInput(
                f"clock is a function that gives nanoseconds, such as time.monotonic_ns, not {clock!r:.80}"
            )
        self._failures_max = failures
        self._recovery_ns = round(check_seconds("recovery_s", recovery_s) * 1e9)
        self._trials_max = trials
        self._clock = clock
        self._lock = threading.Lock()
        self._failures = 0  # in a row, while it is closed
        self._opened_ns: int | None = None
        self._trying = 0  # calls that it let through half-open and that have not ended
        self._succeeded = 0  # of those
        self._period = 0  # rises as it opens: how a call ends that was let through before says nothing any more

    @property
    def state(self) -> BreakerState:
        """Whether it lets calls pass, none, or a few."""
        with self._lock:
            return self._state()

    def _state(self) -> BreakerState:
        if self._opened_ns is None:
            return "closed"
        return "half-open" if self._clock() - self._opened_ns >= self._recovery_ns else "open"

    @property
    def failures(self) -> int:
        """Failures in a row."""
        return self._failures

    @property
    def wait_s(self) -> float:
        """Seconds until it may let a call pass; 0 where it may now."""
        with self._lock:
            if self._opened_ns is None:
                return 0.0
            return max(0, self._opened_ns + self._recovery_ns - self._clock()) / 1e9

    def acquire(self) -> int | None:
        """A pass for one call, None where there is none now. Whoever has one says how the call ended: ``succeeded``, ``failed``,
        or ``abandoned``."""
        with self._lock:
            state = self._state()
            if state == "half-open" and self._trying + self._succeeded < self._trials_max:
                self._trying += 1
                return self._period
            return self._period if state == "closed" else None

    def succeeded(self, ticket: int) -> None:
        """The call did."""
        with self._lock:
            if ticket != self._period:
                return
            if self._opened_ns is None:
                self._failures = 0
                return
            self._trying -= 1
            self._succeeded += 1
            if self._succeeded >= self._trials_max:
                self._close()

    def failed(self, ticket: int) -> None:
        """The call did not."""
        with self._lock:
            if ticket != self._period:
                return
            self._failures += 1
            if self._opened_ns is not None or self._failures >= self._failures_max:
                self._open()

    def abandoned(self, ticket: int) -> None:
        """The call was cut off: it says nothing, and somebody else may try."""
        with self._lock:
            if ticket == self._period and self._opened_ns is not None:
                self._trying -= 1

    def _open(self) -> None:
        self._opened_ns = self._clock()
        self._period += 1
        self._trying = self._succeeded = 0

    def _close(self) -> None:
        self._opened_ns = None
        self._period += 1
        self._failures = self._trying = self._succeeded = 0

    def reset(self) -> None:
        """Close it, whatever it knows."""
        with self._lock:
            self._close()

    def __enter__(self) -> Self:
        ticket = self.acquire()
        if ticket is None:
            wait_s = self.wait_s
            raise BreakerOpen(
                f"the circuit breaker is open: the last {self._failures} calls failed. Try again in {wait_s:.3g} s",
                wait_s=wait_s,
            )
        _held.set((*_held.get(), ticket))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        *outer, ticket = _held.get()
        _held.set(tuple(outer))
        if error is None:
            self.succeeded(ticket)
        elif isinstance(error, Exception):
            self.failed(ticket)
        else:
            self.abandoned(ticket)

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.state}, {self._failures} failures in a row>"


_held: ContextVar[tuple[int, ...]] = ContextVar("varve_breakers", default=())
"""The passes of the ``with`` blocks that a thread or task is in: they end in the reverse of the order in which they began."""
