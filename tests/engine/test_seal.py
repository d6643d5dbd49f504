"""Sealed stores: nobody writes to them any more, and readers need nothing but to read."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import Note, run_script

import varve
from varve import limits
from varve.engine import files, seal
from varve.engine.environment import Environment
from varve.engine.instant import Instant, contents
from varve.engine.seal import Alone, Seal, read_seal, write_seal
from varve.layout import document

SEAL = Seal(uuid.uuid4().bytes, 0, 3, "ab" * 32, 17)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store of three events."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        db.stream("notes", Note).append_batch(1, [Note(n, "text") for n in range(3)])
    return tmp_path / "store"


@pytest.fixture
def sealed(path: Path) -> Path:
    """The same, sealed."""
    write_seal(str(path), SEAL)
    return path


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# -- the marker ----------------------------------------------------------------------------------------------------


def test_a_seal_comes_back(path: Path) -> None:
    assert read_seal(str(path)) is None
    write_seal(str(path), SEAL)
    assert read_seal(str(path)) == SEAL
    assert oct((path / "varve.seal").stat().st_mode)[-3:] == "600"


def test_what_an_attempt_left_is_written_over(path: Path) -> None:
    """Killed before the rename: nothing is sealed, and the next attempt does it."""
    (path / "varve.seal.new").write_bytes(b"half of")
    with varve.open(path) as db:
        db.stream("notes", Note).append(1, Note(3, "goes on"))
    write_seal(str(path), SEAL)
    assert read_seal(str(path)) == SEAL
    assert "varve.seal.new" not in names(path)


def test_the_marker_is_there_whole_or_not_at_all(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On disk before it gets its name, and the name on disk before it is done."""
    done: list[str] = []
    real_fsync, real_rename, real_sync = os.fsync, os.rename, files.sync_folder
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append("fsync"), real_fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda a, b: (done.append("rename"), real_rename(a, b)))
    monkeypatch.setattr(files, "sync_folder", lambda folder: (done.append("folder"), real_sync(folder)))
    write_seal(str(path), SEAL)
    assert done == ["fsync", "rename", "folder", "fsync"]


@pytest.mark.parametrize(
    "changed",
    [
        {"varve_seal": "1"},
        {"next_sequence": 1.5},
        {"next_sequence": True},
        {"content_digest": 5},
        {"more": 1},
        {"varve_seal": 0},
        {"store_uuid": "none"},
        {"store_uuid": 5},
    ],
)
def test_a_marker_that_says_nonsense_is_damaged_and_seals_all_the_same(path: Path, changed: dict[str, Any]) -> None:
    """Even if its digest is right. In doubt nobody writes."""
    fields = document.decode(SEAL.encode())
    (path / "varve.seal").write_bytes(document.encode({**fields, **changed}))
    with pytest.raises(varve.CorruptedStore, match="seal"):
        read_seal(str(path))
    with pytest.raises(varve.SealedStore):
        varve.open(path)


@pytest.mark.parametrize(
    "raw", [b"", b"{}", SEAL.encode()[:-1], document.encode({"varve_seal": 1}), document.encode({})]
)
def test_a_marker_that_is_cut_off_is_damaged(path: Path, raw: bytes) -> None:
    (path / "varve.seal").write_bytes(raw)
    with pytest.raises(varve.CorruptedStore, match="seal"):
        read_seal(str(path))
    with pytest.raises(varve.SealedStore):
        varve.open(path)
    with varve.open(path, readonly=True) as db:
        assert db.next_global_sequence == 3


def test_a_newer_marker_is_told_from_a_damaged_one(path: Path) -> None:
    fields = document.decode(SEAL.encode())
    (path / "varve.seal").write_bytes(document.encode({**fields, "varve_seal": 2}))
    with pytest.raises(varve.UnsupportedFormat):
        read_seal(str(path))


def test_a_marker_that_is_no_file_seals(path: Path) -> None:
    """A folder of that name, a link into nothing: nobody can say that it is not sealed."""
    (path / "varve.seal").mkdir()
    with pytest.raises(varve.StoreUnavailable):
        read_seal(str(path))
    with pytest.raises(varve.SealedStore):
        varve.open(path)
    (path / "varve.seal").rmdir()
    (path / "varve.seal").symlink_to("nowhere")
    with pytest.raises(varve.SealedStore):
        varve.open(path)


def test_a_pipe_is_not_waited_for(path: Path) -> None:
    os.mkfifo(path / "varve.seal")
    with pytest.raises(varve.StoreUnavailable, match="regular"):
        read_seal(str(path))


