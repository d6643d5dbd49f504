"""Awaited appends: outcomes of their own, order, cancellation, back-pressure, endings. Every test runs loops of its own."""

from __future__ import annotations

import asyncio
import errno
import gc
import threading
import warnings
import weakref
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import pytest

import varve
from varve import limits
from varve.engine.group import Group
from varve.tailing.commits import LoopInbox
from varve.testing import ManualClock


@varve.event
class Note:
    number: varve.u64
    text: str = ""


@pytest.fixture
def db(varve_path: Path, varve_clock: ManualClock) -> Iterator[varve.Varve]:
    with varve.open(varve_path, durability="relaxed", clock=varve_clock) as store:
        yield store


@pytest.fixture
def notes(db: varve.Varve) -> varve.Stream[Note]:
    return db.stream("notes", Note)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(asyncio.wait_for(main, 120), debug=False)


def written(db: varve.Varve) -> list[tuple[Any, int]]:
    return [(found.stream_id, found.event.number) for found in db.global_reader().iter_from()]


def inbox_of(db: varve.Varve) -> LoopInbox:
    return db._engine.inboxes[asyncio.get_running_loop()]


@contextmanager
def writer_held(db: varve.Varve) -> Iterator[None]:
    """Inside, another thread is in ``db.write``."""
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        def wait(_tx: varve.WriteTransaction) -> None:
            inside.set()
            leave.wait()

        db.write(wait)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    try:
        yield
    finally:
        leave.set()
        thread.join()


