"""Those of a round who are not killed: they judge, wait and write on beside the dead."""

from __future__ import annotations

import asyncio
import contextlib
import faulthandler
import os
import signal
import struct
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import varve
from torture.children import ask, fork
from torture.judge import unsound
from torture.kills.ledger import Ledger, Row, Step, as_read
from torture.kills.page import Cell, Lane, Note

_ORDER: Final = struct.Struct("<q")
_PAUSE_S: Final = 0.001


class Stuck(RuntimeError):
    """A survivor does not go on."""


def wait_until(is_so: Any, patience_s: float) -> bool:
    """Whether something comes true in time."""
    until_s = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > until_s:
            return False
        time.sleep(_PAUSE_S / 2)
    return True


def where(pid: int) -> str:
    """Where a process is: its Python stack, if it is one of the survivors (to stderr), and the system call that it is in."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGUSR1)
    time.sleep(0.2)
    said = []
    for task in sorted(Path(f"/proc/{pid}/task").glob("*")):
        try:
            said.append(f"{task.name} {(task / 'wchan').read_text()} {(task / 'syscall').read_text().split()[:3]}")
        except OSError as exc:
            said.append(str(exc))
    return ", ".join(said) or "is gone"


def _show_where_asked() -> None:
    """Let ``where`` see this process's stack."""
    faulthandler.register(signal.SIGUSR1, all_threads=True)


# -- the keeper --------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Question:
    """What the keeper is asked after a strike."""

    lanes: list[Lane]
    """Of those who died."""
    living: list[Lane]
    dead: list[int]
    """Processes whose reader slots must be gone."""


class Keeper:
    """A process that holds the store open through a round: after each strike it reads what is new, and appends."""

    def __init__(self, store: Path, lane: Lane, answers: Cell, note: Note) -> None:
        self._store = store
        self._lane = lane
        self.answers = answers
        self._note = note
        self.questions: list[Question] = []
        reading, self._writing = os.pipe()
        self.pid = fork(lambda: self._serve(reading))
        os.close(reading)

    # The order pipe carries no lanes: numbers of lanes and processes only.

    def ask(self, question: Question, patience_s: float) -> int:
        """Let it judge and append; the sequence behind its event. Raises ``Stuck``."""
        before = self._lane.acked  # before it can answer
        numbers = [lane.number for lane in question.lanes]
        living = [lane.number for lane in question.living]
        for group in (numbers, living, question.dead):
            os.write(self._writing, _ORDER.pack(len(group)) + b"".join(map(_ORDER.pack, group)))
        if not wait_until(lambda: self._lane.acked > before or self._note.text, patience_s):
            raise Stuck("a surviving writer cannot append any more")
        return self._lane.position + 1

    @property
    def found(self) -> str:
        """What it found that must not be."""
        return self._note.text

    def close(self) -> None:
        """Let it end."""
        os.close(self._writing)

    def _serve(self, reading: int) -> None:
        os.close(self._writing)
        _show_where_asked()
        ledger = Ledger()
        with varve.open(self._store, durability="full") as db:
            db.stream("steps", Step)
            rows = db.stream("rows", Row)
            while True:
                groups = [_read_group(reading) for _ in range(3)]
                if None in groups:
                    return
                dead, living, pids = (group or [] for group in groups)
                problems = self._judge(db, ledger, dead, living, set(pids))
                if problems:
                    self._note.write("; ".join(problems[:5]))
                    return
                number = self._lane.attempt()
                self._lane.ack(rows.append("keeper", Row(self._lane.number, number, 0, 1, "")).global_sequence)

    def _judge(self, db: varve.Varve, ledger: Ledger, dead: list[int], living: list[int], pids: set[int]) -> list[str]:
        acked = {number: self._lane.sibling(number).acked for number in living}
        # Twice: what a replay and what a follower give must be the same.
        begun = ledger.next
        ledger.feed(as_read(recorded) for recorded in db.global_reader().iter_from(begun))
        followed = begun
        if ledger.next > begun:
            for recorded in db.follow(begun, timeout_s=0):
                if recorded.global_sequence != followed:
                    ledger.problems.append(f"a follower is given {recorded.global_sequence} where {followed} belongs")
                followed += 1
                if followed == ledger.next:
                    break
            if followed != ledger.next:
                ledger.problems.append(f"a follower ends at {followed}, the log at {ledger.next}")
        for number in dead:
            ledger.settle(self._lane.sibling(number))
        for number in living:
            lane = self._lane.sibling(number)
            ledger.settle(lane, acked=acked[number])
        ledger.settle(self._lane)
        slots = pids & {pid for pid, _ in db._engine.environment.readers()}  # noqa: SLF001 - stats() gives their number only
        if slots:
            ledger.problems.append(f"reader slots of dead processes are still there: {sorted(slots)}")
        return ledger.problems


