"""Blocks: the values of the log, many events each.

A value is a *frame*: ``u32 crc32 of the rest | u32 format | FlatBuffer``, a multiple of 8 bytes. The FlatBuffer is one
``Block`` table of schemas/varve.fbs (identifier ``VRV1``): two numbers and parallel vectors (columns). LMDB keeps
values of 8-byte keys 8-aligned in the map, the FlatBuffer starts at byte 8 of the frame and the payload vector is
aligned to 8, so every event is 8-aligned in memory and typed vectors can be read in place.

Two shapes are written, told apart by the size of their vtable: *hot* (events only) and *full* (with any of metadata,
idempotency keys, declarations). Any other valid shape is read through its vtable, so that a later version may add
columns. Source of the byte rules: the FlatBuffers internals document (little-endian, offsets relative and forward,
vtable of u16).
"""

from __future__ import annotations

import functools
import struct
import sys
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from operator import eq
from typing import Any, Final, NamedTuple

from varve import limits
from varve.layout.packed import Events, Packed

if sys.byteorder != "little":  # pragma: no cover - FlatBuffers and the columns below are little-endian
    raise ImportError("varve needs a little-endian machine: its files are read in place")

FORMAT: Final = 1
IDENTIFIER: Final = b"VRV1"
FRAME_HEADER_BYTES: Final = 8

COLUMNS: Final = (
    # name, bytes per element; slot numbers continue behind the two sequences
    ("commit_times", 8),
    ("commit_counts", 4),
    ("run_streams", 4),
    ("run_types", 2),
    ("run_firsts", 8),
    ("run_counts", 4),
    ("ends", 4),
    ("payload", 1),
)
COLD_COLUMNS: Final = (
    ("metadata_firsts", 4),
    ("metadata_counts", 4),
    ("metadata_ends", 4),
    ("metadata", 1),
    ("key_commits", 4),
    ("key_ends", 4),
    ("keys", 1),
    ("key_digests", 1),
    ("stream_numbers", 4),
    ("stream_names", 2),
    ("stream_id_ends", 4),
    ("stream_ids", 1),
    ("name_numbers", 2),
    ("name_ends", 4),
    ("names", 1),
    ("type_numbers", 2),
    ("type_name_ends", 4),
    ("type_names", 1),
    ("type_schema_ends", 4),
    ("type_schemas", 1),
    ("store_uuid", 1),
)
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
_HOT_SLOTS = 2 + len(COLUMNS)
_CREATED_SLOT = _HOT_SLOTS
_SLOTS = _HOT_SLOTS + 1 + len(COLD_COLUMNS)
_SLOT_OF = {name: 2 + index for index, (name, _) in enumerate(COLUMNS)} | {
    name: _CREATED_SLOT + 1 + index for index, (name, _) in enumerate(COLD_COLUMNS)
}
_WIDTH_OF = dict(COLUMNS + COLD_COLUMNS)

_RUN_COLUMNS = tuple((name, index) for index, (name, _) in enumerate(COLUMNS) if name.startswith("run_"))

# Table, relative to its start: soffset | commit_times | first, commit sequence | the other hot columns | pad | created
# | cold
_HOT_FIELDS = (8, 16, 4, *range(24, 24 + 4 * (len(COLUMNS) - 1), 4))
_HOT_TABLE_BYTES = 24 + 4 * (len(COLUMNS) - 1)
_CREATED_FIELD = 56
_FULL_TABLE_BYTES = 64 + 4 * len(COLD_COLUMNS)
_HOT_VTABLE = struct.pack(f"<{2 + _HOT_SLOTS}H", 4 + 2 * _HOT_SLOTS, _HOT_TABLE_BYTES, *_HOT_FIELDS)
_HOT_TABLE = FRAME_HEADER_BYTES + 8 + len(_HOT_VTABLE)
_HOT_FIRST = _HOT_TABLE + 8
_HOT_ROOT = _HOT_TABLE - FRAME_HEADER_BYTES
_HOT_SOFFSET = len(_HOT_VTABLE)
_FULL_VTABLE_BYTES = 4 + 2 * _SLOTS
_FULL_TABLE = FRAME_HEADER_BYTES + 8 + _FULL_VTABLE_BYTES + 4

_HOT = struct.Struct(f"<III4s{len(_HOT_VTABLE)}siIQQ{len(COLUMNS) - 1}I")
_FULL = struct.Struct(f"<III4s{_FULL_VTABLE_BYTES}s4xiIQQ{len(COLUMNS) - 1}I")
_U16 = struct.Struct("<H")
_U32 = struct.Struct("<I")
_I32 = struct.Struct("<i")
_U32_PAIR = struct.Struct("<II")
_U64 = struct.Struct("<Q")
_I64 = struct.Struct("<q")
_ONE = _U32.pack(1)
_ONES = array("I", (1,))
_u16 = _U16.unpack_from
_u32 = _U32.unpack_from
_u32_pair = _U32_PAIR.unpack_from
_u64 = _U64.unpack_from


class HotFrame(NamedTuple):
    """What frames of events alone begin with, for whoever reads many at once: its ``size`` in bytes; ``constant`` words from byte
    4 on; where the two sequences stand; and where the offsets of the columns stand, in order of ``COLUMNS``."""

    size: int
    constant: bytes
    first_at: int
    commit_at: int
    columns_at: tuple[int, ...]


