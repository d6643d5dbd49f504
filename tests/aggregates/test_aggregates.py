"""Aggregates: load and execute, conflicts, retries, idempotency; snapshots change nothing but the time that loading takes."""

import asyncio
import logging
import threading
from pathlib import Path
from typing import Any

import pytest
from aggregate_models import (
    Account,
    AccountEvent,
    Command,
    Deposit,
    Deposited,
    Opened,
    Refused,
    Withdraw,
    Withdrawn,
    decide,
    decider,
    evolve,
)
from hypothesis import given, settings
from hypothesis import strategies as st

import varve
from varve.testing import ManualClock, temporary_store

Accounts = varve.Stream[AccountEvent]


def make(accounts: Accounts, **options: Any) -> varve.Aggregate[Account, Command, AccountEvent]:
    """An aggregate that never really sleeps."""
    options = {"initial": Account, "evolve": evolve, "decide": decide, "sleep": lambda s: None} | options
    return varve.Aggregate(accounts, **options)


# -- without snapshots ------------------------------------------------------------------------------------------------


def test_a_command_is_decided_on_what_was_before(accounts: Accounts) -> None:
    account = make(accounts)
    assert account.load(1) == (Account(), 0)
    done = account.execute(1, Deposit(10))
    assert (done.state.balance, done.version, list(done.positions)) == (10, 1, [(0, 0)])
    done = account.execute(1, lambda state: [Deposited(1), Withdrawn(2)], metadata={"by": "me"})
    assert (done.state.balance, done.version, [tuple(at) for at in done.positions]) == (19, 3, [(1, 1), (2, 2)])
    assert account.load(1) == (Account("", 19, ("Dep", "Dep", "Wit")), 3)
    assert account.load(2).version == 0
    recorded = accounts.reader().get_recorded(1, 2)
    assert recorded is not None
    assert recorded.metadata == {"by": "me"}
    assert account.decider.start() == Account()
    assert account.stream is accounts
    assert repr(account) == "<Aggregate of stream 'accounts'>"


def test_earlier_states(accounts: Accounts, db: varve.Varve) -> None:
    for account in (make(accounts), make(accounts, snapshots=db.snapshots.holding(Account), every=2, keep=9)):
        before = account.load(1).version
        for _ in range(5):
            account.execute(1, Deposit(1))
        for at in range(before, before + 5):
            assert account.load(1, at=at) == (decider.fold([Deposited(1)] * at), at)
        assert account.load(1, at=99).version == before + 5


def test_nothing_to_do_writes_nothing(accounts: Accounts, db: varve.Varve) -> None:
    account = make(accounts)
    for command in (Deposit(0), lambda state: [], lambda state: iter(())):
        done = account.execute(1, command)
        assert (len(done.positions), done.version) == (0, 0)
    assert db.next_global_sequence == 0


def test_a_refused_command_writes_nothing(accounts: Accounts, db: varve.Varve) -> None:
    account = make(accounts)
    with pytest.raises(Refused, match="only 0 there"):
        account.execute(1, Withdraw(1))
    with pytest.raises(KeyError):
        make(accounts, evolve=lambda state, event: {}[event]).execute(1, Deposit(1))
    assert db.next_global_sequence == 0


def test_whoever_was_slower_decides_again(accounts: Accounts) -> None:
    seen: list[int] = []
    waits: list[float] = []
    account = make(accounts, rng=lambda: 0.5, sleep=waits.append)

    def slowly(state: Account) -> Withdrawn:
        seen.append(state.balance)
        if len(seen) < 4:
            accounts.append(1, Deposited(1))
        return Withdrawn(state.balance)

    done = account.execute(1, slowly)
    assert (seen, done.state.balance) == ([0, 1, 3, 7], 0)
    assert waits == [0.0005, 0.001, 0.002]
    seen.clear()
    with pytest.raises(varve.WrongExpectedVersion):
        account.execute(1, slowly, retries=2)
    assert len(seen) == 3
    seen.clear()
    with pytest.raises(varve.WrongExpectedVersion):
        account.execute(1, slowly, retries=0)
    assert len(seen) == 1
    assert make(accounts, rng=lambda: 1.0)._wait_s(10**6) == 0.1


def test_no_update_is_lost_between_threads(accounts: Accounts, db: varve.Varve) -> None:
    account = make(accounts, snapshots=db.snapshots.holding(Account), every=3)

    def work() -> None:
        for _ in range(20):
            account.execute(1, lambda state: Deposited(len(state.history)), retries=1_000)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    amounts = [recorded.event for recorded in accounts.reader().iter_stream(1)]
    assert amounts == [Deposited(n) for n in range(120)]
    assert account.load(1).version == 120


