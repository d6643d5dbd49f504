"""Many whole blocks in one step: their columns found with numpy, for all of them at once.

Only what our writer writes for events alone is taken (*hot* frames, see ``varve.layout.frame``), and only if everything is as it
should be; for anything else there is the slower walk, which also has the words for what is wrong.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from varve.columns.chunks import Bound, Chunk, Commits, Known, Runs
from varve.columns.noted import Kind, Note, Noted, find_noted
from varve.columns.tables import Bytes, Head, Places, back_to_back, strided
from varve.layout.frame import COLUMNS, HOT_FRAME

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from varve.engine.checked import CheckedBlocks
    from varve.engine.mapped import MappedFrames
    from varve.engine.snapshot import Snapshot

    Array = npt.NDArray[Any]
    Ints = npt.NDArray[np.int64]

SAME_MIN: Final = 4
"""Blocks of one shape, from which on they are read in one pattern."""

NOTED_MIN: Final = 8
"""Fewer blocks of which something was noted, before one of which nothing was, are read with that."""

LONG_MIN: Final = 32
"""Columns of so many items in a block are copied block by block, shorter ones item by item."""

PAUSE_MAX: Final = 64
"""After blocks that were not taken, so many are not tried."""

AHEAD_BYTES: Final = 1 << 25
"""So many bytes of blocks are checked in one go, of a scan that finds them unchecked."""

COLUMN: Final = {name: index for index, (name, _) in enumerate(COLUMNS)}
WIDTHS: Final = tuple(width for _, width in COLUMNS)
FIXED_WORDS: Final = tuple(
    word for word in range(1, HOT_FRAME.size // 4) if not HOT_FRAME.first_at <= 4 * word < HOT_FRAME.commit_at + 8
)
"""What is alike in frames of one shape: everything but the checksum and the two sequences."""

DTYPES: Final = {8: "<i8", 4: "<u4", 2: "<u2", 1: "u1"}


class Frames:
    """Finds blocks in the map, or takes them into memory of its own."""

    def __init__(self, bound: Bound, known: Known, *, commits: bool, in_map: bool) -> None:
        self.bound = bound
        self.known = known
        self.commits = commits
        self.in_map = in_map
        self.memory: Array | None = None
        self.checked_to = 0
        self.pause = 0
        self.pausing = 0

    def take(self, snapshot: Snapshot, sequence: int, until: int, drift: int) -> Taken | Noted | None:
        """The whole blocks from ``sequence`` on that end by ``until``; None where the first is none to be taken so. Whoever has
        read it lets its ``data`` go, which may hold the map."""
        if self.pausing:
            self.pausing -= 1
            return None
        if not self.commits:
            again = self.again(snapshot, sequence, until, drift)
            if again is not None:
                return again
        taken = None
        data, found, notes, mapped = self.found(snapshot, sequence, until)
        if len(found):
            try:
                taken = self.parsed(snapshot, data, found, notes, until, drift)
                if isinstance(taken, Noted) and mapped is not None:
                    taken.keep(snapshot.checked, mapped, self.bound)
            finally:
                if taken is None:
                    data.release()
        if taken is None:
            self.pause = self.pausing = min(2 * self.pause + 1, PAUSE_MAX)
        else:
            self.pause = 0
        return taken

    def again(self, snapshot: Snapshot, sequence: int, until: int, drift: int) -> Noted | None:
        """What was read before at this instant, as it is known."""
        stretch = snapshot.checked.stretch(sequence) if self.in_map else None
        if stretch is None or not stretch.what.fits(self.bound, until):
            return None
        memory = snapshot.map_again(stretch)
        noted = None if memory is None else stretch.what.noted(memory)
        if noted is None or noted.belongs(snapshot, self.known, drift):
            return noted
        noted.data.release()
        return None

    def found(
        self, snapshot: Snapshot, sequence: int, until: int
    ) -> tuple[Bytes, Ints, list[Any], MappedFrames | None]:
        """Checked frames: where they are, first sequence, place and bytes of each, and what was noted of each."""
        import numpy as np

        if self.in_map:
            if sequence >= self.checked_to:
                self.checked_to = snapshot.check_ahead(sequence, until, AHEAD_BYTES)
            mapped = snapshot.map_frames(sequence, until, self.bound.size_bytes, self.bound.rows)
            if mapped is not None:
                found = np.array([mapped.firsts, mapped.places, mapped.sizes], np.int64).T
                return Bytes(np.frombuffer(mapped.memory, np.uint8), found[:, 1:]), found, mapped.notes, mapped
        if self.memory is None:
            self.memory = np.empty(self.bound.size_bytes, np.uint8)  # what is not used is never touched
        copied = snapshot.copy_frames(sequence, until, self.memory.data, self.bound.rows)
        return Bytes(self.memory), np.array(copied, np.int64), [None] * len(copied), None

    def parsed(
        self, snapshot: Snapshot, data: Bytes, found: Ints, notes: list[Any], until: int, drift: int
    ) -> Taken | Noted | None:
        """What is in the frames."""
        until = min(until, int(found[0, 0]) + self.bound.rows)
        noted = find_noted(data, found, notes, until) if not self.commits else None
        if noted is not None and noted.count >= min(NOTED_MIN, len(found)):
            return noted if noted.belongs(snapshot, self.known, drift) else None
        try:
            taken = Taken(data, found, until)
            if not (taken.count and taken.belongs(snapshot, self.known, drift)):
                return None
            taken.parts = taken.divided()
        except IndexError:  # a number that leads out of the memory
            return None
        if self.in_map:
            taken.checked = snapshot.checked
        return taken


class Taken:
    """Hot frames in a row. Attributes: ``count`` (of those that were taken), ``first`` and ``end`` (global sequences)."""

    def __init__(self, data: Bytes, found: Ints, until: int) -> None:
        import numpy as np

        self.data = data
        self.checked: CheckedBlocks | None = None
        """Where what is learnt is noted."""
        keys, at, sizes = found[:, 0], found[:, 1], found[:, 2]
        words = data.view("<u4").take((at >> 2)[:, None] + np.arange(HOT_FRAME.size // 4))
        fixed = words.take(FIXED_WORDS, axis=1)
        same = bool((fixed == fixed[0]).all() and (sizes == sizes[0]).all())
        # The columns of blocks of one shape are in the same places in each.
        rows = slice(0, 1) if same else slice(None)
        constant = np.frombuffer(HOT_FRAME.constant, "<u4")
        good = (words[rows, 1 : 1 + len(constant)] == constant).all(axis=1)
        places = np.array(HOT_FRAME.columns_at)
        heads = places + words[rows].take(places >> 2, axis=1)
        good &= (heads + 4 <= sizes[rows, None]).all(axis=1)
        heads[~good] = 0
        lengths = data.view("<u4").take((at[:, None] + heads) >> 2).astype(np.int64)
        same = same and bool((lengths == lengths[0]).all())
        some = lengths[rows] if same else lengths
        good = good & (heads + 4 + some * WIDTHS <= sizes[: len(some), None]).all(axis=1)
        good &= (some[:, 2:6] == some[:, 2:3]).all(axis=1) & (some[:, 0] == some[:, 1])
        good &= (some > 0).all(axis=1)
        counts = lengths[:, COLUMN["ends"]]
        ends = np.cumsum(counts) + keys[0]
        good = good & (data.view("<i8").take((at + HOT_FRAME.first_at) >> 3) == keys) & (ends <= until)
        good[1:] &= keys[1:] == ends[:-1]
        self.count = count = len(good) if good.all() else int(np.argmin(good))
        self.at, self.sizes, self.lengths, self.counts = at[:count], sizes[:count], lengths[:count], counts[:count]
        self.heads = at[:count, None] + heads[:count]
        self.first = int(keys[0])
        self.end = int(ends[count - 1]) if count else self.first
        self.changes = [0, count]
        """Where blocks of another shape begin, or lie another distance apart."""
        if count > 1:
            gaps = np.diff(self.at)
            changed = np.append(False, gaps[1:] != gaps[:-1])
            if not same:
                shapes = np.concatenate([heads[:count], self.lengths, self.sizes[:, None]], axis=1)
                changed |= (shapes[1:] != shapes[:-1]).any(axis=1)
            self.changes[1:1] = (np.flatnonzero(changed) + 1).tolist()
        self._runs: Runs | None = None
        self.parts: list[tuple[int, int, Places]] = []

    def column(self, name: str, low: int, high: int) -> Array:
        """A column of the blocks ``low .. high``, one after the other."""
        import numpy as np

        index = COLUMN[name]
        width = COLUMNS[index][1]
        heads, lengths = self.heads[low:high, index] + 4, self.lengths[low:high, index]
        if (lengths == 1).all():
            one_each: Array = self.data.view(DTYPES[width]).take(heads // width)
            return one_each
        if self.is_same(low, high):
            shape, strides = (high - low, int(lengths[0])), (self.gap(low, high), width)
            return np.ndarray(shape, DTYPES[width], self.data.raw, int(heads[0]), strides)
        total = int(lengths.sum())
        if total >= LONG_MIN * (high - low):
            found, all_of_it, done = np.empty(total, DTYPES[width]), self.data.view(DTYPES[width]), 0
            for head, length in zip((heads // width).tolist(), lengths.tolist(), strict=True):
                found[done : done + length] = all_of_it[head : head + length]
                done += length
            return found
        before = np.cumsum(lengths) - lengths
        at = np.repeat(heads // width - before, lengths) + np.arange(total)
        return self.data.view(DTYPES[width]).take(at)

    def is_same(self, low: int, high: int) -> bool:
        """Whether the blocks ``low .. high`` are of one shape, and so in one pattern."""
        return bisect_right(self.changes, low) == bisect_left(self.changes, high)

    def gap(self, low: int, high: int) -> int:
        """How far apart the blocks ``low .. high`` of one shape begin."""
        return int(self.at[low + 1] - self.at[low]) if high - low > 1 else int(self.sizes[low])

    def ints(self, name: str, low: int, high: int) -> Ints:
        """A column as signed numbers of 8 bytes."""
        import numpy as np

        values: Ints = self.column(name, low, high).astype(np.int64).ravel()
        return values

    def belongs(self, snapshot: Snapshot, known: Known, drift: int) -> bool:
        """Whether the runs and commits add up, and are what the index said and the reader knows."""
        import numpy as np

        runs = self.runs(0, self.count)
        for counts, column in (
            ("run_counts", runs.counts),
            ("commit_counts", self.ints("commit_counts", 0, self.count)),
        ):
            each = self.lengths[:, COLUMN[counts]]
            sums = column if len(column) == self.count else np.add.reduceat(column, np.cumsum(each) - each)
            if (sums != self.counts).any():
                return False
        if any(known.views.get(number, (None,))[0] is None for number in set(runs.types.tolist())):
            return False  # unwanted, or not met so far: met one by one
        if known.number is not None:
            shifts = runs.firsts - (np.cumsum(runs.counts) - runs.counts) - self.first
            if (runs.streams != known.number).any() or (shifts != drift).any():
                return False
        return all(known.is_owned(snapshot, stream) for stream in set(runs.streams.tolist()))

    def runs(self, low: int, high: int) -> Runs:
        """The runs of the blocks ``low .. high``."""
        if self._runs is None:
            names = ("run_types", "run_streams", "run_firsts", "run_counts")
            self._runs = Runs(*(self.ints(name, 0, self.count) for name in names))
        if (low, high) == (0, self.count):
            return self._runs
        each = self.lengths[:, COLUMN["run_counts"]]
        begin, end = int(each[:low].sum()), int(each[:high].sum())
        return Runs(*(column[begin:end] for column in self._runs))

    def commits(self, low: int, high: int) -> Commits:
        """The commits of the blocks ``low .. high``: each but a block's first begins in it."""
        import numpy as np

        counts = self.ints("commit_counts", low, high)
        firsts = self.first + int(self.counts[:low].sum()) + np.cumsum(counts) - counts
        each = self.lengths[low:high, COLUMN["commit_counts"]]
        first_of = self.data.view("<i8").take((self.at[low:high] + HOT_FRAME.commit_at) >> 3)
        firsts[np.cumsum(each) - each] = first_of
        return Commits(firsts, self.ints("commit_times", low, high), counts)

    def divided(self) -> list[tuple[int, int, Places]]:
        """All of it, and where the events begin: blocks of one shape and events of one length in one pattern, the rest by lists.
        Raises ``IndexError`` where events are not in order, or reach out of their block."""
        found: list[tuple[int, int, Places]] = []
        done = 0
        for low, high in pairwise(self.changes):
            starts = self.pattern(low, high) if high - low >= min(SAME_MIN, self.count) else None
            if starts is None:
                continue
            if done < low:
                found.append((done, low, self.listed_starts(done, low)))
            found.append((low, high, starts))
            done = high
        if done < self.count:
            found.append((done, self.count, self.listed_starts(done, self.count)))
        return found

    def chunks(self, known: Known, *, commits: bool) -> Iterator[Chunk]:
        """All of it."""
        for low, high, starts in self.parts:
            yield self.chunk(low, high, starts, known, commits=commits)

    def chunk(self, low: int, high: int, starts: Places, known: Known, *, commits: bool) -> Chunk:
        """The blocks ``low .. high``."""
        before = self.first + int(self.counts[:low].sum())
        count = int(self.counts[low:high].sum())
        return Chunk(
            count,
            self.data,
            starts,
            lambda: self.ends(low, high),
            [(before, before + count)],
            lambda: self.runs(low, high),
            self.commits(low, high) if commits else None,
            known,
            learn=None if self.checked is None else lambda head: self.learn(low, high, starts, head),
        )

    def learn(self, low: int, high: int, starts: Places, head: Head) -> None:
        """Note where the fields of the events are, for those of the blocks ``low .. high`` that are of one run."""
        import numpy as np

        assert self.checked is not None
        runs = self.runs(low, high)
        each = self.lengths[low:high, COLUMN["run_counts"]]
        which = np.flatnonzero(each == 1)
        if not len(which):
            return
        of = (np.cumsum(each) - each)[which]
        which += low
        step = starts.strides[-1] if starts.is_regular else 0
        places = self.heads[which] - self.at[which, None] + 4
        firsts = self.first + (np.cumsum(self.counts) - self.counts)[which]
        kinds = {type_: Kind(type_, step > 0, head) for type_ in set(runs.types.tolist())}
        facts = zip(
            runs.types[of].tolist(),
            self.counts[which].tolist(),
            places[:, COLUMN["payload"]].tolist(),
            places[:, COLUMN["ends"]].tolist(),
            runs.streams[of].tolist(),
            (runs.firsts[of] - firsts).tolist(),
            strict=True,
        )
        made: dict[tuple[int, ...], Note] = {}
        notes = []
        for fact in facts:
            note = made.get(fact)
            if note is None:
                type_, events, *others = fact
                note = made[fact] = Note(kinds[type_], events, step, *others)
            notes.append(note)
        crcs = self.data.view("<u4").take(self.at[which] >> 2)
        self.checked.note(firsts.tolist(), crcs.tolist(), self.sizes[which].tolist(), notes)

    def pattern(self, low: int, high: int) -> Places | None:
        """Where the events of blocks of one shape begin, if all are of one length."""
        import numpy as np

        ends = self.column("ends", low, high)
        step, first = int(ends[0, 0]), int(self.heads[low, COLUMN["payload"]]) + 4
        reach = step * ends.shape[1]
        if not 0 < reach <= self.lengths[low, COLUMN["payload"]] or step % 8:
            return None
        if (ends != np.arange(step, step * ends.shape[1] + 1, step, dtype=np.uint32)).any():
            return None
        return strided(first, ends.shape, (self.gap(low, high), step))

    def ends(self, low: int, high: int) -> Ints:
        """Where the events end."""
        import numpy as np

        ends = self.ints("ends", low, high)
        ends += np.repeat(self.heads[low:high, COLUMN["payload"]] + 4, self.counts[low:high])
        return ends

    def listed_starts(self, low: int, high: int) -> Places:
        """Where the events begin, one by one. Raises ``IndexError`` as ``divided`` does."""
        import numpy as np

        counts, heads = self.counts[low:high], self.heads[low:high] + 4
        begins, ends_at = heads[:, COLUMN["payload"]], heads[:, COLUMN["ends"]]
        starts = back_to_back(self.data, begins, ends_at, counts)
        assert starts.words is not None  # as it makes them
        steps = np.diff(starts.words.at, append=0)
        last = np.cumsum(counts) - 1
        ends = self.data.view("<u4").take((ends_at >> 2) + counts - 1).astype(np.int64)
        reach = np.minimum(ends, self.lengths[low:high, COLUMN["payload"]] - ends)
        steps[last] = begins + ends - 8 * starts.words.at[last]
        if int(steps.min()) <= 0 or int(reach.min()) < 0:
            raise IndexError("events")
        return starts
