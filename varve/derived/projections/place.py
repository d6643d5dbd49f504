"""The folder of a projection::

    current                  names the generation that counts
    generation-7.sqlite      rows and position; SQLite keeps -wal and -shm beside it while somebody has it open
    generation-7.lock        shared flock of each reader and writer of ours: while one is held the generation stays
    writer.lock              exclusive flock of whoever applies events; says his process id
    rebuild.lock             the same of whoever builds a new generation
    switch.lock              held for each transaction, and while the pointer moves

Closing any descriptor of a file drops all fcntl locks that the process holds on it, and SQLite's locks are such. So the database
files themselves are opened by SQLite alone, but for those that are new or old, which nobody of this process uses.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from varve import limits
from varve.engine import files
from varve.errors import DiskFull, VarveError

FOLDER: Final = "projections"
_POINTER: Final = "current"
_PAUSE_S: Final = 0.001
_GENERATION: Final = re.compile(r"generation-([1-9][0-9]{0,17})\.(?:sqlite(?:-wal|-shm|-journal)?|lock)")
_SHARED_AT: Final = 0x40000002
_SHARED_BYTES: Final = 510
"""Where SQLite's readers have their locks in a file: in WAL mode for as long as they are connected."""


class Hold:
    """A flock on a file, until it is released or dropped."""

    __slots__ = ("__weakref__", "fd")

    def __init__(self, fd: int) -> None:
        self.fd = fd
        _holds.add(self)

    def release(self) -> None:
        """Let it go, also where a fork has copied the descriptor."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def forget(self) -> None:
        """In the child of a fork: the lock is the parent's."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __del__(self) -> None:
        self.forget()


_holds: weakref.WeakSet[Hold] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for held in list(_holds):
        held.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)


