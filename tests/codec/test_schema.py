"""Schemas as text: classes made from them, and what may change between two of them."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import pickle
import random
from collections import OrderedDict
from enum import IntEnum, IntFlag
from typing import Any

import pytest
from codec_models import (
    Access,
    Card,
    Cash,
    Color,
    Everything,
    Line,
    Numbers,
    OrderPlaced,
    Point,
    Tree,
    everything,
    ledger,
    plain,
)

from varve.codec import dynamic, event, event_type, event_type_from_schema, incompatibilities, struct, to_json
from varve.codec.declare import declare
from varve.codec.fbs import to_fbs
from varve.errors import MalformedEvent, SchemaError
from varve.limits import SCHEMA_BYTES_MAX
from varve.types import u8, u16, u32, u64

SAMPLES = [
    OrderPlaced(1, "x", 2, 3),
    everything(maybe_int=4),
    Tree(1, (Tree(2),)),
    Cash(),
    Numbers(*range(1, 12), True),
    ledger(),
]


@pytest.mark.parametrize("one", SAMPLES, ids=lambda s: type(s).__name__)
def test_a_class_from_a_schema_reads_the_same(one: Any) -> None:
    """Same attributes, same bytes, same digest, same JSON, without the user's code."""
    compiled = event_type(type(one))
    made = event_type_from_schema(compiled.schema_bytes)
    data = compiled.pack(one)
    view = made.view(data)
    assert made.schema_bytes == compiled.schema_bytes
    assert made.fingerprint == compiled.fingerprint
    assert made.cls is not compiled.cls
    for f in dataclasses.fields(one):
        if not f.type.startswith(("u", "str", "int")):
            continue
        assert plain(getattr(view, f.name)) == getattr(one, f.name)
    assert made.pack(view) == data
    assert made.digest(view) == compiled.digest(one)
    assert to_json(view) == to_json(one)
    assert pickle.loads(pickle.dumps(view)) == view
    assert event_type_from_schema(compiled.schema_bytes) is made


def test_defaults_survive_the_schema() -> None:
    """Of numbers, text, enums, structs, nested events, and after optional fields."""

    @event
    class Defaults:
        a: int
        b: str = "x"
        c: float = float("inf")
        d: Color = Color.BLUE
        e: Point = Point(1, 2)
        f: Line = Line("s", 1, 2)
        g: tuple[int, ...] = (1, 2)
        h: int | None = None
        i: bytes = b"\x00"
        j: u8 = dataclasses.field(default=9, metadata={"deprecated": True})

    compiled = event_type(Defaults)
    made = event_type_from_schema(compiled.schema_bytes)
    one = made.cls(5, h=None)
    assert to_json(one) == to_json(Defaults(5))
    assert made.pack(one) == compiled.pack(Defaults(5))


def test_the_fingerprint_follows_the_schema() -> None:
    """Two classes of one shape share it; any difference changes it."""

    def make(**fields: Any) -> bytes:
        return event_type(declare(type("E", (), {"__annotations__": fields}), "table", None, {})).fingerprint

    assert make(a=u8) == make(a=u8)
    assert len({make(), make(a=u8), make(b=u8), make(a=u16), make(a=u8 | None), make(a=list[u8])}) == 6


def test_garbage_is_no_schema() -> None:
    """MalformedEvent, whatever the bytes; code in names is not executed."""
    good = event_type(Everything).schema_bytes
    model = json.loads(event_type(Line).schema_bytes)
    bad: list[bytes] = [
        b"",
        b"{}",
        b"[]",
        b"\xff",
        b"null",
        b"[" * 100_000,
        good[:-1],
        good + b" ",
        good.replace(b",", b", "),
    ]
    for field in ("x; import os", "a b", "class", "", "__class__", "x\n"):
        model["types"]["Line"]["table"][0]["name"] = field
        bad.append(json.dumps(model, sort_keys=True, separators=(",", ":")).encode())
    for text in bad:
        with pytest.raises(MalformedEvent, match="not a valid event schema"):
            event_type_from_schema(text)


def test_mutated_schemas_are_refused_or_work() -> None:
    """No byte sequence makes it raise anything else."""
    good = event_type(Everything).schema_bytes
    chance = random.Random(7)
    for _ in range(150):
        text = bytearray(good)
        for _ in range(chance.randint(1, 2)):
            text[chance.randrange(len(text))] = chance.choice(b'{}[]":,0129aetu_')
        with contextlib.suppress(MalformedEvent):
            event_type_from_schema(bytes(text))


# -- evolution -------------------------------------------------------------------------------------------------------


class Shade(IntEnum):
    LIGHT = 1
    DARK = 2


