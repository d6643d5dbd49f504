"""The benches are a package beside ``varve``: found from the checkout, not installed."""

import gc
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))


@pytest.fixture(autouse=True)
def no_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is timed here, and a collection of everything that the tests' process holds would cost more than most rounds."""
    monkeypatch.setattr(gc, "collect", lambda: 0)
