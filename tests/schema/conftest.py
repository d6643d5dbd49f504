"""Makes the helpers of this folder and those of the codec's tests importable."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent / "codec"), str(HERE.parent / "codec" / "conformance")]

from official import Flatc, find_flatc  # noqa: E402 - its folder is known from here on


@pytest.fixture(scope="session")
def flatc(tmp_path_factory: pytest.TempPathFactory) -> Flatc:
    """The official compiler, working in a folder of the session."""
    return find_flatc(tmp_path_factory.mktemp("flatc"))
