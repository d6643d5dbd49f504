"""Awaiting commits: what ``append_async`` and its kin hand in, and how the outcomes come back to their event loop.

Each loop has an inbox per open store. A group commit delivers to it once, with one call into the loop, however many of
the loop's appends it held.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

from varve import limits
from varve.engine.group import Ticket
from varve.tailing.loops import running_loop

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

    from varve.engine.core import Engine
    from varve.engine.request import CommitRequest, Committed


async def commit_async(engine: Engine, request: CommitRequest) -> Committed:
    """Make a commit durable in the company of others. Raises what ``Engine.commit`` does.

    It waits, too, where more is under way than ``PENDING_COMMITS_MAX`` or ``PENDING_BYTES_MAX`` allow. Where it is
    cancelled, the commit happens wholly or not at all: not, if it had not begun.
    """
    loop = running_loop()
    inbox: LoopInbox | None = engine.inbox
    if inbox is None or inbox.loop() is not loop:
        inbox = engine.inbox = _inbox_of(engine, loop)
    future: Future[Committed] = loop.create_future()
    ticket = _Awaited(request, inbox, future)
    try:
        inbox.hand_in(ticket, engine)
        return await future
    except BaseException:
        inbox.give_up(ticket)
        raise
    finally:
        del future  # an error's traceback keeps this frame, and the future keeps its error


def waiting_for_room(engine: Engine) -> int:
    """Commits that wait for room in their event loop's share (``PENDING_COMMITS_MAX``), and are in no queue yet."""
    while True:
        try:
            return sum(inbox.waiting for inbox in list(engine.inboxes.values()))
        except RuntimeError:  # another loop came or went meanwhile
            continue


def _inbox_of(engine: Engine, loop: AbstractEventLoop) -> LoopInbox:
    inbox: LoopInbox | None = engine.inboxes.get(loop)
    if inbox is None:
        for other in list(engine.inboxes):
            if other.is_closed():  # what waited for room there kept it alive
                engine.inboxes.pop(other, None)
        inbox = engine.inboxes[loop] = LoopInbox(loop)
    return inbox


class _Awaited(Ticket):
    """A ticket and who awaits it; None once nobody does any more."""

    __slots__ = ("future",)

    def __init__(self, request: CommitRequest, inbox: LoopInbox, future: Future[Committed]) -> None:
        super().__init__(request, inbox)
        self.future: Future[Committed] | None = future


class LoopInbox:
    """The commits of one event loop: those under way, and behind them those that wait for room.

    They are handed in by the inbox itself and in the order in which they came, so that a later one of the same caller
    never overtakes. All but ``deliver`` and ``give_up`` is called on the loop's thread only.
    """

    def __init__(self, loop: AbstractEventLoop) -> None:
        self.loop = weakref.ref(loop)
        self.commits = 0
        """Handed in and not delivered yet; a withdrawn one counts until the helper has passed it."""
        self.bytes = 0
        self._waiting: OrderedDict[_Awaited, Engine] = OrderedDict()

    @property
    def waiting(self) -> int:
        """Commits that wait for room."""
        return len(self._waiting)

    def hand_in(self, ticket: _Awaited, engine: Engine) -> None:
        """Begin a commit, or let it wait for room. Raises what ``Engine.submit`` does."""
        if self._waiting or self._has_no_room():
            self._waiting[ticket] = engine
        else:
            self._submit(ticket, engine)

    def give_up(self, ticket: _Awaited) -> None:
        """Nobody awaits it any more: it is not written, unless its commit has begun. The garbage collector may call this,
        on any thread."""
        ticket.future = None
        self._waiting.pop(ticket, None)
        ticket.withdraw()

    def _submit(self, ticket: _Awaited, engine: Engine) -> None:
        engine.submit(ticket)
        self.commits += 1
        self.bytes += ticket.payload_bytes

    def _has_no_room(self) -> bool:
        return self.commits >= limits.PENDING_COMMITS_MAX or self.bytes >= limits.PENDING_BYTES_MAX

    def deliver(self, tickets: list[Any], /) -> None:
        """Outcomes of a group commit: see ``Inbox``."""
        loop = self.loop()
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody awaits them
                loop.call_soon_threadsafe(self._settle, tickets)

    def _settle(self, tickets: list[_Awaited]) -> None:
        for ticket in tickets:
            self.commits -= 1
            self.bytes -= ticket.payload_bytes
            future = ticket.future
            if future is None or future.done():  # cancelled when the commit had begun
                continue
            if ticket.error is not None:
                _fail(future, ticket.error)
                ticket.error = None
            elif ticket.committed is not None:
                future.set_result(ticket.committed)
        while self._waiting and not self._has_no_room():
            ticket, engine = self._waiting.popitem(last=False)
            try:
                self._submit(ticket, engine)
            except Exception as exc:  # noqa: BLE001 - its own outcome: the store was closed meanwhile
                future = ticket.future
                if future is not None and not future.done():
                    _fail(future, exc)


def _fail(future: Future[Committed], error: BaseException) -> None:
    if isinstance(error, StopIteration):  # no future can hold it
        wrapped = RuntimeError("a commit raised StopIteration")
        wrapped.__cause__ = error
        error = wrapped
    future.set_exception(error)
