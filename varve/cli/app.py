"""The commands together, and what becomes of errors: a user's mistake is a line on stderr and an exit code, no traceback."""

from __future__ import annotations

import io
import os
import sys
from typing import Final

import typer

from varve.cli import schema, transfer
from varve.errors import Kind, VarveError

__all__ = ["EXIT_CODES", "INTERRUPTED", "app", "run"]

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
  varve schema show ./data
"""

app = typer.Typer(
    help="Varve, an embedded, append-only event store.",
    epilog=EPILOG,
    no_args_is_help=True,
    rich_markup_mode=None,  # help is plain text, on a terminal and in a pipe
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(schema.app, name="schema")
transfer.add_commands(app)


@app.callback()
def _root() -> None:
    """Keep ``schema`` a group of its own, whatever else there is."""


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
        # Typer and rich turn a broken pipe into exit code 1, which is ours for bugs.
        if isinstance(end, SystemExit) and not isinstance(end.__context__, BrokenPipeError):
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


def failed(message: str, code: int) -> int:
    """Say what went wrong."""
    print(f"varve: {message}", file=sys.stderr)
    return code
