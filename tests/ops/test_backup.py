"""Backups: what is in one, what continues what, what is refused, who may write meanwhile."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import random
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from backup_models import (
    Both,
    Clock,
    Noted,
    Placed,
    assert_prefix,
    closed_store,
    commit,
    killed_at,
    log_content,
    names,
    recorded,
    steps_of,
)

import varve
from varve import ops
from varve.backups import folder as folders
from varve.backups import take as taking
from varve.backups.manifest import SIDES
from varve.backups.pairs import read_pairs
from varve.backups.walk import Numbering, checked_block
from varve.engine import files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store of some commits."""
    return closed_store(tmp_path / "store", commits=12)


def append(path: Path, count: int = 1) -> int:
    with varve.open(path) as db:
        for number in range(count):
            db.stream("orders", Both).append(1, Placed(number))
        return db.next_global_sequence


# -- what is in one ------------------------------------------------------------------------------------------------


def test_a_full_backup_is_a_sealed_store(path: Path, tmp_path: Path) -> None:
    """It opens, reads as the store does, verifies, and cannot be written to; its manifest says what it is."""
    told: list[tuple[int, int]] = []
    report = ops.backup(path, tmp_path / "set", progress=lambda done, total: told.append((done, total)))
    made = report.backup
    assert report.written
    assert (made.kind, made.name, made.first_sequence, made.continues) == ("full", "000001-full", 0, None)
    assert names(tmp_path / "set") == ["000001-full", "backup.lock"]
    assert names(Path(made.path)) == ["MANIFEST.json", "data.mdb", "varve.seal"]
    assert recorded(made.path) == recorded(path)
    assert log_content(made.path) == log_content(path)
    assert ops.verify(made.path).sound
    with pytest.raises(varve.SealedStore):
        varve.open(made.path)
    manifest = json.loads((Path(made.path) / "MANIFEST.json").read_text())
    assert manifest["next_sequence"] == made.next_sequence == len(recorded(path))
    assert manifest["covers"] == [{"environment": "store", "parts": ["log", *SIDES], "taken_at_ns": made.taken_at_ns}]
    assert made.as_json()["files"] == manifest["files"]
    assert [entry.backup for entry in ops.backups(tmp_path / "set")] == [made]
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1] > 0
    assert [done for done, _ in told] == sorted(done for done, _ in told)


def test_nobody_else_may_read_it(path: Path, tmp_path: Path) -> None:
    """As the store itself."""
    made = Path(ops.backup(path, tmp_path / "set").backup.path)
    append(path)
    more = Path(ops.backup(path, tmp_path / "set", incremental=True).backup.path)
    for folder in (tmp_path / "set", made, more):
        assert folder.stat().st_mode & 0o077 == 0
        for entry in folder.iterdir():
            assert entry.stat().st_mode & 0o077 == 0


def test_increments_hold_what_came_since(path: Path, tmp_path: Path) -> None:
    """Also where the block that was last has grown, again and again."""
    first = ops.backup(path, tmp_path / "set").backup
    ends = [first.next_sequence]
    for _ in range(6):
        ends.append(append(path))
        made = ops.backup(path, tmp_path / "set", incremental=True).backup
        assert (made.kind, made.first_sequence, made.next_sequence, made.events) == ("incremental", *ends[-2:], 1)
    found = [entry.readable() for entry in ops.backups(tmp_path / "set")]
    assert [backup.continues for backup in found] == [None, *[backup.id for backup in found[:-1]]]
    assert [backup.next_sequence for backup in found] == ends
    check = ops.verify_backup(tmp_path / "set")
    assert check.sound
    assert len(check.entries) == 7
    ops.restore(tmp_path / "set", tmp_path / "new")
    assert assert_prefix(tmp_path / "new", path) == ends[-1]
    assert log_content(tmp_path / "new") == log_content(path)


def test_where_nothing_came_nothing_is_written(path: Path, tmp_path: Path) -> None:
    full = ops.backup(path, tmp_path / "set").backup
    report = ops.backup(path, tmp_path / "set", incremental=True)
    assert (report.written, report.backup) == (False, full)
    append(path)
    more = ops.backup(path, tmp_path / "set", incremental=True).backup
    assert ops.backup(path, tmp_path / "set", incremental=True) == ops.BackupReport(more, written=False)
    assert names(tmp_path / "set") == ["000001-full", "000002-incremental", "backup.lock"]


