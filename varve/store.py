"""The store: what ``varve.open`` gives."""

from __future__ import annotations

import datetime as dt
import os
import time
import types
import typing
import uuid
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from typing_extensions import TypeAliasType

from varve import limits
from varve.appends import Metadata, StreamTypes
from varve.archive import ArchiveReport, archive
from varve.bindings import Bindings, UnknownAnywhere, UnknownTyped
from varve.codec import EventType, event_type
from varve.engine import files
from varve.engine.commit import check_evolution
from varve.engine.core import Engine
from varve.engine.environment import DURABILITIES, Durability
from varve.engine.examine import examine
from varve.errors import InvalidInput, SchemaError, StateNotVersioned
from varve.gaps import GAP
from varve.layout.keys import IdempotencyKey, check_name
from varve.layout.ordered import StateKey
from varve.layout.state import TABLE as STATE
from varve.reader import GlobalReader, StreamReader
from varve.record import to_time_ns
from varve.replay import Fixed, Live, first_at
from varve.reports import Observer
from varve.retention import rules_of
from varve.state.live import State
from varve.state.view import AtInstant, StateView
from varve.stats import SnapshotStats, StoreStats, WriteStats
from varve.stream import Stream
from varve.tailing.commits import waiting_for_room
from varve.tailing.consumer import CommitMode, Consumer, check_commit, check_member
from varve.tailing.consumers import ConsumerInfo, delete_consumer, list_consumers, seek_consumer
from varve.tailing.follow import Follow
from varve.tailing.scan import Selection, selection
from varve.tailing.start import TailStart, check_start
from varve.tailing.tail import Tail
from varve.tailing.watcher import Watcher
from varve.transaction import Transaction, WriteTransaction, check_result
from varve.typing_support import E
from varve.unknown import UnknownEvent

if TYPE_CHECKING:
    import random

    from typing_extensions import TypeForm

    from varve.backups.manifest import BackupReport, Progress
    from varve.derived.optimistic import Optimistic
    from varve.derived.processors.breaker import CircuitBreaker
    from varve.derived.processors.dead_letters import DeadLetters
    from varve.derived.processors.handling import Handlers
    from varve.derived.processors.processor import Processor
    from varve.derived.processors.run import AutoReplay
    from varve.derived.processors.strategies import Strategy
    from varve.derived.projections.declare import Projection
    from varve.derived.projections.handle import ProjectionHandle
    from varve.derived.projections.reports import ProjectionInfo
    from varve.derived.snapshots import Snapshots
    from varve.engine.commit import Session
    from varve.engine.snapshot import Snapshot as EngineSnapshot
    from varve.scoped import Pattern, ScopedVarve

R = TypeVar("R")


