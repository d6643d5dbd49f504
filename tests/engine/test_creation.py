"""A store that is being created, cut off at any instant: what is there afterwards can be opened, and is durable once somebody
was told so."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
from engine_helpers import Note

import varve
from varve.engine import files
from varve.testing import assert_sound


class Cut(BaseException):
    """The process ends here."""


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Every fsync and every link, in order, by path."""
    seen: list[tuple[str, str]] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(fd: int) -> None:
        seen.append(("fsync", str(Path(f"/proc/self/fd/{fd}").readlink())))
        real_fsync(fd)

    def link(source: str, target: str) -> None:
        seen.append(("link", source))
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    return seen


def cut_off(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, path: Path, *, before: bool = True) -> None:
    """Create a store with a process that is killed at a call."""
    real: Callable[..., Any] = getattr(owner, name)

    def killed(*args: object) -> None:
        if not before:
            real(*args)
        raise Cut

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, killed)
        with pytest.raises(Cut):
            varve.open(path)


def test_the_data_file_gets_its_name_when_it_is_complete_and_on_disk(
    tmp_path: Path, calls: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """LMDB writes the first two pages unsynced, under the name that counts: a power cut left zeros there, which were refused as
    another program's file ever after."""
    sizes = []
    link = os.link
    monkeypatch.setattr(
        os, "link", lambda source, target: (sizes.append(Path(source).stat().st_size), link(source, target))
    )
    varve.open(tmp_path / "store").close()
    [linked] = [path for call, path in calls if call == "link"]
    assert sizes == [8192]
    assert calls.index(("fsync", linked)) < calls.index(("link", linked))
    assert sorted(entry.name for entry in (tmp_path / "store").iterdir()) == ["data.mdb", "lock.mdb", "varve.lock"]


def test_a_creation_cut_off_before_the_name_leaves_nothing_that_hinders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one creates the store, and removes what the one before could not."""
    path = tmp_path / "store"
    cut_off(monkeypatch, os, "link", path)
    assert not (path / "data.mdb").exists()
    left = path / "data.mdb.0123456789abcdef.new"
    left.write_bytes(bytes(100))
    with varve.open(path) as db:
        db.stream("notes", Note).append(1, Note(1, ""))
    assert not left.exists()
    assert_sound(path)


def test_who_comes_behind_a_killed_creator_makes_the_names_durable(
    tmp_path: Path, calls: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The creator was killed before he synced the folder: whoever opens the store next did not, appended durably into a file
    without a durable name, and a power cut took it all."""
    path = tmp_path / "store"
    cut_off(monkeypatch, os, "link", path, before=False)
    calls.clear()
    varve.open(path).close()
    assert ("fsync", str(path)) in calls


def test_who_comes_behind_a_killed_creator_makes_the_folder_durable(
    tmp_path: Path, calls: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As above, where the folder was made and nothing in it."""
    path = tmp_path / "store"
    cut_off(monkeypatch, os, "mkdir", path, before=False)
    calls.clear()
    varve.open(path).close()
    assert ("fsync", str(tmp_path)) in calls


def test_another_process_may_make_the_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a folder, and that is all that is wanted."""
    real = os.mkdir

    def late(path: str, mode: int) -> None:
        real(path, mode)
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", late)
        varve.open(tmp_path / "store").close()
    assert_sound(tmp_path / "store")


def test_a_parent_that_cannot_be_synced_does_not_hinder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder is older than the store: whose business its name is we cannot know."""
    real = files.sync_folder

    def sync(path: str) -> None:
        if path == str(tmp_path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        real(path)

    (tmp_path / "store").mkdir()
    monkeypatch.setattr(files, "sync_folder", sync)
    varve.open(tmp_path / "store").close()


def test_a_folder_that_cannot_be_synced_gives_no_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one that was begun before: its name is not durable."""
    path = tmp_path / "store"
    cut_off(monkeypatch, os, "link", path, before=False)

    def sync(path: str) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO), path)

    with monkeypatch.context() as patch:
        patch.setattr(files, "sync_folder", sync)
        with pytest.raises(varve.StoreUnavailable):
            varve.open(path)
    varve.open(path).close()


@pytest.mark.parametrize("code", [errno.EPERM, errno.EOPNOTSUPP, errno.EINVAL, errno.EXDEV])
def test_a_file_system_without_links_will_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    """There LMDB makes the file under its own name."""

    def link(source: str, target: str) -> None:
        raise OSError(code, os.strerror(code), source, target)

    monkeypatch.setattr(os, "link", link)
    with varve.open(tmp_path / "store") as db:
        db.stream("notes", Note).append(1, Note(1, ""))
    assert_sound(tmp_path / "store")
    assert sorted(entry.name for entry in (tmp_path / "store").iterdir()) == ["data.mdb", "lock.mdb", "varve.lock"]


@pytest.mark.parametrize(("code", "error"), [(errno.ENOSPC, varve.DiskFull), (errno.EIO, varve.StoreUnavailable)])
def test_a_disk_that_fails_at_the_creation_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, error: type[varve.VarveError]
) -> None:
    """And leaves nothing: with room again the store is created."""

    def fsync(fd: int) -> None:
        if str(Path(f"/proc/self/fd/{fd}").readlink()).endswith(".new"):
            raise OSError(code, os.strerror(code))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fsync)
        with pytest.raises(error):
            varve.open(tmp_path / "store")
    assert not list((tmp_path / "store").glob("data.mdb*"))
    varve.open(tmp_path / "store").close()


def test_another_process_may_be_faster_at_any_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It removes what it takes for the remains of somebody who was killed: its own file will do."""
    path = tmp_path / "store"
    real = lmdb.Environment

    def slow(name: str, **options: Any) -> Any:
        if name.endswith(".new"):
            with monkeypatch.context() as patch:
                patch.setattr(lmdb, "Environment", real)
                varve.open(path).close()
            raise lmdb.Error(f"{name}: No such file or directory")
        return real(name, **options)

    monkeypatch.setattr(lmdb, "Environment", slow)
    with varve.open(path) as db:
        db.stream("notes", Note).append(1, Note(1, ""))
    assert_sound(path)


@pytest.mark.parametrize(("durability", "syncs"), [("full", 1), ("relaxed", 0)])
def test_an_empty_store_that_is_found_is_made_durable(
    varve_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Any, syncs: int
) -> None:
    """Its creator may have been killed while the disk was at it: a power cut would take back the uuid that the next one had
    been told. One that holds events has lived through more."""
    counted = []
    monkeypatch.setattr("varve.engine.core.Engine.sync", lambda engine: counted.append(engine.path))
    varve.open(varve_path).close()
    counted.clear()
    with varve.open(varve_path, durability=durability) as db:
        assert len(counted) == syncs
        db.stream("notes", Note).append(1, Note(1, ""))
    varve.open(varve_path, durability=durability).close()
    varve.open(varve_path, readonly=True).close()
    assert len(counted) == syncs
