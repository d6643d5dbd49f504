"""What observers are told: see ``Varve.observe`` and docs/observability.md."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class CommitReport:
    """A write transaction of this handle that has ended, well or not.

    One transaction may hold many commits: appends, transactions and consumers' positions that waited at the same time share
    it, and its fsync.
    """

    commits: int
    """Commits that it made durable: append calls, transactions, ``db.write`` calls and stored positions of consumers. 0 where it
    wrote nothing."""
    events: int
    """Events that it wrote."""
    event_bytes: int
    """Their encoded length, in bytes."""
    replays: int
    """Commits that wrote nothing, since their idempotency key had been used for the same content before."""
    errors: tuple[str, ...]
    """The codes of the errors that its other commits were answered with, one for each: refusals such as
    ``"wrong_expected_version"``, or what made the whole fail. The name of the class for what is no ``VarveError``."""
    waited_s: float
    """Seconds from the first of them being handed in to the beginning of the write transaction: for the commits before, for
    other processes, for company (``linger_s``). 0.0 where nothing was begun."""
    prepared_s: float
    """Seconds from there to LMDB's commit: checking, building blocks, and in ``db.write`` the function. Where an error ended it,
    all of the time but ``waited_s``."""
    commit_s: float
    """Seconds in LMDB's commit: writing the pages and, with ``durability="full"``, the fsync. 0.0 where there was none."""


@dataclass(frozen=True, slots=True)
class BatchReport:
    """A batch of events that a consumer gave and has come back from.

    It is a list where the consumer is read in lists, else what was read ahead together (at most ``TAIL_EVENTS_MAX`` events).
    """

    consumer: str
    """The consumer's name."""
    member: int
    """Which of ``members`` it is, from 0."""
    members: int
    """How many share the name."""
    events: int
    """Events that were given."""
    position: int
    """The consumer's position then: the next global sequence."""
    lag: int
    """Events of the log from there to its end, whether they are for this consumer or not."""
    handled_s: float
    """Seconds from the batch being read to the consumer's coming back for more, or being closed."""


class Observer:
    """Who wants to be told: override what you need, and hand an instance to ``db.observe``.

    Both are called on the thread that did the work (that of the append, the helper thread, the consumer's), before it goes on:
    be quick, wait for nobody, and leave the store alone: writing to it or closing it in here raises ``HandleUnusable``. What an
    observer raises is logged once and goes no further: a commit is never the worse for it.
    """

    def commit_ended(self, report: CommitReport, /) -> None:
        """A write transaction has ended; what it wrote is durable, and the calls that asked for it have not returned yet."""

    def batch_handled(self, report: BatchReport, /) -> None:
        """A consumer is done with a batch."""
