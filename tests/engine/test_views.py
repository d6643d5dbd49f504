"""Zero-copy memory that can neither lie nor crash; each story runs in an interpreter that a mistake would kill."""

from __future__ import annotations

import gc
import os
import pickle
import threading
from copy import copy, deepcopy
from pathlib import Path

import pytest
from engine_helpers import Blob, Note, blob, fast_folder, finish, run_script, start_script

import varve
from varve import limits
from varve.engine.checked import CheckedBlocks
from varve.layout.block import EventPlaces
from varve.testing import ManualClock, assert_sound

PRELUDE = """
import gc, os, random, sys, threading
import varve
from varve import ops
from engine_helpers import Blob, Note, blob

path = sys.argv[1]

def filled(durability="bulk"):
    db = varve.open(path, durability=durability)
    notes, blobs = db.stream("notes", Note), db.stream("blobs", Blob)
    notes.append_batch(1, [Note(n, "a" * n) for n in range(100)])
    notes.append_many([(n % 3, Note(n, "b" * n)) for n in range(100)])
    blobs.append_batch("x", [blob(n, 20_000) for n in range(3)])
    return db, notes, blobs

def kept(db, notes, blobs):
    '''Every kind of view, with the bytes that it must keep: (owner or view, callable to its bytes, bytes).'''
    found = []
    def keep(view):
        for one in (view, view[4:], view[8:-4][2:][:8], memoryview(view)[3:].cast("B")[1:5]):
            found.append((one, bytes(one)))
    reader = notes.reader()
    keep(reader.get_bytes(1, 5))
    keep(blobs.reader().get_bytes("x", 1))
    for recorded in reader.iter_stream(1):
        keep(recorded.raw)
    for recorded in db.global_reader().iter_from(150, reverse=True):
        keep(recorded.raw)
    for view in db.global_reader().iter_bytes(20):
        keep(view)
    with db.snapshot() as snapshot:
        keep(snapshot.global_reader().get_bytes(7))
    big = blobs.reader().get("x", 2)
    keep(big.data if isinstance(big.data, memoryview) else memoryview(bytes(big.data)))
    return found

def intact(found):
    wrong = sum(bytes(view) != wanted for view, wanted in found)
    assert not wrong, wrong

def churn(notes, count):
    for n in range(count):
        notes.append(n % 7, Note(n, "c" * 50))
"""


def test_views_keep_their_bytes_through_ten_thousand_commits_and_a_refused_close() -> None:
    """Views and slices of slices show the same bytes after their snapshot and reader are gone, after 10,000 commits
    that use pages again, and after ``close()`` was refused, which leaves the store usable; without them it closes."""
    with fast_folder() as folder:
        out = run_script(
            PRELUDE
            + """
db, notes, blobs = filled()
found = kept(db, notes, blobs)
intact(found)
assert db.stats().snapshots and db.stats().readers >= 1
churn(notes, 10_000)
gc.collect()
intact(found)
try:
    db.close()
except varve.ViewsStillAlive as exc:
    assert isinstance(exc, BufferError) and exc.count >= 1
else:
    raise SystemExit("close() was not refused")
intact(found)
notes.append(1, Note(1, "still usable"))
assert db.next_global_sequence == 203 + 10_001
intact(found)
del found
db.close()
assert ops.verify(path).sound
print("done")
""",
            folder / "store",
        )
    assert out == "done\n"


def test_views_outlive_the_with_block_and_a_reopened_store_adopts_the_map(tmp_path: Path) -> None:
    """Leaving ``with varve.open`` waits for no view; reopening meanwhile works on the same environment, and the next
    ``close()`` still protects the first handle's views."""
    out = run_script(
        PRELUDE
        + """
db, notes, blobs = filled("relaxed")
with db:
    found = kept(db, notes, blobs)
intact(found)
for use in (lambda: notes.append(1, Note(1, "")), lambda: notes.reader().length(1), db.snapshot, db.stats):
    try:
        use()
    except varve.StoreClosed:
        pass
    else:
        raise SystemExit("a handle that was left still works")
again = varve.open(path, durability="relaxed")
notes = again.stream("notes", Note)
churn(notes, 200)
intact(found)
try:
    again.close()
except varve.ViewsStillAlive:
    pass
else:
    raise SystemExit("the adopted views were forgotten")
with again:
    pass
intact(found)
try:
    varve.open(path, durability="full")
except varve.ViewsStillAlive:
    pass
else:
    raise SystemExit("one environment in two durability modes")
reading = varve.open(path, readonly=True)
assert reading.next_global_sequence == 403
with reading:
    pass
intact(found)
del found
other = varve.open(path, durability="full")
assert other.next_global_sequence == 403 and other.stats().readers == 0
other.close()
assert ops.verify(path).sound
print("done")
""",
        tmp_path / "store",
    )
    assert out == "done\n"


