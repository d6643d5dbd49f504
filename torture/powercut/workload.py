"""What is recorded: a process that writes to a store and says, between the writes, what it tries and what was acknowledged.

``serve``, in a process with ``record.c`` preloaded, reads orders (JSON lists, a line each) and forks a process
for each of them; see ``Recorder``. The store is made at ``ROOT/in/store``.
Everything is drawn from the seed: clock, the store's uuid and events included. Where threads write, the kernel orders them.

Marks are JSON lists, the first item says what follows:

    ["try", [[number, digest], ...]]   these events are about to be appended, all or none of them
    ["ack", [number, ...]]             they were acknowledged
    ["trypos", name, position]         a consumer's position is about to be stored
    ["ackpos", name, position]         it was
    ["ride", name, position, [number, ...]]   position and events go together, before its "try"
    ["opened", uuid]                   the store was opened
    ["whole"]                          from here on a store that is there is complete
    ["syncing"], ["synced"]            what was acknowledged before the first is durable after the second, whatever the level
"""

from __future__ import annotations

import asyncio
import ctypes
import hashlib
import json
import os
import random
import sys
import threading
import traceback
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import lmdb

import varve
from varve import ops
from varve.engine.environment import Durability

STORE: Final = "in/store"
STATE: Final = "state"
"""A key of state that counts the commits which change it: looked at as the position of a consumer of that name."""
SOURCE: Final = "source"
"""Where the store of ``rebuild`` is read from: beside the recorded root."""


@varve.event
class Noted:
    """The event of the rack."""

    number: varve.u64
    text: str


@varve.event
class Counted:
    """Another type, so that stores hold two."""

    number: varve.u64
    counts: list[varve.u32]


def digest(event: Any) -> str:
    """What tells an event from every other."""
    content = event.text if type(event).__name__.endswith("Noted") else repr([int(one) for one in event.counts])
    return hashlib.blake2b(f"{event.number} {content}".encode(), digest_size=8).hexdigest()


_LIBRARY = ctypes.CDLL(None)


def _say(*mark: object) -> None:
    text = json.dumps(mark).encode()
    _LIBRARY.varve_record_mark(text, ctypes.c_uint64(len(text)))


class Work:
    """A store, and what is done to it."""

    def __init__(self, seed: int, root: Path, durability: Durability) -> None:
        self.draw = random.Random(seed)
        self.path = root / STORE
        self.durability: Durability = durability
        self._next = 0
        self._lock = threading.Lock()
        self._now_ns = 1_700_000_000 * 10**9
        self.text_max = 200
        self.split_transactions = False

    def clock(self) -> int:
        """Time goes on by some of a millisecond."""
        self._now_ns += 137_000
        return self._now_ns

    def open(self) -> varve.Varve:
        """Open it and say so."""
        db = varve.open(self.path, durability=self.durability, map_bytes=2**26, allow_network=True, clock=self.clock)
        _say("opened", str(db.uuid))
        self.notes = db.stream("notes", Noted | Counted)
        self.others = db.stream("others", Noted)
        self.thirds = db.stream("thirds", Counted)
        return db

    def close(self, db: varve.Varve) -> None:
        """Close it, which makes a bulk load durable."""
        if self.durability == "bulk":
            _say("syncing")
        db.close()
        if self.durability == "bulk":
            _say("synced")

    def note(self, text_max: int | None = None) -> Noted:
        """A new event."""
        with self._lock:
            self._next += 1
            length = self.draw.randrange((text_max or self.text_max) + 1)
            return Noted(self._next, f"{self._next:x} ".ljust(length, "abcdefgh"[self._next % 8])[:length])

    def count(self) -> Counted:
        """A new event of the other type."""
        with self._lock:
            self._next += 1
            return Counted(self._next, [self.draw.randrange(2**32) for _ in range(self.draw.randrange(20))])

    def notes_of(self, count: int, text_max: int | None = None) -> list[Noted]:
        """New events."""
        return [self.note(text_max) for _ in range(count)]

    def stream_id(self) -> int | str:
        """One of a few."""
        return self.draw.choice((1, 2, 3, "a", "some longer id"))


def _try(*events: Any) -> list[int]:
    _say("try", [[event.number, digest(event)] for event in events])
    return [event.number for event in events]


def _sync(db: varve.Varve) -> None:
    _say("syncing")
    db.sync()
    _say("synced")


# -- the kinds ---------------------------------------------------------------------------------------------------------


