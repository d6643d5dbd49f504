"""Replays: typed and raw, against a bare cursor loop, and of logs that single appends wrote."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import varve
from benches.baselines import Bare, bare
from benches.events import Kind, OrderPlaced, amount_total, checksum, encoded, kinds
from benches.goals import GOALS, Goal
from benches.lines import Line, rate_line, speed_line
from benches.pairs import Side, compare
from benches.workspace import Workspace


@contextlib.contextmanager
def reading(path: Path) -> Iterator[tuple[varve.Varve, varve.Stream[OrderPlaced]]]:
    """A store opened to be read."""
    with varve.open(path, readonly=True) as db:
        yield db, db.stream("orders", OrderPlaced)


def entries(work: Workspace) -> Path:
    """The events of the batched store, one LMDB entry each."""

    def build(path: Path) -> None:
        with bare(path, durability="bulk") as env:
            env.putmulti(0, encoded(work.size.events), work.size.events)

    return work.built("entries", build)


def read_amounts(recorded: Iterator[Any]) -> tuple[int, int]:
    """A typed lazy replay that reads one field."""
    count = total = 0
    for one in recorded:
        count += 1
        total += one.event.amount
    return count, total


def count_of(buffers: Iterator[memoryview]) -> int:
    """A raw replay."""
    count = 0
    for _ in buffers:
        count += 1
    return count


def _kept(state: Any) -> Callable[[], contextlib.AbstractContextManager[Any]]:
    return lambda: contextlib.nullcontext(state)


def typed(work: Workspace) -> Iterator[Line]:
    """Typed lazy replay reading one field."""
    count = work.size.events
    with bare(entries(work)) as env, reading(work.batched()) as (db, stream):
        rival = Side("cursor loop", Bare.walk, lambda env, _: amount_total(env.payloads()), _kept(env))
        ways = (
            ("iter_from", lambda _: read_amounts(db.global_reader().iter_from())),
            ("iter_all", lambda _: read_amounts(stream.reader().iter_all())),
            ("iter_stream", lambda _: read_amounts(stream.reader().iter_stream(0))),
        )
        for name, run in ways:
            pair = compare(Side(name, run, lambda _, result: result), rival, rounds=work.size.rounds)
            what = f"{name}, one field read, against a bare cursor loop over {count:,} entries"
            yield speed_line("replay/typed", what, "none", Goal(at_least=1 / 3.5), pair, events=count)
            rate = f"{name}, one field read, {count:,} events"
            goal = GOALS["replay-rate"] if name == "iter_from" else Goal()
            yield rate_line("replay/typed", rate, "none", goal, pair.a_s, events=count)


def raw(work: Workspace) -> Iterator[Line]:
    """Raw replay."""
    count = work.size.events
    with bare(entries(work)) as env, reading(work.batched()) as (db, _):
        replay = db.global_reader()
        ours = Side(
            "iter_bytes", lambda _: count_of(replay.iter_bytes()), lambda _, n: (n, checksum(replay.iter_bytes()))
        )
        rival = Side("cursor loop", Bare.walk, lambda env, n: (n, checksum(env.payloads())), _kept(env))
        pair = compare(ours, rival, rounds=max(work.size.rounds, 7) if work.size.rounds > 1 else 1)
        what = f"iter_bytes against a bare cursor loop over {count:,} entries"
        yield speed_line("replay/raw", what, "none", GOALS["replay-raw"], pair, events=count)


def single_appends(work: Workspace) -> Iterator[Line]:
    """Logs that single appends wrote, against logs written in batches."""
    count = work.size.events
    stores = (
        ("one stream", work.single(), "batches of 1,000", work.batched(), GOALS["singles-one"]),
        (
            f"{work.streams:,} streams",
            work.single_streams(),
            "a batch per stream",
            work.batched_streams(),
            GOALS["singles-many"],
        ),
        (
            f"{work.streams:,} streams",
            work.single_streams(),
            "append_many of 1,000 in the same order",
            work.shuffled(),
            Goal(),
        ),
    )
    ways = (
        ("typed", lambda db: read_amounts(db.global_reader().iter_from())),
        ("raw", lambda db: count_of(db.global_reader().iter_bytes())),
    )
    for streams, path, batches, other, goal in stores:
        with reading(path) as (db, _), reading(other) as (batched, _):
            for way, run in ways:
                a = Side("single appends", run, lambda _, result: result, _kept(db))
                b = Side("batches", run, lambda _, result: result, _kept(batched))
                pair = compare(a, b, rounds=work.size.rounds)
                what = f"{way} replay of {count:,} single appends, {streams}, against {batches}"
                yield speed_line(
                    "replay/single-appends", what, "none", goal if way == "typed" else Goal(), pair, events=count
                )


def kinds_of_events(work: Workspace) -> Iterator[Line]:
    """Typed replay of events of every size, the first field read, against a cursor loop over one entry per event."""
    count = work.size.events // 10
    for kind in kinds().values():
        events = kind.events(count)
        first = next(iter(type(events[0]).__annotations__))

        def build(path: Path, kind: Kind = kind, events: list[Any] = events) -> None:
            with varve.open(path, durability="bulk") as db:
                db.stream("events", kind.types).append_batch(0, events)

        def build_bare(path: Path, kind: Kind = kind, events: list[Any] = events) -> None:
            with bare(path, durability="bulk") as env:
                env.putmulti(0, kind.encoded(events), count)

        def read(db: varve.Varve, first: str = first) -> int:
            return sum(getattr(one.event, first) for one in db.global_reader().iter_from())

        name = kind.name.replace(" ", "-").replace(",", "")
        path, other = work.built(f"kind-{name}", build), work.built(f"kind-{name}-bare", build_bare)
        with varve.open(path, readonly=True) as db, bare(other) as env:
            db.stream("events", kind.types)  # from here on a replay gives these classes
            total = sum(getattr(event, first) for event in events)
            ours = Side("iter_from", read, lambda db, got: (got, checksum(db.global_reader().iter_bytes())), _kept(db))
            rival = Side("cursor loop", Bare.walk, lambda env, _, s=total: (s, checksum(env.payloads())), _kept(env))
            pair = compare(ours, rival, rounds=work.size.rounds)
        what = f"{kind.name}: typed replay, one field read, against a bare cursor loop"
        yield speed_line("replay/kinds", what, "none", Goal(), pair, events=count, series="kinds", at=kind.name)


CASES = {
    "replay/kinds": kinds_of_events,
    "replay/typed": typed,
    "replay/raw": raw,
    "replay/single-appends": single_appends,
}
