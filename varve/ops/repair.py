"""Make a sound store of a damaged one: always a new store, never in place."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace

from varve.backups.check import stored_base
from varve.codec import event, event_type
from varve.engine import files
from varve.engine.fresh import FreshStore
from varve.engine.instant import Instant
from varve.engine.pages import DamagedPage, PageFile, Tree
from varve.errors import CorruptedBlock, CorruptedStore, InvalidInput, StoreUnavailable
from varve.layout import base as bases
from varve.layout import consumers, keys, retention, state
from varve.layout.base import Base
from varve.layout.block import Block
from varve.layout.derive import Derivation
from varve.layout.draft import BlockDraft
from varve.layout.frame import MalformedBlock, crc_holds
from varve.layout.records import StoreRecord, TypeRecord, decode_store_record
from varve.ops.salvage import LOST, Identity, Lost, Piece, Remains, is_token, readable_positions
from varve.ops.verify import (
    CONSUMERS,
    LOG,
    META,
    RETENTION,
    STATE,
    UNREADABLE,
    Progress,
    Told,
    VerifyReport,
    check_format,
    is_rule,
    is_state,
    spelled_key,
    stored_record,
    verify,
)

_LOST_PER_BLOCK = 1_000


@event(name="varve.Lost")
class LostEvent:
    """Stands where an event was lost, in a store that was salvaged: the position exists, what it held does not.

    A typed stream that does not declare it raises ``UnexpectedEventType`` there; declare it
    (``db.stream("orders", OrderPlaced | varve.ops.LostEvent)``) or read with ``unknown=`` to go on.
    """


@dataclass(frozen=True, slots=True)
class LostRun:
    """Consecutive events that could not be saved."""

    first_sequence: int
    """Global sequence of the first one."""
    events: int
    """How many."""
    stream: str | None
    """Name of their stream; None where nothing that is left tells it."""
    stream_id: keys.StreamId | None
    """Their stream's id."""
    first_stream_sequence: int | None
    """Stream sequence of the first one."""
    exact: bool
    """Whether just these positions are those of the stream's lost events, as the index says. Otherwise it is certain that the
    stream lost these stream sequences, but not which of the lost global sequences around here they had."""


@dataclass(frozen=True, slots=True)
class RepairReport:
    """What a repair carried over."""

    events: int
    """Positions of the new store: events saved, and stand-ins for those that were lost."""
    blocks: int
    """Blocks of its log."""
    lost: tuple[LostRun, ...] = ()
    """Exactly which events were lost, in order of their global sequences. Empty unless ``salvage=True`` was needed."""
    notes: tuple[str, ...] = ()
    """What was found on the way, a line each."""

    @property
    def lost_events(self) -> int:
        """How many events were lost."""
        return sum(run.events for run in self.lost)


def repair(
    source: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    salvage: bool = False,
    progress: Progress | None = None,
) -> RepairReport:
    """Make a new store at ``target`` of a store that this process does not hold open, which is only read.

    Without ``salvage``: for damaged index, metadata or pages outside of the log. The log is copied byte for byte, index and
    metadata are worked out from it; positions of consumers and state are copied, as far as they can be read. Raises
    ``CorruptedBlock`` or ``CorruptedStore`` where the log itself is damaged.

    With ``salvage=True`` every block that can be read is kept. Each lost event is replaced by a ``LostEvent`` at its position, so
    that all others keep their global and stream sequences, commits, times, metadata and idempotency keys; the report says
    which ones were lost. Declarations that are lost with their block are taken from the metadata, where that can be read;
    idempotency keys of lost commits too, so that a retry is not written twice. The result is verified before it gets its name.

    ``target`` must not exist, nor lie in the source; it appears when it is complete and on disk. ``progress`` is called with
    events done and in all, neither of which ever falls; salvage passes over each event three times (it looks for what is left,
    writes it, and verifies what it wrote) and counts it three times.
    Pages are read, not mapped: damage cannot crash the caller. Memory grows with the number of streams and of index entries.

    Raises ``InvalidInput``, ``StoreNotFound``, ``StoreAlreadyOpen``, ``StoreAccessDenied``, ``StoreInUse``, ``NotAVarveStore``,
    ``UnsupportedFormat``, ``DiskFull``, and ``CorruptedStore`` where nothing tells which pages belong to the store.
    """
    folder = files.folder(source, "source")
    made_at = files.folder(target, "target")
    if files.holds(folder, made_at):
        raise InvalidInput(
            f"{made_at} lies in the store that is repaired; name a folder elsewhere: the source is only read"
        )
    with Instant(folder, whatever=salvage) as instant, FreshStore(made_at) as fresh:
        told = Told(progress)
        made = _Salvaged(instant, fresh, told) if salvage else _Copied(instant, fresh, told)
        report = made.make()
        if instant.changed():
            raise StoreUnavailable(
                f"{folder} was opened and written to while it was repaired; end that and retry: nothing was kept",
                path=folder,
            )
        fresh.close()
        if salvage:
            written = 2 * report.events
            verdict = verify(fresh.unfinished, progress=lambda done, total: told(written + done, written + total))
            report = _judged(report, verdict, folder)
        fresh.finish()
        told.end()
        return report


