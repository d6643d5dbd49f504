"""Steps that write, or try to."""

from __future__ import annotations

import datetime as dt
import random
import uuid
from collections.abc import Callable
from typing import Any

import varve
from torture.model import plans
from torture.model.machine import Machine, must, same
from torture.model.world import Append, Fact, Plan, Stranger, Written


def _length(machine: Machine) -> Callable[[str, Any], int]:
    world = machine.world
    return lambda name, stream_id: len(world.streams.get((name, type(stream_id), stream_id), ()))


def append(machine: Machine, choose: random.Random) -> None:
    """One call, of any form."""
    made = plans.plan(choose, machine.facts, _length(machine), calls=1)
    machine.commit("call", made)


def append_singly(machine: Machine, choose: random.Random) -> None:
    """A run of the smallest commits, which extend the open block."""
    for _ in range(choose.randrange(2, 8)):
        name, one = choose.choice(plans.NAMES), plans.stream_id(choose)
        fact = machine.facts.one(choose, 5)
        expected = len(machine.world.stream(name, one)) if choose.random() < 0.5 else varve.ANY
        machine.commit("call", Plan((Append("one", name, ((one, fact),), one, expected),)))


def transaction(machine: Machine, choose: random.Random) -> None:
    """Several calls in one commit; often one of its expectations is wrong, and then nothing of it is written."""
    made = plans.plan(choose, machine.facts, _length(machine), calls=choose.randrange(0, 6))
    machine.commit(choose.choice(plans.FORMS[1:]), made)


def under_key(machine: Machine, choose: random.Random) -> None:
    """A key's first use, a retry or a conflict."""
    made = plans.plan(choose, machine.facts, _length(machine), calls=choose.choice((1, 1, 1, 2, 3)))
    made = plans.keyed(choose, made, machine.world, machine.version)
    form = (
        choose.choice(plans.FORMS)
        if len(made.appends) == 1 and made.metadata is None
        else choose.choice(plans.FORMS[1:])
    )
    machine.commit(form, made)


def undone(machine: Machine, choose: random.Random) -> None:
    """A block that is left by an exception, rolled back, or raised out of ``db.write``."""
    made = plans.plan(choose, machine.facts, _length(machine), calls=choose.randrange(1, 4))
    machine.caller.undo(choose.choice(plans.FORMS[1:]), made)


def decided(machine: Machine, choose: random.Random) -> None:
    """``db.write`` reads what is committed and counts what it appended itself."""
    name, one = choose.choice(plans.NAMES), plans.stream_id(choose)
    stream, before = machine.caller.streams[name], machine.world.stream(name, one)
    end = len(machine.world.log)
    facts = machine.facts.some(choose, choose.randrange(1, 4))

    def decide(tx: varve.WriteTransaction) -> None:
        reader = tx.reader(stream)
        for n, fact in enumerate(facts):
            same(tx.length(stream, one), len(before) + n, "tx.length")
            tx.append(stream, one, fact.event(machine.version), expected=len(before) + n)
        same(reader.length(one), len(before), "length inside db.write")
        if before:
            machine.check(reader.get_recorded(one, len(before) - 1), before[-1])
        same(tx.global_reader().get(end), None, "an event that is not committed")

    made = Plan(tuple(Append("one", name, ((one, fact),), one, len(before) + n) for n, fact in enumerate(facts)))
    try:
        machine.db.write(decide)
    except varve.StoreFull:
        machine.full()
        return
    judged = machine.world.judge(made)
    assert isinstance(judged, Written)
    machine.world.write(made, judged, machine.clock.now_ns)


def awaited_together(machine: Machine, choose: random.Random) -> None:
    """Commits of many tasks share write transactions; each has its own outcome, in the order of their calls."""
    made = []
    for _ in range(choose.randrange(2, 9)):
        one = plans.plan(choose, machine.facts, _length(machine), calls=choose.choice((1, 1, 1, 1, 3)))
        if choose.random() < 0.15:
            one = plans.keyed(choose, one, machine.world, machine.version)
        # A commit of several coroutine steps may be handed in after a shorter one: only single calls keep their order.
        made.append(
            one
            if len(one.appends) == 1 and one.metadata is None
            else one._replace(appends=one.appends[:1], metadata=None)
        )
    found = machine.run_async(_together(machine, made))
    for one, came in zip(made, found, strict=True):
        if isinstance(came, varve.StoreFull):
            machine.full()
            continue
        if isinstance(came, BaseException):
            raise came
        judged = machine.world.judge(one)
        same(came, judged, "awaited", one, made)
        if isinstance(judged, Written):
            machine.world.write(one, judged, machine.clock.now_ns)


