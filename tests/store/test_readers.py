"""Reads of one stream name and replays of the whole log."""

from __future__ import annotations

import random
import uuid

import pytest
from store_models import OrderPlaced, OrderShipped, placed, shipped

import varve
from varve import limits

RANGES = [
    (0, None),
    (0, 0),
    (3, None),
    (0, 4),
    (2, 5),
    (5, 2),
    (4, 4),
    (9, 10),
    (10, None),
    (11, None),
    (0, 99),
    (50, 60),
    (0, 2**70),
    (2**70, None),
    (2**64, 2**65),
]


@pytest.fixture
def filled(
    db: varve.Varve, mixed: varve.Stream[OrderPlaced | OrderShipped]
) -> varve.Stream[OrderPlaced | OrderShipped]:
    """Ten events of stream 1 between events of another stream and another name."""
    payments = db.stream("payments", OrderPlaced)
    for n in range(10):
        mixed.append(1, placed(n) if n % 3 else shipped(n))
        payments.append(n % 2, placed(100 + n))
        mixed.append("other", placed(200 + n))
    return mixed


def test_get_gives_the_event_or_none(filled: varve.Stream[OrderPlaced | OrderShipped]) -> None:
    """Past the end and in a stream that was never written there is None, not an error."""
    reader = filled.reader()
    assert reader.get(1, 0) == shipped(0)
    assert reader.get(1, 9) == shipped(9)
    assert isinstance(reader.get(1, 1), OrderPlaced)
    assert reader.get(1, 10) is None
    assert reader.get(1, 2**63) is None
    assert reader.get(1, 2**70) is None
    assert reader.get("never", 0) is None
    assert reader.get_bytes(1, 2**70) is None
    assert reader.get_recorded(1, 2**70) is None


def test_get_bytes_gives_the_flatbuffer(filled: varve.Stream[OrderPlaced | OrderShipped]) -> None:
    """The bytes are the event's own, read-only, the same as those beside a recorded event."""
    reader = filled.reader()
    raw = reader.get_bytes(1, 4)
    recorded = reader.get_recorded(1, 4)
    assert raw is not None
    assert recorded is not None
    assert raw.readonly
    assert bytes(raw) == bytes(recorded.raw)
    assert len(raw) % 8 == 0
    assert reader.get_bytes(1, 10) is None
    assert reader.get_bytes("never", 0) is None


def test_length_is_the_next_stream_sequence(filled: varve.Stream[OrderPlaced | OrderShipped]) -> None:
    """0 for a stream that was never written."""
    reader = filled.reader()
    assert (reader.length(1), reader.length("other"), reader.length("1"), reader.length(2)) == (10, 10, 0, 0)
    assert filled.append(1, placed(0)).stream_sequence == 10
    assert reader.length(1) == 11


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("start", "stop"), RANGES)
def test_ranges_of_a_stream_are_slices(
    filled: varve.Stream[OrderPlaced | OrderShipped], start: int, stop: int | None, reverse: bool
) -> None:
    """``iter_stream(start, stop)`` is what a list's slice is; reversed it is the same range from its end."""
    wanted = list(range(10))[start:stop]
    found = filled.reader().iter_stream(1, start, stop, reverse=reverse)
    assert [r.stream_sequence for r in found] == (wanted[::-1] if reverse else wanted)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("start", "stop"), [*RANGES, (7, 22), (29, 31)])
def test_ranges_of_a_name_are_global(
    filled: varve.Stream[OrderPlaced | OrderShipped], start: int, stop: int | None, reverse: bool
) -> None:
    """``iter_all`` gives the name's events within a range of global sequences."""
    wanted = [g for g in range(30)[start:stop] if g % 3 != 1]
    found = list(filled.reader().iter_all(start, stop, reverse=reverse))
    assert [r.global_sequence for r in found] == (wanted[::-1] if reverse else wanted)
    assert {r.stream for r in found} <= {"orders"}


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("start", "stop"), RANGES)
def test_ranges_of_the_log_are_slices(
    db: varve.Varve, filled: varve.Stream[OrderPlaced | OrderShipped], start: int, stop: int | None, reverse: bool
) -> None:
    """The same for the whole log, as events and as bytes."""
    wanted = list(range(30))[start:stop]
    replay = db.global_reader()
    found = [r.global_sequence for r in replay.iter_from(start, stop, reverse=reverse)]
    assert found == (wanted[::-1] if reverse else wanted)
    if not reverse:
        raws = [bytes(raw) for raw in replay.iter_bytes(start, stop)]
        assert raws == [bytes(replay.get(g).raw) for g in wanted]


