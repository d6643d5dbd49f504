"""Rows of other origin as events: the schema inferred from all of them, then one event for each row."""

from __future__ import annotations

import datetime as dt
import hashlib
import itertools
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from varve import limits
from varve.appends import StreamTypes, append_many, commit_request
from varve.codec import EventType, event_type, from_json
from varve.codec.check import nanoseconds
from varve.codec.schema import check_type_name
from varve.engine import files
from varve.engine.commit import check_evolution
from varve.engine.core import Engine
from varve.engine.request import CommitRequest
from varve.errors import EventEncodingError, EventTooLarge, InvalidInput, InvalidStreamId, SchemaError
from varve.layout.keys import StreamId, check_name, encode_stream_id
from varve.ops.infer import (
    Guess,
    Shape,
    as_json,
    cell_value,
    declared_members,
    event_type_of,
    field_names,
    moment,
    table_shape,
)
from varve.ops.load import open_target
from varve.ops.rows import FORMATS, Format, detect, invalid, parquet_kinds, rows
from varve.ops.transport import Input, SourceFile, reading, rewindable
from varve.ops.verify import Progress
from varve.schema import to_fbs

__all__ = ["Column", "Inferred", "RowsReport", "infer", "load_rows", "type_name_of"]


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a file, and the field that it becomes."""

    name: str
    """What the file calls it."""
    field: str
    """What the field is called: an identifier."""
    note: str
    """What was decided that one might not expect; empty where nothing was."""


@dataclass(frozen=True, slots=True)
class Inferred:
    """An event type inferred from a file. Made by ``infer``."""

    event_class: Any
    """The event class, as any other: ``varve.schema.to_fbs`` and ``varve.schema.to_python`` write it down."""
    columns: tuple[Column, ...]
    """What became of each column, in order."""
    rows: int
    """Rows that were looked at: all of the file's."""
    shape: Shape = field(repr=False)
    """How values become fields."""

    @property
    def fbs(self) -> str:
        """The type as .fbs text."""
        return to_fbs(self.event_class)


@dataclass(frozen=True, slots=True)
class RowsReport:
    """What an import of rows came to."""

    events: int
    """Events that were written."""
    present: int
    """Rows that an earlier import of the same file had written."""


def type_name_of(stream: str) -> str:
    """A name for the event type of a stream's rows: ``order-items`` gives ``OrderItems``."""
    (name,) = field_names([stream])
    return "".join(word[:1].upper() + word[1:] for word in name.split("_")) or "Row"


def infer(
    source: str | os.PathLike[str],
    *,
    type_name: str,
    format: Format | None = None,  # noqa: A002 - what it is
    delimiter: str | None = None,
    progress: Progress | None = None,
) -> Inferred:
    """Work out an event type for the rows of a CSV, JSON lines or Parquet file, by reading all of it once.

    Integers become ``i64`` (``u64`` where they need it), numbers with a fraction ``f64``, then bools, ISO 8601 times of day
    (without an offset: UTC), UUIDs, text; optional where a value is missing (in CSV: an empty cell). What would lose
    something stays text: leading zeros, plus signs, integers beyond 64 bits. Objects become nested events and lists vectors
    where they are regular; what is not is kept as JSON text. Parquet's own types are kept.

    ``format``: None looks at the file. ``delimiter``: of CSV; None takes the one of ``, ; | tab`` that its first line has most
    often. ``progress`` is called with bytes read and in all. Raises ``InvalidRow``, ``InvalidInput``.
    """
    name = checked_type_name(type_name)
    with rewindable(source) as path, reading(path) as given:
        return _infer(given, name, _form(given, format), delimiter, progress)


def checked_type_name(name: str) -> str:
    """A type name that can be stored. Raises ``SchemaError``, ``InvalidInput``."""
    check_type_name(name)
    if name.startswith(limits.RESERVED_PREFIX):
        raise InvalidInput(
            f"names that begin with {limits.RESERVED_PREFIX!r} are Varve's own; choose another than {name!r}"
        )
    return name


def _form(given: Input, form: Format | None) -> Format:
    if form is not None and form not in FORMATS:
        raise InvalidInput(f"format is one of {', '.join(FORMATS)}, not {form!r}")
    return form or detect(given)


