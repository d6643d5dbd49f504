"""A decider on a stream: its state is loaded, a command decided, what it came to appended, and all again if somebody was
faster."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Generator, Iterable
from typing import TYPE_CHECKING, Any, Final, Generic, Literal, NamedTuple, cast

from varve.aggregates.decider import C, Decider, E, S
from varve.aggregates.policy import SnapshotPolicy
from varve.aggregates.policy import every as every_
from varve.errors import EventsHidden, IdempotencyConflict, InvalidInput, WrongExpectedVersion
from varve.layout import keys, records
from varve.layout.keys import IdempotencyKey, StreamId
from varve.logs import WARNING, say
from varve.record import Span, to_time_ns
from varve.stream import Stream

if TYPE_CHECKING:
    from varve.appends import Metadata
    from varve.derived.snapshots import Saved, Snapshots

Missing = Literal["refuse", "skip"]

_WAIT_S_FIRST: Final = 0.001
_WAIT_S_MAX: Final = 0.1


class Loaded(NamedTuple, Generic[S]):
    """The state of an aggregate."""

    state: S
    """What its events came to: an object of your own, which may be changed."""
    version: int
    """How many events its stream held: what an append to it expects."""


class Executed(NamedTuple, Generic[S]):
    """What a command came to."""

    state: S
    """The state with its events."""
    version: int
    """How many events the stream held then."""
    positions: Span
    """Where its events stand; empty where it came to none, and nothing was written. ``replayed`` is true on it where the
    idempotency key had been used before."""


class _Turn(NamedTuple, Generic[S, E]):
    """One attempt at a command: what shall be appended, if the stream still is as long."""

    state: S
    version: int
    events: tuple[E, ...]
    saved: Saved | None


class Aggregate(Generic[S, C, E]):
    """An aggregate for each id of a stream. Thread-safe; holds nothing between calls.

    ``initial``, ``evolve`` and ``decide`` as in ``varve.Decider``. ``snapshots`` (``db.snapshots``, or
    ``db.snapshots.holding(...)`` of the classes that stand in the state): begin at saved state, and save it after a command as
    ``every`` says (a policy of ``varve.every``, a number of events, or None: never), under ``schema``, keeping the newest
    ``keep``. Snapshots change nothing but the time that loading takes; bump ``schema`` whenever ``evolve`` or the state changes
    its meaning.

    ``missing``: what if events that the state needs are hidden from readers (``truncate_before``, ``retain``) or were dropped by
    compaction, and no snapshot reaches over them: ``"refuse"`` raises ``EventsHidden``, ``"skip"`` folds what is there, for
    streams whose first visible event says all that is needed.

    ``rng`` (0 .. 1) and ``sleep``: what spreads and waits between attempts, for tests.
    """

    __slots__ = ("_decider", "_every", "_keep", "_missing", "_rng", "_schema", "_sleep", "_snapshots", "_stream")

    def __init__(
        self,
        stream: Stream[E],
        *,
        initial: S | Callable[[], S],
        evolve: Callable[[S, E], S],
        decide: Callable[[S, C], Iterable[E] | E | None],
        snapshots: Snapshots | None = None,
        every: SnapshotPolicy | int | None = 100,
        schema: str = "",
        keep: int = 2,
        missing: Missing = "refuse",
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        if missing not in ("refuse", "skip"):
            raise InvalidInput(f"missing is 'refuse' or 'skip', not {missing!r:.80}")
        if type(keep) is not int or keep < 1:
            raise InvalidInput(f"keep is a number of snapshots from 1 on, not {keep!r:.80}")
        _check_parts(stream, snapshots)
        policy = every_(every) if isinstance(every, int) else every
        if policy is not None and not callable(getattr(policy, "due", None)):
            raise InvalidInput(
                f"every is a number of events, a policy that varve.every gives, or None, not {every!r:.80}"
            )
        self._decider = Decider[S, C, E](initial, evolve, decide)
        self._stream = stream
        self._snapshots = snapshots
        self._every = policy
        self._schema = schema
        self._keep = keep
        self._missing = missing
        self._rng = rng
        self._sleep = sleep

    @property
    def decider(self) -> Decider[S, C, E]:
        """Its functions, without the stream."""
        return self._decider

    @property
    def stream(self) -> Stream[E]:
        """Its stream."""
        return self._stream

    def __repr__(self) -> str:
        return f"<Aggregate of stream {self._stream.name!r}>"

    # -- loading -----------------------------------------------------------------------------------

    def load(self, stream_id: StreamId, *, at: int | None = None) -> Loaded[S]:
        """The state of an id, as of now or after its first ``at`` events; the initial one where there are none.

        The events handed to ``evolve`` are lazy views: keep ``varve.owned(event)``, not the event, in a state that outlives the
        call. Raises ``EventsHidden``, ``Archived``, ``InvalidInput`` and its kin, and what reading and ``evolve`` raise.
        """
        if at is not None and (type(at) is not int or at < 0):
            raise InvalidInput(f"at is a number of events from 0 on, not {at!r:.80}")
        state, version, _ = self._load(stream_id, at)
        return Loaded(state, version)

    def _load(self, stream_id: StreamId, at: int | None = None) -> tuple[S, int, Saved | None]:
        reader = self._stream.reader()
        length = reader.length(stream_id)
        if at is not None:
            length = min(at, length)
        saved = self._saved(stream_id, length, at)
        if saved is not None:
            try:
                return (*self._folded(stream_id, saved.state, saved.position, length, at, refuse=True), saved)
            except EventsHidden:
                if self._missing == "refuse":
                    raise
        start = self._decider.start()
        return (*self._folded(stream_id, start, 0, length, at, refuse=self._missing == "refuse"), None)

    def _saved(self, stream_id: StreamId, length: int, at: int | None) -> Saved | None:
        """The snapshot to begin with."""
        if self._snapshots is None:
            return None
        scope = (self._stream.name, stream_id)
        if at is not None:
            return self._snapshots.at_or_before(scope, length, schema=self._schema)
        saved = self._snapshots.latest(scope, schema=self._schema)
        if saved is not None and saved.position > length:  # another thread has appended and saved since we looked
            return self._snapshots.at_or_before(scope, length, schema=self._schema)
        return saved

    def _folded(
        self, stream_id: StreamId, state: S, version: int, length: int, at: int | None, *, refuse: bool
    ) -> tuple[S, int]:
        """A state with the events behind it. ``length``: how many there were at least."""
        evolve = self._decider.evolve
        for recorded in self._stream.reader().iter_stream(stream_id, start=version, stop=at):
            sequence = recorded.stream_sequence
            if sequence != version and refuse:
                raise self._hidden(stream_id, version, sequence)
            state = evolve(state, recorded.event)
            version = sequence + 1
        if version < length:
            if refuse:
                raise self._hidden(stream_id, version, length)
            version = length
        return state, version

    def _hidden(self, stream_id: StreamId, first: int, stop: int) -> EventsHidden:
        name = self._stream.name
        return EventsHidden(
            f"the state of {name!r} / {stream_id!r} needs its events {first} .. {stop - 1}, which readers are not given: a "
            "retention rule hides them, or they were dropped, and no snapshot reaches over them. If the first event that is left "
            "says all that is needed, make the aggregate with missing='skip'",
            stream=name,
            stream_id=stream_id,
            first_sequence=first,
            stop_sequence=stop,
        )

    # -- commands ----------------------------------------------------------------------------------

    def execute(
        self,
        stream_id: StreamId,
        command: C,
        *,
        retries: int = 10,
        metadata: Metadata | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> Executed[S]:
        """Load the state, decide, append what was decided if the stream still is as long; else begin again, up to ``retries``
        times, after a short random wait. Then save the state, if it is due (a save that fails is logged, and fails nothing).

        ``evolve`` runs over the new events before they are written: what it cannot digest is never appended. ``idempotency_key``
        names the command: the same key again decides nothing, and returns what it came to the first time.

        Raises what ``decide`` and ``evolve`` raise (nothing is written), ``WrongExpectedVersion`` once the attempts are used up,
        ``IdempotencyConflict`` where the key was used elsewhere, and what ``load`` and ``Stream.append_batch`` raise.
        """
        steps = self._steps(stream_id, command, retries, idempotency_key)
        answer: Any = None
        while True:
            try:
                turn = steps.send(answer)
            except StopIteration as done:
                return cast("Executed[S]", done.value)
            if not isinstance(turn, _Turn):
                self._sleep(turn)
                continue
            try:
                answer = self._stream.append_batch(
                    stream_id, turn.events, expected=turn.version, idempotency_key=idempotency_key, metadata=metadata
                )
            except (WrongExpectedVersion, IdempotencyConflict) as exc:
                answer = exc
            else:
                if self._is_due(turn, answer):
                    self._save(stream_id, turn)

    async def execute_async(
        self,
        stream_id: StreamId,
        command: C,
        *,
        retries: int = 10,
        metadata: Metadata | None = None,
        idempotency_key: IdempotencyKey | None = None,
    ) -> Executed[S]:
        """``execute`` without blocking the event loop where it waits: for the commit, which it shares with others, between
        attempts, and for a snapshot to be on disk (a thread does that). The state is loaded and decided on in the loop."""
        import asyncio

        steps = self._steps(stream_id, command, retries, idempotency_key)
        answer: Any = None
        while True:
            try:
                turn = steps.send(answer)
            except StopIteration as done:
                return cast("Executed[S]", done.value)
            if not isinstance(turn, _Turn):
                await asyncio.sleep(turn)
                continue
            try:
                answer = await self._stream.append_batch_async(
                    stream_id, turn.events, expected=turn.version, idempotency_key=idempotency_key, metadata=metadata
                )
            except (WrongExpectedVersion, IdempotencyConflict) as exc:
                answer = exc
            else:
                if self._is_due(turn, answer):
                    await asyncio.to_thread(self._save, stream_id, turn)

    def _steps(
        self, stream_id: StreamId, command: C, retries: int, key: IdempotencyKey | None
    ) -> Generator[_Turn[S, E] | float, Any, Executed[S]]:
        """What is to be done next: wait (a float), or append (and send the positions, or the error)."""
        if type(retries) is not int or retries < 0:
            raise InvalidInput(f"retries is a number from 0 on, not {retries!r:.80}")
        attempt = 0
        while True:
            replayed = None if key is None else self._replayed(stream_id, key)
            if replayed is not None:
                return replayed
            turn = self._decided(stream_id, command)
            if not turn.events:
                return Executed(turn.state, turn.version, Span(()))
            answer = yield turn
            if isinstance(answer, Span):
                if answer.replayed:  # the same command, under the same key, was faster
                    version = answer[-1].stream_sequence + 1
                    return Executed(self.load(stream_id, at=version).state, version, answer)
                return Executed(turn.state, turn.version + len(turn.events), answer)
            if isinstance(answer, IdempotencyConflict):
                # The same command, decided in another way, was faster: what it came to is there.
                return cast("Executed[S]", self._replayed(stream_id, cast("IdempotencyKey", key)))
            if attempt == retries:
                raise answer
            yield self._wait_s(attempt)
            attempt += 1

    def _wait_s(self, attempt: int) -> float:
        return float(self._rng() * min(_WAIT_S_MAX, _WAIT_S_FIRST * 2 ** min(attempt, 16)))

    def _decided(self, stream_id: StreamId, command: C) -> _Turn[S, E]:
        state, version, saved = self._load(stream_id)
        events = self._decider.decide(state, command)
        return _Turn(self._decider.fold(events, state) if events else state, version, events, saved)

    def _replayed(self, stream_id: StreamId, key: IdempotencyKey) -> Executed[S] | None:
        """What a command came to under a key, if it was executed. Raises ``IdempotencyConflict`` where the key was used for
        anything but one append to this stream."""
        engine = self._stream._engine  # noqa: SLF001 - the same library
        with engine.snapshot() as snapshot:
            stored = snapshot.find_meta(keys.idempotency_key(keys.encode_idempotency_key(key)))
            if stored is None:
                return None
            record = records.decode_idempotency(stored)
            places = []
            for sequence in (record.first_sequence, record.first_sequence + record.count - 1):
                block = snapshot.copied_block(sequence)
                places.append(block.stream_of(sequence - block.first))
            (number, first), (last_number, last) = places
            identity = snapshot.catalog.stream(snapshot, number)
        here = (self._stream.name, keys.encode_stream_id(stream_id))
        there = (identity.name, keys.encode_stream_id(identity.stream_id))
        if number != last_number or last - first != record.count - 1 or there != here:
            raise IdempotencyConflict(
                f"the idempotency key {key!r} was used at global sequence {record.first_sequence} for another stream, or for "
                "more than one; a new command needs a new key",
                key=key,
                global_sequence=record.first_sequence,
            )
        span = Span(((first, record.first_sequence, record.count),), replayed=True)
        return Executed(self.load(stream_id, at=last + 1).state, last + 1, span)

    # -- saving ------------------------------------------------------------------------------------

    def _is_due(self, turn: _Turn[S, E], positions: Span) -> bool:
        """Whether to save the state. Never raises, as ``_save``."""
        if self._snapshots is None or self._every is None or positions.replayed:
            return False
        saved = turn.saved
        applied = turn.version + len(turn.events) - (0 if saved is None else saved.position)
        age_s = math.inf
        try:
            if saved is not None:
                age_s = (self._stream._engine.clock() - to_time_ns(saved.saved_at)) / 1e9  # noqa: SLF001 - the same library
            return self._every.due(applied, age_s)
        except Exception as exc:  # noqa: BLE001 - a policy or a clock of the user's making
            self._say_not_saved(turn, exc)
            return False

    def _save(self, stream_id: StreamId, turn: _Turn[S, E]) -> None:
        """Save the state. Its events are on disk: nothing that goes wrong here may say that the command failed."""
        snapshots = self._snapshots
        assert snapshots is not None
        scope = (self._stream.name, stream_id)
        version = turn.version + len(turn.events)
        try:
            snapshots.save(scope, version, turn.state, schema=self._schema, keep=self._keep)
        except Exception as exc:  # noqa: BLE001 - a state of the user's making
            self._say_not_saved(turn, exc)

    def _say_not_saved(self, turn: _Turn[S, E], exc: Exception) -> None:
        stream = self._stream
        path = stream._engine.path  # noqa: SLF001 - the same library
        version = turn.version + len(turn.events)
        say(WARNING, "%s: a state of %r at %d was not saved: %s", path, stream.name, version, exc, failure=exc)


def _check_parts(stream: Any, snapshots: Any) -> None:
    """Raise ``InvalidInput`` where they are none, or not of one store."""
    if not isinstance(stream, Stream):
        raise InvalidInput(f"an aggregate takes a stream, db.stream(name, types), not {stream!r:.80}")
    if snapshots is None:
        return
    if not hasattr(snapshots, "at_or_before"):
        raise InvalidInput(f"snapshots takes db.snapshots, or db.snapshots.holding(...), not {snapshots!r:.80}")
    if snapshots._engine is not stream._engine:  # noqa: SLF001 - the same library
        raise InvalidInput("snapshots and stream belong to two stores: use those of one db")
