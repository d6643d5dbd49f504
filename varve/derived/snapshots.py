"""State saved at a position: so that whoever folds the log begins there, not at its first event."""

from __future__ import annotations

import contextlib
import datetime as dt
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from varve import limits
from varve.derived.history import History
from varve.derived.trees import PLAIN, Trees
from varve.errors import CorruptedBlock, CorruptedStore, IntegrityError, InvalidInput, SchemaConflict, TooManyItems
from varve.layout import snapshots as layout
from varve.layout.keys import check_name, encode_stream_id
from varve.layout.snapshots import Scope, SnapshotHead
from varve.logs import WARNING, say
from varve.record import to_datetime

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.engine.keyvalues import Pairs, Value

_POSITION_MAX: Final = (1 << 64) - 1


@dataclass(frozen=True, slots=True)
class Saved:
    """State as it was saved."""

    position: int
    """The events before it are in the state."""
    state: Any
    """The state: an object of its own, which may be changed."""
    schema: str
    """What it was saved under."""
    saved_at: dt.datetime
    """When, in UTC, by the store's clock."""


@dataclass(frozen=True, slots=True)
class SavedInfo:
    """What is known of saved state without reading it."""

    scope: Scope
    """Whose it is: the name of a global projection, or name and id of a stream."""
    position: int
    """The events before it are in it."""
    schema: str
    """What it was saved under."""
    saved_at: dt.datetime
    """When, in UTC, by the store's clock."""
    size_bytes: int
    """Bytes of the state."""


