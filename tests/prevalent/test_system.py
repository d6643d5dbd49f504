"""Commands are checked, written, applied; the state comes back; what fails leaves no trace in it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prevalent_models import Bank, Deposit, Draw, Explode, Refused, Transfer, balances, bank, open_db

import varve


def journal(db: varve.Varve) -> list[str]:
    """The types of what was written."""
    return [
        recorded.type.__name__ for recorded in db.global_reader().iter_from(0) if recorded.stream == "prevalent/bank"
    ]


def test_commands_change_the_state_and_come_back(db: varve.Varve) -> None:
    """What apply returns is given; another start has the equal state."""
    with bank(db) as system:
        assert system.execute(Deposit("ann", 70)) == 70
        assert system.execute(Transfer("ann", "bob", 30)) == (40, 30)
        assert (system.position, system.pending) == (2, 0)
        assert system.verify()
    with bank(db) as system:
        assert balances(system) == {"ann": 40, "bob": 30}
        assert system.position == 2
    assert journal(db) == ["Deposit", "Transfer"]


def test_a_path_is_opened_and_closed_by_the_system(varve_path: Path) -> None:
    """Without a store of one's own."""
    with bank(varve_path) as system:
        system.execute(Deposit("ann", 1))
        with pytest.raises(varve.StoreAlreadyOpen):
            varve.open(varve_path)
    with varve.open(varve_path) as db:
        assert journal(db) == ["Deposit"]
    with pytest.raises(varve.InvalidInput):
        bank(varve_path, flush="often")
    with varve.open(varve_path), pytest.raises(varve.StoreAlreadyOpen):
        bank(varve_path)


def test_a_path_whose_state_cannot_be_made_is_closed_again(varve_path: Path) -> None:
    """The store does not stay open behind a constructor that raised."""
    with bank(varve_path) as system:
        system.execute(Deposit("ann", 1))
    with pytest.raises(varve.UnexpectedEventType) as kept:
        varve.PrevalentSystem(varve_path, "bank", initial=Bank, commands=[Draw])
    varve.open(varve_path).close()
    assert kept.value.stream == "prevalent/bank"


def test_what_a_check_refuses_is_not_written(db: varve.Varve) -> None:
    """The very error of the check, and the log as before."""
    with bank(db) as system:
        with pytest.raises(Refused, match="ann has too little"):
            system.execute(Transfer("ann", "bob", 1))
        assert (system.position, balances(system)) == (0, {})
    assert journal(db) == []


def test_what_apply_cannot_finish_is_taken_back(db: varve.Varve) -> None:
    """The state is the one before, here and after the next start; the log says what happened."""
    with bank(db) as system:
        system.execute(Deposit("ann", 5))
        with pytest.raises(RuntimeError, match="boom: ann") as caught:
            system.execute(Explode("ann"))
        assert "taken back" in caught.value.__notes__[0]
        assert system.query(lambda state: (state.accounts, state.closed)) == ({"ann": 5}, set())
        system.execute(Deposit("ann", 1))
        assert system.verify()
    with bank(db) as system:
        assert balances(system) == {"ann": 6}
    assert journal(db) == ["Deposit", "Explode", "Aborted", "Deposit"]
    [record] = [found.event for found in db.global_reader().iter_from(0, types=[varve.Aborted])]
    assert record == varve.Aborted(1, "RuntimeError: boom: ann")


