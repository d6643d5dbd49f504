"""A consumer continues where it stopped: positions, commits, seeking, listing, deleting, bad input."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

import varve
from varve import limits, ops
from varve.testing import ManualClock

sys.path.insert(0, str(Path(__file__).parent))

from consumer_models import Billed, Placed, consuming, fill, settle, take, there, told


@pytest.fixture
def db(varve_path: Path, varve_clock: ManualClock) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with varve.open(varve_path, durability="relaxed", clock=varve_clock) as store:
        yield store


def stored(db: varve.Varve, name: str = "billing") -> int:
    return next(info.position for info in db.consumers() if info.name == name)


# -- at least once ---------------------------------------------------------------------------------


def test_a_consumer_continues_behind_what_it_has_committed(db: varve.Varve) -> None:
    """By hand, in the middle of a batch."""
    fill(db, 10)

    async def first() -> None:
        async with db.consumer("billing", commit="manual") as consumer:
            await take(consumer, 4)
            assert await consumer.commit() == 4
            await take(consumer, 3)
            assert (consumer.position, consumer.committed) == (7, 4)

    asyncio.run(first())
    with db.consumer("billing") as again:
        assert (again.position, again.committed, again.lag) == (4, 4, 6)
        assert there(again) == [4, 5, 6, 7, 8, 9]


def test_two_tasks_that_use_one_consumer_get_each_event_once(db: varve.Varve) -> None:
    """They should not; one that finds nothing left after a pause waits instead of failing."""
    fill(db, 3)

    async def run() -> None:
        got: list[int] = []
        async with db.consumer("billing") as consumer:

            async def taking() -> None:
                async for recorded in consumer:
                    got.append(recorded.global_sequence)  # noqa: PERF401 - it never ends: a list would not be filled

            tasks = [asyncio.create_task(taking()) for _ in range(2)]
            for _ in range(1000):  # turns of the loop: far more than three events take
                if len(got) == 3 or any(task.done() for task in tasks):
                    break
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
            assert [type(end) for end in ends] == [asyncio.CancelledError] * 2
        assert sorted(got) == [0, 1, 2]

    asyncio.run(run())


def test_a_position_is_stored_when_the_loop_comes_back_and_not_before(db: varve.Varve) -> None:
    """What it was given may not be done yet."""
    fill(db, 3)

    async def run() -> None:
        consumer = db.consumer("billing", interval_s=0)
        seen = []
        async for recorded in consumer.batches(1):
            seen.append(recorded[0].global_sequence)
            assert stored(db) <= recorded[0].global_sequence
            if len(seen) == 3:
                break
        assert seen == [0, 1, 2]
        task = asyncio.create_task(take(consumer, 1))
        while stored(db) != 3:  # it has come back for more
            await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())


def test_events_share_commits_of_the_position(db: varve.Varve) -> None:
    """A long interval: nothing is stored for each event, everything at the end but the last, which may not be done."""
    fill(db, 20)
    with db.consumer("billing", interval_s=3600) as consumer:
        number = 0
        for recorded in consumer.follow():
            number += 1
            assert stored(db) == 0
            if recorded.global_sequence == 19:
                break
        assert number == 20
    assert stored(db) == 19


def test_a_loop_whose_body_fails_repeats_that_event(db: varve.Varve) -> None:
    """It was not done."""
    fill(db, 6)
    with pytest.raises(ZeroDivisionError), db.consumer("billing", interval_s=3600) as consumer:
        for recorded in consumer.follow():
            _ = 1 // (recorded.global_sequence - 4)
    with db.consumer("billing") as again:
        assert there(again) == [4, 5]


def test_following_until_nothing_comes_stores_all_of_it(db: varve.Varve) -> None:
    """The loop came back for more, so all is done."""
    fill(db, 6)
    consumer = db.consumer("billing", interval_s=3600)
    assert there(consumer) == list(range(6))
    assert stored(db) == consumer.committed == 6


def test_by_hand_means_by_hand(db: varve.Varve) -> None:
    """Neither coming back nor closing stores what was not committed."""
    fill(db, 6)
    with db.consumer("billing", commit="manual", interval_s=0) as consumer:
        assert there(consumer) == list(range(6))
    assert stored(db) == 0
    with db.consumer("billing", commit="manual") as consumer:
        assert [len(batch) for batch in consumer.follow_batches(4, 0)] == [4, 2]
        assert consumer.commit_blocking() == 6
    assert stored(db) == 6


def test_a_second_loop_goes_on_where_the_first_stopped(db: varve.Varve) -> None:
    """In one consumer, whichever the form."""
    fill(db, 12)
    consumer = db.consumer("billing")

    async def run() -> list[int]:
        one = [r.global_sequence for r in await take(consumer, 3)]
        many = [r.global_sequence for batch in await take(consumer.batches(4), 1) for r in batch]
        return one + many

    assert asyncio.run(run()) + there(consumer) == list(range(12))


def test_events_come_as_they_are_committed(db: varve.Varve) -> None:
    """Awake for each, with the position stored behind it in time."""

    async def run() -> None:
        async with db.consumer("billing", interval_s=0) as consumer:
            for number in range(5):
                task = asyncio.create_task(take(consumer, 1))
                await settle()
                assert not task.done()
                [sequence] = fill(db, 1)
                [recorded] = await task
                assert recorded.global_sequence == sequence == number
                assert isinstance(recorded.event, Placed)

    asyncio.run(run())


def test_a_cancelled_wait_loses_nothing(db: varve.Varve) -> None:
    """As under ``asyncio.wait_for``, also while it stores the position."""

    async def run() -> list[int]:
        seen = []
        async with db.consumer("billing", interval_s=0) as consumer:
            for turns in range(40):
                task = asyncio.create_task(take(consumer, 1))
                await settle(turns % 9)
                if turns % 2:
                    fill(db, 1)
                task.cancel()
                try:
                    seen += [r.global_sequence for r in await task]
                except asyncio.CancelledError:
                    continue
            return seen + there(consumer)

    assert asyncio.run(run()) == list(range(20))


def test_a_cancelled_commit_leaves_the_consumer_usable(db: varve.Varve) -> None:
    """It happened or not; the next one makes up for it, and none goes back."""
    fill(db, 30)

    async def run() -> None:
        async with db.consumer("billing", commit="manual") as consumer:
            for number in range(1, 31):
                await take(consumer, 1)
                task = asyncio.create_task(consumer.commit())
                await settle(number % 4)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                assert consumer.committed <= number
            assert await consumer.commit() == 30
        assert stored(db) == 30

    asyncio.run(run())


# -- filters ---------------------------------------------------------------------------------------


def test_the_position_moves_past_what_does_not_match(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A filtered consumer does not look through the same events again at every start."""
    monkeypatch.setattr(limits, "CONSUMER_SCANNED_INTERVAL_S", 0)
    fill(db, 50)
    db.stream("bills", Billed).append(1, Billed(7))
    fill(db, 50)
    for commit in ("auto", "manual"):
        with db.consumer(commit, streams=["nothing"], commit=commit) as consumer:  # type: ignore[arg-type]
            assert there(consumer) == []
        assert stored(db, commit) == 101
    with db.consumer("types", types=[Billed]) as consumer:
        assert there(consumer) == [50]
        assert stored(db, "types") == 101


