"""What the commands share: how a store is named and opened, what people type, JSON for programs, text and progress for people.

Text that comes out of a store goes through ``plain`` or ``json_text``: whoever appends an event must not be able to send
anything to the terminal of whoever looks at it.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import re
import sys
import uuid
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, cast

import typer
from rich.console import Console

from varve.errors import InvalidInput, StoreNotFound

if TYPE_CHECKING:
    from varve import Varve
    from varve.layout.keys import StreamId

__all__ = [
    "IdKind",
    "IdKindOption",
    "JsonOption",
    "StoreArgument",
    "as_bytes",
    "confirmed",
    "console",
    "errors",
    "json_text",
    "opened",
    "plain",
    "print_json",
    "print_json_line",
    "progress",
    "sequence_or_time",
    "stream_id_of",
    "when",
]

StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="The folder of a store.", show_default=False)]
JsonOption = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]

Progress = Callable[[int, int], None]
"""Called with what is done and what there is in all, as the functions of ``varve.ops`` do it."""


# -- what is printed -------------------------------------------------------------------------------


def console() -> Console:
    """Standard output: colours on a terminal only, and not where NO_COLOR is set; lines are never cut."""
    return Console(highlight=False, markup=False, emoji=False, soft_wrap=True)


def errors() -> Console:
    """Standard error, the same way: progress and remarks, which are no part of the result."""
    return Console(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)


UNSAFE: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")
"""Characters that steer a terminal, change the direction of what stands beside them, end a line, or cannot be written."""


def _escaped(found: re.Match[str]) -> str:
    code = ord(found.group())
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def plain(text: str) -> str:
    """Text of any origin on one line, with whatever could steer a terminal spelled out."""
    return UNSAFE.sub(_escaped, text)


def json_text(value: Any, indent: int | None = None) -> str:
    """A value as JSON. Whatever could steer a terminal is spelled out, which JSON allows; everything else is text as it is."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    lines = text.split("\n") if indent is not None else [text]  # strings hold no line feeds of their own
    return "\n".join(UNSAFE.sub(lambda found: f"\\u{ord(found.group()):04x}", line) for line in lines)


def print_json(value: Any) -> None:
    """A result for programs: one JSON document."""
    sys.stdout.write(json_text(value, 2) + "\n")


def print_json_line(value: Any) -> None:
    """One of many results for programs: a JSON document on a line."""
    sys.stdout.write(json_text(value) + "\n")


def as_bytes(count: float) -> str:
    """A number of bytes for people: ``512 B``, ``3.4 MiB``."""
    if count < 1024:
        return f"{count:.0f} B"
    for unit in ("KiB", "MiB", "GiB"):
        count /= 1024
        if count < 1024:
            return f"{count:.1f} {unit}"
    return f"{count / 1024:.1f} TiB"


@contextlib.contextmanager
def progress(what: str, unit: str = "events") -> Iterator[Progress]:
    """A progress bar with rate and time left on standard error; nothing at all where that is no terminal."""
    out = errors()
    if not out.is_terminal:
        yield _nothing
        return
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=out, transient=True) as bar:
        task = bar.add_task(plain(what), total=None, rate="")

        def told(done: int, total: int) -> None:
            speed = bar.tasks[0].speed
            rate = f"{speed:,.0f} {unit}/s" if speed else ""
            bar.update(task, completed=done, total=total or None, rate=rate)

        yield told


def _nothing(done: int, total: int) -> None:
    """Nobody looks."""


# -- what is typed ---------------------------------------------------------------------------------


def opened(path: Path, *, readonly: bool = True) -> Varve:
    """The store in a folder, which must be there: a command never makes one of a mistyped path.

    Raises what ``varve.open`` raises.
    """
    from varve.store import Varve

    if not (path / "data.mdb").exists() and not path.is_file():
        raise StoreNotFound(f"there is no store at {path}; varve init makes one", path=str(path))
    return Varve(path, readonly=readonly)


class IdKind(StrEnum):
    """The kinds of stream ids."""

    INT = "int"
    STR = "str"
    UUID = "uuid"


IdKindOption = Annotated[
    IdKind | None,
    typer.Option(
        "--id-kind",
        help="What ID is. By default a number is an int, what is written like a UUID is one, all else is a str.",
        show_default=False,
    ),
]

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


def stream_id_of(text: str, kind: IdKind | None) -> StreamId:
    """A stream id as typed. Raises ``InvalidInput`` where it is not of the kind that was said."""
    if kind is None:
        if text.isascii() and text.isdigit() and str(int(text)) == text:  # 007 is a text
            kind = IdKind.INT
        else:
            kind = IdKind.UUID if _UUID.fullmatch(text) else IdKind.STR
    try:
        return text if kind is IdKind.STR else int(text) if kind is IdKind.INT else uuid.UUID(text)
    except ValueError:
        raise InvalidInput(f"the id {text!r} is no {kind.value}") from None


_AGO: Final = re.compile(r"(\d{1,9})(s|m|h|d|w)")
_UNITS: Final = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def when(text: str) -> dt.datetime:
    """A point in time as typed: ISO 8601 (UTC where it has no offset), ``now``, or how long ago: ``90s``, ``15m``, ``2h``,
    ``3d``, ``1w``. Raises ``InvalidInput``."""
    now = dt.datetime.now(dt.UTC)
    if text == "now":
        return now
    ago = _AGO.fullmatch(text)
    try:
        if ago is not None:
            return now - dt.timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        found = dt.datetime.fromisoformat(text)
        return found.replace(tzinfo=dt.UTC) if found.tzinfo is None else found.astimezone(dt.UTC)
    except (ValueError, OverflowError):
        raise InvalidInput(
            f"{text!r} is no point in time: write 2025-01-31, 2025-01-31T12:00:00+01:00, now, or how long ago (90s, 15m, 2h, 3d, "
            "1w)"
        ) from None


def sequence_or_time(text: str) -> int | dt.datetime:
    """A global sequence, or a point in time as ``when`` reads it. Raises ``InvalidInput``."""
    if text.isascii() and text.isdigit():
        return int(text)
    try:
        return when(text)
    except InvalidInput as error:
        raise InvalidInput(f"{text!r} is no global sequence, and {error}") from None


def confirmed(question: str, *, yes: bool) -> None:
    """Ask, on a terminal; go on only where the answer is yes. ``yes``: it was given on the command line.

    Raises ``InvalidInput`` where nobody can be asked, and where the answer is no.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise InvalidInput(f"{question} Nobody can be asked here: say --yes")
    print(plain(f"{question} [y/N] "), end="", file=sys.stderr, flush=True)
    if cast("str", sys.stdin.readline()).strip().lower() not in {"y", "yes"}:
        raise InvalidInput("nothing was done")
