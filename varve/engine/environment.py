"""One open LMDB environment: how it is reserved, shared, forked, let go and found again.

Opening the same files twice in one process would break LMDB's locks, so every environment of the process stands in one
registry, keyed by the identity of its data file. An environment whose handle was let go while views of it live stays in
the registry (*lingering*): nobody refers to it but those views, reference counting unmaps it with the last of them, and
opening the store meanwhile adopts it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, cast

import lmdb

from varve import limits
from varve.engine import creation, files
from varve.engine.pins import Pins
from varve.errors import (
    CorruptedStore,
    DiskFull,
    ForkedStore,
    NotAVarveStore,
    ReadonlyStore,
    StoreAlreadyOpen,
    StoreClosed,
    StoreFailed,
    StoreFull,
    StoreUnavailable,
    TooManyReaders,
    VarveError,
    ViewsStillAlive,
)
from varve.logs import ERROR, INFO, say

if TYPE_CHECKING:
    from varve.engine.snapshot import Snapshot

Durability = Literal["full", "relaxed", "bulk"]
DURABILITIES: tuple[Durability, ...] = ("full", "relaxed", "bulk")

_INVALID_TRIES: Final = 10
_TRY_PAUSE_S: Final = 0.002
_READ_ENDS_TRIES: Final = 500

_registry: dict[tuple[int, int], _Entry] = {}
_registry_lock = threading.RLock()  # a store may be let go by the garbage collector while this thread opens another
_environments: weakref.WeakSet[Environment] = weakref.WeakSet()


class _Entry:
    """What the registry knows of an environment; holds it weakly."""

    def __init__(self, env: lmdb.Environment, settings: tuple[bool, Durability], pins: Pins) -> None:
        self.env = weakref.ref(env)
        self.settings = settings
        self.pins = pins
        self.lingering = False

    def has_gone(self) -> bool:
        """Whether the environment goes when nobody holds it but a read on another thread that was under way as it was closed."""
        for _ in range(_READ_ENDS_TRIES):
            if self.env() is None:
                return True
            time.sleep(_TRY_PAUSE_S)
        return False


class _Gone:
    """Stands where LMDB's environment stood once it was let go: every use raises what the handle refuses with."""

    def __init__(self, refusal: Callable[[], VarveError]) -> None:
        self._refusal = refusal

    def __getattr__(self, name: str) -> Any:
        raise self._refusal()


def lingering(path: str) -> lmdb.Environment | None:
    """The environment of a store whose handle was let go while views of it live; None where there is none.

    Raises ``StoreAlreadyOpen`` where this process has the store open.
    """
    with _registry_lock:
        entry = _registry.get(_identity(path))
        env = None if entry is None else entry.env()
        if entry is not None and env is not None and not entry.lingering:
            raise StoreAlreadyOpen(f"{path} is open already in this process; close it first", path=path)
        return env


def open_environment(path: str, map_bytes: int, **options: Any) -> lmdb.Environment:
    """LMDB's environment of an existing file, with as much address space reserved as the machine grants.

    Raises ``StoreUnavailable`` and its kin, ``CorruptedStore`` where LMDB refuses the file, ``DiskFull``.
    """
    tries = _INVALID_TRIES
    while True:
        try:
            return lmdb.open(
                path,
                map_size=map_bytes,
                mode=0o700,
                create=False,
                max_readers=limits.READERS_MAX,
                lib_version=0,
                **options,
            )
        except lmdb.MemoryError as exc:
            if map_bytes // 2 < limits.MAP_BYTES_MIN:
                raise StoreUnavailable(
                    f"cannot reserve even {map_bytes} bytes of address space for {path}", path=path
                ) from exc
            map_bytes //= 2
        except lmdb.InvalidError as exc:
            # Whoever was first prepares LMDB's lock file while others wait for it. Killed there, it leaves them with an
            # unfinished one, which LMDB calls invalid, and which the next to open prepares anew.
            if tries:
                tries -= 1
                time.sleep(_TRY_PAUSE_S)
                continue
            raise CorruptedStore(f"LMDB refuses {path}: {exc}; restore a backup", path=path) from exc
        except lmdb.Error as exc:
            # The same, with a lock file that is still empty; or the last use of it on another thread is just ending.
            if tries and (exc.code == errno.EINVAL or "already open" in str(exc)):
                tries -= 1
                time.sleep(_TRY_PAUSE_S)
                continue
            raise open_error(path, exc) from exc
        except OSError as exc:
            raise files.unavailable(path, exc) from exc


