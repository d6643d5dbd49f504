"""Values that do not fit: refused when encoding, with class, field and value named; nothing is refused silently."""

from __future__ import annotations

import dataclasses
import enum
from array import array
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from codec_models import (
    Access,
    Box,
    Card,
    Color,
    Everything,
    Line,
    Note,
    Numbers,
    OrderPlaced,
    Point,
    Tree,
    everything,
    plain,
)

from varve.codec import event, event_type
from varve.errors import EventEncodingError, VarveError

NAIVE = datetime(2020, 1, 1)
FAR = datetime(2300, 1, 1, tzinfo=UTC)


class Name(str, enum.Enum):  # noqa: UP042 - its str() is not its text, which is the point
    RED = "red"


class Money(Decimal):
    pass


class Unreadable:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


BAD = [
    ("flag", 1, "flag must be a bool, not 1 (int)"),
    ("flag", None, "flag must be a bool, not None"),
    ("blob", "text", "blob must be bytes, not 'text' (str)"),
    ("text", b"bytes", "text must be a str, not b'bytes'"),
    ("text", 5, "text must be a str, not 5"),
    ("text", "\ud800", "text must be text without lone surrogates"),
    ("box", Point(1, 2), "box must be a Box, not Point("),
    ("box", Box(1, Point(1, 2), Color.RED, UUID(int=1), Point(1, 2)), "box.flag must be a bool, not 1"),
    ("box", Box(True, Point(1, "y"), Color.RED, UUID(int=1), Point(1, 2)), "box.low.y must be a float (f64), not 'y'"),
    ("lines", (Line("a", 1, 2), Line("b", -1, 2)), "lines[1].quantity must be in 0 .. 4294967295 (u32), not -1"),
    ("lines", (Note("x"),), "lines[0] must be a Line, not Note("),
    ("lines", "text", "lines must be a list or tuple (list[Line]), not 'text'"),
    ("lines", None, "lines must be a list or tuple"),
    ("tree", Tree(1, (Tree(200),)), "tree.children[0].value must be in -128 .. 127 (i8), not 200"),
    ("payment", Line("a", 1, 2), "payment must be one of Card | Cash, not Line("),
    ("payment", None, "payment must be one of Card | Cash, not None"),
    ("payment", Card("1", NAIVE), "payment.expires must be an aware datetime"),
    ("key", "00000000-0000-0000-0000-000000000001", "key must be a UUID"),
    ("at", NAIVE, "at must be an aware datetime (with a tzinfo)"),
    ("at", FAR, "at must be between the years 1677 and 2262"),
    ("at", datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))), "at must be between the years 1677 and 2262"),
    ("at", datetime.max.replace(tzinfo=timezone(-timedelta(hours=1))), "at must be between the years 1677 and 2262"),
    ("at", date(2020, 1, 1), "at must be a datetime"),
    ("at", 0, "at must be a datetime, not 0"),
    ("price", 1.5, "price must be a Decimal, not 1.5"),
    ("price", Decimal("NaN"), "price must be a finite Decimal"),
    ("color", Access.READ, "color must be a Color, not <Access"),
    ("color", True, "color must be a Color, not True"),
    ("color", 2**31, "color must be in -2147483648 .. 2147483647 (i32), not 2147483648"),
    ("ratio", 1e300, "ratio must fit 32 bits (f32), not 1e+300"),
    ("ratio", True, "ratio must be a float (f32), not True"),
    ("exact", "1", "exact must be a float (f64), not '1'"),
    ("exact", Decimal(1), "exact must be a float (f64), not Decimal('1')"),
    ("exact", 2**53 + 1, "exact must be an int that a float holds exactly"),
    ("exact", 10**400, "exact must be an int that a float holds exactly"),
    ("texts", ("a", 1), "texts[1] must be a str, not 1"),
    ("blobs", (b"a", "b"), "blobs[1] must be bytes, not 'b'"),
    ("numbers", (1, True), "numbers[1] must be an int (u64), not True"),
    ("numbers", (1, 2.0), "numbers[1] must be an int (u64), not 2.0"),
    ("numbers", (1, float("nan")), "numbers[1] must be an int (u64), not nan"),
    ("numbers", (1, 2**64), "numbers[1] must be in 0 .. 18446744073709551615 (u64)"),
    ("numbers", {1: 2}, "numbers must be a list or tuple (list[u64]), not {1: 2}"),
    ("flags", (0,), "flags[0] must be a bool, not 0"),
    ("maybe_int", 2**31, "maybe_int must be in -2147483648 .. 2147483647 (i32)"),
    ("maybe_bool", 0, "maybe_bool must be a bool, not 0"),
    ("maybe_text", 5, "maybe_text must be a str, not 5"),
    ("maybe_numbers", (1.0, None), "maybe_numbers[1] must be a float (f64), not None"),
    ("count", None, "count must be an int (u8), not None"),
    ("count", [], "count must be an int (u8), not [] (list)"),
    ("count", Unreadable(), "count must be an int (u8), not <Unreadable whose repr fails> (Unreadable)"),
    ("texts", "ab", "texts must be a list or tuple (list[str]), not 'ab'"),
    ("blobs", b"ab", "blobs[0] must be bytes, not 97 (int)"),
    ("colors", "ab", "colors must be a list or tuple (list[Color]), not 'ab'"),
    ("keys", (1,), "keys[0] must be a UUID, not 1 (int)"),
    ("tree", Tree(1, "ab"), "tree.children must be a list or tuple (list[Tree]), not 'ab'"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("name", "value", "message"), BAD)
