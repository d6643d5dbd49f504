"""What is done to a whole store: verify it, make a sound one of a damaged one, list its event types. Each works on a store that
this process does not hold open, and writes nothing to it."""

from varve.ops.findings import Finding, FindingKind, Where
from varve.ops.repair import LostEvent, LostRun, RepairReport, repair
from varve.ops.schemas import StoredSchema, schemas
from varve.ops.verify import VerifyReport, verify

__all__ = [
    "Finding",
    "FindingKind",
    "LostEvent",
    "LostRun",
    "RepairReport",
    "StoredSchema",
    "VerifyReport",
    "Where",
    "repair",
    "schemas",
    "verify",
]
