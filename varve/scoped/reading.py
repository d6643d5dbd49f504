"""Readers, replays and tails that see what a scope allows, and nothing else.

What is not allowed is left out where the walk is planned, not where events come out: nobody decodes it, counts it or waits for
it. A name of which everything is allowed costs nothing; of others the runs of each block are looked at.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from typing_extensions import override

from varve import limits
from varve.bindings import UnknownAnywhere, UnknownTyped
from varve.codec import EventType
from varve.layout.keys import StreamId, check_name
from varve.reader import Found, GlobalReader, StreamReader, name_ranges, stream_names
from varve.record import Recorded
from varve.replay import Range, Ranges, bounds, few_together
from varve.scoped.patterns import Extent
from varve.state.readers import NotedReader
from varve.tailing.scan import Selection
from varve.typing_support import E

if TYPE_CHECKING:
    import pyarrow as pa

    from varve.bindings import Bindings
    from varve.columns.read import Array
    from varve.engine.catalog import StreamIdentity
    from varve.engine.snapshot import Snapshot
    from varve.replay import Source
    from varve.scoped.patterns import Right
    from varve.scoped.scope import Scope
    from varve.state.reads import Reads


class _Within(StreamReader[E]):
    """Typed reads of a name, as far as its streams are allowed. What names a stream that is not raises ``PermissionRefused``;
    what reads all of the name leaves it out."""

    __slots__ = ()

    _scope: Scope

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, scoped {self._scope.label!r}>"

    @override
    def get(self, stream_id: StreamId, stream_sequence: int) -> E | None:
        self._scope.check_read(self.name, stream_id)
        return super().get(stream_id, stream_sequence)

    @override
    def get_bytes(self, stream_id: StreamId, stream_sequence: int) -> memoryview | None:
        self._scope.check_read(self.name, stream_id)
        return super().get_bytes(stream_id, stream_sequence)

    @override
    def get_recorded(self, stream_id: StreamId, stream_sequence: int) -> Recorded[E] | None:
        self._scope.check_read(self.name, stream_id)
        return super().get_recorded(stream_id, stream_sequence)

    @override
    def length(self, stream_id: StreamId) -> int:
        self._scope.check_read(self.name, stream_id)
        return super().length(stream_id)

    @override
    def first_visible(self, stream_id: StreamId) -> int:
        self._scope.check_read(self.name, stream_id)
        return super().first_visible(stream_id)

    @override
    def iter_stream(
        self, stream_id: StreamId, start: int = 0, stop: int | None = None, *, reverse: bool = False
    ) -> Iterator[Recorded[E]]:
        self._scope.check_read(self.name, stream_id)
        return super().iter_stream(stream_id, start, stop, reverse=reverse)

    @override
    def columns(
        self, columns: Iterable[str], stream_id: StreamId | None = None, start: int = 0, stop: int | None = None
    ) -> dict[str, Array]:
        if stream_id is not None:
            self._scope.check_read(self.name, stream_id)
        return super().columns(columns, stream_id, start, stop)

    @override
    def to_arrow(
        self,
        columns: Iterable[str] | None = None,
        stream_id: StreamId | None = None,
        start: int = 0,
        stop: int | None = None,
        batch_size: int = 65_536,
    ) -> pa.RecordBatchReader:
        if stream_id is not None:
            self._scope.check_read(self.name, stream_id)
        return super().to_arrow(columns, stream_id, start, stop, batch_size)

    @override
    def stream_ids(self) -> Iterator[StreamId]:
        allows, name = self._scope.read.allows, self.name
        return (stream_id for stream_id in super().stream_ids() if allows(name, stream_id))

    @override
    def _all_ranges(self, snapshot: Snapshot) -> Found:
        return scoped_ranges(snapshot, self._scope.read, [self.name])


class ScopedReader(_Within[E]):
    """Made by streams, snapshots and ``db.write`` of a scoped handle."""

    __slots__ = ("_scope",)

    def __init__(
        self, source: Source, name: str, types: dict[str, EventType], unknown: UnknownTyped, scope: Scope
    ) -> None:
        scope.check_read_name(name)
        super().__init__(source, name, types, unknown)
        self._scope = scope


class ScopedNotedReader(_Within[E], NotedReader[E]):
    """Made by transactions of a scoped handle, which look again at commit at what was read."""

    __slots__ = ("_scope",)

    def __init__(
        self, source: Source, name: str, types: dict[str, EventType], unknown: UnknownTyped, reads: Reads, scope: Scope
    ) -> None:
        scope.check_read_name(name)
        NotedReader.__init__(self, source, name, types, unknown, reads)
        self._scope = scope


class ScopedReplay(GlobalReader):
    """Replays of what is allowed of the log, in its order."""

    __slots__ = ("_scope",)

    def __init__(self, source: Source, bindings: Bindings, unknown: UnknownAnywhere, scope: Scope) -> None:
        super().__init__(source, bindings, unknown)
        self._scope = scope

    def __repr__(self) -> str:
        return f"{super().__repr__()[:-1]}, scoped {self._scope.label!r}>"

    @override
    def get(self, global_sequence: int) -> Recorded[Any] | None:
        self._check(global_sequence)
        return super().get(global_sequence)

    @override
    def get_bytes(self, global_sequence: int) -> memoryview | None:
        self._check(global_sequence)
        return super().get_bytes(global_sequence)

    @override
    def iter_stream(
        self,
        stream: str,
        stream_id: StreamId,
        start: int = 0,
        stop: int | None = None,
        *,
        reverse: bool = False,
        types: Iterable[type | str] | None = None,
    ) -> Iterator[Recorded[Any]]:
        self._scope.check_read(check_name(stream), stream_id)
        return super().iter_stream(stream, stream_id, start, stop, reverse=reverse, types=types)

    def _check(self, global_sequence: int) -> None:
        """Whether the event at a sequence may be read; nothing is said of whose it is."""
        start, _ = bounds(global_sequence, None)
        snapshot = self._source.begin()
        try:
            if start >= snapshot.next_sequence:
                return
            block = snapshot.block(start, copy=True)
            number, _ = block.stream_of(start - block.first)
            identity = snapshot.catalog.stream(snapshot, number)
        finally:
            self._source.end(snapshot)
        if not self._scope.read.allows(*identity):
            raise self._scope.refusal("read", f"global sequence {start}", self._scope.read.refusing(*identity))

    @override
    def _find(self, streams: Iterable[str] | None) -> Callable[[Snapshot], Found]:
        right = self._scope.read
        if streams is None:
            if right.is_everything:
                return super()._find(None)
            return lambda snapshot: scoped_ranges(snapshot, right, known_names(snapshot))
        names = stream_names(streams)
        for name in names:
            self._scope.check_read_name(name)
        return lambda snapshot: scoped_ranges(snapshot, right, names)


class ScopedSelection(Selection):
    """What a tail or a consumer reads, as far as it is allowed."""

    def __init__(self, chosen: Selection, right: Right) -> None:
        super().__init__(chosen.view_class, generation=chosen.generation, names=chosen.names, stream=chosen.stream)
        self._right = right
        self.everything = self.everything and right.is_everything

    @override
    def wants(self, identity: StreamIdentity) -> bool:
        return super().wants(identity) and self._right.allows(*identity)

    @override
    def ranges(self, snapshot: Snapshot, at: int, stream_at: int, end: int) -> Iterable[Range]:
        if self.everything or self.names is not None or self.stream is not None:
            return super().ranges(snapshot, at, stream_at, end)
        names = [name for name in known_names(snapshot) if self._right.extent(name) is not Extent.NONE]
        return self.named(snapshot, names, at, end)


def known_names(snapshot: Snapshot) -> list[str]:
    """Every stream name of a store."""
    return [snapshot.catalog.name(snapshot, number) for number in range(snapshot.record.next_name)]


def scoped_ranges(snapshot: Snapshot, right: Right, names: Iterable[str]) -> Found:
    """Where the events of those streams of some names are that are allowed."""
    extents = {name: right.extent(name) for name in names}
    kept = [name for name, extent in extents.items() if extent is not Extent.NONE]
    ranges, end, owner = name_ranges(snapshot, kept)
    if all(extents[name] is Extent.ALL for name in kept):
        return ranges, end, owner
    return _allowed(ranges, right), end, owner


def _allowed(ranges: Ranges, right: Right) -> Ranges:
    """Those of some ranges of the log whose streams are allowed."""
    known: dict[int, bool] = {}

    def is_allowed(snapshot: Snapshot, number: int) -> bool:
        found = known.get(number)
        if found is None:
            if len(known) >= limits.SCOPE_DECISIONS_MAX:
                known.clear()
            found = known[number] = right.allows(*snapshot.catalog.stream(snapshot, number))
        return found

    def pieces(snapshot: Snapshot, start: int, stop: int, reverse: bool) -> Iterable[Sequence[Range]]:
        return few_together(_cut(snapshot, ranges(snapshot, start, stop, reverse), is_allowed, reverse=reverse))

    return Ranges(pieces)


def _cut(
    snapshot: Snapshot, ranges: Iterable[Range], is_allowed: Callable[[Snapshot, int], bool], *, reverse: bool
) -> Iterator[Range]:
    """Ranges cut to the runs of streams that are allowed. It keeps numbers only, nothing of the map."""
    block_first = block_end = 0
    firsts: list[int] = []
    ends: list[int] = []
    for _, first, count in ranges:
        low, high = first, first + count
        while low < high:
            at = high - 1 if reverse else low
            if not block_first <= at < block_end:
                block_first, block_end, firsts, ends = _runs(snapshot, at, is_allowed)
            begin, end = max(low, block_first), min(high, block_end)
            chosen = range(bisect_right(ends, begin), bisect_left(firsts, end))
            for index in reversed(chosen) if reverse else chosen:
                cut = max(firsts[index], begin)
                yield cut, cut, min(ends[index], end) - cut
            if reverse:
                high = begin
            else:
                low = end


def _runs(
    snapshot: Snapshot, sequence: int, is_allowed: Callable[[Snapshot, int], bool]
) -> tuple[int, int, list[int], list[int]]:
    """First sequence and end of the block that holds a sequence, and the same of each stretch of it that is allowed."""
    block = snapshot.block(sequence)
    streams, _, _, counts = block.run_lists()
    firsts: list[int] = []
    ends: list[int] = []
    at = block.first
    for number, count in zip(streams, counts, strict=True):
        if is_allowed(snapshot, number):
            if ends and ends[-1] == at:
                ends[-1] = at + count
            else:
                firsts.append(at)
                ends.append(at + count)
        at += count
    return block.first, block.end, firsts, ends
