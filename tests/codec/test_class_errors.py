"""Classes that cannot be events: refused where they are defined, with what to write instead."""

from __future__ import annotations

import collections.abc
import dataclasses
import enum
import typing
from datetime import date, timedelta
from typing import Annotated, Any, ClassVar, NewType, Optional, Union

import pytest
import typing_extensions
from codec_models import Card, Cash, Color, Line, Point

from varve.codec import event, event_type, struct
from varve.codec.declare import declare
from varve.errors import SchemaError
from varve.limits import FIELDS_MAX, SCHEMA_BYTES_MAX
from varve.types import Length, u8, u64

UserId = NewType("UserId", int)


class Plain:
    pass


class Shade(enum.Enum):
    DARK = 1


def make(annotation: Any, what: str = "table") -> Any:
    return declare(type("Bad", (), {"__annotations__": {"field": annotation}}), what, None, dict(globals()))


REFUSED = [
    (dict, "list of a nested event class"),
    (dict[str, int], "list of a nested event class"),
    (set[int], "use list"),
    (frozenset[int], "use list"),
    (list, "say what it holds"),
    (tuple, "say what it holds"),
    (typing.List, "say what it holds"),  # noqa: UP006 - the bare name is the point
    (collections.abc.Sequence, "cannot be stored"),
    (Any, "name one concrete type"),
    (object, "name one concrete type"),
    (complex, "two floats"),
    (bytearray, "use bytes"),
    (date, "use datetime"),
    (timedelta, "unit in the name"),
    (None, "use T | None"),
    (int | str, "union may hold event classes only"),
    (Card | int, "union may hold event classes only"),
    (list[list[int]], "vector of vectors"),
    (list[int | None], "items of a vector"),
    (list[Card | Cash | None], "items of a vector are never None"),
    (list[Card | int], "union may hold event classes only"),
    (list[Card | Point], "union may hold event classes only"),
    (list[list[Card | Cash]], "vector of vectors"),
    (tuple[int, int], "use tuple[T, ...] or a @varve.struct"),
    (Plain, "decorate it with @varve.event"),
    (Shade, "make it an IntEnum"),
    (typing.Literal["a"], "IntEnum, or str"),
    (typing.Callable[[], int], "use numbers"),
    (type, "decorate"),
    (typing.TypeVar("T"), "name one concrete type"),
]


@pytest.mark.parametrize(("annotation", "advice"), REFUSED, ids=str)
def test_a_type_that_cannot_be_stored_is_refused(annotation: Any, advice: str) -> None:
    """SchemaError names the field and says what to use instead."""
    with pytest.raises(SchemaError) as caught:
        make(annotation)
    assert "Bad.field" in str(caught.value)
    assert advice in str(caught.value)
    assert isinstance(caught.value, TypeError)


ACCEPTED = [
    (UserId, "i64"),
    (Optional[u8], "u8"),  # noqa: UP045
    (Union[Card, Cash, None], "Card | Cash"),  # noqa: UP007
    (typing.List[int], "list[i64]"),  # noqa: UP006
    (collections.abc.Sequence[str], "list[str]"),
    (typing.Annotated[str, "a note"], "str"),
    (tuple[Point, ...], "list[Point]"),
    (Color, "Color"),
    ("list[Line]", "list[Line]"),
    (list[Card | Cash], "list[Card | Cash]"),
    (tuple[Union[Card, Cash], ...], "list[Card | Cash]"),  # noqa: UP007
    ("collections.abc.Sequence[Card | Cash] | None", "list[Card | Cash]"),
]


@pytest.mark.parametrize(("annotation", "kind"), ACCEPTED, ids=str)
def test_other_spellings_are_understood(annotation: Any, kind: str) -> None:
    """NewType, Optional, Sequence, Annotated and strings mean what they say."""
    assert str(event_type(make(annotation)).declaration.fields[0].kind) == kind


@pytest.mark.parametrize("annotation", [str, bytes, list[int], Line, int | None])
def test_a_struct_holds_numbers_only(annotation: Any) -> None:
    """Nothing of variable length, nothing optional."""
    with pytest.raises(SchemaError, match="a struct holds numbers and structs only"):
        make(annotation, "struct")


def test_an_empty_struct_is_refused() -> None:
    """FlatBuffers has no structs without fields."""

    @struct
    class Nothing:
        pass

    @event
    class Holder:
        nothing: Nothing

    with pytest.raises(SchemaError, match="no fields"):
        event_type(Holder)


def test_fields_are_not_inherited() -> None:
    """Neither from an event class nor from any base with annotations; methods are."""

    class Base:
        n: int

    with pytest.raises(SchemaError, match="do not inherit fields"):

        @event
        class FromBase(Base):
            m: int

    with pytest.raises(SchemaError, match="do not inherit fields"):

        @event
        class FromEvent(Card):
            m: int

    class Mixin:
        __slots__ = ()

        def double(self: Any) -> int:
            return int(self.m * 2)

    @event
    class Good(Mixin):
        m: int

    compiled = event_type(Good)
    assert Good(4).double() == compiled.view(compiled.pack(Good(4))).double() == 8


