"""``reader.to_arrow``: events as a stream of Arrow record batches, built from the bytes without a Python loop over events.

Each batch is made of one chunk: its buffers are numpy arrays that the batch owns. Nested events become structs, field by field,
by the same look at their tables; what is absent is filled in afterwards.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable
from datetime import datetime
from decimal import Decimal
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from varve import limits
from varve.codec import EventType
from varve.codec.check import nanoseconds
from varve.codec.plan import inline_shape
from varve.codec.schema import Kind, Schema
from varve.columns.chunks import Bound, Chunk, Group, Walk
from varve.columns.extras import need_pyarrow
from varve.columns.fields import BESIDE, Shape, check_names, hop_to, number_of, struct_plan, unknown_column
from varve.columns.read import beside
from varve.columns.tables import Bytes, ListedTable, Places, Table, listed
from varve.columns.values import Found, find, value_of
from varve.columns.walk import walk_chunks
from varve.errors import ColumnConflict, InvalidInput
from varve.replay import Source, tracked

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from varve.engine.snapshot import Snapshot

    Ints = npt.NDArray[np.int64]
    Bools = npt.NDArray[np.bool_]

BATCH_BYTES_MAX: Final = 1 << 24
"""Bytes of events in a batch; one event always fits."""

LONG_BYTES: Final = 512
"""Strings and vectors of more on average are copied one by one."""

IdKinds = Callable[["Snapshot"], Collection[str]]
"""The kinds of stream ids (``int``, ``str``, ``uuid``) among the streams of a walk."""


class NotInArrow(Exception):
    """A type that Arrow, or those who read it, have no word for."""


# -- types -----------------------------------------------------------------------------------------


def arrow_type(kind: Kind, schema: Schema, inside: tuple[str, ...] = ()) -> Any:
    """The Arrow type of a field. Raises ``NotInArrow``."""
    import pyarrow as pa

    if kind.tag == "datetime":
        return pa.timestamp("ns", "UTC")
    number = number_of(kind, schema)
    if number is not None:
        return NUMBERS[number]()
    match kind.tag:
        case "str" | "decimal":
            return pa.string()
        case "bytes":
            return pa.binary()
        case "uuid":
            return pa.binary(16)
        case "vector" | "array":
            assert kind.item is not None
            item = pa.field("item", arrow_type(kind.item, schema, inside), nullable=False)
            return pa.list_(item, kind.length) if kind.tag == "array" else pa.list_(item)
        case "union":
            raise NotInArrow("a union of events")
    if kind.name in inside:
        raise NotInArrow("an event that can hold itself")
    fields = schema.types[kind.name].fields
    if not fields:
        raise NotInArrow("an event without fields")
    types = [(f, arrow_type(f.kind, schema, (*inside, kind.name))) for f in fields]
    return pa.struct([pa.field(f.name, type_, nullable=f.optional) for f, type_ in types])


def _pa(name: str) -> Callable[[], Any]:
    def make() -> Any:
        import pyarrow as pa

        return getattr(pa, name)()

    return make


NUMBERS: Final = {
    "bool": _pa("bool_"),
    "f32": _pa("float32"),
    "f64": _pa("float64"),
    **{
        f"{sign}{bits}": _pa(f"{name}{bits}")
        for sign, name in (("u", "uint"), ("i", "int"))
        for bits in (8, 16, 32, 64)
    },
}


# -- arrays ----------------------------------------------------------------------------------------


class Builder:
    """Arrays of values whose slots stand at some places of a chunk's bytes."""

    def __init__(self, data: Bytes, schema: Schema) -> None:
        self.data = data
        self.schema = schema

    def values(self, kind: Kind, places: Places, type_: Any) -> Any:
        """The values at some places, all of which are there."""
        import pyarrow as pa

        number = number_of(kind, self.schema)
        if number is not None:
            numbers = self.data.numbers(number, places)
            return pa.array(numbers) if number == "bool" else flat(type_, places.count, numbers)
        match kind.tag:
            case "uuid":
                return flat(type_, places.count, self.data.fixed(16, places))
            case "str" | "bytes" | "decimal":
                return self.texts(places, type_)
            case "vector":
                return self.vectors(kind, places, type_)
            case "array":
                return self.arrays(kind, places, type_)
            case "struct":
                offsets = struct_plan(self.schema, kind.name).offsets
                fields = self.schema.types[kind.name].fields
                children = [
                    self.values(f.kind, places.moved(offset), type_.field(f.name).type)
                    for f, offset in zip(fields, offsets, strict=True)
                ]
                return pa.StructArray.from_arrays(children, fields=list(type_))
        return self.tables(kind, ListedTable(self.data, self.data.targets(places)), places.count, type_)

    def texts(self, places: Places, type_: Any) -> Any:
        """Strings of bytes."""
        import numpy as np
        import pyarrow as pa

        starts, lengths = self.data.vectors(places)
        ends = ends_of(lengths)
        if is_long(ends, 1):
            joined = self.joined(starts, lengths)
        else:
            joined = self.data.raw.take(np.repeat(starts - ends[:-1], lengths) + np.arange(ends[-1]))
        buffers = [None, pa.py_buffer(ends.astype(np.int32)), pa.py_buffer(joined)]
        return pa.Array.from_buffers(type_, places.count, buffers)

    def joined(self, starts: Ints, sizes: Ints) -> Any:
        """So many bytes from each position on, one piece behind the other."""
        import numpy as np

        raw = self.data.raw
        ends = (starts + sizes).tolist()
        return np.concatenate([raw[start:end] for start, end in zip(starts.tolist(), ends, strict=True)])

    def vectors(self, kind: Kind, places: Places, type_: Any) -> Any:
        """Vectors: their items, one after the other."""
        import numpy as np
        import pyarrow as pa

        assert kind.item is not None
        starts, counts = self.data.vectors(places)
        ends = ends_of(counts)
        stride = self.size(kind.item)
        if number_of(kind.item, self.schema) not in {None, "bool"} and is_long(ends, stride):
            items = flat(type_.value_type, int(ends[-1]), self.joined(starts, counts * stride))
        else:
            at = np.repeat(starts - stride * ends[:-1], counts) + stride * np.arange(ends[-1])
            if kind.item.tag == "bytes":
                items = self.blobs(at, type_.value_type)
            else:
                items = self.values(kind.item, listed(at), type_.value_type)
        buffers = [None, pa.py_buffer(ends.astype(np.int32))]
        return pa.Array.from_buffers(type_, places.count, buffers, children=[items])

    def blobs(self, at: Ints, type_: Any) -> Any:
        """The items of a list[bytes], which are tables of one field."""
        table = ListedTable(self.data, self.data.targets(listed(at)))
        places, there = table.field(4)
        return self.spread(Kind("bytes"), parted(places, there, lambda: b""), len(at), type_)

    def arrays(self, kind: Kind, places: Places, type_: Any) -> Any:
        """Arrays of fixed length."""
        import numpy as np
        import pyarrow as pa

        assert kind.item is not None
        steps = np.arange(kind.length) * self.size(kind.item)
        at = (places.array()[:, None] + steps).ravel()
        items = self.values(kind.item, listed(at), type_.value_type)
        return pa.Array.from_buffers(type_, places.count, [None], children=[items])

    def size(self, kind: Kind) -> int:
        """Bytes that an item of a vector takes in the vector itself."""
        schema = self.schema
        return inline_shape(kind, lambda name: struct_plan(schema, name), lambda name: schema.types[name].base)[0]

    def tables(self, kind: Kind, table: Table, count: int, type_: Any) -> Any:
        """Nested events."""
        import pyarrow as pa

        owner = self.schema.types[kind.name]
        children = []
        for f in owner.fields:
            hop = hop_to(self.schema, owner, f.name, None)
            assert hop is not None
            places, there = table.field(hop.entry)
            children.append(self.spread(f.kind, parted(places, there, hop.if_absent), count, type_.field(f.name).type))
        return pa.StructArray.from_arrays(children, fields=list(type_))

    def spread(self, kind: Kind, found: Found, count: int, type_: Any) -> Any:
        """Values that are in the bytes, and what the others read as, each in its row."""
        import numpy as np
        import pyarrow as pa

        there = self.values(kind, found.places, type_)
        if found.rows is None:
            return there
        arrays, index = [there], np.full(count, -1, np.int64)
        index[found.rows] = np.arange(len(there))
        for rows, value in found.fills:
            if value is not None:
                index[rows] = sum(map(len, arrays))
                arrays.append(pa.array([as_arrow(value)], type_))
        return pa.concat_arrays(arrays).take(pa.array(index, mask=index < 0))


