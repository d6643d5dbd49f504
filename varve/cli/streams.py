"""``varve streams``: which streams there are."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from fnmatch import fnmatchcase
from itertools import islice
from typing import Annotated, Any, Final
from uuid import UUID

import typer
from rich.text import Text

from varve import Varve, ops
from varve.cli.common import JsonOption, StoreArgument, console, opened, plain, print_json_line, progress
from varve.cli.shown import id_text
from varve.errors import InvalidInput
from varve.layout.keys import encode_stream_id

__all__ = ["EPILOG", "streams"]

EPILOG: Final = """
\b
Examples:
  varve streams ./data
  varve streams ./data --name orders --filter '4*'
  varve streams ./data --sort last --limit 10 --json
"""


class Sort(StrEnum):
    """What streams are sorted by."""

    NAME = "name"
    ID = "id"
    LENGTH = "length"
    LAST = "last"


KEYS: Final[dict[Sort, Callable[[ops.StreamInfo], Any]]] = {
    Sort.NAME: lambda one: (one.name, encode_stream_id(one.stream_id)),
    Sort.ID: lambda one: (encode_stream_id(one.stream_id), one.name),
    Sort.LENGTH: lambda one: one.length,
    Sort.LAST: lambda one: -1 if one.last_sequence is None else one.last_sequence,
}
LARGEST_FIRST: Final = frozenset({Sort.LENGTH, Sort.LAST})


def streams(
    store: StoreArgument,
    name: Annotated[
        str | None, typer.Option("--name", metavar="NAME", help="Only streams of this name.", show_default=False)
    ] = None,
    matching: Annotated[
        str | None,
        typer.Option(
            "--filter",
            metavar="TEXT",
            help="Only ids that contain this; with * ? or [] in it, ids that match it whole.",
            show_default=False,
        ),
    ] = None,
    sort: Annotated[
        Sort | None, typer.Option("--sort", help="Sort; the longest and the latest come first.", show_default=False)
    ] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="The other way round.")] = False,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", min=0, help="At most so many.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List the streams: name, id, length, last event."""
    if reverse and sort is None:
        raise InvalidInput("--reverse goes with --sort")
    with opened(store) as db:
        found: Iterable[ops.StreamInfo] = matched(ops.streams(db, name), matching)
        if sort is not None:
            found = in_order(db, found, sort, limit, reverse=reverse)
        printer = print_line if as_json else Table().print
        for one in islice(found, limit):
            printer(one)


def matched(found: Iterator[ops.StreamInfo], matching: str | None) -> Iterator[ops.StreamInfo]:
    """Those whose id matches."""
    if matching is None:
        return found
    if any(char in matching for char in "*?["):
        return (one for one in found if fnmatchcase(str(one.stream_id), matching))
    return (one for one in found if matching in str(one.stream_id))


def in_order(
    db: Varve, found: Iterable[ops.StreamInfo], sort: Sort, limit: int | None, *, reverse: bool
) -> list[ops.StreamInfo]:
    """Sorted; with a limit no more than that many are kept in memory."""
    descending = (sort in LARGEST_FIRST) != reverse
    with progress("sorting", "streams") as told:
        counted = with_progress(found, told, db.stats().streams)
        if limit is None:
            return sorted(counted, key=KEYS[sort], reverse=descending)
        return (heapq.nlargest if descending else heapq.nsmallest)(limit, counted, key=KEYS[sort])


def with_progress(
    found: Iterable[ops.StreamInfo], told: Callable[[int, int], None], total: int
) -> Iterator[ops.StreamInfo]:
    """The same, told of."""
    for done, one in enumerate(found):
        if not done % 1_000:
            told(done, total)
        yield one


def print_line(one: ops.StreamInfo) -> None:
    """A stream for programs."""
    stream_id = one.stream_id
    print_json_line(
        {
            "name": one.name,
            "id": str(stream_id) if isinstance(stream_id, UUID) else stream_id,
            "id_kind": type(stream_id).__name__.lower(),
            "length": one.length,
            "last_sequence": one.last_sequence,
            "last_at": None if one.last_at is None else one.last_at.isoformat(timespec="microseconds"),
        }
    )


class Table:
    """Streams line by line; columns widen where they must."""

    def __init__(self) -> None:
        self._out = console()
        self._widths: list[int] = []

    def print(self, one: ops.StreamInfo) -> None:
        """One stream."""
        last_at = "archived" if one.last_at is None else one.last_at.isoformat(sep=" ", timespec="milliseconds")[:23]
        row = [plain(one.name), id_text(one.stream_id), str(one.length), last_at]
        titles = ["name", "id", "length", "last event (UTC)"]
        if not self._widths:
            self._widths = [max(len(title), len(cell)) for title, cell in zip(titles, row, strict=True)]
            self._write(titles, "dim")
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row, strict=True)]
        self._write(row, "")

    def _write(self, row: list[str], style: str) -> None:
        name, stream_id, length, last = self._widths
        text = f"{row[0]:<{name}}  {row[1]:<{stream_id}}  {row[2]:>{length}}  {row[3]:<{last}}".rstrip()
        if self._out.is_terminal:
            self._out.print(Text(text, style))
        else:
            print(text)
