"""Makes ``processor_models`` importable under ``--import-mode=importlib``, here and in subprocesses."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import varve
from varve.testing import ManualClock

sys.path.insert(0, str(Path(__file__).parent))

from processor_models import Placed, Shipped


@pytest.fixture
def db(varve_path: Path, varve_clock: ManualClock) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with varve.open(varve_path, durability="relaxed", clock=varve_clock) as store:
        yield store


@pytest.fixture
def orders(db: varve.Varve) -> varve.Stream[Placed | Shipped]:
    """A stream of two event types."""
    return db.stream("orders", Placed | Shipped)
