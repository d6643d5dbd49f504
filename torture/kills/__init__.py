"""Kill -9 at random instants and at each named point of the commit path, with writers, readers and waiters beside.

Kills are done in rounds of ``rounds.KILLS``: a store in memory, a keeper who judges, a sentinel who waits, a companion who
writes on, and victims of all roles that die one to four at a time. After each strike nothing that was acknowledged may be
missing, nothing may be there in part, whoever survived is told of the next commit, and slots of dead readers are free.
The page cache survives a kill, so this says nothing about disks; other parts do.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from torture.children import stream
from torture.part import Budget, Control, Outcome, Progress, Violation

KILLS = 50
"""Of a round."""
_ALL_POINTS = 5_000
"""So many kills come to every named point."""
_MODULE = "torture.kills.worker"


class Kills:
    """See the module."""

    name = "kills"
    unit = "kills"
    goal = 10_000
    small = 40

    def run(self, budget: Budget, progress: Progress) -> Outcome:
        """Rounds, each a process of its own and all that it forks. A unit's number is its kill's; a round is done from its
        begin on, since its store has a history."""
        first = budget.first // KILLS
        last = -(-(budget.first + budget.count) // KILLS)
        rounds = [(number, min(KILLS, budget.first + budget.count - number * KILLS)) for number in range(first, last)]
        outcome = Outcome(0)
        reached: Counter[str] = Counter()
        roles: Counter[str] = Counter()
        commits = waits = 0
        with tempfile.TemporaryDirectory(prefix="varve-kills-", dir=memory()) as folder:
            orders: list[dict[str, object]] = [
                {"do": "run", "folder": f"{folder}/{job}", "seed": budget.seed, "rounds": rounds[job :: budget.jobs]}
                for job in range(min(budget.jobs, len(rounds)))
            ]
            for done in stream(_MODULE, orders):
                outcome.count += done["kills"]
                reached.update(done["reached"])
                roles.update(done["roles"])
                commits += done["commits"]
                waits += done["waits"]
                again = f"python -m torture kills --seed {budget.seed} --first {done['round'] * KILLS} --count {KILLS}"
                outcome.violations += [Violation(problem, again) for problem in done["problems"]]
                progress(outcome.count)
        never = [name for name in _points() if name not in reached]
        if never and budget.count >= _ALL_POINTS:
            again = f"python -m torture kills --seed {budget.seed}"
            outcome.violations.append(Violation(f"no victim ever came to {', '.join(never)}", again))
        outcome.figures = {
            "commits acknowledged to those who were killed": commits,
            "waiters told of a commit after a strike": waits,
            "kills at an instant": reached.pop("an instant", 0) + reached.pop("instant", 0),
            "kills at a line by chance": reached.pop("line", 0),
            "kills at a named point": sum(reached[name] for name in reached if name in _points()),
            "kills before or after a system call": sum(reached[name] for name in reached if name not in _points()),
            "named points reached": f"{sum(name in reached for name in _points())} of {len(_points())}",
            "roles killed": ", ".join(f"{role} {count}" for role, count in sorted(roles.items())),
        }
        return outcome

    def controls(self, budget: Budget) -> Iterator[Control]:
        """In a process of their own, which forks."""
        with tempfile.TemporaryDirectory(prefix="varve-kills-", dir=memory()) as folder:
            order: dict[str, object] = {"do": "controls", "folder": f"{folder}/0", "seed": budget.seed}
            for said in stream(_MODULE, [order]):
                yield Control(**said)


def _points() -> tuple[str, ...]:
    from torture.kills.points import POINTS

    return POINTS


def memory() -> Path | None:
    """A folder in memory, where the system has one: kill -9 is not about the disk."""
    shared = Path("/dev/shm")
    return shared if shared.is_dir() else None


PART = Kills()
