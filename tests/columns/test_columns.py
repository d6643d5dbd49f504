"""``reader.columns``: what arrays are of, where they come from, and what is refused."""

from __future__ import annotations

import gc
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import flatbuffers
import numpy as np
import pytest
from column_models import BESIDE, City, Color, Sale, by_columns, by_iterator
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import varve
from varve.codec import event_type
from varve.columns import frames, read, walk


@varve.event(name="columns.Refund")
class Refund:
    number: varve.u64
    reason: str


@varve.event(name="columns.Odd")
class Odd:
    number: str


@varve.event(name="columns.Foreign")
class Foreign:
    small: varve.u8 = 3
    big: varve.u64 = 5
    ratio: float = 0.5
    text: str = "none"
    maybe: varve.i16 | None = None
    color: Color = Color.BLUE
    key: UUID = UUID(int=7)
    at: datetime = datetime(1999, 1, 1, tzinfo=UTC)
    city: City = City("x", 1)
    numbers: tuple[varve.u16, ...] = ()


@pytest.fixture
def db(varve_path: Path) -> Any:
    with varve.open(varve_path, durability="relaxed") as store:
        yield store


def sales(count: int, start: int = 0) -> list[Sale]:
    return [Sale(number, number % 100, paid=number % 3 == 0) for number in range(start, start + count)]


