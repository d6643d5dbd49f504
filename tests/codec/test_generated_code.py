"""The code that the codec writes is there to be read."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from codec_models import Everything, OrderPlaced, Tree, everything

import varve
from varve import schema
from varve.codec import event, event_type, struct
from varve.codec.fbs import to_fbs
from varve.types import u32

ORDER_PACKER = '''
def pack(e):
    """The event as a FlatBuffer; EventEncodingError when a value does not fit."""
    try:
        v0 = e.order_id
        v1 = e.product
        v2 = e.quantity
        v3 = e.amount
'''

ORDER_FBS = """table OrderPlaced {
  order_id:ulong;
  product:string (required);
  quantity:uint;
  amount:ulong;
}

root_type OrderPlaced;
"""


def test_the_generated_source_is_shown() -> None:
    """``source`` holds the packer and the getters as they run, one struct call for all of a small event."""
    source = event_type(OrderPlaced).source
    assert ORDER_PACKER in source
    assert "layout(prefix, v0, v3, v2, n1, x1)" in source
    assert "def fast_order_id(self):\n    return get_u64(self._b, self._o + 24)[0]\n" in source
    compile(source, "source", "exec")
    compile(event_type(Everything).source, "source", "exec")


def test_importing_the_codec_loads_neither_numpy_nor_flatbuffers() -> None:
    """The runtime needs no more than the standard library and typing-extensions."""
    code = "import sys, varve.codec; print(sorted({'numpy', 'flatbuffers'} & set(sys.modules)))"
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root)
    assert done.stdout.strip() == "[]"


def test_the_fbs_text_of_a_small_event() -> None:
    """What other languages generate their code from."""
    assert to_fbs(OrderPlaced) == ORDER_FBS


def test_the_fbs_text_names_everything() -> None:
    """Enums, structs, unions, defaults and optional numbers."""
    text = to_fbs(Everything)
    for line in (
        "enum Color : int {\n  FAR = -7,\n  RED = 1,\n  BLUE = 2\n}",
        "struct Point {\n  x:float;\n  y:double;\n}",
        "union Union { Card, Cash }",
        "  payment:Union (required);",
        "  at:long;",
        "  key:UUID (required);",
        "  blobs:[Bytes] (required);",
        "  maybe_int:int = null;",
        "  count:ubyte = 7;",
        "  color:Color = 1;",
    ):
        assert line in text
    assert text.index("struct Point") < text.index("struct Box")


def test_deprecated_fields_and_odd_names() -> None:
    """Marked in .fbs; characters that it does not know become underscores."""
    from dataclasses import field

    @event(name="shop.order/v2")
    class Order:
        old: int = field(default=0, metadata={"deprecated": True})

    assert "table shop_order_v2 {\n  old:long = 0 (deprecated);\n}" in to_fbs(Order)


@pytest.mark.skipif(shutil.which("flatc") is None, reason="flatc is not installed")
@pytest.mark.parametrize("cls", [OrderPlaced, Everything, Tree])
def test_flatc_accepts_the_text_and_the_bytes(cls: type, tmp_path: Path) -> None:
    """The official compiler reads the schema, and prints our bytes as JSON by it."""
    one = {OrderPlaced: OrderPlaced(1, "x", 2, 3), Everything: everything(), Tree: Tree(1, (Tree(2),))}[cls]
    (tmp_path / "event.fbs").write_text(to_fbs(cls))
    (tmp_path / "event.bin").write_bytes(event_type(cls).pack(one))
    command = ["flatc", "--json", "--strict-json", "--raw-binary", "event.fbs", "--", "event.bin"]
    subprocess.run(command, check=True, capture_output=True, cwd=tmp_path)
    assert (tmp_path / "event.json").exists()


def test_structs_lay_out_as_in_c() -> None:
    """Aligned to their widest member, padded at the end."""

    @struct
    class Odd:
        a: bool
        b: u32
        c: bool

    from varve.codec.event_type import compile_struct

    compiled = compile_struct(Odd.__varve__)  # type: ignore[attr-defined]
    assert compiled.plan.size == 12
    assert compiled.plan.offsets == (0, 4, 8)
    assert compiled.pack(Odd(True, 5, True)) == b"\1\0\0\0\5\0\0\0\1\0\0\0"


def test_the_source_of_a_class_is_public() -> None:
    """``varve.schema.source`` shows the packers and views that were generated."""
    assert schema.source(OrderPlaced) == event_type(OrderPlaced).source
    assert ORDER_PACKER in schema.source(OrderPlaced)
    with pytest.raises(varve.SchemaError, match=r"@varve\.event"):
        schema.source(int)
