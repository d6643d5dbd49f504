"""Whether a backup is what its manifest says, and what a full copy holds."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from varve.backups.folder import BackupEntry, chain_of, check_files
from varve.backups.manifest import LOG, SIDES, Backup, LastCommit, Numbers, Progress, TableDigest, damaged, file_of
from varve.backups.pairs import Pair, digest_of, read_pairs
from varve.backups.walk import UNREADABLE, Walk, counts_of, differing, last_commit, numbers_of
from varve.engine import files
from varve.engine.instant import Instant
from varve.engine.pages import DamagedPage, PageFile, Tree
from varve.engine.seal import read_seal
from varve.errors import CorruptedStore, VarveError
from varve.layout import base, consumers, keys, retention, state
from varve.layout.base import Base, decode_base
from varve.layout.derive import Derivation
from varve.layout.records import StoreRecord, decode_store_record, unsupported

LOG_TABLE, INDEX_TABLE, META_TABLE = files.DATABASES


@dataclass(frozen=True, slots=True)
class Held:
    """What a full copy holds."""

    record: StoreRecord
    content_digest: str
    last_commit: LastCommit | None
    numbers: Numbers
    tables: dict[str, TableDigest]


def examine_copy(folder: str, progress: Progress | None = None) -> tuple[Held, Derivation]:
    """Read the whole of a copy: LMDB's pages, every block, index and metadata as they follow from the log, side tables.

    Events are not decoded: they were checked when they were written, and lie under their blocks' checksums. Raises
    ``CorruptedStore``, ``UnsupportedFormat``.
    """
    with Instant(folder) as instant:
        problems = instant.structure()
        if problems:
            raise _unsound(folder, problems[0])
        try:
            return _examined(folder, instant.file, progress)
        except (DamagedPage, *UNREADABLE) as exc:
            raise _unsound(folder, str(exc)) from None


def _examined(folder: str, file: PageFile, progress: Progress | None) -> tuple[Held, Derivation]:
    tables = file.tables()
    missing = [name.decode() for name in files.DATABASES if name not in tables]
    if missing:
        raise _unsound(folder, f"there is no sub-database {missing[0]}")
    meta = dict(file.items(tables[META_TABLE]))
    record = decode_store_record(meta.get(keys.STORE_RECORD_KEY, b""))
    if isinstance(record, int):
        raise unsupported(folder, record)
    if record is None:
        raise _unsound(folder, "the store's record is damaged")
    derivation = Derivation(stored_base(file, tables))
    if derivation.next_sequence != record.first_sequence:
        raise _unsound(folder, f"nothing tells what was archived before {record.first_sequence}")
    walk = Walk(record.first_sequence, derivation)
    for key, frame in file.items(tables[LOG_TABLE]):
        block = walk.feed(key, frame)
        if progress is not None:
            progress(block.end - record.first_sequence, record.next_sequence - record.first_sequence)
    if walk.content.next_sequence != record.next_sequence:
        raise _unsound(folder, f"the log ends at {walk.content.next_sequence}, not at {record.next_sequence}")
    wrong = differing(file.items(tables[INDEX_TABLE]), derivation.index_pairs())
    if wrong is not None:
        raise _unsound(folder, f"the index is not what the log says (key {wrong.hex()})")
    if derivation.record is not None:
        wrong = differing(sorted(meta.items()), derivation.meta_pairs())
        if wrong is not None:
            raise _unsound(folder, f"the metadata is not what the log says (key {wrong.hex()})")
    held = Held(
        record,
        walk.content.hexdigest(),
        None if walk.last is None else last_commit(walk.last),
        numbers_of(counts_of(record), meta.get),
        {name: digest_of(_side(folder, name, pairs)) for name, pairs in side_tables(file)},
    )
    return held, derivation


def stored_base(file: PageFile, tables: Mapping[bytes, Tree]) -> Base | None:
    """What archives have left in a store: a part of its log. Raises ``DamagedPage``, ``MalformedRecord``."""
    tree = tables.get(files.side_name(base.TABLE))
    pairs = list(file.items(tree)) if tree is not None else []
    return decode_base(pairs) if pairs else None


def side_tables(file: PageFile) -> Iterator[tuple[str, list[Pair]]]:
    """The side tables that a store has beside its log, by name, with their pairs in key order. Raises ``DamagedPage``."""
    tables = file.tables()
    for name in SIDES:
        tree = tables.get(files.side_name(name))
        if tree is not None:
            yield name, list(file.items(tree))


def _side(path: str, name: str, pairs: list[Pair]) -> list[Pair]:
    wrong = unreadable_record(name, pairs)
    if wrong is not None:
        raise _unsound(path, f"the table {name} holds a damaged record under the key {wrong.hex()}")
    return pairs


def unreadable_record(table: str, pairs: list[Pair]) -> bytes | None:
    """The key of the first record of a side table that cannot be read; None where all can."""
    for key, value in pairs:
        if table == retention.TABLE:
            try:
                retention.decode_retention(key, value)
            except UNREADABLE:
                return key
        elif table == consumers.TABLE and key != consumers.TOKEN_KEY:
            record = consumers.decode_consumer(value, key)
            if record is None or isinstance(record, int):
                return key
        elif table == state.TABLE:
            try:
                state.decode_pair(key, value)
            except UNREADABLE:
                return key
    return None


def _unsound(folder: str, what: str) -> CorruptedStore:
    return CorruptedStore(f"{folder}: {what}", path=folder)


# -- finished ones ---------------------------------------------------------------------------------


def check_backup(backup: Backup, before: Derivation | None, progress: Progress | None = None) -> Derivation:
    """Whether a backup is what its manifest says; what follows from its chain up to there. ``before`` is the same of the backup
    that an incremental one continues; it is fed.

    Raises ``CorruptedBackup``, ``StoreUnavailable`` and its kin.
    """
    check_files(backup, progress)
    try:
        if before is None or backup.kind == "full":
            held, derivation = examine_copy(backup.path)
        else:
            held, derivation = _segment(backup, before), before
        _compare(backup, held)
    except OSError as exc:
        if isinstance(exc, VarveError):
            raise
        raise files.unavailable(backup.path, exc) from exc
    except (CorruptedStore, *UNREADABLE) as exc:
        raise damaged(backup.path, str(exc)) from None
    return derivation


def _segment(backup: Backup, derivation: Derivation) -> Held:
    walk = Walk(backup.first_sequence, derivation)
    for key, frame in read_pairs(os.path.join(backup.path, file_of(LOG))):
        walk.feed(key, frame)
    tables = {name: list(read_pairs(os.path.join(backup.path, file_of(name)))) for name in backup.tables}
    record = derivation.record or StoreRecord(backup.store_uuid.bytes, 0)
    return Held(
        record._replace(next_sequence=walk.content.next_sequence),
        walk.content.hexdigest(),
        backup.last_commit if walk.last is None else last_commit(walk.last),
        numbers_of(counts_of(record), derivation.find_numbered),
        {name: digest_of(_side(backup.path, name, pairs)) for name, pairs in tables.items()},
    )


def _compare(backup: Backup, held: Held) -> None:
    """Hold what a manifest says against what is there. Raises ``CorruptedStore``."""
    record = held.record
    for what, said, found in (
        ("the store", backup.store_uuid.bytes, record.uuid),
        ("its end", backup.next_sequence, record.next_sequence),
        ("the digest of the events", backup.content_digest, held.content_digest),
        ("the last commit", backup.last_commit, held.last_commit),
        ("the numbers of names, types and streams", backup.numbers, held.numbers),
        ("the side tables", backup.tables, held.tables),
    ):
        if said != found:
            raise _unsound(backup.path, f"{what} is not what the manifest says")
    if backup.kind == "full":
        seal = read_seal(backup.path)
        if seal is None or seal.content_digest != held.content_digest:
            raise _unsound(backup.path, "its seal is not that of its events")


def check_entries(entries: list[BackupEntry], progress: Progress | None = None) -> list[VarveError]:
    """Every backup of a set that is not what it should be: changed, unreadable, of another store, not continuing another."""
    found: list[VarveError] = []
    total = sum(entry.backup.size_bytes for entry in entries if entry.backup is not None)
    done = 0
    derivation: Derivation | None = None
    fed: str | None = None  # the id of the backup up to which it was fed
    stores = {entry.backup.store_uuid for entry in entries if entry.backup is not None}
    first_uuid = next((entry.backup.store_uuid for entry in entries if entry.backup is not None), None)
    for entry in entries:
        try:
            backup = entry.readable()
            if len(stores) > 1 and backup.store_uuid != first_uuid:
                raise damaged(entry.path, f"it is of the store {backup.store_uuid}, the first one of {first_uuid}")
            chain = chain_of(entries, entry)
            if backup.kind == "full":
                derivation = None
            elif fed != backup.continues:
                derivation = _fed(chain[:-1])
            fed = None
            derivation = check_backup(backup, derivation, _from(progress, done, total))
            fed = backup.id
        except VarveError as exc:
            found.append(exc)
        if entry.backup is not None:
            done += entry.backup.size_bytes
    if progress is not None:
        progress(total, total)
    return found


def _fed(chain: list[Backup]) -> Derivation | None:
    """What follows from a chain, read again: the backup in front of one was not the one that it continues. Raises
    ``CorruptedBackup`` and its kin."""
    derivation: Derivation | None = None
    for backup in chain:
        derivation = check_backup(backup, derivation)
    return derivation


def _from(progress: Progress | None, before: int, total: int) -> Progress | None:
    return None if progress is None else lambda done, _: progress(before + done, total)
