"""What is recorded beside an event: metadata, commits, time."""

from __future__ import annotations

import copy
import datetime as dt
import json
import pickle
import types
from typing import Any

import pytest
from store_models import OrderPlaced, placed, refused, shipped

import varve
from varve import limits
from varve.testing import ManualClock

T0 = 1_700_000_000_000_000_000
DEEP: dict[str, Any] = {
    "user": "eve",
    "n": 1,
    "x": -2.5,
    "none": None,
    "yes": True,
    "list": [1, [2, {"deep": "ä\0\n"}]],
    "": {},
}


def test_every_property_of_a_recorded_event(db: varve.Varve, orders: Any, varve_clock: ManualClock) -> None:
    """Name, id, both sequences, commit, time, metadata, type, bytes."""
    orders.append(1, placed(0))
    varve_clock.advance(1.5)
    orders.append_batch("ü", [placed(1), placed(2)], metadata={"by": "me"})
    recorded = orders.reader().get_recorded("ü", 1)
    assert recorded.event == placed(2)
    assert recorded.type is OrderPlaced
    assert (recorded.stream, recorded.stream_id) == ("orders", "ü")
    assert (recorded.stream_sequence, recorded.global_sequence, recorded.commit_sequence) == (1, 2, 1)
    assert recorded.time_ns == T0 + 1_500_000_000
    assert recorded.recorded_at == dt.datetime(2023, 11, 14, 22, 13, 21, 500_000, tzinfo=dt.UTC)
    assert recorded.recorded_at.utcoffset() == dt.timedelta(0)
    assert recorded.metadata == {"by": "me"}
    assert recorded.raw.readonly
    assert bytes(recorded.raw) == bytes(orders.reader().get_bytes("ü", 1))
    assert repr(recorded).startswith(
        "<Recorded #2 orders/ü [1] 2023-11-14T22:13:21.500000+00:00 OrderPlaced(order_id=2"
    )


def test_recorded_events_are_equal_by_position_and_event(db: varve.Varve, orders: Any) -> None:
    """Read by any reader they are equal and hash alike; neighbours with equal events differ; they are read-only."""
    orders.append_batch(1, [placed(1), placed(1)])
    one, two = orders.reader().iter_stream(1)
    same = db.global_reader().get(0)
    assert one == same
    assert hash(one) == hash(same)
    assert one != two
    assert one != placed(1)
    assert len({one, same, two}) == 2
    for name in ("event", "global_sequence", "stream", "metadata", "anything"):
        with pytest.raises(AttributeError):
            setattr(one, name, 1)


@pytest.mark.parametrize(
    "metadata", [None, {}, {"a": 1}, DEEP, types.MappingProxyType({"a": types.MappingProxyType({"b": (1, 2)})})]
)
def test_metadata_comes_back_as_json(db: varve.Varve, orders: Any, metadata: Any) -> None:
    """None stays None, an empty mapping stays one; tuples come back as lists."""
    orders.append(1, placed(1), metadata=metadata)
    wanted = None if metadata is None else json.loads(json.dumps(metadata, default=dict))
    assert orders.reader().get_recorded(1, 0).metadata == wanted
    assert next(db.global_reader().iter_from(0)).metadata == wanted


def test_metadata_may_hold_mappings_in_lists(orders: Any) -> None:
    """Any Mapping, at any depth."""
    orders.append(1, placed(1), metadata={"a": [types.MappingProxyType({"b": 1})]})
    assert orders.reader().get_recorded(1, 0).metadata == {"a": [{"b": 1}]}


def test_metadata_belongs_to_its_append(db: varve.Varve, orders: Any) -> None:
    """Neighbours in the same block, with other metadata or none, keep theirs."""
    wanted = []
    for n in range(60):
        metadata = {"n": n} if n % 3 else None
        count = 1 + n % 4
        orders.append_batch(n % 2, [placed(n)] * count, metadata=metadata)
        wanted += [metadata] * count
    assert [r.metadata for r in db.global_reader().iter_from(0)] == wanted
    assert [r.metadata for r in db.global_reader().iter_from(0, reverse=True)] == wanted[::-1]
    assert [db.global_reader().get(g).metadata for g in range(len(wanted))] == wanted


