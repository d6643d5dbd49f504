"""``varve tail``: events as they are committed, by whichever process."""

from __future__ import annotations

import sys
from itertools import islice
from typing import Annotated, Final

import typer

from varve import END, ops
from varve.cli.common import JsonOption, StoreArgument, opened, sequence_or_time
from varve.cli.events import LimitOption, MetadataOption, StreamsOption, TypesOption
from varve.cli.shown import Lines

__all__ = ["EPILOG", "tail"]

EPILOG: Final = """
\b
Examples:
  varve tail ./data
  varve tail ./data --from 15m --stream orders
  varve tail ./data --json --limit 1
"""
INTERRUPTED: Final = 130


def tail(
    store: StoreArgument,
    start: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="WHERE",
            help="From a global sequence or point in time on, or from the end: what comes from now on.",
        ),
    ] = "end",
    stream: StreamsOption = None,
    type_: TypesOption = None,
    limit: LimitOption = None,
    metadata: MetadataOption = False,
    as_json: JsonOption = False,
) -> None:
    """Show events as they are committed, until Ctrl-C."""
    begin = END if start == "end" else sequence_or_time(start)
    try:
        with opened(store) as db:
            lines = Lines(as_json=as_json, metadata=metadata, flush=True)
            follow = db.follow(begin, streams=stream or None, types=type_ or None)
            for recorded in islice(follow, limit):
                lines.print(ops.recorded_to_dict(recorded))
            return
    except KeyboardInterrupt:
        pass  # how a tail ends: without a word
    sys.stdout.flush()
    raise typer.Exit(INTERRUPTED)
