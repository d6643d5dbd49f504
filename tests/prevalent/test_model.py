"""Random commands, failures, flushes, snapshots, kills of the handle and second looks, against plain objects in memory."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from prevalent_models import Bank, Deposit, Draw, Explode, Refused, Transfer, bank, open_db

import varve
from varve.prevalent.journal import Journal

NAMES = st.sampled_from(["ann", "bob", "cy"])
AMOUNTS = st.integers(0, 50)
FLUSHES = st.sampled_from(["commit", "manual", 3_000.0])


class Prevalent(RuleBasedStateMachine):
    """``acknowledged`` is what the commands make, ``durable`` what is on disk of it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp(prefix="varve-prevalent-"))
        self.acknowledged, self.durable = Bank(), Bank()
        self.full = False

    @initialize(flush=FLUSHES, every=st.sampled_from([None, 1, 3, 7]))
    def begin(self, flush: Any, every: int | None) -> None:
        self.open(flush, every)

    def open(self, flush: Any, every: int | None) -> None:
        self.flush_policy = flush
        self.db = open_db(self.folder / "store")
        self.system = bank(self.db, flush=flush, snapshot_every=every, checks_are_checked=True)

    def happened(self) -> None:
        """After whatever may have flushed."""
        if not self.system.pending:
            self.durable = self.copy(self.acknowledged)

    @staticmethod
    def copy(state: Bank) -> Bank:
        copied = Bank()
        copied.accounts, copied.closed = dict(state.accounts), set(state.closed)
        copied.drawn = list(state.drawn)
        return copied

    @rule(command=st.builds(Deposit, NAMES, AMOUNTS) | st.builds(Draw, st.integers(0, 9)))
    def executes(self, command: Any) -> None:
        assert self.system.execute(command) == command.apply(self.acknowledged)
        self.happened()

    @rule(command=st.builds(Transfer, NAMES, NAMES, AMOUNTS))
    def may_be_refused(self, command: Transfer) -> None:
        try:
            result = self.system.execute(command)
        except Refused:
            assert self.acknowledged.accounts.get(command.source, 0) < command.amount
        except KeyError:  # its target is its source, and there is no such account: apply fails half-way
            assert command.source not in self.acknowledged.accounts
            assert command.amount == 0
        else:
            assert result == command.apply(self.acknowledged)
        self.happened()

    @rule(name=NAMES)
    def fails(self, name: str) -> None:
        with pytest.raises(RuntimeError, match=f"boom: {name}"):
            self.system.execute(Explode(name))
        self.happened()

    @rule()
    def cannot_be_written(self) -> None:
        append = Journal.append

        def full(*_: Any) -> None:
            raise varve.DiskFull("full", path="there")

        Journal.append = full  # type: ignore[method-assign, assignment]
        try:
            had = self.system.pending
            with pytest.raises(varve.DiskFull):
                self.executes_and_flushes(Deposit("ann", 7))
        finally:
            Journal.append = append  # type: ignore[method-assign]
        if self.flush_policy != "commit":
            assert len(self.system.recover()) == had + 1
        self.acknowledged = self.copy(self.durable)

    def executes_and_flushes(self, command: Any) -> None:
        self.system.execute(command)
        self.system.flush()

    @rule()
    def flushes(self) -> None:
        self.system.flush()
        self.happened()

    @rule()
    def takes_a_snapshot(self) -> None:
        assert self.system.snapshot() == self.system.snapshot_position
        self.happened()

    @rule()
    def is_verified(self) -> None:
        assert self.system.verify()
        self.happened()

    @rule(flush=FLUSHES, every=st.sampled_from([None, 2, 5]), kill=st.booleans())
    def starts_again(self, flush: Any, every: int | None, kill: bool) -> None:
        if kill:  # what waits is gone with the process
            self.system._pending = []
            self.system._flushing.done()
            self.acknowledged = self.copy(self.durable)
        self.system.close()
        self.durable = self.copy(self.acknowledged)
        self.db.close()
        self.open(flush, every)

    @precondition(lambda self: self.system.pending == 0)
    @rule()
    def is_followed(self) -> None:
        with bank(self.db) as other:
            assert other.query(Bank.to_snapshot) == self.acknowledged.to_snapshot()

    @invariant()
    def is_what_the_commands_make(self) -> None:
        if hasattr(self, "system"):
            assert self.system.query(Bank.to_snapshot, copy=True) == self.acknowledged.to_snapshot()

    def teardown(self) -> None:
        if hasattr(self, "system"):
            self.system.close()
            self.db.close()
        shutil.rmtree(self.folder)


TestPrevalent = Prevalent.TestCase
TestPrevalent.settings = settings(
    max_examples=25, stateful_step_count=25, deadline=None, suppress_health_check=list(HealthCheck)
)
