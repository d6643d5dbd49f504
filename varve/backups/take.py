"""A new backup of an open store."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from itertools import chain

from varve import limits
from varve.backups import states
from varve.backups.check import Held, examine_copy, unreadable_record
from varve.backups.folder import Summed, disk_errors, entries_of, finish, locked, new_backup, summed
from varve.backups.manifest import (
    LOG,
    SIDES,
    STATES_FILE,
    Backup,
    BackupFile,
    BackupKind,
    BackupReport,
    Cover,
    Progress,
    damaged,
    file_of,
)
from varve.backups.pairs import MAGIC, Pair, digest_of, encode_pair, read_pairs
from varve.backups.walk import UNREADABLE, Numbering, Walk, counts_of, last_commit, mark_of, numbers_in
from varve.engine import files
from varve.engine.core import Engine
from varve.engine.seal import Seal, write_seal
from varve.engine.snapshot import Snapshot
from varve.errors import BackupMismatch, CorruptedStore, InvalidInput
from varve.layout import keys
from varve.layout.cut import cut
from varve.layout.records import FORMAT_VERSION


def take(
    engine: Engine, target: str | os.PathLike[str], *, incremental: bool, progress: Progress | None
) -> BackupReport:
    """See ``Varve.backup``."""
    path = os.path.abspath(files.folder(target, "target"))
    engine.check_usable()
    if files.holds(engine.path, path):
        raise InvalidInput(f"{path} lies in the store that is backed up; name a folder elsewhere")
    with disk_errors(path):
        if os.path.lexists(os.path.join(path, files.DATA)):
            raise InvalidInput(f"{path} is a store; name a folder for backups")
        with locked(path):
            return _Taking(engine, path, progress or _nobody).take(incremental=incremental)


class _Taking:
    """A backup in the making, in a set that is ours alone."""

    def __init__(self, engine: Engine, path: str, progress: Progress) -> None:
        self._engine = engine
        self._path = path
        self._progress = progress
        self._entries = entries_of(path)

    def take(self, *, incremental: bool) -> BackupReport:
        """Take it."""
        newest = next((entry.backup for entry in reversed(self._entries) if entry.backup is not None), None)
        if incremental and self._entries:
            newest = self._entries[-1].readable()  # nothing else can be continued
        taken_at_ns = self._engine.clock()  # before the instant: what was committed by then is in it
        with self._engine.complete_snapshot() as snapshot:
            if newest is not None:
                self._check_history(snapshot, newest)
            if incremental and newest is not None:
                return self._incremental(snapshot, newest, taken_at_ns)
        return self._full(taken_at_ns)

    # -- what it continues -------------------------------------------------------------------------

    def _check_history(self, snapshot: Snapshot, newest: Backup) -> None:
        """Whether the store is the one of the set and went on from where its newest backup ends. Raises ``BackupMismatch``."""
        record = snapshot.record
        if record.uuid != newest.store_uuid.bytes:
            raise self._mismatch(f"is of the store {newest.store_uuid}, not of {uuid.UUID(bytes=record.uuid)}")
        end = newest.next_sequence
        if record.next_sequence < end:
            raise self._mismatch(f"reaches up to {end}, the store only to {record.next_sequence}")
        numbers = newest.numbers
        counts = (numbers.names, numbers.types, numbers.streams)
        if any(before > here for before, here in zip(counts, counts_of(record), strict=True)):
            raise self._mismatch("knows more streams than the store")
        if record.first_sequence < end:
            block = snapshot.block(end - 1, copy=True)
            last = newest.last_commit
            if last is None or mark_of(block, end - 1 - block.first) != last.mark:
                raise self._mismatch(f"holds another event at {end - 1}")
        if numbers_in(snapshot, counts) != numbers:
            raise self._mismatch("numbers streams or types in another way")

    def _mismatch(self, what: str) -> BackupMismatch:
        return BackupMismatch(
            f"the newest backup in {self._path} {what}; back this store up into a folder of its own", path=self._path
        )

    # -- full --------------------------------------------------------------------------------------

    def _full(self, taken_at_ns: int) -> BackupReport:
        engine, progress = self._engine, self._progress
        used = (engine.environment.last_page() + 1) * limits.PAGE_BYTES
        with new_backup(self._path, self._entries, "full") as (unfinished, final):
            saved = self._states(unfinished)  # before the log: what they were made of is in it then
            data = Summed(os.path.join(unfinished, files.DATA))
            try:
                progress(0, 2 * used)

                def write(piece: bytes) -> None:
                    data.write(piece)
                    progress(min(data.size_bytes, used), 2 * used)

                engine.copy_out(write)
                written = data.done()
            finally:
                data.close()
            self._reread(unfinished, written)
            held = self._examined(unfinished, lambda done, of: progress(used + done * used // max(of, 1), 2 * used))
            record = held.record
            write_seal(
                unfinished,
                Seal(record.uuid, record.first_sequence, record.next_sequence, held.content_digest, taken_at_ns),
            )
            backup = self._backup(
                final,
                "full",
                None,
                taken_at_ns,
                held,
                record.first_sequence,
                (written, summed(os.path.join(unfinished, files.SEAL)), *saved),
            )
            finish(unfinished, final, backup)
        progress(2 * used, 2 * used)
        return BackupReport(backup, written=True)

    def _states(self, unfinished: str) -> list[BackupFile]:
        """What ``db.snapshots`` has saved: with the beginning of the log archived, or dropped, it may be all that is left of
        it."""
        pairs = states.whole(states.of_engine(self._engine), self._engine.created.uuid)
        first = next(pairs, None)
        if first is None:
            return []
        file = self._write(unfinished, STATES_FILE, chain((first,), pairs))
        self._reread(unfinished, file)
        return [file]

    def _examined(self, unfinished: str, progress: Progress) -> Held:
        try:
            return examine_copy(unfinished, progress)[0]
        except CorruptedStore as exc:
            raise self._damaged(exc.message.removeprefix(f"{unfinished}: ")) from None

    def _damaged(self, what: str) -> CorruptedStore:
        path = self._engine.path
        return CorruptedStore(
            f"{path} is damaged, and was not backed up: {what}. Look at it with varve.ops.verify", path=path
        )

    def _reread(self, unfinished: str, written: BackupFile) -> None:
        if summed(os.path.join(unfinished, written.name)) != written:
            raise damaged(unfinished, f"{written.name} does not read as it was written: look at the disk")

    # -- incremental -------------------------------------------------------------------------------

    def _incremental(self, snapshot: Snapshot, newest: Backup, taken_at_ns: int) -> BackupReport:
        first, stop = newest.next_sequence, snapshot.next_sequence
        if snapshot.record.first_sequence > first:
            raise BackupMismatch(
                f"the events {first} to {snapshot.record.first_sequence - 1} came since the newest backup and are no longer "
                "in the store; make a full backup",
                path=self._path,
            )
        sides = {name: snapshot.side_items(name) for name in SIDES}
        sides = {name: pairs for name, pairs in sides.items() if pairs or name in newest.tables}
        tables = {name: digest_of(self._sound(name, pairs)) for name, pairs in sides.items()}
        if stop == first and tables == newest.tables:
            return BackupReport(newest, written=False)
        with new_backup(self._path, self._entries, "incremental") as (unfinished, final):
            walk = Walk(first)
            written = [self._write(unfinished, file_of(LOG), self._log(snapshot, walk, newest, stop))]
            written += [self._write(unfinished, file_of(name), iter(pairs)) for name, pairs in sides.items()]
            held = Held(
                snapshot.record,
                walk.content.hexdigest(),
                newest.last_commit if walk.last is None else last_commit(walk.last),
                numbers_in(snapshot),
                tables,
            )
            backup = self._backup(final, "incremental", newest, taken_at_ns, held, first, tuple(written))
            self._check(unfinished, backup)
            finish(unfinished, final, backup)
        return BackupReport(backup, written=True)

    def _sound(self, name: str, pairs: list[Pair]) -> list[Pair]:
        wrong = unreadable_record(name, pairs)
        if wrong is not None:
            raise self._damaged(f"the table {name} holds a damaged record under the key {wrong.hex()}")
        return pairs

    def _log(self, snapshot: Snapshot, walk: Walk, newest: Backup, stop: int) -> Iterator[Pair]:
        """The log from the end of the backup before on: its last block may have grown since, and is cut there.

        Raises ``BackupMismatch`` where it cannot be read behind that backup, since a number that it uses was declared before the
        end of that, but is not in it: compacting puts a type of its own where the first gap is.
        """
        numbers = newest.numbers
        numbering = Numbering((numbers.names, numbers.types, numbers.streams))
        at = first = newest.next_sequence
        before = 0
        while at < stop:
            block = snapshot.block(at, copy=True)
            frame = cut(block, at - block.first, block.count) if block.first < at else bytes(block.data)
            key = keys.log_key(at)
            try:
                continues = numbering.feed(walk.feed(key, frame))
            except UNREADABLE as exc:
                raise self._damaged(str(exc)) from None
            if not continues:
                raise self._rewritten()
            yield key, frame
            before += len(frame)
            at = block.end
            # How long the rest is nobody knows: as long as what came so far, for each event.
            self._progress(before, 2 * before * (stop - first) // (at - first))
        if numbering.counts != counts_of(snapshot.record):
            raise self._rewritten()

    def _rewritten(self) -> BackupMismatch:
        return BackupMismatch(
            f"what the store held when the newest backup in {self._path} was taken was written anew since (it was compacted): an "
            "incremental backup cannot continue it. Make a full backup, into this folder or into one of its own",
            path=self._path,
        )

    def _write(self, unfinished: str, name: str, pairs: Iterator[Pair]) -> BackupFile:
        file = Summed(os.path.join(unfinished, name))
        try:
            file.write(MAGIC)
            for key, value in pairs:
                file.write(encode_pair(key, value))
            return file.done()
        finally:
            file.close()

    def _check(self, unfinished: str, backup: Backup) -> None:
        """Read back what was written, before it gets its name."""
        for file in backup.files:
            self._reread(unfinished, file)
        walk = Walk(backup.first_sequence)
        try:
            for key, frame in read_pairs(os.path.join(unfinished, file_of(LOG))):
                walk.feed(key, frame)
        except UNREADABLE as exc:
            raise damaged(unfinished, f"{exc}: look at the disk") from None
        total = max(1, backup.size_bytes)
        self._progress(2 * total, 2 * total)

    # -- both --------------------------------------------------------------------------------------

    def _backup(
        self,
        final: str,
        kind: BackupKind,
        newest: Backup | None,
        taken_at_ns: int,
        held: Held,
        first: int,
        written: tuple[BackupFile, ...],
    ) -> Backup:
        covers = [Cover("store", (LOG, *SIDES), taken_at_ns)]
        if any(file.name == STATES_FILE for file in written):
            covers.append(Cover(files.SNAPSHOTS, (states.PART,), taken_at_ns))
        return Backup(
            path=final,
            kind=kind,
            id=uuid.uuid4().hex,
            continues=None if newest is None else newest.id,
            continues_sha256=None if newest is None else newest.manifest_sha256,
            store_uuid=uuid.UUID(bytes=held.record.uuid),
            store_format=FORMAT_VERSION,
            first_sequence=first,
            next_sequence=held.record.next_sequence,
            last_commit=held.last_commit,
            numbers=held.numbers,
            content_digest=held.content_digest,
            tables=held.tables,
            covers=tuple(covers),
            files=written,
            varve_version=_version(),
        )


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # slow to load

    try:
        return version("varve-store")
    except PackageNotFoundError:
        return "unknown"


def _nobody(done: int, total: int) -> None:
    """Nobody looks."""
