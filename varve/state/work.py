"""What a transaction carries beside its appends: state, what it has read, what it demands."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from varve.errors import TransactionClosed
from varve.layout.state import TABLE
from varve.retention import rules_of
from varve.state.changes import Changes
from varve.state.checks import Ensure, Require, RequireVersion
from varve.state.draft import TransactionState
from varve.state.reads import Marks, Reads
from varve.state.view import InCommit, Source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from varve.engine.commit import Session
    from varve.engine.core import Engine
    from varve.engine.request import CommitRequest
    from varve.engine.side import Pair
    from varve.engine.snapshot import Snapshot


class WorkMark(NamedTuple):
    """A place in a transaction's work."""

    changes: int
    required: int
    ensured: int
    reads: Marks | None


class Instant:
    """When a transaction reads: taken at its first read, let go when it ends."""

    __slots__ = ("_engine", "is_over", "reads", "snapshot")

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.snapshot: Snapshot | None = None
        self.reads: Reads | None = None
        self.is_over = False

    def noted(self) -> Reads:
        """What is read in it."""
        reads = self.reads
        if reads is None:
            rules_of(self._engine).look()  # so that the instant knows them
            snapshot = self.snapshot = self._engine.held_snapshot(table=TABLE)
            reads = self.reads = Reads(snapshot)
        return reads

    def value(self, key: bytes) -> bytes | None:
        """As ``Source``."""
        return self.noted().value(key)

    def pairs(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        """As ``Source``."""
        return self.noted().pairs(low, high, reverse=reverse)

    def check_open(self) -> None:
        """Raises ``TransactionClosed`` once the transaction has ended."""
        if self.is_over:
            raise TransactionClosed("this transaction has ended: so has its state; read it with db.state")

    def end(self) -> None:
        """The transaction is over, or about to be committed."""
        self.is_over = True
        if self.snapshot is not None:
            self.snapshot.close()


class Work:
    """The part of a transaction that is not appends."""

    __slots__ = ("ensured", "instant", "required", "state")

    def __init__(self, engine: Engine, session: Session | None = None) -> None:
        self.instant = Instant(engine)
        base: Source = self.instant if session is None else InCommit(session.side_table(TABLE))
        self.state = TransactionState(base, engine.path, self.instant.check_open)
        self.required: list[Require | RequireVersion] = []
        self.ensured: list[Ensure] = []

    @property
    def counts(self) -> bool:
        """Whether there is anything to commit or to ask."""
        return bool(self.state._changes or self.required or self.ensured)  # noqa: SLF001 - the same room

    @property
    def changes(self) -> bool:
        """Whether it changes anything."""
        return bool(self.state._changes)  # noqa: SLF001 - the same room

    def ride(self, request: CommitRequest) -> CommitRequest:
        """Let a request carry it."""
        changes = self.state._changes  # noqa: SLF001 - the same room
        checks: list[Callable[[Session], None]] = []
        if self.instant.reads:
            checks.append(self.instant.reads)
        checks += self.required
        if changes:
            riding = Changes(changes, self.ensured)
            request.effects = [*request.effects, riding]
            request.side_bytes += riding.size
        else:
            checks += self.ensured
        request.checks = checks
        return request

    # -- returning ---------------------------------------------------------------------------------

    def mark(self) -> WorkMark:
        """What it holds now."""
        reads = None if self.instant.reads is None else self.instant.reads.mark()
        return WorkMark(len(self.state._changes), len(self.required), len(self.ensured), reads)  # noqa: SLF001

    def return_to(self, mark: WorkMark) -> None:
        """Forget what was added since."""
        self.state._return_to(mark.changes)  # noqa: SLF001 - the same room
        del self.required[mark.required :], self.ensured[mark.ensured :]
        if self.instant.reads is not None:
            self.instant.reads.return_to(mark.reads or NOTHING_READ)


NOTHING_READ: Marks = (0, 0, 0, 0, None)
NO_WORK = WorkMark(0, 0, 0, None)
