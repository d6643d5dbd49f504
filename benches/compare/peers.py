"""What a peer has to do, and which there are."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benches.events import OrderPlaced


class Store(ABC):
    """One open store of a peer, for orders in one stream."""

    commit_events_max: ClassVar[int] = 1 << 62
    """The most events that one of its commits can hold."""

    @abstractmethod
    def __init__(self, path: Path) -> None:
        """Create a store in a folder that does not exist yet, or open it again."""

    @classmethod
    @abstractmethod
    def prepare(cls, events: Sequence[OrderPlaced]) -> Sequence[Any]:
        """What its user has in hand before an append, in the form that costs the peer least; not timed."""

    @abstractmethod
    def append(self, prepared: Sequence[Any]) -> None:
        """One commit, as durable as the peer says."""

    @abstractmethod
    def amounts(self) -> tuple[int, int]:
        """Read everything in the order in which it was written, one field of each: number of events, total of the amounts."""

    @abstractmethod
    def durable(self) -> bool:
        """Whether an append waits for the disk, asked of the store itself where it can tell."""

    @abstractmethod
    def close(self) -> None:
        """Close it."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A peer by its name."""

    name: str
    needs: str
    """The module that must be there."""
    module: str
    cls: str
    durability: str = "full"
    slow: int = 1
    """By how much the rounds of a full run are smaller, where it would take hours otherwise."""
    goals: tuple[tuple[str, str], ...] = ()
    """Goals that it stands for: (kind of work, key)."""
    note: str = ""

    def missing(self) -> str | None:
        """Why it cannot be measured; None when it can."""
        if importlib.util.find_spec(self.needs) is None:
            return f"{self.needs} is not installed: pip install varve-store[compare]"
        return None

    def store(self) -> type[Store]:
        """Its adapter."""
        found: type[Store] = getattr(importlib.import_module(f"benches.compare.adapters.{self.module}"), self.cls)
        return found

    @contextlib.contextmanager
    def opened(self, path: Path) -> Iterator[Store]:
        """A store, closed after the block."""
        opened = self.store()(path)
        try:
            yield opened
        finally:
            opened.close()


PEERS: tuple[Peer, ...] = (
    Peer("sqlite3-columns", "sqlite3", "sqlite_tables", "Columns", goals=(("thousands", "thousands-sqlite"),),
         note="a table with a column for each field, no index"),
    Peer("sqlite3-blob", "sqlite3", "sqlite_tables", "Blobs",
         note="FlatBuffers encoded before, unique index on (stream, sequence)"),
    Peer("py-lmdb", "lmdb", "lmdb_entries", "Entries", note="an entry per event and one in an index, encoded before"),
    Peer("py-lmdb-builder", "lmdb", "lmdb_entries", "BuilderEntries", slow=10,
         note="the same, encoded by the official FlatBuffers Builder"),
    Peer("rocksdict", "rocksdict", "rocks", "Rocks", note="WriteBatch, sync=True; encoded before"),
    Peer("eventsourcing-recorder", "eventsourcing", "eventsourcing_", "Recorder",
         goals=(("million", "million-recorder"), ("replay", "replay-recorder")),
         note="SQLiteApplicationRecorder.insert_events and select_notifications; encoded before"),
    Peer("eventsourcing-application", "eventsourcing", "eventsourcing_", "ApplicationStore",
         goals=(("million", "million-application"), ("replay", "replay-application")),
         note="an aggregate's events, Application.save; read through its mapper"),
    Peer("py-event-sourcing", "py_event_sourcing", "py_event_sourcing_", "Stream", durability="relaxed", slow=10,
         note="as shipped: synchronous=NORMAL, so commits are not forced to disk; encoded before"),
    Peer("umadb", "umadb", "uma", "Uma", goals=(("replay", "replay-umadb"),),
         note="its server in a process of its own, over loopback; encoded before"),
)  # fmt: skip
"""Every peer, in the order in which they are shown."""
