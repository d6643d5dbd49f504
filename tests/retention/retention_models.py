"""The event class of these tests."""

from __future__ import annotations

import varve


@varve.event(name="retention.Note")
class Note:
    """A number."""

    n: varve.u64
