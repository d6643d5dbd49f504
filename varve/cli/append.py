"""``varve append``: events from the command line, or from lines of JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby, islice
from typing import Annotated, Any, Final, NamedTuple

import typer

from varve import ANY, NO_STREAM, STREAM_EXISTS, Position, Span, Stream, Varve, from_json, ops
from varve.appends import encode_metadata
from varve.cli.common import IdKind, IdKindOption, StoreArgument, errors, opened, plain, print_json_line, stream_id_of
from varve.cli.schema import class_named
from varve.cli.shown import id_text
from varve.codec import event_type
from varve.errors import InvalidInput, VarveError
from varve.expected import ExpectedVersion
from varve.layout.keys import StreamId, check_name, encode_stream_id

__all__ = ["EPILOG", "append"]

EPILOG: Final = """
\b
Examples:
  varve append ./data orders 42 --type OrderPlaced --json '{"order_id": 42, "product": "Cup", "quantity": 1, "amount": 900}'
  varve append ./data orders 43 --class shop.events:OrderPlaced --json '{"order_id": 43}' --expected no-stream
  varve append ./data orders 42 --type OrderPlaced < orders.jsonl
  varve log ./old --stream orders --json | varve append ./data --every 1000
"""
INTERRUPTED: Final = 130
LINE_KEYS: Final = frozenset({"stream", "stream_id", "id_kind", "type", "event", "metadata"})
LOG_KEYS: Final = frozenset({"global_sequence", "stream_sequence", "recorded_at"})
"""What ``varve log --json`` prints besides; the store gives new ones."""


class Entry(NamedTuple):
    """An event on its way."""

    stream: str
    stream_id: StreamId
    type_name: str
    metadata: Any
    event: Any


@dataclass(frozen=True)
class Given:
    """What the command line says of every line."""

    name: str | None
    stream_id: StreamId | None
    type_name: str | None
    metadata: Any
    expected: ExpectedVersion
    key: str | None


def append(
    store: StoreArgument,
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME", help="The name of the stream.", show_default=False)
    ] = None,
    stream_id: Annotated[str | None, typer.Argument(metavar="ID]", help="Its id.", show_default=False)] = None,
    id_kind: IdKindOption = None,
    type_: Annotated[
        str | None,
        typer.Option(
            "--type",
            metavar="TYPE",
            help="An event type that the store knows, in its newest version.",
            show_default=False,
        ),
    ] = None,
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="MODULE:CLASS",
            help="An event class instead, found as python -m finds it: for the first event of a type.",
            show_default=False,
        ),
    ] = None,
    event: Annotated[
        str | None,
        typer.Option(
            "--json",
            metavar="EVENT",
            help="The event. Without it, lines of JSON are read from standard input.",
            show_default=False,
        ),
    ] = None,
    expected: Annotated[
        str,
        typer.Option(
            "--expected", metavar="WHAT", help="How long the stream must be: any, no-stream, exists, or a number."
        ),
    ] = "any",
    key: Annotated[
        str | None,
        typer.Option(
            "--idempotency-key",
            metavar="KEY",
            help="A second append under the same key writes nothing.",
            show_default=False,
        ),
    ] = None,
    metadata: Annotated[
        str | None,
        typer.Option("--metadata", metavar="OBJECT", help="Metadata of the append, a JSON object.", show_default=False),
    ] = None,
    every: Annotated[
        int | None,
        typer.Option(
            "--every",
            metavar="N",
            min=1,
            help="A transaction for so many lines each. By default all lines are one.",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--as-json", help="The positions as JSON, for programs.")] = False,
) -> None:
    """Append one event, or many as lines of JSON. Prints their positions.

    With --type (or --class) a line is the event alone; otherwise it is an object with "type" and "event", with "stream" and
    "stream_id" unless NAME and ID are given, and perhaps "metadata": what varve log --json prints.
    """
    if (name is None) != (stream_id is None):
        raise InvalidInput("NAME and ID go together")
    given = Given(
        name,
        None if stream_id is None else stream_id_of(stream_id, id_kind),
        type_,
        None if metadata is None else parsed(metadata, "--metadata"),
        expectation(expected),
        key,
    )
    check(given, class_, event, every)
    with opened(store, readonly=False) as db:
        types = Types(db)
        if class_ is not None:
            given = Given(
                given.name, given.stream_id, types.add(class_named(class_)), given.metadata, given.expected, key
            )
        writer = Writer(db, types, given, as_json=as_json)
        if event is not None:
            writer.write([types.entry(given, parsed(event, "--json"))])
        else:
            if sys.stdin.isatty():
                errors().print("reading lines of JSON; Ctrl-D ends them")
            writer.write_lines(sys.stdin.buffer, every)


def check(given: Given, class_: str | None, event: str | None, every: int | None) -> None:
    """What does not go together. Raises ``InvalidInput``."""
    if given.type_name is not None and class_ is not None:
        raise InvalidInput("--type and --class say the same: give one of them")
    if event is not None:
        if given.name is None:
            raise InvalidInput("say which stream: NAME and ID")
        if given.type_name is None and class_ is None:
            raise InvalidInput("say of which type the event is: --type, or --class for the first of its type")
        if every is not None:
            raise InvalidInput("--every is for lines from standard input")
    if given.expected is not ANY and given.name is None:
        raise InvalidInput("--expected is about one stream: give NAME and ID")
    if every is not None and (given.expected is not ANY or given.key is not None):
        raise InvalidInput("--expected and --idempotency-key are about one transaction: leave out --every")


def expectation(text: str) -> ExpectedVersion:
    """``--expected`` as the store wants it."""
    named: dict[str, ExpectedVersion] = {"any": ANY, "no-stream": NO_STREAM, "exists": STREAM_EXISTS}
    if text in named:
        return named[text]
    if text.isascii() and text.isdigit():
        return int(text)
    raise InvalidInput(f"--expected is any, no-stream, exists or a number of events, not {text!r}")


def parsed(text: str | bytes, what: str) -> Any:
    """JSON of any origin. Raises ``InvalidInput``."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"{what} is no JSON: {error}") from None


