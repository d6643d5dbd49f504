"""Saved state: the environment ``snapshots/``. Pure bytes; derived from the log.

=======================================  ============================================================================
scope | ``u64`` position (big-endian)    state of a scope that holds everything before a position
=======================================  ============================================================================

A scope is one of

=============================================  ======================================================================
``01`` | ``u8`` length of name | name          a global projection, by its name
``02`` | ``u8`` length of name | name |        a stream, by its name and id key
``u8`` length of id key | id key
``03`` | 32 bytes                              one of those whose bytes are more than 400: BLAKE2b of them
=============================================  ======================================================================

so no scope begins with another one. Values, little-endian: ``u32 crc32 of the key, the rest of the head, schema and scope | u16
version 1 | u16 length of schema | 16s store uuid | i64 saved at (ns) | u64 next global sequence then | 16s mark of the last
event then | u64 length of state | u32 crc32 of state | u16 length of scope (0 unless the key has only its digest) | schema
(UTF-8) | scope | state``.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from typing import NamedTuple

from varve import limits
from varve.layout.keys import StreamId, decode_stream_id, encode_stream_id
from varve.layout.records import malformed

VERSION = 1
Scope = str | tuple[str, StreamId]

_HEAD = struct.Struct("<IHH16sqQ16sQIH")
_CRC = struct.Struct("<I")
_U64 = struct.Struct(">Q")
_SCOPE_IN_KEY_BYTES_MAX = 400
_POSITION_BYTES = 8

HEAD_BYTES_MAX = _HEAD.size + 4 * limits.NAME_BYTES_MAX
"""Within so many bytes of a value lies everything but the state."""
NO_MARK = bytes(16)
"""The mark of an empty log."""


def scope_bytes(name: str, stream_id: StreamId | None = None) -> bytes:
    """A scope in full. Raises ``InvalidStreamId``."""
    raw = name.encode()
    if stream_id is None:
        return b"\x01" + bytes((len(raw),)) + raw
    id_key = encode_stream_id(stream_id)
    return b"\x02" + bytes((len(raw),)) + raw + bytes((len(id_key) - 1,)) + id_key


def scope_key(scope: bytes) -> bytes:
    """How the keys of a scope begin."""
    if len(scope) <= _SCOPE_IN_KEY_BYTES_MAX:
        return scope
    return b"\x03" + hashlib.blake2b(scope, digest_size=32).digest()


def decode_scope(scope: bytes) -> Scope:
    """The scope of ``scope_bytes``. Raises ``MalformedRecord``."""
    try:
        end = 2 + scope[1]
        name = scope[2:end].decode()
        if name and scope[0] == 1 and end == len(scope):
            return name
        id_key = scope[end + 1 :]
        if name and scope[0] == 2 and scope[end] + 1 == len(id_key):
            return name, decode_stream_id(id_key)
    except (IndexError, UnicodeDecodeError):
        pass
    raise malformed("scope of saved state", scope)


def snapshot_key(scope: bytes, position: int) -> bytes:
    """The key of a scope's state at a position; ``scope`` as ``scope_key`` gives it."""
    return scope + _U64.pack(position)


def split_key(key: bytes) -> tuple[bytes, int]:
    """Scope and position of a key. Raises ``MalformedRecord``."""
    if len(key) <= _POSITION_BYTES:
        raise malformed("key of saved state", key)
    return key[:-_POSITION_BYTES], _U64.unpack_from(key, len(key) - _POSITION_BYTES)[0]


class SnapshotHead(NamedTuple):
    """What stands before saved state."""

    store_uuid: bytes
    saved_at_ns: int
    log_end: int
    """The next global sequence when it was saved."""
    log_mark: bytes
    """Of the last event then."""
    state_bytes: int
    state_crc: int
    schema: str
    scope: bytes
    """In full."""
    state_at: int
    """Where the state begins."""


def encode_snapshot(
    key: bytes, scope: bytes, schema: str, state: bytes, log: tuple[bytes, int, bytes], saved_at_ns: int
) -> bytes:
    """The value of a key. ``log``: the store's uuid, the next global sequence, the mark of the last event."""
    store_uuid, log_end, mark = log
    said = schema.encode()
    kept = scope if len(scope) > _SCOPE_IN_KEY_BYTES_MAX else b""
    head = _HEAD.pack(
        0, VERSION, len(said), store_uuid, saved_at_ns, log_end, mark, len(state), zlib.crc32(state), len(kept)
    )
    rest = head[_CRC.size :] + said + kept
    return b"".join((_CRC.pack(zlib.crc32(rest, zlib.crc32(key))), rest, state))


def decode_head(key: bytes, start: bytes, size: int) -> SnapshotHead:
    """The head of a value of so many bytes, of its first ``HEAD_BYTES_MAX``. Raises ``MalformedRecord``."""
    try:
        crc, version, said, uuid, saved_at_ns, log_end, mark, state_bytes, state_crc, kept = _HEAD.unpack_from(start)
    except struct.error:
        raise malformed("saved state", start) from None
    state_at = _HEAD.size + said + kept
    if state_at > len(start) or crc != zlib.crc32(start[_CRC.size : state_at], zlib.crc32(key)):
        raise malformed("saved state: the checksum of its head is wrong", start)
    if version != VERSION:
        raise malformed(f"saved state of version {VERSION} (is it a newer Varve's?)", start)
    if state_at + state_bytes != size:
        raise malformed("saved state: its length is wrong", start)
    scope = start[_HEAD.size + said : state_at] or split_key(key)[0]
    try:
        schema = start[_HEAD.size : _HEAD.size + said].decode()
    except UnicodeDecodeError:
        raise malformed("saved state", start) from None
    return SnapshotHead(uuid, saved_at_ns, log_end, mark, state_bytes, state_crc, schema, scope, state_at)
