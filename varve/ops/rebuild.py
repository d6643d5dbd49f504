"""Rebuild index and metadata from the log."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

from varve.engine import whole


@dataclass(frozen=True, slots=True)
class RebuildReport:
    """What a rebuild carried over."""

    events: int
    """Events in the new store."""
    blocks: int
    """Blocks of its log."""


def rebuild(
    source: str | os.PathLike[str], target: str | os.PathLike[str], *, progress: Callable[[int], None] | None = None
) -> RebuildReport:
    """Make a new store at ``target`` from the log of ``source``: the log byte for byte, index and metadata worked out
    from it, positions of consumers copied.

    For a store whose index or metadata are damaged. ``source`` is only read, and must not be open in this process;
    ``target`` must not exist. ``progress`` is called with the number of events done. The new store appears under its
    name when it is complete and on disk.

    Raises ``InvalidInput``, ``StoreNotFound``, ``StoreAlreadyOpen``, ``CorruptedBlock`` where the log itself is
    damaged.
    """
    rebuilt = whole.rebuild(os.fspath(source), os.fspath(target), progress)
    return RebuildReport(rebuilt.events, rebuilt.blocks)
