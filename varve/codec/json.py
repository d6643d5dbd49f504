"""Events as plain data and as JSON, and back.

Numbers, str, bool and None stay; bytes become base64 text, datetimes ISO 8601 in UTC, UUID and Decimal their text, enum
members their name (flags and unknown members their number), NaN and infinities the strings ``NaN``, ``Infinity``,
``-Infinity``; vectors become lists, nested events dictionaries, members of a union dictionaries with their type name under
``$type``.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
from datetime import datetime
from decimal import Decimal, InvalidOperation
from enum import IntFlag
from typing import TYPE_CHECKING, Any, TypeVar, overload
from uuid import UUID

from varve.codec.check import as_utc, coerce_event, encoding_error
from varve.codec.schema import NO_DEFAULT, Kind
from varve.codec.values import rebuild
from varve.errors import EventEncodingError, SchemaError

if TYPE_CHECKING:
    from varve.codec.declare import Declaration
    from varve.codec.event_type import EventType

__all__ = ["absent_object", "from_json", "plain", "plain_event", "to_dict", "to_json"]

E = TypeVar("E")

TYPE_KEY = "$type"
FLOATS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def plain_event(event: Any, declaration: Declaration) -> dict[str, Any]:
    """The fields of an event (or struct) as JSON-able data."""
    out = {}
    for f in declaration.fields:
        value = getattr(event, f.name)
        out[f.name] = None if value is None else plain(f.kind, value, declaration)
    return out


def plain(kind: Kind, value: Any, declaration: Declaration) -> Any:
    """One field's value as JSON-able data."""
    match kind.tag:
        case "f32" | "f64":
            if math.isfinite(value):
                return float(value)
            return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        case "bytes":
            return base64.b64encode(value).decode()
        case "datetime":
            return as_utc(value).isoformat()
        case "uuid" | "decimal":
            return str(value)
        case "enum":
            name = getattr(value, "name", None)
            return name if name in declaration.enum_of(kind.name).__members__ else int(value)
        case "vector" | "array":
            assert kind.item is not None
            return [plain(kind.item, item, declaration) for item in value]
        case "table" | "struct":
            return plain_event(value, declaration.declaration_of(kind.name))
        case "union":
            found = type(value).__varve__
            return {TYPE_KEY: found.name, **plain_event(value, found)}
    return value


def _declared(event: Any) -> tuple[Declaration, Any]:
    """What an event's class declares, and the event; of a class that flatc generated, those of its twin."""
    found = getattr(type(event), "__varve__", None)
    if found is not None and hasattr(found, "fields"):
        return found, event
    from varve.codec.official import official_type

    official = official_type(type(event))
    if official is None:
        raise TypeError(f"expected an event, not {type(event).__name__}")
    return official.declaration, official.by_value(event)


def to_dict(event: Any) -> dict[str, Any]:
    """An event, or a view of one, as JSON-able data; ``dataclasses.asdict`` keeps Python's types instead.

    Raises EventEncodingError when a value does not fit its field.
    """
    declaration, event = _declared(event)
    return plain_event(coerce_event(declaration, event), declaration)


def to_json(event: Any, *, indent: int | None = None) -> str:
    """An event, or a view of one, as JSON text with its fields in order of declaration."""
    return json.dumps(to_dict(event), ensure_ascii=False, allow_nan=False, indent=indent)


# -- and back --------------------------------------------------------------------------------------------------------


class _Bad(Exception):
    def __init__(self, path: str, reason: str, value: object) -> None:
        super().__init__(path, reason, value)
        self.path, self.reason, self.value = path, reason, value


@overload
def from_json(cls: type[E], data: str | bytes | bytearray | dict[str, Any]) -> E: ...
@overload
def from_json(cls: EventType, data: str | bytes | bytearray | dict[str, Any]) -> Any: ...
def from_json(cls: Any, data: str | bytes | bytearray | dict[str, Any]) -> Any:
    """An event from JSON text or from what ``to_dict`` gave; ``cls`` is the event class or its EventType.

    Every field is checked; EventEncodingError names the path of what does not fit. Missing fields take their default,
    unknown ones are refused.
    """
    from varve.codec.official import OfficialType, official_type

    official = cls if isinstance(cls, OfficialType) else official_type(cls)
    if official is not None:
        return official.view(official.twin.pack(from_json(official.twin, data)))
    declaration: Declaration | None = getattr(cls, "__varve__", None) or getattr(cls, "declaration", None)
    if declaration is None:
        raise TypeError(f"from_json takes an event class, not {cls!r}")
    if isinstance(data, (str, bytes, bytearray)):
        try:
            data = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise EventEncodingError(
                f"{declaration.name} is not given as JSON: {error}", type_name=declaration.name, field="", value=data
            ) from error
    try:
        event = _event(declaration, data, "", 0)
    except _Bad as bad:
        raise encoding_error(declaration.name, bad.path, bad.reason, bad.value) from None
    return coerce_event(declaration, event)


