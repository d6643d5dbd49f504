"""The soak's processes: ``main`` with the arguments NAME STORE FOLDER SEED LIFE WHEN.

Writers, tails, a consumer and a reader that holds snapshots may be killed at any time; the next life goes on from what the
last one noted in FOLDER. ``steady`` does a bit of everything and is never killed: what it takes of memory and descriptors
is measured. Writers and readers end when they are asked to, tails and the consumer at the runner's last events.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import random
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import varve
from torture.soak.rows import (
    ASYNC,
    BATCHES,
    FOLLOWED_ID,
    LAST,
    SOLE,
    STEADY,
    TRANSACTIONS,
    TYPES,
    Ack,
    Acks,
    Paid,
    Placed,
    Row,
    Rows,
    Shipped,
    row_of,
)

STOP = "stop"
"""The file whose being there asks writers to end."""

CALLERS = 24
IDS = 7


class Process:
    """What a process was told."""

    def __init__(self, arguments: list[str]) -> None:
        self.name, store, folder, self.seed, life, when = arguments
        self.store = Path(store)
        self.folder = Path(folder)
        self.life = int(life)
        self.when = dt.datetime.fromisoformat(when)
        self.choose = random.Random(f"{self.seed}/{self.name}/{life}")

    @property
    def stopping(self) -> bool:
        """Whether writers shall end."""
        return (self.folder / STOP).exists()

    def pause_s(self) -> float:
        """Mostly none: bursts, and silences in which a tail reaches the end and waits."""
        return self.choose.random() * 0.05 if self.choose.random() < 0.1 else 0.0


def filler(choose: random.Random) -> str:
    """A text, mostly short."""
    return "x" * (choose.randrange(2_000) if choose.random() < 0.05 else choose.randrange(20))


def order(choose: random.Random, *facts: int) -> Placed | Shipped:
    """An event of one of two types; ``facts`` are its fields but the last, in their order."""
    writer, life, caller, number, part, of = facts
    made = choose.choice((Placed, Shipped))
    return made(writer, life, caller, number, part, of, filler(choose))


# -- writers ---------------------------------------------------------------------------------------


def write_singly(process: Process) -> None:
    """One event per commit, with a key: a new life repeats what the last one was not told of."""
    acks = Acks(process.folder / f"{process.name}.acks")
    with varve.open(process.store, durability="relaxed") as db:
        orders = db.stream("orders", Placed | Shipped)
        number = 0 if acks.last_ack is None else acks.last_ack.number + 1
        while not process.stopping:
            choose = random.Random(f"{process.seed}/{number}")
            event = order(choose, SOLE, 0, 0, number, 0, 1)
            position = orders.append(choose.randrange(IDS), event, idempotency_key=f"single/{number}")
            acks.add(Ack(0, 0, number, position.global_sequence))
            number += 1
            time.sleep(process.pause_s())


def write_batches(process: Process) -> None:
    """Several events per commit, without a key: what a life was not told of is written or not."""
    acks = Acks(process.folder / f"{process.name}.acks")
    choose = process.choose
    with varve.open(process.store, durability="relaxed") as db:
        orders = db.stream("orders", Placed | Shipped)
        number = 0
        while not process.stopping:
            of = choose.randrange(1, 40)
            events = [order(choose, BATCHES, process.life, 0, number, part, of) for part in range(of)]
            if choose.random() < 0.5:
                span = orders.append_batch(choose.randrange(IDS), events)
            else:
                span = orders.append_many([(choose.randrange(IDS), event) for event in events])
            acks.add(Ack(process.life, 0, number, span[0].global_sequence))
            number += 1
            time.sleep(process.pause_s() * 3)


def write_transactions(process: Process) -> None:
    """Commits over two streams, with a key."""
    acks = Acks(process.folder / f"{process.name}.acks")
    with varve.open(process.store, durability="relaxed") as db:
        orders, payments = db.stream("orders", Placed | Shipped), db.stream("payments", Paid)
        number = 0 if acks.last_ack is None else acks.last_ack.number + 1
        while not process.stopping:
            choose = random.Random(f"{process.seed}/{number}")
            of = choose.randrange(2, 9)
            with db.transaction(idempotency_key=f"transaction/{number}") as tx:
                tx.append(payments, choose.randrange(IDS), Paid(TRANSACTIONS, 0, 0, number, 0, of, filler(choose)))
                batch = [order(choose, TRANSACTIONS, 0, 0, number, part, of) for part in range(1, of)]
                tx.append_batch(orders, choose.randrange(IDS), batch)
            first = tx.positions[0]
            assert isinstance(first, varve.Position)
            acks.add(Ack(0, 0, number, first.global_sequence))
            number += 1
            time.sleep(process.pause_s())


async def write_async(process: Process) -> None:
    """Many tasks that share commits; some of their appends are handed in together, some are cancelled."""
    acks = Acks(process.folder / f"{process.name}.acks")
    with varve.open(process.store) as db:
        orders, payments = db.stream("orders", Placed | Shipped), db.stream("payments", Paid)

        async def append(caller: int, number: int) -> None:
            choose = process.choose
            kind, stream_id = choose.randrange(4), choose.randrange(IDS)
            of = 1 if kind == 0 else choose.randrange(2, 6)
            facts = (ASYNC, process.life, caller, number)
            events = [order(choose, *facts, part, of) for part in range(of)]
            if kind == 0:
                sequence = (await orders.append_async(stream_id, events[0])).global_sequence
            elif kind == 1:
                sequence = (await orders.append_batch_async(stream_id, events))[0].global_sequence
            elif kind == 2:
                pairs = [(choose.randrange(IDS), event) for event in events]
                sequence = (await orders.append_many_async(pairs))[0].global_sequence
            else:
                async with db.transaction() as tx:
                    tx.append(payments, stream_id, Paid(*facts, 0, of, filler(choose)))
                    tx.append_batch(orders, stream_id, events[1:])
                first = tx.positions[0]
                assert isinstance(first, varve.Position)
                sequence = first.global_sequence
            acks.add(Ack(process.life, caller, number, sequence))

        async def call(caller: int) -> None:
            number = 0
            while not process.stopping:
                count = process.choose.choice((1, 1, 1, 5))
                tasks = [asyncio.ensure_future(append(caller, number + n)) for n in range(count)]
                number += count
                if process.choose.random() < 0.1:
                    await asyncio.sleep(0)
                    process.choose.choice(tasks).cancel()
                for outcome in await asyncio.gather(*tasks, return_exceptions=True):
                    if isinstance(outcome, Exception):  # a CancelledError is none
                        raise outcome
                await asyncio.sleep(process.pause_s() * CALLERS / 2)

        await asyncio.gather(*(call(caller) for caller in range(CALLERS)))


# -- tails -----------------------------------------------------------------------------------------


class Noted:
    """What one tail saw, and where its next life begins."""

    def __init__(self, process: Process, name: str, last: type) -> None:
        self._rows = Rows(process.folder / f"{name}.rows")
        self._begun = process.folder / f"{name}.start"
        self._last_type = TYPES.index(last)
        last_row = self._rows.last_row
        self.is_over = last_row is not None and self._is_last(last_row)

    def _is_last(self, row: Row) -> bool:
        return row.writer == LAST and row.type == self._last_type

    def start(self, first: Any) -> Any:
        """Behind what was noted; before anything was, where an earlier life began."""
        if self._rows.last_row is not None:
            return self._rows.last_row.sequence + 1
        return int(self._begun.read_text()) if self._begun.exists() else first

    def stream_start(self) -> int:
        """The same for a tail of one stream, whose start is a stream sequence."""
        return 0 if self._rows.last_row is None else self._rows.last_row.stream_sequence + 1

    def begun(self, position: int) -> None:
        """Where the first life began; the runner wants to know."""
        if not self._begun.exists():
            made = self._begun.with_suffix(".new")
            made.write_text(str(position))
            made.rename(self._begun)

    def add(self, events: Iterable[varve.Recorded[Any]]) -> bool:
        """Note some; true when they were the last."""
        rows = [row_of(recorded) for recorded in events]
        self._rows.add(*rows)
        self.is_over = self._is_last(rows[-1])
        return self.is_over


async def follow_tail(tail: varve.Tail[Any], noted: Noted) -> None:
    """One by one."""
    if not noted.is_over:
        async for recorded in tail:
            if noted.add([recorded]):
                return


async def follow_impatiently(tail: varve.Tail[Any], noted: Noted, choose: random.Random) -> None:
    """With steps that are given up and taken again."""
    while not noted.is_over:
        try:
            noted.add([await asyncio.wait_for(anext(tail), choose.random() * 0.02)])
        except TimeoutError:
            continue


async def follow_batches(tail: varve.Tail[Any], noted: Noted, choose: random.Random) -> None:
    """In lists."""
    if not noted.is_over:
        async for events in tail.batches(choose.randrange(1, 100)):
            if noted.add(events):
                return


@contextlib.contextmanager
def opened(process: Process, **options: Any) -> Iterator[varve.Varve]:
    """The store, every event a class of the soak."""
    with varve.open(process.store, **options) as db:
        db.stream("orders", Placed | Shipped)
        db.stream("payments", Paid)
        yield db


async def tail_all(process: Process) -> None:
    """The whole log, in lists, in a handle that could write."""
    noted = Noted(process, "all", Paid)
    with opened(process, durability="relaxed") as db:
        await follow_batches(db.tail(noted.start(0)), noted, process.choose)


async def tail_end(process: Process) -> None:
    """From where the log ended when it first looked."""
    noted = Noted(process, "end", Paid)
    with opened(process, readonly=True) as db:
        tail = db.tail(noted.start(varve.END))
        noted.begun(tail.position)
        await follow_impatiently(tail, noted, process.choose)


async def tail_time(process: Process) -> None:
    """From an instant that is yet to come when it first begins."""
    noted = Noted(process, "time", Paid)
    with opened(process, readonly=True) as db:
        await follow_tail(db.tail(noted.start(process.when)), noted)


async def tail_streams(process: Process) -> None:
    """One name of two."""
    noted = Noted(process, "streams", Paid)
    with opened(process, readonly=True) as db:
        await follow_tail(db.tail(noted.start(0), streams=["payments"]), noted)


async def tail_two(process: Process) -> None:
    """One type, and one stream: two tails on one loop."""
    typed, one = Noted(process, "types", Shipped), Noted(process, "one", Shipped)
    with opened(process, durability="relaxed") as db:
        orders = db.stream("orders", Placed | Shipped)
        await asyncio.gather(
            follow_tail(db.tail(typed.start(0), types=[Shipped]), typed),
            follow_batches(orders.tail(one.stream_start(), stream_id=FOLLOWED_ID), one, process.choose),
        )


def follow_in_threads(process: Process) -> None:
    """Without a loop: the whole log in one thread, one stream in another."""
    noted, one = Noted(process, "follow", Paid), Noted(process, "follow-one", Shipped)
    with opened(process, readonly=True) as db:
        orders = db.stream("orders", Placed | Shipped)

        def follow_all() -> None:
            if not noted.is_over:
                next(True for recorded in db.follow(noted.start(0)) if noted.add([recorded]))

        def follow_one() -> None:
            if not one.is_over:
                follow = orders.follow(one.stream_start(), stream_id=FOLLOWED_ID)
                next(True for events in follow.batches(process.choose.randrange(1, 50)) if one.add(events))

        threads = [threading.Thread(target=target) for target in (follow_all, follow_one)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


# -- a consumer, and readers ------------------------------------------------------------------------


def consume(process: Process) -> None:
    """Everything, noted before it is stored that it was given: at least once, whoever dies when."""
    rows = Rows(process.folder / "consumer.rows")
    last_type = TYPES.index(Paid)
    with opened(process, durability="relaxed") as db, db.consumer("soak", commit="manual") as consumer:
        over = False
        while not over:
            for events in consumer.follow_batches(process.choose.randrange(1, 200), timeout_s=1):
                noted = [row_of(recorded) for recorded in events]
                rows.add(*noted)
                if process.choose.random() < 0.5:
                    consumer.commit_blocking()
                if noted[-1].writer == LAST and noted[-1].type == last_type:
                    over = True
                    break
        consumer.commit_blocking()


HOLD_S = 0.5
"""How long a reader holds a snapshot; some die holding it."""


def hold(process: Process) -> None:
    """Snapshots and views, held for a while, that show the same all the while."""
    with opened(process, readonly=True) as db:
        while not process.stopping:
            with db.snapshot() as snapshot:
                until_s = time.monotonic() + process.choose.random() * HOLD_S
                end = snapshot.next_global_sequence
                reader = snapshot.global_reader()
                low = max(0, end - 50)
                views = [(view, bytes(view)) for view in reader.iter_bytes(low)]
                seen = [row_of(recorded) for recorded in reader.iter_from(low)]
                while time.monotonic() < until_s:
                    time.sleep(0.01)
                if [row_of(recorded) for recorded in reader.iter_from(low)] != seen or len(seen) != end - low:
                    raise AssertionError(f"a snapshot at {end} has changed")
                if any(view != plain for view, plain in views):
                    raise AssertionError(f"a view of a snapshot at {end} has changed")


# -- what is measured ------------------------------------------------------------------------------

LEAKS = ("snapshot", "memory", "descriptor")


def live_steadily(process: Process, leak: str = "") -> None:
    """A bit of everything, at a pace, for as long as the soak lasts; ``leak`` plants one."""
    acks = Acks(process.folder / f"{process.name}.acks")
    choose = process.choose
    kept: list[Any] = []
    caller = LEAKS.index(leak) + 1 if leak else 0
    with varve.open(process.store, durability="relaxed") as db:
        orders, payments = db.stream("orders", Placed | Shipped), db.stream("payments", Paid)
        reader = orders.reader()
        follow = db.follow(varve.END, timeout_s=0)
        number = 0
        with db.consumer(process.name, start=varve.END, interval_s=0.1) as consumer:
            while not process.stopping:
                of = choose.randrange(2, 9)
                parts = [order(choose, STEADY, process.life, caller, number, part, of) for part in range(1, of)]
                with db.transaction() as tx:
                    paid = Paid(STEADY, process.life, caller, number, 0, of, filler(choose))
                    tx.append(payments, choose.randrange(IDS), paid)
                    tx.append_batch(orders, choose.randrange(IDS), parts)
                first = tx.positions[0]
                assert isinstance(first, varve.Position)
                acks.add(Ack(process.life, caller, number, first.global_sequence))
                number += 1
                one = choose.randrange(IDS)
                length = reader.length(one)
                if length:
                    reader.get(one, choose.randrange(length))
                    reader.get_bytes(one, choose.randrange(length))
                for _ in follow.batches(500):
                    pass
                for _ in consumer.follow(timeout_s=0):
                    pass
                with db.snapshot() as snapshot:
                    end = snapshot.next_global_sequence
                    for _ in snapshot.global_reader().iter_from(max(0, end - 30)):
                        pass
                asyncio.run(_appended(orders, order(choose, STEADY, process.life, caller, number, 0, 1)))
                number += 1
                if leak == "snapshot" and not kept:
                    kept.append(db.snapshot())
                elif leak == "memory":
                    kept.append(bytearray(b"x" * 1_000_000))
                elif leak == "descriptor":
                    kept += [(process.folder / "leak").open("w") for _ in range(5)]
                time.sleep(0.01)


async def _appended(orders: varve.Stream[Placed | Shipped], event: Placed | Shipped) -> None:
    await orders.append_async(1, event)


WRITERS: dict[str, Callable[[Process], Any]] = {
    "single": write_singly,
    "batches": write_batches,
    "async": write_async,
    "transactions": write_transactions,
}
TAILS: dict[str, Callable[[Process], Any]] = {
    "tail-all": tail_all,
    "tail-end": tail_end,
    "tail-time": tail_time,
    "tail-streams": tail_streams,
    "tail-two": tail_two,
    "tail-threads": follow_in_threads,
    "consumer": consume,
}
READERS: dict[str, Callable[[Process], Any]] = {"holder": hold, "holder-2": hold}
STEADY_ONES: dict[str, Callable[[Process], Any]] = {
    "steady": live_steadily,
    **{f"leak-{leak}": partial(live_steadily, leak=leak) for leak in LEAKS},
}


def main() -> None:
    """One process's life."""
    process = Process(sys.argv[1:])
    ran = (WRITERS | TAILS | READERS | STEADY_ONES)[process.name](process)
    if ran is not None:
        asyncio.run(ran)
