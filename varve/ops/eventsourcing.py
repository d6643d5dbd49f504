"""Events of the library ``eventsourcing``, out of its SQLite file and without that library.

Read are the stored events of an application whose transcoder writes JSON, which is the default. Compressed and encrypted ones
cannot be read. An aggregate becomes a stream, a topic an event type whose schema is inferred from all of its events.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import re
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final, NamedTuple

from varve import limits
from varve.appends import encode_metadata
from varve.codec import EventType, event_type, from_json
from varve.codec.check import nanoseconds
from varve.codec.schema import INT_RANGES
from varve.engine import files
from varve.engine.core import Engine
from varve.engine.request import AppendRequest, CommitRequest
from varve.errors import EventEncodingError, ImportConflict, InvalidInput, InvalidRow, VarveError
from varve.layout.keys import StreamId, check_name, encode_stream_id
from varve.ops.foreign import RowsReport
from varve.ops.infer import Guess, Shape, as_members, event_type_of, table_shape
from varve.ops.load import open_target
from varve.ops.transport import Rewindable
from varve.ops.verify import Progress
from varve.schema import to_fbs

__all__ = ["InferredTopics", "Topic", "infer_eventsourcing", "load_eventsourcing"]

SQLITE: Final = b"SQLite format 3\0"
"""How such a file begins."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Events of one topic, and what they become."""

    topic: str
    """The topic, as the library wrote it: ``module:Aggregate.Event``."""
    type_name: str
    """Name of the event type: what stands behind the module; the whole topic where two modules have the same."""
    event_class: Any
    """The event class, its fields inferred from all events of the topic."""
    events: int
    """How many there are."""
    shape: Shape
    """How values become fields."""

    @property
    def fbs(self) -> str:
        """The type as .fbs text."""
        return to_fbs(self.event_class)


@dataclass(frozen=True, slots=True)
class InferredTopics:
    """What a file holds. Made by ``infer_eventsourcing``."""

    topics: tuple[Topic, ...]
    """Every topic, in order of first use."""
    events: int
    """Stored events."""
    table: str
    """The table that they are in."""


class _Stored(NamedTuple):
    notification_id: int
    originator: str
    version: int
    topic: str
    state: dict[str, Any]
    first_topic: str
    first_state: dict[str, Any]


def infer_eventsourcing(
    source: str | os.PathLike[str], *, table: str = "stored_events", progress: Progress | None = None
) -> InferredTopics:
    """Look at every stored event of an ``eventsourcing`` SQLite file and work out an event type for each topic.

    ``table``: where the application's recorder put them. ``progress`` is called with events done and in all. Raises
    ``InvalidRow`` (the state is no JSON, ...), ``InvalidInput`` (no such table), ``StoreNotFound`` and kin where the file
    cannot be opened.
    """
    guesses: dict[str, Guess] = {}
    with _opened(source, table) as file:
        for done, stored in enumerate(file.events()):
            guess = guesses.get(stored.topic)
            if guess is None:
                guess = guesses[stored.topic] = Guess()
            guess.value(stored.state)
            if progress is not None and not done % 1_024:
                progress(done, file.total)
        names = _type_names(list(guesses))
        topics = []
        for topic, guess in guesses.items():
            types: dict[str, Any] = {}
            try:
                shape = table_shape(types, names[topic], guess.members, guess.present)
                made = event_type_of(names[topic], types)
            except VarveError as exc:
                raise InvalidInput(f"{file.path}: the topic {topic!r} cannot become an event type: {exc}") from None
            topics.append(Topic(topic, names[topic], made.cls, guess.present, shape))
        return InferredTopics(tuple(topics), file.total, table)


def load_eventsourcing(
    path: str | os.PathLike[str],
    source: str | os.PathLike[str],
    inferred: InferredTopics | None = None,
    *,
    progress: Progress | None = None,
) -> RowsReport:
    """Append the stored events of an ``eventsourcing`` SQLite file to a store that this process does not hold open, in the
    order of their notifications.

    An aggregate becomes the stream of its class's name and its id, version 1 the first event. Each event is a commit of its own,
    recorded at its ``timestamp`` (or at the time of the event before it, where that is later: the log's time never goes
    backwards), with the metadata ``{"notification_id": ...}``. ``inferred``: what ``infer_eventsourcing`` gave; None infers.

    Events that the store holds already are compared and left out, so an import that was cut off is finished by doing it
    again. Raises what ``infer_eventsourcing`` raises, ``ImportConflict``, and what ``varve.open`` and appends raise.
    """
    topics = inferred or infer_eventsourcing(source)
    with _opened(source, topics.table) as file:
        engine = open_target(files.folder(path))
        try:
            return _Writing(engine, file, topics).all(progress)
        finally:
            engine.release()


