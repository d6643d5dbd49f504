"""Processors: what handlers are given, what is committed, and running them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from processor_models import Billed, Biller, Placed, Shipped, billed, fill, until

import varve
from varve.testing import ManualClock


def test_effects_and_position_are_one_commit(db: varve.Varve) -> None:
    """What handlers append stands in the log once, in order, and the position is behind it."""
    fill(db, 300)
    biller = Biller(db)
    processor = db.processor("billing", biller, streams=["orders"])
    assert processor.lag == 300
    assert processor.catch_up_blocking() == 300
    assert biller.seen == billed(db) == list(range(300))
    assert processor.position >= 300
    assert processor.catch_up_blocking() == 0
    fill(db, 10)
    assert db.processor("billing", biller, streams=["orders"]).catch_up_blocking() == 10
    assert billed(db) == list(range(310))


def test_async_handlers(db: varve.Varve) -> None:
    """Are awaited, one after the other."""
    fill(db, 20)
    bills = db.stream("bills", Billed)
    running = 0

    async def bill(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        nonlocal running
        running += 1
        assert running == 1
        await asyncio.sleep(0)
        tx.append(bills, recorded.stream_id, Billed(recorded.event.number))
        running -= 1

    assert db.processor("billing", bill, streams=["orders"]).catch_up_blocking() == 20
    assert billed(db) == list(range(20))


def test_handlers_by_event_class(db: varve.Varve, orders: varve.Stream[Placed | Shipped]) -> None:
    """Each class has its own; events of others are passed over, and hold nothing up."""
    seen: list[object] = []
    bills = db.stream("bills", Billed)
    for n in range(6):
        orders.append(1, Placed(n))
        orders.append(1, Shipped(n))
        bills.append(1, Billed(n))

    async def shipped(recorded: varve.Recorded[Shipped], _tx: varve.Transaction) -> None:
        seen.append(recorded.event)

    processor = db.processor(
        "both", {Placed: lambda recorded, _tx: seen.append(recorded.event), Shipped: shipped}, batch=4
    )
    assert processor.catch_up_blocking() == 12
    assert seen == [kind(n) for n in range(6) for kind in (Placed, Shipped)]
    only = db.processor("only", {Billed: lambda recorded, _tx: seen.append(recorded.event)}, streams=["bills"])
    assert only.catch_up_blocking() == 6


def test_a_class_that_no_stream_has_bound(varve_path: Path) -> None:
    """The mapping binds it: the handler is given its instances, in a process that never made the stream."""
    with varve.open(varve_path) as db:
        fill(db, 3)
    with varve.open(varve_path) as db:
        seen: list[object] = []
        processor = db.processor("billing", {Placed: lambda recorded, _tx: seen.append(recorded.event)})
        assert processor.catch_up_blocking() == 3
        assert all(isinstance(event, Placed) for event in seen)


def test_a_processor_that_emits_what_it_handles(db: varve.Varve) -> None:
    """``catch_up`` ends at what was there when it began; the rest is for the next."""
    stream = db.stream("chain", Placed)
    stream.append(1, Placed(0))

    def handle(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        if recorded.event.number < 5:
            tx.append(stream, 1, Placed(recorded.event.number + 1))

    processor = db.processor("chain", handle)
    assert processor.catch_up_blocking() == 1
    processor.run_blocking(timeout_s=0)
    assert stream.reader().length(1) == 6


# -- batches -----------------------------------------------------------------------------------------


def test_batched_handlers(db: varve.Varve) -> None:
    """Lists of consecutive events, no longer than a batch."""
    fill(db, 25)
    bills = db.stream("bills", Billed)
    sizes: list[int] = []

    async def bill(events: list[varve.Recorded[Any]], tx: varve.Transaction) -> None:
        sizes.append(len(events))
        tx.append_many(bills, [(one.stream_id, Billed(one.event.number)) for one in events])

    assert db.processor("billing", varve.Batched(bill), streams=["orders"], batch=10).catch_up_blocking() == 25
    assert sizes == [10, 10, 5]
    assert billed(db) == list(range(25))


def test_batched_and_single_handlers_in_turn(db: varve.Varve, orders: varve.Stream[Placed | Shipped]) -> None:
    """The order of the log is kept: a list ends where another handler's event stands."""
    for n, kind in enumerate([Placed, Placed, Shipped, Placed, Shipped, Shipped]):
        orders.append(1, kind(n))
    calls: list[object] = []
    handlers = {
        Placed: varve.Batched(lambda events, _tx: calls.append([one.event.number for one in events])),
        Shipped: lambda recorded, _tx: calls.append(recorded.event.number),
    }
    db.processor("both", handlers).catch_up_blocking()
    assert calls == [[0, 1], 2, [3], 4, 5]


