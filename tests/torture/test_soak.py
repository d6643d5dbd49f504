"""The soak, small: a few seconds of it, what it would notice, and its own pieces."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from torture import soak
from torture.part import Budget, Control
from torture.soak import bounds, planted
from torture.soak.checks import Difference, check_consumer, check_log, check_tail, check_writer
from torture.soak.rows import SOLE, Rows, read_rows

SEED = random.randrange(2**32)


@pytest.mark.slow
def test_soak(tmp_path: Path) -> None:
    """Every tail gave the log, or its part of it; whatever a writer was told is written is there, once; a consumer was given
    everything; file, memory, descriptors and the age of snapshots are bounded."""
    sys.stdout.write(f"--seed {SEED}\n")  # shown where the test fails
    outcome = soak.PART.run(Budget(soak.PART.small, SEED, tmp_path), lambda _: None)
    assert outcome.violations == []
    for covered in ("events", "kills", "tail all: given", "transactions: told of", "steady: written, not told"):
        assert outcome.figures[covered]


@pytest.mark.slow
def test_leaks_of_processes_are_found(tmp_path: Path) -> None:
    """A snapshot, memory and descriptors that somebody keeps; and nobody else is blamed."""
    controls = list(soak.leaks(tmp_path, SEED))
    assert [control for control in controls if not control.caught] == []
    assert len(controls) == 4


CHECKS: list[Control] = [*planted.checks(), *planted.measurements()]


@pytest.mark.parametrize("control", CHECKS, ids=[control.name for control in CHECKS])
def test_a_planted_fault_is_found(control: Control) -> None:
    assert control.caught


def test_what_is_sound_is_accepted() -> None:
    """Also what was given again after a kill, and what was written and not told."""
    rows = planted.rows
    check_tail("all", rows(), rows())
    assert check_log(rows()) == 20
    assert check_log(planted.BATCH) == 1
    assert check_writer(SOLE, rows(), planted.TOLD[:-1]) == 1
    assert check_consumer("consumer", [*rows()[:8], *rows()[5:]], rows()) == 3
    with pytest.raises(Difference):
        check_consumer("consumer", [*rows()[:8], *rows()[9:]], rows())


def test_notes_outlive_a_kill(tmp_path: Path) -> None:
    """A row that was torn is cut off, and the next life begins behind the last whole one."""
    noted = Rows(tmp_path / "rows")
    noted.add(*planted.rows(3))
    with (tmp_path / "rows").open("ab") as file:
        file.write(b"torn")
    assert Rows(tmp_path / "rows").last_row == planted.rows(3)[-1]
    assert list(read_rows(tmp_path / "rows")) == planted.rows(3)


def test_a_line_is_put_through_samples() -> None:
    """Its slope, and how certain that is."""
    exact = bounds.line([(x, 3 + 2 * x) for x in range(10)])
    assert exact.slope == pytest.approx(2)
    assert exact.error == pytest.approx(0, abs=1e-9)
    flat = bounds.line([(x, float(x % 2)) for x in range(100)])
    assert abs(flat.slope) < 3 * flat.error
    assert bounds.growth("nobody", planted.steady()[:4]) == ["nobody was measured 4 times only"]


GROWS = """
import os
from torture.soak import bounds
before = bounds.sample(os.getpid(), 0.0)
kept = bytearray(os.urandom(64 * 2**20))
descriptors = [os.open(os.devnull, os.O_RDONLY) for _ in range(7)]
after = bounds.sample(os.getpid(), 1.0)
print(after.memory_bytes - before.memory_bytes, after.descriptors - before.descriptors)
"""


def test_a_process_is_measured() -> None:
    """Memory of its own and descriptors, in a process that has freed nothing yet: this one may hold the 64 MiB in what other
    tests have freed."""
    root = Path(__file__).parents[2]
    told = subprocess.run([sys.executable, "-c", GROWS], cwd=root, capture_output=True, encoding="utf-8", check=True)
    memory_bytes, descriptors = map(int, told.stdout.split())
    assert memory_bytes > 32 * 2**20
    assert descriptors == 7


def test_a_file_that_nobody_uses_again_is_too_long() -> None:
    """Bounded by what lives and by what readers may still see."""
    assert bounds.file_bytes_max(10**7, 0) < 2 * 10**7
    assert bounds.file_bytes_max(10**7, 100) < 4 * 10**7
