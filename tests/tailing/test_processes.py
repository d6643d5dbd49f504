"""Tails of one process, writers and watchers in others, kills in between."""

from __future__ import annotations

import asyncio
import random
import signal
import subprocess
from pathlib import Path

import pytest
from tailing_models import Placed, Shipped, is_watching, process, take, tell, told

import varve
from varve.testing import assert_sound

WRITER = """
import random
with varve.open(sys.argv[1], durability="relaxed") as db:
    orders = db.stream("orders", Placed | Shipped)
    choose = random.Random(int(sys.argv[2]))
    say("ready")
    while True:
        count = choose.randrange(1, 30)
        number = db.next_global_sequence
        if choose.random() < 0.5:
            orders.append(choose.randrange(5), Placed(number))
        else:
            orders.append_many([(choose.randrange(5), Shipped(number + n)) for n in range(count)])
"""

WATCHER = """
import asyncio
async def main():
    with varve.open(sys.argv[1], readonly=True) as db:
        tail = db.tail(int(sys.argv[2]))
        waiting = asyncio.ensure_future(anext(tail))
        while not is_watching(sys.argv[1]):
            await asyncio.sleep(0)
        say("watching")
        say((await waiting).global_sequence)
        async for recorded in tail:
            say(recorded.global_sequence)
asyncio.run(main())
"""


def kill(running: subprocess.Popen[str]) -> None:
    running.send_signal(signal.SIGKILL)
    running.wait()


def made(path: Path) -> Path:
    """A store with one event."""
    with varve.open(path, durability="relaxed") as db:
        db.stream("orders", Placed | Shipped).append(1, Placed(0))
    return path


def test_a_tail_keeps_running_while_writers_come_and_go(varve_path: Path) -> None:
    """Killed with -9 wherever they are: the log as the tail gave it is the log."""
    seed = random.randrange(2**32)
    choose = random.Random(seed)

    async def main() -> None:
        with varve.open(made(varve_path), durability="relaxed") as db:
            tail = db.tail()
            got = await take(tail, 1)
            for life in range(4):
                with process(WRITER, varve_path, seed + life) as writer:
                    assert told(writer) == "ready", seed
                    got += await take(tail, choose.randrange(20, 200))
                    kill(writer)
            got += await take(tail, db.next_global_sequence - len(got)) if db.next_global_sequence > len(got) else []
            assert got == list(db.global_reader().iter_from()), seed

    asyncio.run(main())
    assert_sound(varve_path)


def test_a_follow_keeps_running_too(varve_path: Path) -> None:
    """In a thread, without a loop; it ends when nothing comes any more."""
    with varve.open(made(varve_path), durability="relaxed") as db:
        follow = db.follow()
        got = [next(follow)]
        with process(WRITER, varve_path, 1) as writer:
            assert told(writer) == "ready"
            got += [next(follow) for _ in range(100)]
            kill(writer)
        got += db.follow(follow.position, timeout_s=0)
        assert got == list(db.global_reader().iter_from())


def test_watchers_in_several_processes_learn_of_each_commit(varve_path: Path) -> None:
    """Readonly ones too; a killed one leaves a socket that the next commit sweeps, and harms nobody."""
    made(varve_path)
    with (
        varve.open(varve_path, durability="relaxed") as db,
        process(WATCHER, varve_path, 1) as first,
        process(WATCHER, varve_path, 1) as second,
    ):
        orders = db.stream("orders", Placed | Shipped)
        assert told(first) == told(second) == "watching"
        for n in range(1, 6):
            orders.append(1, Placed(n))
            assert told(first) == told(second) == str(n)
        kill(first)
        assert len(list((varve_path / "watch").iterdir())) == 2
        for n in range(6, 10):
            orders.append(1, Placed(n))
            assert told(second) == str(n)
        assert len(list((varve_path / "watch").iterdir())) == 1


def test_a_hint_that_is_lost_costs_no_event(varve_path: Path) -> None:
    """A writer that never sends one: polling finds every commit."""
    silent = "import varve.engine.hints as hints; hints.HintSender.send = lambda self: None\nrun_writer()"
    with varve.open(made(varve_path), durability="relaxed") as db, process(silent, varve_path) as writer:

        async def main() -> None:
            tail = db.tail(varve.END)
            for n in range(1, 6):
                waiting = asyncio.ensure_future(anext(tail))
                await asyncio.sleep(0)
                tell(writer)
                assert (await waiting).global_sequence == n
                assert told(writer) == str(n)

        asyncio.run(main())


def test_a_hint_wakes_a_poller_that_would_sleep_for_ever(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Polling as good as switched off: what comes, comes by hints."""
    monkeypatch.setattr(varve.limits, "POLL_ACTIVE_INTERVAL_S", 3600.0)
    monkeypatch.setattr(varve.limits, "POLL_IDLE_INTERVAL_S", 3600.0)
    with varve.open(made(varve_path), durability="relaxed") as db, process("run_writer()", varve_path) as writer:

        async def main() -> None:
            tail = db.tail(varve.END)
            waiting = asyncio.ensure_future(anext(tail))
            while not is_watching(varve_path):  # noqa: ASYNC110 - a thread begins to
                await asyncio.sleep(0)
            for n in range(1, 6):
                tell(writer)
                assert (await waiting).global_sequence == n
                waiting = asyncio.ensure_future(anext(tail))
                await asyncio.sleep(0)
            waiting.cancel()

        asyncio.run(main())


def test_a_store_that_was_watched_is_sound_and_can_be_rebuilt(tmp_path: Path) -> None:
    """The folder of sockets is no part of it."""
    path = made(tmp_path / "store")
    with varve.open(path, durability="relaxed") as db, process(WATCHER, path, 1) as watcher:
        assert told(watcher) == "watching"
        kill(watcher)
        db.stream("orders", Placed | Shipped).append(1, Placed(1))
    assert (path / "watch").is_dir()
    assert varve.ops.verify(path).sound
    assert varve.ops.repair(path, tmp_path / "rebuilt").events == 2
