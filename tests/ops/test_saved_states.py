"""What ``db.snapshots`` has saved goes along with backups, restores, compacted and repaired stores; damage in it is found."""

from pathlib import Path
from typing import Any

import pytest

import varve
from varve.ops import backup, compact, repair, restore, verify, verify_backup


@varve.event(name="states.Paid")
class Paid:
    amount: varve.i64


def positions(path: Path, scope: Any = ("paid", 1)) -> list[int]:
    """What can be used of a scope in a store, by its latest state and those before it."""
    with varve.open(path, readonly=True) as db:
        found = []
        at: int | None = 1_000
        while at is not None and at >= 0:
            saved = db.snapshots.at_or_before(scope, at)
            if saved is not None:
                assert saved.state == {"sum": sum(range(saved.position))}
                found.append(saved.position)
            at = None if saved is None else saved.position - 1
        return found[::-1]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store with three events, and the state after each."""
    grow(tmp_path / "store", 0, 3)
    return tmp_path / "store"


def grow(path: Path, first: int, stop: int) -> None:
    """Append events one by one, and save the state after each."""
    with varve.open(path) as db:
        paid = db.stream("paid", Paid)
        for amount in range(first, stop):
            paid.append(1, Paid(amount))
            db.snapshots.save(("paid", 1), amount + 1, {"sum": sum(range(amount + 1))})


def test_a_full_backup_holds_them_and_a_restore_brings_them_back(path: Path, tmp_path: Path) -> None:
    with varve.open(path) as db:
        report = db.backup(tmp_path / "set")
    assert [(cover.environment, cover.parts) for cover in report.backup.covers[1:]] == [("snapshots", ("states",))]
    assert "snapshots.pairs" in {file.name for file in report.backup.files}
    assert verify_backup(tmp_path / "set").sound
    restore(tmp_path / "set", tmp_path / "whole", check=True)
    assert positions(tmp_path / "whole") == [1, 2, 3]
    restore(tmp_path / "set", tmp_path / "earlier", to_sequence=2)
    assert positions(tmp_path / "earlier") == [1, 2]
    with varve.open(tmp_path / "earlier", readonly=True) as db:
        assert [info.position for info in db.snapshots.stored()] == [1, 2]  # the third has not even come along
    grow(tmp_path / "earlier", 2, 4)
    assert positions(tmp_path / "earlier") == [1, 2, 3, 4]


def test_an_incremental_one_leaves_them_to_the_full_one(path: Path, tmp_path: Path) -> None:
    backup(path, tmp_path / "set")
    grow(path, 3, 5)
    backup(path, tmp_path / "set", incremental=True)
    assert verify_backup(tmp_path / "set").sound
    restore(tmp_path / "set", tmp_path / "new")
    assert positions(tmp_path / "new") == [1, 2, 3]


def test_a_store_without_any_has_backups_as_before(varve_path: Path, tmp_path: Path) -> None:
    with varve.open(varve_path) as db:
        report = db.backup(tmp_path / "set")
    assert len(report.backup.covers) == 1
    assert {file.name for file in report.backup.files} == {"data.mdb", "varve.seal"}
    restore(tmp_path / "set", tmp_path / "new")
    assert not (tmp_path / "new" / "snapshots").exists()


def test_a_changed_or_missing_file_of_states_is_found(path: Path, tmp_path: Path) -> None:
    made = backup(path, tmp_path / "set").backup
    file = Path(made.path) / "snapshots.pairs"
    raw = file.read_bytes()
    file.write_bytes(raw[:-1] + bytes((raw[-1] ^ 1,)))
    assert not verify_backup(tmp_path / "set").sound
    with pytest.raises(varve.CorruptedBackup, match=r"snapshots\.pairs was changed"):
        restore(tmp_path / "set", tmp_path / "new")
    file.unlink()
    with pytest.raises(varve.CorruptedBackup, match=r"snapshots\.pairs is missing"):
        restore(tmp_path / "set", tmp_path / "new")


def test_compacted_and_repaired_stores_have_them(path: Path, tmp_path: Path) -> None:
    with varve.open(path) as db:
        db.stream("paid", Paid).truncate_before(1, 2)
    compact(path, tmp_path / "compacted")
    assert positions(tmp_path / "compacted") == [1, 2, 3]
    assert verify(tmp_path / "compacted").sound
    for salvage in (False, True):
        target = tmp_path / f"repaired-{salvage}"
        assert repair(path, target, salvage=salvage).notes == ()
        assert positions(target) == [1, 2, 3]


def damage(path: Path, old: bytes) -> None:
    """Change a byte of saved state behind some bytes, in every place where they stand."""
    data = path / "snapshots" / "data.mdb"
    raw = data.read_bytes()
    assert old in raw
    data.write_bytes(raw.replace(old, old[:-1] + bytes((old[-1] ^ 1,))))


def test_damaged_states_are_findings_and_are_left_behind(path: Path, tmp_path: Path) -> None:
    assert verify(path).sound
    damage(path, b"\x06\x03sum\x03\x01\x03")  # 0 + 1 + 2
    report = verify(path)
    assert [(finding.where, finding.kind) for finding in report.findings] == [("snapshots", "record")]
    assert positions(path) == [1, 2]
    backup(path, tmp_path / "set")
    restore(tmp_path / "set", tmp_path / "new")
    compact(path, tmp_path / "compacted")
    repair(path, tmp_path / "repaired")
    for made in ("new", "compacted", "repaired"):
        assert verify(tmp_path / made).sound
        assert positions(tmp_path / made) == [1, 2]


def test_a_damaged_meta_page_is_a_finding(path: Path, tmp_path: Path) -> None:
    data = path / "snapshots" / "data.mdb"
    raw = data.read_bytes()
    data.write_bytes(bytes(4096) + raw[4096:])
    assert ("snapshots", "page") in {(finding.where, finding.kind) for finding in verify(path).findings}
    assert repair(path, tmp_path / "repaired").notes
    assert positions(tmp_path / "repaired")[:2] == [1, 2]


@pytest.mark.parametrize("rubbish", [b"rubbish" * 5_000, None])
def test_a_file_that_is_none_is_a_finding_and_hinders_nobody(path: Path, tmp_path: Path, rubbish: bytes | None) -> None:
    data = path / "snapshots" / "data.mdb"
    raw = data.read_bytes()
    data.write_bytes(rubbish if rubbish is not None else raw[: 4096 * 2] + b"\xff" * (len(raw) - 4096 * 2))
    assert {finding.where for finding in verify(path).findings} == {"snapshots"}
    report = repair(path, tmp_path / "repaired")
    assert report.notes
    assert report.notes[0].startswith("saved states: ")
    assert verify(tmp_path / "repaired").sound
    if rubbish is not None:  # else LMDB is asked, who may fall over it
        backup(path, tmp_path / "set")
        restore(tmp_path / "set", tmp_path / "new")
        compact(path, tmp_path / "compacted")
        assert verify(tmp_path / "new").sound
    assert positions(tmp_path / "repaired") == []
