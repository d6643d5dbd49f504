"""The bytes themselves."""

from __future__ import annotations

from codec_models import OrderPlaced

from varve.codec import event_type

ORDER = bytes.fromhex(
    "10000000"  # root uoffset -> 16
    "0c00 1c00 0800 0400 1800 1000"  # vtable: 12 bytes, table of 28, order_id, product, quantity, amount
    "0c000000"  # table: soffset back to the vtable
    "18000000"  # product -> 20 + 24 = 44
    "3930000000000000"  # order_id
    "3c86010000000000"  # amount
    "01000000"  # quantity
    "06000000 4c6170746f70 0000"  # "Laptop", terminated
)


def test_the_bytes_of_a_small_event() -> None:
    """An OrderPlaced takes 56 bytes, and these."""
    assert event_type(OrderPlaced).pack(OrderPlaced(12345, "Laptop", 1, 99900)) == ORDER


def test_the_golden_bytes_read_back() -> None:
    """Bytes written once are read by every later version."""
    assert event_type(OrderPlaced).view(ORDER) == OrderPlaced(12345, "Laptop", 1, 99900)


def test_the_schema_text_is_canonical() -> None:
    """The schema's text is part of the store: it never changes for the same class."""
    fields = [("order_id", "u64"), ("product", "str"), ("quantity", "u32"), ("amount", "u64")]
    listed = ",".join(f'{{"name":"{name}","type":"{kind}"}}' for name, kind in fields)
    text = f'{{"format":1,"root":"OrderPlaced","types":{{"OrderPlaced":{{"table":[{listed}]}}}}}}'
    assert event_type(OrderPlaced).schema_bytes == text.encode()


def test_the_digest_is_canonical() -> None:
    """The digest's text is part of the store too."""
    event = OrderPlaced(12345, "L\u00e4ptop", 1, 99900)
    want = b"('OrderPlaced', (('order_id', 12345), ('product', 'L\\xe4ptop'), ('quantity', 1), ('amount', 99900)))"
    assert event_type(OrderPlaced).digest(event) == want
