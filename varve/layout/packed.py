"""Events that lie back to back in one buffer and stand for a list of them: what a block takes of them is a slice.

``Packed`` has events of one size, what arrays of fixed-size events are encoded to: everything that a block needs of them is
arithmetic. ``Joined`` has events of any sizes, what a batch of objects is encoded to, a stretch at a time: few of them exist one
by one at any moment, and their lengths are asked for while they are in the processor's cache.
"""

from __future__ import annotations

from array import array
from bisect import bisect_right
from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import overload

from varve import limits


class Packed:
    """A sequence of events as a list of their bytes would be one; slices share the buffer.

    ``data`` holds whole events of ``size`` bytes, a multiple of 8. It must never change.
    """

    __slots__ = ("_count", "data", "size")

    def __init__(self, data: memoryview, size: int) -> None:
        self.data = data
        self.size = size
        self._count = len(data) // size

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Packed: ...
    def __getitem__(self, index: int | slice) -> bytes | Packed:
        size = self.size
        if isinstance(index, slice):
            start, stop, _ = index.indices(self._count)
            return Packed(self.data[start * size : stop * size], size)
        at = range(self._count)[index] * size
        return bytes(self.data[at : at + size])

    def __iter__(self) -> Iterator[bytes]:
        size = self.size
        for at in range(0, len(self.data), size):
            yield bytes(self.data[at : at + size])

    def ends(self, before: int) -> array[int]:
        """Where each event ends in a payload that holds ``before`` bytes already, u32 each."""
        size, count = self.size, self._count
        if not before:
            known = _ends_in_a_block(size)
            if count <= len(known):
                return known[:count]
        return array("I", range(before + size, before + size * count + 1, size))

    def fitting(self, done: int, room: int, overhead: int) -> int:
        """How many events from ``done`` on fit into ``room`` bytes, each with ``overhead`` more."""
        return min(self._count - done, max(room, 0) // (self.size + overhead))


@lru_cache(maxsize=16)
def _ends_in_a_block(size: int) -> array[int]:
    """The ends of as many events as a block holds: the same in every block that is full of them."""
    return array("I", range(size, limits.BLOCK_BYTES_MAX + 1, size))


class Joined:
    """A sequence of events as a list of their bytes would be one; slices share the buffer. Made by ``Joiner``.

    ``data`` holds whole events. It must never change.
    """

    __slots__ = ("_begin", "_ends", "data")

    def __init__(self, data: memoryview, ends: array[int], begin: int = 0) -> None:
        self.data = data
        self._ends = ends  # counted from where the first event stands at ``begin``
        self._begin = begin

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Joined: ...
    def __getitem__(self, index: int | slice) -> bytes | Joined:
        begin = self._begin
        if isinstance(index, slice):
            start, stop, _ = index.indices(len(self._ends))
            ends = self._ends[start:stop]
            at = self._start(start)
            return Joined(self.data[at - begin : (ends[-1] if ends else at) - begin], ends, at)
        at = range(len(self._ends))[index]
        return bytes(self.data[self._start(at) - begin : self._ends[at] - begin])

    def __iter__(self) -> Iterator[bytes]:
        at = 0
        for end in self._ends:
            end -= self._begin
            yield bytes(self.data[at:end])
            at = end

    def _start(self, index: int) -> int:
        return self._ends[index - 1] if index else self._begin

    def ends(self, before: int) -> array[int]:
        """Where each event ends in a payload that holds ``before`` bytes already, u32 each."""
        by = before - self._begin
        return _shifted(self._ends, by) if by else self._ends

    def fitting(self, done: int, room: int, overhead: int) -> int:
        """How many events from ``done`` on fit into ``room`` bytes, each with ``overhead`` more."""
        ends = self._ends
        room += self._start(done)
        # As many as there would be room for if those before took nothing more, then if they took as much more as these: what
        # fits lies between, nearer with each step, since an event is longer than what it has more.
        least, most = done, bisect_right(ends, room, done)
        while True:
            least = bisect_right(ends, room - overhead * (most - done), least, most)
            if least == most or ends[least] + overhead * (least + 1 - done) > room:
                return least - done
            most = bisect_right(ends, room - overhead * (least + 1 - done), least, most)


_BYTES_MAX = 2**32 - 1
_TOGETHER_BYTES_MAX = 1 << 22
"""Bytes of events that are joined by themselves first, which is faster."""


class Joiner:
    """Joins encoded events as they come, less than 4 GiB of them."""

    __slots__ = ("_data", "_ends")

    def __init__(self) -> None:
        self._data = bytearray()
        self._ends = array("I")

    @property
    def size(self) -> int:
        """Bytes so far."""
        return len(self._data)

    def add(self, events: list[bytes]) -> bool:
        """The next events. False, and nothing is added, where they would be too many bytes."""
        before = len(self._data)
        ends = list(accumulate(map(len, events), initial=before))
        if ends[-1] > _BYTES_MAX:
            return False
        del ends[0]
        self._ends.fromlist(ends)
        if self._ends and self._ends[-1] - before > _TOGETHER_BYTES_MAX:
            for event in events:  # a copy of large ones more would be felt
                self._data += event
        else:
            self._data += b"".join(events)
        return True

    def joined(self) -> Joined:
        """All of them; nothing can be added any more."""
        return Joined(memoryview(self._data).toreadonly(), self._ends)


def _shifted(ends: array[int], by: int) -> array[int]:
    """The same ends counted from somewhere else: all of them are moved as the digits of one large number, which takes half the
    time of one by one. None of them leaves its 32 bits, so nothing is carried from one to the next."""
    number = int.from_bytes(ends, "little") + by * _ones(len(ends))
    return array("I", number.to_bytes(4 * len(ends), "little"))


@lru_cache(maxsize=64)
def _ones(count: int) -> int:
    """The number with ``count`` digits of 32 bits, all of them 1."""
    return int.from_bytes(array("I", (1,)) * count, "little")


Events = list[bytes] | Packed | Joined
"""Encoded events in order, each a multiple of 8 bytes long."""
