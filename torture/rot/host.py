"""Processes that open damaged stores: the host, who must survive, and those who may die."""

from __future__ import annotations

import faulthandler
import json
import os
import resource
import select
import signal
import time
import traceback
from collections.abc import Callable
from typing import Any

import varve
from varve.ops.verify import examined

_WAIT_S = 20.0


class Died(Exception):
    """A process that could not say what it found."""


def in_child(work: Callable[[], Any], wait_s: float = _WAIT_S) -> Any:
    """What ``work`` returns (as JSON has it) in a fork of this process. Raises ``Died`` with how it ended otherwise."""
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        code = 1
        try:
            os.close(reading)
            faulthandler.disable()  # it may die, and how is told to the parent
            signal.setitimer(signal.ITIMER_VIRTUAL, 0)
            signal.signal(signal.SIGVTALRM, signal.SIG_DFL)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            with open(writing, "w", encoding="utf-8") as pipe:  # noqa: PTH123 - a descriptor
                json.dump(work(), pipe)
            code = 0
        except BaseException:  # noqa: BLE001 - it may be anything; the parent sees the code
            if os.environ.get("VARVE_ROT_TRACE"):
                traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writing)
    said = bytearray()
    until = time.monotonic() + wait_s
    try:
        while True:
            ready, _, _ = select.select([reading], [], [], max(0.0, until - time.monotonic()))
            if not ready:
                os.kill(pid, signal.SIGKILL)
                break
            piece = os.read(reading, 1 << 16)
            if not piece:
                break
            said += piece
    finally:
        os.close(reading)
        _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        raise Died("hang" if code == -signal.SIGKILL else signal.Signals(-code).name)
    if code:
        raise Died("an error")
    return json.loads(said)


def forked(question: str) -> tuple[int, str, str]:
    """Stands in for ``varve.engine.examine._run``: the examiner is a fork of this process, which has imported everything,
    instead of a fresh Python."""
    try:
        asked = json.loads(question)
        return 0, asked["mark"] + json.dumps(in_child(lambda: examined(asked["path"]))), ""
    except Died as how:
        return -1, "", f"it ended by {how}"


def in_process(question: str) -> tuple[int, str, str]:
    """The examiner that ``trust=False`` must not have: the host itself, through LMDB."""
    asked = json.loads(question)
    with varve.open(asked["path"]) as db:
        for recorded in db.global_reader().iter_from(0):
            _ = recorded.event
    return 0, asked["mark"] + json.dumps({"findings": []}), ""
