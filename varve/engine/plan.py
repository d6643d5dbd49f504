"""Commits worked out but not written: what is new, which runs the index gains, and the blocks.

A ``Plan`` is one commit, ``Pending`` all the commits that share a write transaction. Everything here is computed from
the state that the transaction found, and kept apart from it: a refused commit leaves nothing behind for those that
follow, an aborted transaction nothing at all. Their numbers and lengths are forgotten with them.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from varve import limits
from varve.layout.draft import SINGLE_BYTES, BlockDraft, FullBlock, FullBlocks, Single, block_bytes_max, cold_bytes_max
from varve.layout.frame import COMMIT_BYTES, EVENT_OVERHEAD_BYTES, RUN_BYTES
from varve.layout.packed import Events, Joined, Packed
from varve.layout.records import IdempotencyRecord, StoreRecord, TypeRecord
from varve.layout.runs import RUN_EVENTS_MAX, Run, append_runs

PlannedPart = tuple[int, int, int, Events]
"""Stream number, type number, first stream sequence, events."""

_ALIKE_BLOCKS_MIN = 16
"""Blocks' worth of events from which on they are made after a model: what that costs is saved again in a few."""

_METADATA_ENTRY_BYTES = 12
_STREAM_ENTRY_BYTES = 10
_KEY_ENTRY_BYTES = 24
_NAME_ENTRY_BYTES = 6
_TYPE_ENTRY_BYTES = 10


@dataclass(slots=True)
class Plan:
    """One commit: numbers given, runs gained, parts to be put into blocks. ``record`` is the store's record before it."""

    record: StoreRecord
    time_ns: int
    parts: list[tuple[bytes | None, list[PlannedPart]]] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)
    types: dict[bytes, tuple[int, TypeRecord]] = field(default_factory=dict)
    streams: dict[tuple[int, bytes], int] = field(default_factory=dict)
    undeclared: dict[int, tuple[int, bytes]] = field(default_factory=dict)
    lengths: dict[int, int] = field(default_factory=dict)
    stream_runs: dict[int, list[Run]] = field(default_factory=dict)
    name_runs: dict[int, list[Run]] = field(default_factory=dict)
    token: bytes | None = None
    digest: bytes = b""
    moved: bool = False
    events: int = 0
    runs: int = 0
    payload_bytes: int = 0

    @property
    def first_sequence(self) -> int:
        """The commit's first global sequence."""
        return self.record.next_sequence

    def _declaration_bytes(self) -> int:
        """Upper bound of what names, types and the key add to the first block."""
        size = 0 if self.first_sequence else 16
        if self.names:
            size += sum(_NAME_ENTRY_BYTES + 4 * len(name) for name in self.names)
        if self.types:
            size += sum(_TYPE_ENTRY_BYTES + 4 * len(t.name) + len(t.schema) for _, t in self.types.values())
        if self.token is not None:
            size += _KEY_ENTRY_BYTES + len(self.token)
        return size

    def _cold_bytes(self, draft: BlockDraft) -> int:
        """Upper bound of everything that the commit adds to one block beside its events."""
        size = self._declaration_bytes()
        if self.undeclared:
            size += sum(_STREAM_ENTRY_BYTES + len(id_key) for _, id_key in self.undeclared.values())
        for metadata, _ in self.parts:
            if metadata is not None:
                size += _METADATA_ENTRY_BYTES + len(metadata)
        return size + cold_bytes_max(draft) if size else 0

    def fits(self, draft: BlockDraft, limit: int) -> bool:
        """Whether the whole commit fits into a block that holds others already."""
        size = draft.bytes_max + block_bytes_max(self.events, self.runs, self.payload_bytes)
        return size <= limit and size + self._cold_bytes(draft) <= limit

    def fill(self, blocks: _Blocks) -> Iterator[BlockDraft | FullBlock]:
        """Put the commit into the block at hand where it fits, else into new ones; yields those that are full."""
        draft, limit = blocks.draft, blocks.limit
        if draft is None or not self.fits(draft, blocks.room):
            if blocks.touched and draft is not None:
                yield draft
            draft = blocks.begin(self.first_sequence, self.first_sequence)
        blocks.touched = True
        sequence = self.first_sequence
        self._begin(draft, first=True)
        began = True
        for metadata, parts in self.parts:
            for stream, type_number, first, bufs in parts:
                done = 0
                while done < len(bufs):
                    declared = self.undeclared.get(stream)
                    room = limit - draft.bytes_max - RUN_BYTES - (0 if began else COMMIT_BYTES)
                    if declared is not None or metadata is not None:
                        room -= cold_bytes_max(draft)
                        room -= _STREAM_ENTRY_BYTES + len(declared[1]) if declared is not None else 0
                        room -= _METADATA_ENTRY_BYTES + len(metadata) if metadata is not None else 0
                    single = len(bufs) == 1
                    fit = int(len(bufs[0]) + EVENT_OVERHEAD_BYTES <= room) if single else _fitting(bufs, done, room)
                    if not fit and draft.count:
                        yield draft
                        if (
                            not isinstance(bufs, list)
                            and len(bufs.data) >= _ALIKE_BLOCKS_MIN * limit
                            and declared is None
                            and metadata is None
                        ):
                            whole = FullBlocks(self.time_ns, self.first_sequence, stream, type_number)
                            for events in _full(bufs, done, limit):
                                yield whole.block(sequence, first + done, events)
                                done += len(events)
                                sequence += len(events)
                        draft = blocks.begin(sequence, self.first_sequence)
                        began = False
                        continue
                    if not began:
                        self._begin(draft, first=False)
                        began = True
                    taken = bufs if fit >= len(bufs) else bufs[done : done + max(fit, 1)]
                    if declared is not None:
                        draft.declare_stream(stream, *declared)
                        del self.undeclared[stream]
                    if metadata is not None:
                        draft.add_metadata(len(taken), metadata)
                    draft.add(stream, type_number, first + done, taken)
                    done += len(taken)
                    sequence += len(taken)

    def _begin(self, draft: BlockDraft, *, first: bool) -> None:
        """Open the commit in a block; what it declares as a whole goes into its first one."""
        draft.begin_commit(self.time_ns)
        if not first:
            return
        if not self.first_sequence:
            draft.declare_store(self.record.uuid, self.record.created_at_ns)
        for name, number in self.names.items():
            draft.declare_name(number, name)
        for number, declared in self.types.values():
            draft.declare_type(number, declared.name, declared.schema)
        if self.token is not None:
            draft.add_key(self.token, self.digest)


