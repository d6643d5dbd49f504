"""What users hold of a projection."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from varve import limits
from varve.derived.projections.declare import Declared
from varve.derived.projections.place import FOLDER, Place
from varve.derived.projections.reports import ProjectionProgress, ProjectionStatus
from varve.derived.projections.source import Source
from varve.engine import files
from varve.errors import CorruptedProjection, HandleUnusable, InvalidInput, ProjectionNotBuilt, WaitTimeout
from varve.tailing.hub import hub_of
from varve.tailing.watcher import check_sequence, check_timeout

if TYPE_CHECKING:
    import sqlite3

    from varve.derived.projections.declare import Projection
    from varve.derived.projections.readers import Parameters, Readers
    from varve.derived.projections.reports import ProjectionCheck
    from varve.derived.projections.source import History
    from varve.derived.projections.writer import Told, Work, Writer
    from varve.engine.core import Engine


class ProjectionHandle:
    """A projection of a store: what fills its tables and reads them. Made by ``db.projection(...)``.

    Cheap, and holds nothing but idle read connections between calls. Thread-safe: reads go on side by side; of those that apply
    events, here or in any process, the second one raises ``ProjectionBusy``. Rows and position are one SQLite transaction: each
    event is applied exactly once, whoever dies when.
    """

    def __init__(
        self,
        engine: Engine,
        projection: Projection | type[Projection],
        folder: str | os.PathLike[str] | None,
        *,
        rebuild: bool,
    ) -> None:
        from varve.derived.projections.database import check_sql
        from varve.derived.projections.readers import Readers

        self._declared = Declared(projection)
        check_sql(self._declared)
        self._engine = engine
        if folder is None:
            at = Path(engine.path, FOLDER, self._declared.name)
        else:
            at = Path(files.folder(folder, "a projection's folder"))
        self._place = Place(at.absolute())
        self._is_readonly = folder is None and engine.environment.readonly
        self._may_rebuild = rebuild
        self._readers: Readers = Readers(self._place, self._declared.name)
        self._changed = threading.Condition()
        self._is_closed = False
        self._rate = 0.0

    # -- about -----------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its name."""
        return self._declared.name

    @property
    def folder(self) -> Path:
        """Its folder, absolute: of the generations, and the file ``current`` that names the one that counts."""
        return self._place.folder

    @property
    def path(self) -> Path:
        """The SQLite file of the current generation, absolute. Any SQLite tool can read it (``mode=ro``); ask again now and then:
        after a rebuild it is another one. Raises ``ProjectionNotBuilt``."""
        generation = self._place.current()
        if generation is None:
            raise ProjectionNotBuilt(
                f"there is nothing of the projection {self.name} in {self.folder} yet: let it catch up",
                name=self.name,
                path=str(self.folder),
            )
        return self._place.database(generation)

    @property
    def position(self) -> int:
        """The next global sequence: events before it are in the tables, or are not for this projection. 0 where there are
        none."""
        self._check()
        try:
            return self._readers.record().position
        except ProjectionNotBuilt:
            return 0

    @property
    def lag(self) -> int:
        """Events of the log from the position to its end, whether they are for this projection or not."""
        return max(0, self._source(None).end - self.position)

    def status(self) -> ProjectionStatus:
        """Where it stands, who writes it, whether it has to be rebuilt. Never raises because the tables are damaged or
        another's: it says so (``problem``)."""
        from varve.derived.projections.listing import described

        self._check()
        end = self._source(None).end
        info, record = described(self._place, self.name, end)
        outdated = problem = None
        if record is not None:
            try:
                outdated = self._work(None).why_outdated(record)
            except Exception as exc:  # noqa: BLE001 - another's
                problem = str(exc)
        facts = {field: getattr(info, field) for field in info.__dataclass_fields__}
        if problem is not None:
            facts["problem"] = problem
        return ProjectionStatus(**facts, outdated=outdated, rate=self._rate)

    def __repr__(self) -> str:
        return f"<ProjectionHandle {self.name!r} in {self.folder}>"

    # -- applying events -------------------------------------------------------------------------------------------

    def catch_up(
        self, until: int | None = None, *, progress: Told | None = None, history: History | None = None
    ) -> ProjectionProgress:
        """Apply the events up to global sequence ``until`` (None: up to the end of the log as of now), in large
        transactions; how far it came, and how fast.

        ``progress`` is called with the same after each transaction, on this thread. ``history``: archives of the beginning of the
        log (``varve.open`` of one or of several), where it is needed.

        A projection that there is not yet is made; one whose class changed, whose log is another since a backup was restored, or
        whose file is damaged, is rebuilt, unless the handle was made with ``rebuild=False``: ``ProjectionOutdated`` then. Raises
        ``ProjectionBusy``, ``ProjectionMismatch``, ``ProjectionFailed`` (of a method; all before its batch is kept),
        ``Archived``,
        ``DiskFull``, ``StoreUnavailable`` and its kin, and what reads of the log raise.
        """
        if until is not None:
            check_sequence(until)
        source = self._source(history)
        end = source.end if until is None else min(until, source.end)
        with self._writing(source, progress) as step:
            while True:
                writer = step(end)
                if writer.position >= end or self._is_closed:
                    return replace(writer.tally.last, position=writer.position, end=end)

    def rebuild(self, *, progress: Told | None = None, history: History | None = None) -> ProjectionProgress:
        """Make a new generation from the log, beside the old one, and switch to it; arguments and errors as ``catch_up``.

        Readers go on with the old generation until the new one is complete and on disk, and so does whoever applies events,
        here or in another process. The old file is removed once nobody reads it. Where this is cut off, nothing has changed.
        """
        from varve.derived.projections.writer import Tally

        self._check_writing()
        source = self._source(history)
        work = self._work(source)
        self._place.make()
        with suppress(ProjectionNotBuilt, CorruptedProjection):
            work.check_ours(self._readers.record())
        self._readers.close()  # or they would keep the old generation
        tally = Tally(self.name, progress)
        work.build(tally)
        self._note(tally.last)
        return tally.last

    async def run(self, *, progress: Told | None = None, history: History | None = None) -> None:
        """Catch up, and then follow the log until the task is cancelled or the handle closed. Arguments and errors as
        ``catch_up``;
        ``StoreClosed`` when the store closes.

        SQLite works in a thread meanwhile, also ``progress`` is called there. A cancelled task ends behind the transaction
        that is running.
        """
        import asyncio

        source = self._source(history)
        stop = threading.Event()
        with self._writing(source, progress, stop) as step:
            watermark = hub_of(self._engine).watermark
            while not self._is_closed:
                running = asyncio.ensure_future(asyncio.to_thread(step, None))
                try:
                    writer = await asyncio.shield(running)
                except asyncio.CancelledError:
                    stop.set()
                    while not running.done():  # what works in the thread must not find its file closed
                        try:
                            await asyncio.wait({running})
                        except asyncio.CancelledError:
                            continue
                    running.exception()
                    raise
                while writer.is_idle and not self._is_closed:
                    try:
                        async with asyncio.timeout(_SLICE_S):
                            await watermark.wait(writer.position + 1)
                    except TimeoutError:
                        pass

    def follow(
        self,
        timeout_s: float | None = None,
        *,
        progress: Told | None = None,
        history: History | None = None,
        stop: threading.Event | None = None,
    ) -> ProjectionProgress:
        """The same for a thread, which it blocks: until nothing was committed for ``timeout_s`` seconds (None: for ever),
        the event
        ``stop`` is set, or the handle is closed; how far it came. Errors as ``run``."""
        check_timeout(timeout_s)
        source = self._source(history)
        with self._writing(source, progress, stop) as step:
            watermark = hub_of(self._engine).watermark
            writer = step(None)
            moved_s = time.monotonic()
            while not (self._is_closed or (stop is not None and stop.is_set())):
                if writer.is_idle:
                    left_s = _SLICE_S
                    if timeout_s is not None:
                        left_s = min(_SLICE_S, moved_s + timeout_s - time.monotonic())
                    if left_s <= 0:
                        break
                    watermark.wait_blocking(writer.position + 1, left_s)
                    continue
                position = writer.position
                step(None)
                if writer.position != position:
                    moved_s = time.monotonic()
            return writer.tally.last

    # -- reading ---------------------------------------------------------------------------------------------------

    def query(self, sql: str, params: Parameters = ()) -> list[Any]:
        """The rows of a query, as named tuples: ``row.customer``, ``row[0]``, equal to plain tuples.

        ``params`` are a sequence for ``?`` or a mapping for ``:name``. What would write is refused. Raises ``QueryFailed``,
        ``ProjectionNotBuilt``, ``CorruptedProjection``.
        """
        self._check()
        if not isinstance(sql, str):
            raise InvalidInput(f"a query is a str, not {sql!r:.80}")
        return self._readers.query(sql, params)

    def connect(self) -> sqlite3.Connection:
        """A connection of the standard library's ``sqlite3`` to the current generation, which cannot write, for whatever
        else it can:
        close it when you are done. It stays with this generation, which is not removed meanwhile. One thread at a time.

        Raises ``ProjectionNotBuilt``, ``CorruptedProjection``.
        """
        self._check()
        return self._readers.connect()

    def wait_for(self, global_sequence: int, timeout_s: float | None = None) -> int:
        """Block until the event with this global sequence is in the tables (or passed over), whichever process applies it; the
        position then. Raises ``WaitTimeout``, and ``StoreClosed`` when the store closes."""
        waiting = self._waiting(global_sequence, timeout_s)
        for pause_s in waiting:
            with self._changed:
                self._changed.wait(pause_s)
        return self.position

    async def wait_for_async(self, global_sequence: int, timeout_s: float | None = None) -> int:
        """The same for a coroutine."""
        import asyncio

        for pause_s in self._waiting(global_sequence, timeout_s):
            await asyncio.sleep(pause_s)
        return self.position

    def _waiting(self, global_sequence: int, timeout_s: float | None) -> Iterator[float]:
        """How long to wait before the next look, until there is nothing to wait for."""
        check_sequence(global_sequence)
        check_timeout(timeout_s)
        until_s = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = limits.PROJECTION_POLL_S
        while (position := self.position) <= global_sequence:
            left_s = pause_s if until_s is None else until_s - time.monotonic()
            if left_s <= 0:
                assert timeout_s is not None
                raise WaitTimeout(
                    f"the projection {self.name} did not reach global sequence {global_sequence} within {timeout_s} "
                    f"s; it stands at "
                    f"{position}. Somebody has to run it",
                    global_sequence=global_sequence,
                    timeout_s=timeout_s,
                )
            yield min(pause_s, left_s)
            pause_s = min(2 * pause_s, limits.PROJECTION_POLL_S_MAX)

    # -- checking --------------------------------------------------------------------------------------------------

    def check(self, *, progress: Told | None = None, history: History | None = None) -> ProjectionCheck:
        """Compare the tables with those of a projection made afresh from the log up to the same position, row by row.

        A forgotten ``version``, a method that depends on something else than its events, or somebody who wrote into the file
        show so. Costs a rebuild, in a temporary file in the projection's folder; readers and whoever applies events go on. Raises
        ``ProjectionNotBuilt``, ``ProjectionMismatch``, ``ProjectionOutdated``, and what ``catch_up`` raises.
        """
        from varve.derived.projections.check import check

        self._check_writing()
        source = self._source(history)
        return check(self._work(source), self._readers, progress)

    # -- ending ----------------------------------------------------------------------------------------------------

    def close(self) -> None:
        """End ``run`` and ``follow``, which stop behind the transaction that they are at, and close idle connections.
        Nothing happens if it is closed already; the end of the process does no harm either."""
        self._is_closed = True
        self._readers.close()
        with self._changed:
            self._changed.notify_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    # -- within ----------------------------------------------------------------------------------------------------

    def _check(self) -> None:
        self._engine.check_usable()
        if self._is_closed:
            raise HandleUnusable(f"the handle of the projection {self.name} was closed; ask db.projection for another")

    def _check_writing(self) -> None:
        self._check()
        if self._is_readonly:
            raise self._engine.environment.not_writable()

    def _source(self, history: History | None) -> Source:
        self._engine.check_usable()
        return Source(self._engine, self._declared, history)

    def _work(self, source: Source | None, stop: threading.Event | None = None) -> Work:
        from varve.derived.projections.writer import Work

        def is_stopped() -> bool:
            return self._is_closed or (stop is not None and stop.is_set())

        return Work(
            self._declared,
            self._place,
            self._source(None) if source is None else source,
            may_rebuild=self._may_rebuild,
            is_stopped=is_stopped,
        )

    @contextmanager
    def _writing(
        self, source: Source, progress: Told | None, stop: threading.Event | None = None
    ) -> Iterator[Callable[[int | None], Writer]]:
        """While events are applied: a function that does the next step."""
        from varve.derived.projections.writer import Stopped, Writer

        self._check_writing()
        writer = Writer(self._work(source, stop), progress)

        def step(until: int | None) -> Writer:
            with suppress(Stopped):
                writer.step(until)
            self._note(writer.tally.last)
            return writer

        try:
            yield step
        finally:
            writer.close()

    def _note(self, last: ProjectionProgress) -> None:
        if last.events:
            self._rate = last.rate
        with self._changed:
            self._changed.notify_all()


_SLICE_S = limits.PROJECTION_POLL_S_MAX
