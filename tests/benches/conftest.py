"""The benches are a package beside ``varve``: found from the checkout, not installed."""

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2]))

from benches.workspace import SIZES, Workspace, workspace


@pytest.fixture(autouse=True)
def no_collections(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is timed here, and a collection of everything that the tests' process holds would cost more than most rounds."""
    monkeypatch.setattr(gc, "collect", lambda: 0)


@pytest.fixture(scope="module")
def work() -> Iterator[Workspace]:
    """A workspace of tiny size, whose stores are built once; in memory where that can be: there are hundreds of fsyncs."""
    memory = Path("/dev/shm")
    folder = memory if memory.is_dir() and os.access(memory, os.W_OK) else None
    with workspace(SIZES["tiny"], folder) as made:
        yield made
