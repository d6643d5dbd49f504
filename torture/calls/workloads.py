"""What is done to a store while its system calls fail: each way to write, and what surrounds it.

A workload numbers its commits. Every event says which commit it belongs to, which of its events it is and how many there
are, so that a reader can tell what is whole, what is missing and what nobody wrote.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import varve
from torture.preload.fail import Spoiler
from varve import ops

STORE: Final = "store"
TARGET: Final = "rebuilt"
ACKNOWLEDGED: Final = "acknowledged"
FATAL: Final = ("store_failed", "commit_outcome_unknown")
"""Codes of errors after which a handle refuses everything."""
PATIENCE_S: Final = 10.0
"""For what takes a millisecond."""


@varve.event
class Mark:
    """Event ``part`` of the ``of`` events of a commit."""

    commit: varve.u32
    part: varve.u32
    of: varve.u32
    text: str


@dataclass(slots=True)
class Attempt:
    """A commit, or something else that was tried, and what came of it."""

    number: int
    """Of the commit; -1 for what writes no events."""
    what: str
    outcome: str = "not tried"
    """``acknowledged``, or the code of a ``VarveError``, or what else was raised."""
    error: str = ""
    is_ours: bool = True
    """Whether what was raised is a ``VarveError``."""
    synced: bool = True
    """Whether a file was synced between its begin and its end."""
    spoiled: int = 0
    """How many of its calls were spoiled, as far as that can be told."""


@dataclass(slots=True)
class Told:
    """What a child tells of a unit."""

    attempts: list[Attempt] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    """Promises that were broken before the store was opened again."""
    hits: int = 0
    spoiled: str = ""
    """The first call that was spoiled."""
    calls: list[tuple[str, str]] = field(default_factory=list)
    """Kind and file of every call that was seen."""


class Work:
    """A workload under way."""

    def __init__(self, folder: Path, spoiler: Spoiler, arm: Callable[[], None], seed: int) -> None:
        self.folder = folder
        self.store = folder / STORE
        self.choose = random.Random(seed)
        self.told = Told()
        self._spoiler = spoiler
        self._arm = arm
        self._numbers = 0
        self._lock = threading.Lock()

    def arm(self) -> None:
        """From here on system calls are counted and spoiled."""
        self._arm()

    def marks(self, number: int, of: int, text_bytes: int = 40) -> list[Mark]:
        """The events of a commit."""
        return [Mark(number, part, of, "x" * self.choose.randrange(text_bytes)) for part in range(of)]

    def number(self) -> int:
        """A new commit's number."""
        with self._lock:
            self._numbers += 1
            return self._numbers - 1

    def commit(self, what: str, make: Callable[[int], object]) -> Attempt:
        """Try a commit: ``make(number)`` appends its events."""
        return self._try(Attempt(self.number(), what), make)

    def do(self, what: str, make: Callable[[], Any]) -> Any:
        """Try what writes no events; what it returned, or None where it failed."""
        found: list[Any] = [None]

        def call(_: int) -> None:
            found[0] = make()

        self._try(Attempt(-1, what), call)
        return found[0]

    def begin(self, what: str) -> Attempt:
        """A commit that is awaited: settle it by ``settle``."""
        attempt = Attempt(self.number(), what)
        with self._lock:
            self.told.attempts.append(attempt)
        attempt.spoiled, attempt.synced = self._spoiler.hits, False
        return attempt

    def settle(self, attempt: Attempt, error: BaseException | None) -> None:
        """What came of it."""
        attempt.spoiled = self._spoiler.hits - attempt.spoiled
        if error is None:
            attempt.outcome = ACKNOWLEDGED
            return
        attempt.is_ours = isinstance(error, varve.VarveError)
        attempt.outcome = error.code if isinstance(error, varve.VarveError) else type(error).__name__
        attempt.error = f"{type(error).__name__}: {error}"[:300]

    def _try(self, attempt: Attempt, make: Callable[[int], object]) -> Attempt:
        with self._lock:
            self.told.attempts.append(attempt)
        synced = self._spoiler.synced
        attempt.spoiled = self._spoiler.hits
        try:
            make(attempt.number)
        except Exception as exc:  # noqa: BLE001 - its kind is looked at later
            self.settle(attempt, exc)
        else:
            self.settle(attempt, None)
        attempt.synced = self._spoiler.synced > synced
        return attempt

    # -- what most begin and end with ------------------------------------------------------------------

    def open(self, **how: Any) -> varve.Varve | None:
        """The store; None where it cannot be opened."""
        db: varve.Varve | None = self.do("open", lambda: varve.open(self.store, **how))
        return db

    def finish(self, db: varve.Varve | None, begun: int = 0) -> None:
        """Look at the handle with the calls left alone: whoever failed for good refuses everything, anyone else goes on.
        ``begun``: the first attempt with this handle."""
        self._spoiler.disarm()
        if db is None:
            return
        fatal = next(
            (one.outcome for one in self.told.attempts[begun:] if one.outcome in FATAL and one.what != "open"), None
        )
        stream = None if fatal else self.do("bind", lambda: db.stream("after", Mark))
        uses: dict[str, Callable[[], object]] = {"read": lambda: db.next_global_sequence, "stats": db.stats}
        if stream is not None and not db.readonly:
            after = stream
            self.commit("append after", lambda number: after.append(0, Mark(number, 0, 1, "after")))
            self._expect(
                self.told.attempts[-1].outcome == ACKNOWLEDGED, "a handle that was not refused cannot append", ""
            )
        for name, use in uses.items():
            try:
                use()
            except varve.VarveError as exc:
                self._expect(exc.code == fatal, f"{name} after {fatal or 'no fatal error'}", repr(exc))
            except Exception as exc:  # noqa: BLE001 - the finding
                self._expect(False, f"{name} raises a foreign error", repr(exc))
            else:
                self._expect(fatal is None, f"{name} works although the handle failed with", str(fatal))
        self.do("close", db.close)
        self._expect(self.told.attempts[-1].outcome == ACKNOWLEDGED, "closing fails", self.told.attempts[-1].error)

    def _expect(self, holds: bool, what: str, found: str) -> None:
        if not holds:
            self.told.trouble.append(f"{what}: {found}")


