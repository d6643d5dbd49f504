"""One unit: a workload in a child whose calls are spoiled, then the truth as a fresh process reads it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import varve
from torture.calls.faults import Fault
from torture.calls.workloads import (
    ACKNOWLEDGED,
    FATAL,
    FROM_NOTHING,
    STORE,
    TARGET,
    WORKLOADS,
    Attempt,
    Mark,
    Told,
    Work,
)
from torture.children import ask, fork
from torture.judge import unsound
from torture.preload.fail import Action, Spoiler

OLD: Final = 1_000_000
"""Commits from here on stand in the store before a workload begins."""
_OLD_COMMITS: Final = 6
_OLD_EVENTS: Final = 40
_BESIDE: Final = 900_000
"""Commits of another process."""
_UNORDERED: Final = ("threads", "group", "beside")
_UNSYNCED: Final = ("bulk", "bulk_with")
_FOREIGN: Final = ("rebuild",)
"""What may raise the operating system's own errors: it works on a store that is not open, and promises no handle."""
HANG_S: Final = 60.0

Plant = Callable[[], None]
"""What a control does to the child before its workload begins."""


@dataclass(slots=True)
class Result:
    """What a unit came to."""

    problems: list[str] = field(default_factory=list)
    told: Told = field(default_factory=Told)

    @property
    def reached(self) -> bool:
        """Whether a call was spoiled."""
        return self.told.hits > 0


@dataclass(frozen=True, slots=True)
class Seen:
    """An event as it was read after all."""

    commit: int
    part: int
    of: int
    global_sequence: int
    commit_sequence: int


def make_template(folder: Path) -> None:
    """A store with a few commits."""

    def make() -> None:
        with varve.open(folder / STORE, durability="relaxed") as db:
            marks = db.stream("marks", Mark)
            for number in range(OLD, OLD + _OLD_COMMITS):
                marks.append_batch(number % 3, [Mark(number, part, _OLD_EVENTS, "old") for part in range(_OLD_EVENTS)])

    ended = ask(make)
    if ended.error:
        raise RuntimeError(f"no template could be made: {ended.error}")


def run_unit(
    fault: Fault | None,
    workload: str,
    template: Path,
    folder: Path,
    seed: int,
    plant: Plant | None = None,
    patience_s: float = HANG_S,
) -> Result:
    """Do it, in a folder that is made and removed again. Without a fault the calls are counted only."""
    result = Result()
    folder.mkdir()
    try:
        if workload not in FROM_NOTHING:
            shutil.copytree(template / STORE, folder / STORE, ignore=shutil.ignore_patterns("lock.mdb"))
        others: list[Attempt] = []
        with _company(workload, folder / STORE, others):
            ended = ask(lambda: _work(fault, workload, folder, seed, plant), patience_s)
        if ended.error:
            result.problems.append(f"the process that works {'hangs' if ended.hung else 'fails'}: {ended.error}")
            return result
        result.told = ended.value
        result.told.attempts += others
        result.problems += judge_told(result.told, fault)
        judged = ask(lambda: _judge(folder, result.told, workload), HANG_S)
        result.problems += judged.value or []
        if judged.error:
            result.problems.append(f"opened again, the store cannot be judged: {judged.error}")
        return result
    finally:
        shutil.rmtree(folder)


@contextlib.contextmanager
def _neighbour(store: Path) -> Iterator[None]:
    """The socket of another process that watches: this one."""
    watch = store / "watch"
    watch.mkdir(mode=0o700)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bound:
        here = os.open(watch, os.O_RDONLY)
        try:
            bound.bind(f"/proc/self/fd/{here}/1-neighbour")
        finally:
            os.close(here)
        yield


