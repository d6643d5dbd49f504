"""``varve projections``: the SQL projections in a store's folder."""

from __future__ import annotations

from typing import Final

import typer
from rich.text import Text

from varve import ProjectionInfo
from varve.cli.common import JsonOption, StoreArgument, console, opened, plain, print_json

__all__ = ["app"]

app = typer.Typer(help="SQL projections: tables that follow the log.", no_args_is_help=True, rich_markup_mode=None)

TITLES: Final = ("name", "position", "lag", "version", "generation", "bytes", "run by")


@app.callback()
def _root() -> None:
    """SQL projections: tables that follow the log."""


@app.command("list", epilog="\b\nExample:\n  varve projections list ./data")
def list_(store: StoreArgument, as_json: JsonOption = False) -> None:
    """List them: where they stand, and who runs them.

    With how far they are behind and how large they are.
    """
    with opened(store) as db:
        found = db.projections()
    if as_json:
        print_json([info_json(info) for info in found])
        return
    rows = [TITLES, *map(row_of, found)] if found else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for index, row in enumerate(rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        console().print(Text("  ".join(cells).rstrip(), "" if index else "dim"))
        if index and found[index - 1].problem:
            console().print(Text(f"  {plain(str(found[index - 1].problem))}", "red"))


def info_json(info: ProjectionInfo) -> dict[str, object]:
    """A projection for programs."""
    return {
        "name": info.name,
        "path": info.path,
        "position": info.position,
        "lag": info.lag,
        "version": info.version,
        "generation": info.generation,
        "generations": info.generations,
        "built_at": None if info.built_at is None else info.built_at.isoformat(timespec="microseconds"),
        "size_bytes": info.size_bytes,
        "running": info.running,
        "pid": info.pid,
        "rebuilding": info.rebuilding,
        "problem": info.problem,
    }


def row_of(info: ProjectionInfo) -> tuple[str, ...]:
    """A projection for people."""
    known = (info.position, info.lag, info.version, info.generation)
    numbers = ("-" if number is None else str(number) for number in known)
    who = f"process {info.pid}" if info.running and info.pid else "somebody" if info.running else "nobody"
    return plain(info.name), *numbers, str(info.size_bytes), f"{who}, being rebuilt" if info.rebuilding else who
