"""The watermark: how far the log is known to reach, and who waits for more.

It only rises, and only to what a snapshot or a commit of our own showed. A waiter registers before it looks, and whoever
raises the mark does so before he looks for waiters: one of the two sees the other, so no commit is missed. (Both are
single attribute accesses, which Python orders.)

Waiters of an event loop stand in a heap by the sequence that they wait for, which only the loop's own thread touches.
A rise makes one call into a loop, and none where that is under way already or nobody there is reached; the call wakes
the waiters that are reached and looks at no other. So ten thousand waiters cost one wake-up of the loop per commit.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import math
import threading
import time
import weakref
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from varve.tailing.loops import running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

_NOBODY: Final = math.inf
"""Above every sequence, also one that no log will ever reach."""

_DEAD_MIN: Final = 64
"""Cancelled waiters that a heap may hold before it is worth making anew."""


def _nothing() -> None:
    pass


class _Waiters:
    """Waiters of one thread's kind: a heap by sequence. ``lowest`` may be read by any thread."""

    __slots__ = ("_heap", "_numbers", "live", "lowest")

    def __init__(self) -> None:
        self._heap: list[tuple[int, int, Any]] = []
        self._numbers = itertools.count()
        self.live = 0
        self.lowest: float = _NOBODY

    def add(self, target: int, waiter: Any) -> None:
        self.live += 1
        heapq.heappush(self._heap, (target, next(self._numbers), waiter))
        self.lowest = self._heap[0][0]

    def reached(self, value: float) -> list[Any]:
        """Take out whoever waits for at most ``value``, dead ones among them."""
        heap = self._heap
        taken = []
        while heap and heap[0][0] <= value:
            taken.append(heapq.heappop(heap)[2])
        self.lowest = heap[0][0] if heap else _NOBODY
        return taken

    def left(self, is_dead: Callable[[Any], bool]) -> None:
        """One waiter is done: forget the dead where they are the more."""
        self.live -= 1
        if not self.live:
            self._heap.clear()
            self.lowest = _NOBODY
        elif len(self._heap) > 2 * self.live + _DEAD_MIN:
            self._heap = [entry for entry in self._heap if not is_dead(entry[2])]
            heapq.heapify(self._heap)
            self.lowest = self._heap[0][0] if self._heap else _NOBODY


class _LoopWaiters(_Waiters):
    """Waiters of one event loop."""

    __slots__ = ("called", "loop")

    def __init__(self, loop: AbstractEventLoop) -> None:
        super().__init__()
        self.loop = weakref.ref(loop)
        self.called = False