HOT_FRAME: Final = HotFrame(
    _HOT.size,
    struct.pack(
        f"<II4s{len(_HOT_VTABLE)}si", FORMAT, _HOT_TABLE - FRAME_HEADER_BYTES, IDENTIFIER, _HOT_VTABLE, len(_HOT_VTABLE)
    ),
    _HOT_TABLE + 8,
    _HOT_TABLE + 16,
    (_HOT_TABLE + 4, *range(_HOT_TABLE + 24, _HOT.size, 4)),
)

# Upper bounds of what a block takes beside its columns' elements: length words and alignment.
_HOT_BYTES = _HOT.size + 4 * len(COLUMNS) + 28
_COLD_BYTES = _FULL_TABLE + _FULL_TABLE_BYTES - _HOT.size + 8 * len(COLD_COLUMNS)
COMMIT_BYTES: Final = 12
RUN_BYTES: Final = 18
EVENT_OVERHEAD_BYTES: Final = 4
SINGLE_BYTES: Final = COMMIT_BYTES + RUN_BYTES + EVENT_OVERHEAD_BYTES
"""Upper bound of what a commit of one event adds to a block beside the event."""

Single = tuple[int, int, int, int, bytes]
"""A commit of one event: its time, stream number, type number, stream sequence, the event."""


class MalformedBlock(ValueError):
    """Bytes that are no block; the engine turns it into ``CorruptedBlock`` with the position."""


class Run(NamedTuple):
    """Consecutive events of one stream and one type."""

    stream: int
    type: int
    first_stream_sequence: int
    count: int  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride] - nobody calls tuple.count


def frame_crc(data: bytes | memoryview) -> int:
    """The checksum that a frame says it has."""
    crc: int = _U32.unpack_from(data)[0]
    return crc


def crc_holds(data: bytes | memoryview) -> bool:
    """Whether a frame's checksum is right."""
    return len(data) >= _HOT.size and zlib.crc32(memoryview(data)[4:]) == _U32.unpack_from(data)[0]