@contextlib.contextmanager
def _beside(store: Path, attempts: list[Attempt]) -> Iterator[None]:
    """Another process that has the store open all the while: it appends before, and goes on afterwards."""
    go, wait = os.pipe(), os.pipe()

    def live() -> None:
        os.close(go[1])
        with varve.open(store) as db:
            marks = db.stream("marks", Mark)
            marks.append(4, Mark(_BESIDE, 0, 1, "beside"))
            os.write(wait[1], b"1")
            os.read(go[0], 1)
            for number in (_BESIDE + 1, _BESIDE + 2):
                marks.append_batch(4, [Mark(number, part, 30, "beside") for part in range(30)])
                os.write(wait[1], b"1")

    pid = fork(live)
    os.close(go[0])
    os.close(wait[1])
    try:
        _take(wait[0], 1)
        yield
    finally:
        os.write(go[1], b"1")
        acked = 1 + _take(wait[0], 2)
        if acked < 3:
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(go[1])
        os.close(wait[0])
    attempts += [Attempt(_BESIDE + number, "append beside", ACKNOWLEDGED) for number in range(acked)]
    if acked < 3:
        attempts.append(Attempt(-1, "go on beside a process that failed", "stuck", "it cannot append", is_ours=False))


def _take(pipe: int, count: int) -> int:
    """So many bytes of a pipe, or fewer where they do not come."""
    taken = 0
    while taken < count and select.select([pipe], [], [], HANG_S)[0]:
        piece = os.read(pipe, count - taken)
        if not piece:
            break
        taken += len(piece)
    return taken


def _company(workload: str, store: Path, attempts: list[Attempt]) -> contextlib.AbstractContextManager[None]:
    if workload == "watch":
        return _neighbour(store)
    return _beside(store, attempts) if workload == "beside" else contextlib.nullcontext()


def _work(fault: Fault | None, workload: str, folder: Path, seed: int, plant: Plant | None) -> Told:
    spoiler = Spoiler()

    def arm() -> None:
        if fault is None:
            spoiler.arm(folder)
        else:
            spoiler.arm(
                folder,
                kinds=(fault.kind,),
                nth=fault.nth,
                action=fault.how,
                error=fault.error,
                later=fault.later,
                times=fault.times,
            )

    work = Work(folder, spoiler, arm, seed)
    if plant is not None:
        plant()
    WORKLOADS[workload](work)
    spoiler.disarm()
    told = work.told
    told.hits = spoiler.hits
    calls = spoiler.calls()
    told.calls = [(call.kind, call.file) for call in calls]
    told.spoiled = next((f"{call.kind} {call.file}" for call in calls if call.spoiled), "")
    return told


# -- what was told ---------------------------------------------------------------------------------------------------------


def judge_told(told: Told, fault: Fault | None) -> list[str]:
    """Whether what the workload met is what it was promised."""
    problems = list(told.trouble)
    failed_for_good = ""
    for attempt in told.attempts:
        what = f"{attempt.what}{'' if attempt.number < 0 else f' {attempt.number}'}"
        if not attempt.is_ours and attempt.what not in _FOREIGN:
            problems.append(f"{what} raised a foreign error: {attempt.error}")
        elif attempt.outcome != ACKNOWLEDGED:
            if attempt.what in _FOREIGN and fault is not None:
                continue
            if fault is None:
                problems.append(f"{what} failed although nothing was spoiled: {attempt.error}")
            elif attempt.outcome not in _fitting(fault):
                problems.append(f"{what} raised what does not fit the fault: {attempt.error}")
        elif attempt.number >= 0 and not attempt.synced and _must_sync(attempt, fault):
            problems.append(f"{what} was acknowledged and nothing was synced")
        if failed_for_good and attempt.number >= 0 and attempt.outcome == ACKNOWLEDGED and attempt.what == "append":
            problems.append(f"{what} was acknowledged although the handle had failed with {failed_for_good}")
        if attempt.number >= 0 and attempt.outcome in FATAL:
            failed_for_good = attempt.outcome
    return problems


def _must_sync(attempt: Attempt, fault: Fault | None) -> bool:
    group = attempt.what in {"append of a thread", "append_async", "append before", "append after", "append beside"}
    return not group and (fault is None or fault.workload not in _UNSYNCED) and not attempt.what.startswith("bulk")


_UNAVAILABLE: Final = {"store_failed", "commit_outcome_unknown", "store_unavailable", "store_closed"}


def _fitting(fault: Fault) -> set[str]:
    """The codes that a fault may be told by. Damage and misuse are none of them: nobody shall restore a backup, or look for
    a mistake of his own, because a disk failed for a moment."""
    fitting = set(_UNAVAILABLE)
    if fault.error == errno.ENOSPC and fault.how is Action.ERROR:
        fitting.add("disk_full")
    if fault.workload in FROM_NOTHING or fault.workload == "reopen":
        fitting |= {
            "store_not_found",
            "disk_full",
        }  # a readonly open after a creation that failed; LMDB: a short meta page
    return fitting


