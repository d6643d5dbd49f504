"""The side table ``dead_letters``: events that processors could not handle, and those that wait behind them. Pure bytes; not a
function of the log, which holds the events themselves.

==========================================  =================================================================
``00`` | ``u16`` length of name | name      of a processor: ``u64``, which rises when a letter is dropped, or asked to be tried
                                            again, from outside of the processor
``01`` | ``u16`` length of name | name |    a letter of a processor: the event at that global sequence
``u64`` sequence
==========================================  =================================================================

Lengths and sequences in keys are big-endian. A letter's value: ``u32 crc32 of the key and the rest | u16 version 1 | u16 flags |
value``, little-endian; flag 1: the event was handled and failed (else it only waits behind one that did), flag 2: later events of
its stream wait behind it, flag 4: it shall be tried again. The value (``varve.layout.values``) is a tuple: stream, stream id,
stream sequence, event type, attempts, first failed at (ns), last failed at (ns), class of the error, its message, its traceback.
"""

from __future__ import annotations

import struct
import uuid
import zlib
from typing import Any, NamedTuple

from varve.layout.records import malformed
from varve.layout.values import decode_value, encode_value

TABLE = "dead_letters"
VERSION = 1

_HEAD = struct.Struct("<HH")
_CRC_BYTES = 4
_LENGTH = struct.Struct(">H")
_SEQUENCE = struct.Struct(">Q")
_COUNTER = struct.Struct("<Q")
_REQUESTS = b"\x00"
_LETTER = b"\x01"
_DEAD, _BLOCKS, _RETRY = 1, 2, 4
_FIELDS: tuple[Any, ...] = (str, (int, str, uuid.UUID), int, str, int, int, int, str, str, str)


class LetterRecord(NamedTuple):
    """A letter as it is stored."""

    is_dead: bool
    """Whether its event was handled and failed; else it waits behind one that did."""
    blocks: bool
    """Whether later events of its stream wait behind it."""
    retry: bool
    """Whether it shall be tried again."""
    stream: str
    stream_id: int | str | uuid.UUID
    stream_sequence: int
    type_name: str
    attempts: int = 0
    """Calls of the handler that failed."""
    first_failed_ns: int = 0
    last_failed_ns: int = 0
    error_type: str = ""
    message: str = ""
    traceback: str = ""

    def encode(self, key: bytes) -> bytes:
        """The value of a key."""
        flags = (_DEAD if self.is_dead else 0) | (_BLOCKS if self.blocks else 0) | (_RETRY if self.retry else 0)
        rest = _HEAD.pack(VERSION, flags) + encode_value(tuple(self[3:]))
        return zlib.crc32(rest, zlib.crc32(key)).to_bytes(_CRC_BYTES, "little") + rest


def _named(kind: bytes, name: str) -> bytes:
    raw = name.encode()
    return kind + _LENGTH.pack(len(raw)) + raw


def requests_key(name: str) -> bytes:
    """Key of what rises when somebody else than the processor changes its letters."""
    return _named(_REQUESTS, name)


def letters_prefix(name: str | None = None) -> bytes:
    """How the keys of a processor's letters begin; of all letters without a name."""
    return _LETTER if name is None else _named(_LETTER, name)


def letter_key(name: str, sequence: int) -> bytes:
    """Key of a letter."""
    return letters_prefix(name) + _SEQUENCE.pack(sequence)


def decode_key(key: bytes) -> tuple[str, int | None]:
    """Name of the processor, and the global sequence of a letter (None: what rises with requests). Raises ``MalformedRecord``."""
    try:
        size = _LENGTH.unpack_from(key, 1)[0]
        raw, rest = key[3 : 3 + size], key[3 + size :]
        if raw and len(raw) == size:
            if key[:1] == _REQUESTS and not rest:
                return raw.decode(), None
            if key[:1] == _LETTER and len(rest) == _SEQUENCE.size:
                return raw.decode(), _SEQUENCE.unpack(rest)[0]
    except (struct.error, UnicodeDecodeError):
        pass
    raise malformed("key of a dead letter", key)


encode_requests = _COUNTER.pack


def decode_requests(value: bytes | None) -> int:
    """How often somebody else has changed the letters; 0 where nobody has. A damaged one counts as another: whoever compares it
    looks at the letters once more."""
    return 0 if value is None else int.from_bytes(value[: _COUNTER.size], "little")


def decode_letter(key: bytes, value: bytes) -> LetterRecord:
    """The letter of a key. Raises ``MalformedRecord``."""
    crc = zlib.crc32(value[_CRC_BYTES:], zlib.crc32(key)).to_bytes(_CRC_BYTES, "little")
    if len(value) < _CRC_BYTES + _HEAD.size or value[:_CRC_BYTES] != crc:
        raise malformed("dead letter", value)
    version, flags = _HEAD.unpack_from(value, _CRC_BYTES)
    if version != VERSION:
        raise malformed(f"dead letter of version {VERSION} (is it a newer Varve's?)", value)
    fields: Any = decode_value(value[_CRC_BYTES + _HEAD.size :])
    if type(fields) is not tuple or len(fields) != len(_FIELDS) or not _fits(fields):
        raise malformed("dead letter", value)
    return LetterRecord(bool(flags & _DEAD), bool(flags & _BLOCKS), bool(flags & _RETRY), *fields)


def _fits(fields: tuple[Any, ...]) -> bool:
    return all(isinstance(value, kind) for value, kind in zip(fields, _FIELDS, strict=True))


def check_pair(key: bytes, value: bytes) -> int | None:
    """Look at a pair of the table: the sequence of a letter, None where it is none. Raises ``MalformedRecord``."""
    _, sequence = decode_key(key)
    if sequence is not None:
        decode_letter(key, value)
    elif len(value) != _COUNTER.size:
        raise malformed("number of requests about dead letters", value)
    return sequence
