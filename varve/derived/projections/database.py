"""One SQLite file of a projection: how it is opened, the record of where it stands, and what SQLite's errors mean."""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from varve import limits
from varve.derived.projections.place import os_errors
from varve.errors import (
    CorruptedProjection,
    DiskFull,
    InvalidProjection,
    ProjectionBusy,
    StoreAccessDenied,
    StoreUnavailable,
    VarveError,
)

if TYPE_CHECKING:
    from varve.derived.projections.declare import Declared

FORMAT: Final = 1
APPLICATION: Final = 0x56525650  # "VRVP", which `file` shows
TABLE: Final = "varve_projection"
_RECORD: Final = f"""
CREATE TABLE {TABLE} (
    one INTEGER PRIMARY KEY CHECK (one = 1),
    format INTEGER NOT NULL,
    store TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    stamp TEXT NOT NULL,
    position INTEGER NOT NULL,
    log_mark BLOB,
    built_at_ns INTEGER NOT NULL
)"""

# Other texts than a method would use: what is prepared already is not asked whether it is allowed.
BEGIN: Final = "BEGIN IMMEDIATE -- varve"
COMMIT: Final = "COMMIT -- varve"
ROLLBACK: Final = "ROLLBACK -- varve"
_SPOIL: Final = f"UPDATE {TABLE} SET stamp = '' -- varve"  # noqa: S608 - a constant
_STORE: Final = f"UPDATE {TABLE} SET position = ?, log_mark = ? -- varve"  # noqa: S608 - a constant

_DML: Final = re.compile(r"(?:\s|--[^\n]*\n|/\*.*?\*/)*(insert|update|delete|replace)\b", re.IGNORECASE | re.DOTALL)
_STATEMENTS: Final = 256  # prepared ones that a connection keeps

_OK, _DENY = sqlite3.SQLITE_OK, sqlite3.SQLITE_DENY
_NOT_IN_METHODS: Final = frozenset(
    {
        sqlite3.SQLITE_TRANSACTION,
        sqlite3.SQLITE_ATTACH,
        sqlite3.SQLITE_DETACH,
        sqlite3.SQLITE_PRAGMA,
        sqlite3.SQLITE_CREATE_TEMP_INDEX,
        sqlite3.SQLITE_CREATE_TEMP_TABLE,
        sqlite3.SQLITE_CREATE_TEMP_TRIGGER,
        sqlite3.SQLITE_CREATE_TEMP_VIEW,
    }
)
_CHANGES: Final = frozenset(
    {sqlite3.SQLITE_INSERT, sqlite3.SQLITE_UPDATE, sqlite3.SQLITE_DELETE, sqlite3.SQLITE_DROP_TABLE}
)
_NOT_IN_QUERIES: Final = (_NOT_IN_METHODS | {sqlite3.SQLITE_SAVEPOINT}) - {sqlite3.SQLITE_PRAGMA}
_LOOKS: Final = frozenset({"table_info", "table_xinfo", "table_list", "index_list", "index_info", "index_xinfo"})
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})
_DAMAGE: Final = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
_DENIED: Final = frozenset({sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM, sqlite3.SQLITE_CANTOPEN})


class Record(NamedTuple):
    """What a file says of itself."""

    format: int
    store: str
    name: str
    version: int
    stamp: str
    position: int
    log_mark: bytes | None
    """Of the event before the position: by it another history is told from the one that was read."""
    built_at_ns: int


class Guard:
    """What a connection may do: everything, or, while methods of the user's run, all but what is ours."""

    def __init__(self) -> None:
        self.is_on = False

    def __call__(self, action: int, first: str | None, second: str | None, _db: str | None, _by: str | None) -> int:
        """SQLite asks this once per statement that it prepares."""
        if not self.is_on:
            return _OK
        if action in _NOT_IN_METHODS or (action in _CHANGES and first == TABLE):
            return _DENY
        return _DENY if action == sqlite3.SQLITE_ALTER_TABLE and second == TABLE else _OK

    @contextlib.contextmanager
    def methods(self) -> Iterator[None]:
        """While methods of the user's run."""
        self.is_on = True
        try:
            yield
        finally:
            self.is_on = False


# -- opening ---------------------------------------------------------------------------------------------------------


