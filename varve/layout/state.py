"""The side table ``state``: values by key, as they are now. Pure bytes; not a function of the log.

Keys: ``varve.layout.ordered``. Values: ``u32 crc32 of the key and the rest | u16 version 1 | the value``
(``varve.layout.values``), little-endian.
"""

from __future__ import annotations

import struct
import zlib
from typing import Any

from varve.layout.ordered import StateKey, decode_key
from varve.layout.records import malformed
from varve.layout.values import decode_value, encode_value

TABLE = "state"
VERSION = 1

_HEAD = struct.Struct("<IH")
_CRC = struct.Struct("<I")
_VERSION = struct.pack("<H", VERSION)


def encode_record(key: bytes, value: Any) -> bytes:
    """The record of an encoded key. Raises ``InvalidInput`` for a value that cannot be stored."""
    rest = _VERSION + encode_value(value)
    return _CRC.pack(zlib.crc32(rest, zlib.crc32(key))) + rest


def decode_record(key: bytes, record: bytes) -> Any:
    """The value of an encoded key. Raises ``MalformedRecord``."""
    if len(record) <= _HEAD.size:
        raise malformed("record of state", record)
    crc, version = _HEAD.unpack_from(record)
    if crc != zlib.crc32(memoryview(record)[_CRC.size :], zlib.crc32(key)):
        raise malformed("record of state", record)
    if version != VERSION:
        raise malformed(f"record of state of version {version} (is it a newer Varve's?)", record)
    return decode_value(memoryview(record)[_HEAD.size :])


def decode_pair(key: bytes, record: bytes) -> tuple[StateKey, Any]:
    """Key and value of a pair of the table. Raises ``MalformedRecord``."""
    return decode_key(key), decode_record(key, record)