# -- the workloads -----------------------------------------------------------------------------------------------------------


def _opened(work: Work, **how: Any) -> tuple[varve.Varve, varve.Stream[Mark]]:
    db = varve.open(work.store, **how)
    return db, db.stream("marks", Mark)


def single(work: Work, durability: Literal["full", "relaxed"] = "full") -> None:
    """Single appends that extend the open tail, and one that begins a block."""
    db, marks = _opened(work, durability=durability)
    marks.append(0, Mark(work.number(), 0, 1, "before"))
    work.told.attempts.append(Attempt(0, "append before", ACKNOWLEDGED))
    work.arm()
    for turn in range(3):
        work.commit("append", lambda number: marks.append(turn % 2, work.marks(number, 1)[0]))  # noqa: B023 - called at once
    work.commit("large append", lambda number: marks.append(1, Mark(number, 0, 1, "y" * 50_000)))
    work.commit("append", lambda number: marks.append(0, work.marks(number, 1)[0]))
    work.finish(db)


def beside(work: Work) -> None:
    """Appends beside another process that has the store open, which goes on when this one has failed."""
    db, marks = _opened(work)
    work.arm()
    work.commit("append", lambda number: marks.append(0, work.marks(number, 1)[0]))
    work.commit("batch", lambda number: marks.append_batch(1, work.marks(number, 40, 300)))
    work.finish(db)


def relaxed(work: Work) -> None:
    """The same without a sync of the meta page."""
    single(work, "relaxed")


