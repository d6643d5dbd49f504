"""Archives: the beginning of a log moved into a store of its own.

Three steps, each of which can be cut off. The archive is written under a temporary name, sealed, read back and verified, and
named: until then nothing of the store has changed. One commit then takes what was archived out of the store (``engine.horizon``).
Whoever was cut off between the two asks again: an archive that is there already, of this very stretch of this very store, is
verified and used.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from varve import limits
from varve.engine import files
from varve.engine.checked import corrupted
from varve.engine.core import Engine
from varve.engine.examine import examine
from varve.engine.fresh import FreshStore
from varve.engine.seal import Seal, write_seal
from varve.engine.snapshot import Snapshot
from varve.errors import ConsumersBehind, InvalidInput
from varve.layout import consumers, dead_letters, keys
from varve.layout.base import TABLE, Base, decode_base
from varve.layout.content import ContentDigest
from varve.layout.derive import Derivation
from varve.layout.frame import MalformedBlock
from varve.tailing.positions import read

Progress = Callable[[int, int], None]
"""Called with events done and in all."""


@dataclass(frozen=True, slots=True)
class ArchiveReport:
    """What was archived."""

    path: str
    """The archive, a sealed store; empty where there was nothing to archive."""
    first_sequence: int
    """The first global sequence in it."""
    next_sequence: int
    """The global sequence behind its last one, at which the store begins from now on."""
    blocks: int
    """Blocks of the log that were moved."""

    @property
    def events(self) -> int:
        """Events that were moved."""
        return self.next_sequence - self.first_sequence


def archive(
    engine: Engine, before: int, to: str | os.PathLike[str], *, force: bool = False, progress: Progress | None = None
) -> ArchiveReport:
    """See ``Varve.archive``."""
    if isinstance(before, bool) or not isinstance(before, int) or before < 0:
        raise InvalidInput(f"before is a global sequence, not {before!r}")
    target = str(Path(files.folder(to, "the archive's path")).absolute())
    engine.check_writable()
    if files.holds(engine.path, target):
        raise InvalidInput(f"{target} lies in the store itself; name a folder elsewhere")
    first, horizon = _bounds(engine, before)
    if horizon <= first:
        return ArchiveReport("", first, first, 0)
    behind = partial(_check_consumers, engine.path, horizon) if not force else _nobody
    with engine.side_snapshot(consumers.TABLE) as snapshot:
        behind(snapshot.side_items(consumers.TABLE))
    if not force:
        _check_letters(engine, horizon)
    old = read_base(engine)
    moving = _Moving(engine, Derivation(old), horizon, progress or _nothing)
    if os.path.lexists(os.path.join(target, files.DATA)):  # noqa: PTH118 - as the engine names it
        moving.check_done(target)
    else:
        moving.write(target)
    base = moving.derivation.base()
    assert base is not None  # it has a block
    engine.move_horizon(base, old, behind)  # who looks once more: a consumer may have come, or gone back
    return ArchiveReport(target, first, horizon, moving.blocks)


def _nothing(done: int, total: int) -> None:
    """Nobody looks."""


def _bounds(engine: Engine, before: int) -> tuple[int, int]:
    """Where the store begins, and where it shall begin: the beginning of a block. The last one stays, whatever is asked for."""
    with engine.snapshot() as snapshot:
        first, end = snapshot.first_sequence, snapshot.next_sequence
        if before > end:
            raise InvalidInput(f"the log has {end} events; before={before} lies in the future")
        if before <= first:
            return first, first
        return first, snapshot.copied_block(min(before, end - 1)).first


def _check_consumers(path: str, horizon: int, pairs: list[tuple[bytes, bytes]]) -> None:
    """Whether everybody has read so far. Raises ``ConsumersBehind``."""
    behind = []
    for key, value in pairs:
        name = consumers.consumer_name(key)
        record = None if name is None else read(path, name, value)
        if name is not None and record is not None and record.position < horizon:
            behind.append((record.position, name))
    if behind:
        behind.sort()
        position, first = behind[0]
        raise ConsumersBehind(
            f"{path}: {len(behind)} consumers have not read yet what shall be archived up to {horizon} (the furthest behind is "
            f"{first!r}, at {position}). Let them catch up, delete those that nobody runs, or force it",
            names=tuple(name for _, name in behind),
            position=position,
        )


def _check_letters(engine: Engine, horizon: int) -> None:
    """Whether no dead letter is of an event that would be archived. Raises ``ConsumersBehind``. (Processors make none there once
    their positions are behind the horizon, which the commit that moves it looks at again.)"""
    with engine.side_snapshot(dead_letters.TABLE) as snapshot:
        pairs = snapshot.side_items(dead_letters.TABLE, dead_letters.letters_prefix())
    behind = []
    for key, _ in pairs:
        name, sequence = dead_letters.decode_key(key)
        if sequence is not None and sequence < horizon:
            behind.append((sequence, name))
    if behind:
        position, first = min(behind)
        raise ConsumersBehind(
            f"{engine.path}: {len(behind)} dead letters are of events that shall be archived up to {horizon} (the first is at "
            f"{position}, of processor {first!r}). Retry or drop them, or force it: they cannot be retried then",
            names=tuple(sorted({name for _, name in behind})),
            position=position,
        )


def _nobody(_pairs: list[tuple[bytes, bytes]]) -> None:
    """Whoever is behind is left behind."""


def read_base(engine: Engine) -> Base | None:
    """What earlier archives have left; None where nothing was archived. Raises ``CorruptedStore``."""
    with engine.side_snapshot(TABLE) as snapshot:
        return base_at(snapshot)


def base_at(snapshot: Snapshot) -> Base | None:
    """The same, as of an instant in which side tables can be read."""
    return decode_base(snapshot.side_items(TABLE)) if snapshot.first_sequence else None


class _Moving:
    """The blocks up to a new horizon, on their way."""

    def __init__(self, engine: Engine, derivation: Derivation, horizon: int, progress: Progress) -> None:
        self._engine = engine
        self.derivation = derivation
        self.blocks = 0
        self._first = derivation.next_sequence
        self._horizon = horizon
        self._progress = progress
        self._content = ContentDigest(self._first)

    def write(self, target: str) -> None:
        """Write the archive, seal it, verify it, name it."""
        old = self.derivation.base() if self._first else None
        with FreshStore(target) as fresh:
            fresh.put("log", self._frames())
            fresh.put("index", self.derivation.index_pairs())
            fresh.put("meta", self.derivation.meta_pairs())
            if old is not None:
                fresh.put(TABLE, old.pairs())
            fresh.close()
            self._seal(fresh)
            examine(fresh.unfinished)
            fresh.finish()

    def _seal(self, fresh: FreshStore) -> None:
        seal = Seal(
            self._engine.created.uuid, self._first, self._horizon, self._content.hexdigest(), self._engine.clock()
        )
        try:
            write_seal(fresh.unfinished, seal)
        except OSError as exc:
            raise files.unavailable(fresh.target, exc) from exc

    def check_done(self, target: str) -> None:
        """Whether an archive that is there already is the one that was asked for: block for block. Raises ``InvalidInput``."""
        examine(target)
        other = Engine(
            target, readonly=True, durability="full", map_bytes=limits.MAP_BYTES, allow_network=True, clock=time.time_ns
        )
        try:
            with other.snapshot() as snapshot:
                if (snapshot.first_sequence, snapshot.next_sequence) != (self._first, self._horizon):
                    raise self._another(target)
                for key, frame in self._frames():
                    if bytes(snapshot.copied_block(keys.log_sequence(key)).data) != frame:
                        raise self._another(target)
        finally:
            other.release()

    def _another(self, target: str) -> InvalidInput:
        return InvalidInput(
            f"{target} exists, and is no archive of the events {self._first} to {self._horizon - 1} of this store; name a folder "
            "that does not exist"
        )

    def _frames(self) -> Iterator[tuple[bytes, bytes]]:
        """Keys and frames of the log, each checked and fed to the derivation. No snapshot is held for long."""
        total = self._horizon - self._first
        for block in self._engine.sound_blocks(self._first, self._horizon):
            try:
                self.derivation.feed(block)
                self._content.feed(block)
            except MalformedBlock as exc:
                raise corrupted(self._engine.path, block.first, str(exc)) from None
            yield keys.log_key(block.first), bytes(block.data)
            self.blocks += 1
            self._progress(block.end - self._first, total)
