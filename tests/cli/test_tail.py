"""``varve tail``: live, beside writers that come and go."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_line import WAIT_S, Inside, Placed, Shipped, fill, interrupted, next_line, started

import varve


def append(path: Path, *events: Placed | Shipped) -> None:
    """A writer that comes and goes."""
    with varve.open(path) as db:
        db.stream("orders", Placed | Shipped).append_batch(1, events)


def test_it_survives_its_writers_and_ends_with_ctrl_c(tmp_path: Path) -> None:
    """Each event comes at once, from whichever process; Ctrl-C ends it without a word."""
    fill(tmp_path / "data", 1)
    with started(tmp_path, "tail", "data", "--from", "0", "--json") as running:
        assert json.loads(next_line(running))["global_sequence"] == 0  # it is there now
        for number in range(1, 4):
            append(tmp_path / "data", Placed(number, "new"))
            found = json.loads(next_line(running))
            assert (found["global_sequence"], found["event"]["order_id"]) == (number, number)
        assert interrupted(running) == (130, "", "")


def test_it_begins_at_the_end(tmp_path: Path) -> None:
    """By default what is there already is not shown, and the filters hold for what comes."""
    fill(tmp_path / "data", 3)
    with started(tmp_path, "tail", "data", "--type", "shop.Shipped", "--stream", "orders", "--limit", "2") as running:
        found = ""
        while not found:  # until it looks, nobody knows where the end is
            append(tmp_path / "data", Placed(1, "x"), Shipped(1), Shipped(2))
            found = running.communicate(timeout=WAIT_S)[0].decode() if running.poll() is not None else _first(running)
    lines = found.splitlines()
    assert lines[0].split()[0] == "global"
    assert all("shop.Shipped" in line for line in lines[1:])
    assert int(lines[1].split()[0][1:]) >= 4


def _first(running: object) -> str:
    """What it has printed within a moment; empty where that is nothing."""
    import select
    import subprocess

    assert isinstance(running, subprocess.Popen)
    assert running.stdout is not None
    ready, _, _ = select.select([running.stdout], [], [], 0.2)
    return running.communicate(timeout=WAIT_S)[0].decode() if ready else ""


def test_a_reader_that_leaves_ends_it_quietly(tmp_path: Path) -> None:
    """``varve tail | head -1``: it notices at the next event."""
    fill(tmp_path / "data", 1)
    with started(tmp_path, "tail", "data", "--from", "0", "--json") as running:
        assert running.stdout is not None
        assert running.stderr is not None
        next_line(running)
        running.stdout.close()
        append(tmp_path / "data", Placed(1, "x"))
        assert running.wait(timeout=WAIT_S) == 0
        assert running.stderr.read() == b""


def test_limit_and_from(inside: Inside) -> None:
    """So many from there on, and it ends by itself."""
    fill(Path("data"), 5)
    found = inside.lines("tail", "data", "--from", "2", "--limit", "3", "--json")
    assert [one["global_sequence"] for one in found] == [2, 3, 4]
    log = inside.lines("log", "data", "--json")
    assert found == log[2:5]
    assert inside.lines("tail", "data", "--from", log[1]["recorded_at"], "--limit", "1", "--json") == log[1:2]
    assert inside.done("tail", "data", "--limit", "0") == ""


def test_bad_starts(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no place in the log is said at once."""
    fill(Path("data"), 1)
    assert "is no global sequence" in inside.refused(2, "tail", "data", "--from", "middle")

    def struck(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(varve.Varve, "follow", struck)
    assert inside.run("tail", "data") == (130, "", "")
