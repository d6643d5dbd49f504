"""``varve consumers``: the named positions in a store."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.text import Text

from varve import END, ConsumerInfo, Varve
from varve.cli.common import JsonOption, StoreArgument, confirmed, console, opened, plain, print_json, sequence_or_time
from varve.errors import InvalidInput
from varve.tailing.start import TailStart

__all__ = ["app"]

app = typer.Typer(help="Consumers: named positions in the log.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Its name.", show_default=False)]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Also where somebody runs it, who is refused from then on.")]
TITLES: Final = ("name", "position", "lag", "updated (UTC)", "run by")


@app.command("list", epilog="\b\nExample:\n  varve consumers list ./data")
def list_(store: StoreArgument, as_json: JsonOption = False) -> None:
    """List the consumers of a store: where they stand, how far behind, who runs them."""
    with opened(store) as db:
        found = db.consumers()
    if as_json:
        print_json([info_json(info) for info in found])
        return
    rows = [TITLES, *map(row_of, found)] if found else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for index, row in enumerate(rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        console().print(Text("  ".join(cells).rstrip(), "" if index else "dim"))


@app.command(
    epilog="\b\nExamples:\n  varve consumers seek ./data billing start\n  varve consumers seek ./data billing 2h --yes"
)
def seek(
    store: StoreArgument,
    name: NameArgument,
    to: Annotated[
        str,
        typer.Argument(metavar="WHERE", help="A global sequence, a point in time, start, or end.", show_default=False),
    ],
    yes: YesOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Let a consumer, with all members of its group, continue from elsewhere."""
    start: TailStart = 0 if to == "start" else END if to == "end" else sequence_or_time(to)
    with opened(store, readonly=False) as db:
        info = found(db, name)
        confirmed(f"Move consumer {name!r} from {info.position} to {to}?", yes=yes)
        position = db.seek_consumer(name, start, force=force)
    if position is None:  # deleted meanwhile
        raise InvalidInput(f"there is no consumer {name!r} any more")
    if as_json:
        print_json({"name": name, "from": info.position, "position": position})
    else:
        print(f"{plain(name)} continues at {position} (it stood at {info.position})")


@app.command(epilog="\b\nExample:\n  varve consumers delete ./data billing")
def delete(
    store: StoreArgument,
    name: NameArgument,
    yes: YesOption = False,
    force: ForceOption = False,
    as_json: JsonOption = False,
) -> None:
    """Forget a consumer and its position."""
    with opened(store, readonly=False) as db:
        info = None if force else found(db, name)  # a damaged record cannot be listed
        stands = "" if info is None else f", which stands at {info.position}"
        confirmed(f"Forget consumer {name!r}{stands}?", yes=yes)
        was_there = db.delete_consumer(name, force=force)
    if as_json:
        print_json({"name": name, "deleted": was_there})
    else:
        print(f"forgot {plain(name)}" if was_there else f"there is no consumer {plain(name)} any more")


def found(db: Varve, name: str) -> ConsumerInfo:
    """A consumer that is there. Raises ``InvalidInput``."""
    known = {info.name: info for info in db.consumers()}
    if name not in known:
        raise InvalidInput(f"there is no consumer {name!r}; the store has {', '.join(known) or 'none'}")
    return known[name]


def info_json(info: ConsumerInfo) -> dict[str, object]:
    """A consumer for programs."""
    return {
        "name": info.name,
        "position": info.position,
        "lag": info.lag,
        "updated_at": info.updated_at.isoformat(timespec="microseconds"),
        "running": info.running,
        "members": [
            {
                "member": member.member,
                "running": member.running,
                "pid": member.pid,
                "taken_at": member.taken_at.isoformat(timespec="microseconds"),
                "position": member.position,
            }
            for member in info.members
        ],
    }


def row_of(info: ConsumerInfo) -> tuple[str, ...]:
    """A consumer for people."""
    running = [str(member.pid) for member in info.members if member.running]
    shared = f" ({len(running)} of {len(info.members)} members)" if len(info.members) > 1 else ""
    who = f"process {', '.join(dict.fromkeys(running))}{shared}" if running else "nobody"
    return plain(info.name), str(info.position), str(info.lag), f"{info.updated_at:%Y-%m-%d %H:%M:%S}", who
