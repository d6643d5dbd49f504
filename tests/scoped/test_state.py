"""Keys of state under a scope: for any prefixes, any keys, narrowed or not."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scoped_models import Note

import varve
from varve.layout.ordered import encode_key
from varve.scoped.keys import KeyRight

PART = st.sampled_from(["", "a", "ab", "b", "a\0", "\U0010ffff", "a\U0010ffff", "é"])
PLAIN = st.one_of(
    PART,
    PART.map(str.encode),
    st.sampled_from([0, 1, -1, 2**200]),
    st.sampled_from([uuid.UUID(int=0), uuid.UUID(int=1)]),
)
KEYS = st.recursive(PLAIN, lambda inner: st.lists(inner, max_size=3).map(tuple), max_leaves=4)


def under(prefix: Any, key: Any) -> bool:
    """Whether a key lies under a prefix, said in Python."""
    if type(prefix) is not type(key):
        return False
    if isinstance(prefix, str | bytes):
        return bool(key.startswith(prefix))
    if isinstance(prefix, tuple):
        return encode_all(key[: len(prefix)]) == encode_all(prefix)
    return bool(key == prefix)


def encode_all(key: tuple[Any, ...]) -> list[bytes]:
    return [encode_key(member) for member in key]


@given(st.lists(KEYS, max_size=4), st.lists(KEYS, max_size=4), st.lists(KEYS, min_size=1, max_size=12))
def test_what_lies_under_a_prefix_is_allowed(first: list[Any], second: list[Any], keys: list[Any]) -> None:
    """By the kind of the prefix; by both sides where a handle was narrowed, by either where there are two lists."""
    one, other = KeyRight.of(first, "state"), KeyRight.of(second, "state")
    for key in keys:
        in_first, in_second = any(under(p, key) for p in first), any(under(p, key) for p in second)
        encoded = encode_key(key)
        assert one.allows(encoded) == in_first
        assert one.narrowed(other).allows(encoded) == (in_first and in_second)
        assert (one | other).allows(encoded) == (in_first or in_second)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    prefixes=st.lists(KEYS, max_size=3),
    keys=st.lists(KEYS, max_size=10),
    bounds=st.tuples(st.none() | KEYS, st.none() | KEYS),
    reverse=st.booleans(),
)
def test_scans_give_what_is_inside_and_only_that(
    empty: varve.Varve, prefixes: list[Any], keys: list[Any], bounds: tuple[Any, Any], *, reverse: bool
) -> None:
    """On the handle, in transactions with changes of their own, under the write lock, in snapshots."""

    def begin_anew(tx: varve.WriteTransaction) -> None:
        for key, _ in list(tx.state.range()):
            tx.state.delete(key)
        for number, key in enumerate(keys):
            tx.state.put(key, number)

    empty.write(begin_anew)
    handle = empty.scoped(state_read=prefixes)
    wanted = [
        pair
        for pair in empty.state.range(*bounds, reverse=reverse)
        if any(under(prefix, pair[0]) for prefix in prefixes)
    ]

    def read(state: varve.StateView) -> list[Any]:
        try:
            return list(state.range(*bounds, reverse=reverse))
        except varve.PermissionRefused:
            return []

    assert read(handle.state) == wanted
    with handle.snapshot() as snap:
        assert read(snap.state) == wanted
    with handle.transaction() as tx:
        assert read(tx.state) == wanted
    assert handle.write(lambda tx: read(tx.state)) == wanted


def test_several_prefixes_are_scanned_at_one_instant(db: varve.Varve) -> None:
    """What is changed while a scan is under way does not show in its later part."""
    handle = db.scoped(state=["t1/", "t2/"])
    scan = handle.state.range()
    assert next(scan) == ("t1/a", 1)
    db.state.put("t2/a", 99)
    db.state.put("t2/b", 99)
    assert list(scan) == [("t1/b", 2), ("t2/a", 4)]
    backwards = handle.state.range(reverse=True)
    assert [key for key, _ in backwards] == ["t2/b", "t2/a", "t1/b", "t1/a"]


def test_an_unfinished_scan_lets_its_snapshot_go(db: varve.Varve) -> None:
    """As soon as it is dropped."""
    scan = db.scoped(state=["t1/", "t2/"]).state.range()
    next(scan)
    assert len(db.stats().snapshots) == 1
    del scan
    assert len(db.stats().snapshots) == 0


def test_reading_and_changing_state_are_two_rights(db: varve.Varve) -> None:
    """``state_read`` is for what is shared."""
    handle = db.scoped(state=["t1/"], state_read=["shared/"])
    assert handle.state.get("shared/x") == 9
    with pytest.raises(varve.PermissionRefused) as info:
        handle.state.add("shared/x", 1)
    assert (info.value.action, info.value.what, info.value.allowed) == ("change state", "'shared/x'", ("'t1/'",))
    with pytest.raises(varve.PermissionRefused) as info:
        handle.state.get("t2/a")
    assert (info.value.action, info.value.allowed) == ("read state", ("'t1/'", "'shared/'"))
    with pytest.raises(varve.PermissionRefused, match="from 't2/a' to 't3'"):
        handle.state.range("t2/a", "t3")


def test_a_narrower_handle_has_less_state(db: varve.Varve) -> None:
    """What it names and what the wider one allows."""
    wide = db.scoped(state=["t1/"], state_read=["shared/"])
    narrow = wide.scoped(state=["t1/a", "shared/", "t2/"])
    assert [key for key, _ in narrow.state.range()] == ["shared/x", "t1/a"]
    narrow.state.put("t1/a", 2)
    for key, allowed in (("shared/x", ("'t1/'",)), ("t2/a", ("'t1/'",)), ("t1/b", ("'t1/a'", "'shared/'", "'t2/'"))):
        with pytest.raises(varve.PermissionRefused) as caught:
            narrow.state.put(key, 1)
        assert caught.value.allowed == allowed  # those of the handle that does not allow it
    with pytest.raises(varve.PermissionRefused) as caught:
        narrow.state.get("t2/a")
    assert caught.value.allowed == ("'t1/'", "'shared/'")
    with pytest.raises(varve.PermissionRefused) as caught:
        narrow.state.range("t2/", "t3/")
    assert caught.value.allowed == ("'t1/'", "'shared/'")
    assert list(wide.scoped().state.range("x", "a")) == []  # an empty range asks for nothing
    with pytest.raises(varve.PermissionRefused):
        wide.scoped().state.range()
    assert repr(narrow).endswith(": state 't1/a', 'shared/', 't2/'; narrowed 1x>")


def test_state_and_events_are_one_commit(db: varve.Varve) -> None:
    """A refused change takes the events with it, and the other way round."""
    handle = db.scoped(append=["notes"], state=["t1/"])
    notes = handle.stream("notes", Note)
    end = db.next_global_sequence
    with pytest.raises(varve.PermissionRefused), handle.transaction() as tx:
        tx.append(notes, "x", Note(1))
        tx.state.put("t2/a", 0)
    with pytest.raises(varve.PermissionRefused), handle.transaction() as tx:
        tx.state.put("t1/a", 0)
        tx.append(db.stream("orders", Note), 7, Note(1))
    assert (db.next_global_sequence, db.state.get("t1/a"), db.state.get("t2/a")) == (end, 1, 4)


def test_what_others_change_outside_is_no_conflict(db: varve.Varve) -> None:
    """A transaction that reads all that it may depends on that alone."""
    handle = db.scoped(state=["t1/", "shared/"])
    with handle.transaction() as tx:
        total = sum(value for _, value in tx.state.range())
        db.state.put("t2/a", 50)
        tx.state.put("t1/total", total)
    assert db.state.get("t1/total") == 12
    with pytest.raises(varve.TransactionConflict), handle.transaction() as tx:
        list(tx.state.range())
        db.state.put("shared/x", 50)
        tx.state.put("t1/total", 0)


def test_an_optimistic_function_runs_again_within_its_scope(db: varve.Varve) -> None:
    """The first time without a lock, then inside of the write transaction that saw the conflict: refused there as well."""
    handle = db.scoped(read=["orders/7"], append=["orders/7"], state=["t1/"], audit="audit")
    orders = handle.stream("orders", Note)
    runs: list[int] = []

    def decide(tx: varve.Transaction) -> int:
        runs.append(tx.state.get("t1/a"))
        if len(runs) == 1:
            db.state.add("t1/a", 10)
        else:
            for act in (lambda: tx.state.get("t2/a"), lambda: tx.append(orders, 8, Note(1))):
                with pytest.raises(varve.PermissionRefused):
                    act()
        tx.append(orders, 7, Note(runs[-1]))
        tx.state.put("t1/a", runs[-1] + 1)
        return runs[-1]

    assert handle.optimistic(decide) == 11
    assert runs == [1, 11]
    assert (db.state.get("t1/a"), orders.reader().length(7)) == (12, 11)
    assert db.stream("audit", varve.AccessRefused).reader().length("scoped") == 2


@pytest.mark.parametrize("prefixes", ["t1/", 7, [1.5], [None], [["t1"]], ["x" * 500], [("a", 1.5)]])
def test_what_is_no_prefix_is_refused(db: varve.Varve, prefixes: Any) -> None:
    """A str alone would be an iterable of letters."""
    for right in ("state", "state_read"):
        with pytest.raises(varve.InvalidInput):
            db.scoped(**{right: prefixes})
        with pytest.raises(varve.InvalidInput):
            db.scoped().scoped(**{right: prefixes})
