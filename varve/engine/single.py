"""The commonest commit by far: one event to a stream that exists, into a tail that has room.

It writes exactly what the general way (``engine.plan``) would, with less: no plan, no cursor, the last index entries
remembered. A durable commit is mostly waiting for the disk, and what is computed around it runs on cold caches, so its
price is the number of things touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from varve import limits
from varve.engine.request import Committed
from varve.layout import keys
from varve.layout.block import COMMIT_BYTES, EVENT_OVERHEAD_BYTES, RUN_BYTES
from varve.layout.runs import append_one

if TYPE_CHECKING:
    from varve.engine.commit import Session
    from varve.engine.request import CommitRequest

_EVENT_BYTES = COMMIT_BYTES + RUN_BYTES + EVENT_OVERHEAD_BYTES


def apply_single(session: Session, request: CommitRequest) -> Committed | None:
    """Write a commit of one event; None where it needs the general way. The expectation was not checked yet and is
    refused there."""
    append = request.appends[0]
    parts = append.parts
    if len(parts) != 1 or append.metadata is not None:
        return None
    id_key, declaration, bufs = parts[0]
    state = session.state
    tail = state.tail
    if tail is None or len(bufs) != 1 or tail.bytes_max + len(bufs[0]) + _EVENT_BYTES > limits.TAIL_BLOCK_BYTES_MAX:
        return None
    catalog = session.writer.catalog
    name_number = catalog.name_number(session, append.stream)
    number = catalog.stream_number(session, append.stream, id_key)
    type_number = catalog.type_number(session, declaration)
    if name_number is None or number is None or type_number is None:
        return None
    length = session.length_of(number)
    if not session.holds(append, length):
        return None
    transaction, environment = session.open, session.environment
    sequence = state.record.next_sequence
    time_ns = session.now_ns()
    session.begin_writing()
    tail.begin_commit(time_ns)
    tail.add(number, type_number, length, bufs)
    transaction.put(keys.log_key(tail.first), tail.encode(), db=environment.log)

    position, runs = state.stream_ends.get(number) or session.last_stream_entry(number)
    position, runs = append_one(position, runs, sequence, length)
    transaction.put(keys.stream_entry_key(number, position), runs, db=environment.index)
    if len(state.stream_ends) >= limits.CACHED_INDEX_ENTRIES_MAX:
        state.stream_ends.clear()
    state.stream_ends[number] = (position, runs)

    position, runs = state.name_ends.get(name_number) or session.last_name_entry(name_number)
    position, runs = append_one(position, runs, sequence, sequence)
    transaction.put(keys.name_entry_key(name_number, position), runs, db=environment.index)
    state.name_ends[name_number] = (position, runs)

    record = state.record.grown(1)
    transaction.put(keys.STORE_RECORD_KEY, record.encode(), db=environment.meta)
    session.written(record, tail, time_ns, len(bufs[0]), {number: length + 1})
    return Committed(sequence, [[(length, sequence, 1)]])
