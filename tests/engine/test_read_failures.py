"""Reads that LMDB refuses, and a store whose parts disagree: told by kind, at whatever step it happens; nothing is made up."""

from __future__ import annotations

import errno
import gc
import time
import zlib
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import lmdb
import pytest
from engine_helpers import FaultyEnvironment, Note, faulty, lmdb_error, raw_lmdb

import varve
from varve import limits
from varve.engine import commit, snapshot
from varve.engine import environment as environment_module
from varve.engine.group import Ticket
from varve.layout import keys
from varve.layout.block import Block
from varve.layout.records import unpack_store_record
from varve.testing import assert_sound


class Steps:
    """Fails one step of many, by its number."""

    def __init__(self, error: lmdb.Error, at: int) -> None:
        self.error = error
        self.left = at

    def __call__(self) -> None:
        self.left -= 1
        if self.left == 0:
            raise self.error


@pytest.fixture
def path(varve_path: Path) -> Path:
    """Three streams of two names, a key, a consumer's position."""
    with varve.open(varve_path, durability="relaxed") as db:
        notes, other = db.stream("notes", Note), db.stream("other", Note)
        notes.append_batch(1, [Note(n, "x" * 100) for n in range(200)], idempotency_key="k")
        other.append(1, Note(1, "y"))
        notes.append(2, Note(2, "z"))
        db.consumer("reader", start=5).close()
    return varve_path


def snapshot_reads(db: varve.Varve) -> None:
    with db.snapshot() as snapshot:
        reader = snapshot.reader(db.stream("notes", Note))
        get_twice(reader)
        assert reader.get(1, 150) is not None
        assert reader.length(2) == 1


def get_twice(reader: varve.StreamReader[Note]) -> None:
    for _ in range(2):
        assert reader.get(1, 3) is not None


READS: dict[str, Callable[[varve.Varve], Any]] = {
    "one event": lambda db: db.stream("notes", Note).reader().get(1, 3),
    "bytes": lambda db: db.stream("notes", Note).reader().get_bytes(1, 3),
    "length": lambda db: db.stream("notes", Note).reader().length(1),
    "a stream": lambda db: list(db.stream("notes", Note).reader().iter_stream(1)),
    "a short stream again": lambda db: [list(db.stream("notes", Note).reader().iter_stream(2)) for _ in range(2)],
    "backwards": lambda db: list(db.stream("notes", Note).reader().iter_stream(1, reverse=True)),
    "a name": lambda db: list(db.stream("notes", Note).reader().iter_all()),
    "ids": lambda db: list(db.stream("notes", Note).reader().stream_ids()),
    "by global sequence": lambda db: db.global_reader().get(100),
    "everything": lambda db: list(db.global_reader().iter_from()),
    "by streams": lambda db: list(db.global_reader().iter_from(streams=["other"])),
    "raw": lambda db: list(db.global_reader().iter_bytes(0)),
    "next sequence": lambda db: db.next_global_sequence,
    "by time": lambda db: db.sequence_at(datetime.now(UTC)),
    "a snapshot": snapshot_reads,
    "one event again": lambda db: get_twice(db.stream("notes", Note).reader()),
    "an append": lambda db: db.stream("notes", Note).append(1, Note(9, "new"), expected=varve.STREAM_EXISTS),
    "a stream's first append": lambda db: db.stream("notes", Note).append("new", Note(9, "new")),
    "a batch": lambda db: db.stream("notes", Note).append_many([(1, Note(9, "a")), (2, Note(9, "b"))]),
    "a retry": lambda db: db.stream("notes", Note).append_batch(
        1, [Note(n, "x" * 100) for n in range(200)], idempotency_key="k"
    ),
    "consumers": lambda db: list(db.consumers()),
    "taking a consumer": lambda db: db.consumer("reader").close(),
    "opening": lambda db: None,
}


