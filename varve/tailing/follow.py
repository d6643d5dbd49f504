"""Following: a tail for threads."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from varve import limits
from varve.record import Recorded
from varve.tailing.reading import Reading
from varve.tailing.tail import check_batch
from varve.tailing.watcher import check_timeout
from varve.typing_support import E

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.tailing.scan import Selection
    from varve.tailing.start import TailStart


class Follow(Reading[E], Iterator[Recorded[E]]):
    """What a ``Tail`` gives, as a plain iterator that blocks its thread while there is nothing. Made by ``db.follow()``.

    With ``timeout_s`` it ends once nothing came for so many seconds; another ``for`` goes on where it stopped. Otherwise
    it ends with the store, by ``StoreClosed``. One thread at a time.
    """

    def __init__(self, engine: Engine, selection: Selection, start: TailStart, timeout_s: float | None) -> None:
        self._timeout_s = check_timeout(timeout_s)
        super().__init__(engine, selection, start)

    def __iter__(self) -> Follow[E]:
        return self

    def __next__(self) -> Recorded[E]:
        while True:
            for recorded in self._pending:
                self._last = recorded
                return recorded
            if not self._is_there(limits.TAIL_EVENTS_MAX):
                raise StopIteration

    def batches(self, events_max: int = limits.TAIL_EVENTS_MAX) -> Iterator[list[Recorded[E]]]:
        """The same events in lists of 1 to ``events_max``: as many as are there, without waiting for more."""
        return self._lists(check_batch(events_max))

    def _lists(self, events_max: int) -> Iterator[list[Recorded[E]]]:
        while True:
            events = self._take(events_max)
            if events:
                yield events
            elif not self._is_there(events_max):
                return

    def _is_there(self, events_max: int) -> bool:
        """Block until something is pending; False where nothing came in time."""
        if self._is_left():
            return True
        scan = self._scan
        until_s = None if self._timeout_s is None else time.monotonic() + self._timeout_s
        while not scan.step(events_max).count:
            if scan.caught_up and scan.looked:  # a copied block may end before the log does
                left_s = None if until_s is None else until_s - time.monotonic()
                # Nothing is left to look at and no time: also where others commit what is not asked for all the while.
                if left_s is not None and left_s <= 0:
                    return False
                if not scan.hub.watermark.wait_blocking(scan.position + 1, left_s):
                    return False
        return self._is_left()

    def __repr__(self) -> str:
        return f"<Follow of {self._path} at {self.position}>"
