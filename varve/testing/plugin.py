"""The pytest plugin (entry point ``varve``)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from varve.opening import open as open_store
from varve.store import Varve
from varve.testing.clock import ManualClock
from varve.testing.store import assert_sound


@pytest.fixture
def varve_clock() -> ManualClock:
    """A clock that stands still until the test moves it."""
    return ManualClock()


@pytest.fixture
def varve_path(tmp_path: Path) -> Iterator[Path]:
    """A path for a store. Whatever store is there after the test must be closed, and sound."""
    path = tmp_path / "store"
    yield path
    if (path / "data.mdb").exists():
        assert_sound(path)


@pytest.fixture
def varve_store(varve_path: Path, varve_clock: ManualClock) -> Iterator[Varve]:
    """An open store on ``varve_clock``, closed after the test and checked."""
    with open_store(varve_path, clock=varve_clock) as db:
        yield db
