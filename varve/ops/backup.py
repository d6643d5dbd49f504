"""Back a store up, list backups, check them."""

from __future__ import annotations

import os
from dataclasses import dataclass

from varve.backups.check import check_entries
from varve.backups.folder import BackupEntry, find_entries, leftovers
from varve.backups.manifest import BackupReport, Progress
from varve.engine import files
from varve.errors import VarveError
from varve.store import Varve


def backup(
    path: str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    incremental: bool = False,
    progress: Progress | None = None,
) -> BackupReport:
    """Back up a store that this process does not hold open (then: ``db.backup(target)``), while others write to it.

    Everything else, errors included, as ``Varve.backup``; and what ``varve.open(path, readonly=True)`` raises.
    """
    files.folder(target, "target")
    with Varve(path, readonly=True) as db:
        return db.backup(target, incremental=incremental, progress=progress)


def backups(target: str | os.PathLike[str]) -> list[BackupEntry]:
    """The backups of a set, oldest first, also those that cannot be read. Their manifests are read, nothing else.

    ``target`` may be the folder of one backup: then those up to it. Raises ``StoreNotFound`` where there are none,
    ``InvalidInput``, ``StoreUnavailable`` and its kin.
    """
    return find_entries(files.folder(target, "target"))


@dataclass(frozen=True, slots=True)
class BackupCheck:
    """What a check of a set came to."""

    entries: tuple[BackupEntry, ...]
    """The backups that were looked at, oldest first."""
    problems: tuple[VarveError, ...]
    """What is wrong, in their order: ``CorruptedBackup`` for the most part, with its ``path`` and ``reason``."""
    leftovers: tuple[str, ...]
    """Folders of backups that were cut off, or that are being written: no harm, the next backup removes them."""

    @property
    def sound(self) -> bool:
        """Whether nothing is wrong."""
        return not self.problems


def verify_backup(target: str | os.PathLike[str], *, progress: Progress | None = None) -> BackupCheck:
    """Read the whole of a backup set (or of the backups up to one), and say everything that is wrong with it.

    Each manifest; the length and SHA-256 of each file; of a full backup LMDB's structure, and index and metadata pair by pair
    against the log; every block's checksum and shape; sequences without gaps within a backup and from one to the next; that each
    incremental one continues what it says it continues, all are of one store, and content, side tables and seals are what the
    manifests say. Events are not decoded: ``varve.ops.verify`` of a restored store does that. Nothing is written. ``progress`` is
    called with bytes done and bytes in all. Memory as ``verify``.

    Raises ``StoreNotFound`` where there are no backups, ``InvalidInput``, ``StoreUnavailable`` and its kin.
    """
    path = files.folder(target, "target")
    entries = find_entries(path)
    problems = check_entries(entries, progress)
    try:
        left = leftovers(path)
    except OSError as exc:
        raise files.unavailable(path, exc) from exc
    return BackupCheck(tuple(entries), tuple(problems), tuple(left))