def test_five_thousand_views_of_five_thousand_snapshots() -> None:
    """Each of 5,000 views taken between 5,000 commits keeps its bytes; no more than PINNED_SNAPSHOTS_MAX of them
    pin."""
    with fast_folder() as folder:
        out = run_script(
            PRELUDE
            + """
from varve import limits
db = varve.open(path, durability="bulk")
notes = db.stream("notes", Note)
reader, log = notes.reader(), db.global_reader()
views = []
for n in range(5_000):
    notes.append(n % 5, Note(n, "v" * (n % 90)))
    views.append(reader.get_bytes(n % 5, n // 5))
assert [varve.ops and memoryview(view)[0] for view in views]
stats = db.stats()
assert 0 < len(stats.snapshots) <= limits.PINNED_SNAPSHOTS_MAX, len(stats.snapshots)
assert stats.readers <= limits.PINNED_SNAPSHOTS_MAX + 1, stats.readers
assert [bytes(a) == bytes(b) for a, b in zip(views, log.iter_bytes())] == [True] * 5_000
order = list(range(5_000))
random.Random(5).shuffle(order)
for at in order:
    views[at] = None
assert not db.stats().snapshots
db.close()
print("done")
""",
            folder / "store",
        )
    assert out == "done\n"


def test_dropping_in_any_order_never_crashes(tmp_path: Path) -> None:
    """Views, readers, iterators, snapshots and the handle itself may die in any order, collector runs in between, and
    be looked at until they do."""
    seed = 20_240_229
    print("seed", seed)  # noqa: T201 - shown with a failure
    out = run_script(
        PRELUDE
        + """
rng = random.Random(int(sys.argv[2]))
for turn in range(40):
    try:
        db = varve.open(path, durability="relaxed")
    except varve.ViewsStillAlive:
        raise SystemExit("views of an earlier turn are alive")
    notes, blobs = db.stream("notes", Note), db.stream("blobs", Blob)
    if turn == 0:
        notes.append_batch(1, [Note(n, "a" * n) for n in range(300)])
        blobs.append("x", blob(1, 20_000))
    snapshot = db.snapshot()
    iterator = db.global_reader().iter_from(0)
    backwards = notes.reader().iter_all(reverse=True)
    recorded = next(iterator), next(backwards)
    things = {
        "db": db, "notes": notes, "blobs": blobs, "snapshot": snapshot, "snapreader": snapshot.global_reader(),
        "iterator": iterator, "backwards": backwards, "recorded": recorded, "event": blobs.reader().get("x", 0),
        "view": notes.reader().get_bytes(1, 9), "slice": notes.reader().get_bytes(1, 10)[4:][2:],
        "bytes": db.global_reader().iter_bytes(),
    }
    cycle = [things["view"], db]
    cycle.append(cycle)
    things["cycle"] = cycle
    del db, notes, blobs, snapshot, iterator, backwards, recorded, cycle
    names = sorted(things)
    rng.shuffle(names)
    for name in names:
        gone = things.pop(name)
        if name == "db" and rng.random() < 0.5:
            try:
                gone.close()
            except varve.ViewsStillAlive:
                with gone:
                    pass
        elif name == "snapshot" and rng.random() < 0.5:
            gone.close()
        del gone
        if rng.random() < 0.3:
            gc.collect()
        for view in ("view", "slice"):
            if view in things:
                bytes(things[view])
        if "event" in things:
            assert len(things["event"].data) == 20_000
    gc.collect()
assert ops.verify(path).sound
print("done")
""",
        tmp_path / "store",
        seed,
    )
    assert out == "done\n"


