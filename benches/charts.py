"""Charts of the results: SVG that is readable on light and on dark ground and stands alone (no script, no font, no link)."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from benches.goals import TABLE
from benches.lines import Line
from benches.results import Outcome

BYTES_MAX = 60_000
"""No chart is larger."""
_COLOURS = ("#3f86c9", "#d9822b", "#2f9e68", "#b65aa8", "#7c74d4", "#8b8f94")  # each can be told on white and on black
_SCHEME = (
    "<style>svg{color:#1f2328}@media(prefers-color-scheme:dark){svg{color:#e6edf3}}"
    "svg text{fill:currentColor}.guide.line{stroke-opacity:.25}</style>"
)


def charts(outcomes: Sequence[Outcome]) -> dict[str, str]:
    """The charts that these results give, by their names. Needs pygal (the extra ``bench``)."""
    lines = [line for outcome in outcomes for line in outcome.lines]
    drawn = {
        "goals": _goals(lines),
        "write": _rates(lines, {"compare million": "one transaction", "compare thousands": "batches of 1,000"}),
        "replay": _rates(lines, {"compare replay": "typed replay, one field read"}),
        "batches": _batches(lines),
        "growth": _growth(lines),
    }
    return {name: svg for name, svg in drawn.items() if svg is not None}


def write_charts(folder: Path, outcomes: Sequence[Outcome]) -> list[str]:
    """Write the charts into a folder; what is there and is no longer drawn goes. Gives the names."""
    drawn = charts(outcomes)
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.svg"):
        if path.stem not in drawn:
            path.unlink()
    for name, svg in drawn.items():
        if len(svg.encode()) > BYTES_MAX:
            raise ValueError(f"the chart {name} has {len(svg.encode()):,} bytes, more than {BYTES_MAX:,}")
        (folder / f"{name}.svg").write_text(svg, encoding="utf-8")
    return list(drawn)


# -- what is drawn -------------------------------------------------------------------------------------------------------


def _goals(lines: Sequence[Line]) -> str | None:
    """How far above its floor each goal is, 1 being the floor; the aim beside it."""
    names, measured, aims = [], [], []
    for work in TABLE:
        for goal in work.goals:
            found = [line.figure.median for line in lines if line.goal.key == goal.key]
            if not found or not goal.floor or not goal.worst(found):
                continue
            share = goal.worst(found) / goal.floor
            names.append(goal.key.replace("-", " "))
            measured.append(share if goal.at_least is not None else 1 / share)
            aim = goal.aim / goal.floor if goal.aim else None
            aims.append(aim if aim is None or goal.at_least is not None else 1 / aim)
    if not names:
        return None
    chart = _chart("HorizontalBar", "Goals: times the floor (right of 1 is met)", height=120 + 34 * len(names))
    chart.x_labels = names[::-1]
    chart.add("measured", measured[::-1])
    chart.add("aim", aims[::-1])
    return _render(chart)


def _rates(lines: Sequence[Line], series: dict[str, str]) -> str | None:
    """Events a second of Varve and of each peer; Varve's is the median over the pairs."""
    by_series = {name: [line for line in lines if line.series == name and line.sides] for name in series}
    peers = list(dict.fromkeys(str(line.at) for found in by_series.values() for line in found))
    if not peers:
        return None
    chart = _chart(
        "HorizontalBar", "Thousand events a second", logarithmic=True, height=140 + 30 * len(peers) * len(series)
    )
    chart.x_labels = [*peers[::-1], "varve"]
    slowest = max(spread.median for found in by_series.values() for line in found for _, spread in line.sides)
    quickest = min(spread.median for found in by_series.values() for line in found for _, spread in line.sides)
    chart.zero = _power_of_ten(1e3 / slowest)
    chart.range = (chart.zero, 1e3 / quickest)
    for name, title in series.items():
        rates = {str(line.at): 1e3 / line.sides[1][1].median for line in by_series[name]}
        own = sorted(1e3 / line.sides[0][1].median for line in by_series[name])
        chart.add(title, [*(rates.get(peer) for peer in peers[::-1]), own[len(own) // 2] if own else None])
    return _render(chart)


def _batches(lines: Sequence[Line]) -> str | None:
    """Microseconds of an event by the size of its batch."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        if line.series in {"240 bytes, full", "240 bytes, relaxed"} and line.sides:
            for which, (name, spread) in enumerate(line.sides):
                curve = f"{('varve', name)[which]}, {line.durability}"
                curves.setdefault(curve, []).append((float(line.at), spread.median))
    return _curves("Microseconds per event of 240 bytes, by events in a commit", curves, logarithmic=True)


def _growth(lines: Sequence[Line]) -> str | None:
    """What an event costs by the size of the store, against the smallest of the stores."""
    curves: dict[str, list[tuple[float, float]]] = {}
    for line in lines:
        if line.case == "open/growth":
            curves.setdefault(line.series, []).append((float(line.at), line.figure.median))
    return _curves("Cost per event against a small store, by events in the store", curves)


def _curves(title: str, curves: dict[str, list[tuple[float, float]]], *, logarithmic: bool = False) -> str | None:
    if not curves:
        return None
    chart = _chart("XY", title, height=420)
    places = sorted({x for curve in curves.values() for x, _ in curve})
    chart.x_labels = [{"label": f"{x:,.0f}", "value": math.log10(x)} for x in places]
    values = [y for curve in curves.values() for _, y in curve]
    if logarithmic:
        powers = range(math.floor(math.log10(min(values))), math.ceil(math.log10(max(values))) + 1)
        chart.y_labels = [{"label": f"{10.0**power:,g}", "value": power} for power in powers]
    else:
        chart.range = (0, 1.25 * max(values))
    for name, curve in curves.items():
        chart.add(name, [(math.log10(x), math.log10(y) if logarithmic else y) for x, y in sorted(curve)])
    return _render(chart)


def _power_of_ten(value: float) -> float:
    """The highest one that is not above."""
    return float(10.0 ** math.floor(math.log10(value)))


# -- how -------------------------------------------------------------------------------------------------------------


def _chart(kind: str, title: str, **options: Any) -> Any:
    import pygal
    from pygal.style import Style

    # For plugins that nobody has here pygal puts a finder of the old kind where every import passes: each miss warns then.
    sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "pygal"]

    style = Style(
        background="transparent",
        plot_background="transparent",
        foreground="currentColor",
        foreground_strong="currentColor",
        foreground_subtle="currentColor",
        guide_stroke_color="currentColor",
        major_guide_stroke_color="currentColor",
        opacity=".9",
        colors=_COLOURS,
        font_family="sans-serif",
        label_font_size=11,
        major_label_font_size=11,
        legend_font_size=12,
        title_font_size=14,
        value_font_size=10,
    )
    number: Callable[[Any], str] = lambda value: f"{value:,.3g}" if value is not None else ""  # noqa: E731
    made: Any = getattr(pygal, kind)(
        style=style, title=title, width=900, js=(), truncate_label=-1, truncate_legend=-1,
        legend_at_bottom=True, show_dots=True, print_values=kind != "XY", value_formatter=number, **options,
    )  # fmt: skip
    return made


def _render(chart: Any) -> str:
    chart.uuid = "varve"  # in place of a random one: the same results give the same file
    drawn = chart.render(disable_xml_declaration=True)
    svg: str = re.sub(r"<!--.*?-->|<script.*?</script>", "", drawn, flags=re.DOTALL)
    head, rest = svg.split(">", 1)
    return f"{head}>{_SCHEME}{rest}\n"


def links(names: Iterable[str], folder: str) -> dict[str, str]:
    """The Markdown that shows each chart."""
    texts = {
        "goals": "How the goals stand to their floors",
        "write": "Events a second, written",
        "replay": "Events a second, read",
        "batches": "Microseconds per event, by size of batch",
        "growth": "Cost per event, by size of store",
    }
    return {name: f"![{texts[name]}]({folder}/{name}.svg)" for name in names}
