"""The watcher, in one process."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tailing_models import Placed, Shipped

import varve
from varve.tailing.hub import hub_of

Orders = varve.Stream[Placed | Shipped]


def test_it_says_how_far_the_log_reaches(db: varve.Varve, orders: Orders) -> None:
    watcher = db.watcher()
    assert watcher.next_global_sequence == 0
    orders.append_batch(1, [Placed(n) for n in range(5)])
    assert watcher.next_global_sequence == 5
    assert watcher.wait(4) == 5
    assert asyncio.run(watcher.wait_for_global_seq(0)) == 5
    assert db.path in repr(watcher)


def test_it_waits_for_a_commit(db: varve.Varve, orders: Orders) -> None:
    """A coroutine, and a thread, each until its own sequence is there."""

    async def main() -> None:
        watcher = db.watcher()
        early, late = (asyncio.create_task(watcher.wait_for_global_seq(sequence)) for sequence in (0, 2))
        thread = asyncio.create_task(asyncio.to_thread(watcher.wait, 1))
        await asyncio.sleep(0)
        await asyncio.to_thread(orders.append, 1, Placed(0))
        assert await early == 1
        assert not late.done()
        orders.append(1, Placed(1))
        assert await thread == 2
        orders.append_batch(1, [Placed(2), Placed(3)])
        assert await late == 4

    asyncio.run(main())
    assert hub_of(db._engine).watermark.waiting == 0


def test_several_loops_wait_at_once(db: varve.Varve, orders: Orders) -> None:
    """Each in a thread of its own, a hundred waiters each."""
    watcher = db.watcher()
    started = threading.Barrier(5)
    results: list[list[int]] = []

    async def wait() -> None:
        tasks = [asyncio.create_task(watcher.wait_for_global_seq(n % 4)) for n in range(100)]
        await asyncio.sleep(0)
        started.wait()
        results.append(await asyncio.gather(*tasks))

    threads = [threading.Thread(target=asyncio.run, args=(wait(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    started.wait()
    for n in range(4):
        orders.append(1, Placed(n))
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(value > n % 4 for values in results for n, value in enumerate(values))
    assert hub_of(db._engine).watermark.waiting == 0


def test_a_commit_makes_one_call_into_a_loop(db: varve.Varve, orders: Orders, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many coroutines wait in it."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        hub = hub_of(db._engine)
        tasks = [asyncio.create_task(db.watcher().wait_for_global_seq(n % 2)) for n in range(10_000)]
        await asyncio.sleep(0)
        calls = 0
        original = loop.call_soon_threadsafe

        def counted(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += args[0] == hub.watermark._wake_loop
            return original(*args, **kwargs)

        monkeypatch.setattr(loop, "call_soon_threadsafe", counted)
        orders.append(1, Placed(0))
        await asyncio.gather(*tasks[::2])
        assert calls == 1
        assert not any(task.done() for task in tasks[1::2])
        orders.append(1, Placed(1))
        await asyncio.gather(*tasks[1::2])
        assert calls == 2

    asyncio.run(main())


def test_a_cancelled_wait_leaves_nothing(db: varve.Varve, orders: Orders) -> None:
    async def main() -> None:
        task = asyncio.create_task(db.watcher().wait_for_global_seq(0))
        await asyncio.sleep(0)
        assert hub_of(db._engine).watermark.waiting == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert hub_of(db._engine).watermark.waiting == 0
        orders.append(1, Placed(0))

    asyncio.run(main())


def test_a_loop_may_end_first(db: varve.Varve, orders: Orders) -> None:
    """With a task in it that nobody awaited: the commit that follows does not mind."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(db.watcher().wait_for_global_seq(0))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    orders.append(1, Placed(0))
    assert db.watcher().wait(0) == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined] - it was meant


@pytest.mark.parametrize("how", ["close", "with"])
def test_closing_the_store_ends_every_wait(varve_path: Path, how: str) -> None:
    """With ``StoreClosed``, in loops and threads; afterwards nobody can begin to."""

    async def main() -> None:
        with varve.open(varve_path) as db:
            watcher = db.watcher()
            task = asyncio.create_task(watcher.wait_for_global_seq(0))
            thread = asyncio.create_task(asyncio.to_thread(watcher.wait, 0))
            while hub_of(db._engine).watermark.waiting < 2:  # noqa: ASYNC110 - one of them is a thread
                await asyncio.sleep(0)
            if how == "close":
                await asyncio.to_thread(db.close)
        for waiting in (task, thread):
            with pytest.raises(varve.StoreClosed):
                await waiting
        with pytest.raises(varve.StoreClosed):
            await watcher.wait_for_global_seq(0)
        with pytest.raises(varve.StoreClosed):
            watcher.wait(0)
        with pytest.raises(varve.StoreClosed):
            _ = watcher.next_global_sequence

    asyncio.run(main())
    assert not [thread for thread in threading.enumerate() if str(varve_path) in thread.name and not _ends(thread)]


def _ends(thread: threading.Thread) -> bool:
    thread.join(10)
    return not thread.is_alive()


def test_a_timeout_is_an_error_of_its_own(db: varve.Varve) -> None:
    with pytest.raises(varve.WaitTimeout) as caught:
        db.watcher().wait(7, timeout_s=0)
    assert isinstance(caught.value, TimeoutError)
    assert (caught.value.global_sequence, caught.value.timeout_s) == (7, 0)
    assert hub_of(db._engine).watermark.waiting == 0


