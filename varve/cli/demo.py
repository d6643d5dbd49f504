"""``varve demo``: a store to look around in."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Final

import typer

from varve import ops
from varve.cli.common import JsonOption, console, plain, print_json

__all__ = ["EPILOG", "demo"]

EPILOG: Final = """
\b
Example:
  varve demo shop
"""


def demo(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A folder that is not there yet, or empty.")] = Path(
        "varve-demo"
    ),
    as_json: JsonOption = False,
) -> None:
    """Make a small store to try the other commands on.

    It holds a week of a shop's orders and payments.
    """
    events = ops.make_demo(folder)
    if as_json:
        print_json({"path": str(folder), "events": events})
        return
    out = console()
    place = plain(shlex.quote(str(folder)))
    out.print(f"{place} holds {events} events of a small shop. Try:")
    for command, what in (
        (f"varve stats {place}", "what it holds"),
        (f"varve streams {place} --sort length --limit 5", "its longest streams"),
        (f"varve log {place} --reverse --limit 10", "the newest events"),
        (f"varve cat {place} orders 42", "one order's story"),
        (f"varve get {place} 0", "one event, byte by byte"),
        (f"varve schema list {place}", "its event types"),
    ):
        out.print(f"  {command:<{len(place) + 42}}  # {what}")
