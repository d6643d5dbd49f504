"""``db.optimistic``: never a lost update, by many at once, with state and streams."""

from __future__ import annotations

import asyncio
import contextvars
import random
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from state_models import Moved

import varve
from varve import limits
from varve.engine.commit import Session

NAME: contextvars.ContextVar[str] = contextvars.ContextVar("NAME", default="nobody")


def at_once(count: int, work: Callable[[int], object]) -> None:
    """So many threads; raises what one of them raised."""
    errors: list[BaseException] = []
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        try:
            work(number)
        except BaseException as exc:  # noqa: BLE001 - told below
            errors.append(exc)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def test_no_update_is_lost_under_32_threads(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """All of them on three keys; the events beside them agree."""

    def decide(tx: varve.Transaction) -> int:
        key = random.randrange(3)
        value: int = tx.state.get_opt(key, 0) + 1
        tx.state.put(key, value)
        tx.append(moved, key, Moved(value))
        return value

    def work(_: int) -> None:
        for _ in range(10):
            assert db.optimistic(decide) > 0

    at_once(32, work)
    assert sum(value for _, value in db.state.range()) == 320
    for key in range(3):
        amounts = [recorded.event.amount for recorded in moved.reader().iter_stream(key)]
        assert amounts == list(range(1, db.state.get_opt(key, 0) + 1))


def test_no_update_is_lost_that_reads_streams(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """Each event says how many there were before it, and the sum of a range."""

    def decide(tx: varve.Transaction) -> None:
        reader = tx.reader(moved)
        total = sum(recorded.event.amount for recorded in reader.iter_stream(1))
        assert tx.length(moved, 1) == total + 1 if total else True
        tx.append(moved, 1, Moved(0 if tx.length(moved, 1) == 0 else 1))
        tx.state.put(("n", tx.length(moved, 1)), sum(1 for _ in tx.state.scan_prefix(("n",))))

    at_once(16, lambda _: [db.optimistic(decide, retries=1_000) for _ in range(6)])
    assert moved.reader().length(1) == 96
    assert [value for _, value in db.state.scan_prefix(("n",))] == list(range(96))


def test_transfers_between_accounts_keep_the_sum(db: varve.Varve) -> None:
    """Two keys read and written at a time, a range read now and then."""
    for account in range(8):
        db.state.put(("account", account), 100)

    def transfer(tx: varve.Transaction, rng: random.Random) -> None:
        here, there = rng.sample(range(8), 2)
        amount = rng.randrange(40)
        balance = tx.state.get(("account", here))
        if balance < amount:
            return
        tx.state.put(("account", here), balance - amount)
        tx.state.put(("account", there), tx.state.get(("account", there)) + amount)

    def work(number: int) -> None:
        rng = random.Random(number)
        for _ in range(25):
            db.optimistic(lambda tx: transfer(tx, rng))
            if rng.random() < 0.2:
                values = [value for _, value in db.state.scan_prefix(("account",))]
                assert sum(values) == 800

    at_once(16, work)
    values = [value for _, value in db.state.scan_prefix(("account",))]
    assert sum(values) == 800
    assert min(values) >= 0


def overtaken(db: varve.Varve, fn: Callable[[Any], object], times: int = 1) -> Callable[[Any], object]:
    """The same function, the first times overtaken by somebody who adds to ``n``, after it has read."""
    left = [times]

    def both(tx: Any) -> object:
        result = fn(tx)
        if left[0] and not isinstance(tx, varve.WriteTransaction):
            left[0] -= 1
            db.state.add("n", 100)
        return result

    return both


def increment(tx: Any) -> int:
    """A read and a put."""
    value: int = tx.state.get_opt("n", 0) + 1
    tx.state.put("n", value)
    return value


def test_a_conflict_is_settled_inside_the_commit(db: varve.Varve) -> None:
    """The function runs again at once, without a pause, in its own context; its second result is the one that counts."""
    seen: list[tuple[str, int]] = []

    def fn(tx: Any) -> int:
        value = increment(tx)
        seen.append((NAME.get(), value))
        return value

    NAME.set("me")
    slept: list[float] = []
    assert db.optimistic(overtaken(db, fn), sleep=slept.append) == 101
    assert seen == [("me", 1), ("me", 101)]
    assert slept == []
    assert db.state.get("n") == 101


def test_without_retries_the_conflict_comes_out(db: varve.Varve) -> None:
    """With how often it was tried."""
    with pytest.raises(varve.TransactionConflict) as conflict:
        db.optimistic(overtaken(db, increment), retries=0)
    assert conflict.value.attempts == 1
    assert db.state.get("n") == 100


def test_what_cannot_be_settled_there_begins_anew(
    db: varve.Varve, moved: varve.Stream[Moved], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Streams cannot be read where others of the group have appended: it pauses, a bounded and growing time, and runs again; in
    the end it gives up, and says how often it tried."""
    company = property(lambda _: True)
    monkeypatch.setattr("varve.engine.commit.Session.has_company", company)

    def fn(tx: Any) -> None:
        try:
            tx.length(moved, 1) if isinstance(tx, varve.WriteTransaction) else None
            list(tx.reader(moved).iter_stream(1))
        except varve.TransactionConflict:
            return  # swallowing it changes nothing
        increment(tx)

    slept: list[float] = []
    with pytest.raises(varve.TransactionConflict) as conflict:
        db.optimistic(overtaken(db, fn, 99), retries=9, rng=random.Random(1), sleep=slept.append)
    assert conflict.value.attempts == 10
    assert any("10 times" in note for note in conflict.value.__notes__)
    assert len(slept) == 4
    assert all(0 <= pause <= limits.OPTIMISTIC_PAUSE_S_MAX for pause in slept)
    slept.clear()
    db.optimistic(overtaken(db, fn, 1), sleep=slept.append)
    assert len(slept) == 1


def test_global_reads_are_refused_in_company_too(
    db: varve.Varve, moved: varve.Stream[Moved], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And work alone."""
    moved.append(1, Moved(1))

    def fn(tx: Any) -> int:
        increment(tx)
        return sum(recorded.event.amount for recorded in tx.global_reader().iter_from())

    slept: list[float] = []
    assert db.optimistic(overtaken(db, fn), sleep=slept.append) == 1
    assert slept == []
    monkeypatch.setattr("varve.engine.commit.Session.has_company", property(lambda _: True))
    assert db.optimistic(overtaken(db, fn), sleep=slept.append) == 1
    assert len(slept) == 1


def test_nothing_to_write_commits_nothing(db: varve.Varve) -> None:
    """Reading alone sees one instant, which is enough."""
    db.state.put("n", 5)
    before = db.stats().writes.commits
    assert db.optimistic(lambda tx: tx.state.get("n")) == 5
    assert db.optimistic(lambda tx: (tx.state.put("n", 6), tx.rollback())) == (None, None)
    assert db.stats().writes.commits == before
    assert db.state.get("n") == 5


def test_a_second_run_may_give_up(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """By rolling back, by doing nothing, or by raising: nothing is written then."""

    def rolls_back(tx: Any) -> str:
        increment(tx)
        tx.append(moved, 1, Moved(1))
        if tx.state.get("n") > 100:
            tx.rollback()
            return "gave up"
        return "done"

    def raises(tx: Any) -> None:
        if increment(tx) > 101:
            raise KeyError("second")

    def does_nothing(tx: Any) -> str:
        if tx.state.get("n") >= 300:
            return "nothing"
        return str(increment(tx))

    assert db.optimistic(overtaken(db, rolls_back)) == "gave up"
    assert db.state.get("n") == 100
    with pytest.raises(KeyError, match="second"):
        db.optimistic(overtaken(db, raises))
    assert db.state.get("n") == 200
    assert db.optimistic(overtaken(db, does_nothing)) == "nothing"
    assert db.state.get("n") == 300
    assert db.next_global_sequence == 0


def test_failed_checks_of_a_second_run_come_out(db: varve.Varve) -> None:
    """They are answers, not conflicts."""

    def fn(tx: Any) -> None:
        increment(tx)
        tx.require_max("n", 50)

    with pytest.raises(varve.CheckFailed) as failed:
        db.optimistic(overtaken(db, fn))
    assert failed.value.value == 100
    assert db.state.get("n") == 100


def test_a_function_cannot_write_through_the_handle_when_it_runs_again(
    db: varve.Varve, moved: varve.Stream[Moved]
) -> None:
    """It is told, on whichever thread."""

    def fn(tx: Any) -> None:
        increment(tx)
        if isinstance(tx, varve.WriteTransaction):
            moved.append(1, Moved(1))

    def work(_: int) -> None:
        with pytest.raises(varve.HandleUnusable):
            db.optimistic(overtaken(db, fn))

    at_once(4, work)
    assert db.next_global_sequence == 0


def test_company_is_not_disturbed(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """Others of the same group commit, before and behind one that conflicts, runs again, or raises there."""

    def raises(tx: Any) -> None:
        if increment(tx) > 101:
            raise KeyError("second")

    async def together() -> list[Any]:
        return await asyncio.gather(
            moved.append_async(1, Moved(1)),
            db.optimistic_async(overtaken(db, increment)),
            db.optimistic_async(overtaken(db, raises)),
            moved.append_async(1, Moved(2)),
            return_exceptions=True,
        )

    outcomes = asyncio.run(together())
    assert [type(outcome) for outcome in outcomes[::3]] == [varve.Position, varve.Position]
    assert isinstance(outcomes[1], int)
    assert isinstance(outcomes[2], KeyError)
    assert moved.reader().length(1) == 2
    assert db.state.get("n") > 200


def test_async(db: varve.Varve) -> None:
    """Tasks of one loop, none lost; pauses are awaited."""

    async def work() -> None:
        await asyncio.gather(*(db.optimistic_async(increment) for _ in range(50)))

    asyncio.run(work())
    assert db.state.get("n") == 50

    async def overtaken_ones(monkey: pytest.MonkeyPatch) -> list[float]:
        slept: list[float] = []

        async def sleep(pause_s: float) -> None:
            slept.append(pause_s)

        monkey.setattr("varve.engine.commit.Session.has_company", property(lambda _: True))

        def fn(tx: Any) -> int:
            tx.global_reader()
            return increment(tx)

        assert await db.optimistic_async(lambda tx: tx.state.get("n")) == 50
        assert await db.optimistic_async(overtaken(db, fn)) == 151
        await db.optimistic_async(overtaken(db, fn), sleep=sleep)
        return slept

    with pytest.MonkeyPatch.context() as monkey:
        assert len(asyncio.run(overtaken_ones(monkey))) == 1


def test_idempotency(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """The same decision under the same key happens once."""

    def fn(tx: varve.Transaction) -> None:
        tx.state.put("n", tx.state.get_opt("n", 0) + 1)
        tx.append(moved, 1, Moved(1))

    for _ in range(3):
        db.optimistic(fn, idempotency_key="k", metadata={"user": "me"})
    assert db.state.get("n") == 1
    recorded = moved.reader().get_recorded(1, 0)
    assert recorded is not None
    assert recorded.metadata == {"user": "me"}


async def _coroutine(_: object) -> None:
    """Never run."""


@pytest.mark.parametrize("fn", [5, _coroutine, lambda tx: (yield tx)])
def test_what_is_no_function_is_refused(db: varve.Varve, fn: Any) -> None:
    """Generators and coroutines too."""
    with pytest.raises(varve.InvalidInput, match=r"fn|function"):
        db.optimistic(fn)


@pytest.mark.parametrize("retries", [-1, True, 1.5, "3"])
def test_retries_are_a_number(db: varve.Varve, retries: Any) -> None:
    """From 0 on."""
    with pytest.raises(varve.InvalidInput, match="retries"):
        db.optimistic(increment, retries=retries)


def test_what_is_returned_is_what_was_written(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the group fails in which a second run saw another's change, and the first decision is committed alone after all."""
    monkeypatch.setattr(limits, "GROUP_COMMITS_MAX", 2)
    commit, groups = Session.commit, []

    def fail_twice(session: Session, requests: int = 1) -> None:
        if len(groups) < 2:
            groups.append(requests)
            raise varve.DiskFull("no room", path="x")
        commit(session, requests)

    with varve.open(varve_path, durability="relaxed", linger_s=limits.LINGER_S_MAX) as db:
        moved = db.stream("moved", Moved)

        async def prepare() -> None:
            one = db.transaction()
            one.state.put("n", 100)
            two = db.transaction()
            two.state.put("other", 1)
            await asyncio.gather(one.commit_async(), two.commit_async())

        asyncio.run(prepare())

        def decide(tx: varve.Transaction) -> tuple[str, varve.Transaction]:
            if tx.state.get("n") < 100:
                return "refused", tx
            tx.state.add("n", -100)
            tx.append(moved, 1, Moved(-100))
            return "done", tx

        async def together() -> list[Any]:
            rival = db.transaction()
            rival.state.put("n", 0)
            return await asyncio.gather(rival.commit_async(), db.optimistic_async(decide), return_exceptions=True)

        monkeypatch.setattr(Session, "commit", fail_twice)
        failed, (answer, tx) = asyncio.run(together())
        assert isinstance(failed, varve.DiskFull)
        assert groups == [2, 1]
        assert answer == "done"
        assert len(tx.positions) == 1
        assert (db.state.get("n"), moved.reader().length(1)) == (0, 1)


def test_what_a_function_makes_of_a_refused_read_is_no_answer(
    db: varve.Varve, moved: varve.Stream[Moved], monkeypatch: pytest.MonkeyPatch
) -> None:
    """In company streams cannot be read: it begins anew, whatever error that was turned into."""
    monkeypatch.setattr("varve.engine.commit.Session.has_company", property(lambda _: True))
    slept: list[float] = []

    def fn(tx: varve.Transaction) -> int:
        try:
            tx.global_reader()
        except varve.VarveError as exc:
            raise KeyError("cannot decide") from exc
        return increment(tx)

    assert db.optimistic(overtaken(db, fn), sleep=slept.append) > 100
    assert len(slept) == 1


@pytest.mark.parametrize("again", [False, True])
def test_a_function_does_not_commit(db: varve.Varve, again: bool) -> None:
    """Neither the first time nor later: what it commits itself would not be tried again."""

    def fn(tx: varve.Transaction) -> None:
        increment(tx)
        with tx:
            pass

    with pytest.raises(varve.TransactionClosed, match=r"db\.optimistic\(fn\) commits"):
        db.optimistic(overtaken(db, fn) if again else fn)
    assert db.state.get_opt("n", 0) in (0, 100)
