"""The specialised packers and views: every way to the same bytes, and every way back."""

from __future__ import annotations

import array
import dataclasses
import itertools
import random
import struct
from typing import Any

import pytest
from codec_models import Card, Everything, Line, Note, OrderPlaced, Point, Tree, events_of, everything
from hypothesis import HealthCheck, given, settings

from varve import limits
from varve.codec import event, event_type
from varve.codec import struct as varve_struct
from varve.codec.pack import LAYOUT_TEXT_BYTES_MAX, SHORT_TEXT_BYTES, head_pieces, mask_bits
from varve.codec.runtime import Reject, bytes_vector, scalar_vector, table_vector
from varve.types import f32, i16, u8, u32, u64

SEED = 20_240_607


@event
class Left:
    number: u8


@event
class Right:
    text: str


@event
class Sparse:
    """More optional fields than one mask speaks for; the ninth to eleventh stand where the pieces of a head meet."""

    a: u8 | None = None
    b: str | None = None
    c: float | None = None
    d: bytes | None = None
    e: bool | None = None
    always: u32 = 7
    f: u64 | None = None
    g: str | None = None
    h: i16 | None = None
    i: list[u32] | None = None
    j: Left | Right | None = None
    k: Left | Right | None = None
    m: Right | None = None
    n: f32 | None = None
    o: list[Right] | None = None
    p: str | None = None


VALUES: dict[str, Any] = {
    "a": 200, "b": "text", "c": 0.5, "d": b"12345", "e": False, "f": 2**63, "g": "", "h": -5, "i": (1, 2, 3), "j": Right("j"),
    "k": Left(3), "m": Right("mmmm"), "n": 0.25, "o": (Right("1"), Right("22")), "p": "\u00e9",
}  # fmt: skip


def masks(count: int) -> list[dict[str, Any]]:
    generator = random.Random(SEED)
    some = [{name: v for name, v in VALUES.items() if generator.random() < 0.5} for _ in range(count)]
    return [{}, VALUES, *({name: VALUES[name]} for name in VALUES), *some]


def plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, memoryview) else value


def test_every_mask_of_optional_fields_packs_and_reads() -> None:
    """Whatever is absent: as a root event, nested, and through the slow path, the values come back."""
    compiled, holder = event_type(Sparse), event_type(Holder)
    for fields in masks(1_000):
        one = Sparse(**fields)
        data = compiled.pack(one)
        compiled.verify(data)
        view = compiled.view(data)
        for name in ("always", *VALUES):
            assert plain(getattr(view, name)) == getattr(one, name), (SEED, fields, name)
        assert type(view).__name__ == "Sparse"
        inside = holder.view(holder.pack(Holder(one, (one, one))))
        assert inside.one == inside.many[0] == inside.many[1] == one, (SEED, fields)


@event
class Holder:
    one: Sparse
    many: list[Sparse]


def test_our_own_masks_read_on_the_fast_path() -> None:
    """A view of what our packer wrote never goes through the vtable, whichever fields are absent."""
    compiled = event_type(Sparse)
    settled = set()
    for fields in masks(500):
        view = compiled.view(compiled.pack(Sparse(**fields)))
        assert view.always == 7
        settled.add(type(view))
    assert len(settled) == 1


def test_a_union_with_a_tag_and_no_value_is_read_by_its_vtable() -> None:
    """A head that differs from ours in more than absent fields is not taken for one of ours."""
    compiled = event_type(Sparse)
    ours = compiled.view(compiled.pack(Sparse()))
    assert ours.always == 7
    data = bytearray(compiled.pack(Sparse(j=Left(1))))
    value = next(
        slot for slot in compiled.plan.slots if compiled.declaration.fields[slot.field].name == "j" and not slot.tag
    )
    struct.pack_into("<H", data, compiled.plan.vtable_at + value.entry, 0)
    other = compiled.view(bytes(data))
    assert other.always == 7
    assert other.j is None
    assert type(other) is not type(ours)


