"""One environment per process, one writer at a time, slots, modes and sizes."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from engine_helpers import FaultyEnvironment, Note, faulty, finish, lmdb_error, raw_lmdb, run_script, start_script

import varve
from varve import limits
from varve.engine import core
from varve.engine import environment as environment_module
from varve.engine.environment import _Gone
from varve.testing import ManualClock, assert_sound

WRITER = """
import sys, threading
import varve
from engine_helpers import Note
path, name, per_thread = sys.argv[1], sys.argv[2], int(sys.argv[3])
db = varve.open(path, durability="relaxed")
notes = db.stream("notes", Note)
reader = notes.reader()
failures = []
def write(thread):
    try:
        for n in range(per_thread):
            while True:
                length = reader.length("shared")
                try:
                    at = notes.append("shared", Note(length, f"{name}.{thread}.{n}"), expected=length)
                except varve.WrongExpectedVersion as exc:
                    assert exc.actual > length
                    continue
                assert at.stream_sequence == length
                break
            notes.append_many([((name, thread)[1], Note(n, name)), (f"{name}.{thread}", Note(n, ""))])
    except BaseException as exc:
        failures.append(exc)
sys.stdin.readline()
threads = [threading.Thread(target=write, args=(thread,)) for thread in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert not failures, failures
db.close()
"""


def test_writers_in_processes_and_threads_make_one_gapless_log(varve_path: Path) -> None:
    """Two processes of two threads each append with expected versions, and one more in this process: no append is lost,
    repeated or out of place."""
    per_thread = 25
    with varve.open(varve_path, durability="relaxed") as db:
        writers = [start_script(WRITER, varve_path, name, per_thread) for name in "ab"]
        notes = db.stream("notes", Note)
        for writer in writers:
            assert writer.stdin is not None
            writer.stdin.write("go\n")
            writer.stdin.flush()
        for n in range(60):
            notes.append("mine", Note(n, ""), expected=n)
        for writer in writers:
            finish(writer)
        reader = notes.reader()
        total = 4 * per_thread * 3 + 60
        assert db.next_global_sequence == total
        recorded = list(db.global_reader().iter_from())
        assert [one.global_sequence for one in recorded] == list(range(total))
        shared = list(reader.iter_stream("shared"))
        assert [one.event.number for one in shared] == list(range(4 * per_thread))
        wanted = {f"{name}.{thread}.{n}" for name in "ab" for thread in range(2) for n in range(per_thread)}
        assert {one.event.text for one in shared} == wanted
        for name in ("a.0", "a.1", "b.0", "b.1"):
            assert [one.event.number for one in reader.iter_stream(name)] == list(range(per_thread))
        assert reader.length(0) == reader.length(1) == 2 * per_thread


def test_a_reader_in_another_process_sees_each_commit(varve_path: Path, varve_clock: ManualClock) -> None:
    """What an append acknowledged is there for the next call of a readonly handle elsewhere, typed; it can write
    nothing."""
    with varve.open(varve_path, clock=varve_clock) as db:
        notes = db.stream("notes", Note)
        notes.append(1, Note(0, "first"))
        other = start_script(
            """
import sys, varve
from engine_helpers import Note
with varve.open(sys.argv[1], readonly=True) as db:
    notes = db.stream("notes", Note)
    reader = notes.reader()
    for line in sys.stdin:
        print(reader.length(1), reader.get(1, reader.length(1) - 1).text, flush=True)
    for use in (lambda: notes.append(1, Note(1, "")), lambda: db.write(lambda tx: None), db.sync):
        try:
            use()
        except varve.ReadonlyStore:
            pass
        else:
            raise SystemExit("it wrote")
""",
            varve_path,
        )
        assert other.stdin is not None
        assert other.stdout is not None
        for n in range(5):
            other.stdin.write("look\n")
            other.stdin.flush()
            assert other.stdout.readline().split()[0] == str(n + 1)
            notes.append(1, Note(n, f"text{n}"))
        finish(other)


# -- one handle ---------------------------------------------------------------------------------------------------------


def test_a_second_handle_in_one_process_is_refused(varve_store: varve.Varve, tmp_path: Path) -> None:
    """Opening a store that is open here raises StoreAlreadyOpen by whatever path it is named; the first handle goes
    on."""
    link = tmp_path / "link"
    link.symlink_to(varve_store.path)
    for path in (varve_store.path, link, Path(varve_store.path) / ".." / "store"):
        for readonly in (False, True):
            with pytest.raises(varve.StoreAlreadyOpen) as refused:
                varve.open(path, readonly=readonly)
            assert refused.value.kind == "unavailable"
    assert varve_store.stream("notes", Note).append(1, Note(1, "")) == (0, 0)


def test_foreign_code_that_holds_the_environment_open_is_found_out(tmp_path: Path) -> None:
    """LMDB's environment opened by other code of this process: StoreAlreadyOpen, not two sets of locks."""
    path = tmp_path / "store"
    varve.open(path).close()
    with raw_lmdb(path), pytest.raises(varve.StoreAlreadyOpen):
        varve.open(path)
    assert_sound(path)


def test_a_handle_that_is_dropped_is_closed(tmp_path: Path) -> None:
    """Dropping the last reference to a handle lets the store go: it can be opened again at once."""
    for _ in range(3):
        db = varve.open(tmp_path / "store")
        db.stream("notes", Note).append(1, Note(1, ""))
        del db
    assert_sound(tmp_path / "store")


def test_opening_again_and_again_leaks_nothing(tmp_path: Path) -> None:
    """A hundred opens, good and refused, leave no file descriptor, map or registry entry behind."""
    path = tmp_path / "store"
    varve.open(path).close()
    before = sum(1 for _ in Path("/proc/self/fd").iterdir())
    for turn in range(100):
        with varve.open(path, durability="relaxed"), pytest.raises(varve.StoreAlreadyOpen):
            varve.open(path)
        if turn % 10 == 0:
            with pytest.raises(varve.StoreNotFound):
                varve.open(tmp_path / "none", readonly=True)
    assert sum(1 for _ in Path("/proc/self/fd").iterdir()) == before
    assert str(path) not in Path("/proc/self/maps").read_text(encoding="utf-8")
    assert not [entry for entry in environment_module._registry.values() if entry.env() is not None]
    assert_sound(path)


def test_closing_waits_for_the_commit_of_another_thread(tmp_path: Path) -> None:
    """``close()`` beside ``db.write`` on another thread waits for its end; what was acknowledged is there
    afterwards."""
    db = varve.open(tmp_path / "store", durability="relaxed")
    notes = db.stream("notes", Note)
    inside, go_on = threading.Event(), threading.Event()

    def decide(tx: varve.WriteTransaction) -> None:
        inside.set()
        assert go_on.wait(60)
        tx.append(notes, 1, Note(1, ""))

    writer = threading.Thread(target=db.write, args=(decide,))
    writer.start()
    assert inside.wait(60)
    closer = threading.Thread(target=db.close)
    closer.start()
    go_on.set()
    writer.join()
    closer.join()
    with varve.open(tmp_path / "store") as again:
        assert again.next_global_sequence == 1
    assert_sound(tmp_path / "store")


def test_inside_write_the_handle_can_neither_write_nor_close(varve_store: varve.Varve) -> None:
    """Re-entrant appends, transactions, ``db.write`` and ``close`` inside ``db.write(fn)`` raise HandleUnusable instead
    of waiting for themselves; the outer one goes on."""
    notes = varve_store.stream("notes", Note)

    def fn(tx: varve.WriteTransaction) -> None:
        def commit() -> None:
            with varve_store.transaction() as inner:
                inner.append(notes, 1, Note(9, ""))

        for use in (
            lambda: notes.append(1, Note(9, "")),
            lambda: notes.append_batch(1, [Note(9, "")]),
            commit,
            lambda: varve_store.write(lambda _: None),
            varve_store.close,
        ):
            with pytest.raises(varve.HandleUnusable):
                use()
        tx.append(notes, 1, Note(1, "outer"))

    varve_store.write(fn)
    assert [one.event for one in notes.reader().iter_all()] == [Note(1, "outer")]
    assert notes.append(1, Note(2, "")) == (1, 1)


# -- durability ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["full", "relaxed", "bulk"])
def test_every_durability_keeps_what_was_synced(varve_path: Path, durability: str) -> None:
    """Each mode writes the same store; its handle says which it is; ``db.sync()`` works in each."""
    with varve.open(varve_path, durability=durability) as db:  # type: ignore[arg-type]
        db.stream("notes", Note).append_batch(1, [Note(n, "") for n in range(20)])
        db.sync()
        assert db.stats().durability == durability
        flags = db._engine.environment.env.flags()
        assert flags["metasync"] == (durability == "full")
        assert flags["sync"] == (durability != "bulk")
        assert not flags["writemap"]
    with varve.open(varve_path) as db:
        assert db.next_global_sequence == 20


@pytest.mark.parametrize(("first", "second", "fits"), [
    ("bulk", "full", False),
    ("full", "bulk", False),
    ("bulk", "bulk", False),
    ("full", "relaxed", True),
])  # fmt: skip
def test_bulk_needs_the_store_alone(varve_path: Path, first: str, second: str, fits: bool) -> None:
    """A bulk handle excludes every other and is excluded by every other, with StoreInUse, until it is closed."""
    holder = start_script(
        """
import sys, varve
with varve.open(sys.argv[1], durability=sys.argv[2]) as db:
    print("open", flush=True)
    sys.stdin.readline()
""",
        varve_path,
        first,
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "open\n"
    if fits:
        varve.open(varve_path, durability=second).close()  # type: ignore[arg-type]
    else:
        with pytest.raises(varve.StoreInUse) as refused:
            varve.open(varve_path, durability=second)  # type: ignore[arg-type]
        assert refused.value.kind == "retryable"
        if first == "bulk":
            with pytest.raises(varve.StoreInUse):
                varve.open(varve_path, readonly=True)
    finish(holder)
    varve.open(varve_path, durability=second).close()  # type: ignore[arg-type]


# -- the map ------------------------------------------------------------------------------------------------------------


def test_the_reservation_is_halved_until_the_machine_agrees(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where address space is short the map is smaller, and the store works; where there is none it says so."""
    tried = []
    real = lmdb.open

    def limited(*args: object, map_size: int, **kwargs: object) -> lmdb.Environment:
        tried.append(map_size)
        if map_size > 100 * 2**20:
            raise lmdb.MemoryError("mmap: Cannot allocate memory")
        return real(*args, map_size=map_size, **kwargs)

    monkeypatch.setattr(lmdb, "open", limited)
    with varve.open(varve_path) as db:
        assert db.stats().map_bytes == 64 * 2**20
        db.stream("notes", Note).append(1, Note(1, ""))
    assert tried == [2**at for at in range(40, 25, -1)]
    monkeypatch.setattr(lmdb, "open", lambda *_, **__: (_ for _ in ()).throw(lmdb.MemoryError("mmap")))
    with pytest.raises(varve.StoreUnavailable, match="address space"):
        varve.open(varve_path)


def test_a_process_with_little_address_space_opens_a_store(varve_path: Path) -> None:
    """Under RLIMIT_AS the reservation fits itself in, and appends and reads work."""
    out = run_script(
        """
import resource, sys, varve
from engine_helpers import Note
resource.setrlimit(resource.RLIMIT_AS, (2 * 2**30, 2 * 2**30))
with varve.open(sys.argv[1]) as db:
    notes = db.stream("notes", Note)
    notes.append_batch(1, [Note(n, "x" * n) for n in range(200)])
    assert notes.reader().get(1, 150).text == "x" * 150
    view = notes.reader().get_bytes(1, 3)
    print(db.stats().map_bytes)
""",
        varve_path,
    )
    assert 2**28 <= int(out) < 2 * 2**30


def test_a_full_map_loses_nothing_and_a_larger_one_goes_on(varve_path: Path, varve_clock: ManualClock) -> None:
    """StoreFull: nothing of the append is written, positions do not jump, reading works; a larger ``map_bytes`` writes
    again."""
    map_bytes = 2 * limits.MAP_BYTES_MIN
    written: list[Note] = []
    with varve.open(varve_path, durability="relaxed", map_bytes=map_bytes, clock=varve_clock) as db:
        notes = db.stream("notes", Note)
        for _ in range(3):
            with pytest.raises(varve.StoreFull) as full:
                while True:
                    batch = [Note(len(written) + n, "x" * 500) for n in range(100)]
                    span = notes.append_batch(1, batch, expected=len(written))
                    assert span[0].global_sequence == len(written)
                    written += batch
            assert full.value.kind == "retryable"
            assert isinstance(full.value, OSError)
            assert db.next_global_sequence == len(written)
            assert notes.reader().length(1) == len(written)
        assert len(written) > 500
        assert [one.event for one in notes.reader().iter_stream(1)] == written
    with varve.open(varve_path, durability="relaxed", map_bytes=2 * map_bytes, clock=varve_clock) as db:
        notes = db.stream("notes", Note)
        assert notes.append(1, Note(1, "more")) == (len(written), len(written))
        assert [one.event for one in notes.reader().iter_stream(1)] == [*written, Note(1, "more")]


def test_a_map_outgrown_by_another_process_says_open_it_again(varve_path: Path) -> None:
    """A handle whose map another process wrote beyond cannot read or write: StoreFull, and opening it again helps."""
    with varve.open(varve_path, durability="relaxed", map_bytes=limits.MAP_BYTES_MIN) as db:
        notes = db.stream("notes", Note)
        notes.append(1, Note(0, ""))
        run_script(
            """
import sys, varve
from engine_helpers import Note
with varve.open(sys.argv[1], durability="relaxed") as db:
    db.stream("notes", Note).append_batch(1, [Note(n, "x" * 1000) for n in range(3000)])
""",
            varve_path,
        )
        with pytest.raises(varve.StoreFull):
            notes.append(1, Note(1, ""))
        with pytest.raises(varve.StoreFull):
            notes.reader().length(1)
    with varve.open(varve_path, durability="relaxed", map_bytes=limits.MAP_BYTES_MIN) as db:
        assert db.next_global_sequence == 3_001


# -- reader slots -------------------------------------------------------------------------------------------------------


def test_a_full_reader_table_is_told_and_recovers(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """TooManyReaders when every slot is taken by the living; leaving one snapshot makes room; appends never need a
    slot."""
    monkeypatch.setattr(limits, "READERS_MAX", 20)
    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        notes.append(1, Note(1, ""))
        snapshots = []
        with pytest.raises(varve.TooManyReaders) as refused:
            while True:
                snapshots.append(db.snapshot())
        assert len(snapshots) == 20
        assert refused.value.kind == "retryable"
        with pytest.raises(varve.TooManyReaders):
            notes.reader().get(1, 0)
        assert notes.append(1, Note(2, "")) == (1, 1)
        snapshots.pop().close()
        assert notes.reader().get(1, 1) == Note(2, "")
        del snapshots
        assert db.stats().readers == 0


KILLED = """
import sys, varve
from engine_helpers import Note
db = varve.open(sys.argv[1], readonly=True)
snapshots = [db.snapshot() for _ in range(int(sys.argv[2]))]
views = [snapshot.global_reader().get_bytes(0) for snapshot in snapshots]
print("held", flush=True)
sys.stdin.readline()
"""


def test_slots_of_the_dead_are_used_again(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A killed reader's slots are reaped when the table is full, and at the next open."""
    monkeypatch.setattr(limits, "READERS_MAX", 20)
    with varve.open(varve_path, durability="relaxed") as db:
        db.stream("notes", Note).append(1, Note(1, ""))
        for turn in range(2):
            with start_script(KILLED, varve_path, 19) as holder, db.snapshot():
                assert holder.stdout is not None
                assert holder.stdout.readline() == "held\n"
                with pytest.raises(varve.TooManyReaders):
                    db.snapshot()
                os.kill(holder.pid, signal.SIGKILL)
            if turn == 0:
                with db.snapshot(), db.snapshot() as second:
                    assert second.next_global_sequence == 1
            else:
                db.close()
                db = varve.open(varve_path, durability="relaxed")
            assert db.stats().readers == 0
        db.close()


def test_a_writer_killed_inside_a_commit_blocks_nobody(varve_path: Path) -> None:
    """A process that dies holding the write lock leaves nothing of its commit, and the next writer goes on."""
    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        notes.append(1, Note(1, ""))
        holder = start_script(
            """
import sys, varve
from engine_helpers import Note
db = varve.open(sys.argv[1], durability="relaxed")
notes = db.stream("notes", Note)
def fn(tx):
    tx.append(notes, 1, Note(2, "never"))
    with tx._session.transaction.cursor(db._engine.environment.log) as cursor:
        cursor.put((77).to_bytes(8, "big"), bytes(5000))
    print("inside", flush=True)
    sys.stdin.readline()
db.write(fn)
""",
            varve_path,
        )
        assert holder.stdout is not None
        assert holder.stdout.readline() == "inside\n"
        os.kill(holder.pid, signal.SIGKILL)
        holder.communicate()
        assert notes.append(1, Note(3, "")) == (1, 1)
        assert [one.event for one in notes.reader().iter_all()] == [Note(1, ""), Note(3, "")]


# -- what LMDB says when it opens ----------------------------------------------------------------------------------------


def refused(error: Exception) -> Any:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    return fails


@pytest.mark.parametrize(("error", "wanted"), [
    (lmdb.InvalidError("not an LMDB file"), varve.CorruptedStore),
    (lmdb_error(lmdb.DiskError, errno.ENOSPC), varve.DiskFull),
    (lmdb_error(lmdb.Error, errno.EACCES), varve.StoreAccessDenied),
    (lmdb_error(lmdb.Error, errno.EIO), varve.StoreUnavailable),
    (lmdb_error(lmdb.VersionMismatchError, -30794), varve.StoreUnavailable),
    (OSError(errno.ENOTDIR, "Not a directory"), varve.StoreUnavailable),
    (OSError(errno.ENOENT, "No such file or directory"), varve.StoreNotFound),
], ids=repr)  # fmt: skip
def test_what_lmdb_refuses_at_open_has_a_kind(
    varve_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, wanted: type[varve.VarveError]
) -> None:
    """Whose fault it is follows from the system's number; the handle lock is given back, so that the next try opens."""
    varve.open(varve_path).close()
    with monkeypatch.context() as patch:
        patch.setattr(environment_module.lmdb, "open", refused(error))
        with pytest.raises(varve.VarveError) as caught:
            varve.open(varve_path)
    assert type(caught.value) is wanted
    varve.open(varve_path, durability="bulk").close()  # which needs the store alone


@pytest.mark.parametrize(("error", "wanted"), [
    (lmdb_error(lmdb.MapFullError, -30792), varve.StoreFull),
    (lmdb_error(lmdb.Error, errno.EIO), varve.StoreUnavailable),
], ids=["map full", "EIO"])  # fmt: skip
def test_databases_that_cannot_be_made_are_told(
    varve_path: Path, monkeypatch: pytest.MonkeyPatch, error: lmdb.Error, wanted: type[varve.VarveError]
) -> None:
    """A map too small for an empty store, a disk that fails: and the next try makes the store."""
    real = lmdb.open

    def opened(*args: Any, **kwargs: Any) -> Any:
        proxy = FaultyEnvironment(real(*args, **kwargs))
        monkeypatch.setattr(proxy, "open_db", refused(error), raising=False)
        return proxy

    with monkeypatch.context() as patch:
        patch.setattr(environment_module.lmdb, "open", opened)
        with pytest.raises(varve.VarveError) as caught:
            varve.open(varve_path)
    assert type(caught.value) is wanted
    monkeypatch.undo()
    varve.open(varve_path).close()


def test_a_store_that_cannot_be_made_is_told(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first write of all, that of the store's record: StoreFailed, and the next try makes it."""
    real = lmdb.open

    def opened(*args: Any, **kwargs: Any) -> Any:
        proxy = FaultyEnvironment(real(*args, **kwargs))
        proxy.on_put = refused(lmdb_error(lmdb.Error, errno.EIO))
        return proxy

    with monkeypatch.context() as patch:
        patch.setattr(environment_module.lmdb, "open", opened)
        with pytest.raises(varve.StoreFailed, match="nothing of it was written"):
            varve.open(varve_path)
    with varve.open(varve_path) as db:
        # Of two processes that make it at once, the slower one finds the record of the other.
        assert db._engine._create(lambda: 0) == db._engine.created.encode()
        assert db._engine.block_after(0) is None


def test_a_commit_that_cannot_begin_is_told(varve_path: Path) -> None:
    """LMDB gives no write transaction: StoreFailed, nothing is written, and the next one may."""
    with varve.open(varve_path) as db:
        notes = db.stream("notes", Note)
        proxy = faulty(db)
        proxy.on_begin = refused(lmdb_error(lmdb.Error, errno.EIO))
        with pytest.raises(varve.StoreFailed, match="cannot begin a commit"):
            notes.append(1, Note(1, "x"))
        proxy.on_begin = lambda: None
        proxy.on_put = refused(lmdb_error(lmdb.CorruptedError, -30796))
        with pytest.raises(varve.CorruptedStore, match="LMDB finds a damaged page"):
            notes.append(1, Note(1, "x"))
        proxy.on_put = lambda: None
        assert notes.append(1, Note(1, "x")).global_sequence == 0


def test_a_side_table_that_another_thread_opened_meanwhile_is_used(
    varve_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads may ask for it at once; LMDB opens it once."""
    with varve.open(varve_path) as db:
        environment = db._engine.environment
        there = object()

        def has_side(name: str) -> bool:
            environment._side[name] = there
            return True

        with monkeypatch.context() as patch:
            patch.setattr(environment, "has_side", has_side)
            assert environment.side("made meanwhile") is there
        del environment._side["made meanwhile"]
        assert environment.side("made meanwhile") is None


def test_a_view_given_while_the_store_closes_keeps_it_open(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread was given one between the first look and the refusal: ViewsStillAlive, and the store stays usable."""
    with varve.open(varve_path) as db:
        notes = db.stream("notes", Note)
        looks: list[int] = []

        def check() -> None:
            looks.append(1)
            if len(looks) == 2:
                raise varve.ViewsStillAlive("one", count=1)

        with monkeypatch.context() as patch:
            patch.setattr(db._engine.environment, "_check_views", check)
            with pytest.raises(varve.ViewsStillAlive):
                db.close()
        assert notes.append(1, Note(1, "x")).global_sequence == 0
        db.close()
        db._engine._close_idle()  # two threads that close at once: the second finds it done
        with pytest.raises(varve.StoreClosed):
            notes.append(1, Note(2, "x"))


def test_readers_are_listed_from_what_lmdb_prints(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that reads nothing has a dash; a line of another form is passed over."""
    with varve.open(varve_path) as db:
        environment = db._engine.environment
        real = environment.env

        class Prints:
            def readers(self) -> str:
                return "    pid     thread     txnid\n  12 7f00 -\n  13 7f01 5\n(no more readers here)\n"

        with monkeypatch.context() as patch:
            patch.setattr(environment, "env", Prints())
            assert list(environment.readers()) == [(12, None), (13, 5)]
        assert environment.env is real


def test_a_set_that_changes_while_it_is_listed_is_listed_again() -> None:
    """Another thread makes an iterator while the store closes: none is left out, and nothing is raised."""
    turns: list[int] = []

    class Changing:
        def __iter__(self) -> Iterator[int]:
            turns.append(1)
            if len(turns) < 3:
                raise RuntimeError("Set changed size during iteration")
            return iter((1, 2))

    assert core._members(Changing()) == [1, 2]  # type: ignore[arg-type]


def test_another_py_lmdb_is_left_as_it_is_after_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not remember open files by name, there is nothing to go around."""
    from lmdb import _envid

    monkeypatch.delattr(_envid, "env_keys")
    environment_module._unguard_lmdb()
    assert not hasattr(_envid, "env_keys")


def test_a_fork_inside_write_leaves_the_transaction_to_the_parent(varve_path: Path) -> None:
    """The child's commit is refused; the parent's goes on."""
    with varve.open(varve_path) as db:
        notes = db.stream("notes", Note)
        pids: list[int] = []

        def fill(tx: Any) -> None:
            tx.append(notes, 1, Note(1, "before"))
            pids.append(os.fork())
            tx.append(notes, 1, Note(2, "after"))

        try:
            db.write(fill)
        except varve.ForkedStore:
            os._exit(7)  # the child
        if pids == [0]:
            os._exit(1)
        assert os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1]) == 7
        assert [one.event.number for one in notes.reader().iter_stream(1)] == [1, 2]


def test_a_writer_tells_whether_a_commit_runs(varve_path: Path) -> None:
    """On this thread or on another; a finaliser asks so that it need not wait."""
    with varve.open(varve_path) as db:
        writer = db._engine._writer
        seen: list[bool] = [writer.busy]

        def look(_: Any) -> None:
            seen.append(writer.busy)
            thread = threading.Thread(target=lambda: seen.append(writer.busy))
            thread.start()
            thread.join()

        db.write(look)
        seen.append(writer.busy)
        assert seen == [False, True, True, False]


def test_what_stands_for_an_environment_that_was_let_go_refuses_every_use() -> None:
    """A thread that is late meets the handle's own error, not one of an attribute that None does not have."""
    gone = _Gone(lambda: varve.StoreClosed("closed"))
    with pytest.raises(varve.StoreClosed):
        gone.begin()


def test_looking_for_a_side_table_keeps_the_map(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A close on another thread must not unmap the file under the look: it met a transaction that was dropped."""
    with varve.open(varve_path) as db:
        environment = db._engine.environment
        names_side, active = environment.names_side, []

        def looked(name: str, transaction: Any) -> bool:
            active.append(len(environment.active))
            return names_side(name, transaction)

        monkeypatch.setattr(environment, "names_side", looked)
        assert not environment.has_side("retention")
        assert active == [1]
        assert not environment.active
