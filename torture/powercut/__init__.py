"""Power cuts: what a disk may hold when the power goes, at any point of a workload, and whether Varve keeps its word on it.

A workload runs in a process whose writes, fsyncs and changes of names are recorded in their order (``preload/record.c``),
with its own marks between them: tried, acknowledged. ``disk.py`` says which images a disk may hold at each point of such a
trace, ``look.py`` opens them, ``history.py`` says what must be there, ``workload.py`` has the workloads.

A unit is an image: run ``unit // UNITS_PER_RUN`` records one workload, whose kind and seed follow from that number, and looks
at its images in an order that follows from the seed. Equal images are counted once, over all runs.
"""

from __future__ import annotations

from collections.abc import Iterator

from torture.part import Budget, Control, Outcome, Progress
from torture.powercut.controls import controls
from torture.powercut.scratch import scratch
from torture.powercut.workers import run


class _PowerCut:
    """The part."""

    name = "powercut"
    unit = "crash images"
    goal = 1_000_000
    small = 1_500

    def run(self, budget: Budget, progress: Progress) -> Outcome:
        """Look at images."""

        def again(unit: int) -> str:
            return f"python -m torture powercut --seed {budget.seed} --first {unit} --count 1 --no-controls"

        with scratch(budget.folder) as folder:
            return run(budget, folder, progress, again)

    def controls(self, budget: Budget) -> Iterator[Control]:
        """Plant faults."""
        with scratch(budget.folder) as folder:
            yield from controls(budget, folder)


PART = _PowerCut()
