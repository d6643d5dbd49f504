"""Varve: an embedded, append-only event store.

The map of the package; imports point downwards only, tests/test_layering.py holds it::

    prevalent/       objects in memory whose every change is an event
    aggregates/      load, decide, append: functions on a stream
    opening.py       open                                            what a user begins with
    series.py        archives and a store, read in a row
    store.py         Varve, Snapshot                                 what a user holds
    archive.py       the beginning of a log moved out
    derived/         snapshots of state, projections into SQLite, processors, optimistic transactions
    scoped/          handles that can do only what they were made for
    transaction.py   one commit over several streams
    state/           values by key beside the log, checks, what transactions have read
    stream.py        typed appends             reader.py  typed reads, replays
    tailing/         watcher, tail, follow, consumer: what is live
    columns/         many events as arrays (extras `columns`, `arrow`)
    appends.py       input checked and encoded  replay.py  the walk over blocks
    bindings.py      which class an event comes as
    deferred.py      events made when they are asked for     upcasts.py  old types turned into new ones
    gaps.py          what compaction leaves
    record.py        Position, Span, Recorded                 retention.py  what readers pass over
    stats.py  reports.py                       what `db.stats()` answers, what observers are told
    engine/          the only room with LMDB: environment, snapshots and pins, commits
    codec/           events <-> FlatBuffers (no I/O)      layout/  what the bytes mean (no I/O)
    backups/         backups as files: written, listed, checked
    cli/             the command `varve` (extra `cli`)       ui/  its explorer in the browser (extra `ui`)
    integrations/    metrics and traces for others' tools (extras `prometheus`, `opentelemetry`)
    ops/             verify, repair, back up, restore, and what else is done to a whole store
    testing/         for users' own tests
    schema.py        schemas as text
    types.py  expected.py  unknown.py  limits.py  logs.py  errors.py
"""

TYPE_CHECKING = False  # typing itself would be a fifth of what `import varve` costs; type checkers know the name
if TYPE_CHECKING:
    from varve import errors, integrations, limits, ops, schema, testing
    from varve.aggregates.aggregate import Aggregate, Executed, Loaded
    from varve.aggregates.decider import Decided, Decider
    from varve.aggregates.policy import SnapshotPolicy, every
    from varve.archive import ArchiveReport
    from varve.codec import event, from_json, owned, struct, to_dict, to_json
    from varve.derived.processors.backoff import exponential_wait, fixed_wait
    from varve.derived.processors.breaker import CircuitBreaker
    from varve.derived.processors.dead_letters import DeadLetterInfo, DeadLetters
    from varve.derived.processors.handling import Batched
    from varve.derived.processors.processor import Processor, ProcessorStatus, RetryReport, run_processors
    from varve.derived.processors.run import AutoReplay
    from varve.derived.processors.strategies import DeadLetter, FailFast, Retry, RetryIn, Skip
    from varve.derived.projections.declare import Projection, on
    from varve.derived.projections.handle import ProjectionHandle
    from varve.derived.projections.reports import (
        ProjectionCheck,
        ProjectionDifference,
        ProjectionInfo,
        ProjectionProgress,
        ProjectionStatus,
    )
    from varve.derived.projections.together import run_projections
    from varve.derived.snapshots import Saved, SavedInfo, Snapshots
    from varve.errors import (
        Archived,
        BackupMismatch,
        BreakerOpen,
        CheckFailed,
        ColumnConflict,
        CommitOutcomeUnknown,
        Conflict,
        ConsumerBusy,
        ConsumerFenced,
        ConsumersBehind,
        CorruptedBackup,
        CorruptedBlock,
        CorruptedProjection,
        CorruptedState,
        CorruptedStore,
        DiskFull,
        EventDropped,
        EventEncodingError,
        EventsHidden,
        EventTooLarge,
        EventTypeError,
        ForkedStore,
        HandlerCancelled,
        HandleUnusable,
        IdempotencyConflict,
        ImportConflict,
        IntegrityError,
        InvalidIdempotencyKey,
        InvalidInput,
        InvalidMetadata,
        InvalidName,
        InvalidProjection,
        InvalidRow,
        InvalidStateKey,
        InvalidStreamId,
        Kind,
        MalformedDump,
        MalformedEvent,
        MissingExtra,
        NoSpace,
        NotAVarveStore,
        NumberOutOfRange,
        PermissionRefused,
        PrevalentSystemBehind,
        PrevalentSystemClosed,
        PrevalentSystemPoisoned,
        ProcessorFailed,
        ProjectionBusy,
        ProjectionFailed,
        ProjectionMismatch,
        ProjectionNotBuilt,
        ProjectionOutdated,
        QueryFailed,
        ReadonlyStore,
        ReplayFailed,
        SchemaConflict,
        SchemaError,
        SealedStore,
        SnapshotClosed,
        StateKeyMissing,
        StateNotVersioned,
        StateTypeMismatch,
        StoreAccessDenied,
        StoreAlreadyOpen,
        StoreClosed,
        StoreFailed,
        StoreFull,
        StoreInUse,
        StoreNotFound,
        StoreUnavailable,
        TooManyItems,
        TooManyReaders,
        TransactionClosed,
        TransactionConflict,
        UnexpectedEventType,
        UnsupportedFileSystem,
        UnsupportedFormat,
        UpcastError,
        VarveError,
        ViewsStillAlive,
        WaitTimeout,
        WrongExpectedVersion,
    )
    from varve.expected import ANY, NO_STREAM, STREAM_EXISTS, Expected
    from varve.gaps import Gap
    from varve.opening import open  # noqa: A004 - used as varve.open
    from varve.prevalent.aborts import Aborted
    from varve.prevalent.system import PrevalentSystem
    from varve.reader import GlobalReader, StreamReader
    from varve.record import Position, Recorded, Span
    from varve.reports import BatchReport, CommitReport, Observer
    from varve.retention import Retention
    from varve.scoped import AccessRefused, Refusals, ScopedSnapshot, ScopedVarve
    from varve.series import Series, SeriesReader, SeriesReplay, SeriesStream
    from varve.state.draft import TransactionState
    from varve.state.live import State
    from varve.state.view import StateView
    from varve.stats import SnapshotStats, StoreStats, WriteStats
    from varve.store import Snapshot, Varve
    from varve.stream import Stream
    from varve.tailing.consumer import Consumer, ConsumerBatches
    from varve.tailing.consumers import ConsumerInfo, ConsumerMember
    from varve.tailing.follow import Follow
    from varve.tailing.start import END, Start
    from varve.tailing.tail import Tail
    from varve.tailing.watcher import Watcher
    from varve.transaction import Transaction, WriteTransaction
    from varve.types import f32, f64, i8, i16, i32, i64, u8, u16, u32, u64
    from varve.unknown import UnknownEvent
    from varve.upcasts import upcast