class Place:
    """The folder of one projection."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def make(self) -> None:
        """The folder, its name on disk. Raises ``StoreUnavailable`` and its kin."""
        try:
            files.make_folder(str(self.folder))
        except OSError as exc:
            raise files.unavailable(str(self.folder), exc) from exc

    def database(self, generation: int) -> Path:
        """A generation's file."""
        return self.folder / f"generation-{generation}.sqlite"

    def _lock_file(self, generation: int) -> Path:
        return self.folder / f"generation-{generation}.lock"

    # -- which one counts ----------------------------------------------------------------------------------------

    def current(self) -> int | None:
        """The generation that counts; None where there is none, or its file is gone."""
        try:
            text = (self.folder / _POINTER).read_text(encoding="ascii", errors="replace")
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise files.unavailable(str(self.folder), exc) from exc
        found = _GENERATION.fullmatch(text.strip())
        if found is None:
            return None
        generation = int(found[1])
        return generation if self.database(generation).exists() else None

    def pointed_at(self) -> tuple[int, int, int] | None:
        """Changes when the pointer does."""
        try:
            status = (self.folder / _POINTER).stat()
        except FileNotFoundError:
            return None
        return status.st_dev, status.st_ino, status.st_mtime_ns

    def switch(self, generation: int) -> None:
        """From now on this generation counts, also after a power cut. The file has to be on disk."""
        fresh = self.folder / f"{_POINTER}.new"
        files.write_new(str(fresh), f"{self.database(generation).name}\n".encode(), replace=True)
        fresh.replace(self.folder / _POINTER)
        files.sync_folder(str(self.folder))

    def generations(self) -> list[int]:
        """Those of which there is any file, the oldest first."""
        with contextlib.suppress(FileNotFoundError):
            found = (_GENERATION.fullmatch(name) for name in os.listdir(self.folder))  # noqa: PTH208 - names only
            return sorted({int(one[1]) for one in found if one is not None})
        return []

    def begin(self, generation: int) -> Hold:
        """An empty file for a new generation, nobody's but ours to read (0600; SQLite's own ones take the mode over), kept from
        whoever cleans up. Raises ``DiskFull``, ``StoreUnavailable`` and its kin."""
        with os_errors(self.database(generation)):
            while True:
                held = Hold(os.open(self._lock_file(generation), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
                fcntl.flock(held.fd, fcntl.LOCK_SH)
                if os.fstat(held.fd).st_nlink:
                    break
                held.release()  # it was being removed
            files.write_new(str(self.database(generation)), b"")
            return held

    def sync(self, generation: int) -> None:
        """Its file is on disk. For a new generation only, which nobody has open."""
        fd = os.open(self.database(generation), os.O_RDWR | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)
        files.sync_folder(str(self.folder))

    # -- who uses one --------------------------------------------------------------------------------------------

    def hold(self, generation: int) -> Hold | None:
        """Keep a generation from being removed; None where it is gone, or going."""
        path = self._lock_file(generation)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise translated(path, exc) from exc
        held = Hold(fd)
        # Where the lock cannot be had, or the file has no name any more, it is being removed.
        if _flock(fd, fcntl.LOCK_SH) and os.fstat(fd).st_nlink and self.database(generation).exists():
            return held
        held.release()
        return None

    def clear(self) -> None:
        """Remove every generation but the one that counts, and what is left of others, unless somebody uses it."""
        current = self.current()
        for generation in self.generations():
            if generation != current:
                with contextlib.suppress(OSError):
                    self._remove(generation)

    def _remove(self, generation: int) -> None:
        lock = self._lock_file(generation)
        held = Hold(os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600))
        try:
            database = self.database(generation)
            if not _flock(held.fd, fcntl.LOCK_EX):
                return
            # Whoever built it held the lock until the pointer had moved. So only now it is certain that this is not the one.
            if self.current() != generation and not (database.exists() and _is_read(database)):
                self.discard(generation)
                lock.unlink(missing_ok=True)
        finally:
            held.release()

    def discard(self, generation: int) -> None:
        """Remove the files of a generation, but for its lock."""
        database = self.database(generation)
        for ending in ("", "-wal", "-shm", "-journal"):
            database.with_name(database.name + ending).unlink(missing_ok=True)

    # -- who works -----------------------------------------------------------------------------------------------

    def try_lock(self, name: str) -> Hold | None:
        """``writer`` or ``rebuild``; None where somebody else has it. Tells the process id to whoever asks. Raises ``DiskFull``,
        ``StoreUnavailable`` and its kin."""
        path = self.folder / f"{name}.lock"
        with os_errors(path):
            held = Hold(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK, 0o600))
        for _ in range(limits.CONSUMER_CLAIM_TRIES_MAX):
            if _flock(held.fd, fcntl.LOCK_EX):
                with os_errors(path):
                    os.ftruncate(held.fd, 0)
                    os.pwrite(held.fd, f"{os.getpid()}\n".encode(), 0)
                return held
            if not _flock(held.fd, fcntl.LOCK_SH):
                break  # really held, not just looked at
            fcntl.flock(held.fd, fcntl.LOCK_UN)
            time.sleep(_PAUSE_S)
        held.release()
        return None

    def holder(self, name: str) -> tuple[bool, int | None]:
        """Whether somebody has a lock, and his process id where that is known."""
        path = self.folder / f"{name}.lock"
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except FileNotFoundError:
            return False, None
        except OSError as exc:
            raise files.unavailable(str(path), exc) from exc
        held = Hold(fd)
        try:
            if _flock(fd, fcntl.LOCK_SH):
                return False, None
            said = os.pread(fd, 32, 0).strip()
            return True, int(said) if said.isdigit() else None
        finally:
            held.release()

    @contextlib.contextmanager
    def switching(self) -> Iterator[None]:
        """While the pointer stays as it is, or is moved. Waits for others; held for a transaction at most. Raises
        ``StoreUnavailable`` and its kin."""
        path = self.folder / "switch.lock"
        with os_errors(path):
            held = Hold(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        try:
            fcntl.flock(held.fd, fcntl.LOCK_EX)
            yield
        finally:
            held.release()


def translated(path: Path | str, exc: OSError) -> VarveError:
    """An error of the operating system, as ours."""
    if exc.errno in files.SPACE_ERRORS:
        return DiskFull(f"no space for {path}. Free some and go on", path=str(path))
    return files.unavailable(str(path), exc)


@contextlib.contextmanager
def os_errors(path: Path | str) -> Iterator[None]:
    """Errors of the operating system as ours."""
    try:
        yield
    except OSError as exc:
        if isinstance(exc, VarveError):
            raise
        raise translated(path, exc) from exc


def _flock(fd: int, how: int) -> bool:
    """Whether a lock could be had at once."""
    try:
        fcntl.flock(fd, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_read(database: Path) -> bool:
    """Whether another process, whatever its program, is connected to a file and has read it."""
    fd = os.open(database, os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB, _SHARED_BYTES, _SHARED_AT)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