async def until(condition: Any) -> None:
    for _ in range(100_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never became so")


def queued(db: varve.Varve) -> int:
    return len(db._engine._group._waiting)


async def taken(db: varve.Varve) -> None:
    """The helper has begun a commit, and waits for the writer."""
    await until(lambda: db._engine._writer._turnstile.locked() and not queued(db))


# -- what they give ---------------------------------------------------------------------------------------------------


def test_every_form_gives_its_positions(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """Positions, spans, keys, expectations, metadata and transactions as their plain counterparts."""

    async def main() -> None:
        assert await notes.append_async(1, Note(0), expected=varve.NO_STREAM, metadata={"user": "eve"}) == (0, 0)
        span = await notes.append_batch_async(1, [Note(1), Note(2)], expected=1)
        assert list(span) == [(1, 1), (2, 2)]
        assert list(await notes.append_many_async([(2, Note(3)), (1, Note(4)), (2, Note(5))])) == [
            (0, 3),
            (3, 4),
            (1, 5),
        ]
        first = await notes.append_async("k", Note(6), idempotency_key="k")
        again = await notes.append_async("k", Note(6), idempotency_key="k", expected=17)
        assert first == again
        assert (first.replayed, again.replayed) == (False, True)
        async with db.transaction(metadata={"why": "rent"}) as tx:
            tx.append(notes, 1, Note(7), expected=4)
            tx.append_batch(notes, 9, [Note(8), Note(9)])
            await asyncio.sleep(0)
        position, span = tx.positions
        assert position == (4, 7)
        assert list(span) == [(0, 8), (1, 9)]
        assert len(await notes.append_batch_async(1, [])) == 0
        assert len(await notes.append_many_async([])) == 0
        with pytest.raises(varve.WrongExpectedVersion):
            await notes.append_batch_async(1, [], expected=0)

    run(main())
    found = list(db.global_reader().iter_from())
    assert [one.event.number for one in found] == list(range(10))
    assert [one.commit_sequence for one in found] == [0, 1, 1, 3, 3, 3, 6, 7, 7, 7]
    assert [one.metadata for one in found] == [{"user": "eve"}] + [None] * 6 + [{"why": "rent"}] * 3


def test_awaited_at_once_they_share_a_transaction(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """Many appends of one loop, one LMDB transaction; one refused leaves the others alone."""
    notes.append(0, Note(0))

    async def main() -> list[Any]:
        with writer_held(db):
            first = asyncio.ensure_future(notes.append_async(0, Note(1)))
            await taken(db)
            rest = [notes.append_async(who, Note(who), expected=7 if who == 50 else varve.ANY) for who in range(100)]
            gathered = asyncio.gather(first, *rest, return_exceptions=True)
            await until(lambda: queued(db) == 100)
        return await gathered

    info = db._engine.environment.env.info
    before = info()["last_txnid"]
    outcomes = run(main())
    assert info()["last_txnid"] == before + 2
    assert isinstance(outcomes[51], varve.WrongExpectedVersion)
    assert [outcome.global_sequence for number, outcome in enumerate(outcomes) if number != 51] == list(range(1, 101))


def test_bad_input_is_refused_before_anything_is_queued(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """Whatever can be refused without looking at the store is, and the loop never hears of it."""

    async def main() -> None:
        bad: list[tuple[type[BaseException], Any]] = [
            (varve.EventTypeError, notes.append_async(1, object())),
            (varve.EventEncodingError, notes.append_async(1, Note(-1))),
            (varve.InvalidStreamId, notes.append_async(True, Note(1))),
            (varve.InvalidInput, notes.append_async(1, Note(1), expected=-1)),
            (varve.InvalidMetadata, notes.append_async(1, Note(1), metadata={1: 2})),
            (varve.InvalidIdempotencyKey, notes.append_async(1, Note(1), idempotency_key="")),
            (varve.InvalidInput, notes.append_batch_async(1, 5)),
            (varve.EventEncodingError, notes.append_batch_async(1, [Note(1), Note(-1)])),
            (varve.InvalidInput, notes.append_many_async([5])),
        ]
        for error, attempt in bad:
            with pytest.raises(error):
                await attempt
        assert len(db._engine.inboxes) == 0

    run(main())
    assert written(db) == []


def test_without_a_running_loop_it_says_so(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """Stepping the coroutine by hand raises RuntimeError, and nothing is written."""
    call = notes.append_async(1, Note(1))
    with pytest.raises(RuntimeError, match="no running event loop"):
        call.send(None)
    assert written(db) == []


def test_a_coroutine_that_nobody_awaits_writes_nothing(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """Dropped before it began: Python warns, the store knows nothing."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        notes.append_async(1, Note(1))
        gc.collect()
    assert [str(one.message) for one in caught if one.category is RuntimeWarning] != []
    assert written(db) == []


def test_a_readonly_handle_refuses(db: varve.Varve, notes: varve.Stream[Note], varve_path: Path) -> None:
    """ReadonlyStore from each form."""
    notes.append(1, Note(0))
    db.close()
    with varve.open(varve_path, readonly=True) as reader:
        stream = reader.stream("notes", Note)

        async def main() -> None:
            for attempt in (
                stream.append_async(1, Note(1)),
                stream.append_batch_async(1, [Note(1)]),
                stream.append_many_async([(1, Note(1))]),
            ):
                with pytest.raises(varve.ReadonlyStore):
                    await attempt

        run(main())


def test_inside_write_it_is_refused_instead_of_waiting_for_itself(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """A loop that runs inside ``db.write(fn)`` would wait for a commit that waits for fn."""

    def fn(tx: varve.WriteTransaction) -> None:
        tx.append(notes, 1, Note(1))
        with pytest.raises(varve.HandleUnusable):
            run(notes.append_async(1, Note(2)))

    db.write(fn)
    assert written(db) == [(1, 1)]


# -- order ------------------------------------------------------------------------------------------------------------


def test_the_order_of_a_caller_is_kept(
    db: varve.Varve, notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tasks begun in order are committed in order, whatever has to wait for room."""
    monkeypatch.setattr(limits, "PENDING_COMMITS_MAX", 3)
    monkeypatch.setattr(limits, "GROUP_COMMITS_MAX", 2)

    async def main() -> None:
        tasks = []
        for number in range(300):
            tasks.append(asyncio.ensure_future(notes.append_async(number % 5, Note(number))))
            if number % 7 == 0:
                await asyncio.sleep(0)
        await asyncio.gather(*tasks)

    run(main())
    assert [number for _, number in written(db)] == list(range(300))


def test_a_newcomer_does_not_overtake_one_that_was_let_in(
    db: varve.Varve, notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Room came, and in the same step of the loop another append begins: it stands behind who waited for the room."""
    monkeypatch.setattr(limits, "PENDING_COMMITS_MAX", 1)

    async def main() -> None:
        with writer_held(db):
            first = asyncio.ensure_future(notes.append_async(1, Note(0)))
            await taken(db)
            second = asyncio.ensure_future(notes.append_async(1, Note(1)))
            await asyncio.sleep(0)
            monkeypatch.setattr(limits, "PENDING_COMMITS_MAX", 2)
            third = asyncio.ensure_future(notes.append_async(1, Note(2)))
            await asyncio.sleep(0)
            assert len(inbox_of(db)._waiting) == 2  # there is room for it, but not before the second
            later: list[asyncio.Future[Any]] = []
            settle = LoopInbox._settle

            def settle_and_begin(inbox: LoopInbox, tickets: Any) -> None:
                # the task's first step stands in the loop's queue before whatever settling puts there
                if not later:
                    later.append(asyncio.ensure_future(notes.append_async(1, Note(3))))
                settle(inbox, tickets)

            monkeypatch.setattr(LoopInbox, "_settle", settle_and_begin)
        await first
        await second
        await third
        await later[0]

    run(main())
    assert [number for _, number in written(db)] == [0, 1, 2, 3]


def test_a_plain_append_comes_behind_those_that_were_begun(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """A sync append on the loop's thread does not overtake what this thread has handed in before, wherever that is."""
    group = db._engine._group
    take = group._take
    plain: list[threading.Thread] = []

    def take_and_let_another_append() -> Any:
        tickets = take()  # the queue is empty now, the writer is free
        if not plain:
            plain.append(threading.Thread(target=notes.append, args=(1, Note(1))))
            plain[0].start()
            while not group._waiting and plain[0].is_alive():
                threading.Event().wait(0.001)
        return tickets

    group._take = take_and_let_another_append  # type: ignore[method-assign]
    run(notes.append_async(1, Note(0)))
    plain[0].join()
    assert [number for _, number in written(db)] == [0, 1]


# -- cancellation -----------------------------------------------------------------------------------------------------


def test_cancelled_before_its_commit_began_it_is_not_written(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """Neighbours are, a later await of the same task works, and nothing stays behind."""
    notes.append(0, Note(0))

    async def main() -> None:
        with writer_held(db):
            first = asyncio.ensure_future(notes.append_async(0, Note(1)))
            await taken(db)
            tasks = [asyncio.ensure_future(notes.append_async(1, Note(10 + number))) for number in range(6)]
            await until(lambda: queued(db) == 6)
            for number in (0, 3, 5):
                tasks[number].cancel()
            await asyncio.wait([tasks[0], tasks[3], tasks[5]])
            assert [task.cancelled() for task in tasks] == [True, False, False, True, False, True]
            assert sum(ticket.request is None for ticket in db._engine._group._waiting) == 3
        await asyncio.gather(first, *(tasks[number] for number in (1, 2, 4)))
        assert await notes.append_async(1, Note(99)) == (3, 5)
        assert (inbox_of(db).commits, inbox_of(db).bytes) == (0, 0)

    run(main())
    assert written(db) == [(0, 0), (0, 1), (1, 11), (1, 12), (1, 14), (1, 99)]


def test_cancelled_after_its_commit_began_it_happens_wholly(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """The await ends at once; the batch is there as a whole."""

    async def main() -> None:
        with writer_held(db):
            task = asyncio.ensure_future(notes.append_batch_async(1, [Note(number) for number in range(50)]))
            await taken(db)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert inbox_of(db).commits == 1
        assert await notes.append_async(1, Note(50)) == (50, 50)
        assert (inbox_of(db).commits, inbox_of(db).bytes) == (0, 0)

    run(main())
    assert written(db) == [(1, number) for number in range(51)]


def test_a_timeout_is_a_cancellation(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """``asyncio.timeout`` around an append that has not begun: not written."""

    async def main() -> None:
        with writer_held(db):
            first = asyncio.ensure_future(notes.append_async(0, Note(1)))
            await taken(db)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0):
                    await notes.append_async(1, Note(2))
        await first

    run(main())
    assert written(db) == [(0, 1)]


def test_a_cancelled_transaction_is_written_wholly_or_not_at_all(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """``async with`` cancelled before its commit began: nothing of it; it has ended either way."""

    async def main() -> None:
        with writer_held(db):
            first = asyncio.ensure_future(notes.append_async(0, Note(1)))
            await taken(db)

            async def body() -> None:
                async with db.transaction() as tx:
                    made.append(tx)
                    tx.append(notes, 1, Note(2))
                    tx.append(notes, 2, Note(3))

            made: list[varve.Transaction] = []
            task = asyncio.ensure_future(body())
            await until(lambda: queued(db) == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with pytest.raises(varve.TransactionClosed):
                made[0].append(notes, 1, Note(4))
        await first

    run(main())
    assert written(db) == [(0, 1)]


def test_a_body_that_raises_writes_nothing(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """``async with`` whose block raises, or rolls back."""

    async def main() -> None:
        with pytest.raises(ZeroDivisionError):
            async with db.transaction() as tx:
                tx.append(notes, 1, Note(1))
                raise ZeroDivisionError
        async with db.transaction() as tx:
            tx.append(notes, 1, Note(1))
            tx.rollback()
        async with db.transaction():
            pass

    run(main())
    assert written(db) == []


# -- back-pressure ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bound", ["commits", "bytes"])
def test_never_more_is_under_way_than_allowed(
    db: varve.Varve, notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """With room for few, hundreds of appends pass through; at no time is more handed in, and all room is free at the end."""
    if bound == "commits":
        monkeypatch.setattr(limits, "PENDING_COMMITS_MAX", 4)
    else:
        monkeypatch.setattr(limits, "PENDING_BYTES_MAX", 100)
    most = 0
    submit = db._engine.submit

    def watched(ticket: Any) -> None:
        nonlocal most
        if bound == "bytes":
            assert ticket.inbox.bytes < 100
        submit(ticket)
        most = max(most, ticket.inbox.commits + 1)

    monkeypatch.setattr(db._engine, "submit", watched)

    async def main() -> None:
        await asyncio.gather(*(notes.append_async(who % 9, Note(who)) for who in range(400)))
        inbox = inbox_of(db)
        assert (inbox.commits, inbox.bytes, len(inbox._waiting)) == (0, 0, 0)

    run(main())
    assert 1 <= most <= 4
    assert sorted(number for _, number in written(db)) == list(range(400))


def test_cancelled_while_waiting_for_room_it_is_not_written_and_takes_none(
    db: varve.Varve, notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    """First, middle and last of those who wait; the others come in in their order."""
    monkeypatch.setattr(limits, "PENDING_COMMITS_MAX", 2)

    async def main() -> None:
        with writer_held(db):
            tasks = [asyncio.ensure_future(notes.append_async(1, Note(number))) for number in range(9)]
            await asyncio.sleep(0)
            assert len(inbox_of(db)._waiting) == 7
            for number in (2, 5, 8):
                tasks[number].cancel()
            await asyncio.wait([tasks[number] for number in (2, 5, 8)])
            assert len(inbox_of(db)._waiting) == 4
            assert inbox_of(db).commits == 2
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert [isinstance(one, asyncio.CancelledError) for one in done] == [n in {2, 5, 8} for n in range(9)]
        assert (inbox_of(db).commits, inbox_of(db).bytes, len(inbox_of(db)._waiting)) == (0, 0, 0)

    run(main())
    assert [number for _, number in written(db)] == [0, 1, 3, 4, 6, 7]


def test_appends_given_up_while_nobody_can_write_do_not_pile_up(
    db: varve.Varve, notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A writer stuck for long, and appends that time out again and again: what is remembered of them stays within the
    limits, their events do not stay at all."""
    monkeypatch.setattr(limits, "PENDING_COMMITS_MAX", 8)

    async def main() -> None:
        with writer_held(db):
            first = asyncio.ensure_future(notes.append_async(0, Note(0)))
            await taken(db)
            for number in range(100):
                task = asyncio.ensure_future(notes.append_async(1, Note(number, "x" * 1_000)))
                await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            assert queued(db) <= 8
            assert all(ticket.request is None for ticket in db._engine._group._waiting)
            assert len(inbox_of(db)._waiting) == 0
        await first
        assert await notes.append_async(1, Note(1)) == (0, 1)

    run(main())
    assert written(db) == [(0, 0), (1, 1)]


# -- several loops, endings -------------------------------------------------------------------------------------------


def test_several_loops_in_several_threads_share_one_store(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """Each loop gets its own outcomes; streams and the log are gapless."""
    found: dict[int, list[varve.Position]] = {}
    errors: list[BaseException] = []

    def loop(who: int) -> None:
        async def append(number: int) -> varve.Position:
            return await notes.append_async(f"{who}-{number % 4}", Note(who * 1_000 + number))

        async def main() -> list[varve.Position]:
            return await asyncio.gather(*map(append, range(100)))

        try:
            for _ in range(2):  # a second loop of the same thread, too
                found.setdefault(who, []).extend(run(main()))
        except BaseException as exc:  # noqa: BLE001 - shown below
            errors.append(exc)

    threads = [threading.Thread(target=loop, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert not errors
    assert sorted(one.global_sequence for ones in found.values() for one in ones) == list(range(800))
    log = list(db.global_reader().iter_from())
    for who, positions in found.items():
        for number, position in enumerate(positions):
            assert log[position.global_sequence].event.number == who * 1_000 + number % 100
    gc.collect()
    assert len(db._engine.inboxes) == 0


def test_a_loop_that_ends_with_appends_under_way_harms_nobody(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """The loop is closed while its commit runs and others wait: nothing hangs, what had begun is written, what had not
    begun and was cancelled is not."""
    notes.append(0, Note(0))
    loop = asyncio.new_event_loop()
    with writer_held(db):

        async def main() -> list[asyncio.Task[Any]]:
            begun = asyncio.ensure_future(notes.append_async(1, Note(1)))
            await taken(db)
            return [begun, *(asyncio.ensure_future(notes.append_async(2, Note(number))) for number in range(3))]

        tasks = loop.run_until_complete(main())
        loop.run_until_complete(asyncio.sleep(0))
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))
        loop.close()
        del tasks
    run(notes.append_async(3, Note(3)))
    assert written(db) == [(0, 0), (1, 1), (3, 3)]


def test_a_loop_that_is_collected_in_the_middle_harms_nobody(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """Closed without ending its tasks, and thrown away: the collector gives its appends up. No error is left unheard."""
    notes.append(0, Note(0))
    unheard: list[Any] = []
    loop = asyncio.new_event_loop()
    loop.set_exception_handler(lambda _loop, context: unheard.append(context))
    with writer_held(db):

        async def main() -> None:
            kept.append(asyncio.ensure_future(notes.append_async(1, Note(1), expected=7)))
            await taken(db)
            kept.append(asyncio.ensure_future(notes.append_async(2, Note(2))))
            await asyncio.sleep(0)

        kept: list[Any] = []
        loop.run_until_complete(main())
        loop.close()
        alive = weakref.ref(loop)
        while kept:
            kept.pop().get_coro().close()  # as the collector does
        del loop
    run(notes.append_async(3, Note(3)))
    gc.collect()
    assert alive() is None
    assert written(db) == [(0, 0), (3, 3)]
    assert all("destroyed but it is pending" in context["message"] for context in unheard)


def test_a_store_that_closes_ends_every_await(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closed by a thread while appends are under way, and while others wait for room: each is committed or told
    StoreClosed, and what it was told is so."""
    monkeypatch.setattr(limits, "PENDING_COMMITS_MAX", 16)
    told: list[Any] = []
    for _ in range(10):
        db = varve.open(varve_path, durability="relaxed")
        notes = db.stream("notes", Note)
        before = notes.reader().length(1)

        async def main() -> list[Any]:
            tasks = [asyncio.ensure_future(notes.append_async(1, Note(number))) for number in range(200)]  # noqa: B023
            await asyncio.sleep(0)
            await asyncio.get_running_loop().run_in_executor(None, db.close)  # noqa: B023
            return await asyncio.gather(*tasks, return_exceptions=True)

        outcomes = run(main())
        committed = [one for one in outcomes if isinstance(one, varve.Position)]
        refused = [one for one in outcomes if isinstance(one, varve.StoreClosed)]
        assert len(committed) + len(refused) == 200
        assert len(set(map(id, refused))) == len(refused)
        with varve.open(varve_path) as again:
            assert again.stream("notes", Note).reader().length(1) == before + len(committed)
        told += refused
    assert told  # those who waited for room, at the least


def test_a_failed_commit_shared_by_awaits_gives_each_its_own_error(
    db: varve.Varve, notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    """StoreFailed for every append in it: distinct objects, so that tracebacks do not mix."""
    notes.append(0, Note(0))
    error = lmdb.Error("Input/output error")
    error.code = errno.EIO

    async def main() -> list[Any]:
        with writer_held(db):
            tasks = [asyncio.ensure_future(notes.append_async(1, Note(number))) for number in range(5)]
            await taken(db)

            def fail(*_: Any, **__: Any) -> None:
                raise error

            monkeypatch.setattr("varve.engine.commit.put_meta", fail)
        return await asyncio.gather(*tasks, return_exceptions=True)

    outcomes = run(main())
    assert {type(one) for one in outcomes} == {varve.StoreFailed}
    assert len(set(map(id, outcomes))) == 5
    with pytest.raises(varve.StoreFailed):
        run(notes.append_async(1, Note(1)))


def test_an_append_refused_with_stop_iteration_still_ends(varve_path: Path) -> None:
    """A clock that is an iterator and runs out: a future cannot hold StopIteration, and the await must end all the same,
    its neighbours' too."""
    times = iter([1, 2, 3])
    with varve.open(varve_path, durability="relaxed", clock=times.__next__) as db:
        notes = db.stream("notes", Note)

        async def main() -> list[Any]:
            tasks = [asyncio.ensure_future(notes.append_async(1, Note(number))) for number in range(4)]
            return await asyncio.gather(*tasks, return_exceptions=True)

        outcomes = run(main())
        committed = [one for one in outcomes if isinstance(one, varve.Position)]
        assert 1 <= len(committed) <= 2
        assert all(isinstance(one, RuntimeError) for one in outcomes if one not in committed)


def test_without_threads_awaits_still_end(
    db: varve.Varve, notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no helper can be started the loop commits itself."""

    def refuse(_group: Group, ticket: Any) -> bool:
        _group._waiting.remove(ticket)
        return False

    monkeypatch.setattr(Group, "_ring", refuse)

    async def main() -> None:
        await asyncio.gather(*(notes.append_async(1, Note(number)) for number in range(5)))
        with pytest.raises(varve.WrongExpectedVersion):
            await notes.append_async(1, Note(9), expected=0)

    run(main())
    assert written(db) == [(1, number) for number in range(5)]


def test_an_error_that_is_kept_keeps_no_future(db: varve.Varve, notes: varve.Stream[Note]) -> None:
    """The traceback of a refused await and its future do not hold each other: no garbage for the collector."""

    async def main() -> None:
        try:
            await notes.append_async(1, Note(1), expected=7)
        except varve.WrongExpectedVersion as error:
            traceback = error.__traceback__
            frames = []
            while traceback is not None:
                frames.append(traceback.tb_frame)
                traceback = traceback.tb_next
            assert not any(
                isinstance(value, asyncio.Future) or isinstance(getattr(value, "future", None), asyncio.Future)
                for frame in frames
                for value in frame.f_locals.values()
            )
            frames.clear()

    run(main())


def test_a_write_comes_behind_what_was_handed_in(db: varve.Varve) -> None:
    """``db.write`` once overtook appends that the same caller had handed in before it."""
    notes = db.stream("notes", Note)

    async def main() -> list[int]:
        first = asyncio.create_task(notes.append_async(1, Note(1)))
        await asyncio.sleep(0)
        db.write(lambda tx: tx.append(notes, 1, Note(2)))
        await first
        return [recorded.event.number for recorded in notes.reader().iter_stream(1)]

    assert asyncio.run(main()) == [1, 2]


def test_the_inbox_of_a_closed_loop_goes_with_the_next_loop(
    db: varve.Varve, notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Appends that waited for room when it was closed would keep the loop, and themselves, for as long as the store is open."""
    monkeypatch.setattr(limits, "PENDING_COMMITS_MAX", 1)

    async def begin() -> None:
        tasks.extend(asyncio.ensure_future(notes.append_async(1, Note(number))) for number in range(3))
        await asyncio.sleep(0)

    tasks: list[asyncio.Future[Any]] = []
    with writer_held(db):
        loop = asyncio.new_event_loop()
        loop.run_until_complete(begin())
        loop.close()
    assert list(db._engine.inboxes) == [loop]
    run(notes.append_async(2, Note(9)))
    assert loop not in db._engine.inboxes
    for task in tasks:
        task._log_destroy_pending = False  # type: ignore[attr-defined]
