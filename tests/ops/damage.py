"""Stores for the tests of verification and repair, and ways to damage them below Varve."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

import varve
from varve.layout.block import Block
from varve.layout.draft import BlockDraft

PAGE = 4096


@varve.event
class Noted:
    n: int
    text: str


@varve.event
class Marked:
    text: str


@contextmanager
def raw(path: Path) -> Iterator[Callable[[str], tuple[Any, Any]]]:
    """A write transaction below Varve: ``of("log")`` gives it with a sub-database."""
    with lmdb.open(str(path), max_dbs=16, map_size=2**30, lib_version=0) as env:
        names = ("log", "index", "meta", "consumers")
        databases = {}
        for name in names:
            try:
                databases[name] = env.open_db(b"varve." + name.encode(), create=False)
            except lmdb.NotFoundError:
                continue
        with env.begin(write=True) as transaction:
            yield lambda name: (transaction, databases[name])


def blocks(path: Path) -> list[Block]:
    """Every block of the log."""
    with raw(path) as of:
        transaction, log = of("log")
        with transaction.cursor(log) as cursor:
            return [Block(memoryview(bytes(value))) for _, value in cursor]


def put(path: Path, table: str, key: bytes, value: bytes | None) -> None:
    """Put a pair, or delete it."""
    with raw(path) as of:
        transaction, database = of(table)
        if value is None:
            assert transaction.delete(key, db=database)
        else:
            transaction.put(key, value, db=database)


def rewrite(path: Path, number: int, edit: Callable[[BlockDraft], None]) -> Block:
    """Change a block and give it the checksum of what it says now."""
    draft = BlockDraft.of(blocks(path)[number])
    edit(draft)
    frame = draft.encode()
    put(path, "log", draft.first.to_bytes(8, "big"), frame)
    return Block(memoryview(frame))


def pages_of(path: Path, needle: bytes) -> list[int]:
    """The pages in which some bytes stand, older copies too."""
    data = (path / "data.mdb").read_bytes()
    return [at // PAGE for at in range(0, len(data), PAGE) if needle in data[at : at + PAGE]]


def overwrite(path: Path, at: int, data: bytes) -> None:
    """Change bytes of the closed file."""
    with (path / "data.mdb").open("r+b") as file:
        file.seek(at)
        file.write(data)


def content(path: Path) -> list[tuple[Any, ...]]:
    """Everything that a reader can see of each event."""
    with varve.open(path, readonly=True) as db:
        return [
            (
                r.global_sequence,
                r.stream,
                r.stream_id,
                r.stream_sequence,
                r.type.__name__,
                varve.to_dict(r.event),
                r.metadata,
                r.time_ns,
                r.commit_sequence,
            )
            for r in db.global_reader().iter_from(0)
        ]


def random_store(path: Path, rng: random.Random) -> None:
    """Two names, ids of several kinds, singles, batches, big events, keys, metadata, a consumer."""
    with varve.open(path, durability="relaxed") as db:
        streams = [db.stream(name, Noted | Marked) for name in ("notes", "marks")]

        def event() -> Noted | Marked:
            size = rng.randrange(rng.choice((5, 400)))
            return Noted(rng.randrange(99), "x" * size) if rng.random() < 0.8 else Marked("m" * size)

        for step in range(rng.randrange(5, 40)):
            stream = rng.choice(streams)
            key = f"key {step}" if rng.random() < 0.3 else None
            metadata = {"step": step} if rng.random() < 0.3 else None
            kind = rng.randrange(5)
            if kind == 0:
                stream.append(rng.randrange(6), event(), idempotency_key=key, metadata=metadata)
            elif kind == 1:
                events = [event() for _ in range(rng.choice((3, 50, 500)))]
                stream.append_batch(rng.choice(("a", "b", 3)), events, idempotency_key=key, metadata=metadata)
            elif kind == 2:
                items = [(rng.randrange(9), event()) for _ in range(rng.choice((3, 100)))]
                stream.append_many(items, idempotency_key=key)
            elif kind == 3:
                stream.append(1, Noted(1, "B" * rng.choice((3_000, 50_000))))
            else:
                with db.transaction() as tx:
                    tx.append(streams[0], rng.randrange(4), event())
                    tx.append_batch(streams[1], 5, [event() for _ in range(7)])
        db.consumer("billing", interval_s=0).close()
