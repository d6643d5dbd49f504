"""Values as bytes: what state, snapshots and dead letters are made of. Pure bytes, no pickle.

A value is a tag byte and what follows from it:

======  ==================================================================================================
``00``  None
``01``  False
``02``  True
``03``  int from 0 on: ``u8`` length | magnitude (little-endian, no zero byte on top)
``04``  int below 0: the same of its magnitude
``05``  float: IEEE 754 double (little-endian)
``06``  str: size | UTF-8
``07``  bytes: size | bytes
``08``  Decimal: size | its text
``09``  datetime: ``i64`` microseconds since 1970, UTC
``0a``  UUID: 16 bytes
``0b``  list: size | values
``0c``  tuple: size | values
``0d``  set: size | values in the order of their bytes
``0e``  frozenset: the same
``0f``  dict: size | keys and values in turn, in the order of the dict
``10``  anything else, as somebody else takes it apart: its kind (a str) | a value
======  ==================================================================================================

A size is an unsigned LEB128 number. Equal sets have equal bytes; equal dicts have them if they were filled in the same order.
"""

from __future__ import annotations

import datetime as dt
import struct
import uuid
from collections.abc import Callable, Iterable
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from varve.errors import InvalidInput, VarveError
from varve.layout.records import malformed

INT_BITS_MAX: Final = 256
"""Magnitude of an int."""
DEPTH_MAX: Final = 64
"""Containers inside containers."""

TakeApart = Callable[[Any], tuple[str, Any]]
"""Gives the kind of an object, and a value from which ``PutTogether`` makes it again. Raises ``InvalidInput`` for what it does
not know: where in the value it stands is added."""
PutTogether = Callable[[str, Any], Any]
"""Makes the object of a kind from its value. Raises for what it does not know."""

_NONE, _FALSE, _TRUE, _POSITIVE, _NEGATIVE, _FLOAT, _STR, _BYTES = range(8)
_DECIMAL, _DATETIME, _UUID, _LIST, _TUPLE, _SET, _FROZENSET, _DICT, _OTHER = range(8, 17)

_F64 = struct.Struct("<d")
_I64 = struct.Struct("<q")
_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
_MICROSECOND = dt.timedelta(microseconds=1)
_DECIMAL_CHARS_MAX = 1_000


def encode_value(value: Any, take_apart: TakeApart | None = None) -> bytes:
    """The bytes of a value: None, bool, int of up to 256 bits, float, str, bytes, Decimal, aware datetime, UUID; lists, tuples,
    sets, frozensets and dicts of them, 64 deep at most; and what ``take_apart`` knows.

    Instances of subclasses (an ``IntEnum``, a ``defaultdict``) would come back as something else: they are ``take_apart``'s
    matter too. Raises ``InvalidInput``, which says where in the value it stands.
    """
    out = bytearray()
    _Encoder(out, take_apart).add(value, 0)
    return bytes(out)


def text_of(value: Any, chars: int = 80) -> str:
    """The beginning of a value's text, for errors; of what has none (Python writes no int of more than 4,300 digits) its type."""
    try:
        return repr(value)[:chars]
    except Exception:  # noqa: BLE001 - what a user hands in may raise anything
        return f"<{type(value).__name__}>"


def decode_value(data: bytes | memoryview, put_together: PutTogether | None = None) -> Any:
    """The value of ``encode_value``'s bytes. Raises ``MalformedRecord`` for any others, and what ``put_together`` raises."""
    decoder = _Decoder(bytes(data), put_together)
    try:
        value = decoder.read(0)
    except VarveError:
        raise  # also those that are a TypeError
    except (IndexError, struct.error, UnicodeDecodeError, OverflowError, InvalidOperation, TypeError):
        raise malformed("value", data) from None
    if decoder.at != len(decoder.data):
        raise malformed("value", data)
    return value