@pytest.mark.parametrize("ending", ["open", "left", "closing in a finaliser", "exit in a thread"])
def test_the_interpreter_may_end_with_views_alive(tmp_path: Path, ending: str) -> None:
    """At exit nothing crashes and nothing is printed, however the store was left."""
    out = run_script(
        PRELUDE
        + """
ending = sys.argv[2]
db, notes, blobs = filled("relaxed")
found = kept(db, notes, blobs)
iterator = db.global_reader().iter_from(0)
one = next(iterator)
snapshot = db.snapshot()
cycle = [found, db, iterator, snapshot]
cycle.append(cycle)
class Late:
    def __init__(self, db, view):
        self.db, self.view = db, view
    def __del__(self):
        bytes(self.view)
        with self.db:
            pass
        bytes(self.view)
if ending == "left":
    with db:
        pass
elif ending == "closing in a finaliser":
    late = Late(db, found[0][0])
    late.itself = late
elif ending == "exit in a thread":
    started = threading.Event()
    def run():
        while True:
            for view in db.global_reader().iter_bytes():
                bytes(view)
            started.set()
    threading.Thread(target=run, daemon=True).start()
    started.wait()
intact(found)
print("done")
""",
        tmp_path / "store",
        ending,
    )
    assert out == "done\n"


def test_readers_in_threads_beside_a_writer() -> None:
    """Four threads read, keep and drop views while one appends; every byte is right and no slot is left."""
    with fast_folder() as folder:
        out = run_script(
            PRELUDE
            + """
db, notes, blobs = filled()
done = threading.Event()
failures = []

def read(seed):
    rng = random.Random(seed)
    mine = []
    try:
        while not done.is_set():
            what = rng.randrange(5)
            if what == 0:
                view = notes.reader().get_bytes(1, rng.randrange(100))
                mine.append((view[4:], bytes(view[4:])))
            elif what == 1:
                start = rng.randrange(100)
                mine += [(recorded.raw, bytes(recorded.raw)) for recorded in db.global_reader().iter_from(start, start + 20)]
            elif what == 2:
                event = blobs.reader().get("x", 1)
                assert event == blob(1, 20_000)
            elif what == 3:
                with db.snapshot() as snapshot:
                    assert snapshot.reader(notes).get(1, 3) == Note(3, "aaa")
                    assert snapshot.next_global_sequence >= 203
            else:
                rng.shuffle(mine)
                del mine[: len(mine) // 2]
            intact(mine)
        mine.clear()
    except BaseException as exc:
        failures.append(exc)

threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
for thread in threads:
    thread.start()
churn(notes, 1_500)
done.set()
for thread in threads:
    thread.join()
assert not failures, failures
gc.collect()
assert db.stats().readers == 0 and not db.stats().snapshots, db.stats()
db.close()
print("done")
""",
            folder / "store",
        )
    assert out == "done\n"


def test_closing_under_reading_threads_never_crashes() -> None:
    """``close()`` and the end of ``with`` while other threads are in the middle of reads: those finish or are refused,
    and never touch memory that is unmapped."""
    with fast_folder() as folder:
        out = run_script(
            PRELUDE
            + """
sys.setswitchinterval(1e-5)
failures, allowed = [], (varve.StoreClosed, varve.SnapshotClosed)
closes = 0
with varve.open(path, durability="bulk") as db:
    db.stream("blobs", Blob).append_batch("x", [blob(n, 3_000) for n in range(50)])
for turn in range(60):
    db = varve.open(path, durability="bulk")
    blobs = db.stream("blobs", Blob)
    started = threading.Barrier(4)
    def read(turn=turn):
        started.wait()
        try:
            while True:
                db._engine.checked.__init__()  # so that every touch computes a checksum, which runs without the GIL
                assert blobs.reader().get("x", turn % 50).number == turn % 50
                db.global_reader().get(3)
                db.stats()
                for recorded in db.global_reader().iter_from(0):
                    pass
                recorded = None
        except allowed:
            pass
        except BaseException as exc:
            failures.append(exc)
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    started.wait()
    if turn % 2:
        with db:
            pass
    else:
        for attempt in range(turn):
            try:
                db.close()
            except varve.ViewsStillAlive:
                continue
            closes += 1
            break
        else:
            with db:
                pass
    for thread in threads:
        thread.join()
    assert not failures, failures
    del db, blobs, threads, read
    gc.collect()
assert ops.verify(path).sound
print("done")
""",
            folder / "store",
        )
    assert out == "done\n"


