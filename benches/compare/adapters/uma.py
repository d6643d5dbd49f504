"""umadb: a server of its own on loopback, and the client that the same package brings."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import umadb

from benches.compare.peers import Store
from benches.events import OrderPlaced
from varve.codec import event_type

START_LIMIT_S = 20.0
_SERVER = "import umadb, sys; umadb.run_server_from_args(['umadb', *sys.argv[1:]])"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Uma(Store):
    """Events made before; a tag stands for the stream."""

    commit_events_max: ClassVar[int] = 20_000  # a request holds at most 4 MiB

    def __init__(self, path: Path) -> None:
        path.mkdir(parents=True, exist_ok=True)
        address = f"127.0.0.1:{_free_port()}"
        command = [sys.executable, "-c", _SERVER, "--listen", address, "--db-path", str(path / "uma.db")]
        self._server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            self._client = self._connect(f"http://{address}")
        except BaseException:
            self._stop()
            raise

    def _connect(self, url: str) -> Any:
        until = time.monotonic() + START_LIMIT_S
        while True:
            try:
                client = umadb.Client(url)
                client.head()
            except Exception:  # its errors of transport share no base with its others
                if self._server.poll() is not None or time.monotonic() > until:
                    raise
                time.sleep(0.02)
            else:
                return client

    @classmethod
    def prepare(cls, events: Sequence[OrderPlaced]) -> Sequence[Any]:
        pack, tags = event_type(OrderPlaced).pack, ["orders:0"]
        return [umadb.Event(event_type="OrderPlaced", data=pack(event), tags=tags) for event in events]

    def append(self, prepared: Sequence[Any]) -> None:
        self._client.append(prepared)

    def amounts(self) -> tuple[int, int]:
        view, count, total = event_type(OrderPlaced).view, 0, 0
        for found in self._client.read():
            count += 1
            total += view(found.event.data).amount
        return count, total

    def durable(self) -> bool:
        return True  # its server has no other mode

    def close(self) -> None:
        self._client.close()
        self._stop()

    def _stop(self) -> None:
        self._server.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._server.wait(10)
        if self._server.poll() is None:
            self._server.kill()
            self._server.wait()
