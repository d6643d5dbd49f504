"""What the commands share: how a store is named and opened, what people type, JSON for programs, text and progress for people.

Text that comes out of a store goes through ``plain`` or ``json_text``: whoever appends an event must not be able to send
anything to the terminal of whoever looks at it.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import typer
from rich.console import Console

from varve.errors import InvalidInput, NotAVarveStore, StoreNotFound
from varve.ops.text import as_bytes, json_text, plain
from varve.ops.typed import IdKind, sequence_or_time, stream_id_of, when

if TYPE_CHECKING:
    from varve import Varve

__all__ = [
    "IdKind",
    "IdKindOption",
    "JsonOption",
    "StoreArgument",
    "as_bytes",
    "confirmed",
    "console",
    "errors",
    "json_text",
    "opened",
    "plain",
    "print_json",
    "print_json_line",
    "progress",
    "sequence_or_time",
    "stream_id_of",
    "when",
]

StoreArgument = Annotated[
    Path,
    typer.Argument(
        metavar="STORE", help="The folder of a store.", show_default=False, readable=False
    ),  # the store says it
]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all, as the functions of ``varve.ops`` do it."""


# -- what is printed -------------------------------------------------------------------------------


def console() -> Console:
    """Standard output: colours on a terminal only, and not where NO_COLOR is set; lines are never cut."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def errors() -> Console:
    """Standard error, the same way: progress and remarks, which are no part of the result."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


def print_json(value: Any) -> None:
    """A result for programs: one JSON document."""
    sys.stdout.write(json_text(value, 2) + "\n")


def print_json_line(value: Any) -> None:
    """One of many results for programs: a JSON document on a line."""
    sys.stdout.write(json_text(value) + "\n")


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
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=out, transient=True) as bar:
        task = bar.add_task(plain(what), total=None, rate="")

        def told(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:,.0f} {unit}/s" if speed else ""
            bar.update(task, completed=done, total=total or None, rate=rate)

        yield told


def _nothing(done: int, total: int) -> None:
    """Nobody looks."""


# -- what is typed ---------------------------------------------------------------------------------


def opened(path: Path, *, readonly: bool = True) -> Varve:
    """The store in a folder, which must be there: a command never makes one of a mistyped path.

    Raises what ``varve.open`` raises.
    """
    from varve.store import Varve

    data = path / "data.mdb"
    if not data.exists() and not path.is_file():
        raise StoreNotFound(f"there is no store at {path}; varve init makes one", path=str(path))
    if (
        data.is_file() and not data.stat().st_size
    ):  # opened for writing it would become a new store, over what is left of one
        raise NotAVarveStore(f"{data} is empty: what was there is lost. Restore a backup, or remove it", path=str(path))
    return Varve(path, readonly=readonly)


IdKindOption = Annotated[
    IdKind | None,
    typer.Option(
        "--id-kind",
        help="What ID is. By default a number is an int, what is written like a UUID is one, all else is a str.",
        show_default=False,
    ),
]


def confirmed(question: str, *, yes: bool) -> None:
    """Ask, on a terminal; go on only where the answer is yes. ``yes``: it was given on the command line.

    Raises ``InvalidInput`` where nobody can be asked, and where the answer is no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidInput(f"{question} Nobody can be asked here: say --yes")
    print(plain(f"{question} [y/N] "), end="", file=sys.stderr, flush=True)
    if cast("str", sys.stdin.readline()).strip().lower() not in {"y", "yes"}:
        raise InvalidInput("nothing was done")
