"""A store made of backups, as it was at a point in time."""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from varve.backups.check import side_tables, stored_base, unreadable_record
from varve.backups.folder import chain_of, check_files, disk_errors, find_entries
from varve.backups.manifest import LOG, Backup, damaged, file_of
from varve.backups.pairs import Pair, read_pairs
from varve.backups.walk import UNREADABLE, checked_block
from varve.engine import files
from varve.engine.fresh import FreshStore
from varve.engine.instant import Instant
from varve.engine.pages import DamagedPage
from varve.errors import CorruptedBackup, CorruptedStore, InvalidInput
from varve.layout import base as bases
from varve.layout import consumers, keys, state
from varve.layout.base import Base
from varve.layout.block import Block
from varve.layout.content import ContentDigest
from varve.layout.cut import cut
from varve.layout.derive import Derivation
from varve.layout.records import StoreRecord
from varve.ops.verify import LOG as LOG_TABLE
from varve.ops.verify import Progress, Told, stored_record, verify
from varve.record import to_time_ns


@dataclass(frozen=True, slots=True)
class MovedConsumer:
    """A consumer that stood behind the end of what was restored, and was moved back to it."""

    name: str
    """Its name."""
    position: int
    """Where it stood: the furthest of its partitions."""
    moved_to: int
    """Where it stands now."""


@dataclass(frozen=True, slots=True)
class RestoreReport:
    """What a restore came to."""

    next_sequence: int
    """Next global sequence of the new store: where it ends."""
    last_recorded_at_ns: int | None
    """When its last commit was recorded, nanoseconds since 1970; None where it is empty."""
    backups: tuple[Backup, ...]
    """What it was made of, in order."""
    rounded_down: bool
    """Whether the wanted sequence lies within a commit, so that the store ends before that commit."""
    moved_consumers: tuple[MovedConsumer, ...]
    """Consumers that stood further ahead."""
    state_sequence: int | None = None
    """The next global sequence at the instant that the state is of, which is that of the last backup used; None where that holds
    none. Above ``next_sequence`` the state knows of events that the new log lacks."""


def restore(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    to_sequence: int | None = None,
    to_time: dt.datetime | None = None,
    check: bool = False,
    progress: Progress | None = None,
) -> RestoreReport:
    """Make a new store at ``target`` of the backups in ``source``, as the store was at a point in time: by default, the latest.

    ``to_sequence``: as it was before that global sequence, so that it is the next one; within a commit, as it was before the
    commit: a store never shows a part of one. ``to_time`` (aware): with everything that was recorded at or before it. Only points
    that the backups reach are served, so that nothing is missing without a word. ``source`` may be the folder of one backup: then
    those up to it count.

    The new store keeps uuid, sequences, times, metadata, idempotency keys, types, and the consumers that were there at the
    instant of the last backup used; those that stand beyond the new end are moved back to it, and reported. State is that of the
    same instant, which may lie behind the new end (``state_sequence``): it is kept without its past. It can be written to.
    Before anything is made, the manifests and the SHA-256 of every file that is needed are looked at; the events are held against
    the manifests' digests while they are written, index and metadata are made from them. ``check`` verifies the new store
    completely (``varve.ops.verify``, tens of microseconds an event) before it gets its name. ``target`` must not exist; it
    appears when it is complete and on disk. ``progress`` is called with events done and in all; with ``check`` each counts twice.

    Raises ``InvalidInput`` (the target exists; the point is not in the backups), ``StoreNotFound`` where there are no backups,
    ``CorruptedBackup``, ``UnsupportedFormat``, ``DiskFull``, ``StoreUnavailable`` and its kin.
    """
    folder = files.folder(source, "source")
    made_at = files.folder(target, "target")
    until_ns = _point(to_sequence, to_time)
    if files.holds(folder, made_at):
        raise InvalidInput(f"{made_at} lies in the folder of the backups; name a folder elsewhere")
    with disk_errors(folder):
        if os.path.lexists(made_at):
            raise InvalidInput(f"{made_at} exists already; name a folder that does not exist")
        chain, stop = _chosen(folder, to_sequence, until_ns)
        with FreshStore(made_at) as fresh:
            report = _Restore(chain, fresh, Told(progress), passes=1 + check).make(stop, to_sequence)
            fresh.close()
            if check:
                _verified(fresh, report, progress)
            fresh.finish()
    if progress is not None:
        events = (1 + check) * (report.next_sequence - chain[0].first_sequence)
        progress(events, events)
    return report


