"""What compaction leaves where it dropped events."""

from __future__ import annotations

from typing import Any, Final

from varve.codec import event, event_type
from varve.types import u32


@event(name="varve.Gap")
class Gap:
    """Stands for events that were hidden from their stream's readers and dropped by ``varve.ops.compact``.

    Positions, streams and commits stay; what the events held is gone. Replays, tails and ``db.global_reader().get`` give one for
    consecutive dropped events of a stream; typed reads pass over them, and columns do.
    """

    events: u32
    """How many events it stands for, from its position on."""


GAP: Final = event_type(Gap)
GAP_VIEW: Final[Any] = GAP.view_class
"""What stands for the views of dropped events."""

STAND_IN: Final = GAP.pack(Gap(1))
"""What is stored at each position of a dropped event."""
