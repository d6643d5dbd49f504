"""Keys as bytes that sort as the keys do: str, int, bytes, UUID, and tuples of them. Pure bytes.

A key is a tag byte and what follows from it; bytes compare as memcmp does:

==============  =====================================================================================
``10 .. 2f``    int below 0: ``30`` less the length of its magnitude | the magnitude (big-endian), each bit turned round
``30``          0
``31 .. 50``    int above 0: ``30`` and the length of its magnitude | the magnitude (big-endian)
``58``          str: UTF-8, each byte ``00`` as ``00 ff`` | ``00``
``60``          bytes: in the same way
``68``          UUID: 16 bytes
``70``          tuple: its members | ``00``
==============  =====================================================================================

So ints come first, by value; then strs, by code points; then bytes; then UUIDs, by their 128 bits; then tuples, member by
member, a shorter one before those that it begins. Keys of different kinds are never equal. Each key has one encoding.
"""

from __future__ import annotations

import uuid
from typing import Any, Final

from varve import limits
from varve.errors import InvalidStateKey
from varve.layout.records import malformed
from varve.layout.values import text_of

KEY_DEPTH_MAX: Final = 16
"""Tuples inside tuples."""

StateKey = str | int | bytes | uuid.UUID | tuple[Any, ...]
"""What a key can be: tuples hold the same."""

_END, _ZERO, _STR, _BYTES, _UUID, _TUPLE = 0x00, 0x30, 0x58, 0x60, 0x68, 0x70
_INT_BYTES_MAX = 32
_LOWEST_INT, _HIGHEST_INT = _ZERO - _INT_BYTES_MAX, _ZERO + _INT_BYTES_MAX
_TURN_ROUND = bytes(range(255, -1, -1))


def encode_key(key: StateKey) -> bytes:
    """The bytes of a key. Raises ``InvalidStateKey``."""
    if type(key) is str and "\0" not in key:  # the commonest, the short way
        try:
            encoded = b"\x58%b\x00" % key.encode()
        except UnicodeEncodeError:
            raise _refused(key, "a str that is no UTF-8") from None
    else:
        out = bytearray()
        _add(out, key, key, 0)
        encoded = bytes(out)
    if len(encoded) > limits.STATE_KEY_BYTES_MAX:
        raise _too_long(key)
    return encoded


def _add(out: bytearray, key: Any, whole: Any, depth: int) -> None:
    kind = type(key)
    if kind is str:
        try:
            raw = key.encode()
        except UnicodeEncodeError:
            raise _refused(whole, "a str that is no UTF-8") from None
        out.append(_STR)
        out += raw.replace(b"\0", b"\0\xff")
        out.append(_END)
    elif kind is int:
        _add_int(out, key, whole)
    elif kind is bytes:
        out.append(_BYTES)
        out += key.replace(b"\0", b"\0\xff")
        out.append(_END)
    elif kind is uuid.UUID:
        out.append(_UUID)
        out += key.bytes
    elif kind is tuple:
        if depth >= KEY_DEPTH_MAX:
            raise _refused(whole, f"tuples more than {KEY_DEPTH_MAX} deep")
        out.append(_TUPLE)
        for member in key:
            _add(out, member, whole, depth + 1)
            if len(out) > limits.STATE_KEY_BYTES_MAX:
                raise _too_long(whole)
        out.append(_END)
    else:
        raise _refused(whole, kind.__name__)


def _add_int(out: bytearray, key: int, whole: Any) -> None:
    size = (key.bit_length() + 7) // 8
    if size > _INT_BYTES_MAX:
        raise _refused(whole, f"an int of {key.bit_length()} bits (256 are the limit)")
    magnitude = abs(key).to_bytes(size, "big")
    out.append(_ZERO - size if key < 0 else _ZERO + size)
    out += magnitude.translate(_TURN_ROUND) if key < 0 else magnitude


def _refused(key: Any, what: str) -> InvalidStateKey:
    return InvalidStateKey(
        f"a key of state is a str, an int, bytes, a UUID or a tuple of them, not {what}: {text_of(key)}", key=key
    )


def _too_long(key: Any) -> InvalidStateKey:
    return InvalidStateKey(
        f"a key of state takes STATE_KEY_BYTES_MAX = {limits.STATE_KEY_BYTES_MAX} bytes at most, encoded; more: {text_of(key)}",
        key=key,
    )


def decode_key(encoded: bytes) -> StateKey:
    """The key of its bytes. Raises ``MalformedRecord`` for what ``encode_key`` never gives."""
    try:
        key, end = _read(encoded, 0, 0)
        if end == len(encoded) <= limits.STATE_KEY_BYTES_MAX:
            return key
    except (IndexError, UnicodeDecodeError):
        pass
    raise malformed("key of state", encoded)


def _read(encoded: bytes, at: int, depth: int) -> tuple[StateKey, int]:
    """The key that begins at a place, and where it ends."""
    tag = encoded[at]
    at += 1
    if _LOWEST_INT <= tag <= _HIGHEST_INT:
        return _read_int(encoded, at, tag - _ZERO)
    if tag in (_STR, _BYTES):
        raw, at = _read_escaped(encoded, at)
        return (raw.decode() if tag == _STR else raw), at
    if tag == _UUID:
        return uuid.UUID(bytes=_take(encoded, at, 16)), at + 16
    if tag != _TUPLE or depth >= KEY_DEPTH_MAX:
        raise malformed("key of state", encoded)
    members = []
    while encoded[at] != _END:
        member, at = _read(encoded, at, depth + 1)
        members.append(member)
    return tuple(members), at + 1


def _read_int(encoded: bytes, at: int, signed_size: int) -> tuple[int, int]:
    size = abs(signed_size)
    magnitude = _take(encoded, at, size)
    if signed_size < 0:
        magnitude = magnitude.translate(_TURN_ROUND)
    if magnitude[:1] == b"\0":  # it would have a shorter encoding
        raise malformed("key of state", encoded)
    value = int.from_bytes(magnitude, "big")
    return (-value if signed_size < 0 else value), at + size


def _read_escaped(encoded: bytes, at: int) -> tuple[bytes, int]:
    end = at
    while True:
        end = encoded.find(b"\0", end)
        if end < 0:
            raise IndexError
        if encoded[end + 1 : end + 2] != b"\xff":
            return encoded[at:end].replace(b"\0\xff", b"\0"), end + 1
        end += 2


def _take(encoded: bytes, at: int, size: int) -> bytes:
    if at + size > len(encoded):
        raise IndexError
    return encoded[at : at + size]


def prefix_bounds(prefix: StateKey) -> tuple[bytes, bytes]:
    """What the keys under a prefix lie between, the second bound not included: strs that begin with a str, bytes that begin with
    bytes, tuples that begin with the members of a tuple. Raises ``InvalidStateKey``."""
    if type(prefix) not in (str, bytes, tuple):
        raise InvalidStateKey(
            f"a prefix is a str, bytes or a tuple (of the first members), not {type(prefix).__name__}: {text_of(prefix)}",
            key=prefix,
        )
    low = encode_key(prefix)[:-1]  # without the end mark
    if type(prefix) is tuple:
        return low, low + b"\xff"  # a tag or the end mark follows; ff would be the rest of a longer str or bytes
    kept = low.rstrip(b"\xff")
    return low, kept[:-1] + bytes([kept[-1] + 1])