def test_by_hand_nothing_is_passed_over_while_an_event_waits_for_its_commit(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows it does not match, and must not take it along."""
    monkeypatch.setattr(limits, "CONSUMER_SCANNED_INTERVAL_S", 0)
    fill(db, 5)
    db.stream("bills", Billed).append(1, Billed(7))
    fill(db, 5)
    with db.consumer("billing", streams=["bills"], commit="manual") as consumer:
        assert there(consumer) == [5]
        fill(db, 5)
        assert there(consumer) == []
        assert stored(db) == 0
        assert consumer.commit_blocking() == 16
    assert stored(db) == 16


def test_passing_over_costs_few_commits(db: varve.Varve) -> None:
    """Each step of the scan is no commit: within the interval there is none at all, but for the end."""
    consumer = db.consumer("billing", streams=["nothing"])
    taken = db.consumers()[0].updated_at
    for _ in range(5):
        fill(db, 3)
        assert there(consumer) == []  # its end stores
    clean = db.consumer("other", streams=["nothing"])
    fill(db, 3)

    async def run() -> None:
        task = asyncio.create_task(take(clean, 1))
        await settle(100)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())
    assert clean.position == 18
    assert (clean.committed, stored(db, "other")) == (0, 0) or clean.committed == 15
    assert taken == db.consumers()[0].updated_at


# -- starts, seeking -------------------------------------------------------------------------------


def test_a_start_counts_at_the_first_use_only(db: varve.Varve, varve_clock: ManualClock) -> None:
    """A sequence, the end, a point in time; later the stored position goes before."""
    fill(db, 4)
    varve_clock.advance(60)
    noon = datetime.fromtimestamp(varve_clock.now_ns / 1e9, UTC)
    fill(db, 4)
    for name, start, begins in (("two", 2, 2), ("end", varve.END, 8), ("time", noon, 4), ("zero", 0, 0)):
        with db.consumer(name, start=start) as consumer:
            assert consumer.position == consumer.committed == stored(db, name) == begins
            assert consumer.lag == 8 - begins
        with db.consumer(name, start=5) as consumer:
            assert consumer.position == begins


def test_seek_goes_anywhere_and_is_stored_at_once(db: varve.Varve) -> None:
    """Backwards, too; pending events are dropped."""
    fill(db, 10)
    consumer = db.consumer("billing", start=3)
    assert next(consumer.follow()).global_sequence == 3
    assert consumer.seek(8) == 8
    assert stored(db) == 8
    assert there(consumer) == [8, 9]
    assert consumer.seek(1) == stored(db) == consumer.position == 1
    assert there(consumer) == list(range(1, 10))
    assert consumer.seek(varve.END) == 10
    assert there(consumer) == []
    assert consumer.reset() == stored(db) == 3
    assert there(consumer) == list(range(3, 10))


def test_a_commit_that_was_given_up_does_not_undo_a_seek(db: varve.Varve) -> None:
    """The token rises with a seek: a straggler is refused, and the consumer goes on."""
    fill(db, 10)
    consumer = db.consumer("billing", commit="manual")
    there(consumer)
    straggler = consumer.ride(db._engine)
    consumer.seek(2)
    with pytest.raises(varve.ConsumerFenced):
        db._engine.commit(commit_of(straggler))
    assert stored(db) == 2
    assert there(consumer) == list(range(2, 10))


def commit_of(effect: Any) -> Any:
    from varve.engine.request import CommitRequest

    return CommitRequest([], effects=(effect,))


# -- many consumers --------------------------------------------------------------------------------


def test_consumers_are_listed_with_what_there_is_to_know(db: varve.Varve, varve_clock: ManualClock) -> None:
    """By name, also through a handle that only reads."""
    import os

    assert db.consumers() == []
    fill(db, 5)
    with db.consumer("b"), db.consumer("a", start=2):
        b_and_a = db.consumers()
    assert [info.name for info in b_and_a] == ["a", "b"]
    assert [info.running for info in db.consumers()] == [False, False]
    now = datetime.fromtimestamp(varve_clock.now_ns / 1e9, UTC)
    member = varve.ConsumerMember(0, running=True, pid=os.getpid(), taken_at=now, token=2, position=2)
    assert b_and_a[0] == varve.ConsumerInfo("a", position=2, lag=3, updated_at=now, members=(member,))
    path = db.path
    db.close()
    with varve.open(path, readonly=True) as reader:
        assert [info.position for info in reader.consumers()] == [2, 0]
        with pytest.raises(varve.ReadonlyStore):
            reader.consumer("a")
        with pytest.raises(varve.ReadonlyStore):
            reader.delete_consumer("a")


def test_a_deleted_consumer_begins_anew(db: varve.Varve) -> None:
    """And leaves no file behind."""
    fill(db, 5)
    for name in ("billing", "billing-2"):
        with db.consumer(name) as consumer:
            there(consumer)
    assert db.delete_consumer("billing")
    assert not db.delete_consumer("billing")
    assert [info.name for info in db.consumers()] == ["billing-2"]
    assert len(list(Path(db.path, "consumers").iterdir())) == 1
    with db.consumer("billing") as consumer:
        assert there(consumer) == list(range(5))


def test_following_without_a_wait_gives_what_others_have_committed(db: varve.Varve) -> None:
    """Also where nobody has told this process of it yet."""
    consumer = db.consumer("billing")
    assert there(consumer) == []
    for number in range(2):
        with consuming("fill(open_db(sys.argv[1]), 1); print('done', flush=True)", db.path) as other:
            assert told(other) == "done"
        assert there(consumer) == [number]


def test_names_that_look_alike_are_different(db: varve.Varve) -> None:
    """Whatever a file system makes of them."""
    fill(db, 1)
    names = ["a/b", "a_b", "A_b", "a\\b", "../x", "ä" * 127, "ä" * 126, "x" * 255, ".", "a\0b", "*"]
    consumers = [db.consumer(name) for name in names]
    assert sorted(info.name for info in db.consumers()) == sorted(names)
    assert all(info.running for info in db.consumers())
    assert {path.parent for path in Path(db.path).rglob("*.lock")} == {Path(db.path), Path(db.path, "consumers")}
    for consumer in consumers:
        consumer.close()
        assert db.delete_consumer(consumer.name)
    assert list(Path(db.path, "consumers").iterdir()) == []


# -- ends ------------------------------------------------------------------------------------------


def test_a_closed_consumer_refuses_everything(db: varve.Varve) -> None:
    """Closing twice is nothing; what it read ahead is gone."""
    fill(db, 5)
    consumer = db.consumer("billing")
    events = consumer.follow()
    next(events)
    consumer.close()
    consumer.close()
    for use in (lambda: next(events), consumer.commit_blocking, consumer.reset, lambda: asyncio.run(consumer.commit())):
        with pytest.raises(varve.HandleUnusable, match="was closed"):
            use()
    assert "billing" in repr(consumer)


def test_a_store_that_closes_ends_its_consumers(varve_path: Path) -> None:
    """Who waits learns of it, and the name is free."""

    async def run() -> None:
        db = varve.open(varve_path, durability="relaxed")
        fill(db, 3)
        consumer = db.consumer("billing")
        await take(consumer, 3)
        task = asyncio.create_task(take(consumer, 1))
        await settle()
        db.close()
        with pytest.raises(varve.StoreClosed):
            await task
        with varve.open(varve_path, durability="relaxed") as again, again.consumer("billing"):
            with pytest.raises(varve.StoreClosed):
                await consumer.commit()
            with pytest.raises(varve.StoreClosed):
                consumer.seek(0)
            consumer.close()
            assert again.consumers()[0].running

    asyncio.run(run())


def test_leaving_the_block_by_an_error_shows_that_error(varve_path: Path) -> None:
    """Not one of the consumer that cannot store its position any more."""
    with varve.open(varve_path, durability="relaxed") as db:
        fill(db, 3)
        with pytest.raises(ZeroDivisionError), db.consumer("billing", interval_s=3600) as consumer:
            there(consumer)
            fill(db, 1)
            assert len(list(zip(range(1), consumer.follow(), strict=False))) == 1
            db.consumer("billing", force=True).close()
            _ = 1 // 0


# -- bad input, damage -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "arguments"),
    [
        (varve.InvalidName, {"name": ""}),
        (varve.InvalidName, {"name": "x" * 256}),
        (varve.InvalidName, {"name": "ä" * 128}),
        (varve.InvalidName, {"name": "\ud800"}),
        (varve.InvalidName, {"name": 7}),
        (varve.InvalidName, {"name": None}),
        (varve.InvalidInput, {"start": -1}),
        (varve.InvalidInput, {"start": 1}),
        (varve.InvalidInput, {"start": "0"}),
        (varve.InvalidInput, {"start": True}),
        (varve.InvalidInput, {"start": datetime(2024, 1, 1)}),
        (varve.InvalidInput, {"commit": "batch"}),
        (varve.InvalidInput, {"commit": None}),
        (varve.InvalidInput, {"interval_s": -1}),
        (varve.InvalidInput, {"interval_s": float("nan")}),
        (varve.InvalidInput, {"interval_s": True}),
        (varve.InvalidInput, {"interval_s": "1"}),
        (varve.InvalidInput, {"member": 0}),
        (varve.InvalidInput, {"members": 2}),
        (varve.InvalidInput, {"member": 2, "members": 2}),
        (varve.InvalidInput, {"member": -1, "members": 2}),
        (varve.InvalidInput, {"member": 0, "members": 0}),
        (varve.InvalidInput, {"member": 0, "members": 257}),
        (varve.InvalidInput, {"member": True, "members": 2}),
        (varve.InvalidInput, {"member": 0.0, "members": 2}),
        (varve.InvalidInput, {"streams": "orders"}),
        (varve.SchemaError, {"types": [7]}),
    ],
)
def test_what_can_never_work_is_refused_and_leaves_nothing(
    db: varve.Varve, error: type[varve.VarveError], arguments: dict[str, Any]
) -> None:
    """No consumer, no file."""
    with pytest.raises(error):
        db.consumer(**{"name": "billing", **arguments})
    assert db.consumers() == []
    assert not list(Path(db.path, "consumers").glob("*"))


def test_seeking_where_nothing_is_or_can_be_is_refused(db: varve.Varve) -> None:
    """Events that are yet to come would be skipped."""
    fill(db, 3)
    consumer = db.consumer("billing", start=1)
    for start in (4, -1, "0", None, True):
        with pytest.raises(varve.InvalidInput):
            consumer.seek(start)  # type: ignore[arg-type]
    for events_max in (0, -1, True, 2**40):
        with pytest.raises(varve.InvalidInput):
            consumer.batches(events_max)
        with pytest.raises(varve.InvalidInput):
            consumer.follow_batches(events_max)
    with pytest.raises(varve.InvalidInput):
        consumer.follow(-1)
    assert there(consumer) == [1, 2]


def put(db: varve.Varve, key: bytes, value: bytes) -> None:
    """Change the side table below everything."""

    class Put:
        table = "consumers"

        def __call__(self, table: Any) -> None:
            table.put(key, value)

    db._engine.commit(commit_of(Put()))


def test_a_damaged_position_is_told_and_not_guessed(tmp_path: Path) -> None:
    """By whoever meets it, and by the check; it can be deleted."""
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        fill(db, 3)
        db.consumer("billing").close()
        put(db, b"\x01billing", b"rubbish and more rubbish")
        for use in (lambda: db.consumer("billing"), db.consumers, lambda: db.delete_consumer("billing")):
            with pytest.raises(varve.CorruptedStore):
                use()
    [finding] = ops.verify(tmp_path / "store").findings
    assert (finding.where, finding.kind) == ("consumers", "record")
    with varve.open(tmp_path / "store", durability="relaxed") as db:
        assert db.delete_consumer("billing", force=True)
        with db.consumer("billing") as consumer:
            assert there(consumer) == [0, 1, 2]
    assert ops.verify(tmp_path / "store").sound


def test_a_position_of_a_newer_version_is_left_alone(tmp_path: Path) -> None:
    """With the error that says to upgrade."""
    import zlib

    with varve.open(tmp_path / "store", durability="relaxed") as db:
        db.consumer("billing").close()
        rest = b"\x09\x00" + bytes(42)
        put(db, b"\x01billing", zlib.crc32(b"\x01billing" + rest).to_bytes(4, "little") + rest)
        with pytest.raises(varve.UnsupportedFormat) as caught:
            db.consumer("billing")
        assert (caught.value.found, caught.value.supported) == (9, 1)


@pytest.mark.parametrize("part", ["position", "token"])
def test_the_check_finds_what_cannot_be(tmp_path: Path, part: str) -> None:
    """A position beyond the end, a token that was never given."""
    from varve.layout.consumers import ConsumerRecord, Run

    with varve.open(tmp_path / "store", durability="relaxed") as db:
        fill(db, 3)
        db.consumer("billing").close()
        run = Run(0, 256, 1, 4 if part == "position" else 3, 2 if part == "token" else 1, 0)
        put(db, b"\x01billing", ConsumerRecord(1, 0, (run,)).encode(b"\x01billing"))
    [finding] = ops.verify(tmp_path / "store").findings
    assert (finding.where, finding.kind) == ("consumers", part)
    assert "'billing'" in str(finding)


def test_a_position_is_found_by_other_handles_and_processes(db: varve.Varve) -> None:
    """The table is made at its first use, by whichever process; a handle that was open before finds it."""
    fill(db, 5)
    body = """
    with open_db(sys.argv[1]) as db, db.consumer("theirs", interval_s=0) as consumer:
        print(there(consumer)[-1], [info.name for info in db.consumers()], flush=True)
        sys.stdin.readline()
    """
    with consuming(dedent(body), db.path) as other:
        assert told(other) == "4 ['theirs']"
        assert [(info.name, info.position, info.running) for info in db.consumers()] == [("theirs", 5, True)]
        with db.consumer("mine", start=2) as mine:
            assert there(mine) == [2, 3, 4]
            with pytest.raises(varve.ConsumerBusy) as caught:
                db.consumer("theirs")
            assert (caught.value.name, caught.value.pid) == ("theirs", other.pid)
    db.close()
    for readonly in (True, False):
        with varve.open(db.path, readonly=readonly) as again:
            assert [info.name for info in again.consumers()] == ["mine", "theirs"]


def test_asking_inside_db_write_does_not_wait_for_itself(db: varve.Varve) -> None:
    """Where another process has made the table meanwhile, opening it would need the writer's lock."""
    with consuming("open_db(sys.argv[1]).consumer('theirs'); print('done', flush=True)", db.path) as other:
        assert told(other) == "done"

    def ask(tx: varve.WriteTransaction) -> None:
        db.consumers()

    with pytest.raises(varve.HandleUnusable, match=r"inside db\.write"):
        db.write(ask)
    assert len(db.consumers()) == 1
    db.write(ask)


def test_rebuilding_keeps_positions(db: varve.Varve, tmp_path: Path) -> None:
    """They are not in the log, and are copied as they are."""
    fill(db, 10)
    with db.consumer("billing", member=1, members=2) as consumer, db.consumer("other", start=4):
        there(consumer)
        before = db.consumers()
    db.close()
    ops.repair(db.path, tmp_path / "new")
    assert ops.verify(tmp_path / "new").sound
    with varve.open(tmp_path / "new", durability="relaxed") as new:
        assert [(i.name, i.position, [m.position for m in i.members]) for i in new.consumers()] == [
            (i.name, i.position, [m.position for m in i.members]) for i in before
        ]
        with new.consumer("later") as later, new.consumer("other") as other:
            assert there(other) == [4, 5, 6, 7, 8, 9]
            assert new.consumers()[1].members[0].token > max(m.token for i in before for m in i.members)
            later.close()
