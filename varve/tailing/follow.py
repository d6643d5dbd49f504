"""Following: a tail for threads."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Generic

from varve import limits
from varve.record import Recorded
from varve.tailing.scan import Scan
from varve.tailing.tail import check_batch
from varve.tailing.watcher import check_timeout
from varve.typing_support import E

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.tailing.scan import Selection
    from varve.tailing.start import TailStart


class Follow(Iterator[Recorded[E]], Generic[E]):
    """What a ``Tail`` gives, as a plain iterator that blocks its thread while there is nothing. Made by ``db.follow()``.

    With ``timeout_s`` it ends once nothing came for so many seconds; another ``for`` goes on where it stopped. Otherwise
    it ends with the store, by ``StoreClosed``. One thread at a time.
    """

    def __init__(self, engine: Engine, selection: Selection, start: TailStart, timeout_s: float | None) -> None:
        self._timeout_s = check_timeout(timeout_s)
        self._scan: Scan[E] = Scan(engine, selection, start)
        self._path = engine.path
        self._pending: Iterator[Recorded[E]] = iter(())  # what the last step found and nobody was given yet
        self._last: Recorded[E] | None = None  # None where nothing is pending

    @property
    def position(self) -> int:
        """The next global sequence: everything before it was given, or passed over as not asked for."""
        return self._scan.position if self._last is None else self._last.global_sequence + 1

    def __iter__(self) -> Follow[E]:
        return self

    def __next__(self) -> Recorded[E]:
        recorded = next(self._pending, None)
        if recorded is None:
            self._last = None
            self._pending = iter(self._found(limits.TAIL_EVENTS_MAX))
            recorded = next(self._pending)
        self._last = recorded
        return recorded

    def batches(self, events_max: int = limits.TAIL_EVENTS_MAX) -> Iterator[list[Recorded[E]]]:
        """The same events in lists of 1 to ``events_max``: as many as are there, without waiting for more."""
        return self._lists(check_batch(events_max))

    def _lists(self, events_max: int) -> Iterator[list[Recorded[E]]]:
        while True:
            events = list(islice(self._pending, events_max))
            if events:
                self._last = events[-1]
            else:
                self._last = None
                events = list(self._found(events_max))
            if not events:
                return
            yield events

    def _found(self, events_max: int) -> Iterable[Recorded[E]]:
        """The next events; none where nothing came in time."""
        scan = self._scan
        until_s = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        while True:
            batch = scan.step(events_max)
            if batch.count:
                return batch
            if scan.caught_up:
                left_s = None if until_s is None else max(0.0, until_s - time.monotonic())
                if not scan.hub.watermark.wait_blocking(scan.position + 1, left_s):
                    return ()

    def __repr__(self) -> str:
        return f"<Follow of {self._path} at {self.position}>"
