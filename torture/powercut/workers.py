"""Processes that look at images and may die of them: a worker that dies, or hangs, is a violation of the image that it
was looking at, and another goes on behind it."""

from __future__ import annotations

import array
import faulthandler
import gc
import json
import mmap
import os
import signal
import struct
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from torture.part import Budget, Outcome, Progress, Violation
from torture.powercut import workload
from torture.powercut.runs import Recorder, Runner

RUN_IMAGES: Final = 1_000
"""Images of a run, at most."""

UNITS_PER_RUN: Final = 1 << 20
"""Unit ``run * UNITS_PER_RUN + image``: an image keeps its number however many of a run are looked at."""

_STUCK_S: Final = 300
"""So long without a step forward means that an image hangs whoever looks at it."""
_POLL_S: Final = 0.05
_VIOLATIONS_MAX: Final = 1_000
"""That are told of one run."""

_LIVES_MAX: Final = 100

_BEAT: Final = struct.Struct("<QQQ")
"""Run, image, images done."""


class _Result(NamedTuple):
    """What a run came to: run, image and what is wrong with it; counts."""

    violations: list[tuple[int, int, str]]
    figures: dict[str, int]


class _Plan(NamedTuple):
    """What workers share."""

    budget: Budget
    scratch: Path
    run_images: int


