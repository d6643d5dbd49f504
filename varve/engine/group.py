"""Group commit: appends that are waiting at the same time share one write transaction, and one fsync.

An append that finds the writer free commits on its own thread. One that does not, and every append of an event loop,
becomes a *ticket* in a queue; a helper thread takes whatever waits there, applies it ticket by ticket and commits once.
Each ticket is a commit of its own in the log and has its own outcome: a refused one leaves the others alone, and where
the whole cannot be committed for its size each is tried by itself.

The helper is started by the first ticket, ends when none has come for a while, and is no thread of the user's: an
interrupt (Ctrl-C) that strikes an append never strikes the appends of others. Where no thread can be started, each
append commits on its own thread.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import sys
import threading
import time
import weakref
from collections import deque
from time import perf_counter
from typing import TYPE_CHECKING, Final, Protocol

from varve import limits
from varve.engine.observers import error_code, handed_in_s
from varve.engine.writer import holds_lock
from varve.errors import NoSpace, TooManyItems, VarveError
from varve.logs import DEBUG, ERROR, say

if TYPE_CHECKING:
    from varve.engine.commit import Session
    from varve.engine.request import CommitRequest, Committed
    from varve.engine.writer import Writer

_NEVER: Final = sys.maxsize


class Inbox(Protocol):
    """Where outcomes go."""

    def deliver(self, tickets: list[Ticket], /) -> None:
        """Take tickets that are done with: settled ones of one commit, and withdrawn ones, which have no outcome. Every
        ticket that was handed in comes back once. Called on the committing thread: it must neither block nor raise."""
        ...


class Ticket:
    """A request that waits for its commit, and then its outcome: ``committed`` or ``error``."""

    __slots__ = ("_claims", "committed", "error", "inbox", "payload_bytes", "request", "since_s")

    def __init__(self, request: CommitRequest | None, inbox: Inbox) -> None:
        self.request = request
        self.inbox = inbox
        self.payload_bytes = 0 if request is None else request.payload_bytes
        self.committed: Committed | None = None
        self.error: BaseException | None = None
        self.since_s = 0.0  # when it was handed in, where somebody observes
        self._claims = [None]

    def claim(self) -> bool:
        """Take it, once: true for the one who asks first, be it to commit or to withdraw it. Atomic."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True

    def withdraw(self) -> bool:
        """Take it back: true where its commit had not begun, and then it is not written."""
        if not self.claim():
            return False
        self.request = None  # it may stand in the queue for long, its events need not
        return True

    def outcome(self) -> Committed:
        """What it came to. Raises its error."""
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error  # else this frame and the error's traceback would keep each other
        assert self.committed is not None
        return self.committed


class _Gate:
    """The inbox of one thread that waits for one ticket."""

    __slots__ = ("_closed",)

    def __init__(self) -> None:
        self._closed = threading.Lock()
        self._closed.acquire()

    def deliver(self, _tickets: list[Ticket], /) -> None:
        self._closed.release()

    def wait(self) -> None:
        self._closed.acquire()


class _Nobody:
    """The inbox of a ticket whose owner has gone."""

    def deliver(self, tickets: list[Ticket], /) -> None:
        pass


_groups: weakref.WeakSet[Group] = weakref.WeakSet()


