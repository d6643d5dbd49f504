"""What the commits of a write transaction put into the three sub-databases."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from varve import limits
from varve.errors import CorruptedStore
from varve.layout import keys, records
from varve.layout.runs import append_one, append_runs, decode_runs, encode_runs, split_entries

if TYPE_CHECKING:
    import lmdb

    from varve.engine.commit import Session
    from varve.engine.plan import Pending


def put_blocks(session: Session, cursor: lmdb.Cursor[memoryview], frames: list[tuple[bytes, bytes]]) -> None:
    """New blocks behind the last one. Raises ``CorruptedStore`` where there is one already."""
    if frames and cursor.putmulti(frames, append=True) != (len(frames), len(frames)):
        raise CorruptedStore(
            f"{session.environment.path}: the log holds a block behind its end", path=session.environment.path
        )


def put_index(session: Session, pending: Pending) -> None:
    """The runs that streams and names gained: their last entries go on, new ones follow."""
    entries: list[tuple[bytes, bytes]] = []
    next_stream, lengths, ends = session.state.record.next_stream, pending.lengths, session.state.stream_ends
    for number, gained in sorted(pending.stream_runs.items()):
        is_new = number >= next_stream
        if len(gained) == 1 and gained[0][1] == 1 and not is_new:
            position, value = ends.get(number) or session.last_stream_entry(number)
            ends[number] = position, value = append_one(position, value, gained[0][0], lengths[number] - 1)
            entries.append((keys.stream_entry_key(number, position), value))
            continue
        position, last = (0, b"") if is_new else ends.get(number) or session.last_stream_entry(number)
        runs = decode_runs(last) if last else []
        append_runs(runs, gained)
        for entry in split_entries(runs):
            value = encode_runs(entry)
            if not is_new:
                ends[number] = (position, value)
            entries.append((keys.stream_entry_key(number, position), value))
            position += sum(count for _, count in entry)
    if len(ends) > limits.CACHED_INDEX_ENTRIES_MAX:
        ends.clear()
    next_name, ends = session.state.record.next_name, session.state.name_ends
    for number, gained in sorted(pending.name_runs.items()):
        _, last = (0, b"") if number >= next_name else ends.get(number) or session.last_name_entry(number)
        runs = decode_runs(last) if last else []
        append_runs(runs, gained)
        for entry in split_entries(runs):
            ends[number] = (entry[0][0], encode_runs(entry))
            entries.append((keys.name_entry_key(number, entry[0][0]), ends[number][1]))
    with session.open.cursor(session.environment.index) as cursor:
        cursor.putmulti(entries)


def put_meta(session: Session, pending: Pending) -> None:
    """Declarations, the idempotency record, the store's record."""
    with session.open.cursor(session.environment.meta) as cursor:
        if pending.names or pending.types or pending.streams:
            cursor.putmulti(sorted(_declarations(session, pending)))
        for token, record in pending.tokens.items():
            cursor.put(keys.idempotency_key(token), record.encode())
        cursor.put(keys.STORE_RECORD_KEY, pending.record.encode())


def _declarations(session: Session, pending: Pending) -> Iterator[tuple[bytes, bytes]]:
    for name, number in pending.names.items():
        yield keys.name_key(number), name.encode()
        yield keys.name_lookup_key(name), records.encode_name_number(number)
    versions: dict[str, list[int]] = {}
    for number, declared in pending.types.values():
        yield keys.type_key(number), declared.encode()
        versions.setdefault(declared.name, []).append(number)
    for type_name, numbers in versions.items():
        key = keys.type_lookup_key(type_name)
        older = session.find_meta(key)
        yield key, records.encode_numbers([*(records.decode_numbers(older) if older is not None else []), *numbers])
    for (name_number, id_key), number in pending.streams.items():
        yield keys.stream_lookup_key(name_number, id_key), records.encode_stream_number(number)
        yield keys.stream_key(number), records.encode_stream(name_number, id_key)
