"""What was measured, and on what: stored beside every result."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.metadata
import os
import platform
import sqlite3
import subprocess
import sys
from functools import cache
from pathlib import Path

import lmdb

ROOT = Path(__file__).parents[1]

# Distributions whose versions matter, where they are installed.
_PACKAGES = (
    "flatbuffers", "lmdb", "numpy", "pyarrow", "msgspec", "eventsourcing", "py-event-sourcing", "rocksdict", "umadb",
)  # fmt: skip


def file_system(folder: str) -> str:
    """The kind of file system that a folder is on, by the longest mount point above it; empty where unknown."""
    kind, longest = "", -1
    path = Path(folder).resolve()
    with contextlib.suppress(OSError), Path("/proc/self/mounts").open(encoding="utf-8") as mounts:
        for mount in mounts:
            _, point, found, *_ = mount.split(" ")
            if path.is_relative_to(point) and len(point) >= longest:
                kind, longest = found, len(point)
    return kind


def about(folder: Path) -> dict[str, str]:
    """Machine, versions and commit; ``folder`` is where stores are written."""
    return {
        "processor": _processor(),
        "cores": str(os.cpu_count()),
        "memory": _memory(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "file system": file_system(str(folder)),
        "python": f"{platform.python_implementation()} {sys.version.split()[0]}",
        "liblmdb": ".".join(map(str, lmdb.version())),
        "sqlite": sqlite3.sqlite_version,
        "commit": commit(),
        **{name: version for name in _PACKAGES if (version := _version(name))},
    }


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _memory() -> str:
    try:
        return f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB"
    except (OSError, ValueError):
        return ""


@cache
def commit() -> str:
    """The commit of this checkout, with a plus where the library differs from it; empty outside of one."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", "-C", str(ROOT), *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip()

    try:
        head = git("rev-parse", "--short=12", "HEAD")
        return head + "+" if head and git("status", "--porcelain", "--", "varve") else head
    except OSError:
        return ""


@cache
def source_digest(*extra: Path) -> str:
    """A digest of the library's source, and of some files more: what is measured is new when it changes."""
    digest = hashlib.sha256()
    for path in [*sorted((ROOT / "varve").rglob("*.py")), *extra]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def load() -> float:
    """How many processes wanted a core during the last minute; 0 where that cannot be told."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return 0.0
