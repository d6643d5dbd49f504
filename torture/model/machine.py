"""A random program against the model: one handle, one step after the other."""

from __future__ import annotations

import asyncio
import random
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import varve
from torture import judge
from torture.model.plans import Caller, Facts, attempt
from torture.model.world import CLASSES, Append, Fact, Plan, World, Written
from varve import schema
from varve.testing import ManualClock

MAP_BYTES = 2**30
SMALL_MAP_BYTES = 2**20
HELD_MAX = 6
"""Of each kind of thing that is held over many steps: snapshots, views, iterators, tails."""
EVENTS_MAX = 40_000
"""A log that has grown so long is begun anew: steps shall stay cheap."""
WAIT_S_MAX = 60.0
"""A tail that takes so long for events that were committed before has missed them."""


class Wrongness(AssertionError):
    """The store does not do what the model says."""


def must(holds: bool, what: str, *facts: object) -> None:
    """Raise ``Wrongness`` where something does not hold."""
    if not holds:
        raise Wrongness(" ".join([what, *map(repr, facts)]))


def same(found: object, wanted: object, what: str, *facts: object) -> None:
    """Raise ``Wrongness`` where two things differ."""
    if found != wanted:
        raise Wrongness(
            f"{what}: found {found!r:.300}, should be {wanted!r:.300} {repr(facts)[:1000] if facts else ''}"
        )


class Held:
    """A snapshot of the user's: what it must go on to show."""

    def __init__(self, snapshot: varve.Snapshot, at: int) -> None:
        self.snapshot = snapshot
        self.at = at


class Run:
    """Something that gives events bit by bit, and the global sequences that it still has to give."""

    def __init__(self, events: Iterator[Any], wanted: list[int]) -> None:
        self.events = events
        self.wanted = wanted
        self.at = 0


class Follower:
    """A tail of some kind, which finds what is committed after it began."""

    def __init__(self, events: Any, wants: Callable[[int], bool], position: int) -> None:
        self.events = events
        self.wants = wants
        self.position = position


class Reader:
    """A consumer that is open, and where the model says it stands."""

    def __init__(self, consumer: varve.Consumer[Any], wants: Callable[[int], bool], *, auto: bool) -> None:
        self.consumer = consumer
        self.wants = wants
        self.auto = auto
        self.given = consumer.position