def test_an_interrupt_in_apply_takes_the_command_back(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sees an exception can rely on it that the command did not happen."""
    with bank(db) as system:
        system.execute(Deposit("ann", 5))
        with monkeypatch.context() as patch:
            patch.setattr(Draw, "apply", _interrupted)
            with pytest.raises(KeyboardInterrupt):
                system.execute(Draw(1))
        assert system.query(lambda state: (state.accounts, state.drawn)) == ({"ann": 5}, [])
        assert system.verify()
    assert journal(db) == ["Deposit", "Draw", "Aborted"]


def _interrupted(_: Any, state: Bank) -> None:
    state.drawn.append(0)
    raise KeyboardInterrupt


def test_replay_gives_the_same_time_and_chance(db: varve.Varve) -> None:
    """They are fields of the command, made when it is."""
    with bank(db) as system:
        numbers = [system.execute(Draw(seed)) for seed in range(20)]
        assert system.verify()
    with bank(db) as system:
        assert system.query(lambda state: state.drawn) == numbers


def test_what_depends_on_more_than_the_command_is_found(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """``verify`` compares with a state made from the first command on."""
    numbers = iter(range(100))
    monkeypatch.setattr(Draw, "apply", lambda _, state: state.drawn.append(next(numbers)))
    with bank(db) as system:
        system.execute(Draw(1))
        assert not system.verify()


def test_systems_of_one_store_do_not_meet(db: varve.Varve) -> None:
    """Each has a stream of its own, and other streams may lie between its commands."""
    notes = db.stream("notes", Deposit)
    with bank(db) as one, varve.PrevalentSystem(db, "other", initial=dict, commands=[Count]) as other:
        for number in range(300):
            one.execute(Deposit("ann", number))
            other.execute(Count())
            notes.append(number % 3, Deposit("not theirs", 1))
        with pytest.raises(RuntimeError):
            one.execute(Explode("x"))
    with bank(db) as one, varve.PrevalentSystem(db, "other", initial=dict, commands=[Count]) as other:
        assert balances(one) == {"ann": sum(range(300))}
        assert other.query(len) == 1
        assert other.query(lambda state: state["n"]) == 300


@varve.event
class Count:
    def apply(self, state: dict[str, int]) -> None:
        state["n"] = state.get("n", 0) + 1


def test_the_result_of_a_query_can_be_a_copy(db: varve.Varve) -> None:
    """Without it the living object is given."""
    with bank(db) as system:
        system.execute(Deposit("ann", 1))
        living = system.query(lambda state: state.accounts)
        copied = system.query(lambda state: state.accounts, copy=True)
        system.execute(Deposit("ann", 1))
        assert (living, copied) == ({"ann": 2}, {"ann": 1})


def test_commands_and_queries_do_not_nest(db: varve.Varve) -> None:
    """Neither from a query nor from apply; the state stays usable."""
    with bank(db) as system:
        with pytest.raises(varve.HandleUnusable, match="query"):
            system.query(lambda _: system.execute(Deposit("ann", 1)))
        with pytest.raises(varve.HandleUnusable):
            system.query(lambda _: system.close())
        with pytest.raises(varve.HandleUnusable):
            system.query(lambda _: system.recover())
        assert system.execute(Deposit("ann", 1)) == 1


def test_a_query_that_would_read_later_is_refused(db: varve.Varve) -> None:
    """Generators and coroutines run when the query is over."""

    async def later(state: Bank) -> int:
        return len(state.accounts)

    with bank(db) as system:
        for function in (lambda state: (name for name in state.accounts), later):
            with pytest.raises(varve.InvalidInput):
                system.query(function)


def test_checks_and_queries_that_write_are_found(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system was told to look; the state is made again."""
    monkeypatch.setattr(Transfer, "check", lambda _, state: state.accounts.clear())
    with bank(db, checks_are_checked=True) as system:
        system.execute(Deposit("ann", 5))
        with pytest.raises(varve.InvalidInput, match=r"Transfer\.check has changed"):
            system.execute(Transfer("ann", "bob", 1))
        with pytest.raises(varve.InvalidInput, match="a query has changed"):
            system.query(lambda state: state.accounts.clear())
        assert balances(system) == {"ann": 5}
    monkeypatch.undo()
    with bank(db, checks_are_checked=True) as system:
        assert system.execute(Transfer("ann", "bob", 1)) == (4, 1)


def test_a_view_is_executed_as_an_instance(db: varve.Varve) -> None:
    """Commands of another log, say."""
    db.stream("inbox", Deposit).append(0, Deposit("ann", 3))
    view = db.stream("inbox", Deposit).reader().get(0, 0)
    assert view is not None
    with bank(db) as system:
        assert system.execute(view) == 3


def test_threads_take_turns(db: varve.Varve) -> None:
    """Every command sees the state of the one before; no update is lost."""
    with bank(db, flush=0.01) as system:
        results: list[int] = []

        def work() -> None:
            results.extend(system.execute(Deposit("ann", 1)) for _ in range(100))

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(results) == list(range(1, 401))
        assert system.verify()


def test_awaited_commands_are_executed_in_order(db: varve.Varve) -> None:
    """On a thread of the system's; errors arrive with whoever awaits."""

    async def main(system: varve.PrevalentSystem[Bank]) -> None:
        results = await asyncio.gather(*(system.execute_async(Deposit("ann", 1)) for _ in range(20)))
        assert results == list(range(1, 21))
        with pytest.raises(Refused):
            await system.execute_async(Transfer("bob", "ann", 1))

    with bank(db) as system:
        asyncio.run(main(system))
    with pytest.raises(varve.PrevalentSystemClosed):
        asyncio.run(main(system))


def test_awaiting_does_not_block_the_loop(db: varve.Varve) -> None:
    """Also while a command or a query holds the system."""
    inside, go_on = threading.Event(), threading.Event()

    def hold(_: Bank) -> bool:
        inside.set()
        return go_on.wait(30)

    async def main(system: varve.PrevalentSystem[Bank]) -> None:
        holding = asyncio.get_running_loop().run_in_executor(None, system.query, hold)
        await asyncio.to_thread(inside.wait, 30)
        executing = asyncio.ensure_future(system.execute_async(Deposit("ann", 1)))
        for _ in range(5):
            await asyncio.sleep(0)
        assert not executing.done()
        go_on.set()
        assert await holding
        assert await executing == 1

    with bank(db) as system:
        asyncio.run(main(system))


def test_a_closed_system_refuses_everything(db: varve.Varve) -> None:
    """And may be closed again."""
    system = bank(db)
    system.close()
    system.close()
    assert "closed" in repr(system)
    calls: list[Callable[[], object]] = [
        lambda: system.execute(Deposit("ann", 1)),
        lambda: system.query(len),
        system.flush,
        system.snapshot,
        system.refresh,
        system.recover,
        system.verify,
        system.__enter__,
    ]
    for call in calls:
        with pytest.raises(varve.PrevalentSystemClosed):
            call()


def test_a_closed_store_is_said_to_be_closed(varve_path: Path) -> None:
    """It does not poison the system."""
    with open_db(varve_path) as db:
        system = bank(db)
    for call in (lambda: system.execute(Deposit("ann", 1)), lambda: system.query(len)):
        with pytest.raises(varve.StoreClosed):
            call()
    system.close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"initial": {}}, "initial="),
        ({"initial": object}, "object"),
        ({"initial": lambda: {1: object()}}, "object"),
        ({"commands": []}, "empty"),
        ({"commands": Deposit}, "a list"),
        ({"commands": [varve.Gap]}, "apply"),
        ({"commands": [varve.Aborted]}, "apply"),
        ({"classes": Bank}, "a list"),
        ({"classes": [object]}, "to_snapshot"),
        ({"snapshot_every": 0}, "snapshot_every"),
        ({"snapshot_every": True}, "snapshot_every"),
        ({"keep": 0}, "keep="),
        ({"keep": None}, "keep="),
        ({"flush": "sometimes"}, "flush="),
        ({"flush": 0}, "flush="),
        ({"flush": -1.0}, "flush="),
        ({"flush": float("nan")}, "flush="),
        ({"flush": 1e9}, "flush="),
        ({"flush": True}, "flush="),
        ({"flush": None}, "flush="),
    ],
)
def test_bad_arguments_are_told(db: varve.Varve, options: dict[str, Any], said: str) -> None:
    """Before anything is read or written."""
    with pytest.raises(varve.InvalidInput, match=said):
        varve.PrevalentSystem(db, "bank", **{"initial": Bank, "commands": [Deposit], **options})