class Snapshots:
    """Saved states, by scope and position: ``db.snapshots``. Thread-safe; shared by every process that has the store open.

    They lie in a small LMDB environment of their own, the folder ``snapshots`` in the store's, made at the first save. All of it
    is derived from the log: what is damaged, stale or of another history is passed over with a line in the log ``varve``, and
    the next older one is taken.
    """

    __slots__ = ("_engine", "_history", "_pairs", "_trees")

    def __init__(self, engine: Engine, trees: Trees = PLAIN, history: History | None = None) -> None:
        self._engine = engine
        self._pairs = engine.snapshots
        self._trees = trees
        self._history = History(engine) if history is None else history

    def holding(self, *classes: type) -> Snapshots:
        """The same saved states, whose values may hold events and objects of these classes beside plain values: event classes,
        enums, and classes with ``to_snapshot(self)`` and the class method ``from_snapshot(cls, value)``.

        Raises ``InvalidInput`` for any other class, and for two of one name.
        """
        return Snapshots(self._engine, Trees(*classes), self._history)

    # -- writing -----------------------------------------------------------------------------------

    def save(self, scope: Scope, position: int, state: Any, *, schema: str = "", keep: int | None = None) -> None:
        """Save the state of a scope after all events before ``position``, durably. What was saved there before is replaced.

        ``scope``: the name of a global projection (``position`` is a global sequence), or ``(stream name, stream id)`` (a stream
        sequence). ``schema``: the version of what the state means, up to 255 bytes; whoever reads names the same one. ``keep``:
        delete all but the newest so many of the scope in the same step. Late saves are fine: the highest position stays the
        latest.

        The state is encoded before anything is written. Raises ``InvalidInput`` for what cannot be stored, saying where in the
        state it stands; ``TooManyItems`` (``SAVED_STATE_BYTES_MAX``), ``InvalidName``, ``InvalidStreamId``, ``ReadonlyStore``,
        ``SealedStore``, ``DiskFull``, ``StoreFull``, ``StoreFailed``, ``IntegrityError`` (remove the folder ``snapshots`` then),
        and what a closed handle raises.
        """
        whole = _scope(scope)
        _check_position(position)
        _check_schema(schema)
        if keep is not None:
            _check_count(keep, 1, "keep")
        engine = self._engine
        engine.check_usable()
        raw = self._trees.encode(state)
        if len(raw) > limits.SAVED_STATE_BYTES_MAX:
            raise TooManyItems(
                f"a state of {len(raw)} bytes; {limits.SAVED_STATE_BYTES_MAX} are the limit. Save it in parts",
                limit_name="SAVED_STATE_BYTES_MAX",
                limit=limits.SAVED_STATE_BYTES_MAX,
            )
        end, mark = self._history.now()
        at = layout.scope_key(whole)
        key = layout.snapshot_key(at, position)
        value = layout.encode_snapshot(key, whole, schema, raw, (engine.created.uuid, end, mark), engine.clock())
        with self._pairs.writing() as pairs:
            pairs.put(key, value)
            if keep is not None:
                self._thin(pairs, at, keep)

    def keep_last(self, scope: Scope, count: int) -> int:
        """Delete all but the newest ``count`` of a scope; how many were deleted. What could not be used any more goes first."""
        at = layout.scope_key(_scope(scope))
        _check_count(count, 0, "keep_last")
        if not self._has(at):
            return 0
        with self._pairs.writing() as pairs:
            return self._thin(pairs, at, count)

    def delete(self, scope: Scope, position: int | None = None) -> int:
        """Delete what was saved of a scope, at one position or at all of them; how many were deleted."""
        at = layout.scope_key(_scope(scope))
        if position is not None:
            _check_position(position)
        if not self._has(at):
            return 0
        with self._pairs.writing() as pairs:
            keys = [key for key, _ in _of_scope(pairs, at) if position in (None, layout.split_key(key)[1])]
            for key in keys:
                pairs.delete(key)
            return len(keys)

    def _has(self, at: bytes) -> bool:
        """Whether there is anything of a scope. (Nothing is written otherwise, not even the folder.)"""
        self._engine.check_writable()
        with self._pairs.reading() as pairs:
            return pairs is not None and next(_of_scope(pairs, at), None) is not None

    def _thin(self, pairs: Pairs, at: bytes, count: int) -> int:
        found = list(_of_scope(pairs, at))
        usable = [key for key, head in found if head is not None and self._may_be_of_this_log(head)]
        kept = set(usable[:count])
        gone = [key for key, _ in found if key not in kept]
        for key in gone:
            pairs.delete(key)
        return len(gone)

    # -- reading -----------------------------------------------------------------------------------

    def latest(self, scope: Scope, *, schema: str = "") -> Saved | None:
        """The state of a scope at the highest position, of those saved under ``schema``; None where there is none that can be
        used.

        Passed over are those of another schema, those that hold an event class which has changed in a way that what is saved
        cannot follow, those of another store or of another history of this one (it was restored to an earlier point), and
        damaged ones; the last two with a warning. Raises ``InvalidName``, ``InvalidStreamId``, and what a closed handle raises.
        """
        return self._find(scope, limits.EVENTS_MAX, schema)

    def at_or_before(self, scope: Scope, position: int, *, schema: str = "") -> Saved | None:
        """The same, of those at or before a position."""
        _check_position(position)
        return self._find(scope, position, schema)

    def _find(self, scope: Scope, position: int, schema: str) -> Saved | None:
        whole = _scope(scope)
        at = layout.scope_key(whole)
        _check_schema(schema)
        below = layout.snapshot_key(at, position) + b"\0"
        while True:
            try:
                with self._pairs.reading() as pairs:
                    found = None if pairs is None else self._before(pairs, below, at, schema)
            except IntegrityError as exc:
                say(WARNING, "%s: no saved state can be read: %s", self._engine.path, exc.message)
                return None
            if found is None:
                return None
            below, use = found
            if isinstance(use, _Found):
                try:
                    position = layout.split_key(below)[1]
                    return Saved(position, self._trees.decode(use.raw), schema, to_datetime(use.saved_at_ns))
                except (SchemaConflict, IntegrityError) as exc:
                    use = exc.message
            if use:
                self._pass_over(below, use)

    def _before(self, pairs: Pairs, below: bytes, at: bytes, schema: str) -> tuple[bytes, _Found | str] | None:
        """The key of a scope before another one, and what was saved under it, or why that is of no use (empty where it needs no
        saying)."""
        found = pairs.below(below)
        if found is None or not _is_of(found[0], at):
            return None
        key, value = found
        try:
            head = _head(key, value)
            if head.schema != schema:
                return key, ""
            if not self._is_of_this_log(head):
                return key, "it is of another history of the log"
        except (CorruptedStore, CorruptedBlock) as exc:
            return key, exc.message
        raw = value.part(head.state_at)
        if zlib.crc32(raw) != head.state_crc:
            return key, "its checksum is wrong"
        return key, _Found(raw, head.saved_at_ns)

    def _pass_over(self, key: bytes, reason: str) -> None:
        at, position = layout.split_key(key)
        scope = at.hex() if at.startswith(b"\x03") else repr(layout.decode_scope(at))
        say(WARNING, "%s: the state of %s saved at %d is passed over: %s", self._engine.path, scope, position, reason)

    def _is_of_this_log(self, head: SnapshotHead) -> bool:
        engine = self._engine
        return head.store_uuid == engine.created.uuid and self._history.includes(head.log_end, head.log_mark)

    def _may_be_of_this_log(self, head: SnapshotHead) -> bool:
        """The same where a save hangs on it: yes where the log is damaged, which is not the state's fault and may be mended."""
        try:
            return self._is_of_this_log(head)
        except (CorruptedStore, CorruptedBlock):
            return True

    # -- looking -----------------------------------------------------------------------------------

    def scopes(self) -> list[Scope]:
        """The scopes of which anything is saved, in the order of their bytes: projections first, then streams."""
        return list(dict.fromkeys(info.scope for info in self.stored()))

    def stored(self, scope: Scope | None = None) -> list[SavedInfo]:
        """What is saved, of a scope or of all, by position; damaged ones are left out. Raises what a closed handle raises, and
        ``IntegrityError`` where the folder ``snapshots`` cannot be read at all."""
        at = None if scope is None else layout.scope_key(_scope(scope))
        found: list[SavedInfo] = []
        with self._pairs.reading() as pairs:
            if pairs is None:
                return found
            item = pairs.from_(at or b"\0")
            while item is not None and (at is None or _is_of(item[0], at)):
                key, value = item
                with contextlib.suppress(CorruptedStore):
                    head = _head(key, value)
                    position = layout.split_key(key)[1]
                    saved_at = to_datetime(head.saved_at_ns)
                    whole = layout.decode_scope(head.scope)
                    found.append(SavedInfo(whole, position, head.schema, saved_at, head.state_bytes))
                item = pairs.from_(key + b"\0")
        return sorted(found, key=_order)

    def __repr__(self) -> str:
        return f"<Snapshots of {self._engine.path}>"


