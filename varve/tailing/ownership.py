"""Who runs a consumer: a ``flock`` on a file of the store's folder, which the kernel frees however its holder ends.

One file per member, ``consumers/<name>-<digest>.<member>-of-<members>.lock``. A lock belongs to an open file
description: a second instance is refused in this very process, too, and a child that inherits the description (a fork)
closes its copy at once, or it would keep the lock when its parent dies.

The lock that counts is the one on the file that the path names now. Whoever takes a consumer over from somebody who
hangs puts a locked file of his own in the place of the old one; the old lock then says nothing any more, and its
holder's token is out of date (``positions.py``), which is what keeps him from storing anything.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import secrets
import threading
import time
import weakref
from pathlib import Path
from typing import Final

from varve import limits
from varve.engine.files import unavailable

FOLDER: Final = "consumers"
_READABLE_CHARS: Final = 64
_PAUSE_S: Final = 0.001

_forking = threading.RLock()
"""Held while a description is opened and noted, and across a fork: a child knows of every one that it inherits."""


def lock_path(store: str, name: str, member: int, members: int) -> Path:
    """The file of one member of a consumer."""
    readable = re.sub(r"[^A-Za-z0-9_-]", "_", name)[:_READABLE_CHARS]
    digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
    return Path(store, FOLDER, f"{readable}-{digest}.{member}-of-{members}.lock")


class OwnerLock:
    """The lock on one file, held or not. Not thread-safe."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        with _forking:
            _locks.add(self)

    def take(self) -> bool:
        """Hold it; False where somebody else does. Raises ``StoreAccessDenied``, ``StoreUnavailable``."""
        try:
            with contextlib.suppress(FileExistsError):
                self.path.parent.mkdir(mode=0o700)
            for _ in range(limits.CONSUMER_CLAIM_TRIES_MAX):
                if self.holds():
                    return True
                self._open(self.path, os.O_RDWR | os.O_CREAT)
                if not self._lock(fcntl.LOCK_EX):
                    if not self._lock(fcntl.LOCK_SH):
                        break  # really held, not just looked at
                    self._close()
                    time.sleep(_PAUSE_S)
            held = self.holds()
        except OSError as exc:
            self.release()
            raise unavailable(str(self.path), exc) from exc
        if not held:
            self.release()
        return held

    def replace(self) -> None:
        """Hold it whoever does, by a new file in the place of the old one. Raises as ``take``."""
        fresh = self.path.with_name(f"{self.path.name}.{secrets.token_hex(8)}")
        try:
            self._open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            self._lock(fcntl.LOCK_EX)
            fresh.replace(self.path)
        except OSError as exc:
            self.release()
            raise unavailable(str(self.path), exc) from exc

    def holds(self) -> bool:
        """Whether it is held, on the file that the path names now."""
        if self._fd < 0:
            return False
        try:
            there = self.path.stat()
        except FileNotFoundError:
            return False
        mine = os.fstat(self._fd)
        return (mine.st_dev, mine.st_ino) == (there.st_dev, there.st_ino) and self._lock(fcntl.LOCK_EX)

    def is_free(self) -> bool:
        """Whether nobody holds it. Looks only, and never keeps another from taking it for more than an instant."""
        try:
            self._open(self.path, os.O_RDONLY)
            return self._lock(fcntl.LOCK_SH)
        except FileNotFoundError:
            return True
        except OSError as exc:
            raise unavailable(str(self.path), exc) from exc
        finally:
            self.release()

    def release(self) -> None:
        """Let it go; also where a copy of the description lives on somewhere."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(self._fd, fcntl.LOCK_UN)
            self._close()

    def forget(self) -> None:
        """In the child of a fork: drop the copy, the lock stays with the parent."""
        self._close()

    def _open(self, path: Path, flags: int) -> None:
        self._close()
        with _forking:  # nonblocking: whatever has been put in the place of the file, a pipe say, is not waited for
            self._fd = os.open(path, flags | os.O_CLOEXEC | os.O_NONBLOCK, 0o600)

    def _lock(self, how: int) -> bool:
        try:
            fcntl.flock(self._fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        if getattr(self, "_fd", -1) >= 0:
            self.release()


_locks: weakref.WeakSet[OwnerLock] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    global _forking  # noqa: PLW0603 - held by the thread that forked, under another identity
    _forking = threading.RLock()
    for lock in list(_locks):
        lock.forget()


os.register_at_fork(
    before=lambda: _forking.acquire(),  # noqa: PLW0108 - the lock of then, not of now
    after_in_parent=lambda: _forking.release(),  # noqa: PLW0108
    after_in_child=_after_fork_in_child,
)
