"""The side table ``consumers``: where named readers of the log stand. Pure bytes; not a function of the log.

=============  ===========================================================================================
``00``         ``u64``: the last token that was given; it only rises, also over deleted consumers
``01`` | name  a consumer (name in UTF-8): ``u32 crc32 of the key and the rest | u16 version 1 | u16 members | i64 updated
               at (ns)``, then runs of partitions in order, together all 256: ``u16 first partition | u16
               partitions | u32 process id | u64 position | u64 token | i64 taken at (ns)``
=============  ===========================================================================================

Integers are little-endian. A *position* is the next global sequence: everything before it is done. Partitions that say
the same stand in one run, so a consumer that nobody shares has one run nearly always.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from varve import limits

TABLE = "consumers"
TOKEN_KEY = b"\x00"
TOKEN_MAX = 2**62
"""No store ever comes that far: what is above is damage, and at the end of all numbers there would be no next one."""
VERSION = 1

PARTITIONS = limits.CONSUMER_PARTITIONS

_HEAD = struct.Struct("<IHHq")
_RUN = struct.Struct("<HHIQQq")
_CRC_BYTES = 4
_TOKEN = struct.Struct("<Q")


def consumer_key(name: str) -> bytes:
    """Key of a consumer."""
    return b"\x01" + name.encode()


def consumer_name(key: bytes) -> str | None:
    """The consumer that a key belongs to; None where it belongs to none."""
    return str(key[1:], "utf-8", "replace") if key[:1] == b"\x01" else None


encode_token = _TOKEN.pack


def decode_token(value: bytes | None) -> int:
    """The last token that was given; 0 where there was none."""
    if value is None or len(value) != _TOKEN.size:
        return 0
    token: int = _TOKEN.unpack(value)[0]
    return token


def partition_of(name: str, id_key: bytes) -> int:
    """The partition of a stream, for ever: the lowest byte of the crc32 (zlib) of its name, a zero byte and its id key."""
    return zlib.crc32(name.encode() + b"\0" + id_key) & 0xFF


def partitions_of(member: int, members: int) -> range:
    """The partitions that a member owns."""
    return range(PARTITIONS * member // members, PARTITIONS * (member + 1) // members)


class Run(NamedTuple):
    """Consecutive partitions that stand at one position and were taken at once."""

    first: int
    partitions: int
    pid: int
    position: int
    token: int
    taken_at_ns: int

    @property
    def end(self) -> int:
        """The partition behind them."""
        return self.first + self.partitions

    def cut(self, low: int, high: int) -> Run:
        """The part of it from ``low`` to ``high``."""
        first = max(low, self.first)
        return self._replace(first=first, partitions=min(high, self.end) - first)


class ConsumerRecord(NamedTuple):
    """A consumer as it is stored."""

    members: int
    updated_at_ns: int
    runs: tuple[Run, ...]

    def encode(self, key: bytes) -> bytes:
        """The record's bytes. They belong to their key: under another one they are damaged."""
        head = _HEAD.pack(0, VERSION, self.members, self.updated_at_ns)
        rest = head[_CRC_BYTES:] + b"".join(_RUN.pack(*run) for run in self.runs)
        return zlib.crc32(rest, zlib.crc32(key)).to_bytes(_CRC_BYTES, "little") + rest

    @property
    def position(self) -> int:
        """Everything before it is done, whatever the partition."""
        return min(run.position for run in self.runs)

    def within(self, partitions: range) -> Iterator[Run]:
        """The runs of some partitions, cut to them."""
        low, high = partitions.start, partitions.stop
        return (run.cut(low, high) for run in self.runs if run.first < high and low < run.end)

    def replaced(self, partitions: range, runs: Iterable[Run], now_ns: int) -> ConsumerRecord:
        """The record with other runs for some partitions."""
        before = self.within(range(partitions.start))
        behind = self.within(range(partitions.stop, PARTITIONS))
        return self._replace(updated_at_ns=now_ns, runs=merged((*before, *runs, *behind)))


def merged(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Runs in order, those that say the same joined."""
    joined: list[Run] = []
    for run in runs:
        if joined and joined[-1][2:] == run[2:]:
            joined[-1] = joined[-1]._replace(partitions=joined[-1].partitions + run.partitions)
        else:
            joined.append(run)
    return tuple(joined)


def decode_consumer(value: bytes, key: bytes) -> ConsumerRecord | int | None:
    """The record; its version where that is not ours; None where it is damaged."""
    if len(value) < _HEAD.size or int.from_bytes(value[:_CRC_BYTES], "little") != zlib.crc32(
        value[_CRC_BYTES:], zlib.crc32(key)
    ):
        return None
    _, version, members, updated_at_ns = _HEAD.unpack_from(value)
    if version != VERSION:
        return int(version)
    if (len(value) - _HEAD.size) % _RUN.size:
        return None
    runs = tuple(Run(*fields) for fields in _RUN.iter_unpack(value[_HEAD.size :]))
    at = 0
    for run in runs:
        if run.first != at or not run.partitions:
            return None
        at = run.end
    return ConsumerRecord(members, updated_at_ns, runs) if at == PARTITIONS and 1 <= members <= PARTITIONS else None
