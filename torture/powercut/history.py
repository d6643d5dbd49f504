"""What the marks of a trace promise at each of its points, and whether a store keeps it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from torture.powercut.trace import Kind, Op
from varve.engine.environment import Durability


class Fact(NamedTuple):
    """An event of a log, and everything that a reader is told of it."""

    number: int
    digest: str
    stream: str
    stream_id: Any
    stream_sequence: int
    global_sequence: int
    commit_sequence: int
    time_ns: int
    metadata: str
    raw: bytes


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in an image."""

    present: bool
    """Whether there was a store (or the beginnings of one)."""
    events: int = 0
    """How many of the run's events it holds: the first ones."""
    positions: dict[str, int] = field(default_factory=dict)
    uuid: str = ""
    problems: tuple[str, ...] = ()
    """What is wrong with it whatever was acknowledged."""


@dataclass(frozen=True, slots=True)
class Duty:
    """What a power cut at some point must have left."""

    present: bool = False
    whole: bool = False
    uuid: str = ""
    least: int = 0
    """Events that are there for certain."""
    most: int = 0
    """Events that were tried."""
    positions_least: dict[str, int] = field(default_factory=dict)
    positions_most: dict[str, int] = field(default_factory=dict)


class History:
    """The promises of a run, from its trace and the log that it came to in the end."""

    def __init__(self, ops: Sequence[Op], log: Sequence[Fact], durability: Durability) -> None:
        self.log = log
        self.at: dict[int, int] = {fact.number: fact.global_sequence for fact in log}
        self._digests: dict[int, str] = {fact.number: fact.digest for fact in log}
        self._inside: set[int] = set()
        self._rides: list[tuple[str, int, int]] = []
        self.problems: list[str] = []
        self.duties = self._walk(ops, by_sync=durability != "full")

    def _walk(self, ops: Sequence[Op], *, by_sync: bool) -> list[Duty]:
        """The duty after each record."""
        duties = []
        duty = Duty()
        tried: set[int] = set()
        acknowledged = Duty()
        """As if every acknowledgement were durable: at the lower levels that is so after ``db.sync()`` only."""
        syncing = acknowledged
        for op in ops:
            if op.kind is Kind.MARK:
                what, *rest = json.loads(op.data)
                if what == "syncing":
                    syncing = acknowledged
                acknowledged = self._mark(acknowledged, tried, what, rest)
                known = acknowledged if not by_sync else syncing if what == "synced" else duty
                duty = Duty(
                    known.present,
                    acknowledged.whole,
                    known.uuid,
                    known.least,
                    acknowledged.most,
                    known.positions_least,
                    acknowledged.positions_most,
                )
            duties.append(duty)
        if acknowledged.least != len(self.log):
            self.problems.append(f"{acknowledged.least} events were acknowledged, the log holds {len(self.log)}")
        return duties

    def _mark(self, duty: Duty, tried: set[int], what: str, rest: list[Any]) -> Duty:
        present, whole, uuid, least, most = duty.present, duty.whole, duty.uuid, duty.least, duty.most
        positions_least, positions_most = duty.positions_least, duty.positions_most
        if what == "try":
            self._tried(rest[0], tried)
            while most < len(self.log) and self.log[most].number in tried:
                most += 1
        elif what == "ack":
            lost = [number for number in rest[0] if number not in self.at]
            if lost:
                self.problems.append(f"events {lost} were acknowledged and are not in the log")
            least = max([least, *(self.at[number] + 1 for number in rest[0] if number in self.at)])
        elif what == "trypos":
            name, position = rest
            positions_most = {**positions_most, name: max(position, positions_most.get(name, 0))}
        elif what == "ackpos":
            name, position = rest
            positions_least = {**positions_least, name: max(position, positions_least.get(name, 0))}
        elif what == "ride":
            name, position, numbers = rest
            self._rides.extend((name, position, self.at[number]) for number in numbers if number in self.at)
        elif what == "opened":
            present, uuid = True, rest[0]
        elif what == "whole":
            whole = True
        elif what not in {"syncing", "synced"}:
            raise ValueError(f"the trace says {what!r}")
        return Duty(present, whole, uuid, least, most, positions_least, positions_most)

    def _tried(self, events: list[list[Any]], tried: set[int]) -> None:
        """Note one try: its events stand together in the log, or none of them does."""
        tried.update(number for number, _ in events)
        there = [self.at[number] for number, _ in events if number in self.at]
        if there and there != list(range(there[0], there[0] + len(events))):
            self.problems.append(f"the events {[number for number, _ in events]} do not stand together: {there}")
        self._inside.update(there[1:])
        for number, digest in events:
            if self._digests.get(number, digest) != digest:
                self.problems.append(f"event {number} has other content than was appended")

    def broken(self, duty: Duty, seen: Seen) -> list[str]:
        """Which promises an image breaks."""
        problems = list(seen.problems)
        if not seen.present:
            if duty.present or duty.least:
                problems.append(f"the store is gone; {duty.least} events were acknowledged")
            return problems
        if seen.events < duty.least:
            problems.append(f"{duty.least} events were acknowledged, {seen.events} are there")
        if seen.events > duty.most:
            problems.append(f"{seen.events} events are there, only {duty.most} were tried")
        if seen.events in self._inside:
            problems.append(f"a part of a commit is there: the log ends at {seen.events}")
        if duty.whole and seen.events != len(self.log):
            problems.append(f"the store is there and holds {seen.events} of {len(self.log)} events")
        if duty.uuid and not problems and seen.uuid != duty.uuid:
            problems.append(f"the store was {duty.uuid} when it was opened, it is {seen.uuid}")
        return problems + self._broken_positions(duty, seen)

    def _broken_positions(self, duty: Duty, seen: Seen) -> list[str]:
        problems = []
        for name, position in duty.positions_least.items():
            found = seen.positions.get(name)
            if found is None or found < position:
                problems.append(f"consumer {name!r} stored {position}, found is {found}")
        for name, position in seen.positions.items():
            most = duty.positions_most.get(name)
            if most is None or position > most:
                problems.append(f"consumer {name!r} stands at {position}, stored was at most {most}")
            if position > seen.events:
                problems.append(f"consumer {name!r} stands at {position} of {seen.events} events")
        for name, position, sequence in self._rides:
            if (seen.positions.get(name, -1) >= position) != (seen.events > sequence):
                problems.append(
                    f"position {position} of {name!r} and event {sequence} were one commit, one of them is there"
                )
        return problems
