"""Type variables that the public classes share."""

from __future__ import annotations

from typing import Any

from typing_extensions import TypeVar

E = TypeVar("E", default=Any)
"""An event class, or a union of event classes."""
