"""What the tests of dumps, exports and imports share: event classes of every kind, random logs, stores made of them."""

from __future__ import annotations

import datetime as dt
import enum
import io
import os
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any

import flatbuffers
from hypothesis import strategies as st

import varve
from varve.appends import StreamTypes, append_batch, append_many, commit_request
from varve.codec import event_type
from varve.engine.request import AppendRequest, CommitRequest
from varve.layout import keys
from varve.ops.load import open_target


class Colour(enum.IntEnum):
    RED = 1
    BLUE = 2


@varve.struct
class Point:
    x: varve.f32
    y: varve.i16


@varve.event
class Note:
    number: varve.u64
    text: str


@varve.event
class Flag:
    on: bool


@varve.event(name="Thing")
class ThingOne:
    number: varve.i64


@varve.event(name="Thing")
class ThingTwo:
    number: varve.i64
    more: str | None = None


@varve.event
class Everything:
    data: bytes
    real: float
    small: varve.f32
    big: varve.u64
    negative: varve.i64
    when: dt.datetime
    colour: Colour
    either: Note | Flag
    point: Point
    price: Decimal
    id: uuid.UUID
    texts: list[str]
    reals: list[float]
    blobs: list[bytes]
    nested: Note | None = None
    maybe: varve.u8 | None = None


