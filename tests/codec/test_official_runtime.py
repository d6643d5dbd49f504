"""The official FlatBuffers runtime reads what we write, and we read what it writes."""

from __future__ import annotations

from typing import Any

import flatbuffers
import flatbuffers.number_types as numbers
import pytest
from codec_models import FLAGS, Cash, Everything, Line, Numbers, OrderPlaced, Tree, everything, plain
from flatbuffers.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from varve.codec import event, event_type
from varve.errors import MalformedEvent
from varve.types import u8, u32, u64


def root(data: bytes) -> Table:
    return Table(bytearray(data), int.from_bytes(data[:4], "little"))


def entry(index: int) -> int:
    return 4 + 2 * index


# -- they read ours --------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**64 - 1), st.text(), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1))
@settings(deadline=None)
def test_the_official_runtime_reads_a_small_event(order_id: int, product: str, quantity: int, amount: int) -> None:
    """Every field of an OrderPlaced is where the official accessors look for it."""
    table = root(event_type(OrderPlaced).pack(OrderPlaced(order_id, product, quantity, amount)))
    assert table.GetSlot(entry(0), 0, numbers.Uint64Flags) == order_id
    assert table.String(table.Pos + table.Offset(entry(1))).decode() == product
    assert table.GetSlot(entry(2), 0, numbers.Uint32Flags) == quantity
    assert table.GetSlot(entry(3), 0, numbers.Uint64Flags) == amount


def test_the_official_runtime_reads_every_number() -> None:
    """Each width stands aligned at the offset its vtable entry gives."""
    one = Numbers(1, 2, 3, 4, -5, -6, -7, -8, 9, 1.5, 0.25, True)
    table = root(event_type(Numbers).pack(one))
    for index, f in enumerate(event_type(Numbers).declaration.fields):
        flags = FLAGS[f.kind.tag]
        assert table.GetSlot(entry(index), 0, flags) == getattr(one, f.name)
        assert (table.Pos + table.Offset(entry(index))) % flags.bytewidth == 0


def ids(cls: Any) -> dict[str, int]:
    out, at = {}, 0
    for f in event_type(cls).declaration.fields:
        at += f.kind.tag == "union"
        out[f.name] = at
        at += 1
    return out


def test_the_official_runtime_reads_nested_parts() -> None:
    """Vectors, nested tables, unions, structs and optionals of one large event."""
    one = everything(maybe_int=5)
    data = event_type(Everything).pack(one)
    table, field = root(data), ids(Everything)

    def offset(name: str, of: Table = table) -> int:
        return int(of.Offset(entry(field[name])))

    def vector(name: str) -> tuple[int, int]:
        return table.Vector(offset(name)), table.VectorLen(offset(name))

    start, count = vector("numbers")
    assert start % 8 == 0
    assert [table.Get(numbers.Uint64Flags, start + 8 * i) for i in range(count)] == list(one.numbers)
    start, count = vector("texts")
    assert [table.String(start + 4 * i).decode() for i in range(count)] == list(one.texts)
    start, count = vector("lines")
    for i in range(count):
        line = Table(table.Bytes, table.Indirect(start + 4 * i))
        assert line.String(line.Pos + line.Offset(entry(0))).decode() == one.lines[i].sku
        assert (line.Pos + line.Offset(entry(2))) % 8 == 0
        assert line.GetSlot(entry(2), 0, numbers.Uint64Flags) == one.lines[i].price
    start, count = vector("blobs")
    item = Table(table.Bytes, table.Indirect(start + 4))
    assert item.VectorLen(item.Offset(entry(0))) == len(one.blobs[1])
    assert table.GetSlot(entry(field["payment"] - 1), 0, numbers.Uint8Flags) == 1
    card = Table(table.Bytes, 0)
    table.Union(card, offset("payment"))
    assert card.String(card.Pos + card.Offset(entry(0))) == b"4711"
    assert offset("refund") == offset("maybe_text") == 0
    assert table.GetSlot(entry(field["maybe_int"]), 0, numbers.Int32Flags) == 5
    assert (table.Pos + offset("box")) % 8 == 0
    assert table.Get(numbers.Float64Flags, table.Pos + offset("box") + 16) == one.box.low.y


# -- we read theirs --------------------------------------------------------------------------------------------------


def check(cls: Any, data: bytes, want: Any) -> None:
    """Read at once, from an offset, field by field, and after verification."""
    compiled = event_type(cls)
    compiled.verify(data)
    data += bytes(-len(data) % 8)
    for view in (compiled.view(data), compiled.view(b"\xaa" * 8 + data, 8)):
        assert view == want
        for f in compiled.declaration.fields:
            assert plain(getattr(compiled.view(data), f.name)) == getattr(want, f.name)
        assert compiled.pack(view) == compiled.pack(want)


