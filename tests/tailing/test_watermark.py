"""The watermark and its waiters, scheduled by hand."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, multiple, precondition, rule
from tailing_models import ManualLoop

from varve.errors import StoreClosed
from varve.tailing.watermark import Watermark

TARGETS = st.integers(1, 40)


class Waiters(RuleBasedStateMachine):
    """Two loops and a mark: whatever the order of rises, waits, cancellations and turns of the loops, who is reached is
    woken, who is not is left alone, and nothing is left behind."""

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.needed = 0
        self.mark = Watermark(self.need)
        self.loops = [ManualLoop(), ManualLoop()]
        self.turns = [0, 0]
        self.pending: dict[asyncio.Task[Any], tuple[int, int]] = {}
        self.failed = False

    def need(self) -> None:
        self.needed += 1

    @rule(target=tasks, loop=st.sampled_from([0, 1]), wanted=TARGETS)
    def wait(self, loop: int, wanted: int) -> asyncio.Task[Any]:
        task = self.loops[loop].task(self.mark.wait(wanted))
        self.pending[task] = (loop, wanted)
        return task

    @rule(next_sequence=TARGETS)
    def rise(self, next_sequence: int) -> None:
        before = self.mark.value
        self.mark.rise(next_sequence)
        assert self.mark.value == max(before, next_sequence)

    @rule(target=tasks, task=consumes(tasks))
    def cancel(self, task: asyncio.Task[Any]) -> Any:
        task.cancel()
        return multiple()

    @precondition(lambda self: any(loop.ready for loop in self.loops))
    @rule(loop=st.sampled_from([0, 1]))
    def turn(self, loop: int) -> None:
        if self.loops[loop].ready:
            self.loops[loop].run_one()
        self.settle()

    @rule()
    def run_all(self) -> None:
        for loop in self.loops:
            loop.run_all()
        self.settle()
        for task, (_, wanted) in self.pending.items():
            assert wanted > self.mark.value, task
            assert not self.failed
        assert self.mark.waiting == len(self.pending)

    @precondition(lambda self: not self.failed)
    @rule(really=st.integers(0, 9))
    def fail(self, really: int) -> None:
        if not really:
            self.failed = True
            self.mark.fail(lambda: StoreClosed("closed"))

    def settle(self) -> None:
        for task in [task for task in self.pending if task.done()]:
            _, wanted = self.pending.pop(task)
            if task.cancelled():
                continue
            if isinstance(task.exception(), StoreClosed):
                assert self.failed
            else:
                assert wanted <= task.result() <= self.mark.value

    @invariant()
    def at_most_one_call_is_under_way_in_a_loop(self) -> None:
        for loop in self.loops:
            assert sum(callback == self.mark._wake_loop for _, callback, _ in loop.ready) <= 1

    def teardown(self) -> None:
        for task in self.pending:
            task.cancel()
        for loop in self.loops:
            loop.run_all()
        assert self.mark.waiting == 0
        assert all(not waiters._heap for waiters in self.mark._each)


Waiters.TestCase.settings = settings(max_examples=200, stateful_step_count=40, deadline=None)
TestWaiters = Waiters.TestCase


def waiting(loop: ManualLoop, mark: Watermark, targets: list[int]) -> list[asyncio.Task[Any]]:
    tasks = [loop.task(mark.wait(target)) for target in targets]
    loop.run_all()
    return tasks


def test_ten_thousand_waiters_cost_one_call_into_the_loop_per_commit() -> None:
    """And who is not reached is not woken: its future stays as it was."""
    mark, loop = Watermark(), ManualLoop()
    tasks = waiting(loop, mark, [1 + n % 10 for n in range(10_000)])
    for value in range(1, 11):
        loop.calls = 0
        mark.rise(value)
        mark.rise(value)
        assert loop.calls == 1
        loop.run_one()
        assert len(loop.ready) == 1_000  # one wake-up per task that is reached
        loop.run_all()
        assert sum(task.done() for task in tasks) == 1_000 * value
    assert mark.waiting == 0


def test_a_rise_that_reaches_nobody_wakes_nobody() -> None:
    mark, loop = Watermark(), ManualLoop()
    [task] = waiting(loop, mark, [10])
    mark.rise(9)
    assert not loop.calls
    task.cancel()
    loop.run_all()


def test_cancelled_waiters_do_not_pile_up() -> None:
    """One waits for ever while a thousand come and go."""
    mark, loop = Watermark(), ManualLoop()
    [task] = waiting(loop, mark, [10**6])
    for _ in range(1_000):
        [gone] = waiting(loop, mark, [10**6])
        gone.cancel()
        loop.run_all()
    [waiters] = mark._each
    assert waiters.live == mark.waiting == 1
    assert len(waiters._heap) < 100
    task.cancel()
    loop.run_all()
    assert not waiters._heap


def test_a_loop_that_ended_is_forgotten() -> None:
    """Also with somebody still waiting in it: the next rise finds it closed."""
    mark, loop = Watermark(), ManualLoop()
    [task] = waiting(loop, mark, [1])
    gone = weakref.ref(loop)
    loop.closed = True
    mark.rise(1)
    assert mark._each == ()
    assert mark.waiting == 0
    loop.closed = False
    task.cancel()
    loop.run_all()
    del loop, task
    gc.collect()
    assert gone() is None


def test_a_loop_is_not_kept_alive() -> None:
    mark = Watermark()

    async def wait_a_turn() -> None:
        task = asyncio.ensure_future(mark.wait(1))
        await asyncio.sleep(0)
        task.cancel()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(wait_a_turn())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    gone = weakref.ref(loop)
    del loop
    gc.collect()
    assert gone() is None


def test_threads_wait_beside_loops() -> None:
    """Each is woken when its own sequence is reached."""
    registered = threading.Semaphore(0)
    mark = Watermark(registered.release)
    done: list[int] = []

    def wait(target: int) -> None:
        assert mark.wait_blocking(target, None)
        done.append(target)

    threads = [threading.Thread(target=wait, args=(target,)) for target in (1, 2, 3)]
    for thread in threads:
        thread.start()
        registered.acquire()
    assert mark.waiting == 3
    mark.rise(2)
    threads[0].join()
    threads[1].join()
    assert sorted(done) == [1, 2]
    mark.rise(3)
    threads[2].join()
    assert done[2] == 3
    assert mark.waiting == 0


def test_a_thread_that_gives_up_leaves_nothing() -> None:
    mark = Watermark()
    for _ in range(1_000):
        assert not mark.wait_blocking(1, 0)
    assert mark.waiting == 0
    assert not mark._threads._heap
    mark.rise(1)
    assert mark.wait_blocking(1, 0)


def test_a_failed_mark_refuses_threads() -> None:
    registered = threading.Semaphore(0)
    mark = Watermark(registered.release)
    errors: list[BaseException] = []

    def wait() -> None:
        try:
            mark.wait_blocking(1, None)
        except StoreClosed as exc:
            errors.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    registered.acquire()
    mark.fail(lambda: StoreClosed("closed"))
    thread.join()
    assert len(errors) == 1
    with pytest.raises(StoreClosed):
        mark.wait_blocking(1, None)


def test_who_waits_registers_before_it_looks() -> None:
    """A commit between the two is not missed: here it comes while the waiter registers."""
    mark, loop = Watermark(), ManualLoop()
    create = loop.create_future

    def commit_meanwhile() -> asyncio.Future[Any]:
        mark.rise(1)
        return create()

    loop.create_future = commit_meanwhile  # type: ignore[method-assign]
    [task] = waiting(loop, mark, [1])
    assert task.result() == 1