class Singles:
    """Commits of one event each in a row, to streams that exist: what most commits of a busy group are, without a plan of
    their own."""

    __slots__ = ("events", "first_sequence")

    def __init__(self, first_sequence: int) -> None:
        self.first_sequence = first_sequence
        self.events: list[Single] = []

    def fill(self, blocks: _Blocks) -> Iterator[BlockDraft | FullBlock]:
        """As ``Plan.fill``."""
        draft, events = blocks.draft, self.events
        ends = list(accumulate((len(single[-1]) + SINGLE_BYTES for single in events), initial=0))
        done = 0
        while done < len(events):
            room = -1 if draft is None else blocks.room - draft.bytes_max
            fit = bisect_right(ends, ends[done] + room, done) - 1 - done
            if fit <= 0:
                if blocks.touched and draft is not None:
                    yield draft
                draft = blocks.begin(self.first_sequence + done, self.first_sequence + done)
                fit = max(1, bisect_right(ends, ends[done] + blocks.room - draft.bytes_max, done) - 1 - done)
            assert draft is not None
            blocks.touched = True
            draft.add_singles(events[done : done + fit])
            done += fit


class _Blocks:
    """The block at hand while commits are put into blocks: first the open tail, if there is one."""

    __slots__ = ("draft", "limit", "room", "touched")

    def __init__(self, tail: BlockDraft | None, limit: int) -> None:
        self.draft = tail
        self.room = limits.TAIL_BLOCK_BYTES_MAX
        self.limit = limit
        self.touched = False

    def begin(self, first: int, commit_sequence: int) -> BlockDraft:
        """A new block."""
        self.draft = draft = BlockDraft(first, commit_sequence)
        self.room = self.limit
        return draft


