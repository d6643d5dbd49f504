"""Threads whose interleaving comes from a seed.

One thread runs at a time. It hands over at points that the seed chooses: at locks, and at lines of the engine's commit
path, which a trace function sees. Locks and threads of the engine are made by ``_Scheduled`` while a run lasts, so that
waiting is the scheduler's business, and a run in which everybody waits is found at once.
"""

from __future__ import annotations

import contextlib
import itertools
import random
import sys
import tempfile
import threading
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import varve
from torture import judge
from torture.model.histories import Actor, Operation, check, read_log
from torture.model.machine import Wrongness, must
from torture.model.plans import Caller
from varve.engine import catalog, commit, core, group, hints, plan, put, side, single, writer
from varve.testing import ManualClock

_LINES: Final = frozenset(module.__file__ for module in (catalog, commit, core, group, plan, put, side, single, writer))
_LOCKED: Final = (group, writer, hints)
_AT_A_LINE: Final = 0.04
_AT_A_LOCK: Final = 0.4
_TOO_LATE: Final = 0.02
"""How often a wait with a timeout times out although others run."""


class Stuck(BaseException):
    """Everybody waits; whoever does is ended by this."""


class _Managed:
    """A thread of a run."""

    def __init__(self) -> None:
        self.go = threading.Semaphore(0)
        self.ready: Callable[[], bool] | None = None
        self.timed = False
        self.expired = False
        self.done = False


class Scheduler:
    """Who runs. ``ticks`` is the run's clock: it rises with every question."""

    def __init__(self, seed: str) -> None:
        self._choose = random.Random(seed)
        self._threads: dict[int, _Managed] = {}
        self._order: list[_Managed] = []
        self._over = threading.Semaphore(0)
        self.ticks = itertools.count()
        self.switches = 0
        self.stuck = False

    @property
    def me(self) -> _Managed | None:
        """The thread that asks, if it is one of the run's."""
        return self._threads.get(threading.get_ident())

    def spawn(self) -> _Managed:
        """A place for a thread that is about to start."""
        made = _Managed()
        self._order.append(made)
        return made

    def run(self, managed: _Managed, work: Callable[[], None]) -> None:
        """A thread's life: wait for the first turn, work, hand over for good."""
        managed.go.acquire()
        self._threads[threading.get_ident()] = managed
        sys.settrace(self._trace)
        try:
            with contextlib.suppress(Stuck):
                if not self.stuck:
                    work()
        finally:
            sys.settrace(None)
            managed.done = True
            del self._threads[threading.get_ident()]
            self._next()

    def begin(self) -> None:
        """Let the run begin, and wait for its end."""
        self._next()
        self._over.acquire()

    def point(self, odds: float) -> None:
        """A point at which another thread may go on."""
        if self._choose.random() < odds:
            self.switch()

    def switch(self, ready: Callable[[], bool] | None = None, *, timed: bool = False) -> bool:
        """Let others run, until ``ready`` holds and it is this thread's turn again; False where the wait timed out."""
        me = self.me
        assert me is not None
        me.ready, me.timed, me.expired = ready, timed, False
        chosen = self._pick()
        if chosen is not me:
            self.switches += 1
            if chosen is not None:
                chosen.go.release()
                me.go.acquire()
        if self.stuck:
            raise Stuck
        me.ready, me.timed = None, False
        return not me.expired

    def _next(self) -> None:
        chosen = self._pick()
        if chosen is None:
            self._over.release()
        else:
            chosen.go.release()

    def _pick(self) -> _Managed | None:
        alive = [one for one in self._order if not one.done]
        if self.stuck:
            return alive[0] if alive else None
        able = [one for one in alive if one.ready is None or one.ready()]
        timed = [one for one in alive if one.timed and one not in able]
        if timed and (not able or self._choose.random() < _TOO_LATE):
            chosen = self._choose.choice(timed)
            chosen.expired = True
            return chosen
        if able:
            return self._choose.choice(able)
        if alive:
            self.stuck = True
            return alive[0]
        return None

    def _trace(self, frame: types.FrameType, _event: str, _arg: object) -> Any:
        return self._line if frame.f_code.co_filename in _LINES else None

    def _line(self, _frame: types.FrameType, event: str, _arg: object) -> Any:
        if event == "line":
            self.point(_AT_A_LINE)
        return self._line


