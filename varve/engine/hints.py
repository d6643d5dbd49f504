"""Hints: a datagram to every process that watches, so that it looks at the store at once.

Who watches binds a Unix datagram socket in the folder ``watch`` beside the data (0700). Who has committed sends each an
empty-handed byte, without ever waiting. A hint carries nothing and guarantees nothing: it may be lost, late or doubled,
and where there are no sockets (a folder that cannot be written, a file system or a platform without them) everything
works by polling.

At most one hint of a writer lies unread at a watcher: the kernel tells how much of what a connected socket sent is still
unread. Whoever finds one unread need not send: it will be taken out before the look at the store that it causes, and that
look sees this commit.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import stat
import termios
import threading
import weakref
from collections.abc import Iterator
from time import time_ns as _now_ns
from typing import TYPE_CHECKING, Final

from varve import limits

if TYPE_CHECKING:
    import socket

WATCH: Final = "watch"

_HINT: Final = b"\0"
_ADDRESS_BYTES_MAX: Final = 103
"""What fits into a socket's address on every system (Linux: 107)."""
_AROUND: Final = "/proc/self/fd"
"""Where Linux lets a process name what it has open."""
_CLOCK_NS: Final = 20_000_000
"""Two changes of a folder within this time may leave it with one and the same time of change."""

_own: set[str] = set()
"""Names of this process's sockets: its own commits need no hint."""


def _datagram_socket() -> socket.socket | None:
    """A socket that never waits; None where there is none."""
    import socket

    if not hasattr(socket, "AF_UNIX"):  # pragma: no cover - other systems
        return None
    try:
        made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError:
        return None
    made.setblocking(False)
    return made


@contextlib.contextmanager
def _address(folder: str, name: str) -> Iterator[str]:
    """An address of a socket in a folder, however long the folder's path is where the system lets us go around it."""
    plain = os.path.join(folder, name)
    if len(os.fsencode(plain)) <= _ADDRESS_BYTES_MAX:
        yield plain
        return
    at = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"{_AROUND}/{at}/{name}"
    finally:
        os.close(at)


def _sweep(folder: str, name: str) -> None:
    """Remove a socket that nobody is bound to any more. Names are never used twice, so nobody will be."""
    path = os.path.join(folder, name)
    with contextlib.suppress(OSError):
        if stat.S_ISSOCK(os.lstat(path).st_mode):
            os.unlink(path)


class HintSender:
    """The writing side of a store: whom to hint, kept up to date by the folder's time of change. Never raises, never
    waits."""

    def __init__(self, path: str) -> None:
        self._folder = os.path.join(path, WATCH)
        self._lock = threading.Lock()
        self._watchers: dict[str, socket.socket] = {}
        self._listed_ns: int | None = None
        _senders.add(self)

    def send(self) -> None:
        """Hint everybody who watches in other processes."""
        try:
            changed_ns = os.stat(self._folder).st_mtime_ns
        except OSError:  # nobody ever watched
            return
        with self._lock:
            if changed_ns != self._listed_ns:
                self._list(changed_ns)
            for name, watcher in list(self._watchers.items()) if self._watchers else ():
                self._hint(name, watcher)

    def close(self) -> None:
        """Let the sockets go."""
        watchers, self._watchers = self._watchers, {}
        for watcher in watchers.values():
            watcher.close()

    def _hint(self, name: str, watcher: socket.socket) -> None:
        try:
            if not _is_unread(watcher):
                watcher.send(_HINT)
        except BlockingIOError:  # it has enough to read
            pass
        except ConnectionRefusedError:
            self._drop(name)
            _sweep(self._folder, name)
        except OSError:
            self._drop(name)

    def _drop(self, name: str) -> None:
        watcher = self._watchers.pop(name, None)
        if watcher is not None:
            watcher.close()

    def _list(self, changed_ns: int) -> None:
        """Connect to who is new, forget who is gone."""
        # A change that follows within the clock's grain could not be told from this one: then list again next time.
        self._listed_ns = changed_ns if abs(_now_ns() - changed_ns) > _CLOCK_NS else None
        try:
            names = set(os.listdir(self._folder)) - _own
        except OSError:
            names = set()
        for gone in self._watchers.keys() - names:
            self._drop(gone)
        for name in sorted(names - self._watchers.keys()):
            if len(self._watchers) >= limits.HINTED_WATCHERS_MAX:
                return  # the rest polls
            self._connect(name)

    def _connect(self, name: str) -> None:
        made = _datagram_socket()
        if made is None:
            return
        try:
            with _address(self._folder, name) as address:
                made.connect(address)
        except ConnectionRefusedError:
            made.close()
            _sweep(self._folder, name)
        except OSError:  # gone meanwhile, or not ours to hint
            made.close()
        else:
            self._watchers[name] = made


def _is_unread(watcher: socket.socket) -> bool:
    """Whether something that was sent through a socket has not been read yet; no where that cannot be told."""
    try:
        return fcntl.ioctl(watcher.fileno(), termios.TIOCOUTQ, _NO_BYTES) != _NO_BYTES
    except (OSError, ValueError):  # ValueError: closed
        return False


_NO_BYTES: Final = bytes(4)


_senders: weakref.WeakSet[HintSender] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    _own.clear()  # they are the parent's, which is another process from here on
    for sender in list(_senders):
        sender.close()


os.register_at_fork(after_in_child=_after_fork_in_child)


class HintSocket:
    """The watching side: readable as soon as another process has committed."""

    def __init__(self, folder: str, name: str, bound: socket.socket) -> None:
        self._folder = folder
        self._name = name
        self._socket = bound

    @classmethod
    def bind(cls, path: str) -> HintSocket | None:
        """A socket in the folder of a store; None where that cannot be had. Sockets of the dead are swept."""
        folder = os.path.join(path, WATCH)
        bound = _datagram_socket()
        if bound is None:
            return None
        name = f"{os.getpid()}-{secrets.token_hex(8)}"
        _own.add(name)
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(folder, 0o700)
            with _address(folder, name) as address:
                bound.bind(address)
        except OSError:
            _own.discard(name)
            bound.close()
            return None
        made = cls(folder, name, bound)
        made.sweep()
        return made

    def sweep(self) -> None:
        """Remove the sockets of processes that died."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):
                if name not in _own:
                    self._probe(name)

    def _probe(self, name: str) -> None:
        probe = _datagram_socket()
        if probe is None:
            return
        with probe:
            try:
                with _address(self._folder, name) as address:
                    probe.connect(address)
            except ConnectionRefusedError:
                _sweep(self._folder, name)
            except OSError:
                pass

    def fileno(self) -> int:
        """The descriptor, to wait for."""
        return self._socket.fileno()

    def drain(self) -> None:
        """Take every hint out. Look at the store afterwards, never before."""
        with contextlib.suppress(OSError):
            while True:
                self._socket.recv(16)

    def close(self) -> None:
        """Watch no longer."""
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(self._folder, self._name))
        self._socket.close()
        _own.discard(self._name)

    def forget(self) -> None:
        """In the child of a fork: the socket is the parent's, and must die with it."""
        self._socket.close()
