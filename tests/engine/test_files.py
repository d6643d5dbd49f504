"""What stands on the file system before LMDB sees it: made right, or refused with the right error and left alone."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
import socket
import stat
import struct
from pathlib import Path

import lmdb
import pytest
from engine_helpers import Blob, Note, blob, finish, raw_lmdb, run_script, start_script
from lmdb.verify import verify as lmdb_verify

import varve
from varve.engine import files
from varve.layout import keys, records
from varve.testing import assert_sound


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A closed store of some 400 kB."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        for turn in range(20):
            db.stream("notes", Note).append_batch(turn % 3, [Note(n, "x" * 300) for n in range(60)])
    return path


def contents(path: Path) -> dict[str, bytes]:
    """Every file of a folder except LMDB's lock table."""
    return {entry.name: entry.read_bytes() for entry in sorted(path.iterdir()) if entry.name != "lock.mdb"}


# -- creation ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_a_new_store_is_its_owners_alone(tmp_path: Path, umask: int) -> None:
    """Folders are 0700 and files 0600, parents made on the way too, whatever the umask lets through."""
    old = os.umask(umask)
    try:
        path = tmp_path / "a" / "b" / "store"
        varve.open(path).close()
    finally:
        os.umask(old)
    assert [mode(folder) for folder in (tmp_path / "a", tmp_path / "a" / "b", path)] == [0o700] * 3
    assert {entry.name: mode(entry) for entry in path.iterdir()} == dict.fromkeys(
        ("data.mdb", "lock.mdb", "varve.lock"), 0o600
    )
    assert_sound(path)


def test_an_existing_folder_keeps_its_mode(tmp_path: Path) -> None:
    """A folder that was there already is used as it is, with files of 0600 in it."""
    path = tmp_path / "store"
    path.mkdir(mode=0o750)
    varve.open(path).close()
    assert mode(path) == 0o750
    assert mode(path / "data.mdb") == 0o600


def test_creation_reaches_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every folder that gains a name at creation is fsynced, parents of new folders included."""
    synced = []
    real = files.sync_folder
    monkeypatch.setattr(files, "sync_folder", lambda path: (synced.append(path), real(path)))
    varve.open(tmp_path / "a" / "store").close()
    assert {str(tmp_path), str(tmp_path / "a"), str(tmp_path / "a" / "store")} <= set(synced)
    synced.clear()
    varve.open(tmp_path / "a" / "store").close()
    assert synced == []


def test_processes_that_create_one_store_at_once_make_one(varve_path: Path) -> None:
    """Four processes creating the same path agree on one identity, and all their events are in it."""
    script = """
import sys, varve
from engine_helpers import Note
print("ready", flush=True)
sys.stdin.readline()
with varve.open(sys.argv[1]) as db:
    db.stream("notes", Note).append(int(sys.argv[2]), Note(int(sys.argv[2]), ""))
    print(db.uuid)
