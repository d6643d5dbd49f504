"""An image as files, opened and read as a user would."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import varve
from torture import judge
from torture.powercut import workload
from torture.powercut.disk import Image
from torture.powercut.history import Fact, Seen
from varve.layout.keys import StreamId


class Folder:
    """Where images are laid out, one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._made: dict[str, int] = {}
        self._folders: tuple[str, ...] = ()
        path.mkdir(parents=True)

    def lay_out(self, image: Image, *, fresh: bool) -> None:
        """Make the files of an image. Lock files of the image before stay, unless it shall be ``fresh``."""
        contents = list(image.files())
        folders = tuple(sorted(image.folders))
        if fresh or folders != self._folders or {path for path, _ in contents} != set(self._made):
            self.clear()
            for folder in folders:
                (self.path / folder).mkdir(mode=0o700)
            self._folders = folders
        for path, content in contents:
            fd = self._made.get(path)
            if fd is None:
                fd = self._made[path] = os.open(self.path / path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
            os.pwrite(fd, content, 0)
            os.ftruncate(fd, len(content))

    def clear(self) -> None:
        """Remove everything."""
        for fd in self._made.values():
            os.close(fd)
        self._made = {}
        self._folders = ()
        for entry in self.path.iterdir():
            shutil.rmtree(entry) if entry.is_dir() else entry.unlink()


def facts(db: varve.Varve) -> list[Fact]:
    """Everything in a store."""
    return [
        Fact(recorded.event.number, workload.digest(recorded.event), *_place(recorded), bytes(recorded.raw))
        for recorded in db.global_reader().iter_from(0)
    ]


def _place(recorded: varve.Recorded[Any]) -> tuple[str, StreamId, int, int, int, int, str]:
    metadata = recorded.metadata
    return (
        recorded.stream,
        recorded.stream_id,
        recorded.stream_sequence,
        recorded.global_sequence,
        recorded.commit_sequence,
        recorded.time_ns,
        "" if metadata is None else json.dumps(dict(metadata), sort_keys=True),
    )


def look(store: Path, log: Sequence[Fact], *, closer: bool) -> Seen:
    """Open a store after a power cut and compare it with the log that it would have become.

    ``closer``: read it by stream too, append to it, and read that.
    """
    if not (store / "data.mdb").exists():
        if closer:
            created = _go_on(store, 0, ())
            shutil.rmtree(store)
            return Seen(present=False, problems=tuple(created))
        return Seen(present=False)
    problems: list[str] = []
    events = 0
    positions: dict[str, int] = {}
    identity = ""
    try:
        with varve.open(store, map_bytes=2**26, allow_network=True) as db:
            identity = str(db.uuid)
            events = _compare(db, log, problems)
            positions = {info.name: info.position for info in db.consumers()}
            positions.update((key, count) for key, count in db.state.range() if key == workload.STATE)
    except Exception as exc:  # noqa: BLE001 - whatever a user would meet
        problems.append(f"{type(exc).__name__}: {exc}")
    try:
        problems += judge.unsound(store)
    except Exception as exc:  # noqa: BLE001 - as above
        problems.append(f"the judge: {type(exc).__name__}: {exc}")
    if closer and not problems:
        problems += _go_on(store, events, log[:events])
    return Seen(True, events, positions, identity, tuple(problems))


def _compare(db: varve.Varve, log: Sequence[Fact], problems: list[str]) -> int:
    """How many events a store holds; they must be the first ones of the log."""
    events = 0
    for recorded in db.global_reader().iter_from(0):
        if events >= len(log):
            problems.append(f"the log goes on at {events}, where nothing was ever written")
            return events
        if _place(recorded) != log[events][2:-1] or bytes(recorded.raw) != log[events].raw:
            problems.append(f"event {events} is not what was written there")
            return events
        events += 1
    if db.next_global_sequence != events:
        problems.append(f"the next sequence is {db.next_global_sequence}, {events} events can be read")
    return events


def _go_on(store: Path, events: int, log: Sequence[Fact]) -> list[str]:
    """Read by stream, append, read again; what is wrong."""
    by_stream: dict[tuple[str, StreamId], list[Fact]] = {}
    for fact in log:
        by_stream.setdefault((fact.stream, fact.stream_id), []).append(fact)
    both = workload.Noted | workload.Counted
    try:
        with varve.open(store, map_bytes=2**26, allow_network=True) as db:
            for (name, stream_id), wanted in by_stream.items():
                found = [bytes(one.raw) for one in db.stream(name, both).reader().iter_stream(stream_id)]
                if found != [fact.raw for fact in wanted]:
                    return [f"stream {name!r} {stream_id!r} reads otherwise than the log"]
            notes = db.stream("notes", both)
            more = [workload.Noted(10**9 + number, "after the cut " * (number + 1)) for number in range(4)]
            notes.append(1, more[0])
            notes.append_batch("new", more[1:])
        with varve.open(store, map_bytes=2**26, allow_network=True) as db:
            found = [bytes(one.raw) for one in db.global_reader().iter_from(0, stop=events)]
            after = [varve.owned(one.event) for one in db.global_reader().iter_from(events)]
            if found != [fact.raw for fact in log] or [one.number for one in after] != [one.number for one in more]:
                return ["what was appended after the cut is not there, or what stood before it is not"]
    except Exception as exc:  # noqa: BLE001 - whatever a user would meet
        return [f"going on: {type(exc).__name__}: {exc}"]
    return [f"after going on: {problem}" for problem in judge.unsound(store)]