def first(work: Work) -> None:
    """The first append of a name, a type and a stream, under an idempotency key, with metadata."""
    db = varve.open(work.store)
    stream = work.do("bind", lambda: db.stream("fresh", Mark))
    work.arm()
    for key in ("one", "two"):
        work.commit(
            "keyed append",
            lambda number: stream.append(
                key,  # noqa: B023 - called at once
                work.marks(number, 1)[0],
                idempotency_key=key,  # noqa: B023
                metadata={"who": key},  # noqa: B023
            ),
        )
    work.finish(db)


def batch(work: Work) -> None:
    """Batches over several blocks, and one of interleaved streams."""
    db, marks = _opened(work)
    work.arm()
    work.commit("batch", lambda number: marks.append_batch(3, work.marks(number, 300, 300)))
    work.commit("many", lambda number: marks.append_many([(mark.part % 5, mark) for mark in work.marks(number, 50)]))
    work.commit("append", lambda number: marks.append(0, work.marks(number, 1)[0]))
    work.finish(db)


def transaction(work: Work) -> None:
    """Transactions over several streams, and a function under the lock."""
    db, marks = _opened(work)
    others = db.stream("others", Mark)
    work.arm()

    def commit(number: int) -> None:
        one, two, *rest = work.marks(number, 30, 400)
        with db.transaction(idempotency_key=f"tx {number}") as tx:
            tx.append(marks, 1, one)
            tx.append(others, "new", two)
            tx.append_batch(marks, number + 100, rest)

    work.commit("transaction", commit)

    def write(number: int) -> None:
        one, two = work.marks(number, 2)

        def decide(tx: varve.WriteTransaction) -> None:
            tx.append(marks, 0, one)
            tx.append(others, "new", two)

        db.write(decide)

    work.commit("write", write)
    work.commit("transaction", commit)
    work.finish(db)


