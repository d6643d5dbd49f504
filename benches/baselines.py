"""Bare py-lmdb, one entry per event: what Varve is compared with.

Two sub-databases are the least for an event store: ``log`` (global sequence -> FlatBuffer) and ``index`` (stream, stream
sequence -> global sequence). Others keep a third, ``meta`` (stream -> its length), as VarveDB does: ``lengths`` says whether it
is put never, once per commit, or with each event. Payloads are given already encoded, unless a case says otherwise; keys are
packed inside the measured loop, as any such store must.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from typing import Any, Literal

import lmdb

MAP_BYTES = 1 << 36

pack_sequence = struct.Struct(">Q").pack
pack_entry = struct.Struct(">QQ").pack


Lengths = Literal["never", "once", "each"]


class Bare:
    """An open environment with its three sub-databases. ``durability`` as Varve's levels of these names."""

    def __init__(self, path: Path, *, durability: str = "full", lengths: Lengths = "never") -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.env = lmdb.open(
            str(path),
            map_size=MAP_BYTES,
            max_dbs=3,
            metasync=durability == "full",
            sync=durability != "bulk",
            max_spare_txns=1,
            lib_version=0,
        )
        self.log, self.index, self.meta = (self.env.open_db(name) for name in (b"log", b"index", b"meta"))
        self.lengths = lengths
        with self.env.begin() as txn:
            self.events = txn.stat(self.log)["entries"]

    def put_loop(self, stream: int, payloads: Iterable[bytes | bytearray]) -> None:
        """One commit, a ``put`` for every entry (``append=True`` where the keys rise: not for a length that is put again)."""
        log, index, meta, each = self.log, self.index, self.meta, self.lengths == "each"
        stream_key, sequence = pack_sequence(stream), self.events
        with self.env.begin(write=True) as txn:
            put = txn.put
            for payload in payloads:
                key = pack_sequence(sequence)
                put(key, payload, append=True, db=log)
                put(pack_entry(stream, sequence), key, append=True, db=index)
                sequence += 1
                if each:
                    put(stream_key, pack_sequence(sequence), db=meta)
            if self.lengths == "once":
                put(stream_key, pack_sequence(sequence), db=meta)
        self.events = sequence

    def put_many(self, streams: Sequence[int], payloads: Sequence[bytes]) -> None:
        """One commit of events for a stream each: the index's keys do not rise."""
        log, index, sequence = self.log, self.index, self.events
        with self.env.begin(write=True) as txn:
            put = txn.put
            for stream, payload in zip(streams, payloads, strict=True):
                key = pack_sequence(sequence)
                put(key, payload, append=True, db=log)
                put(pack_entry(stream, sequence), key, db=index)
                sequence += 1
        self.events = sequence

    def putmulti(self, stream: int, payloads: Iterable[bytes | bytearray], count: int) -> None:
        """One commit of ``count`` payloads, one ``putmulti`` for each sub-database."""
        first, last = self.events, self.events + count
        sequences = range(first, last)
        entries: list[tuple[Any, Iterable[tuple[bytes, bytes | bytearray]], bool]] = [
            (self.log, zip(map(pack_sequence, sequences), payloads, strict=True), True),
            (self.index, zip(map(pack_entry, repeat(stream), sequences), map(pack_sequence, sequences)), True),  # noqa: B905 - repeat has no end
        ]
        if self.lengths != "never":
            put = range(last, last + 1) if self.lengths == "once" else range(first + 1, last + 1)
            entries.append((self.meta, zip(repeat(pack_sequence(stream)), map(pack_sequence, put)), False))
        with self.env.begin(write=True) as txn:
            for database, items, append in entries:
                with txn.cursor(database) as cursor:
                    cursor.putmulti(items, append=append)
        self.events = last

    def put_one(self, payload: bytes) -> None:
        """One commit of one entry in the log: the least that an LMDB store can do for an event."""
        with self.env.begin(write=True) as txn:
            txn.put(pack_sequence(self.events), payload, append=True, db=self.log)
        self.events += 1

    def walk(self) -> int:
        """Every entry of the log through a bare cursor loop; returns their number."""
        count = 0
        with self.env.begin(buffers=True) as txn, txn.cursor(self.log) as cursor:
            for _, _ in cursor:
                count += 1
        return count

    def payloads(self) -> Iterator[memoryview]:
        """The log's values; each is valid until the next step."""
        with self.env.begin(buffers=True) as txn, txn.cursor(self.log) as cursor:
            yield from cursor.iternext(keys=False, values=True)

    def last(self, count: int) -> Iterator[bytes]:
        """Copies of the last values."""
        with self.env.begin() as txn:
            for sequence in range(self.events - count, self.events):
                yield txn.get(pack_sequence(sequence), b"", db=self.log)

    def close(self) -> None:
        """Close the environment."""
        self.env.close()


@contextlib.contextmanager
def bare(path: Path, *, durability: str = "full", lengths: Lengths = "never") -> Iterator[Bare]:
    """An environment, closed after the block."""
    opened = Bare(path, durability=durability, lengths=lengths)
    try:
        yield opened
    finally:
        opened.close()