class Types:
    """The event types by name: the newest that the store knows, and classes of the command line."""

    def __init__(self, db: Varve) -> None:
        self._db = db
        self._classes: dict[str, Any] = {}
        self._streams: dict[tuple[str, str], Stream[Any]] = {}

    def add(self, cls: Any) -> str:
        """A class; its type's name."""
        name = event_type(cls).name
        self._classes[name] = cls
        return name

    def stream(self, stream: str, type_name: str) -> Stream[Any]:
        """A stream that takes events of a type. Raises ``SchemaConflict`` and its kin."""
        found = self._streams.get((stream, type_name))
        if found is None:
            found = self._streams[stream, type_name] = self._db.stream(stream, self._class(type_name))
        return found

    def entry(self, given: Given, event: Any) -> Entry:
        """An event of the stream and type that the command line says."""
        assert given.name is not None
        assert given.stream_id is not None
        assert given.type_name is not None
        return self._entry(given.name, given.stream_id, given.type_name, given.metadata, event)

    def of_line(self, given: Given, line: Any) -> Entry:
        """The event of a line that says what the command line does not. Raises ``InvalidInput`` and what a bad event raises."""
        if given.type_name is not None and given.name is not None:
            return self.entry(given, line)
        if not isinstance(line, dict):
            raise InvalidInput('it must be an object with "type" and "event"')
        if given.type_name is not None:
            raise InvalidInput("with --type or --class, NAME and ID have to be given")
        if "raw" in line:
            raise InvalidInput('its event could not be decoded when it was printed ("raw")')
        unknown = line.keys() - LINE_KEYS - LOG_KEYS
        if unknown:
            raise InvalidInput(f"it has {', '.join(map(repr, sorted(unknown)))}, which means nothing here")
        name, stream_id = (given.name, given.stream_id) if given.name is not None else stream_of(line)
        type_name = line.get("type")
        if not isinstance(type_name, str) or "event" not in line:
            raise InvalidInput('it needs "type" and "event"')
        metadata = given.metadata if line.get("metadata") is None else line["metadata"]
        assert name is not None
        assert stream_id is not None
        check_name(name)  # here, where the number of the line is known
        encode_stream_id(stream_id)
        if metadata is not None:
            encode_metadata(metadata)
        return self._entry(name, stream_id, type_name, metadata, line["event"])

    def _entry(self, name: str, stream_id: StreamId, type_name: str, metadata: Any, event: Any) -> Entry:
        return Entry(name, stream_id, type_name, metadata, from_json(self._class(type_name), event))

    def _class(self, type_name: str) -> Any:
        if type_name not in self._classes:
            stored = {schema.name: schema for schema in ops.stored_schemas(self._db)}  # the newest of each name
            if type_name not in stored:
                raise InvalidInput(
                    f"the store knows no event type {type_name!r}; it knows {', '.join(stored) or 'none'}. For the first event "
                    "of a type name its class: --class package.module:Class"
                )
            self._classes[type_name] = stored[type_name].event_class
        return self._classes[type_name]


