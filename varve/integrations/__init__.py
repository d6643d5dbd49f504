"""What a store tells the tools that watch programs: ``varve.integrations.prometheus`` and ``varve.integrations.opentelemetry``.

Each needs its extra when it is used, and is imported when it is named.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from varve.integrations import opentelemetry, prometheus

__all__ = ["opentelemetry", "prometheus"]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        """One of the integrations, at its first use."""
        if name not in __all__:
            raise AttributeError(f"module 'varve.integrations' has no attribute {name!r}")
        return import_module(f"varve.integrations.{name}")
