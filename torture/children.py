"""Children of a process that has imported Varve and holds no store: a fork is a hundred times cheaper than an interpreter.

A child ends by ``os._exit``: nothing of its parent's runs at its end. What it has to say comes through a pipe.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import pickle
import select
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from torture.preload.fail import environment

_C = ctypes.CDLL(None)
_DIE_WITH_PARENT = 1
PATIENCE_S = 60.0
"""After this long a child hangs: a hundred times what the slowest takes."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a child ended."""

    value: Any
    """What its function returned; None where it did not come to that."""
    error: str | None
    """What it raised, or how it died; None where it returned."""
    hung: bool = False
    """Whether it had to be killed."""


def fork(work: Callable[[], object]) -> int:
    """Run a function in a child; its process id."""
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        _C.prctl(_DIE_WITH_PARENT, signal.SIGKILL)
        work()
        code = 0
    except BaseException:  # noqa: BLE001 - nothing above this may see it
        with contextlib.suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def ask(work: Callable[[], object], patience_s: float = PATIENCE_S) -> Ended:
    """Run a function in a child and wait for what it returns, which must pickle."""
    reading, writing = os.pipe()

    def answer() -> None:
        os.close(reading)
        try:
            said: tuple[object, str | None] = (work(), None)
        except BaseException as exc:  # noqa: BLE001 - it is the answer
            said = (None, "".join(traceback.format_exception(exc))[-2_000:])
        with os.fdopen(writing, "wb") as pipe:
            pickle.dump(said, pipe)

    pid = fork(answer)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        data, hung = _read(pipe.fileno(), patience_s)
    if hung:
        os.kill(pid, signal.SIGKILL)
    status = os.waitpid(pid, 0)[1]
    if hung:
        return Ended(None, f"it did not end within {patience_s:.0f} s", hung=True)
    if not data:
        return Ended(None, f"it died: {how_ended(status)}")
    value, error = pickle.loads(data)
    return Ended(value, error)


def _read(descriptor: int, patience_s: float) -> tuple[bytes, bool]:
    """Everything up to the end of a pipe, and whether that did not come."""
    until_s = time.monotonic() + patience_s
    pieces: list[bytes] = []
    while True:
        if not select.select([descriptor], [], [], max(0.0, until_s - time.monotonic()))[0]:
            return b"", True
        piece = os.read(descriptor, 1 << 16)
        if not piece:
            return b"".join(pieces), False
        pieces.append(piece)


def how_ended(status: int) -> str:
    """A wait status in words."""
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return f"exit code {os.WEXITSTATUS(status)}"


def is_killed(status: int) -> bool:
    """Whether a child died of kill -9."""
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


# -- interpreters of their own ---------------------------------------------------------------------------------------------


def stream(module: str, orders: list[dict[str, object]]) -> Iterator[dict[str, Any]]:
    """Start an interpreter with the spoiling library for each order; what they ``tell``, as it comes.

    Raises ``RuntimeError`` where one ends badly.
    """
    workers = [
        subprocess.Popen([sys.executable, "-m", module, json.dumps(order)], env=environment(), stdout=subprocess.PIPE)
        for order in orders
    ]
    try:
        yield from _lines([worker.stdout.fileno() for worker in workers if worker.stdout is not None])
        for worker in workers:
            if worker.wait():
                raise RuntimeError(f"{module} ended with {worker.returncode}: see what it printed above")
    finally:
        for worker in workers:
            worker.kill()
            worker.wait()
            if worker.stdout is not None:
                worker.stdout.close()


def _lines(pipes: list[int]) -> Iterator[dict[str, Any]]:
    begun = dict.fromkeys(pipes, b"")
    while begun:
        for pipe in select.select(list(begun), [], [])[0]:
            piece = os.read(pipe, 1 << 16)
            *lines, begun[pipe] = (begun[pipe] + piece).split(b"\n")
            if not piece:
                del begun[pipe]
            for line in lines:
                yield json.loads(line)


def tell(**said: object) -> None:
    """In such an interpreter: say something."""
    left = (json.dumps(said) + "\n").encode()
    while left:
        left = left[os.write(1, left) :]
