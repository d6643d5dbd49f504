"""Checking bytes of any origin before anything reads them.

Bounds, alignment, vtables, UTF-8, required fields, union tags, depth. All offsets of a FlatBuffer point forward, so there are
no cycles; but tables may be shared, and sharing through many levels lets a few bytes stand for astronomically many values.
Each place is therefore checked once, and what it expands to when read is counted: more tables or bytes than an honest buffer
of that size could hold are refused. Vectors and strings may also overlap, so that each is another place over the same bytes:
the work of looking at them is limited as well, over the whole buffer, whatever its schema has fields for.
"""

from __future__ import annotations

import struct
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final

from varve import limits
from varve.codec.plan import plan_struct
from varve.codec.schema import SCALARS, FieldDef, Kind, Schema, TypeDef
from varve.errors import MalformedEvent

if TYPE_CHECKING:
    from varve.codec.event_type import EventType

__all__ = ["verify_event"]

U2: Final = struct.Struct("<H").unpack_from
U4: Final = struct.Struct("<I").unpack_from
I4: Final = struct.Struct("<i").unpack_from

SHARED_TABLES_MAX: Final = 65_536
"""Tables that a buffer may hold, when read, beyond what fits it without sharing."""

SHARED_BYTES_MAX: Final = 2**24
"""The same for the bytes of strings and vectors."""

OVERLAPPING_ITEMS_MAX: Final = 65_536
"""Items of vectors that are looked at one by one, beyond those that fit the buffer without overlapping."""

Cost = tuple[int, int, int]
"""What a place expands to when read: depth, tables, bytes."""

Place = tuple[FieldDef, int, str]
"""A field, where its entry (for a union the first of its two) stands in a vtable, and its name in messages."""


def verify_event(compiled: EventType, buffer: bytes | memoryview) -> None:
    """MalformedEvent unless the buffer holds a valid event of the type. Its first byte counts as 8-aligned."""
    data = bytes(buffer)
    if len(data) > limits.EVENT_BYTES_MAX:
        raise MalformedEvent(
            f"an event of {len(data)} bytes; at most {limits.EVENT_BYTES_MAX} are allowed", offset=None
        )
    _Verifier(compiled.schema, data).root()


def places(definition: TypeDef) -> list[Place]:
    """Of all fields of a table."""
    out: list[Place] = []
    entry = 4
    for f in definition.fields:
        out.append((f, entry, f"{definition.name}.{f.name}"))
        entry += 4 if f.kind.paired else 2
    return out


