"""The engine as the rest of Varve sees it: snapshots out of it, commits into it."""

from __future__ import annotations

import contextlib
import os
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Generator, Iterator
from typing import Any, Protocol, TypeVar

import lmdb

from varve import limits
from varve.engine import files
from varve.engine.catalog import Catalog
from varve.engine.checked import CheckedBlocks, corrupted, parse
from varve.engine.commit import Session
from varve.engine.copy import copy_out
from varve.engine.environment import Durability, Environment
from varve.engine.failures import failed
from varve.engine.group import Group, Ticket
from varve.engine.hints import HintSender
from varve.engine.horizon import move_horizon
from varve.engine.located import KnownStream, KnownStreams
from varve.engine.observers import Observers
from varve.engine.pins import LivePin
from varve.engine.request import CommitRequest, Committed
from varve.engine.snapshot import Snapshot
from varve.engine.tally import Tally
from varve.engine.usage import Usage, usage
from varve.engine.writer import Writer, holds_lock
from varve.errors import CorruptedStore, NotAVarveStore, ReadonlyStore, ViewsStillAlive
from varve.layout import keys, records
from varve.layout.base import Base
from varve.layout.block import Block
from varve.layout.frame import MalformedBlock
from varve.layout.records import StoreRecord, unpack_store_record
from varve.logs import DEBUG, say
from varve.reports import Observer

T = TypeVar("T")

_NOTHING = memoryview(b"")
_BLOCKS_AT_ONCE = 64
"""So many blocks are copied in one snapshot, where whole logs are read."""


class StoreClosing(BaseException):
    """Thrown into a running iterator when its store closes: it lets its memory go and raises ``StoreClosed`` when
    resumed."""


class Listener(Protocol):
    """Who wants to know of commits: see ``Engine.listener``."""

    def committed(self, next_sequence: int) -> None:
        """A commit of this handle raised the next global sequence. The committing thread waits: quick, and never raises."""
        ...

    def closing(self) -> None:
        """The handle is about to be closed: leave the store, soon, and wait for whoever of yours is inside."""
        ...

    def open_after_all(self) -> None:
        """It was not closed: views hold it."""
        ...

    def closed(self) -> None:
        """The handle refuses everything from now on. May be called by a finaliser: waits for nobody."""
        ...


