"""Varve beside each peer: a million events at once, batches of 1,000, single appends, a typed replay, bytes on disk."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import varve
from benches.append.batches import Opened, varve_side
from benches.compare.peers import PEERS, Peer, Store
from benches.events import OrderPlaced, amount_total, orders
from benches.goals import GOALS, Goal
from benches.lines import Line, exact, speed_line
from benches.pairs import Side, compare
from benches.replay.logs import read_amounts
from benches.workspace import BATCH_EVENTS, Workspace

WRITES = (("million", "one transaction"), ("thousands", "batches of 1,000"), ("single", "single appends"))


def beside(peer: Peer, work: Workspace) -> Iterator[Line]:
    """Every kind of work against one peer."""
    reason = peer.missing()
    if reason is not None:
        yield Line(f"compare/{peer.name}", "left out", peer.durability, Goal(), exact(0.0), "skipped", reason)
        return
    for kind, what in WRITES:
        yield _writing(peer, work, kind, what)
    yield from _reading(peer, work)


def _goal(peer: Peer, kind: str) -> Goal:
    return GOALS.get(dict(peer.goals).get(kind, ""), Goal())


def _shape(peer: Peer, work: Workspace, kind: str) -> tuple[int, int]:
    """Events of a round and events of a commit."""
    if kind == "single":
        return max(work.size.appends * 5, 1), 1
    count = max(work.size.events // peer.slow, 1)
    return count, min(BATCH_EVENTS, count) if kind == "thousands" else count


def _writing(peer: Peer, work: Workspace, kind: str, what: str) -> Line:
    count, size = _shape(peer, work, kind)
    theirs_size = min(size, peer.store().commit_events_max)
    events = orders(max(count, work.size.events))[:count]
    prepared = peer.store().prepare(events)

    def ours(state: Opened) -> None:
        stream = state[1]
        for start in range(0, count, size):
            if size == 1:
                stream.append(0, events[start])
            else:
                stream.append_batch(0, events[start : start + size])

    def theirs(store: Store) -> None:
        for start in range(0, count, theirs_size):
            store.append(prepared[start : start + theirs_size])

    @contextlib.contextmanager
    def setup() -> Iterator[Store]:
        with work.fresh() as path, peer.opened(path) as store:
            yield store

    durability: Any = peer.durability
    pair = compare(
        varve_side(work, ours, durability=durability, total=amount_total),
        Side(peer.name, theirs, lambda store, _: store.amounts(), setup),
        rounds=max(1, work.size.rounds // 2) if kind == "million" else work.size.rounds,
    )
    limited = f", {peer.name} in commits of {theirs_size:,}" if theirs_size < size else ""
    text = f"{count:,} events, {what}{limited}, against {peer.name}"
    return speed_line(
        f"compare/{peer.name}", text, peer.durability, _goal(peer, kind), pair, events=count, series=f"compare {kind}",
        at=peer.name,
    )  # fmt: skip


def _reading(peer: Peer, work: Workspace) -> Iterator[Line]:
    """A replay that reads one field, and what the events take on the disk."""
    count, case = max(work.size.events // peer.slow, 1), f"compare/{peer.name}"
    events = orders(max(count, work.size.events))[:count]

    with work.fresh() as ours_at, work.fresh() as theirs_at:
        _fill(ours_at, events)
        with peer.opened(theirs_at) as store:
            prepared = store.prepare(events)
            for start in range(0, count, BATCH_EVENTS):
                store.append(prepared[start : start + BATCH_EVENTS])
            del prepared
            with varve.open(ours_at, readonly=True) as db:
                db.stream("orders", OrderPlaced)
                replay: Callable[[Any], Any] = lambda _: read_amounts(db.global_reader().iter_from())  # noqa: E731
                ours = Side("varve", replay, lambda _, found: found)
                theirs = Side(peer.name, lambda _: store.amounts(), lambda _, found: found)
                pair = compare(ours, theirs, rounds=work.size.rounds)
        what = f"typed replay of {count:,} events, one field read, against {peer.name}"
        goal = _goal(peer, "replay")
        yield speed_line(case, what, "none", goal, pair, events=count, series="compare replay", at=peer.name)
        theirs_bytes, ours_bytes = (_bytes(path) / count for path in (theirs_at, ours_at))
    what = f"bytes on disk, closed, {count:,} events in batches of 1,000: {peer.name} against varve"
    detail = f"{theirs_bytes:.1f} against {ours_bytes:.1f} an event"
    figure = exact(theirs_bytes / ours_bytes)
    yield Line(case, what, peer.durability, Goal(), figure, "x the bytes", detail, series="compare disk", at=peer.name)


def _fill(path: Path, events: list[OrderPlaced]) -> None:
    with varve.open(path, durability="bulk") as db:
        stream = db.stream("orders", OrderPlaced)
        for start in range(0, len(events), BATCH_EVENTS):
            stream.append_batch(0, events[start : start + BATCH_EVENTS])


def _bytes(path: Path) -> int:
    """What the files hold; LMDB's table of readers is memory that has a name."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and file.name != "lock.mdb")


CASES: dict[str, Callable[[Workspace], Iterator[Line]]] = {
    f"compare/{peer.name}": partial(beside, peer) for peer in PEERS
}