def run(budget: Budget, scratch: Path, progress: Progress, again: Callable[[int], str]) -> Outcome:
    """Look at ``budget.count`` images, those of run 0 first; ``again`` spells the command that looks at a unit again."""
    # Some more than asked for: equal images of two workers are counted once.
    run_images = 1 if budget.count == 1 else max(20, min(RUN_IMAGES, -(-budget.count // len(workload.KINDS))))
    plan = _Plan(budget, scratch, run_images)
    workers = [_Worker(plan, number) for number in range(1 if budget.count == 1 else budget.jobs)]
    violations: list[Violation] = []
    running = list(workers)
    for worker in workers:
        worker.start()
    try:
        while running:
            for worker in list(running):
                status = worker.ended()
                if status is None:
                    continue
                running.remove(worker)
                if status:
                    violations.append(_death(worker, status, again))
                    print(f"  {violations[-1].what}; again: {violations[-1].again}", file=sys.stderr, flush=True)
                missing = 0 if running else budget.count - len(set().union(*(one.digests() for one in workers)))
                if worker.lives < _LIVES_MAX and worker.go_on(died=bool(status), missing=missing):
                    worker.start()
                    running.append(worker)
            progress(sum(worker.beat[2] for worker in workers))
            time.sleep(_POLL_S)
    except KeyboardInterrupt:  # what was done by then is told
        for worker in running:
            worker.end()
    return _outcome(workers, violations, again)


def _death(worker: _Worker, status: int, again: Callable[[int], str]) -> Violation:
    number, image, _ = worker.beat
    how = "hung" if worker.was_stuck else f"died ({_ended(status)})"
    return Violation(f"{kind_of(number)}: whoever looked at the image {how}", again(number * UNITS_PER_RUN + image))


def kind_of(number: int) -> str:
    """Which workload a run records."""
    return workload.KINDS[number % len(workload.KINDS)]


def _ended(status: int) -> str:
    return f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def _outcome(workers: list[_Worker], violations: list[Violation], again: Callable[[int], str]) -> Outcome:
    digests: set[int] = set()
    figures: dict[str, int | float | str] = {}
    for worker in workers:
        for found in worker.results():
            for number, image, what in found.violations:
                violations.append(Violation(what, again(number * UNITS_PER_RUN + image)))
            for name, count in found.figures.items():
                figures[name] = int(figures.get(name, 0)) + count
        digests.update(worker.digests())
    order = {f"images, {kind}": at for at, kind in enumerate(workload.KINDS)}
    figures = dict(sorted(figures.items(), key=lambda item: (order.get(item[0], 99), item[0])))
    return Outcome(len(digests), violations, figures)


class _Worker:
    """A process that takes every so-manieth run."""

    def __init__(self, plan: _Plan, number: int) -> None:
        self._plan = plan
        budget = plan.budget
        jobs = 1 if budget.count == 1 else budget.jobs
        self._step = jobs
        self._count = -(-budget.count // jobs)
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._results = plan.scratch / f"results-{number}.jsonl"
        self._digests = plan.scratch / f"digests-{number}"
        self._pid = 0
        self.lives = 0
        self.was_stuck = False
        first, image = divmod(budget.first, UNITS_PER_RUN)
        self._put(first + number, 0 if number else image, 0)
        self._moved = (self.beat, time.monotonic())

    @property
    def beat(self) -> tuple[int, int, int]:
        """Run and image that it is looking at, images done."""
        run, image, done = _BEAT.unpack_from(self._memory)
        return run, image, done

    def _put(self, run: int, image: int, done: int) -> None:
        # pack_into would fill it with zeros first, and the parent looks at any time.
        self._memory[: _BEAT.size] = _BEAT.pack(run, image, done)

    def start(self) -> None:
        """Fork."""
        self.lives += 1
        self.was_stuck = False
        self._moved = (self.beat, time.monotonic())
        sys.stdout.flush()
        self._pid = os.fork()
        if self._pid:
            return
        code = 70
        try:
            self._work()
            code = 0
        except BaseException:  # noqa: BLE001 - nothing of this process may run on in the parent's code
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def ended(self) -> int | None:
        """How it ended, None while it lives. It is killed where it has not moved for long."""
        pid, status = os.waitpid(self._pid, os.WNOHANG)
        if pid:
            return status
        if self.beat != self._moved[0]:
            self._moved = (self.beat, time.monotonic())
        if time.monotonic() - self._moved[1] > _STUCK_S and not self.was_stuck:
            self.was_stuck = True
            os.kill(self._pid, signal.SIGKILL)
        return None

    def go_on(self, *, died: bool, missing: int) -> bool:
        """Whether there is more to do: behind what it died of, and for what others had as well."""
        if self._plan.budget.count == 1:
            return False
        run, image, done = self.beat
        done = len(self.digests()) if died else done
        self._count = max(self._count, done + missing)
        self._put(run, image + died, done)
        return done < self._count

    def end(self) -> None:
        """Kill it, and wait for that."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def _work(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent sees to it
        faulthandler.enable()  # where it died, on stderr
        gc.freeze()
        gc.disable()  # a fifth of the time otherwise; a run leaves little behind
        with Recorder(self._plan.scratch) as recorder:
            digests = set(self.digests())
            while self.beat[2] < self._count:
                self._look(recorder, digests)

    def _look(self, recorder: Recorder, digests: set[int]) -> None:
        """One run."""
        gc.collect()
        plan = self._plan
        run, image, done = self.beat
        seed = (plan.budget.seed + run * 0x9E3779B1) % 2**32
        recorded = recorder.record(kind_of(run), seed)
        self._tell(_Result([(run, 0, problem) for problem in recorded.history.problems], {"runs": 1}))
        runner = Runner(plan.scratch, digests)
        looked = runner.look_at(
            recorded,
            seed,
            image,
            max(plan.run_images, image + 1),
            lambda at: self._put(run, at, done + len(runner.added)),
            until=RUN_IMAGES if plan.budget.count == 1 else 0,
        )
        for told, (number, what) in enumerate(looked):
            if told < _VIOLATIONS_MAX:
                self._tell(_Result([(run, number, what)], {}))
        with self._digests.open("ab") as file:
            file.write(array.array("Q", runner.added).tobytes())
        self._tell(_Result([], runner.figures))
        # One image again is done when it was looked at, whether or not it is new.
        self._put(run + self._step, 0, done + (len(runner.added) if plan.budget.count > 1 else 1))

    def _tell(self, result: _Result) -> None:
        """At once: the next image may be the one that it dies of."""
        with self._results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(result._asdict()) + "\n")

    def results(self) -> Iterator[_Result]:
        """What it found, run by run."""
        if self._results.exists():
            for line in self._results.read_text(encoding="utf-8").splitlines():
                yield _Result(**json.loads(line))

    def digests(self) -> array.array[int]:
        """The images that it looked at."""
        found = array.array("Q")
        if self._digests.exists():
            found.frombytes(self._digests.read_bytes())
        return found