def open_error(path: str, exc: lmdb.Error) -> VarveError:
    """What LMDB says when it cannot open a file, as ours."""
    if "already open" in str(exc):
        return StoreAlreadyOpen(f"{path} is open already in this process; close it first", path=path)
    if exc.code in files.SPACE_ERRORS:
        return DiskFull(f"{path}: no room on the file system to create or open it ({exc})", path=path)
    if exc.code is not None and exc.code > 0:
        return files.unavailable(path, OSError(exc.code, os.strerror(exc.code)))
    return StoreUnavailable(f"LMDB cannot open {path}: {exc}", path=path)


class Environment:
    """An LMDB environment and its three sub-databases.

    ``refusal`` makes the error that every use meets once the handle is closed, forked or failed; None while it is
    usable. (It makes a new one each time: an error that is raised again would keep the frames of its first journey, and
    the views in them.)

    ``active`` holds a mark for each snapshot that is being read. It is put there before ``refusal`` is looked at, and
    closing sets ``refusal`` before it looks at ``active``: whoever is inside, on another thread, keeps the map until it
    is done.
    """

    def __init__(
        self, path: str, *, readonly: bool, durability: Durability, map_bytes: int, allow_network: bool
    ) -> None:
        self.path = path
        self.readonly = readonly
        self.durability: Durability = durability
        self.refusal: Callable[[], VarveError] | None = None
        self.active: set[int] = set()
        self.held: weakref.WeakSet[Snapshot] = weakref.WeakSet()
        self.is_sealed = files.is_sealed(path)
        self._refuse_sealed()
        creation.clear_unfinished(path, readonly=readonly)
        self.is_new = files.prepare(path, readonly=readonly, allow_network=allow_network)
        self.is_forked = False
        self.is_closed = False
        self._lock_fd = -1
        self._pid = os.getpid()
        self._was_usable = True
        self._side: dict[str, lmdb._Database] = {}
        self._side_lock = threading.Lock()
        settings = (readonly, durability)
        with _registry_lock:
            adopted = self._find(settings)
            self._lock_fd = files.lock_handle(path, exclusive=durability == "bulk", readonly=readonly)
            try:
                self.is_sealed = files.is_sealed(path)  # nobody seals it from here on: that takes our lock exclusively
                self._refuse_sealed()
                if adopted is None:
                    self.env = self._open(map_bytes)
                    self.pins = Pins()
                else:
                    env = adopted.env()
                    # Its last view may die on another thread just now.
                    self.env, self.pins = env or self._open(map_bytes), adopted.pins
                self._key = _identity(path)
                _registry[self._key] = _Entry(self.env, adopted.settings if adopted else settings, self.pins)
            except BaseException:
                self._release_lock()
                raise
        _environments.add(self)
        try:
            self.reap()
            self.log, self.index, self.meta = self._databases()
        except BaseException:
            self.release()
            raise

    # -- opening -----------------------------------------------------------------------------------

    def _refuse_sealed(self) -> None:
        if self.is_sealed and not self.readonly:
            raise files.sealed(self.path)

    def not_writable(self) -> VarveError:
        """The error for a write on a handle that only reads."""
        if self.is_sealed:
            return files.sealed(self.path)
        return ReadonlyStore(f"{self.path} was opened with readonly=True; open it without to write")

    def _find(self, settings: tuple[bool, Durability]) -> _Entry | None:
        """The lingering environment of this store, if there is one. Raises ``StoreAlreadyOpen``,
        ``ViewsStillAlive``."""
        try:
            key = _identity(self.path)
        except FileNotFoundError:
            return None
        entry = _registry.get(key)
        if entry is None or entry.env() is None:
            return None
        if not entry.lingering:
            raise StoreAlreadyOpen(
                f"{self.path} is open already in this process; use that handle, or close it first", path=self.path
            )
        # A handle that only reads may stand on any environment; one that writes needs what it asked for.
        if entry.settings != settings and not self.readonly:
            if not entry.pins.count and entry.has_gone():
                return None
            raise ViewsStillAlive(
                f"{self.path} was left while views of it were alive, and cannot be opened in another mode until they are dropped",
                count=entry.pins.count,
            )
        return entry

    def _open(self, map_bytes: int) -> lmdb.Environment:
        """LMDB's environment, made where the store is new."""
        if not self.is_sealed:
            files.check_room_for_readers(self.path, limits.READERS_MAX)
        if self.is_new:
            self._make_file()
        env = open_environment(
            self.path,
            map_bytes,
            readonly=self.readonly,
            lock=not self.is_sealed,  # nobody writes: LMDB's reader table would serve nobody
            metasync=self.durability == "full",
            sync=self.durability != "bulk",
            max_dbs=limits.DATABASES_MAX,
            max_spare_txns=1,
            readahead=True,
        )
        if self.is_new:
            self._sync_name(env)
        return env

    def _sync_name(self, env: lmdb.Environment) -> None:
        """A new file's name on disk."""
        try:
            files.sync_folder(self.path)
        except OSError as exc:
            env.close()
            raise files.unavailable(self.path, exc) from exc

    def _make_file(self) -> None:
        try:
            creation.make_data_file(self.path)
        except lmdb.Error as exc:
            raise open_error(self.path, exc) from exc
        except OSError as exc:
            if exc.errno in files.SPACE_ERRORS:
                raise DiskFull(f"{self.path}: no room on the file system to create it ({exc})", path=self.path) from exc
            raise files.unavailable(self.path, exc) from exc

    def _databases(self) -> list[lmdb._Database]:
        """The three sub-databases; made in one transaction where the store is new."""
        try:
            if self.readonly:
                return [self.env.open_db(name, create=False) for name in files.DATABASES]
            with self.env.begin(write=True) as transaction:
                databases = [self.env.open_db(name, transaction, create=True) for name in files.DATABASES]
                for name in files.SIDE_TABLES:  # those that are there, while we hold the writer's lock anyway
                    with contextlib.suppress(lmdb.NotFoundError):
                        self._side[name] = self.env.open_db(files.side_name(name), transaction, create=False)
                return databases
        except (lmdb.NotFoundError, lmdb.ReadonlyError):
            raise NotAVarveStore(
                f"{self.path} is an LMDB environment without Varve's databases", path=self.path
            ) from None
        except lmdb.MapFullError:
            raise StoreFull(
                f"{self.path}: map_bytes is too small to hold even an empty store", path=self.path
            ) from None
        except lmdb.Error as exc:
            raise open_error(self.path, exc) from exc

    def side(self, name: str) -> lmdb._Database | None:
        """The sub-database of a side table; None where no commit has made it yet.

        Ask before a transaction begins that shall read it: LMDB's transactions know the databases that were open then. The
        first one to ask after another process has made it waits for the commit that is running.
        """
        known = self._side.get(name)
        if known is None and self.has_side(name):
            with self._side_lock:
                if name not in self._side:
                    try:
                        self._side[name] = self.env.open_db(files.side_name(name), create=False)
                    except lmdb.Error as exc:
                        raise self.read_error(exc) from exc
                known = self._side.get(name)
        return known

    def has_side(self, name: str) -> bool:
        """Whether a side table has been made, in whichever process."""
        mark = object()  # another thread may close the store meanwhile: it is not unmapped under this read
        self.active.add(id(mark))
        try:
            with self.begin() as transaction:
                return self.names_side(name, transaction)
        finally:
            self.active.discard(id(mark))

    def names_side(self, name: str, transaction: lmdb.Transaction[memoryview]) -> bool:
        """Whether it has been at an instant."""
        try:
            return transaction.get(files.side_name(name)) is not None
        except lmdb.Error as exc:
            raise self.read_error(exc) from exc

    def opened_side(self, name: str) -> lmdb._Database | None:
        """The sub-database of a side table, if ``side`` has found it."""
        return self._side.get(name)

    def adopt_side(self, name: str, database: lmdb._Database) -> None:
        """Keep the sub-database of a side table that a transaction has opened, which is committed."""
        self._side.setdefault(name, database)

    def make_side(self, name: str) -> None:
        """Make the sub-database of a side table, durably. The caller holds the writer's lock. Raises ``lmdb.Error``."""
        with self._side_lock, self.env.begin(write=True) as transaction:
            database = self.env.open_db(files.side_name(name), transaction, create=True)
        self._side[name] = database

    # -- reading -----------------------------------------------------------------------------------

    def begin(self) -> lmdb.Transaction[memoryview]:
        """A read transaction whose values are memoryviews. Raises what ``refusal`` says, ``TooManyReaders``."""
        if self.refusal is not None:
            raise self.refusal()
        try:
            return self.env.begin(buffers=True)
        except lmdb.ReadersFullError:
            self.reap()
            with contextlib.suppress(lmdb.ReadersFullError):
                return self.env.begin(buffers=True)
            raise TooManyReaders(
                f"{self.path}: all {limits.READERS_MAX} reader slots are taken; drop views and close snapshots",
                path=self.path,
                limit=limits.READERS_MAX,
            ) from None
        except lmdb.MapResizedError:
            raise StoreFull(
                f"{self.path}: another process opened it with a larger map_bytes and wrote beyond this handle's; open it again",
                path=self.path,
            ) from None
        except lmdb.Error as exc:
            raise self.read_error(exc) from exc

    def reap(self) -> None:
        """Free the reader slots of processes that died: pages that they could still read are not used again."""
        with contextlib.suppress(lmdb.Error):  # nobody's commit or read hangs on it
            dead = self.env.reader_check()
            if dead:
                say(INFO, "%s: freed %d reader slots of processes that died", self.path, dead)

    # -- letting go --------------------------------------------------------------------------------

    def close(self, end: Callable[[], None]) -> None:
        """Unmap now, calling ``end`` when it is certain. Raises ``ViewsStillAlive`` and stays open where views hold the map;
        ``StoreFailed``, closed all the same, where bulk loading cannot be forced to disk."""
        usable = self.refusal
        self._check_views()
        self._refuse()
        try:
            self._check_views()  # a view that another thread was given just now
        except ViewsStillAlive:
            self.refusal = usable
            raise
        end()
        self._let_go()

    def release(self, *, in_use: bool = False) -> None:
        """Let go: unmapped now, or by the last view to die (or with the last use of it that the caller knows of)."""
        self._refuse()
        self._let_go(in_use=in_use)

    def fail(self, what: str, reason: str) -> StoreFailed:
        """Refuse everything from now on: the disk failed."""
        message = f"{self.path}: {what}. Look at the disk, then open it again"
        say(ERROR, "%s", message)
        path = self.path
        self.refusal = lambda: StoreFailed(message, path=path, reason=reason)
        return StoreFailed(message, path=path, reason=reason)

    def _check_views(self) -> None:
        alive = self.pins.count
        if alive:
            raise ViewsStillAlive(
                f"{self.path}: views hold {alive} snapshot{'s' * (alive != 1)} of the map. Drop them (varve.owned() copies an "
                "event), or leave the with block instead, which waits for nobody. The store stays open",
                count=alive,
            )

    def _refuse(self) -> None:
        self._was_usable = self.refusal is None
        self.refusal = lambda: StoreClosed(f"{self.path} was closed; open it again")

    def _let_go(self, *, in_use: bool = False) -> None:
        """Unmap the file, or leave that to the views and the reads on other threads that still need it."""
        self.is_closed = True
        env = self.env
        self.env = cast("lmdb.Environment", _Gone(lambda: StoreClosed(f"{self.path} was closed; open it again")))
        try:
            if self.durability == "bulk" and self._was_usable:
                env.sync(True)
        except lmdb.Error as exc:
            raise StoreFailed(
                f"{self.path}: closed, but what bulk loading wrote since the last db.sync() could not be forced to disk ({exc}). "
                "Look at the disk, then load it again",
                path=self.path,
                reason=str(exc),
            ) from exc
        finally:
            with _registry_lock:
                if in_use or self.pins.count or self.active:
                    _registry[self._key].lingering = True
                else:
                    _registry.pop(self._key, None)
                    env.close()
            del env  # an error that is kept keeps this frame, and must not keep the map
            self._release_lock()

    def warn_of_old_snapshots(self) -> None:
        """Warn, once for each, of pins and held snapshots older than ``SNAPSHOT_AGE_S_WARN``."""
        self.pins.warn_of_old()
        for snapshot in list(self.held) if self.held else ():
            snapshot.warn_if_old()

    def read_error(self, exc: lmdb.Error) -> VarveError:
        """What LMDB says of a page that is not what it should be, or of a read that the system refuses."""
        if isinstance(exc, lmdb.CorruptedError | lmdb.PageNotFoundError | lmdb.BadTxnError):
            return CorruptedStore(
                f"{self.path}: LMDB finds a damaged page ({exc}); look at it with varve.ops.verify, restore a backup",
                path=self.path,
            )
        return StoreFailed(f"{self.path}: cannot read: {exc}", path=self.path, reason=str(exc))

    def check_usable(self) -> None:
        """Raise what ``refusal`` says."""
        if self.refusal is not None:
            raise self.refusal()

    def file_bytes(self) -> int:
        """Length of the data file."""
        return os.path.getsize(os.path.join(self.path, files.DATA))

    def last_page(self) -> int:
        """Number of the last page in use: how far the file has grown."""
        return self.env.info()["last_pgno"]

    def _release_lock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def forget(self) -> None:
        """In the child of a fork: refuse everything, close nothing of LMDB's.

        The reader slots and the map belong to the parent. References are dropped as the program drops them: py-lmdb's
        destructors do nothing in a process that did not open the environment.
        """
        self.is_forked = True
        self.refusal = lambda: ForkedStore(
            f"{self.path} was opened by the parent process {self._pid}; open it again in this one, or fork before opening"
        )
        self._release_lock()  # our copy of the descriptor: the parent's lock stays

    def readers(self) -> Iterator[tuple[int, int | None]]:
        """``(process id, snapshot id or None)`` of each reader slot in use."""
        for line in self.env.readers().splitlines()[1:]:
            fields = line.split()
            if len(fields) == 3:
                yield int(fields[0]), None if fields[2] == "-" else int(fields[2])


