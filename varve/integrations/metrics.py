"""The metrics of a store: their names, units and where they come from. One table for every tool; docs/observability.md has it
too, and a test compares.

Names are OpenTelemetry's; Prometheus' are made from them: ``varve.commit.duration`` in seconds is
``varve_commit_duration_seconds``.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, NamedTuple, Protocol

from varve.errors import InvalidInput, VarveError
from varve.logs import WARNING, say
from varve.reports import BatchReport, CommitReport, Observer
from varve.stats import StoreStats
from varve.store import Varve

SECONDS: Final = (*(round(digits * 10.0**power, 6) for power in range(-5, 1) for digits in (1, 2.5, 5)), 10.0)
"""Buckets of durations: a commit without fsync takes tens of microseconds, one on a slow disk seconds."""
COUNTS: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)
"""Buckets of group sizes, up to ``GROUP_COMMITS_MAX``."""

Kind = Literal["counter", "histogram", "gauge"]

_SUFFIXES: Final = {"s": "_seconds", "By": "_bytes", "1": "_ratio"}


class Metric(NamedTuple):
    """One metric. ``label``: what it is divided by, beside the store."""

    name: str
    unit: str
    kind: Kind
    help: str
    label: str = ""
    buckets: tuple[float, ...] = ()

    @property
    def prometheus_name(self) -> str:
        """Its name in Prometheus, which shows counters with ``_total`` behind it."""
        return self.name.replace(".", "_") + _SUFFIXES.get(self.unit, "")


TRANSACTIONS: Final = Metric(
    "varve.transactions", "{transaction}", "counter", "Write transactions that were committed."
)
COMMITS: Final = Metric("varve.commits", "{commit}", "counter", "Commits: appends, transactions, stored positions.")
EVENTS: Final = Metric("varve.events", "{event}", "counter", "Events that were written.")
EVENT_BYTES: Final = Metric("varve.event", "By", "counter", "Encoded length of the events that were written.")
REPLAYS: Final = Metric("varve.commit.replays", "{commit}", "counter", "Commits whose idempotency key was known.")
ERRORS: Final = Metric("varve.commit.errors", "{commit}", "counter", "Commits that were refused, or failed.", "code")
GROUP: Final = Metric("varve.commit.group", "{commit}", "histogram", "Commits of a transaction.", buckets=COUNTS)
DURATION: Final = Metric(
    "varve.commit.duration", "s", "histogram", "LMDB's part of a commit: pages and fsync.", buckets=SECONDS
)
PREPARED: Final = Metric(
    "varve.commit.preparation",
    "s",
    "histogram",
    "From the beginning of the transaction to LMDB's part.",
    buckets=SECONDS,
)
WAITED: Final = Metric(
    "varve.commit.wait", "s", "histogram", "From handing in to the beginning of the transaction.", buckets=SECONDS
)
CONSUMED: Final = Metric(
    "varve.consumer.events", "{event}", "counter", "Events that a consumer has handled.", "consumer"
)
HANDLED: Final = Metric(
    "varve.consumer.batch.duration", "s", "histogram", "Handling of a consumer's batch.", "consumer", SECONDS
)

NEXT_SEQUENCE: Final = Metric("varve.next_sequence", "{event}", "gauge", "Next global sequence.")
FIRST_SEQUENCE: Final = Metric("varve.first_sequence", "{event}", "gauge", "First global sequence that is retained.")
STREAMS: Final = Metric("varve.streams", "{stream}", "gauge", "Streams.")
BLOCKS: Final = Metric("varve.blocks", "{block}", "gauge", "Blocks of the log.")
FILE: Final = Metric("varve.file", "By", "gauge", "Length of the data file.")
USED: Final = Metric("varve.file.used", "By", "gauge", "Bytes of the data file up to the last page in use.")
FREE: Final = Metric("varve.file.free", "By", "gauge", "Bytes of these that hold nothing of the newest instant.")
MAP_USE: Final = Metric("varve.map.use", "1", "gauge", "Part of the reserved map that is in use; appends fail at 1.")
READERS: Final = Metric("varve.readers", "{reader}", "gauge", "Reader slots in use, all processes counted.")
READERS_MAX: Final = Metric("varve.readers.max", "{reader}", "gauge", "Reader slots.")
READER_LAG: Final = Metric(
    "varve.reader.lag", "{transaction}", "gauge", "Write transactions since the oldest instant read."
)
SNAPSHOTS: Final = Metric("varve.snapshots", "{snapshot}", "gauge", "Live snapshots of this process.")
SNAPSHOT_AGE: Final = Metric("varve.snapshot.age", "s", "gauge", "Age of the oldest of them; 0 where there is none.")
WAITING: Final = Metric("varve.commits.waiting", "{commit}", "gauge", "Commits handed in and not begun.")
CONSUMER_LAG: Final = Metric(
    "varve.consumer.lag",
    "{event}",
    "gauge",
    "Events from a consumer's stored position to the end of the log.",
    "consumer",
)
CONSUMER_RUNNING: Final = Metric(
    "varve.consumer.running", "{member}", "gauge", "Members of a consumer that are run, by any process.", "consumer"
)

METRICS: Final = tuple(value for value in list(globals().values()) if isinstance(value, Metric))
"""All of them, in order."""


def gauges(stats: StoreStats) -> Iterator[tuple[Metric, float]]:
    """The gauges of a store, those of its consumers aside."""
    yield NEXT_SEQUENCE, stats.next_sequence
    yield FIRST_SEQUENCE, stats.first_sequence
    yield STREAMS, stats.streams
    yield BLOCKS, stats.blocks
    yield FILE, stats.file_bytes
    yield USED, stats.used_bytes
    yield FREE, stats.free_bytes
    yield MAP_USE, stats.map_use
    yield READERS, stats.readers
    yield READERS_MAX, stats.readers_max
    yield READER_LAG, stats.reader_lag
    yield SNAPSHOTS, len(stats.snapshots)
    yield SNAPSHOT_AGE, stats.snapshots[0].age_s if stats.snapshots else 0.0
    yield WAITING, stats.writes.waiting


@dataclass(frozen=True, slots=True)
class Reading:
    """What a gauge shows."""

    metric: Metric
    value: float
    label: str = ""
    """The value of the metric's label, where it has one."""


