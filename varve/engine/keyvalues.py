"""Keys and values in an LMDB environment of their own, in a folder inside the store's.

What is derived from the log and may be large, saved state above all, lies there: its pages do not fragment the log's file, its
commits do not wait for the log's, and where it is lost nothing is. The folder is made by the first write::

    <name>/data.mdb    one sub-database, ``varve.<name>``
    <name>/lock.mdb    LMDB's

It belongs to an open store, whose handle it follows: read-only where that is, refusing whatever that refuses, closed with it. One
use at a time in a process, each short, so that closing has only that to wait for; nothing is held between them. Whoever finds it
damaged may remove the folder, also while stores are open: the next use of each sees that, and goes on with what is there now.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import lmdb
from typing_extensions import override

from varve.engine import creation, files
from varve.engine.environment import make_file, open_environment
from varve.engine.failures import failed
from varve.engine.opened import Opened
from varve.errors import CorruptedStore, StoreClosed, StoreFailed, VarveError

if TYPE_CHECKING:
    from varve.engine.environment import Environment

_all: weakref.WeakSet[KeyValues] = weakref.WeakSet()


class Value:
    """A value where it lies, for as long as the ``with`` block lasts in which it was found."""

    __slots__ = ("_data", "_pairs")

    def __init__(self, data: memoryview, pairs: Pairs) -> None:
        self._data = data
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._data)

    def part(self, start: int = 0, stop: int | None = None) -> bytes:
        """A copy of some of its bytes. Raises ``StoreClosed`` after the block."""
        self._pairs.check()
        return bytes(self._data[start:stop])


class Pairs:
    """What there is at one instant, or inside a write transaction. Keys are 1 to 511 bytes long."""

    __slots__ = ("_database", "_open", "_transaction", "written_bytes")

    def __init__(self, transaction: lmdb.Transaction[memoryview], database: lmdb._Database) -> None:
        self._transaction = transaction
        self._database = database
        self._open = True
        self.written_bytes = 0

    def check(self) -> None:
        """Raise ``StoreClosed`` once the block is left."""
        if not self._open:
            raise StoreClosed("the with block in which this was read is left")

    def end(self) -> None:
        """Nothing is read any more."""
        self._open = False

    def get(self, key: bytes) -> Value | None:
        """The value of a key."""
        self.check()
        data = self._transaction.get(key, db=self._database)
        return None if data is None else Value(data, self)

    def below(self, key: bytes) -> tuple[bytes, Value] | None:
        """The last pair before a key."""
        self.check()
        with self._transaction.cursor(self._database) as cursor:
            return self._item(cursor) if (cursor.prev() if cursor.set_range(key) else cursor.last()) else None

    def from_(self, key: bytes) -> tuple[bytes, Value] | None:
        """The first pair from a key on."""
        self.check()
        with self._transaction.cursor(self._database) as cursor:
            return self._item(cursor) if cursor.set_range(key) else None

    def _item(self, cursor: lmdb.Cursor[memoryview]) -> tuple[bytes, Value]:
        key, data = cursor.item()
        return bytes(key), Value(data, self)

    def put(self, key: bytes, value: bytes) -> None:
        """Store a value, in a write transaction."""
        self.check()
        self.written_bytes += len(key) + len(value)
        self._transaction.put(key, value, db=self._database)

    def delete(self, key: bytes) -> None:
        """Remove a key, in a write transaction; nothing happens where it is not there."""
        self.check()
        self._transaction.delete(key, db=self._database)


class KeyValues(Opened):
    """The environment of a name inside a store. Thread-safe."""

    def __init__(self, owner: Environment, name: str, map_bytes: int) -> None:
        self.path = os.path.join(owner.path, name)
        self.refusal: Callable[[], VarveError] | None = None
        self._owner = owner
        self._table = files.side_name(name)
        self._map_bytes = map_bytes
        self._lock = threading.RLock()
        self._users = 0
        self._is_open = False
        self._is_ending = False
        self._database: lmdb._Database | None = None
        self._file: tuple[int, int] | None = None
        _all.add(self)

    @contextlib.contextmanager
    def reading(self) -> Iterator[Pairs | None]:
        """What there is now; None where nothing was ever written. Raises ``IntegrityError`` where LMDB refuses the file, and what
        every use of the store may raise."""
        with self._inside():
            database = self._found()
            if database is None:
                yield None
                return
            try:
                with self.begin() as transaction:
                    pairs = Pairs(transaction, database)
                    try:
                        yield pairs
                    finally:
                        pairs.end()
            except lmdb.Error as exc:
                raise self.read_error(exc) from exc

    @contextlib.contextmanager
    def writing(self) -> Iterator[Pairs]:
        """A write transaction: durable when the block is left, undone where that raises.

        Raises ``ReadonlyStore``, ``DiskFull``, ``StoreFull``, ``StoreFailed``, ``CommitOutcomeUnknown``, ``IntegrityError``, and
        what every use of the store may raise.
        """
        self._owner.check_usable()
        if self._owner.readonly:
            raise self._owner.not_writable()
        with self._inside():
            database = self._made()
            pairs: Pairs | None = None
            try:
                self.reap()
                with self.env.begin(write=True, buffers=True) as transaction:
                    pairs = Pairs(transaction, database)
                    try:
                        yield pairs
                    finally:
                        pairs.end()
            except lmdb.Error as exc:
                raise failed(self, exc, pairs.written_bytes if pairs is not None else 0) from exc

    @contextlib.contextmanager
    def _inside(self) -> Iterator[None]:
        """One use of it."""
        self._owner.check_usable()  # before the lock: after a fork a thread that is gone may hold it
        with self._lock:
            self._owner.check_usable()  # whoever closes sets this before he waits for us
            if self._is_open and not self._users and self._file != files.identity(self.path):
                self._close()  # or what is written would be gone with the folder that somebody has removed
                self.refusal = None
            self.check_usable()
            self._users += 1
            try:
                yield
            finally:
                self._users -= 1
                self._end_if_idle()

    # -- opening -----------------------------------------------------------------------------------

    def _found(self) -> lmdb._Database | None:
        """The sub-database, if there is one."""
        if self._database is None and (self._is_open or files.has_data(self.path)):
            self._open()
            try:
                self._database = self.env.open_db(self._table, create=False)
            except lmdb.NotFoundError:
                return None  # whoever makes it has not come so far, or never did
            except lmdb.Error as exc:
                raise self.read_error(exc) from exc
        return self._database

    def _made(self) -> lmdb._Database:
        """The sub-database, made where there is none."""
        if self._database is None:
            if not self._is_open:
                self._make_files()
                self._open()
            try:
                with self.env.begin(write=True) as transaction:
                    self._database = self.env.open_db(self._table, transaction, create=True)
            except lmdb.Error as exc:
                self._database = None
                raise failed(self, exc, 0) from exc
        return self._database

    def _make_files(self) -> None:
        try:
            files.make_folder(self.path)
            creation.clear_unfinished(self.path, readonly=False)
            if not files.has_data(self.path):
                make_file(self.path)
                files.sync_folder(self.path)
        except OSError as exc:
            if isinstance(exc, VarveError):
                raise
            raise files.unavailable(self.path, exc) from exc

    def _open(self) -> None:
        if self._is_open:
            return
        owner = self._owner
        self._file = files.identity(self.path)  # before it is opened: if it is another one then, the next use sees that
        files.check_data_file(self.path, (self._table,))
        if not owner.is_sealed:
            files.check_room_for_readers(self.path, 1)
        self.env = open_environment(
            self.path,
            self._map_bytes,
            readonly=owner.readonly,
            lock=not owner.is_sealed,
            metasync=owner.durability != "relaxed",
            max_dbs=1,
            max_spare_txns=1,
        )
        self._is_open = True

    # -- ending ------------------------------------------------------------------------------------

    def close(self, *, wait: bool = True) -> None:
        """Unmap, after the use that is under way; without ``wait`` that does it."""
        self._is_ending = True
        if self._lock.acquire(blocking=wait):
            try:
                self._end_if_idle()
            finally:
                self._lock.release()

    def _end_if_idle(self) -> None:
        if self._is_ending and not self._users and self._is_open:
            self._close()

    def _close(self) -> None:
        self._is_open = False
        self._database = None
        self.env.close()

    def forget(self) -> None:
        """In the child of a fork: close nothing. (py-lmdb's destructor would free a reader slot of the parent's.)"""
        if self._is_open:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self.env))

    @override
    def read_error(self, exc: lmdb.Error) -> VarveError:
        if isinstance(exc, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.BadTxnError):
            return CorruptedStore(
                f"{self.path}: LMDB finds a damaged page ({exc}). What is in there is derived from the log: remove the folder",
                path=self.path,
            )
        return StoreFailed(f"{self.path}: cannot read: {exc}", path=self.path, reason=str(exc))


def _after_fork_in_child() -> None:
    for one in list(_all):
        one.forget()


os.register_at_fork(after_in_child=_after_fork_in_child)
