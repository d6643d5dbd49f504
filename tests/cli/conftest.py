"""Makes ``command_line`` importable under ``--import-mode=importlib``, and gives its fixtures."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from command_line import Inside


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Inside:
    """Commands inside of this process, in an empty folder: for what needs no process of its own."""
    monkeypatch.chdir(tmp_path)
    return Inside(capsys, monkeypatch)
