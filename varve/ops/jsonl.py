"""A log as JSON lines: for people, and lossless all the same (docs/format.md).

The first line says what the file is, the next ones are the schemas, then comes a line for each event, and a last one that says
that nothing is missing. An event that its JSON does not give back byte for byte (other writers lay events out in other ways, and
a time may have nanoseconds) has its bytes beside it.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from varve import limits
from varve.appends import encode_metadata
from varve.codec import from_json
from varve.codec.json import FLOATS, plain_event
from varve.errors import EventEncodingError, MalformedDump, MalformedEvent, UnsupportedFormat, VarveError
from varve.layout import keys
from varve.layout.keys import StreamId
from varve.ops.log import CommitHead, LogType, Piece, Selection, Store, StoredLog, opened, selection
from varve.ops.transport import Input, TargetFile, writing
from varve.ops.verify import Progress, Told

__all__ = ["ExportReport", "JsonLines", "export_jsonl"]

VERSION: Final = 1
WHAT: Final = "varve.log"

_UNFAITHFUL: Final = re.compile("|".join(f'"{text}"' for text in FLOATS))
"""JSON knows one NaN, of which a float has many: an event that may have one is looked at again."""

_PIECE_EVENTS_MAX: Final = 512
"""Lines that are read as one piece: whoever compares cuts pieces, which must not be long then."""

_encode: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What was exported."""

    events: int
    """Events."""
    commits: int
    """Commits of which it has events."""
    types: int
    """Event types whose schemas it has."""


def export_jsonl(
    store: Store,
    target: TargetFile,
    *,
    start: int = 0,
    stop: int | None = None,
    streams: Iterable[str] | None = None,
    types: Iterable[str | type] | None = None,
    progress: Progress | None = None,
) -> ExportReport:
    """Write events of a store as JSON lines that people can read and ``varve.ops.load`` can read back without loss.

    ``start`` and ``stop`` are a half-open range of global sequences; ``streams`` takes names, ``types`` event classes or names. A
    file without ``streams`` and ``types`` can be imported: one from 0 into a new or empty store, one from ``start`` behind the
    events that stand before it. Of a store whose beginning was archived, begin at ``first_global_sequence``, or give the series.

    ``store``, ``target`` and ``progress`` as in ``varve.ops.dump``. Raises what that raises, and ``MalformedEvent`` where the log
    holds bytes that are no event.
    """
    wanted = selection(start, stop, streams, types)
    told = Told(progress)
    with opened(store) as log:
        end = log.stop if stop is None else min(stop, log.stop)
        chosen = Selection(min(start, end), end, wanted.streams, wanted.types)
        if chosen.start < end:
            log.check_retained(chosen.start)
        declared = [one for one in log.types() if wanted.types is None or one.name in wanted.types]
        with writing(target, *log.folders) as file:
            return _Lines(file.write, declared).all(log, chosen, told)


class _Lines:
    """Pieces as lines."""

    def __init__(self, write: Callable[[bytes], Any], declared: list[LogType]) -> None:
        self._write = write
        self._types = declared
        versions: dict[str, int] = {}
        self._versions: dict[LogType, int] = {}
        for one in declared:
            self._versions[one] = versions[one.name] = versions.get(one.name, 0) + 1
        self._events = self._commits = 0

    def _put(self, value: dict[str, Any]) -> None:
        self._write(_encode(value).encode() + b"\n")

    def all(self, log: StoredLog, chosen: Selection, told: Told) -> ExportReport:
        """Every line."""
        record = log.record
        assert chosen.stop is not None
        self._put(
            {
                "varve": WHAT,
                "version": VERSION,
                "store": str(uuid.UUID(bytes=record.uuid)),
                "created_at": record.created_at_ns,
                "start": chosen.start,
                "stop": chosen.stop,
                "streams": None if chosen.streams is None else sorted(chosen.streams),
                "types": None if chosen.types is None else sorted(chosen.types),
            }
        )
        for one in self._types:
            self._put({"type": one.name, "version": self._versions[one], "schema": json.loads(one.schema_bytes)})
        total = chosen.stop - chosen.start
        told(0, total)
        last = -1
        for piece in log.pieces(chosen.start, chosen.stop, chosen):
            begins = piece.commit.first_sequence != last
            last = piece.commit.first_sequence
            self._commits += begins
            self._piece(piece, begins=begins)
            told(piece.end - chosen.start, total)
        self._put({"end": True, "events": self._events, "commits": self._commits})
        told.end()
        return ExportReport(self._events, self._commits, len(self._types))

    def _piece(self, piece: Piece, *, begins: bool) -> None:
        head, sequence, at = piece.commit, piece.sequence, piece.stream_sequence
        beside: dict[str, Any] = {}
        if piece.metadata is not None:
            beside = metadata_beside(piece.metadata)
        first: dict[str, Any] = {}
        if begins and head.token is not None:
            first = {
                "idempotency_key": spelled_key(keys.decode_idempotency_key(head.token)),
                "idempotency_digest": head.digest.hex(),
            }
        stream_id = spelled_id(piece.stream_id)
        version = self._versions[piece.type]
        lines = []
        for index, event in enumerate(piece.events):
            line: dict[str, Any] = {
                "global_sequence": sequence + index,
                "stream": piece.stream,
                "stream_id": stream_id,
                "stream_sequence": at + index,
                "type": piece.type.name,
            }
            if version > 1:
                line["version"] = version
            line["recorded_at"] = head.time_ns
            line["commit"] = head.first_sequence
            line |= first
            line |= beside
            first = {}
            lines.append(_encode(line)[:-1] + "," + event_members(piece.type, event, sequence + index) + "}\n")
        self._events += len(lines)
        self._write("".join(lines).encode())


