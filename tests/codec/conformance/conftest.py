"""The official compiler for the tests of this folder: missing on a developer's machine they skip, in CI they fail."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from official import Flatc

HOW = "flatc is not installed: apt-get install flatbuffers-compiler (or https://github.com/google/flatbuffers/releases)"


@pytest.fixture(scope="session")
def flatc(tmp_path_factory: pytest.TempPathFactory) -> Flatc:
    """The official compiler, working in a folder of the session."""
    found = shutil.which("flatc")
    if found is None:
        if os.environ.get("CI") == "true":
            pytest.fail(HOW)
        pytest.skip(HOW)
    return Flatc(found, tmp_path_factory.mktemp("flatc"))
