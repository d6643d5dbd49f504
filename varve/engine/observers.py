"""Who is told of commits, and of consumers' batches.

A handle without observers has ``Writer.observers`` None, and one test of that a commit is all that it costs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from time import perf_counter
from typing import TYPE_CHECKING, TypeVar

from varve.errors import HandleUnusable, VarveError
from varve.logs import ERROR, say
from varve.reports import BatchReport, CommitReport, Observer

if TYPE_CHECKING:
    from varve.engine.commit import Session
    from varve.engine.group import Ticket

R = TypeVar("R")


class Observers:
    """The observers of one handle. Thread-safe."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._members: tuple[Observer, ...] = ()
        self._failed: list[Observer] = []
        self._lock = threading.Lock()
        self._telling: set[int] = set()

    def add(self, observer: Observer) -> None:
        """From now on tell this one, too; once, however often it is added."""
        with self._lock:
            if not any(known is observer for known in self._members):
                self._members = (*self._members, observer)

    def remove(self, observer: Observer) -> bool:
        """Tell this one no more; whether anybody is left."""
        with self._lock:
            self._members = tuple(known for known in self._members if known is not observer)
            self._failed = [known for known in self._failed if known is not observer]
            return bool(self._members)

    def check_not_telling(self) -> None:
        """Raise ``HandleUnusable`` where an observer on this thread is just being told: the commits of others may be waiting
        for it."""
        if threading.get_ident() in self._telling:
            raise HandleUnusable(
                "an observer is being told of a commit on this thread: it cannot write to the store or close it. Hand that to "
                "another thread"
            )

    # -- telling -----------------------------------------------------------------------------------

    def tell_ended(self, session: Session, since_s: float, errors: tuple[str, ...] = ()) -> None:
        """A write transaction has ended as it should. ``since_s``: when the first of its requests was handed in (0.0: nobody
        looked)."""
        if not (session.commits or session.replays or errors):
            return  # nothing was asked for
        begun_s = session.begun_s
        writing_s = session.writing_s or begun_s
        self.tell_commit(
            CommitReport(
                session.commits,
                session.events,
                session.event_bytes,
                session.replays,
                errors,
                max(0.0, begun_s - since_s) if since_s and begun_s else 0.0,
                max(0.0, writing_s - begun_s) if begun_s else 0.0,
                session.commit_s,
            )
        )

    def tell_failed(self, errors: tuple[str, ...], since_s: float) -> None:
        """A write transaction has come to nothing."""
        spent_s = perf_counter() - since_s if since_s else 0.0
        self.tell_commit(CommitReport(0, 0, 0, 0, errors, 0.0, spent_s, 0.0))

    def tell_commit(self, report: CommitReport) -> None:
        """Tell everybody of a commit."""
        for observer in self._members:
            self._tell(observer, observer.commit_ended, report)

    def tell_batch(self, report: BatchReport) -> None:
        """Tell everybody of a consumer's batch."""
        for observer in self._members:
            self._tell(observer, observer.batch_handled, report)

    def _tell(self, observer: Observer, call: Callable[[R], None], report: R) -> None:
        me = threading.get_ident()
        self._telling.add(me)
        try:
            call(report)
        except BaseException as exc:
            self._log_failure(observer, exc)
            if isinstance(exc, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                raise  # the user's, not the observer's
        finally:
            self._telling.discard(me)

    def _log_failure(self, observer: Observer, exc: BaseException) -> None:
        with self._lock:
            if any(known is observer for known in self._failed):
                return
            self._failed.append(observer)
        say(
            ERROR,
            "%s: an observer of class %s failed; the commit is not touched by that, and further failures of this observer are "
            "not logged",
            self._path,
            type(observer).__qualname__,
            failure=exc,
        )


def handed_in_s(tickets: Iterable[Ticket]) -> float:
    """When the first of some tickets was handed in; 0.0 where nobody looked."""
    return min((ticket.since_s for ticket in tickets if ticket.since_s), default=0.0)


def error_code(exc: BaseException) -> str:
    """What stands in ``CommitReport.errors``."""
    return exc.code if isinstance(exc, VarveError) else type(exc).__name__
