"""A store for tests of state, and ``state_models`` importable as one module for tests and subprocesses alike."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import varve

sys.path.insert(0, str(Path(__file__).parent))

from state_models import Moved


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    """An open store without fsync's price."""
    with varve.open(varve_path, durability="relaxed") as store:
        yield store


@pytest.fixture
def moved(db: varve.Varve) -> varve.Stream[Moved]:
    """A stream."""
    return db.stream("moved", Moved)
