"""Group commit: appends that are waiting at the same time share one write transaction, and one fsync.

An append that finds the writer free commits on its own thread. One that does not, and every append of an event loop,
becomes a *ticket* in a queue; a helper thread takes whatever waits there, applies it ticket by ticket and commits once.
Each ticket is a commit of its own in the log and has its own outcome: a refused one leaves the others alone, and where
the whole cannot be committed for its size each is tried by itself.

The helper is started by the first ticket, ends when none has come for a while, and is no thread of the user's: an
interrupt (Ctrl-C) that strikes an append never strikes the appends of others.
"""

from __future__ import annotations

import atexit
import contextlib
import copy
import threading
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Protocol

from varve import limits
from varve.errors import NoSpace, TooManyItems, VarveError

if TYPE_CHECKING:
    from varve.engine.request import CommitRequest, Committed
    from varve.engine.writer import Writer


class Inbox(Protocol):
    """Where outcomes go."""

    def deliver(self, tickets: list[Ticket], /) -> None:
        """Take settled tickets of one commit. Called on the committing thread: it must neither block nor raise."""
        ...


class Ticket:
    """A request that waits for its commit, and then its outcome: ``committed`` or ``error``."""

    __slots__ = ("_claims", "committed", "error", "inbox", "payload_bytes", "request")

    def __init__(self, request: CommitRequest | None, inbox: Inbox) -> None:
        self.request = request
        self.inbox = inbox
        self.payload_bytes = 0 if request is None else request.payload_bytes
        self.committed: Committed | None = None
        self.error: BaseException | None = None
        self._claims = [None]

    def claim(self) -> bool:
        """Take it, once: true for the one who asks first, be it to commit or to withdraw it. Atomic."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True

    def outcome(self) -> Committed:
        """What it came to. Raises its error."""
        if self.error is not None:
            raise self.error
        assert self.committed is not None
        return self.committed


class _Gate:
    """The inbox of one thread that waits for one ticket."""

    __slots__ = ("_closed",)

    def __init__(self) -> None:
        self._closed = threading.Lock()
        self._closed.acquire()

    def deliver(self, _tickets: list[Ticket], /) -> None:
        with contextlib.suppress(RuntimeError):
            self._closed.release()

    def wait(self) -> None:
        self._closed.acquire()


_groups: weakref.WeakSet[Group] = weakref.WeakSet()


class Group:
    """The queue of one handle and the thread that serves it.

    ``linger_s``: how long the helper waits for company once a ticket has come; 0 commits at once what is there.
    """

    def __init__(self, writer: Writer, linger_s: float) -> None:
        self.writer = writer
        self.linger_s = linger_s
        self._waiting: deque[Ticket] = deque()
        self._bell = threading.Lock()  # rung by releasing it
        self._bell.acquire()
        self._asleep = True
        self._thread: threading.Thread | None = None
        self._thread_lock = threading.Lock()
        self._without_helper = threading.Lock()
        self._ending = False
        _groups.add(self)

    # -- handing in --------------------------------------------------------------------------------

    def commit(self, request: CommitRequest) -> Committed:
        """Commit on this thread where the writer is free, else in the company of those who wait."""
        writer = self.writer
        writer.check_entry()
        if not self._waiting and not self.linger_s:
            committed = writer.commit_if_free(request)
            if committed is not None:
                return committed
        gate = _Gate()
        ticket = Ticket(request, gate)
        self._put(ticket)
        try:
            gate.wait()
        except BaseException:  # an interrupt: not written, unless the commit has begun
            ticket.claim()
            raise
        return ticket.outcome()

    def submit(self, ticket: Ticket) -> None:
        """Hand in a ticket, which is delivered to its inbox once it is settled."""
        self.writer.check_writable()
        self._put(ticket)

    def _put(self, ticket: Ticket) -> None:
        self._waiting.append(ticket)
        if self._asleep:
            self._ring()

    def _ring(self) -> None:
        """Wake the helper, or start it. The queue was filled before: a helper that ends looks into it under the same lock."""
        with self._thread_lock:
            self._asleep = False
            if self._thread is not None:
                with contextlib.suppress(RuntimeError):  # rung already
                    self._bell.release()
                return
            name = f"varve-commit {self.writer.environment.path}"
            self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
            try:
                self._thread.start()
            except RuntimeError:  # no more threads, or the interpreter is ending
                self._thread = None
                self._asleep = True
            else:
                return
        with self._without_helper:
            while self._waiting:
                self._commit(self._take())

    # -- the helper --------------------------------------------------------------------------------

    def _serve(self) -> None:
        while True:
            if self._waiting:
                if self.linger_s:
                    self._linger()
                self._commit(self._take())
                continue
            self._asleep = True  # before looking again: whoever comes now rings
            if self._waiting:
                self._asleep = False
                continue
            rung = self._bell.acquire(timeout=limits.HELPER_IDLE_S)
            if (self._ending or not rung) and self._ends():
                return
            self._asleep = False

    def _ends(self) -> bool:
        with self._thread_lock:
            if self._waiting or not self._asleep:
                return False
            self._thread = None
            return True

    def _linger(self) -> None:
        """Wait for company, until the group is as large as it may become."""
        until_s = time.monotonic() + self.linger_s
        self._asleep = True
        while len(self._waiting) < limits.GROUP_COMMITS_MAX:
            rest_s = until_s - time.monotonic()
            if rest_s <= 0 or any(ticket.request is None for ticket in self._waiting.copy()):
                break
            self._bell.acquire(timeout=rest_s)
            self._asleep = True
        self._asleep = False

    def _take(self) -> list[Ticket]:
        """What the next commit shall hold: as many as wait, within the bounds of a group."""
        waiting = self._waiting
        taken: list[Ticket] = []
        size = 0
        while waiting and len(taken) < limits.GROUP_COMMITS_MAX:
            ticket = waiting[0]
            size += ticket.payload_bytes
            if taken and size > limits.GROUP_BYTES_MAX:
                break
            taken.append(waiting.popleft())
        return taken

    def _commit(self, tickets: list[Ticket]) -> None:
        """Settle tickets: all of them have an outcome afterwards, whatever happens."""
        mine = [ticket for ticket in tickets if ticket.claim()]
        work = [ticket for ticket in mine if ticket.request is not None]
        try:
            if work:
                self._commit_together(work)
        except BaseException as exc:  # noqa: BLE001 - whoever waits must learn of it
            for ticket in work:
                if ticket.committed is None and ticket.error is None:
                    ticket.error = _copy(exc)
        boxes: dict[Inbox, list[Ticket]] = {}
        for ticket in mine:
            settled = boxes.get(ticket.inbox)
            if settled is None:
                boxes[ticket.inbox] = [ticket]
            else:
                settled.append(ticket)
        for inbox, settled in boxes.items():
            inbox.deliver(settled)

    def _commit_together(self, tickets: list[Ticket]) -> None:
        writer = self.writer
        accepted: list[tuple[Ticket, Committed]] = []
        try:
            with writer.together([ticket.request for ticket in tickets if ticket.request is not None]) as session:
                for ticket in tickets:
                    assert ticket.request is not None
                    try:
                        accepted.append((ticket, session.apply(ticket.request)))
                    except Exception as exc:  # noqa: BLE001 - its own outcome, whatever it is
                        ticket.error = exc
                if accepted:
                    session.commit()
        except (NoSpace, TooManyItems) as exc:
            if len(accepted) == 1:
                accepted[0][0].error = exc
            else:
                for ticket, _ in accepted:
                    self._commit_alone(ticket)
            return
        for ticket, committed in accepted:
            if committed.replayed and ticket.request is not None:
                try:
                    committed = session.located(committed, ticket.request)
                except VarveError as exc:  # a replay whose first commit cannot be read
                    ticket.error = exc
                    continue
            ticket.committed = committed

    def _commit_alone(self, ticket: Ticket) -> None:
        """Where a group is too large for what is left, each of its commits has its own chance."""
        assert ticket.request is not None
        try:
            ticket.committed = self.writer.commit_alone(ticket.request)
        except VarveError as exc:
            ticket.error = exc

    # -- ending ------------------------------------------------------------------------------------

    def drain(self) -> None:
        """Wait until everything that was handed in before is settled. Raises ``HandleUnusable`` inside ``db.write``."""
        self.writer.check_outside()
        if self._thread is None and not self._waiting:
            return
        gate = _Gate()
        self._put(Ticket(None, gate))
        gate.wait()

    def end(self) -> None:
        """Let the helper end as soon as nothing waits. Takes no lock: a finaliser may call it."""
        self._ending = True
        with contextlib.suppress(RuntimeError):
            self._bell.release()


def _copy(exc: BaseException) -> BaseException:
    """The same error for one more who waits: an exception that is raised twice would mix up its tracebacks."""
    try:
        twin = copy.copy(exc)
    except Exception:  # noqa: BLE001 - then they share it
        return exc
    twin.__cause__ = exc.__cause__
    return twin


def _at_exit() -> None:
    """Let commits end before the interpreter does: its threads are stopped wherever they are."""
    for group in list(_groups):
        with contextlib.suppress(VarveError):
            if not group.writer.environment.is_forked:
                group.drain()


atexit.register(_at_exit)
