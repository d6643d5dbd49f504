"""``varve init``: an empty store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final

import typer

from varve.cli.common import JsonOption, plain, print_json
from varve.errors import Conflict
from varve.store import Varve

__all__ = ["EPILOG", "init"]

EPILOG: Final = """
\b
Example:
  varve init ./data
"""


def init(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Where to; parents are made.", show_default=False)],
    as_json: JsonOption = False,
) -> None:
    """Make an empty store. (Programs need not: varve.open makes the store that it does not find.)"""
    if (folder / "data.mdb").exists():
        raise Conflict(f"{folder} holds a store already; nothing was changed")
    with Varve(folder) as db:
        if as_json:
            print_json({"path": str(folder), "uuid": str(db.uuid)})
        else:
            print(f"made an empty store in {plain(str(folder))} ({db.uuid})")
