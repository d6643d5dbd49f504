"""Events as JSON and back."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from codec_models import Cash, Everything, Ledger, Line, OrderPlaced, Tree, everything

from varve.codec import event_type, from_json, to_dict, to_json
from varve.errors import EventEncodingError

ORDER = {"order_id": 12345, "product": "Laptop", "quantity": 1, "amount": 99900}


def view_of(one: Any) -> Any:
    compiled = event_type(type(one))
    return compiled.view(compiled.pack(one))


def test_an_event_is_a_plain_dictionary() -> None:
    """Numbers and text stay as they are; instance and view give the same."""
    one = OrderPlaced(**ORDER)
    assert to_dict(one) == to_dict(view_of(one)) == ORDER
    assert to_json(one) == json.dumps(ORDER)
    assert from_json(OrderPlaced, ORDER) == from_json(event_type(OrderPlaced), to_json(one)) == one
    assert from_json(OrderPlaced, to_json(one).encode()) == one


def test_what_json_has_no_name_for_is_text() -> None:
    """bytes, datetimes, UUIDs, decimals, enums, unions and the odd floats."""
    out = to_dict(view_of(everything(exact=math.inf, ratios=(math.nan, -math.inf))))
    assert out["blob"] == "AP8="
    assert out["at"] == "2020-01-02T03:04:05.000006+00:00"
    assert out["key"] == "00000000-0000-0000-0000-000000000009"
    assert out["price"] == "1.50"
    assert out["color"] == "BLUE"
    assert out["access"] == 3
    assert out["payment"] == {"$type": "Card", "number": "4711", "expires": "2030-01-01T00:00:00+00:00"}
    assert out["exact"] == "Infinity"
    assert out["ratios"] == ["NaN", "-Infinity"]
    assert out["maybe_text"] is None
    assert out["tree"]["children"][1]["link"]["value"] == 4
    json.dumps(out, allow_nan=False)


def test_missing_fields_take_their_default() -> None:
    """As they do when an older event is read."""
    assert from_json(Tree, {"value": 1}) == Tree(1)
    out = to_dict(everything())
    del out["count"], out["label"], out["maybe_int"]
    assert from_json(Everything, out) == everything()


BAD = [
    ({"order_id": -1}, "OrderPlaced.order_id must be in 0 .. 18446744073709551615"),
    ({"order_id": "1"}, "OrderPlaced.order_id must be an int"),
    ({"order_id": 1.0}, "OrderPlaced.order_id must be an int"),
    ({"product": None}, "OrderPlaced.product must be a str"),
    ({"color": "red"}, "OrderPlaced.color is no field of OrderPlaced"),
]


@pytest.mark.parametrize(("change", "message"), BAD, ids=str)
def test_bad_fields_are_named(change: dict[str, Any], message: str) -> None:
    """With class, path and value."""
    with pytest.raises(EventEncodingError) as caught:
        from_json(OrderPlaced, ORDER | change)
    assert message in str(caught.value)


DEEP = [
    ("lines", [{"sku": "a", "quantity": 1, "price": 2}, {"sku": "b", "quantity": 1}], "lines[1].price is missing"),
    ("lines", {"a": 1}, "lines must be a list"),
    ("payment", {"$type": "Cheque"}, "payment must be an object whose '$type' is one of Card, Cash"),
    ("payment", 5, "payment must be an object whose"),
    ("blob", "!!", "blob must be base64 text"),
    ("at", "yesterday", "at must be an ISO 8601 time"),
    ("at", "2020-01-01T00:00:00", "at must be an aware datetime"),
    ("key", "1", "key must be a UUID"),
    ("price", "one", "price must be a decimal"),
    ("price", 1.5, "price must be a decimal"),
    ("color", "PINK", "color must be a member of Color"),
    ("box", None, "box must be an object with the fields of Box"),
    ("exact", "high", "exact must be a float"),
]


@pytest.mark.parametrize(("name", "value", "message"), DEEP)
def test_bad_nested_values_are_named(name: str, value: Any, message: str) -> None:
    """However deep."""
    with pytest.raises(EventEncodingError) as caught:
        from_json(Everything, to_dict(everything()) | {name: value})
    assert f"Everything.{message}" in str(caught.value)


def test_text_that_is_no_json_is_refused() -> None:
    """And so is JSON that is no object."""
    for text in ("{", "", b"\xff", "[" * 100_000):
        with pytest.raises(EventEncodingError, match="not given as JSON"):
            from_json(OrderPlaced, text)
    for text in ("[]", "5", "null"):
        with pytest.raises(EventEncodingError, match="must be an object"):
            from_json(OrderPlaced, text)
    with pytest.raises(TypeError):
        from_json(int, "5")
    with pytest.raises(TypeError):
        to_dict(5)


def test_an_invalid_event_has_no_json() -> None:
    """The same checks as when encoding."""
    with pytest.raises(EventEncodingError, match=r"Line\.quantity"):
        to_json(Line("x", -1, 2))
    assert to_json(Cash()) == "{}"


def test_data_nested_without_end_is_refused() -> None:
    """Through nested classes and through unions, before Python's own stack ends."""
    tree: dict[str, Any] = {"value": 1}
    book: dict[str, Any] = {"$type": "Note", "text": ""}
    for _ in range(5_000):
        tree = {"value": 1, "link": tree}
        entries = {
            "name": "",
            "entries": [],
            "trees": [],
            "last": {"$type": "Line", "sku": "", "quantity": 1, "price": 1},
        }
        book = {"$type": "Ledger", **entries, "nested": [book]}
    with pytest.raises(EventEncodingError, match=r"link\.link.* is nested too deeply"):
        from_json(Tree, tree)
    with pytest.raises(EventEncodingError, match=r"nested\[0\].* is nested too deeply"):
        from_json(Ledger, book)


def test_a_number_that_no_member_has_stays_a_number() -> None:
    """As in a view: newer code may have written it."""
    data = to_dict(everything())
    assert from_json(Everything, json.dumps({**data, "color": 77})).color == 77
    with pytest.raises(EventEncodingError, match="color must be a member of Color"):
        from_json(Everything, json.dumps({**data, "color": 1.5}))
