"""When a state is worth saving."""

from __future__ import annotations

from dataclasses import dataclass

from varve.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class SnapshotPolicy:
    """When a state is due to be saved. Made by ``varve.every``."""

    events: int | None = None
    """After so many events."""
    seconds: float | None = None
    """After so long, where there were any events."""

    def due(self, applied: int, age_s: float = 0.0) -> bool:
        """Whether to save now: ``applied`` events are in the state that are not in the last saved one, which was saved ``age_s``
        seconds ago (infinity where there is none)."""
        if applied <= 0:
            return False
        return (self.events is not None and applied >= self.events) or (
            self.seconds is not None and age_s >= self.seconds
        )


def every(events: int | None = None, *, seconds: float | None = None) -> SnapshotPolicy:
    """Save a state once ``events`` events were applied since it was last saved (``every(3)``: after two it is not due, after
    three it is), or ``seconds`` have passed and any were applied; with both, whichever comes first. Raises ``InvalidInput``."""
    if events is None and seconds is None:
        raise InvalidInput("every takes a number of events, seconds, or both")
    if events is not None and (type(events) is not int or events < 1):
        raise InvalidInput(f"every takes a number of events from 1 on, not {events!r:.80}")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0):
        raise InvalidInput(f"every takes seconds from 0 on, not {seconds!r:.80}")
    return SnapshotPolicy(events, seconds)