def _point(to_sequence: int | None, to_time: dt.datetime | None) -> int | None:
    """The wanted time in nanoseconds. Raises ``InvalidInput``."""
    if to_sequence is not None and to_time is not None:
        raise InvalidInput("a point is a sequence or a time, not both")
    if to_sequence is not None and (
        not isinstance(to_sequence, int) or isinstance(to_sequence, bool) or to_sequence < 0
    ):
        raise InvalidInput(f"to_sequence is a global sequence from 0 on, not {to_sequence!r}")
    if to_time is None:
        return None
    try:
        return to_time_ns(to_time) + 999  # a datetime names a whole microsecond
    except (ValueError, AttributeError, TypeError) as exc:
        raise InvalidInput(f"to_time is an aware datetime: {exc}") from None


def _verified(fresh: FreshStore, report: RestoreReport, progress: Progress | None) -> None:
    events = report.next_sequence - report.backups[0].first_sequence
    verdict = verify(
        fresh.unfinished,
        progress=None if progress is None else lambda done, total: progress(events + done, events + total),
    )
    if not verdict.sound:
        raise CorruptedStore(
            f"what was restored to {fresh.target} is not sound: {verdict.findings[0]}; nothing was kept",
            path=fresh.target,
            findings=tuple(map(str, verdict.findings)),
        )


# -- which backups ---------------------------------------------------------------------------------


def _chosen(folder: str, to_sequence: int | None, until_ns: int | None) -> tuple[list[Backup], int]:
    """The backups that the point needs, the last full one before it and what continues that up to the point; and where the new
    store ends. Where in a chain a point lies is known when its commits were looked at: the nearest chain may turn out to begin
    there or behind, since archives took what was before, and then one from before has it.

    Raises ``InvalidInput`` where no backup reaches it, ``CorruptedBackup``.
    """
    behind: list[Backup] = []  # full ones that begin too late, the nearest first
    for chain in _chains(folder, to_sequence, until_ns):
        full = chain[0]
        if full in behind:
            continue
        for backup in chain:
            check_files(backup, from_disk=False)
        stop = _Reading(chain).stop(to_sequence, until_ns)
        if stop > full.first_sequence or full.first_sequence == 0:
            return chain, stop
        behind.append(full)
    if not behind:
        raise InvalidInput(
            f"sequence {to_sequence} was archived before the backup in {folder} that comes next was taken"
        )
    raise InvalidInput(
        f"{behind[0].path} begins at sequence {behind[0].first_sequence}, what was before is archived: the point is not in it"
    )


def _chains(folder: str, to_sequence: int | None, until_ns: int | None) -> Iterator[list[Backup]]:
    """Chains of backups that reach the point, the best first. Raises ``InvalidInput`` where there are none, and at last
    ``CorruptedBackup`` where one of them is broken."""
    entries = find_entries(folder)
    readable = [entry for entry in entries if entry.backup is not None]
    if (to_sequence is None and until_ns is None) or not readable:
        yield chain_of(entries, entries[-1])
        return
    found = [entry.readable() for entry in readable]
    last = max(found, key=lambda backup: backup.next_sequence)
    first = min(backup.first_sequence for backup in found)
    if to_sequence is not None:
        if to_sequence > last.next_sequence:
            raise InvalidInput(f"the backups in {folder} reach up to sequence {last.next_sequence}, not {to_sequence}")
        ends = [at for at, backup in enumerate(found) if backup.next_sequence >= to_sequence]
        if to_sequence < first:
            raise InvalidInput(f"the backups in {folder} begin at sequence {first}; {to_sequence} is before that")
    else:
        assert until_ns is not None
        newest = max(found, key=lambda backup: backup.reaches_ns)
        asked_ns = until_ns - until_ns % 1_000  # backups are not asked for parts of a microsecond either
        if asked_ns > newest.reaches_ns:
            raise InvalidInput(
                f"the newest backup in {folder} was taken at {newest.taken_at.isoformat()}; whether something was recorded "
                "between then and the wanted time it does not know. Leave the time out for the latest that there is"
            )
        # A commit that was under way when a backup was taken may have an earlier time: one that has later commits has it.
        ends = [
            at
            for at, backup in enumerate(found)
            if backup.last_commit is not None and backup.last_commit.time_ns > until_ns
        ] or [at for at, backup in enumerate(found) if backup.reaches_ns >= asked_ns][-1:]
    problem: CorruptedBackup | None = None
    for at in _nearest(found, ends):
        try:
            chain = chain_of(entries, readable[at])
        except CorruptedBackup as exc:
            problem = problem or exc
        else:
            if to_sequence is None or chain[0].first_sequence <= to_sequence:
                yield chain
    if problem is not None:
        raise problem