class ShadeMore(IntEnum):
    LIGHT = 1
    DARK = 2
    DIM = 3


class ShadeLess(IntEnum):
    LIGHT = 1


class ShadeMoved(IntEnum):
    LIGHT = 1
    DARK = 3


class ShadeFlag(IntFlag):
    LIGHT = 1
    DARK = 2


for cls in (ShadeMore, ShadeLess, ShadeMoved, ShadeFlag):
    cls.__name__ = "Shade"


def schema(fields: dict[str, Any], defaults: dict[str, Any] | None = None, name: str = "E") -> bytes:
    body = {"__annotations__": fields} | (defaults or {})
    return event_type(declare(type(name, (), body), "table", None, dict(globals()))).schema_bytes


BASE = {"a": int, "b": str, "c": Shade, "d": Card | Cash}
FINE = [
    (BASE, {}),
    (BASE | {"e": int | None}, {}),
    (BASE | {"e": int, "f": str, "g": Line | None}, {"e": 5, "f": "", "g": None}),
    (BASE | {"e": list[int]}, {"e": ()}),
    (BASE | {"c": ShadeMore}, {}),
    (BASE | {"d": Card | Cash | Line}, {}),
]


@pytest.mark.parametrize(("fields", "defaults"), FINE, ids=str)
def test_what_may_change(fields: dict[str, Any], defaults: dict[str, Any]) -> None:
    """Fields appended that say what older events read as; enum members and union members added."""
    assert incompatibilities(schema(BASE), schema(fields, defaults)) == []


REFUSED = [
    ({"b": str, "c": Shade, "d": Card | Cash}, {}, "E.a was removed; keep it, deprecated"),
    ({"b": str, "a": int, "c": Shade, "d": Card | Cash}, {}, "the fields of E were reordered"),
    ({"x": int | None} | BASE, {}, "E.x was inserted; new fields go to the end"),
    (BASE | {"a": u32}, {}, "E.a was i64 and is u32 now"),
    (BASE | {"b": bytes}, {}, "E.b was str and is bytes now"),
    (BASE | {"b": list[str]}, {}, "E.b was str and is list[str] now"),
    (BASE | {"a": int | None}, {}, "E.a was i64 and is i64 | None now"),
    (BASE | {"d": Cash | Card}, {}, "E.d was Card | Cash and is Cash | Card now"),
    (BASE | {"d": Card}, {}, "E.d was Card | Cash and is Card now"),
    (BASE | {"e": int}, {}, "E.e is new and needs a plain default, or T | None"),
    (BASE, {"d": Cash()}, "E.d had no default and has the default"),
    (BASE | {"c": ShadeLess}, {}, "enum Shade lost its member DARK = 2"),
    (BASE | {"c": ShadeMoved}, {}, "Shade.DARK was 2 and is 3 now"),
    (BASE | {"c": ShadeFlag}, {}, "enum Shade changed between IntEnum and IntFlag"),
]


@pytest.mark.parametrize(("fields", "defaults", "reason"), REFUSED, ids=lambda v: v if isinstance(v, str) else "")
def test_what_may_not_change(fields: dict[str, Any], defaults: dict[str, Any], reason: str) -> None:
    """Everything else, each with its reason."""
    reasons = incompatibilities(schema(BASE), schema(fields, defaults))
    assert any(reason in one for one in reasons), reasons


def test_a_struct_can_never_change() -> None:
    """Structs have no vtable: adding a field moves everything."""

    def holder(fields: dict[str, Any]) -> bytes:
        inner = struct(type("S", (), {"__annotations__": fields}))
        return schema({"s": inner})

    reasons = incompatibilities(holder({"x": u8}), holder({"x": u8, "y": u8}))
    assert reasons == ["struct S can never change: it was (x: u8) and is (x: u8, y: u8) now"]


def test_a_field_may_be_deprecated_in_place() -> None:
    """With a default to read as; its place stays taken."""
    old = {"default": 0, "metadata": {"deprecated": True}}
    assert incompatibilities(schema(BASE), schema(BASE, {"d": dataclasses.field(**old | {"default": Cash()})})) == []


def test_another_name_is_another_type() -> None:
    """Renaming an event type is no evolution."""
    assert incompatibilities(schema(BASE), schema(BASE, name="F")) == ["the event type E became F"]


def test_changes_of_nested_types_are_found() -> None:
    """Wherever they are reached from."""

    def outer(**fields: Any) -> bytes:
        inner = event(type("Inner", (), {"__annotations__": fields}))
        return schema({"items": list[inner], "again": inner | None})

    assert incompatibilities(outer(a=int), outer(a=int, b=u64 | None)) == []
    assert incompatibilities(outer(a=int), outer(a=u64)) == ["Inner.a was i64 and is u64 now"]


