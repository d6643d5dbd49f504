"""Lines and tables: what the cases give and how a terminal shows it."""

from __future__ import annotations

from dataclasses import dataclass

from benches.goals import Goal
from benches.pairs import Measured, Pair, Spread, spread, with_interval

__all__ = ["Goal", "Line", "cost_line", "exact", "number", "rate_line", "speed_line", "table"]


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
    sides: tuple[tuple[str, Spread], ...] = ()
    """Microseconds per event of each side, with their spread over the rounds."""
    series: str = ""
    """The chart's curve or group of bars that this is a point of; empty for none."""
    at: float | str = ""
    """Where on that curve."""

    @property
    def met(self) -> bool | None:
        """Whether the median keeps the goal."""
        return self.goal.met(self.figure.median)


def _sides(pair: Pair, events: int) -> tuple[tuple[str, Spread], ...]:
    return tuple(
        (name, spread([seconds / events * 1e6 for seconds in side]))
        for name, side in ((pair.a_name, pair.a_s), (pair.b_name, pair.b_s))
    )


def speed_line(
    case: str,
    what: str,
    durability: str,
    goal: Goal,
    pair: Pair,
    *,
    events: int,
    series: str = "",
    at: float | str = "",
) -> Line:
    """A pair as ``x as fast``, with both rates."""
    rates = [events / 1e6 / sorted(side)[len(side) // 2] for side in (pair.a_s, pair.b_s)]
    detail = f"{rates[0]:.3g} M/s against {rates[1]:.3g} M/s"
    return Line(
        case, what, durability, goal, pair.speed, "x as fast", detail, sides=_sides(pair, events), series=series, at=at
    )


def cost_line(
    case: str,
    what: str,
    durability: str,
    goal: Goal,
    pair: Pair,
    *,
    events: int,
    series: str = "",
    at: float | str = "",
) -> Line:
    """A pair as ``x the cost``, with the microseconds of both."""
    micros = [sorted(side)[len(side) // 2] / events * 1e6 for side in (pair.a_s, pair.b_s)]
    detail = f"{micros[0]:.2f} us against {micros[1]:.2f} us"
    return Line(
        case, what, durability, goal, pair.cost, "x the cost", detail, sides=_sides(pair, events), series=series, at=at
    )


def rate_line(
    case: str, what: str, durability: str, goal: Goal, seconds: tuple[float, ...], *, events: int, unit: str = "M/s"
) -> Line:
    """Rounds of one side as a rate, in events a second (``unit`` "events/s") or millions of them ("M/s")."""
    scale = 1e6 if unit == "M/s" else 1.0
    rates = [events / one / scale for one in seconds]
    return Line(case, what, durability, goal, with_interval(rates), unit, f"best round {max(rates):,.3g}")


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
    interval = f"{number(figure.low)} .. {number(figure.high)}" if figure.low != figure.high else "counted"
    what = f"{line.what} ({line.detail})" if line.detail else line.what
    return line.case, line.durability, str(line.goal), f"{number(figure.median)} {line.unit}", interval, met, what


def number(value: float) -> str:
    """Two digits behind the point, fewer where there are many before it."""
    return f"{value:,.0f}" if abs(value) >= 1_000 else f"{value:.1f}" if abs(value) >= 100 else f"{value:.2f}"
