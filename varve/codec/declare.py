"""From a class to a schema: ``@event``, ``@struct`` and what their annotations mean.

Field ids follow the order of declaration. Event classes do not inherit fields: a base class may bring methods, never
annotations, so that the order of ids stands in one place. Annotations may be strings and may name classes that come
later; what cannot be resolved yet is resolved at first use.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterator
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum, IntEnum, IntFlag
from typing import Any, ClassVar, Final, TypeVar, overload
from uuid import UUID

from typing_extensions import dataclass_transform

from varve import limits
from varve.codec import values
from varve.codec.check import coerce_value, normaliser
from varve.codec.json import plain
from varve.codec.schema import (
    ALIGNMENTS,
    INT_RANGES,
    NO_DEFAULT,
    SCALARS,
    FieldDef,
    Kind,
    Schema,
    TypeDef,
    check_field_name,
    check_type_name,
)
from varve.errors import EventEncodingError, SchemaError
from varve.types import Length, Nested, Width

__all__ = ["Declaration", "declaration", "event", "stored_as", "struct"]

T = TypeVar("T")
E = TypeVar("E", bound=IntEnum | IntFlag)

PLAIN: Final[dict[Any, str]] = {
    bool: "bool",
    int: "i64",
    float: "f64",
    str: "str",
    bytes: "bytes",
    datetime: "datetime",
    UUID: "uuid",
    Decimal: "decimal",
}

INSTEAD: Final[dict[Any, str]] = {
    dict: "use a list of a nested event class with a key and a value field",
    set: "use list[T]",
    frozenset: "use list[T]",
    list: "say what it holds: list[T]",
    tuple: "say what it holds: tuple[T, ...]",
    bytearray: "use bytes",
    memoryview: "use bytes, or list[varve.u8] to read it without a copy",
    complex: "use two floats",
    object: "name one concrete type",
    Any: "name one concrete type, or bytes for data of your own encoding",
    date: "use datetime, or a str in ISO form",
    time: "use datetime, or a number with its unit in the name",
    timedelta: "use a number with its unit in the name, as in timeout_ms: varve.u64",
    type(None): "use T | None",
}

EMPTY_VECTORS: Final[tuple[Any, ...]] = (list, tuple)
"""Default factories that are as good as a plain default."""

MARK: Final = "__varve__"

UNION_MEMBERS_MAX: Final = 255
"""A union's member number is one byte, and 0 is no member."""