def stream_of(line: dict[str, Any]) -> tuple[str, StreamId]:
    """The stream that a line names."""
    name, stream_id, kind = line.get("stream"), line.get("stream_id"), line.get("id_kind")
    if not isinstance(name, str) or not isinstance(stream_id, int | str) or isinstance(stream_id, bool):
        raise InvalidInput('it needs "stream" and "stream_id" (a number or a text), unless NAME and ID are given')
    if kind is None:
        return name, stream_id
    if kind not in {one.value for one in IdKind}:
        raise InvalidInput('"id_kind" is "int", "str" or "uuid"')
    return name, stream_id_of(str(stream_id), IdKind(kind))


class Writer:
    """Makes transactions and says where the events went."""

    def __init__(self, db: Varve, types: Types, given: Given, *, as_json: bool) -> None:
        self._db = db
        self._types = types
        self._given = given
        self._as_json = as_json
        self._events = 0
        self._transactions = 0

    def write_lines(self, lines: Iterable[bytes], every: int | None) -> None:
        """A transaction for each ``every`` lines; one for all of them without. Empty lines are passed over.

        Raises ``InvalidInput``, and what an append raises, with the number of the line; nothing of its transaction is written.
        """
        entries = self._entries(lines)
        try:
            while chunk := list(islice(entries, every)):
                self.write(chunk)
        except VarveError as error:
            error.message += self._so_far()
            raise
        except KeyboardInterrupt:
            errors().print(f"varve: interrupted{self._so_far()}")
        else:
            return
        raise typer.Exit(INTERRUPTED)

    def _so_far(self) -> str:
        if not self._transactions:
            return "; nothing was written"
        return f"; {self._events} events in {self._transactions} transactions were written before"

    def _entries(self, lines: Iterable[bytes]) -> Iterator[Entry]:
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                yield self._types.of_line(self._given, parsed(line, "it"))
            except VarveError as error:
                error.message = f"line {number}: {error.message}"
                raise

    def write(self, entries: list[Entry]) -> None:
        """One transaction."""
        given = self._given
        groups: list[list[Entry]] = []
        with self._db.transaction(idempotency_key=given.key) as tx:
            for _, run in groupby(entries, key=lambda entry: (entry.stream, entry.type_name, entry.metadata)):
                group = list(run)
                stream = self._types.stream(group[0].stream, group[0].type_name)
                expected = given.expected if not groups else ANY  # what it must hold before all of this
                groups.append(group)
                if given.stream_id is not None:
                    events = [entry.event for entry in group]
                    tx.append_batch(stream, given.stream_id, events, expected=expected, metadata=group[0].metadata)
                else:
                    tx.append_many(
                        stream, [(entry.stream_id, entry.event) for entry in group], metadata=group[0].metadata
                    )
        self._events += len(entries)
        self._transactions += 1
        self._tell(groups, tx.positions, replayed=tx.replayed)

    def _tell(self, groups: list[list[Entry]], spans: list[Position | Span], *, replayed: bool) -> None:
        """Where the events of a transaction stand."""
        placed = [
            (entry, position)
            for group, span in zip(groups, spans, strict=True)
            for entry, position in zip(group, span if isinstance(span, Span) else [span], strict=True)
        ]
        if self._as_json:
            print_json_line(
                {
                    "replayed": replayed,
                    "positions": [
                        {
                            "stream": entry.stream,
                            "stream_id": entry.stream_id
                            if isinstance(entry.stream_id, int | str)
                            else str(entry.stream_id),
                            "stream_sequence": position.stream_sequence,
                            "global_sequence": position.global_sequence,
                        }
                        for entry, position in placed
                    ],
                }
            )
        else:
            again = " (written before under this key)" if replayed else ""
            first, last = placed[0], placed[-1]
            if len(placed) == 1:
                entry, position = first
                where = f"{plain(entry.stream)}/{id_text(entry.stream_id)} [{position.stream_sequence}]"
                print(f"#{position.global_sequence}  {where}{again}")
            else:
                print(f"#{first[1].global_sequence} to #{last[1].global_sequence}  {len(placed)} events{again}")
        sys.stdout.flush()
