"""sse.py over loopback: what is committed reaches every client, each event once, and a client that leaves leaves nothing.

The server is a process of its own; the clients are the standard library's.
"""

import contextlib
import http.client
import importlib.util
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import pytest

import varve

if importlib.util.find_spec("uvicorn") is None or importlib.util.find_spec("starlette") is None:
    pytest.skip("the extra `web` is not installed", allow_module_level=True)

SCRIPT = Path(__file__).parents[2] / "examples" / "sse.py"


@varve.event(name="MessagePosted")
class Posted:
    author: str
    text: str


class Sent(NamedTuple):
    """A server-sent event."""

    id: int
    event: str
    data: dict[str, Any]

    @property
    def text(self) -> str:
        return self.data["event"]["text"]


class Server:
    """A running one."""

    def __init__(self, port: int) -> None:
        self.port = port

    def connection(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method: str, target: str, body: bytes | None = None) -> tuple[int, bytes]:
        """One request and its answer."""
        with contextlib.closing(self.connection()) as connection:
            connection.request(method, target, body)
            answer = connection.getresponse()
            return answer.status, answer.read()

    def post(self, text: str) -> int:
        """Append a message; its global sequence."""
        status, body = self.ask("POST", "/messages", json.dumps({"author": "ada", "text": text}).encode())
        assert status == 201, body
        return json.loads(body)["id"]

    @contextlib.contextmanager
    def listening(self, target: str, **headers: str) -> Iterator[Iterator[Sent]]:
        """A client; the connection is cut at the end."""
        with contextlib.closing(self.connection()) as connection:
            connection.request("GET", target, headers=headers)
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.headers["Content-Type"].startswith("text/event-stream")
            assert answer.readline() == b": welcome\n"
            yield sent(answer)
            answer.close()

    def clients(self) -> int:
        return json.loads(self.ask("GET", "/health")[1])["clients"]


def sent(answer: http.client.HTTPResponse) -> Iterator[Sent]:
    """Events out of a stream, as a browser reads them."""
    fields: dict[str, str] = {}
    for raw in answer:
        line = raw.decode().removesuffix("\n")
        name, _, value = line.partition(": ")
        if name:
            fields[name] = value
        elif not line and fields:
            yield Sent(int(fields["id"]), fields["event"], json.loads(fields["data"]))
            fields = {}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """On a port of the system's choosing; it must end well when it is interrupted."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", SCRIPT, tmp_path / "store", "--port", "0"],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as running:
        assert running.stderr is not None
        said = ""
        try:
            while (found := re.search(r"running on http://127\.0\.0\.1:(\d+)", said)) is None:
                line = running.stderr.readline()
                assert line, said
                said += line
            yield Server(int(found[1]))
            running.send_signal(signal.SIGINT)
            said += running.stderr.read()
        finally:
            running.kill()
    assert running.returncode == 0, said
    assert "Traceback" not in said, said
    assert "Application shutdown complete" in said


def test_each_client_gets_every_event_from_its_start_on(server: Server, tmp_path: Path) -> None:
    """History, then what comes: from the beginning, from a sequence, from the end, from an instant."""
    assert [server.post(f"old {n}") for n in range(3)] == [0, 1, 2]
    later = (datetime.now(UTC) - timedelta(hours=1)).isoformat()
    with (
        server.listening("/events?start=0") as everything,
        server.listening("/events?start=2") as some,
        server.listening("/events") as new,
        server.listening(f"/events?start={quote(later)}") as of_this_hour,
    ):
        assert server.clients() == 4
        assert [server.post(f"new {n}") for n in range(2)] == [3, 4]
        texts = ["old 0", "old 1", "old 2", "new 0", "new 1"]
        for client, start in ((everything, 0), (some, 2), (new, 3), (of_this_hour, 0)):
            got = [next(client) for _ in range(start, 5)]
            assert [one.id for one in got] == list(range(start, 5))
            assert [one.text for one in got] == texts[start:]
            assert {(one.event, one.data["stream"], one.data["stream_id"]) for one in got} == {
                ("MessagePosted", "messages", "lobby")
            }


def test_a_client_goes_on_behind_the_last_event_that_it_saw(server: Server) -> None:
    """Whatever came while it was away comes first; the header is more than the query."""
    server.post("seen")
    with server.listening("/events?start=0") as client:
        last = next(client)
    server.post("missed")
    with server.listening("/events?start=0", **{"Last-Event-ID": str(last.id)}) as client:
        assert next(client).text == "missed"
        server.post("live")
        assert next(client).text == "live"


def test_events_of_another_process_arrive(server: Server, tmp_path: Path) -> None:
    """The store is open here too; line breaks in a text stay inside of their event."""
    with server.listening("/events") as client, varve.open(tmp_path / "store", durability="relaxed") as db:
        db.stream("messages", Posted).append("hall", Posted("bob", "two\n\nlines"))
        one = next(client)
        assert (one.text, one.data["stream_id"]) == ("two\n\nlines", "hall")


def test_a_client_that_leaves_is_let_go(server: Server) -> None:
    """Also one that never gets an event again: the server does not wait for one to notice."""
    with server.listening("/events") as client, server.listening("/events"):
        server.post("hello")
        assert next(client).text == "hello"
        assert server.clients() == 2
    # As soon as it has read that the connections are closed; each look is a request that it answers meanwhile.
    assert any(server.clients() == 0 for _ in range(5_000))
    server.post("alone")
    with server.listening("/events?start=1") as client:
        assert next(client).text == "alone"


def test_a_server_that_ends_ends_its_streams(server: Server) -> None:
    """The fixture interrupts it while a client listens."""
    context = server.listening("/events")
    context.__enter__()  # left open: the fixture's assertions are the test
    assert server.clients() == 1


@pytest.mark.parametrize(
    "target", ["/events?start=-1", "/events?start=soon", "/events?start=2024-01-01T00:00:00", "/events?start="]
)
def test_a_start_that_is_none_is_refused(server: Server, target: str) -> None:
    """With a word on what a start is; a datetime without an offset is none."""
    status, body = server.ask("GET", target)
    assert status == 400
    assert body


def test_a_message_that_is_none_is_refused(server: Server) -> None:
    """Nothing is written."""
    for body in (b"", b"{", b"[]", b'{"author": "ada"', b'{"author": 1, "text": "x"}', b"\xff"):
        assert server.ask("POST", "/messages", body)[0] == 400, body
    status, health = server.ask("GET", "/health")
    assert (status, json.loads(health)) == (200, {"clients": 0, "next_global_sequence": 0})
    assert server.ask("GET", "/messages")[0] == 405
