"""What the engine tests share: two event classes, scripts in subprocesses, damage and faults on purpose."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import lmdb

import varve

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@varve.event
class Note:
    number: varve.u64
    text: str


@varve.event
class Mark:
    number: varve.u64


@varve.event(name="frames.Number")
class Number:
    value: varve.u64


@varve.event
class Blob:
    number: varve.u64
    data: bytes


def blob(number: int, size: int) -> Blob:
    """A big event whose bytes tell its number."""
    return Blob(number, bytes([number % 251]) * size)


# -- subprocesses ---------------------------------------------------------------------------------------------------


def start_script(script: str, *args: object) -> subprocess.Popen[str]:
    """A script in an interpreter of its own."""
    environment = dict(
        os.environ, PYTHONPATH=os.pathsep.join((str(ROOT), str(HERE))), PYTHONWARNINGS="ignore::DeprecationWarning"
    )
    return subprocess.Popen(
        [sys.executable, "-X", "faulthandler", "-c", script, *map(str, args)],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str], timeout_s: float = 300) -> str:
    """Its output; a failure where it crashed, raised or wrote anything to stderr."""
    try:
        out, err = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(f"the script hangs\n{out}\n{err}") from None
    assert process.returncode == 0, f"exit code {process.returncode}\n{out}\n{err}"
    assert err == "", err
    return out


def run_script(script: str, *args: object) -> str:
    """Run a script to its end; its output."""
    return finish(start_script(script, *args))


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder in memory where the machine has one: for tests of very many commits, whose subject is not the disk."""
    shm = "/dev/shm"
    with tempfile.TemporaryDirectory(prefix="varve-", dir=shm if os.access(shm, os.W_OK) else None) as folder:
        yield Path(folder)


# -- damage -----------------------------------------------------------------------------------------------------------


@contextmanager
def raw_lmdb(
    path: os.PathLike[str], *, write: bool = True
) -> Iterator[tuple[lmdb.Transaction, dict[str, lmdb._Database]]]:
    """A transaction behind the library's back, and the three sub-databases."""
    env = lmdb.open(os.fspath(path), max_dbs=16, map_size=1 << 30, lib_version=0, readonly=not write)
    try:
        databases = {name: env.open_db(b"varve." + name.encode(), create=False) for name in ("log", "index", "meta")}
        with env.begin(write=write) as transaction:
            yield transaction, databases
    finally:
        env.close()


def log_frames(path: os.PathLike[str]) -> list[bytes]:
    """Every frame of a closed store's log, in order."""
    with raw_lmdb(path, write=False) as (transaction, databases), transaction.cursor(databases["log"]) as cursor:
        return [bytes(value) for _, value in cursor]


def flip(path: os.PathLike[str], needle: bytes, offset: int = 0) -> int:
    """Flip a bit in every place of the closed data file where ``needle`` stands (older copies of a page too); how
    many."""
    data = Path(path) / "data.mdb"
    raw = bytearray(data.read_bytes())
    places = [match.start() for match in re.finditer(re.escape(needle), raw)]
    for place in places:
        raw[place + offset] ^= 0x10
    data.write_bytes(raw)
    return len(places)


# -- faults -------------------------------------------------------------------------------------------------------------


class FaultyEnvironment:
    """Stands before LMDB's environment: transactions fail as they are told to.

    ``on_begin``, ``on_commit`` and ``on_put`` are called at each such step of a write transaction and raise what shall go wrong,
    ``on_read`` at the beginning of a read transaction and at each step that reads, in either kind.
    """

    def __init__(self, env: lmdb.Environment) -> None:
        self._env = env
        self.on_read: Callable[[], None] | None = None
        self.on_begin: Callable[[], None] = lambda: None
        self.on_commit: Callable[[], None] = lambda: None
        self.on_put: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> object:
        return getattr(self._env, name)

    def begin(self, *args: object, write: bool = False, **kwargs: object) -> object:
        if not write:
            if self.on_read is None:
                return self._env.begin(*args, write=False, **kwargs)
            self.on_read()
            return _FaultyTransaction(self, self._env.begin(*args, write=False, **kwargs))
        self.on_begin()
        return _FaultyTransaction(self, self._env.begin(*args, write=True, **kwargs))

    def open_db(self, name: bytes, transaction: _FaultyTransaction | None = None, **kwargs: object) -> object:
        self.read()
        return self._env.open_db(name, None if transaction is None else transaction._transaction, **kwargs)

    def read(self) -> None:
        if self.on_read is not None:
            self.on_read()


class _FaultyTransaction:
    def __init__(self, faulty: FaultyEnvironment, transaction: lmdb.Transaction) -> None:
        self._faulty = faulty
        self._transaction = transaction

    def __getattr__(self, name: str) -> object:
        return getattr(self._transaction, name)

    def __enter__(self) -> Self:
        self._transaction.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self._transaction.__exit__(*exc)

    def get(self, *args: object, **kwargs: object) -> object:
        self._faulty.read()
        return self._transaction.get(*args, **kwargs)

    def cursor(self, *args: object, **kwargs: object) -> object:
        return _FaultyCursor(self._faulty, self._transaction.cursor(*args, **kwargs))

    def put(self, *args: object, **kwargs: object) -> object:
        self._faulty.on_put()
        return self._transaction.put(*args, **kwargs)

    def commit(self) -> None:
        try:
            self._faulty.on_commit()
        except lmdb.Error:
            self._transaction.abort()  # as LMDB does when a commit fails
            raise
        self._transaction.commit()


class _FaultyCursor:
    def __init__(self, faulty: FaultyEnvironment, cursor: lmdb.Cursor) -> None:
        self._faulty = faulty
        self._cursor = cursor

    def __getattr__(self, name: str) -> object:
        return getattr(self._cursor, name)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._cursor.close()

    def __iter__(self) -> Iterator[object]:
        self._faulty.read()
        return iter(self._cursor)

    def set_range(self, key: bytes) -> bool:
        self._faulty.read()
        return self._cursor.set_range(key)

    def set_key(self, key: bytes) -> bool:
        self._faulty.read()
        return self._cursor.set_key(key)

    def last(self) -> bool:
        self._faulty.read()
        return self._cursor.last()

    def next(self) -> bool:
        self._faulty.read()
        return self._cursor.next()

    def put(self, *args: object, **kwargs: object) -> object:
        self._faulty.on_put()
        return self._cursor.put(*args, **kwargs)

    def putmulti(self, *args: object, **kwargs: object) -> object:
        self._faulty.on_put()
        return self._cursor.putmulti(*args, **kwargs)


def faulty(db: varve.Varve) -> FaultyEnvironment:
    """Put a proxy before the environment of an open store."""
    environment = db._engine.environment
    proxy = FaultyEnvironment(environment.env)
    environment.env = proxy
    return proxy


def lmdb_error(kind: type[lmdb.Error], code: int) -> lmdb.Error:
    """An error as py-lmdb raises it."""
    error = kind(os.strerror(code) if code > 0 else kind.__name__)
    error.code = code
    return error
