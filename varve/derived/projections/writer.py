"""Whoever applies events: one at a time per projection. It follows the current generation, and builds new ones beside it."""

from __future__ import annotations

import contextlib
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING

from varve import limits
from varve.derived.projections import database
from varve.derived.projections.apply import Filling
from varve.derived.projections.reports import ProjectionProgress
from varve.errors import CorruptedProjection, ProjectionBusy, ProjectionMismatch, ProjectionOutdated, StoreClosed
from varve.logs import INFO, say

if TYPE_CHECKING:
    from varve.derived.projections.declare import Declared
    from varve.derived.projections.place import Hold, Place
    from varve.derived.projections.source import Source

Told = Callable[[ProjectionProgress], None]
"""What ``progress`` is."""

_CHASES_MAX = 16  # how often a new generation runs after the end of a growing log before the pointer is held still


class Tally:
    """Events and seconds since the work began, as progress reports have them."""

    def __init__(self, name: str, told: Told | None) -> None:
        self._told = told
        self.last = ProjectionProgress(name, 0, 0, 0, 0.0, rebuilding=False)

    def transact(self, filling: Filling, until: int | None, end: int, *, rebuilding: bool) -> None:
        """A transaction, counted."""
        last, events, began_s = self.last, filling.events, time.perf_counter()
        filling.transact(until)
        seconds = last.seconds + time.perf_counter() - began_s
        events = last.events + filling.events - events
        self.last = ProjectionProgress(last.name, filling.position, end, events, seconds, rebuilding)

    def tell(self) -> None:
        """Tell of it. Where nothing is held that the user's code could wait for."""
        if self._told is not None:
            self._told(self.last)


class Stopped(Exception):
    """A rebuild was given up because its handle is being closed or its task cancelled."""


