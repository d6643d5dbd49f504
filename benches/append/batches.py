"""Many events at once, typed instances encoded on the way, against one LMDB entry per event."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import varve
from benches.baselines import Bare, Lengths, bare
from benches.codec.official import encode_flat
from benches.events import OrderPlaced, amount_total, checksum, encoded, orders
from benches.goals import GOALS, Goal
from benches.lines import Line, speed_line
from benches.pairs import Side, compare
from benches.workspace import BATCH_EVENTS, Workspace

Opened = tuple[varve.Varve, varve.Stream[OrderPlaced]]
Sum = Callable[[Iterable[bytes | memoryview]], object]


def varve_side(
    work: Workspace, run: Callable[[Opened], Any], *, durability: varve.Durability = "full", total: Sum = checksum
) -> Side:
    """A new store for each round; what it holds then is summed."""

    @contextlib.contextmanager
    def setup() -> Iterator[Opened]:
        with work.fresh() as path, varve.open(path, durability=durability) as db:
            yield db, db.stream("orders", OrderPlaced)

    return Side("varve", run, lambda state, _: total(state[0].global_reader().iter_bytes()), setup)


def bare_side(
    work: Workspace,
    name: str,
    run: Callable[[Bare], Any],
    *,
    durability: str = "full",
    lengths: Lengths = "never",
    total: Sum = checksum,
) -> Side:
    """A new environment for each round."""

    @contextlib.contextmanager
    def setup() -> Iterator[Bare]:
        with work.fresh() as path, bare(path, durability=durability, lengths=lengths) as env:
            yield env

    return Side(name, run, lambda env, _: total(env.payloads()), setup)


@dataclass(frozen=True, slots=True)
class _Rival:
    """A way to write entries, and which goals it stands for (one transaction, batches of 1,000)."""

    name: str
    lengths: Lengths
    official: bool
    multi: bool
    million: str = ""
    thousands: str = ""

    def write(self, env: Bare, events: list[OrderPlaced], payloads: list[bytes]) -> None:
        """One commit."""
        values: Iterable[bytes | bytearray] = map(encode_flat, events) if self.official else payloads
        if self.multi:
            env.putmulti(0, values, len(events))
        else:
            env.put_loop(0, values)


_RIVALS = (
    _Rival("put loop, encoded before", "never", False, False, "million-put-loop", "thousands-put-loop"),
    _Rival("putmulti, encoded before", "never", False, True, "million-putmulti"),
    _Rival("put loop, lengths too, encoded before", "each", False, False),
    _Rival("putmulti, lengths too, encoded before", "each", False, True),
    _Rival("put loop, official Builder", "never", True, False),
    _Rival("putmulti, official Builder", "never", True, True),
)


def _against(work: Workspace, case: str, batch: int, goal_of: Callable[[_Rival], str], what: str) -> Iterator[Line]:
    for rival in _RIVALS:
        # The official Builder takes a hundred times as long: a tenth of the events says as much.
        count = max(min(batch, work.size.events), work.size.events // (10 if rival.official else 1))
        count = work.size.events // 10 if rival.official and batch >= work.size.events else count
        events, payloads = orders(count), encoded(count)
        size = min(batch, count)

        def ours(state: Opened, events: list[OrderPlaced] = events, size: int = size) -> None:
            append = state[1].append_batch
            for start in range(0, len(events), size):
                append(0, events[start : start + size])

        def theirs(
            env: Bare,
            rival: _Rival = rival,
            events: list[OrderPlaced] = events,
            payloads: list[bytes] = payloads,
            size: int = size,
        ) -> None:
            for start in range(0, len(events), size):
                rival.write(env, events[start : start + size], payloads[start : start + size])

        total = amount_total if rival.official else checksum  # the Builder orders bytes in its own way
        pair = compare(
            varve_side(work, ours, total=total),
            bare_side(work, rival.name, theirs, lengths=rival.lengths, total=total),
            rounds=work.size.rounds,
        )
        goal = GOALS.get(goal_of(rival), Goal())
        yield speed_line(
            case, f"{what.format(count=count)} against {rival.name}", "full", goal, pair, events=count,
            series="one transaction" if batch >= work.size.events else "", at=rival.name,
        )  # fmt: skip


def one_transaction(work: Workspace) -> Iterator[Line]:
    """Every event in one durable transaction."""
    what = "append_batch of {count:,} events in one transaction"
    yield from _against(work, "append/one-transaction", work.size.events, lambda rival: rival.million, what)


def thousands(work: Workspace) -> Iterator[Line]:
    """A durable commit for every 1,000 events."""
    what = f"{{count:,}} events, a commit per {BATCH_EVENTS:,},"
    yield from _against(work, "append/thousands", BATCH_EVENTS, lambda rival: rival.thousands, what)


CASES = {"append/one-transaction": one_transaction, "append/thousands": thousands}