@pytest.mark.parametrize(("kind", "wanted"), [
    (lmdb_error(lmdb.CorruptedError, -30796), varve.CorruptedStore),
    (lmdb_error(lmdb.Error, errno.EIO), varve.StoreFailed),
], ids=["corrupted", "EIO"])  # fmt: skip
@pytest.mark.parametrize("what", READS)
def test_a_read_that_fails_at_any_step_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str, kind: lmdb.Error, wanted: type[varve.VarveError]
) -> None:
    """Opening a store, and a retry by its key, once let errors of LMDB through as they were.

    Every single step of the call fails once. The error is ours, of the right kind; the next try on the same handle goes
    through, and what it gives is what it gives where nothing fails."""
    proxies: list[FaultyEnvironment] = []
    real_open = lmdb.open

    def opened(*args: Any, **kwargs: Any) -> Any:
        proxies.append(FaultyEnvironment(real_open(*args, **kwargs)))
        proxies[-1].on_read = on_read if what == "opening" else None
        return proxies[-1]

    monkeypatch.setattr(environment_module.lmdb, "open", opened)
    operation, at = READS[what], 0
    told: list[varve.VarveError] = []
    while True:
        at += 1
        on_read = Steps(kind, at)
        try:
            db = varve.open(path, durability="relaxed")
        except varve.VarveError as exc:
            told.append(exc.with_traceback(None))
            continue
        with db:
            proxies[-1].on_read = on_read
            try:
                operation(db)
            except varve.VarveError as exc:
                told.append(exc.with_traceback(None))
            proxies[-1].on_read = None
            if kind.code != errno.EIO or on_read.left > 0:
                operation(db)
            else:  # a disk that fails inside a commit ends the handle
                with suppress(varve.StoreFailed):
                    operation(db)
        if on_read.left > 0:
            break
    assert told
    kinds = (wanted, varve.StoreUnavailable) if what == "opening" else (wanted,)
    assert all(isinstance(error, kinds) for error in told), told
    monkeypatch.undo()
    gc.collect()
    assert_sound(path)


# -- parts of a store that disagree --------------------------------------------------------------------------------------


def changed(db: varve.Varve, change: Callable[[Any, Any], None]) -> None:
    """Change pairs behind the library's back, while the store is open."""
    environment = db._engine.environment
    with environment.env.begin(write=True) as transaction:
        change(transaction, environment)


def filled(db: varve.Varve) -> varve.Stream[Note]:
    notes = db.stream("notes", Note)
    for stream_id in (1, 2, 3):
        notes.append_batch(stream_id, [Note(n, "x" * 100) for n in range(5)])
    return notes


@pytest.mark.parametrize("lost", ["the first stream's", "the last stream's", "all"])
def test_a_stream_whose_index_is_lost_is_not_begun_again(tmp_path: Path, lost: str) -> None:
    """An append to it once began at stream sequence 0 again, beside the events that are there: a lost index became a wrong
    log. And it read as a stream without events. Both are refused; and so is an append to a name whose index is lost."""
    varve_path = tmp_path / "store"
    with varve.open(varve_path) as db:
        filled(db)

    def lose(transaction: Any, environment: Any) -> None:
        for number in {"the first stream's": (0,), "the last stream's": (2,), "all": (0, 1, 2)}[lost]:
            assert transaction.delete(keys.stream_entry_key(number, 0), db=environment.index)
        if lost == "all":
            assert transaction.delete(keys.name_entry_key(0, 0), db=environment.index)

    with varve.open(varve_path) as db:
        notes = db.stream("notes", Note)
        changed(db, lose)
        for stream_id in {"the first stream's": (1,), "the last stream's": (3,), "all": (1, 2, 3)}[lost]:
            for append in (
                lambda stream_id=stream_id: notes.append(stream_id, Note(9, "again")),
                lambda stream_id=stream_id: notes.append(stream_id, Note(9, "again"), expected=varve.NO_STREAM),
                lambda stream_id=stream_id: notes.append_batch(stream_id, [Note(9, "again")] * 2),
            ):
                with pytest.raises(varve.CorruptedStore, match=r"the index has no entry for stream number .*repair"):
                    append()
            for read in (
                lambda stream_id=stream_id: list(notes.reader().iter_stream(stream_id)),
                lambda stream_id=stream_id: notes.reader().length(stream_id),
                lambda stream_id=stream_id: notes.reader().get(stream_id, 0),
            ):
                with pytest.raises(varve.CorruptedStore, match="the index has no entry for stream number"):
                    read()
        if lost == "all":
            with pytest.raises(varve.CorruptedStore, match="the index has no entry for name number 0"):
                notes.append("new", Note(9, "new"))
        else:
            assert notes.append(2, Note(9, "fine")).stream_sequence == 5
        assert db.global_reader().get(0).event.number == 0


