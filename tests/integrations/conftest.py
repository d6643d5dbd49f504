"""What the tests of both integrations watch."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import varve


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    with varve.open(varve_path, durability="relaxed") as found:
        yield found
