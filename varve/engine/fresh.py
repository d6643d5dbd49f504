"""A new store made from pairs: written under a temporary name, renamed when it is on disk."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import lmdb

from varve import limits
from varve.engine import files
from varve.engine.environment import Environment
from varve.engine.keyvalues import KeyValues
from varve.errors import DiskFull, InvalidInput, StoreAlreadyOpen, StoreFailed, StoreInUse, VarveError

_BATCH = 4_096
_BATCH_BYTES = 16 * 2**20


def _batches(pairs: Iterable[tuple[bytes, bytes]]) -> Iterator[list[tuple[bytes, bytes]]]:
    """As many at a time as a transaction should write."""
    batch: list[tuple[bytes, bytes]] = []
    held = 0
    for pair in pairs:
        batch.append(pair)
        held += len(pair[1])
        if len(batch) == _BATCH or held >= _BATCH_BYTES:
            yield batch
            batch, held = [], 0
    if batch:
        yield batch


class FreshStore:
    """A store in the making; a context manager. ``finish`` gives it its name; left without that, nothing of it remains.

    Raises ``InvalidInput`` where the target, or what an earlier attempt left, exists; ``DiskFull``, ``StoreFailed``;
    ``StoreUnavailable`` and its kin where the folder cannot be used.
    """

    def __init__(self, target: str) -> None:
        self.target = os.path.abspath(target)
        self.unfinished = f"{self.target}.unfinished"
        if os.path.lexists(self.target):
            raise InvalidInput(
                f"{self.target} exists already; name a folder that does not exist: nothing is done in place"
            )
        if os.path.lexists(self.unfinished):
            raise InvalidInput(
                f"{self.unfinished} exists, left by an attempt that was cut off or is still running; remove it first"
            )
        try:
            self._environment: Environment | None = Environment(
                self.unfinished, readonly=False, durability="bulk", map_bytes=limits.MAP_BYTES, allow_network=True
            )
        except (StoreAlreadyOpen, StoreInUse):
            raise  # somebody began at the same moment: it is his
        except BaseException:
            shutil.rmtree(self.unfinished, ignore_errors=True)
            raise

    def put(self, table: str, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Add pairs, in key order and behind those that are there, to ``log``, ``index``, ``meta`` or a side table."""
        environment = self._environment
        assert environment is not None
        database = getattr(environment, table, None) if table in {"log", "index", "meta"} else self._side(table)
        for batch in _batches(pairs):
            self._put(environment, database, batch)

    def put_beside(self, name: str, pairs: Iterable[tuple[bytes, bytes]]) -> None:
        """Put pairs, in key order, into an environment of its own beside the store's; none is made where there are none."""
        environment = self._environment
        assert environment is not None
        beside = KeyValues(environment, name, limits.MAP_BYTES)
        try:
            for batch in _batches(pairs):
                with beside.writing() as writing:
                    for key, value in batch:
                        writing.put(key, value)
        finally:
            beside.close()

    def _side(self, table: str) -> lmdb._Database | None:
        assert self._environment is not None
        if self._environment.opened_side(table) is None:
            self._environment.make_side(table)
        return self._environment.opened_side(table)

    def _put(self, environment: Environment, database: lmdb._Database | None, pairs: list[tuple[bytes, bytes]]) -> None:
        try:
            with environment.env.begin(write=True) as transaction, transaction.cursor(database) as cursor:
                cursor.putmulti(pairs, append=True)
        except lmdb.Error as exc:
            raise self._failed(exc) from exc

    def _failed(self, exc: lmdb.Error | StoreFailed) -> VarveError:
        code = getattr(exc.__cause__ or exc, "code", None)  # what the system said, of LMDB's error
        if code in files.SPACE_ERRORS or files.free_bytes(os.path.dirname(self.target)) < 2**20:
            return DiskFull(f"no room for {self.target}; free some and retry: nothing was kept", path=self.target)
        return StoreFailed(f"cannot write {self.target}: {exc}; nothing was kept", path=self.target, reason=str(exc))

    def close(self) -> None:
        """Bring what was put to the disk, still under the temporary name."""
        environment, self._environment = self._environment, None
        if environment is not None:
            try:
                environment.release()
            except StoreFailed as exc:
                raise self._failed(exc) from exc

    def finish(self) -> None:
        """Give it its name."""
        self.close()
        if os.path.lexists(self.target):
            raise InvalidInput(f"{self.target} was made by somebody else meanwhile")
        try:
            os.rename(self.unfinished, self.target)
            files.sync_folder(os.path.dirname(self.target))
        except OSError as exc:
            raise files.unavailable(self.target, exc) from exc

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        finally:
            shutil.rmtree(self.unfinished, ignore_errors=True)
