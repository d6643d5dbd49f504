"""The process in which units run: started with the spoiling library, holding no store."""

from __future__ import annotations

import gc
import json
import random
import sys
from pathlib import Path
from typing import Any

from torture.calls.disks import CannotMount, disk, full_disk
from torture.calls.faults import Fault, faults
from torture.calls.unit import make_template, run_unit
from torture.calls.workloads import WORKLOADS
from torture.children import tell


def plan(folder: Path, template: Path, names: list[str], seed: int) -> list[Fault]:
    """Every fault of these workloads, in an order that a seed gives. Raises ``RuntimeError`` where a workload does not even
    work alone."""
    found: list[Fault] = []
    for name in names:
        calls: list[tuple[str, str]] = []
        for _ in range(4 if name in {"threads", "group", "watch"} else 1):  # what threads do varies
            result = run_unit(None, name, template, folder / "count", seed)
            if result.problems:
                raise RuntimeError(f"{name}: {result.problems}")
            calls = max(calls, result.told.calls, key=len)
        found += faults(name, calls)
    random.Random(seed).shuffle(found)
    return found


def main() -> None:
    """Do what the order says."""
    order: dict[str, Any] = json.loads(sys.argv[1])
    gc.freeze()
    folder = Path(order["folder"])
    folder.mkdir()
    if order["do"] == "disk":
        try:
            with disk(order["kind"], folder) as on:
                tell(kind=order["kind"], problems=full_disk(on, order["every"]))
        except CannotMount as exc:
            tell(kind=order["kind"], skipped=f"SKIPPED, cannot be mounted here: {exc}")
        return
    template = folder / "template"
    template.mkdir()
    make_template(template)
    if order["do"] == "plan":
        found = plan(folder, template, order["workloads"] or list(WORKLOADS), order["seed"])
        tell(plan=[fault.as_dict() for fault in found])
        return
    if order["do"] == "controls":
        from torture.calls.controls import controls

        for control in controls(folder, template, order["seed"]):
            tell(name=control.name, caught=control.caught, how=control.how)
        return
    planned = [Fault(**fault) for fault in json.loads(Path(order["plan"]).read_text(encoding="utf-8"))]
    for unit in order["units"]:
        fault = planned[unit % len(planned)]
        seed = order["seed"] + unit // len(planned)
        result = run_unit(fault, fault.workload, template, folder / "unit", seed)
        tell(
            unit=unit,
            fault=str(fault),
            reached=result.reached,
            outcomes=sorted({attempt.outcome for attempt in result.told.attempts}),
            problems=result.problems,
        )


if __name__ == "__main__":
    main()
