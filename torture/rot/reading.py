"""Reading everything of a store, through every public way."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

import varve
from torture.stores import Placed, Scanned, Shipped
from varve.errors import VarveError

STREAMS: dict[str, Any] = {"orders": Placed | Shipped, "scans": Scanned, "notes \N{SNOWMAN}": Placed}


class Row(NamedTuple):
    """An event with everything that is recorded of it."""

    stream: str
    stream_id: Any
    stream_sequence: int
    type_name: str
    time_ns: int
    commit_sequence: int
    metadata: str
    raw: bytes
    event: str


class Contents(NamedTuple):
    """What a store holds, its events aside: they are compared one by one."""

    events: int
    consumers: tuple[tuple[str, int], ...]


class Unreadable(VarveError):
    """An event that Varve gives as one whose type it does not know."""


class Wrong(AssertionError):
    """Something was returned as right that is not."""


def row_of(recorded: varve.Recorded[Any]) -> Row:
    """All of it, every field read. Raises ``Unreadable`` where its type's schema is damaged."""
    if recorded.type is varve.UnknownEvent:
        raise Unreadable(f"the schema of {recorded.event.type_name!r} cannot be used")
    return Row(
        recorded.stream,
        recorded.stream_id,
        recorded.stream_sequence,
        recorded.type.__varve__.name,
        recorded.time_ns,
        recorded.commit_sequence,
        repr(recorded.metadata),
        bytes(recorded.raw),
        varve.to_json(recorded.event),
    )


class Light(NamedTuple):
    """As much of an event as shows whose it is."""

    stream: str
    stream_id: Any
    stream_sequence: int
    raw: bytes


def light_of(recorded: varve.Recorded[Any]) -> Light:
    """Without decoding it: the replay did."""
    return Light(recorded.stream, recorded.stream_id, recorded.stream_sequence, bytes(recorded.raw))


def contents_of(db: varve.Varve) -> Contents:
    """How many events, and where consumers stand."""
    return Contents(db.next_global_sequence, tuple((info.name, info.position) for info in db.consumers()))


def read_through(db: varve.Varve) -> tuple[list[Row], Contents]:
    """A store that is taken for sound: anything that is raised is a violation."""
    return [row_of(recorded) for recorded in db.global_reader().iter_from(0)], contents_of(db)


def same(found: Row | None, right: Row, where: str) -> None:
    """Raise ``Wrong`` where they differ."""
    if found != right:
        raise Wrong(f"{where}: {_shown(found)} instead of {_shown(right)}")


def _shown(row: Row | None) -> str:
    return "nothing" if row is None else f"{row.stream}/{row.stream_id}[{row.stream_sequence}] {row.event[:60]}"


def read_everything(db: varve.Varve, rows: list[Row], chance: random.Random) -> Contents:
    """What a store holds that passed for sound. ``rows`` are right; it may hold fewer, but then as if the rest had never
    been. Raises ``Wrong``, and whatever Varve raises, which it must not."""
    found, contents = read_through(db)
    if contents.events != len(found) or len(found) > len(rows):
        raise Wrong(f"{contents.events} events are said to be there, {len(found)} were read of {len(rows)}")
    for sequence, (one, right) in enumerate(zip(found, rows, strict=False)):
        same(one, right, f"global {sequence}")
    rows = rows[: len(found)]
    replay = db.global_reader()
    _check(
        [bytes(r.raw) for r in replay.iter_from(0, reverse=True)][::-1] == [row.raw for row in rows], "reverse replay"
    )
    _check([bytes(raw) for raw in replay.iter_bytes(0)] == [row.raw for row in rows], "replay of bytes")
    _check([r.global_sequence for r in db.follow(timeout_s=0)] == list(range(len(rows))), "tail")
    for sequence in {0, len(rows) - 1, chance.randrange(len(rows))} if rows else ():
        recorded = replay.get(sequence)
        _check(recorded is not None and row_of(recorded) == rows[sequence], f"get {sequence}")
        _check(recorded is not None and db.sequence_at(recorded.recorded_at) <= sequence, "sequence_at")
        with db.snapshot(at=sequence) as snapshot:
            last = list(snapshot.global_reader().iter_from(max(0, sequence - 3)))
            _check([r.global_sequence for r in last] == list(range(max(0, sequence - 3), sequence)), "snapshot")
    _check(replay.get(len(rows)) is None, "an event beyond the end")
    _read_streams(db, rows)
    return contents


