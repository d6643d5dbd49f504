"""Make the golden store of this format version: run once per version, by hand; commit its data.mdb, gzipped, as
vN.mdb.gz.

    python tests/golden/golden_store.py store

Every kind of thing that a store can hold is in it: several names, ids of every kind, all field types, metadata,
idempotency keys, a batch that spans blocks, a tail that was extended, an event with a block of its own.
"""

from __future__ import annotations

import dataclasses
import sys
from datetime import UTC, datetime
from decimal import Decimal
from enum import IntEnum
from pathlib import Path
from uuid import UUID

import varve
from varve.testing import ManualClock


class Grade(IntEnum):
    """An enum field."""

    LOW = 1
    HIGH = 2


@varve.struct
class Point:
    """A struct field."""

    x: varve.f32
    y: varve.f64


@varve.event
class Line:
    """A nested table."""

    sku: str
    count: varve.u16


@varve.event
class Everything:
    """One field of each kind."""

    flag: bool
    tiny: varve.i8
    big: varve.u64
    whole: int
    real: float
    single: varve.f32
    text: str
    blob: bytes
    numbers: list[varve.i32]
    words: list[str]
    when: datetime
    who: UUID
    price: Decimal
    grade: Grade
    point: Point
    line: Line
    lines: list[Line]
    note: str | None = None
    score: varve.i16 | None = None


@varve.event
class Ticked:
    """A small event."""

    number: varve.u32


def everything(number: int) -> Everything:
    """An ``Everything`` that depends on a number."""
    return Everything(
        flag=number % 2 == 0,
        tiny=-number % 100,
        big=2**64 - 1 - number,
        whole=-(2**62) + number,
        real=number / 7,
        single=number + 0.5,
        text=f"text {number} \N{SNOWMAN}",
        blob=bytes(range(number % 32)),
        numbers=[number, -number, 0],
        words=["", "a", "b" * number],
        when=datetime(2024, 2, 29, 12, 30, 15, 123456 + number, tzinfo=UTC),
        who=UUID(int=number << 64 | 7),
        price=Decimal(f"{number}.990"),
        grade=Grade.HIGH if number % 3 else Grade.LOW,
        point=Point(1.5, -number / 3),
        line=Line("sku", number),
        lines=[Line(f"sku-{i}", i) for i in range(number % 4)],
        note=None if number % 2 else "noted",
        score=None if number % 3 else -number,
    )


def fill(path: Path) -> None:
    """Write the store."""
    clock = ManualClock()
    with varve.open(path, clock=clock, map_bytes=2**24) as db:
        things = db.stream("things", Everything | Ticked)
        ticks = db.stream("ticks", Ticked)
        for number in range(5):
            things.append(number, everything(number), metadata={"number": number} if number else None)
            clock.advance(1)
        ticks.append_batch(
            "bulk", [Ticked(number) for number in range(1_500)], metadata={"batch": True}, idempotency_key=b"\x00bulk"
        )
        clock.advance(-10)
        ticks.append_many([(number % 7, Ticked(number)) for number in range(300)], idempotency_key=UUID(int=5))
        things.append("with a blob", everything(5), expected=varve.NO_STREAM)
        things.append("large", dataclasses.replace(everything(7), blob=bytes(40_000)))
        with db.transaction(idempotency_key="transfer", metadata={"cause": "golden"}) as tx:
            tx.append(things, UUID(int=99), everything(6))
            tx.append_batch(ticks, "bulk", [Ticked(1), Ticked(2)], expected=1_500)
        for number in range(40):
            clock.advance(0.001)
            ticks.append("tail", Ticked(number))


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
