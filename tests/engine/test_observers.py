"""Observers are told of every commit of a handle, exactly, and can neither break nor block one."""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from engine_helpers import Note, faulty, lmdb_error

import varve
from varve.engine.group import Ticket, _Gate


class Heard(varve.Observer):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.commits: list[varve.CommitReport] = []

    def commit_ended(self, report: varve.CommitReport, /) -> None:
        self.commits.append(report)

    @property
    def last(self) -> varve.CommitReport:
        return self.commits[-1]


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    with varve.open(varve_path, durability="relaxed") as found:
        yield found


@pytest.fixture
def heard(db: varve.Varve) -> Heard:
    found = Heard()
    db.observe(found)
    return found


def notes(count: int) -> list[Note]:
    return [Note(number, "x" * 10) for number in range(count)]


def figures(report: varve.CommitReport) -> tuple[int, int, int, tuple[str, ...]]:
    return report.commits, report.events, report.replays, report.errors


def settle(db: Any, *appends: tuple[varve.Stream[Note], dict[str, Any]]) -> list[Ticket]:
    """Settle appends as one group, on this thread."""
    group = db._engine._group
    tickets = []
    for stream, options in appends:
        tx = db.transaction(idempotency_key=options.get("key"))
        tx.append(stream, options.get("id", 1), Note(1, "a"), expected=options.get("expected", varve.ANY))
        tickets.append(Ticket(tx._request(), _Gate()))
    for ticket in tickets:
        group._ring_at = 10_000  # nobody is rung: this thread serves
        group._put(ticket)
    group._commit(group._take())
    group._ring_at = 1
    return tickets


def once(error: BaseException) -> Callable[[], None]:
    """A fault that strikes the first time only."""
    left = [error]

    def fault() -> None:
        if left:
            raise left.pop()

    return fault


# -- what is told -----------------------------------------------------------------------------------------------------


def test_a_sync_append_is_told_with_its_figures(db: varve.Varve, heard: Heard) -> None:
    """One commit, its events and their bytes, and no time is negative."""
    stream = db.stream("notes", Note)
    before = db.stats().writes.event_bytes
    stream.append_batch(1, notes(3))
    [report] = heard.commits
    assert figures(report) == (1, 3, 0, ())
    assert report.event_bytes == db.stats().writes.event_bytes - before > 0
    assert report.prepared_s > 0
    assert report.commit_s > 0
    assert report.waited_s >= 0
    stream.append(1, Note(4, ""))  # the short way for single events
    assert figures(heard.last) == (1, 1, 0, ())


def test_what_is_refused_is_told_by_its_code(db: varve.Varve, heard: Heard) -> None:
    """A refusal is a report without commits, and the append raises as ever."""
    stream = db.stream("notes", Note)
    stream.append(1, Note(1, "a"), idempotency_key="k")
    with pytest.raises(varve.WrongExpectedVersion):
        stream.append(1, Note(2, "b"), expected=0)
    assert figures(heard.last) == (0, 0, 0, (varve.WrongExpectedVersion.code,))
    assert heard.last.commit_s == heard.last.waited_s == 0.0
    assert heard.last.prepared_s > 0
    with pytest.raises(varve.IdempotencyConflict):
        stream.append(1, Note(2, "b"), idempotency_key="k")
    assert heard.last.errors == (varve.IdempotencyConflict.code,)
    assert db.stats().writes.failed == 2
    assert db.stats().writes.commits == 1


def test_a_replay_is_told_as_one(db: varve.Varve, heard: Heard) -> None:
    """Nothing is written, nothing is committed, and nothing has failed."""
    stream = db.stream("notes", Note)
    for _ in range(2):
        stream.append(1, Note(1, "a"), idempotency_key="k")
    assert [figures(report) for report in heard.commits] == [(1, 1, 0, ()), (0, 0, 1, ())]
    assert (heard.last.waited_s >= 0, heard.last.prepared_s, heard.last.commit_s) == (True, 0.0, 0.0)


