"""``kill -9`` between the steps of an archive: everything is in the store, or in archive and store; asking again goes on."""

from __future__ import annotations

import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from archive_models import fill, told

import varve
from varve import limits, ops

SCRIPT = """
import os, signal, sys
import varve
from varve import archive, limits
from varve.engine import core, fresh, horizon
from varve.engine.commit import Session

limits.BLOCK_BYTES_MAX, limits.TAIL_BLOCK_BYTES_MAX = 1_000, 600
folder, step = sys.argv[1:]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(function):
    def both(*arguments, **options):
        function(*arguments, **options)
        die()
    return both

if step == "half written":
    archive.Derivation.index_pairs = die
elif step == "written":
    archive.examine = die
elif step == "verified":
    fresh.FreshStore.finish = die
elif step == "named":
    core.move_horizon = die
elif step == "letting go":
    Session.end = die
elif step == "let go":
    core.move_horizon = after(core.move_horizon)
with varve.open(folder + "/store", durability="relaxed") as db:
    db.archive(db.next_global_sequence, folder + "/archive")
"""


@pytest.mark.parametrize("step", ["half written", "written", "verified", "named", "letting go", "let go"])
def test_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    """At each step."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 1_000)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 600)
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        fill(db, random.Random(4), 60)
        before = [told(one) for one in db.global_reader().iter_from()]
    killed = subprocess.run([sys.executable, "-c", SCRIPT, str(tmp_path), step], check=False)
    assert killed.returncode == -signal.SIGKILL
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        if step != "let go":
            assert [told(one) for one in db.global_reader().iter_from()] == before
        if step in {"half written", "written", "verified"}:
            with pytest.raises(varve.InvalidInput, match="cut off"):
                db.archive(len(before), tmp_path / "archive")
            shutil.rmtree(tmp_path / "archive.unfinished")
        report = db.archive(len(before), tmp_path / "archive")
        assert (report.events == 0) == (step == "let go")
        fill(db, random.Random(5), 5)
    for name in ("archive", "store"):
        assert ops.verify(tmp_path / name).sound
    with varve.open([tmp_path / "archive", tmp_path / "store"]) as series:
        assert [told(one) for one in series.global_reader().iter_from()][: len(before)] == before
