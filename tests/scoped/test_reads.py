"""What is outside of a scope never shows, what is inside always does: for any patterns, any log, any way to read."""

from __future__ import annotations

import asyncio
import datetime as dt
import tempfile
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scoped_models import Note, Secret, seen

import varve
from varve import limits
from varve.layout.keys import StreamId
from varve.scoped.patterns import Patterns
from varve.testing import ManualClock

NAMES = ("orders", "orders2", "t1-pay", "a/b")
IDS: tuple[StreamId, ...] = (7, 8, 77, "7", "x", "x7", "a/b", uuid.UUID(int=7))
PATTERNS = st.one_of(
    st.sampled_from(
        ["*", "orders", "orders*", "orders/7", "orders/'7'", "*/7*", "*/x*", "t?-*", "orders2/a/b", "none", "*/?"]
    ),
    st.tuples(st.sampled_from(NAMES)),
    st.tuples(st.sampled_from(NAMES), st.sampled_from(IDS)),
)


@pytest.fixture(scope="module")
def logged() -> Iterator[varve.Varve]:
    """A log of small and large blocks, long and short runs, in which every name and id comes."""
    with (
        tempfile.TemporaryDirectory() as folder,
        varve.open(Path(folder, "store"), durability="relaxed", clock=ManualClock()) as db,
    ):
        streams: dict[str, varve.Stream[Any]] = {name: db.stream(name, Note | Secret) for name in NAMES}
        number = 0
        for turn in range(12):
            with db.transaction() as tx:
                for name in NAMES:
                    for place, stream_id in enumerate(IDS):
                        length = (1, 1, 2, 5, 40)[(turn * 7 + place * 3) % 5]
                        if turn % 3 == 0:
                            number += 1
                            tx.append(streams[name], stream_id, Secret(number, "y" * (200 * place)))
                        else:
                            events = [Note(number + at) for at in range(length)]
                            number += length
                            tx.append_batch(streams[name], stream_id, events)
        yield db


def tailed(make: Callable[[], varve.Tail[Any]], count: int) -> list[Any]:
    """So many of a tail."""

    async def run() -> list[Any]:
        return [await anext(tail) for tail in [make()] for _ in range(count)]

    return asyncio.run(run())


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data(), layers=st.lists(st.lists(PATTERNS, max_size=4), min_size=1, max_size=3))
def test_reads_give_what_is_inside_and_only_that(
    logged: varve.Varve, data: st.DataObject, layers: list[list[Any]]
) -> None:
    """Replays, tails, columns and typed reads of a handle, narrowed once or more, against the whole log filtered in Python."""
    db = logged
    handle = db.scoped(read=layers[0])
    for patterns in layers[1:]:
        handle = handle.scoped(read=patterns)
    rules = [Patterns(patterns, "read") for patterns in layers]
    end = db.next_global_sequence
    start = data.draw(st.integers(0, end))
    stop = data.draw(st.none() | st.integers(0, end + 5))
    reverse = data.draw(st.booleans())

    def inside(name: str, stream_id: StreamId) -> bool:
        return all(rule.allow(name, stream_id) for rule in rules)

    whole = [
        (one.stream, one.stream_id, one.stream_sequence)
        for one in db.global_reader().iter_from(start, stop, reverse=reverse)
        if inside(one.stream, one.stream_id)
    ]
    replay = handle.global_reader()
    assert seen(replay.iter_from(start, stop, reverse=reverse)) == whole
    with handle.snapshot(at=start) as snap:
        before = [one for one in seen(db.global_reader().iter_from(0, start)) if inside(one[0], one[1])]
        assert seen(snap.global_reader().iter_from()) == before
    forward = [one for one in seen(db.global_reader().iter_from(start)) if inside(one[0], one[1])]
    assert seen(handle.follow(start, timeout_s=0)) == forward
    some = min(len(forward), 20)
    assert seen(tailed(lambda: handle.tail(start), some)) == forward[:some]
    assert sum(1 for _ in replay.iter_bytes(start, stop)) == len(whole)
    columns = replay.columns(["$stream", "$stream_id", "$stream_sequence"], start, stop)
    rows = list(zip(*(columns[name].tolist() for name in ("$stream", "$stream_id", "$stream_sequence")), strict=True))
    assert rows == (whole[::-1] if reverse else whole)

    name = data.draw(st.sampled_from(NAMES))
    try:
        reader = handle.stream(name, Note | Secret).reader()
    except varve.PermissionRefused:
        assert not any(inside(name, stream_id) for stream_id in IDS)
        return
    assert seen(reader.iter_all(start, stop, reverse=reverse)) == [one for one in whole if one[0] == name]
    assert list(reader.stream_ids()) == [
        one for one in db.stream(name, Note).reader().stream_ids() if inside(name, one)
    ]
    ids = reader.columns(["$stream_id"], start=start, stop=stop)["$stream_id"].tolist()
    assert sorted(map(repr, ids)) == sorted(repr(one[1]) for one in whole if one[0] == name)
    for stream_id in IDS:
        if inside(name, stream_id):
            length = reader.length(stream_id)
            assert length == db.stream(name, Note).reader().length(stream_id) > 0
            assert len(list(reader.iter_stream(stream_id))) == length
        else:
            with pytest.raises(varve.PermissionRefused):
                reader.get(stream_id, 0)
            with pytest.raises(varve.PermissionRefused):
                replay.iter_stream(name, stream_id)


