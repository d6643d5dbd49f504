"""When commands become durable, and what is lost where they did not: never more than the policy says, never out of order."""

from __future__ import annotations

import datetime as dt
import threading
from pathlib import Path
from typing import Any

import pytest
from prevalent_models import Bank, Deposit, Explode, Refused, Transfer, balances, bank, open_db

import varve
from varve import limits
from varve.prevalent.journal import Journal
from varve.prevalent.recovery import Recovery
from varve.testing import ManualClock


class Disk:
    """Lets writes of the journal fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error: BaseException | None = None
        append, abort = Journal.append, Journal.abort

        def failing(function: Any) -> Any:
            def both(*arguments: Any) -> Any:
                if self.error is not None:
                    raise self.error
                return function(*arguments)

            return both

        monkeypatch.setattr(Journal, "append", failing(append))
        monkeypatch.setattr(Journal, "abort", failing(abort))


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


FULL = varve.DiskFull("no space left", path="there")


def length(db: varve.Varve) -> int:
    """Events on disk."""
    return db.next_global_sequence


def test_manual_writes_when_it_is_told(db: varve.Varve) -> None:
    """What waits is in the state, not on disk; flush, snapshot and close write it, in its order."""
    with bank(db, flush="manual") as system:
        for number in range(5):
            system.execute(Deposit("ann", number))
        assert (system.pending, system.position, length(db), balances(system)) == (5, 0, 0, {"ann": 10})
        assert system.flush() == 5
        assert (system.pending, system.position, length(db)) == (0, 5, 5)
        assert system.flush() == 0
        system.execute(Deposit("ann", 1))
        assert system.snapshot() == 6
        assert length(db) == 6
        with pytest.raises(Refused):
            system.execute(Transfer("bob", "ann", 1))
        system.execute(Transfer("ann", "bob", 11))
    assert [found.event for found in db.global_reader().iter_from(4)] == [
        Deposit("ann", 4),
        Deposit("ann", 1),
        Transfer("ann", "bob", 11),
    ]
    assert db.next_global_sequence == 7
    with bank(db) as system:
        assert balances(system) == {"ann": 0, "bob": 11}


def test_an_interval_begins_with_the_first_that_waits(db: varve.Varve) -> None:
    """By the clock that was given; the next one begins a new interval."""
    clock = ManualClock()
    with bank(db, flush=dt.timedelta(seconds=3_000), clock=clock) as system:
        clock.advance(10_000)
        system.execute(Deposit("ann", 1))
        clock.advance(2_999)
        system.execute(Deposit("ann", 1))
        assert (system.pending, length(db)) == (2, 0)
        clock.advance(1)
        system.execute(Deposit("ann", 1))
        assert (system.pending, length(db)) == (0, 3)
        clock.advance(2_999)
        system.execute(Deposit("ann", 1))
        clock.advance(2_999)
        system.execute(Deposit("ann", 1))
        assert (system.pending, length(db)) == (2, 3)
    assert length(db) == 5


def test_what_waits_is_written_though_nobody_calls(db: varve.Varve) -> None:
    """By a timer; and again for those that come after."""
    with bank(db, flush=0.01) as system:
        for number in range(3):
            system.execute(Deposit("ann", number))
            assert next(iter(db.follow(number, timeout_s=60))).event == Deposit("ann", number)


def test_a_timer_that_comes_early_by_the_clock_waits_on(db: varve.Varve) -> None:
    """A clock may go slower than the machine's; a timer that a flush has overtaken does nothing."""
    clock = ManualClock()
    with bank(db, flush=1_000, clock=clock) as system:
        system.execute(Deposit("ann", 1))
        first = system._flushing._timers
        system._flush_if_due(first)
        assert (system.pending, system._flushing._timers) == (1, first + 1)
        clock.advance(1_000)
        system._flush_if_due(first)
        assert system.pending == 1
        system._flush_if_due(first + 1)
        assert (system.pending, length(db)) == (0, 1)


