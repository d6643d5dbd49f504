"""What the torture rack found by failing system calls and by kill -9, each told as its story."""

from __future__ import annotations

import errno
import multiprocessing
import os
import shutil
import signal
import threading
from pathlib import Path

import lmdb
import pytest
from engine_helpers import Note, faulty, lmdb_error, run_script

import varve
from varve import limits
from varve.engine import creation, environment, files
from varve.testing import assert_sound

EIO = lmdb_error(lmdb.Error, errno.EIO)


def raising(error: BaseException) -> object:
    """A function that raises whatever it is called with."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


# -- closing -------------------------------------------------------------------------------------------------------------


def test_a_bulk_handle_whose_last_sync_fails_says_so_and_is_closed(varve_path: Path) -> None:
    """``close()`` of a bulk handle syncs. Where that failed LMDB's own error came out, waiters were never told and the
    helper thread stayed: now it is ``StoreFailed``, the handle is closed, who waits learns of it, and the store can be
    opened again at once."""
    db = varve.open(varve_path, durability="bulk")
    notes = db.stream("notes", Note)
    notes.append(1, Note(1, "loaded"))
    refused: list[BaseException] = []
    waits = threading.Event()

    def wait() -> None:
        watcher = db.watcher()
        waits.set()
        try:
            watcher.wait(99)
        except varve.VarveError as exc:
            refused.append(exc)

    waiter = threading.Thread(target=wait)
    waiter.start()
    waits.wait()
    faulty(db).sync = raising(EIO)  # type: ignore[attr-defined]
    with pytest.raises(varve.StoreFailed) as failed:
        db.close()
    assert failed.value.reason
    waiter.join()
    assert isinstance(refused[0], varve.StoreClosed)
    with pytest.raises(varve.StoreClosed):
        notes.append(1, Note(2, ""))
    db.close()
    with varve.open(varve_path) as again:
        assert again.next_global_sequence == 1


def test_a_read_that_a_close_meets_does_not_hinder_the_next_open(varve_path: Path) -> None:
    """A thread was in the middle of a short read when another one closed the store: opening it in another mode right behind was
    refused with ``ViewsStillAlive``, though there were no views. Now it waits for the read to end."""
    db = varve.open(varve_path, durability="bulk")
    db.stream("notes", Note).append(1, Note(1, "loaded"))
    reading = [db._engine.environment.env]
    db._engine.environment.active.add(1)
    db.close()
    ends = threading.Timer(0.05, reading.clear)
    ends.start()
    with varve.open(varve_path) as again:
        assert again.next_global_sequence == 1
    ends.join()


def test_a_read_that_does_not_end_is_told(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds the map for longer than one can wait for: the open is refused, and succeeds once he lets go."""
    pauses: list[float] = []
    monkeypatch.setattr(environment.time, "sleep", pauses.append)
    db = varve.open(varve_path, durability="bulk")
    reading = [db._engine.environment.env]
    db._engine.environment.active.add(1)
    db.close()
    with pytest.raises(varve.ViewsStillAlive):
        varve.open(varve_path)
    assert pauses
    reading.clear()
    varve.open(varve_path).close()


def test_leaving_a_bulk_block_whose_last_sync_fails_says_so(varve_path: Path) -> None:
    """The same at the end of a ``with`` block."""
    with pytest.raises(varve.StoreFailed), varve.open(varve_path, durability="bulk") as db:
        db.stream("notes", Note).append(1, Note(1, "loaded"))
        faulty(db).sync = raising(EIO)  # type: ignore[attr-defined]
    with varve.open(varve_path) as again:
        assert again.next_global_sequence == 1


# -- creation ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", ["open", "fsync"])
def test_a_new_store_whose_folder_cannot_be_synced_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fails: str
) -> None:
    """The fsync of a new store's folder raised the system's bare OSError and left LMDB's environment open behind it."""
    path = tmp_path / "store"
    real = files.sync_folder

    def sync(folder: str) -> None:
        if folder == str(path):
            raise OSError(errno.EIO if fails == "fsync" else errno.EMFILE, fails)
        real(folder)

    monkeypatch.setattr(files, "sync_folder", sync)
    with pytest.raises(varve.StoreUnavailable):
        varve.open(path)
    monkeypatch.undo()
    with varve.open(path) as db:
        assert db.stream("notes", Note).append(1, Note(1, "")).global_sequence == 0
    assert_sound(path)


def test_a_creation_without_room_for_its_record_is_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The store's record is a commit like any other: without room for it the answer was StoreFailed ("look at the
    disk"), and is DiskFull ("free some")."""
    no_space = lmdb_error(lmdb.DiskError, errno.ENOSPC)
    monkeypatch.setattr("varve.engine.core.StoreRecord", raising(no_space))
    with pytest.raises(varve.DiskFull):
        varve.open(tmp_path / "store")
    monkeypatch.undo()
    varve.open(tmp_path / "store").close()
    assert_sound(tmp_path / "store")


def cut_off(path: Path, size: int) -> Path:
    """What a creation leaves that was cut off after so many bytes."""
    path.mkdir()
    made = path.with_name("made")
    made.mkdir()
    lmdb.open(str(made), map_size=1 << 20, lib_version=0).close()
    data = path / "data.mdb"
    data.write_bytes((made / "data.mdb").read_bytes()[:size])
    shutil.rmtree(made)
    return data


def test_a_creation_that_was_cut_off_is_done_again(tmp_path: Path) -> None:
    """LMDB writes both meta pages of a new file at once. On a disk with one block left only the first got there, and the
    store was "corrupted" from then on, room or not, for ever: it is made anew, since nothing was ever in it."""
    path = tmp_path / "store"
    cut_off(path, limits.PAGE_BYTES)
    with pytest.raises(varve.NotAVarveStore, match="never finished"):
        varve.open(path, readonly=True)
    with varve.open(path) as db:
        assert db.stream("notes", Note).append(1, Note(1, "")).global_sequence == 0
    assert_sound(path)


