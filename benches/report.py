"""Goals, lines and tables: what the cases give and how it is shown."""

from __future__ import annotations

import json
import platform
import sys
from dataclasses import asdict, dataclass
from typing import Any

import lmdb

import varve
from benches.pairs import Measured, Pair


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure; None on both sides: measured for information."""

    at_least: float | None = None
    at_most: float | None = None

    def met(self, value: float) -> bool | None:
        """Whether a figure keeps it; None where there is nothing to keep."""
        if self.at_least is not None:
            return value >= self.at_least
        return value <= self.at_most if self.at_most is not None else None

    def __str__(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else "-"


@dataclass(frozen=True, slots=True)
class Line:
    """One figure of one case."""

    case: str
    what: str
    """What was compared, in words."""
    durability: str
    """What both sides waited for; ``none`` where a case only reads."""
    goal: Goal
    figure: Measured
    unit: str
    """``x as fast``, ``x the cost``, ``us`` or ``bytes``."""
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the goal."""
        return self.goal.met(self.figure.median)


def speed_line(case: str, what: str, durability: str, goal: Goal, pair: Pair, *, events: int) -> Line:
    """A pair as ``x as fast``, with both rates."""
    rates = [events / 1e6 / sorted(side)[len(side) // 2] for side in (pair.a_s, pair.b_s)]
    return Line(case, what, durability, goal, pair.speed, "x as fast", f"{rates[0]:.2f} M/s against {rates[1]:.2f} M/s")


def cost_line(case: str, what: str, durability: str, goal: Goal, pair: Pair, *, events: int) -> Line:
    """A pair as ``x the cost``, with the microseconds of both."""
    micros = [sorted(side)[len(side) // 2] / events * 1e6 for side in (pair.a_s, pair.b_s)]
    return Line(case, what, durability, goal, pair.cost, "x the cost", f"{micros[0]:.2f} us against {micros[1]:.2f} us")


def exact(value: float) -> Measured:
    """A figure that was counted, not timed."""
    return Measured(value, value, value)


_HEADER = ("case", "durability", "goal", "measured", "interval", "met", "what")


def table(lines: list[Line]) -> str:
    """The lines as text."""
    rows = [_HEADER, *map(_row, lines)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADER) - 1)]
    texts = ["  ".join([*map(str.ljust, row[:-1], widths), row[-1]]).rstrip() for row in rows]
    texts.insert(1, "-" * max(map(len, texts)))
    return "\n".join(texts)


def _row(line: Line) -> tuple[str, ...]:
    met = {True: "yes", False: "NO", None: ""}[line.met]
    figure = line.figure
    interval = f"{figure.low:.2f} .. {figure.high:.2f}" if figure.low != figure.high else "counted"
    what = f"{line.what} ({line.detail})" if line.detail else line.what
    return line.case, line.durability, str(line.goal), f"{figure.median:.2f} {line.unit}", interval, met, what


def as_json(lines: list[Line], **about: Any) -> str:
    """The lines for a program, with what they were measured on."""
    machine = {
        "python": sys.version.split()[0],
        "machine": platform.machine(),
        "system": platform.system(),
        "lmdb": ".".join(map(str, lmdb.version())),
        "py_lmdb": lmdb.__version__,
        "varve": getattr(varve, "__version__", ""),
    }
    return json.dumps(
        {"about": machine | about, "lines": [asdict(line) | {"met": line.met} for line in lines]}, indent=2
    )
