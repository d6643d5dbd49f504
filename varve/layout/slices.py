"""A block cut into slices: consecutive events that share everything but their bytes and their place."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import NamedTuple

from varve.layout.block import Block, Run


class Slice(NamedTuple):
    """Consecutive events of one commit, one run and one metadata."""

    start: int
    """Index of the first event in the block."""
    stop: int
    """Index behind the last one."""
    commit: int
    """Index of the commit in the block."""
    run: Run
    """Stream and type."""
    first_stream_sequence: int
    """Stream sequence of the first event."""
    metadata: bytes | None
    """As JSON; None without any."""


def slices(block: Block, start: int, stop: int) -> Iterator[Slice]:
    """The events ``start .. stop`` (indexes in the block, at least one) in as few slices as the block's columns make."""
    runs = block.runs
    commit_ends = list(accumulate(block.column("commit_counts")))
    run_ends = list(accumulate(run.count for run in runs))
    edges = {*commit_ends, *run_ends}
    has_metadata = not block.is_plain and bool(block.column("metadata_firsts"))
    if has_metadata:
        firsts, counts = block.column("metadata_firsts"), block.column("metadata_counts")
        edges.update(firsts)
        edges.update(first + count for first, count in zip(firsts, counts, strict=True))
    at_run, at_commit = bisect_right(run_ends, start), bisect_right(commit_ends, start)
    for begin, end in pairwise([start, *sorted(edge for edge in edges if start < edge < stop), stop]):
        at_run += begin >= run_ends[at_run]
        at_commit += begin >= commit_ends[at_commit]
        run = runs[at_run]
        sequence = run.first_stream_sequence + begin - (run_ends[at_run] - run.count)
        yield Slice(begin, end, at_commit, run, sequence, block.metadata_of(begin) if has_metadata else None)
