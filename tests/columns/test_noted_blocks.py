"""What ``reader.columns`` remembers of checked blocks: the same arrays again, and never of a block that has changed."""

from __future__ import annotations

import gc
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from column_models import Sale, by_columns, by_iterator

import varve
from varve.columns import frames, noted, read, walk
from varve.engine import checked
from varve.engine import snapshot as snapshot_module


@varve.event(name="noted.Refund")
class Refund:
    number: varve.u64
    reason: str
    raw: bytes = b""
    day: varve.u16 | None = None


NAMES = ("$global_sequence", "$stream_sequence", "$stream", "$stream_id", "$type")


@pytest.fixture
def db(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With short blocks, all of which may be taken together."""
    monkeypatch.setattr(varve.limits, "BLOCK_BYTES_MAX", 1_200)
    monkeypatch.setattr(varve.limits, "TAIL_BLOCK_BYTES_MAX", 1_200)
    monkeypatch.setattr(walk, "FRAMES_EVENTS_MIN", 1)
    monkeypatch.setattr(frames, "NOTED_MIN", 1)
    monkeypatch.setattr(frames, "PAUSE_MAX", 0)
    with varve.open(varve_path, durability="relaxed") as store:
        yield store


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many noted blocks were taken at each step."""
    counts: list[int] = []
    chunks = noted.Noted.chunks

    def seen(self: Any, known: Any, *, commits: bool) -> Any:
        counts.append(self.count)
        return chunks(self, known, commits=commits)

    monkeypatch.setattr(noted.Noted, "chunks", seen)
    return counts


def sale(number: int) -> Sale:
    return Sale(number, number % 100, paid=number % 3 == 0)


def refund(number: int) -> Refund:
    day = None if number // 200 % 2 else number % 60_000
    return Refund(number, "r" * (number % 40), b"b" * (number % 7), day)


def written(stream: Any) -> None:
    """Batches of both sorts, in two streams, with a block that is none like the others now and then."""
    for at in range(0, 1_200, 200):
        make = sale if at % 400 else refund
        stream.append_batch(1 + at % 3, [make(number) for number in range(at, at + 200)])
        stream.append_batch("other", [sale(at)] * 70, metadata={"a": 1} if at == 600 else None)
        stream.append_many([(1, sale(at)), (2, refund(at)), (1, refund(at))])


def test_the_second_time_gives_the_same(db: varve.Varve, counted: list[int]) -> None:
    """Numbers, texts and what is recorded beside them, of every slice and of each stream."""
    stream = db.stream("sales", Sale | Refund)
    written(stream)
    reader = stream.reader()
    names = ["number", "amount", "paid", "reason", "raw", "day", *NAMES]
    end = db.next_global_sequence
    for _ in range(2):
        for start, stop in ((0, None), (3, end - 5), (150, 900), (0, end - 5), (0, 700)):
            found = by_columns(reader.columns(names, start=start, stop=stop))
            assert found == by_iterator(reader.iter_all(start, stop), names)
        for stream_id in (1, 2, 3, "other"):
            assert by_columns(reader.columns(names, stream_id)) == by_iterator(reader.iter_stream(stream_id), names)
            with_times = [*names, "$time"]
            found = by_columns(reader.columns(with_times, stream_id))
            assert found == by_iterator(reader.iter_stream(stream_id), with_times)
    assert max(counted) > 4


def test_blocks_of_one_shape_are_one_pattern(db: varve.Varve, counted: list[int]) -> None:
    """Whatever the distance between them, and also where many short batches make many odd blocks."""
    stream = db.stream("sales", Sale)
    for count in (1, 700, 3, 500, 90, 1, 1, 1, 900):
        stream.append_batch(1, [sale(number) for number in range(count)])
    wanted = [number for count in (1, 700, 3, 500, 90, 1, 1, 1, 900) for number in range(count)]
    for _ in range(3):
        assert stream.reader().columns(["number"])["number"].tolist() == wanted
    assert sum(counted) > 40


def test_a_stretch_is_read_again_only_as_it_was(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """At one instant without a look at each block; not where a checksum in it is another one, nor after a commit."""
    stream = db.stream("sales", Sale | Refund)
    written(stream)
    reader = stream.reader()
    names = ["number", "reason", *NAMES]
    wanted = by_iterator(reader.iter_all(), names)
    looks: list[int] = []
    map_frames = snapshot_module.Snapshot.map_frames

    def counted(self: Any, first: int, *args: Any) -> Any:
        looks.append(first)
        return map_frames(self, first, *args)

    monkeypatch.setattr(snapshot_module.Snapshot, "map_frames", counted)
    often = []
    for _ in range(4):
        looks.clear()
        assert by_columns(reader.columns(names)) == wanted
        often.append(len(looks))
    assert often[3] < often[0]
    stretches = db._engine.checked._stretches
    assert stretches
    for stretch in stretches.values():
        stretch.what.crcs[-1] ^= 1
    looks.clear()
    assert by_columns(reader.columns(names)) == wanted
    assert {*stretches} <= {*looks}
    db.stream("others", Sale).append(1, sale(1))
    looks.clear()
    assert by_columns(reader.columns(names)) == wanted
    assert {*stretches} <= {*looks}
    assert db.stats().snapshots == ()


def test_a_stretch_is_cut_where_a_read_ends(db: varve.Varve) -> None:
    """What was read to the end before is read only so far."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, [sale(number) for number in range(2_000)])
    for stop in (2_000, 2_000, 2_000, 1_500, 1_100, 2_000):
        found = stream.reader().columns(["number", "$global_sequence"], stop=stop)
        assert found["number"].tolist() == found["$global_sequence"].tolist() == list(range(stop))


def test_a_block_that_grew_is_looked_at_again(db: varve.Varve, counted: list[int]) -> None:
    """Single appends extend the last block in place."""
    stream = db.stream("sales", Sale | Refund)
    reader = stream.reader()
    for number in range(300):
        stream.append(1, sale(number) if number % 150 else refund(number))
        if number % 7 == 0:
            assert reader.columns(["number"])["number"].tolist() == list(range(number + 1))
    assert max(counted) > 2


def test_events_that_begin_differently_are_not_noted(db: varve.Varve, counted: list[int]) -> None:
    """Optional fields that are there or not make other vtables."""
    stream = db.stream("refunds", Refund)
    stream.append_batch(1, [Refund(number, "", day=number if number % 2 else None) for number in range(500)])
    for _ in range(2):
        found: Any = stream.reader().columns(["day"])["day"]
        assert found.tolist() == [number if number % 2 else None for number in range(500)]
    assert counted == []


@pytest.mark.parametrize("same_instant", [True, False])
@pytest.mark.parametrize("wrong", [99, frozenset({"others"}), "drift"])
def test_an_index_that_is_wrong_is_told(
    db: varve.Varve, counted: list[int], monkeypatch: pytest.MonkeyPatch, wrong: Any, same_instant: bool
) -> None:
    """What is noted is held against the index, as blocks are: also where it is wrong only further on."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, [sale(number) for number in range(900)])
    reader = stream.reader()
    for _ in range(2):
        assert len(reader.columns(["number"], 1)["number"]) == 900
    assert sum(counted) > 10
    counted.clear()
    stretch, parsed, again = walk._Reading.stretch, frames.Frames.parsed, frames.Frames.again
    noted_of: list[Any] = []

    def at_once(self: Any, snapshot: Any, sequence: int, until: int, drift: int) -> Any:
        noted_of.append(snapshot.checked.stretch(sequence))
        if noted_of[-1] is not None and wrong != "drift":
            self.known.identities.clear()
            self.known.begin(wrong, self.known.rows_max)
        return again(self, snapshot, sequence, until, drift)

    def later(self: Any, snapshot: Any, data: Any, found: Any, notes: Any, until: int, drift: int) -> Any:
        if notes[0] is not None and wrong != "drift":
            self.known.identities.clear()
            self.known.begin(wrong, self.known.rows_max)
        noted_of.append(notes[0])
        return parsed(self, snapshot, data, found, notes, until, drift)

    def shifted(self: Any, snapshot: Any, sequence: int, until: int, drift: int) -> Any:
        return stretch(self, snapshot, sequence, until, drift + (sequence > 0 and wrong == "drift"))

    monkeypatch.setattr(frames.Frames, "again", at_once if same_instant else lambda *_: None)
    monkeypatch.setattr(frames.Frames, "parsed", later)
    monkeypatch.setattr(walk._Reading, "stretch", shifted)
    with pytest.raises(varve.CorruptedStore, match="index is wrong"):
        reader.columns(["number"], 1)
    assert noted_of[-1] is not None
    assert counted == []
    gc.collect()
    assert db.stats().snapshots == ()


@pytest.mark.parametrize("changed", ["types", "streams"])
def test_what_is_not_wanted_is_passed_over(db: varve.Varve, changed: str) -> None:
    """Of several types, and of several names, only those that were asked for."""
    sales, others = db.stream("sales", Sale | Refund), db.stream("others", Sale)
    for at in range(0, 900, 300):
        sales.append_batch(1, [sale(number) for number in range(at, at + 300)])
        sales.append_batch(1, [refund(number) for number in range(at, at + 300)])
        others.append_batch(1, [sale(number) for number in range(at, at + 300)])
    everything = db.global_reader()
    for _ in range(3):
        assert len(everything.columns(["number"])["number"]) == 2_700
        if changed == "types":
            found = everything.columns(["number"], types=[Refund])["number"]
        else:
            found = everything.columns(["number"], streams=["others"])["number"]
        assert found.tolist() == list(range(900))


def test_rot_is_told_before_and_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A block whose checksum word changed is checked again, whatever was noted of it."""
    path = tmp_path / "rotten"
    with varve.open(path) as db:
        db.stream("sales", Sale).append_batch(1, [sale(number) for number in range(20_000)])
    with varve.open(path, readonly=True) as db:
        reader = db.stream("sales", Sale).reader()
        for _ in range(2):
            assert reader.columns(["number"])["number"].tolist() == list(range(20_000))
        frame_crc = checked.frame_crc
        monkeypatch.setattr(checked, "frame_crc", lambda data: frame_crc(data) ^ 1)
        monkeypatch.setattr(checked, "crc_holds", lambda _: False)
        with pytest.raises(varve.CorruptedBlock):
            reader.columns(["number"])


def test_arrays_hold_nothing_of_the_map(db: varve.Varve, counted: list[int]) -> None:
    """They stay as they are when the store is gone, and so do errors that are kept."""
    stream = db.stream("sales", Sale | Refund)
    written(stream)
    reader = stream.reader()
    names = ["number", "paid", "reason", "raw", "$stream_id", "$stream_sequence"]
    wanted = by_iterator(reader.iter_all(), names)
    reader.columns(names)
    made = reader.columns(names)
    assert counted
    with pytest.raises(varve.UnexpectedEventType) as caught:
        db.stream("sales", Refund).reader().columns(["number"])
    assert db.stats().snapshots == ()
    db.close()
    assert by_columns(made) == wanted
    assert caught.value.stream == "sales"


def test_an_error_in_a_chunk_lets_the_map_go(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever keeps it keeps the frames that it came through."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, [sale(number) for number in range(900)])
    put = read.put
    rows: list[int] = []

    def failing(group: Any, field: Any, out: Any) -> Any:
        rows.append(group.count)
        put(group, field, out)
        if sum(rows) > 500:
            raise varve.MalformedEvent("made up")

    monkeypatch.setattr(read, "put", failing)
    for _ in range(2):
        rows.clear()
        with pytest.raises(varve.MalformedEvent, match="made up") as caught:
            stream.reader().columns(["number"])
        assert db.stats().snapshots == ()
        assert caught.value.__traceback__ is not None
    db.close()


def test_too_many_snapshots_are_no_hindrance(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frames are copied where they cannot be pinned."""
    stream = db.stream("sales", Sale | Refund)
    written(stream)
    names = ["number", "amount", "reason", *NAMES]
    wanted = by_iterator(stream.reader().iter_all(), names)
    monkeypatch.setattr(db._engine.environment.pins, "pin", lambda *_: None)
    for _ in range(2):
        assert by_columns(stream.reader().columns(names)) == wanted


def test_threads_read_while_one_writes(db: varve.Varve) -> None:
    """What one thread notes of a tail is never used for the frame that another sees."""
    stream = db.stream("sales", Sale)
    stream.append_batch(1, [sale(number) for number in range(500)])
    failed: list[BaseException] = []
    done = threading.Event()

    def reading() -> None:
        try:
            while not done.is_set():
                numbers = stream.reader().columns(["number"])["number"]
                assert (numbers == np.arange(len(numbers), dtype=np.uint64)).all()
        except BaseException as error:  # noqa: BLE001 - told below
            failed.append(error)

    threads = [threading.Thread(target=reading) for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(500, 700):
        stream.append(1, sale(number))
    done.set()
    for thread in threads:
        thread.join()
    assert not failed
