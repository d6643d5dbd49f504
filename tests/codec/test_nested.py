"""Bytes that hold a whole FlatBuffer of another event: ``Annotated[bytes, Nested(T)]``."""

from __future__ import annotations

import dataclasses
import struct
from typing import Annotated, Any

import pytest
from codec_models import Envelope, OrderPlaced, Tree, envelope, events_of
from hypothesis import HealthCheck, given, settings

from varve import limits
from varve.codec import event, event_type, event_type_from_schema, from_json, incompatibilities, to_json, verify
from varve.codec.declare import declare
from varve.codec.schema import Schema
from varve.errors import EventEncodingError, MalformedEvent, SchemaError
from varve.schema import from_bytes, load, to_bytes, to_fbs, to_python
from varve.types import Nested, u8

ORDER = OrderPlaced(12345, "Laptop", 1, 99900)


def make(**annotations: Any) -> Any:
    """A class E with these fields: annotation, or annotation and default."""
    body: dict[str, Any] = {"__annotations__": {n: h[0] if isinstance(h, list) else h for n, h in annotations.items()}}
    body |= {name: hint[1] for name, hint in annotations.items() if isinstance(hint, list)}
    return declare(type("E", (), body), "table", None, {})


@given(events_of(Envelope))
@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
def test_nested_buffers_come_back_as_their_bytes(one: Any) -> None:
    """Equal by value, hash, JSON and digest, through a class made of the schema too; and they can be looked into."""
    compiled = event_type(Envelope)
    data = to_bytes(one)
    compiled.verify(data)
    view = compiled.view(data)
    assert view == one
    assert hash(view) == hash(one)
    assert from_json(Envelope, to_json(view)) == one
    assert compiled.digest(view) == compiled.digest(one)
    made = event_type_from_schema(compiled.schema_bytes)
    assert made.schema_bytes == compiled.schema_bytes
    assert made.pack(made.view(data)) == data
    assert to_bytes(from_bytes(OrderPlaced, view.order)) == one.order


def test_a_nested_buffer_is_one_event_as_any_other() -> None:
    """``to_bytes`` makes it, ``from_bytes`` verifies and reads it, whatever holds the bytes."""
    view = from_bytes(Envelope, to_bytes(envelope()))
    assert from_bytes(OrderPlaced, view.order) == ORDER
    inner = from_bytes(Envelope, view.inner or b"")
    assert from_bytes(Tree, memoryview(bytearray(inner.tree or b""))).children == (Tree(2),)
    for end in range(0, len(view.order), 4):
        with pytest.raises(MalformedEvent):
            from_bytes(OrderPlaced, view.order[: end - len(view.order)])


def test_a_buffer_of_any_length_reads() -> None:
    """Other writers do not pad to 8 bytes."""
    data = to_bytes(OrderPlaced(1, "abc", 2, 3))
    assert data.endswith(b"abc\0\0\0\0\0")
    assert from_bytes(OrderPlaced, bytearray(data[:-4])) == OrderPlaced(1, "abc", 2, 3)


@pytest.mark.parametrize("tags", [(1, 3, 5, 7), (2, 0, 4, 6)])
def test_nested_buffers_begin_at_multiples_of_eight(tags: tuple[int, ...]) -> None:
    """Wherever the event that holds them stands, so that readers in other languages may look into them there."""

    @event
    class Held:
        text: str

    @event
    class Part:
        name: str
        order: Annotated[bytes, Nested(Held)]

    @event
    class Whole:
        label: str
        parts: list[Part]
        last: Part

    order = to_bytes(Held("nothing in it takes 8 bytes"))
    data = to_bytes(Whole("l" * tags[0], [Part("n" * n, order) for n in tags], Part("", order)))
    event_type(Whole).verify(data)
    found = [at for at in range(len(data)) if data.startswith(order, at)]
    assert len(found) == 5
    assert [at % 8 for at in found] == [0] * 5


BROKEN = to_bytes(ORDER)[:-8]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"order": b""}, r"Envelope\.order must be a FlatBuffer of OrderPlaced \(.*root offset reaches outside"),
        (
            {"order": BROKEN},
            r"Envelope\.order must be a FlatBuffer of OrderPlaced \(.*product reaches outside.* at byte 48",
        ),
        ({"order": bytearray(BROKEN)}, r"Envelope\.order must be a FlatBuffer of OrderPlaced"),
        ({"tree": to_bytes(ORDER)}, r"Envelope\.tree must be a FlatBuffer of Tree"),
        ({"inner": b"\0" * 64}, r"Envelope\.inner must be a FlatBuffer of Envelope"),
        ({"order": None}, r"Envelope\.order must be bytes, not None"),
        ({"order": ORDER}, r"Envelope\.order must be bytes, not OrderPlaced"),
    ],
)
def test_bytes_that_hold_no_such_buffer_are_refused(changes: dict[str, Any], reason: str) -> None:
    """Before anything is written, with class, field and what is wrong with the bytes; from JSON as well."""
    with pytest.raises(EventEncodingError, match=reason) as caught:
        to_bytes(envelope(**changes))
    assert caught.value.field in changes