class Declaration:
    """What a decorated class declares. ``resolve`` turns its annotations into fields, once."""

    __slots__ = (
        "_fields",
        "_hold",
        "align",
        "bound",
        "cls",
        "compiled",
        "digest_steps",
        "doc",
        "dynamic",
        "hooked",
        "key",
        "name",
        "placeholder",
        "scope",
        "what",
    )

    def __init__(self, cls: type, what: str, name: str, scope: dict[str, Any]) -> None:
        self.cls = cls
        self.what = what
        self.name = name
        self.scope = scope
        self.align = 0
        self.doc = ""
        self.bound: dict[str, Any] = {}
        self.placeholder = type(cls.__name__, (), {})
        self.key: Callable[[Any], tuple[Any, ...]] | None = None
        self.compiled: Any = None
        self.dynamic: bytes | None = None
        self.hooked = False
        self.digest_steps: Any = None
        self._hold: dict[str, tuple[Kind, bool]] | None = None
        self._fields: tuple[FieldDef, ...] | None = None

    def __repr__(self) -> str:
        return f"<{self.what} {self.name}>"

    # -- what the other rooms ask ------------------------------------------------------------------------------------

    @property
    def fields(self) -> tuple[FieldDef, ...]:
        """In order of declaration; SchemaError when an annotation still names nothing."""
        if self._fields is None:
            try:
                self.read_annotations()
            except NameError as error:
                raise SchemaError(f"{self.name}: an annotation names something unknown: {error}") from error
            self.finish()
        assert self._fields is not None
        return self._fields

    def declaration_of(self, name: str) -> Declaration:
        """The nested class of that name."""
        found = self.bound[name]
        assert isinstance(found, Declaration)
        return found

    def enum_of(self, name: str) -> type[IntEnum | IntFlag]:
        """The enum class of that name."""
        found = self.bound[name]
        assert not isinstance(found, Declaration)
        return found  # type: ignore[no-any-return]

    def base_of(self, name: str) -> str:
        """How the enum of that name is stored."""
        return enum_def(name, self.bound[name]).base

    def normalisers(self) -> list[tuple[str, Callable[[Any], Any]]]:
        """Fields that construction changes, and how."""
        if self._hold is None:
            _ = self.fields
        assert self._hold is not None
        found = ((name, normaliser(kind)) for name, (kind, _) in self._hold.items())
        return [(name, fix) for name, fix in found if fix is not None]

    def definition(self) -> TypeDef:
        """This class as it stands in a schema."""
        return TypeDef(self.what, self.name, fields=self.fields, align=self.align)

    def schema(self) -> Schema:
        """The schema with every type it needs; SchemaError when two different classes share a name."""
        found: dict[str, Any] = {}
        for name, target in self.reachable():
            if found.setdefault(name, target) is not target:
                raise SchemaError(f"{self.name} needs two different types named {name!r}; rename one of them")
        types_ = {
            name: target.definition() if isinstance(target, Declaration) else enum_def(name, target)
            for name, target in found.items()
        }
        schema = Schema(self.name, types_)
        if len(schema.to_bytes()) > limits.SCHEMA_BYTES_MAX:
            raise SchemaError(f"the schema of {self.name} is longer than {limits.SCHEMA_BYTES_MAX} bytes")
        return schema

    def reachable(self) -> Iterator[tuple[str, Any]]:
        """(name, Declaration or enum class) of this and all it needs; a name may come twice."""
        seen: set[int] = set()
        todo: list[tuple[str, Any]] = [(self.name, self)]
        while todo:
            name, target = todo.pop()
            if id(target) in seen:
                continue
            seen.add(id(target))
            yield name, target
            if isinstance(target, Declaration):
                _ = target.fields
                todo.extend(target.bound.items())

    # -- reading the class -------------------------------------------------------------------------------------------

    def read_annotations(self) -> None:
        """Annotations to kinds; NameError when one names something that does not exist yet."""
        # A frame's names serve function-level classes; the class's own name means the class that is being made.
        scope = {**self.scope, self.cls.__name__: self.placeholder}
        try:
            hints = typing.get_type_hints(self.cls, localns=scope, include_extras=True)
        except (TypeError, SyntaxError) as error:
            raise SchemaError(f"{self.name}: an annotation cannot be read: {error}") from error
        hold: dict[str, tuple[Kind, bool]] = {}
        for name in inspect.get_annotations(self.cls):
            hint = hints[name]
            if typing.get_origin(hint) is ClassVar or hint is ClassVar or hint is dataclasses.KW_ONLY:
                continue
            if isinstance(hint, dataclasses.InitVar):
                raise SchemaError(f"{self.name}.{name}: an event is its fields; InitVar cannot be stored")
            check_field_name(name, self.name)
            hold[name] = self.kind_or_optional(hint, f"{self.name}.{name}")
        if len(hold) > limits.FIELDS_MAX:
            raise SchemaError(f"{self.name} has {len(hold)} fields; at most {limits.FIELDS_MAX} fit an event")
        self._hold = hold

    def kind_or_optional(self, hint: Any, where: str) -> tuple[Kind, bool]:
        """The kind of a field's annotation, and whether None is allowed."""
        hint = unwrapped(hint)
        if not is_union(hint):
            return self.kind(hint, where), False
        members = [unwrapped(arg) for arg in typing.get_args(hint) if arg is not type(None)]
        optional = len(members) < len(typing.get_args(hint))
        if self.what == "struct":
            raise SchemaError(f"{where}: a struct holds numbers and structs only, all of them always; use @varve.event")
        if len(members) == 1:
            return self.kind(members[0], where), optional
        return self.union(members, where), optional

    def union(self, members: list[Any], where: str) -> Kind:
        """The kind of a union of these types; SchemaError unless all are event classes."""
        kinds = [self.kind(member, where) for member in members]
        if any(kind.tag != "table" for kind in kinds):
            raise SchemaError(
                f"{where}: a union of {' | '.join(map(str, kinds))} cannot be stored; a union may hold event classes only: "
                "wrap the others in one each, or use one field per type, each T | None"
            )
        if len(kinds) > UNION_MEMBERS_MAX:
            raise SchemaError(f"{where}: a union has at most {UNION_MEMBERS_MAX} members, not {len(kinds)}")
        return Kind("union", names=tuple(kind.name for kind in kinds))

    def kind(self, hint: Any, where: str, inside_vector: bool = False) -> Kind:
        """The kind of one type without None; SchemaError names ``where`` and what to use instead."""
        hint = unwrapped(hint)
        if isinstance(hint, Kind):
            found = hint
        elif isinstance(hint, _Fixed):
            found = self.array(hint, where)
        elif isinstance(hint, _Holding):
            found = self.nested(hint, where, inside_vector)
        elif isinstance(hint, type) and hint in PLAIN:
            found = Kind(PLAIN[hint])
        elif typing.get_origin(hint) in {list, tuple, collections.abc.Sequence}:
            found = self.vector(hint, where, inside_vector)
        elif isinstance(hint, type) and typing.get_origin(hint) is None:
            found = self.named(hint, where)
        elif inside_vector and is_union(hint) and type(None) not in typing.get_args(hint):
            found = self.union([unwrapped(arg) for arg in typing.get_args(hint)], where)
        else:
            raise SchemaError(f"{where}: {spelled(hint)} cannot be stored; {self.instead(hint, inside_vector)}")
        if self.what == "struct" and not found.inline:
            raise SchemaError(
                f"{where}: a struct holds numbers and structs only, not {found}; use @varve.event instead"
            )
        return found

    def instead(self, hint: Any, inside_vector: bool) -> str:
        """Advice for a type that cannot be stored."""
        origin = typing.get_origin(hint)
        if is_union(hint) and inside_vector:
            return "items of a vector are never None: leave them out, or use a nested event class with such a field"
        if origin is typing.Literal:
            return "use an IntEnum, or str"
        if isinstance(hint, TypeVar):
            return "name one concrete type"
        key = origin or hint
        known = isinstance(key, collections.abc.Hashable) and key in INSTEAD
        return (
            INSTEAD[key] if known else "use numbers, str, bytes, lists of them, or a class decorated with @varve.event"
        )

    def vector(self, hint: Any, where: str, inside_vector: bool) -> Kind:
        """The kind of list[T], tuple[T, ...] or Sequence[T]."""
        args = typing.get_args(hint)
        if inside_vector:
            raise SchemaError(f"{where}: a vector of vectors cannot be stored; use a list of a nested event class")
        if typing.get_origin(hint) is tuple and (len(args) != 2 or args[1] is not Ellipsis):
            raise SchemaError(f"{where}: {spelled(hint)} cannot be stored; use tuple[T, ...] or a @varve.struct class")
        if not args:
            raise SchemaError(f"{where}: say what it holds: list[T]")
        return Kind("vector", item=self.kind(args[0], where, inside_vector=True))

    def array(self, hint: _Fixed, where: str) -> Kind:
        """The kind of Annotated[tuple[T, ...], Length(n)]."""
        if self.what != "struct":
            raise SchemaError(f"{where}: only a struct holds arrays of fixed length; use list[T]")
        if not 0 < hint.items < 2**16:
            raise SchemaError(f"{where}: an array holds 1 .. 65535 items, not {hint.items}")
        item = typing.get_args(hint.base)[0] if typing.get_origin(hint.base) in {list, tuple} else None
        if item is None or typing.get_origin(unwrapped(item)) in {list, tuple} or isinstance(unwrapped(item), _Fixed):
            raise SchemaError(f"{where}: Length says how long a tuple[T, ...] of numbers or structs is")
        return Kind("array", item=self.kind(item, where, inside_vector=True), length=hint.items)

    def nested(self, hint: _Holding, where: str, inside_vector: bool) -> Kind:
        """The kind of Annotated[bytes, Nested(T)]."""
        if hint.base is not bytes:
            raise SchemaError(
                f"{where}: Nested says what bytes hold: Annotated[bytes, Nested(T)], with | None outside of it"
            )
        if inside_vector:
            raise SchemaError(
                f"{where}: items of a vector are no nested buffers; use a list of a class with such a field"
            )
        of = unwrapped(hint.of)
        held = self.named(of, where) if isinstance(of, type) else None
        if held is None or held.tag != "table":
            raise SchemaError(f"{where}: a nested buffer is one of an event class, not of {spelled(hint.of)}")
        return Kind("bytes", name=held.name)

    def named(self, hint: type, where: str) -> Kind:
        """An enum, or a decorated class."""
        if hint is self.placeholder or hint is self.cls:
            return self.bind(Kind("struct" if self.what == "struct" else "table", name=self.name), self, where)
        if issubclass(hint, (IntEnum, IntFlag)):
            name = enum_mark(hint).name or hint.__name__
            enum_def(name, hint)
            return self.bind(Kind("enum", name=name), hint, where)
        if issubclass(hint, Enum):
            raise SchemaError(f"{where}: {hint.__name__} is stored as a number; make it an IntEnum or IntFlag")
        found = hint.__dict__.get(MARK)
        if isinstance(found, Declaration):
            return self.bind(Kind(found.what, name=found.name), found, where)
        if hint in INSTEAD:
            raise SchemaError(f"{where}: {hint.__name__} cannot be stored; {INSTEAD[hint]}")
        raise SchemaError(
            f"{where}: {spelled(hint)} cannot be stored; decorate it with @varve.event (or @varve.struct), or use numbers, "
            "str, bytes or lists of them"
        )

    def bind(self, kind: Kind, target: Any, where: str) -> Kind:
        """Remember which class a name means."""
        if self.what == "struct" and target is self:
            raise SchemaError(f"{where}: a struct cannot hold itself; use @varve.event")
        if self.bound.setdefault(kind.name, target) is not target:
            raise SchemaError(f"{where}: two different types are named {kind.name!r}; rename one of them")
        return kind

    def finish(self) -> None:
        """Kinds and the dataclass's defaults to fields."""
        assert self._hold is not None
        out: list[FieldDef] = []
        for f in dataclasses.fields(self.cls):
            if not f.init:
                raise SchemaError(f"{self.name}.{f.name}: an event is its fields; init=False cannot be rebuilt")
            kind, optional = self._hold[f.name]
            default = self.absent_value(f, kind, optional)
            deprecated = bool(f.metadata.get("deprecated", False))
            if deprecated and default is NO_DEFAULT and not optional:
                raise SchemaError(f"{self.name}.{f.name}: a deprecated field needs a default, or T | None")
            found = FieldDef(f.name, kind, optional, default, deprecated, *self.asked(f, kind, optional))
            if found.key and any(other.key for other in out):
                raise SchemaError(f"{self.name}.{f.name}: a class has one key at most")
            out.append(found)
        self._fields = tuple(out)
        self.scope = {}

    def asked(self, f: dataclasses.Field[Any], kind: Kind, optional: bool) -> tuple[bool, int]:
        """What a field's metadata asks for: ``key``, ``force_align``."""
        key, align = bool(f.metadata.get("key", False)), int(f.metadata.get("force_align", 0))
        if key and (optional or kind.tag not in {*SCALARS, "enum", "datetime", "str"}):
            raise SchemaError(f"{self.name}.{f.name}: a key is a number or a str that is always there, not {kind}")
        if key and kind.tag == "str" and f.default is not dataclasses.MISSING:
            raise SchemaError(
                f"{self.name}.{f.name}: a key that is a str has no default: other languages need it always"
            )
        inline_items = kind.tag == "vector" and kind.item is not None and kind.item.inline
        if align and (align not in ALIGNMENTS or not (inline_items or kind.tag == "bytes")):
            raise SchemaError(f"{self.name}.{f.name}: force_align is 1, 2, 4 or 8, for bytes and vectors of numbers")
        return key, align

    def absent_value(self, f: dataclasses.Field[Any], kind: Kind, optional: bool) -> Any:
        """A plain default is part of the schema: it is what events written before the field existed read as. A
        default_factory may give another value each time, so only ``list`` and ``tuple`` (an empty vector) count."""
        if optional or self.what == "struct":
            return NO_DEFAULT
        if kind.nested and f.default is not dataclasses.MISSING:
            raise SchemaError(f"{self.name}.{f.name}: a nested buffer has no default; make it bytes | None")
        if f.default_factory in EMPTY_VECTORS and kind.tag == "vector":
            return []
        if f.default is dataclasses.MISSING:
            return NO_DEFAULT
        try:
            return plain(kind, coerce_value(kind, f.default, f.name, self), self)
        except EventEncodingError as error:
            raise SchemaError(f"the default of {error.message}") from None


