"""The simplest store that could be right: a list of events, and what follows from it.

``World`` is what Varve is compared with. It knows nothing of blocks, runs, indexes or transactions; a stream is the list
of the places of its events.
"""

from __future__ import annotations

import uuid
from bisect import bisect_left
from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

import varve
from varve.expected import Expected

StreamId: TypeAlias = int | str | uuid.UUID
Key: TypeAlias = bytes | str | uuid.UUID
Metadata: TypeAlias = Mapping[str, Any]
StreamKey: TypeAlias = tuple[str, type, StreamId]
Expectation: TypeAlias = Expected | int

PLACED, SHIPPED, BLOB = range(3)
TYPE_NAMES = ("Placed", "Shipped", "Blob")
DEFAULT_EXTRA = 7


@varve.event(name="Placed")
class PlacedV1:
    """An event whose class will grow."""

    number: varve.u64
    text: str


@varve.event(name="Placed")
class PlacedV2:
    """It has grown."""

    number: varve.u64
    text: str
    extra: varve.u32 = DEFAULT_EXTRA


@varve.event(name="Shipped")
class Shipped:
    """An event with a list in it."""

    number: varve.u64
    text: str
    tags: tuple[str, ...] = ()


@varve.event(name="Blob")
class Blob:
    """An event of bytes."""

    number: varve.u64
    data: bytes


@varve.event(name="Stranger")
class Stranger:
    """A class that no stream declares."""

    number: varve.u64


CLASSES: tuple[tuple[Any, Any, Any], ...] = ((PlacedV1, Shipped, Blob), (PlacedV2, Shipped, Blob))
"""The classes of each version of the program."""


class Fact(NamedTuple):
    """An event's content. ``extra`` is None where it was written by a program that did not know the field yet."""

    kind: int
    number: int
    text: str
    extra: int | None = None

    def event(self, version: int) -> Any:
        """The event as a program of that version makes it."""
        if self.kind == PLACED:
            if version and self.extra is not None:
                return PlacedV2(self.number, self.text, self.extra)
            return CLASSES[version][PLACED](self.number, self.text)
        if self.kind == SHIPPED:
            return Shipped(self.number, self.text, ("a", self.text) if self.number % 2 else ())
        return Blob(self.number, self.text.encode())

    def is_shown(self, event: Any, version: int) -> bool:
        """Whether an event as a program of that version reads it says exactly this."""
        if event.number != self.number:
            return False
        if self.kind == BLOB:
            return bytes(event.data) == self.text.encode()
        if event.text != self.text:
            return False
        if self.kind == SHIPPED:
            return tuple(event.tags) == (("a", self.text) if self.number % 2 else ())
        return not version or bool(event.extra == (DEFAULT_EXTRA if self.extra is None else self.extra))

    def by_value(self) -> Fact:
        """The same, a field that was left out as its default: what idempotency keys compare."""
        return self._replace(extra=DEFAULT_EXTRA) if self.kind == PLACED and self.extra is None else self


class Entry(NamedTuple):
    """One event of the log."""

    name: str
    stream_id: StreamId
    stream_sequence: int
    fact: Fact
    metadata: Metadata | None
    commit: int
    time_ns: int


class Append(NamedTuple):
    """One append call: ``form`` is ``"one"``, ``"batch"`` or ``"many"``."""

    form: str
    name: str
    items: tuple[tuple[StreamId, Fact], ...]
    stream_id: StreamId
    """Of ``one`` and ``batch``."""
    expected: Expectation = varve.ANY
    metadata: Metadata | None = None


class Plan(NamedTuple):
    """One commit: append calls, and perhaps a key."""

    appends: tuple[Append, ...]
    key: Key | None = None
    metadata: Metadata | None = None


Places: TypeAlias = tuple[tuple[int, int], ...]
"""``(stream sequence, global sequence)`` of each event of an append call."""


class Written(NamedTuple):
    """What a commit came to: the places of each append call."""

    places: tuple[Places, ...]
    replayed: bool


class Wrong(NamedTuple):
    """An expectation that does not hold."""

    expected: object
    actual: int


class Used(NamedTuple):
    """A key that was used for other content."""

    first: int


Outcome: TypeAlias = Written | Wrong | Used


def first_place(written: Written) -> int:
    """The global sequence of the first event of a commit that has written some."""
    return next(place[1] for places in written.places for place in places)


def stream_key(name: str, stream_id: StreamId) -> StreamKey:
    """Ids of different kinds are different ids, equal or not."""
    return name, type(stream_id), stream_id


