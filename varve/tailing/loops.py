"""The event loop that is running, found without importing asyncio before somebody uses it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from collections.abc import Callable

_found: Callable[[], AbstractEventLoop] | None = None


def running_loop() -> AbstractEventLoop:
    """The running event loop of this thread. Raises RuntimeError where none is running."""
    global _found  # noqa: PLW0603
    if _found is None:
        from asyncio import get_running_loop

        _found = get_running_loop
    return _found()