def test_positions_of_consumers_are_something_new(path: Path, tmp_path: Path) -> None:
    """No event came, but somebody has read: that is worth a backup."""
    ops.backup(path, tmp_path / "set")

    async def read() -> None:
        with varve.open(path) as db:
            async with db.consumer("billing", commit="manual") as consumer:
                await consumer.next_batch(4)
                await consumer.commit()

    asyncio.run(read())
    report = ops.backup(path, tmp_path / "set", incremental=True)
    assert (report.written, report.backup.events) == (True, 0)
    assert report.backup.tables["consumers"].pairs == 2
    assert ops.verify_backup(tmp_path / "set").sound
    assert not ops.backup(path, tmp_path / "set", incremental=True).written


def test_without_a_full_one_the_first_is_full(path: Path, tmp_path: Path) -> None:
    """A nightly job needs no first night."""
    assert ops.backup(path, tmp_path / "deep" / "set", incremental=True).backup.kind == "full"


def test_an_empty_store_has_backups_too(tmp_path: Path) -> None:
    varve.open(tmp_path / "store").close()
    full = ops.backup(tmp_path / "store", tmp_path / "set").backup
    assert (full.events, full.last_commit) == (0, None)
    assert not ops.backup(tmp_path / "store", tmp_path / "set", incremental=True).written
    ops.restore(tmp_path / "set", tmp_path / "empty")
    with varve.open(tmp_path / "empty") as restored, varve.open(tmp_path / "store") as source:
        assert restored.uuid == source.uuid
    append(tmp_path / "store", 3)
    assert ops.backup(tmp_path / "store", tmp_path / "set", incremental=True).backup.events == 3
    assert ops.verify_backup(tmp_path / "set").sound
    ops.restore(tmp_path / "set", tmp_path / "new")
    assert assert_prefix(tmp_path / "new", tmp_path / "store") == 3
    ops.restore(tmp_path / "set", tmp_path / "zero", to_sequence=0)
    assert recorded(tmp_path / "zero") == []


def test_an_open_store_is_backed_up_by_its_handle(path: Path, tmp_path: Path) -> None:
    """This process holds it open: others may not open it here, the handle can; also one that only reads."""
    with varve.open(path) as db:
        with pytest.raises(varve.StoreAlreadyOpen):
            ops.backup(path, tmp_path / "set")
        db.backup(tmp_path / "set")
        db.stream("orders", Both).append(1, Placed(1))
        assert db.backup(str(tmp_path / "set"), incremental=True).backup.events == 1
    with varve.open(path, readonly=True) as db:
        assert not db.backup(tmp_path / "set", incremental=True).written
    with pytest.raises(varve.StoreClosed):
        db.backup(tmp_path / "set")
    assert ops.verify_backup(tmp_path / "set").sound


def test_a_backup_of_a_backup_is_one(path: Path, tmp_path: Path) -> None:
    """A full backup is a store, and a sealed store can be backed up."""
    inner = ops.backup(path, tmp_path / "set").backup
    again = ops.backup(inner.path, tmp_path / "other").backup
    assert (again.content_digest, again.store_uuid) == (inner.content_digest, inner.store_uuid)


# -- beside writers ------------------------------------------------------------------------------------------------

WRITER = """
import sys, varve
@varve.event
class Placed:
    number: varve.u64
with varve.open(sys.argv[1], durability="relaxed") as db:
    orders = db.stream("orders", Placed)
    print("ready", flush=True)
    sys.stdin.readline()
    number = 0
    while number < 60 or number < 4000 and not sys.argv[3:]:
        number += 1
        if number % 7:
            orders.append(sys.argv[2], Placed(number))
        else:
            orders.append_batch(sys.argv[2], [Placed(number)] * 40)
        if number == 20:
            print("going", flush=True)
"""


