"""Backups that are not as they were written: every one is refused, whatever byte of it is another."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from backup_models import Both, Clock, Noted, Placed, names

import varve
from varve import ops
from varve.layout import document

FULL, FIRST, SECOND = "000001-full", "000002-incremental", "000003-incremental"


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small store with a full backup and two incremental ones; and another store's set beside it."""
    folder = tmp_path_factory.mktemp("kept")
    for name, count in (("set", 3), ("other", 5)):
        with varve.open(folder / f"store-{name}", durability="relaxed", clock=Clock()) as db:
            orders = db.stream("orders", Both)
            for number in range(3):
                for _ in range(count):
                    orders.append(1, Placed(number))
                orders.append("a", Noted("text"), metadata={"n": number}, idempotency_key=f"key {number}")
                if number == 1:
                    db.consumer("billing").close()
                db.backup(folder / name, incremental=bool(number))
    return folder


@pytest.fixture
def backups(kept: Path, tmp_path: Path) -> Path:
    """A copy of the set, to be spoilt."""
    shutil.copytree(kept / "set", tmp_path / "set")
    return tmp_path / "set"


def refused(backups: Path, why: str = "backup") -> None:
    """Neither restored nor called sound; nothing is left of the attempt."""
    with pytest.raises(varve.CorruptedBackup, match=why):
        ops.restore(backups, backups.parent / "new")
    assert names(backups.parent) == ["set"]
    check = ops.verify_backup(backups)
    assert not check.sound
    assert all(isinstance(problem, varve.CorruptedBackup) for problem in check.problems)


@pytest.mark.parametrize("backup", [FULL, FIRST, SECOND])
@pytest.mark.parametrize("file", ["MANIFEST.json", "log.pairs", "consumers.pairs", "varve.seal", "data.mdb"])
def test_every_changed_byte_and_every_cut_is_refused(backups: Path, backup: str, file: str) -> None:
    """A bit of each byte, each length; of larger files as many as a test has time for, at places that the seed tells."""
    path = backups / backup / file
    if not path.exists():
        assert (backup == FULL) == (file.endswith(".pairs"))
        return
    seed = random.randrange(2**32)
    rng = random.Random(seed)
    raw = path.read_bytes()
    places = list(range(len(raw)))
    for at in places if len(raw) < 600 else rng.sample(places, 250):
        changed = bytearray(raw)
        changed[at] ^= 1 << rng.randrange(8)
        path.write_bytes(bytes(changed))
        with pytest.raises(varve.CorruptedBackup):
            ops.restore(backups, backups.parent / "new")
            pytest.fail(f"byte {at}, seed {seed}")
    for length in rng.sample(places, 40):
        path.write_bytes(raw[:length])
        with pytest.raises(varve.CorruptedBackup):
            ops.restore(backups, backups.parent / "new")
            pytest.fail(f"length {length}, seed {seed}")
    refused(backups)
    path.write_bytes(raw + b"\0")
    refused(backups)
    path.write_bytes(raw)
    assert ops.verify_backup(backups).sound


@pytest.mark.parametrize("file", ["MANIFEST.json", "log.pairs"])
def test_a_file_that_is_missing_is_told(backups: Path, file: str) -> None:
    (backups / FIRST / file).unlink()
    with pytest.raises(varve.CorruptedBackup, match=r"missing|not there"):
        ops.restore(backups, backups.parent / "new")
    check = ops.verify_backup(backups)
    assert {problem.path for problem in check.problems} >= {str(backups / FIRST)}  # type: ignore[attr-defined]
    assert ops.restore(backups, backups.parent / "new", to_sequence=4).next_sequence == 4


def test_a_link_of_the_chain_that_is_missing_is_told(backups: Path) -> None:
    """What continues it cannot be restored; what is before it can."""
    shutil.rmtree(backups / FIRST)
    refused(backups, "the backup that it continues is not there")
    assert ops.restore(backups / FULL, backups.parent / "new").next_sequence == 4


def test_the_beginning_of_a_chain_that_is_missing_is_told(backups: Path) -> None:
    shutil.rmtree(backups / FULL)
    refused(backups, "the backup that it continues is not there")
    assert len(ops.verify_backup(backups).problems) == 2


def test_backups_of_another_store_do_not_fit(backups: Path, kept: Path) -> None:
    """A whole backup of it, or only its files."""
    shutil.rmtree(backups / SECOND)
    shutil.copytree(kept / "other" / SECOND, backups / SECOND)
    refused(backups)
    shutil.rmtree(backups / SECOND)
    shutil.copytree(kept / "set" / SECOND, backups / SECOND)
    shutil.copy(kept / "other" / FULL / "data.mdb", backups / FULL / "data.mdb")
    refused(backups, "data.mdb")


def test_a_full_backup_of_another_store_is_told(backups: Path, kept: Path) -> None:
    """It would be restored, as what it is; the check says that it does not belong here."""
    shutil.copytree(kept / "other" / FULL, backups / "000004-full")
    check = ops.verify_backup(backups)
    assert [problem.path for problem in check.problems] == [str(backups / "000004-full")]  # type: ignore[attr-defined]


def test_swapped_backups_do_not_fit(backups: Path) -> None:
    """The order of the names means nothing, the chain in the manifests counts; but a manifest belongs to its files."""
    (backups / FIRST / "log.pairs").rename(backups / "spare")
    (backups / SECOND / "log.pairs").rename(backups / FIRST / "log.pairs")
    (backups / "spare").rename(backups / SECOND / "log.pairs")
    refused(backups, r"log\.pairs")


