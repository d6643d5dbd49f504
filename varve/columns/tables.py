"""FlatBuffers tables, many at a time: where their fields stand, found with numpy.

All offsets of a FlatBuffer are read as its specification says, table by table, but for all tables at once, so any valid buffer
gives what a view of it gives. Where the events are of one length and begin with the same bytes up to their fields (as
events of one class without strings do), a field is a strided array, and nothing is looked up.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from varve.codec.schema import SCALARS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

DTYPES: Final = {tag: "?" if tag == "bool" else f"<{tag[0]}{scalar.size}" for tag, scalar in SCALARS.items()}
"""numpy's names of the scalars."""

UNIFORM_HEAD_BYTES_MAX: Final = 1_024
"""Longer heads (of events with hundreds of fields) are not compared word by word."""


class Words:
    """Places that are multiples of 8, in words of 8 bytes: what gathers take as it is."""

    def __init__(self, at: Ints) -> None:
        self.at = at
        self._of_size = {8: at}

    @cached_property
    def last(self) -> int:
        """The greatest."""
        return int(self.at.max()) if len(self.at) else 0

    def of_size(self, size: int) -> Ints:
        """The same in words of fewer bytes."""
        found = self._of_size.get(size)
        if found is None:
            found = self._of_size[size] = self.at << (3 - size.bit_length() + 1)
        return found


CACHED_EVENTS: Final = 1 << 12
"""Events are compared by so many, word after word: the next word of an event is often in the processor's cache already."""


@dataclass
class Places:
    """Positions in a buffer: a regular pattern from ``first`` on (``shape`` and ``strides``, as numpy has them), several of them
    one behind the other (``parts``), a list, or words of 8 bytes and ``first`` bytes more."""

    count: int
    first: int = 0
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    listed: Ints | None = None
    parts: tuple[Places, ...] = ()
    words: Words | None = None

    @property
    def is_regular(self) -> bool:
        """A pattern, not a list."""
        return self.shape != ()

    def array(self) -> Ints:
        """All of them, one by one."""
        import numpy as np

        if self.parts:
            self.listed, self.parts = np.concatenate([part.array() for part in self.parts]), ()
        if self.listed is None and self.words is not None:
            self.listed = 8 * self.words.at + self.first
        if self.listed is None:
            at = np.full(self.shape, self.first, np.int64)
            for axis, (length, stride) in enumerate(zip(self.shape, self.strides, strict=True)):
                steps = np.arange(length, dtype=np.int64) * stride
                at += steps.reshape([-1 if axis == other else 1 for other in range(len(self.shape))])
            self.listed = at.ravel()
        return self.listed

    def moved(self, by: int) -> Places:
        """So many bytes further on."""
        if self.is_regular:
            return strided(self.first + by, self.shape, self.strides)
        if self.parts:
            return in_parts([part.moved(by) for part in self.parts])
        if self.words is not None:
            return Places(self.count, self.first + by, words=self.words)
        return listed(self.array() + by)

    def chosen(self, which: Any) -> Places:
        """Some of them: a mask or indexes."""
        return listed(self.array()[which])


