"""Pages of LMDB have no checksums, blocks of the log have: what index and metadata say is held against them, and against each
other, before an event is given to anybody."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import Note, raw_lmdb

import varve
from varve.errors import CorruptedStore
from varve.layout import keys, records, runs

A, B = keys.encode_stream_id("a"), keys.encode_stream_id("b")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Two streams of one name and one of another, of one type."""
    path = tmp_path / "store"
    with varve.open(path, durability="relaxed") as db:
        notes, others = db.stream("notes", Note), db.stream("others", Note)
        for number in range(3):
            notes.append("a", Note(number, "a"))
            notes.append("b", Note(number, "b"))
            others.append("a", Note(number, "other"))
    return path


def put(path: Path, table: str, key: bytes, value: bytes) -> None:
    with raw_lmdb(path) as (transaction, databases):
        assert transaction.get(key, db=databases[table]) not in {None, value}
        transaction.put(key, value, db=databases[table])


STREAM_READS: dict[str, Callable[[Any], Any]] = {
    "get": lambda reader: reader.get("a", 0),
    "get_bytes": lambda reader: reader.get_bytes("a", 0),
    "get_recorded": lambda reader: reader.get_recorded("a", 0),
    "iter_stream": lambda reader: list(reader.iter_stream("a")),
    "backwards": lambda reader: list(reader.iter_stream("a", reverse=True)),
}


@pytest.mark.parametrize("read", STREAM_READS.values(), ids=STREAM_READS.keys())
@pytest.mark.parametrize("shifted", [[(1, 1), (4, 1), (7, 1)], [(3, 1), (0, 1), (6, 1)]], ids=["stream", "sequence"])
def test_an_index_that_names_another_event_is_found_out(
    store: Path, read: Callable[[Any], Any], shifted: list[runs.Run]
) -> None:
    """Another stream's event of the same type, or another one of the same stream, was returned as the one asked for."""
    put(store, "index", keys.stream_entry_key(0, 0), runs.encode_runs(shifted))
    with varve.open(store) as db, pytest.raises(CorruptedStore, match="the index is wrong"):
        read(db.stream("notes", Note).reader())


def test_what_the_index_rightly_says_is_read_all_the_same(store: Path) -> None:
    """The checks are met by every event of a sound store."""
    with varve.open(store) as db:
        reader = db.stream("notes", Note).reader()
        for read in STREAM_READS.values():
            assert read(reader)
        assert [event.event.text for event in reader.iter_all()] == ["a", "b"] * 3


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        ([(0, 3), (3, 2), (6, 2)], "the index is wrong"),
        ([(0, 2), (6, 2), (3, 2)], "in order"),
        ([(0, 0), (3, 2), (6, 2)], "in order"),
        ([(1, 1), (3, 2), (6, 2)], "in order"),
    ],
    ids=["another name's", "order", "nothing", "first"],
)
def test_an_index_of_names_that_is_wrong_is_found_out(
    store: Path, damaged: list[runs.Run], reason: str, reverse: bool
) -> None:
    """It gave events of other names, twice, or went round in circles."""
    put(store, "index", keys.name_entry_key(0, 0), runs.encode_runs(damaged))
    with varve.open(store) as db, pytest.raises(CorruptedStore, match=reason):
        list(db.stream("notes", Note).reader().iter_all(reverse=reverse))


@pytest.mark.parametrize("value", [b"", bytes(13)], ids=["empty", "cut"])
def test_an_entry_that_is_none_is_told_with_a_type(store: Path, value: bytes) -> None:
    """Once struct.error or IndexError."""
    put(store, "index", keys.stream_entry_key(0, 0), value)
    with varve.open(store) as db, pytest.raises(CorruptedStore, match="damaged record"):
        list(db.stream("notes", Note).reader().iter_stream("a"))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (keys.stream_lookup_key(0, A), records.encode_stream_number(1)),
        (keys.stream_key(0), records.encode_stream(0, B)),
        (keys.stream_key(0), records.encode_stream(0, b"\x02A")),
        (keys.name_lookup_key("notes"), records.encode_name_number(1)),
        (keys.name_key(0), b"motes"),
        (keys.name_key(0), b"\xff"),
        (keys.type_key(0), records.TypeRecord("Mote", b"{}").encode()),
        (keys.stream_lookup_key(0, A), b"\x00"),
        (keys.STORE_RECORD_KEY, b"VRV1"),
    ],
)
def test_records_that_contradict_each_other_are_found_out(store: Path, key: bytes, value: bytes) -> None:
    """What a number means is stored in both directions: events of a stream were given under the name or id of another."""
    put(store, "meta", key, value)
    with pytest.raises(CorruptedStore), varve.open(store) as db:
        list(db.global_reader().iter_from(0))
        list(db.stream("notes", Note).reader().iter_stream("a"))


def test_a_damaged_page_of_metadata_is_told_at_open(store: Path) -> None:
    """Once lmdb.CorruptedError: the first thing that is read was read without care."""
    data = bytearray((store / "data.mdb").read_bytes())
    with raw_lmdb(store, write=False) as (transaction, databases):
        assert transaction.stat(databases["meta"])["depth"] == 1
    pages = [at for at in range(0, len(data), 4096) if b"VRV1" + struct.pack("<I", 1) in data[at : at + 4096]]
    for at in pages[0:]:
        if at > 4096:
            data[at + 10 : at + 12] = b"\x01\x00"  # a branch page, of nothing
    (store / "data.mdb").write_bytes(data)
    with pytest.raises(CorruptedStore):
        varve.open(store).close()
