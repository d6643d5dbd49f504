"""A store with something in it, and ``scoped_models`` importable as one module for all tests here."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import varve
from varve.testing import ManualClock

sys.path.insert(0, str(Path(__file__).parent))

from scoped_models import fill


@pytest.fixture
def empty(varve_path: Path, varve_clock: ManualClock) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with varve.open(varve_path, durability="relaxed", clock=varve_clock) as store:
        yield store


@pytest.fixture
def db(empty: varve.Varve) -> varve.Varve:
    """The same with events."""
    fill(empty)
    return empty
