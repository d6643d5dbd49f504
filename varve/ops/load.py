"""A log out of a file into a store: events at their positions, with commits, times, keys and metadata as they were."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import chain

from varve import limits
from varve.engine import files
from varve.engine.core import Engine
from varve.engine.request import AppendRequest, CommitRequest
from varve.errors import ImportConflict, InvalidInput, MalformedDump, MalformedEvent
from varve.layout import keys
from varve.ops.dump import DumpFile
from varve.ops.jsonl import JsonLines
from varve.ops.log import Piece, store_pieces
from varve.ops.parity import Lockstep, log_file
from varve.ops.transport import Input, SourceFile, reading
from varve.ops.verify import Progress

__all__ = ["LoadReport", "load", "open_target"]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What an import came to."""

    events: int
    """Events that were written."""
    commits: int
    """Commits that were written."""
    present: int
    """Events that the store held already, compared and found equal."""
    digest: str | None
    """The digest of the log, where the file was a dump: what ``varve.ops.digest`` says of the store now."""


def load(path: str | os.PathLike[str], source: SourceFile, *, progress: Progress | None = None) -> LoadReport:
    """Import a dump or a JSON lines export into the store in the folder ``path``, which this process does not hold open.

    Positions, commits, times, idempotency keys and metadata are those of the file, events of a dump byte for byte. A store that
    is made now gets the uuid and the creation time of the one that the file was made of: it is a copy of the same log. An
    empty store keeps its own. A store that holds the beginning of the log is compared with it, event by event, and goes on
    behind: so an import that was cut off is finished by doing it again. Any other is refused.

    Each event is verified before it is written. Write transactions are of bounded size (``IMPORT_COMMITS_MAX``,
    ``IMPORT_BYTES_MAX``, or one commit) and durable one after the other. Of a file that is damaged or ends too early, the
    transactions before the damage stay and nothing from there on is written. Nobody else may write meanwhile.

    ``source``: a path or an open binary file, compressed by gzip or not. ``progress`` is called with bytes of the file read
    and in all (0 where that is not known). Memory grows with the number of streams, by about 300 bytes each, and with the
    largest commit.

    Raises ``MalformedDump``, ``ImportConflict`` (the store holds something else), ``InvalidInput`` (a file that is neither, or a
    part of a log that cannot be placed), ``UnsupportedFormat``, and what ``varve.open`` and appends raise.
    """
    folder = files.folder(path)
    with reading(source) as given:
        log = log_file(given)
        if log is None:
            raise InvalidInput(
                f"{given.name} is neither a dump nor an export of Varve; of a file of other origin, say which stream and ids its "
                "rows are of"
            )
        start = _start_of(log, given)
        if start and not os.path.lexists(folder):
            raise InvalidInput(
                f"{given.name} begins at global sequence {start} and continues a store; there is none at {folder}"
            )
        pieces = log.pieces()
        first = next(pieces, None)  # before the store is made: of a file that begins with damage nothing shall be left
        engine = open_target(folder, (log.uuid, log.created_at_ns))
        try:
            loading = _Loading(engine, given, progress)
            rest = loading.behind_what_is_there(chain(() if first is None else (first,), pieces), start, log)
            loading.all(rest)
        finally:
            engine.release()
        digest = log.report.digest if isinstance(log, DumpFile) and log.report is not None else None
        return LoadReport(loading.events, loading.commits, loading.present, digest)


def open_target(folder: str, identity: tuple[bytes, int] | None = None) -> Engine:
    """The store that is imported into, made where there is none."""
    return Engine(
        folder,
        readonly=False,
        durability="full",
        map_bytes=limits.MAP_BYTES,
        allow_network=False,
        clock=time.time_ns,
        identity=identity,
    )


def _start_of(log: DumpFile | JsonLines, given: Input) -> int:
    """The global sequence at which a file begins. Raises ``InvalidInput`` where its events cannot be placed."""
    if isinstance(log, DumpFile):
        return 0
    if log.selection.has_gaps:
        raise InvalidInput(
            f"{given.name} holds some streams or types of a log only: its events cannot be given their positions. Export "
            "without streams and types"
        )
    return log.selection.start


