"""``python -m benches``: run cases, keep what they give, and print how they stand to the goals."""

from __future__ import annotations

import argparse
import contextlib
import gc
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from benches import machine, results
from benches.lines import Line, table
from benches.registry import GROUPS, Case, cases, chosen
from benches.results import Outcome
from benches.workspace import SIZES, Workspace, disk_folder, workspace

TIME_LIMIT_S = 3 * 3600
"""Nothing waits longer for a case."""
WAIT_STEP_S = 10.0
WAIT_STEPS_MAX = 360


def main(arguments: list[str] | None = None) -> int:
    """Run what was asked for. 0 when every case ran, 1 when one failed, 2 when no case has that name."""
    options = _options(arguments)
    wanted = chosen(options.only or list(GROUPS))
    if options.list or not wanted:
        print("\n".join(cases()))
        return 0 if options.list else 2
    size = "tiny" if options.tiny else "quick" if options.quick else "full"
    kept = Path(options.results) if options.results else results.HERE / size
    if options.child:
        with _work(options.folder, size, options.rounds) as work:
            _one(wanted[0], work, kept, options.rounds)
        return 0
    failed = []
    with _folder(options.folder) as folder:
        for case in wanted:
            outcome = None if options.again else _known(case, kept, options.rounds)
            print(f"{case.name} ... {'known' if outcome else ''}", file=sys.stderr, flush=True)
            if outcome is not None:
                continue
            if options.wait_load is not None:
                _wait(options.wait_load)
            if not _run_child(case, folder, size, kept, options):
                failed.append(case.name)
    lines = [line for case in wanted if (done := results.load(kept, case.name)) for line in done.lines]
    print(table(lines))
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benches", description="Measure Varve against bare LMDB and its peers."
    )
    parser.add_argument("--quick", action="store_true", help="small sizes")
    parser.add_argument("--tiny", action="store_true", help="sizes at which the figures mean nothing: does it run?")
    parser.add_argument(
        "--only",
        metavar="NAME",
        action="append",
        help="the case or the group NAME, or every case whose name contains it; may be repeated",
    )
    parser.add_argument("--rounds", type=int, help="rounds of the long comparisons")
    parser.add_argument("--again", action="store_true", help="measure also what is known of this source already")
    parser.add_argument("--results", metavar="FOLDER", help="where results are kept (benches/results/SIZE)")
    parser.add_argument(
        "--folder",
        metavar="FOLDER",
        help="where stores are written, on a disk; those that several cases read are kept there for the next run",
    )
    parser.add_argument(
        "--wait-load",
        metavar="LOAD",
        type=float,
        help="before each case, wait until the machine's load average is not above LOAD, an hour at most",
    )
    parser.add_argument("--limit-s", type=float, default=TIME_LIMIT_S, help="seconds after which a case is ended")
    parser.add_argument("--list", action="store_true", help="name the cases and stop")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


@contextlib.contextmanager
def _folder(given: str | None) -> Iterator[Path]:
    if given is not None:
        Path(given).mkdir(parents=True, exist_ok=True)
        yield Path(given)
        return
    with tempfile.TemporaryDirectory(prefix="varve-bench-", dir=disk_folder()) as made:
        yield Path(made)


@contextlib.contextmanager
def _work(folder: str, size: str, rounds: int | None) -> Iterator[Workspace]:
    sizes = SIZES[size] if rounds is None else replace(SIZES[size], rounds=rounds)
    yield Workspace(Path(folder), sizes)


def _run_child(case: Case, folder: Path, size: str, kept: Path, options: argparse.Namespace) -> bool:
    """A process for each case: none inherits another's memory, garbage or caches, and a crash ends one case only."""
    command = [sys.executable, "-m", "benches", "--child", "--only", case.name]
    command += ["--folder", str(folder), "--results", str(kept)]
    command += [] if size == "full" else [f"--{size}"]
    command += [] if options.rounds is None else ["--rounds", str(options.rounds)]
    # A group of its own, so that servers which a case has started end with it.
    child = subprocess.Popen(command, cwd=machine.ROOT, start_new_session=True)
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that it ends with us
    try:
        return child.wait(options.limit_s) == 0
    except subprocess.TimeoutExpired:
        print(f"{case.name} was ended after {options.limit_s:g} s", file=sys.stderr)
        return False
    finally:
        signal.signal(signal.SIGTERM, before)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for left in folder.glob("round-*"):
            shutil.rmtree(left, ignore_errors=True)


def _wait(load: float) -> None:
    """Until the machine is quiet enough, or an hour has gone by: what was measured then says how busy it was."""
    for _ in range(WAIT_STEPS_MAX):
        if machine.load() <= load:
            return
        time.sleep(WAIT_STEP_S)


def _identity(case: Case, rounds: int | None) -> str:
    return machine.source_digest(case.source) + (f" rounds={rounds}" if rounds is not None else "")


def _known(case: Case, kept: Path, rounds: int | None) -> Outcome | None:
    outcome = results.load(kept, case.name)
    return outcome if outcome is not None and outcome.about.get("source") == _identity(case, rounds) else None


def _one(case: Case, work: Workspace, kept: Path, rounds: int | None) -> None:
    before, began = machine.load(), time.time()
    lines = tuple(_shown(case.run(work)))
    about: dict[str, Any] = {
        "size": work.size.name,
        "when": time.strftime("%Y-%m-%d %H:%M", time.gmtime(began)),
        "seconds": round(time.time() - began, 1),
        "load": [before, machine.load()],
        "source": _identity(case, rounds),
        **machine.about(work.folder),
    }
    results.save(kept, Outcome(case.name, case.group, about, lines))


def _shown(lines: Iterator[Line]) -> Iterator[Line]:
    for line in lines:
        print(table([line]).splitlines()[-1], file=sys.stderr, flush=True)
        yield line


def measure(names: list[str], size: str, *, folder: Path | None = None) -> list[Line]:
    """The lines of some cases, run in this process and kept nowhere."""
    lines: list[Line] = []
    with workspace(SIZES[size], folder) as work:
        for name in names:
            lines += cases()[name].run(work)
            gc.collect()
    return lines


if __name__ == "__main__":
    sys.exit(main())
