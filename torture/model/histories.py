"""Whether what several callers were told at once can have happened one after the other.

Each caller notes when an operation began and ended and what it came to. The log says in which order commits happened;
played in that order, the model must give each its positions. Whatever wrote nothing (a read, a refusal, a replay) must
be true of the log as it was after some commit between the operation's beginning and end: not before what was
acknowledged to anybody before it began, not behind what nobody had begun before it ended.
"""

from __future__ import annotations

import random
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable
from itertools import accumulate
from typing import Any, NamedTuple

import varve
from torture.model import plans
from torture.model.machine import Wrongness, must, same
from torture.model.plans import NAMES, Caller, Facts
from torture.model.world import Outcome, Plan, StreamId, World, Written, first_place


class Read(NamedTuple):
    """A look at the store: what was asked, and the answer."""

    kind: str
    name: str
    stream_id: StreamId
    answer: Any


class Operation(NamedTuple):
    """A call of one caller."""

    caller: int
    begun: int
    ended: int
    what: Plan | Read
    outcome: Outcome | None
    """None of a read."""


class Noted(NamedTuple):
    """An event as the log has it at the end."""

    name: str
    stream_id: StreamId
    stream_sequence: int
    number: int
    metadata: Any
    commit: int


Clock = Callable[[], int]


class Actor:
    """One of several callers on one store, with a history."""

    def __init__(self, caller: Caller, who: int, choose: random.Random, clock: Clock) -> None:
        self.caller = caller
        self.who = who
        self.choose = choose
        self.clock = clock
        self.facts = Facts(1, who << 32)
        self.history: list[Operation] = []

    def step(self) -> None:
        """Do something, and note it."""
        choose = self.choose
        lot = choose.random()
        if lot < 0.6:
            self._write()
        elif lot < 0.7:
            self._undo()
        else:
            self._read(choose.choice(("length", "stream", "end", "snapshot", "ids")))

    def _plan(self) -> Plan:
        choose = self.choose
        made = plans.plan(choose, self.facts, self._length, calls=choose.choice((1, 1, 1, 1, 2, 3)))
        if choose.random() < 0.2:
            # A few keys for all, whose content is the same whoever makes it first: retries meet.
            number = choose.randrange(8)
            same_for_all = random.Random(number)
            facts = Facts(1, 1 << 40 | number << 20)
            call = plans.append_call(same_for_all, facts, lambda _name, _id: 0, many=False)
            made = Plan((call._replace(expected=varve.ANY),), f"key {number}")
            if choose.random() < 0.2:
                made = made._replace(appends=(call._replace(expected=varve.ANY, name="orders"),))
        return made

    def _length(self, name: str, stream_id: StreamId) -> int:
        return self.caller.streams[name].reader().length(stream_id)

    def _write(self) -> None:
        made = self._plan()
        form = self.choose.choice(plans.FORMS) if len(made.appends) == 1 else self.choose.choice(plans.FORMS[1:])
        if made.metadata is not None and form == "call":
            form = "write"
        begun = self.clock()
        found = plans.attempt(lambda: self.caller.run(form, made))
        self.history.append(Operation(self.who, begun, self.clock(), made, found))

    def _undo(self) -> None:
        made = self._plan()
        self.caller.undo(self.choose.choice(plans.FORMS[1:]), made)

    def _read(self, kind: str) -> None:
        name, one = self.choose.choice(NAMES), plans.stream_id(self.choose)
        stream, db = self.caller.streams[name], self.caller.db
        begun = self.clock()
        answer: Any
        if kind == "length":
            answer = stream.reader().length(one)
        elif kind == "stream":
            answer = [(r.global_sequence, r.event.number) for r in stream.reader().iter_stream(one)]
        elif kind == "end":
            answer = db.next_global_sequence
        elif kind == "ids":
            answer = [(type(i).__name__, i) for i in stream.reader().stream_ids()]
        else:
            with db.snapshot() as snapshot:
                end = snapshot.next_global_sequence
                reader = snapshot.reader(stream)
                length = reader.length(one)
                events = [(r.global_sequence, r.event.number) for r in reader.iter_stream(one)]
                last = [r.event.number for r in snapshot.global_reader().iter_from(max(0, end - 20))]
            answer = (end, length, events, last)
        self.history.append(Operation(self.who, begun, self.clock(), Read(kind, name, one, answer), None))


