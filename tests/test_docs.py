"""Documentation that runs: every Python block of the README and of docs/."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import varve

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(text: str) -> list[tuple[int, str]]:
    return [(text.count("\n", 0, found.start(1)) + 1, found.group(1)) for found in _FENCE.finditer(text)]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_python_block_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The blocks of a page run one after the other, as a reader would type them, in an empty folder, and then once more."""
    monkeypatch.chdir(tmp_path)
    for line, source, names in [
        (line, source, names)
        for names in ({"__name__": "documentation"}, {"__name__": "again"})  # everybody runs a script twice
        for line, source in _blocks(page.read_text(encoding="utf-8"))
    ]:
        exec(compile("\n" * (line - 1) + source, str(page), "exec", dont_inherit=True), names)


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


def test_what_the_pages_call_exists() -> None:
    """Every dotted name such as ``varve.ops.verify`` in the prose of a page is there after ``import varve``."""
    on_disk = {
        "varve.log",
        "varve.index",
        "varve.meta",
        "varve.base",
        "varve.consumers",
        "varve.retention",
        "varve.snapshots",
        "varve.dead_letters",
        "varve.state",
        "varve.lock",
        "varve.seal",
        "varve.fbs",
    }  # names of files and sub-databases
    missing = []
    for page in PAGES:
        for dotted in sorted(
            set(re.findall(r"`(?:await )?(varve(?:\.[A-Za-z_]\w*)+)", page.read_text(encoding="utf-8")))
        ):
            found: object = varve
            if dotted in on_disk:
                continue
            for name in dotted.split(".")[1:]:
                found = getattr(found, name, None)
                if found is None:
                    missing.append(f"{page.name}: {dotted}")
                    break
    assert not missing


def test_no_two_pages_write_to_one_store() -> None:
    """Whoever goes through several pages in one folder does not meet another page's event classes."""
    pages: dict[str, set[str]] = {}
    for page in PAGES:
        for _, block in _blocks(page.read_text(encoding="utf-8")):
            for folder in re.findall(r'varve\.open\("(\./[^"]+)"', block):
                pages.setdefault(folder, set()).add(page.name)
    assert pages
    assert {folder: names for folder, names in pages.items() if len(names) > 1} == {}
