"""One instant of a file that others may be changing: both its meta pages, its reader, its copy."""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import Note

import varve
from varve import ops
from varve.engine import files, instant
from varve.engine.instant import Instant
from varve.engine.pages import NO_PAGE, DamagedPage, Meta, Tree

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        db.stream("notes", Note).append_batch(1, [Note(n, "text") for n in range(100)])
    return tmp_path / "store"


def newest(path: Path) -> Meta:
    with (path / "data.mdb").open("rb") as file:
        return files.newest_meta(file.fileno(), str(path))


def test_a_file_that_cannot_be_opened_is_unavailable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says is told as ours."""

    def fail(where: str) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO), where)

    monkeypatch.setattr(files, "open_data", fail)
    with pytest.raises(varve.StoreUnavailable) as caught:
        Instant(str(path))
    assert isinstance(caught.value.__cause__, OSError)


def test_a_meta_page_that_is_being_written_is_no_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A writer was in the middle of one page: it is looked at again, and both are sound."""
    real = files.metas
    looks: list[int] = []

    def torn(fd: int) -> list[Meta | DamagedPage]:
        looks.append(fd)
        found = real(fd)
        return [DamagedPage(0, "half of it is written"), found[1]] if len(looks) == 1 else found

    monkeypatch.setattr(files, "metas", torn)
    with Instant(str(path)) as one:
        assert one.damage is None
        assert one.file.meta == newest(path)
    assert len(looks) > 1