def test_what_asks_for_nothing_is_not_told(db: varve.Varve, heard: Heard) -> None:
    """An empty batch, a transaction without appends, a db.write that appends nothing or is rolled back by its function."""
    stream = db.stream("notes", Note)
    stream.append_batch(1, [])
    with db.transaction():
        pass
    assert db.write(lambda tx: tx.length(stream, 1)) == 0
    with pytest.raises(KeyError):
        db.write(lambda tx: {}["absent"])
    assert heard.commits == []
    assert db.stats().writes.failed == 0


def test_db_write_is_told_and_so_is_its_refusal(db: varve.Varve, heard: Heard) -> None:
    """As an append is; what is refused in it by the store counts as failed."""
    stream = db.stream("notes", Note)
    db.write(lambda tx: tx.append_batch(stream, 1, notes(2)))
    assert figures(heard.last) == (1, 2, 0, ())
    with pytest.raises(varve.WrongExpectedVersion):
        db.write(lambda tx: tx.append(stream, 1, Note(1, "a"), expected=0))
    assert figures(heard.last) == (0, 0, 0, (varve.WrongExpectedVersion.code,))
    assert db.stats().writes.failed == 1


def test_a_group_is_one_report_with_every_outcome(db: varve.Varve, heard: Heard) -> None:
    """Commits, replays and refusals of one transaction stand together; the refused one leaves the others alone."""
    stream = db.stream("notes", Note)
    stream.append(9, Note(1, "a"), idempotency_key="k")
    db.unobserve(heard)
    db.observe(heard)
    tickets = settle(db, (stream, {}), (stream, {"expected": 7}), (stream, {"id": 2}), (stream, {"id": 9, "key": "k"}))
    assert [ticket.error is None for ticket in tickets] == [True, False, True, True]
    assert figures(heard.last) == (2, 2, 1, (varve.WrongExpectedVersion.code,))
    assert heard.last.waited_s > 0
    writes = db.stats().writes
    assert (writes.transactions, writes.commits, writes.events, writes.group_max, writes.failed) == (2, 3, 3, 2, 1)


def test_a_ticket_that_nobody_observed_has_not_waited(db: varve.Varve) -> None:
    """Who begins to observe while commits wait hears of them without a time that nobody took."""
    stream = db.stream("notes", Note)
    heard = Heard()
    group: Any = db._engine._group

    def put(self: Any, ticket: Ticket) -> bool:
        self._waiting.append(ticket)
        return True

    type(group)._put, kept = put, type(group)._put
    try:
        db.observe(heard)
        settle(db, (stream, {}))
    finally:
        type(group)._put = kept
    assert (heard.last.commits, heard.last.waited_s) == (1, 0.0)


def test_a_group_of_refused_ones_is_told(db: varve.Varve, heard: Heard) -> None:
    """There was no commit at all, and each refusal counts."""
    stream = db.stream("notes", Note)
    settle(db, (stream, {"expected": 5}), (stream, {"expected": 6}))
    assert figures(heard.last) == (0, 0, 0, (varve.WrongExpectedVersion.code,) * 2)
    assert db.stats().writes.failed == 2


def test_async_appends_are_told_and_add_up(db: varve.Varve, heard: Heard) -> None:
    """However they were grouped, the reports' sums are what was appended."""
    stream = db.stream("notes", Note)

    async def main() -> None:
        outcomes = await asyncio.gather(
            *(stream.append_async(number % 7, Note(number, "x")) for number in range(200)),
            *(stream.append_async(1, Note(0, ""), expected=10_000) for _ in range(5)),
            return_exceptions=True,
        )
        assert sum(isinstance(outcome, varve.WrongExpectedVersion) for outcome in outcomes) == 5

    asyncio.run(main())
    assert sum(report.commits for report in heard.commits) == sum(report.events for report in heard.commits) == 200
    assert [code for report in heard.commits for code in report.errors] == [varve.WrongExpectedVersion.code] * 5
    writes = db.stats().writes
    assert (writes.commits, writes.events, writes.failed, writes.waiting) == (200, 200, 5, 0)
    assert writes.transactions == sum(1 for report in heard.commits if report.commits)
    assert writes.group_max == max(report.commits for report in heard.commits)
    assert writes.event_bytes == sum(report.event_bytes for report in heard.commits)
    assert writes.commit_s == pytest.approx(sum(report.commit_s for report in heard.commits))
    assert writes.commit_s_max == max(report.commit_s for report in heard.commits)


