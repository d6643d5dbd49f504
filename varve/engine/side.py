"""Side tables: sub-databases beside the log, changed by *effects* that ride on commits.

Consumer positions and the like are no events and cannot be rebuilt from the log. What changes them is part of a commit
request, so that a position and the events that belong to it become durable together, or not at all. An effect sees
what is stored under what earlier requests of the same write transaction have changed; one that raises refuses its
request and leaves no trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, Protocol

from varve import limits
from varve.errors import InvalidInput

if TYPE_CHECKING:
    import lmdb

    from varve.engine.commit import Session

_KEY_BYTES_MAX: Final = 511

Pair = tuple[bytes, bytes]
"""A key and its value."""

Overlay = dict[str, dict[bytes, bytes | None]]
"""Changes by table and key; None deletes."""


class Table(Protocol):
    """A side table inside a write transaction."""

    def get(self, key: bytes) -> bytes | None:
        """The value of a key, or None."""
        ...

    def put(self, key: bytes, value: bytes) -> None:
        """Store a value. Keys are 1 to 511 bytes long."""
        ...

    def delete(self, key: bytes) -> None:
        """Remove a key; nothing happens where it is not there."""
        ...

    def pairs(self, low: bytes, high: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        """Keys from ``low`` to below ``high``, in order (from the end with ``reverse``), with their values: as they are when the
        first one is asked for."""
        ...


class Effect(Protocol):
    """A change of one side table. Raises to refuse the commit that it rides on."""

    @property
    def table(self) -> str:
        """The table's name."""
        ...

    def __call__(self, table: Table) -> None:
        """Look and change."""
        ...


class _Table:
    """What is stored, under the changes of the transaction, under those of this request."""

    __slots__ = ("_changes", "_name", "_own", "_session")

    def __init__(
        self, session: Session, name: str, changes: dict[bytes, bytes | None], own: dict[bytes, bytes | None]
    ) -> None:
        self._session = session
        self._name = name
        self._changes = changes
        self._own = own

    def get(self, key: bytes) -> bytes | None:
        for changes in (self._own, self._changes):
            if key in changes:
                return changes[key]
        return self._session.side_value(self._name, key)

    def pairs(self, low: bytes, high: bytes, *, reverse: bool = False) -> Iterator[Pair]:
        changed: dict[bytes, bytes | None] = {}
        for changes in (self._changes, self._own):
            changed.update((key, value) for key, value in changes.items() if low <= key < high)
        return merged(self._session.side_pairs(self._name, low, high, reverse=reverse), changed, reverse=reverse)

    def put(self, key: bytes, value: bytes) -> None:
        if not 0 < len(key) <= _KEY_BYTES_MAX:  # LMDB would refuse the whole transaction
            raise InvalidInput(f"a key of a side table is 1 to {_KEY_BYTES_MAX} bytes long, not {len(key)}")
        self._own[key] = value

    def delete(self, key: bytes) -> None:
        self._own[key] = None


def merged(stored: Iterator[Pair], changed: dict[bytes, bytes | None], *, reverse: bool) -> Iterator[Pair]:
    """Stored pairs with changes over them; None deletes. Both in one order, ``changed`` in any."""
    if not changed:
        yield from stored
        return
    pair = next(stored, None)
    for key in sorted(changed, reverse=reverse):
        while pair is not None and (pair[0] > key if reverse else pair[0] < key):
            yield pair
            pair = next(stored, None)
        if pair is not None and pair[0] == key:
            pair = next(stored, None)
        value = changed[key]
        if value is not None:
            yield key, value
    if pair is not None:
        yield pair
        yield from stored


def read_chunk(cursor: lmdb.Cursor[memoryview], low: bytes, high: bytes, *, reverse: bool) -> tuple[list[Pair], bool]:
    """Copies of the first pairs from ``low`` to below ``high`` (the last ones, backwards, with ``reverse``), as many as a step of
    a scan holds; and whether there are more."""
    found: list[Pair] = []
    size = 0
    if reverse:
        more = cursor.prev() if cursor.set_range(high) else cursor.last()
    else:
        more = cursor.set_range(low) if low else cursor.first()
    while more:
        key = bytes(cursor.key())
        if key < low or key >= high:
            break
        if len(found) == limits.STATE_CHUNK_KEYS or size >= limits.STATE_CHUNK_BYTES:
            return found, True
        value = bytes(cursor.value())
        found.append((key, value))
        size += len(value)
        more = cursor.prev() if reverse else cursor.next()
    return found, False


def run_effects(session: Session, effects: Iterable[Effect], before: Overlay) -> Overlay:
    """What a request's effects change, ``before`` being what earlier requests have changed."""
    changed: Overlay = {}
    for effect in effects:
        own = changed.setdefault(effect.table, {})
        effect(_Table(session, effect.table, before.get(effect.table, {}), own))
    return changed


def table_of(session: Session, name: str, before: Overlay) -> Table:
    """A table as it is under what earlier requests have changed: to look at, nothing that is put there is written."""
    return _Table(session, name, before.get(name, {}), {})


def merge_effects(into: Overlay, changed: Overlay) -> None:
    """Accept what a request has changed."""
    for table, changes in changed.items():
        if changes:
            into.setdefault(table, {}).update(changes)


def effects_bytes(changed: Overlay) -> int:
    """About what the changes of all requests take."""
    return sum(len(key) + len(value or b"") for changes in changed.values() for key, value in changes.items())


def put_effects(session: Session, changed: Overlay) -> None:
    """Write the changes of all requests."""
    for table, changes in changed.items():
        database = session.side_database(table, create=True)
        for key, value in sorted(changes.items()):
            if value is None:
                session.open.delete(key, db=database)
            else:
                session.open.put(key, value, db=database)
