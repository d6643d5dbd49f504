"""What projections report."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class ProjectionProgress:
    """How far a projection has come since it began to catch up: what ``progress`` is called with after each transaction, and what
    catching up and rebuilding return."""

    name: str
    """The projection's name."""
    position: int
    """The next global sequence: the events before it are in the tables, or are not for this projection."""
    end: int
    """Where it wants to get: a global sequence."""
    events: int
    """Events applied since it began."""
    seconds: float
    """How long that took."""
    rebuilding: bool
    """Whether they went into a new generation, which nobody reads yet."""

    @property
    def rate(self) -> float:
        """Events applied per second."""
        return self.events / self.seconds if self.seconds else 0.0

    @property
    def lag(self) -> int:
        """Global sequences from the position to the end."""
        return max(0, self.end - self.position)


@dataclass(frozen=True, slots=True)
class ProjectionInfo:
    """A projection as its folder tells. Made by ``db.projections()``."""

    name: str
    """Its name."""
    path: str | None
    """The SQLite file of the current generation; None where there is none yet."""
    generation: int | None
    """Number of the current generation, from 1; None where there is none yet."""
    version: int | None
    """Version of the class that made it."""
    position: int | None
    """The next global sequence: the events before it are in the tables, or are not for this projection."""
    lag: int | None
    """Events of the log from there to its end, whether they are for this projection or not."""
    built_at: dt.datetime | None
    """When this generation was begun (UTC)."""
    size_bytes: int
    """Bytes of all of its files."""
    generations: int
    """Generations that lie there: the current one, those that somebody reads still, one that is being built."""
    running: bool
    """Whether somebody applies events to it."""
    pid: int | None
    """The process that does, where that is known."""
    rebuilding: bool
    """Whether somebody builds a new generation."""
    problem: str | None
    """Why it cannot be read, where it cannot."""


@dataclass(frozen=True, slots=True)
class ProjectionStatus(ProjectionInfo):
    """A projection as its handle sees it. Made by ``ProjectionHandle.status()``."""

    outdated: str | None
    """Why it has to be rebuilt, where it has to."""
    rate: float
    """Events per second of what this handle applied last, a rebuild or a catching up; 0 where it has not yet."""


@dataclass(frozen=True, slots=True)
class ProjectionDifference:
    """What differs between a projection and one made afresh from the log."""

    kind: Literal["missing", "extra", "schema"]
    """``missing``: a row that the projection should have; ``extra``: one that it should not have; ``schema``: a table,
    index, trigger or view that is not as it should be."""
    table: str
    """The table (of kind ``schema``: the name of what differs)."""
    row: dict[str, Any]
    """The row, by column (of kind ``schema``: the SQL as ``found`` and ``expected``)."""
    count: int
    """How many more of such rows there should be, or are."""


@dataclass(frozen=True, slots=True)
class ProjectionCheck:
    """A projection compared with one made afresh from the log. Made by ``ProjectionHandle.check()``."""

    name: str
    """Its name."""
    position: int
    """Where it stood: both were compared as of this global sequence."""
    events: int
    """Events that were applied to make the other one."""
    rows: int
    """Rows that were compared."""
    tables: tuple[str, ...]
    """The tables that were compared."""
    differences: tuple[ProjectionDifference, ...]
    """What differs, at most ``limits.PROJECTION_DIFFERENCES_MAX`` rows of each kind of a table."""
    differing: int
    """How many rows and other things differ in all."""

    @property
    def ok(self) -> bool:
        """Whether nothing differs."""
        return not self.differing
