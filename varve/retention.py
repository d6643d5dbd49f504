"""What readers of a stream pass over: rules, and where a stream begins for its readers because of them.

Rules hide, they remove nothing: the log, replays, names and tails give what they gave; ``varve.ops.compact`` drops what is
hidden. A store without rules has no table of them, and pays for none: a handle looks for the table now and then
(``limits.RETENTION_LOOK_S``), so a rule of another process is seen within that time.
"""

from __future__ import annotations

import datetime as dt
import time
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from varve import limits
from varve.engine.request import CommitRequest
from varve.errors import Archived, InvalidInput
from varve.layout.keys import StreamId, encode_stream_id
from varve.layout.retention import TABLE, RetentionRecord, decode_retention, name_key, stream_key

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.engine.side import Table
    from varve.engine.snapshot import Snapshot

_AGE_S_MAX = 2**62 / 1e9


@dataclass(frozen=True, slots=True)
class Retention:
    """What readers of a stream pass over, of its oldest events: those that any of the three hides."""

    truncate_before: int = 0
    """Stream sequences below it."""
    max_count: int | None = None
    """All but so many of the newest events; None: no limit."""
    max_age: dt.timedelta | None = None
    """Events recorded longer ago than this; None: no limit."""


class Rules:
    """The rules of a store, as a handle sees them."""

    def __init__(self, engine: Engine) -> None:
        self._engine: Engine = weakref.proxy(engine)  # which keeps these
        self._exist = False
        self.none_until_s = 0.0
        """There are none as far as is known, and until then (``time.monotonic``) nobody looks."""

    def look(self) -> bool:
        """Whether there are any, as far as is known; looks, where that was last done long ago."""
        if not self._exist and time.monotonic() >= self.none_until_s:
            self._look()
        return self._exist

    def _look(self) -> None:
        environment = self._engine.environment
        if environment.opened_side(TABLE) is not None or environment.has_side(TABLE):
            self._engine.side_snapshot(TABLE).close()
            self._exist = True
            self.none_until_s = 0.0
            self._engine.known_streams.clear()  # whose events readers find without asking for rules
        else:
            self.none_until_s = time.monotonic() + limits.RETENTION_LOOK_S

    def stored(self, snapshot: Snapshot, key: bytes) -> RetentionRecord | None:
        """A rule, as of an instant."""
        value = snapshot.side_value(TABLE, key)
        return None if value is None else decode_retention(key, value)

    def of(self, snapshot: Snapshot, name: str, id_key: bytes) -> RetentionRecord | None:
        """What holds for a stream: its own rule, else its name's."""
        return self.stored(snapshot, stream_key(name, id_key)) or self.stored(snapshot, name_key(name))

    def first_visible(self, snapshot: Snapshot, name: str, id_key: bytes, number: int) -> int:
        """The first stream sequence that readers of a stream are given; its length where everything is hidden."""
        rule = self.of(snapshot, name, id_key) if self.look() else None
        return 0 if rule is None else visible_from(snapshot, number, rule, self._engine.clock())

    def change(self, name: str, id_key: bytes | None, change: Callable[[RetentionRecord], RetentionRecord]) -> None:
        """Change a rule, in one step with looking at it; one that hides nothing is removed."""
        self._engine.commit(CommitRequest([], effects=(_Change(_key(name, id_key), change),)))
        self._look()

    def read(self, name: str, stream_id: StreamId | None) -> RetentionRecord | None:
        """A rule as it stands now."""
        key = _key(name, None if stream_id is None else encode_stream_id(stream_id))
        with self._engine.side_snapshot(TABLE) as snapshot:
            return self.stored(snapshot, key)


class _Change:
    """The change of one rule, inside a commit."""

    def __init__(self, key: bytes, change: Callable[[RetentionRecord], RetentionRecord]) -> None:
        self._key = key
        self._change = change

    @property
    def table(self) -> str:
        return TABLE

    def __call__(self, table: Table) -> None:
        key = self._key
        value = table.get(key)
        record = self._change(RetentionRecord() if value is None else decode_retention(key, value))
        if record == RetentionRecord():
            table.delete(key)
        else:
            table.put(key, record.encode(key))


def _key(name: str, id_key: bytes | None) -> bytes:
    return name_key(name) if id_key is None else stream_key(name, id_key)


def visible_from(snapshot: Snapshot, number: int, rule: RetentionRecord, now_ns: int) -> int:
    """The first stream sequence that a rule leaves; the stream's length where it leaves none."""
    length = snapshot.stream_length(number)
    low = rule.truncate_before
    if rule.max_count is not None:
        low = max(low, length - rule.max_count)
    if rule.max_age_ns is not None and low < length:
        low = _first_since(snapshot, number, low, length, now_ns - rule.max_age_ns)
    return min(low, length)


def _first_since(snapshot: Snapshot, number: int, low: int, high: int, time_ns: int) -> int:
    """The first event of a stream, from one to another, that was recorded at or after a time: bisection, since times never go
    backwards. What is archived and may be young enough counts as such: only the archive could tell, and whoever reads it is told
    that it was archived."""
    while low < high:
        middle = (low + high) // 2
        try:
            sequence = snapshot.global_of(number, middle)
            is_before = sequence is not None and snapshot.time_of(sequence) < time_ns
        except Archived:
            is_before = snapshot.archived_until_ns < time_ns
        if is_before:
            low = middle + 1
        else:
            high = middle
    return low


def check_limits(max_count: int | None, max_age: dt.timedelta | float | None) -> tuple[int | None, int | None]:
    """The greatest number, and the greatest age in nanoseconds. Raises ``InvalidInput``."""
    if max_count is not None and (type(max_count) is not int or not 0 <= max_count <= limits.EVENTS_MAX):
        raise InvalidInput(f"max_count is a number of events from 0 on, or None, not {max_count!r}")
    age_s = max_age.total_seconds() if isinstance(max_age, dt.timedelta) else max_age
    if age_s is not None and (
        isinstance(age_s, bool) or not isinstance(age_s, int | float) or not 0 <= age_s <= _AGE_S_MAX
    ):
        raise InvalidInput(f"max_age is a timedelta (or seconds) from 0 on, or None, not {max_age!r}")
    return max_count, None if age_s is None else int(age_s * 1e9)


def as_given(record: RetentionRecord | None) -> Retention:
    """A stored rule as users see it."""
    if record is None:
        return Retention()
    age = None if record.max_age_ns is None else dt.timedelta(microseconds=record.max_age_ns / 1000)
    return Retention(record.truncate_before, record.max_count, age)


def rules_of(engine: Engine) -> Rules:
    """The rules of a store, the same object for each handle."""
    rules = engine.rules
    if rules is None:
        rules = engine.rules = Rules(engine)
    found: Rules = rules
    return found
