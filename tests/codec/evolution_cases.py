"""Changes of event classes: what may be done, what may not, and what ``flatc --conform`` lets pass all the same."""

from __future__ import annotations

import dataclasses
from enum import IntEnum, IntFlag
from typing import Any, NamedTuple

from varve import types
from varve.codec.declare import declare, stored_as
from varve.types import u8, u16, u32


def table(name: str, fields: dict[str, Any], **defaults: Any) -> Any:
    """An event class; what has a default is taken by keyword, so that fields without one may follow."""
    body = {
        field: given if isinstance(given, dataclasses.Field) else dataclasses.field(default=given, kw_only=True)
        for field, given in defaults.items()
    }
    return declare(type(name, (), {"__annotations__": fields} | body), "table", None, {})


def record(name: str, fields: dict[str, Any], align: int = 0, **defaults: Any) -> Any:
    """A struct class."""
    return declare(type(name, (), {"__annotations__": fields} | defaults), "struct", None, {}, align)


def enum(name: str, width: Any = None, **members: int) -> Any:
    """An enum class."""
    made = IntEnum(name, list(members.items()))
    return made if width is None else stored_as(width)(made)


def flags(name: str, **members: int) -> Any:
    """A class of flags."""
    return IntFlag(name, list(members.items()))


def old(default: Any, **more: Any) -> Any:
    """A field that is deprecated."""
    return dataclasses.field(default=default, kw_only=True, metadata={"deprecated": True} | more)


def marked(**metadata: Any) -> Any:
    """A field with metadata."""
    return dataclasses.field(metadata=metadata)


class Change(NamedTuple):
    """Two versions of an event class, and what is said against the second: fragments of the reasons, in order."""

    what: str
    before: Any
    after: Any
    reasons: tuple[str, ...] = ()


# What every version holds, at the root and inside of what it holds.
CARD, CASH, MORE_CASH = table("Card", {"number": str}), table("Cash", {}), table("Cash", {"n": u8}, n=3)
SHADE = enum("Shade", LIGHT=1, DARK=2)
LINE = {"sku": str, "count": u32}
BASE = {"a": u32, "b": str, "c": SHADE, "d": CARD | CASH, "e": u16 | None}


def root(fields: dict[str, Any] | None = None, **defaults: Any) -> Any:
    """The event class E."""
    return table("E", BASE if fields is None else fields, **defaults)


def nested(fields: dict[str, Any], name: str = "Line", **defaults: Any) -> Any:
    """An event class whose vector holds a table."""
    inner = table(name, fields, **defaults)
    return root({"lines": list[inner]})  # type: ignore[valid-type]


def holding(inner: Any, **defaults: Any) -> Any:
    """An event class with one field."""
    return root({"x": inner}, **defaults)


def changed(**fields: Any) -> dict[str, Any]:
    """The base's fields with some of them changed."""
    return BASE | fields


LINES = nested(LINE)
XY = {"x": u8, "y": u8}

ALLOWED = [
    Change("nothing", root(), root()),
    Change("optional field appended", root(), root(changed(f=int | None))),
    Change("fields with defaults appended", root(), root(changed(f=int, g=str, h=list[int]), f=5, g="", h=())),
    Change("nested field appended", LINES, nested(LINE | {"note": str | None})),
    Change("nested field with a default appended", LINES, nested(LINE | {"note": str}, note="")),
    Change("a new type with a field appended", root(), root(changed(f=table("New", {"z": int}) | None))),
    Change("an appended field that is deprecated from the start", root(), root(changed(f=int), f=old(0))),
    Change("a required text deprecated", root(), root(b=old(""))),
    Change("a number deprecated", root(), root(a=old(0))),
    Change("an optional field deprecated", root(), root(e=marked(deprecated=True))),
    Change("an enum deprecated, as what it reads when absent", root(), root(c=old(SHADE.LIGHT))),
    Change("a nested field deprecated", LINES, nested(LINE, sku=old(""))),
    Change("a field with a default deprecated", root(a=3), root(a=old(3))),
    Change("a number given the default that it reads as in any case", root(), root(a=0)),
    Change("such a default taken", root(a=0), root()),
    Change("enum value added", root(), root(changed(c=enum("Shade", LIGHT=1, DARK=2, DIM=3)))),
    Change("enum value added into a gap", holding(enum("G", A=0, C=2)), holding(enum("G", A=0, B=1, C=2))),
    Change("enum lines reordered", holding(enum("G", A=0, B=2)), holding(enum("G", B=2, A=0))),
    Change("an alias behind the name", holding(enum("G", A=0)), holding(enum("G", A=0, AKA=0))),
    Change("flag added", holding(flags("F", A=1, D=8)), holding(flags("F", A=1, B=2, D=8))),
    Change(
        "a zero added to an enum of an optional field",
        holding(SHADE | None),
        holding(enum("Shade", NO=0, LIGHT=1, DARK=2) | None),
    ),
    Change("union member added", root(), root(changed(d=CARD | CASH | table("Iou", {"who": str})))),
    Change(
        "union member grown", holding(CARD | CASH), holding(table("Card", {"number": str, "cvv": u16 | None}) | CASH)
    ),
    Change("default of a nested event grown with it", holding(CASH, x=CASH()), holding(MORE_CASH, x=MORE_CASH())),
    Change(
        "default of an enum under the same number",
        holding(flags("F", A=1, B=2), x=3),
        holding(flags("F", A=1, B=2, AB=3), x=3),
    ),
]

