"""How many events were recorded when."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import pairwise

from varve.errors import InvalidInput
from varve.record import to_datetime, to_time_ns
from varve.replay import first_at
from varve.store import Varve


@dataclass(frozen=True, slots=True)
class Rate:
    """Events by time."""

    start: dt.datetime
    """Where the first bucket begins (UTC)."""
    bucket_s: float
    """Seconds that a bucket is wide."""
    counts: tuple[int, ...]
    """Events recorded in each bucket; empty for an empty log."""


def event_rate(
    db: Varve, buckets: int = 60, *, start: dt.datetime | None = None, stop: dt.datetime | None = None
) -> Rate:
    """Events of an open store in equal buckets of time, from ``start`` (default: the first event) to before ``stop`` (default:
    just behind the last event).

    Found by bisection: the cost is a few blocks for each bucket, however long the log. Raises ``InvalidInput``, and ``Archived``
    where ``start`` lies below the horizon.
    """
    if not isinstance(buckets, int) or isinstance(buckets, bool) or not 1 <= buckets <= 10_000:
        raise InvalidInput(f"buckets is an int from 1 to 10000, not {buckets!r}")
    try:
        low_ns, high_ns = (None if when is None else to_time_ns(when) for when in (start, stop))
    except (ValueError, AttributeError, TypeError) as exc:
        raise InvalidInput(f"start and stop are aware datetimes: {exc}") from None
    with db._engine.snapshot() as snapshot:  # noqa: SLF001 - the same library
        end = snapshot.next_sequence
        if not end:
            return Rate(start or to_datetime(0), 0.0, ())
        first = snapshot.first_sequence
        begins_ns = snapshot.block(first).commit_of(0)[1]
        low_ns = begins_ns if low_ns is None else low_ns
        high_ns = snapshot.block(end - 1).last_time_ns + 1 if high_ns is None else high_ns
        if high_ns <= low_ns:
            raise InvalidInput("stop has to come after start")
        cuts = [low_ns + (high_ns - low_ns) * index // buckets for index in range(buckets + 1)]
        sequences = [first if cut == begins_ns else first_at(snapshot, cut) for cut in cuts]
        counts = tuple(after - before for before, after in pairwise(sequences))
        return Rate(to_datetime(low_ns), (high_ns - low_ns) / buckets / 1e9, counts)
