"""The model: random programs against the simplest store that could be right, alone and many at once.

A unit is a step: a call or a few of the public API. Blocks of 2,000 steps are independent of each other, each from the
run's seed and its own number, so that any one can be done again alone. Of ten blocks eight are one program
(``machine``: every call there is, held against ``world`` after each step), one is threads whose interleaving comes from
the seed as well (``threads``), one is processes (``processes``), whose interleaving is the kernel's; what those two were
told is held against the log afterwards (``histories``).
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from torture.forked import Died, alone, each
from torture.model import faults, processes, steps, threads
from torture.model.machine import Wrongness
from torture.part import Budget, Control, Outcome, Progress, Violation

BLOCK: int = 2_000
"""Steps of a block."""
STUCK_S = 600.0
"""A block takes a second or a few; one that takes so long hangs."""
_THREADS_STEPS = 400
_PROCESSES_STEPS = 500
_KINDS = ("steps", "threads", "processes", *("steps",) * 7)


class _Block(NamedTuple):
    """What a block came to."""

    wrong: str
    """What is wrong; empty where nothing is."""
    counts: dict[str, int]


class Model:
    """See ``torture.part.Part``."""

    name = "model"
    unit = "steps"
    goal = 1_000_000
    small = 3 * BLOCK

    def run(self, budget: Budget, progress: Progress) -> Outcome:
        """Blocks, as many at once as there are jobs."""
        first = budget.first // BLOCK
        numbers = range(first, first + -(-budget.count // BLOCK))
        outcome = Outcome(0)
        counts: Counter[str] = Counter()
        with tempfile.TemporaryDirectory(dir=_memory(budget.folder)) as folder:

            def work(number: int) -> _Block:
                return _block(Path(folder), budget.seed, number)

            for number, came in each(numbers, work, jobs=budget.jobs, timeout_s=STUCK_S):
                wrong = came.how if isinstance(came, Died) else came.wrong
                if wrong:
                    again = f"python -m torture model --seed {budget.seed} --first {number * BLOCK} --count 1"
                    outcome.violations.append(Violation(f"{_kind(number)}: {wrong}", again))
                if isinstance(came, _Block):
                    counts.update(came.counts)
                outcome.count += BLOCK
                progress(outcome.count)
        outcome.figures.update(sorted(counts.items()))
        return outcome

    def controls(self, budget: Budget) -> Iterator[Control]:
        """Each fault is planted in a process of its own, which has to find it within a few blocks' time."""
        kinds: tuple[tuple[str, dict[str, Callable[[], None]]], ...] = (
            ("steps", faults.MACHINE),
            ("threads", faults.THREADS),
            ("processes", faults.PROCESSES),
        )
        planted = [(kind, name, plant) for kind, some in kinds for name, plant in some.items()]
        with tempfile.TemporaryDirectory(dir=_memory(budget.folder)) as folder:

            def work(task: tuple[str, str, Callable[[], None]]) -> str:
                kind, _, plant = task
                plant()
                return _noticed(Path(folder), kind, budget.seed)

            for (kind, name, _), came in each(planted, work, jobs=budget.jobs, timeout_s=STUCK_S):
                how = came.how if isinstance(came, Died) else came
                yield Control(
                    f"{kind}: {name}", bool(how), how.strip().splitlines()[-1][:200] if how else "nothing noticed"
                )


def _memory(folder: Path) -> Path:
    """Where stores are made whose durability is not at stake: in memory, where the system has a folder there."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else folder


def _kind(number: int) -> str:
    return _KINDS[number % len(_KINDS)]


def _block(folder: Path, seed: int, number: int) -> _Block:
    kind = _kind(number)
    if kind == "steps":
        return _steps(folder, seed, number)
    counts: Counter[str] = Counter()
    try:
        if kind == "threads":
            for part in range(BLOCK // _THREADS_STEPS):
                operations, switches = threads.play(folder, seed, number * 100 + part, _THREADS_STEPS)
                counts.update({"operations of threads": operations, "switches of threads": switches})
        else:
            for part in range(BLOCK // _PROCESSES_STEPS):
                operations = processes.play(folder, seed, number * 100 + part, _PROCESSES_STEPS)
                counts.update({"operations of processes": operations})
    except Wrongness as exc:
        return _Block(str(exc), counts)
    return _Block("", counts)


def _steps(folder: Path, seed: int, number: int) -> _Block:
    ran = steps.play(folder, seed, number, range(BLOCK))
    if ran.failed is None:
        return _Block("", ran.counts)
    # A step that kills the process would kill this one, so the few that suffice are sought elsewhere.
    failed = ran.failed
    kept = alone(lambda: steps.shrink(folder, seed, number, failed, BLOCK), timeout_s=STUCK_S / 2)
    told = "" if isinstance(kept, Died) else f"\nsteps that suffice: {steps.story(seed, number, kept)}"
    return _Block(f"step {failed.step}: {failed.trace}{told}", ran.counts)


def _noticed(folder: Path, kind: str, seed: int) -> str:
    """What a kind of run says of the store as it is, within a small budget; empty where it finds nothing."""
    for run in range(8):
        try:
            if kind == "threads":
                threads.play(folder, seed, run, 150)
            elif kind == "processes":
                processes.play(folder, seed, run, 300)
            else:
                failed = steps.play(folder, seed, run, range(400)).failed
                if failed is not None:
                    return failed.error
        except Wrongness as exc:
            return str(exc)
    return ""


PART = Model()
