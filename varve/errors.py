"""Every exception that Varve raises on purpose.

The tree (built-in bases in parentheses)::

    VarveError
    |-- InvalidInput (ValueError)          you passed something that can never work
    |   |-- InvalidName                    a stream's or a consumer's name
    |   |-- InvalidStreamId                a stream id
    |   |-- InvalidMetadata                an append's metadata
    |   |-- InvalidIdempotencyKey          an append's idempotency key
    |   |-- InvalidStateKey                a key of state
    |   |-- EventTooLarge                  an event above EVENT_BYTES_MAX
    |   |-- InvalidRow                     a row of a file of other origin that cannot become an event
    |   |-- QueryFailed                    a query of a projection that SQLite refuses
    |   |-- ColumnConflict                 a column that cannot be made of these event types
    |   `-- TooManyItems                   above another limit of varve.limits
    |-- EventEncodingError (ValueError)    a field's value does not fit its declared type
    |-- EventTypeError (TypeError)         an event of a class that the stream does not declare
    |-- SchemaError (TypeError)            a class that cannot become an event type
    |-- InvalidProjection (TypeError)      a class that cannot become a projection
    |-- ProjectionFailed                   a projection's method, or its SQL, failed at an event
    |-- MalformedEvent (ValueError)        bytes that are not a valid event
    |-- MalformedDump (ValueError)         a dump or export that is truncated or damaged
    |-- UnexpectedEventType                the log holds an event that this reader does not declare
    |-- StateKeyMissing (KeyError)         state has no such key
    |-- StateNotVersioned (LookupError)    state at an instant of the past
    |-- PermissionRefused                  a scoped handle may not do this
    |-- Archived (LookupError)             what you read was moved to an archive
    |-- EventsHidden (LookupError)         a state needs events that readers are not given
    |-- UpcastError (TypeError)            an upcast gave something else than it declares
    |-- EventDropped (LookupError)         what you wanted to handle was dropped by compaction
    |-- ProcessorFailed                    a handler failed, and its strategy says to stop
    |-- HandlerCancelled                   what a handler awaited was cancelled, and the processor was not
    |-- BreakerOpen                        a circuit breaker lets no calls pass for now
    |-- ReplayFailed                       a prevalent system's commands do not make its state again
    |-- Conflict
    |   |-- WrongExpectedVersion           the stream is not as long as you expected
    |   |-- IdempotencyConflict            the same key came with other content
    |   |-- TransactionConflict            what a transaction has read was changed by somebody else
    |   |-- CheckFailed                    a check of a transaction does not hold
    |   |-- NumberOutOfRange (ValueError)  a number of state would leave its bounds
    |   |-- StateTypeMismatch (TypeError)  state holds something else than a number that could be added to
    |   |-- ImportConflict                 the store holds something else than the file to be imported
    |   |-- ConsumerBusy                   somebody else runs the consumer of this name
    |   |-- ConsumersBehind                consumers have not read yet what shall be archived
    |   |-- ConsumerFenced                 somebody else took the consumer over
    |   |-- PrevalentSystemBehind          somebody else executed commands of the prevalent system
    |   |-- ProjectionBusy                 somebody else writes the projection
    |   |-- ProjectionMismatch             the tables are another store's, another projection's or a newer version's
    |   |-- ProjectionOutdated             the projection has to be rebuilt, which was not allowed
    |   |-- BackupMismatch                 the backups in a folder are not of this store's history
    |   `-- SchemaConflict                 an event class changed in a way old events cannot follow
    |-- StoreUnavailable (OSError)
    |   |-- StoreNotFound (FileNotFoundError)
    |   |-- StoreAccessDenied (PermissionError)
    |   |-- StoreAlreadyOpen               this process holds the store open already
    |   |-- StoreInUse                     another handle excludes this one (bulk loading)
    |   |-- StoreFailed                    the disk failed; nothing of this commit was written
    |   |-- SealedStore                    a store that is read-only for good
    |   |-- ProjectionNotBuilt             there are no tables of it yet
    |   |-- UnsupportedFileSystem          LMDB is not safe on a network file system
    |   `-- TooManyReaders                 every reader slot of the store is taken
    |-- NoSpace (OSError)
    |   |-- DiskFull                       the file system is full; nothing was written
    |   `-- StoreFull                      the reserved map is full; nothing was written
    |-- CommitOutcomeUnknown               the last step of a commit failed: written or not, unknown
    |-- HandleUnusable (RuntimeError)
    |   |-- StoreClosed                    you closed it
    |   |-- SnapshotClosed                 you left its ``with`` block
    |   |-- TransactionClosed              it was committed or rolled back already
    |   |-- PrevalentSystemClosed          you closed it
    |   |-- PrevalentSystemPoisoned        commands could not be written; recover() makes the state again
    |   |-- ForkedStore                    the handle belongs to the parent process
    |   `-- ReadonlyStore                  a write on a handle opened with readonly=True
    |-- MissingExtra (ImportError)         an optional package is not installed
    |-- WaitTimeout (TimeoutError)         what you waited for did not come in time
    |-- ViewsStillAlive (BufferError)      close() while memory of the map is in your hands
    `-- IntegrityError
        |-- NotAVarveStore                 a file or an LMDB environment of another program
        |-- UnsupportedFormat              written by a newer Varve
        |-- CorruptedStore                 the store's own records contradict each other
        |-- CorruptedProjection            a projection's SQLite file is damaged
        |-- CorruptedState                 a record of state is damaged
        |-- CorruptedBackup                a backup that was changed, or a part of its chain is missing
        `-- CorruptedBlock                 a block's checksum or shape is wrong

``code`` is a stable string per class, ``kind`` one of ``conflict``, ``retryable``, ``invalid``, ``integrity``,
``unavailable`` and ``unknown``. The neighbours are told apart by whose fault it is: *Closed* = you did it, *Failed* =
the machine did it, *Unavailable* = try elsewhere or later, *Invalid* = no retry will help.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal

Kind = Literal["conflict", "retryable", "invalid", "integrity", "unavailable", "unknown"]


class VarveError(Exception):
    """Base of everything that Varve raises on purpose."""

    code: ClassVar[str] = "varve"
    kind: ClassVar[Kind] = "unknown"

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self._facts = tuple(facts)
        for name, value in facts.items():
            setattr(self, name, value)

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {name: getattr(self, name) for name in self._facts}
        return _rebuild, (type(self), self.message, facts)


def _rebuild(cls: type[VarveError], message: str, facts: dict[str, Any]) -> VarveError:
    """Recreate a pickled error: exceptions take their facts by keyword, which ``BaseException`` cannot replay."""
    return cls(message, **facts)


class InvalidInput(VarveError, ValueError):
    """An argument that can never work; nothing was written."""

    code = "invalid_input"
    kind: ClassVar[Kind] = "invalid"


class InvalidName(InvalidInput):
    """A stream's or a consumer's name that is empty, too long or not valid UTF-8."""

    code = "invalid_name"


class InvalidStreamId(InvalidInput):
    """A stream id that is no int of 0 .. 2^64-1, no str of 1 .. 255 UTF-8 bytes and no UUID."""

    code = "invalid_stream_id"


class InvalidMetadata(InvalidInput):
    """Metadata that is not a JSON-able mapping, or too large."""

    code = "invalid_metadata"


class InvalidIdempotencyKey(InvalidInput):
    """An idempotency key that is no bytes or str of 1 .. 255 bytes and no UUID."""

    code = "invalid_idempotency_key"


class InvalidStateKey(InvalidInput):
    """A key of state that is no str, int of up to 256 bits, bytes, UUID or tuple of them, or takes more than
    ``limits.STATE_KEY_BYTES_MAX`` bytes. Facts: ``key``."""

    code = "invalid_state_key"
    key: object


class EventTooLarge(InvalidInput):
    """An encoded event above ``limits.EVENT_BYTES_MAX``. Facts: ``type_name``, ``size_bytes``, ``limit_bytes``."""

    code = "event_too_large"
    type_name: str
    size_bytes: int
    limit_bytes: int


class TooManyItems(InvalidInput):
    """Above one of the limits of ``varve.limits``. Facts: ``limit_name``, ``limit``."""

    code = "too_many_items"
    limit_name: str
    limit: int


class ColumnConflict(InvalidInput):
    """A column that cannot be made of these event types: they give its field different types, or Arrow has none for it.
    Choose other columns. Facts: ``column``, ``type_names`` (of the event types)."""

    code = "column_conflict"
    column: str
    type_names: tuple[str, ...]


class InvalidRow(InvalidInput):
    """A row of a file of other origin that cannot become an event: it is not what its format demands, or a value does not fit its
    field. Nothing of its transaction was written. Facts: ``path``, ``line`` (from 1; of Parquet and SQLite the row), ``column``
    (None where the whole row is meant)."""

    code = "invalid_row"
    path: str
    line: int
    column: str | None = None


class QueryFailed(InvalidInput):
    """A query of a projection that SQLite refuses: its SQL is wrong, or it would write. Facts: ``name``, ``sql``."""

    code = "query_failed"
    name: str
    sql: str


class InvalidProjection(VarveError, TypeError):
    """A class, a method or a schema that cannot become a projection; the message says what to write instead. Nothing was made."""

    code = "invalid_projection"
    kind: ClassVar[Kind] = "invalid"


class ProjectionFailed(VarveError):
    """A projection's method raised, or SQLite refused what it wanted. Nothing of the batch was kept: the projection stands where
    it stood before. Correct the method and go on. ``__cause__`` is what happened. Facts: ``name``, ``handler``, ``type_name`` and
    ``global_sequence`` (of the event that it happened at; None where SQLite refused at the end of the batch, as it does with
    deferred constraints)."""

    code = "projection_failed"
    kind: ClassVar[Kind] = "invalid"
    name: str
    handler: str | None
    type_name: str | None
    global_sequence: int | None


class EventEncodingError(VarveError, ValueError):
    """A field's value does not fit its declared type; nothing was written.

    Facts: ``type_name``, ``field`` (a path such as ``lines[2].price``; empty when the whole event is meant), ``value``;
    ``row``, where the value came in a column (None otherwise).
    """

    code = "event_encoding"
    kind: ClassVar[Kind] = "invalid"
    type_name: str
    field: str
    value: object
    row: int | None = None


class EventTypeError(VarveError, TypeError):
    """An event of a class that the stream does not declare; nothing was written. Facts: ``stream``, ``got``."""

    code = "event_type"
    kind: ClassVar[Kind] = "invalid"
    stream: str
    got: type


class SchemaError(VarveError, TypeError):
    """A class, or a declaration in a .fbs file, that cannot become an event type; the message says what to write instead.

    Facts, of a .fbs file (None otherwise): ``path``, ``line`` and ``column`` (both from 1).
    """

    code = "schema"
    kind: ClassVar[Kind] = "invalid"
    path: str | None = None
    line: int | None = None
    column: int | None = None


class MalformedEvent(VarveError, ValueError):
    """Bytes that are not a valid event of their schema. Facts: ``offset`` (bytes into the buffer, or None)."""

    code = "malformed_event"
    kind: ClassVar[Kind] = "integrity"
    offset: int | None


class UnexpectedEventType(VarveError):
    """A typed reader met an event that its stream does not declare: other code wrote it. Declare the type, or read
    with ``db.global_reader()``. Facts: ``stream``, ``type_name``, ``global_sequence``."""

    code = "unexpected_event_type"
    kind: ClassVar[Kind] = "integrity"
    stream: str
    type_name: str
    global_sequence: int


class PermissionRefused(VarveError):
    """A scoped handle (``db.scoped``) was asked for what it may not do: the code has a mistake, or the handle is too narrow.
    Nothing was read or written. No ``PermissionError``, which is an ``OSError``: the machine refused nothing. Facts: ``action``
    (what was tried), ``what`` (on which stream, name or key, as text), ``allowed`` (the patterns that do not allow it), ``label``
    (the handle's)."""

    code = "permission_refused"
    kind: ClassVar[Kind] = "invalid"
    action: str
    what: str
    allowed: tuple[str, ...]
    label: str


class StateKeyMissing(VarveError, KeyError):
    """State has no such key. ``get_opt`` gives None instead. Facts: ``key``."""

    code = "state_key_missing"
    kind: ClassVar[Kind] = "invalid"
    key: object


class StateNotVersioned(VarveError, LookupError):
    """State is kept as it is now, without its past: a snapshot that looks back has none. Take ``db.snapshot()`` of now, or derive
    what was from the events. Facts: ``at`` (the global sequence that was asked for)."""

    code = "state_not_versioned"
    kind: ClassVar[Kind] = "invalid"
    at: int


class Archived(VarveError, LookupError):
    """What was read lies below the horizon of this store: it was moved to an archive. Open archive and store in a row
    (``varve.open([archive, store])``), or begin at ``first_sequence``. Facts: ``path``, ``first_sequence`` (the first global
    sequence that the store still holds)."""

    code = "archived"
    kind: ClassVar[Kind] = "unavailable"
    path: str
    first_sequence: int


class EventsHidden(VarveError, LookupError):
    """The state of an aggregate needs events that readers are not given: a retention rule hides them, or they were dropped, and
    no snapshot reaches over them. Read with a snapshot that does, or let the aggregate begin at what is left
    (``missing="skip"``). Facts: ``stream``, ``stream_id``, ``first_sequence`` and ``stop_sequence`` (of the stream: they are
    missing from the one on, up to the other)."""

    code = "events_hidden"
    kind: ClassVar[Kind] = "unavailable"
    stream: str
    stream_id: object
    first_sequence: int
    stop_sequence: int


class UpcastError(VarveError, TypeError):
    """A function under ``@varve.upcast`` gave something else than an event of its new type. The event's bytes stay readable
    (``Recorded.raw``). Facts: ``old_type``, ``new_type`` (names), ``got`` (the class of what it gave), ``global_sequence``."""

    code = "upcast"
    kind: ClassVar[Kind] = "invalid"
    old_type: str
    new_type: str
    got: type
    global_sequence: int


class EventDropped(VarveError, LookupError):
    """The event of a dead letter is gone: ``varve.ops.compact`` dropped what retention rules hid. Drop the letter, too. Facts:
    ``global_sequence``."""

    code = "event_dropped"
    kind: ClassVar[Kind] = "unavailable"
    global_sequence: int


class ProcessorFailed(VarveError):
    """A handler failed, and its strategy says to stop: the position stays before the event, which comes again when the processor
    is run again. The handler's error is ``__cause__``. Facts: ``name`` (of the processor), ``global_sequence``, ``stream``,
    ``stream_id``, ``attempts``."""

    code = "processor_failed"
    name: str
    global_sequence: int
    stream: str
    stream_id: object
    attempts: int


class HandlerCancelled(VarveError):
    """What a handler awaited was cancelled, though nobody has cancelled the processor: a failure like any other, which the
    strategy is asked about. The ``asyncio.CancelledError`` is ``__cause__``."""

    code = "handler_cancelled"


class BreakerOpen(VarveError):
    """A circuit breaker lets no calls pass for now. Facts: ``wait_s`` (until it may let one pass)."""

    code = "breaker_open"
    kind: ClassVar[Kind] = "retryable"
    wait_s: float


class Conflict(VarveError):
    """Somebody else was faster, or the store holds something else than you think. Nothing was written."""

    code = "conflict"
    kind: ClassVar[Kind] = "conflict"


class ReplayFailed(VarveError):
    """A command that was executed once cannot be applied again while a prevalent system's state is made anew: the code of its
    class has changed, or depends on more than the command and the state, or the command is gone. Nothing was changed. Facts:
    ``system``, ``stream_sequence`` (of the command in the system's stream), ``type_name``; the cause is what ``apply`` raised."""

    code = "replay_failed"
    kind: ClassVar[Kind] = "integrity"
    system: str
    stream_sequence: int
    type_name: str


class PrevalentSystemBehind(Conflict):
    """Another prevalent system of this name wrote commands that this one has not applied; nothing of this command was written.
    ``refresh()`` applies them; then decide again. Facts: ``system``, ``expected``, ``actual`` (lengths of its stream)."""

    code = "prevalent_system_behind"
    system: str
    expected: int
    actual: int


class WrongExpectedVersion(Conflict):
    """The stream is not as long as expected. Read it again, decide again, retry.

    Facts: ``stream``, ``stream_id``, ``expected`` (an int or one of ``NO_STREAM``, ``STREAM_EXISTS``), ``actual``
    (number of events, counting earlier appends of the same transaction).
    """

    code = "wrong_expected_version"
    stream: str
    stream_id: object
    expected: object
    actual: int


class IdempotencyConflict(Conflict):
    """An idempotency key came again with other content. Use a fresh key for a new command. Facts: ``key``,
    ``global_sequence`` (of the first event written under the key)."""

    code = "idempotency_conflict"
    key: object
    global_sequence: int


class TransactionConflict(Conflict):
    """Something that a transaction has read was changed before it could commit; nothing of it was written. Read again, decide
    again; ``db.optimistic`` does that.

    Facts: ``what`` (``"key"``, ``"range"``, ``"stream"``, ``"name"`` or ``"log"``), ``key`` (that of state; of a range its two
    bounds; of a stream its name and id; of a name the name; None for the log), ``attempts`` (how often it was tried).
    """

    code = "transaction_conflict"
    what: str
    key: object
    attempts: int = 1


class CheckFailed(Conflict):
    """A check of a transaction (``tx.require``, ``tx.ensure`` and their kin) does not hold; nothing of it was written.

    Facts: ``check`` (``"require_min"`` for example), ``key`` (of a version the stream's name and id; None where the check looks
    at more than one), ``value`` (what was found; None where there was none), ``exists`` (whether there was a value), ``bound``
    (what it was compared with; None where that is a function).
    """

    code = "check_failed"
    check: str
    key: object
    value: object
    exists: bool
    bound: object


class NumberOutOfRange(Conflict, ValueError):
    """An addition would take a number of state out of its bounds; nothing of the transaction was written. Facts: ``key``,
    ``value`` (as it is), ``result`` (as it would be), ``bound`` (that it would pass)."""

    code = "number_out_of_range"
    key: object
    value: object
    result: object
    bound: object


class StateTypeMismatch(Conflict, TypeError):
    """State holds a value to which this number cannot be added; nothing of the transaction was written. Facts: ``key``,
    ``value``, ``n``."""

    code = "state_type_mismatch"
    key: object
    value: object
    n: object


class ImportConflict(Conflict):
    """The store holds something else than the file that should be imported, or got it meanwhile. Import into a new store. Facts:
    ``global_sequence`` (of the first difference)."""

    code = "import_conflict"
    global_sequence: int


class ConsumerBusy(Conflict):
    """Somebody else runs the consumer of this name, or this member of its group. It is free as soon as he closes it or his
    process ends; ``force=True`` takes it over from one that hangs. Facts: ``name``, ``pid`` (the process that runs it;
    None where that is not known)."""

    code = "consumer_busy"
    name: str
    pid: int | None


class ConsumersBehind(Conflict):
    """Consumers have not read yet what shall be archived; nothing was changed. Let them catch up, delete those that nobody runs
    any more, or archive less; ``force=True`` leaves them behind: their next read raises ``Archived``. Facts: ``names``,
    ``position`` (of the one that is furthest behind)."""

    code = "consumers_behind"
    names: tuple[str, ...]
    position: int


class ConsumerFenced(Conflict):
    """The consumer was taken over, moved or deleted by somebody else: nothing is stored for this one any more, and its
    events since the last commit go to the other. Stop. Facts: ``name``."""

    code = "consumer_fenced"
    name: str


class ProjectionBusy(Conflict):
    """Somebody else writes the projection, or builds it anew, or another program has its file locked. Read it meanwhile, or wait.
    Facts: ``name``, ``pid`` (the process that does; None where that is not known)."""

    code = "projection_busy"
    name: str
    pid: int | None


class ProjectionMismatch(Conflict):
    """The tables in the folder are of another store or another projection, or were made by a newer version of the class.
    Nothing was touched. Name another folder, or run the newer program. Facts: ``name``, ``path``, ``reason``."""

    code = "projection_mismatch"
    name: str
    path: str
    reason: str


class ProjectionOutdated(Conflict):
    """The projection has to be rebuilt, which ``rebuild=False`` forbids: its class changed, or the log is no longer the one
    that it was made from. Call ``rebuild()``. Facts: ``name``, ``reason``."""

    code = "projection_outdated"
    name: str
    reason: str


class BackupMismatch(Conflict):
    """The backups in a folder are of another store, or of another history of this one: it was restored to an earlier point, or
    salvaged, and went on from there: back it up into a folder of its own. Or an incremental one cannot continue them, since the
    store was compacted, or archived what came meanwhile: make a full one. Nothing was written. Facts: ``path`` (of the set)."""

    code = "backup_mismatch"
    path: str


class SchemaConflict(Conflict, TypeError):
    """An event class changed in a way that events already in the store cannot follow. Facts: ``type_name``,
    ``reasons`` (every incompatibility, a tuple of str)."""

    code = "schema_conflict"
    type_name: str
    reasons: tuple[str, ...]


class StoreUnavailable(VarveError, OSError):
    """The store cannot be used here and now. Facts: ``path``."""

    code = "store_unavailable"
    kind: ClassVar[Kind] = "unavailable"
    path: str


class StoreNotFound(StoreUnavailable, FileNotFoundError):
    """``readonly=True`` on a path that holds no store."""

    code = "store_not_found"


class StoreAccessDenied(StoreUnavailable, PermissionError):
    """The operating system refuses access to the path."""

    code = "store_access_denied"


class StoreAlreadyOpen(StoreUnavailable):
    """This process holds the store open already. Use that handle: LMDB's locks belong to the process."""

    code = "store_already_open"


class StoreInUse(StoreUnavailable):
    """Another handle excludes this one: bulk loading needs the store alone. Retry when it is done."""

    code = "store_in_use"
    kind: ClassVar[Kind] = "retryable"


class StoreFailed(StoreUnavailable):
    """The disk failed during a commit: nothing of it was written, and this handle refuses further work. Look at the
    disk, then open the store again. Facts: ``path``, ``reason``."""

    code = "store_failed"
    reason: str


class SealedStore(StoreUnavailable):
    """A store that was sealed: it is read-only for good. Open it with ``readonly=True``. Facts: ``path``."""

    code = "sealed_store"


class ProjectionNotBuilt(StoreUnavailable):
    """A query of a projection of which there is nothing yet. Let it catch up first. Facts: ``name``, ``path``."""

    code = "projection_not_built"
    name: str


class UnsupportedFileSystem(StoreUnavailable):
    """A network file system: LMDB's locks and memory map are not safe there. Facts: ``path``, ``file_system``."""

    code = "unsupported_file_system"
    kind: ClassVar[Kind] = "invalid"
    file_system: str


class TooManyReaders(StoreUnavailable):
    """Every reader slot is taken, and none by a dead process. Drop views and snapshots. Facts: ``path``, ``limit``."""

    code = "too_many_readers"
    kind: ClassVar[Kind] = "retryable"
    limit: int


class NoSpace(VarveError, OSError):
    """There is no room; nothing of the commit was written, and the handle stays usable. Facts: ``path``."""

    code = "no_space"
    kind: ClassVar[Kind] = "retryable"
    path: str


class DiskFull(NoSpace):
    """The file system is full. Free some space and retry."""

    code = "disk_full"


class StoreFull(NoSpace):
    """The reserved map is full. Close the store everywhere and open it with a larger ``map_bytes``."""

    code = "store_full"


class CommitOutcomeUnknown(VarveError):
    """The last step of a commit failed: whether it was written shows only when the store is opened again. The handle
    refuses everything until then; an idempotency key makes the retry safe. Facts: ``path``."""

    code = "commit_outcome_unknown"
    kind: ClassVar[Kind] = "unknown"
    path: str


class HandleUnusable(VarveError, RuntimeError):
    """The object can no longer be used for what you asked."""

    code = "handle_unusable"
    kind: ClassVar[Kind] = "invalid"


class StoreClosed(HandleUnusable):
    """The store was closed, by you."""

    code = "store_closed"


class SnapshotClosed(HandleUnusable):
    """The snapshot's ``with`` block was left, by you."""

    code = "snapshot_closed"


class TransactionClosed(HandleUnusable):
    """The transaction was committed or rolled back already."""

    code = "transaction_closed"


class PrevalentSystemClosed(HandleUnusable):
    """The prevalent system was closed, by you."""

    code = "prevalent_system_closed"


class PrevalentSystemPoisoned(HandleUnusable):
    """Commands of a prevalent system could not be written (the cause), and what is in memory may not be what is on disk: it
    refuses everything. ``recover()`` makes the state again from what is on disk. Facts: ``system``, ``lost`` (the commands that
    were acknowledged before they were durable, as the flush policy allows, and are not on disk)."""

    code = "prevalent_system_poisoned"
    kind: ClassVar[Kind] = "unavailable"
    system: str
    lost: tuple[Any, ...]


class ForkedStore(HandleUnusable):
    """This handle was inherited through a fork. Open the store again in the child."""

    code = "forked_store"


class ReadonlyStore(HandleUnusable):
    """A write on a handle that was opened with ``readonly=True``."""

    code = "readonly_store"


class MissingExtra(VarveError, ImportError):
    """What you called needs a package that is not installed. Facts: ``extra`` (of varve-store, which brings it), ``package``."""

    code = "missing_extra"
    kind: ClassVar[Kind] = "unavailable"
    extra: str
    package: str


class WaitTimeout(VarveError, TimeoutError):
    """What you waited for did not come in time; nothing is lost, wait again. Facts: ``global_sequence``, ``timeout_s``."""

    code = "wait_timeout"
    kind: ClassVar[Kind] = "retryable"
    global_sequence: int
    timeout_s: float


class ViewsStillAlive(VarveError, BufferError):
    """``close()`` while memoryviews of the map are in your hands; the store stays open. Drop them (``varve.owned``
    copies an event) or leave the ``with varve.open(...)`` block, which waits for nobody. Facts: ``count`` (snapshots
    that views hold)."""

    code = "views_still_alive"
    kind: ClassVar[Kind] = "retryable"
    count: int


class MalformedDump(VarveError, ValueError):
    """A file of ``varve.ops`` (a dump, a JSON lines export) that is truncated, extended or damaged, or whose lines make no sense:
    nothing from there on was imported. Facts: ``path`` (of the file), ``offset`` (bytes into a dump, None otherwise), ``line``
    (from 1, of JSON lines, None otherwise)."""

    code = "malformed_dump"
    kind: ClassVar[Kind] = "integrity"
    path: str
    offset: int | None = None
    line: int | None = None


class IntegrityError(VarveError):
    """What is on disk is not what Varve wrote. Facts: ``path``."""

    code = "integrity"
    kind: ClassVar[Kind] = "integrity"
    path: str


class NotAVarveStore(IntegrityError):
    """A file, or an LMDB environment, of another program. Nothing was touched."""

    code = "not_a_varve_store"


class UnsupportedFormat(IntegrityError):
    """Written by a newer Varve. Upgrade. Facts: ``path``, ``found``, ``supported`` (format versions)."""

    code = "unsupported_format"
    found: int
    supported: int


class CorruptedStore(IntegrityError):
    """The file is truncated, or the store's own records contradict each other. Restore a backup, or save what can be read with
    ``varve.ops.repair``. Facts: ``path``, ``findings`` (a line each, where ``varve.open(trust=False)`` looked for them)."""

    code = "corrupted_store"
    findings: tuple[str, ...] = ()


class CorruptedState(IntegrityError):
    """A record of state that is not as it was written; others stay readable. Put or delete the key, or restore a backup. Facts:
    ``path``, ``key`` (the bytes of it where it cannot be read itself)."""

    code = "corrupted_state"
    key: object


class CorruptedProjection(IntegrityError):
    """A projection's SQLite file is damaged. The log is not concerned: ``rebuild()``, which catching up does by itself. Facts:
    ``path``, ``reason``."""

    code = "corrupted_projection"
    reason: str


class CorruptedBackup(IntegrityError):
    """A backup that is not as it was written: a file was changed or is missing, or the backups before it, which it continues,
    are not there. Take another copy of the backups, or restore to an earlier point. Facts: ``path``, ``reason``."""

    code = "corrupted_backup"
    reason: str


class CorruptedBlock(IntegrityError):
    """A block whose checksum or shape is wrong; nothing of it is returned, other blocks stay readable. Facts:
    ``first_sequence`` (the block's key), ``reason``."""

    code = "corrupted_block"
    first_sequence: int
    reason: str


__all__ = [
    "Archived",
    "BackupMismatch",
    "BreakerOpen",
    "CheckFailed",
    "CommitOutcomeUnknown",
    "Conflict",
    "ConsumerBusy",
    "ConsumerFenced",
    "ConsumersBehind",
    "CorruptedBackup",
    "CorruptedBlock",
    "CorruptedProjection",
    "CorruptedState",
    "CorruptedStore",
    "DiskFull",
    "EventDropped",
    "EventEncodingError",
    "EventTooLarge",
    "EventTypeError",
    "EventsHidden",
    "ForkedStore",
    "HandleUnusable",
    "HandlerCancelled",
    "IdempotencyConflict",
    "ImportConflict",
    "IntegrityError",
    "InvalidIdempotencyKey",
    "InvalidInput",
    "InvalidMetadata",
    "InvalidName",
    "InvalidProjection",
    "InvalidRow",
    "InvalidStateKey",
    "InvalidStreamId",
    "Kind",
    "MalformedDump",
    "MalformedEvent",
    "NoSpace",
    "NotAVarveStore",
    "NumberOutOfRange",
    "PrevalentSystemBehind",
    "PrevalentSystemClosed",
    "PrevalentSystemPoisoned",
    "ProcessorFailed",
    "ProjectionBusy",
    "ProjectionFailed",
    "ProjectionMismatch",
    "ProjectionNotBuilt",
    "ProjectionOutdated",
    "QueryFailed",
    "ReadonlyStore",
    "ReplayFailed",
    "SchemaConflict",
    "SchemaError",
    "SealedStore",
    "SnapshotClosed",
    "StateKeyMissing",
    "StateNotVersioned",
    "StateTypeMismatch",
    "StoreAccessDenied",
    "StoreAlreadyOpen",
    "StoreClosed",
    "StoreFailed",
    "StoreFull",
    "StoreInUse",
    "StoreNotFound",
    "StoreUnavailable",
    "TooManyItems",
    "TooManyReaders",
    "TransactionClosed",
    "TransactionConflict",
    "UnexpectedEventType",
    "UnsupportedFileSystem",
    "UnsupportedFormat",
    "UpcastError",
    "VarveError",
    "ViewsStillAlive",
    "WaitTimeout",
    "WrongExpectedVersion",
]
