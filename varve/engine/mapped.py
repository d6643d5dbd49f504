"""Whole frames where they are in the map, many at a time."""

from __future__ import annotations

from typing import Any, NamedTuple


class MappedFrames(NamedTuple):
    """A stretch of the map, which begins at address ``low`` and belongs to one ``instant``, and by column first sequence, place
    in ``memory``, bytes and what was noted (None: nothing) of each frame. Lists of numbers, not many tuples: these would set off
    the garbage collector."""

    memory: memoryview
    instant: int
    low: int
    firsts: list[int]
    places: list[int]
    sizes: list[int]
    notes: list[Any]

    def stretch(self, count: int, what: Any) -> Stretch:
        """The first ``count`` of them, without their memory, and what is known of them."""
        low = self.low
        return Stretch(self.instant, self.firsts[0], low + self.places[0], low, low + len(self.memory), count, what)


class Stretch(NamedTuple):
    """Where checked frames lie at one ``instant``, and how many: ``address`` is that of the one at sequence ``first``, ``what``
    is what is known of them."""

    instant: int
    first: int
    address: int
    low: int
    high: int
    frames: int
    what: Any
