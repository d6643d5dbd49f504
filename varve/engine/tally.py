"""What a handle has committed so far, for ``db.stats()``, and commits that took too long, for the log."""

from __future__ import annotations

import threading
import time

from varve import limits
from varve.logs import WARNING, say


class Tally:
    """Sums over the write transactions of one handle. Changed by whoever holds the writer's lock, read by anybody."""

    __slots__ = (
        "_lock",
        "_said_s",
        "_unsaid",
        "commit_s",
        "commit_s_max",
        "commits",
        "event_bytes",
        "events",
        "failed",
        "group_max",
        "transactions",
    )

    def __init__(self) -> None:
        self.transactions = self.commits = self.events = self.event_bytes = self.group_max = self.failed = 0
        self.commit_s = self.commit_s_max = 0.0
        self._lock = threading.Lock()
        self._said_s = -limits.SLOW_COMMIT_LOG_INTERVAL_S
        self._unsaid = 0

    def add(self, commits: int, events: int, event_bytes: int, commit_s: float) -> None:
        """A write transaction was committed; the writer's lock is held."""
        self.transactions += 1
        self.commits += commits
        self.events += events
        self.event_bytes += event_bytes
        self.commit_s += commit_s
        if commit_s > self.commit_s_max:  # noqa: PLR1730 - a call of max costs twice as much, in every commit
            self.commit_s_max = commit_s
        if commits > self.group_max:  # noqa: PLR1730
            self.group_max = commits

    def fail(self, commits: int = 1) -> None:
        """Commits were refused, or failed; with or without the writer's lock."""
        with self._lock:
            self.failed += commits

    def say_slow(self, path: str, commits: int, events: int, commit_s: float) -> None:
        """Warn of a commit that took longer than ``SLOW_COMMIT_S``, unless one was warned of a moment ago."""
        now_s = time.monotonic()
        with self._lock:
            self._unsaid += 1
            if now_s < self._said_s + limits.SLOW_COMMIT_LOG_INTERVAL_S:
                return
            self._said_s = now_s
            slow, self._unsaid = self._unsaid, 0
        say(
            WARNING,
            "%s: LMDB's commit of %d events (%d commits) took %.3f s: the disk is slow or busy. %d took longer than "
            "SLOW_COMMIT_S = %s s since this was last said",
            path,
            events,
            commits,
            commit_s,
            slow,
            limits.SLOW_COMMIT_S,
        )
