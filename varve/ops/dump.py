"""The canonical dump: a log as one file whose bytes follow from the log alone, wherever its blocks end (docs/format.md)."""

from __future__ import annotations

import hashlib
import json
import struct
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from varve import limits
from varve.codec.schema import check_type_name
from varve.errors import MalformedDump, MalformedEvent, SchemaError, UnsupportedFormat, VarveError
from varve.layout import keys
from varve.layout.records import MalformedRecord
from varve.ops.log import CommitHead, LogType, Piece, Store, StoredLog, opened
from varve.ops.transport import Input, TargetFile, writing
from varve.ops.verify import Progress, Told

__all__ = ["MAGIC", "DumpFile", "DumpReport", "digest", "dump"]

MAGIC: Final = b"VRVDUMP\n"
VERSION: Final = 1

TYPE: Final = ord("T")
STREAM: Final = ord("S")
COMMIT: Final = ord("C")
METADATA: Final = ord("M")
EVENTS: Final = ord("E")
CHECK: Final = ord("K")
END: Final = ord("Z")

CHECK_BYTES: Final = 1 << 16
"""A check stands before the first commit that begins after so many bytes."""
EVENTS_COUNT_MAX: Final = 512
EVENTS_BYTES_MAX: Final = 1 << 16
"""A record of events ends with the one that reaches either."""
SECTION_BYTES_MAX: Final = 4 * limits.TRANSACTION_BYTES_MAX
"""Between two checks, which a reader keeps in memory: one commit at most beyond ``CHECK_BYTES``."""

_HEADER: Final = struct.Struct("<8sI4x16sq")
_HEADER_CHECK_BYTES: Final = 16
_RECORD: Final = struct.Struct("<BI")
_COMMIT: Final = struct.Struct("<q")
_EVENTS: Final = struct.Struct("<IHI")
_CHECK: Final = struct.Struct("<Q16s")
_END: Final = struct.Struct("<QQII32s")
_U16: Final = struct.Struct("<H")
_PIECE_BYTES: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class DumpReport:
    """What a dump holds."""

    events: int
    """Events."""
    commits: int
    """Commits."""
    streams: int
    """Streams with at least one event."""
    types: int
    """Event types, versions counted."""
    digest: str
    """BLAKE2b-256 of the content, in hex: the same for equal logs, whatever their blocks, uuids and creation times."""


def dump(store: Store, target: TargetFile, *, progress: Progress | None = None) -> DumpReport:
    """Write the whole log of a store, as it is now, as a canonical dump. Other processes may write to the store meanwhile.

    The file holds events byte for byte, with streams, types, commits, times, metadata and idempotency keys, and nothing else of
    the store: no positions of consumers. Two stores with equal uuid, creation time and log give the same bytes.

    ``store``: a folder, or the handle of an open store; where its beginning was archived, what ``varve.open([archive, store])``
    gives. ``target``: a path (``.gz``: compressed), which appears when the file is complete, or an open binary file. ``progress``
    is called with events done and in all. Memory grows with the number of streams, by 4 bytes each; by about 300 of a series.

    Raises what ``varve.open(path, readonly=True)`` raises, ``Archived`` before anything is written where the beginning is not
    there, ``CorruptedBlock`` and kin, ``InvalidInput``, ``DiskFull``.
    """
    with opened(store) as log:
        log.check_retained(0)
        with writing(target, *log.folders) as file:
            return _write(log, file.write, Told(progress))


def digest(store: Store, *, progress: Progress | None = None) -> str:
    """The digest of a store's log alone, as ``dump`` gives it: equal for stores with equal events, streams, types, commits,
    times, metadata and idempotency keys, however these lie in blocks. 64 hexadecimal digits.

    Raises what ``dump`` raises.
    """
    with opened(store) as log:
        log.check_retained(0)
        return _write(log, lambda _: None, Told(progress)).digest


def _write(log: StoredLog, write: Callable[[bytes], Any], told: Told) -> DumpReport:
    record = log.record
    header = _HEADER.pack(MAGIC, VERSION, record.uuid, record.created_at_ns)
    write(header + hashlib.blake2b(header, digest_size=_HEADER_CHECK_BYTES).digest())
    writer = _Writer(write)
    told(0, log.stop)
    for piece in log.pieces(0, log.stop):
        if writer.piece(piece):
            told(piece.sequence, log.stop)
    report = writer.end()
    told.end()
    return report


