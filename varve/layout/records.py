"""Values of the ``meta`` sub-database. Integers are little-endian; every record is a function of the log.

=================  =====================================================================================
store record       ``4s "VRV1" | u32 format version | 16s uuid | i64 created at (ns) | u64 first retained sequence |
                   u64 next sequence | u32 next stream number | u16 next name number | u16 next type number``
name               UTF-8
name number        ``u16``
event type         ``u16 length of name | name (UTF-8) | schema (canonical JSON)``
type numbers       ``u16`` each, oldest version first
stream number      ``u32``
stream             ``u16 name number | id key``
idempotency        ``u64 first sequence | u64 events | 16s content digest``
horizon            ``i64`` when the last archived commit was recorded (ns)
=================  =====================================================================================
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from varve.errors import CorruptedStore, UnsupportedFormat

FORMAT_VERSION = 1
MAGIC = b"VRV1"

_STORE = struct.Struct("<4sI16sqQQIHH")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I64 = struct.Struct("<q")
_IDEMPOTENCY = struct.Struct("<QQ16s")


class MalformedRecord(CorruptedStore, ValueError):
    """A record of metadata or index that nobody can have written: LMDB's pages have no checksums, only blocks have."""


def malformed(what: str, value: bytes | memoryview) -> MalformedRecord:
    """The error for a value that is none of what it should be."""
    return MalformedRecord(
        f"the store holds a damaged record: {bytes(value[:40])!r} is no {what}; repair index and metadata from the log with "
        "varve.ops",
        path="",
    )


class StoreRecord(NamedTuple):
    """The store's own record.

    ``first_sequence`` is the first retained global sequence; ``next_*`` are the numbers that the next event, stream,
    name and type will get.
    """

    uuid: bytes
    created_at_ns: int
    first_sequence: int = 0
    next_sequence: int = 0
    next_stream: int = 0
    next_name: int = 0
    next_type: int = 0

    def encode(self) -> bytes:
        """The record's bytes."""
        return _STORE.pack(MAGIC, FORMAT_VERSION, *self)

    def grown(self, events: int, streams: int = 0, names: int = 0, types: int = 0) -> StoreRecord:
        """The record once so many more are there."""
        uuid, created_at_ns, first_sequence, next_sequence, next_stream, next_name, next_type = self
        return StoreRecord(
            uuid,
            created_at_ns,
            first_sequence,
            next_sequence + events,
            next_stream + streams,
            next_name + names,
            next_type + types,
        )


def unsupported(path: str, version: int) -> UnsupportedFormat:
    """The error for a store whose record has a format version that is not ours."""
    return UnsupportedFormat(
        f"{path} has format version {version}; this Varve reads up to {FORMAT_VERSION}. Upgrade varve-store",
        path=path,
        found=version,
        supported=FORMAT_VERSION,
    )


def decode_store_record(value: bytes | memoryview) -> StoreRecord | int | None:
    """The record; its format version where that is not ours; None where it is no store record."""
    if len(value) < 8 or value[:4] != MAGIC:
        return None
    version: int = _U32.unpack_from(value, 4)[0]
    if version != FORMAT_VERSION:
        return version
    if len(value) != _STORE.size:
        return None
    return StoreRecord(*_STORE.unpack(value)[2:])


def unpack_store_record(value: bytes | memoryview) -> StoreRecord:
    """The record of a store whose format was checked when it was opened. Raises ``MalformedRecord``."""
    try:
        magic, version, *fields = _STORE.unpack(value)
    except struct.error:
        raise malformed("store record", value) from None
    if magic != MAGIC or version != FORMAT_VERSION:
        raise malformed("store record", value)
    return StoreRecord(*fields)


class TypeRecord(NamedTuple):
    """A declared version of an event type."""

    name: str
    schema: bytes

    def encode(self) -> bytes:
        """The record's bytes."""
        raw = self.name.encode()
        return _U16.pack(len(raw)) + raw + self.schema


def decode_type(value: bytes | memoryview) -> TypeRecord:
    """A type record. Raises ``MalformedRecord``."""
    try:
        size: int = _U16.unpack_from(value)[0]
        record = TypeRecord(str(value[2 : 2 + size], "utf-8"), bytes(value[2 + size :]))
    except (struct.error, UnicodeDecodeError):
        raise malformed("event type", value) from None
    if 2 + size > len(value):
        raise malformed("event type", value)
    return record


def decode_name(value: bytes | memoryview) -> str:
    """A name. Raises ``MalformedRecord``."""
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        raise malformed("name", value) from None


def encode_numbers(numbers: list[int]) -> bytes:
    """Type numbers of a name."""
    return struct.pack(f"<{len(numbers)}H", *numbers)


def decode_numbers(value: bytes | memoryview) -> list[int]:
    """Type numbers of a name. Raises ``MalformedRecord``."""
    if len(value) % 2:
        raise malformed("list of type numbers", value)
    return list(struct.unpack(f"<{len(value) // 2}H", value))


encode_name_number = _U16.pack
encode_horizon = _I64.pack
encode_stream_number = _U32.pack


def decode_horizon(value: bytes | memoryview) -> int:
    """When the last archived commit was recorded (ns). Raises ``MalformedRecord``."""
    if len(value) != _I64.size:
        raise malformed("time of what was archived", value)
    time_ns: int = _I64.unpack(value)[0]
    return time_ns


def decode_name_number(value: bytes | memoryview) -> int:
    """A name's number. Raises ``MalformedRecord``."""
    if len(value) != _U16.size:
        raise malformed("number of a name", value)
    number: int = _U16.unpack(value)[0]
    return number


def decode_stream_number(value: bytes | memoryview) -> int:
    """A stream's number. Raises ``MalformedRecord``."""
    if len(value) != _U32.size:
        raise malformed("number of a stream", value)
    number: int = _U32.unpack(value)[0]
    return number


def encode_stream(name_number: int, id_key: bytes) -> bytes:
    """A stream's identity."""
    return _U16.pack(name_number) + id_key


def decode_stream(value: bytes | memoryview) -> tuple[int, bytes]:
    """A stream's name number and id key. Raises ``MalformedRecord``."""
    if len(value) < _U16.size:
        raise malformed("stream", value)
    return _U16.unpack_from(value)[0], bytes(value[2:])


class IdempotencyRecord(NamedTuple):
    """What was written under an idempotency key."""

    first_sequence: int
    count: int  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride] - nobody calls tuple.count
    digest: bytes

    def encode(self) -> bytes:
        """The record's bytes."""
        return _IDEMPOTENCY.pack(*self)


def decode_idempotency(value: bytes | memoryview) -> IdempotencyRecord:
    """An idempotency record. Raises ``MalformedRecord``."""
    if len(value) != _IDEMPOTENCY.size:
        raise malformed("idempotency record", value)
    return IdempotencyRecord(*_IDEMPOTENCY.unpack(value))
