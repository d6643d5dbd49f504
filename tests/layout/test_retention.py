"""Retention rules as bytes."""

from __future__ import annotations

import pytest

from varve.layout.records import MalformedRecord
from varve.layout.retention import RetentionRecord, decode_key, decode_retention, name_key, stream_key

RULES = [RetentionRecord(), RetentionRecord(5, 0, 0), RetentionRecord(2**63, None, 2**62), RetentionRecord(0, 7, None)]


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_is_read_as_it_was_written(rule: RetentionRecord) -> None:
    """Under its own key only; every wrong bit is found."""
    key = stream_key("notes", b"\x02a")
    value = rule.encode(key)
    assert decode_retention(key, value) == rule
    for at in range(len(value)):
        flipped = bytearray(value)
        flipped[at] ^= 4
        with pytest.raises(MalformedRecord):
            decode_retention(key, bytes(flipped))
    for wrong in (value[:-1], value + b"\0", b""):
        with pytest.raises(MalformedRecord):
            decode_retention(key, wrong)
    with pytest.raises(MalformedRecord):
        decode_retention(name_key("notes"), value)


def test_golden_bytes() -> None:
    """The format is pinned."""
    key = stream_key("a", b"\x02i")
    assert key.hex() == "020001" + "61" + "0269"
    assert name_key("a").hex() == "0161"
    assert RetentionRecord(1, 2, 3).encode(key)[4:].hex() == (
        "01000300" + "0100000000000000" + "0200000000000000" + "0300000000000000"
    )


def test_another_version_is_refused() -> None:
    """With a right checksum."""
    import zlib

    key = name_key("a")
    rest = b"\x02" + RetentionRecord().encode(key)[5:]
    with pytest.raises(MalformedRecord, match="newer"):
        decode_retention(key, zlib.crc32(rest, zlib.crc32(key)).to_bytes(4, "little") + rest)


def test_keys() -> None:
    """Both kinds, and what is neither."""
    assert decode_key(name_key("größe")) == ("größe", None)
    assert decode_key(stream_key("größe", b"\x01" + bytes(8))) == ("größe", b"\x01" + bytes(8))
    for wrong in (
        b"",
        b"\x01",
        b"\x02",
        b"\x02\0",
        b"\x02\0\0a",
        b"\x02\0\x01a",
        b"\x02\0\x05ab",
        b"\x03a",
        b"\x01\xff",
        b"\x02\0\x01\xffa",
    ):
        with pytest.raises(MalformedRecord):
            decode_key(wrong)
