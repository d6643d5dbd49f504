"""Logs whose beginning was archived: what is left of them, exported and compared."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from transfer_models import Append, Commit, Flag, History, Note, fast_folder, write

import varve
from varve import ops


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """In memory."""
    with fast_folder() as folder:
        yield folder


def history(key: Any) -> History:
    """A commit that reaches over many blocks, between small ones."""
    large = Commit([Append("s", [(n % 3, Note(n, "x" * 50)) for n in range(900)], {"user": "u"})], key, 5)
    before = [Commit([Append("t", [(n, Flag(True))])], None, 5) for n in range(20)]
    return History([*before, large, *(Commit([Append("u", [(1, Note(n, "y"))])], f"k{n}", 5) for n in range(20))])


def archived(folder: Path, *befores: int, key: Any = "k") -> int:
    """A store ``s`` whose beginning lies in ``a0``, ``a1`` ..., and its whole log in ``whole.dump`` and ``whole.jsonl``. Where
    the store begins."""
    write(folder / "s", history(key))
    ops.dump(folder / "s", folder / "whole.dump")
    ops.export_jsonl(folder / "s", folder / "whole.jsonl")
    with varve.open(folder / "s") as db:
        for number, before in enumerate(befores):
            db.archive(before=before, to=folder / f"a{number}")
        return db.first_global_sequence


def lines(path: Path) -> list[dict[str, Any]]:
    """The lines of events of an export."""
    return [line for line in map(json.loads, path.read_text().splitlines()) if "global_sequence" in line]


@pytest.mark.parametrize("key", ["k", None])
def test_what_is_left_of_a_commit_is_exported(tmp_path: Path, key: str | None) -> None:
    """The horizon cuts it: its beginning, time and key are those that it had, and are compared."""
    horizon = archived(tmp_path, 300, 500, key=key)
    assert 20 < horizon < 920
    for start in (horizon, horizon + 7):
        ops.export_jsonl(tmp_path / "s", tmp_path / "rest.jsonl", start=start)
        rest, whole = lines(tmp_path / "rest.jsonl"), lines(tmp_path / "whole.jsonl")
        assert rest[0]["commit"] == 20 < horizon
        assert rest[0].get("idempotency_key") == key
        first = whole[20]
        kept = {name: first[name] for name in first if name.startswith("idempotency")}
        assert rest == [whole[start] | kept, *whole[start + 1 :]]
        assert ops.parity(tmp_path / "s", tmp_path / "rest.jsonl").equal
