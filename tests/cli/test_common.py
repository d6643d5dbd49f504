"""What the commands share: text that is safe to print, and what people type."""

from __future__ import annotations

import datetime as dt
import json
import re
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from varve.cli.common import IdKind, as_bytes, json_text, plain, sequence_or_time, stream_id_of, when
from varve.cli.stats import sparkline
from varve.errors import InvalidInput

STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]")
ANY_TEXT = st.text(st.characters()) | st.text(st.sampled_from('\x1b\x9b\n\r\x07\u202e\u2066\ud800ab\\"'))


@given(ANY_TEXT)
def test_text_cannot_steer_a_terminal(text: str) -> None:
    """Nothing that moves a cursor, ends a line or turns the direction gets through; the rest is as it was."""
    assert not STEERING.search(plain(text))
    if not STEERING.search(text) and text.isascii():
        assert plain(text) == text


@given(
    st.recursive(ANY_TEXT | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(ANY_TEXT, inner))
)
def test_json_cannot_either_and_says_the_same(value: object) -> None:
    """Escaped as JSON allows, so that programs read the very text; line feeds only where lines are indented."""
    assert json.loads(json_text(value)) == value
    assert not STEERING.search(json_text(value))
    assert json.loads(json_text(value, 2)) == value
    assert not STEERING.search(json_text(value, 2).replace("\n", ""))


def test_ids_are_of_the_kind_that_they_look_like() -> None:
    """A number is an int, a UUID one, all else text; unless it is said."""
    some = uuid.uuid4()
    assert stream_id_of("42", None) == 42
    assert stream_id_of("007", None) == "007"
    assert stream_id_of("-1", None) == "-1"
    assert stream_id_of("\u0664\u0662", None) == "\u0664\u0662"  # digits, though not ours
    assert stream_id_of("alice", None) == "alice"
    assert stream_id_of(str(some), None) == some
    assert stream_id_of(some.hex, None) == some.hex
    assert stream_id_of("42", IdKind.STR) == "42"
    assert stream_id_of("007", IdKind.INT) == 7
    assert stream_id_of(some.hex, IdKind.UUID) == some
    for kind in (IdKind.INT, IdKind.UUID):
        with pytest.raises(InvalidInput, match=f"the id 'alice' is no {kind.value}"):
            stream_id_of("alice", kind)


def test_points_in_time() -> None:
    """ISO 8601, UTC where it does not say; or how long ago."""
    assert when("2025-01-31") == dt.datetime(2025, 1, 31, tzinfo=dt.UTC)
    assert when("2025-01-31T12:00:00+01:00") == dt.datetime(2025, 1, 31, 11, tzinfo=dt.UTC)
    now = dt.datetime.now(dt.UTC)
    assert abs(when("now") - now) < dt.timedelta(minutes=5)
    for text, ago in {"90s": 90, "15m": 900, "2h": 7_200, "3d": 259_200, "1w": 604_800}.items():
        assert abs(now - when(text) - dt.timedelta(seconds=ago)) < dt.timedelta(minutes=5)
    for text in ("", "yesterday", "15", "15 m", "2025-13-01", "999999999w", "0001-01-01T00:00:00+23:00"):
        with pytest.raises(InvalidInput, match="is no point in time"):
            when(text)
    assert sequence_or_time("15") == 15
    assert sequence_or_time("2025-01-31") == when("2025-01-31")
    with pytest.raises(InvalidInput, match="is no global sequence, and"):
        sequence_or_time("-1")


def test_numbers_for_people() -> None:
    """Bytes in units, counts as bars."""
    assert [as_bytes(count) for count in (0, 1023, 1024, 3 * 2**20, 5 * 2**30, 2**40, 2**50)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "3.0 MiB",
        "5.0 GiB",
        "1.0 TiB",
        "1024.0 TiB",
    ]
    assert sparkline(()) == ""
    assert sparkline((0, 0)) == "  "
    assert sparkline((0, 1, 4, 8)) == " \u2581\u2584\u2588"
    assert sparkline((1, 10**9)) == "\u2581\u2588"