FILTERS = [
    (None, None),
    (["orders"], None),
    (["payments", "orders"], None),
    (["orders", "orders"], None),
    (["never"], None),
    (["never", "payments"], None),
    ([], None),
    (None, [OrderShipped]),
    (None, ["OrderShipped", OrderPlaced]),
    (None, ["never"]),
    (None, []),
    (["orders"], ["OrderPlaced"]),
    ({"payments"}, (OrderShipped,)),
]


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(("streams", "types"), FILTERS)
def test_replays_are_filtered_by_names_and_types(
    db: varve.Varve, filled: varve.Stream[OrderPlaced | OrderShipped], streams: object, types: object, reverse: bool
) -> None:
    """Several names are merged in global order; types are classes or names; nothing else comes through."""
    names = None if types is None else {t if isinstance(t, str) else t.__name__ for t in types}
    wanted = [
        r.global_sequence
        for r in db.global_reader().iter_from(4, 27)
        if (streams is None or r.stream in streams) and (names is None or r.type.__name__ in names)
    ]
    found = db.global_reader().iter_from(4, 27, reverse=reverse, streams=streams, types=types)
    assert [r.global_sequence for r in found] == (wanted[::-1] if reverse else wanted)


def test_many_names_merge_in_global_order(db: varve.Varve) -> None:
    """Five names written in a random order replay in the order of the log, whatever subset is asked for."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")  # noqa: T201 - shown where the test fails
    rng = random.Random(seed)
    names = [f"n{i}" for i in range(5)]
    streams = {name: db.stream(name, OrderPlaced) for name in names}
    order = []
    while len(order) < 900:
        name, count = rng.choice(names), rng.choice([1, 1, 2, 30])
        streams[name].append_batch(rng.randrange(3), [placed(len(order) + n) for n in range(count)])
        order += [name] * count
    for _ in range(10):
        subset = rng.sample(names, rng.randint(1, 5))
        start, stop = sorted(rng.randrange(len(order)) for _ in range(2))
        wanted = [g for g in range(start, stop) if order[g] in subset]
        replay = db.global_reader()
        assert [r.global_sequence for r in replay.iter_from(start, stop, streams=subset)] == wanted
        assert [r.global_sequence for r in replay.iter_from(start, stop, streams=subset, reverse=True)] == wanted[::-1]


READS = {
    "iter_stream": lambda db, s: s.reader().iter_stream(1),
    "iter_stream reversed": lambda db, s: s.reader().iter_stream(1, reverse=True),
    "iter_all": lambda db, s: s.reader().iter_all(),
    "iter_from": lambda db, s: db.global_reader().iter_from(0),
    "iter_from reversed": lambda db, s: db.global_reader().iter_from(0, reverse=True),
    "iter_from filtered": lambda db, s: db.global_reader().iter_from(0, streams=["orders"]),
    "iter_bytes": lambda db, s: db.global_reader().iter_bytes(0),
    "stream_ids": lambda db, s: s.reader().stream_ids(),
}


@pytest.mark.parametrize("read", READS)
def test_an_iterator_sees_the_instant_of_its_call(
    db: varve.Varve, orders: varve.Stream[OrderPlaced], read: str
) -> None:
    """Appends between the call and the first ``next``, and during the iteration, do not appear in it."""
    orders.append_batch(1, [placed(n) for n in range(5)])
    found = READS[read](db, orders)
    for n in range(20):
        orders.append(1, placed(n))
        orders.append(n + 50, placed(n))
    wanted = 1 if read == "stream_ids" else 5
    count = 0
    for _ in found:
        count += 1
        orders.append_batch(1, [placed(n) for n in range(400)])
        orders.append(1000 + count, placed(1))
    assert count == wanted


@pytest.mark.parametrize("read", READS)
def test_an_iterator_over_nothing_stays_empty(db: varve.Varve, orders: varve.Stream[OrderPlaced], read: str) -> None:
    """An iterator made before the first append ends without an event, even if one comes first."""
    found = READS[read](db, orders)
    orders.append(1, placed(1))
    assert list(found) == []


@pytest.mark.parametrize("read", READS)
def test_a_slow_iterator_renews_its_snapshot_and_keeps_its_range(
    db: varve.Varve, orders: varve.Stream[OrderPlaced], read: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a renewal at every block boundary, and appends in between, nothing is skipped or repeated."""
    monkeypatch.setattr(limits, "ITERATOR_SNAPSHOT_AGE_S_MAX", -1.0)
    for n in range(300):
        orders.append_many([(1, placed(n)), (n + 10, placed(n))])
    orders.append_batch(1, [placed(n) for n in range(2_000)])
    wanted = [getattr(x, "global_sequence", x) for x in READS[read](db, orders)]
    found = []
    for x in READS[read](db, orders):
        found.append(getattr(x, "global_sequence", x))
        if len(found) % 50 == 1:
            orders.append_many([(1, placed(1)), (7, placed(2))])
    assert len(found) == {"stream_ids": 301, "iter_stream": 2_300, "iter_stream reversed": 2_300}.get(read, 2_600)
    assert found == wanted


