"""``varve compact``: a store without what it does not need."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from varve import ops
from varve.cli.common import JsonOption, StoreArgument, as_bytes, console, plain, print_json, progress

__all__ = ["EPILOG", "compact"]

EPILOG: Final = "Example: varve compact ./data ./data-compact"


def compact(
    store: StoreArgument,
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="The new store; must not exist.", show_default=False)
    ],
    as_json: JsonOption = False,
) -> None:
    """Make a new store with full blocks and no free pages.

    What retention rules hide from the readers of streams is dropped: gaps stay in its place. Others may write meanwhile.
    """
    with progress("Compacting") as told:
        report = ops.compact(store, target, progress=told)
    if as_json:
        print_json(
            {
                "target": str(target),
                "events": report.events,
                "dropped": report.dropped,
                "blocks_before": report.blocks_before,
                "blocks": report.blocks,
                "bytes_before": report.bytes_before,
                "bytes": report.bytes,
            }
        )
        return
    console().print(
        f"{plain(str(target))}: {report.events:,} events, {report.dropped:,} of them dropped now\n"
        f"{report.blocks:,} blocks where there were {report.blocks_before:,}, {as_bytes(report.bytes)} where there were "
        f"{as_bytes(report.bytes_before)}"
    )
