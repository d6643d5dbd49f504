"""Checksums of many frames, for long scans: a second thread looks at them while the first one does something else.

``zlib.crc32`` lets go of the interpreter's lock, so two threads are twice as fast at it. The frames are memory that stays valid for as
long as they are held (slices of a pin, or copies), so nothing that is closed meanwhile takes it from under the other thread. That
thread lives from ``begin`` to ``finish`` or ``end``: none is left behind.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Final

from varve.layout.block import crc_holds

THREAD_BYTES_MIN: Final = 1 << 20
"""Less is done by the time that a thread has begun."""


def processors() -> int:
    """How many this process may use."""
    count: int | None = getattr(os, "process_cpu_count", os.cpu_count)()
    allowed = getattr(os, "sched_getaffinity", None)
    return min(count or 1, len(allowed(0))) if allowed is not None else count or 1


class Checking:
    """Whether the checksums of some frames hold."""

    def __init__(self, frames: Sequence[memoryview]) -> None:
        self._frames = frames
        self._holds: list[bool | None] = [None] * len(frames)
        self._turns = iter(range(len(frames)))  # whoever is free takes the next one
        self._thread: threading.Thread | None = None

    def begin(self) -> None:
        """Look at them on another thread, if they are many and there is a processor for it."""
        if sum(map(len, self._frames)) < THREAD_BYTES_MIN or processors() < 2:
            return
        thread = threading.Thread(target=self._help, name="varve-checksums")
        with contextlib.suppress(RuntimeError):  # no more threads, or the interpreter ends: done here, by `finish`
            thread.start()
            self._thread = thread

    def finish(self) -> int:
        """Look at those that are left: how many of the frames, from the first one on, are right."""
        try:
            self._look()
        finally:
            self.end()
        found = self._holds
        for index, holds in enumerate(found):
            if holds is None:  # the other thread came to grief over it
                found[index] = crc_holds(self._frames[index])
        self._frames = ()
        return found.index(False) if False in found else len(found)

    def end(self) -> None:
        """Look at no more of them; the other thread is gone afterwards."""
        for _ in self._turns:
            pass
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _help(self) -> None:
        with contextlib.suppress(Exception):
            self._look()

    def _look(self) -> None:
        frames, holds = self._frames, self._holds
        for index in self._turns:
            holds[index] = crc_holds(frames[index])
