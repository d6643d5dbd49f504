"""What the tests of backups share: a history with everything in it, comparisons, children that are killed at a chosen step."""

from __future__ import annotations

import os
import random
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import varve
from varve import ops
from varve.engine.instant import contents


@varve.event
class Placed:
    number: varve.u64


@varve.event
class Noted:
    text: str


Both = Placed | Noted


class Clock:
    """A microsecond later at each look, so that no two commits have one time."""

    def __init__(self) -> None:
        self.ns = 1_700_000_000_000_000_000

    def __call__(self) -> int:
        self.ns += 1_000
        return self.ns


def commit(db: varve.Varve, number: int, rng: random.Random) -> None:
    """A commit of one to four events: several streams and types, metadata, keys, some new names."""
    with db.transaction(
        idempotency_key=f"key {number}" if number % 3 == 0 else None,
        metadata={"n": number} if number % 4 == 0 else None,
    ) as tx:
        for _ in range(rng.randint(1, 4)):
            name = rng.choice(["orders", "notes", f"name{number}"])
            event = Placed(number) if rng.random() < 0.5 else Noted("x" * rng.randint(0, 40))
            tx.append(db.stream(name, Both), rng.choice([1, "a", 2]), event)


def closed_store(path: Path, *, commits: int) -> Path:
    """A store of so many commits, closed; its path."""
    rng = random.Random(5)
    with varve.open(path, durability="relaxed", clock=Clock()) as db:
        for number in range(commits):
            commit(db, number, rng)
    return path


def recorded(path: os.PathLike[str] | str, stop: int | None = None) -> list[tuple[Any, ...]]:
    """Everything that can be read of a store, event by event."""
    with varve.open(path, readonly=True) as db:
        return [
            (
                bytes(one.raw),
                one.type,
                one.stream,
                one.stream_id,
                one.stream_sequence,
                one.global_sequence,
                one.commit_sequence,
                one.time_ns,
                None if one.metadata is None else dict(one.metadata),
            )
            for one in db.global_reader(unknown="event").iter_from(0, stop=stop)
        ]


def assert_prefix(restored: os.PathLike[str] | str, source: os.PathLike[str] | str) -> int:
    """A restored store is sound, and what the source's log begins with; how many events."""
    report = ops.verify(restored)
    assert report.sound, report.findings
    found = recorded(restored)
    assert found == recorded(source, len(found))
    return len(found)


def log_content(path: os.PathLike[str] | str) -> dict[str, dict[bytes, bytes]]:
    """Index and metadata, which follow from the log however it lies in blocks."""
    found = contents(str(path))
    del found["log"]
    return found


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


# -- children that die ----------------------------------------------------------------------------------------------


def killed_at(step: int, work: Callable[[], object]) -> bool:
    """Whether a child that does some work was cut off, as by kill -9, before its ``step``-th system call that matters."""
    pid = os.fork()
    if pid == 0:
        status = 3
        try:
            _die_at(step)
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, the parent is told
            traceback.print_exc()
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    assert code in {0, 9}, code
    return code == 9


def _die_at(step: int) -> None:
    left = [step]

    def dying(real: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **options: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                os._exit(9)
            return real(*arguments, **options)

        return called

    for name in ("fsync", "rename", "mkdir", "unlink", "rmdir", "open", "link"):
        setattr(os, name, dying(getattr(os, name)))


def steps_of(work: Callable[[int], bool]) -> Iterator[int]:
    """Each step at which the work can be cut off, up to the one that it does not come to."""
    step = 0
    while work(step):
        yield step
        step += 1
    assert step
