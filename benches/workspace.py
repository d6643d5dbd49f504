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
from benches import machine
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
            and machine.file_system(folder) not in _MEMORY_FILE_SYSTEMS
        ):
            return folder
    return None


@dataclass(frozen=True, slots=True)
class Size:
    """How much a run measures."""

    name: str
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
    stores: tuple[int, ...]
    """Events of the stores that show how cost grows, the smallest first; the second is what the others are held against."""
    window: int
    """Events written to, and read from, such a store in a round."""


SIZES = {
    "full": Size(
        "full", 1_000_000, 1_000_000, 20_000, 20, 7, 60, (10_000, 100_000, 1_000_000, 5_000_000, 20_000_000), 50_000
    ),
    "quick": Size("quick", 100_000, 30_000, 5_000, 20, 5, 30, (10_000, 100_000, 1_000_000), 20_000),
    "tiny": Size("tiny", 2_000, 1_200, 50, 3, 1, 2, (500, 1_000, 2_000), 400),
}

STREAMS = 1_000
"""Streams of the stores with some, where the size allows it."""


class Workspace:
    """A folder on a disk. Stores asked for by name are built once, and read by later runs too where the folder is kept."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.folder = folder
        self.size = size
        self._numbers = itertools.count()

    def new_path(self) -> Path:
        """A path where nothing is yet."""
        return self.folder / f"round-{os.getpid()}-{next(self._numbers)}"

    @contextlib.contextmanager
    def fresh(self) -> Iterator[Path]:
        """A path for one round, removed after it."""
        path = self.new_path()
        try:
            yield path
        finally:
            shutil.rmtree(path, ignore_errors=True)

    def built(self, name: str, build: Callable[[Path], None]) -> Path:
        """The path of something that ``build`` made once, with this very source of the library."""
        path, note = self.folder / f"{self.size.name}-{name}", self.folder / f"{self.size.name}-{name}.built"
        digest = machine.source_digest()
        if not note.exists() or note.read_text(encoding="utf-8") != digest:
            shutil.rmtree(path, ignore_errors=True)
            build(path)
            note.write_text(digest, encoding="utf-8")
        return path

    # -- stores that several cases read --------------------------------------------------------------------------------

    @property
    def streams(self) -> int:
        """Streams of the stores with some."""
        return min(STREAMS, self.size.events // 10)

    def of_size(self, count: int) -> Path:
        """So many events in batches of 1,000, each to the next of the streams."""

        def build(path: Path) -> None:
            some = orders(self.cycle)
            with _open(path) as (_, stream):
                for number, start in enumerate(range(0, count, BATCH_EVENTS)):
                    at = start % self.cycle
                    batch = some[at : at + min(BATCH_EVENTS, count - start)]
                    stream.append_batch(number % self.streams, batch)

        return self.built(f"of-{count}", build)

    def many_streams(self) -> Path:
        """The store with many streams, an event each, in random order."""

        def build(path: Path) -> None:
            some = orders(self.size.events)
            ids = list(range(self.size.many_streams))
            random.Random(SEED).shuffle(ids)
            with _open(path) as (_, stream):
                for start in range(0, len(ids), 50_000):
                    stream.append_many([(number, some[number % len(some)]) for number in ids[start : start + 50_000]])

        return self.built("many-streams", build)

    @property
    def cycle(self) -> int:
        """After so many events those of the growing stores begin again."""
        return min(self.size.stores[1], 100 * BATCH_EVENTS)

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
