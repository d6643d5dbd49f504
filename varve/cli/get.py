"""``varve get``: one event, with what each of its bytes is."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from varve import limits, ops
from varve.cli.common import JsonOption, StoreArgument, as_bytes, console, json_text, opened, plain, print_json
from varve.cli.shown import id_text
from varve.errors import InvalidInput, MalformedEvent
from varve.record import Recorded

__all__ = ["EPILOG", "get"]

EPILOG: Final = """
\b
Examples:
  varve get ./data 12345
  varve get ./data 12345 --json
  varve get ./data 12345 --raw > event.bin
"""
HEX_BYTES: Final = 16
"""Bytes on a line."""
LINES_MAX: Final = 4
"""Lines of bytes of one part that are shown."""


def get(
    store: StoreArgument,
    sequence: Annotated[
        int, typer.Argument(metavar="SEQUENCE", min=0, help="Its global sequence.", show_default=False)
    ],
    raw: Annotated[bool, typer.Option("--raw", help="Its FlatBuffer alone, to standard output.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show one event, its bytes field by field."""
    with opened(store) as db:
        recorded = db.global_reader().get(sequence)
        if recorded is None:
            raise InvalidInput(f"the log has {db.next_global_sequence} events, so none is at {sequence}")
        data = bytes(recorded.raw)
        if raw:
            sys.stdout.buffer.write(data)
            return
        parts: list[ops.BytePart] | None = None
        problem = f"more than {as_bytes(limits.ANNOTATED_BYTES_MAX)}: --raw writes them"
        if len(data) <= limits.ANNOTATED_BYTES_MAX:
            try:
                parts = ops.annotate_event(db, sequence)
            except MalformedEvent as error:
                problem = error.message
        shown = ops.recorded_to_dict(recorded) | {
            "commit_sequence": recorded.commit_sequence,
            "time_ns": recorded.time_ns,
        }
        if as_json:
            print_json(
                shown | {"bytes": len(data), "parts": None if parts is None else [as_dict(p, data) for p in parts]}
            )
            return
        describe(shown, recorded)
        out = console()
        out.print()
        out.print(Text(f"{len(data)} bytes", "bold"), Text("" if parts is not None else f"({plain(problem)})"))
        for part in parts or ():
            print_part(part, data)


def as_dict(part: ops.BytePart, data: bytes) -> dict[str, Any]:
    """A part for programs."""
    found = data[part.offset : part.offset + part.size]
    return {
        "offset": part.offset,
        "size": part.size,
        "hex": found.hex(),
        "what": part.what,
        "name": part.name,
        "value": part.value,
    }


def describe(shown: dict[str, Any], recorded: Recorded[Any]) -> None:
    """Where it stands, and its fields."""
    out = console()
    title = Text(f"#{shown['global_sequence']}", "bold")
    title.append(f"  {plain(shown['stream'])}/{id_text(recorded.stream_id)} [{shown['stream_sequence']}]", "not bold")
    title.append(f"  {plain(shown['type'])}", "not bold cyan")
    out.print(title)
    rows = {
        "recorded at": shown["recorded_at"],
        "commit": f"#{shown['commit_sequence']}",
        "metadata": "none" if shown["metadata"] is None else json_text(shown["metadata"]),
    }
    for name, value in rows.items():
        out.print(Text(f"  {name:<11}  ", "dim").append(plain(value), "not dim"))
    out.print()
    event = shown["event"]
    if event is None:
        out.print(Text(f"  {plain(shown['error'])}"))
        return
    width = max(map(len, event), default=0)
    for name, value in event.items():
        out.print(Text(f"  {name:<{width}}  ", "cyan").append(json_text(value), "default"))


def print_part(part: ops.BytePart, data: bytes) -> None:
    """A line for each 16 bytes; the first one says what they are."""
    out = console()
    found = data[part.offset : part.offset + part.size]
    lines = [found[at : at + HEX_BYTES] for at in range(0, len(found), HEX_BYTES)]
    for index, piece in enumerate(lines[:LINES_MAX]):
        line = Text(f"  {part.offset + index * HEX_BYTES:06x}  ", "dim")
        line.append(f"{piece.hex(' '):<{HEX_BYTES * 3 - 1}}", "not dim")
        if not index:
            line.append(f"  {part.what:<13}", "not dim" if part.what in {"value", "text", "bytes", "items"} else "dim")
            line.append(f"  {plain(part.name)}", "not dim cyan")
            line.append(f"{' = ' if part.name and part.value else ''}{plain(part.value)}", "not dim")
        line.rstrip()
        out.print(line)
    if len(lines) > LINES_MAX:
        out.print(Text(f"  {'':6}  ... {len(found) - LINES_MAX * HEX_BYTES} more bytes", "dim"))
