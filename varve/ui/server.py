"""The socket, the address with its token, and the end."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import secrets
import socket
import sys
import threading
import webbrowser
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import uvicorn

from varve.errors import InvalidInput
from varve.ui.app import application
from varve.ui.guard import Guard

if TYPE_CHECKING:
    from varve.store import Varve

__all__ = ["Explorer"]

GRACE_S: Final = 3
"""How long answers may take to end after Ctrl-C; live views end at once."""


class Explorer:
    """An explorer of an open store that listens; ``run`` serves it. Raises ``InvalidInput`` for a host that is not this machine
    alone, ``OSError`` where the port is taken."""

    def __init__(self, db: Varve, *, host: str = "127.0.0.1", port: int = 0) -> None:
        address = loopback(host)
        self._socket = listening(address, port)
        self.port: int = self._socket.getsockname()[1]
        self._name = f"[{address}]" if ":" in address else address
        token = secrets.token_urlsafe(32)
        self.url = f"http://{self._name}:{self.port}/?token={token}"
        hosts = {f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", self._name)}
        # A cookie is sent to every port of a host: the name keeps two explorers apart.
        self.app = Guard(application(db), token=token, hosts=hosts, cookie=f"varve-ui-{self.port}")

    def run(self, *, browser: bool) -> None:
        """Serve until a signal ends it; Ctrl-C raises ``KeyboardInterrupt`` when everything is closed."""
        config = uvicorn.Config(
            self.app,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="error",
            access_log=False,  # addresses hold the token
            server_header=False,
            timeout_graceful_shutdown=GRACE_S,
        )
        if browser and is_there_a_screen():
            address = f"http://{self._name}:{self.port}/?token={self.app.once()}"
            threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
        with contextlib.closing(self._socket):
            uvicorn.Server(config).run(sockets=[self._socket])

    def close(self) -> None:
        """Listen no more."""
        self._socket.close()


def loopback(host: str) -> str:
    """An address of this machine alone. Raises ``InvalidInput``."""
    if host == "localhost":
        return "127.0.0.1"
    try:
        if ipaddress.ip_address(host).is_loopback:
            return host
    except ValueError:
        pass
    raise InvalidInput(
        f"the explorer listens on loopback addresses only (127.0.0.1, ::1), not on {host!r}: whoever reaches it reads the whole "
        "store. From elsewhere use a tunnel: ssh -L 8765:127.0.0.1:8765 HOST, with --port 8765"
    )


def listening(address: str, port: int) -> socket.socket:
    """A socket that listens. Raises ``OSError``."""
    with _closed_on_error(
        socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM)
    ) as made:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            made.bind((address, port))
        except OSError as error:
            words = error.strerror or str(error)
            if error.errno == errno.EADDRINUSE:
                words = "the port is in use: name another with --port, or none and a free one is taken"
            raise OSError(error.errno, words, f"{address}:{port}") from None
        made.listen(128)
        return made


@contextlib.contextmanager
def _closed_on_error(made: socket.socket) -> Iterator[socket.socket]:
    try:
        yield made
    except BaseException:
        made.close()
        raise


def is_there_a_screen() -> bool:
    """Whether a browser can show itself: one for the terminal would take that over."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
