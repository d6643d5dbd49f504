"""Opening, and what an event costs as the store grows."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import varve
from benches.append.matrix import copy_store
from benches.events import SEED, OrderPlaced, checksum, orders
from benches.goals import GOALS, Goal
from benches.lines import Line, cost_line
from benches.pairs import Pair, Side, compare, with_interval
from benches.replay.logs import read_amounts, reading
from benches.workspace import BATCH_EVENTS, Workspace


def opening(work: Workspace) -> Iterator[Line]:
    """``varve.open`` of larger stores, against that of the smallest."""
    smallest, *others = work.size.stores
    for count in others:
        with work.fresh() as ours_at, work.fresh() as small_at:
            copy_store(work.of_size(count), ours_at)
            copy_store(work.of_size(smallest), small_at)
            pair = compare(_opens(ours_at, count), _opens(small_at, smallest), rounds=work.size.short_rounds, warmups=2)
        largest = count == others[-1]
        ms = with_interval([seconds * 1e3 for seconds in pair.a_s])
        what = f"opening a store of {count:,} events for writing"
        best = f"best round {min(pair.a_s) * 1e3:.3g} ms"
        yield Line(
            "open/opening", what, "full", GOALS["open"] if largest else Goal(), ms, "ms", best,
            series="opening", at=float(count),
        )  # fmt: skip
        goal = GOALS["open-growth"] if largest else Goal()
        against = f"the same against opening one of {smallest:,}"
        yield cost_line("open/opening", against, "full", goal, pair, events=1)


def _opens(path: Path, count: int) -> Side:
    def run(closing: contextlib.ExitStack) -> varve.Varve:
        return closing.enter_context(varve.open(path))

    # The heads of two sizes differ on purpose; what must agree is that each opening saw its own. Closing is not timed.
    return Side(path.name, run, lambda _, db: db.next_global_sequence == count, contextlib.ExitStack)


# -- growth ----------------------------------------------------------------------------------------------------------


RENEWED_BELOW = 60
"""Windows: a store of fewer events is copied anew for each round of writing."""


def growth(work: Workspace) -> Iterator[Line]:
    """The cost of writing and of reading an event in stores of growing size, against the second smallest of them."""
    base, *larger = work.size.stores[1:]
    for count in larger:
        largest = count == larger[-1]
        with work.fresh() as big, work.fresh() as small:
            copy_store(work.of_size(count), big)
            copy_store(work.of_size(base), small)
            for name, goal, side in (
                ("batches of 1,000", "growth-write", partial(_writes, work)),
                ("a window of a replay, one field read", "growth-read", partial(_replays, work)),
                ("random gets", "", partial(_gets, work)),
            ):
                pair = _pair(side(big, count), side(small, base), work)
                what = f"{name}: {count:,} events in the store against {base:,}"
                durability = "full" if goal == "growth-write" else "none"
                bound = GOALS.get(goal, Goal()) if largest else Goal()
                events = work.size.gets if not goal else work.size.window
                yield cost_line(
                    "open/growth", what, durability, bound, pair, events=events, series=name, at=float(count)
                )


def _pair(a: Side, b: Side, work: Workspace) -> Pair:
    return compare(a, b, rounds=max(work.size.rounds, work.size.short_rounds // 3), warmups=2)


def _writes(work: Workspace, path: Path, count: int) -> Side:
    """A window of new events, batches of 1,000 to one stream each."""
    events = orders(work.size.window)

    @contextlib.contextmanager
    def setup() -> Iterator[tuple[varve.Varve, varve.Stream[OrderPlaced]]]:
        # A store that the rounds together would make much larger begins anew in each; a large one may grow a little.
        if count < RENEWED_BELOW * work.size.window:
            shutil.rmtree(path)
            copy_store(work.of_size(count), path)
            with (path / "data.mdb").open("rb+") as file:
                os.fsync(file.fileno())
        with varve.open(path) as db:
            yield db, db.stream("orders", OrderPlaced)

    def run(state: Any) -> None:
        for number, start in enumerate(range(0, len(events), BATCH_EVENTS)):
            state[1].append_batch(number % work.streams, events[start : start + BATCH_EVENTS])

    def written(state: Any, _: Any) -> object:
        db = state[0]
        return checksum(db.global_reader().iter_bytes(db.next_global_sequence - len(events)))

    return Side(path.name, run, written, setup)


def _replays(work: Workspace, path: Path, count: int) -> Side:
    # From the same place of the cycle of events in each store, so that the totals agree; far from both ends in large ones.
    start = (count - work.cycle) // 2 // work.cycle * work.cycle

    def run(state: Any) -> tuple[int, int]:
        return read_amounts(state[0].global_reader().iter_from(start, stop=start + work.size.window))

    return Side(path.name, run, lambda _, result: result, _warm(path, run))


def _gets(work: Workspace, path: Path, count: int) -> Side:
    """The same events in each store, drawn from all of its batches."""
    generator = random.Random(SEED)
    in_cycle = max(work.cycle // BATCH_EVENTS, 1)
    wanted = [
        (generator.randrange(in_cycle), generator.randrange(work.cycle // in_cycle)) for _ in range(work.size.gets)
    ]
    places = []
    for batch, offset in wanted:
        number = batch + in_cycle * generator.randrange(max(count // BATCH_EVENTS // in_cycle, 1))
        places.append((number % work.streams, number // work.streams * BATCH_EVENTS + offset))

    def run(state: Any) -> list[Any]:
        find = state[1].reader().get
        return [find(*place) for place in places]

    return Side(path.name, run, lambda _, found: sum(event.amount for event in found), _warm(path, run))


def _warm(path: Path, run: Any) -> Any:
    """Whatever the round will read has been read once: pages are in memory, blocks are checked."""

    @contextlib.contextmanager
    def setup() -> Iterator[Any]:
        with reading(path) as opened:
            run(opened)
            yield opened

    return setup


CASES = {"open/opening": opening, "open/growth": growth}