"""
    processes = [start_script(script, varve_path, number) for number in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    assert len({finish(process) for process in processes}) == 1
    with varve.open(varve_path) as db:
        assert sorted(recorded.event.number for recorded in db.global_reader().iter_from()) == [0, 1, 2, 3]


def test_a_creation_that_was_cut_off_is_finished_by_the_next_open(tmp_path: Path) -> None:
    """An empty data file, an LMDB file without our sub-databases and one without our record become stores; readonly
    does not touch them."""
    empty = tmp_path / "empty"
    empty.mkdir()
    (empty / "data.mdb").touch()
    no_databases = tmp_path / "no_databases"
    no_databases.mkdir()
    lmdb.open(str(no_databases), max_dbs=16, lib_version=0).close()
    no_record = tmp_path / "no_record"
    varve.open(no_record).close()
    with raw_lmdb(no_record) as (transaction, databases):
        transaction.drop(databases["meta"], delete=False)
    for path in (empty, no_databases, no_record):
        before = contents(path)
        with pytest.raises((varve.StoreNotFound, varve.NotAVarveStore)):
            varve.open(path, readonly=True)
        assert {name: data for name, data in contents(path).items() if name != "varve.lock"} == {
            name: data for name, data in before.items() if name != "varve.lock"
        }
        with varve.open(path) as db:
            assert db.stream("notes", Note).append(1, Note(1, "")) == (0, 0)
        assert_sound(path)


# -- refusals ------------------------------------------------------------------------------------------------------------


def test_a_missing_store_is_not_created_by_a_reader(tmp_path: Path) -> None:
    """``readonly=True`` on nothing raises StoreNotFound, a FileNotFoundError, and leaves nothing behind."""
    for path in (tmp_path / "none", tmp_path / "none" / "deeper", tmp_path):
        with pytest.raises(varve.StoreNotFound) as missing:
            varve.open(path, readonly=True)
        assert isinstance(missing.value, FileNotFoundError)
    assert list(tmp_path.iterdir()) == []


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    """A file at the path, or among its parents, is told as what it is and not touched."""
    path = tmp_path / "file"
    path.write_text("mine")
    with pytest.raises(varve.NotAVarveStore, match="is a file"):
        varve.open(path)
    with pytest.raises(varve.StoreUnavailable):
        varve.open(path / "store")
    assert path.read_text() == "mine"
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "sock"))
    with sock, pytest.raises(varve.NotAVarveStore):
        varve.open(tmp_path / "sock")


@pytest.mark.parametrize("size", [1, 20, 500, 4_096, 8_192, 50_000])
def test_a_random_file_as_data_is_refused(tmp_path: Path, size: int) -> None:
    """Bytes that are no LMDB file under its name: NotAVarveStore, nothing changed."""
    path = tmp_path / "store"
    path.mkdir()
    (path / "data.mdb").write_bytes(bytes((n * 7 + 1) % 256 for n in range(size)))
    before = contents(path)
    for readonly in (False, True):
        with pytest.raises(varve.NotAVarveStore):
            varve.open(path, readonly=readonly)
    assert contents(path) == before


@pytest.mark.parametrize("shape", ["entries", "databases", "many entries", "many databases"])
def test_another_programs_environment_is_refused(tmp_path: Path, shape: str) -> None:
    """An LMDB environment that holds other things than a store is NotAVarveStore and stays as it is, however large."""
    path = tmp_path / "theirs"
    env = lmdb.open(str(path), max_dbs=2_000, map_size=1 << 26, lib_version=0)
    with env.begin(write=True) as transaction:
        for n in range(3_000 if shape == "many entries" else 3 if shape == "entries" else 0):
            transaction.put(b"key%d" % n, b"value")
        for n in range(1_000 if shape == "many databases" else 2 if shape == "databases" else 0):
            env.open_db(b"db%d" % n, transaction)
    env.close()
    before = contents(path)
    for readonly in (True, False):
        with pytest.raises(varve.NotAVarveStore):
            varve.open(path, readonly=readonly)
    assert contents(path) == before


@pytest.mark.parametrize(("offset", "value", "told"), [(20, 2, "data version 2"), (40, 8192, "pages of 8192 bytes")])
def test_another_lmdb_is_refused(store: Path, offset: int, value: int, told: str) -> None:
    """A file of LMDB 1.0, or of a machine with other pages: it is no damage, and stays as it is."""
    data = store / "data.mdb"
    raw = bytearray(data.read_bytes())
    for page in (0, 4096):
        struct.pack_into("<I", raw, page + offset, value)
    data.write_bytes(raw)
    for readonly in (True, False):
        with pytest.raises(varve.NotAVarveStore, match=told):
            varve.open(store, readonly=readonly)
    assert data.read_bytes() == raw


def test_a_newer_format_is_refused(store: Path) -> None:
    """A store of a later format version: UnsupportedFormat with both versions, nothing changed."""
    with raw_lmdb(store) as (transaction, databases):
        value = bytearray(transaction.get(keys.STORE_RECORD_KEY, db=databases["meta"]))
        struct.pack_into("<I", value, 4, records.FORMAT_VERSION + 1)
        transaction.put(keys.STORE_RECORD_KEY, bytes(value) + b"and more", db=databases["meta"])
    before = contents(store)
    for readonly in (False, True):
        with pytest.raises(varve.UnsupportedFormat) as refused:
            varve.open(store, readonly=readonly)
        assert (refused.value.found, refused.value.supported) == (records.FORMAT_VERSION + 1, records.FORMAT_VERSION)
    assert contents(store) == before


def test_a_damaged_or_lost_store_record_is_told(store: Path) -> None:
    """A log without its store record, or with a record that is none, is CorruptedStore, and nothing is overwritten."""
    with raw_lmdb(store) as (transaction, databases):
        transaction.put(keys.STORE_RECORD_KEY, b"VRV1\1\0\0\0short", db=databases["meta"])
    with pytest.raises(varve.CorruptedStore):
        varve.open(store)
    with raw_lmdb(store) as (transaction, databases):
        transaction.put(keys.STORE_RECORD_KEY, b"something", db=databases["meta"])
    with pytest.raises(varve.CorruptedStore):
        varve.open(store)
    with raw_lmdb(store) as (transaction, databases):
        transaction.delete(keys.STORE_RECORD_KEY, db=databases["meta"])
    with pytest.raises(varve.CorruptedStore):
        varve.open(store)
    with raw_lmdb(store) as (transaction, databases):
        assert transaction.stat(databases["log"])["entries"] > 1


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.6, 0.95, "1 byte", "100 bytes", "a page", "2 pages", "a page less"])
def test_a_truncated_file_is_found_before_it_is_mapped(store: Path, kept: float | str) -> None:
    """A data file cut anywhere raises CorruptedStore at open, for writers and readers, where touching the map would be
    SIGBUS."""
    data = store / "data.mdb"
    size = data.stat().st_size
    length = {"1 byte": 1, "100 bytes": 100, "a page": 4096, "2 pages": 8192, "a page less": size - 4096}.get(kept)
    if length is None:
        length = int(size * float(kept))
    os.truncate(data, length)
    run_script(
        """
