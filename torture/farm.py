"""Many small units of work in forked processes that may die: one by one, watched, with what each did counted.

A worker is a fork of this process, so that what was prepared here is there at once. It says in shared memory which unit
it is at. One that dies, or does not come back from a unit, is a finding of that unit; another goes on behind it.
"""

from __future__ import annotations

import contextlib
import faulthandler
import json
import mmap
import os
import resource
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

Unit = Callable[[int, Counter[str]], str | None]
"""Does a unit by its number and counts what it did; says what was wrong, or None."""

_SLOT = struct.Struct("<QQ")
FINDINGS_MAX = 20
"""Of one worker: after so many it ends."""


class Hang(BaseException):
    """Raised inside a unit that takes too long."""


@dataclass(slots=True)
class Harvest:
    """What came of the units."""

    done: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[tuple[int, str]] = field(default_factory=list)
    """Unit and what was wrong with it."""


def run(
    unit: Unit,
    numbers: range,
    *,
    jobs: int,
    folder: Path,
    progress: Callable[[int], None] = lambda _: None,
    cpu_s: float = 10.0,
    wall_s: float = 60.0,
    memory_bytes: int | None = None,
    begin: Callable[[int], None] = lambda _: None,
    findings_max: int = FINDINGS_MAX,
) -> Harvest:
    """Do every unit. One may take ``cpu_s`` seconds of its process's time (then ``Hang`` is raised in it) and ``wall_s``
    of everybody's (then it is killed), and its process ``memory_bytes`` more of address space than it began with.
    ``begin`` is called in each worker with its number.
    """
    jobs = max(1, min(jobs, len(numbers)))
    with mmap.mmap(-1, _SLOT.size * jobs) as slots:
        task = _Task(unit, begin, cpu_s, wall_s, memory_bytes, findings_max)
        workers = [
            _Worker(task, index, numbers[index::jobs], slots, folder / f"worker-{index}.jsonl") for index in range(jobs)
        ]
        try:
            for worker in workers:
                worker.start()
            while any(worker.pid for worker in workers):
                time.sleep(0.02)
                for worker in workers:
                    worker.look()
                progress(sum(worker.done for worker in workers))
        finally:
            for worker in workers:
                worker.kill()
        harvest = Harvest()
        for worker in workers:
            worker.collect(harvest)
    harvest.findings.sort()
    return harvest


@dataclass(frozen=True, slots=True)
class _Task:
    """What ``run`` was given for every worker."""

    unit: Unit
    begin: Callable[[int], None]
    cpu_s: float
    wall_s: float
    memory_bytes: int | None
    findings_max: int


class _Worker:
    """A process and its share of the units."""

    def __init__(self, task: _Task, index: int, numbers: range, slots: mmap.mmap, log: Path) -> None:
        self.task = task
        self.index = index
        self.numbers = numbers
        self.slots = slots
        self.log = log
        self.pid = 0
        self.done = 0
        self.deaths: list[tuple[int, str]] = []
        self._since = time.monotonic()

    def start(self) -> None:
        """Go on with the first unit that is not done."""
        at = self.done
        _SLOT.pack_into(self.slots, _SLOT.size * self.index, at, 0)
        self._since = time.monotonic()
        sys.stdout.flush()
        self.pid = os.fork()
        if not self.pid:
            self._work(at)

    def _work(self, at: int) -> NoReturn:
        code = 1
        task = self.task
        try:
            signal.signal(signal.SIGVTALRM, _hang)
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            faulthandler.disable()  # the signal and the unit are what is reported
            task.begin(self.index)
            if task.memory_bytes is not None:
                most = _address_space() + task.memory_bytes
                resource.setrlimit(resource.RLIMIT_AS, (most, most))
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            counts: Counter[str] = Counter()
            found = 0
            with self.log.open("a", encoding="utf-8") as log:
                for position in range(at, len(self.numbers)):
                    _SLOT.pack_into(self.slots, _SLOT.size * self.index, position, 1)
                    number = self.numbers[position]
                    wrong = _tried(task.unit, number, counts, task.cpu_s)
                    if wrong is not None:
                        log.write(json.dumps({"unit": number, "what": wrong}) + "\n")
                        log.flush()
                        found += 1
                        if found >= task.findings_max:
                            break
                log.write(json.dumps({"counts": counts}) + "\n")
            _SLOT.pack_into(self.slots, _SLOT.size * self.index, len(self.numbers), 0)
            code = 0
        except BaseException:  # noqa: BLE001 - the process ends here, whatever it is
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)

    def look(self) -> None:
        """See what it does; start another where it died."""
        if not self.pid:
            return
        position, _ = _SLOT.unpack_from(self.slots, _SLOT.size * self.index)
        if position != self.done:
            self.done = position
            self._since = time.monotonic()
        died, status = os.waitpid(self.pid, os.WNOHANG)
        if not died:
            if time.monotonic() - self._since > self.task.wall_s:
                os.kill(self.pid, signal.SIGKILL)
                os.waitpid(self.pid, 0)
                self._died(f"HANG: no end within {self.task.wall_s:.0f} s, killed")
                self._again()
            return
        self.pid = 0
        self.done, busy = _SLOT.unpack_from(self.slots, _SLOT.size * self.index)
        code = os.waitstatus_to_exitcode(status)
        if code > 0 or (code < 0 and not busy):
            raise RuntimeError(f"the harness itself failed in worker {self.index} (exit {code}); see above")
        if code < 0:
            self._died(f"CRASH: killed by {signal.Signals(-code).name}")
            self._again()

    def _died(self, how: str) -> None:
        self.deaths.append((self.numbers[self.done], how))
        self.done += 1

    def _again(self) -> None:
        self.pid = 0
        if self.done < len(self.numbers) and len(self.deaths) < self.task.findings_max:
            self.start()

    def kill(self) -> None:
        """End it: the run was broken off."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def collect(self, harvest: Harvest) -> None:
        """What it did and found. (Counts of a process that died are lost with it.)"""
        harvest.findings += self.deaths
        harvest.done += self.done
        for line in self._lines():
            if "counts" in line:
                harvest.counts.update(line["counts"])
            else:
                harvest.findings.append((line["unit"], line["what"]))

    def _lines(self) -> Iterator[dict[str, Any]]:
        if self.log.exists():
            for line in self.log.read_text(encoding="utf-8").splitlines():
                yield json.loads(line)


def _tried(unit: Unit, number: int, counts: Counter[str], cpu_s: float) -> str | None:
    """A unit under its watchdog; any exception is a finding."""
    signal.setitimer(signal.ITIMER_VIRTUAL, cpu_s, 1.0)
    try:
        return unit(number, counts)
    except Hang:
        return f"HANG: more than {cpu_s:.0f} s of processor time"
    except MemoryError:
        return "MEMORY: asked for more than was left"
    except Exception as error:  # noqa: BLE001 - whatever it is, it is what is looked for
        where = traceback.extract_tb(error.__traceback__)[-1]
        return f"{type(error).__name__}: {str(error)[:300]} ({Path(where.filename).name}:{where.lineno})"
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)


def _hang(_signal: int, _frame: Any) -> None:
    raise Hang


def _address_space() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    return pages * resource.getpagesize()
