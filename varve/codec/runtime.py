"""What generated packers and views call: the parts that would be the same in every one of them."""

from __future__ import annotations

import struct
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from typing import Any, Final
from uuid import UUID

from varve.codec.check import datetime_of, nanoseconds
from varve.codec.schema import INT_RANGES, SCALARS
from varve.errors import MalformedEvent

__all__ = ["PAD_BYTES", "PAD_TEXT", "Z4", "Reject", "datetime_of", "nanoseconds"]

U2: Final = struct.Struct("<H").unpack_from
U4: Final = struct.Struct("<I").unpack_from
I4: Final = struct.Struct("<i").unpack_from
LENGTH: Final = struct.Struct("<I").pack

Z4: Final = bytes(4)
PAD_TEXT: Final = (bytes(4), bytes(3), bytes(2), bytes(1))
"""Zeros after a string, by length & 3: its terminator and up to the next multiple of 4."""


class Packers(dict[int, Callable[..., bytes]]):
    """``struct`` packers of short vectors with their count, by number of items. Longer ones are packed as they come."""

    def __init__(self, code: str, size: int) -> None:
        super().__init__()
        self.code, self.size = code, size

    def __missing__(self, count: int) -> Callable[..., bytes]:
        packer = struct.Struct(
            f"<I{self.code * count if len(self.code) > 1 else f'{count}{self.code}'}{-count * self.size % 4}x"
        ).pack
        if count < SHORT_MAX:
            self[count] = packer
        return packer


SHORT_MAX: Final = 1_024
"""Items (bytes of a string) up to which what packs a vector is kept ready."""

LENGTHS: Final = tuple(map(LENGTH, range(256)))
"""Counts of short strings, packed."""

UOFFSETS: Final = Packers("I", 4)


class Unpackers(dict[int, Callable[[Any, int], tuple[int, ...]]]):
    """Readers of some uoffsets, by their number."""

    def __missing__(self, count: int) -> Callable[[Any, int], tuple[int, ...]]:
        unpack = struct.Struct(f"<{count}I").unpack_from
        if count < SHORT_MAX:
            self[count] = unpack
        return unpack


UOFFSETS_AT: Final = Unpackers()

PAD_BYTES: Final = (b"", bytes(3), bytes(2), bytes(1))
"""Zeros after a vector, by length & 3."""


class Reject(Exception):
    """A value that the fast path does not take; the slow path finds out which and why."""


# -- packing ---------------------------------------------------------------------------------------------------------


def decimal_text(value: Any) -> bytes:
    if type(value) is not Decimal or not value.is_finite():
        raise Reject
    return str(value).encode()


def scalar_vector(tag: str) -> Callable[[Any], bytes]:
    """A packer of number vectors: count, items, padding."""
    code = SCALARS[tag].code
    packers = Packers(code, SCALARS[tag].size)
    allowed = int if tag in INT_RANGES else bool if tag == "bool" else float

    def pack_vector(values: Any) -> bytes:
        count = len(values)
        if type(values) is memoryview:
            if values.format != code:
                raise Reject
            values = values.tolist()
        elif type(values) is not tuple or [*map(type, values)].count(allowed) != count:
            raise Reject
        return packers[count](count, *values)

    return pack_vector


def converted_vector(code: str, size: int, convert: Callable[[Any], Any]) -> Callable[[Any], bytes]:
    """A packer of vectors whose items become one ``struct`` argument each."""
    packers = Packers(code, size)

    def pack_vector(values: Any) -> bytes:
        if type(values) is not tuple:
            raise Reject
        count = len(values)
        return packers[count](count, *map(convert, values))

    return pack_vector


