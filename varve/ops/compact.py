"""Compact a store: a new one with full blocks, without free pages, and without what its readers do not see any more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from varve import limits
from varve.archive import base_at
from varve.backups.manifest import SIDES
from varve.engine import files
from varve.engine.fresh import FreshStore
from varve.errors import CorruptedStore, InvalidInput
from varve.gaps import GAP, STAND_IN
from varve.layout import base as bases
from varve.layout import keys, retention
from varve.layout.block import Block
from varve.layout.cut import cut
from varve.layout.derive import Derivation
from varve.layout.draft import BlockDraft
from varve.layout.frame import COLD_BYTES, COMMIT_BYTES, EVENT_OVERHEAD_BYTES, RUN_BYTES
from varve.layout.records import TypeRecord, decode_stream_number
from varve.layout.slices import slices
from varve.ops.verify import Told, verify
from varve.retention import visible_from
from varve.store import Varve

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.engine.snapshot import Snapshot
    from varve.layout.base import Base

_COLD_ENTRY = 32  # upper bound of what a name, an id, a key or metadata adds beside its bytes
_GAP_TYPE = TypeRecord(GAP.name, GAP.schema_bytes)


@dataclass(frozen=True, slots=True)
class CompactReport:
    """What compacting came to."""

    events: int
    """Positions in the new store's log."""
    dropped: int
    """How many of them are gaps now that held an event before."""
    blocks_before: int
    blocks: int
    """Blocks of the log."""
    bytes_before: int
    bytes: int
    """Length of the data file."""


def compact(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    progress: Callable[[int, int], None] | None = None,
) -> CompactReport:
    """Make a new store at ``target`` of one that this process does not hold open: its events in full blocks, no free pages
    between them. Other processes may write meanwhile; what is compacted is the store as it was when this began.

    Events that retention rules hide from the readers of their streams (``Stream.truncate_before``, ``Stream.retain``) are
    dropped, for good: each position stays, with stream and commit, and holds a ``varve.Gap``. Everything else stays what it
    was: positions, commits, times, metadata, idempotency keys, identity, consumers, rules, what was archived.

    ``target`` must not exist, nor lie in the source; it appears when it is complete, verified and on disk. ``progress`` is called
    with events done and in all, neither of which falls; each is counted twice (written, verified). To take the store's place: end
    its writers, compact, move the new folder to the old one's path.

    Raises ``InvalidInput``, what ``varve.open(source, readonly=True)`` raises, ``CorruptedBlock``, ``DiskFull``, ``Archived``
    where another process archived meanwhile.
    """
    folder = files.folder(source, "source")
    made_at = files.folder(target, "target")
    if files.holds(folder, made_at):
        raise InvalidInput(f"{made_at} lies in the store that is compacted; name a folder elsewhere")
    told = Told(progress)
    with Varve(folder, readonly=True) as db:
        engine = db._engine  # noqa: SLF001 - the same library
        with FreshStore(made_at) as fresh:
            work = _Compaction(engine, told)
            work.write(fresh)
            fresh.close()
            _check(fresh, work.derivation.next_sequence, told)
            size = (Path(fresh.unfinished) / files.DATA).stat().st_size
            fresh.finish()
            told.end()
            return CompactReport(
                events=work.derivation.next_sequence - work.derivation.first_sequence,
                dropped=work.dropped,
                blocks_before=work.blocks_before,
                blocks=work.blocks,
                bytes_before=engine.environment.file_bytes(),
                bytes=size,
            )


def _check(fresh: FreshStore, events: int, told: Told) -> None:
    report = verify(fresh.unfinished, progress=lambda done, total: told(events + done, events + total))
    for finding in report.findings:
        if finding.kind not in {"event", "metadata", "schema"}:  # these were so before
            raise CorruptedStore(f"what was made of the store is not sound: {finding}", path=fresh.target)


