"""Commits: checked appends in, positions out.

A commit holds LMDB's writer lock from its first look at the store to its fsync. It checks every expectation, gives
numbers and sequences, builds blocks, writes the three sub-databases and commits; all or nothing. What it remembers for
the next one (the open tail, lengths of streams) is used only if nobody else has committed since, told by LMDB's
transaction number.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import lmdb

from varve import limits
from varve.codec.evolve import misfits
from varve.engine.failures import failed, outcome_unknown
from varve.engine.plan import Plan, PlannedPart
from varve.engine.put import put_blocks, put_index, put_meta
from varve.engine.request import AppendRequest, CommitRequest, Committed, Segment, TypeDeclaration
from varve.engine.single import apply_single
from varve.engine.snapshot import Snapshot, corrupted
from varve.errors import (
    CorruptedStore,
    ForkedStore,
    HandleUnusable,
    IdempotencyConflict,
    InvalidInput,
    ReadonlyStore,
    SchemaConflict,
    StoreFailed,
    StoreFull,
    TooManyItems,
    VarveError,
    WrongExpectedVersion,
)
from varve.expected import ANY, holds
from varve.layout import keys, records
from varve.layout.block import Block, BlockDraft, MalformedBlock, crc_holds
from varve.layout.records import IdempotencyRecord, StoreRecord, TypeRecord
from varve.layout.runs import RUN_EVENTS_MAX, append_runs, decode_runs

if TYPE_CHECKING:
    from varve.engine.catalog import Catalog
    from varve.engine.environment import Environment
    from varve.engine.snapshot import CheckedBlocks

_PUT_BLOCKS = 256


class _State:
    """What a writer knows of the store as of one commit."""

    def __init__(self, record: StoreRecord, tail: BlockDraft | None, last_time_ns: int) -> None:
        self.record = record
        self.tail = tail
        self.last_time_ns = last_time_ns
        self.record_bytes = record.encode()
        self.lengths: dict[int, int] = {}
        self.stream_ends: dict[int, tuple[int, bytes]] = {}
        self.name_ends: dict[int, tuple[int, bytes]] = {}


class _Written(NamedTuple):
    """What a transaction has written and the state becomes once it is committed."""

    record: StoreRecord
    tail: BlockDraft | None
    time_ns: int
    payload_bytes: int
    lengths: dict[int, int]


class Writer:
    """The writing side of a handle: one commit at a time, from any thread."""

    def __init__(
        self, environment: Environment, catalog: Catalog, checked: CheckedBlocks, clock: Callable[[], int]
    ) -> None:
        self.environment = environment
        self.catalog = catalog
        self.checked = checked
        self.clock = clock
        self.state: _State | None = None
        self.last_id = -1
        self._lock: Any = threading.RLock()  # one that knows its owner: see _free_left_over
        self._session: Session | None = None
        self._user_runs = False

    def commit(self, request: CommitRequest) -> Committed:
        """Make one commit durable. Raises what was refused; then nothing of it is written."""
        self._check_entry()
        with self._lock:
            session = self._enter()
            try:
                committed = session.apply(request)
                session.commit()
            finally:
                self._leave(session)
        return session.located(committed, request) if committed.replayed else committed

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """The write transaction, begun, used and ended on this thread; aborted unless ``commit`` was called."""
        self._check_entry()
        with self._lock:
            session = self._enter()
            try:
                self._user_runs = True
                yield session
            finally:
                self._user_runs = False
                self._leave(session)

    @property
    def _is_mine(self) -> bool:
        """Whether this thread is inside ``db.write(fn)``: the only commit in which code of the user runs."""
        return self._user_runs and self._lock._is_owned()

    def _check_entry(self) -> None:
        """What can be said before waiting for the lock."""
        if self._is_mine:
            raise HandleUnusable(
                "this thread is inside db.write(fn) already: append through the tx that fn was given, or after it"
            )
        self._free_left_over()
        environment = self.environment
        if environment.readonly:
            raise ReadonlyStore(f"{environment.path} was opened with readonly=True; open it without to write")
        environment.check_usable()  # before the lock: after a fork a thread that is gone may hold it
        environment.warn_of_old_snapshots()  # before anything is written: a warning may be an error

    def _free_left_over(self) -> None:
        """Give the lock back where an interrupt struck before ``with`` could: this thread owns it and is in no commit.

        The session that was cut off is ended by the next one (``_enter``).
        """
        while self._lock._is_owned():
            self._lock.release()

    def _enter(self) -> Session:
        """Begin a write transaction, with the lock held.

        Ctrl-C may strike between any two steps, also inside the ``finally`` of a commit: the lock is only ever held by
        a ``with``, and a session that was not ended is ended here.
        """
        self.environment.check_usable()
        left_over, self._session = self._session, None
        if left_over is not None:
            left_over.abort()
        self._session = session = Session(self)
        return session

    def _leave(self, session: Session) -> None:
        """End the transaction, unless it was committed."""
        session.abort()
        self._session = None

    def wait_idle(self) -> contextlib.AbstractContextManager[object]:
        """Wait for the commit that is running, and let none begin inside the block.

        Raises ``HandleUnusable`` inside ``db.write``.
        """
        if self._is_mine:
            raise HandleUnusable("this thread is inside db.write(fn): close the store after it")
        self._free_left_over()
        lock: contextlib.AbstractContextManager[object] = self._lock
        return lock

    @property
    def busy(self) -> bool:
        """Whether a commit is running, on whichever thread."""
        if self._lock._is_owned():
            return self._session is not None
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return False
        return True


class Session:
    """One write transaction."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.environment = writer.environment
        try:
            self.transaction: lmdb.Transaction[memoryview] | None = writer.environment.env.begin(
                write=True, buffers=True
            )
        except lmdb.Error as exc:
            raise self._begin_error(exc) from exc
        self._written: _Written | None = None
        self._index_cursor: lmdb.Cursor[memoryview] | None = None
        try:
            self.state = self._load()
        except lmdb.Error as exc:
            self.abort()
            raise self.environment.read_error(exc) from exc
        except BaseException:
            self.abort()
            raise

    def _begin_error(self, exc: lmdb.Error) -> VarveError:
        path = self.environment.path
        if isinstance(exc, lmdb.MapResizedError):
            return StoreFull(f"{path}: another process wrote beyond this handle's map_bytes; open it again", path=path)
        if isinstance(exc, lmdb.PanicError):
            return outcome_unknown(self.environment)
        return StoreFailed(f"{path}: cannot begin a commit: {exc}", path=path, reason=str(exc))

    # -- state -------------------------------------------------------------------------------------

    @property
    def open(self) -> lmdb.Transaction[memoryview]:
        """LMDB's transaction."""
        assert self.transaction is not None
        return self.transaction

    @property
    def record(self) -> StoreRecord:
        """The store's record as this transaction found it."""
        return self.state.record

    def find_meta(self, key: bytes) -> memoryview | None:
        """A metadata value, valid until the next write; None where there is none."""
        return self.open.get(key, db=self.environment.meta)

    def meta(self, key: bytes) -> memoryview:
        """A metadata value that must be there. Raises ``CorruptedStore``."""
        value = self.find_meta(key)
        if value is None:
            raise CorruptedStore(
                f"{self.environment.path}: the metadata lacks the record {key[:40]!r}; rebuild it with varve.ops",
                path=self.environment.path,
            )
        return value

    def _load(self) -> _State:
        writer = self.writer
        stored = self.meta(keys.STORE_RECORD_KEY)
        known = writer.state
        if known is not None and writer.last_id + 1 == self.open.id() and known.record_bytes == stored:
            return known
        record = records.unpack_store_record(stored)
        writer.state = None
        tail, last_time_ns, end = self._load_tail()
        if end != record.next_sequence:
            raise CorruptedStore(
                f"{self.environment.path}: the log ends at {end}, the metadata says {record.next_sequence}; verify the store. "
                "Nothing was written",
                path=self.environment.path,
            )
        return _State(record, tail, last_time_ns)

    def _load_tail(self) -> tuple[BlockDraft | None, int, int]:
        """The last block as a draft, the time of its last commit and the end of the log.

        Its checksum is checked although this process may have seen it right: what is extended gets a fresh checksum,
        which would seal whatever has rotted since.
        """
        with self.open.cursor(self.environment.log) as cursor:
            if not cursor.last():
                return None, 0, 0
            first = keys.log_sequence(cursor.key())
            data = cursor.value()
            if not crc_holds(data):
                raise corrupted(self.environment.path, first, "its checksum is wrong, so the log cannot be continued")
            try:
                block = Block(data)
                block.check()
                open_tail = len(data) < limits.TAIL_BLOCK_BYTES_MAX
                return BlockDraft.of(block) if open_tail else None, block.last_time_ns, block.end
            except MalformedBlock as exc:
                raise corrupted(self.environment.path, first, str(exc)) from None

    # -- checking and planning ---------------------------------------------------------------------

    def apply(self, request: CommitRequest) -> Committed:
        """Check a request and write it into the transaction.

        Raises ``WrongExpectedVersion``, ``IdempotencyConflict``, ``SchemaConflict``, ``TooManyItems``, ``StoreFull``,
        ``DiskFull``,
        ``StoreFailed``. The transaction is useless after an error.
        """
        if self.environment.is_forked:  # inside db.write(fn): the transaction is the parent's
            raise ForkedStore(
                f"{self.environment.path}: the process forked inside db.write(fn); the parent's commit goes on"
            )
        if request.token is not None:
            found = self.find_meta(keys.idempotency_key(request.token))
            if found is not None:
                return self._replay(request, records.decode_idempotency(found))
        elif len(request.appends) == 1 and self._written is None:
            try:
                committed = apply_single(self, request)
            except lmdb.Error as exc:
                raise self._failed(exc, limits.TAIL_BLOCK_BYTES_MAX) from exc
            if committed is not None:
                return committed
        record = self.state.record
        plan = Plan(
            record=record,
            first_sequence=record.next_sequence,
            time_ns=self.now_ns(),
            token=request.token,
            digest=request.digest,
            declares_store=record.next_sequence == 0,
        )
        committed = Committed(plan.first_sequence)
        try:
            for append in request.appends:
                committed.segments.append(self._plan_append(plan, append))
        except lmdb.Error as exc:
            raise self.environment.read_error(exc) from exc
        if plan.payload_bytes > limits.TRANSACTION_BYTES_MAX:
            raise TooManyItems(
                f"a transaction of {plan.payload_bytes} bytes; the limit is "
                f"TRANSACTION_BYTES_MAX = {limits.TRANSACTION_BYTES_MAX}. Append in smaller batches",
                limit_name="TRANSACTION_BYTES_MAX",
                limit=limits.TRANSACTION_BYTES_MAX,
            )
        plan.record = record.grown(plan.events, len(plan.streams), len(plan.names), len(plan.types))
        if plan.events:
            try:
                self._write(plan)
            except lmdb.Error as exc:
                raise self._failed(exc, plan.payload_bytes) from exc
        return committed

    def now_ns(self) -> int:
        """The time of this commit: the clock's, or the last commit's where the clock went backwards."""
        now_ns = self.writer.clock()
        if type(now_ns) is not int or not 0 <= now_ns < 1 << 63:
            raise InvalidInput(f"the clock gives nanoseconds since 1970 as an int, not {now_ns!r}")
        return max(now_ns, self.state.last_time_ns)

    def length(self, stream: str, id_key: bytes) -> int:
        """Events of a stream, as this transaction found it."""
        number = self._stream_number(stream, id_key)
        return 0 if number is None else self.length_of(number)

    def _replay(self, request: CommitRequest, found: IdempotencyRecord) -> Committed:
        if found.digest != request.digest or found.count != sum(append.count for append in request.appends):
            raise IdempotencyConflict(
                f"the idempotency key {request.key!r} was used at global sequence {found.first_sequence} for other content; "
                "a new command needs a new key",
                key=request.key,
                global_sequence=found.first_sequence,
            )
        return Committed(found.first_sequence, replayed=True)

    def _stream_number(self, stream: str, id_key: bytes) -> int | None:
        return self.writer.catalog.stream_number(self, stream, id_key)

    def length_of(self, number: int) -> int:
        """Events of a stream by its number, as this transaction found it."""
        lengths = self.state.lengths
        length = lengths.get(number)
        if length is None:
            position, runs = self.last_stream_entry(number)
            length = position + sum(count for _, count in decode_runs(runs))
            if len(lengths) >= limits.CACHED_STREAMS_MAX:
                lengths.clear()
            lengths[number] = length
        return length

    def last_stream_entry(self, number: int) -> tuple[int, bytes]:
        """Position and value of a stream's last index entry."""
        return self._last_entry(keys.stream_entry_key(number, 2**64 - 1), 5) or (0, b"")

    def last_name_entry(self, number: int) -> tuple[int, bytes]:
        """Position and value of a name's last index entry."""
        return self._last_entry(keys.name_entry_key(number, 2**64 - 1), 3) or (0, b"")

    def _last_entry(self, beyond: bytes, prefix_bytes: int) -> tuple[int, bytes] | None:
        """Position and value of the last index entry under a prefix."""
        cursor = self._index_cursor
        if cursor is None:
            cursor = self._index_cursor = self.open.cursor(self.environment.index)
        if cursor.set_range(beyond):
            if not cursor.prev():
                return None
        elif not cursor.last():
            return None
        found, value = cursor.item()
        if found[:prefix_bytes] != beyond[:prefix_bytes]:
            return None
        return keys.entry_position(found), bytes(value)

    def _plan_append(self, plan: Plan, append: AppendRequest) -> list[Segment]:
        """Give one append call its numbers and sequences; check what it expects."""
        if append.expected is not ANY:
            self._check_expected(plan, append)
        if not append.parts:
            return []
        name_number = self._name_number(plan, append.stream)
        segments: list[Segment] = []
        parts: list[PlannedPart] = []
        sequence = begun = plan.first_sequence + plan.events
        streams, lengths, runs_of = plan.streams, plan.lengths, plan.stream_runs
        last_type: TypeDeclaration | None = None
        type_number = 0
        for id_key, declaration, bufs in append.parts:
            if declaration is not last_type:
                type_number = self._type_number(plan, declaration)
                last_type = declaration
            number = streams.get((name_number, id_key))
            if number is None:
                number = self._stream_number(append.stream, id_key) if append.stream not in plan.names else None
                if number is None:
                    number = self._new_stream(plan, name_number, id_key)
            length = lengths.get(number)
            if length is None:
                length = self.length_of(number)
            count = len(bufs)
            parts.append((number, type_number, length, bufs))
            segments.append((length, sequence, count))
            gained = runs_of.get(number)
            if gained is None:
                gained = runs_of[number] = []
            if count <= RUN_EVENTS_MAX and not (gained and sum(gained[-1]) == sequence):
                gained.append((sequence, count))  # interleaved: nothing to merge with
            else:
                append_runs(gained, ((sequence, count),))
            lengths[number] = length + count
            sequence += count
        append_runs(plan.name_runs.setdefault(name_number, []), ((begun, sequence - begun),))
        plan.payload_bytes += append.payload_bytes
        plan.events += sequence - begun
        plan.runs += len(parts)
        plan.parts.append((append.metadata, parts))
        return segments

    def _check_expected(self, plan: Plan, append: AppendRequest) -> None:
        id_key = append.id_key
        number = self._stream_number(append.stream, id_key)
        if number is None:
            name_number = plan.names.get(append.stream)
            if name_number is None:
                name_number = self.writer.catalog.name_number(self, append.stream)
            number = None if name_number is None else plan.streams.get((name_number, id_key))
        length = 0
        if number is not None:
            length = plan.lengths[number] if number in plan.lengths else self.length_of(number)
        if not self.holds(append, length):
            raise WrongExpectedVersion(
                f"stream {append.stream!r} {append.stream_id!r} holds {length} events, expected {append.expected!r}: "
                "read it again, decide again, retry",
                stream=append.stream,
                stream_id=append.stream_id,
                expected=append.expected,
                actual=length,
            )

    def holds(self, append: AppendRequest, length: int) -> bool:
        """Whether a stream of this length is what an append expects."""
        return append.expected is ANY or holds(append.expected, length)

    def _name_number(self, plan: Plan, name: str) -> int:
        number = plan.names.get(name)
        if number is None:
            number = self.writer.catalog.name_number(self, name)
        if number is None:
            number = plan.record.next_name + len(plan.names)
            _check_count(
                "NAMES_MAX", limits.NAMES_MAX, number, "stream names; a name is a category, put the rest into the id"
            )
            plan.names[name] = number
        return number

    def _new_stream(self, plan: Plan, name_number: int, id_key: bytes) -> int:
        number = plan.record.next_stream + len(plan.streams)
        _check_count("STREAMS_MAX", limits.STREAMS_MAX, number, "streams")
        plan.streams[name_number, id_key] = number
        plan.undeclared[number] = (name_number, id_key)
        plan.lengths[number] = 0
        return number

    def _type_number(self, plan: Plan, declaration: TypeDeclaration) -> int:
        planned = plan.types.get(declaration.fingerprint)
        if planned is not None:
            return planned[0]
        number = self.writer.catalog.type_number(self, declaration)
        if number is None:
            self._check_evolution(plan, declaration)
            number = plan.record.next_type + len(plan.types)
            _check_count("TYPES_MAX", limits.TYPES_MAX, number, "event types")
            plan.types[declaration.fingerprint] = (number, TypeRecord(declaration.name, declaration.schema_bytes))
        return number

    def _check_evolution(self, plan: Plan, declaration: TypeDeclaration) -> None:
        planned = [record for _, record in plan.types.values() if record.name == declaration.name]
        check_evolution(declaration, self.writer.catalog.type_versions(self, declaration.name) + planned)

    # -- writing -----------------------------------------------------------------------------------

    def _write(self, plan: Plan) -> None:
        transaction = self.open
        self.begin_writing()
        state = self.state
        tail = state.tail
        frames: list[tuple[bytes, bytes]] = []
        with transaction.cursor(self.environment.log) as cursor:
            draft = None
            for draft in plan.blocks(tail):
                frame = draft.encode()
                if draft is tail:
                    cursor.put(keys.log_key(draft.first), frame)
                    continue
                frames.append((keys.log_key(draft.first), frame))
                if len(frames) == _PUT_BLOCKS:
                    put_blocks(self, cursor, frames)
                    frames = []
            put_blocks(self, cursor, frames)
        put_index(self, plan)
        put_meta(self, plan)
        for number in plan.stream_runs:
            state.stream_ends.pop(number, None)
        for number in plan.name_runs:
            state.name_ends.pop(number, None)
        self.written(plan.record, draft, plan.time_ns, plan.payload_bytes, plan.lengths)

    def begin_writing(self) -> None:
        """From here on the tail is extended in memory: whoever fails must read it again."""
        self.writer.state = None

    def written(
        self, record: StoreRecord, tail: BlockDraft | None, time_ns: int, payload_bytes: int, lengths: dict[int, int]
    ) -> None:
        """What the state becomes once this is committed."""
        self._written = _Written(record, tail, time_ns, payload_bytes, lengths)

    # -- ending ------------------------------------------------------------------------------------

    def commit(self) -> None:
        """Make the transaction durable. Raises ``DiskFull``, ``StoreFull``, ``StoreFailed``,
        ``CommitOutcomeUnknown``."""
        written = self._written
        if written is None:
            return  # nothing to write: leave no empty commit behind
        transaction = self.open
        writer = self.writer
        identity = transaction.id()
        self._index_cursor = None
        self.transaction = None
        try:
            transaction.commit()
        except lmdb.Error as exc:
            raise self._failed(exc, written.payload_bytes) from exc
        state = self.state
        state.record = written.record
        state.record_bytes = written.record.encode()
        state.last_time_ns = written.time_ns
        tail = written.tail
        state.tail = tail if tail is not None and tail.bytes_max < limits.TAIL_BLOCK_BYTES_MAX else None
        if len(state.lengths) + len(written.lengths) > limits.CACHED_STREAMS_MAX:
            state.lengths.clear()
        state.lengths.update(written.lengths)
        writer.state = state
        writer.last_id = identity

    def abort(self) -> None:
        """End the transaction without a trace; nothing happens where it has ended."""
        transaction, self.transaction = self.transaction, None
        self._index_cursor = None
        if transaction is not None and not self.environment.is_forked:
            transaction.abort()

    def _failed(self, exc: lmdb.Error, payload_bytes: int) -> VarveError:
        """End the transaction and say what its failure means."""
        transaction, self.transaction = self.transaction, None
        if transaction is not None:
            transaction.abort()
        return failed(self.environment, exc, payload_bytes)

    def located(self, committed: Committed, request: CommitRequest) -> Committed:
        """Positions of a replayed commit, read from the log; any other as it is."""
        if committed.replayed:
            with Snapshot(self.environment, self.writer.catalog, self.writer.checked) as snapshot:
                first = committed.first_sequence
                for append in request.appends:
                    committed.segments.append(log_segments(snapshot, first, first + append.count))
                    first += append.count
        return committed


