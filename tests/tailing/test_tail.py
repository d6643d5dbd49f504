"""Tails in one process: everything once, in order, from any start."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tailing_models import Paid, Placed, Shipped, take

import varve
from varve import limits
from varve.tailing import tail as tail_module
from varve.tailing.hub import hub_of
from varve.testing import ManualClock

Orders = varve.Stream[Placed | Shipped]


def sequences(recorded: list[varve.Recorded[Any]]) -> list[int]:
    return [one.global_sequence for one in recorded]


def test_it_catches_up_and_stays_live(db: varve.Varve, orders: Orders) -> None:
    """One event after the other, across the hand-over from history to live."""

    async def main() -> None:
        orders.append_batch(1, [Placed(n) for n in range(1_500)])
        tail = db.tail()
        assert sequences(await take(tail, 1_500)) == list(range(1_500))
        assert tail.position == 1_500
        waiting = asyncio.create_task(take(tail, 3))
        await asyncio.sleep(0)
        for n in range(3):
            await asyncio.to_thread(orders.append, n, Shipped(n))
        taken = await waiting
        assert [(one.global_sequence, one.stream_id, one.event) for one in taken] == [
            (1_500 + n, n, Shipped(n)) for n in range(3)
        ]

    asyncio.run(main())


def test_what_it_gives_is_what_a_replay_gives(db: varve.Varve, orders: Orders, varve_clock: ManualClock) -> None:
    """Every property of every event."""
    for n in range(20):
        varve_clock.advance(1)
        orders.append_many([(i, Placed(i) if i % 3 else Shipped(i)) for i in range(n)], metadata={"n": n})
    replayed = list(db.global_reader().iter_from())
    tailed = asyncio.run(take(db.tail(), len(replayed)))
    assert tailed == replayed
    for ours, theirs in zip(tailed, replayed, strict=True):
        assert (ours.metadata, ours.commit_sequence, ours.time_ns, ours.type, bytes(ours.raw)) == (
            theirs.metadata,
            theirs.commit_sequence,
            theirs.time_ns,
            theirs.type,
            bytes(theirs.raw),
        )


Commit = list[tuple[str, int]]
"""Kind of event and stream id, for each event of a commit."""

COMMITS: st.SearchStrategy[list[Commit]] = st.lists(
    st.lists(st.tuples(st.sampled_from(["placed", "shipped", "paid"]), st.integers(0, 3)), min_size=1, max_size=12),
    max_size=12,
)


@settings(deadline=None, max_examples=60)
@given(
    before=COMMITS,
    after=COMMITS,
    start=st.integers(0, 100),
    streams=st.none() | st.lists(st.sampled_from(["orders", "payments", "nothing"]), max_size=2),
    types=st.none() | st.lists(st.sampled_from([Placed, "Shipped", Paid, "Nothing"]), max_size=2),
    stream_id=st.none() | st.integers(0, 3),
    batch=st.none() | st.integers(1, 5),
    runs=st.sampled_from([1, 2, limits.TAIL_RUNS_MAX]),
    again=st.booleans(),
)
def test_everything_comes_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    before: list[Commit],
    after: list[Commit],
    start: int,
    streams: list[str] | None,
    types: list[Any] | None,
    stream_id: int | None,
    batch: int | None,
    runs: int,
    again: bool,
) -> None:
    """Whatever was committed before and after the tail began, whatever it chooses, in whatever steps: as a replay of the
    whole gives it."""
    with (
        pytest.MonkeyPatch.context() as patch,
        varve.open(tmp_path_factory.mktemp("tail") / "store", durability="relaxed") as db,
    ):
        patch.setattr(limits, "TAIL_RUNS_MAX", runs)
        orders, payments = db.stream("orders", Placed | Shipped), db.stream("payments", Paid)
        one_stream = stream_id is not None

        def commit(events: Commit) -> None:
            with db.transaction() as tx:
                for kind, at in events:
                    if kind == "paid":
                        tx.append(payments, at, Paid(at))
                    else:
                        tx.append(orders, at, (Placed if kind == "placed" else Shipped)(at))

        def expected() -> list[varve.Recorded[Any]]:
            if stream_id is not None:
                return list(orders.reader().iter_stream(stream_id, start))
            return list(db.global_reader().iter_from(start, streams=streams, types=types))

        async def collect(events: AsyncIterator[Any], into: list[varve.Recorded[Any]], count: int) -> None:
            while len(into) < count:
                found = await anext(events)
                into += found if isinstance(found, list) else [found]

        async def main() -> None:
            tail = (
                orders.tail(start, stream_id=stream_id) if one_stream else db.tail(start, streams=streams, types=types)
            )
            events: Any = tail if batch is None else tail.batches(batch)
            got: list[varve.Recorded[Any]] = []
            await collect(events, got, len(expected()))
            assert got == expected()
            if again:
                events = tail if batch is not None else tail.batches(3)
            for commit_ in after:
                waiting = asyncio.ensure_future(anext(events))
                await asyncio.sleep(0)
                commit(commit_)
                count = len(expected())
                if count > len(got):
                    found = await waiting
                    got += found if isinstance(found, list) else [found]
                    await collect(events, got, count)
                else:
                    waiting.cancel()
                    await asyncio.gather(waiting, return_exceptions=True)
            assert got == expected()
            assert hub_of(db._engine).watermark.waiting == 0

        for commit_ in before:
            commit(commit_)
        asyncio.run(main())


def test_it_can_start_at_the_end(db: varve.Varve, orders: Orders) -> None:
    """As of the call, not of the first event that is asked for."""
    orders.append_batch(1, [Placed(n) for n in range(10)])
    tail, one = db.tail(varve.END), orders.tail(varve.END, stream_id=1)
    orders.append(1, Placed(10))
    assert sequences(asyncio.run(take(tail, 1))) == [10]
    assert [event.stream_sequence for event in asyncio.run(take(one, 1))] == [10]
    assert repr(varve.END) == "varve.END"


def test_it_can_start_in_the_future(db: varve.Varve, orders: Orders) -> None:
    """At a sequence that is not there yet, of the log or of a stream."""

    async def main() -> None:
        orders.append(1, Placed(0))
        log = asyncio.create_task(take(db.tail(4), 1))
        stream = asyncio.create_task(take(orders.tail(3, stream_id=1), 1))
        for n in range(1, 8):
            await asyncio.sleep(0)
            orders.append(n % 2, Placed(n))
        assert sequences(await log) == [4]
        assert [(one.stream_sequence, one.global_sequence) for one in await stream] == [(3, 5)]

    asyncio.run(main())


def test_it_can_start_at_a_point_in_time(db: varve.Varve, orders: Orders, varve_clock: ManualClock) -> None:
    """In the past, between two commits, or yet to come."""
    begun = dt.datetime.fromtimestamp(varve_clock.now_ns // 10**9, tz=dt.UTC)

    def at(seconds: float) -> dt.datetime:
        return begun + dt.timedelta(seconds=seconds)

    async def main() -> None:
        for n in range(5):
            varve_clock.advance(10)
            orders.append_batch(n % 2, [Placed(n), Placed(n)])  # at 10, 20, ... 50 seconds
        for seconds, first in ((0, 0), (10, 0), (10.5, 2), (35, 6), (50, 8)):
            assert sequences(await take(db.tail(at(seconds)), 1)) == [first]
        [second] = await take(orders.tail(at(15), stream_id=0), 1)
        assert (second.stream_sequence, second.global_sequence) == (2, 4)
        future = asyncio.create_task(take(db.tail(at(65)), 1))
        stream = asyncio.create_task(take(orders.tail(at(65), stream_id=1), 1))
        for n in range(5, 9):
            await asyncio.sleep(0)
            varve_clock.advance(10)
            orders.append(n % 2, Placed(n))  # at 60, 70, 80, 90
        assert sequences(await future) == [11]
        assert [(one.global_sequence, one.event.number) for one in await stream] == [(12, 7)]

    asyncio.run(main())


@pytest.mark.parametrize("start", [-1, True, 1.5, "0", None, dt.datetime(2020, 1, 1), dt.date(2020, 1, 1)])
def test_a_start_that_is_none_is_refused(db: varve.Varve, orders: Orders, start: Any) -> None:
    for begin in (db.tail, db.follow, orders.tail, orders.follow):
        with pytest.raises(varve.InvalidInput):
            begin(start)


def test_other_bad_input_is_refused(db: varve.Varve, orders: Orders) -> None:
    for bad in (0, -1, True, 1.5, limits.BATCH_EVENTS_MAX + 1):
        with pytest.raises(varve.InvalidInput):
            db.tail().batches(bad)  # type: ignore[arg-type]
        with pytest.raises(varve.InvalidInput):
            db.follow().batches(bad)  # type: ignore[arg-type]
    with pytest.raises(varve.InvalidInput):
        db.tail(streams="orders")
    with pytest.raises(varve.InvalidName):
        db.tail(streams=[""])
    with pytest.raises(varve.InvalidInput):
        db.tail(types=Placed)  # type: ignore[arg-type]
    with pytest.raises(varve.SchemaError):
        db.tail(types=[int])
    with pytest.raises(varve.InvalidStreamId):
        orders.tail(stream_id=-1)


def test_batches_take_what_is_there(db: varve.Varve, orders: Orders) -> None:
    """Never empty, never more than was asked for, without waiting for a batch to fill."""

    async def main() -> None:
        orders.append_batch(1, [Placed(n) for n in range(10)])
        batches = db.tail().batches(4)
        assert [len(batch) for batch in await take(batches, 3)] == [4, 4, 2]
        waiting = asyncio.create_task(take(db.tail(10).batches(), 1))
        await asyncio.sleep(0)
        orders.append(1, Placed(10))
        assert [sequences(batch) for batch in await waiting] == [[10]]

    asyncio.run(main())


def test_leaving_the_loop_loses_nothing(db: varve.Varve, orders: Orders) -> None:
    """Another ``async for`` over the same tail goes on, one by one or in batches; ``position`` says where."""

    async def main() -> None:
        orders.append_batch(1, [Placed(n) for n in range(100)])
        tail = db.tail()
        assert sequences(await take(tail, 7)) == list(range(7))
        assert tail.position == 7
        assert "at 7" in repr(tail)
        [batch] = await take(tail.batches(10), 1)
        assert sequences(batch) == list(range(7, 17))
        assert tail.position == 17
        assert sequences(await take(tail, 3)) == [17, 18, 19]
        assert sequences([await anext(tail)]) == [20]
        assert hub_of(db._engine).watermark.waiting == 0

    asyncio.run(main())


def test_two_tasks_that_use_one_tail_lose_nothing(db: varve.Varve, orders: Orders) -> None:
    """They should not, but what one of them found is not dropped because the other one woke as well."""

    async def run() -> None:
        tail = db.tail()
        got: list[int] = []

        async def taking() -> None:
            async for recorded in tail:
                got.append(recorded.global_sequence)
                await asyncio.sleep(0)

        tasks = [asyncio.create_task(taking()) for _ in range(2)]
        for _ in range(3):  # both wait, and one commit wakes both
            reached = len(got) + 5
            await asyncio.sleep(0)
            orders.append_batch(1, [Placed(n, "") for n in range(5)])
            for _ in range(1000):  # turns of the loop: far more than five events take
                if len(got) == reached:
                    break
                await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        assert sorted(got) == list(range(15))

    asyncio.run(run())


def test_a_closed_tail_ends(db: varve.Varve, orders: Orders) -> None:
    async def main() -> None:
        orders.append(1, Placed(0))
        tail = db.tail()
        await anext(tail)
        await tail.aclose()
        with pytest.raises(StopAsyncIteration):
            await anext(tail)

    asyncio.run(main())


def test_a_cancelled_tail_leaves_no_waiter_and_goes_on(db: varve.Varve, orders: Orders) -> None:
    async def main() -> None:
        tail = db.tail()
        task = asyncio.create_task(take(tail, 1))
        await asyncio.sleep(0)
        assert hub_of(db._engine).watermark.waiting == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert hub_of(db._engine).watermark.waiting == 0
        orders.append(1, Placed(0))
        assert sequences([await anext(tail)]) == [0]
        for events in (tail, tail.batches(), aiter(db.tail(varve.END))):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(events), 0)
            waiting = asyncio.ensure_future(anext(events))
            await asyncio.sleep(0)
            orders.append(1, Placed(1))
            await waiting
        assert hub_of(db._engine).watermark.waiting == 0

    asyncio.run(main())


def test_closing_the_store_ends_it(varve_path: Path) -> None:
    """Whether it waits or has events at hand; asked again, it says so again."""

    async def main() -> None:
        with varve.open(varve_path, durability="relaxed") as db:
            orders = db.stream("orders", Placed | Shipped)
            orders.append_batch(1, [Placed(n) for n in range(limits.TAIL_EVENTS_MAX + 1)])
            live, behind = db.tail(varve.END), db.tail()
            waiting = asyncio.create_task(take(live, 1))
            kept = await take(behind, 1)
            await asyncio.sleep(0)
            db.close()  # what the tail gave holds nothing of the map
        with pytest.raises(varve.StoreClosed):
            await waiting
        with pytest.raises(varve.StoreClosed):
            await take(behind, limits.TAIL_EVENTS_MAX + 1)
        for tail in (live, behind):
            with pytest.raises(varve.StoreClosed):
                await anext(tail)
        assert kept[0].event == Placed(0)

    asyncio.run(main())


def test_it_holds_no_snapshot(db: varve.Varve, orders: Orders) -> None:
    """Neither between two steps nor through what it gave, however large."""
    payload = Placed(1, "x" * 100_000)
    orders.append_batch(1, [Placed(0), payload, Placed(2)])

    async def main() -> None:
        tail = db.tail()
        kept = await take(tail, 3)
        waiting = asyncio.ensure_future(anext(tail))
        await asyncio.sleep(0)
        assert db.stats().snapshots == ()
        assert db.stats().readers <= 1
        assert kept[1].event == payload
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)

    asyncio.run(main())


def test_a_step_is_bounded_where_nothing_matches(db: varve.Varve, orders: Orders) -> None:
    """Other tasks run while a tail looks through a long history for what is not there."""
    for _ in range(3):
        orders.append_many([(n, Placed(n)) for n in range(limits.TAIL_RUNS_MAX)])

    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        waiting = asyncio.create_task(take(db.tail(types=["Nothing"]), 1))
        while not hub_of(db._engine).watermark.waiting:  # noqa: ASYNC110 - turns of the loop are what is counted
            await asyncio.sleep(0)
        assert turns >= 3
        for running in (task, waiting):
            running.cancel()
        await asyncio.gather(task, waiting, return_exceptions=True)

    asyncio.run(main())


def test_it_lets_others_run_when_its_time_is_up(
    db: varve.Varve, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a clock on which every look takes a while."""
    orders.append_batch(1, [Placed(n) for n in range(320)])
    now_s = 0.0

    def clock() -> float:
        nonlocal now_s
        now_s += limits.TAIL_TURN_S_MAX
        return now_s

    async def main() -> None:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        with monkeypatch.context() as patch:
            patch.setattr(tail_module, "_monotonic", clock)
            await take(db.tail(), 320)
            assert turns >= 9
            turns = 0
            async for _ in db.tail().batches(32):
                if turns >= 9:
                    break
        task.cancel()

    asyncio.run(main())


