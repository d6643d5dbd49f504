"""The streams of a store: names, ids, lengths, when they were last written."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from dataclasses import dataclass

from varve.errors import InvalidInput
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
    last_sequence: int
    """Global sequence of the last one."""
    last_at: dt.datetime
    """When that was recorded (UTC)."""


def stream_names(db: Varve) -> list[str]:
    """The stream names of an open store, in order of first append."""
    engine = db._engine  # noqa: SLF001 - the same library
    with engine.snapshot() as snapshot:
        return [engine.catalog.name(snapshot, number) for number in range(snapshot.record.next_name)]


def streams(db: Varve, name: str | None = None) -> Iterator[StreamInfo]:
    """The streams of an open store, or those of one name, as of this call.

    By name in order of first append, then ids: ints, strs, UUIDs, each in order. Memory is bounded whatever their number, and no
    snapshot is held between steps. Raises ``InvalidInput`` for a name that the store does not know.
    """
    known = stream_names(db)
    if name is not None and keys.check_name(name) not in known:
        raise unknown_name(name, known)
    return _streams(db, db.next_global_sequence, known if name is None else [name])


def unknown_name(name: str, known: list[str]) -> InvalidInput:
    """The error for a stream name that a store does not know."""
    return InvalidInput(f"the store holds no streams {name!r}; it holds {', '.join(map(repr, known)) or 'none'}")


def _streams(db: Varve, end: int, names: list[str]) -> Iterator[StreamInfo]:
    for name in names:
        after: bytes | None = None
        while True:
            found, after = _some(db, end, name, after)
            yield from found
            if after is None:
                break


def _some(db: Varve, end: int, name: str, after: bytes | None) -> tuple[list[StreamInfo], bytes | None]:
    """Some streams of a name behind a key of the metadata, as the log was before ``end``, and the last key; None at the end."""
    engine = db._engine  # noqa: SLF001 - the same library
    with engine.snapshot(end) as snapshot:
        number = engine.catalog.name_number(snapshot, name)
        assert number is not None  # a name that was there stays
        prefix = keys.stream_lookup_key(number, b"")
        chunk = snapshot.meta_chunk(prefix, after)
        found = []
        for key, value in chunk:
            stream = decode_stream_number(value)
            length = snapshot.stream_length(stream)
            last = snapshot.global_of(stream, length - 1) if length else None
            if last is not None:
                block = snapshot.block(last)
                last_at = to_datetime(block.commit_of(last - block.first)[1])
                found.append(StreamInfo(name, keys.decode_stream_id(key[len(prefix) :]), length, last, last_at))
        return found, chunk[-1][0] if chunk else None
