"""What is done to a whole store: verify it, make a sound one of a damaged one, list its event types, back it up and restore it,
seal it, compact it, move it out and in; and what tools show of one.

What takes a path works on a store that this process does not hold open, and (sealing and importing aside) writes nothing to it;
what takes a store, on one that is open. (``make_demo`` makes one.)"""

from varve.backups.folder import BackupEntry
from varve.backups.manifest import Backup, BackupFile, BackupReport, Cover, LastCommit, Numbers, TableDigest
from varve.ops.annotate import BytePart, BytePartKind, annotate_event
from varve.ops.backup import BackupCheck, backup, backups, verify_backup
from varve.ops.compact import CompactReport, compact
from varve.ops.demo import make_demo
from varve.ops.dump import DumpReport, digest, dump
from varve.ops.eventsourcing import InferredTopics, Topic, infer_eventsourcing, load_eventsourcing
from varve.ops.fill import BlockFill, block_fill
from varve.ops.findings import Finding, FindingKind, Where
from varve.ops.foreign import Column, Inferred, RowsReport, infer, load_rows
from varve.ops.jsonl import ExportReport, export_jsonl
from varve.ops.load import LoadReport, load
from varve.ops.parity import Difference, ParityReport, parity
from varve.ops.rate import Rate, event_rate
from varve.ops.readers import ReaderInfo, readers
from varve.ops.recorded import recorded_to_dict
from varve.ops.repair import LostEvent, LostRun, RepairReport, repair
from varve.ops.restore import MovedConsumer, RestoreReport, restore
from varve.ops.schemas import SchemaCheck, StoredSchema, check_schema, schemas, stored_schemas
from varve.ops.seal import SealReport, seal
from varve.ops.shares import Share, Shares, event_shares
from varve.ops.streams import StreamInfo, stream_extent, stream_info, stream_names, streams
from varve.ops.verify import VerifyReport, verify

__all__ = [
    "Backup",
    "BackupCheck",
    "BackupEntry",
    "BackupFile",
    "BackupReport",
    "BlockFill",
    "BytePart",
    "BytePartKind",
    "Column",
    "CompactReport",
    "Cover",
    "Difference",
    "DumpReport",
    "ExportReport",
    "Finding",
    "FindingKind",
    "Inferred",
    "InferredTopics",
    "LastCommit",
    "LoadReport",
    "LostEvent",
    "LostRun",
    "MovedConsumer",
    "Numbers",
    "ParityReport",
    "Rate",
    "ReaderInfo",
    "RepairReport",
    "RestoreReport",
    "RowsReport",
    "SchemaCheck",
    "SealReport",
    "Share",
    "Shares",
    "StoredSchema",
    "StreamInfo",
    "TableDigest",
    "Topic",
    "VerifyReport",
    "Where",
    "annotate_event",
    "backup",
    "backups",
    "block_fill",
    "check_schema",
    "compact",
    "digest",
    "dump",
    "event_rate",
    "event_shares",
    "export_jsonl",
    "infer",
    "infer_eventsourcing",
    "load",
    "load_eventsourcing",
    "load_rows",
    "make_demo",
    "parity",
    "readers",
    "recorded_to_dict",
    "repair",
    "restore",
    "schemas",
    "seal",
    "stored_schemas",
    "stream_extent",
    "stream_info",
    "stream_names",
    "streams",
    "verify",
    "verify_backup",
]
