"""The writing side of a handle: who may write, one write transaction at a time, and what is remembered between them."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from time import perf_counter
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any, TypeVar

import lmdb

from varve import limits
from varve.engine.commit import Session, State
from varve.engine.failures import failed
from varve.engine.observers import Observers, error_code
from varve.engine.tally import Tally
from varve.errors import HandleUnusable, VarveError

if TYPE_CHECKING:
    from varve.engine.catalog import Catalog
    from varve.engine.checked import CheckedBlocks
    from varve.engine.environment import Environment
    from varve.engine.request import CommitRequest, Committed


F = TypeVar("F", bound=Callable[..., Any])

_HOLDERS: set[CodeType] = set()


def holds_lock(method: F) -> F:
    """Mark a method during which its thread holds the writer's lock: what is called back from it is no left-over."""
    _HOLDERS.add(method.__code__)
    return method


class Writer:
    """One commit at a time, from any thread."""

    def __init__(
        self, environment: Environment, catalog: Catalog, checked: CheckedBlocks, clock: Callable[[], int]
    ) -> None:
        self.environment = environment
        self.catalog = catalog
        self.checked = checked
        self.clock = clock
        self.state: State | None = None
        self.last_id = -1
        self.on_committed: Callable[[], Callable[[int], None] | None] = lambda: None
        self.last_frame: bytes | None = None
        self.risen = 0
        self.unreaped_bytes = 0
        self.tally = Tally()
        self.observers: Observers | None = None
        self._told = 0
        self._lock: Any = threading.RLock()  # one that knows its owner: see _end_left_over
        self._turnstile = threading.Lock()  # where one waits for it: see _acquire
        self._session: Session | None = None
        self._user_runs = False

    def commit_here(self, request: CommitRequest) -> Committed:
        """Make one commit durable on this thread. Raises what was refused; then nothing of it is written."""
        committed = self._commit_once(request, self._acquire)
        assert committed is not None
        return committed

    def commit_if_free(self, request: CommitRequest) -> Committed | None:
        """``commit_here``, or None where somebody else is writing, or waiting for that."""
        return self._commit_once(request, self._acquire_if_free)

    @holds_lock
    def _commit_once(self, request: CommitRequest, acquire: Callable[[], bool]) -> Committed | None:
        observers = self.observers
        since_s = 0.0 if observers is None else perf_counter()
        try:
            if not acquire():
                return None
            try:
                session, committed = self._commit(request)
            finally:
                self._lock.release()
        except BaseException as exc:
            self._let_go()
            self._tell_failed(exc, since_s)
            raise
        self._tell(session)
        if observers is not None:
            observers.tell_ended(session, since_s)
        return session.located(committed, request)

    def _acquire(self) -> bool:
        """Wait for the lock. One waits at a time, the others behind the turnstile: a thread that takes the lock again as
        soon as it has let it go comes behind whoever waited meanwhile."""
        with self._turnstile:
            return bool(self._lock.acquire())

    def _acquire_if_free(self) -> bool:
        return not self._turnstile.locked() and self._lock.acquire(blocking=False)

    def _commit(self, request: CommitRequest) -> tuple[Session, Committed]:
        if request.effects:
            self._make_side_tables((request,))
        session = self._enter()
        try:
            committed = session.apply_alone(request)
            session.commit()
        finally:
            self._leave(session)
        return session, committed

    @contextlib.contextmanager
    @holds_lock
    def together(self, requests: Iterable[CommitRequest]) -> Iterator[Session]:
        """The write transaction in which these requests shall be applied; aborted unless ``commit`` was called."""
        self._acquire()
        try:
            self._make_side_tables(requests)
            session = self._enter()
            try:
                yield session
            finally:
                self._leave(session)
        finally:
            self._lock.release()
        self._tell(session)

    def session(self) -> contextlib.AbstractContextManager[Session]:
        """The write transaction, begun, used and ended on this thread; aborted unless ``commit`` was called."""
        self.check_entry()
        return self._users_session()

    @contextlib.contextmanager
    @holds_lock
    def _users_session(self) -> Iterator[Session]:
        observers = self.observers
        since_s = 0.0 if observers is None else perf_counter()
        try:
            self._acquire()
            try:
                session = self._enter()
                try:
                    self._user_runs = True
                    yield session
                finally:
                    self._user_runs = False
                    self._leave(session)
            finally:
                self._lock.release()
        except BaseException as exc:
            self._let_go()
            if isinstance(exc, VarveError):  # else fn has rolled it back
                self._tell_failed(exc, since_s)
            raise
        self._tell(session)
        if observers is not None:
            observers.tell_ended(session, since_s)

    def _tell(self, session: Session) -> None:
        """Say how far the log reaches now, where that rose. Not under the lock: whoever is woken takes the interpreter."""
        if session.commit_s > limits.SLOW_COMMIT_S:
            self.tally.say_slow(self.environment.path, session.commits, session.events, session.commit_s)
        risen = self.risen
        if risen > self._told:
            self._told = risen
            notify = self.on_committed()
            if notify is not None:
                notify(risen)

    def _tell_failed(self, exc: BaseException, since_s: float) -> None:
        """A commit on this thread was refused, or failed."""
        if self.environment.is_forked:
            return  # it is the parent's
        self.tally.fail()
        observers = self.observers
        if observers is not None:
            observers.tell_failed((error_code(exc),), since_s)

    @contextlib.contextmanager
    def users_code(self) -> Iterator[None]:
        """Inside the block code of the user's runs, in a commit of this thread: what it asks of this store is refused where it
        would wait for that very commit."""
        before, self._user_runs = self._user_runs, True
        try:
            yield
        finally:
            self._user_runs = before

    @property
    def _is_mine(self) -> bool:
        """Whether this thread is inside a commit in which code of the user runs: that of ``db.write(fn)`` foremost."""
        return self._user_runs and self._lock._is_owned()

    def check_entry(self) -> None:
        """What can be said before waiting for the lock."""
        if self._is_mine:
            raise HandleUnusable(
                "this thread is inside db.write(fn) already, or another function that runs in a commit: append through the tx "
                "that it was given, or after it"
            )
        observers = self.observers
        if observers is not None:
            observers.check_not_telling()
        self._end_left_over()
        self.check_writable()  # before the lock: after a fork a thread that is gone may hold it
        self.environment.warn_of_old_snapshots()  # before anything is written: a warning may be an error

    def check_writable(self) -> None:
        """Raise what every write on this handle is refused with, if it is."""
        environment = self.environment
        if environment.readonly:
            raise environment.not_writable()
        if environment.refusal is not None:
            raise environment.refusal()

    def _end_left_over(self) -> None:
        """End what an interrupt on this thread has cut off; the thread is in no commit.

        Ctrl-C may strike between any two steps, also before a ``with`` holds the lock that it has taken, and inside the
        ``finally`` of a commit. LMDB wants a write transaction ended on its own thread, so no other one can do this.
        """
        session = self._session
        if (session is not None and session.thread == threading.get_ident()) or self._lock._is_owned():
            self._check_not_called_back()
            self._let_go()

    def _let_go(self) -> None:
        """End this thread's transaction and give the lock back, whatever of it is there."""
        session = self._session
        if session is not None and session.thread == threading.get_ident():
            self._leave(session)
        while self._lock._is_owned():
            self._lock.release()

    def _check_not_called_back(self) -> None:
        """Raise ``HandleUnusable`` where a commit, or the closing of the store, of this very thread is still under way: it
        has called code of the user's, which calls back."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if frame.f_code in _HOLDERS:
                holder = frame.f_locals.get("self")
                if self in (holder, getattr(holder, "writer", None), getattr(holder, "_writer", None)):
                    raise HandleUnusable(
                        "this thread is inside a commit of this store, or closes it: a finaliser, a signal handler or a clock "
                        "that it calls cannot write as well. Hand it to another thread"
                    )
            frame = frame.f_back

    def _make_side_tables(self, requests: Iterable[CommitRequest]) -> None:
        """Make what the requests' effects change, in a transaction of its own: where this one is aborted, LMDB would close
        the database under those who found it meanwhile."""
        environment = self.environment
        for request in requests:
            for effect in request.effects:
                if environment.opened_side(effect.table) is None and environment.side(effect.table) is None:
                    try:
                        environment.make_side(effect.table)
                    except lmdb.Error as exc:
                        raise failed(environment, exc, limits.PAGE_BYTES) from exc

    def _enter(self) -> Session:
        """Begin a write transaction, with the lock held."""
        self.environment.check_usable()
        if self.unreaped_bytes >= limits.REAP_BYTES:
            self.unreaped_bytes = 0
            self.environment.reap()
        self._session = session = Session(self)
        if self.observers is not None:
            session.begun_s = perf_counter()
        return session

    def _leave(self, session: Session) -> None:
        """End the transaction, unless it was committed."""
        session.abort()
        self._session = None

    def wait_idle(self) -> contextlib.AbstractContextManager[object]:
        """Wait for the commit that is running, and let none begin inside the block.

        Raises ``HandleUnusable`` inside ``db.write``.
        """
        self.check_outside()
        lock: contextlib.AbstractContextManager[object] = self._lock
        return lock

    def check_outside(self) -> None:
        """Raise ``HandleUnusable`` inside ``db.write``."""
        if self._is_mine:
            raise HandleUnusable("this thread is inside db.write(fn): do this after it")
        observers = self.observers
        if observers is not None:
            observers.check_not_telling()
        self._end_left_over()

    @property
    def busy(self) -> bool:
        """Whether a commit is running, on whichever thread."""
        if self._lock._is_owned():
            return self._session is not None
        if self._lock.acquire(blocking=False):
            self._lock.release()
            return False
        return True
