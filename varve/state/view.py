"""Reading state: one key, a prefix, a range."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, Protocol

from varve.errors import CorruptedState, InvalidInput, StateKeyMissing
from varve.layout.ordered import StateKey, decode_key, encode_key, prefix_bounds
from varve.layout.records import MalformedRecord
from varve.layout.state import TABLE, decode_record

if TYPE_CHECKING:
    from varve.engine.side import Pair, Table
    from varve.engine.snapshot import Snapshot

LOWEST: Final = b""
HIGHEST: Final = b"\xff"
"""Below and above every key: what a range without bounds lies between."""


class Source(Protocol):
    """Where a view takes records from."""

    def value(self, key: bytes) -> bytes | None:
        """The record of an encoded key; None where there is none."""
        ...

    def pairs(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        """Encoded keys from ``low`` to below ``high`` in order (from the end with ``reverse``) and their records."""
        ...


class StateView:
    """State to be read, as of one instant. Made by ``snap.state``, and given to the functions of ``tx.ensure``.

    Values are those that were put: plain Python values, made anew at each read. A damaged record raises ``CorruptedState``, which
    names its key; it is never passed over.
    """

    __slots__ = ("_path", "_source")

    def __init__(self, source: Source, path: str) -> None:
        self._source = source
        self._path = path

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._path}>"

    def get(self, key: StateKey) -> Any:
        """The value of a key. Raises ``StateKeyMissing`` (a ``KeyError``), ``InvalidStateKey``, ``CorruptedState``."""
        encoded = encode_key(key)
        record = self._value(encoded)
        if record is None:
            raise missing(self._path, key)
        return decoded(self._path, encoded, record)

    def get_opt(self, key: StateKey, default: Any = None) -> Any:
        """The value of a key, or ``default`` where there is none."""
        encoded = encode_key(key)
        record = self._value(encoded)
        return default if record is None else decoded(self._path, encoded, record)

    def exists(self, key: StateKey) -> bool:
        """Whether there is such a key, whatever its value."""
        return self._value(encode_key(key)) is not None

    def scan_prefix(
        self, prefix: StateKey, *, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[Any, Any]]:
        """Keys and values under a prefix, in the order of the keys: strs that begin with a str, bytes that begin with bytes,
        tuples whose first members are those of a tuple (itself included). ``reverse``: from the end; ``limit``: so many at most.

        Raises ``InvalidStateKey``, and the steps ``CorruptedState``.
        """
        return self._scan(*prefix_bounds(prefix), reverse=reverse, limit=limit)

    def range(
        self,
        start: StateKey | None = None,
        stop: StateKey | None = None,
        *,
        reverse: bool = False,
        limit: int | None = None,
    ) -> Iterator[tuple[Any, Any]]:
        """Keys from ``start`` to below ``stop`` with their values, in order: ints, then strs, bytes, UUIDs and tuples.

        None: no bound. ``reverse``: the same range from its end; ``limit``: so many at most. Raises as ``scan_prefix``.
        """
        low = LOWEST if start is None else encode_key(start)
        high = HIGHEST if stop is None else encode_key(stop)
        return self._scan(low, high, reverse=reverse, limit=limit)

    def _value(self, key: bytes) -> bytes | None:
        return self._source.value(key)

    def _pairs(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        return self._source.pairs(low, high, reverse=reverse)

    def _scan(self, low: bytes, high: bytes, *, reverse: bool, limit: int | None) -> Iterator[tuple[Any, Any]]:
        if limit is not None and (type(limit) is not int or limit < 0):
            raise InvalidInput(f"limit is a number of keys from 0 on, or None, not {limit!r}")
        found = decoded_pairs(self._path, self._pairs(low, high, reverse=bool(reverse)))
        return found if limit is None or limit > sys.maxsize else islice(found, limit)


def decoded_pairs(path: str, pairs: Iterator[Pair]) -> Iterator[tuple[Any, Any]]:
    """Keys and values of pairs as they are stored."""
    for encoded, record in pairs:
        try:
            key = decode_key(encoded)
        except MalformedRecord:
            raise damaged(path, encoded) from None
        yield key, decoded(path, encoded, record)


def decoded(path: str, encoded: bytes, record: bytes) -> Any:
    """The value of a record. Raises ``CorruptedState``."""
    try:
        return decode_record(encoded, record)
    except MalformedRecord as exc:
        raise damaged(path, named(encoded), exc) from None


def named(encoded: bytes) -> Any:
    """A key as it was given; its bytes where these are damaged."""
    try:
        return decode_key(encoded)
    except MalformedRecord:
        return encoded


def damaged(path: str, key: Any, exc: MalformedRecord | None = None) -> CorruptedState:
    """The error for a record that cannot be read."""
    newer = " (it is a newer Varve's)" if exc is not None and "newer" in str(exc) else ""
    return CorruptedState(
        f"{path}: the record of state under {key!r:.120} is damaged{newer}: put or delete it, or restore a backup",
        path=path,
        key=key,
    )


def missing(path: str, key: Any) -> StateKeyMissing:
    """The error for a key that is not there."""
    return StateKeyMissing(f"{path}: state has no {key!r:.120}; get_opt gives None instead", key=key)


class AtInstant:
    """State at a snapshot's instant."""

    __slots__ = ("_snapshot",)

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot

    def value(self, key: bytes) -> bytes | None:
        """As ``Source``."""
        return self._snapshot.side_value(TABLE, key)

    def pairs(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        """As ``Source``."""
        return self._snapshot.side_pairs(TABLE, low, high, reverse=reverse)


class InCommit:
    """State inside a write transaction, the changes of earlier requests and of this one counted."""

    __slots__ = ("_table",)

    def __init__(self, table: Table) -> None:
        self._table = table

    def value(self, key: bytes) -> bytes | None:
        """As ``Source``."""
        return self._table.get(key)

    def pairs(self, low: bytes, high: bytes, *, reverse: bool) -> Iterator[Pair]:
        """As ``Source``."""
        return self._table.pairs(low, high, reverse=reverse)