def test_much_that_waits_is_written_at_once(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is bounded, also where nobody flushes."""
    monkeypatch.setattr(limits, "PREVALENT_PENDING_BYTES_MAX", 1_000)
    with bank(db, flush="manual") as system:
        for _ in range(100):
            system.execute(Deposit("ann", 1))
        assert 0 < system.pending < 40
        assert length(db) == 100 - system.pending


def test_what_fails_before_it_is_written_leaves_no_record(db: varve.Varve) -> None:
    """Those before it are written, so that the state can be made again."""
    with bank(db, flush="manual") as system:
        system.execute(Deposit("ann", 1))
        with pytest.raises(RuntimeError, match="boom") as caught:
            system.execute(Explode("ann"))
        assert "not written" in caught.value.__notes__[0]
        system.execute(Deposit("ann", 1))
        assert system.query(lambda state: (state.accounts, state.closed)) == ({"ann": 2}, set())
        assert system.verify()
    assert [found.type for found in db.global_reader().iter_from(0)] == [Deposit, Deposit]


def test_an_interrupt_while_commands_wait_loses_none_of_them(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The state is made again by whoever comes next."""

    def interrupted(_: Any, state: Bank) -> None:
        state.accounts.clear()
        raise KeyboardInterrupt

    with bank(db, flush="manual") as system:
        system.execute(Deposit("ann", 1))
        with monkeypatch.context() as patch:
            patch.setattr(Deposit, "apply", interrupted)
            with pytest.raises(KeyboardInterrupt):
                system.execute(Deposit("bob", 1))
        assert balances(system) == {"ann": 1}
        assert length(db) == 1


# -- writes that fail ----------------------------------------------------------------------------------------------------


def test_a_command_that_cannot_be_written_is_not_applied(db: varve.Varve, disk: Disk) -> None:
    """With a flush for each, nothing that was acknowledged is lost: the state is made again without a word."""
    with bank(db) as system:
        system.execute(Deposit("ann", 1))
        disk.error = FULL
        for _ in range(2):
            with pytest.raises(varve.DiskFull):
                system.execute(Deposit("ann", 1))
            assert balances(system) == {"ann": 1}
        disk.error = None
        assert system.execute(Deposit("ann", 1)) == 2
        assert system.verify()


def test_acknowledged_commands_that_cannot_be_written_poison(db: varve.Varve, disk: Disk) -> None:
    """Everything is refused, and told what is lost, until recover() was called."""
    system = bank(db, flush="manual")
    system.execute(Deposit("ann", 1))
    system.flush()
    lost = (Deposit("ann", 2), Deposit("bob", 3))
    for command in lost:
        system.execute(command)
    disk.error = FULL
    with pytest.raises(varve.DiskFull):
        system.flush()
    disk.error = None
    for call in (system.flush, system.snapshot, system.refresh, system.verify, lambda: system.query(len)):
        with pytest.raises(varve.PrevalentSystemPoisoned) as caught:
            call()
        assert caught.value.lost == lost
        assert isinstance(caught.value.__cause__, varve.DiskFull)
    with pytest.raises(varve.PrevalentSystemPoisoned):
        system.execute(Deposit("ann", 1))
    assert "poisoned" in repr(system)
    assert system.recover() == lost
    assert balances(system) == {"ann": 1}
    for command in lost:
        system.execute(command)
    assert system.recover() == ()
    assert balances(system) == {"ann": 3, "bob": 3}
    system.close()
    assert length(db) == 3


def test_a_flush_that_nobody_waits_for_poisons_too(db: varve.Varve, disk: Disk) -> None:
    """The timer's: whoever comes next is told. Closing tells it, and closes."""
    clock = ManualClock()
    system = bank(db, flush=1_000, clock=clock)
    system.execute(Deposit("ann", 1))
    disk.error = FULL
    clock.advance(1_000)
    system._flush_if_due(system._flushing._timers)
    disk.error = None
    with pytest.raises(varve.PrevalentSystemPoisoned):
        system.execute(Deposit("ann", 1))
    with pytest.raises(varve.PrevalentSystemPoisoned):
        system.close()
    with pytest.raises(varve.PrevalentSystemClosed):
        system.flush()
    with bank(db) as again:
        assert balances(again) == {}


def test_those_who_wait_are_told(db: varve.Varve, disk: Disk, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that waits for the lock while a flush fails does not run on a state that is not on disk."""
    system = bank(db, flush="manual")
    system.execute(Deposit("ann", 1))
    inside, go_on = threading.Event(), threading.Event()

    def failing(*_: Any) -> None:
        inside.set()
        go_on.wait(30)
        raise FULL

    told: list[BaseException] = []

    def call(function: Any) -> None:
        try:
            function()
        except varve.VarveError as error:
            told.append(error)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", failing)
        threads = [threading.Thread(target=call, args=(system.flush,))]
        threads[0].start()
        inside.wait(30)
        threads.append(threading.Thread(target=call, args=(lambda: system.execute(Deposit("bob", 1)),)))
        threads[1].start()
        go_on.set()
        for thread in threads:
            thread.join(30)
    assert {type(error) for error in told} == {varve.DiskFull, varve.PrevalentSystemPoisoned}
    assert system.recover() == (Deposit("ann", 1),)
    assert balances(system) == {}
    system.close()


def test_somebody_else_wrote_while_commands_waited(db: varve.Varve) -> None:
    """What waits was applied to a state that never was."""
    one, other = bank(db, flush="manual"), bank(db)
    one.execute(Deposit("ann", 1))
    other.execute(Deposit("ann", 10))
    with pytest.raises(varve.PrevalentSystemPoisoned) as caught:
        one.flush()
    assert isinstance(caught.value.__cause__, varve.PrevalentSystemBehind)
    assert one.recover() == (Deposit("ann", 1),)
    assert one.execute(Deposit("ann", 1)) == 11
    one.close()
    other.close()


def test_a_command_that_cannot_be_taken_back_now_is_taken_back_before_anything_else(
    db: varve.Varve, disk: Disk
) -> None:
    """The disk may be full just then; its own error is raised."""
    with bank(db) as system:
        system.execute(Deposit("ann", 1))
        take_back = Recovery.take_back

        def full(self: Recovery, *arguments: Any) -> None:
            disk.error = FULL
            take_back(self, *arguments)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Recovery, "take_back", full)
            with pytest.raises(RuntimeError, match="boom") as caught:
                system.execute(Explode("ann"))
        assert "could not be taken back yet" in caught.value.__notes__[0]
        with pytest.raises(varve.PrevalentSystemPoisoned) as poisoned:
            system.query(len)
        assert poisoned.value.lost == ()
        disk.error = None
        assert balances(system) == {"ann": 1}
        assert system.execute(Deposit("ann", 1)) == 2
        assert system.verify()
    assert length(db) == 4


def test_a_store_that_refuses_from_now_on_keeps_the_system_poisoned(varve_path: Path, disk: Disk) -> None:
    """Nobody knows what is on disk: opened again, the store says it."""
    with open_db(varve_path) as db:
        system = bank(db)
        system.execute(Deposit("ann", 1))
        disk.error = varve.CommitOutcomeUnknown("who knows", path="there")
        with pytest.raises(varve.CommitOutcomeUnknown):
            system.execute(Deposit("ann", 1))
        disk.error = None
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Recovery, "newest", lambda _: (_ for _ in ()).throw(varve.StoreClosed("refused")))
            for _ in range(2):
                with pytest.raises(varve.PrevalentSystemPoisoned):
                    system.query(len)
        assert balances(system) == {"ann": 1}
        system.close()