def test_a_snapshot_closed_by_another_thread_leaves_running_reads_whole(tmp_path: Path) -> None:
    """Threads that share a snapshot read right bytes or hear SnapshotClosed when one of them leaves it."""
    out = run_script(
        PRELUDE
        + """
sys.setswitchinterval(1e-5)
db, notes, blobs = filled("relaxed")
failures = []
for turn in range(150):
    snapshot = db.snapshot()
    reader, log = snapshot.reader(notes), snapshot.global_reader()
    def read():
        try:
            while True:
                assert reader.get(1, 7) == Note(7, "a" * 7)
                assert log.get(9).event == Note(9, "a" * 9)
                assert reader.length(1) >= 100
                bytes(reader.get_bytes(1, 8))
        except varve.SnapshotClosed:
            pass
        except BaseException as exc:
            failures.append(exc)
    threads = [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    reader.get(1, 7)
    snapshot.close()
    for thread in threads:
        thread.join()
    assert not failures, failures
assert db.stats().readers == 0
db.close()
print("done")
""",
        tmp_path / "store",
    )
    assert out == "done\n"


def test_leaving_a_snapshot_waits_for_the_read_inside_it(
    varve_store: varve.Varve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A snapshot that another thread leaves keeps its transaction until the read that looks at its memory is done."""
    notes = varve_store.stream("notes", Note)
    notes.append(1, Note(1, "a"))
    snapshot = varve_store.snapshot()
    reader = snapshot.reader(notes)
    assert reader.get(1, 0) == Note(1, "a")  # from here on it needs the block only
    began = threading.Event()

    def leave() -> None:
        began.set()
        snapshot.close()

    closer = threading.Thread(target=leave)
    real = CheckedBlocks.holding

    def holding(self: CheckedBlocks, sequence: int) -> EventPlaces | None:
        closer.start()
        assert began.wait(60)
        for _ in range(1_000):
            os.sched_yield()
        assert snapshot._snapshot._transaction is not None
        return real(self, sequence)

    monkeypatch.setattr(CheckedBlocks, "holding", holding)
    assert reader.get(1, 0) == Note(1, "a")
    closer.join()
    with pytest.raises(varve.SnapshotClosed):
        reader.get(1, 0)


def test_a_store_collected_while_another_is_opened_deadlocks_nothing(tmp_path: Path) -> None:
    """The collector may let a forgotten store go in the middle of opening another one, on the same thread."""
    out = finish(
        start_script(
            PRELUDE
            + """
import lmdb
real = lmdb.open
def collecting(*args, **kwargs):
    gc.collect()
    return real(*args, **kwargs)
lmdb.open = collecting
for turn in range(5):
    forgotten = varve.open(f"{path}{turn}", durability="relaxed")
    forgotten.stream("notes", Note).append(1, Note(1, ""))
    forgotten.itself = forgotten
    del forgotten
    with varve.open(path, durability="relaxed") as db:
        db.stream("notes", Note).append(1, Note(1, ""))
for turn in range(5):
    assert ops.verify(f"{path}{turn}").sound
print("done")
""",
            tmp_path / "store",
        ),
        timeout_s=60,
    )
    assert out == "done\n"


@pytest.mark.parametrize("durability", ["full", "bulk"])
def test_beside_a_fork_parent_and_child_both_live(tmp_path: Path, durability: str) -> None:
    """The child reads inherited views, is refused by the inherited handle, opens its own and writes; the parent's
    slots, views and locks are untouched and it goes on writing."""
    out = run_script(
        PRELUDE
        + """
import traceback, warnings
db, notes, blobs = filled(sys.argv[2])
found = kept(db, notes, blobs)
iterator = db.global_reader().iter_from(0)
next(iterator)
snapshot = db.snapshot()
tx = db.transaction()
before = db.stats().readers
pid = os.fork()
if pid == 0:
    try:
        intact(found)
        uses = (
            lambda: notes.append(1, Note(1, "")), lambda: notes.reader().get(1, 1), db.snapshot, db.stats, db.sync,
            lambda: db.next_global_sequence, lambda: snapshot.next_global_sequence, lambda: snapshot.reader(notes).get(1, 1),
            lambda: db.write(lambda tx: None), lambda: notes.reader().iter_all(), lambda: list(iterator),
            lambda: db.stream("other", Note),
        )
        for number, use in enumerate(uses):
            try:
                use()
            except varve.ForkedStore as exc:
                assert exc.code == "forked_store"
            else:
                raise SystemExit(f"use {number} was not refused")
        snapshot.close()
        db.close()
        with db:
            pass
        if sys.argv[2] == "full":
            with varve.open(path) as mine:
                mine.stream("notes", Note).append(1, Note(77, "from the child"))
                assert mine.stream("notes", Note).reader().get(1, mine.stream("notes", Note).reader().length(1) - 1).number == 77
                view = mine.global_reader().get_bytes(3)
                try:
                    varve.open(path)
                except varve.StoreAlreadyOpen:
                    pass
                else:
                    raise SystemExit("opened twice in the child")
            bytes(view)
            del view
        intact(found)
        del found, iterator, snapshot, notes, blobs, db
        gc.collect()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)