class Pending:
    """The commits of a write transaction so far, in order, and what they have in common changed."""

    __slots__ = (
        "_before",
        "_last_stream",
        "_singles",
        "events",
        "lengths",
        "name_runs",
        "names",
        "payload_bytes",
        "plans",
        "runs",
        "stream_runs",
        "streams",
        "time_ns",
        "tokens",
        "types",
    )

    def __init__(self, record: StoreRecord, time_ns: int) -> None:
        self._before = record
        self.time_ns = time_ns
        """Time of the last commit."""
        self.plans: list[Plan | Singles] = []
        self.names: dict[str, int] = {}
        self.types: dict[bytes, tuple[int, TypeRecord]] = {}
        self.streams: dict[tuple[int, bytes], int] = {}
        self.lengths: dict[int, int] = {}
        self.stream_runs: dict[int, list[Run]] = {}
        self.name_runs: dict[int, list[Run]] = {}
        self.tokens: dict[bytes, IdempotencyRecord] = {}
        self.events = self.runs = self.payload_bytes = 0
        self._last_stream = -1
        self._singles: Singles | None = None

    @property
    def record(self) -> StoreRecord:
        """The store's record as it will be."""
        return self._before.grown(self.events, len(self.streams), len(self.names), len(self.types))

    def take(self, plan: Plan) -> None:
        """Accept a commit: what it changed holds for those that follow."""
        if plan.token is not None:
            self.tokens[plan.token] = IdempotencyRecord(plan.first_sequence, plan.events, plan.digest)
        self.time_ns = plan.time_ns
        self.names.update(plan.names)
        self.types.update(plan.types)
        self.streams.update(plan.streams)
        if not self.plans:
            self.lengths, self.stream_runs, self.name_runs = plan.lengths, plan.stream_runs, plan.name_runs
        else:
            self.lengths.update(plan.lengths)
            _gain(self.stream_runs, plan.stream_runs)
            _gain(self.name_runs, plan.name_runs)
        self.plans.append(plan)
        self._singles = None
        self.events += plan.events
        self.payload_bytes += plan.payload_bytes
        # Commits of one stream in a row are one run in the block.
        self.runs += plan.runs - (plan.parts[0][1][0][0] == self._last_stream)
        self._last_stream = plan.parts[-1][1][-1][0]

    def take_single(self, time_ns: int, name: int, stream: int, type_number: int, at: int, event: bytes) -> int:
        """Accept a commit of one event at a stream's sequence ``at``: its global sequence."""
        sequence = self._before.next_sequence + self.events
        singles = self._singles
        if singles is None:
            singles = self._singles = Singles(sequence)
            self.plans.append(singles)
        singles.events.append((time_ns, stream, type_number, at, event))
        self.time_ns = time_ns
        self.lengths[stream] = at + 1
        if stream in self.stream_runs:
            _gain_one(self.stream_runs, stream, sequence)
        else:
            self.stream_runs[stream] = [(sequence, 1)]
        _gain_one(self.name_runs, name, sequence)
        self.events += 1
        self.payload_bytes += len(event)
        if stream != self._last_stream:
            self.runs += 1
            self._last_stream = stream
        return sequence

    def blocks(self, tail: BlockDraft | None) -> Iterator[BlockDraft | FullBlock]:
        """The blocks in order; the first one is ``tail`` itself where the first commit extends it, the last one the new
        tail."""
        interleaved = self.runs > 1 and self.events < limits.SHORT_RUN_EVENTS * self.runs
        blocks = _Blocks(tail, limits.TAIL_BLOCK_BYTES_MAX if interleaved else limits.BLOCK_BYTES_MAX)
        for plan in self.plans:
            yield from plan.fill(blocks)
        assert blocks.draft is not None  # the last event's
        yield blocks.draft


def _gain_one(runs: dict[int, list[Run]], number: int, sequence: int) -> None:
    """Append one event to the runs of a stream or a name."""
    known = runs.get(number)
    if known is None:
        runs[number] = [(sequence, 1)]
        return
    first, count = known[-1]
    if first + count == sequence and count < RUN_EVENTS_MAX:
        known[-1] = (first, count + 1)
    else:
        known.append((sequence, 1))


def _gain(runs: dict[int, list[Run]], more: dict[int, list[Run]]) -> None:
    """Append the runs of another commit to those of the commits before it."""
    for number, gained in more.items():
        known = runs.get(number)
        if known is None:
            runs[number] = gained
        else:
            append_runs(known, gained)


def _full(events: Packed | Joined, done: int, limit: int) -> Iterator[Packed | Joined]:
    """Events from ``done`` on as they fill blocks; the last ones, full or not, and all from one on that is larger than a block
    are for a draft."""
    room = limit - BlockDraft(0, 0).bytes_max - RUN_BYTES - COMMIT_BYTES
    while (fit := events.fitting(done, room, EVENT_OVERHEAD_BYTES)) and done + fit < len(events):
        yield events[done : done + fit]
        done += fit


def _fitting(bufs: Events, done: int, room: int) -> int:
    """How many events from ``done`` on fit into ``room`` bytes.

    Only as many lengths are looked at as the first event's suggests: a batch may be a million events long.
    """
    if not isinstance(bufs, list):
        return bufs.fitting(done, room, EVENT_OVERHEAD_BYTES)
    fit = 0
    while done < len(bufs) and room >= len(bufs[done]) + EVENT_OVERHEAD_BYTES:
        guess = room // (len(bufs[done]) + EVENT_OVERHEAD_BYTES)
        ends = list(accumulate(map(len, bufs[done : done + guess])))
        taken = bisect_right(range(len(ends)), room, key=lambda at: ends[at] + EVENT_OVERHEAD_BYTES * (at + 1))
        fit += taken
        if taken < len(ends):
            break
        done += taken
        room -= ends[-1] + EVENT_OVERHEAD_BYTES * taken
    return fit