def test_a_bad_value_is_named(name: str, value: Any, message: str) -> None:
    """The error names class, field, and what is wrong with which value."""
    with pytest.raises(EventEncodingError) as caught:
        event_type(Everything).pack(everything(**{name: value}))
    assert f"Everything.{message}" in str(caught.value)
    assert caught.value.type_name == "Everything"
    assert caught.value.field.startswith(name)
    assert isinstance(caught.value, (ValueError, VarveError))


INTS = {"a": 2**8, "b": 2**16, "c": 2**32, "d": 2**64, "e": 2**7, "f": 2**15, "g": 2**31, "h": 2**63, "i": 2**63}


@pytest.mark.parametrize("name", INTS)
def test_integers_are_refused_just_outside_their_range(name: str) -> None:
    """The last value fits, the next does not; bools, floats, NaN, None and text are no ints."""
    one = Numbers(0, 0, 0, 0, 0, 0, 0, 0, 0, 0.0, 0.0, False)
    pack = event_type(Numbers).pack
    bound = INTS[name]
    low = 0 if name in "abcd" else -bound
    for good in (low, bound - 1):
        data = pack(dataclasses.replace(one, **{name: good}))
        assert getattr(event_type(Numbers).view(data), name) == good
    for bad in (low - 1, bound, True, 1.0, float("nan"), None, "1", np.bool_(True)):
        with pytest.raises(EventEncodingError, match=rf"Numbers\.{name} must be"):
            pack(dataclasses.replace(one, **{name: bad}))


@pytest.mark.parametrize("value", [True, "1", 1.5, None, -1, 2**64])
@pytest.mark.parametrize("name", ["order_id", "quantity", "amount"])
def test_the_fast_packer_refuses_what_struct_would_take(name: str, value: Any) -> None:
    """``struct`` packs True as 1; an event does not."""
    one = dataclasses.replace(OrderPlaced(1, "x", 2, 3), **{name: value})
    with pytest.raises(EventEncodingError, match=rf"OrderPlaced\.{name} must be"):
        event_type(OrderPlaced).pack(one)


def test_an_event_of_another_class_is_refused() -> None:
    """A packer packs its own class only."""
    for other in (Note("x"), None, 5, OrderPlaced):
        with pytest.raises(EventEncodingError, match="OrderPlaced must be a OrderPlaced"):
            event_type(OrderPlaced).pack(other)