REFUSED = [
    Change("removed", root(), root({k: v for k, v in BASE.items() if k != "a"}), ("E.a was removed;",)),
    Change("the last removed", root(), root({k: v for k, v in BASE.items() if k != "e"}), ("E.e was removed;",)),
    Change(
        "renamed",
        root(),
        root({"z" if k == "a" else k: v for k, v in BASE.items()}),
        ("E.a was removed, or renamed to z", "E.z is new and needs"),
    ),
    Change(
        "replaced by a field at the end",
        root(),
        root({k: v for k, v in BASE.items() if k != "a"} | {"z": u32}, z=0),
        ("E.a was removed;",),
    ),
    Change(
        "reordered",
        root(),
        root({k: BASE[k] for k in "bacde"}),
        ("the fields of E were reordered: a, b, c, d, e became b, a, c, d, e",),
    ),
    Change("inserted", root(), root({"z": int | None} | BASE), ("E.z was inserted",)),
    Change("type", root(), root(changed(a=str)), ("E.a was u32 and is str now",)),
    Change("width", root(), root(changed(a=u16)), ("E.a was u32 and is u16 now",)),
    Change("to a vector", root(), root(changed(b=list[str])), ("E.b was str and is list[str] now",)),
    Change(
        "a name again with another type, after it was deprecated",
        root(a=old(0)),
        root(changed(a=str), a=old("")),
        ("E.a was u32 and is str now", "E.a had the default 0"),
    ),
    Change("default", root(a=1), root(a=2), ("E.a had the default 1 and has the default 2",)),
    Change("a default given", root(), root(b="x"), ("E.b had no default and has the default 'x'",)),
    Change("a default taken", root(b="x"), root(), ("E.b had the default 'x' and has no default",)),
    Change(
        "the sign of a zero",
        holding(float, x=0.0),
        holding(float, x=-0.0),
        ("E.x had the default 0.0 and has the default -0.0",),
    ),
    Change(
        "a number deprecated with another value than it reads when absent",
        root(),
        root(a=old(7)),
        ("E.a had no default (absent, it reads as 0) and has the default 7",),
    ),
    Change("required to optional", root(), root(changed(b=str | None)), ("E.b was str and is str | None now",)),
    Change("optional to required", root(), root(changed(e=u16)), ("E.e was u16 | None and is u16 now",)),
    Change("optional to a default", root(), root(changed(e=u16), e=0), ("E.e was u16 | None and is u16 now",)),
    Change("a new required field", root(), root(changed(f=str)), ("E.f is new and needs a plain default",)),
    Change("a new number without a default", root(), root(changed(f=u8)), ("E.f is new and needs a plain default",)),
    Change("deprecation taken back", root(a=old(0)), root(a=0), ("E.a was deprecated and is not any more",)),
    Change(
        "key moved",
        root({"k": u8, "l": u8}, k=marked(key=True)),
        root({"k": u8, "l": u8}, l=marked(key=True)),
        ("E.k was the key and is none now", "E.l is a key now and was none"),
    ),
    Change(
        "key of a struct",
        holding(record("S", XY, x=marked(key=True))),
        holding(record("S", XY, y=marked(key=True))),
        ("struct S can never change: its key was x and is y now",),
    ),
    Change(
        "alignment of a vector",
        holding(list[u8]),
        holding(list[u8], x=marked(force_align=8)),
        ("E.x had force_align 0 and has 8 now",),
    ),
    Change(
        "alignment of a struct",
        holding(record("S", XY)),
        holding(record("S", XY, 8)),
        ("struct S can never change: its force_align was 0 and is 8 now",),
    ),
    Change(
        "struct reordered",
        holding(record("S", XY)),
        holding(record("S", {"y": u8, "x": u8})),
        ("struct S can never change: it was (x: u8, y: u8) and is (y: u8, x: u8) now",),
    ),
    Change(
        "struct member renamed",
        holding(record("S", XY)),
        holding(record("S", {"x": u8, "z": u8})),
        ("struct S can never change",),
    ),
    Change(
        "struct member's type",
        holding(record("S", XY)),
        holding(record("S", {"x": u8, "y": types.i8})),
        ("struct S can never change",),
    ),
    Change(
        "struct in a struct",
        holding(record("O", {"s": record("S", XY)})),
        holding(record("O", {"s": record("S", {"x": u8})})),
        ("struct S can never change",),
    ),
    Change(
        "enum value renumbered",
        root(),
        root(changed(c=enum("Shade", LIGHT=1, DARK=3))),
        ("Shade.DARK was 2 and is 3 now",),
    ),
    Change(
        "enum value inserted, which moves the next",
        root(),
        root(changed(c=enum("Shade", LIGHT=1, DIM=2, DARK=3))),
        ("Shade.DARK was 2 and is 3 now",),
    ),
    Change(
        "enum value renamed",
        root(),
        root(changed(c=enum("Shade", LIGHT=1, BLACK=2))),
        ("enum Shade lost its member DARK = 2; 2 is called BLACK now",),
    ),
    Change(
        "an alias before the name",
        root(),
        root(changed(c=enum("Shade", LIGHT=1, BLACK=2, DARK=2))),
        ("Shade: 2 was called DARK and is called BLACK now",),
    ),
    Change(
        "a zero added, which absent fields read as",
        root(),
        root(changed(c=enum("Shade", NO=0, LIGHT=1, DARK=2))),
        ("E.c had no default (absent, it reads as 1)",),
    ),
    Change(
        "enum stored wider",
        root(),
        root(changed(c=enum("Shade", types.i64, LIGHT=1, DARK=2))),
        ("enum Shade was stored as i32 and would be as i64 now",),
    ),
    Change(
        "enum to flags",
        root(),
        root(changed(c=flags("Shade", LIGHT=1, DARK=2))),
        ("enum Shade was stored as i32", "enum Shade changed between IntEnum and IntFlag", "E.c had no default"),
    ),
    Change("union reordered", root(), root(changed(d=CASH | CARD)), ("E.d was Card | Cash and is Cash | Card now",)),
    Change("union member removed", root(), root(changed(d=CARD)), ("E.d was Card | Cash and is Card now",)),
    Change(
        "union member inserted",
        root(),
        root(changed(d=CARD | table("Iou", {}) | CASH)),
        ("E.d was Card | Cash and is Card | Iou | Cash now",),
    ),
    Change(
        "a change inside a union's member",
        root(),
        root(changed(d=table("Card", {"number": bytes}) | CASH)),
        ("Card.number was str and is bytes now",),
    ),
    Change("a nested table is renamed", LINES, nested(LINE, "Item"), ("E.lines was list[Line] and is list[Item] now",)),
    Change("nested removed", LINES, nested({"sku": str}), ("Line.count was removed",)),
    Change("nested type", LINES, nested(LINE | {"count": u16}), ("Line.count was u32 and is u16 now",)),
    Change(
        "nested required field", LINES, nested(LINE | {"note": str}), ("Line.note is new and needs a plain default",)
    ),
    Change(
        "a nested name for another kind",
        holding(record("S", XY)),
        holding(table("S", XY)),
        ("E.x was {'struct': 'S'} and is {'table': 'S'} now", "S was a struct and is a table now"),
    ),
    Change(
        "a nested event's default",
        holding(CARD, x=CARD("1")),
        holding(CARD, x=CARD("2")),
        ("E.x had the default {'number': '1'}",),
    ),
    Change("another event's name", root(), table("F", BASE), ("the event type E became F",)),
    Change(
        "everything at once",
        root({"a": u32, "b": str, "c": SHADE, "s": record("S", XY), "l": list[table("Line", LINE)]}),  # type: ignore[misc]
        root(
            {
                "b": bytes,
                "c": enum("Shade", LIGHT=4),
                "s": record("S", {"x": u8}),
                "l": list[table("Line", {"count": u8})],
                "z": str,
            }
        ),  # type: ignore[misc]
        (
            "E.a was removed;",
            "E.b was str and is bytes",
            "E.z is new and needs",
            "Shade.LIGHT was 1 and is 4",
            "lost its member DARK = 2",
            "E.c had no default (absent, it reads as 1) and has no default (absent, it reads as 4)",
            "struct S can never change",
            "Line.sku was removed",
            "Line.count was u32 and is u8",
        ),
    ),
]

# What flatc --conform accepts and events in a store could not follow.
DANGEROUS = [
    Change(
        "a struct gains a member",
        holding(record("S", XY)),
        holding(record("S", XY | {"z": u8})),
        ("struct S can never change: it was (x: u8, y: u8) and is (x: u8, y: u8, z: u8) now",),
    ),
    Change(
        "a field is renamed and has another default",
        root(a=1),
        root({"z" if k == "a" else k: v for k, v in BASE.items()}, z=2),
        ("E.a was removed, or renamed to z",),
    ),
    Change("optional to required", root({"t": str | None}), root({"t": str}), ("E.t was str | None and is str now",)),
    Change(
        "a new required field",
        root({"t": str}),
        root({"t": str, "u": str}),
        ("E.u is new and needs a plain default, or T | None",),
    ),
    Change(
        "an enum value is removed",
        root(),
        root(changed(c=enum("Shade", LIGHT=1))),
        ("enum Shade lost its member DARK = 2",),
    ),
    Change("a table is renamed", root(), table("F", BASE), ("the event type E became F",)),
]
