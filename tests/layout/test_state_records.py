"""Records of state: golden bytes; rot and misplacement are found."""

from __future__ import annotations

from decimal import Decimal

import pytest

import varve
from varve.layout.ordered import encode_key
from varve.layout.records import MalformedRecord
from varve.layout.state import decode_pair, decode_record, encode_record

KEY = encode_key("balance")
RECORD = encode_record(KEY, {"amount": Decimal("12.50"), "open": True})


def test_the_bytes_are_these() -> None:
    """Golden: stores hold them."""
    assert RECORD.hex() == "2e88f06401000f020606616d6f756e74080531322e353006046f70656e02"
    assert decode_pair(KEY, RECORD) == ("balance", {"amount": Decimal("12.50"), "open": True})


def test_every_changed_bit_is_found() -> None:
    """Of the record, and of the key that it stands under."""
    for at in range(len(RECORD)):
        for bit in range(8):
            rotten = bytearray(RECORD)
            rotten[at] ^= 1 << bit
            with pytest.raises(MalformedRecord):
                decode_record(KEY, bytes(rotten))
    with pytest.raises(MalformedRecord):
        decode_record(encode_key("balancf"), RECORD)


@pytest.mark.parametrize("size", range(7))
def test_what_is_too_short_is_damaged(size: int) -> None:
    """Nothing reads beyond it."""
    with pytest.raises(MalformedRecord):
        decode_record(KEY, RECORD[:size])


def test_a_newer_version_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its checksum is right."""
    monkeypatch.setattr("varve.layout.state._VERSION", b"\x02\x00")
    newer = encode_record(KEY, 1)
    with pytest.raises(MalformedRecord, match="newer"):
        decode_record(KEY, newer)


def test_what_cannot_be_stored_is_refused() -> None:
    """By ``encode_value``, with its path."""
    with pytest.raises(varve.InvalidInput, match="object"):
        encode_record(KEY, [object()])
