"""Every public method of what a scoped handle leads to: what it does inside the scope, and that it refuses outside.

The methods are found by looking at the classes: one that is added without a decision here fails the first test.
"""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from scoped_models import IDENT, MINE, STATE, Note, Secret, seen

import varve

CLASSES: dict[str, type] = {
    "Varve": varve.Varve,
    "ScopedVarve": varve.ScopedVarve,
    "Stream": varve.Stream,
    "StreamReader": varve.StreamReader,
    "GlobalReader": varve.GlobalReader,
    "Snapshot": varve.Snapshot,
    "ScopedSnapshot": varve.ScopedSnapshot,
    "Transaction": varve.Transaction,
    "WriteTransaction": varve.WriteTransaction,
    "Tail": varve.Tail,
    "Follow": varve.Follow,
    "Consumer": varve.Consumer,
    "ConsumerBatches": varve.ConsumerBatches,
    "Watcher": varve.Watcher,
    "State": varve.State,
    "StateView": varve.StateView,
    "TransactionState": varve.TransactionState,
}
WHEN = dt.datetime(2030, 1, 1, tzinfo=dt.UTC)


class Scene:
    """A scoped handle and the store that it is of. Inside: orders/7 and all of notes."""

    def __init__(self, db: varve.Varve) -> None:
        self.db = db
        self.scoped = db.scoped(
            read=["orders/7", "notes"],
            append=["orders/7", "notes"],
            state=["t1/", ("t1",)],
            state_read=["shared/"],
            consumers=["mine-*"],
            label="tenant",
        )
        self.orders = self.scoped.stream("orders", Note)
        self.notes = self.scoped.stream("notes", Note)
        self.whole_orders = db.stream("orders", Note)
        self.whole_pay = db.stream("pay", Secret)
        self.reader = self.orders.reader()
        self.replay = self.scoped.global_reader()
        self.state: Any = self.scoped.state
        everything = seen(db.global_reader().iter_from())
        self.mine = [one for one in everything if one[:2] == ("orders", 7)]
        self.inside = [one for one in everything if one[0] == "notes" or one[:2] == ("orders", 7)]
        self.foreign = everything.index(("orders", "7", 0))
        self.own = everything.index(("orders", 7, 0))

    def written(self, fn: Callable[[Any], Any]) -> Any:
        """Inside of ``write``."""
        return self.scoped.write(fn)

    def within(self, fn: Callable[[Any], Any]) -> Any:
        """In a transaction."""
        with self.scoped.transaction() as tx:
            return fn(tx)

    def at(self, fn: Callable[[Any], Any]) -> Any:
        """In a snapshot."""
        with self.scoped.snapshot() as snap:
            return fn(snap)

    def consumed(self, fn: Callable[[Any], Any]) -> Any:
        """With a consumer."""
        with self.scoped.consumer("mine-1") as consumer:
            return fn(consumer)


Act = Callable[[Scene], Any]


class Free(NamedTuple):
    """Says nothing of events but how many there are in all, or stays within what it was made with."""

    why: str


class Checked(NamedTuple):
    """Gives ``gives`` (None: whatever) inside, and raises outside."""

    inside: Act
    outside: tuple[Act, ...]
    gives: Act | None = None


class Filtered(NamedTuple):
    """Gives what is inside, and only that. ``outside``: what is asked for by name and raises."""

    inside: Act
    gives: Act
    outside: tuple[Act, ...] = ()


class Beyond(NamedTuple):
    """Is refused whatever it is given."""

    outside: tuple[Act, ...]


MADE_BY_SCOPE = Free("made by a handle that has chosen what it gives; tested as Tail, Follow, Consumer")
POSITION = Free("a position in the log, and how long that is, are no secret: every append tells")


async def first(events: Any, count: int) -> list[Any]:
    """So many of an endless iterator."""
    return [await anext(events) for _ in range(count)]


def drained(make: Callable[[], Any], count: int) -> list[Any]:
    """The first of a tail."""

    async def run() -> list[Any]:
        return await first(make(), count)

    return asyncio.run(run())


def lists(make: Callable[[], Any], count: int) -> list[Any]:
    """The first of an iterator of lists, as one list."""

    async def run() -> list[Any]:
        found: list[Any] = []
        batches = make()
        while len(found) < count:
            found += await anext(batches)
        return found

    return asyncio.run(run())


