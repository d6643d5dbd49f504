"""Work in forked processes: one that dies or hangs is a result like any other."""

from __future__ import annotations

import contextlib
import os
import pickle
import select
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class Died(NamedTuple):
    """A process that gave no result."""

    how: str


class _Child(NamedTuple):
    task: object
    pid: int
    until_s: float
    said: bytearray


def each(tasks: Iterable[T], work: Callable[[T], R], *, jobs: int, timeout_s: float) -> Iterator[tuple[T, R | Died]]:
    """``work(task)`` in a process of its own, ``jobs`` at once; what came of each, in the order in which they end.

    The caller has no threads and no store open.
    """
    waiting = iter(tasks)
    running: dict[int, _Child] = {}
    try:
        while True:
            while len(running) < jobs and (task := next(waiting, None)) is not None:
                pipe, child = _fork(task, work, timeout_s)
                running[pipe] = child
            if not running:
                return
            soonest_s = min(child.until_s for child in running.values()) - time.monotonic()
            readable, _, _ = select.select(list(running), [], [], max(0.0, soonest_s))
            for pipe in list(running):
                child = running[pipe]
                if pipe in readable:
                    data = os.read(pipe, 1 << 16)
                    child.said.extend(data)
                    if data:
                        continue
                elif time.monotonic() < child.until_s:
                    continue
                else:
                    os.kill(child.pid, signal.SIGABRT)  # faulthandler, where it is on, says where it hangs
                del running[pipe]
                os.close(pipe)
                yield child.task, _ended(child)  # type: ignore[misc]
    finally:
        for pipe, child in running.items():
            os.kill(child.pid, signal.SIGKILL)
            os.waitpid(child.pid, 0)
            os.close(pipe)


def alone(work: Callable[[], R], *, timeout_s: float) -> R | Died:
    """One piece of work in a process of its own."""
    [(_, came)] = each([0], lambda _: work(), jobs=1, timeout_s=timeout_s)
    return came


def _fork(task: T, work: Callable[[T], R], timeout_s: float) -> tuple[int, _Child]:
    told, tells = os.pipe()
    pid = os.fork()
    if pid:
        os.close(tells)
        return told, _Child(task, pid, time.monotonic() + timeout_s, bytearray())
    try:
        os.close(told)
        try:
            answer = pickle.dumps((True, work(task)))
        except BaseException:  # noqa: BLE001 - told by the parent
            answer = pickle.dumps((False, traceback.format_exc()))
        with contextlib.suppress(OSError), os.fdopen(tells, "wb") as pipe:
            pipe.write(answer)
    finally:
        os._exit(0)


def _ended(child: _Child) -> object:
    _, status = os.waitpid(child.pid, 0)
    if os.WIFSIGNALED(status):
        return Died(f"killed by {signal.Signals(os.WTERMSIG(status)).name}")
    if not child.said:
        return Died(f"exited with {os.waitstatus_to_exitcode(status)} and said nothing")
    worked, answer = pickle.loads(bytes(child.said))
    return answer if worked else Died(answer)
