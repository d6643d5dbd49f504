"""Keys of state as bytes: one encoding each, in the order of the keys, and nothing else is read back."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import varve
from varve import limits
from varve.layout.ordered import decode_key, encode_key, prefix_bounds
from varve.layout.records import MalformedRecord

ATOMS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
    st.integers(-(2**256) + 1, 2**256 - 1),
    st.integers(-300, 300),
    st.binary(max_size=12),
    st.binary(max_size=4).map(lambda raw: raw.replace(b"a", b"\0").replace(b"b", b"\xff")),
    st.uuids(),
)
KEYS = st.recursive(ATOMS, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=6)


def rank(key: Any) -> tuple[Any, ...]:
    """A key as something that Python sorts as the bytes must sort."""
    if isinstance(key, tuple):
        return (4, tuple(map(rank, key)))
    kinds: dict[type, int] = {int: 0, str: 1, bytes: 2, uuid.UUID: 3}
    return (kinds[type(key)], key)


@given(KEYS)
def test_a_key_comes_back(key: Any) -> None:
    """With its type."""
    again = decode_key(encode_key(key))
    assert rank(again) == rank(key)


@given(KEYS, KEYS)
def test_bytes_sort_as_keys_do(left: Any, right: Any) -> None:
    """Over all kinds, tuples included; equal bytes mean equal keys."""
    assert (encode_key(left) < encode_key(right)) == (rank(left) < rank(right))
    assert (encode_key(left) == encode_key(right)) == (rank(left) == rank(right))


@given(st.binary(max_size=40))
def test_other_bytes_are_refused_or_are_the_encoding_of_a_key(raw: bytes) -> None:
    """There is no second encoding of anything."""
    try:
        key = decode_key(raw)
    except MalformedRecord:
        return
    assert encode_key(key) == raw


@given(KEYS, st.data())
def test_changed_encodings_are_refused_or_mean_another_key(key: Any, data: st.DataObject) -> None:
    """Bytes near to real ones."""
    raw = bytearray(encode_key(key))
    raw[data.draw(st.integers(0, len(raw) - 1))] ^= data.draw(st.integers(1, 255))
    try:
        other = decode_key(bytes(raw))
    except MalformedRecord:
        return
    assert encode_key(other) == bytes(raw)


@given(st.one_of(st.text("ab\0é", max_size=4), st.binary(max_size=3), st.lists(ATOMS, max_size=2).map(tuple)), KEYS)
def test_a_prefix_bounds_what_begins_with_it(prefix: Any, key: Any) -> None:
    """And nothing else, of whatever kind."""
    low, high = prefix_bounds(prefix)
    for one in (key, prefix, (*prefix, key) if isinstance(prefix, tuple) else prefix + type(prefix)()):
        inside = low <= encode_key(one) < high
        wanted = type(one) is type(prefix) and rank_prefix(one, prefix)
        assert inside == wanted, (prefix, one)


def rank_prefix(key: Any, prefix: Any) -> bool:
    """Whether a key begins with a prefix of its kind."""
    if isinstance(prefix, tuple):
        return rank(key[: len(prefix)]) == rank(prefix)
    return bool(key.startswith(prefix))


@pytest.mark.parametrize(
    ("key", "encoded"),
    [
        (0, "30"),
        (1, "3101"),
        (-1, "2ffe"),
        (256, "320100"),
        (-256, "2efeff"),
        (2**256 - 1, "50" + "ff" * 32),
        (1 - 2**256, "10" + "00" * 32),
        ("", "5800"),
        ("aé", "5861c3a900"),
        ("a\0b", "586100ff6200"),
        (b"\0\xff", "6000ffff00"),
        (uuid.UUID(int=1), "68" + "00" * 15 + "01"),
        ((), "7000"),
        (("account", 7), "70586163636f756e7400310700"),
    ],
)
def test_the_bytes_are_these(key: Any, encoded: str) -> None:
    """Golden: stores hold them."""
    assert encode_key(key).hex() == encoded
    assert rank(decode_key(bytes.fromhex(encoded))) == rank(key)


class Name(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "key",
    [
        None,
        True,
        1.5,
        [1],
        {"a": 1},
        Name("a"),
        "\ud800",
        ("\ud800",),
        2**256,
        -(2**256),
        ("a", None),
        "a" * limits.STATE_KEY_BYTES_MAX,
        b"\0" * (limits.STATE_KEY_BYTES_MAX // 2),
        tuple(range(1_000)),
        ("a" * 500, "b" * 500),
    ],
    ids=lambda key: f"{key!r:.20}",
)
def test_what_is_no_key_is_refused(key: Any) -> None:
    """Typed, with the key as a fact, and as a ValueError."""
    with pytest.raises(varve.InvalidStateKey) as refused:
        encode_key(key)
    assert refused.value.key is key
    assert isinstance(refused.value, ValueError)


def test_tuples_go_so_deep() -> None:
    """Deeper ones are refused both ways, not answered with a RecursionError."""
    deep: Any = "x"
    for _ in range(16):
        deep = (deep,)
    assert decode_key(encode_key(deep)) == deep
    with pytest.raises(varve.InvalidStateKey, match="deep"):
        encode_key((deep,))
    with pytest.raises(MalformedRecord):
        decode_key(b"\x70" * 200 + b"\0" * 200)


def test_a_key_may_be_as_long_as_the_limit() -> None:
    """Tag and end mark counted."""
    key = "a" * (limits.STATE_KEY_BYTES_MAX - 2)
    assert decode_key(encode_key(key)) == key
    with pytest.raises(MalformedRecord):
        decode_key(b"\x58" + b"a" * limits.STATE_KEY_BYTES_MAX + b"\0")


@pytest.mark.parametrize("prefix", [1, None, uuid.UUID(int=1), 1.5])
def test_what_has_no_beginning_is_no_prefix(prefix: Any) -> None:
    """Numbers and UUIDs are whole."""
    with pytest.raises(varve.InvalidStateKey, match="prefix"):
        prefix_bounds(prefix)
