"""The rules of the format, looked at byte by byte and without the codec's own verifier."""

from __future__ import annotations

import itertools
import struct
from typing import Any

from varve.codec import event_type
from varve.codec.schema import SCALARS, Kind, Schema


class Layout:
    """Walks a buffer and asserts the rules of https://flatbuffers.dev/internals/ that a writer must keep."""

    def __init__(self, cls: Any, data: bytes) -> None:
        self.schema: Schema = event_type(cls).schema
        self.data = data
        self.vtables: set[int] = set()
        self.covered = 0

    def u(self, at: int, size: int) -> int:
        assert at % size == 0, f"{size} bytes at {at}"
        assert 0 <= at <= len(self.data) - size
        return int.from_bytes(self.data[at : at + size], "little")

    def root(self) -> None:
        self.table(self.u(0, 4), self.schema.root)

    def table(self, at: int, name: str) -> None:
        assert at % 4 == 0
        vtable = at - struct.unpack_from("<i", self.data, at)[0]
        size, inline = self.u(vtable, 2), self.u(vtable + 2, 2)
        fields = self.schema.types[name].fields
        ids = sum(2 if f.kind.paired else 1 for f in fields)
        assert size == 4 + 2 * ids, "a vtable has an entry for every field id"
        assert inline >= 4
        assert at + inline <= len(self.data)
        taken: list[tuple[int, int]] = [(at, at + 4)]
        entry = vtable + 4
        for f in fields:
            if f.kind.tag == "union":
                tag_at, value_at = self.u(entry, 2), self.u(entry + 2, 2)
                assert bool(tag_at) == bool(value_at), "a union's tag and value are there together"
                entry += 4
                if tag_at:
                    taken += [(at + tag_at, at + tag_at + 1), (at + value_at, at + value_at + 4)]
                    self.value(Kind("table", name=f.kind.names[self.data[at + tag_at] - 1]), at + value_at)
                continue
            if f.kind.paired:
                numbers_at, values_at = self.u(entry, 2), self.u(entry + 2, 2)
                assert bool(numbers_at) == bool(values_at), "a vector of unions is two vectors"
                assert numbers_at or not f.required
                entry += 4
                if numbers_at:
                    taken += [(at + there, at + there + 4) for there in (numbers_at, values_at)]
                    self.unions(f.kind, at + numbers_at, at + values_at)
                continue
            offset = self.u(entry, 2)
            entry += 2
            if not offset:
                assert not f.required, f"{name}.{f.name} is required"
                continue
            width, align = self.shape(f.kind)
            assert (at + offset) % align == 0, f"{name}.{f.name} at {at + offset}"
            assert offset + width <= inline, "fields stand inside of their table"
            taken.append((at + offset, at + offset + width))
            if f.align:
                start = at + offset + self.u(at + offset, 4) + 4
                assert start % f.align == 0, f"{name}.{f.name} is not aligned as asked"
            self.value(f.kind, at + offset)
        taken.sort()
        assert all(a[1] <= b[0] for a, b in itertools.pairwise(taken)), "fields do not overlap"

    def unions(self, kind: Kind, numbers_at: int, values_at: int) -> None:
        assert kind.item is not None
        numbers, values = numbers_at + self.u(numbers_at, 4), values_at + self.u(values_at, 4)
        count = self.u(numbers, 4)
        assert count == self.u(values, 4), "the vectors are equally long"
        for index in range(count):
            number = self.u(numbers + 4 + index, 1)
            assert number, "no item is NONE"
            self.value(Kind("table", name=kind.item.names[number - 1]), values + 4 + 4 * index)

    def value(self, kind: Kind, at: int) -> None:
        if kind.inline:
            return
        offset = self.u(at, 4)
        assert offset >= 4, "offsets point forward"
        there = at + offset
        if kind.tag == "table":
            self.table(there, kind.name)
            return
        count = self.u(there, 4)
        if kind.tag in {"str", "decimal"}:
            self.data[there + 4 : there + 4 + count].decode()
            assert self.data[there + 4 + count] == 0, "a string ends with NUL"
            return
        item = kind.item or Kind("u8")
        width, align = self.shape(item)
        assert count == 0 or (there + 4) % align == 0, "items are aligned from the buffer's start"
        assert there + 4 + count * width <= len(self.data)
        for index in range(count):
            if item.tag == "bytes":
                here = there + 4 + 4 * index
                inner = here + self.u(here, 4)
                vtable = inner - struct.unpack_from("<i", self.data, inner)[0]
                if self.u(vtable, 2) > 4 and self.u(vtable + 4, 2):
                    self.value(Kind("bytes"), inner + self.u(vtable + 4, 2))
            else:
                self.value(item, there + 4 + index * width)

    def shape(self, kind: Kind) -> tuple[int, int]:
        if kind.tag == "struct":
            definition = self.schema.types[kind.name]
            at, widest = 0, max(1, definition.align)
            for f in definition.fields:
                width, align = self.shape(f.kind)
                at, widest = at + -at % align + width, max(widest, align)
            return at + -at % widest, widest
        if kind.tag == "array":
            assert kind.item is not None
            width, align = self.shape(kind.item)
            return width * kind.length, align
        if kind.tag == "uuid":
            return 16, 1
        tag = {"datetime": "i64", "enum": self.schema.types[kind.name].base if kind.tag == "enum" else ""}.get(
            kind.tag, kind.tag
        )
        size = SCALARS[tag].size if tag in SCALARS else 4
        return size, size
