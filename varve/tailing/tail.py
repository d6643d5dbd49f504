"""Tails: the log as an asynchronous iterator that catches up and then stays live."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from itertools import islice
from time import monotonic as _monotonic
from typing import TYPE_CHECKING, Generic

from varve import limits
from varve.errors import InvalidInput
from varve.record import Recorded
from varve.tailing.loops import others
from varve.tailing.reading import Reading
from varve.typing_support import E

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.tailing.scan import Selection
    from varve.tailing.start import TailStart

_SLICE_EVENTS = 32


class Tail(Reading[E], AsyncIterator[Recorded[E]]):
    """Recorded events from a start on, and then those that are committed, for ever. Made by ``db.tail()`` and
    ``stream.tail()``.

    Nothing is skipped and nothing comes twice. Between two steps it holds no snapshot and no waiter, so leaving the loop
    leaves nothing behind; a new ``async for`` over the same tail goes on where the last one stopped. What it gives lies on
    the heap and keeps nothing of the map. While it has events it lets other tasks run every few milliseconds.

    Raises ``StoreClosed`` when the store closes; ``CorruptedBlock``, ``UnexpectedEventType`` and ``SchemaConflict`` where
    it meets what it cannot give, and goes no further then. One task at a time.
    """

    def __init__(self, engine: Engine, selection: Selection, start: TailStart) -> None:
        super().__init__(engine, selection, start)
        self._slice: Iterator[Recorded[E]] = iter(())  # the next few: in between, the clock is looked at
        self._turn = _Turn()
        self._ended = False

    def __aiter__(self) -> Tail[E]:
        return self

    # Not an async generator, which would be faster by 0.1 us per event: one that is cancelled while it waits, as by
    # asyncio.wait_for, ends silently at the next step.
    async def __anext__(self) -> Recorded[E]:
        for recorded in self._slice:
            self._last = recorded
            return recorded
        return await self._next()

    async def _next(self) -> Recorded[E]:
        turn = self._turn
        if turn.is_due():
            await turn.pause()
        while not self._ended:
            self._slice = islice(self._pending, _SLICE_EVENTS)
            for recorded in self._slice:
                self._last = recorded
                return recorded
            if not self._is_left():
                await self._step(limits.TAIL_EVENTS_MAX)
        raise StopAsyncIteration

    async def _step(self, events_max: int) -> None:
        """Look further, as soon as there is something to look at."""
        scan, turn = self._scan, self._turn
        if scan.caught_up and scan.hub.watermark.value <= scan.position:
            await scan.hub.watermark.wait(scan.position + 1)
            turn.begin()
        elif turn.is_due():
            await turn.pause()
        if (
            not self._is_left()
        ):  # another task that uses this tail, although it should not, may have found some meanwhile
            scan.step(events_max)

    def batches(self, events_max: int = limits.TAIL_EVENTS_MAX) -> Batches[E]:
        """The same events in lists of 1 to ``events_max``: as many as are there, without waiting for more."""
        return Batches(self, check_batch(events_max))

    async def next_batch(self, events_max: int) -> list[Recorded[E]]:
        """The next list of ``batches``."""
        if self._turn.is_due():
            await self._turn.pause()
        while not self._ended:
            events = self._take(events_max)
            if events:
                return events
            if not self._is_left():
                await self._step(events_max)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End it: the next step raises ``StopAsyncIteration``. Dropping a tail does as well."""
        self._ended = True
        self._pending = self._slice = iter(())

    def __repr__(self) -> str:
        return f"<Tail of {self._path} at {self.position}>"


class Batches(AsyncIterator[list[Recorded[E]]], Generic[E]):
    """A tail in lists. Made by ``Tail.batches()``."""

    __slots__ = ("_events_max", "_tail")

    def __init__(self, tail: Tail[E], events_max: int) -> None:
        self._tail = tail
        self._events_max = events_max

    def __aiter__(self) -> Batches[E]:
        return self

    async def __anext__(self) -> list[Recorded[E]]:
        return await self._tail.next_batch(self._events_max)

    async def aclose(self) -> None:
        """End the tail."""
        await self._tail.aclose()


class _Turn:
    """How long a tail has kept its loop busy. An await that waits for nothing does not let others run."""

    __slots__ = ("_until_s",)

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Others have just run."""
        self._until_s = _monotonic() + limits.TAIL_TURN_S_MAX

    def is_due(self) -> bool:
        """Whether it is the others' turn."""
        return _monotonic() >= self._until_s

    async def pause(self) -> None:
        """Let others run."""
        await others()
        self.begin()


def check_batch(events_max: int) -> int:
    """A batch size, checked. Raises ``InvalidInput``."""
    if (
        not isinstance(events_max, int)
        or isinstance(events_max, bool)
        or not 1 <= events_max <= limits.BATCH_EVENTS_MAX
    ):
        raise InvalidInput(
            f"events_max is an int from 1 to BATCH_EVENTS_MAX = {limits.BATCH_EVENTS_MAX}, not {events_max!r}"
        )
    return events_max