__version__ = "0.1.0"

_HOMES = {
    "varve.aggregates.aggregate": "Aggregate Executed Loaded",
    "varve.aggregates.decider": "Decided Decider",
    "varve.aggregates.policy": "SnapshotPolicy every",
    "varve.archive": "ArchiveReport",
    "varve.codec": "event from_json owned struct to_dict to_json",
    "varve.derived.projections.declare": "Projection on",
    "varve.derived.projections.handle": "ProjectionHandle",
    "varve.derived.projections.reports": (
        "ProjectionCheck ProjectionDifference ProjectionInfo ProjectionProgress ProjectionStatus"
    ),
    "varve.derived.projections.together": "run_projections",
    "varve.derived.snapshots": "Saved SavedInfo Snapshots",
    "varve.derived.processors.backoff": "exponential_wait fixed_wait",
    "varve.derived.processors.breaker": "CircuitBreaker",
    "varve.derived.processors.dead_letters": "DeadLetterInfo DeadLetters",
    "varve.derived.processors.handling": "Batched",
    "varve.derived.processors.processor": "Processor ProcessorStatus RetryReport run_processors",
    "varve.derived.processors.run": "AutoReplay",
    "varve.derived.processors.strategies": "DeadLetter FailFast Retry RetryIn Skip",
    "varve.expected": "ANY NO_STREAM STREAM_EXISTS Expected",
    "varve.gaps": "Gap",
    "varve.opening": "open",
    "varve.prevalent.aborts": "Aborted",
    "varve.prevalent.system": "PrevalentSystem",
    "varve.reader": "GlobalReader StreamReader",
    "varve.record": "Position Recorded Span",
    "varve.retention": "Retention",
    "varve.scoped": "AccessRefused Refusals ScopedSnapshot ScopedVarve",
    "varve.reports": "BatchReport CommitReport Observer",
    "varve.series": "Series SeriesReader SeriesReplay SeriesStream",
    "varve.state.draft": "TransactionState",
    "varve.state.live": "State",
    "varve.state.view": "StateView",
    "varve.stats": "SnapshotStats StoreStats WriteStats",
    "varve.store": "Snapshot Varve",
    "varve.stream": "Stream",
    "varve.tailing.consumer": "Consumer ConsumerBatches",
    "varve.tailing.consumers": "ConsumerInfo ConsumerMember",
    "varve.tailing.follow": "Follow",
    "varve.tailing.start": "END Start",
    "varve.tailing.tail": "Tail",
    "varve.tailing.watcher": "Watcher",
    "varve.transaction": "Transaction WriteTransaction",
    "varve.types": "f32 f64 i8 i16 i32 i64 u8 u16 u32 u64",
    "varve.unknown": "UnknownEvent",
    "varve.upcasts": "upcast",
}
"""Where the public names live; the others are errors. A module is imported when one of its names is first used: `import varve`
costs next to nothing, and a program pays for what it uses."""
_MODULES = frozenset({"errors", "integrations", "limits", "ops", "schema", "testing"})
_HOME_OF = {name: module for module, names in _HOMES.items() for name in names.split()}


