"""``reader.to_arrow`` and the Arrow C stream of a reader."""

from __future__ import annotations

import gc
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from column_models import Address, Card, Cash, City, Color, Point, by_batches

import varve
from varve.columns import walk


@varve.event(name="arrow.Sale")
class Sale:
    number: varve.u64
    product: str
    amount: varve.u32 | None = None


@varve.event(name="arrow.Refund")
class Refund:
    number: varve.u64
    reason: str


@varve.event(name="arrow.Paid")
class Paid:
    by: Card | Cash
    address: Address


@varve.event(name="arrow.Tree")
class Tree:
    value: int
    children: tuple[Tree, ...] = ()


@pytest.fixture
def db(varve_path: Path) -> Any:
    with varve.open(varve_path, durability="relaxed") as store:
        yield store


def sales(count: int, start: int = 0) -> list[Sale]:
    return [Sale(n, f"product {n % 10}", None if n % 4 == 0 else n) for n in range(start, start + count)]


def test_the_schema(db: varve.Varve) -> None:
    """One type: its fields, nullable where optional. Several: all fields, nullable where a type lacks them, and the type."""
    one = db.stream("sales", Sale).reader().to_arrow()
    assert isinstance(one, pa.RecordBatchReader)
    assert one.schema == pa.schema(
        [
            pa.field("number", pa.uint64(), nullable=False),
            pa.field("product", pa.string(), nullable=False),
            pa.field("amount", pa.uint32()),
        ]
    )
    assert one.read_all().num_rows == 0
    both = db.stream("sales", Sale | Refund).reader().to_arrow()
    assert both.schema.names == ["$type", "number", "product", "amount", "reason"]
    assert [f.nullable for f in both.schema] == [False, False, True, True, True]


def test_batches(db: varve.Varve) -> None:
    """At most so many events each, in order, of one instant."""
    stream = db.stream("sales", Sale | Refund)
    for start in range(0, 9_000, 1_500):
        stream.append_batch(1, sales(1_500, start))
        stream.append(2, Refund(start, "r"))
    batches = stream.reader().to_arrow(["number", "reason", "$type", "$stream_id"], batch_size=1_000)
    stream.append(2, Refund(1, "later"))
    found = list(batches)
    assert max(batch.num_rows for batch in found) <= 1_000
    assert sum(batch.num_rows for batch in found) == 9_006
    rows = by_batches(found, ["number", "reason", "$type", "$stream_id"])
    expected = [(one.event.number, one.stream_id) for one in stream.reader().iter_all(stop=9_006)]
    assert list(zip(rows["number"], rows["$stream_id"], strict=True)) == expected
    assert rows["reason"].count("r") == 6
    one = stream.reader().to_arrow(["number"], 2, 1, 3).read_all()
    assert one.column("number").to_pylist() == [1_500, 3_000]


def test_memory_is_bounded(db: varve.Varve) -> None:
    """Reading a stream takes memory for a batch, not for the stream."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, sales(40_000))

    def peak() -> int:
        tracemalloc.start()
        rows = sum(batch.num_rows for batch in stream.reader().to_arrow(batch_size=2_000))
        assert rows == stream.reader().length(1)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak()
    before = peak()
    stream.append_batch(1, sales(120_000, 40_000))
    assert peak() < 1.5 * before


def test_a_reader_that_is_dropped_holds_nothing(db: varve.Varve) -> None:
    """Begun, half read, read to its end: the snapshot ends with it."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, sales(5_000))
    for steps in (0, 1):
        batches = stream.reader().to_arrow(batch_size=100)
        for _ in range(steps):
            batches.read_next_batch()
        del batches
        gc.collect()
        assert db.stats().snapshots == ()
    stream.reader().to_arrow().read_all()
    assert db.stats().snapshots == ()


def test_a_store_that_closes_ends_it(db: varve.Varve) -> None:
    """Batches that were read stay; the next step says why there are no more."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, sales(5_000))
    batches = stream.reader().to_arrow(batch_size=100)
    first = batches.read_next_batch()
    db.close()
    assert first.column("number").to_pylist() == list(range(100))
    with pytest.raises(varve.StoreClosed):
        batches.read_next_batch()


def test_an_old_snapshot_is_renewed(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow reader does not keep its first snapshot, and still sees one instant."""
    monkeypatch.setattr(varve.limits, "ITERATOR_SNAPSHOT_AGE_S_MAX", -1)
    monkeypatch.setattr(walk, "FRAMES_EVENTS_MIN", 1)
    stream = db.stream("sales", Sale)
    for start in range(0, 6_000, 1_000):
        stream.append_batch(1, sales(1_000, start))
    batches = stream.reader().to_arrow(["number"], batch_size=400)
    found = batches.read_next_batch().column("number").to_pylist()
    held = {live.snapshot_id for live in db.stats().snapshots}
    for batch in batches:
        stream.append_batch(1, sales(50, 6_000))
        found += batch.column("number").to_pylist()
        now = {live.snapshot_id for live in db.stats().snapshots}
        assert not now & held or len(found) < 2_000
    assert found == list(range(6_000))


