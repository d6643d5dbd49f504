"""What becomes of an event whose handler fails, with waits on a clock that the test moves."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import pytest
from processor_models import Billed, Biller, billed, fill, until

import varve
from varve.testing import ManualClock


def test_fail_fast(db: varve.Varve) -> None:
    """The default: it stops, says where, and the position stays before the event; what came before it is kept."""
    fill(db, 10)
    processor = db.processor("billing", Biller(db, 6), streams=["orders"])
    with pytest.raises(varve.ProcessorFailed) as told:
        processor.catch_up_blocking()
    error = told.value
    assert (error.name, error.global_sequence, error.stream, error.stream_id, error.attempts) == (
        "billing",
        6,
        "orders",
        1,
        1,
    )
    assert isinstance(error.__cause__, ValueError)
    assert billed(db) == list(range(6))
    assert (processor.position, processor.state) == (6, "failed")
    assert processor.status.error is error
    again = Biller(db)
    assert db.processor("billing", again, streams=["orders"]).catch_up_blocking() == 4
    assert again.seen == [6, 7, 8, 9]
    assert billed(db) == list(range(10))


def test_skip(db: varve.Varve, caplog: pytest.LogCaptureFixture) -> None:
    """Goes on without it, and says so in the log; nothing of the event itself is said there."""
    fill(db, 10)
    with caplog.at_level(logging.WARNING, "varve"):
        processor = db.processor("billing", Biller(db, 0, 6, 9), strategy=varve.Skip(), streams=["orders"])
        assert processor.catch_up_blocking() == 7
    assert billed(db) == [1, 2, 3, 4, 5, 7, 8]
    assert processor.position >= 10
    skipped = [record.getMessage() for record in caplog.records if "skipped" in record.getMessage()]
    assert [message.rpartition(" at ")[2] for message in skipped] == [f"{n}: ValueError" for n in (0, 6, 9)]
    assert (processor.status.skipped, processor.status.failed) == (3, 3)


class Sleeps:
    """A sleep that takes no time, but moves the clock, and what was asked of it."""

    def __init__(self, clock: ManualClock) -> None:
        self.seconds: list[float] = []
        self._clock = clock

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        self._clock.advance(seconds)


def test_retry_waits_as_it_is_told(db: varve.Varve, varve_clock: ManualClock) -> None:
    """As many calls as were allowed, with the waits of the function; then what ``then`` says."""
    fill(db, 5)
    sleeps = Sleeps(varve_clock)
    biller = Biller(db, 3)
    asked: list[int] = []

    def wait(failed: int) -> float:
        asked.append(failed)
        return 10.0 * failed

    strategy = varve.Retry(4, wait, then=varve.Skip())
    processor = db.processor("billing", biller, strategy=strategy, streams=["orders"], sleep=sleeps)
    assert processor.catch_up_blocking() == 4
    assert biller.seen == [0, 1, 2, 3, 3, 3, 3, 4]
    assert asked == [1, 2, 3]
    assert sleeps.seconds == [10, 20, 30]
    assert (processor.status.retried, processor.status.failed, processor.status.skipped) == (3, 4, 1)


def test_retry_until_it_works(db: varve.Varve, varve_clock: ManualClock) -> None:
    """A success ends it; the next event has all its attempts again."""
    fill(db, 6)
    sleeps = Sleeps(varve_clock)
    failures = {2: 2, 3: 2}
    bills = db.stream("bills", Billed)

    async def bill(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        number = recorded.event.number
        tx.append(bills, 1, Billed(number))
        if failures.get(number, 0):
            failures[number] -= 1
            raise ConnectionError("not now")

    strategy = varve.Retry(3, varve.fixed_wait(1))
    db.processor("billing", bill, strategy=strategy, streams=["orders"], sleep=sleeps).catch_up_blocking()
    assert billed(db) == list(range(6))
    assert sleeps.seconds == [1, 1, 1, 1]


def test_retry_only_of_some_errors(db: varve.Varve, varve_clock: ManualClock) -> None:
    """Others are left to ``then`` at once."""
    fill(db, 2)
    sleeps = Sleeps(varve_clock)
    strategy = varve.Retry(3, varve.fixed_wait(1), then=varve.DeadLetter(), on=(ConnectionError, TimeoutError))
    processor = db.processor("billing", Biller(db, 1), strategy=strategy, streams=["orders"], sleep=sleeps)
    assert processor.catch_up_blocking() == 1
    assert sleeps.seconds == []
    assert processor.dead_letters.list()[0].attempts == 1


def test_retries_in_a_row(db: varve.Varve, varve_clock: ManualClock) -> None:
    """One strategy after the other, the attempts counted through."""
    fill(db, 1)
    sleeps = Sleeps(varve_clock)
    slow = varve.Retry(4, varve.fixed_wait(60), then=varve.DeadLetter())
    strategy = varve.Retry(2, varve.fixed_wait(1), then=slow)
    processor = db.processor("billing", Biller(db, 0), strategy=strategy, streams=["orders"], sleep=sleeps)
    processor.catch_up_blocking()
    assert sleeps.seconds == [1, 60, 60]
    [letter] = processor.dead_letters.list()
    assert letter.attempts == 4
    assert letter.first_failed_at is not None
    assert letter.last_failed_at is not None
    assert (letter.last_failed_at - letter.first_failed_at).total_seconds() == 121


def test_nothing_is_held_while_a_retry_waits(db: varve.Varve, varve_clock: ManualClock) -> None:
    """What came before is committed, others write, no snapshot lives, and the wait ends when its time has come."""
    fill(db, 5)

    async def main() -> None:
        biller = Biller(db, 3)
        strategy = varve.Retry(2, varve.fixed_wait(30))
        processor = db.processor("billing", biller, strategy=strategy, streams=["orders"], sleep=varve_clock.sleep)
        task = asyncio.create_task(processor.run())
        await until(lambda: varve_clock.sleeping == (30,))
        assert processor.status.waiting == "retry"
        assert billed(db) == [0, 1, 2]
        assert processor.position == 3
        assert not db.stats().snapshots
        fill(db, 1)
        varve_clock.advance(29)
        await asyncio.sleep(0)
        assert biller.seen == [0, 1, 2, 3]
        biller.bad.clear()
        varve_clock.advance(1)
        await until(lambda: billed(db) == list(range(6)))
        processor.stop()
        await task

    asyncio.run(main())


@pytest.mark.parametrize("how", ["stop", "cancel"])
def test_a_wait_ends_at_once(db: varve.Varve, varve_clock: ManualClock, how: str) -> None:
    """When the processor is stopped or cancelled; the event comes again."""
    fill(db, 2)

    async def main() -> None:
        strategy = varve.Retry(2, varve.fixed_wait(3600))
        processor = db.processor(
            "billing", Biller(db, 1), strategy=strategy, streams=["orders"], sleep=varve_clock.sleep
        )
        task = asyncio.create_task(processor.run())
        await until(lambda: varve_clock.sleeping == (3600,))
        if how == "stop":
            processor.stop()
            await task
        else:
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert varve_clock.sleeping == ()
        assert (processor.state, processor.position) == ("stopped", 1)

    asyncio.run(main())


def test_a_strategy_of_ones_own(db: varve.Varve, varve_clock: ManualClock) -> None:
    """It is given the event, the error and the number of attempts; it may answer with any strategy."""
    fill(db, 6)
    sleeps = Sleeps(varve_clock)
    asked: list[tuple[int, str, int]] = []

    def mine(recorded: varve.Recorded[Any], error: Exception, attempt: int) -> object:
        number = recorded.event.number
        asked.append((number, type(error).__name__, attempt))
        if number == 1:
            return varve.Skip()
        if number == 2:
            return varve.RetryIn(7) if attempt < 3 else varve.DeadLetter(park=True)
        return varve.Retry(2, varve.fixed_wait(1), then=lambda *_: varve.Skip())

    biller = Biller(db, 1, 2, 4)
    processor = db.processor("billing", biller, strategy=mine, streams=["orders"], sleep=sleeps)
    processor.catch_up_blocking()
    assert billed(db) == [0, 3, 5]
    assert asked == [
        (number, "ValueError", attempt) for number, attempt in ((1, 1), (2, 1), (2, 2), (2, 3), (4, 1), (4, 2))
    ]
    assert sleeps.seconds == [7, 7, 1]


def raises(*_: object) -> object:
    """A strategy that fails itself."""
    raise LookupError("strategy")


@pytest.mark.parametrize(
    ("strategy", "cause"),
    [
        (lambda *_: None, varve.errors.InvalidInput),
        (lambda *_: varve.Skip, varve.errors.InvalidInput),
        (lambda *_: varve.RetryIn(-1), varve.errors.InvalidInput),
        (lambda *_: varve.RetryIn(float("nan")), varve.errors.InvalidInput),
        (varve.Retry(3, lambda _: "soon"), varve.errors.InvalidInput),  # type: ignore[arg-type,return-value]
        (raises, LookupError),
    ],
)
def test_strategies_that_do_not_say(db: varve.Varve, strategy: Callable[..., Any], cause: type[Exception]) -> None:
    """The processor stops before the event: nothing was decided about it."""
    fill(db, 2)
    processor = db.processor("billing", Biller(db, 1), strategy=strategy, streams=["orders"])
    with pytest.raises(varve.ProcessorFailed, match="its strategy failed") as told:
        processor.catch_up_blocking()
    assert isinstance(told.value.__cause__, cause)
    assert processor.position == 1


def test_a_strategy_that_answers_with_itself(db: varve.Varve) -> None:
    """Ends."""
    fill(db, 1)

    def endless(*_: object) -> object:
        return endless

    with pytest.raises(varve.ProcessorFailed, match="yet another"):
        db.processor("billing", Biller(db, 0), strategy=endless, streams=["orders"]).catch_up_blocking()


@pytest.mark.parametrize(
    "options",
    [
        {"attempts": 0},
        {"attempts": True},
        {"wait": 5},
        {"then": None},
        {"then": varve.Skip},
        {"on": ()},
        {"on": KeyboardInterrupt},
        {"on": "all"},
    ],
)
def test_bad_retries(options: dict[str, Any]) -> None:
    """Said when they are made."""
    with pytest.raises(varve.errors.InvalidInput):
        varve.Retry(**options)


# -- the circuit breaker -----------------------------------------------------------------------------


def test_an_open_breaker_holds_the_processor(db: varve.Varve, varve_clock: ManualClock) -> None:
    """No handler is called while it is open, the position stays; half-open one event tries, and all go on when it succeeds."""
    fill(db, 10)

    async def main() -> None:
        biller = Biller(db, *range(2, 10))
        breaker = varve.CircuitBreaker(3, 60, clock=varve_clock)
        strategy = varve.Retry(100, varve.fixed_wait(0))
        processor = db.processor(
            "billing", biller, strategy=strategy, streams=["orders"], breaker=breaker, sleep=varve_clock.sleep
        )
        task = asyncio.create_task(processor.run())
        await until(lambda: varve_clock.sleeping == (60,))
        assert biller.seen == [0, 1, 2, 2, 2]
        assert (processor.status.breaker, processor.status.waiting, processor.position) == ("open", "breaker", 2)
        assert billed(db) == [0, 1]
        varve_clock.advance(60)
        await until(lambda: varve_clock.sleeping == (60,))
        assert biller.seen == [0, 1, 2, 2, 2, 2]
        biller.bad.clear()
        varve_clock.advance(60)
        await until(lambda: billed(db) == list(range(10)))
        assert processor.status.breaker == "closed"
        processor.stop()
        await task

    asyncio.run(main())


def test_a_breaker_that_two_processors_share(db: varve.Varve, varve_clock: ManualClock) -> None:
    """What one learns holds for the other; half-open one of them tries, and the other looks again."""
    fill(db, 3)

    async def main() -> None:
        breaker = varve.CircuitBreaker(2, 60, clock=varve_clock)
        strategy = varve.Retry(100, varve.fixed_wait(0))
        down = Biller(db, 0)
        options: dict[str, Any] = {"streams": ["orders"], "breaker": breaker, "sleep": varve_clock.sleep}
        one = db.processor("one", down, strategy=strategy, **options)
        two = db.processor("two", Biller(db), **options)
        first = asyncio.create_task(one.run())
        await until(lambda: varve_clock.sleeping == (60,))
        trial = breaker
        second = asyncio.create_task(two.run())
        await until(lambda: varve_clock.sleeping == (60, 60))
        assert two.position == 0
        varve_clock.advance(59)
        varve_clock.advance(1)
        ticket = trial.acquire()
        assert ticket is not None
        await until(lambda: len(varve_clock.sleeping) == 2)
        assert max(varve_clock.sleeping) == varve.limits.BREAKER_LOOK_S
        assert billed(db) == []
        down.bad.clear()
        breaker.succeeded(ticket)
        varve_clock.advance(varve.limits.BREAKER_LOOK_S)
        await until(lambda: len(billed(db)) == 6)
        one.stop()
        two.stop()
        await asyncio.gather(first, second)

    asyncio.run(main())


def test_an_interrupted_trial_makes_room(db: varve.Varve, varve_clock: ManualClock) -> None:
    """A handler that is cancelled half-open says nothing about what it calls."""
    fill(db, 1)

    async def main() -> None:
        breaker = varve.CircuitBreaker(1, 1, clock=varve_clock)
        ticket = breaker.acquire()
        assert ticket is not None
        breaker.failed(ticket)
        varve_clock.advance(1)
        inside = asyncio.Event()

        async def hangs(_recorded: varve.Recorded[Any], _tx: varve.Transaction) -> None:
            inside.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(db.processor("billing", hangs, breaker=breaker).run())
        await inside.wait()
        assert breaker.acquire() is None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert breaker.acquire() is not None

    asyncio.run(main())