def _type_names(topics: list[str]) -> dict[str, str]:
    """Names for the event types of topics: no two alike."""
    short = {topic: _plain(topic.rpartition(":")[2]) for topic in topics}
    counts = list(short.values())
    return {topic: name if counts.count(name) == 1 else _plain(topic) for topic, name in short.items()}


def _plain(name: str) -> str:
    out = re.sub(r"[^A-Za-z0-9_.:]", "_", name.replace("<locals>.", ""))
    return out if out[:1].isalpha() or out[:1] == "_" else f"_{out}"


# -- the file --------------------------------------------------------------------------------------


class _File:
    """An open file."""

    def __init__(self, connection: sqlite3.Connection, path: str, table: str) -> None:
        self._connection = connection
        self.path = path
        self.table = table
        quoted = '"' + table.replace('"', '""') + '"'
        try:
            columns = {row[1] for row in connection.execute(f"PRAGMA table_info({quoted})")}
        except sqlite3.DatabaseError as exc:
            raise InvalidInput(f"{path} is no SQLite file that can be read: {exc}") from None
        if not columns >= {"originator_id", "originator_version", "topic", "state"}:
            raise InvalidInput(
                f"{path} has no table {table!r} with the columns originator_id, originator_version, topic and state: is it one "
                "of the library eventsourcing?"
            )
        try:
            self.total: int
            self.base: int
            query = f"SELECT count(*), coalesce(min(originator_version), 1) FROM {quoted}"  # noqa: S608 - a quoted name
            self.total, self.base = connection.execute(query).fetchone()
            order = "notification_id" if "notification_id" in columns else "rowid"
            self._query = (
                f"SELECT e.{order}, e.originator_id, e.originator_version, e.topic, e.state, f.topic, f.state FROM {quoted} e "  # noqa: S608
                f"LEFT JOIN {quoted} f ON f.originator_id = e.originator_id AND f.originator_version = ? ORDER BY e.{order}"
            )
            connection.execute(f"SELECT {order} FROM {quoted} LIMIT 1")  # noqa: S608
        except sqlite3.DatabaseError as exc:
            raise InvalidInput(
                f"{path}: the events have no order of notifications ({exc}): they cannot be a log"
            ) from None

    def events(self) -> Iterator[_Stored]:
        """Every event, in order of notifications."""
        first: tuple[Any, dict[str, Any]] = (None, {})
        try:
            for number, originator, version, topic, state, first_topic, first_state in self._connection.execute(
                self._query, (self.base,)
            ):
                if first_topic is None:
                    raise self.invalid(number, f"the aggregate {originator} does not begin with version {self.base}")
                found = self._state(number, topic, state)
                if first[0] != originator:
                    first = (
                        originator,
                        found if version == self.base else self._state(number, first_topic, first_state),
                    )
                yield _Stored(number, str(originator), version, topic, found, first_topic, first[1])
        except sqlite3.DatabaseError as exc:
            raise InvalidInput(f"{self.path} cannot be read: {exc}") from None

    def invalid(self, number: int, what: str) -> InvalidRow:
        """The error for a stored event."""
        return InvalidRow(
            f"{self.path}, notification {number}: {what}. Nothing of its transaction was written",
            path=self.path,
            line=number,
        )

    def _state(self, number: int, topic: Any, state: Any) -> dict[str, Any]:
        if not isinstance(topic, str):
            raise self.invalid(number, f"its topic is {topic!r:.80}")
        try:
            value = json.loads(state)
        except (ValueError, TypeError, RecursionError):
            raise self.invalid(
                number,
                "its state is no JSON. States that are compressed, encrypted or written by another transcoder cannot be read: "
                "export them with the application itself, as JSON lines",
            ) from None
        try:
            value = _decoded(value)
        except (ValueError, TypeError, InvalidOperation, RecursionError) as exc:
            raise self.invalid(number, f"its state cannot be decoded: {exc}") from None
        if not isinstance(value, dict):
            raise self.invalid(number, "its state is no JSON object")
        return value


@contextlib.contextmanager
def _opened(source: str | os.PathLike[str], table: str) -> Iterator[_File]:
    path = str(Path(files.folder(source, "the file's path")).absolute())
    name = source.name if isinstance(source, Rewindable) else path
    try:
        with Path(path).open("rb") as file:
            begins = file.read(len(SQLITE))
    except OSError as exc:
        raise files.unavailable(path, exc) from exc
    if begins != SQLITE:
        raise InvalidInput(f"{name} is no SQLite file")
    try:
        connection = sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True)
    except sqlite3.Error as exc:
        raise InvalidInput(f"{name} cannot be opened: {exc}") from None
    with contextlib.closing(connection):
        connection.execute("BEGIN")  # one instant for the whole of it
        yield _File(connection, name, table)


