"""``varve snapshots``: states saved beside the log."""

from __future__ import annotations

import uuid
from typing import Annotated, Final, cast

import typer
from rich.text import Text

from varve import SavedInfo
from varve.cli.common import JsonOption, StoreArgument, confirmed, console, opened, plain, print_json
from varve.errors import InvalidInput
from varve.layout.keys import StreamId

__all__ = ["app"]

app = typer.Typer(help="Snapshots: states saved beside the log.", no_args_is_help=True, rich_markup_mode=None)

NameArgument = Annotated[
    str, typer.Argument(metavar="NAME", help="The name of a projection, or of a stream.", show_default=False)
]
IdOption = Annotated[str | None, typer.Option("--id", metavar="ID", help="The stream's id.", show_default=False)]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
TITLES: Final = ("scope", "position", "schema", "saved (UTC)", "bytes")


@app.command("list", epilog="\b\nExample:\n  varve snapshots list ./data")
def list_(store: StoreArgument, as_json: JsonOption = False) -> None:
    """List the states saved in a store.

    Whose they are, at which position, when, how large. What is damaged is left out (verify names it).
    """
    with opened(store) as db:
        found = db.snapshots.stored()
    if as_json:
        print_json([info_json(info) for info in found])
        return
    rows = [TITLES, *map(row_of, found)] if found else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for index, row in enumerate(rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        console().print(Text("  ".join(cells).rstrip(), "" if index else "dim"))


@app.command(
    epilog="\b\nExamples:\n  varve snapshots delete ./data totals\n  varve snapshots delete ./data orders --id 7 --keep 1"
)
def delete(
    store: StoreArgument,
    name: NameArgument,
    stream_id: IdOption = None,
    keep: Annotated[int, typer.Option("--keep", min=0, help="Keep so many of the newest.", show_default=False)] = 0,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Delete saved states of a name, or of a stream.

    Without --id those under a name, with it those of a stream. They are derived: whoever needs one folds the log.
    """
    with opened(store, readonly=False) as db:
        infos = chosen(db.snapshots.stored(), name, stream_id)
        scope = infos[0].scope
        confirmed(f"Delete {max(0, len(infos) - keep)} saved states of {spelled(scope)}?", yes=yes)
        deleted = db.snapshots.keep_last(scope, keep)
    if as_json:
        print_json({**scope_json(scope), "deleted": deleted})
    else:
        print(f"deleted {deleted} saved states of {plain(spelled(scope))}")


def chosen(infos: list[SavedInfo], name: str, stream_id: str | None) -> list[SavedInfo]:
    """What is saved of the scope that was named. Raises ``InvalidInput`` where there is none, and where an id may be meant as a
    number or as text, and both are there."""
    wanted = [
        info for info in infos if (info.scope == name if stream_id is None else is_of(info.scope, name, stream_id))
    ]
    scopes = list(dict.fromkeys(info.scope for info in wanted))
    if not scopes:
        known = ", ".join(dict.fromkeys(spelled(info.scope) for info in infos)) or "none"
        raise InvalidInput(
            f"nothing is saved of {name!r}{'' if stream_id is None else f' / {stream_id}'}; there is: {known}"
        )
    if len(scopes) > 1:
        raise InvalidInput(
            f"{stream_id} names more than one stream: {', '.join(map(spelled, scopes))}; delete them with db.snapshots.delete"
        )
    return wanted


def is_of(scope: object, name: str, stream_id: str) -> bool:
    """Whether a scope is a stream, and its id is written so."""
    return isinstance(scope, tuple) and scope[0] == name and str(scope[1]) == stream_id


def spelled(scope: object) -> str:
    """A scope for people."""
    return scope if isinstance(scope, str) else " / ".join(map(str, cast("tuple[str, StreamId]", scope)))


def scope_json(scope: object) -> dict[str, object]:
    """A scope for programs."""
    if isinstance(scope, str):
        return {"scope": scope}
    name, stream_id = cast("tuple[str, StreamId]", scope)
    return {"stream": name, "stream_id": str(stream_id) if isinstance(stream_id, uuid.UUID) else stream_id}


def info_json(info: SavedInfo) -> dict[str, object]:
    """A saved state for programs."""
    return {
        **scope_json(info.scope),
        "position": info.position,
        "schema": info.schema,
        "saved_at": info.saved_at.isoformat(timespec="microseconds"),
        "size_bytes": info.size_bytes,
    }


def row_of(info: SavedInfo) -> tuple[str, ...]:
    """A saved state for people."""
    return (
        plain(spelled(info.scope)),
        str(info.position),
        plain(info.schema),
        f"{info.saved_at:%Y-%m-%d %H:%M:%S}",
        str(info.size_bytes),
    )
