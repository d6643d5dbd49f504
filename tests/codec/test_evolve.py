"""What may change between two versions of an event class, and that events then stay readable in every promised direction."""

from __future__ import annotations

import contextlib

import pytest
from evolution_cases import ALLOWED, DANGEROUS, REFUSED, Change, root, table

from varve.codec import event_type, incompatibilities, misfits
from varve.codec.schema import Schema
from varve.errors import MalformedEvent


def reasons(change: Change) -> list[str]:
    """What is said against a change."""
    return incompatibilities(event_type(change.before).schema_bytes, event_type(change.after).schema_bytes)


@pytest.mark.parametrize("change", ALLOWED, ids=lambda c: c.what)
def test_what_may_change(change: Change) -> None:
    """Growth at the end and deprecation in place, at the root and in all that it holds."""
    assert reasons(change) == []


@pytest.mark.parametrize("change", [*REFUSED, *DANGEROUS], ids=lambda c: c.what)
def test_what_may_not_change(change: Change) -> None:
    """Each change gives exactly its reasons: none is missing, and none is made up."""
    found = reasons(change)
    assert len(found) == len(change.reasons), found
    for expected in change.reasons:
        assert sum(expected in reason for reason in found) == 1, (expected, found)


@pytest.mark.parametrize("change", [*ALLOWED, *REFUSED, *DANGEROUS], ids=lambda c: c.what)
def test_no_version_conflicts_with_itself(change: Change) -> None:
    """Whatever a class holds, the same declarations may follow it."""
    for version in (change.before, change.after):
        text = event_type(version).schema_bytes
        assert incompatibilities(text, Schema.from_bytes(text).to_bytes()) == []


def test_every_stored_version_counts() -> None:
    """Reasons against any version of a type are found, each once, also those that only an older one gives."""
    first, second = (event_type(cls).schema_bytes for cls in (root({"a": int}), root({"a": int, "b": int | None})))
    other = event_type(root({"a": str, "b": int | None})).schema_bytes
    assert misfits([first, second], other) == ["E.a was i64 and is str now"]
    assert misfits([second, first], event_type(root({"a": int, "c": int | None})).schema_bytes) == [
        "E.b was removed, or renamed to c; keep it, deprecated: field(default=..., kw_only=True, metadata={'deprecated': True})"
    ]
    assert misfits([], other) == []


def test_a_stored_version_in_words_of_the_future_is_a_reason() -> None:
    """A schema that this Varve cannot read is refused with a word on what to do, not with a crash."""
    text = event_type(root({"a": int})).schema_bytes
    future = text.replace(b'"format":1', b'"format":2')
    [reason] = misfits([future, text], text)
    assert "beyond this Varve" in reason
    assert "upgrade" in reason
    with pytest.raises(MalformedEvent):
        incompatibilities(future, text)


@pytest.mark.parametrize("default", [b"[1]", b'{"$type":[]}', b'{"$type":"Card"}', b'"nothing"', b"null", b"{}"])
def test_nonsense_in_the_default_of_a_stored_schema_is_a_change_of_it(default: bytes) -> None:
    """Stored text may hold any JSON as a default: it is compared, and never trusted."""
    for kind in (b'{"enum":"G"}', b'{"table":"Card"}', b'{"union":["Card"]}', b'{"vector":{"enum":"G"}}'):
        text = (
            b'{"format":1,"root":"E","types":{"Card":{"table":[{"name":"n","type":"u8"}]},'
            b'"E":{"table":[{"default":%s,"name":"x","type":%s}]},"G":{"enum":"i32","members":[["A",0]]}}}'
        )
        one, two = text % (default, kind), text % (b"17", kind)
        assert incompatibilities(one, one + b" ") == []
        [reason] = incompatibilities(one, two)
        assert "had the default" in reason


def test_a_default_nested_beyond_reason_is_malformed() -> None:
    """MalformedEvent, whatever a schema holds."""
    text = (
        b'{"format":1,"root":"E","types":{"E":{"table":[{"default":%s,"name":"x","type":{"table":"T"}}]},'
        b'"T":{"table":[{"name":"t","optional":true,"type":{"table":"T"}}]}}}'
    )
    deep = text % (b'{"t":' * 900 + b"null" + b"}" * 900)
    for one, two in ((deep, text % b"{}"), (text % b"{}", deep)):
        with contextlib.suppress(MalformedEvent):
            assert incompatibilities(one, two)


def test_a_default_of_vectors_nested_beyond_reason_is_malformed() -> None:
    """What the parser of JSON still takes may be too deep to compare: MalformedEvent, and no RecursionError."""
    text = (
        b'{"format":1,"root":"E","types":{"E":{"table":[{"default":%s,"name":"x","type":{"table":"T"}}]},'
        b'"T":{"table":[{"name":"t","type":{"vector":{"table":"T"}}}]}}}'
    )
    told = set()
    for depth in (10, 400, 440, 600, 900):
        deep = text % (b'{"t":[' * depth + b"{}" + b"]}" * depth)
        try:
            told.update(incompatibilities(deep, text % b"{}"))
        except MalformedEvent as error:
            told.add(str(error))
    assert "not a valid event schema: a default is nested too deeply" in told
    assert any(reason.startswith("E.x had the default") for reason in told)


def test_reasons_are_found_among_many_types_once() -> None:
    """A nested class that is reached on two ways is compared once."""
    [reason] = reasons(
        Change("", *(root({"one": t, "two": list[t]}) for t in (table("T", {"x": int}), table("T", {"x": str}))))
    )
    assert reason == "T.x was i64 and is str now"
