"""``Snapshot.map_frames``: whole blocks, checked, where they are in the map."""

from __future__ import annotations

from typing import Any

import pytest
from engine_helpers import Number

import varve
from varve import limits
from varve.engine import snapshot as snapshot_module
from varve.layout.frame import frame_crc


def mapped(
    snapshot: Any, first: int = 0, stop: int = 100, bytes_max: int = 1 << 16, events_max: int = 100
) -> tuple[memoryview, list[tuple[int, int, int, Any]]]:
    """The memory, and what is in it frame by frame."""
    found = snapshot.map_frames(first, stop, bytes_max, events_max)
    return found.memory, list(zip(found.firsts, found.places, found.sizes, found.notes, strict=True))


def test_frames_are_those_of_the_blocks(snapshot: Any) -> None:
    """The very memory that the blocks are in, each found at its place in it."""
    blocks = list(snapshot.blocks(0, 100))
    assert len(blocks) > 8
    memory, found = mapped(snapshot)
    assert memory.readonly
    assert [first for first, *_ in found] == [block.first for block in blocks]
    for block, (_, at, size, note) in zip(blocks, found, strict=True):
        assert memory[at : at + size] == block.data
        assert snapshot_module.address_of(memory[at:]) == snapshot_module.address_of(block.data)
        assert note is None
    places = [place for _, at, size, _ in found for place in (at, at + size)]
    assert (min(places), max(places)) == (0, len(memory))


def test_what_is_not_given(snapshot: Any) -> None:
    """As ``copy_frames`` has it, with room for so many bytes."""
    blocks = list(snapshot.blocks(0, 100))
    two = len(blocks[0].data) + len(blocks[1].data)
    into = memoryview(bytearray(1 << 16))
    for first, stop, room, events in (
        (blocks[1].first + 1, 100, 1 << 16, 100),
        (100, 200, 1 << 16, 100),
        (0, 100, 8, 100),
        (0, 100, two, 100),
        (0, 100, two - 8, 100),
        (0, 100, 1 << 16, blocks[2].first),
        (0, 100, 1 << 16, blocks[2].first + 1),
        (blocks[2].first, blocks[3].first, 1 << 16, 100),
        (0, blocks[2].first + 1, 1 << 16, 100),
    ):
        _, found = mapped(snapshot, first, stop, room, events)
        wanted = snapshot.copy_frames(first, stop, into[:room], events)
        assert [(first, size) for first, _, size, _ in found] == [(first, size) for first, _, size in wanted]


def test_memory_outlives_the_snapshot(numbers_db: Any) -> None:
    """It is pinned as views are, and for as long."""
    with numbers_db._engine.snapshot() as snapshot:
        memory, _ = mapped(snapshot, 0, 100, 1 << 16, 100)
    kept = bytes(memory)
    for number in range(20):
        numbers_db.stream("numbers", Number).append(1, Number(number))
    assert memory == kept
    assert len(numbers_db.stats().snapshots) == 1
    with pytest.raises(varve.ViewsStillAlive):
        numbers_db.close()
    del memory
    assert numbers_db.stats().snapshots == ()