@pytest.mark.parametrize("size", [1, 100, 151, limits.PAGE_BYTES - 1, limits.PAGE_BYTES])
def test_a_store_that_was_truncated_is_not_made_anew(tmp_path: Path, size: int) -> None:
    """However short a file is, it is left alone and refused where it may have held events."""
    path = tmp_path / "store"
    with varve.open(path) as db:
        db.stream("notes", Note).append(1, Note(1, ""))
    data = path / "data.mdb"
    os.truncate(data, size)
    before = data.read_bytes()
    for readonly in (True, False):
        with pytest.raises(varve.IntegrityError):
            varve.open(path, readonly=readonly)
    assert data.read_bytes() == before


def test_a_foreign_short_file_is_left_alone(tmp_path: Path) -> None:
    """Nothing is emptied that is not what LMDB writes first."""
    path = tmp_path / "store"
    path.mkdir()
    data = path / "data.mdb"
    data.write_bytes(b"somebody else's" * 20)
    with pytest.raises(varve.NotAVarveStore):
        varve.open(path)
    assert data.read_bytes() == b"somebody else's" * 20


def test_a_creation_that_is_under_way_elsewhere_is_not_disturbed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who holds the store's lock may be writing those pages at this moment: wait for it, and never empty its file."""
    path = tmp_path / "store"
    data = cut_off(path, limits.PAGE_BYTES)
    before = data.read_bytes()
    pauses = []
    monkeypatch.setattr(creation.time, "sleep", pauses.append)
    held = files.lock_handle(str(path), exclusive=False, readonly=False)
    try:
        creation.clear_unfinished(str(path), readonly=False)
    finally:
        os.close(held)
    assert pauses
    assert data.read_bytes() == before
    creation.clear_unfinished(str(path), readonly=False)
    assert data.stat().st_size == 0


def test_a_creation_that_ends_elsewhere_meanwhile_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the first look and the lock another process finished what looked cut off: it is looked at again."""
    path = tmp_path / "store"
    data = cut_off(path, limits.PAGE_BYTES)
    real = files.lock_handle

    def finished(folder: str, *, exclusive: bool, readonly: bool) -> int:
        with data.open("ab") as file:
            file.write(bytes(limits.PAGE_BYTES))
        return real(folder, exclusive=exclusive, readonly=readonly)

    monkeypatch.setattr(files, "lock_handle", finished)
    creation.clear_unfinished(str(path), readonly=False)
    assert data.stat().st_size == 2 * limits.PAGE_BYTES


def test_a_real_file_size_limit_cuts_a_creation_off(tmp_path: Path) -> None:
    """The story in one process: LMDB's first write is cut off by a limit, the limit is lifted, the store can be made."""
    out = run_script(
        """
import resource, signal, sys, varve
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from varve.engine import files
files.check_room_for_readers = lambda *_: None
files.make_folder(sys.argv[1])
open(sys.argv[1] + "/lock.mdb", "wb").truncate(1 << 20)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, resource.RLIM_INFINITY))
try:
    varve.open(sys.argv[1])
except varve.VarveError as exc:
    print(type(exc).__name__)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
varve.open(sys.argv[1]).close()
""",
        tmp_path / "store",
    )
    assert out.split()[0] in {"DiskFull", "StoreUnavailable", "CorruptedStore"}
    assert_sound(tmp_path / "store")


def test_a_lock_file_that_was_left_unfinished_is_prepared_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two processes opened a store at once; the first was killed while it prepared LMDB's lock file, and the other, which
    had waited for it, was told that the store is corrupted. LMDB prepares the file when it is opened once more."""
    refusals = [lmdb_error(lmdb.InvalidError, -30793), lmdb_error(lmdb.Error, errno.EINVAL)] * 2
    real = lmdb.open

    def refusing(*arguments: object, **how: object) -> lmdb.Environment:
        if refusals:
            raise refusals.pop()
        return real(*arguments, **how)

    monkeypatch.setattr(lmdb, "open", refusing)
    varve.open(tmp_path / "store").close()
    assert not refusals
    assert_sound(tmp_path / "store")
    refusals += [lmdb_error(lmdb.InvalidError, -30793)] * 1_000
    with pytest.raises(varve.CorruptedStore):
        varve.open(tmp_path / "store")
    assert refusals


# -- readers that die ----------------------------------------------------------------------------------------------------


def test_a_reader_that_dies_holding_a_snapshot_costs_a_bounded_part_of_the_file(
    varve_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slots of dead readers were freed when somebody opened the store, or when all were taken. A writer that runs for
    months met neither: one killed reader, and the file grew by 13 pages a commit for good. The writer looks for itself
    now, each time that it has written ``REAP_BYTES``."""
    monkeypatch.setattr(limits, "REAP_BYTES", 20 * limits.COMMIT_BYTES)
    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        notes.append(1, Note(0, ""))
        holds = multiprocessing.get_context("fork").Event()
        pid = os.fork()
        if not pid:
            with varve.open(varve_path, readonly=True) as other, other.snapshot() as snapshot:
                snapshot.global_reader().get(0)
                holds.set()
                signal.pause()
        holds.wait()
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        environment = db._engine.environment
        for number in range(30):
            notes.append(1, Note(number, ""))
        assert pid not in {slot for slot, _ in environment.readers()}
        last = environment.last_page()
        for number in range(50):
            notes.append(1, Note(number, ""))
        assert environment.last_page() - last < 20
