"""``db.stats()``: frozen, documented field by field, and cheap."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import varve
from varve import limits

PAGE = Path(__file__).parents[2] / "docs" / "observability.md"
CLASSES: list[Any] = [varve.StoreStats, varve.SnapshotStats, varve.WriteStats]


@varve.event
class Note:
    number: varve.u64


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_the_page_has_every_field(cls: type) -> None:
    """docs/observability.md names the fields in their order, each with its unit, and none that is not there."""
    text = PAGE.read_text(encoding="utf-8")
    table = text.split(f"\n\n`varve.{cls.__name__}`", 1)[1].split("|---|---|---|\n", 1)[1].split("\n\n", 1)[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]
    assert [row[0] for row in rows] == [f"`{field.name}`" for field in dataclasses.fields(cls)]
    units = {field: unit for field, unit, _ in rows}
    assert all(meaning for _, _, meaning in rows)
    for field, unit in units.items():
        assert field.strip("`").endswith("_bytes") == (unit == "bytes")
        assert (re.search(r"_s(_max)?`$", field) is not None) == (unit == "seconds")


@pytest.mark.parametrize("cls", [*CLASSES, varve.CommitReport, varve.BatchReport], ids=lambda cls: cls.__name__)
def test_every_field_is_documented_and_frozen(cls: Any) -> None:
    """Under each field stands a sentence, and nobody changes one."""
    body = ast.parse(inspect.getsource(cls)).body[0].body  # type: ignore[attr-defined]
    for field, below in pairwise(body):
        if isinstance(field, ast.AnnAssign):
            assert isinstance(below, ast.Expr), ast.unparse(field)
            assert isinstance(below.value, ast.Constant), ast.unparse(field)
    assert cls.__dataclass_params__.frozen
    assert not hasattr(cls, "__dict__") or "__slots__" in vars(cls)


@pytest.mark.parametrize("cls", [varve.CommitReport, varve.BatchReport], ids=lambda cls: cls.__name__)
def test_the_page_names_what_is_reported(cls: Any) -> None:
    """Each field of the reports."""
    text = PAGE.read_text(encoding="utf-8")
    assert [field.name for field in dataclasses.fields(cls) if f"`{field.name}`" not in text] == []


def test_the_page_names_every_limit_of_the_log() -> None:
    """With its value."""
    text = PAGE.read_text(encoding="utf-8")
    for name in ("SNAPSHOT_AGE_S_WARN", "SLOW_COMMIT_S", "SLOW_COMMIT_LOG_INTERVAL_S"):
        assert f"`{name}` ({getattr(limits, name):g} s" in text


def test_a_new_store_has_nothing(varve_store: varve.Varve) -> None:
    """Zeros, and the sizes of an empty file."""
    stats = varve_store.stats()
    assert (stats.events, stats.first_sequence, stats.next_sequence) == (0, 0, 0)
    assert (stats.streams, stats.names, stats.types, stats.blocks) == (0, 0, 0, 0)
    assert stats.writes == varve.WriteStats(0, 0, 0, 0, 0, 0.0, 0.0, 0, 0)
    assert (stats.log_bytes, stats.index_bytes, stats.side_bytes) == (0, 0, 0)
    assert stats.meta_bytes == limits.PAGE_BYTES
    assert (stats.snapshots, stats.durability, stats.readonly) == ((), "full", False)


def test_figures_are_what_was_written(varve_store: varve.Varve) -> None:
    """Events, streams, names and types of the store; commits of the handle."""
    notes = varve_store.stream("notes", Note)
    notes.append_batch(1, [Note(1), Note(2)])
    notes.append("x", Note(3))
    with varve_store.transaction() as tx:
        tx.append(notes, 1, Note(4))
        tx.append(notes, 2, Note(5))
    stats = varve_store.stats()
    assert (stats.events, stats.next_sequence) == (5, 5)
    assert (stats.streams, stats.names, stats.types, stats.blocks) == (3, 1, 1, 1)
    writes = stats.writes
    assert (writes.transactions, writes.commits, writes.events, writes.group_max, writes.failed) == (3, 3, 5, 1, 0)
    buffers = [len(buffer) for buffer in varve_store.global_reader().iter_bytes(0)]
    assert writes.event_bytes == sum(buffers)
    assert 0 < writes.commit_s_max <= writes.commit_s


def test_a_reading_handle_has_written_nothing(varve_path: Path) -> None:
    """And sees what others have."""
    with varve.open(varve_path) as db:
        db.stream("notes", Note).append(1, Note(1))
    with varve.open(varve_path, readonly=True) as db:
        stats = db.stats()
        assert (stats.events, stats.readonly) == (1, True)
        assert stats.writes == varve.WriteStats(0, 0, 0, 0, 0, 0.0, 0.0, 0, 0)


def test_stats_inside_a_write(varve_store: varve.Varve) -> None:
    """What was committed before; nothing waits for the lock that this thread holds."""
    notes = varve_store.stream("notes", Note)
    notes.append(1, Note(1))

    def look(tx: varve.WriteTransaction) -> varve.StoreStats:
        tx.append(notes, 1, Note(2))
        return varve_store.stats()

    assert varve_store.write(look).events == 1
    assert varve_store.stats().events == 2
