"""How long to wait before an event is tried again: a function of the attempts that have failed."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from varve.errors import InvalidInput

Wait = Callable[[int], float]
"""Seconds to wait after so many failed attempts (from 1 on)."""


@dataclass(frozen=True, slots=True)
class _Fixed:
    seconds: float

    def __call__(self, failed: int) -> float:  # noqa: ARG002 - the same for all
        return self.seconds


@dataclass(frozen=True, slots=True)
class _Exponential:
    base_s: float
    factor: float
    max_s: float
    jitter: float
    rng: Callable[[], float]

    def __call__(self, failed: int) -> float:
        try:
            seconds = min(self.max_s, self.base_s * self.factor ** (failed - 1))
        except OverflowError:
            seconds = self.max_s
        return seconds * (1 - self.jitter * self.rng()) if self.jitter else seconds


def fixed_wait(seconds: float) -> Wait:
    """Wait for so many seconds each time. Raises ``InvalidInput``."""
    return _Fixed(check_seconds("seconds", seconds))


def exponential_wait(
    base_s: float = 0.1,
    *,
    factor: float = 2.0,
    max_s: float = 60.0,
    jitter: float = 0.5,
    rng: Callable[[], float] = random.random,
) -> Wait:
    """Wait for ``base_s`` seconds after the first failure, each time ``factor`` times as long, up to ``max_s``.

    ``jitter``, from 0 to 1, is the part of a wait that is left to chance, so that many who failed together do not come back
    together: 0.5 waits for 50 to 100 % of the time, 0 for exactly that long. ``rng`` gives numbers from 0 to 1. Raises
    ``InvalidInput``.
    """
    check_seconds("base_s", base_s)
    check_seconds("max_s", max_s)
    if not _is_number(factor) or not 1 <= factor < math.inf:
        raise InvalidInput(f"factor is a number from 1 on, not {factor!r}")
    if not _is_number(jitter) or not 0 <= jitter <= 1:
        raise InvalidInput(f"jitter is a number from 0 to 1, not {jitter!r}")
    if not callable(rng):
        raise InvalidInput(f"rng is a function that gives numbers from 0 to 1, such as random.random, not {rng!r:.80}")
    return _Exponential(base_s, float(factor), max_s, jitter, rng)


def check_seconds(name: str, seconds: Any) -> float:
    """A number of seconds, checked. Raises ``InvalidInput``."""
    if not _is_number(seconds) or not 0 <= seconds < math.inf:
        raise InvalidInput(f"{name} is a number of seconds from 0 on, not {seconds!r:.80}")
    return float(seconds)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
