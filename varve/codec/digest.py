"""The canonical text of an event by value, for idempotency digests.

It names fields and leaves out those that hold their absent value (None of an optional field, a declared default): appending
fields to a class changes no digest of events that do not use them. Numbers, text and bytes are spelled by ``ascii``, whose
result no Python version changes for them; datetimes count as nanoseconds.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

from varve.codec.check import nanoseconds
from varve.codec.json import absent_object
from varve.codec.schema import NO_DEFAULT, Kind

if TYPE_CHECKING:
    from varve.codec.declare import Declaration

__all__ = ["digest_text"]

_MISSING = object()


class _Step(NamedTuple):
    """How one field digests: its name, its value left out (``_MISSING``: none is), how the value is spelled (None: as it is)."""

    name: str
    absent: Any
    spell: Callable[[Any], Any] | None


def digest_text(declaration: Declaration, event: Any) -> bytes:
    """``event`` must be in canonical form: ``coerce_event``, or a view of what our own packer made."""
    return ascii((declaration.name, _fields(declaration, event))).encode()


def _fields(declaration: Declaration, event: Any) -> tuple[Any, ...]:
    steps: tuple[Callable[[Any], tuple[Any, ...]], list[_Step]] | None = declaration.digest_steps
    if steps is None:
        steps = declaration.digest_steps = _steps(declaration)
    values, fields = steps
    found = []
    for (name, absent, spell), value in zip(fields, values(event), strict=True):
        if value is not absent and (absent is None or value != absent):
            found.append((name, value if spell is None else spell(value)))
    return tuple(found)


def _steps(declaration: Declaration) -> tuple[Callable[[Any], tuple[Any, ...]], list[_Step]]:
    """Worked out once per class: one call that reads every field, and what to do with each."""
    fields = []
    for f in declaration.fields:
        absent = _MISSING
        if f.optional:
            absent = None
        elif f.default is not NO_DEFAULT:
            absent = absent_object(f.kind, f.default, declaration)
        fields.append(_Step(f.name, absent, _speller(f.kind, declaration)))
    names = [f.name for f in declaration.fields]
    if len(names) > 1:
        return attrgetter(*names), fields
    return (lambda event: tuple(getattr(event, name) for name in names)), fields


def _speller(kind: Kind, declaration: Declaration) -> Callable[[Any], Any] | None:
    """What makes a value of this kind one whose ``ascii`` never changes."""
    match kind.tag:
        case "datetime":
            return nanoseconds
        case "uuid":
            return attrgetter("bytes")
        case "decimal":
            return str
        case "enum":
            return int
        case "vector" | "array":
            assert kind.item is not None
            item = _speller(kind.item, declaration)
            return tuple if item is None else lambda values: tuple(map(item, values))
        case "table" | "struct":
            return lambda value: _fields(declaration.declaration_of(kind.name), value)
        case "union":
            return lambda value: (type(value).__varve__.name, _fields(type(value).__varve__, value))
    return None
