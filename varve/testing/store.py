"""A temporary store, checked when it is done."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from varve.opening import open as open_store
from varve.ops import verify
from varve.store import Varve


def assert_sound(path: str | os.PathLike[str]) -> None:
    """Raise ``AssertionError`` with every finding unless the store (not open in this process) is sound."""
    report = verify(path)
    if not report.sound:
        raise AssertionError(f"the store at {os.fspath(path)} is not sound:\n" + "\n".join(map(str, report.findings)))


@contextlib.contextmanager
def temporary_store(*, clock: Callable[[], int] | None = None, **options: Any) -> Iterator[Varve]:
    """A store in a temporary folder: open inside the block, checked and removed after it.

    ``clock`` and ``options`` go to ``varve.open``. Raises ``AssertionError`` after the block where the store is not
    sound.
    """
    with tempfile.TemporaryDirectory(prefix="varve-") as folder:
        path = Path(folder) / "store"
        if clock is not None:
            options["clock"] = clock
        with open_store(path, **options) as db:
            yield db
        assert_sound(path)
