"""Columns to FlatBuffers, all events of one size: a template of one event's bytes, laid out once for each, into which the
columns are written by strided assignment. The bytes are those that the packer of the class makes of the same values.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from varve.columns.given import ARRAY_TAGS, Column, Field
from varve.layout.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from varve.codec import EventType

_CHUNK_BYTES = 1 << 18
"""What is encoded in one go: it and its template stay in the processor's cache while column after column is written."""


def is_flat(event_type: EventType) -> bool:
    """Whether every event of the class has one size, and nobody else has a say when one is made."""
    declared = event_type.declaration
    return not declared.hooked and all(f.kind.tag in ARRAY_TAGS for f in declared.fields)


def encode_flat(event_type: EventType, fields: Sequence[tuple[Field, Column]], count: int) -> Packed:
    """``count`` events of a flat class; ``fields`` in order of declaration."""
    import numpy as np

    plan = event_type.plan
    size = plan.end + -plan.end % 8
    template = np.zeros(size, "u1")
    prefix = plan.prefix()
    template[: len(prefix)] = np.frombuffer(prefix, "u1")
    rows = max(1, min(count, _CHUNK_BYTES // size))
    tiled = np.tile(template, rows)
    out = np.empty(count * size, "u1")

    def column_in(offset: int, dtype: str) -> Any:
        return np.ndarray((count,), dtype, out.data, offset, (size,)) if count else np.empty(0, dtype)

    slots = {slot.field: slot for slot in plan.slots}
    places = []
    for index, (field, column) in enumerate(fields):
        slot = slots[index]
        entry = None if column.absent is None else column_in(plan.vtable_at + slot.entry, "<u2")
        places.append((column_in(slot.pos, field.dtype), entry, column))
    for start in range(0, count, rows):
        stop = min(start + rows, count)
        out[start * size : stop * size] = tiled[: (stop - start) * size]
        for place, entry, column in places:
            place[start:stop] = column.values[start:stop]
            if entry is not None:
                assert column.absent is not None  # as the entry says
                entry[start:stop][column.absent[start:stop]] = 0
    return Packed(out.data.toreadonly(), size)
