"""What can be read of a damaged store, and a plan of the log that is made of it.

A block is taken where its checksum, its shape and its key agree. What is missing between blocks keeps its place: every
lost sequence is planned for a stand-in, so that whatever survived keeps its global and its stream sequence. Which stream a
lost event belonged to follows from the stream sequences of what stands behind it, and from the index where that can be read;
where neither tells, it goes to a stream of its own (``LOST_STREAM``).

Blocks whose tree is damaged above them are found by looking through the pages that no tree reaches and that are not free:
LMDB never overwrites a page of its last commit, so what stands there belongs to it. Free pages hold older states, and
commits that never came to be; nothing is taken from them, unless it cannot be told any more which pages are free. The report
says so then.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from varve import limits
from varve.codec import event_type_from_schema
from varve.engine import files
from varve.engine.instant import Instant
from varve.engine.pages import DamagedPage, PageFile, Tree
from varve.layout import consumers, keys
from varve.layout.base import Base
from varve.layout.block import Block
from varve.layout.frame import MalformedBlock, crc_holds
from varve.layout.records import (
    IdempotencyRecord,
    StoreRecord,
    TypeRecord,
    decode_idempotency,
    decode_name_number,
    decode_numbers,
    decode_store_record,
    decode_stream,
    decode_stream_number,
    decode_type,
)
from varve.layout.runs import decode_runs
from varve.ops.verify import CONSUMERS, INDEX, LOG, META, UNREADABLE

LOST_STREAM = ("varve.lost", 0)
"""Name and id of the stream of lost events whose stream is not known."""

UNKNOWN_STREAM = "varve.unknown"
"""Name of streams whose declaration is lost; their ids are the numbers that they had."""


_EVENT_BYTES_MIN = 12  # of payload and end, in a block


class Identity(NamedTuple):
    """Which stream."""

    name: str
    id_key: bytes


LOST = Identity(LOST_STREAM[0], keys.encode_stream_id(LOST_STREAM[1]))


class Piece(NamedTuple):
    """A block that can be read: its sequences, where its frame stands in the file, its runs (stream, first stream sequence,
    first global sequence, count), and the idempotency keys of its commits."""

    first: int
    end: int
    at: int
    length: int
    runs: tuple[tuple[int, int, int, int], ...]
    tokens: tuple[bytes, ...]


class Lost(NamedTuple):
    """Consecutive lost sequences of one stream."""

    first: int
    events: int
    stream: int | None
    """The stream's number in the damaged store; None where nothing tells it."""
    exact: bool
    """Whether they stood just there. Otherwise the stream lost so many events somewhere in these gaps."""

    @property
    def end(self) -> int:
        """The sequence behind them."""
        return self.first + self.events


