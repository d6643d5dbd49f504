"""Steps that read."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable
from typing import Any

import varve
from torture.model import plans
from torture.model.machine import HELD_MAX, Follower, Held, Machine, Reader, Run, must, same
from torture.model.world import CLASSES, TYPE_NAMES, Append, Plan, World, Written

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_WINDOW = 60
"""How many events a step looks at, at most: whole logs are compared now and then."""


def _range(choose: random.Random, end: int) -> tuple[int, int | None]:
    """A start and a stop around a log or stream of that length, not far apart."""
    start = choose.randrange(end + 3)
    lot = choose.random()
    if lot < 0.15 and end - start < _WINDOW:
        return start, None
    return start, start + choose.randrange(_WINDOW) if lot < 0.95 else max(0, start - 3)


def _a_stream(machine: Machine, choose: random.Random) -> tuple[str, Any, list[int]]:
    """A stream, mostly one that was written."""
    name = choose.choice(plans.NAMES)
    one = plans.stream_id(choose)
    return name, one, machine.world.stream(name, one)


def single(machine: Machine, choose: random.Random) -> None:
    """A position of a stream, in each way to read it."""
    name, one, places = _a_stream(machine, choose)
    reader = machine.caller.streams[name].reader()
    same(reader.length(one), len(places), "length of", name, one)
    past = len(places) + choose.choice((0, 0, 1, 5, 2**62))
    same(
        (reader.get(one, past), reader.get_bytes(one, past), reader.get_recorded(one, past)),
        (None,) * 3,
        "past the end",
    )
    if not places:
        return
    at = choose.randrange(len(places))
    sequence = places[at]
    event = reader.get(one, at)
    must(machine.world.log[sequence].fact.is_shown(event, machine.version), "get", name, one, at, event)
    machine.check(reader.get_recorded(one, at), sequence)
    raw = reader.get_bytes(one, at)
    assert raw is not None
    plain = machine.raw(sequence, raw)
    if choose.random() < 0.1 and len(machine.views) < HELD_MAX:
        machine.views.append((raw[len(raw) // 2 :], plain[len(plain) // 2 :]))
        machine.events.append((event, machine.world.log[sequence].fact, machine.version))


def place(machine: Machine, choose: random.Random) -> None:
    """A place of the log, in each way to read it."""
    end = len(machine.world.log)
    reader = machine.db.global_reader()
    past = end + choose.choice((0, 0, 1, 2**62))
    same((reader.get(past), reader.get_bytes(past)), (None, None), "past the end of the log")
    sequence = choose.choice((end - 1, choose.randrange(end)))
    recorded = reader.get(sequence)
    machine.check(recorded, sequence)
    raw = reader.get_bytes(sequence)
    assert raw is not None
    plain = machine.raw(sequence, raw)
    if choose.random() < 0.1 and len(machine.views) < HELD_MAX:
        machine.views.append((raw, plain))


def stream(machine: Machine, choose: random.Random) -> None:
    """Some of a stream, forwards or backwards."""
    name, one, places = _a_stream(machine, choose)
    start, stop = _range(choose, len(places))
    back = choose.random() < 0.4
    wanted = places[start:stop]
    found = machine.caller.streams[name].reader().iter_stream(one, start, stop, reverse=back)
    machine.check_all(found, wanted[::-1] if back else wanted)


def of_name(machine: Machine, choose: random.Random) -> None:
    """Some of all streams of a name."""
    name = choose.choice(plans.NAMES)
    start, stop = _range(choose, len(machine.world.log))
    back = choose.random() < 0.4
    wanted = [g for g in range(len(machine.world.log))[start:stop] if machine.world.log[g].name == name]
    found = machine.caller.streams[name].reader().iter_all(start, stop, reverse=back)
    machine.check_all(found, wanted[::-1] if back else wanted)


def _selection(choose: random.Random) -> tuple[dict[str, Any], Callable[[Any], bool]]:
    """Filters, and what they let through."""
    names = choose.choice((None, None, ["orders"], ["payments", "never written"], [*plans.NAMES], ["never written"]))
    kinds = choose.choice((None, None, None, [0], [1, 2], [2], []))
    options: dict[str, Any] = {}
    if names is not None:
        options["streams"] = names
    if kinds is not None:
        options["types"] = [choose.choice((TYPE_NAMES[kind], CLASSES[0][kind], CLASSES[1][kind])) for kind in kinds]

    def wants(entry: Any) -> bool:
        return (names is None or entry.name in names) and (kinds is None or entry.fact.kind in kinds)

    return options, wants


def log(machine: Machine, choose: random.Random) -> None:
    """Some of the log, filtered, forwards or backwards; or its bytes alone."""
    entries = machine.world.log
    start, stop = _range(choose, len(entries))
    reader = machine.db.global_reader()
    if choose.random() < 0.2:
        wanted = range(len(entries))[start:stop]
        found = [machine.raw(at, raw) for at, raw in zip(wanted, reader.iter_bytes(start, stop), strict=False)]
        same(len(found), len(wanted), "how many iter_bytes gives")
        return
    options, wants = _selection(choose)
    back = choose.random() < 0.4
    chosen = [g for g in range(len(entries))[start:stop] if wants(entries[g])]
    machine.check_all(reader.iter_from(start, stop, reverse=back, **options), chosen[::-1] if back else chosen)


def ids(machine: Machine, choose: random.Random) -> None:
    """The ids of a name."""
    name = choose.choice(plans.NAMES)
    _same_ids(machine.caller.streams[name].reader(), machine.world, name, None)


def _same_ids(reader: Any, world: World, name: str, at: int | None) -> None:
    found = [(type(one), one) for one in reader.stream_ids()]
    same(found, [(type(one), one) for one in world.ids(name, at)], "ids of", name, at)


def instant(machine: Machine, choose: random.Random) -> None:
    """The first event at or after an instant."""
    entries = machine.world.log
    off_us = choose.choice((-1, 0, 1))
    time_us = choose.choice(entries).time_ns // 1000 + off_us
    first = next((g for g, entry in enumerate(entries) if entry.time_ns >= time_us * 1000), len(entries))
    same(machine.db.sequence_at(_EPOCH + dt.timedelta(microseconds=time_us)), first, "sequence_at")


# -- over many steps -------------------------------------------------------------------------------------------------


def take_snapshot(machine: Machine, choose: random.Random) -> None:
    """Hold an instant, of now or of long ago."""
    if len(machine.snapshots) >= HELD_MAX:
        machine.snapshots.pop(choose.randrange(HELD_MAX)).snapshot.close()
    end = len(machine.world.log)
    at = None if choose.random() < 0.5 else choose.randrange(end + 1)
    machine.snapshots.append(Held(machine.db.snapshot(at), end if at is None else at))


def read_snapshot(machine: Machine, choose: random.Random) -> None:
    """An instant that is held shows what it showed, whatever was written since."""
    if not machine.snapshots:
        return take_snapshot(machine, choose)
    held = choose.choice(machine.snapshots)
    snapshot, at = held.snapshot, held.at
    same(snapshot.next_global_sequence, at, "a snapshot's next_global_sequence")
    name, one, _ = _a_stream(machine, choose)
    places = machine.world.stream(name, one, at)
    reader = snapshot.reader(machine.caller.streams[name])
    same(reader.length(one), len(places), "a length in a snapshot")
    same(reader.get(one, len(places)), None, "what a snapshot does not hold")
    start, stop = _range(choose, len(places))
    back = choose.random() < 0.5
    wanted = places[start:stop]
    machine.check_all(reader.iter_stream(one, start, stop, reverse=back), wanted[::-1] if back else wanted)
    low = max(0, at - choose.randrange(30))
    machine.check_all(snapshot.global_reader().iter_from(low), list(range(low, at)))
    same(snapshot.global_reader().get(at), None, "an event behind a snapshot")
    if choose.random() < 0.2:
        _same_ids(reader, machine.world, name, at)
        start, stop = _range(choose, at)
        machine.check_all(
            reader.iter_all(start, stop), [g for g in range(at)[start:stop] if machine.world.log[g].name == name]
        )
    return None


def begin_run(machine: Machine, choose: random.Random) -> None:
    """Begin an iteration that goes on in later steps and shows the log as of now."""
    if len(machine.runs) >= HELD_MAX:
        machine.runs.pop(choose.randrange(HELD_MAX))
    back = choose.random() < 0.4
    if choose.random() < 0.5:
        name, one, places = _a_stream(machine, choose)
        start, stop = choose.randrange(len(places) + 1), choose.choice((None, len(places) + 5))
        found = machine.caller.streams[name].reader().iter_stream(one, start, stop, reverse=back)
        wanted = places[start:stop]
    else:
        options, wants = _selection(choose)
        start = choose.randrange(len(machine.world.log) + 1)
        found = machine.db.global_reader().iter_from(start, reverse=back, **options)
        wanted = [g for g in range(start, len(machine.world.log)) if wants(machine.world.log[g])]
    run = Run(found, wanted[::-1] if back else wanted)
    machine.runs.append(run)
    # As of the call: what is committed before the first step is not shown.
    _go_on(machine, run, choose.randrange(5))


def go_on(machine: Machine, choose: random.Random) -> None:
    """Go on with an iteration."""
    if not machine.runs:
        return begin_run(machine, choose)
    at = choose.randrange(len(machine.runs))
    if not _go_on(machine, machine.runs[at], choose.randrange(1, 40)):
        machine.runs.pop(at)
    return None


def _go_on(machine: Machine, run: Run, count: int) -> bool:
    for _ in range(count):
        recorded = next(run.events, None)
        if recorded is None:
            same(run.at, len(run.wanted), "an iteration ends")
            return False
        must(run.at < len(run.wanted), "an iteration goes beyond its end", recorded)
        machine.check(recorded, run.wanted[run.at])
        run.at += 1
    return True


def views(machine: Machine, choose: random.Random) -> None:
    """Memory that is held still says the same; some of it is let go."""
    machine.check_held()
    for held in (machine.views, machine.events):
        while held and choose.random() < 0.5:
            held.pop(choose.randrange(len(held)))


# -- tails -------------------------------------------------------------------------------------------------------------


def begin_tail(machine: Machine, choose: random.Random) -> None:
    """Begin a tail or a follow, of the log or of a stream."""
    if len(machine.followers) >= HELD_MAX:
        machine.followers.pop(choose.randrange(HELD_MAX))
    entries, end = machine.world.log, len(machine.world.log)
    lot = choose.random()
    threads = choose.random() < 0.6
    if lot < 0.4:
        name, one, places = _a_stream(machine, choose)
        at = choose.randrange(len(places) + 1)
        source = machine.caller.streams[name]
        found: Any = source.follow(at, stream_id=one, timeout_s=0) if threads else source.tail(at, stream_id=one)
        position = places[at] if at < len(places) else end
        key = (name, type(one), one)

        def wants(g: int) -> bool:
            return (entries[g].name, type(entries[g].stream_id), entries[g].stream_id) == key

    else:
        options, filtered = _selection(choose)
        start: Any = choose.choice((choose.randrange(end + 1), varve.END))
        found = machine.db.follow(start, timeout_s=0, **options) if threads else machine.db.tail(start, **options)
        position = end if start is varve.END else start

        def wants(g: int) -> bool:
            return filtered(entries[g])

    machine.followers.append(Follower(found, wants, position))
    follow(machine, choose, machine.followers[-1])


def follow(machine: Machine, choose: random.Random, follower: Follower | None = None) -> None:
    """Some of what a tail has not given yet."""
    if follower is None:
        if not machine.followers:
            return begin_tail(machine, choose)
        follower = choose.choice(machine.followers)
    wanted = []
    for g in range(follower.position, len(machine.world.log)):
        if follower.wants(g):
            wanted.append(g)
            if len(wanted) >= 80:
                break
    wanted = wanted[: choose.randrange(1, 80)]
    if isinstance(follower.events, varve.Tail):
        # Never more than there is: it would wait for ever.
        found = machine.run_async(_take(follower.events, len(wanted))) if wanted else []
    elif wanted:
        found = [next(follower.events) for _ in wanted]
    else:
        found = list(follower.events)
    machine.check_all(found, wanted)
    if wanted:
        follower.position = wanted[-1] + 1
    return None


async def _take(tail: Any, count: int) -> list[Any]:
    found: list[Any] = []
    while len(found) < count:
        if count - len(found) > 5:
            found += await tail.next_batch(count - len(found))
        else:
            found.append(await anext(tail))
    return found


# -- consumers ---------------------------------------------------------------------------------------------------------

_CONSUMERS = ("billing", "Versand ü", "c")


def begin_consumer(machine: Machine, choose: random.Random) -> None:
    """Own a consumer: it goes on where the last owner has stored that it was."""
    name = choose.choice(_CONSUMERS)
    if machine.is_small:
        return
    if name in machine.consumers:
        try:
            machine.db.consumer(name)
        except varve.ConsumerBusy:
            return
        must(False, "a consumer has two owners:", name)
    entries, end = machine.world.log, len(machine.world.log)
    options, wants = _selection(choose)
    start: Any = choose.choice((0, choose.randrange(end + 1), varve.END))
    auto = choose.random() < 0.3
    consumer = machine.db.consumer(name, start=start, commit="auto" if auto else "manual", interval_s=0, **options)
    first = end if start is varve.END else start
    stands = machine.positions.setdefault(name, first)
    same(consumer.position, stands, "where a consumer begins", name)
    machine.consumers[name] = Reader(consumer, lambda g: wants(entries[g]), auto=auto)


def _a_consumer(machine: Machine, choose: random.Random) -> tuple[str, Reader] | None:
    if not machine.consumers:
        begin_consumer(machine, choose)
    return choose.choice(list(machine.consumers.items())) if machine.consumers else None


def consume(machine: Machine, choose: random.Random) -> None:
    """Events of a consumer; and then perhaps its position is stored, alone or with a commit, or it is set elsewhere."""
    chosen = _a_consumer(machine, choose)
    if chosen is None:
        return
    name, reader = chosen
    consumer = reader.consumer
    wanted = [g for g in range(reader.given, len(machine.world.log)) if reader.wants(g)]
    some = wanted[: choose.randrange(60)]
    events = consumer.follow(timeout_s=0)
    found = [next(events) for _ in some]
    machine.check_all(found, some)
    if some:
        must(consumer.position >= some[-1] + 1, "a consumer's position", consumer.position)
        rest = wanted[len(some)] if len(some) < len(wanted) else len(machine.world.log)
        must(consumer.position <= rest, "a consumer has passed over events", consumer.position, rest)
        reader.given = consumer.position
    same(consumer.lag, len(machine.world.log) - reader.given, "a consumer's lag")
    lot = choose.random()
    if reader.auto:
        machine.positions[name] = max(machine.positions[name], min(consumer.committed, reader.given))
    elif lot < 0.3:
        same(consumer.commit_blocking(), reader.given, "what a consumer stores")
        machine.positions[name] = reader.given
    elif lot < 0.4:
        same(machine.run_async(consumer.commit()), reader.given, "what a consumer stores")
        machine.positions[name] = reader.given
    elif lot < 0.55:
        _ride(machine, choose, name, reader)
    if lot > 0.9:
        _seek(machine, choose, name, reader)
    same(consumer.committed >= machine.positions[name], True, "what is committed")


def _ride(machine: Machine, choose: random.Random, name: str, reader: Reader) -> None:
    """The position goes with a commit, or stays where it is with one that fails."""
    stream, one = machine.caller.streams["orders"], plans.stream_id(choose)
    length = len(machine.world.stream("orders", one))
    off = choose.choice((0, 0, 1))
    fact = machine.facts.one(choose, 20)
    made = Plan((Append("one", "orders", ((one, fact),), one, length + off),))
    try:
        with machine.db.transaction() as tx:
            tx.append(stream, one, fact.event(machine.version), expected=length + off)
            tx.store_position(reader.consumer)
    except varve.WrongExpectedVersion as exc:
        same((off, exc.actual), (1, length), "a transaction with a position")
        return
    same(off, 0, "a wrong expectation was met")
    judged = machine.world.judge(made)
    assert isinstance(judged, Written)
    machine.world.write(made, judged, machine.clock.now_ns)
    machine.positions[name] = max(machine.positions[name], reader.given)


def _seek(machine: Machine, choose: random.Random, name: str, reader: Reader) -> None:
    start: Any = choose.choice((0, varve.END, choose.randrange(len(machine.world.log) + 1)))
    at = len(machine.world.log) if start is varve.END else start
    same(reader.consumer.seek(start), at, "seek")
    reader.given = machine.positions[name] = at


def end_consumer(machine: Machine, choose: random.Random) -> None:
    """Close one, list all, perhaps delete one."""
    chosen = _a_consumer(machine, choose)
    if chosen is None:
        return
    name, _ = chosen
    if choose.random() < 0.3:
        try:
            machine.db.delete_consumer(name)
        except varve.ConsumerBusy:
            pass
        else:
            must(False, "a consumer was deleted under its owner:", name)
    machine.leave_consumer(name)
    known = {info.name: (info.position, info.running) for info in machine.db.consumers()}
    same(set(known), set(machine.positions), "consumers")
    for one, (position, running) in known.items():
        same(running, one in machine.consumers, "whether a consumer runs")
        if one not in machine.consumers:
            same(position, machine.positions[one], "the position of a consumer")
    if choose.random() < 0.3:
        same(machine.db.delete_consumer(name), True, "delete_consumer")
        del machine.positions[name]
        same(machine.db.delete_consumer(name), False, "delete_consumer again")
