"""What the rack takes for sound: the same judgement that users get."""

from __future__ import annotations

from pathlib import Path

from varve import ops


def unsound(path: Path) -> list[str]:
    """What is wrong with a store that is not open in this process, a line for each; empty where it is sound.

    It reads through LMDB's memory map: judge damaged files in a process that may die.
    """
    return [str(finding) for finding in ops.check(path).findings]