def test_threads_add_up(db: varve.Varve, heard: Heard) -> None:
    """Appends of several threads, alone or in groups, are each counted once."""
    stream = db.stream("notes", Note)

    def work(number: int) -> None:
        for count in range(50):
            stream.append(number, Note(count, "x"))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(report.events for report in heard.commits) == db.stats().writes.events == 200


# -- failures ---------------------------------------------------------------------------------------------------------


def test_a_failed_commit_is_told_to_each_of_its_group(db: varve.Varve, heard: Heard) -> None:
    """The disk fails: every ticket of the group counts, with one code."""
    stream = db.stream("notes", Note)
    stream.append(1, Note(1, "a"))
    faulty(db).on_commit = once(lmdb_error(lmdb.Error, errno.EIO))  # type: ignore[assignment]
    tickets = settle(db, (stream, {}), (stream, {"id": 2}))
    assert [type(ticket.error) for ticket in tickets] == [varve.StoreFailed] * 2
    assert figures(heard.last) == (0, 0, 0, (varve.StoreFailed.code,) * 2)
    assert heard.last.prepared_s > 0


def test_a_group_too_large_is_told_by_its_parts(db: varve.Varve, heard: Heard) -> None:
    """Where each is tried alone, each is told alone, and nothing twice."""
    stream = db.stream("notes", Note)
    stream.append(1, Note(1, "a"))
    faulty(db).on_commit = once(lmdb_error(lmdb.TxnFullError, -30788))  # type: ignore[assignment]
    tickets = settle(db, (stream, {}), (stream, {"id": 2}), (stream, {"expected": 77}))
    assert [ticket.error is None for ticket in tickets] == [True, True, False]
    told = [figures(report) for report in heard.commits[1:]]
    assert told == [(1, 1, 0, ()), (1, 1, 0, ()), (0, 0, 0, (varve.WrongExpectedVersion.code,))]
    assert db.stats().writes.failed == 1


# -- observers that behave badly ----------------------------------------------------------------------------------------


