"""A log in pieces, whatever holds it: what a store, a dump and a JSON lines file have in common.

A piece is consecutive events of one commit, one stream, one type and one metadata. How a log is cut into pieces says nothing:
blocks end where they end, so whoever compares or writes pieces must come to the same for any cut.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Final, NamedTuple

from varve import limits
from varve.archive import read_base
from varve.codec import EventType, event_type_from_schema
from varve.engine.core import Engine
from varve.engine.snapshot import Snapshot
from varve.errors import InvalidInput
from varve.layout import keys
from varve.layout.block import Block
from varve.layout.keys import StreamId
from varve.layout.records import StoreRecord
from varve.layout.slices import slices
from varve.series import Series
from varve.store import Varve

__all__ = ["CommitHead", "LogType", "Piece", "Selection", "Store", "StoredLog", "opened", "selected", "store_pieces"]

Store = str | os.PathLike[str] | Varve | Series
"""A store to read: the folder of one that this process does not hold open, or the handle of one that it does; or archives and
the store that they were taken from, opened in a row."""


class LogType:
    """A version of an event type as a log declares it; equal where name and schema are."""

    __slots__ = ("_compiled", "fingerprint", "name", "schema_bytes")

    def __init__(self, name: str, schema_bytes: bytes) -> None:
        self.name = name
        self.schema_bytes = schema_bytes
        self.fingerprint = hashlib.blake2b(schema_bytes, digest_size=16).digest()
        self._compiled: EventType | None = None

    @property
    def compiled(self) -> EventType:
        """The type, with a class made of its schema. Raises ``MalformedEvent`` where the schema is none of this Varve's."""
        compiled = self._compiled
        if compiled is None:
            compiled = self._compiled = event_type_from_schema(self.schema_bytes)
        return compiled

    def __eq__(self, other: object) -> bool:
        return isinstance(other, LogType) and (self.name, self.schema_bytes) == (other.name, other.schema_bytes)

    def __hash__(self) -> int:
        return hash((self.name, self.fingerprint))


class CommitHead(NamedTuple):
    """A commit: its first global sequence, when it was recorded, its idempotency key (a token, as keys are stored; None:
    without) and the digest of its content that stands beside the key."""

    first_sequence: int
    time_ns: int
    token: bytes | None = None
    digest: bytes = b""


@dataclass(slots=True)
class Piece:
    """Consecutive events. ``sequence`` and ``stream_sequence`` are those of the first; ``metadata`` is JSON as it is stored.

    ``number`` is the stream's in the store that it was read from, -1 where there are several; ``line`` that of the JSON lines
    file.
    """

    commit: CommitHead
    sequence: int
    stream: str
    id_key: bytes
    stream_sequence: int
    type: LogType
    metadata: bytes | None
    events: list[bytes]
    number: int = -1
    line: int | None = None

    @property
    def stream_id(self) -> StreamId:
        """The stream's id."""
        return keys.decode_stream_id(self.id_key)

    @property
    def end(self) -> int:
        """The global sequence behind the last event."""
        return self.sequence + len(self.events)

    def behind(self, count: int) -> Piece:
        """The same without its first events."""
        return replace(
            self,
            sequence=self.sequence + count,
            stream_sequence=self.stream_sequence + count,
            events=self.events[count:],
        )


@dataclass(frozen=True, slots=True)
class Selection:
    """Which part of a log is meant: a range of global sequences, names of streams and of types (None: all)."""

    start: int = 0
    stop: int | None = None
    streams: frozenset[str] | None = None
    types: frozenset[str] | None = None

    @property
    def has_gaps(self) -> bool:
        """Whether events inside the range are left out."""
        return self.streams is not None or self.types is not None

    def takes(self, stream: str, type_name: str) -> bool:
        """Whether events of a stream and type are meant."""
        return (self.streams is None or stream in self.streams) and (self.types is None or type_name in self.types)