def test_a_batched_handler_that_fails_is_called_with_each_event_alone(db: varve.Varve) -> None:
    """So the strategy is asked about the one that it fails for; nothing of the failed list is kept."""
    fill(db, 12)
    bills = db.stream("bills", Billed)
    calls: list[list[int]] = []

    def bill(events: list[varve.Recorded[Any]], tx: varve.Transaction) -> None:
        calls.append([one.event.number for one in events])
        for one in events:
            tx.append(bills, one.stream_id, Billed(one.event.number))
            if one.event.number == 6:
                raise ValueError("six")

    processor = db.processor("billing", varve.Batched(bill), strategy=varve.Skip(), streams=["orders"], batch=8)
    assert processor.catch_up_blocking() == 11
    assert billed(db) == [n for n in range(12) if n != 6]
    assert calls == [list(range(8)), *([n] for n in range(8)), [8, 9, 10, 11]]
    assert processor.status.skipped == 1


# -- transactions ------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["commit", "rollback", "__enter__"])
def test_a_handler_does_not_end_its_transaction(db: varve.Varve, call: str) -> None:
    """It is told so, and nothing of the event is kept; that of others is."""
    fill(db, 3)
    bills = db.stream("bills", Billed)

    def handle(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        tx.append(bills, 1, Billed(recorded.event.number))
        if recorded.event.number == 1:
            getattr(tx, call)()

    processor = db.processor("billing", handle, streams=["orders"])
    with pytest.raises(varve.ProcessorFailed) as told:
        processor.catch_up_blocking()
    assert isinstance(told.value.__cause__, varve.TransactionClosed)
    assert billed(db) == [0]


def test_asynchronous_ends_are_refused_too(db: varve.Varve) -> None:
    """``commit_async`` and ``async with tx``."""
    fill(db, 2)
    refused = []

    async def handle(_recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        with pytest.raises(varve.TransactionClosed):
            await tx.commit_async()
        with pytest.raises(varve.TransactionClosed):
            await tx.__aenter__()
        refused.append(1)

    db.processor("billing", handle).catch_up_blocking()
    assert len(refused) == 2


def test_effects_that_are_refused_at_the_commit_are_the_failure_of_their_event(db: varve.Varve) -> None:
    """The batch is handled again, by halves, so that the strategy is asked about the event whose append cannot be."""
    fill(db, 10)
    bills = db.stream("bills", Billed)
    seen: list[int] = []

    def handle(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        number = recorded.event.number
        seen.append(number)
        tx.append(bills, number, Billed(number), expected=varve.NO_STREAM if number != 4 else 1)

    processor = db.processor("billing", handle, strategy=varve.DeadLetter(), streams=["orders"])
    assert processor.catch_up_blocking() == 9
    assert billed(db) == [n for n in range(10) if n != 4]
    [letter] = processor.dead_letters.list()
    assert letter.global_sequence == 4
    assert letter.error_type == "varve.errors.WrongExpectedVersion"
    tries = [range(10), range(5), range(2), range(2, 6), range(2, 4), range(4, 8), range(4, 6), range(4, 5)]
    assert seen == [number for numbers in [*tries, range(5, 7), range(7, 10)] for number in numbers]
    assert processor.status.conflicts == 6


def test_one_refused_event_among_many_does_not_cost_a_commit_for_each(db: varve.Varve) -> None:
    """It is found by halves, and batches grow again behind it."""
    fill(db, 2_000)
    bills = db.stream("bills", Billed)
    calls = 0

    def handle(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        nonlocal calls
        calls += 1
        number = recorded.event.number
        tx.append(bills, number, Billed(number), expected=varve.NO_STREAM if number != 700 else 1)

    processor = db.processor("billing", handle, strategy=varve.Skip(), streams=["orders"], batch=1_000)
    assert processor.catch_up_blocking() == 1_999
    assert billed(db) == [n for n in range(2_000) if n != 700]
    assert processor.status.conflicts <= 20
    assert calls <= 8_000
    reader = db.global_reader()
    commits = {recorded.commit_sequence for recorded in reader.iter_from(0, streams=["bills"])}
    assert len(commits) <= 40


class Refuses:
    """Lets some commits of handlers fail, as if somebody else had been faster."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
        from varve.derived.processors.handling import HandlerTransaction

        self.left = times
        finish = HandlerTransaction.finish

        async def refusing(tx: HandlerTransaction) -> None:
            if self.left:
                self.left -= 1
                raise varve.errors.TransactionConflict("somebody else was faster", what="key", key="k")
            await finish(tx)

        monkeypatch.setattr(HandlerTransaction, "finish", refusing)


async def no_sleep(_seconds: float) -> None:
    """A moment."""


def test_conflicts_are_handled_again(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """By halves, until the commit is taken; nothing is done twice."""
    fill(db, 10)
    Refuses(monkeypatch, 7)
    biller = Biller(db)
    processor = db.processor("billing", biller, streams=["orders"], sleep=no_sleep)
    assert processor.catch_up_blocking() == 10
    tries = [range(10), range(5), range(2), *[range(1)] * 5, range(1, 3), range(3, 7), range(7, 10)]
    assert biller.seen == [number for numbers in tries for number in numbers]
    assert billed(db) == list(range(10))
    assert processor.status.conflicts == 7


def test_endless_conflicts_are_a_failure(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the first event, after it was tried alone for long enough."""
    fill(db, 3)
    Refuses(monkeypatch, 10**6)
    biller = Biller(db)
    with pytest.raises(varve.ProcessorFailed) as told:
        db.processor("billing", biller, streams=["orders"], sleep=no_sleep).catch_up_blocking()
    assert told.value.global_sequence == 0
    assert isinstance(told.value.__cause__, varve.errors.TransactionConflict)
    assert biller.seen == [0, 1, 2] + [0] * (varve.limits.PROCESSOR_CONFLICTS_MAX + 1)


def test_state_changes_are_part_of_the_commit(db: varve.Varve) -> None:
    """A handler sees what earlier events of its batch have changed; what a failed one changed is forgotten."""
    fill(db, 50)

    def count(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        key = ("count", recorded.stream_id)
        tx.state.add(key, 1, missing=0)
        tx.state.put(("last", recorded.stream_id), recorded.event.number)
        if recorded.event.number == 7:
            raise ValueError("seven")

    processor = db.processor("counting", count, strategy=varve.DeadLetter(), streams=["orders"])
    assert processor.catch_up_blocking() == 49
    assert [db.state.get(("count", n)) for n in range(5)] == [10, 10, 9, 10, 10]
    assert db.state.get(("last", 2)) == 47


def test_checks_of_a_transaction_that_fail_at_the_commit(db: varve.Varve) -> None:
    """Are the failure of the event that asked for them."""
    fill(db, 6)
    db.state.put("stock", 3)

    def take(_recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        tx.require_min("stock", 1)
        tx.state.add("stock", -1)

    processor = db.processor("taking", take, strategy=varve.DeadLetter(), streams=["orders"])
    assert processor.catch_up_blocking() == 3
    assert db.state.get("stock") == 0
    assert [info.global_sequence for info in processor.dead_letters] == [3, 4, 5]
    assert {info.error_type for info in processor.dead_letters} == {"varve.errors.CheckFailed"}


@pytest.mark.parametrize("how", ["reader", "length", "global_reader", "ensure", "require_version"])
def test_whoever_looks_at_what_is_stored_sees_what_came_before(db: varve.Varve, how: str) -> None:
    """A handler that reads events, or makes demands, has a commit to itself for each event; with others it would not see what
    those before it in the batch have done."""
    fill(db, 9)
    bills = db.stream("bills", Billed)
    seen: list[int] = []
    calls: list[int] = []

    def bill(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        number = recorded.event.number
        calls.append(number)
        if number >= 3:
            if how == "reader":
                seen.append(sum(1 for _ in tx.reader(bills).iter_stream(1)))
            elif how == "length":
                seen.append(tx.length(bills, 1))
            elif how == "global_reader":
                seen.append(sum(1 for _ in tx.global_reader().iter_from(0, streams=["bills"])))
            elif how == "ensure":
                tx.ensure("n", lambda value: value == number + 1)
                seen.append(number)
            else:
                tx.require_version(bills, 1, number)
                seen.append(number)
        tx.state.add("n", 1, missing=0)
        tx.append(bills, 1, Billed(number))

    processor = db.processor("billing", bill, streams=["orders"])
    assert processor.catch_up_blocking() == 9
    assert billed(db) == list(range(9))
    assert seen[-6:] == [3, 4, 5, 6, 7, 8]
    assert calls == [0, 1, 2, 3, 3, 4, 5, 6, 7, 8]
    assert processor.status.conflicts == 0


def test_a_batch_that_was_overtaken_is_handled_again(db: varve.Varve) -> None:
    """What a handler read was changed by somebody else before the commit: it decides anew on what is there, nothing is lost."""
    fill(db, 4)
    db.state.put("total", 0)
    overtakes = [True]

    def total(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        seen = tx.state.get("total")
        if recorded.event.number == 3 and overtakes.pop():
            db.state.put("total", 100)
            overtakes.append(False)
        tx.state.put("total", seen + recorded.event.number)

    processor = db.processor("total", total, streams=["orders"])
    processor.catch_up_blocking()
    assert db.state.get("total") == 106
    assert processor.status.conflicts == 1


# -- running -----------------------------------------------------------------------------------------


def test_live_beside_a_block(db: varve.Varve, orders: varve.Stream[Placed | Shipped]) -> None:
    """What comes while it waits is handled; at the end of the block it stops, and lets its consumer go."""
    biller = Biller(db)

    async def main() -> None:
        processor = db.processor("billing", biller, streams=["orders"])
        async with processor:
            for n in range(5):
                await orders.append_async(1, Placed(n))
                await until(lambda n=n: len(billed(db)) == n + 1)  # type: ignore[misc]
            assert processor.state == "running"
            with pytest.raises(varve.ConsumerBusy):
                db.consumer("billing")
        assert processor.state == "stopped"
        db.consumer("billing").close()

    asyncio.run(main())


def test_in_a_thread_beside_a_block(db: varve.Varve, orders: varve.Stream[Placed | Shipped]) -> None:
    """The same for threads."""
    done = threading.Event()

    def handle(recorded: varve.Recorded[Any], _tx: varve.Transaction) -> None:
        if recorded.event.number == 4:
            done.set()

    with db.processor("billing", handle, streams=["orders"]) as processor:
        for n in range(5):
            orders.append(1, Placed(n))
        assert done.wait(30)
    assert processor.position == 5
    assert processor.state == "stopped"


@pytest.mark.parametrize("kind", ["task", "thread"])
def test_a_failure_beside_a_block_is_raised_at_its_end(db: varve.Varve, kind: str) -> None:
    """Unless the block itself fails, which is worth more."""
    fill(db, 3)

    async def in_task(*, fails: bool) -> None:
        async with db.processor("billing", Biller(db, 1), streams=["orders"]) as processor:
            await until(lambda: processor.state == "failed")
            if fails:
                raise LookupError("the block's own")

    def in_thread(*, fails: bool) -> None:
        with db.processor("billing", Biller(db, 1), streams=["orders"]) as processor:
            while processor.state != "failed":
                pass
            if fails:
                raise LookupError("the block's own")

    for error, fails in ((varve.ProcessorFailed, False), (LookupError, True)):
        with pytest.raises(error):
            if kind == "task":
                asyncio.run(in_task(fails=fails))
            else:
                in_thread(fails=fails)


def test_pause_and_resume(db: varve.Varve, orders: varve.Stream[Placed | Shipped]) -> None:
    """Paused, it handles nothing and keeps its consumer; what was handled of the batch is committed."""

    async def main() -> None:
        biller = Biller(db)
        processor = db.processor("billing", biller, streams=["orders"])

        def handle(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
            biller(recorded, tx)
            if recorded.event.number == 2:
                processor.pause()

        processor = db.processor("billing", handle, streams=["orders"])
        fill(db, 6)
        async with processor:
            await until(lambda: processor.state == "paused" and len(billed(db)) == 3)
            await orders.append_async(1, Placed(6))
            for _ in range(50):
                await asyncio.sleep(0)
            assert billed(db) == [0, 1, 2]
            assert processor.position == 3
            with pytest.raises(varve.ConsumerBusy):
                db.consumer("billing")
            processor.resume()
            await until(lambda: len(billed(db)) == 7)

    asyncio.run(main())


def test_stop_from_another_thread(db: varve.Varve) -> None:
    """It ends after the event that it handles, and what was handled is stored."""
    fill(db, 100)
    inside, go_on = threading.Event(), threading.Event()

    def handle(recorded: varve.Recorded[Any], _tx: varve.Transaction) -> None:
        if recorded.event.number == 10:
            inside.set()
            go_on.wait(30)

    processor = db.processor("billing", handle, streams=["orders"])
    thread = threading.Thread(target=processor.run_blocking)
    thread.start()
    assert inside.wait(30)
    processor.stop()
    go_on.set()
    thread.join(30)
    assert processor.state == "stopped"
    assert processor.position == 11
    assert processor.catch_up_blocking() == 89


def test_cancelling(db: varve.Varve) -> None:
    """Nothing of the event that was being handled is kept, nor of those before it that were not committed."""
    fill(db, 10)
    bills = db.stream("bills", Billed)

    async def main() -> None:
        inside = asyncio.Event()

        async def handle(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
            tx.append(bills, 1, Billed(recorded.event.number))
            if recorded.event.number == 5:
                inside.set()
                await asyncio.Event().wait()

        processor = db.processor("billing", handle, streams=["orders"])
        task = asyncio.create_task(processor.run())
        await inside.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert processor.state == "stopped"
        assert processor.position == len(billed(db)) == 0

    asyncio.run(main())
    assert db.processor("billing", Biller(db), streams=["orders"]).catch_up_blocking() == 10


def test_several_at_once(db: varve.Varve) -> None:
    """In one loop; the failure of one stops the others, and is raised."""
    fill(db, 50)

    async def main() -> None:
        one = db.processor("one", Biller(db), streams=["orders"])
        two = db.processor("two", lambda _recorded, _tx: None)
        running = asyncio.create_task(varve.run_processors(one, two))
        await until(lambda: one.position >= 50 and two.position >= 100)
        one.stop()
        two.stop()
        await running
        bad = db.processor("bad", Biller(db, 3), streams=["orders"])
        with pytest.raises(varve.ProcessorFailed, match="'bad'"):
            await varve.run_processors(one, bad, two)
        assert (one.state, bad.state, two.state) == ("stopped", "failed", "stopped")
        worse = db.processor("worse", Biller(db, 0), streams=["orders"])
        with pytest.raises(ExceptionGroup):
            await varve.run_processors(db.processor("bad2", Biller(db, 0), streams=["orders"]), worse)
        running = asyncio.create_task(varve.run_processors(one, two))
        await until(lambda: one.state == two.state == "running")
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert one.state == two.state == "stopped"
        await varve.run_processors()

    asyncio.run(main())


def test_run_ends_when_nothing_comes(db: varve.Varve, varve_clock: ManualClock) -> None:
    """After as long as was said, counted anew from each event."""
    fill(db, 3)

    async def main() -> None:
        processor = db.processor("billing", Biller(db), streams=["orders"], sleep=varve_clock.sleep)
        task = asyncio.create_task(processor.run(timeout_s=5))
        await until(lambda: varve_clock.sleeping == (5,) and processor.position >= 3)
        varve_clock.advance(4)
        fill(db, 1)
        await until(lambda: len(billed(db)) == 4)
        await until(lambda: varve_clock.sleeping == (5,))
        varve_clock.advance(5)
        await task

    asyncio.run(main())


def test_it_runs_once_at_a_time(db: varve.Varve) -> None:
    """The same object, and another of the same name."""

    async def main() -> None:
        processor = db.processor("billing", lambda _recorded, _tx: None)
        async with processor:
            with pytest.raises(varve.errors.HandleUnusable, match="runs already"):
                await processor.run()
            await until(db.consumers)
            with pytest.raises(varve.ConsumerBusy):
                await db.processor("billing", lambda _recorded, _tx: None).run()
            with pytest.raises(varve.errors.InvalidInput, match="await processor"):
                processor.catch_up_blocking()

    asyncio.run(main())


def test_taken_over_by_force(db: varve.Varve) -> None:
    """The old one is refused at its next commit, and nothing of that batch is written."""
    fill(db, 10)
    biller = Biller(db)

    def handle(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        biller(recorded, tx)
        if recorded.event.number == 4:
            db.consumer("billing", force=True).close()

    processor = db.processor("billing", handle, streams=["orders"])
    with pytest.raises(varve.ConsumerFenced):
        processor.catch_up_blocking()
    assert billed(db) == []
    assert processor.state == "failed"
    assert isinstance(processor.status.error, varve.ConsumerFenced)


def test_a_store_that_is_closed_is_no_poisoned_event(varve_path: Path) -> None:
    """The processor ends with the store, whatever its strategy says about handlers."""
    db = varve.open(varve_path)
    fill(db, 3)

    def handle(_recorded: varve.Recorded[Any], _tx: varve.Transaction) -> None:
        db.close()
        raise ValueError("perhaps because of that")

    with pytest.raises(varve.errors.StoreClosed):
        db.processor("billing", handle, strategy=varve.Skip()).catch_up_blocking()


def test_members_share_the_events(db: varve.Varve) -> None:
    """By stream, as consumers do."""
    fill(db, 60, ids=20)
    seen: list[list[int]] = [[], []]
    for member in range(2):
        processor = db.processor(
            "shared", lambda one, _tx, to=seen[member]: to.append(one.stream_id), member=member, members=2
        )
        processor.catch_up_blocking()
    assert sum(map(len, seen)) == 60
    assert not set(seen[0]) & set(seen[1])


def test_start(db: varve.Varve) -> None:
    """As a consumer's: it counts at the first use."""
    fill(db, 10)
    biller = Biller(db)
    assert db.processor("billing", biller, streams=["orders"], start=7).lag == 3
    assert db.processor("billing", biller, streams=["orders"], start=7).catch_up_blocking() == 3
    assert biller.seen == [7, 8, 9]


def test_status(db: varve.Varve) -> None:
    """All of it, before and after."""
    fill(db, 4)
    processor = db.processor("billing", Biller(db, 2), strategy=varve.Skip(), streams=["orders"])
    before = processor.status
    assert (before.name, before.state, before.position, before.lag, before.handled) == ("billing", "stopped", 0, 4, 0)
    assert "'billing'" in repr(processor)
    processor.catch_up_blocking()
    after = processor.status
    assert (after.handled, after.failed, after.skipped, after.position) == (3, 1, 1, 4)
    assert (after.breaker, after.error, after.waiting) == (None, None, None)


def generator(_recorded: varve.Recorded[Any], _tx: varve.Transaction) -> Iterator[int]:
    """Nothing of it would run."""
    yield 1


async def asynchronous_generator(_recorded: varve.Recorded[Any], _tx: varve.Transaction) -> AsyncIterator[int]:
    """Nothing of it would run."""
    yield 1


def nothing(_recorded: object, _tx: object) -> None:
    """A handler."""


@pytest.mark.parametrize(
    ("handlers", "options", "error"),
    [
        (None, {}, varve.errors.InvalidInput),
        (Placed, {}, varve.errors.InvalidInput),
        ({}, {}, varve.errors.InvalidInput),
        ({Placed: None}, {}, varve.errors.InvalidInput),
        ({int: nothing}, {}, varve.errors.SchemaError),
        ({"Placed": nothing}, {}, varve.errors.SchemaError),
        (generator, {}, varve.errors.InvalidInput),
        ({Placed: asynchronous_generator}, {}, varve.errors.InvalidInput),
        ({Placed: nothing}, {"types": [Placed]}, varve.errors.InvalidInput),
        (nothing, {"strategy": 5}, varve.errors.InvalidInput),
        (nothing, {"strategy": varve.Skip}, varve.errors.InvalidInput),
        (nothing, {"batch": 0}, varve.errors.InvalidInput),
        (nothing, {"start": -1}, varve.errors.InvalidInput),
        (nothing, {"streams": "orders"}, varve.errors.InvalidInput),
        (nothing, {"member": 3}, varve.errors.InvalidInput),
        (nothing, {"breaker": 5}, varve.errors.InvalidInput),
        (nothing, {"auto_replay": 5}, varve.errors.InvalidInput),
        (nothing, {"clock": 5}, varve.errors.InvalidInput),
        (nothing, {"sleep": 5}, varve.errors.InvalidInput),
    ],
)
def test_bad_definitions(db: varve.Varve, handlers: Any, options: dict[str, Any], error: type[Exception]) -> None:
    """Said when a processor is made, not when the first event comes."""
    with pytest.raises(error):
        db.processor("billing", handlers, **options)
    with pytest.raises(varve.errors.InvalidName):
        db.processor("", nothing)
    with pytest.raises(varve.errors.InvalidInput, match="or a mapping from event classes"):
        db.processor("billing", [nothing])  # type: ignore[arg-type]


def test_a_handler_that_gives_a_generator(db: varve.Varve) -> None:
    """A lambda over one, say: nothing of it has run."""
    fill(db, 1)
    with pytest.raises(varve.ProcessorFailed, match="generator"):
        db.processor("billing", lambda recorded, tx: (n for n in generator(recorded, tx))).catch_up_blocking()
    with pytest.raises(varve.errors.InvalidInput):
        varve.Batched(generator)  # type: ignore[arg-type]
    with pytest.raises(varve.errors.InvalidInput):
        varve.Batched(5)  # type: ignore[arg-type]


def test_readonly(varve_path: Path) -> None:
    """A processor writes; letters can be looked at."""
    varve.open(varve_path).close()
    with varve.open(varve_path, readonly=True) as db:
        with pytest.raises(varve.errors.ReadonlyStore):
            db.processor("billing", nothing)
        assert list(db.dead_letters()) == []
        with pytest.raises(varve.errors.ReadonlyStore):
            db.dead_letters("billing").drop(1)


def test_what_a_handler_awaits_may_be_cancelled(db: varve.Varve) -> None:
    """That is a failure of its event, with a name; the processor itself is not cancelled by it, and does not end silently."""
    fill(db, 5)

    async def handle(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        tx.state.add("handled", 1)
        if recorded.event.number == 3:
            helper = asyncio.ensure_future(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(helper.cancel)
            await helper

    processor = db.processor("a", handle, strategy=varve.DeadLetter(), streams=["orders"])
    assert processor.catch_up_blocking() == 4
    [letter] = processor.dead_letters
    assert (letter.global_sequence, letter.error_type) == (3, "varve.errors.HandlerCancelled")
    assert "helper" in letter.traceback
    assert db.state.get("handled") == 4
    with pytest.raises(varve.ProcessorFailed) as told:
        db.processor("b", handle, streams=["orders"]).catch_up_blocking()
    assert isinstance(told.value.__cause__, varve.errors.HandlerCancelled)
    assert isinstance(told.value.__cause__.__cause__, asyncio.CancelledError)


class Unshown(Exception):
    """An error that cannot even be shown."""

    def __repr__(self) -> str:
        raise RuntimeError("no")

    __str__ = __repr__


def test_an_error_that_cannot_be_shown(db: varve.Varve) -> None:
    """Stops the processor as any other."""
    fill(db, 1)

    def handle(_recorded: varve.Recorded[Any], _tx: varve.Transaction) -> None:
        raise Unshown

    def strategy(*_: object) -> object:
        raise Unshown

    for how in (varve.FailFast(), strategy):
        with pytest.raises(varve.ProcessorFailed, match="cannot be shown") as told:
            db.processor("a", handle, strategy=how, streams=["orders"]).catch_up_blocking()
        assert isinstance(told.value.__cause__, Unshown)


def test_a_task_that_is_cancelled_before_it_begins_leaves_it_free(db: varve.Varve) -> None:
    """Another run may follow."""
    fill(db, 3)
    processor = db.processor("a", Biller(db), streams=["orders"])

    async def work() -> None:
        async with processor:
            [task] = [task for task in asyncio.all_tasks() if task.get_name() == "processor a"]
            task.cancel()
        assert processor.state == "stopped"
        assert await processor.catch_up() == 3

    asyncio.run(work())


def test_a_thread_without_an_event_loop_leaves_it_free(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file descriptor was left for one, say."""
    fill(db, 3)
    processor = db.processor("a", Biller(db), streams=["orders"])

    def none_left() -> asyncio.AbstractEventLoop:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(asyncio, "new_event_loop", none_left)
        patch.setattr("asyncio.runners.events.new_event_loop", none_left)
        with pytest.raises(OSError, match="Too many open files"), processor:
            pass
    assert processor.state == "failed"
    assert processor.catch_up_blocking() == 3


def test_cancelled_while_a_block_ends(db: varve.Varve) -> None:
    """A handler that never ends does not outlive the block whose task is cancelled."""
    fill(db, 3)
    ended: list[str] = []

    async def hang(_recorded: varve.Recorded[Any], _tx: varve.Transaction) -> None:
        began.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("handler")

    processor = db.processor("a", hang, streams=["orders"])

    async def beside() -> None:
        async with processor:
            await began.wait()
            leaving.set()

    async def work() -> None:
        task = asyncio.create_task(beside())
        await leaving.wait()
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == ["handler"]
        assert processor.state == "stopped"

    began, leaving = asyncio.Event(), asyncio.Event()
    asyncio.run(work())


def test_quick_handlers_let_other_tasks_run(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the middle of a batch, too."""
    fill(db, 500)
    monkeypatch.setattr(varve.limits, "TAIL_TURN_S_MAX", 0.0)
    seen: list[int] = []
    others: list[int] = []

    async def other() -> None:
        while len(seen) < 500:
            others.append(len(seen))
            await asyncio.sleep(0)

    async def work() -> None:
        beside = asyncio.create_task(other())
        processor = db.processor("a", lambda recorded, _: seen.append(recorded.event.number), streams=["orders"])
        assert await processor.catch_up() == 500
        await beside

    asyncio.run(work())
    assert seen == list(range(500))
    assert len(set(others)) > 400


def test_a_list_that_fails_is_still_committed_together(db: varve.Varve) -> None:
    """Handled one by one up to the event that it fails for, not committed one by one."""
    fill(db, 200)
    bills = db.stream("bills", Billed)

    def bill(events: list[varve.Recorded[Any]], tx: varve.Transaction) -> None:
        for recorded in events:
            if recorded.event.number == 150:
                raise ValueError("not this one")
            tx.append(bills, 1, Billed(recorded.event.number))

    processor = db.processor("a", varve.Batched(bill), strategy=varve.Skip(), streams=["orders"])
    assert processor.catch_up_blocking() == 199
    assert billed(db) == [n for n in range(200) if n != 150]
    assert len({recorded.commit_sequence for recorded in bills.reader().iter_all()}) == 2


def test_many_reads_of_what_a_batch_has_added_to(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each addition is made once for all reads behind it, and not once for each."""
    from varve.state.changes import Add

    fill(db, 200)
    calls = 0
    add = Add.onto

    def counted(self: Add, before: Any, *, exists: bool = True) -> Any:
        nonlocal calls
        calls += 1
        return add(self, before, exists=exists)

    monkeypatch.setattr(Add, "onto", counted)

    def count(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        tx.state.add("count", 1)
        assert tx.state.get("count") == recorded.event.number + 1

    assert db.processor("a", count, streams=["orders"]).catch_up_blocking() == 200
    assert db.state.get("count") == 200
    assert calls <= 400


def test_an_upcast_that_fails_is_its_events_failure(varve_path: Path) -> None:
    """Handlers by class are found without making the event: that happens in the handler."""

    @varve.event(name="processors.SentOld")
    class SentOld:
        number: varve.u64

    @varve.event(name="processors.Sent")
    class Sent:
        number: varve.u64

    @varve.upcast(SentOld, Sent)
    def _(old: SentOld) -> Sent:
        if old.number == 1:
            raise ValueError("cannot be told")
        return Sent(old.number)

    with varve.open(varve_path) as db:
        db.stream("sent", SentOld).append_batch(1, [SentOld(n) for n in range(3)])
    with varve.open(varve_path) as db:
        db.stream("sent", Sent)
        seen: list[int] = []
        processor = db.processor(
            "a", {Sent: lambda recorded, _: seen.append(recorded.event.number)}, strategy=varve.DeadLetter()
        )
        assert processor.catch_up_blocking() == 2
        assert seen == [0, 2]
        assert [letter.global_sequence for letter in processor.dead_letters] == [1]


@pytest.mark.parametrize("how", ["events", "state"])
def test_much_is_committed_in_parts(db: varve.Varve, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What handlers bring is held in memory until it is committed: up to a limit."""
    fill(db, 100)
    monkeypatch.setattr(varve.limits, "PROCESSOR_BYTES_MAX", 10_000)
    notes = db.stream("notes", Note)

    def handle(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        if how == "events":
            tx.append(notes, 1, Note("x" * 990))
        else:
            tx.state.put(recorded.event.number, "x" * 990)

    before = db.stats().writes.commits
    assert db.processor("a", handle, streams=["orders"]).catch_up_blocking() == 100
    assert 10 <= db.stats().writes.commits - before <= 15


@varve.event(name="processors.Note")
class Note:
    text: str
