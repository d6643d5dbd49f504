"""What the log must hold, whoever was killed when."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import varve
from torture.kills.page import Lane


@varve.event
class Row:
    """Event ``part`` of the ``of`` events of commit ``number`` of a lane."""

    lane: varve.u32
    number: varve.u32
    part: varve.u32
    of: varve.u32
    text: str


@varve.event
class Step:
    """What a consumer has consumed, written together with its position: ``start`` to ``stop``, whoever it was."""

    consumer: str
    start: varve.u64
    stop: varve.u64
    text: str = ""


@dataclass(frozen=True, slots=True)
class Read:
    """An event as it was read."""

    global_sequence: int
    stream: tuple[str, object]
    stream_sequence: int
    commit_sequence: int
    event: Any


@dataclass(slots=True)
class _Commits:
    """What was read of a lane."""

    whole: int = 0
    parts: int = 0
    of: int = 0
    sequence: int = -1
    first: int = -1
    """Of the last whole commit: its first global sequence."""


def as_read(recorded: varve.Recorded[Any]) -> Read:
    """An event, copied."""
    return Read(
        recorded.global_sequence,
        (recorded.stream, recorded.stream_id),
        recorded.stream_sequence,
        recorded.commit_sequence,
        varve.owned(recorded.event),
    )


@dataclass(slots=True)
class Ledger:
    """Reads a log once, in order, and says what is wrong with it."""

    next: int = 0
    lengths: dict[tuple[str, object], int] = field(default_factory=dict)
    lanes: dict[int, _Commits] = field(default_factory=dict)
    consumed: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def feed(self, events: Iterable[Read]) -> None:
        """Go on reading."""
        for one in events:
            if one.global_sequence != self.next:
                self.problems.append(f"a gap: event {one.global_sequence} follows {self.next - 1}")
            self.next = one.global_sequence + 1
            length = self.lengths.get(one.stream, 0)
            if one.stream_sequence != length:
                self.problems.append(
                    f"a gap in {one.stream}: {one.stream_sequence} follows {length - 1} at {one.global_sequence}"
                )
            self.lengths[one.stream] = one.stream_sequence + 1
            if isinstance(one.event, Step):
                self._step(one.event)
            else:
                self._row(one)

    def _step(self, step: Step) -> None:
        done = self.consumed.get(step.consumer, 0)
        if step.start != done:
            self.problems.append(f"{step.consumer} consumed from {step.start} on, its last position was {done}")
        self.consumed[step.consumer] = step.stop

    def _row(self, one: Read) -> None:
        row = one.event
        lane = self.lanes.setdefault(row.lane, _Commits())
        name = f"commit {row.number} of lane {row.lane}"
        if row.part == 0:
            if lane.parts:
                self.problems.append(
                    f"commit {lane.whole} of lane {row.lane} is there in part: {lane.parts} of {lane.of}"
                )
            if row.number != lane.whole:
                self.problems.append(f"{name} follows {lane.whole - 1}")
                lane.whole = row.number
            lane.parts, lane.of, lane.sequence, lane.first = 0, row.of, one.commit_sequence, one.global_sequence
        elif row.number != lane.whole or row.part != lane.parts:
            self.problems.append(f"{name}: part {row.part} where {lane.parts} of {lane.whole} belongs")
        if one.commit_sequence != lane.sequence:
            self.problems.append(f"{name} is torn: its events are of two commits of the log")
        lane.parts = row.part + 1
        if lane.parts == row.of:
            lane.whole, lane.parts = row.number + 1, 0

    def settle(self, lane: Lane, *, acked: int | None = None) -> None:
        """Compare with what a lane says; ``acked``: what it said before the log was read, where it is alive."""
        seen = self.lanes.get(lane.number, _Commits())
        attempted = lane.attempted
        is_alive = acked is not None
        acked = lane.acked if acked is None else acked
        if seen.parts:
            self.problems.append(
                f"commit {seen.whole} of lane {lane.number} is there in part: {seen.parts} of {seen.of}"
            )
        if seen.whole < acked:
            self.problems.append(f"lane {lane.number}: {acked} commits acknowledged, {seen.whole} there: lost")
        if seen.whole > attempted:
            self.problems.append(f"lane {lane.number}: {seen.whole} commits there, {attempted} attempted: invented")
        if not is_alive and seen.whole == acked > 0 and seen.first != lane.position:
            self.problems.append(
                f"lane {lane.number}: commit {acked - 1} acknowledged at {lane.position}, is at {seen.first}"
            )
