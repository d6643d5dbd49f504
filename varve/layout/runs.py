"""Index entries: lists of runs ``(first global sequence, count)``.

An entry's value is its runs back to back, 12 bytes each, little-endian ``u64 first | u32 count``. The entries of a
stream (or of a name) are a pure function of its events in global order: adjacent runs merge, and an entry holds at most
``RUNS_PER_INDEX_ENTRY_MAX`` of them, so entry k holds runs 32k .. 32k+31 whatever commits and blocks wrote them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

from varve import limits
from varve.layout.records import malformed

Run = tuple[int, int]
"""First global sequence and number of events."""

RUN_BYTES = 12
RUN_EVENTS_MAX = 2**32 - 1

_RUN = struct.Struct("<QI")
_PACKERS = [struct.Struct("<" + "QI" * count) for count in range(limits.RUNS_PER_INDEX_ENTRY_MAX + 1)]


def decode_runs(value: bytes | memoryview) -> list[Run]:
    """The runs of an entry, one at least. Raises ``MalformedRecord``."""
    if not value or len(value) % RUN_BYTES:
        raise malformed("entry of the index", value)
    return list(_RUN.iter_unpack(value))


def find_in_runs(value: bytes | memoryview, index: int) -> int | None:
    """Global sequence of event ``index`` of an entry; None where it has fewer. Raises ``MalformedRecord``."""
    if len(value) % RUN_BYTES:
        raise malformed("entry of the index", value)
    for first, count in _RUN.iter_unpack(value):
        if index < count:
            return int(first) + index
        index -= count
    return None


def encode_runs(runs: list[Run]) -> bytes:
    """An entry's value; at most ``RUNS_PER_INDEX_ENTRY_MAX`` runs."""
    return _PACKERS[len(runs)].pack(*[number for run in runs for number in run])


def append_runs(runs: list[Run], new: Iterable[Run]) -> None:
    """Append ``new`` (in global order) to ``runs`` in place, merging what is adjacent.

    A run that would pass ``RUN_EVENTS_MAX`` is filled up first: the result does not depend on how ``new`` was cut.
    """
    for first, count in new:
        if runs:
            last_first, last_count = runs[-1]
            if last_first + last_count == first:
                taken = min(count, RUN_EVENTS_MAX - last_count)
                runs[-1] = (last_first, last_count + taken)
                first += taken
                count -= taken
        while count:
            taken = min(count, RUN_EVENTS_MAX)
            runs.append((first, taken))
            first += taken
            count -= taken


def append_one(position: int, entry: bytes, sequence: int, next_position: int) -> tuple[int, bytes]:
    """Position and value of a stream's (or name's) last entry once the event at ``sequence`` is in it.

    ``next_position`` is where the entry begins that this event opens if the last one is full; an empty ``entry`` is the
    first one.
    """
    if entry:
        first, count = _RUN.unpack_from(entry, len(entry) - RUN_BYTES)
        if first + count == sequence and count < RUN_EVENTS_MAX:
            return position, entry[:-RUN_BYTES] + _RUN.pack(first, count + 1)
        if len(entry) < RUN_BYTES * limits.RUNS_PER_INDEX_ENTRY_MAX:
            return position, entry + _RUN.pack(sequence, 1)
    return next_position, _RUN.pack(sequence, 1)


def split_entries(runs: list[Run]) -> Iterable[list[Run]]:
    """The runs of consecutive entries, the first of which starts at ``runs[0]``."""
    size = limits.RUNS_PER_INDEX_ENTRY_MAX
    for start in range(0, len(runs), size):
        yield runs[start : start + size]
