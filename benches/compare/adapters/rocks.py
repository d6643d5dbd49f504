"""rocksdict: RocksDB, an entry per event and one in an index."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rocksdict import Options, Rdict, WriteBatch, WriteOptions

from benches.baselines import pack_entry, pack_sequence
from benches.compare.peers import Store
from benches.events import OrderPlaced
from varve.codec import event_type

_INDEX = "index"


class Rocks(Store):
    """Raw bytes; the log in the default column family, the index in one of its own."""

    def __init__(self, path: Path) -> None:
        options = Options(raw_mode=True)
        families = {_INDEX: Options(raw_mode=True)}
        self._db = Rdict(str(path), options, column_families=families if path.exists() else None)
        if _INDEX not in Rdict.list_cf(str(path)):
            self._db.create_column_family(_INDEX, Options(raw_mode=True))
        self._index = self._db.get_column_family_handle(_INDEX)
        self._log = self._db.get_column_family_handle("default")
        self._write = WriteOptions()
        self._write.sync = True
        last = next(iter(self._db.keys(backwards=True)), None)
        self._count = 0 if last is None else int.from_bytes(last, "big") + 1

    @classmethod
    def prepare(cls, events: Sequence[OrderPlaced]) -> Sequence[Any]:
        return list(map(event_type(OrderPlaced).pack, events))

    def append(self, prepared: Sequence[Any]) -> None:
        batch = WriteBatch(raw_mode=True)
        put, log, index = batch.put, self._log, self._index
        for sequence, payload in enumerate(prepared, self._count):
            key = pack_sequence(sequence)
            put(key, payload, log)
            put(pack_entry(0, sequence), key, index)
        self._db.write(batch, self._write)
        self._count += len(prepared)

    def amounts(self) -> tuple[int, int]:
        view, count, total = event_type(OrderPlaced).view, 0, 0
        for payload in self._db.values():
            count += 1
            total += view(payload).amount
        return count, total

    def durable(self) -> bool:
        return bool(self._write.sync and not self._write.disable_wal)

    def close(self) -> None:
        self._db.close()
