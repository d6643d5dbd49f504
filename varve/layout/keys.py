"""Keys of the three sub-databases.

All integers in keys are big-endian, so that LMDB's byte order is the numeric order::

    log     u64 first global sequence
    index   0x01 | u32 stream number | u64 first stream sequence      reads of one stream
            0x02 | u16 name number   | u64 first global sequence      reads of every stream of one name
    meta    0x00                                                      the store's own record
            0x01 | u16 name number                                    -> name
            0x02 | name (UTF-8)                                       -> name number
            0x03 | u16 type number                                    -> type name and schema
            0x04 | type name (UTF-8)                                  -> its type numbers, oldest version first
            0x05 | u16 name number | id key                           -> stream number
            0x06 | u32 stream number                                  -> name number, id key
            0x07 | key token                                          -> idempotency record
            0x08                                                      -> when the last archived commit was recorded

An *id key* is a stream id as bytes: a kind byte, then the value. Ids of different kinds never collide, and within a
kind the order of the bytes is the order of the values. A *key token* does the same for idempotency keys.
"""

from __future__ import annotations

import struct
import uuid

from varve import limits
from varve.errors import InvalidIdempotencyKey, InvalidName, InvalidStreamId
from varve.layout.records import malformed

StreamId = int | str | uuid.UUID
IdempotencyKey = bytes | str | uuid.UUID

_U16 = struct.Struct(">H")
_U32 = struct.Struct(">I")
_U64 = struct.Struct(">Q")
_STREAM_ENTRY = struct.Struct(">BIQ")
_NAME_ENTRY = struct.Struct(">BHQ")
_INT_ID = struct.Struct(">BQ")

log_key = _U64.pack
"""``log_key(first_sequence)`` -> the 8-byte key of a block."""


def log_sequence(key: bytes | memoryview) -> int:
    """The first global sequence that a log key names. Raises ``MalformedRecord``."""
    if len(key) != 8:
        raise malformed("key of the log", key)
    sequence: int = _U64.unpack(key)[0]
    return sequence


STREAM_TAG = 1
NAME_TAG = 2
STREAM_ENTRY_BYTES = _STREAM_ENTRY.size


def stream_entry_key(stream_number: int, first_stream_sequence: int) -> bytes:
    """Index key of an entry of one stream."""
    return _STREAM_ENTRY.pack(STREAM_TAG, stream_number, first_stream_sequence)


def name_entry_key(name_number: int, first_sequence: int) -> bytes:
    """Index key of an entry of one stream name."""
    return _NAME_ENTRY.pack(NAME_TAG, name_number, first_sequence)


def stream_entry_position(key: bytes | memoryview, stream_number: int) -> int | None:
    """The stream sequence at the end of an index key of one stream; None for a key of anything else."""
    if len(key) != STREAM_ENTRY_BYTES:
        return None
    tag, number, position = _STREAM_ENTRY.unpack(key)
    return position if number == stream_number and tag == STREAM_TAG else None


def entry_position(key: bytes | memoryview) -> int:
    """The sequence at the end of an index key (of a stream for (a), global for (b)). Raises ``MalformedRecord``."""
    if len(key) < 8:
        raise malformed("key of the index", key)
    position: int = _U64.unpack_from(key, len(key) - 8)[0]
    return position


STORE_RECORD_KEY = b"\x00"


def name_key(name_number: int) -> bytes:
    """Meta key of a name by its number."""
    return b"\x01" + _U16.pack(name_number)


def name_lookup_key(name: str) -> bytes:
    """Meta key of a name's number."""
    return b"\x02" + name.encode()


def type_key(type_number: int) -> bytes:
    """Meta key of an event type by its number."""
    return b"\x03" + _U16.pack(type_number)


def type_lookup_key(type_name: str) -> bytes:
    """Meta key of the numbers that a type name has."""
    return b"\x04" + type_name.encode()


def stream_lookup_key(name_number: int, id_key: bytes) -> bytes:
    """Meta key of a stream's number."""
    return b"\x05" + _U16.pack(name_number) + id_key


def stream_key(stream_number: int) -> bytes:
    """Meta key of a stream's identity."""
    return b"\x06" + _U32.pack(stream_number)


def idempotency_key(token: bytes) -> bytes:
    """Meta key of an idempotency record."""
    return b"\x07" + token


HORIZON_KEY = b"\x08"
"""Meta key of the time of the last archived commit; absent where nothing was archived."""


# -- stream ids ------------------------------------------------------------------------------------

_KIND_INT = 1
_KIND_STR = 2
_KIND_UUID = 3


ID_KINDS = {"int": b"\x01", "str": b"\x02", "uuid": b"\x03"}
"""First byte of an id key, by the kind of the id."""


def id_kind(id_key: bytes) -> str:
    """The kind of id that an id key is of."""
    return next(kind for kind, tag in ID_KINDS.items() if id_key.startswith(tag))


