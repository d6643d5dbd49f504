"""``varve.ops.verify`` finds planted damage; ``repair`` mends what the log can mend."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb
import pytest
from damage import Noted, overwrite

import varve
from varve import ops
from varve.engine import files
from varve.engine.instant import contents
from varve.layout import keys


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A closed store of several names, ids, keys, metadata and blocks."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes, other = db.stream("notes", Noted), db.stream("other", Noted)
        for n in range(40):
            notes.append(n % 5, Noted(n, f"find note {n}"), metadata={"n": n}, idempotency_key=f"key-{n}")
        other.append_batch("big", [Noted(n, "b" * 50) for n in range(2_000)], idempotency_key=b"batch")
        notes.append_many([(n % 7, Noted(n, "last")) for n in range(100)])
    return path


def change(path: Path, database: str, edit: Callable[[Any, Any], None]) -> None:
    """Edit one sub-database below Varve."""
    with lmdb.open(str(path), max_dbs=16, map_size=2**30, lib_version=0) as env:
        db = env.open_db(b"varve." + database.encode(), create=False)
        with env.begin(write=True) as transaction:
            edit(transaction, db)


def everything(path: Path) -> list[Any]:
    with varve.open(path, readonly=True) as db:
        return [
            (r.stream, r.stream_id, r.stream_sequence, varve.to_dict(r.event), r.metadata)
            for r in db.global_reader().iter_from(0)
        ]


def first_key(transaction: Any, db: Any, prefix: bytes) -> bytes:
    with transaction.cursor(db) as cursor:
        assert cursor.set_range(prefix)
        assert cursor.key().startswith(prefix)
        return bytes(cursor.key())


def alter(prefix: bytes) -> Callable[[Any, Any], None]:
    """Flip a byte at the end of the first value under a prefix."""

    def edit(transaction: Any, db: Any) -> None:
        key = first_key(transaction, db, prefix)
        value = bytearray(transaction.get(key, db=db))
        value[-1] ^= 1
        transaction.put(key, bytes(value), db=db)

    return edit


def remove(prefix: bytes) -> Callable[[Any, Any], None]:
    def edit(transaction: Any, db: Any) -> None:
        assert transaction.delete(first_key(transaction, db, prefix), db=db)

    return edit


def add(key: bytes) -> Callable[[Any, Any], None]:
    def edit(transaction: Any, db: Any) -> None:
        assert transaction.put(key, b"12345678", db=db, overwrite=False)

    return edit


PLANTED = {
    "a stream's index entry altered": ("index", alter(b"\x01")),
    "a stream's index entry missing": ("index", remove(b"\x01")),
    "a name's index entry altered": ("index", alter(b"\x02")),
    "a name's index entry missing": ("index", remove(b"\x02")),
    "an index entry too many": ("index", add(keys.stream_entry_key(3, 2**40))),
    "the last index entry too many": ("index", add(b"\xff" * 9)),
    **{f"meta record {tag} altered": ("meta", alter(bytes([tag]))) for tag in range(1, 8)},
    **{f"meta record {tag} missing": ("meta", remove(bytes([tag]))) for tag in range(1, 8)},
    "a meta record too many": ("meta", add(keys.idempotency_key(b"\x01never"))),
    "the store's record altered": ("meta", alter(b"\x00")),
}


def test_a_sound_store_has_no_findings(path: Path) -> None:
    """And checking changes no byte of it."""
    before = (path / "data.mdb").read_bytes()
    report = ops.verify(path)
    assert report.sound
    assert report.findings == ()
    assert (path / "data.mdb").read_bytes() == before


def test_an_empty_store_is_sound(tmp_path: Path) -> None:
    """Nothing was ever appended."""
    varve.open(tmp_path / "store").close()
    assert ops.verify(tmp_path / "store").sound


@pytest.mark.parametrize("planted", PLANTED)
def test_damage_to_index_and_metadata_is_found_and_mended(path: Path, tmp_path: Path, planted: str) -> None:
    """Each kind of pair, altered, missing or too many: told with its place; a rebuild gives back the store as it was."""
    good, log = contents(str(path)), everything(path)
    database, edit = PLANTED[planted]
    change(path, database, edit)
    report = ops.verify(path)
    assert not report.sound
    assert any(finding.where == database for finding in report.findings), report.findings
    rebuilt = ops.repair(path, tmp_path / "rebuilt")
    assert rebuilt.events == len(log)
    assert ops.verify(tmp_path / "rebuilt").sound
    assert contents(str(tmp_path / "rebuilt")) == good
    assert everything(tmp_path / "rebuilt") == log


@pytest.mark.parametrize("which", ["first", "last"])
def test_a_flipped_byte_in_a_block_is_found(path: Path, tmp_path: Path, which: str) -> None:
    """Told with the block's position; a rebuild refuses to carry it over and leaves nothing behind."""

    def edit(transaction: Any, db: Any) -> None:
        with transaction.cursor(db) as cursor:
            assert cursor.first() if which == "first" else cursor.last()
            value = bytearray(cursor.value())
            value[len(value) // 2] ^= 1
            cursor.put(cursor.key(), bytes(value))

    change(path, "log", edit)
    [finding] = ops.verify(path).findings
    assert (finding.where, finding.kind) == ("log", "checksum")
    assert str(finding.sequence) in str(finding)
    with pytest.raises(varve.CorruptedBlock):
        ops.repair(path, tmp_path / "rebuilt")
    assert [p.name for p in tmp_path.iterdir()] == ["store"]


def test_a_missing_block_is_found(path: Path) -> None:
    """A gap in the log is not a log."""

    def edit(transaction: Any, db: Any) -> None:
        with transaction.cursor(db) as cursor:
            assert cursor.first()
            assert cursor.next()
            cursor.delete()

    change(path, "log", edit)
    [finding] = ops.verify(path).findings
    assert (finding.where, finding.kind) == ("log", "gap")


def test_a_damaged_page_is_found(path: Path) -> None:
    """LMDB's own structure is looked at first."""
    raw = bytearray((path / "data.mdb").read_bytes())
    for page in range(2, len(raw) // 4096):
        raw[page * 4096 + 10 : page * 4096 + 16] = b"\xff" * 6
    (path / "data.mdb").write_bytes(raw)
    report = ops.verify(path)
    assert not report.sound
    assert {finding.where for finding in report.findings} == {"structure"}
    assert report.not_checked


def test_a_rebuild_keeps_the_log_byte_for_byte(path: Path, tmp_path: Path) -> None:
    """The same pairs in all three sub-databases; keys still replay; it tells its progress and what it did."""
    seen: list[tuple[int, int]] = []
    report = ops.repair(path, tmp_path / "new", progress=lambda *done: seen.append(done))
    assert seen == sorted(seen)
    assert {total for _, total in seen} == {2_140}
    assert report.events == seen[-1][0] == 2_140
    assert report.blocks == len(contents(str(path))["log"])
    assert contents(str(tmp_path / "new")) == contents(str(path))
    with varve.open(tmp_path / "new", durability="relaxed") as db:
        notes = db.stream("notes", Noted)
        again = notes.append(0, Noted(0, "find note 0"), metadata={"n": 0}, idempotency_key="key-0")
        assert again.replayed
        assert notes.append(0, Noted(1, "goes on")).global_sequence == 2_140
    assert ops.verify(tmp_path / "new").sound


def test_an_empty_store_is_rebuilt(tmp_path: Path) -> None:
    """It keeps its identity."""
    with varve.open(tmp_path / "old") as db:
        ident = db.uuid
    assert ops.repair(tmp_path / "old", tmp_path / "new").events == 0
    with varve.open(tmp_path / "new") as db:
        assert db.uuid == ident


def test_a_rebuild_never_works_in_place(path: Path, tmp_path: Path) -> None:
    """The target must not exist; the source must, and must not be open here."""
    with pytest.raises(varve.InvalidInput):
        ops.repair(path, path)
    with pytest.raises(varve.StoreNotFound):
        ops.repair(tmp_path / "missing", tmp_path / "new")
    with varve.open(path), pytest.raises(varve.StoreAlreadyOpen):
        ops.repair(path, tmp_path / "new")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["store"]
    with pytest.raises(varve.StoreNotFound):
        ops.verify(tmp_path / "missing")


def test_views_that_outlive_their_store_do_not_hinder(path: Path, tmp_path: Path) -> None:
    """A store whose with block was left while views of it live is verified and repaired; the views stay as they are."""
    with varve.open(path) as db:
        view = db.stream("notes", Noted).reader().get_bytes(0, 0)
    assert view is not None
    before = bytes(view)
    assert ops.verify(path).sound
    assert ops.repair(path, tmp_path / "new").events == 2_140
    assert bytes(view) == before
    with varve.open(path), pytest.raises(varve.StoreAlreadyOpen):
        ops.verify(path)


def numbered(path: Path, slot: int, number: int) -> None:
    """Give a meta page another transaction number."""
    overwrite(path, slot * 4096 + 144, number.to_bytes(8, "little"))


@pytest.mark.parametrize(
    ("which", "change"),
    [("newer", -4), ("newer", -1_000_000), ("newer", 2), ("newer", 64), ("older", 2), ("older", 1024)],
)
def test_a_meta_page_with_the_wrong_number_hides_no_commit(path: Path, tmp_path: Path, which: str, change: int) -> None:
    """LMDB takes the page with the greater number: with the wrong one it goes back by a commit, and nothing looks damaged."""
    before = everything(path)
    with (path / "data.mdb").open("rb") as file:
        newest = files.newest_meta(file.fileno(), "").transaction
    number = newest if which == "newer" else newest - 1
    numbered(path, number & 1, max(number + change, number & 1))
    report = ops.verify(path)
    assert [(finding.where, finding.kind) for finding in report.findings] == [("structure", "page")]
    assert f"is of {number}" in report.findings[0].message
    assert report.events == len(before)
    with pytest.raises(varve.CorruptedStore):
        varve.open(path, trust=False)
    for salvage in (False, True):
        made = ops.repair(path, tmp_path / f"salvage {salvage}", salvage=salvage)
        assert any(f"is of {number}" in note for note in made.notes)
        assert everything(tmp_path / f"salvage {salvage}") == before
    with varve.open(path, readonly=True), pytest.raises(varve.StoreAlreadyOpen):
        ops.verify(path)
