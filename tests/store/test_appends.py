"""Appends: what they return, what they leave in the log."""

from __future__ import annotations

import copy
import pickle
import random
from pathlib import Path

import pytest
from store_models import Blob, OrderPlaced, OrderShipped, everything, placed, shipped

import varve
from varve import limits, ops
from varve.engine import plan


def test_a_position_is_a_tuple_of_two(orders: varve.Stream[OrderPlaced]) -> None:
    """It unpacks, compares and hashes as one, with ``replayed`` beside it."""
    orders.append(9, placed(0))
    position = orders.append(1, placed(1))
    assert isinstance(position, tuple)
    assert position == (0, 1)
    assert hash(position) == hash((0, 1))
    stream_sequence, global_sequence = position
    assert (position.stream_sequence, position.global_sequence) == (stream_sequence, global_sequence)
    assert position.replayed is False
    assert repr(position) == "Position(stream_sequence=0, global_sequence=1)"


def test_positions_pickle_and_copy_with_their_replayed_flag(orders: varve.Stream[OrderPlaced]) -> None:
    """A position sent to another process still says whether it was a retry's."""
    first = orders.append(1, placed(1), idempotency_key="k")
    again = orders.append(1, placed(1), idempotency_key="k")
    for position in (first, again):
        for twin in (pickle.loads(pickle.dumps(position)), copy.copy(position), copy.deepcopy(position)):
            assert twin == position
            assert twin.replayed is position.replayed
    assert "replayed=True" in repr(again)


@pytest.fixture
def span(orders: varve.Stream[OrderPlaced]) -> varve.Span:
    """A span of three segments: streams 1, 7 and 1 again."""
    orders.append(1, placed(0))
    return orders.append_many([(1, placed(1)), (1, placed(2)), (7, placed(3)), (1, placed(4)), (1, placed(5))])


POSITIONS = [(1, 1), (2, 2), (0, 3), (3, 4), (4, 5)]


def test_a_span_is_a_sequence_of_positions(span: varve.Span) -> None:
    """Length, iteration, membership and reversal are those of a list of positions."""
    assert len(span) == 5
    assert list(span) == POSITIONS
    assert list(reversed(span)) == POSITIONS[::-1]
    assert (0, 3) in span
    assert (0, 4) not in span
    assert span.index((3, 4)) == 3
    assert all(isinstance(position, varve.Position) for position in span)


@pytest.mark.parametrize("index", range(-5, 5))
def test_a_span_is_indexed_from_both_ends(span: varve.Span, index: int) -> None:
    """Negative indices count from the end."""
    assert span[index] == POSITIONS[index]


@pytest.mark.parametrize("index", [5, 6, -6, 10**30, -(10**30)])
def test_a_span_refuses_an_index_outside(span: varve.Span, index: int) -> None:
    """IndexError, as every sequence."""
    with pytest.raises(IndexError):
        span[index]


@pytest.mark.parametrize(
    "cut",
    [slice(None), slice(1, 3), slice(-2, None), slice(None, None, -1), slice(4, 0, -2), slice(9, 12), slice(3, 1)],
)
def test_a_span_is_sliced_as_a_list(span: varve.Span, cut: slice) -> None:
    """Slices hold the positions that a list's would."""
    assert list(span[cut]) == POSITIONS[cut]