class Remains:
    """What can be read of a store.

    Attributes: ``pieces`` (blocks in order, none overlapping), ``next_sequence`` (the end of the log, as far as it can be
    known), ``notes`` (what was found on the way), ``record`` (the store's record, if readable), ``consumers`` (pairs).
    ``looked`` is called meanwhile: the sequence behind the last block that was looked at, and the log's end as far as it is
    known.
    """

    def __init__(
        self,
        instant: Instant,
        base: Base | None = None,
        looked: Callable[[int, int], None] = lambda _done, _total: None,
    ) -> None:
        self._looked = looked
        self._first = 0 if base is None else base.horizon
        self.file: PageFile = instant.file
        self.notes: list[str] = []
        self._damaged_meta = instant.damage is not None
        self.notes += [
            f"{damage} (a meta page)" for damage in (instant.damage, instant.misnumbered) if damage is not None
        ]
        trees = dict(self.file.readable_tables(self._note))
        for name in files.DATABASES:
            if name not in trees:
                self.notes.append(f"the sub-database {name.decode()} cannot be found")
        meta = self._readable(trees.get(META))
        self._index = self._readable(trees.get(INDEX))
        self.consumers = self._readable(trees.get(CONSUMERS))
        self.record = _record(meta)
        self._types: dict[int, TypeRecord] = {}
        self._streams: dict[int, tuple[int, bytes]] = {}
        self._names: dict[int, str] = {}
        self._keys: dict[int, tuple[bytes, IdempotencyRecord]] = {}
        self._tokens: set[bytes] = set()
        self._lengths: dict[int, tuple[int, int]] = {}
        """Events of each stream that were archived, and the horizon."""
        self._witness(meta)
        if base is not None:
            self._begin(base)
        self.pieces = self._pieces(trees.get(LOG))
        self.next_sequence = self.pieces[-1].end if self.pieces else self._first
        if self.record is None:
            self.notes.append("the store's record cannot be read: there may have been events behind the last block")
        elif self.record.next_sequence > self.next_sequence:
            self._believe(self.record.next_sequence)

    def _begin(self, base: Base) -> None:
        """What was archived is known for certain."""
        self._names.update(enumerate(base.names))
        self._types.update(enumerate(base.types))
        for number, (name_number, id_key, position, runs) in enumerate(base.streams):
            self._streams[number] = name_number, id_key
            self._lengths[number] = position + sum(count for _, count in runs), base.horizon
        for token, known in base.keys.items():
            self._keys[known.first_sequence] = token, known

    def _can_have_held(self, events: int) -> bool:
        """Whether so many events can have been in the file."""
        pages = max(self.file.meta.last_page + 1, self.file.size // limits.PAGE_BYTES)
        return events * _EVENT_BYTES_MIN <= pages * limits.PAGE_BYTES

    def _believe(self, next_sequence: int) -> None:
        """The log went on until here, if so many events can have been in the file."""
        if self._can_have_held(next_sequence - self.next_sequence):
            self.next_sequence = next_sequence
        else:
            self.notes.append(f"the store's record says {next_sequence} events, which the file cannot have held")

    def _note(self, damage: DamagedPage) -> None:
        if len(self.notes) < limits.FINDINGS_MAX:
            self.notes.append(str(damage))

    def _readable(self, tree: Tree | None) -> dict[bytes, bytes]:
        return {} if tree is None else dict(self.file.readable(tree, self._note))

    # -- blocks ------------------------------------------------------------------------------------

    def _pieces(self, log: Tree | None) -> list[Piece]:
        found: dict[int, Piece] = {}
        said = 0 if self.record is None else self.record.next_sequence
        total = said if self._can_have_held(said - self._first) else 0
        self._looked(0, total)
        for key, frame, at in self.file.places(log, self._note) if log is not None else ():
            block = self._block(frame)
            if block is not None and self._can_have_held(block.end - self._first):
                self._looked(block.end, total)
            if block is not None and key == keys.log_key(block.first):
                found[block.first] = self._piece(block, at)
            else:
                first = keys.log_sequence(key) if len(key) == 8 else key.hex()
                self.notes.append(f"the block at {first} is damaged")
        if self.notes:  # nothing is missing from a tree without damage
            self._look_elsewhere(found)
        pieces: list[Piece] = []
        for _, piece in sorted(found.items()):
            end = pieces[-1].end if pieces else self._first
            if piece.first < end:
                self.notes.append(f"the block at {piece.first} begins before the last one ends")
            elif not self._can_have_held(piece.first - end):
                self.notes.append(
                    f"the block at {piece.first} was left out: the file cannot have held what is missing before it"
                )
            else:
                pieces.append(piece)
        if self._damaged_meta and pieces:
            self._continue(pieces)
        return pieces

    def _look_elsewhere(self, found: dict[int, Piece]) -> None:
        """Find the blocks below damaged pages."""
        try:
            values = self.file.unaccounted_values()
        except DamagedPage as exc:
            self.notes.append(
                f"the list of free pages is damaged ({exc}): blocks were taken from pages that may be older than the last "
                "commit, or of a commit that was cut off"
            )
            values = self.file.all_values()
        elsewhere: dict[int, tuple[int, int, int, int]] = {}
        for frame, at in values:
            block = self._block(frame)
            if block is not None and block.first not in found:
                candidate = (block.end, block.last_time_ns, at, len(block.data))
                elsewhere[block.first] = max(candidate, elsewhere.get(block.first, candidate))
        # What a tree leads to has the better claim to its sequences.
        taken = sorted((piece.first, piece.end) for piece in found.values())
        starts = [first for first, _ in taken]
        count = 0
        for first, (end, _, at, length) in elsewhere.items():
            before = bisect_left(starts, first)
            if (before and taken[before - 1][1] > first) or (before < len(taken) and starts[before] < end):
                continue
            block = self._block(self.file.at(at, length))
            if block is not None:
                found[first] = self._piece(block, at)
                count += 1
        if count:
            self.notes.append(f"{count} blocks were found that no readable page leads to")

    def _continue(self, pieces: list[Piece]) -> None:
        """Behind a damaged meta page there may have been one commit more than the other one knows: its blocks stand in pages that
        are free for it, or behind its last one. They go on where the log ends, or are its last block, grown."""
        later: dict[int, tuple[int, Block, int]] = {}
        for frame, at in self.file.all_values():
            block = self._block(frame)
            if block is not None and block.end > pieces[-1].end:
                candidate = (block.end, block, at)
                later[block.first] = max(candidate, later.get(block.first, candidate), key=lambda one: one[0])
        last = self.block(pieces[-1])
        grown = later.pop(last.first, None)
        if grown is not None and bytes(grown[1].payload()[: len(last.payload())]) == bytes(last.payload()):
            pieces[-1] = self._piece(grown[1], grown[2])
        while (following := later.get(pieces[-1].end)) is not None:
            pieces.append(self._piece(following[1], following[2]))
        if pieces[-1].end > last.end:
            self.notes.append(
                f"the events from {last.end} to {pieces[-1].end - 1} are of a commit that only the damaged meta page knew: "
                "acknowledged perhaps, perhaps cut off"
            )
        else:
            self.notes.append(f"a last commit, from {last.end} on, may be lost with the damaged meta page")

    @staticmethod
    def _block(frame: bytes) -> Block | None:
        """The block in a frame, or at the beginning of pages that hold a frame; None where there is none."""
        try:
            if not crc_holds(frame):
                block = Block(memoryview(frame))
                frame = frame[: block.payload_at + len(block.payload())]
                if not crc_holds(frame):
                    return None
            block = Block(memoryview(frame))
            block.check()
        except UNREADABLE:
            return None
        return block

    def _piece(self, block: Block, at: int) -> Piece:
        """Remember a block, and what it declares."""
        tokens: tuple[bytes, ...] = ()
        if not block.is_plain:
            self._names.update(block.declared_names())
            self._types.update((number, TypeRecord(name, schema)) for number, name, schema in block.declared_types())
            self._streams.update((number, (name, key)) for number, name, key in block.declared_streams())
            tokens = tuple(token for _, token, _ in block.commit_keys())
        runs = []
        first = block.first
        for run in block.runs:
            runs.append((run.stream, run.first_stream_sequence, first, run.count))
            first += run.count
        return Piece(block.first, block.end, at, len(block.data), tuple(runs), tokens)

    def block(self, piece: Piece) -> Block:
        """A block again. Raises ``MalformedBlock`` where the file changed."""
        frame = self.file.at(piece.at, piece.length)
        if not crc_holds(frame):
            raise MalformedBlock(f"the block at {piece.first} changed while it was read")
        return Block(memoryview(frame))

    # -- declarations ------------------------------------------------------------------------------

    def _witness(self, meta: dict[bytes, bytes]) -> None:
        """What the metadata says of names, types, streams and keys: asked only where the log's own word is lost. Metadata has no
        checksums: a record is believed where the one that looks it up the other way says the same."""
        for key, value in meta.items():
            try:
                if not self._believe_record(meta, key[:1], key[1:], value):
                    self.notes.append(f"the metadata record {key[:40].hex()} contradicts another one")
            except UNREADABLE:
                self.notes.append(f"the metadata record {key[:40].hex()} is damaged")

    def _believe_record(self, meta: dict[bytes, bytes], tag: bytes, rest: bytes, value: bytes) -> bool:
        number = int.from_bytes(rest, "big")
        if tag == b"\x01" and len(rest) == 2:
            name = keys.check_name(value.decode())
            if decode_name_number(meta.get(keys.name_lookup_key(name), b"")) != number:
                return False
            self._names[number] = name
        elif tag == b"\x03" and len(rest) == 2:
            declared = decode_type(value)
            if number not in decode_numbers(meta.get(keys.type_lookup_key(declared.name), b"")):
                return False
            event_type_from_schema(declared.schema)
            self._types[number] = declared
        elif tag == b"\x06" and len(rest) == 4:
            name_number, id_key = decode_stream(value)
            if decode_stream_number(meta.get(keys.stream_lookup_key(name_number, id_key), b"")) != number:
                return False
            self._streams[number] = name_number, id_key
        elif tag == b"\x07":
            if not is_token(rest):
                return False
            record = decode_idempotency(value)
            self._keys[record.first_sequence] = rest, record
        return True

    def type(self, number: int) -> TypeRecord | None:
        """A declared event type; None where its declaration is lost."""
        return self._types.get(number)

    def identity(self, number: int) -> Identity:
        """Which stream a number means."""
        name_number, id_key = self._streams.get(number, (-1, b""))
        name = self._names.get(name_number)
        try:
            keys.decode_stream_id(id_key)
            keys.check_name(name or "")
        except UNREADABLE:
            return Identity(UNKNOWN_STREAM, keys.encode_stream_id(number))
        return Identity(str(name), id_key)

    def has_identity(self, number: int) -> bool:
        """Whether it is known which stream a number means."""
        return self.identity(number).name != UNKNOWN_STREAM

    def lost_key(self, first: int) -> tuple[bytes, IdempotencyRecord] | None:
        """Token and record of an idempotency key whose commit began at a lost sequence."""
        found = self._keys.get(first)
        return None if found is None or found[0] in self._tokens else found

    def commit_ends(self, first: int) -> int:
        """Where the commit that began at a sequence ended, if its key tells; else where it began."""
        found = self._keys.get(first)
        return first if found is None else first + found[1].count

    def lost_commits(self, start: int, stop: int) -> set[int]:
        """Where commits with keys began and ended between two sequences."""
        edges = {first for first in self._keys if start <= first < stop}
        return {edge for edge in edges | {self.commit_ends(first) for first in edges} if start <= edge < stop}

    # -- what is lost ------------------------------------------------------------------------------

    def plan(self) -> list[Piece | list[Lost]]:
        """The whole log in order: blocks, and what is missing between them. A block that contradicts the ones before it is given
        up."""
        while True:
            gaps = list(self._gaps())
            blamed, lost = _assign(self.pieces, gaps, self._index_runs(gaps), self._lengths)
            if blamed is None:
                self._tokens = {token for piece in self.pieces for token in piece.tokens}
                parts: dict[int, Piece | list[Lost]] = {piece.first: piece for piece in self.pieces}
                lost.sort(key=lambda run: run.first)
                for first, stop in gaps:
                    low, high = (bisect_left(lost, at, key=lambda run: run.first) for at in (first, stop))
                    parts[first] = list(lost[low:high])
                return [part for _, part in sorted(parts.items())]
            self.notes.append(f"the block at {blamed.first} does not continue its streams, and was given up")
            self.pieces.remove(blamed)

    def _gaps(self) -> Iterator[tuple[int, int]]:
        at = self._first
        for piece in self.pieces:
            if piece.first > at:
                yield at, piece.first
            at = piece.end
        if self.next_sequence > at:
            yield at, self.next_sequence

    def _index_runs(self, gaps: list[tuple[int, int]]) -> list[tuple[int, int, int, int]]:
        """What the index says of lost sequences: (stream, first stream sequence, first global sequence, count)."""
        said = []
        firsts = [first for first, _ in gaps]
        for key, value in self._index.items():
            if len(key) != keys.STREAM_ENTRY_BYTES or key[0] != keys.STREAM_TAG:
                continue
            stream, position = int.from_bytes(key[1:5], "big"), keys.entry_position(key)
            try:
                runs = decode_runs(value)
            except UNREADABLE:
                self.notes.append(f"the index entry {key.hex()} is damaged")
                continue
            for first, count in runs:
                for at in range(max(0, bisect_left(firsts, first) - 1), len(gaps)):
                    start, stop = gaps[at]
                    if start >= first + count:
                        break
                    low, high = max(first, start), min(first + count, stop)
                    if low < high:
                        said.append((stream, position + low - first, low, high - low))
                position += count
        return said


def _record(meta: dict[bytes, bytes]) -> StoreRecord | None:
    record = decode_store_record(meta.get(keys.STORE_RECORD_KEY, b""))
    return None if isinstance(record, int) else record


class _Hole(NamedTuple):
    """Events of a stream that are missing between two of its runs: they stand somewhere between two global sequences."""

    low: int
    high: int
    stream: int
    first: int
    count: int  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride] - nobody calls tuple.count
    behind: Piece


