"""Blocks of which few events are wanted: they are looked up one by one, and remembered without their frame."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import Mark, Note

import varve
from varve import limits
from varve.engine.checked import CheckedBlocks
from varve.layout import keys
from varve.layout.block import Block
from varve.layout.runs import decode_runs, encode_runs

STREAMS = 40
ROUNDS = 30


@pytest.fixture
def db(tmp_path: Path) -> Iterator[varve.Varve]:
    """Two names whose streams take turns, over some dozens of blocks."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        notes, marks = db.stream("notes", Note | Mark), db.stream("marks", Mark)
        with db.transaction() as tx:
            for turn in range(ROUNDS):
                for stream_id in range(STREAMS):
                    event = Mark(turn) if (turn + stream_id) % 7 == 0 else Note(turn, "x" * (stream_id * 5))
                    tx.append(notes, stream_id, event)
                if turn % 3 == 0:
                    tx.append_batch(marks, 0, [Mark(turn), Mark(turn)])
        yield db


def events(db: varve.Varve) -> Any:
    return db.stream("notes", Note | Mark).reader()


def wanted(stream_id: int) -> list[Note | Mark]:
    return [Mark(turn) if (turn + stream_id) % 7 == 0 else Note(turn, "x" * (stream_id * 5)) for turn in range(ROUNDS)]


def change_index(db: varve.Varve, key: bytes, change: Callable[[list[tuple[int, int]]], list[tuple[int, int]]]) -> None:
    """Change an entry behind the library's back, while the store is open."""
    environment = db._engine.environment
    with environment.env.begin(write=True) as transaction:
        runs = decode_runs(transaction.get(key, db=environment.index))
        transaction.put(key, encode_runs(change(runs)), db=environment.index)


@pytest.mark.parametrize("turn", ["unknown", "known"])
def test_a_stream_that_has_an_event_here_and_there(db: varve.Varve, turn: str) -> None:
    """Either direction, any bounds, at the first touch of the blocks and later."""
    reader = events(db)
    for stream_id in range(STREAMS) if turn == "known" else ():
        list(reader.iter_stream(stream_id))
    for stream_id in (0, 1, 7, STREAMS - 1):
        walked = list(reader.iter_stream(stream_id))
        assert [recorded.event for recorded in walked] == wanted(stream_id)
        assert [recorded.stream_sequence for recorded in walked] == list(range(ROUNDS))
        for recorded in walked:
            single = db.global_reader().get(recorded.global_sequence)
            assert single == recorded
            assert (single.raw, single.type, single.commit_sequence) == (recorded.raw, recorded.type, 0)
        assert list(reader.iter_stream(stream_id, reverse=True)) == walked[::-1]
        assert list(reader.iter_stream(stream_id, 3, 11)) == walked[3:11]
        assert [reader.get(stream_id, at) for at in range(ROUNDS)] == wanted(stream_id)


def test_names_that_take_turns(db: varve.Varve) -> None:
    marks = [recorded.event.number for recorded in db.stream("marks", Mark).reader().iter_all()]
    assert marks == [turn for turn in range(0, ROUNDS, 3) for _ in range(2)]
    backwards = list(db.global_reader().iter_from(streams=["marks"], reverse=True))
    assert [recorded.event.number for recorded in backwards] == marks[::-1]
    only_notes = list(db.global_reader().iter_from(streams=["marks"], types=[Note]))
    assert only_notes == []


def test_an_index_that_names_another_streams_event_is_told(db: varve.Varve) -> None:
    reader = events(db)
    number = next(n for n, identity in all_streams(db).items() if identity == ("notes", 5))
    change_index(db, keys.stream_entry_key(number, 0), lambda runs: [*runs[:4], (runs[4][0] + 1, 1), *runs[5:]])
    assert reader.get(5, 3) == wanted(5)[3]
    for read in (
        lambda: list(reader.iter_stream(5)),
        lambda: list(reader.iter_stream(5, reverse=True)),
        lambda: reader.get(5, 4),
    ):
        for _ in range(2):
            with pytest.raises(varve.CorruptedStore, match="the index is wrong"):
                read()
    assert [recorded.event for recorded in reader.iter_stream(6)] == wanted(6)