def order(skip: tuple[str, ...] = (), ids: int = 4, reverse: bool = False) -> bytes:
    builder = flatbuffers.Builder(0)
    name = builder.CreateString("Laptop")
    builder.StartObject(ids)
    slots = [
        ("order_id", lambda: builder.PrependUint64Slot(0, 12345, 0)),
        ("product", lambda: builder.PrependUOffsetTRelativeSlot(1, name, 0)),
        ("quantity", lambda: builder.PrependUint32Slot(2, 1, 0)),
        ("amount", lambda: builder.PrependUint64Slot(3, 99900, 0)),
    ]
    for label, put in reversed(slots) if reverse else slots:
        if label not in skip:
            put()
    if ids > 4:
        builder.PrependUint64Slot(4, 1, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("ids", [4, 5, 9])
def test_other_table_layouts_read_the_same(reverse: bool, ids: int) -> None:
    """Other field orders, other vtables, and fields that only newer code knows."""
    check(OrderPlaced, order(ids=ids, reverse=reverse), OrderPlaced(12345, "Laptop", 1, 99900))


def test_numbers_that_other_writers_leave_out_are_zero() -> None:
    """A number equal to the .fbs default is not written by the official builder."""
    check(OrderPlaced, order(skip=("quantity", "amount")), OrderPlaced(12345, "Laptop", 0, 0))


def test_an_absent_required_string_is_malformed() -> None:
    """A str without a default must be there: neither verify nor a view invents one."""
    data = order(skip=("product",))
    with pytest.raises(MalformedEvent, match=r"OrderPlaced\.product is absent"):
        event_type(OrderPlaced).verify(data)
    view = event_type(OrderPlaced).view(data)
    with pytest.raises(MalformedEvent, match=r"OrderPlaced\.product is absent"):
        _ = view.product
    assert view.order_id == 12345


def test_older_events_read_with_the_defaults_of_newer_fields() -> None:
    """Fields appended later read as their default, or None."""

    @event(name="OrderPlaced")
    class Newer:
        order_id: u64
        product: str
        quantity: u32
        amount: u64
        currency: str = "EUR"
        tags: tuple[str, ...] = ()
        weight: u8 = 3
        note: str | None = None
        bill: Line | None = None

    want = Newer(12345, "Laptop", 1, 99900)
    compiled = event_type(Newer)
    for data in (order(), event_type(OrderPlaced).pack(OrderPlaced(12345, "Laptop", 1, 99900))):
        compiled.verify(data)
        view = compiled.view(data)
        assert view == want
        assert (view.currency, view.tags, view.weight, view.note, view.bill) == ("EUR", (), 3, None, None)
        assert compiled.digest(view) == event_type(OrderPlaced).digest(OrderPlaced(12345, "Laptop", 1, 99900))
    newer = compiled.pack(Newer(1, "x", 2, 3, "USD", ("a",), 4, "n", Line("s", 1, 2)))
    assert event_type(OrderPlaced).view(newer) == OrderPlaced(1, "x", 2, 3)


def test_shared_vtables_and_nested_tables_read() -> None:
    """The official builder lets equal tables share one vtable, which then stands behind some of them."""
    builder = flatbuffers.Builder(0)
    leaves = []
    for value in (1, 2):
        builder.StartVector(4, 0, 4)
        empty = builder.EndVector()
        builder.StartObject(3)
        builder.PrependInt8Slot(0, value, 0)
        builder.PrependUOffsetTRelativeSlot(1, empty, 0)
        leaves.append(builder.EndObject())
    builder.StartVector(4, 2, 4)
    for leaf in reversed(leaves):
        builder.PrependUOffsetTRelative(leaf)
    children = builder.EndVector()
    builder.StartObject(3)
    builder.PrependUOffsetTRelativeSlot(1, children, 0)
    builder.PrependUOffsetTRelativeSlot(2, leaves[1], 0)
    builder.Finish(builder.EndObject())
    check(Tree, bytes(builder.Output()), Tree(0, (Tree(1), Tree(2)), Tree(2)))


def test_an_empty_table_of_another_writer_reads() -> None:
    """An event class without fields is a table with an empty vtable."""
    builder = flatbuffers.Builder(0)
    builder.StartObject(0)
    builder.Finish(builder.EndObject())
    check(Cash, bytes(builder.Output()), Cash())


def test_an_unknown_member_of_a_union_is_malformed() -> None:
    """A union's member that only newer code knows cannot be read."""
    data = bytearray(event_type(Everything).pack(everything()))
    table = root(bytes(data))
    data[table.Pos + table.Offset(entry(ids(Everything)["payment"] - 1))] = 9
    with pytest.raises(MalformedEvent, match=r"Everything\.payment holds"):
        _ = event_type(Everything).view(bytes(data)).payment
    with pytest.raises(MalformedEvent, match="unknown member"):
        event_type(Everything).verify(bytes(data))