def _judged(report: RepairReport, verdict: VerifyReport, path: str) -> RepairReport:
    """The report, with what was wrong with the events themselves before anything was damaged: they are kept as they are."""
    for finding in verdict.findings:
        if finding.kind not in {"event", "metadata", "schema"}:
            raise CorruptedStore(f"what was saved of {path} is not sound: {finding}", path=path)
    return replace(report, notes=(*report.notes, *map(str, verdict.findings)))


class _Copied:
    """A log copied as it is, with index and metadata made from it."""

    def __init__(self, instant: Instant, fresh: FreshStore, told: Told) -> None:
        self._path = instant.path
        self._file: PageFile = instant.file
        self._fresh = fresh
        self._told = told
        self._derivation = Derivation()  # once it is known what archives have left
        self._blocks = 0
        self._total = 0
        self._notes = [] if instant.misnumbered is None else [f"{instant.misnumbered} (a meta page)"]
        if instant.damage is not None:
            raise CorruptedStore(
                f"{self._path}: {instant.damage}; salvage=True takes the state of the other meta page", path=self._path
            )

    def make(self) -> RepairReport:
        """Write everything."""
        record = self._record()
        try:
            trees = self._file.tables()
            if LOG not in trees:
                raise self._damaged("there is no sub-database varve.log")
            self._total = 0 if record is None else record.next_sequence
            self._told(0, self._total)
            base = _base_of(self._file, trees, record, self._path)
            if base is not None:
                self._fresh.put(bases.TABLE, base.pairs())
                self._derivation = Derivation(base)
            self._fresh.put("log", self._log(trees[LOG]))
        except DamagedPage as exc:
            raise self._damaged(str(exc)) from None
        _derived(self._fresh, self._derivation, record, self._path)
        notes = self._notes
        if CONSUMERS in trees:
            pairs = dict(self._file.readable(trees[CONSUMERS], lambda damage: notes.append(str(damage))))
            positions = readable_positions(pairs, self._derivation.next_sequence, notes)
            self._fresh.put(consumers.TABLE, positions)
        put_rules(self._fresh, self._file, trees.get(RETENTION), notes)
        put_state(self._fresh, self._file, trees.get(STATE), notes)
        return RepairReport(_events(self._derivation), self._blocks, notes=tuple(notes))

    def _record(self) -> StoreRecord | None:
        """The store's record, if it can be read: of an empty log, nothing else knows who the store is."""
        found: bytes | None = None
        for name, tree in self._file.readable_tables(lambda _: None):
            if name == META:
                pairs = self._file.readable(tree, lambda _: None)
                found = next((value for key, value in pairs if key == keys.STORE_RECORD_KEY), None)
        check_format(self._path, found)
        record = None if found is None else decode_store_record(found)
        return None if isinstance(record, int) else record

    def _damaged(self, what: str) -> CorruptedStore:
        return CorruptedStore(
            f"{self._path}: the log is damaged: {what}. Restore a backup, or keep what can be read with salvage=True",
            path=self._path,
        )

    def _log(self, tree: Tree) -> Iterator[tuple[bytes, bytes]]:
        for key, frame in self._file.items(tree):
            first = keys.log_sequence(key) if len(key) == 8 else -1
            try:
                if not crc_holds(frame):
                    raise MalformedBlock("its checksum is wrong")
                block = Block(memoryview(frame))
                block.check()
                if block.first != first:
                    raise MalformedBlock(f"it says that it begins at {block.first}")
                self._derivation.feed(block)
            except UNREADABLE as exc:
                raise CorruptedBlock(
                    f"{self._path}: the block at global sequence {first} is corrupted: {exc}. Restore a backup, or keep "
                    "what can be read with salvage=True",
                    path=self._path,
                    first_sequence=first,
                    reason=str(exc),
                ) from None
            yield key, frame
            self._blocks += 1
            self._told(block.end, self._total)


