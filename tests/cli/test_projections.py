"""``varve projections``: looked at from outside."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest
from command_line import Inside, Placed, fill, process

import varve


class Things(varve.Projection):
    schema = "CREATE TABLE things (number INTEGER PRIMARY KEY, product TEXT)"

    @varve.on(Placed, sql="INSERT INTO things VALUES (?, ?)")
    def placed(self, recorded: varve.Recorded[Any]) -> tuple[int, str]:
        return recorded.event.order_id, recorded.event.product


class More(Things):
    version = 3


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store with 15 events, and two projections."""
    fill(tmp_path / "data", 10)
    with varve.open(tmp_path / "data") as db, db.projection(Things) as things, db.projection(More) as more:
        things.catch_up()
        more.catch_up(until=4)
        more.rebuild()
        more.rebuild()
    return tmp_path / "data"


def test_list(inside: Inside, data: Path) -> None:
    """Where they stand, and what is wrong with one."""
    more, things = inside.json("projections", "list", "data", "--json")
    assert (things["name"], things["position"], things["lag"], things["version"]) == ("Things", 15, 0, 1)
    assert (more["name"], more["generation"], more["generations"], more["version"]) == ("More", 3, 1, 3)
    assert things["running"] is False
    with sqlite3.connect(f"file:{things['path']}?mode=ro", uri=True) as connection:
        assert connection.execute("SELECT count(*) FROM things").fetchone() == (10,)
    connection.close()
    lines = inside.done("projections", "list", "data").splitlines()
    assert lines[0].split() == ["name", "position", "lag", "version", "generation", "bytes", "run", "by"]
    assert lines[2].split()[:5] == ["Things", "15", "0", "1", "1"]
    assert lines[2].endswith("  nobody")
    Path(more["path"]).write_bytes(b"damaged" * 1_000)
    lines = inside.done("projections", "list", "data").splitlines()
    assert lines[1].split()[1] == "-"
    assert "not a database" in lines[2]


def test_nothing_to_list(inside: Inside, tmp_path: Path) -> None:
    """A store without any, and a folder without a store."""
    fill(tmp_path / "data", 1)
    assert inside.done("projections", "list", "data") == ""
    assert not (tmp_path / "data" / "projections").exists()
    inside.refused(6, "projections", "list", "nowhere")


def test_who_runs_it_is_shown(data: Path, tmp_path: Path) -> None:
    """Seen from another process."""
    import os

    with varve.open(data) as db:
        db.stream("orders", Placed).append(1, Placed(99, "late"))
        seen: list[str] = []
        db.projection(Things).catch_up(
            progress=lambda _: seen.append(process(tmp_path, "projections", "list", "data").out)
        )
    assert f"process {os.getpid()}" in seen[0].splitlines()[2]
