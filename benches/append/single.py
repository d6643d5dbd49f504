"""Single durable appends, against a bare durable put of the same bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import varve
from benches.baselines import Bare, bare
from benches.events import SEED, OrderPlaced, checksum, encoded, orders
from benches.pairs import Side, compare
from benches.lines import Goal, Line, cost_line
from benches.workspace import STREAMS, Workspace


def append(work: Workspace) -> Iterator[Line]:
    """One append, one commit, one fsync; at 1,000 streams and at 300,000."""
    for streams, limit in ((min(STREAMS, work.size.many_streams), 1.25), (work.size.many_streams, 1.4)):
        yield _append(work, streams, limit)


def _append(work: Workspace, streams: int, limit: float) -> Line:
    size = work.size
    events, payloads = orders(size.events)[: size.appends], encoded(size.events)[: size.appends]
    generator = random.Random(SEED)
    with work.fresh() as path, work.fresh() as other:
        filling = [(number, orders(size.events)[number % size.events]) for number in range(streams)]
        generator.shuffle(filling)
        with varve.open(path, durability="bulk") as db:
            db.stream("orders", OrderPlaced).append_many(filling)
        with bare(other, sync=False) as env:
            env.putmulti(0, [encoded(size.events)[number % size.events] for number in range(streams)])
            env.env.sync(True)
        with varve.open(path) as db, bare(other) as env:
            stream = db.stream("orders", OrderPlaced)

            def ours(_: Any) -> None:
                for event, stream_id in zip(events, generator.choices(range(streams), k=len(events)), strict=True):
                    stream.append(stream_id, event)

            def theirs(_: Any) -> None:
                for payload in payloads:
                    env.put_one(payload)

            def written(_: Any, __: Any) -> object:
                return checksum(db.global_reader().iter_bytes(db.next_global_sequence - len(events)))

            a = Side("append", ours, written)
            b = Side("put", theirs, lambda _, __: checksum(Bare.last(env, len(payloads))))
            pair = compare(a, b, rounds=size.short_rounds, warmups=3)
    what = f"append of one event at {streams:,} streams against a bare put of the same bytes"
    return cost_line("append", what, "full", Goal(at_most=limit), pair, events=size.appends)


CASES = {"append": append}
