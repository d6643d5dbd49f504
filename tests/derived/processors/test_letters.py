"""Dead letters: kept, looked at, retried, dropped, replayed by themselves; and streams that wait behind them."""

from __future__ import annotations

import asyncio
import random
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from processor_models import Billed, Biller, Placed, Shipped, billed, fill, process, until

import varve
from varve import ops
from varve.testing import ManualClock

SEED = random.SystemRandom().randrange(2**32)


def sequences(letters: varve.DeadLetters, state: Any = None) -> list[int]:
    """Where the letters stand."""
    return [info.global_sequence for info in letters.list(state)]


def poisoned(db: varve.Varve, *bad: int, count: int = 20, park: bool = False) -> tuple[varve.Processor, Biller]:
    """A processor that has met orders that it cannot bill."""
    fill(db, count)
    biller = Biller(db, *bad)
    processor = db.processor("billing", biller, strategy=varve.DeadLetter(park=park), streams=["orders"])
    processor.catch_up_blocking()
    return processor, biller


def test_a_letter_says_everything(db: varve.Varve, varve_clock: ManualClock) -> None:
    """The event, the error, where it was raised, how often and when."""
    processor, _ = poisoned(db, 7)
    assert billed(db) == [n for n in range(20) if n != 7]
    letters = db.dead_letters("billing")
    assert len(letters) == 1
    [letter] = letters
    assert (letter.processor, letter.global_sequence, letter.stream, letter.stream_id, letter.stream_sequence) == (
        "billing",
        7,
        "orders",
        2,
        1,
    )
    assert (letter.type_name, letter.state, letter.blocks, letter.attempts, letter.retry_requested) == (
        "processors.Placed",
        "dead",
        False,
        1,
        False,
    )
    assert (letter.error_type, letter.message) == ("ValueError", "order 7 cannot be billed")
    assert letter.traceback.startswith("Traceback")
    assert "processor_models.py" in letter.traceback
    assert "varve/derived" not in letter.traceback
    assert letter.first_failed_at is not None
    assert letter.first_failed_at.timestamp() == varve_clock() / 1e9
    recorded = letters.event(7)
    assert recorded is not None
    assert recorded.event == Placed(7)
    assert letters.get(7) == letter
    assert letters.get(8) is None
    assert list(processor.dead_letters) == list(db.dead_letters()) == [letter]
    assert "'billing'" in repr(letters)
    assert "all" in repr(db.dead_letters())


def test_they_survive_a_restart(varve_path: Path) -> None:
    """They are in the store."""
    with varve.open(varve_path) as db:
        poisoned(db, 3, 4)
    with varve.open(varve_path) as db:
        assert sequences(db.dead_letters("billing")) == [3, 4]
        biller = Biller(db)
        report = db.processor("billing", biller, streams=["orders"]).retry_blocking()
        assert (report.handled, report.left) == ((3, 4), ())
        assert biller.seen == [3, 4]
        assert sequences(db.dead_letters()) == []
        assert sorted(billed(db)) == list(range(20))


def test_a_retry_that_fails_counts(db: varve.Varve, varve_clock: ManualClock) -> None:
    """It stays a letter, with the new error; one that succeeds is gone, with its effects in one commit."""
    processor, biller = poisoned(db, 3, 4)
    varve_clock.advance(60)
    biller.bad = {4}
    report = processor.retry_blocking()
    assert (report.handled, report.left) == ((3,), (4,))
    [letter] = processor.dead_letters.list()
    assert (letter.attempts, letter.retry_requested) == (2, False)
    assert letter.first_failed_at is not None
    assert letter.last_failed_at is not None
    assert (letter.last_failed_at - letter.first_failed_at).total_seconds() == 60
    assert billed(db)[-1] == 3
    assert processor.retry_blocking(4).left == (4,)
    biller.bad.clear()
    assert processor.retry_blocking(4).handled == (4,)
    assert sorted(billed(db)) == list(range(20))
    assert processor.status.replayed == 2
    assert processor.retry_blocking(4).handled == ()
    assert processor.retry_blocking() == varve.RetryReport((), ())


