"""``db.state`` and ``snap.state``: values by key, one instant per read, one commit per change."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
import threading
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from state_models import Moved

import varve
from varve import limits
from varve.layout.ordered import encode_key

VALUES: list[Any] = [
    None,
    True,
    -(2**255),
    1.5,
    "text",
    b"raw",
    Decimal("1.50"),
    dt.datetime(2026, 5, 4, 12, tzinfo=dt.UTC),
    uuid.UUID(int=7),
    [1, (2, {3}), frozenset({4})],
    {"a": {"b": [None]}, 1: 2},
]


class Nowhere(dt.tzinfo):
    """A zone that does not know how far it is from UTC."""

    def utcoffset(self, _: dt.datetime | None) -> None:
        return None


@pytest.mark.parametrize(
    "when",
    [
        dt.datetime.max.replace(tzinfo=dt.timezone(dt.timedelta(hours=-1))),
        dt.datetime.min.replace(tzinfo=dt.timezone(dt.timedelta(hours=1))),
        dt.datetime(2026, 5, 4, tzinfo=Nowhere()),
        dt.datetime(2026, 5, 4),
    ],
    ids=["beyond 9999", "before 1", "no offset", "no zone"],
)
def test_what_could_not_be_read_again_is_refused(db: varve.Varve, when: dt.datetime) -> None:
    """Instants that are none in UTC."""
    with pytest.raises(varve.InvalidInput, match=r"UTC"):
        db.state.put("key", [when])
    assert not db.state.exists("key")


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_comes_back(db: varve.Varve, value: Any) -> None:
    """As what it was, and as a value of its own."""
    db.state.put("key", value)
    again = db.state.get("key")
    assert again == value
    assert type(again) is type(value)
    if isinstance(again, list | dict):
        again.clear()
        assert db.state.get("key") == value


def test_a_store_without_state_has_none(db: varve.Varve) -> None:
    """Reading makes no table."""
    assert db.state.get_opt("a") is None
    assert db.state.get_opt("a", 7) == 7
    assert not db.state.exists("a")
    assert list(db.state.range()) == []
    with pytest.raises(varve.StateKeyMissing) as missing:
        db.state.get(("a", 1))
    assert missing.value.key == ("a", 1)
    assert isinstance(missing.value, KeyError)
    assert "('a', 1)" in str(missing.value)
    assert db.stats().side_bytes == 0


def test_put_exists_delete(db: varve.Varve) -> None:
    """A None is a value; a key that was deleted is gone."""
    state = db.state
    assert state is db.state
    assert repr(state) == f"<State of {db.path}>"
    state.put("a", None)
    assert state.exists("a")
    assert db.stats().side_bytes > 0
    assert state.get_opt("a", 7) is None
    assert state.delete("a")
    assert not state.delete("a")
    assert not state.exists("a")
    assert db.next_global_sequence == 0


def test_ranges_and_prefixes(db: varve.Varve) -> None:
    """Half-open, in both directions, bounded; over more keys than one step reads."""
    count = limits.STATE_CHUNK_KEYS * 2 + 3
    with db.transaction() as tx:
        for number in range(count):
            tx.state.put(("n", number), number)
            tx.state.put(number, "int")
        tx.state.put("user:a", 1)
        tx.state.put("user:b", 2)
        tx.state.put("users", 3)
    state = db.state
    assert [value for _, value in state.scan_prefix(("n",))] == list(range(count))
    assert [value for _, value in state.scan_prefix(("n",), reverse=True)] == list(range(count))[::-1]
    assert [key for key, _ in state.range(("n", 5), ("n", 8))] == [("n", 5), ("n", 6), ("n", 7)]
    assert [key for key, _ in state.range(("n", 5), ("n", 8), reverse=True)] == [("n", 7), ("n", 6), ("n", 5)]
    assert [key for key, _ in state.range(("n", count - 2), limit=5)] == [("n", count - 2), ("n", count - 1)]
    assert [key for key, _ in state.range(stop=2)] == [0, 1]
    assert [key for key, _ in state.range(reverse=True, limit=1)] == [("n", count - 1)]
    assert list(state.range(5, 5)) == list(state.range(9, 5)) == list(state.range(9, 5, reverse=True)) == []
    assert list(state.scan_prefix("user:")) == [("user:a", 1), ("user:b", 2)]
    assert list(state.scan_prefix("user:", limit=0)) == []
    assert len(list(state.range())) == 2 * count + 3


@pytest.mark.parametrize("limit", [-1, True, 1.5, "1"])
def test_a_limit_is_a_number_of_keys(db: varve.Varve, limit: Any) -> None:
    """Anything else is refused at the call."""
    with pytest.raises(varve.InvalidInput, match="limit"):
        db.state.range(limit=limit)


def test_large_values_come_in_steps_of_bytes(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of a scan is bounded by bytes as well."""
    monkeypatch.setattr(limits, "STATE_CHUNK_BYTES", 100)
    with db.transaction() as tx:
        for number in range(20):
            tx.state.put(number, bytes(60))
    assert [key for key, _ in db.state.range()] == list(range(20))
    assert [key for key, _ in db.state.range(reverse=True)] == list(range(20))[::-1]