class Raises(varve.Observer):
    def __init__(self, error: BaseException) -> None:
        self.error = error
        self.calls = 0

    def commit_ended(self, report: varve.CommitReport, /) -> None:
        self.calls += 1
        raise self.error


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(3), varve.VarveError("odd")], ids=repr)
def test_an_observer_that_raises_hurts_nobody(
    db: varve.Varve, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    """Appends succeed, the others are told, and the log has it once for each observer."""
    first, second, heard = Raises(error), Raises(error), Heard()
    for observer in (first, second, heard):
        db.observe(observer)
    stream = db.stream("notes", Note)
    for number in range(3):
        stream.append(1, Note(number, "secret"))
    settle(db, (stream, {}))
    assert (first.calls, second.calls, len(heard.commits)) == (4, 4, 4)
    said = [record for record in caplog.records if "observer" in record.getMessage()]
    assert [record.levelno for record in said] == [logging.ERROR] * 2
    assert all(record.exc_info and record.exc_info[1] is error for record in said)
    assert "secret" not in caplog.text
    assert stream.reader().length(1) == 4
    db.unobserve(first)
    db.observe(first)  # as if new
    stream.append(1, Note(9, ""))
    assert sum("observer" in record.getMessage() for record in caplog.records) == 3


def test_an_interrupt_in_an_observer_is_the_users(db: varve.Varve) -> None:
    """Ctrl-C on the main thread goes on its way; on another thread it is the observer's own doing."""
    observer = Raises(KeyboardInterrupt())
    db.observe(observer)
    stream = db.stream("notes", Note)
    with pytest.raises(KeyboardInterrupt):
        stream.append(1, Note(1, "a"))
    assert stream.reader().length(1) == 1
    thread = threading.Thread(target=settle, args=(db, (stream, {})))
    thread.start()
    thread.join()
    assert observer.calls == 2
    assert stream.reader().length(1) == 2


class Writes(varve.Observer):
    """Tries to write to the store that it hears of."""

    def __init__(self, *calls: Any) -> None:
        self.calls = calls
        self.refused: list[type[BaseException]] = []

    def commit_ended(self, report: varve.CommitReport, /) -> None:
        for call in self.calls:
            try:
                call()
            except varve.HandleUnusable as error:
                self.refused.append(type(error))


def test_an_observer_cannot_write_or_close(db: varve.Varve) -> None:
    """On the helper thread it would wait for itself: refused everywhere, and reading is not."""
    stream = db.stream("notes", Note)
    lengths: list[int] = []
    observer = Writes(
        lambda: stream.append(1, Note(2, "b")),
        lambda: db.write(lambda tx: None),
        db.close,
        lambda: lengths.append(stream.reader().length(1)),
    )
    db.observe(observer)
    stream.append(1, Note(1, "a"))
    assert observer.refused == [varve.HandleUnusable] * 3

    async def main() -> None:
        await stream.append_async(1, Note(1, "a"))

    asyncio.run(main())  # on the helper thread
    assert observer.refused == [varve.HandleUnusable] * 6
    assert lengths == [1, 2]
    stream.append(1, Note(3, "c"))  # nothing is left behind


# -- beginning and ending -----------------------------------------------------------------------------------------------


def test_whoever_is_added_twice_is_told_once(db: varve.Varve, heard: Heard) -> None:
    """And no more after the first removal; removing again does nothing."""
    other = Heard()
    db.observe(heard)
    db.observe(other)
    stream = db.stream("notes", Note)
    stream.append(1, Note(1, "a"))
    db.unobserve(heard)
    stream.append(1, Note(2, "b"))
    assert (len(heard.commits), len(other.commits)) == (1, 2)
    db.unobserve(heard)
    db.unobserve(other)
    assert db._engine.observers is None
    stream.append(1, Note(3, "c"))
    assert len(other.commits) == 2


@pytest.mark.parametrize("wrong", [None, print, Heard, "observer"])
def test_what_is_no_observer_is_refused(db: varve.Varve, wrong: Any) -> None:
    """A class instead of its instance, a function."""
    with pytest.raises(varve.InvalidInput, match=r"varve\.Observer"):
        db.observe(wrong)
    assert db._engine.observers is None


def test_a_closed_store_lets_observers_go(varve_path: Path) -> None:
    """It refuses new ones, takes removals, and keeps none alive."""
    db = varve.open(varve_path)
    heard = Heard()
    db.observe(heard)
    db.close()
    assert db._engine.observers is None
    with pytest.raises(varve.StoreClosed):
        db.observe(heard)
    db.unobserve(heard)
    assert heard.commits == []


def test_an_observer_that_holds_its_store_is_no_leak(varve_path: Path) -> None:
    """The handle that was dropped goes, with whoever observed it."""

    class Holds(varve.Observer):
        def __init__(self, db: varve.Varve) -> None:
            self.db = db

    db = varve.open(varve_path)
    db.observe(Holds(db))
    gone = weakref.ref(db)
    del db
    gc.collect()
    assert gone() is None
    varve.open(varve_path).close()


def test_a_base_observer_hears_and_says_nothing(db: varve.Varve) -> None:
    """What is not overridden does nothing."""
    db.observe(varve.Observer())
    db.stream("notes", Note).append(1, Note(1, "a"))


def test_the_child_of_a_fork_tells_nobody(db: varve.Varve, heard: Heard) -> None:
    """Its handle refuses everything, also inside the parent's db.write, and counts nothing of it."""
    stream = db.stream("notes", Note)
    stream.append(1, Note(1, "a"))

    def fork_inside(tx: varve.WriteTransaction) -> None:
        child = os.fork()
        if child == 0:
            try:
                tx.append(stream, 1, Note(2, "b"))
                tx._finish()
            except varve.ForkedStore:
                try:
                    db._engine._writer._tell_failed(varve.ForkedStore("so"), 0.0)
                finally:
                    os._exit(0 if len(heard.commits) == 1 and db._engine.tally.failed == 0 else 1)
            os._exit(2)
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 0

    db.write(fork_inside)
    child = os.fork()
    if child == 0:
        try:
            stream.append(1, Note(2, "b"))
        except varve.ForkedStore:
            os._exit(0 if len(heard.commits) == 1 else 1)
        os._exit(2)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    stream.append(1, Note(3, "c"))
    assert len(heard.commits) == 2
