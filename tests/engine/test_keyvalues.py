"""The environment beside the store's: made at the first write, follows the handle, holds nothing, fails in typed ways."""

import contextlib
import errno
import gc
import os
import shutil
import stat
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from engine_helpers import lmdb_error, run_script

import varve
from varve.engine import files, keyvalues
from varve.engine.keyvalues import KeyValues


@pytest.fixture
def store_path(tmp_path: Path) -> Path:
    """A path for a store that is not verified afterwards: what is put here is no saved state."""
    return tmp_path / "store"


@pytest.fixture
def db(store_path: Path) -> Iterator[Any]:
    """An open store."""
    with varve.open(store_path, durability="relaxed") as found:
        yield found


@pytest.fixture
def pairs(db: Any) -> KeyValues:
    """Its environment for what is derived."""
    found: KeyValues = db._engine.snapshots
    return found


def put(pairs: KeyValues, *items: tuple[bytes, bytes]) -> None:
    """Store pairs in one transaction."""
    with pairs.writing() as writing:
        for key, value in items:
            writing.put(key, value)


def get(pairs: KeyValues, key: bytes) -> bytes | None:
    """A value."""
    with pairs.reading() as reading:
        found = None if reading is None else reading.get(key)
        return None if found is None else found.part()


def test_nothing_is_made_before_the_first_write(pairs: KeyValues, store_path: Path) -> None:
    assert get(pairs, b"a") is None
    assert not (store_path / "snapshots").exists()
    put(pairs, (b"a", b"1"))
    folder = store_path / "snapshots"
    assert sorted(path.name for path in folder.iterdir()) == ["data.mdb", "lock.mdb"]
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert get(pairs, b"a") == b"1"
    assert get(pairs, b"b") is None


def test_pairs_in_order_from_both_sides(pairs: KeyValues) -> None:
    put(pairs, (b"b", b"22"), (b"d", b"4444"))
    with pairs.reading() as reading:
        assert reading is not None
        found = {key: (reading.below(key), reading.from_(key)) for key in (b"a", b"b", b"c", b"d", b"e")}
        keys = {
            key: (below and below[0], behind and (behind[0], len(behind[1]))) for key, (below, behind) in found.items()
        }
        assert keys == {
            b"a": (None, (b"b", 2)),
            b"b": (None, (b"b", 2)),
            b"c": (b"b", (b"d", 4)),
            b"d": (b"b", (b"d", 4)),
            b"e": (b"d", None),
        }
        [(_, value)] = [item for item in [reading.from_(b"d")] if item]
        assert (value.part(1), value.part(0, 2)) == (b"444", b"44")
    with pairs.writing() as writing:
        writing.delete(b"b")
        writing.delete(b"x")
    assert (get(pairs, b"b"), get(pairs, b"d")) == (None, b"4444")


def test_nothing_can_be_read_after_the_block(pairs: KeyValues) -> None:
    put(pairs, (b"a", b"1"))
    with pairs.reading() as reading:
        assert reading is not None
        value = reading.get(b"a")
    assert value is not None
    for read in (value.part, lambda: reading.get(b"a"), lambda: reading.below(b"a"), lambda: reading.from_(b"a")):
        with pytest.raises(varve.StoreClosed):
            read()


def test_a_block_that_raises_writes_nothing(pairs: KeyValues) -> None:
    put(pairs, (b"a", b"1"))
    with pytest.raises(KeyError), pairs.writing() as writing:
        writing.put(b"a", b"2")
        raise KeyError
    assert get(pairs, b"a") == b"1"


def test_what_was_written_is_found_again_by_readers_too(store_path: Path) -> None:
    with varve.open(store_path) as db:
        put(db._engine.snapshots, (b"a", b"1"))
    with varve.open(store_path) as db:
        assert get(db._engine.snapshots, b"a") == b"1"
    with varve.open(store_path, readonly=True) as db:
        assert get(db._engine.snapshots, b"a") == b"1"
        with pytest.raises(varve.ReadonlyStore):
            put(db._engine.snapshots, (b"a", b"2"))
    varve.ops.seal(store_path)
    with varve.open(store_path, readonly=True) as db:
        assert get(db._engine.snapshots, b"a") == b"1"
        with pytest.raises(varve.SealedStore):
            put(db._engine.snapshots, (b"a", b"2"))