def test_an_int_and_a_str_of_the_same_text_are_two_streams(db: varve.Varve) -> None:
    """What may read 7 may not read "7"."""
    reader = db.scoped(read=["orders/7"]).stream("orders", Note).reader()
    assert reader.length(7) == 10
    with pytest.raises(varve.PermissionRefused, match="orders/'7'"):
        reader.length("7")


def test_what_is_hidden_is_not_even_decoded(db: varve.Varve) -> None:
    """A foreign stream of the same name that holds an undeclared type does not end a walk that may not see it."""
    db.stream("orders", Secret).append("foreign", Secret(1, "x"))
    db.stream("orders", Note).append(7, Note(99))
    with pytest.raises(varve.UnexpectedEventType):
        list(db.stream("orders", Note).reader().iter_all())
    mine = db.scoped(read=["orders/7"]).stream("orders", Note)
    assert len(list(mine.reader().iter_all())) == 11
    assert len(mine.reader().columns(["number"])["number"]) == 11
    assert len(list(mine.follow(timeout_s=0))) == 11


def test_what_comes_later_is_judged_as_what_was_there(db: varve.Varve) -> None:
    """Names and ids that are new while a tail lives: those inside come, those outside do not."""
    handle = db.scoped(read=["orders/7*", "new-*/x"])
    follow = handle.follow(varve.END, timeout_s=0)
    assert seen(follow) == []
    db.stream("orders", Note).append(71, Note(1))
    db.stream("orders", Note).append(81, Note(1))
    db.stream("new-1", Note).append("x", Note(1))
    db.stream("new-1", Note).append("y", Note(1))
    db.stream("other", Note).append("x", Note(1))
    assert seen(follow) == [("orders", 71, 0), ("new-1", "x", 0)]