class _Lock:
    """``threading.Lock`` whose waiting the scheduler sees."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._real: Any = threading.Lock()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        scheduler = self._scheduler
        if scheduler.me is None:
            return bool(self._real.acquire(blocking, timeout))
        scheduler.point(_AT_A_LOCK)
        while not self._real.acquire(blocking=False):
            if not blocking or not scheduler.switch(self._is_free, timed=timeout >= 0):
                return False
        return True

    def release(self) -> None:
        self._real.release()
        if self._scheduler.me is not None and not self._scheduler.stuck:
            self._scheduler.point(_AT_A_LOCK)

    def locked(self) -> bool:
        return bool(self._real.locked())

    def _is_free(self) -> bool:
        return not self._real.locked()

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class _RLock(_Lock):
    """``threading.RLock``, likewise."""

    def __init__(self, scheduler: Scheduler) -> None:
        super().__init__(scheduler)
        self._real = threading.RLock()
        self._depth = 0

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        if not super().acquire(blocking, timeout):
            return False
        self._depth += 1
        return True

    def release(self) -> None:
        if self._is_owned():
            self._depth -= 1
        super().release()

    def _is_owned(self) -> bool:
        return bool(self._real._is_owned())  # noqa: SLF001 - as the engine asks it

    def _is_free(self) -> bool:
        return self._depth == 0


class _Scheduled:
    """``threading`` as the engine's modules see it during a run."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        made = scheduler

        class Thread(threading.Thread):
            def start(self) -> None:
                self._managed = made.spawn()
                super().start()

            def run(self) -> None:
                made.run(self._managed, super().run)

        self.Thread = Thread

    def Lock(self) -> _Lock:  # noqa: N802 - as in threading
        return _Lock(self._scheduler)

    def RLock(self) -> _RLock:  # noqa: N802 - as in threading
        return _RLock(self._scheduler)

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)


@contextlib.contextmanager
def _scheduled(scheduler: Scheduler) -> Iterator[None]:
    """The engine's locks and threads are the scheduler's inside."""
    there: Any = _Scheduled(scheduler)
    for module in _LOCKED:
        module.threading = there  # type: ignore[attr-defined]
    try:
        yield
    finally:
        for module in _LOCKED:
            module.threading = threading  # type: ignore[attr-defined]


def play(folder: Path, seed: int, run: int, steps: int) -> tuple[int, int]:
    """So many steps in some threads on one store. Operations and switches; raises ``Wrongness``."""
    label = f"{seed}/threads/{run}"
    choose = random.Random(label)
    scheduler = Scheduler(label + "/order")
    path = Path(tempfile.mkdtemp(dir=folder)) / "store"
    errors: list[BaseException] = []
    count = choose.choice((2, 2, 3, 4))
    with _scheduled(scheduler):
        linger_s = choose.choice((0.0, 0.0, 0.0, 1e-6))
        db = varve.open(path, durability="relaxed", clock=ManualClock(), map_bytes=2**30, linger_s=linger_s)
        caller = Caller(db, 1)
        actors = [
            Actor(caller, who, random.Random(f"{label}/{who}"), lambda: next(scheduler.ticks)) for who in range(count)
        ]
        threads = []
        for actor in actors:
            managed = scheduler.spawn()

            def live(actor: Actor = actor) -> None:
                try:
                    for _ in range(steps // count):
                        actor.step()
                except BaseException as exc:
                    errors.append(exc)
                    if isinstance(exc, Stuck):
                        raise

            threads.append(threading.Thread(target=scheduler.run, args=(managed, live), daemon=True))
        for thread in threads:
            thread.start()
        scheduler.begin()
        for thread in threads:
            thread.join()
        told = [error for error in errors if not isinstance(error, Stuck)]
        if told:
            raise Wrongness(f"{type(told[0]).__name__}: {told[0]}") from told[0]
        must(not scheduler.stuck, "everybody waits for somebody else")
        log = read_log(db)
        db.close()
    history: list[Operation] = [one for actor in actors for one in actor.history]
    operations = check(history, log)
    findings = judge.unsound(path)
    must(not findings, "the store is not sound:", findings)
    return operations, scheduler.switches
