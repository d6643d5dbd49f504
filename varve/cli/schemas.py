"""``varve schema list``, ``export`` and ``check``: the schemas in a store, beside those of files and classes."""

from __future__ import annotations

import json
import re
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.text import Text

from varve import ops
from varve import schema as schemas
from varve.cli.common import JsonOption, StoreArgument, console, opened, plain, print_json
from varve.cli.schema import CLASS, class_named
from varve.codec import event_type
from varve.errors import Conflict, InvalidInput

__all__ = ["register"]

REFUSED: Final = 3

LIST_EPILOG: Final = """
\b
Example:
  varve schema list ./data
"""
EXPORT_EPILOG: Final = """
\b
Examples:
  varve schema export ./data ./schemas
  varve schema export ./data ./schemas --form json --versions
"""
CHECK_EPILOG: Final = """
\b
Exit code 3 where the store would refuse any of it.
Examples:
  varve schema check ./data shop.events:OrderPlaced
  varve schema check ./data orders.fbs -I include
"""


class Form(StrEnum):
    """How schemas are written to files."""

    FBS = "fbs"
    JSON = "json"
    PYTHON = "python"


SUFFIXES: Final = {Form.FBS: ".fbs", Form.JSON: ".json", Form.PYTHON: ".py"}


def register(app: typer.Typer) -> None:
    """Put these commands beside the others of ``varve schema``."""
    app.command("list", epilog=LIST_EPILOG)(list_)
    app.command(epilog=EXPORT_EPILOG)(export)
    app.command(epilog=CHECK_EPILOG)(check)


def list_(store: StoreArgument, as_json: JsonOption = False) -> None:
    """List the event types of a store: name, versions, fingerprint of the newest."""
    with opened(store) as db:
        found = ops.stored_schemas(db)
    newest = {schema.name: schema for schema in found}
    numbers = {name: [schema.number for schema in found if schema.name == name] for name in newest}
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "versions": one.version,
                    "numbers": numbers[one.name],
                    "fingerprint": one.fingerprint.hex(),
                }
                for one in newest.values()
            ]
        )
        return
    width = max(map(len, newest), default=0)
    for one in newest.values():
        versions = "1 version " if one.version == 1 else f"{one.version} versions"
        line = Text(f"{plain(one.name):<{width}}", "bold").append(f"  {versions}", "not bold")
        console().print(line.append(f"  {one.fingerprint.hex()}", "not bold dim"))


def export(
    store: StoreArgument,
    folder: Annotated[
        Path,
        typer.Argument(metavar="DIR", help="The folder to write to; made where it is not there.", show_default=False),
    ],
    form: Annotated[Form, typer.Option("--form", help="What is written of each type.")] = Form.FBS,
    versions: Annotated[bool, typer.Option("--versions", help="Older versions as well.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace files that are there.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Write every event type of a store into a folder, a file each."""
    with opened(store) as db:
        stored = ops.stored_schemas(db)
    newest = {schema.name: schema for schema in stored}
    texts: dict[Path, str] = {}
    taken: set[str] = set()
    written = []
    for one in stored:
        is_newest = newest[one.name] is one
        if versions or is_newest:
            name = file_name(one.name if is_newest else f"{one.name}.v{one.version}", SUFFIXES[form], taken)
            texts[folder / name] = text_of(one, form)
            written.append({"name": one.name, "version": one.version, "file": str(folder / name)})
    there = [path for path in texts if path.exists()]
    if there and not force:
        raise Conflict(f"{there[0]} is there already; nothing was written. --force replaces it")
    folder.mkdir(parents=True, exist_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8", newline="\n")
    if as_json:
        print_json(written)
    else:
        for path in texts:
            print(plain(str(path)))


def file_name(name: str, suffix: str, taken: set[str]) -> str:
    """A file's name for a type: names hold characters that files cannot, and some file systems do not tell case."""
    plain_name = re.sub(r"[^A-Za-z0-9_.-]", "_", name)
    found, number = plain_name, 2
    while found.casefold() in taken:
        found, number = f"{plain_name}-{number}", number + 1
    taken.add(found.casefold())
    return found + suffix


def text_of(one: ops.StoredSchema, form: Form) -> str:
    """A schema as a file."""
    if form is Form.FBS:
        return schemas.to_fbs(one.event_class)
    if form is Form.PYTHON:
        return schemas.to_python(one.event_class)
    return json.dumps(json.loads(one.text), indent=2) + "\n"


def check(
    store: StoreArgument,
    target: Annotated[
        str, typer.Argument(metavar="WHAT", help="A class as package.module:Class, or a .fbs file.", show_default=False)
    ],
    include: Annotated[
        list[Path] | None,
        typer.Option(
            "--include", "-I", metavar="DIR", help="Where included files are; repeatable.", show_default=False
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say whether a store would take a class, or the event types of a .fbs file; and if not, every reason."""
    classes = classes_of(target, include or [])
    with opened(store) as db:
        found = [ops.check_schema(db, cls) for cls in classes]
    if as_json:
        print_json(
            [
                {
                    "name": one.name,
                    "accepted": one.accepted,
                    "versions": one.versions,
                    "version": one.version,
                    "reasons": one.reasons,
                }
                for one in found
            ]
        )
    else:
        for one in found:
            console().print(Text(f"{plain(one.name)}: ", "bold").append(verdict(one), "not bold"))
            for reason in one.reasons:
                console().print(f"  {plain(reason)}")
    if not all(one.accepted for one in found):
        raise typer.Exit(REFUSED)


def classes_of(target: str, include: list[Path]) -> list[Any]:
    """The event classes that a command line means."""
    if CLASS.fullmatch(target) and not Path(target).exists():
        return [class_named(target)]
    loaded = schemas.load(target, include)
    classes = [cls for cls in loaded.values() if is_event(cls)]
    if not classes:
        raise InvalidInput(f"{target} declares no table, so no event type")
    return classes


def is_event(cls: Any) -> bool:
    """Whether a class of a .fbs file is a table."""
    declared = getattr(cls, "__varve__", None)
    return declared is not None and declared.what == "table" and bool(event_type(cls))


def verdict(one: ops.SchemaCheck) -> str:
    """What a store says to a class, in words."""
    if one.reasons:
        return "refused"
    if not one.versions:
        return "new to the store"
    if one.version is not None:
        return f"version {one.version} of {one.versions} in the store"
    return f"may follow version {one.versions} in the store"