def is_long(ends: Ints, item_bytes: int) -> bool:
    """Whether pieces are better copied one by one than found item by item, which takes 24 bytes of memory for each of these."""
    return int(ends[-1]) * item_bytes > LONG_BYTES * (len(ends) - 1)


def ends_of(lengths: Ints) -> Ints:
    """0, and where each of some pieces back to back ends."""
    import numpy as np

    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    return ends


def parted(places: Places, there: Bools | bool, if_absent: Callable[[], Any]) -> Found:
    """Slots of which some are absent."""
    import numpy as np

    if there is True:
        return Found(places, None, [])
    if there is False:
        there = np.zeros(places.count, np.bool_)
    gone = np.flatnonzero(~there)
    rows = np.flatnonzero(there)
    return Found(places.chosen(rows), rows, [(gone, if_absent())] if len(gone) else [])


def flat(type_: Any, count: int, values: Any) -> Any:
    """An array of items of fixed size, none of which is missing."""
    import pyarrow as pa

    return pa.Array.from_buffers(type_, count, [None, pa.py_buffer(values)])


def as_arrow(value: Any) -> Any:
    """A value of Python in the form that ``pyarrow.array`` takes for the type of its field."""
    if isinstance(value, IntEnum):
        return int(value)
    if isinstance(value, datetime):
        return nanoseconds(value)
    if isinstance(value, UUID):
        return value.bytes
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, (tuple, list, memoryview)):
        return [as_arrow(one) for one in value]
    declared = getattr(type(value), "__varve__", None)
    if declared is not None:
        return {f.name: as_arrow(getattr(value, f.name)) for f in declared.fields}
    return value


