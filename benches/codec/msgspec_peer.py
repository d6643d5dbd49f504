"""msgspec beside the codec's cases, for information: a compiled library and other formats, without zero-copy reads.

Optional (``pip install varve-store[compare]``): imported inside the functions, so that the cases run without it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Union

from benches.codec.shapes import Measured, OrderConfirmed, Shape
from benches.events import OrderPlaced

FORMATS = ("msgpack", "json")


def missing() -> str | None:
    """Why there is nothing to compare with; None when there is."""
    try:
        import msgspec  # noqa: F401
    except ImportError as error:
        return f"msgspec is not installed ({error}): pip install varve-store[compare]"
    return None


@dataclass(frozen=True, slots=True)
class Peer:
    """An encoder and a decoder of one format, and the events as msgspec's own structs, which it encodes fastest."""

    encode: Any
    decode: Any
    events: list[Any]


def _classes() -> dict[str, Any]:
    import msgspec

    struct = msgspec.defstruct
    item = struct("Item", [("sku", str), ("quantity", int), ("price", int)])
    place = struct("Place", [("latitude", float), ("longitude", float)])
    card = struct("Card", [("number", str), ("expires", int)], tag=True)
    transfer = struct("Transfer", [("iban", str)], tag=True)
    kinds: dict[str, Any] = {"str": str, "bool": bool, "float": float, "varve.f32": float}
    optional = [
        (name, kinds.get(text.split(" ")[0], int) | None, None) for name, text in Measured.__annotations__.items()
    ]
    return {
        "Item": item,
        "Place": place,
        "Card": card,
        "Transfer": transfer,
        "OrderPlaced": struct("OrderPlaced", [("order_id", int), ("product", str), ("quantity", int), ("amount", int)]),
        "OrderConfirmed": struct(
            "OrderConfirmed",
            [
                ("order_id", int),
                ("customer", str),
                ("channel", int),
                ("place", place),
                ("items", list[item]),
                ("discounts", list[int]),
                ("payment", Union[card, transfer]),  # noqa: UP007 - made at run time
            ],
        ),
        "Measured": struct("Measured", optional, omit_defaults=True),
    }


def peer(shape: Shape, format_name: str, count: int) -> Peer:
    """An encoder and a decoder for one of the shapes; ``missing`` is asked first."""
    import msgspec

    classes = _classes()
    cls = classes[shape.cls.__name__]
    module = getattr(msgspec, format_name)
    events = [_converted(event, classes) for event in shape.events(count)]
    return Peer(module.Encoder().encode, module.Decoder(cls).decode, events)


def _converted(event: Any, classes: dict[str, Any]) -> Any:
    if isinstance(event, OrderPlaced):
        return classes["OrderPlaced"](event.order_id, event.product, event.quantity, event.amount)
    if isinstance(event, OrderConfirmed):
        payment = event.payment
        return classes["OrderConfirmed"](
            event.order_id,
            event.customer,
            int(event.channel),
            classes["Place"](event.place.latitude, event.place.longitude),
            [classes["Item"](item.sku, item.quantity, item.price) for item in event.items],
            list(event.discounts),
            classes[type(payment).__name__](*(getattr(payment, name) for name in type(payment).__annotations__)),
        )
    names = Measured.__annotations__
    return classes["Measured"](**{name: getattr(event, name) for name in names})