def test_another_process_is_seen_at_once(pairs: KeyValues, store_path: Path) -> None:
    script = """
import sys, varve
with varve.open(sys.argv[1]) as db, db._engine.snapshots.writing() as pairs:
    pairs.put(sys.argv[2].encode(), b"other")
"""
    assert get(pairs, b"a") is None
    run_script(script, store_path, "a")
    assert get(pairs, b"a") == b"other"
    put(pairs, (b"b", b"mine"))
    run_script(script, store_path, "b")
    assert get(pairs, b"b") == b"other"


def test_it_is_closed_with_the_store(store_path: Path) -> None:
    db: Any = varve.open(store_path)
    pairs = db._engine.snapshots
    put(pairs, (b"a", b"1"))
    db.close()
    for use in (lambda: get(pairs, b"a"), lambda: put(pairs, (b"a", b"1"))):
        with pytest.raises(varve.StoreClosed):
            use()
    pairs.close()
    with varve.open(store_path) as again:
        assert get(again._engine.snapshots, b"a") == b"1"


def test_closing_waits_for_the_use_that_is_under_way(store_path: Path) -> None:
    db: Any = varve.open(store_path)
    pairs = db._engine.snapshots
    put(pairs, (b"a", b"1"))
    inside, go_on, closed = threading.Event(), threading.Event(), threading.Event()
    seen: list[bytes] = []

    def read() -> None:
        with pairs.reading() as reading:
            inside.set()
            go_on.wait(60)
            seen.append(reading.get(b"a").part())

    def close() -> None:
        db.close()
        closed.set()

    threads = [threading.Thread(target=read), threading.Thread(target=close)]
    threads[0].start()
    assert inside.wait(60)
    threads[1].start()
    while db._engine.environment.refusal is None:
        pass
    assert not closed.is_set()
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert (seen, closed.is_set(), pairs._is_open) == ([b"1"], True, False)


def test_closing_from_within_a_use_ends_with_it(store_path: Path) -> None:
    db: Any = varve.open(store_path)
    pairs = db._engine.snapshots
    put(pairs, (b"a", b"1"))
    with pairs.reading() as reading:
        db.close()
        assert reading.get(b"a").part() == b"1"
        assert pairs._is_open
    assert not pairs._is_open


def test_a_store_that_is_dropped_waits_for_nobody(store_path: Path) -> None:
    db: Any = varve.open(store_path)
    pairs = db._engine.snapshots
    put(pairs, (b"a", b"1"))
    taken, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        with pairs._lock:
            taken.set()
            go_on.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert taken.wait(60)
    del db
    gc.collect()
    go_on.set()
    thread.join(60)
    assert pairs._is_ending
    pairs.close()
    assert not pairs._is_open


def test_whoever_comes_while_the_store_closes_is_refused(db: Any, pairs: KeyValues, monkeypatch: Any) -> None:
    calls = []

    def check() -> None:
        calls.append(1)
        if len(calls) == 2:
            raise varve.StoreClosed("meanwhile")

    monkeypatch.setattr(db._engine.environment, "check_usable", check)
    with pytest.raises(varve.StoreClosed, match="meanwhile"):
        get(pairs, b"a")
    assert pairs._users == 0


def test_a_child_is_refused_and_leaves_the_parents_alone(store_path: Path) -> None:
    out = run_script(
        """
import os, sys, varve
with varve.open(sys.argv[1]) as db:
    pairs = db._engine.snapshots
    with pairs.writing() as writing:
        writing.put(b"a", b"1")
    if sys.argv[2] == "held":
        pairs._lock.acquire()
    child = os.fork()
    if not child:
        try:
            with pairs.reading():
                os._exit(1)
        except varve.ForkedStore:
            pass
        db.close()
        del db, pairs
        with varve.open(sys.argv[1]) as own, own._engine.snapshots.reading() as reading:
            os._exit(0 if reading.get(b"a").part() == b"1" else 2)
    assert os.waitpid(child, 0)[1] == 0
    with pairs.reading() as reading:
        print(reading.get(b"a").part().decode())
""",
        store_path,
        "held",
    )
    assert out.strip() == "1"