def strided(first: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Places:
    """Places in a regular pattern."""
    return Places(math.prod(shape), first, shape, strides)


def in_parts(parts: list[Places]) -> Places:
    """Regular patterns, one behind the other."""
    return parts[0] if len(parts) == 1 else Places(sum(part.count for part in parts), parts=tuple(parts))


def listed(at: Ints) -> Places:
    """Places one by one."""
    return Places(len(at), listed=at)


def in_words(at: Ints) -> Places:
    """Places one by one, given in words of 8 bytes."""
    return Places(len(at), words=Words(at))


class Bytes:
    """A buffer, seen as numbers of every width. It begins at a multiple of 8 and is a multiple of 8 long. ``pieces``: places and
    lengths of what is of use in it; None where that is all."""

    def __init__(self, raw: Array, pieces: Iterable[tuple[int, int]] | None = None) -> None:
        self.raw = raw
        self._pieces = pieces
        self._views: dict[str, Array] = {}

    def release(self) -> None:
        """Let go of the memory, whoever still holds this."""
        del self.raw
        self._views.clear()

    @cached_property
    def copied(self) -> memoryview:
        """All that is of use, in memory of its own and in the same places."""
        import numpy as np

        raw = self.raw
        if self._pieces is None:
            copy = raw.copy()
        else:
            copy = np.zeros(len(raw), np.uint8)  # what is not used is never touched
            for at, size in self._pieces:
                copy[at : at + size] = raw[at : at + size]
        return copy.data

    def view(self, dtype: str) -> Array:
        """The whole as an array of numbers."""
        found = self._views.get(dtype)
        if found is None:
            found = self._views[dtype] = self.raw.view(dtype)
        return found

    def put(self, tag: str, places: Places, out: Array) -> None:
        """The scalars at some places, into an array of as many."""
        import numpy as np

        if places.parts:
            done = 0
            for part in places.parts:
                self.put(tag, part, out[done : done + part.count])
                done += part.count
        elif tag != "bool" and places.is_regular:
            out.reshape(places.shape)[...] = np.ndarray(
                places.shape, DTYPES[tag], self.raw, places.first, places.strides
            )
        elif places.words is not None and tag != "bool" and not places.first % SCALARS[tag].size:
            self.gather(DTYPES[tag], places.words, places.first, out)
        else:
            out[:] = self.numbers(tag, places)

    def gather(self, dtype: str, words: Words, offset: int, out: Array) -> None:
        """The aligned numbers so many bytes behind each word, into an array of as many. Raises ``IndexError``."""
        size = out.itemsize
        if 8 * words.last + offset + size > len(self.raw):
            raise IndexError(offset)
        # Not "raise", which looks at every index once more: the greatest was looked at.
        self.view(dtype)[offset // size :].take(words.of_size(size), out=out, mode="clip")

    def numbers(self, tag: str, places: Places) -> Array:
        """The scalars at some places, in an array of their own."""
        import numpy as np

        dtype = DTYPES[tag]
        if tag == "bool":
            found: Array = self.numbers("u8", places) != 0
            return found
        size = SCALARS[tag].size
        if places.is_regular or places.parts or (places.words is not None and not places.first % size):
            made = np.empty(places.count, dtype)
            self.put(tag, places, made)
            return made
        at = places.array()
        if size == 1:
            return self.view(dtype).take(at)
        if np.bitwise_or.reduce(at) & (
            size - 1
        ):  # nobody's writer leaves numbers unaligned; a view reads them all the same
            return np.ndarray((len(self.raw) - size + 1,), dtype, self.raw, strides=(1,))[at]
        return self.view(dtype).take(at >> (size.bit_length() - 1))

    def fixed(self, size: int, places: Places) -> Array:
        """So many bytes from each place, as one item."""
        import numpy as np

        items = np.ndarray((max(len(self.raw) - size + 1, 0),), f"V{size}", self.raw, strides=(1,))
        return items[places.array()]

    def vectors(self, places: Places) -> tuple[Ints, Ints]:
        """Of the strings or vectors whose uoffsets stand at some places: where the first item is, and how many there are."""
        at = self.targets(places)
        return at + 4, self.numbers("u32", listed(at)).astype("i8")

    def slice(self, tag: str, start: int, count: int) -> Array:
        """The scalars one after the other from a position on, in an array of their own."""
        import numpy as np

        return np.ndarray((count,), DTYPES[tag], self.raw, start).copy()

    def targets(self, places: Places) -> Ints:
        """Where the uoffsets at some places lead to."""
        at: Ints = places.array() + self.numbers("u32", places)
        return at


class Table:
    """Tables of one type, one for each place."""

    def field(self, entry: int) -> tuple[Places, Bools | bool]:
        """Where a field stands in each, by the offset of its entry in the vtable; and where it is there at all. Places where it
        is not mean nothing."""
        raise NotImplementedError


class UniformTable(Table):
    """Tables that are alike: the vtable of one is that of all."""

    def __init__(self, places: Places, vtable: bytes) -> None:
        self._places = places
        self._vtable = vtable

    def field(self, entry: int) -> tuple[Places, Bools | bool]:
        """As ``Table.field``: there in all, or in none."""
        offset = int.from_bytes(self._vtable[entry : entry + 2], "little")
        return self._places.moved(offset), offset != 0


class ListedTable(Table):
    """Tables each with a vtable of its own."""

    def __init__(self, data: Bytes, at: Ints) -> None:
        self._data = data
        self._at = at
        self._vtables = at - data.numbers("i32", listed(at))
        self._sizes = data.numbers("u16", listed(self._vtables))
        self._least = int(self._sizes.min()) if len(at) else 0

    def field(self, entry: int) -> tuple[Places, Bools | bool]:
        """As ``Table.field``."""
        import numpy as np

        if entry < self._least:
            offsets = self._data.numbers("u16", listed(self._vtables + entry))
        else:  # an older writer's vtable may end before
            reach = self._sizes > entry
            offsets = np.zeros(len(self._at), np.uint16)
            offsets[reach] = self._data.numbers("u16", listed(self._vtables[reach] + entry))
        there = offsets != 0
        return listed(self._at + offsets), bool(there.all()) or there


class Head(NamedTuple):
    """What events begin with that are alike up to their fields: where the root table is, and its vtable."""

    table_at: int
    vtable: bytes

    def tables(self, starts: Places) -> UniformTable:
        """The root tables of such events."""
        return UniformTable(starts.moved(self.table_at), self.vtable)


def event_tables(data: Bytes, starts: Places) -> Table:
    """The root tables of events that begin at some places."""
    head = find_head(data, starts)
    return ListedTable(data, data.targets(starts)) if head is None else head.tables(starts)


def find_head(data: Bytes, starts: Places) -> Head | None:
    """What all the events begin with: root offset, vtable, the table's first word. None where they differ, or are unusual."""
    first = starts.first if starts.is_regular else int(starts.array()[0])
    reach = min(starts.strides[-1] if starts.is_regular else UNIFORM_HEAD_BYTES_MAX, UNIFORM_HEAD_BYTES_MAX)
    begin = data.raw[first : first + reach].tobytes()
    table = int.from_bytes(begin[:4], "little")
    vtable = table - int.from_bytes(begin[table : table + 4], "little", signed=True)
    size = int.from_bytes(begin[vtable : vtable + 2], "little") if vtable >= 4 else 0
    end = max(table + 4, vtable + size)
    if size < 4 or vtable < 4 or end > len(begin):
        return None
    alike = _alike_strided if starts.is_regular else _alike_listed
    return Head(table, begin[vtable : vtable + size]) if alike(data, starts, end) else None


def _words(end: int) -> list[tuple[int, int]]:
    """So many bytes in words of 8, and which bits of each count."""
    return [(at, (1 << 8 * min(end - at, 8)) - 1) for at in range(0, end, 8)]


def _alike_strided(data: Bytes, starts: Places, end: int) -> bool:
    """Whether events in a pattern begin with the same bytes."""
    import numpy as np

    if starts.first % 8 or any(stride % 8 for stride in starts.strides):
        return False
    words = [
        (np.ndarray(starts.shape, "<u8", data.raw, starts.first + at, starts.strides), bits) for at, bits in _words(end)
    ]
    firsts = [word.flat[0] for word, _ in words]
    step = max(1, starts.shape[0] * CACHED_EVENTS // starts.count)
    return all(
        _alike(word[begin : begin + step], bits, first)
        for begin in range(0, starts.shape[0], step)
        for (word, bits), first in zip(words, firsts, strict=True)
    )


def _alike_listed(data: Bytes, starts: Places, end: int) -> bool:
    """The same of events anywhere, each aligned as ours are."""
    import numpy as np

    words = starts.words
    if words is None or starts.first:
        at = starts.array()
        if np.bitwise_or.reduce(at) & 7:
            return False
        words = Words(at >> 3)
    if 8 * words.last + -(-end // 8) * 8 > len(data.raw):
        return False
    first = 8 * int(words.at[0])
    heads = data.raw[first : first - (-end // 8) * 8].view("<u8")
    found = np.empty(min(starts.count, CACHED_EVENTS), "<u8")
    for begin in range(0, starts.count, CACHED_EVENTS):
        some = Words(words.at[begin : begin + CACHED_EVENTS])
        for (offset, bits), head in zip(_words(end), heads, strict=True):
            out = found[: len(some.at)]
            data.gather("<u8", some, offset, out)
            if not _alike(out, bits, head):
                return False
    return True


def _alike(words: Array, bits: int, first: Any) -> bool:
    """Whether these bits of all the words are as in the first one."""
    import numpy as np

    if bits == _ALL_BITS:
        return bool((words == first).all())
    return not ((words ^ first) & np.uint64(bits)).any()


_ALL_BITS: Final = (1 << 64) - 1


def back_to_back(data: Bytes, begins: Ints, ends_at: Ints, counts: Ints) -> Places:
    """Where events begin that lie back to back in blocks, of which each has its payload at ``begins``, where its events end, from
    there on, at ``ends_at``, and ``counts`` events. Payloads and events begin at multiples of 8."""
    import numpy as np

    words = data.view("<u4")
    # An event begins where the one before it ends, and before the first end stands how many there are: one slice for each block.
    slices = [
        words[at - 1 : at - 1 + count] for at, count in zip((ends_at >> 2).tolist(), counts.tolist(), strict=True)
    ]
    ends = np.concatenate(slices)
    ends[np.cumsum(counts) - counts] = 0
    if int(np.bitwise_or.reduce(begins)) & 7 or int(np.bitwise_or.reduce(ends)) & 7:
        raise IndexError("events between multiples of 8")
    ends >>= 3
    at = np.repeat(begins >> 3, counts)
    at += ends
    return in_words(at)