def _check(holds: bool, what: str) -> None:
    if not holds:
        raise Wrong(f"{what} gives something else than the replay")


def _read_streams(db: varve.Varve, rows: list[Row]) -> None:
    by_stream: dict[tuple[str, Any], list[Row]] = {}
    for row in rows:
        by_stream.setdefault((row.stream, row.stream_id), []).append(row)
    for name, types in STREAMS.items():
        reader = db.stream(name, types).reader()
        of_name = [row for row in rows if row.stream == name]
        ids = [stream_id for stream, stream_id in by_stream if stream == name]
        _check(Counter(map(repr, reader.stream_ids())) == Counter(map(repr, ids)), "stream_ids")
        _check([bytes(r.raw) for r in reader.iter_all()] == [row.raw for row in of_name], "iter_all")
        _check(reader.length("never written") == 0, "length of nothing")
        for stream_id in ids:
            own = by_stream[name, stream_id]
            _check(reader.length(stream_id) == len(own), "length")
            _check([bytes(r.raw) for r in reader.iter_stream(stream_id)] == [row.raw for row in own], "iter_stream")
            backwards = [r.stream_sequence for r in reader.iter_stream(stream_id, reverse=True)]
            _check(backwards[::-1] == list(range(len(own))), "iter_stream backwards")
            for sequence in {0, len(own) // 2, len(own) - 1}:
                same_event(reader.get(stream_id, sequence), own[sequence], "get")
                _check(bytes(reader.get_bytes(stream_id, sequence) or b"") == own[sequence].raw, "get_bytes")
                recorded = reader.get_recorded(stream_id, sequence)
                same(None if recorded is None else row_of(recorded), own[sequence], "get_recorded")
            _check(reader.get(stream_id, len(own)) is None, "an event beyond the stream's end")


def same_event(event: Any, right: Row, where: str) -> None:
    """Raise ``Wrong`` where an event is not what it was."""
    found = None if event is None else varve.to_json(event)
    if found != right.event:
        raise Wrong(f"{where}: {found} instead of {_shown(right)}")


def append_after(db: varve.Varve, events: int) -> None:
    """A store that passed goes on: appends to an old stream and a new one are where they belong."""
    orders = db.stream("orders", Placed | Shipped)
    length = orders.reader().length(0)
    first = orders.append(0, Placed(1, "after"))
    second = orders.append("after", Placed(2, "after"), expected=varve.NO_STREAM)
    if (first.global_sequence, second.global_sequence) != (events, events + 1) or first.stream_sequence != length:
        raise Wrong(f"appends went to {first} and {second}, behind {events} events")
    same_event(
        orders.reader().get(0, length), Row("", 0, 0, "", 0, 0, "", b"", varve.to_json(Placed(1, "after"))), "after"
    )


# -- a store that may be damaged -------------------------------------------------------------------


class Tolerant(NamedTuple):
    """What came of reading a store that may be damaged."""

    right: int
    refused: int
    """Reads that ended in a typed error."""
    wrong: list[str]
    """Events that were returned as right and are not."""
    untyped: list[str]
    """Errors that are none of Varve's."""
    misnamed: int
    """Events whose bytes are right, read by a schema that is damaged: metadata has no checksums."""


def read_what_is_left(db: varve.Varve, rows: list[Row]) -> Tolerant:
    """Read on behind every error; each event must be the one that was written at its position."""
    right = refused = misnamed = 0
    wrong: list[str] = []
    untyped: list[str] = []

    def tried(reading: Callable[[], Iterable[tuple[Any, Row | None]]]) -> None:
        nonlocal right, refused, misnamed
        try:
            for found, expected in reading():
                if found is None:
                    continue
                if expected is None:
                    wrong.append(f"{found} where there never was anything")
                elif isinstance(found, Row) and found[:-1] == expected[:-1] and found.event != expected.event:
                    misnamed += 1
                elif found not in {expected, expected.raw, expected.event, Light(*expected[:3], expected.raw)}:
                    shown = _shown(found) if isinstance(found, Row) else repr(found)[:120]
                    wrong.append(f"{shown} instead of {_shown(expected)}")
                else:
                    right += 1
        except VarveError:
            refused += 1
        except MemoryError:
            refused += 1
        except Exception as error:  # noqa: BLE001 - counted by what it is
            untyped.append(where_of(error))

    def at(sequence: int) -> Row | None:
        return rows[sequence] if sequence < len(rows) else None

    replay = db.global_reader()
    tried(lambda: ((row_of(r), at(r.global_sequence)) for r in replay.iter_from(0)))
    tried(lambda: ((bytes(r.raw), at(r.global_sequence)) for r in replay.iter_from(0, reverse=True)))
    for sequence in range(0, len(rows), 1 + len(rows) // 12):
        tried(partial(_got, replay, sequence, rows[sequence]))
    ids: dict[tuple[str, Any], list[Row]] = {}
    for row in rows:
        ids.setdefault((row.stream, row.stream_id), []).append(row)
    for name, types in STREAMS.items():
        readers: list[varve.StreamReader[Any]] = []
        tried(partial(_opened, db, name, types, readers))
        for reader in readers:
            tried(partial(map, lambda r: (light_of(r), at(r.global_sequence)), _Late(reader.iter_all)))
            for (stream, stream_id), own in ids.items():
                if stream == name:
                    _tolerant_stream(reader, stream_id, own, tried)
    tried(lambda: [(None, None) for _ in db.consumers()])
    return Tolerant(right, refused, wrong[:10], untyped[:10], misnamed)


def _tolerant_stream(reader: Any, stream_id: Any, own: list[Row], tried: Callable[[Callable[[], Any]], None]) -> None:
    def of(recorded: Any) -> tuple[Light, Row | None]:
        at = recorded.stream_sequence
        return light_of(recorded), own[at] if at < len(own) else None

    tried(lambda: (of(r) for r in reader.iter_stream(stream_id)))
    for sequence in {0, len(own) // 2, len(own) - 1}:
        right = own[sequence]
        tried(partial(_read_one, reader, stream_id, sequence, right))
        tried(partial(_read_bytes, reader, stream_id, sequence, right))


class _Late:
    """An iteration that begins when it is iterated."""

    def __init__(self, begin: Callable[[], Iterable[Any]]) -> None:
        self._begin = begin

    def __iter__(self) -> Iterator[Any]:
        return iter(self._begin())


def _opened(db: varve.Varve, name: str, types: Any, readers: list[varve.StreamReader[Any]]) -> list[tuple[Any, None]]:
    readers.append(db.stream(name, types).reader())
    return []


def _got(replay: varve.GlobalReader, sequence: int, right: Row) -> list[tuple[Any, Row]]:
    return [_found(replay.get(sequence), right)]


def _found(found: Any, right: Row) -> tuple[Any, Row]:
    if found is None:
        return None, right
    return (row_of(found) if isinstance(found, varve.Recorded) else varve.to_json(found)), right


def _read_one(reader: Any, stream_id: Any, sequence: int, right: Row) -> list[tuple[Any, Row]]:
    return [_found(reader.get(stream_id, sequence), right)]


def _read_bytes(reader: Any, stream_id: Any, sequence: int, right: Row) -> list[tuple[Any, Row]]:
    found = reader.get_bytes(stream_id, sequence)
    return [(None if found is None else bytes(found), right)]


def where_of(error: Exception) -> str:
    """An error, and the last lines on its way."""
    trace = error.__traceback__
    lines = []
    while trace is not None:
        lines.append(f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}")
        trace = trace.tb_next
    return f"{type(error).__name__}: {str(error)[:80]} ({' '.join(lines[-3:])})"
