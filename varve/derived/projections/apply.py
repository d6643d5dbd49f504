"""Events into rows: batches of the log, each in one SQLite transaction with the position behind it."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from varve import limits
from varve.codec import event_type
from varve.deferred import Deferred
from varve.derived.projections import database
from varve.errors import ProjectionFailed, VarveError

if TYPE_CHECKING:
    from pathlib import Path

    from varve.derived.projections.declare import Declared, Handler
    from varve.derived.projections.source import Source
    from varve.record import Recorded
    from varve.tailing.scan import Batch, Scan


class TransactionEnded(sqlite3.OperationalError):
    """SQLite rolled the transaction back while a method ran, which went on as if nothing had been."""

    def __init__(self) -> None:
        super().__init__(
            "SQLite rolled the transaction back within the method (OR ROLLBACK, RAISE(ROLLBACK), or an error of SQLite "
            "that it caught): what it raises then has to leave the method"
        )


class Applier:
    """Gives events to a projection's methods, and their rows to SQLite, in order."""

    def __init__(self, connection: sqlite3.Connection, declared: Declared) -> None:
        self._connection = connection
        self._handlers = declared.handlers
        self._of_view: dict[type, Handler] = {}  # a handler per class of views: there are few, and many events
        self._events: Iterator[Recorded[Any]] = iter(())
        self._next: Recorded[Any] | None = None
        self.at: Recorded[Any] | None = None
        """The event that is being applied."""

    def apply(self, batch: Batch[Any]) -> None:
        """Apply events. Raises whatever a method or SQLite raises."""
        connection, of_view = self._connection, self._of_view
        events = self._events = iter(batch)
        recorded = next(events, None)
        while recorded is not None:
            handler = of_view.get(type(recorded._event)) or self._handler(recorded)
            if handler.statement is None:
                self.at = recorded
                handler.method(connection, recorded)
                if not connection.in_transaction:
                    raise TransactionEnded
                recorded = next(events, None)
            else:
                self._next = None
                connection.executemany(handler.statement, self._rows(recorded, handler))
                recorded = self._next
        self.at = None

    def _rows(self, recorded: Recorded[Any], handler: Handler) -> Iterator[Any]:
        """Rows of this event and of those behind it that go into the same statement. SQLite is done with a row before it asks for
        the next one, so ``at`` is the event whose row it refuses."""
        events, of_view, statement, method = self._events, self._of_view, handler.statement, handler.method
        while True:
            self.at = recorded
            row = method(recorded)
            kind = type(row)
            if kind is tuple or kind is dict:
                yield row
            elif row is not None:
                yield from _several(row, handler.label)
            following = next(events, None)
            if following is None:
                return
            recorded = following
            found = of_view.get(type(recorded._event)) or self._handler(recorded)
            if found is not handler:
                if found.statement != statement:
                    self._next = recorded
                    return
                handler, method = found, found.method

    def _handler(self, recorded: Recorded[Any]) -> Handler:
        view: Any = type(recorded._event)
        name = event_type(view.gives()).name if issubclass(view, Deferred) else view.__varve__.name
        handler = self._of_view[view] = self._handlers[name]
        return handler

    def failed(self, name: str, exc: BaseException) -> ProjectionFailed:
        """The error that says at which event something was raised."""
        at = self.at
        if at is None:
            return ProjectionFailed(
                f"{name}: {exc}; nothing of the batch was kept",
                name=name,
                handler=None,
                type_name=None,
                global_sequence=None,
            )
        handler = self._handler(at)
        type_name = next(known for known, one in self._handlers.items() if one is handler)
        view: Any = type(at._event)
        if not issubclass(view, Deferred):
            type_name = view.__varve__.name
        hint = _hint(exc)
        return ProjectionFailed(
            f"{handler.label} failed at global sequence {at.global_sequence} ({type_name}): {type(exc).__name__}: {exc}{hint}. "
            "Nothing of the batch was kept",
            name=name,
            handler=handler.label,
            type_name=type_name,
            global_sequence=at.global_sequence,
        )


def _several(row: Any, label: str) -> Iterator[Any]:
    """The rows of an event that comes to more than one, or to something else than a tuple or a dict."""
    if isinstance(row, tuple | dict):  # of a subclass
        yield row
        return
    if isinstance(row, str | bytes) or not hasattr(row, "__iter__"):
        raise TypeError(
            f"{label} returned {type(row).__name__}: return a tuple or a dict of parameters, a list of them, or None"
        )
    for one in row:
        if not isinstance(one, tuple | dict):
            raise TypeError(
                f"{label} gave {type(one).__name__} as a row: a row is a tuple or a dict of parameters; (value,) is one of "
                "a single parameter"
            )
        yield one


