"""The store that most tests use, and ``store_models`` importable as one module for tests and pickles alike."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import varve
from varve.testing import ManualClock

sys.path.insert(0, str(Path(__file__).parent))

from store_models import OrderPlaced, OrderShipped


@pytest.fixture
def db(varve_path: Path, varve_clock: ManualClock) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with varve.open(varve_path, durability="relaxed", clock=varve_clock) as store:
        yield store


@pytest.fixture
def orders(db: varve.Varve) -> varve.Stream[OrderPlaced]:
    """A stream of one event type."""
    return db.stream("orders", OrderPlaced)


@pytest.fixture
def mixed(db: varve.Varve) -> varve.Stream[OrderPlaced | OrderShipped]:
    """A stream of two event types."""
    return db.stream("orders", OrderPlaced | OrderShipped)
