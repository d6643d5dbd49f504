"""What tails and ``follow`` share: a scan, and what it found and nobody was given yet."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Generic

from varve.record import Recorded
from varve.tailing.scan import Batch, Scan
from varve.typing_support import E

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.tailing.scan import Selection
    from varve.tailing.start import TailStart


class Reading(Generic[E]):
    """A place in the log from which events are given, once and in order, also where an interrupt (Ctrl-C, a signal handler
    that raises) strikes and somebody goes on all the same.

    Such an exception ends the generator in which it strikes. So what is left is never what ``_pending`` still has, but what
    lies behind ``_last``, the last event that was given.
    """

    def __init__(self, engine: Engine, selection: Selection, start: TailStart) -> None:
        self._scan: Scan[E] = Scan(engine, selection, start)
        self._path = engine.path
        self._pending: Iterator[Recorded[E]] = iter(())  # what the last step found and nobody was given yet
        self._last: Recorded[E] | None = None  # None where nothing of it was given

    @property
    def position(self) -> int:
        """The next global sequence: everything before it was given, or passed over as not asked for."""
        if self._last is not None:
            return self._last.global_sequence + 1
        found = self._scan.found
        return found.first if found.count else self._scan.position

    def _is_left(self) -> bool:
        """Whether something was found and not given; it is pending then. Else the next step may be made."""
        found, last = self._scan.found, self._last
        if found.count:
            if last is not None:
                behind = last.global_sequence + 1
                found = found.behind(behind) if behind < found.end else Batch()
            if found.count:
                self._pending = iter(found)
                return True
            self._scan.found = found  # before the next line: an interrupt between them gives nothing twice
        self._last = None
        return False

    def _take(self, events_max: int) -> list[Recorded[E]]:
        """Up to so many that are pending."""
        try:
            events = list(islice(self._pending, events_max))
            if events:
                self._last = events[-1]
        except BaseException:
            self._pending = iter(())
            raise
        return events
