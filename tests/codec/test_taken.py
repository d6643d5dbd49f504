"""Events taken out of a buffer are what ``owned`` gives of their views, whoever wrote them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

import flatbuffers
import pytest
from codec_models import Cash, Color, Envelope, Everything, Ledger, Line, Numbers, OrderPlaced, Tree, events_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from varve.codec import event, event_type, owned
from varve.codec.taken import taker
from varve.types import u32, u64


@event
class Stamped:
    at: datetime
    by: UUID
    is_late: bool
    note: bytes
    color: Color
    values: tuple[u32, ...]


@event
class Texts:
    first: str
    number: u32
    second: str
    third: str


@event
class Bare:
    pass


@event
class Strict:
    number: u64

    def __post_init__(self) -> None:
        if self.number == 13:
            raise ValueError("not that one")


CLASSES = [OrderPlaced, Cash, Line, Numbers, Tree, Everything, Ledger, Envelope, Stamped, Texts, Bare]


@pytest.mark.parametrize("cls", CLASSES)
@given(data=st.data())
@settings(deadline=None, max_examples=10, suppress_health_check=list(HealthCheck))
def test_what_is_taken_is_an_owned_instance(cls: Any, data: st.DataObject) -> None:
    """Of bytes and of a memoryview, alone and among others; every field of the very type that ``owned`` gives it."""
    compiled = event_type(cls)
    take = taker(compiled)
    one = data.draw(events_of(cls))
    packed = compiled.pack(one)
    around = b"\xee" * 16 + packed + b"\xee" * 16
    for buffer, offset in ((packed, 0), (around, 16), (memoryview(around), 16)):
        found = take(buffer, offset)
        expected = owned(compiled.view(buffer, offset))
        assert type(found) is cls
        assert found == one
        for name in cls.__dataclass_fields__:
            assert type(getattr(found, name)) is type(getattr(expected, name))


def test_other_writers_events_are_taken_by_their_vtable() -> None:
    """Another order of fields than our packer's, and absent numbers."""
    builder = flatbuffers.Builder()
    text = builder.CreateString("Laptop")
    builder.StartObject(4)
    builder.PrependUint64Slot(3, 99900, 0)
    builder.PrependUOffsetTRelativeSlot(1, text, 0)
    builder.PrependUint64Slot(0, 7, 0)
    builder.Finish(builder.EndObject())
    found = taker(event_type(OrderPlaced))(bytes(builder.Output()), 0)
    assert found == OrderPlaced(order_id=7, product="Laptop", quantity=0, amount=99900)
    assert type(found) is OrderPlaced


def test_a_text_may_stand_elsewhere() -> None:
    """The head is the usual one, and the string lies behind other bytes."""
    compiled = event_type(OrderPlaced)
    packed = bytearray(compiled.pack(OrderPlaced(7, "Laptop", 1, 99900)))
    pos = next(slot.pos for slot in compiled.plan.inline if slot.field == 1)
    packed[pos : pos + 4] = (len(packed) - pos).to_bytes(4, "little")
    packed += b"\x03\0\0\0Pen\0"
    compiled.verify(bytes(packed))
    assert taker(compiled)(bytes(packed), 0) == OrderPlaced(7, "Pen", 1, 99900)


def test_what_is_shorter_than_our_packer_writes_is_read_as_a_view_would() -> None:
    """A table without any field ends before the numbers of the usual one would stand."""
    builder = flatbuffers.Builder()
    builder.StartObject(0)
    builder.Finish(builder.EndObject())
    found = taker(event_type(Strict))(bytes(builder.Output()), 0)
    assert found == Strict(0)


def test_no_code_of_the_class_runs() -> None:
    """What was written once is read, whatever its class says of new ones."""
    compiled = event_type(Strict)
    packed = compiled.pack(Strict(12)).replace(b"\x0c" + bytes(7), b"\x0d" + bytes(7))
    assert taker(compiled)(packed, 0).number == 13
