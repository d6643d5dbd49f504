"""Commands in the log: the stream of a system, appended to, and read back as quickly as it can be."""

from __future__ import annotations

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from functools import reduce
from itertools import accumulate
from operator import or_
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from varve.codec import event_type, owned
from varve.codec.taken import taker
from varve.deferred import Deferred
from varve.engine.core import StoreClosing
from varve.errors import StoreClosed
from varve.layout.keys import encode_stream_id
from varve.prevalent.aborts import Aborted, aborted
from varve.replay import Live, of_stream, tracked, walk_blocks

if TYPE_CHECKING:
    from varve.engine.snapshot import Snapshot
    from varve.store import Varve

STREAM_ID: Final = 0


class Kind(NamedTuple):
    """What to do with the events of a type."""

    take: Callable[[Any, int], Any] | None
    """(buffer, offset) -> the command; None where it goes through upcasts."""
    view: Any
    """The class of its views, or of what stands for them; None for events that compaction dropped."""
    apply: Callable[[Any, Any], Any] | None
    """The command's; None for what takes a command back, and for what was dropped."""


class Run(NamedTuple):
    """Consecutive events of one type."""

    first: int
    """Stream sequence of the first."""
    sequence: int
    """Its global sequence."""
    kind: Kind
    buffer: Any
    offsets: Sequence[int]

    def events(self) -> Iterator[Any]:
        """The events, plain instances."""
        take, buffer = self.kind.take, self.buffer
        if take is not None:
            return (take(buffer, offset) for offset in self.offsets)
        return map(self._upcast, range(len(self.offsets)))

    def _upcast(self, index: int) -> Any:
        deferred = object.__new__(self.kind.view)
        deferred._b = self.buffer
        deferred._o = self.offsets[index]
        return owned(deferred.finish(self.buffer, self.sequence + index))


class Journal:
    """The stream of a system."""

    def __init__(self, db: Varve, name: str, commands: Iterable[type]) -> None:
        self.name = f"prevalent/{name}"
        self.stream = db.stream(self.name, reduce(or_, [*commands, Aborted]))
        self._db = db
        self._engine = db._engine  # noqa: SLF001 - the same library
        self._reader = self.stream.reader()
        self._kinds: dict[int, Kind] = {}

    def length(self) -> int:
        """Number of events in it."""
        return self._reader.length(STREAM_ID)

    def check_usable(self) -> None:
        """Raise what the store refuses everything with, if it does."""
        self._engine.check_usable()

    def check_writable(self) -> None:
        """Raise what the store refuses writes with, if it does."""
        self._engine.check_writable()

    def encoded_bytes(self, command: Any) -> int:
        """How many bytes a command takes. Raises what an append of it would raise without having written anything."""
        return len(self.stream._types.encode(command)[1])  # noqa: SLF001 - the same library

    def append(self, commands: Sequence[Any], expected: int) -> None:
        """Append commands in one commit. Raises what ``Stream.append`` raises."""
        if len(commands) == 1:
            self.stream.append(STREAM_ID, commands[0], expected=expected)
        else:
            self.stream.append_batch(STREAM_ID, commands, expected=expected)

    def abort(self, stream_sequence: int, error: BaseException, expected: int) -> None:
        """Take a command back. Raises as ``append``."""
        self.stream.append(STREAM_ID, aborted(stream_sequence, error), expected=expected)

    def holds(self, start: int, commands: Sequence[Any]) -> bool:
        """Whether these commands stand at ``start`` and behind it, once a commit that is under way has ended. (Others that are
        equal would do: a second writer's.)"""
        stop = start + len(commands)
        if self._db.write(lambda tx: tx.length(self.stream, STREAM_ID)) < stop:
            return False
        encode = self.stream._types.encode  # noqa: SLF001 - the same library
        with contextlib.closing(self.runs(start, stop)) as runs:
            found = [encode(one) for run in runs for one in run.events()]
        return found == [encode(one) for one in commands]

    def runs(self, start: int, stop: int) -> Generator[Run, None, None]:
        """What stands at stream sequences ``start .. stop``, also what readers pass over because of a retention rule.

        Raises ``UnexpectedEventType``, ``SchemaConflict``, ``Archived``, ``CorruptedBlock``, ``CorruptedStore``.
        """
        return tracked(self._engine, self._walk(start, stop))

    def _walk(self, start: int, stop: int) -> Generator[Any, None, None]:
        source = Live(self._engine)
        with source.begin() as first_look:
            number = first_look.stream_number(self.name, encode_stream_id(STREAM_ID))
        if number is None:
            yield None
            return
        slices = walk_blocks(source, of_stream(number), start, lambda _: stop, stop, lambda: number, reverse=False)
        snapshot: Any = None
        block: Any = None
        item: Any = None
        scattered: Any = None
        known: Any = None
        data: Any = None
        payload = b""
        starts: list[int] = []
        streams = types = firsts = begins = starts
        try:
            yield next(slices)
            for item in slices:
                snapshot, block, low, high, drift, scattered = item
                if scattered is not None:
                    for (_, data), sequence, shift, _, type_number, offset in scattered:
                        if data is not known:
                            known, payload = data, bytes(data)
                        yield Run(
                            sequence + shift, sequence, self._kind(snapshot, type_number, sequence), payload, (offset,)
                        )
                    data = None
                    continue
                if block is not known:
                    known = block
                    payload = bytes(block.payload())
                    starts = [0, *block.ends().tolist()]
                    streams, types, firsts, counts = block.run_lists()
                    begins = list(accumulate(counts, initial=block.first))
                first = block.first
                for index in range(bisect_right(begins, low) - 1, bisect_right(begins, high - 1)):
                    begin, until = max(begins[index], low), min(begins[index + 1], high)
                    shift = firsts[index] - begins[index]
                    if streams[index] != number or shift != drift:
                        raise snapshot.index_wrong(begin)
                    kind = self._kind(snapshot, types[index], begin)
                    yield Run(begin + shift, begin, kind, payload, starts[begin - first : until - first])
        except StoreClosing:
            slices.close()
            snapshot = block = item = scattered = known = data = None
            yield None
            raise StoreClosed(f"{self._engine.path} was told to close, which ended this replay") from None
        finally:
            # Whoever keeps an error keeps this frame: it must not keep the map.
            snapshot = block = item = scattered = known = data = None
            slices.close()

    def _kind(self, snapshot: Snapshot, type_number: int, sequence: int) -> Kind:
        kind = self._kinds.get(type_number)
        if kind is None:
            view = self._reader._view(snapshot, type_number, sequence)  # noqa: SLF001 - the same library
            kind = self._kinds[type_number] = _kind_of(view)
        return kind


def _kind_of(view: Any) -> Kind:
    if view is None:
        return Kind(None, None, None)
    if issubclass(view, Deferred):
        cls = view.gives()
        return Kind(None, view, cls.apply)
    cls = view.__varve__.cls
    return Kind(taker(event_type(cls)), view, None if cls is Aborted else cls.apply)