def test_an_index_that_names_another_names_event_is_told(db: varve.Varve) -> None:
    list(db.stream("marks", Mark).reader().iter_all())  # so that the catalog knows the name
    number = db._engine.catalog._name_numbers["marks"]
    environment = db._engine.environment
    with environment.env.begin() as transaction, transaction.cursor(environment.index) as cursor:
        assert cursor.set_range(keys.name_entry_key(number, 0))
        key = bytes(cursor.key())
    change_index(db, key, lambda runs: [runs[0], (runs[1][0] - 1, 2), *runs[2:]])
    with pytest.raises(varve.CorruptedStore, match="the index is wrong"):
        list(db.global_reader().iter_from(streams=["marks"]))


def test_a_tail_that_grows_is_looked_at_again(tmp_path: Path) -> None:
    """What is remembered of a block is of one frame: one that was extended since, or an older one in an old snapshot."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        notes = db.stream("notes", Note)
        for number in range(3):
            notes.append(number % 2, Note(number, "a"))
        old = db.snapshot()
        old_reader = old.reader(notes)
        for number in range(3, 30):
            assert old_reader.get(0, 1) == Note(2, "a")
            assert old_reader.get(0, 2) is None
            notes.append(number % 2, Note(number, "a"))
            assert notes.reader().get(number % 2, number // 2) == Note(number, "a")
            assert [recorded.event.number for recorded in notes.reader().iter_stream(0)] == list(
                range(0, number + 1, 2)
            )
            assert [recorded.event.number for recorded in old_reader.iter_stream(0)] == [0, 2]
        old.close()


def test_what_is_remembered_is_bounded(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CHECKED_BLOCKS_MAX", 3)
    reader = events(db)
    checked = db._engine.checked
    for stream_id in (0, 9):
        assert [recorded.event for recorded in reader.iter_stream(stream_id)] == wanted(stream_id)
        assert len(checked._places) <= 3
        assert checked._firsts == sorted(checked._places)


def test_a_block_is_found_by_any_of_its_events(db: varve.Varve) -> None:
    checked = CheckedBlocks()
    with db._engine.snapshot() as snapshot:
        blocks: list[Block] = list(snapshot.blocks(0, snapshot.next_sequence))
    chosen = blocks[1::2]
    for block in reversed(chosen):
        checked.remember(block.places())
        checked.remember(block.places())
    for block in blocks:
        for sequence in (block.first, block.end - 1):
            places = checked.holding(sequence)
            assert (None if places is None else places.first) == (block.first if block in chosen else None)
    assert checked.holding(blocks[-1].end) is None
    assert CheckedBlocks().holding(0) is None


def all_streams(db: varve.Varve) -> dict[int, Any]:
    list(db.global_reader().iter_from())
    return db._engine.catalog.streams


def test_a_block_whose_runs_do_not_add_up_is_corrupted(tmp_path: Path) -> None:
    """Whoever wrote it gave it a checksum that holds."""
    with varve.open(tmp_path / "odd", durability="relaxed") as db:
        marks = db.stream("marks", Mark)
        marks.append_many([(number % 3, Mark(number)) for number in range(30)])
        environment = db._engine.environment
        with environment.env.begin(write=True) as transaction:
            frame = bytearray(transaction.get(keys.log_key(0), db=environment.log) or b"")
            counts = bytes(Block(memoryview(frame)).column("run_counts").cast("B"))
            place = bytes(frame).index((30).to_bytes(4, "little") + counts) + 4
            frame[place] = 2
            frame[:4] = zlib.crc32(frame[4:]).to_bytes(4, "little")
            transaction.put(keys.log_key(0), bytes(frame), db=environment.log)
        with pytest.raises(varve.CorruptedBlock, match="not of all its events"):
            list(marks.reader().iter_stream(1, 0, 1))
        with pytest.raises(varve.CorruptedBlock, match="not of all its events"):
            list(marks.reader().iter_all(29))
