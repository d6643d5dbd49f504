"""Which events of the log are a member's: the partition of their stream, and where that partition stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from varve import limits
from varve.layout.consumers import PARTITIONS, partition_of
from varve.layout.keys import encode_stream_id

if TYPE_CHECKING:
    from collections.abc import Sequence

    from varve.engine.catalog import StreamIdentity
    from varve.layout.consumers import Run
    from varve.tailing.scan import Batch


class Share:
    """Consecutive partitions, each with the position behind which its events are still to come.

    One scan reads for all of them, from the lowest of their positions on.
    """

    def __init__(self, runs: Sequence[Run]) -> None:
        self._positions = {at: run.position for run in runs for at in range(run.first, run.end)}
        self._level = max(self._positions.values())
        self._is_whole = len(self._positions) == PARTITIONS
        self._floors: dict[StreamIdentity, int | None] = {}

    def of(self, batch: Batch[Any], position: int) -> Batch[Any]:
        """Those of a scan's events that are the member's, the scan having come to ``position``."""
        if self._is_whole and not self._level:
            return batch
        kept = batch.above(self._floor)
        if position >= self._level:
            self._level = 0  # all partitions stand where the scan stands
        return kept

    def _floor(self, identity: StreamIdentity) -> int | None:
        try:
            return self._floors[identity]
        except KeyError:
            if len(self._floors) >= limits.CACHED_STREAMS_MAX:
                self._floors.clear()
            partition = partition_of(identity.name, encode_stream_id(identity.stream_id))
            floor = self._floors[identity] = self._positions.get(partition)
            return floor
