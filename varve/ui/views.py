"""What the API answers beside pages of events: the store, its overview, names and streams, one event, consumers, search."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from itertools import islice
from typing import Any, TypeVar

from varve import __version__, limits, ops
from varve.errors import InvalidInput, VarveError
from varve.layout.keys import StreamId, encode_stream_id
from varve.ops.typed import stream_id_of, when
from varve.record import Recorded
from varve.store import Varve
from varve.ui.shown import Row, error_of, fields_of, id_of, row_of, stream_of, time_of

__all__ = ["consumers", "event", "names", "overview", "search", "store", "streams"]

T = TypeVar("T")


def store(db: Varve) -> Row:
    """What every page needs to know."""
    known = ops.stream_names(db)
    types = list(dict.fromkeys(schema.name for schema in ops.stored_schemas(db)))
    return {
        "version": __version__,
        "path": db.path,
        "uuid": str(db.uuid),
        "first_sequence": str(db.first_global_sequence),
        "next_sequence": str(db.next_global_sequence),
        "names": known[: limits.UI_NAMES_MAX],
        "names_more": max(0, len(known) - limits.UI_NAMES_MAX),
        "types": types[: limits.UI_NAMES_MAX],
        "types_more": max(0, len(types) - limits.UI_NAMES_MAX),
    }


def overview(db: Varve, buckets: int) -> Row:
    """Figures and what the charts show. Each part stands alone: one that meets damage has a ``problem``, the others are there."""
    stats = db.stats()
    return {
        "events": str(db.next_global_sequence - db.first_global_sequence),
        "first_sequence": str(db.first_global_sequence),
        "next_sequence": str(db.next_global_sequence),
        "streams": str(stats.streams),
        "names": stats.names,
        "types": stats.types,
        "file_bytes": stats.file_bytes,
        "used_bytes": stats.used_bytes,
        "free_bytes": stats.free_bytes,
        "log_bytes": stats.log_bytes,
        "index_bytes": stats.index_bytes,
        "meta_bytes": stats.meta_bytes,
        "side_bytes": stats.side_bytes,
        "map_bytes": stats.map_bytes,
        "readers_max": stats.readers_max,
        "readers": _part(lambda: _readers(db)),
        "rate": _part(lambda: _rate(db, buckets)),
        "shares": _part(lambda: _shares(db)),
        "blocks": _part(lambda: _blocks(db)),
        "span": _part(lambda: _span(db)),
    }


def _part(look: Callable[[], Row]) -> Row:
    try:
        return look()
    except VarveError as error:
        return {"problem": error_of(error)}


def _readers(db: Varve) -> Row:
    found = ops.readers(db)
    shown = [{"pid": one.pid, "commits_behind": one.commits_behind} for one in found[: limits.UI_PAGE_MAX]]
    return {"count": len(found), "readers": shown}


def _rate(db: Varve, buckets: int) -> Row:
    rate = ops.event_rate(db, buckets)
    return {"start": time_of(rate.start), "bucket_s": rate.bucket_s, "counts": rate.counts}


def _shares(db: Varve) -> Row:
    found = ops.event_shares(db)
    names: dict[str, int] = {}
    types: dict[str, int] = {}
    for one in found.shares:
        names[one.stream] = names.get(one.stream, 0) + one.events
        types[one.type] = types.get(one.type, 0) + one.events
    return {"sampled": found.sampled, "names": _largest(names), "types": _largest(types)}


def _largest(found: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(found.items(), key=lambda item: -item[1])[: limits.UI_NAMES_MAX]


def _blocks(db: Varve) -> Row:
    fill = ops.block_fill(db)
    return {
        "blocks": fill.blocks,
        "payload_bytes": fill.payload_bytes,
        "block_bytes": fill.block_bytes,
        "events_per_block": round(fill.events_per_block, 2),
        "sampled": fill.sampled,
    }


def _span(db: Varve) -> Row:
    """When the first and the last event were recorded."""
    reader = db.global_reader()
    found = [reader.get(place) for place in (db.first_global_sequence, max(0, db.next_global_sequence - 1))]
    first, last = (None if one is None else time_of(one.recorded_at) for one in found)
    return {"first_at": first, "last_at": last}


def names(db: Varve, after: str | None, rows: int) -> Row:
    """Stream names, in order of first append."""
    known = ops.stream_names(db)
    if after is not None and after not in known:
        raise InvalidInput(f"the store holds no streams {after!r}")
    start = 0 if after is None else known.index(after) + 1
    shown = known[start : start + rows]
    return {"names": shown, "next": shown[-1] if start + rows < len(known) else None}


def streams(db: Varve, name: str, after: StreamId | None, rows: int) -> Row:
    """Streams of a name, in order of their ids."""
    found = list(islice(ops.streams(db, name, after=after), rows + 1))
    more = len(found) > rows
    return {
        "streams": [stream_of(one) for one in found[:rows]],
        "next": id_of(found[rows - 1].stream_id) if more else None,
    }


# -- one event -------------------------------------------------------------------------------------


def event(db: Varve, sequence: int, first_part: int) -> Row | None:
    """An event with everything that was recorded beside it and what each of its bytes is; None past the end of the log."""
    recorded = db.global_reader().get(sequence)
    if recorded is None:
        return None
    data = bytes(recorded.raw)
    end = db.next_global_sequence
    return (
        row_of(recorded)
        | fields_of(recorded, limits.UI_FIELD_CHARS_MAX)
        | {
            "commit_sequence": str(recorded.commit_sequence),
            "previous": str(sequence - 1) if sequence > db.first_global_sequence else None,
            "next": str(sequence + 1) if sequence + 1 < end else None,
            "previous_in_stream": _neighbour(db, recorded, -1),
            "next_in_stream": _neighbour(db, recorded, 1),
            "bytes": len(data),
            "parts": _part(lambda: _parts(db, sequence, data, first_part)),
        }
    )


def _neighbour(db: Varve, recorded: Recorded[Any], step: int) -> str | None:
    """Global sequence of the event before or behind in the same stream."""
    at = recorded.stream_sequence + step
    if at < 0:
        return None
    try:
        found = next(db.global_reader().iter_stream(recorded.stream, recorded.stream_id, at, at + 1), None)
    except VarveError:  # archived, or damaged: it says so where one goes there by its sequence
        return None
    return None if found is None else str(found.global_sequence)


def _parts(db: Varve, sequence: int, data: bytes, first: int) -> Row:
    parts = ops.annotate_event(db, sequence) or []
    shown = [
        {
            "offset": part.offset,
            "size": part.size,
            "hex": data[part.offset : part.offset + min(part.size, limits.UI_PART_BYTES_MAX)].hex(),
            "what": part.what,
            "name": part.name,
            "value": part.value,
        }
        for part in parts[first : first + limits.UI_PARTS_MAX]
    ]
    after = first + len(shown)
    return {"first": first, "count": len(parts), "parts": shown, "next": str(after) if after < len(parts) else None}


# -- consumers and search --------------------------------------------------------------------------


def consumers(db: Varve) -> Row:
    """Where consumers stand, how far behind they are, who runs them."""
    found = db.consumers()
    shown = [
        {
            "name": one.name,
            "position": str(one.position),
            "lag": str(one.lag),
            "updated_at": time_of(one.updated_at),
            "running": one.running,
            "members": [
                {
                    "member": member.member,
                    "running": member.running,
                    "pid": member.pid,
                    "position": str(member.position),
                    "taken_at": time_of(member.taken_at),
                }
                for member in one.members
            ],
        }
        for one in found[: limits.UI_NAMES_MAX]
    ]
    return {"consumers": shown, "count": len(found), "next_sequence": str(db.next_global_sequence)}


def search(db: Varve, text: str) -> Row:
    """What a text may mean: a global sequence, a point in time, ids of streams, names of streams and types."""
    known = ops.stream_names(db)
    types = dict.fromkeys(schema.name for schema in ops.stored_schemas(db))
    wanted = text.casefold()
    return {
        "event": _part(lambda: _event_at(db, text)),
        "time": _part(lambda: _time(db, text)),
        "streams": _part(lambda: _streams_of(db, known, text)),
        "names": [name for name in known if wanted in name.casefold()][: limits.UI_PAGE_MAX],
        "types": [name for name in types if wanted in name.casefold()][: limits.UI_PAGE_MAX],
    }


def _event_at(db: Varve, text: str) -> Row:
    digits = text.removeprefix("#")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 19 and int(digits) < db.next_global_sequence):
        return {"found": None}
    found = db.global_reader().get(int(digits))
    return {"found": None if found is None else row_of(found)}


def _time(db: Varve, text: str) -> Row:
    """The first event at or after a point in time."""
    try:
        moment: dt.datetime = when(text)
    except InvalidInput:
        return {"found": None}
    sequence = db.sequence_at(moment)
    is_there = sequence < db.next_global_sequence
    return {"found": {"time": time_of(moment), "sequence": str(sequence) if is_there else None}}


def _streams_of(db: Varve, known: list[str], text: str) -> Row:
    """Streams of any name with this id, as a text or as what it looks like; ``name/id`` asks for one name."""
    found: list[Row] = []
    tries = [(name, text) for name in known[: limits.UI_NAMES_MAX]]
    tries += [(name, text.removeprefix(f"{name}/")) for name in known if text.startswith(f"{name}/")]
    for name, typed in tries:
        ids = {stream_id_of(typed, None): None, typed: None} if typed else {}
        for stream_id in ids:
            if len(found) < limits.UI_PAGE_MAX and _is_id(stream_id):
                info = ops.stream_info(db, name, stream_id)
                found += [] if info is None else [stream_of(info)]
    return {"found": found, "names_more": max(0, len(known) - limits.UI_NAMES_MAX)}


def _is_id(stream_id: StreamId) -> bool:
    try:
        return bool(encode_stream_id(stream_id))
    except VarveError:
        return False
