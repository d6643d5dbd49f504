"""Hostile bytes: fuzzers on everything that parses what it is given.

For each input: nothing but the documented typed error, no hang, no memory beyond a bound, and whatever is accepted can be
used completely. A unit is one input, made from the seed and its number alone.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator

from torture import farm
from torture.hostile.codec import EvolutionTarget, FbsTarget, JsonTarget, LoadTarget, StoredSchemaTarget, VerifierTarget
from torture.hostile.files import HintsTarget, LocksTarget
from torture.hostile.layout import BlockTarget, LogTarget, RecordsTarget
from torture.hostile.target import Attempt, Target
from torture.part import Budget, Control, Outcome, Progress, Violation

TARGETS: tuple[Target, ...] = (
    BlockTarget(),
    LogTarget(),
    RecordsTarget(),
    VerifierTarget(),
    FbsTarget(),
    LoadTarget(),
    StoredSchemaTarget(),
    EvolutionTarget(),
    JsonTarget(),
    HintsTarget(),
    LocksTarget(),
)

_CPU_S = 10.0
_MEMORY_BYTES = 512 * 2**20


def chance_of(seed: int, number: int) -> random.Random:
    """Everything random about a unit."""
    return random.Random(seed << 48 | number)


class Hostile:
    """The part."""

    name = "hostile"
    unit = "inputs"
    goal = 3_000_000
    small = 3_000

    def __init__(self, targets: tuple[Target, ...] = TARGETS) -> None:
        self.targets = targets

    def run(self, budget: Budget, progress: Progress, *, wall_s: float = 20.0, findings_max: int = 20) -> Outcome:
        """Every input to the target that its number falls to."""
        attempts = {target.name: _prepared(target, budget) for target in self.targets}
        names = [target.name for target in self.targets]
        shares = [target.share for target in self.targets]

        def unit(number: int, counts: Counter[str]) -> str | None:
            chance = chance_of(budget.seed, number)
            (name,) = chance.choices(names, shares)
            began = time.thread_time()
            try:
                accepted = attempts[name](chance)
            except Exception as error:
                error.add_note(name)
                raise
            counts[f"{name}: inputs"] += 1
            counts[f"{name}: accepted"] += accepted
            counts[f"{name}: us"] += int((time.thread_time() - began) * 1e6)
            return None

        harvest = farm.run(
            unit,
            range(budget.first, budget.first + budget.count),
            jobs=budget.jobs,
            folder=budget.folder,
            progress=progress,
            cpu_s=_CPU_S,
            wall_s=wall_s,
            memory_bytes=_MEMORY_BYTES,
            findings_max=findings_max,
        )
        violations = [
            Violation(what, f"python -m torture hostile --seed {budget.seed} --first {number} --count 1 --no-controls")
            for number, what in harvest.findings
        ]
        return Outcome(harvest.done, violations, _figures(harvest.counts, names))

    def controls(self, budget: Budget) -> Iterator[Control]:
        """Every target's holes, and a crash, a hang and a flood of memory."""
        for target in self.targets:
            for index, (what, patch, within) in enumerate(target.holes()):
                folder = budget.folder / f"{target.name}-{index}"
                folder.mkdir()
                own = Budget(count=within, seed=budget.seed, folder=folder, jobs=budget.jobs)
                with patch:
                    outcome = Hostile((target,)).run(own, lambda _: None, wall_s=2.0, findings_max=1)
                found = outcome.violations
                how = found[0].what[:120] if found else f"{outcome.count:,} inputs and nothing found"
                yield Control(f"{target.name}: {what}", bool(found), how)
        yield from _harness_controls(budget)


def _prepared(target: Target, budget: Budget) -> Attempt:
    folder = budget.folder / target.name
    folder.mkdir()
    return target.prepare(budget.seed, folder)


def _figures(counts: Counter[str], names: list[str]) -> dict[str, int | float | str]:
    figures: dict[str, int | float | str] = {}
    for name in names:
        inputs = counts[f"{name}: inputs"]
        if inputs:
            each = counts[f"{name}: us"] / inputs
            figures[name] = f"{inputs:,} inputs, {counts[f'{name}: accepted']:,} accepted, {each:,.0f} us each"
    return figures


def _harness_controls(budget: Budget) -> Iterator[Control]:
    """Units that do what no unit may do."""

    def crash() -> None:
        import ctypes

        ctypes.string_at(0)

    def hang() -> None:
        while True:
            pass

    def sleep() -> None:
        time.sleep(60)

    def flood() -> None:
        _ = bytearray(4 * _MEMORY_BYTES)

    for kind, act in {"CRASH": crash, "HANG": hang, "HANG ": sleep, "MEMORY": flood}.items():
        folder = budget.folder / f"harness-{kind}"
        folder.mkdir()

        def unit(number: int, _: Counter[str]) -> None:
            if number == 1:
                act()  # noqa: B023 - called before the loop goes on

        found = farm.run(unit, range(3), jobs=1, folder=folder, cpu_s=0.3, wall_s=1.0, memory_bytes=_MEMORY_BYTES)
        caught = found.done == 3 and [what.startswith(kind.strip()) for _, what in found.findings] == [True]
        yield Control(f"a unit that ends in a {act.__name__}", caught, str(found.findings)[:120])


PART = Hostile()

__all__ = ["PART", "TARGETS", "Hostile", "chance_of"]
