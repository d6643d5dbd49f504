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


def test_archives_and_store_in_a_row_are_the_whole_log(tmp_path: Path) -> None:
    """Dump, digest, export and parity take them as they take a store."""
    archived(tmp_path, 300, 500, 700)
    with varve.open([tmp_path / name for name in ("a0", "a1", "a2", "s")]) as series:
        report = ops.dump(series, tmp_path / "row.dump")
        assert (tmp_path / "row.dump").read_bytes() == (tmp_path / "whole.dump").read_bytes()
        assert ops.digest(series) == report.digest
        told: list[tuple[int, int]] = []
        ops.export_jsonl(series, tmp_path / "row.jsonl", progress=lambda *step: told.append(step))
        assert (tmp_path / "row.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
        assert told[-1] == (940, 940)
        ops.export_jsonl(series, tmp_path / "part.jsonl", start=15, stop=700, streams=["s"])
        assert [line["global_sequence"] for line in lines(tmp_path / "part.jsonl")] == list(range(20, 700))
        for other in ("whole.dump", "whole.jsonl", "part.jsonl"):
            assert ops.parity(series, tmp_path / other).equal
            assert ops.parity(tmp_path / other, series).equal
        for folder in ("a1", "s"):
            with pytest.raises(varve.InvalidInput, match="lies in the store"):
                ops.dump(series, tmp_path / folder / "x")
    assert ops.load(tmp_path / "copy", tmp_path / "row.dump").events == 940
    with pytest.raises(varve.StoreClosed):
        ops.digest(series)
    with varve.open([tmp_path / "a1", tmp_path / "a2", tmp_path / "s"]) as rest, pytest.raises(varve.Archived):
        ops.digest(rest)


def test_what_is_not_there_is_told_before_anything_is_written(tmp_path: Path) -> None:
    """A store alone is not its whole log."""
    horizon = archived(tmp_path, 300)
    refused: Any
    for refused in (ops.dump, ops.export_jsonl):
        file = io.BytesIO()
        with pytest.raises(varve.Archived):
            refused(tmp_path / "s", file)
        assert not file.getvalue()
        with pytest.raises(varve.Archived):
            refused(tmp_path / "s", tmp_path / "file")
    with pytest.raises(varve.Archived):
        ops.export_jsonl(tmp_path / "s", tmp_path / "file", start=horizon - 1)
    with pytest.raises(varve.Archived):
        ops.digest(tmp_path / "s", progress=lambda *_: pytest.fail("it has begun"))
    with pytest.raises(varve.Archived):
        ops.parity(tmp_path / "s", tmp_path / "whole.dump")
    assert not (tmp_path / "file").exists()


@pytest.mark.parametrize("given", [5, None, b"x", ["a", "b"]])
def test_what_is_no_log_is_told(tmp_path: Path, given: Any) -> None:
    """By its type alone."""
    archived(tmp_path)
    for pair in ((given, tmp_path / "s"), (tmp_path / "s", given)):
        with pytest.raises(varve.InvalidInput):
            ops.parity(*pair)
