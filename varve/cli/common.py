"""What the commands share: how a store is named and opened, JSON for programs, tables and progress for people."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

__all__ = ["JsonOption", "StoreArgument", "console", "errors", "print_json", "progress"]

StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="The folder of a store.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all, as the functions of ``varve.ops`` do it."""


def console() -> Console:
    """Standard output: colours on a terminal only, and not where NO_COLOR is set; lines are never cut."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def errors() -> Console:
    """Standard error, the same way: progress and remarks, which are no part of the result."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """A result for programs: one JSON document."""
    sys.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def progress(what: str, unit: str = "events") -> Iterator[Progress]:
    """A progress bar with rate and time left on standard error; nothing at all where that is no terminal."""
    out = errors()
    if not out.is_terminal:
        yield _nothing
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=out, transient=True) as bar:
        task = bar.add_task(what, total=None, rate="")

        def told(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:,.0f} {unit}/s" if speed else ""
            bar.update(task, completed=done, total=total or None, rate=rate)

        yield told


def _nothing(done: int, total: int) -> None:
    """Nobody looks."""
