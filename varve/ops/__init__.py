"""What is done to a whole store: verify it, make a sound one of a damaged one, list its event types, move its log out and in.
Each works on a store that this process does not hold open, and writes nothing to it."""

from varve.ops.dump import DumpReport, digest, dump
from varve.ops.eventsourcing import InferredTopics, Topic, infer_eventsourcing, load_eventsourcing
from varve.ops.findings import Finding, FindingKind, Where
from varve.ops.foreign import Column, Inferred, RowsReport, infer, load_rows
from varve.ops.jsonl import ExportReport, export_jsonl
from varve.ops.load import LoadReport, load
from varve.ops.parity import Difference, ParityReport, parity
from varve.ops.repair import LostEvent, LostRun, RepairReport, repair
from varve.ops.schemas import StoredSchema, schemas
from varve.ops.verify import VerifyReport, verify

__all__ = [
    "Column",
    "Difference",
    "DumpReport",
    "ExportReport",
    "Finding",
    "FindingKind",
    "Inferred",
    "InferredTopics",
    "LoadReport",
    "LostEvent",
    "LostRun",
    "ParityReport",
    "RepairReport",
    "RowsReport",
    "StoredSchema",
    "Topic",
    "VerifyReport",
    "Where",
    "digest",
    "dump",
    "export_jsonl",
    "infer",
    "infer_eventsourcing",
    "load",
    "load_eventsourcing",
    "load_rows",
    "parity",
    "repair",
    "schemas",
    "verify",
]
