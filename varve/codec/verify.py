"""Checking bytes of any origin before anything reads them.

Bounds, alignment, vtables, UTF-8, required fields, union tags, depth. All offsets of a FlatBuffer point forward, so there are
no cycles; but tables may be shared, and sharing through many levels lets a few bytes stand for astronomically many values.
Each place is therefore checked once, and what it expands to when read is counted: more tables or bytes than an honest buffer
of that size could hold are refused.

Places may also overlap, as no writer lays them out: each byte of a small buffer could begin a vector that reaches to its end. So
what is looked at is counted as well (``WORK_FREE``): in an honest buffer every table, offset and item has bytes of its own.

A nested buffer is checked as the whole buffer that it is, at the depth at which it stands and on the same count.
"""

from __future__ import annotations

import struct
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from varve import limits
from varve.codec.plan import plan_struct
from varve.codec.schema import SCALARS, FieldDef, Kind, Schema
from varve.errors import MalformedEvent

if TYPE_CHECKING:
    from varve.codec.event_type import EventType

__all__ = ["is_buffer", "verify_event", "verify_nested"]

U2: Final = struct.Struct("<H").unpack_from
U4: Final = struct.Struct("<I").unpack_from
I4: Final = struct.Struct("<i").unpack_from

SHARED_TABLES_MAX: Final = 65_536
"""Tables that a buffer may hold, when read, beyond what fits it without sharing."""

SHARED_BYTES_MAX: Final = 2**24
"""The same for the bytes of strings and vectors."""

WORK_BYTES: Final = 2
"""For so many bytes, checking a buffer may take one step. A table, a field behind an offset and an item behind one are a step
each, and so are 16 bytes of text and 4 entries of a vtable; an honest buffer has at least 4 bytes for each."""

WORK_FREE: Final = 16_384
"""Steps beyond that, of an event as a whole."""

Cost = tuple[int, int, int]
"""What a place expands to when read: depth, tables, bytes."""

NOTHING: Final[Cost] = (0, 0, 0)

BLOB: Final = Kind("table", name="an item of list[bytes]")
"""FlatBuffers has no vectors of vectors: each item is a table of one field. No type has this name."""

BLOB_FIELDS: Final = (FieldDef("data", Kind("bytes"), optional=True),)


def verify_event(compiled: EventType, buffer: bytes | memoryview) -> None:
    """MalformedEvent unless the buffer holds a valid event of the type. Its first byte counts as 8-aligned."""
    data = bytes(buffer)
    if len(data) > limits.EVENT_BYTES_MAX:
        raise MalformedEvent(
            f"an event of {len(data)} bytes; at most {limits.EVENT_BYTES_MAX} are allowed", offset=None
        )
    verifier = _Verifier(compiled.schema, data)
    verifier.left += WORK_FREE
    verifier.root(compiled.schema.root, 1)


def verify_nested(schema: Schema, name: str, data: bytes, depth: int) -> None:
    """MalformedEvent unless the bytes hold a buffer of a table of the schema, at a depth of something else. What passes, passes
    inside of that as well: each nested buffer brings the work that it may take."""
    _Verifier(schema, data, f"not a valid {name}: ").root(name, depth)


def is_buffer(schema: Schema, name: str, data: bytes, depth: int) -> bool:
    """Whether ``verify_nested`` lets the bytes pass."""
    try:
        verify_nested(schema, name, data, depth)
    except MalformedEvent:
        return False
    return True


class _Rule(NamedTuple):
    """What is checked of a field of a table: where its entry in the vtable is, and size and alignment in the table."""

    kind: Kind
    what: str
    required: bool
    entry: int
    size: int
    align: int
    label: str
    """Under which what an offset points to is remembered as checked."""


class _Rules(NamedTuple):
    """Those of all fields of a table in order of their entries; ``needed`` is the last entry of a required one."""

    fields: tuple[_Rule, ...]
    needed: int


class _Head(NamedTuple):
    """What a vtable says of tables of one type: all that needs no look at the table itself is checked."""

    size: int
    aligned: tuple[tuple[int, str], ...]
    """Offsets that stand at a multiple of 8; two at most, since all others follow."""
    behind: tuple[tuple[_Rule, int, int], ...]
    """Fields behind offsets: their place in the table, and before it that of the first of a pair."""


