"""``varve export``, ``varve import``, ``varve parity`` and ``varve digest``: a log out of a store, into one, and compared."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final, Literal, cast

import typer

from varve import ops
from varve import schema as schemas
from varve.cli.common import JsonOption, StoreArgument, console, errors, print_json, progress
from varve.errors import Conflict, InvalidInput
from varve.ops.eventsourcing import SQLITE
from varve.ops.foreign import type_name_of
from varve.ops.parity import is_log
from varve.ops.transport import Rewindable, reading, rewindable

__all__ = ["add_commands"]

PIPE: Final = Path("-")

ExportFormat = Literal["jsonl", "dump"]
RowsFormat = Literal["csv", "jsonl", "parquet"]

Side = Annotated[Path, typer.Argument(help="A store, a dump or a JSON lines export.", show_default=False)]


def add_commands(app: typer.Typer) -> None:
    """Register the commands of this file."""
    app.command("export", epilog=EXPORT_EXAMPLES)(export)
    app.command("import", epilog=IMPORT_EXAMPLES)(load)
    app.command("parity", epilog="Example: varve parity ./data copy.dump.gz")(parity)
    app.command("digest", epilog="Example: varve digest ./data")(digest)


EXPORT_EXAMPLES: Final = """\b
Examples:
  varve export ./data -o orders.jsonl --stream orders
  varve export ./data --format dump -o data.dump.gz
  varve export ./data | gzip > data.jsonl.gz
"""

IMPORT_EXAMPLES: Final = """\b
Examples:
  varve import ./copy data.dump.gz
  varve export ./data | varve import ./copy -
  varve import ./data orders.csv --stream orders --id order_id --save-schema orders.fbs
  varve import ./data eventstore.db
"""


# -- out -------------------------------------------------------------------------------------------


def export(
    store: StoreArgument,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="A file (.gz: compressed); - is standard output.")
    ] = PIPE,
    form: Annotated[
        ExportFormat | None,
        typer.Option("--format", help="jsonl, or dump (which -o FILE.dump means, too).", show_default="jsonl"),
    ] = None,
    start: Annotated[int, typer.Option("--from", metavar="N", help="First global sequence.")] = 0,
    stop: Annotated[
        int | None, typer.Option("--to", metavar="N", help="Global sequence behind the last.", show_default="the end")
    ] = None,
    stream: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Streams of this name; repeatable.", show_default="all")
    ] = None,
    types: Annotated[
        list[str] | None,
        typer.Option("--type", metavar="NAME", help="Events of this type; repeatable.", show_default="all"),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Write the log, or events of it, to a file.

    JSON lines for people and programs, a canonical dump for copies; both can be imported.
    """
    chosen = form or ("dump" if {".dump"} & set(output.suffixes) else "jsonl")
    if as_json and output == PIPE:
        raise InvalidInput("--json says what was written, and standard output is the file: name one with -o")
    with progress("exporting") as told:
        target: Any = sys.stdout.buffer if output == PIPE else output
        report: Any
        if chosen == "dump":
            if start or stop is not None or stream or types:
                raise InvalidInput("a dump is the whole log: --from, --to, --stream and --type are for --format jsonl")
            report = ops.dump(store, target, progress=told)
        else:
            report = ops.export_jsonl(
                store, target, start=start, stop=stop, streams=stream or None, types=types or None, progress=told
            )
    if as_json:
        print_json(dataclasses.asdict(report))
    elif output != PIPE:
        console().print(f"{output}: {report.events:,} events in {report.commits:,} commits{_digest_of(report)}")


def _digest_of(report: Any) -> str:
    found = getattr(report, "digest", None)
    return f", digest {found}" if found else ""


def digest(store: StoreArgument, as_json: JsonOption = False) -> None:
    """Print the digest of a log.

    It is equal for stores with equal content, wherever their blocks end.
    """
    with progress("reading") as told:
        found = ops.digest(store, progress=told)
    if as_json:
        print_json({"digest": found})
    else:
        console().print(found)


# -- in --------------------------------------------------------------------------------------------