def threads(work: Work) -> None:
    """Appends of several threads at once: some commit themselves, some in a group."""
    db, marks = _opened(work)
    work.arm()
    start = threading.Barrier(4)

    def append(thread: int) -> None:
        start.wait()
        for _ in range(2):
            attempt = work.begin("append of a thread")
            try:
                marks.append(thread, Mark(attempt.number, 0, 1, "thread"))
            except Exception as exc:  # noqa: BLE001 - looked at later
                work.settle(attempt, exc)
            else:
                work.settle(attempt, None)

    running = [threading.Thread(target=append, args=(thread,)) for thread in range(4)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    work.finish(db)


def group(work: Work) -> None:
    """Group commit of an event loop: appends, batches and a transaction that share a commit."""
    db, marks = _opened(work)
    work.arm()

    async def append(turn: int) -> None:
        attempt = work.begin("append_async")
        try:
            if turn % 3 == 1:
                await marks.append_batch_async(turn, work.marks(attempt.number, 20, 200))
            elif turn % 3 == 2:
                one, two = work.marks(attempt.number, 2)
                async with db.transaction() as tx:
                    tx.append(marks, turn, one)
                    tx.append(marks, 0, two)
            else:
                await marks.append_async(turn, work.marks(attempt.number, 1)[0])
        except Exception as exc:  # noqa: BLE001 - looked at later
            work.settle(attempt, exc)
        else:
            work.settle(attempt, None)

    async def run() -> None:
        for _ in range(2):
            await asyncio.gather(*(append(turn) for turn in range(6)))

    asyncio.run(run())
    work.finish(db)


def consumer(work: Work) -> None:
    """A consumer: its lock file, its side table, its position alone and on a transaction, its end."""
    db, marks = _opened(work)
    others = db.stream("others", Mark)
    work.arm()
    one: varve.Consumer[Any] | None = work.do("consumer", lambda: db.consumer("billing", commit="manual"))
    stored: list[int] = []
    if one is not None:
        reader = one
        batches = reader.follow_batches(10, timeout_s=0)

        def read() -> list[Any]:
            return next(batches, [])

        work.do("read", read)
        if work.do("commit position", reader.commit_blocking) is not None:
            stored.append(reader.committed)
        work.do("read", read)

        def ride(number: int) -> None:
            with db.transaction() as tx:
                tx.append(others, "out", work.marks(number, 1)[0])
                tx.store_position(reader)

        work.commit("ride", ride)
        work.do("seek", lambda: reader.seek(3))
        work.do("close consumer", reader.close)
    work.do("consumer by force", lambda: db.consumer("billing", force=True).close())
    work.commit("append", lambda number: marks.append(0, work.marks(number, 1)[0]))
    work.finish(db)


def create(work: Work) -> None:
    """A new store in a new folder, and its first append."""
    work.arm()
    db = work.open()
    if db is not None:
        marks = work.do("bind", lambda: db.stream("marks", Mark))
        if marks is not None:
            work.commit("first append", lambda number: marks.append(0, work.marks(number, 1)[0]))
    work.finish(db)


def reopen(work: Work) -> None:
    """Opening a store, an append, a read, closing it, reading it with readonly."""
    work.arm()
    db = work.open()
    if db is not None:
        marks = work.do("bind", lambda: db.stream("marks", Mark))
        if marks is not None:
            work.commit("append", lambda number: marks.append(0, work.marks(number, 1)[0]))
            work.do("read", lambda: marks.reader().get(0, 0))
        work.do("close", db.close)
    begun = len(work.told.attempts)
    work.finish(work.open(readonly=True), begun)


def bulk(work: Work) -> None:
    """Bulk loading: commits without a sync, ``db.sync()``, closing while calls fail."""
    db = work.open(durability="bulk")
    assert db is not None
    marks = db.stream("marks", Mark)
    work.arm()
    for _ in range(2):
        work.commit("bulk batch", lambda number: marks.append_batch(3, work.marks(number, 100, 300)))
    work.do("sync", db.sync)
    work.commit("bulk append", lambda number: marks.append(3, work.marks(number, 1)[0]))
    work.do("close", db.close)
    work.finish(None)


def bulk_with(work: Work) -> None:
    """Leaving a ``with`` block of bulk loading while calls fail."""
    db = work.open(durability="bulk")
    assert db is not None
    marks = db.stream("marks", Mark)

    def leave() -> None:
        with db:
            work.commit("bulk batch", lambda number: marks.append_batch(3, work.marks(number, 50, 300)))

    work.arm()
    work.do("leave", leave)
    work.finish(None)


def rebuild(work: Work) -> None:
    """Rebuilding a store into a new one."""
    work.arm()
    work.do("rebuild", lambda: ops.repair(work.store, work.folder / TARGET))
    work.finish(None)


def watch(work: Work) -> None:
    """A waiter with its socket, hints to another process's socket, and the commits that wake them."""
    db, marks = _opened(work)
    work.arm()
    end = db.next_global_sequence
    watcher = db.watcher()

    def wait() -> None:
        with contextlib.suppress(varve.VarveError):  # the handle failed, or was closed
            watcher.wait(end, 60.0)

    waiter = threading.Thread(target=wait)
    waiter.start()
    for _ in range(3):
        work.commit("append", lambda number: marks.append(0, work.marks(number, 1)[0]))
    if any(one.outcome == ACKNOWLEDGED for one in work.told.attempts):
        waiter.join(PATIENCE_S)
        if waiter.is_alive():
            work.told.trouble.append("a waiter was not told of a commit")
    work.finish(db)
    waiter.join(PATIENCE_S)
    if waiter.is_alive():
        work.told.trouble.append("a waiter was not told of the end of its handle")


WORKLOADS: Final[dict[str, Callable[[Work], None]]] = {
    work.__name__: work
    for work in (
        single,
        beside,
        relaxed,
        first,
        batch,
        transaction,
        threads,
        group,
        consumer,
        create,
        reopen,
        bulk,
        bulk_with,
        rebuild,
        watch,
    )
}

FROM_NOTHING: Final = ("create",)
"""Workloads that begin without a store."""