class Block:
    """A read-only look at a frame whose checksum holds. Raises ``MalformedBlock``.

    Vectors are memoryviews of ``data`` and live as long as it does.

    Attributes: ``data`` (the frame), ``first`` (first global sequence), ``commit_sequence`` (first global sequence of
    the commit that the first event belongs to), ``count`` (events), ``payload_at`` (byte offset of the payload in
    ``data``).
    """

    __slots__ = ("_columns", "_runs", "_vtable", "commit_sequence", "count", "data", "first", "payload_at")

    data: memoryview
    _columns: tuple[int, ...]
    _vtable: tuple[int, int, int] | None

    def __init__(self, data: memoryview) -> None:
        self.data = data
        self._runs: list[Run] | None = None
        try:
            (
                _,
                flags,
                root,
                identifier,
                vtable,
                soffset,
                times,
                first,
                commit_sequence,
                counts,
                streams,
                types,
                firsts,
                run_counts,
                ends,
                payload,
            ) = _HOT.unpack_from(data)
            if vtable == _HOT_VTABLE and root == _HOT_ROOT and soffset == _HOT_SOFFSET:
                table = _HOT_TABLE
                self._vtable = None
                self.first = first
                self.commit_sequence = commit_sequence
            else:
                _, _, _, _, vtable, soffset, times, self.first, self.commit_sequence, *offsets = _FULL.unpack_from(data)
                if (
                    root == _FULL_TABLE - FRAME_HEADER_BYTES
                    and soffset == _FULL_VTABLE_BYTES + 4
                    and vtable[4 : len(_HOT_VTABLE)] == _HOT_VTABLE[4:]
                ):
                    table = _FULL_TABLE
                    self._vtable = (table, FRAME_HEADER_BYTES + 8, _FULL_VTABLE_BYTES)
                else:
                    table, times, offsets = self._general(root)
                counts, streams, types, firsts, run_counts, ends, payload = offsets
            if flags != FORMAT or identifier != IDENTIFIER:
                raise MalformedBlock(f"not a block of format {FORMAT}: flags {flags:#x}, identifier {identifier!r}")
            # Said one by one: a loop over the seven would be half of what a look at a block costs.
            ends += table + 44
            payload += table + 48
            self._columns = (
                table + 4 + times,
                table + 24 + counts,
                table + 28 + streams,
                table + 32 + types,
                table + 36 + firsts,
                table + 40 + run_counts,
                ends,
                payload,
            )
            self.count: int = _U32.unpack_from(data, ends)[0]
            self.payload_at: int = payload + 4
        except struct.error as exc:
            raise MalformedBlock(f"too short: {exc}") from None

    def _general(self, root: int) -> tuple[int, int, list[int]]:
        """Hot fields of a shape that is none of ours: offsets as if they stood at our fixed places."""
        table = FRAME_HEADER_BYTES + root
        vtable = table - int(_I32.unpack_from(self.data, table)[0])
        if not FRAME_HEADER_BYTES <= vtable < len(self.data):
            raise MalformedBlock("its vtable lies outside")
        self._vtable = (table, vtable, _U16.unpack_from(self.data, vtable)[0])
        self.first = self._scalar(0, _U64)
        self.commit_sequence = self._scalar(1, _U64)
        places = []
        for name, _ in COLUMNS:
            place = self._vector_at(name)
            if place is None:
                raise MalformedBlock(f"it has no {name}")
            places.append(place)
        return table, places[0] - table - 4, [place - table - 24 - 4 * index for index, place in enumerate(places[1:])]

    def _field_at(self, slot: int) -> int | None:
        """Position of a field's inline value, or None where it is absent."""
        if self._vtable is None:
            return None
        table, vtable, vtable_bytes = self._vtable
        entry = 4 + 2 * slot
        if entry + 2 > vtable_bytes:
            return None
        offset: int = _U16.unpack_from(self.data, vtable + entry)[0]
        return table + offset if offset else None

    def _scalar(self, slot: int, kind: struct.Struct) -> int:
        try:
            place = self._field_at(slot)
            return int(kind.unpack_from(self.data, place)[0]) if place is not None else 0
        except struct.error:
            raise MalformedBlock("a field lies outside") from None

    def _vector_at(self, name: str) -> int | None:
        try:
            place = self._field_at(_SLOT_OF[name])
            return place + int(_U32.unpack_from(self.data, place)[0]) if place is not None else None
        except struct.error:
            raise MalformedBlock(f"its {name} lie outside") from None

    def _vector(self, name: str, place: int) -> memoryview:
        """A column as a typed memoryview."""
        width = _WIDTH_OF[name]
        try:
            length = int(_U32.unpack_from(self.data, place)[0]) * width
        except struct.error:
            raise MalformedBlock(f"its {name} lie outside") from None
        raw = self.data[place + 4 : place + 4 + length]
        if len(raw) != length:
            raise MalformedBlock(f"its {name} reach beyond its end")
        return raw if width == 1 else _cast(raw, width)

    def column(self, name: str) -> memoryview:
        """Any column by name; empty where the block has none."""
        slot = _SLOT_OF[name]
        place = self._columns[slot - 2] if slot < _HOT_SLOTS else self._vector_at(name)
        if place is None:
            return _cast(memoryview(b""), _WIDTH_OF[name])
        return self._vector(name, place)

    # -- events ------------------------------------------------------------------------------------

    @property
    def end(self) -> int:
        """The global sequence behind the last event."""
        end: int = self.first + self.count
        return end

    @property
    def runs(self) -> list[Run]:
        """Runs in order; their counts add up to ``count``."""
        runs = self._runs
        if runs is None:
            runs = self._runs = [Run(*run) for run in self.run_columns()]
        return runs

    def run_columns(self) -> Iterator[tuple[int, int, int, int]]:
        """The runs as plain tuples (stream, type, first stream sequence, count)."""
        return zip(*self.run_lists(), strict=True)

    def run_lists(self) -> tuple[list[int], list[int], list[int], list[int]]:
        """The runs as lists by column: streams, types, first stream sequences, counts."""
        data, columns = self.data, self._columns
        streams_at, types_at, firsts_at, counts_at = columns[2:6]
        try:
            runs = _u32(data, counts_at)[0]
            if runs == 1 and _u32(data, streams_at)[0] == _u32(data, types_at)[0] == _u32(data, firsts_at)[0] == 1:
                return (
                    [_u32(data, streams_at + 4)[0]],
                    [_u16(data, types_at + 4)[0]],
                    [_u64(data, firsts_at + 4)[0]],
                    [_u32(data, counts_at + 4)[0]],
                )
        except struct.error:
            pass  # one of them has the words for it
        streams, types, firsts, counts = (self._vector(name, columns[at]).tolist() for name, at in _RUN_COLUMNS)
        return streams, types, firsts, counts

    def ends(self) -> memoryview:
        """End offsets of the events in the payload, u32 each."""
        return self._vector("ends", self._columns[6])

    @property
    def ends_at(self) -> int:
        """Byte offset of the first end in ``data``."""
        return self._columns[6] + 4

    @property
    def run_firsts_at(self) -> int:
        """Byte offset of the first run's first stream sequence in ``data``."""
        return self._columns[4] + 4

    def places(self) -> EventPlaces:
        """Where the events are, for finding single ones again and again."""
        return EventPlaces(self)

    def payload(self) -> memoryview:
        """The events back to back, each 8-aligned."""
        return self._vector("payload", self._columns[7])

    def span(self, index: int) -> tuple[int, int]:
        """Start and end of event ``index`` in ``data``. Raises ``MalformedBlock`` outside the payload."""
        ends_at = self._columns[6] + 4 + 4 * index
        try:
            end = self.payload_at + int(_U32.unpack_from(self.data, ends_at)[0])
            start = self.payload_at + (int(_U32.unpack_from(self.data, ends_at - 4)[0]) if index else 0)
        except struct.error:
            raise MalformedBlock("its ends reach beyond its end") from None
        if not start <= end <= len(self.data):
            raise MalformedBlock("an event lies outside")
        return start, end

    def run_of(self, index: int) -> tuple[Run, int]:
        """The run that holds event ``index``, and the index of the run's first event."""
        runs = self.runs
        if len(runs) == 1:
            return runs[0], 0
        starts = list(accumulate((run.count for run in runs), initial=0))
        at = bisect_right(starts, index) - 1
        return runs[at], starts[at]

    def stream_of(self, index: int) -> tuple[int, int]:
        """Stream number and stream sequence of event ``index``."""
        run, first = self.run_of(index)
        return run.stream, run.first_stream_sequence + index - first

    # -- commits -----------------------------------------------------------------------------------

    def commit_of(self, index: int) -> tuple[int, int]:
        """First global sequence and time (ns) of the commit that event ``index`` belongs to."""
        times = self.commit_times()
        if len(times) == 1:
            return self.commit_sequence, times[0]
        ends = list(accumulate(self.column("commit_counts")))
        at = bisect_right(ends, index)
        return (self.first + ends[at - 1] if at else self.commit_sequence), times[at]

    def commit_times(self) -> memoryview:
        """When each commit was recorded, nanoseconds, i64 each."""
        return self.column("commit_times").cast("B").cast("q")

    def commit_firsts(self) -> list[int]:
        """First global sequence of each commit that has events here; the first may lie in an earlier block."""
        ends = list(accumulate(self.column("commit_counts")))
        return [self.commit_sequence, *[self.first + end for end in ends[:-1]]]

    @property
    def last_time_ns(self) -> int:
        """When the last commit was recorded."""
        last: int = self.commit_times()[-1]
        return last

    def metadata_of(self, index: int) -> bytes | None:
        """The metadata (JSON) of event ``index``, or None."""
        if self._vtable is None:
            return None
        firsts = self.column("metadata_firsts")
        if not firsts:
            return None
        at = bisect_right(firsts, index) - 1
        if at < 0 or index >= firsts[at] + self.column("metadata_counts")[at]:
            return None
        return _pieces(self.column("metadata_ends"), self.column("metadata"))[at]

    # -- declarations ------------------------------------------------------------------------------

    @property
    def is_plain(self) -> bool:
        """True where the block has events only: no metadata, keys or declarations."""
        return self._vtable is None

    def declared_names(self) -> list[tuple[int, str]]:
        """``(number, name)`` of the stream names that first appear here."""
        return [
            (number, raw.decode())
            for number, raw in zip(
                self.column("name_numbers"), _pieces(self.column("name_ends"), self.column("names")), strict=True
            )
        ]

    def declared_types(self) -> list[tuple[int, str, bytes]]:
        """``(number, name, schema)`` of the event types that first appear here."""
        names = _pieces(self.column("type_name_ends"), self.column("type_names"))
        schemas = _pieces(self.column("type_schema_ends"), self.column("type_schemas"))
        return [
            (number, name.decode(), schema)
            for number, name, schema in zip(self.column("type_numbers"), names, schemas, strict=True)
        ]

    def declared_streams(self) -> list[tuple[int, int, bytes]]:
        """``(number, name number, id key)`` of the streams that first appear here."""
        ids = _pieces(self.column("stream_id_ends"), self.column("stream_ids"))
        return list(zip(self.column("stream_numbers").tolist(), self.column("stream_names").tolist(), ids, strict=True))

    def commit_keys(self) -> list[tuple[int, bytes, bytes]]:
        """``(index of the commit in this block, key token, content digest)`` of idempotent commits that begin here."""
        digests = self.column("key_digests")
        pieces = _pieces(self.column("key_ends"), self.column("keys"))
        return [
            (commit, token, bytes(digests[16 * index : 16 * index + 16]))
            for index, (commit, token) in enumerate(zip(self.column("key_commits"), pieces, strict=True))
        ]

    def store(self) -> tuple[bytes, int] | None:
        """The store's uuid and creation time (ns); only the first block of a log has them."""
        raw = bytes(self.column("store_uuid"))
        return (raw, self._scalar(_CREATED_SLOT, _I64)) if raw else None

    def check(self) -> None:
        """Whether the columns agree with each other. Raises ``MalformedBlock`` with what does not."""
        ends = self.ends().tolist()
        payload = self.payload()
        problems = []
        if not ends or len(ends) != self.count:
            problems.append("it holds no events")
        elif ends[-1] != len(payload) or any(end % 8 for end in ends) or any(a >= b for a, b in zip([0, *ends], ends)):  # noqa: B905 - pairwise with a start
            problems.append("its ends are not rising multiples of 8 up to the payload's end")
        for counts, others in (
            ("run_counts", ("run_streams", "run_types", "run_firsts")),
            ("commit_counts", ("commit_times",)),
        ):
            column = self.column(counts)
            if sum(column) != self.count or not all(column):
                problems.append(f"its {counts} do not add up to its events")
            problems += [
                f"{other} and {counts} differ in length" for other in others if len(self.column(other)) != len(column)
            ]
        if not self.commit_sequence <= self.first:
            problems.append("its first commit begins behind it")
        try:
            problems += self._cold_problems()
        except ValueError as exc:
            problems.append(f"its declarations do not fit together: {exc}")
        if problems:
            raise MalformedBlock("; ".join(problems))

    def _cold_problems(self) -> Iterator[str]:
        """What is wrong with metadata, keys and declarations. Raises ValueError where columns disagree."""
        if self.is_plain:
            return
        metadata = _pieces(self.column("metadata_ends"), self.column("metadata"))
        firsts, counts = self.column("metadata_firsts"), self.column("metadata_counts")
        if not len(metadata) == len(firsts) == len(counts):
            yield "its metadata columns differ in length"
        elif any(first + size > until for first, size, until in zip(firsts, counts, [*firsts[1:], self.count])):  # noqa: B905 - each with the next
            yield "its metadata is of more events than there are, or of some of them twice"
        commits = [commit for commit, _, _ in self.commit_keys()]
        if len(commits) * 16 != len(self.column("key_digests")):
            yield "its key digests are not 16 bytes each"
        if any(a >= b for a, b in zip(commits, [*commits[1:], len(self.column("commit_counts"))])):  # noqa: B905
            yield "its keys are of commits that it does not hold, or two are of one"
        if 0 in commits and self.commit_sequence != self.first:
            yield "it has a key for a commit that began in an earlier block"
        store = self.store()
        if store is not None and len(store[0]) != 16:
            yield "the store's uuid is not 16 bytes long"
        _ = (
            self.declared_names(),
            self.declared_types(),
            self.declared_streams(),
        )  # each raises where its columns disagree


