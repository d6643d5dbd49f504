"""State beside the log: what it adds to an append, and how many optimistic writers share commits."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import varve
from benches.events import SEED, OrderPlaced, checksum, orders
from benches.goals import GOALS
from benches.lines import Line, cost_line, exact, speed_line
from benches.pairs import Side, compare
from benches.workspace import Workspace

KEYS = 1_000
WRITERS = 32


def with_event(work: Workspace) -> Iterator[Line]:
    """An event and a value of state in one durable transaction, against a bare durable append of the same event."""
    size = work.size
    events = orders(size.events)[: size.appends]
    generator = random.Random(SEED)
    for name, change in (("a put", _put), ("an addition", _add), ("a read, a put and a check", _decide)):
        with work.fresh() as path, work.fresh() as other, _filled(path) as db, _filled(other) as plain:
            stream, bare = db.stream("orders", OrderPlaced), plain.stream("orders", OrderPlaced)

            def ours(_: Any, db: varve.Varve = db, stream: Any = stream, change: Any = change) -> None:
                for event, key in zip(events, generator.choices(range(KEYS), k=len(events)), strict=True):
                    with db.transaction() as tx:
                        change(tx, ("account", key))
                        tx.append(stream, key, event)

            def theirs(_: Any, bare: Any = bare) -> None:
                for event, key in zip(events, generator.choices(range(KEYS), k=len(events)), strict=True):
                    bare.append(key, event)

            pair = compare(
                Side("transaction", ours, lambda _, __, db=db: _written(db, len(events))),
                Side("append", theirs, lambda _, __, plain=plain: _written(plain, len(events))),
                rounds=size.short_rounds,
                warmups=3,
            )
        what = f"one event and {name} of state in a transaction, against an append of the event"
        yield cost_line("derived/state-event", what, "full", GOALS["state-event"], pair, events=size.appends)


def _put(tx: varve.Transaction, key: tuple[str, int]) -> None:
    tx.state.put(key, 17)


def _add(tx: varve.Transaction, key: tuple[str, int]) -> None:
    tx.state.add(key, 1)


def _decide(tx: varve.Transaction, key: tuple[str, int]) -> None:
    tx.state.put(key, tx.state.get(key) + 1)
    tx.require_min(key, 0)


def _written(db: varve.Varve, count: int) -> object:
    return checksum(db.global_reader().iter_bytes(db.next_global_sequence - count))


@contextmanager
def _filled(path: Any) -> Iterator[varve.Varve]:
    """A durable store of 1,000 streams with a value of state each."""
    with varve.open(path, durability="bulk") as db:
        db.stream("orders", OrderPlaced).append_many([(key, orders(KEYS)[key]) for key in range(KEYS)])
        with db.transaction() as tx:
            for key in range(KEYS):
                tx.state.put(("account", key), 0)
    with varve.open(path) as db:
        yield db


def writers(work: Workspace) -> Iterator[Line]:
    """32 optimistic writers on 1,000 keys against one: as many decisions in all, each a read, a put and an event."""
    decisions = max(1, work.size.appends * 10 // WRITERS) * WRITERS
    runs: list[int] = []
    with work.fresh() as path, _filled(path) as db:
        many = Side("32 writers", lambda _: _decisions(db, WRITERS, decisions, runs), lambda _, __: _total(db))
        one = Side("1 writer", lambda _: _decisions(db, 1, decisions, []), lambda _, __: _total(db))
        pair = compare(_gained(many, db), _gained(one, db), rounds=work.size.short_rounds // 4 or 1)
    what = f"{WRITERS} optimistic writers on {KEYS:,} keys against one"
    yield speed_line("derived/optimistic", what, "full", GOALS["optimistic"], pair, events=decisions)
    again = sum(runs) / (decisions * len(runs)) - 1
    yield Line(
        "derived/optimistic", f"runs beyond the first, {what}", "full", GOALS["optimistic-runs"], exact(again), "of all"
    )


def _gained(side: Side, db: varve.Varve) -> Side:
    """The same with what a round has added as its checksum: every decision, none lost."""

    @contextmanager
    def begin() -> Iterator[int]:
        yield _total(db)

    return Side(side.name, side.run, lambda before, _: _total(db) - before, begin)


def _total(db: varve.Varve) -> int:
    return sum(value for _, value in db.state.scan_prefix(("account",)))


def _decisions(db: varve.Varve, threads: int, count: int, runs: list[int]) -> None:
    stream = db.stream("orders", OrderPlaced)
    event = orders(1)[0]
    ran = [0] * threads

    def work(number: int) -> None:
        generator = random.Random(SEED + number)
        for _ in range(count // threads):
            db.optimistic(_decision(stream, event, generator.randrange(KEYS), ran, number))

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    runs.append(sum(ran))


def _decision(stream: Any, event: Any, key: int, ran: list[int], number: int) -> Callable[[varve.Transaction], None]:
    def decide(tx: varve.Transaction) -> None:
        ran[number] += 1
        tx.state.put(("account", key), tx.state.get(("account", key)) + 1)
        tx.append(stream, key, event)

    return decide


CASES = {"derived/state-event": with_event, "derived/optimistic": writers}
