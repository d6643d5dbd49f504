"""``reader.columns``: fields of many events as numpy arrays."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any, Final

from varve.codec import EventType
from varve.columns.chunks import Bound, Chunk, Walk
from varve.columns.extras import need_numpy
from varve.columns.fields import BESIDE, Shape, check_names, find_field, unknown_column
from varve.columns.values import array, dtype_of
from varve.columns.walk import walk_chunks
from varve.replay import Source, tracked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Array = npt.NDArray[Any]
    Bools = npt.NDArray[np.bool_]

CHUNK: Final = Bound(rows=1 << 18, size_bytes=1 << 22)
"""Blocks by the hundred: less, and numpy's cost per call shows; more, and the processor's caches are of no use."""

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
    chunks = tracked(source.engine, walk_chunks(source, walk, CHUNK, commits=commits))
    try:
        for chunk in chunks:
            for column in made.values():
                column.take(chunk)
    finally:
        chunks.close()
    return {name: column.whole(others) for name, column in made.items()}


class Beside:
    """A column of what is recorded beside the events."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.pieces: list[Array] = []

    def take(self, chunk: Chunk) -> None:
        """Take in a chunk."""
        self.pieces.append(beside(chunk, self.name))

    def whole(self, _: Callable[[], Iterable[EventType]]) -> Array:
        """All of it."""
        import numpy as np

        joined = np.concatenate(self.pieces) if self.pieces else np.empty(0, DTYPES_BESIDE[self.name])
        if self.name == "$stream_id" and all(type(value) is int for value in set(joined)):
            return joined.astype("<u8")
        return joined


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
        self.pieces: list[tuple[Array, Bools | None]] = []
        for event_type in types or ():
            self.shape.of(event_type)
        if types is not None and self.shape.field is None:
            raise unknown_column(name, types)
        if unknown:
            self.shape.nullable = True

    def take(self, chunk: Chunk) -> None:
        """Take in a chunk."""
        import numpy as np

        shape = self.shape
        fields = [None if group.event_type is None else shape.of(group.event_type) for group in chunk.groups]
        if shape.field is None:  # no type so far has it
            self.pieces.append((np.full(chunk.count, None, object), np.ones(chunk.count, np.bool_)))
            return
        if len(fields) == 1 and fields[0] is not None:
            self.pieces.append(array(chunk.groups[0], fields[0]))
            return
        dtype = dtype_of(shape.field.kind, shape.field.schema)
        values = np.full(chunk.count, None, object) if dtype is object else np.zeros(chunk.count, dtype)
        nulls = np.zeros(chunk.count, np.bool_)
        for group, field in zip(chunk.groups, fields, strict=True):
            rows = slice(None) if group.rows is None else group.rows
            if field is None:
                nulls[rows] = True
                continue
            values[rows], gone = array(group, field)
            if gone is not None:
                nulls[rows] = gone
        self.pieces.append((values, nulls if nulls.any() else None))

    def whole(self, others: Callable[[], Iterable[EventType]]) -> Array:
        """All of it; masked where the types say that there may be no value."""
        import numpy as np

        shape = self.shape
        if shape.field is None:  # no event here has it: is there one that could?
            types = list(others())
            shape.field = next((field for one in types if (field := find_field(one, shape.name)) is not None), None)
            if shape.field is None:
                raise unknown_column(shape.name, types)
        dtype = dtype_of(shape.field.kind, shape.field.schema)
        pieces = [
            values if values.dtype == dtype else np.zeros(len(values), dtype)  # before any type had the field
            for values, _ in self.pieces
        ]
        values = np.concatenate(pieces) if pieces else np.empty(0, dtype)
        if dtype is object:
            return values
        if not (shape.nullable or any(nulls is not None for _, nulls in self.pieces)):
            return values
        mask = np.zeros(len(values), np.bool_)
        at = 0
        for piece, nulls in self.pieces:
            if nulls is not None:
                mask[at : at + len(piece)] = nulls
            at += len(piece)
        masked: Array = np.ma.MaskedArray(values, mask)
        return masked
