"""``varve restore``: a store made of backups."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Annotated, Final

import typer

from varve import ops
from varve.cli.common import JsonOption, console, print_json, progress
from varve.errors import InvalidInput

__all__ = ["EPILOG", "restore"]

EPILOG: Final = """
\b
Examples:
  varve restore /backups/orders ./restored
  varve restore /backups/orders ./restored --to-sequence 120000
  varve restore /backups/orders ./restored --to-time 2026-05-04T12:00:00Z
"""


def restore(
    source: Annotated[Path, typer.Argument(metavar="DIR", help="The folder of the backups.", show_default=False)],
    target: Annotated[Path, typer.Argument(metavar="NEW", help="The new store; not there yet.", show_default=False)],
    to_sequence: Annotated[
        int | None, typer.Option(metavar="N", help="As the store was before this global sequence.", show_default=False)
    ] = None,
    to_time: Annotated[
        str | None,
        typer.Option(
            metavar="T", help="With what was recorded up to then: ISO 8601 with a time zone.", show_default=False
        ),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Verify every event of the new store, too.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Make a new store of the backups in DIR, as it was last or at a point in time."""
    until = None if to_time is None else parsed(to_time)
    with progress("Restoring") as told:
        report = ops.restore(source, target, to_sequence=to_sequence, to_time=until, check=check, progress=told)
    if as_json:
        print_json(
            {
                "target": str(target),
                "next_sequence": report.next_sequence,
                "last_recorded_at_ns": report.last_recorded_at_ns,
                "rounded_down": report.rounded_down,
                "state_sequence": report.state_sequence,
                "backups": [backup.name for backup in report.backups],
                "moved_consumers": [
                    {"name": one.name, "position": one.position, "moved_to": one.moved_to}
                    for one in report.moved_consumers
                ],
            }
        )
        return
    out = console()
    last = "empty" if report.last_recorded_at_ns is None else f"last commit {moment(report.last_recorded_at_ns)}"
    out.print(f"{target}: up to sequence {report.next_sequence:,}, {last}")
    out.print(f"made of {', '.join(backup.name for backup in report.backups)}")
    if report.rounded_down:
        out.print(f"{to_sequence:,} lies within a commit; the store ends before it")
    if report.state_sequence is not None and report.state_sequence > report.next_sequence:
        out.print(f"its state is newer than its log: it is of the backup that ends at {report.state_sequence:,}")
    for one in report.moved_consumers:
        out.print(f"the consumer {one.name!r} stood at {one.position:,}, and was moved back to {one.moved_to:,}")


def parsed(text: str) -> dt.datetime:
    """A point in time. Raises ``InvalidInput``."""
    try:
        found = dt.datetime.fromisoformat(text)
    except ValueError:
        raise InvalidInput(f"{text!r} is no time such as 2026-05-04T12:00:00Z") from None
    if found.tzinfo is None:
        raise InvalidInput(f"{text!r} has no time zone; write {text}Z for UTC, or {text}+02:00")
    return found


def moment(time_ns: int) -> str:
    """A time for people."""
    at = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=time_ns // 1_000)
    return at.isoformat(sep=" ", timespec="milliseconds").replace("+00:00", " UTC")
