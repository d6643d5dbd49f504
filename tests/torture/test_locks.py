"""Locks and neighbours, small: every control, a hundred episodes, the audit and the trace themselves."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

import varve
from torture import locks
from torture.opens import Audit, Trace
from torture.part import Budget

SEED = random.randrange(2**32)
ROOT = Path(__file__).parents[2]


def budget(tmp_path: Path, count: int = locks.PART.small, first: int = 0) -> Budget:
    sys.stdout.write(f"--seed {SEED}\n")  # shown where the test fails
    return Budget(count, SEED, tmp_path, first, jobs=2)


@pytest.mark.slow
def test_handles_exclude_each_other_and_what_is_left_behind_blocks_nobody(tmp_path: Path) -> None:
    outcome = locks.PART.run(budget(tmp_path), lambda _: None)
    assert outcome.violations == []
    assert outcome.count == locks.PART.small
    for covered in ("handles refused", "handles let in", "races", "stale sockets"):
        assert outcome.figures[covered]


@pytest.mark.slow
def test_every_planted_fault_is_found(tmp_path: Path) -> None:
    controls = list(locks.PART.controls(budget(tmp_path)))
    assert [control for control in controls if not control.caught] == []
    assert len(controls) == 13


def test_an_episode_that_fails_says_how_to_see_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the others go on."""

    def broken(folder: Path, seed: int, number: int, count: Counter[str]) -> None:
        count["tried"] += 1
        locks.must(number != 41, f"{number} is broken")

    monkeypatch.setattr(locks, "episode", broken)
    outcome = locks.PART.run(budget(tmp_path, 30, first=30), lambda _: None)
    [violation] = outcome.violations
    assert "41 is broken" in violation.what
    assert violation.again == f"python -m torture locks --seed {SEED} --first 41 --count 1"
    assert (outcome.count, outcome.figures["tried"]) == (30, 30)


def test_a_child_that_fails_is_heard() -> None:
    """What it says reaches whoever waits for its word."""

    def fail(child: locks.Child) -> None:
        child.say("there")
        raise ValueError("on purpose")

    child = locks.Child(fail)
    assert child.heard() == "there"
    with pytest.raises(locks.Broken, match="on purpose"):
        child.heard()
    child.ended()


def test_the_audit_sees_what_this_process_opens(lock_file_audit: Audit, tmp_path: Path) -> None:
    """Every open is seen, and the lock file of a store that is open is told; of one that is closed it is not."""
    seen = lock_file_audit.seen
    path = tmp_path / "store"
    with varve.open(path):
        [lock] = path.glob("lock.*")  # by its name nobody may open it, says tests/test_layering.py
        lock.stat()  # looking is not opening
        assert not lock_file_audit.found
        for number, way in enumerate(
            (lambda: lock.open().close(), lambda: os.close(os.open(lock, os.O_RDONLY)), lock.read_bytes)
        ):
            way()
            assert len(lock_file_audit.found) == number + 1
        (tmp_path / "link").symlink_to(lock)
        (tmp_path / "link").read_bytes()
        assert len(lock_file_audit.found) == 4
        assert "test_locks.py" in lock_file_audit.found[0]
    lock.read_bytes()
    assert len(lock_file_audit.found) == 4
    assert lock_file_audit.seen >= seen + 5
    lock_file_audit.found.clear()


def test_the_trace_follows_programs_that_programs_start(tmp_path: Path) -> None:
    """What a grandchild opens is seen as well, and counted."""
    trace = Trace(tmp_path / "trace")
    inner = "import sys, varve; db = varve.open(sys.argv[1]); open(sys.argv[1] + '/lock.mdb').close(); db.close()"
    outer = "import subprocess, sys; subprocess.run([sys.executable, '-c', sys.argv[1], sys.argv[2]], check=True)"
    subprocess.run(
        [sys.executable, "-c", outer, inner, str(tmp_path / "store")], cwd=ROOT, env=trace.variables(), check=True
    )
    assert len(trace.found) == 1
    opens, lock_files, processes = trace.seen
    assert opens > 10
    assert (lock_files, processes) == (1, 2)


def test_a_few_tests_run_under_the_trace(tmp_path: Path) -> None:
    """As the long run does with all of them."""
    trace = Trace(tmp_path / "trace")
    ran = locks.traced_suite(
        trace, ["-p", "no:xdist", "tests/engine/test_environment.py", "-k", "second_handle or dropped"]
    )
    assert ran.returncode == 0, ran.stdout
    assert trace.found == []
    assert trace.seen[1] >= 4
