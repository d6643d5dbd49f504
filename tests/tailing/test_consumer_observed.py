"""Observers hear of each batch that a consumer is done with; the log of consumers that change hands."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import varve


@varve.event
class Tick:
    number: varve.u64


@varve.event
class Tock:
    number: varve.u64


class Heard(varve.Observer):
    """Keeps what it is told of batches."""

    def __init__(self) -> None:
        self.batches: list[varve.BatchReport] = []

    def batch_handled(self, report: varve.BatchReport, /) -> None:
        self.batches.append(report)

    @property
    def figures(self) -> list[tuple[int, int, int]]:
        return [(report.events, report.position, report.lag) for report in self.batches]


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    with varve.open(varve_path, durability="relaxed") as found:
        found.stream("ticks", Tick).append_batch(1, [Tick(number) for number in range(10)])
        yield found


@pytest.fixture
def heard(db: varve.Varve) -> Heard:
    found = Heard()
    db.observe(found)
    return found


def test_a_batch_is_told_when_the_loop_comes_back(db: varve.Varve, heard: Heard) -> None:
    """Not while it is being handled; with where the consumer stands then, and how far that is from the end."""
    with db.consumer("mail") as consumer:
        lists = consumer.follow_batches(4, timeout_s=0)
        assert len(next(lists)) == 4
        assert heard.batches == []
        assert len(next(lists)) == 4
        assert heard.figures == [(4, 4, 6)]
        assert len(list(lists)) == 1
        assert heard.figures == [(4, 4, 6), (4, 8, 2), (2, 10, 0)]
    assert heard.figures == [(4, 4, 6), (4, 8, 2), (2, 10, 0)]
    assert all(report.handled_s > 0 for report in heard.batches)
    assert {(report.consumer, report.member, report.members) for report in heard.batches} == {("mail", 0, 1)}


def test_event_by_event_a_batch_is_what_was_read_together(db: varve.Varve, heard: Heard) -> None:
    """Whether the loop runs to its end or is left: what was given is told, once."""
    with db.consumer("mail") as consumer:
        for recorded in consumer.follow(timeout_s=0):
            if recorded.global_sequence == 6:
                break
        assert heard.batches == []
    assert heard.figures == [(7, 7, 3)]


def test_awaited_batches_are_told(db: varve.Varve, heard: Heard) -> None:
    """Alike."""

    async def main() -> None:
        async with db.consumer("mail") as consumer:
            async for batch in consumer.batches(5):
                if batch[-1].global_sequence == 9:
                    break

    asyncio.run(main())
    assert heard.figures == [(5, 5, 5), (5, 10, 0)]


def test_seek_ends_a_batch(db: varve.Varve, heard: Heard) -> None:
    """What was given before it is told, where the consumer stood then."""
    with db.consumer("mail") as consumer:
        events = consumer.follow(timeout_s=0)
        for _ in range(3):
            next(events)
        consumer.seek(8)
        assert heard.figures == [(3, 3, 7)]
        assert len(list(consumer.follow(timeout_s=0))) == 2
    assert heard.figures == [(3, 3, 7), (2, 10, 0)]


def test_members_are_told_apart(db: varve.Varve, heard: Heard) -> None:
    """Each has its own batches."""
    ticks = db.stream("ticks", Tick)
    for number in range(40):
        ticks.append(number, Tick(number))
    for member in range(2):
        with db.consumer("mail", member=member, members=2) as consumer:
            assert list(consumer.follow(timeout_s=0))
    assert {(report.member, report.members) for report in heard.batches} == {(0, 2), (1, 2)}
    assert sum(report.events for report in heard.batches) == 50


def test_what_is_passed_over_is_no_batch(db: varve.Varve, heard: Heard) -> None:
    """A consumer of other streams has handled nothing."""
    db.stream("tocks", Tock)
    with db.consumer("mail", streams=["tocks"]) as consumer:
        assert list(consumer.follow(timeout_s=0)) == []
    assert heard.batches == []


def test_whoever_comes_or_goes_in_a_batch(db: varve.Varve) -> None:
    """Who begins to observe while a batch is handled hears of the next; who stops hears of none."""
    heard = Heard()
    with db.consumer("mail") as consumer:
        lists = consumer.follow_batches(4, timeout_s=0)
        next(lists)
        db.observe(heard)
        next(lists)
        assert heard.batches == []
        db.unobserve(heard)
        next(lists)
    assert heard.batches == []


def test_a_closed_store_tells_nobody(varve_path: Path) -> None:
    """A consumer that is closed after its store has nothing more to say."""
    heard = Heard()
    db = varve.open(varve_path)
    db.stream("ticks", Tick).append(1, Tick(1))
    db.observe(heard)
    consumer = db.consumer("mail", commit="manual")
    events = consumer.follow(timeout_s=0)
    assert next(events).global_sequence == 0
    del events
    db.close()
    consumer.close()
    assert heard.batches == []


def test_an_observer_that_raises_hurts_no_consumer(db: varve.Varve, caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once, the events come, the position is stored."""

    class Raises(varve.Observer):
        def batch_handled(self, report: varve.BatchReport, /) -> None:
            raise ValueError("mine")

    db.observe(Raises())
    with db.consumer("mail") as consumer:
        assert sum(map(len, consumer.follow_batches(2, timeout_s=0))) == 10
    assert [info.position for info in db.consumers()] == [10]
    assert sum("observer" in record.getMessage() for record in caplog.records) == 1


def test_taking_and_fencing_is_logged(db: varve.Varve, caplog: pytest.LogCaptureFixture) -> None:
    """Taken at debug; taken by force, and fenced, once each at warning."""
    with caplog.at_level(logging.DEBUG, logger="varve"):
        old = db.consumer("mail")
        new = db.consumer("mail", force=True)
        next(old.follow(timeout_s=0))
        with pytest.raises(varve.ConsumerFenced):
            old.commit_blocking()
        with pytest.raises(varve.ConsumerFenced):
            old._claim.check()  # as a commit that was under way meanwhile
        old.close()
        new.close()
    told = [(record.levelname, record.getMessage()) for record in caplog.records if "mail" in record.getMessage()]
    named = f"{db.path}: consumer 'mail' (member 0 of 1)"
    assert told == [
        ("DEBUG", f"{named} was taken"),
        ("WARNING", f"{named} was taken by force"),
        ("WARNING", f"{named} was fenced: somebody else has it now"),
    ]
