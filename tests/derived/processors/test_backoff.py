"""How long is waited."""

from __future__ import annotations

import math
from typing import Any

import pytest

import varve


def test_fixed() -> None:
    """The same each time."""
    wait = varve.fixed_wait(2.5)
    assert [wait(failed) for failed in (1, 2, 50)] == [2.5, 2.5, 2.5]


def test_exponential_without_jitter() -> None:
    """Times the factor up to the limit, however many attempts there are."""
    wait = varve.exponential_wait(0.5, factor=3, max_s=10, jitter=0)
    assert [wait(failed) for failed in (1, 2, 3, 4, 5)] == [0.5, 1.5, 4.5, 10, 10]
    assert wait(100_000) == 10


def test_jitter_comes_from_the_generator_that_is_given() -> None:
    """It only ever shortens a wait, by at most its part."""
    given = iter([0.0, 0.5, 1.0])
    wait = varve.exponential_wait(4, factor=1, jitter=0.5, rng=lambda: next(given))
    assert [wait(1), wait(2), wait(3)] == [4.0, 3.0, 2.0]
    everything = varve.exponential_wait(4, factor=1, jitter=1, rng=lambda: 1.0)
    assert everything(1) == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"base_s": -1}, "base_s"),
        ({"base_s": math.nan}, "base_s"),
        ({"max_s": math.inf}, "max_s"),
        ({"max_s": "1"}, "max_s"),
        ({"factor": 0.5}, "factor"),
        ({"factor": True}, "factor"),
        ({"jitter": 1.5}, "jitter"),
        ({"rng": 4}, "rng"),
    ],
)
def test_bad_waits(options: dict[str, Any], said: str) -> None:
    """Said when they are made, not when the first event fails."""
    with pytest.raises(varve.errors.InvalidInput, match=said):
        varve.exponential_wait(**options)
    with pytest.raises(varve.errors.InvalidInput):
        varve.fixed_wait(-0.1)
