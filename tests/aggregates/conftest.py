"""Makes ``aggregate_models`` importable under ``--import-mode=importlib``; an open store, a stream of accounts."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import varve
from varve.testing import ManualClock

sys.path.insert(0, str(Path(__file__).parent))

from aggregate_models import AccountEvent, Deposited, Opened, Withdrawn


@pytest.fixture
def db(varve_path: Path, varve_clock: ManualClock) -> Iterator[varve.Varve]:
    """An open store."""
    with varve.open(varve_path, durability="relaxed", clock=varve_clock) as store:
        yield store


@pytest.fixture
def accounts(db: varve.Varve) -> varve.Stream[AccountEvent]:
    """A stream of accounts."""
    return db.stream("accounts", Opened | Deposited | Withdrawn)
