"""Bare py-lmdb, one entry per event: what Varve is compared with.

Three sub-databases as in VarveDB: ``log`` (global sequence -> FlatBuffer), ``index`` (stream, stream sequence -> global
sequence) and ``meta`` (stream -> its length). Every event puts an entry into each of the three; with ``meta_once`` the
stream's length is put once per commit instead, which is the least that such a store can do. Payloads are given already
encoded; keys are packed inside the measured loop, as any such store must.
"""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator, Sequence
from itertools import repeat
from pathlib import Path

import lmdb

MAP_BYTES = 1 << 36

pack_sequence = struct.Struct(">Q").pack
pack_entry = struct.Struct(">QQ").pack


class Bare:
    """An open environment with its three sub-databases."""

    def __init__(self, path: Path, *, sync: bool = True) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self.env = lmdb.open(
            str(path), map_size=MAP_BYTES, max_dbs=3, metasync=sync, sync=sync, max_spare_txns=1, lib_version=0
        )
        self.log, self.index, self.meta = (self.env.open_db(name) for name in (b"log", b"index", b"meta"))
        with self.env.begin() as txn:
            self.events = txn.stat(self.log)["entries"]

    def put_loop(self, stream: int, payloads: Sequence[bytes], *, meta_once: bool = False) -> None:
        """One commit, a ``put`` for every entry (``append=True`` where the keys rise: not for a length that is put again)."""
        first = self.events
        log, index, meta = self.log, self.index, self.meta
        stream_key = pack_sequence(stream)
        with self.env.begin(write=True) as txn:
            put = txn.put
            for sequence, payload in enumerate(payloads, first):
                key = pack_sequence(sequence)
                put(key, payload, append=True, db=log)
                put(pack_entry(stream, sequence), key, append=True, db=index)
                if not meta_once:
                    put(stream_key, pack_sequence(sequence + 1), db=meta)
            if meta_once:
                put(stream_key, pack_sequence(first + len(payloads)), db=meta)
        self.events += len(payloads)

    def putmulti(self, stream: int, payloads: Sequence[bytes], *, meta_once: bool = False) -> None:
        """One commit, one ``putmulti`` for each sub-database."""
        first, last = self.events, self.events + len(payloads)
        sequences = range(first, last)
        lengths = range(last, last + 1) if meta_once else range(first + 1, last + 1)
        entries = (
            (self.log, zip(map(pack_sequence, sequences), payloads, strict=True), True),
            (self.index, zip(map(pack_entry, repeat(stream), sequences), map(pack_sequence, sequences)), True),  # noqa: B905 - repeat has no end
            (self.meta, zip(repeat(pack_sequence(stream)), map(pack_sequence, lengths)), False),
        )
        with self.env.begin(write=True) as txn:
            for database, items, append in entries:
                with txn.cursor(database) as cursor:
                    cursor.putmulti(items, append=append)
        self.events += len(payloads)

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
def bare(path: Path, *, sync: bool = True) -> Iterator[Bare]:
    """An environment, closed after the block."""
    opened = Bare(path, sync=sync)
    try:
        yield opened
    finally:
        opened.close()
