"""What a part of the rack is: work in a countable unit, and controls that show that it can fail."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

Progress = Callable[[int], None]
"""Called with how many units are done, now and then."""


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was broken, and how to see it again."""

    what: str
    """One line: which promise, and what was found instead."""
    again: str
    """The command that shows it again, with its seed: ``python -m torture rot --seed 7 --first 41 --count 1``."""


@dataclass(slots=True)
class Outcome:
    """What a run of a part came to."""

    count: int
    """Units done: crash images, kills, damaged files, steps."""
    violations: list[Violation] = field(default_factory=list)
    figures: dict[str, int | float | str] = field(default_factory=dict)
    """What else was counted, for the report: what the run really covered."""


@dataclass(frozen=True, slots=True)
class Control:
    """A planted fault: a build or a setting that is known to lose data, a checker fed a gap."""

    name: str
    caught: bool
    """Whether the part noticed. A control that is not caught means that the part proves nothing."""
    how: str
    """What it said, or what it missed."""


@dataclass(frozen=True, slots=True)
class Budget:
    """How much to do, and where."""

    count: int
    """Units to do. A part may do a few more, never fewer."""
    seed: int
    """Everything random comes from it: equal seeds do equal things wherever the kernel's scheduling has no part."""
    folder: Path
    """An empty folder of its own for stores and images."""
    first: int = 0
    """Units before this one are passed over: with ``count=1``, one unit again."""
    jobs: int = field(default_factory=lambda: os.cpu_count() or 1)
    """Processes to use."""


class Part(Protocol):
    """A harness."""

    name: str
    """Its name on the command line."""
    unit: str
    """What it counts, in the plural."""
    goal: int
    """Units of the long run."""
    small: int
    """Units of the run inside the test suite: seconds."""

    def run(self, budget: Budget, progress: Progress) -> Outcome:
        """Do the work. Violations are collected, not raised; a harness that cannot do its work raises."""
        ...

    def controls(self, budget: Budget) -> Iterator[Control]:
        """Plant each fault and say whether it was noticed."""
        ...
