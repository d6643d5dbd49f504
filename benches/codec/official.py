"""The other side of the codec's cases: the official FlatBuffers runtime, used as flatc's generated code uses it.

Encoding is what one writes with flatc's functions (each of them one call of the Builder, left out here, to the Builder's
advantage). The accessors are written out from a list of fields and are, line for line, those that ``flatc --python`` gives,
but for the imports that flatc puts inside of them, which are left out too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import flatbuffers

from benches.codec.shapes import Card, Measured, OrderConfirmed
from benches.events import OrderPlaced

# -- encoding --------------------------------------------------------------------------------------------------------


def encode_flat(event: OrderPlaced) -> bytearray:
    """An OrderPlaced."""
    builder = flatbuffers.Builder(256)
    product = builder.CreateString(event.product)
    builder.StartObject(4)
    builder.PrependUint64Slot(0, event.order_id, 0)
    builder.PrependUOffsetTRelativeSlot(1, product, 0)
    builder.PrependUint32Slot(2, event.quantity, 0)
    builder.PrependUint64Slot(3, event.amount, 0)
    builder.Finish(builder.EndObject())
    return builder.Output()


def encode_nested(event: OrderConfirmed) -> bytearray:
    """An OrderConfirmed."""
    builder = flatbuffers.Builder(1024)
    customer = builder.CreateString(event.customer)
    items = []
    for item in event.items:
        sku = builder.CreateString(item.sku)
        builder.StartObject(3)
        builder.PrependUOffsetTRelativeSlot(0, sku, 0)
        builder.PrependUint32Slot(1, item.quantity, 0)
        builder.PrependUint64Slot(2, item.price, 0)
        items.append(builder.EndObject())
    builder.StartVector(4, len(items), 4)
    for offset in reversed(items):
        builder.PrependUOffsetTRelative(offset)
    item_vector = builder.EndVector()
    builder.StartVector(4, len(event.discounts), 4)
    for discount in reversed(event.discounts):
        builder.PrependUint32(discount)
    discounts = builder.EndVector()
    payment = event.payment
    if isinstance(payment, Card):
        tag, text = 1, builder.CreateString(payment.number)
        builder.StartObject(2)
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
        builder.PrependUint32Slot(1, payment.expires, 0)
    else:
        tag, text = 2, builder.CreateString(payment.iban)
        builder.StartObject(1)
        builder.PrependUOffsetTRelativeSlot(0, text, 0)
    paid = builder.EndObject()
    builder.StartObject(8)
    builder.PrependUint64Slot(0, event.order_id, 0)
    builder.PrependUOffsetTRelativeSlot(1, customer, 0)
    builder.PrependInt32Slot(2, event.channel, 0)
    builder.Prep(8, 16)
    builder.PrependFloat64(event.place.longitude)
    builder.PrependFloat64(event.place.latitude)
    builder.PrependStructSlot(3, builder.Offset(), 0)
    builder.PrependUOffsetTRelativeSlot(4, item_vector, 0)
    builder.PrependUOffsetTRelativeSlot(5, discounts, 0)
    builder.PrependUint8Slot(6, tag, 0)
    builder.PrependUOffsetTRelativeSlot(7, paid, 0)
    builder.Finish(builder.EndObject())
    return builder.Output()


def encode_optionals(event: Measured) -> bytearray:
    """A Measured: strings first, then what is there, since nothing may be created inside a table."""
    builder = flatbuffers.Builder(512)
    texts = {
        number: builder.CreateString(text)
        for number, text in (
            (1, event.site),
            (2, event.unit),
            (9, event.operator),
            (17, event.firmware),
            (18, event.batch),
            (19, event.note),
        )
        if text is not None
    }
    builder.StartObject(20)
    for number, offset in texts.items():
        builder.PrependUOffsetTRelativeSlot(number, offset, 0)
    if event.sensor is not None:
        builder.PrependUint64Slot(0, event.sensor, None)
    if event.value is not None:
        builder.PrependFloat64Slot(3, event.value, None)
    if event.low is not None:
        builder.PrependFloat64Slot(4, event.low, None)
    if event.high is not None:
        builder.PrependFloat64Slot(5, event.high, None)
    if event.error is not None:
        builder.PrependFloat32Slot(6, event.error, None)
    if event.samples is not None:
        builder.PrependUint32Slot(7, event.samples, None)
    if event.dropped is not None:
        builder.PrependUint32Slot(8, event.dropped, None)
    if event.battery is not None:
        builder.PrependUint8Slot(10, event.battery, None)
    if event.signal is not None:
        builder.PrependInt8Slot(11, event.signal, None)
    if event.channel is not None:
        builder.PrependUint16Slot(12, event.channel, None)
    if event.offset is not None:
        builder.PrependInt32Slot(13, event.offset, None)
    if event.calibrated is not None:
        builder.PrependBoolSlot(14, event.calibrated, None)
    if event.manual is not None:
        builder.PrependBoolSlot(15, event.manual, None)
    if event.taken_at is not None:
        builder.PrependInt64Slot(16, event.taken_at, None)
    builder.Finish(builder.EndObject())
    return builder.Output()


# -- reading ---------------------------------------------------------------------------------------------------------

_HEAD = """
class {name}:
    __slots__ = ['_tab']

    @classmethod
    def GetRootAs(cls, buf, offset=0):
        n = flatbuffers.encode.Get(flatbuffers.packer.uoffset, buf, offset)
        x = {name}()
        x.Init(buf, n + offset)
        return x

    def Init(self, buf, pos):
        self._tab = flatbuffers.table.Table(buf, pos)