def test_commits_that_never_match_do_not_keep_the_loop_busy(
    db: varve.Varve, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer who is always ahead: the tail looks again and again, and others run in between."""
    orders.append(1, Placed(0))
    monkeypatch.setattr(limits, "TAIL_TURN_S_MAX", 0.0)
    hub_of(db._engine).watermark.rise(10**9)

    async def main() -> None:
        tail = db.tail(types=["Nothing"])
        for events in (tail, tail.batches()):
            task = asyncio.ensure_future(anext(events))
            for _ in range(5):
                await asyncio.sleep(0)
            assert not task.done()
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_what_a_stream_does_not_declare_comes_as_an_error_behind_what_it_does(db: varve.Varve, orders: Orders) -> None:
    """Events before it are given first, and asking again says the same."""
    orders.append_batch(1, [Placed(0), Placed(1), Shipped(2), Placed(3)])
    narrow = db.stream("orders", Placed)

    async def main() -> None:
        for tail in (narrow.tail(), narrow.tail(stream_id=1)):
            assert sequences(await take(tail, 2)) == [0, 1]
            for _ in range(2):
                with pytest.raises(varve.UnexpectedEventType) as caught:
                    await take(tail, 1)
                assert caught.value.global_sequence == 2
            assert tail.position == 2

    asyncio.run(main())


def test_a_class_that_is_bound_meanwhile_is_used(varve_path: Path) -> None:
    """A tail lives long: what came as a class made from the schema comes as the user's from then on."""
    with varve.open(varve_path, durability="relaxed") as db:
        db.stream("orders", Placed).append(1, Placed(0))
    with varve.open(varve_path, durability="relaxed") as db:

        async def main() -> None:
            tail = db.tail()
            [first] = await take(tail, 1)
            assert first.type is not Placed
            orders = db.stream("orders", Placed)
            orders.append(1, Placed(1))
            [second] = await take(tail, 1)
            assert second.type is Placed

        asyncio.run(main())


def test_a_thousand_tails_read_one_copy_of_the_newest_block(
    db: varve.Varve, orders: Orders, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of those that wake for a commit reads the store, the others do not."""
    orders.append(1, Placed(0))

    async def main() -> None:
        tails = [db.tail() for _ in range(100)]
        for tail in tails:
            await anext(tail)
        tasks = [asyncio.create_task(take(tail, 1)) for tail in tails]
        await asyncio.sleep(0)
        reads = []
        for name in ("snapshot", "block_after"):
            original = getattr(db._engine, name)
            monkeypatch.setattr(db._engine, name, lambda *args, read=original: reads.append(read) or read(*args))
        orders.append(1, Placed(1))
        taken = await asyncio.gather(*tasks)
        assert all(sequences(one) == [1] for one in taken)
        assert len(reads) == 1

    asyncio.run(main())


def test_a_dropped_store_is_let_go_although_it_was_watched(varve_path: Path) -> None:
    """Nothing that tails share keeps the handle: dropped, it can be opened again at once."""
    db = varve.open(varve_path, durability="relaxed")
    orders = db.stream("orders", Placed)
    orders.append(1, Placed(0))
    asyncio.run(take(db.tail(), 1))
    db.watcher().wait(0)
    del db, orders
    gc.collect()
    varve.open(varve_path).close()
