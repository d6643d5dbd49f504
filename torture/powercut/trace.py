"""The log of ``record.c``, read."""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_HEAD = struct.Struct("<IIQQQ")


class Kind(enum.IntEnum):
    """What a record tells; the numbers are those of ``record.c``."""

    CREATED = 1
    FOLDER = 2
    RENAMED = 3
    LINKED = 4
    REMOVED = 5
    WRITTEN = 6
    SIZED = 7
    SYNC_BEGUN = 8
    SYNC_ENDED = 9
    THROUGH = 10
    THROUGH_ENDED = 11
    MARK = 12
    MET = 13


class Op(NamedTuple):
    """One record."""

    kind: Kind
    inode: int
    offset: int
    data: bytes

    @property
    def paths(self) -> list[str]:
        """The paths that it names: one, or the old and the new."""
        return [path.decode("utf-8", "surrogateescape") for path in self.data.split(b"\0")]


def read(log: Path) -> list[Op]:
    """Every record, in order. Raises ``ValueError`` where the log is cut off."""
    return list(parse(log.read_bytes()))


def parse(log: bytes) -> Iterator[Op]:
    """Every record of a log in memory."""
    at = 0
    while at < len(log):
        if at + _HEAD.size > len(log):
            raise ValueError(f"the log is cut off at {at}")
        kind, _, inode, offset, length = _HEAD.unpack_from(log, at)
        at += _HEAD.size
        if at + length > len(log):
            raise ValueError(f"the log is cut off at {at}")
        yield Op(Kind(kind), inode, offset, log[at : at + length])
        at += length