# -- columns ---------------------------------------------------------------------------------------


class ArrowColumn:
    """A column of a field: its Arrow type, and its array in each chunk."""

    def __init__(self, name: str, types: Collection[EventType], *, unknown: bool) -> None:
        import pyarrow as pa

        self.shape = Shape(name)
        for event_type in types:
            self.shape.of(event_type)
        field = self.shape.field
        if field is None:
            raise unknown_column(name, types)
        self.type = arrow_type(field.kind, field.schema)
        self.field = pa.field(name, self.type, nullable=self.shape.nullable or unknown)

    def array(self, chunk: Chunk) -> Any:
        """The column in a chunk."""
        import numpy as np
        import pyarrow as pa

        made = [self._of(group) for group in chunk.groups]
        if len(made) == 1:
            return made[0]
        index = np.empty(chunk.count, np.int64)
        at = 0
        for group, values in zip(chunk.groups, made, strict=True):
            index[group.rows] = np.arange(at, at + len(values))
            at += len(values)
        return pa.concat_arrays(made).take(pa.array(index))

    def _of(self, group: Group) -> Any:
        import pyarrow as pa

        known = group.event_type
        field = None if known is None else self.shape.of(known)
        if field is None:
            return pa.nulls(group.count, self.type)
        if not group.is_plain:
            return pa.array([as_arrow(value_of(event, field)) for event in group.events], self.type)
        return Builder(group.chunk.data, field.schema).spread(field.kind, find(group, field), group.count, self.type)


class BesideColumn:
    """A column of what is recorded beside the events."""

    def __init__(self, name: str, type_: Any) -> None:
        import pyarrow as pa

        self.name = name
        self.field = pa.field(name, type_, nullable=False)

    def array(self, chunk: Chunk) -> Any:
        """The column in a chunk."""
        import numpy as np
        import pyarrow as pa

        type_ = self.field.type
        if self.name == "$type":
            index = np.zeros(chunk.count, np.int64)
            for number, group in enumerate(chunk.groups):
                index[slice(None) if group.rows is None else group.rows] = number
            return pa.array([group.type_name for group in chunk.groups], type_).take(pa.array(index))
        if self.name in {"$stream", "$stream_id"}:
            each = [one.name if self.name == "$stream" else as_arrow(one.stream_id) for one in chunk.streams()]
            return pa.array(each, type_).take(pa.array(chunk.per_run(np.arange(len(each)))))
        return flat(type_, chunk.count, beside(chunk, self.name))