def _rules(schema: Schema, name: str) -> _Rules:
    """The rules of a table, worked out once for each schema."""
    known = schema.notes.get(name)
    if known is None:
        found = []
        entry = 4
        for f in BLOB_FIELDS if name == BLOB.name else schema.types[name].fields:
            size, align = shape_of(schema, f.kind)
            label = str(f.kind.item) if f.kind.tag == "vector" else str(f.kind)
            found.append(_Rule(f.kind, f"{name}.{f.name}", f.required, entry, size, align, label))
            entry += 4 if f.kind.paired else 2
        needed = max((rule.entry for rule in found if rule.required), default=0)
        known = schema.notes[name] = _Rules(tuple(found), needed)
    return known


def shape_of(schema: Schema, kind: Kind) -> tuple[int, int]:
    """Size and alignment in a slot or vector."""
    if kind.tag == "struct":
        known = schema.notes.get(kind.name)
        if known is None:
            known = schema.notes[kind.name] = plan_struct(
                schema.types[kind.name], lambda name: struct_plan_of(schema, name), lambda name: schema.types[name].base
            )
        return known.size, known.align
    if kind.tag == "uuid":
        return 16, 1
    tag = {"datetime": "i64", "enum": schema.types[kind.name].base if kind.tag == "enum" else ""}.get(
        kind.tag, kind.tag
    )
    size = SCALARS[tag].size if tag in SCALARS else 4
    return size, size


def struct_plan_of(schema: Schema, name: str) -> Any:
    shape_of(schema, Kind("struct", name=name))
    return schema.notes[name]