def test_a_retry_at_a_time_of_ones_own(db: varve.Varve) -> None:
    """``DeadLetters.retry`` asks; the processor does it when it is run next."""
    processor, biller = poisoned(db, 3, 4)
    biller.bad.clear()
    letters = db.dead_letters("billing")
    assert letters.retry(3)
    assert not letters.retry(5)
    assert [info.retry_requested for info in letters] == [True, False]
    processor.catch_up_blocking()
    assert sequences(letters) == [4]
    assert letters.retry_all() == 1
    processor.catch_up_blocking()
    assert sequences(letters) == []


def test_a_running_processor_hears_of_it(db: varve.Varve) -> None:
    """From this process at once, without an event that comes."""
    processor, biller = poisoned(db, 3, 4, 5)

    async def main() -> None:
        async with processor:
            await until(lambda: processor.status.waiting == "events")
            biller.bad = {5}
            report = await processor.retry()
            assert (report.handled, report.left) == ((3, 4), (5,))
            biller.bad.clear()
            processor.dead_letters.retry(5)
            await until(lambda: not len(processor.dead_letters))

    asyncio.run(main())
    assert sorted(billed(db)) == list(range(20))


def test_a_retry_from_another_thread(db: varve.Varve) -> None:
    """It waits for the processor's next step."""
    processor, biller = poisoned(db, 3)
    biller.bad.clear()
    with processor:
        assert processor.retry_blocking().handled == (3,)
    assert sequences(processor.dead_letters) == []


def test_a_retry_that_nobody_waits_for_any_more(db: varve.Varve) -> None:
    """Is done all the same, and the processor goes on."""
    processor, biller = poisoned(db, 3)
    biller.bad.clear()

    async def main() -> None:
        processor.pause()
        async with processor:
            asking = asyncio.create_task(processor.retry())
            await asyncio.sleep(0)
            asking.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asking
            processor.resume()
            await until(lambda: not len(processor.dead_letters))
            fill(db, 1)
            await until(lambda: 20 in billed(db))

    asyncio.run(main())


def test_another_process_asks_and_drops(db: varve.Varve) -> None:
    """The processor looks now and then while it has letters."""
    processor, biller = poisoned(db, 3, 4)
    biller.bad.clear()

    async def main() -> None:
        async with processor:
            await until(lambda: processor.status.waiting == "events")
            body = (
                "with varve.open(sys.argv[1]) as db:\n"
                "    letters = db.dead_letters('billing')\n"
                "    assert letters.drop(4) and letters.retry(3)\n"
            )
            with process(body, db.path) as other:
                assert await asyncio.to_thread(other.wait) == 0
            async with asyncio.timeout(30):
                while len(processor.dead_letters):  # noqa: ASYNC110 - another process changes them
                    await asyncio.sleep(0.01)

    asyncio.run(main())
    assert billed(db) == [*(n for n in range(20) if n not in {3, 4}), 3]


def test_drop(db: varve.Varve) -> None:
    """Given up for good, also when the processor is moved back."""
    processor, biller = poisoned(db, 3, 4)
    assert processor.dead_letters.drop(3)
    assert not processor.dead_letters.drop(3)
    assert processor.dead_letters.drop_all() == 1
    assert processor.dead_letters.drop_all() == 0
    processor.catch_up_blocking()
    assert biller.seen == list(range(20))


