"""Bytes on disk, counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import varve
from benches.events import OrderPlaced, encoded, orders
from benches.goals import GOALS, Goal
from benches.lines import Line, exact
from benches.workspace import Workspace


def size(work: Workspace) -> Iterator[Line]:
    """What an event takes beyond its FlatBuffer: in the frames of its blocks, and of the file."""
    count = work.size.events
    payload_bytes = sum(map(len, encoded(count)))
    mean = f"FlatBuffers of {payload_bytes / count:.1f} bytes"

    def line(what: str, durability: str, goal: Goal, taken: int) -> Line:
        return Line("append/disk", what, durability, goal, exact((taken - payload_bytes) / count), "bytes", mean)

    def build(path: Path) -> None:
        with varve.open(path) as db:
            db.stream("orders", OrderPlaced).append_batch(0, orders(count))

    path = work.built("one-transaction", build)
    # Blocks are the subject here.
    with varve.open(path, readonly=True) as db, db._engine.snapshot() as snapshot:  # noqa: SLF001
        frames = sum(len(block.data) for block in snapshot.blocks(0, count))
    what = "bytes per event beyond its FlatBuffer"
    yield line(f"{what}, one batch of {count:,}: frames of blocks", "full", Goal(), frames)
    stores = (
        (f"one batch of {count:,}", "full", GOALS["disk-batches"], path),
        ("batches of 1,000, one stream", "bulk", GOALS["disk-batches"], work.batched()),
        (f"single appends over {work.streams:,} streams", "bulk", GOALS["disk-singles"], work.single_streams()),
        ("single appends, one stream", "bulk", Goal(), work.single()),
        (f"append_many of 1,000 over {work.streams:,} streams", "bulk", Goal(), work.shuffled()),
    )
    for name, durability, goal, built in stores:
        with varve.open(built, readonly=True) as db:
            used, whole = db.stats().used_bytes, db.stats().file_bytes
        if goal.key == "disk-batches" and count < 100_000:
            goal = Goal()
        yield line(
            f"{what}, {name}: the file, indexes included ({whole - used:,} bytes of it unused)", durability, goal, used
        )


CASES = {"append/disk": size}
