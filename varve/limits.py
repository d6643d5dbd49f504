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

RESERVED_PREFIX: Final = "varve."
"""How names of streams and event types begin that are Varve's own: what repair puts in the place of lost events."""

OWN_TYPES: Final = frozenset({"varve.Aborted", "varve.AccessRefused"})
"""Event types of Varve's own that are appended like any other."""

TAKEN_TYPES: Final = OWN_TYPES | {"varve.Gap", "varve.Lost"}
"""Those whose events mean something to Varve: no class of somebody else's is taken for one."""

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

CONSUMER_PARTITIONS: Final = 256
"""Partitions of a consumer: the most members that can share it."""

STATE_KEY_BYTES_MAX: Final = 480
"""A key of state, encoded (``varve.layout.ordered``): LMDB's keys have 511 bytes at most."""

# -- input -----------------------------------------------------------------------------------------

EVENT_BYTES_MAX: Final = 64 * 2**20
"""One encoded event."""

SAVED_STATE_BYTES_MAX: Final = 2**30
"""One encoded state in ``db.snapshots``."""

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

COMMIT_BYTES: Final = 16 * PAGE_BYTES
"""What a small commit costs in new pages while a snapshot keeps the old ones: 13 pages were measured."""

REAP_BYTES: Final = 16 * 2**20
"""After a handle has written so much it looks for readers that died: the pages that they held are used again from there
on, so a killed reader costs about this much of the file."""

DATABASES_MAX: Final = 16

PINNED_SNAPSHOTS_MAX: Final = 32
"""Beyond this many live snapshots a read copies its block instead of pinning one more."""

GROUP_COMMITS_MAX: Final = 4_096
"""Commits that share one write transaction."""

GROUP_BYTES_MAX: Final = 8 * 2**20
"""Encoded events of commits that share one write transaction; a larger one has one to itself."""

LINGER_S_MAX: Final = 10.0
"""The longest that a commit may wait for company."""

PENDING_COMMITS_MAX: Final = 4_096
"""Commits of one event loop under way; further ``append_async`` calls wait for room."""

PENDING_BYTES_MAX: Final = 64 * 2**20
"""Encoded events of one event loop under way."""

HELPER_IDLE_S: Final = 5.0
"""The thread that serves waiting appends ends after this long without any."""

COPIED_EVENT_BYTES_MAX: Final = 4 * 2**10
"""A typed get copies an event up to this size: cheaper than a pin."""

CHECKED_BLOCKS_MAX: Final = 1 << 16
"""Blocks whose checksum this process remembers to have seen right."""

CACHED_STREAMS_MAX: Final = 1 << 18
"""Stream numbers and lengths that a handle keeps in memory."""

KNOWN_INDEX_ENTRIES_MAX: Final = 1 << 15
"""Index entries of streams that a handle's readers keep in memory, about 0.7 kB each at most."""

CACHED_INDEX_ENTRIES_MAX: Final = 1 << 14
"""Last index entries of streams that a writer keeps in memory, at most 384 bytes each."""

PACK_LAYOUTS_MAX: Final = 4_096
"""Precompiled struct layouts that are kept for whole events of one class, and as many for nested ones; likewise the beginnings
of its events that views know."""

SCATTERED_RANGES_MAX: Final = 32
"""Short runs of events, here and there in the log, that an iterator reads at a time: as many as an index entry holds."""

RETENTION_LOOK_S: Final = 0.25
"""How often a handle looks whether another process has set the first retention rule of a store."""

SLOW_COMMIT_S: Final = 1.0
"""LMDB's part of a commit (pages and fsync) that takes longer is worth a warning in the log."""

SLOW_COMMIT_LOG_INTERVAL_S: Final = 60.0
"""How often such a warning is repeated at most, by each handle."""

SNAPSHOT_AGE_S_WARN: Final = 60.0
"""A snapshot older than this is worth a warning: LMDB cannot reuse pages that it may still read."""

ITERATOR_SNAPSHOT_AGE_S_MAX: Final = 1.0
"""An iterator without an explicit snapshot renews its transaction at a block boundary after this long."""

# -- tails -----------------------------------------------------------------------------------------

TAIL_EVENTS_MAX: Final = 512
"""Events that a tail reads ahead, and the default size of its batches: at most a millisecond's work."""

TAIL_BYTES_MAX: Final = 2**20
"""Bytes of blocks that a tail reads in one step; a larger block is read alone."""

TAIL_BLOCKS_MAX: Final = 64
"""Blocks that a tail looks through in one step, where nothing matches."""

