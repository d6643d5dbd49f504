"""``tx.state``: one commit with events, own changes seen, what was read looked at again."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from state_models import Moved

import varve
from varve import limits

Tx = varve.Transaction


def test_state_and_events_are_one_commit(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """Both or neither, whatever refuses."""
    with db.transaction() as tx:
        tx.append(moved, 1, Moved(5))
        tx.state.put("a", 1)
        tx.state.add("n", 5)
        tx.state.delete("nothing")
    assert (db.state.get("a"), db.state.get("n"), moved.reader().length(1)) == (1, 5, 1)
    refusals: list[tuple[type[Exception], Callable[[Tx], object]]] = [
        (varve.WrongExpectedVersion, lambda tx: tx.append(moved, 1, Moved(6), expected=7)),
        (varve.NumberOutOfRange, lambda tx: tx.state.add("n", -6, min=0)),
        (varve.CheckFailed, lambda tx: tx.require_absent("a")),
        (varve.CheckFailed, lambda tx: tx.ensure("a", lambda value: value == 1)),
        (ZeroDivisionError, lambda _: 1 / 0),
    ]
    for error, refuse in refusals:
        with pytest.raises(error), db.transaction() as tx:
            tx.append(moved, 1, Moved(6))
            tx.state.put("a", 2)
            refuse(tx)
        assert (db.state.get("a"), db.state.get("n"), moved.reader().length(1)) == (1, 5, 1)


def test_a_commit_of_state_alone(db: varve.Varve) -> None:
    """It is a commit, and no event."""
    with db.transaction() as tx:
        tx.state.put("a", 1)
    assert tx.positions == []
    assert db.state.get("a") == 1
    assert db.next_global_sequence == 0
    before = db.stats().writes.commits
    with db.transaction() as tx:
        assert tx.state.get("a") == 1
    assert db.stats().writes.commits == before


def test_a_transaction_sees_its_instant_and_its_own_changes(db: varve.Varve) -> None:
    """In reads, scans and additions; not what others commit meanwhile."""
    for key in ("a", "b", "c"):
        db.state.put(key, 1)
    tx = db.transaction()
    state = tx.state
    assert state.get("a") == 1
    db.state.put("b", 50)
    assert state.get("b") == 1
    state.put("a", 2)
    state.add("a", 5)
    state.delete("b")
    state.put("bb", 3)
    state.add("new", 1)
    assert state.get("a") == 7
    assert state.get_opt("b") is None
    assert not state.exists("b")
    with pytest.raises(varve.StateKeyMissing):
        state.get("b")
    assert list(state.range()) == [("a", 7), ("bb", 3), ("c", 1), ("new", 1)]
    assert list(state.range(reverse=True)) == [("new", 1), ("c", 1), ("bb", 3), ("a", 7)]
    assert list(state.scan_prefix("b")) == [("bb", 3)]
    assert state.update("c", lambda value: value + 1) == 2
    assert state.update("z", lambda value: value + 1, 0) == 1
    with pytest.raises(varve.StateKeyMissing):
        state.update("y", lambda value: value)
    tx.rollback()
    assert db.state.get("a") == 1
    for use in (lambda: state.get("a"), lambda: state.put("a", 1), lambda: list(state.range()), lambda: tx.state):
        with pytest.raises(varve.TransactionClosed):
            use()
    assert db.stats().snapshots == ()


READS: list[tuple[str, Callable[[Any], object]]] = [
    ("key", lambda tx: tx.state.get("a")),
    ("key", lambda tx: tx.state.get_opt("nothing")),
    ("key", lambda tx: tx.state.exists("a")),
    ("key", lambda tx: tx.state.update("a", lambda value: value)),
    ("key", lambda tx: (tx.state.add("a", 1), tx.state.get("a"))),
    ("range", lambda tx: list(tx.state.range("a", "c"))),
    ("range", lambda tx: list(tx.state.scan_prefix("a", reverse=True))),
    ("range", lambda tx: next(tx.state.range())),
]


@pytest.mark.parametrize(("what", "read"), READS)
@pytest.mark.parametrize(
    "change", [lambda db: db.state.put("a", 99), lambda db: (db.state.delete("a"), db.state.put("nothing", 1))]
)
def test_what_was_read_and_changed_is_a_conflict(
    db: varve.Varve,
    moved: varve.Stream[Moved],
    what: str,
    read: Callable[[Tx], object],
    change: Callable[[Any], object],
) -> None:
    """It names what, and nothing is written; where it was not changed, all is."""
    db.state.put("a", 1)
    db.state.put("large", bytes(500))
    tx = db.transaction()
    read(tx)
    tx.state.put("result", 1)
    tx.append(moved, 1, Moved(1))
    change(db)
    unchanged = what == "key" and "nothing" not in dict(db.state.range()) and _reads_nothing(read)
    if unchanged:
        tx.commit()
        return
    with pytest.raises(varve.TransactionConflict) as conflict:
        tx.commit()
    assert conflict.value.what == what
    assert conflict.value.attempts == 1
    assert not db.state.exists("result")
    assert db.next_global_sequence == 0


def _reads_nothing(read: Callable[[Tx], object]) -> bool:
    return read is READS[1][1]


@pytest.mark.parametrize("read", [read for _, read in READS])
def test_changes_elsewhere_are_none(db: varve.Varve, read: Callable[[Tx], object]) -> None:
    """Nor is a value that came back to what it was, nor what lies behind the part of a range that was taken."""
    db.state.put("a", 1)
    db.state.put("large", bytes(500))
    tx = db.transaction()
    assert tx.state.get("large") == bytes(500)
    read(tx)
    tx.state.put("result", 1)
    db.state.put("z", 99)
    db.state.put("a", 5)
    db.state.put("a", 1)
    tx.commit()
    assert db.state.get("result") == 1


def test_large_values_are_told_apart(db: varve.Varve) -> None:
    """By their digest."""
    db.state.put("large", bytes(500))
    tx = db.transaction()
    tx.state.get("large")
    tx.state.put("result", 1)
    db.state.put("large", bytes(499) + b"\1")
    with pytest.raises(varve.TransactionConflict) as conflict:
        tx.commit()
    assert conflict.value.key == "large"


@pytest.mark.parametrize(
    ("before", "change"),
    [
        (("a", "b"), lambda db: db.state.put("aa", 1)),
        (("a", "b"), lambda db: db.state.delete("b")),
        (("a", "b"), lambda db: db.state.put("c", 1)),
        (("a",), lambda db: db.state.delete("a")),
        ((), lambda db: db.state.put("a", 1)),
    ],
)
def test_phantoms_are_conflicts(db: varve.Varve, before: tuple[str, ...], change: Callable[[Any], object]) -> None:
    """A key that came into a range, or went from it, in the middle or at its end."""
    for key in before:
        db.state.put(key, 1)
    tx = db.transaction()
    assert [key for key, _ in tx.state.range("a", "x")] == list(before)
    tx.state.put("z", 1)
    change(db)
    with pytest.raises(varve.TransactionConflict) as conflict:
        tx.commit()
    assert conflict.value.key == ("a", "x")


STREAM_READS: list[tuple[str, Callable[[Any, Any], object]]] = [
    ("stream", lambda tx, moved: tx.reader(moved).length(1)),
    ("stream", lambda tx, moved: tx.length(moved, 1)),
    ("stream", lambda tx, moved: list(tx.reader(moved).iter_stream(1))),
    ("stream", lambda tx, moved: tx.reader(moved).get(1, 9)),
    ("stream", lambda tx, moved: tx.reader(moved).get_bytes(1, 9)),
    ("stream", lambda tx, moved: tx.reader(moved).get_recorded(1, 9)),
    ("stream", lambda tx, moved: tx.reader(moved).first_visible(1)),
    ("stream", lambda tx, moved: tx.reader(moved).columns(["amount"], 1)),
    ("stream", lambda tx, moved: tx.reader(moved).to_arrow(stream_id=1).read_all()),
    ("name", lambda tx, moved: list(tx.reader(moved).iter_all())),
    ("name", lambda tx, moved: list(tx.reader(moved).stream_ids())),
    ("name", lambda tx, moved: tx.reader(moved).columns(["amount"])),
    ("log", lambda tx, _: list(tx.global_reader().iter_from())),
]


@pytest.mark.parametrize(("what", "read"), STREAM_READS)
@pytest.mark.parametrize("empty", [True, False])
def test_streams_that_were_read_to_their_end(
    db: varve.Varve, moved: varve.Stream[Moved], what: str, read: Callable[[Any, Any], object], empty: bool
) -> None:
    """One more event is a conflict; events elsewhere are none."""
    other = db.stream("other", Moved)
    other.append(1, Moved(0))
    if not empty:
        moved.append_batch(1, [Moved(1), Moved(2)])
    tx = db.transaction()
    read(tx, moved)
    tx.state.put("a", 1)
    if what != "log":
        other.append(1, Moved(1))
    if what == "stream":
        moved.append(2, Moved(1))
    tx.commit()
    assert db.state.get("a") == 1
    tx = db.transaction()
    read(tx, moved)
    tx.state.put("a", 2)
    moved.append(1, Moved(3))
    with pytest.raises(varve.TransactionConflict) as conflict:
        tx.commit()
    assert conflict.value.what == what
    assert conflict.value.key == {"stream": ("moved", 1), "name": "moved", "log": None}[what]
    assert db.state.get("a") == 1


def test_events_that_were_found_by_their_place_never_conflict(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """They never change."""
    moved.append(1, Moved(7))
    tx = db.transaction()
    reader = tx.reader(moved)
    event, recorded = reader.get(1, 0), reader.get_recorded(1, 0)
    assert event == Moved(7)
    assert recorded is not None
    assert reader.get_bytes(1, 0) is not None
    assert tx.length(moved, 2) == 0
    tx.append(moved, 2, Moved(1))
    assert tx.length(moved, 2) == 1
    assert reader.length(2) == 0
    moved.append(1, Moved(8))
    tx.commit()


def test_conflicts_among_those_who_share_a_commit(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """Of some that read the same key, stream and name and are committed together, the first wins; others go on."""
    db.state.put("there", 1)  # making the table is a commit of its own

    async def together() -> list[BaseException | None]:
        transactions = [db.transaction() for _ in range(4)]
        for number, tx in enumerate(transactions):
            tx.state.put("own", tx.state.get_opt("a" if number < 3 else "b"))
            assert list(tx.state.range("a", "b")) == [] if number == 1 else True
            tx.length(moved, 5)
            list(tx.reader(moved).iter_all()) if number == 2 else None
            tx.state.put("a", number)
            tx.append(db.stream("others", Moved), number, Moved(1))
        return await asyncio.gather(*(tx.commit_async() for tx in transactions), return_exceptions=True)

    outcomes = asyncio.run(together())
    assert [type(outcome) for outcome in outcomes] == [
        type(None),
        varve.TransactionConflict,
        varve.TransactionConflict,
        type(None),
    ]
    assert db.state.get("a") == 3
    assert db.next_global_sequence == 2


def test_streams_that_grow_within_the_same_commit(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """What an earlier request of the same group appends counts: to a stream, a new one, a name, the log."""
    moved.append(1, Moved(0))

    async def together(read: Callable[[Tx], object], stream_id: int) -> list[Any]:
        tx = db.transaction()
        read(tx)
        tx.state.put("a", 1)
        return await asyncio.gather(
            moved.append_async(1, Moved(1)),
            moved.append_async(stream_id, Moved(1)),
            tx.commit_async(),
            return_exceptions=True,
        )

    for number, (what, read) in enumerate(STREAM_READS):
        outcomes = asyncio.run(together(lambda tx, read=read: read(tx, moved), 100 + number))  # type: ignore[misc]
        assert isinstance(outcomes[2], varve.TransactionConflict), what
        assert outcomes[2].what == what
    tx_reads_new = asyncio.run(together(lambda tx: tx.length(moved, 900), 900))
    assert isinstance(tx_reads_new[2], varve.TransactionConflict)
    fine = asyncio.run(together(lambda tx: tx.length(moved, 901), 902))
    assert fine[2] is None


def test_idempotent_replays_change_state_once(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """The second time nothing happens at all, whatever was read and changed meanwhile."""
    for n in range(3):
        with db.transaction(idempotency_key="k") as tx:
            tx.state.add("n", 1)
            tx.state.put("last", tx.state.get_opt("last", 0) + 1)
            tx.require_max("n", 0) if n else None
            tx.append(moved, 1, Moved(1))
        assert tx.replayed == (n > 0)
        assert tx.positions == [(0, 0)]
    assert (db.state.get("n"), db.state.get("last")) == (1, 1)
    with pytest.raises(varve.InvalidInput, match="idempotency key"), db.transaction(idempotency_key="k2") as tx:
        tx.state.put("x", 1)
    assert not db.state.exists("x")
    with pytest.raises(varve.InvalidInput, match="idempotency key"), db.transaction(idempotency_key="k3") as tx:
        tx.append_batch(moved, 1, [], expected=1)  # has something to check, but no event that could keep the key
        tx.state.add("x", 1)
    assert not db.state.exists("x")


def test_what_is_kept_beyond_a_commit_says_so(db: varve.Varve) -> None:
    """A view of it, or an iterator; and on another thread meanwhile, where LMDB's memory may go at any time."""
    db.state.put("a", 1)
    views: list[varve.StateView] = []
    scans: list[Any] = []
    refused: list[str] = []

    def elsewhere() -> None:
        with pytest.raises(varve.TransactionClosed) as error:
            views[-1].get("a")
        refused.append(error.value.code)

    def look(state: varve.StateView) -> bool:
        views.append(state)
        scans.append(state.range())
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        return state.get("a") == 1

    def fn(tx: varve.WriteTransaction) -> None:
        views.append(tx.state)
        scans.append(tx.state.range())
        tx.ensure(look)

    db.write(fn)
    assert refused == ["transaction_closed"]
    for view in views:
        with pytest.raises(varve.TransactionClosed):
            view.get("a")
    for scan in scans:
        with pytest.raises(varve.TransactionClosed):
            list(scan)