def _infer(given: Input, name: str, form: Format, delimiter: str | None, progress: Progress | None) -> Inferred:
    guesses: dict[str, Guess] = {}
    known = parquet_kinds(given) if form == "parquet" else {}
    count = 0
    for line, row in rows(given, form, delimiter):
        for column, value in row.items():
            guess = guesses.get(column)
            if guess is None:
                if len(guesses) == limits.FIELDS_MAX:
                    raise invalid(given, line, f"more columns than FIELDS_MAX = {limits.FIELDS_MAX}")
                guess = guesses[column] = Guess()
            if form == "csv":
                guess.cell(value)
            else:
                guess.value(value)
        count += 1
        if progress is not None and not count % 4_096:
            progress(given.done_bytes(), given.total_bytes)
    if not count:
        raise InvalidInput(f"{given.name} has no rows")
    types: dict[str, Any] = {}
    shape = table_shape(types, name, guesses, count)
    notes: dict[str, str] = {}
    for entry, (column, (label, inside)) in zip(types[name]["table"], shape.members.items(), strict=True):
        guess = guesses[column]
        if column in known:
            entry["type"] = known[column]
            shape.members[column] = (label, Shape(known[column]))
        elif inside.is_json_text:
            notes[column] = f"JSON text ({guess.irregular()})"
            continue
        notes[column] = _note(guess, shape.members[column][1].tag)
    _drop_unused(types, name)
    made = event_type_of(name, types)
    columns = tuple(Column(column, label, notes[column]) for column, (label, _) in shape.members.items())
    return Inferred(made.cls, columns, count, shape)


def _note(guess: Guess, tag: str) -> str:
    """What .fbs text does not say of a field."""
    if not guess.present:
        return "no values"
    if tag == "datetime":
        return "times; they have no offset and count as UTC" if guess.is_naive else "times"
    return {"decimal": "decimals, as text", "uuid": "UUIDs"}.get(tag, "")


def _drop_unused(types: dict[str, Any], root: str) -> None:
    """Leave out tables that a known kind took the place of."""
    used: set[str] = set()
    waiting = [root]
    while waiting:
        name = waiting.pop()
        used.add(name)
        for entry in types[name]["table"]:
            kind = entry["type"]
            while isinstance(kind, dict) and "vector" in kind:
                kind = kind["vector"]
            if isinstance(kind, dict) and kind["table"] not in used:
                waiting.append(kind["table"])
    for name in types.keys() - used:
        del types[name]


def load_rows(
    path: str | os.PathLike[str],
    source: SourceFile,
    *,
    stream: str,
    id: str,  # noqa: A002 - what it is
    event: Any,
    time: str | None = None,
    format: Format | None = None,  # noqa: A002
    delimiter: str | None = None,
    progress: Progress | None = None,
) -> RowsReport:
    """Append an event for each row of a CSV, JSON lines or Parquet file to a store that this process does not hold open.

    ``stream``: name of the streams. ``id``: the column that holds the stream id, an int, a UUID or text as its field says.
    ``event``: what ``infer`` gave, or an event class whose fields are the columns (one that is only ``id`` or ``time`` may
    have none). ``time``: the column that says when each row was recorded; its times must not go backwards, and become
    ``recorded_at``. Without it that is the time of the import.

    ``IMPORT_ROWS_MAX`` rows become a commit (with ``time``: rows in a row of one time) and are written in one transaction,
    under an idempotency key made of the file's content, stream and rows: the same import done again, also after it was cut
    off, writes only what is missing. ``progress`` is called with bytes read and in all.

    Raises ``InvalidRow``, ``InvalidInput``, ``SchemaConflict``, and what ``varve.open`` and appends raise.
    """
    check_name(stream)
    with rewindable(source) as file, reading(file) as given:
        loading = _Rows(given, stream, id, event, time, _form(given, format))
        content = _content(file)
        batches = loading.batches(delimiter)
        first = next(batches, None)  # what is wrong with the first rows is said before there is a store
        engine = open_target(files.folder(path))
        try:
            return loading.all(engine, content, itertools.chain(() if first is None else (first,), batches), progress)
        finally:
            engine.release()


def _content(path: str | os.PathLike[str]) -> bytes:
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).digest()


Item = tuple[int | None, StreamId, Any]
"""Time, id and event of a row."""