TAIL_RUNS_MAX: Final = 4_096
"""Runs that a tail looks at in one step, where nothing matches."""

BATCH_EVENTS_MAX: Final = 1 << 16
"""The largest batch that can be asked of a tail."""

TAIL_TURN_S_MAX: Final = 0.002
"""How long a tail that has events goes on before it lets other tasks of its loop run."""

POLL_ACTIVE_INTERVAL_S: Final = 0.005
"""How often the poller looks for commits of other processes while there are some."""

POLL_IDLE_INTERVAL_S: Final = 0.05
"""The same while there are none."""

POLL_ACTIVE_S: Final = 0.5
"""For how long a commit makes it look often."""

HINTED_WATCHERS_MAX: Final = 64
"""Watching processes that a writer hints after a commit; more of them poll."""

POLLER_LINGER_S: Final = 2.0
"""For how long the poller stays when nobody waits."""

# -- consumers -------------------------------------------------------------------------------------

CONSUMER_STORE_INTERVAL_S: Final = 0.25
"""How often a consumer that commits by itself stores its position, where ``interval_s`` does not say otherwise."""

CONSUMER_SCANNED_INTERVAL_S: Final = 1.0
"""How often a consumer stores that it has passed events over, where none of them were for it."""

CONSUMER_CHECK_INTERVAL_S: Final = 0.1
"""A consumer that has not touched its stored position for this long looks whether it was taken over."""

CONSUMER_CLAIM_TRIES_MAX: Final = 50
"""How often a lock is tried that is held only by those who look whether it is held."""

# -- processors ------------------------------------------------------------------------------------

PROCESSOR_EVENTS_MAX: Final = 1_024
"""Events whose effects a processor commits together, where ``batch`` does not say otherwise."""

PROCESSOR_COMMIT_S: Final = 0.25
"""A processor commits what its handlers did after this long, though its batch is not at its end."""

PROCESSOR_BYTES_MAX: Final = 4 * 2**20
"""Bytes of what handlers appended and changed, above which a processor commits it, though its batch is not at its end."""

PROCESSOR_CONFLICTS_MAX: Final = 32
"""How often an event alone is handled again since what its handler read has changed; then the conflict counts as the handler's
failure."""

BREAKER_LOOK_S: Final = 0.05
"""How often a processor looks at a circuit breaker whose trials are under way elsewhere."""

DEAD_LETTER_LOOK_S: Final = 0.5
"""How often a processor that has dead letters and nothing to do looks whether somebody dropped some or wants them retried."""

DEAD_LETTER_MESSAGE_CHARS_MAX: Final = 4_096
"""Characters of an error's message that a dead letter keeps, from its beginning."""

DEAD_LETTER_TRACEBACK_CHARS_MAX: Final = 16_384
"""Characters of a traceback that a dead letter keeps, from its end."""

ANNOTATED_BYTES_MAX: Final = 2**20
"""An event whose bytes are annotated one by one: each number is an object then."""

# -- state -----------------------------------------------------------------------------------------

STATE_VALUE_BYTES_MAX: Final = 16 * 2**20
"""One value of state, encoded."""

STATE_CHUNK_KEYS: Final = 256
"""Keys and values of state that a scan reads in one step, ``STATE_CHUNK_BYTES`` at most."""

STATE_CHUNK_BYTES: Final = 2**20

OPTIMISTIC_RETRIES: Final = 16
"""How often ``db.optimistic`` runs its function again where others were faster, unless it is told otherwise."""

OPTIMISTIC_PAUSE_S: Final = 0.0005
"""The longest pause before the first of these; it doubles from one to the next, up to ``OPTIMISTIC_PAUSE_S_MAX``."""

OPTIMISTIC_PAUSE_S_MAX: Final = 0.05

# -- moving logs -----------------------------------------------------------------------------------

IMPORT_COMMITS_MAX: Final = 32_768
"""Commits that an import puts into one write transaction. Each transaction writes an index page for nearly every stream that
it touches: of a log of small commits in many streams, fewer and larger ones load several times as fast. Those that wait take
about 3 kB each beside their events, 100 MB in all; ``IMPORT_BYTES_MAX`` bounds the events."""

IMPORT_BYTES_MAX: Final = 8 * 2**20
"""Encoded events of one write transaction of an import; a larger commit has one to itself."""

IMPORT_ROWS_MAX: Final = 1_000
"""Rows of a file of other origin that become one commit."""

