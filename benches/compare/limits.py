"""The limits of the machine beside what Varve does: a bare durable put, a bare fsync, a memcpy, a bare loop."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import varve
from benches.append.batches import varve_side
from benches.baselines import Bare, bare
from benches.events import OrderPlaced, amount_total, checksum, encoded, orders
from benches.goals import Goal
from benches.lines import Line, cost_line
from benches.pairs import Side, compare
from benches.replay.logs import count_of, read_amounts, reading
from benches.workspace import Workspace

PAGE_BYTES = 4_096


def disk(work: Workspace) -> Iterator[Line]:
    """A durable append against the least that makes a page, or an entry, durable."""
    events = orders(work.size.events)[: work.size.appends]
    payloads = encoded(work.size.events)[: work.size.appends]
    with work.fresh() as path, work.fresh() as other, work.fresh() as plain:
        plain.mkdir()
        with varve.open(path) as db, bare(other) as env, (plain / "pages").open("wb+", buffering=0) as file:
            stream = db.stream("orders", OrderPlaced)
            stream.append(0, events[0])
            file.write(bytes(PAGE_BYTES * 64))
            os.fsync(file.fileno())

            def append(_: Any) -> int:
                for event in events:
                    stream.append(0, event)
                return len(events)

            def put(_: Any) -> int:
                for payload in payloads:
                    env.put_one(payload)
                return len(payloads)

            def sync(_: Any) -> int:
                for number, payload in enumerate(payloads):
                    os.pwrite(file.fileno(), payload.ljust(PAGE_BYTES, b"\0"), PAGE_BYTES * (number % 64))
                    os.fdatasync(file.fileno())
                return len(payloads)

            ours = Side("append", append, lambda _, done: done)
            for name, run in (("a bare durable LMDB put", put), ("a page written and fdatasync", sync)):
                pair = compare(ours, Side(name, run, lambda _, done: done), rounds=work.size.short_rounds, warmups=2)
                what = f"a durable append against {name}"
                yield cost_line("compare/limits-disk", what, "full", Goal(), pair, events=len(events))


def memory(work: Workspace) -> Iterator[Line]:
    """A raw replay and a write of all events against a copy of their bytes."""
    count, source = work.size.events, b"".join(encoded(work.size.events))
    target = bytearray(len(source))

    def copy(_: Any) -> int:
        target[:] = source
        return count

    memcpy = Side("memcpy", copy, lambda _, done: done)
    with reading(work.batched()) as (db, _):
        replay = Side("iter_bytes", lambda _: count_of(db.global_reader().iter_bytes()), lambda _, done: done)
        pair = compare(replay, memcpy, rounds=work.size.rounds)
    what = f"raw replay of {count:,} events against a memcpy of the same {len(source) / 1e6:.0f} MB"
    yield cost_line("compare/limits-memory", what, "none", Goal(), pair, events=count)
    events = orders(count)
    write = varve_side(work, lambda state: state[1].append_batch(0, events), durability="relaxed")
    write = Side(write.name, write.run, lambda state, _: state[0].next_global_sequence, write.setup)
    pair = compare(write, memcpy, rounds=work.size.rounds)
    what = f"append_batch of {count:,} events against a memcpy of their FlatBuffers"
    yield cost_line("compare/limits-memory", what, "relaxed", Goal(), pair, events=count)

    @contextlib.contextmanager
    def setup() -> Iterator[Bare]:
        with work.fresh() as path, bare(path) as env:
            yield env

    # What LMDB itself asks for the same bytes: one value of all of them, durable.
    one = Side("one value", lambda env: env.put_one(source), lambda env, _: env.events * count, setup)
    full = varve_side(work, lambda state: state[1].append_batch(0, events))
    full = Side(full.name, full.run, lambda state, _: state[0].next_global_sequence, full.setup)
    pair = compare(full, one, rounds=work.size.rounds)
    what = f"append_batch of {count:,} events against one durable LMDB value of the same bytes"
    yield cost_line("compare/limits-memory", what, "full", Goal(), pair, events=count)


def loop(work: Workspace) -> Iterator[Line]:
    """A typed replay against a loop over the same objects, were they in memory already."""
    events = orders(work.size.events)

    def run(_: Any) -> tuple[int, int]:
        count = total = 0
        for event in events:
            count += 1
            total += event.amount
        return count, total

    with reading(work.batched()) as (db, _):
        ours = Side("iter_from", lambda _: read_amounts(db.global_reader().iter_from()), lambda _, found: found)
        pair = compare(ours, Side("loop", run, lambda _, found: found), rounds=work.size.rounds)
        what = (
            f"typed replay of {len(events):,} events, one field read, against a bare Python loop over the same objects"
        )
        yield cost_line("compare/limits-loop", what, "none", Goal(), pair, events=len(events))
        assert amount_total(db.global_reader().iter_bytes()) == run(None)
        assert checksum(db.global_reader().iter_bytes()) == checksum(encoded(len(events)))


CASES = {"compare/limits-disk": disk, "compare/limits-memory": memory, "compare/limits-loop": loop}
