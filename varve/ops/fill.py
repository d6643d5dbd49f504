"""How full the blocks of a log are."""

from __future__ import annotations

import random
from dataclasses import dataclass

from varve import limits
from varve.ops.verify import Progress
from varve.store import Varve


@dataclass(frozen=True, slots=True)
class BlockFill:
    """What the blocks of a log hold, counted or estimated."""

    blocks: int
    """Blocks in the log."""
    events: int
    """Events in them."""
    payload_bytes: int
    """Bytes of the events themselves."""
    block_bytes: int
    """Bytes of the blocks."""
    sampled: int | None
    """How many blocks the figures were estimated from; None where each one was counted."""

    @property
    def payload_share(self) -> float:
        """The events' share of their blocks' bytes, 0 to 1."""
        return self.payload_bytes / self.block_bytes if self.block_bytes else 0.0

    @property
    def events_per_block(self) -> float:
        """Events of a block, on the average."""
        return self.events / self.blocks if self.blocks else 0.0


def block_fill(db: Varve, *, samples_max: int | None = 1_000, progress: Progress | None = None) -> BlockFill:
    """How full the blocks of an open store are.

    Looks at ``samples_max`` places spread over the log and estimates, or, where the log has fewer events than that or
    with None, at each block. ``progress`` is called with events done and in all.
    """
    begin, end = db.first_global_sequence, db.next_global_sequence
    if samples_max is None or end - begin <= samples_max:
        return _counted(db, begin, end, progress)
    return _estimated(db, begin, end, samples_max, progress)


def _counted(db: Varve, begin: int, end: int, progress: Progress | None) -> BlockFill:
    blocks = payload = size = 0
    at = begin
    while at < end:
        with db._engine.snapshot() as snapshot:  # noqa: SLF001 - the same library; renewed, so that no instant is held for long
            for _ in range(limits.TAIL_BLOCKS_MAX):
                block = snapshot.block(at)
                blocks, payload, size = blocks + 1, payload + len(block.payload()), size + len(block.data)
                at = block.end
                if at >= end:
                    break
        if progress is not None:
            progress(min(at, end) - begin, end - begin)
    return BlockFill(blocks, at - begin, payload, size, None)


def _estimated(db: Varve, begin: int, end: int, samples: int, progress: Progress | None) -> BlockFill:
    """A block is met as often as it has events, so each counts for one event only: what it has of all, divided by them."""
    blocks = payload = size = 0.0
    met: set[int] = set()
    count = end - begin
    chance = random.Random(end)  # noqa: S311 - so that no pattern in the log is met by the same part of it each time
    for index in range(samples):
        with db._engine.snapshot() as snapshot:  # noqa: SLF001 - as above
            block = snapshot.block(begin + chance.randrange(index * count // samples, (index + 1) * count // samples))
            met.add(block.first)
            blocks += 1 / block.count
            payload += len(block.payload()) / block.count
            size += len(block.data) / block.count
        if progress is not None:
            progress((index + 1) * count // samples, count)
    scale = count / samples
    return BlockFill(max(1, round(blocks * scale)), count, round(payload * scale), round(size * scale), len(met))