def test_one_that_is_dropped_while_it_is_handled(db: varve.Varve) -> None:
    """Its effects are not written: whoever dropped it was told that it was dropped."""
    processor, biller = poisoned(db, 3, 4)
    biller.bad.clear()
    letters = db.dead_letters("billing")

    def handle(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        biller(recorded, tx)
        assert letters.drop(recorded.global_sequence)
        if recorded.event.number == 4:
            raise ValueError("and it fails, too")

    report = db.processor("billing", handle, streams=["orders"]).retry_blocking()
    assert report.handled == (3, 4)  # they are gone
    assert sequences(letters) == []
    assert billed(db) == [n for n in range(20) if n not in {3, 4}]
    assert processor.name == "billing"


def test_a_letter_stands_for_its_event(db: varve.Varve) -> None:
    """A processor that is moved back does not handle the event anew beside it."""
    processor, biller = poisoned(db, 3)
    db.seek_consumer("billing", 0)
    biller.bad.clear()
    biller.seen.clear()
    processor.catch_up_blocking()
    assert biller.seen == [n for n in range(20) if n != 3]
    assert sequences(processor.dead_letters) == [3]


# -- parking -----------------------------------------------------------------------------------------


def test_a_poisoned_stream_waits_and_others_pass(db: varve.Varve) -> None:
    """Later events of the stream are put behind the letter, in order, and handled in order once it is retried."""
    processor, biller = poisoned(db, 7, park=True)
    assert sequences(processor.dead_letters, "dead") == [7]
    assert sequences(processor.dead_letters, "parked") == [12, 17]
    assert billed(db, 2) == [2]
    assert billed(db, 3) == [3, 8, 13, 18]
    parked = processor.dead_letters.get(12)
    assert parked is not None
    assert (parked.attempts, parked.first_failed_at, parked.error_type, parked.traceback) == (0, None, "", "")
    fill(db, 5)
    processor.catch_up_blocking()
    assert len(processor.dead_letters) == 4
    assert processor.retry_blocking().left == (7,)
    assert billed(db, 2) == [2]
    biller.bad.clear()
    assert processor.retry_blocking().handled == (7,)
    assert billed(db, 2) == [2, 7, 12, 17, 22]
    assert len(processor.dead_letters) == 0
    fill(db, 5)
    processor.catch_up_blocking()
    assert billed(db, 2) == [2, 7, 12, 17, 22, 27]


def test_a_dropped_letter_lets_its_stream_go_on(db: varve.Varve) -> None:
    """What waited is handled next, and what comes later behind it."""
    processor, _ = poisoned(db, 7, park=True)
    processor.dead_letters.drop(7)
    fill(db, 5)
    processor.catch_up_blocking()
    assert billed(db, 2) == [2, 12, 17, 22]
    assert len(processor.dead_letters) == 0


def test_a_parked_one_is_not_retried_before_its_turn(db: varve.Varve) -> None:
    """It can be dropped, though."""
    processor, biller = poisoned(db, 7, park=True)
    with pytest.raises(varve.errors.InvalidInput, match="waits behind"):
        processor.dead_letters.retry(12)
    assert processor.dead_letters.drop(12)
    biller.bad.clear()
    processor.retry_blocking()
    assert billed(db, 2) == [2, 7, 17]


def test_a_parked_one_that_fails_in_its_turn(db: varve.Varve) -> None:
    """The strategy decides about it, as about any event; what is behind it waits on."""
    processor, biller = poisoned(db, 7, park=True)
    biller.bad = {12}
    assert processor.retry_blocking().handled == (7,)
    assert sequences(processor.dead_letters, "dead") == [12]
    assert sequences(processor.dead_letters, "parked") == [17]
    assert billed(db, 2) == [2, 7]
    with pytest.raises(varve.ProcessorFailed):
        biller.bad = {17}
        db.processor("billing", biller, streams=["orders"]).retry_blocking()
    assert sequences(processor.dead_letters) == [17]
    biller.bad = {17}
    db.processor("billing", biller, strategy=varve.Skip(), streams=["orders"]).catch_up_blocking()
    assert sequences(processor.dead_letters) == []
    assert billed(db, 2) == [2, 7, 12]


def test_a_parked_one_is_retried_as_the_strategy_says(db: varve.Varve, varve_clock: ManualClock) -> None:
    """With waits, and then put aside without holding up the others."""
    processor, biller = poisoned(db, 7, park=True)
    processor.dead_letters.drop(7)
    biller.bad = {12}
    biller.seen.clear()
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        varve_clock.advance(seconds)

    strategy = varve.Retry(3, varve.fixed_wait(9), then=varve.DeadLetter(park=False))
    db.processor("billing", biller, strategy=strategy, streams=["orders"], sleep=sleep).catch_up_blocking()
    assert slept == [9, 9]
    assert biller.seen == [12, 12, 12, 17]
    [letter] = processor.dead_letters.list()
    assert (letter.global_sequence, letter.state, letter.blocks, letter.attempts) == (12, "dead", False, 3)


def test_parking_with_batched_handlers(db: varve.Varve) -> None:
    """A list holds no event of a stream that waits."""
    fill(db, 20)
    bills = db.stream("bills", Billed)

    def bill(events: list[varve.Recorded[Any]], tx: varve.Transaction) -> None:
        for one in events:
            if one.event.number == 7:
                raise ValueError("seven")
            tx.append(bills, one.stream_id, Billed(one.event.number))

    strategy = varve.DeadLetter(park=True)
    processor = db.processor("billing", varve.Batched(bill), strategy=strategy, streams=["orders"])
    processor.catch_up_blocking()
    assert billed(db) == [n for n in range(20) if n % 5 != 2 or n == 2]
    assert sequences(processor.dead_letters) == [7, 12, 17]


@pytest.mark.parametrize("seed", range(4))
def test_every_stream_in_order_whatever_fails(db: varve.Varve, seed: int) -> None:
    """Random failures, retries, drops, batches and restarts: with parking, the bills of each stream are its orders in order,
    but for what was dropped."""
    sys.stdout.write(f"seed {SEED} {seed}\n")
    rng = random.Random(f"{SEED} {seed}")
    dropped: set[int] = set()
    failing = rng.choice([0.03, 0.15])
    bills = db.stream("bills", Billed)

    def bill(recorded: varve.Recorded[Any], tx: varve.Transaction) -> None:
        tx.append(bills, recorded.stream_id, Billed(recorded.event.number))
        if rng.random() < failing:
            raise ValueError("bad luck")

    letters = db.dead_letters("billing")
    for _ in range(15):
        fill(db, rng.randrange(15), ids=4)
        processor = db.processor(
            "billing", bill, strategy=varve.DeadLetter(park=True), streams=["orders"], batch=rng.choice([1, 3, 128])
        )
        action = rng.randrange(4)
        if action == 0 and len(letters):
            info = rng.choice(letters.list())
            recorded = letters.event(info.global_sequence)
            assert recorded is not None
            dropped.add(recorded.event.number)
            letters.drop(info.global_sequence)
        elif action == 1:
            processor.retry_blocking()
        processor.catch_up_blocking()
        for info in letters.list("parked"):
            ahead = [one for one in letters if one.stream_id == info.stream_id]
            assert ahead[0].state == "dead"
    failing = 0
    while len(letters):
        db.processor("billing", bill, strategy=varve.DeadLetter(park=True), streams=["orders"]).retry_blocking()
    count = sum(1 for _ in db.stream("orders", Placed | Shipped).reader().iter_all())
    for stream_id in range(4):
        assert billed(db, stream_id) == [n for n in range(stream_id, count, 4) if n not in dropped]


# -- by themselves -----------------------------------------------------------------------------------


def test_automatic_replay(db: varve.Varve, varve_clock: ManualClock) -> None:
    """So long after each failure, up to so many attempts; then a letter is left alone, unless somebody asks."""
    poisoned(db, 3)
    biller = Biller(db, 3)

    async def main() -> None:
        processor = db.processor(
            "billing",
            biller,
            streams=["orders"],
            auto_replay=varve.AutoReplay(every_s=60, attempts_max=3),
            sleep=varve_clock.sleep,
        )
        async with processor:
            for attempts in (2, 3):
                await until(lambda: varve_clock.sleeping)
                varve_clock.advance(59)
                await until(lambda: varve_clock.sleeping)
                assert len(biller.seen) == attempts - 2
                varve_clock.advance(1)
                await until(lambda attempts=attempts: len(biller.seen) == attempts - 1)  # type: ignore[misc]
                await until(lambda: varve_clock.sleeping)
                [letter] = processor.dead_letters.list()
                assert letter.attempts == attempts
            biller.bad.clear()
            for _ in range(3):
                varve_clock.advance(600)
                await until(lambda: varve_clock.sleeping)
            assert len(biller.seen) == 2
            assert (await processor.retry()).handled == (3,)

    asyncio.run(main())


def test_automatic_replay_at_the_start(db: varve.Varve) -> None:
    """Each run begins with them; without ``every_s`` nothing else does."""
    poisoned(db, 3)
    biller = Biller(db, 3)
    replay = varve.AutoReplay(every_s=None, at_start=True, attempts_max=3)
    processor = db.processor("billing", biller, streams=["orders"], auto_replay=replay)
    for calls in (1, 2, 2):
        processor.catch_up_blocking()
        assert len(biller.seen) == calls


@pytest.mark.parametrize(
    "options", [{"every_s": -1}, {"every_s": "1"}, {"at_start": 1}, {"attempts_max": 0}, {"attempts_max": True}]
)
def test_bad_replays(options: dict[str, Any]) -> None:
    """Said when they are made."""
    with pytest.raises(varve.errors.InvalidInput):
        varve.AutoReplay(**options)


# -- trouble -----------------------------------------------------------------------------------------


def test_letters_wait_for_the_breaker_too(db: varve.Varve, varve_clock: ManualClock) -> None:
    """A retry calls the handler no more than anything else does."""
    _, biller = poisoned(db, 3)
    biller.bad.clear()

    async def main() -> None:
        breaker = varve.CircuitBreaker(1, 30, clock=varve_clock)
        ticket = breaker.acquire()
        assert ticket is not None
        breaker.failed(ticket)
        processor = db.processor("billing", biller, streams=["orders"], breaker=breaker, sleep=varve_clock.sleep)
        task = asyncio.create_task(processor.retry())
        await until(lambda: varve_clock.sleeping == (30,))
        assert biller.seen == list(range(20))
        varve_clock.advance(30)
        assert (await task).handled == (3,)

    asyncio.run(main())


def test_conflicts_of_a_retry(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is handled again; what is refused for good is its failure."""
    processor, biller = poisoned(db, 3)
    from varve.derived.processors.handling import HandlerTransaction

    left = 3
    finish = HandlerTransaction.finish

    async def refusing(tx: HandlerTransaction) -> None:
        nonlocal left
        left -= 1
        if left >= 0:
            raise varve.errors.TransactionConflict("somebody else was faster", what="key", key="k")
        await finish(tx)

    monkeypatch.setattr(HandlerTransaction, "finish", refusing)
    biller.bad.clear()
    assert processor.retry_blocking().handled == (3,)
    assert billed(db)[-1] == 3
    assert biller.seen == [*range(20), 3, 3, 3, 3]


def test_a_retry_whose_effects_are_refused(db: varve.Varve) -> None:
    """The store's answer is the error of the letter."""
    poisoned(db, 3)
    bills = db.stream("bills", Billed)
    processor = db.processor(
        "billing", lambda one, tx: tx.append(bills, one.stream_id, Billed(3), expected=99), streams=["orders"]
    )
    assert processor.retry_blocking().left == (3,)
    [letter] = processor.dead_letters.list()
    assert letter.error_type == "varve.errors.WrongExpectedVersion"
    assert letter.attempts == 2


def test_errors_that_cannot_be_shown(db: varve.Varve) -> None:
    """Texts beyond the limits are cut, what is no text is spelled, an error whose own code fails is said to be so."""
    fill(db, 3)

    class Unspeakable(Exception):
        def __str__(self) -> str:
            raise RuntimeError("not even this")

    errors = [ValueError("x" * 100_000), ValueError("\ud800"), Unspeakable()]

    def handle(recorded: varve.Recorded[Any], _tx: varve.Transaction) -> None:
        raise errors[recorded.event.number]

    processor = db.processor("billing", handle, strategy=varve.DeadLetter())
    processor.catch_up_blocking()
    long, odd, unspeakable = processor.dead_letters.list()
    assert len(long.message) == varve.limits.DEAD_LETTER_MESSAGE_CHARS_MAX
    assert len(long.traceback) == varve.limits.DEAD_LETTER_TRACEBACK_CHARS_MAX
    assert odd.message == "\\ud800"
    assert "RuntimeError" in unspeakable.message
    assert unspeakable.error_type.endswith("Unspeakable")


def test_events_that_are_archived_meanwhile(db: varve.Varve, tmp_path: Path) -> None:
    """Letters are a reason not to archive; where it is forced, they cannot be retried, only dropped."""
    fill(db, 3000, ids=50)
    fill(db, 1, ids=50)
    biller = Biller(db, 3)
    processor = db.processor("billing", biller, strategy=varve.DeadLetter(park=True), streams=["orders"])
    processor.catch_up_blocking()
    db.sync()
    with pytest.raises(varve.errors.ConsumersBehind, match="dead letters") as told:
        db.archive(2000, tmp_path / "old")
    assert (told.value.names, told.value.position) == (("billing",), 3)
    db.archive(2000, tmp_path / "old", force=True)
    horizon = db.first_global_sequence
    assert horizon > 100
    biller.bad.clear()
    assert processor.retry_blocking(3).left == (3,)
    letter = processor.dead_letters.get(3)
    assert letter is not None
    assert letter.error_type == "varve.errors.Archived"
    assert processor.dead_letters.event(3) is None
    processor.dead_letters.drop(3)
    processor.catch_up_blocking()
    dead = processor.dead_letters.list("dead")
    assert [info.global_sequence for info in dead] == [53]  # it was parked, and cannot be handled either
    assert dead[0].blocks
    processor.dead_letters.drop_all()


def test_events_that_are_dropped_by_compaction(tmp_path: Path) -> None:
    """What retention hid and compaction dropped cannot be retried; the letter says so."""
    with varve.open(tmp_path / "store") as db:
        poisoned(db, 2, 3, park=True)
        orders = db.stream("orders", Placed | Shipped)
        orders.truncate_before(2, 1)
        letters = db.dead_letters("billing")
        assert letters.event(2) is not None  # hidden is not gone
    ops.compact(tmp_path / "store", tmp_path / "small")
    with varve.open(tmp_path / "small") as db:
        assert sequences(db.dead_letters(), "dead") == [2, 3]
        biller = Biller(db)
        for handlers in (biller, {Placed: biller}):
            processor = db.processor("billing", handlers, streams=["orders"] if handlers is biller else None)
            assert 2 in processor.retry_blocking().left
        letter = processor.dead_letters.get(2)
        assert letter is not None
        assert letter.error_type == "varve.errors.EventDropped"
        assert processor.dead_letters.event(2) is None
        assert 3 in billed(db)


def test_a_processor_that_has_no_handler_any_more(db: varve.Varve) -> None:
    """The letter waits for one that has."""
    poisoned(db, 3)
    shipped = db.processor("billing", {Shipped: lambda _recorded, _tx: None})
    assert shipped.retry_blocking().left == (3,)
    letter = shipped.dead_letters.get(3)
    assert letter is not None
    assert "no handler" in letter.message


def test_bad_arguments(db: varve.Varve) -> None:
    """Are refused, and nothing is changed."""
    poisoned(db, 3)
    letters = db.dead_letters()
    for wrong in (-1, 2**64, "3", True, None):
        with pytest.raises(varve.errors.InvalidInput):
            letters.drop(wrong, "billing")  # type: ignore[arg-type]
    with pytest.raises(varve.errors.InvalidInput, match="whose"):
        letters.drop(3)
    with pytest.raises(varve.errors.InvalidInput):
        letters.list("gone")  # type: ignore[arg-type]
    with pytest.raises(varve.errors.InvalidName):
        db.dead_letters("")
    assert letters.get(3, "billing") is not None
    assert letters.drop(3, "billing")


def test_a_damaged_letter(varve_path: Path, tmp_path: Path) -> None:
    """The processor says which, and that it can be dropped; verification finds it, repair leaves it out and says so."""
    import lmdb

    with varve.open(varve_path) as db:
        poisoned(db, 3, 4)
    env = lmdb.open(str(varve_path), max_dbs=16, map_size=2**30)
    table = env.open_db(b"varve.dead_letters")
    with env.begin(write=True, db=table) as txn:
        with txn.cursor() as cursor:
            [key, _] = [bytes(key) for key, _ in cursor]
        value = bytearray(txn.get(key))
        value[20] ^= 1
        txn.put(key, bytes(value))
        txn.put(b"\x01nonsense", b"")
        beyond = key[:-8] + (999).to_bytes(8, "big")
        from varve.layout.dead_letters import LetterRecord

        record = LetterRecord(True, False, False, "orders", 1, 0, "T")
        txn.put(beyond, record.encode(beyond))
    env.close()
    report = ops.verify(varve_path)
    assert [(one.where, one.kind) for one in report.findings] == [
        ("dead_letters", "record"),
        ("dead_letters", "position"),
        ("dead_letters", "record"),
    ]
    for salvage in (False, True):
        target = tmp_path / f"repaired-{salvage}"
        notes = ops.repair(varve_path, target, salvage=salvage).notes
        assert sum("dead letter" in note for note in notes) == 3
        assert any("of event 3 and processor 'billing'" in note for note in notes)
        assert ops.verify(target).sound
        with varve.open(target) as db:
            assert sequences(db.dead_letters("billing")) == [4]
    with varve.open(varve_path) as db:
        letters = db.dead_letters("billing")
        with pytest.raises(varve.errors.CorruptedStore, match=r"dead_letters\('billing'\).drop\(3\)"):
            list(letters)
        with pytest.raises(varve.errors.CorruptedStore):
            db.processor("billing", Biller(db)).catch_up_blocking()
        assert letters.drop(3)
        assert letters.drop(999)
    env = lmdb.open(str(varve_path), max_dbs=16, map_size=2**30)
    with env.begin(write=True, db=env.open_db(b"varve.dead_letters")) as txn:
        txn.delete(b"\x01nonsense")
    env.close()


def test_backups_and_points_in_time(tmp_path: Path) -> None:
    """A restored store has its letters; an earlier point has none of events that come after it."""
    with varve.open(tmp_path / "store") as db:
        processor, _ = poisoned(db, 3, 9, 12)
        db.backup(tmp_path / "backups")
        end = db.next_global_sequence
        orders = db.stream("orders", Placed | Shipped)
        orders.append(1, Placed(77))
        orders.append(1, Placed(3))
        processor.catch_up_blocking()
        db.backup(tmp_path / "backups", incremental=True)
    whole = ops.restore(tmp_path / "backups", tmp_path / "whole")
    assert whole.dropped_dead_letters == 0
    with varve.open(tmp_path / "whole") as db:
        assert sequences(db.dead_letters()) == [3, 9, 12, end + 1]
        assert db.processor("billing", Biller(db), streams=["orders"]).retry_blocking().left == ()
    cut = ops.restore(tmp_path / "backups", tmp_path / "cut", to_sequence=end + 1)
    assert cut.dropped_dead_letters == 1
    with varve.open(tmp_path / "cut") as db:
        assert sequences(db.dead_letters()) == [3, 9, 12]
    assert ops.verify(tmp_path / "cut").sound


def test_threads_that_drop_while_it_runs(db: varve.Varve) -> None:
    """Each letter is either handled or dropped, never both: nobody is told that he dropped what is billed."""
    processor, biller = poisoned(db, *range(0, 200, 2), count=200)
    biller.bad.clear()
    letters = db.dead_letters("billing")
    dropped: list[int] = []

    def drop() -> None:
        dropped.extend(sequence for sequence in range(198, -1, -2) if letters.drop(sequence))

    thread = threading.Thread(target=drop)
    thread.start()
    handled = processor.retry_blocking()
    thread.join()
    processor.catch_up_blocking()
    assert len(letters) == 0
    assert sorted([*billed(db), *dropped]) == list(range(200))
    assert not handled.left
