"""``varve ui`` as a process: its address, other processes' events, its end. (What it serves: tests/ui.)"""

from __future__ import annotations

import http.client
import json
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from command_line import WAIT_S, Inside, Placed, fill, interrupted, next_line, started

import varve


def test_it_serves_until_ctrl_c(tmp_path: Path) -> None:
    """Whoever has the address is let in; another process's events come over an open stream, and Ctrl-C ends that, too."""
    fill(tmp_path / "data", 2)
    with started(tmp_path, "ui", "data", "--no-browser") as running:
        url = urlsplit(next_line(running).strip())
        assert "Ctrl-C" in next_line(running)
        assert url.hostname == "127.0.0.1"
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=WAIT_S)
        connection.request("GET", "/api/store")
        answer = connection.getresponse()
        assert answer.status == 403
        assert answer.getheader("server") is None
        answer.read()
        connection.request("GET", f"/api/tail?{url.query}")
        stream = connection.getresponse()
        assert stream.getheader("content-type") == "text/event-stream; charset=utf-8"
        assert stream.readline() == b"event: from\r\n"
        with varve.open(tmp_path / "data") as db:
            db.stream("orders", Placed).append(9, Placed(9, "from elsewhere"))
        line = b""
        while not line.startswith(b"data: ["):
            line = stream.readline()
            assert line
        [row] = json.loads(line.removeprefix(b"data: "))
        assert (row["sequence"], row["id"], row["fields"][1]) == ("3", "int:9", ["product", '"from elsewhere"'])
        assert interrupted(running) == (130, "", "")
        stream.close()
        connection.close()


def test_programs_get_the_address_as_json(tmp_path: Path) -> None:
    """On the port that was asked for; a second one on it is told so in a line."""
    fill(tmp_path / "data", 1)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with started(tmp_path, "ui", "data", "--no-browser", "--port", str(port), "--json") as running:
        found = json.loads(next_line(running))
        assert found["port"] == port
        assert found["url"].startswith(f"http://127.0.0.1:{port}/?token=")
        assert len(found["url"].partition("token=")[2]) >= 43
        assert found["path"] == str(tmp_path / "data")
        assert interrupted(running).code == 130


def test_a_port_in_use(inside: Inside) -> None:
    """A line that says what to do."""
    fill(Path("data"))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = inside.refused(6, "ui", "data", "--no-browser", "--port", str(port))
        assert f"127.0.0.1:{port}: the port is in use: name another with --port" in told


@pytest.mark.parametrize("host", ["0.0.0.0", "192.168.1.7", "example.com", "::", "", "127.0.0.1:80"])
def test_other_hosts_are_refused(inside: Inside, host: str) -> None:
    """Whoever could reach them would read the whole store."""
    fill(Path("data"))
    assert "loopback" in inside.refused(2, "ui", "data", "--no-browser", "--host", host)


def test_without_the_extra(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install."""
    fill(Path("data"))
    for package in ("starlette", "uvicorn", "sse_starlette"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, package, None)
            told = inside.refused(6, "ui", "data", "--no-browser")
        assert f"varve ui needs {package}" in told
        assert "pip install 'varve-store[ui]'" in told


def test_a_browser_is_opened_where_there_is_a_screen(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token of its own that works once; not where it would take over the terminal, nor with --no-browser."""
    import threading
    import webbrowser

    import uvicorn

    fill(Path("data"))
    opened: list[str] = []
    done = threading.Event()

    def browse(url: str) -> None:
        opened.append(url)
        done.set()

    def served(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(webbrowser, "open", browse)
    monkeypatch.setattr(uvicorn.Server, "run", served)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    assert inside.run("ui", "data").code == 130
    monkeypatch.setenv("DISPLAY", ":0")
    assert inside.run("ui", "data", "--no-browser").code == 130
    assert opened == []
    found = inside.run("ui", "data")
    assert done.wait(WAIT_S)
    printed = found.out.splitlines()[0]
    assert opened[0].partition("?token=")[0] == printed.partition("?token=")[0]
    assert opened[0] != printed
