"""``kill -9`` at each step of a command, a flush and a snapshot: what was acknowledged is there, what was not is there wholly or
not at all, and the state is the one that the log makes."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from prevalent_models import Deposit, bank, open_db

import varve

SCRIPT = """
import os, signal, sys
sys.path.insert(0, sys.argv[1])
from prevalent_models import *
from varve.derived.snapshots import Snapshots
from varve.prevalent.journal import Journal
from varve.prevalent.recovery import Recovery

folder, step = sys.argv[2:]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(function):
    def both(*arguments, **options):
        function(*arguments, **options)
        die()
    return both

with bank(open_db(folder), flush="manual" if "waiting" in step else "commit") as system:
    for _ in range(5):
        print(system.execute(Deposit("ann", 1)), flush=True)
    if "waiting" in step:
        system.flush()
    if step == "checked":
        Journal.append = die
    elif step in ("written", "flushed, waiting"):
        Journal.append = after(Journal.append)
    elif step == "applied" or step == "applied, waiting":
        Deposit.apply = after(Deposit.apply)
    elif step == "failed":
        Journal.abort = die
    elif step == "taken back":
        Journal.abort = after(Journal.abort)
    elif step == "made again":
        Recovery.newest = after(Recovery.newest)
    elif step == "saving":
        Snapshots.save = die
    elif step == "saved":
        Snapshots.save = after(Snapshots.save)
    if step in ("failed", "taken back", "made again"):
        system.execute(Explode("ann"))
    elif step in ("saving", "saved"):
        system.snapshot()
    else:
        print(system.execute(Deposit("ann", 1)), flush=True)
        if step == "flushed, waiting":
            system.flush()
        die()
"""

STEPS = {
    "checked": (5, 5),
    "written": (6, 6),
    "applied": (6, 6),
    "acknowledged": (6, 6),
    "failed": (5, 7),
    "taken back": (5, 7),
    "made again": (5, 7),
    "saving": (5, 5),
    "saved": (5, 5),
    "applied, waiting": (5, 5),
    "acknowledged, waiting": (5, 5),
    "flushed, waiting": (6, 6),
}
"""What the account holds then, and events in the stream after the next start."""


@pytest.mark.parametrize("step", STEPS)
def test_killed(varve_path: Path, step: str) -> None:
    """At each step."""
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(varve_path), step]
    killed = subprocess.run(command, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    acknowledged = int(killed.stdout.split()[-1])
    balance, position = STEPS[step]
    assert balance >= acknowledged or "waiting" in step
    for _ in range(2):
        with open_db(varve_path) as db, bank(db) as system:
            assert system.query(lambda state: (state.accounts, state.closed)) == ({"ann": balance}, set())
            assert system.position == position
            assert system.snapshot_position == (5 if step == "saved" else 0)
            assert system.verify()
    with open_db(varve_path) as db, bank(db) as system:
        assert system.execute(Deposit("ann", 1)) == balance + 1
        aborts = list(db.global_reader().iter_from(0, types=[varve.Aborted]))
        assert len(aborts) == position - balance - (position > balance)
