"""The bytes of a block: what stands where in a frame, and its checksum.

A value of the log is a *frame*: ``u32 crc32 of the rest | u32 format | FlatBuffer``, a multiple of 8 bytes. The FlatBuffer is one
``Block`` table of schemas/varve.fbs (identifier ``VRV1``): two numbers and parallel vectors (columns). LMDB keeps
values of 8-byte keys 8-aligned in the map, the FlatBuffer starts at byte 8 of the frame and the payload vector is
aligned to 8, so every event is 8-aligned in memory and typed vectors can be read in place.

Two shapes are written, told apart by the size of their vtable: *hot* (events only) and *full* (with any of metadata,
idempotency keys, declarations). Any other valid shape is read through its vtable, so that a later version may add
columns. Source of the byte rules: the FlatBuffers internals document (little-endian, offsets relative and forward,
vtable of u16).
"""

from __future__ import annotations

import struct
import sys
import zlib
from typing import Final, NamedTuple

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
CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}
HOT_SLOTS = 2 + len(COLUMNS)
CREATED_SLOT = HOT_SLOTS
SLOTS = HOT_SLOTS + 1 + len(COLD_COLUMNS)
SLOT_OF = {name: 2 + index for index, (name, _) in enumerate(COLUMNS)} | {
    name: CREATED_SLOT + 1 + index for index, (name, _) in enumerate(COLD_COLUMNS)
}
WIDTH_OF = dict(COLUMNS + COLD_COLUMNS)

# Table, relative to its start: soffset | commit_times | first, commit sequence | the other hot columns | pad | created
# | cold
HOT_FIELDS = (8, 16, 4, *range(24, 24 + 4 * (len(COLUMNS) - 1), 4))
HOT_TABLE_BYTES = 24 + 4 * (len(COLUMNS) - 1)
CREATED_FIELD = 56
FULL_TABLE_BYTES = 64 + 4 * len(COLD_COLUMNS)
HOT_VTABLE = struct.pack(f"<{2 + HOT_SLOTS}H", 4 + 2 * HOT_SLOTS, HOT_TABLE_BYTES, *HOT_FIELDS)
HOT_TABLE = FRAME_HEADER_BYTES + 8 + len(HOT_VTABLE)
HOT_FIRST = HOT_TABLE + 8
HOT_ROOT = HOT_TABLE - FRAME_HEADER_BYTES
HOT_SOFFSET = len(HOT_VTABLE)
FULL_VTABLE_BYTES = 4 + 2 * SLOTS
FULL_TABLE = FRAME_HEADER_BYTES + 8 + FULL_VTABLE_BYTES + 4

HOT = struct.Struct(f"<III4s{len(HOT_VTABLE)}siIQQ{len(COLUMNS) - 1}I")
FULL = struct.Struct(f"<III4s{FULL_VTABLE_BYTES}s4xiIQQ{len(COLUMNS) - 1}I")
U32: Final = struct.Struct("<I")


class HotFrame(NamedTuple):
    """What frames of events alone begin with, for whoever reads many at once: its ``size`` in bytes; ``constant`` words from byte
    4 on; where the two sequences stand; and where the offsets of the columns stand, in order of ``COLUMNS``."""

    size: int
    constant: bytes
    first_at: int
    commit_at: int
    columns_at: tuple[int, ...]


HOT_FRAME: Final = HotFrame(
    HOT.size,
    struct.pack(
        f"<II4s{len(HOT_VTABLE)}si", FORMAT, HOT_TABLE - FRAME_HEADER_BYTES, IDENTIFIER, HOT_VTABLE, len(HOT_VTABLE)
    ),
    HOT_TABLE + 8,
    HOT_TABLE + 16,
    (HOT_TABLE + 4, *range(HOT_TABLE + 24, HOT.size, 4)),
)

# Upper bounds of what a block takes beside its columns' elements: length words and alignment.
HOT_BYTES = HOT.size + 4 * len(COLUMNS) + 28
COLD_BYTES = FULL_TABLE + FULL_TABLE_BYTES - HOT.size + 8 * len(COLD_COLUMNS)
COMMIT_BYTES: Final = 12
RUN_BYTES: Final = 18
EVENT_OVERHEAD_BYTES: Final = 4


class MalformedBlock(ValueError):
    """Bytes that are no block; the engine turns it into ``CorruptedBlock`` with the position."""


def frame_crc(data: bytes | memoryview) -> int:
    """The checksum that a frame says it has."""
    crc: int = U32.unpack_from(data)[0]
    return crc


def crc_holds(data: bytes | memoryview) -> bool:
    """Whether a frame's checksum is right."""
    return len(data) >= HOT.size and zlib.crc32(memoryview(data)[4:]) == U32.unpack_from(data)[0]
