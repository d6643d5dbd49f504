"""``Snapshot.copy_frames``: whole blocks, checked, one behind the other."""

from __future__ import annotations

from typing import Any

import pytest

import varve
from varve.engine import snapshot as snapshot_module
from varve.layout.block import Block
from varve.layout.frame import HOT_FRAME


def test_frames_are_those_of_the_blocks(snapshot: Any) -> None:
    """From a block's first event on, up to what was asked for, and as the blocks say it."""
    into = memoryview(bytearray(1 << 16))
    blocks = list(snapshot.blocks(0, 100))
    assert len(blocks) > 4
    found = snapshot.copy_frames(0, 100, into, 100)
    assert [first for first, _, _ in found] == [block.first for block in blocks]
    for block, (_, at, size) in zip(blocks, found, strict=True):
        assert into[at : at + size] == block.data
        assert at % 8 == 0
    assert snapshot.copy_frames(blocks[2].first, blocks[3].first, into, 100) == [
        (blocks[2].first, 0, len(blocks[2].data))
    ]
    assert len(snapshot.copy_frames(0, blocks[2].first + 1, into, 100)) == 3


def test_what_is_not_copied(snapshot: Any) -> None:
    """Nothing from inside of a block, beyond the end, where there is no room, or beyond so many events."""
    into = memoryview(bytearray(1 << 16))
    blocks = list(snapshot.blocks(0, 100))
    assert snapshot.copy_frames(blocks[1].first + 1, 100, into, 100) == []
    assert snapshot.copy_frames(100, 200, into, 100) == []
    assert snapshot.copy_frames(0, 100, into[:8], 100) == []
    two = len(blocks[0].data) + len(blocks[1].data)
    assert len(snapshot.copy_frames(0, 100, into[:two], 100)) == 2
    assert len(snapshot.copy_frames(0, 100, into[: two - 8], 100)) == 1
    assert len(snapshot.copy_frames(0, 100, into, blocks[2].first)) == 2
    assert len(snapshot.copy_frames(0, 100, into, blocks[2].first + 1)) == 3


def test_a_rotten_block_ends_them(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before it is copied; whoever begins with it is told."""
    into = memoryview(bytearray(1 << 16))
    blocks = list(snapshot.blocks(0, 100))

    def check(_: Any, path: str, first: int, data: memoryview) -> None:
        if first == blocks[2].first:
            raise snapshot_module.corrupted(path, first, "its checksum is wrong")

    monkeypatch.setattr(snapshot_module.CheckedBlocks, "check", check)
    assert [first for first, _, _ in snapshot.copy_frames(0, 100, into, 100)] == [0, blocks[1].first]
    with pytest.raises(varve.CorruptedBlock):
        snapshot.copy_frames(blocks[2].first, 100, into, 100)


def test_the_hot_frame_is_what_is_written(snapshot: Any) -> None:
    """The places that are published are those that a block's own reader finds."""
    block = list(snapshot.blocks(0, 100))[2]
    data = block.data
    assert data[4 : 4 + len(HOT_FRAME.constant)] == HOT_FRAME.constant
    assert int.from_bytes(data[HOT_FRAME.first_at : HOT_FRAME.first_at + 8], "little") == block.first
    assert int.from_bytes(data[HOT_FRAME.commit_at : HOT_FRAME.commit_at + 8], "little") == block.commit_sequence
    heads = [at + int.from_bytes(data[at : at + 4], "little") for at in HOT_FRAME.columns_at]
    assert heads == list(Block(data)._columns)
