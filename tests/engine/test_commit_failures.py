"""Failed commits tell the truth: nothing half-written, nothing remembered wrongly, and what is said is what a reopened
store shows."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import lmdb
import pytest
from engine_helpers import Blob, Note, blob, faulty, flip, lmdb_error, log_frames, raw_lmdb, run_script

import varve
from varve import limits, ops
from varve.layout import keys
from varve.layout.block import Block
from varve.layout.records import unpack_store_record
from varve.testing import ManualClock, assert_sound

EIO = lmdb_error(lmdb.Error, errno.EIO)
NO_SPACE = lmdb_error(lmdb.DiskError, errno.ENOSPC)
QUOTA = lmdb_error(lmdb.Error, errno.EDQUOT)
TOO_BIG = lmdb_error(lmdb.Error, errno.EFBIG)
MAP_FULL = lmdb_error(lmdb.MapFullError, -30792)
TXN_FULL = lmdb_error(lmdb.TxnFullError, -30788)
PANIC = lmdb_error(lmdb.PanicError, -30795)


def once(error: Exception) -> Iterator[None]:
    """Raises at the first call only."""
    raised = []

    def fail() -> None:
        if not raised:
            raised.append(error)
            raise error

    return fail  # type: ignore[return-value]


class Model:
    """What the store must hold after each step: a plain list."""

    def __init__(self, db: varve.Varve) -> None:
        self.bind(db)
        self.log: list[tuple[int, Note]] = []

    def bind(self, db: varve.Varve) -> None:
        self.db = db
        self.notes = db.stream("notes", Note)

    def append(self, stream_id: int, text: str) -> None:
        event = Note(len(self.log), text)
        length = sum(1 for known, _ in self.log if known == stream_id)
        assert self.notes.append(stream_id, event, expected=length) == (length, len(self.log))
        self.log.append((stream_id, event))

    def check(self) -> None:
        found = [(one.stream_id, one.event) for one in self.db.global_reader().iter_from()]
        assert found == self.log
        assert self.db.next_global_sequence == len(self.log)
        reader = self.notes.reader()
        for stream_id in (0, 1, 2, 99):
            wanted = [event for known, event in self.log if known == stream_id]
            assert reader.length(stream_id) == len(wanted)
            assert [one.event for one in reader.iter_stream(stream_id)] == wanted


@pytest.fixture
def model(varve_store: varve.Varve) -> Model:
    model = Model(varve_store)
    for n in range(7):
        model.append(n % 3, f"before {n}")
    return model


@pytest.mark.parametrize("place", ["on_put", "on_commit"])
@pytest.mark.parametrize(("error", "raised"), [
    (NO_SPACE, varve.DiskFull),
    (QUOTA, varve.DiskFull),
    (TOO_BIG, varve.DiskFull),
    (MAP_FULL, varve.StoreFull),
    (TXN_FULL, varve.TooManyItems),
], ids=["ENOSPC", "EDQUOT", "EFBIG", "map full", "transaction full"])  # fmt: skip
def test_no_room_writes_nothing_and_the_handle_goes_on(
    model: Model, place: str, error: lmdb.Error, raised: type[varve.VarveError]
) -> None:
    """A commit that finds no room leaves log, index, lengths, numbers and declarations as they were; the next append of
    old and of new streams, names and types gets the right positions."""
    db = model.db
    proxy = faulty(db)
    others = db.stream("others", Blob)
    attempts = (
        lambda: model.notes.append(1, Note(0, "lost")),
        lambda: model.notes.append_batch(99, [Note(n, "lost" * 500) for n in range(50)]),
        lambda: others.append("new", blob(1, 10_000), idempotency_key="again"),
        lambda: db.write(lambda tx: tx.append(model.notes, 2, Note(0, "lost"))),
    )
    for attempt in attempts:
        setattr(proxy, place, once(error))
        with pytest.raises(raised) as told:
            attempt()
        assert told.value.__cause__ is error
        model.check()
        assert others.reader().length("new") == 0
        assert db.stats().names == 1
    for n in range(5):
        model.append(n % 3, f"after {n}")
    model.check()
    assert others.append("new", blob(1, 10_000), idempotency_key="again") == (0, len(model.log))
    assert db.stats().names == 2
    assert others.append("new", blob(1, 10_000), idempotency_key="again").replayed


@pytest.mark.parametrize("place", ["on_put", "on_commit"])
def test_a_disk_that_fails_ends_the_handle(
    model: Model, varve_path: Path, varve_clock: ManualClock, place: str
) -> None:
    """EIO with room left: StoreFailed, and the handle refuses everything from then on with a new error each time;
    reopened, the store holds what was acknowledged and goes on."""
    setattr(faulty(model.db), place, once(EIO))
    with pytest.raises(varve.StoreFailed) as failed:
        model.notes.append(1, Note(0, "lost"))
    assert failed.value.kind == "unavailable"
    assert "Input/output error" in failed.value.reason
    uses = (
        lambda: model.notes.append(1, Note(0, "")),
        lambda: model.notes.reader().length(1),
        model.db.snapshot,
        model.db.sync,
    )
    errors = []
    for use in uses:
        with pytest.raises(varve.StoreFailed) as refused:
            use()
        errors.append(refused.value)
    assert len({id(error) for error in errors}) == len(errors)
    del failed, refused, errors
    model.db.close()
    with varve.open(varve_path, clock=varve_clock) as db:
        model.bind(db)
        model.check()
        model.append(1, "after")
        model.check()


def test_eio_on_a_full_disk_is_a_full_disk(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """LMDB reports a full disk as EIO where a page was written in part: with no room on the file system that is
    DiskFull."""
    faulty(model.db).on_commit = once(EIO)  # type: ignore[assignment]
    monkeypatch.setattr("varve.engine.files.free_bytes", lambda _: 5_000)
    with pytest.raises(varve.DiskFull):
        model.notes.append(1, Note(0, "lost"))
    model.append(1, "after")
    model.check()


def test_eio_of_much_state_on_a_full_disk_is_a_full_disk(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """What state takes counts: there is room for a block, and none for a value of 4 MiB. The handle goes on."""
    model.db.state.put("a", 1)
    faulty(model.db).on_commit = once(EIO)  # type: ignore[assignment]
    monkeypatch.setattr("varve.engine.files.free_bytes", lambda _: 3 * 2**20)
    with pytest.raises(varve.DiskFull):
        model.db.state.put("a", bytes(2**22))
    assert model.db.state.get("a") == 1
    model.append(1, "after")
    model.check()


@pytest.mark.parametrize("written", [False, True])
def test_a_failed_meta_page_is_an_unknown_outcome(
    model: Model, varve_path: Path, varve_clock: ManualClock, written: bool
) -> None:
    """When LMDB panics after a failed commit nobody knows: CommitOutcomeUnknown, everything refused until reopened,
    which shows the truth; a retry under the same idempotency key is safe either way."""
    proxy = faulty(model.db)

    def fail() -> None:
        proxy.on_begin = lambda: (_ for _ in ()).throw(PANIC)
        raise EIO

    def fail_after() -> None:
        proxy.on_begin = lambda: (_ for _ in ()).throw(PANIC)

    lost = Note(7, "maybe")
    if written:  # committed, and then reported as failed
        real_commit = proxy.begin

        def begin(*args: object, write: bool = False, **kwargs: object) -> object:
            transaction = real_commit(*args, write=write, **kwargs)
            if write:

                def commit() -> None:
                    transaction._transaction.commit()  # type: ignore[attr-defined]
                    fail_after()
                    raise EIO

                transaction.commit = commit  # type: ignore[attr-defined]
            return transaction

        proxy.begin = begin  # type: ignore[method-assign]
    else:
        proxy.on_commit = fail
    with pytest.raises(varve.CommitOutcomeUnknown) as unknown:
        model.notes.append(1, lost, idempotency_key="k")
    assert unknown.value.kind == "unknown"
    for use in (lambda: model.notes.append(1, lost), lambda: model.notes.reader().get(1, 0), model.db.stats):
        with pytest.raises(varve.CommitOutcomeUnknown):
            use()
    del unknown
    model.db.close()
    with varve.open(varve_path, clock=varve_clock) as db:
        model.bind(db)
        if written:
            model.log.append((1, lost))
        model.check()
        position = model.notes.append(1, lost, idempotency_key="k")
        assert position.replayed == written
        if not written:
            model.log.append((1, lost))
        model.check()


def test_a_panic_before_anything_was_written_is_an_unknown_outcome_too(model: Model, varve_path: Path) -> None:
    """LMDB's panic at the begin of a commit means that an earlier one failed: the handle refuses everything."""
    faulty(model.db).on_begin = once(PANIC)  # type: ignore[assignment]
    with pytest.raises(varve.CommitOutcomeUnknown):
        model.notes.append(1, Note(0, "never"))
    with pytest.raises(varve.CommitOutcomeUnknown):
        model.check()
    model.db.close()
    with varve.open(varve_path) as db:
        model.bind(db)
        model.check()