import sys, varve
for readonly in (True, False):
    try:
        with varve.open(sys.argv[1], readonly=readonly) as db:
            print(list(db.global_reader().iter_bytes())[-1:])
    except varve.CorruptedStore:
        pass
    except varve.NotAVarveStore:
        if int(sys.argv[2]) >= 20:  # nothing is left that would tell whose it was
            raise
    else:
        raise SystemExit("not noticed")
""",
        store,
        length,
    )
    assert data.stat().st_size == length


def test_an_impossible_last_page_is_corruption(store: Path) -> None:
    """A meta page that speaks of a file of terabytes: refused, at no cost."""
    data = store / "data.mdb"
    raw = bytearray(data.read_bytes())
    newest = max((0, 4096), key=lambda page: struct.unpack_from("<Q", raw, page + 144))
    struct.pack_into("<Q", raw, newest + 136, 2**40)
    data.write_bytes(raw)
    with pytest.raises(varve.CorruptedStore, match="truncated"):
        varve.open(store)


def test_the_lost_end_of_a_large_value_is_found(tmp_path: Path) -> None:
    """LMDB's own verifier looks at the first page of a value with pages of its own: a file that ends behind it is sound to it,
    and SIGBUS to whoever reads the event."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        for number in range(50):  # what they free, the pages of the next commit's trees are taken from
            db.stream("notes", Note).append(number, Note(number, "x" * 300))
        db.stream("blobs", Blob).append(1, blob(1, 200_000))
    data = path / "data.mdb"
    os.truncate(data, data.stat().st_size - 4096)
    assert lmdb_verify(str(data), subdir=False) == []
    with pytest.raises(varve.CorruptedStore, match="file ends before it does"):
        varve.open(path)


@pytest.mark.parametrize("commits", [1, 100])
def test_a_store_that_is_written_to_while_it_is_looked_at(
    store: Path, monkeypatch: pytest.MonkeyPatch, commits: int
) -> None:
    """What was seen on either side of a commit says nothing together: it is looked at again, and one that is never quiet is
    sound to those who write to it."""
    real = files.newest_meta
    looks = []

    def changing(fd: int, path: str) -> files.Meta:
        looks.append(fd)
        meta = real(fd, path)
        return meta._replace(transaction=meta.transaction + len(looks)) if len(looks) <= 2 * commits else meta

    monkeypatch.setattr(files, "newest_meta", changing)
    files.check_data_file(str(store))
    assert len(looks) == (4 if commits == 1 else 16)


