"""Drive ``fail.c`` from inside the process that it was loaded into."""

from __future__ import annotations

import ctypes
import enum
import errno
import os
from dataclasses import dataclass
from pathlib import Path

from torture.preload import library

KINDS = (
    "open",
    "read",
    "write",
    "sync",
    "truncate",
    "map",
    "rename",
    "mkdir",
    "unlink",
    "flock",
    "fcntl",
    "seek",
    "bind",
    "connect",
    "send",
)
"""What a system call does; several calls do the same (``write``: write, pwrite, writev, pwritev)."""

FOR_EVER = 1 << 40
_NAME_BYTES = 40


class Action(enum.IntEnum):
    """What becomes of a call."""

    COUNT = 0
    ERROR = 1
    """It fails, and does nothing."""
    LATE_ERROR = 2
    """It does its work, and reports a failure."""
    SHORT = 3
    """It writes or reads the first half, and says so."""
    KILL_BEFORE = 4
    KILL_AFTER = 5
    SILENT = 6
    """A sync that does nothing, and reports success."""


@dataclass(frozen=True, slots=True)
class Call:
    """A system call that was seen."""

    kind: str
    file: str
    """The last part of its file's name; ``.`` for the folder itself."""
    spoiled: bool


class NotLoaded(RuntimeError):
    """This process was not started with the library: see ``environment``."""


def environment() -> dict[str, str]:
    """What a process is to be started with so that its system calls can be spoiled. Raises ``NoCompiler``."""
    return {**os.environ, "LD_PRELOAD": str(library("fail"))}


class Spoiler:
    """The library inside this process. Children of a fork have it, too, each with counts of its own."""

    def __init__(self) -> None:
        path = str(library("fail"))
        if path not in Path("/proc/self/maps").read_text(encoding="utf-8"):
            raise NotLoaded(f"start the process with LD_PRELOAD={path}")
        self._c = ctypes.CDLL(path)
        self._c.fail_arm.argtypes = (
            ctypes.c_char_p,
            ctypes.c_uint,
            ctypes.c_uint,
            ctypes.c_long,
            ctypes.c_long,
            ctypes.c_int,
            ctypes.c_int,
        )
        self._c.fail_arm.restype = None
        for name in ("fail_seen", "fail_hits", "fail_synced"):
            getattr(self._c, name).restype = ctypes.c_long
        self._c.fail_call.argtypes = (ctypes.c_long, ctypes.c_char_p, ctypes.POINTER(ctypes.c_int))

    def arm(
        self,
        folder: Path,
        *,
        kinds: tuple[str, ...] = KINDS,
        nth: int = 0,
        action: Action = Action.COUNT,
        error: int = errno.EIO,
        later: tuple[str, ...] = (),
        times: int = 1,
    ) -> None:
        """Begin to count calls of some kinds on whatever lies in a folder, from 1 on; the ``nth`` is spoiled, and after it
        those of the kinds ``later``, ``times`` in all. Counts begin anew."""
        self._c.fail_arm(os.fsencode(folder), _mask(kinds), _mask(later), nth, times, action, error)

    def disarm(self) -> None:
        """Leave the kernel alone; counts stay."""
        self._c.fail_disarm()

    @property
    def hits(self) -> int:
        """Calls that were spoiled."""
        return int(self._c.fail_hits())

    @property
    def synced(self) -> int:
        """Files that were really synced while armed."""
        return int(self._c.fail_synced())

    def calls(self) -> list[Call]:
        """The calls that were counted, in their order."""
        found = []
        for at in range(self._c.fail_seen()):
            name, spoiled = ctypes.create_string_buffer(_NAME_BYTES), ctypes.c_int()
            kind = self._c.fail_call(at, name, ctypes.byref(spoiled))
            if kind < 0:
                break
            found.append(Call(KINDS[kind], os.fsdecode(name.value), bool(spoiled.value)))
        return found


def _mask(kinds: tuple[str, ...]) -> int:
    return sum(1 << KINDS.index(kind) for kind in set(kinds))