@dataclasses.dataclass(frozen=True)
class _Fixed:
    """What ``unwrapped`` makes of an Annotated type with a ``Length``."""

    base: Any
    items: int


@dataclasses.dataclass(frozen=True)
class _Holding:
    """What ``unwrapped`` makes of an Annotated type with a ``Nested``."""

    base: Any
    of: Any


def unwrapped(hint: Any) -> Any:
    """Without Annotated, NewType and ``type`` aliases; a ``Width`` becomes its kind, a ``Length`` a ``_Fixed``, a ``Nested`` a
    ``_Holding``."""
    for _ in range(limits.NESTING_DEPTH_MAX):
        if typing.get_origin(hint) is typing.Annotated:
            base, *marks = typing.get_args(hint)
            widths = [mark for mark in marks if isinstance(mark, Width)]
            lengths = [mark for mark in marks if isinstance(mark, Length)]
            if lengths:
                return _Fixed(base, lengths[-1].items)
            nested = [mark for mark in marks if isinstance(mark, Nested)]
            if nested:
                return _Holding(unwrapped(base), nested[-1].of)
            hint = Kind(widths[-1].name) if widths else base
        elif isinstance(hint, typing.NewType):
            hint = hint.__supertype__
        elif type(hint).__name__ == "TypeAliasType":
            hint = hint.__value__
        else:
            break
    return hint


