"""What is remembered of checked blocks: where their events' fields are, so that reading them again looks nothing up.

A note is kept with a frame's checksum and length (``CheckedBlocks.note``) and holds as long as these are the same. It is made
only of blocks of one run whose events all begin with the same bytes up to their fields.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, NamedTuple

from varve.columns.chunks import Bound, Chunk, Known, Runs
from varve.columns.tables import Bytes, Head, Places, back_to_back, in_parts, strided

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from varve.engine.checked import CheckedBlocks
    from varve.engine.mapped import MappedFrames
    from varve.engine.snapshot import Snapshot

    Ints = npt.NDArray[np.int64]


class Kind(NamedTuple):
    """What the events of a block have in common: their type, where their fields are, and whether they are of one length."""

    type: int
    is_regular: bool
    head: Head


class Note(NamedTuple):
    """What is known of a block; places count from the frame. ``step``: the length of all its events, 0 where they differ;
    ``shift``: from global to stream sequences."""

    kind: Kind
    events: int
    step: int
    payload_at: int
    ends_at: int
    stream: int
    shift: int


class Row(NamedTuple):
    """Consecutive blocks that are alike and lie ``gap`` bytes apart; ``first`` is the global sequence of the first one."""

    note: Note
    first: int
    at: int
    gap: int
    blocks: int


class Alike(NamedTuple):
    """Consecutive blocks whose events are of one kind, from the global sequence ``first`` to ``end``. ``frames``: as
    ``frames_of`` gives them, where the events are of different lengths."""

    kind: Kind
    rows: list[Row]
    first: int
    end: int
    frames: Ints | None


class Facts:
    """What is known of frames in a row, without the memory that they are in. Attributes: ``count`` (of frames), ``end`` (the
    global sequence behind), ``alike`` (what they are), ``types``, ``streams`` and ``shifts`` (of all of them)."""

    def __init__(self, rows: list[Row]) -> None:
        notes = [row.note for row in rows]
        self.count = sum(row.blocks for row in rows)
        self.types = {note.kind.type for note in notes}
        self.streams = {note.stream for note in notes}
        self.shifts = {note.shift for note in notes}
        self.alike = [alike_of(kind, list(of)) for kind, of in groupby(rows, lambda row: row.note.kind)]
        self.end = self.alike[-1].end


class Noted:
    """Noted frames in a row. Attributes: ``data``, ``facts``, ``count`` (of frames), ``end`` (the global sequence behind)."""

    def __init__(self, data: Bytes, facts: Facts) -> None:
        self.data = data
        self.facts = facts
        self.count = facts.count
        self.end = facts.end

    def keep(self, checked: CheckedBlocks, mapped: MappedFrames, bound: Bound) -> None:
        """Remember all of it, for whoever begins with the same frame at the same instant."""
        import numpy as np

        count = self.count
        pieces = np.array([mapped.places[:count], mapped.sizes[:count]], np.int64).T
        crcs = self.data.view("<u4").take(pieces[:, 0] >> 2)
        checked.keep_stretch(mapped.stretch(count, Remembered(bound, self.facts, pieces, crcs)))

    def belongs(self, snapshot: Snapshot, known: Known, drift: int) -> bool:
        """Whether the blocks are what the index said and the reader knows."""
        facts = self.facts
        if any(known.views.get(number, (None,))[0] is None for number in facts.types):
            return False  # unwanted, or not met so far: met one by one
        if known.number is not None and (facts.streams != {known.number} or facts.shifts != {drift}):
            return False
        return all(known.is_owned(snapshot, stream) for stream in facts.streams)

    def chunks(self, known: Known, *, commits: bool) -> Iterator[Chunk]:
        """All of it, a chunk for each kind of events."""
        assert not commits  # of which nothing is noted
        for alike in self.facts.alike:
            yield Chunk(
                count=alike.end - alike.first,
                data=self.data,
                starts=self.starts(alike),
                find_ends=lambda alike=alike: self.ends(alike),  # type: ignore[misc]
                sequences=[(alike.first, alike.end)],
                find_runs=lambda alike=alike: runs_of(alike.rows),  # type: ignore[misc]
                commits=None,
                known=known,
                type=alike.kind.type,
                head=alike.kind.head,
            )

    def starts(self, alike: Alike) -> Places:
        """Where the events begin."""
        if alike.frames is not None:
            return back_to_back(self.data, *alike.frames)
        return in_parts(
            [
                strided(row.at + row.note.payload_at, (row.blocks, row.note.events), (row.gap, row.note.step))
                for row in alike.rows
            ]
        )

    def ends(self, alike: Alike) -> Ints:
        """Where the events end."""
        import numpy as np

        ends = np.empty(alike.end - alike.first, np.int64)
        words = self.data.view("<u4")
        done = 0
        for begin, ends_at, count in frames_of(alike.rows):
            ends[done : done + count] = words[ends_at >> 2 : (ends_at >> 2) + count]
            ends[done : done + count] += begin
            done += count
        return ends


class Remembered(NamedTuple):
    """Noted frames without the memory that they are in: how much was asked for, what is known, place and length of each, and
    their checksums."""

    bound: Bound
    facts: Facts
    pieces: Ints
    crcs: npt.NDArray[np.uint32]

    def fits(self, bound: Bound, until: int) -> bool:
        """Whether it is what one who asks now would find."""
        return self.bound == bound and self.facts.end <= until

    def noted(self, memory: memoryview) -> Noted | None:
        """Where they are now; None where these are no longer those frames."""
        import numpy as np

        data = Bytes(np.frombuffer(memory, np.uint8), self.pieces)
        if (data.view("<u4").take(self.pieces[:, 0] >> 2) == self.crcs).all():
            return Noted(data, self.facts)
        data.release()
        return None


def find_noted(data: Bytes, found: Ints, notes: list[Note | None], until: int) -> Noted | None:
    """The frames up to the first one of which nothing is noted, or that ends behind ``until``; None where that is the first."""
    rows: list[Row] = []
    first = end = int(found[0, 0])
    last: Note | None = None
    begin = last_at = gap = blocks = 0
    for sequence, at, size, note in zip(*found.T.tolist(), notes, strict=True):
        if note is None or sequence != end or end + note.events > until:
            break
        if note is last and (blocks == 1 or at - last_at == gap):
            gap = at - last_at
            blocks += 1
        else:
            if last is not None:
                rows.append(Row(last, first, begin, gap, blocks))
            last, first, begin, gap, blocks = note, sequence, at, size, 1
        end += note.events
        last_at = at
    if last is None:
        return None
    rows.append(Row(last, first, begin, gap, blocks))
    return Noted(data, Facts(rows))


def alike_of(kind: Kind, rows: list[Row]) -> Alike:
    """Rows of one kind."""
    import numpy as np

    end = rows[-1].first + rows[-1].blocks * rows[-1].note.events
    frames = None if kind.is_regular else np.array(list(frames_of(rows)), np.int64).T
    return Alike(kind, rows, rows[0].first, end, frames)


def frames_of(rows: list[Row]) -> Iterator[tuple[int, int, int]]:
    """Of each block where its payload begins, where the ends of its events are, and how many these are."""
    for note, _, at, gap, blocks in rows:
        for begin in range(at, at + gap * blocks, gap) if blocks > 1 else (at,):
            yield begin + note.payload_at, begin + note.ends_at, note.events


def runs_of(rows: list[Row]) -> Runs:
    """The runs of blocks: one each."""
    import numpy as np

    blocks = [row.blocks for row in rows]
    of: Any = [(row.note.kind.type, row.note.stream, row.note.events) for row in rows]
    types, streams, counts = np.repeat(np.array(of, np.int64), blocks, axis=0).T
    shifts = np.repeat(np.array([row.note.shift for row in rows], np.int64), blocks)
    return Runs(types, streams, rows[0].first + np.cumsum(counts) - counts + shifts, counts)
