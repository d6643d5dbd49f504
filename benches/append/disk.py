"""Bytes on disk, counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import varve
from benches.events import OrderPlaced, encoded, orders
from benches.lines import Goal, Line, exact
from benches.workspace import Workspace


def size(work: Workspace) -> Iterator[Line]:
    """What an event takes beyond its FlatBuffer: in the frames of its blocks, and of the file."""
    count = work.size.events
    payload_bytes = sum(map(len, encoded(count)))

    def build(path: Path) -> None:
        with varve.open(path) as db:
            db.stream("orders", OrderPlaced).append_batch(0, orders(count))

    path = work.built("one-transaction", build)
    with varve.open(path, readonly=True) as db:
        with db._engine.snapshot() as snapshot:  # noqa: SLF001 - blocks are the subject here
            frames = sum(len(block.data) for block in snapshot.blocks(0, count))
        used = db.stats().used_bytes
    mean = f"FlatBuffers of {payload_bytes / count:.1f} bytes"
    what = f"bytes per event beyond its FlatBuffer, one batch of {count:,}"
    yield Line(
        "size", f"{what}: frames", "full", Goal(at_most=12), exact((frames - payload_bytes) / count), "bytes", mean
    )
    yield Line(
        "size", f"{what}: the file", "full", Goal(at_most=12), exact((used - payload_bytes) / count), "bytes", mean
    )
    for name, built in (("batches of 1,000", work.batched()), ("single appends", work.single())):
        with varve.open(built, readonly=True) as db:
            used = db.stats().used_bytes
        yield Line(
            "size", f"the same, {name}: the file", "bulk", Goal(), exact((used - payload_bytes) / count), "bytes", mean
        )


CASES = {"size": size}