class _Writer:
    """Pieces as records. Everything is decided by what was written since the last commit, type or stream began."""

    def __init__(self, write: Callable[[bytes], Any]) -> None:
        self._write = write
        self._hash = hashlib.blake2b(digest_size=32)
        self._parts: list[bytes] = []
        self._size = 0
        self._commit = -1
        self._run = (-1, -1)
        self._events: list[bytes] = []
        self._events_bytes = 0
        self._metadata: bytes | None = None
        self._streams = array("I")
        self._named: dict[tuple[str, bytes], int] = {}
        self._stream_count = 0
        self._types: dict[LogType, int] = {}
        self._count = 0
        self._commits = 0

    def piece(self, piece: Piece) -> bool:
        """Add a piece; whether a check was written before it."""
        checked = False
        if piece.commit.first_sequence != self._commit:
            self._flush()
            if self._size >= CHECK_BYTES:
                self._check()
                checked = True
            self._begin(piece.commit)
        run = (self._stream(piece), self._type(piece.type))
        if piece.metadata != self._metadata:
            self._flush()
            self._metadata = piece.metadata
            self._put(METADATA, piece.metadata or b"")
        if run != self._run:
            self._flush()
            self._run = run
        for event in piece.events:
            self._events.append(event)
            self._events_bytes += len(event)
            if self._events_bytes >= EVENTS_BYTES_MAX or len(self._events) == EVENTS_COUNT_MAX:
                self._flush()
        self._count += len(piece.events)
        return checked

    def _begin(self, head: CommitHead) -> None:
        key = b"" if head.token is None else _U16.pack(len(head.token)) + head.token + head.digest
        self._put(COMMIT, _COMMIT.pack(head.time_ns) + key)
        self._commit = head.first_sequence
        self._commits += 1
        self._metadata = None

    def _stream(self, piece: Piece) -> int:
        """The number of a stream in the file, by order of first use."""
        if piece.number < 0:
            named = (piece.stream, piece.id_key)
            found = self._named.get(named)
            if found is None:
                found = self._named[named] = self._declared(piece)
            return found
        streams = self._streams
        if piece.number >= len(streams):
            streams.extend([0] * (piece.number + 1 - len(streams)))
        number = streams[piece.number]
        if not number:
            number = streams[piece.number] = self._declared(piece) + 1
        return number - 1

    def _declared(self, piece: Piece) -> int:
        """Declare a stream; its number."""
        self._flush()
        name = piece.stream.encode()
        self._put(STREAM, _U16.pack(len(name)) + name + piece.id_key)
        self._stream_count += 1
        return self._stream_count - 1

    def _type(self, declared: LogType) -> int:
        number = self._types.get(declared)
        if number is None:
            self._flush()
            name = declared.name.encode()
            self._put(TYPE, _U16.pack(len(name)) + name + declared.schema_bytes)
            number = self._types[declared] = len(self._types)
        return number

    def _flush(self) -> None:
        """End a record of events."""
        events = self._events
        if not events:
            return
        lengths = struct.pack(f"<{len(events)}I", *map(len, events))
        self._put(EVENTS, _EVENTS.pack(*self._run, len(events)) + lengths + b"".join(events))
        self._events = []
        self._events_bytes = 0

    def _put(self, kind: int, payload: bytes) -> None:
        self._parts.append(_RECORD.pack(kind, len(payload)))
        self._parts.append(payload)
        self._size += _RECORD.size + len(payload)
        if self._size >= CHECK_BYTES:
            self._pass_on()

    def _pass_on(self) -> None:
        data = b"".join(self._parts)
        self._parts = []
        self._hash.update(data)
        self._write(data)

    def _check(self) -> None:
        self._pass_on()
        payload = _CHECK.pack(self._count, self._hash.digest()[:16])
        self._write(_RECORD.pack(CHECK, len(payload)) + payload)
        self._size = 0

    def end(self) -> DumpReport:
        """Write the end."""
        self._flush()
        self._pass_on()
        content = self._hash.digest()
        counts = (self._count, self._commits, self._stream_count, len(self._types))
        self._write(_RECORD.pack(END, _END.size) + _END.pack(*counts, content))
        return DumpReport(*counts, content.hex())


# -- and back --------------------------------------------------------------------------------------


