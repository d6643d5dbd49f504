"""What each byte of an event's FlatBuffer is, whoever wrote it.

A walk along the schema names root offset, vtables, fields and what they point to; whatever nothing points to is padding. Parts
may be shared (vtables, strings), and buffers of strange writers may let them overlap: a byte belongs to the first part that
reaches it, so that all parts together are the buffer, each byte once.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import UUID

from varve.codec.check import datetime_of
from varve.codec.plan import inline_shape
from varve.codec.schema import FieldDef, Kind, Schema
from varve.codec.verify import BLOB, BLOB_FIELDS, I4, U2, U4, shape_of, struct_plan_of

if TYPE_CHECKING:
    from varve.codec.event_type import EventType

__all__ = ["BytePart", "BytePartKind", "annotate"]

BytePartKind = Literal[
    "root offset",
    "vtable size",
    "table size",
    "vtable entry",
    "vtable offset",
    "value",
    "union type",
    "offset",
    "length",
    "text",
    "text end",
    "bytes",
    "items",
    "padding",
    "unknown",
]
"""What some bytes are:

=================  =====================================================================================
``root offset``    how far it is to the event's table, from the first byte
``vtable size``    bytes of a vtable; ``table size``: bytes of the fixed part of its tables
``vtable entry``   where in its tables a field stands; 0: it is absent
``vtable offset``  how far back a table's vtable stands
``value``          a number, bool, enum, time or UUID where it stands in a table, struct or array
``union type``     the number of a union's member
``offset``         how far it is to what a field holds
``length``         bytes of a text, items of a vector
``text``           UTF-8, also of decimals; ``text end``: the zero byte behind it
``bytes``          bytes
``items``          numbers of a vector, or the members' numbers of a vector of unions
``padding``        nothing: no reader looks at it
``unknown``        padding, or of fields that this schema does not know
=================  =====================================================================================
"""

ITEMS_SHOWN: Final = 16
"""Items of a vector that are spelled out."""
CHARS_SHOWN: Final = 200
"""Characters of a text that are."""
STRUCTS_SINGLY_MAX: Final = 64
"""Structs in a vector that are shown field by field; more are one part."""


@dataclass(frozen=True, slots=True)
class BytePart:
    """Consecutive bytes of an event that are one thing."""

    offset: int
    """Of the first byte, from 0."""
    size: int
    """How many bytes."""
    what: BytePartKind
    """What they are: see ``BytePartKind``."""
    name: str
    """The path of the field, as ``lines[2].price``; empty for the event itself and for padding."""
    value: str
    """What they say, in words: numbers as such, texts in quotation marks and cut where they are long, where an offset leads."""


def annotate(compiled: EventType, buffer: bytes | memoryview) -> list[BytePart]:
    """Every byte of an event of a type, in order: parts without gaps and without overlaps, from the first byte to the last.

    The bytes may be of any origin; raises ``MalformedEvent`` where they hold no valid event of the type.
    """
    compiled.verify(buffer)
    walk = _Walk(compiled.schema, bytes(buffer))
    walk.root(0, compiled.schema.root, "")
    return walk.partition()


class _Walk:
    """The parts of a verified buffer, in whatever order they are met, shared ones once."""

    def __init__(self, schema: Schema, data: bytes) -> None:
        self.schema = schema
        self.data = data
        self.parts: list[BytePart] = []
        self.seen: set[tuple[int, str]] = set()
        self.is_foreign = False  # a field was met that the schema does not know

    def partition(self) -> list[BytePart]:
        """All bytes, each once."""
        found: list[BytePart] = []
        at = 0
        for part in sorted(self.parts, key=lambda part: (part.offset, -part.size)):
            end = part.offset + part.size
            if end > at:
                if part.offset > at:
                    found.append(self.gap(at, part.offset))
                elif part.offset < at:
                    part = replace(part, offset=at, size=end - at, value=f"{part.value} (its end)")
                found.append(part)
                at = end
        if at < len(self.data):
            found.append(self.gap(at, len(self.data)))
        return found

    def gap(self, start: int, stop: int) -> BytePart:
        return BytePart(start, stop - start, "unknown" if self.is_foreign else "padding", "", "")

    def add(self, offset: int, size: int, what: BytePartKind, name: str, value: str = "") -> None:
        if size:
            self.parts.append(BytePart(offset, size, what, name, value))

    def is_new(self, at: int, label: str) -> bool:
        """Whether this is met for the first time."""
        known = len(self.seen)
        self.seen.add((at, label))
        return len(self.seen) > known

    def u16(self, at: int) -> int:
        found: int = U2(self.data, at)[0]
        return found

    def u32(self, at: int) -> int:
        found: int = U4(self.data, at)[0]
        return found

    # -- tables ------------------------------------------------------------------------------------

    def root(self, at: int, name: str, path: str) -> None:
        target = at + self.u32(at)
        self.add(at, 4, "root offset", path, f"{name} at {target}")
        self.table(target, name, path)

    def table(self, at: int, name: str, path: str) -> None:
        if not self.is_new(at, name):
            return
        vtable = at - I4(self.data, at)[0]
        self.add(at, 4, "vtable offset", path, f"vtable at {vtable}")
        entry = 4
        for f in BLOB_FIELDS if name == BLOB.name else self.schema.types[name].fields:
            place = f"{path}.{f.name}" if path else f.name
            if name == BLOB.name:
                place = path
            first = self.entry(vtable, entry, f"{place} (type)" if f.kind.paired else place)
            entry += 2
            if f.kind.paired:
                second = self.entry(vtable, entry, place)
                entry += 2
                if first:
                    self.pair(f.kind, at + first, at + second if second else 0, place)
            elif first:
                self.field(f, at + first, place)
        self.vtable_end(vtable, entry)

    def entry(self, vtable: int, entry: int, place: str) -> int:
        """What a vtable says of one of its fields."""
        if entry >= self.u16(vtable):
            return 0
        offset = self.u16(vtable + entry)
        self.add(vtable + entry, 2, "vtable entry", place, f"at +{offset}" if offset else "absent")
        return offset

    def vtable_end(self, vtable: int, known: int) -> None:
        """The head of a vtable, and its entries that the schema does not know."""
        size = self.u16(vtable)
        self.add(vtable, 2, "vtable size", "", str(size))
        self.add(vtable + 2, 2, "table size", "", str(self.u16(vtable + 2)))
        for entry in range(known, size, 2):
            offset = self.u16(vtable + entry)
            self.is_foreign = self.is_foreign or bool(offset)
            words = f"a field that the schema does not know, at +{offset}" if offset else "absent"
            self.add(vtable + entry, 2, "vtable entry", "", words)

    def field(self, f: FieldDef, p: int, path: str) -> None:
        """A field of a table."""
        if f.kind.inline:
            self.inline(f.kind, p, path)
        else:
            self.behind(f.kind, p, path)

    def pair(self, kind: Kind, first: int, second: int, path: str) -> None:
        """A union, or a vector of unions. (One of these has both of its halves, or is absent.)"""
        if kind.tag == "union":
            number = self.data[first]
            self.add(first, 1, "union type", path, kind.names[number - 1] if number else "none")
            if number:
                self.table(self.offset(second, path), kind.names[number - 1], path)
            return
        assert kind.item is not None
        names = kind.item.names
        numbers, values = self.offset(first, f"{path} (types)"), self.offset(second, path)
        count = self.u32(numbers)
        self.add(numbers, 4, "length", f"{path} (types)", str(count))
        members = [names[number - 1] for number in self.data[numbers + 4 : numbers + 4 + count]]
        self.add(numbers + 4, count, "items", f"{path} (types)", _listed(members, count))
        self.add(values, 4, "length", path, str(count))
        for index, member in enumerate(members):
            place = f"{path}[{index}]"
            self.table(self.offset(values + 4 + 4 * index, place), member, place)

    # -- what stands in a table, struct or vector --------------------------------------------------

    def inline(self, kind: Kind, p: int, path: str) -> None:
        size, _, code = self.shape(kind)
        if kind.tag == "struct":
            plan = struct_plan_of(self.schema, kind.name)
            for f, offset in zip(self.schema.types[kind.name].fields, plan.offsets, strict=True):
                self.inline(f.kind, p + offset, f"{path}.{f.name}")
        elif kind.tag == "array":
            assert kind.item is not None
            step = size // kind.length
            for index in range(kind.length):
                self.inline(kind.item, p + index * step, f"{path}[{index}]")
        else:
            self.add(p, size, "value", path, self.spelled(kind, code, p))

    def shape(self, kind: Kind) -> tuple[int, int, str]:
        """Size, alignment and code."""
        types = self.schema.types
        return inline_shape(kind, lambda name: struct_plan_of(self.schema, name), lambda name: types[name].base)

    def spelled(self, kind: Kind, code: str, p: int) -> str:
        """A number or the like in words."""
        (value,) = struct.unpack_from("<" + code, self.data, p)
        return _SPELLED.get(kind.tag, _number)(value) if kind.tag != "enum" else self.member(kind.name, value)

    def member(self, name: str, value: int) -> str:
        """An enum's member, with its number."""
        label = next((label for label, number in self.schema.types[name].members if number == value), None)
        return str(value) if label is None else f"{label} ({value})"

    # -- what stands behind an offset --------------------------------------------------------------

    def offset(self, p: int, path: str) -> int:
        """Where an offset leads."""
        target = p + self.u32(p)
        self.add(p, 4, "offset", path, f"to {target}")
        return target

    def behind(self, kind: Kind, p: int, path: str) -> None:
        at = self.offset(p, path)
        if kind.tag == "table":
            self.table(at, kind.name, path)
        elif self.is_new(at, f":{kind}"):
            if kind.tag == "vector":
                assert kind.item is not None
                self.vector(kind.item, at, path)
            else:
                self.text(kind, at, path)

    def text(self, kind: Kind, at: int, path: str) -> None:
        size = self.u32(at)
        data = self.data[at + 4 : at + 4 + size]
        self.add(at, 4, "length", path, str(size))
        if kind.nested:
            self.root(at + 4, kind.nested, path)
        elif kind.tag == "bytes":
            self.add(at + 4, size, "bytes", path, _cut(data.hex(), CHARS_SHOWN))
        else:
            self.add(at + 4, size, "text", path, _quoted(data.decode()))
            self.add(at + 4 + size, 1, "text end", path)

    def vector(self, item: Kind, at: int, path: str) -> None:
        count = self.u32(at)
        self.add(at, 4, "length", path, str(count))
        if not item.inline:
            item = BLOB if item.tag == "bytes" else item
            for index in range(count):
                self.behind(item, at + 4 + 4 * index, f"{path}[{index}]")
        elif item.tag == "struct" and count <= STRUCTS_SINGLY_MAX:
            size, _ = shape_of(self.schema, item)
            for index in range(count):
                self.inline(item, at + 4 + index * size, f"{path}[{index}]")
        else:
            size, _, code = self.shape(item)
            shown = [] if item.tag == "struct" else range(min(count, ITEMS_SHOWN))
            words = [self.spelled(item, code, at + 4 + index * size) for index in shown]
            self.add(at + 4, count * size, "items", path, _listed(words, count))


def _number(value: float) -> str:
    return json.dumps(value)


def _time(value: int) -> str:
    return datetime_of(value).isoformat()


def _uuid(value: bytes) -> str:
    return str(UUID(bytes=value))


_SPELLED: Final[dict[str, Callable[[Any], str]]] = {"datetime": _time, "uuid": _uuid}


def _quoted(text: str) -> str:
    return json.dumps(_cut(text, CHARS_SHOWN), ensure_ascii=False)


def _cut(text: str, chars: int) -> str:
    return text if len(text) <= chars else f"{text[:chars]}..."


def _listed(words: list[str], count: int) -> str:
    """The first items of a vector."""
    if not words:
        return f"{count} items"
    return ", ".join(words[:ITEMS_SHOWN]) + (f", ... ({count} items)" if count > ITEMS_SHOWN else "")