class _Found(NamedTuple):
    raw: bytes
    saved_at_ns: int


def _order(info: SavedInfo) -> tuple[bytes, int]:
    return _scope(info.scope), info.position


def _head(key: bytes, value: Value) -> SnapshotHead:
    return layout.decode_head(key, value.part(0, layout.HEAD_BYTES_MAX), len(value))


def _of_scope(pairs: Pairs, at: bytes) -> Iterator[tuple[bytes, SnapshotHead | None]]:
    """Keys of a scope, the highest position first, and the heads of their values; None of damaged ones."""
    below = layout.snapshot_key(at, _POSITION_MAX) + b"\0"
    while (found := pairs.below(below)) is not None and _is_of(found[0], at):
        below, value = found
        try:
            head: SnapshotHead | None = _head(below, value)
        except CorruptedStore:
            head = None
        yield below, head


def _is_of(key: bytes, at: bytes) -> bool:
    return len(key) == len(at) + 8 and key.startswith(at)


def _scope(scope: Scope) -> bytes:
    """A scope as bytes. Raises ``InvalidName``, ``InvalidStreamId``, ``InvalidInput``."""
    if isinstance(scope, tuple):
        if len(scope) != 2:
            raise InvalidInput(f"a scope is a name, or (stream name, stream id), not a tuple of {len(scope)}")
        name, stream_id = scope
        encode_stream_id(stream_id)  # None among others is none
        return layout.scope_bytes(check_name(name), stream_id)
    return layout.scope_bytes(check_name(scope, "scope"))


def _check_position(position: int) -> None:
    if type(position) is not int or not 0 <= position <= limits.EVENTS_MAX:
        raise InvalidInput(f"a position is a number of events from 0 on, not {position!r:.80}")


def _check_schema(schema: str) -> None:
    if not isinstance(schema, str):
        raise InvalidInput(f"schema is a str, the version of what the state means, not {schema!r:.80}")
    if schema:
        check_name(schema, "schema")


def _check_count(count: int, least: int, what: str) -> None:
    if type(count) is not int or count < least:
        raise InvalidInput(f"{what} takes a number of saved states from {least} on, not {count!r:.80}")