class World:
    """What the store should hold."""

    def __init__(self) -> None:
        self.log: list[Entry] = []
        self.streams: dict[StreamKey, list[int]] = {}
        self.names: dict[str, list[int]] = {}
        self.keys: dict[tuple[type, Key], tuple[Plan, Written]] = {}

    def stream(self, name: str, stream_id: StreamId, at: int | None = None) -> list[int]:
        """Global sequences of a stream, of all of it or of those before ``at``."""
        return _before(self.streams.get(stream_key(name, stream_id), []), at)

    def name(self, name: str, at: int | None = None) -> list[int]:
        """Global sequences of all streams of a name."""
        return _before(self.names.get(name, []), at)

    def ids(self, name: str, at: int | None = None) -> list[StreamId]:
        """The ids of a name in their order: ints, strs, UUIDs."""
        end = len(self.log) if at is None else at
        found = [
            (kind, one) for (of, kind, one), places in self.streams.items() if of == name and places and places[0] < end
        ]
        order = {int: 0, str: 1, uuid.UUID: 2}
        return [one for _, one in sorted(found, key=lambda pair: (order[pair[0]], _in_order(pair[1])))]

    def length(self, name: str, stream_id: StreamId, at: int | None = None) -> int:
        """How long a stream is, or was before ``at``."""
        return self._length(stream_key(name, stream_id), at)

    def _length(self, one: StreamKey, at: int | None) -> int:
        places = self.streams.get(one, ())
        return len(places) if at is None else bisect_left(places, at)

    def judge(self, plan: Plan, at: int | None = None) -> Outcome:
        """What a commit of this plan has to come to now, or where the log ended before ``at``. Changes nothing."""
        if plan.key is not None:
            known = self.keys.get((type(plan.key), plan.key))
            if known is not None and at is not None and first_place(known[1]) >= at:
                known = None
            # Calls that neither write nor expect anything never reach the store.
            if known is not None and any(one.items or one.expected is not varve.ANY for one in plan.appends):
                return self._retried(plan, *known)
        lengths: dict[StreamKey, int] = {}
        places: list[Places] = []
        sequence = len(self.log) if at is None else at
        for append in plan.appends:
            if append.form != "many" and append.expected is not varve.ANY:
                one = stream_key(append.name, append.stream_id)
                actual = lengths[one] if one in lengths else self._length(one, at)
                if not is_met(append.expected, actual):
                    return Wrong(append.expected, actual)
            where: list[tuple[int, int]] = []
            for stream_id, _ in append.items:
                one = stream_key(append.name, stream_id)
                length = lengths.get(one)
                if length is None:
                    length = self._length(one, at)
                where.append((length, sequence))
                lengths[one] = length + 1
                sequence += 1
            places.append(tuple(where))
        return Written(tuple(places), replayed=False)

    def _retried(self, plan: Plan, first: Plan, written: Written) -> Outcome:
        if flat(plan) != flat(first):
            return Used(first_place(written))
        every = iter([place for places in written.places for place in places])
        return Written(tuple(tuple(next(every) for _ in append.items) for append in plan.appends), replayed=True)

    def write(self, plan: Plan, written: Written, now_ns: int) -> None:
        """Take over what a commit has written."""
        if written.replayed or not any(written.places):
            return
        commit = len(self.log)
        time_ns = max(now_ns, self.log[-1].time_ns) if self.log else now_ns
        for append, places in zip(plan.appends, written.places, strict=True):
            metadata = merged(plan, append)
            for (stream_id, fact), (stream_sequence, sequence) in zip(append.items, places, strict=True):
                self.log.append(Entry(append.name, stream_id, stream_sequence, fact, metadata, commit, time_ns))
                self.streams.setdefault(stream_key(append.name, stream_id), []).append(sequence)
                self.names.setdefault(append.name, []).append(sequence)
        if plan.key is not None:
            self.keys[type(plan.key), plan.key] = (plan, written)


def _in_order(stream_id: StreamId) -> Any:
    return stream_id.encode() if isinstance(stream_id, str) else stream_id


def _before(places: list[int], at: int | None) -> list[int]:
    return places[:] if at is None else places[: bisect_left(places, at)]


def is_met(expected: Expectation, length: int) -> bool:
    """Whether a stream of that length is as expected."""
    if expected is varve.ANY:
        return True
    if expected is varve.NO_STREAM:
        return length == 0
    if expected is varve.STREAM_EXISTS:
        return length > 0
    return length == expected


def merged(plan: Plan, append: Append) -> Metadata | None:
    """An append's metadata on top of the transaction's."""
    if plan.metadata is None or append.metadata is None:
        return append.metadata if plan.metadata is None else plan.metadata
    return {**plan.metadata, **append.metadata}


def flat(plan: Plan) -> list[tuple[str, type, StreamId, Fact, Metadata | None]]:
    """A plan's content by value, as idempotency keys compare it."""
    return [
        (append.name, type(stream_id), stream_id, fact.by_value(), merged(plan, append))
        for append in plan.appends
        for stream_id, fact in append.items
    ]