def test_bad_names_and_commands_are_told(db: varve.Varve) -> None:
    """By the errors that streams raise, too; none of them poisons."""
    for name in ("", "a" * 250, 7):
        with pytest.raises(varve.InvalidName):
            varve.PrevalentSystem(db, name, initial=Bank, commands=[Deposit])  # type: ignore[arg-type]
    with pytest.raises(varve.SchemaError):
        varve.PrevalentSystem(db, "bank", initial=Bank, commands=[Bank])
    with bank(db) as system:
        for wrong in (Count(), Deposit, "deposit", None):
            with pytest.raises(varve.EventTypeError):
                system.execute(wrong)  # type: ignore[arg-type]
        with pytest.raises(varve.EventEncodingError):
            system.execute(Deposit("ann", -1))
        with pytest.raises(varve.InvalidInput):
            system.query("accounts")  # type: ignore[arg-type]
        assert (balances(system), journal(db)) == ({}, [])


@varve.event
class Odd:
    number: varve.u64
    check: varve.u64 = 0

    def apply(self, state: Any) -> None:
        """Its field has a method's name."""


def test_a_check_that_is_no_method_is_told(db: varve.Varve) -> None:
    """It would never be asked."""
    with pytest.raises(varve.InvalidInput, match="check"):
        varve.PrevalentSystem(db, "bank", initial=Bank, commands=[Odd])