class Watermark:
    """The next global sequence known to be committed, and its waiters: coroutines of any loops, blocked threads.

    ``needed`` is called whenever somebody begins to wait: whoever keeps the mark fresh starts to work then.
    """

    def __init__(self, needed: Callable[[], None] = _nothing) -> None:
        self.value = 0
        self.refusal: Callable[[], BaseException] | None = None
        self._needed = needed
        self._loops: weakref.WeakKeyDictionary[AbstractEventLoop, _LoopWaiters] = weakref.WeakKeyDictionary()
        self._each: tuple[_LoopWaiters, ...] = ()  # the same, quick to walk
        self._threads = _Waiters()
        # A store may be let go by the garbage collector while this thread holds it.
        self._lock = threading.RLock()

    @property
    def waiting(self) -> int:
        """How many wait."""
        with self._lock:
            return self._threads.live + sum(waiters.live for waiters in self._loops.values())

    # -- raising -----------------------------------------------------------------------------------

    def rise(self, next_sequence: int) -> None:
        """The log is known to reach up to here. Lower than before: nothing happens."""
        if next_sequence > self.value:
            with self._lock:
                if next_sequence > self.value:
                    self.value = next_sequence
                    self._wake()

    def fail(self, refusal: Callable[[], BaseException]) -> None:
        """Nothing will rise any more: who waits, or comes to wait, gets what ``refusal`` makes."""
        with self._lock:
            if self.refusal is None:
                self.refusal = refusal
                self._wake()

    def forget(self, refusal: Callable[[], BaseException] | None) -> None:
        """In the child of a fork: whoever waited was the parent's; who comes is refused."""
        self._lock = threading.RLock()
        self._threads = _Waiters()
        self.refusal = refusal

    def _wake(self) -> None:
        value = self.value if self.refusal is None else _NOBODY
        if self._threads.lowest <= value:
            for latch in self._threads.reached(value):
                latch.release()
        for waiters in self._each:
            if waiters.lowest <= value and not waiters.called:
                self._call(waiters)

    def _call(self, waiters: _LoopWaiters) -> None:
        """One call into a loop."""
        loop = waiters.loop()
        if loop is None:
            return
        waiters.called = True
        try:
            loop.call_soon_threadsafe(self._wake_loop, waiters)
        except RuntimeError:  # the loop was closed: nobody of it waits any more
            self._loops.pop(loop, None)
            self._each = tuple(self._loops.values())

    def _wake_loop(self, waiters: _LoopWaiters) -> None:
        """Wake who is reached. Runs in the loop."""
        waiters.called = False  # before looking: whoever raises the mark from here on calls again
        refusal = self.refusal
        for future in waiters.reached(self.value if refusal is None else _NOBODY):
            if not future.done():
                if refusal is None:
                    future.set_result(None)
                else:
                    future.set_exception(refusal())

    # -- waiting -----------------------------------------------------------------------------------

    async def wait(self, target: int) -> int:
        """The mark, as soon as it is ``target`` at least."""
        if self.value < target or self.refusal is not None:
            loop = running_loop()
            waiters = self._loops.get(loop) or self._join(loop)
            future: Future[None] = loop.create_future()
            waiters.add(target, future)
            try:
                if self.refusal is not None:
                    raise self.refusal()
                if self.value < target:
                    self._needed()
                    await future
            finally:
                if not future.done():  # nobody will await it
                    with contextlib.suppress(RuntimeError):  # the loop was closed
                        future.cancel()
                waiters.left(_is_done)
        return self.value

    def _join(self, loop: AbstractEventLoop) -> _LoopWaiters:
        with self._lock:
            for other in list(self._loops):
                if other.is_closed():
                    del self._loops[other]
            waiters = self._loops[loop] = _LoopWaiters(loop)
            self._each = tuple(self._loops.values())
            return waiters

    def wait_blocking(self, target: int, timeout_s: float | None) -> bool:
        """Block this thread until the mark is ``target`` at least; False where that took longer than ``timeout_s``."""
        if self.refusal is not None:
            raise self.refusal()
        if self.value >= target:
            return True
        latch = _Latch()
        with self._lock:
            self._threads.add(target, latch)
        try:
            if self.refusal is None and self.value < target:
                self._needed()
                latch.wait(timeout_s)
        finally:
            with self._lock:
                latch.is_dead = True
                self._threads.left(_is_dead)
        if self.refusal is not None:
            raise self.refusal()
        return self.value >= target


class _Latch:
    """What a blocked thread waits at, once."""

    __slots__ = ("_lock", "is_dead")

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._lock.acquire()
        self.is_dead = False

    def wait(self, timeout_s: float | None) -> None:
        """Until ``release``, or for so long."""
        if timeout_s is None:
            self._lock.acquire()
            return
        until_s = time.monotonic() + timeout_s
        while not self._lock.acquire(timeout=min(max(0.0, until_s - time.monotonic()), threading.TIMEOUT_MAX)):
            if time.monotonic() >= until_s:
                return

    def release(self) -> None:
        """Let it go."""
        self._lock.release()


def _is_done(future: Future[None]) -> bool:
    return future.done()


def _is_dead(latch: _Latch) -> bool:
    return latch.is_dead
