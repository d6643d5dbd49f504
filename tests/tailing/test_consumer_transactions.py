"""Positions that ride on transactions: what was consumed and what was written for it become durable together."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import varve

sys.path.insert(0, str(Path(__file__).parent))

from consumer_models import Billed, Placed, fill, open_db, take, there


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with open_db(varve_path) as store:
        yield store


def stored(db: varve.Varve) -> int:
    return db.consumers()[0].position


def test_a_position_is_committed_with_the_events(db: varve.Varve) -> None:
    """One commit for both; the consumer knows that nothing more has to be stored."""
    fill(db, 5)
    bills = db.stream("bills", Billed)
    with db.consumer("billing", streams=["orders"], commit="manual") as consumer:
        for number, recorded in enumerate(consumer.follow(0)):
            with db.transaction() as tx:
                tx.append(bills, 1, Billed(recorded.event.number))
                tx.store_position(consumer)
                assert stored(db) == number
            assert stored(db) == consumer.committed == consumer.position
    assert [r.event.order for r in bills.reader().iter_stream(1)] == [0, 1, 2, 3, 4]


def test_a_transaction_that_is_rolled_back_stores_no_position(db: varve.Varve) -> None:
    """By an error, by hand, by an expectation."""
    fill(db, 5)
    bills = db.stream("bills", Billed)
    consumer = db.consumer("billing", commit="manual")
    next(consumer.follow())
    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        tx.store_position(consumer)
        _ = 1 // 0
    with db.transaction() as tx:
        tx.store_position(consumer)
        tx.rollback()
    with pytest.raises(varve.WrongExpectedVersion), db.transaction() as tx:
        tx.store_position(consumer)
        tx.append(bills, 1, Billed(1), expected=7)
    assert (stored(db), consumer.committed) == (0, 0)
    with db.transaction() as tx:  # nothing but the position
        tx.store_position(consumer)
    assert (stored(db), consumer.committed, tx.positions) == (1, 1, [])


def test_the_position_is_that_of_the_call(db: varve.Varve) -> None:
    """What the consumer gives before the block ends is not in it."""
    fill(db, 5)
    consumer = db.consumer("billing", commit="manual")
    events = consumer.follow()
    next(events)
    with db.transaction() as tx:
        tx.store_position(consumer)
        next(events)
    assert (stored(db), consumer.committed, consumer.position) == (1, 1, 2)


def test_a_fenced_consumer_writes_nothing(db: varve.Varve) -> None:
    """Its events are the other's now: neither position nor appends, so that no effect happens twice."""
    fill(db, 5)
    bills = db.stream("bills", Billed)
    old = db.consumer("billing", commit="manual")
    next(old.follow())
    with db.consumer("billing", force=True):
        with pytest.raises(varve.ConsumerFenced), db.transaction() as tx:
            tx.append(bills, 1, Billed(1))
            tx.store_position(old)
        with pytest.raises(varve.ConsumerFenced), db.transaction() as tx:
            tx.store_position(old)
        with pytest.raises(varve.ConsumerFenced):
            there(old)
    assert db.next_global_sequence == 5
    with db.transaction() as tx:
        tx.append(bills, 1, Billed(1))
    assert bills.reader().length(1) == 1


def test_in_db_write(db: varve.Varve) -> None:
    """Under the write lock it is the same."""
    fill(db, 5)
    bills = db.stream("bills", Billed)
    consumer = db.consumer("billing", commit="manual")
    next(consumer.follow())

    def bill(tx: varve.WriteTransaction) -> None:
        tx.append(bills, 1, Billed(bills.reader().length(1)))
        tx.store_position(consumer)

    db.write(bill)
    db.write(lambda tx: tx.store_position(consumer))
    assert (stored(db), consumer.committed, db.next_global_sequence) == (1, 1, 6)
    consumer.seek(0)
    next(consumer.follow())
    db.write(bill, idempotency_key="once")
    assert stored(db) == 1
    consumer.seek(0)
    next(consumer.follow())

    def again(tx: varve.WriteTransaction) -> None:
        tx.append(bills, 1, Billed(1))
        tx.store_position(consumer)

    db.write(again, idempotency_key="once")
    assert (stored(db), db.next_global_sequence) == (1, 7)


def test_a_replayed_transaction_stores_the_position_all_the_same(db: varve.Varve) -> None:
    """Its events are in the log already: the consumer is done with what they were written for."""
    fill(db, 5)
    bills = db.stream("bills", Billed)
    consumer = db.consumer("billing", commit="manual")
    next(consumer.follow())

    async def write(*, sync: bool) -> bool:
        if sync:
            with db.transaction(idempotency_key="bill-0") as tx:
                tx.append(bills, 1, Billed(0))
                tx.store_position(consumer)
        else:
            async with db.transaction(idempotency_key="bill-0") as tx:
                tx.append(bills, 1, Billed(0))
                tx.store_position(consumer)
        return tx.replayed

    assert [asyncio.run(write(sync=True)), stored(db)] == [False, 1]
    for sync in (True, False):
        consumer.seek(0)
        next(consumer.follow())
        assert stored(db) == 0
        assert [asyncio.run(write(sync=sync)), stored(db)] == [True, 1]
    assert bills.reader().length(1) == 1


def test_async_transactions_take_positions_along(db: varve.Varve) -> None:
    """Of several consumers in one commit."""
    fill(db, 5)
    bills = db.stream("bills", Billed)

    async def run() -> None:
        async with db.consumer("a", commit="manual") as a, db.consumer("b", commit="manual", start=2) as b:
            await take(a, 1)
            await take(b, 1)
            async with db.transaction() as tx:
                tx.append(bills, 1, Billed(0))
                tx.store_position(a)
                tx.store_position(b)
            assert [info.position for info in db.consumers()] == [1, 3]
            assert (a.committed, b.committed) == (1, 3)

    asyncio.run(run())


def test_a_position_that_is_stored_by_a_transaction_costs_no_commit_of_its_own(db: varve.Varve) -> None:
    """Automatic commits find nothing left to do."""
    fill(db, 3)
    bills = db.stream("bills", Billed)
    with db.consumer("billing", streams=["orders"], interval_s=0) as consumer:
        for recorded in consumer.follow(0):
            with db.transaction() as tx:
                tx.append(bills, 1, Billed(recorded.event.number))
                tx.store_position(consumer)
            assert consumer.committed == consumer.position


def test_what_is_no_consumer_of_this_store_is_refused(db: varve.Varve, tmp_path: Path) -> None:
    """Nor one that was closed."""
    with open_db(tmp_path / "other") as other, other.consumer("billing") as foreign, db.transaction() as tx:
        for one in (foreign, "billing", None, db.stream("orders", Placed)):
            with pytest.raises(varve.InvalidInput):
                tx.store_position(one)  # type: ignore[arg-type]
        closed = db.consumer("billing")
        closed.close()
        with pytest.raises(varve.HandleUnusable):
            tx.store_position(closed)
    with pytest.raises(varve.TransactionClosed):
        tx.store_position(closed)


def test_dropping_a_transaction_with_a_position_warns(db: varve.Varve) -> None:
    """As with appends: nothing of it is stored."""
    consumer = db.consumer("billing")
    tx = db.transaction()
    tx.store_position(consumer)
    with pytest.warns(ResourceWarning, match="without commit"):
        del tx
