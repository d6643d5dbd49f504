"""``truncate_before`` and ``retain``: what readers of a stream pass over."""

from __future__ import annotations

import datetime as dt
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from retention_models import Note

import varve
from varve import limits, ops
from varve.retention import Retention
from varve.testing import ManualClock

SECOND = dt.timedelta(seconds=1)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def db(varve_path: Path, clock: ManualClock) -> Iterator[varve.Varve]:
    with varve.open(varve_path, durability="relaxed", clock=clock) as found:
        yield found


def seen(reader: Any, stream_id: Any = 1, length: int = 40) -> list[int]:
    """What every way of reading a stream gives, which is the same."""
    found = [one.event.n for one in reader.iter_stream(stream_id)]
    first = reader.first_visible(stream_id)
    assert found == [one.event.n for one in reader.iter_stream(stream_id, reverse=True)][::-1]
    for way in (reader.get, reader.get_bytes, reader.get_recorded):
        assert [k for k in range(length) if way(stream_id, k) is not None] == list(range(first, first + len(found)))
    if isinstance(reader, varve.StreamReader):
        assert reader.columns(["n"], stream_id=stream_id)["n"].tolist() == found
    middle = first + len(found) // 2
    assert [one.event.n for one in reader.iter_stream(stream_id, middle)] == found[len(found) // 2 :]
    assert [one.event.n for one in reader.iter_stream(stream_id, 0, middle)] == found[: len(found) // 2]
    return found


def test_what_is_hidden(db: varve.Varve, clock: ManualClock) -> None:
    """From every read of the stream, and from nothing else; the strictest of the three rules decides."""
    notes = db.stream("notes", Note)
    reader = notes.reader()
    for n in range(20):
        notes.append(1, Note(n))
        notes.append(2, Note(100 + n))
        clock.advance(1)
    assert seen(reader) == list(range(20))
    reader.get(1, 3)  # remembered
    notes.truncate_before(1, 5)
    assert seen(reader) == list(range(5, 20))
    assert seen(reader, 2) == [100 + n for n in range(20)]
    notes.retain(1, max_count=10)
    assert seen(reader) == list(range(10, 20))
    notes.retain(1, max_count=18)
    assert seen(reader) == list(range(5, 20))
    notes.retain(1, max_age=4 * SECOND)
    assert seen(reader) == list(range(16, 20))
    clock.advance(2)
    assert seen(reader) == [18, 19]
    clock.advance(60)
    assert seen(reader) == []
    assert reader.first_visible(1) == reader.length(1) == 20
    notes.append(1, Note(20))
    assert seen(reader) == [20]
    assert notes.retention(1) == Retention(truncate_before=5, max_age=4 * SECOND)
    notes.retain(1)
    notes.truncate_before(1, 0)
    assert notes.retention(1) == Retention()
    assert seen(reader) == list(range(21))
    assert len(list(reader.iter_all())) == len(list(db.global_reader().iter_from())) == 41
    notes.truncate_before(1, 21)
    assert seen(reader) == []
    assert len(list(reader.iter_all())) == len(list(db.global_reader().iter_from())) == 41
    assert [one.event.n for one in notes.follow(stream_id=1, timeout_s=0)] == list(range(21))


def test_a_name_and_one_of_its_streams(db: varve.Varve) -> None:
    """A stream's own rule holds instead of its name's."""
    notes = db.stream("notes", Note)
    for stream_id in (1, "a"):
        notes.append_batch(stream_id, [Note(n) for n in range(9)])
    notes.retain(max_count=2)
    assert notes.retention() == Retention(max_count=2)
    assert notes.retention(1) == Retention()
    reader = notes.reader()
    assert seen(reader) == seen(reader, "a") == [7, 8]
    notes.retain("a", max_count=5)
    assert seen(reader) == [7, 8]
    assert seen(reader, "a") == [4, 5, 6, 7, 8]
    notes.retain(1, max_count=0)
    assert seen(reader) == []
    other = db.stream("others", Note)
    other.append(1, Note(1))
    assert seen(other.reader()) == [1]
    assert reader.first_visible("nobody") == 0
    assert list(reader.iter_stream("nobody")) == []


@pytest.mark.parametrize("seed", range(5))
def test_random_rules(db: varve.Varve, clock: ManualClock, seed: int) -> None:
    """Against a list."""
    chance = random.Random(seed)
    notes = db.stream("notes", Note)
    reader = notes.reader()
    written: list[int] = []
    before, count, age_s = 0, None, None
    for n in range(120):
        match chance.randrange(6):
            case 0:
                before = chance.randrange(len(written) + 1)
                notes.truncate_before(1, before)
            case 1:
                count, age_s = chance.choice([None, 0, 3, 10, 50]), chance.choice([None, 0.0, 5.0, 30.5])
                notes.retain(1, max_count=count, max_age=age_s)
            case _:
                notes.append(1, Note(n))
                written.append(clock.now_ns)
                notes.append_batch(chance.randrange(2, 5), [Note(0)] * chance.randrange(1, 4))
        clock.advance(chance.random() * 3)
        first = max(before, len(written) - count if count is not None else 0)
        while age_s is not None and first < len(written) and written[first] < clock.now_ns - int(age_s * 1e9):
            first += 1
        assert reader.first_visible(1) == min(first, len(written))
        if n % 20 == 0:
            seen(reader, length=len(written))


def test_instants(db: varve.Varve) -> None:
    """A snapshot has the rules of its instant, also where there were none yet; one that looks back has those of now."""
    notes = db.stream("notes", Note)
    notes.append_batch(1, [Note(n) for n in range(9)])
    with db.snapshot() as before:
        notes.truncate_before(1, 4)
        assert seen(before.reader(notes)) == list(range(9))
        with db.snapshot() as after, db.snapshot(at=6) as back:
            notes.truncate_before(1, 8)
            assert seen(after.reader(notes)) == [4, 5, 6, 7, 8]
            assert seen(back.reader(notes)) == [4, 5]
    assert seen(notes.reader()) == [8]
    walk = notes.reader().iter_stream(1)
    notes.truncate_before(1, 0)
    assert [one.event.n for one in walk] == [8]


def test_a_handle_that_only_reads(db: varve.Varve, varve_path: Path) -> None:
    """Knows rules from its first read on, and in its first snapshot."""
    notes = db.stream("notes", Note)
    notes.append_batch(1, [Note(n) for n in range(9)])
    notes.truncate_before(1, 4)
    db.close()
    for first in (
        lambda reading, stream: seen(stream.reader()),
        lambda reading, stream: [one.event.n for one in stream.reader().iter_stream(1)],
        lambda reading, stream: stream.reader().columns(["n"], stream_id=1)["n"].tolist(),
        lambda reading, stream: list(range(stream.reader().first_visible(1), 9)),
        lambda reading, stream: [n for n in range(9) if stream.reader().get(1, n) is not None],
        lambda reading, stream: seen(reading.snapshot().reader(stream)),
    ):
        with varve.open(varve_path, readonly=True) as reading:
            assert first(reading, reading.stream("notes", Note)) == [4, 5, 6, 7, 8]


def test_bad_input(db: varve.Varve, varve_path: Path) -> None:
    """Changes nothing."""
    notes = db.stream("notes", Note)
    notes.append_batch(1, [Note(1)] * 5)
    odd: list[Any] = [-1, 6, True, 1.5, "2", None, 2**64]
    for wrong in odd:
        with pytest.raises(varve.InvalidInput):
            notes.truncate_before(1, wrong)
    for options in ({"max_count": -1}, {"max_count": 1.0}, {"max_count": True}, {"max_count": 2**63}):
        with pytest.raises(varve.InvalidInput):
            notes.retain(1, **options)  # type: ignore[arg-type]
    for age in (-1, -SECOND, "1", True, float("nan"), float("inf"), 1e30):
        with pytest.raises(varve.InvalidInput):
            notes.retain(1, max_age=age)  # type: ignore[arg-type]
    with pytest.raises(varve.InvalidStreamId):
        notes.truncate_before(1.5, 1)  # type: ignore[arg-type]
    assert notes.retention(1) == Retention()
    assert len(seen(notes.reader())) == 5
    db.close()
    with varve.open(varve_path, readonly=True) as reading:
        notes = reading.stream("notes", Note)
        assert notes.retention(1) == Retention()
        with pytest.raises(varve.ReadonlyStore):
            notes.retain(1, max_count=1)


def test_a_rule_of_another_process(db: varve.Varve, varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Is seen when the handle looks next, the first one too, also by gets that remember where events are."""
    notes = db.stream("notes", Note)
    notes.append_batch(1, [Note(n) for n in range(9)])
    reader = notes.reader()
    assert seen(reader) == list(range(9))
    script = "import sys, varve\nfrom retention_models import Note\n"
    script += "with varve.open(sys.argv[1]) as db: db.stream('notes', Note).truncate_before(1, int(sys.argv[2]))\n"
    monkeypatch.setattr(limits, "RETENTION_LOOK_S", -1.0)
    reader.first_visible(1)
    for before in (3, 7):
        command = [sys.executable, "-c", script, str(varve_path), str(before)]
        subprocess.run(command, check=True, cwd=Path(__file__).parent)
        monkeypatch.setattr("varve.retention.time.monotonic", lambda: 1e12)
        monkeypatch.setattr("varve.reader.monotonic", lambda: 1e12)
        assert reader.get(1, before - 1) is None
        assert seen(reader) == list(range(before, 9))


def test_changes_of_many_threads_are_kept(db: varve.Varve) -> None:
    """Each changes its part of one rule, in one step with looking at it."""
    notes = db.stream("notes", Note)
    notes.append_batch(1, [Note(n) for n in range(50)])

    def truncate() -> None:
        for before in range(30):
            notes.truncate_before(1, before)

    threads = [threading.Thread(target=truncate)]
    for thread in threads:
        thread.start()
    for count in range(30):
        notes.retain(1, max_count=count + 1)
    for thread in threads:
        thread.join()
    assert notes.retention(1) == Retention(truncate_before=29, max_count=30)


def test_hidden_and_archived(
    db: varve.Varve, clock: ManualClock, varve_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is hidden need not be asked of the archive; and the rules hold for a series."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 480)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 480)
    monkeypatch.setattr("varve.archive.examine", lambda path: None)
    notes = db.stream("notes", Note)
    for n in range(60):
        notes.append(1, Note(n))
        clock.advance(1)
    db.archive(30, tmp_path / "archive")
    first = db.first_global_sequence
    reader = notes.reader()
    with pytest.raises(varve.Archived):
        reader.iter_stream(1)
    notes.truncate_before(1, first)
    assert [one.event.n for one in reader.iter_stream(1)] == list(range(first, 60))
    assert reader.get(1, 0) is None
    notes.truncate_before(1, first - 2)
    with pytest.raises(varve.Archived):
        reader.iter_stream(1)
    notes.retain(1, max_age=(60 - first - 1) * SECOND)
    assert reader.first_visible(1) == first + 1
    notes.retain(1, max_age=59 * SECOND)
    assert reader.first_visible(1) <= first  # what of the archive is young enough, only the archive can tell
    assert reader.get(1, 59) == Note(59)
    assert [one.event.n for one in reader.iter_stream(1, first)] == list(range(first, 60))
    with pytest.raises(varve.Archived):
        reader.iter_stream(1)
    notes.retain(1)
    db.close()
    with varve.open([tmp_path / "archive", varve_path]) as series:
        assert seen(series.stream("notes", Note).reader(), length=60) == list(range(first - 2, 60))


def test_rules_are_verified_and_repaired(tmp_path: Path) -> None:
    """Those that can be read are kept; a damaged one is found, and hides nothing in what is made of the store."""
    path = tmp_path / "store"
    with varve.open(path) as db:
        notes = db.stream("notes", Note)
        for stream_id in (1, 2):
            notes.append_batch(stream_id, [Note(n) for n in range(9)])
            notes.truncate_before(stream_id, 4)
        notes.retain(max_count=2)
    assert ops.verify(path).sound
    for salvage in (False, True):
        ops.repair(path, tmp_path / f"sound{salvage}", salvage=salvage)
        with varve.open(tmp_path / f"sound{salvage}") as again:
            assert seen(again.stream("notes", Note).reader()) == [4, 5, 6, 7, 8]
            assert again.stream("notes", Note).retention() == Retention(max_count=2)
    env = lmdb.open(str(path), max_dbs=8, map_size=1 << 30)
    table = env.open_db(b"varve.retention")
    with env.begin(write=True) as transaction:
        key, value = next(iter(transaction.cursor(table)))
        transaction.put(b"\x02odd", b"", db=table)
        for key, value in list(transaction.cursor(table)):
            if key.endswith(b"\x02"):
                transaction.put(key, value[:-1] + b"\x7f", db=table)
    env.close()
    report = ops.verify(path)
    assert [(one.where, one.kind) for one in report.findings] == [("retention", "record")] * 2
    for salvage in (False, True):
        found = ops.repair(path, tmp_path / f"damaged{salvage}", salvage=salvage)
        assert sum("retention rule" in note for note in found.notes) == 2
        with varve.open(tmp_path / f"damaged{salvage}") as again:
            reader = again.stream("notes", Note).reader()
            assert (seen(reader, 1), seen(reader, 2)) == ([4, 5, 6, 7, 8], [7, 8])