class Work:
    """What a writer needs to know: class, folder, log; whether it may rebuild, and whether it shall stop."""

    def __init__(
        self, declared: Declared, place: Place, source: Source, *, may_rebuild: bool, is_stopped: Callable[[], bool]
    ) -> None:
        self.declared = declared
        self.place = place
        self.source = source
        self.may_rebuild = may_rebuild
        self.is_stopped = is_stopped

    # -- what is there ---------------------------------------------------------------------------------------------

    def why_outdated(self, record: database.Record) -> str | None:
        """Why a file has to be made anew; None where it has not. Raises ``ProjectionMismatch`` where it is none of ours."""
        self.check_ours(record)
        declared = self.declared
        if record.version != declared.version:
            return f"it was made by version {record.version} of the class, which now has version {declared.version}"
        if not record.stamp:
            return "a method went on when its transaction was gone: rows may stand there twice"
        if record.stamp != declared.stamp:
            return "its schema, statements, event types or streams changed"
        end = self.source.end
        if record.position > end:
            return f"it stands at global sequence {record.position} and the log ends at {end}: the store was restored"
        if record.log_mark is not None and not self.source.history.includes(record.position, record.log_mark):
            return "the log has another history than the one that was read: the store was restored"
        return None

    def check_ours(self, record: database.Record) -> None:
        """Whether a file is of this store, this projection, and of no newer program. Raises ``ProjectionMismatch``."""
        declared = self.declared
        store = str(uuid.UUID(bytes=self.source.engine.created.uuid))
        if record.format > database.FORMAT:
            raise self._mismatch(f"it was written by a newer Varve (format {record.format})")
        if record.store != store:
            raise self._mismatch(f"it is of the store {record.store}, and this one is {store}")
        if record.name != declared.name:
            raise self._mismatch(f"it is the projection {record.name!r}, and this one is {declared.name!r}")
        if record.version > declared.version:
            raise self._mismatch(
                f"it was made by version {record.version} of the class, and this program has version {declared.version}"
            )

    def _mismatch(self, reason: str) -> ProjectionMismatch:
        path = str(self.place.folder)
        return ProjectionMismatch(
            f"{path}: {reason}. Nothing was touched", name=self.declared.name, path=path, reason=reason
        )

    def busy(self, lock: str) -> ProjectionBusy:
        """The error for whoever comes second."""
        _, pid = self.place.holder(lock)
        name, who = self.declared.name, f"process {pid}" if pid else "another process"
        does = "is written" if lock == "writer" else "is built anew"
        return ProjectionBusy(f"the projection {name} {does} by {who}", name=name, pid=pid)

    # -- building --------------------------------------------------------------------------------------------------

    def build(self, tally: Tally | None) -> None:
        """A new generation, up to the end of the log (an empty one without a tally), which counts from then on.

        Whoever reads and writes the old one goes on meanwhile; only the last events of the log are applied while the pointer
        is held. Where this is cut off, the old one counts, and the unfinished is removed by whoever comes next.
        """
        place = self.place
        lock = place.try_lock("rebuild")
        if lock is None:
            raise self.busy("rebuild")
        try:
            place.clear()
            generation = max(place.generations(), default=0) + 1
            held = place.begin(generation)
            try:
                self._build(generation, tally)
            except BaseException:
                with contextlib.suppress(OSError):
                    if place.current() != generation:
                        place.discard(generation)
                raise
            finally:
                held.release()
        finally:
            lock.release()
        place.clear()

    def _build(self, generation: int, tally: Tally | None) -> None:
        place = self.place
        with database.errors_of(place.folder, self.declared.name):
            filling = self.fresh(generation)
        try:
            if tally is not None:
                self._chase(filling, tally)
            with place.switching():
                untold = tally is not None and self._finish_filling(filling, tally)
                with database.errors_of(filling.path, self.declared.name):
                    database.finish(filling.connection, filling.path)
                    place.sync(generation)
                    place.switch(generation)
        finally:
            filling.close()
        if tally is not None and untold:
            tally.tell()

    def fresh(self, generation: int) -> Filling:
        """An empty file with the schema."""
        path, guard = self.place.database(generation), database.Guard()
        connection = database.open_builder(path, guard)
        try:
            store = str(uuid.UUID(bytes=self.source.engine.created.uuid))
            database.create(connection, guard, self.declared, store, time.time_ns())
            return Filling(connection, guard, path, self.declared, self.source, self.is_stopped)
        except BaseException:
            connection.close()
            raise

    def _chase(self, filling: Filling, tally: Tally) -> None:
        """To where little is left of a log that may grow meanwhile."""
        for _ in range(_CHASES_MAX):
            self.fill(filling, self.source.end, tally)
            if self.source.end - filling.position <= limits.PROJECTION_BATCH_EVENTS_MAX:
                return

    def _finish_filling(self, filling: Filling, tally: Tally) -> bool:
        """The last of the log while the pointer is held; whether there was any."""
        end, before = self.source.end, filling.position
        while self._advance(filling, end, tally):
            pass
        return filling.position != before

    def fill(self, filling: Filling, end: int, tally: Tally) -> None:
        """Apply a new file's events up to a global sequence."""
        while self._advance(filling, end, tally):
            tally.tell()

    def _advance(self, filling: Filling, end: int, tally: Tally) -> bool:
        """One transaction of a new file, if there is anything to apply."""
        if filling.position >= end:
            return False
        if self.is_stopped():
            raise Stopped
        tally.transact(filling, end, end, rebuilding=True)
        return True