def _nearest(found: Sequence[Backup], ends: list[int]) -> list[int]:
    """Backups at which a chain may end, the best first: those that reach least beyond the point, and of them the newest, which
    knows best how far consumers were."""
    return sorted(ends, key=lambda at: (found[at].next_sequence, -at))


# -- reading it ------------------------------------------------------------------------------------


class _Reading:
    """The log of a chain of backups."""

    def __init__(self, chain: list[Backup]) -> None:
        self._chain = chain
        self.record: StoreRecord | None = None
        """Of the full backup, once blocks were read."""

    def stop(self, to_sequence: int | None, until_ns: int | None) -> int:
        """Where a store as of the point ends: at the end of a commit."""
        end = self._chain[-1].next_sequence
        if until_ns is None and (to_sequence is None or to_sequence >= end):
            return end
        return self._boundary(end if to_sequence is None else to_sequence, until_ns)

    def _boundary(self, wanted: int, until_ns: int | None) -> int:
        """The last end of a commit at or before a sequence, or before the first commit recorded after a time."""
        begin = stop = self._chain[0].first_sequence
        for _, block in self.blocks():
            for first, time_ns in zip(block.commit_firsts(), block.commit_times(), strict=True):
                if first > wanted:
                    return stop
                stop = max(first, begin)
                if until_ns is not None and time_ns > until_ns:
                    return stop
        end = self._chain[-1].next_sequence
        return end if end <= wanted else stop

    def blocks(self) -> Iterator[tuple[Backup, Block]]:
        """Every block of the chain, looked at."""
        for backup in self._chain:
            try:
                for key, frame in self._pairs(backup):
                    yield backup, checked_block(key, frame)
            except (DamagedPage, CorruptedStore, *UNREADABLE) as exc:
                raise damaged(backup.path, str(exc)) from None

    def _pairs(self, backup: Backup) -> Iterator[Pair]:
        if backup.kind == "incremental":
            yield from read_pairs(os.path.join(backup.path, file_of(LOG)))
            return
        with Instant(backup.path) as instant:
            tables = instant.file.tables()
            if LOG_TABLE not in tables:
                raise damaged(backup.path, "its store has no log")
            self.record = stored_record(instant.file)
            yield from instant.file.items(tables[LOG_TABLE])


# -- making it -------------------------------------------------------------------------------------


