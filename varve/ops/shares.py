"""What the events of a log are: how many of which stream name and type."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from varve import limits
from varve.engine.snapshot import Snapshot
from varve.layout.block import Block
from varve.store import Varve


class Share(NamedTuple):
    """Events of a stream name and a type."""

    stream: str
    """The stream name."""
    type: str
    """The name of the event type, its versions taken together."""
    events: int
    """How many, counted or estimated."""


@dataclass(frozen=True, slots=True)
class Shares:
    """The events of a log by stream name and type. What was archived does not count."""

    events: int
    """Events in the log."""
    shares: tuple[Share, ...]
    """The largest first. Those that an estimate did not meet are missing."""
    sampled: int | None
    """From how many blocks they were estimated; None where each event was counted."""


def event_shares(db: Varve, *, counted_max: int | None = 20_000, samples: int = 400) -> Shares:
    """How many events of an open store are of which stream name and type.

    Counted where the log has up to ``counted_max`` events, or with None; estimated from ``samples`` places spread over a longer
    one. Raises what reading a damaged block raises.
    """
    first, end = db.first_global_sequence, db.next_global_sequence
    if counted_max is None or end - first <= max(counted_max, samples):
        return _counted(db, first, end)
    return _estimated(db, first, end, samples)


def _counted(db: Varve, first: int, end: int) -> Shares:
    found: Counter[tuple[str, str]] = Counter()
    at = first
    while at < end:
        with db._engine.snapshot(end) as snapshot:  # noqa: SLF001 - the same library; renewed, so that no instant is held for long
            for _ in range(limits.TAIL_BLOCKS_MAX):
                block = snapshot.block(at)
                for key, count in _of_block(snapshot, block, end).items():
                    found[key] += count
                at = block.end
                if at >= end:
                    break
    return Shares(end - first, _sorted(found), None)


def _estimated(db: Varve, first: int, end: int, samples: int) -> Shares:
    """A block is met as often as it has events, so its composition counts once each time."""
    found: Counter[tuple[str, str]] = Counter()
    events = end - first
    met: set[int] = set()
    chance = random.Random(end)  # noqa: S311 - so that no pattern in the log is met by the same part of it each time
    for index in range(samples):
        with db._engine.snapshot(end) as snapshot:  # noqa: SLF001 - as above
            place = chance.randrange(index * events // samples, (index + 1) * events // samples)
            block = snapshot.block(first + place)
            met.add(block.first)
            of_block = _of_block(snapshot, block, end)
            whole = sum(of_block.values())
            for key, count in of_block.items():
                # In units of 2^-20 of a sample: a Counter adds up ints.
                found[key] += (count << 20) // whole
    total = sum(found.values())
    return Shares(events, _sorted(Counter({key: count * events // total for key, count in found.items()})), len(met))


def _of_block(snapshot: Snapshot, block: Block, end: int) -> Counter[tuple[str, str]]:
    """The events of a block before ``end``."""
    catalog = snapshot.catalog
    found: Counter[tuple[str, str]] = Counter()
    left = end - block.first
    for run in block.runs:
        count = min(run.count, left)
        if count <= 0:
            break
        left -= count
        found[catalog.stream(snapshot, run.stream).name, catalog.type(snapshot, run.type).name] += count
    return found


def _sorted(found: Counter[tuple[str, str]]) -> tuple[Share, ...]:
    return tuple(Share(stream, type_, count) for (stream, type_), count in found.most_common())
