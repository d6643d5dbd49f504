"""A matrix of what is written: sizes of events, sizes of batches, durability, numbers of streams; each against a put loop.

The other side puts the same FlatBuffers, encoded before, as entries of a log and of an index, in commits of the same size and
with the same durability.
"""

from __future__ import annotations

import contextlib
import random
import shutil
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import varve
from benches.append.batches import bare_side
from benches.baselines import Bare, bare
from benches.events import SEED, Kind, OrderPlaced, checksum, encoded, kinds, orders
from benches.goals import Goal
from benches.lines import Line, speed_line
from benches.pairs import Side, compare
from benches.workspace import BATCH_EVENTS, Workspace

BATCHES = (1, 10, 100, 1_000, 1_000_000)
ROUND_BYTES_MAX = 256 << 20
"""Bytes of a round: a million events of 1,000 bytes would measure the memory of the machine."""
DURABILITIES: tuple[varve.Durability, ...] = ("full", "relaxed")


@lru_cache(maxsize=1)
def prepared(kind: Kind, count: int) -> tuple[list[Any], list[bytes]]:
    """Events of a kind and their FlatBuffers; the last ones asked for are kept."""
    events = kind.events(count)
    return events, kind.encoded(events)


def round_events(work: Workspace, kind: Kind, batch: int) -> int:
    """How many events a round writes in batches of so many."""
    mean_bytes = len(b"".join(kind.encoded(kind.events(100)))) / 100
    return min(work.size.events, batch * work.size.appends * 5 // 2, int(ROUND_BYTES_MAX / mean_bytes))


def batches(kind_name: str, durability: varve.Durability, work: Workspace) -> Iterator[Line]:
    """One kind of events and one durability, batches of 1 to 1,000,000 for one stream."""
    kind = kinds()[kind_name]
    case = f"append/{kind_name.replace(' ', '-').replace(',', '')}-{durability}"
    done: set[int] = set()
    for batch in BATCHES:
        count = round_events(work, kind, batch)
        size = min(batch, count)
        if size in done:
            continue  # a small run has no larger batches
        done.add(size)
        events, payloads = prepared(kind, count)

        @contextlib.contextmanager
        def setup() -> Iterator[tuple[varve.Varve, varve.Stream[Any]]]:
            with work.fresh() as path, varve.open(path, durability=durability) as db:
                yield db, db.stream("events", kind.types)

        def ours(state: tuple[varve.Varve, varve.Stream[Any]], events: list[Any] = events, size: int = size) -> None:
            append = state[1].append if size == 1 else state[1].append_batch
            for start in range(0, len(events), size):
                append(0, events[start] if size == 1 else events[start : start + size])

        def theirs(env: Bare, payloads: list[bytes] = payloads, size: int = size) -> None:
            for start in range(0, len(payloads), size):
                env.put_loop(0, payloads[start : start + size])

        a = Side("varve", ours, lambda state, _: checksum(state[0].global_reader().iter_bytes()), setup)
        pair = compare(a, bare_side(work, "put loop", theirs, durability=durability), rounds=work.size.rounds)
        what = f"{kind.name}, batches of {size:,}, against a put loop, encoded before"
        yield speed_line(
            case, what, durability, Goal(), pair, events=count, series=f"{kind.name}, {durability}", at=float(size)
        )


def streams(work: Workspace) -> Iterator[Line]:
    """Batches of 1,000 that go to one stream, to 1,000 interleaved streams, to a store of 1,000,000 streams."""
    count = work.size.events // 10
    events, payloads = orders(work.size.events)[:count], encoded(work.size.events)[:count]
    for streams in (1, work.streams, work.size.many_streams):
        ids = random.Random(SEED).choices(range(streams), k=count)
        with _stores(work, streams) as (ours_at, theirs_at):

            def ours(state: Any, ids: list[int] = ids) -> None:
                items = list(zip(ids, events, strict=True))
                for start in range(0, count, BATCH_EVENTS):
                    state[1].append_many(items[start : start + BATCH_EVENTS])

            def theirs(env: Bare, ids: list[int] = ids) -> None:
                for start in range(0, count, BATCH_EVENTS):
                    env.put_many(ids[start : start + BATCH_EVENTS], payloads[start : start + BATCH_EVENTS])

            def ours_sum(state: Any, _: Any) -> object:
                db = state[0]
                return checksum(db.global_reader().iter_bytes(db.next_global_sequence - count))

            a = Side("varve", ours, ours_sum, partial(_opened, work, ours_at))
            b = Side("put loop", theirs, lambda env, _: checksum(env.last(count)), partial(_bare, work, theirs_at))
            pair = compare(a, b, rounds=work.size.rounds)
        what = f"append_many of {BATCH_EVENTS:,} to {streams:,} streams at random against a put loop, encoded before"
        yield speed_line(
            "append/streams", what, "full", Goal(), pair, events=count, series="streams", at=float(streams)
        )


@contextlib.contextmanager
def _stores(work: Workspace, streams: int) -> Iterator[tuple[Path, Path]]:
    """Two stores in which every stream has an event."""
    some = encoded(work.size.events)
    with work.fresh() as path, work.fresh() as other:
        if streams == work.size.many_streams:
            copy_store(work.many_streams(), path)
        else:
            with varve.open(path, durability="bulk") as db:
                db.stream("orders", OrderPlaced).append_many([(n, orders(work.size.events)[n]) for n in range(streams)])
        with bare(other, durability="bulk") as env:
            env.put_many(range(streams), [some[number % len(some)] for number in range(streams)])
            env.env.sync(True)
        yield path, other


def copy_store(source: Path, target: Path) -> None:
    """A copy of a store that nobody has open."""
    target.mkdir()
    shutil.copyfile(source / "data.mdb", target / "data.mdb")


@contextlib.contextmanager
def _opened(work: Workspace, path: Path) -> Iterator[Any]:
    with work.fresh() as copied:
        copy_store(path, copied)
        with varve.open(copied) as db:
            yield db, db.stream("orders", OrderPlaced)


@contextlib.contextmanager
def _bare(work: Workspace, path: Path) -> Iterator[Bare]:
    with work.fresh() as copied:
        copy_store(path, copied)
        with bare(copied) as env:
            yield env


CASES: dict[str, Callable[[Workspace], Iterator[Line]]] = {
    f"append/{name.replace(' ', '-').replace(',', '')}-{durability}": partial(batches, name, durability)
    for name in ("24 bytes", "240 bytes", "1,000 bytes", "flights")
    for durability in DURABILITIES
    if durability == "full" or name == "240 bytes"
} | {"append/streams": streams}
