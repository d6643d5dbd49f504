"""Values: everything comes back as it was, nothing else is taken, any bytes give a value or ``MalformedRecord``."""

import collections
import datetime as dt
import enum
import math
import uuid
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve import InvalidInput
from varve.layout.records import MalformedRecord
from varve.layout.values import decode_value, encode_value

HASHABLE = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**256) + 1, 2**256 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(exclude_categories=["Cs"]), max_size=200)
    | st.binary(max_size=20)
    | st.decimals(allow_nan=False)
    | st.datetimes(timezones=st.just(dt.UTC)).map(lambda when: when.replace(fold=0))
    | st.uuids(),
    lambda inner: st.frozensets(inner, max_size=3) | st.lists(inner, max_size=3).map(tuple),
    max_leaves=8,
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: (
        st.lists(inner, max_size=4) | st.sets(HASHABLE, max_size=4) | st.dictionaries(HASHABLE, inner, max_size=4)
    ),
    max_leaves=20,
)


class Colour(enum.IntEnum):
    RED = 1


def shape(value: Any) -> Any:
    """A value with the types of everything in it, which ``==`` passes over (1 == True == 1.0)."""
    match value:
        case dict():
            return [(shape(key), shape(item)) for key, item in value.items()]
        case list() | tuple():
            return type(value), [shape(item) for item in value]
        case set() | frozenset():
            return type(value), sorted(map(repr, map(shape, value)))
        case _:
            return type(value), repr(value)


@given(VALUES)
def test_what_goes_in_comes_out(value: Any) -> None:
    assert shape(decode_value(encode_value(value))) == shape(value)


@given(st.sets(HASHABLE, max_size=6))
def test_equal_sets_have_equal_bytes(members: set[Any]) -> None:
    backwards = sorted(members, key=repr, reverse=True)
    assert encode_value(members) == encode_value(set(backwards))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_value_or_malformed(data: bytes) -> None:
    try:
        value = decode_value(data)
    except MalformedRecord:
        return
    encode_value(value)


@given(VALUES, st.data())
def test_cut_off_bytes_are_malformed(value: Any, data: st.DataObject) -> None:
    raw = encode_value(value)
    cut = data.draw(st.integers(0, len(raw) - 1))
    with pytest.raises(MalformedRecord):
        decode_value(raw[:cut])
    with pytest.raises(MalformedRecord):
        decode_value(raw + b"\0")


def test_bytes_are_for_ever() -> None:
    value = {"a": [None, False, True, 0, 255, -256, 1.5], b"b": (Decimal("1.50"), frozenset({1}), {2})}
    assert encode_value(value).hex() == (
        "0f02"
        "060161" "0b07" "00" "01" "02" "0300" "0301ff" "04020001" "05000000000000f83f"
        "070162" "0c03" "0804312e3530" "0e01030101" "0d01030102"
    )  # fmt: skip
    when = dt.datetime(1970, 1, 1, 0, 0, 1, tzinfo=dt.UTC)
    assert encode_value([when, uuid.UUID(int=1)]).hex() == "0b020940420f0000000000" + "0a" + "00" * 15 + "01"
    assert encode_value("x" * 300)[:3].hex() == "06ac02"


def test_nan_and_other_time_zones_come_back() -> None:
    assert math.isnan(decode_value(encode_value(math.nan)))
    assert decode_value(encode_value(Decimal("sNaN"))).is_snan()
    there = dt.datetime(2026, 1, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    back = decode_value(encode_value(there))
    assert back == there
    assert back.tzinfo is dt.UTC


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (object(), "cannot hold object"),
        (Colour.RED, "cannot hold Colour"),
        ({"a": [1, collections.OrderedDict()]}, r"cannot hold OrderedDict.* \(at 'a' / 1\)"),
        ({(1, 2**256): 1}, "257 bits"),
        ({object}, "cannot hold type.*at member"),
        (dt.datetime(2026, 1, 1), "no time zone"),
        ("\ud800", "no UTF-8"),
        (Decimal("1" * 1001), "1001 digits"),
    ],
)
def test_what_cannot_be_stored_says_where_it_is(value: Any, says: str) -> None:
    with pytest.raises(InvalidInput, match=says):
        encode_value(value)


def test_depth_has_a_limit_both_ways() -> None:
    deep: Any = 1
    for _ in range(64):
        deep = [deep]
    assert decode_value(encode_value(deep)) == deep
    with pytest.raises(InvalidInput, match="64 deep"):
        encode_value([deep])
    with pytest.raises(MalformedRecord):
        decode_value(b"\x0b\x01" * 65 + b"\x00")


def test_others_take_apart_and_put_together() -> None:
    def take_apart(value: Any) -> tuple[str, Any]:
        return "colour", int(value)

    def put_together(kind: str, parts: Any) -> Colour:
        assert kind == "colour"
        return Colour(parts)

    raw = encode_value([Colour.RED], take_apart)
    assert raw.hex() == "0b01" + "10" + "0606" + b"colour".hex() + "030101"
    assert decode_value(raw, put_together) == [Colour.RED]
    with pytest.raises(MalformedRecord):
        decode_value(raw)
    with pytest.raises(MalformedRecord):
        decode_value(b"\x10\x00\x00", put_together)


@pytest.mark.parametrize(
    "raw", ["11", "1100", "ff", "06ffffffffffffffffffff01", "0bff7f", "0d010b00", "0f010b0000", "0801ff", "0803616263"]
)
def test_bytes_that_nobody_wrote(raw: str) -> None:
    with pytest.raises(MalformedRecord):
        decode_value(bytes.fromhex(raw))


def test_a_time_outside_of_the_calendar_is_malformed() -> None:
    with pytest.raises(MalformedRecord):
        decode_value(b"\x09" + (2**62).to_bytes(8, "little"))