assert os.waitpid(pid, 0)[1] == 0
intact(found)
assert db.stats().readers == before, (db.stats().readers, before)
at = notes.append(1, Note(78, "from the parent"))
assert at.global_sequence == (204 if sys.argv[2] == "full" else 203)
churn(notes, 50)
intact(found)
assert snapshot.next_global_sequence == 203
assert len(list(iterator)) == 202
try:
    other = os.fork()
    if other == 0:
        try:
            varve.open(path, durability="full" if sys.argv[2] == "bulk" else "bulk")
        except varve.StoreInUse:
            os._exit(0)
        os._exit(1)
    assert os.waitpid(other, 0)[1] == 0, "the parent's lock was lost"
finally:
    pass
snapshot.close()
del found, iterator
db.close()
assert ops.verify(path).sound
print("done")
""",
        tmp_path / "store",
        durability,
    )
    assert out == "done\n"


def test_a_child_that_ends_normally_leaves_the_parents_readers_alone(tmp_path: Path) -> None:
    """A forked worker that runs its finalisers (sys.exit, garbage collection) takes nothing from its parent, also when
    the fork happened on another thread's read and inside a commit."""
    out = run_script(
        PRELUDE
        + """
db, notes, blobs = filled("relaxed")
done = threading.Event()
def write():
    while not done.is_set():
        notes.append(2, Note(1, "w"))
writer = threading.Thread(target=write)
writer.start()
view = notes.reader().get_bytes(1, 5)
wanted = bytes(view)
for turn in range(15):
    pid = os.fork()
    if pid == 0:
        status = 0
        try:
            notes.append(1, Note(0, ""))
            status = 3
        except varve.ForkedStore:
            pass
        if bytes(view) != wanted:
            status = 4
        del db, notes, blobs, view
        gc.collect()
        os._exit(status)
    assert os.waitpid(pid, 0)[1] == 0
    assert bytes(view) == wanted
done.set()
writer.join()
assert db.stats().readers == 1
pid = os.fork()
if pid == 0:
    sys.exit(0)
assert os.waitpid(pid, 0)[1] == 0
assert db.stats().readers == 1
del view
assert db.stats().readers == 0
db.close()
assert ops.verify(path).sound
print("done")
""",
        tmp_path / "store",
    )
    assert out == "done\n"


