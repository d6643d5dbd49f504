"""Make the golden store of evolved event types: run once per format version, by hand; commit its data.mdb, gzipped, as
evolved-vN.mdb.gz.

    python tests/golden/evolved_store.py store

Each generation of the program wrote its own versions of the types: fields appended and deprecated, an enum, a union and a
nested table grown, a type replaced by another twice (upcasts). No later version may change what the classes here declare.
"""

from __future__ import annotations

import sys
from dataclasses import field
from enum import IntEnum
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import varve
from varve.testing import ManualClock


def shades(**members: int) -> Any:
    """The enum of one generation."""
    return varve.schema.stored_as(varve.u8, name="Shade")(IntEnum("Shade", list(members.items())))


def first() -> SimpleNamespace:
    """The classes of the first generation."""
    Shade = shades(LIGHT=1, DARK=2)

    @varve.event
    class Card:
        number: str

    @varve.event
    class Cash:
        pass

    @varve.event
    class Line:
        sku: str
        count: varve.u16

    @varve.event
    class Sold:
        order: varve.u64
        shade: Shade  # type: ignore[valid-type]
        paid_by: Card | Cash
        lines: list[Line]
        note: str

    @varve.event(name="Moved")
    class MovedV1:
        where: str

    return SimpleNamespace(**locals())


def second() -> SimpleNamespace:
    """Fields appended, the enum and the nested table grown; what had moved is told by numbers now."""
    Shade = shades(LIGHT=1, DARK=2, DIM=7)

    @varve.event
    class Card:
        number: str
        expires: varve.u16 | None = None

    @varve.event
    class Cash:
        pass

    @varve.event
    class Line:
        sku: str
        count: varve.u16
        price: varve.u32 = 0

    @varve.event
    class Sold:
        order: varve.u64
        shade: Shade  # type: ignore[valid-type]
        paid_by: Card | Cash
        lines: list[Line]
        note: str
        rebate: varve.i8 = -1
        seller: str | None = None

    @varve.event(name="Moved.v2")
    class MovedV2:
        x: int
        y: int

    return SimpleNamespace(**locals())


def third() -> SimpleNamespace:
    """A field deprecated, the union grown, another field; moves have a height."""
    Shade = shades(LIGHT=1, BLACK=9, DARK=2, DIM=7)

    @varve.event
    class Card:
        number: str
        expires: varve.u16 | None = None

    @varve.event
    class Cash:
        pass

    @varve.event
    class Voucher:
        code: str

    @varve.event
    class Line:
        sku: str
        count: varve.u16
        price: varve.u32 = field(default=0, metadata={"deprecated": True})
        cents: varve.u64 | None = None

    @varve.event
    class Sold:
        order: varve.u64
        shade: Shade  # type: ignore[valid-type]
        paid_by: Card | Cash | Voucher
        lines: list[Line]
        note: str = field(default="", metadata={"deprecated": True})
        rebate: varve.i8 = -1
        seller: str | None = None
        tags: tuple[str, ...] = ()

    @varve.event(name="Moved.v3")
    class Moved:
        x: int
        y: int
        z: int

    return SimpleNamespace(**locals())


def fill(path: Path) -> None:
    """Write the store, one generation after the other, and then the first once more."""
    clock = ManualClock()
    one, two, three = first(), second(), third()
    for c in (one, two, three, one):
        with varve.open(path, clock=clock, map_bytes=2**24) as db:
            clock.advance(1)
            types = c.Sold | (getattr(c, "MovedV1", None) or getattr(c, "MovedV2", None) or c.Moved)
            shop = db.stream("shop", types)
            for event in written(c):
                shop.append(event.order if isinstance(event, c.Sold) else "moves", event)


def written(c: SimpleNamespace) -> list[Any]:
    """What a generation writes."""
    match c:
        case SimpleNamespace(MovedV1=moved):
            return [
                c.Sold(1, c.Shade.DARK, c.Card("4711"), [c.Line("a", 1), c.Line("b", 2)], "first"),
                c.Sold(2, c.Shade.LIGHT, c.Cash(), [], ""),
                moved("3,4"),
            ]
        case SimpleNamespace(MovedV2=moved):
            return [
                c.Sold(1, c.Shade.DIM, c.Card("4712", 1225), [c.Line("a", 3, 250)], "second", 5, "ann"),
                c.Sold(3, c.Shade.DARK, c.Cash(), [c.Line("b", 1)], "plain"),
                moved(5, -6),
            ]
    return [
        c.Sold(1, c.Shade.BLACK, c.Voucher("free"), [c.Line("c", 9, cents=2**40)], tags=("x", "y")),
        c.Sold(4, c.Shade.LIGHT, c.Card("4713"), [c.Line("d", 1, 7)], rebate=0, seller="bob"),
        c.Moved(7, 8, 9),
    ]


if __name__ == "__main__":
    fill(Path(sys.argv[1]))
