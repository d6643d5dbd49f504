"""Whole frames where they are in the map, many at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from varve.engine.checking import Checking

if TYPE_CHECKING:
    from varve.engine.snapshot import Snapshot


class MappedFrames(NamedTuple):
    """A stretch of the map, which begins at address ``low`` and belongs to one ``instant``, and by column first sequence, place in
    ``memory``, bytes and what was noted (None: nothing) of each frame. Lists of numbers, not many tuples: these would set off the
    garbage collector."""

    memory: memoryview
    instant: int
    low: int
    firsts: list[int]
    places: list[int]
    sizes: list[int]
    notes: list[Any]

    def cut(self, count: int) -> MappedFrames:
        """The first ``count`` of them."""
        columns = (self.firsts, self.places, self.sizes, self.notes)
        return MappedFrames(self.memory, self.instant, self.low, *(column[:count] for column in columns))

    def stretch(self, count: int, what: Any) -> Stretch:
        """The first ``count`` of them, without their memory, and what is known of them."""
        low = self.low
        return Stretch(self.instant, self.firsts[0], low + self.places[0], low, low + len(self.memory), count, what)


class Stretch(NamedTuple):
    """Where checked ``frames`` lie at one ``instant``: ``address`` is that of the one at sequence ``first``. ``what``: what is known
    of them."""

    instant: int
    first: int
    address: int
    low: int
    high: int
    frames: int
    what: Any


class FoundFrames:
    """Frames of which some are still to be checked: ``unchecked`` has their indexes and checksums."""

    def __init__(self, snapshot: Snapshot, mapped: MappedFrames, unchecked: list[tuple[int, int]]) -> None:
        self.snapshot = snapshot
        self._mapped: MappedFrames | None = mapped
        self._unchecked = unchecked
        memory, places, sizes = mapped.memory, mapped.places, mapped.sizes
        self._checking = Checking([memory[places[at] : places[at] + sizes[at]] for at, _ in unchecked])

    @property
    def is_checked(self) -> bool:
        """There was nothing to do."""
        return not self._unchecked

    def begin(self) -> None:
        """Check them on another thread, if that pays; until ``checked`` or ``end``."""
        self._checking.begin()

    def end(self) -> None:
        """They are not wanted any more."""
        self._mapped = None
        self._checking.end()

    def checked(self) -> MappedFrames:
        """Those that stand before the first one that is wrong; once. Raises ``CorruptedBlock`` where that is the first of all:
        whoever goes on behind what can be read is told."""
        mapped, self._mapped = self._mapped, None
        assert mapped is not None  # asked once
        right = self._checking.finish()
        add, firsts, sizes = self.snapshot.checked.add, mapped.firsts, mapped.sizes
        for at, crc in self._unchecked[:right]:
            add(firsts[at], (crc, sizes[at]))
        if right == len(self._unchecked):
            return mapped
        wrong, _ = self._unchecked[right]
        if wrong:
            return mapped.cut(wrong)
        del mapped  # whoever keeps the error must not keep the map
        raise self.snapshot.wrong_checksum(firsts[0])