def test_write_sees_the_very_latest_and_itself(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """It reads without conflicts."""
    db.state.put("a", 1)

    def fn(tx: varve.WriteTransaction) -> Any:
        assert tx.state.get("a") == 1
        tx.state.put("a", 2)
        tx.state.add("n", 3)
        tx.state.delete("nothing")
        tx.append(moved, 1, Moved(1))
        tx.require_version(moved, 1, 0)
        tx.ensure("n", lambda n: n == 3)
        assert tx.length(moved, 1) == 1
        return list(tx.state.range())

    assert db.write(fn) == [("a", 2), ("n", 3)]
    assert list(db.state.range()) == [("a", 2), ("n", 3)]
    with pytest.raises(varve.CheckFailed):
        db.write(lambda tx: (tx.require_absent("a"), tx.state.put("b", 1)))
    assert not db.state.exists("b")


def test_async_transactions(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """The same without blocking."""

    async def work() -> None:
        async with db.transaction() as tx:
            tx.state.put("a", 1)
            tx.append(moved, 1, Moved(1))
        with pytest.raises(varve.CheckFailed):
            async with db.transaction() as tx:
                tx.require_absent("a")
                tx.state.put("a", 2)

    asyncio.run(work())
    assert db.state.get("a") == 1


def test_returning_to_a_mark(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """State, reads, checks and appends since are forgotten; those before stay."""
    db.state.put("a", 1)
    tx = db.transaction()
    nothing = tx._mark()
    tx.state.get("c") if db.state.exists("c") else tx.state.get("a")
    tx._return_to(nothing)
    tx.state.put("x", 1)
    tx.state.add("y", 1)
    tx.length(moved, 7)
    mark = tx._mark()
    tx.state.get("a")
    list(tx.state.range())
    tx.length(moved, 1)
    list(tx.reader(moved).iter_all())
    tx.global_reader()
    tx.state.put("x", 2)
    tx.state.add("y", 10)
    tx.state.put("z", 1)
    tx.require_absent("a")
    tx.ensure("a", lambda _: False)
    tx.append(moved, 1, Moved(1))
    tx._return_to(mark)
    assert tx.state.get("x") == 1
    assert tx.state.get("y") == 1
    tx._return_to(mark)
    db.state.put("a", 2)
    moved.append(1, Moved(1))
    tx.commit()
    assert list(db.state.range()) == [("a", 2), ("x", 1), ("y", 1)]
    assert db.next_global_sequence == 1


def test_a_dropped_transaction_says_so_and_lets_its_instant_go(db: varve.Varve) -> None:
    """At once, without the garbage collector."""
    gc.disable()
    try:
        tx = db.transaction()
        tx.state.put("a", tx.state.get_opt("a"))
        assert len(db.stats().snapshots) == 1
        with pytest.warns(ResourceWarning, match="dropped without commit"):
            del tx
        assert db.stats().snapshots == ()
    finally:
        gc.enable()


def test_many_changes_of_a_few_keys(db: varve.Varve) -> None:
    """Reads between them stay quick: the last value put is where they begin."""
    with db.transaction() as tx:
        for number in range(5_000):
            tx.state.put("a", number)
            assert tx.state.get("a") == number
    assert db.state.get("a") == 4_999


def test_a_group_that_is_too_large_is_tried_one_by_one(
    db: varve.Varve, moved: varve.Stream[Moved], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sizes of state count: each has its own outcome."""
    monkeypatch.setattr(limits, "TRANSACTION_BYTES_MAX", 4_000)

    def put(size: int) -> varve.Transaction:
        tx = db.transaction()
        tx.state.put(size, bytes(size))
        tx.append(moved, 1, Moved(1))
        return tx

    async def together() -> list[Any]:
        return await asyncio.gather(*(put(size).commit_async() for size in (10, 5_000, 20)), return_exceptions=True)

    outcomes = asyncio.run(together())
    assert [type(outcome) for outcome in outcomes] == [type(None), varve.TooManyItems, type(None)]
    assert [key for key, _ in db.state.range()] == [10, 20]


def test_additions_never_conflict(db: varve.Varve) -> None:
    """Of 32 threads, in transactions that read nothing."""

    def work() -> None:
        for _ in range(20):
            with db.transaction() as tx:
                tx.state.add("n", 1)

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.state.get("n") == 640


def test_a_single_event_that_is_refused_in_company_leaves_no_state(varve_path: Path, moved_clock: list[int]) -> None:
    """Whatever refuses it, and whichever way the commit goes."""
    with varve.open(varve_path, durability="relaxed", clock=lambda: moved_clock.pop() if moved_clock else 10**18) as db:
        moved = db.stream("moved", Moved)
        moved.append(1, Moved(1))
        db.state.put("n", 1)

        def change(tx: varve.Transaction, key: str, expected: Any = varve.ANY) -> varve.Transaction:
            tx.state.put(key, 1)
            tx.append(moved, 1, Moved(1), expected=expected)
            return tx

        async def together() -> list[Any]:
            bad = change(db.transaction(), "refused")
            bad.state.add("n", -5, min=0)
            late = change(db.transaction(), "late", 99)
            transactions = [change(db.transaction(), "a"), bad, late, change(db.transaction(), "b")]
            return await asyncio.gather(*(tx.commit_async() for tx in transactions), return_exceptions=True)

        outcomes = asyncio.run(together())
        assert [type(outcome) for outcome in outcomes] == [
            type(None),
            varve.NumberOutOfRange,
            varve.WrongExpectedVersion,
            type(None),
        ]
        for wrong in (varve.NumberOutOfRange, varve.WrongExpectedVersion):
            with pytest.raises(wrong), db.transaction() as tx:
                change(tx, "alone", varve.ANY if wrong is varve.NumberOutOfRange else 99)
                tx.state.add("n", -5, min=0) if wrong is varve.NumberOutOfRange else None
        assert [key for key, _ in db.state.range()] == ["a", "b", "n"]
        assert moved.reader().length(1) == 3

        async def at_a_bad_time() -> list[Any]:
            transactions = [change(db.transaction(), key) for key in ("c", "d", "e")]
            commits = [tx.commit_async() for tx in transactions]
            moved_clock[:] = [10**18, -5, 10**18]
            return await asyncio.gather(*commits, return_exceptions=True)

        outcomes = asyncio.run(at_a_bad_time())
        refused = [key for key, outcome in zip("cde", outcomes, strict=True) if outcome is not None]
        assert len(refused) == 1
        assert {key for key, _ in db.state.range()} == {"a", "b", "c", "d", "e", "n"} - set(refused)
        assert moved.reader().length(1) == 5


@pytest.fixture
def moved_clock() -> list[int]:
    """What the clock says next, the last one first; a sane time where it is empty."""
    return []


def test_additions_among_other_changes_of_a_key(db: varve.Varve) -> None:
    """Are made once for all that stand in a row, and each in its place."""
    with db.transaction() as tx:
        state = tx.state
        state.add("n", 1)
        state.add("m", Decimal("0.10"))
        state.add("n", 2)
        state.add("m", Decimal("0.05"))
        state.put("n", 10)
        state.add("n", 5)
        state.add("n", 5)
        tx.ensure("n", lambda value: value == 20)
        tx.ensure("m", lambda value: value == Decimal("0.15"))
    assert (db.state.get("n"), str(db.state.get("m"))) == (20, "0.15")
    with db.transaction() as tx:
        state = tx.state
        state.add("n", 1)
        state.delete("n")
        state.add("n", 3)
        state.add("n", 4)
        state.add("gone", 1)
        state.delete("gone")
    assert db.state.get("n") == 7
    assert not db.state.exists("gone")
    for last in ({"max": 8}, {"n": "0.5"}):
        with pytest.raises((varve.NumberOutOfRange, varve.StateTypeMismatch)) as told, db.transaction() as tx:
            tx.state.add("n", 1)
            tx.state.add("n", Decimal(last["n"]) if "n" in last else 1, max=last.get("max"))
        assert told.value.key == "n"
        assert db.state.get("n") == 7


def test_what_was_added_is_seen_after_each_addition(db: varve.Varve) -> None:
    """Whatever was read of it before."""
    db.state.put("n", 5)
    tx = db.transaction()
    seen = []
    for change in (lambda: tx.state.add("n", 1), lambda: tx.state.add("n", 2), lambda: tx.state.put("n", 1)):
        change()
        seen.append(tx.state.get("n"))
    mark = tx._mark()
    tx.state.add("n", 7)
    seen.append(tx.state.get("n"))
    tx._return_to(mark)
    seen.append(tx.state.get("n"))
    tx.state.delete("n")
    seen.append(tx.state.get_opt("n"))
    tx.state.add("n", 2)
    seen.append(tx.state.get("n"))
    assert seen == [6, 8, 1, 8, 1, None, 2]
    tx.rollback()


def test_what_is_read_again_behind_a_mark_is_looked_at_again(db: varve.Varve) -> None:
    """Though it was read, and forgotten, before."""
    db.state.put("n", 5)
    tx = db.transaction()
    tx.state.add("n", 1)
    mark = tx._mark()
    assert tx.state.get("n") == 6
    tx._return_to(mark)
    assert tx.state.get("n") == 6
    db.state.put("n", 100)
    with pytest.raises(varve.TransactionConflict):
        tx.commit()