class _Loading:
    """One import."""

    def __init__(self, engine: Engine, given: Input, progress: Progress | None) -> None:
        self._engine = engine
        self._given = given
        self._progress = progress
        self.events = self.commits = self.present = 0
        self._next = 0

    def _told(self) -> None:
        if self._progress is not None:
            self._progress(self._given.done_bytes(), self._given.total_bytes)

    def _conflict(self, what: str, sequence: int) -> ImportConflict:
        return ImportConflict(
            f"{self._engine.path} holds something else than {self._given.name}: {what}. Nothing was written; "
            "import into a new store",
            global_sequence=sequence,
        )

    def behind_what_is_there(self, pieces: Iterator[Piece], start: int, log: DumpFile | JsonLines) -> Iterator[Piece]:
        """What the store does not have. Raises ``ImportConflict``."""
        with self._engine.snapshot() as snapshot:
            self._next = snapshot.next_sequence
        if self._next < start:
            raise self._conflict(f"it ends at {self._next}, the file begins at {start}", self._next)
        if start and self._engine.created.uuid != log.uuid:
            raise self._conflict("it is another store than the one that the file continues", start)
        if self._next == start:
            following = next(pieces, None)
            return iter(()) if following is None else self._from_a_beginning(following, pieces)
        lockstep = Lockstep(store_pieces(self._engine, start, self._next), pieces)
        found = lockstep.difference(lambda _: self._told())
        if found is None:
            self.present = self._next - start
            return iter(())
        if found.what != "end" or found.global_sequence != self._next or found.left != "the log ends":
            raise self._conflict(f"{found} (the store is the first, the file the second)", found.global_sequence)
        self.present = self._next - start
        rest = lockstep.rest(1)
        return self._from_a_beginning(next(rest), rest)

    def _from_a_beginning(self, following: Piece, rest: Iterator[Piece]) -> Iterator[Piece]:
        """What comes behind the store's end, which must be the beginning of a commit: what is there is never made longer.
        Raises ``ImportConflict``."""
        if following.commit.first_sequence != following.sequence:
            raise self._conflict(
                f"its commit at {following.commit.first_sequence} ends at {self._next}, in the file it goes on",
                self._next,
            )
        return chain((following,), rest)

    def all(self, pieces: Iterable[Piece]) -> None:
        """Write them."""
        batch: list[tuple[CommitRequest, list[Piece]]] = []
        size = 0
        self._told()
        for commit in commits_of(pieces):
            request = request_of(commit, self._malformed)
            if batch and (size + request.payload_bytes > limits.IMPORT_BYTES_MAX):
                self._write(batch)
                batch, size = [], 0
            batch.append((request, commit))
            size += request.payload_bytes
            if len(batch) == limits.IMPORT_COMMITS_MAX:
                self._write(batch)
                batch, size = [], 0
        if batch:
            self._write(batch)

    def _malformed(self, piece: Piece, index: int, what: str) -> MalformedDump:
        where = "" if piece.line is None else f", line {piece.line + index}"
        return MalformedDump(
            f"{self._given.name}{where}: the event at global sequence {piece.sequence + index}: {what}; nothing from its "
            "transaction on was imported",
            path=self._given.name,
            line=None if piece.line is None else piece.line + index,
        )

    def _write(self, batch: list[tuple[CommitRequest, list[Piece]]]) -> None:
        """One write transaction."""
        with self._engine.session() as session:
            if session.record.next_sequence != self._next:
                raise ImportConflict(
                    f"somebody else wrote to {self._engine.path} meanwhile: it ends at {session.record.next_sequence} now, "
                    f"not at {self._next}. Import into a store that nobody else uses",
                    global_sequence=self._next,
                )
            expected = self._next
            for request, commit in batch:
                committed = session.apply(request)
                if committed.replayed:
                    raise self._malformed(commit[0], 0, f"the idempotency key {request.key!r} was used before")
                self._check_places(commit, [segment for segments in committed.segments for segment in segments])
                expected += sum(len(piece.events) for piece in commit)
            session.commit()
        self.events += expected - self._next
        self.commits += len(batch)
        self._next = expected
        self._told()

    def _check_places(self, commit: list[Piece], segments: list[tuple[int, int, int]]) -> None:
        """Whether events got the places that the file says."""
        at = 0
        done = 0
        for piece in commit:
            first, sequence, count = segments[at]
            if (piece.stream_sequence, piece.sequence) != (first + done, sequence + done):
                raise self._malformed(
                    piece, 0, f"its stream sequence is {first + done}, not {piece.stream_sequence}, as the file says"
                )
            done += len(piece.events)
            if done == count:
                at += 1
                done = 0


def commits_of(pieces: Iterable[Piece]) -> Iterator[list[Piece]]:
    """Pieces, commit by commit."""
    commit: list[Piece] = []
    for piece in pieces:
        if commit and piece.commit.first_sequence != commit[0].commit.first_sequence:
            yield commit
            commit = []
        commit.append(piece)
    if commit:
        yield commit


def request_of(commit: list[Piece], malformed: Callable[[Piece, int, str], MalformedDump]) -> CommitRequest:
    """A commit as the engine takes it, every event of a dump verified."""
    head = commit[0].commit
    appends: list[AppendRequest] = []
    last: Piece | None = None
    run: list[bytes] = []
    for piece in commit:
        size = sum(map(len, piece.events))
        if piece.line is None:  # lines were looked at one by one
            verify_events(piece, malformed)
        same = last is not None and last.stream == piece.stream and last.metadata == piece.metadata
        if same:
            append = appends[-1]
            append.payload_bytes += size
        else:
            append = AppendRequest(piece.stream, None, [], piece.metadata, payload_bytes=size)
            appends.append(append)
        if same and last is not None and last.id_key == piece.id_key and last.type is piece.type:
            run += piece.events
        else:
            run = list(piece.events)
            append.parts.append((piece.id_key, piece.type, run))
        last = piece
    key = None if head.token is None else keys.decode_idempotency_key(head.token)
    return CommitRequest(appends, head.token, key, head.digest, recorded_ns=head.time_ns, moved=True)


def verify_events(piece: Piece, malformed: Callable[[Piece, int, str], MalformedDump]) -> None:
    """Whether a piece's events are valid ones of their type."""
    verify = piece.type.compiled.verify
    for index, event in enumerate(piece.events):
        try:
            verify(event)
        except MalformedEvent as exc:
            raise malformed(piece, index, exc.message) from None
