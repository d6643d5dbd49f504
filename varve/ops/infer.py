"""A schema for data that has none: what values of a column are, seen one after the other, and the event type that holds them.

Bounded memory: of a column only what it could be is remembered. The rule is that nothing is lost: a number with leading zeros is
text, an integer beyond 64 bits is text or a decimal, and what is irregular is kept as JSON text.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import keyword
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from varve import limits
from varve.codec import EventType, event_type_from_schema
from varve.codec.check import nanoseconds
from varve.codec.schema import INT_RANGES
from varve.errors import InvalidInput

__all__ = ["Guess", "Kind", "Shape", "as_json", "cell_value", "event_type_of", "field_names", "moment", "table_shape"]

Kind = str | dict[str, Any]
"""A kind as the canonical text of a schema spells it."""

_INT: Final = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_FLOAT: Final = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?|NaN|nan|-?(Infinity|inf)", re.ASCII)
_MOMENT: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}([.,][0-9]{1,6}0*)?)?(Z|[+-][0-9]{2}:?[0-9]{2})?",
    re.ASCII,
)
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.ASCII)
_TIMES: Final = frozenset({"i64", "u64"})
"""Integers that can hold a time, as nanoseconds since 1970: what .fbs text says of times."""
_BOOLS: Final = {"true": True, "false": False, "True": True, "False": False, "TRUE": True, "FALSE": False}
_EXACT: Final = 2**53
_DIGITS_MAX: Final = 4_000
_DEPTH_MAX: Final = limits.NESTING_DEPTH_MAX // 2


@dataclass(slots=True)
class Shape:
    """How values become fields: ``tag`` of their kind, the members of objects by name (field and shape), of lists the shape of
    their items."""

    tag: str
    is_json_text: bool = False
    members: dict[str, tuple[str, Shape]] = field(default_factory=dict)
    items: Shape | None = None


def moment(text: str) -> dt.datetime | None:
    """An ISO 8601 time of day on a date that a field can hold without loss; None for anything else. May be naive."""
    if not _MOMENT.fullmatch(text):
        return None
    try:
        when = dt.datetime.fromisoformat(text.replace(",", "."))
        aware = when if when.tzinfo is not None else when.replace(tzinfo=dt.UTC)
        low, high = INT_RANGES["i64"]
        return when if low <= nanoseconds(aware) <= high else None
    except (ValueError, OverflowError):
        return None


def _is_double(text: str) -> bool:
    """Whether a number's text is one that a float holds: one that overflows would become infinite."""
    return text.lstrip("-")[:1] in {"N", "n", "I", "i"} or abs(float(text)) != float("inf")