def is_union(hint: Any) -> bool:
    return typing.get_origin(hint) in {typing.Union, types.UnionType}


def spelled(hint: Any) -> str:
    return (
        hint.__qualname__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint).replace("typing.", "")
    )


@dataclasses.dataclass(frozen=True, slots=True)
class EnumMark:
    """What ``stored_as`` says of an enum: its base, and its name in schemas (both empty: as usual); what a .fbs file says of its
    members."""

    base: str = ""
    name: str = ""
    docs: tuple[tuple[str, str], ...] = ()


ENUM_MARK: Final = "__varve_enum__"


def enum_mark(cls: Any) -> EnumMark:
    found = cls.__dict__.get(ENUM_MARK)
    return found if isinstance(found, EnumMark) else EnumMark()


def stored_as(width: Any = None, /, *, name: str | None = None) -> Callable[[type[E]], type[E]]:
    """Say how an IntEnum or IntFlag is stored: ``@stored_as(varve.u8)``; ``name`` is its name in schemas.

    Without it an IntEnum is stored as ``i32`` and an IntFlag as ``u32``, wider where its values need that. Raises SchemaError
    when a value does not fit.
    """
    kind = unwrapped(width)
    base = "" if width is None else kind.tag if isinstance(kind, Kind) else PLAIN.get(kind, "")
    if width is not None and base not in INT_RANGES:
        raise SchemaError("an enum is stored as varve.u8 .. varve.u64 or varve.i8 .. varve.i64")
    if name is not None:
        check_type_name(name)

    def mark(cls: type[E]) -> type[E]:
        if not (isinstance(cls, type) and issubclass(cls, (IntEnum, IntFlag))):
            raise SchemaError(f"stored_as takes an IntEnum or IntFlag, not {cls!r}")
        setattr(cls, ENUM_MARK, EnumMark(base, name or ""))
        enum_def(name or cls.__name__, cls)
        return cls

    return mark


