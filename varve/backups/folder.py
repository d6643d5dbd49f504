"""The folder of a backup set, and what stands in it::

    000001-full/            data.mdb, varve.seal, MANIFEST.json
    000002-incremental/     log.pairs, consumers.pairs, state.pairs, MANIFEST.json
    .unfinished-000003-full what a backup that was cut off has left; the next one removes it
    backup.lock             flock, held by the backup that is running

The numbers rise, so that ``ls`` shows the order. Which backup continues which stands in the manifests.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from varve.backups.manifest import MANIFEST, Backup, BackupFile, BackupKind, Progress, damaged, read_manifest
from varve.engine import files
from varve.errors import DiskFull, StoreInUse, StoreNotFound, StoreUnavailable, VarveError

LOCK: Final = "backup.lock"
UNFINISHED: Final = ".unfinished-"

_NAME = re.compile(r"([0-9]{6,})-(?:full|incremental)")
_PIECE_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class BackupEntry:
    """A backup in a set, or what is left of one."""

    name: str
    """The name of its folder."""
    path: str
    """Its folder."""
    backup: Backup | None
    """What its manifest says; None where that cannot be read."""
    problem: VarveError | None
    """Why it cannot be read."""

    def readable(self) -> Backup:
        """What its manifest says. Raises ``CorruptedBackup``, ``UnsupportedFormat``, ``StoreUnavailable`` and its kin."""
        if self.backup is None:
            assert self.problem is not None
            raise self.problem
        return self.backup


def ordinal(name: str) -> int | None:
    """The number in the name of a backup's folder; None for any other name."""
    found = _NAME.fullmatch(name)
    return None if found is None else int(found[1])


def entries_of(path: str) -> list[BackupEntry]:
    """The backups in a folder, oldest first. Raises ``StoreUnavailable`` and its kin."""
    try:
        names = [name for name in os.listdir(path) if ordinal(name) is not None]
    except NotADirectoryError as exc:
        raise StoreUnavailable(f"{path} is no folder", path=path) from exc
    except OSError as exc:
        raise files.unavailable(path, exc) from exc
    return [_entry(os.path.join(path, name)) for name in sorted(names, key=lambda name: (ordinal(name), name))]


def _entry(path: str) -> BackupEntry:
    backup: Backup | None = None
    problem: VarveError | None = None
    try:
        backup = read_manifest(path)
    except VarveError as exc:
        problem = exc
    except OSError as exc:
        problem = files.unavailable(path, exc)
    return BackupEntry(os.path.basename(path), path, backup, problem)


def find_entries(path: str) -> list[BackupEntry]:
    """The backups of a set, or those up to the one whose own folder ``path`` is. Raises ``StoreNotFound``."""
    path = os.path.abspath(path)
    if os.path.lexists(os.path.join(path, MANIFEST)):
        name = os.path.basename(path)
        if ordinal(name) is None:  # a single one under another name
            return [_entry(path)]
        found = entries_of(os.path.dirname(path))
        return found[: 1 + next(index for index, entry in enumerate(found) if entry.name == name)]
    found = entries_of(path)
    if not found:
        raise StoreNotFound(f"{path} holds no backups; varve.ops.backup makes one", path=path)
    return found


def leftovers(path: str) -> list[str]:
    """Names of what backups that were cut off have left (or one that is running is writing)."""
    return sorted(name for name in os.listdir(path) if name.startswith(UNFINISHED))


def chain_of(entries: Sequence[BackupEntry], last: BackupEntry) -> list[Backup]:
    """A full backup and the incremental ones up to ``last``, each the one that the next continues. Raises ``CorruptedBackup``."""
    by_id = {entry.backup.id: entry.backup for entry in entries if entry.backup is not None}
    chain = [last.readable()]
    while (later := chain[-1]).continues is not None:
        earlier = by_id.get(later.continues)
        if earlier is None:
            broken = ", ".join(entry.name for entry in entries if entry.backup is None)
            reason = "the backup that it continues is not there"
            raise damaged(later.path, f"{reason} (unreadable: {broken})" if broken else reason)
        wrong = _contradiction(earlier, later)
        if wrong is not None:
            raise damaged(later.path, f"it does not continue {earlier.name}: {wrong}")
        chain.append(earlier)
    return chain[::-1]


