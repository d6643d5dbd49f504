"""Scoped handles: a store for one tenant, or one job. ``Varve.scoped`` leads here; docs/scoped.md tells what they promise.

patterns.py     which streams are meant
scope.py        what is allowed, and how to say no      audit.py   refusals, counted and recorded
reading.py      readers, replays and tails              stream.py  transaction.py  snapshot.py   the same of each
handle.py       the handle
"""

from varve.scoped.audit import AccessRefused, Refusals
from varve.scoped.handle import ScopedVarve, make_scoped
from varve.scoped.patterns import Pattern
from varve.scoped.snapshot import ScopedSnapshot

__all__ = ["AccessRefused", "Pattern", "Refusals", "ScopedSnapshot", "ScopedVarve", "make_scoped"]