def orders_of(s: Scene) -> Any:
    return {"number": s.whole_orders.reader().columns(["number"], 7)["number"].tolist()}


def numbers(columns: Any) -> Any:
    return {"number": columns["number"].tolist()}


HANDLE: dict[str, Any] = {
    "path": Free("the folder"),
    "readonly": Free("how it was opened"),
    "uuid": Free("the store's identity"),
    "next_global_sequence": POSITION,
    "first_global_sequence": POSITION,
    "sequence_at": POSITION,
    "watcher": POSITION,
    "stream": Checked(lambda s: s.scoped.stream("orders", Note), (lambda s: s.scoped.stream("pay", Secret),)),
    "global_reader": Filtered(lambda s: seen(s.scoped.global_reader().iter_from()), lambda s: s.inside),
    "snapshot": Filtered(lambda s: s.at(lambda snap: seen(snap.global_reader().iter_from())), lambda s: s.inside),
    "state": Filtered(
        lambda s: list(s.scoped.state.range()),
        lambda _: MINE,
        (lambda s: s.scoped.state.get("t2/a"), lambda s: s.scoped.state.put("shared/x", 1)),
    ),
    "optimistic": Checked(
        lambda s: s.scoped.optimistic(lambda tx: tx.append(s.whole_orders, 7, Note(tx.length(s.orders, 7)))),
        (
            lambda s: s.scoped.optimistic(lambda tx: tx.append(s.whole_orders, 8, Note(1))),
            lambda s: s.scoped.optimistic(lambda tx: tx.length(s.whole_orders, 8)),
        ),
    ),
    "optimistic_async": Checked(
        lambda s: asyncio.run(s.scoped.optimistic_async(lambda tx: tx.append(s.whole_orders, 7, Note(1)))),
        (lambda s: asyncio.run(s.scoped.optimistic_async(lambda tx: tx.state.put("t2/a", 1))),),
    ),
    "transaction": Checked(
        lambda s: s.within(lambda tx: tx.append(s.orders, 7, Note(1))),
        (lambda s: s.within(lambda tx: tx.append(s.orders, 8, Note(1))),),
    ),
    "write": Checked(
        lambda s: s.written(lambda tx: tx.append(s.orders, 7, Note(1))),
        (lambda s: s.written(lambda tx: tx.append(s.orders, 8, Note(1))),),
    ),
    "tail": Filtered(
        lambda s: seen(drained(s.scoped.tail, len(s.inside))),
        lambda s: s.inside,
        (lambda s: s.scoped.tail(streams=["notes", "pay"]),),
    ),
    "follow": Filtered(
        lambda s: seen(s.scoped.follow(timeout_s=0)), lambda s: s.inside, (lambda s: s.scoped.follow(streams=["pay"]),)
    ),
    "consumer": Filtered(
        lambda s: s.consumed(lambda consumer: seen(consumer.follow(timeout_s=0))),
        lambda s: s.inside,
        (lambda s: s.scoped.consumer("others"), lambda s: s.scoped.consumer("mine-2", streams=["pay"])),
    ),
    "scoped": Filtered(
        lambda s: seen(s.scoped.scoped(read=["*"]).global_reader().iter_from()),
        lambda s: s.inside,
        (lambda s: s.scoped.scoped(read=["*"], append=["*"]).stream("pay", Secret),),
    ),
}
DECISIONS: dict[str, dict[str, Any]] = {
    "Varve": {
        **HANDLE,
        **{
            name: Beyond((lambda s, name=name, given=given: getattr(s.scoped, name)(*given),))  # type: ignore[misc]
            for name, given in {
                "stats": (),
                "observe": (varve.Observer(),),
                "unobserve": (varve.Observer(),),
                "sync": (),
                "archive": (1, "/nowhere"),
                "backup": ("/nowhere",),
                "consumers": (),
                "seek_consumer": ("mine-1", 0),
                "delete_consumer": ("mine-1",),
                "close": (),
                "projection": (None,),  # its tables are of the whole log
                "projections": (),
                "processor": ("mine-1", print),  # letters and positions belong to the whole store
                "dead_letters": (),
                "snapshots": (),  # a property: refused at the access
            }.items()
        },
    },
    "ScopedVarve": {**HANDLE, "label": Free("its own"), "refusals": Free("its own")},
    "Stream": {
        "name": Free("its own"),
        "append": Checked(
            lambda s: s.orders.append(7, Note(1)),
            (
                lambda s: s.orders.append(8, Note(1)),
                lambda s: s.orders.append("7", Note(1)),
                lambda s: s.orders.append(IDENT, Note(1), expected=5),
            ),
        ),
        "append_batch": Checked(
            lambda s: s.orders.append_batch(7, [Note(1)]),
            (
                lambda s: s.orders.append_batch(8, [Note(1)]),
                lambda s: s.orders.append_batch(8, []),
                lambda s: s.orders.append_batch(8, [], expected=99),
            ),
        ),
        "append_many": Checked(
            lambda s: s.orders.append_many([(7, Note(1))]),
            (lambda s: s.orders.append_many([(7, Note(1)), (8, Note(2)), (7, Note(3))]),),
        ),
        "append_columns": Checked(
            lambda s: s.orders.append_columns(7, {"number": [1, 2]}),
            (
                lambda s: s.orders.append_columns(8, {"number": [1, 2]}),
                lambda s: s.orders.append_columns([7, 8], {"number": [1, 2]}),
            ),
        ),
        "append_async": Checked(
            lambda s: asyncio.run(s.orders.append_async(7, Note(1))),
            (lambda s: asyncio.run(s.orders.append_async(8, Note(1))),),
        ),
        "append_batch_async": Checked(
            lambda s: asyncio.run(s.orders.append_batch_async(7, [Note(1)])),
            (
                lambda s: asyncio.run(s.orders.append_batch_async(8, [Note(1)])),
                lambda s: asyncio.run(s.orders.append_batch_async(8, [])),
            ),
        ),
        "append_many_async": Checked(
            lambda s: asyncio.run(s.orders.append_many_async([(7, Note(1))])),
            (lambda s: asyncio.run(s.orders.append_many_async([(7, Note(1)), ("7", Note(1))])),),
        ),
        "append_columns_async": Checked(
            lambda s: asyncio.run(s.orders.append_columns_async(7, {"number": [1]})),
            (lambda s: asyncio.run(s.orders.append_columns_async([8], {"number": [1]})),),
        ),
        "reader": Filtered(lambda s: seen(s.orders.reader().iter_all()), lambda s: s.mine),
        "tail": Filtered(
            lambda s: seen(drained(s.orders.tail, len(s.mine))),
            lambda s: s.mine,
            (lambda s: s.orders.tail(stream_id=8),),
        ),
        "follow": Filtered(
            lambda s: seen(s.orders.follow(timeout_s=0)), lambda s: s.mine, (lambda s: s.orders.follow(stream_id="7"),)
        ),
        "truncate_before": Beyond(
            (lambda s: s.orders.truncate_before(7, 1), lambda s: s.notes.truncate_before("n1", 1))
        ),
        "retain": Beyond((lambda s: s.notes.retain(max_count=1), lambda s: s.orders.retain(7, max_count=1))),
        "retention": Checked(
            lambda s: (s.orders.retention(7), s.notes.retention()),
            (lambda s: s.orders.retention(8), lambda s: s.orders.retention()),
        ),
    },
    "StreamReader": {
        "name": Free("its own"),
        "get": Checked(
            lambda s: s.reader.get(7, 0),
            (lambda s: s.reader.get(8, 0), lambda s: s.reader.get("nobody", 0)),
            lambda _: Note(0),
        ),
        "get_bytes": Checked(lambda s: s.reader.get_bytes(7, 0), (lambda s: s.reader.get_bytes(8, 0),)),
        "get_recorded": Checked(lambda s: s.reader.get_recorded(7, 0), (lambda s: s.reader.get_recorded(8, 0),)),
        "length": Checked(
            lambda s: s.reader.length(7), (lambda s: s.reader.length("7"), lambda s: s.reader.length(99)), lambda _: 10
        ),
        "first_visible": Checked(
            lambda s: s.reader.first_visible(7), (lambda s: s.reader.first_visible(8),), lambda _: 0
        ),
        "iter_stream": Checked(
            lambda s: seen(s.reader.iter_stream(7)), (lambda s: s.reader.iter_stream(8),), lambda s: s.mine
        ),
        "iter_all": Filtered(
            lambda s: [seen(s.reader.iter_all()), seen(s.reader.iter_all(reverse=True))],
            lambda s: [s.mine, s.mine[::-1]],
        ),
        "columns": Filtered(
            lambda s: [numbers(s.reader.columns(["number"])), numbers(s.reader.columns(["number"], 7))],
            lambda s: [orders_of(s), orders_of(s)],
            (lambda s: s.reader.columns(["number"], 8),),
        ),
        "to_arrow": Filtered(
            lambda s: s.reader.to_arrow().read_all().to_pydict(), orders_of, (lambda s: s.reader.to_arrow(stream_id=8),)
        ),
        "stream_ids": Filtered(lambda s: list(s.reader.stream_ids()), lambda _: [7]),
    },
    "GlobalReader": {
        "get": Checked(
            lambda s: seen([s.replay.get(s.own)]), (lambda s: s.replay.get(s.foreign),), lambda s: s.mine[:1]
        ),
        "get_bytes": Checked(lambda s: s.replay.get_bytes(s.own), (lambda s: s.replay.get_bytes(s.foreign),)),
        "iter_from": Filtered(
            lambda s: [
                seen(s.replay.iter_from()),
                seen(s.replay.iter_from(reverse=True)),
                seen(s.replay.iter_from(streams=["orders"])),
                seen(s.replay.iter_from(types=[Secret])),
            ],
            lambda s: [s.inside, s.inside[::-1], s.mine, []],
            (lambda s: s.replay.iter_from(streams=["notes", "pay"]), lambda s: s.replay.iter_from(streams=["none"])),
        ),
        "iter_stream": Checked(
            lambda s: seen(s.replay.iter_stream("orders", 7)),
            (lambda s: s.replay.iter_stream("orders", 8), lambda s: s.replay.iter_stream("pay", 1)),
            lambda s: s.mine,
        ),
        "columns": Filtered(
            lambda s: s.replay.columns(["$stream", "$stream_id"], streams=["orders"])["$stream_id"].tolist(),
            lambda s: [7] * len(s.mine),
            (lambda s: s.replay.columns(["number"], streams=["pay"]),),
        ),
        "iter_bytes": Filtered(
            lambda s: [bytes(one) for one in s.replay.iter_bytes()],
            lambda s: [
                bytes(raw)
                for raw, recorded in zip(
                    s.db.global_reader().iter_bytes(), s.db.global_reader().iter_from(), strict=True
                )
                if seen([recorded])[0] in s.inside
            ],
        ),
    },
    "Snapshot": {
        "reader": Filtered(
            lambda s: s.at(lambda snap: seen(snap.reader(s.whole_orders).iter_all())),
            lambda s: s.mine,
            (
                lambda s: s.at(lambda snap: snap.reader(s.whole_pay)),
                lambda s: s.at(lambda snap: snap.reader(s.whole_orders).get(8, 0)),
            ),
        ),
        "global_reader": Filtered(
            lambda s: s.at(lambda snap: seen(snap.global_reader().iter_from())),
            lambda s: s.inside,
            (lambda s: s.at(lambda snap: snap.global_reader().get(s.foreign)),),
        ),
        "state": Filtered(
            lambda s: s.at(lambda snap: list(snap.state.range())),
            lambda _: MINE,
            (lambda s: s.at(lambda snap: snap.state.get("t2/a")),),
        ),
        "next_global_sequence": POSITION,
        "close": Free("its own"),
    },
    "Transaction": {
        "append": Checked(
            lambda s: s.within(lambda tx: tx.append(s.whole_orders, 7, Note(1))),
            (
                lambda s: s.within(lambda tx: tx.append(s.whole_orders, 8, Note(1))),
                lambda s: s.within(lambda tx: tx.append(s.whole_pay, 7, Secret(1, "x"))),
            ),
        ),
        "append_batch": Checked(
            lambda s: s.within(lambda tx: tx.append_batch(s.orders, 7, [Note(1)])),
            (
                lambda s: s.within(lambda tx: tx.append_batch(s.orders, 8, [Note(1)])),
                lambda s: s.within(lambda tx: tx.append_batch(s.orders, 8, [], expected=3)),
            ),
        ),
        "append_many": Checked(
            lambda s: s.within(lambda tx: tx.append_many(s.orders, [(7, Note(1))])),
            (lambda s: s.within(lambda tx: tx.append_many(s.orders, [(7, Note(1)), (8, Note(1))])),),
        ),
        "append_columns": Checked(
            lambda s: s.within(lambda tx: tx.append_columns(s.orders, 7, {"number": [1]})),
            (lambda s: s.within(lambda tx: tx.append_columns(s.orders, [7, 8], {"number": [1, 2]})),),
        ),
        "store_position": Checked(
            lambda s: s.consumed(lambda consumer: s.within(lambda tx: tx.store_position(consumer))),
            (lambda s: (c := s.db.consumer("others")) and s.within(lambda tx: tx.store_position(c)),),
        ),
        "state": Checked(
            lambda s: s.within(lambda tx: tx.state.put("t1/a", 2)),
            (
                lambda s: s.within(lambda tx: tx.state.put("t2/a", 2)),
                lambda s: s.within(lambda tx: tx.state.get("t10/a")),
            ),
        ),
        "require": Checked(
            lambda s: s.within(lambda tx: tx.require("t1/a", bool)),
            (lambda s: s.within(lambda tx: tx.require("t2/a", bool)),),
        ),
        "require_exists": Checked(
            lambda s: s.within(lambda tx: tx.require_exists("t1/a")),
            (lambda s: s.within(lambda tx: tx.require_exists("t2/a")),),
        ),
        "require_absent": Checked(
            lambda s: s.within(lambda tx: tx.require_absent("t1/z")),
            (lambda s: s.within(lambda tx: tx.require_absent("t2/z")),),
        ),
        "require_min": Checked(
            lambda s: s.within(lambda tx: tx.require_min("t1/a", 1)),
            (lambda s: s.within(lambda tx: tx.require_min("t2/a", 1)),),
        ),
        "require_max": Checked(
            lambda s: s.within(lambda tx: tx.require_max("shared/x", 9)),
            (lambda s: s.within(lambda tx: tx.require_max(7, 9)),),
        ),
        "require_version": Checked(
            lambda s: s.within(lambda tx: tx.require_version(s.whole_orders, 7, 10)),
            (
                lambda s: s.within(lambda tx: tx.require_version(s.whole_orders, 8, 10)),
                lambda s: s.within(lambda tx: tx.require_version(s.whole_pay, 1, 20)),
            ),
        ),
        "ensure": Checked(
            lambda s: s.within(lambda tx: tx.ensure("t1/a", bool) or tx.ensure(lambda view: view.exists("t1/a"))),
            (
                lambda s: s.within(lambda tx: tx.ensure("t2/a", bool)),
                lambda s: s.within(lambda tx: tx.ensure(lambda view: view.exists("t2/a"))),
                lambda s: s.within(lambda tx: (tx.state.put("t1/a", 2), tx.ensure(lambda view: view.exists("t2/a")))),
            ),
        ),
        "reader": Filtered(
            lambda s: s.within(lambda tx: seen(tx.reader(s.whole_orders).iter_all())),
            lambda s: s.mine,
            (
                lambda s: s.within(lambda tx: tx.reader(s.whole_pay)),
                lambda s: s.within(lambda tx: tx.reader(s.whole_orders).get(8, 0)),
                lambda s: s.within(lambda tx: tx.reader(s.whole_orders).columns(["number"], 8)),
            ),
        ),
        "global_reader": Filtered(
            lambda s: s.within(lambda tx: seen(tx.global_reader().iter_from())),
            lambda s: s.inside,
            (lambda s: s.within(lambda tx: tx.global_reader().get(s.foreign)),),
        ),
        "length": Checked(
            lambda s: s.within(lambda tx: tx.length(s.orders, 7)),
            (lambda s: s.within(lambda tx: tx.length(s.whole_orders, 8)),),
            lambda _: 10,
        ),
        "positions": Free("of its own appends"),
        "replayed": Free("of its own appends"),
        "commit": Free("what is in it was checked when it was added"),
        "commit_async": Free("as commit"),
        "rollback": Free("nothing happens"),
    },
    "WriteTransaction": {
        "append": Checked(
            lambda s: s.written(lambda tx: tx.append(s.orders, 7, Note(1))),
            (lambda s: s.written(lambda tx: tx.append(s.whole_orders, 8, Note(1))),),
        ),
        "append_batch": Checked(
            lambda s: s.written(lambda tx: tx.append_batch(s.orders, 7, [Note(1)])),
            (lambda s: s.written(lambda tx: tx.append_batch(s.orders, 8, [Note(1)])),),
        ),
        "append_many": Checked(
            lambda s: s.written(lambda tx: tx.append_many(s.orders, [(7, Note(1))])),
            (lambda s: s.written(lambda tx: tx.append_many(s.orders, [(8, Note(1))])),),
        ),
        "append_columns": Checked(
            lambda s: s.written(lambda tx: tx.append_columns(s.orders, 7, {"number": [1]})),
            (lambda s: s.written(lambda tx: tx.append_columns(s.orders, 8, {"number": [1]})),),
        ),
        "store_position": Checked(
            lambda s: s.consumed(lambda consumer: s.written(lambda tx: tx.store_position(consumer))),
            (lambda s: (c := s.db.consumer("others")) and s.written(lambda tx: tx.store_position(c)),),
        ),
        "reader": Filtered(
            lambda s: s.written(lambda tx: seen(tx.reader(s.whole_orders).iter_all())),
            lambda s: s.mine,
            (
                lambda s: s.written(lambda tx: tx.reader(s.whole_pay)),
                lambda s: s.written(lambda tx: tx.reader(s.orders).length(8)),
            ),
        ),
        "global_reader": Filtered(
            lambda s: s.written(lambda tx: seen(tx.global_reader().iter_from())),
            lambda s: s.inside,
            (lambda s: s.written(lambda tx: tx.global_reader().get(s.foreign)),),
        ),
        "state": Checked(
            lambda s: s.written(lambda tx: tx.state.put("t1/a", 2)),
            (
                lambda s: s.written(lambda tx: tx.state.put("t2/a", 2)),
                lambda s: s.written(lambda tx: tx.state.get("t10/a")),
            ),
        ),
        "require": Checked(
            lambda s: s.written(lambda tx: tx.require("t1/a", bool)),
            (lambda s: s.written(lambda tx: tx.require("t2/a", bool)),),
        ),
        "require_exists": Checked(
            lambda s: s.written(lambda tx: tx.require_exists("t1/a")),
            (lambda s: s.written(lambda tx: tx.require_exists("t2/a")),),
        ),
        "require_absent": Checked(
            lambda s: s.written(lambda tx: tx.require_absent("t1/z")),
            (lambda s: s.written(lambda tx: tx.require_absent("t2/z")),),
        ),
        "require_min": Checked(
            lambda s: s.written(lambda tx: tx.require_min("t1/a", 1)),
            (lambda s: s.written(lambda tx: tx.require_min("t2/a", 1)),),
        ),
        "require_max": Checked(
            lambda s: s.written(lambda tx: tx.require_max("shared/x", 9)),
            (lambda s: s.written(lambda tx: tx.require_max(7, 9)),),
        ),
        "require_version": Checked(
            lambda s: s.written(lambda tx: tx.require_version(s.whole_orders, 7, 10)),
            (
                lambda s: s.written(lambda tx: tx.require_version(s.whole_orders, 8, 10)),
                lambda s: s.written(lambda tx: tx.require_version(s.whole_pay, 1, 20)),
            ),
        ),
        "ensure": Checked(
            lambda s: s.written(lambda tx: tx.ensure("t1/a", bool) or tx.ensure(lambda view: view.exists("t1/a"))),
            (
                lambda s: s.written(lambda tx: tx.ensure("t2/a", bool)),
                lambda s: s.written(lambda tx: tx.ensure(lambda view: view.exists("t2/a"))),
                lambda s: s.written(lambda tx: (tx.state.put("t1/a", 2), tx.ensure(lambda view: view.exists("t2/a")))),
            ),
        ),
        "length": Checked(
            lambda s: s.written(lambda tx: tx.length(s.orders, 7)),
            (lambda s: s.written(lambda tx: tx.length(s.whole_orders, 8)),),
            lambda _: 10,
        ),
        "positions": Free("of its own appends"),
        "replayed": Free("of its own appends"),
        "commit": Free("raises in any"),
        "commit_async": Free("raises in any"),
        "rollback": Free("nothing happens"),
    },
    "Tail": {
        "position": POSITION,
        "batches": Filtered(lambda s: seen(lists(s.scoped.tail().batches, len(s.inside))), lambda s: s.inside),
        "next_batch": Filtered(lambda s: seen(asyncio.run(s.orders.tail().next_batch(100))), lambda s: s.mine),
        "aclose": Free("its own"),
    },
    "Follow": {
        "position": POSITION,
        "batches": Filtered(
            lambda s: seen(one for batch in s.scoped.follow(timeout_s=0).batches(7) for one in batch),
            lambda s: s.inside,
        ),
    },
    "Consumer": {
        "batches": Filtered(
            lambda s: s.consumed(lambda consumer: seen(lists(consumer.batches, len(s.inside)))), lambda s: s.inside
        ),
        "next_batch": Filtered(
            lambda s: s.consumed(lambda consumer: seen(lists(lambda: consumer.batches(9), len(s.inside)))),
            lambda s: s.inside,
        ),
        "follow": Filtered(
            lambda s: s.consumed(lambda consumer: seen(consumer.follow(timeout_s=0))), lambda s: s.inside
        ),
        "follow_batches": Filtered(
            lambda s: s.consumed(lambda consumer: seen(one for some in consumer.follow_batches(4, 0) for one in some)),
            lambda s: s.inside,
        ),
        "seek": Filtered(
            lambda s: s.consumed(lambda consumer: (consumer.seek(0), seen(consumer.follow(timeout_s=0)))[1]),
            lambda s: s.inside,
        ),
        "reset": Filtered(
            lambda s: s.consumed(lambda consumer: (consumer.reset(), seen(consumer.follow(timeout_s=0)))[1]),
            lambda s: s.inside,
        ),
        **dict.fromkeys(("name", "member", "members", "partitions"), Free("its own")),
        **dict.fromkeys(("position", "committed", "lag", "commit", "commit_blocking"), POSITION),
        **dict.fromkeys(("check", "close"), Free("its own")),
        "ride": Free("a position on a commit; store_position checks"),
    },
    "ConsumerBatches": {},
    "State": {
        **{
            name: Checked(inside, outside, gives)
            for name, (inside, outside, gives) in {
                "get": (lambda s: s.state.get("shared/x"), (lambda s: s.state.get("t10/a"),), lambda _: 9),
                "get_opt": (lambda s: s.state.get_opt("t1/none"), (lambda s: s.state.get_opt("none"),), lambda _: None),
                "exists": (lambda s: s.state.exists(("t1", 1)), (lambda s: s.state.exists(("t2", 1)),), lambda _: True),
                "put": (lambda s: s.state.put("t1/c", 1), (lambda s: s.state.put("t2/c", 1),), None),
                "delete": (lambda s: s.state.delete("t1/a"), (lambda s: s.state.delete("shared/x"),), lambda _: True),
                "update": (
                    lambda s: s.state.update("t1/a", lambda n: n + 1),
                    (lambda s: s.state.update("t2/a", lambda n: n + 1),),
                    lambda _: 2,
                ),
                "add": (lambda s: s.state.add("t1/a", 5), (lambda s: s.state.add(7, 5),), lambda _: 6),
            }.items()
        },
        "scan_prefix": Filtered(
            lambda s: [list(s.state.scan_prefix("t1")), list(s.state.scan_prefix((), reverse=True))],
            lambda _: [[("t1/a", 1), ("t1/b", 2)], [(("t1", 1), 5)]],
            (lambda s: s.state.scan_prefix("t2/"), lambda s: s.state.scan_prefix(b"")),
        ),
        "range": Filtered(
            lambda s: [
                list(s.state.range(reverse=True)),
                list(s.state.range("t1/b", "t2/z")),
                list(s.state.range(limit=3)),
                list(s.state.range("t1/b", "t1/b")),
            ],
            lambda _: [MINE[::-1], [("t1/b", 2)], MINE[:3], []],
            (lambda s: s.state.range("t2/a", "t3"), lambda s: s.state.range(1, 9), lambda s: s.state.range(b"a", b"z")),
        ),
    },
    "Watcher": dict.fromkeys(("next_global_sequence", "wait_for_global_seq", "wait"), POSITION),
}
DECISIONS["ScopedSnapshot"] = DECISIONS["Snapshot"]
DECISIONS["StateView"] = {
    name: decision for name, decision in DECISIONS["State"].items() if name not in {"put", "delete", "update", "add"}
}
DECISIONS["TransactionState"] = DECISIONS["State"]


