"""Awaiting commits: what ``append_async`` and its kin hand in, and how the outcomes come back to their event loop.

Each loop has an inbox per open store. A group commit delivers to it once, with one call into the loop, however many of
the loop's appends it held.
"""

from __future__ import annotations

import contextlib
import weakref
from collections import deque
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
    inbox: LoopInbox | None = engine.inboxes.get(loop)
    if inbox is None:
        inbox = engine.inboxes[loop] = LoopInbox(loop)
    if inbox.is_full:
        await inbox.wait_for_room(loop)
    else:
        inbox.commits += 1
    ticket = _Awaited(request, inbox, loop.create_future())
    inbox.bytes += ticket.payload_bytes
    try:
        engine.submit(ticket)
        return await ticket.future
    except BaseException:
        if ticket.claim():  # refused at once, or cancelled in time: it is not written, and nobody delivers it
            inbox.left(ticket)
        raise


class _Awaited(Ticket):
    """A ticket and who awaits it."""

    __slots__ = ("future",)

    def __init__(self, request: CommitRequest, inbox: LoopInbox, future: Future[Committed]) -> None:
        super().__init__(request, inbox)
        self.future = future


class LoopInbox:
    """The commits of one event loop that are under way. Only ``deliver`` is called by other threads."""

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = weakref.ref(loop)
        self.commits = 0
        self.bytes = 0
        self._waiting: deque[Future[None]] = deque()

    def deliver(self, tickets: list[Any], /) -> None:
        """Outcomes of a group commit: see ``Inbox``."""
        loop = self._loop()
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop was closed: nobody awaits them
                loop.call_soon_threadsafe(self._settle, tickets)

    def _settle(self, tickets: list[_Awaited]) -> None:
        for ticket in tickets:
            self.commits -= 1
            self.bytes -= ticket.payload_bytes
            future = ticket.future
            if future.done():  # cancelled when the commit had begun
                continue
            if ticket.error is not None:
                future.set_exception(ticket.error)
            else:
                future.set_result(ticket.outcome())
        self._admit()

    def left(self, ticket: _Awaited) -> None:
        """A ticket that is not under way any more, and was not delivered."""
        self.commits -= 1
        self.bytes -= ticket.payload_bytes
        self._admit()

    # -- back-pressure -----------------------------------------------------------------------------

    @property
    def is_full(self) -> bool:
        """Whether a commit has to wait before it is handed in; behind those who wait already."""
        return bool(self._waiting) or self._has_no_room()

    def _has_no_room(self) -> bool:
        return self.commits >= limits.PENDING_COMMITS_MAX or self.bytes >= limits.PENDING_BYTES_MAX

    async def wait_for_room(self, loop: AbstractEventLoop) -> None:
        """Wait in order of arrival; whoever is let in counts as under way from then on."""
        turn: Future[None] = loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():  # let in, and cancelled before it could run
                self.commits -= 1
                self._admit()
            raise

    def _admit(self) -> None:
        while self._waiting and not self._has_no_room():
            turn = self._waiting.popleft()
            if not turn.done():  # not cancelled
                self.commits += 1
                turn.set_result(None)