class Guess:
    """What the values of one column, of one member of objects, or of the items of lists, could be."""

    def __init__(self) -> None:
        self.present = 0
        self.missing = 0
        self._seen: set[str] = set()
        self._low = self._high = 0
        self._text = {"bool", "int", "float", "datetime", "uuid"}
        self._zones: set[bool] = set()
        self.items: Guess | None = None
        self.members: dict[str, Guess] = {}
        self._is_irregular = False

    # -- seeing ------------------------------------------------------------------------------------

    def cell(self, text: str) -> None:
        """A cell of a CSV file; an empty one is missing."""
        if not text:
            self.missing += 1
            return
        self.present += 1
        self._seen.add("cell")
        could = self._text
        if not could:
            return
        if "bool" in could and text not in _BOOLS:
            could.discard("bool")
        if "int" in could:
            if _INT.fullmatch(text) and len(text) < _DIGITS_MAX and text != "-0":
                self._range(int(text))
            else:
                could.discard("int")
        if "float" in could and not (_FLOAT.fullmatch(text) and _is_double(text)):
            could.discard("float")
        self._moment_or_uuid(text)

    def _moment_or_uuid(self, text: str) -> None:
        could = self._text
        if "datetime" in could:
            when = moment(text)
            if when is None:
                could.discard("datetime")
            else:
                self._zones.add(when.tzinfo is not None)
        if "uuid" in could and not _UUID.fullmatch(text):
            could.discard("uuid")

    def _range(self, number: int) -> None:
        self._low, self._high = min(self._low, number), max(self._high, number)

    def value(self, value: Any, depth: int = 0) -> None:
        """A value as JSON or Python has it; None is missing."""
        if value is None:
            self.missing += 1
            return
        self.present += 1
        match value:
            case bool():
                self._seen.add("bool")
            case int():
                self._seen.add("int")
                self._range(value)
            case float():
                self._seen.add("float")
            case str():
                self._seen.add("str")
                self._moment_or_uuid(value)
            case bytes() | Decimal() | uuid.UUID():
                self._seen.add({bytes: "bytes", Decimal: "decimal", uuid.UUID: "uuid"}[type(value)])
            case dt.datetime():
                self._seen.add("datetime")
                self._zones.add(value.tzinfo is not None)
            case dt.date() | dt.time():
                self._seen.add("date")
            case list() | tuple():
                self._seen.add("list")
                self._list(value, depth)
            case Mapping():
                self._seen.add("object")
                self._object(value, depth)
            case _:
                self._is_irregular = True

    def _list(self, value: list[Any] | tuple[Any, ...], depth: int) -> None:
        if self.items is None:
            self.items = Guess()
        if depth == _DEPTH_MAX:
            self._is_irregular = True
            return
        for item in value:
            self.items.value(item, depth + 1)

    def _object(self, value: Mapping[str, Any], depth: int) -> None:
        if depth == _DEPTH_MAX:
            self._is_irregular = True
        if self._is_irregular:
            return
        members = self.members
        for name, item in value.items():
            guess = members.get(name)
            if guess is None:
                if len(members) == limits.FIELDS_MAX:  # its keys are data
                    self._is_irregular = True
                    members.clear()
                    return
                guess = members[name] = Guess()
            guess.value(item, depth + 1)

    # -- deciding ----------------------------------------------------------------------------------

    @property
    def is_naive(self) -> bool:
        """Whether its times have no offset from UTC."""
        return self._zones == {False}

    def irregular(self) -> str | None:
        """Why its values are kept as JSON text; None where they are not."""
        seen = self._seen - {"cell"}
        if self._is_irregular:
            return "too many members, or nested too deeply"
        if seen == {"int", "float"} and self._low >= -_EXACT and self._high <= _EXACT:
            return None
        if len(seen) > 1:
            return f"mixed: {' and '.join(sorted(seen))}"
        if seen == {"object"} and not self.members:
            return "objects without members"
        if seen == {"list"} and self.items is not None:
            if self.items.missing:
                return "lists with nulls"
            if self.items.items is not None:
                return "lists of lists"
            if self.items.irregular() is not None:
                return f"lists, {self.items.irregular()}"
        return None

    def shape(self, name: str, types: dict[str, Any]) -> tuple[Kind, Shape]:
        """What they are. Tables that they need are added to ``types``, under names that begin with ``name``."""
        if self.irregular() is not None:
            return "str", Shape("str", is_json_text=True)
        seen = self._seen
        if seen == {"list"}:
            assert self.items is not None
            kind, shape = self.items.shape(name, types)
            return {"vector": kind}, Shape("vector", items=shape)
        if seen == {"object"}:
            while name in types:
                name += "_"
            return {"table": name}, table_shape(types, name, self.members, self.present)
        if "float" in seen:
            tag = "f64"
        elif seen == {"int"}:
            tag = self._int() or "decimal"
        elif seen & {"cell", "str"}:
            tag = self._of_text()
        elif not seen or seen == {"date"}:
            tag = "str"
        else:
            (tag,) = seen
        return tag, Shape(tag)

    def _int(self) -> str | None:
        if INT_RANGES["i64"][0] <= self._low and self._high <= INT_RANGES["i64"][1]:
            return "i64"
        return "u64" if self._low == 0 and self._high <= INT_RANGES["u64"][1] else None

    def _of_text(self) -> str:
        could = self._text
        if "cell" in self._seen:
            if "bool" in could:
                return "bool"
            if "int" in could:
                return self._int() or "str"
            if "float" in could:
                return "f64"
        if "datetime" in could and len(self._zones) == 1:
            return "datetime"
        return "uuid" if "uuid" in could else "str"


def table_shape(types: dict[str, Any], name: str, members: Mapping[str, Guess], total: int) -> Shape:
    """Describe so many objects with these members as a table. Raises ``InvalidInput`` where there are too many."""
    if len(members) > limits.FIELDS_MAX:
        raise InvalidInput(f"{len(members)} columns; an event has at most FIELDS_MAX = {limits.FIELDS_MAX} fields")
    fields: list[dict[str, Any]] = []
    types[name] = {"table": fields}
    shape = Shape("table")
    for (member, guess), label in zip(members.items(), field_names(members), strict=True):
        kind, inside = guess.shape(f"{name}_{label}", types)
        entry: dict[str, Any] = {"name": label, "type": kind}
        if guess.present < total:
            entry["optional"] = True
        fields.append(entry)
        shape.members[member] = (label, inside)
    return shape


def declared_shape(kind: Any, declaration: Any, inside: tuple[str, ...] = ()) -> Shape:
    """The shape of a kind that a schema declares, for values whose members are called as fields are, or could be."""
    if kind.item is not None:
        return Shape(kind.tag, items=declared_shape(kind.item, declaration, inside))
    if kind.tag in {"table", "struct"} and kind.name not in inside:  # one that holds itself takes members as they are
        return Shape(kind.tag, members=declared_members(declaration.declaration_of(kind.name), (*inside, kind.name)))
    return Shape(kind.tag)