def _contradiction(earlier: Backup, later: Backup) -> str | None:
    """What is wrong, if anything. (A circle cannot be: each manifest holds the SHA-256 of the one before it.)"""
    if later.continues_sha256 != earlier.manifest_sha256:
        return "that one's manifest is another"
    if later.store_uuid != earlier.store_uuid:
        return "that one is another store's"
    if later.first_sequence != earlier.next_sequence:
        return f"that one ends at {earlier.next_sequence}, it begins at {later.first_sequence}"
    return None


# -- writing ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def disk_errors(path: str) -> Iterator[None]:
    """Errors of the operating system as ours."""
    try:
        yield
    except VarveError:
        raise
    except OSError as exc:
        if exc.errno in files.SPACE_ERRORS:
            raise DiskFull(f"no room for {path}; free some and retry: nothing was kept", path=path) from exc
        raise files.unavailable(exc.filename if isinstance(exc.filename, str) else path, exc) from exc


@contextlib.contextmanager
def locked(path: str) -> Iterator[None]:
    """The folder of a set, made where it is not there, for one backup at a time; without what earlier ones have left.

    Raises ``StoreInUse``, ``OSError``.
    """
    files.make_folder(path)
    fd = os.open(os.path.join(path, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            if exc.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
                raise
            raise StoreInUse(f"another backup into {path} is running; retry when it is done", path=path) from None
        for name in leftovers(path):
            shutil.rmtree(os.path.join(path, name))
        yield
    finally:
        os.close(fd)


@contextlib.contextmanager
def new_backup(path: str, entries: Sequence[BackupEntry], kind: BackupKind) -> Iterator[tuple[str, str]]:
    """The temporary folder of a new backup and the one that it becomes (``finish``). Without that nothing of it remains."""
    number = 1 + max((ordinal(entry.name) or 0 for entry in entries), default=0)
    name = f"{number:06d}-{kind}"
    unfinished = os.path.join(path, f"{UNFINISHED}{name}")
    os.mkdir(unfinished, 0o700)
    try:
        yield unfinished, os.path.join(path, name)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def finish(unfinished: str, final: str, backup: Backup) -> None:
    """Write the manifest and give a backup its name, everything on disk."""
    files.write_new(os.path.join(unfinished, MANIFEST), backup.encode())
    files.sync_folder(unfinished)
    os.rename(unfinished, final)
    files.sync_folder(os.path.dirname(final))


class Summed:
    """A file that is written and summed up; a context manager, on disk at its end."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self.size_bytes = 0
        self._file = os.fdopen(
            os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb", buffering=_PIECE_BYTES
        )

    def write(self, data: bytes) -> None:
        """More of it."""
        self._digest.update(data)
        self.size_bytes += len(data)
        self._file.write(data)

    def done(self) -> BackupFile:
        """What it came to, when everything is on disk."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return BackupFile(os.path.basename(self._path), self.size_bytes, self._digest.hexdigest())

    def close(self) -> None:
        """Let it go, whatever could be written."""
        with contextlib.suppress(OSError):
            self._file.close()


def summed(path: str, progress: Progress | None = None, *, from_disk: bool = True) -> BackupFile:
    """Length and SHA-256 of a file, as the disk has it, or as it will be read next. Raises ``OSError``."""
    digest = hashlib.sha256()
    done = 0
    with files.open_file(path, buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if from_disk and hasattr(os, "posix_fadvise"):  # what the system still has in memory says nothing of the disk
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        while piece := file.read(_PIECE_BYTES):
            digest.update(piece)
            done += len(piece)
            if progress is not None:
                progress(done, size)
    return BackupFile(os.path.basename(path), done, digest.hexdigest())


def check_files(backup: Backup, progress: Progress | None = None, *, from_disk: bool = True) -> None:
    """Whether the files of a backup are as its manifest says (``from_disk`` as ``summed``).

    Raises ``CorruptedBackup``, ``StoreUnavailable`` and its kin.
    """
    before = 0
    for file in backup.files:
        path = os.path.join(backup.path, file.name)
        try:
            told = None if progress is None else _behind(progress, before, backup.size_bytes)
            found = summed(path, told, from_disk=from_disk)
        except FileNotFoundError:
            raise damaged(backup.path, f"{file.name} is missing") from None
        except OSError as exc:
            raise files.unavailable(path, exc) from exc
        if found.size_bytes != file.size_bytes:
            raise damaged(backup.path, f"{file.name} is {found.size_bytes} bytes long, not {file.size_bytes}")
        if found != file:
            raise damaged(backup.path, f"{file.name} was changed: its SHA-256 is another")
        before += file.size_bytes


def _behind(progress: Progress, before: int, total: int) -> Progress:
    return lambda done, _: progress(before + done, total)
