"""Columns write what events would have written: the same blocks, index and metadata, byte for byte."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import IntEnum, IntFlag
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import varve
from varve.appends import StreamTypes
from varve.codec import event, event_type
from varve.codec.schema import INT_RANGES
from varve.columns.append import append_columns
from varve.engine.instant import contents
from varve.testing import ManualClock
from varve.types import f32, i8, i16, i32, i64, u8, u16, u32, u64

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Side(IntEnum):
    BUY = 1
    SELL = -2


class Marks(IntFlag):
    LATE = 1
    LARGE = 4


@varve.event
class Tick:
    order_id: u64
    quantity: u32
    amount: u64


@varve.event
class Every:
    """A field of each kind that the table itself holds, present or not."""

    flag: bool
    tiny: i8
    small: i16
    medium: i32
    large: i64
    u_tiny: u8
    u_small: u16
    u_medium: u32
    u_large: u64
    single: f32
    double: float
    side: Side
    marks: Marks
    at: datetime
    ident: UUID
    maybe: u16 | None
    maybe_at: datetime | None
    maybe_id: UUID | None
    maybe_side: Side | None
    factor: float = 1.5
    note: u8 | None = None


@varve.event
class Order:
    """Strings make events differ in size."""

    number: u32
    product: str
    blob: bytes = b""
    sizes: list[u16] = dataclasses.field(default_factory=list)
    at: datetime | None = None


DATETIMES = st.integers(-(2**63) // 1000 + 1, (2**63 - 1) // 1000).map(lambda us: EPOCH + timedelta(microseconds=us))

VALUES: dict[Any, st.SearchStrategy[Any]] = {
    bool: st.booleans(),
    float: st.floats(),
    f32: st.floats(width=32),
    Side: st.sampled_from(Side),
    Marks: st.sampled_from(Marks),
    datetime: DATETIMES,
    UUID: st.uuids(),
    **{
        {"u8": u8, "u16": u16, "u32": u32, "u64": u64, "i8": i8, "i16": i16, "i32": i32, "i64": i64}[tag]: st.integers(
            low, high
        )
        for tag, (low, high) in INT_RANGES.items()
    },
}


def as_array(kind: Any, values: list[Any]) -> Any:
    """A column of one kind as an array of numpy's, where it has one."""
    if kind is UUID:
        return np.frombuffer(b"".join(value.bytes for value in values), "V16")
    if kind is datetime:
        return np.array([(value - EPOCH) // timedelta(microseconds=1) for value in values], "i8").view("M8[us]")
    dtypes = {bool: "?", float: "f8", f32: "f4", Side: "i8", Marks: "i8", u64: "u8"}
    return np.array([int(v) if isinstance(v, IntEnum | IntFlag) else v for v in values], dtypes.get(kind, "i8"))


def as_column(data: st.DataObject, kind: Any, values: list[Any]) -> Any:
    """A column in one of the forms that it can have."""
    if data.draw(st.booleans()):
        return values
    missing = [value is None for value in values]
    if not any(missing):
        return as_array(kind, values)
    filler = next((value for value in values if value is not None), None)
    if filler is None:
        return values
    filled = as_array(kind, [filler if value is None else value for value in values])
    return np.ma.MaskedArray(filled, missing)


@st.composite
def flat_classes(draw: st.DrawFn) -> tuple[type, list[Any], list[bool]]:
    """A class of fields of random kinds, in random order."""
    kinds = draw(st.lists(st.sampled_from(list(VALUES)), min_size=1, max_size=9))
    optional = draw(st.lists(st.booleans(), min_size=len(kinds), max_size=len(kinds)))
    annotations = {
        f"f{i}": (kind | None if opt else kind) for i, (kind, opt) in enumerate(zip(kinds, optional, strict=True))
    }
    cls = event(type("Drawn", (), {"__annotations__": annotations, "__module__": __name__}))
    return cls, kinds, optional


@given(flat_classes(), st.data())
@settings(deadline=None, max_examples=60)
def test_any_flat_class_gives_the_bytes_of_its_packer(
    drawn: tuple[type, list[Any], list[bool]], data: st.DataObject
) -> None:
    cls, kinds, optional = drawn
    count = data.draw(st.integers(1, 7))
    columns = []
    for kind, opt in zip(kinds, optional, strict=True):
        one = st.none() | VALUES[kind] if opt else VALUES[kind]
        columns.append(data.draw(st.lists(one, min_size=count, max_size=count)))
    compiled = event_type(cls)
    expected = [compiled.pack(cls(*values)) for values in zip(*columns, strict=True)]
    given_columns = {
        f"f{i}": as_column(data, kind, values) for i, (kind, values) in enumerate(zip(kinds, columns, strict=True))
    }
    request = append_columns(StreamTypes("drawn", [compiled]), 1, given_columns)
    assert [bytes(buf) for _, _, bufs in request.parts for buf in bufs] == expected
    assert request.payload_bytes == sum(map(len, expected))


def test_chunks_meet_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """More events than are encoded in one go, absent values among them."""
    monkeypatch.setattr("varve.columns.encode._CHUNK_BYTES", 256)

    @varve.event
    class Small:
        number: u16
        maybe: u8 | None

    numbers = list(range(1_000))
    maybes = [None if n % 3 == 0 else n % 7 for n in numbers]
    compiled = event_type(Small)
    request = append_columns(StreamTypes("s", [compiled]), 1, {"number": np.array(numbers), "maybe": maybes})
    ((_, _, events),) = request.parts
    assert list(events) == [compiled.pack(Small(*values)) for values in zip(numbers, maybes, strict=True)]


# -- whole stores ------------------------------------------------------------------------------------------------------


def ticks(start: int, count: int) -> list[Tick]:
    return [Tick(n * 7, n % 9, n * n) for n in range(start, start + count)]


def columns_of(events: list[Any]) -> dict[str, list[Any]]:
    return {f.name: [getattr(e, f.name) for e in events] for f in dataclasses.fields(events[0])}


Write = Callable[[varve.Varve, varve.Stream[Any], bool], object]


def batch(stream_id: Any, start: int, count: int, **options: Any) -> Write:
    """Ticks to one stream, as events or as columns."""

    def write(_: varve.Varve, stream: varve.Stream[Any], by_columns: bool) -> object:
        events = ticks(start, count)
        if not by_columns:
            return stream.append_batch(stream_id, events, **options)
        return stream.append_columns(stream_id, columns_of(events), **options)

    return write


def many(ids: list[Any], start: int, **options: Any) -> Write:
    """Ticks to several streams."""

    def write(_: varve.Varve, stream: varve.Stream[Any], by_columns: bool) -> object:
        events = ticks(start, len(ids))
        if not by_columns:
            return stream.append_many(list(zip(ids, events, strict=True)), **options)
        return stream.append_columns(ids, columns_of(events), **options)

    return write


def transaction(*parts: tuple[Any, int, int]) -> Write:
    """Several appends of one commit."""

    def write(db: varve.Varve, stream: varve.Stream[Any], by_columns: bool) -> object:
        with db.transaction(metadata={"by": "t"}, idempotency_key="once") as tx:
            for stream_id, start, count in parts:
                events = ticks(start, count)
                if by_columns:
                    tx.append_columns(stream, stream_id, columns_of(events), metadata={"n": count})
                else:
                    tx.append_batch(stream, stream_id, events, metadata={"n": count})
        return tx.positions

    return write


def stores_of(folder: Path, writes: list[Write]) -> list[tuple[Any, Any]]:
    """What a store holds, and what its appends gave, after the same writes by events and by columns."""
    found = []
    for by_columns in (False, True):
        clock = ManualClock()
        path = folder / f"columns-{by_columns}"
        with varve.open(path, durability="relaxed", clock=clock) as db:
            stream = db.stream("ticks", Tick)
            answers = []
            for write in writes:
                clock.advance(1)
                answers.append(write(db, stream, by_columns))
        found.append((contents(str(path)), answers))
    return found


def same(folder: Path, writes: list[Write]) -> dict[str, dict[bytes, bytes]]:
    (events, positions), (columns, others) = stores_of(folder, writes)
    assert others == positions
    assert list(columns) == list(events)
    for name in events:
        assert list(columns[name]) == list(events[name]), name
        for key, value in events[name].items():
            assert columns[name][key] == value, (name, key)
    return columns


@pytest.fixture(autouse=True)
def _one_uuid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("uuid.uuid4", lambda: UUID(int=7))


PLANS: dict[str, list[Write]] = {
    "one event": [batch(1, 0, 1)],
    "one event twice": [batch(1, 0, 1), batch(1, 1, 1)],
    "a few, then many": [batch(1, 0, 3), batch(1, 3, 5_000)],
    "many blocks at once": [batch("a", 0, 20_000), batch("b", 0, 2_500), batch("a", 20_000, 744)],
    "every way that blocks can end": [batch(1, 0, n) for n in (742, 743, 744, 745, 1_485, 1_486, 1_487)],
    "a tail that is nearly full": [batch(1, 0, 180), batch(1, 180, 2), batch(1, 182, 1_000), batch(2, 0, 5)],
    "runs of several": [many([i // 5 % 7 for i in range(4_000)], 0)],
    "interleaved": [many([i * 7 % 11 for i in range(3_000)], 0), many([i % 3 for i in range(100)], 3_000)],
    "long runs": [many([1] * 2_000 + ["x"] * 3_000 + [UUID(int=5)] * 10 + [1] * 2_000, 0)],
    "with metadata": [batch(1, 0, 3_000, metadata={"a": 1}), batch(1, 3_000, 2_000, metadata={"a": 2})],
    "with a key": [batch(1, 0, 3_000, idempotency_key="k", expected=0), many([1, 2, 1], 0, idempotency_key=b"l")],
    "a retry": [batch(1, 0, 2_000, idempotency_key="k"), batch(1, 0, 2_000, idempotency_key="k")],
    "a transaction": [batch(1, 0, 5), transaction((1, 5, 1_500), (2, 0, 1), (1, 1_505, 2_000)), batch(2, 1, 3)],
    "nothing": [
        batch(1, 0, 1),
        lambda _, s, c: (
            s.append_columns(1, {f: [] for f in ("order_id", "quantity", "amount")}) if c else s.append_batch(1, [])
        ),
    ],
}


@pytest.mark.parametrize("name", PLANS)
def test_stores_are_equal_pair_by_pair(name: str, tmp_path: Path) -> None:
    """Positions too; the first commit of a store among them."""
    pairs = same(tmp_path, PLANS[name])
    assert pairs["log"]


@given(st.data())
@settings(deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_appends_in_any_order(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    sizes = st.integers(1, 30) | st.integers(700, 800) | st.integers(1_400, 1_600)
    writes: list[Write] = []
    for _ in range(data.draw(st.integers(1, 5))):
        start = data.draw(st.integers(0, 10))
        if data.draw(st.booleans()):
            options = data.draw(st.sampled_from([{}, {"metadata": {"a": 1}}]))
            writes.append(batch(data.draw(st.integers(0, 2)), start, data.draw(sizes), **options))
        else:
            runs = data.draw(st.lists(st.tuples(st.integers(0, 3), sizes), min_size=1, max_size=4))
            writes.append(many([i for i, n in runs for _ in range(n)], start))
    same(tmp_path_factory.mktemp("any"), writes)


def test_the_store_can_be_repaired_to_the_same(tmp_path: Path) -> None:
    """What the log says of such events is enough to make the index and the metadata anew."""
    from varve import ops

    path = tmp_path / "s"
    with varve.open(path, durability="relaxed") as db:
        stream = db.stream("ticks", Tick)
        stream.append_columns(1, columns_of(ticks(0, 5_000)))
        stream.append_columns([n % 3 for n in range(500)], columns_of(ticks(0, 500)), idempotency_key="k")
    assert not ops.verify(path).findings


# -- forms -------------------------------------------------------------------------------------------------------------


def test_rows_of_every_kind_come_back(tmp_path: Path) -> None:
    """Through arrays, lists and defaults, into events that equal those made one by one."""
    data = [
        Every(
            n % 2 == 0, -n, n, -n, n, n, n, n, n, n / 2, n / 3, Side.BUY, Marks.LATE | Marks.LARGE,
            EPOCH + timedelta(days=n, microseconds=n), UUID(int=n), n or None, None, UUID(int=n) if n % 2 else None, Side.SELL,
        )
        for n in range(5)
    ]  # fmt: skip
    columns = columns_of(data)
    del columns["factor"], columns["note"]
    with varve.open(tmp_path / "s", durability="relaxed") as db:
        stream = db.stream("every", Every)
        span = stream.append_columns("x", columns)
        assert len(span) == 5
        assert span[4].stream_sequence == 4
        assert [r.event for r in stream.reader().iter_stream("x")] == data


def test_events_that_differ_in_size(tmp_path: Path) -> None:
    """Strings, bytes, vectors and what is absent: row by row, in any form."""
    events = [Order(n, "ä" * n, bytes(n), list(range(n)), None if n % 2 else EPOCH) for n in range(50)]
    columns: dict[str, Any] = columns_of(events)
    columns["number"] = np.arange(50, dtype=">u2")
    columns["product"] = np.array(columns["product"])
    columns["at"] = np.array(["NaT" if n % 2 else "1970-01-01" for n in range(50)], "M8[s]")
    with varve.open(tmp_path / "s", durability="relaxed") as db:
        stream = db.stream("orders", Order)
        ids = [n % 4 for n in range(50)]
        stream.append_columns(ids, columns)
        assert [r.event for r in stream.reader().iter_all()] == events
        assert [r.stream_id for r in stream.reader().iter_all()] == ids
        stream.append_columns(9, {"number": [1, 2], "product": ["a", "b"]})
        assert [r.event for r in stream.reader().iter_stream(9)] == [Order(1, "a"), Order(2, "b")]


def test_matrices_are_vectors() -> None:
    @varve.event
    class Sample:
        at: u32
        values: list[f32]

    compiled = event_type(Sample)
    matrix = np.arange(12, dtype="f4").reshape(4, 3)
    request = append_columns(StreamTypes("s", [compiled]), 1, {"at": range(4), "values": matrix})
    assert list(request.parts[0][2]) == [compiled.pack(Sample(n, matrix[n])) for n in range(4)]


def test_nested_events_come_as_events_or_as_mappings() -> None:
    @varve.struct
    class Point:
        x: float

    @varve.event
    class Leg:
        to: str
        where: Point

    @varve.event
    class Trip:
        first: Leg
        others: list[Leg]

    compiled = event_type(Trip)
    legs = [Leg("a", Point(1.0)), Leg("b", Point(2.0))]
    spelled = [{"to": "a", "where": {"x": 1.0}}, {"to": "b", "where": Point(2.0)}]
    types = StreamTypes("s", [compiled])
    expected = [compiled.pack(Trip(legs[0], legs)), compiled.pack(Trip(legs[1], []))]
    for columns in ({"first": legs, "others": [legs, []]}, {"first": spelled, "others": [spelled, []]}):
        assert list(append_columns(types, 1, columns).parts[0][2]) == expected
    with pytest.raises(varve.EventEncodingError, match=r"Trip.first must be a Leg, or a mapping .* in row 1"):
        append_columns(types, 1, {"first": [legs[0], {"from": "b"}], "others": [[], []]})


def test_a_class_with_code_of_its_own_runs_it(tmp_path: Path) -> None:
    """Nothing that a constructor refuses gets into the store by another door."""

    @varve.event
    class Positive:
        value: varve.i32

        def __post_init__(self) -> None:
            if self.value <= 0:
                raise ValueError("not positive")

    with varve.open(tmp_path / "s", durability="relaxed") as db:
        stream = db.stream("p", Positive)
        stream.append_columns(1, {"value": np.array([3, 4])})
        with pytest.raises(ValueError, match="not positive") as caught:
            stream.append_columns(1, {"value": np.array([3, 4, -1])})
        assert caught.value.__notes__ == ["it was made of row 2; nothing was written"]
        assert stream.reader().length(1) == 2


@pytest.mark.parametrize(
    "ids",
    [
        np.array([3, 3, 1], "i4"),
        np.array([3, 3, 1], "u8"),
        [3, 3, 1],
        (3, 3, 1),
        [np.int64(3).item(), 3, 1],
        np.array([3, 3, 1], object),
        range(3, 6),
        np.array(["a", "a", "b"]),
        ["a", "1", 1],
        [UUID(int=1), UUID(int=1), "x"],
        np.ma.MaskedArray([1, 1, 2], [False] * 3),
    ],
    ids=range(11),
)
def test_ids_in_every_form(ids: Any) -> None:
    types = StreamTypes("s", [event_type(Tick)])
    parts = append_columns(types, ids, columns_of(ticks(0, 3))).parts
    found = [key for key, _, bufs in parts for _ in bufs]
    from varve.layout.keys import encode_stream_id

    assert found == [encode_stream_id(i.item() if isinstance(i, np.generic) else i) for i in ids]
    assert all(a != b for (a, _, _), (b, _, _) in itertools.pairwise(parts))


async def _async(path: Path) -> list[Tick]:
    with varve.open(path, durability="relaxed") as db:
        stream = db.stream("ticks", Tick)
        numbers = np.arange(2_000, dtype="u8")
        columns = {"order_id": numbers, "quantity": numbers, "amount": numbers}
        waiting = stream.append_columns_async(1, columns)
        span = await waiting
        numbers[:] = 0
        assert len(span) == 2_000
        assert not await stream.append_columns_async(1, {name: [] for name in columns})
        return [varve.owned(r.event) for r in stream.reader().iter_stream(1)]


def test_async(tmp_path: Path) -> None:
    import asyncio

    assert asyncio.run(_async(tmp_path / "s")) == [Tick(n, n, n) for n in range(2_000)]


def test_a_stream_of_several_types(tmp_path: Path) -> None:
    with varve.open(tmp_path / "s", durability="relaxed") as db:
        stream = db.stream("mixed", Tick | Order)
        stream.append_columns(1, columns_of(ticks(0, 3)), type=Tick)
        stream.append_columns(1, {"number": [1], "product": ["x"]}, type=Order)
        assert [r.event for r in stream.reader().iter_stream(1)] == [*ticks(0, 3), Order(1, "x")]
        for bad, error in ((None, varve.InvalidInput), (Every, varve.EventTypeError), ("Tick", varve.EventTypeError)):
            with pytest.raises(error, match=r"Tick \| Order"):
                stream.append_columns(1, columns_of(ticks(0, 3)), type=bad)


def test_watchers_wake_and_a_write_transaction_counts(tmp_path: Path) -> None:
    with varve.open(tmp_path / "s", durability="relaxed") as db:
        stream = db.stream("ticks", Tick)

        def fn(tx: varve.WriteTransaction) -> int:
            tx.append_columns(stream, 1, columns_of(ticks(0, 1_000)))
            return tx.length(stream, 1)

        assert db.write(fn) == 1_000
        got = []
        for recorded in stream.follow(timeout_s=0):
            got.append(recorded.global_sequence)
            if len(got) == 1_000:
                break
        assert got == list(range(1_000))


def test_classes_without_fields_need_ids() -> None:
    @varve.event
    class Beat:
        pass

    compiled = event_type(Beat)
    types = StreamTypes("s", [compiled])
    parts = append_columns(types, [1, 1, 2], {}).parts
    assert [(key[-1], list(bufs)) for key, _, bufs in parts] == [
        (1, [compiled.pack(Beat())] * 2),
        (2, [compiled.pack(Beat())]),
    ]
    with pytest.raises(varve.InvalidInput, match="how many events"):
        append_columns(types, 1, {})


@varve.event
class Row:
    """The kinds of a flat class, and a string."""

    text: str
    count: u16
    price: float
    side: Side
    at: datetime
    ident: UUID
    maybe: u16 | None
    note: str | None
    other: Side | None = None
    extra: list[u8] = dataclasses.field(default_factory=list)


def test_arrays_for_a_class_of_rows() -> None:
    """Arrays, masks and numbers without a member come to the values that a single event would take."""
    count = 6
    idents = [UUID(int=n) for n in range(count)]
    times = np.arange(count) * 1_500  # nanoseconds, cut
    columns = {
        "text": np.ma.MaskedArray([str(n) for n in range(count)], [False] * count),
        "count": np.arange(count, dtype="u1"),
        "price": np.arange(count, dtype="i2"),
        "side": np.array([1, -2, 77, 1, 1, 1]),
        "at": times.view("M8[ns]"),
        "ident": as_array(UUID, idents),
        "maybe": np.ma.MaskedArray(np.arange(count), [True, False, True, False, False, False]),
        "note": np.ma.MaskedArray(np.array(list("abcdef")), [False, True] * 3),
        "other": np.ma.MaskedArray(np.array([1, 1, 1, -2, 1, 5]), [True] + [False] * 5),
    }
    members: list[Any] = [Side.BUY, Side.SELL, 77, Side.BUY, Side.BUY, Side.BUY]
    others: list[Any] = [None, Side.BUY, Side.BUY, Side.SELL, Side.BUY, 5]
    compiled = event_type(Row)
    expected = [
        compiled.pack(
            Row(
                str(n), n, float(n), members[n], EPOCH + timedelta(microseconds=n * 1_500 // 1_000), idents[n],
                None if n in {0, 2} else n, None if n % 2 else "abcdef"[n], others[n],
            )
        )
        for n in range(count)
    ]  # fmt: skip
    assert list(append_columns(StreamTypes("rows", [compiled]), 1, columns).parts[0][2]) == expected


def test_columns_in_other_forms() -> None:
    """What is neither an array nor a list: deques, arrays of the standard library, memoryviews, missing values of pandas'."""
    import array
    import collections

    import pandas as pd

    @varve.event
    class Point:
        x: float
        y: u8
        z: i32 | None
        at: datetime | None = None

    compiled = event_type(Point)
    types = StreamTypes("p", [compiled])
    expected = [compiled.pack(Point(float(n), n, None if n == 1 else n)) for n in range(3)]
    forms: list[dict[str, Any]] = [
        {"x": array.array("f", range(3)), "y": memoryview(bytes(range(3))), "z": [0, pd.NA, 2]},
        {"x": np.arange(3, dtype="i1"), "y": collections.deque(range(3)), "z": pd.Series([0, None, 2], dtype="Int64")},
        {"x": np.arange(3, dtype="i8"), "y": range(3), "z": np.array([0, None, 2], object), "at": [pd.NaT] * 3},
        {
            "x": np.arange(3, dtype="f2"),
            "y": np.arange(3, dtype=">u8"),
            "z": np.ma.MaskedArray([0, 9**9, 2], [0, 1, 0]),
        },
        {
            "x": [np.float32(0), 1, 2.0],
            "y": (0, np.uint64(1), 2),
            "z": np.ma.MaskedArray([0, None, 2], [0, 1, 0], object),
        },
    ]
    for columns in forms:
        assert list(append_columns(types, 1, columns).parts[0][2]) == expected, columns


def test_defaults_that_are_made_anew() -> None:
    @varve.event
    class Made:
        number: u8
        ident: UUID = dataclasses.field(default_factory=lambda: next(idents))

    idents = iter(map(UUID, [f"{n:032x}" for n in range(10)]))
    compiled = event_type(Made)
    made = append_columns(StreamTypes("m", [compiled]), 1, {"number": [1, 2]}).parts[0][2]
    assert list(made) == [compiled.pack(Made(n + 1, UUID(int=n))) for n in range(2)]


def test_keyword_only_fields() -> None:
    @varve.event
    class Named:
        text: str
        _: dataclasses.KW_ONLY
        number: u8 = 3

    compiled = event_type(Named)
    types = StreamTypes("n", [compiled])
    for columns in ({"number": [1, 2], "text": ["a", "b"]}, {"text": ["a", "b"], "number": [1, 2]}):
        assert list(append_columns(types, 1, columns).parts[0][2]) == [
            compiled.pack(Named("a", number=1)),
            compiled.pack(Named("b", number=2)),
        ]


def test_no_rows_at_all(tmp_path: Path) -> None:
    """Whatever an empty array says that it is an array of."""
    with varve.open(tmp_path / "s", durability="relaxed") as db:
        for cls in (Tick, Row):
            stream = db.stream(cls.__name__, cls)
            columns = {f.name: np.array([]) for f in dataclasses.fields(cls)}
            for ids in (1, [], np.array([], "i8"), np.array([])):
                assert not stream.append_columns(ids, columns)
        assert db.next_global_sequence == 0


def test_parts_of_a_microsecond_are_cut_as_single_events_cut_them() -> None:
    """Towards the past, before 1970 too: pandas' timestamps know nanoseconds and show what a single event makes of them."""
    import pandas as pd

    @varve.event
    class Moment:
        at: datetime

    compiled = event_type(Moment)
    types = StreamTypes("m", [compiled])
    nanos = [-1, 1, -1_000, -1_001, 999, 1_999, 1_700_000_000_123_456_789, -(2**62) - 3]
    expected = [compiled.pack(Moment(pd.Timestamp(n, tz="UTC"))) for n in nanos]
    forms: list[Any] = [
        np.array(nanos).view("M8[ns]"),
        [pd.Timestamp(n, tz="UTC") for n in nanos],
        pd.Series(nanos).astype("datetime64[ns, Europe/Berlin]"),
    ]
    for column in forms:
        assert list(append_columns(types, 1, {"at": column}).parts[0][2]) == expected
    coarse = np.array([-1, 5], "i8")
    for unit, size in (("W", 604_800), ("D", 86_400), ("h", 3_600), ("m", 60), ("s", 1)):
        made = append_columns(types, 1, {"at": coarse.view(f"M8[{unit}]")}).parts[0][2]
        assert list(made) == [compiled.pack(Moment(EPOCH + timedelta(seconds=size * n))) for n in (-1, 5)]
    fine = np.array([-1, 10**12 + 1], "i8").view("M8[ps]")
    made = append_columns(types, 1, {"at": fine}).parts[0][2]
    assert list(made) == [compiled.pack(Moment(EPOCH + timedelta(microseconds=n))) for n in (-1, 10**6)]