def beside_type(name: str, id_kinds: Collection[str]) -> Any:
    """The Arrow type of a column beside the events. Raises ``ColumnConflict`` for ids of several kinds."""
    import pyarrow as pa

    if name == "$time":
        return pa.timestamp("ns", "UTC")
    if name in {"$stream", "$type"}:
        return pa.string()
    if name != "$stream_id":
        return pa.int64()
    if len(id_kinds) > 1:
        raise ColumnConflict(
            f"the streams' ids are of several kinds ({', '.join(id_kinds)}), of which no column can be made: read without "
            "$stream_id, or with columns(), whose arrays hold objects",
            column=name,
            type_names=tuple(id_kinds),
        )
    kind = next(iter(id_kinds), "int")
    return {"int": pa.uint64(), "str": pa.string(), "uuid": pa.binary(16)}[kind]


def default_names(types: Collection[EventType], *, unknown: bool) -> list[str]:
    """Every field, and what tells events of several types apart."""
    names = list(dict.fromkeys(f.name for event_type in types for f in event_type.schema.table.fields))
    return [*(["$type"] if len(types) > 1 or unknown or not names else []), *names]


def read_arrow(
    source: Source,
    walk: Walk,
    columns: Iterable[str] | None,
    types: Collection[EventType],
    id_kinds: IdKinds,
    batch_size: int,
    *,
    unknown: bool,
) -> Any:
    """The columns of a walk as a ``pyarrow.RecordBatchReader``."""
    pa = need_pyarrow("to_arrow()")
    if type(batch_size) is not int or batch_size < 1:
        raise InvalidInput(f"batch_size is a number of events (an int from 1 on), not {batch_size!r}")
    names = default_names(types, unknown=unknown) if columns is None else check_names(columns)
    kinds: list[str] = []

    def end(snapshot: Snapshot) -> int:
        if "$stream_id" in names:
            kinds.extend(id_kinds(snapshot))
        return walk.end(snapshot)

    fields = {name: _arrow_column(name, types, unknown=unknown) for name in names if name not in BESIDE}
    commits = not {"$commit_sequence", "$time"}.isdisjoint(names)
    bound = Bound(min(batch_size, limits.EVENTS_MAX), BATCH_BYTES_MAX)
    chunks = tracked(source.engine, walk_chunks(source, walk._replace(end=end), bound, commits=commits))
    try:
        made = [fields.get(name) or BesideColumn(name, beside_type(name, kinds)) for name in names]
    except ColumnConflict:
        chunks.close()  # whoever keeps the error keeps this frame: it must not keep a snapshot
        raise
    schema = pa.schema([column.field for column in made])

    def batches() -> Generator[Any, None, None]:
        for chunk in chunks:
            yield pa.RecordBatch.from_arrays([column.array(chunk) for column in made], schema=schema)

    return pa.RecordBatchReader.from_batches(schema, batches())


def _arrow_column(name: str, types: Collection[EventType], *, unknown: bool) -> ArrowColumn:
    try:
        return ArrowColumn(name, types, unknown=unknown)
    except NotInArrow as error:
        with_it = tuple(one.name for one in types if Shape(name).of(one) is not None)
        others = [other for other in default_names(types, unknown=unknown) if _fits(other, types)]
        raise ColumnConflict(
            f"column {name!r} holds {error}, for which Arrow's readers have no type: choose columns= from "
            f"{', '.join(others)}, dotted paths into nested events ('address.city'), and {', '.join(BESIDE)}; columns() "
            "gives it as objects",
            column=name,
            type_names=with_it,
        ) from None


def _fits(name: str, types: Collection[EventType]) -> bool:
    """Whether a column can be made."""
    try:
        return name in BESIDE or ArrowColumn(name, types, unknown=False) is not None
    except (NotInArrow, ColumnConflict):
        return False


def requested_names(capsule: Any) -> tuple[list[str], Any]:
    """The columns of a schema that a reader of the C stream asks for, and the schema."""
    pa = need_pyarrow("__arrow_c_stream__")
    schema = pa.Schema._import_from_c_capsule(capsule)  # noqa: SLF001 - the protocol's own method
    return list(schema.names), schema