def test_a_buffer_in_another_kind_of_bytes_is_taken() -> None:
    """On the slow path, as for any bytes."""
    assert to_bytes(envelope(order=bytearray(to_bytes(ORDER)))) == to_bytes(envelope())


def test_what_json_brings_is_checked() -> None:
    """Base64 text of bytes that are no such buffer."""
    text = to_json(Envelope(1, to_bytes(ORDER)))
    assert from_json(Envelope, text) == Envelope(1, to_bytes(ORDER))
    with pytest.raises(EventEncodingError, match=r"order must be a FlatBuffer of OrderPlaced"):
        from_json(Envelope, {"number": 1, "order": "AAAA", "tree": None, "inner": None})


def test_the_verifier_looks_inside() -> None:
    """The complaint names the field and the byte of the whole buffer; a class without the mark takes the same bytes."""
    data = bytearray(to_bytes(Envelope(1, to_bytes(ORDER))))
    at = bytes(data).index(to_bytes(ORDER))
    struct.pack_into("<I", data, at + 44, 2**31)
    with pytest.raises(
        MalformedEvent, match=rf"Envelope\.order holds no valid OrderPlaced: .*product reaches .* byte {at + 48}"
    ) as caught:
        event_type(Envelope).verify(bytes(data))
    assert caught.value.offset == at + 48
    plain = make(number=u8, order=bytes, tree=bytes | None, inner=bytes | None)
    event_type(plain).verify(bytes(data))


def test_a_nested_buffer_may_not_reach_beyond_its_bytes() -> None:
    """What would be valid in the whole buffer is not, where the vector ends before it."""
    data = bytearray(to_bytes(Envelope(1, to_bytes(ORDER))))
    at = bytes(data).index(to_bytes(ORDER))
    struct.pack_into("<I", data, at - 4, len(to_bytes(ORDER)) - 8)
    with pytest.raises(MalformedEvent, match=r"Envelope\.order holds no valid OrderPlaced"):
        event_type(Envelope).verify(bytes(data))


def nested_envelopes(levels: int) -> bytes:
    """So many buffers in one another, innermost first."""
    order = to_bytes(ORDER)
    data = to_bytes(Envelope(0, order))
    for number in range(1, levels):
        data = to_bytes(Envelope(number, order, None, data))
    return data


def test_depth_counts_through_nested_buffers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The order in the innermost envelope is one level below it; packing and verifying agree on where the end is."""
    monkeypatch.setattr(limits, "NESTING_DEPTH_MAX", 8)
    deepest = nested_envelopes(7)
    event_type(Envelope).verify(deepest)
    with pytest.raises(EventEncodingError, match=r"must be a FlatBuffer of Envelope \(.*nested deeper than 8"):
        nested_envelopes(8)
    with pytest.raises(EventEncodingError, match=r"inner must be a FlatBuffer of Envelope \(.*nested deeper than 8"):
        from_json(Envelope, to_json(Envelope(0, to_bytes(ORDER)))[:-5] + f'"{b64(deepest)}"}}')
    limits_above = to_bytes_without_check(deepest)
    with pytest.raises(MalformedEvent, match="nested deeper than 8"):
        event_type(Envelope).verify(limits_above)


def b64(data: bytes) -> str:
    """As JSON has bytes."""
    import base64

    return base64.b64encode(data).decode()


def to_bytes_without_check(inner: bytes) -> bytes:
    """An envelope around any bytes: what a class of the same layout without the marks writes."""
    plain = make(number=u8, order=bytes, tree=bytes | None, inner=bytes | None)
    return to_bytes(plain(0, to_bytes(ORDER), None, inner))


def test_a_nested_buffer_shared_on_two_levels_counts_at_the_deeper_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """It was checked where it is shallow first."""

    @event
    class Chain:
        data: Annotated[bytes, Nested(Tree)] | None
        link: Chain | None

    tree = Tree(1, (), Tree(2))
    one = Chain(to_bytes(tree), Chain(to_bytes(tree), None))
    data = bytearray(to_bytes(one))
    first, second = (at for at in range(len(data)) if data.startswith(to_bytes(tree), at))
    [slot] = [p for p in range(first, second, 4) if p + struct.unpack_from("<I", data, p)[0] == second - 4]
    # A uoffset points forward: let the outer one point to the inner one's bytes.
    [outer] = [p for p in range(0, first, 4) if p + struct.unpack_from("<I", data, p)[0] == first - 4]
    assert slot > outer
    struct.pack_into("<I", data, outer, second - 4 - outer)
    event_type(Chain).verify(bytes(data))
    monkeypatch.setattr(limits, "NESTING_DEPTH_MAX", 3)
    with pytest.raises(MalformedEvent, match="nested deeper than 3"):
        event_type(Chain).verify(bytes(data))


def test_the_schema_text_of_a_nested_buffer() -> None:
    """Part of the store's format: it never changes for the same class."""

    @event
    class E:
        a: Annotated[bytes, Nested(Inner)]
        b: bytes

    assert event_type(E).schema_bytes == (
        b'{"format":1,"root":"E","types":{"E":{"table":[{"name":"a","type":{"bytes":"Inner"}},{"name":"b","type":"bytes"}]},'
        b'"Inner":{"table":[{"name":"x","type":"u8"}]}}}'
    )


