"""``python -m benches``: run the cases and print how they stand to the goals."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

from benches import (
    cases_append,
    cases_append_columns,
    cases_codec,
    cases_columns,
    cases_get,
    cases_group,
    cases_replay,
    cases_size,
    cases_tail,
    cases_write,
)
from benches.report import Line, as_json, table
from benches.workspace import FULL, QUICK, TINY, Workspace, workspace

CASES: dict[str, Callable[[Workspace], Iterator[Line]]] = {
    **cases_write.CASES,
    **cases_replay.CASES,
    **cases_get.CASES,
    **cases_append.CASES,
    **cases_append_columns.CASES,
    **cases_group.CASES,
    **cases_size.CASES,
    **cases_tail.CASES,
    **cases_codec.CASES,
    **cases_columns.CASES,
}

SIZES = {"full": FULL, "quick": QUICK, "tiny": TINY}


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for. 0 when every goal was met, 1 when one was missed, 2 when no case has that name."""
    parser = argparse.ArgumentParser(prog="python -m benches", description="Measure Varve against bare py-lmdb.")
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--tiny", action="store_true", help="sizes at which the figures mean nothing: does it run?")
    parser.add_argument(
        "--only", metavar="NAME", action="append", help="the case NAME, or every case whose name contains it"
    )
    parser.add_argument("--rounds", type=int, help="rounds of the long comparisons")
    parser.add_argument("--json", metavar="FILE", help="write the figures there too")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    options = parser.parse_args(arguments)
    wanted = options.only or [""]
    # A case's whole name means that case; anything else, every case that has it in its name.
    chosen = [name for name in CASES if any(part == name or (part not in CASES and part in name) for part in wanted)]
    if options.list or not chosen:
        print("\n".join(CASES))
        return 0 if options.list else 2
    size = "tiny" if options.tiny else "quick" if options.quick else "full"
    lines = measure(chosen, size, rounds=options.rounds)
    print()
    print(table(lines))
    if options.json:
        Path(options.json).write_text(as_json(lines, size=size) + "\n", encoding="utf-8")
    return 1 if any(line.met is False for line in lines) else 0


def measure(chosen: list[str], size: str, *, rounds: int | None = None, folder: Path | None = None) -> list[Line]:
    """The lines of some cases; each is shown as it comes."""
    sizes = SIZES[size] if rounds is None else replace(SIZES[size], rounds=rounds)
    lines = []
    with workspace(sizes, folder) as work:
        for name in chosen:
            print(f"{name} ...", file=sys.stderr, flush=True)
            for line in CASES[name](work):
                lines.append(line)
                print(table([line]).splitlines()[-1], file=sys.stderr, flush=True)
            gc.collect()
    return lines


if __name__ == "__main__":
    sys.exit(main())