def _identity(path: str) -> tuple[int, int]:
    status = os.stat(os.path.join(path, files.DATA))
    return status.st_dev, status.st_ino


def _after_fork_in_child() -> None:
    global _registry_lock  # noqa: PLW0603 - a thread that is gone in the child may have held it
    _registry_lock = threading.RLock()
    for environment in list(_environments):
        environment.forget()
    for entry in _registry.values():
        # py-lmdb's environment, when it is freed in the child, frees the reader slot of the parent's spare transaction:
        # it is never freed.
        env = entry.env()
        if env is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(env))
    _registry.clear()
    _unguard_lmdb()


def _unguard_lmdb() -> None:
    """Let the child open the files that its parent has open.

    py-lmdb refuses to open a file twice in one process and remembers what was open across a fork, where it is another
    process: fcntl locks are not inherited. The identities it compares get the child's process id in front, so that the
    guard still works among the child's own environments. Where py-lmdb is built otherwise, the child's open is refused
    with ``StoreAlreadyOpen``.
    """
    try:
        from lmdb import _envid
    except ImportError:  # pragma: no cover - another py-lmdb
        return
    inherited: Any = getattr(_envid, "env_keys", None)
    if inherited is not None:
        pid = os.getpid()
        _envid.env_keys = lambda path, subdir: tuple((pid, key) for key in inherited(path, subdir))


os.register_at_fork(after_in_child=_after_fork_in_child)
