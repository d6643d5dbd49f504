"""Libraries that stand between Varve and the kernel, for the rack only: C sources beside this file, built on first use.

Varve itself has no compiled code. The rack needs to see and to spoil system calls in their order, which the dynamic
linker allows (``LD_PRELOAD``) without slowing them down as a tracer would.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

_HERE = Path(__file__).parent


class NoCompiler(RuntimeError):
    """There is no C compiler."""


def library(name: str) -> Path:
    """The shared library of ``torture/preload/NAME.c``, built if need be. Raises ``NoCompiler``."""
    source = _HERE / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    folder = Path(tempfile.gettempdir()) / f"varve-torture-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    built = folder / f"{name}-{digest}.so"
    if not built.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise NoCompiler("the torture rack needs a C compiler: install gcc (Debian: apt-get install gcc libc6-dev)")
        unfinished = built.with_suffix(f".{os.getpid()}")
        subprocess.run(
            [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", unfinished, source, "-ldl"],
            check=True,
        )
        unfinished.replace(built)
    return built
