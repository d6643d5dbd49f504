"""What those do who are to be killed: each way to write, to read, to wait. None of them ends by itself."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import varve
from torture.kills.ledger import Row, Step
from torture.kills.page import Cell, Lane, Note

LANES: Final = 6
"""Lanes that each victim gets, used or not."""
_TEXT: Final = "." * 300


@dataclass(slots=True)
class Stand:
    """Where a consumer stands, over all its lives."""

    name: str
    attempted: Cell
    stored: Cell


@dataclass(slots=True)
class Part:
    """What a victim is given."""

    role: str
    store: Path
    seed: str
    lanes: list[Lane]
    opened: Cell
    """Set once it has opened the store."""
    note: Note
    """What it found that must not be."""
    stand: Stand
    durability: Literal["full", "relaxed", "bulk"] = "full"
    choose: random.Random = field(init=False)

    def __post_init__(self) -> None:
        self.choose = random.Random(self.seed)

    def open(self, *, readonly: bool = False) -> varve.Varve:
        """The store, until the process dies."""
        db = varve.open(self.store, readonly=readonly, durability="full" if readonly else self.durability)
        self.opened.value = 1
        return db

    def rows(self, lane: Lane, number: int, of: int) -> list[Row]:
        """The events of a commit."""
        return [Row(lane.number, number, part, of, _TEXT[: self.choose.randrange(60)]) for part in range(of)]

    def play(self) -> None:
        """Do what the role says until killed. Raises where something is refused that must not be."""
        try:
            ROLES[self.role](self)
        except BaseException as exc:
            self.note.write(f"{self.role} of {self.store.name}: {type(exc).__name__}: {exc}")
            raise


def single(part: Part) -> None:
    """Single appends, some of them large."""
    if part.durability == "full" and part.choose.random() < 0.3:
        part.durability = "relaxed"
    rows, lane = part.open().stream("rows", Row), part.lanes[0]
    while True:
        number = lane.attempt()
        of_size = 9_000 if part.choose.random() < 0.02 else 30
        row = Row(lane.number, number, 0, 1, "." * part.choose.randrange(of_size))
        lane.ack(rows.append(number % 3, row).global_sequence)


def batch(part: Part) -> None:
    """Batches, and events of interleaved streams."""
    rows, lane = part.open().stream("rows", Row), part.lanes[0]
    while True:
        number = lane.attempt()
        events = part.rows(lane, number, part.choose.randrange(2, 60))
        if number % 2:
            span = rows.append_many([(10 + row.part % 3, row) for row in events])
        else:
            span = rows.append_batch(lane.number, events)
        lane.ack(span[0].global_sequence)


def transaction(part: Part) -> None:
    """Transactions over streams of two names, new ones among them, some under an idempotency key."""
    db, lane = part.open(), part.lanes[0]
    rows, others = db.stream("rows", Row), db.stream("others", Row)
    while True:
        number = lane.attempt()
        one, *two = part.rows(lane, number, part.choose.randrange(2, 20))
        key = f"{lane.number}/{number}" if number % 3 == 0 else None
        with db.transaction(idempotency_key=key) as tx:
            tx.append(rows, 2, one)
            tx.append_batch(others, f"{lane.number}-{number % 5}", two)
        lane.ack(_first(tx))


def _first(tx: varve.Transaction) -> int:
    """Where the first event of a transaction stands."""
    position = tx.positions[0]
    return (position if isinstance(position, varve.Position) else position[0]).global_sequence


def write(part: Part) -> None:
    """Functions that run under the writer's lock."""
    db, lane = part.open(), part.lanes[0]
    rows, others = db.stream("rows", Row), db.stream("others", Row)
    while True:
        one, two, three = part.rows(lane, lane.attempt(), 3)

        def decide(tx: Any, one: Row = one, two: Row = two, three: Row = three) -> Any:
            first = tx.append(rows, 1, one)
            tx.append(others, 1, two)
            tx.append(rows, 0, three)
            return first

        db.write(decide)
        lane.ack(_find(db, lane, one.number))


def _find(db: varve.Varve, lane: Lane, number: int) -> int:
    """Where a commit of a lane stands: ``db.write`` does not say."""
    for recorded in db.global_reader().iter_from(reverse=True):
        row: Any = recorded.event
        if isinstance(row, Row) and (row.lane, row.number, row.part) == (lane.number, number, 0):
            return recorded.global_sequence
    raise LookupError(f"commit {number} of lane {lane.number} was acknowledged and cannot be read")


def threads(part: Part) -> None:
    """Three threads that append at once: some commit themselves, some in a group."""
    rows = part.open().stream("rows", Row)

    def append(lane: Lane) -> None:
        while True:
            number = lane.attempt()
            if number % 4 == 3:
                lane.ack(rows.append_batch(lane.number, part.rows(lane, number, 5))[0].global_sequence)
            else:
                lane.ack(rows.append(lane.number % 4, part.rows(lane, number, 1)[0]).global_sequence)

    _all_at_once([lambda lane=lane: append(lane) for lane in part.lanes[:3]], part)  # type: ignore[misc]


