"""Bad input: a typed error with a clear message, nothing written, the store usable afterwards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from store_models import Blob, OrderPlaced, OrderShipped, Wide, placed, refused, shipped

import varve
from varve import limits

SURROGATE = "a\ud800b"

BAD_NAMES = ["", "x" * 256, "ä" * 128, SURROGATE, None, 5, b"orders", ("orders",), True]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_bad_names(db: varve.Varve, name: Any) -> None:
    """Empty, too long, not UTF-8, not a str: refused by streams and by filters."""
    with refused(db, varve.InvalidName):
        db.stream(name, OrderPlaced)
    with refused(db, varve.InvalidName):
        db.global_reader().iter_from(0, streams=[name])


BAD_IDS = [
    -1, 2**64, 2**100, True, False, 1.0, float("nan"), None, b"id", bytearray(b"id"), "", "x" * 256, "ä" * 128, SURROGATE,
    (1,), [1], {},
]  # fmt: skip

ID_USES = {
    "append": lambda db, s, i: s.append(i, placed(1)),
    "append_batch": lambda db, s, i: s.append_batch(i, [placed(1)]),
    "append_batch empty": lambda db, s, i: s.append_batch(i, []),
    "append_many": lambda db, s, i: s.append_many([(1, placed(0)), (i, placed(1))]),
    "get": lambda db, s, i: s.reader().get(i, 0),
    "get_bytes": lambda db, s, i: s.reader().get_bytes(i, 0),
    "get_recorded": lambda db, s, i: s.reader().get_recorded(i, 0),
    "length": lambda db, s, i: s.reader().length(i),
    "iter_stream": lambda db, s, i: s.reader().iter_stream(i),
    "transaction": lambda db, s, i: db.write(lambda tx: [tx.append(s, 1, placed(0)), tx.append(s, i, placed(1))]),
    "write length": lambda db, s, i: db.write(lambda tx: tx.length(s, i)),
}


@pytest.mark.parametrize("use", ID_USES)
@pytest.mark.parametrize("stream_id", BAD_IDS, ids=lambda i: repr(i)[:12])
def test_bad_ids(db: varve.Varve, orders: Any, use: str, stream_id: Any) -> None:
    """By every call that takes an id."""
    with refused(db, varve.InvalidStreamId) as caught:
        ID_USES[use](db, orders, stream_id)
    if use == "append_many":
        assert any("item 1 " in note for note in caught.value.__notes__)


class NoEvent:
    pass


@dataclasses.dataclass
class Plain:
    a: int


@pytest.mark.parametrize(
    "types",
    [NoEvent, Plain, int, None, 5, "OrderPlaced", placed(1), OrderPlaced | NoEvent, OrderPlaced | None, OrderPlaced | int,
     [OrderPlaced], list[OrderPlaced], (OrderPlaced,), Any, varve.u8],
    ids=lambda t: repr(t)[:30],
)  # fmt: skip
def test_unknown_types(db: varve.Varve, types: Any) -> None:
    """What is no event class, nor a union of such, makes no stream."""
    with refused(db, varve.SchemaError):
        db.stream("orders", types)


@pytest.mark.parametrize(
    "types",
    ["OrderPlaced", OrderPlaced, OrderPlaced | OrderShipped, 5, [5], [None], [int], [b"x"]],
    ids=lambda t: repr(t)[:30],
)
def test_bad_type_filters(db: varve.Varve, types: Any) -> None:
    """``types=`` takes an iterable of event classes and names."""
    with refused(db, (varve.InvalidInput, varve.SchemaError)):  # type: ignore[arg-type]
        db.global_reader().iter_from(0, types=types)


@pytest.mark.parametrize("streams", ["orders", 5, OrderPlaced], ids=repr)
def test_bad_stream_filters(db: varve.Varve, streams: Any) -> None:
    """``streams=`` takes an iterable of names; a single str is a likely mistake."""
    with refused(db, varve.InvalidInput):
        db.global_reader().iter_from(0, streams=streams)


WRONG_EVENTS = [shipped(1), OrderPlaced, None, 5, "x", b"x", {"order_id": 1}, (1, "a", 1, 1), Plain(1), object()]

WAYS = {
    "append": lambda db, s, e: s.append(1, e),
    "append_batch": lambda db, s, e: s.append_batch(1, [placed(0), placed(1), e, placed(2)]),
    "append_batch alone": lambda db, s, e: s.append_batch(1, [e]),
    "append_many": lambda db, s, e: s.append_many([(1, placed(0)), (2, placed(1)), (1, e), (2, placed(3))]),
    "write": lambda db, s, e: db.write(lambda tx: [tx.append(s, 1, placed(0)), tx.append(s, 1, e)]),
}
INDEX = {"append_batch": "event 2 of", "append_batch alone": "event 0 of", "append_many": "item 2 "}


def in_transaction(db: varve.Varve, stream: Any, event: Any) -> None:
    with db.transaction() as tx:
        tx.append(stream, 7, placed(0))
        tx.append_batch(stream, 1, [placed(1), event])


WAYS["transaction"] = in_transaction


def names_the_index(error: BaseException, way: str) -> bool:
    return way not in INDEX or any(INDEX[way] in note for note in error.__notes__)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("event", WRONG_EVENTS, ids=lambda e: repr(e)[:20])
def test_events_of_another_class(db: varve.Varve, orders: Any, event: Any, way: str) -> None:
    """Another event class, the class itself, and what is no event; nothing of a batch is written, and its index is told."""
    with refused(db, varve.EventTypeError, match="orders") as caught:
        WAYS[way](db, orders, event)
    assert caught.value.stream == "orders"
    assert caught.value.got is type(event)
    assert names_the_index(caught.value, way)


def test_the_class_itself_is_told_apart(db: varve.Varve, orders: Any) -> None:
    """The likely slip gets its own words."""
    with refused(db, varve.EventTypeError, match="the class OrderPlaced itself"):
        orders.append(1, OrderPlaced)


BAD_FIELDS = [
    ("order_id", -1), ("order_id", 2**64), ("order_id", 1.5), ("order_id", float("nan")), ("order_id", None), ("order_id", "1"),
    ("quantity", 2**32), ("quantity", -1), ("product", None), ("product", 5), ("product", b"x"), ("product", SURROGATE),
    ("amount", float("inf")),
]  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("field", "value"), BAD_FIELDS, ids=lambda v: repr(v)[:20])
def test_values_that_do_not_fit(db: varve.Varve, orders: Any, field: str, value: Any, way: str) -> None:
    """``EventEncodingError`` names class, field and value, at construction or at the append."""
    with refused(db, varve.EventEncodingError) as caught:
        WAYS[way](db, orders, dataclasses.replace(placed(1), **{field: value}))
    assert caught.value.type_name == "OrderPlaced"
    assert caught.value.field == field
    assert caught.value.value is value or caught.value.value == value


@pytest.mark.parametrize("way", WAYS)
def test_an_event_over_the_size_limit(db: varve.Varve, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """``EventTooLarge`` with its facts; one byte less fits."""
    stream = db.stream("blobs", Blob | OrderPlaced)
    monkeypatch.setattr(limits, "EVENT_BYTES_MAX", 4_096)
    with refused(db, varve.EventTooLarge) as caught:
        WAYS[way](db, stream, Blob(b"x" * 4_096))
    assert caught.value.type_name == "Blob"
    assert caught.value.size_bytes > 4_096 == caught.value.limit_bytes
    assert names_the_index(caught.value, way)
    WAYS[way](db, stream, Blob(b"x" * 4_000))


@pytest.mark.parametrize("at", [0, 1_023, 1_024, 1_500])
def test_one_bad_event_in_a_long_batch(db: varve.Varve, orders: Any, at: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Long batches are encoded a stretch at a time: whichever it is in, the error says which event it was."""
    batch = [placed(n) for n in range(1_600)]
    batch[at] = dataclasses.replace(placed(at), quantity="many")
    with refused(db, varve.EventEncodingError) as caught:
        orders.append_batch(1, batch)
    assert f"it was event {at} of a batch of 1600" in caught.value.__notes__[0]
    blobs = db.stream("blobs", Blob)
    monkeypatch.setattr(limits, "EVENT_BYTES_MAX", 4_096)
    large = [Blob(b"x" * (4_096 if n == at else 16)) for n in range(1_600)]
    with refused(db, varve.EventTooLarge) as too_large:
        blobs.append_batch(1, large)
    assert f"it was event {at} of a batch of 1600" in too_large.value.__notes__[0]
    large[at] = Blob(b"x" * 4_000)
    blobs.append_batch(1, large)
    assert [event.event.data for event in blobs.reader().iter_stream(1)] == [blob.data for blob in large]


