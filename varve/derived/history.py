"""Whether something was derived from this history of the log, or from another one.

A store that was restored to an earlier point goes on from there with other events under the same positions. So what is derived
notes where the log ended then, and a mark of its last event.
"""

from __future__ import annotations

import struct
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

from varve.gaps import GAP
from varve.layout.snapshots import NO_MARK

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.engine.snapshot import Snapshot

_MARK: Final = struct.Struct("<QQqQ")
_KNOWN_MAX: Final = 4_096


class History:
    """The log of an open store, as a history. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: set[tuple[int, bytes]] = set()

    def now(self) -> tuple[int, bytes]:
        """The next global sequence, and the mark of the last event. Raises ``CorruptedBlock``."""
        with self._engine.snapshot() as snapshot:
            end = snapshot.next_sequence
            return end, _mark(snapshot, end)

    def mark(self, end: int) -> bytes | None:
        """The mark of the last event before a global sequence that the log has reached; None where that was archived, or there is
        none. Raises ``CorruptedBlock``."""
        with self._engine.snapshot() as snapshot:
            found = _mark(snapshot, end)
        return None if found == NO_MARK else found

    def includes(self, end: int, mark: bytes) -> bool:
        """Whether the log ended with that event at some time. Yes where it was archived, or dropped by a compaction: nobody can
        tell any more. Raises ``CorruptedBlock``."""
        if (end, mark) in self._known:
            return True
        with self._engine.snapshot() as snapshot:
            if end > snapshot.next_sequence:
                return False
            if end > snapshot.first_sequence and _mark(snapshot, end) != mark and not _is_gap(snapshot, end - 1):
                return False
        if len(self._known) >= _KNOWN_MAX:
            self._known.clear()
        self._known.add((end, mark))  # the log of an open store never becomes another one
        return True


def _mark(snapshot: Snapshot, end: int) -> bytes:
    """A mark of the last event before a sequence; none where nothing is there."""
    if end <= snapshot.first_sequence:
        return NO_MARK
    block = snapshot.copied_block(end - 1)
    index = end - 1 - block.first
    start, stop = block.span(index)
    commit, time_ns = block.commit_of(index)
    head = _MARK.pack(end, commit, time_ns, block.stream_of(index)[1])
    return blake2b(head + block.data[start:stop], digest_size=len(NO_MARK)).digest()


def _is_gap(snapshot: Snapshot, sequence: int) -> bool:
    """Whether an event was dropped by a compaction."""
    block = snapshot.copied_block(sequence)
    run, _ = block.run_of(sequence - block.first)
    return snapshot.catalog.type(snapshot, run.type).name == GAP.name
