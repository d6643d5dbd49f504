"""SQL projections: rows that follow the log, exactly once, whatever is asked of them."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

import varve

sys.path.insert(0, str(Path(__file__).parent))

from projection_models import Log, Noted, Orders, Paid, Placed, fill, logged, open_db, process, tell, told

from varve.derived.projections.readers import ReadConnection, Readers


@pytest.fixture
def db(varve_path: Path) -> Iterator[varve.Varve]:
    """An open store without fsync's price, closed and checked after the test."""
    with open_db(varve_path) as store:
        yield store


# -- catching up -----------------------------------------------------------------------------------


def test_rows_follow_the_log(db: varve.Varve) -> None:
    """Every event comes to its method, in order; the position is behind the last one; what has no method is passed over."""
    stream = db.stream("orders", Placed | Paid | Noted)
    db.stream("other", Billed).append(1, Billed(7))
    stream.append_batch(1, [Placed(1, 100), Noted("a"), Placed(2, 50), Paid(2)])
    stream.append_batch(2, [Noted("b"), Placed(3, 7)])
    projection = db.projection(Orders)
    done = projection.catch_up()
    assert projection.query("SELECT * FROM orders ORDER BY customer") == [(1, 2, 150, 1), (2, 1, 7, 0)]
    assert projection.query("SELECT * FROM log") == [(2, "a"), (5, "b")]
    assert (done.position, done.end, done.events, done.lag) == (7, 7, 6, 0)
    assert done.rate > 0
    assert (projection.position, projection.lag) == (7, 0)
    stream.append(2, Paid(3))
    assert projection.lag == 1
    assert projection.catch_up().events == 1
    assert projection.query("SELECT paid FROM orders WHERE customer = ?", (2,)) == [(1,)]
    assert projection.catch_up().events == 0


def test_statements_keep_their_order(db: varve.Varve) -> None:
    """Statements of several methods depend on one another: none overtakes another, also where one has rows of several methods."""

    class Steps(varve.Projection):
        schema = "CREATE TABLE steps (id INTEGER PRIMARY KEY, trace TEXT NOT NULL)"

        @varve.on(
            Placed, sql="INSERT INTO steps VALUES (?, 'placed') ON CONFLICT DO UPDATE SET trace = trace || ' again'"
        )
        def placed(self, recorded: varve.Recorded[Placed]) -> tuple[int]:
            return (recorded.event.number,)

        @varve.on(Paid, sql="UPDATE steps SET trace = trace || ' paid' WHERE id = ?")
        def paid(self, recorded: varve.Recorded[Paid]) -> tuple[int]:
            return (recorded.event.number,)

        @varve.on(Noted)
        def noted(self, sql: sqlite3.Connection, recorded: varve.Recorded[Noted]) -> None:
            [(seen,)] = sql.execute("SELECT trace FROM steps WHERE id = 1").fetchall()
            assert seen == recorded.event.text

    stream = db.stream("orders", Placed | Paid | Noted)
    stream.append_batch(
        1,
        [Placed(1, 0), Noted("placed"), Paid(1), Placed(1, 0), Paid(1), Noted("placed paid again paid"), Placed(2, 0)],
    )
    projection = db.projection(Steps)
    projection.catch_up()
    assert projection.query("SELECT trace FROM steps") == [("placed paid again paid",), ("placed",)]


def test_an_event_comes_to_no_row_or_to_several(db: varve.Varve) -> None:
    """None, a list, a generator, tuples of a subclass."""

    class Several(varve.Projection):
        schema = "CREATE TABLE t (n INTEGER)"

        @varve.on(Placed, sql="INSERT INTO t VALUES (?)")
        def placed(self, recorded: varve.Recorded[Placed]) -> Any:
            number = recorded.event.number
            return [None, [(10,), (11,)], []][number]

        @varve.on(Paid, sql="INSERT INTO t VALUES (?)")
        def paid(self, recorded: varve.Recorded[Paid]) -> Iterator[tuple[int]]:
            yield (20,)
            yield (21,)

    db.stream("orders", Placed | Paid).append_batch(
        1, [Placed(0, 0), Placed(1, 0), Paid(0), Placed(2, 0), Placed(1, 0)]
    )
    projection = db.projection(Several)
    projection.catch_up()
    assert projection.query("SELECT n FROM t ORDER BY rowid") == [(10,), (11,), (20,), (21,), (10,), (11,)]