def test_a_failed_sync_is_told(varve_path: Path) -> None:
    """``db.sync()`` that fails raises StoreFailed, not LMDB's error."""
    db = varve.open(varve_path, durability="bulk")
    db.stream("notes", Note).append(1, Note(1, ""))
    proxy = faulty(db)
    proxy.sync = lambda _: (_ for _ in ()).throw(EIO)  # type: ignore[attr-defined]
    with pytest.raises(varve.StoreFailed):
        db.sync()
    with pytest.raises(varve.StoreFailed):
        db.stats()
    db.close()


def test_an_interrupted_commit_leaves_nothing(model: Model) -> None:
    """KeyboardInterrupt in the middle of the writes aborts the transaction and frees the lock."""
    proxy = faulty(model.db)
    proxy.on_put = once(KeyboardInterrupt())  # type: ignore[arg-type, assignment]
    with pytest.raises(KeyboardInterrupt):
        model.notes.append_batch(1, [Note(n, "") for n in range(10)])
    model.check()
    model.append(1, "after")
    appended = threading.Thread(target=model.append, args=(2, "another thread"))
    appended.start()
    appended.join()
    model.check()


def test_a_refused_transaction_leaves_its_numbers_free(model: Model) -> None:
    """Names, types and streams that only a refused transaction would have declared get the same numbers later; lengths
    that it counted are forgotten."""
    blobs = model.db.stream("blobs", Blob)
    for _ in range(2):
        with pytest.raises(varve.WrongExpectedVersion) as wrong, model.db.transaction() as tx:
            tx.append(blobs, "a", blob(1, 10))
            tx.append(model.notes, 1, Note(0, "lost"), expected=2)
            tx.append(model.notes, 1, Note(0, "lost"), expected=2)
        assert wrong.value.actual == 3
        model.check()
        assert model.db.stats().names == 1
    with model.db.transaction() as tx:
        tx.append(blobs, "a", blob(1, 10), expected=varve.NO_STREAM)
        tx.append(model.notes, 1, Note(7, "kept"), expected=2)
    assert tx.positions == [(0, 7), (2, 8)]
    assert (model.db.stats().names, model.db.stats().types, model.db.stats().streams) == (2, 2, 4)


