"""``tx.require`` and its kin: asked inside the write transaction, before the changes; ``tx.ensure`` after them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest
from state_models import Moved

import varve

Demand = Callable[[Any, Any], object]

DEMANDS: list[tuple[str, Demand, Demand, Any, Any]] = [
    (
        "require",
        lambda tx, _: tx.require("a", lambda v: v == 5),
        lambda tx, _: tx.require("a", lambda v: v > 5),
        5,
        None,
    ),
    ("require", lambda *_: None, lambda tx, _: tx.require("x", lambda _: True), None, None),
    ("require_exists", lambda tx, _: tx.require_exists("a"), lambda tx, _: tx.require_exists("x"), None, None),
    ("require_absent", lambda tx, _: tx.require_absent("x"), lambda tx, _: tx.require_absent("a"), 5, None),
    ("require_min", lambda tx, _: tx.require_min("a", 5), lambda tx, _: tx.require_min("a", 6), 5, 6),
    ("require_min", lambda *_: None, lambda tx, _: tx.require_min("x", 6), None, 6),
    ("require_max", lambda tx, _: tx.require_max("a", 5), lambda tx, _: tx.require_max("a", 4), 5, 4),
    ("require_version", lambda tx, s: tx.require_version(s, 1, 2), lambda tx, s: tx.require_version(s, 1, 3), 2, 3),
    ("require_version", lambda tx, s: tx.require_version(s, 9, 0), lambda tx, s: tx.require_version(s, 9, 1), 0, 1),
    ("ensure", lambda tx, _: tx.ensure("a", lambda v: v == 6), lambda tx, _: tx.ensure("a", lambda v: v == 5), 6, None),
    ("ensure", lambda *_: None, lambda tx, _: tx.ensure("x", lambda _: True), None, None),
    (
        "ensure",
        lambda tx, _: tx.ensure(lambda state: sum(v for _, v in state.range()) == 6 and state.get("a") == 6),
        lambda tx, _: tx.ensure(lambda state: state.exists("x")),
        None,
        None,
    ),
]


def in_a_transaction(db: varve.Varve, fn: Callable[[Any], object]) -> None:
    """Deferred."""
    with db.transaction() as tx:
        fn(tx)


async def _awaited(db: varve.Varve, fn: Callable[[Any], object]) -> None:
    async with db.transaction() as tx:
        fn(tx)


WAYS = pytest.mark.parametrize(
    "run",
    [
        in_a_transaction,
        lambda db, fn: db.write(fn),
        lambda db, fn: db.optimistic(fn),
        lambda db, fn: asyncio.run(_awaited(db, fn)),
    ],
    ids=["transaction", "write", "optimistic", "async"],
)


@WAYS
@pytest.mark.parametrize(("name", "holds", "fails", "value", "bound"), DEMANDS)
def test_a_demand(
    db: varve.Varve,
    moved: varve.Stream[Moved],
    run: Callable[[varve.Varve, Any], object],
    name: str,
    holds: Demand,
    fails: Demand,
    value: Any,
    bound: Any,
) -> None:
    """Where it holds everything is written, where not nothing, and the error has the facts."""
    db.state.put("a", 5)
    moved.append_batch(1, [Moved(1), Moved(2)])

    def change(tx: Any, demand: Demand) -> None:
        tx.state.add("a", 1)
        tx.append(moved, 1, Moved(3))
        demand(tx, moved)

    with pytest.raises(varve.CheckFailed) as failed:
        run(db, lambda tx: change(tx, fails))
    error = failed.value
    assert (error.check, error.value, error.bound) == (name, value, bound)
    assert error.exists == bool(value)
    assert error.kind == "conflict"
    assert db.state.get("a") == 5
    assert moved.reader().length(1) == 2
    run(db, lambda tx: change(tx, holds))
    assert db.state.get("a") == 6
    assert moved.reader().length(1) == 3


def test_demands_without_changes_are_asked(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """Of a transaction of events alone, and of one that changes nothing at all; no table is made for them."""
    with db.transaction() as tx:
        tx.require_absent("a")
        tx.ensure(lambda state: not state.exists("a"))
        tx.append(moved, 1, Moved(1))
    with db.transaction() as tx:
        tx.require_version(moved, 1, 1)
    with pytest.raises(varve.CheckFailed), db.transaction() as tx:
        tx.ensure("a", bool)
    with pytest.raises(varve.CheckFailed, match="lambda"), db.transaction() as tx:
        tx.ensure(lambda state: state.exists("a"))
    assert db.stats().side_bytes == 0
    assert db.next_global_sequence == 1


def test_what_a_predicate_raises_comes_out(db: varve.Varve) -> None:
    """As it is, with a note that names the check and the value; nothing is written."""
    db.state.put("a", "text")
    notes: list[str] = []
    demands: list[Callable[[Any], object]] = [
        lambda tx: tx.require("a", lambda v: v > 5),
        lambda tx: tx.require_min("a", 5),
        lambda tx: tx.ensure("a", lambda v: v + 1),
        lambda tx: tx.ensure(lambda state: state.get("a") > 1),
    ]
    for demand in demands:
        with pytest.raises(TypeError) as raised, db.transaction() as tx:
            demand(tx)
            tx.state.put("b", 1)
        assert not db.state.exists("b")
        notes.append(" ".join(getattr(raised.value, "__notes__", ())))
    assert "raised by require of state under 'a', which holds 'text'" in notes[0]
    assert "raised by require_min (5) of state under 'a'" in notes[1]
    assert "raised by ensure of state under 'a'" in notes[2]


def test_predicates_cannot_write_to_the_store(db: varve.Varve) -> None:
    """They run inside the write transaction."""

    def bad(_: object) -> bool:
        db.state.put("b", 1)
        return True

    db.state.put("a", 1)
    for demand in (lambda tx: tx.require("a", bad), lambda tx: tx.ensure("a", bad), lambda tx: tx.ensure(bad)):
        with pytest.raises(varve.HandleUnusable, match="function that runs in a commit"), db.transaction() as tx:
            tx.state.put("a", 1)
            demand(tx)
    assert not db.state.exists("b")
    db.state.put("b", 1)


def test_bad_demands_are_refused_at_once(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """Keys, functions, versions, streams of another store."""
    tx = db.transaction()
    bad: list[Callable[[], object]] = [
        lambda: tx.require(1.5, bool),  # type: ignore[arg-type]
        lambda: tx.require("a", 5),  # type: ignore[arg-type]
        lambda: tx.ensure("a", 5),  # type: ignore[call-overload]
        lambda: tx.ensure("a"),  # type: ignore[call-overload]
        lambda: tx.require_version(moved, 1, -1),
        lambda: tx.require_version(moved, 1, True),
        lambda: tx.require_version("moved", 1, 1),  # type: ignore[arg-type]
        lambda: tx.require_version(moved, 1.5, 1),  # type: ignore[arg-type]
    ]
    for call in bad:
        with pytest.raises(varve.InvalidInput):
            call()
    tx.rollback()
    with pytest.raises(varve.TransactionClosed):
        tx.require_exists("a")


def test_no_overdraft_by_many_at_once(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """32 threads draw on one account without reading it: exactly as much as there is, and each refusal is told."""
    db.state.put("balance", 100)
    refused: list[varve.CheckFailed] = []

    def draw() -> None:
        for _ in range(5):
            try:
                with db.transaction() as tx:
                    tx.require_min("balance", 7)
                    tx.state.add("balance", -7)
                    tx.append(moved, 1, Moved(-7))
            except varve.CheckFailed as exc:
                refused.append(exc)

    threads = [threading.Thread(target=draw) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.state.get("balance") == 2
    assert moved.reader().length(1) == 14
    assert len(refused) == 160 - 14
    assert {error.value for error in refused} == {2}