def test_spans_are_equal_by_their_positions(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """A retry's span equals the original one, though it says that it was replayed; other spans differ."""
    first = orders.append_batch(1, [placed(1), placed(2)], idempotency_key="k")
    again = orders.append_batch(1, [placed(1), placed(2)], idempotency_key="k")
    other = orders.append_batch(1, [placed(1), placed(2)])
    assert first == again
    assert hash(first) == hash(again)
    assert (first.replayed, again.replayed) == (False, True)
    assert [position.replayed for position in again] == [True, True]
    assert first != other
    assert first != [(0, 0), (1, 1)]
    assert repr(first) == "Span(2 events, (0, 0) .. (1, 1))"
    assert repr(again) == "Span(2 events, (0, 0) .. (1, 1), replayed)"


@pytest.mark.parametrize("how", ["append_batch", "append_many", "transaction", "write"])
def test_an_empty_batch_commits_nothing(db: varve.Varve, orders: varve.Stream[OrderPlaced], how: str) -> None:
    """It returns an empty span; no commit, no stream, no name appears."""
    with db.snapshot() as snap:
        before = snap._snapshot.id
    if how == "append_batch":
        span = orders.append_batch(1, [])
    elif how == "append_many":
        span = orders.append_many(iter(()))
    elif how == "transaction":
        with db.transaction() as tx:
            tx.append_batch(orders, 1, [])
        [span] = tx.positions
    else:
        [span] = db.write(lambda tx: [tx.append_batch(orders, 1, ()), tx][1]).positions
    assert list(span) == []
    assert len(span) == 0
    assert span == varve.Span(())
    assert repr(span) == "Span(empty)"
    with db.snapshot() as snap:
        assert snap._snapshot.id == before
    assert db.stats().names == 0


def test_an_empty_transaction_commits_nothing(db: varve.Varve) -> None:
    """No call, no commit, no positions."""
    with db.transaction(idempotency_key="k") as tx:
        pass
    assert tx.positions == []
    assert db.next_global_sequence == 0


def test_a_batch_of_thousands_spans_blocks(db: varve.Varve, mixed: varve.Stream[OrderPlaced | OrderShipped]) -> None:
    """5,000 events of two types become one commit over many blocks, every one readable where it should be."""
    events = [placed(n) if n % 5 else shipped(n) for n in range(5_000)]
    mixed.append(1, placed(77))
    span = mixed.append_batch("big", events)
    assert list(span) == [(n, n + 1) for n in range(5_000)]
    found = list(mixed.reader().iter_stream("big"))
    assert [r.event for r in found] == events
    assert [(r.stream_sequence, r.global_sequence) for r in found] == list(span)
    assert {r.commit_sequence for r in found} == {1}
    assert mixed.reader().get("big", 4_999) == events[4_999]


def test_large_events_stand_beside_small_ones(db: varve.Varve) -> None:
    """Events of 100 kB and 5 MB have blocks of their own; small ones around them are not disturbed."""
    stream = db.stream("blobs", Blob | OrderPlaced)
    events = [placed(0), Blob(b"a" * 100_000), placed(1), Blob(bytes(range(256)) * 20_480), placed(2), Blob(b"")]
    stream.append_batch(1, events)
    for event in events:
        stream.append(2, event)
    reader = stream.reader()
    for stream_id in (1, 2):
        assert [varve.owned(r.event) for r in reader.iter_stream(stream_id)] == events
        assert [reader.get(stream_id, n) for n in range(6)] == events
    assert [r.event for r in reader.iter_all(reverse=True)] == [*events, *events][::-1]


def test_single_appends_go_on_after_a_reopen(varve_path: Path) -> None:
    """The open tail block is extended across commits and handles, and reads as one log."""
    wanted = []
    for session in range(4):
        with varve.open(varve_path, durability="relaxed") as db:
            orders = db.stream("orders", OrderPlaced)
            for n in range(40):
                event = placed(session * 100 + n, "x" * (n % 50))
                assert orders.append(n % 3, event).global_sequence == len(wanted)
                wanted.append(event)
            assert [r.event for r in db.global_reader().iter_from(0)] == wanted


def test_streams_share_event_types(db: varve.Varve) -> None:
    """One event class may belong to several stream names, each with its own sequences."""
    placed_orders, archive = db.stream("orders", OrderPlaced), db.stream("archive", OrderPlaced | OrderShipped)
    assert placed_orders.append(1, placed(1)) == (0, 0)
    assert archive.append(1, placed(2)) == (0, 1)
    assert archive.append(1, shipped(3)) == (1, 2)
    assert placed_orders.append(1, placed(4)) == (1, 3)
    assert [r.event for r in placed_orders.reader().iter_all()] == [placed(1), placed(4)]
    assert [r.event for r in archive.reader().iter_all()] == [placed(2), shipped(3)]
    assert db.stats().types == 2


def test_many_names_and_types_live_in_one_store(db: varve.Varve) -> None:
    """Hundreds of names and dozens of types each keep their events apart."""
    classes = []
    for n in range(40):
        namespace = {"__annotations__": {"value": int}, "__module__": __name__}
        classes.append(varve.event(type(f"Kind{n}", (), namespace)))
    for n in range(300):
        cls = classes[n % 40]
        db.stream(f"name-{n}", cls).append(n, cls(n))
    stats = db.stats()
    assert (stats.names, stats.types, stats.streams, stats.events) == (300, 40, 300, 300)
    for n in (0, 39, 40, 255, 256, 299):
        reader = db.stream(f"name-{n}", classes[n % 40]).reader()
        assert [r.event for r in reader.iter_all()] == [classes[n % 40](n)]
    assert [r.stream for r in db.global_reader().iter_from(290)] == [f"name-{n}" for n in range(290, 300)]


def test_a_view_is_appended_like_an_instance(db: varve.Varve, orders: varve.Stream[OrderPlaced]) -> None:
    """What was read can be written again, alone, in batches and mixed with instances."""
    orders.append_batch(1, [placed(1), placed(2)])
    views = [r.event for r in orders.reader().iter_stream(1)]
    orders.append(2, views[0])
    orders.append_batch(2, [views[1], placed(3)])
    orders.append_many([(2, views[0])])
    assert [r.event for r in orders.reader().iter_stream(2)] == [placed(1), placed(2), placed(3), placed(1)]
    del views


def test_a_generator_is_consumed_once(orders: varve.Stream[OrderPlaced]) -> None:
    """Batches take any iterable."""
    assert len(orders.append_batch(1, (placed(n) for n in range(3)))) == 3
    assert len(orders.append_batch(1, (placed(0),))) == 1
    assert len(orders.append_batch(1, {placed(5): None})) == 1
    assert len(orders.append_many((n, placed(n)) for n in range(4))) == 4


def test_appends_are_gapless_whatever_the_mix(db: varve.Varve, mixed: varve.Stream[OrderPlaced | OrderShipped]) -> None:
    """Global sequences count from 0 without gaps, stream sequences too, over every kind of call."""
    mixed.append(1, placed(0))
    mixed.append_batch("1", [placed(1), shipped(2)])
    mixed.append_many([("1", placed(3)), (1, shipped(4))])
    with db.transaction() as tx:
        tx.append(mixed, 1, placed(5))
        tx.append_many(mixed, [(1, placed(6)), ("1", placed(7))])
    db.write(lambda tx: tx.append(mixed, "1", shipped(8)))
    log = everything(db)
    assert [entry[0] for entry in log] == list(range(9))
    assert [entry[3] for entry in log if entry[2] == 1] == list(range(4))
    assert [entry[3] for entry in log if entry[2] == "1"] == list(range(5))


def test_a_long_batch_is_laid_into_the_blocks_that_a_draft_would_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most blocks of a long batch are made after a model of those before: every byte is the same as without one, with events
    of all sizes, one of them larger than a block, behind an open tail, and in the index."""
    generator = random.Random(20_241)
    sizes = [generator.randrange(0, 3_000) for _ in range(2_000)]
    sizes[1_000] = 3 * limits.BLOCK_BYTES_MAX
    batch = [Blob(generator.randbytes(size)) for size in sizes]
    logs = []
    for number, blocks_min in enumerate((16, 10**9)):
        monkeypatch.setattr(plan, "_ALIKE_BLOCKS_MIN", blocks_min)
        with varve.open(tmp_path / str(number), clock=lambda: 5) as db:
            blobs = db.stream("blobs", Blob)
            blobs.append(1, Blob(b"before"))
            for _ in range(2):
                blobs.append_batch(1, batch)
            blobs.append(1, Blob(b"behind"))
            read = [recorded.event.data for recorded in blobs.reader().iter_stream(1)]
            assert read == [b"before", *(2 * [blob.data for blob in batch]), b"behind"]
            with db._engine.snapshot() as snapshot:
                logs.append([bytes(block.data)[4:] for block in snapshot.blocks(0, snapshot.next_sequence)])
        assert not list(ops.verify(tmp_path / str(number)).findings)
    models, drafts = logs
    assert len(models) > 100
    assert models[1:] == drafts[1:]  # the first one has the store's uuid