@event
class Inner:
    x: u8


def test_a_schema_with_an_impossible_nested_buffer_is_malformed() -> None:
    """A table that is not there, an item of a vector, a default."""
    good = event_type(Envelope).schema_bytes
    event_type_from_schema(good)
    kind = b'{"bytes":"Tree"}'
    for old, new in (
        (kind, b'{"bytes":"Missing"}'),
        (kind, b'{"bytes":7}'),
        (kind, b'{"vector":{"bytes":"Tree"}}'),
        (b'"optional":true,"type":' + kind, b'"default":"","type":' + kind),
    ):
        assert old in good
        with pytest.raises(MalformedEvent):
            event_type_from_schema(good.replace(old, new, 1))
        if new.startswith(b"{"):
            with pytest.raises(MalformedEvent):
                Schema.from_bytes(good.replace(old, new, 1))


def test_what_bytes_hold_never_changes() -> None:
    """Neither what it is nor whether it is said; the held class grows as any other."""

    def held(hint: Any, name: str = "Held") -> Any:
        return declare(type(name, (), {"__annotations__": hint}), "table", None, {})

    def schema(kind: Any) -> bytes:
        return event_type(make(a=kind)).schema_bytes

    one, grown = held({"x": u8}), held({"x": u8, "y": u8 | None})
    plain, of_one = schema(bytes), schema(Annotated[bytes, Nested(one)])
    of_other = schema(Annotated[bytes, Nested(held({"x": u8}, "Other"))])
    assert incompatibilities(of_one, schema(Annotated[bytes, Nested(grown)])) == []
    assert incompatibilities(of_one, of_one) == []
    assert incompatibilities(plain, of_one) == ["E.a was bytes and is bytes of Held now"]
    assert incompatibilities(of_one, plain) == ["E.a was bytes of Held and is bytes now"]
    assert incompatibilities(of_one, of_other) == ["E.a was bytes of Held and is bytes of Other now"]
    [reason] = incompatibilities(schema(Annotated[bytes, Nested(grown)]), of_one)
    assert "Held.y was removed" in reason


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: make(a=Annotated[str, Nested(Inner)]), r"E\.a: Nested says what bytes hold"),
        (lambda: make(a=Annotated[bytes | None, Nested(Inner)]), r"E\.a: Nested says .* \| None outside"),
        (lambda: make(a=list[Annotated[bytes, Nested(Inner)]]), r"E\.a: items of a vector are no nested buffers"),
        (lambda: make(a=Annotated[bytes, Nested(int)]), r"E\.a: int cannot be stored"),
        (lambda: make(a=Annotated[bytes, Nested("Inner")]), r"E\.a: a nested buffer is one of an event class"),  # type: ignore[arg-type]
        (lambda: make(a=[Annotated[bytes, Nested(Inner)], b""]), r"E\.a: a nested buffer has no default"),
        (
            lambda: declare(
                type("S", (), {"__annotations__": {"a": Annotated[bytes, Nested(Inner)]}}), "struct", None, {}
            ),
            "a struct holds numbers",
        ),
    ],
)
def test_marks_that_cannot_be_are_refused(build: Any, reason: str) -> None:
    """At class definition, saying what may be."""
    with pytest.raises(SchemaError, match=reason):
        build()