class Machine:
    """The store, the model, and what is held across steps."""

    def __init__(self, folder: Path, *, small: bool = False) -> None:
        self.folder = folder
        self.generation = 0
        self.clock = ManualClock()
        self.world = World()
        self.facts = Facts(0)
        self.version = 0
        self.durability = "relaxed"
        self.readonly = False
        self.map_bytes = SMALL_MAP_BYTES if small else MAP_BYTES
        self.refused = 0
        self.snapshots: list[Held] = []
        self.runs: list[Run] = []
        self.views: list[tuple[memoryview, bytes]] = []
        self.events: list[tuple[Any, Fact, int]] = []
        self.followers: list[Follower] = []
        self.consumers: dict[str, Reader] = {}
        self.positions: dict[str, int] = {}
        """Stored positions of consumers, as far as they are certain."""
        self.loop: asyncio.Runner | None = None
        self.counts: dict[str, int] = {}
        self.open()
        self._begin_types()

    # -- the handle ------------------------------------------------------------------------------------------------

    @property
    def path(self) -> Path:
        """The store's folder."""
        return self.folder / f"store-{self.generation}"

    def open(self) -> None:
        """Open it as the attributes say."""
        options: dict[str, Any] = {"readonly": True} if self.readonly else {"durability": self.durability}
        self.db = varve.open(self.path, clock=self.clock, map_bytes=self.map_bytes, **options)
        self.bind()

    def bind(self) -> None:
        """Declare the streams as this version of the program does."""
        self.caller = Caller(self.db, self.version)
        self.facts.version = self.version

    def begin_new(self) -> None:
        """Begin with an empty store."""
        self.generation += 1
        self.world = World()
        self.positions.clear()
        self.version = 0
        self.map_bytes = MAP_BYTES
        self.open()
        self._begin_types()

    def _begin_types(self) -> None:
        """The oldest class of each type is in the log: an older program may come back after a newer one has written."""
        items = tuple((0, self.facts.one(random.Random(0), 1)._replace(kind=kind)) for kind in range(3))
        items = tuple((one, fact._replace(extra=None)) for one, fact in items)
        self.commit("call", Plan((Append("many", "orders", items, 0),)))

    def drop_held(self, *, views: bool = True) -> None:
        """Let go of whatever would keep the store from closing."""
        for held in self.snapshots:
            held.snapshot.close()
        self.snapshots.clear()
        self.runs.clear()
        self.followers.clear()
        if views:
            self.views.clear()
            self.events.clear()
        for name in list(self.consumers):
            self.leave_consumer(name)

    def leave_consumer(self, name: str) -> None:
        """Close a consumer; what it stored at last is looked up."""
        reader = self.consumers.pop(name)
        reader.consumer.close()
        self.note_position(name, reader)

    def note_position(self, name: str, reader: Reader) -> None:
        """Take over what is stored: of one that commits by itself, anything between what it was sure of and what it gave."""
        stored = next(info.position for info in self.db.consumers() if info.name == name)
        if reader.auto:
            must(self.positions[name] <= stored <= reader.given, "a consumer's position", name, stored, reader.given)
        else:
            same(stored, self.positions[name], f"the stored position of {name!r}")
        self.positions[name] = stored

    def run_async(self, work: Any) -> Any:
        """Run a coroutine on this run's event loop. Raises ``Wrongness`` where it never ends: what it waits for is there."""

        async def bounded() -> Any:
            try:
                async with asyncio.timeout(WAIT_S_MAX):
                    return await work
            except TimeoutError:
                raise Wrongness(f"waited for {WAIT_S_MAX} s for what was there before") from None

        if self.loop is None:
            self.loop = asyncio.Runner()
        return self.loop.run(bounded())

    def end(self) -> None:
        """Everything once more, then close and have the file judged."""
        try:
            self.look_at_all()
            self.drop_held()
            self.db.close()
            findings = judge.unsound(self.path)
            must(not findings, "the store is not sound:", findings)
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Let go without a word."""
        self.snapshots.clear()
        self.runs.clear()
        self.followers.clear()
        self.views.clear()
        self.events.clear()
        self.consumers.clear()
        if self.loop is not None:
            self.loop.close()
        self.db.__exit__()
        shutil.rmtree(self.folder, ignore_errors=True)

    # -- writing ---------------------------------------------------------------------------------------------------

    def commit(self, form: str, made: Plan) -> None:
        """Commit a plan and hold what comes of it against the model."""
        judged = self.world.judge(made)
        try:
            found = attempt(lambda: self.caller.run(form, made))
        except varve.StoreFull:
            self.full()
            return
        same(found, judged, form, made)
        if isinstance(judged, Written):
            self.world.write(made, judged, self.clock.now_ns)

    @property
    def is_small(self) -> bool:
        """Whether the map is so small that any commit may find it full."""
        return self.map_bytes == SMALL_MAP_BYTES

    def full(self) -> None:
        """A commit was refused for want of room."""
        must(self.is_small, "StoreFull with room")
        self.count("commits refused for want of room")
        self.refused += 1

    def count(self, what: str, by: int = 1) -> None:
        """Note that something was covered."""
        self.counts[what] = self.counts.get(what, 0) + by

    # -- reading ---------------------------------------------------------------------------------------------------

    def check(self, recorded: Any, sequence: int, *, whole: bool = True) -> None:
        """A recorded event says all that the model does; ``whole``: also of its commit."""
        entry = self.world.log[sequence]
        if not (
            recorded.global_sequence == sequence
            and recorded.stream == entry.name
            and recorded.stream_id == entry.stream_id
            and type(recorded.stream_id) is type(entry.stream_id)
            and recorded.stream_sequence == entry.stream_sequence
            and recorded.type is CLASSES[self.version][entry.fact.kind]
            and entry.fact.is_shown(recorded.event, self.version)
            and (
                not whole
                or (
                    recorded.commit_sequence == entry.commit
                    and recorded.time_ns == entry.time_ns
                    and recorded.metadata == entry.metadata
                )
            )
        ):
            raise Wrongness(
                f"global sequence {sequence}: {recorded!r:.300} with {recorded.metadata!r}, should be {entry!r:.300}"
            )

    def check_all(self, found: Iterable[Any], wanted: list[int]) -> None:
        """An iterator gives exactly these, in this order."""
        at = 0
        for recorded in found:
            must(at < len(wanted), "more events than", len(wanted))
            self.check(recorded, wanted[at], whole=wanted[at] % 4 == 0)
            at += 1
        same(at, len(wanted), "how many events an iterator gives")

    def raw(self, sequence: int, raw: memoryview) -> bytes:
        """The bytes of an event, held against the model; a copy of them."""
        fact = self.world.log[sequence].fact
        as_written = 0 if fact.extra is None else 1
        plain = bytes(raw)
        must(raw.readonly, "memory that can be written")
        event = schema.from_bytes(CLASSES[as_written][fact.kind], plain)
        must(fact.is_shown(event, as_written), "bytes of another event than", fact)
        return plain

    def look(self) -> None:
        """What is looked at after every step: the end of the log."""
        end = len(self.world.log)
        same(self.db.next_global_sequence, end, "next_global_sequence")

    def look_at_all(self) -> None:
        """The whole log, every stream, every id."""
        end = len(self.world.log)
        self.check_all(self.db.global_reader().iter_from(0), list(range(end)))
        for name, stream in self.caller.streams.items():
            reader = stream.reader()
            self.check_all(reader.iter_all(), self.world.name(name))
            ids = self.world.ids(name)
            same([(type(one), one) for one in reader.stream_ids()], [(type(one), one) for one in ids], "ids of", name)
            for one in ids:
                same(reader.length(one), len(self.world.stream(name, one)), "length of", name, one)
        stats = self.db.stats()
        same((stats.events, stats.streams), (end, len(self.world.streams)), "stats")
        self.check_held()

    def check_held(self) -> None:
        """Memory that was given long ago still says the same."""
        for view, plain in self.views:
            must(view == plain, "a view has changed:", bytes(view)[:50], plain[:50])
        for event, fact, version in self.events:
            must(fact.is_shown(event, version), "an event has changed:", event, fact)
