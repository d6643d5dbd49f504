"""Where a tail starts: a sequence, the end of the log, or a point in time."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Final, Literal

from varve.errors import InvalidInput
from varve.record import to_time_ns


class Start(enum.Enum):
    """Starts that are neither a sequence nor a point in time."""

    END = "end"

    def __repr__(self) -> str:
        return f"varve.{self.name}"


END: Final[Literal[Start.END]] = Start.END
"""Start behind the last event: only what is committed from now on."""

TailStart = int | dt.datetime | Literal[Start.END]


def check_start(start: TailStart) -> TailStart:
    """A ``start=`` argument, checked. Raises ``InvalidInput``."""
    if start is END:
        return start
    if isinstance(start, dt.datetime):
        try:
            to_time_ns(start)
        except ValueError as exc:
            raise InvalidInput(f"start is no instant: {exc}") from None
        return start
    if not isinstance(start, int) or isinstance(start, bool):
        raise InvalidInput(f"start is a sequence (an int), varve.END or an aware datetime, not {start!r}")
    if start < 0:
        raise InvalidInput(f"start is {start}; sequences start at 0 (varve.END starts behind the last event)")
    return start