"""
_ACCESSOR = """
    def {name}(self{parameter}):
        o = flatbuffers.number_types.UOffsetTFlags.py_type(self._tab.Offset({entry}))
        if o != 0:
            {body}
        return {absent}
"""
_STRUCT_MEMBER = """
    def {name}(self):
        return self._tab.Get(
            flatbuffers.number_types.{flags}, self._tab.Pos + flatbuffers.number_types.UOffsetTFlags.py_type({at}))
"""
_OBJECT = "obj = {name}()\n            obj.Init(self._tab.Bytes, x)\n            return obj"
_BODIES = {
    "string": "return self._tab.String(o + self._tab.Pos)",
    "bool": "return bool(self._tab.Get(flatbuffers.number_types.BoolFlags, o + self._tab.Pos))",
    "length": "return self._tab.VectorLen(o)",
    "item": (
        "x = self._tab.Vector(o)\n            x += flatbuffers.number_types.UOffsetTFlags.py_type(j) * 4\n"
        "            x = self._tab.Indirect(x)\n            " + _OBJECT.format(name="Item")
    ),
    "struct": "x = o + self._tab.Pos\n            " + _OBJECT.format(name="Place"),
    "numpy": "return self._tab.GetVectorAsNumpy(flatbuffers.number_types.Uint32Flags, o)",
    "union": "obj = Table(bytearray(), 0)\n            self._tab.Union(obj, o)\n            return obj",
}


def _class(name: str, accessors: Iterable[tuple[str, str, int, object]]) -> str:
    """A table's class: (accessor, kind, number of the field, what an absent one gives)."""
    out = _HEAD.format(name=name)
    for accessor, kind, number, absent in accessors:
        body = _BODIES.get(kind, f"return self._tab.Get(flatbuffers.number_types.{kind}, o + self._tab.Pos)")
        parameter = ", j" if kind == "item" else ""
        out += _ACCESSOR.format(name=accessor, parameter=parameter, entry=4 + 2 * number, body=body, absent=absent)
    return out


_FLAGS = {
    "u8": "Uint8",
    "u16": "Uint16",
    "u32": "Uint32",
    "u64": "Uint64",
    "i8": "Int8",
    "i32": "Int32",
    "i64": "Int64",
}
_MEASURED = (
    "Sensor:u64 Site:string Unit:string Value:f64 Low:f64 High:f64 Error:f32 Samples:u32 Dropped:u32 Operator:string "
    "Battery:u8 Signal:i8 Channel:u16 Offset:i32 Calibrated:bool Manual:bool TakenAt:i64 Firmware:string Batch:string "
    "Note:string"
)


def _measured_accessors() -> Iterable[tuple[str, str, int, object]]:
    floats = {"f32": "Float32", "f64": "Float64"}
    for number, field in enumerate(_MEASURED.split()):
        name, kind = field.split(":")
        flags = (_FLAGS | floats).get(kind)
        yield name, f"{flags}Flags" if flags else kind, number, None