def test_another_writers_commit_is_noticed(varve_path: Path) -> None:
    """What a handle remembers of the tail, lengths, names and time is dropped when another process has committed
    since."""
    script = """
import sys, varve
from engine_helpers import Note, Blob, blob
with varve.open(sys.argv[1], durability="relaxed") as db:
    n = int(sys.argv[2])
    db.stream("notes", Note).append_many([(1, Note(n, "theirs")), (n, Note(n, "theirs"))])
    db.stream(f"blobs{n}", Blob).append("x", blob(n, 100), expected=varve.NO_STREAM)
"""
    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        for turn in range(3):
            assert notes.append(1, Note(turn, "ours")) == (2 * turn, 4 * turn)
            run_script(script, varve_path, 100 + turn)
        assert db.stats().names == 4
        assert [one.event.text for one in notes.reader().iter_stream(1)] == ["ours", "theirs"] * 3
        assert db.stream("blobs101", Blob).append("x", blob(1, 5)) == (1, 12)


def test_the_clock_never_takes_the_log_back(
    varve_store: varve.Varve, varve_clock: ManualClock, varve_path: Path
) -> None:
    """recorded_at stays where it was while the clock is behind, also after the store was reopened."""
    notes = varve_store.stream("notes", Note)
    start = varve_clock.now_ns
    for seconds in (0, 10, -100, 20):
        varve_clock.advance(seconds)
        notes.append(1, Note(0, ""))
    varve_store.close()
    with varve.open(varve_path, clock=varve_clock) as db:
        db.stream("notes", Note).append(1, Note(0, ""))
        assert [one.time_ns - start for one in db.global_reader().iter_from()] == [0, 10**10, 10**10, 10**10, 10**10]


