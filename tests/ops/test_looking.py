"""What tools show of a store: its streams, how full its blocks are, how many events came when, who reads."""

from __future__ import annotations

import datetime as dt
import os
import subprocess
import sys
import uuid
from itertools import pairwise
from pathlib import Path

import pytest
from damage import Marked, Noted
from hypothesis import given, settings
from hypothesis import strategies as st

import varve
from varve import ops
from varve.testing import ManualClock


def test_streams_as_of_the_call(tmp_path: Path) -> None:
    """What is appended while one walks over them, to these or to others, does not show."""
    with varve.open(tmp_path / "store", durability="bulk") as db:
        notes, marks = db.stream("notes", Noted), db.stream("marks", Marked)
        notes.append_many([(number, Noted(number, "")) for number in range(600)])
        marks.append("a", Marked(""))
        walk = ops.streams(db)
        first = next(walk)
        notes.append_many([(number, Noted(number, "")) for number in range(700)])
        db.stream("other", Noted).append(1, Noted(1, ""))
        found = [first, *walk]
        assert [one.stream_id for one in found] == [*range(600), "a"]
        assert {one.length for one in found} == {1}
        assert [one.last_sequence for one in found] == list(range(601))
        assert [one.length for one in ops.streams(db, "notes")] == [2] * 600 + [1] * 100
        assert ops.stream_names(db) == ["notes", "marks", "other"]
        with pytest.raises(varve.InvalidInput, match="no streams 'note'; it holds 'notes', 'marks', 'other'"):
            ops.streams(db, "note")


def test_streams_of_every_kind_of_id(tmp_path: Path) -> None:
    """In the order of ints, strs, UUIDs; with the time of the last event."""
    clock = ManualClock()
    some = uuid.UUID(int=7)
    with varve.open(tmp_path / "store", clock=clock) as db:
        notes = db.stream("notes", Noted)
        for stream_id in (some, "b", "a", 2, 10):
            notes.append(stream_id, Noted(1, ""))
            clock.advance(60)
        found = list(ops.streams(db))
        assert [one.stream_id for one in found] == [2, 10, "a", "b", some]
        for one in found:
            recorded = db.global_reader().get(one.last_sequence)
            assert recorded is not None
            assert (recorded.stream_id, recorded.recorded_at) == (one.stream_id, one.last_at)


def test_block_fill_counts_and_estimates(tmp_path: Path) -> None:
    """The estimate is near the count, also where blocks are of very different sizes; progress ends at the end."""
    with varve.open(tmp_path / "store", durability="bulk") as db:
        notes = db.stream("notes", Noted)
        assert ops.block_fill(db) == ops.BlockFill(0, 0, 0, 0, None)
        assert (ops.block_fill(db).payload_share, ops.block_fill(db).events_per_block) == (0.0, 0.0)
        for number in range(400):
            notes.append_batch(number, [Noted(number, "x" * 20)] * (3 if number % 3 else 40))
            notes.append(number, Noted(number, "y" * (9_000 if number % 2 else 10)))
        told: list[tuple[int, int]] = []
        exact = ops.block_fill(db, samples_max=None, progress=lambda done, total: told.append((done, total)))
        assert exact.events == db.next_global_sequence
        assert told[-1] == (exact.events, exact.events)
        assert told == sorted(told)
        assert exact.payload_bytes == sum(map(len, db.global_reader().iter_bytes()))
        guess = ops.block_fill(db, samples_max=2_000, progress=lambda done, total: told.append((done, total)))
        assert told[-1] == (exact.events, exact.events)
        assert guess.sampled is not None
        assert exact.sampled is None
        for name in ("blocks", "payload_bytes", "block_bytes", "payload_share", "events_per_block"):
            assert getattr(guess, name) == pytest.approx(getattr(exact, name), rel=0.2), name


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.integers(0, 50), st.integers(1, 4)), min_size=1, max_size=30), st.integers(1, 40))
def test_rate_counts_every_event_in_its_bucket(
    tmp_path_factory: pytest.TempPathFactory, commits: list[tuple[int, int]], buckets: int
) -> None:
    """As a scan over all events counts them."""
    clock = ManualClock()
    with varve.open(tmp_path_factory.mktemp("rate") / "store", durability="bulk", clock=clock) as db:
        notes = db.stream("notes", Noted)
        for pause_s, count in commits:
            clock.advance(pause_s)
            notes.append_batch(1, [Noted(1, "")] * count)
        rate = ops.event_rate(db, buckets)
        times = [recorded.time_ns for recorded in db.global_reader().iter_from()]
        low, high = times[0], times[-1] + 1
        cuts = [low + (high - low) * index // buckets for index in range(buckets + 1)]
        assert rate.counts == tuple(sum(begin <= time < end for time in times) for begin, end in pairwise(cuts))
        assert sum(rate.counts) == len(times)


def test_rate_between_two_times(tmp_path: Path) -> None:
    """Only what was recorded there; what makes no stretch of time is refused."""
    clock = ManualClock()
    with varve.open(tmp_path / "store", clock=clock) as db:
        begin = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)
        assert ops.event_rate(db).counts == ()
        notes = db.stream("notes", Noted)
        for _ in range(10):
            notes.append(1, Noted(1, ""))
            clock.advance(60)
        first = db.global_reader().get(0)
        assert first is not None
        begin = first.recorded_at
        rate = ops.event_rate(db, 2, start=begin + dt.timedelta(minutes=2), stop=begin + dt.timedelta(minutes=6))
        assert (rate.counts, rate.bucket_s) == ((2, 2), 120.0)
        for wrong in (
            {"buckets": 0},
            {"buckets": True},
            {"start": dt.datetime(2024, 1, 1)},
            {"start": 3},
            {"stop": begin},
        ):
            with pytest.raises(varve.InvalidInput):
                ops.event_rate(db, **wrong)  # type: ignore[arg-type]


