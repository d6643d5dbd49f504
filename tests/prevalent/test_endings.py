"""What is not a crash loses nothing: interrupts between a write and its answer, the end of a program, a fork."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from prevalent_models import Bank, Deposit, Draw, balances, bank, open_db

import varve
from varve.prevalent.journal import Journal
from varve.prevalent.recovery import Recovery

FULL = varve.DiskFull("no space left", path="there")


def raising_once(error: BaseException) -> Any:
    """An ``apply`` that fails for reasons that are not the command's."""
    left = [error]

    def apply(_: Any, state: Bank) -> None:
        state.drawn.append(0)
        if left:
            raise left.pop()

    return apply


# -- an interrupt, an error that does not come again ---------------------------------------------------------------------


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize("then", ["flush", "snapshot", "recover", "close", "more"])
def test_an_interrupt_of_a_flush_loses_nothing_and_repeats_nothing(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch, then: str, *, is_written: bool
) -> None:
    """It may come before what waits is on disk, or after it."""
    system = bank(db, flush="manual")
    system.execute(Deposit("ann", 1))
    system.execute(Deposit("ann", 2))
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupted(is_written=is_written))
        with pytest.raises(KeyboardInterrupt):
            system.flush()
    assert balances(system) == {"ann": 3}
    assert (system.pending, db.next_global_sequence) == (2, 2 * is_written)
    if then == "more":
        system.execute(Deposit("ann", 4))
    else:
        getattr(system, then)()
    system.close()
    with bank(db) as again:
        assert balances(again) == {"ann": 7 if then == "more" else 3}
        assert again.position == db.next_global_sequence == 2 + (then == "more")


def interrupted(*, is_written: bool) -> Any:
    """A write that is interrupted before it is done, or when it is."""
    append = Journal.append

    def write(*arguments: Any) -> None:
        if is_written:
            append(*arguments)
        raise KeyboardInterrupt

    return write


@pytest.mark.parametrize("others", [1, 2])
def test_what_an_interrupt_kept_from_being_written_is_told_apart_from_others(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch, others: int
) -> None:
    """Somebody else's commands stand where they would: they are lost, as without the interrupt."""
    with bank(db, flush="manual") as system, bank(db) as other:
        system.execute(Deposit("ann", 1))
        system.execute(Deposit("ann", 2))
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "append", interrupted(is_written=False))
            with pytest.raises(KeyboardInterrupt):
                system.flush()
        for _ in range(others):
            other.execute(Deposit("bob", 1))
        with pytest.raises(varve.PrevalentSystemPoisoned):
            system.flush()
        assert system.recover() == (Deposit("ann", 1), Deposit("ann", 2))
        assert balances(system) == {"bob": others}


