"""What is done to a whole store: verify it, make a sound one of a damaged one, list its event types. Each works on a store that
this process does not hold open, and writes nothing to it."""

from varve.ops.dump import DumpReport, digest, dump
from varve.ops.findings import Finding, FindingKind, Where
from varve.ops.jsonl import ExportReport, export_jsonl
from varve.ops.load import LoadReport, load
from varve.ops.parity import Difference, ParityReport, parity
from varve.ops.repair import LostEvent, LostRun, RepairReport, repair
from varve.ops.schemas import StoredSchema, schemas
from varve.ops.verify import VerifyReport, verify

__all__ = [
    "Difference",
    "DumpReport",
    "ExportReport",
    "Finding",
    "FindingKind",
    "LoadReport",
    "LostEvent",
    "LostRun",
    "ParityReport",
    "RepairReport",
    "StoredSchema",
    "VerifyReport",
    "Where",
    "digest",
    "dump",
    "export_jsonl",
    "load",
    "parity",
    "repair",
    "schemas",
    "verify",
]
