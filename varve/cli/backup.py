"""``varve backup``: a new backup of a store, what is in a folder of backups, whether it is sound."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from varve import ops
from varve.cli.common import JsonOption, Progress, console, print_json, progress
from varve.errors import CorruptedBackup, InvalidInput, VarveError

__all__ = ["EPILOG", "backup"]

EPILOG: Final = """
\b
Examples:
  varve backup ./data /backups/orders
  varve backup ./data /backups/orders --incremental
  varve backup --list /backups/orders
  varve backup --check /backups/orders
"""


def backup(
    store: Annotated[
        Path,
        typer.Argument(
            metavar="STORE", help="The folder of a store (with --list and --check: DIR).", show_default=False
        ),
    ],
    target: Annotated[
        Path | None, typer.Argument(metavar="DIR", help="The folder of its backups, new or not.", show_default=False)
    ] = None,
    incremental: Annotated[bool, typer.Option("--incremental", help="Only what came since the last backup.")] = False,
    list_them: Annotated[bool, typer.Option("--list", help="List the backups in DIR.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Read the backups in DIR, and say what is wrong.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Back a store up into the folder DIR, while others write to it."""
    if incremental + list_them + check > 1:
        raise InvalidInput("--incremental, --list and --check exclude each other")
    if list_them or check:
        if target is not None:
            raise InvalidInput("--list and --check take one folder, that of the backups")
        (show_list if list_them else show_check)(store, as_json)
    elif target is None:
        raise InvalidInput("give two folders: varve backup STORE DIR")
    else:
        make(store, target, incremental, as_json)


def make(store: Path, target: Path, incremental: bool, as_json: bool) -> None:
    """A new backup."""
    with mebibytes("Backing up") as told:
        report = ops.backup(store, target, incremental=incremental, progress=told)
    made = report.backup
    if as_json:
        print_json({"written": report.written, "backup": made.as_json()})
        return
    out = console()
    if not report.written:
        out.print(
            f"nothing came since {made.name}, which reaches up to sequence {made.next_sequence:,}: nothing was written"
        )
        return
    if incremental and made.kind == "full":
        out.print("there was no backup to continue: this one is full")
    out.print(f"{made.path}: {made.events:,} events, {span(made)}, {size(made.size_bytes)}, verified")


def show_list(target: Path, as_json: bool) -> None:
    """What is there."""
    entries = ops.backups(target)
    if as_json:
        print_json([entry_json(entry) for entry in entries])
        return
    rows = [("backup", "taken", "from", "to", "events", "size")]
    for entry in entries:
        made = entry.backup
        if made is not None:
            taken = made.taken_at.strftime("%Y-%m-%d %H:%M:%S UTC")
            counts = (f"{made.first_sequence:,}", f"{made.next_sequence:,}", f"{made.events:,}")
            rows.append((entry.name, taken, *counts, size(made.size_bytes)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    out = console()
    for index, row in enumerate(rows):
        pairs = enumerate(zip(row, widths, strict=True))
        cells = [cell.ljust(width) if at < 2 else cell.rjust(width) for at, (cell, width) in pairs]
        out.print(Text("  ".join(cells).rstrip(), style="" if index else "bold"))
    for entry in entries:
        if entry.problem is not None:
            out.print(f"{entry.name}: {entry.problem}")


def show_check(target: Path, as_json: bool) -> None:
    """Whether it is sound; a ``CorruptedBackup`` where it is not."""
    with mebibytes("Checking") as told:
        found = ops.verify_backup(target, progress=told)
    if as_json:
        print_json(
            {
                "sound": found.sound,
                "backups": [entry.name for entry in found.entries],
                "problems": [problem_json(problem) for problem in found.problems],
                "leftovers": list(found.leftovers),
            }
        )
    else:
        out = console()
        for problem in found.problems:
            out.print(str(problem))
        for name in found.leftovers:
            out.print(f"{name}: of a backup that was cut off, or is running; the next one removes it")
        if found.sound:
            last = found.entries[-1].readable()
            count = len(found.entries)
            out.print(f"{count} backup{'s' * (count != 1)}, up to sequence {last.next_sequence:,}: sound")
    if not found.sound:
        message = f"{len(found.problems)} of {len(found.entries)} backups in {target} cannot be used"
        raise CorruptedBackup(message, path=str(target), reason="see above")


def entry_json(entry: ops.BackupEntry) -> dict[str, Any]:
    """A backup for programs: its manifest, or what is wrong with it."""
    if entry.backup is not None:
        return entry.backup.as_json()
    problem = None if entry.problem is None else problem_json(entry.problem)
    return {"name": entry.name, "path": entry.path, "problem": problem}


def problem_json(problem: VarveError) -> dict[str, Any]:
    """What is wrong, for programs."""
    return {"code": problem.code, "path": getattr(problem, "path", None), "message": problem.message}


def span(made: ops.Backup) -> str:
    """Which events."""
    return f"{made.first_sequence:,} to {made.next_sequence - 1:,}" if made.events else f"at {made.next_sequence:,}"


def size(count: int) -> str:
    """Bytes for people."""
    for power, unit in ((3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1_000**power:
            return f"{count / 1_000**power:.1f} {unit}"
    return f"{count} bytes"


@contextlib.contextmanager
def mebibytes(what: str) -> Iterator[Progress]:
    """Progress of something counted in bytes."""
    with progress(what, "MiB") as told:
        yield lambda done, total: told(done >> 20, total >> 20)
