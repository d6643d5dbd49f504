"""What the index said is remembered, and never believed: the block at that place says whose event it is."""

from __future__ import annotations

import enum
import gc
import pickle
import uuid
import zlib
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from engine_helpers import Mark, Note, raw_lmdb

import varve
from varve import limits
from varve.engine import checked
from varve.engine.located import KnownStream, KnownStreams
from varve.engine.snapshot import Snapshot
from varve.layout import keys
from varve.layout.block import Block
from varve.layout.runs import decode_runs, encode_runs

STREAMS = 30
ROUNDS = 40


def note(turn: int, stream_id: int) -> Note:
    return Note(turn, "x" * (8 * stream_id))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Streams that take turns: every run is one event, and an entry of the index is full."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        db.stream("notes", Note).append_many(
            [(stream_id, note(turn, stream_id)) for turn in range(ROUNDS) for stream_id in range(STREAMS)]
        )
    return tmp_path / "store"


@pytest.fixture
def db(path: Path) -> Iterator[varve.Varve]:
    with varve.open(path, durability="relaxed") as db:
        yield db


def no_index(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise AssertionError("the index was asked")

    monkeypatch.setattr(Snapshot, "find_event", refused)


def known_of(db: varve.Varve, stream_id: Any) -> KnownStream:
    return db._engine.known_streams.of("notes")[stream_id]


# -- single events -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stream_id", [7, "seven", uuid.UUID(int=7)])
def test_the_index_is_asked_once_for_an_entry(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch, stream_id: int | str | uuid.UUID
) -> None:
    notes = db.stream("notes", Note)
    if stream_id != 7:
        notes.append_batch(stream_id, [note(turn, 7) for turn in range(ROUNDS)])
    for at in (0, 35):  # one of each entry
        assert notes.reader().get(stream_id, at) == note(at, 7)
    for turn in range(ROUNDS):  # every block of the stream
        assert notes.reader().get(stream_id, turn) == note(turn, 7)
    no_index(monkeypatch)
    live = notes.reader()
    with db.snapshot() as snapshot:
        for reader in (live, snapshot.reader(notes)):
            list(reader.iter_stream(stream_id, 0, 1))  # the reader knows its types
            for at in (0, 1, 31, 32, ROUNDS - 1):
                if reader is live:
                    live._plain[0] = live._view(snapshot._snapshot, 0, 0)
                found = reader.get(stream_id, at)
                assert found == note(at, 7)
    with pytest.raises(AssertionError, match="the index was asked"):
        live.get(stream_id, ROUNDS)


def test_what_equals_an_id_is_no_id(db: varve.Varve) -> None:
    reader = db.stream("notes", Note).reader()
    assert reader.get(1, 3) == note(3, 1)

    class Number(enum.IntEnum):
        ONE = 1

    assert reader.get(Number.ONE, 3) == note(3, 1)
    assert reader.get("1", 3) is None
    for wrong in (True, 1.0, [1]):
        with pytest.raises(varve.InvalidStreamId):
            reader.get(wrong, 3)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]
    for sequence in (True, -1, 3.0):
        with pytest.raises(varve.InvalidInput):
            reader.get(1, sequence)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("inside", [True, False])
def test_what_is_remembered_wrongly_is_found_out_by_the_block(db: varve.Varve, inside: bool) -> None:
    notes = db.stream("notes", Note)
    with db.snapshot() as snapshot:
        reader = snapshot.reader(notes) if inside else notes.reader()
        for turn in range(ROUNDS):
            for stream_id in (3, 4):
                assert reader.get(stream_id, turn) == note(turn, stream_id)
        known, other = known_of(db, 3), known_of(db, 4)
        right = dict(known._entries)
        for wrong in (
            dict(other._entries),  # another stream's
            {position: (position, None, array("q", entry[2][::-1])) for position, entry in right.items()},
            {position: (position, None, array("q", [1 << 40] * 32)) for position in right},
        ):
            known._entries = dict(wrong)  # type: ignore[arg-type]
            for turn in range(ROUNDS):
                assert reader.get(3, turn) == note(turn, 3)


