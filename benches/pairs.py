"""Two sides of a comparison, run alternately.

The sides of a round run right after each other and the order swaps with every round (A B, B A, A B, ...), so that what
disturbs the machine for longer than a round disturbs both. The figure is the median over the rounds of ``seconds of B /
seconds of A``: how many times as fast A is. Its interval is a percentile bootstrap with a fixed seed.
"""

from __future__ import annotations

import contextlib
import gc
import random
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

BOOTSTRAP_SAMPLES = 2_000
BOOTSTRAP_SEED = 20_130_101
CONFIDENCE = 0.95


class ChecksumMismatch(AssertionError):
    """Two sides did not do the same work: their times must not be compared."""


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a pair.

    ``setup`` makes the state of one round and is not timed; what it gives goes to ``run``, which is. ``checksum`` turns the
    state and what ``run`` returned into a value that must be equal on both sides; it is not timed either.
    """

    name: str
    run: Callable[[Any], Any]
    checksum: Callable[[Any, Any], object]
    setup: Callable[[], contextlib.AbstractContextManager[Any]] = contextlib.nullcontext


@dataclass(frozen=True, slots=True)
class Measured:
    """A figure with its bootstrap interval."""

    median: float
    low: float
    high: float

    def inverse(self) -> Measured:
        """The same comparison seen from the other side."""
        return Measured(1 / self.median, 1 / self.high, 1 / self.low)


@dataclass(frozen=True, slots=True)
class Spread:
    """How some rounds of one side lie."""

    median: float
    lower: float
    """A quarter of the rounds is below."""
    upper: float
    """A quarter is above."""
    rounds: int


@dataclass(frozen=True, slots=True)
class Pair:
    """What a comparison gave: seconds of each round, and how many times as fast A is as B."""

    a_s: tuple[float, ...]
    b_s: tuple[float, ...]
    speed: Measured
    a_name: str = "A"
    b_name: str = "B"

    @property
    def cost(self) -> Measured:
        """How many times as long A takes as B."""
        return self.speed.inverse()


def compare(a: Side, b: Side, *, rounds: int, warmups: int = 1, clock: Callable[[], float] = time.perf_counter) -> Pair:
    """Run two sides alternately. Raises ``ChecksumMismatch`` in the round in which they did not do the same."""
    if rounds < 1:
        raise ValueError(f"rounds is at least 1, not {rounds}")
    times: dict[str, list[float]] = {"a": [], "b": []}
    for number in range(-warmups, rounds):
        order = (("a", a), ("b", b)) if number % 2 == 0 else (("b", b), ("a", a))
        sums: dict[str, object] = {}
        for which, side in order:
            seconds, sums[which] = _timed(side, clock)
            if number >= 0:
                times[which].append(seconds)
        if sums["a"] != sums["b"]:
            raise ChecksumMismatch(
                f"{a.name} gave {sums['a']!r}, {b.name} gave {sums['b']!r}: they did not do the same work"
            )
    ratios = [b_s / a_s for a_s, b_s in zip(times["a"], times["b"], strict=True)]
    return Pair(tuple(times["a"]), tuple(times["b"]), with_interval(ratios), a.name, b.name)


def _timed(side: Side, clock: Callable[[], float]) -> tuple[float, object]:
    with side.setup() as state:
        gc.collect()
        began = clock()
        result = side.run(state)
        seconds = clock() - began
        return max(seconds, 1e-9), side.checksum(state, result)


def with_interval(values: list[float]) -> Measured:
    """The median of some values and its percentile bootstrap interval."""
    if len(values) == 1:
        return Measured(values[0], values[0], values[0])
    generator = random.Random(BOOTSTRAP_SEED)
    medians = sorted(statistics.median(generator.choices(values, k=len(values))) for _ in range(BOOTSTRAP_SAMPLES))
    cut = round(BOOTSTRAP_SAMPLES * (1 - CONFIDENCE) / 2)
    return Measured(statistics.median(values), medians[cut], medians[-1 - cut])


def spread(values: Sequence[float]) -> Spread:
    """Median and quartiles."""
    if len(values) < 2:
        return Spread(values[0], values[0], values[0], len(values))
    lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
    return Spread(median, lower, upper, len(values))
