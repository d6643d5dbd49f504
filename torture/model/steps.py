"""Which steps there are and how often; a run of them, its shrinking, its story."""

from __future__ import annotations

import random
import tempfile
import traceback
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

from torture.model import living, reading, writing
from torture.model.machine import EVENTS_MAX, Machine

Step = Callable[[Machine, random.Random], None]

STEPS: dict[Step, float] = {
    writing.append: 14,
    writing.append_singly: 4,
    writing.transaction: 6,
    writing.under_key: 6,
    writing.undone: 2,
    writing.decided: 3,
    writing.awaited_together: 4,
    writing.refused: 5,
    writing.clock_moves: 2,
    reading.single: 12,
    reading.place: 6,
    reading.stream: 6,
    reading.of_name: 2,
    reading.log: 3,
    reading.ids: 0.5,
    reading.instant: 1,
    reading.take_snapshot: 1,
    reading.read_snapshot: 4,
    reading.begin_run: 2,
    reading.go_on: 5,
    reading.views: 1,
    reading.begin_tail: 2,
    reading.follow: 5,
    reading.begin_consumer: 0.6,
    reading.consume: 4,
    reading.end_consumer: 0.5,
    living.reopen: 0.35,
    living.close_with_views: 0.2,
    living.leave_with_views: 0.2,
    living.readonly: 0.15,
    living.evolve: 0.2,
    living.sync: 0.2,
    living.compare_all: 0.08,
    living.fork: 0.08,
    living.rebuild: 0.05,
}
_KINDS = tuple(STEPS)
_WEIGHTS = tuple(STEPS.values())


class Failed(NamedTuple):
    """How a run ended."""

    step: int
    error: str
    trace: str


class Ran(NamedTuple):
    """What a run came to."""

    failed: Failed | None
    counts: dict[str, int]


def chosen(seed: int, run: int, step: int) -> tuple[Step, random.Random]:
    """A step of a run. Each has random numbers of its own, so that the others can be left out."""
    choose = random.Random(f"{seed}/{run}/{step}")
    return choose.choices(_KINDS, _WEIGHTS)[0], choose


def play(folder: Path, seed: int, run: int, steps: Iterable[int]) -> Ran:
    """These steps of a run, on a new store."""
    with warnings.catch_warnings():
        # How long a snapshot is held is the machine's doing here, where warnings may be errors.
        warnings.filterwarnings("ignore", "a snapshot of the store has been alive", ResourceWarning)
        return _play(folder, seed, run, steps)


def _play(folder: Path, seed: int, run: int, steps: Iterable[int]) -> Ran:
    small = random.Random(f"{seed}/{run}").random() < 0.2
    machine = Machine(Path(tempfile.mkdtemp(dir=folder)), small=small)
    at = -1
    try:
        for at in steps:
            step, choose = chosen(seed, run, at)
            step(machine, choose)
            machine.look()
            machine.count(step.__name__)
            if machine.refused > 20:
                living.grow(machine)
            if len(machine.world.log) > EVENTS_MAX:
                living.begin_anew(machine)
        at = -2
        machine.count("events", len(machine.world.log))
        machine.end()
    except Exception as exc:  # noqa: BLE001 - whatever it raises is wrong
        failed = Failed(at, f"{type(exc).__name__}: {exc}", traceback.format_exc())
        exc.__traceback__ = None
        machine.abandon()
        return Ran(failed, machine.counts)
    return Ran(None, machine.counts)


def shrink(folder: Path, seed: int, run: int, failed: Failed, steps: int, tries: int = 200) -> list[int]:
    """Fewer steps that fail with an error of the same kind: halves, quarters, ... are left out while it still does."""
    kept = list(range(steps if failed.step < 0 else failed.step + 1))
    kind = failed.error.split(":")[0]
    size = len(kept) // 2
    while size and tries:
        at = 0
        while at < len(kept) and tries:
            tries -= 1
            fewer = kept[:at] + kept[at + size :]
            again = play(folder, seed, run, fewer).failed
            if again is not None and again.error.split(":")[0] == kind:
                kept = fewer if again.step < 0 else [step for step in fewer if step <= again.step]
            else:
                at += size
        size //= 2
    return kept


def story(seed: int, run: int, steps: Iterable[int]) -> str:
    """The steps by name, one line."""
    return ", ".join(f"{step}:{chosen(seed, run, step)[0].__name__}" for step in steps)
