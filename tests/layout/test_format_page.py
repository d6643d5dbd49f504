"""What schemas/varve.fbs and docs/format.md say is what the code writes."""

from __future__ import annotations

import re
import struct
from pathlib import Path

from varve.layout import consumers, draft, frame

ROOT = Path(__file__).resolve().parent.parent.parent


def test_the_schema_file_has_the_columns_that_the_code_writes() -> None:
    """schemas/varve.fbs names every field of a block in slot order, with the element width of the code's table."""
    widths = {"ulong": 8, "long": 8, "uint": 4, "ushort": 2, "ubyte": 1}
    text = (ROOT / "schemas" / "varve.fbs").read_text(encoding="utf-8")
    fields = re.findall(r"^  (\w+): (\[?)(\w+)\]?", text, re.MULTILINE)
    vectors = [(name, widths[kind]) for name, is_vector, kind in fields if is_vector]
    assert [name for name, *_ in fields][:2] == ["first_sequence", "commit_sequence"]
    assert vectors == [*frame.COLUMNS, *frame.COLD_COLUMNS]
    assert fields[2 + len(frame.COLUMNS)][0] == "created_at_ns"


def test_the_format_page_gives_the_places_of_the_hot_table() -> None:
    """docs/format.md's figures for a hot block are where an encoded one has them."""
    block = draft.BlockDraft(7, 5)
    block.begin_commit(9)
    block.add(0, 0, 0, [bytes(8)])
    encoded = block.encode()
    vtable_at, vtable_bytes, table_at, table_bytes = 16, 24, 40, 52
    assert struct.unpack_from("<HH", encoded, vtable_at) == (vtable_bytes, table_bytes)
    assert struct.unpack_from("<i", encoded, table_at) == (table_at - vtable_at,)
    assert struct.unpack_from("<QQ", encoded, table_at + 8) == (7, 5)


def test_the_format_page_gives_the_sizes_of_a_consumer() -> None:
    """docs/format.md's offsets for stored positions are those of an encoded record."""
    run = consumers.Run(0, 256, 3, 4, 5, 6)
    record = consumers.ConsumerRecord(2, 9, (run,)).encode(b"\x01name")
    assert struct.unpack_from("<HHq", record, 4) == (consumers.VERSION, 2, 9)
    assert struct.unpack_from("<HHIQQq", record, 16) == run
    assert len(record) == 16 + 32
    page = (ROOT / "docs" / "format.md").read_text(encoding="utf-8")
    rows = re.findall(
        r"^\| (\d+) \| (\d+)", page[page.index("## varve.consumers") : page.index("## Versions")], re.MULTILINE
    )
    assert [(int(at), int(size)) for at, size in rows] == [
        (0, 4), (4, 2), (6, 2), (8, 8), (16, 32),
        (0, 2), (2, 2), (4, 4), (8, 8), (16, 8), (24, 8),
    ]  # fmt: skip