def test_backups_while_four_processes_write(path: Path, tmp_path: Path) -> None:
    """Each is an instant: restored, it is sound and what the log begins with."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), f"writer {n}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(4)
    ]
    made = []
    try:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("\n")
            writer.stdin.flush()
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "going\n"
        made = [ops.backup(path, tmp_path / "set").backup]
        made += [ops.backup(path, tmp_path / "set", incremental=True).backup for _ in range(3)]
        made.append(ops.backup(path, tmp_path / "set").backup)
        made.append(ops.backup(path, tmp_path / "set", incremental=True).backup)
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    ends = [backup.next_sequence for backup in made]
    assert ends == sorted(ends)
    assert ends[0] < ends[-1]
    assert ops.verify_backup(tmp_path / "set").sound
    for number, backup in enumerate(made):
        report = ops.restore(backup.path, tmp_path / f"new{number}")
        assert report.next_sequence == assert_prefix(tmp_path / f"new{number}", path) == backup.next_sequence


def test_threads_of_the_same_handle_go_on(path: Path, tmp_path: Path) -> None:
    """Appends of other threads are neither refused nor half in."""
    with varve.open(path, durability="relaxed") as db:
        orders = db.stream("orders", Both)
        stop = threading.Event()

        def write() -> None:
            while not stop.is_set():
                orders.append_batch(3, [Placed(1), Placed(2), Placed(3)])

        writer = threading.Thread(target=write)
        writer.start()
        try:
            for number in range(4):
                db.backup(tmp_path / "set", incremental=bool(number))
        finally:
            stop.set()
            writer.join()
    assert ops.verify_backup(tmp_path / "set").sound
    ops.restore(tmp_path / "set", tmp_path / "new")
    assert assert_prefix(tmp_path / "new", path)


# -- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["store", "store/set", "link/set"])
def test_a_store_is_no_place_for_backups(path: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "link").symlink_to(path)
    before = names(path)
    with pytest.raises(varve.InvalidInput, match="lies in the store"):
        ops.backup(path, tmp_path / target)
    with varve.open(tmp_path / "other"):
        pass
    with pytest.raises(varve.InvalidInput, match="is a store"):
        ops.backup(path, tmp_path / "other")
    assert names(path) == before


@pytest.mark.parametrize("odd", ["", b"", 5, None, "a\0b", ["x"]], ids=ascii)
def test_what_is_no_path_is_refused(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, odd: Any) -> None:
    monkeypatch.chdir(tmp_path)
    for call in (
        lambda: ops.backup(path, odd),
        lambda: ops.backup(odd, tmp_path / "set"),
        lambda: ops.backups(odd),
        lambda: ops.verify_backup(odd),
        lambda: ops.restore(odd, tmp_path / "new"),
        lambda: ops.restore(tmp_path, odd),
        lambda: ops.seal(odd),
    ):
        with pytest.raises(varve.InvalidInput):
            call()
    assert names(tmp_path) == ["store"]


def test_where_there_is_nothing_there_are_no_backups(path: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").write_bytes(b"")
    for target in ("none", "empty", "file", "file/set"):
        for call in (ops.backups, ops.verify_backup, lambda at: ops.restore(at, tmp_path / "new")):
            with pytest.raises(varve.StoreUnavailable):
                call(tmp_path / target)
    for target in ("file", "file/set"):
        with pytest.raises(varve.StoreUnavailable):
            ops.backup(path, tmp_path / target)
    with pytest.raises(varve.StoreNotFound):
        ops.backup(tmp_path / "none", tmp_path / "set")
    assert names(tmp_path) == ["empty", "file", "store"]


def test_a_set_is_of_one_store(path: Path, tmp_path: Path) -> None:
    ops.backup(path, tmp_path / "set")
    append(tmp_path / "other", 100)
    for incremental in (False, True):
        with pytest.raises(varve.BackupMismatch, match="is of the store"):
            ops.backup(tmp_path / "other", tmp_path / "set", incremental=incremental)
    assert names(tmp_path / "set") == ["000001-full", "backup.lock"]


@pytest.mark.parametrize("incremental", [False, True])
def test_a_set_is_of_one_history(path: Path, tmp_path: Path, *, incremental: bool) -> None:
    """A store that was restored to an earlier point, and went on from there, must not continue what it is not."""
    end = ops.backup(path, tmp_path / "set").backup.next_sequence
    ops.restore(tmp_path / "set", tmp_path / "new", to_sequence=end - 4)
    with pytest.raises(varve.BackupMismatch, match="reaches up to"):
        ops.backup(tmp_path / "new", tmp_path / "set", incremental=incremental)
    with varve.open(tmp_path / "new") as db:  # the same stream names and types, the same numbers, another time
        for number in range(20):
            commit(db, number + 1_000, random.Random(number))
    with pytest.raises(varve.BackupMismatch):
        ops.backup(tmp_path / "new", tmp_path / "set", incremental=incremental)
    assert names(tmp_path / "set") == ["000001-full", "backup.lock"]


def test_an_event_that_differs_is_another_history(path: Path, tmp_path: Path) -> None:
    """The same lengths, streams and numbers; only what was appended last was appended again."""
    end = append(path)
    ops.backup(path, tmp_path / "set")
    ops.restore(tmp_path / "set", tmp_path / "new", to_sequence=end - 1)
    append(tmp_path / "new")
    with pytest.raises(varve.BackupMismatch, match=f"another event at {end - 1}"):
        ops.backup(tmp_path / "new", tmp_path / "set", incremental=True)
    assert ops.backup(tmp_path / "new", tmp_path / "own", incremental=True).written


def test_other_numbers_are_another_history(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As salvage gives them: the last event is the same, but numbers in a block mean other streams."""
    ops.backup(path, tmp_path / "set")
    append(path)
    real = taking.numbers_in

    def renumbered(snapshot: Any, counts: Any = None) -> ops.Numbers:
        found = real(snapshot, counts)
        return ops.Numbers(found.names, found.types, found.streams, "0" * 64)

    monkeypatch.setattr(taking, "numbers_in", renumbered)
    with pytest.raises(varve.BackupMismatch, match="another way"):
        ops.backup(path, tmp_path / "set", incremental=True)