def test_a_key_names_a_command(accounts: Accounts, db: varve.Varve) -> None:
    account = make(accounts)
    first = account.execute(1, lambda state: [Deposited(5), Deposited(6)], idempotency_key="a")
    account.execute(1, Deposit(7))
    again = account.execute(1, lambda state: pytest.fail("decided again"), idempotency_key="a")
    assert again.positions == first.positions
    assert (again.positions.replayed, first.positions.replayed) == (True, False)
    assert (again.state, again.version) == (first.state, 2)
    for stream_id in (2, "1"):
        with pytest.raises(varve.IdempotencyConflict, match="another stream"):
            account.execute(stream_id, Deposit(1), idempotency_key="a")
    many = db.stream("accounts", Opened | Deposited | Withdrawn)
    many.append_many([(1, Deposited(1)), (2, Deposited(1))], idempotency_key="many")
    with pytest.raises(varve.IdempotencyConflict):
        account.execute(1, Deposit(1), idempotency_key="many")
    assert account.execute(1, Deposit(0), idempotency_key="none").version == 4
    assert not account.execute(1, Deposit(1), idempotency_key="none").positions.replayed


@pytest.mark.parametrize("same", [True, False])
def test_the_same_command_twice_at_once(accounts: Accounts, same: bool) -> None:
    account = make(accounts)

    def raced(state: Account) -> Deposited:
        accounts.append(1, Deposited(3 if same else 4), idempotency_key="k")
        return Deposited(3)

    done = account.execute(1, raced, idempotency_key="k")
    assert done.positions.replayed
    assert (done.version, done.state.balance) == (1, 3 if same else 4)
    with pytest.raises(varve.IdempotencyConflict):
        account.execute(9, lambda state: accounts.append(8, Deposited(1), idempotency_key="z") and Deposited(2),
                        idempotency_key="z")  # fmt: skip


def test_async(accounts: Accounts, db: varve.Varve) -> None:
    account = make(accounts, snapshots=db.snapshots.holding(Account), every=4)

    async def main() -> None:
        await asyncio.gather(
            *(account.execute_async(1, lambda state: Deposited(len(state.history)), retries=1_000) for _ in range(30))
        )
        done = await account.execute_async(1, Deposit(0))
        assert (done.version, len(done.positions)) == (30, 0)
        again = [await account.execute_async(2, Deposit(1), idempotency_key="k") for _ in range(2)]
        assert [one.positions.replayed for one in again] == [False, True]
        with pytest.raises(Refused):
            await account.execute_async(1, Withdraw(10**12))

    asyncio.run(main())
    assert [recorded.event.amount for recorded in accounts.reader().iter_stream(1)] == list(range(30))
    assert db.snapshots.scopes() == [("accounts", 1)]


@pytest.mark.parametrize(
    "call",
    [
        lambda stream: make(stream, decide=1),
        lambda stream: make(stream, evolve=None),
        lambda stream: make(stream, keep=0),
        lambda stream: make(stream, missing="ignore"),
        lambda stream: make(stream, every=0),
        lambda stream: make(stream, every="often"),
        lambda stream: make(stream.name),
        lambda stream: make(stream).execute(1, Deposit(1), retries=-1),
        lambda stream: make(stream).load(1, at=-1),
        lambda stream: make(stream).load(1.5),
        lambda stream: make(stream).execute(1, lambda state: 7),
        lambda stream: make(stream).execute(1, lambda state: "text"),
        lambda stream: make(stream).execute(1, Deposit(1), idempotency_key=b""),
    ],
)
def test_bad_input(accounts: Accounts, db: varve.Varve, call: Any) -> None:
    with pytest.raises(varve.InvalidInput):
        call(accounts)
    assert db.next_global_sequence == 0


def test_an_async_decide_is_refused(accounts: Accounts) -> None:
    async def later(state: Account) -> Deposited:
        return Deposited(1)

    with pytest.raises(varve.InvalidInput, match="async"):
        make(accounts).execute(1, later)


def test_snapshots_of_another_store_are_refused(accounts: Accounts) -> None:
    with temporary_store() as other, pytest.raises(varve.InvalidInput, match="two stores"):
        make(accounts, snapshots=other.snapshots)


# -- snapshots change nothing -----------------------------------------------------------------------------------------


EVENTS: Any = st.lists(
    st.builds(Deposited, st.integers(0, 9))
    | st.builds(Withdrawn, st.integers(0, 9))
    | st.builds(Opened, st.text(max_size=2)),
    max_size=12,
)


