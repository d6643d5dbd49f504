"""The write transaction: checked appends in, positions out.

A session holds LMDB's writer lock from its first look at the store to its fsync. Requests are applied to it one after
the other, each a commit of its own in the log: its expectations are checked, numbers and sequences given, nothing is
written yet, so that a refused one leaves no trace among the others. ``commit`` builds the blocks of all of them,
writes the three sub-databases and makes them durable, all or nothing. What is remembered for the next session (the
open tail, lengths of streams) is used only if nobody else has committed since, told by LMDB's transaction number.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

import lmdb

from varve import limits
from varve.codec.evolve import misfits
from varve.engine import files
from varve.engine.checked import corrupted
from varve.engine.failures import failed, outcome_unknown
from varve.engine.plan import Pending, Plan, PlannedPart
from varve.engine.put import put_blocks, put_index, put_meta
from varve.engine.request import (
    AppendRequest,
    CommitRequest,
    Committed,
    Segment,
    TypeDeclaration,
    transaction_too_large,
)
from varve.engine.side import (
    Overlay,
    Pair,
    Table,
    effects_bytes,
    merge_effects,
    put_effects,
    read_chunk,
    run_effects,
    table_of,
)
from varve.engine.single import apply_single, plan_single
from varve.engine.snapshot import Snapshot
from varve.errors import (
    CorruptedStore,
    ForkedStore,
    IdempotencyConflict,
    InvalidInput,
    InvalidName,
    SchemaConflict,
    StoreFailed,
    StoreFull,
    TooManyItems,
    TransactionClosed,
    TransactionConflict,
    VarveError,
    WrongExpectedVersion,
)
from varve.expected import ANY, holds
from varve.layout import keys, records
from varve.layout.block import Block
from varve.layout.draft import BlockDraft, FullBlock
from varve.layout.frame import MalformedBlock, crc_holds
from varve.layout.records import IdempotencyRecord, StoreRecord, TypeRecord
from varve.layout.runs import RUN_EVENTS_MAX, append_one, append_runs, decode_runs

if TYPE_CHECKING:
    from varve.engine.writer import Writer

_PUT_BLOCKS = 256


class State:
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
    frame: bytes


class Session:
    """One write transaction.

    ``commits``, ``events``, ``event_bytes`` and ``commit_s`` say what it has made durable and how long LMDB was at that;
    ``begun_s`` (set where somebody observes) and ``writing_s`` when it began, and when LMDB did.
    """

    commits = events = event_bytes = replays = 0
    begun_s = writing_s = commit_s = 0.0

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self.environment = writer.environment
        self.thread = threading.get_ident()
        try:
            self.transaction: lmdb.Transaction[memoryview] | None = writer.environment.env.begin(
                write=True, buffers=True
            )
        except lmdb.Error as exc:
            raise self._begin_error(exc) from exc
        self._written: _Written | None = None
        self._pending: Pending | None = None
        self._effects: Overlay = {}
        self._sides: dict[str, lmdb._Database] = {}
        self._found_token = False
        self.last_target: tuple[str, TypeDeclaration, int, int] | None = None
        """A stream name and an event type that the store knows, and their numbers: for ``engine.single``."""
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
        try:
            return self.open.get(key, db=self.environment.meta)
        except lmdb.Error as exc:
            raise self.environment.read_error(exc) from exc

    def meta(self, key: bytes) -> memoryview:
        """A metadata value that must be there. Raises ``CorruptedStore``."""
        value = self.find_meta(key)
        if value is None:
            raise CorruptedStore(
                f"{self.environment.path}: the metadata lacks the record {key[:40]!r}; repair it with varve.ops",
                path=self.environment.path,
            )
        return value

    def side_value(self, table: str, key: bytes) -> bytes | None:
        """A value of a side table, as this transaction found it. Raises as ``side_pairs``."""
        self._check_here()
        try:
            database = self.side_database(table)
            value = None if database is None else self.open.get(key, db=database)
        except lmdb.Error as exc:
            raise self.environment.read_error(exc) from exc
        return None if value is None else bytes(value)

    def side_pairs(self, table: str, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        """Pairs of a side table, as this transaction found it: see ``Table.pairs``. Raises ``TransactionClosed`` once it is over,
        and on another thread (a view that was kept): LMDB's memory could be gone while it reads."""
        more = True
        while more:
            self._check_here()
            try:
                database = self.side_database(table)
                if database is None:
                    return
                with self.open.cursor(database) as cursor:
                    found, more = read_chunk(cursor, low, high, reverse=reverse)
            except lmdb.Error as exc:
                raise self.environment.read_error(exc) from exc
            yield from found
            if more:
                low, high = (low, found[-1][0]) if reverse else (found[-1][0] + b"\0", high)

    def _check_here(self) -> None:
        if self.transaction is None or threading.get_ident() != self.thread:
            raise TransactionClosed(
                "what is read inside a commit can be read on its own thread and until it ends; read db.state instead"
            )

    def side_database(self, table: str, *, create: bool = False) -> lmdb._Database | None:
        """The sub-database of a side table; None where there is none.

        One that another process has made since this handle looked, and one that is made now, is opened in this very transaction:
        LMDB would wait for itself otherwise. It is this handle's once the transaction is committed.
        """
        environment = self.environment
        database = environment.opened_side(table) or self._sides.get(table)
        if database is None and (create or environment.names_side(table, self.open)):
            database = environment.env.open_db(files.side_name(table), self.open, create=create)
            self._sides[table] = database
        return database

    def _load(self) -> State:
        writer = self.writer
        stored = self.meta(keys.STORE_RECORD_KEY)
        known = writer.state
        if known is not None and writer.last_id + 1 == self.open.id() and known.record_bytes == bytes(stored):
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
        return State(record, tail, last_time_ns)

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
        """Check a request and give it its positions; ``commit`` writes it. A refused one leaves no trace.

        Raises ``WrongExpectedVersion``, ``IdempotencyConflict``, ``SchemaConflict``, ``TooManyItems``,
        ``InvalidName`` and ``InvalidInput`` (names that are Varve's own), ``CorruptedStore`` and whatever its effects refuse
        it with.
        """
        if self.environment.is_forked:  # inside db.write(fn): the transaction is the parent's
            raise ForkedStore(
                f"{self.environment.path}: the process forked inside db.write(fn); the parent's commit goes on"
            )
        pending = self._pending
        if request.token is not None:
            known = None if pending is None else pending.tokens.get(request.token)
            if known is None:
                found = self.find_meta(keys.idempotency_key(request.token))
                known = None if found is None else records.decode_idempotency(found)
                self._found_token |= known is not None
            if known is not None:
                return self._replay(request, known)
        if request.checks:
            request = self._checked(request)
        return self._planned(request)

    def _planned(self, request: CommitRequest) -> Committed:
        """``apply`` for a request whose key is new and whose checks hold."""
        pending = self._pending
        if pending is None:
            pending = self._pending = Pending(self.state.record, self.state.last_time_ns)
        if request.is_plain:
            try:
                single = plan_single(self, pending, request)
            except lmdb.Error as exc:
                raise self.environment.read_error(exc) from exc
            if single is not None:
                return single
        plan = Plan(
            pending.record,
            self.now_ns(request.recorded_ns),
            token=request.token,
            digest=request.digest,
            moved=request.moved,
        )
        committed = Committed(plan.first_sequence)
        try:
            for append in request.appends:
                committed.segments.append(self._plan_append(pending, plan, append))
            effects = run_effects(self, request.effects, self._effects) if request.effects else None
        except lmdb.Error as exc:
            raise self.environment.read_error(exc) from exc
        size = pending.payload_bytes + plan.payload_bytes + request.side_bytes
        if size > limits.TRANSACTION_BYTES_MAX:
            raise transaction_too_large(size)
        if plan.events:
            pending.take(plan)
        if effects:
            merge_effects(self._effects, effects)
        return committed

    def _checked(self, request: CommitRequest) -> CommitRequest:
        """Ask a request's checks; the request, or what its function makes of what is now, where something that it has read was
        changed."""
        try:
            for check in request.checks:
                check(self)
        except TransactionConflict:
            if request.again is None:
                raise
            with self.writer.users_code():
                request = request.again(self)
            for check in request.checks:
                check(self)
        except lmdb.Error as exc:
            raise self.environment.read_error(exc) from exc
        return request

    # -- for checks --------------------------------------------------------------------------------

    @property
    def has_company(self) -> bool:
        """Whether earlier requests of this transaction have appended events: snapshots do not show them."""
        return self._pending is not None and bool(self._pending.plans)

    def is_untouched_since(self, number: int) -> bool:
        """Whether nobody has committed anything since an instant (``Snapshot.id``), and nothing was applied here."""
        return self.open.id() == number + 1 and not self._effects and not self.has_company

    def side_table(self, name: str) -> Table:
        """A side table under the changes of earlier requests, to look at."""
        return table_of(self, name, self._effects)

    @property
    def next_sequence(self) -> int:
        """The next global sequence, earlier requests counted."""
        return (self.state.record if self._pending is None else self._pending.record).next_sequence

    def length_now(self, stream: str, id_key: bytes) -> int:
        """Events of a stream, earlier requests counted."""
        pending = self._pending
        if pending is None:
            return self.length(stream, id_key)
        number = self._stream_number(stream, id_key)
        if number is None:
            name_number = pending.names.get(stream, self.writer.catalog.name_number(self, stream))
            number = None if name_number is None else pending.streams.get((name_number, id_key))
            return 0 if number is None else pending.lengths[number]
        planned = pending.lengths.get(number)
        return self.length_of(number) if planned is None else planned

    def name_end(self, stream: str) -> int:
        """The global sequence behind the last event of a stream name, earlier requests counted; 0 where it has none."""
        pending = self._pending
        number = self.writer.catalog.name_number(self, stream)
        if pending is not None:
            number = pending.names.get(stream, number)
            runs = pending.name_runs.get(number) if number is not None else None
            if runs:
                return sum(runs[-1])
        if number is None:
            return 0
        return sum(decode_runs(self.last_name_entry(number)[1])[-1])

    # -- the short way -----------------------------------------------------------------------------

    def apply_alone(self, request: CommitRequest) -> Committed:
        """``apply`` for a request that will have no company, the short way where there is one."""
        if request.is_plain:
            if request.checks:
                request = self._checked(request)
                if not request.is_plain:
                    return self._planned(request)
            try:
                committed = apply_single(self, request)
            except lmdb.Error as exc:
                raise self.failed(exc, limits.TAIL_BLOCK_BYTES_MAX) from exc
            return self._planned(request) if committed is None else committed
        return self.apply(request)

    def run_effects(self, request: CommitRequest) -> None:
        """Accept what a request changes beside the log; where something refuses it, it leaves no trace."""
        merge_effects(self._effects, run_effects(self, request.effects, self._effects))

    @property
    def last_time_ns(self) -> int:
        """When the last commit was recorded, those that were applied in this transaction included; 0 where there is none."""
        pending = self._pending
        return self.state.last_time_ns if pending is None else pending.time_ns

    def now_ns(self, recorded_ns: int | None) -> int:
        """The time of this commit: the clock's, or the last commit's where the clock went backwards; or the one that the
        request brings, which may not go backwards."""
        now_ns = self.writer.clock() if recorded_ns is None else recorded_ns
        if type(now_ns) is not int or not 0 <= now_ns < 1 << 63:
            whose = "the clock gives" if recorded_ns is None else "a commit's time is"
            raise InvalidInput(f"{whose} nanoseconds since 1970 as an int, not {now_ns!r}")
        last_ns = self.last_time_ns
        if recorded_ns is not None and recorded_ns < last_ns:
            raise InvalidInput(
                f"a commit recorded at {recorded_ns} ns cannot follow one recorded at {last_ns} ns: the log's time never goes "
                "backwards. Nothing was written"
            )
        return max(now_ns, last_ns)

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
        self.replays += 1
        return Committed(found.first_sequence, replayed=True)

    def _stream_number(self, stream: str, id_key: bytes) -> int | None:
        return self.writer.catalog.stream_number(self, stream, id_key)

    def length_of(self, number: int) -> int:
        """Events of a stream by its number, as this transaction found it."""
        lengths = self.state.lengths
        length = lengths.get(number)
        if length is None:
            position, runs = self.last_stream_entry(number)
            length = position + sum(count for _, count in decode_runs(runs)) if runs else 0
            if len(lengths) >= limits.CACHED_STREAMS_MAX:
                lengths.clear()
            lengths[number] = length
        return length

    def last_stream_entry(self, number: int) -> tuple[int, bytes]:
        """Position and value of a stream's last index entry."""
        return self._last_entry(keys.stream_entry_key(number, 2**64 - 1), 5, "stream", number)

    def extend_stream_entry(self, number: int, sequence: int, length: int) -> tuple[int, bytes]:
        """Position and value of a stream's last index entry once event ``length`` of it, at a global sequence, is in it."""
        ends = self.state.stream_ends
        position, runs = append_one(*(ends.get(number) or self.last_stream_entry(number)), sequence, length)
        if len(ends) >= limits.CACHED_INDEX_ENTRIES_MAX:
            ends.clear()
        ends[number] = (position, runs)
        return position, runs

    def last_name_entry(self, number: int) -> tuple[int, bytes]:
        """Position and value of a name's last index entry."""
        return self._last_entry(keys.name_entry_key(number, 2**64 - 1), 3, "name", number)

    def _last_entry(self, beyond: bytes, prefix_bytes: int, what: str, number: int) -> tuple[int, bytes]:
        """Position and value of the last index entry under a prefix. Raises ``CorruptedStore`` where there is none: what has a
        number has an event, and to begin again at 0 would write stream sequences twice."""
        cursor = self._index_cursor
        if cursor is None:
            cursor = self._index_cursor = self.open.cursor(self.environment.index)
        there = cursor.prev() if cursor.set_range(beyond) else cursor.last()
        found, value = cursor.item()
        if not there or found[:prefix_bytes] != beyond[:prefix_bytes]:
            raise CorruptedStore(
                f"{self.environment.path}: the index has no entry for {what} number {number}; repair it with varve.ops",
                path=self.environment.path,
            )
        return keys.entry_position(found), bytes(value)

    def _plan_append(self, pending: Pending, plan: Plan, append: AppendRequest) -> list[Segment]:
        """Give one append call its numbers and sequences; check what it expects."""
        if append.expected is not ANY:
            self._check_expected(pending, plan, append)
        if not append.parts:
            return []
        name_number = self._name_number(pending, plan, append.stream)
        is_new_name = append.stream in plan.names or append.stream in pending.names
        segments: list[Segment] = []
        parts: list[PlannedPart] = []
        sequence = begun = plan.first_sequence + plan.events
        streams, lengths, runs_of = plan.streams, plan.lengths, plan.stream_runs
        last_type: TypeDeclaration | None = None
        type_number = 0
        for id_key, declaration, bufs in append.parts:
            if declaration is not last_type:
                type_number = self._type_number(pending, plan, declaration)
                last_type = declaration
            number = streams.get((name_number, id_key))
            if number is None:
                number = pending.streams.get((name_number, id_key)) if pending.streams else None
                if number is None and not is_new_name:
                    number = self._stream_number(append.stream, id_key)
                if number is None:
                    number = self._new_stream(plan, name_number, id_key)
            length = lengths.get(number)
            if length is None:
                length = pending.lengths.get(number)
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

    def _check_expected(self, pending: Pending, plan: Plan, append: AppendRequest) -> None:
        id_key = append.id_key
        number = self._stream_number(append.stream, id_key)
        if number is None:
            name_number = plan.names.get(append.stream, pending.names.get(append.stream))
            if name_number is None:
                name_number = self.writer.catalog.name_number(self, append.stream)
            if name_number is not None:
                number = plan.streams.get((name_number, id_key), pending.streams.get((name_number, id_key)))
        length = 0
        if number is not None:
            planned = plan.lengths.get(number, pending.lengths.get(number))
            length = self.length_of(number) if planned is None else planned
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

    def _name_number(self, pending: Pending, plan: Plan, name: str) -> int:
        number = plan.names.get(name, pending.names.get(name))
        if number is None:
            number = self.writer.catalog.name_number(self, name)
        if number is None:
            if not plan.moved:
                _check_free(name, "stream name", InvalidName)
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

    def _type_number(self, pending: Pending, plan: Plan, declaration: TypeDeclaration) -> int:
        planned = plan.types.get(declaration.fingerprint) or pending.types.get(declaration.fingerprint)
        if planned is not None:
            return planned[0]
        number = self.writer.catalog.type_number(self, declaration)
        if number is None:
            if not plan.moved:
                if declaration.name not in limits.OWN_TYPES:
                    _check_free(declaration.name, "type name", InvalidInput)
                self._check_evolution(pending, plan, declaration)
            number = plan.record.next_type + len(plan.types)
            _check_count("TYPES_MAX", limits.TYPES_MAX, number, "event types")
            plan.types[declaration.fingerprint] = (number, TypeRecord(declaration.name, declaration.schema_bytes))
        return number

    def _check_evolution(self, pending: Pending, plan: Plan, declaration: TypeDeclaration) -> None:
        planned = [
            record for _, record in (*pending.types.values(), *plan.types.values()) if record.name == declaration.name
        ]
        check_evolution(declaration, self.writer.catalog.type_versions(self, declaration.name) + planned)

    # -- writing -----------------------------------------------------------------------------------

    def _write(self, pending: Pending) -> None:
        transaction = self.open
        self.begin_writing()
        state = self.state
        tail = state.tail
        frames: list[tuple[bytes, bytes]] = []
        frame = b""
        with transaction.cursor(self.environment.log) as cursor:
            draft = None
            for draft in pending.blocks(tail):
                frame = draft.encode()
                if draft is tail:
                    cursor.put(keys.log_key(draft.first), frame)
                    continue
                frames.append((keys.log_key(draft.first), frame))
                if len(frames) == _PUT_BLOCKS:
                    put_blocks(self, cursor, frames)
                    frames = []
            put_blocks(self, cursor, frames)
        assert not isinstance(draft, FullBlock)  # the last one may be continued
        put_index(self, pending)
        put_meta(self, pending)
        self.written(pending.record, draft, pending.time_ns, pending.payload_bytes, pending.lengths, frame)

    def begin_writing(self) -> None:
        """From here on the tail is extended in memory: whoever fails must read it again."""
        self.writer.state = None

    def written(
        self,
        record: StoreRecord,
        tail: BlockDraft | None,
        time_ns: int,
        payload_bytes: int,
        lengths: dict[int, int],
        frame: bytes,
    ) -> None:
        """What the state becomes once this is committed."""
        self._written = _Written(record, tail, time_ns, payload_bytes, lengths, frame)

    # -- ending ------------------------------------------------------------------------------------

    def commit(self, requests: int = 1) -> None:
        """Write what was applied, so many requests, and make it durable. Raises ``DiskFull``, ``StoreFull``, ``TooManyItems``,
        ``StoreFailed``, ``CorruptedStore``, ``CommitOutcomeUnknown``."""
        pending = self._pending
        payload_bytes = limits.TAIL_BLOCK_BYTES_MAX if pending is None else pending.payload_bytes
        payload_bytes += effects_bytes(self._effects)
        try:
            if pending is not None and pending.plans:
                self._write(pending)
            if self._effects:
                put_effects(self, self._effects)
        except lmdb.Error as exc:
            raise self.failed(exc, payload_bytes) from exc
        written = self._written
        if written is None and not self._effects:
            if self._found_token:
                self._settle()
            return  # nothing to write: leave no empty commit behind
        identity = self.end(payload_bytes)
        for table, database in self._sides.items():
            self.environment.adopt_side(table, database)
        writer = self.writer
        self.commits = requests - self.replays
        if written is not None:
            self.events = written.record.next_sequence - self.state.record.next_sequence
            self.event_bytes = written.payload_bytes
            self._remember(written)
            # A large block is not kept for those who tail.
            writer.last_frame = written.frame if len(written.frame) <= limits.BLOCK_BYTES_MAX else None
            writer.risen = written.record.next_sequence
        writer.state = self.state
        writer.last_id = identity
        writer.unreaped_bytes += payload_bytes + limits.COMMIT_BYTES
        writer.tally.add(self.commits, self.events, self.event_bytes, self.commit_s)

    def end(self, payload_bytes: int) -> int:
        """Make durable what was put into LMDB's transaction; its number. Raises what ``commit`` does."""
        transaction = self.open
        identity = transaction.id()
        self._index_cursor = None
        self.transaction = None
        self.writing_s = begun_s = perf_counter()
        try:
            transaction.commit()
        except lmdb.Error as exc:
            raise self.failed(exc, payload_bytes) from exc
        self.commit_s = perf_counter() - begun_s
        return identity

    def _settle(self) -> None:
        """Make durable what a replayed request found: whoever committed it may have been killed while the disk was at it, or
        had promised less. Whoever retries takes its positions for as safe as those of any other append."""
        environment = self.environment
        if environment.durability == "full":
            try:
                environment.env.sync(True)
            except lmdb.Error as exc:
                raise environment.fail(f"cannot force a commit to disk that is retried ({exc})", str(exc)) from exc

    def _remember(self, written: _Written) -> None:
        """What the writer knows of the store from here on."""
        state = self.state
        state.record = written.record
        state.record_bytes = written.record.encode()
        state.last_time_ns = written.time_ns
        tail = written.tail
        state.tail = tail if tail is not None and tail.bytes_max < limits.TAIL_BLOCK_BYTES_MAX else None
        if len(state.lengths) + len(written.lengths) > limits.CACHED_STREAMS_MAX:
            state.lengths.clear()
        state.lengths.update(written.lengths)

    def abort(self) -> None:
        """End the transaction without a trace; nothing happens where it has ended."""
        transaction, self.transaction = self.transaction, None
        self._index_cursor = None
        if transaction is not None and not self.environment.is_forked:
            transaction.abort()

    def failed(self, exc: lmdb.Error, payload_bytes: int) -> VarveError:
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


def _check_free(name: str, what: str, error: type[InvalidInput]) -> None:
    """What a store does not know yet may not be named as what repair puts in the place of lost events. (What it knows stays: a
    salvaged store knows ``varve.lost``.)"""
    if name.startswith(limits.RESERVED_PREFIX):
        raise error(
            f"{name!r} cannot be a new {what}: names that begin with {limits.RESERVED_PREFIX!r} are Varve's own. Nothing was "
            "written"
        )


def _check_count(limit_name: str, limit: int, number: int, what: str) -> None:
    if number >= limit:
        raise TooManyItems(f"a store holds at most {limit} {what} ({limit_name})", limit_name=limit_name, limit=limit)
