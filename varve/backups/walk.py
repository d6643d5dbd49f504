"""Frames of a log, one after the other, each looked at before it is believed; and what follows from them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from varve.backups.manifest import LastCommit, Numbers
from varve.layout import keys
from varve.layout.block import Block
from varve.layout.content import ContentDigest
from varve.layout.derive import Derivation
from varve.layout.frame import MalformedBlock, crc_holds
from varve.layout.records import StoreRecord

if TYPE_CHECKING:
    from varve.engine.snapshot import Snapshot

UNREADABLE = (ValueError, IndexError, struct.error)
"""What reading a block raises whose columns contradict each other in a way that ``Block.check`` does not look for."""

_MARK = struct.Struct("<QQqIQH")
_U32 = struct.Struct("<I")


class Walk:
    """Feed it keys and frames in order, from the sequence ``first`` on.

    Attributes: ``content`` (the digest of what was fed), ``last`` (the last block).
    """

    def __init__(self, first: int, derivation: Derivation | None = None) -> None:
        self.content = ContentDigest(first)
        self.last: Block | None = None
        self._derivation = derivation

    def feed(self, key: bytes, frame: bytes) -> Block:
        """The next frame. Raises one of ``UNREADABLE``."""
        block = checked_block(key, frame)
        if block.first != self.content.next_sequence:
            raise MalformedBlock(f"the block at {block.first} stands where {self.content.next_sequence} comes next")
        self.content.feed(block)
        if self._derivation is not None:
            self._derivation.feed(block)
        self.last = block
        return block


class Numbering:
    """The numbers that events may use which continue a backup: those that it has, and what is declared from there on, in order.

    Blocks name streams and types by numbers which an earlier block declares. ``counts``: of the backup's names, types and
    streams; they grow with each block.
    """

    def __init__(self, counts: tuple[int, int, int]) -> None:
        self._names, self._types, self._streams = counts

    @property
    def counts(self) -> tuple[int, int, int]:
        """How many names, types and streams are declared so far."""
        return self._names, self._types, self._streams

    def feed(self, block: Block) -> bool:
        """Whether the next block uses no other numbers."""
        if not block.is_plain:
            streams = block.declared_streams()
            declared = (
                [number for number, _ in block.declared_names()],
                [number for number, *_ in block.declared_types()],
                [number for number, *_ in streams],
            )
            for numbers, count in zip(declared, self.counts, strict=True):
                if numbers != list(range(count, count + len(numbers))):
                    return False
            self._names, self._types, self._streams = (
                count + len(numbers) for numbers, count in zip(declared, self.counts, strict=True)
            )
            if any(name >= self._names for _, name, _ in streams):
                return False
        return all(stream < self._streams and kind < self._types for stream, kind, *_ in block.run_columns())


def checked_block(key: bytes, frame: bytes) -> Block:
    """A block that is whole in itself. Raises one of ``UNREADABLE``."""
    if not crc_holds(frame):
        raise MalformedBlock(f"the checksum of the block under the key {key[:40].hex()} is wrong")
    block = Block(memoryview(frame))
    block.check()
    if keys.log_sequence(key) != block.first:
        raise MalformedBlock(f"the block at {block.first} stands under the key {key.hex()}")
    return block


def last_commit(block: Block) -> LastCommit:
    """The commit of a block's last event, with a mark that another history does not have."""
    index = block.count - 1
    return LastCommit(*block.commit_of(index), mark_of(block, index))


def mark_of(block: Block, index: int) -> str:
    """SHA-256 of an event and of where and when it was recorded."""
    commit, time_ns = block.commit_of(index)
    stream, at = block.stream_of(index)
    start, end = block.span(index)
    head = _MARK.pack(block.first + index, commit, time_ns, stream, at, block.run_of(index)[0].type)
    return hashlib.sha256(head + block.data[start:end]).hexdigest()


def numbers_of(counts: tuple[int, int, int], find: Callable[[bytes], bytes | None]) -> Numbers:
    """The tables of the first so many names, types and streams, out of metadata. Raises ``ValueError`` where one is missing."""
    digest = hashlib.sha256()
    for count, key_of in zip(counts, (keys.name_key, keys.type_key, keys.stream_key), strict=True):
        for number in range(count):
            value = find(key_of(number))
            if value is None:
                raise ValueError(f"the metadata lacks the key {key_of(number).hex()}")
            digest.update(_U32.pack(len(value)) + value)
    return Numbers(*counts, digest.hexdigest())


def counts_of(record: StoreRecord) -> tuple[int, int, int]:
    """How many names, types and streams a store has."""
    return record.next_name, record.next_type, record.next_stream


def numbers_in(snapshot: Snapshot, counts: tuple[int, int, int] | None = None) -> Numbers:
    """Those of a store at an instant. Raises ``CorruptedStore``."""
    return numbers_of(counts or counts_of(snapshot.record), snapshot.meta)


def differing(found: Iterable[tuple[bytes, bytes]], expected: Iterable[tuple[bytes, bytes]]) -> bytes | None:
    """The first key at which two sequences of pairs differ; None where they are equal."""
    left, right = iter(found), iter(expected)
    while True:
        a, b = next(left, None), next(right, None)
        if a != b:
            return min(pair[0] for pair in (a, b) if pair is not None)
        if a is None:
            return None
