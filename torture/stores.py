"""Real stores with everything in them that a store can hold, the same bytes for the same seed."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from unittest import mock
from uuid import UUID

import lmdb

import varve
from varve.testing import ManualClock

DATABASES = ("log", "index", "meta")


@varve.event(name="rack.Placed")
class Placed:
    """A usual event."""

    number: varve.u64
    product: str
    amount: varve.u32 = 0
    note: str | None = None


@varve.event(name="rack.Shipped")
class Shipped:
    """Another type of the same streams."""

    number: varve.u64
    parcels: list[varve.u32]


@varve.event(name="rack.Scanned")
class Scanned:
    """A large event: pages of its own."""

    number: varve.u32
    image: bytes


def fill(
    path: Path,
    seed: int,
    steps: int,
    *,
    batches: tuple[int, ...] = (2, 30, 300),
    stage: Callable[[], None] = lambda: None,
) -> None:
    """Write a store in so many steps, batches of so many events among them. ``stage`` is called while the store is open
    and at rest, after its creation and after each commit."""
    chance = random.Random(f"store {seed}")
    clock = ManualClock()
    identity = UUID(int=chance.getrandbits(128), version=4)
    with mock.patch("uuid.uuid4", lambda: identity), varve.open(path, clock=clock) as db:
        orders = db.stream("orders", Placed | Shipped)
        scans = db.stream("scans", Scanned)
        notes = db.stream("notes \N{SNOWMAN}", Placed)
        ids: list[int | str | UUID] = [0, 1, 2**64 - 1, "a", "long id " * 20, UUID(int=7), "b", 77]
        stage()
        for number, step in enumerate(range(steps), 1):
            clock.advance(chance.choice((0, 0.001, 5, -3)))
            match chance.randrange(12):
                case 0 | 1 | 2 | 3 | 4:
                    metadata = {"step": step, "user": "u" * chance.randrange(9)} if chance.randrange(4) == 0 else None
                    orders.append(chance.choice(ids), Placed(number, f"product {step}", step), metadata=metadata)
                case 5:
                    count = chance.choice(batches)
                    batch = [Placed(number + i, "p" * chance.randrange(20)) for i in range(count)]
                    notes.append_batch(chance.choice(ids), batch, metadata={"batch": step})
                case 6:
                    rows = [(chance.choice(ids), Shipped(number + i, list(range(i % 4)))) for i in range(40)]
                    orders.append_many(rows, idempotency_key=f"many {step}")
                case 7:
                    scans.append(step, Scanned(step, chance.randbytes(chance.choice((100, 5_000, 40_000)))))
                case 8:
                    with db.transaction(idempotency_key=UUID(int=step), metadata={"cause": step}) as tx:
                        tx.append(orders, "a", Shipped(number, [1, 2, 3]))
                        tx.append_batch(notes, 0, [Placed(number, "x", note="y"), Placed(number, "z")])
                case 9:
                    _consume(db, f"reader {chance.randrange(3)}", chance.randrange(1, 30), stage)
                case 10:
                    orders.append(f"new {step}", Placed(number, "first"), idempotency_key=f"key {step}")
                case _:
                    notes.append(step, Placed(number, "\N{SNOWMAN}" * chance.randrange(40)))
            stage()


def _consume(db: varve.Varve, name: str, events: int, stage: Callable[[], None]) -> None:
    with db.consumer(name, commit="manual") as consumer:
        stage()
        for _ in islice(consumer.follow(timeout_s=0), events):
            pass
        consumer.commit_blocking()
        stage()


def pairs(path: Path) -> dict[str, dict[bytes, bytes]]:
    """Every key and value of a store that nobody has open, by sub-database."""
    found: dict[str, dict[bytes, bytes]] = {}
    with lmdb.open(str(path), readonly=True, lock=False, max_dbs=16, lib_version=0) as env:
        for name in (*DATABASES, "consumers"):
            try:
                database = env.open_db(f"varve.{name}".encode(), create=False)
            except lmdb.NotFoundError:
                continue
            with env.begin(db=database) as transaction, transaction.cursor() as cursor:
                found[name] = {bytes(key): bytes(value) for key, value in cursor}
    return found


def image(path: Path) -> bytes:
    """The data file of a store."""
    return (path / "data.mdb").read_bytes()


def remove(path: Path) -> None:
    """A folder with everything in it."""
    shutil.rmtree(path, ignore_errors=True)