def public(cls: type) -> set[str]:
    """The names that users of a class may use."""
    return {name for name in dir(cls) if not name.startswith("_")}


@pytest.mark.parametrize("name", CLASSES)
def test_every_public_method_has_a_decision(name: str) -> None:
    """What is new has to be decided on here: is it allowed, is it filtered, is it refused?"""
    assert public(CLASSES[name]) == set(DECISIONS[name])


def test_a_scoped_handle_has_nothing_that_was_not_decided() -> None:
    """Its methods are a choice of the store's own, and a few about itself."""
    assert public(varve.ScopedVarve) - public(varve.Varve) == {"label", "refusals"}
    assert public(varve.ScopedSnapshot) == public(varve.Snapshot)
    refused = {name for name, decision in DECISIONS["Varve"].items() if isinstance(decision, Beyond)}
    assert public(varve.Varve) - public(varve.ScopedVarve) == refused


def cases(kind: type | tuple[type, ...]) -> list[Any]:
    """The decisions of a kind as parameters."""
    return [
        pytest.param(decision, id=f"{name}.{method}")
        for name, table in DECISIONS.items()
        if name not in {"ScopedVarve", "ScopedSnapshot", "StateView", "TransactionState"}  # the same acts as of others
        for method, decision in table.items()
        if isinstance(decision, kind)
    ]


