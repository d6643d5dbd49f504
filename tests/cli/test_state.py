"""``varve state``: looked at and changed from outside."""

from __future__ import annotations

import datetime as dt
import json
import uuid
from decimal import Decimal
from pathlib import Path

import pytest
from command_line import Inside, on_a_terminal

import varve


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store with values of every kind."""
    with varve.open(tmp_path / "data", durability="relaxed") as db, db.transaction() as tx:
        tx.state.put("limit", 500)
        tx.state.put("name\x1b[31m", "a\nb")
        tx.state.put(7, {"d": Decimal("1.50"), "raw": b"\xff", 1: (1, {2})})
        tx.state.put(("t", uuid.UUID(int=1)), [dt.datetime(2026, 5, 4, tzinfo=dt.UTC), float("inf"), None, True, 1.5])
    return tmp_path / "data"


def test_list(inside: Inside, data: Path) -> None:
    """A line each; what a terminal must not see is spelled."""
    lines = inside.done("state", "list", str(data)).splitlines()
    assert lines[1] == "'limit'  500"
    assert len(lines) == 4
    assert "\x1b" not in "".join(lines)
    assert inside.done("state", "list", str(data), "lim") == "'limit'  500\n"
    assert inside.done("state", "list", str(data), "('t',)", "-l").startswith("('t', UUID(")
    assert inside.done("state", "list", str(data), "--limit", "1", "--reverse").startswith("('t'")
    found = [json.loads(line) for line in inside.done("state", "list", str(data), "--json").splitlines()]
    assert found == [
        {"key": 7, "value": {"d": "1.50", "raw": "ff", "1": [1, [2]]}},
        {"key": "limit", "value": 500},
        {"key": "name\x1b[31m", "value": "a\nb"},
        {"key": ["t", str(uuid.UUID(int=1))], "value": ["2026-05-04T00:00:00+00:00", "inf", None, True, 1.5]},
    ]


def test_get(inside: Inside, data: Path) -> None:
    """By a str, or a literal; what is not there is a mistake of the command line's."""
    assert inside.done("state", "get", str(data), "limit") == "500\n"
    assert inside.json("state", "get", str(data), "7", "--literal", "--json") == {
        "d": "1.50",
        "raw": "ff",
        "1": [1, [2]],
    }
    refused = inside.refused(2, "state", "get", str(data), "7")
    assert "state has no '7'" in refused
    assert "--literal" in refused
    refused = inside.refused(2, "state", "get", str(data), "8", "--literal")
    assert "state has no 8" in refused
    assert "--literal" not in refused
    assert "no Python literal" in inside.refused(2, "state", "get", str(data), "__import__('os')", "-l")
    assert "a key of state is" in inside.refused(2, "state", "get", str(data), "1.5", "-l")


def test_put_and_delete(inside: Inside, data: Path, tmp_path: Path) -> None:
    """What is there is asked for before it goes."""
    assert inside.done("state", "put", str(data), "new", "[1, 2]") == "'new' is [1, 2]\n"
    assert "no JSON" in inside.refused(2, "state", "put", str(data), "new", "text")
    assert inside.json("state", "put", str(data), "limit", "600", "--yes", "--json") == {"key": "limit", "value": 600}
    inside.refused(2, "state", "put", str(data), "limit", "700")
    code, _ = on_a_terminal(tmp_path, "state", "delete", "data", "limit", answer="n\n")
    assert code != 0
    assert inside.done("state", "get", str(data), "limit") == "600\n"
    assert inside.done("state", "delete", str(data), "limit", "--yes") == "removed 'limit'\n"
    assert inside.done("state", "delete", str(data), "limit", "--yes") == "there is no 'limit'\n"
    assert inside.json("state", "delete", str(data), "new", "-y", "--json") == {"key": "new", "deleted": True}