def test_what_is_no_event_class_has_no_event_type() -> None:
    """A helpful message for undecorated classes, structs and subclasses."""
    with pytest.raises(SchemaError, match="Plain is no event class; decorate the class"):
        event_type(Plain)
    with pytest.raises(SchemaError, match="Point is a struct"):
        event_type(Point)
    with pytest.raises(SchemaError, match="no event class"):
        event_type(5)

    class Derived(Card):
        pass

    with pytest.raises(SchemaError, match="Derived is no event class"):
        event_type(Derived)


def test_decorating_what_cannot_be_decorated() -> None:
    """Dataclasses, events, enums and builtins are refused."""
    for cls in (dataclasses.dataclass(type("D", (), {})), Card, Color, type("L", (list,), {}), 5):
        with pytest.raises(SchemaError):
            event(cls)


def test_names_are_checked() -> None:
    """Field and type names end up in generated code and .fbs text."""
    for name in ("caf\u00e9", "class", "_b", "__x"):
        with pytest.raises(SchemaError, match="name"):
            declare(type("Bad", (), {"__annotations__": {name: int}}), "table", None, {})
    for name in ("", "has space", "1st", "x" * 300, "semi;colon"):
        with pytest.raises(SchemaError, match="cannot be an event type's name"):
            event(name=name)(type("Good", (), {}))
    assert event_type(event(name="shop.order-placed/v2")(type("Good", (), {}))).name == "shop.order-placed/v2"


def test_two_types_of_one_name_are_refused() -> None:
    """A schema knows types by name."""

    def other() -> Any:
        @event
        class Line:
            x: int

        return Line

    first, second = Line, other()
    with pytest.raises(SchemaError, match="two different types are named 'Line'"):
        declare(type("Both", (), {"__annotations__": {"a": first, "b": second}}), "table", None, {})


def test_too_many_fields_are_refused() -> None:
    """The limit has a name."""
    fields = {f"f{i}": u64 for i in range(FIELDS_MAX + 1)}
    with pytest.raises(SchemaError, match="at most 1000"):
        declare(type("Wide", (), {"__annotations__": fields}), "table", None, {})
    del fields["f0"]
    wide = event_type(declare(type("Wide", (), {"__annotations__": fields}), "table", None, {}))
    one = wide.cls(*range(FIELDS_MAX))
    assert wide.view(wide.pack(one)) == one


def test_dataclass_mistakes_are_schema_errors() -> None:
    """What ``dataclasses`` refuses is refused in the same way as everything else."""
    with pytest.raises(SchemaError, match="mutable default"):

        @event
        class Mutable:
            items: list[int] = []  # noqa: RUF012

    with pytest.raises(SchemaError, match="non-default argument"):

        @event
        class Order:
            a: int = 1
            b: int

    with pytest.raises(SchemaError, match="InitVar"):

        @event
        class WithInit:
            a: dataclasses.InitVar[int]

    with pytest.raises(SchemaError, match="init=False"):

        @event
        class Hidden:
            a: int = dataclasses.field(default=1, init=False)

    with pytest.raises(SchemaError, match=r"the default of Wrong\.a must be in 0 \.\. 255"):

        @event
        class Wrong:
            a: u8 = 300

    with pytest.raises(SchemaError, match="deprecated field needs a default"):

        @event
        class Old:
            a: u8 = dataclasses.field(metadata={"deprecated": True})


def test_class_variables_methods_and_properties_stay() -> None:
    """Everything that is no field belongs to instances and views alike."""

    @event
    class Rich:
        kind: ClassVar[str] = "rich"
        amount: u64

        @property
        def cents(self) -> int:
            return self.amount * 100

        def plus(self, n: int) -> int:
            return self.amount + n

        @classmethod
        def zero(cls) -> Rich:
            return cls(0)

    compiled = event_type(Rich)
    view = compiled.view(compiled.pack(Rich(3)))
    assert (view.kind, view.cents, view.plus(1), view.zero()) == ("rich", 300, 4, Rich(0))


def test_classes_may_name_each_other_before_they_exist() -> None:
    """Annotations that cannot be resolved yet are resolved at first use."""
    scope: dict[str, Any] = {}
    code = """
from __future__ import annotations
import varve.codec as codec
@codec.event
class Egg:
    hen: Hen | None
@codec.event
class Hen:
    eggs: list[Egg]
"""
    exec(code, scope)
    egg, hen = scope["Egg"], scope["Hen"]
    one = egg(hen([egg(None), egg(hen([]))]))
    compiled = event_type(egg)
    assert compiled.view(compiled.pack(one)) == one
    assert event_type(hen).view(event_type(hen).pack(one.hen)) == one.hen


