"""Group commit: many who append at once, against one who does so in turn."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import varve
from benches.events import OrderPlaced, checksum, orders
from benches.goals import GOALS, Goal
from benches.lines import Line, cost_line, speed_line
from benches.pairs import Measured, Side, compare, with_interval
from benches.workspace import Workspace

CASE = "append/concurrent"

Stream = varve.Stream[OrderPlaced]
Opened = tuple[varve.Varve, Stream]


class _Load:
    """So many callers, each with a stream of its own and the same number of events for it."""

    def __init__(self, work: Workspace) -> None:
        self.work = work
        full = work.size.events >= 100_000
        self.callers = 512 if full else 16
        self.each = max(1, work.size.appends * 2 // 5)
        self.window_s = 1.0 if full else 0.02
        self.count = self.callers * self.each
        self.events = orders(max(self.count, work.size.events))[: self.count]
        self.latencies_s: list[float] = []
        self.cpu_us: list[float] = []

    def of(self, caller: int) -> list[OrderPlaced]:
        """The events of a caller."""
        return self.events[caller * self.each : (caller + 1) * self.each]

    @contextlib.contextmanager
    def opened(self) -> Iterator[Opened]:
        """A durable store in which every caller's stream exists."""
        with self.work.fresh() as path:
            with varve.open(path, durability="bulk") as db:
                first = self.events[0]
                db.stream("orders", OrderPlaced).append_many([(caller, first) for caller in range(self.callers)])
            with varve.open(path) as db:
                stream = db.stream("orders", OrderPlaced)
                stream.append(0, self.events[0])  # the writer knows the store's end from here on
                yield db, stream

    def side(self, name: str, run: Callable[[Stream], Any]) -> Side:
        """A side whose checksum is every stream's events in their order."""

        def found(state: Opened, _: Any) -> object:
            reader = state[1].reader()
            return [
                checksum(one.raw for one in reader.iter_stream(caller, 1 + (caller == 0)))
                for caller in range(self.callers)
            ]

        return Side(name, lambda state: run(state[1]), found, self.opened)

    # -- who appends -------------------------------------------------------------------------------

    def together(self, stream: Stream) -> None:
        """A task for each caller; what each await took, and what all cost, is noted."""
        began = time.process_time()
        asyncio.run(self._together(stream))
        self.cpu_us.append((time.process_time() - began) / self.count * 1e6)

    async def _together(self, stream: Stream) -> None:
        async def caller(number: int) -> None:
            for event in self.of(number):
                began = time.perf_counter()
                await stream.append_async(number, event)
                self.latencies_s.append(time.perf_counter() - began)

        await asyncio.gather(*map(caller, range(self.callers)))

    def plainly(self, stream: Stream) -> None:
        """As ``together``, without a clock in the way."""

        async def caller(number: int) -> None:
            for event in self.of(number):
                await stream.append_async(number, event)

        asyncio.run(_all(map(caller, range(self.callers))))

    def in_turn(self, stream: Stream) -> None:
        """One task for all."""

        async def one() -> None:
            for number in range(self.callers):
                for event in self.of(number):
                    await stream.append_async(number, event)

        asyncio.run(one())

    def by_threads(self, stream: Stream, threads: int) -> None:
        """Threads that share the callers' work."""

        def run(which: int) -> None:
            for number in range(which, self.callers, threads):
                for event in self.of(number):
                    stream.append(number, event)

        started = [threading.Thread(target=run, args=(which,)) for which in range(threads)]
        for thread in started:
            thread.start()
        for thread in started:
            thread.join()

    async def in_window(self, stream: Stream) -> list[int]:
        """How many appends each task got through while a window was open."""
        counts = [0] * self.callers
        until = time.perf_counter() + self.window_s

        async def caller(number: int) -> None:
            while time.perf_counter() < until:
                await stream.append_async(number, self.events[number])
                counts[number] += 1

        await asyncio.gather(*map(caller, range(self.callers)))
        return counts


async def _all(calls: Iterator[Coroutine[Any, Any, None]]) -> None:
    await asyncio.gather(*calls)


@contextlib.contextmanager
def _busy_thread() -> Iterator[None]:
    """One thread that computes all the while."""
    ends = False

    def compute() -> None:
        number = 0
        while not ends:
            number = (number * 31 + 7) % 1_000_003

    thread = threading.Thread(target=compute)
    thread.start()
    try:
        yield
    finally:
        ends = True
        thread.join()


def append_async(work: Workspace) -> Iterator[Line]:
    """``append_async`` from many tasks: throughput, CPU, latency, fairness; sync threads for comparison."""
    load = _Load(work)
    rounds = work.size.rounds
    tasks = f"{load.callers} tasks"
    pair = compare(load.side(tasks, load.plainly), load.side("one task", load.in_turn), rounds=rounds)
    what = f"{tasks} that append single events against one task that does so in turn"
    yield speed_line(CASE, what, "full", GOALS["concurrent"], pair, events=load.count)

    alone = load.side("alone", load.together)
    for number in range(-1, rounds):
        if number == 0:
            load.cpu_us.clear()
            load.latencies_s.clear()
        with alone.setup() as state:
            alone.run(state)
    cpu = with_interval(load.cpu_us)
    yield Line(CASE, f"CPU of all threads per append, {tasks}", "full", GOALS["concurrent-cpu"], cpu, "us")
    yield _latencies(load, f"an await's time, {tasks}, median")

    with load.opened() as (db, stream):
        counts = asyncio.run(load.in_window(stream))
        assert db.next_global_sequence == sum(counts) + load.callers + 1
    low, high = min(counts), max(counts)
    shares = Measured(high / max(low, 1), high / max(low, 1), high / max(low, 1))
    what = f"most against fewest appends of a task in {load.window_s:g} s (from {low} to {high})"
    yield Line(CASE, what, "full", Goal(), shares, "x as many")

    load.latencies_s.clear()
    with _busy_thread():
        for _ in range(rounds):
            with alone.setup() as state:
                alone.run(state)
    yield _latencies(load, f"the same beside a CPU-bound thread, {tasks}, median")

    single = load.side("1 thread", lambda stream: load.by_threads(stream, 1))
    for threads in (8, 32):
        many = load.side(f"{threads} threads", lambda stream, threads=threads: load.by_threads(stream, threads))
        pair = compare(many, single, rounds=max(1, rounds // 2))
        what = f"sync appends of {threads} threads against one thread"
        yield speed_line(CASE, what, "full", Goal(), pair, events=load.count)
    once = load.side("in turn", load.in_turn)
    pair = compare(once, single, rounds=max(1, rounds // 2))
    yield cost_line(CASE, "one task in turn against one thread", "full", Goal(), pair, events=load.count)


def _latencies(load: _Load, what: str) -> Line:
    """Percentiles of the awaits; the figure is the median."""
    micros = sorted(seconds * 1e6 for seconds in load.latencies_s)
    p50, p99, p999 = (micros[min(len(micros) - 1, int(len(micros) * part))] for part in (0.5, 0.99, 0.999))
    detail = f"p99 {p99:.0f} us, p99.9 {p999:.0f} us, longest {micros[-1]:.0f} us"
    return Line(CASE, what, "full", Goal(), Measured(p50, micros[0], micros[-1]), "us", detail)


CASES = {CASE: append_async}