def test_a_fork_before_the_first_use(db: Any, pairs: KeyValues) -> None:
    keyvalues._after_fork_in_child()  # what it does where nothing is open: nothing
    put(pairs, (b"a", b"1"))
    keyvalues._after_fork_in_child()  # and where something is: it takes care that nobody frees it
    assert get(pairs, b"a") == b"1"


# -- faults ---------------------------------------------------------------------------------------------------------


class Failing:
    """LMDB's environment, whose write transactions or reads fail."""

    def __init__(self, env: Any, *, commit: Exception | None = None, read: Exception | None = None) -> None:
        self._env = env
        self._commit = commit
        self._read = read

    def __getattr__(self, name: str) -> Any:
        return getattr(self._env, name)

    def open_db(self, *args: Any, **kwargs: Any) -> Any:
        if self._read is not None:
            raise self._read
        return self._env.open_db(*args, **kwargs)

    def begin(self, *args: Any, write: bool = False, **kwargs: Any) -> Any:
        if self._read is not None:
            raise self._read
        found = self._env.begin(*args, write=write, **kwargs)
        return self._failing(found) if write and kwargs and self._commit is not None else found

    @contextlib.contextmanager
    def _failing(self, transaction: Any) -> Iterator[Any]:
        try:
            yield transaction
        finally:
            transaction.abort()
        assert self._commit is not None
        raise self._commit


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (lmdb_error(lmdb.MapFullError, -1), varve.StoreFull),
        (lmdb_error(lmdb.DiskError, errno.ENOSPC), varve.DiskFull),
        (lmdb_error(lmdb.CorruptedError, -1), varve.CorruptedStore),
        (lmdb_error(lmdb.Error, errno.EIO), varve.StoreFailed),
    ],
)
def test_failed_writes_say_why_and_the_store_goes_on(db: Any, pairs: Any, error: Any, raised: Any) -> None:
    put(pairs, (b"a", b"1"))
    env, pairs.env = pairs.env, Failing(pairs.env, commit=error)
    with pytest.raises(raised):
        put(pairs, (b"a", b"2"))
    pairs.env = env
    if raised is varve.StoreFailed:
        with pytest.raises(varve.StoreFailed):
            get(pairs, b"a")
    else:
        assert get(pairs, b"a") == b"1"
    assert db.next_global_sequence == 0


def test_failed_reads_say_why(pairs: Any) -> None:
    put(pairs, (b"a", b"1"))
    env = pairs.env
    for database in (pairs._database, None):
        pairs._database = database
        for error, raised in (
            (lmdb_error(lmdb.PageNotFoundError, -1), varve.CorruptedStore),
            (lmdb_error(lmdb.Error, errno.EIO), varve.StoreFailed),
        ):
            pairs.env = Failing(env, read=error)
            with pytest.raises(raised):
                get(pairs, b"a")
    pairs.env = env
    with pytest.raises(varve.CorruptedStore), pairs.reading():
        raise lmdb_error(lmdb.CorruptedError, -1)
    assert get(pairs, b"a") == b"1"


def test_a_table_that_cannot_be_made_says_why(pairs: Any) -> None:
    put(pairs, (b"a", b"1"))
    env, database = pairs.env, pairs._database
    pairs._database, pairs.env = None, Failing(env, read=lmdb_error(lmdb.Error, errno.EIO))
    with pytest.raises(varve.CommitOutcomeUnknown):
        put(pairs, (b"a", b"2"))
    pairs.env, pairs._database = env, database


def test_a_full_map_is_typed(store_path: Path) -> None:
    with varve.open(store_path, map_bytes=1 << 20) as db:
        pairs = db._engine.snapshots
        put(pairs, (b"a", b"1"))
        with pytest.raises(varve.StoreFull):
            put(pairs, (b"b", bytes(2 << 20)))
        assert get(pairs, b"a") == b"1"


