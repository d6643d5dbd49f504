"""What becomes of commands that wait when the program ends, or forks, and nobody has closed their system."""

from __future__ import annotations

import atexit
import os
import weakref
from collections.abc import Callable
from typing import Protocol


class Ending(Protocol):
    """A system, as far as this concerns it."""

    def _at_exit(self) -> None: ...
    def _after_fork(self) -> None: ...


_living: set[weakref.ref[Ending]] = set()


def remember(system: Ending) -> None:
    """From now on, until it is dropped."""
    _living.add(weakref.ref(system, _living.discard))


def _each(what: Callable[[Ending], None]) -> None:
    for reference in list(_living):
        system = reference()
        if system is not None:
            what(system)


def _at_exit() -> None:
    _each(lambda system: system._at_exit())  # noqa: SLF001 - the two are one


def _after_fork() -> None:
    _each(lambda system: system._after_fork())  # noqa: SLF001


atexit.register(_at_exit)
os.register_at_fork(after_in_child=_after_fork)