if not TYPE_CHECKING:  # to a type checker a module with `__getattr__` has every name, also those that are typing errors

    def __getattr__(name: str) -> object:
        """A public name, or a public module, at its first use."""
        from importlib import import_module

        if name in _MODULES:
            return import_module(f"varve.{name}")
        if name not in __all__:
            raise AttributeError(f"module 'varve' has no attribute {name!r}")
        value = globals()[name] = getattr(import_module(_HOME_OF.get(name, "varve.errors")), name)
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})


__all__ = [
    "ANY",
    "END",
    "NO_STREAM",
    "STREAM_EXISTS",
    "Aborted",
    "AccessRefused",
    "Aggregate",
    "ArchiveReport",
    "Archived",
    "AutoReplay",
    "BackupMismatch",
    "BatchReport",
    "Batched",
    "BreakerOpen",
    "CheckFailed",
    "CircuitBreaker",
    "ColumnConflict",
    "CommitOutcomeUnknown",
    "CommitReport",
    "Conflict",
    "Consumer",
    "ConsumerBatches",
    "ConsumerBusy",
    "ConsumerFenced",
    "ConsumerInfo",
    "ConsumerMember",
    "ConsumersBehind",
    "CorruptedBackup",
    "CorruptedBlock",
    "CorruptedProjection",
    "CorruptedState",
    "CorruptedStore",
    "DeadLetter",
    "DeadLetterInfo",
    "DeadLetters",
    "Decided",
    "Decider",
    "DiskFull",
    "EventDropped",
    "EventEncodingError",
    "EventTooLarge",
    "EventTypeError",
    "EventsHidden",
    "Executed",
    "Expected",
    "FailFast",
    "Follow",
    "ForkedStore",
    "Gap",
    "GlobalReader",
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
    "Loaded",
    "MalformedDump",
    "MalformedEvent",
    "MissingExtra",
    "NoSpace",
    "NotAVarveStore",
    "NumberOutOfRange",
    "Observer",
    "PermissionRefused",
    "Position",
    "PrevalentSystem",
    "PrevalentSystemBehind",
    "PrevalentSystemClosed",
    "PrevalentSystemPoisoned",
    "Processor",
    "ProcessorFailed",
    "ProcessorStatus",
    "Projection",
    "ProjectionBusy",
    "ProjectionCheck",
    "ProjectionDifference",
    "ProjectionFailed",
    "ProjectionHandle",
    "ProjectionInfo",
    "ProjectionMismatch",
    "ProjectionNotBuilt",
    "ProjectionOutdated",
    "ProjectionProgress",
    "ProjectionStatus",
    "QueryFailed",
    "ReadonlyStore",
    "Recorded",
    "Refusals",
    "ReplayFailed",
    "Retention",
    "Retry",
    "RetryIn",
    "RetryReport",
    "Saved",
    "SavedInfo",
    "SchemaConflict",
    "SchemaError",
    "ScopedSnapshot",
    "ScopedVarve",
    "SealedStore",
    "Series",
    "SeriesReader",
    "SeriesReplay",
    "SeriesStream",
    "Skip",
    "Snapshot",
    "SnapshotClosed",
    "SnapshotPolicy",
    "SnapshotStats",
    "Snapshots",
    "Span",
    "Start",
    "State",
    "StateKeyMissing",
    "StateNotVersioned",
    "StateTypeMismatch",
    "StateView",
    "StoreAccessDenied",
    "StoreAlreadyOpen",
    "StoreClosed",
    "StoreFailed",
    "StoreFull",
    "StoreInUse",
    "StoreNotFound",
    "StoreStats",
    "StoreUnavailable",
    "Stream",
    "StreamReader",
    "Tail",
    "TooManyItems",
    "TooManyReaders",
    "Transaction",
    "TransactionClosed",
    "TransactionConflict",
    "TransactionState",
    "UnexpectedEventType",
    "UnknownEvent",
    "UnsupportedFileSystem",
    "UnsupportedFormat",
    "UpcastError",
    "Varve",
    "VarveError",
    "ViewsStillAlive",
    "WaitTimeout",
    "Watcher",
    "WriteStats",
    "WriteTransaction",
    "WrongExpectedVersion",
    "event",
    "every",
    "exponential_wait",
    "f32",
    "f64",
    "fixed_wait",
    "from_json",
    "i8",
    "i16",
    "i32",
    "i64",
    "on",
    "open",
    "owned",
    "run_processors",
    "run_projections",
    "struct",
    "to_dict",
    "to_json",
    "u8",
    "u16",
    "u32",
    "u64",
    "upcast",
]