def check_evolution(declaration: TypeDeclaration, versions: list[TypeRecord]) -> None:
    """Whether a class may follow the versions that the store remembers. Raises ``SchemaConflict``.

    Each would do if every one followed the last; a store may be older than a rule, or come from other code.
    """
    reasons = tuple(misfits((version.schema for version in versions), declaration.schema_bytes))
    if reasons:
        raise SchemaConflict(
            f"event type {declaration.name!r} changed in a way that events in the store cannot follow: {'; '.join(reasons)}. "
            "Append new optional fields at the end, or give the changed class a new name and upcast the old one's events "
            "(varve.upcast)",
            type_name=declaration.name,
            reasons=reasons,
        )


def log_segments(snapshot: Snapshot, start: int, stop: int) -> list[Segment]:
    """Where the events ``start .. stop`` stand in their streams, read from the log."""
    segments: list[Segment] = []
    for block in snapshot.blocks(start, stop):
        at = block.first
        for run in block.runs:
            low, high = max(at, start), min(at + run.count, stop)
            if low < high:
                segments.append((run.first_stream_sequence + low - at, low, high - low))
            at += run.count
    return segments


def _check_count(limit_name: str, limit: int, number: int, what: str) -> None:
    if number >= limit:
        raise TooManyItems(f"a store holds at most {limit} {what} ({limit_name})", limit_name=limit_name, limit=limit)
