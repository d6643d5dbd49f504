"""Where the measurements write: a temporary folder on a real disk, and stores that several cases read."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import varve
from benches.events import SEED, OrderPlaced, orders

_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs", "devtmpfs"})
BATCH_EVENTS = 1_000


def disk_folder() -> str | None:
    """A folder for temporary files that is on a disk; None (the default one) where that cannot be told."""
    for folder in (os.environ.get("VARVE_BENCH_DIR"), tempfile.gettempdir(), "/var/tmp", os.getcwd()):  # noqa: PTH109
        if (
            folder
            and Path(folder).is_dir()
            and os.access(folder, os.W_OK)
            and file_system(folder) not in _MEMORY_FILE_SYSTEMS
        ):
            return folder
    return None


def file_system(folder: str) -> str:
    """The kind of file system that a folder is on, by the longest mount point above it; empty where unknown."""
    kind, longest = "", -1
    path = Path(folder).resolve()
    with contextlib.suppress(OSError), Path("/proc/self/mounts").open(encoding="utf-8") as mounts:
        for mount in mounts:
            _, point, found, *_ = mount.split(" ")
            if path.is_relative_to(point) and len(point) >= longest:
                kind, longest = found, len(point)
    return kind


@dataclass(frozen=True, slots=True)
class Size:
    """How much a run measures."""

    events: int
    """Events of the logs, whether written in batches or one by one."""
    many_streams: int
    """Streams of the store with many."""
    gets: int
    """Random reads in a round."""
    appends: int
    """Durable single appends in a round."""
    rounds: int
    """Rounds of the long comparisons."""
    short_rounds: int
    """Rounds of the short ones."""


FULL = Size(1_000_000, 300_000, 20_000, 20, 7, 60)
QUICK = Size(100_000, 30_000, 5_000, 20, 5, 30)
TINY = Size(2_000, 1_200, 50, 3, 1, 2)

STREAMS = 1_000
"""Streams of the stores with some, where the size allows it."""


class Workspace:
    """A temporary folder. Stores asked for by name are built once and kept until the end."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder = folder
        self.size = size
        self._built: dict[str, Path] = {}
        self._numbers = itertools.count()

    def new_path(self) -> Path:
        """A path where nothing is yet."""
        return self.folder / f"round-{next(self._numbers)}"

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """A path for one round, removed after it."""
        path = self.new_path()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def built(self, name: str, build: Callable[[Path], None]) -> Path:
        """The path of something that ``build`` made once."""
        path = self._built.get(name)
        if path is None:
            path = self.folder / name
            build(path)
            self._built[name] = path
        return path

    # -- stores that several cases read --------------------------------------------------------------------------------

    @property
    def streams(self) -> int:
        """Streams of the stores with some."""
        return min(STREAMS, self.size.events // 10)

    def batched(self) -> Path:
        """One stream, written in batches of 1,000."""

        def build(path: Path) -> None:
            with _open(path) as (db, stream):
                for start in range(0, self.size.events, BATCH_EVENTS):
                    stream.append_batch(0, orders(self.size.events)[start : start + BATCH_EVENTS])
                db.sync()

        return self.built("batched", build)

    def batched_streams(self) -> Path:
        """Streams written one after the other, a batch each."""

        def build(path: Path) -> None:
            events = orders(self.size.events)
            share = len(events) // self.streams
            with _open(path) as (_, stream):
                for number in range(self.streams):
                    stream.append_batch(number, events[number * share : (number + 1) * share])

        return self.built("batched-streams", build)

    def shuffled(self) -> Path:
        """The same order of stream ids as ``single_streams``, written by ``append_many`` in batches of 1,000."""

        def build(path: Path) -> None:
            items = list(zip(self.stream_ids(), orders(self.size.events), strict=True))
            with _open(path) as (_, stream):
                for start in range(0, len(items), BATCH_EVENTS):
                    stream.append_many(items[start : start + BATCH_EVENTS])

        return self.built("shuffled", build)

    def single(self) -> Path:
        """One stream, written by single appends."""

        def build(path: Path) -> None:
            with _open(path) as (_, stream):
                for event in orders(self.size.events):
                    stream.append(0, event)

        return self.built("single", build)

    def single_streams(self) -> Path:
        """Streams in random order, written by single appends."""

        def build(path: Path) -> None:
            with _open(path) as (_, stream):
                for number, event in zip(self.stream_ids(), orders(self.size.events), strict=True):
                    stream.append(number, event)

        return self.built("single-streams", build)

    def stream_ids(self) -> list[int]:
        """A stream for each of the single appends, every stream at least once."""
        count, streams = self.size.events, self.streams
        return [*range(streams), *random.Random(SEED).choices(range(streams), k=count - streams)]


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[varve.Varve, varve.Stream[OrderPlaced]]]:
    # Built, not measured: nothing needs to survive a power cut.
    with varve.open(path, durability="bulk") as db:
        yield db, db.stream("orders", OrderPlaced)


@contextlib.contextmanager
def workspace(size: Size, folder: Path | None = None) -> Iterator[Workspace]:
    """A workspace, removed at the end."""
    with tempfile.TemporaryDirectory(prefix="varve-bench-", dir=disk_folder() if folder is None else folder) as path:
        yield Workspace(Path(path), size)
