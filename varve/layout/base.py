"""The side table ``base``: what an archived beginning of the log leaves behind. Pure bytes.

Blocks below the *horizon* (the first retained global sequence) live in archives; what later blocks build on stays here: who
the store is, the names, types and streams that were declared, where each stream and each name stood, and the idempotency keys.
Base and retained blocks together give index and metadata, as the whole log did before.

=============  ===========================================================================================
``u32`` 0      ``u32 crc32 of the key and the rest | u16 version 1 | u16 length of the open key token | 16s uuid |
               i64 created at (ns) | u64 horizon | i64 time of the last archived commit (ns) | u64 first sequence of that
               commit | u32 streams | u16 names | u16 types | u64 idempotency keys | u32 further chunks | open key token``
``u32`` n      ``u32 crc32 of the key and the rest``, then records ``u8 kind | u32 length | body``
=============  ===========================================================================================

Keys are big-endian, values little-endian. Records stand in order of their kinds, of one kind in order of their numbers:

====  ==============================  ====================================================================
kind  body
====  ==============================  ====================================================================
1     a name                          UTF-8
2     an event type                   as in ``meta``
3     where a name stood              its last index entry: runs
4     a stream, and where it stood    ``u16 name number | u16 length of the id key | id key | u64 first stream sequence of
                                      its last index entry``, the runs of that
5     an idempotency key              ``u16 length of the token | token``, the record as in ``meta``; in order of the tokens
====  ==============================  ====================================================================

The *open key* is that of the last archived commit, if it had one: blocks behind the horizon may continue it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from varve.layout.records import IdempotencyRecord, TypeRecord, decode_idempotency, decode_name, decode_type, malformed
from varve.layout.runs import Run, decode_runs, encode_runs

TABLE = "base"
VERSION = 1
CHUNK_BYTES = 1 << 16
"""A chunk ends with the record that reaches it."""

_CRC = struct.Struct("<I")
_HEAD = struct.Struct("<HH16sqQqQIHHQI")
_RECORD = struct.Struct("<BI")
_STREAM = struct.Struct("<HH")
_U16 = struct.Struct("<H")
_U64 = struct.Struct("<Q")
_KEY = struct.Struct(">I")

HEAD_KEY = _KEY.pack(0)


@dataclass(slots=True)
class Base:
    """What an archived beginning of the log leaves behind."""

    uuid: bytes
    created_at_ns: int
    horizon: int
    """The first retained global sequence: a block begins there."""
    last_time_ns: int
    """When the last archived commit was recorded."""
    commit: int
    """Its first sequence."""
    open_key: bytes = b""
    """Its key token; empty without one."""
    names: list[str] = field(default_factory=list)
    types: list[TypeRecord] = field(default_factory=list)
    name_runs: list[list[Run]] = field(default_factory=list)
    """The last index entry of each name."""
    streams: list[tuple[int, bytes, int, list[Run]]] = field(default_factory=list)
    """Name number, id key, first stream sequence and runs of the last index entry of each stream."""
    keys: dict[bytes, IdempotencyRecord] = field(default_factory=dict)

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and values of the table, in key order. The same base gives the same bytes."""
        chunks = list(_chunks(self._records()))
        head = _HEAD.pack(
            VERSION,
            len(self.open_key),
            self.uuid,
            self.created_at_ns,
            self.horizon,
            self.last_time_ns,
            self.commit,
            len(self.streams),
            len(self.names),
            len(self.types),
            len(self.keys),
            len(chunks),
        )
        for number, chunk in enumerate((head + self.open_key, *chunks)):
            key = _KEY.pack(number)
            yield key, _CRC.pack(zlib.crc32(chunk, zlib.crc32(key))) + chunk

    def _records(self) -> Iterator[bytes]:
        for name in self.names:
            yield _record(1, name.encode())
        for declared in self.types:
            yield _record(2, declared.encode())
        for runs in self.name_runs:
            yield _record(3, encode_runs(runs))
        for name_number, id_key, position, runs in self.streams:
            head = _STREAM.pack(name_number, len(id_key)) + id_key + _U64.pack(position)
            yield _record(4, head + encode_runs(runs))
        for token, known in sorted(self.keys.items()):
            yield _record(5, _U16.pack(len(token)) + token + known.encode())