def test_a_struct_is_no_nested_buffer() -> None:
    """Only a table can be the root of a buffer."""
    point = declare(type("P", (), {"__annotations__": {"x": u8}}), "struct", None, {})
    with pytest.raises(SchemaError, match="a nested buffer is one of an event class, not of P"):
        make(a=Annotated[bytes, Nested(point)])


def test_the_fbs_text_says_it_and_is_read_again(tmp_path: Any) -> None:
    """With the namespace where it is another; `load` makes the same kind of field."""

    @event(name="far.away.Held")
    class Held:
        x: u8

    @event(name="near.E")
    class E:
        a: Annotated[bytes, Nested(Held)]
        c: Annotated[bytes, Nested(Held)] = dataclasses.field(metadata={"force_align": 4})
        b: Annotated[bytes, Nested(E)] | None = None

    text = to_fbs(E)
    assert 'a:[ubyte] (required, nested_flatbuffer: "far.away.Held");' in text
    assert 'b:[ubyte] (nested_flatbuffer: "E");' in text
    assert 'c:[ubyte] (required, force_align: 4, nested_flatbuffer: "far.away.Held");' in text
    (tmp_path / "e.fbs").write_text(text)
    loaded = load(tmp_path / "e.fbs")["near.E"]
    assert [str(f.kind) for f in event_type(loaded).declaration.fields] == [
        str(f.kind) for f in event_type(E).declaration.fields
    ]
    source = to_python(E)
    assert "a: Annotated[bytes, Nested(Held)]\n" in source
    assert "b: Annotated[bytes, Nested(E)] | None = None\n" in source
    namespace: dict[str, Any] = {"__name__": __name__}
    exec(source, namespace)
    assert event_type(namespace["E"]).schema_bytes == event_type(E).schema_bytes


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("table E { a:[ubyte] (nested_flatbuffer); }", 22, "nested_flatbuffer names a table"),
        ("table E { a:[ubyte] (nested_flatbuffer: 3); }", 22, "nested_flatbuffer names a table"),
        ('table E { a:[byte] (nested_flatbuffer: "E"); }', 21, r"nested_flatbuffer is for a \[ubyte\]"),
        ('table E { a:string (nested_flatbuffer: "E"); }', 21, r"nested_flatbuffer is for a \[ubyte\]"),
        ('struct S { a:[ubyte:4] (nested_flatbuffer: "S"); }', 25, r"nested_flatbuffer is for a \[ubyte\]"),
        ('table E { a:[ubyte] (nested_flatbuffer: "F"); }', 41, "F is declared nowhere"),
        ('struct S { x:int; } table E { a:[ubyte] (nested_flatbuffer: "S"); }', 61, "S is none"),
        ('table E { a:[ubyte] (nested_flatbuffer: "int"); }', 41, "int is none"),
        ('table E { a:[ubyte] = [] (nested_flatbuffer: "E"); }', 23, "a nested buffer has no default"),
    ],
)
def test_what_fbs_cannot_say_has_line_and_column(tmp_path: Any, text: str, column: int, reason: str) -> None:
    """Each at the attribute, or at its value."""
    (tmp_path / "e.fbs").write_text(text)
    with pytest.raises(SchemaError, match=reason) as caught:
        load(tmp_path / "e.fbs")
    assert (caught.value.__dict__["line"], caught.value.__dict__["column"]) == (1, column)


def test_work_is_shared_with_the_outer_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a nested buffer takes is gone for what comes after it; and it never gets more than its own bytes are worth."""
    data = to_bytes(envelope())
    spent: list[int] = []
    root = verify._Verifier.root

    def counting(self: Any, name: str, depth: int) -> Any:
        before = self.left
        out = root(self, name, depth)
        spent.append(before - self.left)
        return out

    monkeypatch.setattr(verify._Verifier, "root", counting)
    event_type(Envelope).verify(data)
    order, tree, inner_order, inner_tree, inner, outer = spent
    assert (order, tree) == (inner_order, inner_tree)
    assert order > 0 < tree
    own = inner - order - tree
    assert own > 0
    assert outer == own + order + tree + inner + 1, "one field more than the inner one has"
    monkeypatch.setattr(verify, "WORK_BYTES", 2**20)
    with pytest.raises(MalformedEvent, match=r"holds no valid OrderPlaced: OrderPlaced overlaps with other parts"):
        event_type(Envelope).verify(data)
