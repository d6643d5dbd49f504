"""Following: a tail for threads."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from tailing_models import Placed, Shipped

import varve
from varve.tailing.hub import hub_of

Orders = varve.Stream[Placed | Shipped]


def test_it_ends_when_nothing_comes_in_time_and_goes_on_later(db: varve.Varve, orders: Orders) -> None:
    orders.append_batch(1, [Placed(n) for n in range(1_000)])
    follow = db.follow(timeout_s=0)
    assert [one.global_sequence for one in follow] == list(range(1_000))
    assert follow.position == 1_000
    assert "at 1000" in repr(follow)
    assert list(follow) == []
    orders.append(1, Shipped(7))
    assert [one.event for one in follow] == [Shipped(7)]
    assert hub_of(db._engine).watermark.waiting == 0


def test_batches_and_single_events_share_one_position(db: varve.Varve, orders: Orders) -> None:
    orders.append_batch(1, [Placed(n) for n in range(10)])
    follow = orders.follow(2, stream_id=1, timeout_s=0)
    assert next(follow).stream_sequence == 2
    assert [[one.stream_sequence for one in batch] for batch in follow.batches(4)] == [[3, 4, 5, 6], [7, 8, 9]]
    assert follow.position == 10
    orders.append(1, Placed(10))
    assert [one.stream_sequence for one in follow] == [10]


@pytest.mark.parametrize("elsewhere", [False, True])
def test_it_does_not_end_before_the_log_does(db: varve.Varve, orders: Orders, elsewhere: bool) -> None:
    """A block that another tail had copied held nothing for this one, and it took the end of that copy for the end of the
    log: what was committed long since was not given. (Found by the rack's model.)"""
    _leave_a_copy(db, orders)
    shipped = db.follow(3, types=[Shipped], timeout_s=0)
    _go_beyond_it(db, orders, elsewhere=elsewhere)
    assert [one.event for one in shipped] == [Shipped(7)]


def test_a_consumer_does_not_end_before_the_log_does(db: varve.Varve, orders: Orders) -> None:
    """The same of a consumer, where another process had committed and this one did not know yet."""
    with db.consumer("shipped", types=[Shipped]) as consumer:
        _leave_a_copy(db, orders)
        _go_beyond_it(db, orders, elsewhere=True)
        assert [one.event for one in consumer.follow(timeout_s=0)] == [Shipped(7)]


def _leave_a_copy(db: varve.Varve, orders: Orders) -> None:
    orders.append_batch(1, [Placed(n) for n in range(6)])
    assert len(list(db.follow(timeout_s=0))) == 6  # which leaves its copy to everybody
    assert hub_of(db._engine).newest is not None


def _go_beyond_it(db: varve.Varve, orders: Orders, *, elsewhere: bool) -> None:
    if elsewhere:  # nobody tells this handle
        db._engine.listener = None
    orders.append_many([(2, Placed(n, "x" * 200)) for n in range(80)])
    orders.append(3, Shipped(7))


def test_filters_and_starts_are_those_of_a_tail(db: varve.Varve, orders: Orders) -> None:
    orders.append_batch(1, [Placed(0), Shipped(1), Placed(2)])
    end = db.follow(varve.END, timeout_s=0)
    assert [one.event for one in db.follow(types=[Shipped], timeout_s=0)] == [Shipped(1)]
    assert [one.global_sequence for one in db.follow(1, streams=["orders"], timeout_s=0)] == [1, 2]
    orders.append(2, Placed(3))
    assert [one.global_sequence for one in end] == [3]


def test_it_blocks_until_something_comes(varve_path: Path) -> None:
    """And ends with the store."""
    given: list[int] = []
    errors: list[BaseException] = []
    more = threading.Semaphore(0)

    with varve.open(varve_path, durability="relaxed") as db:
        orders = db.stream("orders", Placed | Shipped)

        def run() -> None:
            try:
                for recorded in db.follow():
                    given.append(recorded.global_sequence)
                    more.release()
            except varve.StoreClosed as exc:
                errors.append(exc)

        thread = threading.Thread(target=run)
        thread.start()
        for n in range(20):
            orders.append(1, Placed(n))
            more.acquire()
    thread.join()
    assert given == list(range(20))
    assert len(errors) == 1


def test_what_a_stream_does_not_declare_comes_as_an_error_behind_what_it_does(db: varve.Varve, orders: Orders) -> None:
    orders.append_batch(1, [Placed(0), Shipped(1), Placed(2)])
    follow = db.stream("orders", Placed).follow(timeout_s=0)
    assert next(follow).global_sequence == 0
    for _ in range(2):
        with pytest.raises(varve.UnexpectedEventType):
            next(follow)
    assert follow.position == 1


def test_commits_that_never_match_do_not_keep_it_beyond_its_time(
    db: varve.Varve, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where one comes between each look and the wait for more."""
    follow = db.follow(types=[Shipped], timeout_s=0)
    step, looks = follow._scan.step, []

    def look(events_max: int) -> object:
        found = step(events_max)
        looks.append(orders.append(1, Placed(len(looks))))
        assert len(looks) < 10
        return found

    monkeypatch.setattr(follow._scan, "step", look)
    assert list(follow) == []
    orders.append(1, Shipped(7))
    assert next(follow).event == Shipped(7)