def encode_stream_id(stream_id: StreamId) -> bytes:
    """A stream id as its id key. Raises ``InvalidStreamId``."""
    if type(stream_id) is int:
        if 0 <= stream_id < 1 << 64:
            return _INT_ID.pack(_KIND_INT, stream_id)
        raise InvalidStreamId(f"stream id {stream_id} is outside 0 .. 2^64-1; use a str id for such numbers")
    if type(stream_id) is str:
        return b"\x02" + _text(stream_id, limits.STREAM_ID_BYTES_MAX, "stream id", InvalidStreamId)
    if isinstance(stream_id, bool):
        raise InvalidStreamId("a bool is no stream id: use an int, a str or a uuid.UUID")
    if isinstance(stream_id, int):  # IntEnum and friends
        return encode_stream_id(int(stream_id))
    if isinstance(stream_id, str):
        return encode_stream_id(str.__str__(stream_id))
    if isinstance(stream_id, uuid.UUID):
        return b"\x03" + stream_id.bytes
    raise InvalidStreamId(f"a {type(stream_id).__name__} is no stream id: use an int, a str or a uuid.UUID")


def decode_stream_id(id_key: bytes | memoryview) -> StreamId:
    """The stream id of an id key. Raises ``MalformedRecord``."""
    kind = id_key[0] if id_key else 0
    if kind == _KIND_INT and len(id_key) == _INT_ID.size:
        number: int = _U64.unpack_from(id_key, 1)[0]
        return number
    if kind == _KIND_STR and 1 < len(id_key) <= 1 + limits.STREAM_ID_BYTES_MAX:
        try:
            return str(id_key[1:], "utf-8")
        except UnicodeDecodeError:
            raise malformed("stream id", id_key) from None
    if kind == _KIND_UUID and len(id_key) == 17:
        return uuid.UUID(bytes=bytes(id_key[1:]))
    raise malformed("stream id", id_key)


# -- names and idempotency keys --------------------------------------------------------------------


def check_name(name: str, what: str = "stream name") -> str:
    """A name that can be stored, of a stream or of ``what`` it is. Raises ``InvalidName``."""
    if not isinstance(name, str):
        raise InvalidName(f"a {what} is a str, not {type(name).__name__}")
    name = str.__str__(name)  # the text itself, also of a member of a (str, Enum)
    _text(name, limits.NAME_BYTES_MAX, what, InvalidName)
    return name


def encode_idempotency_key(key: IdempotencyKey) -> bytes:
    """An idempotency key as its token: a kind byte, then the value. Raises ``InvalidIdempotencyKey``."""
    if isinstance(key, uuid.UUID):
        return b"\x03" + key.bytes
    if isinstance(key, str):
        return b"\x02" + _text(
            str.__str__(key), limits.IDEMPOTENCY_KEY_BYTES_MAX, "idempotency key", InvalidIdempotencyKey
        )
    if isinstance(key, (bytes, bytearray, memoryview)):
        raw = bytes(key)
        if not 1 <= len(raw) <= limits.IDEMPOTENCY_KEY_BYTES_MAX:
            raise InvalidIdempotencyKey(
                f"an idempotency key has 1 .. {limits.IDEMPOTENCY_KEY_BYTES_MAX} bytes, not {len(raw)}; hash a longer one"
            )
        return b"\x01" + raw
    raise InvalidIdempotencyKey(f"a {type(key).__name__} is no idempotency key: use bytes, a str or a uuid.UUID")


def decode_idempotency_key(token: bytes) -> IdempotencyKey:
    """The idempotency key of a token. Raises ``MalformedRecord``."""
    kind, raw = token[:1], token[1:]
    if kind == b"\x01" and 1 <= len(raw) <= limits.IDEMPOTENCY_KEY_BYTES_MAX:
        return raw
    if kind == b"\x02" and 1 <= len(raw) <= limits.IDEMPOTENCY_KEY_BYTES_MAX:
        try:
            return raw.decode()
        except UnicodeDecodeError:
            raise malformed("idempotency key", token) from None
    if kind == b"\x03" and len(raw) == 16:
        return uuid.UUID(bytes=raw)
    raise malformed("idempotency key", token)


def _text(
    value: object, bytes_max: int, what: str, error: type[InvalidName | InvalidStreamId | InvalidIdempotencyKey]
) -> bytes:
    """A non-empty str as UTF-8, or the typed error."""
    text = str(value)
    try:
        raw = text.encode()
    except UnicodeEncodeError as exc:
        raise error(f"{what} {text!r} is not valid UTF-8: it holds a lone surrogate at index {exc.start}") from None
    if not raw:
        raise error(f"an empty {what}: use 1 .. {bytes_max} UTF-8 bytes")
    if len(raw) > bytes_max:
        raise error(f"a {what} has at most {bytes_max} UTF-8 bytes, not {len(raw)}: {text[:40]!r}...")
    return raw