def test_metadata_of_a_batch_that_spans_blocks(db: varve.Varve, mixed: Any) -> None:
    """Every event of it has it, in every block, and its neighbours do not; the same for commit and time."""
    mixed.append(1, placed(0))
    mixed.append_batch(2, [placed(n) if n % 2 else shipped(n) for n in range(3_000)], metadata=DEEP)
    mixed.append_many([(n % 5, placed(n)) for n in range(1_000)], metadata={"many": True})
    mixed.append(1, placed(0))
    found = list(db.global_reader().iter_from(0))
    assert [r.metadata for r in found] == [None, *[DEEP] * 3_000, *[{"many": True}] * 1_000, None]
    assert [r.commit_sequence for r in found] == [0, *[1] * 3_000, *[3_001] * 1_000, 4_001]
    for g in (0, 1, 700, 3_000, 3_001, 4_000, 4_001):
        recorded = db.global_reader().get(g)
        assert recorded == found[g]
        assert (recorded.metadata, recorded.commit_sequence) == (found[g].metadata, found[g].commit_sequence)


def test_a_transactions_metadata_lies_under_its_appends(db: varve.Varve, orders: Any) -> None:
    """Each append has the transaction's, with its own on top; in ``db.write`` too."""

    def fill(tx: Any) -> None:
        tx.append(orders, 1, placed(1))
        tx.append(orders, 1, placed(2), metadata={"b": 3, "c": 4})
        tx.append_batch(orders, 2, [placed(3), placed(4)], metadata={"a": None})
        tx.append_many(orders, [(1, placed(5))], metadata={})

    with db.transaction(metadata={"a": 1, "b": 2}) as tx:
        fill(tx)
    db.write(fill, metadata={"a": 1, "b": 2})
    wanted = [{"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4}, *[{"a": None, "b": 2}] * 2, {"a": 1, "b": 2}]
    assert [r.metadata for r in db.global_reader().iter_from(0)] == wanted * 2


class Weird:
    pass


CYCLE: dict[str, Any] = {}
CYCLE["self"] = CYCLE

BAD_METADATA = [
    5, "text", b"bytes", [("a", 1)], {"a"}, {1: 2}, {"a": {None: 1}}, {"a": {1, 2}}, {"a": b"x"}, {"a": Weird()},
    {"a": float("nan")},
    {"a": [float("inf")]}, {"a": "\ud800"}, {"\ud800": 1}, {"a": dt.datetime.now(dt.UTC)}, CYCLE, {"a": 10**5000},
    {"a": "x" * limits.METADATA_BYTES_MAX},
]  # fmt: skip


@pytest.mark.parametrize("index", range(len(BAD_METADATA)))
@pytest.mark.parametrize("how", ["append", "append_batch", "append_many", "transaction", "merged", "write"])
def test_bad_metadata_is_refused(db: varve.Varve, orders: Any, how: str, index: int) -> None:
    """What JSON cannot hold or would change, and what is too large, by every way to append."""
    metadata = BAD_METADATA[index]
    with refused(db, varve.InvalidMetadata):
        match how:
            case "append":
                orders.append(1, placed(1), metadata=metadata)
            case "append_batch":
                orders.append_batch(1, [placed(1)], metadata=metadata)
            case "append_many":
                orders.append_many([(1, placed(1))], metadata=metadata)
            case "transaction":
                with db.transaction(metadata=metadata) as tx:
                    tx.append(orders, 1, placed(1))
            case "merged":
                with db.transaction(metadata={"ok": 1}) as tx:
                    tx.append(orders, 1, placed(1))
                    tx.append(orders, 1, placed(1), metadata=metadata)
            case _:
                db.write(lambda tx: tx.append(orders, 1, placed(1)), metadata=metadata)


def test_metadata_changed_later_was_kept_as_it_was(db: varve.Varve, orders: Any) -> None:
    """The caller's mapping is not looked at again; what is read is the reader's own."""
    metadata = {"a": [1]}
    with db.transaction() as tx:
        tx.append(orders, 1, placed(1), metadata=metadata)
        metadata["a"].append(2)
    recorded = orders.reader().get_recorded(1, 0)
    recorded.metadata["a"].append(3)
    assert recorded.metadata == {"a": [1]}


# -- time --------------------------------------------------------------------------------------------------------------


def test_time_never_goes_backwards(db: varve.Varve, orders: Any, varve_clock: ManualClock) -> None:
    """Even if the clock does, within a block, over blocks and over a reopened handle."""
    times = []
    for step in (0, 5, -60, 1, 100, -1000, 0):
        varve_clock.advance(step)
        times.append(max([varve_clock.now_ns, *times]))
        orders.append_batch(1, [placed(1)] * 3)
    found = [r.time_ns for r in db.global_reader().iter_from(0)]
    assert found == [t for t in times for _ in range(3)]


def test_time_does_not_go_backwards_over_a_reopen(varve_path: Any, varve_clock: ManualClock) -> None:
    """The floor is in the log."""
    for step in (0, -500):
        varve_clock.advance(step)
        with varve.open(varve_path, durability="relaxed", clock=varve_clock) as db:
            db.stream("orders", OrderPlaced).append(1, placed(1))
            assert [r.time_ns for r in db.global_reader().iter_from(0)][-1] == T0


def at(time_ns: int) -> dt.datetime:
    return dt.datetime(1970, 1, 1, tzinfo=dt.UTC) + dt.timedelta(microseconds=time_ns // 1000)


@pytest.mark.parametrize("batch", [1, 3, 700])
def test_sequence_at_finds_the_first_event_at_or_after(
    db: varve.Varve, orders: Any, varve_clock: ManualClock, batch: int
) -> None:
    """Before, between, equal and after the commits of a log, many per block or many blocks per commit."""
    assert db.sequence_at(at(T0)) == 0
    for _ in range(40 if batch < 700 else 6):
        orders.append_batch(1, [placed(1)] * batch)
        varve_clock.advance(10)
    log = [r.time_ns for r in db.global_reader().iter_from(0)]
    for time_ns in {t + off for t in log[::batch] for off in (-5_000_000_000, -1_000, 0, 1_000, 5_000_000_000)}:
        wanted = next((g for g, t in enumerate(log) if t >= time_ns), len(log))
        assert db.sequence_at(at(time_ns)) == wanted
    assert db.sequence_at(dt.datetime.min.replace(tzinfo=dt.UTC)) == 0
    assert db.sequence_at(dt.datetime.max.replace(tzinfo=dt.UTC)) == len(log)


def test_sequence_at_with_equal_times(db: varve.Varve, orders: Any, varve_clock: ManualClock) -> None:
    """A clock that stood still or went back gives one time to many commits: the first of them is found."""
    orders.append(1, placed(0))
    varve_clock.advance(1)
    for n in range(20):
        orders.append_batch(1, [placed(n)] * 100)
        varve_clock.advance(-0.01)
    assert db.sequence_at(at(T0 + 10**9)) == 1
    assert db.sequence_at(at(T0 + 1)) == 0
    assert db.sequence_at(at(T0 + 10**9 + 1_000)) == 2_001


def test_an_event_is_found_by_its_own_recorded_at(db: varve.Varve, orders: Any, varve_clock: ManualClock) -> None:
    """Though nanoseconds are cut to microseconds: never later than the event."""
    varve_clock.now_ns += 999
    for _ in range(5):
        orders.append(1, placed(1))
        varve_clock.now_ns += 600
    for recorded in db.global_reader().iter_from(0):
        found = db.sequence_at(recorded.recorded_at)
        assert found <= recorded.global_sequence
        assert db.global_reader().get(found).recorded_at == recorded.recorded_at


def test_sequence_at_knows_time_zones(db: varve.Varve, orders: Any) -> None:
    """An instant is one whatever its zone."""
    orders.append(1, placed(1))
    zone = dt.timezone(dt.timedelta(hours=5, minutes=30))
    assert db.sequence_at(at(T0).astimezone(zone)) == 0
    assert db.sequence_at((at(T0) + dt.timedelta(microseconds=1)).astimezone(zone)) == 1


@pytest.mark.parametrize("when", [dt.datetime(2023, 1, 1), dt.date(2023, 1, 1), 5, None, "2023-01-01"])
def test_sequence_at_refuses_what_names_no_instant(db: varve.Varve, when: Any) -> None:
    """Naive datetimes and other things."""
    with refused(db, varve.InvalidInput):
        db.sequence_at(when)


def test_a_recorded_event_pickles_and_copies_whole(db: varve.Varve) -> None:
    """What comes back equals what went in, with metadata, bytes and time, and holds nothing of the map."""
    orders = db.stream("orders", OrderPlaced)
    orders.append(1, placed(1), metadata={"who": "me"})
    orders.append(2, placed(2))
    for recorded in db.global_reader().iter_from():
        for again in (pickle.loads(pickle.dumps(recorded)), copy.deepcopy(recorded)):
            assert again == recorded
            assert (again.metadata, bytes(again.raw), again.stream_id) == (
                recorded.metadata,
                bytes(recorded.raw),
                recorded.stream_id,
            )
