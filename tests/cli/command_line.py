"""How the tests run commands: inside of the test, as real processes, and on a terminal."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

import varve
from varve.cli.app import run

VARVE = str(Path(sys.executable).with_name("varve"))
WAIT_S = 60.0
"""A test that waits so long for a process has failed."""


@varve.event
class Placed:
    order_id: varve.u64
    product: str
    note: str | None = None


@varve.event(name="shop.Shipped")
class Shipped:
    order_id: varve.u64


def fill(path: Path, orders: int = 5) -> None:
    """A store with some orders, each placed and every second one shipped."""
    with varve.open(path, durability="bulk") as db:
        stream = db.stream("orders", Placed | Shipped)
        for number in range(orders):
            stream.append(number, Placed(number, f"thing {number}"), metadata={"by": "test"} if number == 1 else None)
            if number % 2:
                stream.append(number, Shipped(number))


class Result(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


class Inside:
    """Runs commands in this process, as ``varve`` does."""

    def __init__(self, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
        self._capsys = capsys
        self._monkeypatch = monkeypatch

    def run(self, *arguments: str | Path, stdin: str = "") -> Result:
        """Whatever it comes to."""
        self._monkeypatch.setattr(sys, "argv", ["varve", *map(str, arguments)])
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        self._capsys.readouterr()
        try:
            code = run()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 1
        found = self._capsys.readouterr()
        return Result(code, found.out, found.err)

    def done(self, *arguments: str | Path, stdin: str = "") -> str:
        """What a command prints that must succeed without a word of complaint."""
        found = self.run(*arguments, stdin=stdin)
        assert (found.code, found.err) == (0, "")
        return found.out

    def json(self, *arguments: str | Path, stdin: str = "") -> Any:
        """The JSON document that a command prints."""
        return json.loads(self.done(*arguments, stdin=stdin))

    def lines(self, *arguments: str | Path, stdin: str = "") -> list[Any]:
        """The JSON lines that a command prints."""
        return [json.loads(line) for line in self.done(*arguments, stdin=stdin).splitlines()]

    def refused(self, code: int, *arguments: str | Path, stdin: str = "") -> str:
        """The one line that a command says which must fail."""
        found = self.run(*arguments, stdin=stdin)
        assert found.code == code, found
        assert found.out == ""
        assert found.err.startswith("varve: ")
        assert found.err.count("\n") == 1
        return found.err


def process(folder: Path, *arguments: str | Path, stdin: str | None = None, **environment: str) -> Result:
    """A command as installed, with its output in pipes."""
    found = subprocess.run(
        [VARVE, *map(str, arguments)],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        input=stdin,
        env={**os.environ, **environment},
        check=False,
        timeout=WAIT_S,
    )
    return Result(found.returncode, found.stdout, found.stderr)


def script(folder: Path, text: str, **environment: str) -> Result:
    """A Python program of its own."""
    found = subprocess.run(
        [sys.executable, "-c", text],
        cwd=folder,
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **environment},
        check=False,
        timeout=WAIT_S,
    )
    return Result(found.returncode, found.stdout, found.stderr)


@contextmanager
def started(folder: Path, *arguments: str | Path, **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """A command that goes on; killed at the end of the block if it still runs."""
    command = [VARVE, *map(str, arguments)]
    options["env"] = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(
        command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    ) as running:
        try:
            yield running
        finally:
            running.kill()


def next_line(running: subprocess.Popen[bytes]) -> str:
    """The next line that a command prints."""
    assert running.stdout is not None
    ready, _, _ = select.select([running.stdout], [], [], WAIT_S)
    assert ready, "nothing was printed"
    out = b""
    while not out.endswith(b"\n"):  # unbuffered, so that select sees what there is
        piece = os.read(running.stdout.fileno(), 1)
        assert piece, out
        out += piece
    return out.decode()


def interrupted(running: subprocess.Popen[bytes]) -> Result:
    """Ctrl-C, and what becomes of it."""
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=WAIT_S)
    return Result(running.returncode, out.decode(), err.decode())


def on_a_terminal(
    folder: Path, *arguments: str | Path, answer: str = "", prompt: bytes = b"[y/N]", **environment: str
) -> tuple[int, str]:
    """Exit code and output of a command whose standard streams are a terminal; ``answer`` is typed at the prompt."""
    ours, theirs = pty.openpty()
    env = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR", "COLUMNS"}}
    running = subprocess.Popen(
        [VARVE, *map(str, arguments)],
        cwd=folder,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**env, "TERM": "xterm-256color", "COLUMNS": "200", **environment},
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C typed there is a signal
    )
    os.close(theirs)
    out = b""
    until = time.monotonic() + WAIT_S
    while True:
        ready, _, _ = select.select([ours], [], [], max(0.0, until - time.monotonic()))
        if not ready:
            running.kill()
            raise AssertionError(f"it does not end: {out!r}")
        try:
            piece = os.read(ours, 65_536)
        except OSError:  # Linux says so at the end
            break
        if not piece:
            break
        out += piece
        if answer and out.rstrip().endswith(prompt):
            os.write(ours, answer.encode())
            answer = ""
    os.close(ours)
    return running.wait(timeout=WAIT_S), out.decode()
