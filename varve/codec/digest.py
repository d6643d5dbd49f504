"""The canonical text of an event by value, for idempotency digests.

It names fields and leaves out those that hold their absent value (None of an optional field, a declared default): appending
fields to a class changes no digest of events that do not use them. Numbers, text and bytes are spelled by ``ascii``, whose
result no Python version changes for them; datetimes count as nanoseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from varve.codec.check import nanoseconds
from varve.codec.json import absent_object
from varve.codec.schema import NO_DEFAULT, FieldDef, Kind

if TYPE_CHECKING:
    from varve.codec.declare import Declaration

__all__ = ["digest_text"]


def digest_text(declaration: Declaration, event: Any) -> bytes:
    """``event`` must be in canonical form (``coerce_event``)."""
    return ascii((declaration.name, _fields(declaration, event))).encode()


def _fields(declaration: Declaration, event: Any) -> tuple[Any, ...]:
    return tuple(
        (f.name, _value(f.kind, value, declaration))
        for f in declaration.fields
        if not _is_absent(f, value := getattr(event, f.name), declaration)
    )


def _is_absent(f: FieldDef, value: Any, declaration: Declaration) -> bool:
    if f.optional:
        return value is None
    return f.default is not NO_DEFAULT and bool(value == absent_object(f.kind, f.default, declaration))


def _value(kind: Kind, value: Any, declaration: Declaration) -> Any:
    match kind.tag:
        case "datetime":
            return nanoseconds(value)
        case "uuid":
            return value.bytes
        case "decimal":
            return str(value)
        case "enum":
            return int(value)
        case "vector":
            assert kind.item is not None
            return tuple(_value(kind.item, item, declaration) for item in value)
        case "table" | "struct":
            return _fields(declaration.declaration_of(kind.name), value)
        case "union":
            found = type(value).__varve__
            return (found.name, _fields(found, value))
    return value