class _Rows:
    """One import of rows."""

    def __init__(
        self, given: Input, stream: str, id_column: str, event: Any, time_column: str | None, form: Format
    ) -> None:
        self._given = given
        self._stream = stream
        self._id = id_column
        self._time = time_column
        self._form: Format = form
        cls = event.event_class if isinstance(event, Inferred) else event
        self._type: EventType = event_type(cls)
        if self._type.declaration is None or not hasattr(self._type.declaration, "fields"):
            raise SchemaError(f"{self._type.name} was generated by flatc; load its .fbs file instead")
        declared = self._type.declaration
        self._kinds = {f.name: f.kind for f in declared.fields}
        self._members = event.shape.members if isinstance(event, Inferred) else declared_members(declared)
        self._inferred = isinstance(event, Inferred)
        self._types = StreamTypes(stream, [self._type])

    def batches(self, delimiter: str | None) -> Iterator[tuple[int, list[Item]]]:
        """The rows of each transaction: line of the first, and what they come to."""
        for batch in _batches(rows(self._given, self._form, delimiter), limits.IMPORT_ROWS_MAX):
            yield batch[0][0], [self._item(line, row) for line, row in batch]

    def all(
        self, engine: Engine, content: bytes, batches: Iterable[tuple[int, list[Item]]], progress: Progress | None
    ) -> RowsReport:
        """Every row."""
        with engine.snapshot() as snapshot:
            if engine.catalog.type_number(snapshot, self._type) is None:
                check_evolution(self._type, engine.catalog.type_versions(snapshot, self._type.name))
        written = present = 0
        label = hashlib.blake2b(content + b"\0" + self._stream.encode() + b"\0" + self._id.encode(), digest_size=12)
        for line, items in batches:
            first = written + present
            if self._write(engine, items, f"varve.import:{label.hexdigest()}:{first}", line):
                written += len(items)
            else:
                present += len(items)
            if progress is not None:
                progress(self._given.done_bytes(), self._given.total_bytes)
        return RowsReport(written, present)

    def _write(self, engine: Engine, items: list[Item], key: str, line: int) -> bool:
        """One transaction; False where it was written before."""
        requests: list[CommitRequest] = []
        for time_ns, together in itertools.groupby(items, key=lambda item: item[0]):
            try:
                append = append_many(self._types, [(stream_id, event) for _, stream_id, event in together])
            except (EventEncodingError, EventTooLarge) as exc:
                raise invalid(self._given, line, str(exc)) from None
            request = commit_request([append], None if requests else key)
            request.recorded_ns = time_ns
            requests.append(request)
        with engine.session() as session:
            for request in requests:
                committed = session.apply(request)
                if committed.replayed:
                    session.commit()  # makes durable what was found
                    return False
            session.commit()
        return True

    def _item(self, line: int, row: dict[str, Any]) -> Item:
        """Time, id and event of a row."""
        values: dict[str, Any] = {}
        for column, value in row.items():
            member = self._member(column, line)
            if member is None or value is None or (self._form == "csv" and value == ""):
                continue
            label, shape = member
            try:
                values[label] = cell_value(self._kinds[label], value) if self._form == "csv" else as_json(value, shape)
            except ValueError as exc:
                raise invalid(self._given, line, f"{value!r:.80} {exc}", column) from None
        try:
            event = from_json(self._type, values)
            self._type.pack(event)
        except EventEncodingError as exc:
            raise invalid(self._given, line, exc.message, exc.field or None) from None
        return self._time_of(line, row), self._id_of(line, row, values), event

    def _member(self, column: str, line: int) -> tuple[str, Shape] | None:
        found = self._members.get(column)
        if found is None and not self._inferred:
            found = self._members.get(field_names([column])[0])
        if found is None and column not in {self._id, self._time}:
            raise invalid(self._given, line, f"{self._type.name} has no field for it", column)
        return found

    def _id_of(self, line: int, row: dict[str, Any], values: dict[str, Any]) -> StreamId:
        if self._id not in row:
            raise invalid(
                self._given, line, f"there is no such column; there are {', '.join(map(repr, row))}", self._id
            )
        member = self._member(self._id, line)
        value = row[self._id] if member is None else values.get(member[0])
        tag = "" if member is None else member[1].tag
        if value is None or value == "":
            raise invalid(self._given, line, "a stream id is missing", self._id)
        try:
            if tag == "uuid":
                value = uuid.UUID(value)
            encode_stream_id(value)
        except (InvalidStreamId, ValueError) as exc:
            raise invalid(self._given, line, str(exc), self._id) from None
        found: StreamId = value
        return found

    def _time_of(self, line: int, row: Mapping[str, Any]) -> int | None:
        if self._time is None:
            return None
        value = row.get(self._time)
        when = moment(value) if isinstance(value, str) else value
        if not isinstance(when, dt.datetime):
            raise invalid(self._given, line, f"{value!r:.80} is no ISO 8601 time", self._time)
        time_ns = nanoseconds(when if when.tzinfo is not None else when.replace(tzinfo=dt.UTC))
        last_ns = self._last_ns
        if time_ns < max(0, last_ns):
            raise invalid(
                self._given, line, f"{value} is before the time of the row before it, or before 1970", self._time
            )
        self._last_ns = time_ns
        return time_ns

    _last_ns = 0


def _batches(source: Iterator[Any], size: int) -> Iterator[list[Any]]:
    while batch := list(itertools.islice(source, size)):
        yield batch
