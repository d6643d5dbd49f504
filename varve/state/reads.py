"""What a transaction has read, and whether it still holds when the transaction commits."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

from varve.errors import TransactionConflict
from varve.layout.keys import decode_stream_id
from varve.layout.state import TABLE
from varve.state.view import HIGHEST, LOWEST, named

if TYPE_CHECKING:
    from varve.engine.commit import Session
    from varve.engine.side import Pair
    from varve.engine.snapshot import Snapshot

_KEPT_BYTES_MAX = 64
"""A longer record is remembered by its digest."""

Marks = tuple[int, int, int, int, int | None]


class Reads:
    """Everything that a transaction has read in one instant: keys, ranges, lengths of streams. The source of its views."""

    __slots__ = ("_keys", "_log", "_names", "_number", "_ranges", "_snapshot", "_streams")

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._number = snapshot.id
        self._keys: dict[bytes, bytes | None] = {}
        self._ranges: list[_Range] = []
        self._streams: dict[tuple[str, bytes], int] = {}
        self._names: dict[str, int] = {}
        self._log: int | None = None

    # -- reading -----------------------------------------------------------------------------------

    def value(self, key: bytes) -> bytes | None:
        """The record of a key; noted."""
        record = self._snapshot.side_value(TABLE, key)
        self._keys.setdefault(key, _stamp(record))
        return record

    def pairs(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        """The pairs of a range; noted as far as they are taken."""
        seen = _Range(low, high, reverse=reverse)
        self._ranges.append(seen)
        return self._taken(seen)

    def _taken(self, seen: _Range) -> Iterator[Pair]:
        for pair in self._snapshot.side_pairs(TABLE, seen.low, seen.high, reverse=seen.reverse):
            seen.take(pair)
            yield pair
        seen.is_whole = True

    def note_stream(self, name: str, id_key: bytes) -> None:
        """Something that was read depends on the length of a stream."""
        if (name, id_key) not in self._streams:
            number = self._snapshot.stream_number(name, id_key)
            self._streams[name, id_key] = 0 if number is None else self._snapshot.stream_length(number)

    def note_name(self, name: str) -> None:
        """Something that was read depends on which events a stream name has."""
        if name not in self._names:
            snapshot = self._snapshot
            number = snapshot.catalog.name_number(snapshot, name)
            runs = () if number is None else snapshot.name_runs(number, 0, snapshot.next_sequence, reverse=True)
            self._names[name] = next((first + count for first, count in runs), 0)

    def note_log(self) -> None:
        """Something that was read depends on where the log ends."""
        self._log = self._snapshot.next_sequence

    # -- returning ---------------------------------------------------------------------------------

    def mark(self) -> Marks:
        """What was read up to now."""
        return len(self._keys), len(self._ranges), len(self._streams), len(self._names), self._log

    def return_to(self, marks: Marks) -> None:
        """Forget what was read since."""
        keys, ranges, streams, names, self._log = marks
        del self._ranges[ranges:]
        for noted, count in ((self._keys, keys), (self._streams, streams), (self._names, names)):
            _shorten(noted, count)

    # -- checking ----------------------------------------------------------------------------------

    def __bool__(self) -> bool:
        return bool(self._keys or self._ranges or self._streams or self._names) or self._log is not None

    def __call__(self, session: Session) -> None:
        """Whether all of it still holds. Raises ``TransactionConflict``."""
        if session.is_untouched_since(self._number):
            return
        table = session.side_table(TABLE)
        for key, stamp in self._keys.items():
            if _stamp(table.get(key)) != stamp:
                raise _conflict("key", f"state under {named(key)!r:.80}", named(key))
        for seen in self._ranges:
            if not seen.holds(table.pairs(seen.low, seen.high, reverse=seen.reverse)):
                bounds = (
                    None if seen.low == LOWEST else named(seen.low),
                    None if seen.high == HIGHEST else named(seen.high),
                )
                raise _conflict("range", f"state between {bounds[0]!r:.80} and {bounds[1]!r:.80}", bounds)
        self._check_streams(session)

    def _check_streams(self, session: Session) -> None:
        for (name, id_key), length in self._streams.items():
            if session.length_now(name, id_key) != length:
                stream_id = decode_stream_id(id_key)
                raise _conflict("stream", f"stream {name!r} {stream_id!r}", (name, stream_id))
        for name, end in self._names.items():
            if session.name_end(name) != end:
                raise _conflict("name", f"the streams of {name!r}", name)
        if self._log is not None and session.next_sequence != self._log:
            raise _conflict("log", "the log", None)


class _Range:
    """A range, as far as it was read."""

    __slots__ = ("_count", "_digest", "high", "is_whole", "low", "reverse")

    def __init__(self, low: bytes, high: bytes, *, reverse: bool) -> None:
        self.low = low
        self.high = high
        self.reverse = reverse
        self.is_whole = False
        self._count = 0
        self._digest = blake2b(digest_size=16)

    def take(self, pair: Pair) -> None:
        """One more was read."""
        self._count += 1
        _digest(self._digest, pair)

    def holds(self, pairs: Iterator[Pair]) -> bool:
        """Whether what stands in the range now begins as what was read; ends with it, too, where all was read."""
        digest = blake2b(digest_size=16)
        for _ in range(self._count):
            pair = next(pairs, None)
            if pair is None:
                return False
            _digest(digest, pair)
        if digest.digest() != self._digest.digest():
            return False
        return not self.is_whole or next(pairs, None) is None


def _digest(digest: Any, pair: Pair) -> None:
    for piece in pair:
        digest.update(len(piece).to_bytes(8, "little"))
        digest.update(piece)


def _stamp(record: bytes | None) -> bytes | None:
    """A record, or what tells it from any other."""
    if record is None or len(record) <= _KEPT_BYTES_MAX:
        return record
    return blake2b(record, digest_size=_KEPT_BYTES_MAX).digest()


def _shorten(noted: dict[Any, Any], count: int) -> None:
    while len(noted) > count:
        noted.popitem()


def _conflict(what: str, which: str, key: Any) -> TransactionConflict:
    return TransactionConflict(
        f"{which} was changed by somebody else after this transaction had read it: read again, decide again, as db.optimistic "
        "does. Nothing was written",
        what=what,
        key=key,
        attempts=1,
    )


def company() -> TransactionConflict:
    """The error for reading events where those of others are under way in the same commit."""
    return _conflict("log", "the log", None)