class _Encoder:
    def __init__(self, out: bytearray, take_apart: TakeApart | None) -> None:
        self.out = out
        self._take_apart = take_apart
        self._path: list[str] = []

    def add(self, value: Any, depth: int) -> None:
        kind = type(value)
        out = self.out
        if kind is str:
            self._sized(_STR, self._utf8(value))
        elif kind is int:
            self._int(value)
        elif value is None:
            out.append(_NONE)
        elif kind is bool:
            out.append(_TRUE if value else _FALSE)
        elif kind is float:
            out.append(_FLOAT)
            out += _F64.pack(value)
        elif kind is bytes:
            self._sized(_BYTES, value)
        elif kind is Decimal:
            text = str(value)
            if len(text) > _DECIMAL_CHARS_MAX:
                raise self._refused(f"a Decimal of {len(text)} digits; {_DECIMAL_CHARS_MAX} are the limit")
            self._sized(_DECIMAL, text.encode())
        elif kind is dt.datetime:
            out.append(_DATETIME)
            out += _I64.pack(self._instant(value))
        elif kind is uuid.UUID:
            out.append(_UUID)
            out += value.bytes
        elif depth >= DEPTH_MAX:
            raise self._refused(f"containers more than {DEPTH_MAX} deep")
        else:
            self._container(kind, value, depth + 1)

    def _container(self, kind: type, value: Any, depth: int) -> None:
        if kind is dict:
            self._head(_DICT, len(value))
            for key, item in value.items():
                self._under(f"key {text_of(key, 40)}", key, depth)
                self._under(text_of(key, 40), item, depth)
        elif kind is list or kind is tuple:
            self._head(_LIST if kind is list else _TUPLE, len(value))
            for index, item in enumerate(value):
                self._under(str(index), item, depth)
        elif kind is set or kind is frozenset:
            self._head(_SET if kind is set else _FROZENSET, len(value))
            self.out += b"".join(sorted(self._alone(value, depth)))
        else:
            self._other(value, depth)

    def _other(self, value: Any, depth: int) -> None:
        if self._take_apart is None:
            raise self._refused(
                f"{type(value).__name__}; what can be stored is None, bool, int, float, str, bytes, Decimal, datetime, UUID, and "
                "lists, tuples, sets, frozensets and dicts of them"
            )
        try:
            name, parts = self._take_apart(value)
        except InvalidInput as exc:
            raise self._placed(exc.message) from exc
        except Exception as exc:
            exc.add_note(f"while a value was taken apart{self._where}")
            raise
        self.out.append(_OTHER)
        self.add(name, depth)
        self._under(name, parts, depth)

    def _alone(self, items: Iterable[Any], depth: int) -> Iterable[bytes]:
        whole = self.out
        for item in items:
            self.out = bytearray()
            try:
                self._under(f"member {item!r:.40}", item, depth)
                yield bytes(self.out)
            finally:
                self.out = whole

    def _under(self, step: str, value: Any, depth: int) -> None:
        self._path.append(step)
        self.add(value, depth)
        self._path.pop()

    def _int(self, value: int) -> None:
        bits = value.bit_length()
        if bits > INT_BITS_MAX:
            raise self._refused(f"an int of {bits} bits; {INT_BITS_MAX} are the limit")
        magnitude = abs(value).to_bytes((bits + 7) // 8, "little")
        self.out.append(_NEGATIVE if value < 0 else _POSITIVE)
        self.out.append(len(magnitude))
        self.out += magnitude

    def _instant(self, value: dt.datetime) -> int:
        """Microseconds since 1970."""
        if value.utcoffset() is None:
            raise self._refused(f"{value!r}, which has no time zone; use datetime.now(UTC)")
        try:
            return (value.astimezone(dt.UTC) - _EPOCH) // _MICROSECOND
        except OverflowError:
            raise self._refused(f"{value!r}, which is beyond the years 1 to 9999 in UTC") from None

    def _utf8(self, text: str) -> bytes:
        try:
            return text.encode()
        except UnicodeEncodeError:
            raise self._refused(f"a str that is no UTF-8: {text!r:.40}") from None

    def _sized(self, tag: int, raw: bytes) -> None:
        self._head(tag, len(raw))
        self.out += raw

    def _head(self, tag: int, size: int) -> None:
        out = self.out
        out.append(tag)
        while size > 0x7F:
            out.append(size & 0x7F | 0x80)
            size >>= 7
        out.append(size)

    def _refused(self, what: str) -> InvalidInput:
        return self._placed(f"a value cannot hold {what}")

    def _placed(self, message: str) -> InvalidInput:
        return InvalidInput(message + self._where)

    @property
    def _where(self) -> str:
        return f" (at {' / '.join(self._path)})" if self._path else ""


class _Decoder:
    def __init__(self, data: bytes, put_together: PutTogether | None) -> None:
        self.data = data
        self.at = 0
        self._put_together = put_together

    def read(self, depth: int) -> Any:
        tag = self.data[self.at]
        self.at += 1
        if tag == _STR:
            return str(self._sized(), "utf-8")
        if tag in (_POSITIVE, _NEGATIVE):
            return self._int(negative=tag == _NEGATIVE)
        if tag <= _TRUE:
            return (None, False, True)[tag]
        if tag == _FLOAT:
            return _F64.unpack(self._take(8))[0]
        if tag == _BYTES:
            return self._sized()
        if tag == _DECIMAL:
            return Decimal(str(self._sized(), "ascii"))
        if tag == _DATETIME:
            return _EPOCH + _I64.unpack(self._take(8))[0] * _MICROSECOND
        if tag == _UUID:
            return uuid.UUID(bytes=self._take(16))
        if depth >= DEPTH_MAX:
            raise malformed("value: it is too deep", self.data)
        return self._container(tag, depth + 1)

    def _container(self, tag: int, depth: int) -> Any:
        if tag == _OTHER:
            return self._other(depth)
        count = self._size()
        if count > len(self.data) - self.at:
            raise IndexError
        if tag == _DICT:
            return {self.read(depth): self.read(depth) for _ in range(count)}
        items = [self.read(depth) for _ in range(count)]
        if tag == _LIST:
            return items
        if tag == _TUPLE:
            return tuple(items)
        if tag == _SET:
            return set(items)
        if tag == _FROZENSET:
            return frozenset(items)
        raise malformed("value", self.data)

    def _other(self, depth: int) -> Any:
        kind = self.read(depth)
        parts = self.read(depth)
        if self._put_together is None or type(kind) is not str:
            raise malformed("value", self.data)
        return self._put_together(kind, parts)

    def _int(self, *, negative: bool) -> int:
        size = self.data[self.at]
        self.at += 1
        magnitude = int.from_bytes(self._take(size), "little")
        return -magnitude if negative else magnitude

    def _sized(self) -> bytes:
        return self._take(self._size())

    def _take(self, size: int) -> bytes:
        end = self.at + size
        if end > len(self.data):
            raise IndexError
        raw = self.data[self.at : end]
        self.at = end
        return raw

    def _size(self) -> int:
        size = shift = 0
        while True:
            byte = self.data[self.at]
            self.at += 1
            size |= (byte & 0x7F) << shift
            if byte < 0x80:
                return size
            shift += 7
            if shift > 63:
                raise IndexError