def test_a_metadata_record_that_is_lost_is_told(varve_path: Path) -> None:
    """The store's record, a name, a type, a stream: CorruptedStore that names the repair; no KeyError."""
    with varve.open(varve_path) as db:
        filled(db)
    steps: dict[str, Callable[[varve.Varve], object]] = {
        "append": lambda db: db.stream("notes", Note).append(1, Note(9, "more")),
        "look": lambda db: db._engine.look(0),
        "replay": lambda db: list(db.global_reader().iter_from()),
        "get": lambda db: db.global_reader().get(0),
    }
    for key, fails in [
        (keys.STORE_RECORD_KEY, ["append", "look"]),
        (keys.name_key(0), ["replay", "get"]),
        (keys.type_key(0), ["append", "replay", "get"]),
        (keys.stream_key(0), ["get"]),
    ]:
        with varve.open(varve_path) as db:
            kept: list[bytes] = []

            def lose(transaction: Any, environment: Any, key: bytes = key, kept: list[bytes] = kept) -> None:
                kept.append(bytes(transaction.get(key, db=environment.meta)))
                assert transaction.delete(key, db=environment.meta)

            changed(db, lose)
            for name in fails:
                with pytest.raises(varve.CorruptedStore, match="repair"):
                    steps[name](db)
            found = kept[0]
            changed(db, lambda transaction, environment, k=key, v=found: transaction.put(k, v, db=environment.meta))
    assert_sound(varve_path)


def test_numbers_that_the_store_record_does_not_count_are_told(tmp_path: Path) -> None:
    """The log uses a type that the store has never declared, by its own record: that is no KeyError."""
    with varve.open(tmp_path / "store") as db:
        filled(db)

    def forget(transaction: Any, environment: Any) -> None:
        record = unpack_store_record(transaction.get(keys.STORE_RECORD_KEY, db=environment.meta))
        transaction.put(keys.STORE_RECORD_KEY, record._replace(next_type=0).encode(), db=environment.meta)

    with varve.open(tmp_path / "store") as db:
        changed(db, forget)
        with pytest.raises(varve.CorruptedStore, match="knows no type number 0"):
            db.global_reader().get(0)


