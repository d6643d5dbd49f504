"""Event classes of the tests of scoped handles, and the store that most of them look at."""

from __future__ import annotations

import uuid
from typing import Any

import varve
from varve.layout.keys import StreamId

STATE: dict[Any, int] = {
    "t1/a": 1,
    "t1/b": 2,
    "t10/a": 3,
    "t2/a": 4,
    ("t1", 1): 5,
    ("t2", 1): 6,
    7: 7,
    b"t1": 8,
    "shared/x": 9,
}
"""Keys that the tests read; of these, the scene's handle may change what is under "t1/" and ("t1",), and read "shared/"."""
MINE: list[tuple[Any, int]] = [("shared/x", 9), ("t1/a", 1), ("t1/b", 2), (("t1", 1), 5)]
"""What it sees, in order."""

IDENT = uuid.UUID("11111111-2222-4333-8444-555555555555")


@varve.event
class Note:
    number: varve.u64


@varve.event
class Secret:
    number: varve.u64
    hidden: str


def fill(db: varve.Varve) -> None:
    """Streams inside and outside of what the tests allow, interleaved in one log."""
    orders, notes, pay = db.stream("orders", Note), db.stream("notes", Note), db.stream("pay", Secret)
    with db.transaction() as tx:
        for number in range(40):
            tx.append(orders, [7, "7", 8, IDENT][number % 4], Note(number))
            tx.append(notes, f"n{number % 3}", Note(1000 + number))
            tx.append(pay, number % 2, Secret(2000 + number, "x"))
        for key, value in STATE.items():
            tx.state.put(key, value)


def seen(events: Any) -> list[tuple[str, StreamId, int]]:
    """Recorded events as stream, id and stream sequence."""
    return [(one.stream, one.stream_id, one.stream_sequence) for one in events]
