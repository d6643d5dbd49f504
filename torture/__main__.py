"""``python -m torture``: run parts of the rack, their controls first."""

from __future__ import annotations

import argparse
import importlib
import json
import platform
import random
import sys
import tempfile
import time
from pathlib import Path

from torture.part import Budget, Outcome, Part

PARTS: tuple[str, ...] = ("powercut", "locks", "kills", "calls", "rot", "hostile", "model", "soak")
"""Modules ``torture.NAME`` with an object ``PART``."""


def part(name: str) -> Part:
    """A part by its name."""
    found: Part = importlib.import_module(f"torture.{name}").PART
    return found


def main(arguments: list[str] | None = None) -> int:
    """0 when nothing was found and every control was caught, 1 when not, 2 when there is no such part."""
    parser = argparse.ArgumentParser(prog="python -m torture", description="Try to make Varve lose or invent events.")
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"which parts: {', '.join(PARTS)} (all)")
    parser.add_argument("--count", type=int, help="units to do (the part's goal for the long run)")
    parser.add_argument("--scale", type=float, default=1.0, help="do so much of the goal (0.01: a hundredth)")
    parser.add_argument("--seed", type=int, help="repeat a run")
    parser.add_argument("--first", type=int, default=0, help="pass over the units before this one")
    parser.add_argument("--jobs", type=int, help="processes to use (one per core)")
    parser.add_argument("--folder", type=Path, help="where stores and images are made (the temporary folder)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results there too")
    parser.add_argument("--no-controls", action="store_true", help="to look at one violation again, faster")
    options = parser.parse_args(arguments)
    names = options.parts or list(PARTS)
    unknown = [name for name in names if name not in PARTS]
    if unknown:
        print(f"no part {unknown[0]!r}; the parts are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    results = [_run(part(name), options) for name in names]
    if options.json:
        options.json.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    return 1 if any(result["violations"] or result["controls_missed"] for result in results) else 0


def _run(what: Part, options: argparse.Namespace) -> dict[str, object]:
    seed = random.SystemRandom().randrange(2**32) if options.seed is None else options.seed
    count = max(1, int(what.goal * options.scale)) if options.count is None else options.count
    print(f"{what.name}: {count:,} {what.unit}, --seed {seed}", flush=True)
    missed = []
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix=f"varve-{what.name}-", dir=options.folder) as folder:
        budget = Budget(count=count, seed=seed, folder=Path(folder), first=options.first)
        if options.jobs:
            budget = Budget(count=count, seed=seed, folder=Path(folder), first=options.first, jobs=options.jobs)
        controls = [] if options.no_controls else list(what.controls(budget))
        for control in controls:
            print(f"  control {control.name}: {'caught' if control.caught else 'MISSED'} ({control.how})", flush=True)
            if not control.caught:
                missed.append(control.name)
    with tempfile.TemporaryDirectory(prefix=f"varve-{what.name}-", dir=options.folder) as folder:
        budget = Budget(count=count, seed=seed, folder=Path(folder), first=options.first, jobs=budget.jobs)
        outcome = what.run(budget, _Shown(what, count))
    seconds = time.monotonic() - began
    _show(what, outcome, seconds)
    return {
        "part": what.name,
        "unit": what.unit,
        "count": outcome.count,
        "seed": seed,
        "seconds": round(seconds),
        "violations": [{"what": violation.what, "again": violation.again} for violation in outcome.violations],
        "controls_caught": len(controls) - len(missed),
        "controls_missed": missed,
        "figures": outcome.figures,
        "python": platform.python_version(),
    }


class _Shown:
    """Progress: a line every ten seconds."""

    def __init__(self, what: Part, count: int) -> None:
        self._what = what
        self._count = count
        self._last = self._began = time.monotonic()

    def __call__(self, done: int) -> None:
        now = time.monotonic()
        if now - self._last >= 10:
            self._last = now
            rate = done / (now - self._began)
            left = (self._count - done) / rate if rate else 0
            print(f"  {done:,} of {self._count:,} {self._what.unit}, {left:,.0f} s left", flush=True)


def _show(what: Part, outcome: Outcome, seconds: float) -> None:
    found = len(outcome.violations)
    print(f"  {outcome.count:,} {what.unit} in {seconds:,.0f} s: {found} violation{'s' * (found != 1)}", flush=True)
    for name, value in outcome.figures.items():
        print(f"    {name}: {value:,}" if isinstance(value, int) else f"    {name}: {value}")
    for violation in outcome.violations[:20]:
        print(f"    {violation.what}\n      again: {violation.again}")


if __name__ == "__main__":
    sys.exit(main())
