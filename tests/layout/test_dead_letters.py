"""Dead letters as bytes."""

from __future__ import annotations

import uuid
import zlib

import pytest

from varve.layout.dead_letters import (
    LetterRecord,
    check_pair,
    decode_key,
    decode_letter,
    decode_requests,
    encode_requests,
    letter_key,
    letters_prefix,
    requests_key,
)
from varve.layout.records import MalformedRecord
from varve.layout.values import encode_value

LETTERS = [
    LetterRecord(False, True, False, "orders", 7, 3, "Placed"),
    LetterRecord(True, False, True, "ö", "x", 2**63, "T", 5, 1, 2**62, "ValueError", "größe", "Traceback\n"),
    LetterRecord(True, True, False, "s", uuid.UUID(int=5), 0, "", 1, 2, 3, "E", "", ""),
]


@pytest.mark.parametrize("letter", LETTERS)
def test_a_letter_is_read_as_it_was_written(letter: LetterRecord) -> None:
    """Under its own key only; every wrong bit is found."""
    key = letter_key("billing", 9)
    value = letter.encode(key)
    assert decode_letter(key, value) == letter
    assert check_pair(key, value) == 9
    for at in range(len(value)):
        flipped = bytearray(value)
        flipped[at] ^= 4
        with pytest.raises(MalformedRecord):
            decode_letter(key, bytes(flipped))
    for wrong in (value[:-1], value + b"\0", b"", value[:7]):
        with pytest.raises(MalformedRecord):
            decode_letter(key, wrong)
    with pytest.raises(MalformedRecord):
        check_pair(letter_key("billing", 10), value)


def test_golden_bytes() -> None:
    """The format is pinned."""
    key = letter_key("a", 258)
    assert key.hex() == "01" + "0001" + "61" + "0000000000000102"
    assert requests_key("a").hex() == "00" + "0001" + "61"
    letter = LetterRecord(True, True, True, "s", 1, 2, "T", 3, 4, 5, "E", "m", "t")
    value = letter.encode(key)
    assert value[4:].hex() == ("010007000c0a06017303010103010206015403010303010403010506014506016d060174")
    assert value[:4] == zlib.crc32(value[4:], zlib.crc32(key)).to_bytes(4, "little")
    assert LETTERS[0].encode(key)[4:8].hex() == "01000200"
    assert encode_requests(3).hex() == "0300000000000000"


def sealed(key: bytes, rest: bytes) -> bytes:
    """A value with a right checksum."""
    return zlib.crc32(rest, zlib.crc32(key)).to_bytes(4, "little") + rest


def test_what_no_letter_says() -> None:
    """With a right checksum: another version, no tuple, too few fields, fields of other types, no value at all."""
    key = letter_key("a", 1)
    right = tuple(LETTERS[0][3:])
    assert decode_letter(key, sealed(key, b"\1\0\2\0" + encode_value(right))) == LETTERS[0]
    with pytest.raises(MalformedRecord, match="newer"):
        decode_letter(key, sealed(key, b"\2\0\2\0" + encode_value(right)))
    for wrong in (list(right), right[:-1], (*right[:1], None, *right[2:]), (1, *right[1:])):
        with pytest.raises(MalformedRecord):
            decode_letter(key, sealed(key, b"\1\0\2\0" + encode_value(wrong)))
    for rest in (b"\1\0\2\0", b"\1\0\2", b"\1\0\2\0\xff"):
        with pytest.raises(MalformedRecord):
            decode_letter(key, sealed(key, rest))


def test_keys() -> None:
    """Both kinds, and what is neither."""
    assert decode_key(letter_key("größe", 2**64 - 1)) == ("größe", 2**64 - 1)
    assert decode_key(requests_key("größe")) == ("größe", None)
    assert letter_key("ab", 1).startswith(letters_prefix("ab"))
    assert not letter_key("abc", 1).startswith(letters_prefix("ab"))
    assert letter_key("abc", 1).startswith(letters_prefix())
    assert sorted([letter_key("a", 256), letter_key("a", 2)]) == [letter_key("a", 2), letter_key("a", 256)]
    for wrong in (
        b"",
        b"\1",
        b"\1\0",
        b"\1\0\0",
        b"\1\0\1a",
        b"\1\0\1a" + bytes(7),
        b"\0\0\1ab",
        b"\1\0\5ab",
        b"\2\0\1a",
        b"\0\0\1\xff",
    ):
        with pytest.raises(MalformedRecord):
            decode_key(wrong)


def test_requests() -> None:
    """How often somebody asked."""
    assert decode_requests(None) == 0
    assert decode_requests(encode_requests(2**64 - 1)) == 2**64 - 1
    assert decode_requests(b"\1") == 1
    assert check_pair(requests_key("a"), encode_requests(5)) is None
    with pytest.raises(MalformedRecord):
        check_pair(requests_key("a"), b"\1")
