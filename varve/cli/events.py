"""``varve log`` and ``varve cat``: recorded events, by the schemas in the store."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Annotated, Any, Final

import typer

from varve import Varve, ops
from varve.cli.common import IdKindOption, JsonOption, StoreArgument, errors, opened, sequence_or_time, stream_id_of
from varve.cli.shown import Lines, Shown, id_text, pages
from varve.errors import InvalidInput
from varve.layout.keys import StreamId
from varve.record import Recorded

__all__ = ["CAT_EPILOG", "LOG_EPILOG", "cat", "log"]

LOG_EPILOG: Final = """
\b
Examples:
  varve log ./data
  varve log ./data --from 2h --stream orders --type OrderPlaced
  varve log ./data --reverse --limit 10 --json
  varve log ./data --at 2025-01-31T12:00:00+01:00 --reverse --limit 1
"""
CAT_EPILOG: Final = """
\b
Examples:
  varve cat ./data orders 42
  varve cat ./data orders 42 --reverse --limit 1 --json
  varve cat ./data accounts 007 --id-kind str --at 2d
"""

AtOption = Annotated[
    str | None,
    typer.Option(
        "--at",
        metavar="TIME",
        help="As it was then: nothing that was recorded later. A global sequence: as it was before that.",
        show_default=False,
    ),
]
StreamsOption = Annotated[
    list[str] | None,
    typer.Option("--stream", metavar="NAME", help="Only streams of this name; repeatable.", show_default=False),
]
TypesOption = Annotated[
    list[str] | None,
    typer.Option("--type", metavar="TYPE", help="Only events of this type; repeatable.", show_default=False),
]
ReverseOption = Annotated[bool, typer.Option("--reverse", help="The newest first.")]
LimitOption = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=0, help="At most so many events.", show_default=False)
]
MetadataOption = Annotated[bool, typer.Option("--metadata", help="With their metadata (JSON always has it).")]


def log(
    store: StoreArgument,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="WHERE", help="From a global sequence or point in time on.", show_default=False),
    ] = None,
    stop: Annotated[
        str | None,
        typer.Option("--to", metavar="WHERE", help="Up to before a sequence or point in time.", show_default=False),
    ] = None,
    at: AtOption = None,
    stream: StreamsOption = None,
    type_: TypesOption = None,
    reverse: ReverseOption = False,
    limit: LimitOption = None,
    metadata: MetadataOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show events of the whole log.

    They are decoded by the schemas in the store.
    """
    bounds = [None if text is None else sequence_or_time(text) for text in (start, stop)]
    until = None if at is None else sequence_or_time(at)
    with opened(store) as db:
        check_names(db, stream, type_)
        low = place(db, bounds[0], db.first_global_sequence)
        if low and start is None:
            errors().print(f"events before #{low} were archived")
        high = min(place(db, bounds[1], db.next_global_sequence), as_of(db, until))
        reader = db.global_reader()
        if low and start is None and high <= low < db.next_global_sequence:
            reader.get(max(0, high - 1))  # all that was asked for was archived, which this says
        read = partial(reader.iter_from, reverse=reverse, streams=stream or None, types=type_ or None)
        show(pages(read, low, high, "global_sequence", reverse=reverse), limit, as_json=as_json, metadata=metadata)


def cat(
    store: StoreArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The name of a stream.", show_default=False)],
    stream_id: Annotated[str, typer.Argument(metavar="ID", help="Its id.", show_default=False)],
    id_kind: IdKindOption = None,
    start: Annotated[
        int | None, typer.Option("--from", metavar="N", min=0, help="From a stream sequence on.", show_default=False)
    ] = None,
    stop: Annotated[
        int | None, typer.Option("--to", metavar="N", min=0, help="Up to before a stream sequence.", show_default=False)
    ] = None,
    at: AtOption = None,
    type_: TypesOption = None,
    reverse: ReverseOption = False,
    limit: LimitOption = None,
    metadata: MetadataOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show the events of one stream."""
    wanted = stream_id_of(stream_id, id_kind)
    until = None if at is None else sequence_or_time(at)
    with opened(store) as db:
        check_names(db, [name], type_)
        end = as_of(db, until)
        retained, length = ops.stream_extent(db, name, wanted, end)
        if not length:
            raise InvalidInput(missing(db, end, name, wanted))

        def read(low: int, high: int) -> Iterator[Recorded[Any]]:
            with db.snapshot(end) as snapshot:
                reader = snapshot.global_reader()
                yield from reader.iter_stream(name, wanted, low, high, reverse=reverse, types=type_ or None)

        if start is None and retained:
            errors().print(f"events before [{retained}] were archived")
        low = retained if start is None else start
        high = length if stop is None else min(stop, length)
        show(pages(read, low, high, "stream_sequence", reverse=reverse), limit, as_json=as_json, metadata=metadata)


def show(found: Iterator[Shown], limit: int | None, *, as_json: bool, metadata: bool) -> None:
    """Print events, at most so many."""
    lines = Lines(as_json=as_json, metadata=metadata)
    for shown in islice(found, limit):
        lines.print(shown)


def place(db: Varve, where: int | dt.datetime | None, default: int) -> int:
    """A global sequence within the log."""
    if where is None:
        return default
    return min(where if isinstance(where, int) else db.sequence_at(where), db.next_global_sequence)


def as_of(db: Varve, where: int | dt.datetime | None) -> int:
    """How long the log was then."""
    if isinstance(where, dt.datetime) and where < dt.datetime.max.replace(tzinfo=dt.UTC):
        where += dt.timedelta(microseconds=1)  # what was recorded at this instant counts
    return place(db, where, db.next_global_sequence)


def check_names(db: Varve, streams: list[str] | None, types: list[str] | None) -> None:
    """A misspelled name would look like no events. Raises ``InvalidInput``."""
    known = ops.stream_names(db)
    for name in streams or ():
        if name not in known:
            raise InvalidInput(f"the store holds no streams {name!r}; it holds {spelled(known)}")
    known = list(dict.fromkeys(schema.name for schema in ops.stored_schemas(db)))
    for name in types or ():
        if name not in known:
            raise InvalidInput(f"the store holds no event type {name!r}; it holds {spelled(known)}")


def spelled(names: list[str]) -> str:
    """Names in a message."""
    return ", ".join(names) or "none"


def missing(db: Varve, end: int, name: str, stream_id: StreamId) -> str:
    """What to say of a stream that is not there."""
    others: list[StreamId] = [] if isinstance(stream_id, str) else [str(stream_id)]
    if isinstance(stream_id, str) and stream_id.isascii() and stream_id.isdigit() and int(stream_id) < 2**64:
        others = [int(stream_id)]
    kinds = [type(other).__name__ for other in others if ops.stream_extent(db, name, other, end)[1]]
    hint = f"; there is one whose id is of the kind {kinds[0]}: say --id-kind {kinds[0]}" if kinds else ""
    then = "" if end == db.next_global_sequence else " at that time"
    return f"there is no stream {name}/{id_text(stream_id)}{then}{hint}"
