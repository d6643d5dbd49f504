"""Which cases there are: every module of a group's folder that has ``CASES``."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import benches
from benches.lines import Line
from benches.workspace import Workspace

GROUPS = ("codec", "append", "read", "replay", "tail", "derived", "columns", "open", "compare")
"""The groups, in the order in which they are run and shown."""


@dataclass(frozen=True, slots=True)
class Case:
    """One case: what it is called, where it stands, and what gives its lines."""

    name: str
    group: str
    source: Path
    run: Callable[[Workspace], Iterator[Line]]


@cache
def cases() -> dict[str, Case]:
    """Every case by its name. Rivals are imported inside of cases only, so this needs none of them."""
    found: dict[str, Case] = {}
    for group in GROUPS:
        folder = Path(benches.__file__).parent / group
        for module in sorted(info.name for info in pkgutil.iter_modules([str(folder)])):
            _collect(found, group, f"benches.{group}.{module}")
    return found


def _collect(found: dict[str, Case], group: str, module_name: str) -> None:
    module = importlib.import_module(module_name)
    for name, run in getattr(module, "CASES", {}).items():
        if name in found:
            raise ValueError(f"two cases are called {name}: in {found[name].source} and in {module.__file__}")
        found[name] = Case(name, group, Path(str(module.__file__)), run)


def chosen(parts: list[str]) -> list[Case]:
    """A case's whole name means that case, a group's name its cases; anything else, every case that has it in its name."""
    known = cases()
    return [
        case
        for case in known.values()
        if any(
            part in {case.name, case.group} or (part not in known and part not in GROUPS and part in case.name)
            for part in parts
        )
    ]