def _read_group(reading: int) -> list[int] | None:
    count = os.read(reading, _ORDER.size)
    if len(count) < _ORDER.size:
        return None
    wanted = _ORDER.unpack(count)[0] * _ORDER.size
    data = b""
    while len(data) < wanted:
        data += os.read(reading, wanted - len(data))
    return [number for (number,) in _ORDER.iter_unpack(data)]


# -- the sentinel ------------------------------------------------------------------------------------------------------------


class Sentinel:
    """A process that waits for commits: a thread, a task, a tail. It writes down how far each of them was told."""

    def __init__(self, store: Path, marks: list[Cell], note: Note, *, deaf: bool = False) -> None:
        self._store = store
        self._marks = marks
        self._note = note
        self._deaf = deaf
        self.pid = fork(self._wait)

    def is_told(self, sequence: int, patience_s: float) -> bool:
        """Whether all of them hear of a commit in time."""
        return wait_until(lambda: self._note.text or all(mark.value >= sequence for mark in self._marks), patience_s)

    @property
    def found(self) -> str:
        """What it found that must not be."""
        return self._note.text

    def _wait(self) -> None:
        _show_where_asked()
        if self._deaf:
            _go_deaf()
        db = varve.open(self._store, readonly=True)
        by_thread, by_task, by_tail = self._marks
        watcher = db.watcher()
        start = db.next_global_sequence

        def wait_thread() -> None:
            at = start
            while True:
                at = watcher.wait(at)
                by_thread.value = at

        async def wait_task() -> None:
            at = start
            while True:
                at = await watcher.wait_for_global_seq(at)
                by_task.value = at

        async def tail() -> None:
            at = start
            async for recorded in db.tail(start):
                if recorded.global_sequence != at:
                    self._note.write(f"a tail is given {recorded.global_sequence} where {at} belongs")
                at += 1
                by_tail.value = at

        async def run() -> None:
            await asyncio.gather(wait_task(), tail())

        threading.Thread(target=wait_thread, daemon=True).start()
        asyncio.run(run())


def _go_deaf() -> None:
    """For a control: nobody looks, nobody listens."""
    from varve.tailing.hub import Hub

    Hub._look = lambda self, seen: seen  # type: ignore[method-assign]  # noqa: SLF001, ARG005


# -- the companion -----------------------------------------------------------------------------------------------------------


def companion(store: Path, lane: Lane, stop: Cell, note: Note) -> int:
    """A writer that goes on through the whole round, in the victims' way; its process id."""

    def write() -> None:
        _show_where_asked()
        try:
            with varve.open(store) as db:
                rows = db.stream("rows", Row)
                while not stop.value:
                    number = lane.attempt()
                    if number % 3:
                        position = rows.append("companion", Row(lane.number, number, 0, 1, "..."))
                    else:
                        position = rows.append_many(
                            [(part, Row(lane.number, number, part, 4, "...")) for part in range(4)]
                        )[0]
                    lane.ack(position.global_sequence)
                    time.sleep(_PAUSE_S)
        except BaseException as exc:
            note.write(f"the companion: {type(exc).__name__}: {exc}")
            raise

    return fork(write)


# -- the end -----------------------------------------------------------------------------------------------------------------


def judge_all(store: Path, lanes: list[Lane], patience_s: float) -> list[str]:
    """What a fresh process finds in a store that nobody has open."""

    def judge() -> list[str]:
        problems = []
        with varve.open(store) as db:  # what was never finished being created is finished here
            db.stream("steps", Step)
            rows = db.stream("rows", Row)
            ledger = Ledger()
            ledger.feed(as_read(recorded) for recorded in db.global_reader().iter_from())
            for lane in lanes:
                ledger.settle(lane)
            problems += ledger.problems
            rows.append("after", Row(2**32 - 1, 0, 0, 1, ""))
            if db.next_global_sequence != ledger.next + 1:
                problems.append("a store that was opened again gives wrong positions")
        return problems + [f"unsound: {line}" for line in unsound(store)]

    ended = ask(judge, patience_s)
    if ended.error:
        return [f"{store.name} cannot be judged: {ended.error}"]
    found: list[str] = ended.value
    return found