async def _together(machine: Machine, made: list[Plan]) -> list[Any]:
    return await plans.attempts([machine.caller.awaited(one) for one in made])


def refused(machine: Machine, choose: random.Random) -> None:
    """Bad input of some kind: the typed error, and nothing has changed."""
    db = machine.db
    stream = machine.caller.streams[choose.choice(plans.NAMES)]
    event = Fact(1, 1, "x").event(machine.version)
    reader = stream.reader()
    cases: tuple[tuple[Any, Callable[[], Any]], ...] = (
        (varve.InvalidStreamId, lambda: stream.append(-1, event)),
        (varve.InvalidStreamId, lambda: stream.append(2**64, event)),
        (varve.InvalidStreamId, lambda: stream.append(True, event)),
        (varve.InvalidStreamId, lambda: stream.append("x" * 256, event)),
        (varve.InvalidStreamId, lambda: stream.append("", event)),
        (varve.InvalidStreamId, lambda: stream.append(1.5, event)),  # type: ignore[arg-type]
        (varve.InvalidStreamId, lambda: stream.append_many([(1, event), (None, event)])),  # type: ignore[list-item]
        (varve.EventTypeError, lambda: stream.append(1, Stranger(1))),
        (varve.EventTypeError, lambda: stream.append_batch(1, [event, "no event"])),
        (varve.EventEncodingError, lambda: stream.append(1, Fact(1, 2**64, "x").event(machine.version))),
        (varve.EventEncodingError, lambda: stream.append_batch(1, [event, Fact(1, -1, "x").event(machine.version)])),
        (varve.InvalidInput, lambda: stream.append(1, event, expected=-1)),
        (varve.InvalidInput, lambda: stream.append(1, event, expected="0")),  # type: ignore[arg-type]
        (varve.InvalidMetadata, lambda: stream.append(1, event, metadata={"when": dt.datetime.now(dt.UTC)})),
        (varve.InvalidMetadata, lambda: stream.append(1, event, metadata={"large": "x" * 20_000})),
        (varve.InvalidIdempotencyKey, lambda: stream.append(1, event, idempotency_key="x" * 300)),
        (varve.InvalidIdempotencyKey, lambda: stream.append(1, event, idempotency_key=7)),  # type: ignore[arg-type]
        (varve.InvalidInput, lambda: stream.append_many(5)),  # type: ignore[arg-type]
        (varve.InvalidInput, lambda: stream.append_many([(1, event, 3)])),  # type: ignore[list-item]
        (varve.InvalidInput, lambda: reader.get(1, -1)),
        (varve.InvalidInput, lambda: list(reader.iter_stream(1, -1))),
        (varve.InvalidInput, lambda: db.global_reader().get(-1)),
        (varve.InvalidInput, lambda: db.snapshot(len(machine.world.log) + 1)),
        (varve.InvalidInput, lambda: list(db.global_reader().iter_from(0, streams="orders"))),
        (varve.InvalidName, lambda: db.stream("", type(event))),
        (varve.SchemaError, lambda: db.stream("orders", int)),
        (varve.StoreAlreadyOpen, lambda: varve.open(machine.path)),
        (varve.InvalidInput, lambda: db.write(lambda _: (_ for _ in ()))),
        (varve.HandleUnusable, lambda: db.write(lambda _: stream.append(1, event))),
        (varve.HandleUnusable, lambda: db.write(lambda tx: tx.commit())),
        (ZeroDivisionError, lambda: db.write(lambda tx: tx.append(stream, uuid.UUID(int=3), event) or 1 // 0)),  # type: ignore[func-returns-value]
    )
    error, call = choose.choice(cases)
    try:
        call()
    except error as exc:
        must(error is ZeroDivisionError or isinstance(exc, varve.VarveError), "an error outside the tree", exc)
        return
    must(False, "nothing was refused with", error)


def clock_moves(machine: Machine, choose: random.Random) -> None:
    """Time goes on, or back."""
    machine.clock.advance(choose.choice((0.0000005, 0.001, 60.0, -30.0)))
