"""What is done to a whole store: rebuild it, check it, list its event types. Each works on a store that this process does not
hold open."""

from varve.ops.check import CheckReport, check
from varve.ops.rebuild import RebuildReport, rebuild
from varve.ops.schemas import StoredSchema, schemas

__all__ = ["CheckReport", "RebuildReport", "StoredSchema", "check", "rebuild", "schemas"]
