"""``db.snapshot()``: one instant, now or in the past."""

from __future__ import annotations

import threading
import uuid

import pytest
from store_models import OrderPlaced, OrderShipped, everything, placed, shipped

import varve


def fill(db: varve.Varve, commits: int = 12) -> list[varve.Stream[OrderPlaced | OrderShipped]]:
    """A small store of several names, id kinds, types and kinds of commits."""
    orders, payments = (
        db.stream("orders", OrderPlaced | OrderShipped),
        db.stream("payments", OrderPlaced | OrderShipped),
    )
    ids = [1, "1", uuid.UUID(int=1)]
    for n in range(commits):
        orders.append(ids[n % 3], placed(n), metadata={"n": n} if n % 2 else None)
        if n % 3 == 1:
            payments.append_many([(ids[(n + k) % 3], shipped(100 * n + k)) for k in range(4)])
        if n % 4 == 2:
            orders.append_batch("late" if n > 6 else 1, [placed(1000 * n + k) for k in range(3)])
    return [orders, payments]


def test_later_commits_do_not_show(db: varve.Varve) -> None:
    """Everything read from a snapshot is of its instant, whatever is appended meanwhile."""
    orders, _ = fill(db)
    before = everything(db)
    length, ids = orders.reader().length(1), list(orders.reader().stream_ids())
    with db.snapshot() as snap:
        for n in range(30):
            orders.append(1, placed(n))
            orders.append(f"new-{n}", placed(n))
        reader = snap.reader(orders)
        assert snap.next_global_sequence == len(before)
        assert [r.event for r in snap.global_reader().iter_from(0)] == [entry[4] for entry in before]
        assert reader.length(1) == length
        assert reader.get(1, length) is None
        assert list(reader.stream_ids()) == ids
        assert reader.length("new-3") == 0
        assert snap.global_reader().get(len(before)) is None
        assert snap.global_reader().get_bytes(len(before)) is None
        assert sum(1 for _ in snap.global_reader().iter_bytes(0)) == len(before)
        assert list(reader.iter_stream("new-3")) == []
    assert db.next_global_sequence == len(before) + 60


def test_every_past_sequence_is_the_prefix(db: varve.Varve) -> None:
    """``snapshot(at=n)`` for every n of a store shows what the store held when n was next, by every way of reading."""
    streams = fill(db)
    log = everything(db)
    for at in range(len(log) + 1):
        prefix = log[:at]
        with db.snapshot(at=at) as snap:
            assert snap.next_global_sequence == at
            replay = snap.global_reader()
            assert [r.global_sequence for r in replay.iter_from(0)] == [e[0] for e in prefix]
            assert [r.event for r in replay.iter_from(0, reverse=True)] == [e[4] for e in prefix][::-1]
            assert [r.event for r in replay.iter_from(2, streams=["payments"])] == [
                e[4] for e in prefix[2:] if e[1] == "payments"
            ]
            assert replay.get(at) is None
            assert sum(1 for _ in replay.iter_bytes()) == at
            for stream in streams:
                reader = snap.reader(stream)
                mine = [e for e in prefix if e[1] == stream.name]
                assert [r.event for r in reader.iter_all()] == [e[4] for e in mine]
                assert [r.event for r in reader.iter_all(reverse=True)] == [e[4] for e in mine][::-1]
                ids = {(type(e[2]), e[2]) for e in mine}
                assert {(type(i), i) for i in reader.stream_ids()} == ids
                for stream_id in (1, "1", uuid.UUID(int=1), "late"):
                    own = [e[4] for e in mine if e[2] == stream_id and type(e[2]) is type(stream_id)]
                    assert reader.length(stream_id) == len(own)
                    assert [r.event for r in reader.iter_stream(stream_id)] == own
                    assert [r.event for r in reader.iter_stream(stream_id, reverse=True)] == own[::-1]
                    assert reader.get(stream_id, len(own)) is None
                    if own:
                        assert reader.get(stream_id, len(own) - 1) == own[-1]


