"""Faults to plant: stores that lose, invent and forget. Each is planted in a process that ends soon after."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import varve
from torture.model import histories, plans, world
from varve.engine import commit, group, put, single
from varve.engine.commit import Session
from varve.engine.core import Engine
from varve.engine.snapshot import Snapshot
from varve.layout import keys
from varve.layout.runs import decode_runs, encode_runs
from varve.tailing.positions import Advance


def every(times: int) -> Callable[[], bool]:
    """True now and then."""
    count = itertools.count(1)
    return lambda: next(count) % times == 0


def model_is_wrong() -> None:
    """The model thinks that ``STREAM_EXISTS`` is met by a stream of one event only."""
    right = world.is_met
    world.is_met = lambda expected, length: length == 1 if expected is varve.STREAM_EXISTS else right(expected, length)


def an_append_is_lost() -> None:
    """A commit is acknowledged and not made."""
    right, now = Session.commit, every(40)

    def lose(self: Session) -> None:
        if now():
            self.abort()
            self.writer.state = None
        else:
            right(self)

    _plant(Session, "commit", lose)


def expectations_are_ignored() -> None:
    """Any expectation is met."""
    _plant(commit, "holds", lambda _expected, _length: True)


def lengths_are_stale() -> None:
    """A length is sometimes one too small."""
    right, now = Snapshot.stream_length, every(30)
    _plant(Snapshot, "stream_length", lambda self, number: max(0, right(self, number) - now()))


def keys_are_forgotten() -> None:
    """A key that was used is new again."""
    right = Session.find_meta
    tag = keys.idempotency_key(b"")[:1]
    _plant(Session, "find_meta", lambda self, key: None if key[:1] == tag else right(self, key))


def runs_merge_wrongly() -> None:
    """Runs of a stream that are one apart become one."""

    def merge(runs: list[tuple[int, int]], gained: Any) -> None:
        for first, count in gained:
            if runs and runs[-1][0] + runs[-1][1] <= first <= runs[-1][0] + runs[-1][1] + 1:
                runs[-1] = (runs[-1][0], runs[-1][1] + count)
            else:
                runs.append((first, count))

    def append_one(position: int, entry: bytes, sequence: int, _next: int) -> tuple[int, bytes]:
        runs = decode_runs(entry)
        merge(runs, ((sequence, 1),))
        return position, b"".join(encode_runs([run]) for run in runs)

    for place in (commit, put):
        _plant(place, "append_runs", merge)
    _plant(single, "append_one", append_one)


def the_past_grows() -> None:
    """A snapshot of an earlier sequence shows one event more."""
    right: Any = Snapshot.next_sequence.fget  # type: ignore[attr-defined]

    def shown(self: Snapshot) -> int:
        return int(right(self)) + (self.limit is not None and self.limit < self.record.next_sequence)

    _plant(Snapshot, "next_sequence", property(shown))


def positions_are_not_stored() -> None:
    """A consumer's position that rides on a commit is left behind."""
    _plant(Advance, "__call__", lambda *_: None)


def reads_are_old() -> None:
    """Now and then a reader is given an instant from before the last commit."""
    right, now = Engine.snapshot, every(25)
    old: list[int] = []

    def snapshot(self: Engine, limit: int | None = None) -> Snapshot:
        given = right(self, limit)
        end = given.record.next_sequence
        old.append(end)
        if limit is None and now() and len(old) > 20:
            given.close()
            return right(self, old[-20])
        return given

    _plant(Engine, "snapshot", snapshot)


def checked_then_done() -> None:
    """An expectation is checked before the writer's lock is taken."""
    right = plans.Caller.run

    def run(self: plans.Caller, form: str, made: world.Plan) -> world.Written:
        appends = []
        for append in made.appends:
            length = self.streams[append.name].reader().length(append.stream_id)
            is_sure = append.form != "many" and len(made.appends) == 1 and world.is_met(append.expected, length)
            appends.append(append._replace(expected=varve.ANY) if is_sure else append)
        return right(self, form, made._replace(appends=tuple(appends)))

    _plant(plans.Caller, "run", run)


def an_outcome_is_not_delivered() -> None:
    """Whoever waits for a commit that the helper has made is not always told."""
    right, now = group._deliver, every(5)  # noqa: SLF001 - the fault is inside

    def deliver(tickets: list[group.Ticket]) -> None:
        right(tickets[1:] if now() else tickets)

    _plant(group, "_deliver", deliver)


def a_batch_is_torn() -> None:
    """A reader is shown a batch before all of it is there."""
    right = histories.Actor._read  # noqa: SLF001 - the rack's own

    def read(self: histories.Actor, kind: str) -> None:
        right(self, kind)
        one = self.history[-1]
        if isinstance(one.what, histories.Read) and one.what.kind == "end" and one.what.answer:
            self.history[-1] = one._replace(what=one.what._replace(answer=one.what.answer - 1))

    _plant(histories.Actor, "_read", read)


def _plant(where: Any, name: str, what: Any) -> None:
    setattr(where, name, what)


MACHINE: dict[str, Callable[[], None]] = {
    "a model that is wrong": model_is_wrong,
    "an append is lost": an_append_is_lost,
    "expectations are ignored": expectations_are_ignored,
    "lengths are stale": lengths_are_stale,
    "keys are forgotten": keys_are_forgotten,
    "runs merge wrongly": runs_merge_wrongly,
    "the past grows": the_past_grows,
    "positions are not stored": positions_are_not_stored,
    "reads are old": reads_are_old,
}
THREADS: dict[str, Callable[[], None]] = {
    "an append is lost": an_append_is_lost,
    "checked, then done": checked_then_done,
    "an outcome is not delivered": an_outcome_is_not_delivered,
    "keys are forgotten": keys_are_forgotten,
    "reads are old": reads_are_old,
}
PROCESSES: dict[str, Callable[[], None]] = {
    "checked, then done": checked_then_done,
    "half a batch is seen": a_batch_is_torn,
    "reads are old": reads_are_old,
}
