"""Group commit: who shares a write transaction keeps an outcome of its own, and what is written is what each would have
written alone.

Most tests settle tickets on their own thread, so that they decide what a group holds.
"""

from __future__ import annotations

import errno
import gc
import itertools
import os
import shutil
import tempfile
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
import pytest
from engine_helpers import Blob, Note, blob, faulty, lmdb_error, run_script
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import varve
from varve import limits, ops
from varve.engine import commit as commit_module
from varve.engine import group as group_module
from varve.engine.group import Group, Ticket, _Gate
from varve.engine.instant import contents
from varve.engine.request import CommitRequest, Committed
from varve.engine.side import Table
from varve.layout import keys
from varve.testing import ManualClock

EIO = lmdb_error(lmdb.Error, errno.EIO)
MAP_FULL = lmdb_error(lmdb.MapFullError, -30792)
TXN_FULL = lmdb_error(lmdb.TxnFullError, -30788)
NO_SPACE = lmdb_error(lmdb.DiskError, errno.ENOSPC)
PANIC = lmdb_error(lmdb.PanicError, -30795)


# -- requests ---------------------------------------------------------------------------------------------------------


@varve.event
class Extra:
    number: varve.u64


Call = Callable[[varve.Transaction], None]


class Requests:
    """Where the requests come from: what a transaction of a store that nothing is written to would commit."""

    db: varve.Varve


@pytest.fixture(scope="module", autouse=True)
def requests_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with varve.open(tmp_path_factory.mktemp("requests") / "store") as db:
        Requests.db = db
        yield


def stream(name: str = "notes", types: Any = Note | Blob | Extra) -> varve.Stream[Any]:
    return Requests.db.stream(name, types)


def request_of(*calls: Call, key: Any = None) -> CommitRequest:
    tx = Requests.db.transaction(idempotency_key=key)
    for call in calls:
        call(tx)
    request = tx._request()
    assert request is not None
    return request


def one(stream_id: Any, event: Any, *, name: str = "notes", key: Any = None, **options: Any) -> CommitRequest:
    return request_of(lambda tx: tx.append(stream(name), stream_id, event, **options), key=key)


def note(stream_id: Any, number: int = 0, **options: Any) -> CommitRequest:
    return one(stream_id, Note(number, ""), **options)


@dataclass
class Effect:
    """Counts up a key of a side table; refuses where it finds what it must not."""

    key: bytes
    table: str = "things"
    refuses_at: int | None = None
    deletes: bool = False

    def __call__(self, table: Table) -> None:
        count = int(table.get(self.key) or b"0")
        if self.refuses_at is not None and count >= self.refuses_at:
            raise LookupError(f"{self.key!r} stands at {count}")
        table.put(self.key, str(count + 1).encode())
        if self.deletes:
            table.delete(self.key)


def with_effects(request: CommitRequest, *effects: Effect) -> CommitRequest:
    request.effects = effects
    return request


class Box:
    """An inbox that collects."""

    def __init__(self) -> None:
        self.deliveries: list[list[Ticket]] = []

    def deliver(self, tickets: list[Ticket], /) -> None:
        self.deliveries.append(tickets)


def settle(db: varve.Varve, requests: list[CommitRequest]) -> list[Committed | BaseException]:
    """Commit requests as one group, here and now; each one's outcome."""
    box = Box()
    tickets = [Ticket(request, box) for request in requests]
    db._engine._group._commit(list(tickets))
    assert box.deliveries == [tickets]
    outcomes: list[Committed | BaseException] = []
    for ticket in tickets:
        assert (ticket.error is None) != (ticket.committed is None)
        outcomes.append(ticket.error or ticket.committed)  # type: ignore[arg-type]
    return outcomes


def told(outcome: Committed | BaseException) -> object:
    """An outcome as something that can be compared."""
    if isinstance(outcome, Committed):
        return outcome.segments, outcome.replayed
    facts = {name: getattr(outcome, name) for name in getattr(outcome, "_facts", ()) if name != "path"}
    return type(outcome), facts or str(outcome)


def transaction_id(db: varve.Varve) -> int:
    return db._engine.environment.env.info()["last_txnid"]


def texts(db: varve.Varve) -> list[tuple[Any, int]]:
    return [(found.stream_id, found.event.number) for found in db.global_reader().iter_from()]


@pytest.fixture
def db(varve_path: Path, varve_clock: ManualClock) -> Iterator[varve.Varve]:
    with varve.open(varve_path, durability="relaxed", clock=varve_clock) as store:
        yield store


# -- a group is what its members would have written alone -------------------------------------------------------------

IDS = st.sampled_from([0, 1, 2, "a", "1"])
NAMES = st.sampled_from(["notes", "blobs", "Bücher"])
EXPECTED = st.sampled_from([varve.ANY] * 6 + [varve.NO_STREAM, varve.STREAM_EXISTS, 0, 1, 2, 5])
METADATA = st.sampled_from([None, None, None, {"user": "eve"}])
SIZES = st.sampled_from([0, 5, 5, 5, 60, 3_000, 40_000])


@st.composite
def events(draw: st.DrawFn) -> Any:
    number, size = draw(st.integers(0, 9)), draw(SIZES)
    kind = draw(st.sampled_from(["note", "note", "note", "blob", "extra"]))
    if kind == "note":
        return Note(number, "x" * size)
    return blob(number, size) if kind == "blob" else Extra(number)


@st.composite
def appends(draw: st.DrawFn) -> Call:
    name, kind = draw(NAMES), draw(st.sampled_from(["one", "one", "one", "batch", "many", "none"]))
    metadata = draw(METADATA)
    if kind == "many":
        items = draw(st.lists(st.tuples(IDS, events()), min_size=1, max_size=6)) * draw(st.sampled_from([1, 1, 40]))
        return lambda tx: tx.append_many(stream(name), items, metadata=metadata)
    stream_id, expected = draw(IDS), draw(EXPECTED)
    if kind == "one":
        event = draw(events())
        return lambda tx: tx.append(stream(name), stream_id, event, expected=expected, metadata=metadata)
    if kind == "none":  # nothing to write, something to check
        wanted = 0 if expected is varve.ANY else expected
        return lambda tx: tx.append_batch(stream(name), stream_id, [], expected=wanted, metadata=metadata)
    batch = draw(st.lists(events(), min_size=1, max_size=5)) * draw(st.sampled_from([1, 1, 30]))
    return lambda tx: tx.append_batch(stream(name), stream_id, batch, expected=expected, metadata=metadata)


