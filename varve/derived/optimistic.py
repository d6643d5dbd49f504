"""``db.optimistic``: a function decides on what it reads, its commit asks whether that still holds, and where it does not, the
function decides again.

The first time it runs without any lock, so many threads decide at once and share group commits. Where it finds itself
overtaken, it runs again at once inside the very write transaction that found that out, on what is then the very latest: that
cannot be overtaken, and nobody else in the group notices. Only where it reads streams while others of the group have appended
(what no snapshot shows yet) it comes back, pauses for a moment, and begins anew.
"""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

from varve import limits
from varve.engine.request import CommitRequest
from varve.errors import InvalidInput, TransactionConflict
from varve.state.reads import company
from varve.tailing.commits import commit_async
from varve.transaction import Transaction, WriteTransaction, check_result

if TYPE_CHECKING:
    from varve.appends import Metadata
    from varve.bindings import Bindings
    from varve.engine.commit import Session
    from varve.engine.core import Engine
    from varve.engine.request import Committed
    from varve.layout.keys import IdempotencyKey

R = TypeVar("R")

_WHOSE: Final = "db.optimistic(fn)"


class Decision(NamedTuple):
    """What a run of the function has come to: its transaction (None: nothing to settle) and what it gave."""

    tx: Transaction | None
    result: Any


class Optimistic(Generic[R]):
    """One call of ``db.optimistic``."""

    def __init__(
        self,
        engine: Engine,
        bindings: Bindings,
        fn: Callable[[Transaction], R],
        retries: int | None,
        key: IdempotencyKey | None,
        metadata: Metadata | None,
        rng: random.Random | None,
        make: Callable[..., Transaction] = Transaction,
        make_inside: Callable[..., WriteTransaction] = WriteTransaction,
    ) -> None:
        if not callable(fn):
            raise InvalidInput(f"db.optimistic takes a function of the transaction, not {fn!r:.80}")
        if retries is None:
            retries = limits.OPTIMISTIC_RETRIES
        if type(retries) is not int or retries < 0:
            raise InvalidInput(f"retries is a number of runs after the first one, from 0 on, not {retries!r}")
        self._engine = engine
        self._bindings = bindings
        self._fn = fn
        self._retries = retries
        self._key = key
        self._metadata = metadata
        self._rng = rng
        self._make = make  # a scoped handle has transactions of its own
        self._make_inside = make_inside
        self._runs = 0
        self._decision = self._first = Decision(None, None)

    def run(self, sleep: Callable[[float], object] = time.sleep) -> R:
        """Decide and commit, until nobody was faster."""
        while True:
            request = self._decide()
            if request is None:
                return self._taken()
            try:
                return self._settled(self._engine.commit(request))
            except TransactionConflict as exc:
                sleep(self._pause_s(exc))

    async def run_async(self, sleep: Callable[[float], Awaitable[object]] | None) -> R:
        """The same without blocking the event loop."""
        if sleep is None:
            import asyncio

            sleep = asyncio.sleep
        while True:
            request = self._decide()
            if request is None:
                return self._taken()
            try:
                return self._settled(await commit_async(self._engine, request))
            except TransactionConflict as exc:
                await sleep(self._pause_s(exc))

    # -- inside ------------------------------------------------------------------------------------

    def _decide(self) -> CommitRequest | None:
        """Run the function; what it wants to commit, if anything."""
        tx = self._make(self._engine, self._key, self._metadata, self._bindings)
        tx._belongs_to = _WHOSE  # noqa: SLF001 - the same library
        try:
            self._first = self._call(tx)
            request = tx._request() if tx._open else None  # noqa: SLF001
        finally:
            tx._end()  # noqa: SLF001
        if request is not None and request.checks and self._runs <= self._retries:
            context = copy_context()
            request.again = lambda session: context.run(self._decide_again, session)
            request.checks = [self._return_to_first, *request.checks]
        return request

    def _return_to_first(self, _: Session | None = None) -> None:
        """The request is tried: perhaps anew, alone, where the group of the last try could not be committed. What ``fn`` made of
        that group is void then."""
        self._decision = self._first

    def _decide_again(self, session: Session) -> CommitRequest:
        """Run the function inside a write transaction, where nobody can be faster."""
        tx = self._make_inside(self._engine, self._bindings, session, self._key, self._metadata)
        tx._belongs_to = _WHOSE  # noqa: SLF001 - the same library
        try:
            decision = self._call(tx)
            request = tx._handed_in()  # noqa: SLF001
            self._decision = decision if request is not None else Decision(None, decision.result)
            return request or CommitRequest([])
        except Exception as exc:
            if tx._spoiled:  # noqa: SLF001 - whatever fn has made of it: it was not given what it asked for
                raise company() from exc
            raise
        finally:
            tx._abandon()  # noqa: SLF001

    def _call(self, tx: Transaction) -> Decision:
        self._runs += 1
        result = self._fn(tx)
        check_result(result, "it may run inside a commit, which cannot wait. Wait before it, or use db.transaction()")
        self._decision = decision = Decision(tx, result)
        return decision

    def _settled(self, committed: Committed) -> R:
        if committed.replayed:  # without a look at the checks
            self._return_to_first()
        tx = self._decision.tx
        if tx is not None:
            tx._settle(committed)  # noqa: SLF001 - the same library
        return self._taken()

    def _taken(self) -> R:
        result: R = self._decision.result
        self._decision = self._first = Decision(None, None)
        return result

    def _pause_s(self, exc: TransactionConflict) -> float:
        """How long to wait after a conflict: by chance, so that those who met do not meet again. Raises it where it was the
        last."""
        if self._runs > self._retries:
            exc.attempts = self._runs
            exc.add_note(f"db.optimistic ran its function {self._runs} times; each time somebody else was faster")
            raise exc
        longest_s = min(limits.OPTIMISTIC_PAUSE_S * 2 ** min(self._runs, 32), limits.OPTIMISTIC_PAUSE_S_MAX)
        rng = random.SystemRandom() if self._rng is None else self._rng
        return float(rng.random() * longest_s)