def test_stream_ids_come_by_kind_and_value(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """Ints, then strs by their bytes, then UUIDs; each once, only of this name."""
    ids = [2**64 - 1, 10, 9, 256, 0, "b", "a", "10", "9", "é", uuid.UUID(int=5), uuid.UUID(int=3)]
    for stream_id in ids:
        orders.append_batch(stream_id, [placed(1), placed(2)])
    db.stream("payments", OrderPlaced).append("elsewhere", placed(1))
    found = list(orders.reader().stream_ids())
    assert found == [0, 9, 10, 256, 2**64 - 1, "10", "9", "a", "b", "é", uuid.UUID(int=3), uuid.UUID(int=5)]
    assert list(db.stream("never", OrderPlaced).reader().stream_ids()) == []


def test_thousands_of_stream_ids_come_in_order(orders: varve.Stream[OrderPlaced]) -> None:
    """More ids than one chunk of the metadata."""
    orders.append_many([((n * 7919) % 3001, placed(n)) for n in range(3001)])
    assert list(orders.reader().stream_ids()) == list(range(3001))


def test_global_get_gives_the_event_or_none(db: varve.Varve, filled: varve.Stream[OrderPlaced | OrderShipped]) -> None:
    """Random access to the log."""
    replay = db.global_reader()
    for g in range(30):
        recorded = replay.get(g)
        assert recorded is not None
        assert recorded.global_sequence == g
        assert bytes(replay.get_bytes(g)) == bytes(recorded.raw)
    for g in (30, 31, 2**63, 2**70):
        assert replay.get(g) is None
        assert replay.get_bytes(g) is None


def test_next_global_sequence_counts_events(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """0 in a new store."""
    assert db.next_global_sequence == 0
    orders.append_batch(1, [placed(n) for n in range(7)])
    assert db.next_global_sequence == 7


def test_a_reader_meets_a_type_that_its_stream_does_not_declare(db: varve.Varve) -> None:
    """``UnexpectedEventType`` with its facts, where the event stands; the others stay readable, by get and iteration."""
    db.stream("orders", OrderPlaced | OrderShipped).append_batch(1, [placed(0), shipped(1), placed(2)])
    narrow = db.stream("orders", OrderPlaced).reader()
    assert narrow.get(1, 0) == placed(0)
    assert narrow.get(1, 2) == placed(2)
    with pytest.raises(varve.UnexpectedEventType) as caught:
        narrow.get(1, 1)
    assert (caught.value.stream, caught.value.type_name, caught.value.global_sequence) == ("orders", "OrderShipped", 1)
    with pytest.raises(varve.UnexpectedEventType):
        narrow.get_recorded(1, 1)
    walk = narrow.iter_stream(1)
    assert next(walk).event == placed(0)
    with pytest.raises(varve.UnexpectedEventType):
        next(walk)
    with pytest.raises(varve.UnexpectedEventType):
        list(narrow.iter_all(reverse=True))
    assert [r.event for r in db.global_reader().iter_from(0)] == [placed(0), shipped(1), placed(2)]


def test_readers_say_what_they_read(db: varve.Varve, mixed: varve.Stream[OrderPlaced | OrderShipped]) -> None:
    """Reprs name the stream and its types."""
    assert repr(mixed.reader()) == "<StreamReader 'orders' of OrderPlaced | OrderShipped>"
    assert "orders" in repr(mixed)
    assert db.path in repr(db)
    assert repr(db.global_reader(unknown="error")) == "<GlobalReader, unknown='error'>"
    assert mixed.reader().name == mixed.name == "orders"
    with db.transaction() as tx:
        assert repr(tx) == f"<Transaction of {db.path} (open)>"
    assert repr(tx) == f"<Transaction of {db.path} (closed)>"