def load(
    store: StoreArgument,
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="What to import; - is standard input.", show_default=False)
    ],
    stream: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Rows of CSV, JSON lines, Parquet: their stream.", show_default=False),
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COLUMN", help="Rows: what holds the stream id.", show_default=False)
    ] = None,
    type_name: Annotated[
        str | None,
        typer.Option("--type", metavar="NAME", help="Rows: the event type.", show_default="after the stream"),
    ] = None,
    time: Annotated[
        str | None, typer.Option(metavar="COLUMN", help="Rows: when each was recorded.", show_default="now")
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE.fbs", help="Rows: the event type's schema.", show_default="inferred")
    ] = None,
    save_schema: Annotated[
        Path | None, typer.Option(metavar="FILE.fbs", help="Rows: write the inferred schema down.", show_default=False)
    ] = None,
    form: Annotated[
        RowsFormat | None, typer.Option("--format", help="Rows: of which format.", show_default="by looking")
    ] = None,
    delimiter: Annotated[
        str | None, typer.Option(metavar="CHAR", help="CSV: what stands between cells.", show_default="by looking")
    ] = None,
    table: Annotated[str, typer.Option(metavar="NAME", help="eventsourcing: the table of events.")] = "stored_events",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask whether the inferred schema is right.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Import a log, or rows of other origin.

    A dump or export of Varve; rows of CSV, JSON lines or Parquet; or a SQLite file of eventsourcing.

    A dump or export keeps positions, commits, times and keys; the store must be new or empty, or hold its beginning. Rows need
    --stream and --id.
    """
    rows = {"--id": id_column, "--type": type_name, "--time": time, "--schema": schema, "--save-schema": save_schema,
            "--format": form, "--delimiter": delimiter}  # fmt: skip
    with reading(_source(file)) as given:
        report: Any
        if stream is None:
            unused = [name for name, value in rows.items() if value is not None]
            if is_log(given) and not unused:
                with progress("importing", "bytes") as told:
                    report = ops.load(store, given, progress=told)
            elif given.head.startswith(SQLITE) and not (set(unused) - {"--save-schema"}):
                with rewindable(given) as path:
                    report = _load_topics(store, path, table, save_schema, yes=yes)
            else:
                raise InvalidInput(
                    f"{file} holds rows of other origin: say which stream they belong to with --stream, and with --id which "
                    "column holds the stream id"
                    if not is_log(given)
                    else f"{', '.join(unused)} cannot be used with a dump or an export of Varve, which says all of that itself"
                )
        else:
            if id_column is None:
                raise InvalidInput("--stream needs --id: the column that holds the stream id")
            with rewindable(given) as path:
                event = _event_of(path, stream, type_name, schema, save_schema, form, delimiter, yes=yes)
                with progress("importing", "bytes") as told:
                    report = ops.load_rows(
                        store, path, stream=stream, id=id_column, event=event, time=time, format=form, delimiter=delimiter,
                        progress=told,
                    )  # fmt: skip
    if as_json:
        print_json(dataclasses.asdict(report))
        return
    there = f", {report.present:,} were there" if report.present else ""
    console().print(f"{store}: {report.events:,} events imported{there}")


def _source(file: Path) -> Any:
    return cast("BinaryIO", sys.stdin.buffer) if file == PIPE else file


def _event_of(
    path: Rewindable,
    stream: str,
    type_name: str | None,
    schema: Path | None,
    save_schema: Path | None,
    form: RowsFormat | None,
    delimiter: str | None,
    *,
    yes: bool,
) -> Any:
    """The event type of rows: from a .fbs file, or inferred and confirmed."""
    if schema is not None:
        if save_schema is not None:
            raise InvalidInput("--save-schema is for a schema that is inferred; with --schema there is one already")
        loaded = schemas.load(schema)
        if type_name is not None:
            if type_name not in loaded:
                raise InvalidInput(f"{schema} has no {type_name!r}; it has {', '.join(loaded)}")
            return loaded[type_name]
        if loaded.root_type is None:
            raise InvalidInput(f"{schema} names no root_type: say which table the rows are with --type")
        return loaded.root_type
    with progress("looking", "bytes") as told:
        found = ops.infer(
            path, type_name=type_name or type_name_of(stream), format=form, delimiter=delimiter, progress=told
        )
    notes = [f"{column.name} -> {column.field}" for column in found.columns if column.name != column.field]
    notes += [f"{column.name}: {column.note}" for column in found.columns if column.note]
    _confirm(found.fbs, notes, f"{found.rows:,} rows", save_schema, yes=yes)
    return found


def _load_topics(store: Path, path: Rewindable, table: str, save_schema: Path | None, *, yes: bool) -> Any:
    """Import a file of eventsourcing."""
    if save_schema is not None:
        raise InvalidInput(
            "--save-schema is for one event type; see those of eventsourcing afterwards with varve schema fbs STORE TYPE"
        )
    with progress("looking") as told:
        found = ops.infer_eventsourcing(path, table=table, progress=told)
    text = "\n".join(topic.fbs for topic in found.topics)
    notes = [f"{topic.topic} -> {topic.type_name}, {topic.events:,} events" for topic in found.topics]
    _confirm(text, notes, f"{found.events:,} events", None, yes=yes)
    with progress("importing") as told:
        return ops.load_eventsourcing(store, path, found, progress=told)


def _confirm(fbs: str, notes: list[str], what: str, save_schema: Path | None, *, yes: bool) -> None:
    """Show what was inferred, and ask whether it is right."""
    out = errors()
    out.print(fbs.strip())
    for note in notes:
        out.print(f"// {note}")
    if save_schema is not None:
        save_schema.write_text(fbs, encoding="utf-8", newline="\n")
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidInput(
            "this schema was inferred; say --yes to import with it, or give one with --schema. Nothing was imported"
        )
    if not typer.confirm(f"Import {what} with this schema?", err=True):
        raise InvalidInput("nothing was imported")


# -- compared --------------------------------------------------------------------------------------


def parity(left: Side, right: Side, as_json: JsonOption = False) -> None:
    """Compare two logs and name the first difference.

    By content. The exit code is 0 where they are equal, 3 where they differ.
    """
    with progress("comparing") as told:
        report = ops.parity(left, right, progress=told)
    if as_json:
        print_json({"equal": report.equal, **dataclasses.asdict(report)})
    elif report.equal:
        console().print(f"equal: {report.events:,} events")
    if report.difference is not None:
        if as_json:
            raise typer.Exit(3)
        raise Conflict(f"{left} and {right} differ at {report.difference}")
