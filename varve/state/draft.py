"""``tx.state``: state in a transaction, its own changes counted, none of them made before it commits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from varve.engine.side import merged
from varve.errors import InvalidInput
from varve.layout.ordered import StateKey, encode_key
from varve.state.changes import NOTHING, Add, Change, Delete, Put, value_before
from varve.state.numbers import Number, addition
from varve.state.view import Source, StateView

if TYPE_CHECKING:
    from varve.engine.side import Pair


class TransactionState(StateView):
    """State as a transaction sees and changes it. Made by ``tx.state``.

    Reads see one instant (that of the transaction's first read; inside ``db.write`` the very latest) and the transaction's own
    changes. Changes are made when it commits, all or nothing, together with its events. What was read is looked at again then:
    where somebody else has changed it, ``TransactionConflict`` is raised and nothing is written.
    """

    __slots__ = ("_by_key", "_changes", "_check_open", "_made")

    def __init__(self, base: Source, path: str, check_open: Callable[[], None]) -> None:
        super().__init__(base, path)
        self._check_open = check_open
        self._changes: list[Change] = []
        self._by_key: dict[bytes, list[Change]] = {}
        self._made: dict[
            bytes, tuple[int, bytes | None]
        ] = {}  # how many of them were made for a read, and what came of it

    def put(self, key: StateKey, value: Any) -> None:
        """Store a value under a key, whatever was there.

        Values are None, bool, int (256 bits), float, str, bytes, Decimal, aware datetime, UUID; lists, tuples, sets, frozensets
        and dicts of them. Raises ``InvalidInput`` for others, ``InvalidStateKey``, ``TooManyItems``.
        """
        self._check_open()
        self._change(Put(encode_key(key), value))

    def delete(self, key: StateKey) -> None:
        """Remove a key; nothing happens where it is not there."""
        self._check_open()
        self._change(Delete(encode_key(key)))

    def update(self, key: StateKey, fn: Callable[[Any], Any], default: Any = NOTHING) -> Any:
        """Put what ``fn(value)`` gives in the place of a value (of ``default`` where there is none), and return it: a read and a
        put. Raises ``StateKeyMissing`` where there is neither."""
        self._check_open()
        check_callable("update", fn)
        encoded = encode_key(key)
        value = fn(value_before(self._path, encoded, self._value(encoded), default))
        self.put(key, value)
        return value

    def add(
        self,
        key: StateKey,
        n: Number,
        *,
        min: Number | None = None,  # noqa: A002 - what they are
        max: Number | None = None,  # noqa: A002
        clamp: bool = False,
        missing: Number | None = 0,
    ) -> None:
        """Add to a number, when the transaction commits, to what is there then: two additions never conflict.

        ``min``, ``max``: bounds of the sum. Beyond them ``NumberOutOfRange`` is raised and nothing is written; with ``clamp`` the
        bound itself is stored. ``missing``: what a missing key counts as; None: raise ``StateKeyMissing``. What is stored keeps
        its type: an int takes ints, a Decimal Decimals and ints (exactly), a float floats and ints; else ``StateTypeMismatch``.
        """
        self._check_open()
        added = addition(n, min, max, clamp=clamp, missing=missing)
        self._change(Add(self._path, encode_key(key), added))

    # -- inside ------------------------------------------------------------------------------------

    def _change(self, change: Change) -> None:
        self._changes.append(change)
        self._note(change)

    def _note(self, change: Change) -> None:
        """What matters of a key's changes: the last one that does not look at what was there, and those after it."""
        if change.looks:
            self._by_key.setdefault(change.key, []).append(change)
        else:
            self._by_key[change.key] = [change]
            self._made.pop(change.key, None)

    def _return_to(self, count: int) -> None:
        """Forget all changes but the first ones."""
        self._made.clear()  # reads are forgotten, too: the next one has to be noted
        if count < len(self._changes):
            del self._changes[count:]
            self._by_key.clear()
            for change in self._changes:
                self._note(change)

    def _value(self, key: bytes) -> bytes | None:
        """A record, the transaction's own changes counted."""
        self._check_open()
        mine = self._by_key.get(key)
        if mine is None:
            return self._source.value(key)
        made = self._made.get(key)
        count, record = made or (0, self._source.value(key) if mine[0].looks else None)
        for change in islice(mine, count, None):
            record = change(record)
        self._made[key] = len(mine), record
        return record

    def _pairs(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        self._check_open()
        changed = {key: self._value(key) for key in self._by_key if low <= key < high}
        return merged(self._source.pairs(low, high, reverse=reverse), changed, reverse=reverse)


def check_callable(name: str, fn: Any) -> None:
    """Raises ``InvalidInput`` for what cannot be called."""
    if not callable(fn):
        raise InvalidInput(f"{name} takes a function, not {fn!r:.80}")
