"""What the rack takes for sound: the same judgement that users get."""

from __future__ import annotations

from pathlib import Path

from varve import ops


def unsound(path: Path) -> list[str]:
    """What is wrong with a store that is not open in this process, a line for each; empty where it is sound.

    The file is read, never mapped: whatever is in it, the caller lives.
    """
    return [str(finding) for finding in ops.verify(path).findings]