@given(EVENTS, st.lists(st.tuples(st.integers(0, 12), st.sampled_from(["1", "2"])), max_size=6), st.data())
@settings(max_examples=60, deadline=None)
def test_any_snapshots_give_the_state_of_a_full_fold(
    events: list[Any], saves: list[tuple[int, str]], data: st.DataObject
) -> None:
    with temporary_store(durability="relaxed") as db:
        accounts: Any = db.stream("accounts", Opened | Deposited | Withdrawn)
        accounts.append_batch(1, events)
        accounts.append_batch("1", [Deposited(99)])
        snapshots = db.snapshots.holding(Account)
        for position, schema in saves:
            if position <= len(events):
                keep = data.draw(st.none() | st.integers(1, 2))
                # What another schema's evolve makes of them is something else.
                state = decider.fold(events[:position]) if schema == "1" else Account("other", 10**6)
                snapshots.save(("accounts", 1), position, state, schema=schema, keep=keep)
        snapshots.save(("accounts", "1"), 1, Account("another", 1), schema="1")
        account = make(accounts, snapshots=snapshots, every=data.draw(st.integers(1, 4)), schema="1", keep=2)
        assert account.load(1) == (decider.fold(events), len(events))
        more = data.draw(EVENTS)
        for event in more:
            account.execute(1, lambda state, event=event: event)  # type: ignore[misc]
            events.append(event)
            assert account.load(1) == (decider.fold(events), len(events))
        for at in range(len(events) + 1):
            assert account.load(1, at=at) == (decider.fold(events[:at]), at)


@given(st.lists(st.integers(1, 20), max_size=4), st.integers(0, 20), st.sampled_from(["truncate", "retain", "archive"]))
@settings(max_examples=40, deadline=None)
def test_beside_a_log_whose_beginning_is_gone(saves: list[int], gone: int, how: str) -> None:
    events = [Deposited(n) for n in range(20)]
    with temporary_store(durability="relaxed") as db:
        accounts: Any = db.stream("accounts", Opened | Deposited | Withdrawn)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(varve.limits, "TAIL_BLOCK_BYTES_MAX", 400)
            for event in events:
                accounts.append(1, event)
        snapshots = db.snapshots.holding(Account)
        for position in saves:
            snapshots.save(("accounts", 1), position, decider.fold(events[:position]))
        if how == "truncate":
            accounts.truncate_before(1, gone)
        elif how == "retain":
            accounts.retain(1, max_count=20 - gone)
        else:
            db.archive(gone, Path(db.path).parent / "archive")
            gone = db.first_global_sequence
        account = make(accounts, snapshots=snapshots)
        if max(saves, default=0) >= gone:
            assert account.load(1) == (decider.fold(events), 20)
        else:
            with pytest.raises(varve.Archived if how == "archive" else varve.EventsHidden):
                account.load(1)
        if how != "archive":
            skipping = make(accounts, snapshots=snapshots, missing="skip").load(1)
            whole = max(saves, default=0) >= gone
            assert skipping == (decider.fold(events if whole else events[gone:]), 20)


def test_hidden_events_say_which(accounts: Accounts) -> None:
    account = make(accounts)
    for _ in range(5):
        account.execute("x", Deposit(1))
    accounts.truncate_before("x", 3)
    with pytest.raises(varve.EventsHidden, match=r"needs its events 0 \.\. 2") as caught:
        account.load("x")
    facts = (caught.value.stream, caught.value.stream_id, caught.value.first_sequence, caught.value.stop_sequence)
    assert facts == ("accounts", "x", 0, 3)
    accounts.truncate_before("x", 5)
    with pytest.raises(varve.EventsHidden, match=r"needs its events 0 \.\. 4"):
        account.execute("x", Deposit(1))
    skipping = make(accounts, missing="skip")
    assert skipping.load("x") == (Account(), 5)
    assert skipping.execute("x", Deposit(3)).version == 6


# -- saving -----------------------------------------------------------------------------------------------------------


def saved(db: varve.Varve) -> list[int]:
    """Positions at which account 1 is saved."""
    return [info.position for info in db.snapshots.stored(("accounts", 1))]


def test_states_are_saved_when_they_are_due(accounts: Accounts, db: varve.Varve) -> None:
    account = make(accounts, snapshots=db.snapshots.holding(Account), every=3, keep=2)
    found = []
    for _ in range(10):
        account.execute(1, Deposit(1))
        found.append(saved(db))
    assert found == [[], [], [3], [3], [3], [3, 6], [3, 6], [3, 6], [6, 9], [6, 9]]
    account.execute(1, lambda state: [Deposited(1)] * 7)
    assert saved(db) == [9, 17]
    account.load(1)
    make(accounts, snapshots=db.snapshots.holding(Account), every=None).execute(1, lambda s: [Deposited(1)] * 7)
    assert saved(db) == [9, 17]


