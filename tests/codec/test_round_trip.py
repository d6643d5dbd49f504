"""Events survive packing: what a view reads is what was written."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from codec_models import Cash, Everything, Ledger, Line, Numbers, OrderPlaced, Tree, events_of, everything
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varve.codec import declare, event_type, owned
from varve.codec.json import from_json, to_json
from varve.codec.pack import LAYOUT_TEXT_BYTES_MAX
from varve.codec.schema import SCALARS

CLASSES = [OrderPlaced, Cash, Line, Numbers, Tree, Everything, Ledger]
slow = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))


def check(cls: Any, one: Any) -> None:
    compiled = event_type(cls)
    data = compiled.pack(one)
    assert len(data) % 8 == 0
    compiled.verify(data)
    for buffer in (data, memoryview(data), memoryview(bytearray(b"\xee" * 8 + data))[8:]):
        view = compiled.view(buffer)
        assert view == one
        assert hash(view) == hash(one)
        assert isinstance(view, cls)
    embedded = compiled.view(b"\xee" * 16 + data + b"\xee" * 16, 16)
    assert embedded == one
    assert compiled.pack(embedded) == data
    assert compiled.digest(embedded) == compiled.digest(one)
    assert owned(embedded) == one
    assert type(owned(embedded)) is cls
    assert from_json(cls, to_json(embedded)) == one


@pytest.mark.parametrize("cls", CLASSES)
@given(data=st.data())
@slow
def test_every_event_reads_back_equal(cls: Any, data: st.DataObject) -> None:
    """Pack, view, digest, owned and JSON agree on any event of every mapped type."""
    check(cls, data.draw(events_of(cls)))


KIND_NAMES = [
    *SCALARS,
    "str",
    "bytes",
    "decimal",
    "uuid",
    "datetime",
    "Line",
    "Box",
    "Color",
    "Access",
    "Card | Cash",
    "Tree",
]


@given(data=st.data())
@slow
def test_any_combination_of_field_types_works(data: st.DataObject) -> None:
    """Classes of random fields, in any order, optional or in vectors, pack and read back."""
    check_generated(data)


def check_generated(data: st.DataObject) -> None:
    scope = HINTS()
    annotations = {}
    for index in range(data.draw(st.integers(0, 8))):
        name = data.draw(st.sampled_from(KIND_NAMES))
        shape = data.draw(st.sampled_from(["{}", "{} | None", "list[{}]", "list[{}] | None"]))
        annotations[f"f{index}"] = (shape if " | " not in name else shape.replace("list[{}]", "{}")).format(name)
    cls = declare.declare(type("Generated", (), {"__annotations__": annotations}), "table", None, scope)
    check(cls, data.draw(events_of(cls)))


def HINTS() -> dict[str, Any]:
    import codec_models

    from varve import types

    plain = {"decimal": codec_models.Decimal, "uuid": codec_models.UUID, "datetime": codec_models.datetime}
    return vars(codec_models) | plain | {name: getattr(types, name) for name in SCALARS if name != "bool"}


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7, 8, 100, LAYOUT_TEXT_BYTES_MAX - 1, LAYOUT_TEXT_BYTES_MAX, 70_000])
def test_strings_of_any_length(length: int) -> None:
    """Short strings by a cached layout, long ones without: the bytes are the same kind of bytes."""
    check(OrderPlaced, OrderPlaced(1, "x" * length, 2, 3))


def test_the_layout_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """When no more layouts are kept, events pack without one."""
    from varve import limits

    monkeypatch.setattr(limits, "PACK_LAYOUTS_MAX", 2)

    @declare.event
    class Pair:
        a: str
        b: str

    for n in range(40):
        check(Pair, Pair("a" * n, "b" * (40 - n)))
    assert len(event_type(Pair).pack.__globals__["LAYOUTS"]) == 2


def test_the_known_heads_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Views remember which combinations of absent fields they have met, up to a limit."""
    from varve import limits

    monkeypatch.setattr(limits, "PACK_LAYOUTS_MAX", 3)

    @declare.event
    class Five:
        a: str | None = None
        b: str | None = None
        c: str | None = None
        d: str | None = None
        e: str | None = None

    for mask in range(32):
        check(Five, Five(*("x" if mask >> bit & 1 else None for bit in range(5))))
    names = event_type(Five).pack.__globals__
    pieces = [names["KNOWN_root_0"], *names["KNOWN_rest"]]
    known = [len(heads) for heads in pieces]
    assert 1 < max(known) <= 3, known


def test_long_strings_keep_no_layouts() -> None:
    """A layout for each length of a long text would fill the cache with what is never used again."""

    @declare.event
    class Page:
        text: str

    for n in range(4):
        check(Page, Page("a" * (2**14 + 4 * n)))
    assert len(event_type(Page).pack.__globals__["LAYOUTS"]) == 0


def test_a_view_may_be_nested_in_a_new_event() -> None:
    """Fields of a view go into another event as they are."""
    compiled = event_type(Everything)
    view = compiled.view(compiled.pack(everything()))
    again = everything(lines=(view.lines[1],), tree=view.tree, payment=view.payment, numbers=view.numbers)
    check(Everything, again)
    assert again.lines[0] == Line("bcde", 3, 4)


def test_defaults_are_written() -> None:
    """A field equal to its default is present in the bytes: other readers need not know the default."""
    compiled = event_type(Everything)
    foreign = dataclasses.replace(everything(), count=7, label="none")
    assert b"none" in compiled.pack(foreign)
