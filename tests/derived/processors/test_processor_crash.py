"""Processors killed with -9 between every two steps: what they do in the store happens exactly once, and nothing is lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from processor_models import Biller, billed, fill, process

import varve
from varve.testing import assert_sound

ORDERS = 24
POISONED = 7
STREAM = [n for n in range(ORDERS) if n % 5 == POISONED % 5]

# A processor that is killed when it comes to a step for the nth time.
KILLED = """
import os, signal
from varve.derived.processors import handling, run
from varve.derived.processors.letters import Put, Take, Replace
from varve.engine import commit
from varve.engine.commit import Session

path, step, nth, mode = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]

def dies(name):
    global nth
    if name == step:
        nth -= 1
        if not nth:
            os.kill(os.getpid(), signal.SIGKILL)

def around(owner, name, before=None, behind=None):
    real = getattr(owner, name)
    def wrapped(*args, **options):
        dies(before)
        result = real(*args, **options)
        dies(behind)
        return result
    async def wrapped_async(*args, **options):
        dies(before)
        result = await real(*args, **options)
        dies(behind)
        return result
    import inspect
    setattr(owner, name, wrapped_async if inspect.iscoroutinefunction(real) else wrapped)

with varve.open(path) as db:
    biller = Biller(db, *([7] if mode == "poisoned" else []))
    around(run, "call", "before the handler", "behind the handler")
    around(handling.HandlerTransaction, "finish", "before the commit", "behind the commit")
    around(commit, "put_effects", "before the effects are put", "behind the effects")
    around(Put, "__call__", "before a letter is put", "behind a letter")
    around(Take, "__call__", "before a letter is taken", "behind a taken letter")
    around(Replace, "__call__", "before a letter is changed", "behind a changed letter")
    around(Session, "commit", "before the store commits", "behind the store's commit")
    strategy = varve.Retry(2, varve.fixed_wait(0), then=varve.DeadLetter(park=True))
    processor = db.processor("billing", biller, strategy=strategy, streams=["orders"], batch=6)
    if mode == "poisoned":
        processor.catch_up_blocking()
    else:
        processor.retry_blocking()
print("survived")
"""

HANDLING = [
    ("before the handler", 9),
    ("behind the handler", 4),
    ("before the commit", 2),
    ("behind the effects", 3),
    ("before the store commits", 4),
    ("behind the store's commit", 3),
    ("behind the commit", 1),
    ("behind a letter", 2),
]
RETRYING = [
    ("behind the handler", 2),
    ("behind a taken letter", 1),
    ("behind the effects", 3),
    ("behind the store's commit", 3),
    ("behind the commit", 2),
]


def killed(path: Path, step: str, nth: int, mode: str) -> None:
    """Run a processor until it is killed there."""
    with process(KILLED, path, step, nth, mode) as running:
        out, _ = running.communicate(timeout=60)
        assert out == "", "it never came to that step so often"
        assert running.returncode == -9


def check(db: varve.Varve, *, handled: list[int]) -> None:
    """Each order is billed once, in the order of its stream, or is a letter."""
    found = billed(db)
    assert sorted(found) == handled
    for stream_id in range(5):
        assert billed(db, stream_id) == [n for n in handled if n % 5 == stream_id]


@pytest.mark.parametrize(("step", "nth"), HANDLING)
def test_killed_while_it_handles_events(varve_path: Path, step: str, nth: int) -> None:
    """Whoever goes on bills each order once; the poisoned one is a letter, and those of its stream wait behind it."""
    with varve.open(varve_path) as db:
        fill(db, ORDERS)
    killed(varve_path, step, nth, "poisoned")
    assert_sound(varve_path)
    with varve.open(varve_path) as db:
        position = db.consumers()[0].position
        letters = {info.global_sequence for info in db.dead_letters("billing")}
        assert set(billed(db)) | letters == set(range(min(position, ORDERS)))  # one commit, all or nothing
        strategy = varve.DeadLetter(park=True)
        processor = db.processor("billing", Biller(db, POISONED), strategy=strategy, streams=["orders"])
        processor.catch_up_blocking()
        waiting = [n for n in STREAM if n >= POISONED]
        check(db, handled=[n for n in range(ORDERS) if n not in waiting])
        assert [info.global_sequence for info in processor.dead_letters.list("dead")] == [POISONED]
        assert [info.global_sequence for info in processor.dead_letters.list("parked")] == waiting[1:]


@pytest.mark.parametrize(("step", "nth"), RETRYING)
def test_killed_while_it_retries_letters(varve_path: Path, step: str, nth: int) -> None:
    """Whoever goes on handles the rest, each order once and in order, without being asked again."""
    with varve.open(varve_path) as db:
        fill(db, ORDERS)
        strategy = varve.DeadLetter(park=True)
        db.processor("billing", Biller(db, POISONED), strategy=strategy, streams=["orders"]).catch_up_blocking()
    killed(varve_path, step, nth, "healed")
    assert_sound(varve_path)
    with varve.open(varve_path) as db:
        processor = db.processor("billing", Biller(db), streams=["orders"])
        left = {info.global_sequence for info in processor.dead_letters}
        assert set(billed(db)) == set(range(ORDERS)) - left
        processor.catch_up_blocking()
        check(db, handled=list(range(ORDERS)))
        assert len(processor.dead_letters) == 0


@pytest.mark.parametrize("step", ["behind a changed letter", "behind the store's commit"])
def test_killed_while_it_notes_that_a_retry_failed(varve_path: Path, step: str) -> None:
    """The letter is there as before or as after, and nothing was billed for it."""
    with varve.open(varve_path) as db:
        fill(db, ORDERS)
        strategy = varve.DeadLetter(park=True)
        db.processor("billing", Biller(db, POISONED), strategy=strategy, streams=["orders"]).catch_up_blocking()
        before = billed(db)
        db.dead_letters("billing").retry(POISONED)
    nth = 1 if "letter" in step else 2  # the first commit takes the consumer
    killed(varve_path, step, nth, "poisoned")
    with varve.open(varve_path) as db:
        [letter] = db.dead_letters("billing").list("dead")
        assert letter.attempts in ({2} if "store" in step else {1})
        assert letter.retry_requested is ("store" not in step)
        assert billed(db) == before
