"""The named points of the commit path, and how a process is made to die at one of them.

A point is a line of Varve's source: the process dies before that line runs. It is found by its text, so a point that the
source has lost is an error, not a point that is never tried. System calls are points as well, before and after they are
carried out.
"""

from __future__ import annotations

import errno
import functools
import os
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import CodeType, FrameType, ModuleType
from typing import Any, Final, Literal

from torture.kills.page import Cell
from torture.preload.fail import Action, Spoiler
from varve.engine import commit, core, creation, environment, files, group, hints, put, side, single, writer
from varve.tailing import consumer, ownership, poller, positions

_SOURCES: Final[dict[str, tuple[ModuleType, str, str]]] = {
    # name: module, function, the text that its line begins with
    "before begin": (commit, "Session.__init__", "self.transaction: lmdb.Transaction"),
    "after begin": (commit, "Session.__init__", "self._written: _Written | None = None"),
    "state loaded": (commit, "Session.apply", "pending = self._pending"),
    "put log, extending": (commit, "Session._write", "cursor.put(keys.log_key"),
    "put log, blocks": (put, "put_blocks", "if frames and cursor.putmulti"),
    "put index": (put, "put_index", "cursor.putmulti(entries)"),
    "put declarations": (put, "put_meta", "cursor.putmulti(sorted"),
    "put idempotency": (put, "put_meta", "cursor.put(keys.idempotency_key"),
    "put record": (put, "put_meta", "cursor.put(keys.STORE_RECORD_KEY"),
    "put log, single": (single, "apply_single", "transaction.put(keys.log_key"),
    "put stream index, single": (single, "apply_single", "transaction.put(keys.stream_entry_key"),
    "put name index, single": (single, "apply_single", "transaction.put(keys.name_entry_key"),
    "put record, single": (single, "apply_single", "transaction.put(keys.STORE_RECORD_KEY"),
    "put position": (side, "put_effects", "session.open.put"),
    "before LMDB's commit": (commit, "Session.end", "transaction.commit()"),
    "after LMDB's commit": (commit, "Session.commit", "if written is not None:"),
    "remembering": (commit, "Session._remember", "state.record = written.record"),
    "giving the lock back": (writer, "Writer._commit_once", "self._lock.release()"),
    "before acknowledging": (writer, "Writer._commit_once", "return session.located"),
    "before telling": (writer, "Writer._tell", "notify(risen)"),
    "before the hint": (core, "Engine.notify", "self._hints.send()"),
    "sending the hint": (hints, "HintSender._hint", "watcher.send(_HINT)"),
    "connecting to a watcher": (hints, "HintSender._connect", "made.connect(address)"),
    "handing in": (group, "Group._put", "self._waiting.append(ticket)"),
    "ringing": (group, "Group._ring", "self._bell.release()"),
    "starting the helper": (group, "Group._ring", "thread.start()"),
    "group applied": (group, "Group._commit_together", "session.commit(len(accepted))"),
    "group acknowledged": (group, "Group._commit_together", "_acknowledge(session, accepted)"),
    "group delivered": (group, "Group._commit", "_deliver(tickets)"),
    "making the folder": (files, "make_folder", "os.mkdir(folder"),
    "syncing a folder": (files, "sync_folder", "os.fsync(fd)"),
    "locking the handle": (files, "lock_handle", "fcntl.flock"),
    "making LMDB's file": (creation, "make_data_file", "_sync_file(unfinished)"),
    "naming LMDB's file": (creation, "make_data_file", "os.link(unfinished"),
    "opening LMDB": (environment, "open_environment", "return lmdb.open("),
    "making the databases": (environment, "Environment._databases", "databases = [self.env.open_db"),
    "databases made": (environment, "Environment._databases", "return databases"),
    "making the record": (core, "Engine._create", "record = StoreRecord"),
    "record made": (core, "Engine._create", "return record"),
    "making a side table": (environment, "Environment.make_side", "database = self.env.open_db"),
    "side table made": (environment, "Environment.make_side", "self._side[name] = database"),
    "locking a consumer": (ownership, "OwnerLock.take", "self._open(self.path"),
    "claiming a consumer": (positions, "Claim.take", "self.engine.commit("),
    "consumer claimed": (positions, "Claim.take", "self.token = taking.token"),
    "position stored": (consumer, "Consumer._settled", "self._stored = position"),
    "binding a watcher's socket": (hints, "HintSocket.bind", "bound.bind(address)"),
    "polling": (poller, "Poller._watch", "newest = self._look(seen)"),
}

POINTS: Final = tuple(_SOURCES)
CALLS: Final = tuple(
    (kind, when)
    for kind in ("write", "sync", "open", "mkdir", "flock", "fcntl", "truncate", "map", "bind", "connect", "send")
    for when in ("before", "after")
)
_PACKAGES: Final = tuple(str(Path(varve_module.__file__ or "").parent) for varve_module in (core, poller))


class NoSuchPoint(RuntimeError):
    """The source has changed: look for the line that the point means now."""


@functools.cache
def line_of(name: str) -> tuple[CodeType, int]:
    """The code and the line of a point. Raises ``NoSuchPoint``."""
    module, function, text = _SOURCES[name]
    found: Any = module
    for part in function.split("."):
        found = vars(found).get(part)
        if found is None:
            raise NoSuchPoint(f"{name}: {module.__name__} has no {function}")
    found = getattr(found, "__func__", found)
    while hasattr(found, "__wrapped__"):
        found = found.__wrapped__
    code: CodeType = found.__code__
    lines = Path(code.co_filename).read_text(encoding="utf-8").splitlines()
    for line in sorted({line for _, _, line in code.co_lines() if line is not None}):
        if lines[line - 1].strip().startswith(text):
            return code, line
    raise NoSuchPoint(f"{name}: no line of {function} in {module.__name__} begins with {text!r}")


@dataclass(frozen=True, slots=True)
class Death:
    """How a victim is to die. Whoever does not come to its point is killed at an instant all the same."""

    how: Literal["point", "line", "call", "instant"]
    name: str = ""
    nth: int = 1

    def __str__(self) -> str:
        return {
            "point": f"at {self.name!r}, time {self.nth}",
            "line": f"at line {self.nth} that runs in the engine",
            "call": f"{self.name}, call {self.nth}",
            "instant": "at an instant",
        }[self.how]

    def arm(self, folder: Path, reached: Cell) -> None:
        """In the victim: from here on it dies there. ``reached`` tells that it did."""
        if self.how == "call":
            kind, when = self.name.split(" ")
            action = Action.KILL_BEFORE if when == "before" else Action.KILL_AFTER
            Spoiler().arm(folder, kinds=(kind,), nth=self.nth, action=action, error=errno.EIO)
        elif self.how == "point":
            code, line = line_of(self.name)
            _trace(lambda frame: frame.f_code is code, lambda at: at == line, self.nth, reached)
        elif self.how == "line":
            _trace(lambda frame: frame.f_code.co_filename.startswith(_PACKAGES), lambda _: True, self.nth, reached)


def _trace(is_ours: Callable[[FrameType], bool], is_there: Callable[[int], bool], nth: int, reached: Cell) -> None:
    left = [None] * nth  # popped: atomic among threads

    def local(frame: FrameType, event: str, _: object) -> Any:
        if event == "line" and is_there(frame.f_lineno):
            left.pop()
            if not left:
                reached.value = 1
                os.kill(os.getpid(), signal.SIGKILL)
        return local

    def call(frame: FrameType, _event: str, _: object) -> Any:
        return local if is_ours(frame) else None

    threading.settrace(call)
    sys.settrace(call)