class Writer:
    """The one who applies events to the current generation. Holds the lock that says so until ``close``.

    Raises ``ProjectionBusy`` where somebody else has it. Not thread-safe, but not bound to a thread.
    """

    def __init__(self, work: Work, told: Told | None) -> None:
        self._work = work
        self.tally = Tally(work.declared.name, told)
        self._filling: Filling | None = None
        self._held: Hold | None = None
        self._pointed_at: tuple[int, int, int] | None = None
        self._cleared_s = time.monotonic()
        work.place.make()
        with database.errors_of(work.place.folder, work.declared.name):
            lock = work.place.try_lock("writer")
        if lock is None:
            raise work.busy("writer")
        self._lock = lock

    @property
    def position(self) -> int:
        """The next global sequence."""
        return 0 if self._filling is None else self._filling.position

    @property
    def caught_up(self) -> bool:
        """Whether the last step came to the end of the log."""
        return self._filling is not None and self._filling.caught_up

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to be done: it stands at the end of the log, in the generation that counts. Clears up then and
        now: what somebody read when this one began may be free."""
        work = self._work
        now_s = time.monotonic()
        if now_s >= self._cleared_s + limits.PROJECTION_CLEAR_S:
            self._cleared_s = now_s
            work.place.clear()
        return self.caught_up and self.position >= work.source.end and work.place.pointed_at() == self._pointed_at

    def begin(self) -> None:
        """Stand where the current generation does, after making one where there is none, or where it has to be made anew."""
        work = self._work
        if work.place.pointed_at() is None:
            work.build(None)
        try:
            reason = self._open()
        except CorruptedProjection as exc:
            if not work.may_rebuild:
                raise
            reason = exc.reason
        if reason is not None:
            self._rebuild(reason)

    def _rebuild(self, reason: str) -> None:
        """Make it anew, and go on there. Raises ``ProjectionOutdated`` where that is not allowed."""
        work, name = self._work, self._work.declared.name
        self._release()
        if not work.may_rebuild:
            raise ProjectionOutdated(
                f"the projection {name} has to be rebuilt: {reason}. Call rebuild()", name=name, reason=reason
            )
        say(INFO, "the projection %s is rebuilt: %s", name, reason)
        work.build(self.tally)
        again = self._open()
        if again is not None:  # somebody with another class does the same
            self._release()
            raise ProjectionOutdated(f"the projection {name} was rebuilt, and yet: {again}", name=name, reason=again)

    def _open(self) -> str | None:
        """Open the current generation; why it has to be made anew, if it has to."""
        self._release()
        work, place = self._work, self._work.place
        with database.errors_of(place.folder, work.declared.name):
            pointed_at, generation = place.pointed_at(), place.current()
            self._held = None if generation is None else place.hold(generation)
            if generation is None or self._held is None:
                return "its file is gone"
            path, guard = place.database(generation), database.Guard()
            connection = database.open_writer(path, guard)
        try:
            with database.errors_of(path, work.declared.name):
                record = database.read_record(connection, path)
            reason = work.why_outdated(record)
            if reason is None:
                self._filling = Filling(connection, guard, path, work.declared, work.source, work.is_stopped)
                self._pointed_at = pointed_at
        finally:
            if self._filling is None:
                connection.close()
        place.clear()
        return reason

    def step(self, until: int | None) -> None:
        """One transaction, or whatever has to be done before one. Raises what ``Filling.transact`` raises; where the file is
        damaged it is rebuilt, if it may be."""
        work, applied = self._work, False
        if self._filling is not None:
            try:
                with work.place.switching():
                    if work.place.pointed_at() == self._pointed_at:
                        end = work.source.end if until is None else until
                        self.tally.transact(self._filling, until, end, rebuilding=False)
                        applied = True
            except CorruptedProjection as exc:
                if not work.may_rebuild:
                    raise
                self._rebuild(exc.reason)
                return
            if applied:
                self.tally.tell()
                return
        self.begin()  # at first, and where somebody built a new generation

    def _release(self) -> None:
        filling, self._filling = self._filling, None
        if filling is not None:
            filling.close()
        held, self._held = self._held, None
        if held is not None:
            held.release()

    def close(self) -> None:
        """Let the projection go."""
        self._release()
        with contextlib.suppress(OSError, StoreClosed):
            self._work.place.clear()
        self._lock.release()
