"""Columns to FlatBuffers, row by row: for classes whose events differ in size, or run code of the user's when they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from uuid import UUID

from varve.appends import join
from varve.codec.check import datetime_of
from varve.codec.declare import Declaration
from varve.codec.schema import Kind
from varve.columns.given import ARRAY_TAGS, Column, Field, column_of, in_row, objects_of, refused
from varve.errors import EventEncodingError, EventTooLarge
from varve.layout.packed import Joined, Joiner

if TYPE_CHECKING:
    from collections.abc import Sequence

    from varve.codec import EventType

_CHUNK_ROWS = 1_024
"""Events that exist as objects at one time: few enough for the collector to find nothing, and for the cache."""


def encode_rows(event_type: EventType, names: Sequence[str], columns: Sequence[list[Any]], count: int) -> Joined:
    """The events of some columns of Python objects. Raises ``EventEncodingError``, ``EventTooLarge``, ``TooManyItems``, and what
    the class itself raises."""
    make, pack_all = _maker(event_type, names), event_type.pack_all
    joiner = Joiner()
    for start in range(0, count, _CHUNK_ROWS):
        chunk = [column[start : start + _CHUNK_ROWS] for column in columns]
        rows = list(zip(*chunk, strict=True)) if chunk else [()] * min(_CHUNK_ROWS, count - start)
        done = 0
        events = []
        try:
            for values in rows:
                events.append(make(*values))
                done += 1
            done = 0
            bufs = pack_all(events)
        except EventEncodingError as exc:
            raise in_row(exc, start + (done or _failing(event_type, events))) from None
        except Exception as exc:
            exc.add_note(f"it was made of row {start + done}; nothing was written")
            raise
        try:
            join(joiner, event_type, bufs)
        except EventTooLarge as exc:
            exc.add_note(f"it was made of row {start + max(range(len(bufs)), key=lambda at: len(bufs[at]))}")
            raise
    return joiner.joined()


def _maker(event_type: EventType, names: Sequence[str]) -> Any:
    """What makes an event of its values, given in this order."""
    import dataclasses

    cls = event_type.cls
    declared = [f for f in dataclasses.fields(cls) if f.init]
    by_place = not event_type.declaration.hooked and not any(f.kw_only for f in declared)
    if by_place and [f.name for f in declared] == list(names):
        return cls
    return lambda *values: cls(**dict(zip(names, values, strict=True)))


def _failing(event_type: EventType, events: list[Any]) -> int:
    """Which of some events cannot be packed."""
    for index, event in enumerate(events):
        try:
            event_type.pack(event)
        except EventEncodingError:
            return index
    return 0  # pragma: no cover - one of them could not


def objects_for(where: Field, given: Any) -> list[Any]:
    """A column as the values that its field takes."""
    kind = where.kind
    if kind.tag in ARRAY_TAGS:
        return _plain(where, column_of(where, given))
    values = objects_of(where, given)
    if kind.tag in {"table", "struct"} or (kind.item is not None and kind.item.tag in {"table", "struct"}):
        return [_built(where, kind, value, where.declaration, row) for row, value in enumerate(values)]
    return values


def _plain(where: Field, column: Column) -> list[Any]:
    """What a checked array holds, as Python objects."""
    kind = where.kind
    values: list[Any]
    if kind.tag == "uuid":
        values = [UUID(bytes=raw.tobytes()) for raw in column.values]
    else:
        values = column.values.astype(where.dtype).tolist()
    if kind.tag == "datetime":
        values = list(map(datetime_of, values))
    elif kind.tag == "enum":
        members = where.declaration.enum_of(kind.name)
        known = {number: _member(members, number) for number in set(values)}
        values = [known[number] for number in values]
    if column.absent is not None:
        for row in column.absent.nonzero()[0].tolist():
            values[row] = None
    return values


def _member(members: Any, number: int) -> Any:
    """A member of an enum; a number that has none as it is."""
    try:
        return members(number)
    except ValueError:
        return number


def _built(where: Field, kind: Kind, value: Any, declaration: Declaration, row: int) -> Any:
    """A nested event of a mapping of its fields, as Arrow has them; anything else as it is."""
    if kind.item is not None and isinstance(value, (list, tuple)):
        return [_built(where, kind.item, item, declaration, row) for item in value]
    if kind.tag not in {"table", "struct"} or not isinstance(value, Mapping):
        return value
    nested = declaration.declaration_of(kind.name)
    kinds = {f.name: f.kind for f in nested.fields}
    try:
        inside = {
            name: _built(where, kinds[name], one, nested, row) if name in kinds else one for name, one in value.items()
        }
        return nested.cls(**inside)
    except TypeError as exc:
        raise refused(where, f"must be a {kind.name}, or a mapping of its fields ({exc})", value, row) from None
