"""Processes that drive one store at once. The kernel decides who comes first; what each does comes from the seed."""

from __future__ import annotations

import contextlib
import os
import pickle
import random
import sys
import tempfile
import threading
import time
import traceback
from pathlib import Path

import varve
from torture import judge
from torture.model.histories import Actor, Operation, check, read_log
from torture.model.machine import must
from torture.model.plans import Caller

STUCK_S = 120.0
"""Longer than any of them ever takes."""


def play(folder: Path, seed: int, run: int, steps: int) -> int:
    """So many steps in some processes, of one or two threads each, on one store. Operations; raises ``Wrongness``."""
    choose = random.Random(f"{seed}/processes/{run}")
    path = Path(tempfile.mkdtemp(dir=folder)) / "store"
    if choose.random() < 0.7:  # else they race to create it
        varve.open(path, durability="relaxed").close()
    processes, threads = choose.choice(((2, 1), (3, 1), (2, 2)))
    ready, go = os.pipe()
    children = []
    for process in range(processes):
        told, tells = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.close(told)
            os.close(go)
            _live(path, f"{seed}/processes/{run}", process, threads, steps // (processes * threads), ready, tells)
        os.close(tells)
        children.append((pid, told))
    os.close(ready)
    os.close(go)  # all at once
    said = []
    for pid, told in children:
        with os.fdopen(told, "rb") as pipe:
            said.append(pipe.read())
        os.waitpid(pid, 0)
    history: list[Operation] = []
    for one in said:
        must(bool(one), "a process died, or was stuck")
        came = pickle.loads(one)
        must(isinstance(came, list), "a process failed:", came)
        history += came
    with varve.open(path, readonly=True) as db:
        Caller(db, 1)
        log = read_log(db)
    operations = check(history, log)
    findings = judge.unsound(path)
    must(not findings, "the store is not sound:", findings)
    return operations


def _live(path: Path, label: str, process: int, threads: int, steps: int, ready: int, tells: int) -> None:
    """A child's whole life."""
    watchdog = threading.Timer(STUCK_S, os._exit, (2,))
    watchdog.daemon = True
    watchdog.start()
    sys.setswitchinterval(1e-5)
    answer: object = "it ended before it began"
    try:
        os.read(ready, 1)
        with varve.open(path, durability="relaxed", map_bytes=2**30) as db:
            caller = Caller(db, 1)
            actors = [
                Actor(caller, process * 8 + at, random.Random(f"{label}/{process}/{at}"), time.monotonic_ns)
                for at in range(threads)
            ]
            errors: list[str] = []

            def work(actor: Actor) -> None:
                try:
                    for _ in range(steps):
                        actor.step()
                except BaseException:  # noqa: BLE001 - told by the parent
                    errors.append(traceback.format_exc())

            others = [threading.Thread(target=work, args=(actor,)) for actor in actors[1:]]
            for thread in others:
                thread.start()
            work(actors[0])
            for thread in others:
                thread.join()
        answer = errors[0] if errors else [one for actor in actors for one in actor.history]
    except BaseException:  # noqa: BLE001 - told by the parent
        answer = traceback.format_exc()
    finally:
        with contextlib.suppress(OSError), os.fdopen(tells, "wb") as pipe:
            pickle.dump(answer, pipe)
        os._exit(0)
