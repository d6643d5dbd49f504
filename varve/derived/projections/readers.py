"""Reading a projection: connections that cannot write, each to the generation that counted when it was made, which stays for
as long."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
from collections import namedtuple
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from varve import limits
from varve.derived.projections import database
from varve.errors import ProjectionNotBuilt, QueryFailed

if TYPE_CHECKING:
    from pathlib import Path

    from varve.derived.projections.place import Hold, Place

_TRIES = 64
Parameters = Sequence[Any] | Mapping[str, Any]


class ReadConnection(sqlite3.Connection):
    """A connection that keeps its generation from being removed until it is closed or dropped."""

    held: Hold | None = None
    path: Path
    generation: int = 0

    def close(self) -> None:
        """Close it; the generation may go."""
        super().close()
        held, self.held = self.held, None
        if held is not None:
            held.release()


@lru_cache(maxsize=256)
def row_class(columns: tuple[str, ...]) -> Callable[..., Any]:
    """A named tuple for rows of these columns; ``count(*)`` and its like are called ``_0``, by their place."""
    made: Any = namedtuple("Row", columns, rename=True)  # type: ignore[misc]  # noqa: PYI024 - columns come with the query
    make: Callable[..., Any] = made._make
    return make


def named(cursor: sqlite3.Cursor, row: tuple[Any, ...]) -> Any:
    """A row factory."""
    return row_class(tuple(column[0] for column in cursor.description))(row)


class Readers:
    """Read connections of one handle: those that are idle are used again while their generation counts. Thread-safe."""

    def __init__(self, place: Place, name: str) -> None:
        self._place = place
        self._name = name
        self._idle: list[ReadConnection] = []
        self._lock = threading.Lock()
        self._pointed_at: object = None
        self._generation: int | None = None

    def connect(self) -> ReadConnection:
        """A new connection. Raises ``ProjectionNotBuilt``, ``CorruptedProjection``."""
        place = self._place
        for _ in range(_TRIES):
            generation = place.current()
            if generation is None:
                break
            held = place.hold(generation)
            if held is None:
                continue  # the pointer has moved since
            path = place.database(generation)
            try:
                with database.errors_of(path, self._name):
                    connection = database.open_reader(path, factory=ReadConnection)
                    assert isinstance(connection, ReadConnection)
            except BaseException:
                held.release()
                raise
            connection.held, connection.path, connection.generation = held, path, generation
            return connection
        raise ProjectionNotBuilt(
            f"there is nothing of the projection {self._name} in {place.folder} yet: let it catch up",
            name=self._name,
            path=str(place.folder),
        )

    def take(self) -> ReadConnection:
        """A connection to the current generation, to be given back."""
        pointed_at = self._place.pointed_at()
        with self._lock:
            stale = self._idle if pointed_at != self._pointed_at else []
            if stale:
                self._idle = []
            self._pointed_at = pointed_at
            found = self._idle.pop() if self._idle else None
        for connection in stale:
            connection.close()
        if found is None:
            found = self.connect()
            found.set_authorizer(database.only_reads)
        return found

    def give_back(self, connection: ReadConnection) -> None:
        """Keep it for the next one."""
        with self._lock:
            if len(self._idle) < limits.PROJECTION_READERS_IDLE_MAX and connection.generation == self._place.current():
                self._idle.append(connection)
                return
        connection.close()

    def query(self, sql: str, params: Parameters) -> list[Any]:
        """The rows. Raises ``QueryFailed``, and what ``connect`` raises."""
        connection = self.take()
        try:
            cursor = connection.cursor()
            cursor.row_factory = named
            rows = cursor.execute(sql, params).fetchall()
        except sqlite3.Error as exc:
            connection.close()
            error = None if database.is_refusal(exc) else database.translated(exc, connection.path, self._name)
            raise (self._refused(sql, exc) if error is None else error) from exc
        except sqlite3.Warning as exc:  # several statements, to Python 3.11
            connection.close()
            raise self._refused(sql, exc) from exc
        except (TypeError, ValueError, OverflowError) as exc:  # parameters
            connection.close()
            raise self._refused(sql, exc) from exc
        except BaseException:
            connection.close()
            raise
        self.give_back(connection)
        return rows

    def record(self) -> database.Record:
        """What the current generation says of itself. Raises what ``connect`` raises, and ``CorruptedProjection``."""
        connection = self.take()
        try:
            with database.errors_of(connection.path, self._name):
                record = database.read_record(connection, connection.path)
        except BaseException:
            connection.close()
            raise
        self.give_back(connection)
        return record

    def _refused(self, sql: str, exc: Exception) -> QueryFailed:
        hint = ""
        if database.is_refusal(exc):
            hint = ": a projection is read by queries, and written by its methods alone"
        return QueryFailed(f"{self._name}: {exc}{hint}", name=self._name, sql=sql)

    def close(self) -> None:
        """Close those that are idle."""
        with self._lock:
            idle, self._idle = self._idle, []
        for connection in idle:
            connection.close()

    def __del__(self) -> None:
        """Who drops a handle need not have closed it. Nobody else has it any more: no lock is taken here."""
        for connection in getattr(self, "_idle", ()):
            with contextlib.suppress(Exception):
                connection.close()