def _cast(raw: memoryview, width: int) -> memoryview:
    """A column of unsigned numbers of so many bytes each."""
    code: Any = _CODES[width]
    typed: memoryview = raw.cast(code)
    return typed


def _pieces(ends: memoryview, data: memoryview) -> list[bytes]:
    """Byte strings that lie back to back in ``data``."""
    pieces = []
    start = 0
    for end in ends:
        if not start <= end <= len(data):
            raise MalformedBlock("a byte string reaches beyond its column")
        pieces.append(bytes(data[start:end]))
        start = end
    return pieces


@functools.lru_cache(maxsize=4_096)
def _stream_and_ends(gap: int) -> Callable[[memoryview, int], tuple[int, ...]]:
    """Reads a stream number, and two ends that stand so far behind it, in one call."""
    return struct.Struct(f"<I{gap}xII").unpack_from


class EventPlaces:
    """Where the events of one frame are: what finding one of them needs, kept without the frame.

    Attributes: ``first`` (first global sequence), ``count`` (events), ``crc`` and ``frame_bytes`` (which frame this is of),
    ``type`` (type number of all events; None where they differ). For ``locate``, and for who does the same in a loop of his own:
    ``run_ends`` (where each run ends; None where every run is one event), ``stream_and_ends`` (only there: reads the stream
    number and two ends in one call), ``streams_at``, ``firsts_at`` and ``ends_at`` (where these columns stand), ``payload_at``.
    """

    __slots__ = (
        "_columns",
        "_commit_sequence",
        "_types",
        "_vtable",
        "count",
        "crc",
        "ends_at",
        "first",
        "firsts_at",
        "frame_bytes",
        "payload_at",
        "run_ends",
        "stream_and_ends",
        "streams_at",
        "type",
    )

    def __init__(self, block: Block) -> None:
        self.crc = frame_crc(block.data)
        self.frame_bytes = len(block.data)
        self.first = block.first
        self.count = block.count
        self._commit_sequence = block.commit_sequence
        self._columns = block._columns  # noqa: SLF001 - the other half of one thing
        self._vtable = block._vtable  # noqa: SLF001
        self.payload_at = block.payload_at
        data = block.data
        _, _, streams_at, types_at, firsts_at, counts_at, ends_at, _ = self._columns
        self.streams_at = streams_at + 4
        self.firsts_at = firsts_at + 4
        self.ends_at = ends_at  # an event's start is the end before: of the first one, the column's length
        try:
            runs = _u32(data, types_at)[0]
            if not _u32(data, streams_at)[0] == _u32(data, firsts_at)[0] == _u32(data, counts_at)[0] == runs:
                raise MalformedBlock("its columns of runs differ in length")
        except struct.error:
            raise MalformedBlock("its columns of runs lie outside") from None
        types = data[types_at + 4 : types_at + 4 + 2 * runs].tobytes()
        counts = data[counts_at + 4 : counts_at + 4 + 4 * runs].tobytes()
        if len(types) != 2 * runs or len(counts) != 4 * runs:
            raise MalformedBlock("its columns of runs reach beyond its end")
        self.type: int | None = None
        self._types = b""
        if types == types[:2] * runs:
            self.type = _U16.unpack_from(types)[0] if types else 0
        else:
            self._types = types
        # Where every run is one event, as in a block of interleaved streams, an event's run has its own index.
        self.run_ends: array[int] | None
        self.run_ends = None
        gap = ends_at - streams_at - 8
        if counts == _ONE * runs and gap >= 0:
            self.stream_and_ends = _stream_and_ends(gap)
            if runs != block.count:
                raise MalformedBlock("its runs are not of all its events")
        else:
            ends = list(accumulate(array("I", counts)))
            if (ends[-1] if ends else 0) != block.count:
                raise MalformedBlock("its runs are not of all its events")
            self.run_ends = array("I", ends)

    def is_of(self, data: memoryview) -> bool:
        """Whether a frame, checked before, is still the one that this was made of."""
        return len(data) == self.frame_bytes and frame_crc(data) == self.crc

    def block(self, data: memoryview) -> Block:
        """The block in the frame, without looking at it again."""
        block = object.__new__(Block)
        block.data = data
        block._runs = None
        block._columns = self._columns
        block._vtable = self._vtable
        block.first = self.first
        block.commit_sequence = self._commit_sequence
        block.count = self.count
        block.payload_at = self.payload_at
        return block

    def event(
        self, data: memoryview, index: int, stream: int, stream_sequence: int, bytes_max: int
    ) -> tuple[int, bytes] | None:
        """Type number and a copy of event ``index``; None where ``data`` is not the frame that this was made of, or the event not
        this one of a stream, larger than ``bytes_max``, or malformed: whoever looks again says what is wrong."""
        if len(data) != self.frame_bytes or _u32(data)[0] != self.crc:
            return None
        try:
            of_stream, at, number, start, end = self.locate(data, index)
        except MalformedBlock:
            return None
        if of_stream != stream or at != stream_sequence or end - start > bytes_max:
            return None
        return number, data[start:end].tobytes()

    def locate(self, data: memoryview, index: int) -> tuple[int, int, int, int, int]:
        """Of event ``index``: stream number, stream sequence, type number, start and end (in ``data``). Raises ``MalformedBlock``
        for what lies outside the frame."""
        ends = self.run_ends
        try:
            if ends is None:
                run = begin = index
                stream, start, end = self.stream_and_ends(data, self.streams_at + 4 * index)
            else:
                run = bisect_right(ends, index)
                begin = ends[run - 1] if run else 0
                stream = _u32(data, self.streams_at + 4 * run)[0]
                start, end = _u32_pair(data, self.ends_at + 4 * index)
            first: int = _u64(data, self.firsts_at + 8 * run)[0]
        except struct.error:
            raise MalformedBlock("its columns reach beyond its end") from None
        if not index:
            start = 0  # the column's length stands there
        payload_at = self.payload_at
        if not start <= end <= self.frame_bytes - payload_at:
            raise MalformedBlock("an event lies outside")
        number = self.type
        if number is None:
            number = _u16(self._types, 2 * run)[0]
        return stream, first + index - begin, number, payload_at + start, payload_at + end


