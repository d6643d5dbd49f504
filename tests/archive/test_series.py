"""Archives and a store in a row: ``varve.open`` of a list."""

from __future__ import annotations

import datetime as dt
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from archive_models import Number, Text, fill, told

import varve
from varve import archive, limits


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[tuple[Any, ...]]]:
    """Two archives and a store, and everything that was in it."""
    folder = tmp_path_factory.mktemp("series")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(limits, "BLOCK_BYTES_MAX", 1_000)
        patch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 600)
        patch.setattr(archive, "examine", lambda path: None)
        with varve.open(folder / "store", durability="relaxed") as db:
            db.stream("numbers", Number).append("early", Number(1))
            fill(db, random.Random(1), 60)
            db.archive(db.next_global_sequence, folder / "first")
            fill(db, random.Random(2), 60)
            db.archive(db.next_global_sequence, folder / "second")
            fill(db, random.Random(3), 60)
            db.stream("numbers", Number).append("late", Number(2))
    paths = [folder / name for name in ("first", "second", "store")]
    with varve.open(paths) as series:
        return paths, [told(one) for one in series.global_reader().iter_from()]


@pytest.fixture
def series(made: tuple[list[Path], list[tuple[Any, ...]]]) -> Iterator[varve.Series]:
    with varve.open(made[0]) as found:
        yield found