@st.composite
def requests(draw: st.DrawFn) -> Callable[[], CommitRequest]:
    """Made anew for each store: nothing of a request may be shared between them."""
    calls = draw(st.lists(appends(), min_size=1, max_size=draw(st.sampled_from([1, 1, 1, 4]))))
    key = draw(st.sampled_from([None] * 5 + ["k", "k2", b"k"]))
    effects: list[Effect] = []
    if draw(st.integers(0, 2)) == 0:
        kinds = st.builds(
            Effect,
            key=st.sampled_from([b"a", b"b"]),
            table=st.sampled_from(["things", "others"]),
            refuses_at=st.sampled_from([None, 0, 1, 3]),
            deletes=st.booleans(),
        )
        effects = draw(st.lists(kinds, min_size=1, max_size=3))
    return lambda: with_effects(request_of(*calls, key=key), *effects)


def side_tables(db: varve.Varve) -> dict[tuple[str, bytes], bytes | None]:
    found = {}
    for table, key in itertools.product(("things", "others"), (b"a", b"b")):
        with db._engine.side_snapshot(table) as snapshot:
            found[table, key] = snapshot.side_value(table, key)
    return found


def recorded(db: varve.Varve) -> list[object]:
    return [
        (
            found.stream,
            found.stream_id,
            found.stream_sequence,
            found.global_sequence,
            found.commit_sequence,
            found.time_ns,
            found.metadata,
            found.event,
        )
        for found in db.global_reader().iter_from()
    ]