class Group:
    """The queue of one handle and the thread that serves it.

    ``linger_s``: how long the helper waits for company once a ticket has come; 0 commits at once what is there.

    Whoever hands in rings the helper once ``_ring_at`` tickets wait: 1 while it sleeps, a full group while it lingers,
    never while it works (it looks into the queue before it sleeps).
    """

    def __init__(self, writer: Writer, linger_s: float) -> None:
        self.writer = writer
        self.linger_s = linger_s
        self._waiting: deque[Ticket] = deque()
        self._drains: set[Ticket] = set()
        self._bell = threading.Lock()  # rung by releasing it
        self._bell.acquire()
        self._ring_at = 1
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()
        self._working = False
        self._ending = False
        _groups.add(self)

    # -- handing in --------------------------------------------------------------------------------

    def commit(self, request: CommitRequest) -> Committed:
        """Commit on this thread where the writer is free, else in the company of those who wait."""
        writer = self.writer
        writer.check_entry()
        if not self.busy and not self.linger_s:
            committed = writer.commit_if_free(request)
            if committed is not None:
                return committed
        gate = _Gate()
        ticket = Ticket(request, gate)
        try:
            served = self._put(ticket)
            if served:
                gate.wait()
        except BaseException:  # an interrupt: not written, unless the commit has begun
            ticket.withdraw()
            raise
        return ticket.outcome() if served else writer.commit_here(request)

    def submit(self, ticket: Ticket) -> None:
        """Hand in a ticket, which is delivered to its inbox once it is settled; never where this raises."""
        self.writer.check_entry()
        try:
            if self._put(ticket):
                return
        except BaseException:  # an interrupt
            ticket.inbox = _Nobody()
            ticket.withdraw()
            raise
        request = ticket.request
        if request is not None and ticket.claim():
            try:
                ticket.committed = self.writer.commit_here(request)
            except Exception as exc:  # noqa: BLE001 - its outcome, whatever it is
                ticket.error = exc
            ticket.inbox.deliver([ticket])

    def _put(self, ticket: Ticket) -> bool:
        """Queue a ticket; false where there is no helper to serve it, and then it is not in the queue."""
        if self.writer.observers is not None:
            ticket.since_s = perf_counter()
        self._waiting.append(ticket)
        return len(self._waiting) < self._ring_at or self._ring(ticket)

    def _ring(self, ticket: Ticket) -> bool:
        """Wake the helper, or start it. The queue was filled before: a helper that ends looks into it under the same lock.

        An interrupt may strike here, too, so nothing is noted that is not so yet: the helper is rung in the same step as
        that is written down, and is known once it runs.
        """
        with self._thread_lock:
            if self._thread is not None:
                self._ring_at = _NEVER
                try:  # noqa: SIM105 - an interrupt inside suppress() would come before the ring
                    self._bell.release()
                except RuntimeError:  # rung already
                    pass
                return True
            thread = threading.Thread(
                target=self._serve, name=f"varve-commit {self.writer.environment.path}", daemon=True
            )
            try:
                thread.start()
            except RuntimeError:  # no more threads, or the interpreter is ending
                with contextlib.suppress(ValueError):
                    self._waiting.remove(ticket)
                return False
            self._thread = thread
            self._ring_at = _NEVER
            return True

    # -- the helper --------------------------------------------------------------------------------

    def _serve(self) -> None:
        me = threading.current_thread()
        with self._thread_lock:
            if self._thread is None:  # whoever started it was interrupted before he could say so
                self._thread = me
                self._ring_at = _NEVER
            elif self._thread is not me:
                return
        path = self.writer.environment.path
        say(DEBUG, "%s: the thread that commits for those who wait has begun", path)
        try:
            self._serve_tickets()
        except BaseException as exc:
            say(
                ERROR,
                "%s: the thread that commits for those who wait has failed; the next commit starts another",
                path,
                failure=exc,
            )
            with self._thread_lock:  # the next ticket starts another
                self._thread = None
                self._ring_at = 1
            raise
        say(DEBUG, "%s: the thread that commits for those who wait has ended: none came for a while", path)

    def _serve_tickets(self) -> None:
        while True:
            if self._waiting:
                self._working = True
                if self.linger_s:
                    self._linger()
                self._commit(self._take())
                continue
            self._ring_at = 1  # before looking again: whoever comes now rings
            if self._waiting:
                self._ring_at = _NEVER
                continue
            rung = self._bell.acquire(timeout=limits.HELPER_IDLE_S)
            if (self._ending or not rung) and self._ends():
                return
            self._ring_at = _NEVER

    def _ends(self) -> bool:
        with self._thread_lock:
            if self._waiting or self._ring_at != 1:
                return False
            self._thread = None
            return True

    def _linger(self) -> None:
        """Wait for company, until the group is as large as it may become or somebody waits for the end."""
        until_s = time.monotonic() + self.linger_s
        while True:
            self._ring_at = limits.GROUP_COMMITS_MAX
            rest_s = until_s - time.monotonic()
            if len(self._waiting) >= limits.GROUP_COMMITS_MAX or self._drains or rest_s <= 0:
                break
            self._bell.acquire(timeout=rest_s)
        self._ring_at = _NEVER

    def _take(self) -> list[Ticket]:
        """What the next commit shall hold: as many as wait, within the bounds of a group."""
        waiting = self._waiting
        taken: list[Ticket] = []
        size = 0
        while waiting and len(taken) < limits.GROUP_COMMITS_MAX:
            size += waiting[0].payload_bytes
            if taken and size > limits.GROUP_BYTES_MAX:
                break
            taken.append(waiting.popleft())
        return taken

    def _commit(self, tickets: list[Ticket]) -> None:
        """Settle tickets: all of them have an outcome afterwards, whatever happens, the withdrawn ones aside."""
        # An error that somebody keeps keeps these frames through its traceback: they let everybody's events go.
        work = [ticket for ticket in tickets if ticket.request is not None and ticket.claim()]
        if work:
            self._commit_together(work)
        self._working = False  # before whoever wakes appends again: he may do that on his own thread
        _deliver(tickets)
        work.clear()
        tickets.clear()

    @holds_lock
    def _commit_together(self, tickets: list[Ticket]) -> None:
        accepted: list[tuple[Ticket, Committed]] = []
        doubtful: list[Ticket] = []
        writer = self.writer
        try:
            with writer.together([ticket.request for ticket in tickets if ticket.request is not None]) as session:
                _apply(session, tickets, accepted, doubtful)
                if accepted:
                    session.commit(len(accepted))
        except BaseException as exc:  # noqa: BLE001 - whoever waits must learn of it
            failed = [ticket for ticket in tickets if ticket.error is None or ticket in doubtful]
            alone = self._fail(failed, len(accepted), exc)
            self._tell_failed([ticket for ticket in tickets if ticket not in alone])
        else:
            if len(accepted) < len(tickets):
                writer.tally.fail(len(tickets) - len(accepted))
            observers = writer.observers
            if observers is not None:
                observers.tell_ended(session, handed_in_s(tickets), _codes(tickets))
            _acknowledge(session, accepted)
        accepted.clear()
        doubtful.clear()

    def _fail(self, tickets: list[Ticket], accepted: int, exc: BaseException) -> set[Ticket]:
        """What becomes of tickets whose commit failed: the ``accepted`` ones, and those that were refused on top of them,
        perhaps because of what is not written after all.

        Where the whole was too large for what is left, each has its own chance; else all are told. Returns those that had it.
        """
        alone: set[Ticket] = set()
        too_large = isinstance(exc, NoSpace | TooManyItems)
        for ticket in tickets:
            if too_large and not (accepted == 1 and ticket.error is None):
                alone.add(ticket)
                self._commit_alone(ticket)
            else:
                ticket.error = _copy(exc)
        return alone

    def _tell_failed(self, tickets: list[Ticket]) -> None:
        """These were refused, or failed with the others."""
        if tickets:
            writer = self.writer
            writer.tally.fail(len(tickets))
            observers = writer.observers
            if observers is not None:
                observers.tell_failed(_codes(tickets), handed_in_s(tickets))

    def _commit_alone(self, ticket: Ticket) -> None:
        assert ticket.request is not None
        ticket.error = None
        try:
            ticket.committed = self.writer.commit_here(ticket.request)
        except BaseException as exc:  # noqa: BLE001 - its own outcome, whatever it is
            ticket.error = exc

    # -- ending ------------------------------------------------------------------------------------

    @property
    def waiting(self) -> int:
        """Tickets in the queue; withdrawn ones count until the helper has passed them."""
        return len(self._waiting)

    @property
    def busy(self) -> bool:
        """Whether the helper has something to commit; whoever comes now comes behind it."""
        return bool(self._waiting) or self._working

    def drain(self) -> None:
        """Wait until everything that was handed in before is settled. Raises ``HandleUnusable`` inside ``db.write``."""
        self.writer.check_outside()
        if self._thread is None and not self._waiting:
            return
        gate = _Gate()
        ticket = Ticket(None, gate)
        self._drains.add(ticket)
        try:
            self._waiting.append(ticket)
            if self._ring(ticket):
                gate.wait()
        finally:
            self._drains.discard(ticket)

    def end(self) -> None:
        """Let the helper end as soon as nothing waits. Takes no lock: a finaliser may call it."""
        self._ending = True
        with contextlib.suppress(RuntimeError):
            self._bell.release()


