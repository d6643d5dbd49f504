"""Two logs compared by content: where is the first difference, and what is it?"""

from __future__ import annotations

import contextlib
import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from varve.codec import EventType, event_type_from_schema
from varve.codec.check import nanoseconds
from varve.codec.json import plain_event
from varve.errors import InvalidInput, MalformedEvent
from varve.layout import keys
from varve.ops.dump import MAGIC, DumpFile
from varve.ops.jsonl import JsonLines, metadata_beside
from varve.ops.log import LogType, Piece, Selection, Store, StoredLog, opened, selected
from varve.ops.transport import Input, reading
from varve.ops.verify import Progress, Told
from varve.series import Series
from varve.store import Varve

__all__ = ["Difference", "Lockstep", "ParityReport", "parity"]


@dataclass(frozen=True, slots=True)
class Difference:
    """The first event in which two logs differ."""

    global_sequence: int
    """Where: the event's global sequence."""
    what: str
    """``end`` (one log ends there), ``sequence``, ``stream``, ``stream_id``, ``stream_sequence``, ``type``, ``schema``,
    ``commit`` (where it begins), ``recorded_at``, ``idempotency_key``, ``metadata``, ``event`` (a field's value)."""
    field: str
    """Path of the field, where the events' values differ; empty otherwise."""
    left: str
    """What the first log has, as text."""
    right: str
    """What the second one has."""

    def __str__(self) -> str:
        what = f"field {self.field}" if self.field else self.what
        return f"global sequence {self.global_sequence}, {what}: {self.left} in the first, {self.right} in the second"


@dataclass(frozen=True, slots=True)
class ParityReport:
    """What a comparison came to."""

    events: int
    """Events that were compared and found equal."""
    difference: Difference | None
    """The first difference; None where there is none."""

    @property
    def equal(self) -> bool:
        """Whether the logs are equal."""
        return self.difference is None


def parity(left: Store, right: Store, *, progress: Progress | None = None) -> ParityReport:
    """Compare two logs by content: each a store (a folder or an open handle), archives and their store in a row (what
    ``varve.open`` of a list gives), a dump or a JSON lines export.

    Streams, ids, types with schema, commits, times, idempotency keys, metadata and events by value; neither uuid nor creation
    time, nor how blocks lie. Where one is an export of a part, that part is compared. ``progress`` is called with events
    compared and events in all, as far as that is known.

    Raises what opening either raises, ``Archived`` where a store does not hold the beginning of what is compared, and
    ``MalformedDump``.
    """
    with contextlib.ExitStack() as stack:
        sides = [stack.enter_context(_side(one)) for one in (left, right)]
        chosen = [side.chosen for side in sides]
        both = Lockstep(
            selected(sides[0].pieces(chosen[1]), chosen[1]), selected(sides[1].pieces(chosen[0]), chosen[0])
        )
        told = Told(progress)
        total = max(side.events for side in sides)
        told(0, total)
        difference = both.difference(lambda done: told(done, total))
        told.end()
        return ParityReport(both.equal, difference)


@dataclass(slots=True)
class _Side:
    chosen: Selection
    events: int
    log: StoredLog | DumpFile | JsonLines

    def pieces(self, wanted: Selection) -> Iterator[Piece]:
        """The log, or at least what is wanted of it."""
        if isinstance(self.log, DumpFile | JsonLines):
            return self.log.pieces()
        stop = self.events if wanted.stop is None else min(self.events, wanted.stop)
        return self.log.pieces(min(wanted.start, stop), stop)


@contextlib.contextmanager
def _side(given: Store) -> Iterator[_Side]:
    if isinstance(given, Varve | Series) or (isinstance(given, str | os.PathLike) and Path(given).is_dir()):
        with opened(given) as log:
            yield _Side(Selection(), log.stop, log)
        return
    with reading(given) as file:
        held = log_file(file)
        if held is None:
            raise InvalidInput(f"{file.name} is neither a store nor a dump nor an export of Varve")
        yield _Side(held.selection if isinstance(held, JsonLines) else Selection(), 0, held)


def is_log(given: Input) -> bool:
    """Whether a file begins as a dump or an export of Varve does."""
    return _is_dump(given) or given.head.lstrip().startswith(b'{"varve":')


def _is_dump(given: Input) -> bool:
    return given.head.startswith(MAGIC[:4])


def log_file(given: Input) -> DumpFile | JsonLines | None:
    """A file as a log: a dump or an export; None where it is neither. Raises ``MalformedDump``."""
    if not is_log(given):
        return None
    return DumpFile(given) if _is_dump(given) else JsonLines(given)


class Lockstep:
    """Two logs side by side, each cut into pieces in its own way. ``equal`` counts the events that were found equal."""

    def __init__(self, left: Iterator[Piece], right: Iterator[Piece]) -> None:
        self._sources = (left, right)
        self._at: list[Piece | None] = [next(left, None), next(right, None)]
        self.equal = 0

    def rest(self, side: int) -> Iterator[Piece]:
        """What is left of one of the two, behind what was compared."""
        piece = self._at[side]
        if piece is not None:
            yield piece
            yield from self._sources[side]

    def difference(self, told: Any = None) -> Difference | None:
        """Go on to the first difference, or to the end of both."""
        while True:
            left, right = self._at
            if left is None and right is None:
                return None
            if left is None or right is None:
                there = left or right
                assert there is not None
                ends = ("the log ends", _told_event(there))
                return Difference(there.sequence, "end", *(("", *ends) if left is None else ("", *ends[::-1])))
            found = self._step(left, right)
            if found is not None:
                return found
            if told is not None:
                told(self.equal)

    def _step(self, left: Piece, right: Piece) -> Difference | None:
        count = min(len(left.events), len(right.events))
        beside = _beside(left, right)
        if beside is not None:
            return beside
        if left.events[:count] != right.events[:count]:
            for index in range(count):
                if left.events[index] != right.events[index]:
                    found = _values(left, right, index)
                    if found is not None:
                        self.equal += index
                        return found
        self.equal += count
        for side, piece in enumerate((left, right)):
            rest = len(piece.events) > count
            self._at[side] = piece.behind(count) if rest else next(self._sources[side], None)
        return None