@pytest.mark.parametrize("file", ["MANIFEST.json", "log.pairs"])
def test_a_pipe_in_the_place_of_a_file_is_not_waited_for(backups: Path, file: str) -> None:
    (backups / SECOND / file).unlink()
    os.mkfifo(backups / SECOND / file)
    with pytest.raises(varve.StoreUnavailable, match="regular"):
        ops.restore(backups, backups.parent / "new")
    assert not ops.verify_backup(backups).sound


# -- forged ones ---------------------------------------------------------------------------------------------------


def forge(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Another manifest, with the right digest of itself."""
    fields = document.decode((folder / "MANIFEST.json").read_bytes())
    change(fields)
    (folder / "MANIFEST.json").write_bytes(document.encode(fields))


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: fields.update(kind="partial"),
        lambda fields: fields.update(kind="full"),
        lambda fields: fields.update(continues=None),
        lambda fields: fields["continues"].update(id="0" * 32),
        lambda fields: fields["continues"].update(manifest_sha256="0" * 64),
        lambda fields: fields.update(store_uuid="00000000-0000-4000-8000-000000000000"),
        lambda fields: fields.update(store_uuid=7),
        lambda fields: fields.update(first_sequence=0),
        lambda fields: fields.update(first_sequence=True),
        lambda fields: fields.update(first_sequence=99),
        lambda fields: fields.update(next_sequence=13),
        lambda fields: fields.update(next_sequence=11),
        lambda fields: fields["last_commit"].update(first_sequence=3),
        lambda fields: fields["last_commit"].update(mark="0" * 64),
        lambda fields: fields.update(last_commit=None),
        lambda fields: fields["numbers"].update(streams=1),
        lambda fields: fields["numbers"].update(names=70_000),
        lambda fields: fields["numbers"].update(sha256="0" * 64),
        lambda fields: fields.update(content_digest="0" * 64),
        lambda fields: fields.update(content_digest="no digest"),
        lambda fields: fields["tables"].clear(),
        lambda fields: fields["tables"]["consumers"].update(pairs=7),
        lambda fields: fields["tables"].update(other={"pairs": 0, "sha256": "0" * 64}),
        lambda fields: fields.update(covers=[]),
        lambda fields: fields.update(covers=7),
        lambda fields: fields["files"].pop("log.pairs"),
        lambda fields: fields["files"].update({"../../data.mdb": {"size_bytes": 1, "sha256": "0" * 64}}),
        lambda fields: fields["files"]["log.pairs"].update(size_bytes="1"),
        lambda fields: fields.update(files=[]),
        lambda fields: fields.update(more=1),
        lambda fields: fields.update(varve_backup="1"),
        lambda fields: fields.pop("varve_backup"),
        lambda fields: fields.update(varve_version=None),
    ],
)
def test_a_manifest_that_says_something_else_is_found(backups: Path, change: Any) -> None:
    """Each thing that it says is held against what is there, also where its own digest is right."""
    forge(backups / SECOND, change)
    check = ops.verify_backup(backups)
    assert [type(problem) for problem in check.problems] == [varve.CorruptedBackup]


def test_a_full_backup_is_held_against_its_manifest_as_well(backups: Path) -> None:
    shutil.rmtree(backups / FIRST)
    shutil.rmtree(backups / SECOND)
    for change in (
        lambda fields: fields.update(store_uuid="00000000-0000-4000-8000-000000000000"),
        lambda fields: fields.update(next_sequence=3),
        lambda fields: fields.update(content_digest="0" * 64),
        lambda fields: fields["files"].pop("data.mdb"),
    ):
        before = (backups / FULL / "MANIFEST.json").read_bytes()
        forge(backups / FULL, change)
        assert not ops.verify_backup(backups).sound
        (backups / FULL / "MANIFEST.json").write_bytes(before)
    assert ops.verify_backup(backups).sound


def test_newer_backups_are_told_from_damaged_ones(backups: Path) -> None:
    for field in ("varve_backup", "store_format"):
        before = (backups / SECOND / "MANIFEST.json").read_bytes()
        forge(backups / SECOND, lambda fields, field=field: fields.update({field: 2}))
        with pytest.raises(varve.UnsupportedFormat, match="Upgrade"):
            ops.restore(backups, backups.parent / "new")
        assert [type(problem) for problem in ops.verify_backup(backups).problems] == [varve.UnsupportedFormat]
        (backups / SECOND / "MANIFEST.json").write_bytes(before)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda raw: b"",
        lambda raw: b"VRVPAIR2" + raw[8:],
        lambda raw: raw[:-1],
        lambda raw: raw[:12],
        lambda raw: raw[:8] + b"\xff" * 8 + raw[16:],
        lambda raw: raw[:8] + raw[8:] * 2,
        lambda raw: raw[:8],
        lambda raw: raw[:16] + bytes(7) + b"\x09" + raw[24:],
        lambda raw: raw[:60] + bytes([raw[60] ^ 1]) + raw[61:],
    ],
)
def test_a_segment_is_read_with_care_whatever_its_manifest_says(backups: Path, spoil: Any) -> None:
    """Lengths, keys, checksums, sequences: with the right SHA-256 in the manifest they are still wrong."""
    path = backups / SECOND / "log.pairs"
    raw = spoil(path.read_bytes())
    path.write_bytes(raw)
    forge(
        backups / SECOND,
        lambda fields: fields["files"].update(
            {"log.pairs": {"size_bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}}
        ),
    )
    refused(backups)