def hidden_events(path: Path, target: Path, *, after: int) -> None:
    """A store of one event, 20 that a rule will hide, and one more, backed up; ``after`` further ones to be hidden came since."""
    with varve.open(path, clock=Clock()) as db:
        orders = db.stream("orders", Both)
        orders.append("first", Placed(0))
        orders.append_batch("hidden", [Placed(number) for number in range(20)])
        orders.append("last", Placed(0))
        db.backup(target)
        for number in range(after):
            orders.append("hidden", Placed(number))
        orders.truncate_before("hidden", 15 + after)


@pytest.mark.parametrize(
    ("after", "appended"),
    [(0, [Noted("a type of its own")]), (0, [Placed(7)]), (8, [Noted("a type of its own")]), (8, [])],
    ids=["declares the number after the one of gaps", "declares nothing", "has gaps and declares", "has gaps"],
)
def test_what_was_compacted_is_not_continued(tmp_path: Path, after: int, appended: list[Placed | Noted]) -> None:
    """Compacting declares the type of gaps where the first one is. Where that lies before the end of the newest backup, which
    does not have it, an increment could not be restored: it is refused, nothing is left of it, and a full one goes on."""
    hidden_events(tmp_path / "store", tmp_path / "set", after=after)
    assert ops.compact(tmp_path / "store", tmp_path / "compact").dropped == 15 + after
    with varve.open(tmp_path / "compact") as db:
        for event in appended:
            db.stream("orders", Both).append("last", event)
        with pytest.raises(varve.BackupMismatch, match=r"compacted.* Make a full backup, into this folder or"):
            db.backup(tmp_path / "set", incremental=True)
        assert names(tmp_path / "set") == ["000001-full", "backup.lock"]
        db.backup(tmp_path / "set")
        db.stream("orders", Both).append("new", Noted("goes on"))
        assert db.backup(tmp_path / "set", incremental=True).backup.name == "000003-incremental"
    assert ops.verify_backup(tmp_path / "set").sound
    ops.restore(tmp_path / "set", tmp_path / "new")
    assert ops.verify(tmp_path / "new").sound
    assert recorded(tmp_path / "new") == recorded(tmp_path / "compact")
    ops.restore(tmp_path / "set" / "000001-full", tmp_path / "before")
    assert assert_prefix(tmp_path / "before", tmp_path / "store") == 22