def test_no_more_pins_than_there_may_be(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is given."""
    monkeypatch.setattr(snapshot._environment.pins, "pin", lambda *_: None)
    assert snapshot.map_frames(0, 100, 1 << 16, 100) is None


def test_frames_that_lie_far_apart(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """They end the stretch, or make it none where it would be too short."""
    _, everything = mapped(snapshot, 0, 100, 1 << 16, 100)
    reach = []
    for count in range(1, len(everything) + 1):
        places = [place for _, at, size, _ in everything[:count] for place in (at, at + size)]
        reach.append(max(places) - min(places))
    monkeypatch.setattr(snapshot_module, "_STRETCH_BYTES_MAX", reach[3])
    fitting = max(index for index, size in enumerate(reach) if size <= reach[3]) + 1
    monkeypatch.setattr(snapshot_module, "_STRETCH_FRAMES_MIN", fitting)
    assert len(mapped(snapshot)[1]) == fitting
    monkeypatch.setattr(snapshot_module, "_STRETCH_FRAMES_MIN", fitting + 1)
    assert snapshot.map_frames(0, 100, 1 << 16, 100) is None


def test_a_rotten_block_ends_them(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands before it is given; whoever begins with it is told."""
    blocks = list(snapshot.blocks(0, 100))

    def check(_: Any, path: str, first: int, data: memoryview) -> None:
        if first == blocks[2].first:
            raise snapshot_module.corrupted(path, first, "its checksum is wrong")

    monkeypatch.setattr(snapshot_module.CheckedBlocks, "check", check)
    assert [first for first, *_ in mapped(snapshot)[1]] == [0, blocks[1].first]
    with pytest.raises(varve.CorruptedBlock):
        snapshot.map_frames(blocks[2].first, 100, 1 << 16, 100)


def test_notes_are_of_one_frame(numbers_db: Any) -> None:
    """They come back with the frame that they were made of, and never with another in its place."""
    with numbers_db._engine.snapshot() as snapshot:
        checked = snapshot.checked
        blocks = list(snapshot.blocks(0, 100))
        for block in blocks:
            checked.note([block.first], [frame_crc(block.data)], [len(block.data)], [block.first])
        _, found = mapped(snapshot, 0, 100, 1 << 16, 100)
        assert [note for *_, note in found] == [block.first for block in blocks]
        checked.notes.clear()
        for block in blocks:
            crc, size = frame_crc(block.data), len(block.data)
            for first, other, length in (
                (block.first, crc ^ 1, size),
                (block.first, crc, size + 8),
                (block.first + 1, crc, size),
            ):
                checked.note([first], [other], [length], [1])
                _, found = mapped(snapshot)
                assert {note for *_, note in found} == {None}
            checked.notes.clear()
    del blocks, block


def test_notes_are_bounded(numbers_db: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Past the limit they begin anew."""
    monkeypatch.setattr(limits, "CHECKED_BLOCKS_MAX", 3)
    with numbers_db._engine.snapshot() as snapshot:
        checked = snapshot.checked
        for first in range(10):
            checked.note([first], [1], [8], [first])
            assert len(checked.notes) <= 3
        assert checked.notes[9] == (1, 8, 9)


def stretch_of(snapshot: Any, what: Any = None) -> Any:
    """All frames, as they are remembered."""
    found = snapshot.map_frames(0, 100, 1 << 16, 100)
    return found.stretch(len(found.firsts), what)


def test_a_stretch_is_mapped_again(snapshot: Any) -> None:
    """At the same instant: the same memory, without a look at each frame."""
    memory, _ = mapped(snapshot)
    stretch = stretch_of(snapshot, "known")
    again = snapshot.map_again(stretch)
    assert again == memory
    assert snapshot_module.address_of(again) == snapshot_module.address_of(memory)
    assert (stretch.first, stretch.what) == (0, "known")


def test_a_stretch_is_of_one_instant(numbers_db: Any, snapshot: Any) -> None:
    """A commit ends it, whatever that changed: pages may be used again from then on."""
    stretch = stretch_of(snapshot)
    numbers_db.stream("numbers", Number).append(2, Number(1))
    with numbers_db._engine.snapshot() as later:
        assert later.map_again(stretch) is None
    assert snapshot.map_again(stretch) is not None


@pytest.mark.parametrize("wrong", [{"address": 4096}, {"first": 1}, {"first": 10**6}])
def test_a_stretch_lies_where_it_lay(snapshot: Any, wrong: dict[str, int]) -> None:
    """The first frame is where it was: so are all the others."""
    assert snapshot.map_again(stretch_of(snapshot)._replace(**wrong)) is None


def test_a_stretch_that_cannot_be_pinned(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is given."""
    stretch = stretch_of(snapshot)
    snapshot.unpin()
    monkeypatch.setattr(snapshot._environment.pins, "pin", lambda *_: None)
    assert snapshot.map_again(stretch) is None


def test_stretches_are_bounded(snapshot: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the frames in them; one that begins where another did takes its place."""
    checked = snapshot.checked
    stretch = stretch_of(snapshot)._replace(frames=4)
    monkeypatch.setattr(limits, "CHECKED_BLOCKS_MAX", 10)
    for first in (0, 1, 0, 1, 0):
        checked.keep_stretch(stretch._replace(first=first, what=first))
        assert checked.stretch(first).what == first
    assert checked.stretch(0) is not None
    checked.keep_stretch(stretch._replace(first=2, what="last"))
    assert checked.stretch(2).what == "last"
    assert checked.stretch(0) is checked.stretch(1) is None