def test_an_index_that_is_wrong_is_told_behind_what_is_remembered(db: varve.Varve) -> None:
    reader = db.stream("notes", Note).reader()
    assert reader.get(5, 3) == note(3, 5)
    number = known_of(db, 5).number
    environment = db._engine.environment
    with environment.env.begin(write=True) as transaction:
        key = keys.stream_entry_key(number, 0)
        runs = decode_runs(transaction.get(key, db=environment.index) or b"")
        runs[3] = (runs[4][0] + 1, 1)
        transaction.put(key, encode_runs(runs), db=environment.index)
    assert reader.get(5, 3) == note(3, 5)  # by memory, and right
    db._engine.known_streams.of("notes").clear()
    for _ in range(2):
        with pytest.raises(varve.CorruptedStore, match="the index is wrong"):
            reader.get(5, 3)
    assert reader.get(5, 2) == note(2, 5)


def test_entries_grow_and_blocks_are_extended(tmp_path: Path) -> None:
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        notes = db.stream("notes", Note)
        reader = notes.reader()
        for turn in range(100):
            notes.append(turn % 2, note(turn, 0))
            for at in range(turn // 2 + 1):
                assert reader.get(turn % 2, at) == note(2 * at + turn % 2, 0)
            assert reader.get(turn % 2, turn // 2 + 1) is None
        assert sorted(known_of(db, 0)._entries) == known_of(db, 0)._positions == [0, 32]


def test_an_older_instant_does_not_see_what_a_newer_one_remembers(db: varve.Varve) -> None:
    notes = db.stream("notes", Note)
    with db.snapshot() as old, db.snapshot(at=STREAMS * 10) as limited:
        for reader, length in ((old.reader(notes), ROUNDS), (limited.reader(notes), 10)):
            position = notes.append(2, note(0, 2)).stream_sequence
            for turn in range(position + 1):
                assert notes.reader().get(2, turn) is not None
            assert reader.get(2, length - 1) == note(length - 1, 2)
            assert reader.get(2, length) is None
            assert reader.get(2, position) is None


def test_what_was_left_is_refused(path: Path) -> None:
    db = varve.open(path)
    notes = db.stream("notes", Note)
    live = notes.reader()
    snapshot = db.snapshot()
    inside = snapshot.reader(notes)
    for reader in (live, inside):
        assert [reader.get(1, 3) for _ in range(2)] == [note(3, 1)] * 2
    snapshot.close()
    with pytest.raises(varve.SnapshotClosed):
        inside.get(1, 3)
    db.close()
    for reader in (live, inside):
        with pytest.raises(varve.HandleUnusable):
            reader.get(1, 3)
    varve.open(path).close()  # nothing holds the map


def test_a_block_that_is_gone_is_told(db: varve.Varve) -> None:
    notes = db.stream("notes", Note)
    reader = notes.reader()
    assert [reader.get(1, 0) for _ in range(2)] == [note(0, 1)] * 2
    environment = db._engine.environment
    with environment.env.begin(write=True) as transaction:
        transaction.delete(keys.log_key(0), db=environment.log)
    with db.snapshot() as snapshot:
        for each in (reader, snapshot.reader(notes)):
            assert each.get(1, ROUNDS - 1) == note(ROUNDS - 1, 1)
            with pytest.raises(varve.CorruptedStore, match="no block holds global sequence"):
                each.get(1, 0)


@pytest.mark.parametrize("inside", [True, False])
def test_blocks_that_are_forgotten_are_looked_at_again(db: varve.Varve, inside: bool) -> None:
    notes = db.stream("notes", Note)
    with db.snapshot() as snapshot:
        reader = snapshot.reader(notes) if inside else notes.reader()
        for _ in range(3):
            assert reader.get(1, 3) == note(3, 1)
            checked = db._engine.checked
            checked._places, checked._firsts = {}, []


def test_large_events_are_pinned_as_ever(db: varve.Varve) -> None:
    notes = db.stream("notes", Note)
    large = Note(1, "x" * limits.COPIED_EVENT_BYTES_MAX)
    notes.append("large", large)
    reader = notes.reader()
    for _ in range(3):
        found = reader.get("large", 0)
        assert found == large
        assert isinstance(found._b, memoryview)  # type: ignore[union-attr] # pyright: ignore[reportOptionalMemberAccess,reportAttributeAccessIssue]


def test_events_that_are_made_of_others_take_the_long_way(db: varve.Varve) -> None:
    db.stream("notes", Note | Mark).append("mark", Mark(3))
    reader = db.stream("notes", Note).reader(unknown="event")
    for _ in range(3):
        found: Any = reader.get("mark", 0)
        assert isinstance(found, varve.UnknownEvent)
    strict = db.stream("notes", Note).reader()
    for _ in range(3):
        with pytest.raises(varve.UnexpectedEventType):
            strict.get("mark", 0)


def test_what_is_remembered_of_streams_is_bounded(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "KNOWN_INDEX_ENTRIES_MAX", 5)
    reader = db.stream("notes", Note).reader()
    streams = db._engine.known_streams
    for turn in (0, 35, 3):
        for stream_id in range(STREAMS):
            assert reader.get(stream_id, turn) == note(turn, stream_id)
            assert sum(len(known._entries) for known in streams.of("notes").values()) == streams._entries <= 5


def test_one_thread_at_a_time_remembers(db: varve.Varve) -> None:
    """And nobody waits: a finaliser may read in the middle of it."""
    streams = db._engine.known_streams
    with streams._adding:
        assert db.stream("notes", Note).reader().get(1, 3) == note(3, 1)
    assert not streams.of("notes")


def test_runs_that_only_a_damaged_index_has_are_not_remembered() -> None:
    streams = KnownStreams()
    for damaged in ([(1 << 63, 1)], [(1 << 63, 2)], [(1, 1), (2, (1 << 64) - 1)]):
        streams.add("notes", 1, 0, 0, damaged)
    assert not streams.of("notes")
    streams.add("notes", 1, 0, 0, [(5, 1)])
    assert streams.of("notes")[1].sequence(0) == 5


def test_a_known_stream_knows_its_entries_only() -> None:
    known = KnownStream(3)
    assert known.sequence(0) == -1
    assert known.keep(10, [(100, 1), (200, 1)])
    assert known.keep(20, [(300, 3), (400, 2)])
    assert not known.keep(10, [(100, 1), (200, 1), (250, 1)])  # it grew
    wanted = {10: 100, 11: 200, 12: 250, 20: 300, 21: 301, 22: 302, 23: 400, 24: 401}
    assert {at: found for at in range(30) if (found := known.sequence(at)) >= 0} == wanted
    known._positions.insert(0, 20)  # as another thread may see it
    assert known.sequence(25) == -1


# -- events here and there -----------------------------------------------------------------------------------------------


def block_firsts(path: Path) -> list[int]:
    with raw_lmdb(path) as (transaction, databases), transaction.cursor(databases["log"]) as cursor:
        return [keys.log_sequence(key) for key in cursor.iternext(values=False)]


def change_block(path: Path, first: int, change: Callable[[bytearray, Block], None], *, seal: bool) -> None:
    with raw_lmdb(path) as (transaction, databases):
        frame = bytearray(transaction.get(keys.log_key(first), db=databases["log"]))
        change(frame, Block(memoryview(bytes(frame))))
        if seal:
            frame[:4] = zlib.crc32(memoryview(frame)[4:]).to_bytes(4, "little")
        transaction.put(keys.log_key(first), bytes(frame), db=databases["log"])


def flip(frame: bytearray, _: Block) -> None:
    frame[-1] ^= 1


def ends_outside(frame: bytearray, block: Block) -> None:
    frame[block.ends_at : block.ends_at + 4 * block.count] = b"\xff\xff\xff\x7f" * block.count


def ends_far_away(frame: bytearray, block: Block) -> None:
    at = block._columns[6]
    far = len(frame) - 4 - at  # the table says that the column stands at the end
    for place in range(8, at, 4):
        if int.from_bytes(frame[place : place + 4], "little") + place == at:
            frame[place : place + 4] = (far + at - place).to_bytes(4, "little")
    frame[-4:] = block.count.to_bytes(4, "little")


def another_stream(frame: bytearray, block: Block) -> None:
    at = block._columns[2] + 4
    for run in range(block.count):
        frame[at + 4 * run : at + 4 * run + 4] = (29).to_bytes(4, "little")


@pytest.mark.parametrize(("change", "seal", "wanted"), [
    (flip, False, varve.CorruptedBlock),
    (ends_outside, True, varve.CorruptedBlock),
    (ends_far_away, True, varve.CorruptedBlock),
    (another_stream, True, varve.CorruptedStore),
])  # fmt: skip
@pytest.mark.parametrize("reverse", [False, True])
def test_what_stands_before_a_wrong_block_is_given(
    path: Path, change: Callable[[bytearray, Block], None], seal: bool, wanted: type[varve.VarveError], reverse: bool
) -> None:
    firsts = block_firsts(path)
    bad = firsts[len(firsts) // 2]
    change_block(path, bad, change, seal=seal)
    end = firsts[len(firsts) // 2 + 1]
    with varve.open(path) as db:
        for _ in range(2):
            given = []
            walk = db.stream("notes", Note).reader().iter_stream(1, reverse=reverse)
            with pytest.raises(wanted) as caught:
                for recorded in walk:
                    given.append(recorded.event.number)
            good = [
                turn for turn in range(ROUNDS) if (turn * STREAMS + 1 >= end if reverse else turn * STREAMS + 1 < bad)
            ]
            assert given == (good[::-1] if reverse else good)
            assert len(given) > 8
            del walk, recorded
            gc.collect()
            assert not db._engine.environment.pins.count, "an error that is kept holds the map"
            del caught


@pytest.mark.parametrize("pins", [limits.PINNED_SNAPSHOTS_MAX, 0])
def test_recorded_events_that_were_read_alone_are_whole(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch, pins: int
) -> None:
    """Also where no more snapshots can be pinned, so that blocks are copied."""
    monkeypatch.setattr(limits, "PINNED_SNAPSHOTS_MAX", pins)
    notes = db.stream("notes", Note | Mark)
    keeper = db._engine.environment.pins
    kept = keeper.pin(db._engine.environment.begin(), -1, lambda: 0) if not pins else None
    notes.append_many(
        [(number % 3, (Note(number, ""), Mark(number))[number % 2]) for number in range(60)], metadata={"a": 1}
    )
    for stream_id in (0, 2):
        walked = list(notes.reader().iter_stream(stream_id))
        assert [recorded.stream_sequence for recorded in walked] == list(range(len(walked)))
        for recorded in walked:
            single = db.global_reader().get(recorded.global_sequence)
            assert single is not None
            assert pickle.loads(pickle.dumps(recorded)) == recorded == single
            assert (recorded.raw, recorded.commit_sequence) == (single.raw, single.commit_sequence)
            assert recorded.metadata == single.metadata
            assert recorded.time_ns == single.time_ns
        assert list(notes.reader().iter_stream(stream_id, reverse=True)) == walked[::-1]
    del kept


def test_whoever_wants_the_first_event_does_not_wait_for_more(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks: list[bytes] = []
    real = checked.crc_holds

    def crc_holds(data: memoryview) -> bool:
        checks.append(bytes(data))
        return real(data)

    monkeypatch.setattr(checked, "crc_holds", crc_holds)
    with varve.open(path, readonly=True) as db:
        walk = db.stream("notes", Note).reader().iter_stream(1)
        assert next(walk).event == note(0, 1)
        assert 0 < len(checks) <= 4
        assert len(list(walk)) == ROUNDS - 1
        assert len(checks) == len(set(checks)) > 8


def test_the_last_bytes_of_a_log(db: varve.Varve) -> None:
    """Few events of a log are looked up one by one there, too."""
    reader = db.global_reader()
    for few in (1, 3, 4, 5):
        start = STREAMS * ROUNDS - few
        wanted = [recorded.raw for recorded in reader.iter_from(start)]
        assert [bytes(raw) for raw in reader.iter_bytes(start)] == [bytes(raw) for raw in wanted]
        assert len(wanted) == few


def test_runs_of_a_few_events_and_of_many(tmp_path: Path) -> None:
    """Pieces of the index that have both; either direction, any bounds."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        notes, marks = db.stream("notes", Note), db.stream("marks", Mark)
        wanted: list[int] = []
        for turn in range(120):
            count = (1, 1, 3, 4, 5, 40)[turn % 6] if turn < 60 else 1
            notes.append_batch(1, [Note(len(wanted) + at, "") for at in range(count)])
            wanted += range(len(wanted), len(wanted) + count)
            marks.append(turn, Mark(turn))
        reader = notes.reader()
        for read in (reader.iter_stream, lambda _, *bounds, **way: reader.iter_all(*bounds, **way)):
            for low, high in ((0, None), (0, 7), (3, 200), (111, 112), (500, None)):
                if read is not reader.iter_stream and (low or high):
                    continue
                numbers = [recorded.event.number for recorded in read(1, low, high)]
                assert numbers == wanted[low:high]
                assert [recorded.event.number for recorded in read(1, low, high, reverse=True)] == numbers[::-1]
