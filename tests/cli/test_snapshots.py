"""``varve snapshots``: saved states listed and deleted from outside."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest
from command_line import Inside

import varve

UUID = uuid.UUID(int=1)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store with saved states of two projections and four streams."""
    with varve.open(tmp_path / "data") as db:
        for position in (1, 3, 2):
            db.snapshots.save("totals", position, [position], schema="v1")
            db.snapshots.save(("orders", 7), position, {})
        db.snapshots.save("totals2", 9, None)
        for stream_id in (8, "8", UUID):
            db.snapshots.save(("orders", stream_id), 1, None)
    return tmp_path / "data"


def left(path: Path) -> dict[object, list[int]]:
    """What is saved."""
    with varve.open(path, readonly=True) as db:
        return {scope: [info.position for info in db.snapshots.stored(scope)] for scope in db.snapshots.scopes()}


def test_list(inside: Inside, data: Path) -> None:
    found = inside.json("snapshots", "list", "data", "--json")
    assert [(one.get("scope"), one["position"]) for one in found[:4]] == [
        ("totals", 1), ("totals", 2), ("totals", 3), ("totals2", 9)
    ]  # fmt: skip
    assert {(one["stream"], one["stream_id"]) for one in found[4:]} == {
        ("orders", 7), ("orders", 8), ("orders", "8"), ("orders", str(UUID))
    }  # fmt: skip
    assert set(found[0]) == {"scope", "position", "schema", "saved_at", "size_bytes"}
    lines = inside.done("snapshots", "list", "data").splitlines()
    assert lines[0].split() == ["scope", "position", "schema", "saved", "(UTC)", "bytes"]
    assert lines[1].split()[:3] == ["totals", "1", "v1"]
    assert any(line.startswith("orders / 7 ") for line in lines)
    assert data.exists()


def test_list_of_nothing_makes_nothing(inside: Inside, tmp_path: Path) -> None:
    with varve.open(tmp_path / "empty"):
        pass
    assert inside.json("snapshots", "list", "empty", "--json") == []
    assert inside.done("snapshots", "list", "empty") == ""
    assert not (tmp_path / "empty" / "snapshots").exists()


def test_delete(inside: Inside, data: Path) -> None:
    assert inside.done("snapshots", "delete", "data", "orders", "--id", "7", "--keep", "1", "--yes") == (
        "deleted 2 saved states of orders / 7\n"
    )
    answer = inside.json("snapshots", "delete", "data", "totals", "--yes", "--json")
    assert answer == {"scope": "totals", "deleted": 3}
    answer = inside.json("snapshots", "delete", "data", "orders", "--id", str(UUID), "--yes", "--json")
    assert answer == {"stream": "orders", "stream_id": str(UUID), "deleted": 1}
    assert left(data) == {"totals2": [9], ("orders", 7): [3], ("orders", 8): [1], ("orders", "8"): [1]}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("orders",), "nothing is saved of 'orders'; there is: totals, totals2, orders / 8"),
        (("totals", "--id", "1"), "nothing is saved of 'totals' / 1"),
        (("orders", "--id", "8"), "names more than one stream"),
        (("totals",), "--yes"),
    ],
)
def test_what_is_not_deleted(inside: Inside, data: Path, arguments: tuple[str, ...], says: str) -> None:
    before = left(data)
    assert says in inside.refused(2, "snapshots", "delete", "data", *arguments)
    assert left(data) == before