def test_masks_always_fit_their_caches() -> None:
    """However many optional fields: the pieces of a head have at most PACK_LAYOUTS_MAX values together."""
    for count in range(1, limits.FIELDS_MAX + 1):
        bits = mask_bits(count)
        assert -(-count // bits) << bits <= limits.PACK_LAYOUTS_MAX, count
    compiled = event_type(Sparse)
    optional = [i for i, f in enumerate(compiled.declaration.fields) if f.optional]
    pieces = head_pieces(compiled.plan, optional)
    assert len(pieces) == 2
    assert b"".join(piece[0] for piece in pieces) == compiled.plan.prefix()[4:]


@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
@given(events_of(Everything))
def test_every_way_of_packing_gives_the_same_bytes(one: Any) -> None:
    """``pack``, ``pack_all`` and the way of the slow path agree, also for what is nested."""
    compiled = event_type(Everything)
    whole = compiled.pack.__globals__["pack_whole"]
    assert compiled.pack(one) == whole(one) == compiled.pack_all([one])[0]
    lines = event_type(Line)
    assert lines.bodies is not None
    for values in (one.lines, ()):
        piecewise = table_vector(values, lines.body.__globals__["body_whole"], lines.plan.table_at - 4, True, 2)
        assert lines.bodies(values, 2) == piecewise
        assert [lines.body(e, 2) for e in values] == [lines.body.__globals__["body_whole"](e, 2) for e in values]


@event
class OneText:
    """The shape whose layouts are found by the length of its text."""

    number: u64
    text: str


def test_one_text_of_any_length_packs_alike_by_every_way() -> None:
    """Lengths that a list knows, those past its end, those without a layout; met for the first time and again."""
    compiled = event_type(OneText)
    whole = compiled.pack.__globals__["pack_whole"]
    for again in range(2):
        for length in (*range(2 * SHORT_TEXT_BYTES), LAYOUT_TEXT_BYTES_MAX - 1, LAYOUT_TEXT_BYTES_MAX):
            for text in ("x" * length, "é" * (length // 2)):
                one = OneText(again, text)
                assert compiled.pack(one) == whole(one) == compiled.pack_all([one])[0], length
                assert compiled.view(compiled.pack(one)).text == text


def test_one_text_packs_without_a_layout_where_no_more_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on the first day of a class, with no room for layouts."""

    @event(name="OneTextLate")
    class Late:
        text: str

    monkeypatch.setattr(limits, "PACK_LAYOUTS_MAX", 1)
    compiled = event_type(Late)
    whole = compiled.pack.__globals__["pack_whole"]
    for length in (3, 2, 40, 300, 3, 40):
        assert compiled.pack(Late("x" * length)) == whole(Late("x" * length))
    assert len(compiled.pack.__globals__["LAYOUTS"]) == 1


def test_long_texts_and_vectors_pack_without_layouts() -> None:
    """At the limits up to which something is kept ready, and past them."""
    compiled = event_type(Everything)
    for n in (3, 4, 255, 256, 257, 1_023, 1_024, 2**14, 2**14 + 1):
        one = everything(text="x" * n, numbers=tuple(range(n)), notes=(Note("y" * n), Note("z")), maybe_text="w" * n)
        data = compiled.pack(one)
        compiled.verify(data)
        assert compiled.view(data) == one
        many = everything(notes=tuple(Note(str(i)) for i in range(min(n, 2_000))))
        assert compiled.view(compiled.pack(many)) == many


def test_optional_bytes_of_wide_items_keep_their_length() -> None:
    """A memoryview of numbers has fewer items than bytes; it must not be packed with the count of its items."""

    @event
    class Blob:
        data: bytes | None

    wide = memoryview(array.array("I", [1, 2]))
    assert event_type(Blob).view(event_type(Blob).pack(Blob(wide))).data == bytes(wide)  # type: ignore[arg-type]


def test_nested_tables_of_another_class_are_refused_in_vectors() -> None:
    """Each item is looked at, also where the vector is packed in one loop."""
    bodies = event_type(Line).bodies
    assert bodies is not None
    with pytest.raises(Reject):
        bodies((Line("a", 1, 2), Note("b")), 2)
    with pytest.raises(Reject):
        bodies((Line("a", 1, 2),), limits.NESTING_DEPTH_MAX + 1)
    assert bodies((), limits.NESTING_DEPTH_MAX + 1) == bytes(4)


# -- views -----------------------------------------------------------------------------------------------------------


def test_nested_views_are_frozen() -> None:
    """Their numbers stand in slots, which must not make them writable."""
    compiled = event_type(Everything)
    view = compiled.view(compiled.pack(everything()))
    for line in (view.lines[0], view.lines[1], view.payment, view.tree):
        for name in ("quantity", "sku", "number", "value", "other"):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(line, name, 1)
            with pytest.raises(dataclasses.FrozenInstanceError):
                delattr(line, name)
    assert view == everything()


def test_nested_views_give_owned_instances_when_replaced() -> None:
    """``dataclasses.replace`` calls the class of the view."""
    compiled = event_type(Everything)
    line = compiled.view(compiled.pack(everything())).lines[0]
    changed = dataclasses.replace(line, quantity=99)
    assert type(changed) is Line
    assert changed == Line("a", 99, 2)
    assert type(dataclasses.replace(line, sku="b", quantity=1, price=2)) is Line


def test_structs_of_views_are_plain_and_frozen() -> None:
    """They are instances of the declared class, as if made by its constructor."""
    compiled = event_type(Everything)
    point = compiled.view(compiled.pack(everything())).points[0]
    assert type(point) is Point
    with pytest.raises(dataclasses.FrozenInstanceError):
        point.x = 5.0


def test_classes_with_a_new_of_their_own_read_without_calling_it() -> None:
    """What stands in the log is not made by the user's code."""

    class Counting:
        made = 0

        def __new__(cls, *_: Any, **__: Any) -> Any:
            Counting.made += 1
            return object.__new__(cls)

    @varve_struct
    class Spot(Counting):
        x: float

    @event
    class Inner(Counting):
        n: u32

    @event
    class Outer:
        spot: Spot
        inner: Inner

    data = event_type(Outer).pack(Outer(Spot(1.5), Inner(3)))
    made = Counting.made
    view = event_type(Outer).view(data)
    assert (view.spot.x, view.inner.n) == (1.5, 3)
    assert Counting.made == made


@event
class Pair:
    first: str
    second: str
    third: str | None


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_strings_may_stand_in_any_order(order: tuple[int, ...]) -> None:
    """Another writer may have our vtable and put the first string elsewhere."""
    compiled = event_type(Pair)
    texts = ("one", "two", "six")
    data = bytearray(compiled.pack(Pair(*texts)))
    slots = compiled.plan.slots
    targets = [slot.pos + struct.unpack_from("<I", data, slot.pos)[0] for slot in slots]
    for slot, index in zip(slots, order, strict=True):
        struct.pack_into("<I", data, slot.pos, targets[index] - slot.pos)
    for buffer in (bytes(data), memoryview(data)):
        view = compiled.view(buffer)
        assert (view.first, view.second, view.third) == tuple(texts[index] for index in order)


def test_cut_strings_are_not_shortened_silently() -> None:
    """Bytes that end within a character are an error for buffers of every kind, not a shorter text."""
    compiled = event_type(OrderPlaced)
    data = bytearray(compiled.pack(OrderPlaced(1, "abc\u00e9", 2, 3)))
    data[data.index(b"\xc3\xa9") - 7] = 4  # the length: one byte of the last character's two
    for buffer in (bytes(data), memoryview(bytes(data))):
        with pytest.raises(UnicodeDecodeError):
            _ = compiled.view(buffer).product


def test_nested_tables_of_other_layouts_go_through_their_vtable() -> None:
    """One item of a vector in another layout does not disturb its neighbours."""
    compiled = event_type(Everything)
    data = bytearray(compiled.pack(everything(lines=(Line("a", 1, 2), Line("bcde", 3, 4), Line("f", 5, 6)))))
    view = compiled.view(bytes(data))
    second = view.lines[1]
    plan = event_type(Line).plan
    table = second._o + plan.table_at
    vtable = table - struct.unpack_from("<i", data, table)[0]
    struct.pack_into("<H", data, vtable + 4 + 2 * 1, 0)  # quantity is absent: 0
    lines = compiled.view(bytes(data)).lines
    assert lines == (Line("a", 1, 2), Line("bcde", 0, 4), Line("f", 5, 6))
    assert type(lines[0]) is type(lines[2]) is not type(lines[1])


def test_trees_and_unions_read_as_before() -> None:
    """Classes that hold themselves, and members of a union, through the same functions."""
    compiled = event_type(Everything)
    tree = Tree(1, (Tree(2, (Tree(3),), Tree(4)),), Tree(5))
    one = everything(tree=tree, refund=Card("7", everything().at))
    assert compiled.view(compiled.pack(one)) == one


def test_vectors_of_other_values_are_refused() -> None:
    """What the constructor would have made right and somebody put there behind its back: numbers of another width, a list."""
    numbers = array.array("Q", [1, 2, 3])
    assert scalar_vector("u64")(memoryview(numbers)) == scalar_vector("u64")((1, 2, 3))
    for values in (memoryview(numbers), (1, 2.0), [1, 2]):
        with pytest.raises(Reject):
            scalar_vector("u32")(values)
    with pytest.raises(Reject):
        bytes_vector([b"a", b"b"])
