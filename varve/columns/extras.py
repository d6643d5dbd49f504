"""The optional packages, imported when they are needed, with an error that says what to install."""

from __future__ import annotations

import importlib
from typing import Any

from varve.errors import MissingExtra


def need(package: str, extra: str, what: str) -> Any:
    """An optional package. Raises ``MissingExtra`` where it is not installed."""
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package.partition(".")[0]:
            raise  # it is there, and lacks something itself
        raise MissingExtra(
            f"{what} needs {package}, which is not installed: pip install 'varve-store[{extra}]'",
            extra=extra,
            package=package,
        ) from None


def need_numpy(what: str) -> Any:
    """The module numpy. Raises ``MissingExtra``."""
    return need("numpy", "columns", what)


def need_pyarrow(what: str) -> Any:
    """pyarrow, and numpy with it. Raises ``MissingExtra``."""
    need("numpy", "arrow", what)
    return need("pyarrow", "arrow", what)
