"""Expected versions: what a writer believes about a stream before it appends."""

from __future__ import annotations

import enum
from typing import Final, Literal


class Expected(enum.Enum):
    """Expectations that are not a number of events."""

    ANY = "any"
    NO_STREAM = "no stream"
    STREAM_EXISTS = "stream exists"

    def __repr__(self) -> str:
        return f"varve.{self.name}"


ANY: Final[Literal[Expected.ANY]] = Expected.ANY
"""Append whatever the stream holds."""

NO_STREAM: Final[Literal[Expected.NO_STREAM]] = Expected.NO_STREAM
"""The stream must not have been written yet."""

STREAM_EXISTS: Final[Literal[Expected.STREAM_EXISTS]] = Expected.STREAM_EXISTS
"""The stream must hold at least one event."""

ExpectedVersion = Expected | int


def holds(expected: ExpectedVersion, length: int) -> bool:
    """Whether a stream of ``length`` events is as expected."""
    if expected is Expected.ANY:
        return True
    if expected is Expected.NO_STREAM:
        return length == 0
    if expected is Expected.STREAM_EXISTS:
        return length > 0
    return length == expected