class _Verifier:
    """``start`` says of what buffer the complaints are, ``base`` where it begins in the outermost one."""

    def __init__(self, schema: Schema, data: bytes | memoryview, start: str = "", base: int = 0) -> None:
        self.schema = schema
        self.data = data
        self.size = len(data)
        self.start = start or f"not a valid {schema.root}: "
        self.base = base
        self.done: dict[tuple[int, str], Cost] = {}
        self.heads: dict[tuple[int, str], _Head] = {}
        self.left = self.size // WORK_BYTES
        self.tables_max = self.size // 8 + SHARED_TABLES_MAX
        self.bytes_max = self.size + SHARED_BYTES_MAX

    def bad(self, reason: str, at: int) -> MalformedEvent:
        return MalformedEvent(f"{self.start}{reason} at byte {self.base + at}", offset=self.base + at)

    def beyond(self, what: str, at: int) -> MalformedEvent:
        return self.bad(f"{what} shares its parts so often that it would expand beyond measure", at)

    def work(self, steps: int, what: str, at: int) -> None:
        """Count what is about to be looked at."""
        self.left -= steps
        if self.left < 0:
            raise self.bad(f"{what} overlaps with other parts so often that checking them would take too long", at)

    def need(self, at: int, size: int, align: int, what: str) -> None:
        """``size`` bytes at ``at`` must be inside the buffer and aligned."""
        if at < 0 or at > self.size or size > self.size - at:
            raise self.bad(f"{what} reaches outside the buffer", at)
        if at % align:
            raise self.bad(f"{what} is not aligned to {align} bytes", at)

    def root(self, name: str, depth: int) -> Cost:
        self.need(0, 4, 4, "the root offset")
        return self.table(self.target(0, "the root"), name, depth)

    def target(self, at: int, what: str) -> int:
        """Where the uoffset at ``at`` points to; only forward, and 4-aligned."""
        offset: int = U4(self.data, at)[0]
        if offset < 4 or offset > self.size - at:
            raise self.bad(f"the offset of {what} points outside the buffer", at)
        if (at + offset) % 4:
            raise self.bad(f"{what} is not aligned to 4 bytes", at + offset)
        return at + offset

    # -- tables ------------------------------------------------------------------------------------------------------

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
        vtable = self.vtable(at, name)
        known = self.heads.get((vtable, name))
        if known is None:
            known = self.heads[vtable, name] = self.head(at, vtable, name)
        self.work(1 + len(known.behind), name, at)
        self.need(at, known.size, 4, name)
        for offset, what in known.aligned:
            self.need(at + offset, 8, 8, what)
        height, tables, size = 1, 1, known.size
        for rule, first, offset in known.behind:
            cost = self.field(rule, at, first, offset, depth)
            height, tables, size = max(height, 1 + cost[0]), tables + cost[1], size + cost[2]
        if tables > self.tables_max or size > self.bytes_max:
            raise self.beyond(name, at)
        return height, tables, size

    def vtable(self, at: int, name: str) -> int:
        """Where the vtable of a table stands, as far as it says how long it is."""
        self.need(at, 4, 4, name)
        vtable: int = at - I4(self.data, at)[0]
        self.need(vtable, 4, 2, f"the vtable of {name}")
        return vtable

    def sizes(self, vtable: int, name: str) -> tuple[int, int]:
        """A vtable's size, all of it inside the buffer, and that of its tables."""
        vtable_size, table_size = U2(self.data, vtable)[0], U2(self.data, vtable + 2)[0]
        if vtable_size < 4 or vtable_size % 2:
            raise self.bad(f"the vtable of {name} has an impossible size", vtable)
        self.need(vtable, vtable_size, 2, f"the vtable of {name}")
        if table_size < 4:
            raise self.bad(f"{name} has an impossible size", vtable + 2)
        return vtable_size, table_size

    def head(self, at: int, vtable: int, name: str) -> _Head:
        """What a vtable says, seen first from the table at ``at``."""
        vtable_size, table_size = self.sizes(vtable, name)
        rules, needed = _rules(self.schema, name)
        self.work(min(vtable_size // 2, 2 * len(rules)) // 4, name, vtable)
        aligned: dict[int, tuple[int, str]] = {}
        behind = []
        for rule in rules:
            if rule.entry >= vtable_size and needed < vtable_size:
                break
            first = offset = self.entry(at, vtable, rule, rule.entry, vtable_size, table_size)
            if rule.kind.paired:
                offset = self.entry(at, vtable, rule, rule.entry + 2, vtable_size, table_size)
            if not (first or offset):
                if rule.required:
                    raise self.bad(f"{rule.what} is absent", at)
            elif not rule.kind.inline:
                behind.append((rule, first, offset))
            elif rule.align == 8:
                aligned.setdefault(offset % 8, (offset, rule.what))
        return _Head(table_size, tuple(aligned.values()), tuple(behind))

    def entry(self, at: int, vtable: int, rule: _Rule, entry: int, vtable_size: int, table_size: int) -> int:
        """Where a vtable places a field; 0 when it is absent."""
        offset: int = U2(self.data, vtable + entry)[0] if entry < vtable_size else 0
        size, align = rule.size, rule.align
        if rule.kind.tag == "union" and entry == rule.entry:
            size = align = 1  # the member's number
        if offset and (offset < 4 or offset + size > table_size):
            raise self.bad(f"{rule.what} lies outside its table", at + offset)
        if offset % min(align, 4):  # tables begin at multiples of 4
            raise self.bad(f"{rule.what} is not aligned to {align} bytes", at + offset)
        return offset

    def field(self, rule: _Rule, at: int, first: int, offset: int, depth: int) -> Cost:
        """A field of the table at ``at`` that is there, or a pair of which one is."""
        if rule.kind.tag == "union":
            return self.union(rule, at, first, offset, depth)
        if not rule.kind.paired:
            return self.value(rule.kind, rule.label, at + offset, rule.what, depth)
        if not (first and offset):
            raise self.bad(f"{rule.what} has a vector of unions' types without its values, or the reverse", at)
        return self.union_vector(rule, at + first, at + offset, depth)

    # -- unions ------------------------------------------------------------------------------------------------------

    def union(self, rule: _Rule, at: int, first: int, offset: int, depth: int) -> Cost:
        tag = self.data[at + first] if first else 0
        if bool(tag) != bool(offset):
            raise self.bad(f"{rule.what} has a union's tag without its value, or the reverse", at)
        if not tag:
            if rule.required:
                raise self.bad(f"{rule.what} is absent", at)
            return NOTHING
        if tag > len(rule.kind.names):
            raise self.bad(f"{rule.what} holds an unknown member of the union ({tag})", at + first)
        return self.table(self.target(at + offset, rule.what), rule.kind.names[tag - 1], depth + 1)

    def union_vector(self, rule: _Rule, numbers_at: int, values_at: int, depth: int) -> Cost:
        """A vector of unions is two vectors of equal length: the members' numbers, and the tables."""
        numbers, values = self.target(numbers_at, rule.what), self.target(values_at, rule.what)
        # The same values may be read with different numbers: only the pair was checked.
        key = (values, f"{numbers}[{rule.label}]")
        known = self.done.get(key)
        if known is None or depth + known[0] > limits.NESTING_DEPTH_MAX:
            known = self.done[key] = self.union_items(rule.kind, numbers, values, rule.what, depth)
        return known

    def union_items(self, kind: Kind, numbers: int, values: int, what: str, depth: int) -> Cost:
        assert kind.item is not None
        count = self.counted(numbers, 1, what)
        if count != self.counted(values, 4, what):
            raise self.bad(f"{what} has more types of unions than values, or fewer", values)
        self.work(count, what, values)
        height, tables, total = 0, 0, 5 * count
        for index in range(count):
            number = self.data[numbers + 4 + index]
            if not 0 < number <= len(kind.item.names):
                raise self.bad(f"{what} holds an unknown member of the union ({number})", numbers + 4 + index)
            at = self.target(values + 4 + 4 * index, what)
            cost = self.table(at, kind.item.names[number - 1], depth + 1)
            height, tables, total = max(height, cost[0]), tables + cost[1], total + cost[2]
            if tables > self.tables_max or total > self.bytes_max:
                raise self.beyond(what, values)
        return height, tables, total

    def counted(self, at: int, size: int, what: str) -> int:
        """The count of a vector of items of a size, all inside the buffer."""
        self.need(at, 4, 4, what)
        count: int = U4(self.data, at)[0]
        self.need(at + 4, count * size, 1, what)
        return count

    # -- what stands behind an offset --------------------------------------------------------------------------------

    def value(self, kind: Kind, label: str, p: int, what: str, depth: int) -> Cost:
        """What the uoffset at a slot whose own bytes were checked points to."""
        at = self.target(p, what)
        if kind.tag == "table":
            return self.table(at, kind.name, depth + 1)
        if kind.tag == "vector":
            assert kind.item is not None
            return self.vector(kind.item, label, at, what, depth)
        if kind.nested:
            return self.nested(kind.nested, label, at, what, depth)
        return self.text(kind.tag, at, what)

    def text(self, tag: str, at: int, what: str) -> Cost:
        known = self.done.get((at, ":" + tag))
        if known is not None:
            return known
        self.need(at, 4, 4, what)
        size: int = U4(self.data, at)[0]
        self.need(at + 4, size + (tag != "bytes"), 1, what)
        if tag != "bytes":
            self.work(size // 16, what, at)
            self.characters(tag, at, size, what)
        self.done[at, ":" + tag] = cost = (0, 0, size)
        return cost

    def characters(self, tag: str, at: int, size: int, what: str) -> None:
        if self.data[at + 4 + size]:
            raise self.bad(f"{what} is not terminated", at)
        try:
            text = str(self.data[at + 4 : at + 4 + size], "utf-8")
            if tag == "decimal" and not Decimal(text).is_finite():
                raise self.bad(f"{what} is not finite", at)
        except UnicodeDecodeError:
            raise self.bad(f"{what} is not UTF-8", at) from None
        except InvalidOperation:
            raise self.bad(f"{what} is not a decimal", at) from None

    def nested(self, name: str, label: str, at: int, what: str, depth: int) -> Cost:
        """A buffer in a vector of bytes. To whoever reads this event it is bytes: what it expands to is counted by itself."""
        known = self.done.get((at, label))
        if known is not None and depth + known[0] <= limits.NESTING_DEPTH_MAX:
            return known
        size = self.counted(at, 1, what)
        start = f"{self.start}{what} holds no valid {name}: "
        inner = _Verifier(self.schema, memoryview(self.data)[at + 4 : at + 4 + size], start, self.base + at + 4)
        inner.left = granted = min(inner.left, self.left)
        height = inner.root(name, depth + 1)[0]
        self.left -= granted - inner.left
        self.done[at, label] = cost = (height, 0, size)
        return cost

    def vector(self, item: Kind, label: str, at: int, what: str, depth: int) -> Cost:
        # A vector of tables checked at one depth may stand too deep when reached on another path: see ``table``.
        known = self.done.get((at, f"[{label}]"))
        if known is not None and depth + known[0] <= limits.NESTING_DEPTH_MAX:
            return known
        size, align = shape_of(self.schema, item)
        count = self.counted(at, size, what)
        if count and (at + 4) % align:
            raise self.bad(f"{what} is not aligned to {align} bytes", at + 4)
        height, tables, total = 0, 0, count * size
        if not item.inline:
            self.work(count, what, at)
            item = BLOB if item.tag == "bytes" else item
            for p in range(at + 4, at + 4 + count * size, size):
                cost = self.value(item, label, p, what, depth)
                height, tables, total = max(height, cost[0]), tables + cost[1], total + cost[2]
                if tables > self.tables_max or total > self.bytes_max:
                    raise self.beyond(what, at)
        self.done[at, f"[{label}]"] = cost = (height, tables, total)
        return cost