class Varve:
    """An open store. Thread-safe. ``with`` closes it without waiting for views; ``close()`` refuses while views live.

    Made by ``varve.open``.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        readonly: bool = False,
        durability: Durability = "full",
        map_bytes: int = limits.MAP_BYTES,
        allow_network: bool = False,
        linger_s: float = 0.0,
        trust: bool = True,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        folder = files.folder(path)
        if durability not in DURABILITIES:
            raise InvalidInput(f"durability is one of {', '.join(map(repr, DURABILITIES))}, not {durability!r}")
        if readonly and durability != "full":
            raise InvalidInput("a readonly handle commits nothing: leave durability out")
        if (
            isinstance(linger_s, bool)
            or not isinstance(linger_s, int | float)
            or not 0 <= linger_s <= limits.LINGER_S_MAX
        ):
            raise InvalidInput(f"linger_s is a number of seconds from 0 to {limits.LINGER_S_MAX}, not {linger_s!r}")
        if not isinstance(map_bytes, int) or not limits.MAP_BYTES_MIN <= map_bytes <= limits.MAP_BYTES_MAX:
            raise InvalidInput(
                f"map_bytes is an int of MAP_BYTES_MIN = {limits.MAP_BYTES_MIN} to MAP_BYTES_MAX = {limits.MAP_BYTES_MAX}, "
                f"not {map_bytes!r}"
            )
        if not trust:
            examine(folder)
        self._engine = Engine(
            folder,
            readonly=readonly,
            durability=durability,
            map_bytes=map_bytes // limits.PAGE_BYTES * limits.PAGE_BYTES,
            allow_network=allow_network,
            linger_s=linger_s,
            clock=clock,
        )
        self._live = Live(self._engine)
        self._state: State | None = None
        self._bindings = Bindings()
        self._snapshots: Snapshots | None = None

    # -- about -------------------------------------------------------------------------------------

    @property
    def path(self) -> str:
        """The store's folder, absolute."""
        return self._engine.path

    @property
    def readonly(self) -> bool:
        """Whether this handle can only read."""
        return self._engine.environment.readonly

    @property
    def uuid(self) -> uuid.UUID:
        """The store's identity, given at its creation and kept by copies."""
        return uuid.UUID(bytes=self._engine.created.uuid)

    @property
    def next_global_sequence(self) -> int:
        """Number of events in the log, which is the next global sequence."""
        with self._engine.snapshot() as snapshot:
            return snapshot.next_sequence

    def stats(self) -> StoreStats:
        """Counts, sizes, readers, live snapshots, and what this handle has written. docs/observability.md explains each field.

        Cheap enough to be asked every second: it walks nothing. Raises what a closed handle raises.
        """
        engine = self._engine
        environment = engine.environment
        with engine.snapshot() as snapshot:
            record = snapshot.record
            usage = engine.usage(snapshot)
        return StoreStats(
            events=record.next_sequence - record.first_sequence,
            first_sequence=record.first_sequence,
            next_sequence=record.next_sequence,
            streams=record.next_stream,
            names=record.next_name,
            types=record.next_type,
            blocks=usage.blocks,
            file_bytes=usage.file_bytes,
            used_bytes=usage.used_bytes,
            free_bytes=usage.free_bytes,
            log_bytes=usage.log_bytes,
            index_bytes=usage.index_bytes,
            meta_bytes=usage.meta_bytes,
            side_bytes=usage.side_bytes,
            map_bytes=usage.map_bytes,
            map_use=usage.used_bytes / usage.map_bytes,
            readers=usage.readers,
            readers_max=usage.readers_max,
            reader_lag=usage.reader_lag,
            snapshots=tuple(
                SnapshotStats(live.snapshot_id, live.age_s, max(0, usage.last_page - live.last_page))
                for live in sorted(engine.live(), key=lambda live: -live.age_s)
            ),
            writes=self._write_stats(),
            durability=environment.durability,
            readonly=environment.readonly,
        )

    def _write_stats(self) -> WriteStats:
        tally = self._engine.tally
        return WriteStats(
            transactions=tally.transactions,
            commits=tally.commits,
            events=tally.events,
            event_bytes=tally.event_bytes,
            group_max=tally.group_max,
            commit_s=tally.commit_s,
            commit_s_max=tally.commit_s_max,
            failed=tally.failed,
            waiting=self._engine.queued + waiting_for_room(self._engine),
        )

    def observe(self, observer: Observer) -> None:
        """Tell an observer of every commit of this handle, and of every batch that a consumer of it is done with, until
        ``unobserve`` or the end of the handle.

        Adding one twice is adding it once. Raises ``InvalidInput`` for what is no ``varve.Observer``.
        """
        if not isinstance(observer, Observer):
            raise InvalidInput(
                f"observe takes an instance of a class that derives from varve.Observer, not {observer!r:.80}"
            )
        self._engine.observe(observer)

    def unobserve(self, observer: Observer) -> None:
        """Tell it no more; nothing happens where it is not told, or the handle is closed."""
        self._engine.unobserve(observer)

    def __repr__(self) -> str:
        refusal = self._engine.environment.refusal
        state = type(refusal()).__name__ if refusal is not None else ("readonly" if self.readonly else "open")
        return f"<Varve {self.path} ({state})>"

    # -- streams and readers -----------------------------------------------------------------------

    def stream(self, name: str, types: TypeForm[E]) -> Stream[E]:
        """The streams of a name and the event class (or union of classes) that they hold. Writes nothing.

        Raises ``InvalidName``, ``SchemaError`` for a class that is no event class, ``SchemaConflict`` where a class
        changed in a way that events already in the store cannot follow.
        """
        declared = StreamTypes(check_name(name), _event_types(types))
        if GAP.name in declared.by_name:
            raise InvalidInput(
                "varve.Gap stands where compaction dropped events: nobody appends one, typed reads pass over it"
            )
        for one in declared.by_name.values():
            _check_not_posing(one)
        self._bind(list(declared.by_name.values()))
        return Stream(self._engine, declared.stream, declared)

    def _bind(self, types: list[EventType]) -> None:
        """Events of these types come as their classes from now on. Raises ``SchemaConflict``."""
        catalog = self._engine.catalog
        with self._engine.snapshot() as snapshot:
            for one in types:
                if catalog.type_number(snapshot, one) is None:
                    check_evolution(one, catalog.type_versions(snapshot, one.name))
        self._bindings.bind({one.name: one for one in types})

    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        """A reader of the whole log; each of its calls sees the newest instant.

        ``unknown``: what an event whose class no stream of this handle has bound (and no upcast names), or whose class cannot
        read it, comes to: ``"decode"`` gives an event of a class made from the schema in the log (an ``UnknownEvent`` where
        that schema is a newer Varve's), ``"event"`` an ``UnknownEvent``, and ``"error"`` raises ``UnexpectedEventType`` (or
        ``SchemaConflict``) where it stands.
        """
        self._engine.check_usable()
        return GlobalReader(self._live, self._bindings, unknown)

    def snapshot(self, at: int | None = None) -> Snapshot:
        """One consistent instant for any number of reads: now, or as the log was before global sequence ``at``.

        Use it as ``with db.snapshot() as snap``: until it is left it keeps LMDB from using pages again.
        """
        if at is not None and (not isinstance(at, int) or isinstance(at, bool) or at < 0):
            raise InvalidInput(f"at is a global sequence from 0 on, not {at!r}")
        rules_of(self._engine).look()  # so that the instant knows them
        snapshot = self._engine.held_snapshot(at, None if at is not None else STATE)
        if at is not None and at < snapshot.first_sequence:
            error = snapshot.archived(f"the log before {at}")
            snapshot.close()
            raise error
        if at is not None and at > snapshot.record.next_sequence:
            end = snapshot.record.next_sequence
            snapshot.close()
            raise InvalidInput(f"the log has {end} events; a snapshot at {at} would look into the future")
        return Snapshot(self._engine, self._bindings, snapshot)

    def sequence_at(self, when: dt.datetime) -> int:
        """The first global sequence recorded at or after an instant (an aware datetime); the next one if there is
        none."""
        try:
            time_ns = to_time_ns(when)
        except (ValueError, AttributeError, TypeError) as exc:
            raise InvalidInput(f"sequence_at takes an aware datetime: {exc}") from None
        with self._engine.snapshot() as snapshot:
            return first_at(snapshot, time_ns)

    # -- writing -----------------------------------------------------------------------------------

    @property
    def state(self) -> State:
        """State beside the log: values by key, read and changed by themselves (``varve.State``) or, in a transaction, together
        with events (``tx.state``)."""
        state = self._state
        if state is None:
            state = self._state = State(self._engine)
        return state

    def transaction(
        self, *, idempotency_key: IdempotencyKey | None = None, metadata: Metadata | None = None
    ) -> Transaction:
        """One atomic commit over any number of streams: ``with db.transaction() as tx: tx.append(orders, 1, event)``.

        ``metadata`` is that of every append in it; an append's own comes on top.
        """
        self._check_writable()
        return Transaction(self._engine, idempotency_key, metadata, self._bindings)

    def _check_writable(self) -> None:
        self._engine.check_usable()
        if self.readonly:
            raise self._engine.environment.not_writable()

    def write(
        self,
        fn: Callable[[WriteTransaction], R],
        *,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
    ) -> R:
        """Run ``fn(tx)`` while holding the write lock, commit what it appended, return what it returned.

        For decisions that must see the very latest. Nobody else commits meanwhile, so keep it short; ``fn`` cannot
        await. If it raises, nothing is written.
        """
        return self._write(WriteTransaction, fn, idempotency_key, metadata)

    def _write(
        self,
        make: Callable[[Engine, Bindings, Session, IdempotencyKey | None, Metadata | None], WriteTransaction],
        fn: Callable[[Any], R],
        idempotency_key: IdempotencyKey | None,
        metadata: Metadata | None,
    ) -> R:
        """``write`` with a transaction that ``make`` makes: a scoped handle's is its own."""
        if not callable(fn):
            raise InvalidInput(f"db.write takes a function of the transaction, not {fn!r:.80}")
        with self._engine.session() as session:
            tx = make(self._engine, self._bindings, session, idempotency_key, metadata)
            try:
                result = fn(tx)
                check_result(result, "it would wait while holding the write lock. Use db.transaction() instead")
                tx._finish()  # noqa: SLF001 - the same library
            finally:
                tx._abandon()  # noqa: SLF001
            return result

    def optimistic(
        self,
        fn: Callable[[Transaction], R],
        *,
        retries: int | None = None,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], object] = time.sleep,
    ) -> R:
        """Run ``fn(tx)``, commit what it did if nobody has changed meanwhile what it has read (through ``tx``), else run it
        again; return what it returned. Never a lost update, and no lock while it runs.

        For decisions on state and streams by many writers at once. ``fn`` may run several times, the later ones perhaps on
        another thread and inside the write transaction (where conflicts are settled at once): it does nothing but decide, reads
        through ``tx`` alone, and cannot await. Where others are faster ``retries`` times (default ``OPTIMISTIC_RETRIES``),
        ``TransactionConflict`` is raised. What ``fn`` raises comes out, as do failed checks and expectations, which are no reason
        to run again; nothing is written then. ``rng`` and ``sleep`` make the pauses between runs.

        An idempotency key means what it does for a transaction: the same key with other content is a conflict, and ``fn`` may
        decide otherwise later.
        """
        return self._optimistic(fn, retries, idempotency_key, metadata, rng).run(sleep)

    async def optimistic_async(
        self,
        fn: Callable[[Transaction], R],
        *,
        retries: int | None = None,
        idempotency_key: IdempotencyKey | None = None,
        metadata: Metadata | None = None,
        rng: random.Random | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> R:
        """``optimistic`` without blocking the event loop: its commit is awaited. ``fn`` itself is a plain function."""
        return await self._optimistic(fn, retries, idempotency_key, metadata, rng).run_async(sleep)

    def _optimistic(
        self,
        fn: Callable[[Transaction], R],
        retries: int | None,
        idempotency_key: IdempotencyKey | None,
        metadata: Metadata | None,
        rng: random.Random | None,
        make: Callable[..., Transaction] = Transaction,
        make_inside: Callable[..., WriteTransaction] = WriteTransaction,
    ) -> Optimistic[R]:
        """``optimistic``, yet to be run; a scoped handle's with transactions of its own."""
        from varve.derived.optimistic import Optimistic  # who only appends and reads does not load it

        self._check_writable()
        return Optimistic(self._engine, self._bindings, fn, retries, idempotency_key, metadata, rng, make, make_inside)

    def sync(self) -> None:
        """Force everything committed so far to disk: what ``durability="bulk"`` leaves to you."""
        self._engine.sync()

    # -- the whole store ---------------------------------------------------------------------------

    @property
    def first_global_sequence(self) -> int:
        """The first global sequence that the log still holds: 0, unless its beginning was archived."""
        with self._engine.snapshot() as snapshot:
            return snapshot.first_sequence

    def archive(
        self,
        before: int,
        to: str | os.PathLike[str],
        *,
        force: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> ArchiveReport:
        """Move the beginning of the log into a store of its own: whole blocks, up to the one that holds global sequence
        ``before``.

        Positions never change: everything keeps its global and its stream sequence, streams their lengths, idempotency keys their
        effect. Reads below the new beginning (``first_global_sequence``) raise ``Archived``, never an empty result;
        ``varve.open([archive, store])`` replays through both. The last block always stays. The file does not shrink: its pages
        are used again.

        ``to`` must not exist; it gets its name once it is complete, verified and on disk, and only then does one commit take
        what it holds out of this store. Where that was cut off between the two, the same call goes on. Consumers that have not
        read so far are a reason to refuse (``ConsumersBehind``) unless ``force`` is given. ``progress`` is called with events
        done and in all. Other handles go on reading and writing meanwhile; snapshots and views that they hold stay whole.

        Raises ``InvalidInput``, ``ReadonlyStore``, ``ConsumersBehind``, ``Conflict`` (another process archived meanwhile),
        ``CorruptedBlock``, ``CorruptedStore``, ``DiskFull`` and what a commit raises; nothing has changed then.
        """
        return archive(self._engine, before, to, force=force, progress=progress)

    # -- derived state -----------------------------------------------------------------------------

    @property
    def snapshots(self) -> Snapshots:
        """State saved at positions, so that whoever folds the log need not begin at its first event: see docs/snapshots.md.

        (One instant of the log for several reads is ``db.snapshot()``.)
        """
        found = self._snapshots
        if found is None:
            from varve.derived.snapshots import Snapshots  # who saves none does not load it

            found = self._snapshots = Snapshots(self._engine)
        return found

    # -- live --------------------------------------------------------------------------------------

    def watcher(self) -> Watcher:
        """What tells how far the log reaches, and waits for it to reach further."""
        return Watcher(self._engine)

    def tail(
        self,
        start: TailStart = 0,
        *,
        streams: Iterable[str] | None = None,
        types: Iterable[type | str] | None = None,
        unknown: UnknownAnywhere = "decode",
    ) -> Tail[Any]:
        """The log from a start on, and then what any process commits: ``async for recorded in db.tail(): ...``.

        ``start``: a global sequence, ``varve.END`` (only what is committed from now on) or an aware datetime (what was or
        will be recorded at or after it). ``streams``, ``types`` and ``unknown`` as in ``global_reader().iter_from``.
        """
        return Tail(self._engine, selection(self._bindings, streams, types, unknown), check_start(start))

    def follow(
        self,
        start: TailStart = 0,
        *,
        streams: Iterable[str] | None = None,
        types: Iterable[type | str] | None = None,
        unknown: UnknownAnywhere = "decode",
        timeout_s: float | None = None,
    ) -> Follow[Any]:
        """A tail for threads: a plain iterator that blocks while there is nothing. Arguments as ``tail``.

        ``timeout_s``: end once nothing came for so many seconds; None: go on until the store closes.
        """
        chosen = selection(self._bindings, streams, types, unknown)
        return Follow(self._engine, chosen, check_start(start), timeout_s)

    def consumer(
        self,
        name: str,
        *,
        streams: Iterable[str] | None = None,
        types: Iterable[type | str] | None = None,
        start: TailStart = 0,
        commit: CommitMode = "auto",
        interval_s: float | None = None,
        member: int | None = None,
        members: int | None = None,
        force: bool = False,
    ) -> Consumer[Any]:
        """Become the owner of a named, durable position: ``async for recorded in db.consumer("billing"): ...``.

        ``streams`` and ``types`` as in ``tail``; they may differ from run to run, the position does not care. ``start``: where
        it begins at its very first use. ``commit``: ``"auto"`` stores the position as the loop comes back for more, at most
        every ``interval_s`` seconds (default ``CONSUMER_STORE_INTERVAL_S``; 0: after each batch) and when it is closed;
        ``"manual"`` waits for ``await consumer.commit()``. ``member`` of ``members``: share the events with other owners of
        the name, by stream. ``force``: take over from an owner who hangs; he is refused from then on.

        Blocks for one commit. Raises ``ConsumerBusy`` while somebody else owns it, or while members of another number do;
        ``InvalidName``, ``InvalidInput``, ``ReadonlyStore``, ``StoreAccessDenied`` where its lock file cannot be made.
        """
        chosen = selection(self._bindings, streams, types)
        return self._consumer(
            chosen, name, start=start, commit=commit, interval_s=interval_s, member=member, members=members, force=force
        )

    def _consumer(
        self,
        chosen: Selection,
        name: str,
        *,
        start: TailStart = 0,
        commit: CommitMode = "auto",
        interval_s: float | None = None,
        member: int | None = None,
        members: int | None = None,
        force: bool = False,
    ) -> Consumer[Any]:
        """``consumer`` of what was chosen already."""
        check_name(name, "consumer name")
        interval_s = check_commit(commit, interval_s)
        member, members = check_member(member, members)
        check_start(start)
        self._check_writable()
        return Consumer(
            self._engine,
            chosen,
            str.__str__(name),
            start=start,
            commit=commit,
            interval_s=interval_s,
            member=member,
            members=members,
            force=force,
        )

    def consumers(self) -> list[ConsumerInfo]:
        """The consumers of this store, by name: where they stand, who runs them."""
        return list_consumers(self._engine)

    def seek_consumer(self, name: str, start: TailStart, *, force: bool = False) -> int | None:
        """Let a consumer that nobody runs, with all members of its group, continue from elsewhere; the position, or None where
        there is no such consumer. ``start`` as in ``tail``.

        Raises ``ConsumerBusy`` while somebody runs it, ``InvalidInput`` for a sequence beyond the end of the log. ``force``: move
        it all the same; who runs it gets ``ConsumerFenced``. (A consumer moves itself with ``Consumer.seek``.)
        """
        check_name(name, "consumer name")
        check_start(start)
        self._check_writable()
        return seek_consumer(self._engine, str.__str__(name), start, force=force)

    def delete_consumer(self, name: str, *, force: bool = False) -> bool:
        """Forget a consumer and its position; whether there was one. Raises ``ConsumerBusy`` while somebody runs it.

        ``force``: delete it all the same; who runs it gets ``ConsumerFenced``.
        """
        check_name(name, "consumer name")
        self._check_writable()
        return delete_consumer(self._engine, str.__str__(name), force=force)

    # -- derived -----------------------------------------------------------------------------------

    def projection(
        self,
        projection: type[Projection] | Projection,
        *,
        folder: str | os.PathLike[str] | None = None,
        rebuild: bool = True,
    ) -> ProjectionHandle:
        """SQLite tables that follow the log: what fills and reads those of a ``varve.Projection`` class, or of an instance
        of one.

        ``folder``: where its files are; by default ``projections/<name>`` in the store's folder. They can be made again from
        the log,
        so backups leave them out. ``rebuild``: whether catching up may rebuild it where it has to be (docs/projections.md says
        when). Writes nothing yet. A readonly handle of the store can read the default folder, and fill another one.

        Raises ``InvalidProjection`` for a class that cannot work, a schema or a statement that is no SQL; ``SchemaError``.
        """
        from varve.derived.projections.handle import ProjectionHandle

        self._engine.check_usable()
        return ProjectionHandle(self._engine, projection, folder, rebuild=rebuild)

    def projections(self) -> list[ProjectionInfo]:
        """The projections in the store's folder, by name: where they stand, who runs them. (Not those in folders of their
        own.)"""
        from varve.derived.projections.listing import list_projections

        self._engine.check_usable()
        return list_projections(self._engine)

    def processor(
        self,
        name: str,
        handlers: Handlers,
        *,
        strategy: Strategy | None = None,
        streams: Iterable[str] | None = None,
        types: Iterable[type | str] | None = None,
        start: TailStart = 0,
        batch: int = limits.PROCESSOR_EVENTS_MAX,
        breaker: CircuitBreaker | None = None,
        auto_replay: AutoReplay | None = None,
        member: int | None = None,
        members: int | None = None,
        force: bool = False,
        clock: Callable[[], int] | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> Processor:
        """Handlers that are called for events, with what becomes of an event that they cannot handle: ``await processor.run()``.

        ``handlers``: a function ``fn(recorded, tx)``, sync or async, or a mapping from event classes to such functions (then
        the events are those of these classes); ``varve.Batched(fn)`` takes lists. What a handler appends and changes through
        ``tx`` is committed together with the position behind its event; where it raises, nothing of the event is kept and the
        ``strategy`` says what happens: ``varve.FailFast()`` (the default), ``Skip()``, ``Retry(...)``, ``DeadLetter(...)``, or a
        function of event, error and number of failed attempts.

        ``streams``, ``types``, ``start``, ``member``, ``members`` and ``force`` as in ``consumer``, whose name this is.
        ``batch``: events that are committed together at most. ``breaker`` keeps from calling handlers while all fail.
        ``auto_replay``: when dead letters are tried again without being asked for. ``clock`` (nanoseconds since 1970; the
        store's) and ``sleep`` (a coroutine function of seconds; ``asyncio.sleep``) are for tests.

        Nothing is read or written before it runs. Raises ``InvalidName``, ``InvalidInput``, ``SchemaError``, ``SchemaConflict``
        (a class that events in the store cannot follow), ``ReadonlyStore``.
        """
        from varve.derived.processors.handling import Handling
        from varve.derived.processors.processor import Processor
        from varve.derived.processors.strategies import FailFast

        check_name(name, "processor name")
        handling = Handling(handlers)
        if handling.types is not None:
            if types is not None:
                raise InvalidInput("handlers says which types it is for: leave types out, or give one handler for all")
            self._bind(handling.types)
            types = [declared.name for declared in handling.types]
        self._check_writable()
        chosen = selection(self._bindings, streams, types)
        number, count = check_member(member, members)
        return Processor(
            self._engine,
            chosen,
            self._bindings,
            str.__str__(name),
            handling,
            strategy=FailFast() if strategy is None else strategy,
            start=check_start(start),
            batch=batch,
            breaker=breaker,
            auto_replay=auto_replay,
            member=number,
            members=count,
            force=force,
            clock=clock,
            sleep=sleep,
        )

    def dead_letters(self, name: str | None = None) -> DeadLetters:
        """The dead letters of a processor, or of all: to list, look at, drop, and have tried again. Raises ``InvalidName``."""
        from varve.derived.processors.dead_letters import DeadLetters

        if name is not None:
            check_name(name, "processor name")
        return DeadLetters(self._engine, name, self._bindings.view_class)

    # -- the whole store ---------------------------------------------------------------------------

    def backup(
        self, target: str | os.PathLike[str], *, incremental: bool = False, progress: Progress | None = None
    ) -> BackupReport:
        """Back the store up into the folder ``target`` (a backup *set*, made where there is none) while everybody goes on.

        What is covered is one instant: the log, and consumers' positions. A full backup is a folder in ``target`` that holds a
        compacted copy of the store, sealed; with ``incremental``, what came since the last backup in the set (a full one where
        there is none). Each is verified after it was written, and appears under its name when it is complete and on disk.
        Where nothing came since, nothing is written, and the report says so. ``progress`` is called with bytes done and bytes in
        all, on this thread. Holds a snapshot meanwhile. ``varve.ops.restore`` makes a store of it.

        Raises ``InvalidInput``, ``BackupMismatch`` (the set is another store's, or of another history; or, with ``incremental``,
        cannot be continued since the store was compacted or archived), ``CorruptedBackup`` (what would be continued),
        ``CorruptedStore`` and ``CorruptedBlock`` (the store is damaged: nothing is kept), ``StoreInUse`` (another backup into the
        set is running), ``DiskFull``, ``StoreUnavailable`` and its kin.
        """
        from varve.backups.take import take  # who only appends and reads does not load it

        return take(self._engine, target, incremental=incremental, progress=progress)

    # -- parts of it -------------------------------------------------------------------------------

    def scoped(
        self,
        *,
        read: Iterable[Pattern] = (),
        append: Iterable[Pattern] = (),
        state: Iterable[StateKey] = (),
        state_read: Iterable[StateKey] = (),
        consumers: Iterable[str] | None = None,
        metadata: Metadata | None = None,
        label: str = "scoped",
        audit: str | Stream[Any] | None = None,
    ) -> ScopedVarve:
        """A handle that can do only what is named here, for code that works for one tenant, or does one job. docs/scoped.md.

        ``read`` and ``append``: patterns of streams: ``"orders"`` (every stream of that name), ``"orders/*"`` (the same by ids),
        ``"orders/7"`` (one stream), ``*`` and ``?`` standing for any text and any character; or tuples that mean exactly what
        they say: ``("orders",)``, ``("orders", 7)``. ``state``: beginnings of keys that may be read and changed (``"t1/"``, or
        ``("t1",)`` for tuples), ``state_read``: those that may be read only. ``consumers``: patterns of the names of
        consumers; None: any. What is not named is not allowed. ``metadata`` is added to every append. ``label`` is what errors
        and the audit call the handle; ``audit``: a stream of ``varve.AccessRefused``, or its name, in which refused attempts are
        recorded.

        Everything else raises ``PermissionRefused``. It is a guard rail against mistakes, not a security boundary: Python
        code can reach round it. The handle holds nothing and needs no closing; it ends with the store.

        Raises ``InvalidInput``, ``InvalidName``, ``InvalidStreamId`` and ``InvalidMetadata``; with ``audit`` also what a write is
        refused with.
        """
        from varve.scoped import make_scoped  # who never narrows a handle does not load it

        return make_scoped(
            self,
            read=read,
            append=append,
            state=state,
            state_read=state_read,
            consumers=consumers,
            metadata=metadata,
            label=label,
            audit=audit,
        )

    # -- ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Close the store now; nothing happens if it is closed already.

        Its iterators end first. Raises ``ViewsStillAlive``, and the store stays open, while memoryviews or events of
        the map are in your hands.
        """
        self._engine.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._engine.release()


class Snapshot:
    """One consistent instant of a store. Made by ``db.snapshot()``; thread-safe.

    Its readers raise ``SnapshotClosed`` once the ``with`` block is left; views that they gave stay valid.
    """

    __slots__ = ("_bindings", "_engine", "_snapshot")

    def __init__(self, engine: Engine, bindings: Bindings, snapshot: EngineSnapshot) -> None:
        self._engine = engine
        self._bindings = bindings
        self._snapshot = snapshot

    @overload
    def reader(self, stream: Stream[E], *, unknown: Literal["error"] = "error") -> StreamReader[E]: ...
    @overload
    def reader(self, stream: Stream[E], *, unknown: Literal["event"]) -> StreamReader[E | UnknownEvent]: ...
    def reader(self, stream: Stream[E], *, unknown: UnknownTyped = "error") -> StreamReader[Any]:
        """A reader of a stream name at this instant; ``unknown`` as in ``Stream.reader``."""
        self._snapshot.transaction  # noqa: B018 - raises where it is closed
        if getattr(stream, "_engine", None) is not self._engine:
            raise InvalidInput("a snapshot reads streams of its own store, made by db.stream(name, types)")
        types = stream._types.by_name  # noqa: SLF001 - the same library
        return StreamReader(Fixed(self._engine, self._snapshot), stream.name, types, unknown)

    def global_reader(self, *, unknown: UnknownAnywhere = "decode") -> GlobalReader:
        """A reader of the whole log at this instant; ``unknown`` as in ``db.global_reader``."""
        self._snapshot.transaction  # noqa: B018 - as in reader
        return GlobalReader(Fixed(self._engine, self._snapshot), self._bindings, unknown)

    @property
    def state(self) -> StateView:
        """State at this instant. Raises ``StateNotVersioned`` in a snapshot that looks back: state is kept without its past."""
        self._snapshot.transaction  # noqa: B018 - as in reader
        at = self._snapshot.limit
        if at is not None:
            raise StateNotVersioned(
                f"state is kept as it is now, not as it was at global sequence {at}: take db.snapshot() of now, or derive it "
                "from the events",
                at=at,
            )
        return StateView(AtInstant(self._snapshot), self._engine.path)

    @property
    def next_global_sequence(self) -> int:
        """Number of events at this instant."""
        self._snapshot.transaction  # noqa: B018 - as in reader
        return self._snapshot.next_sequence

    def close(self) -> None:
        """Let the instant go; the end of a ``with`` block does it."""
        self._snapshot.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Snapshot of {self._engine.path}>"


def _check_not_posing(one: EventType) -> None:
    """Raise ``InvalidInput`` for a class that has a type name of Varve's own and is none of Varve's, nor made of a schema that
    the log has: its events would pass for what Varve itself writes."""
    if one.name in limits.TAKEN_TYPES and one.cls.__module__.partition(".")[0] != "varve":
        raise InvalidInput(
            f"the type name {one.name!r} of {one.cls.__module__}.{one.cls.__qualname__} is Varve's own, which stands for "
            "something else: give the class another with @varve.event(name=...)"
        )


def _event_types(declared: Any) -> list[EventType]:
    """The event types of a class or a union of classes. Raises ``SchemaError``."""
    while isinstance(declared, TypeAliasType):  # from 3.12: type OrderEvent = OrderPlaced | OrderShipped
        declared = declared.__value__
    is_union = isinstance(declared, types.UnionType) or typing.get_origin(declared) is typing.Union
    members = typing.get_args(declared) if is_union else (declared,)
    if isinstance(declared, list | tuple):
        raise SchemaError("several event classes of one stream are written as a union: db.stream(name, A | B)")
    compiled = [event_type(member) for member in members]
    names = [one.name for one in compiled]
    for name in names:
        if names.count(name) > 1:
            raise SchemaError(
                f"two classes of this stream have the type name {name!r}; give one another with @varve.event(name=...)"
            )
    return compiled
