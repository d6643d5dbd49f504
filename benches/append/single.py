"""Single durable appends, against a bare durable put of the same bytes."""

from __future__ import annotations

import random
from collections.abc import Iterator
from typing import Any

import varve
from benches.append.matrix import copy_store
from benches.baselines import bare
from benches.events import SEED, OrderPlaced, checksum, encoded, orders
from benches.goals import GOALS, Goal
from benches.lines import Line, cost_line
from benches.pairs import Side, compare
from benches.workspace import Workspace


def append(work: Workspace) -> Iterator[Line]:
    """One append, one commit, one fsync; at one stream, at 1,000 and at 1,000,000."""
    yield _append(work, 1, GOALS["single-append"])
    yield _append(work, work.streams, GOALS["single-append"])
    yield _append(work, work.size.many_streams, Goal(at_most=1.4))


def _append(work: Workspace, streams: int, goal: Goal) -> Line:
    size = work.size
    events, payloads = orders(size.events)[: size.appends], encoded(size.events)[: size.appends]
    generator = random.Random(SEED)
    with work.fresh() as path, work.fresh() as other:
        if streams == size.many_streams:
            copy_store(work.many_streams(), path)
        else:
            filling = [(number, orders(size.events)[number]) for number in range(streams)]
            generator.shuffle(filling)
            with varve.open(path, durability="bulk") as db:
                db.stream("orders", OrderPlaced).append_many(filling)
        with bare(other, durability="bulk") as env:
            env.putmulti(0, [encoded(size.events)[number % size.events] for number in range(streams)], streams)
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
            b = Side("put", theirs, lambda _, __: checksum(env.last(len(payloads))))
            pair = compare(a, b, rounds=size.short_rounds, warmups=3)
    what = f"append of one event, {streams:,} streams, against a bare durable put of the same bytes"
    return cost_line("append/single", what, "full", goal, pair, events=size.appends)


CASES = {"append/single": append}