def _assign(
    pieces: list[Piece],
    gaps: list[tuple[int, int]],
    said: list[tuple[int, int, int, int]],
    begun: dict[int, tuple[int, int]],
) -> tuple[Piece | None, list[Lost]]:
    """Which stream each lost sequence belonged to. A block instead that cannot stand where it does."""
    lengths = dict(begun)  # stream: events so far, the global sequence behind the last one
    holes: list[_Hole] = []
    for piece in pieces:
        for stream, first_stream_sequence, first, count in piece.runs:
            length, behind = lengths.get(stream, (0, 0))
            if first_stream_sequence < length:
                return piece, []
            if first_stream_sequence > length:
                holes.append(_Hole(behind, first, stream, length, first_stream_sequence - length, piece))
            lengths[stream] = first_stream_sequence + count, first + count
    free = _Free(gaps)
    by_stream: dict[int, list[tuple[int, int, int]]] = {}
    for stream, first_stream_sequence, first, count in sorted(said):
        by_stream.setdefault(stream, []).append((first_stream_sequence, first, count))
    lost: list[Lost] = []
    open_holes = []
    for hole in holes:
        runs = _between(by_stream.get(hole.stream, ()), hole.first, hole.first + hole.count, hole.low, hole.high)
        if runs is None or not free.take_all(runs):
            open_holes.append(hole)
        else:
            lost += [Lost(first, count, hole.stream, exact=True) for first, count in runs]
    for hole in sorted(open_holes, key=lambda hole: hole.high):
        taken = free.take(hole.low, hole.high, hole.count)
        if taken is None:
            return hole.behind, []
        lost += [Lost(first, count, hole.stream, exact=False) for first, count in taken]
    for stream, tail in by_stream.items():  # behind the last event that is left
        length, behind = lengths.get(stream, (0, 0))
        end = max(first_stream_sequence + count for first_stream_sequence, _, count in tail)
        runs = _between(tail, length, end, behind, limits.EVENTS_MAX) if end > length else None
        if runs is not None and free.take_all(runs):
            lost += [Lost(first, count, stream, exact=True) for first, count in runs]
    return None, [*lost, *(Lost(first, stop - first, None, exact=False) for first, stop in free.intervals)]


