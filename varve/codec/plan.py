"""Where each field of a table or struct stands in the bytes.

Every event our packer writes has one and the same table layout, whatever is absent: ::

    0         root uoffset, always ``table_at``
    4         padding, so that the inline fields are aligned
    vtable_at vtable: its size, the table's size, one u16 per field id (0 = absent)
    table_at  soffset back to the vtable, then the inline fields and uoffsets at fixed places
    end       (multiple of 4) strings, vectors and nested tables in order of declaration

An absent field keeps its bytes (zeros); only its vtable entry is 0. That costs at most 8 bytes per absent scalar and buys
readers with fixed offsets. Nested tables have the same shape without the root uoffset: they start at ``vtable padding`` = 4.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from varve.codec.schema import SCALARS, FieldDef, Kind, TypeDef
from varve.errors import SchemaError

__all__ = ["Slot", "StructPlan", "TablePlan", "plan_struct", "plan_table"]

UOFFSET = 4
VTABLE_REACH = 2**16 - 1
"""A vtable holds 16-bit offsets into the table."""

STRUCT_BYTES_MAX = 2**16 - 1
"""As the official compiler has it; it also ends the doubling of structs that hold two of the next."""


@dataclass(frozen=True, slots=True)
class Slot:
    """One vtable entry: ``pos`` counts from the first byte of the event (of its root uoffset)."""

    field: int
    id: int
    pos: int
    size: int
    align: int
    code: str
    tag: bool = False

    @property
    def entry(self) -> int:
        """Offset of the slot's entry in the vtable."""
        return 4 + 2 * self.id


@dataclass(frozen=True, slots=True)
class StructPlan:
    """Native C layout, little endian: (field, offset, code) per field."""

    size: int
    align: int
    offsets: tuple[int, ...]
    format: str


@dataclass(frozen=True, slots=True)
class TablePlan:
    """The usual layout of a table. ``slots`` are in order of id, ``inline`` in order of position."""

    slots: tuple[Slot, ...]
    inline: tuple[Slot, ...]
    vtable_at: int
    table_at: int
    end: int
    ids: int

    @property
    def vtable_bytes(self) -> int:
        """The size of the vtable."""
        return 4 + 2 * self.ids

    def prefix(self, absent: Iterable[int] = ()) -> bytes:
        """The bytes from the root uoffset to the soffset, with these field indices absent."""
        gone = set(absent)
        entries = [0 if slot.field in gone else slot.pos - self.table_at for slot in self.slots]
        head = struct.pack("<I", self.table_at) + bytes(self.vtable_at - 4)
        vtable = struct.pack(f"<HH{self.ids}H", self.vtable_bytes, self.end - self.table_at, *entries)
        return head + vtable + struct.pack("<i", self.table_at - self.vtable_at)


StructOf = Callable[[str], StructPlan]
"""Finds the plan of a struct by name."""


def inline_shape(kind: Kind, struct_of: StructOf, base_of: Callable[[str], str]) -> tuple[int, int, str]:
    """Size, alignment and ``struct`` code of what a kind keeps in the table itself."""
    if kind.tag == "enum":
        scalar = SCALARS[base_of(kind.name)]
    elif kind.tag == "datetime":
        scalar = SCALARS["i64"]
    elif kind.tag == "uuid":
        return 16, 1, "16s"
    elif kind.tag == "struct":
        plan = struct_of(kind.name)
        return plan.size, plan.align, f"{plan.size}s"
    elif kind.tag == "array":
        assert kind.item is not None
        size, align, _ = inline_shape(kind.item, struct_of, base_of)
        return size * kind.length, align, f"{size * kind.length}s"
    elif kind.tag in SCALARS:
        scalar = SCALARS[kind.tag]
    else:
        return UOFFSET, UOFFSET, "I"
    return scalar.size, scalar.size, scalar.code


def plan_struct(definition: TypeDef, struct_of: StructOf, base_of: Callable[[str], str]) -> StructPlan:
    """Fields in order of declaration, each aligned to its own size; the whole to the widest."""
    at, widest, offsets, codes = 0, max(1, definition.align), [], ["<"]
    for f in definition.fields:
        size, align, code = inline_shape(f.kind, struct_of, base_of)
        pad = -at % align
        offsets.append(at + pad)
        codes.append(f"{pad}x{code}" if pad else code)
        at, widest = at + pad + size, max(widest, align)
    pad = -at % widest
    if at + pad > STRUCT_BYTES_MAX:
        raise SchemaError(f"struct {definition.name} is larger than {STRUCT_BYTES_MAX} bytes")
    codes.append(f"{pad}x" if pad else "")
    if at == 0:
        raise SchemaError(f"struct {definition.name} has no fields; FlatBuffers structs need at least one")
    return StructPlan(at + pad, widest, tuple(offsets), "".join(codes))


def _entries(fields: tuple[FieldDef, ...], struct_of: StructOf, base_of: Callable[[str], str]) -> list[Slot]:
    out: list[Slot] = []
    for index, f in enumerate(fields):
        if f.kind.tag == "union":
            out.append(Slot(index, len(out), 0, 1, 1, "B", tag=True))
        elif f.kind.paired:
            out.append(Slot(index, len(out), 0, UOFFSET, UOFFSET, "I", tag=True))
        size, align, code = inline_shape(f.kind, struct_of, base_of)
        out.append(Slot(index, len(out), 0, size, align, code))
    return out


def _place(entries: list[Slot], fields: tuple[FieldDef, ...], start: int) -> tuple[list[Slot], int]:
    """Offsets first (a packer can then fold them into a constant prefix), then the largest that fits each hole."""
    refs = [slot for slot in entries if not slot.tag and not fields[slot.field].kind.inline]
    rest = [slot for slot in entries if slot not in refs]
    rest.sort(key=lambda slot: (-slot.align, -slot.size, slot.id))
    placed, at = [], start
    for slot in refs:
        placed.append(_at(slot, at))
        at += slot.size
    while rest:
        fitting = next((slot for slot in rest if at % slot.align == 0), None)
        if fitting is None:
            at += 1
            continue
        rest.remove(fitting)
        placed.append(_at(fitting, at))
        at += fitting.size
    return placed, at + -at % 4


def _at(slot: Slot, pos: int) -> Slot:
    return Slot(slot.field, slot.id, pos, slot.size, slot.align, slot.code, slot.tag)


def plan_table(definition: TypeDef, struct_of: StructOf, base_of: Callable[[str], str]) -> TablePlan:
    """The smallest layout among the few possible paddings before the vtable."""
    entries = _entries(definition.fields, struct_of, base_of)
    best: TablePlan | None = None
    for pad in (0, 2, 4, 6):
        table_at = 4 + pad + 4 + 2 * len(entries)
        if table_at % 4:
            continue
        placed, end = _place(entries, definition.fields, table_at + 4)
        if end - table_at > VTABLE_REACH:
            raise SchemaError(f"{definition.name} is too wide: the fixed part of an event holds at most 64 KiB")
        if best is None or end < best.end:
            slots = tuple(sorted(placed, key=lambda slot: slot.id))
            best = TablePlan(slots, tuple(placed), 4 + pad, table_at, end, len(entries))
    assert best is not None
    return best