def _beside(left: Piece, right: Piece) -> Difference | None:
    """What differs of two events beside their values."""
    a, b = left.commit, right.commit
    pairs: tuple[tuple[str, Any, Any], ...] = (
        ("sequence", left.sequence, right.sequence),
        ("stream", left.stream, right.stream),
        ("stream_id", left.id_key, right.id_key),
        ("stream_sequence", left.stream_sequence, right.stream_sequence),
        ("type", left.type.name, right.type.name),
        ("schema", left.type, right.type),
        ("commit", a.first_sequence, b.first_sequence),
        ("recorded_at", a.time_ns, b.time_ns),
        ("idempotency_key", (a.token, a.digest), (b.token, b.digest)),
        ("metadata", left.metadata, right.metadata),
    )
    for what, one, other in pairs:
        if one != other:
            if what == "metadata" and _same_json(one, other):
                continue
            if what == "idempotency_key" and left.sequence != a.first_sequence and None in {a.token, b.token}:
                continue  # an export that begins in the middle of a commit does not know its key
            return Difference(left.sequence, what, "", _spelled(what, one), _spelled(what, other))
    return None


def _same_json(one: Any, other: Any) -> bool:
    return one is not None and other is not None and json.loads(one) == json.loads(other)


def _spelled(what: str, value: Any) -> str:
    if what == "stream_id":
        return repr(keys.decode_stream_id(value))
    if what == "schema":
        return f"schema {value.fingerprint.hex()}"
    if what == "idempotency_key":
        token, content = value
        return "none" if token is None else f"{keys.decode_idempotency_key(token)!r} of content {content.hex()}"
    if what == "metadata":
        return "none" if value is None else json.dumps(metadata_beside(value)["metadata"], ensure_ascii=False)
    if what == "recorded_at":
        return f"{value} ns"
    return repr(value)


def _told_event(piece: Piece) -> str:
    return f"a {piece.type.name} of stream {piece.stream!r} {piece.stream_id!r}"


# -- values ----------------------------------------------------------------------------------------


def _values(left: Piece, right: Piece, index: int) -> Difference | None:
    """The first field in which two events of one type differ whose bytes do; None where the values are equal."""
    sequence = left.sequence + index
    try:
        exact = exact_type(left.type)
        values = []
        for piece in (left, right):
            piece.type.compiled.verify(piece.events[index])
            values.append(plain_event(exact.view(piece.events[index]), exact.declaration))
    except (MalformedEvent, OverflowError):  # in words of a newer Varve, or no event at all
        return Difference(
            sequence, "event", "", *(f"the bytes {piece.events[index][:32].hex()}..." for piece in (left, right))
        )
    found = _first_difference(values[0], values[1], "")
    if found is None:
        return None
    path, one, other = found
    return Difference(sequence, "event", path, f"{one!r:.200}", f"{other!r:.200}")


@functools.lru_cache(maxsize=256)
def exact_type(declared: LogType) -> EventType:
    """A twin of a type whose times are numbers of nanoseconds, which Python's datetimes cannot tell apart."""
    if b'"datetime"' not in declared.schema_bytes:
        return declared.compiled
    zero = {name: _default_ns(declared, name) for name in declared.compiled.schema.types}
    model = json.loads(declared.schema_bytes)
    for name, body in model["types"].items():
        for field in body.get("table", body.get("struct", ())):
            if field["type"] == "datetime" and field["name"] in zero[name]:
                field["default"] = zero[name][field["name"]]
            field["type"] = _without_times(field["type"])
    return event_type_from_schema(json.dumps(model, sort_keys=True, separators=(",", ":"), allow_nan=False).encode())


def _default_ns(declared: LogType, name: str) -> dict[str, int]:
    """The defaults of a type's times, as nanoseconds."""
    from datetime import datetime

    fields = declared.compiled.schema.types[name].fields
    return {
        f.name: nanoseconds(datetime.fromisoformat(f.default))
        for f in fields
        if f.kind.tag == "datetime" and isinstance(f.default, str)
    }


def _without_times(kind: Any) -> Any:
    if kind == "datetime":
        return "i64"
    if isinstance(kind, dict):
        return {key: _without_times(value) if key in {"vector", "array"} else value for key, value in kind.items()}
    return kind


def _first_difference(one: Any, other: Any, path: str) -> tuple[str, Any, Any] | None:
    if isinstance(one, dict) and isinstance(other, dict):
        for name in one.keys() | other.keys():
            if (name in one) != (name in other):
                return f"{path}.{name}".lstrip("."), one.get(name), other.get(name)
        for name in one:
            found = _first_difference(one[name], other[name], f"{path}.{name}".lstrip("."))
            if found is not None:
                return found
        return None
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return path, f"{len(one)} items", f"{len(other)} items"
        for index, (a, b) in enumerate(zip(one, other, strict=True)):
            found = _first_difference(a, b, f"{path}[{index}]")
            if found is not None:
                return found
        return None
    same = type(one) is type(other) and one == other and str(one) == str(other)  # -0.0 is another number than 0.0
    return None if same else (path, one, other)
