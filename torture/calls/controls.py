"""Faults planted into the engine, the kernel's answers and the checker: each must be noticed."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import lmdb

from torture.calls.disks import CannotMount, appends_only, disk
from torture.calls.faults import Fault
from torture.calls.unit import HANG_S, OLD, Seen, compare, judge_told, run_unit
from torture.calls.workloads import ACKNOWLEDGED, Attempt, Told
from torture.part import Control
from varve.engine import failures

_WRITE: Final = Fault("single", "write", 1, "data.mdb", "ERROR", errno.EIO, "once")
_SHORT_S: Final = 3.0
_SYNC: Final = Fault("single", "sync", 1, "data.mdb", "SILENT", errno.EIO, "kind")


def controls(folder: Path, template: Path, seed: int) -> Iterator[Control]:
    """Plant each fault."""
    yield from _checker()
    for name, fault, plant, word in (
        ("an engine that swallows a failed commit and acknowledges", _WRITE, _swallow, "acknowledged and is lost"),
        ("an engine that goes on after a disk failed", _WRITE, _go_on, "works although the handle failed"),
        ("a sync that fails silently", _SYNC, None, "nothing was synced"),
        ("an engine that never syncs", None, _never_sync, "nothing was synced"),
        ("an engine that lets LMDB's errors out", _WRITE, _let_out, "foreign error"),
        ("an engine that hangs", _WRITE, _hang, "hangs"),
        ("an engine that dies", _WRITE, _die, "SIGABRT"),
    ):
        patience_s = _SHORT_S if plant is _hang else HANG_S
        found = run_unit(fault, "single", template, folder / "control", seed, plant, patience_s).problems
        hits = [problem for problem in found if word in problem]
        yield Control(name, bool(hits), (hits or found or ["nothing"])[0][:200])
    yield from _disk(folder)
    sound = run_unit(None, "single", template, folder / "control", seed).problems
    yield Control("nothing planted, nothing said", not sound, "; ".join(sound) or "nothing")


def _disk(folder: Path) -> Iterator[Control]:
    """An engine that takes a full disk for a broken one; left out where nothing can be mounted."""
    from varve.engine import files

    name = "an engine that takes a full disk for a broken one"
    errors, free = files.SPACE_ERRORS, files.free_bytes
    try:
        with disk("tmpfs", folder) as on:
            _set(files, "SPACE_ERRORS", ())
            _set(files, "free_bytes", lambda _: 1 << 40)
            _set(failures, "lmdb", _NoDiskError())
            problems = appends_only(on)
    except CannotMount:
        return
    finally:
        _set(files, "SPACE_ERRORS", errors)
        _set(files, "free_bytes", free)
        _set(failures, "lmdb", lmdb)
    hits = [problem for problem in problems if "StoreFailed" in problem]
    yield Control(name, bool(hits), (hits or problems or ["nothing"])[0][:200])


class _NoDiskError:
    """py-lmdb without its own word for a full disk."""

    class DiskError(Exception):
        """Raised by nobody."""

    def __getattr__(self, name: str) -> Any:
        return getattr(lmdb, name)


# -- engines that are known to lie -------------------------------------------------------------------------------------------


def _swallow() -> None:
    from varve.engine.commit import Session
    from varve.errors import VarveError

    commit = Session.commit

    def swallow(self: Session) -> None:
        try:
            commit(self)
        except VarveError:
            self.environment.refusal = None

    _set(Session, "commit", swallow)


def _go_on() -> None:
    from varve.engine.environment import Environment

    fail = Environment.fail

    def go_on(self: Environment, what: str, reason: str) -> Any:
        error = fail(self, what, reason)
        self.refusal = None
        return error

    _set(Environment, "fail", go_on)


def _never_sync() -> None:
    opens = lmdb.open

    def careless(*arguments: Any, **how: Any) -> Any:
        return opens(*arguments, **{**how, "sync": False})

    _set(lmdb, "open", careless)


def _let_out() -> None:
    from varve.engine import commit

    def let_out(_environment: object, exc: BaseException, _bytes: int) -> BaseException:
        return exc

    _set(commit, "failed", let_out)


def _hang() -> None:
    import threading

    from varve.engine import commit

    _set(commit, "failed", lambda *_: threading.Event().wait())


def _die() -> None:
    import os

    from varve.engine import commit

    _set(commit, "failed", lambda *_: os.abort())


def _set(owner: Any, name: str, by: object) -> None:
    """In the child only."""
    setattr(owner, name, by)


# -- a checker that is fed ---------------------------------------------------------------------------------------------------


def _checker() -> Iterator[Control]:
    attempts = [Attempt(number, "append", ACKNOWLEDGED) for number in range(3)]
    refused = [*attempts[:2], Attempt(2, "append", "disk_full", "DiskFull")]
    old = [Seen(OLD + number, 0, 1, number, number) for number in range(6)]
    log = [Seen(number // 2, number % 2, 2, 6 + number, 6 + number // 2 * 2) for number in range(6)]
    cases: tuple[tuple[str, list[Attempt], list[Seen], str], ...] = (
        ("a checker fed a lost commit", attempts, [*old, *log[:4]], "is lost"),
        ("a checker fed half a commit", attempts, [*old, *log[:5]], "in part"),
        ("a checker fed a commit that was refused", refused, [*old, *log], "was refused"),
        ("a checker fed a commit that nobody made", attempts[:2], [*old, *log], "nobody wrote it"),
        ("a checker fed a store that lost an earlier process's commit", attempts, [*old[1:], *log], "earlier process"),
        ("a checker fed commits in another order", attempts, [*old, *_swapped(log)], "before an earlier one"),
    )
    for name, tried, seen, word in cases:
        problems = compare(tried, seen, ordered=True, old=True)
        hits = [problem for problem in problems if word in problem]
        yield Control(name, bool(hits), (hits or problems or ["nothing"])[0])
    wrong = Told([Attempt(0, "append", "corrupted_store", "CorruptedStore")])
    said = judge_told(wrong, _WRITE)
    yield Control("an error that does not fit the fault", bool(said), (said or ["nothing"])[0])


def _swapped(log: list[Seen]) -> list[Seen]:
    def moved(one: Seen, by: int) -> Seen:
        return Seen(one.commit, one.part, one.of, one.global_sequence + by, one.commit_sequence + by)

    return [moved(one, 2) for one in log[:2]] + [moved(one, -2) for one in log[2:4]] + log[4:]
