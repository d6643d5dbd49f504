"""``python -m benches.report``: what stands in docs/performance.md, made from the results that are kept.

The document is written by hand, but for what stands between ``<!-- bench: NAME -->`` and ``<!-- end -->``: that is replaced, and
nothing else is touched. ``BLOCKS`` says which names there are.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from benches import charts, results
from benches.compare.peers import PEERS
from benches.goals import TABLE, Goal
from benches.lines import Line, number
from benches.machine import ROOT
from benches.registry import GROUPS
from benches.results import Outcome

DOCUMENT = ROOT / "docs" / "performance.md"
CHARTS = "performance"
"""The folder of the charts, beside the document."""
NOTHING = "Not measured yet."
_BLOCK = re.compile(r"(<!-- bench: ([a-z-]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(arguments: list[str] | None = None) -> int:
    """Write the document anew. 0, or 1 where there are no results."""
    parser = argparse.ArgumentParser(prog="python -m benches.report", description="Write docs/performance.md anew.")
    parser.add_argument("--size", default="full", help="which results: full (default), quick")
    parser.add_argument("--results", metavar="FOLDER", help="results from another folder")
    parser.add_argument("--document", metavar="FILE", default=str(DOCUMENT))
    options = parser.parse_args(arguments)
    folder = Path(options.results) if options.results else results.HERE / options.size
    outcomes = list(results.load_all(folder))
    if not outcomes:
        print(f"no results in {folder}: run python -m benches first", file=sys.stderr)
        return 1
    document = Path(options.document)
    drawn = charts.write_charts(document.parent / CHARTS, outcomes)
    text = filled(document.read_text(encoding="utf-8"), blocks(outcomes, drawn))
    document.write_text(text, encoding="utf-8")
    return 0


def filled(text: str, made: dict[str, str]) -> str:
    """A document with its blocks replaced. Raises ValueError for a block that it does not have, or that is not known."""
    found = {name for _, name, _ in _BLOCK.findall(text)}
    if found != made.keys():
        unknown, absent = sorted(found - made.keys()), sorted(made.keys() - found)
        raise ValueError(f"blocks of the document that are not known: {unknown}; known ones that it lacks: {absent}")
    return _BLOCK.sub(lambda match: f"{match[1]}{made[match[2]]}\n{match[3]}", text)


def blocks(outcomes: Sequence[Outcome], drawn: Iterable[str] = ()) -> dict[str, str]:
    """The text of every block."""
    pictures = charts.links(drawn, CHARTS)
    made = {name: make(outcomes) or NOTHING for name, make in BLOCKS.items()}
    for name, chart in (("goals", "goals"), ("append", "batches"), ("open", "growth")):
        if chart in pictures:
            made[name] += f"\n\n{pictures[chart]}"
    for chart in ("write", "replay"):
        if chart in pictures:
            made["peers"] += f"\n\n{pictures[chart]}"
    return made


# -- the blocks ------------------------------------------------------------------------------------------------------


def machine(outcomes: Sequence[Outcome]) -> str:
    """On what, when, and how busy it was."""
    if not outcomes:
        return ""
    latest = max((outcome.about for outcome in outcomes), key=lambda about: about.get("when", ""))
    rows = [("size of the run", _several(outcomes, "size")), ("when (UTC)", _several(outcomes, "when"))]
    rows += [
        (name, _several(outcomes, name)) for name in latest if name not in {"size", "when", "seconds", "load", "source"}
    ]
    loads = [load for outcome in outcomes for load in outcome.about.get("load", ())]
    if loads:
        rows.append(("load average", f"{min(loads):g} to {max(loads):g} (1 is what a run itself makes)"))
    seconds = sum(outcome.about.get("seconds", 0) for outcome in outcomes)
    rows.append(("cases", f"{len(outcomes)}, {seconds / 60:.0f} minutes"))
    return _table(("", ""), rows)


def _several(outcomes: Sequence[Outcome], name: str) -> str:
    values = sorted({str(outcome.about.get(name, "")) for outcome in outcomes} - {""})
    return values[0] if len(values) == 1 else f"{values[0]} to {values[-1]}" if name == "when" else ", ".join(values)


def goals(outcomes: Sequence[Outcome]) -> str:
    """The table of goals: floor, aim, what was measured, and by how much each was met or missed."""
    lines = [line for outcome in outcomes for line in outcome.lines]
    rows = []
    for work in TABLE:
        what = work.what
        for goal in work.goals:
            found = [line for line in lines if line.goal.key == goal.key]
            rows.append((what, goal.against, _bound(goal), *_standing(goal, found)))
            what = ""
    table = _table(("work (durable)", "figure", "floor, aim", "measured", "interval", "standing"), rows)
    small = {str(outcome.about.get("size")) for outcome in outcomes} - {"full"}
    return (
        f"Measured at small sizes ({', '.join(sorted(small))}): the goals are stated for the full ones.\n\n"
        if small
        else ""
    ) + table


def _bound(goal: Goal) -> str:
    if goal.floor is None:
        return "none"
    sign = "≥" if goal.at_least is not None else "≤"
    return f"{sign} {goal.floor:,g}" + (f", {goal.aim:,g}" if goal.aim is not None else "")


def _standing(goal: Goal, found: list[Line]) -> tuple[str, str, str]:
    if not found:
        return "", "", "not measured"
    worst = goal.worst([line.figure.median for line in found])
    line = next(line for line in found if line.figure.median == worst)
    measured = number(worst) + (f" (the least good of {len(found)})" if len(found) > 1 else "")
    interval = _interval(line)
    return measured, interval, standing(goal, worst)


def _interval(line: Line) -> str:
    low, high = number(line.figure.low), number(line.figure.high)
    return f"{low} to {high}" if line.figure.low != line.figure.high else "counted"


def standing(goal: Goal, value: float) -> str:
    """Met or missed, and by how much of the floor."""
    margin = goal.margin(value)
    if margin is None:
        return "reported"
    if margin < 0:
        return f"**missed by {-margin:.0%}**"
    if goal.aim_met(value):
        return f"aim reached, {margin:.0%} better than the floor"
    return f"met, {margin:.0%} better than the floor"


def peers(outcomes: Sequence[Outcome]) -> str:
    """How many times as fast Varve is as each peer."""
    lines = [line for outcome in outcomes if outcome.group == "compare" for line in outcome.lines]
    if not any(line.series.startswith("compare") for line in lines):
        return ""
    rows = []
    for peer in PEERS:
        own = {line.series: line for line in lines if line.case == f"compare/{peer.name}"}
        if not own:
            continue
        if "" in own:  # a line without a series says why it was left out
            rows.append((peer.name, peer.durability, own[""].detail, "", "", "", ""))
            continue
        kinds = ("million", "thousands", "single", "replay", "disk")
        cells = [_ratio(own[f"compare {kind}"]) if f"compare {kind}" in own else "" for kind in kinds]
        rows.append((peer.name, peer.durability, *cells))
    header = (
        "peer",
        "durability of writes",
        "one transaction",
        "batches of 1,000",
        "single appends",
        "typed replay",
        "bytes on disk",
    )
    notes = "\n".join(f"- *{peer.name}*: {peer.note}." for peer in PEERS)
    return f"{_table(header, rows)}\n\n{notes}"


def _ratio(line: Line) -> str:
    figure = line.figure
    bold = "**" if figure.median < 1 else ""
    interval = f" ({_interval(line)})" if figure.low != figure.high else ""
    return f"{bold}{number(figure.median)} x{bold}{interval}"


def better(outcomes: Sequence[Outcome]) -> str:
    """Where the other side won, said plainly."""
    rows = []
    for outcome in outcomes:
        if outcome.group not in {"codec", "append", "compare"} or "/limits" in outcome.case:
            continue
        for line in outcome.lines:
            if line.unit in {"x as fast", "x the bytes"} and line.figure.median < 1 and "skipped" not in line.what:
                sure = "yes" if line.figure.high < 1 else "within the noise"
                rows.append((line.what, line.durability, _ratio(line), line.detail, sure))
    if not rows:
        return "Nowhere in what was measured." if outcomes else ""
    rows.sort(key=lambda row: row[4] != "yes")
    return _table(("work, and who", "durability", "Varve is", "Varve against the peer", "beyond doubt"), rows)


def limits(outcomes: Sequence[Outcome]) -> str:
    """Beside the limits of the machine."""
    return _group([outcome for outcome in outcomes if "/limits" in outcome.case])


def _of_group(group: str) -> Callable[[Sequence[Outcome]], str]:
    return lambda outcomes: _group([outcome for outcome in outcomes if outcome.group == group])


def _group(outcomes: Sequence[Outcome]) -> str:
    """Every line of some cases: medians and spread."""
    rows = []
    for outcome in outcomes:
        for line in outcome.lines:
            figure = line.figure
            interval = _interval(line)
            sides = [f"{number(one.median)} ({number(one.lower)} to {number(one.upper)})" for _, one in line.sides]
            ours, theirs = sides or (line.detail, "")
            goal = "" if line.goal.floor is None else f"{_bound(line.goal)}: {standing(line.goal, figure.median)}"
            what = f"{line.what} ({line.durability})" if line.durability != "none" else line.what
            rows.append((what, f"{number(figure.median)} {line.unit}", interval, ours, theirs, goal))
    header = (
        "what (durability)",
        "median",
        "95 % interval",
        "Varve, us an event (quartiles)",
        "the other side",
        "goal",
    )
    return _table(header, rows) if rows else ""


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    def row(cells: Iterable[str]) -> str:
        return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"

    return "\n".join([row(header), "|" + "---|" * len(header), *map(row, rows)])


BLOCKS: dict[str, Callable[[Sequence[Outcome]], str]] = {
    "machine": machine,
    "goals": goals,
    "peers": peers,
    "better": better,
    "limits": limits,
    **{group: _of_group(group) for group in GROUPS if group != "compare"},
}
"""Every block of the document."""


if __name__ == "__main__":
    sys.exit(main())