class DumpFile:
    """A dump that is read. ``report`` is there once all of it was."""

    def __init__(self, given: Input) -> None:
        self._input = given
        self._read = given.file.read
        self._offset = 0
        self.report: DumpReport | None = None
        with given.guarded():
            header = self._take(_HEADER.size, "header")
            check = self._take(_HEADER_CHECK_BYTES, "header")
        magic, version, self.uuid, self.created_at_ns = _HEADER.unpack(header)
        if magic != MAGIC:
            raise self._wrong("it is no dump of Varve")
        if check != hashlib.blake2b(header, digest_size=_HEADER_CHECK_BYTES).digest():
            raise self._wrong("the header's check is wrong")
        if version != VERSION:
            raise UnsupportedFormat(
                f"{given.name} is a dump of version {version}; this Varve reads {VERSION}. Upgrade varve-store",
                path=given.name,
                found=version,
                supported=VERSION,
            )
        if not 0 <= self.created_at_ns < 1 << 63:
            raise self._wrong("the store's creation time is before 1970")

    def _wrong(self, what: str) -> MalformedDump:
        return MalformedDump(
            f"{self._input.name}: {what} (around byte {self._offset}); nothing from there on was imported",
            path=self._input.name,
            offset=self._offset,
        )

    def _take(self, size: int, what: str) -> bytes:
        """So many bytes. What the file does not have is never allocated: a length may be anything."""
        if size <= _PIECE_BYTES:
            data: bytes = self._read(size)
        else:
            pieces = []
            left = size
            while left and (piece := self._read(min(left, _PIECE_BYTES))):
                pieces.append(piece)
                left -= len(piece)
            data = b"".join(pieces)
        if len(data) != size:
            raise self._wrong(f"it is truncated in the {what}")
        self._offset += size
        return data

    def pieces(self) -> Iterator[Piece]:
        """Everything in it, a section at a time: of what comes, a check was right. Raises ``MalformedDump``."""
        reader = _Reader()
        hasher = hashlib.blake2b(digest_size=32)
        section: list[Piece] = []
        parts: list[bytes] = []
        size = 0
        with self._input.guarded():
            while True:
                head = self._take(_RECORD.size, "middle of the log: there is no end")
                kind, length = _RECORD.unpack(head)
                size += length + _RECORD.size
                if size > SECTION_BYTES_MAX:
                    raise self._wrong("a record is longer than a commit can be")
                if kind == CHECK:
                    if length != _CHECK.size:
                        raise self._wrong("a check has a wrong length")
                    hasher.update(b"".join(parts))
                    if self._take(length, "check") != _CHECK.pack(reader.count, hasher.digest()[:16]):
                        raise self._wrong("a check is wrong")
                    if size - length - _RECORD.size < CHECK_BYTES:
                        raise self._wrong("a check stands where none belongs")
                    reader.end_commit(self._wrong)
                    yield from section
                    section, parts, size = [], [], 0
                    continue
                if kind == END:
                    break
                payload = self._take(length, "record")
                parts += (head, payload)
                try:
                    piece = reader.record(kind, payload)
                except _Bad as exc:
                    raise self._wrong(str(exc)) from None
                except (struct.error, UnicodeDecodeError, MalformedRecord, VarveError) as exc:
                    raise self._wrong(f"a record makes no sense: {exc}") from None
                if piece is not None:
                    section.append(piece)
            if length != _END.size:
                raise self._wrong("the end has a wrong length")
            hasher.update(b"".join(parts))
            end = self._take(length, "end")
            reader.end_commit(self._wrong)
            if end != _END.pack(*reader.counts, hasher.digest()):
                raise self._wrong("the digest at its end, or a count, is wrong")
            if self._read(1):
                raise self._wrong("it goes on behind its end")
        yield from section
        self.report = DumpReport(*reader.counts, hasher.hexdigest())


class _Bad(Exception):
    """What is wrong with a record."""


