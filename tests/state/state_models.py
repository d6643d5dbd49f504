"""The event of these tests."""

from __future__ import annotations

import varve


@varve.event
class Moved:
    """Money went from here to there."""

    amount: varve.i64
