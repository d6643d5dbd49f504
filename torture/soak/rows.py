"""What the soak writes, and how its processes note what they saw: rows of fixed length, so that a kill tears at most one."""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import varve

SOLE, BATCHES, ASYNC, TRANSACTIONS, LAST, STEADY = range(6)
"""Who wrote an event: four writers that are killed, the runner, whose events are the last, and one that nobody kills."""

STREAMS = ("orders", "payments")
FOLLOWED_ID = 3
"""The stream that some tails follow alone."""


@varve.event
class Placed:
    """An order."""

    writer: varve.u8
    life: varve.u16
    caller: varve.u16
    number: varve.u32
    part: varve.u16
    of: varve.u16
    filler: str = ""


@varve.event
class Shipped:
    """Another type of its stream."""

    writer: varve.u8
    life: varve.u16
    caller: varve.u16
    number: varve.u32
    part: varve.u16
    of: varve.u16
    filler: str = ""


@varve.event
class Paid:
    """The type of another stream."""

    writer: varve.u8
    life: varve.u16
    caller: varve.u16
    number: varve.u32
    part: varve.u16
    of: varve.u16
    filler: str = ""


TYPES = (Placed, Shipped, Paid)


class Row(NamedTuple):
    """One event as a reader gave it."""

    sequence: int
    stream_sequence: int
    commit: int
    time_ns: int
    stream: int
    stream_id: int
    type: int
    writer: int
    life: int
    caller: int
    number: int
    part: int
    of: int
    crc: int


class Ack(NamedTuple):
    """An operation whose append returned, and where its first event is."""

    life: int
    caller: int
    number: int
    sequence: int


_ROW = struct.Struct("<QQQQBQBBHHIHHI")
_ACK = struct.Struct("<HHIQ")


def row_of(recorded: varve.Recorded[Any]) -> Row:
    """Everything that an event says, by which readers are compared."""
    event = recorded.event
    stream_id = recorded.stream_id
    assert isinstance(stream_id, int)
    return Row(
        recorded.global_sequence,
        recorded.stream_sequence,
        recorded.commit_sequence,
        recorded.time_ns,
        STREAMS.index(recorded.stream),
        stream_id,
        TYPES.index(recorded.type),
        event.writer,
        event.life,
        event.caller,
        event.number,
        event.part,
        event.of,
        zlib.crc32(event.filler.encode()),
    )


def read_rows(path: Path) -> Iterator[Row]:
    """What a tail noted."""
    return map(Row._make, _ROW.iter_unpack(path.read_bytes()))


def read_acks(path: Path) -> list[Ack]:
    """What a writer noted; a torn one at the end is none."""
    noted = path.read_bytes()
    return list(map(Ack._make, _ACK.iter_unpack(noted[: len(noted) // _ACK.size * _ACK.size])))


class _Notes:
    """A file of rows that outlives a kill: each note is with the operating system when the call returns."""

    def __init__(self, path: Path, row: struct.Struct) -> None:
        self._row = row
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        whole = os.fstat(self._file).st_size // row.size * row.size
        os.ftruncate(self._file, whole)
        self.last = row.unpack(os.pread(self._file, row.size, whole - row.size)) if whole else None

    def add(self, *rows: tuple[int, ...]) -> None:
        """Note some."""
        data = b"".join(self._row.pack(*row) for row in rows)
        while data:
            data = data[os.write(self._file, data) :]


class Rows(_Notes):
    """What a tail saw. A new life finds the last that an earlier one noted."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _ROW)

    @property
    def last_row(self) -> Row | None:
        """The last one that was noted before."""
        return None if self.last is None else Row._make(self.last)


class Acks(_Notes):
    """What a writer was told is written."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _ACK)

    @property
    def last_ack(self) -> Ack | None:
        """The last one that was noted before."""
        return None if self.last is None else Ack._make(self.last)