@pytest.mark.parametrize("sequence", [-1, True, 1.0, "1", None])
def test_a_sequence_that_is_none_is_refused(db: varve.Varve, sequence: Any) -> None:
    with pytest.raises(varve.InvalidInput):
        db.watcher().wait(sequence)
    with pytest.raises(varve.InvalidInput):
        asyncio.run(db.watcher().wait_for_global_seq(sequence))


@pytest.mark.parametrize("timeout_s", [-1, True, "1", float("nan")])
def test_a_timeout_that_is_none_is_refused(db: varve.Varve, timeout_s: Any) -> None:
    with pytest.raises(varve.InvalidInput):
        db.watcher().wait(0, timeout_s)
    with pytest.raises(varve.InvalidInput):
        db.follow(timeout_s=timeout_s)


def test_an_aborted_commit_wakes_nobody(db: varve.Varve, orders: Orders) -> None:
    """Nor does an empty one."""
    hub = hub_of(db._engine)
    orders.append(1, Placed(0))
    assert hub.watermark.value == 1
    orders.append_batch(1, [])
    with pytest.raises(varve.WrongExpectedVersion):
        orders.append(1, Placed(1), expected=7)
    with pytest.raises(ZeroDivisionError):
        db.write(lambda tx: (tx.append(orders, 1, Placed(1)), 1 / 0))
    assert hub.watermark.value == 1
    db.write(lambda tx: tx.append(orders, 1, Placed(1)))
    with db.transaction() as tx:
        tx.append(orders, 1, Placed(2))
    assert hub.watermark.value == 3


def in_a_child(use: Callable[[], object]) -> type[varve.ForkedStore] | None:
    """What a use raises after a fork, if that is what it should raise."""
    pid = os.fork()
    if not pid:
        try:
            use()
        except varve.ForkedStore:
            os._exit(7)
        os._exit(1)
    return varve.ForkedStore if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 7 else None


def test_the_child_of_a_fork_is_refused(db: varve.Varve, orders: Orders) -> None:
    """And the parent's waiters wait on."""

    async def main() -> None:
        watcher = db.watcher()
        task = asyncio.create_task(watcher.wait_for_global_seq(0))
        await asyncio.sleep(0)
        assert in_a_child(lambda: watcher.wait(0)) is varve.ForkedStore
        orders.append(1, Placed(0))
        assert await task == 1

    asyncio.run(main())


def test_no_wait_of_an_inherited_handle_hangs(db: varve.Varve, orders: Orders) -> None:
    """Neither of a tail that is up to date, nor of a thread's."""
    orders.append(1, Placed(0))
    tail, follow = db.tail(), db.follow()

    async def step() -> None:
        await anext(tail)

    asyncio.run(step())
    next(follow)
    assert in_a_child(lambda: asyncio.run(step())) is varve.ForkedStore
    assert in_a_child(lambda: next(follow)) is varve.ForkedStore


def test_a_store_that_could_not_be_closed_is_watched_on(varve_path: Path) -> None:
    """``ViewsStillAlive``: who waits goes on waiting, with a poller."""
    with varve.open(varve_path) as db:
        orders = db.stream("orders", Placed | Shipped)
        orders.append(1, Placed(0))
        view = orders.reader().get_bytes(1, 0)

        async def main() -> None:
            task = asyncio.create_task(db.watcher().wait_for_global_seq(1))
            await asyncio.sleep(0)
            with pytest.raises(varve.ViewsStillAlive):
                db.close()
            poller = hub_of(db._engine)._poller
            assert poller._thread is not None
            assert poller._thread.is_alive()
            orders.append(1, Placed(1))
            assert await task == 2

        asyncio.run(main())
        del view


def test_a_sequence_that_no_log_reaches_is_waited_for_all_the_same(varve_path: Path) -> None:
    """Until the store closes."""

    async def main() -> None:
        with varve.open(varve_path) as db:
            orders = db.stream("orders", Placed | Shipped)
            orders.append(1, Placed(0))
            starts = (db.tail(10**100), orders.tail(10**100), orders.tail(10**100, stream_id=1))
            tasks = [asyncio.ensure_future(anext(tail)) for tail in starts]
            tasks.append(asyncio.ensure_future(db.watcher().wait_for_global_seq(10**100)))
            await asyncio.sleep(0)
            orders.append(1, Placed(1))
            await asyncio.sleep(0)
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert isinstance(ended, varve.StoreClosed)

    asyncio.run(main())


def test_closing_leaves_nobody_inside(varve_path: Path) -> None:
    """However busy the poller was: the store can be opened in another mode at once."""
    for turn in range(20):
        with varve.open(varve_path, durability="full" if turn % 2 else "relaxed") as db:
            asyncio.run(_begin_to_wait(db))


async def _begin_to_wait(db: varve.Varve) -> None:
    task = asyncio.create_task(db.watcher().wait_for_global_seq(10**6))
    await asyncio.sleep(0)
    assert hub_of(db._engine)._poller._thread is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def test_a_forgotten_watcher_does_not_keep_the_interpreter(tmp_path: Path) -> None:
    """Nor the store's end: what was waited for never came, nothing was closed, and the process ends at once and cleanly."""
    script = textwrap.dedent(f"""
        import asyncio, varve
        db = varve.open({str(tmp_path / "store")!r})
        async def main():
            try:
                await asyncio.wait_for(db.watcher().wait_for_global_seq(0), 0.01)
            except TimeoutError:
                print("waited")
        asyncio.run(main())
    """)
    ended = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", script],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert ended.stdout == "waited\n"
    assert not ended.stderr
    assert not list((tmp_path / "store" / "watch").iterdir())
