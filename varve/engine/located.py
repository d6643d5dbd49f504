"""What the index said of streams, remembered: where an event of a stream is, without asking the index again.

History never changes, so an entry that was read holds for as long as the file is open; the last one of a stream may have
grown since, which only adds to it. Nothing here is believed: the block at the place that is remembered has a checksum and says
whose events it holds, and where it says something else, or nothing is remembered, the index is asked.

Shared by the threads of a process without a lock: each change is one operation of a list or a dict. What comes out while
another thread is at it may be wrong, and is found wrong by the block.
"""

from __future__ import annotations

import threading
from array import array
from bisect import bisect_right, insort

from varve import limits
from varve.layout.keys import StreamId
from varve.layout.runs import Run

Entry = tuple[int, "array[int] | None", "array[int]"]
"""First stream sequence; where each run ends, in stream sequences (None: every run is one event); what leads from a run's stream
sequences to global ones (of runs of one event the global sequences themselves)."""


class KnownStream:
    """A stream that was read: its ``number`` and the index entries that were asked for."""

    __slots__ = ("_entries", "_positions", "number")

    def __init__(self, number: int) -> None:
        self.number = number
        self._positions: list[int] = []  # the keys of _entries, in order
        self._entries: dict[int, Entry] = {}

    def sequence(self, stream_sequence: int) -> int:
        """The global sequence of an event, as far as is remembered; -1 where nothing is."""
        positions = self._positions
        at = bisect_right(positions, stream_sequence)
        if not at:
            return -1
        position, ends, shifts = self._entries[positions[at - 1]]
        if ends is None:
            index = stream_sequence - position
            return shifts[index] if 0 <= index < len(shifts) else -1
        index = bisect_right(ends, stream_sequence)
        return stream_sequence + shifts[index] if index < len(ends) else -1

    def keep(self, position: int, runs: list[Run]) -> bool:
        """Keep an entry; whether there is one more now. One thread at a time."""
        entry = _entry(position, runs)
        is_new = position not in self._entries
        self._entries[position] = entry
        if is_new:
            insort(self._positions, position)
        return is_new


def _entry(position: int, runs: list[Run]) -> Entry:
    """Raises OverflowError for numbers that only a damaged index has."""
    if all(count == 1 for _, count in runs):
        return position, None, array("q", [first for first, _ in runs])
    ends, shifts = array("q"), array("q")
    at = position
    for first, count in runs:
        shifts.append(first - at)
        at += count
        ends.append(at)
    return position, ends, shifts


class KnownStreams:
    """The streams that a handle has read, by name and id: at most ``KNOWN_INDEX_ENTRIES_MAX`` index entries of them."""

    def __init__(self) -> None:
        self._names: dict[str, dict[StreamId, KnownStream]] = {}
        self._entries = 0
        self._adding = threading.Lock()

    def of(self, name: str) -> dict[StreamId, KnownStream]:
        """The streams of a name by id: the same dict always. Only for ids that are plain ints, strs and UUIDs: others can equal
        an id that they are not."""
        return self._names.setdefault(name, {})

    def clear(self) -> None:
        """Forget everything, from now on."""
        for streams in list(self._names.values()):
            streams.clear()
        self._entries = 0

    def add(self, name: str, stream_id: StreamId, number: int, position: int, runs: list[Run]) -> None:
        """Remember an index entry of a stream, unless another thread (or this one, below us) is just remembering one."""
        if not self._adding.acquire(blocking=False):
            return
        try:
            if self._entries >= limits.KNOWN_INDEX_ENTRIES_MAX:
                self.clear()
            streams = self.of(name)
            known = streams.get(stream_id) or KnownStream(number)
            self._entries += known.keep(position, runs)
            streams[stream_id] = known
        except OverflowError:  # runs beside the one that was looked for are damaged: not ours to say
            pass
        finally:
            self._adding.release()
