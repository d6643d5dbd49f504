"""The digest of a stretch of the log by content: the same however the events were laid into blocks.

SHA-256 of one SHA-256 per kind of thing, in the order of ``_PARTS``; integers are little-endian:

============  ======================================================================================
payload       the events' bytes, back to back
lengths       ``u32`` each event's length
runs          ``u32 stream | u16 type | u64 first stream sequence | u64 count``, those that continue each other as one
commits       ``u64 first sequence | i64 time (ns) | u64 count``
metadata      ``u64 first sequence | u64 count | u32 length | JSON``, equal neighbours as one
keys          ``u64 first sequence of the commit | u32 length | token | 16s digest``
names         ``u32 number | u32 length | name``
types         ``u32 number | u32 length | name | u32 length | schema``
streams       ``u32 number | u32 name number | u32 length | id key``
store         ``16s uuid | i64 created at (ns)``
============  ======================================================================================
"""

from __future__ import annotations

import hashlib
import struct
from array import array
from operator import sub
from typing import Final

from varve.layout.block import Block

_PARTS: Final = (
    "payload", "lengths", "runs", "commits", "metadata", "keys", "names", "types", "streams", "store",
)  # fmt: skip
_RUN = struct.Struct("<IHQQ")
_COMMIT = struct.Struct("<QqQ")
_METADATA = struct.Struct("<QQ")
_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_NUMBERS = struct.Struct("<II")
_STORE = struct.Struct("<16sq")
_RANGE = struct.Struct("<QQ")


class ContentDigest:
    """Feed it consecutive blocks, then ask for ``hexdigest``. ``first`` is where the stretch begins."""

    def __init__(self, first: int = 0) -> None:
        self.first = first
        self.next_sequence = first
        self._parts = {name: hashlib.sha256() for name in _PARTS}
        self._run: tuple[int, int, int, int] | None = None
        self._commit: tuple[int, int, int] | None = None
        self._metadata: tuple[int, int, bytes] | None = None

    def feed(self, block: Block) -> None:
        """The next block, whose columns agree with each other (``Block.check``)."""
        parts = self._parts
        ends = block.ends().tolist()
        parts["payload"].update(block.payload())
        parts["lengths"].update(array("I", map(sub, ends, [0, *ends[:-1]])))
        for run in block.run_columns():
            self._feed_run(run)
        firsts, counts = block.commit_firsts(), block.column("commit_counts")
        for first, time_ns, count in zip(firsts, block.commit_times(), counts, strict=True):
            self._feed_commit(first, time_ns, count)
        if not block.is_plain:
            self._feed_cold(block, firsts)
        self.next_sequence = block.end

    def _feed_run(self, run: tuple[int, int, int, int]) -> None:
        last = self._run
        if last is not None and last[:2] == run[:2] and last[2] + last[3] == run[2]:
            self._run = (*last[:3], last[3] + run[3])
            return
        if last is not None:
            self._parts["runs"].update(_RUN.pack(*last))
        self._run = run

    def _feed_commit(self, first: int, time_ns: int, count: int) -> None:
        last = self._commit
        if last is not None and last[0] == first:
            count += last[2]
        elif last is not None:
            self._parts["commits"].update(_COMMIT.pack(*last))
        self._commit = (first, time_ns, count)

    def _feed_cold(self, block: Block, commit_firsts: list[int]) -> None:
        parts = self._parts
        for first, count in zip(block.column("metadata_firsts"), block.column("metadata_counts"), strict=True):
            self._feed_metadata(block.first + first, count, block.metadata_of(first) or b"")
        for commit, token, digest in block.commit_keys():
            parts["keys"].update(_U64.pack(commit_firsts[commit]) + _sized(token) + digest)
        for number, name in block.declared_names():
            parts["names"].update(_U32.pack(number) + _sized(name.encode()))
        for number, name, schema in block.declared_types():
            parts["types"].update(_U32.pack(number) + _sized(name.encode()) + _sized(schema))
        for number, name_number, id_key in block.declared_streams():
            parts["streams"].update(_NUMBERS.pack(number, name_number) + _sized(id_key))
        store = block.store()
        if store is not None:
            parts["store"].update(_STORE.pack(*store))

    def _feed_metadata(self, first: int, count: int, raw: bytes) -> None:
        last = self._metadata
        if last is not None and last[0] + last[1] == first and last[2] == raw:
            self._metadata = (last[0], last[1] + count, raw)
            return
        if last is not None:
            self._parts["metadata"].update(_METADATA.pack(*last[:2]) + _sized(last[2]))
        self._metadata = (first, count, raw)

    def hexdigest(self) -> str:
        """The digest of what was fed so far."""
        parts = {name: part.copy() for name, part in self._parts.items()}
        if self._run is not None:
            parts["runs"].update(_RUN.pack(*self._run))
        if self._commit is not None:
            parts["commits"].update(_COMMIT.pack(*self._commit))
        if self._metadata is not None:
            first, count, raw = self._metadata
            parts["metadata"].update(_METADATA.pack(first, count) + _sized(raw))
        whole = hashlib.sha256(b"varve content 1" + _RANGE.pack(self.first, self.next_sequence))
        for part in parts.values():
            whole.update(part.digest())
        return whole.hexdigest()


def _sized(raw: bytes) -> bytes:
    return _U32.pack(len(raw)) + raw