class _Compaction:
    """A log on its way into another store.

    Attributes: ``derivation`` (of the new log), ``dropped`` (events), ``blocks_before``, ``blocks``.
    """

    def __init__(self, engine: Engine, told: Told) -> None:
        self._engine = engine
        self._told = told
        with engine.complete_snapshot() as snapshot:
            self._end = snapshot.next_sequence
            self._base = base_at(snapshot)
            self._sides = [(table, snapshot.side_items(table)) for table in SIDES]
            self._floors = floors(snapshot)
        self.derivation = Derivation(self._base)
        self.dropped = self.blocks_before = self.blocks = 0
        self._log = _Log(self._base)

    def write(self, fresh: FreshStore) -> None:
        """Write everything."""
        fresh.put("log", self._frames())
        fresh.put("index", self.derivation.index_pairs())
        if self.derivation.record is not None:
            fresh.put("meta", self.derivation.meta_pairs())
        else:
            fresh.put("meta", [(keys.STORE_RECORD_KEY, self._engine.created.encode())])
        if self._base is not None:
            fresh.put(bases.TABLE, self._base.pairs())
        for table, pairs in self._sides:
            if pairs:
                fresh.put(table, pairs)

    def _frames(self) -> Iterator[tuple[bytes, bytes]]:
        self._told(0, 2 * self._end)
        for block in self._source():
            for draft in self._log.take(block, self._floors):
                yield self._made(draft)
            self._told(block.end, 2 * self._end)
        for draft in self._log.rest():
            yield self._made(draft)
        self.dropped = self._log.dropped

    def _made(self, draft: BlockDraft) -> tuple[bytes, bytes]:
        frame = draft.encode()
        self.derivation.feed(Block(memoryview(frame)))
        self.blocks += 1
        return keys.log_key(draft.first), frame

    def _source(self) -> Iterator[Block]:
        for block in self._engine.sound_blocks(self.derivation.first_sequence, self._end):
            self.blocks_before += 1
            # The last one may have grown since.
            yield block if block.end <= self._end else Block(memoryview(cut(block, 0, self._end - block.first)))


def floors(snapshot: Snapshot, now_ns: int | None = None) -> dict[int, int]:
    """By stream number the first stream sequence that readers see, of those streams where that is not the first one."""
    now_ns = time.time_ns() if now_ns is None else now_ns
    found: dict[int, int] = {}
    of_names = []
    for key, value in snapshot.side_items(retention.TABLE):
        name, id_key = retention.decode_key(key)
        rule = retention.decode_retention(key, value)
        if id_key is None:
            of_names.append((name, rule))
        elif (number := snapshot.stream_number(name, id_key)) is not None:
            found[number] = visible_from(snapshot, number, rule, now_ns)
    for name, rule in of_names:
        name_number = snapshot.catalog.name_number(snapshot, name)
        prefix = b"" if name_number is None else keys.stream_lookup_key(name_number, b"")
        after: bytes | None = None
        while prefix and (chunk := snapshot.meta_chunk(prefix, after)):
            for _, value in chunk:
                number = decode_stream_number(value)
                if number not in found:
                    found[number] = visible_from(snapshot, number, rule, now_ns)
            after = chunk[-1][0]
    return {number: floor for number, floor in found.items() if floor}


