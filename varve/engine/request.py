"""What a commit is asked for and what it answers: the writing half of the engine's protocol, free of LMDB's words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from varve import limits
from varve.errors import TooManyItems
from varve.expected import ANY, ExpectedVersion
from varve.layout.keys import StreamId
from varve.layout.packed import Events

if TYPE_CHECKING:
    from varve.engine.commit import Session
    from varve.engine.side import Effect

Segment = tuple[int, int, int]
"""Consecutive events of one stream: stream sequence, global sequence, count."""


class TypeDeclaration(Protocol):
    """An event type as the engine needs it: its store-wide name and its schema."""

    @property
    def name(self) -> str:
        """Store-wide name."""
        ...

    @property
    def schema_bytes(self) -> bytes:
        """Canonical schema text."""
        ...

    @property
    def fingerprint(self) -> bytes:
        """Digest of the schema text."""
        ...


Part = tuple[bytes, TypeDeclaration, Events]
"""Events of one stream and type in order: id key, type, FlatBuffers of whole multiples of 8 bytes (a list of them, or back to
back in one buffer where they have one size)."""


@dataclass(slots=True)
class AppendRequest:
    """One append call: parts of streams of one name, in order.

    ``expected`` and ``id_key`` go together: what the stream of that id must hold, also where there are no parts.
    ``payload_bytes`` is the length of all events together.
    """

    stream: str
    stream_id: StreamId | None
    parts: list[Part]
    metadata: bytes | None = None
    expected: ExpectedVersion = ANY
    id_key: bytes = b""
    payload_bytes: int = 0

    @property
    def count(self) -> int:
        """Events of the call."""
        return sum(len(bufs) for _, _, bufs in self.parts)


@dataclass(slots=True)
class CommitRequest:
    """Append calls that become one commit, all or nothing, and changes of side tables that ride on it.

    ``token`` is the idempotency key as bytes (None: without), ``key`` as it was given, ``digest`` the content's. The
    effects of a request whose key was used before do not run again.

    ``recorded_ns``: when it was recorded, where that is not now: of what is brought in from elsewhere. Not before the last
    commit of the log. ``moved``: it is a commit of another log, where names and schemas were judged already, so that
    names which are Varve's own are let pass (a salvaged log has some), and versions of a type as they are.

    ``checks`` are asked inside the write transaction before anything of the request is looked at (but for its key). Where one
    raises ``TransactionConflict`` and there is an ``again``, this is called for the request that takes its place: on the
    committing thread, inside the write transaction, where requests of others may be under way too. ``side_bytes``: about what the
    effects write.
    """

    appends: list[AppendRequest]
    token: bytes | None = None
    key: object = None
    digest: bytes = b""
    effects: Sequence[Effect] = ()
    recorded_ns: int | None = None
    moved: bool = False
    checks: Sequence[Callable[[Session], None]] = ()
    again: Callable[[Session], CommitRequest] | None = None
    side_bytes: int = 0

    @property
    def is_plain(self) -> bool:
        """Whether it is one append call without a key, and small beside it."""
        return self.token is None and len(self.appends) == 1 and self.side_bytes <= limits.BLOCK_BYTES_MAX

    @property
    def payload_bytes(self) -> int:
        """Length of all events together, and of what the effects write."""
        appends = self.appends
        if len(appends) == 1:
            return appends[0].payload_bytes + self.side_bytes
        return sum(append.payload_bytes for append in appends) + self.side_bytes


@dataclass(slots=True)
class Committed:
    """Where a commit's events stand: the segments of each append call, in call order."""

    first_sequence: int
    segments: list[list[Segment]] = field(default_factory=list)
    replayed: bool = False


def transaction_too_large(size: int) -> TooManyItems:
    """The error for events of so many bytes in one transaction."""
    return TooManyItems(
        f"a transaction of {size} bytes; the limit is TRANSACTION_BYTES_MAX = {limits.TRANSACTION_BYTES_MAX}. Append in smaller "
        "batches",
        limit_name="TRANSACTION_BYTES_MAX",
        limit=limits.TRANSACTION_BYTES_MAX,
    )
