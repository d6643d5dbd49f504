"""``varve archive``: the beginning of a log moved into a store of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from varve.cli.common import JsonOption, StoreArgument, console, opened, plain, print_json, progress
from varve.errors import InvalidInput

__all__ = ["EPILOG", "archive"]

EPILOG: Final = "Example: varve archive ./data --before 1000000 --to /archive/orders-2025"


def archive(
    store: StoreArgument,
    before: Annotated[
        int,
        typer.Option("--before", metavar="N", help="A global sequence: whole blocks before it.", show_default=False),
    ],
    to: Annotated[Path, typer.Option("--to", metavar="PATH", help="The archive; must not exist.", show_default=False)],
    force: Annotated[
        bool, typer.Option("--force", help="Also where consumers have not read so far: they are left behind.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Move the beginning of a log into a sealed store of its own."""
    if not to.absolute().parent.is_dir():
        raise InvalidInput(f"{to.absolute().parent} is no folder: the archive has no place there")
    with opened(store, readonly=False) as db, progress("Archiving") as told:
        report = db.archive(before, to, force=force, progress=told)
        begins = db.first_global_sequence
    if as_json:
        print_json(
            {
                "path": report.path or None,
                "first_sequence": report.first_sequence,
                "next_sequence": report.next_sequence,
                "events": report.events,
                "blocks": report.blocks,
            }
        )
    elif report.events:
        console().print(
            f"{plain(report.path)}: {report.events:,} events, {report.first_sequence} to {report.next_sequence - 1}, verified "
            f"and sealed\n{plain(str(store))} begins at {begins} now"
        )
    else:
        console().print(f"there is no whole block before {before} to archive: nothing was written")
