"""Processors: handlers that are called for events, exactly once as far as what they do is in the store."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar

from varve import limits
from varve.derived.processors.breaker import BreakerState, CircuitBreaker
from varve.derived.processors.control import Control, ended
from varve.derived.processors.dead_letters import DeadLetters
from varve.derived.processors.handling import Handling
from varve.derived.processors.run import AutoReplay, Counts, Run, Setup, Waiting
from varve.derived.processors.strategies import check_strategy
from varve.errors import HandleUnusable, InvalidInput
from varve.tailing.consumer import Consumer, resolve_start
from varve.tailing.hub import hub_of
from varve.tailing.loops import running_loop
from varve.tailing.positions import load
from varve.tailing.tail import check_batch
from varve.tailing.watcher import check_timeout

if TYPE_CHECKING:
    import asyncio

    from varve.bindings import Bindings
    from varve.derived.processors.strategies import Strategy
    from varve.engine.core import Engine
    from varve.tailing.scan import Selection
    from varve.tailing.start import TailStart

T = TypeVar("T")

ProcessorState = Literal["stopped", "running", "paused", "failed"]


@dataclass(frozen=True, slots=True)
class ProcessorStatus:
    """How a processor does. Counts begin at 0 when it is made; what was not committed does not count, but for failures."""

    name: str
    state: ProcessorState
    """``"stopped"``: it is not run by this object. ``"failed"``: its last run ended with ``error``."""
    error: BaseException | None
    """What its last run ended with; None where it did not fail."""
    waiting: Waiting | None
    """What it waits for: ``"events"``, ``"retry"`` (a strategy's wait) or ``"breaker"``; None where it does not wait."""
    breaker: BreakerState | None
    """The state of its circuit breaker, None where it has none."""
    position: int
    """The next global sequence: everything before it is done, skipped, or kept as a letter."""
    lag: int
    """Events of the log from there to its end, whether they are for it or not."""
    handled: int
    """Events whose handler succeeded and whose effects are committed, replayed letters included."""
    failed: int
    """Calls of handlers that failed, and effects that the store refused."""
    retried: int
    """Failures that a strategy answered with a wait."""
    skipped: int
    """Events that were given up."""
    dead_lettered: int
    """Events that became dead letters."""
    parked: int
    """Events that were put behind a dead letter of their stream."""
    replayed: int
    """Letters that were handled after all."""
    conflicts: int
    """Commits that were refused since somebody else was faster or wanted something else; their events were handled again."""


@dataclass(frozen=True, slots=True)
class RetryReport:
    """What became of dead letters that were tried again."""

    handled: tuple[int, ...]
    """Global sequences of those that are gone: handled, or dropped by somebody meanwhile."""
    left: tuple[int, ...]
    """Of those that failed again, or were not reached."""


class Processor:
    """Handlers for events of a store, a durable position, and what to do when a handler fails. Made by ``db.processor(name)``.

    It owns its consumer while it runs, and only then. ``await run()`` runs it in a task, ``run_blocking()`` in a thread;
    ``async with processor`` and ``with processor`` run it beside the block, in a task or in a thread, and stop it at the end.
    ``pause``, ``resume``, ``stop`` and everything that asks may be called from any thread.
    """

    def __init__(
        self,
        engine: Engine,
        selection: Selection,
        bindings: Bindings,
        name: str,
        handling: Handling,
        *,
        strategy: Strategy,
        start: TailStart,
        batch: int,
        breaker: CircuitBreaker | None,
        auto_replay: AutoReplay | None,
        member: int,
        members: int,
        force: bool,
        clock: Callable[[], int] | None,
        sleep: Callable[[float], Awaitable[object]] | None,
    ) -> None:
        _check_kind("breaker", breaker, CircuitBreaker)
        _check_kind("auto_replay", auto_replay, AutoReplay)
        _check_function("clock", clock)
        _check_function("sleep", sleep)
        self._engine = engine
        self._selection = selection
        self._start = start
        self._consumer_options: dict[str, Any] = {"member": member, "members": members, "force": force}
        self._breaker = breaker
        self._counts = Counts()
        self._setup = Setup(
            engine,
            bindings,
            name,
            handling,
            check_strategy(strategy),
            selection.view_class,
            check_batch(batch),
            breaker,
            auto_replay,
            clock or engine.clock,
            sleep or _sleep,
            self._counts,
        )
        self._control = Control()
        self._lock = threading.Lock()
        self._running: object | None = None  # the run that it is claimed for
        self._error: BaseException | None = None
        self._consumer: Consumer[Any] | None = None
        self._walks: list[Future[None]] = []
        self._task: asyncio.Task[None] | None = None
        self._thread: threading.Thread | None = None

    # -- about -------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name, which is that of its consumer."""
        return self._setup.name

    @property
    def state(self) -> ProcessorState:
        """Whether it runs, is paused, has ended or failed."""
        if self._running is not None:
            return "paused" if self._control.paused else "running"
        return "stopped" if self._error is None else "failed"

    @property
    def position(self) -> int:
        """The stored position: where it goes on."""
        consumer = self._consumer
        if consumer is not None:
            return consumer.committed
        record = load(self._engine, self.name)
        return resolve_start(self._engine, self._start) if record is None else record.position

    @property
    def lag(self) -> int:
        """Events of the log from ``position`` to its end, whether they are for it or not."""
        position = self.position
        with self._engine.snapshot() as snapshot:
            return max(0, snapshot.next_sequence - position)

    @property
    def status(self) -> ProcessorStatus:
        """All about it at once."""
        made: Counter[str] = self._counts.made
        breaker = self._breaker
        return ProcessorStatus(
            self.name,
            self.state,
            self._error,
            self._counts.waiting,
            None if breaker is None else breaker.state,
            self.position,
            self.lag,
            made["handled"],
            made["failed"],
            made["retried"],
            made["skipped"],
            made["dead_lettered"],
            made["parked"],
            made["replayed"],
            made["conflicts"],
        )

    @property
    def dead_letters(self) -> DeadLetters:
        """What it could not handle, and what waits behind that."""
        return DeadLetters(self._engine, self.name, self._setup.bindings.view_class, self._control.ring)

    def __repr__(self) -> str:
        return f"<Processor {self.name!r} of {self._engine.path} ({self.state})>"

    # -- controlling -------------------------------------------------------------------------------

    def pause(self) -> None:
        """Handle nothing from the next event on; what was handled is committed, the consumer stays its own."""
        self._control.set(paused=True)

    def resume(self) -> None:
        """Go on."""
        self._control.set(paused=False)

    def stop(self) -> None:
        """End the run after the event that is being handled, what was handled being committed; a wait ends at once. Returns
        before that; nothing happens where it does not run."""
        self._control.set(stopping=True)

    # -- running -----------------------------------------------------------------------------------

    async def run(self, timeout_s: float | None = None) -> None:
        """Handle what is there and what comes, until it is stopped; ``timeout_s``: or until nothing came for so long.

        Takes its consumer, blocking for one commit, and lets it go at the end. Where it is cancelled, the batch that is under
        way happens wholly or not at all. Raises ``ProcessorFailed`` where its strategy says so, ``ConsumerBusy``,
        ``ConsumerFenced``, ``HandleUnusable`` where it runs already, and what reading and committing raise.
        """
        check_timeout(timeout_s)
        await self._run(self._claim(), lambda run: run.work(None, timeout_s))

    async def catch_up(self) -> int:
        """Handle everything that is in the log now, letters that are due included; the number of events handled.

        Raises as ``run``.
        """
        with self._engine.snapshot() as snapshot:
            stop = snapshot.next_sequence
        hub_of(self._engine).watermark.rise(stop)
        before = self._counts.made["handled"]
        await self._run(self._claim(), lambda run: run.work(stop, None))
        return self._counts.made["handled"] - before

    async def retry(self, global_sequence: int | None = None) -> RetryReport:
        """Try a dead letter again now, or all of them, and handle what waits behind those that succeed.

        Effects of its handler and the letter's removal are one commit. Where the processor runs in this process, it does so
        at its next step (a paused one when it is resumed); else it is run for that. Raises as ``run``, and as
        ``DeadLetters.retry``.
        """
        import asyncio

        letters = self.dead_letters
        if global_sequence is None:
            asked = [info.global_sequence for info in letters.list("dead")]
            letters.retry_all()
        else:
            asked = [global_sequence] if letters.retry(global_sequence) else []
        walk: Future[None] | None = None
        with self._lock:
            if self._running is not None:
                walk = Future()
                self._walks.append(walk)
        if walk is not None:
            self._control.ring()
            await asyncio.wrap_future(walk)
        elif asked:
            await self._run(self._claim(), lambda run: run.walk_letters())
        left = {info.global_sequence for info in letters.list()}
        return RetryReport(
            tuple(sequence for sequence in asked if sequence not in left),
            tuple(sequence for sequence in asked if sequence in left),
        )

    def run_blocking(self, timeout_s: float | None = None) -> None:
        """``run`` for a thread, which it blocks: in an event loop of its own."""
        self._blocking(self.run, timeout_s)

    def catch_up_blocking(self) -> int:
        """``catch_up`` for a thread, which it blocks."""
        return self._blocking(self.catch_up)

    def retry_blocking(self, global_sequence: int | None = None) -> RetryReport:
        """``retry`` for a thread, which it blocks."""
        return self._blocking(self.retry, global_sequence)

    def _blocking(self, run: Callable[..., Coroutine[Any, Any, T]], *arguments: Any) -> T:
        import asyncio

        if _runs_a_loop():
            raise InvalidInput(f"an event loop is running in this thread: await processor.{run.__name__}() there")
        return asyncio.run(run(*arguments))

    def _claim(self) -> object:
        """It runs from now on, for what this gives."""
        with self._lock:
            if self._running is not None:
                raise HandleUnusable(f"processor {self.name!r} runs already; make another one to run elsewhere")
            self._running = claim = object()
            self._error = None
            self._control.stopping = False
        return claim

    def _let_go(self, claim: object) -> None:
        """The run that it was claimed for has ended, or never began."""
        with self._lock:
            if self._running is not claim:
                return
            self._running = None
            walks, self._walks = self._walks, []
        _settle(walks)

    async def _run(self, claim: object, work: Callable[[Run], Awaitable[None]]) -> None:
        """Own the consumer and work, for a claim."""
        import asyncio

        try:
            self._control.attach()
            async with self._owned() as consumer:
                self._consumer = consumer
                run = Run(self._setup, consumer, self._control)
                run.asked = self._asked
                run.walked = self._walked
                await work(run)
        except asyncio.CancelledError:
            raise
        except BaseException as exc:
            self._error = exc
            raise
        finally:
            self._consumer = None
            self._control.detach()
            self._let_go(claim)

    def _owned(self) -> Consumer[Any]:
        return Consumer(
            self._engine,
            self._selection,
            self.name,
            start=self._start,
            commit="manual",
            interval_s=limits.CONSUMER_STORE_INTERVAL_S,
            **self._consumer_options,
        )

    def _asked(self) -> int:
        """How many wait for letters to be tried."""
        return len(self._walks)

    def _walked(self, waited: int) -> None:
        """The letters were walked over, for so many who had asked before."""
        with self._lock:
            walks, self._walks = self._walks[:waited], self._walks[waited:]
        _settle(walks)

    # -- beside a block ------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        import asyncio

        claim = self._claim()
        work = self._run(claim, lambda run: run.work(None, None))
        self._task = asyncio.create_task(work, name=f"processor {self.name}")
        self._task.add_done_callback(lambda _: self._let_go(claim))  # cancelled before it began, it has not done so
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        import asyncio

        self.stop()
        task, self._task = self._task, None
        assert task is not None
        try:
            await asyncio.wait({task})
        except BaseException:
            await ended(task)
            raise
        if not task.cancelled() and (failure := task.exception()) is not None and kind is None:
            raise failure

    def __enter__(self) -> Self:
        claim = self._claim()
        self._thread = threading.Thread(
            target=self._in_thread, args=(claim,), name=f"processor {self.name}", daemon=True
        )
        try:
            self._thread.start()
        except BaseException:
            self._let_go(claim)
            raise
        return self

    def _in_thread(self, claim: object) -> None:
        import asyncio

        work = self._run(claim, lambda run: run.work(None, None))
        try:
            asyncio.run(work)
        except BaseException as exc:  # noqa: BLE001 - raised where the block ends
            self._error = exc
        finally:
            work.close()  # where no event loop could be made for it
            self._let_go(claim)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()
        thread, self._thread = self._thread, None
        assert thread is not None
        thread.join()
        if self._error is not None and kind is None:
            raise self._error


def _check_kind(name: str, value: object, kind: type) -> None:
    if value is not None and not isinstance(value, kind):
        raise InvalidInput(f"{name} is a varve.{kind.__name__}, not {value!r:.80}")


def _check_function(name: str, value: object) -> None:
    if value is not None and not callable(value):
        raise InvalidInput(f"{name} is a function, not {value!r:.80}")


async def _sleep(seconds: float) -> None:
    import asyncio

    await asyncio.sleep(seconds)


def _runs_a_loop() -> bool:
    try:
        running_loop()
    except RuntimeError:
        return False
    return True


def _settle(walks: list[Future[None]]) -> None:
    for walk in walks:
        if walk.set_running_or_notify_cancel():  # else nobody waits any more
            walk.set_result(None)


async def run_processors(*processors: Processor) -> None:
    """Run several processors at once, in this event loop, until all have ended: stopped, or cancelled with the task.

    Where one fails, the others are stopped, what they handled being committed, and its error is raised; of several that fail
    at once an ``ExceptionGroup``.
    """
    import asyncio

    tasks = [asyncio.ensure_future(processor.run()) for processor in processors]
    if not tasks:
        return
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
    except BaseException:
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        raise
    for processor in processors:
        processor.stop()
    await asyncio.wait(tasks)
    failures = [failure for task in tasks if not task.cancelled() and (failure := task.exception()) is not None]
    if len(failures) == 1:
        raise failures[0]
    if failures:
        raise BaseExceptionGroup("processors failed", failures)
