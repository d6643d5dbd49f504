"""A commit worked out but not written: what is new, which runs the index gains, and the blocks.

Everything here is computed from the state that the write transaction found, and kept apart from it: an aborted
transaction leaves nothing behind, its numbers and lengths are forgotten with its plan.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate

from varve import limits
from varve.layout.block import (
    COMMIT_BYTES,
    EVENT_OVERHEAD_BYTES,
    RUN_BYTES,
    BlockDraft,
    block_bytes_max,
    cold_bytes_max,
)
from varve.layout.records import StoreRecord, TypeRecord
from varve.layout.runs import Run

PlannedPart = tuple[int, int, int, list[bytes]]
"""Stream number, type number, first stream sequence, events."""

_METADATA_ENTRY_BYTES = 12
_STREAM_ENTRY_BYTES = 10
_KEY_ENTRY_BYTES = 24
_NAME_ENTRY_BYTES = 6
_TYPE_ENTRY_BYTES = 10


@dataclass(slots=True)
class Plan:
    """One commit: numbers given, runs gained, parts to be put into blocks.

    ``record`` is the store's record as it will be; ``first_sequence`` the commit's first global sequence.
    """

    record: StoreRecord
    first_sequence: int
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
    events: int = 0
    runs: int = 0
    payload_bytes: int = 0
    declares_store: bool = False

    def _declaration_bytes(self) -> int:
        """Upper bound of what names, types and the key add to the first block."""
        size = sum(_NAME_ENTRY_BYTES + 4 * len(name) for name in self.names)
        size += sum(_TYPE_ENTRY_BYTES + 4 * len(t.name) + len(t.schema) for _, t in self.types.values())
        if self.token is not None:
            size += _KEY_ENTRY_BYTES + len(self.token)
        return size + 16 * self.declares_store

    def _cold_bytes(self, draft: BlockDraft) -> int:
        """Upper bound of everything that the commit adds to one block beside its events."""
        size = self._declaration_bytes()
        size += sum(_STREAM_ENTRY_BYTES + len(id_key) for _, id_key in self.undeclared.values())
        size += sum(_METADATA_ENTRY_BYTES + len(metadata) for metadata, _ in self.parts if metadata is not None)
        return size + cold_bytes_max(draft) if size else 0

    def extends(self, tail: BlockDraft) -> bool:
        """Whether the whole commit fits into the open tail."""
        size = tail.bytes_max + block_bytes_max(self.events, self.runs, self.payload_bytes)
        return size <= limits.TAIL_BLOCK_BYTES_MAX and size + self._cold_bytes(tail) <= limits.TAIL_BLOCK_BYTES_MAX

    def blocks(self, tail: BlockDraft | None) -> Iterator[BlockDraft]:
        """The blocks in order; the first one is ``tail`` itself where the commit extends it, the last one the new
        tail."""
        draft = (
            tail if tail is not None and self.extends(tail) else BlockDraft(self.first_sequence, self.first_sequence)
        )
        interleaved = self.runs > 1 and self.events < limits.SHORT_RUN_EVENTS * self.runs
        limit = limits.TAIL_BLOCK_BYTES_MAX if interleaved else limits.BLOCK_BYTES_MAX
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
                        draft = BlockDraft(sequence, self.first_sequence)
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
        yield draft

    def _begin(self, draft: BlockDraft, *, first: bool) -> None:
        """Open the commit in a block; what it declares as a whole goes into its first one."""
        draft.begin_commit(self.time_ns)
        if not first:
            return
        if self.declares_store:
            draft.declare_store(self.record.uuid, self.record.created_at_ns)
        for name, number in self.names.items():
            draft.declare_name(number, name)
        for number, declared in self.types.values():
            draft.declare_type(number, declared.name, declared.schema)
        if self.token is not None:
            draft.add_key(self.token, self.digest)


def _fitting(bufs: list[bytes], done: int, room: int) -> int:
    """How many events from ``done`` on fit into ``room`` bytes.

    Only as many lengths are looked at as the first event's suggests: a batch may be a million events long.
    """
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