def _record(kind: int, body: bytes) -> bytes:
    return _RECORD.pack(kind, len(body)) + body


def _chunks(records: Iterable[bytes]) -> Iterator[bytes]:
    held: list[bytes] = []
    size = 0
    for one in records:
        held.append(one)
        size += len(one)
        if size >= CHUNK_BYTES:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def decode_head(value: bytes | None) -> Base:
    """A base without its records: who the store is and where the horizon is. Raises ``MalformedRecord``."""
    base, _ = _head(value)
    return base


def _head(value: bytes | None) -> tuple[Base, tuple[int, int, int, int, int]]:
    """The same, and how many streams, names, types, keys and chunks there are."""
    if value is None or not _is_right(HEAD_KEY, value):
        raise malformed("head of what was archived", value or b"")
    try:
        version, token_bytes, uuid, created, horizon, last, commit, *counts = _HEAD.unpack_from(value, _CRC.size)
    except struct.error:
        raise malformed("head of what was archived", value) from None
    token = value[_CRC.size + _HEAD.size :]
    if version != VERSION or len(token) != token_bytes:
        raise malformed("head of what was archived, of this version,", value)
    streams, names, types, keys, chunks = counts
    return Base(uuid, created, horizon, last, commit, bytes(token)), (streams, names, types, keys, chunks)


def _is_right(key: bytes, value: bytes) -> bool:
    return len(value) >= _CRC.size and _CRC.unpack_from(value)[0] == zlib.crc32(value[_CRC.size :], zlib.crc32(key))


def decode_base(pairs: Iterable[tuple[bytes, bytes]]) -> Base:
    """A base from the table's keys and values, in key order. Raises ``MalformedRecord``."""
    found = iter(pairs)
    key, value = next(found, (HEAD_KEY, b""))
    base, (streams, names, types, keys, chunks) = _head(value if key == HEAD_KEY else None)
    number = 0
    for number, (key, value) in enumerate(found, 1):
        if key != _KEY.pack(number) or not _is_right(key, value):
            raise malformed(f"chunk {number} of what was archived", value)
        _take(base, value)
    if (number, len(base.streams), len(base.names), len(base.types), len(base.keys), len(base.name_runs)) != (
        chunks,
        streams,
        names,
        types,
        keys,
        names,
    ):
        raise malformed("complete list of what was archived", value)
    return base


def _take(base: Base, chunk: bytes) -> None:
    """The records of a chunk."""
    at = _CRC.size
    try:
        while at < len(chunk):
            kind, size = _RECORD.unpack_from(chunk, at)
            at += _RECORD.size + size
            if at > len(chunk):
                raise malformed("record of what was archived", chunk)
            _DECODERS[kind](base, chunk[at - size : at])
    except (struct.error, KeyError):
        raise malformed("record of what was archived", chunk) from None


def _take_name(base: Base, body: bytes) -> None:
    base.names.append(decode_name(body))


def _take_type(base: Base, body: bytes) -> None:
    base.types.append(decode_type(body))


def _take_name_end(base: Base, body: bytes) -> None:
    base.name_runs.append(decode_runs(body))


def _take_stream(base: Base, body: bytes) -> None:
    name_number, size = _STREAM.unpack_from(body)
    at = _STREAM.size + size
    position: int = _U64.unpack_from(body, at)[0]
    base.streams.append((name_number, body[_STREAM.size : at], position, decode_runs(body[at + _U64.size :])))


def _take_key(base: Base, body: bytes) -> None:
    at = _U16.size + _U16.unpack_from(body)[0]
    base.keys[body[_U16.size : at]] = decode_idempotency(body[at:])


_DECODERS = {1: _take_name, 2: _take_type, 3: _take_name_end, 4: _take_stream, 5: _take_key}