def declared_members(declaration: Any, inside: tuple[str, ...] = ()) -> dict[str, tuple[str, Shape]]:
    """The fields of an event type as members of objects."""
    return {f.name: (f.name, declared_shape(f.kind, declaration, inside)) for f in declaration.fields}


def field_names(columns: Mapping[str, Any] | list[str]) -> list[str]:
    """Names that fields can have, for columns of any name, in order: no two alike."""
    taken: set[str] = set()
    out = []
    for column in columns:
        name = re.sub(r"[^A-Za-z0-9_]+", "_", column) if column.isascii() else re.sub(r"\W+", "_", _ascii(column))
        name = name.strip("_") or "column"
        if name[0].isdigit():
            name = f"n{name}"
        if keyword.iskeyword(name):
            name += "_"
        base, number = name, 2
        while name in taken or name.startswith("__"):
            name = f"{base}_{number}"
            number += 1
        taken.add(name)
        out.append(name)
    return out


def _ascii(text: str) -> str:
    """The letters of a name without their marks; others are left out."""
    import unicodedata

    return unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()


def event_type_of(name: str, types: dict[str, Any]) -> EventType:
    """The event type of a root table and what it needs."""
    model = {"format": 1, "root": name, "types": types}
    return event_type_from_schema(json.dumps(model, sort_keys=True, separators=(",", ":")).encode())


# -- values ----------------------------------------------------------------------------------------


def cell_value(kind: Any, text: str) -> Any:
    """A cell of a CSV file as ``from_json`` takes it for a field of a kind (``schema.Kind``). Raises ``ValueError``."""
    tag = kind.tag
    if tag in INT_RANGES:
        if tag in _TIMES and (when := moment(text)) is not None:
            return _ns(when)
        if not _INT.fullmatch(text) or len(text) > _DIGITS_MAX:
            raise ValueError("is no integer")
        return int(text)
    if tag in {"f32", "f64"}:
        if not _FLOAT.fullmatch(text):
            raise ValueError("is no number")
        return float(text)
    if tag == "bool":
        if text not in _BOOLS:
            raise ValueError("is neither true nor false")
        return _BOOLS[text]
    if tag == "datetime":
        return _utc(text)
    if tag == "struct" and _UUID.fullmatch(text):
        return _uuid_struct(text)
    if tag == "enum" and _INT.fullmatch(text):
        return int(text)
    if tag in {"vector", "array", "table", "struct", "union"}:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            raise ValueError("is no JSON") from None
    return text


def _uuid_struct(text: str) -> dict[str, list[int]]:
    """A UUID as the struct that .fbs text makes of it."""
    return {"bytes": list(uuid.UUID(text).bytes)}


def _ns(when: dt.datetime) -> int:
    return nanoseconds(when if when.tzinfo is not None else when.replace(tzinfo=dt.UTC))


def _utc(text: str) -> str:
    when = moment(text)
    if when is None:
        raise ValueError("is no ISO 8601 time that fits a field (years 1677 to 2262, microseconds)")
    return (when if when.tzinfo is not None else when.replace(tzinfo=dt.UTC)).isoformat()


def as_json(value: Any, shape: Shape) -> Any:
    """A value as ``from_json`` takes it. Raises ``ValueError``."""
    if value is None:
        return None
    if shape.is_json_text:
        return json.dumps(plain(value), ensure_ascii=False)
    match value:
        case bool():
            return value
        case str():
            if shape.tag in _TIMES and (when := moment(value)) is not None:
                return _ns(when)
            if shape.tag == "struct" and _UUID.fullmatch(value):
                return _uuid_struct(value)
            return _utc(value) if shape.tag == "datetime" else value
        case int():
            return str(value) if shape.tag == "decimal" else value
        case list() | tuple() if shape.items is not None:
            items = shape.items
            return [as_json(one, items) for one in value]
        case Mapping() if shape.members:
            return as_members(value, shape.members)
    return plain(value)


def as_members(value: Mapping[str, Any], members: Mapping[str, tuple[str, Shape]]) -> dict[str, Any]:
    """An object as ``from_json`` takes it. Raises ``ValueError``."""
    out = {}
    for name, one in value.items():
        known = members.get(name)
        if known is None:
            raise ValueError(f"has the member {name!r}, which is no field")
        try:
            out[known[0]] = as_json(one, known[1])
        except ValueError as exc:
            raise ValueError(f"{name}: {exc}") from None
    return out


def plain(value: Any) -> Any:
    """A value as JSON has it."""
    match value:
        case dt.datetime():
            return (value if value.tzinfo is not None else value.replace(tzinfo=dt.UTC)).isoformat()
        case dt.date() | dt.time():
            return value.isoformat()
        case Decimal() | uuid.UUID():
            return str(value)
        case bytes():
            return base64.b64encode(value).decode()
        case list() | tuple():
            return [plain(one) for one in value]
        case Mapping():
            return {str(name): plain(one) for name, one in value.items()}
    return value
