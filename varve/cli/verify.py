"""``varve verify``: everything that is wrong with a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer
from rich.text import Text

from varve import ops
from varve.cli.common import JsonOption, StoreArgument, console, plain, print_json, progress

__all__ = ["EPILOG", "verify"]

EPILOG: Final = """
\b
Exit code 5 where anything is wrong.
Example:
  varve verify ./data
"""
FOUND: Final = 5


def verify(
    store: StoreArgument,
    scratch: Annotated[
        Path | None,
        typer.Option(
            "--scratch",
            metavar="DIR",
            help="Where a copy is put if the store is written to meanwhile; by default the system's temporary folder.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say everything that is wrong with a store.

    Reads the whole of it, also while others write. Changes nothing.
    """
    with progress("verifying") as told:
        report = ops.verify(store, progress=told, scratch=scratch)
    if as_json:
        print_json(
            {
                "sound": report.sound,
                "events": report.events,
                "blocks": report.blocks,
                "findings": [
                    {
                        "where": finding.where,
                        "kind": finding.kind,
                        "message": finding.message,
                        "sequence": finding.sequence,
                        "key": None if finding.key is None else finding.key.hex(),
                    }
                    for finding in report.findings
                ],
                "suppressed": report.suppressed,
                "not_checked": report.not_checked,
            }
        )
    else:
        show(report)
    if not report.sound:
        raise typer.Exit(FOUND)


def show(report: ops.VerifyReport) -> None:
    """For people."""
    out = console()
    for finding in report.findings:
        out.print(Text(f"{finding.where}/{finding.kind}: ", "red").append(plain(finding.message), "default"))
    if report.suppressed:
        out.print(f"... and {report.suppressed:,} more")
    for line in report.not_checked:
        out.print(Text(f"not checked: {plain(line)}", "yellow"))
    count = len(report.findings) + report.suppressed
    verdict = "sound" if report.sound else f"{count:,} finding{'s' if count > 1 else ''}"
    out.print(
        Text(verdict, "bold green" if report.sound else "bold red").append(
            f": {report.events:,} events in {report.blocks:,} blocks are whole", "default not bold"
        )
    )
