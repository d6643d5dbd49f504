"""One instant of the store: the block of a sequence, the runs of a stream or a name, metadata.

Above this file nothing speaks of transactions and cursors; another engine that stores the same blocks gives the same
methods. A snapshot is one LMDB read transaction. It takes a reader slot and keeps LMDB from reusing pages that it may
still read, so everything short closes it at once; what stays alive afterwards are only the pins of views
(``engine.pins``).
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Iterator, Sequence
from itertools import accumulate, chain
from typing import TYPE_CHECKING, Any, Self

import lmdb

from varve import limits
from varve.engine.checked import CheckedBlocks, Mark, corrupted, mark_of, parse
from varve.engine.checking import SHARED_BYTES_MIN, UNLOCKED_BYTES_MIN, find_right, processors
from varve.engine.mapped import MappedFrames, Stretch
from varve.engine.pins import LivePin, address_of, warn_of_age
from varve.engine.side import read_chunk
from varve.errors import Archived, CorruptedBlock, CorruptedStore, SnapshotClosed
from varve.layout import keys
from varve.layout.block import UNREAD, Block, EventPlaces, Unread, lone_event
from varve.layout.frame import MalformedBlock
from varve.layout.records import StoreRecord, decode_horizon, unpack_store_record
from varve.layout.runs import decode_runs, find_in_runs

if TYPE_CHECKING:
    from varve.engine.catalog import Catalog
    from varve.engine.environment import Environment
    from varve.engine.located import KnownStream

    Cursor = lmdb.Cursor[memoryview]


_META_CHUNK = 256
_STRETCH_BYTES_MAX = 1 << 28
"""Frames that are read together in the map lie this near to one another: the pages that LMDB uses again are anywhere."""
_STRETCH_FRAMES_MIN = 8
"""Fewer frames in a stretch of the map are not worth a step of their own."""
_AHEAD_FRAMES_MAX = 1 << 12
"""As many frames as are checked in one go."""


StreamRun = tuple[int, int, int]
"""Consecutive events of a stream that are consecutive in the log too: first stream sequence, first global sequence, count."""


Scattered = tuple[tuple[EventPlaces | Unread, memoryview], int, int, int, int, int]
"""An event: its block (``EventPlaces.block`` makes it of these two), its global sequence, what has to be added to that for its
stream sequence, stream number, type number, where it begins in the block's data."""

read_u32 = struct.Struct("<I").unpack_from
read_u64 = struct.Struct("<Q").unpack_from


def _sequences(first: int, count: int, *, reverse: bool) -> range:
    return range(first + count - 1, first - 1, -1) if reverse else range(first, first + count)