def _between(
    runs: Sequence[tuple[int, int, int]], start: int, stop: int, low: int, high: int
) -> list[tuple[int, int]] | None:
    """The places (first, count) that runs, in order, give to a stream's sequences ``start`` .. ``stop``, all of them, within the
    global sequences ``low`` .. ``high``; None where they do not."""
    found = []
    at = start
    for index in range(max(0, bisect_left(runs, (start,)) - 1), len(runs)):
        first_stream_sequence, first, count = runs[index]
        if first_stream_sequence >= stop:
            break
        if first_stream_sequence + count <= start:
            continue
        if first_stream_sequence != at or first < low or at + count > stop or first + count > high:
            return None
        found.append((first, count))
        at += count
        low = first + count
    return found if at == stop else None


class _Free:
    """Lost sequences that nobody has claimed yet."""

    def __init__(self, gaps: Iterable[tuple[int, int]]) -> None:
        self.intervals = list(gaps)

    def take_all(self, runs: list[tuple[int, int]]) -> bool:
        """Claim these runs (first, count), none of which overlap, or none of them."""
        for first, count in runs:
            at = self._at(first)
            if at < 0 or first + count > self.intervals[at][1]:
                return False
        for first, count in runs:
            at = self._at(first)
            start, stop = self.intervals[at]
            self.intervals[at : at + 1] = [
                part for part in ((start, first), (first + count, stop)) if part[0] < part[1]
            ]
        return True

    def _at(self, sequence: int) -> int:
        """Which interval holds a sequence, if any does; -1 where it lies before all of them."""
        return bisect_left(self.intervals, (sequence + 1,)) - 1

    def take(self, low: int, high: int, count: int) -> list[tuple[int, int]] | None:
        """Claim so many sequences between two, the first ones that there are; None where there are too few."""
        taken = []
        for at in range(max(0, self._at(low)), len(self.intervals)):
            start, stop = self.intervals[at]
            if start >= high or not count:
                break
            first = max(start, low)
            here = min(count, min(stop, high) - first)
            if here > 0:
                taken.append((first, here))
                count -= here
        return taken if not count and self.take_all(taken) else None


