"""Which streams a pattern means."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

import varve
from varve import limits
from varve.layout.keys import StreamId
from varve.scoped.patterns import Extent, Patterns, Right, id_text

IDENT = uuid.UUID("12345678-1234-4678-8234-1234567890ab")
IDS = st.one_of(
    st.integers(0, 2**64 - 1),
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=40),
    st.uuids(),
    st.integers(0, 999).map(str),
    st.uuids().map(str),
    st.integers(0, 9).map(lambda n: f"'{n}'"),
)


@pytest.mark.parametrize(
    ("pattern", "inside", "outside"),
    [
        ("orders", [("orders", 7), ("orders", "7"), ("orders", IDENT)], [("Orders", 7), ("orders2", 7), ("order", 7)]),
        ("orders/*", [("orders", 7), ("orders", "a/b")], [("orders/x", 7), ("orders2", 7)]),
        ("orders/7", [("orders", 7)], [("orders", "7"), ("orders", 77), ("orders", "'7'")]),
        ("orders/'7'", [("orders", "7")], [("orders", 7), ("orders", "'7'")]),
        ("orders/007", [("orders", "007")], [("orders", 7)]),
        (f"orders/{IDENT}", [("orders", IDENT)], [("orders", str(IDENT))]),
        (f"orders/'{IDENT}'", [("orders", str(IDENT))], [("orders", IDENT)]),
        ("orders/t1-*", [("orders", "t1-"), ("orders", "t1-x\ny")], [("orders", "T1-x"), ("orders", "xt1-")]),
        ("orders/?", [("orders", 7), ("orders", "x")], [("orders", "7"), ("orders", 10)]),
        ("t?-*/a*c*e", [("t1-orders", "abcde"), ("tx-", "ace")], [("t1orders", "ace"), ("t1-o", "aec")]),
        ("*", [("orders", 7), ("a/b", "x")], []),
        ("*/*", [("orders", 7), ("a/b", "x")], []),
        ("a.c/[x]+", [("a.c", "[x]+")], [("abc", "[x]+"), ("a.c", "x")]),
        (("a/b",), [("a/b", 7), ("a/b", "x")], [("a", "b"), ("a/b/c", 1)]),
        (("orders", 7), [("orders", 7)], [("orders", "7")]),
        (("orders", "t*"), [("orders", "t*")], [("orders", "t1")]),
        (("*",), [("*", 1)], [("orders", 1)]),
    ],
)
def test_a_pattern_means_these_streams(
    pattern: object, inside: list[tuple[str, StreamId]], outside: list[tuple[str, StreamId]]
) -> None:
    """Names and ids are matched apart, kinds of ids told apart, case counted."""
    right = Right((Patterns([pattern], "read"),))  # type: ignore[list-item]
    assert [one for one in inside if not right.allows(*one)] == []
    assert [one for one in outside if right.allows(*one)] == []


@given(IDS, IDS)
def test_two_ids_never_have_one_text(one: StreamId, other: StreamId) -> None:
    """What a pattern without stars means is one stream."""
    assert (id_text(one) == id_text(other)) == (one == other and type(one) is type(other))


@given(IDS)
def test_the_exact_text_and_the_tuple_mean_the_stream(stream_id: StreamId) -> None:
    """Every stream can be named, by its text where that has no stars or question marks, and by a tuple always."""
    assert Patterns([("orders", stream_id)], "read").allow("orders", stream_id)
    if not {"*", "?"} & set(id_text(stream_id)):
        assert Patterns([f"orders/{id_text(stream_id)}"], "read").allow("orders", stream_id)


@given(st.text("ab*?", min_size=1, max_size=8), st.text("ab", max_size=8))
def test_stars_and_question_marks_mean_what_they_mean_everywhere(pattern: str, text: str) -> None:
    """Held against the plainest matcher that there is."""

    def plain(pattern: str, text: str) -> bool:
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(plain(pattern[1:], text[at:]) for at in range(len(text) + 1))
        return bool(text) and pattern[0] in {"?", text[0]} and plain(pattern[1:], text[1:])

    assert Patterns([pattern], "read").allow(text or "b", 1) == plain(pattern, text or "b")


def test_a_pattern_of_many_stars_is_quick() -> None:
    """Each part is looked for once: no pattern makes a read hang."""
    right = Patterns(["orders/" + "a*" * 400 + "b"], "read")
    assert not right.allow("orders", "a" * 255)


def test_the_extent_of_a_name() -> None:
    """All of it, some of it, nothing of it: narrowing takes the least."""
    wide = Right((Patterns(["orders", "pay/7"], "read"),))
    assert [wide.extent(name) for name in ("orders", "pay", "notes")] == [Extent.ALL, Extent.SOME, Extent.NONE]
    narrow = wide.narrowed(["*/7", "notes"], "read")
    assert [narrow.extent(name) for name in ("orders", "pay", "notes")] == [Extent.SOME, Extent.SOME, Extent.NONE]
    assert narrow.allows("orders", 7)
    assert not narrow.allows("orders", 8)
    assert narrow.refusing("orders", 8) == ("*/7", "notes")
    assert narrow.refusing("notes", 7) == ("orders", "pay/7")


@pytest.mark.parametrize(
    "given",
    [
        "orders",
        b"orders",
        7,
        None,
        [7],
        [None],
        [b"orders"],
        [""],
        ["orders/"],
        ["/7"],
        ["/"],
        [()],
        [("orders", 7, 8)],
        [("", 7)],
        [("orders", "")],
        [("orders", True)],
        [("orders", -1)],
        [("orders", 1.5)],
        [(7,)],
        ["x" * (limits.SCOPE_PATTERN_CHARS_MAX + 1)],
        ["orders"] * (limits.SCOPE_PATTERNS_MAX + 1),
    ],
)
def test_what_is_no_pattern_is_refused(db: varve.Varve, given: object) -> None:
    """A str alone would be an iterable of letters: nothing is guessed."""
    for right in ("read", "append"):
        with pytest.raises(varve.InvalidInput):
            db.scoped(**{right: given})  # type: ignore[arg-type]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A handle that lives long and sees many streams forgets, and decides again."""
    monkeypatch.setattr(limits, "SCOPE_DECISIONS_MAX", 3)
    right = Right((Patterns(["*/1*"], "read"),))
    for number in range(10, 30):
        assert right.allows(f"n{number}", number) == (number < 20)
        assert len(right._decisions) <= 3
        assert len(right._extents) <= 3