def test_a_file_that_only_lacks_free_pages_opens(tmp_path: Path) -> None:
    """A file shorter than its meta page says is sound where only pages that nobody uses are missing: LMDB itself leaves
    such files where an aborted commit had grown the map."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        db.stream("notes", Note).append(1, Note(1, ""))
    env = lmdb.open(str(path), max_dbs=16, map_size=1 << 26, lib_version=0)
    with env.begin(write=True) as transaction:
        scratch = env.open_db(b"scratch", transaction)
        transaction.put(b"big", bytes(200_000), db=scratch)
    with env.begin(write=True) as transaction:
        transaction.drop(env.open_db(b"scratch", transaction))
    last = env.info()["last_pgno"]
    env.close()
    data = path / "data.mdb"
    assert data.stat().st_size == (last + 1) * 4096
    problems = None
    for pages in range(last, 0, -1):  # cut as much as LMDB's own verifier lets pass
        copy = tmp_path / "copy"
        shutil.rmtree(copy, ignore_errors=True)
        copy.mkdir()
        shutil.copy(data, copy / "data.mdb")
        os.truncate(copy / "data.mdb", pages * 4096)
        try:
            varve.open(copy, readonly=True).close()
        except (varve.CorruptedStore, varve.StoreUnavailable) as exc:
            problems = exc
            break
    assert isinstance(problems, varve.CorruptedStore)
    assert pages < last, "no free page could be missing"


UNPRIVILEGED = """
import os, sys, varve
varve.open(sys.argv[1] + "-warm").close()  # everything imported: the interpreter itself may lie where only root may read
root = os.getuid() == 0
if root:
    os.setresgid(65534, 65534, 0)
    os.setresuid(65534, 65534, 0)
path, readonly = sys.argv[1], sys.argv[2] == "True"
try:
    varve.open(path, readonly=readonly)
except varve.StoreAccessDenied as exc:
    assert isinstance(exc, PermissionError) and exc.path == path, exc
    print("denied")
finally:
    if root:
        os.setresuid(0, 0, 0)  # whoever measures this process writes down at its end what it saw
"""


@pytest.mark.parametrize(("case", "readonly"), [
    ("another owner's store", False),
    ("another owner's store", True),
    ("another owner's folder", False),
    ("another owner's parent", False),
    ("a file that cannot be written", False),
])  # fmt: skip
def test_what_may_not_be_used_is_access_denied(tmp_path: Path, case: str, readonly: bool) -> None:
    """Without permission: StoreAccessDenied, a PermissionError (in a process that gave up root, where the tests run as
    root)."""
    for folder in (tmp_path, *tmp_path.parents[:2]):
        folder.chmod(0o755)
    path = tmp_path / "store"
    if case == "another owner's folder":
        path.mkdir(mode=0o555)
    elif case == "another owner's parent":
        tmp_path.chmod(0o700)
    else:
        varve.open(path).close()
    if case == "another owner's store":
        path.chmod(0o000)
    elif case == "a file that cannot be written":
        path.chmod(0o777)
        for name in ("data.mdb", "lock.mdb", "varve.lock"):
            (path / name).chmod(0o444)
    try:
        assert run_script(UNPRIVILEGED, path, readonly) == "denied\n"
        assert case != "another owner's parent" or not path.exists()
    finally:
        if path.exists():
            path.chmod(0o700)


# -- file systems ----------------------------------------------------------------------------------------------------------


MOUNTS = """\
22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:25 / /net rw - nfs4 server:/export rw
31 30 0:26 / /net/local rw master:2 - tmpfs tmpfs rw
32 22 0:27 / /with\\040space rw - fuse.sshfs host:/ rw
36 22 0:31 / /caf\u00e9 rw - 9p host rw
33 22 0:28 / /network rw - xfs /dev/vdb rw
34 22 0:29 / /over rw - ext4 /dev/vdc rw
35 22 0:30 / /over rw - cifs //host/share rw
a line that is no mount
"""


@pytest.mark.parametrize(("path", "kind"), [
    ("/anything/at/all", "ext4"),
    ("/net", "nfs4"),
    ("/net/store", "nfs4"),
    ("/net/local/store", "tmpfs"),
    ("/network/store", "xfs"),
    ("/caf\u00e9/store", "9p"),
    ("/with space/store", "fuse.sshfs"),
    ("/over/store", "cifs"),
])  # fmt: skip
def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(tmp_path: Path, path: str, kind: str) -> None:
    """The longest mount point that holds the path decides, the latest of equal ones."""
    mountinfo = tmp_path / "mountinfo"
    mountinfo.write_text(MOUNTS)
    assert files.file_system(path, str(mountinfo)) == kind


def test_where_mounts_cannot_be_told_nothing_is_refused(tmp_path: Path) -> None:
    """Without /proc the file system is unknown, and the store opens."""
    assert files.file_system("/anything", str(tmp_path / "none")) == ""
    assert files.file_system("/", "/proc/self/mountinfo") != ""


def test_a_network_file_system_is_refused_unless_allowed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """UnsupportedFileSystem names the kind; ``allow_network=True`` opens all the same."""
    monkeypatch.setattr(files, "file_system", lambda _: "nfs4")
    with pytest.raises(varve.UnsupportedFileSystem) as refused:
        varve.open(tmp_path / "store")
    assert refused.value.file_system == "nfs4"
    varve.open(tmp_path / "store", allow_network=True).close()
    with pytest.raises(varve.UnsupportedFileSystem):
        varve.open(tmp_path / "store", readonly=True)
    assert_sound(tmp_path / "store")


# -- the lock file -----------------------------------------------------------------------------------------------------------


def test_no_code_of_ours_opens_lmdbs_lock_file(store: Path) -> None:
    """In a process that has a store open, nothing but LMDB opens lock.mdb: closing it once would drop LMDB's own locks.
    Every open of that name is watched while a store is opened, read, written, refused a second time and closed."""
    out = run_script(
        """
