"""Backups of a store whose beginning was archived: from there on, and never less than the store had."""

from __future__ import annotations

import datetime as dt
import random
import shutil
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest
from backup_models import Clock, commit, recorded

import varve
from varve import limits, ops


class Made(NamedTuple):
    """A store, the horizon, and its backups: a full one and an increment from before, the same from behind."""

    store: Path
    set: Path
    horizon: int
    whole: list[tuple[object, ...]]
    backups: list[ops.Backup]


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Made:
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 1_200)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 1_200)
    rng = random.Random(11)
    store, backups = tmp_path / "store", []
    with varve.open(store, durability="relaxed", clock=Clock()) as db:
        for number in range(40):
            commit(db, number, rng)
            if number in {15, 25}:
                backups.append(db.backup(tmp_path / "set", incremental=number == 25).backup)
        end = db.next_global_sequence
    whole: list[tuple[object, ...]] = list(recorded(store))
    with varve.open(store, durability="relaxed", clock=Clock()) as db:
        horizon = db.archive(before=end // 2, to=tmp_path / "archive").next_sequence
        assert 0 < horizon < backups[-1].next_sequence
        backups.append(db.backup(tmp_path / "set", incremental=True).backup)
        backups.append(db.backup(tmp_path / "set").backup)
        for number in range(40, 44):
            commit(db, number, rng)
        backups.append(db.backup(tmp_path / "set", incremental=True).backup)
    with varve.open(store, readonly=True) as db:
        whole.extend((event.global_sequence,) for event in db.global_reader().iter_from(end))
    return Made(store, tmp_path / "set", horizon, whole, backups)


def test_everything_is_sound_and_comes_back(made: Made, tmp_path: Path) -> None:
    """Full backups begin at the horizon of their time, increments go on over it."""
    assert ops.verify_backup(made.set).sound
    assert [backup.first_sequence for backup in made.backups if backup.kind == "full"] == [0, made.horizon]
    for number, backup in enumerate(made.backups):
        report = ops.restore(backup.path, tmp_path / f"new{number}", check=True)
        assert report.next_sequence == backup.next_sequence
        with varve.open(tmp_path / f"new{number}") as db:
            first = report.backups[0].first_sequence
            found = [event.global_sequence for event in db.global_reader().iter_from(first)]
            assert found == list(range(first, backup.next_sequence))
            commit(db, 1_000, random.Random(1))
            assert db.next_global_sequence > backup.next_sequence
        assert ops.verify(tmp_path / f"new{number}").sound


def test_points_are_served_by_backups_that_have_them(made: Made, tmp_path: Path) -> None:
    """Below the horizon by those from before it was moved; never by one that begins behind the point."""
    for at in (1, made.horizon - 1, made.backups[1].next_sequence, made.backups[2].next_sequence - 3):
        report = ops.restore(made.set, tmp_path / f"at{at}", to_sequence=at)
        assert report.backups[0].first_sequence <= report.next_sequence <= at
        assert ops.verify(tmp_path / f"at{at}").sound


def test_every_point_of_an_increment_is_served_when_its_events_are_archived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full backup that begins in the midst of it ends where it ends, too; points before that one are the increment's."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 1_200)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 1_200)
    rng, clock = random.Random(12), Clock()
    store, backups = tmp_path / "store", tmp_path / "set"
    with varve.open(store, durability="relaxed", clock=clock) as db:
        for number in range(24):
            commit(db, number, rng)
            if number == 5:
                db.backup(backups)
        increment = db.backup(backups, incremental=True).backup
    whole = recorded(store)
    with varve.open(store, durability="relaxed", clock=clock) as db:
        db.archive(before=db.next_global_sequence, to=tmp_path / "archive")
        full = db.backup(backups).backup
        commit(db, 24, rng)
        db.backup(backups, incremental=True)
    assert increment.first_sequence < full.first_sequence < full.next_sequence == increment.next_sequence
    times = {first: time_ns for *_, first, time_ns, _ in whole}
    firsts = [*sorted(times), len(whole)]
    lengths = set()
    for at, (first, end) in enumerate(pairwise(firsts)):
        lengths.add(end - first)
        moment = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=times[first] // 1_000)
        by_time = ops.restore(backups, tmp_path / f"time{at}", to_time=moment)
        by_sequence = ops.restore(backups, tmp_path / f"sequence{at}", to_sequence=end)
        assert by_time.next_sequence == by_sequence.next_sequence == end
        within = ops.restore(backups, tmp_path / f"within{at}", to_sequence=end - 1)
        assert (within.next_sequence, within.rounded_down) == (first, end - 1 > first)
        if by_time.backups[0].first_sequence == 0:
            assert recorded(tmp_path / f"time{at}") == whole[:end]
    assert max(lengths) > 1


def alone(backup: str, tmp_path: Path) -> Path:
    """A full backup that lies by itself."""
    return Path(shutil.copytree(backup, tmp_path / "alone"))


def test_what_a_backup_does_not_have_is_refused(made: Made, tmp_path: Path) -> None:
    """By sequence and by time: what was archived before it was taken."""
    lone = alone(made.backups[3].path, tmp_path)
    early = dt.datetime.fromtimestamp(0, dt.UTC)
    for point in ({"to_sequence": made.horizon - 1}, {"to_sequence": made.horizon}, {"to_time": early}):
        with pytest.raises(varve.InvalidInput):
            ops.restore(lone, tmp_path / "new", **point)  # type: ignore[arg-type]
    assert not (tmp_path / "new").exists()


def test_a_gap_between_two_backups_is_refused(made: Made, tmp_path: Path) -> None:
    """What came since the last backup and is archived already no increment can have; a full backup goes on from the horizon."""
    with varve.open(made.store, clock=Clock()) as db:
        for number in range(100, 140):
            commit(db, number, random.Random(number))
        db.archive(before=db.next_global_sequence, to=tmp_path / "archive2")
        with pytest.raises(varve.BackupMismatch, match="full backup"):
            db.backup(made.set, incremental=True)
        full = db.backup(made.set).backup
    assert ops.verify_backup(made.set).sound
    between = made.backups[-1].next_sequence + 3
    assert between < full.first_sequence
    with pytest.raises(varve.InvalidInput, match="archived"):
        ops.restore(made.set, tmp_path / "new", to_sequence=between)


def test_a_sealed_store_with_an_archived_beginning_verifies(made: Made) -> None:
    report = ops.seal(made.store)
    assert (report.first_sequence, report.next_sequence) == (made.horizon, made.backups[-1].next_sequence)
    assert ops.verify(made.store).sound
