"""Stores to look at, and a client that is let in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from starlette.testclient import TestClient

import varve
from varve.ui.app import application
from varve.ui.guard import Guard

HOST = "127.0.0.1:8765"
TOKEN = "the-token"
HTML = '<img src=x onerror="document.title=\'owned\'"><script>document.title="owned"</script>'


@varve.event
class Placed:
    number: varve.u64
    text: str


@varve.event(name="shop.Shipped")
class Shipped:
    number: varve.u64


def fill(path: Path, orders: int = 5) -> None:
    """Some orders, each placed and every second one shipped."""
    with varve.open(path, durability="bulk") as db:
        stream = db.stream("orders", Placed | Shipped)
        for number in range(orders):
            stream.append(number, Placed(number, f"thing {number}"), metadata={"by": "test"} if number == 1 else None)
            if number % 2:
                stream.append(number, Shipped(number))


def damage(path: Path, needle: bytes) -> None:
    """Flip a bit wherever some bytes stand in the closed file."""
    file = path / "data.mdb"
    data = bytearray(file.read_bytes())
    at = data.find(needle)
    assert at >= 0
    while at >= 0:
        data[at] ^= 1
        at = data.find(needle, at)
    file.write_bytes(data)


def guarded(db: varve.Varve) -> Guard:
    """The explorer as it is served."""
    return Guard(application(db), token=TOKEN, hosts=[HOST, "localhost:8765"], cookie="varve-ui-8765")


class Client:
    """Asks the API of a store."""

    def __init__(self, db: varve.Varve) -> None:
        self.app = guarded(db)
        self.http = TestClient(self.app, base_url=f"http://{HOST}", follow_redirects=False)
        assert self.http.get("/", params={"token": TOKEN}).status_code == 303

    def get(self, path: str, **parameters: Any) -> Any:
        """What the API answers."""
        answer = self.http.get(f"/api/{path}", params=parameters)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def refused(self, status: int, path: str, **parameters: Any) -> Any:
        """What it says that it cannot answer."""
        answer = self.http.get(f"/api/{path}", params=parameters)
        assert answer.status_code == status, answer.text
        return answer.json()["error"]


@contextmanager
def client(path: Path) -> Iterator[Client]:
    """A client of a store that is there."""
    with varve.open(path, readonly=True) as db:
        yield Client(db)
