"""``varve stats``: what a store holds and what it costs."""

from __future__ import annotations

from typing import Annotated, Any, Final

import typer
from rich.text import Text

from varve import StoreStats, ops
from varve.cli.common import JsonOption, StoreArgument, as_bytes, console, opened, plain, print_json, progress

__all__ = ["EPILOG", "sparkline", "stats"]

EPILOG: Final = """
\b
Examples:
  varve stats ./data
  varve stats ./data --exact --json
"""
BARS: Final = "▁▂▃▄▅▆▇█"
NAMES_SHOWN: Final = 20


def stats(
    store: StoreArgument,
    buckets: Annotated[
        int, typer.Option("--buckets", metavar="N", min=1, max=1_000, help="Into how many stretches of time it is cut.")
    ] = 60,
    exact: Annotated[
        bool, typer.Option("--exact", help="Look at every block instead of estimating from a thousand.")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Show what a store holds and what it costs.

    Events, streams, types, bytes, how full its blocks are, who reads, events over time.
    """
    with opened(store) as db:
        found = db.stats()
        with progress("looking at blocks") as told:
            fill = ops.block_fill(db, samples_max=None if exact else 1_000, progress=told)
        rate = ops.event_rate(db, buckets)
        readers = ops.readers(db)
        first = db.first_global_sequence
        names = ops.stream_names(db)
        types = list(dict.fromkeys(schema.name for schema in ops.stored_schemas(db)))
        if as_json:
            print_json(
                {
                    "path": db.path,
                    "uuid": str(db.uuid),
                    "events": found.events,
                    "first_sequence": first,
                    "streams": found.streams,
                    "names": names,
                    "types": types,
                    "type_versions": found.types,
                    "file_bytes": found.file_bytes,
                    "used_bytes": found.used_bytes,
                    "map_bytes": found.map_bytes,
                    "blocks": fill_json(fill),
                    "readers": [{"pid": one.pid, "commits_behind": one.commits_behind} for one in readers],
                    "readers_max": found.readers_max,
                    "rate": {
                        "start": rate.start.isoformat() if rate.counts else None,
                        "bucket_s": rate.bucket_s,
                        "counts": rate.counts,
                    },
                }
            )
            return
        for name, value in rows(found, first, fill, readers, names, types):
            console().print(Text(f"{name:<9}", "bold").append(plain(value), "not bold"))
        show_rate(rate)


def fill_json(fill: ops.BlockFill) -> dict[str, Any]:
    """The blocks for programs."""
    return {
        "blocks": fill.blocks,
        "payload_bytes": fill.payload_bytes,
        "block_bytes": fill.block_bytes,
        "payload_share": round(fill.payload_share, 4),
        "events_per_block": round(fill.events_per_block, 2),
        "sampled": fill.sampled,
    }


def rows(
    found: StoreStats,
    first: int,
    fill: ops.BlockFill,
    readers: list[ops.ReaderInfo],
    names: list[str],
    types: list[str],
) -> list[tuple[str, str]]:
    """What people read, a line each."""
    about = "" if fill.sampled is None else "about "
    versions = f" in {found.types} versions" if found.types > len(types) else ""
    per_event = f", {found.used_bytes / found.events:.0f} bytes of file per event" if found.events else ""
    out = [
        ("events", f"{found.events:,}" + (f", those before #{first} archived" if first else "")),
        ("streams", f"{found.streams:,}"),
        ("names", listed(names)),
        ("types", listed(types) + versions),
        ("file", f"{as_bytes(found.file_bytes)}, {as_bytes(found.used_bytes)} of it in use{per_event}"),
        ("map", f"{found.used_bytes / found.map_bytes:.2%} of {as_bytes(found.map_bytes)} reserved"),
    ]
    if found.events:
        size = as_bytes(fill.block_bytes / fill.blocks)
        words = f"{about}{fill.blocks:,} of {size}, {fill.events_per_block:,.1f} events each"
        out.append(("blocks", f"{words}, {fill.payload_share:.0%} of their bytes are events"))
    out.append(("readers", reader_words(readers, found.readers_max)))
    return out


def reader_words(readers: list[ops.ReaderInfo], most: int) -> str:
    """Who reads, and how old what he sees is."""
    ages = [
        f"process {one.pid} {'idle' if one.commits_behind is None else f'{one.commits_behind} commits behind'}"
        for one in readers[:NAMES_SHOWN]
    ]
    return f"{len(readers)} of {most}" + (f": {', '.join(ages)}" if ages else "")


def listed(names: list[str]) -> str:
    """A number and what it counts, as far as there is room."""
    more = ", ..." if len(names) > NAMES_SHOWN else ""
    return f"{len(names):,}" + (f": {', '.join(names[:NAMES_SHOWN])}{more}" if names else "")


def show_rate(rate: ops.Rate) -> None:
    """Events over time, as bars."""
    if not rate.counts:
        return
    out = console()
    out.print()
    out.print(Text(sparkline(rate.counts), "cyan"))
    width = rate.bucket_s
    spelled = next(
        (
            f"{width / seconds:.1f} {unit}"
            for seconds, unit in ((86_400, "days"), (3_600, "hours"), (60, "minutes"))
            if width >= seconds
        ),
        f"{width:.3g} seconds",
    )
    start = rate.start.isoformat(sep=" ", timespec="seconds")
    out.print(Text(f"events from {start} on, {spelled} for each bar, {max(rate.counts):,} at most", "dim"))


def sparkline(counts: tuple[int, ...]) -> str:
    """A bar for each number, none for 0."""
    most = max(counts, default=0)
    return "".join(BARS[(count * len(BARS) - 1) // most] if count else " " for count in counts)
