"""A block that is read: a frame of the log as columns, runs, commits and events."""

from __future__ import annotations

import functools
import struct
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple

from varve.layout.frame import (
    CODES,
    COLUMNS,
    CREATED_SLOT,
    FORMAT,
    FRAME_HEADER_BYTES,
    FULL,
    FULL_TABLE,
    FULL_VTABLE_BYTES,
    HOT,
    HOT_ROOT,
    HOT_SLOTS,
    HOT_SOFFSET,
    HOT_TABLE,
    HOT_VTABLE,
    IDENTIFIER,
    SLOT_OF,
    WIDTH_OF,
    MalformedBlock,
    frame_crc,
)

_RUN_COLUMNS = tuple((name, index) for index, (name, _) in enumerate(COLUMNS) if name.startswith("run_"))

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


class Run(NamedTuple):
    """Consecutive events of one stream and one type."""

    stream: int
    type: int
    first_stream_sequence: int
    count: int  # type: ignore[assignment]  # pyright: ignore[reportIncompatibleMethodOverride] - nobody calls tuple.count


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
            ) = HOT.unpack_from(data)
            if vtable == HOT_VTABLE and root == HOT_ROOT and soffset == HOT_SOFFSET:
                table = HOT_TABLE
                self._vtable = None
                self.first = first
                self.commit_sequence = commit_sequence
            else:
                _, _, _, _, vtable, soffset, times, self.first, self.commit_sequence, *offsets = FULL.unpack_from(data)
                if (
                    root == FULL_TABLE - FRAME_HEADER_BYTES
                    and soffset == FULL_VTABLE_BYTES + 4
                    and vtable[4 : len(HOT_VTABLE)] == HOT_VTABLE[4:]
                ):
                    table = FULL_TABLE
                    self._vtable = (table, FRAME_HEADER_BYTES + 8, FULL_VTABLE_BYTES)
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
            place = self._field_at(SLOT_OF[name])
            return place + int(_U32.unpack_from(self.data, place)[0]) if place is not None else None
        except struct.error:
            raise MalformedBlock(f"its {name} lie outside") from None

    def _vector(self, name: str, place: int) -> memoryview:
        """A column as a typed memoryview."""
        width = WIDTH_OF[name]
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
        slot = SLOT_OF[name]
        place = self._columns[slot - 2] if slot < HOT_SLOTS else self._vector_at(name)
        if place is None:
            return _cast(memoryview(b""), WIDTH_OF[name])
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
        return (raw, self._scalar(CREATED_SLOT, _I64)) if raw else None

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
    code: Any = CODES[width]
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


class Unread:
    """Stands for the ``EventPlaces`` of a block of which only one event was looked at."""

    def block(self, data: memoryview) -> Block:
        """The block in a checked frame."""
        return Block(data)


UNREAD = Unread()


def lone_event(data: memoryview, first: int, sequence: int) -> tuple[int, int, int, int, int] | None:
    """Of one event in a checked frame that begins at ``first``: stream number, stream sequence, type number and start (in
    ``data``); last, how many events the frame has. In a third of the time of ``EventPlaces``.

    Only for frames of events alone that have as many runs as events, which is then the event's own; None for any other, and for
    whatever is not as it should be: ``EventPlaces`` says what. That every run before it is of one event as well is not looked at:
    whose event it is, the caller must know.
    """
    try:
        (
            _, flags, root, identifier, vtable, soffset, _, begins, _, _, streams, types, firsts, counts, ends, payload,
        ) = HOT.unpack_from(data)  # fmt: skip
        index = sequence - first
        streams += HOT_TABLE + 28
        types += HOT_TABLE + 32
        firsts += HOT_TABLE + 36
        counts += HOT_TABLE + 40
        ends += HOT_TABLE + 44
        payload += HOT_TABLE + 52
        runs = _u32(data, ends)[0]
        if (
            not 0 <= index < runs
            or begins != first
            or flags != FORMAT
            or identifier != IDENTIFIER
            or vtable != HOT_VTABLE
            or root != HOT_ROOT
            or soffset != HOT_SOFFSET
            or not _u32(data, streams)[0]
            == _u32(data, types)[0]
            == _u32(data, firsts)[0]
            == _u32(data, counts)[0]
            == runs
            or _u32(data, counts + 4 + 4 * index)[0] != 1
        ):
            return None
        start, end = _u32_pair(data, ends + 4 * index)
        if not index:
            start = 0  # the column's length stands there
        if not start <= end <= len(data) - payload:
            return None
        stream = _u32(data, streams + 4 + 4 * index)[0]
        at: int = _u64(data, firsts + 4 + 8 * index)[0]
        return stream, at, _u16(data, types + 4 + 2 * index)[0], payload + start, runs
    except struct.error:
        return None
