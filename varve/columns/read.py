"""``reader.columns``: fields of many events as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable
from typing import TYPE_CHECKING, Any, Final

from varve.codec import EventType
from varve.columns.chunks import Bound, Chunk, Walk
from varve.columns.extras import need_numpy
from varve.columns.fields import BESIDE, Field, Shape, check_names, find_field, unknown_column
from varve.columns.values import dtype_of, nothing, put
from varve.columns.walk import walk_chunks
from varve.engine.core import StoreClosing
from varve.replay import Source, tracked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Bools = npt.NDArray[np.bool_]

CHUNK: Final = Bound(rows=1 << 18, size_bytes=1 << 22)
"""Blocks by the hundred: less, and numpy's cost per call shows; more, and the processor's caches are of no use."""

FIRST_ROWS: Final = 1 << 22
"""An array begins with so many rows, or with all that there can be."""

DTYPES_BESIDE: Final[dict[str, Any]] = {
    "$commit_sequence": "<i8",
    "$global_sequence": "<i8",
    "$stream": object,
    "$stream_id": object,
    "$stream_sequence": "<i8",
    "$time": "<M8[ns]",
    "$type": object,
}


def read_columns(
    source: Source,
    walk: Walk,
    columns: Iterable[str],
    types: Collection[EventType] | None,
    *,
    unknown: bool = False,
    others: Callable[[], Iterable[EventType]] = tuple,
) -> dict[str, Array]:
    """The columns of a walk. ``types``: what its events come as, where that is known before (None: as they come, ``others``
    being what else there is in the store); ``unknown``: some may be of types that the reader does not know."""
    need_numpy("columns()")
    names = check_names(columns)
    made = {name: Beside(name) if name in BESIDE else FieldColumn(name, types, unknown=unknown) for name in names}
    commits = not made.keys().isdisjoint({"$commit_sequence", "$time"})
    chunks = walk_chunks(source, walk, CHUNK, commits=commits, in_map=True)
    filling = tracked(source.engine, fill_columns(chunks, list(made.values())))
    try:
        for _ in filling:
            pass
    finally:
        filling.close()
    return {name: column.whole(others) for name, column in made.items()}


def fill_columns(
    chunks: Generator[Any, None, None], columns: list[Beside | FieldColumn]
) -> Generator[None, None, None]:
    """Fill columns from the chunks of a walk. The first item is None: started. All the rest is one step: a store that another
    thread closes meanwhile does not end it while a chunk, which may be in the map, is in use."""
    try:
        try:
            yield next(chunks)
        except StoreClosing as closing:
            yield chunks.throw(closing)
        for chunk in chunks:
            for column in columns:
                column.take(chunk)
    finally:
        chunks.close()


class Result:
    """One array that is being filled. Attributes: ``count`` (rows so far), ``dtype``."""

    def __init__(self, dtype: Any) -> None:
        import numpy as np

        self.count = 0
        self.dtype = np.dtype(dtype)
        self._values: Array = np.empty(0, dtype)

    def room(self, count: int, rows_max: int) -> Array:
        """Where the next rows go; ``rows_max`` is how many there will be at most, these among them."""
        import numpy as np

        begin, end = self.count, self.count + count
        if end > len(self._values):
            # Memory that is never touched costs nothing, but need not be had: not all that there could be at once.
            longer = np.empty(max(min(max(2 * end, FIRST_ROWS), rows_max), end), self.dtype)
            longer[:begin] = self._values[:begin]
            self._values = longer
        self.count = end
        return self._values[begin:end]

    def whole(self) -> Array:
        """All rows, in an array of just that size."""
        values = self._values
        return values if self.count == len(values) else values[: self.count].copy()


class Beside:
    """A column of what is recorded beside the events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.result = Result(DTYPES_BESIDE[name])

    def take(self, chunk: Chunk) -> None:
        """Take in a chunk."""
        self.result.room(chunk.count, chunk.known.rows_max)[:] = beside(chunk, self.name)

    def whole(self, _: Callable[[], Iterable[EventType]]) -> Array:
        """All of it."""
        values = self.result.whole()
        if self.name == "$stream_id" and all(type(value) is int for value in set(values)):
            return values.astype("<u8")
        return values


