"""Which keys of state a scoped handle may read or change: ranges of encoded keys, in which everything under a prefix lies."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from varve.layout.ordered import StateKey, encode_key, prefix_bounds
from varve.scoped.patterns import listed

Bounds = tuple[bytes, bytes]
"""Encoded keys from the first one to below the second."""


class KeyRight:
    """Ranges of keys, apart from one another and in order."""

    def __init__(self, bounds: Iterable[Bounds], texts: tuple[str, ...], wider: KeyRight | None = None) -> None:
        self._wider = wider
        self._bounds = _apart(bounds)
        self._lows = [low for low, _ in self._bounds]
        self.texts = texts

    @classmethod
    def of(cls, given: Iterable[StateKey], what: str) -> KeyRight:
        """What lies under some prefixes: strs that begin with a str, bytes with bytes, tuples whose first members are those of a
        tuple; an int or a UUID is that key alone. Raises ``InvalidInput``, ``InvalidStateKey``."""
        prefixes = listed(given, what)
        return cls(map(_bounds, prefixes), tuple(map(repr, prefixes)))

    def allows(self, key: bytes) -> bool:
        """Whether an encoded key is among them."""
        at = bisect_right(self._lows, key) - 1
        return at >= 0 and key < self._bounds[at][1]

    def cut(self, low: bytes, high: bytes) -> list[Bounds]:
        """What of a range is allowed."""
        return [(max(low, first), min(high, last)) for first, last in self._bounds if max(low, first) < min(high, last)]

    def narrowed(self, other: KeyRight) -> KeyRight:
        """What both allow."""
        return KeyRight((cut for bounds in other._bounds for cut in self.cut(*bounds)), other.texts, self)

    def refusing(self, low: bytes, high: bytes) -> tuple[str, ...]:
        """The prefixes that do not allow what lies from one key to below another: this one's, or those of a wider one."""
        found = None if self._wider is None or self._wider.cut(low, high) else self._wider.refusing(low, high)
        return self.texts if found is None else found

    def __or__(self, other: KeyRight) -> KeyRight:
        """What one of them allows."""
        return KeyRight([*self._bounds, *other._bounds], tuple(dict.fromkeys((*self.texts, *other.texts))))


def _bounds(prefix: StateKey) -> Bounds:
    if type(prefix) in (str, bytes, tuple):
        return prefix_bounds(prefix)
    encoded = encode_key(prefix)
    return encoded, encoded + b"\0"


def _apart(bounds: Iterable[Bounds]) -> list[Bounds]:
    """Ranges in order, those that meet made one."""
    found: list[Bounds] = []
    for low, high in sorted(bounds):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found
