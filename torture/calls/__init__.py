"""System calls that fail: every call that a workload makes, with every error that fits it, once and from then on.

A library stands between a child and the kernel (``torture/preload/fail.c``). What was acknowledged must be there when a
fresh process opens the store, what was refused must not, an error must be one of ours and fit, a handle that failed refuses
everything, one that found no room goes on. Disks that are really full, of their own file systems, are part of every run.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torture.children import stream
from torture.part import Budget, Control, Outcome, Progress, Violation

_MODULE = "torture.calls.worker"
_DISKS = ("tmpfs", "ext4")
_LONG = 1_000
"""From so many units on disks are filled with great care, too."""


class Calls:
    """See the module."""

    name = "calls"
    unit = "failing calls"
    goal = 3_800
    """All of them, and some twice."""
    small = 20

    def run(self, budget: Budget, progress: Progress) -> Outcome:
        """The calls are counted first. Their order is the seed's, so that a small run is a sample; behind the last one the
        first follows again, with other events."""
        outcome = Outcome(0)
        outcomes: Counter[str] = Counter()
        reached = 0
        with tempfile.TemporaryDirectory(prefix="varve-calls-", dir=_memory()) as folder:
            plan = Path(folder, "plan.json")
            order: dict[str, object] = {"do": "plan", "folder": f"{folder}/plan", "workloads": [], "seed": budget.seed}
            [said] = stream(_MODULE, [order])
            planned = said["plan"]
            plan.write_text(json.dumps(planned), encoding="utf-8")
            units = list(range(budget.first, budget.first + budget.count))
            orders: list[dict[str, object]] = [
                {
                    "do": "run",
                    "folder": f"{folder}/{job}",
                    "plan": str(plan),
                    "seed": budget.seed,
                    "units": units[job :: budget.jobs],
                }
                for job in range(min(budget.jobs, len(units)))
            ]
            for done in stream(_MODULE, orders):
                outcome.count += 1
                reached += done["reached"]
                outcomes.update(done["outcomes"])
                again = f"python -m torture calls --seed {budget.seed} --first {done['unit']} --count 1"
                outcome.violations += [Violation(f"{done['fault']}: {problem}", again) for problem in done["problems"]]
                progress(outcome.count)
        outcome.figures = {
            "ways for a call to fail, all workloads": len(planned),
            "share of them that was tried": f"{min(1.0, len(units) / len(planned)):.1%}",
            "units in which a call did fail": reached,
            "units by what they came to": ", ".join(f"{name} {count}" for name, count in sorted(outcomes.items())),
        }
        again = f"python -m torture calls --seed {budget.seed} --count 1"
        for found in self._full_disks(1 if budget.count >= _LONG else 13):
            outcome.figures[f"a full disk, {found['kind']}"] = found.get("skipped", "filled, and freed again")
            outcome.violations += [Violation(problem, again) for problem in found.get("problems", ())]
        return outcome

    @staticmethod
    def _full_disks(every: int) -> Iterator[dict[str, Any]]:
        with tempfile.TemporaryDirectory(prefix="varve-disk-", dir=_memory()) as folder:
            orders: list[dict[str, object]] = [
                {"do": "disk", "kind": kind, "folder": f"{folder}/{kind}", "seed": 0, "every": every} for kind in _DISKS
            ]
            yield from stream(_MODULE, orders)

    def controls(self, budget: Budget) -> Iterator[Control]:
        """In a process of their own, which forks."""
        with tempfile.TemporaryDirectory(prefix="varve-calls-", dir=_memory()) as folder:
            order: dict[str, object] = {"do": "controls", "folder": f"{folder}/0", "seed": budget.seed}
            for said in stream(_MODULE, [order]):
                yield Control(**said)


def _memory() -> Path | None:
    """A folder in memory, where the system has one: that a sync was called is seen, that it works is the disk's matter."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else None


PART = Calls()
