"""What nobody can have written is told from what somebody did: records, ids, and blocks whose checksum is right."""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Any

import pytest

from varve.errors import CorruptedStore
from varve.layout import keys, records, runs
from varve.layout.block import Block
from varve.layout.derive import Derivation
from varve.layout.draft import BlockDraft
from varve.layout.frame import MalformedBlock


@pytest.mark.parametrize(
    ("decode", "value"),
    [
        (records.unpack_store_record, b""),
        (records.unpack_store_record, b"VRV2" + records.StoreRecord(bytes(16), 0).encode()[4:]),
        (records.decode_type, b"\x01"),
        (records.decode_type, b"\x09\x00short"),
        (records.decode_type, b"\x01\x00\xff{}"),
        (records.decode_name, b"\xff"),
        (records.decode_numbers, b"\x01\x00\x02"),
        (records.decode_name_number, b"\x01"),
        (records.decode_stream_number, b"\x01\x02\x03"),
        (records.decode_stream, b"\x01"),
        (records.decode_idempotency, bytes(31)),
        (keys.decode_stream_id, b""),
        (keys.decode_stream_id, b"\x01" + bytes(7)),
        (keys.decode_stream_id, b"\x02"),
        (keys.decode_stream_id, b"\x02" + b"a" * 256),
        (keys.decode_stream_id, b"\x02\xff"),
        (keys.log_sequence, bytes(7)),
        (keys.entry_position, bytes(7)),
        (runs.decode_runs, b""),
        (runs.decode_runs, bytes(13)),
        (lambda value: runs.find_in_runs(value, 0), bytes(13)),
    ],
)
def test_a_damaged_record_is_told_with_a_type(decode: Callable[[bytes], Any], value: bytes) -> None:
    """Pages of LMDB have no checksums: what rots there reaches a user as CorruptedStore, never as struct.error."""
    with pytest.raises(CorruptedStore) as caught:
        decode(value)
    assert isinstance(caught.value, records.MalformedRecord)


def draft() -> BlockDraft:
    made = BlockDraft(0, 0)
    made.begin_commit(7)
    made.add_key(b"\x01key", bytes(16))
    made.declare_store(bytes(16), 3)
    made.declare_name(0, "orders")
    made.declare_type(0, "Placed", b"{}")
    made.declare_stream(0, 0, b"\x02a")
    made.add_metadata(2, b'{"a":1}')
    made.add(0, 0, 0, [bytes(8), bytes(8)])
    return made


def edited(edit: Callable[[BlockDraft], object]) -> Block:
    """A block with the checksum of what it says."""
    made = draft()
    edit(made)
    return Block(memoryview(made.encode()))


def column(name: str, *values: int) -> Callable[[BlockDraft], None]:
    def edit(made: BlockDraft) -> None:
        made.columns[name] = array(made.columns[name].typecode, values)

    return edit


def text(name: str, raw: bytes) -> Callable[[BlockDraft], None]:
    def edit(made: BlockDraft) -> None:
        made.columns[name] = array("B", raw)
        ends = {"metadata": "metadata_ends", "names": "name_ends", "type_names": "type_name_ends"}
        ends |= {"stream_ids": "stream_id_ends", "keys": "key_ends"}
        made.columns[ends[name]] = array("I", [len(raw)])

    return edit


def test_the_block_that_is_edited_here_is_sound() -> None:
    block = edited(lambda _: None)
    block.check()
    Derivation().feed(block)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (column("metadata_counts", 3), "of more events than there are"),
        (column("metadata_firsts", 1), "of more events than there are"),
        (column("key_commits", 1), "commits that it does not hold"),
        (lambda made: setattr(made, "first", 5), "began in an earlier block"),
        (column("store_uuid", 1, 2), "uuid is not 16 bytes"),
        (text("names", b"\xff"), "do not fit together"),
    ],
)
def test_columns_that_cannot_be_are_refused(edit: Callable[[BlockDraft], object], reason: str) -> None:
    """A checksum says nothing about who made a block: whoever passed the check can be read without care."""
    with pytest.raises(MalformedBlock, match=reason):
        edited(edit).check()


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (text("stream_ids", b"\x09"), "id that is none"),
        (text("names", b""), "a name of 0 bytes"),
        (text("names", b"n" * 256), "a name of 256 bytes"),
        (text("type_names", b"n" * 256), "a type name of 256 bytes"),
        (text("keys", b"\x01" + b"k" * 256), "a key token of 257 bytes"),
    ],
)
def test_declarations_that_no_metadata_can_hold_are_refused(edit: Callable[[BlockDraft], object], reason: str) -> None:
    """An index made of them could be neither written nor read."""
    block = edited(edit)
    block.check()
    with pytest.raises(MalformedBlock, match=reason):
        Derivation().feed(block)