def test_others_commands_are_seen_and_applied_when_told(varve_path: Path) -> None:
    """A system beside this one wrote: this one's next command is refused, and nothing is lost after refresh()."""
    with open_db(varve_path) as db, bank(db) as one, bank(db) as other:
        one.execute(Deposit("ann", 1))
        with pytest.raises(varve.PrevalentSystemBehind) as caught:
            other.execute(Deposit("ann", 10))
        assert (caught.value.system, caught.value.expected, caught.value.actual) == ("bank", 0, 1)
        assert other.refresh() == 1
        assert other.execute(Deposit("ann", 10)) == 11
        assert one.refresh() == 1
        with pytest.raises(RuntimeError):
            other.execute(Explode("x"))
        assert one.refresh() == 2
        assert balances(one) == balances(other) == {"ann": 11}
        assert one.verify()


def test_a_readonly_handle_follows(varve_path: Path, tmp_path: Path) -> None:
    """It applies what the writer writes, and writes nothing: also not where the last command failed and is not taken back yet."""
    with open_db(varve_path) as db, bank(db) as writer:
        writer.execute(Deposit("ann", 1))
        writer.snapshot()
    with varve.open(varve_path, readonly=True) as db, bank(db) as follower:
        assert balances(follower) == {"ann": 1}
        for call in (lambda: follower.execute(Deposit("ann", 1)), follower.snapshot):
            with pytest.raises(varve.ReadonlyStore):
                call()
        assert follower.refresh() == 0
    with open_db(varve_path) as db:
        db.stream("prevalent/bank", Explode).append(0, Explode("x"))
    with varve.open(varve_path, readonly=True) as db, bank(db) as follower:
        assert (balances(follower), follower.position) == ({"ann": 1}, 1)
        assert follower.refresh() == 0
    with open_db(varve_path) as db, bank(db) as writer:
        assert (balances(writer), writer.position) == ({"ann": 1}, 3)


def test_a_system_that_is_dropped_with_waiting_commands_warns(db: varve.Varve) -> None:
    """They are lost."""
    system = bank(db, flush="manual")
    system.execute(Deposit("ann", 1))
    with pytest.warns(ResourceWarning, match="1 commands"):
        del system