READER = """
import sys, varve
with varve.open(sys.argv[1], readonly=True) as db, db.snapshot():
    print("ready", flush=True)
    sys.stdin.read()
"""


def test_readers_of_other_processes(tmp_path: Path) -> None:
    """Who holds which instant, and how many commits came since; the look itself does not show."""
    path = tmp_path / "store"
    with varve.open(path) as db:
        notes = db.stream("notes", Noted)
        notes.append(1, Noted(1, ""))
        assert all(reader.commits_behind is None for reader in ops.readers(db))
        with subprocess.Popen(
            [sys.executable, "-c", READER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"ready\n"
            for _ in range(3):
                notes.append(1, Noted(1, ""))
            found = ops.readers(db)
            assert found[0] == ops.ReaderInfo(other.pid, 3)
            assert all(reader.commits_behind is None for reader in found[1:])
            with db.snapshot():
                assert ops.ReaderInfo(os.getpid(), 0) in ops.readers(db)
            other.communicate()


def test_recorded_events_as_plain_data(tmp_path: Path) -> None:
    """The same whether the class is bound, made from the log, or unknown; ids of each kind are told apart."""
    some = uuid.UUID(int=7)
    with varve.open(tmp_path / "store") as db:
        notes = db.stream("notes", Noted | Marked)
        for stream_id in (1, "1", some):
            notes.append(stream_id, Noted(1, "text"), metadata={"by": "me"})
        bound = [ops.recorded_to_dict(recorded) for recorded in db.global_reader().iter_from()]
        assert [(one["stream_id"], one["id_kind"]) for one in bound] == [(1, "int"), ("1", "str"), (str(some), "uuid")]
        assert bound[0]["event"] == {"n": 1, "text": "text"}
        assert bound[0]["metadata"] == {"by": "me"}
        assert dt.datetime.fromisoformat(bound[0]["recorded_at"]).tzinfo == dt.UTC
    with varve.open(tmp_path / "store", readonly=True) as db:
        assert [ops.recorded_to_dict(recorded) for recorded in db.global_reader().iter_from()] == bound
        unknown = [ops.recorded_to_dict(recorded) for recorded in db.global_reader(unknown="event").iter_from()]
        assert [one["type"] for one in unknown] == ["Noted"] * 3
        assert [one["event"] for one in unknown] == [None] * 3
        reader = db.global_reader()
        assert [recorded.global_sequence for recorded in reader.iter_stream("notes", "1")] == [1]
        assert list(reader.iter_stream("notes", "1", types=["Marked"])) == []
        assert list(reader.iter_stream("other", 1)) == []
        with pytest.raises(varve.InvalidStreamId):
            reader.iter_stream("notes", -1)


def test_streams_behind_an_id(tmp_path: Path) -> None:
    """An id that need not be there, of whatever kind, says where a listing goes on; names are asked for one at a time."""
    some = uuid.UUID(int=7)
    with varve.open(tmp_path / "store") as db:
        db.stream("notes", Noted).append_many([(one, Noted(1, "")) for one in (1, 3, "b", some)])
        db.stream("other", Noted).append(1, Noted(1, ""))
        ids = [1, 3, "b", some]
        for after, left in (
            (1, 1),
            (2, 1),
            (3, 2),
            (99, 2),
            ("a", 2),
            ("b", 3),
            ("c", 3),
            (uuid.UUID(int=0), 3),
            (some, 4),
        ):
            assert [one.stream_id for one in ops.streams(db, "notes", after=after)] == ids[left:]
        with pytest.raises(varve.InvalidInput, match="one stream name"):
            ops.streams(db, after=1)
        with pytest.raises(varve.InvalidStreamId):
            ops.streams(db, "notes", after=-1)


def test_one_stream_is_what_the_listing_says(tmp_path: Path) -> None:
    """``stream_info`` of each id is its line of ``streams``; None for others."""
    with varve.open(tmp_path / "store") as db:
        notes = db.stream("notes", Noted)
        for stream_id in (1, "1", 1, "b"):
            notes.append(stream_id, Noted(1, ""))
        for one in ops.streams(db):
            assert ops.stream_info(db, one.name, one.stream_id) == one
        for name, stream_id in (("notes", 2), ("notes", "c"), ("nothing", 1)):
            assert ops.stream_info(db, name, stream_id) is None
        with pytest.raises(varve.InvalidStreamId):
            ops.stream_info(db, "notes", "")


def test_shares_are_counted_and_estimated(tmp_path: Path) -> None:
    """Counted they are exact; estimated near enough, and add up to no more than the log."""
    with varve.open(tmp_path / "store", durability="bulk") as db:
        notes, marks = db.stream("notes", Noted | Marked), db.stream("marks", Marked)
        for number in range(150):
            notes.append_many([(number, Noted(number, "n" * (number % 40))) for _ in range(8)])
            marks.append_batch(1, [Marked("m")] * 4)
        notes.append_batch(7, [Marked("x")] * 600)
        expected = {("notes", "Noted"): 1_200, ("notes", "Marked"): 600, ("marks", "Marked"): 600}
        exact = ops.event_shares(db, counted_max=None)
        assert (exact.events, exact.sampled) == (2_400, None)
        assert {(one.stream, one.type): one.events for one in exact.shares} == expected
        assert [one.events for one in exact.shares] == sorted((one.events for one in exact.shares), reverse=True)
        assert ops.event_shares(db) == exact
        guessed = ops.event_shares(db, counted_max=0, samples=200)
        assert guessed.events == 2_400
        assert guessed.sampled is not None
        assert 1 < guessed.sampled <= 200
        found = {(one.stream, one.type): one.events for one in guessed.shares}
        assert found.keys() == expected.keys()
        assert all(abs(found[key] - expected[key]) < 150 for key in expected)
        assert sum(found.values()) <= 2_400
    with varve.open(tmp_path / "empty") as db:
        assert ops.event_shares(db) == ops.Shares(0, (), None)


def test_shares_after_an_archive(tmp_path: Path) -> None:
    """What was archived does not count, counted and estimated."""
    with varve.open(tmp_path / "store") as db:
        db.stream("marks", Marked).append_batch(1, [Marked("m" * 100)] * 500)
        db.stream("notes", Noted).append_batch(1, [Noted(n, "") for n in range(900)])
        db.archive(500, tmp_path / "archive")
        first = db.first_global_sequence
        assert first > 0
        for options in ({"counted_max": None}, {"counted_max": 0, "samples": 100}):
            found = ops.event_shares(db, **options)
            assert found.events == 1_400 - first
            assert abs(sum(one.events for one in found.shares) - found.events) <= 2
