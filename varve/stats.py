"""What ``db.stats()`` answers. docs/observability.md says the same, field by field; a test compares."""

from __future__ import annotations

from dataclasses import dataclass

from varve.engine.environment import Durability


@dataclass(frozen=True, slots=True)
class SnapshotStats:
    """A live snapshot that views, iterators or ``db.snapshot()`` hold in this process."""

    snapshot_id: int
    """LMDB's number of its instant; rises by one with each write transaction."""
    age_s: float
    """Seconds since it was taken."""
    grown_pages: int
    """Pages by which the file has grown since. What the snapshot keeps from being used again may be more: free pages inside
    the file do not show."""


@dataclass(frozen=True, slots=True)
class WriteStats:
    """What a handle has written since it was opened. A commit that is just ending may be counted in some of the fields and not
    yet in others."""

    transactions: int
    """Write transactions of LMDB: with ``durability="full"``, fsyncs."""
    commits: int
    """Commits in them: append calls, transactions, ``db.write`` calls and stored positions of consumers."""
    events: int
    """Events that they wrote."""
    event_bytes: int
    """Encoded length of these events, in bytes."""
    group_max: int
    """Commits of the largest transaction; on the average there were ``commits / transactions``."""
    commit_s: float
    """Seconds spent in LMDB's commit (pages and fsync), in all."""
    commit_s_max: float
    """Seconds of the longest one."""
    failed: int
    """Commits that were refused (a failed ``expected``, say) or failed. What is refused before a commit begins is not
    counted: bad input, a closed handle."""
    waiting: int
    """Commits that have been handed in and not begun, in this instant: the depth of the queue."""


@dataclass(frozen=True, slots=True)
class StoreStats:
    """What a store holds and what it costs. Made by ``db.stats()``."""

    events: int
    """Events that the log holds: ``next_sequence - first_sequence``."""
    first_sequence: int
    """First global sequence that is retained."""
    next_sequence: int
    """Next global sequence."""
    streams: int
    """Streams that were ever appended to."""
    names: int
    """Stream names."""
    types: int
    """Event types, versions counted."""
    blocks: int
    """Blocks of the log. Single appends share one of up to 8 kB, batches fill up to 32 kB."""
    file_bytes: int
    """Length of the data file."""
    used_bytes: int
    """Bytes of it up to the last page that was ever in use."""
    free_bytes: int
    """Bytes of these that hold nothing of the newest instant: used again by commits to come, once no snapshot may read
    them. LMDB's own list of them is counted in."""
    log_bytes: int
    """Bytes of the pages that hold the log."""
    index_bytes: int
    """Bytes of the pages that hold the index."""
    meta_bytes: int
    """Bytes of the pages that hold metadata: names, types, streams, idempotency keys."""
    side_bytes: int
    """Bytes of the pages that hold consumers' positions and the like."""
    map_bytes: int
    """Address space reserved: the most that the file can grow to."""
    map_use: float
    """``used_bytes / map_bytes``, from 0 to 1. At 1 appends raise ``StoreFull``."""
    readers: int
    """Reader slots in use, all processes counted."""
    readers_max: int
    """Reader slots that the store has."""
    reader_lag: int
    """Write transactions since the oldest instant that any process still reads: what was freed since then cannot be used
    again."""
    snapshots: tuple[SnapshotStats, ...]
    """Live snapshots of this process, oldest first."""
    writes: WriteStats
    """What this handle has written."""
    durability: Durability
    """What an acknowledged append has survived."""
    readonly: bool
    """Whether this handle can write."""
