"""FlatBuffers tables, many at a time: where their fields stand, found with numpy.

All offsets of a FlatBuffer are read as its specification says, table by table, but for all tables at once, so any valid buffer
gives what a view of it gives. Where the events are of one length and begin with the same bytes up to their fields (as
events of one class without strings do), a field is a strided array, and nothing is looked up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

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


@dataclass
class Places:
    """Positions in a buffer: a regular pattern from ``first`` on (``shape`` and ``strides``, as numpy has them), or a list."""

    count: int
    first: int = 0
    shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    listed: Ints | None = None

    @property
    def is_regular(self) -> bool:
        """A pattern, not a list."""
        return self.shape != ()

    def array(self) -> Ints:
        """All of them, one by one."""
        import numpy as np

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
        return listed(self.array() + by)

    def chosen(self, which: Any) -> Places:
        """Some of them: a mask or indexes."""
        return listed(self.array()[which])


def strided(first: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> Places:
    """Places in a regular pattern."""
    return Places(math.prod(shape), first, shape, strides)


def listed(at: Ints) -> Places:
    """Places one by one."""
    return Places(len(at), listed=at)


class Bytes:
    """A buffer, seen as numbers of every width. It begins at a multiple of 8 and is a multiple of 8 long."""

    def __init__(self, raw: Array) -> None:
        self.raw = raw
        self._views: dict[str, Array] = {}

    def view(self, dtype: str) -> Array:
        """The whole as an array of numbers."""
        found = self._views.get(dtype)
        if found is None:
            found = self._views[dtype] = self.raw.view(dtype)
        return found

    def put(self, tag: str, places: Places, out: Array) -> None:
        """The scalars at some places, into an array of as many."""
        import numpy as np

        if tag != "bool" and places.is_regular:
            out.reshape(places.shape)[...] = np.ndarray(
                places.shape, DTYPES[tag], self.raw, places.first, places.strides
            )
        else:
            out[:] = self.numbers(tag, places)

    def numbers(self, tag: str, places: Places) -> Array:
        """The scalars at some places, in an array of their own."""
        import numpy as np

        dtype = DTYPES[tag]
        if tag == "bool":
            found: Array = self.numbers("u8", places) != 0
            return found
        size = SCALARS[tag].size
        if places.is_regular:
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


def event_tables(data: Bytes, starts: Places) -> Table:
    """The root tables of events that begin at some places."""
    if starts.is_regular:
        uniform = _uniform(data, starts)
        if uniform is not None:
            return uniform
    return ListedTable(data, data.targets(starts))


def _uniform(data: Bytes, starts: Places) -> UniformTable | None:
    """The tables of events of one length, if all begin with the same bytes: root offset, vtable, the table's first word."""
    first, step = starts.first, starts.strides[-1]
    head = data.raw[first : first + step].tobytes()
    table = int.from_bytes(head[:4], "little")
    vtable = table - int.from_bytes(head[table : table + 4], "little", signed=True)
    size = int.from_bytes(head[vtable : vtable + 2], "little") if vtable >= 4 else 0
    end = max(table + 4, vtable + size)
    if size < 4 or vtable < 4 or end > min(step, UNIFORM_HEAD_BYTES_MAX):
        return None
    at = 0
    while at < end:  # in words of 8 bytes, and what is left in halves and quarters of one: vtables are made of 16 bits
        tag = "u64" if end - at >= 8 else "u32" if end - at >= 4 else "u16"
        words = _strided(data, tag, starts, at)
        if not (words == words.flat[0]).all():
            return None
        at += SCALARS[tag].size
    return UniformTable(starts.moved(table), head[vtable : vtable + size])


def _strided(data: Bytes, tag: str, starts: Places, offset: int) -> Array:
    """The numbers so many bytes into each event, in place."""
    import numpy as np

    return np.ndarray(starts.shape, DTYPES[tag], data.raw, starts.first + offset, starts.strides)
