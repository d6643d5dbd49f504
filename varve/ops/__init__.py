"""What is done to a whole store: verify it, make a sound one of a damaged one, list its event types, back it up and restore it,
seal it. Each works on a store that this process does not hold open, and (sealing aside) writes nothing to it."""

from varve.backups.folder import BackupEntry
from varve.backups.manifest import Backup, BackupFile, BackupReport, Cover, LastCommit, Numbers, TableDigest
from varve.ops.backup import BackupCheck, backup, backups, verify_backup
from varve.ops.findings import Finding, FindingKind, Where
from varve.ops.repair import LostEvent, LostRun, RepairReport, repair
from varve.ops.restore import MovedConsumer, RestoreReport, restore
from varve.ops.schemas import StoredSchema, schemas
from varve.ops.seal import SealReport, seal
from varve.ops.verify import VerifyReport, verify

__all__ = [
    "Backup",
    "BackupCheck",
    "BackupEntry",
    "BackupFile",
    "BackupReport",
    "Cover",
    "Finding",
    "FindingKind",
    "LastCommit",
    "LostEvent",
    "LostRun",
    "MovedConsumer",
    "Numbers",
    "RepairReport",
    "RestoreReport",
    "SealReport",
    "StoredSchema",
    "TableDigest",
    "VerifyReport",
    "Where",
    "backup",
    "backups",
    "repair",
    "restore",
    "schemas",
    "seal",
    "verify",
    "verify_backup",
]
