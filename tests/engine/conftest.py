"""Makes ``engine_helpers`` importable under ``--import-mode=importlib``, here and in subprocesses; a store of short blocks."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import varve
from varve import limits

sys.path.insert(0, str(Path(__file__).parent))

from engine_helpers import Number


@pytest.fixture
def numbers_db(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A store with a hundred events in short blocks."""
    monkeypatch.setattr(limits, "BLOCK_BYTES_MAX", 480)
    monkeypatch.setattr(limits, "TAIL_BLOCK_BYTES_MAX", 480)
    with varve.open(varve_path, durability="relaxed") as found:
        found.stream("numbers", Number).append_batch(1, [Number(number) for number in range(100)])
        yield found


@pytest.fixture
def snapshot(numbers_db: Any) -> Iterator[Any]:
    """An instant of it."""
    with numbers_db._engine.snapshot() as found:
        yield found