def test_an_interrupt_of_close_leaves_it_open(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits can still be written."""
    system = bank(db, flush="manual")
    system.execute(Deposit("ann", 1))
    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupted(is_written=False))
        with pytest.raises(KeyboardInterrupt):
            system.close()
    assert system.pending == 1
    system.close()
    assert db.next_global_sequence == 1


@pytest.mark.parametrize("error", [RuntimeError("once"), KeyboardInterrupt()])
@pytest.mark.parametrize("then", ["query", "close"])
def test_what_raised_once_is_taken_back_though_a_replay_would_not_raise(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch, error: BaseException, then: str
) -> None:
    """Its caller was told that it did not happen, and the disk was full when that should have been written."""
    with bank(db) as system:
        system.execute(Deposit("ann", 1))

        def full(*_: Any) -> None:
            raise FULL

        with monkeypatch.context() as patch:
            patch.setattr(Draw, "apply", raising_once(error))
            patch.setattr(Recovery, "take_back", full)
            with pytest.raises(type(error)):
                system.execute(Draw(1))
        if then == "query":
            assert system.query(lambda state: (state.accounts, state.drawn)) == ({"ann": 1}, [])
            assert system.verify()
    with bank(db) as again:
        assert again.query(lambda state: (state.accounts, state.drawn)) == ({"ann": 1}, [])
        assert again.position == 3


def test_a_start_that_fails_once_takes_nothing_back(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last command was acknowledged; memory was short just then."""
    with bank(db) as system:
        system.execute(Deposit("ann", 1))
        system.execute(Draw(1))
    monkeypatch.setattr(Draw, "apply", raising_once(MemoryError()))
    with bank(db) as again:
        assert again.query(lambda state: (state.accounts, state.drawn)) == ({"ann": 1}, [0])
    assert db.next_global_sequence == 2


# -- the end of a program, a fork ----------------------------------------------------------------------------------------

SCRIPT = """
import logging, sys
logging.basicConfig()
sys.path.insert(0, sys.argv[1])
from prevalent_models import Deposit, bank

system = bank(sys.argv[2], flush=sys.argv[3] if sys.argv[3] == "manual" else float(sys.argv[3]))
for _ in range(5):
    system.execute(Deposit("ann", 1))
if sys.argv[4] == "raises":
    raise ValueError
if sys.argv[4] == "store closed":
    system.store.__exit__(None, None, None)
"""


@pytest.mark.parametrize(
    ("flush", "how", "balance"), [("1000", "ends", 5), ("manual", "raises", 5), ("1000", "store closed", 0)]
)
def test_a_program_that_ends_writes_what_waits(varve_path: Path, flush: str, how: str, balance: int) -> None:
    """Nobody has closed the system; that is no crash."""
    command = [sys.executable, "-c", SCRIPT, str(Path(__file__).parent), str(varve_path), flush, how]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == (how == "raises"), ended.stderr
    assert ("is lost" in ended.stderr) == (how == "store closed"), ended.stderr
    with open_db(varve_path) as db, bank(db) as system:
        assert balances(system).get("ann", 0) == balance


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_leaves_what_waits_to_its_parent(varve_path: Path) -> None:
    """It can end as it likes, whoever held the lock when it was born; the parent's commands are the parent's to write."""
    system = bank(varve_path, flush="manual")
    system.execute(Deposit("ann", 1))
    inside, leave = threading.Event(), threading.Event()

    def long_query(_: Bank) -> None:
        inside.set()
        leave.wait()

    asking = threading.Thread(target=system.query, args=(long_query,))
    asking.start()
    inside.wait()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            try:
                system.execute(Deposit("ann", 1))
            except varve.ForkedStore:
                status = 2
            system.close()
            if status == 2:
                status = 0
        finally:
            os._exit(status)
    leave.set()
    asking.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert system.pending == 1
    system.close()
    with open_db(varve_path) as db, bank(db) as again:
        assert balances(again) == {"ann": 1}


# -- views in commands ---------------------------------------------------------------------------------------------------


@varve.event
class Line:
    name: str
    amount: varve.u32


@varve.event
class Order:
    line: Line
    lines: list[Line]


@varve.event
class Keep:
    line: Line
    lines: list[Line]

    def apply(self, kept: list[Any]) -> None:
        kept += [self.line, *self.lines]


def test_a_command_made_of_views_keeps_no_view(varve_path: Path) -> None:
    """The state would hold the map for as long as it lives, and the store could not be closed."""
    db = varve.open(varve_path, durability="relaxed")
    orders = db.stream("orders", Order)
    orders.append_batch(1, [Order(Line("a", 1), [Line("b", 2)])] * 100)
    with varve.PrevalentSystem(db, "kept", initial=list[Any], commands=[Keep], classes=[Line]) as system:
        for recorded in orders.reader().iter_stream(1, 50, 52):
            system.execute(Keep(recorded.event.line, recorded.event.lines))
        del recorded
        gc.collect()
        assert db.stats().snapshots == ()
        assert {type(one) for one in system.query(list)} == {Line}
        assert system.verify()
    db.close()
