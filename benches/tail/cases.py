"""Tails: catching up, how soon a commit is with whoever waits, a thousand of them, and what waiting costs."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import varve
from benches.events import OrderPlaced, orders
from benches.goals import Goal
from benches.lines import Line, exact, speed_line
from benches.pairs import Measured, Side, compare, with_interval
from benches.replay.logs import read_amounts, reading
from benches.workspace import Workspace

_SPAWN = multiprocessing.get_context("spawn")
_PAUSE_S = 0.003  # between two commits: whoever waits is asleep again, and the poller is not relied on


async def amounts_of_tail(tail: AsyncIterator[Any], count: int) -> tuple[int, int]:
    """So many events of a tail, one field read: their number and the total of their amounts."""
    seen = total = 0
    async for one in tail:
        seen += 1
        total += one.event.amount
        if seen == count:
            break
    return seen, total


async def _amounts_in_batches(batches: AsyncIterator[list[Any]], count: int) -> tuple[int, int]:
    seen = total = 0
    async for batch in batches:
        for one in batch:
            total += one.event.amount
        seen += len(batch)
        if seen == count:
            break
    return seen, total


def catch_up(work: Workspace) -> Iterator[Line]:
    """A tail over a long history, against a plain replay."""
    count = work.size.events
    with reading(work.batched()) as (db, _):
        plain = Side("replay", lambda _: read_amounts(db.global_reader().iter_from()), lambda _, result: result)
        ways: tuple[tuple[str, Goal, Callable[[Any], Any]], ...] = (
            ("tail", Goal(at_least=0.6), lambda _: asyncio.run(amounts_of_tail(db.tail(), count))),
            (
                "tail in batches",
                Goal(at_least=0.6),
                lambda _: asyncio.run(_amounts_in_batches(db.tail().batches(), count)),
            ),
            ("follow", Goal(), lambda _: read_amounts(db.follow(timeout_s=0))),
        )
        for name, goal, run in ways:
            pair = compare(Side(name, run, lambda _, result: result), plain, rounds=work.size.rounds)
            what = f"{name}, one field read, against iter_from over {count:,} events"
            yield speed_line("tail/catch-up", what, "none", goal, pair, events=count)


# -- latency -------------------------------------------------------------------------------------------------------------


def _latency_lines(
    case: str, what: str, seconds: list[float], p50_us: float | None, p99_us: float | None
) -> Iterator[Line]:
    micros = sorted(one * 1e6 for one in seconds)
    yield Line(case, f"{what}, p50", "full", Goal(at_most=p50_us), with_interval(micros), "us")
    p99 = micros[min(len(micros) - 1, round(len(micros) * 0.99))]
    yield Line(case, f"{what}, p99", "full", Goal(at_most=p99_us), exact(p99), "us")


def _note_commits(db: varve.Varve, commits: list[int]) -> None:
    """From now on, when each commit was done: the moment at which it can be told to anybody."""
    engine: Any = db._engine  # noqa: SLF001 - the instant is inside a call
    notify = engine.notify

    def noted(next_sequence: int) -> None:
        commits.append(time.monotonic_ns())
        notify(next_sequence)

    engine._writer.on_committed = lambda: noted  # noqa: SLF001


def _between(commits: list[int], arrivals: list[int]) -> list[float]:
    return [(there - here) / 1e9 for here, there in zip(commits, arrivals, strict=True)]


async def _arrivals(db: varve.Varve, count: int, ready: Callable[[], object]) -> list[int]:
    arrivals: list[int] = []
    tail = db.tail(varve.END)
    waiting = asyncio.ensure_future(anext(tail))
    await asyncio.sleep(0.1)
    ready()
    await waiting
    arrivals.append(time.monotonic_ns())
    while len(arrivals) < count:
        await anext(tail)
        arrivals.append(time.monotonic_ns())
    return arrivals


def _append_slowly(db: varve.Varve, count: int) -> list[int]:
    stream, commits = db.stream("orders", OrderPlaced), []
    _note_commits(db, commits)
    for event in orders(count):
        stream.append(0, event)
        time.sleep(_PAUSE_S)
    return commits


def _other_process(path: Path, count: int, pipe: Connection) -> None:
    with varve.open(path) as db:
        db.stream("orders", OrderPlaced).append(1, orders(1)[0])  # warm
        pipe.send("ready")
        pipe.recv()
        pipe.send(_append_slowly(db, count))


def latency(work: Workspace) -> Iterator[Line]:
    """From the end of a commit to the event in the hands of a coroutine."""
    count = work.size.appends * 10
    with work.fresh() as path, varve.open(path) as db:
        db.stream("orders", OrderPlaced).append(1, orders(1)[0])
        commits: list[int] = []
        writer = threading.Thread(target=lambda: commits.extend(_append_slowly(db, count)))
        arrivals = asyncio.run(_arrivals(db, count, writer.start))
        writer.join()
        yield from _latency_lines("tail/latency", "commit to tail, one process", _between(commits, arrivals), 100, 500)
        yield from _latency_lines(
            "tail/latency", "bare call_soon_threadsafe", asyncio.run(_bare_calls(count)), None, None
        )
    with work.fresh() as path, varve.open(path) as db:
        ours, theirs = _SPAWN.Pipe()
        other = _SPAWN.Process(target=_other_process, args=(path, count, theirs), daemon=True)
        other.start()
        ours.recv()
        arrivals = asyncio.run(_arrivals(db, count, lambda: ours.send("go")))
        commits = ours.recv()
        other.join()
        yield from _latency_lines(
            "tail/latency", "commit to tail, two processes", _between(commits, arrivals), 150, 500
        )
        yield from _latency_lines(
            "tail/latency", "bare datagram, two processes", asyncio.run(_bare_datagrams(count)), None, None
        )


async def _bare_calls(count: int) -> list[float]:
    loop = asyncio.get_running_loop()
    arrived, seconds = asyncio.Event(), []

    def call() -> None:
        for _ in range(count):
            time.sleep(_PAUSE_S)
            loop.call_soon_threadsafe(note, time.monotonic_ns())

    def note(sent: int) -> None:
        seconds.append((time.monotonic_ns() - sent) / 1e9)
        if len(seconds) == count:
            arrived.set()

    thread = threading.Thread(target=call)
    thread.start()
    await arrived.wait()
    thread.join()
    return seconds


def _send_datagrams(path: str, count: int) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect(path)
        for _ in range(count):
            time.sleep(_PAUSE_S)
            out.send(str(time.monotonic_ns()).encode())


async def _bare_datagrams(count: int) -> list[float]:
    loop, seconds = asyncio.get_running_loop(), []
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        bound.bind(folder + "/hint")
        bound.setblocking(False)
        other = _SPAWN.Process(target=_send_datagrams, args=(folder + "/hint", count), daemon=True)
        other.start()
        for _ in range(count):
            sent = int(await loop.sock_recv(bound, 64))
            seconds.append((time.monotonic_ns() - sent) / 1e9)
        other.join()
    return seconds


# -- many ----------------------------------------------------------------------------------------------------------------


def thousand(work: Workspace) -> Iterator[Line]:
    """A commit for a thousand tails of one loop, and what they cost while nothing happens."""
    tails = min(1_000, work.size.events // 2)
    rounds = work.size.short_rounds
    with work.fresh() as path, varve.open(path) as db:
        stream = db.stream("orders", OrderPlaced)
        event = orders(1)[0]
        stream.append(0, event)
        commits: list[int] = []
        _note_commits(db, commits)

        async def measure() -> tuple[list[float], list[float], float]:
            loop = asyncio.get_running_loop()
            reached, arrivals, all_there = 0, [], asyncio.Event()

            async def one() -> None:
                nonlocal reached
                async for _ in db.tail(varve.END):
                    reached += 1
                    if reached % tails == 0:
                        arrivals.append(time.monotonic_ns())
                        all_there.set()

            tasks = [asyncio.create_task(one()) for _ in range(tails)]
            await asyncio.sleep(0.1)
            for _ in range(rounds):
                all_there.clear()
                await loop.run_in_executor(None, stream.append, 0, event)
                await all_there.wait()
            bare = [await _bare_wakes(tails) for _ in range(rounds)]
            await asyncio.sleep(1)
            began_s, began_cpu_s = time.monotonic(), time.process_time()
            await asyncio.sleep(work.size.rounds)
            share = (time.process_time() - began_cpu_s) / (time.monotonic() - began_s)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            return _between(commits, arrivals), bare, share

        reached_s, bare_s, share = asyncio.run(measure())
    yield _milliseconds(
        f"a commit reaches all of {tails:,} tails of one loop", Goal(at_most=15), with_interval(reached_s)
    )
    yield _milliseconds(f"bare: {tails:,} tasks woken by a future each", Goal(), with_interval(bare_s))
    yield Line(
        "tail/thousand",
        f"CPU of an idle store with {tails:,} tails",
        "none",
        Goal(at_most=1),
        exact(100 * share),
        "% of a core",
    )


def _milliseconds(what: str, goal: Goal, seconds: Measured) -> Line:
    figure = Measured(seconds.median * 1e3, seconds.low * 1e3, seconds.high * 1e3)
    return Line("tail/thousand", what, "full", goal, figure, "ms")


async def _bare_wakes(count: int) -> float:
    loop = asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(count)]

    async def wait(future: asyncio.Future[None]) -> None:
        await future

    tasks = [asyncio.create_task(wait(future)) for future in futures]
    await asyncio.sleep(0)
    began_s = time.perf_counter()
    for future in futures:
        future.set_result(None)
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.gather(*tasks)
    return time.perf_counter() - began_s


CASES = {"tail/catch-up": catch_up, "tail/latency": latency, "tail/thousand": thousand}
