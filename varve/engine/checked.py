"""Which blocks are known to be right, and what else is known of them; the error for those that are not."""

from __future__ import annotations

from bisect import bisect_right, insort
from typing import TYPE_CHECKING, Any

from varve import limits
from varve.errors import CorruptedBlock
from varve.layout.block import Block, EventPlaces
from varve.layout.frame import MalformedBlock, crc_holds, frame_crc

if TYPE_CHECKING:
    from varve.engine.mapped import Stretch

_CRC_BYTES = 4

Mark = tuple[int, int]
"""What tells a frame from another at its place: the checksum that it says it has, and its length."""


def mark_of(data: memoryview) -> Mark:
    """A frame's mark, also of one that is too short to have a checksum."""
    return frame_crc(data) if len(data) >= _CRC_BYTES else 0, len(data)


class CheckedBlocks:
    """Which blocks this process has seen right, by first sequence: checksum and length, and where their events are. Bounded.

    Shared by the threads of a process without a lock: each change is one operation of a list or a dict, and what is found is
    held against the frame before it is used.
    """

    def __init__(self) -> None:
        self._seen: dict[int, Mark] = {}
        self._places: dict[int, EventPlaces] = {}
        self._firsts: list[int] = []  # the keys of _places, in order
        self.notes: dict[int, tuple[int, int, Any]] = {}  # by first sequence: checksum, length, what was noted
        self._stretches: dict[int, Stretch] = {}
        self._stretched = 0  # frames in them

    def check(self, path: str, first: int, data: memoryview) -> None:
        """Check a frame's checksum unless it is known. Raises ``CorruptedBlock``."""
        mark = mark_of(data)
        if self._seen.get(first) == mark:
            return
        if not crc_holds(data):
            raise corrupted(path, first, "its checksum is wrong")
        self.add(first, mark)

    def has(self, first: int, mark: Mark) -> bool:
        """Whether the frame with this checksum and length was seen right."""
        return self._seen.get(first) == mark

    def add(self, first: int, mark: Mark) -> None:
        """The frame with this checksum and length was seen right."""
        if len(self._seen) >= limits.CHECKED_BLOCKS_MAX:
            self._seen.clear()
            self._places, self._firsts = {}, []
        self._seen[first] = mark

    def note(self, firsts: list[int], crcs: list[int], sizes: list[int], notes: list[Any]) -> None:
        """Keep, for checked frames (first sequences, checksums, lengths), what a reader found out about each:
        ``Snapshot.map_frames`` gives it back for these frames."""
        if len(self.notes) >= limits.CHECKED_BLOCKS_MAX:
            self.notes.clear()
        self.notes.update(zip(firsts, zip(crcs, sizes, notes, strict=True), strict=True))

    def stretch(self, first: int) -> Stretch | None:
        """The stretch that was kept last of those that begin at a sequence, for ``Snapshot.map_again``."""
        return self._stretches.get(first)

    def keep_stretch(self, stretch: Stretch) -> None:
        """Keep where checked frames lie at one instant, and what is known of them."""
        older = self._stretches.pop(stretch.first, None)
        self._stretched += stretch.frames - (0 if older is None else older.frames)
        if self._stretched > limits.CHECKED_BLOCKS_MAX:
            self._stretches, self._stretched = {}, stretch.frames
        self._stretches[stretch.first] = stretch

    def holding(self, sequence: int) -> EventPlaces | None:
        """Where the events of the block are that held ``sequence`` when it was seen last; None where none is known."""
        firsts = self._firsts
        at = bisect_right(firsts, sequence)
        places = self._places.get(firsts[at - 1]) if at else None
        return places if places is not None and sequence < places.first + places.count else None

    def remember(self, places: EventPlaces) -> None:
        """Keep where the events of a checked block are."""
        first = places.first
        if first not in self._places:
            insort(self._firsts, first)
        self._places[first] = places


def corrupted(path: str, first: int, reason: str) -> CorruptedBlock:
    """The error for a block that cannot be trusted."""
    return CorruptedBlock(
        f"{path}: the block at global sequence {first} is corrupted: {reason}. Nothing of it is returned; other blocks stay "
        "readable. Restore a backup, or salvage what is left with varve.ops",
        path=path,
        first_sequence=first,
        reason=reason,
    )


def parse(path: str, first: int, data: memoryview) -> Block:
    """The block in a frame whose checksum holds. Raises ``CorruptedBlock``."""
    try:
        block = Block(data)
    except MalformedBlock as exc:
        raise corrupted(path, first, str(exc)) from None
    if block.first != first:
        raise corrupted(path, first, f"it says that it begins at {block.first}")
    return block