def enum_def(name: str, cls: Any) -> TypeDef:
    """An IntEnum is stored as i32, an IntFlag as u32; wider only where their values need that, or as ``stored_as`` says."""
    check_type_name(name)
    members = tuple((label, int(value)) for label, value in cls.__members__.items())
    if not members:
        raise SchemaError(f"{name}: an enum needs at least one member")
    for label, _ in members:
        if not label.isascii():
            raise SchemaError(f"{name}.{label}: an enum member's name must be ASCII")
    flags = issubclass(cls, IntFlag)
    asked = enum_mark(cls).base
    for base in (asked,) if asked else ("u32", "i32", "u64", "i64") if flags else ("i32", "u32", "i64", "u64"):
        low, high = INT_RANGES[base]
        if all(low <= value <= high for _, value in members):
            return TypeDef("enum", name, members=members, base=base, flags=flags)
    raise SchemaError(f"{name}: the values of an enum must fit {asked or '64 bits'}")


# -- the decorators --------------------------------------------------------------------------------------------------


@overload
def event(cls: type[T], /) -> type[T]: ...
@overload
def event(*, name: str | None = None) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, dataclasses.Field))
def event(cls: type[T] | None = None, /, *, name: str | None = None) -> Any:
    """Make a class an event type: a frozen dataclass that encodes to FlatBuffers.

    ``name`` is the store-wide type name, the class's own name by default. Raises SchemaError for a class that cannot be
    stored, saying what to use instead.
    """
    scope = names_of(sys._getframe(1))  # noqa: SLF001  (the documented way to a caller's names)
    if cls is not None:
        return declare(cls, "table", name, scope)
    return lambda cls: declare(cls, "table", name, scope)