def test_many_whole_blocks_are_taken_together(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches of all sizes, with a block that is none like the others now and then: every event once, in order."""
    taken = []
    parsed = frames.Frames.parsed

    def seen(self: Any, *args: Any) -> Any:
        found = parsed(self, *args)
        taken.append(0 if found is None else found.count)
        return found

    monkeypatch.setattr(frames.Frames, "parsed", seen)
    stream = db.stream("sales", Sale | Refund)
    at = 0
    for count in (5, 12_000, 300, 7_000, 1, 9_000):
        stream.append_batch(1, sales(count, at), metadata={"n": count} if count == 300 else None)
        at += count
        stream.append(2, Refund(at, "r" * (at % 40)))
        at += 1
    names = ["number", "amount", "paid", "reason", *BESIDE]
    reader = stream.reader()
    for start, stop in ((0, None), (1, at - 1), (700, 20_000), (12_006, 12_007)):
        columns = by_columns(reader.columns(names, start=start, stop=stop))
        assert columns == by_iterator(reader.iter_all(start, stop), names)
    assert by_columns(reader.columns(names, 1)) == by_iterator(reader.iter_stream(1), names)
    assert max(taken) > 4
    assert reader.columns(["number"])["number"].tolist() == list(range(at))


def test_interleaved_streams_are_taken_together(db: varve.Varve) -> None:
    """Runs of one event."""
    stream = db.stream("sales", Sale)
    for _ in range(5):
        stream.append_many([(f"s{number % 97}", sale) for number, sale in enumerate(sales(1_500))])
    names = ["number", "paid", *BESIDE]
    assert by_columns(stream.reader().columns(names)) == by_iterator(stream.reader().iter_all(), names)
    assert by_columns(stream.reader().columns(names, "s3", 2, 40)) == by_iterator(
        stream.reader().iter_stream("s3", 2, 40), names
    )


def test_types_of_arrays(db: varve.Varve) -> None:
    """Declared widths; masked where there may be no value; empty ones too."""
    stream = db.stream("foreign", Foreign)
    names = ["small", "big", "ratio", "text", "maybe", "color", "key", "at", "city", "city.zip", "numbers"]
    for _ in range(2):
        made = stream.reader().columns(names)
        assert [made[name].dtype.str for name in names] == (
            ["|u1", "<u8", "<f8", "|O", "<i2", "<i4", "|V16", "<M8[ns]", "|O", "<u4", "|O"]
        )
        assert [name for name in names if isinstance(made[name], np.ma.MaskedArray)] == ["maybe"]
        assert all(array.flags.writeable for array in made.values())
        stream.append(1, Foreign(numbers=(1, 2)))
    assert made["numbers"][0].dtype == np.uint16
    assert made["city"][0] == City("x", 1)
    assert type(made["city"][0]) is City


def test_a_field_that_a_type_lacks_is_masked_there(db: varve.Varve) -> None:
    """Numbers are masked, objects None; a column that every type has is a plain array."""
    stream = db.stream("sales", Sale | Refund)
    stream.append_many([(1, Sale(1, 2)), (1, Refund(3, "r")), (2, Sale(4, 5))])
    made = stream.reader().columns(["number", "amount", "reason", "$type", "$stream_id"])
    assert made["number"].tolist() == [1, 3, 4]
    assert not isinstance(made["number"], np.ma.MaskedArray)
    assert made["amount"].tolist() == [2, None, 5]
    assert made["amount"].sum() == 7
    assert made["reason"].tolist() == [None, "r", None]
    assert made["$type"].tolist() == ["columns.Sale", "columns.Refund", "columns.Sale"]
    assert made["$stream_id"].dtype == np.uint64


def foreign_bytes(event: Foreign, order: list[int], pad: int) -> bytes:
    """The event as another writer may have it: fields in any order, defaults left out, strings anywhere."""
    builder = flatbuffers.Builder(64)
    builder.ForceDefaults(pad % 2 == 1)
    if pad % 3 == 1:
        builder.CreateString("x" * pad)  # nobody's
    text = builder.CreateString(event.text)
    builder.StartVector(2, len(event.numbers), 2)
    for number in reversed(event.numbers):
        builder.PrependUint16(number)
    numbers = builder.EndVector()
    name = builder.CreateString(event.city.name)
    builder.StartObject(3 if pad % 2 else 2)
    builder.PrependUint32Slot(1, event.city.zip, 0)
    builder.PrependUOffsetTRelativeSlot(0, name, 0)
    city = builder.EndObject()
    builder.StartObject(14 if pad % 5 == 2 else 10)
    slots = [
        lambda: builder.PrependUint8Slot(0, event.small, 3),
        lambda: builder.PrependUint64Slot(1, event.big, 5),
        lambda: builder.PrependFloat64Slot(2, event.ratio, 0.5),
        lambda: builder.PrependUOffsetTRelativeSlot(3, text, 0),
        lambda: event.maybe is None or builder.PrependInt16Slot(4, event.maybe, None),
        lambda: builder.PrependInt64Slot(5, int(event.color), int(Color.BLUE)),
        lambda: None if event.key == UUID(int=7) else prepend_key(builder, event.key),
        lambda: builder.PrependInt64Slot(7, nanoseconds(event.at), 915_148_800_000_000_000),
        lambda: builder.PrependUOffsetTRelativeSlot(8, city, 0),
        lambda: event.numbers and builder.PrependUOffsetTRelativeSlot(9, numbers, 0),
    ]
    for index in order:
        slots[index]()
    builder.Finish(builder.EndObject())
    data = bytes(builder.Output())
    return data + bytes(-len(data) % 8)


def nanoseconds(when: datetime) -> int:
    return int((when - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 10**9


def prepend_key(builder: Any, key: UUID) -> None:
    builder.Prep(1, 16)
    for byte in reversed(key.bytes):
        builder.PrependByte(byte)
    builder.PrependStructSlot(6, builder.Offset(), 0)


foreign_events = st.builds(
    Foreign,
    small=st.sampled_from([3, 0, 200]),
    big=st.sampled_from([5, 0, 2**64 - 1]),
    ratio=st.sampled_from([0.5, -1.0]),
    text=st.text(max_size=9),
    maybe=st.sampled_from([None, 0, -9]),
    color=st.sampled_from(list(Color)),
    key=st.sampled_from([UUID(int=7), UUID(int=2**127)]),
    at=st.sampled_from([datetime(1999, 1, 1, tzinfo=UTC), datetime(2020, 2, 2, tzinfo=UTC)]),
    city=st.sampled_from([City("x", 1), City("", 0)]),
    numbers=st.sampled_from([(), (1, 2, 3)]),
)


@given(st.lists(st.tuples(foreign_events, st.permutations(range(10)), st.integers(0, 9)), max_size=20))
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_events_of_other_writers(varve_path_factory: Any, written: list[Any]) -> None:
    """Any valid FlatBuffer gives what its view gives."""
    compiled = event_type(Foreign)
    packed = [foreign_bytes(event, order, pad) for event, order, pad in written]
    for one in packed:
        compiled.verify(one)
    names = [f.name for f in compiled.declaration.fields] + ["city.name", "city.zip", "city.founded"]
    with pytest.MonkeyPatch.context() as patch, varve.open(varve_path_factory(), durability="relaxed") as db:
        stream = db.stream("foreign", Foreign)
        stream.append(1, Foreign())
        foreign = {id(event): data for (event, _, _), data in zip(written, packed, strict=True)}
        assert len(foreign) == len(written)
        patch.setattr(compiled, "pack_all", lambda events: [foreign[id(event)] for event in events])
        stream.append_batch(1, [event for event, _, _ in written])
        reader = stream.reader()
        columns = reader.columns(names)
        assert by_columns(columns) == by_iterator(reader.iter_all(), names)
        assert columns["big"].tolist()[1:] == [event.big for event, _, _ in written]


@pytest.fixture
def varve_path_factory(tmp_path: Path) -> Any:
    made = iter(range(10**6))
    return lambda: tmp_path / f"store{next(made)}"


def test_unknown_types(db: varve.Varve) -> None:
    """A type that the stream does not declare is an error, or rows without values."""
    db.stream("sales", Sale | Refund).append_many([(1, Sale(1, 2)), (1, Refund(3, "r"))])
    narrow = db.stream("sales", Sale)
    with pytest.raises(varve.UnexpectedEventType) as caught:
        narrow.reader().columns(["number"])
    assert caught.value.global_sequence == 1
    made = narrow.reader(unknown="event").columns(["number", "$type", "$global_sequence"])
    assert made["number"].tolist() == [1, None]
    assert made["$type"].tolist() == ["columns.Sale", "columns.Refund"]


def test_conflicting_and_unknown_names(db: varve.Varve) -> None:
    """The error says which types differ, and which fields there are."""
    reader: Any = db.stream("sales", Sale | Odd).reader()
    with pytest.raises(varve.ColumnConflict, match=r"u64 in 'columns.Sale' and str in 'columns.Odd'") as caught:
        reader.columns(["number"])
    assert (caught.value.column, caught.value.type_names) == ("number", ("columns.Sale", "columns.Odd"))
    for bad, message in (
        (["nowhere"], "has a field 'nowhere'"),
        (["amount.x"], r"amount\.x"),
        (["$sequence"], "beside an event are"),
        ("amount", "a list of names"),
        (None, r"a list of names"),
        ([1], "a column's name is a str"),
        ([], "at least one"),
    ):
        with pytest.raises(varve.InvalidInput, match=message):
            reader.columns(bad)
    with pytest.raises(varve.InvalidInput):
        reader.columns(["amount"], start=-1)
    with pytest.raises(varve.InvalidStreamId):
        reader.columns(["amount"], stream_id=True)


def test_nothing_is_held_afterwards(db: varve.Varve) -> None:
    """Arrays own their memory; an error that is kept holds no snapshot either."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, sales(5_000))
    made = stream.reader().columns(["number", "$stream_id", "$time"])
    with pytest.raises(varve.UnexpectedEventType) as caught:
        db.stream("sales", Refund).reader().columns(["number"])
    gc.collect()
    assert db.stats().snapshots == ()
    db.close()
    assert made["number"].sum() == sum(range(5_000))
    assert caught.value.stream == "sales"


def test_arrays_are_as_long_as_they_say(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Filled in place, and cut where there was too much room: no memory behind them is kept."""
    monkeypatch.setattr(read, "FIRST_ROWS", 1_000)
    stream, other = db.stream("sales", Sale), db.stream("others", Refund)
    for at in range(0, 6_000, 2_000):
        stream.append_batch(1, sales(2_000, at))
        other.append_batch(1, [Refund(number, "") for number in range(2_000)])
    for made in (stream.reader().columns(["number", "$time"]), stream.reader().columns(["number", "$time"], 1)):
        assert made["number"].tolist() == list(range(6_000))
        assert made["$time"].tolist() == sorted(made["$time"].tolist())
        assert [array.base for array in made.values()] == [None, None]


def test_a_rotten_block_gives_nothing(tmp_path: Path) -> None:
    """The checksum is looked at before anything of a block is returned."""
    varve_path = tmp_path / "rotten"
    with varve.open(varve_path) as db:
        db.stream("sales", Sale).append_batch(1, sales(5_000))
    file = varve_path / "data.mdb"
    data = bytearray(file.read_bytes())
    at = data.index((4_321).to_bytes(8, "little"))
    data[at] ^= 1
    file.write_bytes(data)
    with varve.open(varve_path, readonly=True) as db:
        reader = db.stream("sales", Sale).reader()
        with pytest.raises(varve.CorruptedBlock) as caught:
            reader.columns(["number"])
        good = caught.value.first_sequence
        assert reader.columns(["number"], stop=good)["number"].tolist() == list(range(good))


def test_a_missing_extra_is_named(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What to install stands in the error."""
    reader = db.stream("sales", Sale).reader()
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(varve.MissingExtra, match=r"pip install 'varve-store\[columns\]'") as caught:
        reader.columns(["number"])
    assert isinstance(caught.value, ImportError)
    assert (caught.value.extra, caught.value.package) == ("columns", "numpy")
    with pytest.raises(varve.MissingExtra, match=r"pip install 'varve-store\[arrow\]'"):
        reader.to_arrow()


def test_the_whole_log(db: varve.Varve) -> None:
    """A replay's columns, of events of several streams and of classes that nobody has bound."""
    db.stream("sales", Sale).append_batch("a", sales(3))
    db.stream("refunds", Refund).append(UUID(int=4), Refund(9, "r"))
    replay = db.global_reader()
    names = ["number", "reason", *BESIDE]
    assert by_columns(replay.columns(names)) == by_iterator(replay.iter_from(), names)
    assert by_columns(replay.columns(names, 1, 3)) == by_iterator(replay.iter_from(1, 3), names)
    only = replay.columns(names, streams=["refunds"])
    assert by_columns(only) == by_iterator(replay.iter_from(streams=["refunds"]), names)
    only = replay.columns(["number", "paid"], types=[Sale])
    assert only["paid"].tolist() == [True, False, False]
    assert replay.columns(["number"], stop=0)["number"].dtype == np.uint64
    assert replay.columns(["reason", "paid"], stop=1)["reason"].tolist() == [None]
    with pytest.raises(varve.InvalidInput, match="nowhere"):
        replay.columns(["nowhere"])


def test_upcast_events_come_as_what_they_became(db: varve.Varve) -> None:
    """Events of an old type beside those that are what the stream declares, whole blocks of both."""
    old: Any = varve.event(name="columns.Up.v1")(type("Up1", (), {"__annotations__": {"number": varve.u64}}))
    new: Any = varve.event(name="columns.Up.v2")(
        type("Up2", (), {"__annotations__": {"number": str, "when": datetime, "key": UUID, "maybe": varve.u8 | None}})
    )
    when = datetime(2020, 1, 1, tzinfo=UTC)

    @varve.upcast(old, new)
    def _(event: Any) -> Any:
        return new(f"#{event.number}", when, UUID(int=event.number), None if event.number % 2 else 1)

    db.stream("up", old).append_batch(1, [old(number) for number in range(2_000)])
    stream = db.stream("up", new)
    stream.append(1, new("now", when, UUID(int=1), 2))
    names = ["number", "when", "key", "maybe", *BESIDE]
    assert by_columns(stream.reader().columns(names)) == by_iterator(stream.reader().iter_all(), names)
    assert walk.FRAMES_EVENTS_MIN < 2_000


@pytest.mark.parametrize("owner", [99, frozenset({"others"})])
@pytest.mark.parametrize("count", [5_000, 50])
def test_an_index_that_names_another_streams_events_is_told(db: varve.Varve, owner: Any, count: int) -> None:
    """Blocks say whose events they hold, also where they are taken many at a time."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, sales(count))
    reader: Any = stream.reader()
    right = reader._column_walk(1, 0, None)
    known = [event_type(Sale)]
    assert len(read.read_columns(reader._source, right, ["number"], known)["number"]) == count
    wrong = right._replace(owner=lambda: owner)
    with pytest.raises(varve.CorruptedStore, match="index is wrong"):
        read.read_columns(reader._source, wrong, ["number"], known)
    gc.collect()
    assert db.stats().snapshots == ()


@pytest.mark.parametrize("owner", [99, frozenset({"others"})])
def test_an_index_that_is_wrong_further_on_is_told(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch, owner: Any
) -> None:
    """The same where it shows only among blocks that are taken together."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, sales(5_000))
    parsed = frames.Frames.parsed
    taken: list[Any] = []

    def later(self: Any, *args: Any) -> Any:
        if parsed(self, *args) is None:  # the type is not met yet
            return None
        self.known.identities.clear()
        self.known.begin(owner, self.known.rows_max)
        taken.append(parsed(self, *args))
        return taken[-1]

    monkeypatch.setattr(frames.Frames, "parsed", later)
    with pytest.raises(varve.CorruptedStore, match="index is wrong"):
        stream.reader().columns(["number"])
    assert taken == [None]
