"""Makes ``prevalent_models`` importable under ``--import-mode=importlib``; a store for the tests."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import varve

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with varve.open(varve_path, durability="relaxed") as store:
        yield store
