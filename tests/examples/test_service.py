"""service.py with two workers, as real processes: what it answers, and what is left when a worker is killed at work.

The clients are the standard library's.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import varve
from varve import ops

SCRIPT = Path(__file__).parents[2] / "examples" / "service.py"


class Answer(NamedTuple):
    """What a request came to."""

    status: int
    etag: str | None
    body: Any


class Service:
    """A running one."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self._lines: list[str] = []
        self._changed = threading.Condition()
        self._process = subprocess.Popen(
            [sys.executable, "-W", "error", SCRIPT, store, "--port", "0", "--workers", "2"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._listener = threading.Thread(target=self._listen)
        self._listener.start()

    def _listen(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()

    def said(self, pattern: str, times: int = 1) -> list[str]:
        """What it says, once it has said it so often."""
        with self._changed:
            found: list[str] = []

            def enough() -> bool:
                found[:] = re.findall(pattern, "".join(self._lines))
                return len(found) >= times

            assert self._changed.wait_for(enough, 60), "".join(self._lines)
            return found

    def ready(self) -> None:
        """Once both workers answer."""
        self.port = int(self.said(r"running on http://127\.0\.0\.1:(\d+)")[0])
        self.said("Application startup complete", 2)

    def ask(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        """One request over a connection of its own: any worker may take it."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            given["Content-Type"] = "application/json"
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            connection.request(method, target, None if body is None else json.dumps(body), given)
            answer = connection.getresponse()
            text = answer.read()
            return Answer(answer.status, answer.headers["ETag"], json.loads(text))

    def ask_again(self, method: str, target: str, body: Any = None, **headers: str) -> Answer:
        """The same, again where there was no answer: what a client with an idempotency key may do."""
        for _ in range(100):
            with contextlib.suppress(ConnectionError, http.client.HTTPException):
                return self.ask(method, target, body, **headers)
        raise AssertionError("no worker answers any more")

    def end(self) -> None:
        """Ask it to end, and see that it does."""
        self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) in {0, -signal.SIGTERM}

    def kill(self) -> None:
        """Whatever is left of it."""
        if self._process.poll() is None:
            self._process.terminate()  # the parent ends its workers
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(30)
        self._listener.join(30)  # it ends with the last worker
        assert self._process.stderr is not None
        self._process.stderr.close()

    def confirmer(self) -> int:
        """The worker that owns the consumer, once one does."""
        for _ in range(2_000):
            [info] = self.ask_again("GET", "/health").body["confirming"].values() or [{"worker": None}]
            if info["worker"] is not None:
                return int(info["worker"])
        raise AssertionError("nobody confirms orders")

    def confirmed(self, order_id: int) -> int:
        """How often an order was confirmed, once it was."""
        for _ in range(2_000):
            count = int(self.ask_again("GET", f"/orders/{order_id}").body["confirmations"])
            if count:
                return count
        raise AssertionError(f"order {order_id} is not confirmed")


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """On a port of the system's choosing, for all tests here: each has orders of its own."""
    running = Service(tmp_path_factory.mktemp("service") / "store")
    try:
        running.ready()
        yield running
    finally:
        running.kill()


LAPTOP = {"product": "Laptop", "quantity": 2}


def test_an_order_is_placed_shown_and_cancelled(service: Service) -> None:
    """Its version is its ETag; a change that names an older one is refused."""
    assert service.ask("GET", "/orders/1").status == 404
    placed = service.ask("PUT", "/orders/1", LAPTOP)
    assert (placed.status, placed.etag, placed.body["replayed"]) == (201, '"1"', False)
    shown = service.ask("GET", "/orders/1")
    assert (shown.status, shown.etag) == (200, '"1"')
    assert shown.body == {
        "id": 1,
        "cancelled": None,
        "note": None,
        **LAPTOP,
        "confirmations": shown.body["confirmations"],
    }
    assert service.ask("DELETE", "/orders/1?reason=late", If_Match='"1"').etag == '"2"'
    again = service.ask("DELETE", "/orders/1?reason=late", If_Match='"1"')
    assert (again.status, again.body["code"]) == (412, "wrong_expected_version")
    assert service.ask("GET", "/orders/1").body["cancelled"] == "late"
    assert service.confirmed(1) == 1


def test_a_number_is_used_once(service: Service) -> None:
    """A second order under it is a conflict, and one that is not there cannot be cancelled."""
    assert service.ask("PUT", "/orders/2", LAPTOP).status == 201
    assert service.ask("PUT", "/orders/2", LAPTOP).status == 409
    assert service.ask("DELETE", "/orders/3?reason=none").status == 409


def test_the_same_request_is_made_once(service: Service) -> None:
    """With its key it is answered as it was then, by whichever worker; with other content the key is a conflict."""
    first = service.ask("PUT", "/orders/4", LAPTOP, Idempotency_Key="four")
    for _ in range(4):
        again = service.ask("PUT", "/orders/4", LAPTOP, Idempotency_Key="four")
        assert (again.status, again.etag) == (201, '"1"')
        assert again.body == {**first.body, "replayed": True}
    other = service.ask("PUT", "/orders/4", {**LAPTOP, "quantity": 3}, Idempotency_Key="four")
    assert (other.status, other.body["code"]) == (409, "idempotency_conflict")


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"product": "Laptop"},
        {**LAPTOP, "quantity": -1},
        {**LAPTOP, "quantity": 2**32},
        {**LAPTOP, "quantity": "many"},
        {**LAPTOP, "quantity": 1.5},
        {**LAPTOP, "colour": "red"},
        {**LAPTOP, "product": None},
        [LAPTOP],
        "text",
    ],
)
def test_a_body_that_is_no_order_is_refused(service: Service, body: Any) -> None:
    """By the event class: its fields, their types, the widths of its numbers."""
    assert service.ask("PUT", "/orders/5", body).status == 422
    assert service.ask("GET", "/orders/5").status == 404


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        ("DELETE", "/orders/2?reason=x", {"If_Match": "many"}),
        ("DELETE", "/orders/2?reason=x", {"If_Match": '"-1"'}),
        ("DELETE", "/orders/2", {}),
        ("DELETE", "/orders/2?reason=x", {"Idempotency_Key": ""}),
        ("DELETE", "/orders/-2?reason=x", {}),
        ("GET", "/orders/text", {}),
        ("GET", "/events?start=yesterday", {}),
        ("GET", "/events", {"Last_Event_ID": "-1"}),
    ],
)
def test_what_makes_no_sense_is_refused(service: Service, method: str, target: str, headers: dict[str, str]) -> None:
    """The store's own words for it become the answer."""
    assert service.ask(method, target, **headers).status == 422