class Instruments(Protocol):
    """What a tool has for counters and histograms."""

    def add(self, metric: Metric, value: float, label: str = "") -> None:
        """Raise a counter."""
        ...

    def record(self, metric: Metric, value: float, label: str = "") -> None:
        """One value for a histogram."""
        ...


class Members:
    """The stores that share a registry or a provider, by what they are called there. Thread-safe."""

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}
        self._lock = threading.Lock()

    def enter(self, store: str, meter: Meter) -> None:
        """One more store. Raises ``InvalidInput`` where one is called so already."""
        with self._lock:
            if store in self._meters:
                raise InvalidInput(
                    f"a store {store!r} has its metrics there already: close those, or give store= another name"
                )
            self._meters[store] = meter

    def leave(self, store: str, meter: Meter) -> None:
        """One less, if it is there."""
        with self._lock:
            if self._meters.get(store) is meter:
                del self._meters[store]

    def __iter__(self) -> Iterator[tuple[str, Meter]]:
        with self._lock:
            return iter(list(self._meters.items()))


class Meter(Observer):
    """One store on its way into some instruments. Holds the store weakly: who watches does not keep it open."""

    def __init__(self, db: Varve, instruments: Instruments) -> None:
        self._db = weakref.ref(db)
        self._instruments = instruments
        self._lock = threading.Lock()
        self._failed = False

    def begin(self) -> None:
        """Observe the store."""
        db = self._db()
        if db is not None:
            db.observe(self)

    def end(self) -> None:
        """Observe it no more."""
        db = self._db()
        if db is not None:
            db.unobserve(self)

    def commit_ended(self, report: CommitReport, /) -> None:
        """Count a commit."""
        add, record = self._instruments.add, self._instruments.record
        if report.commits:
            add(TRANSACTIONS, 1)
            add(COMMITS, report.commits)
            add(EVENTS, report.events)
            add(EVENT_BYTES, report.event_bytes)
            record(GROUP, report.commits)
            record(DURATION, report.commit_s)
            record(PREPARED, report.prepared_s)
            record(WAITED, report.waited_s)
        if report.replays:
            add(REPLAYS, report.replays)
        for code in report.errors:
            add(ERRORS, 1, code)

    def batch_handled(self, report: BatchReport, /) -> None:
        """Count a consumer's batch."""
        self._instruments.add(CONSUMED, report.events, report.consumer)
        self._instruments.record(HANDLED, report.handled_s, report.consumer)

    def readings(self) -> list[Reading]:
        """What the gauges show now; nothing where the store is closed, or cannot be read (which is logged once)."""
        db = self._db()
        if db is None:
            return []
        try:
            found = [Reading(metric, value) for metric, value in gauges(db.stats())]
            for info in db.consumers():
                running = sum(member.running for member in info.members)
                found += (Reading(CONSUMER_LAG, info.lag, info.name), Reading(CONSUMER_RUNNING, running, info.name))
        except VarveError as exc:
            with self._lock:
                first, self._failed = not self._failed, True
            if first and exc.kind != "invalid":  # closed is no news
                say(WARNING, "%s: its metrics cannot be read: %s", db.path, exc)
            return []
        self._failed = False
        return found


def label_of(db: Varve, store: str | None) -> str:
    """What the label ``store`` says. Raises ``InvalidInput``."""
    if not isinstance(db, Varve):
        raise InvalidInput(f"metrics are those of a store, made by varve.open, not of {db!r:.80}")
    if store is None:
        return db.path
    if not isinstance(store, str) or not store:
        raise InvalidInput(f"store is a name for the label, a str, not {store!r:.80}")
    return store


def of_kind(*kinds: Kind) -> Iterable[Metric]:
    """The metrics of these kinds."""
    return (metric for metric in METRICS if metric.kind in kinds)
