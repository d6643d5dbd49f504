"""The side table ``retention``: which events of a stream its readers pass over. Pure bytes; not a function of the log.

==========================================  =================================================================
``01`` | name                               of every stream of a name that has none of its own
``02`` | ``u16`` length of name | name |    of one stream
id key
==========================================  =================================================================

Values: ``u32 crc32 of the key and the rest | u16 version 1 | u16 flags | u64 truncate before | u64 most events | i64 greatest
age (ns)``, little-endian; flag 1: the number of events is limited, flag 2: their age is. The length in the key is big-endian.
"""

from __future__ import annotations

import struct
import zlib
from typing import NamedTuple

from varve.layout.records import malformed

TABLE = "retention"
VERSION = 1

_VALUE = struct.Struct("<HHQQq")
_CRC = struct.Struct("<I")
_U16 = struct.Struct(">H")
_COUNT = 1
_AGE = 2


class RetentionRecord(NamedTuple):
    """What readers of a stream pass over."""

    truncate_before: int = 0
    """Stream sequences below it."""
    max_count: int | None = None
    """All but so many of the newest events."""
    max_age_ns: int | None = None
    """Events recorded longer ago."""

    def encode(self, key: bytes) -> bytes:
        """The value of a key."""
        flags = (_COUNT if self.max_count is not None else 0) | (_AGE if self.max_age_ns is not None else 0)
        rest = _VALUE.pack(VERSION, flags, self.truncate_before, self.max_count or 0, self.max_age_ns or 0)
        return _CRC.pack(zlib.crc32(rest, zlib.crc32(key))) + rest


def name_key(name: str) -> bytes:
    """Key of what holds for every stream of a name."""
    return b"\x01" + name.encode()


def stream_key(name: str, id_key: bytes) -> bytes:
    """Key of what holds for one stream."""
    raw = name.encode()
    return b"\x02" + _U16.pack(len(raw)) + raw + id_key


def decode_key(key: bytes) -> tuple[str, bytes | None]:
    """Name, and id key of one stream (None: of all of the name). Raises ``MalformedRecord``."""
    try:
        if key[:1] == b"\x01" and len(key) > 1:
            return key[1:].decode(), None
        if key[:1] == b"\x02":
            size = _U16.unpack_from(key, 1)[0]
            name, id_key = key[3 : 3 + size], key[3 + size :]
            if name and len(name) == size and id_key:
                return name.decode(), id_key
    except (struct.error, UnicodeDecodeError):
        pass
    raise malformed("key of a retention rule", key)


def decode_retention(key: bytes, value: bytes) -> RetentionRecord:
    """The rule of a key. Raises ``MalformedRecord``."""
    if len(value) != _CRC.size + _VALUE.size or _CRC.unpack_from(value)[0] != zlib.crc32(
        value[_CRC.size :], zlib.crc32(key)
    ):
        raise malformed("retention rule", value)
    version, flags, before, count, age_ns = _VALUE.unpack_from(value, _CRC.size)
    if version != VERSION:
        raise malformed(f"retention rule of version {VERSION} (is it a newer Varve's?)", value)
    return RetentionRecord(before, count if flags & _COUNT else None, age_ns if flags & _AGE else None)