NOTE, FLAG, THINGS, EVERYTHING = Note, Flag, (ThingOne, ThingTwo), Everything

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
reals = st.floats()
notes = st.builds(Note, st.integers(0, 2**64 - 1), texts)
everything = st.builds(
    Everything,
    st.binary(max_size=9),
    reals,
    st.floats(width=32),
    st.integers(0, 2**64 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.datetimes(dt.datetime(1678, 1, 1), dt.datetime(2262, 1, 1), timezones=st.just(dt.UTC)),
    st.sampled_from(Colour) | st.just(77),
    notes | st.builds(Flag, st.booleans()),
    st.builds(Point, st.floats(width=32), st.integers(-(2**15), 2**15 - 1)),
    st.decimals(allow_nan=False, allow_infinity=False),
    st.uuids(),
    st.lists(texts, max_size=2),
    st.lists(reals, max_size=2),
    st.lists(st.binary(max_size=4), max_size=2),
    st.none() | notes,
    st.none() | st.integers(0, 255),
)
events = (
    notes
    | st.builds(Flag, st.booleans())
    | st.builds(ThingOne, st.integers(-5, 5))
    | st.builds(ThingTwo, st.integers(-5, 5), st.none() | texts)
    | everything
)
ids = st.sampled_from([0, 1, 2**64 - 1, "1", "ä", uuid.UUID(int=5)])
metadatas = st.none() | st.dictionaries(
    texts, st.none() | st.integers() | texts | st.floats(allow_nan=False, allow_infinity=False), max_size=2
)
idempotency = st.none() | st.text("ab", min_size=1, max_size=3) | st.uuids() | st.binary(min_size=1, max_size=3)


@dataclass
class Append:
    stream: str
    items: list[tuple[Any, Any]]
    metadata: dict[str, Any] | None = None


@dataclass
class Commit:
    appends: list[Append]
    key: Any = None
    later_ns: int = 0


@dataclass
class History:
    """A log that may be written in several ways: ``groups`` says how many commits share a write transaction."""

    commits: list[Commit]
    groups: list[int] = field(default_factory=list)


appends = st.builds(
    Append,
    st.sampled_from(["orders", "payments", "ü"]),
    st.lists(st.tuples(ids, events), min_size=1, max_size=4),
    metadatas,
)
histories = st.builds(
    History,
    st.lists(
        st.builds(Commit, st.lists(appends, min_size=1, max_size=3), idempotency, st.integers(0, 10**10)), max_size=8
    ),
    st.lists(st.integers(1, 3), max_size=8),
)


def request_of(commit: Commit, time_ns: int, used: set[bytes]) -> CommitRequest:
    """A commit as the engine takes it; a key that was used before is left out."""
    made = []
    for append in commit.appends:
        for stream_id, event in append.items:  # one class to an append: versions of a type cannot be in one union
            types = StreamTypes(append.stream, [event_type(type(event))])
            made.append(append_many(types, [(stream_id, event)], append.metadata))
    token = None if commit.key is None else keys.encode_idempotency_key(commit.key)
    request = commit_request(made, None if token in used else commit.key)
    if token is not None:
        used.add(token)
    request.recorded_ns = time_ns
    request.moved = True  # versions of a type in any order
    return request


def write(
    folder: Path, history: History, groups: list[int] | None = None, identity: tuple[bytes, int] | None = None
) -> None:
    """Make a store of a history."""
    engine = open_target(str(folder), identity or (bytes(range(16)), 1_000))
    try:
        time_ns = 2_000
        used: set[bytes] = set()
        waiting = list(history.commits)
        sizes = list(history.groups if groups is None else groups)
        while waiting:
            count = sizes.pop(0) if sizes else 1
            with engine.session() as session:
                for commit in waiting[:count]:
                    time_ns += commit.later_ns
                    session.apply(request_of(commit, time_ns, used))
                session.commit()
            del waiting[:count]
    finally:
        engine.release()


def put(folder: Path, stream: str, cls: Any, *raw: bytes, metadata: bytes | None = None) -> None:
    """Append bytes as they are: what other writers lay out in their way."""
    engine = open_target(str(folder))
    types = StreamTypes(stream, [event_type(cls)])
    (declared,) = types.by_name.values()
    id_key = keys.encode_stream_id(1)
    append = AppendRequest(stream, 1, [(id_key, declared, list(raw))], metadata, payload_bytes=sum(map(len, raw)))
    engine.commit(CommitRequest([append]))
    engine.release()


def foreign_note(number: int, text: str) -> bytes:
    """A Note by the official builder, which begins at the end and lays it out otherwise than Varve does."""
    builder = flatbuffers.Builder(64)
    at = builder.CreateString(text)
    builder.StartObject(2)
    builder.PrependUOffsetTRelativeSlot(1, at, 0)
    builder.PrependUint64Slot(0, number, 0)
    builder.Finish(builder.EndObject())
    raw = bytes(builder.Output())
    return raw + b"\0" * (-len(raw) % 8)


def sample(folder: Path, count: int = 3) -> None:
    """A small store with everything that a log can hold."""
    first = Append("orders", [(1, Note(1, "one")), ("1", Note(2, "two"))], {"user": "ä"})
    second = Append("payments", [(uuid.UUID(int=5), Flag(True)), (1, ThingOne(3)), (1, ThingTwo(4, "x"))])
    commits = [Commit([first, second], "key", 5)]
    commits += [Commit([Append("orders", [(1, Note(number, "text"))])], None, 5) for number in range(count)]
    write(folder, History(commits, [1, 2]))


@contextmanager
def fast_folder() -> Iterator[Path]:
    """A folder in memory where the machine has one: the subject is not the disk."""
    shm = "/dev/shm"
    with tempfile.TemporaryDirectory(prefix="varve-", dir=shm if os.access(shm, os.W_OK) else None) as folder:
        yield Path(folder)


def contents(folder: Path) -> list[tuple[Any, ...]]:
    """Everything that a replay says of a store, events by value."""
    with varve.open(folder, readonly=True) as db:
        return [
            (r.global_sequence, r.commit_sequence, r.time_ns, r.stream, r.stream_id, r.stream_sequence, type(r.stream_id),
             r.type.__name__, None if r.metadata is None else dict(r.metadata), bytes(r.raw))
            for r in db.global_reader().iter_from(0)
        ]  # fmt: skip


def batch(stream: str, stream_id: Any, items: list[Any]) -> CommitRequest:
    """One commit of events of one class."""
    return commit_request([append_batch(StreamTypes(stream, [event_type(type(items[0]))]), stream_id, items)], None)


def in_memory(raw: bytes) -> io.BytesIO:
    """Bytes as an open file."""
    return io.BytesIO(raw)