def _decoded(value: Any) -> Any:
    """What the library's JSON says in Python's words; values of transcodings of the application's own stay as they are."""
    if isinstance(value, list):
        return [_decoded(item) for item in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"_type_", "_data_"}:
        data = value["_data_"]
        match value["_type_"]:
            case "uuid_hex":
                return uuid.UUID(data)
            case "decimal_str":
                found = Decimal(data)
                return found if found.is_finite() else data
            case "datetime_iso":
                when = dt.datetime.fromisoformat(data)
                low, high = INT_RANGES["i64"]
                aware = when if when.tzinfo is not None else when.replace(tzinfo=dt.UTC)
                return aware if low <= nanoseconds(aware) <= high else data
            case "tuple_as_list" | "set_as_list" | "frozenset_as_list":
                return _decoded(data)
    return {name: _decoded(item) for name, item in value.items()}


# -- writing ---------------------------------------------------------------------------------------


class _Writing:
    """One import."""

    def __init__(self, engine: Engine, file: _File, topics: InferredTopics) -> None:
        self._engine = engine
        self._file = file
        self._topics: dict[str, tuple[EventType, Shape]] = {
            one.topic: (event_type(one.event_class), one.shape) for one in topics.topics
        }
        self._written = self._present = 0

    def all(self, progress: Progress | None) -> RowsReport:
        """Every event."""
        with self._engine.snapshot() as snapshot:
            is_new = not snapshot.next_sequence
        batch: list[tuple[AppendRequest, int | None]] = []
        size = 0
        for stored in self._file.events():
            append, time_ns = self._append(stored)
            if not is_new and self._is_there(stored, append):
                self._present += 1
                continue
            batch.append((append, time_ns))
            size += append.payload_bytes
            if len(batch) == limits.IMPORT_ROWS_MAX or size >= limits.IMPORT_BYTES_MAX:
                self._write(batch)
                batch, size = [], 0
                if progress is not None:
                    progress(self._written + self._present, self._file.total)
        if batch:
            self._write(batch)
        if progress is not None:
            progress(self._file.total, self._file.total)
        return RowsReport(self._written, self._present)

    def _append(self, stored: _Stored) -> tuple[AppendRequest, int | None]:
        known = self._topics.get(stored.topic)
        if known is None:
            raise self._file.invalid(stored.notification_id, f"its topic {stored.topic!r} was not there before")
        compiled, shape = known
        try:
            event = compiled.pack(from_json(compiled, as_members(stored.state, shape.members)))
            stream_id = _id_of(stored.originator)
            id_key = encode_stream_id(stream_id)
            stream = check_name(_stream_of(stored))
        except (EventEncodingError, ValueError) as exc:
            raise self._file.invalid(stored.notification_id, str(exc)) from None
        append = AppendRequest(
            stream,
            stream_id,
            [(id_key, compiled, [event])],
            encode_metadata({"notification_id": stored.notification_id}),
            stored.version - self._file.base,
            id_key,
            len(event),
        )
        when = stored.state.get("timestamp")
        return append, max(0, nanoseconds(when)) if isinstance(when, dt.datetime) else None

    def _is_there(self, stored: _Stored, append: AppendRequest) -> bool:
        """Whether an earlier import wrote it. Raises ``ImportConflict`` where something else stands in its place."""
        at = stored.version - self._file.base
        with self._engine.snapshot() as snapshot:
            number = snapshot.stream_number(append.stream, append.id_key)
            sequence = None if number is None else snapshot.global_of(number, at)
            if sequence is None:
                return False
            block = snapshot.block(sequence, copy=True)
            start, end = snapshot.span(block, sequence)
            declared = snapshot.catalog.type(snapshot, block.run_of(sequence - block.first)[0].type)
            found = (declared.name, bytes(block.data[start:end]))
        ((_, compiled, (event,)),) = append.parts
        if found != (compiled.name, event):
            raise ImportConflict(
                f"{self._engine.path} holds something else than {self._file.path}: event {at} of stream {append.stream!r} "
                f"{append.stream_id} is not notification {stored.notification_id}",
                global_sequence=sequence,
            )
        return True

    def _write(self, batch: list[tuple[AppendRequest, int | None]]) -> None:
        with self._engine.session() as session:
            for append, time_ns in batch:
                last_ns = session.last_time_ns
                recorded_ns = last_ns or None if time_ns is None else max(time_ns, last_ns)
                session.apply(CommitRequest([append], recorded_ns=recorded_ns))
            session.commit()
        self._written += len(batch)


def _stream_of(stored: _Stored) -> str:
    """The name of the aggregate's class: its first event says it, or is nested in it."""
    told = stored.first_state.get("originator_topic")
    if isinstance(told, str):
        return told.rpartition(":")[2].replace("<locals>.", "")
    qualified = stored.first_topic.rpartition(":")[2].replace("<locals>.", "")
    return qualified.rpartition(".")[0] or qualified


def _id_of(originator: str) -> StreamId:
    try:
        return uuid.UUID(originator)
    except ValueError:
        return originator