# -- handles -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("durability", ["full", "relaxed", "bulk"])
def test_every_way_to_open_it_for_writing_is_refused(sealed: Path, durability: Any) -> None:
    """Nothing is touched, the error says what to do, and the lock is free again."""
    before = contents(str(sealed)), names(sealed)
    with pytest.raises(varve.SealedStore, match="readonly=True") as caught:
        varve.open(sealed, durability=durability)
    assert caught.value.path == str(sealed)
    assert (contents(str(sealed)), names(sealed)) == before
    os.close(files.lock_handle(str(sealed), exclusive=True, readonly=False))


def test_other_processes_are_refused_as_well(sealed: Path) -> None:
    script = "import sys, varve\ntry: varve.open(sys.argv[1])\nexcept varve.SealedStore as exc: print(exc.code)\n"
    assert run_script(script, sealed) == "sealed_store\n"


def test_a_reader_says_that_it_is_sealed_when_it_is_asked_to_write(sealed: Path) -> None:
    """Opening it without readonly would not help."""
    with varve.open(sealed, readonly=True) as db:
        notes = db.stream("notes", Note)
        with pytest.raises(varve.SealedStore):
            notes.append(1, Note(9, "no"))
        with pytest.raises(varve.SealedStore):
            notes.append_batch(1, [Note(9, "no")])
        with pytest.raises(varve.SealedStore):
            db.write(lambda tx: tx.append(notes, 1, Note(9, "no")))
        with pytest.raises(varve.SealedStore):
            db.transaction()
        with pytest.raises(varve.SealedStore):
            db.consumer("billing")
        with pytest.raises(varve.SealedStore):
            db.delete_consumer("billing")
        with pytest.raises(varve.ReadonlyStore):
            db._engine.sync()


