"""One workload, recorded, and the images of it that are looked at."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import varve
from torture import preload
from torture.powercut import trace, workload
from torture.powercut.disk import Disk, Image, Sector
from torture.powercut.history import Fact, History, Seen
from torture.powercut.look import Folder, facts, look
from torture.powercut.trace import Op

EXHAUSTIVE: Final = 5
"""Up to so many pages that may or may not be on disk, every subset of them is an image."""

_CLOSER: Final = 40
"""One image of so many is also read by stream and appended to."""

_FRESH: Final = 8
"""One image of so many is laid out without the lock files of the one before."""

_REPEATED_MAX: Final = 2_000
"""So many repetitions in a row mean that there is nothing new."""

_KILLED: Final = 96
_KILL_AT_MAX: Final = 95
"""Records of the process that is killed, where it is not."""

Beat = Callable[[int], object]
"""Called before an image is looked at, with its number."""


@dataclass(slots=True)
class Recorded:
    """A workload that was recorded."""

    kind: str
    root: str
    ops: list[Op]
    log: list[Fact]
    history: History


class Recorder:
    """Runs workloads, each in a process of its own. To be closed; not to be shared by processes."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._server = subprocess.Popen(
            [sys.executable, "-c", "from torture.powercut import workload; workload.serve()"],
            cwd=Path(__file__).parents[2],
            env={**os.environ, "LD_PRELOAD": str(preload.library("record")), "PYTHONHASHSEED": "0"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def record(self, kind: str, seed: int, *, fault: str = "") -> Recorded:
        """Run a workload and read its trace. Raises ``RuntimeError`` where it fails."""
        with tempfile.TemporaryDirectory(prefix="record-", dir=self._scratch) as where:
            root, log = Path(where, "root"), Path(where, "log")
            root.mkdir()
            if kind == "killed":
                kill_at = random.Random(seed).randrange(1, _KILL_AT_MAX)
                self._work([kind, seed, str(root), str(log), kill_at, fault], Path(where, "errors"), (0, _KILLED))
            self._work([kind, seed, str(root), str(log), 0, fault], Path(where, "errors"), (0,))
            return recorded(kind, str(root), trace.read(log), self._scratch)

    def _work(self, order: list[object], errors: Path, endings: tuple[int, ...]) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps([*order, str(errors)]) + "\n")
        self._server.stdin.flush()
        ended = self._server.stdout.readline().strip()
        if not ended or int(ended) not in endings:
            told = errors.read_text(encoding="utf-8", errors="replace") if errors.exists() else ""
            raise RuntimeError(f"workload {order[0]} {order[1]} ended with {ended}: {told[-2000:]}")

    def close(self) -> None:
        """End the server."""
        for pipe in (self._server.stdin, self._server.stdout):
            if pipe is not None:
                pipe.close()
        self._server.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def recorded(kind: str, root: str, ops: list[Op], folder: Path) -> Recorded:
    """A trace with the log that it came to, read from what it left without a power cut."""
    disk = Disk(root)
    for op in ops:
        disk.feed(op)
    with tempfile.TemporaryDirectory(prefix="final-", dir=folder) as where:
        final = Folder(Path(where, "root"))
        final.lay_out(disk.settled(), fresh=True)
        with varve.open(final.path / workload.STORE, readonly=True, map_bytes=2**26, allow_network=True) as db:
            log = facts(db)
        final.clear()
    return Recorded(kind, root, ops, log, History(ops, log, workload.level(kind)))


# -- images of a run ---------------------------------------------------------------------------------------------------


def images(run: Recorded, draw: random.Random) -> Iterator[tuple[int, Image]]:
    """Point and image, with repetitions: some of everything, then what can be listed for every point, then at random for
    ever.

    A bulk load promises nothing between two calls of ``db.sync()``: its images are those of points where all is on disk.
    """
    disk = Disk(run.root)
    open_points: list[int] = []
    settled_points: list[int] = []
    for point, op in enumerate(run.ops):
        disk.feed(op)
        (settled_points if disk.is_settled else open_points).append(point)
    if workload.level(run.kind) == "bulk":
        open_points = []
    for point, disk in _at(run, _sample(open_points, draw)):
        listed = list(_listed(disk, draw))
        for image in draw.sample(listed, min(4, len(listed))):
            yield point, image
        yield point, disk.random(draw)
    for point, disk in _at(run, settled_points):
        yield point, disk.settled()
    for point, disk in _at(run, open_points):
        for image in _listed(disk, draw):
            yield point, image
    while open_points:
        for point, disk in _at(run, _sample(open_points, draw)):
            for _ in range(12):
                yield point, disk.random(draw)