class BlockDraft:
    """A block being filled. Columns are appended to; ``encode`` gives the frame.

    ``bytes_max`` bounds what ``encode`` will return, so that a writer can stop in time; ``payload`` is a list of byte
    strings whose lengths are multiples of 8.
    """

    __slots__ = (
        "_bytes",
        "_cold",
        "columns",
        "commit_counts",
        "commit_sequence",
        "commit_times",
        "created_at_ns",
        "ends",
        "first",
        "payload",
        "payload_bytes",
        "run_counts",
        "run_firsts",
        "run_streams",
        "run_types",
    )

    def __init__(self, first: int, commit_sequence: int) -> None:
        self.first = first
        self.commit_sequence = commit_sequence
        self.commit_times = array("q")
        self.commit_counts = array("I")
        self.run_streams = array("I")
        self.run_types = array("H")
        self.run_firsts = array("Q")
        self.run_counts = array("I")
        self.ends = array("I")
        self.payload: list[bytes | memoryview] = []
        self.payload_bytes = 0
        self.created_at_ns = 0
        self.columns: dict[str, array[int]] = {}
        self._bytes = _HOT_BYTES
        self._cold = False

    @classmethod
    def of(cls, block: Block) -> BlockDraft:
        """A draft that continues a block; its bytes are copied."""
        draft = cls(block.first, block.commit_sequence)
        for name in ("commit_times", "commit_counts", "run_streams", "run_types", "run_firsts", "run_counts", "ends"):
            getattr(draft, name).frombytes(block.column(name).cast("B"))
        payload = bytes(block.payload())
        draft.payload.append(payload)
        draft.payload_bytes = len(payload)
        draft._bytes += (
            COMMIT_BYTES * len(draft.commit_counts)
            + RUN_BYTES * len(draft.run_counts)
            + EVENT_OVERHEAD_BYTES * len(draft.ends)
            + len(payload)
        )
        if not block.is_plain:
            store = block.store()
            draft.created_at_ns = store[1] if store else 0
            for name, width in COLD_COLUMNS:
                column = block.column(name)
                if column:
                    draft._put(name, array(_CODES[width], column.cast("B").tobytes()))
        return draft

    @property
    def count(self) -> int:
        """Events so far."""
        return len(self.ends)

    @property
    def bytes_max(self) -> int:
        """Upper bound of the frame's size in bytes."""
        return self._bytes

    def begin_commit(self, time_ns: int) -> None:
        """The events that follow belong to a commit of this time."""
        self.commit_times.append(time_ns)
        self.commit_counts.append(0)
        self._bytes += COMMIT_BYTES

    def add(self, stream: int, type_number: int, first_stream_sequence: int, bufs: Events) -> None:
        """Events of one stream and type, in order, each a multiple of 8 bytes long."""
        count = len(bufs)
        counts = self.run_counts
        if (
            counts
            and self.run_streams[-1] == stream
            and self.run_types[-1] == type_number
            and self.run_firsts[-1] + counts[-1] == first_stream_sequence
        ):
            counts[-1] += count
        else:
            self.run_streams.append(stream)
            self.run_types.append(type_number)
            self.run_firsts.append(first_stream_sequence)
            counts.append(count)
            self._bytes += RUN_BYTES
        before = self.payload_bytes
        if count == 1:
            self.payload_bytes = end = before + len(bufs[0])
            self.ends.append(end)
            self.payload.append(bufs[0])
        elif isinstance(bufs, list):
            ends = list(accumulate(map(len, bufs), initial=before))
            del ends[0]
            self.payload_bytes = end = ends[-1]
            self.ends.fromlist(ends)  # twice as fast as number by number
            self.payload += bufs
        else:
            self.payload_bytes = end = before + len(bufs.data)
            self.ends += bufs.ends(before)
            self.payload.append(bufs.data)
        self.commit_counts[-1] += count
        self._bytes += end - before + EVENT_OVERHEAD_BYTES * count

    def add_singles(self, singles: Sequence[Single]) -> None:
        """Commits of one event each, in order: what ``begin_commit`` and ``add`` would do for one after the other."""
        times, streams, types, firsts, bufs = map(list, zip(*singles, strict=True))
        if (self.run_streams and self.run_streams[-1] == streams[0]) or True in map(eq, streams, streams[1:]):
            for time_ns, stream, type_number, first, buf in singles:  # some may belong to one run
                self.begin_commit(time_ns)
                self.add(stream, type_number, first, [buf])
            return
        count = len(singles)
        ones = _ONES * count
        before = self.payload_bytes
        ends = list(accumulate(map(len, bufs), initial=before))
        del ends[0]
        self.commit_times.fromlist(times)
        self.commit_counts += ones
        self.run_streams.fromlist(streams)
        self.run_types.fromlist(types)
        self.run_firsts.fromlist(firsts)
        self.run_counts += ones
        self.ends.fromlist(ends)
        self.payload += bufs
        self.payload_bytes = end = ends[-1]
        self._bytes += end - before + SINGLE_BYTES * count

    def add_metadata(self, count: int, json_bytes: bytes) -> None:
        """Metadata of the ``count`` events that follow; equal metadata of neighbours is stored once."""
        counts = self.columns.get("metadata_counts")
        if counts is not None:
            ends, data = self.columns["metadata_ends"], self.columns["metadata"]
            start = ends[-2] if len(ends) > 1 else 0
            contiguous = self.columns["metadata_firsts"][-1] + counts[-1] == len(self.ends)
            if contiguous and data[start:].tobytes() == json_bytes:
                counts[-1] += count
                return
        self._number("metadata_firsts", len(self.ends))
        self._number("metadata_counts", count)
        self._piece("metadata_ends", "metadata", json_bytes)

    def add_key(self, token: bytes, digest: bytes) -> None:
        """The idempotency key of the commit begun last."""
        self._number("key_commits", len(self.commit_counts) - 1)
        self._piece("key_ends", "keys", token)
        self._put("key_digests", array("B", digest))

    def declare_stream(self, number: int, name_number: int, id_key: bytes) -> None:
        """A stream that first appears here."""
        self._number("stream_numbers", number)
        self._number("stream_names", name_number)
        self._piece("stream_id_ends", "stream_ids", id_key)

    def declare_name(self, number: int, name: str) -> None:
        """A stream name that first appears here."""
        self._number("name_numbers", number)
        self._piece("name_ends", "names", name.encode())

    def declare_type(self, number: int, name: str, schema: bytes) -> None:
        """An event type that first appears here."""
        self._number("type_numbers", number)
        self._piece("type_name_ends", "type_names", name.encode())
        self._piece("type_schema_ends", "type_schemas", schema)

    def declare_store(self, uuid: bytes, created_at_ns: int) -> None:
        """The store itself; only in the first block of a log."""
        self.created_at_ns = created_at_ns
        self._put("store_uuid", array("B", uuid))

    def _number(self, name: str, value: int) -> None:
        column = self.columns.get(name)
        if column is None:
            self._put(name, array(_CODES[_WIDTH_OF[name]], (value,)))
        else:
            column.append(value)
            self._bytes += column.itemsize

    def _piece(self, ends: str, data: str, raw: bytes) -> None:
        self._put(data, array("B", raw))
        self._number(ends, len(self.columns[data]))

    def _put(self, name: str, values: array[int]) -> None:
        if not self._cold:
            self._cold = True
            self._bytes += _COLD_BYTES
        column = self.columns.get(name)
        if column is None:
            self.columns[name] = values
        else:
            column.extend(values)
        self._bytes += values.itemsize * len(values)

    def encode(self) -> bytes:
        """The frame."""
        payload = self.payload[0] if len(self.payload) == 1 else b"".join(self.payload)
        if len(payload) < limits.TAIL_BLOCK_BYTES_MAX:
            payload = bytes(payload)  # an open tail stays, the buffer that it was filled from need not
        self.payload = [payload]  # an open tail is encoded again and again: join its events once
        cold = self.columns
        table = _FULL_TABLE if cold else _HOT_TABLE
        at = table + (_FULL_TABLE_BYTES if cold else _HOT_TABLE_BYTES)
        parts: list[bytes | array[int]] = [b""]
        places: dict[str, int] = {}
        for name, _ in COLD_COLUMNS if cold else ():
            if name not in cold:
                continue
            column = cold[name]
            pad = -at % 4 if column.itemsize < 8 else (4 - at) % 8
            places[name] = at = at + pad
            at += 4 + column.itemsize * len(column)
            parts += (_PADS[pad], _U32.pack(len(column)), column)
        # Said one by one: for the few events of an open tail a loop over the columns would be half of what this costs.
        first_pad = -at % 4
        counts = at + first_pad
        streams = counts + 4 + 4 * len(self.commit_counts)
        types = streams + 4 + 4 * len(self.run_streams)
        types_end = types + 4 + 2 * len(self.run_types)
        run_counts = types_end + (types_end & 2)
        ends = run_counts + 4 + 4 * len(self.run_counts)
        ends_end = ends + 4 + 4 * len(self.ends)
        times = ends_end + (4 - ends_end) % 8
        firsts = times + 8 + 8 * len(self.commit_times)
        at = firsts + 8 + 8 * len(self.run_firsts)
        parts += (
            _PADS[first_pad],
            _U32.pack(len(self.commit_counts)),
            self.commit_counts,
            _U32.pack(len(self.run_streams)),
            self.run_streams,
            _U32.pack(len(self.run_types)),
            self.run_types,
            _PADS[types_end & 2],
            _U32.pack(len(self.run_counts)),
            self.run_counts,
            _U32.pack(len(self.ends)),
            self.ends,
            _PADS[times - ends_end],
            _U32.pack(len(self.commit_times)),
            self.commit_times,
            _PADS[4],
            _U32.pack(len(self.run_firsts)),
            self.run_firsts,
            _PADS[4],
            _U32.pack(len(payload)),
        )
        fields = (
            times - table - 4,
            self.first,
            self.commit_sequence,
            counts - table - 24,
            streams - table - 28,
            types - table - 32,
            firsts - table - 36,
            run_counts - table - 40,
            ends - table - 44,
            at - table - 48,
        )
        if cold:
            parts[0] = self._full_header(places, fields)
        else:
            parts[0] = _HOT.pack(
                0, FORMAT, _HOT_TABLE - FRAME_HEADER_BYTES, IDENTIFIER, _HOT_VTABLE, len(_HOT_VTABLE), *fields
            )
        head = bytearray().join(parts)
        # The payload is most of the frame: summed where it lies, it is copied once.
        _U32.pack_into(head, 0, zlib.crc32(payload, zlib.crc32(memoryview(head)[4:])))
        return b"".join((head, payload))

    def _full_header(self, places: dict[str, int], fields: tuple[int, ...]) -> bytes:
        """Frame header, vtable and table of a full block; absent columns have vtable entry 0."""
        header = bytearray(_FULL_TABLE + _FULL_TABLE_BYTES)
        vtable = [_FULL_VTABLE_BYTES, _FULL_TABLE_BYTES, *_HOT_FIELDS, _CREATED_FIELD if self.created_at_ns else 0]
        for index, (name, _) in enumerate(COLD_COLUMNS):
            place = places.get(name)
            field = 64 + 4 * index
            vtable.append(field if place is not None else 0)
            if place is not None:
                _U32.pack_into(header, _FULL_TABLE + field, place - _FULL_TABLE - field)
        _FULL.pack_into(
            header,
            0,
            0,
            FORMAT,
            _FULL_TABLE - FRAME_HEADER_BYTES,
            IDENTIFIER,
            struct.pack(f"<{2 + _SLOTS}H", *vtable),
            _FULL_VTABLE_BYTES + 4,
            *fields,
        )
        _I64.pack_into(header, _FULL_TABLE + _CREATED_FIELD, self.created_at_ns)
        return bytes(header)


