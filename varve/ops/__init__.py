"""What is done to a whole store: rebuild it, check it. Each works on a store that this process does not hold open."""

from varve.ops.check import CheckReport, check
from varve.ops.rebuild import RebuildReport, rebuild

__all__ = ["CheckReport", "RebuildReport", "check", "rebuild"]
