"""Events of one size that lie back to back in one buffer: what arrays of fixed-size events are encoded to.

Everything that a block needs of them is arithmetic, so none of it is worked out event by event.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from functools import lru_cache
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


Events = list[bytes] | Packed
"""Encoded events in order, each a multiple of 8 bytes long."""