class _Log:
    """Blocks out of blocks: as full as the writer makes them, with the same declarations under numbers of their own for types."""

    def __init__(self, base: Base | None) -> None:
        self.dropped = 0
        self._draft: BlockDraft | None = None
        self._sequence = 0 if base is None else base.horizon
        self._commit = 0 if base is None else base.commit
        self._time_ns = 0
        self._store: tuple[bytes, int] | None = None
        self._names: dict[int, str] = {}
        self._streams: dict[int, tuple[int, bytes]] = {}
        self._types: dict[int, TypeRecord] = {} if base is None else dict(enumerate(base.types))
        self._numbers = {record: number for number, record in self._types.items()}
        self._key: tuple[bytes, bytes] | None = None
        self._is_begun = False  # whether the draft holds something of the commit

    def take(self, block: Block, floors: dict[int, int]) -> Iterator[BlockDraft]:
        """The next block; the drafts that it has filled."""
        if not block.is_plain:
            self._store = block.store() or self._store
            self._names.update(block.declared_names())
            self._types.update((number, TypeRecord(name, schema)) for number, name, schema in block.declared_types())
            self._streams.update((number, (name, id_key)) for number, name, id_key in block.declared_streams())
        begun = {} if block.is_plain else {commit: (token, digest) for commit, token, digest in block.commit_keys()}
        firsts, times = block.commit_firsts(), list(block.commit_times())
        ends = [0, *block.ends().tolist()]
        payload = block.payload()
        for start, stop, commit, run, first, metadata in slices(block, 0, block.count):
            if firsts[commit] == block.first + start:
                self._begin_commit(firsts[commit], times[commit], begun.get(commit))
            self._time_ns = times[commit]  # of a commit whose beginning is archived, too
            floor = floors.get(run.stream, 0)
            hidden = min(max(0, floor - first), stop - start)
            if self._types[run.type] == _GAP_TYPE:
                hidden = 0  # dropped before: as it is
            if hidden:
                self.dropped += hidden
                yield from self._add(run.stream, _GAP_TYPE, first, [STAND_IN] * hidden, None)
            if hidden < stop - start:
                bufs = [bytes(payload[ends[at] : ends[at + 1]]) for at in range(start + hidden, stop)]
                yield from self._add(run.stream, self._types[run.type], first + hidden, bufs, metadata)

    def rest(self) -> Iterator[BlockDraft]:
        """The last draft."""
        if self._draft is not None:
            yield self._draft
            self._draft = None

    def _begin_commit(self, first: int, time_ns: int, key: tuple[bytes, bytes] | None) -> None:
        self._commit, self._time_ns, self._key, self._is_begun = first, time_ns, key, False

    def _add(
        self, stream: int, declared: TypeRecord, first: int, bufs: list[bytes], metadata: bytes | None
    ) -> Iterator[BlockDraft]:
        """Events of one stream, type, commit and metadata."""
        while bufs:
            draft = self._draft
            room = 0 if draft is None else _room(draft, bufs, self._besides(stream, declared, metadata))
            if draft is not None and not room:
                yield draft
                draft = None
            if draft is None:
                draft = self._draft = BlockDraft(self._sequence, self._commit)
                self._is_begun = False
                room = max(1, _room(draft, bufs, self._besides(stream, declared, metadata)))
            if not self._is_begun:
                self._is_begun = True
                draft.begin_commit(self._time_ns)
                if self._key is not None:
                    draft.add_key(*self._key)
                    self._key = None
            self._declare(draft, stream, declared)
            if metadata is not None:
                draft.add_metadata(room, metadata)
            draft.add(stream, self._numbers[declared], first, bufs[:room])
            bufs = bufs[room:]
            first += room
            self._sequence += room

    def _besides(self, stream: int, declared: TypeRecord, metadata: bytes | None) -> int:
        """Upper bound of the bytes that an event needs besides itself."""
        cold = [metadata] if metadata is not None else []
        if not self._is_begun and self._key is not None:
            cold += self._key
        if stream in self._streams:
            name_number, id_key = self._streams[stream]
            cold += [id_key, self._names.get(name_number, "").encode()]
        if declared not in self._numbers:
            cold += [declared.name.encode(), declared.schema]
        return COMMIT_BYTES + RUN_BYTES + (COLD_BYTES + sum(_COLD_ENTRY + len(raw) for raw in cold) if cold else 0)

    def _declare(self, draft: BlockDraft, stream: int, declared: TypeRecord) -> None:
        """What stands here for the first time."""
        if self._store is not None and not draft.first and not draft.count:
            draft.declare_store(*self._store)
        if stream in self._streams:
            name_number, id_key = self._streams.pop(stream)
            if name_number in self._names:
                draft.declare_name(name_number, self._names.pop(name_number))
            draft.declare_stream(stream, name_number, id_key)
        if declared not in self._numbers:
            self._numbers[declared] = len(self._numbers)
            draft.declare_type(self._numbers[declared], declared.name, declared.schema)


def _room(draft: BlockDraft, bufs: list[bytes], besides: int) -> int:
    """How many of some events still fit into a draft, by the writer's rules of size."""
    runs = len(draft.run_counts)
    is_short = runs > 1 and draft.count < limits.SHORT_RUN_EVENTS * runs
    left = (limits.TAIL_BLOCK_BYTES_MAX if is_short else limits.BLOCK_BYTES_MAX) - draft.bytes_max - besides
    sizes = accumulate(len(buf) + EVENT_OVERHEAD_BYTES for buf in bufs)
    return sum(1 for _ in takewhile(left.__ge__, sizes))