def test_what_was_compacted_behind_the_newest_backup_is_continued(tmp_path: Path) -> None:
    """Gaps that begin there are declared in the increment; so is what comes later."""
    with varve.open(tmp_path / "store", clock=Clock()) as db:
        orders = db.stream("orders", Both)
        orders.append("first", Placed(0))
        db.backup(tmp_path / "set")
        orders.append_batch("hidden", [Placed(number) for number in range(20)])
        orders.truncate_before("hidden", 15)
    ops.compact(tmp_path / "store", tmp_path / "compact")
    with varve.open(tmp_path / "compact") as db:
        db.stream("orders", Both).append("new", Noted("goes on"))
        assert db.backup(tmp_path / "set", incremental=True).written
    assert ops.verify_backup(tmp_path / "set").sound
    ops.restore(tmp_path / "set", tmp_path / "new")
    assert ops.verify(tmp_path / "new").sound
    assert recorded(tmp_path / "new") == recorded(tmp_path / "compact")


@pytest.mark.parametrize("incremental", [False, True])
@pytest.mark.parametrize("last", [Noted("a second type"), None], ids=["other numbers", "last event dropped"])
def test_what_compacting_changed_is_another_history(tmp_path: Path, last: Noted | None, *, incremental: bool) -> None:
    """The type of gaps has the number now which the backup knows as another type's, or the event is gone by which the set knows
    its history: only a folder of its own will do, for a full one as well."""
    with varve.open(tmp_path / "store", clock=Clock()) as db:
        orders = db.stream("orders", Both)
        orders.append("first", Placed(0))
        orders.append_batch("hidden", [Placed(number) for number in range(20)])
        if last is not None:
            orders.append_batch("last", [last, Placed(1)])
        db.backup(tmp_path / "set")
        orders.truncate_before("hidden", 20 if last is None else 15)
        orders.append("first", Placed(2))
    ops.compact(tmp_path / "store", tmp_path / "compact")
    what = "another event at 20" if last is None else "in another way"
    with pytest.raises(varve.BackupMismatch, match=f"{what}; back this store up into a folder of its own"):
        ops.backup(tmp_path / "compact", tmp_path / "set", incremental=incremental)
    assert names(tmp_path / "set") == ["000001-full", "backup.lock"]
    ops.backup(tmp_path / "compact", tmp_path / "own")
    ops.restore(tmp_path / "own", tmp_path / "new", check=True)


@pytest.mark.parametrize("by", [(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0), (0, -1, 0), (0, 0, -1)])
def test_an_increment_declares_what_it_uses(tmp_path: Path, by: tuple[int, int, int]) -> None:
    """Names, types and streams, from the numbers on that the backup before it has: no gap, none twice, none from elsewhere."""
    with varve.open(tmp_path / "store") as db:
        db.stream("orders", Both).append(1, Placed(1))
        before = db.backup(tmp_path / "set").backup.numbers
        db.stream("notes", Both).append(1, Noted("another name, type and stream"))
        made = db.backup(tmp_path / "set", incremental=True).backup
    blocks = [checked_block(*pair) for pair in read_pairs(f"{made.path}/log.pairs")]
    counts = (before.names, before.types, before.streams)
    right = Numbering(counts)
    assert all(right.feed(block) for block in blocks)
    assert right.counts == (made.numbers.names, made.numbers.types, made.numbers.streams) == (2, 2, 2)
    names_, types, streams = (count + more for count, more in zip(counts, by, strict=True))
    wrong = Numbering((names_, types, streams))
    assert not all(wrong.feed(block) for block in blocks)


def test_one_backup_into_a_set_at_a_time(path: Path, tmp_path: Path) -> None:
    ops.backup(path, tmp_path / "set")
    with folders.locked(str(tmp_path / "set")), pytest.raises(varve.StoreInUse, match="another backup"):
        ops.backup(path, tmp_path / "set")
    assert ops.backup(path, tmp_path / "set").written


def test_what_cannot_be_read_is_not_continued(path: Path, tmp_path: Path) -> None:
    """But a full backup is always possible, and restores."""
    made = ops.backup(path, tmp_path / "set").backup
    (Path(made.path) / "MANIFEST.json").write_text("{}")
    append(path)
    with pytest.raises(varve.CorruptedBackup):
        ops.backup(path, tmp_path / "set", incremental=True)
    full = ops.backup(path, tmp_path / "set").backup
    assert full.name == "000002-full"
    assert ops.restore(tmp_path / "set", tmp_path / "new").next_sequence == full.next_sequence
    entries = ops.backups(tmp_path / "set")
    assert entries[0].backup is None
    assert isinstance(entries[0].problem, varve.CorruptedBackup)
    check = ops.verify_backup(tmp_path / "set")
    assert [problem.path for problem in check.problems] == [made.path]


