"""``varve ui``: the explorer in the browser."""

from __future__ import annotations

import contextlib
import sys
from typing import Annotated, Final

import typer

from varve.cli.common import JsonOption, StoreArgument, opened, print_json_line

__all__ = ["EPILOG", "ui"]

EPILOG: Final = """
\b
Examples:
  varve ui ./data
  varve ui ./data --port 8765 --no-browser
"""
INTERRUPTED: Final = 130


def ui(
    store: StoreArgument,
    port: Annotated[
        int,
        typer.Option(
            "--port", metavar="N", min=0, max=65_535, help="The port; by default one that is free.", show_default=False
        ),
    ] = 0,
    host: Annotated[
        str, typer.Option("--host", metavar="ADDRESS", help="The address to listen on: a loopback address.")
    ] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Only print the address.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Look around in a store in the browser, until Ctrl-C."""
    from varve.ui import check_extra

    check_extra()
    from varve.ui.server import Explorer

    try:
        with opened(store) as db, contextlib.closing(Explorer(db, host=host, port=port)) as explorer:
            if as_json:
                print_json_line({"url": explorer.url, "port": explorer.port, "path": db.path})
            else:
                print(f"{explorer.url}\nWhoever has this address can read the whole store. Ctrl-C ends it.")
            sys.stdout.flush()
            explorer.run(browser=not no_browser)
    except KeyboardInterrupt:
        pass  # how it ends: without a word
    raise typer.Exit(INTERRUPTED)
