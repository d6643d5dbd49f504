"""What is needed of the event loop that is running, without importing asyncio before somebody uses it."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable, Generator

_found: Callable[[], AbstractEventLoop] | None = None


def running_loop() -> AbstractEventLoop:
    """The running event loop of this thread. Raises RuntimeError where none is running."""
    global _found  # noqa: PLW0603
    if _found is None:
        from asyncio import get_running_loop

        _found = get_running_loop
    return _found()


@types.coroutine
def others() -> Generator[None, None, None]:
    """Let the other tasks of the loop run: what ``asyncio.sleep(0)`` does."""
    yield