class Engine:
    """One open store, without events' meaning: blocks, runs, metadata in and out."""

    def __init__(
        self,
        path: str,
        *,
        readonly: bool,
        durability: Durability,
        map_bytes: int,
        allow_network: bool,
        clock: Callable[[], int],
        linger_s: float = 0.0,
        identity: tuple[bytes, int] | None = None,
    ) -> None:
        """``identity``: uuid and creation time (ns) of the store, where it is made now: of a copy of another's log."""
        self.environment = Environment(
            os.path.abspath(path),
            readonly=readonly,
            durability=durability,
            map_bytes=map_bytes,
            allow_network=allow_network,
        )
        self.clock = clock
        self.catalog = Catalog()
        self.checked = CheckedBlocks()
        self.known_streams = KnownStreams()
        self.listener: Listener | None = None
        self.rules: Any = None
        """What readers pass over: kept here for ``varve.retention``, which makes it."""
        self._hints = HintSender(self.environment.path)
        self._iterators: weakref.WeakSet[Generator[Any, None, None]] = weakref.WeakSet()
        self.inboxes: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        """Where event loops await commits: kept here for ``tailing``, which makes them."""
        self._observers = Observers(self.environment.path)
        self._observing = threading.Lock()
        self.inbox: Any = None
        """That of the loop that asked last."""
        try:
            self.created = self._found(clock, identity)
            self._writer = Writer(self.environment, self.catalog, self.checked, clock)
            self._writer.on_committed = weakref.WeakMethod(self.notify)
            self._group = Group(self._writer, linger_s)
        except BaseException:
            self.environment.release()
            raise
        say(DEBUG, "%s: opened (%s)", self.path, "readonly" if readonly else f"durability {durability}")

    @property
    def path(self) -> str:
        """The store's folder."""
        return self.environment.path

    def _found(self, clock: Callable[[], int], identity: tuple[bytes, int] | None) -> StoreRecord:
        """The store's record; made where the store is new. Raises ``NotAVarveStore``, ``UnsupportedFormat``,
        ``CorruptedStore``."""
        environment = self.environment
        try:
            with environment.begin() as transaction:
                stored = transaction.get(keys.STORE_RECORD_KEY, db=environment.meta)
                value = None if stored is None else bytes(stored)
        except lmdb.Error as exc:
            raise environment.read_error(exc) from exc
        if value is None:
            if environment.readonly:
                raise NotAVarveStore(
                    f"{self.path} was never finished being created; open it once without readonly", path=self.path
                )
            value = self._create(clock, identity)
        record = records.decode_store_record(value)
        if record is None:
            raise CorruptedStore(
                f"{self.path}: the store's record is damaged; repair the metadata with varve.ops", path=self.path
            )
        if isinstance(record, int):
            raise records.unsupported(self.path, record)
        if not record.next_sequence and not environment.readonly:
            self._settle()
        return record

    def _settle(self) -> None:
        """Make an empty store durable that was found: whoever has created it may have been killed in the middle of it, and what
        a power cut takes back then is seen until it comes."""
        if self.environment.durability == "full":
            self.sync()

    def _create(self, clock: Callable[[], int], identity: tuple[bytes, int] | None = None) -> bytes:
        environment = self.environment
        try:
            # Before the record, so that a store with a record has its name for good: whoever made the file may have been
            # killed before he did this.
            files.sync_folder(self.path)
        except OSError as exc:
            raise files.unavailable(self.path, exc) from exc
        try:
            with environment.env.begin(write=True) as transaction:
                stored = transaction.get(keys.STORE_RECORD_KEY, db=environment.meta)
                if stored is not None:  # another process was faster
                    return bytes(stored)
                if transaction.stat(environment.log)["entries"]:
                    raise CorruptedStore(
                        f"{self.path} has a log but no store record; repair the metadata with varve.ops", path=self.path
                    )
                record = StoreRecord(*(identity or (uuid.uuid4().bytes, clock()))).encode()
                transaction.put(keys.STORE_RECORD_KEY, record, db=environment.meta)
            say(DEBUG, "%s: created", self.path)
            return record
        except lmdb.Error as exc:
            raise failed(environment, exc, limits.PAGE_BYTES) from exc

    # -- reading and writing -----------------------------------------------------------------------

    def snapshot(self, limit: int | None = None) -> Snapshot:
        """The newest instant."""
        return Snapshot(self.environment, self.catalog, self.checked, limit=limit)

    def known_event(self, known: KnownStream, stream_sequence: int) -> tuple[int, bytes] | None:
        """``Snapshot.known_event`` in the newest instant, without making a snapshot."""
        sequence = known.sequence(stream_sequence)
        places = self.checked.holding(sequence)
        if places is None:
            return None
        first = places.first
        environment = self.environment
        mark = object()
        environment.active.add(id(mark))
        transaction = data = None
        try:
            transaction = environment.begin()
            data = transaction.get(keys.log_key(first), _NOTHING, environment.log)
            return places.event(data, sequence - first, known.number, stream_sequence, limits.COPIED_EVENT_BYTES_MAX)
        except lmdb.Error as exc:
            raise environment.read_error(exc) from exc
        finally:
            data = transaction = None  # an error that is kept keeps this frame, and must not keep the map
            environment.active.discard(id(mark))

    def side_snapshot(self, table: str) -> Snapshot:
        """The newest instant, in which a side table can be read (``Snapshot.side_value``).

        Raises ``HandleUnusable`` inside ``db.write`` where another process has made the table since this handle was opened.
        """
        while True:
            self._open_side(table)
            snapshot = self.snapshot()
            if self.environment.opened_side(table) is not None or not snapshot.lacks_side(table):
                return snapshot
            snapshot.close()  # another process made it between the two lines

    def side_value(self, table: str, key: bytes) -> bytes | None:
        """A copy of a value of a side table as it is now; None where there is none. Raises as ``side_snapshot``."""
        self._open_side(table)
        environment = self.environment
        database = environment.opened_side(table)
        if database is None:
            return None
        mark = object()  # as in known_event
        environment.active.add(id(mark))
        transaction = value = None
        try:
            transaction = environment.begin()
            value = transaction.get(key, db=database)
            return None if value is None else bytes(value)
        except lmdb.Error as exc:
            raise environment.read_error(exc) from exc
        finally:
            transaction = value = None
            environment.active.discard(id(mark))

    def _open_side(self, table: str) -> None:
        environment = self.environment
        if environment.opened_side(table) is None and environment.has_side(table):
            with self._writer.wait_idle():  # one of our threads may hold LMDB's writer lock, perhaps this one
                environment.side(table)

    def complete_snapshot(self) -> Snapshot:
        """The newest instant, in which every side table can be read, whoever has made it just before.

        Raises as ``side_snapshot``.
        """
        while True:
            for table in files.SIDE_TABLES:
                self._open_side(table)
            snapshot = self.snapshot()
            if not any(snapshot.lacks_side(table) for table in files.SIDE_TABLES):
                return snapshot
            snapshot.close()  # made between the two lines

    def sound_blocks(self, start: int, stop: int) -> Iterator[Block]:
        """The blocks that hold ``start .. stop`` (which exist), in order, on the heap, each looked at as a whole. No snapshot is
        held for long: the last one may have grown behind ``stop``. Raises ``CorruptedBlock``; ``Archived`` where that came
        between."""
        while start < stop:
            with self.snapshot() as snapshot:
                for _ in range(_BLOCKS_AT_ONCE):
                    block = snapshot.copied_block(start)
                    try:
                        block.check()
                    except MalformedBlock as exc:
                        raise corrupted(self.path, start, str(exc)) from None
                    yield block
                    start = block.end
                    if start >= stop:
                        break

    def copy_out(self, write: Callable[[bytes], object]) -> None:
        """Hand the bytes of a compacted copy of the newest instant to ``write``: see ``varve.engine.copy``."""
        copy_out(self.environment, write)

    def commit(self, request: CommitRequest) -> Committed:
        """Make one commit durable, on this thread or in the company of others."""
        return self._group.commit(request)

    def submit(self, ticket: Ticket) -> None:
        """Hand in a commit and go on: it is delivered to the ticket's inbox. Raises what can be said at once."""
        self._group.submit(ticket)

    def session(self) -> contextlib.AbstractContextManager[Session]:
        """The write transaction itself, for ``db.write``, behind everything that was handed in before."""
        if self._group.busy:
            self._group.drain()
        return self._writer.session()

    def users_code(self) -> contextlib.AbstractContextManager[None]:
        """Inside the block code of the user's runs, in a commit: see ``Writer.users_code``."""
        return self._writer.users_code()

    def check_writable(self) -> None:
        """Raise what every write on this handle is refused with, if it is."""
        self._writer.check_entry()

    def move_horizon(self, base: Base, before: Base | None, check: Callable[[list[tuple[bytes, bytes]]], None]) -> None:
        """Let go of what was archived: see ``engine.horizon``."""
        move_horizon(self._writer, base, before, check)

    def notify(self, next_sequence: int) -> None:
        """A commit raised the next global sequence: tell whoever waits for it, here and in other processes. Never raises."""
        listener = self.listener
        if listener is not None:
            listener.committed(next_sequence)
        self._hints.send()

    def look(self, seen: int) -> tuple[int, int] | None:
        """Number of the newest instant and its next global sequence; None where that instant is number ``seen``.

        The cheap question of whoever polls. What it answers was read from that very instant: LMDB's other ways to ask for
        the last commit can run ahead of what a transaction sees.
        """
        environment = self.environment
        mark = object()  # as Snapshot does it, without making one
        environment.active.add(id(mark))
        try:
            with environment.begin() as transaction:
                number = transaction.id()
                if number == seen:
                    return None
                stored = transaction.get(keys.STORE_RECORD_KEY, db=environment.meta)
                if stored is None:
                    raise CorruptedStore(
                        f"{self.path} has lost its store record; repair it with varve.ops", path=self.path
                    )
                return number, unpack_store_record(stored).next_sequence
        except lmdb.Error as exc:
            raise environment.read_error(exc) from exc
        finally:
            environment.active.discard(id(mark))

    def block_after(self, position: int) -> Block | None:
        """A block on the heap that holds a position at the end of the log, where one is at hand: as this handle's own last
        commit wrote it, else the last block of the log (which may not reach so far). None where the log is empty.

        What a reader at the end of the log needs for every commit, at a third of a snapshot's price or less.
        """
        environment = self.environment
        frame = self._writer.last_frame
        if frame is not None:
            block = Block(memoryview(frame))
            if block.first <= position < block.end:
                return block
        mark = object()
        environment.active.add(id(mark))
        try:
            with environment.begin() as transaction, transaction.cursor(environment.log) as cursor:
                if not cursor.last():
                    return None
                key, data = cursor.item()
                first = keys.log_sequence(key)
                self.checked.check(self.path, first, data)
                return parse(self.path, first, memoryview(bytes(data)))
        except lmdb.Error as exc:
            raise environment.read_error(exc) from exc
        finally:
            environment.active.discard(id(mark))

    # -- observing ---------------------------------------------------------------------------------

    @property
    def observers(self) -> Observers | None:
        """Who is told of commits and batches; None where nobody is."""
        return self._writer.observers

    def observe(self, observer: Observer) -> None:
        """Tell this one of every commit of the handle from now on."""
        with self._observing:
            self.check_usable()
            self._observers.add(observer)
            self._writer.observers = self._observers

    def unobserve(self, observer: Observer) -> None:
        """Tell it no more; nothing happens where it is not told."""
        with self._observing:
            if not self._observers.remove(observer):
                self._writer.observers = None

    @property
    def tally(self) -> Tally:
        """What this handle has committed."""
        return self._writer.tally

    @property
    def queued(self) -> int:
        """Commits that wait for the helper thread."""
        return self._group.waiting

    def usage(self, snapshot: Snapshot) -> Usage:
        """What the store takes up at an instant."""
        try:
            return usage(self.environment, snapshot.transaction)
        except lmdb.Error as exc:
            raise self.environment.read_error(exc) from exc

    def check_usable(self) -> None:
        """Raise what this handle refuses everything with, if it does: ``StoreClosed`` and its kin."""
        if self.environment.refusal is not None:
            raise self.environment.refusal()

    def sync(self) -> None:
        """Force everything committed so far to disk."""
        self.check_usable()
        if self.environment.readonly:
            raise ReadonlyStore(f"{self.path} was opened with readonly=True; whoever writes to it can sync it")
        begun_s = time.perf_counter()
        try:
            self.environment.env.sync(True)
        except lmdb.Error as exc:
            raise self.environment.fail(f"cannot force it to disk ({exc})", str(exc)) from exc
        say(DEBUG, "%s: forced to disk in %.3f s", self.path, time.perf_counter() - begun_s)

    def live(self) -> list[LivePin]:
        """Live snapshots of this process: those that views pin, and those that the user holds."""
        held = [live for snapshot in _members(self.environment.held) if (live := snapshot.live()) is not None]
        # A held snapshot and its pin are one: the older of the two stands for it.
        by_id = {live.snapshot_id: live for live in sorted((*self.environment.pins.live(), *held), key=_age)}
        return list(by_id.values())

    def track(self, iterator: Generator[Any, None, None]) -> None:
        """Close this iterator when the store closes."""
        self._iterators.add(iterator)

    def held_snapshot(self, limit: int | None = None, table: str | None = None) -> Snapshot:
        """The newest instant, for a user who may hold it for long: it is closed with the store. ``table``: a side table that can
        be read in it."""
        snapshot = self.snapshot(limit) if table is None else self.side_snapshot(table)
        snapshot.hold()
        return snapshot

    # -- ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Unmap now, after the commit that is running. Raises ``ViewsStillAlive`` and stays open where the user's views hold
        the map, ``HandleUnusable`` inside ``db.write``."""
        if self._ended():
            return
        self._group.drain()
        try:
            with self._writer.wait_idle():
                self._close_idle()
        finally:
            if self.environment.is_closed:
                self._group.end()
                say(DEBUG, "%s: closed", self.path)

    @holds_lock
    def _close_idle(self) -> None:
        if self._ended():
            return
        self._end_iterators()
        listener = self._tell_closing()
        try:
            self.environment.close(self._end_snapshots)
        except ViewsStillAlive:
            if listener is not None:
                listener.open_after_all()
            raise
        finally:
            if self.environment.is_closed:  # also where the last sync failed
                self._tell_closed()

    def release(self) -> None:
        """Let go without waiting for views: unmapped with the last one. Waits for the commit that is running."""
        if self._ended():
            return
        self._group.drain()
        with self._writer.wait_idle():
            self._release_idle()
        say(DEBUG, "%s: closed, as far as views let it", self.path)

    @holds_lock
    def _release_idle(self) -> None:
        self._tell_closing()
        self._release(in_use=False)

    def __del__(self) -> None:  # not the handle's: streams, readers and iterators keep the store open beyond it
        if hasattr(self, "_writer"):
            self.drop()

    def drop(self) -> None:
        """Let go from a finaliser, which must not wait: a commit that is running keeps the map until it is done."""
        self._release(in_use=self._writer.busy or self._group.busy)

    def _release(self, *, in_use: bool) -> None:
        if not self._ended():
            self._end_iterators()
            if not in_use:
                self._end_snapshots()
            try:
                self.environment.release(in_use=in_use)
            finally:
                self._tell_closed()
                self._group.end()

    def _tell_closing(self) -> Listener | None:
        listener = self.listener
        if listener is not None:
            listener.closing()
        return listener

    def _tell_closed(self) -> None:
        self._hints.close()
        self._writer.observers = None  # they may hold the handle; no lock, since a finaliser may come here
        listener, self.listener = self.listener, None
        if listener is not None:
            listener.closed()

    def _ended(self) -> bool:
        return self.environment.is_closed or self.environment.is_forked

    def _end_iterators(self) -> None:
        """Nothing of our own holds the map from here on: iterators end, held snapshots keep their transaction only."""
        for iterator in _members(self._iterators):
            with contextlib.suppress(
                ValueError, StopIteration, StoreClosing
            ):  # ValueError: another thread is inside it
                iterator.throw(StoreClosing())
        for snapshot in _members(self.environment.held):
            snapshot.unpin()

    def _end_snapshots(self) -> None:
        for snapshot in _members(self.environment.held):
            snapshot.close()


def _age(live: LivePin) -> float:
    return live.age_s


def _members(held: weakref.WeakSet[T]) -> list[T]:
    while True:
        try:
            return list(held)
        except RuntimeError:  # another thread added one meanwhile
            continue
