"""Opening a file that cannot be trusted: a process of its own verifies it first.

LMDB follows what its file says, into an assertion or a fault that would take the process down. Verification reads the file and
maps nothing, so it should not die of anything; if it does all the same, or needs all the memory there is, it is not this process.
"""

from __future__ import annotations

import json
import os
import secrets
import stat
import sys
from typing import Any

from varve import errors
from varve.engine import files
from varve.errors import CorruptedStore, StoreUnavailable, VarveError

# The examiner stands in ``varve.ops``, above this room: it is named here and imported there.
_EXAMINER = """
import json, os, sys, threading
threading.Thread(target=lambda: (os.read(int(sys.argv[1]), 1), os._exit(1)), daemon=True).start()
asked = json.load(sys.stdin)
sys.path[:] = asked["sys_path"]
from varve.ops.verify import examined
print("\\n" + asked["mark"] + json.dumps(examined(asked["path"])))
"""


def examine(path: str) -> None:
    """Verify a store in another process. Raises ``CorruptedStore`` with what was found, and whatever verification raises; says
    nothing of a store that does not exist."""
    path = os.path.abspath(path)
    try:
        status = os.stat(os.path.join(path, files.DATA))
        if stat.S_ISREG(status.st_mode) and not status.st_size:
            return
    except FileNotFoundError:
        return
    except OSError as exc:
        raise files.unavailable(path, exc) from exc
    mark = secrets.token_hex(16)  # whatever else is printed when a Python starts, on this machine
    sys_path = [entry for entry in sys.path if isinstance(entry, str)]
    code, out, err = _run(json.dumps({"path": path, "sys_path": sys_path, "mark": mark}))
    found = out.partition(mark)[2]
    answer: dict[str, Any] = json.loads(found) if found else {}
    if "error" in answer:
        raise _error(answer["error"])
    if "findings" not in answer:
        last = (err.strip().splitlines()[-1:] or [f"exit code {code}"])[0]
        if code < 0 or "MemoryError" in last:
            raise CorruptedStore(f"{path} could not be examined: the process that did so ended with {last}", path=path)
        raise StoreUnavailable(
            f"{path} could not be examined: {sys.executable} did not do it ({last}). Call varve.ops.verify on the store first, "
            "and open it if that finds nothing",
            path=path,
        )
    findings = tuple(answer["findings"])
    if findings:
        raise CorruptedStore(
            f"{path} is damaged: {findings[0]}"
            + (f" (and {len(findings) - 1} more)" if len(findings) > 1 else "")
            + ". Restore a backup, or save what can be read with varve.ops.repair(..., salvage=True)",
            path=path,
            findings=findings,
        )


def _run(question: str) -> tuple[int, str, str]:
    """Ask a fresh Python; exit code, answer and what it complained of. It ends with this process, however that ends: it watches a
    pipe, which the system closes at our end then."""
    import subprocess  # not what opening a store usually costs

    if not sys.executable or getattr(sys, "frozen", False):
        raise StoreUnavailable(
            "trust=False starts a Python process, and this program does not say where its Python is (sys.executable): call "
            "varve.ops.verify on the store first, and open it if that finds nothing"
        )
    # Isolated: nothing is imported from the folder that the program happens to be in.
    command = [sys.executable, "-I", "-c", _EXAMINER]
    pipe: tuple[int, ...] = ()
    try:
        pipe = os.pipe()
        command.append(str(pipe[0]))
        done = subprocess.run(  # noqa: S603 - fixed
            command, input=question, capture_output=True, text=True, check=False, pass_fds=pipe[:1]
        )
    except OSError as exc:
        raise StoreUnavailable(f"trust=False cannot start {sys.executable}: {exc.strerror}") from exc
    finally:
        for fd in pipe:
            os.close(fd)
    return done.returncode, done.stdout, done.stderr


def _error(told: dict[str, Any]) -> VarveError:
    """The error that the other process met, as one of this one's."""
    found = getattr(errors, told["class"], None)
    if not isinstance(found, type) or not issubclass(found, VarveError):
        return StoreUnavailable(told["message"])
    return found(told["message"], **told["facts"])