def test_annotations_that_cannot_be_read_are_refused() -> None:
    """Text that is no expression, or that fails: SchemaError at the class. A name that is still unknown is refused when the class
    is used, since it may be defined until then."""
    for annotation in ("list[", "int | 'x' | 5"):
        with pytest.raises(SchemaError, match=r"^Bad: an annotation cannot be read: "):
            make(annotation)
    waiting = make("DefinedNowhere")
    with pytest.raises(SchemaError, match=r"^Bad: an annotation names something unknown: name 'DefinedNowhere'"):
        event_type(waiting)


def test_a_struct_cannot_hold_itself() -> None:
    """It would have no end; an event class can."""
    with pytest.raises(SchemaError, match=r"^Bad\.field: a struct cannot hold itself; use @varve\.event"):
        make("Bad", "struct")
    assert event_type(make("Bad | None")).name == "Bad"


def test_aliases_are_seen_through_unless_they_never_end() -> None:
    """A ``type`` alias is what it stands for; one that leads nowhere is refused rather than followed for ever."""
    alias = typing_extensions.TypeAliasType("alias", u8)
    assert str(event_type(make(alias)).schema.types["Bad"].fields[0].kind) == "u8"
    assert str(event_type(make(list[alias])).schema.types["Bad"].fields[0].kind) == "list[u8]"  # type: ignore[valid-type]
    long: Any = int
    for n in range(1_000):
        long = NewType(f"N{n}", long)  # type: ignore[misc, valid-newtype]
    with pytest.raises(SchemaError, match="cannot be stored"):
        make(long)


def test_enums_need_members_with_names_for_every_language() -> None:
    """None at all, and names that are not ASCII, are refused where the class is defined."""
    empty = enum.IntEnum("Empty", [])  # type: ignore[misc]
    with pytest.raises(SchemaError, match=r"^Empty: an enum needs at least one member"):
        make(empty)
    umlaut = enum.IntEnum("Umlaut", {"größe": 1})  # type: ignore[misc]
    with pytest.raises(SchemaError, match=r"^Umlaut\.größe: an enum member's name must be ASCII"):
        make(umlaut)


def test_two_types_of_one_name_far_from_each_other_are_refused() -> None:
    """Each class holds one of them; a third that holds both classes cannot be an event."""

    def outer(name: str, item: Any) -> Any:
        return event(
            type(name, (), {"__annotations__": {"inner": event(type("Inner", (), {"__annotations__": {"x": item}}))}})
        )

    held = {"left": outer("Left", int), "right": outer("Right", str)}
    both = event(type("Both", (), {"__annotations__": held}))
    with pytest.raises(SchemaError, match=r"^Both needs two different types named 'Inner'; rename one of them"):
        event_type(both)


def test_a_schema_beyond_its_limit_is_refused() -> None:
    """Defaults are part of it; it stands in the log for ever, so its length has a bound."""
    fields: dict[str, Any] = {f"f{n}": "x" * (SCHEMA_BYTES_MAX // 4) for n in range(5)}
    long = event(type("Long", (), {"__annotations__": dict.fromkeys(fields, str), **fields}))
    with pytest.raises(SchemaError, match=f"^the schema of Long is longer than {SCHEMA_BYTES_MAX} bytes"):
        event_type(long)
    fields.popitem(), fields.popitem()
    assert event_type(event(type("Long", (), {"__annotations__": dict.fromkeys(fields, str), **fields}))).name == "Long"


def test_declarations_say_what_they_are() -> None:
    """In a debugger, kind and name; of a compiled type the fingerprint."""
    assert repr(Line.__varve__) == "<table Line>"  # type: ignore[attr-defined]
    assert repr(Point.__varve__) == "<struct Point>"  # type: ignore[attr-defined]
    assert repr(event_type(Line)) == f"<EventType Line {event_type(Line).fingerprint.hex()}>"
    assert repr(event_type(Line).schema.types["Line"].fields[0].default) == "NO_DEFAULT"


def test_an_event_that_is_too_wide_is_refused() -> None:
    """Structs and arrays stand in the fixed part of a table, and a vtable reaches 64 KiB."""
    numbers = make(Annotated[tuple[u64, ...], Length(8_000)], "struct")
    narrow = event(type("Narrow", (), {"__annotations__": {"a": numbers}}))
    assert event_type(narrow).name == "Narrow"
    wide = event(type("Wide", (), {"__annotations__": {"a": numbers, "b": numbers | None}}))
    with pytest.raises(SchemaError, match=r"^Wide is too wide: the fixed part of an event holds at most 64 KiB"):
        event_type(wide)
