"""Where images are laid out."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def scratch(folder: Path) -> Iterator[Path]:
    """An empty folder in memory, where there is one: what a disk does is simulated, a real one would only be slow."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="varve-powercut-", dir=memory if memory.is_dir() else folder) as name:
        yield Path(name)