IMPORT_LINE_BYTES_MAX: Final = 8 * EVENT_BYTES_MAX
"""One line of a JSON lines file: text may take six bytes for a character."""

FINDINGS_MAX: Final = 1_000
"""Findings that a verification spells out; it counts the others."""

# -- scoped handles --------------------------------------------------------------------------------

SCOPE_PATTERNS_MAX: Final = 1_000
"""Patterns of one kind that a scoped handle is made with."""

SCOPE_PATTERN_CHARS_MAX: Final = 1_024
"""Characters of a pattern."""

SCOPE_DECISIONS_MAX: Final = 65_536
"""Streams of which a handle remembers whether they are allowed."""

SCOPE_DEPTH_MAX: Final = 16
"""How often a scoped handle can be narrowed: every step is asked for each stream."""

AUDIT_REFUSALS_MAX: Final = 60
"""Refusals that a handle records in AUDIT_WINDOW_S; it counts the others."""

AUDIT_WINDOW_S: Final = 60.0

AUDIT_PENDING_MAX: Final = 100
"""Refusals that wait to be recorded: inside of ``db.write`` nothing else can be."""

AUDIT_TEXT_CHARS_MAX: Final = 512
"""Characters of a target that an audit record keeps."""

# -- projections -----------------------------------------------------------------------------------

PROJECTION_NAME_CHARS_MAX: Final = 64
"""Characters of a projection's name, which is a folder's."""

PROJECTION_BATCH_EVENTS_MAX: Final = 32_768
"""Events of one SQLite transaction while a projection catches up."""

PROJECTION_BATCH_S_MAX: Final = 0.5
"""A transaction of a projection ends after so long, whatever it holds."""

PROJECTION_STEP_EVENTS: Final = 4_096
"""Events that a projection reads ahead."""

PROJECTION_BUSY_S_MAX: Final = 5.0
"""How long a projection waits for another program that has its SQLite file locked."""

PROJECTION_POLL_S: Final = 0.005
"""How often who waits for a projection that another process runs looks at it, at first."""

PROJECTION_POLL_S_MAX: Final = 0.05
"""The same later on; also how soon who follows the log notices that he shall stop."""

PROJECTION_CLEAR_S: Final = 5.0
"""How often who follows the log looks whether old generations of a projection can be removed."""

PROJECTION_READERS_IDLE_MAX: Final = 4
"""Read connections that a projection keeps for the next queries."""

PROJECTION_DIFFERENCES_MAX: Final = 100
"""Differing rows of a table that a check spells out; it counts the others."""

# -- the explorer ----------------------------------------------------------------------------------

UI_PAGE_MAX: Final = 200
"""Rows on a page of the explorer."""

UI_PAGE_BYTES: Final = 4 * 2**20
"""Encoded events after which a page ends before it is full."""

UI_ROW_BYTES_MAX: Final = 256 * 2**10
"""An event up to this size is decoded in lists; a larger one only where it is looked at alone."""

UI_FIELD_CHARS_MAX: Final = 20_000
"""Characters of a field that are shown where an event is looked at alone."""

UI_ROW_FIELD_CHARS_MAX: Final = 300
"""The same in lists."""

UI_PARTS_MAX: Final = 1_000
"""Parts of an event's bytes that are shown at a time."""

UI_PART_BYTES_MAX: Final = 256
"""Bytes of a part that are shown."""

UI_SCAN_EVENTS: Final = 100_000
"""Events that are looked through for those of a type before the clock is looked at."""

UI_SCAN_S: Final = 1.0
"""For how long a request looks for events of a type; the page then offers to go on."""

UI_NAMES_MAX: Final = 1_000
"""Names that are listed at a time, and looked through by a search."""

UI_TAILS_MAX: Final = 32
"""Live views at a time."""

UI_TAIL_EVENTS_MAX: Final = 200
"""Events that are sent to a live view at a time."""

UI_TAIL_PAUSE_S: Final = 0.1
"""How long a live view waits before it sends more."""

UI_TAIL_LAG_MAX: Final = 2_000
"""A live view that is further behind skips, and says how much."""

# -- prevalent systems ---------------------------------------------------------------------------------------------------

PREVALENT_PENDING_BYTES_MAX: Final = 16 * 2**20
"""Commands of a prevalent system, as they will be written, that wait in memory for the next flush; with more it is due."""

PREVALENT_FLUSH_S_MAX: Final = 3_600.0
"""What a prevalent system may lose at most, where commands are flushed at intervals."""
