"""What ``import varve`` costs a program that starts."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

from benches.goals import GOALS, Goal
from benches.lines import Line, cost_line
from benches.pairs import Side, compare
from benches.workspace import Workspace


def importing(work: Workspace) -> Iterator[Line]:
    """A whole interpreter, started for an import and ended."""
    rounds = max(work.size.rounds, work.size.short_rounds // 2)
    pair = compare(_start("import varve"), _start("import lmdb"), rounds=rounds)
    what = 'python -c "import varve" against python -c "import lmdb"'
    yield cost_line("open/importing", what, "none", GOALS["import"], pair, events=1)
    pair = compare(_start("import varve"), _start("pass"), rounds=rounds)
    yield cost_line("open/importing", 'the same against python -c "pass"', "none", Goal(), pair, events=1)


def _start(code: str) -> Side:
    # As a user's interpreter does: compiled once, and not by each run.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}

    def run(_: Any) -> int:
        return subprocess.run([sys.executable, "-c", code], check=True, env=environment).returncode

    return Side(code, run, lambda _, code: code)


CASES = {"open/importing": importing}
