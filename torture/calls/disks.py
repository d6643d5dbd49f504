"""A disk that is really full, and then has room again: small file systems that are mounted for it."""

from __future__ import annotations

import contextlib
import functools
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import varve
from torture.calls.workloads import Mark
from torture.children import ask
from torture.judge import unsound
from varve import ops

_TMPFS_BYTES: Final = 4 * 2**20
_EXT4_BYTES: Final = 16 * 2**20
_ROUNDS: Final = 5
_EVENTS: Final = 20


class CannotMount(RuntimeError):
    """This machine does not let us mount: root is needed, and for ext4 loop devices."""


@dataclass(frozen=True, slots=True)
class Disk:
    """A small file system."""

    kind: str
    folder: Path
    margin: Path
    """A file that can be removed to make room."""

    def fill(self, name: str = "ballast") -> None:
        """Up to the last block."""
        file = os.open(self.folder / name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            for piece in (1 << 16, 4_096, 512, 1):
                with contextlib.suppress(OSError):
                    while os.write(file, bytes(piece)) == piece:
                        pass
        finally:
            os.close(file)

    def make_room(self) -> None:
        """A few hundred kilobytes."""
        for file in (self.margin, self.folder / "ballast"):
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def disk(kind: str, folder: Path) -> Iterator[Disk]:
    """A file system of its own, ``tmpfs`` or ``ext4`` in an image. Raises ``CannotMount``, with the reason."""
    point = folder / kind
    point.mkdir()
    image = folder / f"{kind}.image"
    if kind == "ext4":
        with image.open("wb") as file:
            file.truncate(_EXT4_BYTES)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-b", "4096", str(image))
        _run("mount", "-o", "loop", str(image), str(point))
    else:
        _run("mount", "-t", "tmpfs", "-o", f"size={_TMPFS_BYTES}", "tmpfs", str(point))
    try:
        yield Disk(kind, point, point / "margin")
    finally:
        _run("umount", str(point))
        image.unlink(missing_ok=True)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError as exc:
        raise CannotMount(f"there is no {command[0]} here") from exc
    if done.returncode:
        raise CannotMount(f"{' '.join(command)}: {done.stderr.strip() or done.returncode}")


class _Expect:
    """Collects what does not hold."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def that(self, holds: object, what: str) -> None:
        if not holds:
            self.problems.append(what)

    def full(self, what: str, work: Callable[[], object]) -> None:
        """It finds no room, and says so."""
        try:
            work()
        except varve.NoSpace:
            return
        except varve.StoreUnavailable as exc:
            self.that("No space left" in str(exc) or "no room" in str(exc), f"{what}: {type(exc).__name__}: {exc}")
        except Exception as exc:  # noqa: BLE001 - the finding
            self.problems.append(f"{what} on a full disk: {type(exc).__name__}: {exc}")
        else:
            self.problems.append(f"{what} succeeds on a full disk")


def appends_only(on: Disk) -> list[str]:
    """Only what appends meet on a full disk: for a control."""
    ended = ask(lambda: _appends(on))
    return list(ended.value or []) + ([ended.error] if ended.error else [])


def full_disk(on: Disk, every: int = 1) -> list[str]:
    """Appends, readers, consumers, opening, creating and rebuilding on a full disk, and with room again; what was wrong.
    ``every``: creation is tried with every so many blocks left only."""
    problems: list[str] = []
    scenarios = (_appends, _opening, functools.partial(_creating, every=every), _rebuilding)
    for scenario in scenarios:
        ended = ask(lambda: scenario(on))  # noqa: B023 - called at once
        problems += [f"{on.kind}: {problem}" for problem in ended.value or []]
        if ended.error:
            problems.append(f"{on.kind}: {ended.error}")
        on.make_room()
    return problems


def _appends(on: Disk) -> list[str]:
    """A handle meets a full disk again and again and goes on whenever there is room."""
    expect = _Expect()
    path = on.folder / "store"
    written = 0
    with varve.open(path) as db:
        marks, others = db.stream("marks", Mark), db.stream("others", Mark)
        consumer = db.consumer("billing", commit="manual")
        follow = consumer.follow_batches(10, timeout_s=0)
        reading = db.stream("marks", Mark).reader()

        def append() -> None:
            nonlocal written
            events = [Mark(written, part, _EVENTS, "x" * 700) for part in range(_EVENTS)]
            marks.append_batch(1, events, expected=written * _EVENTS)
            written += 1

        for _ in range(_ROUNDS):
            on.margin.write_bytes(bytes(300_000))
            on.fill()
            for attempt in range(3):
                expect.full("appending", lambda: _until_refused(append))
                expect.that(reading.length(1) == written * _EVENTS, f"{written} batches acknowledged, other length")
                if attempt == 0:
                    on.fill("ballast")
            on.fill("ballast")
            expect.full("a large append", lambda: others.append(1, Mark(0, 0, 1, "y" * 500_000)))
            expect.that(others.reader().length(1) == 0, "an append that was refused is there")
            if written:
                first: Any = reading.get(1, 0)
                expect.that(first is not None and first.commit == 0, "a reader does not live on")
            events = next(follow, [])
            with contextlib.suppress(varve.NoSpace):
                consumer.commit_blocking()
            on.make_room()
            append()
            if events:
                expect.that(consumer.commit_blocking() == consumer.committed, "a consumer cannot store its position")
        del first, events
    expect.problems += [f"unsound: {line}" for line in unsound(path)]
    with varve.open(path) as db:
        db.stream("marks", Mark)
        found = [recorded.event.commit for recorded in db.global_reader().iter_from()]
    expect.that(
        found == [number for number in range(written) for _ in range(_EVENTS)], "what was acknowledged is not there"
    )
    return expect.problems


def _until_refused(append: Callable[[], None]) -> None:
    for _ in range(10_000):
        append()


def _opening(on: Disk) -> list[str]:
    """A store on a full disk is opened, or that is refused; read-only as well; without its lock file, too, which LMDB maps
    and would touch where there is no block for it."""
    expect = _Expect()
    path = on.folder / "store"
    with varve.open(path, readonly=True) as db:
        held = db.next_global_sequence
    on.fill()
    for keep in (True, False):
        for readonly in (True, False):
            if not keep:
                (path / "lock.mdb").unlink(missing_ok=True)

            def look(readonly: bool = readonly) -> int:
                with varve.open(path, readonly=readonly) as db:
                    for _ in range(200):
                        list(db.global_reader().iter_from(max(0, held - 3)))
                    return db.next_global_sequence

            ended = ask(lambda: _or_full(look))
            expect.that(not ended.error, f"opening on a full disk, readonly={readonly}: {ended.error}")
            expect.that(ended.value in {held, "full"}, f"opening on a full disk: {ended.value}")
    on.make_room()
    with varve.open(path) as db:
        expect.that(db.next_global_sequence == held, "opened again, the store holds something else")
        db.stream("marks", Mark).append(2, Mark(0, 0, 1, "room again"))
    with varve.open(path, readonly=True) as db:
        expect.that(db.next_global_sequence == held + 1, "an append with room again is not there")
    return expect.problems + [f"unsound: {line}" for line in unsound(path)]


def _or_full(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except varve.NoSpace:
        return "full"
    except varve.StoreUnavailable as exc:
        return "full" if "No space" in str(exc) else repr(exc)


def _creating(on: Disk, every: int) -> list[str]:
    """Creating a store where there are none, one, two ... blocks left: it is made, or it can be made later."""
    expect = _Expect()
    path = on.folder / "new"
    made = 0
    for blocks in range(0, 40, every):
        on.fill()
        spare = on.folder / "ballast"
        os.truncate(spare, max(0, spare.stat().st_size // 4_096 - blocks) * 4_096)

        def create() -> int:
            with varve.open(path) as db:
                db.stream("marks", Mark).append(1, Mark(1, 0, 1, "first"))
                return db.next_global_sequence

        ended = ask(lambda: _or_full(create))
        expect.that(not ended.error, f"creating with {blocks} blocks left: {ended.error}")
        expect.that(ended.value in {1, "full"}, f"creating with {blocks} blocks left: {ended.value}")
        on.make_room()
        with varve.open(path) as db:
            held = db.next_global_sequence
            expect.that(held == (ended.value == 1), f"creating with {blocks} blocks left: {held} events later")
            made += held
        expect.problems += [f"unsound, created with {blocks} blocks left: {line}" for line in unsound(path)]
        _run("rm", "-rf", str(path))
    return expect.problems


def _rebuilding(on: Disk) -> list[str]:
    """A rebuild that finds no room leaves nothing behind, and its source as it was."""
    expect = _Expect()
    path, target = on.folder / "store", on.folder / "rebuilt"
    on.fill()
    try:
        ops.repair(path, target)
    except Exception:  # noqa: BLE001 - it may say what the system says: it promises no handle
        pass
    else:
        expect.problems.append("a rebuild succeeds on a full disk")
    expect.that(not target.exists(), "a rebuild that failed has left its target")
    on.make_room()
    expect.problems += [f"unsound after a rebuild that failed: {line}" for line in unsound(path)]
    return expect.problems