def test_a_store_that_is_sealed_while_somebody_opens_it_stays_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seal comes between the first look and the lock: the look behind the lock counts."""
    real = files.lock_handle

    def late(folder: str, **options: Any) -> int:
        write_seal(folder, SEAL)
        return real(folder, **options)

    monkeypatch.setattr(files, "lock_handle", late)
    with pytest.raises(varve.SealedStore):
        varve.open(path)
    monkeypatch.undo()
    os.close(files.lock_handle(str(path), exclusive=True, readonly=False))


def test_readers_read_everything_and_make_nothing(sealed: Path) -> None:
    """No reader table, no lock file, whatever is read; and several may."""
    (sealed / "lock.mdb").unlink()
    (sealed / "varve.lock").unlink()
    script = (
        "import sys, varve\n"
        "with varve.open(sys.argv[1], readonly=True) as db:\n"
        "    with db.snapshot() as snap:\n"
        "        print(len(list(snap.global_reader().iter_from(0))), db.stats().readers)\n"
    )
    with varve.open(sealed, readonly=True) as db:
        reader = db.stream("notes", Note).reader()
        view = reader.get_bytes(1, 2)
        assert reader.get(1, 0) == Note(0, "text")
        assert [one.event.number for one in db.global_reader().iter_from(0)] == [0, 1, 2]
        assert [one.event.number for one in db.follow(timeout_s=0)] == [0, 1, 2]
        assert db.consumers() == []
        assert db.stats().readers == 0
        assert run_script(script, sealed) == "3 0\n"
        del view
    assert names(sealed) == ["data.mdb", "varve.seal"]


def test_views_outlive_the_handle_as_in_any_store(sealed: Path) -> None:
    with varve.open(sealed, readonly=True) as db:
        view = db.stream("notes", Note).reader().get_bytes(1, 0)
        assert view is not None
        before = bytes(view)
    with varve.open(sealed, readonly=True) as db:
        assert bytes(view) == before
        assert db.next_global_sequence == 3
    del view


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_a_folder_that_may_not_be_written_to_is_enough(sealed: Path, tmp_path: Path) -> None:
    """Somebody without any right to write, and no lock file that he could use."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.stat().st_mode & 0o005 != 0o005:
            folder.chmod(folder.stat().st_mode | 0o055)
    sealed.chmod(0o555)
    for entry in sealed.iterdir():
        entry.chmod(0o444 if entry.name in {"data.mdb", "varve.seal"} else 0o600)
    script = (
        "import os, sys, varve\n"
        "from varve import ops\n"
        "@varve.event(name='Note')\n"
        "class Note:\n    number: varve.u64\n    text: str\n"
        "ops.verify('/nowhere') if 0 else None\n"
        "import varve.store, varve.ops.verify, varve.tailing.follow\n"
        "os.chdir(sys.argv[1]); os.setgid(65534); os.setuid(65534)\n"
        "with varve.open('.', readonly=True) as db:\n"
        "    print([one.event.number for one in db.global_reader().iter_from(0)])\n"
        "    print([one.event.number for one in db.follow(timeout_s=0)])\n"
        "try: varve.open('.')\n"
        "except varve.SealedStore as exc: print(exc.code)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(sealed)], capture_output=True, text=True, check=False)
    assert done.stdout == "[0, 1, 2]\n[0, 1, 2]\nsealed_store\n", done.stderr


def test_whoever_looks_at_all_of_it_registers_nothing(sealed: Path) -> None:
    """Nobody has to be kept from writing; with LMDB's lock file there or not."""
    with Instant(str(sealed)) as instant:
        assert not instant.is_pinned
        assert not instant.changed()
        assert instant.structure() == []


# -- sealing -------------------------------------------------------------------------------------------------------


def test_one_who_seals_is_alone(path: Path) -> None:
    """Nobody opens it meanwhile, neither to write nor to read."""
    with Alone(str(path)) as alone:
        assert set(alone.file.tables()) >= set(files.DATABASES)
        for readonly in (False, True):
            with pytest.raises(varve.StoreInUse, match="sealed"):
                varve.open(path, readonly=readonly)
    with varve.open(path) as db:
        assert db.next_global_sequence == 3


@pytest.mark.parametrize("readonly", [False, True])
def test_nobody_else_may_have_it_open(path: Path, *, readonly: bool) -> None:
    held = files.lock_handle(str(path), exclusive=False, readonly=readonly)  # as a handle of another process
    try:
        with pytest.raises(varve.StoreInUse, match="sealing it needs the store alone"):
            Alone(str(path))
    finally:
        os.close(held)
    with varve.open(path, readonly=readonly), pytest.raises(varve.StoreAlreadyOpen):
        Alone(str(path))
    Alone(str(path)).__exit__(None, None, None)


def test_what_is_no_store_cannot_be_sealed(tmp_path: Path) -> None:
    with pytest.raises(varve.StoreNotFound):
        Alone(str(tmp_path / "none"))
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(varve.StoreNotFound):
        Alone(str(tmp_path / "file"))
    (tmp_path / "data.mdb").write_bytes(b"something else" * 1_000)
    with pytest.raises(varve.NotAVarveStore):
        Alone(str(tmp_path))


def test_a_disk_that_fails_is_told_and_the_lock_let_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(fd: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(varve.StoreUnavailable, match="Input/output"):
        Alone(str(path))
    monkeypatch.undo()
    with Alone(str(path)):
        pass


def test_an_interrupt_lets_the_lock_go(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(folder: str) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(seal.files, "check_data_file", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Alone(str(path))
    monkeypatch.undo()
    with Alone(str(path)):
        pass


def test_a_lingering_map_does_not_keep_a_store_from_being_sealed(path: Path) -> None:
    """Views that outlive their handle read what nobody changes."""
    with varve.open(path) as db:
        view = db.stream("notes", Note).reader().get_bytes(1, 0)
    with Alone(str(path)):
        write_seal(str(path), SEAL)
    with varve.open(path, readonly=True) as db:  # adopts that map
        assert db.next_global_sequence == 3
    del view


def test_an_environment_knows_whether_it_is_sealed(sealed: Path) -> None:
    environment = Environment(
        str(sealed), readonly=True, durability="full", map_bytes=limits.MAP_BYTES_MIN, allow_network=True
    )
    assert isinstance(environment.not_writable(), varve.SealedStore)
    environment.release()
    (sealed / "varve.seal").unlink()
    environment = Environment(
        str(sealed), readonly=True, durability="full", map_bytes=limits.MAP_BYTES_MIN, allow_network=True
    )
    assert isinstance(environment.not_writable(), varve.ReadonlyStore)
    environment.release()


def test_a_small_file_is_never_written_over_by_accident(tmp_path: Path) -> None:
    files.write_new(str(tmp_path / "small"), b"one")
    with pytest.raises(FileExistsError):
        files.write_new(str(tmp_path / "small"), b"two")
    files.write_new(str(tmp_path / "small"), b"2", replace=True)
    assert (tmp_path / "small").read_bytes() == b"2"
