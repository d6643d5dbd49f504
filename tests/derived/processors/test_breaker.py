"""The circuit breaker, on a clock that tests move."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

import varve
from varve.testing import ManualClock


def passed(breaker: varve.CircuitBreaker) -> int:
    """A pass that has to be there."""
    ticket = breaker.acquire()
    assert ticket is not None
    return ticket


@pytest.fixture
def breaker(varve_clock: ManualClock) -> varve.CircuitBreaker:
    """Opens after three failures, for ten seconds."""
    return varve.CircuitBreaker(3, 10, clock=varve_clock)


def fail(breaker: varve.CircuitBreaker, times: int) -> None:
    """So many failures in a row."""
    for _ in range(times):
        breaker.failed(passed(breaker))


def test_failures_in_a_row_open_it(breaker: varve.CircuitBreaker, varve_clock: ManualClock) -> None:
    """A success between them begins the count anew; open, it lets none pass until its time is over."""
    fail(breaker, 2)
    breaker.succeeded(passed(breaker))
    fail(breaker, 2)
    assert breaker.state == "closed"
    assert breaker.wait_s == 0
    fail(breaker, 1)
    assert (breaker.state, breaker.acquire(), breaker.wait_s) == ("open", None, 10)
    varve_clock.advance(9.5)
    assert (breaker.state, breaker.acquire(), breaker.wait_s) == ("open", None, 0.5)
    varve_clock.advance(0.5)
    assert breaker.state == "half-open"
    assert "half-open" in repr(breaker)


def test_half_open_one_may_try(breaker: varve.CircuitBreaker, varve_clock: ManualClock) -> None:
    """Its failure opens it for as long again, its success closes it for all."""
    fail(breaker, 3)
    varve_clock.advance(10)
    trial = passed(breaker)
    assert breaker.acquire() is None
    assert breaker.wait_s == 0
    breaker.failed(trial)
    assert (breaker.state, breaker.wait_s) == ("open", 10)
    varve_clock.advance(10)
    breaker.succeeded(passed(breaker))
    assert breaker.state == "closed"
    fail(breaker, 2)
    assert breaker.state == "closed"


def test_several_trials(varve_clock: ManualClock) -> None:
    """All of them have to succeed; one that was cut off makes room for another."""
    breaker = varve.CircuitBreaker(1, 5, trials=2, clock=varve_clock)
    fail(breaker, 1)
    varve_clock.advance(5)
    one, two = passed(breaker), passed(breaker)
    assert breaker.acquire() is None
    breaker.abandoned(one)
    three = passed(breaker)
    breaker.succeeded(two)
    assert (breaker.state, breaker.acquire()) == ("half-open", None)
    breaker.succeeded(three)
    assert breaker.state == "closed"


def test_calls_that_began_before_it_opened_say_nothing(breaker: varve.CircuitBreaker, varve_clock: ManualClock) -> None:
    """A slow success does not close it, a slow failure does not open it again."""
    slow = [passed(breaker) for _ in range(3)]
    fail(breaker, 3)
    breaker.succeeded(slow[0])
    assert breaker.state == "open"
    varve_clock.advance(10)
    breaker.failed(slow[1])
    breaker.abandoned(slow[2])
    assert breaker.state == "half-open"
    breaker.succeeded(passed(breaker))
    assert breaker.state == "closed"


def test_reset(breaker: varve.CircuitBreaker) -> None:
    """Somebody knows better."""
    fail(breaker, 3)
    breaker.reset()
    assert (breaker.state, breaker.failures) == ("closed", 0)


def test_as_a_guard(breaker: varve.CircuitBreaker, varve_clock: ManualClock) -> None:
    """``with breaker`` counts how blocks end; interrupts do not count."""
    for _ in range(3):
        with pytest.raises(OSError, match="down"), breaker:
            raise OSError("down")
    with pytest.raises(varve.BreakerOpen) as told, breaker:
        pytest.fail("it is open")
    assert told.value.wait_s == 10
    assert told.value.kind == "retryable"
    varve_clock.advance(10)
    with pytest.raises(KeyboardInterrupt), breaker:
        raise KeyboardInterrupt
    with breaker:
        assert breaker.acquire() is None
    assert breaker.state == "closed"


def test_guards_of_tasks_that_take_turns(varve_clock: ManualClock) -> None:
    """Each block ends the call that it began: here the trial succeeds, and an old call fails."""
    breaker = varve.CircuitBreaker(1, 10, clock=varve_clock)

    async def main() -> None:
        trying, tried = asyncio.Event(), asyncio.Event()

        async def old() -> None:
            with pytest.raises(ValueError, match="late"), breaker:
                await trying.wait()
                raise ValueError("late")

        async def trial() -> None:
            with breaker:
                trying.set()
                await tried.wait()

        first = asyncio.create_task(old())
        await asyncio.sleep(0)
        fail(breaker, 1)
        varve_clock.advance(10)
        second = asyncio.create_task(trial())
        await first
        assert breaker.state == "half-open"
        tried.set()
        await second

    asyncio.run(main())
    assert breaker.state == "closed"


def test_threads(varve_clock: ManualClock) -> None:
    """Of many that come at once, half-open, as many as may try do."""
    breaker = varve.CircuitBreaker(1, 1, trials=3, clock=varve_clock)
    fail(breaker, 1)
    varve_clock.advance(1)
    gate = threading.Barrier(16)
    found: list[int | None] = []

    def come() -> None:
        gate.wait()
        found.append(breaker.acquire())

    threads = [threading.Thread(target=come) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(ticket is not None for ticket in found) == 3


@pytest.mark.parametrize(
    "options", [{"failures": 0}, {"failures": True}, {"recovery_s": -1}, {"trials": 0}, {"clock": 5}, {"trials": 1.5}]
)
def test_bad_options(options: dict[str, Any]) -> None:
    """Said at once."""
    with pytest.raises(varve.errors.InvalidInput):
        varve.CircuitBreaker(**options)