class _Restore:
    """A log copied out of a chain of backups up to a point, with index and metadata made from it."""

    def __init__(self, chain: list[Backup], fresh: FreshStore, told: Told, *, passes: int) -> None:
        self._chain = chain
        self._reading = _Reading(chain)
        self._fresh = fresh
        self._told = told
        self._passes = passes
        self._derivation = Derivation()
        self._last_ns: int | None = None

    def make(self, stop: int, to_sequence: int | None) -> RestoreReport:
        """Write everything before ``stop``."""
        self._total = stop - self._chain[0].first_sequence
        self._told(0, self._passes * self._total)
        base = self._base()
        if base is not None:
            self._derivation = Derivation(base)
            self._fresh.put(bases.TABLE, base.pairs())
        self._fresh.put("log", self._log(stop))
        self._fresh.put("index", self._derivation.index_pairs())
        self._fresh.put("meta", self._meta())
        moved: list[MovedConsumer] = []
        state_sequence = None
        for name, pairs in self._sides():
            if name == state.TABLE:
                state_sequence = self._chain[-1].next_sequence
            self._fresh.put(name, self._moved_back(pairs, stop, moved) if name == consumers.TABLE else pairs)
        rounded = to_sequence is not None and stop < to_sequence
        return RestoreReport(stop, self._last_ns, tuple(self._chain), rounded, tuple(moved), state_sequence)

    def _base(self) -> Base | None:
        """What archives have left, where the chain begins behind them."""
        full = self._chain[0]
        try:
            with Instant(full.path) as instant:
                base = stored_base(instant.file, instant.file.tables())
        except (DamagedPage, CorruptedStore, *UNREADABLE) as exc:
            raise damaged(full.path, str(exc)) from None
        if full.first_sequence != (0 if base is None else base.horizon):
            raise damaged(full.path, f"nothing tells what was archived before {full.first_sequence}")
        return base

    def _log(self, stop: int) -> Iterator[Pair]:
        content: ContentDigest | None = None
        of: Backup | None = None
        at = first = self._chain[0].first_sequence
        for backup, block in self._reading.blocks():
            if block.first >= stop:
                break
            if backup is not of:
                self._compare(of, content)
                of, content = backup, ContentDigest(backup.first_sequence)
            if block.first != at:
                raise damaged(backup.path, f"a block begins at {block.first} where {at} comes next")
            frame = bytes(block.data)
            if block.end > stop:
                frame = cut(block, 0, stop - block.first)
                block = Block(memoryview(frame))
                content = None
            if content is not None:
                content.feed(block)
            at = block.end
            self._last_ns = block.last_time_ns
            try:
                self._derivation.feed(block)
            except UNREADABLE as exc:
                raise damaged(backup.path, str(exc)) from None
            yield keys.log_key(block.first), frame
            self._told(at - first, self._passes * self._total)
        if at != stop:
            raise damaged(self._chain[-1].path, f"the events {at} to {stop - 1} are missing")
        self._compare(of, content)

    def _compare(self, backup: Backup | None, content: ContentDigest | None) -> None:
        """Hold the events of a backup against its manifest, where all of them were read."""
        if backup is None or content is None or content.next_sequence != backup.next_sequence:
            return
        if content.hexdigest() != backup.content_digest:
            raise damaged(backup.path, "the digest of its events is not the one in its manifest")

    def _meta(self) -> list[Pair]:
        if self._derivation.record is not None:
            return self._derivation.meta_pairs()
        record = self._reading.record  # of an empty log, only the record tells who the store is
        if record is None:
            raise damaged(self._chain[0].path, "the record of its store cannot be read")
        return [(keys.STORE_RECORD_KEY, StoreRecord(*record[:2]).encode())]

    # -- side tables -------------------------------------------------------------------------------

    def _sides(self) -> Iterator[tuple[str, list[Pair]]]:
        """The side tables as of the last backup of the chain."""
        last = self._chain[-1]
        try:
            for name, pairs in self._stored_sides(last):
                if unreadable_record(name, pairs) is not None:
                    raise damaged(last.path, f"the table {name} holds a damaged record")
                yield name, pairs
        except (DamagedPage, CorruptedStore, *UNREADABLE) as exc:
            raise damaged(last.path, str(exc)) from None

    def _stored_sides(self, last: Backup) -> Iterator[tuple[str, list[Pair]]]:
        if last.kind == "incremental":
            for name in last.tables:
                yield name, list(read_pairs(os.path.join(last.path, file_of(name))))
            return
        with Instant(last.path) as instant:
            yield from side_tables(instant.file)

    def _moved_back(self, pairs: list[Pair], end: int, moved: list[MovedConsumer]) -> Iterator[Pair]:
        for key, value in pairs:
            record = None if key == consumers.TOKEN_KEY else consumers.decode_consumer(value, key)
            if not isinstance(record, consumers.ConsumerRecord):
                yield key, value
                continue
            furthest = max(run.position for run in record.runs)
            if furthest <= end:
                yield key, value
                continue
            runs = consumers.merged(run._replace(position=min(run.position, end)) for run in record.runs)
            moved.append(MovedConsumer(consumers.consumer_name(key) or "", furthest, end))
            yield key, record._replace(runs=runs).encode(key)