def _all_at_once(works: list[Callable[[], None]], part: Part) -> None:
    def run(work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as exc:  # noqa: BLE001 - the finding
            part.note.write(f"a thread of {part.role}: {type(exc).__name__}: {exc}")

    running = [threading.Thread(target=run, args=(work,)) for work in works[1:]]
    for thread in running:
        thread.start()
    run(works[0])
    for thread in running:
        thread.join()


def group(part: Part) -> None:
    """Tasks of an event loop that commit in groups: appends, batches, transactions."""
    db = part.open()
    rows, others = db.stream("rows", Row), db.stream("others", Row)

    async def append(lane: Lane) -> None:
        while True:
            number = lane.attempt()
            if number % 4 == 1:
                span = await rows.append_batch_async(lane.number, part.rows(lane, number, 6))
                lane.ack(span[0].global_sequence)
            elif number % 4 == 2:
                one, two = part.rows(lane, number, 2)
                async with db.transaction() as tx:
                    tx.append(rows, 5, one)
                    tx.append(others, lane.number, two)
                lane.ack(_first(tx))
            else:
                lane.ack((await rows.append_async(lane.number % 3, part.rows(lane, number, 1)[0])).global_sequence)

    async def run() -> None:
        await asyncio.gather(*(append(lane) for lane in part.lanes))

    asyncio.run(run())


def _claim(part: Part, db: varve.Varve) -> varve.Consumer[Any]:
    """The consumer where its last life left it."""
    stand = part.stand
    one = db.consumer(stand.name, commit="manual")
    if one.position not in {stand.stored.value, stand.attempted.value}:
        raise LookupError(
            f"consumer {stand.name} begins at {one.position}; {stand.stored.value} was stored, "
            f"{stand.attempted.value} at most attempted"
        )
    stand.attempted.value = stand.stored.value = one.position
    return one


def consumer(part: Part) -> None:
    """A consumer that stores its position by commits of its own."""
    _consume(part, ride=False)


def rider(part: Part) -> None:
    """A consumer whose position rides on the commits of what it writes."""
    _consume(part, ride=True)


def _consume(part: Part, *, ride: bool) -> None:
    db = part.open()
    rows, steps = db.stream("rows", Row), db.stream("steps", Step)
    one, stand, lane = _claim(part, db), part.stand, part.lanes[0]
    at = one.position
    for events in one.follow_batches(part.choose.randrange(1, 40)):
        if [event.global_sequence for event in events] != list(range(at, at + len(events))):
            raise LookupError(f"consumer {stand.name} is given {events[0].global_sequence} where {at} belongs")
        start, at = stand.stored.value, one.position
        stand.attempted.value = at
        if ride:
            with db.transaction() as tx:
                tx.append(steps, stand.name, Step(stand.name, start, at))
                tx.store_position(one)
        else:
            one.commit_blocking()
        stand.stored.value = at
        if len(events) < 10:  # it has caught up: give itself something to do
            number = lane.attempt()
            lane.ack(rows.append_batch(7, part.rows(lane, number, 20))[0].global_sequence)


def side(part: Part) -> None:
    """Consumers of ever new names: lock files, the side table of a store that had none."""
    db = part.open()
    rows, lane = db.stream("rows", Row), part.lanes[0]
    turn = 0
    while True:
        with db.consumer(f"{lane.number}-{turn}", start=varve.END, commit="manual") as one:
            number = lane.attempt()
            lane.ack(rows.append(0, part.rows(lane, number, 1)[0]).global_sequence)
            for _ in one.follow(timeout_s=1):
                one.commit_blocking()
                break
        turn += 1


def reader(part: Part) -> None:
    """Reads of all kinds, some of which keep their memory."""
    db = part.open(readonly=part.choose.random() < 0.5)
    reading = db.stream("rows", Row).reader()
    kept: list[object] = []
    while True:
        newest = max(0, db.next_global_sequence - 50)
        kept.extend(recorded.raw for recorded in db.global_reader().iter_from(newest))
        reading.length(1)
        kept.append(reading.get_bytes(0, 0))
        del kept[:-20]


def holder(part: Part) -> None:
    """Somebody who holds a snapshot and sleeps."""
    db = varve.open(part.store, readonly=True)
    with db.snapshot() as held:
        held.global_reader().get(0)
        part.opened.value = 1
        threading.Event().wait()


def tail(part: Part) -> None:
    """A tail of an event loop, a follower in a thread: each must see every event."""
    db = part.open(readonly=True)
    start = max(0, db.next_global_sequence - 20)

    def follow() -> None:
        for at, recorded in enumerate(db.follow(start), start):
            if recorded.global_sequence != at:
                raise LookupError(f"a follower is given {recorded.global_sequence} where {at} belongs")

    async def run() -> None:
        at = start
        async for recorded in db.tail(start):
            if recorded.global_sequence != at:
                raise LookupError(f"a tail is given {recorded.global_sequence} where {at} belongs")
            at += 1

    _all_at_once([lambda: asyncio.run(run()), follow], part)


def waiter(part: Part) -> None:
    """Somebody who waits for commits, one after the other."""
    watcher = part.open(readonly=True).watcher()
    while True:
        watcher.wait(watcher.next_global_sequence)


def opener(part: Part) -> None:
    """Opening, appending once, closing, again and again."""
    lane = part.lanes[0]
    while True:
        with contextlib.suppress(varve.StoreAlreadyOpen), part.open() as db:
            number = lane.attempt()
            lane.ack(db.stream("rows", Row).append(1, part.rows(lane, number, 1)[0]).global_sequence)


def creator(part: Part) -> None:
    """A new store, and its first events, at any level of durability: a kill takes nothing back at any of them."""
    part.choose.choice((single, transaction, side))(part)


def greedy(part: Part) -> None:
    """For a control: whoever keeps the writer's lock."""
    db = part.open()
    db.write(lambda _: time.sleep(3_600))


ROLES: Final[dict[str, Callable[[Part], None]]] = {
    role.__name__: role
    for role in (
        single,
        batch,
        transaction,
        write,
        threads,
        group,
        consumer,
        rider,
        side,
        reader,
        holder,
        tail,
        waiter,
        opener,
        creator,
        greedy,
    )
}
OF_A_ROUND: Final = tuple(role for role in ROLES if role != "greedy")
WRITERS: Final = ("single", "batch", "transaction", "write", "threads", "group", "opener", "side")
"""Roles that the points of the commit path are tried with."""
