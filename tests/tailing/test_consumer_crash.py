"""Real processes killed with -9 at any instant: consumers continue without a gap, effects inside the store happen once."""

from __future__ import annotations

import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest

import varve

sys.path.insert(0, str(Path(__file__).parent))

from consumer_models import Billed, consuming, fill, open_db

SEED = random.SystemRandom().randrange(2**32)
EVENTS = 1_500


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with open_db(varve_path) as store:
        yield store


def lines_until_killed(running: subprocess.Popen[str], lines: int) -> list[str]:
    """So many whole lines, then kill -9; whatever was written before it came counts, but for a torn end."""
    assert running.stdout is not None
    read = []
    for line in running.stdout:
        read.append(line)
        if len(read) == lines:
            break
    running.kill()
    read += running.stdout.readlines()
    running.wait()
    return [line.strip() for line in read if line.endswith("\n")]


# Each line that it prints says what it did, before or after it did it; a consumer in a process of its own.
CONSUME = """
mode, member, members = sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
with open_db(sys.argv[1]) as db:
    consumer = db.consumer(
        "billing", streams=["orders"], interval_s=0 if mode == "batches" else 0.002,
        commit="manual" if mode == "manual" else "auto", member=member, members=members,
    )
    print("begin", consumer.position, flush=True)

    async def run():
        if mode == "batches":
            async for batch in consumer.batches(7):
                for recorded in batch:
                    print("did", recorded.global_sequence, flush=True)
        count = 0
        async for recorded in consumer:
            print("did", recorded.global_sequence, flush=True)
            count += 1
            if mode == "manual" and count % 5 == 0:
                print("committed", await consumer.commit(), flush=True)

    asyncio.run(run())
"""


@pytest.mark.parametrize("mode", ["auto", "batches", "manual"])
def test_a_killed_consumer_misses_nothing(db: varve.Varve, mode: str) -> None:
    """Everything is done at least once; each run begins behind what the last one committed, and goes in order."""
    print("seed", SEED)
    rng = random.Random(f"{SEED} {mode}")
    fill(db, EVENTS)
    done: Counter[int] = Counter()
    committed = last = 0
    for _ in range(100):
        with consuming(CONSUME, db.path, mode, 0, 1) as running:
            first, *lines = lines_until_killed(running, rng.randrange(1, EVENTS // 4))
        word, begun = first.split()
        assert word == "begin"
        assert committed <= int(begun) <= last
        did = [int(line.split()[1]) for line in lines if line.startswith("did")]
        assert did == list(range(int(begun), int(begun) + len(did)))
        committed = max([int(begun), *(int(line.split()[1]) for line in lines if line.startswith("committed"))])
        assert committed <= db.consumers()[0].position <= int(begun) + len(did)
        if mode == "manual":
            assert int(begun) % 5 == 0
        last = max(last, int(begun) + len(did))
        done.update(did)
        if last == EVENTS:
            break
    assert set(done) == set(range(EVENTS))


BILL = """
with open_db(sys.argv[1]) as db:
    bills = db.stream("bills", Billed)
    consumer = db.consumer("billing", streams=["orders"], commit=sys.argv[2])

    async def run():
        async for recorded in consumer:
            async with db.transaction() as tx:
                tx.append(bills, recorded.stream_id, Billed(recorded.event.number))
                tx.store_position(consumer)
            print("billed", flush=True)

    asyncio.run(run())
"""


@pytest.mark.parametrize("commit", ["auto", "manual"])
def test_effects_inside_the_store_happen_exactly_once(db: varve.Varve, commit: str) -> None:
    """Position and bill are one commit: whenever it is killed, no order is billed twice and none is forgotten."""
    print("seed", SEED)
    rng = random.Random(f"{SEED} {commit}")
    fill(db, EVENTS // 3)
    bills = db.stream("bills", Billed).reader()
    for _ in range(100):
        with consuming(BILL, db.path, commit) as running:
            lines_until_killed(running, rng.randrange(1, 120))
        billed = [recorded.event.order for recorded in bills.iter_all()]
        assert billed == list(range(len(billed)))
        if len(billed) == EVENTS // 3:
            break
    assert len(billed) == EVENTS // 3


def test_a_group_whose_members_and_number_change_by_kills(db: varve.Varve) -> None:
    """Each stream comes in order from wherever it stood, nothing is lost, though members die and their number changes."""
    print("seed", SEED)
    rng = random.Random(f"{SEED} group")
    fill(db, EVENTS, ids=50)
    done: Counter[int] = Counter()
    for _ in range(60):
        members = rng.randrange(1, 4)
        runs = [consuming(CONSUME, db.path, "auto", member, members) for member in range(members)]
        processes = [run.__enter__() for run in runs]
        streams_of: list[set[int]] = []
        for running in processes:
            did = [int(line.split()[1]) for line in lines_until_killed(running, rng.randrange(1, 500)) if "did" in line]
            assert did == sorted(set(did))
            streams_of.append({sequence % 50 for sequence in did})
            done.update(did)
        for run in runs:
            run.__exit__(None, None, None)
        assert sum(map(len, streams_of)) == len(set().union(*streams_of))  # no stream had two members
        if db.consumers()[0].position >= EVENTS - 1 and len(done) == EVENTS:
            break
    with db.consumer("billing", streams=["orders"]) as rest:
        done.update(recorded.global_sequence for recorded in rest.follow(0))
    assert set(done) == set(range(EVENTS))


TRANSFER = dedent("""
    with open_db(sys.argv[1]) as db:
        consumer = db.consumer("billing", force=True, interval_s=0)
        print("mine", flush=True)
        for recorded in consumer.follow():
            print("did", recorded.global_sequence, flush=True)
""")


def test_owners_who_are_forced_out_while_they_work(db: varve.Varve) -> None:
    """Takeovers at any instant: the position only rises, and everything is done by somebody."""
    print("seed", SEED)
    rng = random.Random(f"{SEED} force")
    fill(db, EVENTS)
    done: set[int] = set()
    position = 0
    old: subprocess.Popen[str] | None = None
    for _ in range(12):
        running = consuming(TRANSFER, db.path)
        new = running.__enter__()
        assert new.stdout is not None
        assert new.stdout.readline() == "mine\n"
        if old is not None:
            old.kill()
            done |= {int(line.split()[1]) for line in lines_until_killed(old, 1) if line.startswith("did")}
        for _ in range(rng.randrange(1, 300)):
            line = new.stdout.readline()
            if line.startswith("did"):
                done.add(int(line.split()[1]))
            if len(done) == EVENTS:
                break
        assert db.consumers()[0].position >= position
        position = db.consumers()[0].position
        assert set(range(position)) <= done | pending(position, done)
        old = new
    assert old is not None
    old.kill()
    done |= {int(line.split()[1]) for line in lines_until_killed(old, 1) if line.startswith("did")}
    with db.consumer("billing", force=True) as rest:
        done |= {recorded.global_sequence for recorded in rest.follow(0)}
    assert done == set(range(EVENTS))


def pending(position: int, done: set[int]) -> set[int]:
    """What its process has printed and this one has not read yet: it is read when that is killed."""
    return set(range(max(done, default=0), position))