def test_an_index_that_ends_early_is_told(tmp_path: Path) -> None:
    """Whoever asks for events that must be there; a stream that never was is empty."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        filled(db)
        found = db._engine.snapshot()
        assert found.stream_length(99) == 0
        assert found.global_of(99, 0) is None
        for number in (0, 99):
            for reverse in (False, True):
                with pytest.raises(varve.CorruptedStore, match=f"stream number {number}, stream sequence"):
                    list(found.stream_runs(number, 0, 6, reverse=reverse))


def test_an_append_that_cannot_read_at_any_step_is_told(path: Path) -> None:
    """The short way of a single event reads what the last commit has left: what LMDB refuses there is ours, and nothing is
    written."""
    told = 0
    while True:
        with varve.open(path, durability="relaxed") as db:
            length = db.next_global_sequence
            steps = faulty(db).on_read = Steps(lmdb_error(lmdb.CorruptedError, -30796), told + 1)
            try:
                db.stream("notes", Note).append(2, Note(9, "z"))
            except varve.CorruptedStore:
                told += 1
                continue
        assert steps.left > 0
        break
    assert told > 2
    with varve.open(path) as db:
        assert db.next_global_sequence == length + 1
    assert_sound(path)


def test_a_group_that_cannot_read_at_any_step_is_told(path: Path) -> None:
    """The same where two are committed together: each learns what LMDB said, as ours, and neither is written."""

    class Box:
        def deliver(self, tickets: list[Ticket], /) -> None:
            pass

    told = 0
    while True:
        with varve.open(path, durability="relaxed") as db:
            length = db.next_global_sequence
            tickets = []
            for number in range(2):
                tx = db.transaction()
                tx.append(db.stream("notes", Note), 2, Note(number, "z"))
                tickets.append(Ticket(tx._request(), Box()))
            steps = faulty(db).on_read = Steps(lmdb_error(lmdb.CorruptedError, -30796), told + 1)
            db._engine._group._commit(list(tickets))
        if steps.left > 0:
            break
        told += 1
        for ticket in tickets:
            assert ticket.error is None or isinstance(ticket.error, varve.CorruptedStore)
        assert any(ticket.error for ticket in tickets)
    assert told > 2
    assert all(ticket.error is None for ticket in tickets)
    with varve.open(path) as db:
        assert db.next_global_sequence == length + 2
    assert_sound(path)


def test_a_commit_misses_what_metadata_has_lost(path: Path) -> None:
    with varve.open(path) as db, db._engine.session() as session:
        assert session.meta(keys.name_key(0)) == b"notes"
        with pytest.raises(varve.CorruptedStore, match="lacks the record"):
            session.meta(keys.name_key(99))


@pytest.mark.parametrize(
    "what",
    ["look", "block_after", "has_side", "side", "side_value", "copy_frames", "map_frames", "map_again", "check_ahead"],
)
def test_what_a_tail_and_a_consumer_read_fails_at_any_step_as_ours(
    path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """Their own ways into the store, past the readers."""
    monkeypatch.setattr(snapshot, "processors", lambda: 2)
    with varve.open(path, durability="relaxed") as db:
        environment = db._engine.environment
        db._engine.side_snapshot("consumers")
        with db._engine.snapshot() as now:
            found = now.map_frames(0, 10**6, 10**6, 10**6)
            stretch = found.stretch(1, None)
            del found
        reads: dict[str, Callable[[], object]] = {
            "look": lambda: db._engine.look(-1),
            "block_after": lambda: db._engine.block_after(0),
            "has_side": lambda: environment.has_side("consumers"),
            "side": lambda: environment.side("consumers"),
            "side_value": lambda: db._engine.side_snapshot("consumers").side_value("consumers", b"key"),
            "copy_frames": lambda: db._engine.snapshot().copy_frames(0, 10**6, memoryview(bytearray(10**6)), 10**6),
            "map_frames": lambda: db._engine.snapshot().map_frames(0, 10**6, 10**6, 10**6),
            "map_again": lambda: db._engine.snapshot().map_again(stretch),
            "check_ahead": lambda: db._engine.snapshot().check_ahead(0, 10**6, 10**6),
        }
        proxy = faulty(db)
        told = 0
        while True:
            if what == "side":
                environment._side.clear()
            steps = proxy.on_read = Steps(lmdb_error(lmdb.Error, errno.EIO), told + 1)
            try:
                reads[what]()
            except varve.StoreFailed:
                told += 1
                continue
            break
        proxy.on_read = None
        assert steps.left > 0
        assert told >= 2
        reads[what]()


def test_a_log_without_blocks_is_told(tmp_path: Path) -> None:
    """Where an event should be there is no block at all."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        notes = filled(db)

        def empty(transaction: Any, environment: Any) -> None:
            with transaction.cursor(environment.log) as cursor:
                found = [bytes(key) for key, _ in cursor]
            for key in found:
                assert transaction.delete(key, db=environment.log)

        changed(db, empty)
        for read in (lambda: db.global_reader().get(3), lambda: notes.reader().get(1, 0)):
            with pytest.raises(varve.CorruptedStore, match="no block holds global sequence"):
                read()