def test_a_past_snapshot_cuts_long_runs_and_blocks(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """A boundary inside a batch that spans blocks is exact."""
    orders.append_batch(1, [placed(n) for n in range(3_000)])
    for at in (1, 511, 1_024, 2_999, 3_000):
        with db.snapshot(at=at) as snap:
            reader = snap.reader(orders)
            assert reader.length(1) == at
            assert sum(1 for _ in reader.iter_stream(1)) == at
            assert next(reader.iter_all(reverse=True)).event == placed(at - 1)
            assert reader.get(1, at) is None


@pytest.mark.parametrize("at", [-1, True, 1.0, "1", b"1", 4, 2**70])
def test_a_bad_instant_is_refused(db: varve.Varve, orders: varve.Stream[OrderPlaced], at: object) -> None:
    """Not a sequence, negative or in the future."""
    orders.append_batch(1, [placed(n) for n in range(3)])
    with pytest.raises(varve.InvalidInput):
        db.snapshot(at=at)
    assert db.stats().snapshots == ()


USES = {
    "get": lambda snap, reader, replay, orders: reader.get(1, 0),
    "get_bytes": lambda snap, reader, replay, orders: reader.get_bytes(1, 0),
    "get_recorded": lambda snap, reader, replay, orders: reader.get_recorded(1, 0),
    "length": lambda snap, reader, replay, orders: reader.length(1),
    "iter_stream": lambda snap, reader, replay, orders: reader.iter_stream(1),
    "iter_all": lambda snap, reader, replay, orders: reader.iter_all(),
    "stream_ids": lambda snap, reader, replay, orders: list(reader.stream_ids()),
    "global get": lambda snap, reader, replay, orders: replay.get(0),
    "global get_bytes": lambda snap, reader, replay, orders: replay.get_bytes(0),
    "iter_from": lambda snap, reader, replay, orders: replay.iter_from(0),
    "iter_bytes": lambda snap, reader, replay, orders: replay.iter_bytes(0),
    "reader": lambda snap, reader, replay, orders: snap.reader(orders),
    "global_reader": lambda snap, reader, replay, orders: snap.global_reader(),
    "next_global_sequence": lambda snap, reader, replay, orders: snap.next_global_sequence,
}


@pytest.mark.parametrize("use", USES)
def test_a_snapshot_that_was_left_says_so(db: varve.Varve, orders: varve.Stream[OrderPlaced], use: str) -> None:
    """``SnapshotClosed`` from everything that would need the instant."""
    orders.append(1, placed(1))
    with db.snapshot() as snap:
        reader, replay = snap.reader(orders), snap.global_reader()
        USES[use](snap, reader, replay, orders)
    with pytest.raises(varve.SnapshotClosed):
        USES[use](snap, reader, replay, orders)
    snap.close()


def test_an_iterator_of_a_snapshot_that_was_left_stops_with_an_error(
    db: varve.Varve, orders: varve.Stream[OrderPlaced]
) -> None:
    """It may finish its block, whose memory it holds, but never ends as if the log had ended there."""
    orders.append_batch(1, [placed(n) for n in range(3_000)])
    with db.snapshot() as snap:
        walk = snap.reader(orders).iter_stream(1)
        next(walk)
    with pytest.raises(varve.SnapshotClosed):
        list(walk)


def test_views_of_a_snapshot_outlive_it(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """Events and raw bytes stay what they were after the block, whatever is committed then."""
    orders.append_batch(1, [placed(n) for n in range(50)])
    with db.snapshot() as snap:
        views = list(snap.reader(orders).iter_stream(1))
        raw = snap.reader(orders).get_bytes(1, 7)
    for n in range(200):
        orders.append(1, placed(n + 1000))
    assert [r.event for r in views] == [placed(n) for n in range(50)]
    assert bytes(raw) == bytes(views[7].raw)
    del views, raw


def test_threads_share_a_snapshot(db: varve.Varve) -> None:
    """Several threads read one snapshot at once, and each gets the right events."""
    orders, _ = fill(db, 60)
    orders.append_batch(1, [placed(n) for n in range(1_500)])
    log = everything(db)
    mine = [e[4] for e in log if e[1] == "orders" and e[2] == 1 and type(e[2]) is int]
    wrong: list[object] = []
    with db.snapshot() as snap:
        reader, replay = snap.reader(orders), snap.global_reader()

        def read(worker: int) -> None:
            try:
                mistaken = (
                    n
                    for n in range(worker, len(mine), 4)
                    if (reader.get(1, n), replay.get(n).event) != (mine[n], log[n][4])
                )
                wrong.extend(mistaken)
                if [r.event for r in reader.iter_stream(1, reverse=bool(worker % 2))] != mine[
                    :: -1 if worker % 2 else 1
                ]:
                    wrong.append("iter")
                if reader.length(1) != len(mine):
                    wrong.append("length")
            except BaseException as exc:  # noqa: BLE001 - told to the thread that asserts
                wrong.append(exc)

        threads = [threading.Thread(target=read, args=(worker,)) for worker in range(4)]
        for thread in threads:
            thread.start()
        orders.append_batch(1, [placed(n) for n in range(100)])
        for thread in threads:
            thread.join()
    assert wrong == []


def test_a_snapshot_reads_streams_of_its_own_store(db: varve.Varve, tmp_path: object) -> None:
    """A stream of another store, or no stream at all, is refused."""
    with varve.open(tmp_path / "other", durability="relaxed") as other:
        foreign = other.stream("orders", OrderPlaced)
        with db.snapshot() as snap:
            for wrong in (foreign, "orders", None):
                with pytest.raises(varve.InvalidInput):
                    snap.reader(wrong)


def test_a_snapshot_shows_in_the_statistics(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """A view that pins an instant is counted, and no longer when it is gone."""
    orders.append(1, placed(1))
    with db.snapshot() as snap:
        raw = snap.reader(orders).get_bytes(1, 0)
        assert len(db.stats().snapshots) == 1
        assert "Snapshot of" in repr(snap)
    del raw
    assert db.stats().snapshots == ()


def test_a_held_snapshot_without_views_is_reported_and_warned_of(
    db: varve.Varve, orders: varve.Stream[OrderPlaced], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It makes the file grow as a view does, though nothing is pinned."""
    orders.append(1, placed(1))
    with db.snapshot() as snapshot:
        assert snapshot.reader(orders).length(1) == 1
        assert len(db.stats().snapshots) == 1
        monkeypatch.setattr(varve.limits, "SNAPSHOT_AGE_S_WARN", -1.0)
        with pytest.warns(ResourceWarning, match="snapshot"):
            orders.append(1, placed(2))
        orders.append(1, placed(3))
    assert db.stats().snapshots == ()


def test_an_error_that_is_kept_keeps_no_memory_of_the_map(db: varve.Varve) -> None:
    """Loggers and test frameworks keep errors with their frames; closing must not mind."""
    db.stream("orders", OrderPlaced | OrderShipped).append(1, shipped(1))
    narrow = db.stream("orders", OrderPlaced).reader()
    kept = None
    try:
        next(iter(narrow.iter_all()))
    except varve.UnexpectedEventType as error:
        kept = error
    assert kept is not None
    db.close()