def event_members(declared: LogType, event: bytes, sequence: int) -> str:
    """The members of a line that hold the event: ``event``, and ``bytes`` where that does not say all of it."""
    try:
        compiled = declared.compiled
    except MalformedEvent:  # in words of a newer Varve
        return f'"event":null,"bytes":"{base64.b64encode(event).decode()}"'
    try:
        view = compiled.view(event)
        value = plain_event(view, compiled.declaration)
        text = _encode(value)
    except (MalformedEvent, ValueError, TypeError, RecursionError, OverflowError) as exc:
        raise MalformedEvent(
            f"the event at global sequence {sequence} is no valid {declared.name}: {exc}; verify the store", offset=None
        ) from exc
    if _gives_back(declared, view, value, event, looks_again=_UNFAITHFUL.search(text) is not None):
        return f'"event":{text}'
    return f'"event":{text},"bytes":"{base64.b64encode(event).decode()}"'


def _gives_back(declared: LogType, view: Any, value: dict[str, Any], event: bytes, *, looks_again: bool) -> bool:
    """Whether whoever reads the JSON comes to the same bytes: they are as our own packer lays such an event out."""
    compiled = declared.compiled
    try:
        return compiled.pack(from_json(compiled, value) if looks_again else view) == event
    except (VarveError, ValueError):  # a foreign writer may give what we would not write
        return False


def metadata_beside(raw: bytes) -> dict[str, Any]:
    """The members of a line that hold metadata."""
    try:
        value = json.loads(raw)
        if encode_metadata(value) == raw:
            return {"metadata": value}
        return {"metadata": json.loads(_encode(value)), "metadata_bytes": base64.b64encode(raw).decode()}
    except (ValueError, RecursionError):
        return {"metadata": None, "metadata_bytes": base64.b64encode(raw).decode()}


def spelled_id(stream_id: StreamId) -> Any:
    """A stream id in JSON: a number, a text, or ``{"uuid": ...}``."""
    return {"uuid": str(stream_id)} if isinstance(stream_id, uuid.UUID) else stream_id


def spelled_key(key: keys.IdempotencyKey) -> Any:
    """An idempotency key in JSON: a text, ``{"uuid": ...}`` or ``{"bytes": ...}``."""
    if isinstance(key, bytes):
        return {"bytes": base64.b64encode(key).decode()}
    return {"uuid": str(key)} if isinstance(key, uuid.UUID) else key


# -- and back --------------------------------------------------------------------------------------


class _Bad(Exception):
    """What is wrong with a line."""