# -- real disks -----------------------------------------------------------------------------------------------------------


@contextmanager
def small_file_system(folder: Path, size: str) -> Iterator[Path]:
    """A tmpfs of its own; skips, with the reason, where the machine does not let us mount."""
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        reason = f"no small file system can be mounted here: {mounted.stderr.strip()}"
        print(reason)  # noqa: T201 - shown with a failure
        pytest.skip(reason)
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


def test_a_really_full_disk_loses_nothing(tmp_path: Path) -> None:
    """On a small file system that is filled up: DiskFull, again and again; everything acknowledged is there, and with
    room again the next append succeeds."""
    with small_file_system(tmp_path / "small", "3m") as folder:
        path = folder / "store"
        ballast = folder / "ballast"
        ballast.write_bytes(bytes(500_000))
        written = 0
        with varve.open(path) as db:
            notes = db.stream("notes", Note)
            for _ in range(10):
                with pytest.raises(varve.DiskFull) as full:
                    while True:
                        notes.append_batch(1, [Note(written + n, "x" * 1_000) for n in range(20)], expected=written)
                        written += 20
                assert isinstance(full.value, OSError)
                assert notes.reader().length(1) == db.next_global_sequence == written
            assert written >= 200
            ballast.unlink()
            for _ in range(3):
                notes.append_batch(1, [Note(written + n, "x" * 1_000) for n in range(20)], expected=written)
                written += 20
            assert [one.event.number for one in notes.reader().iter_stream(1)] == list(range(written))
        assert_sound(path)
        with varve.open(path, readonly=True) as db:
            assert db.next_global_sequence == written


def test_a_file_size_limit_is_a_full_disk(varve_path: Path) -> None:
    """Under RLIMIT_FSIZE (with SIGXFSZ ignored) LMDB's write really fails: DiskFull, nothing lost; with the limit
    lifted the next append succeeds."""
    out = run_script(
        """
import resource, signal, sys, varve
from engine_helpers import Note
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
db = varve.open(sys.argv[1])
notes = db.stream("notes", Note)
written = 0
for limit in (300_000, 500_001, 700_123):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    for attempt in range(4):
        try:
            while True:
                notes.append_batch(1, [Note(written + n, "x" * 900) for n in range(30)], expected=written)
                written += 30
        except varve.DiskFull:
            assert notes.reader().length(1) == db.next_global_sequence == written
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    notes.append(1, Note(written, "room again"), expected=written)
    written += 1
assert [one.event.number for one in notes.reader().iter_stream(1)] == list(range(written))
db.close()
print(written)
""",
        varve_path,
    )
    assert int(out) > 400
    with varve.open(varve_path) as db:
        assert db.next_global_sequence == int(out)


def test_a_creation_without_room_is_told(tmp_path: Path) -> None:
    """A store that cannot even be created for lack of room raises NoSpace, and can be created when there is some."""
    with small_file_system(tmp_path / "small", "512k") as folder:
        ballast = folder / "ballast"
        with suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(bytes(4_096))
                file.flush()
        with pytest.raises((varve.NoSpace, varve.StoreUnavailable)) as told:
            varve.open(folder / "store")
        assert isinstance(told.value, OSError)
        ballast.unlink()
        varve.open(folder / "store").close()
        assert_sound(folder / "store")