def test_a_scan_sees_one_instant(db: varve.Varve) -> None:
    """That of the call, whatever is committed meanwhile; it holds a snapshot until it is done or dropped."""
    with db.transaction() as tx:
        for number in range(limits.STATE_CHUNK_KEYS + 10):
            tx.state.put(number, 0)
    scan = db.state.range()
    with db.transaction() as tx:
        for number in range(limits.STATE_CHUNK_KEYS + 10):
            tx.state.put(number, 1)
        tx.state.put("new", 1)
    assert len(db.stats().snapshots) == 1
    assert {value for _, value in scan} == {0}
    assert db.stats().snapshots == ()
    unused = db.state.range()
    assert len(db.stats().snapshots) == 1
    del unused
    assert db.stats().snapshots == ()


def test_a_scan_ends_with_the_store(varve_path: Path) -> None:
    """It says so, and does not hinder closing."""
    db = varve.open(varve_path, durability="relaxed")
    with db.transaction() as tx:
        for number in range(limits.STATE_CHUNK_KEYS * 3):
            tx.state.put(number, 0)
    scan = db.state.range()
    next(scan)
    db.close()
    with pytest.raises(varve.StoreClosed):
        list(scan)
    for ask in (lambda: db.state.get("a"), lambda: db.state.put("a", 1), lambda: list(db.state.range())):
        with pytest.raises(varve.StoreClosed):
            ask()


def test_update(db: varve.Varve) -> None:
    """In one step with reading; what raises leaves everything as it was."""
    with pytest.raises(varve.StateKeyMissing):
        db.state.update("a", lambda value: value)
    assert db.state.update("a", lambda value: [*value, 1], []) == [1]
    assert db.state.update("a", lambda value: [*value, 2]) == [1, 2]
    with pytest.raises(ZeroDivisionError):
        db.state.update("a", lambda _: 1 / 0)
    with pytest.raises(varve.InvalidInput, match="object"):
        db.state.update("a", lambda _: object())
    with pytest.raises(varve.InvalidInput, match="function"):
        db.state.update("a", 5)  # type: ignore[arg-type]
    assert db.state.get("a") == [1, 2]


