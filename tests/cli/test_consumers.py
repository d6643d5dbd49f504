"""``varve consumers``: looked at, moved and removed from outside."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from command_line import Inside, fill, on_a_terminal

import varve


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store with 450 events, a consumer, and one that three share."""
    fill(tmp_path / "data", 300)
    with varve.open(tmp_path / "data") as db:
        db.consumer("billing", start=100).close()
        for member in range(3):
            with db.consumer("mail", member=member, members=3) as consumer:
                consumer.seek(10 * member)
    return tmp_path / "data"


def positions(path: Path) -> dict[str, list[int]]:
    """Where the members of each consumer stand."""
    with varve.open(path, readonly=True) as db:
        return {info.name: [member.position for member in info.members] for info in db.consumers()}


def test_list(inside: Inside, data: Path) -> None:
    """Where they stand, who runs them."""
    found = inside.json("consumers", "list", "data", "--json")
    assert [(one["name"], one["position"], one["lag"], one["running"]) for one in found] == [
        ("billing", 100, 350, False),
        ("mail", 0, 450, False),
    ]
    assert [member["position"] for member in found[1]["members"]] == [0, 10, 20]
    lines = inside.done("consumers", "list", "data").splitlines()
    assert lines[0].split() == ["name", "position", "lag", "updated", "(UTC)", "run", "by"]
    assert lines[1].split()[:3] == ["billing", "100", "350"]
    assert lines[1].endswith("  nobody")


def test_who_runs_it_is_shown(data: Path, tmp_path: Path) -> None:
    """Seen from another process; it cannot be moved or removed meanwhile, unless by force, and then it is out."""
    from command_line import process

    with varve.open(data) as db, db.consumer("billing") as consumer:
        listed = process(tmp_path, "consumers", "list", "data")
        assert f"process {os.getpid()}" in listed.out
        for command in (["seek", "data", "billing", "0"], ["delete", "data", "billing"]):
            found = process(tmp_path, "consumers", *command, "--yes")
            assert found.code == 3
            assert f"is run by process {os.getpid()}" in found.err
        assert process(tmp_path, "consumers", "seek", "data", "billing", "7", "--yes", "--force").code == 0
        with pytest.raises(varve.ConsumerFenced):
            consumer.seek(0)
    assert positions(data)["billing"] == [7]


def test_seek(inside: Inside, data: Path) -> None:
    """To a sequence, a time, the start, the end; a group moves as a whole."""
    told = inside.done("consumers", "seek", "data", "billing", "42", "--yes")
    assert told == "billing continues at 42 (it stood at 100)\n"
    found = inside.json("consumers", "seek", "data", "mail", "end", "--yes", "--json")
    assert found == {"name": "mail", "from": 0, "position": 450}
    assert positions(data) == {"billing": [42], "mail": [450, 450, 450]}
    inside.done("consumers", "seek", "data", "mail", "start", "-y")
    inside.done("consumers", "seek", "data", "billing", "2000-01-01", "--yes")
    assert positions(data) == {"billing": [0], "mail": [0, 0, 0]}
    inside.done("consumers", "seek", "data", "billing", "now", "--yes")
    assert positions(data)["billing"] == [450]
    with varve.open(data) as db, db.consumer("billing") as consumer:
        assert consumer.position == 450
    assert "the log has 450 events" in inside.refused(2, "consumers", "seek", "data", "billing", "451", "--yes")
    assert "is no global sequence" in inside.refused(2, "consumers", "seek", "data", "billing", "middle", "--yes")
    assert "no consumer 'x'; the store has billing, mail" in inside.refused(
        2, "consumers", "seek", "data", "x", "0", "--yes"
    )


def test_delete(inside: Inside, data: Path) -> None:
    """Only what is there."""
    assert inside.done("consumers", "delete", "data", "billing", "--yes") == "forgot billing\n"
    assert "no consumer 'billing'" in inside.refused(2, "consumers", "delete", "data", "billing", "--yes")
    assert inside.json("consumers", "delete", "data", "mail", "--yes", "--json") == {"name": "mail", "deleted": True}
    assert (
        inside.done("consumers", "delete", "data", "mail", "--yes", "--force") == "there is no consumer mail any more\n"
    )
    assert positions(data) == {}
    assert "the store has none" in inside.refused(2, "consumers", "delete", "data", "mail", "--yes")


def test_one_is_asked_on_a_terminal_only(inside: Inside, data: Path, tmp_path: Path) -> None:
    """Yes does it, anything else does not; where nobody can be asked, --yes has to be said."""
    told = inside.refused(2, "consumers", "delete", "data", "billing")
    assert told == "varve: Forget consumer 'billing', which stands at 100? Nobody can be asked here: say --yes\n"
    code, out = on_a_terminal(tmp_path, "consumers", "delete", "data", "billing", answer="\n")
    assert code == 2
    assert "Forget consumer 'billing', which stands at 100? [y/N]" in out
    assert "varve: nothing was done" in out
    assert "billing" in positions(data)
    code, out = on_a_terminal(tmp_path, "consumers", "seek", "data", "billing", "5", answer="y\n")
    assert code == 0
    assert "billing continues at 5" in out
    code, out = on_a_terminal(tmp_path, "consumers", "seek", "data", "billing", "9", answer="\x03")
    assert code == 130
    assert "varve: interrupted" in out
    assert positions(data)["billing"] == [5]
