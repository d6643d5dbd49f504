"""Consumers: tails with a name, whose position is stored and continued."""

from __future__ import annotations

import contextlib
import datetime as dt
import time
from collections.abc import AsyncIterator, Iterator
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Final, Generic, Literal, Self

from varve import limits
from varve.engine.request import CommitRequest
from varve.errors import HandleUnusable, InvalidInput, VarveError
from varve.layout.consumers import PARTITIONS
from varve.record import Recorded, to_time_ns
from varve.replay import first_at
from varve.reports import BatchReport
from varve.tailing.commits import commit_async
from varve.tailing.loops import others
from varve.tailing.partitions import Share
from varve.tailing.positions import Advance, Claim, Move
from varve.tailing.scan import Batch, Scan
from varve.tailing.start import check_start
from varve.tailing.tail import check_batch
from varve.tailing.watcher import check_timeout
from varve.typing_support import E

if TYPE_CHECKING:
    from varve.engine.core import Engine
    from varve.layout.consumers import Run
    from varve.tailing.scan import Selection
    from varve.tailing.start import TailStart

CommitMode = Literal["auto", "manual"]

_GIVE: Final = "give"
_STORE: Final = "store"
_WAIT: Final = "wait"
_AGAIN: Final = "again"


class Consumer(AsyncIterator[Recorded[E]], Generic[E]):
    """A named, durable position in the log: what it gives comes at least once, whoever dies when. Made by
    ``db.consumer(name)``.

    ``async for recorded in consumer`` gives what a tail gives, from the stored position on; ``follow()`` does so for
    threads. With ``commit="auto"`` the position is stored as the loop comes back for more, which says that it is done with
    what it had; with ``commit="manual"`` by ``await consumer.commit()``. A loop that begins again goes on where the last
    one stopped; a new process behind the last position that was stored.

    It is its owner's alone until ``close()``, the end of a ``with`` or ``async with`` block, its last reference, or the
    end of the process. Raises what a tail raises, and ``ConsumerFenced`` where somebody took it over. One task or thread
    at a time.
    """

    def __init__(
        self,
        engine: Engine,
        selection: Selection,
        name: str,
        *,
        start: TailStart,
        commit: CommitMode,
        interval_s: float,
        member: int,
        members: int,
        force: bool,
    ) -> None:
        self._engine = engine
        self._selection = selection
        self._start = start
        self._auto = commit == "auto"
        self._interval_s = interval_s
        self._turn_until_s = 0.0  # until then nobody else has to run, and no clock to be looked at
        self._checked_s = 0.0
        self._stored_s = 0.0
        self._closed = False
        self._read_s = 0.0  # when the batch was read that is being handled, where somebody observes
        self._claim = Claim(engine, name, member, members)
        self._begin(self._claim.take(self._first_position(), force=force))

    def _first_position(self) -> int:
        return resolve_start(self._engine, self._start)

    def _begin(self, runs: list[Run]) -> None:
        """Stand where the stored positions of its partitions say."""
        self._tell_handled()
        position = min(run.position for run in runs)
        self._share = Share(runs)
        self._scan: Scan[E] = Scan(self._engine, self._selection, position)
        self._batch: Batch[E] = Batch()
        self._pending: Iterator[Recorded[E]] = iter(())
        self._left = 0  # events of the batch that are pending
        self._given = position  # behind what was given or passed over
        self._done = position  # behind what the loop has come back from
        self._owed = False  # events were given since the last commit
        self._settled(position)

    # -- about -------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        return self._claim.name

    @property
    def member(self) -> int:
        """Which of ``members`` it is, from 0."""
        return self._claim.member

    @property
    def members(self) -> int:
        """How many share the name; 1 where it is alone."""
        return self._claim.members

    @property
    def partitions(self) -> range:
        """The partitions of streams that are its own, of ``CONSUMER_PARTITIONS``."""
        return self._claim.partitions

    @property
    def position(self) -> int:
        """The next global sequence: everything before it was given, or passed over as not asked for."""
        return self._given

    @property
    def committed(self) -> int:
        """The position that is stored: where whoever comes next continues."""
        return self._stored

    @property
    def lag(self) -> int:
        """Events of the log from ``position`` to its end, whether they are for this consumer or not."""
        with self._engine.snapshot() as snapshot:
            return max(0, snapshot.next_sequence - self._given)

    def __repr__(self) -> str:
        member = f" ({self.member} of {self.members})" if self.members > 1 else ""
        return f"<Consumer {self.name!r}{member} of {self._engine.path} at {self._given}>"

    # -- events ------------------------------------------------------------------------------------

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Recorded[E]:
        if not self._is_easy():
            await self._until_there(limits.TAIL_EVENTS_MAX)
        return self._take_one()

    def batches(self, events_max: int = limits.TAIL_EVENTS_MAX) -> ConsumerBatches[E]:
        """The same events in lists of 1 to ``events_max``: as many as are there, without waiting for more."""
        return ConsumerBatches(self, check_batch(events_max))

    async def next_batch(self, events_max: int, stop: int | None = None) -> list[Recorded[E]]:
        """The next list of ``batches``. With ``stop`` it does not wait once everything before that global sequence was given or
        passed over: the list is empty then."""
        await self._until_there(events_max, stop)
        return self._take_many(events_max) if self._left else []

    def follow(self, timeout_s: float | None = None) -> Iterator[Recorded[E]]:
        """The events for a thread, which it blocks while there is none; ``timeout_s``: end once none came for so long.

        Commit by ``commit_blocking()`` there.
        """
        return self._followed(check_timeout(timeout_s))

    def follow_batches(
        self, events_max: int = limits.TAIL_EVENTS_MAX, timeout_s: float | None = None
    ) -> Iterator[list[Recorded[E]]]:
        """The events for a thread in lists, as ``batches`` and ``follow``."""
        return self._followed_lists(check_batch(events_max), check_timeout(timeout_s))

    def _followed(self, timeout_s: float | None) -> Iterator[Recorded[E]]:
        while self._is_easy() or self._blocked(limits.TAIL_EVENTS_MAX, timeout_s):
            yield self._take_one()

    def _followed_lists(self, events_max: int, timeout_s: float | None) -> Iterator[list[Recorded[E]]]:
        while self._blocked(events_max, timeout_s):
            yield self._take_many(events_max)

    def _is_easy(self) -> bool:
        """Whether an event is pending and nothing has to be looked at: clocks, turns, the store."""
        return self._left > 0 and time.monotonic() < self._turn_until_s and not self._claim.is_fenced

    def _take_one(self) -> Recorded[E]:
        try:
            recorded = next(self._pending)
            self._done = self._given  # whoever comes back is done with what he had
            self._left -= 1
            # The sequence as it stands in the record: a property would cost as much as the rest.
            self._given = recorded._sequence + 1 if self._left else self._scan.position  # noqa: SLF001
            self._owed = True
        except BaseException:
            self._begin_anew()
            raise
        return recorded

    def _take_many(self, events_max: int) -> list[Recorded[E]]:
        try:
            events = list(islice(self._pending, events_max))
            self._left -= len(events)
            self._given = events[-1].global_sequence + 1 if self._left else self._scan.position
            self._owed = True
        except BaseException:
            self._begin_anew()
            raise
        return events

    def _begin_anew(self) -> None:
        """An interrupt ended the generator that makes the events: what was not given yet comes out of another one."""
        rest = self._batch.behind(self._given)
        self._pending = iter(rest)
        self._left = rest.count

    async def _until_there(self, events_max: int, stop: int | None = None) -> None:
        """Until an event is pending, or nothing is before ``stop``."""
        while True:
            move = self._next_move(events_max)
            if stop is not None and move is _WAIT and self._given >= stop:
                return
            if move is _STORE:
                await self._store_async(self._storable)
            elif move is _WAIT:
                await self._wait()
            elif move is _AGAIN or time.monotonic() >= self._turn_until_s:
                await self._pause()
            if move is _GIVE and self._left:  # another task, which should not be there, may have taken it in a pause
                return

    def _blocked(self, events_max: int, timeout_s: float | None) -> bool:
        """Block until an event is pending; False where that took longer than ``timeout_s``."""
        until_s = None
        if timeout_s is not None:
            until_s = time.monotonic() + timeout_s
            self._scan.caught_up = False  # so that it looks for itself before it gives up
        while (move := self._next_move(events_max)) is not _GIVE:
            if move is _STORE:
                self._store(self._storable)
            elif move is _WAIT and not self._wait_blocking(until_s):
                self._store(self._storable)
                return False
        self._turn_until_s = time.monotonic() + limits.TAIL_TURN_S_MAX
        return True

    def _wait_blocking(self, until_s: float | None) -> bool:
        """Wait for more events, or until the position has to be stored; False where it is too late for that."""
        scan = self._scan
        due_s = self._until_due_s()
        if until_s is not None:
            if not scan.looked:  # it came to the end of a copied block, and the log may have more
                scan.caught_up = False
                return True
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return False  # without waking anybody who would look out for commits
            if due_s is None or left_s <= due_s:
                return scan.hub.watermark.wait_blocking(scan.position + 1, left_s)
        scan.hub.watermark.wait_blocking(scan.position + 1, due_s)
        return True

    def _next_move(self, events_max: int) -> str:
        """What has to be done before an event can be given. Whoever asks is done with what he was given."""
        self.check()
        scan = self._scan
        if self._left:
            self._done = self._given
            return (
                _STORE if self._auto and self._is_due(self._interval_s or limits.CONSUMER_STORE_INTERVAL_S) else _GIVE
            )
        self._given = self._done = scan.position
        if self._read_s:
            self._tell_handled()
        if self._is_due(self._pace_s):
            return _STORE
        if scan.caught_up and scan.hub.watermark.value <= scan.position:
            return _WAIT
        now_s = time.monotonic()
        if now_s >= self._checked_s + limits.CONSUMER_CHECK_INTERVAL_S:  # perhaps it hung for hours
            self._claim.check()
            self._checked_s = now_s
        batch = scan.step(events_max)
        try:
            self._batch = batch = self._share.of(batch, scan.position)
            self._pending = iter(batch)
            self._left = batch.count
            if batch.count and self._engine.observers is not None:
                self._read_s = time.perf_counter()
        except BaseException:  # an interrupt: else the next move would pass over what nobody was given
            self._left = 0
            scan.undo()
            raise
        return _GIVE if batch.count else _AGAIN

    def _tell_handled(self) -> None:
        """Tell observers that the batch is done with, or as much of it as was given."""
        read_s, self._read_s = self._read_s, 0.0
        observers = self._engine.observers
        if not read_s or observers is None:
            return
        events = self._batch.count - self._left
        looked = self._engine.look(-1)
        if events and looked is not None:
            position, claim = self._given, self._claim
            lag, handled_s = max(0, looked[1] - position), time.perf_counter() - read_s
            observers.tell_batch(BatchReport(claim.name, claim.member, claim.members, events, position, lag, handled_s))

    async def _wait(self) -> None:
        watermark, target = self._scan.hub.watermark, self._scan.position + 1
        due_s = self._until_due_s()
        if due_s is None:
            await watermark.wait(target)
        else:
            import asyncio

            try:
                async with asyncio.timeout(due_s):
                    await watermark.wait(target)
            except TimeoutError:
                pass
        self._turn_until_s = time.monotonic() + limits.TAIL_TURN_S_MAX

    async def _pause(self) -> None:
        """Let other tasks of the loop run."""
        await others()
        self._turn_until_s = time.monotonic() + limits.TAIL_TURN_S_MAX

    # -- the position ------------------------------------------------------------------------------

    async def commit(self) -> int:
        """Store the position behind the last event that was given, and what was passed over since; the position.

        It shares a commit's fsync with whatever else is awaited. Where it is cancelled, it happens or not; the next one
        makes up for it. Raises ``ConsumerFenced`` where somebody took the consumer over, and a commit's errors.
        """
        self.check()
        position = self._given
        await self._store_async(position)
        return position

    def commit_blocking(self) -> int:
        """The same for a thread, which it blocks."""
        self.check()
        position = self._given
        self._store(position)
        return position

    def seek(self, start: TailStart) -> int:
        """Continue from elsewhere, and store that at once (blocking for a commit); the position. As ``db.tail(start)``.

        A member of a group moves its own share. Raises ``InvalidInput`` for a sequence beyond the end of the log,
        ``ConsumerFenced``.
        """
        self.check()
        move = Move(self._claim, resolve_start(self._engine, check_start(start)))
        self._engine.commit(CommitRequest([], effects=(move,)))
        self._claim.token = move.token
        self._begin(move.runs)
        return self._given

    def reset(self) -> int:
        """Begin again from the ``start`` that ``db.consumer`` was given, and store that at once; the position."""
        return self.seek(self._start)

    def ride(self, engine: Engine, position: int | None = None) -> Ride[E]:
        """The present position, or an earlier one, as an effect on a commit of that store: see ``Transaction.store_position``."""
        if engine is not self._engine:
            raise InvalidInput(
                "a transaction stores positions of consumers of its own store, made by db.consumer(name)"
            )
        self.check()
        return Ride(self, self.position if position is None else position)

    @property
    def _storable(self) -> int:
        """The position that may be stored without being told to: nothing before it can be needed again."""
        return self._done if self._auto or not self._owed else self._stored

    @property
    def _pace_s(self) -> float:
        return self._interval_s if self._owed else limits.CONSUMER_SCANNED_INTERVAL_S

    def _is_due(self, pace_s: float) -> bool:
        return self._storable > self._stored and time.monotonic() >= self._stored_s + pace_s

    def _until_due_s(self) -> float | None:
        """How long to wait at most before the position has to be stored; None where it is."""
        if self._storable <= self._stored:
            return None
        return max(0.0, self._stored_s + self._pace_s - time.monotonic())

    async def _store_async(self, position: int) -> None:
        if position > self._stored:
            await commit_async(self._engine, CommitRequest([], effects=(Advance(self._claim, position),)))
            self._settled(position)

    def _store(self, position: int) -> None:
        if position > self._stored:
            self._engine.commit(CommitRequest([], effects=(Advance(self._claim, position),)))
            self._settled(position)

    def _settled(self, position: int) -> None:
        """A position is stored."""
        self._stored = position
        self._stored_s = self._checked_s = time.monotonic()
        if position >= self._given:
            self._owed = False

    # -- ending ------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise what it refuses everything with, if it does: ``StoreClosed`` and its kin, ``ConsumerFenced``."""
        self._engine.check_usable()
        if self._claim.is_fenced:
            raise self._claim.fenced()
        if self._closed:
            raise HandleUnusable(f"consumer {self.name!r} was closed; make it again with db.consumer({self.name!r})")

    def close(self) -> None:
        """Let others have it; with ``commit="auto"`` what the loop is done with is stored before. Nothing happens where it
        is closed already."""
        try:
            if self._is_open():
                self._store(self._storable)
        finally:
            self._leave()

    def _is_open(self) -> bool:
        return not self._closed and not self._claim.is_fenced and self._engine.environment.refusal is None

    def _leave(self) -> None:
        self._closed = True
        if self._read_s and self._engine.environment.refusal is None:
            with contextlib.suppress(VarveError):  # closed just now
                self._tell_handled()
        self._left = 0
        self._pending = iter(())
        self._claim.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self.close()
        except VarveError:
            if kind is None:
                raise

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._is_open():
                await self._store_async(self._storable)
        except VarveError:
            if kind is None:
                raise
        finally:
            self._leave()


