"""``db.transaction()``, ``db.write`` and ``expected=``."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from store_models import OrderPlaced, OrderShipped, everything, placed, refused, shipped

import varve


def test_a_transaction_is_one_commit(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """Appends over several streams share a commit; positions come per call, in call order."""
    payments = db.stream("payments", OrderShipped)
    orders.append(1, placed(0))
    with db.transaction() as tx:
        tx.append(orders, 1, placed(1))
        tx.append_batch(payments, "p", [shipped(2), shipped(3)])
        tx.append_batch(payments, "p", [])
        tx.append_many(orders, [(2, placed(4)), (1, placed(5))])
    first, second, third, fourth = tx.positions
    assert first == (1, 1)
    assert isinstance(first, varve.Position)
    assert list(second) == [(0, 2), (1, 3)]
    assert list(third) == []
    assert list(fourth) == [(0, 4), (2, 5)]
    assert not tx.replayed
    assert {r.commit_sequence for r in db.global_reader().iter_from(1)} == {1}


def test_a_body_that_raises_writes_nothing(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """The exception comes out as it is, and the transaction has ended."""
    with pytest.raises(ZeroDivisionError), db.transaction() as tx:
        tx.append(orders, 1, placed(1))
        1 / 0  # noqa: B018
    assert db.next_global_sequence == 0
    with pytest.raises(varve.TransactionClosed):
        tx.append(orders, 1, placed(1))
    with pytest.raises(varve.TransactionClosed):
        _ = tx.positions


def test_rollback_forgets_everything(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """The with block then ends without a commit."""
    with db.transaction() as tx:
        tx.append(orders, 1, placed(1))
        tx.rollback()
    assert db.next_global_sequence == 0
    with pytest.raises(varve.TransactionClosed):
        tx.rollback()


def test_commit_may_come_early(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """``commit()`` in the block commits there, and only once."""
    with db.transaction() as tx:
        tx.append(orders, 1, placed(1))
        tx.commit()
        assert tx.positions == [(0, 0)]
        for use in (lambda: tx.append(orders, 1, placed(2)), tx.commit, tx.rollback):
            with pytest.raises(varve.TransactionClosed):
                use()
    assert db.next_global_sequence == 1


def test_a_transaction_is_used_once(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """A second with block over it is refused."""
    with db.transaction() as tx:
        tx.append(orders, 1, placed(1))
    with pytest.raises(varve.TransactionClosed), tx:
        pass
    assert db.next_global_sequence == 1


def test_positions_come_after_the_commit(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """Asked for earlier they are refused, since they are not known."""
    with db.transaction() as tx:
        tx.append(orders, 1, placed(1))
        with pytest.raises(varve.TransactionClosed):
            _ = tx.positions
        assert db.next_global_sequence == 0
    assert tx.positions == [(0, 0)]


def test_a_body_holds_no_lock(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """While it runs, this thread and others may append; its events come behind theirs."""
    with db.transaction() as tx:
        tx.append(orders, 1, placed(1))
        thread = threading.Thread(target=orders.append, args=(1, placed(2)))
        thread.start()
        thread.join(timeout=60)
        assert not thread.is_alive()
        orders.append(1, placed(3))
        with db.transaction() as inner:
            inner.append(orders, 1, placed(4))
    assert tx.positions == [(3, 3)]
    assert [r.event for r in orders.reader().iter_stream(1)] == [placed(2), placed(3), placed(4), placed(1)]


def test_a_stream_of_another_store_is_refused(
    db: varve.Varve, orders: varve.Stream[OrderPlaced], tmp_path: Path
) -> None:
    """A transaction is of one store."""
    with varve.open(tmp_path / "other", durability="relaxed") as other:
        foreign = other.stream("orders", OrderPlaced)
        for wrong in (foreign, "orders", None):
            with refused(db, varve.InvalidInput), db.transaction() as tx:
                tx.append(orders, 1, placed(1))
                tx.append(wrong, 1, placed(1))
        assert other.next_global_sequence == 0


def test_a_bad_event_in_a_transaction_writes_nothing(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """The error leaves the block; what stood before it is forgotten with it."""
    with refused(db, varve.EventTypeError), db.transaction() as tx:
        tx.append(orders, 1, placed(1))
        tx.append(orders, 1, shipped(1))


def test_a_bad_event_may_be_caught_in_the_body(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """A refused append adds nothing; the rest of the transaction stands."""
    with db.transaction() as tx:
        tx.append(orders, 1, placed(1))
        with pytest.raises(varve.EventTypeError):
            tx.append_batch(orders, 1, [placed(2), shipped(3)])
        tx.append(orders, 1, placed(4))
    assert tx.positions == [(0, 0), (1, 1)]


# -- expected ----------------------------------------------------------------------------------------------------------

EXPECTATIONS = [
    (varve.ANY, 0, True), (varve.ANY, 3, True), (varve.NO_STREAM, 0, True), (varve.NO_STREAM, 3, False),
    (varve.STREAM_EXISTS, 0, False), (varve.STREAM_EXISTS, 3, True), (0, 0, True), (3, 3, True), (2, 3, False),
    (4, 3, False), (1, 0, False), (2**70, 3, False),
]  # fmt: skip


@pytest.mark.parametrize("how", ["append", "append_batch", "transaction", "write"])
@pytest.mark.parametrize(("expected", "length", "holds"), EXPECTATIONS)
def test_expectations(
    db: varve.Varve, orders: varve.Stream[OrderPlaced], how: str, expected: object, length: int, holds: bool
) -> None:
    """Each expectation against a stream of some length, by every way to append; a failure carries its facts."""
    orders.append(1, placed(9))
    orders.append_batch("s", [placed(n) for n in range(length)])

    def go() -> None:
        if how == "append":
            orders.append("s", placed(1), expected=expected)
        elif how == "append_batch":
            orders.append_batch("s", [placed(1), placed(2)], expected=expected)
        elif how == "transaction":
            with db.transaction() as tx:
                tx.append(orders, 1, placed(3))
                tx.append(orders, "s", placed(1), expected=expected)
        else:
            db.write(lambda tx: tx.append(orders, "s", placed(1), expected=expected))

    if holds:
        go()
        assert orders.reader().get("s", length) == placed(1)
    else:
        with refused(db, varve.WrongExpectedVersion) as caught:
            go()
        error = caught.value
        assert (error.stream, error.stream_id, error.expected, error.actual) == ("orders", "s", expected, length)
        assert error.kind == "conflict"


def test_expectations_count_earlier_appends_of_the_transaction(
    db: varve.Varve, orders: varve.Stream[OrderPlaced]
) -> None:
    """Also to a stream that only this transaction creates, and only of the same stream."""
    with db.transaction() as tx:
        tx.append(orders, 1, placed(0), expected=varve.NO_STREAM)
        tx.append(orders, "1", placed(9), expected=0)
        tx.append_batch(orders, 1, [placed(1), placed(2)], expected=1)
        tx.append_many(orders, [(1, placed(3)), (2, placed(4))])
        tx.append(orders, 1, placed(5), expected=4)
        tx.append(orders, 2, placed(6), expected=varve.STREAM_EXISTS)
    with refused(db, varve.WrongExpectedVersion) as caught, db.transaction() as tx:
        tx.append(orders, 3, placed(0))
        tx.append(orders, 3, placed(0), expected=varve.NO_STREAM)
    assert caught.value.actual == 1


def test_expectations_are_checked_at_the_end(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """What somebody else appended while the body ran counts."""
    with pytest.raises(varve.WrongExpectedVersion), db.transaction() as tx:
        tx.append(orders, 1, placed(1), expected=0)
        orders.append(1, placed(2))
    assert db.next_global_sequence == 1


# -- db.write ----------------------------------------------------------------------------------------------------------


def test_write_returns_what_its_function_returns(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """And commits what it appended, as one commit."""

    def decide(tx: varve.WriteTransaction) -> str:
        tx.append(orders, 1, placed(1))
        tx.append_batch(orders, 2, [placed(2), placed(3)])
        decide.tx = tx
        return "done"

    assert db.write(decide) == "done"
    assert decide.tx.positions == [(0, 0), varve.Span([(0, 1, 2)])]
    assert {r.commit_sequence for r in db.global_reader().iter_from(0)} == {0}


def test_write_sees_the_very_latest(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """Concurrent read-modify-write never decides twice on the same state."""

    def increment() -> None:
        for _ in range(25):
            db.write(
                lambda tx: tx.append(orders, 1, placed(tx.reader(orders).length(1)), expected=tx.length(orders, 1))
            )

    threads = [threading.Thread(target=increment) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [r.event.order_id for r in orders.reader().iter_stream(1)] == list(range(75))


def test_write_reads_and_counts_its_own_appends(db: varve.Varve, mixed: varve.Stream[OrderPlaced]) -> None:
    """``length`` counts them; readers show what was committed before."""
    mixed.append_batch(1, [placed(0), shipped(1)])
    seen = []

    def look(tx: varve.WriteTransaction) -> None:
        tx.append(mixed, 1, placed(2))
        tx.append_many(mixed, [(1, placed(3)), ("1", placed(4)), (1, shipped(5))])
        seen.append((tx.length(mixed, 1), tx.length(mixed, "1"), tx.length(mixed, 9)))
        seen.append((tx.reader(mixed).length(1), tx.reader(mixed).get(1, 1), tx.reader(mixed).get(1, 2)))
        seen.append([r.global_sequence for r in tx.global_reader().iter_from(0)])

    db.write(look)
    assert seen == [(5, 1, 0), (2, shipped(1), None), [0, 1]]
    assert mixed.reader().length(1) == 5


def test_write_that_raises_rolls_back(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """Nothing is written and the lock is free."""
    kept = []

    def fail(tx: varve.WriteTransaction) -> None:
        kept.extend([tx, tx.reader(orders)])
        tx.append(orders, 1, placed(1))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        db.write(fail)
    assert db.next_global_sequence == 0
    tx, reader = kept
    with pytest.raises(varve.TransactionClosed):
        tx.append(orders, 1, placed(1))
    with pytest.raises(varve.TransactionClosed):
        tx.reader(orders)
    with pytest.raises(varve.SnapshotClosed):
        reader.length(1)
    orders.append(1, placed(1))


def test_write_may_roll_back_and_still_return(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """``tx.rollback()`` in the function forgets its appends; ``tx.commit()`` is not for it."""

    def undecided(tx: varve.WriteTransaction) -> int:
        tx.append(orders, 1, placed(1))
        with pytest.raises(varve.TransactionClosed):
            tx.commit()
        tx.rollback()
        return 5

    assert db.write(undecided) == 5
    assert db.next_global_sequence == 0


def test_write_refuses_an_async_function(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """It would wait while holding the lock; nothing is written."""

    async def wait(tx: varve.WriteTransaction) -> None:
        tx.append(orders, 1, placed(1))

    with refused(db, varve.InvalidInput, match="async"):
        db.write(wait)


@pytest.mark.parametrize("fn", [None, 5, "f"])
def test_write_refuses_what_cannot_be_called(db: varve.Varve, fn: object) -> None:
    """A typed error before the lock is taken."""
    with refused(db, varve.InvalidInput):
        db.write(fn)


def test_write_refuses_to_be_entered_again(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """An append, a transaction or another write inside the function would wait for itself: refused instead."""

    def nested(inner: object) -> None:
        with refused(db, varve.HandleUnusable):
            db.write(lambda tx: [tx.append(orders, 1, placed(1)), inner()])

    def transaction() -> None:
        with db.transaction() as tx:
            tx.append(orders, 1, placed(2))

    nested(lambda: orders.append(1, placed(2)))
    nested(lambda: db.write(lambda tx: None))
    nested(transaction)


def test_write_that_appends_nothing_commits_nothing(db: varve.Varve) -> None:
    """A decision may be to do nothing."""
    with db.snapshot() as snap:
        before = snap._snapshot.id
    assert db.write(lambda tx: 7) == 7
    with db.snapshot() as snap:
        assert snap._snapshot.id == before


def test_threads_append_at_once_without_gaps(db: varve.Varve, mixed: varve.Stream[OrderPlaced | OrderShipped]) -> None:
    """Four writers by four ways: the log is gapless and each stream in its writer's order."""

    def work(worker: int) -> None:
        for n in range(30):
            match worker:
                case 0:
                    mixed.append(worker, placed(n))
                case 1:
                    mixed.append_batch(worker, [placed(n)])
                case 2:
                    with db.transaction() as tx:
                        tx.append(mixed, worker, placed(n), expected=n)
                case _:
                    db.write(lambda tx: tx.append(mixed, worker, placed(tx.length(mixed, worker))))

    threads = [threading.Thread(target=work, args=(worker,)) for worker in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    log = everything(db)
    assert [e[0] for e in log] == list(range(120))
    for worker in range(4):
        assert [e[4] for e in log if e[2] == worker] == [placed(n) for n in range(30)]


def test_a_transaction_that_is_dropped_says_that_nothing_was_written(db: varve.Varve) -> None:
    """Forgetting ``with`` and ``commit()`` loses events: not silently."""
    orders = db.stream("orders", OrderPlaced)
    tx = db.transaction()
    tx.append(orders, 1, placed(1))
    with pytest.warns(ResourceWarning, match="dropped without commit"):
        del tx
    assert db.next_global_sequence == 0


def test_a_transaction_without_appends_is_dropped_quietly(db: varve.Varve) -> None:
    """There is nothing to lose."""
    tx = db.transaction()
    del tx


def test_a_readonly_handle_refuses_to_begin(varve_path: Path) -> None:
    """The mistake is told where it is made, not at the end of the block."""
    with varve.open(varve_path):
        pass
    with varve.open(varve_path, readonly=True) as db, pytest.raises(varve.ReadonlyStore):
        db.transaction()


def test_an_empty_batch_checks_what_it_expects(db: varve.Varve) -> None:
    """A guard without events guards: alone, and beside others in a transaction."""
    orders = db.stream("orders", OrderPlaced)
    assert len(orders.append_batch(1, [], expected=varve.NO_STREAM)) == 0
    orders.append(1, placed(1))
    with pytest.raises(varve.WrongExpectedVersion):
        orders.append_batch(1, [], expected=99)
    with pytest.raises(varve.WrongExpectedVersion), db.transaction() as tx:
        tx.append(orders, 2, placed(2))
        tx.append_batch(orders, 1, [], expected=99)
    assert db.next_global_sequence == 1
    with db.transaction() as tx:
        tx.append_batch(orders, 1, [], expected=1)
        tx.append(orders, 1, placed(2))
    assert [len(tx.positions[0]), tx.positions[1]] == [0, (1, 1)]


def test_a_generator_function_is_refused(db: varve.Varve) -> None:
    """Calling it runs nothing of it: committing nothing silently would look like success."""
    orders = db.stream("orders", OrderPlaced)

    def fn(tx: varve.WriteTransaction) -> object:
        tx.append(orders, 1, placed(1))
        yield

    with pytest.raises(varve.InvalidInput, match="generator"):
        db.write(fn)
    assert db.next_global_sequence == 0


def test_a_transaction_returns_to_a_mark(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """What was added since is forgotten, and positions count without it."""
    with db.transaction() as tx:
        tx.append(orders, 1, placed(0))
        mark = tx._mark()
        tx.append_batch(orders, 1, [placed(1), placed(2)])
        inner = tx._mark()
        tx.append(orders, 2, placed(3), expected=7)
        tx._return_to(inner)
        tx._return_to(mark)
        tx.append(orders, 1, placed(4))
    assert tx.positions == [(0, 0), (1, 1)]
    assert [r.event for r in db.global_reader().iter_from(0)] == [placed(0), placed(4)]
    with pytest.raises(varve.TransactionClosed):
        tx._mark()