def test_what_arrow_has_no_word_for(db: varve.Varve) -> None:
    """Unions and events that hold themselves are refused, with the columns that can be read."""
    paid = db.stream("paid", Paid)
    paid.append(1, Paid(Cash(), Address("s", Point(0.5, datetime(2000, 1, 1, tzinfo=UTC), Color.RED), City("x", 1))))
    with pytest.raises(varve.ColumnConflict, match=r"'by' holds a union of events.*address") as caught:
        paid.reader().to_arrow()
    assert caught.value.type_names == ("arrow.Paid",)
    assert paid.reader().to_arrow(["address.city.zip"]).read_all().to_pylist() == [{"address.city.zip": 1}]
    with pytest.raises(varve.ColumnConflict, match=r"'children' holds an event that can hold itself.*value"):
        db.stream("trees", Tree).reader().to_arrow()
    ids: Any = db.stream("sales", Sale)
    ids.append(1, Sale(1, "a"))
    assert ids.reader().to_arrow(["$stream_id"]).schema.field(0).type == pa.uint64()
    ids.append("one", Sale(1, "a"))
    with pytest.raises(varve.ColumnConflict, match="several kinds") as caught:
        ids.reader().to_arrow(["$stream_id"])
    assert caught.value.column == "$stream_id"
    assert db.stats().readers == 0  # whoever keeps the error keeps no snapshot
    assert ids.reader().to_arrow(["$stream_id"], "one").read_all().to_pylist() == [{"$stream_id": "one"}]
    for size in (0, -1, 1.5, True, None):
        with pytest.raises(varve.InvalidInput, match="batch_size"):
            ids.reader().to_arrow(batch_size=size)


def test_the_c_stream(db: varve.Varve) -> None:
    """The protocol gives what to_arrow gives; a requested schema chooses and casts."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, sales(10))
    reader = stream.reader()
    whole = pa.RecordBatchReader.from_stream(reader).read_all()
    assert whole == reader.to_arrow().read_all()
    wanted = pa.schema([pa.field("number", pa.int64())])
    chosen = pa.RecordBatchReader.from_stream(reader, schema=wanted).read_all()
    assert chosen.schema == wanted
    assert chosen.column("number").to_pylist() == list(range(10))


def test_errors_keep_their_type(db: varve.Varve) -> None:
    """What reading raises comes through pyarrow as it is."""
    db.stream("sales", Sale | Refund).append(1, Refund(1, "r"))
    with pytest.raises(varve.UnexpectedEventType):
        db.stream("sales", Sale).reader().to_arrow().read_all()
    unknown = db.stream("sales", Sale).reader(unknown="event").to_arrow().read_all().to_pylist()
    assert unknown == [{"$type": "arrow.Refund", "number": None, "product": None, "amount": None}]


def test_polars_pandas_and_duckdb_read_a_stream(db: varve.Varve) -> None:
    """Each by the protocol, without a copy of ours."""
    pandas, polars, duckdb = map(pytest.importorskip, ("pandas", "polars", "duckdb"))
    stream = db.stream("sales", Sale)
    stream.append_batch(1, sales(3_000))
    reader = stream.reader()
    frame = polars.DataFrame(reader)
    assert frame["amount"].sum() == sum(n for n in range(3_000) if n % 4)
    assert pandas.DataFrame.from_arrow(reader)["number"].sum() == sum(range(3_000))
    [(count, total)] = duckdb.sql("SELECT count(*), sum(amount) FROM reader").fetchall()
    assert (count, total) == (3_000, sum(n for n in range(3_000) if n % 4))


@varve.event
class Recording:
    name: str
    raw: bytes
    samples: list[varve.i16]
    levels: list[varve.f64]
    flags: list[bool]
    colors: list[Color] | None = None


@pytest.mark.parametrize("size", [3, 1_000])
def test_long_strings_and_vectors(db: varve.Varve, size: int) -> None:
    """Found item by item, or copied one by one: the same values, among shorter and absent ones."""
    stream = db.stream("recordings", Recording)
    for number in range(20):
        length = size * (number % 3)
        values = [(number * item) % 251 for item in range(length)]
        stream.append(
            1,
            Recording(
                "ä" * length,
                bytes(values),
                [-value for value in values],
                [value / 4 for value in values],
                [value % 2 == 0 for value in values],
                [Color(1 + value % 2) for value in values] if number % 2 else None,
            ),
        )
    for row, recorded in zip(
        stream.reader().to_arrow().read_all().to_pylist(), stream.reader().iter_all(), strict=True
    ):
        event = varve.owned(recorded.event)
        assert row == {
            "name": event.name,
            "raw": event.raw,
            "samples": list(event.samples),
            "levels": list(event.levels),
            "flags": list(event.flags),
            "colors": None if event.colors is None else list(event.colors),
        }


def test_large_strings_take_no_memory_item_by_item(db: varve.Varve) -> None:
    """A batch of them takes a small multiple of its own size."""
    stream = db.stream("recordings", Recording)
    size = 1 << 22
    stream.append(1, Recording("", bytes(size), [7] * (size // 2), [], []))
    tracemalloc.start()
    try:
        table = stream.reader().to_arrow(["raw", "samples"]).read_all()
        assert tracemalloc.get_traced_memory()[1] < 8 * size
    finally:
        tracemalloc.stop()
    assert table["raw"][0].as_buffer().size == size
