"""Random plans of commits, and the calls that carry them out."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import varve
from torture.model.world import (
    CLASSES,
    Append,
    Fact,
    Key,
    Metadata,
    Outcome,
    Plan,
    StreamId,
    Used,
    World,
    Written,
    Wrong,
)

NAMES = ("orders", "payments", "Bücher")
IDS: tuple[StreamId, ...] = (0, 1, 2**64 - 1, "1", "a", "ä" * 127, uuid.UUID(int=1), uuid.UUID(int=2**128 - 1))
KEYS: tuple[Key, ...] = (b"k", "k", "k2", "ä" * 127, uuid.UUID(int=7))
METADATA: tuple[Metadata | None, ...] = (
    None,
    None,
    None,
    {"user": "eve"},
    {"deep": {"list": [1, None, {"x": 2.5}]}},
    {},
)
SIZES = (0, 3, 5, 20, 40, 40, 40, 200, 600)
COUNTS = (1, 2, 2, 3, 3, 5, 8, 9, 20)
FORMS = ("call", "transaction", "commit", "write")


class Facts:
    """Contents, no two alike."""

    def __init__(self, version: int = 1, first: int = 0) -> None:
        self.version = version
        self.number = first

    def one(self, choose: random.Random, size: int | None = None) -> Fact:
        """A fresh one, as a program of ``version`` writes it."""
        self.number += 1
        kind = choose.randrange(3)
        text = "x" * (choose.choice(SIZES) if size is None else size)
        extra = None
        if kind == 0 and self.version:
            extra = choose.choice((7, 7, 1, 2**32 - 1))
        return Fact(kind, self.number, text, extra)

    def some(self, choose: random.Random, count: int) -> list[Fact]:
        """Several, of small texts but perhaps the first."""
        return [self.one(choose, None if n == 0 else choose.randrange(30)) for n in range(count)]


def stream_id(choose: random.Random) -> StreamId:
    """One of the few that everything is about, or one of many."""
    return choose.choice(IDS) if choose.random() < 0.9 else choose.randrange(300)


def batch_size(choose: random.Random) -> int:
    """Mostly small; sometimes none, sometimes more than a block holds."""
    lot = choose.random()
    if lot < 0.03:
        return 0
    return choose.choice(COUNTS) if lot < 0.98 else choose.choice((40, 100, 350))


def append_call(
    choose: random.Random, facts: Facts, length: Callable[[str, StreamId], int], *, many: bool = True
) -> Append:
    """An append call of any form, its expectation right, wrong or none; ``length`` says how long a stream is thought to
    be."""
    name = choose.choice(NAMES)
    metadata = choose.choice(METADATA)
    lot = choose.random()
    if many and lot < 0.2:
        ids = [stream_id(choose) for _ in range(choose.randrange(1, 5))]
        rounds = choose.choice((0, 1, 1, 2, 4)) if choose.random() < 0.97 else 40
        items = tuple(zip(ids * rounds, facts.some(choose, len(ids) * rounds), strict=True))
        return Append("many", name, items, 0, varve.ANY, metadata)
    one = stream_id(choose)
    form = "one" if lot < 0.7 else "batch"
    size = None if choose.random() < 0.97 else choose.choice((2_000, 9_000, 40_000))
    made = [facts.one(choose, size)] if form == "one" else facts.some(choose, batch_size(choose))
    return Append(
        form, name, tuple((one, fact) for fact in made), one, expectation(choose, length(name, one)), metadata
    )


def expectation(choose: random.Random, length: int) -> Any:
    """None, one that holds, or one that does not."""
    lot = choose.random()
    if lot < 0.5:
        return varve.ANY
    if lot < 0.8:
        return length
    if lot < 0.9:
        return choose.choice((varve.NO_STREAM, varve.STREAM_EXISTS))
    return choose.choice((length + 1, max(0, length - 1), length + 5, 0, 2**40))


def plan(choose: random.Random, facts: Facts, length: Callable[[str, StreamId], int], *, calls: int) -> Plan:
    """A commit of so many calls; its later expectations count what its earlier calls append."""
    ahead: dict[tuple[str, type, StreamId], int] = {}

    def counted(name: str, one: StreamId) -> int:
        return length(name, one) + ahead.get((name, type(one), one), 0)

    appends = []
    for _ in range(calls):
        append = append_call(choose, facts, counted)
        for one, _ in append.items:
            ahead[append.name, type(one), one] = ahead.get((append.name, type(one), one), 0) + 1
        appends.append(append)
    metadata = choose.choice(METADATA) if calls > 1 else None
    return Plan(tuple(appends), None, metadata)


def keyed(choose: random.Random, made: Plan, world: World, version: int, keys: tuple[Key, ...] = KEYS) -> Plan:
    """A plan under a key: a first use, a retry in this or another form, or another content under a used key."""
    key = choose.choice(keys)
    known = world.keys.get((type(key), key))
    if known is None or choose.random() < 0.3:
        return made._replace(key=key)
    first = known[0]
    # A program that does not know a field cannot say it again: it makes other content of it.
    appends = tuple(
        append._replace(
            items=tuple(
                (one, fact if version or fact.kind else fact._replace(extra=None)) for one, fact in append.items
            ),
            expected=choose.choice((varve.ANY, 2**40)) if append.form != "many" else varve.ANY,
        )
        for append in first.appends
    )
    if choose.random() < 0.3 and len(appends) == 1 and appends[0].form == "one":
        appends = (appends[0]._replace(form="batch"),)
    return first._replace(appends=appends, key=key)


# -- carrying out --------------------------------------------------------------------------------------------------


class Undone(Exception):
    """Raised inside a transaction, which then writes nothing."""


class Caller:
    """A program of some version that holds a store open."""

    def __init__(self, db: varve.Varve, version: int) -> None:
        self.db = db
        self.version = version
        placed, shipped, blob = CLASSES[version]
        self.streams: dict[str, varve.Stream[Any]] = {name: db.stream(name, placed | shipped | blob) for name in NAMES}

    def run(self, form: str, made: Plan) -> Written:
        """Commit a plan: ``call`` (a plan of one call only), ``transaction``, ``commit`` or ``write``. Raises what Varve
        raises."""
        if form == "call" and len(made.appends) == 1:
            return self._call(made.appends[0], made)
        if form == "write":
            tx = self.db.write(lambda tx: self._fill(tx, made), idempotency_key=made.key, metadata=made.metadata)
            return written(tx.positions, made, replayed=tx.replayed)
        begun = self.db.transaction(idempotency_key=made.key, metadata=made.metadata)
        if form == "commit":
            self._fill(begun, made).commit()
        else:
            with begun:
                self._fill(begun, made)
        return written(begun.positions, made, replayed=begun.replayed)

    def undo(self, form: str, made: Plan) -> None:
        """Everything of a plan but its commit."""
        if form == "write":

            def fail(tx: Any) -> None:
                self._fill(tx, made)
                raise Undone

            try:
                self.db.write(fail, idempotency_key=made.key)
            except Undone:
                return
        elif form == "commit":
            tx = self.db.transaction(idempotency_key=made.key)
            self._fill(tx, made)
            tx.rollback()
        else:
            try:
                with self.db.transaction(idempotency_key=made.key) as tx:
                    self._fill(tx, made)
                    raise Undone  # noqa: TRY301 - out of the block, and no further
            except Undone:
                return

    def _call(self, append: Append, made: Plan) -> Written:
        stream, events = self.streams[append.name], self._events(append)
        options: dict[str, Any] = {"idempotency_key": made.key, "metadata": append.metadata}
        if append.form == "one":
            position = stream.append(append.stream_id, events[0], expected=append.expected, **options)
            return written([position], made, replayed=position.replayed)
        if append.form == "batch":
            span = stream.append_batch(append.stream_id, iter(events), expected=append.expected, **options)
        else:
            span = stream.append_many(zip((one for one, _ in append.items), events, strict=True), **options)
        return written([span], made, replayed=span.replayed)

    def awaited(self, made: Plan) -> Awaitable[Written]:
        """The same without blocking an event loop."""
        return self._transaction_async(made) if len(made.appends) != 1 else self._call_async(made.appends[0], made)

    async def _call_async(self, append: Append, made: Plan) -> Written:
        stream, events = self.streams[append.name], self._events(append)
        options: dict[str, Any] = {"idempotency_key": made.key, "metadata": append.metadata}
        if append.form == "one":
            position = await stream.append_async(append.stream_id, events[0], expected=append.expected, **options)
            return written([position], made, replayed=position.replayed)
        if append.form == "batch":
            span = await stream.append_batch_async(append.stream_id, events, expected=append.expected, **options)
        else:
            pairs = list(zip((one for one, _ in append.items), events, strict=True))
            span = await stream.append_many_async(pairs, **options)
        return written([span], made, replayed=span.replayed)

    async def _transaction_async(self, made: Plan) -> Written:
        async with self.db.transaction(idempotency_key=made.key, metadata=made.metadata) as tx:
            self._fill(tx, made)
        return written(tx.positions, made, replayed=tx.replayed)

    def _fill(self, tx: Any, made: Plan) -> Any:
        for append in made.appends:
            stream, events = self.streams[append.name], self._events(append)
            if append.form == "one":
                tx.append(stream, append.stream_id, events[0], expected=append.expected, metadata=append.metadata)
            elif append.form == "batch":
                tx.append_batch(stream, append.stream_id, events, expected=append.expected, metadata=append.metadata)
            else:
                pairs = list(zip((one for one, _ in append.items), events, strict=True))
                tx.append_many(stream, pairs, metadata=append.metadata)
        return tx

    def _events(self, append: Append) -> list[Any]:
        return [fact.event(self.version) for _, fact in append.items]


def written(positions: list[Any], made: Plan, *, replayed: bool) -> Written:
    """What calls returned, as places."""
    places = []
    for append, returned in zip(made.appends, positions, strict=True):
        pairs = [returned] if append.form == "one" else list(returned)
        places.append(tuple((pair[0], pair[1]) for pair in pairs))
    return Written(tuple(places), replayed and any(places))


def attempt(run: Callable[[], Written]) -> Outcome:
    """What a commit came to, its refusals as values."""
    try:
        return run()
    except varve.WrongExpectedVersion as exc:
        return Wrong(exc.expected, exc.actual)
    except varve.IdempotencyConflict as exc:
        return Used(exc.global_sequence)


async def attempts(awaits: list[Awaitable[Written]]) -> list[Outcome | BaseException]:
    """What commits that are awaited together came to, in order."""
    found: list[Outcome | BaseException] = []
    for came in await asyncio.gather(*awaits, return_exceptions=True):
        if isinstance(came, varve.WrongExpectedVersion):
            found.append(Wrong(came.expected, came.actual))
        elif isinstance(came, varve.IdempotencyConflict):
            found.append(Used(came.global_sequence))
        else:
            found.append(came)
    return found
