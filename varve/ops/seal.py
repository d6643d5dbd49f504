"""Seal a store: read-only for good."""

from __future__ import annotations

import os
import time
import uuid
from dataclasses import dataclass

from varve.backups.folder import disk_errors
from varve.backups.walk import UNREADABLE, Walk
from varve.engine import files
from varve.engine.pages import DamagedPage
from varve.engine.seal import Alone, Seal, read_seal, write_seal
from varve.errors import CorruptedStore, NotAVarveStore
from varve.ops.verify import LOG, Progress, stored_record


@dataclass(frozen=True, slots=True)
class SealReport:
    """A sealed store."""

    store_uuid: uuid.UUID
    """Whose events it holds."""
    first_sequence: int
    """The first global sequence in it."""
    next_sequence: int
    """The global sequence behind its last event."""
    content_digest: str
    """Digest of its events by content, as in the manifests of backups: ``varve.ops.verify`` finds whether it still agrees."""
    sealed_at_ns: int
    """When, nanoseconds since 1970."""
    is_new: bool
    """Whether it was sealed just now; False where it was sealed before."""


def seal(path: str | os.PathLike[str], *, progress: Progress | None = None) -> SealReport:
    """Make a store read-only for good: every later open for writing, by any process, raises ``SealedStore``.

    Needs the store alone. Every block is read and its checksum looked at; what the store holds is noted in a file ``varve.seal``
    beside its data, which appears when it is complete and on disk; until then nothing is sealed. Readers need no write access any
    more, not even for a lock file. Where it is sealed already, nothing is done. There is no way back:
    ``varve.ops.repair(path, new)`` makes a copy that can be written to. ``progress`` is called with events done and in all.

    Raises ``InvalidInput``, ``StoreNotFound``, ``StoreAlreadyOpen``, ``StoreInUse`` (somebody has it open, if only for reading),
    ``StoreAccessDenied``, ``NotAVarveStore``, ``CorruptedStore`` (what is damaged is not sealed), ``UnsupportedFormat``,
    ``DiskFull``.
    """
    folder = os.path.abspath(files.folder(path))
    known = read_seal(folder)
    if known is not None:
        return _report(known, is_new=False)
    with disk_errors(folder), Alone(folder) as alone:
        known = read_seal(folder)  # by somebody who was faster
        if known is not None:
            return _report(known, is_new=False)
        made = _seal(alone, progress)
        write_seal(folder, made)
    return _report(made, is_new=True)


def _seal(alone: Alone, progress: Progress | None) -> Seal:
    record = stored_record(alone.file)
    if record is None:
        raise NotAVarveStore(f"{alone.path} was never finished being created, or is damaged", path=alone.path)
    walk = Walk(record.first_sequence)
    try:
        for key, frame in alone.file.items(alone.file.tables()[LOG]):
            block = walk.feed(key, frame)
            if progress is not None:
                progress(block.end - record.first_sequence, record.next_sequence - record.first_sequence)
    except (DamagedPage, KeyError, *UNREADABLE) as exc:
        raise _damaged(alone.path, str(exc)) from None
    if walk.content.next_sequence != record.next_sequence:
        raise _damaged(alone.path, f"the log ends at {walk.content.next_sequence}, not at {record.next_sequence}")
    return Seal(record.uuid, record.first_sequence, record.next_sequence, walk.content.hexdigest(), time.time_ns())


def _damaged(path: str, what: str) -> CorruptedStore:
    return CorruptedStore(f"{path} is damaged, and was not sealed: {what}. Look at it with varve.ops.verify", path=path)


def _report(known: Seal, *, is_new: bool) -> SealReport:
    return SealReport(
        uuid.UUID(bytes=known.uuid),
        known.first_sequence,
        known.next_sequence,
        known.content_digest,
        known.sealed_at_ns,
        is_new,
    )
