"""Varve and the official tools read what the other writes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from codec_models import Cash, Everything, Ledger, Line, Numbers, OrderPlaced, Tree, events_of
from generated import event_classes, features
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from layout import Layout
from official import VECTOR_OF_UNIONS, Accessors, Flatc, as_json, official, same_record

from varve.codec import event_type
from varve.codec.fbs import to_fbs
from varve.codec.schema import SCALARS

CLASSES = [OrderPlaced, Cash, Line, Numbers, Tree, Everything, Ledger]
few = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=list(HealthCheck),
    derandomize=True,
    database=None,
    phases=[Phase.generate],  # each try starts a compiler: a failure is shown as it was met
)
"""The same examples each time: a schema that flatc stumbles over must not fail somebody else's change."""


def agree(cls: Any, events: list[Any], flatc: Flatc, chance: random.Random) -> None:
    compiled = event_type(cls)
    declared, text = compiled.declaration, to_fbs(cls)
    buffers = [compiled.pack(event) for event in events]
    for data in buffers:
        Layout(cls, data).root()
    want = [as_json(declared, event) for event in events]
    # What Varve writes, the official tools read.
    for printed, expected in zip(flatc.to_json(text, buffers), want, strict=True):
        assert same_record(declared, printed, expected)
    accessors = Accessors(flatc.to_python(text), VECTOR_OF_UNIONS.search(text) is not None)
    usable = [as_json(declared, event, deprecated=False) for event in events]
    for data, expected in zip(buffers, usable, strict=True):
        assert exactly(accessors.event(declared, data)) == exactly(expected)
    # What they write, Varve reads.
    shown = [event for event in events if not has_deprecated(declared, event)]
    json_want = [as_json(declared, event) for event in shown]
    theirs = [
        (data, event) for event in events for data in (official(cls, event, chance), official(cls, event, chance, 3))
    ]
    if shown and not has_keyed_items(declared):
        for flags in ((), ("--force-defaults",)):
            theirs += zip(flatc.to_binary(text, json_want, *flags), shown, strict=True)
    for data, event in theirs:
        compiled.verify(data)
        padded = data + bytes(-len(data) % 8)
        view = compiled.view(padded)
        assert view == event
        compiled.verify(compiled.pack(view))


def exactly(value: Any) -> Any:
    """Comparable, with NaN equal to itself."""
    if isinstance(value, float):
        return repr(value + 0.0)
    if isinstance(value, dict):
        return {name: exactly(item) for name, item in value.items()}
    return [exactly(item) for item in value] if isinstance(value, list) else value


def has_deprecated(declared: Any, event: Any) -> bool:
    """Whether a deprecated field is set somewhere: JSON cannot say it."""
    for f in declared.fields:
        value = getattr(event, f.name)
        if value is None:
            continue
        if f.deprecated:
            return True
        items = value if f.kind.tag == "vector" else [value]
        for item in items:
            inner = getattr(type(item), "__varve__", None)
            if inner is not None and inner.what == "table" and has_deprecated(inner, item):
                return True
    return False


def has_keyed_items(declared: Any) -> bool:
    """Whether a vector holds tables or structs that have a key: flatc sorts them when it reads JSON."""
    tables = [found for _, found in declared.reachable() if hasattr(found, "fields")]
    items = {name for t in tables for f in t.fields if f.kind.item is not None for name in f.kind.references()}
    return any(t.name in items and any(f.key for f in t.fields) for t in tables)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_events_of_every_mapped_type_pass_both_ways(cls: Any, flatc: Flatc) -> None:
    """The compiler and the official Python runtime read Varve's events of every type, and Varve theirs."""

    @given(st.lists(events_of(cls), min_size=1, max_size=12), st.randoms(use_true_random=False))
    @settings(few, max_examples=6)
    def check(events: list[Any], chance: random.Random) -> None:
        agree(cls, events, flatc, chance)

    check()


NESTED = ["struct", "table", "union", "vector of union"]
WANTED = {
    *(f"table: {tag}" for tag in ["number", "bool", "str", "bytes", "decimal", "uuid", "datetime", "enum", *NESTED]),
    *(f"table: vector of {tag}" for tag in ["number", "str", "bytes", "uuid", "datetime", "enum", "struct", "table"]),
    *(f"optional {tag}" for tag in ["number", "str", "bytes", "vector of number", "vector of struct", *NESTED]),
    *(f"required {tag}" for tag in ["str", "bytes", "decimal", "uuid", "vector of number", *NESTED]),
    *(f"default {tag}" for tag in ["number", "bool", "str", "bytes", "datetime", "vector of union"]),
    *(f"key {tag}" for tag in ["number", "bool", "str", "datetime"]),
    *(f"struct: {tag}" for tag in ["number", "bool", "struct", "array of number"]),
    *("enum", "flags", "deprecated", "aligned vector", "holds itself", *SCALARS),
}
"""What the random schemas must reach. Arrays of enums and structs have tests of their own."""


def test_random_schemas_reach_everything() -> None:
    """Every mapped type, alone, in vectors, optional, required, with a default, as a key, in structs and arrays."""
    found: set[str] = set()

    def collect(cls: Any) -> None:
        found.update(features(cls))

    # Rare combinations need more draws: a few rounds with seeds of their own, no more than it takes.
    for number in range(15):
        seed(number)(settings(few, derandomize=False, max_examples=150)(given(event_classes())(collect)))()
        if found >= WANTED:
            break
    assert sorted(WANTED - found) == []


def test_events_of_any_schema_pass_both_ways(flatc: Flatc) -> None:
    """The same for random schemas with namespaces of types, options, defaults, alignment and deprecated fields."""

    @given(st.data(), event_classes(), st.randoms(use_true_random=False))
    @few
    def check(data: st.DataObject, cls: Any, chance: random.Random) -> None:
        agree(cls, data.draw(st.lists(events_of(cls), min_size=1, max_size=5)), flatc, chance)

    check()
