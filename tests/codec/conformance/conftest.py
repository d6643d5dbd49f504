"""The official compiler for the tests of this folder: missing on a developer's machine they skip, in CI they fail."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from official import Flatc, find_flatc


@pytest.fixture(scope="session")
def flatc(tmp_path_factory: pytest.TempPathFactory) -> Flatc:
    """The official compiler, working in a folder of the session."""
    return find_flatc(tmp_path_factory.mktemp("flatc"))