def test_flags_are_unsigned_and_wide_values_widen() -> None:
    """An IntEnum is an i32, an IntFlag a u32, unless their values need more."""

    class Big(IntEnum):
        A = 2**40

    text = json.loads(schema({"a": Shade, "b": Access, "c": Big}))
    assert [text["types"][name]["enum"] for name in ("Shade", "Access", "Big")] == ["i32", "u32", "i64"]


def test_a_field_beside_the_numbers_of_a_vector_of_unions_is_renamed() -> None:
    """Of every union flatc makes a field ``<name>_type``, also of those in a vector."""

    @event
    class Left:
        pass

    @event
    class Right:
        pass

    @event
    class Beside:
        items: list[Left | Right]
        items_type: u8

    assert "  items_type_:ubyte;\n" in to_fbs(Beside)


def test_bytes_are_no_default_of_a_vector_of_enums() -> None:
    """Their numbers would pass for members."""

    class Kind(IntEnum):
        ONE = 1

    with pytest.raises(SchemaError, match=r"E\.kinds must be a list or tuple \(list\[Kind\]\), not b'.x01'"):
        declare(type("E", (), {"__annotations__": {"kinds": list[Kind]}, "kinds": b"\1"}), "table", None, {})


def with_types(root: str, **types: Any) -> bytes:
    """The text of a schema, good or not."""
    return json.dumps({"format": 1, "root": root, "types": types}, sort_keys=True, separators=(",", ":")).encode()


INT = {"name": "n", "type": "i64"}
NONSENSE = [
    (with_types("E", F={"table": []}), "its root is no table"),
    (with_types("E", E={"enum": "i32", "members": [["A", 1]]}), "its root is no table"),
    (with_types("E", E={"struct": [INT]}), "its root is no table"),
    (with_types(5, E={"table": []}), "its root is no table"),  # type: ignore[arg-type]
    (with_types("E", E={"table": [{"name": "s", "type": {"struct": "S"}}]}, S={"struct": [{"name": "t", "type": "str"}]}),
     "struct S holds a str"),
    (with_types("E", E={"table": []}, **{"a b": {"table": []}}), "a b"),
    (with_types("E", E=[]), "type 'E'"),
    (with_types("E", E={"table": [INT, INT]}), "type 'E' names a field twice"),
    (with_types("E", E={"table": []}, C={"enum": "i32", "members": [["A", 1], ["A", 2]]}), "enum 'C' names a member twice"),
    (with_types("E", E={"table": []}, C={"enum": "u8", "members": [["A", 256]]}), "enum 'C' has a bad member"),
    (with_types("E", E={"table": []}, C={"enum": "u8", "members": [["a b", 1]]}), "enum 'C' has a bad member"),
    (with_types("E", E={"table": []}, C={"enum": "u8", "members": [["A", 1, 2]]}), "enum 'C' has a bad member"),
    (with_types("E", E={"table": [{"default": math.inf, "name": "x", "type": "f64"}]}), r"default of E\.x"),
    (b" " * (SCHEMA_BYTES_MAX + 1), f"longer than {SCHEMA_BYTES_MAX} bytes"),
    (with_types("A", A={"table": [{"default": {"a": None}, "name": "b", "type": {"table": "B"}}]},
                B={"table": [{"default": {"b": {}}, "name": "a", "type": {"table": "A"}}]}),
     "a default needs A, which needs the default"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "reason"), NONSENSE, ids=[reason for _, reason in NONSENSE])
def test_nonsense_in_a_schema_is_named(text: bytes, reason: str) -> None:
    """MalformedEvent says what is wrong with the schema."""
    with pytest.raises(MalformedEvent, match=f"^not a valid event schema: .*{reason}"):
        event_type_from_schema(text)


@event
class Innermost:
    n: int = 3


@event
class Inner:
    held: Innermost
    more: list[Innermost] = dataclasses.field(default_factory=list)


@event
class Outer:
    inner: Inner = Inner(Innermost(5))
    pay: Card | Cash = Cash()


def test_a_default_that_holds_other_classes_survives_the_schema() -> None:
    """The classes that a default needs are made before it, however deep, in whatever order the schema names them."""
    made = event_type_from_schema(event_type(Outer).schema_bytes)
    one = made.cls()
    assert to_json(one) == to_json(Outer())
    assert one.inner.held.n == 5
    assert made.pack(one) == event_type(Outer).pack(Outer())


@event
class Middle:
    held: Innermost


