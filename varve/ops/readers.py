"""Who reads a store right now."""

from __future__ import annotations

import os
from dataclasses import dataclass

from varve.store import Varve


@dataclass(frozen=True, slots=True)
class ReaderInfo:
    """A reader slot that is in use."""

    pid: int
    """The process."""
    commits_behind: int | None
    """How many commits ago the snapshot was taken that it holds: LMDB cannot reuse the pages that were freed since. None where it
    holds none."""


def readers(db: Varve) -> list[ReaderInfo]:
    """The reader slots of an open store in use, of all processes, oldest snapshot first; without the one that looks."""
    engine = db._engine  # noqa: SLF001 - the same library
    with engine.snapshot() as snapshot:
        newest = snapshot.id
        own = False
        found = []
        for pid, held in engine.environment.readers():
            if not own and held == newest and pid == os.getpid():  # this very look
                own = True
                continue
            found.append(ReaderInfo(pid, None if held is None else max(0, newest - held)))
    return sorted(
        found, key=lambda reader: -1 if reader.commits_behind is None else reader.commits_behind, reverse=True
    )