def _connect(path: Path, mode: str, **options: Any) -> sqlite3.Connection:
    connection: sqlite3.Connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}",
        uri=True,
        timeout=limits.PROJECTION_BUSY_S_MAX,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=_STATEMENTS,
        **options,
    )
    return connection


def open_writer(path: Path, guard: Guard) -> sqlite3.Connection:
    """A file that readers may have open: its commits survive a kill, a power cut may take back the last ones, whole."""
    connection = _connect(path, "rw")
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchone()
        connection.execute("PRAGMA synchronous = NORMAL")
        _tune(connection, guard)
    except BaseException:
        connection.close()
        raise
    return connection


def open_builder(path: Path, guard: Guard) -> sqlite3.Connection:
    """A file that nobody reads before it is complete: nothing of it has to survive anything."""
    connection = _connect(path, "rw")
    connection.execute("PRAGMA journal_mode = MEMORY").fetchone()
    connection.execute("PRAGMA synchronous = OFF")
    connection.execute("PRAGMA locking_mode = EXCLUSIVE").fetchone()
    connection.execute(f"PRAGMA application_id = {APPLICATION}")
    _tune(connection, guard)
    return connection


def _tune(connection: sqlite3.Connection, guard: Guard) -> None:
    connection.execute("PRAGMA cache_size = -65536")  # KiB
    connection.execute("PRAGMA temp_store = MEMORY")
    connection.execute("PRAGMA foreign_keys = ON")
    # Where SQLite rolls back of itself and a method goes on, Python begins a transaction before the next change, and the guard
    # refuses it. (Without this each change would be a transaction of its own.)
    connection.isolation_level = "IMMEDIATE"
    connection.set_authorizer(guard)


def open_reader(path: Path, **options: Any) -> sqlite3.Connection:
    """A connection that cannot write."""
    connection = _connect(path, "ro", **options)
    connection.execute("PRAGMA query_only = ON")
    return connection


def only_reads(action: int, first: str | None, second: str | None, _db: str | None, _by: str | None) -> int:
    """An authorizer for queries, on a connection that cannot write: they hold nothing, attach nothing and set nothing either."""
    if action == sqlite3.SQLITE_PRAGMA:
        return _OK if first in _LOOKS or second is None else _DENY
    return _DENY if action in _NOT_IN_QUERIES else _OK


def finish(connection: sqlite3.Connection, path: Path) -> None:
    """End the building of a file: it is in WAL mode from now on, and there is no WAL."""
    connection.execute("PRAGMA locking_mode = NORMAL").fetchone()
    connection.execute("PRAGMA journal_mode = WAL").fetchone()
    read_record(connection, path)  # which lets the exclusive lock go
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.close()
    for ending in ("-wal", "-journal"):
        left = path.with_name(path.name + ending)
        if left.exists() and left.stat().st_size:
            raise CorruptedProjection(f"{left} is left of what was built", path=str(path), reason="a journal is left")


# -- the record ------------------------------------------------------------------------------------------------------


def create(connection: sqlite3.Connection, guard: Guard, declared: Declared, store: str, now_ns: int) -> None:
    """The record and the user's tables. Raises ``InvalidProjection``."""
    connection.execute(BEGIN)
    connection.execute(_RECORD)
    record = (1, FORMAT, store, declared.name, declared.version, declared.stamp, 0, None, now_ns)
    connection.execute(f"INSERT INTO {TABLE} VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", record)  # noqa: S608 - a constant
    with guard.methods():
        _execute_schema(connection, declared)
    connection.execute(COMMIT)


def _execute_schema(connection: sqlite3.Connection, declared: Declared) -> None:
    for statement in split(declared.schema):
        try:
            connection.execute(statement)
        except (sqlite3.Error, sqlite3.Warning) as exc:
            if translated(exc, "", declared.name) is not None:
                raise
            raise InvalidProjection(
                f"the schema of {declared.name} does not execute: {exc}, in {statement.strip()!r:.200}"
            ) from exc


