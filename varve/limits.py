"""Every limit of Varve, by name, with its unit last.

Limits of the format (changing one changes the bytes on disk) and limits of the process are kept apart.
"""

from typing import Final

# -- the format ------------------------------------------------------------------------------------

PAGE_BYTES: Final = 4096
"""LMDB's page on every supported machine; block sizes are whole pages less PAGE_HEADER_BYTES."""

PAGE_HEADER_BYTES: Final = 16
"""What LMDB keeps of the first page of a value that has pages of its own."""

BLOCK_BYTES_MAX: Final = 8 * PAGE_BYTES - PAGE_HEADER_BYTES
"""A block that a batch fills (frame included). One event may exceed it: it then has a block of its own."""

TAIL_BLOCK_BYTES_MAX: Final = 2 * PAGE_BYTES - PAGE_HEADER_BYTES
"""Up to here small commits extend the last block in place; also the block size where runs are short."""

SHORT_RUN_EVENTS: Final = 8
"""A commit whose runs are shorter than this on average is interleaved: its blocks stay small, so that reading one
stream out of them does not drag in too many neighbours."""

RUNS_PER_INDEX_ENTRY_MAX: Final = 32

NAME_BYTES_MAX: Final = 255
"""UTF-8 bytes of a stream name."""

STREAM_ID_BYTES_MAX: Final = 255
"""UTF-8 bytes of a str stream id."""

IDEMPOTENCY_KEY_BYTES_MAX: Final = 255

TYPE_NAME_BYTES_MAX: Final = 255

NAMES_MAX: Final = 65_535
"""Stream names in a store: they are categories, not ids."""

TYPES_MAX: Final = 65_535
"""Event types in a store, versions counted."""

STREAMS_MAX: Final = 2**32 - 1

EVENTS_MAX: Final = 2**63 - 1

# -- input -----------------------------------------------------------------------------------------

EVENT_BYTES_MAX: Final = 64 * 2**20
"""One encoded event."""

METADATA_BYTES_MAX: Final = 16 * 2**10
"""One append's metadata as JSON."""

FIELDS_MAX: Final = 1_000
"""Fields of one event class; a FlatBuffers vtable holds 16-bit offsets."""

SCHEMA_BYTES_MAX: Final = 2**20

FBS_CHARS_MAX: Final = 2**20
"""One .fbs file."""

FBS_FILES_MAX: Final = 256
"""A .fbs file with everything that it includes."""

NESTING_DEPTH_MAX: Final = 64
"""Tables inside tables, when encoding and when verifying bytes from elsewhere."""

TRANSACTION_BYTES_MAX: Final = 2**30
"""Encoded events of one transaction: LMDB keeps every dirty page of a transaction in memory."""

# -- the process -----------------------------------------------------------------------------------

MAP_BYTES: Final = 2**40
"""Address space reserved for the map; sparse, halved until the machine agrees."""

MAP_BYTES_MIN: Final = 2**20

MAP_BYTES_MAX: Final = 2**46
"""More than half of what a process can address on common machines cannot be reserved."""

READERS_MAX: Final = 1_024

DATABASES_MAX: Final = 16

PINNED_SNAPSHOTS_MAX: Final = 32
"""Beyond this many live snapshots a read copies its block instead of pinning one more."""

COPIED_EVENT_BYTES_MAX: Final = 4 * 2**10
"""A typed get copies an event up to this size: cheaper than a pin."""

CHECKED_BLOCKS_MAX: Final = 1 << 16
"""Blocks whose checksum this process remembers to have seen right."""

CACHED_STREAMS_MAX: Final = 1 << 18
"""Stream numbers and lengths that a handle keeps in memory."""

CACHED_INDEX_ENTRIES_MAX: Final = 1 << 14
"""Last index entries of streams that a writer keeps in memory, at most 384 bytes each."""

PACK_LAYOUTS_MAX: Final = 4_096
"""Precompiled struct layouts that are kept for whole events of one class, and as many for nested ones; likewise the beginnings
of its events that views know."""

SNAPSHOT_AGE_S_WARN: Final = 60.0
"""A snapshot older than this is worth a warning: LMDB cannot reuse pages that it may still read."""

ITERATOR_SNAPSHOT_AGE_S_MAX: Final = 1.0
"""An iterator without an explicit snapshot renews its transaction at a block boundary after this long."""
