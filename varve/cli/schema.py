"""``varve schema``: schemas as Python, as .fbs, and as a store remembers them."""

from __future__ import annotations

import importlib
import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.text import Text

from varve import ops
from varve import schema as schemas
from varve.cli.common import JsonOption, console, print_json
from varve.codec import event_type
from varve.codec.schema import NO_DEFAULT, FieldDef, Schema, TypeDef
from varve.errors import InvalidInput, SchemaError

__all__ = ["app"]

app = typer.Typer(
    help="Schemas: .fbs to Python and back, and what a store remembers.", no_args_is_help=True, rich_markup_mode=None
)

CLASS: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
"""``package.module:Class``."""

Target = Annotated[
    str, typer.Argument(help="The folder of a store, or a class as package.module:Class.", show_default=False)
]
TypeName = Annotated[
    str | None,
    typer.Argument(
        metavar="TYPE", help="Of a store: the name of an event type. All of them without it.", show_default=False
    ),
]
Output = Annotated[
    Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to a file instead.", show_default=False)
]


@app.command(epilog="Example: varve schema python orders.fbs -o orders.py")
def python(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="A .fbs file.", show_default=False)],
    include: Annotated[
        list[Path] | None,
        typer.Option(
            "--include", "-I", metavar="DIR", help="Where included files are; repeatable.", show_default=False
        ),
    ] = None,
    output: Output = None,
) -> None:
    """Write a Python module with the event classes of a .fbs file, to be committed: type checkers understand it."""
    write(schemas.to_python(path, include or ()), output, python=True)


@app.command(
    epilog="\b\nExamples:\n  varve schema fbs shop.events:OrderPlaced\n  varve schema fbs ./data OrderPlaced -o orders.fbs"
)
def fbs(target: Target, name: TypeName = None, output: Output = None) -> None:
    """Write the .fbs text of an event class, or of an event type in a store (its newest version)."""
    found = find(target, name)
    names = list(dict.fromkeys(one.name for one in found))
    if len(names) > 1:
        raise InvalidInput(f"{target} holds {len(names)} event types; say which: {', '.join(names)}")
    write(schemas.to_fbs(found[-1].cls), output)


@app.command(epilog="\b\nExamples:\n  varve schema show ./data\n  varve schema show shop.events:OrderPlaced --code")
def show(
    target: Target,
    name: TypeName = None,
    code: Annotated[bool, typer.Option("--code", help="The packers and views that Varve generates.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Show the event types of a store, every version of each, or one event class: name, fingerprint, fields."""
    found = find(target, name)
    if as_json:
        print_json([one.as_json(code) for one in found])
        return
    out = console()
    for index, one in enumerate(found):
        if index:
            out.print()
        one.show(out)
        if code:
            out.print()
            print_python(schemas.source(one.cls), out)
    if not found:
        print(f"{target} holds no events yet", file=sys.stderr)


# -- what is shown ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """An event type, of a store or of a class (then without ``number`` and ``version``)."""

    name: str
    cls: Any
    fingerprint: bytes
    schema: Schema
    number: int | None = None
    version: int | None = None

    def as_json(self, code: bool) -> dict[str, Any]:
        """For programs. ``schema`` is the canonical text."""
        out: dict[str, Any] = {"name": self.name, "number": self.number, "version": self.version}
        out |= {"fingerprint": self.fingerprint.hex(), "schema": json.loads(self.schema.to_bytes())}
        return out | {"code": schemas.source(self.cls)} if code else out

    def show(self, out: Console) -> None:
        """For people: the type and what it refers to, a line for each field."""
        title = Text(self.name, style="bold")
        if self.version is not None:
            title.append(f"  number {self.number}, version {self.version}", style="not bold")
        title.append(f"  {self.fingerprint.hex()}", style="not bold dim")
        out.print(title)
        rest = [one for one in self.schema.types.values() if one.name != self.schema.root]
        for index, definition in enumerate([self.schema.table, *sorted(rest, key=lambda one: one.name)]):
            if index:
                out.print(Text(f"{definition.what} {definition.name}"))
            for line in lines_of(definition):
                out.print(Text("  " + line))


def lines_of(definition: TypeDef) -> list[str]:
    """A line for each field or member."""
    if definition.what == "enum":
        return [f"{label} = {value}" for label, value in definition.members]
    width = max((len(f.name) for f in definition.fields), default=0)
    return [f"{f.name:<{width}}  {spelled(f)}" for f in definition.fields]


def spelled(f: FieldDef) -> str:
    """A field's type, what it is when absent, its marks."""
    out = f"{f.kind} | None" if f.optional else str(f.kind)
    if f.default is not NO_DEFAULT:
        out += f" = {json.dumps(f.default, ensure_ascii=False)}"
    marks = [*(["deprecated"] if f.deprecated else []), *(["key"] if f.key else [])]
    marks += [f"force_align {f.align}"] if f.align else []
    return f"{out}  ({', '.join(marks)})" if marks else out


# -- where it comes from ---------------------------------------------------------------------------


def find(target: str, name: str | None) -> list[Shown]:
    """The event types that a command line means."""
    if CLASS.fullmatch(target) and not Path(target).exists():
        if name is not None:
            raise InvalidInput(f"{target} is one class; TYPE is for a store")
        cls = class_named(target)
        one = event_type(cls)
        return [Shown(one.name, cls, one.fingerprint, one.schema)]
    stored = ops.schemas(target)
    found = [
        Shown(s.name, s.event_class, s.fingerprint, Schema.from_bytes(s.text), s.number, s.version)
        for s in stored
        if name is None or s.name == name
    ]
    if name is not None and not found:
        known = ", ".join(dict.fromkeys(s.name for s in stored)) or "none"
        raise InvalidInput(f"{target} holds no event type {name!r}; it holds {known}")
    return found


def class_named(target: str) -> Any:
    """The class of ``package.module:Class``; modules are found from the current folder, as ``python -m`` finds them."""
    if not CLASS.fullmatch(target):
        raise InvalidInput(f"a class is named as package.module:Class, not {target!r}")
    module, _, path = target.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found: Any = importlib.import_module(module)
    except Exception as error:
        raise SchemaError(f"{module} cannot be imported ({type(error).__name__}: {error})") from error
    for part in path.split("."):
        if not hasattr(found, part):
            raise SchemaError(f"{module} has no {path}")
        found = getattr(found, part)
    return found


def print_python(text: str, out: Console) -> None:
    """Python source: coloured on a terminal, elsewhere byte for byte what it is."""
    if not out.is_terminal:
        out.file.write(text)
        return
    from rich.syntax import Syntax  # slow to load

    out.print(Syntax(text, "python", background_color="default"))


def write(text: str, output: Path | None, *, python: bool = False) -> None:
    """A source text to a file or to standard output, the same bytes."""
    if output is not None:
        output.write_text(text, encoding="utf-8", newline="\n")
    elif python:
        print_python(text, console())
    else:
        sys.stdout.write(text)