class _Verifier:
    def __init__(self, schema: Schema, data: bytes) -> None:
        self.schema = schema
        self.data = data
        self.size = len(data)
        self.done: dict[tuple[int, str], Cost] = {}
        self.places: dict[str, list[Place]] = {}
        self.here: dict[tuple[int, str], list[Place]] = {}
        self.tables_max = self.size // 8 + SHARED_TABLES_MAX
        self.bytes_max = self.size + SHARED_BYTES_MAX
        self.items_left = self.size // 4 + OVERLAPPING_ITEMS_MAX
        self.text_left = self.bytes_max

    def bad(self, reason: str, at: int) -> MalformedEvent:
        return MalformedEvent(f"not a valid {self.schema.root}: {reason} at byte {at}", offset=at)

    def work(self, items: int, text: int, what: str, at: int) -> None:
        """Account for items and bytes of strings before they are looked at."""
        self.items_left -= items
        self.text_left -= text
        if self.items_left < 0 or self.text_left < 0:
            raise self.bad(f"{what} overlaps so much else that checking it would go beyond measure", at)

    def need(self, at: int, size: int, align: int, what: str) -> None:
        """``size`` bytes at ``at`` must be inside the buffer and aligned."""
        if at < 0 or at > self.size or size > self.size - at:
            raise self.bad(f"{what} reaches outside the buffer", at)
        if at % align:
            raise self.bad(f"{what} is not aligned to {align} bytes", at)

    def root(self) -> None:
        self.need(0, 4, 4, "the root offset")
        self.table(self.target(0, "the root"), self.schema.root, 1)

    def target(self, at: int, what: str) -> int:
        """Where the uoffset at ``at`` points to; only forward, and 4-aligned."""
        offset: int = U4(self.data, at)[0]
        if offset < 4 or offset > self.size - at:
            raise self.bad(f"the offset of {what} points outside the buffer", at)
        if (at + offset) % 4:
            raise self.bad(f"{what} is not aligned to 4 bytes", at + offset)
        return at + offset

    def table(self, at: int, name: str, depth: int) -> Cost:
        if depth > limits.NESTING_DEPTH_MAX:
            raise self.bad(f"tables nested deeper than {limits.NESTING_DEPTH_MAX}", at)
        known = self.done.get((at, name))
        if known is None:
            known = self.table_inside(at, name, depth)
            self.done[at, name] = known
        elif depth + known[0] - 1 > limits.NESTING_DEPTH_MAX:
            raise self.bad(f"tables nested deeper than {limits.NESTING_DEPTH_MAX}", at)
        return known

    def table_inside(self, at: int, name: str, depth: int) -> Cost:
        entries = self.table_head(at, name)
        height, tables, size = 1, 1, entries[3]
        for f, entry, what in self.fields_here(name, entries[1], entries[2]):
            if f.kind.paired:
                one = f.kind.tag == "union"
                cost = (self.union if one else self.union_vector)(f, entries, entry, what, depth)
            else:
                cost = self.plain_field(f, entries, entry, what, depth)
            height, tables, size = max(height, 1 + cost[0]), tables + cost[1], size + cost[2]
        if tables > self.tables_max or size > self.bytes_max:
            raise self.bad(f"{name} shares its parts so often that it would expand beyond measure", at)
        return height, tables, size

    def fields_here(self, name: str, vtable: int, vtable_size: int) -> list[Place]:
        """The fields of a table that are present or must be. Tables that share a vtable share the answer: with many optional
        fields, asking for each in every table would cost far more than the few bytes that such a table takes."""
        found = self.here.get((vtable, name))
        if found is None:
            if name not in self.places:
                self.places[name] = places(self.schema.types[name])
            slots = struct.unpack_from(f"<{vtable_size // 2}H", self.data, vtable)
            found = self.here[vtable, name] = [
                place
                for place in self.places[name]
                if place[0].required or any(slots[place[1] // 2 : place[1] // 2 + 1 + place[0].kind.paired])
            ]
        return found

    def bytes_item(self, p: int, what: str, depth: int) -> Cost:
        """An item of a list[bytes], which is a table of one field."""
        at = self.target(p, what)
        if depth >= limits.NESTING_DEPTH_MAX:
            raise self.bad(f"tables nested deeper than {limits.NESTING_DEPTH_MAX}", at)
        p = self.position(self.table_head(at, what), 4, 4, 4, what)
        return (1, 1, self.text("bytes", self.target(p, what), what)[2]) if p else (1, 1, 0)

    def table_head(self, at: int, name: str) -> tuple[int, int, int, int]:
        """Position, vtable, vtable's size and table's size of a table, all inside the buffer."""
        self.need(at, 4, 4, name)
        vtable = at - I4(self.data, at)[0]
        self.need(vtable, 4, 2, f"the vtable of {name}")
        vtable_size, table_size = U2(self.data, vtable)[0], U2(self.data, vtable + 2)[0]
        if vtable_size < 4 or vtable_size % 2:
            raise self.bad(f"the vtable of {name} has an impossible size", vtable)
        self.need(vtable, vtable_size, 2, f"the vtable of {name}")
        if table_size < 4:
            raise self.bad(f"{name} has an impossible size", vtable + 2)
        self.need(at, table_size, 4, name)
        return at, vtable, vtable_size, table_size

    def position(self, entries: tuple[int, int, int, int], entry: int, size: int, align: int, what: str) -> int:
        """Where a field stands; 0 when it is absent."""
        at, vtable, vtable_size, table_size = entries
        offset: int = U2(self.data, vtable + entry)[0] if entry < vtable_size else 0
        if not offset:
            return 0
        if offset < 4 or offset + size > table_size:
            raise self.bad(f"{what} lies outside its table", at + offset)
        self.need(at + offset, size, align, what)
        return at + offset

    def plain_field(self, f: FieldDef, entries: tuple[int, int, int, int], entry: int, what: str, depth: int) -> Cost:
        size, align = self.shape(f.kind)
        p = self.position(entries, entry, size, align, what)
        if not p:
            if f.required:
                raise self.bad(f"{what} is absent", entries[0])
            return 0, 0, 0
        return self.value(f.kind, p, what, depth)

    def union(self, f: FieldDef, entries: tuple[int, int, int, int], entry: int, what: str, depth: int) -> Cost:
        tag_at = self.position(entries, entry, 1, 1, what)
        value_at = self.position(entries, entry + 2, 4, 4, what)
        tag = self.data[tag_at] if tag_at else 0
        if bool(tag) != bool(value_at):
            raise self.bad(f"{what} has a union's tag without its value, or the reverse", entries[0])
        if not tag:
            if f.required:
                raise self.bad(f"{what} is absent", entries[0])
            return 0, 0, 0
        if tag > len(f.kind.names):
            raise self.bad(f"{what} holds an unknown member of the union ({tag})", tag_at)
        return self.table(self.target(value_at, what), f.kind.names[tag - 1], depth + 1)

    def union_vector(self, f: FieldDef, entries: tuple[int, int, int, int], entry: int, what: str, depth: int) -> Cost:
        """A vector of unions is two vectors of equal length: the members' numbers, and the tables."""
        numbers_at = self.position(entries, entry, 4, 4, what)
        values_at = self.position(entries, entry + 2, 4, 4, what)
        if bool(numbers_at) != bool(values_at):
            raise self.bad(f"{what} has a vector of unions' types without its values, or the reverse", entries[0])
        if not values_at:
            if f.required:
                raise self.bad(f"{what} is absent", entries[0])
            return 0, 0, 0
        numbers, values = self.target(numbers_at, what), self.target(values_at, what)
        # The same values may be read with different numbers: only the pair was checked.
        key = (values, f"{numbers}[{f.kind.item}]")
        known = self.done.get(key)
        if known is None or depth + known[0] > limits.NESTING_DEPTH_MAX:
            known = self.done[key] = self.union_items(f.kind, numbers, values, what, depth)
        return known

    def union_items(self, kind: Kind, numbers: int, values: int, what: str, depth: int) -> Cost:
        assert kind.item is not None
        count = self.counted(numbers, 1, what)
        if count != self.counted(values, 4, what):
            raise self.bad(f"{what} has more types of unions than values, or fewer", values)
        self.work(count, 0, what, values)
        height, tables, total = 0, 0, 5 * count
        for index in range(count):
            number = self.data[numbers + 4 + index]
            if not 0 < number <= len(kind.item.names):
                raise self.bad(f"{what} holds an unknown member of the union ({number})", numbers + 4 + index)
            at = self.target(values + 4 + 4 * index, what)
            cost = self.table(at, kind.item.names[number - 1], depth + 1)
            height, tables, total = max(height, cost[0]), tables + cost[1], total + cost[2]
            if tables > self.tables_max or total > self.bytes_max:
                raise self.bad(f"{what} shares its parts so often that it would expand beyond measure", values)
        return height, tables, total

    def counted(self, at: int, size: int, what: str) -> int:
        """The count of a vector of items of a size, all inside the buffer."""
        self.need(at, 4, 4, what)
        count: int = U4(self.data, at)[0]
        self.need(at + 4, count * size, 1, what)
        return count

    def shape(self, kind: Kind) -> tuple[int, int]:
        """Size and alignment in a slot or vector."""
        if kind.tag == "struct":
            plan = self.struct_plan(kind.name)
            return plan.size, plan.align
        if kind.tag == "uuid":
            return 16, 1
        tag = {"datetime": "i64", "enum": self.base(kind.name) if kind.tag == "enum" else ""}.get(kind.tag, kind.tag)
        size = SCALARS[tag].size if tag in SCALARS else 4
        return size, size

    def base(self, name: str) -> str:
        return self.schema.types[name].base

    def struct_plan(self, name: str) -> Any:
        return plan_struct(self.schema.types[name], self.struct_plan, self.base)

    def value(self, kind: Kind, p: int, what: str, depth: int) -> Cost:
        """What stands at a slot whose own bytes were checked."""
        if kind.inline:
            return 0, 0, 0
        at = self.target(p, what)
        if kind.tag == "table":
            return self.table(at, kind.name, depth + 1)
        if kind.tag == "vector":
            assert kind.item is not None
            return self.vector(kind.item, at, what, depth)
        return self.text(kind.tag, at, what)

    def text(self, tag: str, at: int, what: str) -> Cost:
        known = self.done.get((at, ":" + tag))
        if known is not None:
            return known
        self.need(at, 4, 4, what)
        size: int = U4(self.data, at)[0]
        self.need(at + 4, size + (tag != "bytes"), 1, what)
        if tag != "bytes":
            self.work(0, size, what, at)
            self.characters(tag, at, size, what)
        self.done[at, ":" + tag] = cost = (0, 0, size)
        return cost

    def characters(self, tag: str, at: int, size: int, what: str) -> None:
        if self.data[at + 4 + size]:
            raise self.bad(f"{what} is not terminated", at)
        try:
            text = self.data[at + 4 : at + 4 + size].decode()
            if tag == "decimal" and not Decimal(text).is_finite():
                raise self.bad(f"{what} is not finite", at)
        except UnicodeDecodeError:
            raise self.bad(f"{what} is not UTF-8", at) from None
        except InvalidOperation:
            raise self.bad(f"{what} is not a decimal", at) from None

    def vector(self, item: Kind, at: int, what: str, depth: int) -> Cost:
        # A vector of tables checked at one depth may stand too deep when reached on another path: see ``table``.
        known = self.done.get((at, f"[{item}]"))
        if known is not None and depth + known[0] <= limits.NESTING_DEPTH_MAX:
            return known
        size, align = self.shape(item)
        self.need(at, 4, 4, what)
        count: int = U4(self.data, at)[0]
        if count and (at + 4) % align:
            raise self.bad(f"{what} is not aligned to {align} bytes", at + 4)
        self.need(at + 4, count * size, 1, what)
        height, tables, total = 0, 0, count * size
        if not item.inline:
            self.work(count, 0, what, at)
            for p in range(at + 4, at + 4 + count * size, size):
                cost = self.value(item, p, what, depth) if item.tag != "bytes" else self.bytes_item(p, what, depth)
                height, tables, total = max(height, cost[0]), tables + cost[1], total + cost[2]
                if tables > self.tables_max or total > self.bytes_max:
                    raise self.bad(f"{what} shares its parts so often that it would expand beyond measure", at)
        self.done[at, f"[{item}]"] = cost = (height, tables, total)
        return cost