@pytest.fixture
def scene(db: varve.Varve) -> Scene:
    """A scoped handle on the store with events."""
    return Scene(db)


@pytest.mark.parametrize("method", DECISIONS["State"])
@pytest.mark.parametrize("run", ["within", "written", "at"])
def test_state_of_transactions_and_snapshots_is_that_of_the_handle(scene: Scene, run: str, method: str) -> None:
    """The same acts on ``tx.state`` and ``snap.state``: the same results, the same refusals."""
    if run == "at" and method not in DECISIONS["StateView"]:
        return
    decision = DECISIONS["State"][method]

    def act(one: Act) -> Any:
        def with_state(tx: Any) -> Any:
            scene.state = tx.state
            return one(scene)

        return getattr(scene, run)(with_state)

    given = act(decision.inside)
    if decision.gives is not None and method not in {"delete", "add"}:  # a transaction does these later
        assert given == decision.gives(scene)
    before = list(scene.db.state.range())
    for one in decision.outside:
        with pytest.raises(varve.PermissionRefused):
            act(one)
    assert list(scene.db.state.range()) == before


@pytest.mark.parametrize("decision", cases((Checked, Filtered)))
def test_what_is_inside_is_done_and_seen(scene: Scene, decision: Checked | Filtered) -> None:
    """Nothing is refused, and all that is inside is given, in order, and nothing else."""
    given = decision.inside(scene)
    if decision.gives is not None:
        assert given == decision.gives(scene)
    assert scene.scoped.refusals.count == 0


