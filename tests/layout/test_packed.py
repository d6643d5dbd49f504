"""Events in one buffer, of one size or of several, stand for a list of their bytes, wherever a list could stand."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve import limits
from varve.layout import packed as packed_module
from varve.layout.block import Block
from varve.layout.draft import BlockDraft, FullBlocks
from varve.layout.packed import Joined, Joiner, Packed


def listed(size: int, count: int, seed: int = 0) -> list[bytes]:
    return [(seed + n).to_bytes(8, "little") * (size // 8) for n in range(count)]


def packed(events: list[bytes], size: int) -> Packed:
    return Packed(memoryview(b"".join(events)), size)


@given(st.integers(1, 5).map(lambda n: 8 * n), st.integers(0, 9), st.data())
def test_it_is_a_sequence_of_bytes(size: int, count: int, data: st.DataObject) -> None:
    events = listed(size, count)
    found = packed(events, size)
    assert len(found) == count
    assert list(found) == events
    start, stop = data.draw(st.integers(-12, 12)), data.draw(st.integers(-12, 12))
    assert list(found[start:stop]) == events[start:stop]
    assert list(found[start:]) == events[start:]
    for index in range(-count, count):
        assert found[index] == events[index]
    for index in (count, -count - 1):
        with pytest.raises(IndexError):
            found[index]


@given(st.integers(1, 9).map(lambda n: 8 * n), st.integers(0, 4), st.integers(1, 5_000))
def test_a_block_of_it_is_a_block_of_the_list(size: int, before: int, count: int) -> None:
    """Behind others or alone, also where there are more than a block should hold."""
    one, other = BlockDraft(5, 3), BlockDraft(5, 3)
    for draft in (one, other):
        draft.begin_commit(7)
        if before:
            draft.add(2, 1, 0, listed(size, before, 99))
    events = listed(size, count)
    one.add(2, 1, before, events)
    other.add(2, 1, before, packed(events, size))
    assert other.bytes_max == one.bytes_max
    assert other.encode() == one.encode()
    assert other.encode() == one.encode()


def test_a_tail_does_not_keep_the_buffer() -> None:
    """What stays open is small; the buffer of a batch may be large."""
    buffer = bytearray(8 * 100_000)
    events = Packed(memoryview(buffer), 8)
    draft = BlockDraft(0, 0)
    draft.begin_commit(1)
    draft.add(0, 0, 0, events[:100])
    frame = draft.encode()
    del events
    buffer.clear()  # nobody looks at it any more
    assert draft.encode() == frame


@given(st.integers(1, 9).map(lambda n: 8 * n), st.integers(1, 300), st.integers(0, 2**40), st.integers(0, 2**40))
def test_full_blocks_are_those_of_a_draft(size: int, count: int, first: int, stream_sequence: int) -> None:
    events = packed(listed(size, count, 5), size)
    draft = BlockDraft(2**33 + first, 2**33)
    draft.begin_commit(1_700_000_000_000_000_000)
    draft.add(70_000, 300, stream_sequence, events)
    blocks = FullBlocks(1_700_000_000_000_000_000, 2**33, 70_000, 300)
    for form in (
        events,
        joined(list(events)),
        joined(listed(72, 3) + list(events))[3:],
    ):  # one leaves no trace in the next
        block = blocks.block(2**33 + first, stream_sequence, form)
        assert block.first == draft.first
        assert block.encode() == draft.encode()
        Block(memoryview(block.encode())).check()
        blocks.block(1, 2, Packed(memoryview(bytes(2 * size * count)), 2 * size))


@given(st.integers(1, 9).map(lambda n: 8 * n), st.integers(0, 50), st.integers(-100, 3_000), st.data())
def test_as_many_fit_as_their_bytes_say(size: int, count: int, room: int, data: st.DataObject) -> None:
    events = packed(listed(size, count), size)
    done = data.draw(st.integers(0, count))
    fit = 0
    while done + fit < count and (fit + 1) * (size + 4) <= room:
        fit += 1
    assert events.fitting(done, room, 4) == fit


def test_more_events_than_a_block_holds_have_ends_too() -> None:
    events = Packed(memoryview(bytes(8 * limits.BLOCK_BYTES_MAX)), 8)
    ends = events.ends(0)
    assert len(ends) == limits.BLOCK_BYTES_MAX
    assert list(ends[:2]) == [8, 16]
    assert ends[-1] == 8 * limits.BLOCK_BYTES_MAX
    assert list(events[:2].ends(24)) == [32, 40]


SIZES = st.lists(st.integers(1, 40).map(lambda n: 8 * n), max_size=60)
"""Of events in order."""


def of_sizes(sizes: list[int]) -> list[bytes]:
    return [number.to_bytes(8, "little") * (size // 8) for number, size in enumerate(sizes)]


def joined(events: list[bytes], at_once: int = 7) -> Joined:
    joiner = Joiner()
    for start in range(0, len(events), at_once):
        joiner.add(events[start : start + at_once])
        assert joiner.size == sum(map(len, events[: start + at_once]))
    return joiner.joined()


@given(SIZES, st.integers(1, 70), st.data())
def test_joined_events_are_a_sequence_of_bytes(sizes: list[int], at_once: int, data: st.DataObject) -> None:
    events = of_sizes(sizes)
    found = joined(events, at_once)
    for _ in range(3):  # also of slices of slices
        count = len(events)
        assert len(found) == count
        assert list(found) == events
        assert bytes(found.data) == b"".join(events)
        for index in range(-count, count):
            assert found[index] == events[index]
        for index in (count, -count - 1):
            with pytest.raises(IndexError):
                found[index]
        start, stop = data.draw(st.integers(-count - 2, count + 2)), data.draw(st.integers(-count - 2, count + 2))
        events, found = events[start:stop], found[start:stop]


@given(SIZES.filter(bool), SIZES.filter(bool), st.data())
def test_a_block_of_joined_events_is_a_block_of_the_list(
    before: list[int], sizes: list[int], data: st.DataObject
) -> None:
    """From anywhere in the buffer, behind others or alone."""
    start = data.draw(st.integers(0, len(sizes) - 1))
    events = of_sizes(sizes)
    found = joined(events)[start:]
    for behind in (before, []):
        one, other = BlockDraft(5, 3), BlockDraft(5, 3)
        for draft in (one, other):
            draft.begin_commit(7)
            if behind:
                draft.add(2, 1, 0, of_sizes(behind))
        one.add(2, 1, len(behind), events[start:])
        other.add(2, 1, len(behind), found)
        assert other.bytes_max == one.bytes_max
        assert other.encode() == one.encode()
        Block(memoryview(other.encode())).check()


@given(SIZES, st.integers(-100, 3_000), st.data())
def test_as_many_joined_events_fit_as_their_bytes_say(sizes: list[int], room: int, data: st.DataObject) -> None:
    skipped = data.draw(st.integers(0, len(sizes)))
    events = joined(of_sizes(sizes))[skipped:]
    sizes = sizes[skipped:]
    done = data.draw(st.integers(0, len(sizes)))
    fit = 0
    while done + fit < len(sizes) and sum(sizes[done : done + fit + 1]) + 4 * (fit + 1) <= room:
        fit += 1
    assert events.fitting(done, room, 4) == fit


def test_more_bytes_than_their_ends_can_say_are_not_added() -> None:
    """Whoever joins is told, instead of a number that does not fit; what was there before is as it was."""

    class Large(bytes):
        def __len__(self) -> int:
            return 2**31

    joiner = Joiner()
    assert joiner.add([bytes(8), bytes(16)])
    assert not joiner.add([Large(), Large()])
    assert joiner.add([])
    assert list(joiner.joined()) == [bytes(8), bytes(16)]


def test_large_events_are_joined_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in the end, without a copy of all of them on the way."""
    monkeypatch.setattr(packed_module, "_TOGETHER_BYTES_MAX", 100)
    events = of_sizes([8, 160, 24, 320, 8, 8, 8])
    assert list(joined(events, 3)) == events


def test_ends_are_moved_over_the_whole_of_their_32_bits() -> None:
    """They are moved as one large number, without anything carried from one to the next."""
    high = 2**32 - 1
    ends = array("I", [high - 16, high - 8, high])
    events = Joined(memoryview(bytes(24)), ends, high - 24)
    assert events.ends(high - 24) == ends
    low = events.ends(0)
    assert list(low) == [8, 16, 24]
    assert Joined(memoryview(bytes(24)), low).ends(high - 24) == ends
    assert list(events[1:].ends(5)) == [13, 21]