DEPTH_MAX = 100
"""Above the nesting limit of events, which gives the better message, and below Python's own."""


def _event(declaration: Declaration, data: Any, path: str, depth: int) -> Any:
    if not isinstance(data, dict):
        raise _Bad(path, f"must be an object with the fields of {declaration.name}", data)
    if depth > DEPTH_MAX:
        raise _Bad(path, "is nested too deeply", "...")
    values: dict[str, Any] = {}
    for f in declaration.fields:
        where = f"{path}.{f.name}" if path else f.name
        if f.name in data:
            item = data[f.name]
            values[f.name] = None if item is None and f.optional else _value(f.kind, item, where, declaration, depth)
        elif f.optional:
            values[f.name] = None
        elif f.default is not NO_DEFAULT:
            values[f.name] = absent_object(f.kind, f.default, declaration)
        else:
            raise _Bad(where, "is missing", None)
    for name in data:
        if name not in values and name != TYPE_KEY:
            raise _Bad(f"{path}.{name}" if path else str(name), f"is no field of {declaration.name}", data[name])
    return rebuild(declaration.cls, tuple(values[f.name] for f in declaration.fields))


def absent_object(kind: Kind, default: Any, declaration: Declaration) -> Any:
    """The Python value of a schema's default; without one the number 0, for an enum without 0 its first member.

    Raises SchemaError for a default that the kind cannot have.
    """
    if default is NO_DEFAULT:
        if kind.tag == "enum":
            cls = declaration.enum_of(kind.name)
            return next((m for m in cls if m == 0), next(iter(cls.__members__.values()))) if not _flags(cls) else cls(0)
        default = {"bool": False, "f32": 0.0, "f64": 0.0, "datetime": "1970-01-01T00:00:00+00:00"}.get(kind.tag, 0)
    try:
        return _value(kind, default, "", declaration, 0)
    except _Bad as bad:
        raise SchemaError(f"a default of {kind} {bad.reason}, not {bad.value!r:.100}") from None


def _flags(cls: Any) -> bool:
    return issubclass(cls, IntFlag)


def _value(kind: Kind, data: Any, path: str, declaration: Declaration, depth: int) -> Any:
    match kind.tag:
        case "f32" | "f64":
            return FLOATS.get(data, data) if isinstance(data, str) else data
        case "bytes" | "datetime" | "uuid" | "decimal":
            return _text(kind.tag, data, path)
        case "enum":
            return _enum(kind, data, path, declaration)
        case "vector" | "array":
            if not isinstance(data, (list, tuple)):
                raise _Bad(path, f"must be a list ({kind})", data)
            assert kind.item is not None
            item = kind.item
            return tuple(_value(item, one, f"{path}[{i}]", declaration, depth) for i, one in enumerate(data))
        case "table" | "struct":
            return _event(declaration.declaration_of(kind.name), data, path, depth + 1)
        case "union":
            name = data.get(TYPE_KEY) if isinstance(data, dict) else None
            if name not in kind.names:
                raise _Bad(path, f"must be an object whose {TYPE_KEY!r} is one of {', '.join(kind.names)}", data)
            return _event(declaration.declaration_of(name), data, path, depth + 1)
    return data


def _text(tag: str, data: Any, path: str) -> Any:
    want = {
        "bytes": "base64 text",
        "datetime": "an ISO 8601 time with its offset",
        "uuid": "a UUID",
        "decimal": "a decimal",
    }
    if not isinstance(data, str):
        raise _Bad(path, f"must be {want[tag]}", data)
    try:
        if tag == "bytes":
            return base64.b64decode(data, validate=True)
        if tag == "datetime":
            return as_utc(datetime.fromisoformat(data))
        return UUID(data) if tag == "uuid" else Decimal(data)
    except (ValueError, binascii.Error, InvalidOperation):
        raise _Bad(path, f"must be {want[tag]}", data) from None


def _enum(kind: Kind, data: Any, path: str, declaration: Declaration) -> Any:
    cls = declaration.enum_of(kind.name)
    if isinstance(data, str) and data in cls.__members__:
        return cls.__members__[data]
    if type(data) is not int:
        raise _Bad(path, f"must be a member of {kind.name}", data)
    try:
        return cls(data)
    except ValueError:
        return data
