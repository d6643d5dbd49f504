"""Who opens LMDB's lock file while a store is open: seen by Python's own audit, and by a library before libc.

POSIX drops every fcntl lock of a process on a file as soon as the process closes any descriptor of it: whoever opens
``lock.mdb`` beside LMDB, and closes it, lets two processes write at once.
"""

from __future__ import annotations

import os
import struct
import sys
import traceback
from pathlib import Path

from torture import preload
from varve.engine import environment

_LOCK = "lock.mdb"


class Audit:
    """Opens of this process that Python knows of. Hooks cannot be removed: one of these lives as long as its process."""

    def __init__(self) -> None:
        self.seen = 0
        self.found: list[str] = []
        self._busy = False

    def begin(self) -> None:
        """Watch from now on."""
        sys.addaudithook(self._hook)

    def _hook(self, event: str, args: tuple[object, ...]) -> None:
        if event != "open":
            return
        self.seen += 1
        path = args[0]
        if not isinstance(path, str | bytes) or self._busy:
            return
        self._busy = True
        try:
            if self._is_held(os.fsdecode(path)):
                self.found.append(
                    f"{path!r} was opened while its store is open:\n{''.join(traceback.format_stack()[:-1])}"
                )
        finally:
            self._busy = False

    @staticmethod
    def _is_held(path: str) -> bool:
        """Whether a path leads to the lock file of a store that is open in this process."""
        entries = environment._registry  # noqa: SLF001 - who has what open is nobody else's business
        if not entries:
            return False
        try:
            status = Path(path).stat()
        except (OSError, ValueError):
            return path == _LOCK  # relative to a folder that the audit does not tell
        for entry in list(entries.values()):
            env = entry.env()
            if env is None:
                continue
            try:
                lock = (Path(env.path()) / _LOCK).stat()
            except OSError:
                continue
            if (lock.st_dev, lock.st_ino) == (status.st_dev, status.st_ino):
                return True
        return False


class Trace:
    """Opens of any code, in this environment's processes: see ``preload/opens.c``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def variables(self) -> dict[str, str]:
        """The environment in which programs are traced."""
        before = os.environ.get("LD_PRELOAD", "")
        library = str(preload.library("opens"))
        return {**os.environ, "LD_PRELOAD": f"{library} {before}".strip(), "VARVE_OPENS": str(self.folder)}

    @property
    def found(self) -> list[str]:
        """What should not have been opened, a line each."""
        told = self.folder / "found"
        return told.read_text(errors="replace").splitlines() if told.exists() else []

    @property
    def seen(self) -> tuple[int, int, int]:
        """Files opened, lock files opened by LMDB, processes."""
        counters = self.folder / "seen"
        if not counters.exists():
            return 0, 0, 0
        opens, locks, processes = struct.unpack("<QQQ", counters.read_bytes()[:24])
        return opens, locks, processes
