"""What lies beside the data: sockets that anybody of this user may write to, and lock files."""

from __future__ import annotations

import os
import random
import shutil
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from unittest import mock

from torture.hostile.target import Attempt, insist
from varve.engine.hints import WATCH, HintSender, HintSocket
from varve.errors import StoreUnavailable
from varve.tailing.ownership import FOLDER, OwnerLock, lock_path

Hole = tuple[str, AbstractContextManager[object], int]


def _garbage(path: Path, chance: random.Random) -> None:
    """Something that has no business there, in the place of a file."""
    if os.path.lexists(path):
        return
    with suppress(OSError):
        match chance.randrange(9):
            case 0:
                path.mkdir()
            case 1:
                os.mkfifo(path)
            case 2:
                path.symlink_to(chance.choice(("nowhere", "/dev/null", "/dev/full", path.name, "..", "x" * 200)))
            case 3:
                path.touch(mode=0)
            case 4:
                with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as bound:
                    bound.bind(str(path))
            case 5:
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
                    bound.bind(str(path))
            case _:
                path.write_bytes(chance.randbytes(chance.choice((0, 1, 4096))))


def _cleared(folder: Path) -> None:
    with suppress(FileNotFoundError):
        if folder.is_dir() and not folder.is_symlink():
            shutil.rmtree(folder)
        else:
            folder.unlink()


def _place(folder: Path) -> Path:
    """A folder of this process's own: workers fork after everything was prepared."""
    own = folder / str(os.getpid())
    own.mkdir(exist_ok=True)
    return own


class HintsTarget:
    """Datagrams of any size and content, and a folder of watchers with anything in it."""

    name = "hints"
    share = 8

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """Nothing to collect."""

        def attempt(chance: random.Random) -> bool:
            store = _place(folder)
            watch = store / WATCH
            _cleared(watch)
            if chance.randrange(8) == 0:
                _garbage(watch, chance)
            with suppress(OSError):
                watch.mkdir(exist_ok=True)
            for _ in range(chance.randrange(4)):
                name = chance.choice(("1-00", "x" * 120, "\u202e", "a b", "-1", f"{os.getpid()}-ff"))
                _garbage(watch / f"{name}{chance.randrange(9)}", chance)
            bound = HintSocket.bind(str(store))
            sender = HintSender(str(store))
            try:
                if bound is not None:
                    _pester(bound, watch, chance)
                    bound.sweep()
                for _ in range(3):
                    sender.send()
            finally:
                sender.close()
                if bound is not None:
                    bound.close()
            return bound is not None

        return attempt

    def holes(self) -> Iterator[Hole]:
        """A socket that waits for the next datagram."""

        def waiting(self: HintSocket) -> None:
            self._socket.setblocking(True)
            self._socket.settimeout(0.001)
            while True:
                self._socket.recv(16)

        yield "a watcher that waits for one more hint", mock.patch.object(HintSocket, "drain", waiting), 50


def _pester(bound: HintSocket, watch: Path, chance: random.Random) -> None:
    """Send a watcher what it never asked for; it must be able to empty its socket all the same."""
    name = bound._name  # noqa: SLF001
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as hostile:
        hostile.setblocking(False)
        with suppress(OSError):
            hostile.connect(str(watch / name))
            for _ in range(chance.choice((1, 3, 30))):
                hostile.send(chance.randbytes(chance.choice((0, 1, 16, 17, 60_000))))
    bound.drain()
    with suppress(BlockingIOError):
        bound._socket.recv(16)  # noqa: SLF001
        insist(False, "hints were left in the socket")


class LocksTarget:
    """Lock files of consumers that are anything but files of ours."""

    name = "lock files"
    share = 8

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """Nothing to collect."""

        def attempt(chance: random.Random) -> bool:
            store = _place(folder)
            _cleared(store / FOLDER)
            if chance.randrange(8) == 0:
                _garbage(store / FOLDER, chance)
            with suppress(OSError):
                (store / FOLDER).mkdir(exist_ok=True)
            name = chance.choice(("billing", "\N{SNOWMAN}/..", "x" * 255, "\0", ".."))
            lock = OwnerLock(lock_path(str(store), name, 0, chance.choice((1, 256))))
            insist(lock.path.parent == store / FOLDER, "a lock outside of its folder")
            if chance.randrange(4):
                _garbage(lock.path, chance)
            steps: list[Callable[[], object]] = [lock.is_free, lock.take, lock.replace, lock.holds, lock.release]
            done = False
            try:
                for _ in range(chance.randint(1, 5)):
                    step = chance.choice(steps)
                    with suppress(StoreUnavailable):
                        done |= step() is True
            finally:
                lock.release()
            return done

        return attempt

    def holes(self) -> Iterator[Hole]:
        """A lock file that is opened as if it were a file; a folder of lock files that is taken for one."""

        def trusting(self: OwnerLock, path: Path, flags: int) -> None:
            self._close()
            self._fd = os.open(path, flags | os.O_CLOEXEC, 0o600)

        yield "a lock file that is a pipe is waited for", mock.patch.object(OwnerLock, "_open", trusting), 400