def test_a_foreign_or_truncated_file_is_refused_and_left_alone(store_path: Path) -> None:
    with varve.open(store_path) as db:
        put(db._engine.snapshots, (b"a", bytes(100_000)))
    data = store_path / "snapshots" / "data.mdb"
    whole = data.read_bytes()
    for broken, raised in ((whole[:20_000], varve.CorruptedStore), (b"x" * 9_000, varve.NotAVarveStore)):
        data.write_bytes(broken)
        with varve.open(store_path) as db:
            for use in (lambda: get(db._engine.snapshots, b"a"), lambda: put(db._engine.snapshots, (b"a", b"1"))):
                with pytest.raises(raised):
                    use()
        assert data.read_bytes() == broken
    data.write_bytes(whole)


def test_what_a_maker_that_was_cut_off_has_left(db: Any, pairs: KeyValues, store_path: Path) -> None:
    folder = store_path / "snapshots"
    folder.mkdir(mode=0o700)
    assert get(pairs, b"a") is None
    lmdb.open(str(folder), lib_version=0, map_size=1 << 20).close()  # pages, and no table in them
    assert (get(pairs, b"a"), get(pairs, b"b")) == (None, None)
    put(pairs, (b"a", b"1"))
    assert get(pairs, b"a") == b"1"
    assert files.has_data(str(folder))
    assert db.next_global_sequence == 0


def test_a_folder_that_cannot_be_made_says_so(db: Any, pairs: KeyValues, store_path: Path, monkeypatch: Any) -> None:
    def refuse(path: str) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(files, "make_folder", refuse)
    with pytest.raises(varve.StoreAccessDenied):
        put(pairs, (b"a", b"1"))

    def full(path: str) -> None:
        raise varve.DiskFull("full", path=path)

    monkeypatch.setattr(files, "make_folder", full)
    with pytest.raises(varve.DiskFull):
        put(pairs, (b"a", b"1"))
    (store_path / "snapshots").write_bytes(b"")
    monkeypatch.undo()
    with pytest.raises(varve.StoreUnavailable):
        put(pairs, (b"a", b"1"))
    assert db.next_global_sequence == 0


def test_a_folder_that_is_removed_while_the_store_is_open(store_path: Path) -> None:
    """The next use goes on with what is there now, in this process and in others: no write goes into a file without a name."""
    folder = store_path / "snapshots"
    with varve.open(store_path, durability="relaxed") as db:
        pairs = db._engine.snapshots
        put(pairs, (b"a", b"1"))
        shutil.rmtree(folder)
        assert get(pairs, b"a") is None
        assert not folder.exists()
        put(pairs, (b"b", b"2"))
        shutil.rmtree(folder)
        put(pairs, (b"c", b"3"))
        folder.rename(store_path / "elsewhere")
        run_script(
            """
import sys, varve
with varve.open(sys.argv[1], durability="relaxed") as db, db._engine.snapshots.writing() as writing:
    writing.put(b"d", b"4")
""",
            store_path,
        )
        assert (get(pairs, b"c"), get(pairs, b"d")) == (None, b"4")
        put(pairs, (b"e", b"5"))
    with varve.open(store_path, readonly=True) as reader:
        assert [get(reader._engine.snapshots, key) for key in (b"a", b"b", b"c", b"d", b"e")] == [
            None,
            None,
            None,
            b"4",
            b"5",
        ]
        shutil.rmtree(folder)
        assert get(reader._engine.snapshots, b"d") is None


def test_removing_the_folder_mends_a_damaged_one(store_path: Path) -> None:
    """As the error says, without opening the store anew; what has failed works again."""
    with varve.open(store_path, durability="relaxed") as db:
        put(db._engine.snapshots, *((b"%d" % number, bytes(500)) for number in range(100)))
    data = store_path / "snapshots" / "data.mdb"
    raw = data.read_bytes()
    data.write_bytes(raw[:8192] + b"\xff" * (len(raw) - 8192))
    with varve.open(store_path, durability="relaxed") as db:
        pairs = db._engine.snapshots
        for _ in range(2):
            with pytest.raises(varve.CorruptedStore, match="remove the folder"):
                put(pairs, (b"a", b"1"))
        shutil.rmtree(store_path / "snapshots")
        put(pairs, (b"a", b"1"))
        pairs.fail("a test says so", "a test")
        with pytest.raises(varve.StoreFailed):
            get(pairs, b"a")
        shutil.rmtree(store_path / "snapshots")
        put(pairs, (b"a", b"2"))
        assert get(pairs, b"a") == b"2"
