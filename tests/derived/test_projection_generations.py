"""Generations of a projection: rebuilt beside the old one, switched at once, removed when nobody reads them; what makes a rebuild
necessary, what forbids it, and what differs from a fresh one."""

from __future__ import annotations

import contextlib
import errno
import gc
import os
import random
import shutil
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import varve

sys.path.insert(0, str(Path(__file__).parent))

from projection_models import Log, Orders, Placed, files_of, fill, logged, open_db, process, tell, told

from varve.derived.projections import database
from varve.derived.projections.place import Place

SEED = random.SystemRandom().randrange(2**32)


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with open_db(varve_path) as store:
        yield store


def changed(**attributes: Any) -> type[varve.Projection]:
    """``Log`` with something else in it."""
    return type("Changed", (Log,), {"name": "Log", **attributes})


# -- rebuilding ------------------------------------------------------------------------------------


def test_readers_keep_their_generation(db: varve.Varve) -> None:
    """A connection that is open goes on with the old rows; new queries see the new ones. The old file goes with its last
    reader."""
    fill(db, 10)
    projection = db.projection(Log)
    projection.catch_up()
    old = projection.path
    reader = projection.connect()
    assert reader.execute("SELECT count(*) FROM log").fetchone() == (10,)
    fill(db, 5)
    done = projection.rebuild()
    assert (done.position, done.events, done.rebuilding) == (15, 15, True)
    assert projection.path != old
    assert logged(projection) == list(range(15))
    assert reader.execute("SELECT count(*) FROM log").fetchone() == (10,)
    assert old.exists()
    reader.close()
    fill(db, 1)
    projection.catch_up()
    assert files_of(projection) == [projection.path.name]
    assert files_of(projection, ".lock").count("generation-1.lock") == 0
    assert logged(projection) == list(range(16))


def test_a_reader_that_is_dropped_lets_its_generation_go(db: varve.Varve) -> None:
    """As one that is closed, when Python collects it."""
    fill(db, 1)
    projection = db.projection(Log)
    projection.catch_up()
    reader = projection.connect()
    del reader
    gc.collect()  # a connection of sqlite3 refers to itself
    projection.rebuild()
    assert files_of(projection) == ["generation-2.sqlite"]


def test_a_foreign_tool_keeps_what_it_reads(db: varve.Varve) -> None:
    """Another program that has read the old file, by SQLite alone, goes on reading it; when it is gone, so is the file."""
    fill(db, 10)
    projection = db.projection(Log)
    projection.catch_up()
    body = """
import sqlite3
connection = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True)
print(connection.execute("SELECT count(*) FROM log").fetchone()[0], flush=True)
sys.stdin.readline()
print(connection.execute("SELECT count(*) FROM log").fetchone()[0], flush=True)
sys.stdin.readline()
"""
    with process(body, projection.path) as running:
        assert told(running) == "10"
        projection.rebuild()
        fill(db, 1)
        projection.catch_up()
        assert files_of(projection) == ["generation-1.sqlite", "generation-2.sqlite"]
        tell(running)
        assert told(running) == "10"
        tell(running)
        running.wait()
    projection.catch_up()
    assert files_of(projection) == ["generation-2.sqlite"]