SOURCE = "".join(
    [
        _class(
            "OrderPlaced",
            [
                ("OrderId", "Uint64Flags", 0, 0),
                ("Product", "string", 1, None),
                ("Quantity", "Uint32Flags", 2, 0),
                ("Amount", "Uint64Flags", 3, 0),
            ],
        ),
        _HEAD.format(name="Place"),
        _STRUCT_MEMBER.format(name="Latitude", flags="Float64Flags", at=0),
        _STRUCT_MEMBER.format(name="Longitude", flags="Float64Flags", at=8),
        _class("Item", [("Sku", "string", 0, None), ("Quantity", "Uint32Flags", 1, 0), ("Price", "Uint64Flags", 2, 0)]),
        _class("Card", [("Number", "string", 0, None), ("Expires", "Uint32Flags", 1, 0)]),
        _class("Transfer", [("Iban", "string", 0, None)]),
        _class(
            "OrderConfirmed",
            [
                ("OrderId", "Uint64Flags", 0, 0),
                ("Customer", "string", 1, None),
                ("Channel", "Int32Flags", 2, 0),
                ("Place", "struct", 3, None),
                ("Items", "item", 4, None),
                ("ItemsLength", "length", 4, 0),
                ("DiscountsAsNumpy", "numpy", 5, 0),
                ("PaymentType", "Uint8Flags", 6, 0),
                ("Payment", "union", 7, None),
            ],
        ),
        _class("Measured", _measured_accessors()),
    ]
)
"""The accessors, as text: ``print(benches.codec.official.SOURCE)``."""

_CLASSES: dict[str, Any] = {"flatbuffers": flatbuffers, "Table": flatbuffers.table.Table}
exec(SOURCE, _CLASSES)


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode()


def read_flat(buffer: bytes) -> tuple[Any, ...]:
    """Every value of an OrderPlaced."""
    e = _CLASSES["OrderPlaced"].GetRootAs(buffer, 0)
    return e.OrderId(), e.Product().decode(), e.Quantity(), e.Amount()


def read_nested(buffer: bytes) -> tuple[Any, ...]:
    """Every value of an OrderConfirmed. The vector of numbers goes through numpy, which is the fastest way that flatc offers."""
    e = _CLASSES["OrderConfirmed"].GetRootAs(buffer, 0)
    place = e.Place()
    items = []
    for j in range(e.ItemsLength()):
        item = e.Items(j)
        items.append((item.Sku().decode(), item.Quantity(), item.Price()))
    table = e.Payment()
    if e.PaymentType() == 1:
        card = _CLASSES["Card"]()
        card.Init(table.Bytes, table.Pos)
        payment: tuple[Any, ...] = (card.Number().decode(), card.Expires())
    else:
        transfer = _CLASSES["Transfer"]()
        transfer.Init(table.Bytes, table.Pos)
        payment = (transfer.Iban().decode(),)
    return (
        e.OrderId(),
        e.Customer().decode(),
        e.Channel(),
        place.Latitude(),
        place.Longitude(),
        items,
        e.DiscountsAsNumpy().tolist(),
        payment,
    )


def read_optionals(buffer: bytes) -> tuple[Any, ...]:
    """Every value of a Measured."""
    e = _CLASSES["Measured"].GetRootAs(buffer, 0)
    return (
        e.Sensor(), _text(e.Site()), _text(e.Unit()), e.Value(), e.Low(), e.High(), e.Error(), e.Samples(), e.Dropped(),
        _text(e.Operator()), e.Battery(), e.Signal(), e.Channel(), e.Offset(), e.Calibrated(), e.Manual(), e.TakenAt(),
        _text(e.Firmware()), _text(e.Batch()), _text(e.Note()),
    )  # fmt: skip


ENCODE: dict[str, Callable[[Any], bytearray]] = {
    "flat": encode_flat,
    "nested": encode_nested,
    "optionals": encode_optionals,
}
READ: dict[str, Callable[[bytes], tuple[Any, ...]]] = {
    "flat": read_flat,
    "nested": read_nested,
    "optionals": read_optionals,
}


def read_amount(buffer: bytes | memoryview) -> int:
    """One value of an OrderPlaced."""
    amount: int = _CLASSES["OrderPlaced"].GetRootAs(buffer, 0).Amount()
    return amount
