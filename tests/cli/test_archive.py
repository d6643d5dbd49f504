"""``varve archive`` as a person runs it."""

from __future__ import annotations

import json
from pathlib import Path

from command_line import Inside

import varve


@varve.event(name="cli.Reading")
class Reading:
    value: varve.u64


def test_archive(inside: Inside, tmp_path: Path) -> None:
    """The beginning moves, the rest is read on, what is below is told; mistakes are a line each."""
    with varve.open(tmp_path / "data", durability="relaxed") as db:
        readings = db.stream("readings", Reading)
        for first in range(0, 4_000, 500):
            readings.append_batch(1, [Reading(first + n) for n in range(500)])
    text = inside.done("archive", "data", "--before", "2000", "--to", "old")
    assert "verified and sealed" in text
    assert "data begins at " in text
    found = json.loads(inside.done("archive", "data", "--before", "3000", "--to", "older", "--json"))
    assert found["events"] == found["next_sequence"] - found["first_sequence"] > 0
    again = json.loads(inside.done("archive", "data", "--before", "3000", "--to", "none", "--json"))
    assert (again["path"], again["events"]) == (None, 0)
    assert "nothing was written" in inside.done("archive", "data", "--before", "3000", "--to", "none")
    assert "lies in the future" in inside.refused(2, "archive", "data", "--before", "9999", "--to", "none")
    assert "nowhere" in inside.refused(6, "archive", "nowhere", "--before", "1", "--to", "none")
    assert "no folder" in inside.refused(2, "archive", "data", "--before", "4000", "--to", "nowhere/else")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["data", "old", "older"]
    with varve.open([tmp_path / "old", tmp_path / "older", tmp_path / "data"]) as series:
        assert [one.event.value for one in series.global_reader().iter_from()] == list(range(4_000))
    assert "begins at" in inside.refused(6, "get", "data", "0")
    for reaching in (("--at", "5"), ("--to", "5"), ("--from", "0")):
        found = inside.run("log", "data", *reaching)
        assert (found.code, found.out) == (6, "")
        assert "begins at" in found.err


def test_what_is_left_of_a_store_is_not_written_over(inside: Inside, tmp_path: Path) -> None:
    """An empty data file is no new store to a command."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "data.mdb").touch()
    for command in (("append", "data", "a", "1", "--type", "T", "--json", "{}"), ("log", "data")):
        assert "is empty: what was there is lost" in inside.refused(5, *command)
    assert (tmp_path / "data" / "data.mdb").stat().st_size == 0