@pytest.mark.parametrize("table", ["log", "index", "meta"])
def test_a_damaged_store_is_not_backed_up(path: Path, tmp_path: Path, table: str) -> None:
    """Else the sound backups would be thrown away one day, and the damaged ones kept."""
    with varve.open(path, readonly=True) as db:
        needle = {
            "log": bytes(db._engine.snapshot().block(0).data[200:232]),
            "index": b"\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00",
            "meta": b"\x06\x00\x00\x00\x01",
        }[table]
    data = (path / "data.mdb").read_bytes()
    assert needle in data
    changed = bytearray(data)
    at = -1
    while (at := data.find(needle, at + 1)) >= 0:
        changed[at + len(needle) - 1 + (table != "log")] ^= 0x10
    (path / "data.mdb").write_bytes(bytes(changed))
    assert not ops.verify(path).sound
    with pytest.raises(varve.CorruptedStore, match="was not backed up"):
        ops.backup(path, tmp_path / "set")
    assert names(tmp_path / "set") == ["backup.lock"]


def test_rot_in_the_log_is_met_by_increments(path: Path, tmp_path: Path) -> None:
    ops.backup(path, tmp_path / "set")
    append(path)
    with varve.open(path, readonly=True) as db:
        needle = bytes(db._engine.snapshot().block(db.next_global_sequence - 1).data[-40:])
    data = (path / "data.mdb").read_bytes()
    (path / "data.mdb").write_bytes(data.replace(needle, bytes(40)))
    with pytest.raises((varve.CorruptedBlock, varve.CorruptedStore)):
        ops.backup(path, tmp_path / "set", incremental=True)
    assert names(tmp_path / "set") == ["000001-full", "backup.lock"]


# -- disks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "error"),
    [(errno.ENOSPC, varve.DiskFull), (errno.EIO, varve.StoreUnavailable), (errno.EROFS, varve.StoreAccessDenied)],
)
@pytest.mark.parametrize("incremental", [False, True])
def test_every_step_may_fail(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type, *, incremental: bool
) -> None:
    """A full disk, a broken one, one that became read-only: a typed error, and nothing half-written."""
    ops.backup(path, tmp_path / "set")
    append(path)
    before = names(tmp_path / "set")

    def failing(*arguments: Any, **options: Any) -> Any:
        raise OSError(code, os.strerror(code))

    class Full(folders.Summed):
        def write(self, data: bytes) -> None:
            failing()

    with varve.open(path, readonly=True) as db:
        for patch in (
            lambda: monkeypatch.setattr(taking, "Summed", Full),
            lambda: monkeypatch.setattr(os, "fsync", failing),
            lambda: monkeypatch.setattr(os, "mkdir", failing),
            lambda: monkeypatch.setattr(os, "rename", failing),
            lambda: monkeypatch.setattr(taking, "summed", failing),
        ):
            patch()
            with pytest.raises(error):
                db.backup(tmp_path / "set", incremental=incremental)
            monkeypatch.undo()
            assert names(tmp_path / "set") == before
        assert db.backup(tmp_path / "set", incremental=incremental).written
    assert ops.verify_backup(tmp_path / "set").sound