@overload
def struct(cls: type[T], /) -> type[T]: ...
@overload
def struct(*, name: str | None = None, force_align: int = 0) -> Callable[[type[T]], type[T]]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field, dataclasses.Field))
def struct(cls: type[T] | None = None, /, *, name: str | None = None, force_align: int = 0) -> Any:
    """Make a class a struct: numbers (and structs) stored inline, without names, forever in this order.

    Cheaper than a nested event class and just as frozen; its fields can never be added to. ``force_align`` (1, 2, 4 or 8 bytes)
    asks for more alignment than its fields need.
    """
    scope = names_of(sys._getframe(1))  # noqa: SLF001  (the documented way to a caller's names)
    if cls is not None:
        return declare(cls, "struct", name, scope)
    return lambda cls: declare(cls, "struct", name, scope, force_align)


def names_of(frame: types.FrameType) -> dict[str, Any]:
    """What annotations of a class made in this frame can name: a module's names live, a function's as they are now."""
    names = frame.f_locals
    return frame.f_globals if names is frame.f_globals else {**frame.f_globals, **names}


def declaration(cls: Any) -> Declaration | None:
    """What a class (or one of its view classes) declares."""
    found = cls.__dict__.get(MARK) if isinstance(cls, type) else None
    return found if isinstance(found, Declaration) else None


def check_class(cls: Any, what: str) -> None:
    if not isinstance(cls, type):
        raise SchemaError(f"@varve.{what} decorates a class, not {cls!r}")
    if MARK in cls.__dict__ or "__dataclass_fields__" in cls.__dict__:
        raise SchemaError(f"{cls.__name__} is a dataclass or event already; @varve.{what} alone makes it one")
    if issubclass(cls, (Enum, BaseException, tuple, dict, list, str, int)):
        raise SchemaError(f"{cls.__name__}: an event class derives from no built-in type")
    for base in cls.__mro__[1:-1]:
        if MARK in base.__dict__:
            # An instance of the one would be taken for the other, in unions above all.
            raise SchemaError(
                f"{cls.__name__}: base class {base.__name__} is an event class; event classes do not inherit from one "
                "another: they do not inherit fields either. Share methods by a mixin"
            )
        if inspect.get_annotations(base) and not base.__module__.startswith(("typing", "abc", "collections")):
            raise SchemaError(
                f"{cls.__name__}: base class {base.__name__} has annotations; event classes do not inherit fields: declare "
                "them in the class itself, or nest the other class as a field"
            )


def declare(cls: Any, what: str, name: str | None, scope: dict[str, Any], align: int = 0) -> type:
    """The decorated class: a frozen dataclass with slots, equal and hashable by value."""
    check_class(cls, "event" if what == "table" else "struct")
    type_name = cls.__name__ if name is None else name
    check_type_name(type_name)
    if align not in {0, *ALIGNMENTS}:
        raise SchemaError(f"{type_name}: force_align is 1, 2, 4 or 8: events begin at multiples of 8 bytes")
    found = Declaration(cls, what, type_name, scope)
    found.align = align
    found.doc = inspect.cleandoc(cls.__dict__.get("__doc__") or "")
    try:
        found.read_annotations()
    except NameError:
        pending = True
    else:
        pending = False
    own_init = "__init__" in cls.__dict__
    # Code of the user's runs whenever an event is made: nobody may make one without it.
    found.hooked = own_init or hasattr(cls, "__post_init__") or cls.__new__ is not object.__new__
    if pending:
        cls.__post_init__ = values.post_init(found, cls.__dict__.get("__post_init__"))
    try:
        made = dataclasses.dataclass(frozen=True, slots=True, eq=False, repr=False)(cls)
    except (TypeError, ValueError) as error:
        raise SchemaError(f"{cls.__name__}: {error}") from error
    found.cls = made
    setattr(made, MARK, found)
    if not pending:
        (values.normalise_after if own_init else values.add_constructor)(made, dict(found.normalisers()))
    values.add_value_methods(made, found)
    if not pending:
        found.finish()
    return made


assert set(SCALARS) >= set(INT_RANGES)
