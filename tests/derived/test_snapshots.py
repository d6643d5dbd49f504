"""Saved state: the latest, at or before, retention, scopes that never mix; what is stale, foreign or damaged is passed over."""

import contextlib
import datetime as dt
import logging
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
from derived_models import Basket, Bought, Paid
from hypothesis import given, settings
from hypothesis import strategies as st

import varve
from varve.derived import history
from varve.testing import ManualClock, temporary_store

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


@pytest.fixture
def db(varve_path: Path, varve_clock: ManualClock) -> Iterator[varve.Varve]:
    """An open store."""
    with varve.open(varve_path, durability="relaxed", clock=varve_clock) as store:
        yield store


def positions(db: varve.Varve, scope: Any) -> list[int]:
    """What is saved of a scope."""
    return [info.position for info in db.snapshots.stored(scope)]


def test_a_late_save_stays_behind(db: varve.Varve) -> None:
    for position in (10, 20, 15):
        db.snapshots.save("totals", position, {"at": position})
    latest = db.snapshots.latest("totals")
    assert latest is not None
    assert (latest.position, latest.state) == (20, {"at": 20})
    found = {at: db.snapshots.at_or_before("totals", at) for at in (9, 10, 14, 15, 19, 20, 10**9)}
    assert {at: saved and saved.position for at, saved in found.items()} == {
        9: None, 10: 10, 14: 10, 15: 15, 19: 15, 20: 20, 10**9: 20
    }  # fmt: skip


def test_what_was_saved_says_when_and_under_what(db: varve.Varve, varve_clock: ManualClock) -> None:
    varve_clock.advance(5)
    db.snapshots.save(("orders", 7), 3, [1], schema="v2")
    at = dt.datetime.fromtimestamp(1_700_000_005, dt.UTC)
    assert db.snapshots.latest(("orders", 7), schema="v2") == varve.Saved(3, [1], "v2", at)
    assert db.snapshots.stored() == [varve.SavedInfo(("orders", 7), 3, "v2", at, 11)]
    db.snapshots.save(("orders", 7), 3, [2], schema="v2")
    assert db.snapshots.latest(("orders", 7), schema="v2") == varve.Saved(3, [2], "v2", at)


def test_keeping_the_last_two_of_four_deletes_two(db: varve.Varve) -> None:
    for position in (1, 4, 3, 2):
        db.snapshots.save("totals", position, position)
        db.snapshots.save("totals2", position, position)
    assert db.snapshots.keep_last("totals", 2) == 2
    assert positions(db, "totals") == [3, 4]
    assert db.snapshots.keep_last("totals", 2) == 0
    assert db.snapshots.keep_last("other", 0) == 0
    assert positions(db, "totals2") == [1, 2, 3, 4]
    db.snapshots.save("totals", 9, 9, keep=1)
    assert positions(db, "totals") == [9]
    assert db.snapshots.keep_last("totals", 0) == 1
    assert db.snapshots.latest("totals") is None


def test_deleting(db: varve.Varve) -> None:
    assert db.snapshots.delete("totals") == 0
    assert not (Path(db.path) / "snapshots").exists()
    for position in (1, 2, 3):
        db.snapshots.save("totals", position, position)
    assert db.snapshots.delete("totals", 2) == 1
    assert db.snapshots.delete("totals", 2) == 0
    assert positions(db, "totals") == [1, 3]
    assert db.snapshots.delete("totals") == 2
    assert db.snapshots.scopes() == []


SCOPES: list[Any] = [
    "a",
    "ab",
    "a\0",
    "b" * 255,
    ("a", 1),
    ("a", "1"),
    ("a", "11"),
    ("ab", "1"),
    ("a", 256),
    ("a", uuid.UUID(int=1)),
    ("a", "\0" * 8),
    ("n" * 255, "i" * 255),
    ("n" * 255, "i" * 254),
    ("1", "a"),
]


