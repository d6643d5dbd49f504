"""The streams of a store: names, ids, lengths, when they were last written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from varve.engine.snapshot import Snapshot
from varve.errors import Archived, InvalidInput
from varve.layout import keys
from varve.layout.keys import StreamId
from varve.layout.records import decode_stream_number
from varve.record import to_datetime
from varve.store import Varve


@dataclass(frozen=True, slots=True)
class StreamInfo:
    """One stream, as of an instant."""

    name: str
    """Its name."""
    stream_id: StreamId
    """Its id."""
    length: int
    """Number of its events, at least 1."""
    last_sequence: int | None
    """Global sequence of the last one; None where all of them were archived."""
    last_at: dt.datetime | None
    """When that was recorded (UTC); None likewise."""


def stream_names(db: Varve) -> list[str]:
    """The stream names of an open store, in order of first append."""
    engine = db._engine  # noqa: SLF001 - the same library
    with engine.snapshot() as snapshot:
        return [engine.catalog.name(snapshot, number) for number in range(snapshot.record.next_name)]


def streams(db: Varve, name: str | None = None, *, after: StreamId | None = None) -> Iterator[StreamInfo]:
    """The streams of an open store, or those of one name, as of this call.

    By name in order of first append, then ids: ints, strs, UUIDs, each in order; with a name also only those behind the id
    ``after``, which need not be there. Memory is bounded whatever their number, and no snapshot is held between steps. Raises
    ``InvalidInput`` for a name that the store does not know.
    """
    known = stream_names(db)
    if name is not None and keys.check_name(name) not in known:
        raise unknown_name(name, known)
    if after is not None and name is None:
        raise InvalidInput("after is an id of one stream name: give that too")
    behind = None if after is None else keys.encode_stream_id(after)
    return _streams(db, db.next_global_sequence, known if name is None else [name], behind)


def stream_info(db: Varve, name: str, stream_id: StreamId) -> StreamInfo | None:
    """One stream of an open store; None where it holds none of that name and id. Raises ``InvalidName``, ``InvalidStreamId``."""
    engine = db._engine  # noqa: SLF001 - the same library
    with engine.snapshot() as snapshot:
        number = snapshot.stream_number(keys.check_name(name), keys.encode_stream_id(stream_id))
        return None if number is None else _info(snapshot, name, stream_id, number)


def unknown_name(name: str, known: list[str]) -> InvalidInput:
    """The error for a stream name that a store does not know."""
    return InvalidInput(f"the store holds no streams {name!r}; it holds {', '.join(map(repr, known)) or 'none'}")


def _streams(db: Varve, end: int, names: list[str], behind: bytes | None) -> Iterator[StreamInfo]:
    for name in names:
        after = behind
        while True:
            found, after = _some(db, end, name, after)
            yield from found
            if after is None:
                break


def _some(db: Varve, end: int, name: str, after: bytes | None) -> tuple[list[StreamInfo], bytes | None]:
    """Some streams of a name behind an id key, as the log was before ``end``, and the last id key; None at the end."""
    engine = db._engine  # noqa: SLF001 - the same library
    with engine.snapshot(end) as snapshot:
        number = engine.catalog.name_number(snapshot, name)
        assert number is not None  # a name that was there stays
        prefix = keys.stream_lookup_key(number, b"")
        chunk = snapshot.meta_chunk(prefix, None if after is None else prefix + after)
        numbers = [(keys.decode_stream_id(key[len(prefix) :]), decode_stream_number(value)) for key, value in chunk]
        found = [_info(snapshot, name, stream_id, number) for stream_id, number in numbers]
        return [one for one in found if one is not None], chunk[-1][0][len(prefix) :] if chunk else None


def _info(snapshot: Snapshot, name: str, stream_id: StreamId, number: int) -> StreamInfo | None:
    """A stream by its number; None where this instant does not know it yet."""
    length = snapshot.stream_length(number)
    if not length:
        return None
    last = _retained(snapshot, number, length - 1)
    return StreamInfo(name, stream_id, length, last, None if last is None else _time(snapshot, last))


def stream_extent(db: Varve, name: str, stream_id: StreamId, at: int | None = None) -> tuple[int, int]:
    """The first stream sequence of a stream that the store still holds, and its length; as the log was before global sequence
    ``at``.

    Both are 0 where there is no such stream, and equal where all of it was archived. Raises ``InvalidName``,
    ``InvalidStreamId``.
    """
    engine = db._engine  # noqa: SLF001 - the same library
    with engine.snapshot(at) as snapshot:
        number = snapshot.stream_number(keys.check_name(name), keys.encode_stream_id(stream_id))
        if number is None:
            return 0, 0
        low, high = 0, snapshot.stream_length(number)
        length = high
        while low < high:
            middle = (low + high) // 2
            if _retained(snapshot, number, middle) is None:
                low = middle + 1
            else:
                high = middle
        return low, length


def _retained(snapshot: Snapshot, number: int, stream_sequence: int) -> int | None:
    """Global sequence of an event; None where it was archived."""
    try:
        found = snapshot.global_of(number, stream_sequence)
    except Archived:
        return None
    return found if found is not None and found >= snapshot.first_sequence else None


def _time(snapshot: Snapshot, sequence: int) -> dt.datetime:
    block = snapshot.block(sequence)
    return to_datetime(block.commit_of(sequence - block.first)[1])