def _single(work: Work, _db: varve.Varve) -> None:
    """Single appends: the tail block grows in its page, now and then onto a second one."""
    for _ in range(work.draw.randrange(10, 22)):
        event: Noted | Counted = work.note() if work.draw.random() < 0.8 else work.count()
        numbers = _try(event)
        work.notes.append(work.stream_id(), event)
        _say("ack", numbers)


def _rollover(work: Work, db: varve.Varve) -> None:
    """Appends of such a size that blocks are left and begun all the time."""
    work.text_max = 3500
    _single(work, db)


def _batch(work: Work, _db: varve.Varve) -> None:
    """Batches, some of several blocks; single big events, with blocks of many pages."""
    for _ in range(work.draw.randrange(4, 8)):
        kind = work.draw.randrange(4)
        if kind == 0:
            events = work.notes_of(work.draw.randrange(1, 12), 60)
        elif kind == 1:
            events = work.notes_of(work.draw.randrange(8, 16), 6000)
        elif kind == 2:
            events = work.notes_of(1, 60_000)
        else:
            events = [*work.notes_of(2, 100), *work.notes_of(1, 30_000), *work.notes_of(2, 100)]
        numbers = _try(*events)
        work.notes.append_batch(work.stream_id(), events)
        _say("ack", numbers)


def _transactions(work: Work, db: varve.Varve) -> None:
    """Transactions over several streams; some are refused, which must leave no trace."""
    for _ in range(work.draw.randrange(5, 10)):
        notes, others = work.notes_of(work.draw.randrange(1, 4)), work.notes_of(work.draw.randrange(1, 4))
        count = work.count()
        refused = work.draw.random() < 0.25
        numbers = _try(*notes, *others, count)
        if work.split_transactions:
            work.notes.append_batch(1, notes)
            work.others.append_batch("b", others)
            work.thirds.append(3, count)
            _say("ack", numbers)
            continue
        kind = work.draw.randrange(3)
        try:
            if kind == 0:
                with db.transaction() as tx:
                    tx.append_batch(work.notes, 1, notes)
                    tx.append_batch(work.others, "b", others)
                    tx.append(work.thirds, 3, count, expected=10**6 if refused else varve.ANY)
            elif kind == 1:
                db.write(_writing(work, notes, others, count, refused=refused))
            else:
                refused = False
                with db.transaction() as tx:
                    tx.append_many(work.notes, [(number % 5, event) for number, event in enumerate(notes)])
                    tx.append_many(work.others, [(number % 5, event) for number, event in enumerate(others)])
                    tx.append(work.thirds, 3, count)
        except varve.WrongExpectedVersion:
            assert refused
        else:
            _say("ack", numbers)


def _writing(
    work: Work, notes: list[Noted], others: list[Noted], count: Counted, *, refused: bool
) -> Callable[[varve.WriteTransaction], None]:
    def write(tx: varve.WriteTransaction) -> None:
        tx.append_batch(work.notes, 1, notes)
        tx.append_batch(work.others, "b", others)
        tx.append(work.thirds, 3, count, expected=10**6 if refused else varve.ANY)

    return write


def _group(work: Work, _db: varve.Varve) -> None:
    """Group commit: threads and tasks append at once, each acknowledged on its own."""
    events = [work.notes_of(work.draw.randrange(1, 3)) for _ in range(18)]
    by_thread, by_task = [events[0:5], events[5:10]], events[10:18]

    def run(batches: Sequence[list[Noted]], stream_id: int) -> None:
        for batch in batches:
            numbers = _try(*batch)
            work.notes.append_batch(stream_id, batch)
            _say("ack", numbers)

    async def one(batch: list[Noted], stream_id: int) -> None:
        numbers = _try(*batch)
        await work.others.append_batch_async(stream_id, batch)
        _say("ack", numbers)

    async def tasks() -> None:
        await asyncio.gather(*(one(batch, number % 3) for number, batch in enumerate(by_task)))

    threads = [threading.Thread(target=run, args=(part, number)) for number, part in enumerate(by_thread)]
    for thread in threads:
        thread.start()
    asyncio.run(tasks())
    for thread in threads:
        thread.join()


def _store(consumer: varve.Consumer[Any]) -> None:
    _say("trypos", consumer.name, consumer.position)
    _say("ackpos", consumer.name, consumer.commit_blocking())


def _passed_over(*consumers: varve.Consumer[Any]) -> None:
    """Before they are closed: that stores what they passed over."""
    for consumer in consumers:
        _say("trypos", consumer.name, consumer.position)