def test_every_client_is_told_of_every_event(service: Service) -> None:
    """Whichever worker it listens to, whichever wrote it; a client that comes back goes on behind the last one it saw."""

    def heard(last: int, count: int) -> list[int]:
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=60)) as connection:
            connection.request("GET", "/events", headers={"Last-Event-ID": str(last)})
            answer = connection.getresponse()
            ids: list[int] = []
            while len(ids) < count:
                line = answer.readline().decode()
                if line.startswith("id: "):
                    ids.append(int(line[4:]))
            return ids

    position = service.ask("PUT", "/orders/6", LAPTOP).body["global_sequence"]
    with ThreadPoolExecutor(4) as clients:
        listening = [clients.submit(heard, position, 12) for _ in range(4)]
        for order_id in range(60, 66):
            assert service.ask("PUT", f"/orders/{order_id}", LAPTOP).status == 201
        assert [one.result() for one in listening] == [list(range(position + 1, position + 13))] * 4


def test_a_killed_worker_loses_nothing_and_doubles_nothing(service: Service) -> None:
    """The one that confirms orders is killed while both take them: clients ask again, the other goes on confirming. After a
    restart of the whole service each order is there once, and confirmed once."""
    ids = range(1_000, 1_060)
    killed = service.confirmer()
    half = threading.Event()

    def place(order_id: int) -> Answer:
        answer = service.ask_again("PUT", f"/orders/{order_id}", LAPTOP, Idempotency_Key=f"order-{order_id}")
        if order_id == ids[20]:
            half.set()
        return answer

    with ThreadPoolExecutor(8) as clients:
        answers = [clients.submit(place, order_id) for order_id in ids]
        assert half.wait(60)
        os.kill(killed, signal.SIGKILL)
        assert {answer.result()[:2] for answer in answers} == {(201, '"1"')}
    assert {service.confirmed(order_id) for order_id in ids} == {1}
    assert service.confirmer() != killed
    service.said("Application startup complete", 3)  # a worker in the place of the killed one
    service.end()

    again = Service(service.store)
    try:
        again.ready()
        for order_id in ids[::10]:
            answer = again.ask("PUT", f"/orders/{order_id}", LAPTOP, Idempotency_Key=f"order-{order_id}")
            assert (answer.status, answer.body["replayed"]) == (201, True)
        assert again.ask("PUT", "/orders/2000", LAPTOP).status == 201
        assert again.confirmed(2_000) == 1
        again.end()
    finally:
        again.kill()
    assert ops.verify(service.store).sound
    with varve.open(service.store, readonly=True) as db:
        found = Counter(
            (one.stream, one.stream_id) for one in db.global_reader().iter_from(types=["OrderPlaced", "OrderConfirmed"])
        )
    placed = {key: count for key, count in found.items() if key[0] == "orders"}
    assert {("orders", order_id) for order_id in ids} <= set(placed)
    assert set(placed.values()) == {1}
    assert {("confirmations", order_id) for _, order_id in placed} == found.keys() - placed.keys()
    assert set(found.values()) == {1}
