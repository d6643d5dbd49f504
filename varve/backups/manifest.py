"""What a backup says of itself: ``MANIFEST.json``, the last of its files to be written.

::

    varve_backup      format of this file: 1
    kind              "full": a store, compacted and sealed; "incremental": what came since the backup that it continues
    id                of this backup
    continues         of an incremental one: id and SHA-256 of the manifest of the backup before it; else null
    store_uuid        whose it is
    store_format      format version of the store
    first_sequence    the events first .. next are in it; of a full one, first is where the store begins
    next_sequence
    last_commit       first sequence, time (ns) and mark of the last commit at that instant; null where the log was empty. The
                      mark is SHA-256 of the last event with all that belongs to it: another history has another one
    numbers           how many names, types and streams were numbered, and SHA-256 of that table
    content_digest    of the events first .. next (varve.layout.content)
    tables            side tables at the instant: pairs, and SHA-256 of them
    covers            what was read, in this order: for each environment its parts, all of one instant, and when (ns)
    files             bytes and SHA-256 of each file
    varve_version     which wrote it
    sha256            of all that
"""

from __future__ import annotations

import datetime as dt
import hashlib
import os
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

from varve.engine import files
from varve.errors import CorruptedBackup, UnsupportedFormat
from varve.layout import base, document
from varve.layout.records import FORMAT_VERSION

FORMAT: Final = 1
MANIFEST: Final = "MANIFEST.json"
LOG: Final = "log"
SIDES: Final = tuple(name for name in files.SIDE_TABLES if name != base.TABLE)
"""The side tables that stand beside the log. (What archives have left is a part of the log: of the full backup's.)"""
FULL_FILES: Final = (files.DATA, files.SEAL)

Progress = Callable[[int, int], None]
"""Called now and then, on the thread that works, with bytes done and bytes in all. What it raises ends the work."""

BackupKind = Literal["full", "incremental"]

_HEX = re.compile(r"[0-9a-f]{64}")
_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


@dataclass(frozen=True, slots=True)
class BackupFile:
    """A file of a backup."""

    name: str
    """Its name in the backup's folder."""
    size_bytes: int
    """Its length."""
    sha256: str
    """SHA-256 of its bytes, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Cover:
    """What was read at one instant."""

    environment: str
    """Which of the store's environments: ``store`` is the log with all that lies beside it in ``data.mdb``."""
    parts: tuple[str, ...]
    """Its parts."""
    taken_at_ns: int
    """When: whatever was committed before that is in it. Nanoseconds since 1970, by the store's clock."""


@dataclass(frozen=True, slots=True)
class LastCommit:
    """The last commit that a backup reaches to."""

    first_sequence: int
    """Its first global sequence."""
    time_ns: int
    """When it was recorded."""
    mark: str
    """SHA-256 that tells its last event from that of another history."""


@dataclass(frozen=True, slots=True)
class Numbers:
    """What had been given numbers at an instant."""

    names: int
    """Stream names."""
    types: int
    """Event types, versions counted."""
    streams: int
    """Streams."""
    sha256: str
    """SHA-256 of the tables."""


