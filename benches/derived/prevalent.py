"""Prevalent systems: how quickly a state is made again, and what a command costs."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import varve
from benches.goals import GOALS, Goal
from benches.lines import Line, cost_line, rate_line, speed_line
from benches.pairs import Side, compare
from benches.workspace import BATCH_EVENTS, Workspace

ACCOUNTS = 1_000


@varve.event(name="bench.Deposit")
class Deposit:
    """Of numbers alone."""

    account: varve.u32
    amount: varve.u64

    def apply(self, state: dict[int, int]) -> None:
        """Add."""
        state[self.account] = state.get(self.account, 0) + self.amount


@varve.event(name="bench.Credit")
class Credit:
    """With a string, which is the key."""

    account: str
    amount: varve.u64

    def apply(self, state: dict[str, int]) -> None:
        """Add."""
        state[self.account] = state.get(self.account, 0) + self.amount


COMMANDS: dict[str, tuple[Any, Any]] = {
    "two numbers": (Deposit, lambda at: Deposit(at % ACCOUNTS, at)),
    "a string and a number": (Credit, lambda at: Credit(f"account-{at % ACCOUNTS}", at)),
}


def _built(work: Workspace, cls: Any, make: Any) -> Path:
    """A system's journal, as a flush at intervals writes it; no snapshot."""

    def build(path: Path) -> None:
        with varve.open(path, durability="bulk") as db:
            stream = db.stream("prevalent/bank", cls)
            for start in range(0, work.size.events, BATCH_EVENTS):
                stop = min(start + BATCH_EVENTS, work.size.events)
                stream.append_batch(0, [make(at) for at in range(start, stop)])

    return work.built(f"prevalent-{cls.__name__}", build)


def recovery(work: Workspace) -> Iterator[Line]:
    """A start without any snapshot, against a typed replay that reads the same fields and does the same."""
    count = work.size.events
    for what, (cls, make) in COMMANDS.items():
        with varve.open(_built(work, cls, make), readonly=True) as db:
            stream = db.stream("prevalent/bank", cls)

            def recovered(_: Any, db: varve.Varve = db, cls: Any = cls) -> int:
                with varve.PrevalentSystem(db, "bank", initial=dict, commands=[cls]) as system:
                    return system.query(lambda state: sum(state.values()))

            def replayed(_: Any, stream: varve.Stream[Any] = stream) -> int:
                state: dict[Any, int] = {}
                for recorded in stream.reader().iter_stream(0):
                    recorded.event.apply(state)
                return sum(state.values())

            ours = Side("recovery", recovered, lambda _, total: total)
            loop = Side("replay", replayed, lambda _, total: total)
            pair = compare(ours, loop, rounds=work.size.rounds)
        said = f"{count:,} commands of {what} applied again"
        goal = GOALS["prevalent-recovery"]
        yield rate_line("derived/prevalent-recovery", said, "none", goal, pair.a_s, events=count, unit="commands/s")
        yield speed_line(
            "derived/prevalent-recovery", f"{said}, against iter_stream", "none", Goal(), pair, events=count
        )


def execute(work: Workspace) -> Iterator[Line]:
    """A durable command, against a durable append of the same event."""
    count = work.size.appends
    commands = [Deposit(at % ACCOUNTS, at) for at in range(count)]

    @contextlib.contextmanager
    def fresh_system() -> Iterator[Any]:
        with (
            work.fresh() as path,
            varve.open(path) as db,
            varve.PrevalentSystem(db, "bank", initial=dict, commands=[Deposit]) as system,
        ):
            yield system.execute, db

    @contextlib.contextmanager
    def fresh_stream() -> Iterator[Any]:
        with work.fresh() as path, varve.open(path) as db:
            stream = db.stream("prevalent/bank", Deposit)
            yield lambda command: stream.append(0, command), db

    def run(state: Any) -> None:
        call, _ = state
        for command in commands:
            call(command)

    def written(state: Any, _: Any) -> int:
        return int(state[1].next_global_sequence)

    pair = compare(
        Side("execute", run, written, fresh_system),
        Side("append", run, written, fresh_stream),
        rounds=work.size.short_rounds,
    )
    what = "a durable command, against a durable append"
    yield cost_line("derived/prevalent-execute", what, "full", Goal(), pair, events=count)


CASES = {"derived/prevalent-recovery": recovery, "derived/prevalent-execute": execute}