def is_token(token: bytes) -> bool:
    """Whether bytes are as long as an idempotency key's token can be."""
    return 0 < len(token) <= 1 + limits.IDEMPOTENCY_KEY_BYTES_MAX


def readable_positions(pairs: dict[bytes, bytes], end: int, notes: list[str]) -> list[tuple[bytes, bytes]]:
    """The positions of consumers that can be read, none beyond the end of the log."""
    kept = []
    token = consumers.decode_token(pairs.get(consumers.TOKEN_KEY))
    if token > consumers.TOKEN_MAX:
        notes.append("the last token that was given to a consumer is damaged, and follows from the consumers now")
        token = 0
    for key, value in sorted(pairs.items()):
        name = consumers.consumer_name(key)
        if name is None:
            continue
        named = name and consumers.consumer_key(name) == key
        record = consumers.decode_consumer(value, key) if named else None
        if record is None or isinstance(record, int):
            notes.append(f"the position of consumer {name!r} is damaged, and was left out: it will begin anew")
            continue
        if any(run.position > end for run in record.runs):
            notes.append(f"the position of consumer {name!r} lies beyond the end of the log, and was set to {end}")
            runs = (run._replace(position=min(run.position, end)) for run in record.runs)
            record = record._replace(runs=consumers.merged(runs))
        token = max(token, *(run.token for run in record.runs))
        kept.append((key, record.encode(key)))
    return [(consumers.TOKEN_KEY, consumers.encode_token(token)), *kept] if kept or token else []