import sys
opened = []
def watch(event, args):
    if event in ("open", "os.open") and "lock.mdb" in str(args[0]):
        opened.append(args[0])
sys.addaudithook(watch)
import varve
from engine_helpers import Note
with varve.open(sys.argv[1]) as db:
    notes = db.stream("notes", Note)
    notes.append(1, Note(1, ""))
    list(db.global_reader().iter_from())
    db.stats(), db.sync(), notes.reader().get(1, 0)
    try:
        varve.open(sys.argv[1])
    except varve.StoreAlreadyOpen:
        pass
assert not opened, opened
open(sys.argv[1] + "/lock.mdb").close()
assert len(opened) == 1
print("watched")
""",
        store,
    )
    assert out == "watched\n"


def test_a_pipe_in_the_place_of_the_handle_lock_is_not_waited_for(store: Path) -> None:
    """A reader would wait for a writer who never comes."""
    (store / "varve.lock").unlink()
    os.mkfifo(store / "varve.lock")
    signal.alarm(30)  # ends the process that waits
    try:
        varve.open(store, readonly=True).close()
    finally:
        signal.alarm(0)


def test_a_handle_lock_that_cannot_be_had_is_unavailable(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Something else stands in its place, or the file system knows no such locks: the system's words, as ours."""

    def flock(fd: int, how: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", flock)
        with pytest.raises(varve.StoreUnavailable, match=os.strerror(errno.ENOLCK)):
            varve.open(store)
    (store / "varve.lock").unlink()
    (store / "varve.lock").mkdir()
    with pytest.raises(varve.StoreUnavailable, match=os.strerror(errno.EISDIR)):
        varve.open(store)


def test_a_link_that_leads_nowhere_is_no_folder_for_a_store(tmp_path: Path) -> None:
    """Something has the name already, and it cannot be entered."""
    (tmp_path / "store").symlink_to(tmp_path / "nowhere")
    with pytest.raises(varve.StoreUnavailable, match=os.strerror(errno.EEXIST)):
        varve.open(tmp_path / "store")
    assert not (tmp_path / "nowhere").exists()


def test_what_the_system_says_may_not_be_used_is_access_denied(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As above, also where the tests run as root, to whom everything is allowed."""
    monkeypatch.setattr(os, "access", lambda *_: False)
    for readonly, what in ((False, "write"), (True, "read")):
        with pytest.raises(varve.StoreAccessDenied, match=f"no permission to {what} "):
            varve.open(store, readonly=readonly)
    (store.parent / "empty").mkdir()
    with pytest.raises(varve.StoreAccessDenied, match="no permission to create a store"):
        varve.open(store.parent / "empty")