# -- rot ------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def blocks(tmp_path: Path) -> tuple[Path, list[Block]]:
    """A closed store of several blocks and what they hold."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        for turn in range(6):
            notes.append_batch(turn % 2, [Note(100 * turn + n, f"<{turn}:{n}>" + "y" * 200) for n in range(100)])
        notes.append(7, Note(600, "in the open tail"))
    found = [Block(memoryview(frame)) for frame in log_frames(path)]
    assert len(found) >= 6
    assert len(found[-1].data) < limits.TAIL_BLOCK_BYTES_MAX
    return path, found


def damage(path: Path, block: Block, at: int = 200) -> None:
    """Flip a bit of a block on disk."""
    assert flip(path, bytes(block.data)[: max(at, 200)], at - 1) >= 1


def test_a_rotten_tail_refuses_writes_and_stays_as_it_is(blocks: tuple[Path, list[Block]]) -> None:
    """The last block is checked before anything follows it: CorruptedBlock, nothing written, the rot is not sealed
    under a fresh checksum, and every other block stays readable."""
    path, found = blocks
    damage(path, found[-1], len(found[-1].data))  # in an event: the columns fit together all the same
    frames = log_frames(path)
    last = found[-1].first
    with varve.open(path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        for attempt in (
            lambda: notes.append(1, Note(1, "")),
            lambda: notes.append_batch(1, [Note(n, "x" * 500) for n in range(100)]),
            lambda: db.write(lambda tx: tx.append(notes, 1, Note(1, ""))),
        ):
            with pytest.raises(varve.CorruptedBlock) as refused:
                attempt()
            assert refused.value.first_sequence == last
        assert [one.event.number for one in db.global_reader().iter_from(0, last)] == list(range(last))
        with pytest.raises(varve.CorruptedBlock):
            notes.reader().get(7, 0)
        del refused
    assert log_frames(path) == frames


@pytest.mark.parametrize("at", [1, 3, 5, 9, 40, 100, 2_000, -1])
def test_flipped_bits_in_one_block_leave_the_rest_readable(blocks: tuple[Path, list[Block]], at: int) -> None:
    """A flipped bit anywhere in a block, its checksum included, raises CorruptedBlock with the block's position;
    nothing of it comes, forward or backward; everything before and behind it does, and the store still takes
    appends."""
    path, found = blocks
    bad = found[2]
    damage(path, bad, at if at > 0 else len(bad.data))
    with varve.open(path, durability="relaxed") as db:
        notes, log = db.stream("notes", Note), db.global_reader()
        reader = notes.reader()
        for walk, wanted in (
            (log.iter_from(), list(range(bad.first))),
            (log.iter_from(reverse=True), list(range(600, bad.end - 1, -1))),
            (log.iter_from(bad.end), list(range(bad.end, 601))),
            (log.iter_from(0, bad.first, reverse=True), list(range(bad.first - 1, -1, -1))),
            (log.iter_bytes(), list(range(bad.first))),
            (reader.iter_all(), list(range(bad.first))),
            (reader.iter_all(reverse=True), list(range(600, bad.end - 1, -1))),
        ):
            got = []
            with suppress(varve.CorruptedBlock):
                for one in walk:  # what came before the error counts too
                    got.append(one)  # noqa: PERF402
            assert len(got) == len(wanted)
            if got and isinstance(got[0], varve.Recorded):
                assert [one.event.number for one in got] == wanted
            del got, one, walk
        for sequence in (bad.first, bad.end - 1):
            for use in (log.get, log.get_bytes, lambda at: next(log.iter_from(at))):
                with pytest.raises(varve.CorruptedBlock) as refused:
                    use(sequence)
                assert refused.value.first_sequence == bad.first
                assert refused.value.path == str(path)
        assert log.get(bad.first - 1).event.number == bad.first - 1  # type: ignore[union-attr]
        assert log.get(bad.end).event.number == bad.end  # type: ignore[union-attr]
        assert notes.append(7, Note(601, "")) == (1, 601)
        del refused
    assert not ops.verify(path).sound


def test_a_block_under_another_key_is_corrupted(blocks: tuple[Path, list[Block]]) -> None:
    """A whole block that stands where another belongs is told from it although its checksum holds."""
    path, found = blocks
    with raw_lmdb(path) as (transaction, databases):
        transaction.put(keys.log_key(found[2].first), bytes(found[1].data), db=databases["log"])
    with varve.open(path) as db, pytest.raises(varve.CorruptedBlock) as refused:
        db.global_reader().get(found[2].first)
    assert refused.value.first_sequence == found[2].first


def test_a_missing_block_is_a_gap_and_never_skipped(blocks: tuple[Path, list[Block]]) -> None:
    """Where a block is gone, reads and walks in both directions raise CorruptedStore at the gap instead of going on
    behind it."""
    path, found = blocks
    gone = found[2]
    with raw_lmdb(path) as (transaction, databases):
        assert transaction.delete(keys.log_key(gone.first), db=databases["log"])
    with varve.open(path) as db:
        log, reader = db.global_reader(), db.stream("notes", Note).reader()
        for walk, count in (
            (log.iter_from(), gone.first),
            (log.iter_bytes(), gone.first),
            (log.iter_from(reverse=True), 601 - gone.end),
            (reader.iter_all(), gone.first),
        ):
            got = 0
            with pytest.raises(varve.CorruptedStore):
                for _ in walk:
                    got += 1
            assert got == count
            del walk
        with pytest.raises(varve.CorruptedStore):
            log.get(gone.first + 1)
        with db._engine.snapshot() as snapshot, pytest.raises(varve.CorruptedStore, match=f"{gone.first} is missing"):
            list(snapshot.blocks(0, 601))


@pytest.mark.parametrize("change", [-1, 1, 1_000])
def test_a_next_sequence_that_disagrees_with_the_log_refuses_writes(
    blocks: tuple[Path, list[Block]], change: int
) -> None:
    """The next sequence stands in the metadata too; where log and metadata disagree, a commit raises CorruptedStore and
    writes nothing."""
    path, _ = blocks
    with raw_lmdb(path) as (transaction, databases):
        record = unpack_store_record(transaction.get(keys.STORE_RECORD_KEY, db=databases["meta"]))
        record = record._replace(next_sequence=record.next_sequence + change)
        transaction.put(keys.STORE_RECORD_KEY, record.encode(), db=databases["meta"])
    frames = log_frames(path)
    with varve.open(path) as db, pytest.raises(varve.CorruptedStore, match="Nothing was written"):
        db.stream("notes", Note).append(1, Note(1, ""))
    assert log_frames(path) == frames


def test_damaged_index_and_metadata_are_told_as_such(blocks: tuple[Path, list[Block]]) -> None:
    """Pairs that are missing or wrong in index and metadata raise CorruptedStore that names the repair, never a
    KeyError, a wrong event or an endless walk."""
    path, _ = blocks
    with raw_lmdb(path) as (transaction, databases):
        assert transaction.delete(keys.stream_entry_key(0, 0), db=databases["index"])
        assert transaction.delete(keys.type_key(0), db=databases["meta"])
    with varve.open(path) as db:
        with pytest.raises(varve.CorruptedStore, match="repair"):
            db.global_reader().get(5)
        with pytest.raises(varve.CorruptedStore, match="repair"):
            list(db.global_reader().iter_from())
    assert not ops.verify(path).sound


def test_an_interrupt_between_any_two_lines_of_a_commit_leaves_the_handle_usable(varve_path: Path) -> None:
    """Ctrl-C once left the lock taken, or an owner behind, so that every later append on the handle hung or was refused.

    Every line of the commit path is interrupted once; afterwards the handle appends, and the store closes.
    """
    package = str(Path(varve.__file__).parent / "engine")
    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        notes.append(1, Note(0, "first"))
        turn, finished = 0, False
        while not finished:
            turn += 1
            left = turn

            def trace(frame: FrameType, event: str, _: object) -> object:
                nonlocal left
                if not frame.f_code.co_filename.startswith(package):
                    return None
                if event == "line":
                    left -= 1
                    if left == 0:
                        raise KeyboardInterrupt
                return trace

            before = notes.reader().length(1)
            measuring = sys.gettrace()  # coverage's
            sys.settrace(trace)
            try:
                notes.append(1, Note(turn, "again"))
                finished = left > 0
            except KeyboardInterrupt:
                pass
            finally:
                sys.settrace(measuring)
            assert notes.reader().length(1) - before in (0, 1)
            assert notes.append(1, Note(turn, "after")).stream_sequence == notes.reader().length(1) - 1
        assert turn > 50
