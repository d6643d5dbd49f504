"""Refused attempts, recorded as events: bounded, and never in the way of the refusal."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from varve import limits
from varve.codec import event
from varve.errors import HandleUnusable, VarveError
from varve.logs import WARNING, say
from varve.types import u64

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.stream import Stream


@event(name="varve.AccessRefused")
class AccessRefused:
    """Something was tried on a scoped handle that it may not do. When: the event's ``recorded_at``."""

    label: str
    """The handle's."""
    action: str
    """What was tried: ``"read"``, ``"append"``, ``"consumer"``, ``"state"``, or a method that the handle does not have."""
    target: str
    """On what: a stream's text (``orders/7``), a name, a key; cut at ``AUDIT_TEXT_CHARS_MAX`` characters."""
    left_out: u64
    """Refusals since the last record that were counted and not recorded, since there were too many of them."""


@dataclass(frozen=True, slots=True)
class Refusals:
    """What a scoped handle, and those narrowed from it, have refused so far in this process. Made by ``ScopedVarve.refusals``."""

    count: int
    """Refused attempts."""
    recorded: int
    """Those of them that were recorded in the audit stream."""
    left_out: int
    """Those that were not, since there were more than ``AUDIT_REFUSALS_MAX`` of them in ``AUDIT_WINDOW_S`` seconds."""
    failed: int
    """Attempts to record one that failed; the refusal waits for the next one."""


class Auditor:
    """Counts refusals, and records them where there is a stream for it. Thread-safe.

    A refusal is recorded by a commit of its own, at once where that can be; inside of ``db.write``, whose thread can commit
    nothing else, when that has ended or at the next refusal.
    """

    def __init__(self, engine: Engine, stream: Stream[Any] | None, clock: Callable[[], float] = time.monotonic) -> None:
        self.stream = stream
        self._engine = engine
        self._clock = clock
        self._lock = threading.Lock()
        self._pending: deque[AccessRefused] = deque()
        self._window_s = clock()
        self._in_window = 0
        self._dropped = 0  # left out since the last record
        self._count = self._recorded = self._left_out = self._failed = 0

    @property
    def refusals(self) -> Refusals:
        """What was counted."""
        with self._lock:
            return Refusals(self._count, self._recorded, self._left_out, self._failed)

    def refused(self, label: str, action: str, target: str) -> None:
        """Count a refusal, and record it. Raises nothing that a commit can raise."""
        with self._lock:
            self._count += 1
            if self.stream is None:
                return
            now_s = self._clock()
            if now_s - self._window_s >= limits.AUDIT_WINDOW_S:
                self._window_s, self._in_window = now_s, 0
            if self._in_window >= limits.AUDIT_REFUSALS_MAX or len(self._pending) >= limits.AUDIT_PENDING_MAX:
                self._dropped += 1
                self._left_out += 1
                return
            self._in_window += 1
            self._pending.append(AccessRefused(label, action, shown(target), self._dropped))
            self._dropped = 0
        self.flush()

    def flush(self) -> None:
        """Record what waits, as far as that can be."""
        while self._pending:
            with self._lock:
                record = self._pending.popleft() if self._pending else None
            if record is None:
                return
            try:
                written = self._write(record)
            except BaseException:  # an interrupt
                self._return(record)
                raise
            if not written:
                self._return(record)
                return

    def _return(self, record: AccessRefused) -> None:
        with self._lock:
            self._pending.appendleft(record)

    def _write(self, record: AccessRefused) -> bool:
        """Whether a record is on disk."""
        assert self.stream is not None
        try:
            self._engine.check_writable()
        except HandleUnusable:  # inside of db.write, or the store was closed: nobody is to blame
            return False
        except VarveError as exc:
            return self._tell(exc)
        try:
            self.stream.append(record.label, record)
        except Exception as exc:  # noqa: BLE001 - whatever it is, the refusal is what has to be told
            return self._tell(exc)
        with self._lock:
            self._recorded += 1
        return True

    def _tell(self, exc: Exception) -> bool:
        with self._lock:
            self._failed += 1
        say(WARNING, "%s: a refusal could not be recorded in the audit stream: %s", self._engine.path, exc)
        return False


def shown(text: str) -> str:
    """Text as a record keeps it: short, and encodable whatever was asked for."""
    text = text.encode("utf-8", "replace").decode()
    most = limits.AUDIT_TEXT_CHARS_MAX
    return text if len(text) <= most else f"{text[: most - 3]}..."