def test_an_event_with_an_unset_field_is_refused() -> None:
    """An instance made without its constructor has holes."""
    hollow = object.__new__(OrderPlaced)
    with pytest.raises(EventEncodingError, match=r"OrderPlaced\.order_id is not set"):
        event_type(OrderPlaced).pack(hollow)


def test_a_tree_that_is_too_deep_is_refused() -> None:
    """64 levels encode; the 65th names its path."""
    tree = Tree(0)
    for _ in range(63):
        tree = Tree(0, (), tree)
    event_type(Tree).pack(tree)
    with pytest.raises(EventEncodingError, match="nested deeper than 64"):
        event_type(Tree).pack(Tree(0, (tree,)))


def test_long_values_are_cut_in_messages() -> None:
    """An error does not repeat a megabyte."""
    with pytest.raises(EventEncodingError) as caught:
        event_type(Everything).pack(everything(count="x" * 10_000))
    assert len(str(caught.value)) < 300
    assert caught.value.value == "x" * 10_000


@pytest.mark.parametrize(
    ("name", "value", "want"),
    [
        ("count", np.uint8(5), 5),
        ("numbers", np.array([1, 2], dtype="uint64"), (1, 2)),
        ("numbers", [np.int64(7)], (7,)),
        ("ratios", np.array([0.5], dtype="float32"), (0.5,)),
        ("ratio", np.float32(0.5), 0.5),
        ("exact", np.float64(0.5), 0.5),
        ("exact", 3, 3.0),
        ("flag", np.bool_(True), True),
        ("flags", np.array([True, False]), (True, False)),
        ("blob", bytearray(b"abc"), b"abc"),
        ("blob", memoryview(b"abc"), b"abc"),
        ("bytes_", b"\x01\x02", (1, 2)),
        ("color", 99, 99),
        ("numbers", memoryview(array("I", (1, 2))), (1, 2)),
        ("price", Money("1.50"), Decimal("1.50")),
        ("prices", (Money("1.50"),), (Decimal("1.50"),)),
    ],
)
def test_close_relatives_are_taken(name: str, value: Any, want: Any) -> None:
    """Scalars of numpy and arrays, bytearrays, ints for floats, enum members that only newer code knows."""
    compiled = event_type(Everything)
    view = compiled.view(compiled.pack(everything(**{name: value})))
    assert plain(getattr(view, name)) == want


def test_a_text_is_its_characters_whichever_way_it_is_packed() -> None:
    """The member of a (str, Enum) has another ``str()`` than its text. Where a value beside it took the slow path, the event
    held that, ``Name.RED``; and its digest was never that of what had been stored, so a retry from the log conflicted."""
    compiled = event_type(Everything)
    for changes in ({}, {"count": np.uint8(7)}):
        event_ = everything(text=Name.RED, texts=(Name.RED, "x"), **changes)
        data = compiled.pack(event_)
        view = compiled.view(data)
        assert (view.text, view.texts) == ("red", ("red", "x"))
        assert view == event_
        assert (
            compiled.digest(event_)
            == compiled.digest(view)
            == compiled.digest(everything(text="red", texts=("red", "x")))
        )


def test_bytes_that_will_not_be_plain_are_refused() -> None:
    """A subclass that stays one is refused with the event's name, rather than written by its own methods."""

    class Stubborn(bytes):
        def __bytes__(self) -> bytes:
            return self

    with pytest.raises(EventEncodingError, match="Everything cannot be encoded") as caught:
        event_type(Everything).pack(everything(blob=Stubborn(b"x")))
    assert caught.value.type_name == "Everything"


def test_int_subclasses_are_stored_as_ints() -> None:
    """An IntEnum member in an int field is its number."""

    @event
    class Counted:
        n: int

    compiled = event_type(Counted)
    assert compiled.view(compiled.pack(Counted(Color.BLUE))).n == 2
