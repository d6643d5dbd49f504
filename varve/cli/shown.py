"""Recorded events as ``log``, ``cat`` and ``tail`` print them: lines of a table, or lines of JSON."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final
from uuid import UUID

from rich.text import Text

from varve import ops
from varve.cli.common import console, json_text, plain, print_json_line, stream_id_of
from varve.errors import VarveError
from varve.layout.keys import StreamId
from varve.record import Recorded

__all__ = ["Lines", "Shown", "id_text", "pages"]

Shown = dict[str, Any]
"""An event as ``ops.recorded_to_dict`` gives it: it holds nothing of the store."""

PAGE_EVENTS: Final = 256
"""Events that are read at a time. Nothing of the store is held while they are printed: somebody may read them in a pager."""

COLUMNS: Final = ("global", "recorded at (UTC)", "stream", "at", "type", "event")
STYLES: Final = ("bold", "dim", "", "dim", "cyan", "")


def pages(
    read: Callable[[int, int], Iterator[Recorded[Any]]], start: int, stop: int, at: str, *, reverse: bool
) -> Iterator[Shown]:
    """What ``read(start, stop)`` gives, a page at a time; ``at`` is the key of the coordinate that start and stop are in."""
    while start < stop:
        page, problem = read_page(read(start, stop))
        yield from page
        if problem is not None:  # what stands before the damage was shown
            raise problem
        if len(page) < PAGE_EVENTS:
            return
        if reverse:
            stop = page[-1][at]
        else:
            start = page[-1][at] + 1


def read_page(events: Iterator[Recorded[Any]]) -> tuple[list[Shown], VarveError | None]:
    """Some events, and what ended them if that was an error."""
    page: list[Shown] = []
    try:
        page.extend(ops.recorded_to_dict(recorded) for recorded in islice(events, PAGE_EVENTS))
    except VarveError as error:
        return page, error
    return page, None


def id_text(stream_id: StreamId) -> str:
    """A stream id as people read and type it; in quotation marks where what is typed so would be an id of another kind."""
    text = str(stream_id)
    return json_text(text) if isinstance(stream_id, str) and stream_id_of(text, None) != stream_id else plain(text)


class Lines:
    """Prints events one by one, each at once where ``flush``."""

    def __init__(self, *, as_json: bool, metadata: bool = False, flush: bool = False) -> None:
        self._as_json = as_json
        self._metadata = metadata
        self._flush = flush
        self._out = console()
        self._widths: list[int] = []

    def print(self, shown: Shown) -> None:
        """One event."""
        if self._as_json:
            print_json_line(shown)
        else:
            self._print_row(self._row(shown))
        if self._flush:
            sys.stdout.flush()

    def _row(self, shown: Shown) -> list[str]:
        stream_id = UUID(shown["stream_id"]) if shown["id_kind"] == "uuid" else shown["stream_id"]
        event = shown["event"]
        words = f"({shown['error']})" if event is None else fields_text(event)
        if self._metadata and shown["metadata"] is not None:
            words += f"  {json_text(shown['metadata'])}"
        return [
            f"#{shown['global_sequence']}",
            shown["recorded_at"][:23].replace("T", " "),
            f"{plain(shown['stream'])}/{id_text(stream_id)}",
            f"[{shown['stream_sequence']}]",
            plain(shown["type"]),
            plain(words),
        ]

    def _print_row(self, row: list[str]) -> None:
        if not self._widths:
            self._widths = [len(title) for title in COLUMNS]
            self._widen(row)
            self._write(list(COLUMNS), ("dim",) * len(COLUMNS))
        self._widen(row)
        self._write(row, STYLES)

    def _widen(self, row: list[str]) -> None:
        """A column never narrows, so that what comes later stands below what came before."""
        self._widths = [max(width, len(cell)) for width, cell in zip(self._widths, row, strict=True)]

    def _write(self, row: list[str], styles: tuple[str, ...]) -> None:
        cells = [f"{cell:<{width}}" for cell, width in zip(row[:-1], self._widths, strict=False)] + row[-1:]
        if not self._out.is_terminal:
            sys.stdout.write("  ".join(cells).rstrip() + "\n")  # rich would take most of the time
            return
        self._out.print(Text("  ").join(Text(cell, style) for cell, style in zip(cells, styles, strict=True)))


def fields_text(event: dict[str, Any]) -> str:
    """The fields of an event on a line: ``order_id=1 product="Laptop"``."""
    return " ".join(f"{name}={json_text(value)}" for name, value in event.items())