def _hint(exc: BaseException) -> str:
    if isinstance(exc, OverflowError):
        return " (SQLite's integers have 64 bits and a sign: store str(value))"
    if isinstance(exc, sqlite3.Error):
        if getattr(exc, "sqlite_errorcode", None) == sqlite3.SQLITE_AUTH:
            return (
                " (transactions, PRAGMA, ATTACH, temporary tables and varve_projection are not the method's business)"
            )
        if "type" in str(exc) and "not supported" in str(exc):
            return " (SQLite knows int, float, str, bytes and None: convert datetime, UUID and Decimal)"
    return ""


class Filling:
    """A file that follows the log, a transaction at a time.

    Attributes: ``position``, the next global sequence as it is stored; ``caught_up``, whether the last transaction came to
    the end of the log; ``events``, how many were applied. Not thread-safe.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        guard: database.Guard,
        path: Path,
        declared: Declared,
        source: Source,
        is_stopped: Callable[[], bool],
    ) -> None:
        self.connection = connection
        self.path = path
        self.caught_up = False
        self.events = 0
        self._guard = guard
        self._declared = declared
        self._source = source
        self._is_stopped = is_stopped
        self._applier = Applier(connection, declared)
        self._scan: Scan[Any] | None = None
        self._scan_ends: int | None = None
        with database.errors_of(path, declared.name):
            self.position = database.read_record(connection, path).position

    def transact(self, until: int | None = None) -> None:
        """Apply what is there, up to a global sequence and to what one transaction may hold.

        Raises ``ProjectionFailed``, ``DiskFull``, ``CorruptedProjection``, ``ProjectionBusy``, and what reading the log raises:
        nothing of the transaction is kept then.
        """
        try:
            self.connection.execute(database.BEGIN)
            position, events = self._fill(until)
            if position != self.position:
                database.store_position(self.connection, position, self._source.history.mark(position))
            self.connection.execute(database.COMMIT)
        except BaseException as exc:
            database.roll_back(self.connection)
            if isinstance(exc.__cause__, TransactionEnded):  # what it executed afterwards, SQLite may have kept
                database.spoil(self.connection)
            self._scan = None
            self.caught_up = False
            error = database.translated(exc, self.path, self._declared.name)
            if error is None and isinstance(exc, sqlite3.Error):  # at the commit: deferred constraints
                error = self._applier.failed(self._declared.name, exc)
            if error is not None:
                raise error from exc
            if not isinstance(exc, Exception):  # an interrupt may have come behind the commit
                with database.errors_of(self.path, self._declared.name):
                    self.position = database.read_record(self.connection, self.path).position
            raise
        self.position = position
        self.events += events

    def _fill(self, until: int | None) -> tuple[int, int]:
        position, events = self.position, 0
        until_s = time.monotonic() + limits.PROJECTION_BATCH_S_MAX
        while True:
            try:
                scan = self._scanning(position)
                batch = scan.step(limits.PROJECTION_STEP_EVENTS)
            except VarveError:
                if position == self.position:
                    raise
                break  # what stands before it is kept; the next transaction meets it again
            stop = (
                self._scan_ends if until is None else until if self._scan_ends is None else min(until, self._scan_ends)
            )
            if stop is not None and scan.position > stop:
                batch = batch.before(stop)
                self._scan = None
            self._apply(batch)
            events += batch.count
            position = scan.position if stop is None else min(scan.position, stop)
            self.caught_up = scan.caught_up and scan.looked and self._scan_ends is None
            if self.caught_up or (until is not None and position >= until) or self._is_stopped():
                break
            if events >= limits.PROJECTION_BATCH_EVENTS_MAX or time.monotonic() >= until_s:
                break
        return position, events

    def _scanning(self, position: int) -> Scan[Any]:
        scan = self._scan
        if scan is None or scan.position != position or position == self._scan_ends:
            scan, self._scan_ends = self._source.scan(position)
            self._scan = scan
        return scan

    def _apply(self, batch: Batch[Any]) -> None:
        if not batch.count:
            return
        try:
            with self._guard.methods():
                self._applier.apply(batch)
        except Exception as exc:
            name = self._declared.name
            error = database.translated(exc, self.path, name)
            raise (self._applier.failed(name, exc) if error is None else error) from exc

    def close(self) -> None:
        """Close the file."""
        self.connection.close()