def _consumers(work: Work, db: varve.Varve) -> None:
    """Positions: committed, riding on appends, coalesced with the commits of others."""
    _single_few(work, 5)
    _say("trypos", "riding", 0)
    _say("trypos", "stepping", 0)
    _say("trypos", "together", 0)
    with db.consumer("riding", streams=["notes"], commit="manual") as riding:
        _say("ackpos", "riding", 0)
        with db.consumer("stepping", commit="manual") as stepping:
            _say("ackpos", "stepping", 0)
            for number, recorded in enumerate(riding.follow(timeout_s=0)):
                event = work.note()
                _say("ride", "riding", riding.position, [event.number])
                _say("trypos", "riding", riding.position)
                numbers = _try(event)
                with db.transaction() as tx:
                    tx.append(work.others, recorded.stream_id, event)
                    tx.store_position(riding)
                _say("ack", numbers)
                _say("ackpos", "riding", riding.committed)
                _say("trypos", "riding", db.next_global_sequence)  # it may store what it passes over
                if number == 2:
                    for _ in stepping.follow(timeout_s=0):
                        _store(stepping)
            for _ in stepping.follow(timeout_s=0):
                pass
            _store(stepping)
            _passed_over(stepping, riding)
    asyncio.run(_coalesced(work, db))


async def _coalesced(work: Work, db: varve.Varve) -> None:
    async def append() -> None:
        events = work.notes_of(2)
        numbers = _try(*events)
        await work.notes.append_batch_async(2, events)
        _say("ack", numbers)

    async def store(consumer: varve.Consumer[Any]) -> None:
        _say("trypos", "together", consumer.position)
        _say("ackpos", "together", await consumer.commit())

    async with db.consumer("together", commit="manual") as consumer:
        _say("ackpos", "together", 0)
        async for batch in consumer.batches(3):
            await asyncio.gather(append(), store(consumer), append())
            if batch[-1].global_sequence >= 12:
                break
        _passed_over(consumer)


def _single_few(work: Work, count: int) -> None:
    for _ in range(count):
        event = work.note()
        numbers = _try(event)
        work.notes.append(work.stream_id(), event)
        _say("ack", numbers)


def _state(work: Work, db: varve.Varve) -> None:
    """State in the same commits as events, of one page and of many: by transactions, under the lock, by optimistic ones.
    ``STATE`` says how many there were, as the position of a consumer would."""
    first = db.state.get_opt(STATE, 0) + 1
    _say("trypos", STATE, first - 1)
    for count in range(first, first + work.draw.randrange(6, 11)):
        events = work.notes_of(work.draw.randrange(1, 4))
        filler, size = work.draw.randrange(6), work.draw.choice((10, 300, 9_000))
        _say("ride", STATE, count, [event.number for event in events])
        _say("trypos", STATE, count)
        numbers = _try(*events)
        if work.split_transactions:
            work.notes.append_batch(count % 3, events)
            db.state.put(STATE, count)
        elif size == 300:
            db.write(_counting(work, events, filler, size))
        elif size == 10:
            db.optimistic(_counting(work, events, filler, size))
        else:
            with db.transaction() as tx:
                tx.append_batch(work.notes, count % 3, events)
                tx.state.put(("filler", filler), bytes(size))
                tx.state.add(STATE, 1)
        _say("ack", numbers)
        _say("ackpos", STATE, count)


def _counting(work: Work, events: list[Noted], filler: int, size: int) -> Callable[[varve.Transaction], None]:
    def count(tx: varve.Transaction) -> None:
        tx.append_batch(work.notes, filler, events)
        tx.state.delete(("filler", filler)) if size == 10 else tx.state.put(("filler", filler), bytes(size))
        tx.state.put(STATE, tx.state.get_opt(STATE, 0) + 1)

    return count


def _keyed(work: Work, _db: varve.Varve) -> None:
    """Idempotency keys and metadata; some commands are given twice."""
    for number in range(work.draw.randrange(6, 12)):
        events = work.notes_of(work.draw.randrange(1, 4))
        numbers = _try(*events)
        for _ in range(work.draw.choice((1, 1, 2))):
            work.notes.append_batch(
                number % 3, events, idempotency_key=f"command {number}", metadata={"user": number, "why": "k" * number}
            )
            _say("ack", numbers)


def _retried(work: Work, _db: varve.Varve) -> None:
    """Commands under idempotency keys, the same ones whoever gives them: done by a process that is killed at some record, then
    by one that finds what that one has left."""
    for number in range(8):
        events = work.notes_of(number % 3 + 1)
        numbers = _try(*events)
        work.notes.append_batch(number % 3, events, idempotency_key=f"command {number}")
        _say("ack", numbers)


def _creation(work: Work, _db: varve.Varve) -> None:
    """A new store, in folders that are new as well, and the first appends."""
    _single_few(work, 2)