def _apply(
    session: Session, tickets: list[Ticket], accepted: list[tuple[Ticket, Committed]], doubtful: list[Ticket]
) -> None:
    """Give tickets their positions, or refuse them; ``doubtful`` are those refused on top of accepted ones."""
    apply = session.apply
    for ticket in tickets:
        assert ticket.request is not None
        try:
            accepted.append((ticket, apply(ticket.request)))
        except BaseException as exc:  # noqa: BLE001 - its own outcome, whatever it is
            ticket.error = exc
            if accepted:
                doubtful.append(ticket)


def _codes(tickets: list[Ticket]) -> tuple[str, ...]:
    """What those were answered with that were refused."""
    return tuple(error_code(ticket.error) for ticket in tickets if ticket.error is not None)


def _acknowledge(session: Session, accepted: list[tuple[Ticket, Committed]]) -> None:
    """The outcomes of what is durable now."""
    for ticket, committed in accepted:
        ticket.committed = committed
        if committed.replayed:
            assert ticket.request is not None
            try:
                session.located(committed, ticket.request)
            except Exception as exc:  # noqa: BLE001 - a replay whose first commit cannot be read
                ticket.error, ticket.committed = exc, None


def _deliver(tickets: list[Ticket]) -> None:
    boxes: dict[Inbox, list[Ticket]] = {}
    for ticket in tickets:
        settled = boxes.get(ticket.inbox)
        if settled is None:
            boxes[ticket.inbox] = [ticket]
        else:
            settled.append(ticket)
    for inbox, settled in boxes.items():
        with contextlib.suppress(Exception):  # nobody else's outcome hangs on it
            inbox.deliver(settled)


def _copy(exc: BaseException) -> BaseException:
    """The same error for one more who waits: an exception that is raised twice would mix up its tracebacks."""
    try:
        twin = copy.copy(exc)
    except Exception:  # noqa: BLE001 - then they share it
        return exc
    twin.__cause__ = exc.__cause__
    for note in getattr(exc, "__notes__", ()):
        if note not in getattr(twin, "__notes__", ()):
            twin.add_note(note)
    return twin


def _at_exit() -> None:
    """Let commits end before the interpreter does: its threads are stopped wherever they are."""
    for group in list(_groups):
        with contextlib.suppress(VarveError):
            if not group.writer.environment.is_forked:
                group.drain()


atexit.register(_at_exit)