class ConsumerBatches(AsyncIterator[list[Recorded[E]]], Generic[E]):
    """A consumer in lists. Made by ``Consumer.batches()``."""

    __slots__ = ("_consumer", "_events_max")

    def __init__(self, consumer: Consumer[E], events_max: int) -> None:
        self._consumer = consumer
        self._events_max = events_max

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[Recorded[E]]:
        return await self._consumer.next_batch(self._events_max)


class Ride(Advance, Generic[E]):
    """A consumer's position on the way with somebody's commit."""

    def __init__(self, consumer: Consumer[E], position: int) -> None:
        super().__init__(consumer._claim, position)  # noqa: SLF001 - the same module
        self._consumer = consumer

    def arrived(self) -> None:
        """It is committed."""
        consumer = self._consumer
        if self.position > consumer._stored and self._token == consumer._claim.token:  # noqa: SLF001 - the same module
            consumer._settled(self.position)  # noqa: SLF001


def resolve_start(engine: Engine, start: TailStart) -> int:
    """A checked start as a global sequence of the log as it is. Raises ``InvalidInput`` where it lies beyond the end."""
    with engine.snapshot() as snapshot:
        end = snapshot.next_sequence
        if isinstance(start, int):
            if start > end:
                raise InvalidInput(
                    f"the log has {end} events: a consumer that begins at {start} would never see those before it. "
                    "varve.END begins behind the last event"
                )
            return start
        return first_at(snapshot, to_time_ns(start)) if isinstance(start, dt.datetime) else end


