"""Random reads of single events, their blocks checked before, against a bare ``get`` of an entry."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Callable, Iterator
from typing import Any

import varve
from benches.baselines import bare, pack_sequence
from benches.events import SEED, OrderPlaced, amount_total
from benches.goals import GOALS, Goal
from benches.lines import Line, cost_line
from benches.pairs import Side, compare, with_interval
from benches.replay.logs import count_of, entries, reading
from benches.workspace import Workspace

BLOCK_EVENTS_MAX = 1_000
"""More than a block holds of these events."""
Opened = tuple[varve.Varve, varve.Stream[OrderPlaced]]

_MISSING = memoryview(b"")


def get(work: Workspace) -> Iterator[Line]:
    """``reader.get`` of random events, inside a snapshot and outside."""
    count, gets = work.size.events, work.size.gets
    share = count // work.streams
    generator = random.Random(SEED)
    sequences = [generator.randrange(share * work.streams) for _ in range(gets)]
    places = [divmod(sequence, share) for sequence in sequences]
    keys = list(map(pack_sequence, sequences))

    with bare(entries(work)) as env, reading(work.batched_streams()) as (db, stream):
        count_of(db.global_reader().iter_bytes())  # every block's checksum is known now

        def plain(_: Any) -> list[memoryview]:
            with env.env.begin(buffers=True) as txn:
                log, find = env.log, txn.get
                return [find(key, _MISSING, db=log) for key in keys]

        def checked(_: Any, found: list[Any]) -> tuple[int, int]:
            with env.env.begin(buffers=True):
                return amount_total(found)

        rival = Side("bare get", plain, checked)

        def outside(_: Any) -> list[Any]:
            find = stream.reader().get
            return [find(stream_id, sequence) for stream_id, sequence in places]

        def inside(_: Any) -> list[Any]:
            with db.snapshot() as snapshot:
                find = snapshot.reader(stream).get
                return [find(stream_id, sequence) for stream_id, sequence in places]

        ways: tuple[tuple[str, Goal, Callable[[Any], list[Any]]], ...] = (
            ("inside", GOALS["get-checked"], inside),
            ("outside", Goal(at_most=8.0), outside),
        )
        for where, goal, run in ways:
            ours = Side(f"get {where}", run, lambda _, found: (len(found), sum(event.amount for event in found)))
            pair = compare(ours, rival, rounds=work.size.short_rounds)
            micros = with_interval([seconds / gets * 1e6 for seconds in pair.a_s])
            what = f"get of a random event of {count:,} in {work.streams:,} streams, {where} a snapshot"
            best = f"best round {min(pair.a_s) / gets * 1e6:.2f} us"
            yield Line("read/get", what, "none", goal, micros, "us", best)
            yield cost_line("read/get", "the same against a bare get of an entry", "none", Goal(), pair, events=gets)


def get_interleaved(work: Workspace) -> Iterator[Line]:
    """The same where single appends to many streams left short runs."""
    gets = work.size.gets
    ids = work.stream_ids()
    counts: dict[int, int] = {}
    places = []
    for stream_id in ids:
        places.append((stream_id, counts.get(stream_id, 0)))
        counts[stream_id] = counts.get(stream_id, 0) + 1
    places = random.Random(SEED).choices(places, k=gets)
    with reading(work.single_streams()) as (db, stream), db.snapshot() as snapshot:
        count_of(db.global_reader().iter_bytes())
        find, again = snapshot.reader(stream).get, stream.reader().get
        a = Side("inside", lambda _: [find(*place) for place in places], lambda _, found: sum(e.amount for e in found))
        b = Side(
            "outside", lambda _: [again(*place) for place in places], lambda _, found: sum(e.amount for e in found)
        )
        pair = compare(a, b, rounds=work.size.short_rounds)
        for where, seconds in (("inside", pair.a_s), ("outside", pair.b_s)):
            micros = with_interval([one / gets * 1e6 for one in seconds])
            what = (
                f"get of a random event of {len(ids):,} single appends to {work.streams:,} streams, {where} a snapshot"
            )
            yield Line(
                "read/get-interleaved",
                what,
                "none",
                Goal(),
                micros,
                "us",
                f"best round {min(seconds) / gets * 1e6:.2f} us",
            )


def get_first(work: Workspace) -> Iterator[Line]:
    """Random events whose blocks this handle has not touched: the checksum of each block is computed on the way."""
    count = work.size.events
    share = count // work.streams
    # At most one event of a block, so that no read finds its block checked by another one.
    sequences = list(range(BLOCK_EVENTS_MAX // 2, share * work.streams, BLOCK_EVENTS_MAX))
    random.Random(SEED).shuffle(sequences)
    places = [divmod(sequence, share) for sequence in sequences[: work.size.gets]]

    def run(state: Opened) -> list[Any]:
        find = state[1].reader().get
        return [find(*place) for place in places]

    def rounds(*, warm: bool) -> Side:
        @contextlib.contextmanager
        def setup() -> Iterator[Opened]:
            with reading(work.batched_streams()) as opened:
                if warm:
                    count_of(opened[0].global_reader().iter_bytes())
                yield opened

        name = "checked before" if warm else "first touch"
        return Side(name, run, lambda _, found: sum(event.amount for event in found), setup)

    pair = compare(rounds(warm=False), rounds(warm=True), rounds=work.size.rounds)
    micros = with_interval([seconds / len(places) * 1e6 for seconds in pair.a_s])
    what = f"get of a random event of {count:,}, each in a block that was not touched before"
    yield Line("read/get-first", what, "none", GOALS["get-first"], micros, "us", f"{len(places):,} gets a round")
    yield cost_line(
        "read/get-first", "the same against blocks checked before", "none", Goal(), pair, events=len(places)
    )


CASES = {"read/get": get, "read/get-first": get_first, "read/get-interleaved": get_interleaved}