def test_nothing_bleeds_between_scopes(db: varve.Varve) -> None:
    for number, scope in enumerate(SCOPES):
        for position in (0, 5, 2**40):
            db.snapshots.save(scope, position, [number, position])
    assert set(db.snapshots.scopes()) == set(SCOPES)
    for number, scope in enumerate(SCOPES):
        latest = db.snapshots.latest(scope)
        before = db.snapshots.at_or_before(scope, 4)
        assert latest is not None
        assert before is not None
        assert (latest.state, before.state) == ([number, 2**40], [number, 0])
    for scope in SCOPES[::2]:
        assert db.snapshots.delete(scope) == 3
    assert {scope: positions(db, scope) for scope in SCOPES} == {
        scope: [] if index % 2 == 0 else [0, 5, 2**40] for index, scope in enumerate(SCOPES)
    }


@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "ab", ("a", 1), ("a", "1")]), st.integers(0, 6), st.none() | st.integers(1, 3)),
        max_size=25,
    )
)
@settings(max_examples=25, deadline=None)
def test_it_is_a_map_of_positions(saves: list[tuple[Any, int, int | None]]) -> None:
    model: dict[Any, dict[int, int]] = {}
    with temporary_store(durability="relaxed") as db:
        for number, (scope, position, keep) in enumerate(saves):
            db.snapshots.save(scope, position, number, keep=keep)
            there = model.setdefault(scope, {})
            there[position] = number
            if keep is not None:
                model[scope] = dict(sorted(there.items())[-keep:])
        for scope, there in model.items():
            assert positions(db, scope) == sorted(there)
            for at in range(7):
                found = db.snapshots.at_or_before(scope, at)
                below = [position for position in there if position <= at]
                assert (found and (found.position, found.state)) == ((max(below), there[max(below)]) if below else None)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (lambda s: s.save("", 1, 1), varve.InvalidName),
        (lambda s: s.save(7, 1, 1), varve.InvalidName),
        (lambda s: s.save(("a",), 1, 1), varve.InvalidInput),
        (lambda s: s.save(("a", 1.5), 1, 1), varve.InvalidStreamId),
        (lambda s: s.save(("a", True), 1, 1), varve.InvalidStreamId),
        (lambda s: s.save(("a", None), 1, 1), varve.InvalidStreamId),
        (lambda s: s.save("a", -1, 1), varve.InvalidInput),
        (lambda s: s.save("a", True, 1), varve.InvalidInput),
        (lambda s: s.save("a", 2**63, 1), varve.InvalidInput),
        (lambda s: s.save("a", 1, object()), varve.InvalidInput),
        (lambda s: s.save("a", 1, 1, schema=None), varve.InvalidInput),
        (lambda s: s.save("a", 1, 1, schema="x" * 256), varve.InvalidName),
        (lambda s: s.save("a", 1, 1, keep=0), varve.InvalidInput),
        (lambda s: s.keep_last("a", -1), varve.InvalidInput),
        (lambda s: s.delete("a", -1), varve.InvalidInput),
        (lambda s: s.latest("a", schema=1), varve.InvalidInput),
        (lambda s: s.at_or_before("a", "1"), varve.InvalidInput),
        (lambda s: s.holding(int), varve.InvalidInput),
    ],
)
def test_bad_input_is_refused_and_writes_nothing(db: varve.Varve, call: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        call(db.snapshots)
    assert not (Path(db.path) / "snapshots").exists()


def test_a_state_beyond_the_limit_is_refused(db: varve.Varve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(varve.limits, "SAVED_STATE_BYTES_MAX", 1_000)
    with pytest.raises(varve.TooManyItems, match="1000 are the limit"):
        db.snapshots.save("a", 1, bytes(1_000))
    assert not (Path(db.path) / "snapshots").exists()


def test_a_state_of_a_hundred_megabytes(varve_path: Path) -> None:
    with varve.open(varve_path, durability="relaxed") as db:
        state = {"big": bytes(100 << 20)}
        db.snapshots.save("big", 1, state)
        saved = db.snapshots.latest("big")
        assert saved is not None
        assert saved.state == state
        db.snapshots.save("big", 2, state, keep=1)
        db.snapshots.save("big", 3, state, keep=1)
        # The pages of what was deleted are used again.
        assert (varve_path / "snapshots" / "data.mdb").stat().st_size < 330 << 20


# -- who may ------------------------------------------------------------------------------------------------------------


def test_readers_read_and_closed_stores_refuse(varve_path: Path) -> None:
    with varve.open(varve_path) as db:
        db.snapshots.save("a", 1, 1)
        kept = db.snapshots
    with pytest.raises(varve.StoreClosed):
        kept.latest("a")
    with pytest.raises(varve.StoreClosed):
        kept.save("a", 1, 1)
    with varve.open(varve_path, readonly=True) as db:
        found = db.snapshots.latest("a")
        assert found is not None
        assert repr(db.snapshots).startswith("<Snapshots of")
        for call in (
            lambda: db.snapshots.save("a", 1, 1),
            lambda: db.snapshots.keep_last("a", 1),
            lambda: db.snapshots.delete("a"),
        ):
            with pytest.raises(varve.ReadonlyStore):
                call()


def test_other_processes_save_at_the_same_time(db: varve.Varve) -> None:
    script = """
import sys, varve
with varve.open(sys.argv[1], durability="relaxed") as db:
    for position in range(40):
        db.snapshots.save(sys.argv[2], position, [sys.argv[2]] * position, keep=3)
"""
    writers = [run(script, db.path, name) for name in ("a", "b")]
    while any(writer.poll() is None for writer in writers):
        for name in ("a", "b"):
            saved = db.snapshots.latest(name)
            assert saved is None or saved.state == [name] * saved.position
            db.snapshots.save("c", 1, 1)
    assert [writer.returncode for writer in writers] == [0, 0]
    assert {scope: positions(db, scope) for scope in ("a", "b")} == {"a": [37, 38, 39], "b": [37, 38, 39]}


def run(script: str, *args: object) -> subprocess.Popen[str]:
    """A script in an interpreter of its own."""
    environment = dict(os.environ, PYTHONPATH=os.pathsep.join((str(ROOT), str(HERE))))
    return subprocess.Popen([sys.executable, "-c", script, *map(str, args)], env=environment, text=True)


@pytest.mark.parametrize("step", ["made the folder", "made the file", "before the commit", "after the commit"])
def test_a_kill_leaves_the_old_or_the_new(varve_path: Path, step: str) -> None:
    with varve.open(varve_path) as db:
        db.stream("paid", Paid).append(1, Paid(1))
    if step.endswith("commit"):
        with varve.open(varve_path) as db:
            db.snapshots.save("a", 1, "old")
    process = run(
        """
import os, signal, sys, varve
from varve.engine import creation, files, keyvalues
def kill(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)
class Killing(keyvalues.Pairs):
    def end(self):
        kill()
if sys.argv[2] == "made the folder":
    creation.clear_unfinished = kill
elif sys.argv[2] == "made the file":
    keyvalues.KeyValues._open = kill
elif sys.argv[2] == "before the commit":
    keyvalues.Pairs = Killing
with varve.open(sys.argv[1]) as db:
    db.snapshots.save("a", 2, "new")
    kill()
""",
        varve_path,
        step,
    )
    assert process.wait(60) == -signal.SIGKILL
    with varve.open(varve_path) as db:
        saved = db.snapshots.latest("a")
        assert (saved and saved.state) == {"before the commit": "old", "after the commit": "new"}.get(step)
        db.snapshots.save("a", 3, "again")
        assert db.snapshots.latest("a") is not None


# -- what is of no use ----------------------------------------------------------------------------------------------------


def test_another_schema_is_passed_over(db: varve.Varve) -> None:
    db.snapshots.save("a", 1, "old", schema="1")
    db.snapshots.save("a", 2, "new", schema="2")
    found = {schema: db.snapshots.latest("a", schema=schema) for schema in ("", "1", "2", "3")}
    assert {schema: saved and saved.state for schema, saved in found.items()} == {
        "": None, "1": "old", "2": "new", "3": None
    }  # fmt: skip


def test_events_and_objects_come_back_where_their_classes_are_given(
    db: varve.Varve, caplog: pytest.LogCaptureFixture
) -> None:
    snapshots = db.snapshots.holding(Bought, Basket)
    snapshots.save("a", 1, "plain")
    snapshots.save("a", 2, Basket([Bought("x", 1, ["y"])]))
    saved = snapshots.latest("a")
    assert saved is not None
    assert saved.state == Basket([Bought("x", 1, ["y"])])
    with caplog.at_level(logging.WARNING, "varve"):
        older = db.snapshots.latest("a")
    assert older is not None
    assert (older.position, older.state) == (1, "plain")
    assert "the state of 'a' saved at 2 is passed over" in caplog.text
    assert "class was not given" in caplog.text


@contextlib.contextmanager
def raw(path: Path) -> Iterator[tuple[Any, Any]]:
    """A write transaction behind the library's back, and the sub-database of saved state."""
    env = lmdb.open(str(path / "snapshots"), max_dbs=2, map_size=1 << 30, lib_version=0)
    try:
        table = env.open_db(b"varve.snapshots", create=False)
        with env.begin(write=True) as transaction:
            yield transaction, table
    finally:
        env.close()


@pytest.mark.parametrize("place", ["head", "state", "length", "empty"])
@pytest.mark.parametrize("scope", ["a", ("n" * 255, "i" * 255)], ids=["short", "long"])
def test_a_damaged_one_is_passed_over_for_the_next_older(
    tmp_path: Path, place: str, scope: Any, caplog: pytest.LogCaptureFixture
) -> None:
    with varve.open(tmp_path) as db:
        for position in (1, 2, 3):
            db.snapshots.save(scope, position, position)
    with raw(tmp_path) as (transaction, table), transaction.cursor(table) as cursor:
        assert cursor.last()
        key, value = cursor.item()
        at = {"head": 20, "state": len(value) - 1}.get(place, 0)
        damaged = value[:at] + bytes((value[at] ^ 1,)) + value[at + 1 :]
        transaction.put(key, {"length": value[:-1], "empty": b""}.get(place, damaged), db=table)
    with varve.open(tmp_path) as db, caplog.at_level(logging.WARNING, "varve"):
        saved = db.snapshots.latest(scope)
        assert saved is not None
        assert (saved.position, saved.state) == (2, 2)
        assert "saved at 3 is passed over" in caplog.text
        assert positions(db, scope) == ([1, 2, 3] if place == "state" else [1, 2])
        assert db.snapshots.keep_last(scope, 2) == 1
        assert positions(db, scope) == ([2, 3] if place == "state" else [1, 2])


def test_a_damaged_log_fails_no_save(tmp_path: Path) -> None:
    """What was saved on the damaged block stays, as it may be all that is left; only reads that need the block pass it over."""
    path = tmp_path / "damaged"
    with varve.open(path, durability="relaxed") as db:
        baskets = db.stream("baskets", Bought)
        last = baskets.append_batch(1, [Bought(f"product {number}", 1) for number in range(2_000)])[-1]
        db.snapshots.save("totals", 2_000, "there")
        raw = bytes(db.global_reader().get(last.global_sequence).raw)  # type: ignore[union-attr]
        baskets.append_batch(1, [Bought(f"other {number}", 1) for number in range(2_000)])
    data = path / "data.mdb"
    content = bytearray(data.read_bytes())
    content[content.rindex(raw)] ^= 0xFF
    data.write_bytes(content)
    with varve.open(path, durability="relaxed") as db:
        assert db.snapshots.latest("totals") is None
        db.snapshots.save("totals", 4_000, "newer", keep=2)
        assert db.snapshots.keep_last("totals", 2) == 0
        assert positions(db, "totals") == [2_000, 4_000]


def test_a_file_that_cannot_be_read_is_passed_over_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with varve.open(tmp_path) as db:
        db.snapshots.save("a", 1, 1)
    (tmp_path / "snapshots" / "data.mdb").write_bytes(b"rubbish" * 5_000)
    with varve.open(tmp_path) as db, caplog.at_level(logging.WARNING, "varve"):
        assert db.snapshots.latest("a") is None
        assert "no saved state can be read" in caplog.text
        with pytest.raises(varve.IntegrityError):
            db.snapshots.save("a", 2, 2)
    shutil.rmtree(tmp_path / "snapshots")
    with varve.open(tmp_path) as db:
        db.snapshots.save("a", 2, 2)
        assert positions(db, "a") == [2]


def test_another_stores_is_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("one", "other"):
        with varve.open(tmp_path / name) as db:
            db.snapshots.save("a", 1, name)
    shutil.rmtree(tmp_path / "one" / "snapshots")
    shutil.copytree(tmp_path / "other" / "snapshots", tmp_path / "one" / "snapshots")
    with varve.open(tmp_path / "one") as db, caplog.at_level(logging.WARNING, "varve"):
        assert db.snapshots.latest("a") is None
        assert "another history" in caplog.text
        db.snapshots.save("a", 0, "own", keep=1)
        assert positions(db, "a") == [0]


def test_another_history_is_passed_over_for_ever(
    varve_path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with varve.open(varve_path) as db:
        paid = db.stream("paid", Paid)
        paid.append_batch(1, [Paid(1), Paid(2)])
        db.snapshots.save("sum", 2, 3)
    earlier = tmp_path / "data.mdb"
    shutil.copy(varve_path / "data.mdb", earlier)
    with varve.open(varve_path) as db:
        db.stream("paid", Paid).append(1, Paid(3))
        db.snapshots.save("sum", 3, 6)
        saved = db.snapshots.latest("sum")
        assert saved is not None
        assert saved.state == 6
    shutil.copy(earlier, varve_path / "data.mdb")  # the log goes back, saved states do not
    with varve.open(varve_path) as db:
        paid = db.stream("paid", Paid)
        for amount in (30, 300):
            saved = db.snapshots.latest("sum")
            assert saved is not None
            assert saved.position == 2
            assert "saved at 3 is passed over: it is of another history of the log" in caplog.text
            caplog.clear()
            paid.append(1, Paid(amount))
        db.snapshots.save("sum", 2, 3, keep=1)
        assert positions(db, "sum") == [2]


def test_history_where_the_end_was_archived_or_dropped(varve_path: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(varve.limits, "TAIL_BLOCK_BYTES_MAX", 480)
    monkeypatch.setattr(varve.limits, "BLOCK_BYTES_MAX", 480)
    monkeypatch.setattr(history, "_KNOWN_MAX", 2)
    with varve.open(varve_path) as db:
        paid = db.stream("paid", Paid)
        for number in range(40):
            paid.append(number % 2, Paid(number))
            db.snapshots.save("sum", number + 1, number)
        assert db.snapshots.at_or_before("sum", 0) is None
        paid.truncate_before(1, 20)
    compacted = tmp_path / "compacted"
    assert varve.ops.compact(varve_path, compacted).dropped == 20
    with varve.open(compacted) as db:
        for position in range(1, 41):
            found = db.snapshots.at_or_before("sum", position)
            assert found is not None
            assert found.position == position
        db.archive(20, tmp_path / "archive")
        assert db.first_global_sequence > 0
    with varve.open(compacted) as db:
        for position in (1, 10, 40):
            found = db.snapshots.at_or_before("sum", position)
            assert found is not None
            assert found.position == position
