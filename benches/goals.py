"""The goals: for each kind of work the floor that must be reached and the aim that we are out for.

Cases name the goal that a line of theirs is measured against (``GOALS["put-loop"]``); the report holds the table and says by how
much each was met or missed. A goal with several lines is met when each of them meets it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Goal:
    """A bound on a figure; None on both sides: measured for information."""

    at_least: float | None = None
    at_most: float | None = None
    aim: float | None = None
    """What we are out for, beyond the bound."""
    key: str = ""
    """Its name in the table of goals; empty for a bound that only one case knows."""
    against: str = ""
    """What the work is compared with, or what is counted."""

    @property
    def floor(self) -> float | None:
        """The bound, whichever side it stands on."""
        return self.at_least if self.at_least is not None else self.at_most

    def met(self, value: float) -> bool | None:
        """Whether a figure keeps it; None where there is nothing to keep."""
        return self._keeps(value, self.floor)

    def aim_met(self, value: float) -> bool | None:
        """Whether a figure reaches the aim; None where there is none."""
        return self._keeps(value, self.aim)

    def _keeps(self, value: float, bound: float | None) -> bool | None:
        if bound is None:
            return None
        return value >= bound if self.at_least is not None else value <= bound

    def margin(self, value: float) -> float | None:
        """How far on the good side of the floor a figure is, as a share of the floor; negative: missed by so much."""
        if not self.floor:
            return None
        return value / self.floor - 1 if self.at_least is not None else 1 - value / self.floor

    def worst(self, values: list[float]) -> float:
        """The least good of some figures."""
        return min(values) if self.at_least is not None else max(values)

    def __str__(self) -> str:
        if self.at_least is not None:
            return f">= {self.at_least:g}"
        return f"<= {self.at_most:g}" if self.at_most is not None else "-"


@dataclass(frozen=True, slots=True)
class Work:
    """A row of the table: a kind of work and what is asked of it."""

    what: str
    goals: tuple[Goal, ...]


def _least(key: str, floor: float, aim: float | None, against: str) -> Goal:
    return Goal(at_least=floor, aim=aim, key=key, against=against)


def _most(key: str, floor: float, aim: float | None, against: str) -> Goal:
    return Goal(at_most=floor, aim=aim, key=key, against=against)


TABLE: tuple[Work, ...] = (
    Work(
        "1,000,000 typed events, one transaction",
        (
            _least("million-put-loop", 2.5, 4, "x py-lmdb put loop"),
            _least("million-putmulti", 1.3, 2, "x py-lmdb putmulti"),
            _least("million-recorder", 6, 10, "x eventsourcing's recorder"),
            _least("million-application", 25, 40, "x eventsourcing's Application"),
        ),
    ),
    Work(
        "batches of 1,000, fsync each",
        (
            _least("thousands-put-loop", 2, 3, "x py-lmdb put loop"),
            _least("thousands-sqlite", 2, 3, "x raw sqlite3 columns"),
        ),
    ),
    Work("single append", (_most("single-append", 1.25, 1.1, "x the cost of a bare durable LMDB put"),)),
    Work(
        "512 concurrent appends",
        (_least("concurrent", 20, 40, "x in turn"), _most("concurrent-cpu", 25, None, "us CPU each")),
    ),
    Work(
        "typed replay, one field",
        (
            _least("replay-rate", 1.3, 2, "M/s"),
            _least("replay-recorder", 6, None, "x eventsourcing's recorder"),
            _least("replay-application", 12, None, "x eventsourcing's Application"),
            _least("replay-umadb", 3, None, "x umadb"),
        ),
    ),
    Work("raw replay", (_least("replay-raw", 1.3, 2, "x a bare py-lmdb cursor loop over one entry per event"),)),
    Work(
        "log of single appends, replayed, against batch-written",
        (_least("singles-one", 0.8, 0.95, "x one stream"), _least("singles-many", 0.6, 0.8, "x over 1,000 streams")),
    ),
    Work(
        "one stream of 1,000 interleaved, read",
        (
            _least("stream-checked", 300_000, 500_000, "events/s checked"),
            _least("stream-first", 150_000, None, "events/s first touch"),
        ),
    ),
    Work(
        "random typed get",
        (_most("get-checked", 6, 4, "us checked"), Goal(key="get-first", against="us first touch (reported)")),
    ),
    Work(
        "column sum",
        (
            _least("sum-checked", 80, 150, "M/s checked, fixed-size events"),
            _least("sum-first", 40, 60, "M/s first scan, fixed-size events"),
            _least("sum-strings", 30, 60, "M/s with strings in the event"),
        ),
    ),
    Work(
        "append_columns, flat scalar events",
        (
            _least("columns-blocks", 25, 40, "M/s to finished blocks"),
            _least("columns-durable", 5, 8, "M/s durable in commits of 10^6"),
        ),
    ),
    Work(
        "bytes on disk beyond the FlatBuffers, per event",
        (
            _most("disk-batches", 10, 6, "bytes in batches"),
            _most("disk-singles", 90, 60, "bytes in single appends over 1,000 streams, indexes included"),
        ),
    ),
    Work(
        "opening a store of 2*10^7 events",
        (_most("open", 2, 1, "ms"), _most("open-growth", 1.5, None, "x opening one of 10^4: does not grow with size")),
    ),
    Work(
        "cost per event from 10^5 to 2*10^7 events",
        (_most("growth-write", 1.3, 1.1, "x for a write"), _most("growth-read", 1.1, 1.05, "x for a read")),
    ),
    Work(
        "a prevalent system's state made again",
        (_least("prevalent-recovery", 400_000, 800_000, "commands/s, without any snapshot"),),
    ),
    Work(
        "an event and a value of state, one durable transaction",
        (_most("state-event", 1.1, None, "x the cost of a durable append"),),
    ),
    Work(
        "32 optimistic writers on 1,000 keys",
        (_least("optimistic", 3, None, "x one writer"), _most("optimistic-runs", 0.1, None, "runs again, of all")),
    ),
    Work(
        "projection catch-up into SQLite, an upsert per event",
        (_least("projection-rate", 150_000, 200_000, "events/s"),),
    ),
    Work(
        "a processor that catches up, its handler adding to state",
        (_least("processor-rate", 50_000, None, "events/s"),),
    ),
    Work('`python -c "import varve"`', (_most("import", 3, 2, 'x `python -c "import lmdb"`'),)),
)
"""The table, in the order in which it is shown."""

GOALS: dict[str, Goal] = {goal.key: goal for work in TABLE for goal in work.goals}