def test_a_function_of_an_update_cannot_write_to_the_store(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """It is inside the write transaction: it is told, on whichever thread, and nobody waits for himself."""

    def bad(_: Any) -> int:
        moved.append(1, Moved(1))
        return 1

    errors: list[BaseException] = []

    def work() -> None:
        for _ in range(20):
            try:
                db.state.update("a", bad, 0)
            except varve.HandleUnusable as exc:
                errors.append(exc)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 80
    assert db.next_global_sequence == 0
    assert moved.append(1, Moved(1)).global_sequence == 0


def test_updates_of_many_threads_are_none_lost(db: varve.Varve) -> None:
    """Additions, and functions that do the same."""

    def work() -> None:
        for _ in range(50):
            db.state.add("n", 1)
            db.state.update("m", lambda value: value + 1, 0)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert db.state.get("n") == db.state.get("m") == 400


def test_bad_input_writes_nothing(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, values, sizes."""
    with pytest.raises(varve.InvalidStateKey):
        db.state.put(1.5, 1)  # type: ignore[arg-type]
    with pytest.raises(varve.InvalidInput, match="object"):
        db.state.put("a", object())
    beyond = 10**5_000  # Python writes no text of it
    for refused in (beyond, ("a", beyond)):
        with pytest.raises(varve.InvalidStateKey):
            db.state.put(refused, 1)
        with pytest.raises(varve.InvalidInput):
            db.state.put("a", {"b": {refused: 1}})
    with pytest.raises(varve.InvalidStateKey):
        db.state.scan_prefix(beyond)
    assert list(db.state.range(limit=2**70)) == []
    with pytest.raises(varve.InvalidInput, match="update takes a function"), db.transaction() as tx:
        tx.state.update("a", 5, 1)  # type: ignore[arg-type]
    monkeypatch.setattr(limits, "STATE_VALUE_BYTES_MAX", 100)
    with pytest.raises(varve.TooManyItems) as large:
        db.state.put("a", bytes(100))
    assert large.value.limit_name == "STATE_VALUE_BYTES_MAX"
    monkeypatch.setattr(limits, "TRANSACTION_BYTES_MAX", 500)
    with pytest.raises(varve.TooManyItems) as large, db.transaction() as tx:
        for number in range(10):
            tx.state.put(number, bytes(60))
    assert large.value.limit_name == "TRANSACTION_BYTES_MAX"
    assert list(db.state.range()) == []


def test_snapshots_show_their_instant(db: varve.Varve, moved: varve.Stream[Moved]) -> None:
    """Also where the first state of all came after them; those that look back have none."""
    with db.snapshot() as empty:
        db.state.put("a", 1)
        moved.append(1, Moved(1))
        assert not empty.state.exists("a")
        assert list(empty.state.range()) == []
        with db.snapshot() as snap:
            db.state.put("a", 2)
            assert snap.state.get("a") == 1
            assert list(snap.state.scan_prefix("a")) == [("a", 1)]
        with pytest.raises(varve.SnapshotClosed):
            snap.state  # noqa: B018
    with db.snapshot(at=1) as past, pytest.raises(varve.StateNotVersioned) as refused:
        past.state  # noqa: B018
    assert refused.value.at == 1


def test_a_readonly_handle_reads(varve_path: Path) -> None:
    """And is refused what writes."""
    with varve.open(varve_path, durability="relaxed") as db:
        db.state.put("a", 1)
    with varve.open(varve_path, readonly=True) as db:
        assert db.state.get("a") == 1
        with pytest.raises(varve.ReadonlyStore):
            db.state.put("a", 2)
        with pytest.raises(varve.ReadonlyStore):
            db.optimistic(lambda _: None)


OTHER = """
import sys, varve
with varve.open(sys.argv[1], durability="relaxed") as db:
    db.state.put("a", 1)
"""


def test_another_process_makes_the_first_state(varve_path: Path) -> None:
    """A handle that was open before sees it: in reads, snapshots, transactions and ``db.write``."""
    with varve.open(varve_path, durability="relaxed") as db:
        assert not db.state.exists("a")
        with db.snapshot() as before:
            subprocess.run([sys.executable, "-c", OTHER, str(varve_path)], check=True)
            assert not before.state.exists("a")
        assert db.write(lambda tx: (tx.state.get("a"), list(tx.state.range()))) == (1, [("a", 1)])
        with db.snapshot() as snap:
            assert snap.state.get("a") == 1
        assert db.write(lambda tx: tx.state.put("a", tx.state.get("a") + 1)) is None
        assert db.state.get("a") == 2


def test_another_process_makes_it_while_a_snapshot_is_taken(varve_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between looking for the table and taking the instant: it is taken anew."""
    with varve.open(varve_path, durability="relaxed") as db:
        engine = db._engine
        real = engine._open_side

        def late(table: str) -> None:
            real(table)
            if table == "state":
                monkeypatch.setattr(engine, "_open_side", real)
                subprocess.run([sys.executable, "-c", OTHER, str(varve_path)], check=True)

        monkeypatch.setattr(engine, "_open_side", late)
        with db.snapshot() as snap:
            assert snap.state.get("a") == 1


def test_the_first_state_may_come_in_a_write(db: varve.Varve) -> None:
    """The table is made in that very transaction; where that is rolled back, nothing is left of it."""
    with pytest.raises(ZeroDivisionError):
        db.write(lambda tx: (tx.state.put("a", 1), 1 / 0))
    assert db.stats().side_bytes == 0
    db.write(lambda tx: tx.state.put("a", 1))
    assert db.state.get("a") == 1
    db.state.put("b", 2)
    assert list(db.state.range()) == [("a", 1), ("b", 2)]


def test_damage_is_named_and_never_passed_over(db: varve.Varve) -> None:
    """A rotten record, a record under another key's name, a key that is none; others stay readable, and a put heals."""
    for key in ("a", "b", "c"):
        db.state.put(key, key)
    environment = db._engine.environment
    table = environment.side("state")
    with environment.env.begin(write=True) as transaction:
        transaction.put(encode_key("b"), bytes(transaction.get(encode_key("a"), db=table)), db=table)
    with pytest.raises(varve.CorruptedState) as found:
        db.state.get("b")
    assert (found.value.key, found.value.path) == ("b", db.path)
    assert found.value.kind == "integrity"
    scan = db.state.range()
    assert next(scan) == ("a", "a")
    with pytest.raises(varve.CorruptedState):
        next(scan)
    assert db.state.get("c") == "c"
    for change in (lambda: db.state.add("b", 1), lambda: db.state.update("b", str)):
        with pytest.raises(varve.CorruptedState):
            change()
    assert db.state.exists("b")
    db.state.put("b", 5)
    assert db.state.get("b") == 5
    with environment.env.begin(write=True) as transaction:
        transaction.put(b"\x01", b"x", db=table)
    with pytest.raises(varve.CorruptedState) as found:
        list(db.state.range())
    assert found.value.key == b"\x01"
    with environment.env.begin(write=True) as transaction:
        transaction.delete(b"\x01", db=table)