def selection(
    start: int, stop: int | None, streams: Iterable[str] | None, types: Iterable[str | type] | None
) -> Selection:
    """The arguments of an export. Raises ``InvalidInput``."""
    for name, value in (("start", start), ("stop", stop)):
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise InvalidInput(f"{name} is a global sequence from 0 on, not {value!r}")
    if isinstance(streams, str) or isinstance(types, str | type):
        raise InvalidInput("streams and types take several names: give them in a list")
    named = None if streams is None else frozenset(keys.check_name(name) for name in streams)
    return Selection(start, stop, named, None if types is None else frozenset(map(_type_name, types)))


def _type_name(wanted: str | type) -> str:
    name = wanted if isinstance(wanted, str) else getattr(getattr(wanted, "__varve__", None), "name", None)
    if not isinstance(name, str):
        raise InvalidInput(f"types takes event classes or their names, not {wanted!r:.80}")
    return name


@contextlib.contextmanager
def opened(store: Store) -> Iterator[StoredLog]:
    """The log of a store that is read: of a handle that is open, or of a folder, opened readonly for as long as this lasts."""
    if isinstance(store, Varve | Series):
        yield StoredLog(store)
        return
    with Varve(store, readonly=True) as db:
        yield StoredLog(db)


class StoredLog:
    """A log as a store holds it, or several in a row, as of the moment when this is made.

    Attributes: ``record``, the store's; ``folders``, where it lies.
    """

    def __init__(self, store: Varve | Series) -> None:
        stores = (store,) if isinstance(store, Varve) else store.stores
        self._series = store if isinstance(store, Series) else None
        self._engines = [one._engine for one in stores]  # noqa: SLF001 - the same library
        for engine in self._engines:
            engine.check_usable()
        self.folders = tuple(engine.path for engine in self._engines)
        with self._engines[-1].snapshot() as snapshot:
            self.record: StoreRecord = snapshot.record

    @property
    def stop(self) -> int:
        """The global sequence behind the last event."""
        return self.record.next_sequence

    def types(self) -> list[LogType]:
        """Every version of an event type that was declared, in order."""
        known: dict[LogType, None] = {}
        for engine in self._engines:
            with engine.snapshot() as snapshot:
                for number in range(snapshot.record.next_type):
                    declared = engine.catalog.type(snapshot, number)
                    known.setdefault(LogType(declared.name, bytes(declared.schema)))
        return list(known)

    def check_retained(self, start: int) -> None:
        """Whether the log holds its events from ``start`` on, before anything is written of it. Raises ``Archived``."""
        with self._engines[0].snapshot() as snapshot:
            snapshot.check_retained(start)

    def pieces(self, start: int, stop: int, chosen: Selection | None = None) -> Iterator[Piece]:
        """The log from ``start`` up to ``stop`` (which exist), as ``store_pieces``. What is archived meanwhile is not looked for
        where it went: raises ``Archived``."""
        if self._series is None:
            yield from store_pieces(self._engines[0], start, stop, chosen)
            return
        for at, low, high in self._series.parts(start, stop, reverse=False):
            for piece in store_pieces(self._engines[at], low, high, chosen):
                piece.number = -1  # each store numbers its own
                yield piece


def selected(pieces: Iterable[Piece], chosen: Selection) -> Iterator[Piece]:
    """The pieces of a log that are meant, cut to the range."""
    for given in pieces:
        piece = given
        if chosen.stop is not None and piece.end > chosen.stop:
            if piece.sequence >= chosen.stop:
                return
            piece = replace(piece, events=piece.events[: chosen.stop - piece.sequence])
        if piece.end <= chosen.start or not chosen.takes(piece.stream, piece.type.name):
            continue
        yield piece.behind(chosen.start - piece.sequence) if piece.sequence < chosen.start else piece


# -- a store ---------------------------------------------------------------------------------------


