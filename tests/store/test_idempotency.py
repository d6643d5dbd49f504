"""``idempotency_key=`` on every way to append."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
from store_models import OrderPlaced, OrderShipped, placed, refused, shipped

import varve

Append = Callable[..., Any]


def by_append(
    db: varve.Varve, stream: Any, events: list[Any], *, key: Any, metadata: Any = None, expected: Any = varve.ANY
) -> Any:
    return stream.append(1, events[0], idempotency_key=key, metadata=metadata, expected=expected)


def by_batch(
    db: varve.Varve, stream: Any, events: list[Any], *, key: Any, metadata: Any = None, expected: Any = varve.ANY
) -> Any:
    return stream.append_batch(1, events, idempotency_key=key, metadata=metadata, expected=expected)


def by_many(
    db: varve.Varve, stream: Any, events: list[Any], *, key: Any, metadata: Any = None, expected: Any = varve.ANY
) -> Any:
    return stream.append_many([(n % 2, e) for n, e in enumerate(events)], idempotency_key=key, metadata=metadata)


def by_transaction(
    db: varve.Varve, stream: Any, events: list[Any], *, key: Any, metadata: Any = None, expected: Any = varve.ANY
) -> Any:
    with db.transaction(idempotency_key=key, metadata=metadata) as tx:
        tx.append(stream, 1, events[0], expected=expected)
        tx.append_batch(stream, "b", events)
    return tx


def by_write(
    db: varve.Varve, stream: Any, events: list[Any], *, key: Any, metadata: Any = None, expected: Any = varve.ANY
) -> Any:
    def fn(tx: varve.WriteTransaction) -> varve.WriteTransaction:
        tx.append(stream, 1, events[0], expected=expected)
        tx.append_batch(stream, "b", events)
        return tx

    return db.write(fn, idempotency_key=key, metadata=metadata)


WAYS = [by_append, by_batch, by_many, by_transaction, by_write]
EVENTS = [placed(1), shipped(2), placed(3)]


def positions(result: Any) -> Any:
    return result.positions if isinstance(result, varve.Transaction) else result


@pytest.mark.parametrize("key", [b"k", "k", uuid.UUID(int=1), b"\0" * 255, "ä" * 127])
@pytest.mark.parametrize("way", WAYS)
def test_a_retry_gives_the_original_positions(db: varve.Varve, mixed: Any, way: Append, key: Any) -> None:
    """And writes nothing, however much was appended in between, and whatever was expected."""
    mixed.append(1, placed(0))
    first = way(db, mixed, EVENTS, key=key, expected=1)
    assert not first.replayed
    mixed.append(1, placed(9))
    before = db.next_global_sequence
    again = way(db, mixed, EVENTS, key=key, expected=1)
    assert again.replayed
    assert positions(again) == positions(first)
    assert db.next_global_sequence == before


@pytest.mark.parametrize("way", WAYS)
def test_a_retry_survives_a_reopen(varve_path: Path, way: Append) -> None:
    """Keys are in the log, not in memory."""
    results = []
    for _ in range(2):
        with varve.open(varve_path, durability="relaxed") as db:
            results.append(way(db, db.stream("orders", OrderPlaced | OrderShipped), EVENTS, key="k"))
            results[-1] = (positions(results[-1]), results[-1].replayed)
    assert results[0][0] == results[1][0]
    assert [replayed for _, replayed in results] == [False, True]


@pytest.mark.parametrize("way", WAYS)
def test_other_content_is_a_conflict(db: varve.Varve, mixed: Any, way: Append) -> None:
    """Other values, types, metadata or order under a known key are refused with the key and the place of its first use."""
    mixed.append(1, placed(0))
    way(db, mixed, EVENTS, key="k", metadata={"a": 1})
    others = [
        ([placed(2), *EVENTS[1:]], {"a": 1}),
        ([shipped(1), *EVENTS[1:]], {"a": 1}),
        (EVENTS, {"a": 2}),
        (EVENTS, None),
        (EVENTS, {}),
    ]
    if way is not by_append:
        others += [(EVENTS[:2], {"a": 1}), (EVENTS[::-1], {"a": 1}), ([*EVENTS, placed(4)], {"a": 1})]
    for events, metadata in others:
        with refused(db, varve.IdempotencyConflict) as caught:
            way(db, mixed, events, key="k", metadata=metadata)
        assert caught.value.key == "k"
        assert caught.value.global_sequence == 1


def test_another_stream_or_id_is_other_content(db: varve.Varve, mixed: Any) -> None:
    """The same event for another stream name, id or kind of id is another command."""
    mixed.append(1, placed(1), idempotency_key="k")
    other = db.stream("other", OrderPlaced)
    for stream, stream_id in ((mixed, 2), (mixed, "1"), (other, 1)):
        with refused(db, varve.IdempotencyConflict):
            stream.append(stream_id, placed(1), idempotency_key="k")


def test_keys_of_different_kinds_are_different_keys(db: varve.Varve, orders: Any) -> None:
    """bytes, str and UUID never collide, not even with equal bytes."""
    ident = uuid.UUID(bytes=b"0123456789abcdef")
    for n, key in enumerate((b"0123456789abcdef", "0123456789abcdef", ident)):
        assert orders.append(1, placed(n), idempotency_key=key).replayed is False
    assert db.next_global_sequence == 3
    assert orders.append(1, placed(0), idempotency_key=bytearray(b"0123456789abcdef")) == (0, 0)


def test_metadata_compares_by_value(orders: Any) -> None:
    """The order of its keys is not content."""
    orders.append(1, placed(1), idempotency_key="k", metadata={"a": 1, "b": [1, 2]})
    assert orders.append(1, placed(1), idempotency_key="k", metadata={"b": (1, 2), "a": 1}).replayed


def test_a_view_is_the_same_content_as_an_instance(orders: Any) -> None:
    """An event read back is the event that was written."""
    orders.append(1, placed(1), idempotency_key="k")
    assert orders.append(1, orders.reader().get(1, 0), idempotency_key="k").replayed


def test_equal_content_without_a_key_is_written_again(db: varve.Varve, orders: Any) -> None:
    """Two commands may rightly write equal events; so may two keys."""
    orders.append(1, placed(1))
    orders.append(1, placed(1))
    orders.append(1, placed(1), idempotency_key="a")
    orders.append(1, placed(1), idempotency_key="b")
    assert db.next_global_sequence == 4


def test_a_failed_first_use_does_not_burn_the_key(db: varve.Varve, orders: Any) -> None:
    """A key counts from its commit on."""
    with refused(db, varve.WrongExpectedVersion):
        orders.append(1, placed(1), idempotency_key="k", expected=5)
    assert not orders.append(1, placed(2), idempotency_key="k").replayed


def test_an_empty_batch_does_not_burn_the_key(db: varve.Varve, orders: Any) -> None:
    """It commits nothing, so there is nothing to remember; a bad key is refused all the same."""
    assert not orders.append_batch(1, [], idempotency_key="k").replayed
    assert not orders.append(1, placed(1), idempotency_key="k").replayed
    with refused(db, varve.InvalidIdempotencyKey):
        orders.append_batch(1, [], idempotency_key="")


def test_a_large_batch_is_retried(db: varve.Varve, mixed: Any) -> None:
    """A commit over many blocks gives all its positions back, and each counts as content."""
    events = [placed(n) if n % 3 else shipped(n) for n in range(4_000)]
    mixed.append("before", placed(0))
    first = mixed.append_many([(n % 7, e) for n, e in enumerate(events)], idempotency_key="k")
    again = mixed.append_many([(n % 7, e) for n, e in enumerate(events)], idempotency_key="k")
    assert again == first
    assert again[3_999].replayed
    events[3_998] = shipped(0)
    with refused(db, varve.IdempotencyConflict):
        mixed.append_many([(n % 7, e) for n, e in enumerate(events)], idempotency_key="k")


def test_a_retry_after_the_class_grew(varve_path: Path) -> None:
    """Content is by value: a field appended to the class since does not turn a retry into a conflict."""
    old = varve.event(type("Grown", (), {"__annotations__": {"a": int}, "__module__": __name__}))
    new = varve.event(
        type("Grown", (), {"__annotations__": {"a": int, "b": int | None}, "b": None, "__module__": __name__})
    )
    with varve.open(varve_path, durability="relaxed") as db:
        db.stream("s", old).append(1, old(5), idempotency_key="k")
        assert db.stream("s", new).append(1, new(5), idempotency_key="k").replayed
        with pytest.raises(varve.IdempotencyConflict):
            db.stream("s", new).append(1, new(5, 6), idempotency_key="k")


def test_two_versions_of_a_type_in_one_transaction_digest_by_their_own_class(db: varve.Varve) -> None:
    """The digest once decoded every event with the class bound last, so that other content passed for a replay."""

    def version(with_more: bool) -> type:
        fields: dict[str, object] = {"__annotations__": {"a": int}}
        if with_more:
            fields = {"__annotations__": {"a": int, "b": int}, "b": 0}
        return varve.event(name="Grown")(type("Grown", (), fields))

    old, new = version(False), version(True)
    old_stream, new_stream = db.stream("grown", old), db.stream("grown", new)
    old_stream.append(1, old(1))
    new_stream.append(1, new(2, 3))

    def go(more: int) -> bool:
        with db.transaction(idempotency_key="k") as tx:
            tx.append(new_stream, 1, new(1, more))
            tx.append(old_stream, 1, old(2))
        return tx.replayed

    assert not go(5)
    assert go(5)
    with pytest.raises(varve.IdempotencyConflict):
        go(6)


# -- power cuts ----------------------------------------------------------------------------------------------------------


class Counting:
    """LMDB's environment, its syncs counted."""

    def __init__(self, env: Any, error: lmdb.Error | None = None) -> None:
        self.env = env
        self.error = error
        self.syncs = 0

    def sync(self, force: bool) -> None:
        self.syncs += 1
        if self.error is not None:
            raise self.error
        self.env.sync(force)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.env, name)