def test_the_collector_may_run_our_code_inside_its_finalisers() -> None:
    """Finalisers that read, pin, drop views and let stores go, run by the collector at any allocation, neither deadlock
    nor crash."""
    with fast_folder() as folder:
        out = run_script(
            PRELUDE
            + """
db, notes, blobs = filled()
gc.set_threshold(20, 2, 2)
ran = 0
class Nasty:
    def __init__(self, view):
        self.itself, self.view = self, view
    def __del__(self):
        global ran
        ran += 1
        if ran % 50 == 0:
            gc.collect()
        bytes(self.view)
        self.view = notes.reader().get_bytes(1, 6)
        with db.snapshot() as snapshot:
            self.recorded = snapshot.global_reader().get(4)
        if ran % 20 == 0:
            other = varve.open(path + str(ran), durability="relaxed")
            other.cycle = other
for turn in range(400):
    Nasty(notes.reader().get_bytes(1, turn % 100))
    notes.append(3, Note(turn, "x"))
    notes.reader().get(1, turn % 100)
    iterator = db.global_reader().iter_from(turn)
    next(iterator)
gc.set_threshold(700, 10, 10)
del iterator
assert ran > 100, ran
Nasty.__del__ = lambda self: None
gc.collect()
assert db.stats().readers == 0, db.stats()
db.close()
print("done")
""",
            folder / "store",
        )
    assert out == "done\n"


def test_single_appends_beside_an_idle_reader_leave_the_file_small() -> None:
    """20,000 single appends beside an idle reader and a kept ``get`` result need no more room than without; a kept view
    of the map makes the same file grow (which shows that the measure works)."""
    with fast_folder() as folder:
        out = run_script(
            PRELUDE
            + """
def used(where, beside, count):
    db = varve.open(os.path.join(path, where), durability="bulk")
    notes = db.stream("notes", Note)
    notes.append_batch(1, [Note(n, "a" * 40) for n in range(500)])
    kept = beside(db, notes)
    for n in range(count):
        notes.append(n % 7, Note(n, "c" * 40))
    used = db.stats().used_bytes
    del kept
    db.close()
    return used
def idle(db, notes):
    reader, log = notes.reader(), db.global_reader()
    exhausted = log.iter_from()
    list(exhausted)
    return reader, log, reader.get(1, 3), log.get(5), reader.get_recorded(1, 7), reader.stream_ids(), exhausted
alone = used("alone", lambda db, notes: None, 20_000)
beside = used("beside", idle, 20_000)
assert beside == alone, (beside, alone)
alone = used("few", lambda db, notes: None, 500)
viewed = used("viewed", lambda db, notes: notes.reader().get_bytes(1, 3), 500)
assert viewed > 5 * alone, (viewed, alone)
print("done")
""",
            folder,
        )
    assert out == "done\n"


# -- iterators ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def notes(varve_store: varve.Varve) -> varve.Stream[Note]:
    """A stream of 2,000 events in many blocks, every third one of it in stream 0."""
    stream = varve_store.stream("notes", Note)
    for start in range(0, 2_000, 250):
        stream.append_many([(n % 3, Note(n, "t" * (n % 50))) for n in range(start, start + 250)])
    return stream


def test_an_iterator_holds_its_slot_until_it_ends(varve_store: varve.Varve, notes: varve.Stream[Note]) -> None:
    """A running iterator holds one reader slot; exhausted, dropped or closed it holds none."""
    assert varve_store.stats().readers == 0
    running = notes.reader().iter_all()
    next(running)
    assert varve_store.stats().readers == 1
    del running
    assert varve_store.stats().readers == 0
    exhausted = notes.reader().iter_stream(1)
    assert len(list(exhausted)) == 667
    assert varve_store.stats().readers == 0
    closed = varve_store.global_reader().iter_bytes()
    bytes(next(closed))
    closed.close()  # type: ignore[attr-defined]
    assert varve_store.stats().readers == 0
    assert not varve_store.stats().snapshots


def test_a_kept_view_holds_its_slot_and_drops_it_with_the_last_slice(
    varve_store: varve.Varve, notes: varve.Stream[Note]
) -> None:
    """The last slice to die releases the read transaction, and ``db.stats()`` shows it until then."""
    view = notes.reader().get_bytes(1, 5)
    assert view is not None
    part = view[4:][4:8]
    del view
    stats = varve_store.stats()
    assert stats.readers == 1
    assert [snapshot.grown_pages for snapshot in stats.snapshots] == [0]
    notes.append(1, Note(1, "later"))
    assert varve_store.stats().snapshots[0].snapshot_id == stats.snapshots[0].snapshot_id
    del part
    stats = varve_store.stats()
    assert (stats.readers, stats.snapshots) == (0, ())