def _mixed(work: Work, db: varve.Varve) -> None:
    """Several kinds after each other, with ``db.sync()`` between them."""
    kinds = [_single, _transactions, _keyed, _group]
    work.draw.shuffle(kinds)
    for kind in kinds[:2]:
        kind(work, db)
        if work.draw.random() < 0.5 or work.durability == "bulk":
            _sync(db)


def _synced_creation(work: Work, db: varve.Varve) -> None:
    """As creation, with ``db.sync()``."""
    _sync(db)
    _single_few(work, 1)
    _sync(db)


Run = Callable[[Work, varve.Varve], None]

_KINDS: Final[dict[str, tuple[Durability, tuple[Run, ...]]]] = {
    "single": ("full", (_single,)),
    "rollover": ("full", (_rollover,)),
    "batch": ("full", (_batch,)),
    "transactions": ("full", (_transactions,)),
    "group": ("full", (_group,)),
    "consumers": ("full", (_consumers,)),
    "state": ("full", (_state,)),
    "keyed": ("full", (_keyed,)),
    "creation": ("full", (_creation,)),
    "killed": ("full", (_retried,)),
    "reopen": ("full", (_creation, _transactions, _creation, _keyed)),
    "relaxed": ("relaxed", (_mixed, _creation)),
    "relaxed-consumers": ("relaxed", (_consumers,)),
    "relaxed-state": ("relaxed", (_single, _state)),
    "relaxed-creation": ("relaxed", (_synced_creation,)),
    "bulk": ("bulk", (_mixed,)),
    "bulk-creation": ("bulk", (_synced_creation, _creation)),
    "rebuild": ("full", ()),
}
"""Level, and what is done, the store being opened for each."""

KINDS: Final = tuple(_KINDS)


def level(kind: str) -> Durability:
    """The durability level of a kind."""
    return _KINDS[kind][0]


def _rebuild(work: Work, root: Path) -> None:
    """A store beside the recorded root is rebuilt into a new one in it: all of it is one try."""
    global _say  # noqa: PLW0603 - what happens to the source is nobody's promise
    target, work.path = work.path, root.parent / SOURCE
    aloud, _say = _say, lambda *_: None
    with work.open() as db:
        work.draw.choice((_single, _transactions, _consumers, _batch))(work, db)
    with work.open() as db:
        events = [recorded.event for recorded in db.global_reader().iter_from(0)]
        positions = [(info.name, info.position) for info in db.consumers()]
    _say = aloud
    _say("whole")
    for name, position in positions:
        _say("trypos", name, position)
    numbers = _try(*events)
    ops.repair(work.path, target)
    _say("ack", numbers)
    for name, position in positions:
        _say("ackpos", name, position)


def _disable_sync() -> None:
    """The first planted fault: a handle that says ``full`` and has MDB_NOSYNC."""
    real = lmdb.open
    faulty: Any = lambda path, **options: real(path, **{**options, "sync": False, "metasync": False})  # noqa: E731
    lmdb.open = faulty


def main(kind: str, seed: int, root: Path, fault: str = "") -> None:
    """Do the work of a kind."""
    durability, runs = _KINDS[kind]
    work = Work(seed, root, durability)
    identities = random.Random(f"{seed} {os.getpid()}" if kind == "killed" else seed)
    uuid.uuid4 = lambda: uuid.UUID(int=identities.getrandbits(128), version=4)
    os.getpid = lambda: 4242  # it stands in the records of consumers
    if fault == "nosync":
        _disable_sync()
    work.split_transactions = fault == "split"
    if kind == "rebuild":
        _rebuild(work, root)
    for run in runs:
        db = work.open()
        run(work, db)
        work.close(db)


def _begin(root: str, log: str, kill_at: int) -> None:
    if _LIBRARY.varve_record_begin(os.fsencode(root), os.fsencode(log), ctypes.c_uint64(kill_at)):
        raise OSError(f"cannot write {log}")


def serve() -> None:
    """Fork a process for each order and say how it ended. An interpreter that is there already is quicker than a new one."""
    for line in sys.stdin:
        kind, seed, root, log, kill_at, fault, errors = json.loads(line)
        pid = os.fork()
        if not pid:
            code = 70
            try:
                with Path(errors).open("w", encoding="utf-8") as file:
                    os.dup2(file.fileno(), 2)
                _begin(root, log, kill_at)
                main(kind, seed, Path(root), fault)
                code = 0
            except BaseException:  # noqa: BLE001 - nothing of this process may run on in the server's code
                traceback.print_exc()
            finally:
                sys.stderr.flush()
                os._exit(code)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)