def beside(chunk: Chunk, name: str) -> Array:
    """A column of what is recorded beside the events of a chunk."""
    import numpy as np

    match name:
        case "$global_sequence":
            return chunk.global_sequences()
        case "$stream_sequence":
            return chunk.stream_sequences()
        case "$commit_sequence":
            return chunk.commit_sequences()
        case "$time":
            return chunk.times().view("<M8[ns]")
        case "$type":
            out = np.empty(chunk.count, object)
            for group in chunk.groups:
                out[slice(None) if group.rows is None else group.rows] = group.type_name
            return out
        case _:
            streams = chunk.streams()
            values = np.empty(len(streams), object)
            values[:] = [one.name for one in streams] if name == "$stream" else [one.stream_id for one in streams]
            return chunk.per_run(values)


class FieldColumn:
    """A column of a field."""

    def __init__(self, name: str, types: Collection[EventType] | None, *, unknown: bool) -> None:
        self.shape = Shape(name)
        self.count = 0
        self.result: Result | None = None
        self.nulls: list[tuple[int, Bools]] = []
        for event_type in types or ():
            self.shape.of(event_type)
        if types is not None and self.shape.field is None:
            raise unknown_column(name, types)
        if unknown:
            self.shape.nullable = True

    def take(self, chunk: Chunk) -> None:
        """Take in a chunk."""
        import numpy as np

        shape, count = self.shape, chunk.count
        begin, self.count = self.count, self.count + count
        fields = [None if group.event_type is None else shape.of(group.event_type) for group in chunk.groups]
        if shape.field is None:  # no type so far has it
            self.nulls.append((begin, np.ones(count, np.bool_)))
            return
        if self.result is None:
            self.result = self.begun(shape.field, begin, chunk.known.rows_max)
        out = self.result.room(count, chunk.known.rows_max)
        if len(fields) == 1 and fields[0] is not None:
            nulls = put(chunk.groups[0], fields[0], out)
            if nulls is not None:
                self.nulls.append((begin, nulls))
            return
        out[:] = nothing(out.dtype)
        nulls = np.zeros(count, np.bool_)
        for group, field in zip(chunk.groups, fields, strict=True):
            rows = slice(None) if group.rows is None else group.rows
            if field is None:
                nulls[rows] = True
                continue
            values = np.empty(group.count, out.dtype)
            gone = put(group, field, values)
            out[rows] = values
            if gone is not None:
                nulls[rows] = gone
        if nulls.any():
            self.nulls.append((begin, nulls))

    def begun(self, field: Field, count: int, rows_max: int) -> Result:
        """The array, with nothing in its first rows: before any type had the field."""
        result = Result(dtype_of(field.kind, field.schema))
        result.room(count, rows_max)[:] = nothing(result.dtype)
        return result

    def whole(self, others: Callable[[], Iterable[EventType]]) -> Array:
        """All of it; masked where the types say that there may be no value."""
        import numpy as np

        shape = self.shape
        if shape.field is None:  # no event here has it: is there one that could?
            types = list(others())
            shape.field = next((field for one in types if (field := find_field(one, shape.name)) is not None), None)
            if shape.field is None:
                raise unknown_column(shape.name, types)
        result = self.result or self.begun(shape.field, self.count, self.count)
        values = result.whole()
        if result.dtype.hasobject or not (shape.nullable or self.nulls):
            return values
        mask = np.zeros(len(values), np.bool_)
        for begin, nulls in self.nulls:
            mask[begin : begin + len(nulls)] = nulls
        masked: Array = np.ma.MaskedArray(values, mask)
        return masked
