"""A clock that tests set."""

from __future__ import annotations


class ManualClock:
    """Nanoseconds since 1970 that move when told to; pass it as ``varve.open(..., clock=...)``."""

    def __init__(self, start_ns: int = 1_700_000_000_000_000_000) -> None:
        self.now_ns = start_ns

    def __call__(self) -> int:
        """The time."""
        return self.now_ns

    def advance(self, seconds: float) -> None:
        """Move by so many seconds, backwards too (a store's times never follow it there)."""
        self.now_ns += round(seconds * 1_000_000_000)
