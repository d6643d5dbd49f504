"""What has to stay bounded, and how that is told from measurements.

*Snapshots.* LMDB writes a page again only once no reader can see it any more, so the file's growth is bounded by how old
the oldest reader's instant is. Every sample looks into the reader table: no slot may show an instant that was the newest
longer ago than a reader may hold one.

*File.* Whatever is not live was freed lately: by the commits that the oldest reader, at its oldest, did not see. Each frees
at most the pages of a path in each tree and the block that it extends.

*Memory and descriptors* of processes that live as long as the soak. What leaks grows all the time, so a straight line is
put through the samples of the run's second part; it may rise by no more than what a bounded cache still gathers, and by
nothing that its own uncertainty explains.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import NamedTuple

PAGE_BYTES = 4096
COMMIT_PAGES = 40
"""Pages that a commit frees at most: a path of 4 pages in each of 5 trees, and a block of 8 that is written anew, twice."""
SLACK_BYTES = 4 * 2**20
"""Runs of pages that are free but too short for a block of 8: of a small file they are a part that counts."""
MEMORY_SLOPE_MAX = 32 * 1024
"""Bytes per second that memory may grow by: the checksums remembered of new blocks (bounded by ``CHECKED_BLOCKS_MAX``) take
up to 200 bytes for each 30 events or so, which leaves room for 5,000 events per second."""
MEMORY_GROWTH_MAX = 6 * 2**20
"""What it may come to all the same: the allocator's arenas fill up in steps."""
DESCRIPTORS_GROWTH_MAX = 8
"""Sockets to watchers come and go with their processes."""
DESCRIPTORS_MAX = 100


class Sample(NamedTuple):
    """A process at an instant."""

    at_s: float
    memory_bytes: int
    descriptors: int


class Line(NamedTuple):
    """A straight line through samples."""

    slope: float
    error: float
    """The standard error of the slope."""


def sample(pid: int, at_s: float) -> Sample:
    """Memory of its own (not the map of the file) and open descriptors."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    [kib] = [line.split()[1] for line in status.splitlines() if line.startswith("RssAnon:")]
    return Sample(at_s, int(kib) * 1024, len(os.listdir(f"/proc/{pid}/fd")))  # noqa: PTH208 - it counts names only


def line(points: list[tuple[float, float]]) -> Line:
    """Least squares."""
    count = len(points)
    if count < 3:
        return Line(0.0, math.inf)
    x_mean = sum(x for x, _ in points) / count
    y_mean = sum(y for _, y in points) / count
    spread = sum((x - x_mean) ** 2 for x, _ in points)
    if not spread:
        return Line(0.0, math.inf)
    slope = sum((x - x_mean) * (y - y_mean) for x, y in points) / spread
    rest = sum((y - y_mean - slope * (x - x_mean)) ** 2 for x, y in points)
    return Line(slope, math.sqrt(rest / (count - 2) / spread))


def growth(name: str, samples: list[Sample]) -> list[str]:
    """What of a process is not bounded, a line each. The first third of its samples is its warming up."""
    warm = samples[len(samples) // 3 :]
    if len(warm) < 5:
        return [f"{name} was measured {len(samples)} times only"]
    told = []
    seconds = warm[-1].at_s - warm[0].at_s
    memory = line([(one.at_s, one.memory_bytes) for one in warm])
    least = memory.slope - 3 * memory.error
    if least > MEMORY_SLOPE_MAX and memory.slope * seconds > MEMORY_GROWTH_MAX:
        told.append(
            f"memory of {name} grows by {memory.slope / 1024:,.0f} KiB/s, of which {least / 1024:,.0f} are certain"
        )
    descriptors = line([(one.at_s, one.descriptors) for one in warm])
    risen = (descriptors.slope - 3 * descriptors.error) * seconds
    if risen > DESCRIPTORS_GROWTH_MAX or warm[-1].descriptors > DESCRIPTORS_MAX:
        told.append(f"descriptors of {name} rise to {warm[-1].descriptors}, by {descriptors.slope:.1f}/s")
    return told


class Instants:
    """When each of LMDB's transactions was the newest, and how old those are that readers hold."""

    def __init__(self, hold_s: float) -> None:
        self._hold_s = hold_s
        self._seen: list[tuple[float, int]] = []
        self.lag = 0
        """The most transactions that lay between a reader's instant and the newest."""

    def look(self, at_s: float, newest: int, held: list[tuple[int, int]]) -> list[str]:
        """Which readers (process, number of the instant) hold one for too long."""
        self._seen.append((at_s, newest))
        oldest_allowed = max((number for when, number in self._seen if when <= at_s - self._hold_s), default=0)
        if held:
            self.lag = max(self.lag, newest - min(number for _, number in held))
        return [
            f"process {pid} holds transaction {number}, though {oldest_allowed} was the newest {self._hold_s:.1f} s ago"
            for pid, number in held
            if number < oldest_allowed
        ]


def file_bytes_max(live_bytes: int, lag: int) -> int:
    """The longest that a file may be of which so much is live, where readers lag behind by so many transactions."""
    return live_bytes + (lag + 2) * COMMIT_PAGES * PAGE_BYTES + SLACK_BYTES


def live_bytes(path: Path) -> int:
    """Pages that the trees of a closed store use, but the tree of free pages."""
    import lmdb

    with lmdb.open(str(path), readonly=True, lock=False, max_dbs=16) as env:
        stats = [env.stat()]
        with env.begin() as transaction:
            names = [name for name, _ in transaction.cursor()]
        for name in names:
            database = env.open_db(name, create=False)
            with env.begin() as transaction:
                stats.append(transaction.stat(database))
    return PAGE_BYTES * (2 + sum(one["branch_pages"] + one["leaf_pages"] + one["overflow_pages"] for one in stats))
