"""``db.state``: state as it is now; each change is a commit of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from varve.engine.request import CommitRequest
from varve.layout.ordered import StateKey, encode_key
from varve.layout.state import TABLE
from varve.state.changes import NOTHING, Add, Change, Changes, Discard, Put, Update
from varve.state.draft import check_callable
from varve.state.numbers import Number, addition
from varve.state.view import StateView

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.engine.side import Pair
    from varve.engine.snapshot import Snapshot


class State(StateView):
    """State beside the log: values by key, as they are now. Made by ``db.state``; thread-safe.

    Each read sees the newest instant, each scan one instant throughout. Each change is durable when its call returns, and
    shares a commit's fsync with whatever else is under way; several together, or together with events, are a transaction's
    (``tx.state``), which is also how an event loop changes state without blocking (``async with db.transaction()``).
    """

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        super().__init__(Now(engine), engine.path)
        self._engine = engine

    def put(self, key: StateKey, value: Any) -> None:
        """Store a value under a key, whatever was there.

        Values are None, bool, int (256 bits), float, str, bytes, Decimal, aware datetime, UUID; lists, tuples, sets, frozensets
        and dicts of them. Raises ``InvalidInput`` for others, ``InvalidStateKey``, ``TooManyItems`` and a commit's errors.
        """
        self._commit(Put(encode_key(key), value))

    def delete(self, key: StateKey) -> bool:
        """Remove a key; whether it was there."""
        change = Discard(encode_key(key))
        self._commit(change)
        return change.existed

    def update(self, key: StateKey, fn: Callable[[Any], Any], default: Any = NOTHING) -> Any:
        """Put what ``fn(value)`` gives in the place of a value (of ``default`` where there is none), and return it.

        ``fn`` runs inside the write transaction, perhaps on another thread, and everybody who writes waits for it: it sees the
        very latest, nobody comes between, and it must not write to the store itself. If it raises, nothing is written. Raises
        ``StateKeyMissing`` where there is neither value nor default.
        """
        check_callable("update", fn)
        change = Update(self._engine, encode_key(key), fn, default)
        self._commit(change)
        return change.value

    def add(
        self,
        key: StateKey,
        n: Number,
        *,
        min: Number | None = None,  # noqa: A002 - what they are
        max: Number | None = None,  # noqa: A002
        clamp: bool = False,
        missing: Number | None = 0,
    ) -> Any:
        """Add to a number, and return what it has become. Arguments and errors as those of ``tx.state.add``."""
        added = addition(n, min, max, clamp=clamp, missing=missing)
        change = Add(self._path, encode_key(key), added)
        self._commit(change)
        return change.value

    def _commit(self, change: Change) -> None:
        changes = Changes((change,))
        self._engine.commit(CommitRequest([], effects=(changes,), side_bytes=changes.size))


class Now:
    """State at the newest instant of each call."""

    __slots__ = ("_engine",)

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def value(self, key: bytes) -> bytes | None:
        """As ``Source``."""
        return self._engine.side_value(TABLE, key)

    def pairs(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        """As ``Source``: as of this call."""
        snapshot = self._engine.side_snapshot(TABLE)
        snapshot.hold()
        pairs = _held(snapshot, low, high, reverse=reverse)
        next(pairs)  # it has begun: it lets the snapshot go, however it ends
        return pairs


def _held(snapshot: Snapshot, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
    try:
        yield b"", b""
        yield from snapshot.side_pairs(TABLE, low, high, reverse=reverse)
    finally:
        snapshot.close()