def test_a_long_batch_of_large_events_is_not_copied_together(db: varve.Varve) -> None:
    """Nor one of several classes; what is encoded is the same."""
    types = db.stream("blobs", Blob | OrderPlaced)._types
    large = [Blob(bytes([n]) * 8_000) for n in range(40)]
    mixed = [*(placed(n) for n in range(2_000)), large[0]]
    small = [placed(n) for n in range(2_000)]
    for batch, runs, is_list in ((large, 1, True), (mixed, 2, True), (small, 1, False)):
        encoded, size = types.encode_all(batch)
        assert len(encoded) == runs
        assert all(isinstance(events, list) == is_list for _, events in encoded)
        flat = [event for _, events in encoded for event in events]
        assert flat == [types.encode(event)[1] for event in batch]
        assert size == sum(map(len, flat))


def test_a_batch_over_what_can_be_joined(db: varve.Varve, orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than 4 GiB of events, which the ends of them could not say: ``TooManyItems`` too, whatever the limit is."""
    monkeypatch.setattr("varve.layout.packed._BYTES_MAX", 50_000)
    with refused(db, varve.TooManyItems):
        orders.append_batch(1, [placed(n) for n in range(1_600)])


def test_a_batch_over_the_limit_of_a_transaction(db: varve.Varve, orders: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """``TooManyItems`` as soon as it is more than a transaction holds, and not only when all of it is encoded."""
    monkeypatch.setattr(limits, "TRANSACTION_BYTES_MAX", 50_000)
    batch = [placed(n) for n in range(1_600)]
    with refused(db, varve.TooManyItems, match="the limit is TRANSACTION_BYTES_MAX = 50000") as caught:
        orders.append_batch(1, [*batch, dataclasses.replace(placed(1), quantity="never looked at")])
    assert not hasattr(caught.value, "__notes__")
    orders.append_batch(1, batch[:800])


@pytest.mark.parametrize("given", [None, 5, OrderPlaced, placed(1)], ids=repr)
def test_batches_that_are_no_iterables(db: varve.Varve, orders: Any, given: Any) -> None:
    """A single event where a batch is due is the likely slip."""
    for call in (lambda: orders.append_batch(1, given), lambda: orders.append_many(given)):
        with refused(db, varve.InvalidInput) as caught:
            call()
        assert "in an iterable such as a list, not " in str(caught.value)
        assert "declare" not in str(caught.value)  # the event's class is not what is wrong


@pytest.mark.parametrize(
    "item", [5, None, placed(1), (), (1,), (1, placed(1), 2), [1], "a"], ids=lambda i: repr(i)[:16]
)
def test_bad_pairs(db: varve.Varve, orders: Any, item: Any) -> None:
    """``append_many`` takes pairs, and says which item is none."""
    with refused(db, varve.InvalidInput, match="item 1 "):
        orders.append_many([(1, placed(0)), item])


def test_a_generator_that_raises_midway(db: varve.Varve, orders: Any) -> None:
    """Its own error comes out unchanged, and nothing of the batch is written."""

    def fail(error: BaseException, pairs: bool) -> Iterator[Any]:
        for n in range(3):
            yield (n, placed(n)) if pairs else placed(n)
        raise error

    for error in (KeyError("mine"), ValueError("mine"), TypeError("mine"), StopAsyncIteration()):
        for call in (lambda e: orders.append_batch(1, fail(e, False)), lambda e: orders.append_many(fail(e, True))):
            with pytest.raises(type(error)) as caught:
                call(error)
            assert caught.value is error
            assert db.next_global_sequence == 0
    assert orders.append(1, placed(1)) == (0, 0)


@pytest.mark.parametrize("expected", [True, False, -1, 1.0, "0", None, b"", [], varve.Expected], ids=repr)
def test_bad_expectations(db: varve.Varve, orders: Any, expected: Any) -> None:
    """A number of events or one of three constants."""
    for call in (
        lambda: orders.append(1, placed(1), expected=expected),
        lambda: orders.append_batch(1, [placed(1)], expected=expected),
        lambda: orders.append_batch(1, [], expected=expected),
        lambda: db.write(lambda tx: tx.append(orders, 1, placed(1), expected=expected)),
    ):
        with refused(db, varve.InvalidInput, match="expected="):
            call()


@pytest.mark.parametrize(
    "key", [b"", "", b"x" * 256, "ä" * 128, SURROGATE, 5, True, 1.0, (), [], ["k"], {}], ids=lambda k: repr(k)[:12]
)
def test_bad_idempotency_keys(db: varve.Varve, orders: Any, key: Any) -> None:
    """By every call that takes one."""
    for call in (
        lambda: orders.append(1, placed(1), idempotency_key=key),
        lambda: orders.append_batch(1, [placed(1)], idempotency_key=key),
        lambda: orders.append_batch(1, [], idempotency_key=key),
        lambda: orders.append_many([(1, placed(1))], idempotency_key=key),
        lambda: db.transaction(idempotency_key=key),
        lambda: db.write(lambda tx: tx.append(orders, 1, placed(1)), idempotency_key=key),
    ):
        with refused(db, varve.InvalidIdempotencyKey):
            call()


@pytest.mark.parametrize(
    "bound", [-1, -(2**70), True, 1.0, float("nan"), "0", b"0", [], placed(1)], ids=lambda b: repr(b)[:12]
)
def test_bad_bounds(db: varve.Varve, orders: Any, bound: Any) -> None:
    """``start`` and ``stop`` of every iterator, at the call and not at the first step; it is a ValueError."""
    reader, replay = orders.reader(), db.global_reader()
    for call in (
        lambda **b: reader.iter_stream(1, **b),
        lambda **b: reader.iter_stream(1, reverse=True, **b),
        reader.iter_all,
        replay.iter_from,
        replay.iter_bytes,
    ):
        for name in ("start", "stop"):
            with refused(db, varve.InvalidInput, match=name) as caught:
                call(**{name: bound})
            assert isinstance(caught.value, ValueError)
    for call in (reader.get, reader.get_bytes, reader.get_recorded):
        with refused(db, varve.InvalidInput):
            call(1, bound)
    for call in (replay.get, replay.get_bytes):
        with refused(db, varve.InvalidInput):
            call(bound)
    with refused(db, varve.InvalidInput):
        reader.iter_stream(1, None)  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["", 5, None, b"bytes", "a\0b", True, 1.0, {"a"}, [], [5], [["a"]]], ids=repr)
def test_bad_paths(path: Any) -> None:
    """What names no folder."""
    with pytest.raises(varve.InvalidInput, match="path"):
        varve.open(path)


@pytest.mark.parametrize(
    "options",
    [
        {"durability": "none"},
        {"durability": None},
        {"durability": []},
        {"map_bytes": 5},
        {"map_bytes": "1"},
        {"map_bytes": -1},
    ],
    ids=repr,
)
def test_bad_options(tmp_path: Path, options: dict[str, Any]) -> None:
    """Refused before anything is created."""
    with pytest.raises(varve.InvalidInput):
        varve.open(tmp_path / "store", **options)
    assert not (tmp_path / "store").exists()


def test_a_path_that_is_a_file(tmp_path: Path) -> None:
    """``NotAVarveStore``, and the file is untouched; the same below it."""
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(varve.NotAVarveStore):
        varve.open(tmp_path / "file")
    with pytest.raises(varve.VarveError):
        varve.open(tmp_path / "file" / "below")
    assert (tmp_path / "file").read_bytes() == b"mine"


def test_bad_input_leaves_a_filled_store_alone(db: varve.Varve) -> None:
    """A volley of refused calls between good ones: only the good ones are there, and the check after the test holds."""
    stream = db.stream("orders", OrderPlaced | Wide)
    for n in range(30):
        stream.append(n % 3, placed(n))
        for bad in (
            lambda: stream.append("new", shipped(1)),
            lambda: stream.append_batch("new", [placed(1), shipped(2)]),
            lambda: stream.append_many([("new", placed(1)), (-1, placed(2))]),
            lambda: stream.append("new", placed(1), metadata={"x": object()}),
            lambda: stream.append("new", placed(1), expected=3),
            lambda: stream.append(UUID(int=3), placed(1), idempotency_key=""),
        ):
            with pytest.raises(varve.VarveError):
                bad()
    assert [r.event for r in db.global_reader().iter_from(0)] == [placed(n) for n in range(30)]
    assert list(stream.reader().stream_ids()) == [0, 1, 2]