@event
class First:
    middle: Middle = Middle(Innermost(5))


def test_what_a_default_needs_may_come_later_in_the_schema() -> None:
    """Also where the class in between has no default itself."""
    made = event_type_from_schema(event_type(First).schema_bytes)
    assert made.cls().middle.held.n == 5
    assert made.pack(made.cls()) == event_type(First).pack(First())


def test_a_schema_that_is_too_long_in_canonical_form_is_malformed() -> None:
    """Its own text is within the limit, the escapes that belong there are not."""
    body = {"default": "\u00e9" * 200_000, "name": "a", "type": "str"}
    model = {"format": 1, "root": "E", "types": {"E": {"table": [body]}}}
    text = json.dumps(model, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert len(text) < SCHEMA_BYTES_MAX < len(json.dumps(model))
    with pytest.raises(MalformedEvent, match="is longer than"):
        event_type_from_schema(text)


def test_classes_of_schemas_that_were_dropped_are_made_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the schemas that a process has met, the latest used are kept; the events of the others stay usable."""
    monkeypatch.setattr(dynamic, "CLASSES_MAX", 2)
    monkeypatch.setattr(dynamic, "_classes", OrderedDict())
    one, two, three = (schema({name: int}) for name in "abc")
    first, second = event_type_from_schema(one), event_type_from_schema(two)
    kept = second.cls(5)
    assert event_type_from_schema(one) is first
    event_type_from_schema(three)
    assert event_type_from_schema(one) is first
    again = event_type_from_schema(two)
    assert again is not second
    assert again.schema_bytes == second.schema_bytes
    assert again.view(second.pack(kept)).b == 5
    assert pickle.loads(pickle.dumps(kept)).b == 5


def test_names_that_look_alike_in_code_are_told_apart() -> None:
    """``shop.Line`` and ``shop_Line`` would both be ``shop_Line`` in the code that is generated for a class that holds them."""

    def line(name: str, hint: Any) -> Any:
        return event(name=name)(type("Line", (), {"__annotations__": {"n": hint}}))

    dotted, plain_ = line("shop.Line", int), line("shop_Line", str)
    both = event(
        type("Both", (), {"__annotations__": {"a": dotted, "b": plain_, "c": list[dotted], "d": list[plain_]}})
    )
    one = both(dotted(1), plain_("x"), [dotted(2)], [plain_("y")])
    compiled = event_type(both)
    view = compiled.view(compiled.pack(one))
    assert view == one
    assert (view.a.n, view.b.n, view.c[0].n, view.d[0].n) == (1, "x", 2, "y")


def test_flags_without_single_bits_are_plain_numbers_in_fbs() -> None:
    """``bit_flags`` can only say bits: an IntFlag of combinations alone is written as its number."""

    class Mixed(IntFlag):
        LOW = 3
        HIGH = 12

    made = event(type("E", (), {"__annotations__": {"mask": Mixed}, "mask": Mixed.LOW}))
    assert "  mask:uint = 3;\n" in to_fbs(made)
    assert "enum" not in to_fbs(made)


@pytest.mark.parametrize(
    "types",
    [
        {"T": {"table": [{"default": {"x": 1}, "name": "a", "type": {"vector": "u8"}}]}},
        {"T": {"table": [{"default": "none", "name": "a", "type": "uuid"}]}},
        {"T": {"table": [{"name": "a", "type": {"vector": {"struct": ""}}}]}},
        {"T": {"table": [{"name": "a", "type": {"bytes": ""}}]}},
        {"S": {"struct": []}, "T": {"table": [{"name": "a", "type": {"struct": "S"}}]}},
        {"S": {"struct": [{"name": "a", "optional": True, "type": "u8"}]}, "T": {"table": []}},
        {"S": {"struct": [{"name": "a", "type": {"struct": "S"}}]}, "T": {"table": []}},
        {
            "S": {"struct": [{"name": "a", "type": {"array": "u64", "length": 60_000}}]},
            "T": {"table": [{"name": "a", "type": {"struct": "S"}}]},
        },
    ],
    ids=[
        "a default of another kind",
        "no uuid",
        "no name",
        "bytes of nothing",
        "no fields",
        "optional",
        "itself",
        "too large",
    ],
)
def test_a_schema_that_no_class_can_have_is_malformed(types: dict[str, Any]) -> None:
    """Each of these was KeyError, SchemaError or an error of the inside: a reader of a log knows MalformedEvent."""
    text = json.dumps({"format": 1, "root": "T", "types": types}, sort_keys=True, separators=(",", ":"))
    with pytest.raises(MalformedEvent, match="not a valid event schema"):
        event_type_from_schema(text.encode())
