"""Restored stores: the store as it was at any point, and as good as the one it was."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import os
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
from backup_models import (
    Both,
    Clock,
    Noted,
    Placed,
    assert_prefix,
    commit,
    killed_at,
    log_content,
    names,
    recorded,
    steps_of,
)

import varve
from varve import ops
from varve.engine.instant import contents


class Made:
    """A store, its backups, and where its commits begin."""

    def __init__(self, folder: Path) -> None:
        self.store = folder / "store"
        self.set = folder / "set"
        self.clock = Clock()
        rng = random.Random(7)
        self.backups: list[ops.Backup] = []
        with varve.open(self.store, durability="relaxed", clock=self.clock) as db:
            for number in range(30):
                commit(db, number, rng)
                if number in {8, 13, 14, 20, 25}:
                    self.backups.append(db.backup(self.set, incremental=number not in {8, 20}).backup)
            self.backups.append(db.backup(self.set, incremental=True).backup)
            self.end = db.next_global_sequence
        self.events = recorded(self.store)
        self.commits = sorted({event[6] for event in self.events})


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """A store with two full backups and four incremental ones."""
    return Made(tmp_path_factory.mktemp("made"))


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return tmp_path / "new"


def whole(made: Made, sequence: int) -> int:
    """The end of the last commit that is complete before a sequence."""
    return max(at for at in (*made.commits, made.end) if at <= sequence)


# -- points --------------------------------------------------------------------------------------------------------


def test_every_sequence_is_a_point(made: Made, tmp_path: Path) -> None:
    """Exactly the events before it, by everything that can be read of them; within a commit, those before the commit."""
    for sequence in range(made.end + 1):
        target = tmp_path / f"at{sequence}"
        report = ops.restore(made.set, target, to_sequence=sequence)
        wanted = whole(made, sequence)
        assert (report.next_sequence, report.rounded_down) == (wanted, wanted < sequence)
        assert recorded(target) == made.events[:wanted]
        assert report.last_recorded_at_ns == (made.events[wanted - 1][7] if wanted else None)
        assert sequence % 5 or ops.verify(target).sound
        with varve.open(made.store, readonly=True) as source, varve.open(target, readonly=True) as restored:
            assert restored.uuid == source.uuid
        shutil.rmtree(target)


def test_a_store_that_was_never_longer_is_the_same(tmp_path: Path, new: Path) -> None:
    """Pair by pair, in every sub-database and at every commit: as if what came later had never been written."""
    clock = Clock()
    rng = random.Random(3)
    states = []
    with varve.open(tmp_path / "store", durability="relaxed", clock=clock) as db:
        for number in range(14):
            commit(db, number, rng)
            with db._engine.snapshot() as snapshot:
                states.append(
                    (
                        db.next_global_sequence,
                        [bytes(block.data) for block in snapshot.blocks(0, snapshot.next_sequence)],
                    )
                )
        db.backup(tmp_path / "set")
    for sequence, frames in states:
        ops.restore(tmp_path / "set", new, to_sequence=sequence)
        assert list(contents(str(new))["log"].values()) == frames
        shutil.rmtree(new)


def test_every_time_is_a_point(made: Made, tmp_path: Path) -> None:
    """With what was recorded at that instant, and nothing after it."""
    times = sorted({event[7] for event in made.events})
    for number, time_ns in enumerate(times):
        at = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=time_ns // 1_000)
        if number % 3 == 1:
            at = at.astimezone(dt.timezone(dt.timedelta(hours=5)))
        report = ops.restore(made.set, tmp_path / "new", to_time=at)
        wanted = sum(event[7] <= time_ns for event in made.events)
        assert report.next_sequence == wanted
        assert recorded(tmp_path / "new") == made.events[:wanted]
        assert not report.rounded_down
        shutil.rmtree(tmp_path / "new")
    before = dt.datetime.fromtimestamp(0, dt.UTC)
    assert ops.restore(made.set, tmp_path / "new", to_time=before).next_sequence == 0


def test_the_time_that_an_event_shows_has_that_event(tmp_path: Path, new: Path) -> None:
    """``recorded_at`` is cut to microseconds: whoever passes it means that event, too, and not the next one."""
    times = iter((5_000_001_400, 5_000_001_999, 5_000_002_000))
    with varve.open(tmp_path / "store", durability="relaxed", clock=lambda: next(times, 9_000_000_000)) as db:
        orders = db.stream("orders", Both)
        for number in range(2):
            orders.append(1, Placed(number))
        first = db.global_reader().get(0)
        db.backup(tmp_path / "set")
    assert first is not None
    events = recorded(tmp_path / "store")
    expected = sum(event[7] // 1_000 <= first.time_ns // 1_000 for event in events)
    assert ops.restore(tmp_path / "set", new, to_time=first.recorded_at).next_sequence == expected


def test_the_time_of_the_last_backup_is_the_last(made: Made, new: Path) -> None:
    """What came between two backups only the later one knows; what came after the last, nobody."""
    last = made.backups[-1]
    with pytest.raises(varve.InvalidInput, match="newest backup"):
        ops.restore(made.set, new, to_time=last.taken_at + dt.timedelta(microseconds=1))
    assert ops.restore(made.set, new, to_time=last.taken_at).next_sequence == made.end


def test_a_commit_under_way_is_not_lost_between_two_backups(tmp_path: Path, new: Path) -> None:
    """Its time is from before the first backup, which does not have it; the second one does, and serves that time."""
    clock = Clock()
    with varve.open(tmp_path / "store", durability="relaxed", clock=clock) as db:
        orders = db.stream("orders", Both)
        orders.append(1, Placed(1))
        first = db.backup(tmp_path / "set").backup
        clock.ns -= 10_000_000  # so far back that it was recorded, as it says, with the last commit before the backup
        orders.append(1, Placed(2))
        db.backup(tmp_path / "set", incremental=True)
        clock.ns += 50_000_000
        orders.append(1, Placed(3))
        db.backup(tmp_path / "set", incremental=True)
    assert ops.restore(tmp_path / "set", new, to_time=first.taken_at).next_sequence == 2


@pytest.mark.parametrize(
    "point",
    [
        {"to_sequence": -1},
        {"to_sequence": 1.0},
        {"to_sequence": True},
        {"to_sequence": 10**6},
        {"to_time": 5},
        {"to_time": dt.datetime(2026, 1, 1)},
        {"to_time": dt.datetime(2999, 1, 1, tzinfo=dt.UTC)},
        {"to_sequence": 1, "to_time": dt.datetime(2026, 1, 1, tzinfo=dt.UTC)},
    ],
)
def test_points_that_are_none_are_refused(made: Made, new: Path, point: dict[str, Any]) -> None:
    """Also those that the backups do not reach: less than was asked for is never given without a word."""
    with pytest.raises(varve.InvalidInput):
        ops.restore(made.set, new, **point)
    assert names(new.parent) == []


def test_the_nearest_backups_serve_a_point(made: Made, tmp_path: Path) -> None:
    """The last full one at or before it with what continues it; where there is none, the one that has it."""
    chains = {
        backup.next_sequence: [
            one.name for one in ops.restore(made.set, tmp_path / backup.name, to_sequence=backup.next_sequence).backups
        ]
        for backup in made.backups
    }
    assert list(chains.values()) == [
        ["000001-full"],
        ["000001-full", "000002-incremental"],
        ["000001-full", "000002-incremental", "000003-incremental"],
        ["000004-full"],
        ["000004-full", "000005-incremental"],
        ["000004-full", "000005-incremental", "000006-incremental"],
    ]
    between = made.backups[2].next_sequence + 2
    assert [one.name for one in ops.restore(made.set, tmp_path / "x", to_sequence=between).backups] == ["000004-full"]
    assert [one.name for one in ops.restore(made.set, tmp_path / "y").backups] == chains[made.end]


def test_one_backup_means_those_up_to_it(made: Made, tmp_path: Path) -> None:
    """Its own folder as the source; a full one also where it lies alone, under whatever name."""
    third = made.backups[2]
    assert ops.restore(third.path, tmp_path / "new").next_sequence == third.next_sequence
    with pytest.raises(varve.InvalidInput, match="reach up to"):
        ops.restore(third.path, tmp_path / "more", to_sequence=third.next_sequence + 1)
    shutil.copytree(made.backups[0].path, tmp_path / "somewhere")
    assert ops.restore(tmp_path / "somewhere", tmp_path / "alone").next_sequence == made.backups[0].next_sequence
    assert ops.verify_backup(tmp_path / "somewhere").sound
    shutil.copytree(third.path, tmp_path / "increment")
    with pytest.raises(varve.CorruptedBackup, match="continues is not there"):
        ops.restore(tmp_path / "increment", tmp_path / "none")


# -- what it is worth ----------------------------------------------------------------------------------------------


def test_the_latest_is_the_store(made: Made, new: Path) -> None:
    """Index and metadata pair by pair, and every event; looked at completely before it gets its name, if asked to."""
    told: list[tuple[int, int]] = []
    ops.restore(made.set, new, check=True, progress=lambda done, total: told.append((done, total)))
    assert log_content(new) == log_content(made.store)
    assert recorded(new) == made.events
    assert told[-1] == (2 * made.end, 2 * made.end)
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_it_goes_on_as_the_store_would(made: Made, new: Path) -> None:
    """Keys are remembered, streams go on, new ones come, expectations hold, the clock does not go back."""
    ops.restore(made.set, new)
    rng = random.Random(7)
    with varve.open(new, clock=Clock()) as db:
        before = db.next_global_sequence
        commit(db, 0, rng)  # as it was first: under its key
        assert db.next_global_sequence == before
        with pytest.raises(varve.IdempotencyConflict):
            db.stream("orders", Both).append(1, Placed(9), idempotency_key="key 3")
        orders = db.stream("orders", Both)
        length = orders.reader().length(1)
        assert orders.append(1, Noted("more"), expected=length).stream_sequence == length
        db.stream("brand new", Both).append("x", Placed(1))
        times = [one.time_ns for one in db.global_reader().iter_from(0)]
        assert times == sorted(times)
    assert ops.verify(new).sound


def read_up_to(path: Path, name: str, events: int, **options: Any) -> None:
    async def read() -> None:
        with varve.open(path) as db:
            async with db.consumer(name, commit="manual", **options) as consumer:
                if events:
                    await consumer.next_batch(events)
                await consumer.commit()

    asyncio.run(read())


def positions(path: Path) -> dict[str, int]:
    with varve.open(path, readonly=True) as db:
        return {one.name: one.position for one in db.consumers()}


def test_consumers_come_along_and_never_stand_behind_the_end(tmp_path: Path, new: Path) -> None:
    """Whoever stood beyond it is moved back, and told; also one that several members share."""
    store = tmp_path / "store"
    with varve.open(store, durability="relaxed") as db:
        for number in range(40):
            db.stream("orders", Both).append(number, Placed(number))
    read_up_to(store, "behind", 5)
    read_up_to(store, "ahead", 30)
    read_up_to(store, "shared", 40, member=0, members=2)
    ops.backup(store, tmp_path / "set")
    read_up_to(store, "behind", 15)
    read_up_to(store, "late", 12)
    ops.backup(store, tmp_path / "set", incremental=True)
    assert ops.restore(tmp_path / "set", new).moved_consumers == ()
    assert positions(new) == positions(store)
    for at in (0, 3, 10, 25):
        shutil.rmtree(new)
        report = ops.restore(tmp_path / "set", new, to_sequence=at)
        assert ops.verify(new).sound
        stood = {"ahead": 30, "behind": 20, "late": 12}
        assert positions(new) == {name: min(position, at) for name, position in {**stood, "shared": 0}.items()}
        moved = {one.name: (one.position, one.moved_to) for one in report.moved_consumers}
        assert moved.pop("shared")[1] == at
        assert moved == {name: (position, at) for name, position in stood.items() if position > at}
    with varve.open(new) as db:
        for number in range(5):
            db.stream("orders", Both).append(1_000, Placed(number))
    read_up_to(new, "ahead", 3)
    assert positions(new)["ahead"] == 28
    assert ops.verify(new).sound


def test_retention_rules_come_along(tmp_path: Path) -> None:
    """In full backups and in increments: what readers pass over they pass over still."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        orders = db.stream("orders", Both)
        orders.append_batch(1, [Placed(number) for number in range(10)])
        orders.truncate_before(1, 3)
        db.backup(tmp_path / "set")
        orders.truncate_before(1, 6)
        assert db.backup(tmp_path / "set", incremental=True).written
    for number, first in enumerate((3, 6)):
        backup = ops.backups(tmp_path / "set")[number].readable()
        ops.restore(backup.path, tmp_path / f"new{number}", check=True)
        with varve.open(tmp_path / f"new{number}") as db:
            found = [one.stream_sequence for one in db.stream("orders", Both).reader().iter_stream(1)]
        assert found == list(range(first, 10))


