"""The logger ``varve``: what operators may want to read, never an event's content.

Levels: *debug* for what is normal (a store opened, a helper thread begun), *info* for what Varve has put right, *warning* for
what will hurt, *error* for what has failed. docs/observability.md lists the messages.

Imported with the engine, so that ``import varve`` stays without it.
"""

from __future__ import annotations

import contextlib
import logging
from logging import DEBUG, ERROR, INFO, WARNING

__all__ = ["DEBUG", "ERROR", "INFO", "WARNING", "logger", "say"]

logger = logging.getLogger("varve")
logger.addHandler(logging.NullHandler())


def say(level: int, message: str, *args: object, failure: BaseException | None = None) -> None:
    """Log a message, and the error that caused it with its traceback. Never raises: a handler that fails is no reason for a
    commit to fail."""
    if logger.isEnabledFor(level):
        with contextlib.suppress(Exception):
            logger.log(level, message, *args, exc_info=failure, stacklevel=2)
