"""One stream of many whose events lie interleaved in the log."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path

from benches.events import SEED
from benches.goals import GOALS, Goal
from benches.lines import Line, cost_line, rate_line
from benches.pairs import Side, compare
from benches.read.get import Opened
from benches.replay.logs import count_of, read_amounts, reading
from benches.workspace import Workspace

STREAMS_READ = 20


def interleaved(work: Workspace) -> Iterator[Line]:
    """Some of the streams, each from its first event to its last, one field read: with blocks checked before, and without."""
    ids = work.stream_ids()
    chosen = random.Random(SEED).sample(range(work.streams), min(STREAMS_READ, work.streams))
    wanted = set(chosen)
    count = sum(number in wanted for number in ids)
    stores = (("single appends", work.single_streams(), True), ("append_many of 1,000", work.shuffled(), False))
    for how, path, has_goals in stores:
        pair = compare(
            _side("checked", path, chosen, warm=True),
            _side("first touch", path, chosen, warm=False),
            rounds=work.size.rounds,
        )
        what = f"iter_stream of {len(chosen)} of {work.streams:,} streams, {how} in random order"
        for name, key, seconds in (
            ("checked before", "stream-checked", pair.a_s),
            ("first touch", "stream-first", pair.b_s),
        ):
            goal = GOALS[key] if has_goals else Goal()
            yield rate_line("read/interleaved", f"{what}, {name}", "none", goal, seconds, events=count, unit="events/s")
        yield cost_line("read/interleaved", f"{what}, checked against first touch", "none", Goal(), pair, events=count)


def _side(name: str, path: Path, chosen: list[int], *, warm: bool) -> Side:
    @contextlib.contextmanager
    def setup() -> Iterator[Opened]:
        with reading(path) as opened:
            if warm:
                count_of(opened[0].global_reader().iter_bytes())
            yield opened

    def run(state: Opened) -> list[tuple[int, int]]:
        reader = state[1].reader()
        return [read_amounts(reader.iter_stream(number)) for number in chosen]

    return Side(name, run, lambda _, found: found, setup)


def in_pieces(work: Workspace) -> Iterator[Line]:
    """The events of 1,000 streams written one after the other, read stream by stream, against all of them in one replay."""
    count, share = work.size.events, work.size.events // work.streams
    with reading(work.batched_streams()) as (db, stream):

        def by_stream(_: object) -> tuple[int, int]:
            reader = stream.reader()
            parts = [read_amounts(reader.iter_stream(number)) for number in range(work.streams)]
            return sum(part[0] for part in parts), sum(part[1] for part in parts)

        a = Side("iter_stream of each", by_stream, lambda _, result: result)
        b = Side("iter_from", lambda _: read_amounts(db.global_reader().iter_from()), lambda _, result: result)
        pair = compare(a, b, rounds=work.size.rounds)
    what = f"{work.streams:,} streams of {share:,} events, stream by stream, against one replay"
    yield cost_line("read/streams", what, "none", Goal(), pair, events=count)


CASES = {"read/interleaved": interleaved, "read/streams": in_pieces}
