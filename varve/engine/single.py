"""The commonest commit by far: one event to a stream that exists, and what rides on it.

``apply_single`` writes one that has no company into a tail that has room, ``plan_single`` lines one up among others. Both
come to exactly what the general way (``engine.plan``) would, with less: no plan, no cursor, the last index entries
remembered. A durable commit is mostly waiting for the disk, and what is computed around it runs on cold caches, so its
price is the number of things touched.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from varve import limits
from varve.engine.request import Committed
from varve.expected import ANY
from varve.layout import keys
from varve.layout.draft import SINGLE_BYTES
from varve.layout.runs import append_one

if TYPE_CHECKING:
    from varve.engine.commit import Session
    from varve.engine.plan import Pending
    from varve.engine.request import AppendRequest, CommitRequest

_Target = tuple[int, int, int, int, bytes]
"""Name number, stream number, type number, length of the stream, the event."""


def apply_single(session: Session, request: CommitRequest) -> Committed | None:
    """Write a commit of one event; None where it needs the general way. The expectation was not checked yet and is
    refused there."""
    tail = session.state.tail
    if tail is None or tail.bytes_max + SINGLE_BYTES > limits.TAIL_BLOCK_BYTES_MAX:
        return None
    target = _target(session, None, request.appends[0])
    if target is None:
        return None
    name_number, number, type_number, length, event = target
    if tail.bytes_max + len(event) + SINGLE_BYTES > limits.TAIL_BLOCK_BYTES_MAX:
        return None
    if request.effects:
        session.run_effects(request)
    state = session.state
    transaction, environment = session.open, session.environment
    sequence = state.record.next_sequence
    time_ns = session.now_ns(request.recorded_ns)
    session.begin_writing()
    tail.begin_commit(time_ns)
    tail.add(number, type_number, length, [event])
    frame = tail.encode()
    transaction.put(keys.log_key(tail.first), frame, db=environment.log)

    position, runs = session.extend_stream_entry(number, sequence, length)
    transaction.put(keys.stream_entry_key(number, position), runs, db=environment.index)

    position, runs = state.name_ends.get(name_number) or session.last_name_entry(name_number)
    position, runs = append_one(position, runs, sequence, sequence)
    transaction.put(keys.name_entry_key(name_number, position), runs, db=environment.index)
    state.name_ends[name_number] = (position, runs)

    record = state.record.grown(1)
    transaction.put(keys.STORE_RECORD_KEY, record.encode(), db=environment.meta)
    session.written(record, tail, time_ns, len(event), {number: length + 1}, frame)
    return Committed(sequence, [[(length, sequence, 1)]])


def plan_single(session: Session, pending: Pending, request: CommitRequest) -> Committed | None:
    """Line a commit of one event up among others; None where it needs the general way, as ``apply_single``."""
    target = _target(session, pending, request.appends[0])
    if target is None:
        return None
    name_number, number, type_number, length, event = target
    time_ns = session.now_ns(request.recorded_ns)
    if request.effects:  # the last step that can refuse it: nothing of it may stay among the others
        session.run_effects(request)
    sequence = pending.take_single(time_ns, name_number, number, type_number, length, event)
    return Committed(sequence, [[(length, sequence, 1)]])


def _target(session: Session, pending: Pending | None, append: AppendRequest) -> _Target | None:
    """Where an append of one plain event goes; None where it is something else, or is to be refused."""
    parts = append.parts
    if len(parts) != 1 or append.metadata is not None:
        return None
    id_key, declaration, bufs = parts[0]
    if len(bufs) != 1:
        return None
    catalog = session.writer.catalog
    stream = append.stream
    number = catalog.stream_numbers.get((stream, id_key)) or catalog.stream_number(session, stream, id_key)
    if number is None:
        return None
    last = session.last_target  # most singles of a group are of one name and type
    if last is not None and last[0] is stream and last[1] is declaration:
        _, _, name_number, type_number = last
    else:
        found, known = catalog.name_number(session, stream), catalog.type_number(session, declaration)
        if found is None or known is None:
            return None
        name_number, type_number = found, known
        session.last_target = (stream, declaration, name_number, type_number)
    length = None if pending is None else pending.lengths.get(number)
    if length is None:
        length = session.state.lengths.get(number)
        if length is None:
            length = session.length_of(number)
    if append.expected is not ANY and not session.holds(append, length):
        return None
    return name_number, number, type_number, length, bufs[0]