def test_a_new_generation_has_no_journal_when_it_counts(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the moment of the switch all of it stands in the one file: a copy of that alone is the whole projection."""
    from varve.derived.projections.place import Place

    fill(db, 100)
    projection = db.projection(Log)
    projection.catch_up()
    seen: list[list[tuple[Any, ...]]] = []
    switch = Place.switch

    def look(self: Place, generation: int) -> None:
        path = self.database(generation)
        copy = path.with_name("copy")
        assert not path.with_name(path.name + "-wal").exists()
        shutil.copy(path, copy)
        with closing(sqlite3.connect(copy)) as connection:
            seen.append(connection.execute("SELECT count(*) FROM log").fetchall())
        for left in self.folder.glob("copy*"):
            left.unlink()
        switch(self, generation)

    monkeypatch.setattr(Place, "switch", look)
    projection.rebuild()
    assert seen == [[(100,)]]


def test_everything_is_on_disk_before_the_pointer_moves(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The new file, complete and in WAL mode, then its name, then the pointer's text; behind the rename the folder once more."""
    fill(db, 100)
    projection = db.projection(Log)
    projection.catch_up()
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def noted_fsync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.name == "generation-2.sqlite":
            versions = path.read_bytes()[18:20]  # nobody has it open: reading it here drops no lock
            assert versions in {b"", b"\2\2"}  # just made, or complete
        if path.is_relative_to(projection.folder):
            steps.append(f"fsync {path.name}")
        fsync(fd)

    def noted_replace(self: Path, target: Path) -> Path:
        steps.append(f"rename {self.name}")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", noted_fsync)
    monkeypatch.setattr(Path, "replace", noted_replace)
    projection.rebuild()
    assert [step for step in steps if not step.endswith("generation-2.lock")] == [
        *("fsync generation-2.sqlite", "fsync generation-2.sqlite", "fsync Log"),
        *("fsync current.new", "rename current.new", "fsync Log"),
    ]


def test_rebuilding_under_write_load(db: varve.Varve) -> None:
    """While others append, a follower applies, and readers read: nobody sees a row too many or too few, or time going back."""
    projection = db.projection(Log)
    follower = db.projection(Log)
    fill(db, 100)
    projection.catch_up()
    stop = threading.Event()
    failed: list[BaseException] = []

    def guarded(run: Callable[[], object]) -> threading.Thread:
        def body() -> None:
            try:
                run()
            except BaseException as exc:  # noqa: BLE001 - for the test's own thread
                failed.append(exc)

        thread = threading.Thread(target=body)
        thread.start()
        return thread

    def append() -> None:
        while not stop.is_set():
            fill(db, 20)

    def read() -> None:
        with db.projection(Log) as reader:
            last = 0
            while not stop.is_set():
                [(count, position)] = reader.query(
                    "SELECT (SELECT count(*) FROM log), (SELECT position FROM varve_projection)"
                )
                assert count == position >= last
                last = position

    threads = [guarded(append), guarded(read), guarded(lambda: follower.follow(stop=stop))]
    for _ in range(6):
        projection.rebuild()
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    follower.close()
    projection.catch_up()
    assert logged(projection) == list(range(db.next_global_sequence))
    assert files_of(projection) == [projection.path.name]


def test_a_follower_of_another_process_goes_over(db: varve.Varve, varve_path: Path) -> None:
    """To the new generation, where it goes on behind the last event."""
    fill(db, 10)
    with process("with open_db(sys.argv[1]) as db:\n    db.projection(Log).follow()\n", varve_path):
        projection = db.projection(Log)
        projection.wait_for(9, timeout_s=60)
        for _ in range(3):
            projection.rebuild()
            fill(db, 10)
            projection.wait_for(db.next_global_sequence - 1, timeout_s=60)
            assert logged(projection) == list(range(db.next_global_sequence))
    assert projection.path.name == "generation-4.sqlite"


def test_a_rebuild_that_fails_leaves_the_old_one(db: varve.Varve) -> None:
    """And nothing of the new one."""
    fill(db, 10)
    projection = db.projection(Log)
    projection.catch_up()

    def no(_: varve.ProjectionProgress) -> None:
        raise RuntimeError("no")

    with pytest.raises(RuntimeError):
        projection.rebuild(progress=no)
    assert files_of(projection) == ["generation-1.sqlite"]
    assert logged(projection) == list(range(10))

    def odd(self: object, recorded: varve.Recorded[Placed]) -> tuple[int, int]:
        raise ValueError("odd")

    broken = changed(version=2, placed=varve.on(Placed, sql="INSERT INTO log VALUES (?, ?)")(odd))
    with pytest.raises(varve.ProjectionFailed):
        db.projection(broken).catch_up()
    assert files_of(projection) == ["generation-1.sqlite"]
    assert logged(projection) == list(range(10))


def test_who_clears_late_leaves_what_counts_now(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pointer moves after somebody has looked which generation counts, and before he removes the others."""
    fill(db, 10)
    projection = db.projection(Log)
    projection.catch_up()
    late, list_ = Place(projection.folder), Place.generations

    def generations(place: Place) -> list[int]:
        if place is late:
            projection.rebuild()
            projection.close()
        return list_(place)

    monkeypatch.setattr(Place, "generations", generations)
    late.clear()
    again = db.projection(Log, rebuild=False)
    assert files_of(again) == ["generation-2.sqlite"]
    assert logged(again) == list(range(10))


@pytest.mark.parametrize("inner", ["rebuild", "catch_up", "check"])
@pytest.mark.parametrize("outer", ["rebuild", "catch_up"])
def test_progress_may_use_the_projection(db: varve.Varve, outer: str, inner: str) -> None:
    """It is called where nothing is held that it could wait for: it goes through, or is told that somebody else is at work."""
    fill(db, 10)
    projection = db.projection(Log)
    if outer == "rebuild":
        projection.catch_up()
    ended: list[threading.Thread] = []

    def progress(_: varve.ProjectionProgress) -> None:
        def use() -> None:
            with db.projection(Log) as other, contextlib.suppress(varve.ProjectionBusy):
                getattr(other, inner)()

        thread = threading.Thread(target=use, daemon=True)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
        ended.append(thread)

    getattr(projection, outer)(progress=progress)
    assert ended
    assert logged(projection) == list(range(10))


def test_a_file_that_is_gone_is_not_made_without_leave(db: varve.Varve) -> None:
    """``rebuild=False`` holds also where there is nothing left of the tables."""
    fill(db, 10)
    projection = db.projection(Log, rebuild=False)
    projection.catch_up()
    projection.path.unlink()
    projection.close()
    again = db.projection(Log, rebuild=False)
    with pytest.raises(varve.ProjectionOutdated, match="gone"):
        again.catch_up()
    assert files_of(again) == []
    again.rebuild()
    assert logged(again) == list(range(10))


def test_a_folder_that_goes_while_it_is_written(db: varve.Varve) -> None:
    """Errors of ours, and the next one makes it anew."""
    fill(db, 10)
    projection = db.projection(Log)
    with pytest.raises(varve.StoreUnavailable) as caught:
        projection.follow(0, progress=lambda _: shutil.rmtree(projection.folder))
    assert caught.value.path.startswith(str(projection.folder))
    projection.catch_up()
    assert logged(projection) == list(range(10))


@pytest.mark.parametrize(
    "refused", ["generation-1.lock", "writer.lock", "rebuild.lock", "switch.lock", "generation-2.lock"]
)
@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOSPC])
def test_files_that_the_system_refuses(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch, refused: str, number: int
) -> None:
    """Errors of ours, and nothing of the tables is lost."""
    fill(db, 10)
    projection = db.projection(Log)
    projection.catch_up()
    projection.close()
    open_file = os.open

    def opened(path: Any, *arguments: Any, **options: Any) -> int:
        if Path(path).name == refused:
            raise OSError(number, os.strerror(number), str(path))
        return open_file(path, *arguments, **options)

    fill(db, 10)
    with monkeypatch.context() as patch, pytest.raises(varve.VarveError) as caught:
        patch.setattr(os, "open", opened)
        again = db.projection(Log)
        again.catch_up()
        again.rebuild()
    assert isinstance(caught.value, varve.DiskFull if number == errno.ENOSPC else varve.StoreAccessDenied)
    last = db.projection(Log, rebuild=False)
    last.catch_up()
    assert logged(last) == list(range(20))


def test_two_do_not_rebuild_at_once(db: varve.Varve) -> None:
    """The second one is told who does."""
    fill(db, 10)
    projection = db.projection(Log)
    caught: list[varve.ProjectionBusy] = []

    def again(_: varve.ProjectionProgress) -> None:
        for call in (db.projection(Log).rebuild, lambda: db.projection(Log).check()):
            with pytest.raises(varve.ProjectionBusy) as error:
                call()
            caught.append(error.value)

    projection.catch_up()
    projection.rebuild(progress=again)
    assert {error.pid for error in caught} == {os.getpid()}


def test_closing_ends_a_rebuild(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that a changed class made necessary ends behind its transaction when the handle is closed, and leaves nothing."""
    monkeypatch.setattr(varve.limits, "PROJECTION_BATCH_EVENTS_MAX", 10)
    monkeypatch.setattr(varve.limits, "PROJECTION_STEP_EVENTS", 10)
    fill(db, 100)
    db.projection(Log).catch_up()
    projection = db.projection(changed(version=2))
    done = projection.catch_up(progress=lambda _: projection.close())
    assert done.events == 10
    assert db.projections()[0].version == 1
    assert files_of(projection) == ["generation-1.sqlite"]


# -- what makes it necessary -----------------------------------------------------------------------


@varve.on(Placed, sql="INSERT INTO log (amount, number) VALUES (?, ?)")
def _other_statement(self: object, recorded: varve.Recorded[Placed]) -> tuple[int, int]:
    return recorded.event.amount, recorded.event.number


@pytest.mark.parametrize(
    ("attributes", "reason"),
    [
        ({"version": 2}, "version 1"),
        ({"schema": Log.schema + "; CREATE INDEX by_number ON log (number)"}, "schema"),
        ({"placed": _other_statement}, "statements"),
        ({"streams": ["orders"]}, "streams"),
    ],
)
def test_a_changed_class_rebuilds_itself(db: varve.Varve, attributes: dict[str, Any], reason: str) -> None:
    """At its next catching up; with ``rebuild=False`` it says why it would have to. Readers keep the old rows until then."""
    fill(db, 10)
    db.projection(Log).catch_up()
    held = db.projection(changed(**attributes), rebuild=False)
    outdated = held.status().outdated
    assert outdated is not None
    assert reason in outdated
    for call in (held.catch_up, lambda: held.follow(0), held.check):
        with pytest.raises(varve.ProjectionOutdated, match=reason) as caught:
            call()
        assert caught.value.reason == outdated
    assert logged(held) == list(range(10))
    assert files_of(held) == ["generation-1.sqlite"]
    held.close()
    projection = db.projection(changed(**attributes))
    fill(db, 5)
    done = projection.catch_up()
    assert (done.position, done.events) == (15, 15)
    assert files_of(projection) == ["generation-2.sqlite"]
    assert projection.status().outdated is None
    assert logged(projection) == list(range(15))
    assert projection.check().ok


def test_an_older_program_touches_nothing(db: varve.Varve) -> None:
    """What a newer version made stays; also a writer that runs is stopped by it."""
    fill(db, 10)
    old = db.projection(Log)
    failed: list[BaseException] = []

    def follow() -> None:
        try:
            old.follow()
        except varve.ProjectionMismatch as exc:
            failed.append(exc)

    thread = threading.Thread(target=follow)
    thread.start()
    old.wait_for(9, timeout_s=60)
    new = db.projection(changed(version=2))
    new.rebuild()
    thread.join()
    assert len(failed) == 1
    for call in (old.catch_up, old.rebuild, old.check):
        with pytest.raises(varve.ProjectionMismatch, match="version 2") as caught:
            call()
        assert (caught.value.name, caught.value.path) == ("Log", str(old.folder))
    assert "version 2" in str(old.status().problem)
    assert new.catch_up().position == 10


def test_tables_of_another_store_or_projection(db: varve.Varve, tmp_path: Path) -> None:
    """They are refused and stay as they are."""
    fill(db, 10)
    folder = tmp_path / "tables"
    ours = db.projection(Log, folder=folder)
    ours.catch_up()
    with open_db(tmp_path / "other") as other:
        fill(other, 20)
        theirs = other.projection(Log, folder=folder)
        for call in (theirs.catch_up, theirs.rebuild, theirs.check):
            with pytest.raises(varve.ProjectionMismatch, match="of the store"):
                call()
    with pytest.raises(varve.ProjectionMismatch, match="the projection 'Log'"):
        db.projection(Orders, folder=folder).catch_up()
    with closing(sqlite3.connect(ours.path)) as connection, connection:
        connection.execute("UPDATE varve_projection SET format = 2")
    with pytest.raises(varve.ProjectionMismatch, match="newer Varve"):
        ours.catch_up()
    assert len(logged(ours)) == 10


def test_a_restored_store_has_another_history(db: varve.Varve, tmp_path: Path) -> None:
    """A projection that is ahead of the log, or stands on events that were written anew, is made again."""
    fill(db, 10)
    db.backup(tmp_path / "backups")
    fill(db, 10)
    folder = tmp_path / "tables"
    db.projection(Log, folder=folder).catch_up()
    varve.ops.restore(tmp_path / "backups", tmp_path / "restored")
    with open_db(tmp_path / "restored") as restored:
        held = restored.projection(Log, folder=folder, rebuild=False)
        with pytest.raises(varve.ProjectionOutdated, match="the log ends at 10"):
            held.catch_up()
        orders = restored.stream("orders", Placed)
        orders.append_batch(1, [Placed(number, 1) for number in range(100, 130)])
        with pytest.raises(varve.ProjectionOutdated, match="another history"):
            held.catch_up()
        held.close()
        projection = restored.projection(Log, folder=folder)
        projection.catch_up()
        assert logged(projection) == [*range(10), *range(100, 130)]


def test_another_history_at_the_same_times(tmp_path: Path) -> None:
    """A clock that stands, or was set back, hides nothing: as many events, recorded at the same times, are others."""
    folder = tmp_path / "tables"
    with open_db(tmp_path / "store", clock=lambda: 10**18) as db:
        fill(db, 10)
        db.backup(tmp_path / "backups")
        fill(db, 10)
        db.projection(Log, folder=folder).catch_up()
    varve.ops.restore(tmp_path / "backups", tmp_path / "restored")
    with open_db(tmp_path / "restored", clock=lambda: 10**18) as restored:
        restored.stream("orders", Placed).append_many([(number % 7, Placed(number, 0)) for number in range(100, 110)])
        held = restored.projection(Log, folder=folder, rebuild=False)
        with pytest.raises(varve.ProjectionOutdated, match="another history"):
            held.catch_up()
        held.close()
        with restored.projection(Log, folder=folder) as projection:
            projection.catch_up()
            assert logged(projection) == [*range(10), *range(100, 110)]


def test_a_damaged_file_is_made_again(db: varve.Varve) -> None:
    """Whichever page it is that is wrong: queries say so, catching up rebuilds, unless it may not."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = random.Random(SEED)
    fill(db, 3_000)
    for whole in (True, False):
        projection = db.projection(Log)
        projection.catch_up()
        projection.close()
        path = projection.path
        content = bytearray(path.read_bytes())
        if whole:
            content[:100] = rng.randbytes(100)
        else:
            for page in range(1, len(content) // 4096):
                content[page * 4096 : page * 4096 + 16] = bytes([255] * 16)
        path.write_bytes(content)
        held = db.projection(Log, rebuild=False)
        with pytest.raises(varve.CorruptedProjection) as caught:
            held.query("SELECT sum(number) FROM log")
        assert caught.value.path == str(path)
        fill(db, 1)
        with pytest.raises(varve.CorruptedProjection):
            held.catch_up()
        held.close()
        again = db.projection(Log)
        again.catch_up()
        assert again.path != path
        assert logged(again) == list(range(db.next_global_sequence))
        assert again.check().ok


@pytest.mark.parametrize(
    "damage", ["pointer", "no pointer", "no file", "empty file", "another table", "pointer elsewhere"]
)
def test_a_damaged_folder_is_made_again(db: varve.Varve, damage: str) -> None:
    """What is left there is cleared away; nothing outside of it is touched."""
    fill(db, 10)
    projection = db.projection(Log)
    projection.catch_up()
    path = projection.path
    projection.close()
    if damage == "pointer":
        (projection.folder / "current").write_bytes(b"\xff\x00 what")
    elif damage == "pointer elsewhere":
        (projection.folder / "current").write_text("../../data.mdb\n")
    elif damage == "no pointer":
        (projection.folder / "current").unlink()
    elif damage == "no file":
        path.unlink()
    elif damage == "empty file":
        path.write_bytes(b"")
    else:
        path.unlink()
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("CREATE TABLE log (n)")
    (projection.folder / "generation-9.sqlite").write_bytes(b"unfinished")
    (projection.folder / "generation-9.sqlite-journal").write_bytes(b"unfinished")
    again = db.projection(Log)
    again.catch_up()
    assert logged(again) == list(range(10))
    assert len(files_of(again)) == 1
    assert not list(again.folder.glob("*-journal"))


def test_no_space(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """``DiskFull``: what earlier transactions stored is there, and with space it goes on; a rebuild leaves nothing."""
    monkeypatch.setattr(varve.limits, "PROJECTION_BATCH_EVENTS_MAX", 500)
    monkeypatch.setattr(varve.limits, "PROJECTION_STEP_EVENTS", 500)
    tune = database._tune

    def tuned(connection: sqlite3.Connection, guard: database.Guard) -> None:
        connection.execute("PRAGMA max_page_count = 12")
        tune(connection, guard)

    fill(db, 5_000)
    projection = db.projection(Log)
    monkeypatch.setattr(database, "_tune", tuned)
    with pytest.raises(varve.DiskFull):
        projection.catch_up()
    assert 0 < projection.position < 5_000
    assert logged(projection) == list(range(projection.position))
    with pytest.raises(varve.DiskFull):
        projection.rebuild()
    assert len(files_of(projection)) == 1
    monkeypatch.setattr(database, "_tune", tune)
    projection.catch_up()
    assert logged(projection) == list(range(5_000))


def test_another_program_that_writes_into_the_file(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """While it has the file locked, nothing is applied; nothing is lost."""
    fill(db, 10)
    projection = db.projection(Log)
    projection.catch_up()
    monkeypatch.setattr(varve.limits, "PROJECTION_BUSY_S_MAX", 0)
    fill(db, 10)
    with closing(sqlite3.connect(projection.path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(varve.ProjectionBusy) as caught:
            projection.catch_up()
        assert caught.value.pid is None
    projection.catch_up()
    assert logged(projection) == list(range(20))


# -- archives --------------------------------------------------------------------------------------


def test_an_archived_beginning(db: varve.Varve, tmp_path: Path) -> None:
    """What is up to date goes on; what needs the beginning says so, and gets it from the archives."""
    fill(db, 4_000)
    projection = db.projection(Log)
    projection.catch_up(until=3_950)
    archived: list[Path] = []
    for number, before in enumerate((1_000, 2_000)):
        archived.append(tmp_path / f"archive-{number}")
        db.archive(before, archived[-1])
    first = db.first_global_sequence
    assert 0 < first <= 3_950
    projection.catch_up()
    assert len(logged(projection)) == 4_000
    with pytest.raises(varve.Archived, match="history=") as caught:
        projection.rebuild()
    assert caught.value.first_sequence == first
    with pytest.raises(varve.Archived):
        projection.check()
    with pytest.raises(varve.Archived):
        db.projection(Log, folder=tmp_path / "new").catch_up()
    with varve.open(archived) as history:
        assert projection.rebuild(history=history).events == 4_000
        assert projection.check(history=history).ok
        fresh = db.projection(Log, folder=tmp_path / "new")
        fresh.catch_up(until=first - 3, history=history)
        assert logged(fresh) == list(range(first - 3))
        fresh.catch_up(history=history)
        assert logged(fresh) == list(range(4_000))
    with pytest.raises(varve.InvalidInput, match="history is an archive"):
        projection.rebuild(history=object())  # type: ignore[arg-type]
    with open_db(tmp_path / "other") as other, pytest.raises(varve.InvalidInput, match="is no archive of"):
        projection.rebuild(history=other)


# -- the check -------------------------------------------------------------------------------------


def test_a_check_finds_every_difference(db: varve.Varve) -> None:
    """Rows that are missing, too many, changed or of another type, tables and indexes; nothing where nothing differs."""
    fill(db, 50)
    projection = db.projection(Orders)
    projection.catch_up()
    found = projection.check()
    assert found.ok
    assert (found.position, found.events, found.tables, found.differences) == (50, 50, ("log", "orders"), ())
    assert found.rows == 7
    with closing(sqlite3.connect(projection.path)) as connection, connection:
        connection.execute("UPDATE orders SET paid = 9 WHERE customer = 1")
        connection.execute("DELETE FROM orders WHERE customer = 2")
        connection.execute("UPDATE orders SET amount = CAST(amount AS TEXT) || 'x' WHERE customer = 3")
        connection.executemany("INSERT INTO log VALUES (?, ?)", [(1, "a\0b"), (1, "a\0b"), (None, b"\xff"), (1.5, 7)])
        connection.execute("DROP INDEX by_amount")
        connection.execute("CREATE TABLE more (n)")
    found = projection.check()
    assert not found.ok
    by_kind: dict[tuple[str, str], list[Any]] = {}
    for one in found.differences:
        by_kind.setdefault((one.kind, one.table), []).append((tuple(one.row.values()), one.count))
    assert {customer for (customer, *_), _ in by_kind["missing", "orders"]} == {1, 2, 3}
    assert {customer for (customer, *_), _ in by_kind["extra", "orders"]} == {1, 3}
    assert sorted(by_kind["extra", "log"], key=str) == [((1, "a\0b"), 2), ((1.5, "7"), 1), ((None, b"\xff"), 1)]
    assert set(by_kind) == {
        *(("missing", "orders"), ("extra", "orders"), ("extra", "log")),
        *(("schema", "by_amount"), ("schema", "more")),
    }
    assert found.differing == 3 + 2 + 4 + 2
    assert len(files_of(projection)) == 1
    projection.rebuild()
    assert projection.check().ok


def test_a_check_counts_rows_that_are_equal(db: varve.Varve) -> None:
    """A row that stands there once too often, or once too seldom."""
    db.stream("orders", Placed).append_batch(1, [Placed(1, 1), Placed(2, 2), Placed(2, 2)])
    projection = db.projection(Log)
    projection.catch_up()
    with closing(sqlite3.connect(projection.path)) as connection, connection:
        connection.execute("INSERT INTO log VALUES (1, 1)")
        connection.execute("DELETE FROM log WHERE rowid = 3")
    found = projection.check()
    assert [(one.kind, one.row, one.count) for one in found.differences] == [
        ("extra", {"number": 1, "amount": 1}, 1),
        ("missing", {"number": 2, "amount": 2}, 1),
    ]


def test_a_check_finds_a_forgotten_version(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A method that does something else now, or depends on more than its events. Many differences are counted, some are told."""
    monkeypatch.setattr(varve.limits, "PROJECTION_DIFFERENCES_MAX", 10)
    fill(db, 50)
    db.projection(Log).catch_up()

    def doubled(self: object, recorded: varve.Recorded[Placed]) -> tuple[int, int]:
        return recorded.event.number, 2 * recorded.event.amount

    statement = "INSERT INTO log VALUES (?, ?)"
    found = db.projection(changed(placed=varve.on(Placed, sql=statement)(doubled))).check()
    assert found.differing == 2 * 49
    assert len(found.differences) == 2 * 10


def test_a_check_is_of_one_instant(db: varve.Varve) -> None:
    """Events that are applied meanwhile are no difference."""
    fill(db, 50)
    projection, other = db.projection(Log), db.projection(Log)
    projection.catch_up()

    def more(_: varve.ProjectionProgress) -> None:
        fill(db, 10)
        other.catch_up()

    found = projection.check(progress=more)
    assert found.ok
    assert (found.position, found.rows) == (50, 50)


# -- the store around it ---------------------------------------------------------------------------


def test_whole_stores_are_not_concerned(db: varve.Varve, tmp_path: Path) -> None:
    """Backups leave projections out; verification, compaction and the explorer's figures are as without them."""
    fill(db, 100)
    projection = db.projection(Log)
    projection.catch_up()
    db.backup(tmp_path / "backups")
    path = db.path
    db.close()
    assert varve.ops.verify(path).sound
    varve.ops.compact(path, tmp_path / "compacted")
    varve.ops.restore(tmp_path / "backups", tmp_path / "restored")
    for copy in ("compacted", "restored"):
        with open_db(tmp_path / copy) as again:
            assert again.projections() == []
            other = again.projection(Log)
            other.catch_up()
            assert logged(other) == list(range(100))
    assert not list((tmp_path / "backups").rglob("*.sqlite"))


def test_a_copied_folder_goes_with_its_store(varve_path: Path, tmp_path: Path) -> None:
    """A copy of the whole folder, made while nobody has it open, brings its projections along."""
    with open_db(varve_path) as db:
        fill(db, 10)
        with db.projection(Log) as projection:
            projection.catch_up()
    shutil.copytree(varve_path, tmp_path / "copy", ignore=shutil.ignore_patterns("lock.mdb"))
    with open_db(tmp_path / "copy") as copy:
        moved = copy.projection(Log, rebuild=False)
        fill(copy, 5)
        assert moved.catch_up().events == 5
        assert logged(moved) == list(range(15))


def test_a_forked_child_is_refused(db: varve.Varve) -> None:
    """And does not let go of what its parent holds."""
    fill(db, 10)
    projection = db.projection(Log)
    forked: list[int] = []

    def fork(_: varve.ProjectionProgress) -> None:
        child = os.fork()
        if not child:
            code = 1
            try:
                projection.query("SELECT 1")
            except varve.ForkedStore:
                code = 0
            finally:
                os._exit(code)
        forked.append(os.waitpid(child, 0)[1])
        with pytest.raises(varve.ProjectionBusy):
            db.projection(Log).catch_up()

    projection.catch_up(progress=fork)
    assert forked == [0]
