"""The commands together, and what becomes of errors: a user's mistake is a line on stderr and an exit code, no traceback."""

from __future__ import annotations

import io
import os
import sys
from typing import Annotated, Any, Final

import typer
from typer.core import TyperGroup

from varve import __version__
from varve.cli import (
    append,
    archive,
    backup,
    compact,
    consumers,
    dead_letters,
    demo,
    events,
    get,
    init,
    projections,
    repair,
    restore,
    schema,
    schemas,
    seal,
    snapshots,
    state,
    stats,
    streams,
    tail,
    transfer,
    ui,
    verify,
)
from varve.cli.common import plain
from varve.errors import Kind, VarveError

__all__ = ["EXIT_CODES", "GROUPS", "INTERRUPTED", "app", "run"]

EXIT_CODES: Final[dict[Kind, int]] = {
    "invalid": 2,
    "conflict": 3,
    "retryable": 4,
    "integrity": 5,
    "unavailable": 6,
    "unknown": 7,
}
"""What the process exits with, by the ``kind`` of the error."""

INTERRUPTED: Final = 130
"""The exit code after Ctrl-C, as shells have it: 128 and the signal's number."""

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "Begin": ("demo", "init"),
    "Look": ("stats", "streams", "cat", "log", "get", "tail", "ui"),
    "Write": ("append", "import"),
    "Take out": ("export", "parity", "digest"),
    "Keep": ("verify", "repair", "backup", "restore", "seal", "archive", "compact"),
    "Schemas, and what stands beside the log": (
        "schema",
        "consumers",
        "dead-letters",
        "state",
        "projections",
        "snapshots",
    ),
}
"""The commands as ``varve --help`` lists them: every command stands in one of these."""

EPILOG: Final = """
\b
Exit codes:
  0  done
  1  an error of Varve's own, with a traceback: please report it
  2  invalid: the command line, a .fbs file, an event class
  3  conflict: the store holds something else than expected
  4  retryable: try again later
  5  integrity: what is on disk is not what Varve wrote
  6  unavailable: no such store or file, no permission, not installed
  7  unknown: whether it was done shows when the store is opened again
  130  interrupted by Ctrl-C

\b
Example:
  varve demo shop
  varve log ./shop --reverse --limit 10
"""


LINE_CHARS: Final = 90
"""Of what a command does, in the lists of ``varve --help``."""


class Grouped(TyperGroup):
    """Lists the commands under the headings of ``GROUPS``."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:  # noqa: ARG002 - two classes that typer has here and there
        """Write the lists, in the order of the table."""
        left = {name: command for name, command in self.commands.items() if not command.hidden}
        sections = {title: [name for name in names if name in left] for title, names in GROUPS.items()}
        known = {name for names in sections.values() for name in names}
        sections["More"] = [name for name in left if name not in known]
        width = max(map(len, left))
        for title, names in sections.items():
            if names:
                with formatter.section(title):
                    rows = [(f"{name:<{width}}", left[name].get_short_help_str(LINE_CHARS)) for name in names]
                    formatter.write_dl(rows)


app = typer.Typer(
    cls=Grouped,
    help="Varve, an embedded, append-only event store.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,  # help is plain text, on a terminal and in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command(epilog=demo.EPILOG)(demo.demo)
app.command(epilog=init.EPILOG)(init.init)
app.command(epilog=stats.EPILOG)(stats.stats)
app.command(epilog=streams.EPILOG)(streams.streams)
app.command(epilog=events.CAT_EPILOG)(events.cat)
app.command(epilog=events.LOG_EPILOG)(events.log)
app.command(epilog=get.EPILOG)(get.get)
app.command(epilog=tail.EPILOG)(tail.tail)
app.command(epilog=ui.EPILOG)(ui.ui)
app.command(epilog=append.EPILOG)(append.append)
app.command(epilog=verify.EPILOG)(verify.verify)
app.command(epilog=repair.EPILOG)(repair.repair)
app.add_typer(schema.app, name="schema")
app.add_typer(consumers.app, name="consumers")
app.add_typer(dead_letters.app, name="dead-letters")
app.add_typer(state.app, name="state")
app.add_typer(projections.app, name="projections")
app.add_typer(snapshots.app, name="snapshots")
app.command("backup", epilog=backup.EPILOG)(backup.backup)
app.command("restore", epilog=restore.EPILOG)(restore.restore)
app.command("seal", epilog=seal.EPILOG)(seal.seal)
app.command("archive", epilog=archive.EPILOG)(archive.archive)
app.command("compact", epilog=compact.EPILOG)(compact.compact)
schemas.register(schema.app)
transfer.add_commands(app)


def _version(wanted: bool) -> None:
    if wanted:
        print(f"varve {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Which Varve this is.")
    ] = False,
) -> None:
    """Varve, an embedded, append-only event store."""


def run() -> int:
    """Run the command line; the exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and not stream.isatty():
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # what is written may be a source file
    try:
        app(prog_name="varve")
        sys.stdout.flush()
    except VarveError as error:
        return failed(error.message, EXIT_CODES[error.kind])
    except (BrokenPipeError, SystemExit) as end:
        # Typer and rich turn a broken pipe into exit code 1, which is ours for bugs, and typer Ctrl-C into a silent 130.
        if came_of(end, KeyboardInterrupt):
            return failed("interrupted", INTERRUPTED)
        if not came_of(end, BrokenPipeError):
            raise
        # The reader has what it wanted. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename is not None else ""
        return failed(f"{where}{error.strerror or error}", EXIT_CODES["unavailable"])
    except KeyboardInterrupt:
        return failed("interrupted", INTERRUPTED)
    return 0


def came_of(end: BaseException, kind: type[BaseException]) -> bool:
    """Whether an exception is of a kind, or was raised while one of that kind was handled."""
    at: BaseException | None = end
    while at is not None and not isinstance(at, kind):
        at = at.__cause__ or at.__context__
    return at is not None


def failed(message: str, code: int) -> int:
    """Say what went wrong, on one line."""
    print(f"varve: {plain(message)}", file=sys.stderr)
    return code
