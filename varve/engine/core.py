"""The engine as the rest of Varve sees it: snapshots out of it, commits into it."""

from __future__ import annotations

import contextlib
import os
import uuid
import weakref
from collections.abc import Callable, Generator
from typing import Any

import lmdb

from varve.engine.catalog import Catalog
from varve.engine.commit import Session, Writer
from varve.engine.environment import Durability, Environment
from varve.engine.request import CommitRequest, Committed
from varve.engine.snapshot import CheckedBlocks, Snapshot
from varve.errors import CorruptedStore, NotAVarveStore, StoreFailed, UnsupportedFormat
from varve.layout import keys, records
from varve.layout.records import StoreRecord


class StoreClosing(BaseException):
    """Thrown into a running iterator when its store closes: it lets its memory go and raises ``StoreClosed`` when
    resumed."""


class Engine:
    """One open store, without events' meaning: blocks, runs, metadata in and out."""

    def __init__(
        self,
        path: str,
        *,
        readonly: bool,
        durability: Durability,
        map_bytes: int,
        allow_network: bool,
        clock: Callable[[], int],
    ) -> None:
        self.environment = Environment(
            os.path.abspath(path),
            readonly=readonly,
            durability=durability,
            map_bytes=map_bytes,
            allow_network=allow_network,
        )
        self.catalog = Catalog()
        self.checked = CheckedBlocks()
        self._iterators: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()
        try:
            self.created = self._found(clock)
            self._writer = Writer(self.environment, self.catalog, self.checked, clock)
        except BaseException:
            self.environment.release()
            raise

    @property
    def path(self) -> str:
        """The store's folder."""
        return self.environment.path

    def _found(self, clock: Callable[[], int]) -> StoreRecord:
        """The store's record; made where the store is new. Raises ``NotAVarveStore``, ``UnsupportedFormat``,
        ``CorruptedStore``."""
        environment = self.environment
        with environment.begin() as transaction:
            stored = transaction.get(keys.STORE_RECORD_KEY, db=environment.meta)
            value = None if stored is None else bytes(stored)
        if value is None:
            if environment.readonly:
                raise NotAVarveStore(
                    f"{self.path} was never finished being created; open it once without readonly", path=self.path
                )
            value = self._create(clock)
        record = records.decode_store_record(value)
        if record is None:
            raise CorruptedStore(
                f"{self.path}: the store's record is damaged; rebuild the metadata with varve.ops", path=self.path
            )
        if isinstance(record, int):
            raise UnsupportedFormat(
                f"{self.path} has format version {record}; this Varve reads up to {records.FORMAT_VERSION}. Upgrade varve-store",
                path=self.path,
                found=record,
                supported=records.FORMAT_VERSION,
            )
        return record

    def _create(self, clock: Callable[[], int]) -> bytes:
        environment = self.environment
        try:
            with environment.env.begin(write=True) as transaction:
                stored = transaction.get(keys.STORE_RECORD_KEY, db=environment.meta)
                if stored is not None:  # another process was faster
                    return stored
                if transaction.stat(environment.log)["entries"]:
                    raise CorruptedStore(
                        f"{self.path} has a log but no store record; rebuild the metadata with varve.ops",
                        path=self.path,
                    )
                record = StoreRecord(uuid.uuid4().bytes, clock()).encode()
                transaction.put(keys.STORE_RECORD_KEY, record, db=environment.meta)
                return record
        except lmdb.Error as exc:
            raise StoreFailed(f"{self.path}: cannot create the store: {exc}", path=self.path, reason=str(exc)) from exc

    # -- reading and writing -----------------------------------------------------------------------

    def snapshot(self, limit: int | None = None) -> Snapshot:
        """The newest instant."""
        return Snapshot(self.environment, self.catalog, self.checked, limit=limit)

    def commit(self, request: CommitRequest) -> Committed:
        """Make one commit durable."""
        return self._writer.commit(request)

    def session(self) -> contextlib.AbstractContextManager[Session]:
        """The write transaction itself, for ``db.write``."""
        return self._writer.session()

    def sync(self) -> None:
        """Force everything committed so far to disk."""
        if self.environment.refusal is not None:
            raise self.environment.refusal()
        self.environment.env.sync(True)

    def track(self, iterator: Generator[Any, None, None]) -> None:
        """Close this iterator when the store closes."""
        self._iterators.add(iterator)

    # -- ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Unmap now. Raises ``ViewsStillAlive`` and stays open where the user's views hold the map."""
        if self._ended():
            return
        self._end_iterators()
        self.environment.close()

    def release(self) -> None:
        """Let go without waiting: unmapped with the last view."""
        if self._ended():
            return
        self._end_iterators()
        self.environment.release()

    def _ended(self) -> bool:
        return self.environment.is_closed or self.environment.is_forked

    def _end_iterators(self) -> None:
        for iterator in list(self._iterators):
            with contextlib.suppress(
                ValueError, StopIteration, StoreClosing
            ):  # ValueError: another thread is inside it
                iterator.throw(StoreClosing())