def _events(derivation: Derivation) -> int:
    return derivation.next_sequence - derivation.first_sequence


def _base_of(file: PageFile, tables: dict[bytes, Tree], record: StoreRecord | None, path: str) -> Base | None:
    """What archives have left; None where nothing was archived. Raises ``CorruptedStore``: nothing else tells what it held."""
    try:
        base = stored_base(file, tables)
        if base is None and record is not None and record.first_sequence:
            raise MalformedBlock(f"nothing is left of the {record.first_sequence} events before the log")
        return base
    except (DamagedPage, *UNREADABLE) as exc:
        raise CorruptedStore(
            f"{path}: what was archived has left something that cannot be read ({exc}). Restore a backup", path=path
        ) from None


def put_rules(fresh: FreshStore, file: PageFile, tree: Tree | None, notes: list[str]) -> None:
    """Copy the retention rules that can be read."""
    if tree is None:
        return
    kept = []
    for key, value in sorted(file.readable(tree, lambda damage: notes.append(str(damage)))):
        if is_rule(key, value):
            kept.append((key, value))
        else:
            notes.append(f"the retention rule {key[:40].hex()} is damaged, and was left out: it hides nothing any more")
    if kept:
        fresh.put(retention.TABLE, kept)


def put_state(fresh: FreshStore, file: PageFile, tree: Tree | None, notes: list[str]) -> None:
    """Copy the state that can be read. Nothing else tells what the rest was."""
    if tree is None:
        return
    kept = []
    for key, value in sorted(
        file.readable(tree, lambda damage: notes.append(f"a part of the state is lost: {damage}"))
    ):
        if is_state(key, value):
            kept.append((key, value))
        else:
            notes.append(f"the record of state under {spelled_key(key)} is damaged, and was left out")
    if kept:
        fresh.put(state.TABLE, kept)


def _derived(fresh: FreshStore, derivation: Derivation, record: StoreRecord | None, path: str) -> None:
    """Write index and metadata as they follow from the log."""
    fresh.put("index", derivation.index_pairs())
    if derivation.record is not None:
        fresh.put("meta", derivation.meta_pairs())
    elif record is not None and not record.next_sequence:
        fresh.put("meta", [(keys.STORE_RECORD_KEY, record.encode())])
    else:
        raise CorruptedStore(
            f"{path}: the log is empty and the store's record does not say so; restore a backup, or keep what can be read with "
            "salvage=True",
            path=path,
        )