def store_pieces(engine: Engine, start: int, stop: int, chosen: Selection | None = None) -> Iterator[Piece]:
    """The log of a store, from ``start`` up to ``stop`` (which exist). Nothing is held between two steps but one copied block."""
    walk = _Walk(engine)
    while start < stop:
        blocks: list[list[Piece]] = []
        with engine.snapshot() as snapshot:
            until = time.monotonic() + limits.ITERATOR_SNAPSHOT_AGE_S_MAX
            # A few blocks at a time: whoever takes the pieces may take long, and must not hold the snapshot.
            while start < stop and len(blocks) < _BLOCKS and time.monotonic() < until:
                block = snapshot.block(start, copy=True)
                blocks.append(walk.cut(snapshot, block, start, min(stop, block.end), chosen))
                start = block.end
                if block.end - block.first == 1:
                    break  # perhaps a large one
        for pieces in blocks:
            yield from pieces


_BLOCKS: Final = 16


class _Walk:
    """What is known of the log while one goes through it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._catalog = engine.catalog
        self._types: dict[int, LogType] = {}
        self._ids: dict[int, tuple[str, bytes]] = {}
        self._head: CommitHead | None = None

    def _type(self, snapshot: Snapshot, number: int) -> LogType:
        found = self._types.get(number)
        if found is None:
            declared = self._catalog.type(snapshot, number)
            found = self._types[number] = LogType(declared.name, bytes(declared.schema))
        return found

    def _stream(self, snapshot: Snapshot, number: int) -> tuple[str, bytes]:
        found = self._ids.get(number)
        if found is None:
            name, stream_id = self._catalog.stream(snapshot, number)
            if len(self._ids) >= limits.CACHED_STREAMS_MAX:
                self._ids.clear()
            found = self._ids[number] = (name, keys.encode_stream_id(stream_id))
        return found

    def _heads(self, snapshot: Snapshot, block: Block) -> list[CommitHead]:
        """The commits of a block."""
        known = {} if block.is_plain else {at: (token, digest) for at, token, digest in block.commit_keys()}
        heads = [
            CommitHead(first, time_ns, *known.get(at, (None, b"")))
            for at, (first, time_ns) in enumerate(zip(block.commit_firsts(), block.commit_times(), strict=True))
        ]
        if block.commit_sequence < block.first:  # it began in an earlier block, where its key stands
            heads[0] = self._earlier_head(snapshot, heads[0])
        self._head = heads[-1]
        return heads

    def _earlier_head(self, snapshot: Snapshot, head: CommitHead) -> CommitHead:
        """A commit that began in an earlier block, with its key."""
        first, known = head.first_sequence, self._head
        if known is not None and known.first_sequence == first:
            return known
        if first < snapshot.first_sequence:
            return self._archived_head(snapshot, head)
        earlier = snapshot.block(first, copy=True)
        return next(one for one in self._heads(snapshot, earlier) if one.first_sequence == first)

    def _archived_head(self, snapshot: Snapshot, head: CommitHead) -> CommitHead:
        """A commit that began in an archive, which left its key behind."""
        base = read_base(self._engine)
        if base is None or base.commit != head.first_sequence:  # archived further since the snapshot was taken
            raise snapshot.archived(f"the beginning of the commit at {head.first_sequence}")
        if not base.open_key:
            return head
        return head._replace(token=base.open_key, digest=base.keys[base.open_key].digest)

    def cut(self, snapshot: Snapshot, block: Block, start: int, stop: int, chosen: Selection | None) -> list[Piece]:
        """The pieces of a block within ``start .. stop``."""
        heads = self._heads(snapshot, block)
        payload = block.payload()
        ends = [0, *block.ends()]
        out = []
        for piece in slices(block, start - block.first, stop - block.first):
            stream, id_key = self._stream(snapshot, piece.run.stream)
            declared = self._type(snapshot, piece.run.type)
            if chosen is not None and not chosen.takes(stream, declared.name):
                continue
            out.append(
                Piece(
                    heads[piece.commit],
                    block.first + piece.start,
                    stream,
                    id_key,
                    piece.first_stream_sequence,
                    declared,
                    piece.metadata,
                    [bytes(payload[ends[at] : ends[at + 1]]) for at in range(piece.start, piece.stop)],
                    piece.run.stream,
                )
            )
        return out