def test_a_small_event_and_get_results_hold_nothing(varve_store: varve.Varve, notes: varve.Stream[Note]) -> None:
    """Typed ``get`` copies up to COPIED_EVENT_BYTES_MAX and pins beyond; ``GlobalReader.get`` holds no snapshot."""
    blobs = varve_store.stream("blobs", Blob)
    blobs.append_batch(1, [blob(1, limits.COPIED_EVENT_BYTES_MAX // 2), blob(2, 3 * limits.COPIED_EVENT_BYTES_MAX)])
    small = blobs.reader().get(1, 0)
    recorded = varve_store.global_reader().get(5)
    assert small is not None
    assert recorded is not None
    assert varve_store.stats().readers == 0
    big = blobs.reader().get(1, 1)
    assert big is not None
    assert big.number == 2
    assert varve_store.stats().readers == 1


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("walk", ["stream", "name", "log", "names"])
def test_a_renewed_iterator_is_exact(
    varve_store: varve.Varve, notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch, walk: str, reverse: bool
) -> None:
    """An iterator that outgrows ITERATOR_SNAPSHOT_AGE_S_MAX goes on in a new snapshot, without gaps, repeats or what
    others append meanwhile, forwards and backwards."""
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    other = varve_store.stream("other", Note)
    other.append_batch(1, [Note(n, "") for n in range(10)])
    reader, log = notes.reader(), varve_store.global_reader()
    iterator = {
        "stream": lambda: reader.iter_stream(0, 5, 660, reverse=reverse),
        "name": lambda: reader.iter_all(7, 1_990, reverse=reverse),
        "log": lambda: log.iter_from(0, reverse=reverse),
        "names": lambda: log.iter_from(3, streams=["notes", "other"], reverse=reverse),
    }[walk]()
    wanted = {
        "stream": list(range(15, 1_980, 3)),
        "name": list(range(7, 1_990)),
        "log": list(range(2_010)),
        "names": list(range(3, 2_010)),
    }[walk]
    if reverse:
        wanted.reverse()
    ids, got = set(), []
    for step, recorded in enumerate(iterator):
        got.append(recorded.global_sequence)
        if step % 100 == 0:
            now[0] += limits.ITERATOR_SNAPSHOT_AGE_S_MAX * 1.5
            notes.append(step % 3, Note(step, "meanwhile"))
            other.append(step % 3, Note(step, "meanwhile"))
        ids |= {snapshot.snapshot_id for snapshot in varve_store.stats().snapshots} if step % 50 == 49 else set()
    assert got == wanted
    assert len(ids) > 3, "it was never renewed"


def test_a_young_iterator_keeps_its_snapshot(
    varve_store: varve.Varve, notes: varve.Stream[Note], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before ITERATOR_SNAPSHOT_AGE_S_MAX, and inside an explicit snapshot at any age, a walk stays on one instant."""
    now = [1_000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    for age_s, fixed in ((limits.ITERATOR_SNAPSHOT_AGE_S_MAX / 1_000, False), (5.0, True)):
        with varve_store.snapshot() as snapshot:
            iterator = (snapshot.reader(notes) if fixed else notes.reader()).iter_all()
            ids = set()
            for step, _ in enumerate(iterator):
                if step % 400 == 0:
                    now[0] += age_s
                    notes.append(1, Note(step, "meanwhile"))
                    ids |= {pin.snapshot_id for pin in varve_store.stats().snapshots}
        assert len(ids) == 1


@pytest.mark.parametrize("how", ["close", "with"])
def test_iterators_end_loudly_with_their_store(tmp_path: Path, how: str) -> None:
    """Closing the store ends its iterators: StoreClosed at the next step, never a silent end, begun or not, whatever
    they walk."""
    db = varve.open(tmp_path / "store", durability="relaxed")
    stream = db.stream("notes", Note)
    stream.append_batch(1, [Note(n, "") for n in range(50)])
    reader, log = stream.reader(), db.global_reader()
    begun = [reader.iter_all(), reader.iter_stream(1, reverse=True), log.iter_from(2), log.iter_bytes()]
    for iterator in begun:
        next(iterator)
    fresh = [reader.iter_all(), log.iter_bytes(), log.iter_from(0, streams=["notes"])]
    ids = reader.stream_ids()
    finished = reader.iter_all()
    assert len(list(finished)) == 50
    if how == "close":
        db.close()
    else:
        db.__exit__(None, None, None)
    for iterator in [*begun, *fresh, ids]:
        with pytest.raises(varve.StoreClosed):
            next(iterator)
    assert next(finished, None) is None
    with pytest.raises(varve.StoreClosed):
        stream.append(1, Note(1, ""))
    assert_sound(tmp_path / "store")


def test_a_new_iterator_sees_the_instant_of_its_call(varve_store: varve.Varve, notes: varve.Stream[Note]) -> None:
    """What is appended between the call and the first ``next`` is not walked, by any kind of iterator."""
    reader, log = notes.reader(), varve_store.global_reader()
    iterators = [reader.iter_all(), log.iter_from(), log.iter_bytes(), log.iter_from(reverse=True)]
    of_one, ids = reader.iter_stream(1), reader.stream_ids()
    notes.append_many([(1, Note(1, "")), ("new", Note(2, ""))])
    assert [sum(1 for _ in iterator) for iterator in iterators] == [2_000] * 4
    assert sum(1 for _ in of_one) == 667
    assert list(ids) == [0, 1, 2]


# -- events beyond their store -------------------------------------------------------------------------------------------


def test_events_copy_and_pickle_after_their_store_is_gone(tmp_path: Path, varve_clock: ManualClock) -> None:
    """Lazy events, small and large, copy, deepcopy and pickle to equal values after the ``with`` block was left; owned
    ones hold no snapshot."""
    with varve.open(tmp_path / "store", durability="relaxed", clock=varve_clock) as db:
        blobs = db.stream("blobs", Blob)
        blobs.append_batch(1, [blob(1, 100), blob(2, 30_000)])
        events = [blobs.reader().get(1, 0), blobs.reader().get(1, 1)]
        events += [recorded.event for recorded in db.global_reader().iter_from(reverse=True)]
    wanted = [blob(1, 100), blob(2, 30_000), blob(2, 30_000), blob(1, 100)]
    assert events == wanted
    assert [copy(event) for event in events] == wanted
    assert [deepcopy(event) for event in events] == wanted
    assert pickle.loads(pickle.dumps(events)) == wanted
    owned = [varve.owned(event) for event in events]
    del events
    gc.collect()
    with varve.open(tmp_path / "store") as db:  # another mode: possible only where no view is alive
        assert db.stats().readers == 0
    assert owned == wanted


def test_close_names_how_to_go_on_and_can_be_repeated(tmp_path: Path) -> None:
    """A refused ``close()`` counts the snapshots that views hold; when they are dropped it works, and works again."""
    db = varve.open(tmp_path / "store", durability="relaxed")
    stream = db.stream("notes", Note)
    stream.append(1, Note(1, "a"))
    first = stream.reader().get_bytes(1, 0)
    stream.append(1, Note(2, "b"))
    second = stream.reader().get_bytes(1, 0)
    with pytest.raises(varve.ViewsStillAlive, match="owned") as refused:
        db.close()
    assert refused.value.count == 2
    del first
    with pytest.raises(varve.ViewsStillAlive) as refused:
        db.close()
    assert refused.value.count == 1
    assert stream.append(1, Note(3, "c")) == (2, 2)
    del second
    db.close()
    db.close()
    assert_sound(tmp_path / "store")


def test_a_snapshot_left_open_ends_with_its_store(tmp_path: Path) -> None:
    """``db.close()`` does not wait for ``db.snapshot()``: that raises StoreClosed afterwards, and the store can be
    opened in another mode."""
    db = varve.open(tmp_path / "store", durability="relaxed")
    stream = db.stream("notes", Note)
    stream.append(1, Note(1, "a"))
    snapshot = db.snapshot()
    reader = snapshot.reader(stream)
    assert reader.length(1) == 1
    db.close()
    with pytest.raises(varve.StoreClosed):
        reader.length(1)
    with varve.open(tmp_path / "store") as again:
        assert again.next_global_sequence == 1
    snapshot.close()
    assert_sound(tmp_path / "store")