def test_states_are_saved_by_age(accounts: Accounts, db: varve.Varve, varve_clock: ManualClock) -> None:
    account = make(accounts, snapshots=db.snapshots.holding(Account), every=varve.every(seconds=60))
    account.execute(1, Deposit(1))
    assert saved(db) == [1]
    varve_clock.advance(59)
    account.execute(1, Deposit(1))
    assert saved(db) == [1]
    varve_clock.advance(1)
    account.execute(1, Deposit(1))
    assert saved(db) == [1, 3]


def test_a_save_that_fails_fails_no_command(
    accounts: Accounts, db: varve.Varve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        def due(self, applied: int, age_s: float) -> bool:
            raise ZeroDivisionError

    with caplog.at_level(logging.WARNING, "varve"):
        done = make(accounts, snapshots=db.snapshots, every=1).execute(1, Deposit(1))
        assert done.version == 1
        assert "was not saved: saved state cannot hold Account" in caplog.text
        assert make(accounts, snapshots=db.snapshots, every=Wrong()).execute(1, Deposit(1)).version == 2

        async def main() -> None:
            assert (await make(accounts, snapshots=db.snapshots, every=1).execute_async(1, Deposit(1))).version == 3

        asyncio.run(main())

        def full(*args: Any, **kwargs: Any) -> None:
            raise varve.DiskFull("no room", path="")

        snapshots = db.snapshots.holding(Account)
        monkeypatch.setattr(varve.Snapshots, "save", full)
        assert make(accounts, snapshots=snapshots, every=1).execute(1, Deposit(1)).version == 4
    assert len(caplog.records) == 4
    assert saved(db) == []


def test_a_replayed_command_saves_nothing(accounts: Accounts, db: varve.Varve) -> None:
    account = make(accounts, snapshots=db.snapshots.holding(Account), every=1)

    def raced(state: Account) -> Deposited:
        accounts.append(1, Deposited(3), idempotency_key="k")
        accounts.append(1, Deposited(4))
        return Deposited(3)

    account.execute(1, raced, idempotency_key="k")
    assert saved(db) == []


def test_a_snapshot_ahead_of_what_was_seen_is_not_used(
    accounts: Accounts, db: varve.Varve, monkeypatch: pytest.MonkeyPatch
) -> None:
    account = make(accounts, snapshots=db.snapshots.holding(Account), every=None)
    for _ in range(3):
        account.execute(1, Deposit(1))
    snapshots = db.snapshots.holding(Account)
    snapshots.save(("accounts", 1), 2, decider.fold([Deposited(1)] * 2))
    snapshots.save(("accounts", 1), 9, Account("wrong"))
    assert account.load(1) == (decider.fold([Deposited(1)] * 3), 3)


# -- policies and deciders --------------------------------------------------------------------------------------------


def test_policies() -> None:
    three = varve.every(3)
    assert [three.due(applied) for applied in (0, 1, 2, 3, 4)] == [False, False, False, True, True]
    both = varve.every(3, seconds=10)
    assert (both.due(2, 9.9), both.due(2, 10), both.due(0, 99), both.due(3, 0)) == (False, True, False, True)
    assert three == varve.SnapshotPolicy(3)
    for wrong in ({}, {"events": 0}, {"events": True}, {"seconds": -1}, {"seconds": "1"}, {"seconds": float("nan")}):
        with pytest.raises(varve.InvalidInput):
            varve.every(**wrong)  # type: ignore[arg-type]


def test_a_decider_needs_no_store() -> None:
    assert decider.run([Deposited(5)], Withdraw(2)) == ((Withdrawn(2),), Account("", 3, ("Dep", "Wit")))
    assert decider.run([], Deposit(0)).events == ()
    assert decider.fold([Withdrawn(1)], Account("", 5)).balance == 4
    assert decider.evolve(Account(), Deposited(2)).balance == 2
    assert repr(decider) == "<Decider decide>"


def test_an_initial_value_is_copied_for_each_use() -> None:
    def add(state: list[Any], event: Any) -> list[Any]:
        state.append(event)
        return state

    lists: varve.Decider[list[Any], Any, Any] = varve.Decider([[]], add, lambda state, command: command)
    lists.start()[0].append("left over")
    assert lists.fold([Deposited(1)]) == [[], Deposited(1)]
    assert lists.fold([Deposited(1)]) == [[], Deposited(1)]
