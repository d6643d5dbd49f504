"""Tails: the log as an asynchronous iterator that catches up and then stays live."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any, Generic

from varve import limits
from varve.errors import InvalidInput
from varve.record import Recorded
from varve.tailing.scan import Batch, Scan
from varve.typing_support import E

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.tailing.scan import Selection
    from varve.tailing.start import TailStart

_SLICE_EVENTS = 32


class Tail(AsyncIterator[Recorded[E]], Generic[E]):
    """Recorded events from a start on, and then those that are committed, for ever. Made by ``db.tail()`` and
    ``stream.tail()``.

    Nothing is skipped and nothing comes twice. Between two steps it holds no snapshot and no waiter, so leaving the loop
    leaves nothing behind; a new ``async for`` over the same tail goes on where the last one stopped. What it gives lies on
    the heap and keeps nothing of the map. While it has events it lets other tasks run every few milliseconds.

    Raises ``StoreClosed`` when the store closes; ``CorruptedBlock``, ``UnexpectedEventType`` and ``SchemaConflict`` where
    it meets what it cannot give, and goes no further then. One task at a time.
    """

    def __init__(self, engine: Engine, selection: Selection, start: TailStart) -> None:
        self._scan: Scan[E] = Scan(engine, selection, start)
        self._path = engine.path
        self._pending: Iterator[Recorded[E]] = iter(())  # what the last step found and nobody was given yet
        self._last: Recorded[E] | None = None  # None where nothing is pending
        self._events: AsyncGenerator[Recorded[E], None] | None = None

    @property
    def position(self) -> int:
        """The next global sequence: everything before it was given, or passed over as not asked for."""
        return self._scan.position if self._last is None else self._last.global_sequence + 1

    def __aiter__(self) -> AsyncGenerator[Recorded[E], None]:
        if self._events is None:
            self._events = self._one_by_one()
        return self._events

    def __anext__(self) -> Any:
        return self.__aiter__().__anext__()

    async def aclose(self) -> None:
        """End it: the next step raises ``StopAsyncIteration``."""
        await self.__aiter__().aclose()

    def batches(self, events_max: int = limits.TAIL_EVENTS_MAX) -> AsyncGenerator[list[Recorded[E]], None]:
        """The same events in lists of 1 to ``events_max``: as many as are there, without waiting for more."""
        return self._lists(check_batch(events_max))

    async def _lists(self, events_max: int) -> AsyncGenerator[list[Recorded[E]], None]:
        turn = _Turn()
        while True:
            events = list(islice(self._pending, events_max))
            if events:
                self._last = events[-1]
            else:
                self._last = None
                await self._wait(turn)
                events = list(self._scan.step(events_max))
            if events:
                yield events
            if turn.is_due() or not (events or self._scan.caught_up):
                await turn.pause()

    async def _one_by_one(self) -> AsyncGenerator[Recorded[E], None]:
        scan, watermark, turn = self._scan, self._scan.hub.watermark, _Turn()
        try:
            while True:
                given = _SLICE_EVENTS
                while given == _SLICE_EVENTS:  # a slice at a time, for the clock to be looked at in between
                    given = 0
                    for recorded in islice(self._pending, _SLICE_EVENTS):
                        self._last = recorded
                        given += 1  # noqa: SIM113 - enumerate would make a tuple per event
                        yield recorded
                    if turn.is_due():
                        await turn.pause()
                self._last = None
                if scan.caught_up and watermark.value <= scan.position:  # _wait, without one more coroutine
                    await watermark.wait(scan.position + 1)
                    turn.begin()
                batch: Batch[E] = scan.step()
                self._pending = iter(batch)
                if not (batch.count or scan.caught_up):
                    await turn.pause()
        except Exception:
            self._events = None  # whoever asks again is told again, instead of meeting an end
            raise

    async def _wait(self, turn: _Turn) -> None:
        """Wait for more where the last step came to the end of the log."""
        scan = self._scan
        if scan.caught_up and scan.hub.watermark.value <= scan.position:
            await scan.hub.watermark.wait(scan.position + 1)
            turn.begin()

    def __repr__(self) -> str:
        return f"<Tail of {self._path} at {self.position}>"


class _Turn:
    """How long a tail has kept its loop busy. An await that waits for nothing does not let others run."""

    __slots__ = ("_until_s",)

    def __init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Others have just run."""
        self._until_s = time.monotonic() + limits.TAIL_TURN_S_MAX

    def is_due(self) -> bool:
        """Whether it is the others' turn."""
        return time.monotonic() >= self._until_s

    async def pause(self) -> None:
        """Let others run."""
        import asyncio

        await asyncio.sleep(0)
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
