"""Check a store: LMDB's structure, every block's checksum, index and metadata against the log."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from varve.engine import whole
from varve.errors import StoreAccessDenied, StoreNotFound, VarveError


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found."""

    findings: tuple[str, ...]
    """One line per problem, each beginning with where it lies (structure, log, index, meta, consumers)."""

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


def check(path: str | os.PathLike[str]) -> CheckReport:
    """Check a store that this process does not hold open. Nothing is written.

    Index and metadata must hold exactly the pairs that the log gives, and no consumer may stand beyond its
    end. Memory grows with the number of streams. Raises
    ``StoreNotFound``, ``StoreAlreadyOpen``, ``StoreAccessDenied``.
    """
    folder = os.fspath(path)
    if not (Path(folder) / "data.mdb").is_file():
        raise StoreNotFound(f"{folder} holds no store", path=folder)
    try:
        return CheckReport(tuple(whole.findings(folder)))
    except PermissionError as exc:
        if isinstance(exc, VarveError):
            raise
        raise StoreAccessDenied(f"cannot read {folder}: {exc.strerror}", path=folder) from exc
