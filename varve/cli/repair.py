"""``varve repair``: a sound store of a damaged one."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from varve import ops
from varve.cli.common import JsonOption, console, plain, print_json, progress

__all__ = ["EPILOG", "repair"]

EPILOG: Final = """
\b
Examples:
  varve repair ./data ./repaired
  varve repair ./data ./saved --salvage
"""
RUNS_SHOWN: Final = 100


def repair(
    source: Annotated[
        Path, typer.Argument(metavar="SOURCE", help="The damaged store, which is only read.", show_default=False)
    ],
    target: Annotated[
        Path, typer.Argument(metavar="TARGET", help="A folder that does not exist yet.", show_default=False)
    ],
    salvage: Annotated[
        bool,
        typer.Option("--salvage", help="Save what can be read of a damaged log; what is lost is replaced and listed."),
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a sound store of a damaged one.

    Always a new store, which appears when it is complete; the damaged one is only read.
    """
    with progress("salvaging" if salvage else "repairing") as told:
        report = ops.repair(source, target, salvage=salvage, progress=told)
    if as_json:
        print_json(
            {
                "events": report.events,
                "blocks": report.blocks,
                "lost_events": report.lost_events,
                "lost": [run_json(run) for run in report.lost],
                "notes": report.notes,
            }
        )
        return
    out = console()
    for note in report.notes:
        out.print(plain(note))
    for run in report.lost[:RUNS_SHOWN]:
        out.print(run_text(run))
    if len(report.lost) > RUNS_SHOWN:
        out.print(f"... and {len(report.lost) - RUNS_SHOWN:,} more (--json lists all)")
    lost = f"; {report.lost_events:,} of them stand for lost ones" if report.lost else ""
    out.print(f"{plain(str(target))} holds {report.events:,} events in {report.blocks:,} blocks{lost}")


def run_json(run: ops.LostRun) -> dict[str, object]:
    """Lost events for programs."""
    return {
        "first_sequence": run.first_sequence,
        "events": run.events,
        "stream": run.stream,
        "stream_id": run.stream_id if isinstance(run.stream_id, int | str | None) else str(run.stream_id),
        "first_stream_sequence": run.first_stream_sequence,
        "exact": run.exact,
    }


def run_text(run: ops.LostRun) -> str:
    """Lost events for people."""
    which = "1 event" if run.events == 1 else f"{run.events:,} events"
    where = f"lost: {which} from #{run.first_sequence} on"
    if run.stream is None:
        return f"{where}, of which stream is not known"
    exactly = "" if run.exact else "; it had these places or others around them"
    return plain(f"{where}, of {run.stream}/{run.stream_id} from [{run.first_stream_sequence}] on{exactly}")
