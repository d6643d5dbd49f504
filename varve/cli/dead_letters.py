"""``varve dead-letters``: events that processors could not handle."""

from __future__ import annotations

from typing import Annotated, Final

import typer
from rich.text import Text

from varve import DeadLetterInfo, DeadLetters, ops
from varve.cli.common import JsonOption, StoreArgument, confirmed, console, opened, plain, print_json
from varve.cli.get import describe
from varve.cli.shown import id_text
from varve.errors import InvalidInput

__all__ = ["app"]

app = typer.Typer(
    help="Dead letters: events that processors could not handle.", no_args_is_help=True, rich_markup_mode=None
)

NameArgument = Annotated[str, typer.Argument(metavar="PROCESSOR", help="The processor's name.", show_default=False)]
SequenceArgument = Annotated[
    int, typer.Argument(metavar="SEQUENCE", min=0, help="Global sequence of the event.", show_default=False)
]
OneArgument = Annotated[
    int | None, typer.Argument(metavar="[SEQUENCE]", min=0, help="Global sequence of the event.", show_default=False)
]
AllOption = Annotated[bool, typer.Option("--all", help="All of the processor's.")]
YesOption = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
TITLES: Final = ("processor", "sequence", "stream", "type", "state", "attempts", "last failed (UTC)", "error")
MESSAGE_CHARS: Final = 60
"""Of an error's message in the list."""


