"""The command line, ``varve``: one file per group of commands, each thin over public functions.

It needs the extra ``cli`` (typer and rich), which nothing else of Varve loads: this module says so where it is missing.
"""

from __future__ import annotations

import sys

__all__ = ["main"]

UNAVAILABLE = 6
"""The exit code where something that is needed is not there, the extra included (see ``varve.cli.app.EXIT_CODES``)."""


def main() -> None:
    """Run the command line and exit: 0 when done, else by the kind of the error, as ``varve --help`` says."""
    try:
        from varve.cli.app import run

        code = run()
    except KeyboardInterrupt:  # before anything was begun
        print("varve: interrupted", file=sys.stderr)
        sys.exit(130)
    except ModuleNotFoundError as error:
        missing = (error.name or "varve").partition(".")[0]
        if missing == "varve":
            raise
        print(
            f"varve: the command line needs {missing}, which is not installed: pip install 'varve-store[cli]'",
            file=sys.stderr,
        )
        sys.exit(UNAVAILABLE)
    sys.exit(code)