def test_blocks_that_lmdb_does_not_take_are_told(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LMDB says how many it has put, and a block less would be a gap: nothing of that commit is written."""
    with varve.open(varve_path) as db:
        notes = filled(db)
        faulty(db)
        with monkeypatch.context() as patch:
            patch.setattr("engine_helpers._FaultyCursor.putmulti", lambda *_, **__: (1, 0))
            with pytest.raises(varve.CorruptedStore, match="the log holds a block behind its end"):
                notes.append_batch(1, [Note(n, "x" * 9_000) for n in range(50)])
        assert db.next_global_sequence == 15
        assert notes.append(1, Note(9, "more")).global_sequence == 15


def malformed(frame: bytes, *, ends: bool) -> bytes:
    """A block with the right checksum: with ends that lie outside, or of no shape at all."""
    out = bytearray(frame)
    if ends:
        block = Block(memoryview(frame))
        out[block.ends_at : block.ends_at + 4] = b"\xff\xff\xff\x7f"
    else:
        out[16:24] = b"\xff" * 8
        out[8:12] = b"\xff\xff\xff\x7f"
    out[:4] = zlib.crc32(memoryview(out)[4:]).to_bytes(4, "little")
    return bytes(out)


@pytest.mark.parametrize("ends", [True, False], ids=["ends outside", "no block"])
def test_a_block_whose_checksum_holds_and_whose_content_does_not_is_corrupted(tmp_path: Path, ends: bool) -> None:
    """Whoever wrote it: nothing of it is returned by any reader, and no append seals it."""
    varve_path = tmp_path / "store"
    with varve.open(varve_path) as db:
        filled(db)
    with raw_lmdb(varve_path) as (transaction, databases):
        frame = bytes(transaction.get(keys.log_key(0), db=databases["log"]))
        transaction.put(keys.log_key(0), malformed(frame, ends=ends), db=databases["log"])
    with varve.open(varve_path) as db:
        notes = db.stream("notes", Note)
        for read in (
            lambda: notes.reader().get(1, 0),
            lambda: notes.reader().get(1, 0),
            lambda: notes.reader().get_bytes(1, 0),
            lambda: db.global_reader().get(0),
            lambda: notes.append(1, Note(9, "more")),
        ):
            with pytest.raises(varve.CorruptedBlock) as caught:
                read()
            assert caught.value.first_sequence == 0


# -- bounds --------------------------------------------------------------------------------------------------------------


def test_what_is_kept_in_memory_has_bounds_and_stays_right(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond each bound the caches are emptied; lengths, positions and events are as before."""
    for name in ("CACHED_STREAMS_MAX", "CACHED_INDEX_ENTRIES_MAX", "CHECKED_BLOCKS_MAX"):
        monkeypatch.setattr(limits, name, 2)
    monkeypatch.setattr(commit, "_PUT_BLOCKS", 2)
    monkeypatch.setattr(snapshot, "_META_CHUNK", 2)
    model: dict[int, list[Note]] = {}
    for turn in range(3):
        with varve.open(varve_path, durability="relaxed") as db:
            notes = db.stream("notes", Note)
            for stream_id in range(7):
                events = [Note(100 * turn + n, "x" * 900) for n in range(4)]
                wanted = model.setdefault(stream_id, [])
                assert notes.append(stream_id, events[0], expected=len(wanted)).stream_sequence == len(wanted)
                wanted.append(events[0])
                assert notes.append_batch(stream_id, events[1:], expected=len(wanted))[0].stream_sequence == len(wanted)
                wanted += events[1:]
            notes.append_many([(n, Note(turn, "z" * 9_000)) for n in range(7)])
            for n in range(7):
                model[n].append(Note(turn, "z" * 9_000))
            for n in range(7):
                notes.append(n, Note(turn, "single"))
                model[n].append(Note(turn, "single"))
            state = db._engine._writer.state
            assert state is not None
            assert len(state.stream_ends) <= 2
            reader = notes.reader()
            for stream_id, wanted in model.items():
                assert reader.length(stream_id) == len(wanted)
                assert [recorded.event for recorded in reader.iter_stream(stream_id)] == wanted
                assert reader.get(stream_id, len(wanted) - 1) == wanted[-1]
            assert sorted(reader.stream_ids()) == list(range(7))
            found = [(one.stream_id, one.event) for one in db.global_reader().iter_from()]
            assert len(found) == sum(map(len, model.values()))
    assert_sound(varve_path)


def test_a_transaction_has_a_bound_over_all_its_appends(
    varve_store: varve.Varve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Inside ``db.write`` each append is within it, all of them together are not: TooManyItems, and nothing is written."""
    notes = varve_store.stream("notes", Note)
    monkeypatch.setattr(limits, "TRANSACTION_BYTES_MAX", 3_000)

    def fill(tx: Any) -> None:
        for n in range(5):
            tx.append(notes, 1, Note(n, "x" * 1_000))

    with pytest.raises(varve.TooManyItems, match="the limit is TRANSACTION_BYTES_MAX = 3000"):
        varve_store.write(fill)
    assert varve_store.next_global_sequence == 0
    notes.append(1, Note(1, "fits"))


def test_an_old_snapshot_that_a_user_holds_is_warned_of_once(
    varve_store: varve.Varve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At the next commit beside it, for each snapshot once."""
    notes = varve_store.stream("notes", Note)
    notes.append(1, Note(1, "x"))
    now = time.monotonic()
    with varve_store.snapshot() as held:
        monkeypatch.setattr("time.monotonic", lambda: now + limits.SNAPSHOT_AGE_S_WARN + 5)
        with pytest.warns(ResourceWarning, match="a snapshot of the store has been alive for 6"):
            notes.append(1, Note(2, "x"))
        notes.append(1, Note(3, "x"))  # pytest makes any further warning an error
        assert held.reader(notes).length(1) == 1
    monkeypatch.undo()


def test_a_block_that_is_gone_is_told_also_behind_one_that_was_read(tmp_path: Path) -> None:
    """Where the events of the block before it are remembered, it has none that far."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        notes = db.stream("notes", Note)
        notes.append_batch(1, [Note(n, "x" * 1_000) for n in range(100)])
        assert notes.reader().get(1, 0) == notes.reader().get(1, 0)

        def lose(transaction: Any, environment: Any) -> None:
            with transaction.cursor(environment.log) as cursor:
                found = [bytes(key) for key, _ in cursor]
            assert transaction.delete(found[1], db=environment.log)

        changed(db, lose)
        gone = db._engine.snapshot().block(0).end
        for _ in range(2):
            with pytest.raises(varve.CorruptedStore):
                notes.reader().get(1, gone)


def test_a_snapshot_of_a_store_that_failed_is_refused(tmp_path: Path) -> None:
    """As every other use of the handle, also where it had begun to read."""
    with varve.open(tmp_path / "store") as db:
        notes = filled(db)
        with db.snapshot() as held:
            reader = held.reader(notes)
            assert reader.length(1) == 5
            inside = db._engine.snapshot()
            assert inside.stream_length(0) == 5
            faulty(db).on_put = Steps(lmdb_error(lmdb.Error, errno.EIO), 1)
            with pytest.raises(varve.StoreFailed):
                notes.append(1, Note(9, "x"))
            for read in (lambda: reader.length(1), lambda: reader.get(1, 0), lambda: list(reader.iter_stream(1))):
                with pytest.raises(varve.StoreFailed):
                    read()
            with pytest.raises(varve.StoreFailed):
                inside.stream_length(0)


def test_a_side_table_that_cannot_be_made_is_told(varve_path: Path) -> None:
    """The first consumer of a store makes it: an error there is ours, and the next try makes it."""
    with varve.open(varve_path) as db:
        proxy = faulty(db)
        made = proxy.open_db

        def fails(name: bytes, transaction: Any = None, **options: Any) -> Any:
            if options.get("create"):
                raise lmdb_error(lmdb.MapFullError, -30792)
            return made(name, transaction, **options)

        proxy.open_db = fails  # type: ignore[method-assign]
        with pytest.raises(varve.StoreFull):
            db.consumer("reader")
        proxy.open_db = made  # type: ignore[method-assign]
        db.consumer("reader").close()


def left_over(db: varve.Varve) -> None:
    """A commit of this thread that an interrupt has cut off in the middle."""
    writer = db._engine._writer
    writer._lock.acquire()
    writer._enter()


def test_a_transaction_that_an_interrupt_left_is_ended(varve_path: Path, tmp_path: Path) -> None:
    """By the next call of the same thread: also by one from inside the commit of another store, and with nobody to tell."""
    with varve.open(varve_path, durability="relaxed") as db:
        notes = db.stream("notes", Note)
        left_over(db)
        assert notes.append(1, Note(1, "x")).global_sequence == 0
        db._engine._writer.on_committed = lambda: None  # type: ignore[assignment]
        assert notes.append(1, Note(2, "x")).global_sequence == 1

        def clock() -> int:
            left_over(db)
            notes.append(1, Note(3, "from the other's clock"))
            return 1

        with varve.open(tmp_path / "other", clock=clock, durability="relaxed") as other:
            other.stream("notes", Note).append(1, Note(9, "other"))
        assert notes.reader().length(1) >= 3