def test_a_disk_that_gives_back_something_else_is_found(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was written is read again before it gets its name."""
    ops.backup(path, tmp_path / "set")
    append(path)
    real = taking.summed

    def rotten(at: str, *more: Any) -> ops.BackupFile:
        found = real(at, *more)
        return ops.BackupFile(found.name, found.size_bytes, "0" * 64)

    monkeypatch.setattr(taking, "summed", rotten)
    for incremental in (False, True):
        with pytest.raises(varve.CorruptedBackup, match="look at the disk"):
            ops.backup(path, tmp_path / "set", incremental=incremental)
    assert names(tmp_path / "set") == ["000001-full", "backup.lock"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_may_not_be_written_to(path: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").mkdir()
    script = (
        "import os, sys, varve\nfrom varve import ops\nimport varve.ops.backup\n"
        "with varve.open(sys.argv[1], readonly=True) as db:\n"
        "    os.chdir(sys.argv[2]); os.setgid(65534); os.setuid(65534)\n"
        "    for target in ('.', 'set'):\n"
        "        try: db.backup(target)\n"
        "        except varve.StoreAccessDenied: print('denied')\n"
    )
    tmp_path.chmod(0o755)
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(tmp_path / "theirs")], capture_output=True, text=True, check=False
    )
    assert done.stdout == "denied\ndenied\n", done.stderr
    assert names(tmp_path / "theirs") == []


def test_ctrl_c_leaves_nothing(path: Path, tmp_path: Path) -> None:
    """What a callback raises ends it, as an interrupt does."""

    def interrupted(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ops.backup(path, tmp_path / "set", progress=interrupted)
    assert names(tmp_path / "set") == ["backup.lock"]
    ops.backup(path, tmp_path / "set")
    append(path)
    with pytest.raises(KeyboardInterrupt):
        ops.backup(path, tmp_path / "set", incremental=True, progress=interrupted)
    assert names(tmp_path / "set") == ["000001-full", "backup.lock"]


@pytest.mark.parametrize("incremental", [False, True])
def test_everything_is_on_disk_before_it_has_its_name(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, incremental: bool
) -> None:
    """Each file, then the folder that names them, then the name, then the folder of that: what a power cut asks for."""
    ops.backup(path, tmp_path / "set")
    append(path)
    done: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def fsync(fd: int) -> None:
        done.append(Path(f"/proc/self/fd/{fd}").readlink().name)
        real_fsync(fd)

    def rename(old: str, new: str) -> None:
        done.append(f"{Path(old).name} -> {Path(new).name}")
        real_rename(old, new)

    with varve.open(path, readonly=True) as db:
        monkeypatch.setattr(os, "fsync", fsync)
        monkeypatch.setattr(os, "rename", rename)
        made = db.backup(tmp_path / "set", incremental=incremental).backup
        monkeypatch.undo()
    ends = ["MANIFEST.json", f".unfinished-{made.name}", f".unfinished-{made.name} -> {made.name}", "set"]
    assert done[-4:] == ends
    synced = {name.removesuffix(".new") for name in done}
    assert synced >= {file.name for file in made.files}


# -- kill -9 -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("incremental", [False, True])
def test_killed_at_any_step_there_is_the_old_or_the_new(path: Path, tmp_path: Path, *, incremental: bool) -> None:
    """Never half a backup under a name that counts; what is left is named, and gone with the next one."""
    ops.backup(path, tmp_path / "kept")
    append(path)
    seen = set()

    def cut_off(step: int) -> bool:
        shutil.rmtree(tmp_path / "set", ignore_errors=True)
        shutil.copytree(tmp_path / "kept", tmp_path / "set")
        return killed_at(step, lambda: ops.backup(path, tmp_path / "set", incremental=incremental))

    for step in steps_of(cut_off):
        check = ops.verify_backup(tmp_path / "set")
        assert check.sound, (step, check.problems)
        seen.add((len(check.entries), bool(check.leftovers)))
        if step % 5 == 0:
            report = ops.backup(path, tmp_path / "set", incremental=incremental)
            assert report.written == (len(check.entries) == 1 or not incremental)
            after = ops.verify_backup(tmp_path / "set")
            assert after.sound
            assert not after.leftovers
    assert seen >= {(1, False), (1, True), (2, False)}


def test_what_is_left_of_an_attempt_is_told(path: Path, tmp_path: Path) -> None:
    (tmp_path / "set" / ".unfinished-000001-full").mkdir(parents=True)
    (tmp_path / "set" / ".unfinished-000001-full" / "data.mdb").write_bytes(b"half")
    with pytest.raises(varve.StoreNotFound):
        ops.backups(tmp_path / "set")
    assert ops.backup(path, tmp_path / "set").backup.name == "000001-full"
    assert ops.verify_backup(tmp_path / "set").leftovers == ()


def test_numbers_go_on_where_backups_were_removed(path: Path, tmp_path: Path) -> None:
    """The oldest ones are removed with rm; the order of what is left stays plain."""
    for _ in range(3):
        ops.backup(path, tmp_path / "set")
    shutil.rmtree(tmp_path / "set" / "000001-full")
    shutil.rmtree(tmp_path / "set" / "000002-full")
    append(path)
    assert ops.backup(path, tmp_path / "set", incremental=True).backup.name == "000004-incremental"
    assert ops.verify_backup(tmp_path / "set").sound
    assert files.is_sealed(str(tmp_path / "set" / "000003-full"))
