"""What victims leave behind: a page of memory that they share with whoever judges, which no kill takes back.

A *lane* is one sequence of commits: of a process, of one of its threads, of one of its tasks. Before it commits its n-th
time it says so (``attempted``), and when the call has returned it says that, too (``acked``). Whatever is killed when: what
was acked must be there, one more may be, no other.
"""

from __future__ import annotations

import mmap
import struct
from typing import Final

_CELL: Final = struct.Struct("<q")
_LANE_CELLS: Final = 3
LANES_MAX: Final = 1_024
CELLS_MAX: Final = 256
_NOTE_BYTES: Final = 400
_NOTES_MAX: Final = 128
_CELLS_AT: Final = LANES_MAX * _LANE_CELLS * 8
_NOTES_AT: Final = _CELLS_AT + CELLS_MAX * 8


class Page:
    """Shared by every child of whoever makes it. Numbers are given out by its maker only."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, _NOTES_AT + _NOTES_MAX * _NOTE_BYTES)
        self._lanes = self._cells = self._notes = 0

    def close(self) -> None:
        """Let it go in this process."""
        self._memory.close()

    def lane(self) -> Lane:
        """A new lane."""
        self._lanes += 1
        if self._lanes > LANES_MAX:
            raise RuntimeError("a round has too many lanes: make it shorter")
        return Lane(self, self._lanes - 1)

    def cell(self, value: int = 0) -> Cell:
        """A new number."""
        self._cells += 1
        if self._cells > CELLS_MAX:
            raise RuntimeError("a round has too many cells: make it shorter")
        cell = Cell(self, _CELLS_AT + (self._cells - 1) * 8)
        cell.value = value
        return cell

    def note(self) -> Note:
        """A new place for a line of text."""
        self._notes += 1
        if self._notes > _NOTES_MAX:
            raise RuntimeError("a round has too many notes: make it shorter")
        return Note(self, _NOTES_AT + (self._notes - 1) * _NOTE_BYTES)

    def get(self, at: int) -> int:
        """The number at an offset."""
        value: int = _CELL.unpack_from(self._memory, at)[0]
        return value

    def set(self, at: int, value: int) -> None:
        """Store a number at an offset: eight bytes, which are written at once."""
        _CELL.pack_into(self._memory, at, value)

    def text(self, at: int) -> str:
        """The line at an offset."""
        return self._memory[at : at + _NOTE_BYTES].rstrip(b"\0").decode(errors="replace")

    def write(self, at: int, text: str) -> None:
        """Store a line."""
        data = text.encode()[-_NOTE_BYTES:]
        self._memory[at : at + len(data)] = data


class Cell:
    """A number in the page."""

    def __init__(self, page: Page, at: int) -> None:
        self._page = page
        self._at = at

    @property
    def value(self) -> int:
        """The number."""
        return self._page.get(self._at)

    @value.setter
    def value(self, value: int) -> None:
        self._page.set(self._at, value)


class Note:
    """A line of text in the page: what a victim found that must not be."""

    def __init__(self, page: Page, at: int) -> None:
        self._page = page
        self._at = at

    @property
    def text(self) -> str:
        """The line, empty where none was written."""
        return self._page.text(self._at)

    def write(self, text: str) -> None:
        """Write it."""
        self._page.write(self._at, text)


class Lane:
    """See the module."""

    def __init__(self, page: Page, number: int) -> None:
        self.number = number
        self._page = page
        self._at = number * _LANE_CELLS * 8

    @property
    def attempted(self) -> int:
        """Commits that were begun."""
        return self._page.get(self._at)

    @property
    def acked(self) -> int:
        """Commits whose call returned."""
        return self._page.get(self._at + 8)

    @property
    def position(self) -> int:
        """Global sequence of the first event of the last one that returned."""
        return self._page.get(self._at + 16)

    def sibling(self, number: int) -> Lane:
        """Another lane of the page."""
        return Lane(self._page, number)

    def attempt(self) -> int:
        """Begin a commit; its number."""
        number = self.acked
        self._page.set(self._at, number + 1)
        return number

    def ack(self, global_sequence: int) -> None:
        """It returned."""
        self._page.set(self._at + 16, global_sequence)
        self._page.set(self._at + 8, self.attempted)