def _sample(points: list[int], draw: random.Random) -> list[int]:
    return sorted(draw.sample(points, min(len(points), 24)))


def _at(run: Recorded, points: list[int]) -> Iterator[tuple[int, Disk]]:
    """The disk at each of some points, in order."""
    disk = Disk(run.root)
    fed = 0
    for point in points:
        for op in run.ops[fed : point + 1]:
            disk.feed(op)
        fed = point + 1
        yield point, disk


def _listed(disk: Disk, draw: random.Random) -> Iterator[Image]:
    """What is looked at wherever it can be: nothing, all, all but one, one alone, short files, every subset of few pages, a
    page torn once, every subset of few names."""
    pages = len(disk.pages())
    yield disk.lost()
    yield disk.settled()
    if disk.changes:
        for subset in range(1 << min(disk.changes, EXHAUSTIVE)):
            for every in (False, True):
                yield _image(disk, {}, others=every, names=subset)
    for longest in (True, False):
        if pages <= EXHAUSTIVE:
            for subset in range(1 << pages):
                yield _image(disk, {page: bool(subset >> page & 1) for page in range(pages)}, longest=longest)
        else:
            for page in range(pages):
                yield _image(disk, {page: True}, longest=longest)
                yield _image(disk, {page: False}, others=True, longest=longest)
    for page in range(pages) if pages <= 12 else draw.sample(range(pages), 12):
        for others in (True, False):
            yield _image(disk, {page: draw.choice((1, -1)) * draw.randrange(1, 8)}, others=others)


def _image(disk: Disk, pages: dict[int, int], *, others: bool = False, names: int = -1, longest: bool = True) -> Image:
    """An image by the numbers of its pages: True, False, or how many sectors of it, from its end if negative. ``names`` has a
    bit for each change of names."""
    at = 0

    def sectors(page: list[Sector]) -> bool | list[Sector]:
        nonlocal at
        taken = pages.get(at, others)
        at += 1
        if taken is True or taken is False:
            return taken
        return page[:taken] if taken > 0 else page[taken:]

    return disk.choose(
        sectors, names=lambda number: bool(names >> number & 1), length=lambda of: of[-1 if longest else 0]
    )


# -- looking -----------------------------------------------------------------------------------------------------------


class Runner:
    """Looks at the images of runs."""

    def __init__(self, scratch: Path, digests: set[int]) -> None:
        self._scratch = scratch
        self.digests = digests
        """Of every image that was looked at."""
        self.added: list[int] = []
        """Of those that this runner was the first to look at."""
        self.figures: dict[str, int] = {}

    def look_at(
        self, run: Recorded, seed: int, first: int, stop: int, beat: Beat, *, until: int = 0
    ) -> Iterator[tuple[int, str]]:
        """Look at the images ``first`` to ``stop`` of a run: number of the image and what is wrong with it. Each is held against
        the promises of all points at which it turns up among the first ``until`` images (``stop``)."""
        folder = Folder(self._scratch / f"image-{os.getpid()}")
        seen: dict[int, tuple[int, Seen | None]] = {}
        repeated = 0
        try:
            for point, image in images(run, random.Random(seed)):
                if image.digest not in seen:
                    repeated, number = 0, len(seen)
                    if number >= max(stop, until):
                        break
                    found = None
                    if first <= number < stop:
                        beat(number)
                        found = self._look(folder, run, image, seed * 1_000_003 + number)
                    seen[image.digest] = number, found
                number, found = seen[image.digest]
                repeated += 1
                if repeated > _REPEATED_MAX:
                    break
                if found is not None:
                    self._count("promises held against an image at a point")
                    for problem in run.history.broken(run.history.duties[point], found):
                        yield number, f"{run.kind}, cut after record {point} of {len(run.ops)}: {problem}"
        finally:
            folder.clear()
            folder.path.rmdir()

    def _look(self, folder: Folder, run: Recorded, image: Image, number: int) -> Seen:
        draw = random.Random(number)
        closer, fresh = draw.randrange(_CLOSER) == 0, draw.randrange(_FRESH) == 0
        folder.lay_out(image, fresh=fresh or closer)
        found = look(folder.path / workload.STORE, run.log, closer=closer)
        if closer or not found.present:  # it wrote
            folder.clear()
        if image.digest not in self.digests:
            self.digests.add(image.digest)
            self.added.append(image.digest)
            self._count(f"images, {run.kind}")
            self._count("images read by stream and appended to", closer)
            self._count("images without a store", not found.present)
        return found

    def _count(self, name: str, by: int = 1) -> None:
        if by:
            self.figures[name] = self.figures.get(name, 0) + by
