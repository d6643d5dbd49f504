"""Documentation that runs: every Python block of the README and of docs/, and what they say of the format."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from varve.layout import block

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(text: str) -> list[tuple[int, str]]:
    return [(text.count("\n", 0, found.start(1)) + 1, found.group(1)) for found in _FENCE.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after the other, as a reader would type them, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "documentation"}
    for line, source in _blocks(page.read_text(encoding="utf-8")):
        exec(compile("\n" * (line - 1) + source, str(page), "exec"), names)


def test_blocks_are_found_and_a_failing_one_fails() -> None:
    """The harness sees a block and its line: a page whose code is wrong cannot pass."""
    assert _blocks("text\n```python\nassert False\n```\n") == [(3, "assert False\n")]


def test_links_inside_the_project_lead_somewhere() -> None:
    """Relative links of the README and docs name files that exist."""
    broken = [
        f"{page.name}: {target}"
        for page in PAGES
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert not broken


def test_the_schema_file_has_the_columns_that_the_code_writes() -> None:
    """schemas/varve.fbs names every field of a block in slot order, with the element width of the code's table."""
    widths = {"ulong": 8, "long": 8, "uint": 4, "ushort": 2, "ubyte": 1}
    text = (ROOT / "schemas" / "varve.fbs").read_text(encoding="utf-8")
    fields = re.findall(r"^  (\w+): (\[?)(\w+)\]?", text, re.MULTILINE)
    vectors = [(name, widths[kind]) for name, is_vector, kind in fields if is_vector]
    assert [name for name, *_ in fields][:2] == ["first_sequence", "commit_sequence"]
    assert vectors == [*block.COLUMNS, *block.COLD_COLUMNS]
    assert fields[2 + len(block.COLUMNS)][0] == "created_at_ns"


def test_the_format_page_gives_the_places_of_the_hot_table() -> None:
    """docs/format.md's figures for a hot block are where an encoded one has them."""
    draft = block.BlockDraft(7, 5)
    draft.begin_commit(9)
    draft.add(0, 0, 0, [bytes(8)])
    frame = draft.encode()
    vtable_at, vtable_bytes, table_at, table_bytes = 16, 24, 40, 52
    assert struct.unpack_from("<HH", frame, vtable_at) == (vtable_bytes, table_bytes)
    assert struct.unpack_from("<i", frame, table_at) == (table_at - vtable_at,)
    assert struct.unpack_from("<QQ", frame, table_at + 8) == (7, 5)