@dataclass(frozen=True, slots=True)
class TableDigest:
    """A side table at an instant."""

    pairs: int
    """How many records."""
    sha256: str
    """SHA-256 of them."""


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup, as its manifest describes it."""

    path: str
    """Its folder."""
    kind: BackupKind
    """``full``, or ``incremental``."""
    id: str
    """Its identity."""
    continues: str | None
    """The id of the backup that an incremental one continues."""
    continues_sha256: str | None
    """SHA-256 of that one's manifest."""
    store_uuid: uuid.UUID
    """The store that it is of."""
    store_format: int
    """The store's format version."""
    first_sequence: int
    """The first global sequence in it."""
    next_sequence: int
    """The global sequence behind its last event."""
    last_commit: LastCommit | None
    """The last commit up to there; None for an empty log."""
    numbers: Numbers
    """What had been given numbers up to there."""
    content_digest: str
    """Digest of its events by content, however they lie in blocks."""
    tables: dict[str, TableDigest]
    """The side tables, by name: consumers' positions, retention rules, state."""
    covers: tuple[Cover, ...]
    """What was read, in order."""
    files: tuple[BackupFile, ...]
    """Its files, the manifest aside."""
    varve_version: str
    """The Varve that wrote it."""

    @property
    def name(self) -> str:
        """The name of its folder."""
        return os.path.basename(self.path)

    @property
    def events(self) -> int:
        """How many events are in it."""
        return self.next_sequence - self.first_sequence

    @property
    def size_bytes(self) -> int:
        """Bytes of its files, the manifest aside."""
        return sum(file.size_bytes for file in self.files)

    @property
    def taken_at_ns(self) -> int:
        """When: nanoseconds since 1970."""
        return self.covers[0].taken_at_ns

    @property
    def taken_at(self) -> dt.datetime:
        """When, in UTC, to the microsecond."""
        return dt.datetime.fromtimestamp(0, dt.UTC) + dt.timedelta(microseconds=self.taken_at_ns // 1_000)

    @property
    def reaches_ns(self) -> int:
        """Up to this time nothing is missing (should the clock have been set back: up to the last commit)."""
        return max(self.taken_at_ns, self.last_commit.time_ns if self.last_commit is not None else 0)

    def encode(self) -> bytes:
        """The manifest's bytes."""
        last, numbers = self.last_commit, self.numbers
        return document.encode(
            {
                "varve_backup": FORMAT,
                "kind": self.kind,
                "id": self.id,
                "continues": None
                if self.continues is None
                else {"id": self.continues, "manifest_sha256": self.continues_sha256},
                "store_uuid": str(self.store_uuid),
                "store_format": self.store_format,
                "first_sequence": self.first_sequence,
                "next_sequence": self.next_sequence,
                "last_commit": None
                if last is None
                else {"first_sequence": last.first_sequence, "time_ns": last.time_ns, "mark": last.mark},
                "numbers": {
                    "names": numbers.names,
                    "types": numbers.types,
                    "streams": numbers.streams,
                    "sha256": numbers.sha256,
                },
                "content_digest": self.content_digest,
                "tables": {name: {"pairs": table.pairs, "sha256": table.sha256} for name, table in self.tables.items()},
                "covers": [
                    {"environment": one.environment, "parts": list(one.parts), "taken_at_ns": one.taken_at_ns}
                    for one in self.covers
                ],
                "files": {file.name: {"size_bytes": file.size_bytes, "sha256": file.sha256} for file in self.files},
                "varve_version": self.varve_version,
            }
        )

    @property
    def manifest_sha256(self) -> str:
        """SHA-256 of the manifest: what a backup that continues this one says of it."""
        return hashlib.sha256(self.encode()).hexdigest()

    def as_json(self) -> dict[str, Any]:
        """For programs: the manifest's fields, and where it is."""
        return {"name": self.name, "path": self.path, **document.decode(self.encode())}


@dataclass(frozen=True, slots=True)
class BackupReport:
    """What a backup came to."""

    backup: Backup
    """The newest backup of the set."""
    written: bool
    """Whether it was written just now; False where nothing had come since."""


def read_manifest(folder: str) -> Backup:
    """What a backup says of itself. Raises ``CorruptedBackup``, ``UnsupportedFormat``, ``OSError``."""
    path = os.path.join(folder, MANIFEST)
    try:
        with files.open_file(path) as file:
            raw = file.read(document.DOCUMENT_BYTES_MAX + 1)
        fields = document.decode(raw)
        version = fields["varve_backup"]
    except FileNotFoundError:
        raise damaged(folder, f"it has no {MANIFEST}") from None
    except (ValueError, KeyError) as exc:
        raise damaged(folder, f"{MANIFEST}: {exc}") from None
    if isinstance(version, int) and version > FORMAT:
        raise _newer(folder, version, FORMAT)
    try:
        backup = _decoded(folder, fields, raw)
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise damaged(folder, f"{MANIFEST}: {exc}") from None
    if backup.store_format > FORMAT_VERSION:
        raise _newer(folder, backup.store_format, FORMAT_VERSION)
    return backup


def damaged(path: str, reason: str) -> CorruptedBackup:
    """The error for a backup that is not as it was written."""
    return CorruptedBackup(
        f"the backup {path} cannot be used: {reason}. Take another copy of it, or restore to an earlier point",
        path=path,
        reason=reason,
    )


def _newer(path: str, found: int, supported: int) -> UnsupportedFormat:
    return UnsupportedFormat(
        f"{path} has format {found}; this Varve reads up to {supported}. Upgrade varve-store",
        path=path,
        found=found,
        supported=supported,
    )


def _decoded(folder: str, fields: dict[str, Any], raw: bytes) -> Backup:
    """The fields of a manifest. Raises what access to things of other kinds raises."""
    kind = fields["kind"]
    if kind not in get_args(BackupKind):
        raise ValueError(f"the kind {kind!r} is none")
    continues, last, numbers = fields["continues"], fields["last_commit"], fields["numbers"]
    if (continues is None) != (kind == "full"):
        raise ValueError("an incremental backup continues another one, and no other does")
    first, following = _number(fields["first_sequence"]), _number(fields["next_sequence"])
    if first > following:
        raise ValueError("its sequences run backwards")
    found = tuple(
        BackupFile(_file(name), _number(file["size_bytes"]), _digest(file["sha256"]))
        for name, file in fields["files"].items()
    )
    covers = tuple(
        Cover(_text(one["environment"]), tuple(map(_text, one["parts"])), _number(one["taken_at_ns"]))
        for one in fields["covers"]
    )
    if not covers:
        raise ValueError("it covers nothing")
    backup = Backup(
        path=folder,
        kind=kind,
        id=_text(fields["id"]),
        continues=None if continues is None else _text(continues["id"]),
        continues_sha256=None if continues is None else _digest(continues["manifest_sha256"]),
        store_uuid=uuid.UUID(fields["store_uuid"]),
        store_format=_number(fields["store_format"]),
        first_sequence=first,
        next_sequence=following,
        last_commit=None
        if last is None
        else LastCommit(_number(last["first_sequence"]), _number(last["time_ns"]), _digest(last["mark"])),
        numbers=Numbers(
            _number(numbers["names"]),
            _number(numbers["types"]),
            _number(numbers["streams"]),
            _digest(numbers["sha256"]),
        ),
        content_digest=_digest(fields["content_digest"]),
        tables={
            _file(name): TableDigest(_number(table["pairs"]), _digest(table["sha256"]))
            for name, table in fields["tables"].items()
        },
        covers=covers,
        files=found,
        varve_version=_text(fields["varve_version"]),
    )
    if {file.name for file in found} != _names(backup):
        raise ValueError("its files are not those of such a backup")
    if backup.encode() != raw:
        raise ValueError("it says more than a manifest says, or in another way")
    return backup


def _names(backup: Backup) -> set[str]:
    """The files that a backup has."""
    return set(FULL_FILES) if backup.kind == "full" else {file_of(part) for part in (LOG, *backup.tables)}


def file_of(part: str) -> str:
    """The name of the file that holds a part of an incremental backup: the log, or a side table."""
    return f"{part}.pairs"


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is no number")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _digest(value: Any) -> str:
    if not _HEX.fullmatch(_text(value)):
        raise ValueError(f"{value!r} is no digest")
    return str(value)


def _file(value: Any) -> str:
    """A name that leads nowhere else."""
    if not _FILE.fullmatch(_text(value)):
        raise ValueError(f"{value!r} is no name of a file of a backup")
    return str(value)
