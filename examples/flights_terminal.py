"""Progress and tables for the flights demo: with rich on a terminal, plain lines into a file or a pipe.

Progress goes to stderr, so that stdout holds results and nothing else.
"""

import importlib.util
import sys
from collections.abc import Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")

HAS_RICH = importlib.util.find_spec("rich") is not None  # it comes with the extra `demo`
PLAIN_STEPS = 4


def track(items: Sequence[Item], label: str) -> Iterator[Item]:
    """Yield the items and show how far they are: a bar on a terminal, a line per quarter elsewhere."""
    if HAS_RICH and sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import track as rich_track

        yield from rich_track(items, label, console=Console(stderr=True))
        return
    shown = 0
    for done, item in enumerate(items, start=1):
        yield item
        if done * PLAIN_STEPS // len(items) > shown:
            shown = done * PLAIN_STEPS // len(items)
            print(f"{label}: {shown * 100 // PLAIN_STEPS} %", file=sys.stderr, flush=True)


def print_table(title: str, rows: Sequence[tuple[str, str]]) -> None:
    """Print names and figures in two columns."""
    if HAS_RICH and sys.stdout.isatty():
        from rich.console import Console
        from rich.table import Table

        table = Table(title=title, show_header=False)
        table.add_column()
        table.add_column(justify="right")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
        return
    name_width = max(len(name) for name, _ in rows)
    figure_width = max(len(figure) for _, figure in rows)
    print(title, *(f"  {name:<{name_width}}  {figure:>{figure_width}}" for name, figure in rows), sep="\n")