def test_what_was_restored_can_be_backed_up(made: Made, new: Path, tmp_path: Path) -> None:
    """It is the store: the set goes on where it ended."""
    shutil.copytree(made.set, tmp_path / "set")
    ops.restore(tmp_path / "set", new)
    assert not ops.backup(new, tmp_path / "set", incremental=True).written
    with varve.open(new) as db:
        commit(db, 77, random.Random(1))
    ops.backup(new, tmp_path / "set", incremental=True)
    assert ops.verify_backup(tmp_path / "set").sound


# -- targets -------------------------------------------------------------------------------------------------------


def test_nothing_is_restored_over_something(made: Made, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(varve.InvalidInput, match="exists already"):
        ops.restore(made.set, tmp_path / "there")
    with pytest.raises(varve.InvalidInput, match="lies in the folder of the backups"):
        ops.restore(made.set, made.set / "new")
    (tmp_path / "new.unfinished").mkdir()
    with pytest.raises(varve.InvalidInput, match="cut off"):
        ops.restore(made.set, tmp_path / "new")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(varve.StoreUnavailable):
        ops.restore(made.set, tmp_path / "file" / "new")
    assert names(tmp_path) == ["file", "new.unfinished", "there"]


def test_backups_may_lie_where_nobody_may_write(made: Made, new: Path, tmp_path: Path) -> None:
    """Nothing is made in their folders, no lock file either."""
    before = [(folder, names(Path(folder))) for folder, _, _ in os.walk(made.set)]
    ops.restore(made.set, new)
    ops.verify_backup(made.set)
    assert [(folder, names(Path(folder))) for folder, _, _ in os.walk(made.set)] == before


def test_killed_at_any_step_there_is_a_store_or_none(made: Made, tmp_path: Path) -> None:
    """What is left has another name, which the next attempt tells."""
    target = tmp_path / "new"

    def cut_off(step: int) -> bool:
        for entry in tmp_path.iterdir():
            shutil.rmtree(entry)
        return killed_at(step, lambda: ops.restore(made.set, target, to_sequence=made.end - 3))

    seen = set()
    for _ in steps_of(cut_off):
        seen.add(tuple(names(tmp_path)))
        if target.exists():
            assert assert_prefix(target, made.store) == whole(made, made.end - 3)
        elif names(tmp_path):
            with pytest.raises(varve.InvalidInput, match=r"new\.unfinished exists"):
                ops.restore(made.set, target)
    assert {("new.unfinished",), ("new",)} <= seen


def test_an_interrupt_leaves_nothing(made: Made, tmp_path: Path) -> None:
    def interrupted(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ops.restore(made.set, tmp_path / "new", progress=interrupted)
    assert names(tmp_path) == []


def test_what_does_not_pass_verification_gets_no_name(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Should it ever happen: events that were never valid, for example."""
    finding = ops.Finding("log", "event", "the event at 3: no")
    monkeypatch.setattr(
        importlib.import_module("varve.ops.restore"),
        "verify",
        lambda *_, **__: ops.VerifyReport((finding,), 0, (), 0, 0),
    )
    with pytest.raises(varve.CorruptedStore, match="nothing was kept"):
        ops.restore(made.set, tmp_path / "new", check=True)
    assert names(tmp_path) == []
