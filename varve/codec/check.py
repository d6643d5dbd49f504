"""Values against declared types: cheap normalisation at construction, full validation when encoding failed.

The packers check as little as a fast path can afford. Whatever they stumble over comes here: every field is looked at, and
either the event comes back in canonical form (a numpy integer as int, a bytearray as bytes) or an ``EventEncodingError``
names class, field and value.
"""

from __future__ import annotations

import operator
import struct
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from enum import IntEnum, IntFlag
from typing import TYPE_CHECKING, Any, Final, cast
from uuid import UUID

from varve import limits
from varve.codec.schema import INT_RANGES, SCALARS, Kind
from varve.codec.verify import verify_nested
from varve.errors import EventEncodingError, MalformedEvent

if TYPE_CHECKING:
    from varve.codec.declare import Declaration

__all__ = ["coerce_event", "datetime_of", "nanoseconds", "normaliser"]

UTC: Final = timezone.utc  # noqa: UP017  (the object that datetime.UTC is, spelled for every reader)
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
F32: Final = struct.Struct("<f")
SHOWN_CHARS_MAX: Final = 100


def nanoseconds(value: datetime) -> int:
    """Nanoseconds since 1970 UTC of an aware datetime; TypeError for a naive one."""
    since = value - EPOCH
    return (since.days * 86_400 + since.seconds) * 1_000_000_000 + since.microseconds * 1_000