def text_vector(encode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    """A packer of vectors of strings: count, uoffsets, then the items."""

    def pack_vector(values: Any) -> bytes:
        if type(values) is not tuple:
            raise Reject
        count = len(values)
        at = 4 * count
        offsets: list[int] = []
        parts: list[bytes] = []
        for value in values:
            data = encode(value)
            size = len(data)
            pad = PAD_TEXT[size & 3]
            parts += (LENGTH(size), data, pad)
            offsets.append(at)
            at += size + len(pad)
        return UOFFSETS[count](count, *offsets) + b"".join(parts)

    return pack_vector


def bytes_vector(values: Any) -> bytes:
    """A vector of byte strings. FlatBuffers has no vectors of vectors: each is a table of one field, and all share a vtable."""
    if type(values) is not tuple:
        raise Reject
    count = len(values)
    vtable_at = 6 + 4 * count
    at = vtable_at + 6
    offsets, parts = [], [BYTES_VTABLE]
    for index, value in enumerate(values):
        if type(value) is not bytes:
            raise Reject
        size = len(value)
        pad = PAD_BYTES[size & 3]
        offsets.append(at - 4 - 4 * index)
        parts += (BYTES_HEAD(at - vtable_at, 4, size), value, pad)
        at += 12 + size + len(pad)
    return UOFFSETS[count](count, *offsets) + b"".join(parts)


BYTES_VTABLE: Final = struct.pack("<HHHH", 0, 6, 8, 4)
"""Two bytes of padding and the vtable of the table that holds one item of a list[bytes]."""
BYTES_HEAD: Final = struct.Struct("<iII").pack


def table_vector(values: Any, body: Callable[[Any, int], bytes], table_at: int, wide: bool, depth: int) -> bytes:
    """A vector of nested tables. ``wide`` tables hold 8-byte fields: they and the vector begin at multiples of 8 (counted as
    the caller counts)."""
    if type(values) is not tuple:
        raise Reject
    count = len(values)
    at = 4 + 4 * count
    slot = 4
    offsets: list[int] = []
    parts: list[bytes] = []
    for value in values:
        if wide and at & 4:
            parts.append(Z4)
            at += 4
        part = body(value, depth)
        parts.append(part)
        offsets.append(at + table_at - slot)
        at += len(part)
        slot += 4
    return UOFFSETS[count](count, *offsets) + b"".join(parts)


Members = dict[type, tuple[int, Callable[[Any, int], bytes], int]]
"""Of a union, by class: the member's number, what packs it, and where in that its table stands."""


def union_vector(values: Any, members: Members, wide: bool, depth: int) -> bytes:
    """A vector of unions, which is two: the members' numbers, padded to a multiple of 4, then the tables as ``table_vector``
    has them."""
    if type(values) is not tuple:
        raise Reject
    count = len(values)
    numbers = bytearray()
    at = 8 + count + (-count & 3) + 4 * count
    slot = at - 4 * count
    offsets: list[int] = []
    parts: list[bytes] = []
    for value in values:
        found = members.get(type(value))
        if found is None:
            found = next((member for cls, member in members.items() if isinstance(value, cls)), None)
            if found is None:
                raise Reject
        number, body, table_at = found
        if wide and at & 4:
            parts.append(Z4)
            at += 4
        part = body(value, depth)
        numbers.append(number)
        parts.append(part)
        offsets.append(at + table_at - slot)
        at += len(part)
        slot += 4
    head = LENGTH(count) + numbers + PAD_BYTES[count & 3]
    return head + struct.pack(f"<{count + 1}I", count, *offsets) + b"".join(parts)


def encoded_str(value: Any) -> bytes:
    if not isinstance(value, str):
        raise Reject
    return value.encode()


def encoded_uuid(value: Any) -> bytes:
    if not isinstance(value, UUID):
        raise Reject
    return value.bytes


def array_packer(code: str, length: int, convert: Callable[[Any], Any] | None, tag: str) -> Callable[[Any], bytes]:
    """A packer of an array of fixed length, which stands in a struct without its count."""
    allowed = {int} if tag in INT_RANGES else {bool} if tag == "bool" else {float}
    pack = struct.Struct("<" + code * length).pack

    def pack_array(values: Any) -> bytes:
        if type(values) is not tuple or len(values) != length:
            raise Reject
        if convert is not None:
            return pack(*map(convert, values))
        if not allowed.issuperset(map(type, values)):
            raise Reject
        return pack(*values)

    return pack_array


def enum_number(cls: Any) -> Callable[[Any], int]:
    def number(value: Any) -> int:
        if type(value) is not cls and type(value) is not int:
            raise Reject
        return int(value)

    return number


# -- reading ---------------------------------------------------------------------------------------------------------


def absent(what: str) -> MalformedEvent:
    """The error for a field that must be present and is not."""
    return MalformedEvent(f"{what} is absent, and the class declares no default for it", offset=None)


def unknown_member(what: str, tag: int) -> MalformedEvent:
    if not tag:
        return MalformedEvent(f"{what} holds an item without a value (NONE), which has no meaning here", offset=None)
    return MalformedEvent(f"{what} holds member {tag} of the union, which this class does not know", offset=None)


def maker(cls: Any) -> Callable[[], Any]:
    """Makes bare instances: the class itself, where calling it runs no code of the user's."""
    return cls if cls.__new__ is object.__new__ else partial(object.__new__, cls)


def slot(b: Any, table: int, entry: int) -> int:
    """Position of a table's field by its entry's offset in the vtable; 0 when absent."""
    vtable = table - I4(b, table)[0]
    if entry >= U2(b, vtable)[0]:
        return 0
    offset: int = U2(b, vtable + entry)[0]
    return table + offset if offset else 0


def read_str(b: Any, p: int) -> str:
    """The string whose uoffset stands at p. Of the ways to a str, these are the quickest: of bytes and of a memoryview."""
    p += U4(b, p)[0] + 4
    x = b[p : p + U4(b, p - 4)[0]]
    return (x.tobytes() if type(x) is memoryview else x).decode()


def read_bytes(b: Any, p: int) -> bytes:
    p += U4(b, p)[0]
    return bytes(b[p + 4 : p + 4 + U4(b, p)[0]])


def read_bytes_item(b: Any, p: int) -> bytes:
    """One item of a list[bytes]: the table whose uoffset stands at p."""
    p = slot(b, p + U4(b, p)[0], 4)
    return read_bytes(b, p) if p else b""


def read_decimal(b: Any, p: int) -> Decimal:
    return Decimal(read_str(b, p))


def read_uuid(b: Any, p: int) -> UUID:
    return UUID(bytes=bytes(b[p : p + 16]))


def read_datetime(b: Any, p: int) -> Any:
    return datetime_of(_I8(b, p)[0])


_I8: Final = struct.Struct("<q").unpack_from


def scalar_reader(code: str) -> Callable[[Any, int], Any]:
    unpack = struct.Struct("<" + code).unpack_from

    def read(b: Any, p: int) -> Any:
        return unpack(b, p)[0]

    return read


def enum_reader(cls: Any, code: str) -> Callable[[Any, int], Any]:
    """Reads a member; a number that no member has (newer code wrote it) stays an int."""
    unpack = struct.Struct("<" + code).unpack_from
    known = cls._value2member_map_

    def read(b: Any, p: int) -> Any:
        number = unpack(b, p)[0]
        found = known.get(number)
        if found is None:
            try:
                found = cls(number)
            except ValueError:
                return number
            # A flag's class may drop bits that it does not know.
            return found if found == number else number
        return found

    return read


def scalar_vector_reader(tag: str) -> Callable[[Any, int], Any]:
    """Reads a vector of numbers as a typed read-only memoryview into the buffer."""
    code: Any = SCALARS[tag].code
    size = SCALARS[tag].size

    def read(b: Any, p: int) -> Any:
        p += U4(b, p)[0] + 4
        if type(b) is not memoryview:
            b = memoryview(b)
        values = b[p : p + U4(b, p - 4)[0] * size].cast(code)
        return values if values.readonly else values.toreadonly()

    return read


def array_reader(item: Callable[[Any, int], Any], stride: int, length: int) -> Callable[[Any, int], tuple[Any, ...]]:
    """Reads an array of fixed length item by item."""
    size = stride * length

    def read(b: Any, p: int) -> tuple[Any, ...]:
        return tuple([item(b, at) for at in range(p, p + size, stride)])

    return read


def read_union_vector(
    b: Any, q: int, p: int, members: tuple[Callable[[Any, int], Any], ...], what: str
) -> tuple[Any, ...]:
    """The vector of unions whose uoffset stands at p; that of its members' numbers stands at q."""
    q += U4(b, q)[0] + 4
    p += U4(b, p)[0]
    count = U4(b, p)[0]
    if U4(b, q - 4)[0] != count:
        raise MalformedEvent(f"{what} is a vector of unions with more types than values, or fewer", offset=None)
    out = []
    for number in b[q : q + count]:
        p += 4
        if not 0 < number <= len(members):
            raise unknown_member(what, number)
        out.append(members[number - 1](b, p))
    return tuple(out)


def vector_reader(item: Callable[[Any, int], Any], stride: int) -> Callable[[Any, int], tuple[Any, ...]]:
    """Reads a vector item by item."""

    def read(b: Any, p: int) -> tuple[Any, ...]:
        p += U4(b, p)[0]
        start = p + 4
        return tuple([item(b, at) for at in range(start, start + U4(b, p)[0] * stride, stride)])

    return read
