"""Stored positions of consumers, byte by byte, and the partition of a stream, for ever."""

from __future__ import annotations

import uuid
import zlib
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.layout import consumers
from varve.layout.consumers import PARTITIONS, ConsumerRecord, Run, decode_consumer, partition_of, partitions_of
from varve.layout.keys import encode_stream_id

KEY = consumers.consumer_key("billing")
GOLDEN = bytes.fromhex(
    "3206bd85"  # crc32 of the rest
    "0100"  # version
    "0200"  # members
    "0c00000000000000"  # updated at
    "0000800007000000"  # partitions 0 .. 127 of process 7
    "0500000000000000"  # position 5
    "0300000000000000"  # token 3
    "0a00000000000000"  # taken at
    "8000800008000000"
    "0600000000000000"
    "0400000000000000"
    "0b00000000000000"
)
RECORD = ConsumerRecord(2, 12, (Run(0, 128, 7, 5, 3, 10), Run(128, 128, 8, 6, 4, 11)))


def test_a_record_has_the_bytes_that_the_format_page_gives() -> None:
    """Positions of two members."""
    assert RECORD.encode(KEY) == GOLDEN
    assert decode_consumer(GOLDEN, KEY) == RECORD
    assert consumers.consumer_key("Ä") == b"\x01\xc3\x84"
    assert consumers.encode_token(258) == b"\x02\x01" + bytes(6)


@pytest.mark.parametrize(
    ("name", "stream_id", "partition"),
    [
        ("orders", 1, 0xE6),
        ("orders", 2, 0x5C),
        ("orders", "1", 0x4C),
        ("orders", uuid.UUID(int=1), 0x1A),
        ("Größen", "ä", 0x41),
    ],
)
def test_the_partition_of_a_stream_never_changes(name: str, stream_id: int | str | uuid.UUID, partition: int) -> None:
    """Stored positions would mean other streams."""
    id_key = encode_stream_id(stream_id)
    assert partition_of(name, id_key) == partition
    assert partition == zlib.crc32(name.encode() + b"\0" + id_key) % 256


@pytest.mark.parametrize("ids", [range(25_600), range(0, 25_600 * 256, 256), [f"user-{n}" for n in range(25_600)]])
def test_streams_spread_over_the_partitions(ids: range | list[str]) -> None:
    """No partition has twice its part, also where ids are numbers in steps."""
    counts = Counter(partition_of("orders", encode_stream_id(one)) for one in ids)
    assert len(counts) == PARTITIONS
    assert max(counts.values()) < 200


@pytest.mark.parametrize("members", [1, 2, 3, 7, 255, 256])
def test_members_share_all_partitions_and_none_twice(members: int) -> None:
    """And nearly alike."""
    shares = [partitions_of(member, members) for member in range(members)]
    assert [at for share in shares for at in share] == list(range(PARTITIONS))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(0, 255), st.integers(0, 2**64 - 1)), max_size=12))
def test_replacing_runs_is_as_replacing_each_partition(changes: list[tuple[int, int, int]]) -> None:
    """A record against a list of 256 positions."""
    record = ConsumerRecord(1, 0, (Run(0, PARTITIONS, 0, 0, 1, 0),))
    positions = [0] * PARTITIONS
    for one, other, position in changes:
        share = range(min(one, other), max(one, other) + 1)
        runs = [run._replace(position=position) for run in record.within(share)]
        record = record.replaced(share, runs, 0)
        positions[share.start : share.stop] = [position] * len(share)
    assert [run.position for run in record.runs for _ in range(run.partitions)] == positions
    assert all(one.position != other.position for one, other in zip(record.runs, record.runs[1:], strict=False))
    assert decode_consumer(record.encode(KEY), KEY) == record
    assert record.position == min(positions)


@pytest.mark.parametrize("at", range(len(GOLDEN)))
def test_no_damaged_byte_goes_unnoticed(at: int) -> None:
    """A wrong position would skip events."""
    damaged = bytearray(GOLDEN)
    damaged[at] ^= 0x10
    assert decode_consumer(bytes(damaged), KEY) is None


def test_a_record_belongs_to_its_name() -> None:
    """Under another name it would be another consumer's position: a damaged key is noticed too."""
    assert decode_consumer(GOLDEN, consumers.consumer_key("filling")) is None


def sealed(rest: bytes) -> bytes:
    return zlib.crc32(KEY + rest).to_bytes(4, "little") + rest


@pytest.mark.parametrize(
    "value",
    [
        b"",
        GOLDEN[:15],
        sealed(GOLDEN[4:-1]),
        sealed(GOLDEN[4:-32]),  # half of the partitions
        sealed(GOLDEN[4:] + GOLDEN[-32:]),  # more than all
        sealed(GOLDEN[4:16]),
        sealed(GOLDEN[4:6] + bytes(2) + GOLDEN[8:]),  # no members
    ],
)
def test_what_no_record_can_be_is_refused(value: bytes) -> None:
    """Also under a checksum that holds."""
    assert decode_consumer(value, KEY) is None


def test_a_record_of_a_newer_version_gives_its_version() -> None:
    """For the message that says so."""
    assert decode_consumer(sealed(b"\x02\x00" + GOLDEN[6:]), KEY) == 2


@pytest.mark.parametrize("name", ["a", "né", "x" * 255])
def test_a_key_tells_the_consumer_that_it_belongs_to(name: str) -> None:
    """Its name; None for the token's key and for what no version of ours wrote; never an error, even for broken text."""
    assert consumers.consumer_name(consumers.consumer_key(name)) == name
    for other in (consumers.TOKEN_KEY, b"", b"\2" + name.encode()):
        assert consumers.consumer_name(other) is None
    assert consumers.consumer_name(b"\1\xff") == "\ufffd"


def test_a_token_is_zero_until_one_was_given() -> None:
    """What was encoded comes back; nothing, and what is no token, counts as none given."""
    for token in (1, 258, 2**64 - 1):
        assert consumers.decode_token(consumers.encode_token(token)) == token
    for value in (None, b"", bytes(7), b"\1" * 9):
        assert consumers.decode_token(value) == 0
