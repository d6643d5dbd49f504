"""Sealing a store: once and for all, alone, and so that whoever verifies it finds whether it still holds what was sealed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from backup_models import Both, Placed, assert_prefix, closed_store, killed_at, names, recorded, steps_of

import varve
from varve import ops


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store of some commits."""
    return closed_store(tmp_path / "store", commits=8)


def unsealed(path: Path) -> bytes:
    """Somebody takes the seal away, behind our back; its bytes."""
    raw = (path / "varve.seal").read_bytes()
    (path / "varve.seal").unlink()
    return raw


def wrong(path: Path) -> list[tuple[str, str]]:
    return [(finding.where, finding.kind) for finding in ops.verify(path).findings]


def test_a_sealed_store_is_read_and_never_written(path: Path) -> None:
    """What it held is noted; everybody reads it, nobody writes."""
    before = recorded(path)
    told: list[tuple[int, int]] = []
    report = ops.seal(path, progress=lambda done, total: told.append((done, total)))
    assert report.is_new
    assert (report.first_sequence, report.next_sequence) == (0, len(before))
    assert told[-1] == (len(before), len(before))
    with pytest.raises(varve.SealedStore):
        varve.open(path)
    assert recorded(path) == before
    assert ops.verify(path).sound
    with varve.open(path, readonly=True, trust=False) as db:
        assert db.uuid == report.store_uuid
    assert ops.schemas(path)


def test_sealing_it_again_does_nothing(path: Path) -> None:
    first = ops.seal(path)
    raw = (path / "varve.seal").read_bytes()
    again = ops.seal(str(path))
    assert not again.is_new
    assert (again.content_digest, again.sealed_at_ns) == (first.content_digest, first.sealed_at_ns)
    assert (path / "varve.seal").read_bytes() == raw


def test_one_digest_for_one_content(path: Path, tmp_path: Path) -> None:
    """The seal of a store, that of its backup and the manifest say the same; other content has another."""
    backup = ops.backup(path, tmp_path / "set").backup
    assert ops.seal(backup.path).content_digest == backup.content_digest
    assert not ops.seal(backup.path).is_new
    assert ops.seal(path).content_digest == backup.content_digest
    ops.restore(tmp_path / "set", tmp_path / "shorter", to_sequence=backup.next_sequence - 1)
    assert ops.seal(tmp_path / "shorter").content_digest != backup.content_digest


def test_an_empty_store_can_be_sealed(tmp_path: Path) -> None:
    varve.open(tmp_path / "store").close()
    assert ops.seal(tmp_path / "store").next_sequence == 0
    assert ops.verify(tmp_path / "store").sound


def test_a_store_that_somebody_has_open_is_not_sealed(path: Path) -> None:
    for readonly in (False, True):
        with varve.open(path, readonly=readonly), pytest.raises(varve.StoreAlreadyOpen):
            ops.seal(path)
    assert "varve.seal" not in names(path)
    assert ops.seal(path).is_new


def test_what_is_no_store_is_not_sealed(tmp_path: Path) -> None:
    with pytest.raises(varve.StoreNotFound):
        ops.seal(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "data.mdb").write_bytes(b"")
    with pytest.raises(varve.VarveError):
        ops.seal(tmp_path / "empty")
    assert names(tmp_path / "empty") in (["data.mdb"], ["data.mdb", "varve.lock"])


def test_a_damaged_store_is_not_sealed(path: Path) -> None:
    """A seal would say that the damage is right."""
    with varve.open(path, readonly=True) as db:
        needle = bytes(db._engine.snapshot().block(0).data[-24:])
    data = (path / "data.mdb").read_bytes()
    assert needle in data
    (path / "data.mdb").write_bytes(data.replace(needle, bytes(24)))
    with pytest.raises(varve.CorruptedStore, match="was not sealed"):
        ops.seal(path)
    assert "varve.seal" not in names(path)


def test_verification_finds_what_was_written_behind_the_seal(path: Path) -> None:
    """Somebody took it away, appended, and put it back."""
    ops.seal(path)
    raw = unsealed(path)
    with varve.open(path) as db:
        db.stream("orders", Both).append(1, Placed(1))
    (path / "varve.seal").write_bytes(raw)
    assert wrong(path) == [("seal", "different")]
    with pytest.raises(varve.CorruptedStore):
        varve.open(path, readonly=True, trust=False)


def test_verification_finds_another_history_of_the_same_length(path: Path, tmp_path: Path) -> None:
    with varve.open(path) as db:
        db.stream("orders", Both).append(1, Placed(1))
    ops.backup(path, tmp_path / "set")
    end = ops.seal(path).next_sequence
    ops.restore(tmp_path / "set", tmp_path / "new", to_sequence=end - 1)
    with varve.open(tmp_path / "new") as db:
        db.stream("orders", Both).append(1, Placed(2))
    shutil.copy(path / "varve.seal", tmp_path / "new" / "varve.seal")
    assert wrong(tmp_path / "new") == [("seal", "different")]


def test_verification_finds_another_stores_seal(path: Path, tmp_path: Path) -> None:
    varve.open(tmp_path / "other").close()
    ops.seal(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "varve.seal", path / "varve.seal")
    assert wrong(path) == [("seal", "different")]


def test_verification_finds_a_damaged_seal(path: Path) -> None:
    """The store stays sealed, and the rest is verified all the same."""
    ops.seal(path)
    raw = (path / "varve.seal").read_bytes()
    (path / "varve.seal").write_bytes(raw[:-3])
    report = ops.verify(path)
    assert wrong(path) == [("seal", "record")]
    assert report.events == len(recorded(path))
    with pytest.raises(varve.CorruptedStore):
        ops.seal(path)


def test_a_damaged_log_is_not_held_against_the_seal(path: Path) -> None:
    """It says so: what is damaged is told once."""
    ops.seal(path)
    with varve.open(path, readonly=True) as db:
        needle = bytes(db._engine.snapshot().block(0).data[-24:])
    data = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(data.replace(needle, bytes(24)))
    report = ops.verify(path)
    assert {finding.where for finding in report.findings} == {"log"}
    assert any("seal" in line for line in report.not_checked)


def test_repair_makes_a_copy_that_can_be_written_to(path: Path, tmp_path: Path) -> None:
    """The way on for whoever needs to write after all, as the error says."""
    ops.seal(path)
    for salvage in (False, True):
        target = tmp_path / f"new{salvage}"
        ops.repair(path, target, salvage=salvage)
        assert assert_prefix(target, path) == len(recorded(path))
        with varve.open(target) as db:
            db.stream("orders", Both).append(1, Placed(1))


def test_a_sealed_store_can_be_backed_up_and_restored(path: Path, tmp_path: Path) -> None:
    ops.seal(path)
    ops.backup(path, tmp_path / "set")
    ops.restore(tmp_path / "set", tmp_path / "new", check=True)
    with varve.open(tmp_path / "new") as db:
        db.stream("orders", Both).append(1, Placed(1))


def test_killed_at_any_step_it_is_sealed_or_not(path: Path, tmp_path: Path) -> None:
    """And the next attempt seals it."""

    def cut_off(step: int) -> bool:
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(path, tmp_path / "copy")
        return killed_at(step, lambda: ops.seal(tmp_path / "copy"))

    seen = set()
    for _ in steps_of(cut_off):
        is_sealed = (tmp_path / "copy" / "varve.seal").exists()
        seen.add(is_sealed)
        assert ops.verify(tmp_path / "copy").sound
        assert ops.seal(tmp_path / "copy").is_new != is_sealed
    assert seen == {False, True}
