"""The poller: a thread that looks at the store for commits of other processes while somebody waits.

Commits of this process raise the watermark themselves. For those of others the guarantee is this thread, which looks
again and again; a hint (``engine.hints``) only makes it look at once. It begins with the first waiter, ends when nobody
has waited for a while, and never keeps the interpreter from ending.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
import weakref
from collections.abc import Callable
from io import FileIO
from typing import Final

from varve import limits
from varve.engine.hints import HintSocket

_NEVER_SEEN: Final = -1


class Poller:
    """Looks while it is needed. ``look(seen)`` gives the number of the instant that it saw, None where all is over;
    ``waiting()`` how many wait."""

    def __init__(self, path: str, look: Callable[[int], int | None], waiting: Callable[[], int]) -> None:
        self._path = path
        self._look = look
        self._waiting = waiting
        self._lock = threading.RLock()
        self._thread: threading.Thread | None = None
        self._sockets: _Sockets | None = None
        self._stopped = False
        _pollers.add(self)

    def start(self) -> None:
        """See to it that the thread runs."""
        if self._thread is None:
            with self._lock:
                if self._thread is None and not self._stopped:
                    thread = threading.Thread(target=self._run, name=f"varve poller of {self._path}", daemon=True)
                    self._thread = thread
                    try:
                        thread.start()
                    except BaseException:
                        self._thread = None
                        raise

    def resume(self) -> None:
        """It may begin again after all."""
        self._stopped = False
        if self._waiting():
            self.start()

    def stop(self) -> None:
        """End it, without waiting; it does not begin again."""
        self._stopped = True
        sockets = self._sockets
        if sockets is not None:
            sockets.interrupt()

    def join(self, timeout_s: float) -> None:
        """Wait for the end of a stopped one."""
        with self._lock:  # whoever starts it holds this until it runs
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout_s)

    def forget(self) -> None:
        """In the child of a fork: there is no thread any more."""
        self._lock = threading.RLock()
        self._thread = None
        self._stopped = True
        if self._sockets is not None:
            self._sockets.forget()

    def _run(self) -> None:
        sockets = None
        try:
            self._sockets = sockets = _Sockets(self._path)
            while not self._stopped:
                self._watch(sockets)
                with self._lock:
                    # First gone, then the look whether anybody waits: who begins to wait does it the other way round.
                    self._thread = None
                    if self._stopped or not self._waiting():
                        return
                    self._thread = threading.current_thread()
        finally:
            with self._lock:
                if (
                    self._thread is threading.current_thread()
                ):  # stopped or failed: whoever waits next may start another
                    self._thread = None
                if self._sockets is sockets:
                    self._sockets = None
            if sockets is not None:
                sockets.close()

    def _watch(self, sockets: _Sockets) -> None:
        """Look again and again until nobody has waited for a while."""
        seen = _NEVER_SEEN
        active_until_s = 0.0
        needed_until_s = time.monotonic() + limits.POLLER_LINGER_S
        while not self._stopped:
            newest = self._look(seen)
            if newest is None:
                self._stopped = True
                return
            now_s = time.monotonic()
            if newest != seen:
                active_until_s = now_s + limits.POLL_ACTIVE_S
                seen = newest
            if self._waiting():
                needed_until_s = now_s + limits.POLLER_LINGER_S
            elif now_s >= needed_until_s:
                return
            sockets.wait(limits.POLL_ACTIVE_INTERVAL_S if now_s < active_until_s else limits.POLL_IDLE_INTERVAL_S)


class _Sockets:
    """What a poller waits at: hints, its own end, time. Where the process has no descriptor left, time alone."""

    def __init__(self, path: str) -> None:
        import select

        self._interrupted = threading.Event()
        self._hints = HintSocket.bind(path)
        self._poll: select.poll | None = None
        self._pipe: tuple[FileIO, FileIO] | None = None
        with contextlib.suppress(OSError):
            reading, writing = os.pipe()
            self._pipe = (
                FileIO(reading),
                FileIO(writing, "w"),
            )  # objects: a number that was closed may be another's by then
            self._poll = select.poll()
            for readable in (self._pipe[0], self._hints):
                if readable is not None:
                    self._poll.register(readable.fileno(), select.POLLIN)

    def wait(self, timeout_s: float) -> None:
        """For a hint, an interrupt, or so long."""
        if self._poll is None:
            self._interrupted.wait(timeout_s)
        elif self._poll.poll(timeout_s * 1000) and self._hints is not None:
            self._hints.drain()

    def interrupt(self) -> None:
        """End the wait of the thread that waits, or the next one."""
        self._interrupted.set()
        if self._pipe is not None:
            with contextlib.suppress(OSError, ValueError):  # ValueError: closed
                self._pipe[1].write(b"\0")

    def close(self) -> None:
        """Let them go."""
        if self._hints is not None:
            self._hints.close()
        self._close_pipe()

    def forget(self) -> None:
        """In the child of a fork."""
        if self._hints is not None:
            self._hints.forget()
        self._close_pipe()

    def _close_pipe(self) -> None:
        for end in self._pipe or ():
            end.close()


_pollers: weakref.WeakSet[Poller] = weakref.WeakSet()
_JOIN_S: Final = 1.0


def _end_all() -> None:
    """At the interpreter's end: no thread of ours is inside LMDB while its environment is torn down, no socket is left."""
    pollers = list(_pollers)
    for poller in pollers:
        poller.stop()
    for poller in pollers:
        poller.join(_JOIN_S)


atexit.register(_end_all)