@pytest.mark.parametrize("decision", cases((Checked, Filtered, Beyond)))
def test_what_is_outside_is_refused_and_changes_nothing(scene: Scene, decision: Checked | Filtered | Beyond) -> None:
    """``PermissionRefused`` says what was tried and what is allowed; the log is as it was, and the handle goes on."""
    for number, act in enumerate(decision.outside, 1):
        before = scene.db.next_global_sequence
        with pytest.raises(varve.PermissionRefused) as info:
            act(scene)
        assert scene.db.next_global_sequence == before
        assert info.value.label == "tenant"
        assert info.value.action
        if info.value.what == "the store":  # a sentence, although the action is the name of a method
            assert f"may not use {info.value.action!r} of the store: " in str(info.value)
        assert info.value.what in str(info.value)
        assert scene.scoped.refusals.count == number
        assert dict(scene.db.state.range()) == STATE
    assert seen(scene.scoped.global_reader().iter_from()) == scene.inside


def test_a_refused_method_can_be_looked_at(scene: Scene, tmp_path: Path) -> None:
    """Only its use is refused; what no handle has is an AttributeError, as everywhere."""
    assert callable(scene.scoped.backup)  # type: ignore[attr-defined]
    assert not hasattr(scene.scoped, "nonsense")
    assert not hasattr(scene.scoped, "_private")
    with pytest.raises(varve.PermissionRefused):
        scene.scoped.backup(tmp_path / "set")  # type: ignore[attr-defined]
    assert not (tmp_path / "set").exists()
