"""What the type checkers must accept (``accepted.py``), and what they must refuse (``refused.py``)."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


def run(*arguments: str) -> None:
    finished = subprocess.run([sys.executable, "-m", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stdout + finished.stderr


@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy comes with the extra `lint`")
def test_mypy_infers_the_types_of_user_code(tmp_path: Path) -> None:
    """Under mypy --strict every event, position and record has its own type, and a wrong event is an error."""
    run("mypy", "--cache-dir", str(tmp_path), "tests/typing/accepted.py", "tests/typing/refused.py")


@pytest.mark.skipif(importlib.util.find_spec("pyright") is None, reason="pyright comes with the extra `lint`")
def test_pyright_infers_the_types_of_user_code() -> None:
    """The same under pyright strict, which checks every class and call of its own accord."""
    run("pyright", "--pythonpath", sys.executable, "tests/typing")
