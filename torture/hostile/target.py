"""What is fuzzed: something that takes bytes or text from anywhere."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

Attempt = Callable[[random.Random], bool]
"""Makes one hostile input and hands it over; whether it was accepted, and then all of it was used. Refusals that are not
the documented typed error, and whatever fails in the use of what was accepted, are raised."""


class Target(Protocol):
    """Something that takes hostile input. To add one: such an object, in ``TARGETS`` of ``torture.hostile``."""

    name: str
    share: int
    """Of a thousand inputs, about so many are for it."""

    def prepare(self, seed: int, folder: Path) -> Attempt:
        """Collect what is mutated. Called once, before the workers fork; ``folder`` is empty and its own."""
        ...

    def holes(self) -> Iterator[tuple[str, AbstractContextManager[object], int]]:
        """Planted faults: what is left out, a patch that leaves it out, within how many inputs it must be found."""
        ...


class Wrong(AssertionError):
    """Something that was accepted is not what it should be."""


def insist(holds: object, what: str) -> None:
    """Raise ``Wrong`` unless it holds. (``assert`` may be switched off.)"""
    if not holds:
        raise Wrong(what)
