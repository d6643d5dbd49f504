"""What is done to a whole store: verify it, make a sound one of a damaged one, list its event types, back it up and restore it,
seal it; and what tools show of one.

What takes a path works on a store that this process does not hold open, and (sealing aside) writes nothing to it; what takes a
store, on one that is open. (``make_demo`` makes one.)"""

from varve.backups.folder import BackupEntry
from varve.backups.manifest import Backup, BackupFile, BackupReport, Cover, LastCommit, Numbers, TableDigest
from varve.ops.annotate import BytePart, BytePartKind, annotate_event
from varve.ops.backup import BackupCheck, backup, backups, verify_backup
from varve.ops.demo import make_demo
from varve.ops.fill import BlockFill, block_fill
from varve.ops.findings import Finding, FindingKind, Where
from varve.ops.rate import Rate, event_rate
from varve.ops.readers import ReaderInfo, readers
from varve.ops.recorded import recorded_to_dict
from varve.ops.repair import LostEvent, LostRun, RepairReport, repair
from varve.ops.restore import MovedConsumer, RestoreReport, restore
from varve.ops.schemas import SchemaCheck, StoredSchema, check_schema, schemas, stored_schemas
from varve.ops.seal import SealReport, seal
from varve.ops.streams import StreamInfo, stream_extent, stream_names, streams
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
    "Cover",
    "Finding",
    "FindingKind",
    "LastCommit",
    "LostEvent",
    "LostRun",
    "MovedConsumer",
    "Numbers",
    "Rate",
    "ReaderInfo",
    "RepairReport",
    "RestoreReport",
    "SchemaCheck",
    "SealReport",
    "StoredSchema",
    "StreamInfo",
    "TableDigest",
    "VerifyReport",
    "Where",
    "annotate_event",
    "backup",
    "backups",
    "block_fill",
    "check_schema",
    "event_rate",
    "make_demo",
    "readers",
    "recorded_to_dict",
    "repair",
    "restore",
    "schemas",
    "seal",
    "stored_schemas",
    "stream_extent",
    "stream_names",
    "streams",
    "verify",
    "verify_backup",
]
