"""What an archived beginning leaves behind: its bytes, and that index and metadata go on from it as if nothing had gone."""

from __future__ import annotations

import zlib

import pytest

from varve.layout.base import HEAD_KEY, Base, decode_base, decode_head
from varve.layout.records import IdempotencyRecord, MalformedRecord, TypeRecord, decode_horizon


def sample() -> Base:
    """A base with some of everything."""
    return Base(
        b"u" * 16,
        5,
        horizon=7,
        last_time_ns=9,
        commit=4,
        open_key=b"\x02k",
        names=["orders", "größe"],
        types=[TypeRecord("Order", b"{}"), TypeRecord("Big", b"x" * 70_000)],
        name_runs=[[(0, 3)], [(3, 1), (5, 2)]],
        streams=[(0, b"\x01" + bytes(8), 0, [(0, 3)]), (1, b"\x02a", 32, [(3, 1)])],
        keys={b"\x02k": IdempotencyRecord(4, 3, b"d" * 16), b"\x01a": IdempotencyRecord(0, 1, b"e" * 16)},
    )


def test_a_base_is_read_as_it_was_written() -> None:
    """In chunks that each have a checksum, the same bytes for the same base."""
    base = sample()
    pairs = list(base.pairs())
    assert len(pairs) == 3
    assert decode_base(pairs) == base
    assert list(decode_base(pairs).pairs()) == pairs
    head = decode_head(pairs[0][1])
    assert (head.horizon, head.last_time_ns, head.open_key, head.names) == (7, 9, b"\x02k", [])


def test_golden_bytes() -> None:
    """The format is pinned."""
    base = Base(bytes(range(16)), 1, 2, 3, 0, b"", ["a"], [], [[(0, 2)]], [(0, b"\x02i", 0, [(0, 2)])], {})
    (head_key, head), (chunk_key, chunk) = base.pairs()
    assert (head_key.hex(), chunk_key.hex()) == ("00000000", "00000001")
    assert head[4:].hex() == (
        "01000000"
        "000102030405060708090a0b0c0d0e0f"
        "0100000000000000"
        "0200000000000000"
        "0300000000000000"
        "0000000000000000"
        "01000000"
        "0100"
        "0000"
        "0000000000000000"
        "01000000"
    )
    assert chunk[4:].hex() == (
        "010100000061"
        "030c000000" + "000000000000000002000000" + "041a000000" + "00000200" + "0269" + "0000000000000000"
        "000000000000000002000000"
    )


def test_every_wrong_bit_is_found() -> None:
    """One bit of any value, a chunk that is missing, one too many, two in the wrong order."""
    pairs = list(sample().pairs())
    for at, (key, value) in enumerate(pairs):
        for byte in {*range(min(80, len(value))), len(value) // 2, len(value) - 1}:
            flipped = bytearray(value)
            flipped[byte] ^= 1
            with pytest.raises(MalformedRecord):
                decode_base([*pairs[:at], (key, bytes(flipped)), *pairs[at + 1 :]])
        with pytest.raises(MalformedRecord):
            decode_base([*pairs[:at], *pairs[at + 1 :]])
        for size in (0, 3, 4, 20, len(value) - 1):
            with pytest.raises(MalformedRecord):
                decode_base([*pairs[:at], (key, value[:size]), *pairs[at + 1 :]])
    with pytest.raises(MalformedRecord):
        decode_base([pairs[0], pairs[2], pairs[1]])
    with pytest.raises(MalformedRecord):
        decode_base([*pairs, (b"\0\0\0\3", pairs[2][1])])
    with pytest.raises(MalformedRecord):
        decode_base([])
    with pytest.raises(MalformedRecord):
        decode_head(None)


def sealed(base: Base, chunk: bytes) -> list[tuple[bytes, bytes]]:
    """A base with another chunk under a right checksum."""
    import zlib

    head = next(iter(base.pairs()))
    key = b"\0\0\0\1"
    return [head, (key, zlib.crc32(chunk, zlib.crc32(key)).to_bytes(4, "little") + chunk)]


@pytest.mark.parametrize(
    "chunk",
    [b"\x09\0\0\0\0", b"\x01\xff\0\0\0a", b"\x01", b"\x04\x01\0\0\0a", b"\x03\0\0\0\0", b"\x05\x02\0\0\0\x01\0"],
    ids=["kind", "length", "cut", "stream", "runs", "key"],
)
def test_records_that_nobody_writes(chunk: bytes) -> None:
    """Under a right checksum, too."""
    base = Base(b"u" * 16, 1, 1, 1, 0, names=["a"], name_runs=[[(0, 1)]])
    with pytest.raises(MalformedRecord):
        decode_base(sealed(base, chunk))


def test_another_version_is_refused() -> None:
    """Of the head; it has a checksum of its own."""
    import struct
    import zlib

    _, value = next(iter(Base(b"u" * 16, 1, 1, 1, 0).pairs()))
    newer = struct.pack("<H", 2) + value[6:]
    with pytest.raises(MalformedRecord, match="this version"):
        decode_head(zlib.crc32(newer, zlib.crc32(HEAD_KEY)).to_bytes(4, "little") + newer)


def test_a_head_that_ends_too_early_is_damaged() -> None:
    """Whatever its checksum says."""
    rest = b"\x01\x00short"
    with pytest.raises(MalformedRecord, match="head of what was archived"):
        decode_head(zlib.crc32(rest, zlib.crc32(HEAD_KEY)).to_bytes(4, "little") + rest)


def test_the_time_of_a_horizon_has_eight_bytes() -> None:
    assert decode_horizon((5).to_bytes(8, "little")) == 5
    with pytest.raises(MalformedRecord, match="time of what was archived"):
        decode_horizon(b"1234567")