def test_commits_between_the_reader_and_its_meta_page_begin_it_anew(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reader belongs to a transaction whose meta page two later ones have replaced meanwhile: another reader is taken."""
    real = instant.parse_meta
    looks: list[int] = []

    def later(page: bytes, number: int) -> Meta:
        looks.append(number)
        meta = real(page, number)
        return meta._replace(transaction=meta.transaction + 2) if len(looks) <= 2 else meta

    monkeypatch.setattr(instant, "parse_meta", later)
    with Instant(str(path)) as one:
        assert one.file.meta == newest(path)
        assert dict(one.file.items(one.file.tables()[b"varve.log"]))
    assert looks[:3] == [0, 1, 0]


def changing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file looks as if somebody wrote to it all the time."""
    real = files.metas
    looks: list[int] = []

    def metas(fd: int) -> list[Any]:
        looks.append(fd)
        return [*real(fd), len(looks)]

    monkeypatch.setattr(files, "metas", metas)


def test_the_copy_of_an_instant_is_sound(path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its meta pages are this instant's and one that is older: LMDB's verifier reads the same pairs out of it."""
    copies: list[bytes] = []
    real: Callable[[str], list[str]] = instant._verified

    def verified(data: str) -> list[str]:
        copies.append(Path(data).read_bytes())
        return real(data)

    with Instant(str(path)) as one:
        changing(monkeypatch)
        monkeypatch.setattr(instant, "_verified", verified)
        assert one.structure(str(tmp_path)) == []
        monkeypatch.undo()
        meta = one.file.meta
    original, copy = copies
    assert copy[2 * PAGE :] == original[2 * PAGE : (meta.last_page + 1) * PAGE]
    assert instant.parse_meta(copy[meta.transaction % 2 * PAGE :][:PAGE], meta.transaction % 2) == meta
    older = instant.parse_meta(copy[(meta.transaction + 1) % 2 * PAGE :][:PAGE], (meta.transaction + 1) % 2)
    assert older == meta._replace(transaction=meta.transaction - 1)


def test_a_folder_for_copies_that_is_not_there_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is no want of room."""
    with Instant(str(path)) as one:
        changing(monkeypatch)
        with pytest.raises(varve.InvalidInput, match="nowhere"):
            one.structure(str(tmp_path / "nowhere"))


def leaf(number: int, key: bytes, tree: bytes) -> bytes:
    """A leaf page that holds a sub-database and nothing else."""
    at = PAGE - (8 + len(key) + len(tree) + 1) // 2 * 2
    head = struct.pack("<QHHHHH", number, 0, 2, 18, at, at)
    node = struct.pack("<HHHH", len(tree), 0, 2, len(key)) + key + tree
    return head + bytes(at - len(head)) + node.ljust(PAGE - at, b"\0")


def test_sub_databases_that_lie_in_one_another_without_end_are_a_finding(path: Path) -> None:
    """LMDB's verifier calls itself for each of them."""
    data = bytearray((path / "data.mdb").read_bytes())
    meta = newest(path)
    first = len(data) // PAGE
    for number in range(first, first + 3_000):
        data += leaf(number, b"k", struct.pack("<IHH5Q", 0, 0, 1, 0, 1, 0, 1, number + 1))
    at = (meta.transaction & 1) * PAGE
    struct.pack_into("<IHH5Q", data, at + 88, 0, 0, 1, 0, 1, 0, 1, first)  # the main tree begins there
    struct.pack_into("<Q", data, at + 136, first + 2_999)
    (path / "data.mdb").write_bytes(data)
    with Instant(str(path)) as one:
        assert one.structure() == ["sub-databases lie in one another without end"]


def test_numbers_of_meta_pages_are_not_judged_while_somebody_commits(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read may be of two commits then; and of one page alone nothing can be said."""
    slot = newest(path).transaction & 1
    data = bytearray((path / "data.mdb").read_bytes())
    struct.pack_into("<Q", data, slot * PAGE + 144, slot)
    (path / "data.mdb").write_bytes(data)
    with (path / "data.mdb").open("rb") as file:
        fd = file.fileno()
        assert files.misnumbered(fd) is not None
        real = files.metas
        looks: list[list[Meta | DamagedPage]] = [real(fd)[::-1], real(fd)]
        monkeypatch.setattr(files, "metas", lambda _: looks.pop())
        assert files.misnumbered(fd) is None
        assert looks == []
        looks.append([DamagedPage(0, "torn"), real(fd)[1]])
        assert files.misnumbered(fd) is None


def test_the_last_commit_that_freed_pages(path: Path) -> None:
    """It is the commit of the meta page itself; in a tree of several levels, of none, and of damaged pages."""
    with Instant(str(path)) as one:
        assert one.file.freed_last() == one.file.meta.transaction
        one.file.meta = one.file.meta._replace(free=Tree(0, 0, NO_PAGE))
        assert one.file.freed_last() is None
        one.file.meta = one.file.meta._replace(free=Tree(1, 1, 0))
        assert one.file.freed_last() is None


def test_the_last_commit_that_freed_pages_in_a_tree_of_levels(tmp_path: Path) -> None:
    """A reader that holds on to its instant makes the list long."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        notes = db.stream("notes", Note)
        with db.snapshot():
            for n in range(400):
                notes.append(n % 7, Note(n, "text"))
    with Instant(str(tmp_path / "store")) as one:
        assert one.file.meta.free.depth > 1
        assert one.misnumbered is None
        assert one.file.freed_last() == one.file.meta.transaction


@pytest.mark.parametrize("events", [1, 4_000], ids=["in pages that were free", "behind the end of the file"])
def test_what_lmdb_leaves_of_a_commit_whose_last_write_failed_is_no_damage(tmp_path: Path, events: int) -> None:
    """It puts the number and the end of the file back, and leaves the trees of the failed commit: a store whose disk once
    refused a meta page was called corrupted ever after, by opening, verification or both."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        for n in range(12):
            db.stream("notes", Note).append(1, Note(n, "text" * 200))
    before = (path / "data.mdb").read_bytes()
    with varve.open(path, durability="relaxed") as db:
        db.stream("notes", Note).append_batch(1, [Note(n, "more" * 20) for n in range(events)])
    failed = newest(path)
    at = (failed.transaction & 1) * PAGE
    undone = bytearray((path / "data.mdb").read_bytes())
    undone[at + 136 : at + 152] = before[at + 136 : at + 152]
    (path / "data.mdb").write_bytes(undone)
    report = ops.verify(path)
    assert (report.findings, report.events) == ((), 12)
    with varve.open(path, trust=False) as db:
        assert db.next_global_sequence == 12
        db.stream("notes", Note).append(1, Note(12, "again"))
    assert ops.verify(path).sound
    assert newest(path).transaction >= failed.transaction


def test_trees_that_lead_nowhere_are_damage_in_the_newer_page(path: Path) -> None:
    """What LMDB reads, it must be able to read; and of two damaged pages none is the older."""
    data = bytearray((path / "data.mdb").read_bytes())
    slot = newest(path).transaction & 1
    for page, damaged in ((1 - slot, False), (slot, True), (1 - slot, True)):
        changed = bytearray(data)
        struct.pack_into("<Q", changed, page * PAGE + 128, 2**40)  # its main tree's root
        if page != slot and damaged:  # the older one, with a number that is not the one before the newer's
            struct.pack_into("<Q", changed, page * PAGE + 144, 1 - slot)
        (path / "data.mdb").write_bytes(changed)
        with (path / "data.mdb").open("rb") as file:
            found = files.metas(file.fileno())
        assert isinstance(found[page], DamagedPage) == damaged
        assert isinstance(found[1 - page], Meta)
        if damaged:
            with pytest.raises(varve.CorruptedStore):
                varve.open(path)


def test_pages_that_the_disk_does_not_give_are_damage(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Meta pages, and what LMDB's own verifier reads."""
    broken = OSError(errno.EIO, os.strerror(errno.EIO))

    def fail(*_: Any, **__: Any) -> Any:
        raise broken

    monkeypatch.setattr(instant, "verify", fail)
    with Instant(str(path)) as one:
        assert one.structure() == [f"a page cannot be read: {os.strerror(errno.EIO)}"]
    with (path / "data.mdb").open("rb") as file:
        monkeypatch.setattr(os, "pread", fail)
        assert [str(page) for page in files.metas(file.fileno())] == [
            f"page {number}: it cannot be read: {os.strerror(errno.EIO)}" for number in (0, 1)
        ]


def test_a_copy_that_fails_for_another_reason_than_room_is_told_as_it_is(
    path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The folder for copies is not what is wrong then."""

    def fail(*_: Any) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with Instant(str(path)) as one:
        changing(monkeypatch)
        monkeypatch.setattr(Instant, "_copy", fail)
        with pytest.raises(OSError, match=os.strerror(errno.EIO)):
            one.structure(str(tmp_path))
