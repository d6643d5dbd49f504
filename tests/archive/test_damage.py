"""Stores that were archived from, damaged: what is found, repaired, saved."""

from __future__ import annotations

import random
from pathlib import Path

import lmdb
import pytest
from archive_models import fill

import varve
from varve import archive, limits, ops
from varve.engine.instant import contents

Told = tuple[int, str, object, int]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store whose beginning is archived, closed."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 1_000)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 600)
    monkeypatch.setattr(archive, "examine", lambda path: None)
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        fill(db, random.Random(3), 200)
        db.archive(db.next_global_sequence * 2 // 3, tmp_path / "archive")
        fill(db, random.Random(4), 60)
    return tmp_path / "store"


def change(path: Path, table: str, key: bytes, value: bytes | None) -> None:
    """Put, or remove, a pair behind the library's back."""
    env = lmdb.open(str(path), max_dbs=8, map_size=1 << 30)
    database = env.open_db(f"varve.{table}".encode())
    with env.begin(write=True) as transaction:
        if value is None:
            transaction.delete(key, db=database)
        else:
            transaction.put(key, value, db=database)
    env.close()


def pairs(path: Path, table: str) -> list[tuple[bytes, bytes]]:
    env = lmdb.open(str(path), max_dbs=8, map_size=1 << 30, readonly=True)
    database = env.open_db(f"varve.{table}".encode(), create=False)
    with env.begin() as transaction, transaction.cursor(database) as cursor:
        found = [(bytes(key), bytes(value)) for key, value in cursor]
    env.close()
    return found


def told(db: varve.Varve) -> list[Told]:
    """What the store still holds."""
    return [
        (one.global_sequence, one.stream, one.stream_id, one.stream_sequence)
        for one in db.global_reader().iter_from(db.first_global_sequence)
    ]


def test_index_and_metadata_are_made_again(path: Path, tmp_path: Path) -> None:
    """From the base and the blocks that are left, pair by pair."""
    sound = contents(str(path))
    chance = random.Random(1)
    for key in chance.sample(sorted(sound["index"]), 9):
        change(path, "index", key, chance.choice([None, b"x" * 12]))
    for key in [*chance.sample(sorted(sound["meta"].keys() - {b"\0", b"\x08"}), 9), b"\x08"]:
        change(path, "meta", key, None)
    report = ops.verify(path)
    assert {finding.where for finding in report.findings} == {"index", "meta"}
    repaired = ops.repair(path, tmp_path / "repaired")
    assert repaired.events == ops.verify(path).events
    assert contents(str(tmp_path / "repaired")) == sound
    assert pairs(tmp_path / "repaired", "base") == pairs(path, "base")
    assert ops.verify(tmp_path / "repaired").sound
    with varve.open([tmp_path / "archive", tmp_path / "repaired"]) as series:
        assert len(list(series.global_reader().iter_from())) == series.next_global_sequence


@pytest.mark.parametrize("first", [0, 1, 10**6])
def test_the_record_is_wrong_about_the_horizon(path: Path, tmp_path: Path, first: int) -> None:
    """The base has a checksum, and knows better."""
    sound = contents(str(path))
    record = bytearray(sound["meta"][b"\0"])
    record[32:40] = first.to_bytes(8, "little")
    change(path, "meta", b"\0", bytes(record))
    assert [finding.where for finding in ops.verify(path).findings] == ["meta"]
    ops.repair(path, tmp_path / "repaired")
    assert contents(str(tmp_path / "repaired")) == sound


def test_a_base_that_is_damaged_or_gone(path: Path, tmp_path: Path) -> None:
    """Is found; nothing is built on it, and nothing else is said to be wrong."""
    key, value = pairs(path, "base")[-1]
    for broken in (value[:-1] + bytes([value[-1] ^ 1]), None):
        change(path, "base", key, broken)
        report = ops.verify(path)
        assert [(finding.where, finding.kind) for finding in report.findings] == [("base", "record")]
        assert any("against the log" in line for line in report.not_checked)
        for salvage in (False, True):
            with pytest.raises(varve.CorruptedStore, match="was archived"):
                ops.repair(path, tmp_path / "repaired", salvage=salvage)
    for key, _ in pairs(path, "base"):
        change(path, "base", key, None)
    assert [(finding.where, finding.kind) for finding in ops.verify(path).findings] == [("base", "missing")]
    for salvage in (False, True):
        with pytest.raises(varve.CorruptedStore, match="was archived"):
            ops.repair(path, tmp_path / "repaired", salvage=salvage)


def test_lost_blocks_above_the_horizon(path: Path, tmp_path: Path) -> None:
    """Stand-ins keep every position, and streams go on where the archive ends."""
    blocks = sorted(contents(str(path))["log"])
    with varve.open(path, readonly=True) as db:
        horizon, before = db.first_global_sequence, told(db)
    for key in (blocks[0], blocks[5], blocks[-1]):
        change(path, "log", key, None)
    report = ops.repair(path, tmp_path / "saved", salvage=True)
    assert report.lost_events > 0
    assert ops.verify(tmp_path / "saved").sound
    with varve.open(tmp_path / "saved") as db:
        assert db.first_global_sequence == horizon
        saved = told(db)
        assert [one[0] for one in saved] == [one[0] for one in before]
        assert sum(a == b for a, b in zip(before, saved, strict=True)) >= len(before) - report.lost_events
        fill(db, random.Random(6), 10)
    with varve.open([tmp_path / "archive", tmp_path / "saved"]) as series:
        assert len(list(series.global_reader().iter_from())) == series.next_global_sequence


def test_everything_above_the_horizon_is_lost(path: Path, tmp_path: Path) -> None:
    """The archive still has its part, and the store its names."""
    for key in contents(str(path))["log"]:
        change(path, "log", key, None)
    report = ops.repair(path, tmp_path / "saved", salvage=True)
    assert report.lost_events > 0
    assert ops.verify(tmp_path / "saved").sound
