"""What takes a command back that was written and could not be applied."""

from __future__ import annotations

from typing import Final

from varve.codec import event
from varve.types import u64

REASON_CHARS_MAX: Final = 500


@event(name="varve.Aborted")
class Aborted:
    """Stands behind a command of a prevalent system whose ``apply`` raised: to the system it never happened.

    Whoever else reads the system's stream passes over the command that it names, which is the one before it.
    """

    stream_sequence: u64
    """Where the command stands in the stream."""
    reason: str
    """What was raised, in words."""


def aborted(stream_sequence: int, error: BaseException) -> Aborted:
    """The record for a command and what its ``apply`` raised."""
    try:
        said = str(error)
    except Exception:  # noqa: BLE001 - an error whose message fails is an error all the same
        said = ""
    reason = f"{type(error).__name__}: {said}" if said else type(error).__name__
    return Aborted(stream_sequence, reason[:REASON_CHARS_MAX].encode(errors="replace").decode())