def test_a_slow_walk_renews_its_snapshot_and_stays_inside(logged: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each block boundary, forwards and backwards."""
    monkeypatch.setattr(limits, "ITERATOR_SNAPSHOT_AGE_S_MAX", -1.0)
    handle = logged.scoped(read=["orders/7", "orders/77", "orders2/x*", "a/b"])
    expected = [
        one
        for one in seen(logged.global_reader().iter_from())
        if one[:2] in {("orders", 7), ("orders", 77)} or (one[0] == "orders2" and one[1] in {"x", "x7"})
    ]
    assert seen(handle.global_reader().iter_from()) == expected
    assert seen(handle.global_reader().iter_from(reverse=True)) == expected[::-1]


def test_iterators_end_with_the_store_and_hold_nothing_of_it(varve_path: Path) -> None:
    """A walk that filters is one of the store's own."""
    db = varve.open(varve_path, durability="relaxed")
    notes = db.stream("notes", Note)
    notes.append_many([(number % 5, Note(number)) for number in range(10_000)])
    walk = db.scoped(read=["notes/3"]).global_reader().iter_from()
    next(walk)
    db.close()
    with pytest.raises(varve.StoreClosed):
        list(walk)


def test_what_was_archived_is_said_and_not_left_out(db: varve.Varve, tmp_path: Path) -> None:
    """A scoped read below the horizon raises as any other does."""
    for number in range(40):
        db.stream("orders", Note).append_batch(7, [Note(number)] * 200)
    db.archive(4_000, tmp_path / "old")
    handle = db.scoped(read=["orders/7"])
    first = handle.first_global_sequence
    assert first > 0
    with pytest.raises(varve.Archived):
        handle.global_reader().iter_from()
    with pytest.raises(varve.Archived):
        handle.global_reader().get(0)
    assert len(seen(handle.global_reader().iter_from(first))) == db.next_global_sequence - first


def test_a_scope_of_everything_is_the_store_itself(db: varve.Varve) -> None:
    """``*`` costs nothing, and leaves nothing out."""
    handle = db.scoped(read=["*"], append=["*"])
    assert seen(handle.global_reader().iter_from()) == seen(db.global_reader().iter_from())
    assert handle.stream("brand-new", Note).append("x", Note(1)).stream_sequence == 0


def test_a_consumer_stores_positions_past_what_it_may_not_see(db: varve.Varve) -> None:
    """It continues where it stopped; two handles under one name go on one after the other."""
    handle = db.scoped(read=["orders/7"])
    with handle.consumer("c") as consumer:
        assert len(list(consumer.follow(timeout_s=0))) == 10
        assert consumer.commit_blocking() == db.next_global_sequence
    db.stream("orders", Note).append(7, Note(100))
    with handle.consumer("c") as consumer:
        assert [one.event.number for one in consumer.follow(timeout_s=0)] == [100]


def test_streams_of_another_handle_do_what_the_transaction_may(db: varve.Varve) -> None:
    """Rights are those of whoever commits or reads, not of who made the stream."""
    narrow, wide = db.scoped(append=["orders/7"]), db.scoped(read=["*"], append=["*"])
    given = narrow.stream("orders", Note)
    with wide.transaction() as tx:
        tx.append(given, 8, Note(1))
    with wide.snapshot() as snap:
        assert snap.reader(given).length(8) == 11
    with pytest.raises(varve.PermissionRefused), narrow.transaction() as tx:
        tx.append(wide.stream("orders", Note), 8, Note(1))
    with pytest.raises(varve.InvalidInput), wide.snapshot() as snap:
        snap.reader("orders")  # type: ignore[call-overload]


def test_reading_and_appending_are_two_rights(db: varve.Varve) -> None:
    """Who may append only cannot read what it appended, and the other way round."""
    writer = db.scoped(append=["orders"]).stream("orders", Note)
    assert writer.append(7, Note(1)).stream_sequence == 10
    with pytest.raises(varve.PermissionRefused) as info:
        writer.reader()
    assert (info.value.action, info.value.what, info.value.allowed) == ("read", "orders", ())
    with pytest.raises(varve.PermissionRefused):
        writer.tail()
    reader = db.scoped(read=["orders"]).stream("orders", Note)
    assert reader.reader().length(7) == 11
    with pytest.raises(varve.PermissionRefused, match="may not append orders/7") as info:
        reader.append(7, Note(1))
    assert (info.value.action, info.value.what, info.value.allowed) == ("append", "orders/7", ())


def test_times_and_lengths_of_the_log_are_no_secret(db: varve.Varve) -> None:
    """They say nothing of whose events there are."""
    handle = db.scoped()
    assert handle.next_global_sequence == db.next_global_sequence == handle.watcher().next_global_sequence
    assert handle.sequence_at(dt.datetime(1990, 1, 1, tzinfo=dt.UTC)) == 0
    assert (handle.path, handle.uuid, handle.readonly) == (db.path, db.uuid, db.readonly)
    assert list(handle.global_reader().iter_from()) == []
    assert list(handle.follow(timeout_s=0)) == []


def test_what_a_transaction_has_read_is_looked_at_again(db: varve.Varve) -> None:
    """As in any transaction: a stream that has grown, or the log where all of it was read, is a conflict."""
    handle = db.scoped(read=["orders/7"], append=["orders/7"])
    orders, whole = handle.stream("orders", Note), db.stream("orders", Note)

    def read_and_write(read: Callable[[varve.Transaction], object], beside: StreamId) -> None:
        with handle.transaction() as tx:
            read(tx)
            whole.append(beside, Note(1))
            tx.append(orders, 7, Note(2))

    read_and_write(lambda tx: tx.length(orders, 7), 8)
    with pytest.raises(varve.TransactionConflict):
        read_and_write(lambda tx: tx.length(orders, 7), 7)
    with pytest.raises(varve.TransactionConflict):
        read_and_write(lambda tx: list(tx.reader(orders).iter_stream(7)), 7)
    with pytest.raises(varve.TransactionConflict):
        read_and_write(lambda tx: list(tx.global_reader().iter_from()), 8)