def check_commit(commit: CommitMode, interval_s: float | None) -> float:
    """The arguments about committing, checked: the interval. Raises ``InvalidInput``."""
    if commit not in {"auto", "manual"}:
        raise InvalidInput(f"commit is 'auto' or 'manual', not {commit!r}")
    if interval_s is None:
        return limits.CONSUMER_STORE_INTERVAL_S
    if not isinstance(interval_s, int | float) or isinstance(interval_s, bool) or not interval_s >= 0:
        raise InvalidInput(f"interval_s is a number of seconds from 0 on, not {interval_s!r}")
    return interval_s


def check_member(member: int | None, members: int | None) -> tuple[int, int]:
    """The arguments about groups, checked. Raises ``InvalidInput``."""
    if member is None and members is None:
        return 0, 1
    for value in (member, members):
        if not isinstance(value, int) or isinstance(value, bool):
            raise InvalidInput(f"member and members are ints that go together: member=0, members=4; not {value!r}")
    assert member is not None
    assert members is not None
    if not 1 <= members <= PARTITIONS:
        raise InvalidInput(f"members is 1 to CONSUMER_PARTITIONS = {PARTITIONS}, not {members}")
    if not 0 <= member < members:
        raise InvalidInput(f"member is 0 to {members - 1} of {members} members, not {member}")
    return member, members
