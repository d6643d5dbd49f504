"""What events begin with, and gathers: by the bytes."""

from __future__ import annotations

import numpy as np
import pytest

from varve.columns.tables import Bytes, Places, Words, back_to_back, find_head, in_words, listed, strided

HEAD = bytes.fromhex("10000000 0a001800 08000400 10000000 0c000000")
"""Root offset; vtable of 10 bytes, filled up; the table's first word. The fields follow."""
SIZE = 40
COUNT = 10_000


def events(changed: int | None = None, at: int = 0) -> Bytes:
    """Events that begin alike, but for a bit of one."""
    raw = np.zeros((COUNT, SIZE), np.uint8)
    raw[:, : len(HEAD)] = np.frombuffer(HEAD, np.uint8)
    raw[:, len(HEAD) :] = np.random.default_rng(1).integers(0, 255, (COUNT, SIZE - len(HEAD)), np.uint8)
    if changed is not None:
        raw[changed, at] ^= 1
    return Bytes(raw.ravel())


PLACES = {
    "strided": strided(0, (COUNT // 100, 100), (100 * SIZE, SIZE)),
    "one row": strided(0, (COUNT,), (SIZE,)),
    "words": in_words(np.arange(COUNT) * (SIZE // 8)),
    "listed": listed(np.arange(COUNT) * SIZE),
}


@pytest.mark.parametrize("places", PLACES.values(), ids=PLACES)
def test_heads(places: Places) -> None:
    """Every byte up to the fields counts, and none behind them, of each event."""
    found = find_head(events(), places)
    assert found is not None
    assert found == (16, HEAD[4:14])
    for event in (1, 4_096, 5_000, COUNT - 1):
        for at in (0, 7, 8, 15, 16, 19):
            assert find_head(events(event, at), places) is None, (event, at)
        for at in (20, 23, 24, 39):
            assert find_head(events(event, at), places) == found, (event, at)


def test_heads_that_are_not_aligned() -> None:
    """They are left to the slower way."""
    raw = np.concatenate([np.zeros(4, np.uint8), events().raw, np.zeros(4, np.uint8)])
    for places in (strided(4, (COUNT,), (SIZE,)), listed(np.arange(COUNT) * SIZE + 4)):
        assert find_head(Bytes(raw), places) is None


def test_gathers_stay_inside() -> None:
    """A place behind the end is an error, never another place's number."""
    data = Bytes(np.arange(64, dtype=np.uint8))
    for tag, size in (("u8", 1), ("u16", 2), ("u32", 4), ("u64", 8)):
        last = in_words(np.array([7, 0], np.int64)).moved(8 - size)
        assert data.numbers(tag, last).tolist() == [
            int.from_bytes(bytes(range(end - size, end)), "little") for end in (64, 8)
        ]
        with pytest.raises(IndexError):
            data.numbers(tag, last.moved(size))
    assert data.numbers("u32", in_words(np.array([1], np.int64)).moved(2)).tolist() == [0x0D0C0B0A]
    assert Words(np.array([], np.int64)).last == 0


def test_events_back_to_back() -> None:
    """Two blocks: the ends of each, and then its payload."""
    words = np.zeros(32, np.uint32)
    words[0:4] = [3, 8, 24, 32]
    words[16:18] = [1, 16]
    data = Bytes(words.view(np.uint8))
    begins, ends_at, counts = np.array([32, 80]), np.array([4, 68]), np.array([3, 1])
    assert back_to_back(data, begins, ends_at, counts).array().tolist() == [32, 40, 56, 80]
    assert back_to_back(data, begins, ends_at, counts).moved(4).array().tolist() == [36, 44, 60, 84]
    with pytest.raises(IndexError):
        back_to_back(data, begins + 4, ends_at, counts)
    words[1] = 12
    with pytest.raises(IndexError):
        back_to_back(data, begins, ends_at, counts)
