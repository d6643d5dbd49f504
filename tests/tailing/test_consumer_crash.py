"""Real processes killed with -9 at any instant: consumers continue without a gap, effects inside the store happen once."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import varve

sys.path.insert(0, str(Path(__file__).parent))

from consumer_models import Billed, consuming, fill, open_db

SEED = random.SystemRandom().randrange(2**32)
EVENTS = 900


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with open_db(varve_path) as store:
        yield store


def lines_until_killed(running: subprocess.Popen[str], lines: int) -> list[str]:
    """So many whole lines (fewer where it says that it has come to the end), then kill -9; whatever was written before it
    came counts, but for a torn end."""
    assert running.stdout is not None
    read: list[str] = []
    while len(read) < lines and (line := running.stdout.readline()) not in {"", "end\n"}:
        read.append(line)
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

    last = db.next_global_sequence - 1

    async def run():
        if mode == "batches":
            async for batch in consumer.batches(7):
                for recorded in batch:
                    print("did", recorded.global_sequence, flush=True)
                if batch[-1].global_sequence == last:
                    break
        else:
            async for recorded in consumer:
                print("did", recorded.global_sequence, flush=True)
                if mode == "manual" and recorded.global_sequence % 5 == 4:
                    print("committed", await consumer.commit(), flush=True)
                if recorded.global_sequence == last:
                    break

    if mode == "group":
        for recorded in consumer.follow(0):
            print("did", recorded.global_sequence, flush=True)
    elif consumer.position <= last:
        asyncio.run(run())
    print("end", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("mode", ["auto", "batches", "manual"])
def test_a_killed_consumer_misses_nothing(db: varve.Varve, mode: str) -> None:
    """Everything is done at least once; each run begins behind what the last one committed, and goes in order."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = random.Random(f"{SEED} {mode}")
    fill(db, EVENTS)
    done: Counter[int] = Counter()
    committed = last = 0
    for _ in range(100):
        with consuming(CONSUME, db.path, mode, 0, 1) as running:
            first, *lines = lines_until_killed(running, rng.randrange(2, EVENTS // 3))
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
    last = int(sys.argv[3]) - 1

    async def run():
        async for recorded in consumer:
            async with db.transaction() as tx:
                tx.append(bills, recorded.stream_id, Billed(recorded.event.number))
                tx.store_position(consumer)
            print("billed", flush=True)
            if recorded.global_sequence == last:
                break

    asyncio.run(run())
    print("end", flush=True)
    sys.stdin.readline()
"""


@pytest.mark.parametrize("commit", ["auto", "manual"])
def test_effects_inside_the_store_happen_exactly_once(db: varve.Varve, commit: str) -> None:
    """Position and bill are one commit: whenever it is killed, no order is billed twice and none is forgotten."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = random.Random(f"{SEED} {commit}")
    fill(db, EVENTS // 3)
    bills = db.stream("bills", Billed).reader()
    for _ in range(100):
        with consuming(BILL, db.path, commit, EVENTS // 3) as running:
            lines_until_killed(running, rng.randrange(1, 90))
        billed = [recorded.event.order for recorded in bills.iter_all()]
        assert billed == list(range(len(billed)))
        if len(billed) == EVENTS // 3:
            break
    assert len(billed) == EVENTS // 3


def test_a_group_whose_members_and_number_change_by_kills(db: varve.Varve) -> None:
    """Each stream comes in order from wherever it stood, nothing is lost, though members die and their number changes."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = random.Random(f"{SEED} group")
    fill(db, EVENTS, ids=50)
    done: Counter[int] = Counter()
    for _ in range(6):
        members = rng.randrange(1, 4)
        runs = [consuming(CONSUME, db.path, "group", member, members) for member in range(members)]
        processes = [run.__enter__() for run in runs]
        streams_of: list[set[int]] = []
        for running in processes:
            did = [int(line.split()[1]) for line in lines_until_killed(running, rng.randrange(1, 150)) if "did" in line]
            assert did == sorted(set(did))
            streams_of.append({sequence % 50 for sequence in did})
            done.update(did)
        for run in runs:
            run.__exit__(None, None, None)
        assert sum(map(len, streams_of)) == len(set().union(*streams_of))  # no stream had two members
    with db.consumer("billing", streams=["orders"]) as rest:
        done.update(recorded.global_sequence for recorded in rest.follow(0))
    assert set(done) == set(range(EVENTS))


TRANSFER = """
with open_db(sys.argv[1]) as db:
    consumer = db.consumer("billing", force=True, interval_s=0)
    print("mine", flush=True)
    for recorded in consumer.follow(0):
        print("did", recorded.global_sequence, flush=True)
    print("end", flush=True)
    sys.stdin.readline()
"""


def test_owners_who_are_forced_out_while_they_work(db: varve.Varve) -> None:
    """Takeovers at any instant: the position only rises, and everything is done by somebody."""
    sys.stdout.write(f"seed {SEED}\n")
    rng = random.Random(f"{SEED} force")
    fill(db, EVENTS)
    done: set[int] = set()
    positions = [0]
    with contextlib.ExitStack() as processes:
        old: subprocess.Popen[str] | None = None
        for _ in range(6):
            new = processes.enter_context(consuming(TRANSFER, db.path))
            assert new.stdout is not None
            assert new.stdout.readline() == "mine\n"
            if old is not None:
                done |= {
                    int(line.split()[1]) for line in lines_until_killed(old, rng.randrange(1, 30)) if "did" in line
                }
            positions.append(db.consumers()[0].position)
            old = new
        assert old is not None
        done |= {int(line.split()[1]) for line in lines_until_killed(old, rng.randrange(1, EVENTS)) if "did" in line}
    assert positions == sorted(positions)
    with db.consumer("billing", force=True) as rest:
        done |= {recorded.global_sequence for recorded in rest.follow(0)}
    assert done == set(range(EVENTS))
