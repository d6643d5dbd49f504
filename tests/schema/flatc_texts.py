"""A schema with every kind of field that flatc has Python code for, and an object of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from flatc_helpers import generated

ORDERS = """
enum Color : byte { Red, Green, Blue = 5 }
enum Access : ushort (bit_flags) { Read, Write }
struct Vec { x:float; y:double; }
struct Box { lo:Vec; hi:Vec; n:[int:3]; c:Color; }
table Item { sku:string; quantity:uint = 1; next:Item; }
table Gift { note:string; }
union Extra { Item, Present: Gift }
table Order {
  order_id:ulong;
  product_name:string;
  quantity:uint = 7;
  amount:long = -5;
  ratio:double = 1.5;
  part:float = 0.1;
  paid:bool = true;
  color:Color = Green;
  access:Access;
  pos:Vec;
  box:Box;
  maybe:int = null;
  maybe_paid:bool = null;
  maybe_color:Color = null;
  items:[Item];
  path:[Vec];
  tags:[string];
  data:[ubyte];
  bytes_:[byte];
  numbers:[long];
  flags:[bool];
  colors:[Color];
  extra:Extra;
  first:Item;
  limit:float = inf;
  from:int;
}
table Shipped { order_id:ulong; }
root_type Order;
"""


def filled(package: str, **changes: Any) -> Any:
    """An order with something in every field."""

    def made(name: str, **values: Any) -> Any:
        out = generated(package, name)[1]()
        for attr, value in values.items():
            setattr(out, attr, value)
        return out

    def vec(n: float) -> Any:
        return made("Vec", x=n, y=-n)

    values: dict[str, Any] = {
        "orderId": 2**63,
        "productName": "Läpt\0p",
        "quantity": 1,
        "amount": -(2**62),
        "ratio": 0.25,
        "part": 2.5,
        "paid": False,
        "color": 5,
        "access": 3,
        "pos": vec(1.5),
        "box": made("Box", lo=vec(0.5), hi=vec(2.0), n=[1, -2, 3], c=1),
        "maybe": 0,
        "maybePaid": False,
        "maybeColor": 1,
        "items": [made("Item", sku="a", next=made("Item", sku="b", quantity=9)), made("Item")],
        "path": [vec(1.0), vec(2.0)],
        "tags": ["x", "", "yz"],
        "data": b"\x00\xff",
        "bytes_": np.array([-1, 127], np.int8),  # flatc 2.0 cannot pack negative numbers of a list
        "numbers": [2**63 - 1, -1],
        "flags": [True, False],
        "colors": [0, 5],
        "extraType": 2,
        "extra": made("Gift", note="hi"),
        "first": made("Item", sku="c"),
        "limit": 1.0,
        "from_": 3,
    }
    return made("Order", **(values | changes))


def shown(order: Any) -> dict[str, Any]:
    """What an order's accessor says of each field."""

    def vec(found: Any) -> tuple[float, float]:
        return found.X(), found.Y()

    def item(found: Any) -> Any:
        return None if found is None else (found.Sku(), found.Quantity(), item(found.Next()))

    def each(name: str) -> list[Any] | None:
        get, length = getattr(order, name), getattr(order, f"{name}Length")
        return None if getattr(order, f"{name}IsNone")() else [get(index) for index in range(length())]

    package = type(order).__module__.rpartition(".")[0]
    box, extra = order.Box(), order.Extra()
    note = None
    if extra is not None:
        gift = generated(package, "Gift")[0]()
        gift.Init(extra.Bytes, extra.Pos)
        note = gift.Note()
    lo = generated(package, "Vec")[0]()
    return {
        "numbers": (order.OrderId(), order.Quantity(), order.Amount(), order.Ratio(), order.Part(), order.Paid()),
        "enums": (order.Color(), order.Access(), order.From_(), order.Limit()),
        "optional": (order.Maybe(), order.MaybePaid(), order.MaybeColor()),
        "name": order.ProductName(),
        "pos": None if order.Pos() is None else vec(order.Pos()),
        "box": None if box is None else (vec(box.Lo(lo)), vec(box.Hi(lo)), box.N(), box.C()),
        "items": None if each("Items") is None else [item(one) for one in each("Items") or ()],
        "path": None if each("Path") is None else [vec(one) for one in each("Path") or ()],
        "vectors": [each(name) for name in ("Tags", "Data", "Bytes_", "Numbers", "Flags", "Colors")],
        "extra": (order.ExtraType(), note),
        "first": item(order.First()),
    }


FILLED = {
    "numbers": (2**63, 1, -(2**62), 0.25, 2.5, False),
    "enums": (5, 3, 3, 1.0),
    "optional": (0, False, 1),
    "name": "Läpt\0p".encode(),
    "pos": (1.5, -1.5),
    "box": ((0.5, -0.5), (2.0, -2.0), [1, -2, 3], 1),
    "items": [(b"a", 1, (b"b", 9, None)), (None, 1, None)],
    "path": [(1.0, -1.0), (2.0, -2.0)],
    "vectors": [[b"x", b"", b"yz"], [0, 255], [-1, 127], [2**63 - 1, -1], [True, False], [0, 5]],
    "extra": (2, b"hi"),
    "first": (b"c", 1, None),
}
"""What ``shown`` says of ``filled``."""

DEFAULTS = {
    "numbers": (0, 7, -5, 1.5, 0.1, True),
    "enums": (1, 0, 0, float("inf")),
    "optional": (None, None, None),
    "name": None,
    "pos": None,
    "box": None,
    "items": None,
    "path": None,
    "vectors": [None] * 6,
    "extra": (0, None),
    "first": None,
}
"""What ``shown`` says of an order of which nothing was set."""
