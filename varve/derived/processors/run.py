"""One run of a processor: from taking its consumer to letting it go.

Events are handled a batch at a time, each with a savepoint of its own, and what their handlers did is committed together with
the position behind them. Where one fails, what came before it is committed, so that nothing is held while the strategy lets it
wait. Everything happens in one task, so letters and events never overtake each other.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple

from varve import limits
from varve.derived.processors.backoff import check_seconds, exponential_wait
from varve.derived.processors.control import Control, ended
from varve.derived.processors.handling import Batched, HandlerTransaction, call, cancelled_within
from varve.derived.processors.letters import (
    Book,
    LetterGone,
    Put,
    Replace,
    Take,
    failed_again,
    parked_letter,
    shown,
    type_name_of,
)
from varve.derived.processors.strategies import DeadLetter, FailFast, RetryIn, Skip, decide
from varve.errors import (
    Archived,
    ConsumerFenced,
    CorruptedBlock,
    EventDropped,
    HandleUnusable,
    InvalidInput,
    ProcessorFailed,
    TransactionConflict,
    VarveError,
)
from varve.gaps import Gap
from varve.logs import WARNING, say
from varve.replay import recorded_at
from varve.tailing.loops import others

if TYPE_CHECKING:
    import asyncio

    from varve.bindings import Bindings
    from varve.derived.processors.breaker import CircuitBreaker
    from varve.derived.processors.handling import Handler, Handling
    from varve.derived.processors.strategies import Decision, Strategy
    from varve.engine.core import Engine
    from varve.layout.dead_letters import LetterRecord
    from varve.record import Recorded
    from varve.replay import ViewClass
    from varve.tailing.consumer import Consumer
    from varve.transaction import Mark

_CONFLICT_WAIT: Final = exponential_wait(0.0005, max_s=0.05, jitter=1.0)
"""Before a batch is handled again since what it read has changed."""

Waiting = Literal["events", "retry", "breaker"]


@dataclass(frozen=True, slots=True)
class AutoReplay:
    """When a processor tries its dead letters again by itself."""

    every_s: float | None = 60.0
    """Seconds since a letter failed last; None: only at the start."""
    at_start: bool = False
    """Whether each run begins with all of them."""
    attempts_max: int = 10
    """Failed calls of the handler, those before it became a dead letter counted, after which a letter is left alone."""

    def __post_init__(self) -> None:
        if self.every_s is not None:
            check_seconds("every_s", self.every_s)
        if not isinstance(self.at_start, bool):
            raise InvalidInput(f"at_start is True or False, not {self.at_start!r:.80}")
        attempts = self.attempts_max
        if isinstance(attempts, bool) or not isinstance(attempts, int) or attempts < 1:
            raise InvalidInput(f"attempts_max is a number of calls from 1 on, not {attempts!r}")


class Counts:
    """What a processor has done since it was made."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.waiting: Waiting | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """What a processor is made of, as its runs need it."""

    engine: Engine
    bindings: Bindings
    name: str
    handling: Handling
    strategy: Strategy
    view_class: ViewClass
    batch: int
    breaker: CircuitBreaker | None
    auto_replay: AutoReplay | None
    clock: Callable[[], int]
    sleep: Callable[[float], Awaitable[object]]
    counts: Counts


class _Failure(NamedTuple):
    """A handler failed."""

    error: Exception


class _Refused(NamedTuple):
    """What handlers wanted cannot be committed."""

    error: Exception


class _Breaker(NamedTuple):
    """The circuit breaker lets no call pass."""


class _Again(NamedTuple):
    """Somebody else was faster: handle it once more, in a moment."""

    conflicts: int


@dataclass(slots=True)
class _Work:
    """A batch on its way."""

    events: list[Recorded[Any]]
    end: int
    """The position behind it."""
    at: int = 0
    """Events before it are committed."""
    single_until: int = 0
    """Handlers that take lists are given events before it one by one: they failed for a list."""
    attempts: int = 0
    """Of the event at ``at`` that failed."""
    first_failed_ns: int = 0
    conflicts: int = 0
    settled: dict[int, Skip | LetterRecord] = field(default_factory=dict)
    """What the strategy has said about events."""

    def position(self, at: int) -> int:
        """The position in front of an event."""
        return self.end if at == len(self.events) else self.events[at].global_sequence

    def went_on(self, at: int) -> None:
        """What is before it is committed."""
        if at > self.at:
            self.at, self.attempts, self.first_failed_ns, self.conflicts = at, 0, 0, 0


class _New:
    """Letters that a transaction brings."""

    def __init__(self) -> None:
        self.letters: list[tuple[int, LetterRecord]] = []
        self._blocked: set[tuple[str, object]] = set()

    def add(self, sequence: int, letter: LetterRecord) -> None:
        """One more."""
        self.letters.append((sequence, letter))
        if letter.blocks:
            self._blocked.add((letter.stream, letter.stream_id))

    def blocks(self, recorded: Recorded[Any]) -> bool:
        """Whether an event has to wait behind one of them."""
        return bool(self._blocked) and (recorded.stream, recorded.stream_id) in self._blocked


class Run:
    """A run, in the task that awaits ``work``."""

    def __init__(self, setup: Setup, consumer: Consumer[Any], control: Control) -> None:
        self._setup = setup
        self._engine = setup.engine
        self._consumer = consumer
        self._control = control
        self._made = setup.counts.made
        self.book = Book(setup.engine, setup.name, consumer.partitions)
        self._reading: asyncio.Future[list[Recorded[Any]]] | None = None
        self._idle: asyncio.Future[Any] | None = None
        self._due_ns: int | None = None
        self._together = (
            setup.batch
        )  # events of a commit at most: halved when one is refused, doubled when one succeeds
        self._looking: set[int] = set()  # ids of handlers that look at what is stored: see HandlerTransaction.looks
        self.asked: Callable[[], int] = _nobody
        """How many wait for a walk over the letters."""
        self.walked: Callable[[int], None] = _nothing
        """Called after one with how many had waited."""

    # -- the loop ----------------------------------------------------------------------------------

    async def work(self, stop: int | None, idle_s: float | None) -> None:
        """Until it shall stop; until everything before ``stop`` is done; or until nothing has come for so long."""
        try:
            await self.walk_letters(at_start=True)
            while await self._may_go_on():
                if stop is not None and self._consumer.committed >= stop:
                    return
                await self._look_at_letters()
                events = await self._next(stop, idle_s)
                if events is None:
                    return
                if events:
                    await self._handle(_Work(events, self._consumer.position))
                elif stop is not None and self._consumer.position >= stop:
                    return
        finally:
            self._setup.counts.waiting = None
            for task in (self._reading, self._idle):
                await ended(task)

    async def _may_go_on(self) -> bool:
        """Wait while it is paused; False where it shall stop."""
        control = self._control
        while control.paused and not control.stopping:
            await control.wait()
        return not control.stopping

    async def _next(self, stop: int | None, idle_s: float | None) -> list[Recorded[Any]] | None:
        """Events; none where something else is to be looked at; None where it is time to end."""
        import asyncio

        if self._reading is None:
            events = await self._consumer.next_batch(self._setup.batch, stop or 0)
            if events or stop is not None:
                return events
            self._reading = asyncio.ensure_future(self._consumer.next_batch(self._setup.batch))
        sleep = self._setup.sleep
        if idle_s is not None and self._idle is None:
            self._idle = asyncio.ensure_future(sleep(idle_s))
        look = asyncio.ensure_future(sleep(limits.DEAD_LETTER_LOOK_S)) if len(self.book) else None
        self._setup.counts.waiting = "events"
        try:
            await self._control.wait(*(task for task in (self._reading, self._idle, look) if task is not None))
        finally:
            self._setup.counts.waiting = None
            await ended(look)
        if self._reading.done() and not self._control.paused and not self._control.stopping:
            reading, self._reading = self._reading, None
            idle, self._idle = self._idle, None
            await ended(idle)
            return reading.result()
        return None if self._idle is not None and self._idle.done() else []

    async def _pause(self, waiting: Waiting, seconds: float) -> None:
        """Wait, with nothing held."""
        self._setup.counts.waiting = waiting
        try:
            await self._control.pause(self._setup.sleep, seconds)
        finally:
            self._setup.counts.waiting = None

    # -- events ------------------------------------------------------------------------------------

    async def _handle(self, work: _Work) -> None:
        while work.at < len(work.events) and await self._may_go_on():
            await self._step(work)

    async def _step(self, work: _Work) -> None:
        """Handle and commit what goes well, up to what does not."""
        done: Counter[str] = Counter()
        new = _New()
        tx = HandlerTransaction(self._engine, self._setup.bindings)
        try:
            trouble: _Failure | _Breaker | _Again | None
            at, trouble = await self._fill(tx, work, done, new)
            if at > work.at:
                refused = await self._commit(tx, work.position(at))
                if refused is not None:
                    at, trouble = self._refused(work, at, refused, handled=done["handled"] > 0)
                else:
                    work.went_on(at)
                    self._together = min(self._together * 2, self._setup.batch)
                    self._made += done
                    for sequence, letter in new.letters:
                        self.book.put(sequence, letter)
        finally:
            tx.forget()
        if isinstance(trouble, _Breaker):
            await self._wait_for_breaker()
        elif isinstance(trouble, _Again):
            await self._pause("retry", _CONFLICT_WAIT(trouble.conflicts))
        elif trouble is not None:
            await self._failed(work, trouble.error)

    async def _fill(
        self, tx: HandlerTransaction, work: _Work, done: Counter[str], new: _New
    ) -> tuple[int, _Failure | _Breaker | None]:
        """Handle events into a transaction: up to which, and why no further."""
        events, at, control, handler_of = work.events, work.at, self._control, self._setup.handling.of
        end = min(len(events), at + self._together)
        nothing_kept = not (len(self.book) or work.settled)  # so that nothing stands for any event, or in its way
        until_s = (now_s := time.monotonic()) + limits.PROCESSOR_COMMIT_S
        turn_until_s = now_s + limits.TAIL_TURN_S_MAX
        while at < end:
            recorded = events[at]
            handler = handler_of(recorded)
            if handler is None or not (nothing_kept or self._is_free(recorded, tx, work.settled.get(at), done, new)):
                at += 1
            elif at > work.at and id(handler) in self._looking:
                break
            else:
                group = [recorded]
                if isinstance(handler, Batched) and at >= work.single_until:
                    group = self._setup.handling.together(handler, events, at, end, self._held(new))
                mark = tx._mark()  # noqa: SLF001 - the same library
                trouble = await self._call(tx, mark, handler, group)
                if trouble is not None:
                    if isinstance(trouble, _Failure) and len(group) > 1:
                        work.single_until = at + len(group)  # which of them it was shows one by one
                        trouble = None
                    return at, trouble
                if tx.looks:
                    self._looking.add(id(handler))
                    if at > work.at:  # it did not see what stands before it in this commit
                        tx._return_to(mark)  # noqa: SLF001
                        break
                at += len(group)
                done["handled"] += len(group)
            if (
                tx.looks
                or (now_s := time.monotonic()) >= until_s
                or control.is_wanted
                or tx.size >= limits.PROCESSOR_BYTES_MAX
            ):
                break
            if now_s >= turn_until_s:
                await others()
                turn_until_s = time.monotonic() + limits.TAIL_TURN_S_MAX
        return at, None

    def _is_free(
        self,
        recorded: Recorded[Any],
        tx: HandlerTransaction,
        settled: Skip | LetterRecord | None,
        done: Counter[str],
        new: _New,
    ) -> bool:
        """Whether a handler is to be called for an event: not where the strategy has decided about it (``settled``), a letter
        stands for it, or it waits behind one; the letters of the first and the last go into the transaction."""
        sequence = recorded.global_sequence
        letter: LetterRecord
        if settled is None:
            if sequence in self.book:
                return False
            if not self._waits(recorded, new):
                return True
            letter, what = parked_letter(recorded), "parked"
        elif isinstance(settled, Skip):
            done["skipped"] += 1
            return False
        else:
            letter, what = settled, "dead_lettered"
        tx.ride(Put(self._setup.name, sequence, letter))
        new.add(sequence, letter)
        done[what] += 1
        return False

    def _waits(self, recorded: Recorded[Any], new: _New) -> bool:
        """Whether an event stands behind a letter of its stream, one of this very transaction included."""
        return self.book.blocks(recorded) or new.blocks(recorded)

    def _held(self, new: _New) -> Callable[[Recorded[Any]], bool]:
        return lambda recorded: recorded.global_sequence in self.book or self._waits(recorded, new)

    async def _call(
        self, tx: HandlerTransaction, mark: Mark, handler: Handler | Batched, events: list[Recorded[Any]]
    ) -> _Failure | _Breaker | None:
        """Call a handler; where it fails, the transaction returns to the mark."""
        breaker = self._setup.breaker
        ticket = 0
        if breaker is not None:
            found = breaker.acquire()
            if found is None:
                return _Breaker()
            ticket = found
        try:
            await call(handler, events, tx)
        except BaseException as exc:
            failure = exc if isinstance(exc, Exception) else cancelled_within(exc)
            if failure is None:
                if breaker is not None:
                    breaker.abandoned(ticket)
                raise
        else:
            if breaker is not None:
                breaker.succeeded(ticket)
            return None
        if breaker is not None:
            breaker.failed(ticket)
        tx._return_to(mark)  # noqa: SLF001
        self._engine.check_usable()  # a store that is closed is nobody's poisoned event
        return _Failure(failure)

    async def _commit(self, tx: HandlerTransaction, position: int) -> Exception | None:
        """Commit with a position; what it is refused for, where that is what the handlers wanted. Raises any other failure."""
        tx.ride(self._consumer.ride(self._engine, position))
        try:
            await tx.finish()
        except Exception as exc:
            if not is_refusal(exc):
                raise
            return exc
        return None

    def _refused(
        self, work: _Work, at: int, error: Exception, *, handled: bool
    ) -> tuple[int, _Failure | _Again | None]:
        """What handlers wanted was refused: handle it again, half as many events at a time, until it is the failure of one."""
        self._made["conflicts"] += 1
        count = at - work.at
        if count > 1:
            self._together = count // 2
            return work.at, _Again(1) if is_conflict(error) else None
        if is_conflict(error) and work.conflicts < limits.PROCESSOR_CONFLICTS_MAX:
            work.conflicts += 1
            return work.at, _Again(work.conflicts)
        work.conflicts = 0
        if not handled:
            raise error
        return work.at, _Failure(error)

    async def _failed(self, work: _Work, error: Exception) -> None:
        """The event that comes next failed: ask the strategy."""
        setup, recorded = self._setup, work.events[work.at]
        now_ns = setup.clock()
        work.attempts += 1
        work.first_failed_ns = work.first_failed_ns or now_ns
        decision = self._decided(recorded, error, work.attempts)
        if isinstance(decision, RetryIn):
            self._made["retried"] += 1
            await self._pause("retry", decision.seconds)
        elif isinstance(decision, Skip):
            self._say_skipped(recorded, error)
            work.settled[work.at] = decision
        elif isinstance(decision, DeadLetter):
            letter = parked_letter(recorded)._replace(blocks=decision.park)
            work.settled[work.at] = failed_again(letter, error, work.attempts, work.first_failed_ns, now_ns)
            self._say_dead(recorded, error)

    def _decided(self, recorded: Recorded[Any], error: Exception, attempts: int) -> Decision:
        """What the strategy says. Raises ``ProcessorFailed`` where that is to stop, and where it fails itself."""
        self._made["failed"] += 1
        try:
            decision = decide(self._setup.strategy, recorded, error, attempts)
        except Exception as exc:
            raise self._stopped(recorded, attempts, f"its strategy failed: {shown(exc)}") from exc
        if isinstance(decision, FailFast):
            raise self._stopped(recorded, attempts, f"its handler failed: {shown(error)}") from error
        return decision

    def _stopped(self, recorded: Recorded[Any], attempts: int, why: str) -> ProcessorFailed:
        name = self._setup.name
        return ProcessorFailed(
            f"processor {name!r} stopped at global sequence {recorded.global_sequence} ({recorded.stream!r} "
            f"{recorded.stream_id!r}): {why}. The event comes again when the processor is run again",
            name=name,
            global_sequence=recorded.global_sequence,
            stream=recorded.stream,
            stream_id=recorded.stream_id,
            attempts=attempts,
        )

    def _say_skipped(self, recorded: Recorded[Any], error: Exception) -> None:
        path, name, sequence = self._engine.path, self._setup.name, recorded.global_sequence
        say(WARNING, "%s: processor %r skipped the event at %d: %s", path, name, sequence, type(error).__name__)

    def _say_dead(self, recorded: Recorded[Any], error: Exception) -> None:
        path, name, sequence = self._engine.path, self._setup.name, recorded.global_sequence
        say(
            WARNING,
            "%s: processor %r keeps the event at %d as a dead letter: %s",
            path,
            name,
            sequence,
            type(error).__name__,
        )

    async def _wait_for_breaker(self) -> None:
        breaker = self._setup.breaker
        assert breaker is not None
        # Half-open with every trial under way elsewhere it says 0: look again in a moment.
        await self._pause("breaker", breaker.wait_s or limits.BREAKER_LOOK_S)

    # -- letters -----------------------------------------------------------------------------------

    async def _look_at_letters(self) -> None:
        """Walk over the letters where somebody asked for it, or some are due."""
        waiting = self.asked()
        is_due = self._due_ns is not None and self._setup.clock() >= self._due_ns
        if waiting or is_due or (len(self.book) and self.book.has_requests()):
            await self.walk_letters()
            self.walked(waiting)

    async def walk_letters(self, *, at_start: bool = False) -> None:
        """Try letters again that shall be, and handle what waited behind those that are gone, each stream in order."""
        self.book.load()
        blocked: set[object] = set()
        for sequence in self.book.in_order():
            slip = self.book.get(sequence)
            if slip is None or slip.stream in blocked:
                continue
            if not slip.is_dead or slip.retry or self._is_due(slip.attempts, slip.last_failed_ns, at_start=at_start):
                await self._try(sequence)
                if self._control.stopping:
                    return
                slip = self.book.get(sequence)
            if slip is not None and slip.blocks:
                blocked.add(slip.stream)
        self._set_due()

    def _is_due(self, attempts: int, last_failed_ns: int, *, at_start: bool) -> bool:
        auto = self._setup.auto_replay
        if auto is None or attempts >= auto.attempts_max:
            return False
        if at_start and auto.at_start:
            return True
        return auto.every_s is not None and self._setup.clock() >= last_failed_ns + round(auto.every_s * 1e9)

    def _set_due(self) -> None:
        """When the next letter is to be tried again."""
        auto = self._setup.auto_replay
        self._due_ns = None
        if auto is not None and auto.every_s is not None:
            every_ns = round(auto.every_s * 1e9)
            failed = [slip.last_failed_ns for slip in self.book if slip.is_dead and slip.attempts < auto.attempts_max]
            self._due_ns = min(failed) + every_ns if failed else None

    async def _try(self, sequence: int) -> None:
        """Handle the event of a letter, and take the letter away in the same commit; or note that it failed once more."""
        attempts = conflicts = first_failed_ns = 0
        while await self._may_go_on():
            letter = self.book.read(sequence)
            if letter is None:
                self.book.remove(sequence)
                return
            recorded, missing = self._event_of(sequence)
            outcome: _Failure | _Refused | _Breaker | None
            outcome = _Failure(missing) if missing is not None else await self._handle_letter(sequence, recorded)
            if outcome is None:
                return
            if isinstance(outcome, _Breaker):
                await self._wait_for_breaker()
                continue
            if (
                isinstance(outcome, _Refused)
                and is_conflict(outcome.error)
                and conflicts < limits.PROCESSOR_CONFLICTS_MAX
            ):
                conflicts += 1
                await self._pause("retry", _CONFLICT_WAIT(conflicts))
                continue
            attempts += 1
            now_ns = self._setup.clock()
            first_failed_ns = first_failed_ns or now_ns
            failed = failed_again(letter, outcome.error, attempts, first_failed_ns, now_ns)
            if not letter.is_dead and missing is None:  # nobody has decided about it yet
                assert recorded is not None
                decision = self._decided(recorded, outcome.error, attempts)
                if isinstance(decision, RetryIn):
                    self._made["retried"] += 1
                    await self._pause("retry", decision.seconds)
                    continue
                if isinstance(decision, Skip):
                    self._say_skipped(recorded, outcome.error)
                    await self._change(sequence, None, "skipped")
                    return
                assert isinstance(decision, DeadLetter)
                self._say_dead(recorded, outcome.error)
                await self._change(sequence, failed._replace(blocks=decision.park), "dead_lettered")
                return
            await self._change(sequence, failed, "failed")
            return

    def _event_of(self, sequence: int) -> tuple[Recorded[Any] | None, VarveError | None]:
        """The event of a letter, or why there is none any more."""
        try:
            with self._engine.snapshot() as snapshot:
                recorded = recorded_at(snapshot, sequence, self._setup.view_class)
                found = recorded or recorded_at(snapshot, sequence, self._setup.bindings.view_class)
        except (Archived, CorruptedBlock) as exc:
            return None, exc
        if found is None or isinstance(found.event, Gap):
            return None, EventDropped(
                f"the event at {sequence} was dropped by compaction, which drops what retention rules hide",
                global_sequence=sequence,
            )
        if recorded is None or self._setup.handling.of(recorded) is None:
            return None, InvalidInput(
                f"processor {self._setup.name!r} has no handler for a {type_name_of(found)!r} any more"
            )
        return recorded, None

    async def _handle_letter(
        self, sequence: int, recorded: Recorded[Any] | None
    ) -> _Failure | _Refused | _Breaker | None:
        assert recorded is not None
        handler = self._setup.handling.of(recorded)
        assert handler is not None
        tx = HandlerTransaction(self._engine, self._setup.bindings)
        try:
            trouble = await self._call(tx, tx._mark(), handler, [recorded])  # noqa: SLF001 - the same library
            if trouble is not None:
                return trouble
            tx.ride(Take(self._setup.name, sequence))
            refused = await self._commit(tx, self._consumer.committed)
        except LetterGone:
            refused = None
        else:
            if refused is None:
                self._made["handled"] += 1
                self._made["replayed"] += 1
        finally:
            tx.forget()
        if refused is not None:
            return _Refused(refused)
        self.book.remove(sequence)
        return None

    async def _change(self, sequence: int, letter: LetterRecord | None, what: str) -> None:
        """Store what became of a letter, where it is still there; None: it is gone."""
        name = self._setup.name
        tx = HandlerTransaction(self._engine, self._setup.bindings)
        tx.ride(Take(name, sequence) if letter is None else Replace(name, sequence, letter))
        tx.ride(self._consumer.ride(self._engine, self._consumer.committed))
        try:
            await tx.finish()
        except LetterGone:
            letter = None
        finally:
            tx.forget()
        self._made[what] += 1
        if letter is None:
            self.book.remove(sequence)
        else:
            self.book.put(sequence, letter)


def is_refusal(error: Exception) -> bool:
    """Whether a commit failed for what it was to write, and not for the store, the disk, or who writes it."""
    if isinstance(error, VarveError):
        return error.kind in {"conflict", "invalid"} and not isinstance(
            error, ConsumerFenced | HandleUnusable | LetterGone
        )
    return not isinstance(error, OSError)


def is_conflict(error: Exception) -> bool:
    """Whether something that was read has changed since, so that doing it again may help."""
    return isinstance(error, TransactionConflict)


def _nobody() -> int:
    return 0


def _nothing(_waiting: int) -> None:
    """Nobody waits."""
