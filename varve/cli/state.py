"""``varve state``: the values beside the log."""

from __future__ import annotations

import ast
import datetime as dt
import json
import uuid
from collections.abc import Iterator, Mapping
from decimal import Decimal
from itertools import islice
from typing import Annotated, Any, Final

import typer

from varve import StateView
from varve.cli.common import JsonOption, StoreArgument, confirmed, opened, plain, print_json
from varve.errors import InvalidInput

__all__ = ["app"]

app = typer.Typer(help="State: values by key, beside the log.", no_args_is_help=True, rich_markup_mode=None)

KeyArgument = Annotated[str, typer.Argument(metavar="KEY", help="The key: a str as it is written.", show_default=False)]
LiteralOption = Annotated[
    bool, typer.Option("--literal", "-l", help="""KEY is a Python literal: 42, b"raw", ("account", 7).""")
]
_MISSING: Final = object()

YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@app.command(
    "list",
    epilog="\b\nExamples:\n  varve state list ./data\n  varve state list ./data account: --limit 20 --json"
    "\n  varve state list ./data '(\"account\",)' --literal",
)
def list_(
    store: StoreArgument,
    prefix: Annotated[
        str | None, typer.Argument(metavar="[PREFIX]", help="How the keys begin.", show_default=False)
    ] = None,
    literal: Annotated[
        bool, typer.Option("--literal", "-l", help='PREFIX is a Python literal, such as ("account",).')
    ] = False,
    limit: Annotated[int | None, typer.Option(min=0, help="So many keys at most.", show_default=False)] = None,
    reverse: Annotated[bool, typer.Option("--reverse", help="From the end.")] = False,
    as_json: JsonOption = False,
) -> None:
    """List keys and their values, a line each."""
    with opened(store) as db, db.snapshot() as snap:
        for key, value in islice(_found(snap.state, prefix, literal=literal, reverse=reverse), limit):
            if as_json:
                print(json.dumps({"key": shown(key), "value": shown(value)}, ensure_ascii=False))
            else:
                print(f"{plain(repr(key))}  {plain(repr(value))}")


def _found(state: StateView, prefix: str | None, *, literal: bool, reverse: bool) -> Iterator[tuple[Any, Any]]:
    if prefix is None:
        return state.range(reverse=reverse)
    return state.scan_prefix(key_of(prefix, literal=literal), reverse=reverse)


@app.command(
    epilog="\b\nExamples:\n  varve state get ./data settings\n  varve state get ./data '(\"account\", 7)' --literal"
)
def get(store: StoreArgument, key: KeyArgument, literal: LiteralOption = False, as_json: JsonOption = False) -> None:
    """Print the value of a key."""
    where = key_of(key, literal=literal)
    with opened(store) as db:
        value = db.state.get_opt(where, _MISSING)
    if value is _MISSING:
        hint = "" if literal else ", and --literal takes a key that is no str"
        raise InvalidInput(f"state has no {where!r:.120}: 'varve state list' shows the keys{hint}")
    if as_json:
        print_json(shown(value))
    else:
        print(plain(repr(value)))


@app.command(epilog="\b\nExample:\n  varve state put ./data limit 500")
def put(
    store: StoreArgument,
    key: KeyArgument,
    value: Annotated[
        str, typer.Argument(metavar="VALUE", help='JSON: 500, true, null, [1, 2], "text".', show_default=False)
    ],
    literal: LiteralOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Store a value under a key, whatever was there."""
    try:
        parsed = json.loads(value)
    except ValueError:
        raise InvalidInput(f"{value!r:.80} is no JSON; a text needs its quotes: '\"text\"'") from None
    where = key_of(key, literal=literal)
    with opened(store, readonly=False) as db:
        if db.state.exists(where):
            confirmed(f"Replace {db.state.get(where)!r:.80} under {where!r:.80}?", yes=yes)
        db.state.put(where, parsed)
    if as_json:
        print_json({"key": shown(where), "value": parsed})
    else:
        print(f"{plain(repr(where))} is {plain(repr(parsed))}")


@app.command(epilog="\b\nExample:\n  varve state delete ./data limit")
def delete(
    store: StoreArgument,
    key: KeyArgument,
    literal: LiteralOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Remove a key, also one whose record is damaged."""
    where = key_of(key, literal=literal)
    with opened(store, readonly=False) as db:
        confirmed(f"Remove {where!r:.80}?", yes=yes)
        was_there = db.state.delete(where)
    if as_json:
        print_json({"key": shown(where), "deleted": was_there})
    else:
        print(f"removed {plain(repr(where))}" if was_there else f"there is no {plain(repr(where))}")


def key_of(text: str, *, literal: bool) -> Any:
    """A key as it was written. Raises ``InvalidInput``."""
    if not literal:
        return text
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise InvalidInput(f"{text!r:.80} is no Python literal such as 42 or ('account', 7)") from None


def shown(value: Any) -> Any:
    """A value as JSON can show it: what JSON lacks becomes a str or a list."""
    if isinstance(value, Mapping):
        return {key if isinstance(key, str) else repr(key): shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [shown(inner) for inner in value]
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, dt.datetime):
        return value.isoformat()
    if isinstance(value, Decimal | uuid.UUID) or (isinstance(value, float) and value - value != 0):
        return str(value)
    return value