@settings(
    max_examples=int(os.environ.get("VARVE_MODEL_EXAMPLES", "50")),
    deadline=None,
    print_blob=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(
    program=st.lists(
        st.tuples(requests(), st.sampled_from([False, False, False, True]), st.sampled_from([0.0, 0.0, 1.0, -2.0])),
        max_size=30,
    )
)
def test_a_group_is_what_its_members_would_have_written_alone(
    program: list[tuple[Callable[[], CommitRequest], bool, float]],
) -> None:
    """A random programme of requests, cut into groups: outcomes, events, index, metadata and side tables are those of the
    same programme one by one in another store, and the store is sound."""
    folder = Path(tempfile.mkdtemp(prefix="varve-group-"))
    try:
        groups: list[tuple[list[Callable[[], CommitRequest]], float]] = [([], 0.0)]
        for request, cut, seconds in program:
            if cut:
                groups.append(([], seconds))
            groups[-1][0].append(request)
        outcomes: dict[str, list[object]] = {"grouped": [], "alone": []}
        shown, pairs, sides = {}, {}, {}
        for how, found in outcomes.items():
            clock = ManualClock()
            with varve.open(folder / how, durability="bulk", clock=clock, map_bytes=2**32) as db:
                for name in ("notes", "blobs", "Bücher"):
                    db.stream(name, Note | Blob | Extra)
                for group, seconds in groups:
                    clock.advance(seconds)
                    mine = [make() for make in group]
                    for part in [mine] if how == "grouped" else [[request] for request in mine]:
                        if how == "grouped":
                            found += map(told, settle(db, part) if part else [])
                            continue
                        try:
                            found.append(told(db._engine.commit(part[0])))
                        except (varve.VarveError, LookupError) as exc:
                            found.append(told(exc))
                shown[how], sides[how] = recorded(db), side_tables(db)
            assert ops.verify(folder / how).findings == ()
            pairs[how] = contents(str(folder / how))
            del pairs[how]["meta"][keys.STORE_RECORD_KEY]
        assert outcomes["grouped"] == outcomes["alone"]
        assert shown["grouped"] == shown["alone"]
        assert sides["grouped"] == sides["alone"]
        assert pairs["grouped"]["index"] == pairs["alone"]["index"]
        assert pairs["grouped"]["meta"] == pairs["alone"]["meta"]
    finally:
        shutil.rmtree(folder)


def test_a_long_group_of_singles_fills_blocks_and_index_entries(varve_path: Path, varve_clock: ManualClock) -> None:
    """Hundreds of single appends in one group, to a few streams in turn: many blocks, many index entries, each event where
    it belongs, and single appends afterwards go on from there."""
    with varve.open(varve_path, durability="bulk", clock=varve_clock) as db:
        notes = db.stream("notes", Note)
        settle(db, [note(number % 7, number) for number in range(10)])
        before = transaction_id(db)
        outcomes = settle(db, [note(number % 7, number) for number in range(10, 2_000)])
        assert transaction_id(db) == before + 1
        assert [outcome.first_sequence for outcome in outcomes if isinstance(outcome, Committed)] == list(
            range(10, 2_000)
        )
        assert notes.append(3, Note(2_000, "")) == (len(range(3, 2_000, 7)), 2_000)
        assert texts(db) == [(number % 7, number) for number in range(2_000)] + [(3, 2_000)]
        assert all(found.commit_sequence == found.global_sequence for found in db.global_reader().iter_from())
        assert [found.event.number for found in notes.reader().iter_stream(5)] == list(range(5, 2_000, 7))


def test_what_a_group_has_changed_so_far_holds_for_those_that_follow(db: varve.Varve) -> None:
    """Lengths after batches, single events to two streams in turn, and side tables: each request sees those before it."""
    batch = [Note(number, "") for number in range(3)]
    outcomes = settle(db, [
        *(request_of(lambda tx, at=at: tx.append_batch(stream(), 1, batch, expected=at)) for at in (0, 3, 6, 9)),
        *(note(number % 2, number) for number in range(20)),
        *(with_effects(note(2), Effect(b"a", refuses_at=2)) for _ in range(3)),
    ])  # fmt: skip
    assert [isinstance(outcome, Committed) for outcome in outcomes] == [True] * 26 + [False]
    more = settle(db, [note(number % 2, number) for number in range(20)])
    assert all(isinstance(outcome, Committed) for outcome in more)
    reader = db.stream("notes", Note).reader()
    assert (reader.length(0), reader.length(1), reader.length(2)) == (20, 32, 2)
    assert [one.event.number for one in reader.iter_stream(0)] == list(range(0, 20, 2)) * 2
    assert [one.event.number for one in reader.iter_stream(1)] == [0, 1, 2] * 4 + list(range(1, 20, 2)) * 2
    assert side_tables(db)["things", b"a"] == b"2"


# -- one refused request leaves the others alone ----------------------------------------------------------------------


@varve.event(name="Note")
class ChangedNote:
    number: str


def changed() -> CommitRequest:
    return request_of(lambda tx: tx.append(stream(types=ChangedNote), 1, ChangedNote("x")))


def on_top_of_a_new_name() -> CommitRequest:
    return request_of(
        lambda tx: tx.append(stream("new"), 1, Extra(1)),
        lambda tx: tx.append(stream(), 1, Note(1, ""), expected=varve.NO_STREAM),
    )


class Refuses(BaseException):
    """No Exception at all."""


class BadEffect(Effect):
    def __call__(self, table: Table) -> None:
        table.put(b"left", b"over")
        raise Refuses


class LongKey(Effect):
    def __call__(self, table: Table) -> None:
        table.put(b"x" * 512, b"")


REFUSALS: dict[str, tuple[Callable[[], CommitRequest], type[BaseException]]] = {
    "expected": (lambda: note(1, expected=7), varve.WrongExpectedVersion),
    "expected and a new name": (on_top_of_a_new_name, varve.WrongExpectedVersion),
    "idempotency": (lambda: note(1, 99, key="used"), varve.IdempotencyConflict),
    "schema": (changed, varve.SchemaConflict),
    "effect": (lambda: with_effects(note(1), Effect(b"a", refuses_at=0)), LookupError),
    "effect that is no Exception": (lambda: with_effects(note(1), BadEffect(b"a")), Refuses),
    "effect with a key too long": (lambda: with_effects(note(1), LongKey(b"a")), varve.InvalidInput),
}


@pytest.mark.parametrize("at", [0, 1, 2])
@pytest.mark.parametrize("kind", REFUSALS)
def test_a_refused_request_leaves_the_others_alone(db: varve.Varve, kind: str, at: int) -> None:
    """Whatever it is refused for, wherever it stands in the group: its own error, and no trace among the others."""
    settle(db, [note(1, 0, key="used")])
    refused, error = REFUSALS[kind]
    group = [note(1, 1), note(2, 2, expected=varve.NO_STREAM)]
    group.insert(at, refused())
    outcomes = settle(db, group)
    assert [isinstance(outcome, Committed) for outcome in outcomes] == [number != at for number in range(3)]
    assert isinstance(outcomes[at], error)
    assert texts(db) == [(1, 0), (1, 1), (2, 2)]
    assert db.stats().names == 1
    assert side_tables(db)["things", b"a"] is None
    assert db.stream("notes", Note).append(2, Note(3, ""), expected=1) == (1, 3)


def test_a_request_above_a_limit_leaves_the_others_alone(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """TooManyItems of one request: the others are written, in one transaction."""
    settle(db, [note(1, 0)])
    monkeypatch.setattr(limits, "NAMES_MAX", 1)
    before = transaction_id(db)
    outcomes = settle(db, [note(1, 1), note(1, 2, name="another"), note(1, 3)])
    assert isinstance(outcomes[1], varve.TooManyItems)
    assert outcomes[1].limit_name == "NAMES_MAX"
    assert texts(db) == [(1, 0), (1, 1), (1, 3)]
    assert transaction_id(db) == before + 1


@pytest.mark.parametrize("wrong", ["raises", "stops", "float"])
def test_a_clock_that_fails_fails_one_append(varve_path: Path, wrong: str) -> None:
    """A clock of the user's that raises (StopIteration too), or gives no time: the append it was asked for is refused."""
    calls = itertools.count(1)

    def clock() -> Any:
        now = next(calls)
        if now != 4:  # one for the store, one for its first event
            return now
        if wrong == "raises":
            raise ZeroDivisionError("the clock")
        if wrong == "stops":
            raise StopIteration
        return 1.5

    error = {"raises": ZeroDivisionError, "stops": StopIteration, "float": varve.InvalidInput}[wrong]
    with varve.open(varve_path, durability="relaxed", clock=clock) as db:
        settle(db, [note(1, 0)])
        outcomes = settle(db, [note(1, number) for number in (1, 2, 3)])
        assert isinstance(outcomes[1], error)
        assert texts(db) == [(1, 0), (1, 1), (1, 3)]


def test_keys_repeated_inside_a_group_replay(db: varve.Varve) -> None:
    """The same key and content twice in one group: the second has the positions of the first; other content conflicts."""
    first, second, third = settle(db, [note(1, 1, key="k"), note(1, 1, key="k", expected=9), note(1, 2, key="k")])
    assert isinstance(first, Committed)
    assert isinstance(second, Committed)
    assert (first.replayed, second.replayed) == (False, True)
    assert second.segments == first.segments == [[(0, 0, 1)]]
    assert isinstance(third, varve.IdempotencyConflict)
    assert third.global_sequence == 0
    assert texts(db) == [(1, 1)]


# -- too large together -----------------------------------------------------------------------------------------------


def test_a_group_too_large_for_the_map_is_tried_one_by_one(varve_path: Path) -> None:
    """Small, huge, small in a small map: only the huge one fails, and what was refused because of it is not."""
    with varve.open(varve_path, durability="relaxed", map_bytes=2**21) as db:
        settle(db, [note(9, 0)])
        huge = one(1, blob(1, 4 * 2**20))
        outcomes = settle(db, [
            note(1, 1), huge, note(1, 2, expected=1), note(1, 3, expected=2), note(2, 4, expected=varve.NO_STREAM),
            note(1, 5, expected=3),
        ])  # fmt: skip
        assert [type(outcome) for outcome in outcomes] == [
            Committed, varve.StoreFull, Committed, Committed, Committed, Committed,
        ]  # fmt: skip
        assert texts(db) == [(9, 0), (1, 1), (1, 2), (1, 3), (2, 4), (1, 5)]
        db.stream("notes", Note | Blob).append(1, Note(6, ""), expected=4)


@pytest.mark.parametrize("error", [MAP_FULL, TXN_FULL, NO_SPACE], ids=["map", "transaction", "disk"])
@pytest.mark.parametrize("place", ["on_put", "on_commit"])
def test_where_the_whole_finds_no_room_each_is_tried(db: varve.Varve, error: lmdb.Error, place: str) -> None:
    """A failure of the whole for its size is nobody's outcome: each commits alone, in order, refusals that stood on it
    included."""
    settle(db, [note(1, 0)])
    proxy = faulty(db)
    raised: list[lmdb.Error] = []

    def once() -> None:
        if not raised:
            raised.append(error)
            raise error

    setattr(proxy, place, once)
    outcomes = settle(db, [note(1, 1), note(1, 2, expected=2), note(1, 3, expected=9), note(1, 4)])
    assert [type(outcome) for outcome in outcomes] == [Committed, Committed, varve.WrongExpectedVersion, Committed]
    assert outcomes[2].actual == 3  # type: ignore[union-attr]
    assert texts(db) == [(1, 0), (1, 1), (1, 2), (1, 4)]


def test_one_too_large_among_refused_ones_is_tried_once(db: varve.Varve) -> None:
    """Where a single request was all there was to write it is not tried again, but who was refused on top of it is."""
    settle(db, [note(1, 0)])
    proxy = faulty(db)
    attempts: list[int] = []

    def first_two() -> None:
        attempts.append(1)
        if len(attempts) <= 1:
            raise MAP_FULL

    proxy.on_commit = first_two
    outcomes = settle(db, [note(1, 1, expected=9), note(1, 2), note(1, 3, expected=1)])
    assert [type(outcome) for outcome in outcomes] == [varve.WrongExpectedVersion, varve.StoreFull, Committed]
    assert texts(db) == [(1, 0), (1, 3)]
    assert len(attempts) == 2


def test_no_room_before_anything_was_applied_is_everyones_own_outcome(db: varve.Varve) -> None:
    """Another process has grown the store beyond our map: each is told so; nobody is left without an outcome."""
    settle(db, [note(1, 0)])
    proxy = faulty(db)

    def resized() -> None:
        raise lmdb_error(lmdb.MapResizedError, -30785)

    proxy.on_begin = resized
    outcomes = settle(db, [note(1, 1), note(1, 2)])
    assert [type(outcome) for outcome in outcomes] == [varve.StoreFull] * 2
    assert outcomes[0] is not outcomes[1]
    proxy.on_begin = lambda: None
    assert isinstance(settle(db, [note(1, 3)])[0], Committed)


# -- failed commits tell everybody the truth --------------------------------------------------------------------------


@pytest.mark.parametrize("unknown", [False, True])
def test_a_failed_commit_tells_every_append_in_it(db: varve.Varve, unknown: bool) -> None:
    """StoreFailed or CommitOutcomeUnknown for each, an exception object of its own; also for one that was refused because
    of another that is not written after all. One refused for itself keeps its refusal."""
    settle(db, [note(1, 0)])
    proxy = faulty(db)

    def fail() -> None:
        if unknown:
            proxy.on_begin = lambda: (_ for _ in ()).throw(PANIC)
        raise EIO

    proxy.on_commit = fail
    outcomes = settle(db, [note(1, 1, expected=5), note(1, 2), note(1, 3, expected=1), note(1, 4)])
    error = varve.CommitOutcomeUnknown if unknown else varve.StoreFailed
    assert [type(outcome) for outcome in outcomes] == [varve.WrongExpectedVersion, error, error, error]
    assert len(set(map(id, outcomes))) == 4
    assert all(outcome.__cause__ is EIO for outcome in outcomes[1:])  # type: ignore[union-attr]
    assert len({str(outcome) for outcome in outcomes[1:]}) == 1
    later = settle(db, [note(1, 5), note(1, 6)])
    assert [type(outcome) for outcome in later] == [error, error]


def test_a_broken_inbox_harms_nobody_else(db: varve.Varve) -> None:
    """An inbox that raises loses its own deliveries only."""

    class Broken:
        def deliver(self, tickets: list[Ticket], /) -> None:
            raise ZeroDivisionError

    box = Box()
    tickets = [Ticket(note(1, 0), Broken()), Ticket(note(1, 1), box)]
    db._engine._group._commit(list(tickets))
    assert box.deliveries == [tickets[1:]]
    assert texts(db) == [(1, 0), (1, 1)]


def test_an_error_that_is_kept_keeps_no_other_events(db: varve.Varve) -> None:
    """Whoever keeps a refusal does not keep what else was in its group: no tracebacks hold it, no cycles."""
    kept: list[BaseException] = []

    class Bin:
        def deliver(self, tickets: list[Ticket], /) -> None:
            pass

    def act() -> weakref.ref[Bin]:
        refused, other = Ticket(note(1, 1, expected=7), Bin()), Ticket(one(1, blob(1, 100_000)), Bin())
        alive = weakref.ref(other.inbox)
        db._engine._group._commit([other, refused])
        del other  # this frame is in the traceback, too
        try:
            refused.outcome()
        except varve.WrongExpectedVersion as error:
            kept.append(error)
        return alive  # type: ignore[return-value]

    gc.collect()
    gc.disable()
    try:
        alive = act()
        assert alive() is None
    finally:
        gc.enable()
    assert "holds 1 events" in str(kept[0])


# -- threads ----------------------------------------------------------------------------------------------------------


@contextmanager
def writer_held(db: varve.Varve) -> Iterator[None]:
    """Inside, another thread is in ``db.write``."""
    inside, leave = threading.Event(), threading.Event()

    def hold() -> None:
        def wait(_tx: varve.WriteTransaction) -> None:
            inside.set()
            leave.wait()

        db.write(wait)

    thread = threading.Thread(target=hold)
    thread.start()
    inside.wait()
    try:
        yield
    finally:
        leave.set()
        thread.join()


def until(condition: Callable[[], bool]) -> None:
    """Let other threads run until something is so."""
    turn = threading.Event()
    for _ in range(100_000):
        if condition():
            return
        turn.wait(0.001)
    raise AssertionError("it never became so")


def waiting(db: varve.Varve) -> int:
    """Tickets in the queue, those aside that the helper has taken."""
    return len(db._engine._group._waiting)


def helper_has_some(db: varve.Varve) -> bool:
    group = db._engine._group
    return group._working and db._engine._writer._turnstile.locked()


def until_helper_ended(group: Group) -> None:
    until(lambda: group._thread is None)


class Threads:
    """Threads that are joined, and whose errors are the test's."""

    def __init__(self) -> None:
        self.threads: list[threading.Thread] = []
        self.errors: list[BaseException] = []

    def start(self, run: Callable[..., Any], *args: Any) -> None:
        def guarded() -> None:
            try:
                run(*args)
            except BaseException as exc:  # noqa: BLE001 - shown by join
                self.errors.append(exc)

        thread = threading.Thread(target=guarded)
        self.threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in self.threads:
            thread.join(120)
            assert not thread.is_alive(), "a thread hangs"
        assert not self.errors, self.errors


def test_threads_that_wait_share_commits(
    varve_path: Path, varve_clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While one thread holds the writer eight append; released, they share transactions. Positions are gapless, each
    thread's order holds, each append is a commit of its own and time never goes back."""
    waits: list[object] = []
    wait = _Gate.wait
    monkeypatch.setattr(_Gate, "wait", lambda gate: [waits.append(gate), wait(gate)])
    with varve.open(varve_path, clock=varve_clock) as db:
        notes = db.stream("notes", Note)
        notes.append(0, Note(0, ""))
        threads, positions = Threads(), {who: [] for who in range(1, 9)}  # type: ignore[var-annotated]

        def append(who: int) -> None:
            for number in range(20):
                varve_clock.advance(-1 if number % 2 else 1.5)
                positions[who].append(notes.append(who, Note(number, ""), expected=number))

        with writer_held(db):
            before = transaction_id(db)
            for who in positions:
                threads.start(append, who)
            until(lambda: len(waits) >= 8)
        threads.join()
        assert transaction_id(db) - before < 120
        assert sorted(position.global_sequence for one in positions.values() for position in one) == list(range(1, 161))
        for who, one in positions.items():
            assert [position.stream_sequence for position in one] == list(range(20))
            assert [position.global_sequence for position in one] == sorted(
                position.global_sequence for position in one
            )
            assert [found.event.number for found in notes.reader().iter_stream(who)] == list(range(20))
        found = list(db.global_reader().iter_from())
        assert [one.commit_sequence for one in found] == list(range(161))
        assert [one.time_ns for one in found] == sorted(one.time_ns for one in found)


def test_eight_that_wait_make_one_commit_behind_the_first(db: varve.Varve) -> None:
    """Appends of eight threads that came while the helper waited for the writer need two transactions at most."""
    notes = db.stream("notes", Note)
    notes.append(0, Note(0, ""))
    threads = Threads()
    with writer_held(db):
        before = transaction_id(db)
        threads.start(notes.append, 1, Note(1, ""))
        until(lambda: helper_has_some(db))
        for who in range(2, 9):
            threads.start(notes.append, who, Note(who, ""))
        until(lambda: waiting(db) == 7)
    threads.join()
    assert transaction_id(db) == before + 2
    assert {stream_id for stream_id, _ in texts(db)} == set(range(9))


def test_a_lone_append_commits_on_its_own_thread(db: varve.Varve) -> None:
    """No thread is started for who has no company."""
    threads = threading.active_count()
    for number in range(3):
        db.stream("notes", Note).append(1, Note(number, ""))
    assert db._engine._group._thread is None
    assert threading.active_count() == threads


def test_who_waits_for_the_writer_comes_before_who_comes_back(db: varve.Varve) -> None:
    """While somebody waits at the turnstile nobody takes the writer from under him, however quick."""
    writer = db._engine._writer
    with writer._turnstile:
        assert writer.commit_if_free(note(1, 1)) is None
    assert writer.commit_if_free(note(1, 1)) is not None


def test_an_append_inside_write_from_another_thread_waits(db: varve.Varve) -> None:
    """Another thread's append while ``db.write(fn)`` runs is committed behind it; one of the same thread is refused, and so
    is a ticket of its loop."""
    notes = db.stream("notes", Note)
    threads = Threads()

    def fn(tx: varve.WriteTransaction) -> None:
        threads.start(notes.append, 1, Note(2, ""))
        until(lambda: helper_has_some(db))
        with pytest.raises(varve.HandleUnusable):
            notes.append(1, Note(9, ""))
        with pytest.raises(varve.HandleUnusable):
            db._engine.submit(Ticket(note(1, 9), Box()))
        tx.append(notes, 1, Note(1, ""))

    db.write(fn)
    threads.join()
    assert texts(db) == [(1, 1), (1, 2)]


# -- interrupts, endings ----------------------------------------------------------------------------------------------


def test_an_interrupt_withdraws_an_append_that_waits(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while an append waits: it is not written, its neighbours are."""
    notes = db.stream("notes", Note)
    notes.append(0, Note(0, ""))
    threads = Threads()
    with writer_held(db):
        threads.start(notes.append, 1, Note(1, ""))
        until(lambda: helper_has_some(db))
        threads.start(notes.append, 2, Note(2, ""))
        until(lambda: waiting(db) == 1)

        def interrupted(_gate: object) -> None:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("varve.engine.group._Gate.wait", interrupted)
            with pytest.raises(KeyboardInterrupt):
                notes.append(3, Note(3, ""))
        assert waiting(db) == 2
        assert db._engine._group._waiting[-1].request is None  # it may stand there for long, its events need not
    threads.join()
    assert texts(db) == [(0, 0), (1, 1), (2, 2)]


def test_an_interrupt_while_the_helper_is_started_harms_nobody(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C before, and behind, the start of the helper's thread: that append is not written (or wholly), others do not
    hang."""
    notes = db.stream("notes", Note)
    notes.append(0, Note(0, ""))
    start = threading.Thread.start
    for runs in (False, True):
        threads = Threads()
        with writer_held(db):
            db._engine._group.end()
            until_helper_ended(db._engine._group)

            def interrupted(thread: threading.Thread) -> None:
                if runs:  # noqa: B023 - called inside the turn
                    start(thread)
                raise KeyboardInterrupt

            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", interrupted)
                with pytest.raises(KeyboardInterrupt):
                    notes.append(3, Note(3, ""))
            threads.start(notes.append, 1, Note(1, ""))
            until(lambda: helper_has_some(db) or waiting(db) > 0)
        threads.join()
    assert [stream_id for stream_id, _ in texts(db)] == [0, 1, 1]


def test_leaving_the_block_settles_what_was_handed_in(varve_path: Path) -> None:
    """``with`` and close() wait for what was handed in before, in order, and then the store is closed."""
    for close in (lambda db: db.close(), lambda db: db.__exit__(None, None, None)):
        db = varve.open(varve_path, durability="relaxed")
        box = Box()
        tickets = [Ticket(note(1, number), box) for number in range(50)]
        for ticket in tickets:
            db._engine.submit(ticket)
        close(db)
        settled = [ticket for delivery in box.deliveries for ticket in delivery]
        assert settled == tickets
        assert all(ticket.committed is not None for ticket in tickets)
        with pytest.raises(varve.StoreClosed):
            db._engine.submit(Ticket(note(1), box))
        until_helper_ended(db._engine._group)


def test_an_append_that_comes_behind_the_end_is_told(varve_path: Path) -> None:
    """A ticket that slips in while the store closes gets StoreClosed, never nothing."""
    db = varve.open(varve_path, durability="relaxed")
    notes = db.stream("notes", Note)
    notes.append(1, Note(1, ""))
    group, box = db._engine._group, Box()
    db.close()
    ticket = Ticket(note(1, 2), box)
    assert group._put(ticket)
    until(lambda: bool(box.deliveries))
    assert isinstance(ticket.error, varve.StoreClosed)


def test_close_with_views_alive_leaves_the_helper_alone(varve_path: Path) -> None:
    """A close that is refused settles what waits, and the handle goes on."""
    db = varve.open(varve_path, durability="relaxed")
    notes = db.stream("notes", Note)
    notes.append(1, Note(1, ""))
    view = notes.reader().get_bytes(1, 0)
    box = Box()
    db._engine.submit(Ticket(note(1, 2), box))
    with pytest.raises(varve.ViewsStillAlive):
        db.close()
    assert len(box.deliveries) == 1
    db._engine.submit(Ticket(note(1, 3), box))
    del view
    db.close()
    assert len(box.deliveries) == 2


def test_a_handle_dropped_with_tickets_waiting_neither_hangs_nor_breaks(varve_path: Path) -> None:
    """The garbage collector takes a handle while its helper has work: the store can be opened again and is sound, and
    what was told as committed is there."""
    for turn in range(20):
        db = varve.open(varve_path, durability="relaxed")
        box = Box()
        tickets = [Ticket(note(turn, number), box) for number in range(5)]
        for ticket in tickets:
            db._engine.submit(ticket)
        group = db._engine._group
        del db
        until(lambda: sum(map(len, box.deliveries)) == 5)  # noqa: B023 - called inside the turn
        written = [ticket.request.appends[0] for ticket in tickets if ticket.committed is not None]  # type: ignore[union-attr]
        assert all(isinstance(ticket.error, varve.StoreClosed) for ticket in tickets if ticket.committed is None)
        until_helper_ended(group)
        del group
        with varve.open(varve_path, durability="relaxed") as again:
            assert again.stream("notes", Note).reader().length(turn) == len(written)


def test_the_helper_ends_when_idle_and_starts_again(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without appends the thread goes, and the next one brings another."""
    monkeypatch.setattr(limits, "HELPER_IDLE_S", 0.001)
    group, box = db._engine._group, Box()
    seen = set()
    for number in range(5):
        db._engine.submit(Ticket(note(1, number), box))
        until(lambda: len(box.deliveries) == number + 1)  # noqa: B023 - called inside the turn
        thread = group._thread
        if thread is not None:
            seen.add(id(thread))
        until_helper_ended(group)
    assert texts(db) == [(1, number) for number in range(5)]


def test_without_threads_appends_commit_on_their_own(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started everything still works: tickets, waiting appends, close."""
    notes = db.stream("notes", Note)
    notes.append(0, Note(0, ""))
    box, threads = Box(), Threads()
    start = threading.Thread.start

    def refuse(thread: threading.Thread) -> None:
        if thread.name.startswith("varve-commit"):
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", refuse)
    db._engine.submit(Ticket(note(1, 1), box))
    refused = Ticket(note(1, 1, expected=7), box)
    db._engine.submit(refused)
    assert [len(delivery) for delivery in box.deliveries] == [1, 1]
    assert isinstance(refused.error, varve.WrongExpectedVersion)
    with writer_held(db):
        for who in (2, 3):
            threads.start(notes.append, who, Note(who, ""))
        until(db._engine._writer._turnstile.locked)
    threads.join()
    assert waiting(db) == 0
    assert sorted(texts(db)) == [(0, 0), (1, 1), (2, 2), (3, 3)]
    db.close()


def test_a_second_helper_leaves_the_work_to_the_first(db: varve.Varve) -> None:
    """An interrupt in the middle of a start may have given two of them."""
    group = db._engine._group
    first = threading.Thread(target=lambda: None)
    group._thread = first
    group._serve()
    assert group._thread is first
    group._thread = None


def test_a_fork_with_a_helper_running(varve_path: Path) -> None:
    """The child's handle refuses, without a hang, and can open its own; the parent goes on."""
    out = run_script(
        """
import os, sys, varve
from engine_helpers import Note
from varve.engine.group import Ticket
class Box:
    def deliver(self, tickets): pass
db = varve.open(sys.argv[1], durability="relaxed")
notes = db.stream("notes", Note)
def put(number):
    tx = db.transaction()
    tx.append(notes, 1, Note(number, ""))
    db._engine.submit(Ticket(tx._request(), Box()))
for number in range(50):
    put(number)
pid = os.fork()
if pid == 0:
    try:
        for attempt in (lambda: notes.append(1, Note(99, "")), lambda: put(99)):
            try:
                attempt()
            except varve.ForkedStore:
                continue
            os._exit(1)
        db.close()
        with varve.open(sys.argv[1], durability="relaxed") as own:
            own.stream("notes", Note).append(2, Note(7, ""))
    except BaseException as exc:
        print(repr(exc), flush=True)
        os._exit(2)
    os._exit(0)
assert os.waitpid(pid, 0)[1] == 0
for number in range(50, 60):
    put(number)
db.close()
with varve.open(sys.argv[1]) as db:
    reader = db.stream("notes", Note).reader()
    assert [one.event.number for one in reader.iter_stream(1)] == list(range(60))
    print(reader.length(2))
""",
        varve_path,
    )
    assert out == "1\n"


def test_an_interpreter_that_exits_lets_appends_end(varve_path: Path) -> None:
    """A program that ends with appends under way, the store never closed: all that was handed in is there."""
    run_script(
        """
import sys, varve
from engine_helpers import Note
from varve.engine.group import Ticket
class Box:
    def deliver(self, tickets): pass
db = varve.open(sys.argv[1])
notes = db.stream("notes", Note)
for number in range(5_000):
    tx = db.transaction()
    tx.append(notes, 1, Note(number, ""))
    db._engine.submit(Ticket(tx._request(), Box()))
""",
        varve_path,
    )
    with varve.open(varve_path) as db:
        assert db.stream("notes", Note).reader().length(1) == 5_000


def test_an_interrupted_process_loses_nothing_acknowledged(varve_path: Path) -> None:
    """Ctrl-C again and again into a main thread that appends beside another thread: what either was told is there, nothing
    hangs."""
    out = run_script(
        """
import os, signal, sys, threading, varve
from engine_helpers import Note
db = varve.open(sys.argv[1], durability="relaxed")
notes = db.stream("notes", Note)
acknowledged = {1: 0, 2: 0}
interrupts = 0
done = threading.Event()
def other():
    while not done.is_set():
        notes.append(2, Note(acknowledged[2], ""))
        acknowledged[2] += 1
def interrupt():
    pause = 0
    while not done.wait(0.002 * (1 + pause)):  # on a slow machine no append would ever end in two milliseconds
        os.kill(os.getpid(), signal.SIGINT)
        pause = (pause + 1) % 8
armed = False
def strike(*_):  # once for each time that the loop below is entered: never between its tries, where it would end the script
    global armed
    if armed:
        armed = False
        raise KeyboardInterrupt
signal.signal(signal.SIGINT, strike)
threads = [threading.Thread(target=other), threading.Thread(target=interrupt)]
for thread in threads:
    thread.start()
while interrupts < 200 or acknowledged[1] < 100:
    try:
        armed = True
        while True:
            notes.append(1, Note(acknowledged[1], ""))
            acknowledged[1] += 1
    except KeyboardInterrupt:
        interrupts += 1
signal.signal(signal.SIGINT, signal.SIG_IGN)
done.set()
for thread in threads:
    thread.join()
reader = notes.reader()
numbers = [one.event.number for one in reader.iter_stream(1)]
assert numbers == sorted(numbers) and set(numbers) >= set(range(acknowledged[1])), acknowledged
assert [one.event.number for one in reader.iter_stream(2)] == list(range(acknowledged[2]))
db.close()
print("ok")
""",
        varve_path,
    )
    assert out == "ok\n"


# -- lingering --------------------------------------------------------------------------------------------------------


def test_lingering_gathers_a_whole_group(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a long linger three threads make one commit as soon as a group is full."""
    monkeypatch.setattr(limits, "GROUP_COMMITS_MAX", 3)
    with varve.open(varve_path, linger_s=limits.LINGER_S_MAX) as db:
        notes = db.stream("notes", Note)
        before, threads = transaction_id(db), Threads()
        for who in range(3):
            threads.start(notes.append, who, Note(who, ""))
        threads.join()
        assert transaction_id(db) == before + 1
        assert {stream_id for stream_id, _ in texts(db)} == {0, 1, 2}


def test_who_waits_for_the_end_takes_along_who_lingers(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first ticket waits for company; the second is its company, and a drain ends the wait for both."""
    monkeypatch.setattr("varve.engine.group.time.monotonic", lambda: 0.0)  # the linger never passes by itself
    with varve.open(varve_path, durability="relaxed", linger_s=limits.LINGER_S_MAX) as db:
        group, box = db._engine._group, Box()
        db._engine.submit(Ticket(note(1, 1), box))
        until(lambda: group._ring_at == limits.GROUP_COMMITS_MAX)
        db._engine.submit(Ticket(note(2, 2), box))
        assert box.deliveries == []
        group.drain()
        found = list(db.global_reader().iter_from())
    assert [one.event.number for one in found] == [1, 2]
    assert [len(delivery) for delivery in box.deliveries] == [2]


def test_closing_does_not_linger(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """close() and the end of a block settle what lingers at once."""
    db = varve.open(varve_path, linger_s=limits.LINGER_S_MAX)
    monkeypatch.setattr("varve.engine.group.time.monotonic", lambda: 0.0)  # the linger never passes by itself
    box = Box()
    for number in range(3):
        db._engine.submit(Ticket(note(1, number), box))
    db.close()
    assert sum(map(len, box.deliveries)) == 3


@pytest.mark.parametrize("wrong", [-0.001, float("nan"), float("inf"), limits.LINGER_S_MAX * 1.01, "0", None, True, 1j])
def test_a_bad_linger_is_refused(tmp_path: Path, wrong: Any) -> None:
    """InvalidInput, and nothing is created."""
    with pytest.raises(varve.InvalidInput, match="linger_s"):
        varve.open(tmp_path / "store", linger_s=wrong)
    assert not (tmp_path / "store").exists()


def test_groups_keep_to_their_bounds(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """At most so many commits, at most so many bytes; a larger one has a group to itself."""
    monkeypatch.setattr(limits, "GROUP_COMMITS_MAX", 3)
    monkeypatch.setattr(limits, "GROUP_BYTES_MAX", 10_000)
    group, box = Group(db._engine._writer, 0.0), Box()
    sizes = [10, 10, 10, 10, 4_000, 4_000, 4_000, 50_000, 10]
    group._waiting.extend(Ticket(one(1, blob(1, size)), box) for size in sizes)
    taken = []
    while group._waiting:
        taken.append(len(group._take()))
    assert taken == [3, 3, 1, 1, 1]


def test_code_that_a_commit_calls_cannot_commit(varve_path: Path) -> None:
    """A clock, a finaliser or a signal handler that appended on the thread of a commit aborted that commit: it was taken
    for what an interrupt had left over. It is refused, and the commit goes on."""
    refused: list[varve.VarveError] = []
    calls: list[Callable[[], object]] = []

    def clock() -> int:
        while calls:
            call = calls.pop()
            try:
                call()
            except varve.HandleUnusable as exc:
                refused.append(exc)
        return 1

    with varve.open(varve_path, durability="relaxed", clock=clock) as db:
        notes = db.stream("notes", Note)

        def all_ways() -> None:
            calls.append(lambda: notes.append(2, Note(0, "inner")))
            calls.append(lambda: notes.append_batch(2, [Note(0, "inner")]))
            calls.append(lambda: db.write(lambda tx: tx.append(notes, 2, Note(0, "inner"))))
            calls.append(db.close)

        for number in range(2):  # the general way, then the short one
            all_ways()
            assert notes.append(1, Note(number, "outer")).stream_sequence == number
        all_ways()
        db.write(lambda tx: tx.append(notes, 1, Note(2, "outer")))
        all_ways()
        assert isinstance(settle(db, [note(1, 3)])[0], Committed)
        assert len(refused) == 16
        assert notes.reader().length(1) == 4
        assert notes.reader().length(2) == 0


# -- interrupts and threads that die ---------------------------------------------------------------------------------------


def test_an_interrupt_while_a_ticket_is_handed_in_withdraws_it(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its owner has gone: the helper passes it, delivers it to nobody, and goes on with the others."""
    group = db._engine._group
    ring = group._ring

    def struck(ticket: Ticket) -> bool:
        ring(ticket)
        raise KeyboardInterrupt

    box = Box()
    with writer_held(db):
        with monkeypatch.context() as patch:
            patch.setattr(group, "_ring", struck)
            gone = Ticket(note(1, 7), box)
            with pytest.raises(KeyboardInterrupt):
                db._engine.submit(gone)
        db._engine.submit(Ticket(note(1, 8), box))
    until(lambda: len(box.deliveries) == 1)
    group.drain()
    assert gone.inbox is not box
    assert texts(db) == [(1, 8)]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_helper_that_dies_is_followed_by_another(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever killed it, the next ticket starts a new one."""
    group = db._engine._group
    serve = group._serve_tickets
    dead: list[threading.Thread] = []

    def dies() -> None:
        dead.append(threading.current_thread())
        raise SystemExit

    box = Box()
    monkeypatch.setattr(group, "_serve_tickets", dies)
    db._engine.submit(Ticket(note(1, 1), box))
    until(lambda: dead != [])
    dead[0].join(30)  # to its very end: what it dies of is reported there
    assert group._thread is None
    monkeypatch.setattr(group, "_serve_tickets", serve)
    db._engine.submit(Ticket(note(1, 2), box))
    until(lambda: sum(map(len, box.deliveries)) == 2)
    assert texts(db) == [(1, 1), (1, 2)]


def test_a_ticket_that_comes_as_the_helper_goes_to_sleep_is_served(db: varve.Varve) -> None:
    """It came between the helper's last look into the queue and the one after it has said that it must be rung."""

    class Late(deque[Ticket]):
        looks = 0

        def __bool__(self) -> bool:
            self.looks += 1
            return self.looks > 1 and len(self) > 0

    group = db._engine._group
    box = Box()
    group._waiting = Late([Ticket(note(1, 1), box)])
    group._ending = True
    group._bell.release()
    group._serve_tickets()
    assert texts(db) == [(1, 1)]
    assert len(box.deliveries) == 1
    group._ending = False


def test_without_threads_a_ticket_that_is_settled_already_is_left(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task that was cancelled before its commit: nothing is written. Draining waits for nobody then."""

    def no_thread(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", no_thread)
    box = Box()
    ticket = Ticket(note(1, 1), box)
    ticket.withdraw()
    db._engine.submit(ticket)
    assert box.deliveries == []
    group = db._engine._group
    group._waiting.append(ticket)
    group.drain()
    group._waiting.clear()
    assert texts(db) == []


def test_an_error_that_cannot_be_copied_is_shared(db: varve.Varve) -> None:
    """Better than none; notes that were added to it go along where it can be copied."""

    class Stubborn(Exception):
        def __copy__(self) -> None:
            raise TypeError("one of a kind")

    one = Stubborn("x")
    assert group_module._copy(one) is one
    noted = varve.StoreFailed("gone", path="p", reason="r")
    noted.add_note("look at the disk")
    twin = group_module._copy(noted)
    assert twin is not noted
    assert (twin.path, twin.__notes__) == ("p", ["look at the disk"])  # type: ignore[attr-defined]
    fresh = ValueError("x")
    fresh.add_note("one")
    assert group_module._copy(fresh).__notes__ == ["one"]


def test_a_replay_whose_first_commit_cannot_be_read_is_told(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a group each outcome stands alone: what is read for a retry fails that retry only."""
    first, *_ = settle(db, [note(1, 1, key="k")])
    assert isinstance(first, Committed)

    def fails(*_: Any) -> Any:
        raise varve.CorruptedBlock("rot", path="p", first_sequence=0, reason="rot")

    monkeypatch.setattr(commit_module, "log_segments", fails)
    again, other = settle(db, [note(1, 1, key="k"), note(1, 2)])
    assert isinstance(again, varve.CorruptedBlock)
    assert isinstance(other, Committed)


def test_a_process_that_ends_after_a_fork_leaves_the_parents_queue(
    db: varve.Varve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At exit a child drains only what is its own."""
    group = db._engine._group
    drained: list[int] = []
    monkeypatch.setattr(group, "drain", lambda: drained.append(1))
    with monkeypatch.context() as patch:
        patch.setattr(db._engine.environment, "is_forked", True)
        group_module._at_exit()
        assert drained == []
    group_module._at_exit()
    assert drained == [1]
