"""``kill -9`` in the middle of a commit of state and events: both are there, or neither."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest
from state_models import Moved

import varve

SCRIPT = """
import os, signal, sys
sys.path.insert(0, sys.argv[3])
import varve
from state_models import Moved
from varve.engine import commit
from varve.engine.commit import Session
from varve.engine.environment import Environment

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(function):
    def both(*arguments, **options):
        function(*arguments, **options)
        die()
    return both

with varve.open(sys.argv[1]) as db:
    moved = db.stream("moved", Moved)
    step = sys.argv[2]
    if step == "table made":
        Environment.make_side = after(Environment.make_side)
    elif step == "applied":
        Session.commit = die
    elif step == "log written":
        commit.put_effects = die
    elif step == "state written":
        Session.end = die
    elif step == "committed":
        Session.end = after(Session.end)
    with db.transaction() as tx:
        tx.state.put("a", 1)
        tx.state.add("n", -5)
        tx.append(moved, 1, Moved(-5))
"""

STEPS = ["table made", "applied", "log written", "state written", "committed"]


@pytest.mark.parametrize("step", STEPS)
def test_killed(varve_path: Path, step: str) -> None:
    """At each step, of the first commit of state that a store sees, and of a later one."""
    with varve.open(varve_path) as db:
        if step != "table made":
            db.state.put("n", 100)
        db.stream("moved", Moved).append(1, Moved(100))
    killed = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(varve_path), step, str(Path(__file__).parent)], check=False
    )
    assert killed.returncode == -signal.SIGKILL
    done = step == "committed"
    with varve.open(varve_path) as db:
        moved = db.stream("moved", Moved)
        assert moved.reader().length(1) == 1 + done
        assert db.state.exists("a") == done
        assert db.state.get_opt("n", 100) == (95 if done else 100)
        db.optimistic(lambda tx: tx.state.put("a", tx.state.get_opt("a", 0) + 1))
        assert db.state.get("a") == 1 + done