class Snapshot:
    """A read transaction. ``limit`` hides events from that global sequence on (None: the whole instant).

    Thread-safe; blocks that it returns stay valid after ``close``.
    """

    __slots__ = (
        "__weakref__",
        "_environment",
        "_index",
        "_lock",
        "_log",
        "_memory",
        "_record",
        "_transaction",
        "catalog",
        "checked",
        "held_page",
        "held_since_s",
        "limit",
        "warned",
    )

    def __init__(
        self, environment: Environment, catalog: Catalog, checked: CheckedBlocks, *, limit: int | None = None
    ) -> None:
        self._environment = environment
        environment.active.add(id(self))
        try:
            self._transaction: lmdb.Transaction[memoryview] | None = environment.begin()
        except BaseException:
            environment.active.discard(id(self))
            raise
        self.catalog = catalog
        self.checked = checked
        self.limit = limit
        self._lock = threading.Lock()
        self._log: Cursor | None = None
        self._index: Cursor | None = None
        self._memory: memoryview | None = None
        self._record: StoreRecord | None = None

    def close(self) -> None:
        """Let the transaction go, after reads of other threads in it; views that were handed out keep it for themselves."""
        with self._lock:
            self._log = self._index = self._memory = self._transaction = None
        self._environment.active.discard(id(self))

    def hold(self) -> None:
        """The user may keep it for long: it is reported by ``db.stats()``, warned of, and closed with the store."""
        self.held_since_s = time.monotonic()
        self.held_page = self._environment.last_page()
        self.warned = False
        self._environment.held.add(self)

    def warn_if_old(self) -> None:
        """Warn, once, if it has been held for longer than ``SNAPSHOT_AGE_S_WARN``."""
        age_s = time.monotonic() - self.held_since_s
        if age_s > limits.SNAPSHOT_AGE_S_WARN and not self.warned and self._transaction is not None:
            self.warned = True
            warn_of_age(age_s)

    def live(self) -> LivePin | None:
        """As ``Pins.live`` reports one; None once it is closed."""
        transaction = self._transaction
        if transaction is None:
            return None
        return LivePin(transaction.id(), time.monotonic() - self.held_since_s, self.held_page)

    def unpin(self) -> None:
        """Keep the transaction but no memory for views to come."""
        with self._lock:
            self._memory = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    @property
    def transaction(self) -> lmdb.Transaction[memoryview]:
        """The transaction. Raises ``StoreClosed`` and its kin, ``SnapshotClosed``."""
        refusal = self._environment.refusal
        if refusal is not None:
            raise refusal()
        if self._transaction is None:
            raise SnapshotClosed("this snapshot was left; take a new one with db.snapshot()")
        return self._transaction

    @property
    def id(self) -> int:
        """LMDB's number of the instant; rises by one with each commit."""
        return self.transaction.id()

    @property
    def path(self) -> str:
        """The store's path, for messages."""
        return self._environment.path

    # -- metadata ----------------------------------------------------------------------------------

    def find_meta(self, key: bytes) -> bytes | None:
        """A copy of a metadata value; None where there is none."""
        with self._lock:
            return self._find_meta(key)

    def _find_meta(self, key: bytes) -> bytes | None:
        """The same, with the lock held."""
        try:
            value = self.transaction.get(key, db=self._environment.meta)
        except lmdb.Error as exc:
            raise self._environment.read_error(exc) from exc
        return None if value is None else bytes(value)

    def side_value(self, table: str, key: bytes) -> bytes | None:
        """A copy of a value of a side table that ``Engine.side_snapshot`` was made for; None where there is none."""
        database = self._environment.opened_side(table)
        if database is None:
            return None
        with self._lock:
            try:
                value = self.transaction.get(key, db=database)
            except lmdb.InvalidParameterError:  # it was opened when this transaction had begun: made later, at any rate
                return None
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc
            return None if value is None else bytes(value)

    def side_items(self, table: str, prefix: bytes = b"") -> list[tuple[bytes, bytes]]:
        """Copies of keys and values of a side table, in the order of the keys, that begin with ``prefix``."""
        database = self._environment.opened_side(table)
        if database is None:
            return []
        found = []
        with self._lock:
            try:
                with self.transaction.cursor(database) as cursor:
                    more = cursor.set_range(prefix) if prefix else cursor.first()
                    while more and (key := bytes(cursor.key())).startswith(prefix):
                        found.append((key, bytes(cursor.value())))
                        more = cursor.next()
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc
        return found

    def side_pairs(
        self, table: str, low: bytes, high: bytes, *, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Copies of the pairs of a side table from ``low`` to below ``high``, in the order of the keys (from the end with
        ``reverse``), read a piece at a time."""
        database = self._environment.opened_side(table)
        more = database is not None
        while more:
            with self._lock:
                try:
                    with self.transaction.cursor(database) as cursor:
                        found, more = read_chunk(cursor, low, high, reverse=reverse)
                except lmdb.InvalidParameterError:  # as in side_value
                    return
                except lmdb.Error as exc:
                    raise self._environment.read_error(exc) from exc
            yield from found
            if more:
                low, high = (low, found[-1][0]) if reverse else (found[-1][0] + b"\0", high)

    def lacks_side(self, table: str) -> bool:
        """Whether a side table is there at this instant which was not open when it was taken, so that it cannot be read."""
        return self._environment.opened_side(table) is None and self._environment.names_side(table, self.transaction)

    def meta(self, key: bytes) -> bytes:
        """A metadata value that must be there. Raises ``CorruptedStore``."""
        value = self.find_meta(key)
        if value is None:
            raise CorruptedStore(
                f"{self.path}: the metadata lacks the record {key[:40]!r} that the log needs; repair it with varve.ops",
                path=self.path,
            )
        return value

    def meta_chunk(self, prefix: bytes, after: bytes | None) -> list[tuple[bytes, bytes]]:
        """Copies of up to 256 metadata records whose key begins with ``prefix``, in key order, behind the key
        ``after``."""
        chunk: list[tuple[bytes, bytes]] = []
        with self._lock:
            try:
                with self.transaction.cursor(self._environment.meta) as cursor:
                    more = cursor.set_range(prefix if after is None else after + b"\0")
                    while more and len(chunk) < _META_CHUNK:
                        key = bytes(cursor.key())
                        if not key.startswith(prefix):
                            break
                        chunk.append((key, bytes(cursor.value())))
                        more = cursor.next()
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc
        return chunk

    @property
    def record(self) -> StoreRecord:
        """The store's own record."""
        record = self._record
        if record is None:
            record = self._record = unpack_store_record(self.meta(keys.STORE_RECORD_KEY))
        return record

    @property
    def next_sequence(self) -> int:
        """Number of events that can be seen."""
        count = self.record.next_sequence
        return count if self.limit is None else min(count, self.limit)

    @property
    def first_sequence(self) -> int:
        """The horizon: the first global sequence that is in the log still; what is below was archived."""
        return self.record.first_sequence

    @property
    def archived_until_ns(self) -> int:
        """When the last event below the horizon was recorded. There has to be one."""
        return decode_horizon(self.meta(keys.HORIZON_KEY))

    def archived(self, what: str) -> Archived:
        """The error for what lies below the horizon."""
        first = self.first_sequence
        return Archived(
            f"{self.path}: {what} was archived; this store begins at global sequence {first}. Open the archives and the store "
            "in a row (varve.open takes a list), or begin there",
            path=self.path,
            first_sequence=first,
        )

    def check_retained(self, sequence: int) -> None:
        """Whether a global sequence is above the horizon. Raises ``Archived``."""
        if sequence < self.first_sequence:
            raise self.archived(f"global sequence {sequence}")

    # -- blocks ------------------------------------------------------------------------------------

    def _log_cursor(self) -> Cursor:
        cursor = self._log
        if cursor is None:
            cursor = self._log = self.transaction.cursor(self._environment.log)
        elif self._environment.refusal is not None:
            raise self._environment.refusal()
        return cursor

    def _find(self, sequence: int) -> tuple[int, memoryview]:
        """First sequence and frame (not pinned, checked) of the block that should hold ``sequence``."""
        cursor = self._log_cursor()
        # One step back from the first key behind the sequence's is its block, whether that begins there or not.
        beyond = keys.log_key(sequence) + b"\0"
        try:
            found = cursor.prev() if cursor.set_range(beyond) else cursor.last()
            key, data = cursor.item()
        except lmdb.Error as exc:
            raise self._environment.read_error(exc) from exc
        if not found:
            if self._record is None:  # here, since the lock is held
                self._record = unpack_store_record(self._find_meta(keys.STORE_RECORD_KEY) or b"")
            self.check_retained(sequence)
            raise CorruptedStore(
                f"{self.path}: no block holds global sequence {sequence}; verify the store", path=self.path
            )
        first = keys.log_sequence(key)
        self.checked.check(self.path, first, data)
        return first, data

    def _find_places(self, sequence: int) -> tuple[EventPlaces, memoryview]:
        """Where the events of the block are that should hold ``sequence``, and its frame (not pinned, checked)."""
        places = self.checked.holding(sequence)
        if places is not None:
            cursor = self._log_cursor()
            try:
                if cursor.set_key(keys.log_key(places.first)) and places.is_of(data := cursor.value()):
                    return places, data
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc
        first, data = self._find(sequence)
        block = self._holding(sequence, self._parse(first, data))
        try:
            places = block.places()
        except MalformedBlock as exc:
            raise corrupted(self.path, first, str(exc)) from None
        self.checked.remember(places)
        return places, data

    def _parse(self, first: int, data: memoryview) -> Block:
        return parse(self.path, first, data)

    def _holding(self, sequence: int, block: Block) -> Block:
        if not block.first <= sequence < block.first + block.count:
            raise CorruptedStore(
                f"{self.path}: global sequence {sequence} is missing: the block before it ends at {block.end}; verify the store",
                path=self.path,
            )
        return block

    def block(self, sequence: int, *, copy: bool = False) -> Block:
        """The block of a sequence that exists, in memory that outlives the snapshot.

        With ``copy`` a block of the usual size is copied to the heap, so that what is kept of it holds no snapshot.
        """
        with self._lock:
            first, data = self._find(sequence)
            copy = copy and len(data) <= limits.BLOCK_BYTES_MAX
            return self._holding(sequence, self._parse(first, memoryview(bytes(data)) if copy else self.keep(data)))

    def copy_frames(self, first: int, stop: int, into: memoryview, events_max: int) -> list[tuple[int, int, int]]:
        """Copy whole frames, checked, one behind the other: from the block that begins at ``first`` on, of those that begin
        before ``stop`` as many as there is room for. Gives first sequence, place in ``into`` and bytes of each; nothing where
        no block begins there. At most ``events_max`` events, but for the last."""
        found: list[tuple[int, int, int]] = []
        at = 0
        with self._lock:
            cursor = self._log_cursor()
            try:
                more = cursor.set_key(keys.log_key(first))
                while more:
                    key, data = cursor.item()
                    sequence = keys.log_sequence(key)
                    size = len(data)
                    if sequence >= stop or sequence - first >= events_max or size % 8 or at + size > len(into):
                        break
                    self.checked.check(self.path, sequence, data)
                    into[at : at + size] = data
                    found.append((sequence, at, size))
                    at += size
                    more = cursor.next()
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc
            except CorruptedBlock:
                if not found:  # what stands before it can be read; whoever goes on is told
                    raise
        return found

    def map_frames(self, first: int, stop: int, bytes_max: int, events_max: int) -> MappedFrames | None:
        """Whole frames, checked, where they are: those that ``copy_frames`` would copy with room for ``bytes_max``, in memory
        that is kept as by ``keep``. None where they lie too far apart, or too many snapshots are pinned: then ``copy_frames`` is
        the way.

        What lies between the frames in the stretch is anything: free pages, or others' data."""
        firsts: list[int] = []
        addresses: list[int] = []
        sizes: list[int] = []
        noted: list[Any] = []
        low = high = taken = 0
        stop = min(stop, first + events_max)
        with self._lock:
            cursor = self._log_cursor()
            find_note, check, sequence_of = self.checked.notes.get, self.checked.check, keys.log_sequence
            try:
                for key, data in cursor.iternext() if cursor.set_key(keys.log_key(first)) else ():
                    sequence = sequence_of(key)
                    size = len(data)
                    address = address_of(data)
                    taken += size
                    if sequence >= stop or (size | address) % 8 or taken > bytes_max:
                        break
                    if not low <= address < high:
                        begin, end = address, address + size
                        if firsts:
                            begin, end = min(low, begin), max(high, end)
                            if end - begin > _STRETCH_BYTES_MAX:
                                if len(firsts) < _STRETCH_FRAMES_MIN:
                                    return None
                                break
                        low, high = begin, end
                    note = find_note(sequence)
                    if note is not None and note[:2] == mark_of(data):
                        noted.append(note[2])  # notes are of checked frames only
                    else:
                        check(self.path, sequence, data)
                        noted.append(None)
                    firsts.append(sequence)
                    addresses.append(address)
                    sizes.append(size)
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc
            except CorruptedBlock:
                if not firsts:  # what stands before it can be read; whoever goes on is told
                    raise
            memory = self._pinned()
            instant = self.transaction.id()
        if memory is None:
            return None
        return MappedFrames(memory[low:high], instant, low, firsts, [at - low for at in addresses], sizes, noted)

    def check_ahead(self, first: int, stop: int, bytes_max: int) -> int:
        """Check many frames that are still to be checked, on two threads if there are processors for them: from the one that
        begins at ``first`` on, of those that begin before ``stop``. Gives the sequence from which on it may be asked again. Of a
        frame that is wrong nothing is raised: whoever reads it is told."""
        if processors() < 2:
            return stop
        has, add = self.checked.has, self.checked.add
        frames: list[memoryview] = []
        marks: list[tuple[int, Mark]] = []
        taken = 0
        with self._lock:
            cursor = self._log_cursor()
            if self._pinned() is None:
                return stop
            try:
                for key, data in cursor.iternext() if cursor.set_key(keys.log_key(first)) else ():
                    sequence = keys.log_sequence(key)
                    if sequence >= stop or taken >= bytes_max or len(frames) >= _AHEAD_FRAMES_MAX:
                        stop = min(stop, sequence)
                        break
                    mark = mark_of(data)
                    if not has(sequence, mark):
                        frames.append(self.keep(data))
                        marks.append((sequence, mark))
                        taken += len(data)
                    elif not frames:  # it is likely that all have been checked
                        return first + 1
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc
        if taken >= max(SHARED_BYTES_MIN, UNLOCKED_BYTES_MIN * len(frames)):
            for (sequence, mark), right in zip(marks, find_right(frames), strict=True):
                if right:
                    add(sequence, mark)
        return stop

    def map_again(self, stretch: Stretch) -> memoryview | None:
        """The memory of a stretch, kept as by ``keep``, where this is the instant at which it was found; None where it is not, or
        where it cannot be pinned. Nothing that is seen at one instant ever changes."""
        with self._lock:
            cursor = self._log_cursor()
            if self.transaction.id() != stretch.instant:
                return None
            try:
                if not cursor.set_key(keys.log_key(stretch.first)):
                    return None
                address = address_of(cursor.value())
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc
            if address != stretch.address:  # the map lies elsewhere
                return None
            memory = self._pinned()
        return None if memory is None else memory[stretch.low : stretch.high]

    def scattered(self, runs: Sequence[StreamRun], stream: int | None, *, reverse: bool) -> list[Scattered]:
        """Events that exist and lie here and there, in the order given (``reverse``: runs in that order, each from its end).
        Where the index says that they are of a ``stream``, the blocks must agree.

        What stands before a block that is wrong is given; only where that is nothing, it is said what is wrong.
        """
        found: list[Scattered] = []
        add = found.append
        holding, key_of = self.checked.holding, keys.log_key
        first = end = size = payload_at = lone_first = lone_end = 0
        type_number: int | None = None
        malformed = ""
        data = memory = memoryview(b"")
        places: Any = None
        placed: Any = None
        with self._lock:
            cursor = self._log_cursor()
            set_key, value = cursor.set_key, cursor.value
            try:
                for position, sequence, count in runs:
                    shift = position - sequence
                    for at in (sequence,) if count == 1 else _sequences(sequence, count, reverse=reverse):
                        if not first <= at < end:
                            known = holding(at)
                            if known is None and stream is not None and not lone_first <= at < lone_end:
                                # Perhaps the only event of its block that is wanted. That it is the one that the index says is
                                # all there is to know of it.
                                lone_first, data = self._find(at)
                                lone = lone_event(data, lone_first, at)
                                if lone is not None and lone[0] == stream and lone[1] - at == shift:
                                    lone_end = lone_first + lone[4]
                                    add(((UNREAD, self.keep(data)), at, shift, stream, lone[2], lone[3]))
                                    continue
                            if (
                                known is not None
                                and set_key(key_of(known.first))
                                and len(data := value()) == known.frame_bytes
                                and read_u32(data)[0] == known.crc
                            ):
                                places = known
                            else:
                                places, data = self._find_places(at)
                            first, size, type_number, payload_at = (
                                places.first,
                                places.frame_bytes,
                                places.type,
                                places.payload_at,
                            )
                            end = first + places.count
                            memory = self.keep(data)
                            placed = places, memory
                        index = at - first
                        # As EventPlaces.locate, without the call where every run is one event.
                        if places.run_ends is None and type_number is not None:
                            of, start, stop = places.stream_and_ends(memory, places.streams_at + 4 * index)
                            begun = read_u64(memory, places.firsts_at + 8 * index)[0]
                            start = payload_at + start if index else payload_at
                            if not start <= payload_at + stop <= size:
                                raise MalformedBlock("an event lies outside")  # noqa: TRY301 - as locate does
                            number = type_number
                        else:
                            of, begun, number, start, _ = places.locate(memory, index)
                        if stream is not None and (of != stream or begun - at != shift):
                            raise self.index_wrong(at)
                        add((placed, at, begun - at, of, number, start))
            except lmdb.Error as exc:
                found.clear()
                raise self._environment.read_error(exc) from exc
            except struct.error:
                malformed = "its columns reach beyond its end"
            except MalformedBlock as exc:
                malformed = str(exc)
            except (Archived, CorruptedBlock, CorruptedStore):
                if not found:
                    raise
            finally:
                del memory, placed, data  # whoever keeps an error keeps this frame: it must not keep the map
        if malformed and not found:
            raise corrupted(self.path, first, malformed)
        return found

    def copied_block(self, sequence: int) -> Block:
        """The block of a sequence that exists, whatever its size, copied to the heap: nothing of it holds the snapshot."""
        with self._lock:
            first, data = self._find(sequence)
            return self._holding(sequence, self._parse(first, memoryview(bytes(data))))

    def event(self, sequence: int, stream: int, stream_sequence: int) -> tuple[int, memoryview | bytes]:
        """Type number and bytes of an event that exists, and that the index says to be this one of a stream.

        Bytes for a small event (a copy is cheaper than a pin), a pinned memoryview for a larger one.
        """
        with self._lock:
            places, data = self._find_places(sequence)
            of_stream, at, type_number, start, end = self.locate(places, data, sequence)
            if of_stream != stream or at != stream_sequence:
                raise self.index_wrong(sequence)
            raw = data[start:end]
            return type_number, bytes(raw) if end - start <= limits.COPIED_EVENT_BYTES_MAX else self.keep(raw)

    def known_event(self, known: KnownStream, stream_sequence: int) -> tuple[int, bytes] | None:
        """Type number and bytes of an event of a stream, by what is remembered of both, if the block agrees; None where the index
        must be asked (``event``), which says what is wrong if anything is."""
        with self._lock:
            cursor = self._log_cursor()
            sequence = known.sequence(stream_sequence)
            places = self.checked.holding(sequence)
            limit = self.limit
            if places is None or (limit is not None and sequence >= limit):
                return None
            first = places.first
            try:
                if not cursor.set_key(keys.log_key(first)):
                    return None
                data = cursor.value()
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc
            return places.event(data, sequence - first, known.number, stream_sequence, limits.COPIED_EVENT_BYTES_MAX)

    def locate(self, places: EventPlaces, data: memoryview, sequence: int) -> tuple[int, int, int, int, int]:
        """Of an event that exists, in the data of its block: stream number, stream sequence, type number, start and end.
        Raises ``CorruptedBlock``."""
        try:
            return places.locate(data, sequence - places.first)
        except MalformedBlock as exc:
            raise corrupted(self.path, places.first, str(exc)) from None

    def event_bytes(self, sequence: int, stream: int | None = None, stream_sequence: int = 0) -> memoryview:
        """An event's bytes, in the map where a pin can be had; with ``stream`` one that the index says to be this one of it."""
        with self._lock:
            first, data = self._find(sequence)
            block = self._holding(sequence, self._parse(first, data))
            if stream is not None and block.stream_of(sequence - first) != (stream, stream_sequence):
                raise self.index_wrong(sequence)
            start, end = self.span(block, sequence)
            return self.keep(data[start:end])

    def time_of(self, sequence: int) -> int:
        """When an event that exists was recorded (ns)."""
        block = self.block(sequence, copy=True)
        return block.commit_of(sequence - block.first)[1]

    def span(self, block: Block, sequence: int) -> tuple[int, int]:
        """Start and end of an event in its block's data. Raises ``CorruptedBlock``."""
        try:
            return block.span(sequence - block.first)
        except MalformedBlock as exc:
            raise corrupted(self.path, block.first, str(exc)) from None

    def keep(self, data: memoryview) -> memoryview:
        """Memory of the map, kept for as long as any slice of it lives; a copy past ``PINNED_SNAPSHOTS_MAX``."""
        memory = self._pinned()
        if memory is None:
            return memoryview(bytes(data))
        address = address_of(data)
        return memory[address : address + len(data)]

    def _pinned(self) -> memoryview | None:
        """The address space, kept by this snapshot's transaction; None past ``PINNED_SNAPSHOTS_MAX``."""
        memory = self._memory
        if memory is None:
            transaction = self.transaction
            memory = self._memory = self._environment.pins.pin(
                transaction, transaction.id(), self._environment.last_page
            )
        return memory

    def blocks(self, start: int, stop: int) -> Iterator[Block]:
        """The blocks that hold ``start .. stop`` (which exist), in order, in memory that outlives the snapshot."""
        while start < stop:
            block = self.block(start)
            yield block
            start = block.end

    # -- index -------------------------------------------------------------------------------------

    def _floor(self, key: bytes) -> tuple[bytes, bytes] | None:
        """The greatest index entry at or before ``key``; copies, since another thread may close the snapshot."""
        with self._lock:
            cursor = self._index
            if cursor is None:
                cursor = self._index = self.transaction.cursor(self._environment.index)
            elif self._environment.refusal is not None:
                raise self._environment.refusal()
            try:
                if not (cursor.prev() if cursor.set_range(key + b"\0") else cursor.last()):
                    return None
                found, value = cursor.item()
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc
            return bytes(found), bytes(value)

    def stream_number(self, name: str, id_key: bytes) -> int | None:
        """The number of a stream, or None where nothing was ever appended to it."""
        return self.catalog.stream_number(self, name, id_key)

    def stream_entry(self, number: int, stream_sequence: int) -> tuple[int, list[tuple[int, int]]] | None:
        """The index entry that would hold a stream sequence: its own first one and its runs."""
        found = self._floor(keys.stream_entry_key(number, stream_sequence))
        position = None if found is None else keys.stream_entry_position(found[0], number)
        return None if found is None or position is None else (position, decode_runs(found[1]))

    def name_entry(self, number: int, sequence: int) -> tuple[int, list[tuple[int, int]]] | None:
        """The index entry of a stream name that would hold a global sequence: its first one and its runs."""
        key = keys.name_entry_key(number, sequence)
        found = self._floor(key)
        if found is None or found[0][:3] != key[:3]:
            return None
        return keys.entry_position(found[0]), decode_runs(found[1])

    def global_of(self, number: int, stream_sequence: int) -> int | None:
        """Global sequence of a stream's event, or None past the end of what can be seen."""
        found = self.find_event(number, stream_sequence)
        return None if found is None else found[0]

    def find_event(self, number: int, stream_sequence: int) -> tuple[int, int, bytes] | None:
        """Global sequence of a stream's event, and the index entry that says so: its first stream sequence and its value
        (``decode_runs``). None past the end of what can be seen."""
        entry = self._floor(keys.stream_entry_key(number, stream_sequence))
        position = None if entry is None else keys.stream_entry_position(entry[0], number)
        if entry is None or position is None:
            self._check_unborn(number, stream_sequence)
            return None
        found = find_in_runs(entry[1], stream_sequence - position)
        if found is None or (self.limit is not None and found >= self.limit):
            return None
        return found, position, entry[1]

    def stream_length(self, number: int) -> int:
        """Number of a stream's events that can be seen."""
        last = self.stream_entry(number, 2**64 - 1)
        if last is None:
            self._check_unborn(number)
            return 0
        position, runs = last
        length = position + sum(count for _, count in runs)
        limit = self.limit
        if limit is None or runs[-1][0] + runs[-1][1] <= limit:
            return length
        low, high = 0, length  # the first event at or after the limit, by bisection over the index
        while low < high:
            middle = (low + high) // 2
            try:
                is_beyond = self.global_of(number, middle) is None
            except Archived:
                is_beyond = False
            if is_beyond:
                high = middle
            else:
                low = middle + 1
        return low

    def _check_unborn(self, number: int, stream_sequence: int | None = None) -> None:
        """A stream without an index entry (at or before a stream sequence) is younger than this instant. Where the instant knows
        it, the entry was archived, or is lost, and must not look like a stream without events: raises ``Archived`` or
        ``CorruptedStore``."""
        if self.find_meta(keys.stream_key(number)) is not None:
            if stream_sequence is not None and self._is_archived(number):
                raise self.archived(f"stream sequence {stream_sequence}")
            raise self._index_gap(f"stream number {number}")

    def _is_archived(self, number: int) -> bool:
        """Whether the beginning of a stream's index was archived, where it is missing."""
        return self.first_sequence > 0 and self.stream_entry(number, 2**64 - 1) is not None

    def stream_runs(self, number: int, start: int, stop: int, *, reverse: bool = False) -> Iterator[StreamRun]:
        """Runs that cover stream sequences ``start .. stop`` (which exist), cut to them."""
        return chain.from_iterable(self.stream_pieces(number, start, stop, reverse=reverse))

    def stream_pieces(
        self, number: int, start: int, stop: int, *, reverse: bool = False
    ) -> Iterator[Sequence[StreamRun]]:
        """The same, those of an index entry together."""
        at = stop - 1 if reverse else start
        while start <= at < stop:
            entry = self.stream_entry(number, at)
            if entry is None:
                if self._is_archived(number):
                    raise self.archived(f"stream sequence {at}")
                raise self._index_gap(f"stream number {number}, stream sequence {at}")
            position, runs = entry
            firsts, counts = zip(*runs, strict=True)
            positions = list(accumulate(counts, initial=position))
            end = positions[-1]
            if end <= at:
                raise self._index_gap(f"stream number {number}, stream sequence {at}")
            cut = list(zip(positions, firsts, counts, strict=False))
            if position < start or stop < end:
                cut = [
                    (low, first + low - begin, high - low)
                    for begin, first, count in cut
                    if (low := max(begin, start)) < (high := min(begin + count, stop))
                ]
            if reverse:
                at = cut[0][0] - 1
                cut.reverse()
            else:
                at = end
            yield cut

    def name_runs(self, number: int, start: int, stop: int, *, reverse: bool = False) -> Iterator[tuple[int, int]]:
        """Runs ``(first global sequence, count)`` of a stream name within ``start .. stop``, cut to it."""
        at = stop - 1 if reverse else start
        while start <= at < stop:
            entry = self.name_entry(number, at)
            if entry is None:
                if reverse:
                    return
                entry = self._next_name_entry(number, at)
            elif not reverse and sum(entry[1][-1]) <= at:
                entry = self._next_name_entry(number, at)
            if entry is None:
                return
            position, runs = entry
            end = position
            for first, count in runs:
                if first < end or not count or runs[0][0] != position:
                    raise self._index_gap(f"name number {number} that is in order, at global sequence {position}")
                end = first + count
            cut = [
                (low, high - low)
                for first, count in runs
                if (low := max(first, start)) < (high := min(first + count, stop))
            ]
            if reverse:
                yield from ((first, count) for first, count in reversed(cut))
                at = position - 1
            else:
                yield from cut
                at = sum(runs[-1])

    def _next_name_entry(self, number: int, sequence: int) -> tuple[int, list[tuple[int, int]]] | None:
        """The first index entry of a name behind a sequence."""
        key = keys.name_entry_key(number, sequence)
        with self._lock:
            try:
                with self.transaction.cursor(self._environment.index) as cursor:
                    if not cursor.set_range(key):
                        return None
                    found, value = cursor.item()
                    return (keys.entry_position(found), decode_runs(value)) if found[:3] == key[:3] else None
            except lmdb.Error as exc:
                raise self._environment.read_error(exc) from exc

    def index_wrong(self, sequence: int) -> CorruptedStore:
        """The error for an index that names another stream's event: LMDB's pages have no checksums, blocks have."""
        return CorruptedStore(
            f"{self.path}: the index is wrong about the event at global sequence {sequence}, which is of another stream; repair "
            "it with varve.ops",
            path=self.path,
        )

    def _index_gap(self, where: str) -> CorruptedStore:
        return CorruptedStore(
            f"{self.path}: the index has no entry for {where}; repair it with varve.ops", path=self.path
        )