def check_sql(declared: Declared) -> None:
    """Whether schema and statements are SQL that fits together; nothing is touched. Raises ``InvalidProjection``."""
    guard = Guard()
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.set_authorizer(guard)
        create(connection, guard, declared, "", 0)
        for handler in declared.handlers.values():
            statement = handler.statement
            if statement is None:
                continue
            if not _DML.match(statement):
                raise InvalidProjection(f"sql of {handler.label} begins with INSERT, REPLACE, UPDATE or DELETE")
            try:
                with guard.methods():
                    connection.execute(f"EXPLAIN {statement}")
            except (sqlite3.ProgrammingError, sqlite3.Warning) as exc:
                if "bind" not in str(exc):  # how many parameters there are, the method knows
                    raise InvalidProjection(f"sql of {handler.label}: {exc}") from exc
            except sqlite3.Error as exc:
                raise InvalidProjection(f"sql of {handler.label}: {exc}") from exc


def split(script: str) -> list[str]:
    """The statements of a script. (``executescript`` would commit first.)"""
    found, statement = [], ""
    for piece in re.split("(;)", script):
        statement += piece
        if piece == ";" and sqlite3.complete_statement(statement):
            found.append(statement)
            statement = ""
    return [*found, statement] if statement.strip() else found


def read_record(connection: sqlite3.Connection, path: Path) -> Record:
    """What a file says of itself. Raises ``CorruptedProjection``."""
    try:
        columns = ", ".join(Record._fields)
        row = connection.execute(f"SELECT {columns} FROM {TABLE}").fetchone()  # noqa: S608 - constants
    except sqlite3.OperationalError as exc:
        if "no such" not in str(exc):
            raise
        row = None
    if row is None:
        raise CorruptedProjection(
            f"{path} holds no record of a projection", path=str(path), reason="there is no record in it"
        )
    return Record(*row)


def store_position(connection: sqlite3.Connection, position: int, log_mark: bytes | None) -> None:
    """Inside of the transaction with the rows."""
    connection.execute(_STORE, (position, log_mark))


def spoil(connection: sqlite3.Connection) -> None:
    """Note that the rows are not those of the position any more: whoever writes next makes all of them anew."""
    with contextlib.suppress(sqlite3.Error):
        for statement in (BEGIN, _SPOIL, COMMIT):
            connection.execute(statement)


def roll_back(connection: sqlite3.Connection) -> None:
    """End a transaction that failed; SQLite may have ended it already."""
    with contextlib.suppress(sqlite3.Error):
        connection.execute(ROLLBACK)


# -- errors ----------------------------------------------------------------------------------------------------------


def translated(exc: BaseException, path: Path | str, name: str) -> VarveError | None:
    """What an error of SQLite means that is nobody's SQL's fault; None for others."""
    code = getattr(exc, "sqlite_errorcode", None)
    if not isinstance(exc, sqlite3.Error) or code is None:
        return None
    primary = code & 0xFF
    if primary in _DAMAGE:
        return CorruptedProjection(
            f"{path} is damaged ({exc}); the log is not: rebuild the projection", path=str(path), reason=str(exc)
        )
    if primary == sqlite3.SQLITE_FULL or (primary == sqlite3.SQLITE_IOERR and _is_full(path)):
        return DiskFull(f"no space for {path}: nothing of the batch was kept. Free some and go on", path=str(path))
    if primary in _BUSY:
        return ProjectionBusy(
            f"another program has {path} locked for longer than {limits.PROJECTION_BUSY_S_MAX} s", name=name, pid=None
        )
    if primary == sqlite3.SQLITE_IOERR:
        return StoreUnavailable(f"cannot use {path}: {exc}", path=str(path))
    if primary in _DENIED and str(path):
        return StoreAccessDenied(f"cannot use {path}: {exc}", path=str(path))
    return None


def is_refusal(exc: BaseException) -> bool:
    """Whether a query was refused because it would do what no query may."""
    return getattr(exc, "sqlite_errorcode", None) in {sqlite3.SQLITE_AUTH, sqlite3.SQLITE_READONLY}


def _is_full(path: Path | str) -> bool:
    try:
        return not os.statvfs(Path(path).parent).f_bavail
    except OSError:
        return False


@contextlib.contextmanager
def errors_of(path: Path | str, name: str) -> Iterator[None]:
    """Errors of SQLite, and of the operating system, as ours."""
    try:
        with os_errors(path):
            yield
    except sqlite3.Error as exc:
        error = translated(exc, path, name)
        if error is None:
            error = CorruptedProjection(f"{path} cannot be read: {exc}", path=str(path), reason=str(exc))
        raise error from exc
