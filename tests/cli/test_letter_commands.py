"""``varve dead-letters``: looked at, asked to be tried again, given up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from command_line import Inside, on_a_terminal

import varve


@varve.event(name="letters.Placed")
class Placed:
    number: varve.u64


def run(path: Path, *bad: int) -> int:
    """Run the processor that cannot handle some; how many it handled."""

    def handle(recorded: varve.Recorded[Any], _tx: varve.Transaction) -> None:
        if recorded.event.number in bad:
            raise ValueError(f"order {recorded.event.number}:\n\x1b[31mno")

    with varve.open(path) as db:
        db.stream("orders", Placed)
        return db.processor("billing", handle, strategy=varve.DeadLetter(park=True)).catch_up_blocking()


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A store with 20 orders in 5 streams, of which two could not be handled."""
    path = tmp_path / "data"
    with varve.open(path) as db:
        db.stream("orders", Placed).append_many([(n % 5, Placed(n)) for n in range(20)])
    run(path, 7, 13)
    return path


def test_list(inside: Inside, data: Path) -> None:
    """What failed, what waits behind it; for people no control characters of an error's."""
    found = inside.json("dead-letters", "list", "data", "--json")
    assert [(one["global_sequence"], one["state"], one["attempts"]) for one in found] == [
        (7, "dead", 1),
        (12, "parked", 0),
        (13, "dead", 1),
        (17, "parked", 0),
        (18, "parked", 0),
    ]
    assert found[0] == {
        "processor": "billing",
        "global_sequence": 7,
        "stream": "orders",
        "stream_id": 2,
        "stream_sequence": 1,
        "type": "letters.Placed",
        "state": "dead",
        "blocks": True,
        "retry_requested": False,
        "attempts": 1,
        "first_failed_at": found[0]["last_failed_at"],
        "last_failed_at": found[0]["last_failed_at"],
        "error_type": "ValueError",
        "message": "order 7:\n\x1b[31mno",
    }
    lines = inside.done("dead-letters", "list", "data").splitlines()
    assert lines[0].split()[:3] == ["processor", "sequence", "stream"]
    assert lines[1].split()[:5] == ["billing", "7", "orders/2", "letters.Placed", "dead"]
    assert lines[1].endswith("ValueError: order 7:")
    assert "\x1b" not in "".join(lines)
    assert inside.done("dead-letters", "list", "data", "--processor", "mail") == ""
    assert len(inside.json("dead-letters", "list", "data", "--processor", "billing", "--json")) == 5


def test_show(inside: Inside, data: Path) -> None:
    """The event, the error, where it was raised."""
    told = inside.done("dead-letters", "show", "data", "billing", "7")
    assert "#7  orders/2 [1]" in told
    assert "later events of its stream wait behind it" in told
    assert "in handle" in told
    assert "\x1b" not in told
    found = inside.json("dead-letters", "show", "data", "billing", "7", "--json")
    assert found["event"]["event"] == {"number": 7}
    assert "in handle" in found["traceback"]
    assert "Traceback" not in inside.done("dead-letters", "show", "data", "billing", "12")
    assert "no dead letter for event 8" in inside.refused(2, "dead-letters", "show", "data", "billing", "8")


def test_an_event_that_is_gone(inside: Inside, data: Path) -> None:
    """The letter is shown without it."""
    with varve.open(data) as db:
        orders = db.stream("orders", Placed)
        orders.append_many([(n % 50, Placed(n)) for n in range(1000, 9000)])
        db.archive(5000, data.parent / "old", force=True)
    assert "gone from the log" in inside.done("dead-letters", "show", "data", "billing", "7")
    assert inside.json("dead-letters", "show", "data", "billing", "7", "--json")["event"] is None


def test_retry(inside: Inside, data: Path) -> None:
    """The processor does it when it is run next."""
    assert "try 1 again" in inside.done("dead-letters", "retry", "data", "billing", "7")
    listed = inside.done("dead-letters", "list", "data")
    assert "dead (retry)" in listed
    assert run(data, 7, 13) == 0
    found = inside.json("dead-letters", "list", "data", "--json")
    assert [(one["global_sequence"], one["attempts"], one["retry_requested"]) for one in found][:1] == [(7, 2, False)]
    told = inside.json("dead-letters", "retry", "data", "billing", "--all", "--json")
    assert told == {"processor": "billing", "requested": 2}
    assert run(data) == 5
    assert inside.json("dead-letters", "list", "data", "--json") == []


def test_drop(inside: Inside, data: Path, tmp_path: Path) -> None:
    """One, or all; what waits behind a dropped one comes next."""
    assert "say --yes" in inside.refused(2, "dead-letters", "drop", "data", "billing", "7")
    assert inside.done("dead-letters", "drop", "data", "billing", "7", "--yes") == "dropped 1 of billing\n"
    assert run(data, 13) == 2
    code, out = on_a_terminal(tmp_path, "dead-letters", "drop", "data", "billing", "13", answer="y\n")
    assert code == 0
    assert "for event 13?" in out
    told = inside.json("dead-letters", "drop", "data", "billing", "--all", "--yes", "--json")
    assert told == {"processor": "billing", "dropped": 1}
    assert run(data) == 0


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["retry", "data", "billing"], "--all"),
        (["retry", "data", "billing", "7", "--all"], "--all"),
        (["retry", "data", "billing", "8"], "no dead letter for event 8"),
        (["retry", "data", "billing", "12"], "waits behind"),
        (["drop", "data", "billing", "--yes"], "--all"),
        (["drop", "data", "billing", "8", "--yes"], "no dead letter for event 8"),
        (["show", "data", "mail", "7"], "no dead letter"),
    ],
)
def test_what_is_refused(inside: Inside, data: Path, command: list[str], said: str) -> None:
    """With a line that says what to do instead; nothing is changed."""
    assert said in inside.refused(2, "dead-letters", *command)
    assert len(inside.json("dead-letters", "list", str(data), "--json")) == 5
