"""Blocks that are not as they should be, in the middle of a scan: told as an iterator tells it, by one thread or by two."""

from __future__ import annotations

import struct
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import varve
from varve.engine import checking
from varve.engine import snapshot as snapshot_module
from varve.layout.block import Block


@varve.event(name="wrong.Number")
class Number:
    number: varve.u64


@varve.event(name="wrong.Text")
class Text:
    number: varve.u64
    text: str


MAKERS: dict[type, Callable[[int], Any]] = {Number: Number, Text: lambda number: Text(number, "t" * (number % 30))}
COUNT = 20_000


def written(path: Path, cls: type) -> list[bytes]:
    """A store of many blocks; their frames."""
    with varve.open(path) as db:
        db.stream("numbers", cls).append_batch(1, [MAKERS[cls](number) for number in range(COUNT)])
        with db._engine.snapshot() as snapshot:
            return [bytes(block.data) for block in snapshot.blocks(0, COUNT)]


def replaced(path: Path, frame: bytes, other: bytes | bytearray) -> None:
    file = path / "data.mdb"
    data = file.read_bytes()
    assert data.count(frame) == 1
    file.write_bytes(data.replace(frame, other))


def numbers(reader: Any, **bounds: int) -> list[int]:
    found: list[int] = reader.columns(["number"], **bounds)["number"].tolist()
    return found


@pytest.mark.parametrize("cls", [Number, Text])
@pytest.mark.parametrize("processors", [1, 2])
def test_rot_in_the_middle_of_a_first_scan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cls: type, processors: int
) -> None:
    """Exactly the first wrong block is told, nothing of it is returned, the ones before it can be read; no thread is left."""
    monkeypatch.setattr(snapshot_module, "processors", lambda: processors)
    monkeypatch.setattr(snapshot_module, "SHARED_BYTES_MIN", 1)
    monkeypatch.setattr(snapshot_module, "UNLOCKED_BYTES_MIN", 1)
    helped: list[int] = []
    find_right = checking.find_right
    monkeypatch.setattr(snapshot_module, "find_right", lambda found: helped.append(len(found)) or find_right(found))
    path = tmp_path / "store"
    frames = written(path, cls)
    rotten = [4, len(frames) - 2]
    for index in rotten:
        wrong = bytearray(frames[index])
        wrong[len(wrong) // 2] ^= 16
        replaced(path, frames[index], wrong)
    first = Block(memoryview(frames[4])).first
    with varve.open(path, readonly=True) as db:
        reader = db.stream("numbers", cls).reader()
        for _ in range(2):
            with pytest.raises(varve.CorruptedBlock) as caught:
                numbers(reader)
            assert caught.value.first_sequence == first
            assert db.stats().snapshots == ()
        with pytest.raises(varve.CorruptedBlock) as caught:
            reader.to_arrow(["number"]).read_all()
        assert caught.value.first_sequence == first
        assert numbers(reader, stop=first) == list(range(first))
        behind = Block(memoryview(frames[5])).first
        until = Block(memoryview(frames[rotten[1]])).first
        assert numbers(reader, start=behind, stop=until) == list(range(behind, until))
        assert not [thread for thread in threading.enumerate() if thread.name == "varve-checksums"]
        assert bool(helped) == (processors > 1)
        db.close()


@pytest.mark.parametrize("cls", [Number, Text])
@pytest.mark.parametrize(("index", "end"), [(5, 0), (5, 13), (5, 2**31), (-1, 2**31), (-1, 8)])
def test_events_that_are_not_in_order(tmp_path: Path, cls: type, index: int, end: int) -> None:
    """No checksum finds a writer that was wrong: its block is told, whatever is read of it."""
    path = tmp_path / "store"
    frames = written(path, cls)
    block, wrong = Block(memoryview(frames[3])), bytearray(frames[3])
    struct.pack_into("<I", wrong, block.ends_at + 4 * (index % len(block.ends())), end)
    struct.pack_into("<I", wrong, 0, zlib.crc32(wrong[4:]))
    replaced(path, frames[3], wrong)
    with varve.open(path, readonly=True) as db:
        reader = db.stream("numbers", cls).reader()
        for start in (0, 0, block.first, block.first + 1):
            with pytest.raises(varve.CorruptedBlock, match="an event lies outside") as caught:
                numbers(reader, start=start)
            assert caught.value.first_sequence == block.first
            with pytest.raises(varve.CorruptedBlock, match="an event lies outside"):
                reader.to_arrow(["number"], start=start).read_all()
        assert numbers(reader, stop=block.first) == list(range(block.first))
        assert db.stats().snapshots == ()


def test_all_blocks_alike_and_wrong(tmp_path: Path) -> None:
    """A pattern that many blocks share is no proof: their events would reach out of them."""
    path, step = tmp_path / "store", 32
    for frame in written(path, Number)[2:]:  # the first two are read one by one
        block, wrong = Block(memoryview(frame)), bytearray(frame)
        count = len(block.ends())
        struct.pack_into(f"<{count}I", wrong, block.ends_at, *range(step, step * count + 1, step))
        struct.pack_into("<I", wrong, 0, zlib.crc32(wrong[4:]))
        replaced(path, frame, wrong)
    assert len(block.payload()) == 24 * count
    with varve.open(path, readonly=True) as db:
        reader = db.stream("numbers", Number).reader()
        with pytest.raises(varve.CorruptedBlock, match="an event lies outside"):
            numbers(reader)