@pytest.mark.parametrize(("durability", "syncs"), [("full", 1), ("relaxed", 0)])
def test_a_retry_is_as_durable_as_what_it_repeats(varve_path: Path, durability: Any, syncs: int) -> None:
    """Who committed first may have been killed while the disk was at it, and the page cache shows the commit all the same: the
    retry found it, said that it was done, and a power cut took it back."""
    with varve.open(varve_path, durability=durability) as db:
        orders = db.stream("orders", OrderPlaced)
        env = db._engine.environment.env = Counting(db._engine.environment.env)
        first = orders.append(1, placed(1), idempotency_key="k")
        assert env.syncs == 0
        assert orders.append(1, placed(1), idempotency_key="k") == first
        assert env.syncs == syncs
        with db.transaction(idempotency_key="t") as tx:
            tx.append(orders, 2, placed(2))
        with db.transaction(idempotency_key="t") as tx:
            tx.append(orders, 2, placed(2))
        assert tx.replayed
        assert env.syncs == 2 * syncs
        db._engine.environment.env = env.env


def test_a_retry_that_cannot_be_made_durable_fails(varve_path: Path) -> None:
    """And the handle refuses everything, as after any fsync that failed."""
    with varve.open(varve_path) as db:
        orders = db.stream("orders", OrderPlaced)
        orders.append(1, placed(1), idempotency_key="k")
        real = db._engine.environment.env
        db._engine.environment.env = Counting(real, lmdb.Error("Input/output error"))
        with pytest.raises(varve.StoreFailed):
            orders.append(1, placed(1), idempotency_key="k")
        db._engine.environment.env = real
        with pytest.raises(varve.StoreFailed):
            orders.append(1, placed(2))
    with varve.open(varve_path) as db:
        assert db.stream("orders", OrderPlaced).append(1, placed(1), idempotency_key="k").replayed