@app.command("list", epilog="\b\nExample:\n  varve dead-letters list ./data --processor billing")
def list_(
    store: StoreArgument,
    processor: Annotated[
        str | None, typer.Option("--processor", metavar="NAME", help="Only this processor's.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """List what failed, and what waits behind that."""
    with opened(store) as db:
        found = db.dead_letters(processor).list()
    if as_json:
        print_json([info_json(info) for info in found])
        return
    rows = [TITLES, *map(row_of, found)] if found else []
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for index, row in enumerate(rows):
        cells = [f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)]
        console().print(Text("  ".join(cells).rstrip(), "" if index else "dim"))


@app.command(epilog="\b\nExample:\n  varve dead-letters show ./data billing 1234")
def show(
    store: StoreArgument, processor: NameArgument, sequence: SequenceArgument, as_json: JsonOption = False
) -> None:
    """Show one: the event, the error, the traceback."""
    with opened(store) as db:
        letters = db.dead_letters(processor)
        info = found_letter(letters, processor, sequence)
        recorded = letters.event(sequence)
        shown = None if recorded is None else ops.recorded_to_dict(recorded)
        if as_json:
            print_json(info_json(info) | {"traceback": info.traceback, "event": shown})
            return
        if shown is None or recorded is None:
            print(f"#{sequence}: the event is gone from the log: archived, or dropped by compaction")
        else:
            describe(shown | {"commit_sequence": recorded.commit_sequence, "time_ns": recorded.time_ns}, recorded)
    out = console()
    out.print()
    rows = {"state": state_of(info), "attempts": str(info.attempts), "first failed": "", "last failed": ""}
    if info.first_failed_at is not None and info.last_failed_at is not None:
        rows |= {"first failed": f"{info.first_failed_at}", "last failed": f"{info.last_failed_at}"}
    for name, value in rows.items():
        if value:
            out.print(Text(f"  {name:<12}  ", "dim").append(value, "not dim"))
    for line in info.traceback.splitlines():
        out.print(Text(f"  {plain(line)}"))


@app.command(
    epilog="\b\nExamples:\n  varve dead-letters retry ./data billing 1234\n  varve dead-letters retry ./data billing --all"
)
def retry(
    store: StoreArgument,
    processor: NameArgument,
    sequence: OneArgument = None,
    all_: AllOption = False,
    as_json: JsonOption = False,
) -> None:
    """Ask for another try of one, or of all.

    The processor does it at its next step, or when it is run next.
    """
    with opened(store, readonly=False) as db:
        letters = db.dead_letters(processor)
        if one_of(sequence, all_=all_) is None:
            count = letters.retry_all()
        else:
            assert sequence is not None
            found_letter(letters, processor, sequence)
            count = int(letters.retry(sequence))
    if as_json:
        print_json({"processor": processor, "requested": count})
    else:
        print(f"{plain(processor)} will try {count} again at its next step")


@app.command(
    epilog="\b\nExamples:\n  varve dead-letters drop ./data billing 1234\n  varve dead-letters drop ./data billing --all --yes"
)
def drop(
    store: StoreArgument,
    processor: NameArgument,
    sequence: OneArgument = None,
    all_: AllOption = False,
    yes: YesOption = False,
    as_json: JsonOption = False,
) -> None:
    """Give events up: the processor never handles them.

    They stay in the log.
    """
    with opened(store, readonly=False) as db:
        letters = db.dead_letters(processor)
        if one_of(sequence, all_=all_) is None:
            confirmed(f"Drop all {len(letters)} dead letters of {processor!r}?", yes=yes)
            count = letters.drop_all()
        else:
            assert sequence is not None
            confirmed(f"Drop the dead letter of {processor!r} for event {sequence}?", yes=yes)
            count = int(letters.drop(sequence))
            if not count:
                raise missing(processor, sequence)
    if as_json:
        print_json({"processor": processor, "dropped": count})
    else:
        print(f"dropped {count} of {plain(processor)}")


def one_of(sequence: int | None, *, all_: bool) -> int | None:
    """What is meant: one letter, or all. Raises ``InvalidInput``."""
    if (sequence is None) is not all_:
        raise InvalidInput("name one by its event's global sequence, or say --all")
    return sequence


def found_letter(letters: DeadLetters, processor: str, sequence: int) -> DeadLetterInfo:
    """A letter that is there. Raises ``InvalidInput``."""
    info = letters.get(sequence)
    if info is None:
        raise missing(processor, sequence)
    return info


def missing(processor: str, sequence: int) -> InvalidInput:
    """What is said where there is none."""
    return InvalidInput(
        f"processor {processor!r} has no dead letter for event {sequence}; varve dead-letters list shows them"
    )


def state_of(info: DeadLetterInfo) -> str:
    """The state in words."""
    blocks = ", later events of its stream wait behind it" if info.blocks and info.state == "dead" else ""
    asked = ", to be tried again" if info.retry_requested else ""
    return f"{info.state}{blocks}{asked}"


def info_json(info: DeadLetterInfo) -> dict[str, object]:
    """A letter for programs, without its traceback."""
    first, last = info.first_failed_at, info.last_failed_at
    return {
        "processor": info.processor,
        "global_sequence": info.global_sequence,
        "stream": info.stream,
        "stream_id": info.stream_id if isinstance(info.stream_id, int | str) else str(info.stream_id),
        "stream_sequence": info.stream_sequence,
        "type": info.type_name,
        "state": info.state,
        "blocks": info.blocks,
        "retry_requested": info.retry_requested,
        "attempts": info.attempts,
        "first_failed_at": None if first is None else first.isoformat(timespec="microseconds"),
        "last_failed_at": None if last is None else last.isoformat(timespec="microseconds"),
        "error_type": info.error_type,
        "message": info.message,
    }


def row_of(info: DeadLetterInfo) -> tuple[str, ...]:
    """A letter for people."""
    last = "" if info.last_failed_at is None else f"{info.last_failed_at:%Y-%m-%d %H:%M:%S}"
    error = f"{info.error_type}: {info.message}".splitlines()[0] if info.error_type else ""
    return (
        plain(info.processor),
        str(info.global_sequence),
        f"{plain(info.stream)}/{id_text(info.stream_id)}",
        plain(info.type_name),
        info.state + (" (retry)" if info.retry_requested else ""),
        str(info.attempts),
        last,
        plain(error[:MESSAGE_CHARS]),
    )