# -- the truth -------------------------------------------------------------------------------------------------------------


def _judge(folder: Path, told: Told, workload: str) -> list[str]:
    path = folder / STORE
    problems = []
    if workload not in FROM_NOTHING:
        problems += [f"unsound: {line}" for line in unsound(path)]
    seen, more = read(path)
    problems += more
    problems += compare(told.attempts, seen, ordered=workload not in _UNORDERED, old=workload not in FROM_NOTHING)
    with varve.open(path) as db:
        db.stream("marks", Mark).append(0, Mark(0, 0, 1, "a store that was opened again goes on"))
        if db.next_global_sequence != len(seen) + 1:
            problems.append("a store that was opened again gives wrong positions")
    if workload in FROM_NOTHING:
        problems += [f"unsound: {line}" for line in unsound(path)]
    if (folder / TARGET).exists():
        problems += [f"rebuilt, unsound: {line}" for line in unsound(folder / TARGET)]
        rebuilt, more = read(folder / TARGET)
        problems += more
        if [one.global_sequence for one in rebuilt] != [one.global_sequence for one in seen]:
            problems.append("a rebuilt store does not hold what its source holds")
    elif workload == "rebuild" and told.attempts[0].outcome == ACKNOWLEDGED:
        problems.append("a rebuild was reported done and is not there")
    return problems


def read(path: Path) -> tuple[list[Seen], list[str]]:
    """Every event of a store, and what is wrong with how they follow one another."""
    with varve.open(path) as db:
        db.stream("marks", Mark)
        seen = []
        problems = []
        lengths: dict[tuple[str, object], int] = {}
        for at, recorded in enumerate(db.global_reader().iter_from()):
            mark = recorded.event
            key = (recorded.stream, recorded.stream_id)
            if (recorded.global_sequence, recorded.stream_sequence) != (at, lengths.get(key, 0)):
                problems.append(f"a gap: {recorded.global_sequence} at {at}, {recorded.stream_sequence} of {key}")
            lengths[key] = recorded.stream_sequence + 1
            seen.append(Seen(mark.commit, mark.part, mark.of, at, recorded.commit_sequence))
        if db.next_global_sequence != len(seen):
            problems.append(f"{len(seen)} events, the next is {db.next_global_sequence}")
    return seen, problems


def compare(attempts: list[Attempt], seen: list[Seen], *, ordered: bool, old: bool) -> list[str]:
    """What a store holds against what its writer was told."""
    problems = []
    by_commit: dict[int, list[Seen]] = {}
    for one in seen:
        by_commit.setdefault(one.commit, []).append(one)
    for commit, parts in by_commit.items():
        numbers = [one.part for one in parts]
        if sorted(numbers) != list(range(parts[0].of)) or len({one.commit_sequence for one in parts}) != 1:
            problems.append(f"commit {commit} is there in part: {len(parts)} of {parts[0].of} events")
    missing = [number for number in range(OLD, OLD + _OLD_COMMITS) if old and number not in by_commit]
    if missing:
        problems.append(f"commits {missing} of an earlier process are lost")
    last = -1
    known = {attempt.number: attempt for attempt in attempts if attempt.number >= 0}
    strange = sorted(commit for commit in by_commit.keys() - known.keys() if commit < OLD)
    problems += [f"commit {commit} is there and nobody wrote it" for commit in strange]
    for number, attempt in sorted(known.items()):
        there = number in by_commit
        if attempt.outcome == ACKNOWLEDGED and not there:
            problems.append(f"{attempt.what} {number} was acknowledged and is lost")
        if attempt.outcome not in {ACKNOWLEDGED, "commit_outcome_unknown"} and there:
            problems.append(f"{attempt.what} {number} was refused with {attempt.error!r} and is there")
        if there and ordered:
            if by_commit[number][0].global_sequence < last:
                problems.append(f"{attempt.what} {number} stands before an earlier one")
            last = by_commit[number][0].global_sequence
    return problems