class JsonLines:
    """An export that is read. ``selection`` is what it was asked for; ``uuid`` and ``created_at_ns`` are of its store."""

    def __init__(self, given: Input) -> None:
        self._input = given
        self._line = 0
        self._types: dict[tuple[str, int], LogType] = {}
        with given.guarded():
            header = self._parsed(self._next())
        try:
            self._header(header)
        except (_Bad, KeyError, ValueError, TypeError, AttributeError) as exc:
            raise self._wrong(f"the header makes no sense: {exc}") from None

    def _header(self, header: dict[str, Any]) -> None:
        if header.get("varve") != WHAT:
            raise self._wrong("it is no export of Varve")
        if header["version"] != VERSION:
            raise UnsupportedFormat(
                f"{self._input.name} is an export of version {header['version']!r}; this Varve reads {VERSION}. Upgrade "
                "varve-store",
                path=self._input.name,
                found=header["version"],
                supported=VERSION,
            )
        self.uuid = uuid.UUID(header["store"]).bytes
        self.created_at_ns = _number(header, "created_at")
        streams, types = header.get("streams"), header.get("types")
        self.selection = Selection(
            _number(header, "start"),
            _number(header, "stop"),
            None if streams is None else frozenset(map(str, streams)),
            None if types is None else frozenset(map(str, types)),
        )

    def _wrong(self, what: str) -> MalformedDump:
        return MalformedDump(
            f"{self._input.name}, line {self._line}: {what}; nothing from there on was imported",
            path=self._input.name,
            line=self._line,
        )

    def _next(self) -> bytes:
        """The next line that is not empty; nothing at the end."""
        while True:
            line: bytes = self._input.file.readline(limits.IMPORT_LINE_BYTES_MAX)
            if not line:
                return line
            self._line += 1
            if len(line) == limits.IMPORT_LINE_BYTES_MAX and not line.endswith(b"\n"):
                raise self._wrong(f"it is longer than {limits.IMPORT_LINE_BYTES_MAX} bytes")
            if not line.isspace():
                return line

    def _parsed(self, line: bytes) -> dict[str, Any]:
        if not line:
            raise self._wrong("the file is truncated: its last line is no end")
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as exc:
            raise self._wrong(f"it is no JSON ({exc})") from None
        if not isinstance(value, dict):
            raise self._wrong("it is no JSON object")
        return value

    def pieces(self) -> Iterator[Piece]:
        """Everything in it, in order; of a commit that the file does not end, nothing. Raises ``MalformedDump``."""
        commit: list[Piece] = []
        events = commits = 0
        state = _State(self.selection)
        with self._input.guarded():
            while True:
                line = self._parsed(self._next())
                if "end" in line:
                    break
                try:
                    if "schema" in line:
                        self._declare(line)
                        continue
                    piece = self._piece(line, state)
                except _Bad as exc:
                    raise self._wrong(str(exc)) from None
                except (KeyError, ValueError, TypeError, AttributeError, RecursionError) as exc:
                    what = f"{exc} is missing" if isinstance(exc, KeyError) else str(exc)
                    raise self._wrong(what) from None
                if commit and piece.commit is not commit[0].commit:
                    yield from commit
                    commit = []
                commits += not commit
                events += 1
                if commit and _continues(commit[-1], piece):
                    commit[-1].events += piece.events
                else:
                    commit.append(piece)
            if (line.get("events"), line.get("commits")) != (events, commits):
                raise self._wrong(
                    f"the end says {line.get('events')} events in {line.get('commits')} commits, there are {events} in {commits}"
                )
            if self._next():
                raise self._wrong("it goes on behind its end")
        yield from commit

    def _declare(self, line: dict[str, Any]) -> None:
        name, version = line["type"], _number(line, "version")
        text = json.dumps(line["schema"], sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
        declared = LogType(name, text)
        if (name, version) in self._types:
            raise _Bad(f"version {version} of the type {name!r} is declared twice")
        self._types[name, version] = declared
        if declared in (other for key, other in self._types.items() if key != (name, version)):
            raise _Bad(f"the schema of {name!r} is declared twice")
        if declared.compiled.name != name:
            raise _Bad(f"the type {name!r} has the schema of {declared.compiled.name!r}")

    def _piece(self, line: dict[str, Any], state: _State) -> Piece:
        sequence = _number(line, "global_sequence")
        head = state.head(sequence, line)
        declared = self._types.get((line["type"], line.get("version", 1)))
        if declared is None:
            raise _Bad(f"there is no schema for version {line.get('version', 1)} of {line['type']!r}")
        stream = keys.check_name(line["stream"])
        return Piece(
            head,
            sequence,
            stream,
            keys.encode_stream_id(_id_of(line["stream_id"])),
            _number(line, "stream_sequence"),
            declared,
            _metadata_of(line),
            [_event_of(declared, line)],
            line=self._line,
        )


def _continues(piece: Piece, behind: Piece) -> bool:
    return (
        len(piece.events) < _PIECE_EVENTS_MAX
        and piece.end == behind.sequence
        and piece.type is behind.type
        and piece.id_key == behind.id_key
        and piece.stream == behind.stream
        and piece.metadata == behind.metadata
        and piece.stream_sequence + len(piece.events) == behind.stream_sequence
    )


class _State:
    """What the lines so far say of the next."""

    def __init__(self, chosen: Selection) -> None:
        self._chosen = chosen
        self._next = chosen.start
        self._head: CommitHead | None = None

    def head(self, sequence: int, line: dict[str, Any]) -> CommitHead:
        """The commit of a line."""
        if sequence != self._next if not self._chosen.has_gaps else sequence < self._next:
            raise _Bad(f"global sequence {sequence} stands where {self._next} comes next")
        assert self._chosen.stop is not None
        if sequence >= self._chosen.stop:
            raise _Bad(f"global sequence {sequence} is behind the end that the header tells, {self._chosen.stop}")
        self._next = sequence + 1
        first, time_ns = _number(line, "commit"), _number(line, "recorded_at")
        head = self._head
        if head is not None and first == head.first_sequence:
            if time_ns != head.time_ns:
                raise _Bad("it has another time than its commit")
            if "idempotency_key" in line:
                raise _Bad("it has an idempotency key, which stands in the first line of its commit")
            return head
        cut = self._chosen.has_gaps or head is None  # its first events may not be in the file
        if first > sequence or (first < sequence and not cut) or (head is not None and first < head.first_sequence):
            raise _Bad(f"its commit cannot begin at {first}")
        if head is not None and time_ns < head.time_ns:
            raise _Bad("it is older than the commit before it")
        if time_ns >= 1 << 63:
            raise _Bad(f"{time_ns} ns is no time")
        self._head = head = CommitHead(first, time_ns, *_key_of(line))
        return head


def _number(line: dict[str, Any], name: str) -> int:
    value = line[name]
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise _Bad(f"{name} is a number from 0 on, not {value!r:.80}")
    return value


def _id_of(value: Any) -> Any:
    if isinstance(value, dict):
        return uuid.UUID(value["uuid"])
    if type(value) is bool or not isinstance(value, int | str):
        raise _Bad(f'stream_id is a number, a text or {{"uuid": ...}}, not {value!r:.80}')
    return value


def _key_of(line: dict[str, Any]) -> tuple[bytes | None, bytes]:
    if "idempotency_key" not in line:
        return None, b""
    value, content = line["idempotency_key"], bytes.fromhex(line["idempotency_digest"])
    if len(content) != 16:
        raise _Bad("an idempotency_digest has 32 hexadecimal digits")
    if isinstance(value, dict):
        value = uuid.UUID(value["uuid"]) if "uuid" in value else _base64(value["bytes"])
    return keys.encode_idempotency_key(value), content


def _metadata_of(line: dict[str, Any]) -> bytes | None:
    if "metadata_bytes" in line:
        raw = _base64(line["metadata_bytes"])
        if len(raw) > limits.METADATA_BYTES_MAX or not isinstance(json.loads(raw), dict):
            raise _Bad("metadata_bytes holds no metadata")
        return raw
    return encode_metadata(line["metadata"]) if "metadata" in line else None


def _event_of(declared: LogType, line: dict[str, Any]) -> bytes:
    try:
        if "bytes" in line:
            raw = _base64(line["bytes"])
            if not raw or len(raw) % 8:
                raise _Bad(f"an event has a multiple of 8 bytes, not {len(raw)}")
            declared.compiled.verify(raw)
            return raw
        compiled = declared.compiled
        raw = compiled.pack(from_json(compiled, line["event"]))
    except (MalformedEvent, EventEncodingError) as exc:
        raise _Bad(str(exc)) from None
    if len(raw) > limits.EVENT_BYTES_MAX:
        raise _Bad(f"an event of {len(raw)} bytes; the limit is EVENT_BYTES_MAX = {limits.EVENT_BYTES_MAX}")
    return raw


def _base64(text: Any) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError, TypeError):
        raise _Bad(f"{text!r:.40} is no base64 text") from None
