"""The model, small: every control, a few thousand steps, and its own pieces."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import varve
from torture.forked import Died, alone, each
from torture.model import BLOCK, PART, faults, steps, threads
from torture.model.histories import Noted, Operation, Read, check
from torture.model.machine import Machine, Wrongness
from torture.model.world import Append, Fact, Plan, Used, World, Written, Wrong
from torture.part import Budget

SEED = random.randrange(2**32)


def budget(tmp_path: Path, count: int = PART.small, **options: Any) -> Budget:
    sys.stdout.write(f"--seed {SEED}\n")  # shown where the test fails
    return Budget(count, SEED, tmp_path, **{"jobs": 2, **options})


@pytest.mark.slow
def test_the_store_behaves_as_the_model(tmp_path: Path) -> None:
    """Programs, threads and processes: whatever they do, the store is a plain list of events."""
    outcome = PART.run(budget(tmp_path), lambda _: None)
    assert outcome.violations == []
    assert outcome.count >= PART.small
    for covered in ("append", "consume", "operations of threads", "operations of processes", "switches of threads"):
        assert outcome.figures[covered]


@pytest.mark.slow
def test_every_planted_fault_is_found(tmp_path: Path) -> None:
    controls = list(PART.controls(budget(tmp_path)))
    assert [control for control in controls if not control.caught] == []
    assert len(controls) == len(faults.MACHINE) + len(faults.THREADS) + len(faults.PROCESSES)


def test_a_violation_says_how_to_see_it_again(tmp_path: Path) -> None:
    """One block alone, by its first step; the few steps that suffice are told."""

    def work() -> tuple[int, str, str]:
        faults.keys_are_forgotten()
        asked = budget(tmp_path, 1, first=3 * BLOCK + 7, jobs=1)
        outcome = PART.run(asked, lambda _: None)
        [violation] = outcome.violations
        return outcome.count, violation.what, violation.again

    count, what, again = alone(work, timeout_s=110)
    assert count == BLOCK
    assert again == f"python -m torture model --seed {SEED} --first {3 * BLOCK} --count 1"
    assert "steps that suffice: " in what
    assert 1 <= what.partition("steps that suffice: ")[2].count(":") <= 12


# -- one program -----------------------------------------------------------------------------------------------------


def test_a_step_does_the_same_without_the_others() -> None:
    """So steps can be left out of a run that fails."""
    kind, choose = steps.chosen(1, 2, 3)
    again, same = steps.chosen(1, 2, 3)
    assert kind is again
    assert [choose.random() for _ in range(5)] == [same.random() for _ in range(5)]
    assert steps.story(1, 2, [3]) == f"3:{kind.__name__}"


def test_every_step_runs(tmp_path: Path) -> None:
    """None of them is so rare that nobody would see it fail."""
    machine = Machine(tmp_path / "stores")
    (tmp_path / "stores").mkdir(exist_ok=True)
    for number in range(2):
        for step in steps.STEPS:
            step(machine, random.Random(f"{SEED}/{number}/{step.__name__}"))
            machine.look()
    machine.end()


def test_a_small_map_becomes_full_and_nothing_is_lost(tmp_path: Path) -> None:
    """``StoreFull`` in the middle of a program, again and again, and then a larger map."""
    small = next(run for run in range(50) if random.Random(f"5/{run}").random() < 0.2)
    ran = steps.play(tmp_path, 5, small, range(1_200))
    assert ran.failed is None
    assert ran.counts["commits refused for want of room"] > 0


def test_the_world_compares_keys_by_value() -> None:
    """A retry of a newer program says a field that the older left out; other content is a conflict."""
    world = World()
    first = Plan((Append("one", "orders", ((1, Fact(0, 1, "x", None)),), 1),), "key")
    judged = world.judge(first)
    assert judged == Written((((0, 0),),), replayed=False)
    assert isinstance(judged, Written)
    world.write(first, judged, 5)
    newer = Plan((Append("batch", "orders", ((1, Fact(0, 1, "x", 7)),), 1, 99),), "key")
    assert world.judge(newer) == Written((((0, 0),),), replayed=True)
    other = Plan((Append("one", "orders", ((1, Fact(0, 1, "x", 8)),), 1),), "key")
    assert world.judge(other) == Used(0)
    assert world.judge(newer._replace(key=b"key")) == Wrong(99, 1)
    assert world.judge(newer, at=0) == Wrong(99, 0)


# -- histories -------------------------------------------------------------------------------------------------------


def one(number: int, stream_sequence: int, sequence: int, expected: Any = varve.ANY) -> tuple[Plan, Written]:
    plan = Plan((Append("one", "orders", ((1, Fact(1, number, "x")),), 1, expected),))
    return plan, Written((((stream_sequence, sequence),),), replayed=False)


def operation(begun: int, ended: int, what: Any, outcome: Any = None) -> Operation:
    return Operation(0, begun, ended, what, outcome)


LOG = [Noted("orders", 1, n, n, None, n) for n in range(3)]
TOLD = [operation(n * 10, n * 10 + 5, *one(n, n, n)) for n in range(3)]
HISTORIES: dict[str, tuple[list[Operation], list[Noted]]] = {
    "an event that nobody appended": (TOLD[:2], LOG),
    "an acknowledged event that is not there": (TOLD, LOG[:2]),
    "another content": (TOLD, [*LOG[:2], LOG[2]._replace(number=7)]),
    "an id of another kind": (TOLD, [LOG[0]._replace(stream_id=True), *LOG[1:]]),
    "one position told twice": ([*TOLD, operation(40, 41, *one(9, 2, 2))], LOG),
    "an expectation that did not hold": ([*TOLD[:2], operation(20, 25, *one(2, 2, 2, expected=1))], LOG),
    "a refusal of what was so all the time": (
        [*TOLD, operation(40, 41, one(9, 3, 3, expected=3)[0], Wrong(3, 2))],
        LOG,
    ),
    "an order against time": ([operation(30, 35, *one(0, 0, 0)), *TOLD[1:]], LOG),
    "a read of what is too old": ([*TOLD, operation(40, 41, Read("length", "orders", 1, 2))], LOG),
    "a read of what had not begun": ([*TOLD, operation(6, 7, Read("end", "orders", 1, 2))], LOG),
    "a snapshot that is torn": (
        [*TOLD, operation(11, 14, Read("snapshot", "orders", 1, (2, 1, [(0, 0)], [0, 1])))],
        LOG,
    ),
}


def test_a_history_that_can_be_is_accepted() -> None:
    """Also a read, and a refusal, of an instant while a commit was under way."""
    seen = [
        operation(9, 20, Read("length", "orders", 1, 1)),
        operation(9, 20, Read("length", "orders", 1, 2)),
        operation(9, 20, one(9, 3, 3, expected=5)[0], Wrong(5, 1)),
        operation(26, 27, Read("snapshot", "orders", 1, (3, 3, [(0, 0), (1, 1), (2, 2)], [0, 1, 2]))),
        operation(1, 2, Read("ids", "orders", 1, [("int", 1)])),
    ]
    assert check([*TOLD, *seen], LOG) == 8


@pytest.mark.parametrize(("history", "log"), HISTORIES.values(), ids=HISTORIES)
def test_a_history_that_cannot_be_is_found(history: list[Operation], log: list[Noted]) -> None:
    with pytest.raises(Wrongness):
        check(history, log)


# -- threads ---------------------------------------------------------------------------------------------------------


def test_a_seed_gives_one_interleaving(tmp_path: Path) -> None:
    """The same operations, switches and log each time."""
    assert threads.play(tmp_path, SEED, 0, 60) == threads.play(tmp_path, SEED, 0, 60)
    assert threads.play(tmp_path, SEED, 0, 60)[1] > 20


def test_waiting_in_a_ring_is_found() -> None:
    """Two threads that take two locks in opposite orders: some seed lets them meet, and the run ends all the same."""
    assert any(_ring(seed) for seed in range(30))
    assert not all(_ring(seed) for seed in range(30))


def _ring(seed: int) -> bool:
    scheduler = threads.Scheduler(str(seed))
    locks = [threads._Lock(scheduler), threads._Lock(scheduler)]

    def take(first: int) -> None:
        with locks[first], locks[1 - first]:
            pass

    running = []
    for first in (0, 1):
        managed = scheduler.spawn()
        thread = threading.Thread(target=scheduler.run, args=(managed, lambda first=first: take(first)))
        thread.start()
        running.append(thread)
    scheduler.begin()
    for thread in running:
        thread.join()
    return scheduler.stuck


# -- processes -------------------------------------------------------------------------------------------------------


def test_work_that_dies_or_hangs_is_a_result() -> None:
    def work(how: str) -> str:
        if how == "raises":
            raise ValueError("on purpose")
        if how == "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        if how == "leaves":
            os._exit(3)
        if how == "hangs":
            signal.signal(signal.SIGABRT, signal.SIG_DFL)
            signal.pause()
        return how

    came = dict(each(["raises", "dies", "leaves", "hangs", "works"], work, jobs=3, timeout_s=2))
    assert came["works"] == "works"
    assert isinstance(came["raises"], Died)
    assert "on purpose" in came["raises"].how
    assert came["dies"] == Died("killed by SIGKILL")
    assert came["leaves"] == Died("exited with 3 and said nothing")
    assert came["hangs"] == Died("killed by SIGABRT")


def test_a_slow_machine_is_no_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Warnings are errors here, and a snapshot that is held over many steps is old on a machine that has no time for it."""
    monkeypatch.setattr("varve.engine.pins.limits.SNAPSHOT_AGE_S_WARN", 0.0)
    assert steps.play(tmp_path, SEED, 0, range(150)).failed is None


def test_a_tail_that_misses_what_is_there_is_a_violation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found when a store whose reads were old on purpose kept a tail waiting for as long as the whole test suite may take."""
    machine = Machine(tmp_path / "stores")
    monkeypatch.setattr("torture.model.machine.WAIT_S_MAX", 0.01)
    try:
        with pytest.raises(Wrongness, match="waited for"):
            machine.run_async(anext(machine.db.tail(varve.END)))
    finally:
        machine.abandon()
