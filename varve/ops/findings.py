"""What is wrong with a store, one thing at a time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Where = Literal["structure", "base", "log", "index", "meta", "consumers", "retention", "state", "seal"]
"""The part of a store: LMDB's pages, one of the sub-databases (``base`` is what archives have left), or the seal of a sealed
store."""

FindingKind = Literal[
    "page",
    "table",
    "key",
    "checksum",
    "block",
    "gap",
    "time",
    "schema",
    "event",
    "metadata",
    "missing",
    "extra",
    "different",
    "record",
    "position",
    "token",
]
"""What is wrong:

==============  ==========================================================================================================
``page``        LMDB's verifier, or the walk over the pages, found a damaged page
``table``       a sub-database is missing
``key``         a key of the log is no sequence
``checksum``    a block's crc does not match its bytes
``block``       a block contradicts itself or the blocks before it
``gap``         sequences are missing between two blocks, or at the end
``time``        a commit is older than the one before it
``schema``      an event has a type that nothing declares
``event``       an event is no valid FlatBuffer of its type
``metadata``    an append's metadata is no JSON object
``missing``     index or metadata lack a pair that follows from the log, or there is nothing of what was archived
``extra``       they hold a pair that does not
``different``   they hold another value than follows from the log; a sealed store holds something else than its seal says
``record``      a consumer's record, a retention rule, a record of state, a seal, or what archives have left is damaged
``position``    a consumer stands beyond the end of the log
``token``       a consumer's token was never given
==============  ==========================================================================================================
"""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a store."""

    where: Where
    """The part that it lies in."""
    kind: FindingKind
    """What is wrong, from a fixed list: see ``FindingKind``."""
    message: str
    """One line for people."""
    sequence: int | None = None
    """The global sequence that it concerns: of a block, the first one; of an event, its own; of a gap, the first that is
    missing."""
    key: bytes | None = None
    """The key of the pair that it concerns, as docs/format.md describes it."""

    def __str__(self) -> str:
        return f"{self.where}: {self.message}"
