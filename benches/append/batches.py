"""Writing: encode and append, against entries of ready payloads."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import varve
from benches.baselines import Bare, bare
from benches.events import OrderPlaced, checksum, encoded, orders
from benches.pairs import Side, compare
from benches.lines import Goal, Line, speed_line
from benches.workspace import BATCH_EVENTS, Workspace

_ONCE = "the stream's length put once"

Opened = tuple[varve.Varve, varve.Stream[OrderPlaced]]


def _varve(work: Workspace, run: Callable[[Opened], Any]) -> Side:
    @contextlib.contextmanager
    def setup() -> Iterator[Opened]:
        with work.fresh() as path, varve.open(path) as db:
            yield db, db.stream("orders", OrderPlaced)

    return Side("varve", run, lambda state, _: checksum(state[0].global_reader().iter_bytes()), setup)


def _bare(work: Workspace, name: str, run: Callable[[Bare], Any]) -> Side:
    @contextlib.contextmanager
    def setup() -> Iterator[Bare]:
        with work.fresh() as path, bare(path) as env:
            yield env

    return Side(name, run, lambda env, _: checksum(env.payloads()), setup)


def one_transaction(work: Workspace) -> Iterator[Line]:
    """Every event in one durable transaction."""
    count = work.size.events
    events, payloads = orders(count), encoded(count)
    ours = _varve(work, lambda state: state[1].append_batch(0, events))
    rivals: tuple[tuple[str, Goal, Callable[[Bare], None]], ...] = (
        ("put loop", Goal(at_least=2.5), lambda env: env.put_loop(0, payloads)),
        ("putmulti", Goal(at_least=1.3), lambda env: env.putmulti(0, payloads)),
        (f"put loop, {_ONCE}", Goal(), lambda env: env.put_loop(0, payloads, meta_once=True)),
        (f"putmulti, {_ONCE}", Goal(), lambda env: env.putmulti(0, payloads, meta_once=True)),
    )
    for name, goal, run in rivals:
        pair = compare(ours, _bare(work, name, run), rounds=work.size.rounds)
        what = f"append_batch of {count:,} events in one transaction against {name}"
        yield speed_line("write-one-transaction", what, "full", goal, pair, events=count)


def commits(work: Workspace) -> Iterator[Line]:
    """A durable commit for every 1,000 events."""
    count = work.size.events
    events, payloads = orders(count), encoded(count)
    starts = range(0, count, BATCH_EVENTS)

    def ours(state: Opened) -> None:
        for start in starts:
            state[1].append_batch(0, events[start : start + BATCH_EVENTS])

    def loop(env: Bare) -> None:
        for start in starts:
            env.put_loop(0, payloads[start : start + BATCH_EVENTS])

    def loop_once(env: Bare) -> None:
        for start in starts:
            env.put_loop(0, payloads[start : start + BATCH_EVENTS], meta_once=True)

    rivals = (("put loop", Goal(at_least=2.0), loop), (f"put loop, {_ONCE}", Goal(), loop_once))
    for name, goal, run in rivals:
        pair = compare(_varve(work, ours), _bare(work, name, run), rounds=work.size.rounds)
        what = f"{count:,} events, a commit per {BATCH_EVENTS:,}, against {name}"
        yield speed_line("write-commits", what, "full", goal, pair, events=count)


CASES = {"write-one-transaction": one_transaction, "write-commits": commits}