def datetime_of(ns: int) -> datetime:
    """Cut to microseconds towards 1970, so that every int64 reads as a datetime that can be written again."""
    return EPOCH + timedelta(microseconds=ns // 1_000 if ns >= 0 else -(-ns // 1_000))


# -- at construction -------------------------------------------------------------------------------------------------


def round_f32(value: Any) -> Any:
    """The float that an f32 field stores; anything that is none passes, to be refused when encoding."""
    if type(value) is not float and type(value) is not int:
        return value
    try:
        return F32.unpack(F32.pack(value))[0]
    except (OverflowError, struct.error):
        return value


def as_utc(value: Any) -> Any:
    """A plain datetime in UTC with microseconds; naive ones pass, to be refused when encoding."""
    if not isinstance(value, datetime) or value.utcoffset() is None:
        return value
    try:
        there = value.astimezone(UTC)
    except OverflowError:
        return value
    return datetime(
        there.year, there.month, there.day, there.hour, there.minute, there.second, there.microsecond, tzinfo=UTC
    )


def as_tuple(value: Any) -> Any:
    if value is None or type(value) is tuple or isinstance(value, (str, dict, set, frozenset)):
        return value
    tolist = getattr(value, "tolist", None)
    try:
        items: Any = value
        if callable(tolist) and getattr(getattr(value, "dtype", None), "kind", "") not in {"M", "m"}:
            items = tolist()  # but for numpy's times, of which some units would give ints
        return tuple(items)
    except TypeError:
        return value


def normaliser(kind: Kind) -> Callable[[Any], Any] | None:
    """What construction does to a value of this kind; None where it keeps it as it is."""
    if kind.tag == "f32":
        return round_f32
    if kind.tag == "datetime":
        return as_utc
    if kind.item is None:
        return None
    each = normaliser(kind.item)
    if each is None:
        return as_tuple

    def items(value: Any) -> Any:
        value = as_tuple(value)
        return tuple(map(each, value)) if type(value) is tuple else value

    return items


# -- when encoding failed --------------------------------------------------------------------------------------------


class _Bad(Exception):
    """A value that does not fit; becomes an EventEncodingError at the root."""

    def __init__(self, path: str, reason: str, value: object) -> None:
        super().__init__(path, reason, value)
        self.path, self.reason, self.value = path, reason, value


def shown(value: object) -> str:
    """A repr for messages: short, whatever the value."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001  (a user's __repr__ must not hide the real error)
        text = f"<{type(value).__name__} whose repr fails>"
    return text if len(text) <= SHOWN_CHARS_MAX else text[: SHOWN_CHARS_MAX - 3] + "..."


def encoding_error(type_name: str, path: str, reason: str, value: object) -> EventEncodingError:
    where = f"{type_name}.{path}" if path else type_name
    return EventEncodingError(
        f"{where} {reason}, not {shown(value)} ({type(value).__name__})", type_name=type_name, field=path, value=value
    )


def coerce_event(declaration: Declaration, event: object) -> Any:
    """The event as a plain instance in canonical form; EventEncodingError when a value does not fit."""
    try:
        return _record(declaration, event, "", 1)
    except _Bad as bad:
        raise encoding_error(declaration.name, bad.path, bad.reason, bad.value) from None


def coerce_value(kind: Kind, value: object, path: str, declaration: Declaration) -> Any:
    """One value of a field of ``declaration`` in canonical form."""
    try:
        return _value(kind, value, path, declaration, 1)
    except _Bad as bad:
        raise encoding_error(declaration.name, bad.path, bad.reason, bad.value) from None


def _record(declaration: Declaration, value: object, path: str, depth: int) -> Any:
    cls = declaration.cls
    if not isinstance(value, cls):
        raise _Bad(path, f"must be a {declaration.name}", value)
    if depth > limits.NESTING_DEPTH_MAX:
        raise _Bad(path, f"is nested deeper than {limits.NESTING_DEPTH_MAX}", value)
    out: Any = object.__new__(cls)
    for f in declaration.fields:
        where = f"{path}.{f.name}" if path else f.name
        try:
            item = getattr(value, f.name)
        except AttributeError:
            raise _Bad(where, "is not set; every field needs a value", None) from None
        fit = None if item is None and f.optional else _value(f.kind, item, where, declaration, depth)
        object.__setattr__(out, f.name, fit)
    return out


def _value(kind: Kind, value: object, path: str, declaration: Declaration, depth: int) -> Any:
    tag = kind.tag
    if tag in INT_RANGES:
        return _integer(tag, value, path)
    if tag in {"table", "struct"}:
        return _record(declaration.declaration_of(kind.name), value, path, depth + 1)
    if tag in {"vector", "array"}:
        return _vector(kind, value, path, declaration, depth)
    if tag == "union":
        return _member(kind, value, path, declaration, depth)
    if tag == "enum":
        return _enum(kind, value, path, declaration)
    if kind.nested:
        return _buffer(kind.nested, value, path, declaration, depth)
    return _SIMPLE[tag](value, path)


def _integer(tag: str, value: object, path: str) -> int:
    low, high = INT_RANGES[tag]
    if isinstance(value, (bool, float, str, bytes)) or value is None or type(value).__name__ in {"bool_", "bool"}:
        raise _Bad(path, f"must be an int ({tag})", value)
    try:
        number = operator.index(cast("Any", value))
    except TypeError:
        raise _Bad(path, f"must be an int ({tag})", value) from None
    if not low <= number <= high:
        raise _Bad(path, f"must be in {low} .. {high} ({tag})", value)
    return int(number)


def _float(value: object, path: str, tag: str = "f64") -> float:
    if isinstance(value, float):
        number = float(value)
    else:
        if isinstance(value, (bool, str, bytes, Decimal)) or type(value).__name__ in {"bool_", "bool"}:
            raise _Bad(path, f"must be a float ({tag})", value)
        try:
            number = _exact(operator.index(cast("Any", value)))
        except TypeError:
            number = _numpy_float(value, path, tag)
        except OverflowError:
            raise _Bad(path, f"must be an int that a float holds exactly ({tag})", value) from None
    if tag == "f32":
        try:
            number = F32.unpack(F32.pack(number))[0]
        except OverflowError:
            raise _Bad(path, "must fit 32 bits (f32)", value) from None
    return number


def _exact(value: int) -> float:
    number = float(value)
    if int(number) != value:
        raise OverflowError
    return number


def _numpy_float(value: object, path: str, tag: str) -> float:
    """A float32 or float16 of numpy is no float; anything else that merely converts (a Fraction) is refused."""
    if type(value).__module__ == "numpy" and hasattr(value, "__float__") and getattr(value, "shape", None) == ():
        return float(cast("Any", value))
    raise _Bad(path, f"must be a float ({tag})", value)


def _bool(value: object, path: str) -> bool:
    if isinstance(value, bool):
        return value
    if type(value).__module__ == "numpy" and type(value).__name__ in {"bool_", "bool"}:
        return bool(value)
    raise _Bad(path, "must be a bool", value)


def _str(value: object, path: str) -> str:
    if not isinstance(value, str):
        raise _Bad(path, "must be a str", value)
    try:
        value.encode()
    except UnicodeEncodeError:
        raise _Bad(path, "must be text without lone surrogates", value) from None
    return str.__str__(value)  # the text itself, also of a member of a (str, Enum), whose str() is its name


def _bytes(value: object, path: str) -> bytes:
    if not isinstance(value, (bytes, bytearray, memoryview)):
        raise _Bad(path, "must be bytes", value)
    return bytes(value)


def _buffer(name: str, value: object, path: str, declaration: Declaration, depth: int) -> bytes:
    """Bytes that hold a FlatBuffer of a table."""
    data = _bytes(value, path)
    held = declaration.declaration_of(name)
    schema = held.compiled.schema if held.compiled is not None else held.schema()
    try:
        verify_nested(schema, name, data, depth + 1)
    except MalformedEvent as error:
        raise _Bad(path, f"must be a FlatBuffer of {name} ({error.message})", value) from None
    return data


def _decimal(value: object, path: str) -> Decimal:
    if not isinstance(value, Decimal):
        raise _Bad(path, "must be a Decimal", value)
    if not value.is_finite():
        raise _Bad(path, "must be a finite Decimal", value)
    return value if type(value) is Decimal else Decimal(value)


def _uuid(value: object, path: str) -> UUID:
    if not isinstance(value, UUID):
        raise _Bad(path, "must be a UUID", value)
    return value


def _datetime(value: object, path: str) -> datetime:
    if not isinstance(value, datetime):
        raise _Bad(path, "must be a datetime", value)
    if value.utcoffset() is None:
        raise _Bad(path, "must be an aware datetime (with a tzinfo)", value)
    low, high = INT_RANGES["i64"]
    there = as_utc(value)
    if not low <= nanoseconds(there) <= high:
        raise _Bad(path, "must be between the years 1677 and 2262 (64 bits of nanoseconds)", value)
    return there  # type: ignore[no-any-return]


def _enum(kind: Kind, value: object, path: str, declaration: Declaration) -> int:
    """A member; or a plain int, which is how a member that only newer code knows reads here."""
    cls = declaration.enum_of(kind.name)
    if not isinstance(value, cls) and (type(value) is not int or isinstance(value, (IntEnum, IntFlag))):
        raise _Bad(path, f"must be a {kind.name}", value)
    tag = declaration.base_of(kind.name)
    low, high = INT_RANGES[tag]
    if not low <= int(value) <= high:
        raise _Bad(path, f"must be in {low} .. {high} ({tag})", value)
    return value if isinstance(value, cls) else int(value)


def _member(kind: Kind, value: object, path: str, declaration: Declaration, depth: int) -> Any:
    for name in kind.names:
        member = declaration.declaration_of(name)
        if isinstance(value, member.cls):
            return _record(member, value, path, depth + 1)
    raise _Bad(path, f"must be one of {kind}", value)


def _vector(kind: Kind, value: object, path: str, declaration: Declaration, depth: int) -> tuple[Any, ...]:
    assert kind.item is not None
    if isinstance(value, (str, dict, set, frozenset)) or not isinstance(value, Iterable):
        raise _Bad(path, f"must be a list or tuple ({kind})", value)
    if isinstance(value, (bytes, bytearray)) and kind.item.tag not in SCALARS:
        raise _Bad(path, f"must be a list or tuple ({kind})", value)
    item = kind.item
    if kind.tag == "array" and len(as_tuple(value)) != kind.length:
        raise _Bad(path, f"must hold exactly {kind.length} items ({kind})", value)
    return tuple(_value(item, one, f"{path}[{index}]", declaration, depth) for index, one in enumerate(as_tuple(value)))


_SIMPLE: Final[dict[str, Callable[[object, str], Any]]] = {
    "bool": _bool,
    "str": _str,
    "bytes": _bytes,
    "decimal": _decimal,
    "uuid": _uuid,
    "datetime": _datetime,
    "f64": _float,
    "f32": lambda value, path: _float(value, path, "f32"),
}