class _Salvaged:
    """A log made of what is left of another, block by block, under numbers of its own."""

    def __init__(self, instant: Instant, fresh: FreshStore, told: Told) -> None:
        self._path = instant.path
        self._tables = tables = dict(instant.file.readable_tables(lambda _: None))
        self._base = base = _base_of(instant.file, tables, stored_record(instant.file), instant.path)
        self._remains = Remains(instant, base, lambda done, total: told(done, 3 * max(done, total)))
        self._fresh = fresh
        self._told = told
        self._derivation = Derivation(base)
        self._blocks = 0
        self._tokens: set[bytes] = set()
        self._names: dict[str, int] = {}
        self._types: dict[TypeRecord, int] = {}
        self._streams: dict[Identity, int] = {}
        self._lengths: dict[Identity, int] = {}
        self._commit = 0
        self._last_ns = 0
        self._lost: list[LostRun] = []
        if base is not None:
            self._begin(base)
        compiled = event_type(LostEvent)
        self._lost_type = TypeRecord(compiled.name, compiled.schema_bytes)
        self._stand_in = compiled.pack(LostEvent())

    def _begin(self, base: Base) -> None:
        """Go on with the numbers of what was archived."""
        self._names = {name: number for number, name in enumerate(base.names)}
        self._types = {declared: number for number, declared in enumerate(base.types)}
        for number, (name_number, id_key, position, runs) in enumerate(base.streams):
            identity = Identity(base.names[name_number], id_key)
            self._streams[identity] = number
            self._lengths[identity] = position + sum(count for _, count in runs)
        self._tokens = set(base.keys)
        self._commit = base.commit
        self._last_ns = base.last_time_ns

    def make(self) -> RepairReport:
        """Write everything."""
        remains = self._remains
        parts = remains.plan()
        if self._base is not None:
            self._fresh.put(bases.TABLE, self._base.pairs())
        self._fresh.put("log", self._log(parts))
        record = remains.record
        if not parts and self._base is None:
            if record is None:
                raise CorruptedStore(f"{self._path}: nothing of a store can be read; restore a backup", path=self._path)
            record = StoreRecord(*record[:2])
        _derived(self._fresh, self._derivation, record, self._path)
        positions = readable_positions(remains.consumers, self._derivation.next_sequence, remains.notes)
        if positions:
            self._fresh.put(consumers.TABLE, positions)
        put_rules(self._fresh, remains.file, self._tables.get(RETENTION), remains.notes)
        put_state(self._fresh, remains.file, self._tables.get(STATE), remains.notes)
        return RepairReport(_events(self._derivation), self._blocks, tuple(_joined(self._lost)), tuple(remains.notes))

    def _log(self, parts: list[Piece | list[Lost]]) -> Iterator[tuple[bytes, bytes]]:
        following: Block | None = None
        for index, part in enumerate(parts):
            if isinstance(part, Piece):
                drafts = iter((self._rewritten(following or self._remains.block(part)),))
                following = None
            else:
                behind = parts[index + 1] if index + 1 < len(parts) else None
                following = self._remains.block(behind) if isinstance(behind, Piece) else None
                drafts = self._stand_ins(part, following)
            for draft in drafts:
                frame = draft.encode()
                self._derivation.feed(Block(memoryview(frame)))
                yield keys.log_key(draft.first), frame
                self._blocks += 1
                end = self._remains.next_sequence
                self._told(end + self._derivation.next_sequence, 3 * end)

    def _draft(self, first: int, commit: int, store: tuple[bytes, int] | None = None) -> BlockDraft:
        draft = BlockDraft(first, commit)
        if first == 0:
            record = self._remains.record
            unknown = (uuid.uuid4().bytes, self._last_ns) if record is None else (record.uuid, record.created_at_ns)
            draft.declare_store(*(store or unknown))
        return draft

    # -- blocks ------------------------------------------------------------------------------------

    def _rewritten(self, block: Block) -> BlockDraft:
        """A block that was saved, event by event."""
        continues = block.commit_sequence < block.first
        cold = not block.is_plain
        draft = self._draft(block.first, self._commit if continues else block.first, block.store() if cold else None)
        begun = {commit: (token, digest) for commit, token, digest in block.commit_keys()} if cold else {}
        owners = (run for run in block.runs for _ in range(run.count))
        index = 0
        for commit, (count, time_ns) in enumerate(
            zip(block.column("commit_counts"), block.commit_times(), strict=True)
        ):
            if commit or not continues:
                self._commit = block.first + index
            self._last_ns = max(self._last_ns, time_ns)
            draft.begin_commit(self._last_ns)
            if commit in begun:
                self._add_key(draft, *begun[commit])
            for index, run in zip(range(index, index + count), owners, strict=False):  # noqa: B020 - goes on where it was
                self._add(draft, block, index, run.stream, run.type)
            index += 1
        return draft

    def _add_key(self, draft: BlockDraft, token: bytes, digest: bytes) -> None:
        """The key of a commit, where it can be one. Of two commits under one key the first keeps it: blocks of states that never
        were together may be."""
        if token in self._tokens or not is_token(token):
            self._remains.notes.append(
                f"the idempotency key {token[:40]!r} of the commit at {self._commit} was left out"
            )
            return
        self._tokens.add(token)
        draft.add_key(token, digest)

    def _add(self, draft: BlockDraft, block: Block, index: int, stream: int, type_number: int) -> None:
        """An event that was saved, unless nobody can tell any more what its bytes mean."""
        sequence = block.first + index
        metadata = block.metadata_of(index)
        if metadata is not None:
            draft.add_metadata(1, metadata)
        declared = self._remains.type(type_number)
        identity = self._remains.identity(stream)
        if declared is None:
            self._remains.notes.append(f"the type of the event at {sequence} is not known any more")
            self._remember_lost(Lost(sequence, 1, stream, exact=True))
            self._put(draft, identity, self._lost_type, self._stand_in)
        else:
            start, end = block.span(index)
            self._put(draft, identity, declared, bytes(block.data[start:end]))

    def _put(self, draft: BlockDraft, identity: Identity, declared: TypeRecord, event_bytes: bytes) -> None:
        """An event, and the declarations that it is the first to need."""
        if identity not in self._streams:
            if identity.name not in self._names:
                self._names[identity.name] = len(self._names)
                draft.declare_name(self._names[identity.name], identity.name)
            self._streams[identity] = len(self._streams)
            draft.declare_stream(self._streams[identity], self._names[identity.name], identity.id_key)
        if declared not in self._types:
            self._types[declared] = len(self._types)
            draft.declare_type(self._types[declared], declared.name, declared.schema)
        length = self._lengths.get(identity, 0)
        draft.add(self._streams[identity], self._types[declared], length, [event_bytes])
        self._lengths[identity] = length + 1

    # -- stand-ins ---------------------------------------------------------------------------------

    def _stand_ins(self, lost: list[Lost], following: Block | None) -> Iterator[BlockDraft]:
        """Blocks of stand-ins for the lost events before a block, in the commits that they were in as far as that is known."""
        starts = self._commit_starts(lost[0].first, lost[-1].end, following)
        draft: BlockDraft | None = None
        for run in lost:
            self._remember_lost(run)
            identity = self._identity(run)
            for sequence in range(run.first, run.end):
                if sequence in starts:
                    self._commit = sequence
                if draft is None:
                    draft = self._draft(sequence, self._commit)
                    draft.begin_commit(self._last_ns)
                elif sequence in starts:
                    draft.begin_commit(self._last_ns)
                key = self._remains.lost_key(sequence) if sequence == self._commit else None
                if key is not None:
                    self._add_key(draft, key[0], key[1].digest)
                self._put(draft, identity, self._lost_type, self._stand_in)
                if draft.count == _LOST_PER_BLOCK:
                    yield draft
                    draft = None
        if draft is not None:
            yield draft

    def _commit_starts(self, first: int, stop: int, following: Block | None) -> set[int]:
        """Where commits began among lost events: where keys in the metadata and the block behind them say so, and at the first
        of them, unless the last commit before them went on."""
        starts = self._remains.lost_commits(first, stop)
        before_ends = self._remains.commit_ends(self._commit) if first else 0
        continued = following.commit_sequence if following is not None else stop
        if before_ends > first:
            starts.add(before_ends)
        elif not first or continued != self._commit:
            starts.add(first)
        if first <= continued < stop:
            starts.add(continued)
        return starts

    def _identity(self, lost: Lost) -> Identity:
        return LOST if lost.stream is None else self._remains.identity(lost.stream)

    def _remember_lost(self, lost: Lost) -> None:
        """Note for the report what is lost; its stream is as long now as it was before these events."""
        if lost.stream is None or not self._remains.has_identity(lost.stream):
            self._lost.append(LostRun(lost.first, lost.events, None, None, None, exact=lost.exact))
            return
        identity = self._identity(lost)
        stream_id = keys.decode_stream_id(identity.id_key)
        self._lost.append(
            LostRun(lost.first, lost.events, identity.name, stream_id, self._lengths.get(identity, 0), lost.exact)
        )


def _joined(lost: list[LostRun]) -> Iterator[LostRun]:
    """Runs that continue each other as one."""
    last: LostRun | None = None
    for run in lost:
        if last is not None and _continues(last, run):
            last = replace(last, events=last.events + run.events)
            continue
        if last is not None:
            yield last
        last = run
    if last is not None:
        yield last


def _continues(last: LostRun, run: LostRun) -> bool:
    if last.first_sequence + last.events != run.first_sequence:
        return False
    if (last.stream, last.stream_id, last.exact) != (run.stream, run.stream_id, run.exact):
        return False
    return last.first_stream_sequence is None or run.first_stream_sequence == last.first_stream_sequence + last.events
