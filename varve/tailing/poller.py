"""The poller: a thread that looks at the store for commits of other processes while somebody waits.

Commits of this process raise the watermark themselves. For those of others the guarantee is this thread, which looks
again and again; a hint only makes it look at once. It begins with the first waiter, ends when nobody has waited for a
while, and never keeps the interpreter from ending.
"""

from __future__ import annotations

import atexit
import os
import threading
import time
import weakref
from collections.abc import Callable

from varve import limits

_NEVER_SEEN = -1


class Poller:
    """Looks while it is needed. ``look(seen)`` gives the number of the instant that it saw, None where all is over;
    ``waiting()`` how many wait."""

    def __init__(self, path: str, look: Callable[[int], int | None], waiting: Callable[[], int]) -> None:
        self._path = path
        self._look = look
        self._waiting = waiting
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._wake = threading.Event()
        self._stopped = False
        _pollers.add(self)

    def start(self) -> None:
        """See to it that the thread runs."""
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stopped:
                    thread = threading.Thread(target=self._run, name=f"varve poller of {self._path}", daemon=True)
                    thread.start()
                    self._thread = thread

    def stop(self) -> None:
        """End it, without waiting; it does not begin again."""
        self._stopped = True
        self._wake.set()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of a stopped one."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def forget(self) -> None:
        """In the child of a fork: there is no thread any more."""
        self._lock = threading.RLock()
        self._thread = None
        self._stopped = True

    def _run(self) -> None:
        seen = _NEVER_SEEN
        active_until_s = needed_until_s = 0.0
        while not self._stopped:
            newest = self._look(seen)
            if newest is None:
                break
            now_s = time.monotonic()
            if newest != seen:
                active_until_s = now_s + limits.POLL_ACTIVE_S
                seen = newest
            if self._waiting():
                needed_until_s = now_s + limits.POLLER_LINGER_S
            elif now_s >= needed_until_s and self._ended():
                return
            self._wake.wait(limits.POLL_ACTIVE_INTERVAL_S if now_s < active_until_s else limits.POLL_IDLE_INTERVAL_S)
        self._thread = None

    def _ended(self) -> bool:
        """Whether nobody began to wait while the thread made up its mind to end."""
        with self._lock:
            self._thread = None
            if not self._waiting():
                return True
            self._thread = threading.current_thread()
            return False


_pollers: weakref.WeakSet[Poller] = weakref.WeakSet()
_JOIN_S = 1.0


def _end_all() -> None:
    """At the interpreter's end: no thread of ours is inside LMDB while its environment is torn down."""
    pollers = list(_pollers)
    for poller in pollers:
        poller.stop()
    for poller in pollers:
        poller.join(_JOIN_S)


def _after_fork_in_child() -> None:
    for poller in list(_pollers):
        poller.forget()


atexit.register(_end_all)
os.register_at_fork(after_in_child=_after_fork_in_child)