_PADS = [b"\0" * size for size in range(8)]


class FullBlock:
    """A block that is ready: ``first`` (its first global sequence) and what ``encode`` gives."""

    __slots__ = ("_frame", "first")

    def __init__(self, first: int, frame: bytes) -> None:
        self.first = first
        self._frame = frame

    def encode(self) -> bytes:
        """The frame."""
        return self._frame


class FullBlocks:
    """Blocks of nothing but ``count`` events of one size, all of one run and one commit: they are alike but for where they
    stand and the events themselves, so that one serves as the model of all the others.

    ``commit_sequence`` is the commit's first global sequence, which lies in an earlier block.
    """

    __slots__ = ("_head", "_run_first_at", "count", "size")

    def __init__(
        self, time_ns: int, commit_sequence: int, stream: int, type_number: int, size: int, count: int
    ) -> None:
        draft = BlockDraft(0, commit_sequence)
        draft.begin_commit(time_ns)
        draft.add(stream, type_number, 0, Packed(memoryview(bytes(size * count)), size))
        model = Block(memoryview(draft.encode()))
        self.count = count
        self.size = size
        self._head = bytes(model.data[: model.payload_at])
        self._run_first_at = model.run_firsts_at

    def block(self, first: int, first_stream_sequence: int, events: memoryview) -> FullBlock:
        """The one whose first event has these sequences."""
        head = bytearray(self._head)
        _U64.pack_into(head, _HOT_FIRST, first)
        _U64.pack_into(head, self._run_first_at, first_stream_sequence)
        _U32.pack_into(head, 0, zlib.crc32(events, zlib.crc32(memoryview(head)[4:])))
        return FullBlock(first, b"".join((head, events)))


def block_bytes_max(events: int, runs: int, payload_bytes: int) -> int:
    """Upper bound of what a commit adds to a block, without metadata, key and declarations."""
    return COMMIT_BYTES + RUN_BYTES * runs + EVENT_OVERHEAD_BYTES * events + payload_bytes


def cold_bytes_max(draft: BlockDraft) -> int:
    """What the first cold column would add to a draft."""
    return 0 if draft.columns else _COLD_BYTES


assert limits.TAIL_BLOCK_BYTES_MAX % 8 == 0
