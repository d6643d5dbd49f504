"""``db.archive``: blocks that move, positions that stay."""

from __future__ import annotations

import datetime as dt
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from archive_models import Number, Text, fill, told

import varve
from varve import archive, limits, ops
from varve.engine import core
from varve.engine.instant import contents
from varve.layout.frame import MalformedBlock


@pytest.fixture(autouse=True)
def short_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks of few events."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 1_000)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 600)


@pytest.fixture(autouse=True)
def quick(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written is verified by a process of its own: once in a while is often enough here."""
    if "examined" not in request.keywords:
        monkeypatch.setattr(archive, "examine", lambda path: None)


@pytest.fixture
def db(tmp_path: Path) -> Iterator[varve.Varve]:
    """A store with a history."""
    with varve.open(tmp_path / "store", durability="relaxed") as found:
        fill(found, random.Random(5), 150)
        yield found


def everything(db: varve.Varve | varve.Series, start: int = 0) -> list[tuple[Any, ...]]:
    return [told(recorded) for recorded in db.global_reader().iter_from(start)]


@pytest.mark.parametrize("seed", range(4))
def test_nothing_changes_but_where_it_is(tmp_path: Path, seed: int) -> None:
    """A random history, archived several times while it goes on: what is left, and archives and store in a row, give what the
    whole gave; every store is sound and can be rebuilt."""
    chance = random.Random(seed)
    archives: list[Path] = []
    before: list[tuple[Any, ...]] = []
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        for round_number in range(4):
            fill(db, chance, 70)
            before = [*before, *everything(db, len(before))]
            wanted = chance.randrange(db.first_global_sequence, len(before) + 1)
            old = db.first_global_sequence
            report = db.archive(wanted, tmp_path / f"archive{round_number}")
            assert report.first_sequence == old
            assert report.next_sequence == db.first_global_sequence <= max(wanted, old)
            assert bool(report.path) == bool(report.events) == bool(report.blocks) == (report.next_sequence > old)
            if report.path:
                assert Path(report.path) == tmp_path / f"archive{round_number}"
                archives.append(Path(report.path))
            horizon = db.first_global_sequence
            assert everything(db, horizon) == before[horizon:]
            numbers = db.stream("numbers", Number).reader()
            for stream_id in (1, 2, "a"):
                of_it = [one for one in before if one[2] == "numbers" and one[3] == stream_id]
                assert numbers.length(stream_id) == len(of_it)
                for sequence, one in enumerate(of_it):
                    check_read(partial(numbers.get_recorded, stream_id, sequence), one, horizon)
    assert len(archives) > 1
    with pytest.raises(varve.SealedStore):
        varve.open(archives[0])
    names = [*map(str, archives), str(tmp_path / "store")]
    with varve.open(names) as series:
        assert everything(series) == before
        texts = series.stream("texts", Text | Number).reader()
        assert [told(one) for one in texts.iter_all()] == [one for one in before if one[2] == "texts"]
    for path in names:
        report = ops.verify(path)
        assert report.sound, report.findings
        assert not report.not_checked
        ops.repair(path, f"{path}.repaired")
        assert contents(f"{path}.repaired") == contents(path)
        ops.repair(path, f"{path}.salvaged", salvage=True)
        assert contents(f"{path}.salvaged")["log"].keys() == contents(path)["log"].keys()
        assert not ops.verify(f"{path}.salvaged").findings


def check_read(read: Callable[[], Any], expected: tuple[Any, ...], horizon: int) -> None:
    """What is retained is read, what is archived is told to be."""
    if expected[0] >= horizon:
        assert told(read()) == expected
    else:
        with pytest.raises(varve.Archived):
            read()


def test_reads_below_the_horizon_are_errors(db: varve.Varve, tmp_path: Path) -> None:
    """Each of them, at the call, and never an empty result. What is above works as before."""
    before = everything(db)
    numbers, replay = db.stream("numbers", Number), db.global_reader()
    first_time = replay.get(0).recorded_at  # type: ignore[union-attr]
    db.archive(len(before) // 2, tmp_path / "archive")
    horizon = db.first_global_sequence
    assert 0 < horizon <= len(before) // 2
    reader = numbers.reader()
    below = next(one for one in reversed(before[:horizon]) if one[2] == "numbers")
    reads: list[Callable[[], Any]] = [
        lambda: replay.get(0),
        lambda: replay.get(horizon - 1),
        lambda: replay.get_bytes(horizon - 1),
        replay.iter_from,
        lambda: replay.iter_from(horizon - 1),
        lambda: replay.iter_from(0, 1),
        lambda: replay.iter_from(reverse=True),
        lambda: replay.iter_from(streams=["numbers"]),
        lambda: replay.iter_from(types=[Number]),
        replay.iter_bytes,
        lambda: replay.columns(["value"], types=[Number]),
        lambda: reader.get(1, 0),
        lambda: reader.get_bytes(1, 0),
        lambda: reader.get_recorded(1, 0),
        lambda: reader.iter_stream(1),
        lambda: reader.iter_stream(1, reverse=True),
        lambda: reader.iter_stream(below[3], below[4]),
        reader.iter_all,
        lambda: reader.iter_all(below[0]),
        lambda: reader.columns(["value"]),
        lambda: reader.columns(["value"], stream_id=1),
        lambda: reader.to_arrow(["value"]).read_all(),
        lambda: db.snapshot(at=horizon - 1),
        lambda: db.sequence_at(first_time),
        lambda: next(db.follow(timeout_s=0)),
        lambda: next(db.follow(streams=["numbers"], timeout_s=0)),
        lambda: next(numbers.follow(timeout_s=0)),
    ]
    for read in reads:
        with pytest.raises(varve.Archived, match=f"begins at global sequence {horizon}") as caught:
            read()
        assert caught.value.first_sequence == horizon
    assert [told(one) for one in replay.iter_from(horizon, reverse=True)] == before[: horizon - 1 : -1]
    assert list(reader.iter_stream(1, 0, 0)) == []
    assert db.sequence_at(dt.datetime.now(dt.UTC) + dt.timedelta(days=1)) == len(before)
    with db.snapshot(at=horizon) as snap:
        assert snap.next_global_sequence == horizon
        assert list(snap.global_reader().iter_from(horizon)) == []
        assert snap.reader(numbers).length(1) == sum(one[2:4] == ("numbers", 1) for one in before[:horizon])
    with db.snapshot(at=len(before) - 5) as snap:
        assert snap.reader(numbers).length(1) == sum(one[2:4] == ("numbers", 1) for one in before[:-5])


def test_what_was_written_first_goes_on(db: varve.Varve, tmp_path: Path) -> None:
    """Lengths, expectations and idempotency keys hold for streams whose every event is archived."""
    orders = db.stream("orders", Number)
    early = orders.append("only", Number(1), idempotency_key="first")
    fill(db, random.Random(8), 60)
    db.archive(db.next_global_sequence, tmp_path / "archive")
    assert early.global_sequence < db.first_global_sequence
    assert orders.reader().length("only") == 1
    assert list(orders.reader().stream_ids()) == ["only"]
    with pytest.raises(varve.WrongExpectedVersion):
        orders.append("only", Number(2), expected=varve.NO_STREAM)
    with pytest.raises(varve.IdempotencyConflict):
        orders.append("only", Number(2), idempotency_key="first")
    with pytest.raises(varve.Archived):  # it is not written twice, and where it stands the archive knows
        orders.append("only", Number(1), idempotency_key="first")
    assert orders.append("only", Number(2), expected=1).stream_sequence == 1
    assert [one.event.value for one in orders.reader().iter_stream("only", 1)] == [2]
    with pytest.raises(varve.Archived):
        orders.reader().iter_stream("only")
    fresh = db.stream("fresh", Number)
    fresh.append(1, Number(3))
    assert [one.event.value for one in fresh.reader().iter_all()] == [3]  # nothing of this name was archived


def test_an_iterator_that_is_on_its_way(db: varve.Varve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its instant; one that has to renew it below the horizon is told."""
    before = everything(db)
    monkeypatch.setattr(limits, "ITERATOR_SNAPSHOT_AGE_S_MAX", 1e9)
    walk = db.global_reader().iter_from()
    found = [told(next(walk))]
    db.archive(len(before), tmp_path / "archive")
    found += map(told, walk)
    assert found == before
    fill(db, random.Random(1), 30)
    monkeypatch.setattr(limits, "ITERATOR_SNAPSHOT_AGE_S_MAX", -1.0)
    for reverse in (False, True):
        walk = db.global_reader().iter_from(db.first_global_sequence, reverse=reverse)
        next(walk)
        db.archive(db.next_global_sequence, tmp_path / f"again{reverse}")
        with pytest.raises(varve.Archived):
            list(walk)
        fill(db, random.Random(20 + reverse), 30)


def test_views_outlive_it(db: varve.Varve, tmp_path: Path) -> None:
    """Memory that a user holds stays what it was."""
    raw = db.global_reader().get_bytes(3)
    assert raw is not None
    copy = bytes(raw)
    db.archive(db.next_global_sequence, tmp_path / "archive")
    fill(db, random.Random(9), 80)
    assert raw == copy


def test_bad_input(db: varve.Varve, tmp_path: Path) -> None:
    """Refused before anything is written."""
    end = db.next_global_sequence
    odd: list[Any] = [-1, end + 1, True, 1.5, "3", None]
    for before in odd:
        with pytest.raises(varve.InvalidInput):
            db.archive(before, tmp_path / "archive")
    (tmp_path / "taken").mkdir()
    for to in ("", tmp_path / "store", tmp_path / "store" / "in it", 5):
        with pytest.raises(varve.InvalidInput):
            db.archive(end, to)  # type: ignore[arg-type]
    with pytest.raises(varve.InvalidInput, match="exists"):
        db.archive(end, tmp_path / "taken")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["store", "taken"]
    assert db.first_global_sequence == 0
    db.close()
    with varve.open(tmp_path / "store", readonly=True) as reading, pytest.raises(varve.ReadonlyStore):
        reading.archive(end, tmp_path / "archive")


def test_an_empty_store(tmp_path: Path) -> None:
    """Has nothing to archive."""
    with varve.open(tmp_path / "store") as db:
        assert db.archive(0, tmp_path / "archive").events == 0
        assert not (tmp_path / "archive").exists()


def test_consumers_that_are_behind(db: varve.Varve, tmp_path: Path) -> None:
    """A reason to refuse, unless it is forced; then they are told."""
    import asyncio

    async def read(count: int) -> None:
        async with db.consumer("billing", interval_s=0) as consumer:
            async for _ in consumer:
                count -= 1
                if not count:
                    return

    asyncio.run(read(40))
    position = db.consumers()[0].position
    with pytest.raises(varve.ConsumersBehind, match="'billing'") as caught:
        db.archive(db.next_global_sequence, tmp_path / "archive")
    assert (caught.value.names, caught.value.position) == (("billing",), position)
    assert not (tmp_path / "archive").exists()
    assert db.archive(position, tmp_path / "some").next_sequence <= position
    asyncio.run(read(1))
    db.archive(db.next_global_sequence, tmp_path / "archive", force=True)
    with pytest.raises(varve.Archived):
        asyncio.run(read(1))


@pytest.mark.examined
def test_a_consumer_that_comes_meanwhile(db: varve.Varve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that begins, or goes back, while the archive is written is not left behind either; the same call goes on later."""
    move = core.move_horizon

    def slow(*arguments: Any) -> None:
        db.consumer("late").close()
        move(*arguments)

    monkeypatch.setattr(core, "move_horizon", slow)
    with pytest.raises(varve.ConsumersBehind, match="'late'"):
        db.archive(db.next_global_sequence, tmp_path / "archive")
    assert db.first_global_sequence == 0
    monkeypatch.setattr(core, "move_horizon", move)
    db.delete_consumer("late")
    assert db.archive(db.next_global_sequence, tmp_path / "archive").events > 0


def test_cut_off_before_the_store_lets_go(db: varve.Varve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The archive is there, the store is whole: asking again goes on with it. Another one in its place is refused."""
    before = everything(db)

    def cut_off(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(core, "move_horizon", cut_off)
        with pytest.raises(KeyboardInterrupt):
            db.archive(len(before) // 2, tmp_path / "archive")
    assert everything(db) == before
    kept = contents(str(tmp_path / "archive"))
    with pytest.raises(varve.InvalidInput, match="is no archive of the events"):
        db.archive(len(before), tmp_path / "archive")
    assert everything(db) == before
    fill(db, random.Random(2), 20)
    report = db.archive(len(before) // 2, tmp_path / "archive")
    assert contents(str(tmp_path / "archive")) == kept
    assert everything(db, report.next_sequence)[: len(before) - report.events] == before[report.events :]


def test_another_archive_in_its_place(db: varve.Varve, tmp_path: Path) -> None:
    """One of as many events, but not of these."""
    with varve.open(tmp_path / "other", durability="relaxed") as other:
        fill(other, random.Random(5), 150)
        first = other.archive(other.next_global_sequence // 2, tmp_path / "archive")
    with pytest.raises(varve.InvalidInput, match="is no archive of the events"):
        db.archive(first.next_sequence, tmp_path / "archive")
    assert db.first_global_sequence == 0


def test_two_at_once(db: varve.Varve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else archived between looking and letting go: nothing is lost, he is told."""
    end = db.next_global_sequence
    move = core.move_horizon

    def slow(*arguments: Any) -> None:
        monkeypatch.setattr(core, "move_horizon", move)
        db.archive(end, tmp_path / "theirs")
        move(*arguments)

    monkeypatch.setattr(core, "move_horizon", slow)
    with pytest.raises(varve.Conflict, match="another process archived"):
        db.archive(end // 2, tmp_path / "ours")
    with varve.open([tmp_path / "theirs", tmp_path / "ours"][:1]) as series:
        assert series.next_global_sequence == db.first_global_sequence


def test_a_corrupted_block_stays(db: varve.Varve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is not sound is not moved."""

    def refuse(*_: Any) -> None:
        raise MalformedBlock("on purpose")

    monkeypatch.setattr(archive.Derivation, "feed", refuse)
    with pytest.raises(varve.CorruptedBlock, match="on purpose"):
        db.archive(db.next_global_sequence, tmp_path / "archive")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["store"]


def test_progress(db: varve.Varve, tmp_path: Path) -> None:
    """It rises to the number of events."""
    told: list[tuple[int, int]] = []
    report = db.archive(db.next_global_sequence, tmp_path / "archive", progress=lambda *both: told.append(both))
    assert told == sorted(told)
    assert told[-1] == (report.events, report.events)


def test_pages_are_used_again(db: varve.Varve, tmp_path: Path) -> None:
    """The file does not shrink, and does not grow either by what is appended then."""
    fill(db, random.Random(3), 400)
    db.archive(db.next_global_sequence, tmp_path / "archive")
    size = db.stats().used_bytes
    fill(db, random.Random(4), 100)
    assert db.stats().used_bytes <= size + 16 * limits.PAGE_BYTES
