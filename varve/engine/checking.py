"""Checksums of many frames at once, for long scans: a second thread takes its share of them.

``zlib.crc32`` lets go of the interpreter's lock while it works, so with a second processor two threads are up to twice as fast.
The frames are slices of a pin, which keep the map for as long as they are held, whoever closes what meanwhile; and the thread is
gone when the call returns. Nothing depends on it: a frame that was not found right here is looked at again by whoever reads it,
who then has the words for what is wrong.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence
from typing import Final

from varve.layout.frame import crc_holds

SHARED_BYTES_MIN: Final = 1 << 22
"""Less is done about as soon as a thread has begun."""
UNLOCKED_BYTES_MIN: Final = 5 << 10
"""The checksum of less is worked out under the interpreter's lock: two threads would only wait for each other."""


def processors() -> int:
    """How many this process may use."""
    count: int = getattr(os, "process_cpu_count", os.cpu_count)() or 1
    allowed = getattr(os, "sched_getaffinity", None)
    return count if allowed is None else min(count, len(allowed(0)))


def find_right(frames: Sequence[memoryview]) -> list[bool]:
    """Of each frame whether its checksum was found right, by this thread and another one."""
    right = [False] * len(frames)
    turns = iter(range(len(frames)))  # whoever is free takes the next one

    def look() -> None:
        for index in turns:
            right[index] = crc_holds(frames[index])

    def help_out() -> None:
        with contextlib.suppress(Exception):  # of memory: that one was not found right
            look()

    helper = threading.Thread(target=help_out, name="varve-checksums")
    try:
        helper.start()
    except RuntimeError:  # no more threads, or the interpreter ends
        look()
        return right
    try:
        look()
    finally:
        for _ in turns:  # an interrupt came: the other one is to stop too
            pass
        helper.join()
    return right