class _Reader:
    """Records as pieces; looks at everything but the events themselves."""

    def __init__(self) -> None:
        self.count = 0
        self._commits = 0
        self._types: list[LogType] = []
        self._streams: list[tuple[str, bytes]] = []
        self._known: set[tuple[str, bytes]] = set()
        self._lengths = array("Q")
        self._head: CommitHead | None = None
        self._metadata: bytes | None = None
        self._last_ns = 0
        self._commit_bytes = 0
        self._readers: dict[int, Callable[[bytes], Piece | None]] = {
            TYPE: self._type,
            STREAM: self._stream,
            COMMIT: self._commit,
            METADATA: self._set_metadata,
            EVENTS: self._take_events,
        }

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """Events, commits, streams, types."""
        return self.count, self._commits, len(self._streams), len(self._types)

    def record(self, kind: int, payload: bytes) -> Piece | None:
        """What a record says: a piece, where it has events."""
        reader = self._readers.get(kind)
        if reader is None:
            raise _Bad(f"there is no record of kind {kind}")
        return reader(payload)

    def end_commit(self, wrong: Callable[[str], MalformedDump]) -> None:
        """A commit has ended."""
        if self._head is not None and self._head.first_sequence == self.count:
            raise wrong("a commit has no events")

    def _type(self, payload: bytes) -> None:
        (size,) = _U16.unpack_from(payload)
        if 2 + size > len(payload):
            raise _Bad("the name of a type is longer than its record")
        name = payload[2 : 2 + size].decode()
        declared = LogType(name, payload[2 + size :])
        try:
            check_type_name(name)
            root = declared.compiled.name
        except (SchemaError, MalformedEvent) as exc:
            raise _Bad(f"the type {name!r} cannot be read: {exc}") from None
        if root != name:
            raise _Bad(f"the type {name!r} has the schema of {root!r}")
        if declared in self._types:
            raise _Bad(f"the type {name!r} is declared twice")
        self._types.append(declared)

    def _stream(self, payload: bytes) -> None:
        (size,) = _U16.unpack_from(payload)
        if 2 + size > len(payload):
            raise _Bad("the name of a stream is longer than its record")
        name, id_key = keys.check_name(payload[2 : 2 + size].decode()), payload[2 + size :]
        keys.decode_stream_id(id_key)
        if (name, id_key) in self._known:
            raise _Bad(f"the stream {name!r} {keys.decode_stream_id(id_key)!r} is declared twice")
        self._known.add((name, id_key))
        self._streams.append((name, id_key))
        self._lengths.append(0)

    def _commit(self, payload: bytes) -> None:
        if self._head is not None and self._head.first_sequence == self.count:
            raise _Bad("a commit has no events")
        (time_ns,) = _COMMIT.unpack_from(payload)
        if time_ns < self._last_ns:
            raise _Bad("a commit is older than the one before it")
        self._last_ns = time_ns
        token: bytes | None = None
        content = b""
        if len(payload) > _COMMIT.size:
            (size,) = _U16.unpack_from(payload, _COMMIT.size)
            at = _COMMIT.size + _U16.size
            token, content = payload[at : at + size], payload[at + size :]
            if len(token) != size or len(content) != 16:
                raise _Bad("an idempotency key and its digest do not fill their record")
            keys.decode_idempotency_key(token)
        self._head = CommitHead(self.count, time_ns, token, content)
        self._metadata = None
        self._commits += 1
        self._commit_bytes = 0

    def _set_metadata(self, payload: bytes) -> None:
        if payload:
            check_metadata(payload)
        if (payload or None) == self._metadata:
            raise _Bad("metadata is repeated")
        self._metadata = payload or None

    def _take_events(self, payload: bytes) -> Piece:
        if self._head is None:
            raise _Bad("there are events outside of a commit")
        stream, declared, count = _EVENTS.unpack_from(payload)
        if stream >= len(self._streams) or declared >= len(self._types):
            raise _Bad("events are of a stream or type that was not declared")
        lengths = struct.unpack_from(f"<{count}I", payload, _EVENTS.size) if count <= len(payload) // 4 else ()
        at = _EVENTS.size + 4 * count
        if not lengths or at + sum(lengths) != len(payload):
            raise _Bad("the lengths of events do not fill their record")
        events = []
        for size in lengths:
            if not size or size % 8 or size > limits.EVENT_BYTES_MAX:
                raise _Bad(f"an event of {size} bytes")
            events.append(payload[at : at + size])
            at += size
        self._commit_bytes += len(payload)
        if self._commit_bytes > limits.TRANSACTION_BYTES_MAX + SECTION_BYTES_MAX // 2:
            raise _Bad("a commit is larger than a transaction can be")
        name, id_key = self._streams[stream]
        piece = Piece(
            self._head,
            self.count,
            name,
            id_key,
            self._lengths[stream],
            self._types[declared],
            self._metadata,
            events,
            stream,
        )
        self._lengths[stream] += count
        self.count += count
        return piece


def check_metadata(raw: bytes) -> None:
    """Whether bytes can be an append's metadata. Raises ``_Bad``."""
    if len(raw) > limits.METADATA_BYTES_MAX:
        raise _Bad(f"metadata of {len(raw)} bytes")
    try:
        if isinstance(json.loads(raw), dict):
            return
    except (ValueError, RecursionError):
        pass
    raise _Bad("metadata is no JSON object")