def read_log(db: varve.Varve) -> list[Noted]:
    """The whole log, as it is at the end."""
    return [
        Noted(r.stream, r.stream_id, r.stream_sequence, r.event.number, r.metadata, r.commit_sequence)
        for r in db.global_reader().iter_from(0)
    ]


def check(history: Iterable[Operation], log: list[Noted]) -> int:
    """Raise ``Wrongness`` where a history cannot be; how many operations there are."""
    operations = list(history)
    commits = sorted(filter(_has_written, operations), key=_first)
    world = World()
    ends = []
    for commit in commits:
        made, outcome = commit.what, commit.outcome
        assert isinstance(made, Plan)
        same(outcome, world.judge(made), "a commit in its place in the log", commit)
        assert isinstance(outcome, Written)
        world.write(made, outcome, 0)
        ends.append(len(world.log))
    held = [Noted(e.name, e.stream_id, e.stream_sequence, e.fact.number, e.metadata, e.commit) for e in world.log]
    for sequence, (found, wanted) in enumerate(zip(log, held, strict=False)):
        same(found, wanted, f"global sequence {sequence}")
        must(type(found.stream_id) is type(wanted.stream_id), "an id of another kind", found)
    same(len(log), len(held), "events in the log, and events that were acknowledged")
    window = _Window(commits, ends)
    for one in operations:
        if _has_written(one):
            low, high = window.of(one)
            must(low <= _first(one) <= high, "an order that time forbids", one, low, high)
        else:
            _check_seen(world, one, window.instants(one))
    return len(operations)


def _has_written(operation: Operation) -> bool:
    outcome = operation.outcome
    return isinstance(outcome, Written) and not outcome.replayed and any(outcome.places)


def _first(operation: Operation) -> int:
    assert isinstance(operation.outcome, Written)
    return first_place(operation.outcome)


class _Window:
    """At which instants of the log something may have looked."""

    def __init__(self, commits: list[Operation], ends: list[int]) -> None:
        self._boundaries = [0, *ends]
        by_end = sorted((commit.ended, end) for commit, end in zip(commits, ends, strict=True))
        by_begin = sorted((commit.begun, end) for commit, end in zip(commits, ends, strict=True))
        self._ended = [at for at, _ in by_end]
        self._low = [0, *accumulate((end for _, end in by_end), max)]
        self._begun = [at for at, _ in by_begin]
        self._high = [0, *accumulate((end for _, end in by_begin), max)]

    def of(self, one: Operation) -> tuple[int, int]:
        """The least and the greatest length that the log had while it ran."""
        return self._low[bisect_left(self._ended, one.begun)], self._high[bisect_right(self._begun, one.ended)]

    def instants(self, one: Operation) -> list[int]:
        """The lengths that the log had while it ran."""
        low, high = self.of(one)
        return self._boundaries[bisect_left(self._boundaries, low) : bisect_right(self._boundaries, high)]


def _check_seen(world: World, one: Operation, instants: list[int]) -> None:
    what = one.what
    if isinstance(what, Plan):
        if not any(world.judge(what, at) == one.outcome or _is_nothing(one) for at in instants):
            raise Wrongness(f"what was never so: {one!r:.1500} at {instants}")
    elif not any(_shows(world, what, at) for at in instants):
        raise Wrongness(f"what was never to be seen: {one!r:.1500} at {instants}")


def _is_nothing(one: Operation) -> bool:
    """A commit that neither writes nor expects anything."""
    assert isinstance(one.what, Plan)
    return (
        isinstance(one.outcome, Written)
        and not any(one.outcome.places)
        and all(append.expected is varve.ANY for append in one.what.appends)
    )


def _shows(world: World, read: Read, at: int) -> bool:
    """Whether a log of that length answers so."""
    places = world.stream(read.name, read.stream_id, at)
    numbers = [(place, world.log[place].fact.number) for place in places]
    if read.kind == "length":
        return bool(read.answer == len(places))
    if read.kind == "stream":
        return bool(read.answer == numbers)
    if read.kind == "end":
        return bool(read.answer == at)
    if read.kind == "ids":
        return bool(read.answer == [(type(i).__name__, i) for i in world.ids(read.name, at)])
    last = [entry.fact.number for entry in world.log[max(0, at - 20) : at]]
    return bool(read.answer == (at, len(places), numbers, last))
