"""Results as files: one for each case, written when the case is done, so that a run that was cut off goes on where it stood."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benches.goals import GOALS, Goal
from benches.lines import Line
from benches.pairs import Measured, Spread

HERE = Path(__file__).with_name("results")
"""Where the figures of the document are kept: a folder for each size."""
DIGITS = 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """A case that was measured."""

    case: str
    group: str
    about: dict[str, Any]
    """Machine, versions, commit, size, when, how long, the load before and after."""
    lines: tuple[Line, ...]


def path_of(folder: Path, case: str) -> Path:
    """The file of a case."""
    return folder / f"{case.replace('/', '-')}.json"


def save(folder: Path, outcome: Outcome) -> None:
    """Write the file, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = path_of(folder, outcome.case)
    lines = [_slim({field.name: getattr(line, field.name) for field in fields(line)}) for line in outcome.lines]
    record = {"case": outcome.case, "group": outcome.group, "about": outcome.about, "lines": lines}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def load(folder: Path, case: str) -> Outcome | None:
    """What is known of a case; None where nothing is."""
    path = path_of(folder, case)
    return _outcome(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else None


def load_all(folder: Path) -> Iterator[Outcome]:
    """Everything that is known."""
    for path in sorted(folder.glob("*.json")):
        yield _outcome(json.loads(path.read_text(encoding="utf-8")))


def _slim(line: dict[str, Any]) -> dict[str, Any]:
    """Without what says nothing, figures to a few digits: these files are kept with the source."""
    goal: Goal = line["goal"]
    line["goal"] = goal.key or {
        name: value for name, value in asdict(goal).items() if value is not None and value != ""
    }
    line["figure"] = [_rounded(line["figure"].median), _rounded(line["figure"].low), _rounded(line["figure"].high)]
    line["sides"] = [
        [name, _rounded(one.median), _rounded(one.lower), _rounded(one.upper), one.rounds]
        for name, one in line["sides"]
    ]
    return {name: value for name, value in line.items() if name != "case" and value not in ("", [], {})}


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


def _outcome(record: dict[str, Any]) -> Outcome:
    lines = tuple(_line(record["case"], each) for each in record["lines"])
    return Outcome(record["case"], record["group"], record["about"], lines)


def _line(case: str, record: dict[str, Any]) -> Line:
    goal = record.get("goal", {})
    # A goal that the table no longer knows is information.
    found = GOALS.get(goal, Goal()) if isinstance(goal, str) else Goal(**goal)
    sides = tuple((name, Spread(*rest)) for name, *rest in record.get("sides", ()))
    rest = {name: record[name] for name in ("what", "durability", "unit", "detail", "series", "at") if name in record}
    return Line(case=case, goal=found, figure=Measured(*record["figure"]), sides=sides, **rest)