def test_every_range_both_ways(series: varve.Series, made: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    """Of the log, of a name, of a stream: as a slice of the whole."""
    everything = made[1]
    end = len(everything)
    assert [one[0] for one in everything] == list(range(end)) == list(range(series.next_global_sequence))
    assert series.first_global_sequence == 0
    borders = [store.first_global_sequence for store in series.stores[1:]]
    edges = {0, 1, end, end + 5, *(border + by for border in borders for by in (-1, 0, 1))}
    replay, numbers = series.global_reader(), series.stream("numbers", Number).reader()
    texts = series.stream("texts", Text | Number).reader()
    of_one = [one for one in everything if one[2:4] == ("numbers", 1)]
    for start in edges:
        for stop in (*edges, None):
            for reverse in (False, True):
                turn = slice(None, None, -1 if reverse else 1)
                assert [told(one) for one in replay.iter_from(start, stop, reverse=reverse)] == everything[start:stop][
                    turn
                ]
                wanted = [one for one in everything[start:stop] if one[2] == "texts"][turn]
                assert [told(one) for one in texts.iter_all(start, stop, reverse=reverse)] == wanted
                assert [
                    told(one) for one in replay.iter_from(start, stop, streams=["texts"], reverse=reverse)
                ] == wanted
                wanted = of_one[start:stop][turn]
                assert [told(one) for one in numbers.iter_stream(1, start, stop, reverse=reverse)] == wanted
        assert [bytes(raw) for raw in replay.iter_bytes(start)] == [one[-1] for one in everything[start:]]


def test_single_events(series: varve.Series, made: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    """By global sequence, and by a stream's."""
    everything = made[1]
    replay, numbers = series.global_reader(), series.stream("numbers", Number).reader()
    for one in everything[::3]:
        found = replay.get(one[0])
        assert found is not None
        assert told(found) == one
        assert bytes(replay.get_bytes(one[0]) or b"") == one[-1]
        if one[2] == "numbers":
            recorded = numbers.get_recorded(one[3], one[4])
            assert recorded is not None
            assert told(recorded) == one
            assert numbers.get(one[3], one[4]) == recorded.event
            assert bytes(numbers.get_bytes(one[3], one[4]) or b"") == one[-1]
    end = len(everything)
    assert replay.get(end) is None
    assert replay.get_bytes(end + 1) is None
    assert numbers.get("nobody", 0) is None
    assert numbers.get(1, 10**9) is None
    assert (numbers.length("early"), numbers.length("late"), numbers.length("nobody")) == (1, 1, 0)
    assert {"early", "late", 1} <= set(numbers.stream_ids())
    assert len(list(numbers.stream_ids())) == len({one[3] for one in everything if one[2] == "numbers"})


def test_times(series: varve.Series, made: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    """``sequence_at`` of any instant."""
    everything = made[1]
    times = [one[5] for one in everything]
    for time_ns in {times[0], times[-1], *(times[store.first_global_sequence] for store in series.stores)}:
        when = dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=time_ns // 1000)
        exact = time_ns // 1000 * 1000
        assert series.sequence_at(when) == next(at for at, one in enumerate(times) if one >= exact)
    assert series.sequence_at(dt.datetime(1990, 1, 1, tzinfo=dt.UTC)) == 0
    assert series.sequence_at(dt.datetime(2990, 1, 1, tzinfo=dt.UTC)) == len(everything)


def test_a_part_of_the_row(made: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    """What lies before the first of them is told to be archived, at the call."""
    paths, everything = made
    with varve.open(paths[1:]) as series:
        first = series.first_global_sequence
        replay, numbers = series.global_reader(), series.stream("numbers", Number).reader()
        assert [told(one) for one in replay.iter_from(first)] == everything[first:]
        for read in (
            replay.iter_from,
            lambda: replay.iter_from(reverse=True),
            lambda: replay.iter_from(0, 1),
            lambda: replay.get(first - 1),
            replay.iter_bytes,
            numbers.iter_all,
            lambda: numbers.iter_stream(1),
            lambda: numbers.iter_stream("early", reverse=True),
            lambda: numbers.get("early", 0),
        ):
            with pytest.raises(varve.Archived):
                read()
        assert numbers.length("early") == 1


def test_a_store_that_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each call sees the newest instant of the last one, which another process writes to."""
    monkeypatch.setattr(archive, "examine", lambda path: None)
    with varve.open(tmp_path / "store") as db:
        fill(db, random.Random(1), 300)
        db.archive(db.next_global_sequence, tmp_path / "first")
        events = db.next_global_sequence
    script = "import sys, varve\n"
    script += "from archive_models import Number\n"
    script += "with varve.open(sys.argv[1]) as db: db.stream('numbers', Number).append(1, Number(77))\n"
    with varve.open([tmp_path / "first", tmp_path / "store"]) as series:
        numbers = series.stream("numbers", Number).reader()
        before = numbers.length(1)
        walk = series.global_reader().iter_from(events - 1)
        subprocess.run([sys.executable, "-c", script, str(tmp_path / "store")], check=True, cwd=Path(__file__).parent)
        assert len(list(walk)) == 1  # as of its call
        assert series.next_global_sequence == events + 1
        found = numbers.get(1, before)
        assert found is not None
        assert found.value == 77


def test_what_does_not_follow(made: tuple[list[Path], list[tuple[Any, ...]]], tmp_path: Path) -> None:
    """Wrong orders, gaps, other stores, options that a series has no use for: refused, and everything is closed again."""
    first, second, store = made[0]
    with varve.open(tmp_path / "other") as other:
        other.stream("numbers", Number).append(1, Number(1))
    for paths in ([second, first, store], [first, store], [store, first], [first, first]):
        with pytest.raises(varve.VarveError) as caught:
            varve.open(paths)
        assert isinstance(caught.value, varve.InvalidInput | varve.StoreAlreadyOpen)
    with pytest.raises(varve.InvalidInput, match="different stores"):
        varve.open([tmp_path / "other", store])
    with pytest.raises(varve.StoreNotFound):
        varve.open([first, tmp_path / "nothing"])
    for options in ({"readonly": False}, {"durability": "relaxed"}, {"linger_s": 1.0}, {"clock": lambda: 1}):
        with pytest.raises(varve.InvalidInput, match="list"):
            varve.open([first, second, store], **options)  # type: ignore[call-overload]
    for path in made[0]:
        with varve.open(path, readonly=True):
            pass


def test_closing(made: tuple[list[Path], list[tuple[Any, ...]]]) -> None:
    """``close`` refuses while views live, ``with`` does not; afterwards reads are refused."""
    series = varve.open(made[0])
    raw = series.global_reader().get_bytes(0)
    with pytest.raises(varve.ViewsStillAlive):
        series.close()
    del raw
    series.close()
    with pytest.raises(varve.StoreClosed):
        _ = series.next_global_sequence
    with varve.open(made[0]) as found:
        raw = found.global_reader().get_bytes(0)
        kept = bytes(raw or b"")
    assert raw == kept
    assert "first" in repr(found)
    for part in (found.stores[0].path,):
        assert part in repr(found)
