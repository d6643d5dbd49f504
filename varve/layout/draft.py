"""A block that is written: drafts that are filled and encoded, and blocks that are ready."""

from __future__ import annotations

import struct
import zlib
from array import array
from collections.abc import Sequence
from itertools import accumulate
from operator import eq
from typing import Final

from varve import limits
from varve.layout.block import Block
from varve.layout.frame import (
    CODES,
    COLD_BYTES,
    COLD_COLUMNS,
    COMMIT_BYTES,
    CREATED_FIELD,
    EVENT_OVERHEAD_BYTES,
    FORMAT,
    FRAME_HEADER_BYTES,
    FULL,
    FULL_TABLE,
    FULL_TABLE_BYTES,
    FULL_VTABLE_BYTES,
    HOT,
    HOT_BYTES,
    HOT_FIELDS,
    HOT_FIRST,
    HOT_TABLE,
    HOT_TABLE_BYTES,
    HOT_VTABLE,
    IDENTIFIER,
    RUN_BYTES,
    SLOTS,
    WIDTH_OF,
)
from varve.layout.packed import Events, Joined, Packed

_U32 = struct.Struct("<I")
_U64 = struct.Struct("<Q")
_I64 = struct.Struct("<q")
_ONES = array("I", (1,))
SINGLE_BYTES: Final = COMMIT_BYTES + RUN_BYTES + EVENT_OVERHEAD_BYTES
"""Upper bound of what a commit of one event adds to a block beside the event."""

Single = tuple[int, int, int, int, bytes]
"""A commit of one event: its time, stream number, type number, stream sequence, the event."""


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
        self._bytes = HOT_BYTES
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
                    draft._put(name, array(CODES[width], column.cast("B").tobytes()))
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
            self._put(name, array(CODES[WIDTH_OF[name]], (value,)))
        else:
            column.append(value)
            self._bytes += column.itemsize

    def _piece(self, ends: str, data: str, raw: bytes) -> None:
        self._put(data, array("B", raw))
        self._number(ends, len(self.columns[data]))

    def _put(self, name: str, values: array[int]) -> None:
        if not self._cold:
            self._cold = True
            self._bytes += COLD_BYTES
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
        table = FULL_TABLE if cold else HOT_TABLE
        at = table + (FULL_TABLE_BYTES if cold else HOT_TABLE_BYTES)
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
            parts[0] = HOT.pack(
                0, FORMAT, HOT_TABLE - FRAME_HEADER_BYTES, IDENTIFIER, HOT_VTABLE, len(HOT_VTABLE), *fields
            )
        head = bytearray().join(parts)
        # The payload is most of the frame: summed where it lies, it is copied once.
        _U32.pack_into(head, 0, zlib.crc32(payload, zlib.crc32(memoryview(head)[4:])))
        return b"".join((head, payload))

    def _full_header(self, places: dict[str, int], fields: tuple[int, ...]) -> bytes:
        """Frame header, vtable and table of a full block; absent columns have vtable entry 0."""
        header = bytearray(FULL_TABLE + FULL_TABLE_BYTES)
        vtable = [FULL_VTABLE_BYTES, FULL_TABLE_BYTES, *HOT_FIELDS, CREATED_FIELD if self.created_at_ns else 0]
        for index, (name, _) in enumerate(COLD_COLUMNS):
            place = places.get(name)
            field = 64 + 4 * index
            vtable.append(field if place is not None else 0)
            if place is not None:
                _U32.pack_into(header, FULL_TABLE + field, place - FULL_TABLE - field)
        FULL.pack_into(
            header,
            0,
            0,
            FORMAT,
            FULL_TABLE - FRAME_HEADER_BYTES,
            IDENTIFIER,
            struct.pack(f"<{2 + SLOTS}H", *vtable),
            FULL_VTABLE_BYTES + 4,
            *fields,
        )
        _I64.pack_into(header, FULL_TABLE + CREATED_FIELD, self.created_at_ns)
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
    """Blocks of nothing but events of one run and one commit: those with equally many are alike but for where they stand, where
    their events end and the events themselves, so that one serves as the model of the others.

    ``commit_sequence`` is the commit's first global sequence, which lies in an earlier block.
    """

    __slots__ = ("_commit_sequence", "_models", "_stream", "_time_ns", "_type_number")

    def __init__(self, time_ns: int, commit_sequence: int, stream: int, type_number: int) -> None:
        self._time_ns = time_ns
        self._commit_sequence = commit_sequence
        self._stream = stream
        self._type_number = type_number
        self._models: dict[int, tuple[bytes, int, int]] = {}  # by events: all before the first, two places in that

    def block(self, first: int, first_stream_sequence: int, events: Packed | Joined) -> FullBlock:
        """The one whose first event has these sequences."""
        count, data = len(events), events.data
        model, run_first_at, ends_at = self._models.get(count) or self._model(count)
        head = bytearray(model)
        _U64.pack_into(head, HOT_FIRST, first)
        _U64.pack_into(head, run_first_at, first_stream_sequence)
        head[ends_at : ends_at + 4 * count] = memoryview(events.ends(0)).cast("B")
        _U32.pack_into(head, len(head) - 4, len(data))
        _U32.pack_into(head, 0, zlib.crc32(data, zlib.crc32(memoryview(head)[4:])))
        return FullBlock(first, b"".join((head, data)))

    def _model(self, count: int) -> tuple[bytes, int, int]:
        draft = BlockDraft(0, self._commit_sequence)
        draft.begin_commit(self._time_ns)
        draft.add(self._stream, self._type_number, 0, Packed(memoryview(bytes(8 * count)), 8))
        block = Block(memoryview(draft.encode()))
        model = self._models[count] = (bytes(block.data[: block.payload_at]), block.run_firsts_at, block.ends_at)
        return model


def block_bytes_max(events: int, runs: int, payload_bytes: int) -> int:
    """Upper bound of what a commit adds to a block, without metadata, key and declarations."""
    return COMMIT_BYTES + RUN_BYTES * runs + EVENT_OVERHEAD_BYTES * events + payload_bytes


def cold_bytes_max(draft: BlockDraft) -> int:
    """What the first cold column would add to a draft."""
    return 0 if draft.columns else COLD_BYTES


assert limits.TAIL_BLOCK_BYTES_MAX % 8 == 0
