"""Appending columns: to finished blocks without LMDB, and durably; against events that exist already, and against the limit."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import numpy as np

import varve
from benches.events import SEED, checksum
from benches.goals import GOALS, Goal
from benches.lines import Line, speed_line
from benches.pairs import Measured, Pair, Side, compare, with_interval
from benches.workspace import Workspace
from varve.appends import StreamTypes, append_batch
from varve.codec import event_type
from varve.columns.append import append_columns
from varve.engine.plan import Pending, Plan
from varve.engine.request import AppendRequest
from varve.layout.frame import frame_crc
from varve.layout.records import StoreRecord

_ROUNDS = 3
"""How many times the rounds of a long comparison: a round is short."""


@varve.event
class Tick:
    """A flat event of scalars, 40 bytes as a FlatBuffer."""

    order_id: varve.u64
    quantity: varve.u32
    amount: varve.u64


@lru_cache(maxsize=1)
def _columns(count: int) -> dict[str, Any]:
    generator = np.random.default_rng(SEED)
    return {
        "order_id": np.arange(count, dtype="u8"),
        "quantity": generator.integers(1, 10, count, dtype="u4"),
        "amount": generator.integers(99, 250_000, count, dtype="u8"),
    }


@lru_cache(maxsize=1)
def _ticks(count: int) -> list[Tick]:
    return list(map(Tick, *(column.tolist() for column in _columns(count).values())))


def _frames(request: AppendRequest) -> Iterator[bytes]:
    """The frames of a commit of one part, as a store that holds others would write them."""
    pending = Pending(StoreRecord(bytes(16), 0, 0, 10**9, 1, 1, 1), 0)
    plan = Plan(pending.record, 1, events=request.count, runs=1, payload_bytes=request.payload_bytes)
    ((_, _, events),) = request.parts
    plan.parts.append((None, [(0, 0, 0, events)]))
    pending.take(plan)
    return (draft.encode() for draft in pending.blocks(None))


def _finished(request: AppendRequest) -> list[int]:
    """The checksums of the blocks, which are made one after the other and not kept, as in a commit."""
    return list(map(frame_crc, _frames(request)))


def _rate(case: str, what: str, durability: str, goal: Goal, pair: Pair, count: int) -> Line:
    """How many events a second the first side made of it: absolute, so for orientation."""
    seconds = with_interval(list(pair.a_s))
    figure = Measured(*(count / 1e6 / one for one in (seconds.median, seconds.high, seconds.low)))
    return Line(case, what, durability, goal, figure, "M/s")


def blocks(work: Workspace) -> Iterator[Line]:
    """Columns to finished blocks: checked, encoded, summed. The clock is the thread's processor time."""
    case, count = "columns/append-blocks", work.size.events
    columns, events = _columns(count), _ticks(count)
    types = StreamTypes("ticks", [event_type(Tick)])
    ours = Side("columns", lambda _: _finished(append_columns(types, 0, columns)), lambda _, sums: sums)
    theirs = Side("events", lambda _: _finished(append_batch(types, 0, events)), lambda _, sums: sums)
    pair = compare(ours, theirs, rounds=work.size.rounds, clock=time.thread_time)
    what = f"{count:,} events to finished blocks"
    yield speed_line(case, f"{what}, against events that exist", "none", Goal(), pair, events=count)

    frames = list(_frames(append_columns(types, 0, columns)))
    limit = Side("crc32", lambda _: [zlib.crc32(memoryview(frame)[4:]) for frame in frames], lambda _, sums: sums)
    pair = compare(ours, limit, rounds=_ROUNDS * work.size.rounds, clock=time.thread_time)
    yield speed_line(case, f"{what}, against the checksums of the blocks alone", "none", Goal(), pair, events=count)
    yield _rate(case, what, "none", GOALS["columns-blocks"], pair, count)


def durable(work: Workspace) -> Iterator[Line]:
    """Every event in one durable commit."""
    case, count = "columns/append-durable", work.size.events
    columns, events = _columns(count), _ticks(count)

    @contextlib.contextmanager
    def setup() -> Iterator[tuple[varve.Varve, varve.Stream[Tick]]]:
        with work.fresh() as path, varve.open(path) as db:
            yield db, db.stream("ticks", Tick)

    def written(state: tuple[varve.Varve, Any], _: object) -> object:
        return checksum(state[0].global_reader().iter_bytes())

    ours = Side("columns", lambda state: state[1].append_columns(0, columns), written, setup)
    theirs = Side("events", lambda state: state[1].append_batch(0, events), written, setup)
    pair = compare(ours, theirs, rounds=work.size.rounds)
    what = f"append_columns of {count:,} events in one commit"
    yield speed_line(case, f"{what}, against append_batch of events that exist", "full", Goal(), pair, events=count)
    yield _rate(case, what, "full", GOALS["columns-durable"], pair, count)


CASES = {"columns/append-blocks": blocks, "columns/append-durable": durable}
"""The first by goal: without LMDB, and with it."""