def test_until_stops_at_a_sequence(db: varve.Varve) -> None:
    """Exactly there, inside of a block; the next call goes on."""
    fill(db, 500)
    projection = db.projection(Log)
    assert projection.catch_up(until=123).position == 123
    assert logged(projection) == list(range(123))
    assert projection.catch_up(until=100).position == 123
    assert projection.catch_up(until=9_999).position == 500
    assert logged(projection) == list(range(500))
    with pytest.raises(varve.InvalidInput):
        projection.catch_up(until=-1)


def test_progress_tells_the_rate(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """After each transaction; the status has the last rate."""
    monkeypatch.setattr(varve.limits, "PROJECTION_BATCH_EVENTS_MAX", 100)
    monkeypatch.setattr(varve.limits, "PROJECTION_STEP_EVENTS", 50)
    fill(db, 350)
    told_of: list[varve.ProjectionProgress] = []
    projection = db.projection(Log)
    done = projection.catch_up(progress=told_of.append)
    assert [(one.position, one.events, one.end) for one in told_of] == [(n, n, 350) for n in (100, 200, 300, 350)]
    assert done == told_of[-1]
    assert projection.status().rate == done.rate


def test_only_the_chosen_streams(db: varve.Varve) -> None:
    """``streams`` as in tails; the position moves over the others."""

    class Some(Log):
        streams = ("b", "c")

    for number, name in enumerate("abcab"):
        db.stream(name, Placed).append(1, Placed(number, 0))
    projection = db.projection(Some)
    assert projection.catch_up().position == 5
    assert logged(projection) == [1, 2, 4]


def test_upcasts_and_gaps(varve_path: Path, tmp_path: Path) -> None:
    """Old types come as the type that they are upcast to; dropped events as what they are, where one asks for them."""

    @varve.event(name="Old")
    class Old:
        number: varve.u64

    @varve.event(name="New")
    class New:
        number: varve.u64
        amount: varve.u64

    @varve.upcast(Old, New)
    def _(old: Old) -> New:
        return New(old.number, 1)

    class Both(varve.Projection):
        schema = "CREATE TABLE log (number INTEGER, amount INTEGER); CREATE TABLE gaps (at INTEGER, events INTEGER);"

        @varve.on(New, sql="INSERT INTO log VALUES (?, ?)")
        def new(self, recorded: varve.Recorded[New]) -> tuple[int, int]:
            return recorded.event.number, recorded.event.amount

        @varve.on(varve.Gap, sql="INSERT INTO gaps VALUES (?, ?)")
        def gap(self, recorded: varve.Recorded[varve.Gap]) -> tuple[int, int]:
            return recorded.global_sequence, recorded.event.events

    with open_db(varve_path) as db:
        db.stream("orders", Old).append_batch(1, [Old(1), Old(2), Old(3)])
        stream = db.stream("orders", New)
        stream.append(1, New(4, 40))
        projection = db.projection(Both)
        projection.catch_up()
        assert projection.query("SELECT * FROM log") == [(1, 1), (2, 1), (3, 1), (4, 40)]
        stream.truncate_before(1, 2)
    varve.ops.compact(varve_path, tmp_path / "compacted")
    with open_db(tmp_path / "compacted") as other:
        compacted = other.projection(Both)
        compacted.catch_up()
        assert compacted.query("SELECT * FROM log") == [(3, 1), (4, 40)]
        assert compacted.query("SELECT * FROM gaps") == [(0, 2)]


def test_an_instance_with_settings(db: varve.Varve) -> None:
    """A projection with a constructor is handed over as an instance; its class alone cannot be made."""

    class Above(varve.Projection):
        schema = "CREATE TABLE log (number INTEGER)"

        def __init__(self, least: int) -> None:
            self.least = least

        @varve.on(Placed, sql="INSERT INTO log VALUES (?)")
        def placed(self, recorded: varve.Recorded[Placed]) -> tuple[int] | None:
            return (recorded.event.number,) if recorded.event.amount >= self.least else None

    fill(db, 10)
    projection = db.projection(Above(50))
    projection.catch_up()
    assert logged(projection) == [5, 6, 7, 8, 9]
    with pytest.raises(varve.InvalidProjection, match="Hand over an instance"):
        db.projection(Above)


def test_an_instance_says_its_name_and_streams(db: varve.Varve) -> None:
    """One class, several projections: what ``__init__`` sets counts as what the class says, and another setting rebuilds."""

    class Of(varve.Projection):
        schema = "CREATE TABLE log (number INTEGER)"

        def __init__(self, stream: str, version: int = 1) -> None:
            self.name = f"of_{stream}"
            self.streams = (stream,)
            self.version = version
            self.schema = f"CREATE TABLE log (number INTEGER DEFAULT {version})"

        @varve.on(Placed, sql="INSERT INTO log VALUES (?)")
        def placed(self, recorded: varve.Recorded[Placed]) -> tuple[int]:
            return (recorded.event.number,)

    fill(db, 3)
    db.stream("returns", Placed).append(1, Placed(99, 0))
    found = {}
    for stream in ("orders", "returns"):
        projection = db.projection(Of(stream))
        projection.catch_up()
        found[projection.name] = logged(projection)
    assert found == {"of_orders": [0, 1, 2], "of_returns": [99]}
    newer = db.projection(Of("orders", 2))
    assert newer.status().outdated is not None
    newer.catch_up()
    assert newer.status().version == 2
    assert "DEFAULT 2" in newer.query("SELECT sql FROM sqlite_master WHERE name = 'log'")[0].sql


@varve.event
class Billed:
    number: varve.u64


# -- live ------------------------------------------------------------------------------------------


def test_follow_and_wait_for(db: varve.Varve) -> None:
    """A thread follows; whoever appended waits until his event is in the tables."""
    projection = db.projection(Log)
    stop = threading.Event()
    thread = threading.Thread(target=projection.follow, kwargs={"stop": stop})
    thread.start()
    stream = db.stream("orders", Placed)
    for number in range(5):
        at = stream.append(1, Placed(number, 0)).global_sequence
        assert projection.wait_for(at, timeout_s=60) > at
        assert logged(projection) == list(range(number + 1))
    stop.set()
    thread.join()
    with pytest.raises(varve.WaitTimeout) as caught:
        projection.wait_for(5, timeout_s=0)
    assert (caught.value.global_sequence, caught.value.timeout_s) == (5, 0)


def test_follow_ends_when_nothing_comes(db: varve.Varve) -> None:
    """``timeout_s``, as in other follows."""
    fill(db, 20)
    assert db.projection(Log).follow(timeout_s=0).position == 20


def test_closing_the_handle_ends_follow(db: varve.Varve) -> None:
    """And its calls are refused."""
    projection = db.projection(Log)
    thread = threading.Thread(target=projection.follow)
    thread.start()
    other = db.projection(Log)
    fill(db, 3)
    other.wait_for(2, timeout_s=60)
    with pytest.raises(varve.ProjectionBusy):
        other.catch_up()
    projection.close()
    projection.close()
    thread.join()
    with pytest.raises(varve.HandleUnusable):
        projection.query("SELECT 1")
    assert other.catch_up().position == 3


def test_run_in_a_loop(db: varve.Varve) -> None:
    """``await projection.run()`` follows until its task is cancelled, and lets the projection go."""

    async def main() -> None:
        projection = db.projection(Log)
        stream = db.stream("orders", Placed)
        task = asyncio.create_task(projection.run())
        for number in range(5):
            position = await stream.append_async(1, Placed(number, 0))
            await projection.wait_for_async(position.global_sequence, timeout_s=60)
        assert logged(projection) == [0, 1, 2, 3, 4]
        with pytest.raises(varve.WaitTimeout):
            await projection.wait_for_async(5, timeout_s=0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        fill(db, 2)
        assert projection.catch_up().position == 7
        again = asyncio.create_task(projection.run())
        await asyncio.sleep(0)
        projection.close()
        await again

    asyncio.run(main())


def test_run_and_follow_end_with_the_store(varve_path: Path) -> None:
    """By ``StoreClosed``, as tails do."""
    db = open_db(varve_path)
    projection = db.projection(Log)
    caught: list[BaseException] = []

    def follow() -> None:
        try:
            projection.follow()
        except varve.StoreClosed as exc:
            caught.append(exc)

    thread = threading.Thread(target=follow)
    thread.start()
    fill(db, 1)
    projection.wait_for(0, timeout_s=60)
    db.close()
    thread.join()
    assert len(caught) == 1
    with pytest.raises(varve.StoreClosed):
        projection.query("SELECT 1")


def test_a_failing_method_ends_run(db: varve.Varve) -> None:
    """Its error comes out of the task."""

    class Bad(Log):
        @varve.on(Placed)
        def placed(self, sql: sqlite3.Connection, recorded: varve.Recorded[Placed]) -> None:  # type: ignore[override]
            raise RuntimeError("no")

    fill(db, 1)
    with pytest.raises(varve.ProjectionFailed):
        asyncio.run(db.projection(Bad).run())


def test_several_together(db: varve.Varve) -> None:
    """Each in its file; where one fails the others stop, and keep what they have."""
    fill(db, 300)
    orders, log = db.projection(Orders), db.projection(Log)
    assert [one.position for one in varve.run_projections([orders, log], timeout_s=0)] == [300, 300]
    assert len(logged(log)) == 300
    assert orders.query("SELECT sum(placed) FROM orders") == [(300,)]
    with pytest.raises(varve.InvalidInput):
        varve.run_projections([log, db.projection(Log)])

    class Picky(Log):
        @varve.on(Placed, sql="INSERT INTO log VALUES (?, 1 / (? < 400))")
        def placed(self, recorded: varve.Recorded[Placed]) -> tuple[int, int]:
            if recorded.event.number >= 400:
                raise ValueError("too many")
            return recorded.event.number, 0

    fill(db, 200)
    with pytest.raises(varve.ProjectionFailed) as caught:
        varve.run_projections([orders, db.projection(Picky)])
    assert caught.value.global_sequence == 400
    stop = threading.Event()
    stop.set()
    assert [one.name for one in varve.run_projections([orders, log], stop=stop)] == ["Orders", "Log"]


# -- failures --------------------------------------------------------------------------------------


def test_a_method_that_raises_keeps_nothing_of_its_batch(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the event; what earlier batches did is there; corrected, it goes on."""
    monkeypatch.setattr(varve.limits, "PROJECTION_BATCH_EVENTS_MAX", 10)
    monkeypatch.setattr(varve.limits, "PROJECTION_STEP_EVENTS", 10)
    fails = True

    class Failing(Log):
        @varve.on(Placed, sql="INSERT INTO log VALUES (?, 0)")
        def placed(self, recorded: varve.Recorded[Placed]) -> tuple[int]:  # type: ignore[override]
            if fails and recorded.event.number == 27:
                raise ValueError("a bad order")
            return (recorded.event.number,)

    fill(db, 40)
    projection = db.projection(Failing)
    for _ in range(2):
        with pytest.raises(varve.ProjectionFailed, match="global sequence 27") as caught:
            projection.catch_up()
        error = caught.value
        assert (error.name, error.handler, error.type_name, error.global_sequence) == (
            *("Failing", "Failing.placed", "Placed"),
            27,
        )
        assert isinstance(error.__cause__, ValueError)
        assert logged(projection) == list(range(20))
        assert projection.position == 20
    fails = False
    assert projection.catch_up().position == 40
    assert logged(projection) == list(range(40))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((1, 2), "bindings"),
        ((2**63,), "64 bits"),
        ((uuid.UUID(int=1),), "convert"),
        ("text", "return a tuple"),
        (5, "return a tuple"),
        ([1], "a row is a tuple"),
        ((None,), "NOT NULL"),
    ],
)
def test_rows_that_sqlite_does_not_take(db: varve.Varve, row: Any, message: str) -> None:
    """Each is told with its event, and with a word on what to do."""

    class Odd(varve.Projection):
        schema = "CREATE TABLE t (n INTEGER NOT NULL)"

        @varve.on(Placed, sql="INSERT INTO t VALUES (?)")
        def placed(self, recorded: varve.Recorded[Placed]) -> Any:
            return (recorded.event.number,) if recorded.event.number < 3 else row

    fill(db, 5)
    projection = db.projection(Odd)
    with pytest.raises(varve.ProjectionFailed, match=message) as caught:
        projection.catch_up()
    assert caught.value.global_sequence == 3
    assert projection.position == 0
    assert projection.query("SELECT count(*) FROM t") == [(0,)]


@pytest.mark.parametrize(
    "statement",
    [
        "COMMIT",
        "ROLLBACK",
        "BEGIN",
        "PRAGMA journal_mode = DELETE",
        "ATTACH ':memory:' AS other",
        "CREATE TEMP TABLE t (n)",
        "UPDATE varve_projection SET position = 9",
        "DELETE FROM varve_projection",
        "DROP TABLE varve_projection",
        "ALTER TABLE varve_projection RENAME TO other",
        None,
    ],
)
def test_methods_cannot_end_the_transaction(db: varve.Varve, statement: str | None) -> None:
    """What would part the rows from the position is refused, also ``commit()``, and nothing is kept."""

    class Meddling(Log):
        @varve.on(Placed)
        def placed(self, sql: sqlite3.Connection, recorded: varve.Recorded[Placed]) -> None:  # type: ignore[override]
            sql.execute("INSERT INTO log VALUES (?, 0)", (recorded.event.number,))
            if recorded.event.number == 2:
                if statement is None:
                    sql.commit()
                else:
                    sql.execute(statement)

    fill(db, 4)
    projection = db.projection(Meddling)
    with pytest.raises(varve.ProjectionFailed, match="not the method's business") as caught:
        projection.catch_up()
    assert caught.value.global_sequence == 2
    assert logged(projection) == []
    assert projection.position == 0


@pytest.mark.parametrize(
    "after", ["", "INSERT INTO log VALUES (77)", "WITH one AS (SELECT 88) INSERT INTO log SELECT * FROM one"]
)
def test_a_method_that_goes_on_when_its_transaction_is_gone(db: varve.Varve, after: str) -> None:
    """SQLite may roll back of itself: a method that catches that and goes on loses nothing of what was before it, and what it
    executes afterwards is not kept: at the latest the next one who writes makes all of it anew."""
    held = True

    class Careless(varve.Projection):
        schema = "CREATE TABLE log (number INTEGER PRIMARY KEY)"

        @varve.on(Placed)
        def placed(self, sql: sqlite3.Connection, recorded: varve.Recorded[Placed]) -> None:
            number = recorded.event.number
            try:
                sql.execute("INSERT OR ROLLBACK INTO log VALUES (?)", (1 if held and number == 7 else number,))
            except sqlite3.IntegrityError:
                if after:
                    with contextlib.suppress(sqlite3.Error):
                        sql.execute(after)

    fill(db, 5)
    projection = db.projection(Careless)
    projection.catch_up()
    fill(db, 5)
    with pytest.raises(varve.ProjectionFailed, match="rolled the transaction back") as caught:
        projection.catch_up()
    assert caught.value.global_sequence == 7
    assert projection.position == 5
    assert projection.query("SELECT * FROM log WHERE number = 77") == []
    assert projection.status().outdated is not None
    held = False
    projection.catch_up()
    assert logged(projection) == list(range(10))
    assert projection.check().ok


def test_a_deferred_constraint_fails_at_the_end(db: varve.Varve) -> None:
    """No event is named then, and nothing is kept."""

    class Children(varve.Projection):
        schema = (
            "CREATE TABLE parents (id INTEGER PRIMARY KEY);"
            "CREATE TABLE children (id INTEGER REFERENCES parents (id) DEFERRABLE INITIALLY DEFERRED);"
        )

        @varve.on(Placed, sql="INSERT INTO children VALUES (?)")
        def placed(self, recorded: varve.Recorded[Placed]) -> tuple[int]:
            return (recorded.event.number,)

    fill(db, 3)
    projection = db.projection(Children)
    with pytest.raises(varve.ProjectionFailed, match="FOREIGN KEY") as caught:
        projection.catch_up()
    assert caught.value.global_sequence is None
    assert projection.query("SELECT * FROM children") == []


def test_an_interrupt_keeps_nothing_and_loses_nothing(db: varve.Varve) -> None:
    """Ctrl-C in a method: the batch is rolled back, the next call does it."""
    strikes = True

    class Slow(Log):
        @varve.on(Placed, sql="INSERT INTO log VALUES (?, 0)")
        def placed(self, recorded: varve.Recorded[Placed]) -> tuple[int]:  # type: ignore[override]
            if strikes and recorded.event.number == 5:
                raise KeyboardInterrupt
            return (recorded.event.number,)

    fill(db, 10)
    projection = db.projection(Slow)
    with pytest.raises(KeyboardInterrupt):
        projection.catch_up()
    assert logged(projection) == []
    strikes = False
    projection.catch_up()
    assert logged(projection) == list(range(10))


def test_what_stands_before_a_damaged_block_is_kept(tmp_path: Path) -> None:
    """A log that cannot be read further ends the catching up, behind what could be read."""
    path = tmp_path / "damaged"
    with open_db(path) as db:
        db.stream("orders", Placed).append_batch(1, [Placed(n, 0) for n in range(5_000)])
        last = db.global_reader().get(4_999)
        assert last is not None
        raw = bytes(last.raw)
        del last
    data = path / "data.mdb"
    content = bytearray(data.read_bytes())
    content[content.rindex(raw)] ^= 0xFF
    data.write_bytes(content)
    with open_db(path) as db:
        projection = db.projection(Log)
        with pytest.raises(varve.CorruptedBlock) as caught:
            projection.catch_up()
        assert projection.position == caught.value.first_sequence > 0
        assert logged(projection) == list(range(projection.position))


# -- classes that cannot work ----------------------------------------------------------------------


def make(attributes: dict[str, Any], *bases: type) -> type[varve.Projection]:
    """A projection class."""
    return type("Made", bases or (Log,), attributes)


@varve.on(Placed)
def _second(self: object, sql: sqlite3.Connection, recorded: object) -> None:
    pass


@varve.on(Placed, sql="SELECT 1")
def _selecting(self: object, recorded: object) -> None:
    pass


@varve.on(Placed, sql="INSERT INTO nowhere VALUES (1)")
def _nowhere(self: object, recorded: object) -> None:
    pass


@varve.on(Placed, sql="INSERT INTO log VALUES (1, 2); DELETE FROM log")
def _two(self: object, recorded: object) -> None:
    pass


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"schema": "CREATE TABEL log (n)"}, "does not execute"),
        ({"schema": "CREATE TABLE log (n); CREATE TABLE log (n)"}, "already exists"),
        ({"schema": "CREATE TABLE log (n); COMMIT"}, "not authorized"),
        ({"schema": "CREATE TABLE varve_projection (n)"}, "already exists"),
        ({"schema": ""}, "schema is the SQL"),
        ({"schema": 5}, "schema is the SQL"),
        ({"version": 0}, "version is an int"),
        ({"version": "2"}, "version is an int"),
        ({"name": "../elsewhere"}, "a projection's name"),
        ({"name": "x" * 65}, "a projection's name"),
        ({"name": ".hidden"}, "a projection's name"),
        ({"second": _second}, "two methods"),
        ({"placed": None}, "no method"),
        ({"placed": _selecting}, "begins with INSERT"),
        ({"placed": _nowhere}, "no such table"),
        ({"placed": _two}, "one statement"),
    ],
)
def test_classes_that_cannot_work(db: varve.Varve, attributes: dict[str, Any], message: str) -> None:
    """They are refused where the handle is made, with a word on what is wrong, and leave nothing behind."""
    with pytest.raises(varve.InvalidProjection, match=message):
        db.projection(make(attributes))
    assert not Path(db.path, "projections").exists()


@pytest.mark.parametrize("given", [varve.Projection, int, 5, None, Placed])
def test_what_is_no_projection(db: varve.Varve, given: Any) -> None:
    with pytest.raises(varve.InvalidProjection, match="derives from"):
        db.projection(given)


def test_decorations_that_cannot_work() -> None:
    """Told where they stand."""
    with pytest.raises(varve.InvalidProjection, match="names the event classes"):
        varve.on()
    with pytest.raises(varve.InvalidProjection, match="sql is a statement"):
        varve.on(Placed, sql=" ")
    with pytest.raises(varve.InvalidProjection, match="decorates a method"):
        varve.on(Placed)(5)  # type: ignore[type-var]

    async def waiting(self: object, sql: object, recorded: object) -> None:
        pass

    def yielding(self: object, sql: object, recorded: object) -> Iterator[int]:
        yield 1

    with pytest.raises(varve.InvalidProjection, match="async"):
        varve.on(Placed)(waiting)
    with pytest.raises(varve.InvalidProjection, match="generator"):
        varve.on(Placed)(yielding)


def test_a_union_and_no_event_class(db: varve.Varve) -> None:
    """One method for several classes; a class that is no event's is a ``SchemaError``."""

    class Either(varve.Projection):
        schema = "CREATE TABLE log (number INTEGER)"

        @varve.on(Placed | Paid, sql="INSERT INTO log VALUES (?)")
        def either(self, recorded: varve.Recorded[Placed | Paid]) -> tuple[int]:
            return (recorded.event.number,)

    class Wrong(varve.Projection):
        schema = "CREATE TABLE log (number INTEGER)"

        @varve.on(int)
        def number(self, sql: sqlite3.Connection, recorded: Any) -> None:
            pass

    db.stream("orders", Placed | Paid).append_batch(1, [Placed(1, 0), Paid(2)])
    projection = db.projection(Either)
    projection.catch_up()
    assert logged(projection) == [1, 2]
    with pytest.raises(varve.SchemaError):
        db.projection(Wrong)


def test_an_event_class_that_cannot_read_the_log(db: varve.Varve) -> None:
    """As streams refuse it: never rows from what was misread."""
    fill(db, 3)

    @varve.event(name="Placed")
    class Changed:
        amount: str

    class Other(varve.Projection):
        schema = "CREATE TABLE log (number INTEGER)"

        @varve.on(Changed, sql="INSERT INTO log VALUES (?)")
        def changed(self, recorded: varve.Recorded[Changed]) -> tuple[str]:
            return (recorded.event.amount,)

    with pytest.raises(varve.SchemaConflict):
        db.projection(Other).catch_up()


# -- reading ---------------------------------------------------------------------------------------


def test_queries_read_and_nothing_else(db: varve.Varve) -> None:
    """Rows are named tuples; what would write, attach or begin is refused, and so is what is no SQL."""
    fill(db, 10)
    projection = db.projection(Orders)
    projection.catch_up()
    [row] = projection.query("SELECT customer, amount AS total, count(*) FROM orders WHERE customer = :c", {"c": 3})
    assert (row.customer, row.total, row[2]) == (3, 30, 1)
    assert row == (3, 30, 1)
    assert projection.query("SELECT name FROM pragma_table_info('orders')")[0] == ("customer",)
    assert projection.query("PRAGMA table_info(orders)")[0].name == "customer"
    assert projection.query("WITH RECURSIVE n(i) AS (VALUES (1) UNION SELECT i + 1 FROM n WHERE i < 3) SELECT * FROM n")
    for sql in (
        "DELETE FROM orders",
        "INSERT INTO log VALUES (1, 2)",
        "CREATE TABLE t (n)",
        "CREATE TEMP TABLE t (n)",
        "DROP TABLE orders",
        "PRAGMA query_only = OFF",
        "ATTACH ':memory:' AS other",
        "BEGIN",
        "VACUUM",
        "VACUUM INTO 'elsewhere.sqlite'",
        "SAVEPOINT s",
        "SELECT nothing FROM orders",
        "SELECT 1; SELECT 2",
        "no sql",
    ):
        with pytest.raises(varve.QueryFailed) as caught:
            projection.query(sql)
        assert (caught.value.sql, caught.value.name) == (sql, "Orders")
    for params in ((), (1, 2), {"other": 1}, (object(),), 5):
        with pytest.raises(varve.QueryFailed):
            projection.query("SELECT ?", params)  # type: ignore[arg-type]
    with pytest.raises(varve.InvalidInput):
        projection.query(5)  # type: ignore[arg-type]
    assert projection.check().ok


def test_a_file_that_cannot_be_read_is_not_the_querys_fault(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the system says of the file is told as such."""
    fill(db, 10)
    projection = db.projection(Log)
    projection.catch_up()
    take = Readers.take

    def taken(readers: Readers) -> ReadConnection:
        connection = take(readers)
        connection.path.unlink()
        return connection

    monkeypatch.setattr(Readers, "take", taken)
    with pytest.raises(varve.StoreUnavailable) as caught:
        projection.query("SELECT count(*) FROM log")
    assert caught.value.path.endswith("generation-1.sqlite")


def test_any_tool_can_read_the_file(db: varve.Varve) -> None:
    """``path`` is an ordinary SQLite file, of nobody's but ours to read; ``connect`` gives a connection that cannot write."""
    fill(db, 10)
    projection = db.projection(Log)
    projection.catch_up()
    with closing(sqlite3.connect(f"{projection.path.as_uri()}?mode=ro", uri=True)) as other:
        assert other.execute("SELECT count(*) FROM log").fetchone() == (10,)
    with closing(projection.connect()) as connection:
        assert connection.execute("SELECT count(*) FROM log").fetchone() == (10,)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM log")
    assert projection.path.stat().st_mode & 0o777 == 0o600
    assert projection.folder.stat().st_mode & 0o777 == 0o700


def test_nothing_is_there_yet(db: varve.Varve) -> None:
    """Told by type; the status tells it without an error."""
    projection = db.projection(Log)
    for call in (lambda: projection.query("SELECT 1"), projection.connect, lambda: projection.path, projection.check):
        with pytest.raises(varve.ProjectionNotBuilt):
            call()
    status = projection.status()
    assert (projection.position, status.generation, status.position, status.problem) == (0, None, None, None)
    assert db.projections() == []


def test_queries_from_many_threads(db: varve.Varve) -> None:
    """They go on side by side, while events are applied and the projection is rebuilt: each sees whole transactions."""
    projection = db.projection(Orders)
    fill(db, 200)
    projection.catch_up()
    failed: list[BaseException] = []
    stop = threading.Event()

    def look() -> None:
        try:
            while not stop.is_set():
                [(placed, position)] = projection.query(
                    "SELECT (SELECT sum(placed) FROM orders), (SELECT position FROM varve_projection)"
                )
                assert placed == position
        except BaseException as exc:  # noqa: BLE001 - for the test's own thread
            failed.append(exc)

    threads = [threading.Thread(target=look) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(5):
        fill(db, 200)
        projection.catch_up()
        projection.rebuild()
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed
    projection.close()


def test_a_readonly_store(db: varve.Varve, varve_path: Path, tmp_path: Path) -> None:
    """Its handle reads the projection of the store's folder, and fills one elsewhere."""
    fill(db, 10)
    db.projection(Log).catch_up()
    with process(
        """
with varve.open(sys.argv[1], readonly=True) as db:
    own = db.projection(Log)
    print(len(logged(own)))
    for call in (own.catch_up, own.rebuild, own.check):
        try:
            call()
        except varve.ReadonlyStore:
            print("refused")
    other = db.projection(Log, folder=sys.argv[2])
    other.catch_up()
    print(len(logged(other)), other.check().ok)
""",
        varve_path,
        tmp_path / "elsewhere",
    ) as running:
        assert [told(running) for _ in range(5)] == ["10", "refused", "refused", "refused", "10 True"]
    assert [info.name for info in db.projections()] == ["Log"]


def test_one_writer_at_a_time(db: varve.Varve, varve_path: Path) -> None:
    """Also across processes: the error says who; he is free as soon as that one dies, and readers are not concerned."""
    fill(db, 10)
    projection = db.projection(Log)
    body = """
with open_db(sys.argv[1]) as db:
    def tell_of(progress):
        print(os.getpid(), flush=True)
        sys.stdin.readline()
    db.projection(Log).follow(progress=tell_of)
"""
    with process(body, varve_path) as running:
        pid = int(told(running))
        for call in (projection.catch_up, lambda: projection.follow(0)):
            with pytest.raises(varve.ProjectionBusy) as caught:
                call()
            assert (caught.value.name, caught.value.pid) == ("Log", pid)
        status = projection.status()
        assert (status.running, status.pid) == (True, pid)
        tell(running)
        fill(db, 1)
        assert told(running) == str(pid)
        assert projection.wait_for(9, timeout_s=60) == 11
        running.kill()
        running.wait()
        assert projection.catch_up().position == 11
    assert logged(projection) == list(range(11))


def test_the_listing(db: varve.Varve) -> None:
    """Every projection of the store's folder, where it stands, and what is wrong with one."""
    fill(db, 10)
    db.projection(Log).catch_up(until=4)
    orders = db.projection(Orders)
    orders.catch_up()
    log, other = db.projections()
    assert (log.name, log.position, log.lag, log.generation, log.version, log.running) == ("Log", 4, 6, 1, 1, False)
    assert (other.name, other.position, other.lag, other.problem) == ("Orders", 10, 0, None)
    assert other.path == str(orders.path)
    assert other.size_bytes >= orders.path.stat().st_size
    assert other.built_at is not None
    orders.close()
    orders.path.write_bytes(b"no database at all, and long enough to be taken for one" * 100)
    problem = db.projections()[1].problem
    assert problem is not None
    assert "not a database" in problem
